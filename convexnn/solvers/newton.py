"""Semismooth Newton on the augmented Lagrangian of the dual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from convexnn.budget import STOPS, Budget, OutOfTime, affordable, check
from convexnn.program.problem import Problem
from convexnn.program.result import STATUSES, Result, relative_gap, untouched
from convexnn.solvers.fista import Fista

# Newton matrices and the columns they are made of are stored up to this size; beyond, conjugate gradients.
MATRIX_BYTES = 2**30


@dataclass(frozen=True)
class Newton:
    r"""Augmented Lagrangian of the dual, each subproblem solved by semismooth Newton steps.

    With multiplier V and parameter sigma, the dual variable theta minimises

        phi(theta) = F^*(-theta) + |S(V + sigma A^T theta)|^2 / (2 sigma),   S = prox with threshold sigma alpha,

    and then V <- S(V + sigma A^T theta), sigma grows. Written with theta = -grad F(u) for a vector of predictions u,
    the gradient of phi is A S(.) - u, no conjugate is evaluated off its domain, and the Newton equation is

        (I + sigma B W B^T H) step = A S(.) - u,

    H the Hessian of the loss at u, B the columns of the data in the directions in which the non-zero blocks are free
    to move, W the derivative of the prox there. It is solved with whichever matrix is smaller: that of the free
    directions, B^T H B + W^{-1} / sigma, or that of the samples, which for blocks without cones is the elementwise
    product (X X^T) * (D diag(.) D^T) plus one product over the blocks.

    Without cones the first iterations are FISTA's, as many as cost about twenty Newton steps, a quarter of them if the
    gap is still above 0.3 then. They find out which blocks are zero, and where alpha is not small that is all.

    Parameters
    ----------
    tol : float, default=1e-4
        Stop when the relative duality gap over the listed patterns is at most this.
    max_iter : int, default=20_000
        Limit on Newton steps and FISTA's iterations together, of which FISTA takes at most half.
    max_time : float, optional
        Limit in seconds.
    callback : callable, optional
        Called with each new entry of the history; KeyboardInterrupt from it ends the solve.

    References
    ----------
    .. [1] X. Li, D. Sun, K.-C. Toh, A highly efficient semismooth Newton augmented Lagrangian method for solving
       lasso problems, SIAM J. Optim. 28 (2018), section 3.
    .. [2] Y. Zhang, N. Zhang, D. Sun, K.-C. Toh, An efficient Hessian based algorithm for solving large-scale sparse
       group lasso problems, Math. Programming 179 (2020), section 3.
    """

    tol: float = 1e-4
    max_iter: int = 20_000
    max_time: float | None = None
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
            The best point seen, whatever the reason to stop; "stalled" when rounding stops the progress.

        Raises
        ------
        ValueError
            When the loss is not smooth: the message says what to use.
        """
        if not problem.task.smooth:
            name = problem.task.loss.name
            raise ValueError(
                f"solver='newton' needs a loss with a Lipschitz gradient; loss={name!r} has kinks: use solver='cvxpy'."
            )
        with Budget(self.max_time) as budget:
            try:
                first, ended = None, False
                if not problem.penalty.cones:
                    first, ended = self._first_iterations(problem, coef_init)
                return first if first is not None and ended else _Run(self, problem, budget, coef_init, first).solve()
            except STOPS as stop:
                return untouched(problem, budget.stop(stop))

    def _first_iterations(self, problem: Problem, coef_init: NDArray | None) -> tuple[Result, bool]:
        """What FISTA reaches in as many iterations as cost about twenty Newton steps, and whether it ends the solve."""
        # At a gap of 0.3 after a quarter of them, the rest would not come near a small tolerance either.
        few, futile = min(_worth_of_steps(problem), self.max_iter // 2), False

        def watch(entry):
            nonlocal futile
            if self.callback is not None:
                self.callback(entry)
            futile = entry["iteration"] >= few / 4 and entry["relative_gap"] > max(0.3, self.tol)
            if futile:
                raise OutOfTime

        first = Fista(self.tol, few, self.max_time, callback=watch).solve(problem, coef_init)
        return first, not futile and first.status != "max_iter"


class _Run:
    """One solve: the centre (V, c, sigma) of the subproblem, the best point and the best bound so far.

    ``status`` says how it ended, and is empty until it has.
    """

    def __init__(
        self, settings: Newton, problem: Problem, budget: Budget, coef_init: NDArray | None, first: Result | None
    ):
        self.settings, self.problem, self.task, self.budget = settings, problem, problem.task, budget
        spent = 0.0 if first is None else first.history[-1]["seconds"]
        self.status, self.start, self.stalled, self.gap = "", perf_counter() - spent, 0, np.inf
        self.point: _Point | None = None
        task, penalty = problem.task, problem.penalty
        coef_init = coef_init if first is None else first.coef
        V = np.zeros(problem.design.shape) if coef_init is None else coef_init
        self.V, self.warm = penalty.prox(V, 0.0)
        z = problem.design @ self.V
        self.c = task.best_intercept(z)
        self.u = z + self.c
        self.L = task.loss.lipschitz * problem.design.squared_norm(task.sample_weight) or 1.0
        self.sigma = (1e3 if self.V.any() else 1e2) / self.L
        if self.V.any() and _evenly_curved(_weighted(task.sample_weight, task.loss.hessian(task.y, self.u))):
            # From there on the threshold sigma alpha is at least a hundred mean norms of the blocks.
            total = 100.0 * penalty.value(self.V)
            self.sigma = max(self.sigma, total / np.count_nonzero(self.V.any(axis=1)) / problem.alpha)
        self.best = (task.loss_value(self.u) + problem.alpha * penalty.value(self.V), self.V, self.c)
        self.dual, self.theta = -np.inf, task.null_model[1]
        self.history: list[dict] = []
        self.steps = 0
        if first is not None:
            self.best = (first.primal, first.coef, first.intercept)
            self.dual, self.theta, self.history, self.steps = first.dual, first.theta, first.history, first.n_iter

    def solve(self) -> Result:
        """Subproblem after subproblem, each centred where the last one ended."""
        task = self.task
        try:
            while not self.status:
                inner, noisy = self.subproblem()
                self.judge(inner, noisy)
        except STOPS as stop:
            self.status = self.budget.stop(stop)
            if self.point is not None:
                reached = self.objective(self.point.U, self.point.z + self.point.c)
                self.best = min(self.best, (reached, self.point.U, self.point.c), key=lambda found: found[0])
        if not np.isfinite(self.dual):
            self.theta = np.zeros_like(self.theta)
            self.dual = task.dual_value(self.theta)
        primal, coef, intercept = self.best
        found = coef, intercept, self.theta, primal, self.dual
        return Result(*found, self.status, STATUSES[self.status], self.steps, self.history)

    def objective(self, V: NDArray, predictions: NDArray) -> float:
        """Value of the program at coefficients and their predictions."""
        return self.task.loss_value(predictions) + self.problem.alpha * self.problem.penalty.value(V)

    def subproblem(self) -> tuple[int, bool]:
        """Newton steps on the subproblem until its residual is small against the move: how many, and whether rounding
        stopped them."""
        V, c, sigma = self.V, self.c, self.sigma
        self.point = _Point(self.problem, self.u, V, c, sigma, self.warm)
        for inner in range(self.settings.max_iter - self.steps):
            point = self.point
            moved = np.vdot(point.U - V, point.U - V) + _free_square(self.problem, point.c - c)
            residual = np.vdot(point.R, point.HR)
            flat = residual <= 1e-24 * np.vdot(point.R, point.R) * np.abs(point.H).max()
            if flat:
                # All samples lie on linear parts of the loss; their theta may have to leave its bounds.
                residual = np.vdot(point.R, -point.theta - self.task.gradient(point.u - point.R))
            if residual <= max(0.1 * moved / sigma, 1e-30 * abs(self.best[0])) or inner >= 50:
                return inner, False
            step = _newton_step(self.problem, point, sigma)
            following, slope, t = self.along(step)
            self.steps += 1
            # Where phi cannot tell points apart any more, the residual has to fall instead.
            blind = not flat and -slope <= 1e-14 * (abs(point.phi) + abs(self.best[0]))
            if t <= 1e-6 or (blind and np.vdot(following.R, following.HR) > 0.5 * residual):
                return inner + 1, True
            self.point = following
            if self.budget.over:
                return inner + 1, False
        return max(self.settings.max_iter - self.steps, 0), False

    def along(self, step: NDArray) -> tuple[_Point, float, float]:
        """A point along a step where phi has fallen, the slope of phi at its begin, and the length taken."""
        point, t = self.point, 1.0
        assert point is not None
        following, slope = point, float(np.vdot(point.HR, step))
        while t > 1e-6:
            following = _Point(self.problem, point.u + t * step, self.V, self.c, self.sigma, point.warm)
            rounding = 1e-13 * (abs(point.phi) + abs(self.best[0]))
            rise = following.phi - point.phi
            if rise <= 1e-4 * t * slope + rounding:
                break
            # Slopes say little about kinks.
            curved = _evenly_curved(following.H) and _evenly_curved(point.H)
            t *= _least_of_cubic(slope * t, rise, np.vdot(following.HR, step) * t) if curved else 0.5
        return following, slope, t

    def judge(self, inner: int, noisy: bool) -> None:
        """The objective and the bound where a subproblem ended; ends the solve, or sets sigma for the next."""
        point, task, penalty, tol = self.point, self.task, self.problem.penalty, self.settings.tol
        assert point is not None
        self.V, self.c, self.u, self.warm = point.U, point.c, point.u, point.warm
        fresh = task.best_intercept(point.z, self.c)
        primal, reached = self.objective(self.V, point.z + fresh), self.best[0]
        if primal < reached:
            self.best = (primal, self.V, fresh)
        bound, feasible = self.problem.dual_bound(-task.gradient(point.z + fresh), warm=self.warm)
        if penalty.cones and relative_gap(self.best[0], max(bound, self.dual)) > tol:
            # After the first subproblems of a warm start their own theta may be far nearer. But later it may be no
            # better for long, which would look like a stall: it counts where it ends the solve.
            own, nearer = self.problem.dual_bound(point.theta, warm=self.warm)
            if relative_gap(self.best[0], own) <= tol:
                bound, feasible = own, nearer
        if bound > self.dual:
            self.dual, self.theta = bound, feasible
        before, self.gap = self.gap, relative_gap(self.best[0], self.dual)
        self.record()
        # At a millionth of the gap each, no number of steps closes it.
        slow = reached - self.best[0] <= max(1e-9, 1e-6 * min(self.gap, 1.0)) * abs(self.best[0])
        still = slow and not self.gap <= 0.9 * before
        self.stalled = self.stalled + 1 if still else 0
        if self.gap <= tol or self.best[0] <= task.negligible:
            self.status = "optimal"
        elif self.budget.over:
            self.status = self.budget.status
        elif self.steps >= self.settings.max_iter:
            self.status = "max_iter"
        elif self.stalled >= 12:
            self.status = "stalled"
        elif self.stalled and noisy:
            # The residual is a difference of terms of size sigma |A^T theta|: rounding grows with sigma.
            self.sigma /= 30.0
        else:
            few, many = (25, 40) if _evenly_curved(point.H) else (10, 25)
            change = 10.0 if inner < few else 2.0 if inner < many else 0.5
            self.sigma = min(self.sigma * change, 1e12 / self.L)

    def record(self) -> None:
        """An entry of the history."""
        seconds, blocks = perf_counter() - self.start, int(np.count_nonzero(self.V.any(axis=1)))
        entry = dict(iteration=self.steps, seconds=seconds, objective=self.best[0], relative_gap=self.gap)
        self.history.append(entry | dict(blocks=blocks))
        if self.settings.callback is not None:
            self.settings.callback(self.history[-1])


class _Point:
    """Everything about one value of the dual variable theta = -grad F(u) in the subproblem of (V, c, sigma)."""

    def __init__(self, problem: Problem, u, V, c, sigma, warm):
        design = problem.design
        self.u = u
        self.theta = -problem.task.gradient(u)
        self.G = design.adjoint(self.theta)
        self.U, self.warm = problem.penalty.prox(V + sigma * self.G, sigma * problem.alpha, warm)
        self.z = design @ self.U
        # The unpenalised terms are a free block: its prox is the identity.
        if problem.task.skip is not None:
            self.c = c + sigma * (problem.task.free @ (problem.task.free.T @ self.theta))
        else:
            self.c = c + sigma * self.theta.sum(axis=0) if problem.task.fit_intercept else c
        self.R = u - self.z - self.c
        self.H = _weighted(problem.task.sample_weight, problem.task.loss.hessian(problem.task.y, u))
        self.HR = _apply(self.H, self.R)
        conjugate = -np.vdot(self.theta, u) - problem.task.loss_value(u)
        squares = np.vdot(self.U, self.U) + _free_square(problem, self.c)
        self.phi = conjugate + squares / (2 * sigma)


def _worth_of_steps(problem: Problem) -> int:
    """Iterations of FISTA that cost about as much as twenty Newton steps, when half of the blocks are not zero."""
    n_blocks, d = problem.design.shape
    # Equal rows count once: whether they are repeated or weighted should not change the fit.
    n = problem.design.n_outputs * len(np.unique(np.column_stack([problem.design.X, problem.task.y]), axis=0))
    k = max(n_blocks / 2, 1.0)
    q = k * d
    step = 2 * n * n * k + n**3 / 3 if n < q else n * q * q + q**3 / 3
    # Thin products run below full speed.
    return 20 + int(20 * step / (4 * n * k * (d + 10)))


def _evenly_curved(H: NDArray) -> bool:
    """Whether the loss is about as curved at every sample: elsewhere phi has kinks or nearly so."""
    return bool(H.ndim == 1 and 0.0 < 1e-3 * H.max() <= H.min())


def _least_of_cubic(slope: float, rise: float, slope_there: float) -> float:
    """Where the cubic with slopes at 0 and 1, and rise from 0 to 1, is least, but between a tenth and six tenths."""
    with np.errstate(all="ignore"):
        bend = slope + slope_there - 3.0 * rise
        root = np.sqrt(max(bend * bend - slope * slope_there, 0.0))
        above, below = root - slope + bend, 2.0 * root - slope + slope_there
    if not (np.isfinite(above) and np.isfinite(below)):
        return 0.5
    return 0.6 if above >= 0.6 * below else 0.1 if above <= 0.1 * below else float(above / below)


def _free_square(problem: Problem, c) -> float:
    """Squared norm of the coefficients, on the free columns, of an intercept."""
    return float(np.sum(np.square(c))) / (1 if problem.task.skip is None else len(c))


def _weighted(weights: NDArray, hessian: NDArray) -> NDArray:
    return weights.reshape((-1,) + (1,) * (hessian.ndim - 1)) * hessian


def _apply(H: NDArray, r: NDArray) -> NDArray:
    """H r for Hessians (n,) and r (n, ...), or (n, C, C) and (n, C)."""
    return H * r if H.ndim == 1 else np.einsum("nij,nj->ni", H, r)


def _newton_step(problem: Problem, point: _Point, sigma: float) -> NDArray:
    """The step in u, by the smaller of the two systems, or by conjugate gradients when neither fits in memory."""
    blocks = np.flatnonzero(point.U.any(axis=1))
    if not len(blocks) and not problem.task.free.shape[1]:
        return -point.R
    bases, skip = problem.penalty.faces(point.U, blocks, point.warm)
    lengths = np.linalg.norm(point.U[blocks] * _penalised(problem), axis=1)
    k, j = np.nonzero(np.arange(point.U.shape[1]) >= skip[:, None])
    n, q = point.u.size, len(k)
    by_samples = n < q and not problem.penalty.free_bias and 8 * n * max(n, q if skip.any() else 0) <= MATRIX_BYTES
    # Factors of a large matrix cannot be cut short.
    if not affordable(2.0 * min(n, q) ** 2 * max(n, q) + min(n, q) ** 3):
        return _conjugate_gradient_step(problem, point, sigma, blocks, bases, skip, lengths)
    if by_samples:
        return _sample_step(problem, point, sigma, blocks, bases, lengths, k, j)
    if 8 * q * max(len(point.u), q) > MATRIX_BYTES:
        return _conjugate_gradient_step(problem, point, sigma, blocks, bases, skip, lengths)
    return _direction_step(problem, point, sigma, blocks, bases, lengths, k, j)


def _penalised(problem: Problem) -> NDArray:
    """1 for the features that count in |v|, 0 for a free bias."""
    penalised = np.ones(problem.design.shape[1])
    penalised[-1] -= problem.penalty.free_bias
    return penalised


def _direction_step(problem, point, sigma, blocks, bases, lengths, k, j) -> NDArray:
    """Through B^T H B + 1 / sigma + alpha (I - g g^T) / |v_k|, one row for each free direction."""
    design, C = problem.design, problem.design.n_outputs
    vectors = bases[k, :, j]
    B = design.columns(blocks[k], vectors)
    output = design.output[blocks][k]
    q = len(B)
    if problem.task.free.shape[1]:
        B = np.concatenate([B, *[problem.task.free.T] * C])
        output = np.concatenate([output, np.repeat(np.arange(C), problem.task.free.shape[1])])
    matrix = np.empty((len(B), len(B)))
    if C == 1:
        root = B * np.sqrt(point.H)
        matrix = root @ root.T
        right = B @ point.HR
    else:
        right = np.einsum("qn,nq->q", B, point.HR[:, output])
        members = [np.flatnonzero(output == o) for o in range(C)]
        for o in range(C):
            for p in range(C):
                matrix[np.ix_(members[o], members[p])] = (B[members[o]] * point.H[:, o, p]) @ B[members[p]].T
    penalised = _penalised(problem)
    along = np.einsum("qd,qd->q", vectors, (point.U[blocks] * penalised / lengths[:, None])[k])
    bias = vectors[:, -1] * (1 - penalised[-1])
    curvature = problem.alpha / lengths[k]
    # Every pair of directions of one block.
    count = np.bincount(k)[k]
    row = np.repeat(np.arange(q), count)
    column = np.arange(len(row)) + np.repeat(np.searchsorted(k, k) - np.cumsum(count) + count, count)
    matrix[row, column] -= curvature[row] * (along[row] * along[column] + bias[row] * bias[column])
    diagonal = np.einsum("qq->q", matrix)
    diagonal[:q] += curvature
    diagonal += 1.0 / sigma
    x = _positive_solve(matrix, right)
    if C == 1:
        return B.T @ x - point.R
    moved = np.zeros_like(point.u)
    for o in range(C):
        moved[:, o] = B[members[o]].T @ x[members[o]]
    return moved - point.R


def _sample_step(problem, point, sigma, blocks, bases, lengths, k, j) -> NDArray:
    """Through I + sigma B W B^T H, one row for each sample and output; B W B^T couples no two outputs."""
    design, C = problem.design, problem.design.n_outputs
    shrink = lengths / (lengths + sigma * problem.alpha)
    Y = design.columns(blocks, point.U[blocks] / lengths[:, None])
    Y *= np.sqrt(1 - shrink)[:, None]
    held = len(k) < bases.shape[0] * bases.shape[1]
    B = design.columns(blocks[k], bases[k, :, j]) if held else design.slopes(blocks)
    B *= np.sqrt(shrink[k] if held else shrink)[:, None]
    output = design.output[blocks]
    kernels = []
    for o in range(C):
        rows = B[output[k] == o] if held else B[output == o]
        kernel = rows.T @ rows
        if not held:
            kernel *= design.X @ design.X.T
        rows = Y[output == o]
        kernel += rows.T @ rows
        if problem.task.free.shape[1]:
            kernel += problem.task.free @ problem.task.free.T
        kernel *= sigma
        kernels.append(kernel)
    if C == 1:
        root = np.sqrt(point.H)
        matrix = root[:, None] * kernels[0] * root
        np.einsum("nn->n", matrix)[...] += 1.0
        return kernels[0] @ (root * _positive_solve(matrix, root * point.R)) - point.R
    matrix = np.block([[kernel * point.H[:, o, p] for p in range(C)] for o, kernel in enumerate(kernels)])
    np.einsum("nn->n", matrix)[...] += 1.0
    return -np.linalg.solve(matrix, point.R.T.ravel()).reshape(C, -1).T


def _conjugate_gradient_step(problem, point, sigma, blocks, bases, skip, lengths) -> NDArray:
    """The system of the free directions without its matrix: each product is one forward and one adjoint pass."""
    part = problem.design.restrict(blocks)
    penalised = _penalised(problem)
    g = point.U[blocks] * penalised / lengths[:, None]
    inside = np.arange(bases.shape[1]) >= skip[:, None]
    free = problem.task.free

    def on_face(W):
        return np.einsum("kdj,kj->kd", bases, inside * np.einsum("kdj,kd->kj", bases, W))

    def split(x):
        return x[: g.size].reshape(g.shape), x[g.size :].reshape(free.shape[1], *point.u.shape[1:])

    def product(x):
        check()
        W, c = split(x)
        W = on_face(W)
        r = _apply(point.H, part @ W + free @ c)
        across = W * penalised - g * np.sum(g * W, axis=1, keepdims=True)
        out = part.adjoint(r) + W / sigma + problem.alpha * across / lengths[:, None]
        return np.concatenate([on_face(out).ravel(), (free.T @ r + c / sigma).ravel()])

    right = np.concatenate([on_face(part.adjoint(point.HR)).ravel(), (free.T @ point.HR).ravel()])
    x, _ = cg(LinearOperator((len(right), len(right)), matvec=product), right, rtol=1e-3, maxiter=200)
    W, c = split(x)
    return part @ on_face(W) + free @ c - point.R


def _positive_solve(matrix: NDArray, right: NDArray) -> NDArray:
    """Solution by Cholesky's factors, with a relative ridge that grows until they exist.

    The factors are NumPy's and only the triangular solves SciPy's: two BLAS libraries with a thread pool each would get
    in each other's way.
    """
    diagonal = np.einsum("qq->q", matrix)
    scale = float(diagonal.max(initial=1e-300))
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6):
        diagonal += ridge * scale
        try:
            x = cho_solve((np.linalg.cholesky(matrix), True), right, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(x).all():
            return x
    return right / scale
