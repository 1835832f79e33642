"""The bound of the price by branch and bound, judged by enumeration of all patterns."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn import enumerate_patterns
from convexnn.proofs import branching
from convexnn.proofs.branching import bound_price
from convexnn.search.prices import Price
from convexnn.search.pricing import no_peaks, search

KINDS = ("normal", "integer", "scales", "duplicates", "dependent", "zeros")


def draw_case(seed, kind, d=None, n=None):
    """Small data of 1 to 5 columns and a signed dual variable."""
    rng = np.random.default_rng([seed, *kind.encode()])
    d = d or int(rng.integers(1, 6))
    n = n or int(rng.integers(2, {1: 30, 2: 24, 3: 14, 4: 10, 5: 8}[d]))
    X = rng.standard_normal((n, d))
    if kind == "integer":
        X = rng.integers(-2, 3, (n, d)).astype(float)
    if kind == "scales":
        X *= 10.0 ** rng.uniform(-2, 2, d)
    if kind == "duplicates":
        X = X[rng.integers(0, max(1, n // 2), n)]
    if seed % 3:
        X[:, -1] = 1.0
    if kind == "dependent" and d > 2:
        X[:, 0] = 2 * X[:, 1] - X[:, -1]
    if kind == "zeros":
        X[rng.random(n) < 0.3] = 0.0
    t = rng.standard_normal(n) if seed % 2 else rng.integers(-2, 3, n).astype(float)
    return X, t - t.mean() if seed % 4 == 0 else t


def price(X, t, U):
    """t^T (X u)_+ / |u| for the columns of U."""
    return t @ np.maximum(X @ U, 0.0) / np.linalg.norm(U, axis=0)


def largest_price(X, t):
    """Over every pattern the length of the projection of X^T D t onto the pattern's cone."""
    values = [0.0]
    for pattern in enumerate_patterns(X).patterns.T:
        rows = np.where(pattern, 1.0, -1.0)[:, None] * X
        lengths = np.linalg.norm(rows, axis=1)
        rows, pull = rows[lengths > 0] / lengths[lengths > 0, None], X.T @ (pattern * t)
        values.append(np.linalg.norm(pull + rows.T @ nnls(rows.T, -pull, maxiter=10_000)[0]) if len(rows) else 0.0)
    return max(values)


def scale(X, t):
    """What rounding and a price of zero are measured by."""
    return np.abs(t) @ np.linalg.norm(X, axis=1)


@pytest.fixture(scope="module")
def hard():
    """Correlated rows with a residual of noise: thousands of cones."""
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.standard_normal((300, 3)) @ rng.standard_normal((3, 3)), np.ones(300)])
    return X, rng.standard_normal(300)


