"""The search for neurons, judged by the price itself, sample by sample, and by a list of every cell and wall."""

from itertools import combinations

import numpy as np
import pytest

from convexnn.search.pricing import Peaks, ascend, climb, in_single_precision, no_peaks, search, spread


def gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def with_ones(rng, n, d):
    return np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])


def integer_grid(rng, n, d):
    return np.column_stack([rng.integers(0, 4, (n, d - 1)), np.ones(n)])


def centred_integers_and_zero_rows(rng, n, d):
    return rng.integers(-1, 2, (n, d)).astype(float)


def equal_parallel_and_opposite_rows(rng, n, d):
    some = rng.standard_normal((n // 3 + 1, d))
    return np.concatenate([some, some * rng.choice([1.0, 2.0], (len(some), 1)), -some])[:n]


FAMILIES = [gaussian, with_ones, integer_grid, centred_integers_and_zero_rows, equal_parallel_and_opposite_rows]
GENERIC = [gaussian, with_ones]


def dual_variable(rng, n, kind):
    if kind == "integers":
        return rng.integers(-2, 3, n).astype(float)
    t = rng.standard_normal(n)
    if kind == "zeros":
        t[rng.random(n) < 0.4] = 0.0
    return t


def unit(X):
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def height(X, t, U):
    """t^T (X u)_+ of every row u, sample by sample."""
    U, total = np.asarray(U), np.zeros(len(U))
    for x, weight in zip(X, t):
        total += weight * np.maximum((U * x).sum(axis=1), 0.0)
    return total


def scale(X, t):
    return max(np.linalg.norm(X, axis=1) @ np.abs(t), 1e-300)


def lines_of(X):
    """One unit row for each hyperplane."""
    kept = []
    for x in unit(X)[np.any(X, axis=1)]:
        if all(abs(abs(x @ other) - 1) > 1e-12 for other in kept):
            kept.append(x)
    return kept


def brute_force(X, t):
    """The largest price of a unit vector, or 0: the best point of every wall, and meeting of walls, of every cell.

    Within a cell and on a meeting of walls the price is linear, so that its maximum is the projected slope.
    """
    d, rng = X.shape[1], np.random.default_rng(0)
    meetings = [np.eye(d)]
    for size in range(1, d):
        for rows in combinations(lines_of(X), size):
            _, lengths, axes = np.linalg.svd(np.array(rows))
            if lengths[-1] > 1e-9:
                meetings.append(axes[size:])
    # Inner points of cells: from all over the sphere, and from around every corner.
    corners = np.array([sign * axes[0] for axes in meetings for sign in (1.0, -1.0) if len(axes) == 1]).reshape(-1, d)
    around = np.repeat(corners, 40, axis=0)
    around += rng.choice([1e-3, 1e-6], (len(around), 1)) * rng.standard_normal(around.shape)
    patterns = np.concatenate([rng.standard_normal((3000, d)), around]) @ X.T > 0
    _, first = np.unique(np.packbits(patterns, axis=1), axis=0, return_index=True)
    slopes = (patterns[first] * t) @ X
    best = 0.0
    for axes in meetings:
        W = slopes @ axes.T
        lengths = np.linalg.norm(W, axis=1)
        some = lengths > 1e-9 * scale(X, t)
        U = W[some] / lengths[some, None]
        best = max(best, np.max(np.maximum(X @ axes.T @ U.T, 0.0).T @ t, initial=0.0))
    return best


def check_peaks(peaks, X, t):
    """Every peak is what it says it is: a vector of its cell, as long as its price is high, on its active samples."""
    n, d = X.shape
    assert peaks.patterns.shape == (len(peaks.V), n) and peaks.patterns.dtype == bool
    assert peaks.V.shape == peaks.active.shape == (len(peaks.V), d)
    assert np.array_equal(peaks.prices, np.linalg.norm(peaks.V, axis=1))
    assert np.all(peaks.prices > 0) and np.all(np.diff(peaks.prices) <= 0)
    assert len({tuple(p) for p in peaks.patterns}) == len(peaks.V)
    U, rounding = peaks.V / peaks.prices[:, None], 1e-13 * scale(X, t)
    assert np.allclose(height(X, t, U), peaks.prices, rtol=0, atol=rounding)
    for pattern, u, on in zip(peaks.patterns, U, peaks.active):
        side = unit(X) @ u
        # A projection is within 1e-12 of its cone relative to its length, which can be far below that of the slope.
        assert np.min(np.where(pattern, side, -side), initial=0.0) >= -1e-9
        on = on[on >= 0]
        assert len(set(on)) == len(on) and np.all(on < n)
        assert np.abs(side[on]).max(initial=0.0) <= 1e-9
        assert np.all(t[on] < 0)


def rises(X, t, u, size, rng, n_directions=300):
    """How much a small step away from u raises the price, at most: in any direction, and straight off the walls."""
    directions = rng.standard_normal((n_directions, len(u)))
    directions = np.concatenate([directions, unit(X), -unit(X)])
    near = unit(u + size * directions)
    return height(X, t, near).max() - height(X, t, [u])[0]


def ones(k, d):
    return np.full((k, d), -1)


def climb_fresh(X, t, U, max_steps=200):
    return climb_from(X, t, U, ones(len(U), X.shape[1]), max_steps)


def climb_from(X, t, U, active, max_steps=10):
    """Climbs for one dual variable."""
    return climb(X, t[:, None], U, np.zeros(len(U), dtype=int), active, max_steps)


def known_from(X, V):
    """Vectors to start from, in the form of peaks."""
    return Peaks(V @ X.T >= 0, V, ones(*V.shape), np.zeros(len(V), dtype=int))


# ---------------------------------------------------------------------------------------------------------------------
# Gradient steps


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(1, 2), (5, 2), (20, 3), (30, 6), (4, 9)])
def test_no_step_goes_down(family, n, d):
    rng = np.random.default_rng([n, d])
    X, t, starts = family(rng, n, d), rng.standard_normal(n), rng.standard_normal((40, d))
    before = height(X, t, unit(starts))
    for n_steps in (0, 1, 5, 30):
        U = ascend(X, t, starts, n_steps)
        assert U.shape == starts.shape
        assert np.allclose(np.linalg.norm(U, axis=1), 1.0, atol=1e-12)
        after = height(X, t, U)
        assert np.all(after >= before - 1e-14 * scale(X, t))
        before = after


