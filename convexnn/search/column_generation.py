"""Column generation: the convex program over all activation patterns, listing only those that matter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import STOPS, Budget, OutOfTime, current
from convexnn.program.cells import Cells
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result, relative_gap, untouched
from convexnn.program.task import Task
from convexnn.search.descent import descend
from convexnn.search.fusion import fused
from convexnn.search.pricing import SPREAD, Effort, Peaks, no_peaks, search
from convexnn.threads import one_thread

# Rounds of solving and searching.
MAX_ROUNDS = 500
# Cells added in a round, for each sign and output.
MAX_NEW_CELLS = 200
# Below this share of alpha_max the first descent takes more neurons.
WIDE_BELOW = 0.02
# Above this gap neurons have far to go, and descent on the network takes them across many walls at once; until a round
# that began with it lowers the objective by no more than this share. Nor near the end of a rough fit, at thirty times
# its tolerance: the descent brings cells by the hundred.
FAR, FUTILE = 1e-3, 1e-5
# Most climbs that end above alpha begin within a per cent or two of it.
QUICK = Effort(n_random=50, n_moved=0, n_generations=1, climb_from=0.985)
# A thorough search: fresh random starts, 50 a feature but within these limits; generations, two a feature.
STARTS, GENERATIONS = (1000, 2000), (10, 20)
THOROUGH = Effort(n_random=1000, n_moved=100, n_generations=10, climb_from=0.95)
# And where peaks are known from another alpha.
THOROUGH_ALONG = Effort(n_random=100, n_moved=20, n_generations=4, climb_from=0.95)
# A search for alpha_max.
FIRST = Effort(n_random=100, n_moved=30, n_generations=2)
# A thorough search follows at once where a quick one has found fewer cells than this share of those that are listed:
# most that later rounds find are there already, and a round costs more.
FEW = 0.1
# Where the cells of the last thorough search have lowered the objective by less than this share of tol, a quick search
# ends a fit on a path, where the next alpha is searched anyway. (Concrete at 0.001 alpha_max: of thirty such rounds two
# were followed by one that lowered it by more; all that are left out lower it by about 0.6 tol.)
LITTLE = 0.1
# What part of a time limit a search for alpha_max may take: without networks it is of no use.
SEARCH_SHARE = 0.2
# Free biases are searched for as the weights of a column this many times as long as the rows of the data.
BIAS_COLUMN = 10.0


@dataclass(frozen=True)
class Search:
    """What a search over all patterns looked at and found; it proves nothing about what it did not look at.

    Attributes
    ----------
    n_starts : int
        Starting points of climbs, and cells, of the last search.
    price : float
        Largest price found, in units of alpha; at most 1 where no neuron was found that would improve the network.
    gap : float
        Relative gap to the lower bound that would hold if no price were larger than the largest found.
    n_rounds : int
        Rounds of listing and solving.
    alpha_max : float
        Largest price found at the best constant prediction: from this alpha on there are no neurons.
    peaks : Peaks
        Where the price is high and neurons are, to start from at another alpha.
    """

    n_starts: int
    price: float
    gap: float
    n_rounds: int
    alpha_max: float
    peaks: Peaks = field(compare=False, repr=False)


# Products are small here: threads that wait for each other cost up to ten times what they save.
@one_thread()
def solve_adaptively(
    task: Task,
    alpha: float,
    solver,
    start: Cells | None = None,
    random_state: np.random.Generator | None = None,
    callback: Callable[[dict], object] | None = None,
    alpha_max: float | None = None,
    remembered: Peaks | None = None,
) -> tuple[Problem, Result, Search]:
    """Optimum of the program over all patterns, as far as a thorough search can tell.

    Starts from a short local descent on the network (or from given blocks), then repeats: solve the program over the
    listed cells, drop zero blocks, search all patterns for prices above alpha, list the cells found. The accuracy of
    the inner solves follows the gap. It stops when thorough searches (from every current neuron, from remembered maxima
    and from 1,000 to 2,000 fresh random starts) leave a gap of at most ``solver.tol``; neurons near each other are then
    fused, and the program over their cells is solved further where their own residuals do not prove that gap. Where
    maxima of another alpha are given thorough searches have 100 fresh starts, and once what they find lowers the
    objective by less than a tenth of tol, a quick search with 50 is enough.

    Parameters
    ----------
    task : Task
        The training problem, of neurons without gates.
    alpha : float
        Loss per unit of block norm.
    solver : Fista, Newton or CvxpySolver
        Solves the programs over the listed cells; its tol and max_time are those of the whole.
    start : Cells, optional
        Start from these neurons instead of a local descent.
    random_state : numpy Generator, optional
        Source of random starts.
    callback : callable, optional
        Called with an entry of the history after each round.
    alpha_max : float, optional
        Known from a search at the best constant prediction, which is then left out.
    remembered : Peaks, optional
        Those of the searches for a larger alpha, to start from. Thorough searches then need fewer fresh starts.

    Returns
    -------
    problem : Problem
        Over the cells listed in the best round, and those of fused neurons.
    result : Result
        Its solution; ``history`` has two entries a round: after solving, and after searching.
    search : Search
        What the search behind the best bound found.

    References
    ----------
    .. [1] F. Bach, Breaking the curse of dimensionality with convex neural networks, JMLR 18 (2017), section 2.5
       (incremental addition of neurons).
    """
    with Budget(solver.max_time) as budget:
        run = _Run(task, alpha, solver, budget, random_state, callback, remembered)
        try:
            run.begin(start, alpha_max)
            while not run.status:
                run.round()
        except STOPS as stop:
            run.status = budget.stop(stop)
        run.keep_best()
        try:
            run.fuse()
            run.close_in()
        except STOPS as stop:
            run.status = budget.stop(stop) if isinstance(stop, KeyboardInterrupt) else run.status
        return run.conclusion()


class _Run:
    """One column generation: what is listed, the best network and the best bound so far, what searches have seen.

    ``status`` says how it ended, and is empty until it has.
    """

    def __init__(self, task, alpha, solver, budget, random_state, callback, remembered):
        self.task, self.alpha, self.solver = task, alpha, solver
        self.budget, self.callback, self.start = budget, callback, perf_counter()
        self.rng = np.random.default_rng(0) if random_state is None else random_state
        self.none = Cells.none(task.rows)
        # What is listed now, and what the solver last started from: a network too.
        self.cells, self.begun = self.none, self.none
        # The best network so far, at first the one without neurons.
        self.problem = self.program(self.none)
        self.result = untouched(self.problem, "max_iter")
        self.lower, self.anchor = -np.inf, task.null_model[1]
        self.along = remembered is not None
        self.peaks = no_peaks(task.rows) if remembered is None else remembered
        # The last dual point that was searched, what was found there, and the price up to which all was seen.
        self.searched: tuple[NDArray | None, Peaks, float] = (None, self.peaks, np.inf)
        self.seen = Search(0, np.inf, np.inf, 0, np.nan, self.peaks)
        self.drop, self.looked_twice = np.inf, False
        self.status, self.inner_tol, self.n_iter = "", 1e-3, 0
        self.history: list[dict] = []

    @cached_property
    def thorough(self) -> list[Effort]:
        """Searches that must find nothing before a fit ends."""
        if self.along:
            return [THOROUGH_ALONG]
        # Peaks are the more, and the smaller, the more features there are.
        d = self.task.rows.shape[1]
        starts, generations = int(np.clip(50 * d, *STARTS)), int(np.clip(2 * d, *GENERATIONS))
        # Small basins are missed as often as not: what one thorough search did not find another may.
        return 2 * [replace(THOROUGH, n_random=starts, n_generations=generations)]

    def program(self, cells: Cells) -> Problem:
        return Problem.over(self.task, cells, self.alpha)

    def within(self, tol: float):
        """The solver with a tolerance, and with what is left of the limits."""
        most = None if self.solver.max_iter is None else self.solver.max_iter - self.n_iter
        return replace(self.solver, tol=tol, max_iter=most, max_time=self.budget.left, callback=None)

    def record(self, gap: float) -> None:
        n_blocks = int(np.count_nonzero(self.result.coef.any(axis=1)))
        entry = dict(iteration=self.n_iter, seconds=perf_counter() - self.start, objective=self.result.primal)
        self.history.append(entry | dict(relative_gap=gap, blocks=n_blocks))
        if self.callback is not None:
            self.callback(self.history[-1])

    def price(self, theta: NDArray, neurons: Cells, effort: Effort) -> tuple[float, int, Cells]:
        """The largest price found, the number of starts, and the cells above alpha that are to be listed."""
        alpha, own_norm = self.alpha, not self.task.neuron.free_bias
        # With free biases what a search returns is not what it compared.
        if own_norm and theta is self.searched[0]:
            known, settled = self.searched[1:]
        else:
            neurons, settled = neurons.take(neurons.alive), np.inf
            dual = 2 * neurons.output + (neurons.sign < 0)
            directions = neurons.V * (alpha / np.linalg.norm(neurons.V, axis=1, keepdims=True))
            known = self.peaks.join(Peaks(neurons.patterns, directions, np.full(neurons.V.shape, -1), dual))
        floor = effort.climb_from * alpha if own_norm else -np.inf
        found, prices, V, looked = find(self.task, theta, known, effort, self.rng, floor=floor, settled=settled)
        self.searched = (theta, found, min(floor, settled))
        self.peaks = found.take(found.apart(effort.n_moved, SPREAD[1:4]))
        above = np.flatnonzero(prices > alpha * (1 + 0.1 * self.solver.tol))
        above = above[found.take(above).apart(MAX_NEW_CELLS, SPREAD)]
        output, negative = np.divmod(found.dual[above], 2)
        new = Cells(found.patterns[above], 1.0 - 2.0 * negative, output, V[above] / prices[above, None])
        return float(prices.max(initial=0.0)), looked, new.turned(self.task.rows, self.task.neuron)

    def begin(self, start: Cells | None, alpha_max: float | None) -> None:
        """List the first cells: those of a start, else of a search at the best constant and of a local descent."""
        self.cells, new = self.none if start is None else start, self.none
        if alpha_max is None:
            # A limit that ends the search leaves what can be had for nothing.
            alpha_max = least_alpha_max(self.task)
            self.seen = replace(self.seen, alpha_max=alpha_max)
            with suppress(OutOfTime), self.budget.part(SEARCH_SHARE):
                alpha_max, _, new = self.price(self.anchor, self.none, FIRST)
        self.seen = replace(self.seen, alpha_max=alpha_max)
        if self.alpha >= alpha_max:
            self.cells = self.none
        elif start is None:
            self.cells = new.weightless()
            if self.task.smooth:
                # Small alphas keep many neurons, and local descent from few ends percents above the optimum.
                width = int(np.clip(WIDE_BELOW * alpha_max / self.alpha, 1, 6) * 50)
                moved = descend(self.task, self.alpha, self.rng, n_neurons=width, max_iter=2 * width)
                self.cells = self.cells.join(moved)

    def round(self) -> None:
        """Solve over what is listed, search for cells that are missing, list them; or end."""
        theta = self.solve_listed()
        if self.status:
            return
        gap, new = self.look(theta)
        if self.budget.over:
            self.status = self.budget.status
        elif gap <= self.solver.tol or self.result.primal <= self.task.negligible:
            self.status = "optimal"
        elif self.seen.n_rounds >= MAX_ROUNDS or self.n_iter >= (self.solver.max_iter or np.inf):
            self.status = "max_iter"
        else:
            self.extend(gap, new)

    def solve_listed(self) -> NDArray:
        """The dual point of the program over what is listed; the network is kept where it is the best so far."""
        problem, self.begun = self.program(self.cells), self.cells
        result = self.within(self.inner_tol).solve(problem, self.cells.V)
        self.n_iter += result.n_iter
        self.drop = 1 - result.primal / self.result.primal if self.history else np.inf
        if result.primal <= self.result.primal or not self.history:
            self.problem, self.result = problem, result
        self.record(relative_gap(self.result.primal, self.lower))
        listed = replace(self.cells, V=result.coef)
        self.cells = listed.merged()
        if self.drop <= 1e-6 and not self.task.smooth:
            # theta is not unique there: cells that it once violated restrain it only while they are listed.
            self.cells = self.cells.join(listed.weightless())
        if result.status in ("interrupted", "time_limit", "failed"):
            self.status = result.status
        return result.theta

    def look(self, own: NDArray) -> tuple[float, Cells]:
        """The gap that searches suggest, at a solution's own dual point or the best one, and cells that are missing.

        A bound that a quick search suggests is looked at again, thoroughly, before it ends the fit, and so is a point
        at which it found little; along a path not where that was just done and hardly paid.
        """
        tol, gap, new = self.solver.tol, np.inf, self.none
        few = min(MAX_NEW_CELLS, 20 + len(self.cells.sign))
        seen_enough = self.looked_twice and self.along and self.drop < LITTLE * tol
        self.looked_twice = False
        for effort in [QUICK, *self.thorough]:
            theta = self.anchor if gap <= tol else own
            effort = replace(effort, n_moved=max(few, effort.n_moved))
            largest, looked, new = self.price(theta, self.cells, effort)
            bound = self.task.dual_value(theta * (self.alpha / max(self.alpha, largest)))
            if bound > self.lower or theta is self.anchor:
                self.lower, self.anchor = bound, theta
                self.seen = replace(self.seen, n_starts=looked, price=largest / self.alpha)
            gap = relative_gap(self.result.primal, self.lower)
            if gap <= tol:
                if seen_enough and theta is self.anchor:
                    break
            elif len(new.sign) >= FEW * len(self.cells.sign):
                break
            self.looked_twice = True
        self.seen = replace(self.seen, gap=gap, n_rounds=self.seen.n_rounds + 1)
        self.record(gap)
        return gap, new

    def extend(self, gap: float, new: Cells) -> None:
        """List new cells, and those that a local descent from them crosses to; ask for more of the next solve."""
        tol, before = self.solver.tol, len(self.cells.sign)
        self.cells = self.cells.join(new.weightless())
        if gap > max(FAR, 30 * tol) and self.drop > FUTILE and self.task.smooth:
            heaviest = np.linalg.norm(self.cells.V, axis=1).max(initial=0.0)
            seed = self.cells.join(replace(new, V=new.V * 0.3 * heaviest))
            self.cells = self.cells.weightless().join(descend(self.task, self.alpha, self.rng, seed))
        self.inner_tol = min(self.inner_tol, max(0.1 * gap, 0.2 * tol))
        if len(self.cells.sign) == before:
            self.inner_tol *= 0.1
            if self.inner_tol < 1e-3 * tol:
                self.status = "almost_optimal"

    def keep_best(self) -> None:
        """Where the fit was cut short, what its last start or the constant reaches may be better than a solution."""
        if self.history and self.status not in ("time_limit", "interrupted"):
            return
        with self.budget.conclusion():
            bare = self.program(self.none)
            candidates = [(self.problem, self.result), (bare, untouched(bare, self.status))]
            for listed in (self.begun, self.cells):
                with suppress(OutOfTime):
                    candidates.append(_as_it_is(self.program(listed), listed.V, self.status))
            self.problem, self.result = min(candidates, key=lambda pair: pair[1].primal)

    def fuse(self) -> None:
        """Make one neuron of those near each other, until there are none."""
        while True:
            design, result = self.problem.design, self.result
            listed = Cells.of_solution(design, result.coef)
            cells = fused(self.problem, listed, result.intercept)
            if len(cells.sign) == len(listed.sign):
                return
            zero = np.zeros(design.shape)
            cells = Cells(design.patterns[design.pattern], design.sign, design.output, zero).join(cells)
            wider = self.program(cells)
            # Fewer neurons have another best intercept, with which more may become one.
            c = self.task.best_intercept(wider.design @ cells.V, result.intercept)
            primal = wider.objective(cells.V, c)
            # Neurons that are one change the objective by rounding.
            if primal > result.primal * (1 + 1e-12):
                return
            dual, theta = wider.dual_bound(result.theta)
            primal = min(primal, result.primal)
            self.problem = wider
            self.result = replace(result, coef=cells.V, intercept=c, theta=theta, primal=primal, dual=dual)

    def close_in(self) -> None:
        """Solve on over the cells of the neurons until their own residuals prove the gap.

        Another dual variable may have proved it. That of the weights can be far from it where features are nearly
        dependent: at it the neurons themselves would have prices above alpha, as if one were missing.
        """
        task, tol = self.task, self.solver.tol
        k = np.flatnonzero(self.result.coef.any(axis=1))
        part = self.program(Cells.of_solution(self.problem.design, self.result.coef))
        for share in (0.1, 0.01, 0.001) if task.smooth and self.status == "optimal" else ():
            z = part.design @ self.result.coef[k] + self.result.intercept
            near = relative_gap(self.result.primal, part.dual_bound(-task.gradient(z))[0]) <= tol
            if near or self.n_iter == self.solver.max_iter or self.budget.over:
                return
            closer = self.within(share * tol).solve(part, self.result.coef[k])
            self.n_iter += closer.n_iter
            if closer.primal <= self.result.primal:
                coef = np.zeros_like(self.result.coef)
                coef[k] = closer.coef
                dual, theta = self.problem.dual_bound(closer.theta)
                self.result = replace(closer, coef=coef, theta=theta, dual=dual)
            if closer.status == "interrupted":
                self.status = "interrupted"
                return

    def conclusion(self) -> tuple[Problem, Result, Search]:
        """What is returned: the best bound may stem from a later round than the best network."""
        problem, result, cut = self.problem, self.result, self.status in ("time_limit", "interrupted")
        with self.budget.conclusion(), suppress(OutOfTime):
            dual, theta = problem.dual_bound(self.anchor)
            # Without a search the program that lists no neurons says nothing.
            if dual > result.dual and (len(problem.design.pattern) or not cut):
                result = replace(result, dual=dual, theta=theta)
        result = replace(result, status=self.status, message=STATUSES[self.status])
        result = replace(result, n_iter=self.n_iter, history=self.history)
        return problem, result, replace(self.seen, peaks=self.peaks)


def _as_it_is(problem: Problem, V: NDArray, status: str) -> tuple[Problem, Result]:
    """A program and coefficients that nothing has improved, with the bound of zero."""
    nothing, c = untouched(problem, status), problem.task.best_intercept(problem.design @ V)
    return problem, replace(nothing, coef=V, intercept=c, primal=problem.objective(V, c))


def signed(theta: NDArray) -> NDArray:
    """The dual variables with which neurons are priced, those of an output and a sign in column 2 output + (sign < 0).

    Parameters
    ----------
    theta : array of shape (n_samples, n_outputs) or (n_samples,)
        A dual point.

    Returns
    -------
    T : array of shape (n_samples, 2 * n_outputs)

    Examples
    --------
    >>> import numpy as np
    >>> signed(np.array([1.0, -2.0]))
    array([[ 1., -1.],
           [-2.,  2.]])
    """
    return (theta.reshape(len(theta), -1, 1) * np.array([1.0, -1.0])).reshape(len(theta), -1)


def least_alpha_max(task: Task) -> float:
    """The largest price among the gradients at zero, a lower bound of alpha_max that takes two passes over the data.

    Parameters
    ----------
    task : Task
        The training problem.

    Returns
    -------
    least : float
    """
    T = signed(task.null_model[1])
    pull = T.T @ task.rows
    if task.neuron.free_bias:
        pull[:, -1] = 0.0
    prices = np.einsum("nk,nk->k", task.neuron.activation(task.rows @ pull.T), T)
    return float((prices / np.maximum(task.neuron.norms(pull), 1e-300)).max(initial=0.0))


def search_alpha_max(task: Task, random_state: np.random.Generator, n_random: int = 100) -> float:
    """Largest price found over all patterns at the best constant prediction: a lower bound of the true alpha_max.

    Parameters
    ----------
    task : Task
        The training problem, of neurons without gates.
    random_state : numpy Generator
        Source of random starts.
    n_random : int, default=100
        Random starts for each sign and output.

    Returns
    -------
    alpha_max : float
    """
    theta = task.null_model[1]
    try:
        with current().part(SEARCH_SHARE):
            found = find(task, theta, no_peaks(task.rows), replace(FIRST, n_random=n_random), random_state)
            price = float(found[1].max(initial=0.0))
    except OutOfTime:
        price = least_alpha_max(task)
    return price if price > task.price_rounding(theta) else 0.0


def find(
    task: Task, theta: NDArray, known: Peaks, effort: Effort, rng: np.random.Generator, **options
) -> tuple[Peaks, NDArray, NDArray, int]:
    """Peaks of a search at theta, their prices in the norm of the neurons, vectors with these prices as norms, and the
    starts of the search.

    Options are those of ``search``. With free biases that runs with a long ones column, in whose norm biases hardly
    count; the cells that it finds are then priced exactly.
    """
    neuron, activation = task.neuron, task.neuron.activation
    X, T = task.rows, signed(activation.kink * theta)
    looks = effort.n_random, effort.n_moved, effort.n_generations, rng
    options |= dict(lift=activation.lift)
    if not neuron.free_bias:
        peaks, n_starts = search(X, T, known, *looks, feature_penalty=neuron.feature_penalty, **options)
        return peaks, peaks.prices, peaks.V, n_starts
    scale = np.ones(X.shape[1])
    scale[-1] = BIAS_COLUMN * np.sqrt(np.mean(np.sum(X[:, :-1] ** 2, axis=1))) or 1.0
    peaks, n_starts = search(X * scale, T, replace(known, V=known.V / scale), *looks, **options)
    peaks = peaks.take(peaks.apart(2 * MAX_NEW_CELLS, SPREAD))
    cones = neuron.penalty(X, peaks.patterns, np.arange(len(peaks.V)))
    V = cones.maximisers(((peaks.patterns + activation.lift) * T.T[peaks.dual]) @ X)
    prices, found = np.linalg.norm(V[:, :-1], axis=1), peaks.V * scale
    peaks = replace(peaks, V=found * (prices / np.linalg.norm(found, axis=1))[:, None])
    keep = prices > 0
    return peaks.take(keep), prices[keep], V[keep], n_starts