@pytest.fixture(scope="module")
def tree(hard):
    return bound_price(Price(*hard))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_between_the_largest_price_and_the_accuracy(kind, seed):
    X, t = draw_case(seed, kind)
    found, truth = bound_price(Price(X, t), max_time=2.0), largest_price(X, t)
    assert found.bound >= truth * (1 - 1e-12)
    assert found.price <= truth * (1 + 1e-9) + 1e-12 * scale(X, t)
    assert found.bound <= (1 + 1e-3) * truth * (1 + 1e-9) + 1e-6 * scale(X, t)
    assert found.check(Price(X, t)) == pytest.approx(found.bound, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_above_every_price_that_can_be_found(kind):
    X, t = draw_case(5, kind, d=4, n=80)
    rng = np.random.default_rng(0)
    found = bound_price(Price(X, t), accuracy=0.01, max_time=3.0)
    assert price(X, t, rng.standard_normal((4, 5000))).max() <= found.bound
    peaks, _ = search(X, t[:, None], no_peaks(X), 200, 20, 2, rng)
    assert peaks.prices.max(initial=0.0) <= found.bound
    assert price(X, t, found.maximiser[:, None])[0] == pytest.approx(found.price, rel=1e-12)
    assert np.linalg.norm(found.maximiser) == pytest.approx(1.0, rel=1e-12)


def test_columns_of_very_different_length():
    X, t = draw_case(1, "normal", d=3, n=14)
    X *= [1e-4, 1.0, 1e4]
    found, truth = bound_price(Price(X, t), max_time=5.0), largest_price(X, t)
    assert truth <= found.bound <= 1.001 * truth * (1 + 1e-9)


def test_rotations_and_the_order_of_rows_change_nothing(hard):
    X, t = hard
    rng = np.random.default_rng(1)
    turned = X @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    order = rng.permutation(len(t))
    assert bound_price(Price(turned[order], t[order])).bound == pytest.approx(bound_price(Price(X, t)).bound, rel=2e-3)


def test_more_columns_of_the_same_rank_change_nothing(hard, tree):
    X, t = hard
    wide = X @ np.linalg.qr(np.random.default_rng(1).standard_normal((7, 4)))[0].T
    found = bound_price(Price(wide, t))
    assert found.basis.shape == (7, 4)
    assert found.bound == pytest.approx(tree.bound, rel=2e-3)
    assert found.check(Price(wide, t)) == pytest.approx(found.bound, rel=1e-9)


def test_even_prices_and_both_signs():
    # X^T t = 0: the price of u is that of -u.
    rng = np.random.default_rng(2)
    X = rng.standard_normal((8, 3))
    X, t = np.concatenate([X, -X]), np.tile(rng.standard_normal(8), 2)
    for signed in (t, -t):
        truth = largest_price(X, signed)
        assert (
            truth * (1 - 1e-12)
            <= bound_price(Price(X, signed)).bound
            <= 1.001 * truth * (1 + 1e-9) + 1e-6 * scale(X, t)
        )


@pytest.mark.parametrize(
    "X, t, truth",
    [
        (np.zeros((3, 2)), np.ones(3), 0.0),
        (np.ones((3, 2)), np.zeros(3), 0.0),
        (np.zeros((0, 2)), np.zeros(0), 0.0),
        (np.array([[3.0, 4.0]]), np.array([2.0]), 10.0),
        (np.array([[3.0, 4.0]]), np.array([-2.0]), 0.0),
        # Equal rows cancel.
        (np.array([[3.0, 4.0], [3.0, 4.0]]), np.array([2.0, -2.0]), 0.0),
        (np.eye(3), np.array([1.0, 1.0, -1.0]), np.sqrt(2.0)),
    ],
)
def test_simple_cases(X, t, truth):
    found = bound_price(Price(X, t))
    assert truth * (1 - 1e-12) <= found.bound <= 1.001 * truth + 1e-9
    assert found.price == pytest.approx(truth, rel=1e-9)
    assert found.check(Price(X, t)) == pytest.approx(found.bound, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("limit", [0, 1, 20, 300])
def test_a_limit_leaves_a_valid_bound(hard, tree, limit):
    X, t = hard
    short = bound_price(Price(X, t), max_cones=limit)
    assert short.n_cones <= max(2 * limit, 7)
    assert short.bound > tree.price
    assert short.check(Price(X, t)) == pytest.approx(short.bound, rel=1e-9)
    assert bound_price(Price(X, t), max_time=0.0).bound > tree.price


def test_an_interrupt_leaves_a_valid_bound(hard, tree, monkeypatch):
    X, t = hard
    original, calls = branching._Search.bounded, []

    def interrupted(self, boxes):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return original(self, boxes)

    monkeypatch.setattr(branching._Search, "bounded", interrupted)
    short = bound_price(Price(X, t))
    assert tree.price < short.bound
    assert short.check(Price(X, t)) == pytest.approx(short.bound, rel=1e-9)


def test_a_target_ends_the_search(hard, tree):
    X, t = hard
    early = bound_price(Price(X, t), target=1.2 * tree.price)
    assert early.n_cones < tree.n_cones / 2
    assert tree.price <= early.bound <= 1.2 * tree.price


def test_known_vectors_are_used(hard, tree):
    X, t = hard
    best = bound_price(Price(X, t), max_cones=0, known=np.stack([5 * tree.maximiser, np.zeros(4)]))
    assert best.price == pytest.approx(tree.price, rel=1e-9)


def test_a_higher_rank_is_refused():
    with pytest.raises(ValueError, match=r"rank of X is 13.*sums-of-squares"):
        bound_price(Price(np.eye(13), np.ones(13)))


@pytest.mark.parametrize("X, t", [(np.ones(3), np.ones(3)), (np.ones((3, 2)), np.ones(2)), (np.eye(2), [1, np.nan])])
def test_bad_data_is_refused(X, t):
    with pytest.raises(ValueError, match=r"X .* t"):
        bound_price(Price(X, t))


def test_the_bound_for_other_data_is_valid(hard, tree):
    X, t = hard
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 1.0):
        other = t + size * rng.standard_normal(len(t))
        moved = X + size * rng.standard_normal(X.shape)
        for Z, s in ((X, other), (moved, t), (X, -t), (X, 1.01 * t)):
            bound = tree.check(Price(Z, s))
            assert bound != pytest.approx(tree.bound, rel=1e-9)
            assert bound >= bound_price(Price(Z, s), accuracy=0.05).price


@pytest.mark.parametrize("turn", [np.diag([-1.0, 1, 1]), np.eye(3)[[1, 0, 2]], np.eye(3)[[2, 0, 1]]])
def test_boxes_on_another_half_sphere_leave_a_valid_bound(monkeypatch, turn):
    X, t = draw_case(7, "normal", d=3, n=12)
    best, truth, original = bound_price(Price(X, t)), largest_price(X, t), branching._basis
    monkeypatch.setattr(branching, "_basis", lambda price: original(price) @ turn)
    other = bound_price(Price(X, t), max_time=2.0)
    assert other.bound >= truth and other.bound > 1.01 * best.bound
    assert other.check(Price(X, t)) == pytest.approx(other.bound, rel=1e-9)


def test_other_evidence_gives_another_valid_bound(hard, tree):
    X, t = hard
    rng = np.random.default_rng(0)
    mixed = rng.dirichlet(np.ones(tree.weights.shape[1]), len(tree.weights))
    worst = np.linalg.norm(tree.slopes, axis=1).argmax()
    shorter = tree.slopes.copy()
    shorter[worst] *= 0.9
    last = tree.splits.copy()
    last[-1, 1] = (last[-1, 1] + 1) % 4
    for changes in (
        {"slopes": 0.5 * tree.slopes},
        {"slopes": shorter},
        {"slopes": rng.standard_normal(tree.slopes.shape)},
        {"points": tree.points[::-1]},
        {"points": tree.points + 0.1 * rng.standard_normal(tree.points.shape)},
        {"weights": mixed},
        {"basis": tree.basis[:, ::-1]},
        {"splits": last},
    ):
        try:
            bound = replace(tree, **changes).check(Price(X, t))
        except ValueError:
            assert "splits" in changes
            continue
        assert bound >= tree.price
        # The last halving need not be where the bound is attained.
        assert "splits" in changes or bound != pytest.approx(tree.bound, rel=1e-9)


def test_evidence_that_does_not_fit_is_refused(hard, tree):
    X, t = hard
    double, across, late = tree.splits.copy(), tree.splits.copy(), tree.splits.copy()
    double[1, 0], across[0, 1], late[0, 0] = double[0, 0], 4, len(tree.splits)
    root = tree.splits[:, 0] == 0
    own = tree.splits.copy()
    own[root, 1] = 0
    scaled, negative = tree.weights.copy(), tree.weights.copy()
    scaled[3] *= 1.01
    negative[3, :2] += [2.0, -2.0]
    for changes in (
        {"weights": tree.weights[1:], "chosen": tree.chosen[1:], "slopes": tree.slopes[1:]},
        {"splits": tree.splits[:-1]},
        {"splits": double},
        {"splits": across},
        {"splits": late},
        {"splits": own},
        {"splits": tree.splits[:, :1]},
        {"weights": scaled},
        {"weights": negative},
        {"weights": np.full(tree.weights.shape, np.nan)},
        {"chosen": tree.chosen + 1},
        {"chosen": tree.chosen - 1},
        {"slopes": tree.slopes * np.nan},
        {"slopes": tree.slopes[:, :-1]},
        {"points": tree.points[:, :-1]},
        {"basis": 0.9 * tree.basis},
        {"basis": tree.basis[:-1]},
    ):
        with pytest.raises(ValueError):
            replace(tree, **changes).check(Price(X, t))
    with pytest.raises(ValueError):
        tree.check(Price(X, t[:-1]))
