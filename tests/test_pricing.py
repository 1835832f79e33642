"""The search for neurons, judged by the list of all patterns and SciPy's NNLS."""

import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn.arrangements import enumerate_patterns
from convexnn.pricing import ascend, distinct, neighbours, price_cells, search


def gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def with_ones(rng, n, d):
    return np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])


def integer_grid(rng, n, d):
    return np.column_stack([rng.integers(0, 4, (n, d - 1)), np.ones(n)])


def centred_integers_and_zero_rows(rng, n, d):
    return rng.integers(-1, 2, (n, d)).astype(float)


FAMILIES = [gaussian, with_ones, integer_grid, centred_integers_and_zero_rows]


def unit(X):
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def height(X, t, U):
    """t^T (X u)_+ of every row u, sample by sample."""
    return np.array([sum(t[i] * max(x @ u, 0.0) for i, x in enumerate(X)) for u in U])


def best_in_cell(X, t, pattern):
    """Projection of X^T D t onto the cone of the pattern."""
    B = np.where(pattern, 1.0, -1.0)[:, None] * unit(X)
    q = X.T @ (pattern * t)
    return q + B.T @ nnls(B.T, -q)[0]


def exact_maximum(X, t):
    """The largest price of any neuron of norm at most 1: over all patterns, in the cone of each."""
    return max(np.linalg.norm(best_in_cell(X, t, p)) for p in enumerate_patterns(X).patterns.T)


def look(X, t, rng, n_random=200, directions=None, patterns=None):
    n, d = X.shape
    directions = np.zeros((0, d)) if directions is None else directions
    patterns = np.zeros((0, n), dtype=bool) if patterns is None else patterns
    return search(X, unit(X), t, directions, patterns, n_random, 30, rng)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(1, 2), (5, 2), (20, 3), (30, 6), (4, 9)])
def test_no_climb_goes_down(family, n, d):
    rng = np.random.default_rng([n, d])
    X, t, starts = family(rng, n, d), rng.standard_normal(n), rng.standard_normal((40, d))
    before = height(X, t, unit(starts))
    for n_steps in (0, 1, 5, 30):
        U = ascend(X, t, starts, n_steps)
        assert U.shape == starts.shape
        assert np.allclose(np.linalg.norm(U, axis=1), 1.0, atol=1e-12)
        after = height(X, t, U)
        # Rounding of sums of n products.
        assert np.all(after >= before - 1e-13 * n * np.abs(t).max() * np.abs(X).max())
        before = after


def test_climbs_leave_their_starts_alone():
    rng = np.random.default_rng(0)
    X, t, starts = rng.standard_normal((8, 3)), rng.standard_normal(8), rng.standard_normal((5, 3))
    kept = starts.copy()
    ascend(X, t, starts)
    assert np.array_equal(starts, kept)


@pytest.mark.parametrize("seed", range(5))
def test_climbs_on_a_line_give_unit_vectors(seed):
    """One feature: the way from -1 to 1 leads through zero, which is no neuron."""
    rng = np.random.default_rng(seed)
    X, t = rng.standard_normal((9, 1)), rng.standard_normal(9)
    for signed in (t, -t, np.abs(t), -np.abs(t)):
        U = ascend(X, signed, np.array([[1.0], [-1.0], [0.3], [-20.0]]))
        assert np.allclose(np.abs(U), 1.0, atol=1e-12)


@pytest.mark.parametrize("n, d", [(1, 2), (12, 3), (25, 5)])
def test_climbs_reach_a_slope_of_zero_within_a_cell(n, d):
    """Where no sample is near its hyperplane, the gradient at the end points along the weights."""
    rng = np.random.default_rng([n, d])
    X, t = rng.standard_normal((n, d)), rng.standard_normal(n)
    U = ascend(X, t, rng.standard_normal((50, d)), 200)
    for u in U:
        if np.abs(unit(X) @ u).min() > 1e-2:
            g = X.T @ ((X @ u > 0) * t)
            # Steps below 1e-4 are not taken; beside the maximum the gradient turns in proportion.
            assert np.linalg.norm(g - (g @ u) * u) <= 1e-2 * np.linalg.norm(X) * np.linalg.norm(t)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(1, 2), (15, 1), (20, 3), (25, 6)])
def test_price_of_a_cell(family, n, d):
    rng = np.random.default_rng([n, d])
    X, t = family(rng, n, d), rng.standard_normal(n)
    patterns = np.concatenate([rng.standard_normal((30, d)) @ X.T >= 0, rng.random((5, n)) < 0.5])
    prices, V, active = price_cells(X, unit(X), t, patterns)
    assert prices.shape == (35,) and V.shape == (35, d) and active.shape == (35, d)
    scale = np.linalg.norm(X) * np.linalg.norm(t)
    for price, v, on, pattern in zip(prices, V, active, patterns):
        # NNLS stops at about 1e-15 in the multipliers, which nearly parallel rows amplify.
        assert np.allclose(v, best_in_cell(X, t, pattern), atol=1e-9 * scale)
        assert np.isclose(price, np.linalg.norm(v), atol=1e-12 * scale)
        # The price is attained: the neuron v / |v| has it.
        if price > 1e-6 * scale:
            assert np.isclose(height(X, t, [v / price])[0], price, atol=1e-9 * scale)
            assert np.abs(unit(X)[on[on >= 0]] @ v).max(initial=0.0) <= 1e-9 * price


