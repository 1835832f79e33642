"""Soft thresholding on the cones of activation patterns, many blocks at once: neurons that leave features out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from convexnn.budget import check
from convexnn.cones.project import FEASIBILITY_TOL, ZERO

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
    walls: NDArray[np.bool_] | None = None,
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
    walls : bool array of shape (n_blocks, n_samples), optional
        The rows that constrain each block (default: all).

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

    Examples
    --------
    The sample [1, 0] is not active: the first weight may not be positive.

    >>> import numpy as np
    >>> rows, patterns = np.array([[1.0, 0.0]]), np.array([[False]])
    >>> threshold_onto_cones(np.array([[3.0, 2.0]]), np.array([[0.5, 0.5]]), rows, patterns)[0]
    array([[0. , 1.5]])
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
        sides = np.where(patterns[k], 1.0, -1.0)
        if walls is not None:
            sides *= walls[k]
        V[k], final[k], final_signs[k] = _descend(*data, rows, sides, active[k], signs[k], cold[k])
        V[k] *= scale
    V[np.linalg.norm(V, axis=1) <= ZERO * lengths] = 0.0
    return V, final, final_signs


def sparse_norms(V: NDArray, feature_penalty: NDArray | None) -> NDArray:
    """|v| + sum_j mu_j |v_j| of every row of V, shape (n_blocks,); |v| alone without mu."""
    lengths = np.linalg.norm(V, axis=1)
    return lengths if feature_penalty is None else lengths + np.abs(V) @ feature_penalty


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
    walls: NDArray[np.bool_] | None = None,
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
    walls : bool array of shape (n_blocks, n_samples), optional
        As in ``threshold_onto_cones``.

    Returns
    -------
    V : array of shape (n_blocks, n_features)
        Along the maximisers, with the maxima as lengths; no longer than ``floor`` where the maximum is not larger.
    active, signs : arrays
        As in ``threshold_onto_cones``.

    References
    ----------
    .. [1] W. Dinkelbach, On nonlinear fractional programming, Management Science 13 (1967).

    Examples
    --------
    The largest 4 v with |v| + |v| <= 1 is 2.

    >>> import numpy as np
    >>> support(np.array([[3.0, 4.0]]), np.array([1.0, 1.0]), np.array([[1.0, 0.0]]), np.array([[False]]))[0]
    array([[0., 2.]])
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
        wall = None if walls is None else walls[k]
        V[k], active[k], signs[k] = threshold_onto_cones(G[k], thresholds, rows, patterns[k], *guess, size[k], wall)
        lengths = np.linalg.norm(V[k], axis=1)
        open_ = lengths > size[k] * (1 + SUPPORT_TOL)
        k, lengths = k[open_], lengths[open_]
        # Where projections have lost their digits a step may lead down: the root is above every point of the way.
        reached = np.einsum("kd,kd->k", G[k], V[k]) / (lengths + np.abs(V[k]) @ feature_penalty)
        k, reached = k[reached > size[k]], reached[reached > size[k]]
        size[k] = reached
    # What is left differs from the root by rounding.
    above = size > floor
    lengths = np.linalg.norm(V[above], axis=1)
    V[above] *= (size[above] / np.where(lengths > 0, lengths, 1.0))[:, None]
    return V, active, signs


def _descend(Q, T, floor, rows, sides, active, signs, cold):
    """The minimisers for unit vectors Q, their active rows, and signs."""
    n, d = len(rows), Q.shape[1]
    V, final, final_signs = np.empty_like(Q), np.full(Q.shape, -1), np.full(Q.shape, UNKNOWN, dtype=np.int8)
    hard: list[NDArray] = []
    # k: the blocks that are still open, in the order of the faces.
    every, k, faces = sides, np.arange(len(Q)), _Faces(Q, T, rows, sides, active, signs, cold)
    for _ in range(10 * d + 20):
        check()
        lengths = np.linalg.norm(faces.V, axis=1)
        # Rows first, then coordinates: those that are held at zero have no side.
        side = np.empty((len(k), n + d))
        np.matmul(faces.V, rows.T, out=side[:, :n])
        side[:, :n] *= sides
        np.multiply(faces.V, faces.signs, out=side[:, n:])
        worst = np.argmin(side, axis=1)
        tolerance = np.maximum(FEASIBILITY_TOL * lengths, 4e-16 * np.abs(faces.multipliers).sum(axis=1))
        inside = side[np.arange(len(k)), worst] >= -tolerance
        done = faces.sound & (inside | (lengths <= floor[k]))
        V[k[done]], final[k[done]] = faces.V[done], faces.active[done]
        # Without a threshold a sign says nothing.
        final_signs[k[done]] = np.where(faces.T[done] > 0, faces.signs[done], UNKNOWN)
        # A row that is active already, or that finds the set full: rounding has spoilt the small system.
        stuck = (faces.active >= 0).all(axis=1) | (faces.active == worst[:, None]).any(axis=1)
        lost = ~done & (stuck | ~faces.sound)
        hard.append(k[lost])
        stay = ~done & ~lost
        if not stay.all():
            k, worst, sides = k[stay], worst[stay], sides[stay]
            faces.take(stay)
        if not len(k):
            break
        faces.add(worst)
    for j in np.concatenate([*hard, k]).astype(int):
        V[j] = _minimise_one(Q[j], T[j], rows * every[j][:, None])
        final_signs[j] = np.where(T[j] > 0, np.sign(V[j]), UNKNOWN)
    return V, final, final_signs


class _Faces:
    """For every block the point V = q + B^T lam + r with B V = 0 on its active rows B and V = 0 where it is held there.

    ``multipliers`` are lam, one for each slot of ``active``, and r where a coordinate is ``zero``; elsewhere
    r = -T signs, at one of its bounds. Coordinates that are zero drop out of the small systems.
    """

    def __init__(self, Q, T, rows, sides, active, signs, cold):
        """From guesses: what has a multiplier out of bounds leaves until nothing has; forget unusable guesses."""
        m, d = Q.shape
        self.rows, self.Q, self.T, self.sides = rows, Q, T, sides
        self.sound, self.zero = np.ones(m, dtype=bool), np.zeros((m, d), dtype=bool)
        self.active, self.signs = np.full((m, d), -1), np.zeros((m, d))
        self.V, self.multipliers = np.empty_like(Q), np.zeros((m, 2 * d))
        k = np.arange(m)
        self._guess(k, active, signs)
        for _ in range(3 * d):
            check()
            target = self._solve(k)
            lost = ~self.sound[k]
            self._guess(k[lost], np.full((lost.sum(), d), -1), cold[k[lost]])
            low, high = self._bounds(k)
            out = ((target < low) | (target > high)) & ~lost[:, None]
            self.multipliers[k] = target
            self._leave(k, out, target > high)
            k = k[out.any(axis=1) | lost]
            if not len(k):
                return
        self.sound[k] = False

    def take(self, keep) -> None:
        """Forget the other blocks."""
        for name in ("Q", "T", "sides", "sound", "active", "zero", "signs", "V", "multipliers"):
            setattr(self, name, getattr(self, name)[keep])

    def add(self, entering) -> None:
        """Let a row, or behind the last row a coordinate, enter in each block, and move to the minimiser there.

        What meets a bound on the way leaves (the inner loop of bounded least squares).
        """
        n, d = len(self.rows), self.Q.shape[1]
        k = np.flatnonzero(entering >= n)
        j = entering[k] - n
        self.multipliers[k, d + j] = -self.T[k, j] * self.signs[k, j]
        self.zero[k, j], self.signs[k, j] = True, 0.0
        k = np.flatnonzero(entering < n)
        self.active[k, np.argmax(self.active[k] < 0, axis=1)] = entering[k]
        k = np.arange(len(entering))
        for _ in range(3 * d):
            check()
            target = self._solve(k)
            low, high = self._bounds(k)
            over = target > high
            out, before = over | (target < low), self.multipliers[k]
            way = np.where(out, np.abs(target - before), 1.0)
            ratio = np.where(out, np.abs(np.where(over, high, low) - before), np.inf) / np.maximum(way, 1e-300)
            step = np.minimum(ratio.min(axis=1, keepdims=True), 1.0)
            leave = out & (ratio <= step)
            self.multipliers[k] = before + step * (target - before)
            # On the way a system may be nearly singular: the multipliers stay within their bounds all the same.
            self._leave(k, leave, over)
            k = k[leave.any(axis=1)]
            if not len(k):
                return
        self.sound[k] = False

    def _guess(self, k, active, signs) -> None:
        """Active rows and zero coordinates of these blocks, none where they are more than there are dimensions."""
        zero = (signs == 0) & (self.T[k] > 0)
        fits = ((active >= 0).sum(axis=1) + zero.sum(axis=1) <= self.Q.shape[1])[:, None]
        self.active[k] = np.where(fits, -np.sort(-active, axis=1), -1)
        self.zero[k] = zero & fits
        signs = np.where(signs == 0, np.where(self.Q[k] < 0, -1, 1), signs)
        self.signs[k] = np.where(self.zero[k] | (self.T[k] == 0), 0.0, signs)

    def _bounds(self, k):
        """Lower and upper bounds of the multipliers."""
        T = self.T[k]
        return np.column_stack([np.zeros_like(T), -T]), np.column_stack([np.full_like(T, np.inf), T])

    def _leave(self, k, leave, high) -> None:
        """Drop these; a coordinate at its upper bound becomes negative, at its lower bound positive."""
        d = self.Q.shape[1]
        self.active[k] = np.where(leave[:, :d], -1, self.active[k])
        self.zero[k] &= ~leave[:, d:]
        self.signs[k] = np.where(leave[:, d:], np.where(high[:, d:], -1.0, 1.0), self.signs[k])
        self.multipliers[k] = np.where(leave, 0.0, self.multipliers[k])

    def _solve(self, k):
        """V of these blocks, and the multipliers that make it zero where it has to be; says whether it was sound to."""
        d = self.Q.shape[1]
        used = self.active[k] >= 0
        columns = np.flatnonzero(used.any(axis=0))
        rows, used = self.active[k][:, columns], used[:, columns]
        free = ~self.zero[k]
        base = (self.Q[k] - self.T[k] * self.signs[k])[:, :, None]
        target = np.zeros((len(k), 2 * d))
        whole, sound = base, np.ones(len(k), dtype=bool)
        if len(columns):
            side = np.take_along_axis(self.sides[k], rows, axis=1)
            B = self.rows[rows] * (side * used)[:, :, None]
            across, inside = B.transpose(0, 2, 1), B * free[:, None, :]
            gram = inside @ across
            np.einsum("kii->ki", gram)[...] += np.where(used, 1e-15, 1.0)
            S = np.linalg.inv(gram) * used[:, :, None]
            multipliers, left = np.zeros((*rows.shape, 1)), inside @ base
            scale = np.maximum(1.0, np.linalg.norm(base, axis=1)[:, 0])
            for refinement in range(5):
                multipliers = multipliers - S @ left
                whole = base + across @ multipliers
                left = inside @ whole
                # Dependent rows: their Gram matrix says nothing.
                sound = np.abs(left).max(axis=(1, 2)) <= 1e-12 * scale
                if refinement and sound.all():
                    break
            target[:, columns] = multipliers[:, :, 0]
        self.sound[k] = sound
        self.V[k] = np.where(free, whole[:, :, 0], 0.0)
        target[:, d:] = np.where(free, 0.0, -whole[:, :, 0])
        return target


def _minimise_one(q, T, signed_rows):
    """The same by SciPy's bounded least squares on the rows that get violated, for blocks on which the batch fails."""
    bounded = np.flatnonzero(T > 0)
    rows = np.zeros(0, dtype=int)
    v = soft_threshold(q, T)
    for _ in range(100):
        check()
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