def test_steps_leave_their_starts_alone():
    rng = np.random.default_rng(0)
    X, t, starts = rng.standard_normal((8, 3)), rng.standard_normal(8), rng.standard_normal((5, 3))
    kept = starts.copy()
    ascend(X, t, starts)
    assert np.array_equal(starts, kept)


@pytest.mark.parametrize("seed", range(5))
def test_steps_on_a_line_give_unit_vectors(seed):
    """One feature: the way from -1 to 1 leads through zero, which is no neuron."""
    rng = np.random.default_rng(seed)
    X, t = rng.standard_normal((9, 1)), rng.standard_normal(9)
    for signed in (t, -t, np.abs(t), -np.abs(t)):
        U = ascend(X, signed, np.array([[1.0], [-1.0], [0.3], [-20.0]]))
        assert np.allclose(np.abs(U), 1.0, atol=1e-12)


@pytest.mark.parametrize("n, d", [(1, 2), (12, 3), (25, 5)])
def test_steps_reach_a_slope_of_zero_within_a_cell(n, d):
    """Where no sample is near its hyperplane, the gradient at the end points along the weights."""
    rng = np.random.default_rng([n, d])
    X, t = rng.standard_normal((n, d)), rng.standard_normal(n)
    U = ascend(X, t, rng.standard_normal((50, d)), 200)
    for u in U:
        if np.abs(unit(X) @ u).min() > 1e-2:
            g = X.T @ ((X @ u > 0) * t)
            # Steps below 1e-4 are not taken; beside the maximum the gradient turns in proportion.
            assert np.linalg.norm(g - (g @ u) * u) <= 1e-2 * np.linalg.norm(X) * np.linalg.norm(t)


# ---------------------------------------------------------------------------------------------------------------------
# Lists of peaks


def some_peaks(rng, m=30, n=11, d=3, n_cells=8):
    cells = rng.random((n_cells, n)) < 0.5
    zeros = np.zeros(m, dtype=int)
    return Peaks(cells[rng.integers(0, n_cells, m)], rng.standard_normal((m, d)), rng.integers(-1, n, (m, d)), zeros)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20])
