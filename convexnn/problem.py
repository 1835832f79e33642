"""The convex program: Design, where coefficients meet the data, and Problem, everything a solver needs to know.

minimise over V and c   sum_i s_i l(y_i, z_i + c) + alpha sum_k |v_k|,   z = sum_k A_k v_k,   A_k = sign_k D_k X

With a skip connection x_i^T s stands beside c, as little penalised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import eye_array, hstack

from convexnn.budget import check
from convexnn.losses import Loss
from convexnn.penalties import Penalty

# Patterns are kept as float64 beside the bits up to this size; larger ones are converted by chunks at each pass,
# which costs as much as reading them from memory would.
FLOAT_PATTERNS_BYTES = 2**28
EPS = float(np.finfo(float).eps)
# Features of the skip connection, centred and of unit length, are dependent where a singular value is rounding: below
# this multiple of it and of the largest one. Their weights are free, so that any other cut would be a claim.
DEPENDENT = 8.0
# A feature is constant where it differs from one of its values by no more than so many units in the last place.
CONSTANT = 4 * EPS
# An objective is as good as zero below this share of that of the best constant, for smooth losses and for others.
NEGLIGIBLE = (1e-20, 1e-10)
# A neuron whose price is below this share of the largest that any dual variable of that size gives has none.
ROUNDING = 1e-13


class Design:
    r"""The linear map from coefficients to predictions, z_i = sum_k sign_k D_ik x_i^T v_k.

    Written as z_i = x_i^T (D U)_i with U the signed coefficients summed over the blocks of a pattern, both the map and
    its adjoint are one matrix product with the 0/1 pattern matrix and one elementwise product with X.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    patterns : bool array of shape (n_patterns, n_samples)
        One activation pattern a row.
    pattern, sign, output : arrays of shape (n_blocks,)
        Pattern index, sign (+1 or -1) and output index of each block; no two blocks agree in all three.
    n_outputs : int, default=1
        With 1, predictions have shape (n_samples,), else (n_samples, n_outputs).

    Examples
    --------
    >>> import numpy as np
    >>> design = Design(np.array([[2.0], [3.0]]), np.array([[True, False]]), [0], [-1.0], [0])
    >>> design @ np.array([[10.0]])
    array([-20.,   0.])
    """

    def __init__(self, X, patterns, pattern, sign, output, n_outputs: int = 1):
        self.X = X
        self.patterns = patterns
        self.pattern = np.asarray(pattern, dtype=np.intp)
        self.sign = np.asarray(sign, dtype=float)
        self.output = np.asarray(output, dtype=np.intp)
        self.n_outputs = n_outputs
        self._plus, self._minus = self.sign > 0, self.sign < 0
        self._squared_norm: tuple[Any, float] = (None, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the coefficients: (n_blocks, n_features)."""
        return len(self.pattern), self.X.shape[1]

    @cached_property
    def _chunks(self) -> list[tuple[slice, NDArray]]:
        n_patterns, n_samples = self.patterns.shape
        if self.patterns.size * 8 <= FLOAT_PATTERNS_BYTES:
            return [(slice(0, n_patterns), self.patterns.astype(float))]
        size = max(1, 2_000_000 // n_samples)
        cuts = range(0, n_patterns, size)
        return [(slice(start, start + size), self.patterns[start : start + size]) for start in cuts]

    def __matmul__(self, V: NDArray) -> NDArray:
        n, d = self.X.shape
        check()
        U = np.zeros((len(self.patterns), self.n_outputs, d))
        U[self.pattern[self._plus], self.output[self._plus]] = V[self._plus]
        U[self.pattern[self._minus], self.output[self._minus]] -= V[self._minus]
        U = U.reshape(len(U), self.n_outputs * d)
        rows, D = self._chunks[0]
        total = D.astype(float, copy=False).T @ U[rows]
        for rows, D in self._chunks[1:]:
            check()
            total += D.astype(float).T @ U[rows]
        if self.n_outputs == 1:
            return np.einsum("nd,nd->n", total, self.X)
        return np.einsum("ncd,nd->nc", total.reshape(n, self.n_outputs, d), self.X)

    def adjoint(self, r: NDArray) -> NDArray:
        """A_k^T r for every block, shape (n_blocks, n_features); r has the shape of the predictions."""
        n, d = self.X.shape
        M = (r.reshape(n, self.n_outputs, 1) * self.X[:, None, :]).reshape(n, self.n_outputs * d)
        parts = []
        for _, D in self._chunks:
            check()
            parts.append(D.astype(float, copy=False) @ M)
        G = np.concatenate(parts)
        return self.sign[:, None] * G.reshape(-1, self.n_outputs, d)[self.pattern, self.output]

    def restrict(self, blocks: NDArray) -> Design:
        """The map on some of the blocks; patterns that none of them uses are dropped."""
        used, pattern = np.unique(self.pattern[blocks], return_inverse=True)
        part = Design(self.X, self.patterns[used], pattern, self.sign[blocks], self.output[blocks], self.n_outputs)
        # A bound for the part too.
        part._squared_norm = self._squared_norm
        return part

    def squared_norm(self, weights: NDArray) -> float:
        """Largest eigenvalue of A^T diag(weights) A, from below, by the power method; kept for the same weights."""
        if not len(self.pattern):
            return 0.0
        given, known = weights, self._squared_norm
        if known[0] is given:
            return known[1]
        V = np.random.default_rng(0).standard_normal(self.shape)
        weights = weights if self.n_outputs == 1 else weights[:, None]
        value = 0.0
        for _ in range(200):
            V /= np.linalg.norm(V) or 1.0
            V = self.adjoint(weights * (self @ V))
            value, before = float(np.linalg.norm(V)), value
            if value <= before * (1 + 1e-5):
                break
        self._squared_norm = (given, value)
        return value


def free_columns(n_samples: int, fit_intercept: bool, skip: NDArray | None) -> NDArray:
    """Orthogonal columns of mean square 1 that span the unpenalised terms.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    fit_intercept : bool
        Whether a constant is among them.
    skip : array of shape (n_samples, n_skip) or None
        Features of an unpenalised linear term.

    Returns
    -------
    free : array of shape (n_samples, n_free)
        Linearly dependent features are counted once.
    """
    ones = np.ones((n_samples, int(fit_intercept)))
    if skip is None:
        return ones
    unit, _ = spread_out(skip, fit_intercept, np.ones(n_samples))
    U, singular, _ = np.linalg.svd(unit, full_matrices=False)
    span = np.column_stack([ones, U[:, singular > dependent(unit) * singular.max(initial=0.0)]])
    # A centred feature has rounding errors along the ones, which small singular values magnify.
    return np.linalg.qr(span)[0] * np.sqrt(n_samples)


def dependent(unit: NDArray) -> float:
    """The share of the largest singular value of features at unit spread below which one is rounding."""
    return DEPENDENT * EPS * float(np.sqrt(max(unit.size, 1)))


def spread_out(skip: NDArray, fit_intercept: bool, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Features at unit spread, zero for a constant one beside an intercept, and what they were divided by."""
    size = np.abs(skip).max(axis=0, initial=0.0)
    if fit_intercept:
        # The differences to one of the values are exact where a feature is far from zero.
        mean = weights @ skip / weights.sum()
        skip = skip - skip[np.abs(skip - mean).argmin(axis=0), np.arange(skip.shape[1])]
    constant = np.abs(skip).max(axis=0, initial=0.0) <= CONSTANT * size
    centred = skip - weights @ skip / weights.sum() if fit_intercept else skip
    lengths = np.where(constant, np.inf, np.sqrt(weights @ centred**2))
    return centred / lengths, lengths


@dataclass(frozen=True, eq=False)
class Problem:
    """One convex program: data, loss, penalty, alpha.

    Parameters
    ----------
    design : Design
        The linear map.
    y : array of shape (n_samples,)
        Targets in the loss's coding (``loss.check_target``).
    loss : Loss
        See convexnn.losses.
    penalty : Penalty
        See convexnn.penalties.
    alpha : float
        Loss per unit of block norm.
    sample_weight : array of shape (n_samples,)
        Positive weights.
    fit_intercept : bool
        Whether an unpenalised constant (one for each output) is added to the predictions. It never appears among a
        solver's unknowns: the loss is minimised over it exactly, and the result is again smooth in z, with no larger
        Lipschitz constant.
    skip : array of shape (n_samples, n_skip), optional
        Features of an unpenalised linear term, treated like the constant. "Intercept" stands for the sum of both: a
        number for each output without ``skip``, an array of the shape of the predictions with it.
    """

    design: Design
    y: NDArray
    loss: Loss
    penalty: Penalty
    alpha: float
    sample_weight: NDArray
    fit_intercept: bool = True
    skip: NDArray | None = None

    @cached_property
    def free(self) -> NDArray:
        """Orthogonal columns of mean square 1 that span the unpenalised terms, shape (n_samples, n_free)."""
        return free_columns(len(self.y), self.fit_intercept, self.skip)

    @cached_property
    def negligible(self) -> float:
        """Rounding: an objective no larger than this is as good as zero, where no relative gap can be reached.

        A linear term can interpolate, or push a loss towards an infimum of zero that it never reaches. What is rounding
        is measured against the best constant, so that neither units nor an offset of the targets matter.
        """
        if self.skip is None:
            return 0.0
        zero = np.zeros(len(self.y) if self.design.n_outputs == 1 else (len(self.y), self.design.n_outputs))
        constant = replace(self, skip=None).best_intercept(zero)
        return NEGLIGIBLE[0 if self.smooth else 1] * self.loss_value(zero + constant)

    @property
    def smooth(self) -> bool:
        """Whether the loss has a Lipschitz gradient."""
        return bool(np.isfinite(self.loss.lipschitz))

    def loss_value(self, z: NDArray) -> float:
        """sum_i s_i l(y_i, z_i)."""
        return float(self.sample_weight @ self.loss.value(self.y, z))

    def gradient(self, z: NDArray) -> NDArray:
        """Gradient of loss_value, the shape of z."""
        g = self.loss.gradient(self.y, z)
        return self.sample_weight.reshape((-1,) + (1,) * (g.ndim - 1)) * g

    def objective(self, coef: NDArray, intercept: NDArray | float) -> float:
        """Value of the program at coefficients (n_blocks, n_features) and intercept."""
        return self.loss_value(self.design @ coef + intercept) + self.alpha * self.penalty.value(coef)

    def best_intercept(self, z: NDArray, start: NDArray | float = 0.0) -> NDArray | float:
        """The constant that minimises the loss of z + constant, with ``skip`` the best constant plus linear term.

        Newton's method: safeguarded by a bracket for one number, by a line search for several; for losses with kinks,
        which all lie at y - z, a search over the kinks or a linear program. 0 where nothing is free.
        """
        if self.skip is not None:
            return self._best_combination(z, start) if self.smooth else self._best_linear_program(z)[0]
        if not self.fit_intercept:
            return 0.0
        if z.ndim > 1:
            return self._best_intercepts(z, start)
        if not self.smooth:
            return self._best_kink(z)
        c, low, high = float(start), -np.inf, np.inf
        reach = 1.0 + float(np.ptp(z)) + float(np.ptp(self.y))
        for _ in range(200):
            g = self.gradient(z + c)
            slope = g.sum()
            if abs(slope) <= 1e-14 * np.abs(g).sum():
                break
            low, high = (low, c) if slope > 0 else (c, high)
            curvature = self.sample_weight @ self.loss.hessian(self.y, z + c)
            trial = c - (slope / curvature if abs(slope) < reach * curvature else np.sign(slope) * reach)
            if not low < trial < high:
                trial = 0.5 * (low + high)
            if trial == c or not low < trial < high:
                break
            # Steps may double while no bracket is known, so that a far start is left in logarithmic time.
            reach = max(reach, 2 * abs(trial - c))
            c = float(trial)
        return c

    def _best_intercepts(self, z, start):
        c = np.zeros(z.shape[1]) + start
        value = self.loss_value(z + c)
        total = self.loss.lipschitz * self.sample_weight.sum()
        for _ in range(100):
            slope = self.gradient(z + c).sum(axis=0)
            curvatures, axes = np.linalg.eigh(
                np.tensordot(self.sample_weight, self.loss.hessian(self.y, z + c), axes=1)
            )
            # Where predictions are confident the Hessian vanishes, though the slope need not. But rounding is no slope.
            along = axes.T @ slope
            along *= np.abs(along) > 1e-14 * total
            step = -axes @ (along / np.maximum(curvatures, 1e-10 * total))
            decrease = -float(slope @ step)
            if decrease <= 1e-13 * abs(value):
                # Newton's method is quadratic here: what is left after this step is below rounding.
                return c + step
            # Far from the minimum the Hessian vanishes and Newton's step is much too long.
            t = min(1.0, 4.0 / np.abs(step).max())
            trial = self.loss_value(z + c + t * step)
            while trial > value - 1e-4 * t * decrease and t > 1e-4:
                t *= 0.5
                trial = self.loss_value(z + c + t * step)
            if trial >= value:
                return c
            c, value = c + t * step, trial
        return c

    def _best_combination(self, z, start):
        """Newton's method over combinations of the free columns, with a line search that is nearly exact."""
        n, m, C = *self.free.shape, self.design.n_outputs
        gram = (self.free.T * (self.sample_weight / self.sample_weight.sum())) @ self.free
        c = np.zeros_like(z) + start
        value = self.loss_value(z + c)
        for _ in range(200):
            check()
            g = self.gradient(z + c).reshape(n, C)
            slope = self.free.T @ g
            if value <= self.negligible or np.all(np.abs(slope) <= 1e-15 * (np.abs(self.free).T @ np.abs(g))):
                break
            h = self.loss.hessian(self.y, z + c).reshape(n, C, C) * self.sample_weight[:, None, None]
            hessian = np.block([[(self.free.T * h[:, o, p]) @ self.free for p in range(C)] for o in range(C)])
            # Samples on a linear part of the loss have no curvature: the ridge turns their slope into a long step. It
            # leaves alone what a loss of several outputs does not see, a shift of all of them.
            ridge = 1e-10 * max(np.einsum("noo->", h), 1e-30) * (np.eye(C) - (C > 1) / C)
            step = -np.linalg.lstsq(hessian + np.kron(ridge, gram), slope.T.ravel(), rcond=1e-14)[0]
            move = (self.free @ step.reshape(C, m).T).reshape(z.shape)
            decrease = -float(step @ slope.T.ravel())
            if decrease <= 1e-13 * value:
                # Newton's method is quadratic here: what is left after this step is below rounding.
                return c + move if self.loss_value(z + c + move) <= value * (1 + 1e-12) else c
            t, low, high = 1.0, 0.0, np.inf
            for _ in range(100):
                trial = self.loss_value(z + c + t * move)
                rise = float(np.vdot(self.gradient(z + c + t * move), move))
                if abs(rise) <= 0.5 * decrease and trial < value:
                    break
                low, high = (t, high) if rise < 0 else (low, t)
                t = 2 * t if high == np.inf else 0.5 * (low + high) if low > 0 else 0.25 * high
            if trial >= value:
                break
            c, value = c + t * move, trial
        return c

    def _best_linear_program(self, z):
        """The best combination of the free columns for a loss of two lines that meet at zero, and its theta.

        With residual y - z = free @ b - above + below, above and below >= 0, and the slopes of the two lines as costs.
        """
        n, m = self.free.shape
        residual = self.y - z
        scale = np.abs(residual).max(initial=0.0) or 1.0
        slopes = np.concatenate([np.zeros(m), self.gradient(self.y + 1.0), -self.gradient(self.y - 1.0)])
        equal = hstack([self.free, -eye_array(n), eye_array(n)])
        bounds = [(None, None)] * m + [(0, None)] * (2 * n)
        found = linprog(slopes, A_eq=equal, b_eq=residual / scale, bounds=bounds, method="highs")
        if found.x is None:
            # Columns that rounding has spoilt: the best constant alone, of which theta says nothing.
            return np.full(n, replace(self, skip=None).best_intercept(z)), np.zeros(n)
        # Rounding may leave the dual variable outside its bounds, where there is no conjugate.
        theta = np.clip(found.eqlin.marginals, -slopes[m : m + n], slopes[m + n :])
        return self.free @ found.x[:m] * scale, theta

    def free_weights(self, intercept: NDArray | float) -> tuple[NDArray | None, NDArray | float]:
        """Weights of the linear term, (n_skip,) or (n_skip, n_outputs), and the constant, of an intercept.

        The smallest weights for features of unit spread, where features are dependent; None without ``skip``.
        """
        if self.skip is None:
            return None, intercept
        unit, lengths = spread_out(self.skip, self.fit_intercept, self.sample_weight)
        root = np.sqrt(self.sample_weight)
        weights = np.linalg.lstsq(root[:, None] * unit, (root * np.transpose(intercept)).T, rcond=dependent(unit))[0]
        weights = (weights.T / lengths).T
        if not self.fit_intercept:
            return weights, 0.0
        constant = np.mean(intercept - self.skip @ weights, axis=0)
        return weights, constant if self.design.n_outputs > 1 else float(constant)

    def _best_kink(self, z):
        kinks = np.unique(self.y - z)
        between = np.concatenate([0.5 * (kinks[1:] + kinks[:-1]), [kinks[-1] + 1.0]])
        low, high = 0, len(kinks) - 1
        while low < high:
            middle = (low + high) // 2
            if self.gradient(z + between[middle]).sum() >= 0:
                high = middle
            else:
                low = middle + 1
        return float(kinks[low])

    @cached_property
    def null_model(self) -> tuple[NDArray | float, NDArray]:
        """The best prediction without neurons, and its dual variable theta (n_samples,) or (n_samples, n_outputs).

        For a loss with kinks theta balances the rows at the kink evenly so that it sums to zero.
        """
        z = np.zeros(len(self.y) if self.design.n_outputs == 1 else (len(self.y), self.design.n_outputs))
        if self.skip is not None and not self.smooth:
            c, theta = self._best_linear_program(z)
        else:
            c = self.best_intercept(z)
            theta = -self.gradient(z + c)
        if self.skip is not None:
            # What a perfect fit leaves is rounding, and nothing that neurons should explain.
            theta = theta if self.loss_value(z + c) > self.negligible else np.zeros_like(theta)
        elif self.fit_intercept and not self.smooth:
            nudge = 1e-9 * (1.0 + float(np.ptp(self.y)))
            below, above = -self.gradient(z + c - nudge), -self.gradient(z + c + nudge)
            span = (below - above).sum()
            share = np.clip(below.sum() / span, 0.0, 1.0) if span > 0 else 0.5
            theta = below + share * (above - below)
        return c, theta

    @cached_property
    def alpha_max(self) -> float:
        """Smallest alpha for which all coefficients are zero, over the listed patterns.

        Exact when theta of the null model is unique: always for a smooth loss; for a loss with kinks it is an upper
        bound otherwise.
        """
        theta = self.null_model[1]
        value = self.penalty.dual_norm(self.design.adjoint(theta))
        # A neuron that is active everywhere may correlate with theta by rounding alone.
        return value if value > self.price_rounding(theta) else 0.0

    def price_rounding(self, theta: NDArray) -> float:
        """What rounding errors may make of the price of a neuron that has none."""
        return ROUNDING * float((np.linalg.norm(self.design.X, axis=1) @ np.abs(theta)).max(initial=0.0))

    def dual_value(self, theta: NDArray) -> float:
        """-sum_i (s_i l)^*(-theta_i): a lower bound on the program where theta is feasible, -inf outside the domain."""
        s = self.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        return -float(self.sample_weight @ self.loss.conjugate(self.y, -theta / s))

    def dual_bound(
        self, theta: NDArray, correlations: NDArray | None = None, warm: Any = None
    ) -> tuple[float, NDArray]:
        """The best lower bound that a guess of the dual variable gives after it is made feasible.

        The guess is made orthogonal to the free columns, scaled until no listed block correlates with it by more than
        alpha, and, should rounding have left it outside the domain of the conjugate, mixed with the interior dual
        point of the null model.

        Parameters
        ----------
        theta : array, shape of the predictions
            Usually minus the gradient of the loss.
        correlations : array of shape (n_blocks, n_features), optional
            ``design.adjoint(theta)``, when it is known already; used only if theta is orthogonal to the free columns.
        warm : optional
            Warm start that the penalty's prox returned.

        Returns
        -------
        bound : float
            -inf when no feasible point was found.
        theta : array
            The feasible point that gives it.
        """
        guess, rounding = theta, False
        if self.free.shape[1]:
            shift = theta.mean(axis=0) if self.skip is None else theta - self._balanced(theta)
            theta = theta - shift
            rounding = bool(np.abs(shift).max() <= 1e-12 * np.abs(theta).max(initial=0.0))
            if not rounding:
                correlations = None
        if correlations is None:
            correlations = self.design.adjoint(theta)
        price = self.penalty.dual_norm(correlations, self.alpha, warm)
        theta = theta * (self.alpha / price)
        bound = self.dual_value(theta)
        if rounding and not np.isfinite(bound):
            # A shift by rounding takes what lies on the edge of the domain outside.
            theta = guess * (self.alpha / price)
            bound = self.dual_value(theta)
        for share in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6):
            if np.isfinite(bound):
                break
            anchor = self.null_model[1] * (self.alpha / max(self.alpha, self.alpha_max))
            mixed = (1 - share) * theta + share * anchor
            bound, theta = (value, mixed) if np.isfinite(value := self.dual_value(mixed)) else (bound, theta)
        if self.skip is not None and not bound >= 0.0:
            # No loss here falls below zero, and zero is feasible.
            theta = np.zeros_like(theta)
            bound = self.dual_value(theta)
        return bound, theta

    def may_be_active(self, theta: NDArray, gap: float) -> NDArray[np.bool_]:
        r"""Blocks that the duality gap does not exclude from every solution (gap-safe screening).

        The dual function is strongly concave, with modulus 1 / (L s_i) for sample i: its maximiser lies within
        r = sqrt(2 L gap) of theta, in the norm of theta_i / sqrt(s_i), and no price |P_k A_k^T theta| there is above
        that at theta by more than r times the largest singular value of the weighted data.

        Parameters
        ----------
        theta : array, shape of the predictions
            A feasible dual point.
        gap : float
            Its distance to the objective of any point.

        Returns
        -------
        keep : bool array of shape (n_blocks,)
            All True for a loss with kinks, and where biases are outside the norm.

        References
        ----------
        .. [1] E. Ndiaye, O. Fercoq, A. Gramfort, J. Salmon, Gap safe screening rules for sparsity enforcing penalties,
           JMLR 18 (2017), section 3.
        """
        if not self.smooth or self.penalty.free_bias:
            return np.ones(self.design.shape[0], dtype=bool)
        check(4.0 * self.design.X.size * min(self.design.X.shape))
        size = np.linalg.norm(np.sqrt(self.sample_weight)[:, None] * self.design.X, 2)
        reach = np.sqrt(2 * self.loss.lipschitz * gap) * size
        threshold = (1 - 1e-9) * self.alpha - reach
        if threshold <= 0:
            return np.ones(self.design.shape[0], dtype=bool)
        return np.asarray(self.penalty.prox(self.design.adjoint(theta), threshold)[0].any(axis=1))

    def _balanced(self, theta):
        """theta made orthogonal to the free columns: by projection, or, where that leaves the domain of the conjugate,
        by a correction that leaves samples at the edge of the domain where they are.

        Where a linear term separates classes theta tends to zero, which is on the edge too: what is left is removed.
        """
        n, m, C = *self.free.shape, self.design.n_outputs
        projected = theta - (self.free @ (self.free.T @ theta)) / n
        if np.isfinite(self.dual_value(projected)):
            return projected
        weights = self.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        size = np.abs(theta / weights).max()
        for room in (1e-9, 1e-7, 1e-5, 1e-3):
            trial = np.where(np.abs(theta) > room * size * weights, theta, 0.0)
            if not self.smooth:
                # A solver's theta may lie outside the domain, which holds zero.
                trial *= 1 - 0.5 * room
            if C == 1:
                ends = [self.loss.conjugate(self.y, -trial / weights + h) for h in (room * size, -room * size)]
                metric = (self.sample_weight * np.isfinite(ends).all(axis=0)).reshape(n, 1, 1)
            else:
                # Rows keep their sum of zero, and entries near zero move in proportion.
                largest = np.arange(n), np.argmax(np.abs(trial), axis=1)
                trial[largest] -= trial.sum(axis=1)
                p = np.abs(trial)
                metric = p[:, :, None] * (np.eye(C) - (p / np.maximum(p.sum(axis=1, keepdims=True), 1e-300))[:, None])
            gram = np.block([[(self.free.T * metric[:, o, q]) @ self.free for q in range(C)] for o in range(C)])
            root = np.sqrt(np.maximum(np.diag(gram), 1e-300))
            for _ in range(3):
                slope = (self.free.T @ trial.reshape(n, C)).T.ravel()
                step = np.linalg.lstsq(gram / np.outer(root, root), slope / root, rcond=1e-12)[0] / root
                shift = np.einsum("noq,nq->no", metric, self.free @ step.reshape(C, m).T)
                trial = trial - shift.reshape(trial.shape)
            left = np.abs(self.free.T @ trial).max(initial=0.0)
            if left <= 1e-12 * np.abs(theta).sum() and np.isfinite(self.dual_value(trial)):
                return trial
        return projected

    def restrict(self, blocks: NDArray) -> Problem:
        """The program over some of the blocks."""
        return Problem(
            self.design.restrict(blocks),
            self.y,
            self.loss,
            self.penalty.restrict(blocks),
            self.alpha,
            self.sample_weight,
            self.fit_intercept,
            self.skip,
        )
