"""What a solver hands back: coefficients, and the two numbers that say how good they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from convexnn.program.problem import Problem

#: What ended a fit, for each status.
STATUSES = {
    "optimal": "the fit reached its tolerance",
    "almost_optimal": "the solver could do no better",
    "max_iter": "the iteration limit came first",
    "stalled": "rounding stopped the progress",
    "time_limit": "the time limit came first",
    "interrupted": "the fit was interrupted by the user; the best network so far is kept",
    "failed": "the solver gave no usable point",
}
#: What to try where that left a gap above tol.
REMEDIES = {
    "optimal": "lower tol",
    "almost_optimal": "another solver, or a larger tol, may be enough",
    "max_iter": "raise max_iter or tol, or alpha, or standardise the features",
    "stalled": "a larger alpha, standardised features or another solver may help",
    "time_limit": "raise max_time or tol",
    "interrupted": "fit again, with warm_start=True from this network",
    "failed": "try another solver, or standardise the features",
}


def relative_gap(primal: float, dual: float) -> float:
    """(primal - dual) / |primal|, 0 when both are equal, inf when there is no bound.

    Examples
    --------
    >>> relative_gap(2.0, 1.5)
    0.25
    """
    gap = max(primal - dual, 0.0)
    if gap == 0.0:
        return 0.0
    return gap / abs(primal) if np.isfinite(gap) and primal != 0 else np.inf


@dataclass(frozen=True, eq=False)
class Result:
    """Solution of a Problem.

    Attributes
    ----------
    coef : array of shape (n_blocks, n_features)
        Block coefficients v_k; they lie in their cones.
    intercept : float or array of shape (n_outputs,)
        Unpenalised constant; with a skip connection the sum of constant and linear term, shape of the predictions.
    theta : array, shape of the predictions
        Feasible dual point over the listed patterns.
    primal, dual : float
        Objective at coef and lower bound from theta.
    status : str
        A key of STATUSES.
    message : str
        The status in words, with the solver's own where it has some.
    n_iter : int
        Iterations.
    history : list of dict
        One entry for each evaluation of the gap: iteration, seconds, objective, relative_gap, blocks.
    """

    coef: NDArray
    intercept: NDArray | float
    theta: NDArray
    primal: float
    dual: float
    status: str
    message: str
    n_iter: int
    history: list[dict] = field(default_factory=list, repr=False)

    @property
    def gap(self) -> float:
        """primal - dual, never below zero."""
        return max(self.primal - self.dual, 0.0)

    @property
    def relative_gap(self) -> float:
        """gap divided by |primal|."""
        return relative_gap(self.primal, self.dual)

    def __repr__(self) -> str:
        blocks = np.count_nonzero(self.coef.any(axis=1))
        return (
            f"Result({self.status}, objective={self.primal:.6g}, relative gap={self.relative_gap:.1e}, "
            f"{blocks} of {len(self.coef)} blocks, {self.n_iter} iterations)"
        )


def untouched(problem: Problem, status: str) -> Result:
    """The solution without neurons, for a solve that ended before it had another; zero is its dual point.

    Parameters
    ----------
    problem : Problem
        Any program.
    status : str
        A key of STATUSES.

    Returns
    -------
    result : Result
    """
    c, theta = problem.task.null_model
    zero, coef = np.zeros_like(theta), np.zeros(problem.design.shape)
    primal = problem.task.loss_value(zero + c)
    return Result(coef, c, zero, primal, problem.task.dual_value(zero), status, STATUSES[status], 0)