def test_of_equal_cells_the_dearer_stays(n):
    rng = np.random.default_rng(n)
    for first, second in [(30, 20), (1, 40), (0, 5), (5, 0), (0, 0)]:
        both = some_peaks(rng, first, n), some_peaks(rng, second, n)
        dearest = {}
        for peaks in both:
            for pattern, v, active in zip(peaks.patterns, peaks.V, peaks.active):
                known = dearest.get(tuple(pattern))
                if known is None or np.linalg.norm(v) > np.linalg.norm(known[0]):
                    dearest[tuple(pattern)] = v, active
        joined = both[0].join(both[1])
        assert {tuple(p) for p in joined.patterns} == set(dearest) and len(joined.V) == len(dearest)
        assert np.all(np.diff(joined.prices) <= 0)
        for pattern, v, active in zip(joined.patterns, joined.V, joined.active):
            expected = dearest[tuple(pattern)]
            assert np.array_equal(v, expected[0]) and np.array_equal(active, expected[1])


def test_join_leaves_its_parts_alone():
    rng = np.random.default_rng(0)
    first, second = some_peaks(rng), some_peaks(rng)
    kept = [part.copy() for peaks in (first, second) for part in vars(peaks).values()]
    first.join(second)
    assert all(np.array_equal(a, b) for a, b in zip(kept, [*vars(first).values(), *vars(second).values()]))


def test_take():
    peaks = some_peaks(np.random.default_rng(0))
    for keep in ([3, 1], np.arange(30) % 2 == 0, [], slice(4, 9)):
        keep = np.array(keep, dtype=int) if isinstance(keep, list) else keep
        part = peaks.take(keep)
        assert np.array_equal(part.patterns, peaks.patterns[keep]) and np.array_equal(part.V, peaks.V[keep])
        assert np.array_equal(part.active, peaks.active[keep]) and np.array_equal(part.prices, peaks.prices[keep])


def test_no_peaks():
    none = no_peaks(np.ones((7, 3)))
    assert none.patterns.shape == (0, 7) and none.V.shape == none.active.shape == (0, 3)
    assert none.prices.shape == (0,)
    assert none.join(none).V.shape == none.take(none.apart(5, (0.1,))).V.shape == (0, 3)
    peaks = some_peaks(np.random.default_rng(0), n=7)
    for joined in (none.join(peaks), peaks.join(none)):
        assert {tuple(p) for p in joined.patterns} == {tuple(p) for p in peaks.patterns}


def test_apart_takes_promising_peaks_that_are_far_from_each_other():
    rng = np.random.default_rng(0)
    peaks = some_peaks(rng, 200, 30, n_cells=200)
    peaks = peaks.join(peaks.take(slice(0, 0)))
    best = peaks.prices.max()
    for most in (1, 5, 20, 1000):
        chosen = peaks.take(peaks.apart(most, (0.3,)))
        assert 1 <= len(chosen.V) <= most
        assert chosen.prices[0] == best and chosen.prices.min() >= 0.5 * best
        U = chosen.V / chosen.prices[:, None]
        gaps = np.linalg.norm(U[:, None] - U, axis=2)[np.triu_indices(len(U), 1)]
        assert gaps.min(initial=np.inf) > 0.3
    every = peaks.apart(1000, (0.3, 0.0))
    assert len(set(every)) == len(every) == np.count_nonzero(peaks.prices >= 0.5 * best)


