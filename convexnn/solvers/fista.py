"""Accelerated proximal gradient with adaptive restart, stopped by the duality gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import STOPS, Budget, check
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result, relative_gap, untouched

# The step length grows by this much an iteration until backtracking stops it: the curvature along the path is often
# half of the largest one.
SHRINK = 0.97


@dataclass(frozen=True)
class Fista:
    """FISTA: one forward and one adjoint pass an iteration, over the blocks that move.

    Every ``check_every``-th iteration is one over all blocks, and evaluates the gap. Blocks that are zero after it, and
    were so before, stay at zero until the next: a pass costs what the non-zero blocks cost.

    Parameters
    ----------
    tol : float, default=1e-4
        Stop when the relative duality gap over the listed patterns is at most this.
    max_iter : int, default=20_000
        Iteration limit.
    max_time : float, optional
        Limit in seconds.
    check_every : int, default=20
        Iterations from one over all blocks to the next.
    callback : callable, optional
        Called with each new entry of the history; KeyboardInterrupt from it ends the solve.

    References
    ----------
    .. [1] A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems,
       SIAM J. Imaging Sciences 2 (2009), section 4 (backtracking).
    .. [2] B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes, Found. Comput. Math. 15
       (2015), section 3.2 (gradient scheme).
    .. [3] M. Massias, A. Gramfort, J. Salmon, Celer: a fast solver for the lasso with dual extrapolation, ICML (2018),
       section 3 (working sets; here they are the non-zero blocks).
    """

    tol: float = 1e-4
    max_iter: int = 20_000
    max_time: float | None = None
    check_every: int = 20
    callback: Callable[[dict], object] | None = None

    def solve(self, problem: Problem, coef_init: NDArray | None = None) -> Result:
        """Minimise the program from zero or from given coefficients.

        Parameters
        ----------
        problem : Problem
            Its loss must have a Lipschitz gradient.
        coef_init : array of shape (n_blocks, n_features), optional
            Starting point.

        Returns
        -------
        result : Result
            The best point seen, whatever the reason to stop.

        Raises
        ------
        ValueError
            When the loss is not smooth: the message says what to use.
        """
        if not problem.task.smooth:
            name = problem.task.loss.name
            raise ValueError(
                f"solver='fista' needs a loss with a Lipschitz gradient; loss={name!r} has kinks: use solver='cvxpy'."
            )
        with Budget(self.max_time) as budget:
            try:
                return self._solve(problem, coef_init, budget)
            except STOPS as stop:
                return untouched(problem, budget.stop(stop))

    def _solve(self, problem: Problem, coef_init: NDArray | None, budget: Budget) -> Result:
        start = perf_counter()
        task, design, penalty, alpha = problem.task, problem.design, problem.penalty, problem.alpha
        L = max(task.loss.lipschitz * design.squared_norm(task.sample_weight), 1e-300)
        V = np.zeros(design.shape) if coef_init is None else coef_init
        V, warm = penalty.prox(V, 0.0)
        z = design @ V
        c = task.best_intercept(z)
        Y, zy, t = V, z, 1.0
        best = (np.inf, V, c)
        dual, theta = -np.inf, task.null_model[1]
        moving, part = np.arange(design.shape[0]), design
        history: list[dict] = []
        status, iteration = "max_iter", 0
        try:
            for iteration in range(self.max_iter + 1):
                cy = task.best_intercept(zy, c)
                gradient = task.gradient(zy + cy)
                everywhere = iteration % self.check_every == 0 or iteration == self.max_iter
                if everywhere:
                    G = design.adjoint(gradient)
                    primal = task.loss_value(z + c) + alpha * penalty.value(V)
                    if primal < best[0]:
                        best = (primal, V, c)
                    bound, point = problem.dual_bound(-gradient, -G, warm)
                    if bound > dual:
                        dual, theta = bound, point
                    seconds = perf_counter() - start
                    blocks = int(np.count_nonzero(V.any(axis=1)))
                    gap = relative_gap(best[0], dual)
                    history.append(
                        dict(iteration=iteration, seconds=seconds, objective=best[0], relative_gap=gap, blocks=blocks)
                    )
                    if self.callback is not None:
                        self.callback(history[-1])
                    if gap <= self.tol or best[0] <= task.negligible:
                        status = "optimal"
                        break
                    if budget.over:
                        status = budget.status
                        break
                else:
                    G = np.zeros(design.shape)
                    G[moving] = part.adjoint(gradient)
                value_y = task.loss_value(zy + cy)
                L *= SHRINK
                while True:
                    check()
                    V_new, warm = penalty.prox(Y - G / L, alpha / L, warm)
                    if everywhere:
                        before, moving = moving, np.flatnonzero(V_new.any(axis=1) | Y.any(axis=1))
                        if not np.array_equal(before, moving):
                            part = design.restrict(moving) if len(moving) < len(Y) else design
                    z_new = part @ V_new[moving]
                    c = task.best_intercept(z_new, cy)
                    step = V_new - Y
                    dz = z_new - zy
                    bregman = task.loss_value(z_new + c) - value_y - np.vdot(gradient, dz)
                    if bregman < 1e-9 * abs(value_y):
                        # Lost in rounding; over so short a step the loss is quadratic.
                        bregman = 0.5 * np.vdot(task.gradient(z_new + c) - gradient, dz)
                    if bregman <= 0.5 * L * np.vdot(step, step) * (1 + 1e-9):
                        break
                    L *= 1.5
                if np.vdot(step, V_new - V) < 0:
                    t = 1.0
                t_new = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
                momentum = (t - 1) / t_new
                Y = V_new + momentum * (V_new - V)
                zy = z_new + momentum * (z_new - z)
                V, z, t = V_new, z_new, t_new
        except STOPS as stop:
            status = budget.stop(stop)
            best = min(best, (task.loss_value(z + c) + alpha * penalty.value(V), V, c), key=lambda found: found[0])
        if not np.isfinite(dual):
            theta = np.zeros_like(theta)
            dual = task.dual_value(theta)
        primal, coef, intercept = best
        return Result(coef, intercept, theta, primal, dual, status, STATUSES[status], iteration, history)
