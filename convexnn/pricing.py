"""Pricing from below: a search for neurons that would improve a network, over all activation patterns.

A neuron of unit norm with weights u and output sign e changes the dual constraint by its price e theta^T (X u)_+; the
network is optimal over all patterns when no price exceeds alpha. The search finds local maxima of the price on the
unit sphere. That it finds none above alpha proves nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.cones import project_onto_cones


def ascend(X: NDArray, t: NDArray, starts: NDArray, n_steps: int = 30) -> NDArray:
    """Climb t^T (X u)_+ on the unit sphere from many starts at once; no climb ever goes down.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    t : array of shape (n_samples,)
        Signed dual variable.
    starts : array of shape (n_starts, n_features)
        Non-zero vectors.
    n_steps : int, default=30
        Gradient steps; each is two matrix products for all starts together.

    Returns
    -------
    U : array of shape (n_starts, n_features)
        Unit vectors.
    """
    U = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    G = _gradient(X, t, U)
    value, step = np.einsum("kd,kd->k", G, U), np.ones(len(U))
    for _ in range(n_steps):
        lengths = np.maximum(np.linalg.norm(G, axis=1), 1e-300)
        trial = U + (step / lengths)[:, None] * G
        size = np.linalg.norm(trial, axis=1, keepdims=True)
        trial /= np.maximum(size, 1e-300)
        G_trial = _gradient(X, t, trial)
        higher = np.einsum("kd,kd->k", G_trial, trial)
        # A step through the origin has no direction.
        up = (higher > value) & (size[:, 0] > 1e-9)
        U[up], G[up], value[up] = trial[up], G_trial[up], higher[up]
        step *= np.where(up, 2.0, 0.3)
        if not (step > 1e-4).any():
            break
    return U


def _gradient(X, t, U):
    return (((X @ U.T) > 0) * t[:, None]).T @ X


def price_cells(
    X: NDArray, rows: NDArray, t: NDArray, patterns: NDArray[np.bool_]
) -> tuple[NDArray, NDArray, NDArray[np.intp]]:
    """The best price within each cell, |P_k(X^T D_k t)|, where it is attained, and the samples it lies on.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    rows : array of shape (n_samples, n_features)
        X with rows of unit length.
    t : array of shape (n_samples,)
        Signed dual variable.
    patterns : bool array of shape (n_cells, n_samples)
        One pattern a row.

    Returns
    -------
    prices : array of shape (n_cells,)
    V : array of shape (n_cells, n_features)
        Maximisers, of length equal to the price.
    active : int array of shape (n_cells, n_features)
        Samples on the hyperplanes of the maximiser, -1 as padding.
    """
    V, active = project_onto_cones((patterns * t) @ X, rows, patterns)
    return np.linalg.norm(V, axis=1), V, active


def neighbours(patterns: NDArray[np.bool_], active: NDArray[np.intp]) -> NDArray[np.bool_]:
    """The cells on the other side of each active sample, and of all of them together.

    Parameters
    ----------
    patterns : bool array of shape (n_cells, n_samples)
        One pattern a row.
    active : int array of shape (n_cells, n_features)
        Active samples, -1 as padding.

    Returns
    -------
    crossed : bool array of shape (n_crossed, n_samples)
    """
    cell, slot = np.nonzero(active >= 0)
    single = patterns[cell]
    single[np.arange(len(cell)), active[cell, slot]] ^= True
    several = np.flatnonzero((active >= 0).sum(axis=1) > 1)
    every = patterns[several]
    for k, cell_index in enumerate(several):
        members = active[cell_index][active[cell_index] >= 0]
        every[k, members] ^= True
    return np.concatenate([single, every])


def search(
    X: NDArray,
    rows: NDArray,
    t: NDArray,
    directions: NDArray,
    patterns: NDArray[np.bool_],
    n_random: int,
    n_steps: int,
    rng: np.random.Generator,
) -> tuple[NDArray, NDArray[np.bool_], NDArray, int]:
    """Cells with a high price: near the current neurons, across their active samples, and from random starts.

    Parameters
    ----------
    X, rows, t : arrays
        As in ``price_cells``.
    directions : array of shape (n_neurons, n_features)
        Weights of the current neurons of this sign.
    patterns : bool array of shape (n_neurons, n_samples)
        Their patterns.
    n_random : int
        Number of fresh random starts.
    n_steps : int
        Ascent steps of each start.
    rng : numpy Generator
        Source of the starts.

    Returns
    -------
    prices : array of shape (n_cells,)
        In falling order; empty when no climb ended above zero.
    patterns : bool array of shape (n_cells, n_samples)
        Distinct patterns.
    V : array of shape (n_cells, n_features)
        Maximisers within the cells.
    n_starts : int
        Number of starts and cells that were looked at.
    """
    d = X.shape[1]
    starts = [rng.standard_normal((n_random, d))]
    if len(directions):
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        starts += [unit, unit + 0.05 * rng.standard_normal(unit.shape), unit + 0.3 * rng.standard_normal(unit.shape)]
    U = ascend(X, t, np.concatenate(starts), n_steps)
    # Climbs that end below half of the best are no candidates; the rest is refined within its cell.
    found = (X @ U.T >= 0).T
    best = np.einsum("kd,kd->k", _gradient(X, t, U), U)
    found = found[(best > 0) & (best >= 0.5 * best.max(initial=0.0))]
    cells = distinct(np.concatenate([found, patterns]))
    prices, V, active = price_cells(X, rows, t, cells)
    n_looked = sum(len(part) for part in starts) + len(cells)
    frontier = np.arange(len(cells))
    for _ in range(8):
        top = frontier[np.argsort(-prices[frontier])[: 4 * d + 100]]
        fresh = distinct(neighbours(cells[top], active[top]), than=cells)
        if not len(fresh):
            break
        more, W, on = price_cells(X, rows, t, fresh)
        n_looked += len(fresh)
        # Only cells that beat what lies around them lead on.
        frontier = len(cells) + np.flatnonzero(more > np.median(prices[top]))
        cells, prices = np.concatenate([cells, fresh]), np.concatenate([prices, more])
        V, active = np.concatenate([V, W]), np.concatenate([active, on])
        if not len(frontier):
            break
    order = np.argsort(-prices)
    return prices[order], cells[order], V[order], n_looked


def distinct(patterns: NDArray[np.bool_], than: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Each pattern once, in order of appearance, without those in another list."""
    seen = set() if than is None else {row.tobytes() for row in np.packbits(than, axis=1)}
    keep = []
    for k, row in enumerate(np.packbits(patterns, axis=1)):
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            keep.append(k)
    return patterns[keep]
