r"""Upper bounds of the prices over the cones of activation patterns that hold whatever was computed on the way.

On the cone K = {v : B v >= 0} of a pattern the price is linear, g^T v with g = X^T (D + lift) t, and for multipliers
lam >= 0 it is at most q^T v, q = g + B^T lam (weak duality). So the largest price over vectors of norm 1 is at most

    |q|                                          for the norm |v|,
    the least s with |soft(q, s mu)| <= s        for |v| + sum_j mu_j |v_j|,
    |q_w| + R |q_b|                              for |w|, where the pattern leaves biases in [-R, R] only,

at the multipliers of the projection of g and at any others: the smaller, the better they are. Rounding errors of g and
q are added. NaN is no bound: it becomes infinity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, nnls

from convexnn.cones.free import minimise
from convexnn.cones.project import project_onto_cones
from convexnn.cones.sparse import soft_threshold, support
from convexnn.neurons.neuron import Neuron

EPS = float(np.finfo(float).eps)
# Where a bound exceeds the largest price by more than this share, other multipliers are tried.
NEAR = 1e-9
# Patterns that are looked at together.
BATCH = 4_000_000


def bound_over_cones(
    rows: NDArray,
    t: NDArray,
    patterns: NDArray[np.bool_],
    neuron: Neuron,
    *,
    resolution: float = 0.0,
) -> float:
    """An upper bound of t^T (D + lift) X v over all listed patterns D and all v of norm 1, in the cone of D.

    Parameters
    ----------
    rows : array of shape (n_samples, n_features)
        The data X, with its ones column if there are hidden biases.
    t : array of shape (n_samples,)
        Signed dual variable, times the kink of the activation; with free biases its sum counts as zero.
    patterns : bool array of shape (n_patterns, n_samples)
        One pattern a row.
    neuron : Neuron
        Its activation says whether v may leave the cone, and adds lift; its norm is that of v.
    resolution : float, default=0
        The patterns may be those of rows that differ from the data by this share of their lengths.

    Returns
    -------
    bound : float
        Infinite where numbers overflow.
    """
    lengths = np.linalg.norm(rows, axis=1)
    lift, feature_penalty, free_bias = neuron.activation.lift, neuron.feature_penalty, neuron.free_bias
    steepest = max(1.0, abs(lift), abs(1 + lift))
    rounding = (EPS * (len(rows) + rows.shape[1]) + 2 * resolution) * float(np.abs(t) @ lengths) * steepest
    unit = rows / np.where(lengths > 0, lengths, 1.0)[:, None]
    reach = float(np.linalg.norm(rows[:, :-1], axis=1).max(initial=0.0)) if free_bias else None
    largest, size = 0.0, max(1, BATCH // max(len(rows), 1))
    for start in range(0, len(patterns), size):
        part = patterns[start : start + size]
        G = ((part + lift) * t) @ rows
        if free_bias:
            # With all samples on one side the bias is a constant, which costs nothing because t sums to zero.
            G[part.all(axis=1) | ~part.any(axis=1), -1] = 0.0
        if not neuron.activation.cones:
            bounds = _lengths(G, feature_penalty, reach)
        else:
            bounds = _over_cones(G, unit, part, feature_penalty, reach, resolution, largest)
        worst = bounds.max(initial=0.0)
        if not np.isfinite(worst):
            return np.inf
        largest = max(largest, float(worst))
    return (1 + 1e-13) * largest + rounding * (1 + (reach or 0.0))


def _lengths(Q: NDArray, feature_penalty: NDArray | None, reach: float | None) -> NDArray:
    """The support functions, at the rows of Q, of what vectors of norm 1 there are without cones; NaN is infinity.

    ``reach`` is R where the bias is outside the norm.
    """
    if reach is not None:
        lengths = np.linalg.norm(Q[:, :-1], axis=1) + reach * np.abs(Q[:, -1])
    elif feature_penalty is None:
        lengths = np.linalg.norm(Q, axis=1)
    else:
        lengths = _roots(Q, feature_penalty)
    return np.where(np.isnan(lengths), np.inf, lengths)


def _roots(Q: NDArray, feature_penalty: NDArray) -> NDArray:
    """The least s with |soft(q, s mu)| <= s, from above, by bisection."""
    low, high = np.zeros(len(Q)), np.linalg.norm(Q, axis=1)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = np.linalg.norm(soft_threshold(Q, middle[:, None] * feature_penalty), axis=1) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def _over_cones(G, unit, patterns, feature_penalty, reach, resolution, floor) -> NDArray:
    """Bounds for every row of G, those that cannot exceed the floor or the largest as they are without the cone."""
    bounds = _lengths(G, feature_penalty, reach)
    order = np.argsort(-bounds)
    for part in np.split(order, [min(64, len(order))]):
        k = part[bounds[part] > floor]
        if not len(k):
            continue
        Q, reached = _by_active_sets(G[k], unit, patterns[k], feature_penalty, reach, resolution, floor)
        bounds[k] = np.minimum(bounds[k], _lengths(Q, feature_penalty, reach))
        # What a vector reaches is no more than the largest price: who is far above it has poor multipliers.
        floor = max(floor, reached)
        for j in k[bounds[k] > floor * (1 + NEAR)]:
            Q = _by_least_squares(G[j], unit, patterns[j], feature_penalty, reach, resolution)
            bounds[j] = min(bounds[j], _lengths(Q[None], feature_penalty, reach)[0])
        floor = max(floor, float(bounds[part].max(initial=0.0)))
    return bounds


def _by_active_sets(G, unit, patterns, feature_penalty, reach, resolution, floor) -> tuple[NDArray, float]:
    """G + B^T lam with the multipliers of the maximisers of all patterns at once, and the largest price they reach."""
    fixed = unit, patterns
    with np.errstate(all="ignore"):
        if reach is not None:
            V, active = np.zeros_like(G), np.full(G.shape, -1)
            mixed = patterns.any(axis=1) & ~patterns.all(axis=1)
            none, flat = active[mixed], np.zeros(int(mixed.sum()))
            V[mixed], active[mixed], _ = minimise(G[mixed], flat, unit, patterns[mixed], none, floor)
            V[:, -1] = 0.0
            reached = np.linalg.norm(V, axis=1)[(np.linalg.norm(V, axis=1) > floor)]
            # With all samples on one side there is no cone.
            V[~mixed] = G[~mixed]
            inside = np.ones(G.shape, dtype=bool)
        elif feature_penalty is not None:
            V, active, _ = support(G, feature_penalty, *fixed, floor=floor)
            reached = np.linalg.norm(V, axis=1)
            # Where v is not zero q = v + s mu sign(v); what holds a coordinate at zero is free within its bounds.
            inside = (V != 0) | (feature_penalty == 0)
            V = V + reached[:, None] * feature_penalty * np.sign(V)
            # Cones without a positive price: the projection says more than that no coordinate is held by its bounds.
            flat = ~V.any(axis=1)
            _, active[flat] = project_onto_cones(G[flat], unit, patterns[flat])
            inside[flat] = True
        else:
            V, active = project_onto_cones(G, *fixed, floor=floor)
            reached, inside = np.linalg.norm(V, axis=1), np.ones(G.shape, dtype=bool)
    reached = reached[np.isfinite(reached)].max(initial=0.0)
    used = active >= 0
    sides = np.where(np.take_along_axis(patterns, np.maximum(active, 0), axis=1), 1.0, -1.0) * used
    B = unit[np.maximum(active, 0)] * sides[:, :, None]
    target = np.where(inside & np.isfinite(V), V - G, 0.0)
    fitted = B * inside[:, None, :]
    inverse = np.linalg.pinv(fitted, rcond=1e-13)
    lam = np.einsum("kdi,kd->ki", inverse, target)
    # The second solve removes what the first one left.
    lam += np.einsum("kdi,kd->ki", inverse, target - np.einsum("ki,kid->kd", lam, fitted))
    return _moved(G, np.maximum(lam, 0.0) * used, B, resolution), float(reached)


def _moved(G: NDArray, lam: NDArray, B: NDArray, resolution: float) -> NDArray:
    """G + B^T lam for each block, every entry longer by what rounding, and other rows than B, may add to it.

    lam has shape (n, m) and is not negative, B has shape (n, m, n_features).
    """
    Q = G + np.einsum("ki,kid->kd", lam, B)
    rounding = 2 * EPS * (lam.shape[1] + 1) * (np.abs(G) + np.einsum("ki,kid->kd", lam, np.abs(B)))
    return Q + np.where(Q < 0, -1.0, 1.0) * (rounding + resolution * lam.sum(axis=1, keepdims=True))


def _by_least_squares(g, unit, pattern, feature_penalty, reach, resolution) -> NDArray:
    """g + B^T lam of one pattern, with multipliers from least squares with bounds over all its samples."""
    B = unit * np.where(pattern, 1.0, -1.0)[:, None]
    size = float(np.abs(g).max(initial=0.0))
    if not 0 < size < np.inf:
        return g
    lam = np.zeros(len(B))
    try:
        if feature_penalty is None:
            # A free bias outside the norm is to leave nothing along the ones.
            weights = np.ones(len(g))
            weights[-1] = 1.0 if reach is None else 1e6 * max(reach, 1.0)
            lam, _ = nnls((B * weights).T, -(g * weights) / size, maxiter=50 * len(B))
        else:
            lam = _bounded_least_squares(g / size, B, feature_penalty)
    except (RuntimeError, np.linalg.LinAlgError):
        pass
    return _moved(g[None], size * np.maximum(lam, 0.0)[None], B[None], resolution)[0]


def _bounded_least_squares(g, B, feature_penalty) -> NDArray:
    """Multipliers at the least s for which some |r_j| <= s mu_j has |g + B^T lam + r| <= s: Newton's method in s."""
    n, d = B.shape
    A, s = np.column_stack([B.T, np.eye(d)]), 0.0
    lam, _ = nnls(B.T, -g, maxiter=50 * n)
    p = g + lam @ B
    for _ in range(30):
        length = float(np.linalg.norm(p))
        if not length > max(s * (1 + 1e-12), 1e-14):
            break
        s = float(g @ p) / (length + float(np.abs(p) @ feature_penalty))
        reach = np.maximum(s * feature_penalty, 1e-300)
        low, high = np.concatenate([np.zeros(n), -reach]), np.concatenate([np.full(n, np.inf), reach])
        x = lsq_linear(A, -g, (low, high), method="bvls", tol=1e-15, max_iter=50 * (n + d)).x
        lam, p = x[:n], g + A @ x
    return lam
