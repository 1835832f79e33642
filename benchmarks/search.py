"""An independent search, with fresh starts, for a neuron that would improve a network: not convexnn's own search."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from scipy.optimize import nnls


def fresh_price(X, theta, neurons, seed=12345, n_starts=1000, max_time=60.0):
    """Largest |theta^T (X u)_+| over the unit sphere that a search finds.

    Parameters
    ----------
    X : array of shape (n_samples, d)
        The data with their ones column.
    theta : array of shape (n_samples,)
        Minus the gradient of the loss.
    neurons : array of shape (n_neurons, d)
        Further starting points.
    seed, n_starts : int
        Random starting points.
    max_time : float
        Limit for the refinement of the points that the climbs found, best first, for each sign.

    Returns
    -------
    price : float
    """
    X, group = np.unique(X, axis=0, return_inverse=True)
    theta, best = np.bincount(group.ravel(), theta), 0.0
    starts = np.random.default_rng(seed).standard_normal((n_starts, X.shape[1]))
    starts = np.concatenate([neurons, starts])
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    for t in (theta, -theta):
        ends = [climb(X, t, starts[first : first + 250]) for first in range(0, len(starts), 250)]
        U, price = (np.concatenate(part) for part in zip(*ends))
        best, order, begin = max(best, price.max()), np.argsort(-price), perf_counter()
        # Climbs that end below eight tenths of the best, and all but 50 beside the neurons, are not refined.
        order = order[price[order] >= 0.8 * price.max()][: len(neurons) + 50]
        done = np.zeros((0, X.shape[1]))
        for u in U[order]:
            if np.any(done @ u > 1 - 1e-10):
                continue
            if perf_counter() - begin > max_time:
                break
            u, value = refine(X, t, u)
            done, best = np.vstack([done, u]), max(best, value)
    return best


def climb(X, t, U, n_steps=60):
    """Projected gradient ascent of t^T (X u)_+ from unit vectors, each with a line search of its own; ends, prices."""

    def price(U):
        G = ((X @ U.T > 0) * t[:, None]).T @ X
        return np.sum(G * U, axis=1), G

    (value, G), step = price(U), np.full(len(U), 0.5)
    for _ in range(n_steps):
        tangent = G - value[:, None] * U
        slope = np.linalg.norm(tangent, axis=1)
        trial = U + (step / np.maximum(slope, 1e-300))[:, None] * tangent
        trial /= np.linalg.norm(trial, axis=1, keepdims=True)
        new, G_new = price(trial)
        up = new > value + 1e-4 * step * slope
        U, G = np.where(up[:, None], trial, U), np.where(up[:, None], G_new, G)
        value, step = np.where(up, new, value), np.where(up, np.minimum(2 * step, 1.0), 0.4 * step)
        if np.all(step < 1e-6):
            break
    return U, value


def refine(X, t, u):
    """From a unit vector to the best of its cell, then across the walls it lies on, until no cell is better."""

    def price(u):
        return float(t @ np.maximum(X @ u, 0.0))

    value, on = price(u), X @ u >= 0
    v, walls = best_of_cell(X, t, on)
    if price(v) > value:
        u, value = v, price(v)
    for _ in range(20):
        cells = [on ^ np.isin(np.arange(len(X)), flipped) for flipped in (*walls[:, None], walls) if len(flipped)]
        found = [(*best_of_cell(X, t, cell), cell) for cell in cells]
        prices = [price(v) for v, _, _ in found]
        if not found or max(prices) <= value * (1 + 1e-9):
            return u, value
        u, walls, on = found[int(np.argmax(prices))]
        value = max(prices)
    return u, value


def best_of_cell(X, t, on):
    """Unit vector of the highest t^T (X u)_+ among those with the pattern ``on``, and the walls it lies on.

    The projection of X^T D t onto the cone, by non-negative least squares on the walls that matter.
    """
    g, inward = t[on] @ X[on], np.where(on, 1.0, -1.0)[:, None] * X
    v, walls, multipliers = g, np.zeros(0, dtype=int), np.zeros(0)
    for _ in range(30):
        inside = inward @ v
        lowest = np.argpartition(inside, min(X.shape[1], len(X) - 1))[: X.shape[1]]
        low = np.setdiff1d(lowest, walls)
        low = low[inside[low] < -1e-11 * np.linalg.norm(g)]
        if not len(low):
            break
        walls = np.concatenate([walls[multipliers > 0], low])
        try:
            multipliers = nnls(inward[walls].T, -g, maxiter=50 * len(walls))[0]
        except RuntimeError:
            break
        v = g + multipliers @ inward[walls]
    size = np.linalg.norm(v)
    kept = walls[multipliers > 0] if len(multipliers) == len(walls) else walls
    return (v / size if size > 1e-12 * np.linalg.norm(g) else np.zeros_like(g)), kept
