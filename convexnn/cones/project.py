"""Projection onto the cones of activation patterns, many blocks at once.

The weights v whose neuron has pattern D form the cone K = {v : (2 D - I) X v >= 0}.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from convexnn.budget import check

# Violations are measured on unit rows, relative to the length of the projected vector.
FEASIBILITY_TOL = 1e-12
# A projection shorter than this share of the projected vector is zero: its direction would be rounding error.
ZERO = 1e-12


def project_onto_cones(
    Q: NDArray,
    rows: NDArray,
    patterns: NDArray[np.bool_],
    active: NDArray[np.intp] | None = None,
    floor: NDArray | float = 0.0,
    walls: NDArray[np.bool_] | None = None,
) -> tuple[NDArray, NDArray[np.intp]]:
    r"""Nearest points of the pattern cones, by an active-set method that treats all blocks together.

    With B the signed rows of block k, the projection is q + B^T lam, where lam >= 0 minimises |q + B^T lam|: a
    non-negative least-squares problem with n_samples unknowns of which at most n_features are positive. Each sweep
    prices all samples of all open blocks with one matrix product, adds the most violated row of each, solves the
    small systems of the rows that hold with equality, and drops rows whose multiplier turns negative.

    Parameters
    ----------
    Q : array of shape (n_blocks, n_features)
        Points to project.
    rows : array of shape (n_samples, n_features)
        Data rows scaled to unit length; zero rows are allowed and constrain nothing.
    patterns : bool array of shape (n_blocks, n_samples)
        Pattern of each block.
    active : int array of shape (n_blocks, n_features), optional
        Guess of the rows that hold with equality, -1 where there is none; as returned by an earlier call.
    floor : array of shape (n_blocks,) or float, default=0.0
        A projection found to be no longer than this is left unfinished: the length only shrinks while rows are added,
        so most blocks that a threshold would cut anyway are left early.
    walls : bool array of shape (n_blocks, n_samples), optional
        The rows that constrain each block (default: all).

    Returns
    -------
    projection : array of shape (n_blocks, n_features)
        Within 1e-12 of the cone, relative to its own length; or, where that is no longer than ``floor``, some
        q + B^T lam with lam >= 0, outside the cone but no longer than ``floor`` either.
    active : int array of shape (n_blocks, n_features)
        Rows that hold with equality, -1 as padding.

    References
    ----------
    .. [1] C. L. Lawson, R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23 (algorithm NNLS).
    """
    n_blocks, n_features = Q.shape
    active = np.full((n_blocks, n_features), -1) if active is None else active.copy()
    projection, floor = Q.copy(), np.broadcast_to(floor, n_blocks)
    lengths = np.linalg.norm(Q, axis=1)
    n_samples = len(rows)
    # Blocks that cannot pass the floor need no work.
    candidates = np.flatnonzero(lengths > floor)
    active[lengths <= floor] = -1
    if not n_samples:
        return projection, active
    size = max(1, min(4_000_000 // n_samples, 8_000_000 // n_features**2))
    for start in range(0, len(candidates), size):
        k = candidates[start : start + size]
        signs = np.where(patterns[k], 1.0, -1.0)
        if walls is not None:
            signs *= walls[k]
        projection[k], active[k] = _project(Q[k] / lengths[k, None], rows, signs, active[k], floor[k] / lengths[k])
        projection[k] *= lengths[k, None]
    return projection, active


def _project(Q, rows, signs, active, floor):
    """The projection for unit vectors Q onto {v : signs * (rows v) >= 0}, and the final active sets."""
    n_features = Q.shape[1]
    floor = np.maximum(floor, ZERO)
    V, final = np.empty_like(Q), np.full(active.shape, -1)
    hard: list[NDArray] = []
    # k: the blocks that are still open, in the order of the faces.
    every, k, faces = signs, np.arange(len(Q)), _Faces(Q, rows, signs, active)
    for _ in range(5 * n_features + 20):
        check()
        lengths = np.linalg.norm(faces.V, axis=1)
        short = faces.sound & (lengths <= floor[k])
        V[k[short]], final[k[short]] = faces.V[short], faces.active[short]
        hard.append(k[~faces.sound])
        keep = faces.sound & ~short
        if not keep.all():
            k, lengths, signs = k[keep], lengths[keep], signs[keep]
            faces.take(keep)
        if not len(k):
            break
        side = faces.V @ rows.T
        side *= signs
        worst = np.argmin(side, axis=1)
        tolerance = np.maximum(FEASIBILITY_TOL * lengths, 4e-16 * faces.multipliers.sum(axis=1))
        stay = side[np.arange(len(worst)), worst] < -tolerance
        V[k[~stay]], final[k[~stay]] = faces.V[~stay], faces.active[~stay]
        # A violated row that is in the set already, or that finds it full: rounding has spoilt the small system.
        stuck = stay & ((faces.active >= 0).all(axis=1) | (faces.active == worst[:, None]).any(axis=1))
        hard.append(k[stuck])
        stay &= ~stuck
        if not stay.all():
            k, worst, signs = k[stay], worst[stay], signs[stay]
            faces.take(stay)
        if not len(k):
            break
        faces.add(worst, rows[worst] * signs[np.arange(len(k)), worst][:, None])
    for j in np.concatenate([*hard, k]).astype(int):
        check()
        V[j] = _project_one(Q[j], rows * every[j][:, None])
        final[j] = -1
    V[np.linalg.norm(V, axis=1) <= ZERO] = 0.0
    return V, final


class _Faces:
    """For every block the point V = q + B^T multipliers with B V = 0 on its active rows B, one row a slot.

    The inverse S of the Gram matrix B B^T goes along, by updates of rank one when a row enters or leaves; unused slots
    of B, S and the multipliers are zero.
    """

    def __init__(self, Q, rows, signs, active):
        """From guessed active sets: drop rows with negative multipliers until none is left; forget unusable guesses."""
        n, d = Q.shape
        self.Q, self.V, self.active = Q, Q.copy(), active.copy()
        self.B, self.S = np.zeros((n, d, d)), np.zeros((n, d, d))
        self.multipliers, self.sound = np.zeros_like(Q), np.ones(n, dtype=bool)
        k = np.flatnonzero((active >= 0).any(axis=1))
        self.B[k] = rows[self.active[k]] * np.take_along_axis(signs[k], self.active[k], axis=1)[:, :, None]
        while len(k):
            check()
            self.B[k] *= (self.active[k] >= 0)[:, :, None]
            self._invert(k)
            self._solve(k)
            lost = ~self.sound[k]
            negative = (self.multipliers[k] < 0) & (self.active[k] >= 0)
            self.active[k] = np.where(negative | lost[:, None], -1, self.active[k])
            k = k[negative.any(axis=1) | lost]
            self.sound[k] = True

    def take(self, keep) -> None:
        """Forget the other blocks."""
        for name, value in vars(self).items():
            setattr(self, name, value[keep])

    def add(self, row, b) -> None:
        """Let the rows b of these indices enter, one for each block, and move to the minimiser on the larger set.

        Rows that block the way leave (the inner loop of NNLS).
        """
        k, slot = np.arange(len(b)), np.argmax(self.active < 0, axis=1)
        width = max(int(np.flatnonzero((self.active >= 0).any(axis=0)).max(initial=-1)) + 1, int(slot.max()) + 1)
        B, S = self.B[:, :width], self.S[:, :width, :width]
        # w: what of b is orthogonal to B, by the normal equations refined once.
        u = _times(S, _times(B, b))
        w = b - _times(B.transpose(0, 2, 1), u)
        more = _times(S, _times(B, w))
        u += more
        w -= _times(B.transpose(0, 2, 1), more)
        rest = np.einsum("kd,kd->k", w, w)
        self.sound &= rest > 1e-24
        rest = np.maximum(rest, 1e-24)
        S += (u / rest[:, None])[:, :, None] * u[:, None, :]
        S[k, slot, :] = S[k, :, slot] = -u / rest[:, None]
        S[k, slot, slot] = 1.0 / rest
        self.B[k, slot], self.active[k, slot] = b, row
        step = -np.einsum("kd,kd->k", b, self.V) / rest
        target = self.multipliers.copy()
        target[:, :width] -= step[:, None] * u
        target[k, slot] = step
        V = self.V + step[:, None] * w
        off = np.abs(_times(B, V)).max(axis=1) > 1e-14
        self.multipliers, self.active, left = towards(target, self.multipliers, self.active)
        self.V = V
        k = np.flatnonzero(left)
        while len(k):
            check()
            self._drop(k)
            before = self.multipliers[k]
            self._solve(k)
            self.multipliers[k], self.active[k], left = towards(self.multipliers[k], before, self.active[k])
            off[k] = False
            k = k[left & self.sound[k]]
        self._solve(np.flatnonzero(off))

    def _drop(self, k) -> None:
        """Take the rows out of B and S that have left the active sets of these blocks."""
        while True:
            gone = (self.active[k] < 0) & (np.einsum("kii->ki", self.S[k]) > 0)
            k, gone = k[gone.any(axis=1)], gone[gone.any(axis=1)]
            if not len(k):
                return
            slot = np.argmax(gone, axis=1)
            column = self.S[k, :, slot]
            pivot = column[np.arange(len(k)), slot]
            self.S[k] -= (column / pivot[:, None])[:, :, None] * column[:, None, :]
            self.S[k, slot, :] = self.S[k, :, slot] = 0.0
            self.B[k, slot] = 0.0

    def _invert(self, k) -> None:
        """S of these blocks from scratch."""
        used = self.active[k] >= 0
        check(2.0 * len(k) * used.shape[1] ** 3)
        gram = self.B[k] @ self.B[k].transpose(0, 2, 1)
        np.einsum("kii->ki", gram)[...] += np.where(used, 1e-15, 1.0)
        self.S[k] = np.linalg.inv(gram) * (used[:, :, None] & used[:, None, :])

    def _solve(self, k) -> None:
        """V and the multipliers of these blocks from B and S, refined until B V = 0 to rounding."""
        for fresh in (False, True):
            if fresh:
                self._invert(k)
            check()
            B, S, Q = self.B[k], self.S[k], self.Q[k]
            V, multipliers = Q, np.zeros_like(Q)
            for _ in range(3):
                multipliers -= _times(S, _times(B, V))
                V = Q + _times(B.transpose(0, 2, 1), multipliers)
            self.V[k], self.multipliers[k] = V, multipliers
            # Dependent rows: their Gram matrix says nothing.
            self.sound[k] = np.abs(_times(B, V)).max(axis=1, initial=0.0) <= 1e-12
            k = k[~self.sound[k]]
            if not len(k):
                return


def _times(matrices, vectors):
    """Products of matrices (k, m, n) and vectors (k, n)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def towards(
    target: NDArray, multipliers: NDArray, active: NDArray[np.intp]
) -> tuple[NDArray, NDArray[np.intp], NDArray[np.bool_]]:
    """Multipliers moved to their target, or until the first is zero: its row leaves the active set.

    Parameters
    ----------
    target, multipliers : arrays of shape (n_blocks, n_features)
        The wanted multipliers, of either sign, and the present ones, which are non-negative.
    active : int array of shape (n_blocks, n_features)
        The rows that they belong to, -1 where there is none.

    Returns
    -------
    multipliers : array of shape (n_blocks, n_features)
    active : int array of shape (n_blocks, n_features)
    left : bool array of shape (n_blocks,)
        Whether a row has left.
    """
    blocking = (target <= 0) & (active >= 0)
    descent = multipliers - target
    ratio = np.where(blocking, 0.0, 1.0)
    np.divide(multipliers, descent, out=ratio, where=blocking & (descent > 0))
    step = ratio.min(axis=1, keepdims=True)
    leave = blocking & (ratio <= step)
    active = np.where(leave, -1, active)
    return np.where(active >= 0, multipliers + step * (target - multipliers), 0.0), active, leave.any(axis=1)


def _project_one(q, signed_rows):
    """The same projection by SciPy's NNLS, for the rare block on which the batch did not settle."""
    multipliers, _ = nnls(signed_rows.T, -q)
    return q + signed_rows.T @ multipliers
