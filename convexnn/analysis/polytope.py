"""The polytope {t >= 0 : E t = E t_0}: dimension, vertices, a point inside, sparsest points, convex minimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp, nnls

# Singular values below this count as zero.
DEPENDENT = 1e-9
# Entries below this share of the sum of t are rounding errors of linear programs.
DUST = 1e-9
# Equations that are off by no more than this share of the sum of t hold.
HOLDS = 1e-10
# The barrier ends where it adds no more than this share of the scale to the minimum.
BARRIER_TOL = 1e-9


@dataclass(frozen=True, eq=False)
class Polytope:
    """{t >= 0 : equations @ t = equations @ point}; the equations fix the sum of t, so that it is bounded.

    Parameters
    ----------
    equations : array of shape (rank, m)
        Orthonormal rows, a combination of which is the row of ones.
    point : array of shape (m,)
        A point of the polytope.

    Examples
    --------
    >>> import numpy as np
    >>> triangle = Polytope(np.ones((1, 3)) / np.sqrt(3), np.array([2.0, 0.0, 0.0]))
    >>> triangle.dimension
    2
    >>> triangle.least(np.array([1.0, 0.0, 1.0]))
    array([0., 2., 0.])
    """

    equations: NDArray[np.float64]
    point: NDArray[np.float64]

    @property
    def size(self) -> float:
        """The sum of t."""
        return float(self.point.sum())

    def off(self, t: NDArray) -> float:
        """By how much the equations are violated, relative to the sum of t."""
        return float(np.linalg.norm(self.equations @ (t - self.point))) / (self.size or 1.0)

    def least(self, cost: NDArray) -> NDArray:
        """A vertex that minimises cost @ t, shape (m,), by the dual simplex method.

        Raises
        ------
        RuntimeError
            When HiGHS gives no solution.
        """
        if not self.size:
            return self.point
        right, scale = self.equations @ self.point / self.size, np.abs(cost).max() or 1.0
        accurate = dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10)
        found = linprog(cost / scale, A_eq=self.equations, b_eq=right, method="highs-ds", options=accurate)
        if found.x is None:
            raise RuntimeError(f"the linear program over the polytope failed: {found.message}")
        return self.exact(found.x * self.size)

    def exact(self, t: NDArray) -> NDArray:
        """t without dust, and with the equations met to rounding by the least change of the other entries."""
        for share in (DUST, 1e-12):
            k = np.flatnonzero(t > share * self.size)
            out = np.zeros_like(t)
            out[k] = t[k]
            for _ in range(2):
                left = self.equations @ (self.point - out)
                out[k] += np.linalg.lstsq(self.equations[:, k], left, rcond=DEPENDENT)[0]
            out = np.where(out > 1e-14 * self.size, out, 0.0)
            if self.off(out) <= 0.1 * HOLDS:
                break
        return out

    def nearest(self, t: NDArray) -> NDArray:
        """The point next to some t >= 0, shape (m,), to about 1e-8; ``point`` itself where rounding prevents it."""
        if not self.size:
            return self.point
        heavy = 1e4
        system = np.vstack([heavy * self.equations, np.eye(len(t))])
        near, _ = nnls(system, np.append(heavy * self.equations @ self.point, t), maxiter=100 * len(t))
        near = self.exact(near)
        return near if self.off(near) <= HOLDS else self.point

    @cached_property
    def corners(self) -> tuple[NDArray, NDArray]:
        """Vertices at which each entry of t is least, and at which it is largest: two arrays of shape (m, m)."""
        costs = np.eye(len(self.point))
        low, high = (np.array([self.least(s * c) for c in costs]).reshape(costs.shape) for s in (1, -1))
        return low, high

    @property
    def ranges(self) -> NDArray[np.float64]:
        """Least and largest value of each entry, shape (m, 2)."""
        return np.column_stack([np.diag(part) for part in self.corners])

    @cached_property
    def live(self) -> NDArray[np.intp]:
        """Entries that are positive somewhere."""
        return np.flatnonzero(self.ranges[:, 1] > DUST * self.size)

    @property
    def needed(self) -> NDArray[np.intp]:
        """Entries that are positive everywhere."""
        return np.flatnonzero(self.ranges[:, 0] > DUST * self.size)

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """Orthonormal columns that span the directions in which t can move, shape (m, dimension)."""
        _, singular, axes = np.linalg.svd(self.equations[:, self.live], full_matrices=True)
        rank = int(np.count_nonzero(singular > DEPENDENT))
        out = np.zeros((len(self.point), len(self.live) - rank))
        out[self.live] = axes[rank:].T
        return out

    @property
    def dimension(self) -> int:
        """0 for a point."""
        return self.directions.shape[1]

    @cached_property
    def inside(self) -> NDArray[np.float64]:
        """A point of the relative interior: the mean of the vertices at which entries are largest, shape (m,)."""
        return self.corners[1][self.live].mean(axis=0) if self.dimension else self.point

    def fewest(self, max_time: float) -> tuple[NDArray, int]:
        """A point with few positive entries, by a mixed-integer linear program, and a lower bound on their number.

        Parameters
        ----------
        max_time : float
            Limit in seconds.

        Returns
        -------
        t : array of shape (m,)
            With the fewest positive entries if that is the bound; else the best that was found, at worst a vertex.
        at_least : int
        """
        k, most, needed = self.live, self.ranges[self.live, 1] / (self.size or 1.0), len(self.needed)
        best = min((self.least(-self.point), *self.corners[1]), key=np.count_nonzero, default=self.point)
        count = int(np.count_nonzero(best))
        if not self.dimension or count == needed:
            return best, count
        right, zero = self.equations @ self.point / self.size, np.zeros((len(self.equations), len(k)))
        # Unknowns t / most between 0 and 1, and for each a number 0 or 1 that is no smaller.
        found = milp(
            np.append(np.zeros(len(k)), np.ones(len(k))),
            integrality=np.append(np.zeros(len(k)), np.ones(len(k))),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(np.hstack([self.equations[:, k] * most, zero]), right, right),
                LinearConstraint(np.hstack([np.eye(len(k)), -np.eye(len(k))]), -np.inf, 0),
            ],
            options=dict(time_limit=max_time),
        )
        bound = found.mip_dual_bound
        at_least = max(needed, 1, 0 if bound is None or not np.isfinite(bound) else int(np.ceil(bound - 1e-6)))
        if found.x is not None:
            t = np.zeros_like(best)
            t[k] = np.where(found.x[len(k) :] > 0.5, found.x[: len(k)] * most, 0.0)
            t = self.exact(t * self.size)
            # Tolerances of the program let small entries pass for zeros: what it found is looked at again.
            if self.off(t) <= HOLDS and np.count_nonzero(t) < count:
                best, count = t, int(np.count_nonzero(t))
        return best, min(at_least, count)

    def minimise(self, function: Callable[[NDArray], tuple[float, NDArray, NDArray]], scale: float) -> NDArray:
        """A minimiser of a smooth convex function, by a barrier method from the point inside.

        Parameters
        ----------
        function : callable
            From t to the value, the gradient (m,) and the Hessian (m, m).
        scale : float
            Size of the values: the minimum is found to 1e-9 of it.

        Returns
        -------
        t : array of shape (m,)

        References
        ----------
        .. [1] S. Boyd, L. Vandenberghe, Convex optimization, 2004, section 11.3.
        """
        N, k, t = self.directions, self.live, self.inside
        if not self.dimension:
            return t
        barrier, least = 0.1 * scale / len(k), BARRIER_TOL * scale / len(k)
        while barrier > least:
            for _ in range(50):
                value, gradient, hessian = function(t)
                value -= barrier * np.log(t[k]).sum()
                gradient, hessian = gradient.copy(), hessian.copy()
                gradient[k] -= barrier / t[k]
                hessian[k, k] += barrier / t[k] ** 2
                slope = N.T @ gradient
                step = -N @ np.linalg.lstsq(N.T @ hessian @ N, slope, rcond=1e-14)[0]
                fall = -float(gradient @ step)
                if fall <= 1e-3 * barrier:
                    break
                length = min(1.0, 0.99 / max(float(np.max(-step[k] / t[k])), 1e-300))
                while length > 1e-8:
                    trial = t + length * step
                    if function(trial)[0] - barrier * np.log(trial[k]).sum() <= value - 0.1 * length * fall:
                        break
                    length *= 0.5
                else:
                    break
                t = trial
            barrier *= 0.1
        snapped = self.exact(np.where(t > 1e-6 * self.size, t, 0.0))
        close = self.off(snapped) <= HOLDS and function(snapped)[0] <= function(t)[0] + BARRIER_TOL * scale
        return snapped if close else self.exact(t)
