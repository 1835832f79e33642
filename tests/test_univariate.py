"""One feature, free biases and a skip connection: splines, judged by the arrangement program, by textbook trend
filtering in cvxpy and by the optimality conditions."""

import pickle
import warnings
from dataclasses import replace
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import convexnn.estimators.cross_validation
from convexnn import (
    ConvexReLURegressor,
    ReLUSplineRegressor,
    ReLUSplineRegressorCV,
    audit,
    certify,
    spline_path,
)
from convexnn.losses import LOSSES, Huber, Squared
from convexnn.univariate import Line, fit_spline
from convexnn.univariate.estimators import SPLINE_LOSSES
from convexnn.univariate.splines import highest_price

ONE_LOSS = {"squared": Squared(), "huber": Huber(0.3)}


class FirstFeature(ReLUSplineRegressor):
    """For scikit-learn's checks, whose data have several features: the others are checked, and get zero weights."""

    def _checked(self, X, y, **options):
        X, y = super()._checked(X, y, **options)
        return X[:, :1], y

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        rest = self.n_features_in_ - 1
        weights, skip = np.pad(self.network_.hidden_weights, ((0, 0), (0, rest))), self.network_.skip_weights
        self.network_ = replace(self.network_, hidden_weights=weights, skip_weights=np.pad(skip, (0, rest)))
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # one feature of ten
        return tags


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks set max_iter=5
@parametrize_with_checks([FirstFeature(loss=loss) for loss in SPLINE_LOSSES])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([ReLUSplineRegressor(), ReLUSplineRegressorCV(alphas=5)])
def test_scikit_learn_checks_fail_only_for_several_features(estimator, check):
    try:
        check(estimator)
    except (AssertionError, ValueError) as error:
        chain = [error]
        while chain[-1].__cause__ or chain[-1].__context__:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        assert any("X must have exactly one feature" in str(link) for link in chain)