def test_neighbours_flip_the_active_samples_and_nothing_else():
    rng = np.random.default_rng(0)
    patterns = rng.random((6, 9)) < 0.5
    active = np.array([[-1, -1, -1], [4, -1, -1], [-1, 0, 8], [1, 2, 3], [-1, -1, 7], [5, -1, 6]])
    kept = patterns.copy()
    crossed = neighbours(patterns, active)
    assert np.array_equal(patterns, kept)
    expected = []
    for pattern, samples in zip(patterns, active):
        on = [i for i in samples if i >= 0]
        for flips in [[i] for i in on] + ([on] if len(on) > 1 else []):
            other = pattern.copy()
            other[flips] = ~other[flips]
            expected.append(tuple(other))
    assert sorted(map(tuple, crossed)) == sorted(expected)
    assert crossed.dtype == bool
    assert neighbours(patterns[:1], active[:1]).shape == (0, 9)
    assert neighbours(patterns[:0], active[:0]).shape == (0, 9)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20])
def test_distinct(n):
    rng = np.random.default_rng(n)
    patterns = rng.random((40, n)) < 0.3
    than = rng.random((10, n)) < 0.3
    for known in (None, than, than[:0]):
        seen = set() if known is None else set(map(tuple, known))
        expected = []
        for row in map(tuple, patterns):
            if row not in seen:
                seen.add(row)
                expected.append(row)
        got = distinct(patterns, known)
        assert got.shape == (len(expected), n) and list(map(tuple, got)) == expected
    assert distinct(patterns[:0]).shape == (0, n)


SIZES = [(8, 2), (14, 3), (20, 3), (9, 4), (25, 2)]


@pytest.mark.parametrize("family", FAMILIES)
def test_search_finds_the_maximum_over_the_sphere(family):
    hits = 0
    for case in range(30):
        rng = np.random.default_rng([case, len(family.__name__)])
        n, d = SIZES[case % len(SIZES)]
        X, t = family(rng, n, d), rng.standard_normal(n)
        prices, cells, V, n_starts = look(X, t, rng)
        best = exact_maximum(X, t)
        # Both are projections, accurate to rounding times the condition of the active rows. A maximum of zero is that
        # of a neuron which is active nowhere; then the search may come back with nothing.
        found = max(prices, default=0.0)
        rounding = 1e-13 * np.linalg.norm(X) * np.linalg.norm(t)
        assert found <= best * (1 + 1e-9) + rounding
        hits += found >= best * (1 - 1e-9) - rounding
        if best <= rounding:
            continue
        assert n_starts >= 200 + len(cells)
        assert np.all(np.diff(prices) <= 0)
        assert len(distinct(cells)) == len(cells) == len(V) == len(prices)
        assert np.allclose(np.linalg.norm(V, axis=1), prices, rtol=1e-12)
        top = prices > 1e-6 * best
        assert np.allclose(height(X, t, V[top] / prices[top, None]), prices[top], atol=1e-9 * best)
    assert hits >= 28


@pytest.mark.parametrize("family", FAMILIES)
def test_search_prices_the_cells_that_it_is_given(family):
    rng = np.random.default_rng(5)
    X, t = family(rng, 15, 3), rng.standard_normal(15)
    W = rng.standard_normal((4, 3))
    patterns = W @ X.T >= 0
    prices, cells, _, n_starts = look(X, t, rng, 2, W, patterns)
    assert n_starts >= 2 + 3 * 4
    for pattern in patterns:
        k = np.flatnonzero((cells == pattern).all(axis=1))
        assert len(k) == 1
        assert np.isclose(prices[k[0]], np.linalg.norm(best_in_cell(X, t, pattern)), atol=1e-9 * np.linalg.norm(X))


def test_search_is_repeatable():
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((20, 3)), rng.standard_normal(20)
    first, second = (look(X, t, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_search_without_any_price_above_zero(d):
    """Samples all around the origin and a dual variable of one sign: every neuron makes matters worse."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((8 * d, d))
    X = np.concatenate([X, -X])
    for t in (-np.ones(len(X)), np.zeros(len(X))):
        prices, cells, V, _ = look(X, t, rng)
        assert len(prices) == len(cells) == len(V)
        assert np.max(prices, initial=0.0) <= 1e-12 * np.linalg.norm(X)
