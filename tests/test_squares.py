"""Sums of squares: one-sided polynomials, bounds above the exact maximum, and lower bounds below every network."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from programs import changed, program
from scipy.optimize import nnls

from convexnn import ConvexReLUClassifier, ConvexReLURegressor, enumerate_patterns
from convexnn.losses import LOSSES, Huber
from convexnn.neurons.penalties import GroupLasso
from convexnn.program.design import Design
from convexnn.proofs import squares
from convexnn.proofs.relaxation import Relaxed, bound_prices, quadrature
from convexnn.proofs.squares import Forms, Geometry, Squares, forecast, free_nodes, touching
from convexnn.search.prices import Price

LEVELS = (1, 2, 3, 4)
SMOOTH = [name for name, loss in LOSSES.items() if np.isfinite(loss.lipschitz)]


def make(X, y, alpha=1.0, loss="squared", weights=None, intercept=False, skip=None, n_outputs=1):
    """A problem that lists one pattern: the bounds are about all of them."""
    loss = LOSSES[loss]() if isinstance(loss, str) else loss
    design = Design(X, np.ones((1, len(X)), dtype=bool), [0], [1.0], [0], n_outputs)
    weights = np.ones(len(X)) if weights is None else weights
    return program(design, loss.check_target(y), loss, GroupLasso(), alpha, weights, intercept, skip)


def exact_price(X, t):
    """max of t^T (X u)_+ over |u| <= 1: the longest projection onto a cell, cell by cell."""
    found = 0.0
    for pattern in enumerate_patterns(X).patterns.T:
        sides = np.where(pattern, 1.0, -1.0)[:, None] * X
        found = max(found, nnls(sides.T, -(X.T @ (pattern * t)))[1])
    return found


def draw_case(rng, kind):
    r = int(rng.integers(1, 5))
    n = int(rng.integers(1, 13 - 2 * max(r - 2, 0)))
    X = rng.standard_normal((n, r))
    if kind == "ones":
        X[:, -1] = 1.0
    elif kind == "integers":
        X = rng.integers(-2, 3, (n, r)).astype(float)
    elif kind == "scales":
        X *= 10.0 ** rng.uniform(-2, 2, r)
    elif kind == "duplicates":
        X = X[rng.integers(0, n, n)] * rng.choice([-1.0, 1.0, 2.0], n)[:, None]
    elif kind == "rank":
        X = X[:, :1] @ rng.standard_normal((1, r))
    return X, rng.standard_normal(n) * (rng.random(n) < 0.9)


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_polynomials_lie_on_one_side(level, above):
    nodes = np.random.default_rng(level).uniform(0.05, 1.0, (40, free_nodes(level)[0 if above else 1]))
    tau = np.linspace(0, 1, 1001)
    coefficients, slopes = touching(level, above, nodes)
    error = coefficients @ tau ** np.arange(level + 1)[:, None] - np.sqrt(tau)
    assert np.all((error if above else -error) >= -1e-13 * np.abs(coefficients).sum(axis=1, keepdims=True))
    assert len(slopes) == nodes.shape[1]
    for k, slope in enumerate(slopes):
        step = 1e-6 * np.eye(nodes.shape[1])[k]
        change = (touching(level, above, nodes + step)[0] - touching(level, above, nodes - step)[0]) / 2e-6
        np.testing.assert_allclose(slope, change, rtol=1e-6, atol=1e-6 * np.abs(change).max())


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_quadrature_has_the_least_mean(level, above):
    tau = np.random.default_rng(0).uniform(0.0, 0.9, 50) ** 2
    moments = (tau ** np.arange(level + 1)[:, None]).mean(axis=1)
    best = quadrature(level, above, moments)
    sign = 1 if above else -1
    for scale in (0.9, 0.99, 1.01, 1.1):
        for k in range(len(best)):
            other = best.copy()
            other[k] *= scale
            means = [touching(level, above, nodes[None])[0][0] @ moments for nodes in (best, other)]
            assert sign * means[0] <= sign * means[1]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("r", [1, 2, 4])
def test_forms(r, level):
    rng = np.random.default_rng(r)
    forms = Forms(r, level)
    U, u = rng.standard_normal((5, r)), rng.standard_normal(r)
    C = rng.standard_normal((5, level + 1))
    v = forms.features(u[None])[-1][0]
    assert v @ v == pytest.approx((u @ u) ** level)
    Q = forms.collect((forms.features(U), C))
    value = sum(C[:, j] @ (U @ u) ** (2 * j) * (u @ u) ** (level - j) for j in range(level + 1))
    assert v @ Q @ v == pytest.approx(value)
    A = rng.standard_normal(Q.shape)
    A = A + A.T
    W = forms.vanishing(A)
    assert abs(v @ W @ v) <= 1e-12 * np.linalg.norm(A) * (v @ v)
    np.testing.assert_allclose(forms.vanishing(W), W, atol=1e-12)
    moments = forms.moments(forms.features(U), forms.traces(A))
    assert (C * moments).sum() == pytest.approx((Q * A).sum())


@pytest.mark.parametrize("level", LEVELS)
def test_gradients_of_the_smoothed_price(level):
    rng = np.random.default_rng(level)
    problem = make(rng.standard_normal((8, 3)), rng.standard_normal(8))
    relaxed = Relaxed(problem, level)
    x, theta = relaxed.start(), rng.standard_normal(8)
    # Matrices have to stay among those that vanish.
    x += 0.1 * relaxed.price(theta, x, 0.5, 0.3)[3]
    d = relaxed.price(theta + 0.1, x, 0.5, 0.3)[3]
    d_theta = rng.standard_normal(8)
    _, _, slope_theta, slope_x = relaxed.price(theta, x, 0.5, 0.3)
    ends = [relaxed.price(theta + h * d_theta, x + h * d, 0.5, 0.3)[0] for h in (1e-5, -1e-5)]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope_theta[:, 0] @ d_theta + (slope_x * d).sum(), rel=1e-6)


@pytest.mark.parametrize("kind", ["plain", "ones", "integers", "scales", "duplicates", "rank"])
def test_bounds_lie_above_the_exact_price_and_improve_with_the_level(kind):
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(3):
        X, t = draw_case(rng, kind)
        exact = {sign: exact_price(X, sign * t) for sign in (1, -1)}
        problem = make(X, t, alpha=0.5 * max(*exact.values(), 1e-3))
        before = 1.0
        for level in LEVELS:
            found = bound_prices(problem, t, level=level, optimise=False)
            size = np.linalg.norm(found.theta) / max(np.linalg.norm(t), 1e-300)
            np.testing.assert_allclose(found.theta, size * t)
            for square in found.evidence:
                assert size * exact[square.sign] <= square.bound * (1 + 1e-9)
            assert level == 1 or size >= before * 0.99
            before = size


def test_bounds_of_fixed_evidence_lie_above_random_neurons():
    rng = np.random.default_rng(3)
    X, t = rng.standard_normal((60, 6)), rng.standard_normal(60)
    U = rng.standard_normal((20_000, 6))
    found = (np.maximum(X @ U.T, 0.0).T @ t / np.linalg.norm(U, axis=1)).max()
    for level in LEVELS:
        rows = forecast(60, 6, level)
        high, low = free_nodes(level)
        above, below = rng.uniform(0.2, 1, (61, high)), rng.uniform(0.2, 1, (60, low))
        W = rng.standard_normal((rows, rows)) * rng.choice([0.0, 1.0])
        assert Squares(level, 0, 1, above, below, W, np.eye(6), 0.0).check(Price(X, t)) >= found


def test_one_dimension_is_exact():
    X, t = np.array([[1.0], [-2.0], [3.0]]), np.array([1.0, -1.0, 0.5])
    for level in LEVELS:
        found = bound_prices(make(X, t, alpha=10.0), t, level=level, optimise=False)
        assert [square.bound for square in found.evidence] == pytest.approx([2.5, 2.0], rel=0.02)


def wide_problem(rng, loss, weighted=False, intercept=False, skip=False, n=20, d=2):
    X = np.column_stack([rng.standard_normal((n, d)), np.ones(n)])
    signal = np.abs(X[:, 0]) + X[:, 1] + 0.5 * rng.standard_normal(n)
    target = LOSSES[loss].target
    y = {"real": signal, "signs": np.sign(signal - np.median(signal) + 1e-9)}.get(target)
    y = np.digitize(signal, np.quantile(signal, [0.3, 0.6])) if y is None else y
    weights = rng.uniform(0.5, 2.0, n) if weighted else np.ones(n)
    problem = make(X, y, 1.0, loss, weights, intercept, X[:, :d] if skip else None, 3 if target == "classes" else 1)
    theta = problem.task.null_model[1]
    scale = max(np.linalg.norm(X.T @ np.abs(theta), axis=0).max(), 1e-3) if theta.ndim > 1 else None
    return replace(problem, alpha=0.05 * (scale or np.linalg.norm(X.T @ np.abs(theta))))


def networks(problem, rng, width=12, n_steps=100):
    """Objectives of a network during descent from random weights; gradients by hand."""
    X, alpha, C = problem.design.X, problem.alpha, problem.design.n_outputs
    W, A = rng.standard_normal((width, X.shape[1])), 0.1 * rng.standard_normal((width, C))
    for k in range(n_steps):
        H = np.maximum(X @ W.T, 0.0)
        z = (H @ A).reshape(problem.task.null_model[1].shape)
        c = problem.task.best_intercept(z)
        # With several outputs a neuron counts as one for each that it feeds.
        norms = np.linalg.norm(W, axis=1)
        if k % 50 == 49:
            yield problem.task.loss_value(z + c) + alpha * (norms @ np.abs(A)).sum()
        g = problem.task.gradient(z + c).reshape(len(X), C)
        step = 0.3 / (problem.task.sample_weight.sum() * problem.task.loss.lipschitz)
        d_W = ((g @ A.T) * (H > 0)).T @ X + alpha * np.abs(A).sum(axis=1)[:, None] * W / norms[:, None]
        d_A = H.T @ g + alpha * norms[:, None] * np.sign(A)
        W, A = W - step * d_W, A - step * d_A


@pytest.mark.parametrize("terms", ["none", "weights", "intercept", "skip"])
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.slow
def test_lower_bounds_hold_and_optimising_helps(loss, terms):
    rng = np.random.default_rng(list(f"{loss} {terms}".encode()))
    problem = wide_problem(rng, loss, terms == "weights", terms in ("intercept", "skip"), terms == "skip")
    theta = problem.task.null_model[1]
    scaled = bound_prices(problem, theta, level=2, optimise=False)
    best = bound_prices(problem, theta, level=2)
    assert best.lower_bound >= scaled.lower_bound * (1 - 1e-9)
    assert best.lower_bound <= min(networks(problem, rng))
    for found in (scaled, best):
        assert found.lower_bound == problem.task.dual_value(found.theta)
        assert np.abs(problem.task.free.T @ found.theta).max(initial=0.0) <= 1e-10 * (1 + np.abs(found.theta).sum())
        columns = found.theta.reshape(len(problem.task.y), -1)
        assert len(found.evidence) == 2 * columns.shape[1]
        for square in found.evidence:
            again = square.check(Price(problem.design.X, square.sign * columns[:, square.output]))
            assert again == pytest.approx(square.bound, rel=1e-9) and again <= problem.alpha


@pytest.mark.parametrize("intercept", [True, False])
def test_gaps_of_exact_fits(intercept):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((25, 2))
    y = np.abs(X[:, 0]) - X[:, 1] + 0.1 * rng.standard_normal(25)
    model = ConvexReLURegressor(alpha=1.0, patterns="exact", fit_intercept=intercept).fit(X, y)
    problem = make(np.column_stack([X, np.ones(25)]), y, 1.0, intercept=intercept)
    gaps = []
    for level in LEVELS:
        found = bound_prices(problem, model.certificate_.theta, level=level)
        gaps.append(1 - found.lower_bound / model.certificate_.objective)
    assert min(gaps) >= -1e-9 and gaps[-1] <= 0.02
    assert all(low <= high + 0.003 for low, high in zip(gaps[1:], gaps))


def test_gap_of_an_exact_classifier():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((24, 2))
    labels = np.where(np.abs(X[:, 0]) + 0.3 * rng.standard_normal(24) > 0.7, "b", "a")
    model = ConvexReLUClassifier(alpha=0.5, patterns="exact").fit(X, labels)
    problem = make(np.column_stack([X, np.ones(24)]), (labels == "b") * 1.0, 0.5, "log_loss", intercept=True)
    found = bound_prices(problem, model.certificate_.theta, level=4)
    assert 0.95 * model.certificate_.objective <= found.lower_bound <= model.certificate_.objective * (1 + 1e-9)


def test_starts_far_from_feasible():
    # Where the optimisation ends depends on its start, and on rounding: bounds of one problem spread by up to 5 %.
    ratios = []
    for seed in range(6):
        problem = wide_problem(np.random.default_rng(seed), "squared", n=40, d=4)
        problem = replace(problem, alpha=0.02 * problem.alpha)
        start = problem.task.null_model[1]
        near, far = (bound_prices(problem, size * start).lower_bound for size in (1.0, 0.03))
        ratios.append(far / near)
        sizes = [bound_prices(problem, size * start, optimise=False).theta[0] for size in (1.0, 0.03)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    assert min(ratios) >= 0.93 and np.mean(ratios) >= 0.97


def test_huber_leaves_its_flat_parts():
    rng = np.random.default_rng(7)
    problem = wide_problem(rng, "squared")
    huber = changed(problem, loss=Huber(delta=0.8))
    start = huber.task.null_model[1]
    assert np.mean(np.abs(start) == 0.8) > 0.2
    bounds = [
        bound_prices(huber, theta).lower_bound for theta in (start, 0.01 * start, 0.1 * problem.task.null_model[1])
    ]
    assert min(bounds) >= 0.99 * max(bounds)


@pytest.mark.parametrize("level", LEVELS)
def test_whatever_is_stored_gives_a_valid_bound(level):
    rng = np.random.default_rng(level)
    X, t = rng.standard_normal((10, 3)), rng.standard_normal(10)
    square = bound_prices(make(X, t, 100.0), t, level=level, optimise=False).evidence[0]
    exact = exact_price(X, t)
    for share in (0.01, 0.3):
        for name in ("above", "below", "W", "basis"):
            value = getattr(square, name)
            value = value * (1 + share * rng.uniform(-1, 1, value.shape))
            other = replace(square, **{name: np.clip(value, 1e-3, 1.0) if name in ("above", "below") else value})
            assert exact <= other.check(Price(X, t))
        assert exact <= replace(square, W=rng.standard_normal(square.W.shape)).check(Price(X, t))
        moved = t * (1 + share * rng.uniform(-1, 1, 10))
        assert exact_price(X, moved) <= square.check(Price(X, moved)) != square.bound


def test_check_refuses_what_proves_nothing():
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((10, 3)), rng.standard_normal(10)
    square = bound_prices(make(X, t, 100.0), t, optimise=False).evidence[0]
    for name, value, message in [
        ("above", square.above * 0, r"above must lie in \(0, 1\]"),
        ("below", square.below + 1, r"below must lie in \(0, 1\]"),
        ("above", square.above[1:], r"above must be finite and of shape \(11, 1\)"),
        ("W", square.W * np.nan, r"W must be finite and of shape \(6, 6\)"),
        ("basis", square.basis[:, 1:], "basis must be finite and have 3 columns"),
        ("basis", square.basis[1:], r"W must be finite and of shape \(3, 3\)"),
        ("level", 3, r"above must be finite and of shape \(11, 2\)"),
        ("level", 5, "level must be 1, 2, 3 or 4, got 5"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(square, **{name: value}).check(Price(X, t))
    with pytest.raises(ValueError, match=r"t one entry a sample"):
        Price(X, t[1:])


def test_refusals():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((70, 60)), rng.standard_normal(70)
    with pytest.raises(ValueError, match=r"1,830 rows and .* GiB.*level=1 needs 60"):
        bound_prices(make(X, y), y, level=2)
    with pytest.raises(ValueError, match="Lipschitz gradient, got 'absolute'"):
        bound_prices(make(X, y, loss="absolute"), y)
    with pytest.raises(ValueError, match=r"theta must be finite and of shape \(70,\), got \(69,\)"):
        bound_prices(make(X, y), y[1:], level=1)


def test_any_time_and_callback():
    rng = np.random.default_rng(0)
    problem = wide_problem(rng, "squared", n=60, d=5)
    theta = problem.task.null_model[1]
    calls = []
    full = bound_prices(problem, theta, callback=lambda *call: calls.append(call))
    assert calls == full.history and [b for _, b in calls] == sorted(b for _, b in calls)
    early = bound_prices(problem, theta, max_time=0.0)
    assert np.isfinite(early.lower_bound) and early.lower_bound <= full.lower_bound

    def stop(seconds, bound):
        if len(calls) < 100:
            calls.extend([(0.0, 0.0)] * 100)
            raise KeyboardInterrupt

    assert early.lower_bound <= bound_prices(problem, theta, callback=stop).lower_bound <= full.lower_bound


def test_nothing_to_bound():
    X = np.random.default_rng(0).standard_normal((6, 3))
    for problem in (make(X, np.zeros(6)), make(0 * X, np.ones(6)), make(X, np.ones(6), intercept=True)):
        found = bound_prices(problem, problem.task.null_model[1])
        assert found.lower_bound == pytest.approx(
            problem.task.loss_value(np.zeros(6) + problem.task.null_model[0]), abs=1e-9
        )


def test_memory_is_forecast_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(squares, "MAX_MEMORY", 10_000.0)
    with pytest.raises(ValueError, match=r"level=3 in dimension 4 .* no smaller level fits either"):
        forecast(1000, 4, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Tolerances


@pytest.mark.parametrize("share", [1e-9, 1e-11])
def test_directions_that_are_small_but_no_rounding_are_kept(share):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 2)) * [1.0, share] @ np.linalg.qr(rng.standard_normal((2, 2)))[0]
    assert len(Geometry(X, 1).basis) == 2
    # What is left out is added to bounds: next to nothing.
    t = rng.standard_normal(20)
    assert np.abs(t) @ Geometry(X, 1).lost <= 1e-13 * np.abs(t).sum()


def test_directions_that_are_rounding_are_left_out():
    rng = np.random.default_rng(0)
    for rank in (1, 2, 3):
        X = rng.standard_normal((400, rank)) @ rng.standard_normal((rank, 12))
        assert len(Geometry(X, 1).basis) == rank


def test_bounds_are_rounded_upwards_and_by_no_more_than_rounding():
    """In one dimension a bound is the price itself: max over u = 1 and -1 of sum_i t_i (x_i u)_+, here exactly."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        n = int(rng.integers(1, 30))
        x, t = rng.standard_normal(n), rng.standard_normal(n)
        exact = Fraction(0)
        for u in (1, -1):
            terms = (Fraction(float(b)) * max(u * Fraction(float(a)), Fraction(0)) for a, b in zip(x, t))
            exact = max(exact, sum(terms, Fraction(0)))
        ones = np.ones((n + 1, 1))
        bound = Squares(1, 0, 1, ones, ones[:n, :0], np.zeros((1, 1)), np.ones((1, 1)), 0.0).check(Price(x[:, None], t))
        assert exact <= Fraction(bound)
        assert bound <= float(exact) + 2e-12 * np.abs(t) @ np.abs(x)
