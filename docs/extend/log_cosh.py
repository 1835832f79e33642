"""The loss that docs/extend/loss.md writes: log cosh, a smooth relative of the absolute loss."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from scipy.special import xlogy

from convexnn.losses import Squared


@dataclass(frozen=True)
class LogCosh:
    """l = log cosh(y - z): about (y - z)^2 / 2 near zero, about |y - z| - log 2 far from it."""

    name: ClassVar[str] = "log_cosh"
    target: ClassVar[str] = "real"
    lipschitz: ClassVar[float] = 1.0

    def check_target(self, y):
        return Squared().check_target(y)

    def value(self, y, z):
        r = np.abs(y - z)
        return r + np.log1p(np.expm1(-2 * r) / 2)

    def gradient(self, y, z):
        return np.tanh(z - y)

    def hessian(self, y, z):
        return 1 - np.tanh(z - y) ** 2

    def conjugate(self, y, t):
        # sup over r of t r - log cosh r is attained at r = artanh t.
        with np.errstate(invalid="ignore"):
            return np.where(np.abs(t) <= 1, t * y + 0.5 * (xlogy(1 + t, 1 + t) + xlogy(1 - t, 1 - t)), inf)

    def cvxpy(self, y, z):
        import cvxpy as cp

        return cp.logistic(2 * (z - y)) - (z - y) - np.log(2)
