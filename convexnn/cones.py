"""Projection onto the cones of activation patterns, many blocks at once.

The weights v whose neuron has pattern D form the cone K = {v : (2 D - I) X v >= 0}.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

# Violations are measured on unit rows, relative to the length of the projected vector.
FEASIBILITY_TOL = 1e-12
# A projection shorter than this share of the projected vector is zero: its direction would be rounding error.
ZERO = 1e-12


def project_onto_cones(
    Q: NDArray, rows: NDArray, patterns: NDArray[np.bool_], active: NDArray[np.intp] | None = None, floor: float = 0.0
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
    floor : float, default=0.0
        A projection found to be no longer than this is returned as zero: the length only shrinks while rows are
        added, so most blocks that a threshold would cut anyway are left early.

    Returns
    -------
    projection : array of shape (n_blocks, n_features)
        Within 1e-12 of the cone, relative to its own length.
    active : int array of shape (n_blocks, n_features)
        Rows that hold with equality, -1 as padding.

    References
    ----------
    .. [1] C. L. Lawson, R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23 (algorithm NNLS).
    """
    n_blocks, n_features = Q.shape
    active = np.full((n_blocks, n_features), -1) if active is None else active.copy()
    projection = np.zeros_like(Q)
    lengths = np.linalg.norm(Q, axis=1)
    n_samples = len(rows)
    # Blocks that cannot pass the floor are zero without any work.
    candidates = np.flatnonzero(lengths > floor)
    active[lengths <= floor] = -1
    if not n_samples:
        projection[candidates] = Q[candidates]
        return projection, active
    size = max(1, 4_000_000 // max(n_samples, 1))
    for start in range(0, len(candidates), size):
        k = candidates[start : start + size]
        projection[k], active[k] = _project(Q[k] / lengths[k, None], rows, patterns[k], active[k], floor / lengths[k])
        projection[k] *= lengths[k, None]
    return projection, active


def _project(Q, rows, patterns, active, floor):
    """The projection for unit vectors Q, and the final active sets."""
    n_features = Q.shape[1]
    floor = np.maximum(floor, ZERO)
    V, multipliers, active = _start(Q, rows, patterns, active)
    lengths = np.linalg.norm(V, axis=1)
    V[lengths <= floor] = 0.0
    open_blocks = np.flatnonzero(lengths > floor)
    signs = np.where(patterns[open_blocks], 1.0, -1.0)
    hard: list[NDArray] = []
    for _ in range(5 * n_features + 20):
        if not len(open_blocks):
            break
        side = V[open_blocks] @ rows.T
        side *= signs
        worst = np.argmin(side, axis=1)
        tolerance = np.maximum(FEASIBILITY_TOL * lengths[open_blocks], 4e-16 * multipliers[open_blocks].sum(axis=1))
        stay = side[np.arange(len(worst)), worst] < -tolerance
        # A violated row that is in the set already, or that finds it full: rounding has spoilt the small system.
        sets = active[open_blocks]
        stuck = stay & ((sets >= 0).all(axis=1) | (sets == worst[:, None]).any(axis=1))
        hard.append(open_blocks[stuck])
        stay &= ~stuck
        if not stay.all():
            open_blocks, worst, sets, signs = open_blocks[stay], worst[stay], sets[stay], signs[stay]
        if not len(open_blocks):
            break
        slot = np.argmax(sets < 0, axis=1)
        sets[np.arange(len(slot)), slot] = worst
        V[open_blocks], multipliers[open_blocks], active[open_blocks], sound = _step(
            Q[open_blocks], rows, patterns[open_blocks], sets, multipliers[open_blocks]
        )
        hard.append(open_blocks[~sound])
        lengths[open_blocks] = np.linalg.norm(V[open_blocks], axis=1)
        gone = lengths[open_blocks] <= floor[open_blocks]
        V[open_blocks[gone & sound]] = 0.0
        if gone.any() or not sound.all():
            open_blocks, signs = open_blocks[~gone & sound], signs[~gone & sound]
    for k in np.concatenate([*hard, open_blocks]).astype(int):
        V[k] = _project_one(Q[k], rows * np.where(patterns[k], 1.0, -1.0)[:, None])
        active[k] = -1
        if np.linalg.norm(V[k]) <= floor[k]:
            V[k] = 0.0
    return V, active


def _face(Q, rows, patterns, active):
    """Projection onto the subspace where the active rows vanish, their multipliers, and whether it can be trusted."""
    width = max(1, int((active >= 0).sum(axis=1).max(initial=0)))
    order = np.argsort(active < 0, axis=1, kind="stable")[:, :width]
    rows_used = np.take_along_axis(active, order, axis=1)
    used = rows_used >= 0
    B = rows[rows_used] * np.where(np.take_along_axis(patterns, rows_used, axis=1), 1.0, -1.0)[:, :, None]
    B *= used[:, :, None]
    transposed = B.transpose(0, 2, 1)
    gram = B @ transposed
    np.einsum("kii->ki", gram)[...] += np.where(used, 1e-15, 1.0)
    solved = np.linalg.solve(gram, -(B @ Q[:, :, None]))
    V = Q + (transposed @ solved)[:, :, 0]
    # Nearly parallel rows make the Gram matrix ill-conditioned: one step of iterative refinement where it shows.
    rest = B @ V[:, :, None]
    rough = np.abs(rest).max(axis=(1, 2)) > 1e-14
    if rough.any():
        more = np.linalg.solve(gram[rough], -rest[rough])
        V[rough] += (transposed[rough] @ more)[:, :, 0]
        solved[rough] += more
    multipliers = np.zeros_like(Q)
    np.put_along_axis(multipliers, order, solved[:, :, 0] * used, axis=1)
    sound = np.ones(len(Q), dtype=bool)
    # Dependent rows: their Gram matrix says nothing.
    sound[rough] = np.abs(np.einsum("kmd,kd->km", B[rough], V[rough])).max(axis=1) <= 1e-12
    return V, multipliers, sound


def _start(Q, rows, patterns, active):
    """From a guessed active set: drop rows with negative multipliers until none is left; forget an unusable guess."""
    V, multipliers = Q.copy(), np.zeros_like(Q)
    k = np.flatnonzero((active >= 0).any(axis=1))
    while len(k):
        V[k], multipliers[k], sound = _face(Q[k], rows, patterns[k], active[k])
        negative = (multipliers[k] < 0) & (active[k] >= 0)
        active[k] = np.where(negative | ~sound[:, None], -1, active[k])
        V[k[~sound]] = Q[k[~sound]]
        k = k[negative.any(axis=1) & sound]
    multipliers[active < 0] = 0.0
    return V, multipliers, active


def _step(Q, rows, patterns, active, multipliers):
    """Inner loop of NNLS: move to the minimiser on the enlarged set, dropping rows that block the way."""
    V = Q.copy()
    sound = np.ones(len(Q), dtype=bool)
    k = np.arange(len(Q))
    while len(k):
        V[k], target, sound[k] = _face(Q[k], rows, patterns[k], active[k])
        multipliers[k], active[k], left = towards(target, multipliers[k], active[k])
        k = k[left & sound[k]]
    return V, multipliers, active, sound


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
