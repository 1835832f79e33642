"""Pricing from below: a search for neurons that would improve a network, over all activation patterns.

A neuron of unit norm with weights u and output sign e changes the dual constraint by its price e theta^T (X u)_+; the
network is optimal over all patterns when no price exceeds alpha. The search finds local maxima of the price on the
unit sphere, with a feature penalty mu that of the norm |u| + sum_j mu_j |u_j|. That it finds none above alpha proves
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from convexnn.arrangements import as_one
from convexnn.budget import check
from convexnn.cones.project import project_onto_cones
from convexnn.cones.sparse import UNKNOWN, soft_threshold, sparse_norms, support

# Share of the best price below which no start is followed further.
PROMISING = 0.5
# Gradient steps from known vectors, and from moved ones, and how long the first is.
ALONG, AROUND, FIRST = 10, 5, 0.1
# Most smoothing of climbs from random vectors, and from moved ones; with much of it they all end in a few maxima.
SMOOTHING, AROUND_SMOOTHING = 1.0, 0.2
# Maxima move by random steps of these lengths (unit vectors), or, this share of them, towards another maximum, by a
# random part of the way: in the time of one such neuron that fresh random starts find these find two to ten.
STEPS, TOWARDS = (0.2, 0.6), 0.8
# Ends of gradient steps this close to a known vector are the same maximum.
KNOWN = 0.01
# Entries of an array of vectors and samples that stays in the cache; and vectors for which one pass over the data pays.
IN_CACHE, ENOUGH = 300_000, 32
# How far apart chosen neurons (unit vectors) should be: far ones first, closer ones while there is room. The dearest
# alone would all lie around the same few maxima.
SPREAD = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-6)


def ascend(
    X: NDArray,
    t: NDArray,
    starts: NDArray,
    n_steps: int = 30,
    feature_penalty: NDArray | None = None,
    step: float = 1.0,
    smoothing: NDArray | float = 0.0,
    lift: float = 0.0,
) -> NDArray:
    """Climb t^T (X u)_+ on the unit sphere from many starts at once; without smoothing none goes down beyond rounding.

    With a lift the price has the linear term lift t^T X u beside it.

    The price has about as many local maxima as there are cells near its large ones, most of them low. With smoothing
    the climb begins on the price of activations that pass from 0 to 1 within a band about their hyperplanes, which has
    few maxima, and goes on from there on the price itself (graduated non-convexity [1]_): in many dimensions it finds
    high maxima that plain climbs from many more starts do not.

    With a feature penalty a step is one of the proximal gradient method for t^T (X u)_+ - price * norm(u), which is
    positive where the price rises.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases. Products have its precision: in single precision
        climbs take about half the time and end a little beside the maxima.
    t : array of shape (n_samples,)
        Signed dual variable.
    starts : array of shape (n_starts, n_features)
        Non-zero vectors.
    n_steps : int, default=30
        Gradient steps, on the smoothed price as many again; each is two matrix products for all starts together.
    feature_penalty : array of shape (n_features,), optional
        mu.
    step : float, default=1.0
        Length of the first step; a step that leads up is doubled, one that does not is cut.
    smoothing : float or array of shape (n_starts,), default=0.0
        Half the width of the band, in root mean square deviations of a feature.
    lift : float, default=0.0
        Of the activation, see convexnn.neurons.activations.

    Returns
    -------
    U : array of shape (n_starts, n_features)
        Vectors of length 1, without the feature penalty.

    References
    ----------
    .. [1] A. Blake, A. Zisserman, Visual Reconstruction, MIT Press (1987), chapter 7.
    """
    U = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    precision, typical = np.finfo(X.dtype), np.sqrt(np.mean(X * X, dtype=float))
    bands = [np.full(len(U), max(10 * precision.eps * typical, precision.tiny))]
    if np.any(smoothing):
        bands.insert(0, np.maximum(smoothing * np.sqrt(X.var(axis=0, dtype=float).mean()), bands[0]))
    lifted = np.column_stack([X, np.ones(len(X), dtype=X.dtype)])
    weighted = lifted * t.astype(X.dtype)[:, None]
    tilt = lift * weighted[:, :-1].sum(axis=0, dtype=float)
    for band in bands:
        smooth = band is not bands[-1]
        G, rise = _slope(lifted, weighted, tilt, U, band, smooth)
        value, steps = rise / sparse_norms(U, feature_penalty), np.full(len(U), step)
        for _ in range(n_steps):
            lengths = np.maximum(np.linalg.norm(G, axis=1), 1e-300)
            trial = U + (steps / lengths)[:, None] * G
            if feature_penalty is not None:
                trial = soft_threshold(trial, (steps / lengths * np.maximum(value, 0.0))[:, None] * feature_penalty)
            size = np.linalg.norm(trial, axis=1, keepdims=True)
            trial /= np.maximum(size, 1e-300)
            G_trial, rise = _slope(lifted, weighted, tilt, trial, band, smooth)
            higher = rise / np.maximum(sparse_norms(trial, feature_penalty), 1e-300)
            # A step through the origin has no direction.
            up = (higher > value) & (size[:, 0] > 1e-9)
            U[up], G[up], value[up] = trial[up], G_trial[up], higher[up]
            steps *= np.where(up, 2.0, 0.3)
            if not (steps > 1e-4).any():
                break
    return U


def _slope(lifted, weighted, tilt, U, band, smooth):
    """Gradients, and values, of t^T (X u)_+ with (z)_+ = s z + band s (1 - s), s = clip(z / (2 band) + 1/2, 0, 1).

    ``lifted`` is X with a ones column, which shifts by 1/2, and ``weighted`` is t times that, which sums t s as well;
    ``tilt`` is the gradient of a linear term beside it.
    In a band as narrow as rounding the last term is nothing: not ``smooth``.
    """
    G, value = np.empty(U.shape), np.zeros(len(U))
    scaled = np.column_stack([U * (0.5 / band)[:, None], np.full(len(U), 0.5)]).astype(lifted.dtype)
    size = max(ENOUGH, IN_CACHE // max(len(lifted), 1))
    for k in range(0, len(U), size):
        check()
        part = slice(k, k + size)
        s = scaled[part] @ lifted.T
        np.clip(s, 0.0, 1.0, out=s)
        sums = s @ weighted
        G[part] = sums[:, :-1]
        if smooth:
            s *= s
            value[part] = band[part] * (sums[:, -1] - s @ weighted[:, -1])
    G += tilt
    return G, value + np.einsum("kd,kd->k", G, U)


@dataclass(frozen=True)
class Effort:
    """How much a search looks at.

    Attributes
    ----------
    n_random : int
        Fresh random starts for each dual variable.
    n_moved : int
        Vectors that are moved in a generation, at least.
    n_generations : int
        Generations.
    climb_from : float
        Share of alpha below which no climb begins.
    """

    n_random: int
    n_moved: int
    n_generations: int
    climb_from: float = -np.inf


@dataclass(frozen=True)
class Peaks:
    """Cells, vectors V of them with the price as length, dearest first.

    ``active``: the samples that V lies on, -1 as padding; ``dual``: the column of the signed dual variables that the
    price is of.
    """

    patterns: NDArray[np.bool_]
    V: NDArray[np.float64]
    active: NDArray[np.intp]
    dual: NDArray[np.intp]

    @property
    def prices(self) -> NDArray[np.float64]:
        return np.linalg.norm(self.V, axis=1)

    def take(self, keep) -> Peaks:
        return Peaks(self.patterns[keep], self.V[keep], self.active[keep], self.dual[keep])

    def join(self, other: Peaks) -> Peaks:
        """Both lists; of equal cells the dearer stays."""
        every = Peaks(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values())))
        every = every.take(np.argsort(-every.prices, kind="stable"))
        dual = every.dual.astype(np.int64)[:, None].view(np.uint8)
        key = np.column_stack([np.packbits(every.patterns, axis=1), dual])
        return every.take(np.sort(np.unique(as_one(key), return_index=True)[1]))

    def apart(self, most: int, radii: tuple[float, ...]) -> NDArray[np.intp]:
        """Of each dual variable up to ``most`` promising peaks, far from each other as long as there are such."""
        prices, chosen = self.prices, [np.zeros(0, dtype=int)]
        for dual in np.unique(self.dual):
            own = np.where(self.dual == dual, prices, -np.inf)
            good = np.flatnonzero(own >= PROMISING * own.max())
            chosen.append(good[spread(self.V[good] / prices[good, None], most, radii)])
        return np.concatenate(chosen)


def no_peaks(X: NDArray) -> Peaks:
    """The empty list."""
    n, d = X.shape
    return Peaks(np.zeros((0, n), dtype=bool), np.zeros((0, d)), np.zeros((0, d), dtype=int), np.zeros(0, dtype=int))


def climb(
    X: NDArray,
    T: NDArray,
    U: NDArray,
    dual: NDArray[np.intp],
    active: NDArray[np.intp],
    max_steps: int = 10,
    feature_penalty: NDArray | None = None,
    floor: float = -np.inf,
    lift: float = 0.0,
) -> tuple[Peaks, int]:
    r"""From the cell of each start to better ones until there is none: the price there is a local maximum.

    Samples with t_i >= 0 bend the price t^T (X u)_+ upwards: with their activations held fixed it is bounded below by
    a function that is linear, on the cone of the other samples' activations, in u. Its maximum over unit vectors is
    the length of a projection v = g + sum_i lam_i n_i of g = X^T D t onto that cone, n_i the unit rows that hold with
    equality, turned inward, lam_i >= 0. A step moves to v, where samples with t_i >= 0 take the activations they have
    there, and samples with t_i < 0 are crossed if lam_i > -t_i |x_i|: exactly then the price rises behind them.
    Samples with the same hyperplane are one sample and a linear term here: (-z)_+ = (z)_+ - z.

    With a feature penalty mu the maximum over vectors of norm 1 is that of ``support``, v has |v| mu_j sign(v_j)
    subtracted in every coordinate that is not zero, and all else is the same.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    T : array of shape (n_samples, n_duals)
        Signed dual variables.
    U : array of shape (n_starts, n_features)
        Starts.
    dual : int array of shape (n_starts,)
        The column t of T that each start is for.
    active : int array of shape (n_starts, n_features)
        Guesses of the samples that the maxima lie on, -1 where there is none.
    max_steps : int, default=10
        Climbs that are still under way then end where they are.
    feature_penalty : array of shape (n_features,), optional
        mu.
    floor : float, default=-inf
        Starts with a price below it stay where they are.
    lift : float, default=0.0
        The price has the linear term lift t^T X u beside it.

    Returns
    -------
    peaks : Peaks
        Climbs for one dual variable that end in the same cell are one.
    n_cells : int
        Number of cells that were looked at.

    References
    ----------
    .. [1] T. Pham Dinh, H. A. Le Thi, Convex analysis approach to d.c. programming, Acta Math. Vietnam. 22 (1997).
    """
    none = no_peaks(X)
    X, t, linear, group, flipped, first = _hyperplanes(X, T, lift)
    side = U @ X.T
    patterns = side >= 0
    # A projection is no shorter than the price at the start: only starts that are not promising are lost.
    start = _heights(side, U, t, linear, dual) / sparse_norms(U, feature_penalty)
    promising = np.zeros(len(t))
    np.maximum.at(promising, dual, start)
    promising = PROMISING * promising[dual]
    walls = t < 0
    rounding = 1e-14 * np.abs(t).sum(axis=1)
    active = np.where(active >= 0, np.append(group, 0)[active], -1)
    active[~walls[dual[:, None], active]] = -1
    prices, V = np.where(start < floor, start, 0.0), U.copy()
    lowest = np.maximum(promising, (1 - 1e-3) * start)
    k, n_cells, fresh = np.flatnonzero(start >= floor), 0, np.zeros(len(U), dtype=bool)
    signs = np.where(_sparse(U, feature_penalty)[:, None], np.sign(U), UNKNOWN).astype(np.int8)
    for _ in range(max_steps):
        check()
        n_cells += len(k)
        at, wall = patterns[k], walls[dual[k]]
        pull = (at * t[dual[k]]) @ X + linear[dual[k]]
        # Where no sample is active what is left is rounding, which would be a direction.
        pull[np.linalg.norm(pull, axis=1) <= rounding[dual[k]]] = 0.0
        low = promising[k]
        if feature_penalty is None:
            W, on = project_onto_cones(pull, X, at, active[k], low, wall)
        else:
            # The cell holds a vector with the price so far; short of it the search for the best one can begin.
            low = np.maximum(lowest[k], (1 - 1e-3) * prices[k])
            W, on, signs[k] = support(pull, feature_penalty, X, at, active[k], signs[k], low, wall)
        side = W @ X.T
        reach = np.linalg.norm(W, axis=1)
        # A projection that was left at the floor is no vector of its cone.
        price = _heights(side, W, t, linear, dual[k]) / np.maximum(sparse_norms(W, feature_penalty), 1e-300)
        price *= reach > low
        # Where samples have turned the same vector may have other multipliers, which tell where to cross.
        up = (price > prices[k] * (1 + 1e-12)) | (fresh[k] & (price >= prices[k] * (1 - 1e-12)))
        k, at, wall, pull, on, side, W = k[up], at[up], wall[up], pull[up], on[up], side[up], W[up]
        if not len(k):
            break
        prices[k], V[k] = price[up], W
        turned = ((side >= 0) != at) & ~wall
        patterns[k] ^= turned
        used = on >= 0
        check(2.0 * len(k) * X.shape[1] ** 3)
        normals = X[on] * (np.where(np.take_along_axis(at, on, axis=1), 1.0, -1.0) * used)[:, :, None]
        correction = W - pull
        if feature_penalty is not None:
            # What holds a coordinate at zero is not known, nor needed.
            correction += np.linalg.norm(W, axis=1, keepdims=True) * feature_penalty * np.sign(W)
            normals *= ((W != 0) | (feature_penalty == 0))[:, None, :]
        gram = normals @ normals.transpose(0, 2, 1)
        np.einsum("kii->ki", gram)[...] += np.where(used, 1e-14, 1.0)
        multipliers = np.linalg.solve(gram, normals @ correction[:, :, None])[:, :, 0]
        # Multipliers are differences of vectors as long as the pull, on rows that may be nearly parallel.
        cost = -t[dual[k, None], on] + 1e-10 * np.linalg.norm(pull, axis=1)[:, None]
        passed = used & (multipliers > cost)
        cell, slot = np.nonzero(passed)
        patterns[k[cell], on[cell, slot]] ^= True
        active[k] = np.where(passed, -1, on)
        fresh[k] = turned.any(axis=1)
        k = k[fresh[k] | passed.any(axis=1)]
    V *= (prices / np.maximum(np.linalg.norm(V, axis=1), 1e-300))[:, None]
    peaks = Peaks(patterns[:, group] ^ flipped, V, np.where(active >= 0, first[active, dual[:, None]], -1), dual)
    return none.join(peaks.take(np.flatnonzero(prices > 0))), n_cells


def _heights(side, U, t, linear, dual):
    """t^T side_+ + linear^T u for every row of U, with the rows of t and linear that ``dual`` says."""
    return np.einsum("kg,kg->k", np.maximum(side, 0.0), t[dual]) + np.einsum("kd,kd->k", U, linear[dual])


def _sparse(U, feature_penalty):
    """Which vectors have a zero where a penalty asks for it."""
    if feature_penalty is None:
        return np.zeros(len(U), dtype=bool)
    return ((U == 0) & (feature_penalty > 0)).any(axis=1)


def _hyperplanes(X, T, lift):
    """Samples on one hyperplane as one: h(u) = sum_g t_g (x_g^T u)_+ + linear^T u with unit rows x_g, each once.

    Returns x_g; t_g and linear, a row for each column of T; the g of each sample, and whether it looks the other way;
    and of each g the sample of least t, a column for each column of T.
    """
    lengths = np.linalg.norm(X, axis=1)
    unit = X / np.where(lengths > 0, lengths, 1.0)[:, None]
    flipped = unit[np.arange(len(X)), np.argmax(np.abs(unit) > 1e-6, axis=1)] < 0
    unit[flipped] *= -1.0
    _, any_, group = np.unique(np.round(unit, 12) + 0.0, axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    weight = (T * lengths[:, None]).T
    t, first = np.zeros((len(weight), len(any_))), np.zeros((len(any_), len(weight)), dtype=int)
    for j, column in enumerate(T.T):
        t[j] = np.bincount(group, weight[j], len(any_))
        falling = np.argsort(-column, kind="stable")
        first[group[falling], j] = falling
    # A sample that looks the other way is -x_g, as its row of ``unit`` says by now.
    tilt = lift * np.where(flipped, -weight, weight) @ unit
    return unit[any_], t, tilt - (weight * flipped) @ unit, group, flipped, first


def search(
    X: NDArray,
    T: NDArray,
    known: Peaks,
    n_random: int,
    n_climbs: int,
    n_generations: int,
    rng: np.random.Generator,
    feature_penalty: NDArray | None = None,
    floor: float = -np.inf,
    settled: float = np.inf,
    lift: float = 0.0,
) -> tuple[Peaks, int]:
    """Local maxima of the price over all cells: from known vectors, from random starts, and around the best.

    The maxima are many and lie in clusters, so the best so far are moved, at random or towards one another, and rise
    again, for some generations (iterated local search). All that by gradient steps, which cross many walls at once;
    from the best of all, and from everything known, climbs then go on from cell to cell. Climbs for all dual variables
    are one batch: what they cost is the number of batches more than their size. With a feature penalty half of the
    random starts, and half of the moves, leave features out.

    Parameters
    ----------
    X, T : arrays
        As in ``climb``.
    known : Peaks
        Peaks of earlier searches, or neurons, to start from.
    n_random : int
        Number of fresh random starts for each dual variable.
    n_climbs : int
        How many of the best, far from each other, are moved in each generation. As many climb at last, after two
        generations twice as many, after more three times.
    n_generations : int
        How often the best are moved.
    rng : numpy Generator
        Source of the starts.
    feature_penalty : array of shape (n_features,), optional
        mu.
    floor : float, default=-inf
        From vectors with a price below it no climb begins.
    settled : float, default=inf
        Known peaks with at least this price are ends of climbs for the same dual variables: they are moved, but neither
        rise nor climb again.
    lift : float, default=0.0
        The price has the linear term lift t^T X u beside it.

    Returns
    -------
    peaks : Peaks
        Distinct cells, dearest first; none when no climb ended above zero.
    n_starts : int
        Number of starts and cells that were looked at.
    """
    d = X.shape[1]
    # Directions do not depend on units, and what gradient steps find is priced exactly.
    coarse, shares = (A / (np.abs(A).max(initial=0.0) or 1.0) for A in (X, T))
    coarse = in_single_precision(coarse)
    starts: list[NDArray] = []
    dual: list[NDArray] = []
    active: list[NDArray] = []
    n_starts = len(known.V) + n_random * T.shape[1]
    settings: dict = dict(feature_penalty=feature_penalty, lift=lift)
    for j, t in enumerate(shares.T):
        U = rng.standard_normal((n_random, d))
        if feature_penalty is not None:
            # Supports of all sizes alike; the largest entry stays.
            out = rng.random(U.shape) >= rng.random((n_random, 1))
            out &= (feature_penalty > 0) & (np.arange(n_random) % 2 == 0)[:, None]
            out[np.arange(n_random), np.argmax(np.abs(U), axis=1)] = False
            U[out] = 0.0
        own = known.take(known.dual == j)
        U = ascend(coarse, t, U, smoothing=SMOOTHING * rng.random(n_random), **settings)
        again = np.flatnonzero(own.prices < settled)
        old = own.V / own.prices[:, None]
        old[again] = ascend(coarse, t, old[again], ALONG, step=FIRST, **settings)
        U = np.concatenate([old, U])
        on, prices = np.concatenate([own.active, np.full((n_random, d), -1)]), _prices(coarse, t, U, **settings)
        for _ in range(n_generations):
            k = _promising(prices)
            k = k[spread(U[k], n_climbs, SPREAD[1:4])]
            moves = rng.choice(STEPS, (len(k), 1)) * rng.standard_normal((len(k), d)) / np.sqrt(d)
            paired = rng.random((len(k), 1)) < TOWARDS
            moves = np.where(paired, rng.random((len(k), 1)) * (U[rng.permutation(k)] - U[k]), moves)
            if feature_penalty is not None:
                moves *= (U[k] != 0) | (rng.random((len(k), 1)) < 0.5)
            smoothing = AROUND_SMOOTHING * rng.random(len(k))
            more = ascend(coarse, t, U[k] + moves, AROUND, step=FIRST, smoothing=smoothing, **settings)
            U, on = np.concatenate([U, more]), np.concatenate([on, on[k]])
            prices = np.concatenate([prices, _prices(coarse, t, more, **settings)])
            n_starts += len(k)
        k = _promising(prices)
        k = k[k >= len(own.V)]
        if len(own.V):
            k = k[cKDTree(U[: len(own.V)]).query(U[k], distance_upper_bound=KNOWN)[0] > KNOWN]
        k = k[spread(U[k], int(np.clip(n_generations, 1, 3)) * n_climbs, SPREAD[1:5])]
        k = np.concatenate([again, k])
        starts, dual, active = [*starts, U[k]], [*dual, np.full(len(k), j)], [*active, on[k]]
    begin = np.concatenate(starts), np.concatenate(dual), np.concatenate(active)
    peaks, n_cells = climb(X, T, *begin, floor=floor, **settings)
    return peaks.join(known.take(known.prices >= settled)), n_starts + n_cells


def in_single_precision(X: NDArray) -> NDArray:
    """The data in single precision, for gradient steps, unless a feature hardly varies about its mean or is far from 1.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.

    Returns
    -------
    X : array of shape (n_samples, n_features)
        A copy, or the data themselves.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0]])
    >>> in_single_precision(X).dtype, in_single_precision(X + 1e6).dtype
    (dtype('float32'), dtype('float64'))
    """
    deviation, size = X.std(axis=0), np.abs(X).max(axis=0, initial=0.0)
    varies = (deviation > 1e-3 * np.abs(X.mean(axis=0))) | (deviation == 0)
    return X.astype(np.float32) if np.all(varies & (size < 1e12) & ((size > 1e-12) | (size == 0))) else X


def _prices(X, t, U, feature_penalty, lift):
    coarse, t, heights = U.astype(X.dtype), t.astype(X.dtype), np.empty(len(U))
    size = max(ENOUGH, IN_CACHE // max(len(X), 1))
    for k in range(0, len(U), size):
        check()
        heights[k : k + size] = np.maximum(coarse[k : k + size] @ X.T, 0.0) @ t
    if lift:
        heights += lift * U @ (X.T @ t)
    return heights / sparse_norms(U, feature_penalty)


def _promising(prices):
    """The promising among these, dearest first."""
    order = np.argsort(-prices, kind="stable")
    return order[(prices[order] > 0) & (prices[order] >= PROMISING * prices.max(initial=0.0))]


def spread(points: NDArray, most: int, radii: tuple[float, ...]) -> list[int]:
    """Up to ``most`` of the points, the earlier the better, far from each other as long as there are such."""
    tree = cKDTree(points)
    chosen: list[int] = []
    for radius in radii:
        check()
        near = np.zeros(len(points), dtype=bool)
        for k in chosen:
            near[tree.query_ball_point(points[k], radius)] = True
        for k in range(len(points)):
            if len(chosen) == most:
                return chosen
            if not near[k]:
                chosen.append(k)
                near[tree.query_ball_point(points[k], radius)] = True
    return chosen
