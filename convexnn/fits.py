"""Fits: a training problem as solvers see it, and the network and certificate that they leave, without scikit-learn."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.arrangements import Arrangement, count_patterns, rank_of
from convexnn.budget import OutOfTime, affordable, current
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.program.conversion import network_of
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result
from convexnn.program.task import Task
from convexnn.program.units import Units, without_dust
from convexnn.proofs.certificate import Certificate
from convexnn.proofs.graded import Graded


@dataclass(frozen=True, eq=False)
class Fit:
    """A network and all that is known of it, for one weight decay.

    Attributes
    ----------
    alpha, alpha_max : float
        Weight decay; smallest weight decay without neurons, over the listed or the searched patterns.
    network : Network
        Merged and pruned.
    result : Result
        Solution of the convex program, with the solver's history.
    certificate : Certificate
        Grade of ``network``.
    arrangement : Arrangement
        The patterns that were listed; those of the network after a search over all.
    """

    alpha: float
    alpha_max: float
    network: Network
    result: Result
    certificate: Certificate
    arrangement: Arrangement

    @property
    def relative_gap(self) -> float:
        """The gap that is told of a fit: the proved one, where only a search was made at least the one it found."""
        return self.certificate.stated_gap

    def is_short_of(self, tol: float) -> bool:
        """Whether something ended the fit before its gap was within a tolerance; that of a proof may be wider."""
        gaps = [self.relative_gap]
        if self.certificate.scope == "global":
            gaps.append(self.certificate.gap_found if self.certificate.n_searched else self.result.relative_gap)
        return self.result.status != "optimal" and not any(gap <= tol for gap in gaps)


@dataclass(frozen=True, eq=False)
class Sample:
    """Checked training data in the coding of a loss.

    Attributes
    ----------
    X : array of shape (n_samples, n_features)
        Features.
    y : array of shape (n_samples,)
        Targets in the coding of the loss.
    loss : Loss
        See convexnn.losses.
    sample_weight : array of shape (n_samples,)
        Non-negative factors of the losses.
    class_weight : array of shape (n_samples,) or float
        Further factors, by class.
    n_outputs : int
        Columns of the prediction.
    """

    X: NDArray
    y: NDArray
    loss: Loss
    sample_weight: NDArray
    class_weight: NDArray | float = 1.0
    n_outputs: int = 1

    @property
    def weights(self) -> NDArray:
        """The factors of the losses, shape (n_samples,)."""
        return self.sample_weight * self.class_weight


@dataclass(frozen=True, eq=False)
class Prepared:
    """A training problem as solvers see it: equal rows are one, and numbers are near one.

    Attributes
    ----------
    sample : Sample
        The data.
    whole : Task
        The samples of positive weight, in the units of the user.
    group : int array of shape (n_positive,)
        The distinct row of each of them.
    first : int array of shape (n_distinct,)
        Where each distinct row stands in the data.
    task : Task
        The distinct rows, in the units of the user.
    even : array of shape (n_distinct,)
        Their weights without the factors of classes.
    units : Units
        What the numbers of ``normal`` are in.
    normal : Task
        The distinct rows in these units, without the dust of rounding.
    start : float
        When the fit began, in seconds of ``perf_counter``.
    """

    sample: Sample
    whole: Task
    group: NDArray[np.intp]
    first: NDArray[np.intp]
    task: Task
    even: NDArray
    units: Units
    normal: Task
    start: float

    @classmethod
    def of(cls, sample: Sample, whole: Task, start: float) -> Prepared:
        """The training problem of data and of the samples of positive weight among them."""
        task, first, group = whole.merged
        keep = np.flatnonzero(sample.weights > 0)
        even, units = np.bincount(group, sample.sample_weight[keep]), Units.of(task)
        normal = units.task(task)
        normal = replace(normal, rows=without_dust(normal.rows), y=without_dust(normal.y))
        return cls(sample, whole, group, keep[first], task, even, units, normal, start)

    @property
    def unweighted(self) -> Task:
        """``normal`` without class weights and skip connection, by which alpha="auto" goes."""
        return replace(self.normal, sample_weight=self.even / self.units.weight, skip=None)


def best_network(
    problem: Problem, result: Result, data: Prepared, alpha: float, arrangement: Arrangement | None = None, tidy=True
) -> Graded:
    """The network of a solution, graded on the data as they are; the best constant, or linear term, if that is better.

    A tidy network is merged and pruned.
    """
    gates = None if arrangement is None or problem.task.neuron.activation.cones else arrangement.gates
    found = []
    for coef, intercept in ((result.coef, result.intercept), (np.zeros_like(result.coef), data.normal.null_model[0])):
        network = network_of(problem, coef, intercept, gates)
        # What is one direction is seen in numbers near one.
        network = data.units.network(network.merge() if tidy else network)
        found.append(Graded.of(network.prune(data.task.X) if tidy else network, data.task, alpha, data.units))
    return found[1] if found[1].objective < found[0].objective else found[0]


def how_it_ended(result: Result, certificate: Certificate) -> str:
    """What ended a fit and at which gap, in words."""
    found = ""
    if certificate.n_searched and certificate.scope == "global":
        found = f"{certificate.gap_found:.1e} by a search, and proved is "
    return f"{STATUSES[result.status]}; the relative gap is {found}{certificate.stated_gap:.1e}"


def solve_without(problem: Problem, solver, coef: NDArray | None, keep: NDArray[np.bool_]) -> Result:
    """Solve without the blocks that are zero in every solution.

    Parameters
    ----------
    problem : Problem
        Over listed patterns.
    solver : Fista, Newton or CvxpySolver
        Settings.
    coef : array of shape (n_blocks, n_features) or None
        Starting point.
    keep : bool array of shape (n_blocks,)
        The other blocks.

    Returns
    -------
    result : Result
        Of the whole problem, its bound over all blocks.
    """
    if keep.all():
        return solver.solve(problem, coef)
    result = solver.solve(problem.restrict(keep), None if coef is None else coef[keep])
    whole = np.zeros(problem.design.shape)
    whole[keep] = result.coef
    # The blocks left out may yet bind the dual point a little.
    zero = np.zeros_like(result.theta)
    dual, theta = problem.task.dual_value(zero), zero
    with current().conclusion(), suppress(OutOfTime):
        dual, theta = problem.dual_bound(result.theta)
    result = replace(result, coef=whole, dual=dual, theta=theta)
    if result.status == "optimal" and result.relative_gap > solver.tol and keep.any():
        return solver.solve(problem, whole)
    return result


def least_count(rows: NDArray, enough: int) -> int:
    """The number of activation patterns, or a lower bound of it where that is enough, or all there is time for."""
    # The rank of some rows is no larger than that of all.
    least = count_patterns(len(rows), rank_of(rows[:50]))
    if least > enough or not affordable(4.0 * rows.size * min(rows.shape)):
        return least
    return count_patterns(len(rows), rank_of(rows))
