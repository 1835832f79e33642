"""Soft thresholding on the cones of activation patterns, many blocks at once: neurons that leave features out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from convexnn.cones import FEASIBILITY_TOL, ZERO

# The support function is found when the last step moved it by less than this share.
SUPPORT_TOL = 1e-13
# A coordinate of which nothing is known: its sign is that of soft thresholding.
UNKNOWN = 2


def threshold_onto_cones(
    Q: NDArray,
    thresholds: NDArray,
    rows: NDArray,
    patterns: NDArray[np.bool_],
    active: NDArray[np.intp] | None = None,
    signs: NDArray[np.int8] | None = None,
    floor: NDArray | float = 0.0,
) -> tuple[NDArray, NDArray[np.intp], NDArray[np.int8]]:
    r"""Minimisers of |v - q|^2 / 2 + sum_j T_j |v_j| over the pattern cones, by an active-set method on all blocks.

    With B the signed rows of block k, the minimiser is v = q + B^T lam + r, where lam >= 0 and |r_j| <= T_j minimise
    |q + B^T lam + r|: least squares with bounds. A coordinate is zero where r_j is within its bounds, and has the sign
    of -r_j where it is not. Each sweep looks at all rows and coordinates of all open blocks, lets the one that is most
    on the wrong side enter the set of those that are zero, solves the small systems of that set, and lets those leave
    whose multiplier meets a bound. Cold starts begin at soft thresholding, the answer where no row is violated.

    Parameters
    ----------
    Q : array of shape (n_blocks, n_features)
        Points.
    thresholds : array of shape (n_blocks, n_features)
        T, non-negative.
    rows : array of shape (n_samples, n_features)
        Data rows scaled to unit length; zero rows are allowed and constrain nothing.
    patterns : bool array of shape (n_blocks, n_samples)
        Pattern of each block.
    active : int array of shape (n_blocks, n_features), optional
        Guess of the rows that hold with equality, -1 where there is none; as returned by an earlier call.
    signs : int array of shape (n_blocks, n_features), optional
        Guess of the signs of the coordinates, 0 where they are zero, 2 for no guess; as returned by an earlier call.
    floor : array of shape (n_blocks,) or float, default=0.0
        A block found to be no longer than this is left unfinished: the length only shrinks on the way.

    Returns
    -------
    V : array of shape (n_blocks, n_features)
        Within 1e-12 of the cone, relative to their own length, with exact zeros; or, where no longer than ``floor``,
        some q + B^T lam + r with lam >= 0 and \|r_j\| <= T_j.
    active : int array of shape (n_blocks, n_features)
        Rows that hold with equality, -1 as padding.
    signs : int array of shape (n_blocks, n_features)
        Signs of the coordinates, 0 where a threshold keeps them at zero, 2 where there is none.

    References
    ----------
    .. [1] P. B. Stark, R. L. Parker, Bounded-variable least-squares: an algorithm and applications, Computational
       Statistics 10 (1995).
    """
    n_blocks, n_features = Q.shape
    thresholds, floor = np.broadcast_to(thresholds, Q.shape), np.broadcast_to(floor, n_blocks)
    active = np.full(Q.shape, -1) if active is None else active
    V = soft_threshold(Q, thresholds)
    cold = np.where(np.abs(Q) <= thresholds, 0, np.where(Q < 0, -1, 1)).astype(np.int8)
    signs = cold if signs is None else np.where(signs == UNKNOWN, cold, signs)
    final, final_signs = np.full(Q.shape, -1), np.full(Q.shape, UNKNOWN, dtype=np.int8)
    lengths = np.linalg.norm(Q, axis=1)
    # Soft thresholding is the first point of the descent: what it leaves short stays short.
    candidates = np.flatnonzero(np.linalg.norm(V, axis=1) > np.maximum(floor, ZERO * lengths))
    size = max(1, min(4_000_000 // max(len(rows), 1), 8_000_000 // n_features**2))
    for start in range(0, len(candidates), size):
        k = candidates[start : start + size]
        scale = lengths[k, None]
        data = Q[k] / scale, thresholds[k] / scale, np.maximum(floor[k] / lengths[k], ZERO)
        V[k], final[k], final_signs[k] = _descend(*data, rows, patterns[k], active[k], signs[k], cold[k])
        V[k] *= scale
    V[np.linalg.norm(V, axis=1) <= ZERO * lengths] = 0.0
    return V, final, final_signs


def soft_threshold(Q: NDArray, thresholds: NDArray) -> NDArray:
    """sign(q) (|q| - T)_+ entry by entry: the same without cones.

    Parameters
    ----------
    Q, thresholds : arrays of equal shape
        Points, and T.

    Returns
    -------
    V : array
    """
    return np.sign(Q) * np.maximum(np.abs(Q) - thresholds, 0.0)


def support(
    G: NDArray,
    feature_penalty: NDArray,
    rows: NDArray,
    patterns: NDArray[np.bool_],
    active: NDArray[np.intp] | None = None,
    signs: NDArray[np.int8] | None = None,
    floor: NDArray | float = 0.0,
) -> tuple[NDArray, NDArray[np.intp], NDArray[np.int8]]:
    r"""Maximisers of g^T v over the part of the pattern cones with |v| + sum_j mu_j |v_j| <= 1.

    The maximum is the only s at which p(s), the minimiser of |v - g|^2 / 2 + s sum_j mu_j |v_j| over the cone, is s
    long, and p(s) points to the maximiser. |p(s)| is the distance of g from s times a convex set that holds zero, hence
    convex and falling, and Newton's step for |p(s)| = s is s = g^T p / (|p| + sum_j mu_j |p_j|): each step attains its
    value, and they rise to the root.

    Parameters
    ----------
    G : array of shape (n_blocks, n_features)
        Directions.
    feature_penalty : array of shape (n_features,)
        mu, non-negative.
    rows, patterns, active, signs
        As in ``threshold_onto_cones``.
    floor : array of shape (n_blocks,) or float, default=0.0
        Blocks whose maximum is no larger are left unfinished; the higher, the sooner the others are done.

    Returns
    -------
    V : array of shape (n_blocks, n_features)
        Along the maximisers, with the maxima as lengths; no longer than ``floor`` where the maximum is not larger.
    active, signs : arrays
        As in ``threshold_onto_cones``.

    References
    ----------
    .. [1] W. Dinkelbach, On nonlinear fractional programming, Management Science 13 (1967).
    """
    V, size = G.copy(), np.broadcast_to(floor, len(G)).astype(float)
    active = np.full(G.shape, -1) if active is None else active.copy()
    signs = np.full(G.shape, UNKNOWN, dtype=np.int8) if signs is None else signs.copy()
    k = np.arange(len(G))
    for _ in range(100):
        if not len(k):
            break
        thresholds = size[k, None] * feature_penalty
        guess = active[k], signs[k]
        V[k], active[k], signs[k] = threshold_onto_cones(G[k], thresholds, rows, patterns[k], *guess, size[k])
        lengths = np.linalg.norm(V[k], axis=1)
        open_ = lengths > size[k] * (1 + SUPPORT_TOL)
        k, lengths = k[open_], lengths[open_]
        size[k] = np.einsum("kd,kd->k", G[k], V[k]) / (lengths + np.abs(V[k]) @ feature_penalty)
    # What is left differs from the root by rounding.
    above = size > floor
    lengths = np.linalg.norm(V[above], axis=1)
    V[above] *= (size[above] / np.where(lengths > 0, lengths, 1.0))[:, None]
    return V, active, signs


def _descend(Q, T, floor, rows, patterns, active, signs, cold):
    """The minimisers for unit vectors Q, their active rows, and signs."""
    n, d = len(rows), Q.shape[1]
    V, final, final_signs = np.empty_like(Q), np.full(Q.shape, -1), np.full(Q.shape, UNKNOWN, dtype=np.int8)
    hard: list[NDArray] = []
    # k: the blocks that are still open, in the order of the faces. A coordinate is row n + j of the table.
    table = np.vstack([rows, np.eye(d)])
    k, faces = np.arange(len(Q)), _Faces(Q, T, table, patterns, active, signs, cold)
    sides = np.where(patterns, 1.0, -1.0)
    for _ in range(10 * d + 20):
        lengths = np.linalg.norm(faces.V, axis=1)
        side = (faces.V @ rows.T) * sides[k] if n else np.zeros((len(k), 0))
        side = np.column_stack([side, faces.V * faces.signs])
        worst = np.argmin(side, axis=1)
        tolerance = np.maximum(FEASIBILITY_TOL * lengths, 4e-16 * np.abs(faces.multipliers).sum(axis=1))
        inside = side[np.arange(len(k)), worst] >= -tolerance
        done = faces.sound & (inside | (lengths <= floor[k]))
        V[k[done]] = faces.V[done]
        final[k[done]] = np.where(faces.slots[done] < n, faces.slots[done], -1)
        final_signs[k[done]] = faces.coordinate_signs(done)
        # One that is in the set already, or that finds it full: rounding has spoilt the small system.
        stuck = (faces.slots >= 0).all(axis=1) | (faces.slots == worst[:, None]).any(axis=1)
        lost = ~done & (stuck | ~faces.sound)
        hard.append(k[lost])
        stay = ~done & ~lost
        k, worst = k[stay], worst[stay]
        if not len(k):
            break
        faces.take(stay)
        faces.add(worst)
    for j in np.concatenate([*hard, k]).astype(int):
        V[j] = _minimise_one(Q[j], T[j], rows * np.where(patterns[j], 1.0, -1.0)[:, None])
        final_signs[j] = np.where(T[j] > 0, np.sign(V[j]), UNKNOWN)
    return V, final, final_signs


class _Faces:
    """For every block the point V = q + B^T multipliers - T signs with V = 0 on its slots, rows of the table.

    Multipliers of data rows are in [0, inf), of coordinates in [-T, T]; the coordinates that are in no slot are at one
    of these bounds, on the side that ``signs`` says.
    """

    def __init__(self, Q, T, table, patterns, active, signs, cold):
        """From guesses: what has a multiplier out of bounds leaves until nothing has; forget unusable guesses."""
        self.Q, self.T, self.table, self.patterns = Q, T, table, patterns
        m, d = Q.shape
        self.n = len(table) - d
        self.sound = np.ones(m, dtype=bool)
        self.slots, self.signs = np.full((m, d), -1), np.zeros((m, d))
        self.V, self.multipliers = np.empty_like(Q), np.zeros_like(Q)
        self._guess(np.arange(m), active, signs)
        k = np.arange(m)
        for _ in range(3 * d):
            target = self._solve(k)
            lost = k[~self.sound[k]]
            self.sound[lost] = True
            self._guess(lost, np.full((len(lost), d), -1), cold[lost])
            low, high = self._bounds(k)
            out = (self.slots[k] >= 0) & ((target < low) | (target > high)) & ~np.isin(k, lost)[:, None]
            self._leave(k, out, target > high)
            self.multipliers[k] = np.where(self.slots[k] >= 0, target, 0.0)
            k = k[out.any(axis=1) | np.isin(k, lost)]
            if not len(k):
                break
        self.sound[k] = False

    def take(self, keep) -> None:
        """Forget the other blocks."""
        for name in ("Q", "T", "patterns", "sound", "slots", "signs", "V", "multipliers"):
            setattr(self, name, getattr(self, name)[keep])

    def coordinate_signs(self, k):
        """-1, 0 or 1, and UNKNOWN where there is no threshold."""
        return np.where(self.T[k] > 0, self.signs[k], UNKNOWN).astype(np.int8)

    def add(self, entering) -> None:
        """Let these rows of the table enter, one for each block, and move to the minimiser on the larger set.

        What meets a bound on the way leaves (the inner loop of bounded least squares).
        """
        k, slot = np.arange(len(entering)), np.argmax(self.slots < 0, axis=1)
        coordinate = entering >= self.n
        j = entering[coordinate] - self.n
        self.slots[k, slot] = entering
        at = k[coordinate]
        self.multipliers[at, slot[coordinate]] = -self.T[at, j] * self.signs[at, j]
        self.signs[at, j] = 0.0
        for _ in range(3 * self.Q.shape[1]):
            target = self._solve(k)
            low, high = self._bounds(k)
            before, used = self.multipliers[k], self.slots[k] >= 0
            out = used & ((target < low) | (target > high))
            way = np.where(out, np.abs(target - before), 1.0)
            ratio = np.where(out, np.abs(np.where(target > high, high, low) - before), np.inf) / np.maximum(way, 1e-300)
            step = np.minimum(ratio.min(axis=1, keepdims=True), 1.0)
            leave = out & (ratio <= step)
            self.multipliers[k] = np.where(used, before + step * (target - before), 0.0)
            self._leave(k, leave, target > high)
            # On the way a system may be nearly singular: the multipliers stay within their bounds all the same.
            k = k[leave.any(axis=1)]
            if not len(k):
                return
        self.sound[k] = False

    def _guess(self, k, active, signs) -> None:
        """Slots of these blocks from active rows and zero coordinates; the first that fit."""
        d = self.Q.shape[1]
        zero = np.where((signs == 0) & (self.T[k] > 0), self.n + np.arange(d), -1)
        both = -np.sort(-np.column_stack([active, zero]), axis=1)
        self.slots[k] = both[:, :d]
        full = np.any(both[:, d:] >= 0, axis=1)
        self.slots[k[full]] = -1
        signs = np.where(signs == 0, np.where(self.Q[k] < 0, -1, 1), signs)
        in_slot = (zero >= 0) & ~full[:, None]
        self.signs[k] = np.where(in_slot | (self.T[k] == 0), 0.0, signs)

    def _bounds(self, k):
        """Lower and upper bounds of the multipliers of the slots."""
        coordinate = self.slots[k] >= self.n
        T = np.take_along_axis(self.T[k], np.where(coordinate, self.slots[k] - self.n, 0), axis=1)
        return np.where(coordinate, -T, 0.0), np.where(coordinate, T, np.inf)

    def _leave(self, k, leave, high) -> None:
        """Empty these slots; a coordinate at its upper bound becomes negative, at its lower bound positive."""
        block, slot = np.nonzero(leave)
        index = self.slots[k[block], slot]
        coordinate = index >= self.n
        sign = np.where(high[block, slot], -1.0, 1.0)
        self.signs[k[block[coordinate]], index[coordinate] - self.n] = sign[coordinate]
        self.slots[k[block], slot] = -1
        self.multipliers[k[block], slot] = 0.0

    def _solve(self, k):
        """V of these blocks, and the multipliers that make it zero on the slots; says whether it was sound to."""
        slots = self.slots[k]
        used = slots >= 0
        width = int(np.flatnonzero(used.any(axis=0)).max(initial=-1)) + 1
        slots, used = slots[:, :width], used[:, :width]
        rows = np.where(used & (slots < self.n), slots, 0)
        side = np.take_along_axis(self.patterns[k], rows, axis=1) if self.n else np.ones(rows.shape, dtype=bool)
        sign = np.where(side | (slots >= self.n), 1.0, -1.0) * used
        B = self.table[slots] * sign[:, :, None]
        gram = B @ B.transpose(0, 2, 1)
        np.einsum("kii->ki", gram)[...] += np.where(used, 1e-15, 1.0)
        S = np.linalg.inv(gram)
        base = self.Q[k] - self.T[k] * self.signs[k]
        S *= used[:, :, None]
        V, multipliers, across = base[:, :, None], np.zeros((len(k), width, 1)), B.transpose(0, 2, 1)
        left = B @ V
        scale = np.maximum(1.0, np.linalg.norm(base, axis=1))
        for refinement in range(5):
            multipliers = multipliers - S @ left
            V = base[:, :, None] + across @ multipliers
            left = B @ V
            # Dependent rows: their Gram matrix says nothing.
            self.sound[k] = np.abs(left).max(axis=(1, 2), initial=0.0) <= 1e-12 * scale
            if refinement and self.sound[k].all():
                break
        self.V[k] = V[:, :, 0]
        block, slot = np.nonzero(slots >= self.n)
        self.V[k[block], slots[block, slot] - self.n] = 0.0
        found = np.zeros((len(k), self.Q.shape[1]))
        found[:, :width] = multipliers[:, :, 0]
        return found


def _minimise_one(q, T, signed_rows):
    """The same by SciPy's bounded least squares on the rows that get violated, for blocks on which the batch fails."""
    bounded = np.flatnonzero(T > 0)
    rows = np.zeros(0, dtype=int)
    v = soft_threshold(q, T)
    for _ in range(100):
        side = signed_rows @ v
        wrong = np.flatnonzero(side < -FEASIBILITY_TOL * np.linalg.norm(v))
        wrong = np.setdiff1d(wrong[np.argsort(side[wrong])[:5]], rows)
        if not len(wrong):
            break
        rows = np.append(rows, wrong)
        A = np.column_stack([signed_rows[rows].T, np.eye(len(q))[:, bounded]])
        low = np.concatenate([np.zeros(len(rows)), -T[bounded]])
        high = np.concatenate([np.full(len(rows), np.inf), T[bounded]])
        x = lsq_linear(A, -q, (low, high), method="bvls", tol=1e-15, max_iter=1000).x
        v = q + A @ x
        v[(T > 0) & (np.abs(v) <= 1e-10 * np.linalg.norm(v))] = 0.0
    return v if np.linalg.norm(v) > 1e-9 else np.zeros_like(v)
