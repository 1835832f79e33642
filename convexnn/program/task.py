"""Task: a training problem but for its alpha and its list of patterns, and what holds whatever they are.

minimise over networks f   sum_i s_i l(y_i, f(x_i) + c) + alpha (norms of the neurons),   c unpenalised
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import eye_array, hstack

from convexnn.arrangements import check_data
from convexnn.budget import check
from convexnn.losses import Loss, get_loss
from convexnn.neurons.neuron import Neuron
from convexnn.program.spans import orthonormal_basis

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
class Task:
    """A training problem: rows, targets, loss, kind of neuron, unpenalised terms.

    Attributes
    ----------
    rows : array of shape (n_samples, n_coordinates)
        What neurons see: the data, with a ones column where there are hidden biases.
    y : array of shape (n_samples,)
        Targets in the coding of the loss (``loss.check_target``).
    loss : Loss
        See convexnn.losses.
    sample_weight : array of shape (n_samples,)
        Positive weights.
    neuron : Neuron
        Activation, bias and norm of the hidden neurons.
    fit_intercept : bool
        Whether an unpenalised constant (one for each output) is added to the predictions. It never appears among a
        solver's unknowns: the loss is minimised over it exactly, and the result is again smooth in z, with no larger
        Lipschitz constant.
    skip : array of shape (n_samples, n_skip), optional
        Features of an unpenalised linear term, treated like the constant. "Intercept" stands for the sum of both: a
        number for each output without ``skip``, an array of the shape of the predictions with it.
    n_outputs : int
        Columns of the prediction; every neuron feeds one of them.
    """

    rows: NDArray
    y: NDArray
    loss: Loss
    sample_weight: NDArray
    neuron: Neuron
    fit_intercept: bool = True
    skip: NDArray | None = None
    n_outputs: int = 1

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        loss: str | Loss,
        sample_weight: ArrayLike | None,
        neuron: Neuron,
        *,
        fit_intercept: bool = True,
        skip_connection: bool = False,
        n_outputs: int = 1,
    ) -> Task:
        """The training problem of data as users have them; samples without weight are left out.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.
        y : array of shape (n_samples,)
            Targets in the coding of the loss: numbers, -1 / +1 (or 0 / 1), or class indices.
        loss : str or Loss
            A key of LOSSES or a loss object.
        sample_weight : array of shape (n_samples,) or None
            Non-negative factors of the losses; None for ones.
        neuron : Neuron
            Activation, bias and norm of the hidden neurons.
        fit_intercept, skip_connection : bool
            Whether there are an unpenalised constant and an unpenalised linear term.
        n_outputs : int, default=1
            Columns of the prediction.

        Returns
        -------
        task : Task

        Raises
        ------
        ValueError
            For data, targets or weights that are not usable: the message names the argument.
        """
        X, loss = check_data(X), get_loss(loss, n_outputs)
        weights = check_weights(sample_weight, len(X))
        if neuron.free_bias and not fit_intercept:
            raise ValueError(
                "hidden_bias='free' needs fit_intercept=True, got False: a neuron with zero weights and a free bias is "
                "a free constant."
            )
        if np.shape(y) != (len(X),):
            raise ValueError(f"y must have shape ({len(X)},) to match X, got {np.shape(y)}.")
        y = loss.check_target(np.asarray(y))
        if loss.target == "classes" and y.max() >= n_outputs:
            raise ValueError(f"y must be below {n_outputs}, the number of outputs, got {y.max()}.")
        keep = weights > 0
        X, y, weights = X[keep], y[keep], weights[keep]
        return cls(neuron.rows(X), y, loss, weights, neuron, fit_intercept, X if skip_connection else None, n_outputs)

    @property
    def X(self) -> NDArray:
        """The rows without a ones column, shape (n_samples, n_features)."""
        return self.rows[:, : self.rows.shape[1] - self.neuron.has_bias]

    @cached_property
    def merged(self) -> tuple[Task, NDArray[np.intp], NDArray[np.intp]]:
        """The task in which equal samples are one, so that neither repetitions nor the order of samples matter.

        Returns
        -------
        task : Task
            Of the distinct samples, in sorted order, each with the sum of the weights.
        first : int array of shape (n_distinct,)
            Where each distinct sample stands first.
        group : int array of shape (n_samples,)
            The distinct sample of each sample.
        """
        table = np.column_stack([self.rows, self.y])
        _, first, group = np.unique(table, axis=0, return_index=True, return_inverse=True)
        group = group.ravel()
        total, skip = np.bincount(group, self.sample_weight), None if self.skip is None else self.skip[first]
        task = replace(self, rows=self.rows[first], y=self.y[first], sample_weight=total, skip=skip)
        return task, first, group

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of predictions: (n_samples,) or (n_samples, n_outputs)."""
        return (len(self.y),) if self.n_outputs == 1 else (len(self.y), self.n_outputs)

    @cached_property
    def free(self) -> NDArray:
        """Orthogonal columns of mean square 1 that span the unpenalised terms, shape (n_samples, n_free)."""
        return free_columns(len(self.y), self.fit_intercept, self.skip)

    @cached_property
    def unpenalised(self) -> tuple[NDArray, NDArray]:
        """``orthonormal_basis`` of the unpenalised terms: what dual points must be orthogonal to."""
        return orthonormal_basis(self.rows[:, :0] if self.skip is None else self.skip, self.fit_intercept)

    @cached_property
    def negligible(self) -> float:
        """Rounding: an objective no larger than this is as good as zero, where no relative gap can be reached.

        A linear term can interpolate, or push a loss towards an infimum of zero that it never reaches. What is rounding
        is measured against the best constant, so that neither units nor an offset of the targets matter.
        """
        if self.skip is None:
            return 0.0
        zero = np.zeros(self.shape)
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
        n, m, C = *self.free.shape, self.n_outputs
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
        return weights, constant if self.n_outputs > 1 else float(constant)

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
        z = np.zeros(self.shape)
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

    def price_rounding(self, theta: NDArray) -> float:
        """What rounding errors may make of the price of a neuron that has none."""
        lengths = self.neuron.activation.steepest * np.linalg.norm(self.rows, axis=1)
        return ROUNDING * float((lengths @ np.abs(theta)).max(initial=0.0))

    def dual_value(self, theta: NDArray) -> float:
        """-sum_i (s_i l)^*(-theta_i): a lower bound on the program where theta is feasible, -inf outside the domain."""
        s = self.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        return -float(self.sample_weight @ self.loss.conjugate(self.y, -theta / s))

    def balanced(self, theta):
        """theta made orthogonal to the free columns: by projection, or, where that leaves the domain of the conjugate,
        by a correction that leaves samples at the edge of the domain where they are.

        Where a linear term separates classes theta tends to zero, which is on the edge too: what is left is removed.
        """
        n, m, C = *self.free.shape, self.n_outputs
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


def check_weights(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64]:
    """The weights of samples as a vector of floats.

    Parameters
    ----------
    sample_weight : array of shape (n_samples,), float or None
        One for each sample, one for all, or ones.
    n_samples : int
        Number of samples.

    Returns
    -------
    weights : array of shape (n_samples,)

    Raises
    ------
    ValueError
        When they are not numbers, of another shape, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    try:
        weights = np.asarray(sample_weight, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight must be numeric of shape ({n_samples},): {error}") from None
    if weights.ndim == 0:
        weights = np.full(n_samples, float(weights))
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},), got {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"sample_weight must be finite and non-negative, got a smallest value of {weights.min()}.")
    if not weights.any():
        raise ValueError("sample_weight must be positive for at least one sample, got only zeros.")
    return weights