def draw(n=15, seed=0, kind="plain"):
    """x, y and weights: with repeated points, with clusters of points, or neither."""
    rng = np.random.default_rng([seed, n])
    x = rng.uniform(-1, 1, n)
    if kind == "repeated":
        x = np.round(x, 1)
    if kind == "clustered":
        x = np.concatenate([0.3 + 1e-7 * x[: n // 2], x[n // 2 :]])
    y = np.abs(x - 0.2) + 0.4 * rng.standard_normal(n) + 2 * (rng.random(n) < 0.1)
    return x, y, np.where(rng.random(n) < 0.1, 0.0, rng.uniform(0.3, 3, n))


def textbook_trend_filter(x, y, weights, alpha, loss):
    """Values at the distinct points, changes of slope by second divided differences, in cvxpy; the optimal value."""
    points, group = np.unique(x, return_inverse=True)
    z = cp.Variable(len(points))
    turns = [
        (z[j + 1] - z[j]) / (points[j + 1] - points[j]) - (z[j] - z[j - 1]) / (points[j] - points[j - 1])
        for j in range(1, len(points) - 1)
    ]
    r = z[group] - y
    each = 0.5 * cp.square(r) if loss.name == "squared" else 0.5 * cp.huber(r, loss.delta)
    penalty = cp.norm1(cp.hstack(turns)) if turns else 0
    problem = cp.Problem(cp.Minimize(weights @ each + alpha * penalty))
    return problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)


def by_hand(network, x, y, weights, alpha, loss):
    """Loss and weight decay from the weights, one neuron at a time."""
    f = network.output_bias + network.skip_weights[0] * x
    decay = 0.0
    for (w,), b, a in zip(network.hidden_weights, network.hidden_biases, network.output_weights):
        f = f + a * np.maximum(w * x + b, 0)
        decay += (w**2 + a**2) / 2
    r = np.abs(f - y)
    each = r**2 / 2
    if loss.name == "huber":
        each = np.where(r <= loss.delta, each, loss.delta * (r - loss.delta / 2))
    return weights @ each + alpha * decay


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("kind", ["plain", "repeated"])
@pytest.mark.parametrize("loss", SPLINE_LOSSES)
@pytest.mark.slow
def test_equals_the_program_over_all_patterns_and_the_textbook(loss, kind, share):
    # The interior point for Huber: quicker, and Newton may stall where few samples have curvature.
    loss, listing = (
        ONE_LOSS[loss],
        dict(solver="newton", tol=1e-8) if loss == "squared" else dict(solver="cvxpy", tol=1e-5),
    )
    for seed in range(3):
        x, y, weights = draw(seed=seed, kind=kind)
        options = dict(loss=loss, tol=1e-8)
        alpha = share * ReLUSplineRegressor(**options).fit(x[:, None], y, weights).alpha_max_
        model = ReLUSplineRegressor(alpha, **options).fit(x[:, None], y, weights)
        listed = ConvexReLURegressor(
            alpha, loss=loss, hidden_bias="free", skip_connection=True, patterns="exact", certify=False, **listing
        ).fit(x[:, None], y, weights)
        objective = by_hand(model.network_, x, y, weights, alpha, loss)
        assert np.isclose(objective, model.certificate_.objective, rtol=1e-9)
        assert np.isclose(objective, listed.certificate_.objective, rtol=1e-6)
        assert np.isclose(model.alpha_max_, listed.alpha_max_, rtol=1e-6)
        assert np.isclose(objective, textbook_trend_filter(x, y, weights, alpha, loss), rtol=1e-6)
        assert model.certificate_.scope == "global" and model.certificate_.relative_gap <= 1e-8


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_alpha_auto_is_that_of_the_network(loss):
    for seed in range(3):
        x, y, weights = draw(seed=seed, kind="repeated")
        model = ReLUSplineRegressor(loss=loss).fit(x[:, None], y, weights)
        network = ConvexReLURegressor(loss=loss, hidden_bias="free", skip_connection=True, patterns="exact")
        assert np.isclose(model.alpha_, network.fit(x[:, None], y, weights).alpha_, rtol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.01, 1e-4])
@pytest.mark.parametrize("kind", ["plain", "repeated", "clustered"])
@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_optimality_conditions(loss, kind, share):
    """Prices of ramps are at most alpha, and plus or minus alpha at the knots by the sign of the change of slope."""
    loss = ONE_LOSS[loss]
    x, y, weights = draw(150, kind=kind)
    x, y, weights = x[weights > 0], y[weights > 0], weights[weights > 0]
    alpha = share * ReLUSplineRegressor(loss=loss).fit(x[:, None], y, weights).alpha_max_
    model = ReLUSplineRegressor(alpha, loss=loss, tol=1e-9).fit(x[:, None], y, weights)
    points = np.unique(x)
    assert np.isin(model.knots_, points[1:-1]).all() or np.abs(model.knots_[:, None] - points).min(axis=1).max() < 1e-12
    assert len(model.knots_) <= len(points) - 2 and np.all(np.diff(model.knots_) > 0)
    assert np.all(model.slope_changes_ != 0)
    theta = -weights * loss.gradient(y, model.predict(x[:, None]))
    size = np.abs(theta).sum()
    assert abs(theta.sum()) <= 1e-7 * size and abs(theta @ x) <= 1e-7 * size
    prices = np.array([theta @ np.maximum(x - knot, 0) for knot in points])
    assert np.abs(prices).max() <= alpha * (1 + 1e-5) + 1e-9 * size
    at = np.array([theta @ np.maximum(x - knot, 0) for knot in model.knots_])
    assert np.allclose(at, alpha * np.sign(model.slope_changes_), rtol=1e-5, atol=1e-9 * size)


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_gradient_descent_on_the_network_never_beats_it(loss):
    x, y, weights = draw(12, seed=4)
    loss = ONE_LOSS[loss]
    alpha = 0.05
    model = ReLUSplineRegressor(alpha, loss=loss).fit(x[:, None], y, weights)
    rng = np.random.default_rng(0)
    width, best = 8, np.inf

    def objective(p):
        w, b, a = p[: 3 * width].reshape(3, width)
        before = np.outer(x, w) + b
        r = loss.gradient(y, (hidden := np.maximum(before, 0)) @ a + p[-2] * x + p[-1]) * weights
        value = weights @ loss.value(y, hidden @ a + p[-2] * x + p[-1]) + alpha / 2 * (w @ w + a @ a)
        open_ = (before > 0) * np.outer(r, a)
        parts = [x @ open_ + alpha * w, open_.sum(axis=0), r @ hidden + alpha * a, [r @ x, r.sum()]]
        return value, np.concatenate(parts)

    for _ in range(100):
        found = minimize(objective, rng.standard_normal(3 * width + 2), jac=True, method="L-BFGS-B")
        best = min(best, found.fun)
        assert found.fun >= model.certificate_.lower_bound * (1 - 1e-9)
    assert best <= model.certificate_.objective * 1.02


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_the_certificate_can_be_verified(loss):
    x, y, weights = draw(40, kind="repeated")
    model = ReLUSplineRegressor(0.05, loss=loss).fit(x[:, None], y, weights)
    certificate = model.certificate_
    assert np.isclose(certificate.verify(x[:, None], y, weights), certificate.lower_bound)
    with pytest.raises(ValueError, match="recomputed"):
        certificate.verify(x[:, None], y + 0.1 * x**2, weights)
    other = certify(model.network_, x[:, None], y, alpha=0.05, loss=loss, sample_weight=weights, hidden_bias="free")
    assert other.scope == "global" and np.isclose(other.objective, certificate.objective)
    assert other.lower_bound <= certificate.objective * (1 + 1e-9)


def test_the_price_of_ramps_is_that_of_all_neurons():
    """max over (w, b), |w| <= 1, of sum_i t_i (w x_i + b)_+ on a fine grid of kinks, beyond the data too."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.uniform(-1, 1, 9)
        t = rng.standard_normal(9)
        free = np.column_stack([np.ones(9), x])
        t -= free @ np.linalg.lstsq(free, t)[0]
        kinks = np.linspace(-1.5, 1.5, 4001)
        grid = max((np.maximum(sign * (x[:, None] - kinks), 0).T @ t).max() for sign in (1, -1))
        order = np.argsort(x)
        price = highest_price(x[order], t[order])
        assert grid - 1e-12 <= price <= grid * 1.01 + 1e-12


def test_repeated_points_are_weights():
    x, y, _ = draw(30)
    times = np.random.default_rng(1).integers(1, 4, 30)
    weighted = ReLUSplineRegressor(0.1, tol=1e-12).fit(x[:, None], y, times)
    repeated = ReLUSplineRegressor(0.1, tol=1e-12).fit(np.repeat(x, times)[:, None], np.repeat(y, times))
    assert np.allclose(weighted.knots_, repeated.knots_)
    assert np.isclose(weighted.certificate_.objective, repeated.certificate_.objective, rtol=1e-10)


@pytest.mark.parametrize("scale, shift", [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e4)])
def test_units_of_x(scale, shift):
    x, y, _ = draw(60)
    here = ReLUSplineRegressor(0.05).fit(x[:, None], y)
    there = ReLUSplineRegressor(0.05 * scale).fit(shift + scale * x[:, None], y)
    assert np.isclose(here.certificate_.objective, there.certificate_.objective, rtol=1e-7)
    assert np.allclose(here.predict(x[:, None]), there.predict(shift + scale * x[:, None]), atol=1e-6)


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points(n, loss):
    x, y = np.arange(n) ** 2.0, np.array([1.0, 3.0, 0.0])[:n]
    model = ReLUSplineRegressor(0.01, loss=loss).fit(x[:, None], y)
    assert len(model.knots_) == (n == 3)
    if n < 3:
        assert np.allclose(model.predict(x[:, None]), y)
    equal = ReLUSplineRegressor(0.01, loss=loss).fit(np.zeros((n, 1)), y)
    assert len(equal.knots_) == 0 and equal.network_.skip_weights == [0]


@pytest.mark.parametrize("y", [lambda x: 0 * x, lambda x: 0 * x + 7, lambda x: 3 * x - 1])
def test_a_line_needs_no_knot(y):
    x = draw(30)[0]
    model = ReLUSplineRegressor().fit(x[:, None], y(x))
    assert model.network_.n_neurons == 0 and np.allclose(model.predict(x[:, None]), y(x))
    assert model.result_.status == "optimal"


def test_alpha_max():
    x, y, weights = draw(50)
    alpha_max = ReLUSplineRegressor().fit(x[:, None], y, weights).alpha_max_
    assert len(ReLUSplineRegressor(alpha_max * 1.0001, tol=1e-12).fit(x[:, None], y, weights).knots_) == 0
    assert len(ReLUSplineRegressor(alpha_max * 0.999, tol=1e-12).fit(x[:, None], y, weights).knots_) > 0


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
@pytest.mark.parametrize("seed", range(4))
def test_tight_gaps_on_awkward_points(loss, seed):
    """Heavy tails, clusters, huge ratios of weights, repeated points: gaps of 1e-8 all the same."""
    rng = np.random.default_rng(seed)
    x = [rng.standard_cauchy(400), 1e-8 * rng.integers(0, 90, 400), rng.integers(0, 50, 400), rng.standard_normal(400)]
    x = np.concatenate([x[seed], x[seed - 1][:100]])
    y = np.sin(x / np.median(np.abs(x))) + 0.3 * rng.standard_normal(500)
    weights = 10.0 ** rng.uniform(-3, 3, 500)
    line = Line(*(part[np.argsort(x, kind="stable")] for part in (x, y, weights)), ONE_LOSS[loss])
    alpha_max = np.abs(line.prices(fit_spline(line, 1e300).theta)).max()
    for share in (0.3, 1e-2, 1e-4):
        spline = fit_spline(line, share * alpha_max, tol=1e-8)
        assert spline.status == "optimal" and spline.relative_gap <= 1e-8


@pytest.mark.parametrize("loss", [Squared(), Huber(0.5), Huber(0.003)])
@pytest.mark.parametrize(
    "curve", [lambda u: np.sin(10 * u), lambda u: np.abs(u - 0.5), lambda u: 1.0 * (u > 0.5), lambda u: np.round(3 * u)]
)
def test_tight_gaps_without_noise(curve, loss):
    """Symmetric and flat pieces, where knots come in ties and Huber's loss has little curvature."""
    for n in (5, 37, 400, 887):
        x = np.arange(n) * 1e4
        line = Line(x, curve(np.linspace(0, 1, n)), np.ones(n), loss)
        theta = fit_spline(line, 1e300).theta
        for share in (0.3, 1e-2, 1e-4):
            spline = fit_spline(line, share * np.abs(line.prices(theta)).max(), tol=1e-8)
            assert spline.status == "optimal" and np.all(np.diff([h["objective"] for h in spline.history]) < 1e-9)


def test_no_neuron_where_a_line_is_the_best_function():
    """Repeated points whose means lie on a line: any alpha will do, however small."""
    x = np.repeat([0.0, 1.0, 2.0, 3.0], 2)
    y = 3 * x + np.tile([-1.0, 1.0], 4)
    model = ReLUSplineRegressor(1e-3).fit(x[:, None], y)
    assert model.alpha_max_ == 0 and len(model.knots_) == 0
    assert spline_path(x[:, None], y, alphas=3).n_neurons.tolist() == [0, 0, 0]


def test_interpolation_is_the_limit_of_small_alpha():
    """As alpha falls the spline of least total variation of the slope among those through all points (a linear
    program over values is not needed: the interpolant with knots at the points is it)."""
    x, y, _ = draw(12)
    model = ReLUSplineRegressor(1e-9).fit(x[:, None], y)
    order = np.argsort(x)
    slopes = np.diff(y[order]) / np.diff(x[order])
    assert np.allclose(model.predict(x[:, None]), y, atol=1e-5)
    # No network through the points has less: the least sum of |a| over ramps at a fine grid, by a linear program.
    kinks = np.unique(np.concatenate([x, np.linspace(-1.2, 1.2, 60)]))
    ramps = np.maximum(x[:, None] - kinks, 0)
    A = np.column_stack([ramps, -ramps, np.ones_like(x), -np.ones_like(x), x, -x])
    cost = np.concatenate([np.ones(2 * len(kinks)), np.zeros(4)])
    least = linprog(cost, A_eq=A, b_eq=y).fun
    assert np.isclose(np.abs(model.slope_changes_).sum(), least, rtol=1e-5)
    assert least <= np.abs(np.diff(slopes)).sum() * (1 + 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Units, offsets, rounding: bounds that hold for the data as given


def exactly(x, y, weights, alpha, loss, line, knots, jumps):
    """The objective of constant + slope (x - x_0) + sum_j jump_j (x - knot_j)_+ in rational arithmetic."""
    total = Fraction(float(alpha)) * sum(abs(jump) for jump in jumps)
    for at, target, weight in zip(*(map(Fraction, map(float, part)) for part in (x, y, weights))):
        ramps = (jump * (at - knot) for knot, jump in zip(knots, jumps) if at > knot)
        r = abs(target - line[0] - line[1] * (at - Fraction(float(x[0]))) - sum(ramps, Fraction(0)))
        delta = r if loss.name == "squared" else Fraction(loss.delta)
        total += weight * min(r, delta) * (r - min(r, delta) / 2)
    return total


def best_found(x, y, weights, alpha, loss):
    """The exact objective of a spline that an interior point finds in its own units, or of a line, if that is lower."""
    span, shift = max(float(np.ptp(x)), 1e-300), y[len(y) // 2]
    u = np.array([float((Fraction(float(at)) - Fraction(float(x[0]))) / Fraction(span)) for at in x])
    knots = np.unique(u)
    knots = knots[np.diff(knots, append=np.inf) > 1e-9][1:-1]
    H = np.column_stack([np.ones_like(u), u, *np.maximum(u - knots[:, None], 0)])
    root = np.sqrt(weights / weights.max())
    line = np.linalg.lstsq(root[:, None] * H[:, :2], root * (y - shift))[0]
    rest = y - shift - H[:, :2] @ line
    size = float(np.abs(rest).max()) or 1.0
    c = cp.Variable(H.shape[1])
    r, price = (
        H @ c - rest / size,
        Fraction(float(alpha)) / (Fraction(span) * Fraction(size)) / Fraction(float(weights.max())),
    )
    each = 0.5 * cp.square(r) if loss.name == "squared" else 0.5 * cp.huber(r, loss.delta / size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            objective = root**2 @ each + float(min(price, Fraction(10**6))) * cp.norm1(c[2:])
            cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL)
    except cp.SolverError:
        pass
    found = np.zeros(H.shape[1]) if c.value is None else c.value
    unit, at = Fraction(size), [Fraction(float(x[np.flatnonzero(u == knot)[0]])) for knot in knots]
    values = []
    for more in (found, np.zeros_like(found)):
        more = [Fraction(float(part)) * unit for part in more]
        start = Fraction(float(shift)) + Fraction(float(line[0])) + more[0]
        slope = (Fraction(float(line[1])) + more[1]) / Fraction(span)
        jumps = [jump / Fraction(span) for jump in more[2:]]
        values.append(exactly(x, y, weights, alpha, loss, (start, slope), at, jumps))
    return min(values)


def hard_data(seed):
    """A few samples with repeated, nearly repeated or scattered points, offsets, slopes and units of any size."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 13)), np.arange(12)
    x = rng.standard_normal(n)
    twice = np.where(rng.random(12) < 0.5, 0.1 * (k // 2), np.cumsum(np.full(12, 0.1))[k // 2] - 0.1)[:n]
    cluster = np.where(rng.random(n) < 0.5, x, 0.3 + 10.0 ** rng.uniform(-16, -6) * x)
    x = (x, x, np.round(x), twice, cluster, rng.standard_cauchy(n))[rng.integers(6)]
    y = np.sin(3 * x) + rng.choice([0, 0.1, 1]) * rng.standard_normal(n)
    steep = y + 10.0 ** rng.uniform(0, 9) * x
    y = (y, y, np.abs(x), np.where(rng.random(n) < 0.5, 0.1 + 0.2, 0.3), 3 * x - 1, steep)[rng.integers(6)]
    x, y = (part + rng.choice([0, 0, 1, -1]) * 10.0 ** rng.uniform(0, 12) for part in (x, y))
    x_unit, y_unit = (10.0 ** rng.choice([0, 0, rng.uniform(-100, 100)]) for _ in range(2))
    weights = 10.0 ** (rng.choice([0, 1]) * rng.uniform(-3, 3, n))
    loss = Squared() if rng.random() < 0.5 else Huber(float(y_unit * 10.0 ** rng.uniform(-2, 1)))
    return x_unit * x, y_unit * y, weights, loss, 10.0 ** rng.uniform(-6, 0.3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("begin", range(0, 120, 20))
@pytest.mark.slow
def test_no_bound_is_above_an_objective(begin):
    for seed in range(begin, begin + 20):
        x, y, weights, loss, share = hard_data(seed)
        alpha = "auto"
        for _ in range(2):
            model = ReLUSplineRegressor(alpha, loss=loss).fit(x[:, None], y, weights)
            certificate, status = model.certificate_, model.result_.status
            bound = Fraction(certificate.lower_bound)
            assert bound <= best_found(x, y, weights, model.alpha_, loss) * (1 + Fraction(1, 10**12)), seed
            if status == "optimal" and model.result_.message != "y is a line but for rounding":
                assert certificate.relative_gap <= model.tol * (1 + 1e-6), seed
            alpha = share * (model.alpha_max_ or model.alpha_)


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
@pytest.mark.parametrize("unit", [1e-100, 1e-30, 1e30, 1e100])
def test_units_change_nothing(loss, unit):
    x, y, weights = draw(60, seed=3, kind="repeated")
    here = ReLUSplineRegressor(0.05, loss=ONE_LOSS[loss]).fit(x[:, None], y, weights)
    wide = ReLUSplineRegressor(0.05 * unit, loss=ONE_LOSS[loss]).fit(unit * x[:, None], y, weights)
    high = replace(ONE_LOSS[loss], delta=unit * 0.3) if loss == "huber" else loss
    tall = ReLUSplineRegressor(0.05 * unit, loss=high).fit(x[:, None], unit * y, weights)
    for there, x_unit, y_unit in ((wide, unit, 1.0), (tall, 1.0, unit)):
        assert there.result_.status == "optimal" and there.certificate_.relative_gap <= 1e-6
        np.testing.assert_allclose(there.knots_, x_unit * here.knots_, rtol=1e-9)
        np.testing.assert_allclose(there.slope_changes_, y_unit / x_unit * here.slope_changes_, rtol=1e-6)
        np.testing.assert_allclose(there.predict(x_unit * x[:, None]), y_unit * here.predict(x[:, None]), rtol=1e-6)
        assert np.isclose(there.alpha_max_, x_unit * y_unit * here.alpha_max_, rtol=1e-9)
    auto = ReLUSplineRegressor(loss=ONE_LOSS[loss]).fit(x[:, None], y).alpha_
    assert np.isclose(ReLUSplineRegressor(loss=high).fit(x[:, None], unit * y).alpha_, unit * auto, rtol=1e-9)


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
@pytest.mark.parametrize("x_offset, y_offset", [(0.0, 1e12), (1e6, 0.0), (-1e6, -1e12)])
def test_offsets(loss, x_offset, y_offset):
    """Of data on a grid that the offset does not spoil."""
    x, y, weights = (np.round(part * 4096) / 4096 for part in draw(60, kind="repeated"))
    here = ReLUSplineRegressor(0.05, loss=ONE_LOSS[loss]).fit(x[:, None], y, weights)
    there = ReLUSplineRegressor(0.05, loss=ONE_LOSS[loss]).fit(x[:, None] + x_offset, y + y_offset, weights)
    for model in (here, there):
        assert model.result_.status == "optimal" and 0 <= model.certificate_.relative_gap <= 1e-6
        assert np.isclose(model.result_.primal, here.result_.primal, rtol=1e-6)
    np.testing.assert_allclose(there.knots_, here.knots_ + x_offset, rtol=1e-15)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_far_from_zero_networks_round_and_say_so():
    x, y, _ = draw(60)
    X, messages = np.round(x[:, None] * 4096) / 4096 + 1e12, set()
    for alpha in np.geomspace(1e-5, 1e-2, 12):
        model = ReLUSplineRegressor(alpha).fit(X, y)
        assert model.result_.relative_gap <= 1e-6
        assert (model.result_.status == "optimal") == (model.certificate_.relative_gap <= 1e-6)
        messages.add(model.result_.message)
    assert any("subtract their means" in message for message in messages)


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_points_that_differ_by_rounding_are_one(loss):
    k = np.arange(60)
    x = np.where(k % 2, 0.1 * (k // 2), np.cumsum(np.full(60, 0.1))[k // 2] - 0.1)
    assert len(np.unique(x)) > 40 > len(Line(np.sort(x), x, x, Squared()).points)
    y = np.sin(x) + np.random.default_rng(0).standard_normal(60)
    for alpha in (1e-2, 0.1, 1.0):
        model = ReLUSplineRegressor(alpha, loss=loss).fit(x[:, None], y)
        assert model.result_.status == "optimal" and model.certificate_.relative_gap <= 1e-6
        merged = ReLUSplineRegressor(alpha, loss=loss).fit(0.1 * (k // 2)[:, None], y)
        assert np.isclose(model.certificate_.objective, merged.certificate_.objective, rtol=1e-9)


@pytest.mark.parametrize(
    "y", [np.where(np.arange(30) % 3, 0.1 + 0.2, 0.3), 1e12 + 1e-5 * np.arange(30), 0.1 * np.arange(30) + 0.7]
)
def test_y_on_a_line_but_for_rounding_needs_no_knot(y):
    X = 0.1 * np.arange(30)[:, None]
    for alpha in ("auto", 1e-12):
        model = ReLUSplineRegressor(alpha).fit(X, y)
        assert model.network_.n_neurons == 0 and model.result_.status == "optimal" and model.alpha_max_ == 0
        assert model.result_.message == "y is a line but for rounding"
        np.testing.assert_allclose(model.predict(X), y, rtol=1e-15)
    ones = ReLUSplineRegressor().fit(np.ones_like(X), y)
    assert ones.network_.n_neurons == 0 and ones.result_.status == "optimal"


@pytest.mark.parametrize("factor, words", [(1e160, "so large"), (1e200, "so large"), (1e-160, "so small")])
def test_squares_beyond_the_range_of_numbers_are_refused(factor, words):
    x, y, _ = draw(30)
    for fit in (ReLUSplineRegressor().fit, ReLUSplineRegressorCV().fit, spline_path):
        with pytest.raises(ValueError, match=f"y must not be {words}.*divide y"):
            fit(x[:, None], factor * y)
    with pytest.raises(ValueError, match="X must have a finite range"):
        ReLUSplineRegressor().fit(np.array([[-1.5e308], [1.5e308], [0.0]]), [0.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="alpha must be larger"):
        ReLUSplineRegressor(1e-310).fit(x[:, None], y)


def test_prices_are_rounded_upwards_and_nan_is_no_price():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 1, 4000))
    for t in (rng.standard_normal(4000), 1e16 * (-1.0) ** np.arange(4000) + rng.standard_normal(4000)):
        exact = [Fraction(0)]
        after = Fraction(0)
        for step, part in zip(np.diff(x)[::-1], t[:0:-1]):
            after += Fraction(float(part))
            exact.append(exact[-1] + after * Fraction(float(step)))
        highest = max(exact[1:-1])
        assert highest <= Fraction(highest_price(x, t))
    assert highest_price(x, rng.standard_normal(4000) * 0 + 0) == 0
    assert np.isnan(highest_price(x, np.where(x > 0.5, np.nan, 1.0)))
    line = Line(x, x, np.ones(4000), Squared())
    assert not line.dual_bound(np.full(4000, np.nan), 1.0)[0] >= 0


# ---------------------------------------------------------------------------------------------------------------------
# Paths, cross-validation and the rest of the house


@pytest.mark.parametrize("loss", SPLINE_LOSSES)
def test_a_path_equals_single_fits(loss):
    x, y, weights = draw(80)
    path = spline_path(x[:, None], y, alphas=8, eps=1e-4, loss=loss, sample_weight=weights, tol=1e-9)
    for alpha, certificate, network in zip(path.alphas, path.certificates, path.networks):
        single = ReLUSplineRegressor(alpha, loss=loss, tol=1e-9).fit(x[:, None], y, weights)
        assert np.isclose(certificate.objective, single.certificate_.objective, rtol=1e-8)
        assert np.isclose(by_hand(network, x, y, weights, alpha, LOSSES[loss]()), certificate.objective, rtol=1e-9)
    assert path.n_neurons[0] == 0 and path.relative_gaps.max() <= 1e-9
    assert np.isclose(path.alpha_max, path.alphas[0]) and len(path.to_frame()) == 8


def test_cross_validation_equals_a_grid_search():
    """One fold at a time, alphas times the fold's share of the samples."""
    x, y, _ = draw(60)
    cv = KFold(3, shuffle=True, random_state=0)
    alphas = np.geomspace(1, 1e-3, 6)
    chosen = ReLUSplineRegressorCV(alphas, cv=cv, tol=1e-6).fit(x[:, None], y)
    grid = GridSearchCV(ReLUSplineRegressor(), {"alpha": alphas * 2 / 3}, cv=cv, scoring="neg_mean_squared_error").fit(
        x[:, None], y
    )
    assert np.allclose(2 * chosen.cv_results_["mean_test_score"], grid.cv_results_["mean_test_score"], rtol=0.1)
    assert np.isclose(chosen.alpha_, grid.best_params_["alpha"] * 1.5)
    single = ReLUSplineRegressor(chosen.alpha_).fit(x[:, None], y)
    assert np.isclose(single.certificate_.objective, chosen.certificate_.objective, rtol=1e-6)
    assert len(chosen.path_.alphas) == chosen.best_index_ + 1 and np.array_equal(chosen.knots_, single.knots_)


def test_cross_validation_out_of_time():
    x, y, _ = draw(60)
    with pytest.warns(ConvergenceWarning):
        model = ReLUSplineRegressorCV(max_time=0.0).fit(x[:, None], y)
    assert np.isfinite(model.predict(x[:, None])).all()


def test_predictions_need_one_feature():
    x, y, _ = draw(20)
    X = np.column_stack([x, x])
    with pytest.raises(ValueError, match="X must have exactly one feature, got 2"):
        ReLUSplineRegressor().fit(X, y)
    with pytest.raises(ValueError, match="exactly one feature"):
        ReLUSplineRegressorCV().fit(X, y)
    with pytest.raises(ValueError, match="exactly one feature"):
        spline_path(X, y)
    with pytest.raises(ValueError, match="features"):
        ReLUSplineRegressor().fit(X[:, :1], y).predict(X)


@pytest.mark.parametrize("loss", ["absolute", "log_loss", Squared, None, "hinge"])
def test_other_losses_are_refused(loss):
    x, y, _ = draw(20)
    with pytest.raises(ValueError, match="loss must be one of"):
        ReLUSplineRegressor(loss=loss).fit(x[:, None], y)


@pytest.mark.parametrize("options", [dict(alpha=0), dict(tol=-1), dict(max_iter=0), dict(max_time="x")])
def test_bad_parameters(options):
    x, y, _ = draw(20)
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ReLUSplineRegressor(**options).fit(x[:, None], y)


def test_limits_are_reported():
    x, y, _ = draw(200)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model = ReLUSplineRegressor(1e-4, max_iter=1).fit(x[:, None], y)
    assert model.result_.status == "max_iter" and model.certificate_.relative_gap > 1e-6
    assert model.certificate_.lower_bound <= ReLUSplineRegressor(1e-4).fit(x[:, None], y).certificate_.objective
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        ReLUSplineRegressor(1e-4, max_time=0.0).fit(x[:, None], y)


def test_an_interrupt_keeps_the_best(monkeypatch):
    x, y, _ = draw(200)
    line = Line(np.sort(x), y[np.argsort(x)], np.ones(200), Squared())

    def interrupt(entry):
        if entry["iteration"] > 3:
            raise KeyboardInterrupt

    spline = fit_spline(line, 1e-4, callback=interrupt)
    assert spline.status == "interrupted" and np.isfinite(spline.primal)


def test_the_rest_of_the_house(tmp_path):
    x, y, _ = draw(60)
    X = x[:, None]
    model = ReLUSplineRegressor(0.05).fit(X, y)
    assert np.allclose(model.to_sklearn().predict(X), model.predict(X))
    report = audit(model, X, y, alpha=0.05, hidden_bias="free")
    assert np.isclose(report.objective, model.certificate_.objective, rtol=1e-9)
    assert report.polished_objective >= model.certificate_.lower_bound * (1 - 1e-9)
    assert model.summary(X).count("x0 >") == min(len(model.knots_), 10)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    assert clone(ReLUSplineRegressorCV(7, loss=Huber(0.3))).get_params()["alphas"] == 7
    assert len(cross_val_score(ReLUSplineRegressor(), X, y)) == 5
    model.network_.save(tmp_path / "m.npz")
    assert np.array_equal(convexnn.network.Network.load(tmp_path / "m.npz").predict(X), model.predict(X))
    single = ReLUSplineRegressor(0.05).fit(X.astype(np.float32), y)
    assert single.predict(X.astype(np.float32)).dtype == np.float32