def spread_textbook(points, most, radii):
    """The same greedy choice, distance by distance."""
    chosen = []
    for radius in radii:
        for k, point in enumerate(points):
            if len(chosen) < most and all(np.linalg.norm(point - points[j]) > radius for j in chosen):
                chosen.append(k)
    return chosen


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("m", [0, 1, 2, 40])
def test_spread(d, m):
    rng = np.random.default_rng([d, m])
    points = unit(rng.standard_normal((m, d)))
    points = np.concatenate([points, points[: m // 4], points[: m // 3] + 1e-4])
    for radii in [(0.3, 0.1, 0.03), (1.0,), (1e-6,), (0.5, 1e-3)]:
        for most in (0, 1, 3, 17, 1000):
            chosen = spread(points, most, radii)
            assert chosen == spread_textbook(points, most, radii)
            assert len(chosen) == len(set(chosen)) <= most
            assert not chosen or chosen[0] == 0
    # A point that occurs twice is chosen once.
    assert len(spread(points, 1000, (0.3, 1e-9))) == len(np.unique(points, axis=0))


def test_spread_prefers_early_points_and_wide_radii():
    points = np.array([[0.0], [0.05], [1.0], [0.06], [2.0], [0.0]])
    assert list(spread(points, 3, (0.5, 0.01))) == [0, 2, 4]
    assert list(spread(points, 4, (0.5, 0.01))) == [0, 2, 4, 1]
    assert list(spread(points, 9, (0.5, 0.005))) == [0, 2, 4, 1, 3]
    assert list(spread(points, 9, (0.5,))) == [0, 2, 4]


# ---------------------------------------------------------------------------------------------------------------------
# Climbs from cell to cell


SIZES = [(1, 2), (15, 1), (20, 3), (25, 6), (4, 9), (40, 2)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["normal", "zeros", "integers"])
def test_climbs_end_in_peaks(family, kind):
    for n, d in SIZES:
        rng = np.random.default_rng([n, d])
        X, t = family(rng, n, d), dual_variable(rng, n, kind)
        U = rng.standard_normal((30, d))
        for max_steps in (1, 2, 10, 200):
            peaks, n_cells = climb_fresh(X, t, U, max_steps)
            check_peaks(peaks, X, t)
            assert len(peaks.V) <= len(U) <= n_cells <= max_steps * len(U)
            # Not above the best there is, and not below the best start.
            assert peaks.prices.max(initial=0.0) >= height(X, t, unit(U)).max() - 1e-13 * scale(X, t)
        if d <= 3:
            assert peaks.prices.max(initial=0.0) <= brute_force(X, t) + 1e-12 * scale(X, t)


@pytest.mark.parametrize("family", GENERIC)
@pytest.mark.parametrize("kind", ["normal", "zeros", "integers"])
@pytest.mark.parametrize("n, d", [(1, 2), (9, 2), (20, 3), (30, 6), (4, 9), (15, 1)])
def test_finished_climbs_end_in_local_maxima(family, kind, n, d):
    rng = np.random.default_rng([n, d, 1])
    X, t = family(rng, n, d), dual_variable(rng, n, kind)
    peaks, _ = climb_fresh(X, t, rng.standard_normal((40, d)))
    # Steps so short that no further wall is near; a slope of 1e-6 would show.
    for u in peaks.V / peaks.prices[:, None]:
        for size in (1e-5, 1e-7):
            assert rises(X, t, u, size, rng) <= 2e-14 * scale(X, t)


DEGENERATE = [integer_grid, centred_integers_and_zero_rows, equal_parallel_and_opposite_rows]


@pytest.mark.parametrize("family", DEGENERATE)
@pytest.mark.parametrize("kind", ["normal", "zeros", "integers"])
def test_most_climbs_end_in_local_maxima_where_walls_meet(family, kind):
    """Where more walls meet than there are dimensions multipliers are not unique, and a climb may stop early.

    Samples on one hyperplane count as one and do no harm.
    """
    ends = []
    for n, d, seed in [(9, 2, 1), (20, 3, 1), (20, 3, 2), (20, 3, 3), (30, 6, 1), (30, 6, 2), (30, 6, 3), (15, 1, 1)]:
        rng = np.random.default_rng([n, d, seed])
        X, t = family(rng, n, d), dual_variable(rng, n, kind)
        peaks, _ = climb_fresh(X, t, rng.standard_normal((40, d)))
        ends += [rises(X, t, u, 1e-7, rng) <= 2e-14 * scale(X, t) for u in peaks.V / peaks.prices[:, None]]
    assert len(ends) >= 15
    assert np.mean(ends) >= (1.0 if family is equal_parallel_and_opposite_rows else 0.7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(15, 1), (20, 3), (25, 6), (4, 9)])
def test_no_climb_ends_below_its_start(family, n, d):
    rng = np.random.default_rng([n, d])
    X, t = family(rng, n, d), rng.standard_normal(n)
    for u in unit(rng.standard_normal((20, d))):
        start = height(X, t, [u])[0]
        last = start - 1e-13 * scale(X, t)
        for max_steps in (1, 2, 3, 50):
            # A start is as long as its neuron is; alone it is the most promising.
            peaks, _ = climb_fresh(X, t, 3.0 * u[None], max_steps)
            assert len(peaks.V) == 1 or start <= 0
            assert peaks.prices.max(initial=0.0) >= last
            last = max(last, peaks.prices.max(initial=0.0) * (1 - 1e-12))


def test_climbs_from_peaks_stay_there():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, t = rng.standard_normal((25, 4)), rng.standard_normal(25)
        peaks, _ = climb_fresh(X, t, rng.standard_normal((30, 4)))
        best = peaks.take(peaks.prices > 0.6 * peaks.prices.max())
        for active in (best.active, ones(*best.V.shape)):
            again, _ = climb_from(X, t, best.V, active, 200)
            # Starting on a wall a climb may begin on its other side, never to end lower.
            assert np.isclose(again.prices[0], best.prices[0], rtol=1e-12)
            found = again.V[:, None] - best.V
            assert np.all(np.abs(found).max(axis=2).min(axis=0) <= 1e-9 * best.prices[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_guesses_of_the_active_samples_are_only_guesses(family):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n, d = [(20, 3), (30, 5), (12, 2), (3, 6)][seed % 4]
        X, t = family(rng, n, d), rng.standard_normal(n)
        U = rng.standard_normal((25, d))
        plain, _ = climb_fresh(X, t, U)
        for share in (0.1, 0.6, 1.0):
            # Distinct samples and gaps.
            active = np.argsort(rng.random((25, max(n, d))))[:, :d]
            active = np.where((active < n) & (rng.random((25, d)) < share), active, -1)
            kept = active.copy()
            peaks, _ = climb_from(X, t, U, active, 200)
            assert np.array_equal(active, kept)
            check_peaks(peaks, X, t)
            if family in GENERIC:
                assert {tuple(p) for p in peaks.patterns} == {tuple(p) for p in plain.patterns}
                assert np.allclose(peaks.prices, plain.prices, rtol=1e-9)


def test_climbs_leave_their_starts_alone():
    rng = np.random.default_rng(0)
    X, t, U, active = rng.standard_normal((12, 3)), rng.standard_normal(12), rng.standard_normal((9, 3)), ones(9, 3)
    dual = np.zeros(9, dtype=int)
    arguments = (X, t[:, None], U, dual, active)
    kept = [part.copy() for part in arguments]
    climb(*arguments)
    assert all(np.array_equal(a, b) for a, b in zip(kept, arguments))


def test_climbs_from_nowhere():
    X, t = np.eye(3), np.array([1.0, -1.0, 2.0])
    peaks, n_cells = climb_from(X, t, np.zeros((0, 3)), ones(0, 3))
    assert len(peaks.V) == n_cells == 0


def test_zero_rows_change_nothing():
    rng = np.random.default_rng(0)
    X, t, U = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.standard_normal((20, 3))
    padded = np.concatenate([X, np.zeros((4, 3))]), np.concatenate([t, [1.0, -1.0, 0.0, -3.0]])
    plain, more = climb_fresh(X, t, U)[0], climb_fresh(*padded, U)[0]
    assert np.allclose(plain.prices, more.prices, rtol=1e-12)
    assert np.array_equal(plain.patterns, more.patterns[:, :20])


def test_prices_grow_with_the_scale():
    rng = np.random.default_rng(0)
    X, t, U = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.standard_normal((20, 3))
    plain = climb_fresh(X, t, U)[0]
    for a, b in [(1e8, 1.0), (1.0, 1e8), (1e-8, 1e-8)]:
        scaled = climb_fresh(a * X, b * t, U)[0]
        assert np.array_equal(plain.patterns, scaled.patterns)
        assert np.allclose(scaled.prices, a * b * plain.prices, rtol=1e-10)


@pytest.mark.parametrize("n, d", [(1, 1), (1, 3), (12, 1), (15, 3), (5, 8)])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_dual_variables_without_negative_entries(n, d, share):
    """No wall stops a climb; every peak is a fixed point u = g(u) / |g(u)| of the slope."""
    rng = np.random.default_rng([n, d])
    X, t = rng.standard_normal((n, d)), np.abs(rng.standard_normal(n))
    t[rng.random(n) < share] = 0.0
    U = rng.standard_normal((20, d))
    peaks, _ = climb_fresh(X, t, U)
    check_peaks(peaks, X, t)
    assert np.all(peaks.active == -1)
    assert np.allclose((peaks.patterns * t) @ X, peaks.V, atol=1e-12 * scale(X, t))
    found, _ = look(X, t, rng, 100, 20, 2)
    if d <= 3:
        assert np.isclose(found.prices.max(initial=0.0), brute_force(X, t), rtol=1e-12, atol=1e-12)


def test_starts_below_the_floor_stay_where_they_are():
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((30, 4)), rng.standard_normal(30)
    U = unit(rng.standard_normal((40, 4)))
    prices = height(X, t, U)
    floor = np.sort(prices)[25]
    active, dual = np.full(U.shape, -1), np.zeros(40, dtype=int)
    low, _ = climb(X, t[:, None], U, dual, active, floor=np.inf)
    above = prices > 0
    assert np.allclose(low.prices, np.sort(prices[above])[::-1], rtol=1e-12)
    high, n_cells = climb(X, t[:, None], U, dual, active, floor=floor)
    every, n_every = climb(X, t[:, None], U, dual, active)
    ends, stay = unit(high.V), unit(U[above & (prices < floor)])
    assert len(stay) > 3 and np.all((ends @ stay.T).max(axis=0) > 1 - 1e-12)
    # The dearest starts climb as they would among all.
    assert n_cells < n_every and np.isclose(high.prices[0], every.prices[0], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The search


def look(X, t, rng, n_random=200, n_climbs=30, n_generations=2, known=None, remembered=None):
    known = known_from(X, np.zeros((0, X.shape[1])) if known is None else known)
    known = known if remembered is None else known.join(remembered)
    return search(X, t[:, None], known, n_random, n_climbs, n_generations, rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_search_finds_the_maximum_over_the_sphere(family):
    """A statement about this search on these data, found to be true."""
    for seed in range(10):
        rng = np.random.default_rng([seed, len(family.__name__)])
        n, d = int(rng.integers(12, 31)), 3
        if seed % 3 == 2:
            n, d = int(rng.integers(12, 17)), 4
        X, t = family(rng, n, d), dual_variable(rng, n, ["normal", "zeros", "integers"][seed % 3])
        peaks, n_starts = look(X, t, rng, 1000, 50, 5)
        check_peaks(peaks, X, t)
        assert n_starts >= 1000 + len(peaks.V)
        assert np.isclose(peaks.prices.max(initial=0.0), brute_force(X, t), rtol=1e-10, atol=1e-12 * scale(X, t)), seed


@pytest.mark.parametrize("n, d", [(10, 1), (30, 2), (3, 3), (2, 5)])
def test_search_in_few_dimensions_and_of_few_samples(n, d):
    for seed in range(3):
        rng = np.random.default_rng([seed, n, d])
        X, t = rng.standard_normal((n, d)), rng.standard_normal(n)
        peaks, _ = look(X, t, rng)
        check_peaks(peaks, X, t)
        assert np.isclose(peaks.prices.max(initial=0.0), brute_force(X, t), rtol=1e-10, atol=1e-12 * scale(X, t))


def test_search_starts_from_what_is_known():
    """One random start sees little; neurons and peaks that are handed over are not lost, whatever t was then."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, t = rng.standard_normal((40, 6)), rng.standard_normal(40)
        good, _ = look(X, t, rng, 500, 50, 3)
        rounding = 1e-12 * scale(X, t)
        for known, remembered in [(7 * good.V[:1], None), (None, good.take(slice(0, 3))), (good.V[1:4], good)]:
            peaks, n_starts = look(X, t, rng, 1, 1, 0, known, remembered)
            handed = (0 if known is None else len(known)) + (0 if remembered is None else len(remembered.V))
            assert n_starts >= 1 + handed
            check_peaks(peaks, X, t)
            assert peaks.prices[0] >= good.prices[0 if known is None or len(known) == 1 or remembered else 1] - rounding
        moved = t + 0.3 * rng.standard_normal(40)
        peaks, _ = look(X, moved, rng, 1, 1, 0, None, good)
        check_peaks(peaks, X, moved)
        assert peaks.prices[0] >= height(X, moved, good.V / good.prices[:, None]).max() - rounding


def test_smoothing_finds_higher_maxima():
    """The same starts, with and without, twice as many plain steps as steps of each half of a smoothed climb."""
    higher = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, t = rng.standard_normal((200, 20)) * 3.0, rng.standard_normal(200)
        U = rng.standard_normal((100, 20))
        plain, smoothed = ascend(X, t, U, 60), ascend(X, t, U, 30, smoothing=0.3)
        assert np.allclose(np.linalg.norm(smoothed, axis=1), 1.0)
        # The unit of smoothing is that of the data.
        assert np.array_equal(smoothed, ascend(4.0 * X, t, U, 30, smoothing=0.3))
        higher.append(height(X, t, smoothed).mean() / height(X, t, plain).mean() - 1)
        mixed = ascend(X, t, U, 30, smoothing=np.where(np.arange(100) < 50, 0.3, 0.0))
        assert np.array_equal(mixed[:50], smoothed[:50])
        # Without smoothing the second half goes on where the first one ended.
        assert np.all(height(X, t, mixed[50:]) >= height(X, t, ascend(X, t, U[50:], 30)) * (1 - 1e-12))
    assert min(higher) > 0.0 and np.mean(higher) > 0.01


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_climbs_in_single_precision_end_as_high(smoothing):
    rng = np.random.default_rng(0)
    X, t, U = rng.standard_normal((300, 8)), rng.standard_normal(300), rng.standard_normal((200, 8))
    fine, coarse = (height(X, t, ascend(A, t, U, smoothing=smoothing)) for A in (X, X.astype(np.float32)))
    assert np.mean(np.isclose(coarse, fine, rtol=1e-3)) > 0.8
    assert np.isclose(coarse.mean(), fine.mean(), rtol=1e-2)
    for lengths in (1e-30, 1.0, 1e30):
        zeros = ascend(np.zeros((5, 2), dtype=np.float32), np.full(5, lengths), U[:, :2], smoothing=smoothing)
        assert np.allclose(zeros, unit(U[:, :2]))


@pytest.mark.parametrize("shift", [0.0, 1e7])
@pytest.mark.parametrize("size", [1e-140, 1.0, 1e140])
def test_search_in_any_unit_and_far_from_zero(size, shift):
    """Directions and prices of data about zero, in units of size; far from zero single precision would see no data."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 3))
    rows, t = np.column_stack([X + shift, np.ones(40)]) * size, rng.standard_normal(40) / size
    assert (in_single_precision(rows / size).dtype == np.float64) == (shift > 0)
    peaks, _ = look(rows, t, np.random.default_rng(0), 300, 30, 3)
    best, _ = look(rows / size, t * size, np.random.default_rng(0), 300, 30, 3)
    assert np.allclose(peaks.prices[:5], best.prices[:5], rtol=1e-6)
    plain = np.maximum(rows @ (peaks.V / peaks.prices[:, None]).T, 0.0).T @ t
    assert np.allclose(plain, peaks.prices, rtol=1e-6)


def test_generations_raise_the_best_price():
    """From one start, on data with many maxima."""
    first, last = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, t = rng.standard_normal((200, 20)), rng.standard_normal(200)
        (few, n_few), (many, n_many) = (look(X, t, np.random.default_rng(1), 1, 3, n) for n in (0, 12))
        assert n_many > n_few
        first, last = [*first, few.prices[0]], [*last, many.prices[0]]
    first, last = np.array(first), np.array(last)
    assert np.mean(last >= first * (1 - 1e-9)) >= 0.9 and np.mean(last > first * (1 + 1e-3)) >= 0.3


@pytest.mark.parametrize("family", FAMILIES)
def test_several_dual_variables_climb_as_each_would_alone(family):
    for seed in range(5):
        rng = np.random.default_rng([seed, len(family.__name__)])
        X, T = family(rng, 25, 4), np.column_stack([dual_variable(rng, 25, kind) for kind in ("normal", "integers")])
        T = np.column_stack([T, -T[:, 0]])
        U, dual = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
        together, n_cells = climb(X, T, U, dual, ones(30, 4), 200)
        n_alone = 0
        for j, t in enumerate(T.T):
            own = together.take(together.dual == j)
            check_peaks(own, X, t)
            alone, n = climb_from(X, t, U[dual == j], ones(np.count_nonzero(dual == j), 4), 200)
            n_alone += n
            if family in GENERIC:
                assert {tuple(p) for p in own.patterns} == {tuple(p) for p in alone.patterns}
                assert np.allclose(own.prices, alone.prices, rtol=1e-9)
        assert n_cells == n_alone or family not in GENERIC


def test_settled_peaks_are_kept_and_do_not_climb_again():
    """A second look at the same dual variables starts from the ends of the first, and adds to them."""
    rng = np.random.default_rng(1)
    X, t = rng.standard_normal((300, 8)), rng.standard_normal(300)
    first, _ = look(X, t, rng, 20, 20, 1)
    alone, n_starts = search(X, t[:, None], first, 0, 20, 0, rng, settled=0.0)
    assert n_starts == len(first.V) and all(map(np.array_equal, vars(alone).values(), vars(first).values()))
    dear = first.prices >= np.median(first.prices)
    _, n_half = search(X, t[:, None], first, 0, 20, 0, rng, settled=np.median(first.prices))
    _, n_all = search(X, t[:, None], first, 0, 20, 0, rng)
    assert len(first.V) + (~dear).sum() <= n_half < n_all
    second, _ = search(X, t[:, None], first, 200, 20, 3, rng, settled=0.0)
    check_peaks(second, X, t)
    kept = (second.patterns[:, None] == first.patterns).all(axis=2).any(axis=0)
    assert kept.all() and len(second.V) > len(first.V) and second.prices[0] >= first.prices[0]


def test_search_for_several_dual_variables():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, T = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
        T = np.column_stack([T, -T])
        peaks, n_starts = search(X, T, no_peaks(X), 300, 30, 3, rng)
        assert n_starts >= 4 * 300 + len(peaks.V) and np.all(np.diff(peaks.prices) <= 0)
        for j, t in enumerate(T.T):
            own = peaks.take(peaks.dual == j)
            check_peaks(own, X, t)
            assert np.isclose(own.prices.max(), brute_force(X, t), rtol=1e-10)


def test_apart_and_join_treat_dual_variables_apart():
    peaks = some_peaks(np.random.default_rng(0), 60, 11, n_cells=20)
    other = Peaks(peaks.patterns, 0.1 * peaks.V, peaks.active, peaks.dual + 300)
    joined = peaks.join(other)
    assert len(joined.V) == 2 * len(peaks.join(peaks).V)
    chosen = joined.take(joined.apart(3, (0.1,)))
    assert np.array_equal(np.bincount(chosen.dual)[[0, 300]], [3, 3])


def test_search_leaves_its_arguments_alone():
    rng = np.random.default_rng(0)
    X, t, known = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.standard_normal((4, 3))
    remembered, _ = look(X, t, rng)
    arguments = X, t, known, *vars(remembered).values()
    kept = [part.copy() for part in arguments]
    look(X, t, rng, known=known, remembered=remembered)
    assert all(np.array_equal(a, b) for a, b in zip(kept, arguments))


def test_search_is_repeatable():
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((20, 3)), rng.standard_normal(20)
    first, second = (look(X, t, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(vars(first[0]).values(), vars(second[0]).values()))
    assert first[1] == second[1]


@pytest.mark.parametrize("d", [1, 2, 4])
def test_search_without_any_price_above_zero(d):
    """Samples all around the origin and no positive dual variable: every neuron makes matters worse."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((8 * d, d))
    X = np.concatenate([X, -X])
    for t in (-np.ones(len(X)), -rng.random(len(X)), np.zeros(len(X))):
        known = rng.standard_normal((5, d))
        peaks, n_starts = look(X, t, rng, known=known)
        assert peaks.V.shape == (0, d) and n_starts >= 200
        assert look(X, t, rng, remembered=known_from(X, known))[0].V.shape == (0, d)


def test_search_of_zero_data():
    X, t = np.zeros((5, 2)), np.array([1.0, -1.0, 0.0, 2.0, -3.0])
    assert len(look(X, t, np.random.default_rng(0))[0].V) == 0
