"""Engine: the training of a problem from data to graded networks, without scikit-learn.

A fit makes, from a task, in this order: an arrangement or cells (which activation patterns), a problem (the convex
program over them), a result (its solution) and a network, and then grades the network with a certificate. For a
sequence of weight decays each fit starts from the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from convexnn.arrangements import Arrangement, patterns_of
from convexnn.budget import STOPS, Budget, OutOfTime, current
from convexnn.fits import Fit, Prepared, Sample, best_network, solve_without
from convexnn.listing import Listing
from convexnn.network import Network
from convexnn.program.cells import Cells
from convexnn.program.conversion import coef_of, find_patterns
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result, relative_gap, untouched
from convexnn.program.task import Task
from convexnn.proofs.certificate import Certificate
from convexnn.proofs.graded import Graded
from convexnn.proofs.prove import certify_listed, is_quick, prove, proved
from convexnn.search.column_generation import least_alpha_max, search_alpha_max, solve_adaptively
from convexnn.search.pricing import no_peaks

#: certify="auto" looks at this many cones for each output and sign: a second or so.
AUTO_CONES = 5_000
#: alpha="auto" is this share of alpha_max; docs/alpha.md has the table of test errors it was chosen by.
AUTO_ALPHA = 0.01
#: Blocks are left out of a fit on a path if no more than this share of them remains.
WORTH_SCREENING = 0.7
#: Share of a time limit that a fit leaves to the proof that was asked for.
PROOF_SHARE = 0.4


@dataclass(frozen=True)
class Proving:
    """How much is proved beyond the listed patterns.

    Attributes
    ----------
    max_cones : int or None
        Cones that branch and bound looks at. A number of cones, unlike a time, gives the same bound on every machine.
    insist : bool
        Whether it is tried however long it takes, and refused where there is no way; otherwise only where it is quick.
    """

    max_cones: int | None
    insist: bool


#: What the option ``certify`` can be.
PROVING = {"auto": Proving(AUTO_CONES, insist=False), True: Proving(None, insist=True), False: None}


@dataclass(frozen=True, eq=False)
class Settings:
    """How fits are made: everything but the training problem.

    Attributes
    ----------
    alpha : float or None
        Weight decay of a single fit; None for a share of alpha_max.
    listing : Listing
        Which patterns are listed.
    solver : type
        A class of SOLVERS.
    tol, max_iter, max_time
        As in the estimators.
    proving : Proving or None
        What is proved over all patterns.
    seed : int
        Of random gates and searches.
    start : Network or None
        Where to start from.
    watch : callable or None
        Called with the unit of the objective, returns what is told of a fit while it runs (``Progress``).
    """

    alpha: float | None
    listing: Listing
    solver: Any
    tol: float
    max_iter: int
    max_time: float | None
    proving: Proving | None
    seed: int = 0
    start: Network | None = None
    watch: Callable[[float], Any] | None = None


class Training:
    """The fits of a training problem, one for each of a decreasing sequence of alphas.

    An iterator: ``next`` makes a fit. Where there is not even time for the first, it is the network without neurons.
    Fits end early when ``max_time`` is over, and after one that was interrupted. Between two fits ``settings`` may be
    replaced.

    Parameters
    ----------
    sample : Sample
        The data.
    task : Task
        The training problem of the samples of positive weight.
    settings : Settings
        How fits are made.
    alphas : callable, optional
        The sequence as a function of alpha_max; without it there is one fit, for the alpha of the settings.
    """

    def __init__(
        self,
        sample: Sample,
        task: Task,
        settings: Settings,
        alphas: Callable[[float], Sequence[float]] | None = None,
    ):
        self.sample, self.task, self.settings, self.alphas = sample, task, settings, alphas
        self.fits, self.ended = self._fits(), False
        self.fit: Fit | None = None

    @cached_property
    def data(self) -> Prepared:
        """The training problem as solvers see it; the clock starts with it."""
        return Prepared.of(self.sample, self.task, perf_counter())

    @cached_property
    def budget(self) -> Budget:
        """The time of all fits."""
        return Budget(self.settings.max_time)

    def __iter__(self) -> Iterator[Fit]:
        return self

    def __next__(self) -> Fit:
        if self.ended:
            raise StopIteration
        following = progress = None
        try:
            # What leaves the range of numbers is judged by what comes of it, which must be finite.
            with self.budget, np.errstate(all="ignore"):
                following, progress = next(self.fits)
                fit = self._for_every_row(following)
        except (*STOPS, np.linalg.LinAlgError) as stop:
            status = "failed" if isinstance(stop, np.linalg.LinAlgError) else self.budget.stop(stop)
            self.ended = True
            if following is None and self.fit is not None:
                raise StopIteration from None
            with Budget.without_limit(), np.errstate(all="ignore"):
                following = following or self._without_neurons(status)
                result = replace(following.result, status=status, message=STATUSES[status])
                fit = self._for_every_row(replace(following, result=result))
        if progress is not None:
            progress.close(fit)
        self.fit = fit
        return fit

    def close(self) -> None:
        """End the sequence."""
        self.fits.close()
        self.ended = True

    def _fits(self) -> Generator[tuple[Fit, Any]]:
        """Fits over listed patterns or over all, each with its progress line, on distinct rows."""
        settings, data = self.settings, self.data
        listed = settings.listing.of(data, settings.solver, settings.seed)
        yield from self._searched() if listed is None else self._listed(listed)

    def _listed(self, arrangement: Arrangement) -> Iterator[tuple[Fit, Any]]:
        """Fits over a fixed list of patterns."""
        data, units, previous = self.data, self.data.units, self.settings.start
        neuron = data.task.neuron
        if previous is not None:
            found = find_patterns(previous, data.task.rows, arrangement.patterns.T, neuron)
            if np.any(found < 0):
                unlisted = previous.select(found < 0)
                arrangement = arrangement.union(patterns_of(unlisted, data.task.X, hidden_bias=neuron.hidden_bias))
        problem = Problem.listing(data.normal, arrangement.patterns.T, 1.0)
        alpha_max, even = units.alpha * problem.alpha_max, replace(problem, task=data.unweighted)
        coef = None if previous is None else coef_of(units.neurons(previous), problem)
        before: tuple[float, Result] | None = None
        for alpha in self._alphas(alpha_max, lambda: even.alpha_max):
            problem = replace(problem, alpha=float(f"{units.level(alpha):.12g}"))
            keep = np.full(len(problem.design.pattern), alpha < alpha_max)
            if before is not None and keep.any():
                coef, keep = before[1].coef, self._unscreened(problem, *before, keep)
            solver, progress = self._solver()
            result = solve_without(problem, replace(solver, callback=progress), coef, keep)
            graded, certificate, result = self._conclude(problem, result, alpha, arrangement)
            yield Fit(alpha, alpha_max, graded.network, units.result(result), certificate, arrangement), progress
            if self._is_over(result):
                return
            before = (problem.alpha, result)

    def _unscreened(self, problem: Problem, alpha_before: float, result: Result, keep):
        """Blocks that the solution for a larger alpha does not exclude, where leaving out the others is worth it."""
        theta = min(1.0, problem.alpha / alpha_before) * result.theta
        with suppress(OutOfTime):
            # Without a lower bound theta need not be feasible.
            dual = self.data.normal.dual_value(theta) if np.isfinite(result.dual) else -np.inf
            gap = problem.objective(result.coef, result.intercept) - dual
            active = problem.may_be_active(theta, max(gap, 0.0))
            keep = active if active.mean() <= WORTH_SCREENING else keep
        return keep

    def _searched(self) -> Iterator[tuple[Fit, Any]]:
        """Fits over all patterns: cells are listed as a search finds them."""
        data, units, task, previous = self.data, self.data.units, self.data.normal, self.settings.start
        rng = np.random.default_rng(self.settings.seed)
        cells = None if previous is None else Cells.of_network(units.neurons(previous), task.rows, task.neuron)
        alpha_max, remembered, on_path = None, None, self.alphas is not None
        if on_path:
            alpha_max, remembered = search_alpha_max(task, rng, n_random=1000), no_peaks(task.rows)
        largest = np.nan if alpha_max is None else units.alpha * alpha_max
        for alpha in self._alphas(largest, lambda: search_alpha_max(data.unweighted, rng)):
            solver, progress = self._solver()
            normal_alpha = float(f"{units.level(alpha):.12g}")
            problem, result, found = solve_adaptively(
                task, normal_alpha, solver, cells, rng, progress, alpha_max, remembered
            )
            remembered = found.peaks
            graded, certificate, result = self._conclude(problem, result, alpha)
            # The gap of the network itself to the bound that the search suggests.
            bound = units.factor * result.primal * (1 - found.gap) if np.isfinite(found.gap) else -np.inf
            gap = relative_gap(graded.objective, bound) if graded.objective - bound > graded.negligible else 0.0
            searched = dict(n_searched=found.n_starts, price_found=found.price, gap_found=gap)
            with Budget.without_limit():
                arrangement = patterns_of(graded.network, data.task.X, hidden_bias=task.neuron.hidden_bias)
            cells, alpha_found = Cells.of_solution(problem.design, result.coef), units.alpha * found.alpha_max
            certificate, result_ = replace(certificate, **searched), units.result(result)
            yield Fit(alpha, alpha_found, graded.network, result_, certificate, arrangement), progress
            if self._is_over(result):
                return

    def _alphas(self, alpha_max: float, even: Callable[[], float]) -> Iterator[float]:
        """The alphas of the fits; ``even`` is the alpha_max without class weights.

        A share of alpha_max is that of the network without skip connection: what noise there is does not depend on the
        linear term. Class weights enter by their mean only: the alpha_max of a lopsided weighting says nothing about
        noise. Ten digits keep the rounding errors of alpha_max, which depend on the order of the rows, out of the fit.
        A constant target needs no neuron whatever alpha is.
        """
        if self.alphas is not None:
            yield from map(float, self.alphas(alpha_max))
        elif self.settings.alpha is not None:
            yield self.settings.alpha
        else:
            share = AUTO_ALPHA * self.data.task.sample_weight.sum() / self.data.even.sum()
            yield self.data.units.alpha * (float(f"{share * even():.10g}") or 1.0)

    def _solver(self) -> tuple[Any, Any]:
        """The solver with what is left of the time, and the progress line."""
        settings, left = self.settings, self.settings.max_time
        if left is not None:
            share = 1.0 - PROOF_SHARE if settings.proving is not None and settings.proving.insist else 1.0
            left = max(share * left - (perf_counter() - self.data.start), 0.0)
        progress = None if settings.watch is None else settings.watch(self.data.units.factor)
        return settings.solver(tol=settings.tol, max_iter=settings.max_iter, max_time=left), progress

    def _is_over(self, result: Result) -> bool:
        """Whether an interrupt or the time limit ends a path."""
        limit = self.settings.max_time
        late = limit is not None and perf_counter() - self.data.start >= limit
        return late or result.status == "interrupted"

    def _conclude(self, problem: Problem, result: Result, alpha: float, arrangement: Arrangement | None = None):
        """The network merged and pruned, its certificate, and the result; each as far as there is time for it."""
        budget, data = current(), self.data

        def ended(stop):
            status = budget.stop(stop) if isinstance(stop, KeyboardInterrupt) else result.status
            return result if status == result.status else replace(result, status=status, message=STATUSES[status])

        try:
            with budget.conclusion():
                graded = best_network(problem, result, data, alpha, arrangement)
        except STOPS as stop:
            result, graded = ended(stop), best_network(problem, result, data, alpha, arrangement, tidy=False)
        try:
            with budget.conclusion():
                certificate = certify_listed(graded, problem.design, result.theta, arrangement)
        except STOPS as stop:
            result = ended(stop)
            certificate = proved(graded, np.zeros_like(result.theta), (), "nothing")
        return graded, certificate, result

    def _for_every_row(self, fit: Fit) -> Fit:
        """A fit on distinct rows as one on all of them, and its proof if that is wanted."""
        data, result, certificate = self.data, fit.result, fit.certificate
        group = data.group
        share = (data.whole.sample_weight / data.task.sample_weight[group]).reshape(
            (-1,) + (1,) * (result.theta.ndim - 1)
        )
        intercept = np.asarray(result.intercept)[group] if data.task.skip is not None else result.intercept
        if result.status == "optimal" and certificate.stated_gap > self.settings.tol * (1 + 1e-3):
            result = replace(result, status="stalled", message=STATUSES["stalled"])
        if result.status == "optimal" and fit.alpha_max == 0:
            result = replace(result, message="no neuron lowers the objective: nothing but rounding is left to explain")
        certificate = replace(certificate, theta=share * certificate.theta[group])
        if result.status != "interrupted":
            graded = Graded.of(fit.network, data.whole, fit.alpha, data.units)
            certificate = self._prove(graded, certificate.restated(graded), result.coef)
        result = replace(result, theta=share * result.theta[group], intercept=intercept)
        arrangement = fit.arrangement.rows(group, data.whole.rows)
        return replace(fit, result=result, certificate=certificate, arrangement=arrangement)

    def _without_neurons(self, status: str) -> Fit:
        """The fit that takes no time: no neurons, no statement on others, and a guess at alpha_max from below."""
        data, units = self.data, self.data.units
        arrangement = Arrangement.from_gates(data.task.rows, np.zeros((data.task.rows.shape[1], 0)))
        alpha_max = units.alpha * least_alpha_max(data.normal)
        alpha = next(self._alphas(alpha_max, lambda: least_alpha_max(data.unweighted)))
        problem = Problem.bare(data.normal, units.level(alpha))
        result = untouched(problem, status)
        graded = best_network(problem, result, data, alpha, arrangement)
        certificate = proved(graded, result.theta, (), "nothing")
        return Fit(alpha, alpha_max, graded.network, units.result(result), certificate, arrangement)

    def _prove(self, graded: Graded, certificate: Certificate, coef) -> Certificate:
        """The certificate with a bound over all networks instead, when that is wanted and there is time for it."""
        proving, settings = self.settings.proving, self.settings
        if proving is None or certificate.scope == "global":
            return certificate
        if not graded.task.neuron.activation.cones:
            if proving.insist:
                raise ValueError(
                    "certify=True needs patterns='exact' for activation='gated_relu': of gates only a complete list "
                    "proves anything."
                )
            return certificate
        spent = perf_counter() - self.data.start
        left = 60.0 if settings.max_time is None else settings.max_time - spent
        if left <= 0 or not (proving.insist or certificate.n_searched):
            return certificate
        known = None if graded.task.neuron.free_bias else coef[coef.any(axis=1)]
        theta = certificate.theta / graded.units.theta
        try:
            if not (proving.insist or is_quick(graded.normal.task.rows)):
                return certificate
            proof = prove(graded, theta, max_time=left, max_cones=proving.max_cones, known=known)
        except STOPS as stop:
            current().stop(stop)
            return certificate
        found = proved(graded, *proof, certificate.n_searched, certificate.price_found)
        return replace(found, gap_found=certificate.gap_found) if found.scope == "global" else certificate
