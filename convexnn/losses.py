"""Losses l(y, z) of a target y and a prediction z, one class each, and the dictionary LOSSES.

A loss sees predictions, never the data, and returns one value a sample: sums and sample weights belong to the problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, xlogy


class Loss(Protocol):
    """What the rest of the package asks of a loss. ``n`` samples, ``C`` outputs; z has shape (n,) or (n, C)."""

    name: ClassVar[str]
    #: "real", "signs" (-1 and +1) or "classes" (0 .. C - 1).
    target: ClassVar[str]
    #: Largest eigenvalue of the Hessian of one sample; inf marks a loss without a gradient everywhere.
    lipschitz: ClassVar[float]

    def check_target(self, y: ArrayLike) -> NDArray:
        """y in the coding that the other methods expect; ValueError when it cannot be had."""

    def value(self, y: NDArray, z: NDArray) -> NDArray:
        """Loss of each sample, shape (n,)."""

    def gradient(self, y: NDArray, z: NDArray) -> NDArray:
        """Derivative in z, the shape of z; the middle of the subdifferential where there is a kink."""

    def hessian(self, y: NDArray, z: NDArray) -> NDArray:
        """Second derivative in z, shape (n,) or (n, C, C); a generalised one where the gradient has a kink."""

    def conjugate(self, y: NDArray, t: NDArray) -> NDArray:
        """sup over z of t . z - l(y, z), shape (n,); inf outside its domain."""

    def cvxpy(self, y: NDArray, z: Any) -> Any:
        """The losses as a convex cvxpy expression of length n."""

    # A loss that is a function of y - z alone may have one more method, ``in_units(unit)``: the loss l' and the factor
    # f with l(unit y, unit z) = f l'(y, z). Fits then depend neither on the units of y nor on an offset.


def _real_target(y: ArrayLike) -> NDArray:
    try:
        y = np.asarray(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"y must be a numeric vector of shape (n_samples,): {error}") from None
    if y.ndim != 1 or not np.isfinite(y).all():
        raise ValueError(f"y must be a finite vector of shape (n_samples,), got shape {y.shape} or NaN or infinity.")
    return y


def _sign_target(y: ArrayLike) -> NDArray:
    y = _real_target(y)
    found = set(np.unique(y))
    if found <= {-1.0, 1.0}:
        return y
    if found <= {0.0, 1.0}:
        return 2 * y - 1
    raise ValueError(f"y must hold -1 and +1 (or 0 and 1) for this loss, got {sorted(found)[:5]}.")


@dataclass(frozen=True)
class Squared:
    """l = (y - z)^2 / 2.

    Examples
    --------
    >>> import numpy as np
    >>> Squared().value(np.array([1.0]), np.array([3.0]))
    array([2.])
    """

    name: ClassVar[str] = "squared"
    target: ClassVar[str] = "real"
    lipschitz: ClassVar[float] = 1.0

    def check_target(self, y):
        return _real_target(y)

    def value(self, y, z):
        return 0.5 * (y - z) ** 2

    def gradient(self, y, z):
        return z - y

    def hessian(self, y, z):
        return np.ones_like(z)

    def conjugate(self, y, t):
        return t * (0.5 * t + y)

    def in_units(self, unit):
        return self, unit**2

    def cvxpy(self, y, z):
        import cvxpy as cp

        return 0.5 * cp.square(z - y)


@dataclass(frozen=True)
class Huber:
    """l = r^2 / 2 for |r| = |y - z| <= delta, and delta (|r| - delta / 2) beyond.

    Parameters
    ----------
    delta : float, default=1.35
        Residual, in units of y, beyond which the loss is linear; 1.35 standard deviations of the noise keep 95 %
        efficiency under normal noise (Huber, Robust Statistics, 1981, section 4.5).
    """

    delta: float = 1.35
    name: ClassVar[str] = "huber"
    target: ClassVar[str] = "real"
    lipschitz: ClassVar[float] = 1.0

    def __post_init__(self):
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"delta must be positive and finite, got {self.delta!r}.")

    def check_target(self, y):
        return _real_target(y)

    def value(self, y, z):
        r = np.abs(y - z)
        m = np.minimum(r, self.delta)
        return m * (r - 0.5 * m)

    def gradient(self, y, z):
        return np.clip(z - y, -self.delta, self.delta)

    def hessian(self, y, z):
        return (np.abs(y - z) <= self.delta).astype(float)

    def conjugate(self, y, t):
        # (s delta) / s may be larger than delta by rounding.
        return np.where(np.abs(t) <= self.delta * (1 + 1e-15), t * (0.5 * t + y), inf)

    def in_units(self, unit):
        return Huber(self.delta / unit), unit**2

    def cvxpy(self, y, z):
        import cvxpy as cp

        return 0.5 * cp.huber(z - y, M=self.delta)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LogLoss:
    """l = log(1 + exp(-y z)) for y in {-1, +1}: the negative log-likelihood of two classes."""

    name: ClassVar[str] = "log_loss"
    target: ClassVar[str] = "signs"
    lipschitz: ClassVar[float] = 0.25

    def check_target(self, y):
        return _sign_target(y)

    def value(self, y, z):
        return np.logaddexp(0.0, -y * z)

    def gradient(self, y, z):
        return -y * expit(-y * z)

    def hessian(self, y, z):
        return expit(z) * expit(-z)

    def conjugate(self, y, t):
        p = -y * t
        with np.errstate(invalid="ignore"):
            return np.where((p >= 0) & (p <= 1), xlogy(p, p) + xlogy(1 - p, 1 - p), inf)

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.logistic(cp.multiply(-y, z))


def _softmax(z: NDArray) -> NDArray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class MultinomialLogLoss:
    """l = logsumexp(z) - z[y] for y in {0, ..., C - 1} and z of length C: the softmax cross-entropy."""

    name: ClassVar[str] = "multinomial_log_loss"
    target: ClassVar[str] = "classes"
    lipschitz: ClassVar[float] = 0.5

    def check_target(self, y):
        y = _real_target(y)
        if np.any(y < 0) or np.any(y != np.floor(y)):
            raise ValueError(f"y must hold class indices 0 .. n_classes - 1 for this loss, got {np.unique(y)[:5]}.")
        return y.astype(int)

    def value(self, y, z):
        # Differences first: the loss of a confident prediction keeps its relative accuracy.
        return np.logaddexp.reduce(z - z[np.arange(len(y)), y][:, None], axis=1)

    def gradient(self, y, z):
        p, own = _softmax(z), (np.arange(len(y)), y)
        chosen = p[own]
        p[own] = 0.0
        # p_y - 1 would lose the small differences of confident predictions.
        p[own] = np.where(chosen > 0.5, -p.sum(axis=1), chosen - 1.0)
        return p

    def hessian(self, y, z):
        p, own = _softmax(z), (np.arange(len(y)), y)
        H = p[:, :, None] * (np.eye(z.shape[1]) - p[:, None, :])
        H[own[0], y, y] = p[own] * -self.gradient(y, z)[own]
        return H

    def conjugate(self, y, t):
        # The domain is the simplex minus the unit vector of the class; sums are compared at rounding accuracy.
        p = t.copy()
        p[np.arange(len(y)), y] += 1
        inside = (p.min(axis=1) >= 0) & (np.abs(p.sum(axis=1) - 1) <= 1e-13 * p.shape[1])
        with np.errstate(invalid="ignore"):
            return np.where(inside, xlogy(p, p).sum(axis=1), inf)

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.log_sum_exp(z, axis=1) - cp.sum(cp.multiply(np.eye(z.shape[1])[y], z), axis=1)


@dataclass(frozen=True)
class SquaredHinge:
    """l = max(0, 1 - y z)^2 for y in {-1, +1}."""

    name: ClassVar[str] = "squared_hinge"
    target: ClassVar[str] = "signs"
    lipschitz: ClassVar[float] = 2.0

    def check_target(self, y):
        return _sign_target(y)

    def value(self, y, z):
        return np.maximum(0.0, 1 - y * z) ** 2

    def gradient(self, y, z):
        return -2 * y * np.maximum(0.0, 1 - y * z)

    def hessian(self, y, z):
        return 2.0 * (y * z < 1)

    def conjugate(self, y, t):
        p = y * t
        return np.where(p <= 0, p + 0.25 * p**2, inf)

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.square(cp.pos(1 - cp.multiply(y, z)))


@dataclass(frozen=True)
class Hinge:
    """l = max(0, 1 - y z) for y in {-1, +1}."""

    name: ClassVar[str] = "hinge"
    target: ClassVar[str] = "signs"
    lipschitz: ClassVar[float] = inf

    def check_target(self, y):
        return _sign_target(y)

    def value(self, y, z):
        return np.maximum(0.0, 1 - y * z)

    def gradient(self, y, z):
        return -0.5 * y * (1 + np.sign(1 - y * z))

    def hessian(self, y, z):
        return np.zeros_like(z)

    def conjugate(self, y, t):
        p = y * t
        return np.where((p <= 0) & (p >= -1), p, inf)

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.pos(1 - cp.multiply(y, z))


@dataclass(frozen=True)
class Quantile:
    """l = q (y - z)_+ + (1 - q) (z - y)_+: its minimiser is the q-quantile (Koenker & Bassett, 1978).

    Parameters
    ----------
    q : float, default=0.5
        Level, strictly between 0 and 1; 0.5 is half the absolute loss.
    """

    q: float = 0.5
    name: ClassVar[str] = "quantile"
    target: ClassVar[str] = "real"
    lipschitz: ClassVar[float] = inf

    def __post_init__(self):
        if not 0 < self.q < 1:
            raise ValueError(f"q must be strictly between 0 and 1, got {self.q!r}.")

    def check_target(self, y):
        return _real_target(y)

    def value(self, y, z):
        return np.maximum(self.q * (y - z), (1 - self.q) * (z - y))

    def gradient(self, y, z):
        return 0.5 * np.sign(z - y) + 0.5 - self.q

    def hessian(self, y, z):
        return np.zeros_like(z)

    def conjugate(self, y, t):
        # (s q) / s may be larger than q by rounding.
        inside = (t >= -self.q * (1 + 1e-15)) & (t <= (1 - self.q) * (1 + 1e-15))
        return np.where(inside, t * y, inf)

    def in_units(self, unit):
        return self, unit

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.maximum(self.q * (y - z), (1 - self.q) * (z - y))


@dataclass(frozen=True)
class Absolute:
    """l = |y - z|."""

    name: ClassVar[str] = "absolute"
    target: ClassVar[str] = "real"
    lipschitz: ClassVar[float] = inf

    def check_target(self, y):
        return _real_target(y)

    def value(self, y, z):
        return np.abs(y - z)

    def gradient(self, y, z):
        return np.sign(z - y)

    def hessian(self, y, z):
        return np.zeros_like(z)

    def conjugate(self, y, t):
        return np.where(np.abs(t) <= 1, t * y, inf)

    def in_units(self, unit):
        return self, unit

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.abs(z - y)


#: Every loss by name. A class listed here is an option of the estimators and under test.
LOSSES: dict[str, Any] = {
    loss.name: loss for loss in (Squared, Huber, LogLoss, MultinomialLogLoss, SquaredHinge, Hinge, Absolute, Quantile)
}


def get_loss(loss: str | Loss, n_outputs: int = 1) -> Loss:
    """The loss of that name, or the loss itself; "log_loss" with several outputs is the multinomial one.

    Parameters
    ----------
    loss : str or Loss
        A key of LOSSES, or an object such as ``Huber(delta=0.5)``.
    n_outputs : int, default=1
        Columns of the prediction.

    Returns
    -------
    loss : Loss
        An instance.

    Raises
    ------
    ValueError
        When the name is unknown: the message lists the names.
    """
    if not isinstance(loss, str):
        if hasattr(loss, "conjugate") and hasattr(loss, "lipschitz") and not isinstance(loss, type):
            return loss
        raise ValueError(f"loss must be one of {sorted(LOSSES)} or an instance of a loss, got {loss!r}.")
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)}, got {loss!r}.")
    if loss == "log_loss" and n_outputs > 1:
        return MultinomialLogLoss()
    return LOSSES[loss]()
