"""Pricing from above: a proved upper bound of the largest price, by branch and bound over cones.

The price h(u) = t^T (X u)_+ is the difference p - q of two convex functions, the sums over samples with t_i > 0 and
with t_i < 0. Both are support functions of zonotopes: q(u) = max {b^T u : b in Q}, so b^T u bounds q from below for any
b in Q. On the cone over a box with corners g_k any z with g_k^T z >= p(g_k) - b^T g_k has z^T u >= h(u), since p lies
below its interpolation: h <= |z| on the unit vectors of the cone. The boxes lie on the surface of the cube
|u|_inf = 1 and are halved until their bounds are good enough. Half of the surface will do, because
h(u) - h(-u) = (X^T t)^T u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convexnn.cones import towards
from convexnn.pricing import ascend

# A box on the surface of the cube in r dimensions has 2^(r - 1) corners.
MAX_RANK = 12
# Corners of one batch of boxes, and the most boxes in it.
BATCH = (100_000, 1000)
# How often the point b of a box is moved.
N_STEPS = 5
# Memory of a search, in bytes.
MEMORY = 2e9
# Corners are multiples of this; smaller boxes are not halved.
GRID = 2.0**-30


@dataclass(frozen=True, eq=False)
class Tree:
    """An upper bound of max t^T (X u)_+ over unit vectors, and the boxes that prove it.

    Attributes
    ----------
    bound : float
        No unit vector has a higher price.
    price : float
        The highest price that was found, at least that of u = 0, which is zero.
    maximiser : array of shape (n_features,)
        Unit vector with this price if it is positive.
    basis : array of shape (n_features, rank)
        Orthonormal basis of the row space of X in which the boxes are given; the first vector points along X^T t.
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

    def check(self, X: NDArray, t: NDArray) -> float:
        """The bound once more, from the data and the boxes alone; it holds whatever the evidence is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if there are hidden biases.
        t : array of shape (n_samples,)
            Signed dual variable.

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
        X, t = _checked(X, t)
        r = self.basis.shape[1]
        if len(self.basis) != X.shape[1] or np.abs(self.basis.T @ self.basis - np.eye(r)).max(initial=0) > 1e-12:
            raise ValueError(f"basis must have {X.shape[1]} rows and orthonormal columns.")
        P, Q, slack = _reduced(X, t, self.basis)
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
        if not (self.weights >= 0).all() or np.abs(self.weights.sum(axis=1) - 1).max() > 1e-9:
            raise ValueError("the weights of each box must be non-negative with sum 1.")
        if not (np.isfinite(self.slopes).all() and np.isfinite(self.points).all()):
            raise ValueError("slopes and points must be finite.")
        vertices, unit, bound = _active_sums(self.points, Q), _corners(r), 0.0
        for k in np.array_split(np.arange(len(lo)), 1 + len(lo) * len(unit[0]) // 500_000):
            G = lo[k, None] + unit[face[k]] * size[k, None]
            distinct, inverse = _distinct(G.reshape(-1, r))[1:]
            p = np.einsum("kd,kd->k", _active_sums(distinct, P), distinct)[inverse].reshape(G.shape[:2])
            weights = self.weights[k] / self.weights[k].sum(axis=1, keepdims=True)
            b = np.einsum("km,kmd->kd", weights, vertices[self.chosen[k]])
            at = np.einsum("kcd,kd->kc", G, self.slopes[k] + b)
            z = _feasible(p, at, self.slopes[k], lo[k], face[k])
            bound = max(bound, np.linalg.norm(z, axis=1).max())
        return float(bound) + slack


def bound_price(
    X: NDArray,
    t: NDArray,
    *,
    accuracy: float = 1e-3,
    target: float = 0.0,
    max_time: float | None = None,
    max_cones: int | None = None,
    known: NDArray | None = None,
) -> Tree:
    """Upper bound of the price t^T (X u)_+ over all unit vectors u.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases; of rank 12 at most.
    t : array of shape (n_samples,)
        Signed dual variable. The bound for the other output sign needs a second call, with -t.
    accuracy : float, default=1e-3
        The search ends when the bound is at most (1 + accuracy) times the highest price found; if no price is positive,
        when it is at most accuracy / 1000 times the sum of |t_i x_i| over t_i > 0.
    target : float, default=0
        It also ends when the bound is at most this.
    max_time : float, optional
        Seconds after which it ends with the bound that is proved by then. An interrupt from the keyboard does the same.
    max_cones : int, optional
        Number of cones after which it ends. The memory is limited in any case.
    known : array of shape (n_known, n_features), optional
        Vectors with high prices, as a search has found them.

    Returns
    -------
    tree : Tree
        The bound and its evidence.

    Raises
    ------
    ValueError
        If arrays have wrong shapes or are not finite, or the rank of X is above 12.

    Notes
    -----
    Each new corner of a box and each step of its point b costs one product with the data. Residuals of networks fitted
    to n = 2,000 samples needed, for both signs at accuracy 1e-3, 4,000 (alpha = 0.1 alpha_max) to 80,000 cones
    (0.01 alpha_max) at rank 5: the smaller the price is against the sum of |t_i x_i|, the more. Each further rank
    takes about three times as many at 0.1 alpha_max and eight times as many at 0.01.

    References
    ----------
    .. [1] R. Horst, N. V. Thoai, DC programming: overview, J. Optim. Theory Appl. 103 (1999): branch and bound for
       differences of convex functions, there over simplices.
    .. [2] C. L. Lawson, R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23 (least distance programming).
    .. [3] E. G. Gilbert, An iterative procedure for computing the minimum of a quadratic form on a convex set,
       SIAM J. Control 4 (1966).

    Examples
    --------
    The price 3 (u)_+ - (-u)_+ of two samples is highest at u = 1.

    >>> import numpy as np
    >>> tree = bound_price(np.array([[1.0], [-1.0]]), np.array([3.0, -1.0]))
    >>> print(f"{tree.price:.4f} {tree.bound:.4f} {tree.n_cones}")
    3.0000 3.0000 1
    """
    start = perf_counter()
    X, t = _checked(X, t)
    basis = _basis(X, t)
    d, r = basis.shape
    if r > MAX_RANK:
        raise ValueError(
            f"the rank of X is {r}; cones can be searched up to rank {MAX_RANK}. Use the sums-of-squares bound."
        )
    P, Q, slack = _reduced(X, t, basis)
    if r == 0:
        none = np.zeros((0, 0))
        splits, chosen = np.zeros((0, 2), dtype=int), np.zeros((0, 2), dtype=int)
        seconds = perf_counter() - start
        return Tree(slack, 0.0, np.eye(d)[0], basis, splits, none, chosen, np.zeros((0, 2)), none, seconds)
    starts = np.concatenate([np.eye(r), np.random.default_rng(0).standard_normal((16 * r, r))])
    if known is not None and len(known):
        starts = np.concatenate([known @ basis, starts])
    starts = starts[np.linalg.norm(starts, axis=1) > 0]
    signs = np.repeat([1.0, -1.0], [len(P), len(Q)])
    best = ascend(np.concatenate([P, Q]), signs, starts, 60) if len(signs) else np.eye(r)

    # No bound is relatively close to a price of zero.
    zero = 1e-3 * accuracy * float(np.linalg.norm(P, axis=1).sum())

    def enough(price):
        return max((1 + accuracy) * price if price > slack else zero, target, 2 * slack) - slack

    search = _Search(P, Q, enough, best)
    search.run(np.inf if max_time is None else start + max_time, np.inf if max_cones is None else max_cones)
    chosen, weights, slopes, points = search.evidence()
    maximiser = basis @ search.maximiser
    return Tree(
        float(np.linalg.norm(slopes, axis=1).max()) + slack,
        max(float(np.maximum(X @ maximiser, 0.0) @ t), 0.0),
        maximiser,
        basis,
        np.column_stack([search.splits.box, search.splits.axis]),
        points,
        chosen,
        weights,
        slopes,
        perf_counter() - start,
    )


def _checked(X, t):
    X, t = np.asarray(X, dtype=float), np.asarray(t, dtype=float)
    if X.ndim != 2 or t.shape != (len(X),):
        raise ValueError(
            f"X must have shape (n_samples, n_features) and t one entry a sample, got {X.shape}, {t.shape}."
        )
    if not (np.isfinite(X).all() and np.isfinite(t).all()):
        raise ValueError("X and t must be finite.")
    return X, t


def _basis(X, t):
    """Orthonormal basis of the row space: first X^T t, then principal axes of what is left."""
    length = np.abs(X).max(initial=0.0)
    if length == 0:
        return np.zeros((X.shape[1], 0))
    X = X / length
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    V = Vt[s > 1e-13 * max(X.shape) * s[0]].T
    pull = V.T @ (X.T @ t)
    if (pull == 0).all():
        return V
    # QR completes the pull to a basis, up to its sign.
    frame = np.linalg.qr(np.column_stack([pull / np.linalg.norm(pull), np.eye(len(pull))]))[0]
    frame[:, 0] *= np.sign(frame[:, 0] @ pull)
    frame[:, 1:] @= np.linalg.svd(X @ V @ frame[:, 1:], full_matrices=False)[2].T
    return V @ frame


def _reduced(X, t, basis):
    """Rows t_i x_i with t_i > 0 and -t_i x_i with t_i < 0 in the basis, and what a bound over half of it leaves out."""
    # Each sum over the samples, of numbers at most |t_i| |x_i| |g| with a corner g.
    terms = np.finfo(float).eps * (len(X) + 1000) * np.sqrt(basis.shape[1])
    rounding = terms * (np.abs(t) @ np.linalg.norm(X, axis=1))
    X, t = _merged(X, t)
    Z = X @ basis
    outside = np.abs(t) @ np.linalg.norm(X - Z @ basis.T, axis=1)
    # h(u) = h(-u) + pull^T u where the first component of u is negative; the boxes cover the other half.
    pull = Z.T @ t
    beyond = np.linalg.norm(pull[1:]) + np.maximum(-pull[:1], 0.0).sum()
    Z *= t[:, None]
    return Z[t > 0], -Z[t < 0], float(outside + beyond + rounding)


def _merged(X, t):
    """Equal rows as one: their kinks cancel."""
    rows, inverse = np.unique(X, axis=0, return_inverse=True)
    return (X, t) if len(rows) == len(X) else (rows, np.bincount(inverse.ravel(), t, len(rows)))


def _active_sums(V, rows):
    """For each vector the sum of the rows with x_i^T v > 0: a subgradient of the sum of (x_i^T v)_+."""
    sums = np.empty(V.shape)
    size = max(1, 200_000 // max(len(rows), 1))
    for k in range(0, len(V), size):
        sides = V[k : k + size] @ rows.T
        np.greater(sides, 0, out=sides)
        np.matmul(sides, rows, out=sums[k : k + size])
    return sums


def _roots(r):
    """Faces of the cube with first coordinate >= 0: lower corner, size (0 across the face), and the fixed axis."""
    lo = np.concatenate([[np.eye(r)[0]], *[[e, -e] for e in np.eye(r)[1:]]])
    face = np.abs(lo).argmax(axis=1)
    across = np.arange(r) == face[:, None]
    halves = np.arange(r) == 0
    return np.where(across, lo, np.where(halves, 0.0, -1.0)), np.where(across, 0.0, np.where(halves, 1.0, 2.0)), face


def _free(r):
    """The axes along each face, one row a face."""
    return np.array([[j for j in range(r) if j != face] for face in range(r)], dtype=int).reshape(r, r - 1)


def _bits(r):
    """Corner k of a box has the upper end of its j-th free axis if bit j of k is set."""
    return (np.arange(2 ** (r - 1))[:, None] >> np.arange(r - 1) & 1).astype(float)


def _corners(r):
    """Corners of the unit box on each face, (r, 2^(r - 1), r)."""
    unit = np.zeros((r, 2 ** (r - 1), r))
    for face, axes in enumerate(_free(r)):
        unit[face][:, axes] = _bits(r)
    return unit


def _leaves(splits, r):
    """The boxes that remain when the splits are carried out, as in ``_roots``."""
    lo, size, face = _roots(r) if r else (np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, dtype=int))
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


def _distinct(V):
    """Keys of the distinct ones among vectors on the grid, the vectors, and the place of each."""
    code = np.random.default_rng(0).integers(-(2**62), 2**62, V.shape[1]) * 2 + 1
    keys, first, inverse = np.unique((V / GRID).astype(np.int64) @ code, return_index=True, return_inverse=True)
    if not np.array_equal(V[first][inverse], V):
        raise ValueError("two corners have one key, or lie off the grid.")
    return keys, V[first], inverse


def _feasible(p, at, z, lo, face):
    """z moved along the axis of the face, where all corners agree, until no corner has p above its value ``at``."""
    z, rows = z.copy(), np.arange(len(z))
    z[rows, face] += np.maximum(p - at, 0.0).max(axis=1) / lo[rows, face]
    return z


class _Table:
    """Named columns of equal length; rows can be appended, and count only once they are complete."""

    def __init__(self, **columns):
        self.columns, self.n = columns, 0

    def append(self, **rows):
        first, n = self.n, self.n + len(next(iter(rows.values())))
        for name, new in rows.items():
            old = self.columns[name]
            if n > len(old):
                self.columns[name] = np.empty((2 * n, *old.shape[1:]), dtype=old.dtype)
                self.columns[name][:first] = old[:first]
            self.columns[name][first:n] = new
        self.n = n
        return np.arange(first, n)

    def __getattr__(self, name):
        return self.columns[name][: self.n]

    @property
    def nbytes(self):
        return sum(column.nbytes for column in self.columns.values())


@dataclass
class _Boxes:
    """A batch of boxes: where they are, the numbers of their corners, and what bounds them."""

    lo: NDArray
    size: NDArray
    face: NDArray
    corners: NDArray
    chosen: NDArray
    weights: NDArray
    # Corners with g_k^T z = c_k, as in NNLS, -1 as padding.
    active: NDArray
    # Between 0 and 1, see _Search.combine.
    metric: NDArray
    z: NDArray
    bound: NDArray

    def take(self, k):
        return _Boxes(*(column[k] for column in vars(self).values()))

    def put(self, k, other, which):
        for name in ("chosen", "weights", "active", "z", "bound"):
            getattr(self, name)[k] = getattr(other, name)[which]

    @property
    def place(self):
        return [self.lo, self.size, self.face]


class _Search:
    """Best-first search over boxes, many at a time."""

    def __init__(self, P, Q, enough: Callable[[float], float], starts):
        r = self.r = P.shape[1]
        self.P, self.Q, self.enough = P, Q, enough
        self.price, self.maximiser = 0.0, np.eye(r)[0]
        self.look(starts)
        self.free, self.bits, self.unit = _free(r), _bits(r), _corners(r)
        self.number: dict[int, int] = {}
        self.corners = _Table(p=np.empty(0), gradient=np.empty((0, r)))
        self.points = _Table(u=np.empty((0, r)), vertex=np.empty((0, r)))
        self.splits = _Table(box=np.empty(0, dtype=int), axis=np.empty(0, dtype=int))
        lo, size, face = _roots(r)
        u = lo + size / 2
        point = self.points.append(u=u, vertex=_active_sums(u, Q))
        weights = np.tile(np.eye(r + 2)[0], (len(lo), 1))
        roots = _Boxes(
            lo,
            size,
            face,
            self.corner_numbers(lo[:, None] + self.unit[face] * size[:, None]),
            np.repeat(point[:, None], r + 2, axis=1),
            weights,
            np.full((len(lo), r), -1),
            np.ones(len(lo)),
            np.zeros((len(lo), r)),
            np.full(len(lo), np.inf),
        )
        small = {"corners": np.int32, "chosen": np.int32, "active": np.int16, "face": np.int8}
        self.boxes = _Table(
            **{name: np.empty((0, *a.shape[1:]), dtype=small.get(name, a.dtype)) for name, a in vars(roots).items()}
        )
        self.boxes.append(**vars(self.bounded(roots)))

    def run(self, end, max_cones):
        """Halve the boxes with the largest bounds until they are small enough, or at a limit."""
        most = int(np.clip(BATCH[0] // len(self.bits), 16, BATCH[1]))
        n_roots = self.boxes.n
        heap = np.arange(n_roots)
        try:
            while True:
                bounds = self.boxes.bound[heap]
                heap = heap[bounds > self.enough(self.price)]
                memory = self.boxes.nbytes + self.points.nbytes + self.corners.nbytes + 150 * len(self.number)
                if not len(heap) or perf_counter() > end or self.splits.n >= max_cones - n_roots or memory > MEMORY:
                    break
                size = min(most, max(50, len(heap) // 4), len(heap))
                order = np.argpartition(-self.boxes.bound[heap], size - 1)
                worst, heap = heap[order[:size]], heap[order[size:]]
                axis, halves = self.halved(self.at(worst))
                halves = self.bounded(halves)
                self.splits.append(box=worst, axis=axis)
                new = self.boxes.append(**vars(halves))
                heap = np.concatenate([heap, new[halves.size.max(axis=1) > 2 * GRID]])
        except KeyboardInterrupt:
            self.splits.n = (self.boxes.n - n_roots) // 2

    def at(self, k):
        return _Boxes(
            *(
                getattr(self.boxes, name)[k].astype(column.dtype if column.dtype == float else int)
                for name, column in self.boxes.columns.items()
            )
        )

    def evidence(self):
        """For each leaf its points and their weights and z; and the points that are used."""
        leaf = np.ones(self.boxes.n, dtype=bool)
        leaf[self.splits.box] = False
        weights, chosen = self.boxes.weights[leaf], self.boxes.chosen[leaf].astype(int)
        chosen = np.where(weights > 0, chosen, chosen[np.arange(len(chosen)), weights.argmax(axis=1)][:, None])
        used, place = np.unique(chosen, return_inverse=True)
        return place.reshape(chosen.shape), weights, self.boxes.z[leaf], self.points.u[used]

    def look(self, U):
        """Remember the best of some vectors if it beats the price."""
        if len(U):
            h = np.maximum(U @ self.P.T, 0.0).sum(axis=1) - np.maximum(U @ self.Q.T, 0.0).sum(axis=1)
            h /= np.linalg.norm(U, axis=1)
            if h.max() > self.price:
                self.price, self.maximiser = h.max(), U[h.argmax()] / np.linalg.norm(U[h.argmax()])

    def corner_numbers(self, G):
        """Rows of the table of corners for vectors (..., r); p and its subgradient are computed once a corner."""
        keys, V, inverse = _distinct(G.reshape(-1, self.r))
        keys = keys.tolist()
        numbers = np.array([self.number.get(key, -1) for key in keys])
        fresh = np.flatnonzero(numbers < 0)
        if len(fresh):
            gradient = _active_sums(V[fresh], self.P)
            numbers[fresh] = self.corners.append(p=np.einsum("kd,kd->k", gradient, V[fresh]), gradient=gradient)
            self.number.update(zip([keys[k] for k in fresh], numbers[fresh].tolist()))
        return numbers[inverse].reshape(G.shape[:-1])

    def halved(self, boxes):
        """The axis of each halving and the halves, which inherit what bounds the box."""
        rows, free = np.arange(len(boxes.lo)), self.free[boxes.face]
        # Along an axis p lies below its interpolation by the change of its derivative times y (1 - y).
        ahead = boxes.z[rows, boxes.face] * boxes.lo[rows, boxes.face]
        y = boxes.z / np.where(ahead > 1e-9 * boxes.bound, ahead, np.inf)[:, None]
        y = (y - boxes.lo) / np.where(boxes.size > 0, boxes.size, 1.0)
        y = np.take_along_axis(np.clip(y, 0.0, 1.0), free, axis=1)
        size = np.take_along_axis(boxes.size, free, axis=1)
        upper = [np.flatnonzero(bit) for bit in self.bits.T]
        change = np.empty(size.shape)
        for j, up in enumerate(upper):
            axes = free[:, j, None]
            rise = self.corners.gradient[boxes.corners[:, up], axes]
            change[:, j] = (rise - self.corners.gradient[boxes.corners[:, up - (1 << j)], axes]).mean(axis=1)
        score = change * size * (y * (1 - y) + 0.05)
        score = np.where(score.max(axis=1, keepdims=True) > 0, score, size)
        score[size <= 2 * GRID] = -1.0
        j = score.argmax(axis=1)
        axis, up = free[rows, j], np.array(upper)[j]
        down = up - (1 << j)[:, None]
        low, high = boxes.take(rows), boxes.take(rows)
        low.size[rows, axis] /= 2
        high.size, high.lo[rows, axis] = low.size, high.lo[rows, axis] + low.size[rows, axis]
        middle = self.corner_numbers(high.lo[:, None] + self.unit[boxes.face[:, None], down] * low.size[:, None])
        low.corners[rows[:, None], up] = middle
        high.corners[rows[:, None], down] = middle
        pairs = zip(vars(low).values(), vars(high).values())
        return axis, _Boxes(*(np.stack(pair, axis=1).reshape(2 * len(rows), *pair[0].shape[1:]) for pair in pairs))

    def bounded(self, boxes):
        """The boxes with better b and z, moved until the box needs no halving or halving is needed whatever b is.

        For the present b the shortest z points to the u where the relaxation p_interpolated(u) - b^T u is largest. The
        vertex of Q there joins the combination, which is then moved towards the point z + b (Gilbert's algorithm for
        the distance between convex sets, with all weights corrected).
        """
        boxes.bound = np.full(len(boxes.lo), np.inf)
        k, trial = np.arange(len(boxes.lo)), boxes.take(slice(None))
        newest, gap = np.zeros(len(k), dtype=int), np.zeros(len(k))
        for step in range(N_STEPS + 1):
            b = np.einsum("km,kmd->kd", trial.weights, self.points.vertex[trial.chosen])
            p = self.corners.p[trial.corners]
            trial.z = self.shorten(trial.place, p - self.values(trial.place, b), trial.active)
            trial.z = _feasible(p, self.values(trial.place, b + trial.z), trial.z, trial.lo, trial.face)
            trial.bound = np.linalg.norm(trial.z, axis=1)
            better = trial.bound < boxes.bound[k] * (1 - 1e-9)
            # Steps of little use: the metric is too strict in small boxes; a step that does harm: it is too loose.
            useless = step and (boxes.bound[k] - trial.bound < 3e-3 * gap[k]) & (better | (trial.metric == 1))
            change = np.where(useless, 0.1, np.where(better, 0.9 if step else 1.0, 10.0))
            metric = np.minimum(change * trial.metric, 1.0)
            boxes.put(k[better], trial, better)
            boxes.metric[k] = metric
            go = boxes.bound[k] > self.enough(self.price)
            k, fresh = k[go], k[go & better]
            if step == N_STEPS or not len(k):
                break
            u = boxes.z[fresh] / boxes.bound[fresh, None]
            newest[fresh] = self.points.append(u=u, vertex=_active_sums(u, self.Q))
            trial = boxes.take(k)
            u = trial.z / trial.bound[:, None]
            vertex, old = self.points.vertex[newest[k]], self.points.vertex[trial.chosen]
            b = np.einsum("km,kmd->kd", trial.weights, old)
            # The relaxation at u with the best b for u.
            least = trial.bound - np.einsum("kd,kd->k", u, vertex - b)
            gap[k] = trial.bound - least
            self.look(u[least > self.price])
            go = least <= self.enough(self.price)
            k, trial = k[go], trial.take(go)
            if not len(k):
                break
            self.combine(trial, newest[k], vertex[go], old[go], b[go])
        return boxes

    def values(self, place, x):
        """g_k^T x at the corners of the boxes at a place: lower corners, sizes, faces."""
        lo, size, face = place
        along = np.take_along_axis(x * size, self.free[face], axis=1) @ self.bits.T
        return along + np.einsum("kd,kd->k", x, lo)[:, None]

    def touching(self, place, active):
        """Active corners, zero where there is padding, and their regularised Gram matrix."""
        lo, size, face = place
        used = (active >= 0).astype(float)
        number = face[:, None] * len(self.bits) + np.maximum(active, 0)
        G = np.take(self.unit.reshape(-1, self.r), number, axis=0)
        G *= size[:, None]
        G += lo[:, None]
        G *= used[:, :, None]
        length = np.sqrt(np.einsum("kid,kid->ki", G, G)) + (1.0 - used)
        G /= length[:, :, None]
        gram = G @ G.transpose(0, 2, 1)
        np.einsum("kii->ki", gram)[...] += 1.0 - (1.0 - 1e-14 * self.r) * used
        return G, gram, length

    def shorten(self, place, c, active):
        """The shortest z with g_k^T z >= c_k at the corners, by NNLS from a guess of the corners with equality.

        The guess becomes the corners that were found.
        """
        rows = np.arange(len(c))
        z, lam = np.zeros(place[0].shape), np.zeros(place[0].shape)
        k = np.flatnonzero((active >= 0).any(axis=1))
        while len(k):
            lam[k], z[k] = self.touch(place, k, active[k], c)
            negative = (lam[k] <= 0) & (active[k] >= 0)
            active[k] = np.where(negative, -1, active[k])
            k = k[negative.any(axis=1)]
        lam[active < 0] = 0.0
        z[(active < 0).all(axis=1)] = 0.0
        tolerance, k = 1e-12 * np.abs(c).max(axis=1), rows
        for _ in range(4 * self.r):
            short = c[k] - self.values([part[k] for part in place], z[k])
            worst, sets = short.argmax(axis=1), active[k]
            go = short[rows[: len(k)], worst] > tolerance[k]
            go &= (sets < 0).any(axis=1) & (sets != worst[:, None]).all(axis=1)
            k, worst, sets = k[go], worst[go], sets[go]
            if not len(k):
                break
            sets[rows[: len(k)], (sets < 0).argmax(axis=1)] = worst
            multipliers, j = lam[k], rows[: len(k)]
            while len(j):
                target, z[k[j]] = self.touch(place, k[j], sets[j], c)
                multipliers[j], sets[j], left = towards(target, multipliers[j], sets[j])
                j = j[left]
            lam[k], active[k] = multipliers, sets
        return z

    def touch(self, place, k, active, c):
        """Multipliers and z of equality at the active corners of the boxes k."""
        G, gram, length = self.touching([part[k] for part in place], active)
        at = c[k[:, None], np.maximum(active, 0)] * (active >= 0) / length
        lam = np.linalg.solve(gram, at[:, :, None])
        return lam[:, :, 0] / length, (lam.transpose(0, 2, 1) @ G)[:, 0]

    def combine(self, boxes, point, vertex, old, b):
        """Add a vertex to each combination, and choose the weights anew: b should come close to z + b.

        With the Euclidean distance (metric 1) the bound never gets worse, but in small boxes all u are nearly parallel
        and differences of b across them hardly count: towards metric 0 they count as much as the box is wide.
        """
        rows = np.arange(len(point))
        full = (boxes.weights > 0).all(axis=1)
        boxes.weights[full] = _thinned(boxes.weights[full], old[full])
        slot = boxes.weights.argmin(axis=1)
        old[rows, slot], boxes.chosen[rows, slot] = vertex, point
        used = boxes.weights > 0
        used[rows, slot] = True
        away = (boxes.z + b)[:, None] - old
        u = boxes.z / boxes.bound[:, None]
        width = boxes.size / (2 * np.linalg.norm(boxes.lo + boxes.size / 2, axis=1, keepdims=True))
        along = away @ u[:, :, None]
        across = (away - along * u[:, None]) * (width + boxes.metric[:, None] * (1 - width))[:, None]
        away = np.concatenate([along, across], axis=2)
        boxes.weights = _least(away @ away.transpose(0, 2, 1), used)


def _least(gram, used):
    """Weights w >= 0 with sum 1 and the least w^T gram w, by block principal pivoting.

    Without the sum, w is proportional to the solution of (gram + c 11^T) w >= 1, w >= 0, complementary, for any c > 0.

    .. [1] J. J. Judice, F. M. Pires, A block principal pivoting algorithm for large-scale strictly monotone linear
       complementarity problems, Comput. Oper. Res. 21 (1994).
    """
    m = gram.shape[1]
    trace = np.maximum(np.einsum("kii->k", gram), 1e-300)
    gram = gram / trace[:, None, None]
    # As small as the minimum may be, for accuracy.
    gram += 1e-3 * np.einsum("kii->ki", gram).min(axis=1)[:, None, None] + 1e-14
    support, w, k = used.copy(), np.zeros(used.shape), np.arange(len(used))
    for step in range(30):
        F = support[k]
        M = gram[k] * (F[:, :, None] & F[:, None, :])
        np.einsum("kii->ki", M)[...] += np.where(F, 1e-14, 1.0)
        w[k] = np.linalg.solve(M, F[:, :, None].astype(float))[:, :, 0]
        slack = (gram[k] @ w[k][:, :, None])[:, :, 0] - 1
        wrong = np.where(F, w[k] < 0, (slack < -1e-9) & used[k])
        if step >= 5:
            # One at a time, always the last, ends after finitely many steps.
            wrong &= np.arange(m) == m - 1 - wrong[:, ::-1].argmax(axis=1)[:, None]
        support[k] ^= wrong
        k = k[wrong.any(axis=1)]
        if not len(k):
            break
    w = np.where(w > 1e-10 * w.max(axis=1, keepdims=True), w, 0.0)
    w = np.where(w.any(axis=1, keepdims=True), w, used)
    return w / w.sum(axis=1, keepdims=True)


def _thinned(w, S):
    """Weights with the same mean of r + 2 points in r dimensions, one of them zero (Caratheodory)."""
    if not len(w):
        return w
    S = np.concatenate([S, np.broadcast_to(np.abs(S).max(axis=(1, 2))[:, None, None], (*w.shape, 1))], axis=2)
    null = np.linalg.eigh(S @ S.transpose(0, 2, 1))[1][:, :, 0]
    rows = np.arange(len(w))
    null *= np.sign(null[rows, np.abs(null).argmax(axis=1)])[:, None]
    ratio = np.divide(w, null, out=np.full(w.shape, np.inf), where=null > 0)
    w = np.maximum(w - ratio.min(axis=1, keepdims=True) * null, 0.0)
    w[rows, ratio.argmin(axis=1)] = 0.0
    return w / w.sum(axis=1, keepdims=True)
