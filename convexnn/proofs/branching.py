"""Pricing from above: a proved upper bound of the largest price, by branch and bound over cones.

The boxes of ``trees.py`` are halved, those with the largest bounds first, until their bounds are good enough; for each
the point b of the zonotope Q and the vector z that bound it are improved, starting from those of the box it is half of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import STOPS, check, current, late
from convexnn.cones.project import towards
from convexnn.proofs.trees import (
    GRID,
    Tree,
    active_sums,
    corner_bits,
    distinct_corners,
    feasible,
    free_axes,
    reduced_rows,
    root_boxes,
    unit_corners,
)
from convexnn.search.prices import Price
from convexnn.search.pricing import ascend

# A box on the surface of the cube in r dimensions has 2^(r - 1) corners.
MAX_RANK = 12
# Corners of one batch of boxes, and the most boxes in it.
BATCH = (100_000, 1000)
# How often the point b of a box is moved.
N_STEPS = 5
# Memory of a search, in bytes.
MEMORY = 2e9


def bound_price(
    price: Price,
    *,
    accuracy: float = 1e-3,
    target: float = 0.0,
    max_time: float | None = None,
    max_cones: int | None = None,
    known: NDArray | None = None,
) -> Tree:
    """Upper bound of a price over all unit vectors u.

    Parameters
    ----------
    price : Price
        Of rows of rank 12 at most. The bound for the other sign of the output needs a second call.
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
        If the rank of the rows is above 12.

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
    >>> tree = bound_price(Price(np.array([[1.0], [-1.0]]), np.array([3.0, -1.0])))
    >>> print(f"{tree.price:.4f} {tree.bound:.4f} {tree.n_cones}")
    3.0000 3.0000 1
    """
    start = perf_counter()
    basis = _basis(price)
    d, r = basis.shape
    if r > MAX_RANK:
        raise ValueError(
            f"the rank of X is {r}; cones can be searched up to rank {MAX_RANK}. Use the sums-of-squares bound."
        )
    P, Q, tilt, slack = reduced_rows(price, basis)
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
    best = ascend(np.concatenate([P, Q]), signs, starts, 60, lift=price.lift) if len(signs) else np.eye(r)

    # No bound is relatively close to a price of zero.
    zero = 1e-3 * accuracy * float(np.linalg.norm(P, axis=1).sum())

    def enough(found):
        return max((1 + accuracy) * found if found > slack else zero, target, 2 * slack) - slack

    search = _Search(P, Q, tilt, enough, best)
    search.run(np.inf if max_time is None else start + max_time, np.inf if max_cones is None else max_cones)
    chosen, weights, slopes, points = search.evidence()
    maximiser = basis @ search.maximiser
    return Tree(
        float(np.linalg.norm(slopes, axis=1).max()) + slack,
        max(float(price(maximiser)), 0.0),
        maximiser,
        basis,
        np.column_stack([search.splits.box, search.splits.axis]),
        points,
        chosen,
        weights,
        slopes,
        perf_counter() - start,
    )


def _basis(price):
    """Orthonormal basis of the row space: first X^T t, in the direction of larger prices, then principal axes of what
    is left."""
    length = np.abs(price.X).max(initial=0.0)
    if length == 0:
        return np.zeros((price.X.shape[1], 0))
    X = price.X / length
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    V = Vt[s > 1e-13 * max(X.shape) * s[0]].T
    pull = V.T @ (X.T @ price.t) * np.sign(1 + 2 * price.lift)
    if not np.linalg.norm(pull) > 0:
        return V
    # QR completes the pull to a basis, up to its sign.
    frame = np.linalg.qr(np.column_stack([pull / np.linalg.norm(pull), np.eye(len(pull))]))[0]
    frame[:, 0] *= np.sign(frame[:, 0] @ pull)
    frame[:, 1:] @= np.linalg.svd(X @ V @ frame[:, 1:], full_matrices=False)[2].T
    return V @ frame


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

    def __init__(self, P, Q, tilt, enough: Callable[[float], float], starts):
        r = self.r = P.shape[1]
        self.P, self.Q, self.tilt, self.enough = P, Q, tilt, enough
        self.price, self.maximiser = 0.0, np.eye(r)[0]
        self.look(starts)
        self.free, self.bits, self.unit = free_axes(r), corner_bits(r), unit_corners(r)
        self.number: dict[int, int] = {}
        self.corners = _Table(p=np.empty(0), gradient=np.empty((0, r)))
        self.points = _Table(u=np.empty((0, r)), vertex=np.empty((0, r)))
        self.splits = _Table(box=np.empty(0, dtype=int), axis=np.empty(0, dtype=int))
        lo, size, face = root_boxes(r)
        u = lo + size / 2
        point = self.points.append(u=u, vertex=active_sums(u, Q) - tilt)
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
        # In one dimension the sphere is two points, and nothing can be halved.
        heap = np.flatnonzero(self.boxes.size.max(axis=1) > 2 * GRID)
        try:
            while True:
                bounds = self.boxes.bound[heap]
                heap = heap[bounds > self.enough(self.price)]
                memory = self.boxes.nbytes + self.points.nbytes + self.corners.nbytes + 150 * len(self.number)
                over = perf_counter() > end or late() or memory > MEMORY
                if not len(heap) or over or self.splits.n >= max_cones - n_roots:
                    break
                size = min(most, max(50, len(heap) // 4), len(heap))
                order = np.argpartition(-self.boxes.bound[heap], size - 1)
                worst, heap = heap[order[:size]], heap[order[size:]]
                axis, halves = self.halved(self.at(worst))
                halves = self.bounded(halves)
                self.splits.append(box=worst, axis=axis)
                new = self.boxes.append(**vars(halves))
                heap = np.concatenate([heap, new[halves.size.max(axis=1) > 2 * GRID]])
        except STOPS as stop:
            current().stop(stop)
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
            h = np.maximum(U @ self.P.T, 0.0).sum(axis=1) - np.maximum(U @ self.Q.T, 0.0).sum(axis=1) + U @ self.tilt
            h /= np.linalg.norm(U, axis=1)
            if h.max() > self.price:
                self.price, self.maximiser = h.max(), U[h.argmax()] / np.linalg.norm(U[h.argmax()])

    def corner_numbers(self, G):
        """Rows of the table of corners for vectors (..., r); p and its subgradient are computed once a corner."""
        keys, V, inverse = distinct_corners(G.reshape(-1, self.r))
        keys = keys.tolist()
        numbers = np.array([self.number.get(key, -1) for key in keys])
        fresh = np.flatnonzero(numbers < 0)
        if len(fresh):
            gradient = active_sums(V[fresh], self.P)
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
            check()
            b = np.einsum("km,kmd->kd", trial.weights, self.points.vertex[trial.chosen])
            p = self.corners.p[trial.corners]
            trial.z = self.shorten(trial.place, p - self.values(trial.place, b), trial.active)
            trial.z = feasible(p, self.values(trial.place, b + trial.z), trial.z, trial.lo, trial.face)
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
            newest[fresh] = self.points.append(u=u, vertex=active_sums(u, self.Q) - self.tilt)
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
