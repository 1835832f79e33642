"""Prox and support function of |w| over pattern cones of (w, b): hidden biases that no penalty touches.

For K = {(w, b) : B (w, b) >= 0} and q = (q_w, q_b) let u(d) = (w, b) be the minimiser over K of

    |w - q_w|^2 / 2 + d b^2 / 2 - q_b b,   0 <= d <= 1.

* |w(0)| is the support function of {(w, b) in K : |w| <= 1} at q.
* The prox of threshold |w| + indicator of K is d u(d) with (1 - d) |w(d)| = threshold, and zero where |w(0)| is not
  larger than that: the left-hand side falls with d. d = 1 is the projection onto K.

Every row of B bounds b on one side. A pattern with active and inactive samples bounds it on both; the others are the
caller's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check
from convexnn.cones.project import towards

# Violations are measured on unit rows, relative to the size of the solution.
FEASIBILITY_TOL = 1e-12


def minimise(
    Q: NDArray,
    d: NDArray,
    rows: NDArray,
    patterns: NDArray[np.bool_],
    active: NDArray[np.intp],
    floor: float = 0.0,
) -> tuple[NDArray, NDArray[np.intp], NDArray]:
    """u(d) for many blocks at once, by the active-set method of ``cones`` with the bias kept beside the multipliers.

    With rows (B_w, B_b) that hold with equality and multipliers m,

        [B_w B_w^T  B_b] [m]   [-B_w q_w]
        [B_b^T      -d ] [b] = [-q_b    ],   w = q_w + B_w^T m,

    which is regular for d = 0 too as soon as one row is active.

    Parameters
    ----------
    Q : array of shape (n_blocks, n_features)
        Points q, the bias last.
    d : array of shape (n_blocks,)
        Curvature of the bias.
    rows : array of shape (n_samples, n_features)
        Data rows with the ones, scaled to unit length.
    patterns : bool array of shape (n_blocks, n_samples)
        Patterns with active and inactive samples.
    active : int array of shape (n_blocks, n_features)
        Guess of the rows that hold with equality, -1 where there is none.
    floor : float, default=0.0
        Blocks whose |w| is found to be no larger are left early: it only shrinks while rows are added.

    Returns
    -------
    U : array of shape (n_blocks, n_features)
    active : int array of shape (n_blocks, n_features)
    slope : array of shape (n_blocks,)
        Derivative of |w|^2 / 2 in d while the active rows stay.
    """
    U, multipliers, slope = np.zeros_like(Q), np.zeros_like(Q), np.zeros(len(Q))
    signs = np.where(patterns, 1.0, -1.0)
    active = active.copy()
    k = np.flatnonzero((active >= 0).any(axis=1))
    while len(k):
        U[k], target, slope[k] = _face(Q[k], d[k], rows, signs[k], active[k])
        negative = (target < 0) & (active[k] >= 0)
        multipliers[k] = np.where(negative, 0.0, target)
        active[k] = np.where(negative, -1, active[k])
        k = k[negative.any(axis=1)]
    # From the sample where the bias, pushed by q_b, meets the end of its interval.
    k = np.flatnonzero((active < 0).all(axis=1))
    kinks = -(Q[k, :-1] @ rows[:, :-1].T) / rows[:, -1]
    upper = np.argmin(np.where(patterns[k], np.inf, kinks), axis=1)
    lower = np.argmax(np.where(patterns[k], kinks, -np.inf), axis=1)
    active[k] = -1
    active[k, 0] = np.where(Q[k, -1] > 0, upper, lower)
    U[k], multipliers[k], slope[k] = _face(Q[k], d[k], rows, signs[k], active[k])
    # With curvature the interval may hold the unconstrained bias; without it a negative multiplier is rounding.
    inside = k[(multipliers[k, 0] < 0) & (d[k] > 0)]
    multipliers[k] = np.maximum(multipliers[k], 0.0)
    active[inside], multipliers[inside] = -1, 0.0
    U[inside] = Q[inside]
    U[inside, -1] /= d[inside]
    slope[inside] = 0.0
    open_blocks = np.arange(len(Q))
    for _ in range(20 * Q.shape[1] + 50):
        open_blocks = open_blocks[np.linalg.norm(U[open_blocks, :-1], axis=1) > floor]
        side = (U[open_blocks] @ rows.T) * signs[open_blocks]
        worst = np.argmin(side, axis=1)
        size = np.linalg.norm(U[open_blocks], axis=1) + 1e-3 * np.linalg.norm(Q[open_blocks], axis=1)
        stay = side[np.arange(len(worst)), worst] < -FEASIBILITY_TOL * size
        stay &= ~(active[open_blocks] == worst[:, None]).any(axis=1) & (active[open_blocks] < 0).any(axis=1)
        open_blocks, worst = open_blocks[stay], worst[stay]
        if not len(open_blocks):
            break
        active[open_blocks, np.argmax(active[open_blocks] < 0, axis=1)] = worst
        k = open_blocks
        while len(k):
            U[k], target, slope[k] = _face(Q[k], d[k], rows, signs[k], active[k])
            multipliers[k], active[k], left = towards(target, multipliers[k], active[k])
            k = k[left]
    return U, active, slope


def _face(Q, d, rows, signs, active):
    """The minimiser where the active rows vanish, their multipliers, and the derivative of |w|^2 / 2 in d."""
    n, m = active.shape
    check()
    used = active >= 0
    B = rows[active] * (np.take_along_axis(signs, np.maximum(active, 0), axis=1) * used)[:, :, None]
    W = B[:, :, :-1]
    K = np.zeros((n, m + 1, m + 1))
    K[:, :m, :m] = W @ W.transpose(0, 2, 1)
    np.einsum("kii->ki", K)[:, :m] += np.where(used, 1e-15, 1.0)
    K[:, :m, m] = K[:, m, :m] = B[:, :, -1]
    K[:, m, m] = -np.where(used.any(axis=1), d, np.maximum(d, 1e-100))
    right = np.concatenate([-(W @ Q[:, :-1, None])[:, :, 0], -Q[:, -1:]], axis=1)[:, :, None]
    solved = np.linalg.solve(K, right)
    solved += np.linalg.solve(K, right - K @ solved)
    multipliers, b = solved[:, :m, 0] * used, solved[:, m, 0]
    w = Q[:, :-1] + (multipliers[:, None, :] @ W)[:, 0]
    change = np.linalg.solve(K, np.concatenate([np.zeros((n, m)), b[:, None]], axis=1)[:, :, None])
    slope = np.einsum("kd,kd->k", w, (change[:, None, :m, 0] @ W)[:, 0])
    return np.column_stack([w, b]), multipliers, slope


def shrink(
    Q: NDArray, threshold: float, rows: NDArray, patterns: NDArray[np.bool_], active: NDArray[np.intp]
) -> tuple[NDArray, NDArray[np.intp]]:
    """The prox: Newton's method for d, kept in a bracket, with the active sets of the step before.

    Parameters
    ----------
    Q, rows, patterns, active : arrays
        As in ``minimise``.
    threshold : float
        Threshold of |w|.

    Returns
    -------
    V : array of shape (n_blocks, n_features)
        Zero, or with w != 0.
    active : int array of shape (n_blocks, n_features)
    """
    V = np.zeros_like(Q)
    d = np.zeros(len(Q)) if threshold > 0 else np.ones(len(Q))
    U, active, slope = minimise(Q, d, rows, patterns, active, threshold)
    lengths = np.linalg.norm(U[:, :-1], axis=1)
    if threshold == 0:
        # The projection; w = 0 leaves no room for the bias.
        k = np.flatnonzero(lengths > 1e-12 * np.linalg.norm(Q, axis=1))
        V[k] = U[k]
        return V, active
    k = np.flatnonzero(lengths > threshold)
    low, high = np.zeros(len(Q)), np.ones(len(Q))
    last = k
    for _ in range(60):
        if not len(k):
            break
        value = (1 - d[k]) * lengths[k] - threshold
        low[k] = np.where(value >= 0, d[k], low[k])
        high[k] = np.where(value < 0, d[k], high[k])
        descent = lengths[k] - (1 - d[k]) * slope[k] / lengths[k]
        trial = d[k] + value / np.maximum(descent, 1e-300)
        still = np.abs(trial - d[k]) > 1e-12 * d[k]
        outside = (trial <= low[k]) | (trial >= high[k])
        # Bisection in the logarithm where d may be small by orders.
        middle = np.where(low[k] > 0, np.sqrt(low[k] * high[k]), 0.1 * high[k])
        trial = np.where(outside, middle, trial)
        k, trial = k[still], trial[still]
        d[k] = trial
        U[k], active[k], slope[k] = minimise(Q[k], d[k], rows, patterns[k], active[k])
        lengths[k] = np.linalg.norm(U[k, :-1], axis=1)
    # |w| = |w(d)| - threshold exactly, as for the shrinkage of a norm; d itself may be lost in rounding.
    V[last] = U[last] * (np.maximum(lengths[last] - threshold, 0.0) / lengths[last])[:, None]
    return V, active
