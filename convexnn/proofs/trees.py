"""Evidence by branch and bound, and its check: what one has to read to trust such a bound.

The price h(u) = t^T (X u)_+ is the difference p - q of two convex functions, the sums over samples with t_i > 0 and
with t_i < 0. Both are support functions of zonotopes: q(u) = max {b^T u : b in Q}, so b^T u bounds q from below for any
b in Q. On the cone over a box with corners g_k any z with g_k^T z >= p(g_k) - b^T g_k has z^T u >= h(u), since p lies
below its interpolation: h <= |z| on the unit vectors of the cone. The boxes lie on the surface of the cube
|u|_inf = 1 and are halved until their bounds are good enough. Half of the surface will do, because
h(u) - h(-u) = (X^T t)^T u.

Other activations have the linear term lift t^T X u beside it (``convexnn.neurons.activations``). As a linear function
is its own bound, the term is added to b. Then h(u) - h(-u) = (1 + 2 lift) (X^T t)^T u.

A price h(u) is at most M (|u| + sum_j mu_j |u_j|), with a feature penalty mu, if h(u) - M sum_j mu_j |u_j| is at most
M |u|, and that is a price again: of the data and of two more rows for each feature, e_j and -e_j, with the dual
variable -M mu_j.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.search.prices import Price

# Corners are multiples of this; smaller boxes are not halved.
GRID = 2.0**-30


@dataclass(frozen=True, eq=False)
class Tree:
    """An upper bound of max t^T (X u)_+ + lift t^T X u over unit vectors, and the boxes that prove it.

    Attributes
    ----------
    bound : float
        No unit vector has a higher price.
    price : float
        The highest price that was found, at least that of u = 0, which is zero.
    maximiser : array of shape (n_features,)
        Unit vector with this price if it is positive.
    basis : array of shape (n_features, rank)
        Orthonormal basis of the row space of X in which the boxes are given; the first vector points along X^T t, or
        against it where 1 + 2 lift is negative.
    splits : int array of shape (n_splits, 2)
        Box and axis of each halving. The first boxes are faces of the cube, each halving appends two.
    points : array of shape (n_points, rank)
        Each stands for one vertex of the zonotope Q, the sum of the rows -t_i x_i that are active there.
    chosen : int array of shape (n_cones, rank + 2)
        For each box that was not halved, in their order, the points whose vertices are combined to b.
    weights : array of shape (n_cones, rank + 2)
        Weights of the combination, non-negative with sum 1.
    slopes : array of shape (n_cones, rank)
        The vectors z.
    seconds : float
        Time of the search.
    """

    bound: float
    price: float
    maximiser: NDArray[np.float64]
    basis: NDArray[np.float64]
    splits: NDArray[np.intp]
    points: NDArray[np.float64]
    chosen: NDArray[np.intp]
    weights: NDArray[np.float64]
    slopes: NDArray[np.float64]
    seconds: float

    @property
    def n_cones(self) -> int:
        """Number of boxes that cover half of the cube's surface."""
        return len(self.weights)

    def scaled(self, size: float) -> Tree:
        """The evidence for size * t."""
        return replace(self, bound=size * self.bound, price=size * self.price, slopes=size * self.slopes)

    def check(self, price: Price) -> float:
        """The bound once more, from the data and the boxes alone; it holds whatever the evidence is.

        Parameters
        ----------
        price : Price
            What is to be bounded.

        Returns
        -------
        bound : float
            At least the price of every unit vector. For other data than the search had it is valid, but looser.

        Raises
        ------
        ValueError
            If the evidence does not fit together or is no cover of the half sphere.

        Notes
        -----
        Takes about the time of the matrix products between the samples and the distinct corners.
        """
        r, d = self.basis.shape[1], price.X.shape[1]
        square = len(self.basis) == d
        off = np.abs(self.basis.T @ self.basis - np.eye(r)).max(initial=0.0) if square else np.inf
        if not off <= 1e-12:
            raise ValueError(f"basis must have {d} rows and orthonormal columns.")
        P, Q, tilt, slack = reduced_rows(price, self.basis)
        lo, size, face = _leaves(self.splits, r)
        width = self.weights.shape[1]
        if self.chosen.shape != (len(lo), width) or self.weights.shape != (len(lo), width):
            raise ValueError(f"the boxes are {len(lo)}, but there are weights for {self.n_cones}.")
        if self.slopes.shape != lo.shape or self.points.shape[1:] != (r,):
            raise ValueError("slopes and points must have one column for each vector of the basis.")
        if not len(lo):
            return slack
        if self.chosen.min() < 0 or self.chosen.max() >= len(self.points):
            raise ValueError("a box names a point that is not there.")
        if not (self.weights >= 0).all() or not np.abs(self.weights.sum(axis=1) - 1).max() <= 1e-9:
            raise ValueError("the weights of each box must be non-negative with sum 1.")
        if not (np.isfinite(self.slopes).all() and np.isfinite(self.points).all()):
            raise ValueError("slopes and points must be finite.")
        vertices, unit, bounds = active_sums(self.points, Q) - tilt, unit_corners(r), [0.0]
        for k in np.array_split(np.arange(len(lo)), 1 + len(lo) * len(unit[0]) // 500_000):
            G = lo[k, None] + unit[face[k]] * size[k, None]
            distinct, inverse = distinct_corners(G.reshape(-1, r))[1:]
            p = np.einsum("kd,kd->k", active_sums(distinct, P), distinct)[inverse].reshape(G.shape[:2])
            weights = self.weights[k] / self.weights[k].sum(axis=1, keepdims=True)
            b = np.einsum("km,kmd->kd", weights, vertices[self.chosen[k]])
            at = np.einsum("kcd,kd->kc", G, self.slopes[k] + b)
            z = feasible(p, at, self.slopes[k], lo[k], face[k])
            bounds.append(np.linalg.norm(z, axis=1).max())
        bound = float(np.max(bounds)) + slack
        # Numbers that overflow bound nothing.
        return bound if np.isfinite(bound) else np.inf


@dataclass(frozen=True, eq=False)
class ChargedTree:
    """Evidence by branch and bound with a feature penalty mu, for one output and sign.

    Attributes
    ----------
    tree : Tree
        For data and features together.
    charge : float
        M.
    feature_penalty : array of shape (n_features,)
        mu of all coordinates, 0 for a bias.
    """

    tree: Tree
    charge: float
    feature_penalty: NDArray

    @property
    def bound(self) -> float:
        """No vector of norm 1 has a higher price."""
        return max(self.charge, self.tree.bound)

    @property
    def n_cones(self) -> int:
        """Number of cones."""
        return self.tree.n_cones

    def check(self, price: Price) -> float:
        """The bound once more, from the data and the boxes alone; arguments and errors as in ``Tree.check``."""
        if not 0 <= self.charge < np.inf:
            raise ValueError(f"the charge must be finite and non-negative, got {self.charge!r}.")
        return max(self.charge, self.tree.check(price.charged(self.charge * self.feature_penalty)))

    def scaled(self, size: float) -> ChargedTree:
        """The evidence for size * t."""
        return replace(self, tree=self.tree.scaled(size), charge=size * self.charge)


def reduced_rows(price, basis):
    """Rows t_i x_i with t_i > 0 and -t_i x_i with t_i < 0 in the basis, the vector of the linear term, and what a bound
    over half of the basis leaves out."""
    # Each sum over the samples, of numbers at most |t_i| |x_i| |g| with a corner g, times the slopes of both sides.
    terms = np.finfo(float).eps * (len(price) + 1000) * np.sqrt(basis.shape[1]) * (1 + 2 * abs(price.lift))
    rounding = terms * (np.abs(price.t) @ np.linalg.norm(price.X, axis=1))
    price = price.merged()
    X, t, lift = price.X, price.t, price.lift
    Z = X @ basis
    outside = np.abs(t) @ np.linalg.norm(X - Z @ basis.T, axis=1) * (1 + abs(lift))
    # h(u) = h(-u) + pull^T u where the first component of u is negative; the boxes cover the other half.
    pull = Z.T @ t
    tilt, pull = lift * pull, (1 + 2 * lift) * pull
    beyond = np.linalg.norm(pull[1:]) + np.maximum(-pull[:1], 0.0).sum()
    Z *= t[:, None]
    return Z[t > 0], -Z[t < 0], tilt, float(outside + beyond + rounding)


def active_sums(V, rows):
    """For each vector the sum of the rows with x_i^T v > 0: a subgradient of the sum of (x_i^T v)_+."""
    sums = np.empty(V.shape)
    size = max(1, 200_000 // max(len(rows), 1))
    for k in range(0, len(V), size):
        sides = V[k : k + size] @ rows.T
        np.greater(sides, 0, out=sides)
        np.matmul(sides, rows, out=sums[k : k + size])
    return sums


def root_boxes(r):
    """Faces of the cube with first coordinate >= 0: lower corner, size (0 across the face), and the fixed axis."""
    lo = np.concatenate([[np.eye(r)[0]], *[[e, -e] for e in np.eye(r)[1:]]])
    face = np.abs(lo).argmax(axis=1)
    across = np.arange(r) == face[:, None]
    halves = np.arange(r) == 0
    return np.where(across, lo, np.where(halves, 0.0, -1.0)), np.where(across, 0.0, np.where(halves, 1.0, 2.0)), face


def free_axes(r):
    """The axes along each face, one row a face."""
    return np.array([[j for j in range(r) if j != face] for face in range(r)], dtype=int).reshape(r, r - 1)


def corner_bits(r):
    """Corner k of a box has the upper end of its j-th free axis if bit j of k is set."""
    return (np.arange(2 ** (r - 1))[:, None] >> np.arange(r - 1) & 1).astype(float)


def unit_corners(r):
    """Corners of the unit box on each face, (r, 2^(r - 1), r)."""
    unit = np.zeros((r, 2 ** (r - 1), r))
    for face, axes in enumerate(free_axes(r)):
        unit[face][:, axes] = corner_bits(r)
    return unit


def _leaves(splits, r):
    """The boxes that remain when the splits are carried out, as in ``root_boxes``."""
    lo, size, face = root_boxes(r) if r else (np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, dtype=int))
    first = len(lo) + 2 * np.arange(len(splits))
    if splits.shape != (len(splits), 2):
        raise ValueError("splits must have two columns.")
    box, axis = splits.T
    if len(np.unique(box)) < len(box) or (box < 0).any() or (box >= first).any():
        raise ValueError("a box is halved twice, or before it is there.")
    if (axis < 0).any() or (axis >= r).any():
        raise ValueError(f"the axis of a halving must be below {r}.")
    n = len(lo) + 2 * len(splits)
    lo, size = (np.concatenate([part, np.zeros((n - len(part), r))]) for part in (lo, size))
    face, there = np.concatenate([face, np.zeros(n - len(face), dtype=int)]), np.arange(n) < n - 2 * len(splits)
    wait = np.arange(len(splits))
    while len(wait):
        now = wait[there[box[wait]]]
        wait = wait[~there[box[wait]]]
        low, small, on = lo[box[now]], size[box[now]], face[box[now]]
        if (on == axis[now]).any():
            raise ValueError("a box cannot be halved across its face.")
        rows = np.arange(len(now))
        small[rows, axis[now]] /= 2
        for side in (0, 1):
            lo[first[now] + side], size[first[now] + side], face[first[now] + side] = low, small, on
            low[rows, axis[now]] += small[rows, axis[now]]
            there[first[now] + side] = True
    leaf = np.ones(n, dtype=bool)
    leaf[box] = False
    return lo[leaf], size[leaf], face[leaf]


def distinct_corners(V):
    """Keys of the distinct ones among vectors on the grid, the vectors, and the place of each."""
    code = np.random.default_rng(0).integers(-(2**62), 2**62, V.shape[1]) * 2 + 1
    keys, first, inverse = np.unique((V / GRID).astype(np.int64) @ code, return_index=True, return_inverse=True)
    if not np.array_equal(V[first][inverse], V):
        raise ValueError("two corners have one key, or lie off the grid.")
    return keys, V[first], inverse


def feasible(p, at, z, lo, face):
    """z moved along the axis of the face, where all corners agree, until no corner has p above its value ``at``."""
    z, rows = z.copy(), np.arange(len(z))
    z[rows, face] += np.maximum(p - at, 0.0).max(axis=1) / lo[rows, face]
    return z
