"""Any conic solver that cvxpy can reach, Clarabel by default."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import STOPS, Budget, OutOfTime
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result, relative_gap, untouched

# What the backends call a time limit in seconds, and an iteration limit.
TIME_LIMIT_OPTIONS = {"CLARABEL": "time_limit", "SCS": "time_limit_secs", "MOSEK": "time_limit", "OSQP": "time_limit"}
# Neither cvxpy's way to a backend nor an iteration of one can be cut short: about so many seconds for each entry of the
# constraints (one for each block, row and feature). A limit that leaves no time for them leaves the backend out.
COMPILATION, ITERATION = 1e-6, 1e-6
ITERATION_OPTIONS = {"CLARABEL": "max_iter", "SCS": "max_iters", "OSQP": "max_iter", "ECOS": "max_iters"}


@dataclass(frozen=True)
class CvxpySolver:
    """The program handed to cvxpy as it stands: the reference, and the solver for losses with kinks.

    Parameters
    ----------
    tol : float, default=1e-4
        A solution whose recomputed relative gap is at most this is called optimal. Backends run at their own accuracy.
    max_iter : int, optional
        Passed on as the solver's iteration limit.
    max_time : float, optional
        Limit in seconds, for solvers that have one. One that is too short for a first iteration leaves the solver out,
        and the best of zero and the starting point is the answer.
    backend : str, default="CLARABEL"
        Any name in ``cvxpy.installed_solvers()``.
    callback : callable, optional
        Called once, with the only entry of the history.
    """

    tol: float = 1e-4
    max_iter: int | None = None
    max_time: float | None = None
    backend: str = "CLARABEL"
    callback: Callable[[dict], object] | None = None

    def solve(self, problem: Problem, coef_init: NDArray | None = None) -> Result:
        """Minimise the program.

        Parameters
        ----------
        problem : Problem
            Any loss.
        coef_init : array of shape (n_blocks, n_features), optional
            Kept as the answer when it is better than what the solver returns.

        Returns
        -------
        result : Result
            Coefficients after projection onto the cones, with the gap recomputed from the data.

        Raises
        ------
        ValueError
            When the backend is not installed: the message lists those that are.
        """
        import cvxpy as cp

        if self.backend not in cp.installed_solvers():
            raise ValueError(f"backend must be one of {cp.installed_solvers()}, got {self.backend!r}.")
        with Budget(self.max_time) as budget:
            try:
                return self._solve(cp, problem, coef_init, budget)
            except STOPS as stop:
                return untouched(problem, budget.stop(stop))

    def _solve(self, cp, problem: Problem, coef_init: NDArray | None, budget: Budget) -> Result:
        start = perf_counter()
        design = problem.design
        n_outputs = design.n_outputs
        # Equal rows are one row with the sum of their weights: every row costs a constraint for each block. The order
        # of the rows becomes canonical with it.
        skip = np.zeros((len(design.X), 0)) if problem.task.skip is None else problem.task.skip
        table = np.column_stack([design.X, problem.task.y, np.packbits(design.patterns, axis=0).T, skip])
        _, first, row = np.unique(table, axis=0, return_index=True, return_inverse=True)
        weights = np.bincount(row, problem.task.sample_weight)
        X = design.X[first]
        size = len(first) * design.shape[0] * design.shape[1]
        if budget.left is not None and budget.left < (COMPILATION + ITERATION) * size:
            return self._judge(problem, coef_init, None, None, "the time limit is too short to begin", start, budget)
        V = cp.Variable(design.shape)
        free = problem.task.free[first]
        c = cp.Variable((free.shape[1], n_outputs)) if free.size else np.zeros((free.shape[1], n_outputs))
        z = cp.Variable((len(first), n_outputs))
        alpha = cp.Parameter(nonneg=True, value=problem.alpha)
        columns = []
        for output in range(n_outputs):
            blocks = np.flatnonzero(design.output == output)
            slopes = (design.sign[blocks, None] * design.slopes(blocks)).T[first]
            columns.append(cp.sum(cp.multiply(X, slopes @ V[blocks]), axis=1) + free @ c[:, output])
        link = z == cp.vstack(columns).T
        penalty, constraints = problem.penalty.cvxpy(V, first)
        losses = problem.task.loss.cvxpy(problem.task.y[first], z[:, 0] if n_outputs == 1 else z)
        program = cp.Problem(cp.Minimize(weights @ losses + alpha * penalty), [link, *constraints])
        # Zero blocks sit at the apex of their cones, where Clarabel's full step lengths lose the central path.
        options: dict = {"max_step_fraction": 0.9} if self.backend == "CLARABEL" else {}
        if self.max_iter is not None and self.backend in ITERATION_OPTIONS:
            options[ITERATION_OPTIONS[self.backend]] = self.max_iter
        try:
            with warnings.catch_warnings():
                # cvxpy warns of inaccurate solutions; the gap below says how inaccurate.
                warnings.simplefilter("ignore")
                if budget.left is not None and self.backend in TIME_LIMIT_OPTIONS:
                    program.get_problem_data(self.backend, solver_opts=options)
                    left = max(budget.left - ITERATION * size, 1e-3)
                    options[TIME_LIMIT_OPTIONS[self.backend]] = left
                program.solve(solver=self.backend, **options)
            said = program.status
        except cp.error.SolverError as error:
            said = str(error)
        except KeyboardInterrupt as stop:
            said = budget.stop(stop)
        theta = link.dual_value
        if theta is not None:
            theta = theta[row] * (problem.task.sample_weight / weights[row])[:, None]
        return self._judge(problem, coef_init, V.value, theta, said, start, budget)

    def _judge(self, problem, coef_init, coef, theta, said, start, budget) -> Result:
        """The best feasible point at hand, graded from the problem's own data."""

        def graded(V):
            z = problem.design @ V
            c = problem.task.best_intercept(z)
            return problem.task.loss_value(z + c) + problem.alpha * problem.penalty.value(V), V, c

        scored = [graded(np.zeros(problem.design.shape))]
        begun = [] if coef_init is None else [graded(problem.penalty.prox(coef_init, 0.0)[0])]
        try:
            if coef is not None and np.isfinite(coef).all():
                coef = problem.penalty.prox(coef, 0.0)[0]
                scored += [graded(self._gradient_step(problem, coef))] if problem.task.smooth else []
                scored.append(graded(coef))
        except OutOfTime as stop:
            said = budget.stop(stop)
        scored += begun
        # The first, which is the simplest, of those that are equally good, so that rounding does not choose.
        lowest = min(value for value, _, _ in scored)
        primal, coef, intercept = next(item for item in scored if item[0] <= lowest + 1e-9 * abs(lowest))
        with suppress(OutOfTime):
            primal, coef, intercept = self._without_dust(problem, primal, coef, intercept)
        guesses = [problem.task.null_model[1]]
        if problem.task.smooth:
            guesses.append(-problem.task.gradient(problem.design @ coef + intercept))
        if theta is not None and np.isfinite(theta).all():
            theta = theta.reshape(problem.task.null_model[1].shape)
            if theta.ndim > 1:
                theta = theta - theta.mean(axis=1, keepdims=True)
            guesses += [theta, -theta]
        zero = np.zeros_like(guesses[0])
        bounds = [(problem.task.dual_value(zero), zero)]
        try:
            for guess in guesses:
                bounds.append(problem.dual_bound(guess))
        except OutOfTime as stop:
            said = budget.stop(stop)
        dual, theta = max(bounds, key=lambda item: item[0])
        gap = relative_gap(primal, dual)
        if gap <= self.tol or primal <= problem.task.negligible:
            status = "optimal"
        elif budget.over or said.startswith("the time limit"):
            status = budget.status
        elif said in ("optimal", "optimal_inaccurate", "user_limit"):
            status = "max_iter" if said == "user_limit" else "almost_optimal"
        else:
            status = "failed"
        blocks = int(np.count_nonzero(coef.any(axis=1)))
        entry = dict(iteration=1, seconds=perf_counter() - start, objective=primal, relative_gap=gap, blocks=blocks)
        try:
            if self.callback is not None:
                self.callback(entry)
        except KeyboardInterrupt as stop:
            status = budget.stop(stop)
        message = f"{STATUSES[status]} ({self.backend} said: {said})"
        return Result(coef, intercept, theta, primal, dual, status, message, 1, [entry])

    @staticmethod
    def _without_dust(problem, primal, coef, intercept):
        """Drop the blocks that an interior point left just above zero, as long as it costs nothing that matters."""
        lengths = np.linalg.norm(coef, axis=1, keepdims=True)
        for share in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
            trial = np.where(lengths > share * lengths.max(initial=0.0), coef, 0.0)
            z = problem.design @ trial
            c = problem.task.best_intercept(z)
            value = problem.task.loss_value(z + c) + problem.alpha * problem.penalty.value(trial)
            if value <= primal + 1e-9 * abs(primal):
                return value, trial, c
        return primal, coef, intercept

    @staticmethod
    def _gradient_step(problem: Problem, coef: NDArray) -> NDArray:
        """One proximal gradient step: it never raises the objective, and makes the interior point's dust zero."""
        design = problem.design
        L = max(1.05 * problem.task.loss.lipschitz * design.squared_norm(problem.task.sample_weight), 1e-300)
        z = design @ coef
        G = design.adjoint(problem.task.gradient(z + problem.task.best_intercept(z)))
        return problem.penalty.prox(coef - G / L, problem.alpha / L)[0]
