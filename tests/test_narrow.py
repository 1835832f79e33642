"""Narrow networks of one feature: dictionaries judged by searches over biases, fits by local descent on the networks'
own objective, by all step patterns of tiny data, and by the textbook lasso."""

from itertools import combinations_with_replacement, product

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize

from convexnn.univariate import NarrowNetwork, ReLUSplineRegressor, fit_narrow, narrow_dictionary
from convexnn.univariate.narrow import LAYERS, STEPS

KINDS = [(name, n_layers) for name, layers in LAYERS.items() for n_layers in layers]
SMOOTH = [(name, n_layers) for name, n_layers in KINDS if name not in STEPS]
SLOPE = 0.1
FUNCTIONS = {
    "relu": (lambda z: z * (z > 0), lambda z: 1.0 * (z > 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, SLOPE * z), lambda z: np.where(z > 0, 1.0, SLOPE)),
    "abs": (np.abs, np.sign),
    "threshold": (lambda z: 1.0 * (z >= 0), None),
    "sign": (lambda z: np.where(z >= 0, 1.0, -1.0), None),
}


def draw(n=7, seed=0):
    rng = np.random.default_rng([seed, n])
    x = rng.uniform(-1, 1, n)
    return x, np.sin(5 * x) + 0.3 * rng.standard_normal(n), rng.uniform(0.5, 2, n)


def chain(x, weights, biases, name):
    """One chain, layer by layer."""
    h = x
    for w, b in zip(weights, biases):
        h = FUNCTIONS[name][0](w * h + b)
    return h


def by_hand(network, x, y, alpha, weights):
    """Loss and penalty, one chain at a time."""
    f, penalty, L = network.output_bias, 0.0, network.n_layers
    for k, a in enumerate(network.output_weights):
        s = 1.0 if network.amplitudes is None else network.amplitudes[k]
        f = f + a * s * chain(x, network.hidden_weights[k], network.hidden_biases[k], network.activation)
        paid = [*network.hidden_weights[k], a] if network.amplitudes is None else [s, a]
        penalty += sum(abs(w) ** L for w in paid) / L
    return weights @ (y - f) ** 2 / 2 + alpha * penalty


@pytest.mark.parametrize("name, n_layers", KINDS)
def test_no_chain_has_a_higher_price_than_the_dictionary(name, n_layers):
    """Random biases, and perturbations of the best at smaller and smaller scales, for all signs of the weights."""
    rng = np.random.default_rng(0)
    for n in (3, 5):
        x, t = rng.uniform(-1, 1, n), rng.standard_normal(n)
        t -= t.mean()
        dictionary = narrow_dictionary(x, name, n_layers, slope=SLOPE)
        price, found = np.abs(dictionary.hidden(x).T @ t).max(), 0.0
        for signs in product((1.0, -1.0), repeat=n_layers - 1):
            biases = rng.uniform(-3, 3, (20_000, n_layers - 1))
            for scale in (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5):
                h = np.array([chain(point, signs, biases.T, name) * np.ones(len(biases)) for point in x])
                prices = np.abs(t @ h)
                best = np.argsort(-prices)[:100]
                found = max(found, prices[best[0]])
                near = [biases[best] + scale * rng.standard_normal((100, n_layers - 1)) for _ in range(30)]
                biases = np.concatenate([biases[best], *near])
        assert found <= price * (1 + 1e-9)
        assert found >= price * 0.97


@pytest.mark.parametrize("name, n_layers", KINDS)
def test_the_lasso_equals_the_network(name, n_layers):
    """The textbook lasso over the dictionary, and the rebuilt network's own objective."""
    for seed, alpha in ((0, 0.3), (1, 0.05), (2, 0.005)):
        x, y, weights = draw(seed=seed)
        x = np.append(x, x[0])
        y, weights = np.append(y, y[0] + 1), np.append(weights, 1.0)
        fit = fit_narrow(x, y, alpha, name, n_layers, slope=SLOPE, sample_weight=weights)
        features = narrow_dictionary(x, name, n_layers, slope=SLOPE)
        A = np.column_stack([chain(x, *pair, name) for pair in zip(features.hidden_weights, features.hidden_biases)])
        c, coef = cp.Variable(), cp.Variable(A.shape[1])
        loss = 0.5 * cp.sum(cp.multiply(weights, cp.square(y - A @ coef - c)))
        textbook = cp.Problem(cp.Minimize(loss + alpha * cp.norm1(coef)))
        textbook.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10)
        objective = by_hand(fit.network, x, y, alpha, weights)
        assert np.isclose(objective, textbook.value, rtol=1e-6)
        assert np.isclose(objective, fit.objective, rtol=1e-9)
        assert np.isclose(objective, fit.network.objective(x, y, alpha, weights), rtol=1e-9)
        assert fit.objective >= fit.lower_bound - 1e-12 and fit.relative_gap <= 1e-8
        assert len(fit.network.output_weights) <= len(x) - 1
        assert abs(fit.theta.sum()) <= 1e-9 and np.abs(A.T @ fit.theta).max() <= alpha * (1 + 1e-9)


def descend(name, n_layers, x, y, alpha, weights, start):
    """L-BFGS on the network's own objective from (w, b, a, c); the value."""
    sigma, derivative = FUNCTIONS[name]
    L = n_layers
    width = (len(start) - 1) // (2 * L - 1)
    size = width * (L - 1)

    def objective(p):
        w, b, a = p[:size].reshape(-1, width), p[size : 2 * size].reshape(-1, width), p[2 * size : -1]
        hs, zs = [x[:, None]], []
        for layer in range(L - 1):
            zs.append(hs[-1] * w[layer] + b[layer])
            hs.append(sigma(zs[-1]))
        r = hs[-1] @ a + p[-1] - y
        value = 0.5 * weights @ r**2 + alpha / L * (np.sum(np.abs(w) ** L) + np.sum(np.abs(a) ** L))
        back = np.outer(weights * r, a)
        dw, db = np.zeros_like(w), np.zeros_like(b)
        for layer in range(L - 2, -1, -1):
            back = back * derivative(zs[layer])
            dw[layer], db[layer] = np.sum(back * hs[layer], axis=0), back.sum(axis=0)
            back = back * w[layer]
        dw += alpha * np.abs(w) ** (L - 1) * np.sign(w)
        da = (weights * r) @ hs[-1] + alpha * np.abs(a) ** (L - 1) * np.sign(a)
        return value, np.concatenate([dw.ravel(), db.ravel(), da, [weights @ r]])

    return minimize(objective, start, jac=True, method="L-BFGS-B", options=dict(maxiter=300)).fun


@pytest.mark.parametrize("name, n_layers", SMOOTH)
@pytest.mark.slow
def test_gradient_descent_on_the_network_never_beats_it(name, n_layers):
    """100 runs of several widths from random starts, and 30 from around the network, which come back to it."""
    x, y, weights = draw(6, seed=3)
    alpha, rng = 0.05, np.random.default_rng(0)
    fit = fit_narrow(x, y, alpha, name, n_layers, slope=SLOPE, sample_weight=weights)
    data = (name, n_layers, x, y, alpha, weights)
    starts = [rng.standard_normal((2 + run % 9) * (2 * n_layers - 1) + 1) for run in range(100)]
    found = [descend(*data, start) for start in starts]
    assert min(found) >= fit.objective * (1 - 1e-6)
    parts = [fit.network.hidden_weights.T, fit.network.hidden_biases.T, fit.network.output_weights]
    here = np.concatenate([*(part.ravel() for part in parts), [fit.network.output_bias]])
    around = [
        descend(*data, here + scale * rng.standard_normal(len(here))) for scale in np.repeat([1e-3, 0.03, 0.3], 10)
    ]
    assert fit.objective * (1 - 1e-6) <= min(around) <= fit.objective * 1.001


@pytest.mark.parametrize("name", STEPS)
def test_steps_against_all_patterns(name):
    """Gradients see nothing of w and b: every choice of three step patterns of four points, amplitudes and output
    weights by L-BFGS on the network's own objective."""
    x, y, weights = draw(4, seed=1)
    alpha = 0.15
    fit = fit_narrow(x, y, alpha, name, sample_weight=weights)
    cuts = np.concatenate([[-2.0], (np.sort(x)[1:] + np.sort(x)[:-1]) / 2, [2.0]])
    patterns = np.unique([FUNCTIONS[name][0](w * (x - cut)) for w in (1, -1) for cut in cuts], axis=0)
    assert len(patterns) == 8
    rng, best = np.random.default_rng(0), np.inf
    for chosen in combinations_with_replacement(range(8), 3):
        h = patterns[list(chosen)].T

        def objective(p, h=h):
            s, a, c = p[:3], p[3:6], p[6]
            r = h @ (s * a) + c - y
            back = h.T @ (weights * r)
            value = 0.5 * weights @ r**2 + alpha / 2 * (s @ s + a @ a)
            return value, np.concatenate([back * a + alpha * s, back * s + alpha * a, [weights @ r]])

        best = min(best, *(minimize(objective, rng.standard_normal(7), jac=True).fun for _ in range(2)))
    assert np.isclose(best, fit.objective, rtol=1e-6)


@pytest.mark.parametrize("name", STEPS)
def test_without_amplitudes_steps_pay_nothing(name):
    """Copies divide the decay of the output weights, and hidden weights may be as small as they like."""
    x, y, _ = draw(5)
    fit = fit_narrow(x, y, 0.1, name)
    products = fit.network.amplitudes * fit.network.output_weights
    decay = []
    for copies in (1, 10, 100):
        a = np.repeat(products / copies, copies)
        w = np.repeat(1e-6 * fit.network.hidden_weights, copies, axis=0)
        b = np.repeat(1e-6 * fit.network.hidden_biases, copies, axis=0)
        same = NarrowNetwork(w, b, a, fit.network.output_bias, name)
        assert np.allclose(same.predict(x), fit.network.predict(x))
        decay.append(w.ravel() @ w.ravel() + a @ a)
    assert decay[1] < 0.11 * decay[0] and decay[2] < 0.011 * decay[0]


def test_two_relu_layers_with_an_intercept_cost_at_least_the_spline():
    """The spline also has a linear term for nothing; where that is of no use both are the same."""
    x = np.linspace(-1, 1, 21)
    y = np.abs(x)
    spline = ReLUSplineRegressor(0.01, tol=1e-10).fit(x[:, None], y)
    fit = fit_narrow(x, y, 0.01)
    assert fit.objective >= spline.certificate_.objective * (1 - 1e-9)
    assert np.isclose(fit.objective, spline.certificate_.objective, rtol=1e-6)


def test_kinks_at_points_and_at_mirror_images():
    """Three layers of the absolute value fold at points and midpoints; chains of ReLUs have kinks at points only."""
    x = np.array([0.0, 1.0, 3.2, 7.1])
    fine = np.linspace(-15, 20, 350_001)

    def kinks(name, n_layers):
        features = narrow_dictionary(x, name, n_layers)
        turns = np.abs(np.diff(features.hidden(fine), 2, axis=0)).max(axis=1) > 1e-6
        # A kink between two points of the grid shows at both ends.
        return np.unique(np.round(fine[1:-1][turns], 3))

    mirrored = {2 * i - k for i in x for k in x}
    middle = {(i + k) / 2 for i in x for k in x}
    assert {1.0, 3.2} < set(kinks("abs", 2)) <= set(x)
    assert set(kinks("abs", 3)) <= {round(v, 3) for v in mirrored | middle}
    assert set(kinks("abs", 3)) & mirrored - set(x) and set(kinks("abs", 3)) & middle - set(x)
    for name in ("relu", "leaky_relu"):
        for n_layers in (2, 3, 4):
            assert {1.0, 3.2} < set(kinks(name, n_layers)) <= set(x)


def test_a_fourth_relu_layer_adds_nothing():
    for n in range(2, 7):
        x = draw(n)[0]
        three, four = (narrow_dictionary(x, "relu", n_layers) for n_layers in (3, 4))
        assert len(three.output_weights) == len(four.output_weights)


def test_features_are_distinct():
    x = np.array([0.0, 1.0, 2.0, 3.0, 3.0])
    for name, n_layers in KINDS:
        features = narrow_dictionary(x, name, n_layers).hidden(np.unique(x))
        for sign in (1, -1):
            different = features[:, :, None] - sign * features[:, None, :]
            spread = np.ptp(different, axis=0) + (np.eye(features.shape[1]) if sign == 1 else 0)
            assert spread.min() > 1e-9, (name, n_layers)


@pytest.mark.parametrize("name, n_layers", KINDS)
def test_alpha_max(name, n_layers):
    x, y, weights = draw()
    alpha_max = fit_narrow(x, y, 1.0, name, n_layers, sample_weight=weights).alpha_max
    above = fit_narrow(x, y, 1.001 * alpha_max, name, n_layers, sample_weight=weights)
    assert len(above.network.output_weights) == 0
    assert np.allclose(above.network.predict(x), np.average(y, weights=weights))
    below = fit_narrow(x, y, 0.99 * alpha_max, name, n_layers, sample_weight=weights, tol=1e-12)
    assert len(below.network.output_weights) > 0


def test_one_point():
    for name, n_layers in KINDS:
        fit = fit_narrow([2.0, 2.0], [1.0, 3.0], 0.1, name, n_layers)
        assert np.isclose(fit.network.predict([5.0]), 2.0) and np.isclose(fit.objective, 1.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(activation="tanh"), "activation must be one of"),
        (dict(activation="sign", n_layers=3), "n_layers must be one of"),
        (dict(n_layers=5), "n_layers must be one of"),
        (dict(activation="leaky_relu", slope=1.5), "slope must be"),
        (dict(alpha=0.0), "alpha must be"),
        (dict(y=np.ones(3)), "y and sample_weight must have shape"),
        (dict(x=np.ones((4, 2))), "x must be finite of shape"),
        (dict(sample_weight=-np.ones(4)), "non-negative"),
        (dict(activation="abs", n_layers=4, max_features=10), "more than max_features=10"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_narrow(**dict(x=np.arange(4.0), y=np.arange(4.0), alpha=1.0) | arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Units, offsets and rounding

SOME = [("relu", 2), ("leaky_relu", 3), ("abs", 2), ("abs", 3), ("threshold", 2), ("sign", 2)]


def on_a_grid(n=8):
    rng = np.random.default_rng(n)
    return np.round(4096 * rng.uniform(-1, 1, n)) / 4096, np.round(4096 * rng.standard_normal(n)) / 4096


@pytest.mark.parametrize("unit", [1e-100, 1e100])
@pytest.mark.parametrize("activation, n_layers", SOME)
def test_units_change_nothing(activation, n_layers, unit):
    x, y = on_a_grid()
    here = fit_narrow(x, y, 0.05, activation, n_layers)
    wide = fit_narrow(unit * x, y, 0.05 * (1 if activation in ("threshold", "sign") else unit), activation, n_layers)
    tall = fit_narrow(x, unit * y, 0.05 * unit, activation, n_layers)
    for there, x_unit, y_unit in ((wide, unit, 1.0), (tall, 1.0, unit)):
        assert there.relative_gap <= 1e-8
        assert np.isclose(there.objective / y_unit / y_unit, here.objective, rtol=1e-8)
        np.testing.assert_allclose(there.network.predict(x_unit * x) / y_unit, here.network.predict(x), atol=1e-6)


@pytest.mark.parametrize("x_offset, y_offset", [(0.0, 1e12), (1e8, 0.0), (-1e6, -1e9)])
@pytest.mark.parametrize("activation, n_layers", SOME)
def test_no_bound_is_above_the_objective_of_data_far_from_zero(activation, n_layers, x_offset, y_offset):
    x, y = on_a_grid()
    here = fit_narrow(x, y, 0.05, activation, n_layers)
    there = fit_narrow(x + x_offset, y + y_offset, 0.05, activation, n_layers)
    assert np.isclose(there.lower_bound, here.lower_bound, rtol=1e-6)
    assert there.lower_bound <= here.objective and there.lower_bound <= there.objective
    assert np.isclose(there.objective, here.objective, rtol=1e-6)


@pytest.mark.parametrize("activation, n_layers", SOME)
def test_points_that_differ_by_a_hair_keep_the_bound_below(activation, n_layers):
    """Steps between points 1e-11 apart are still told apart; what is taken as one costs nothing."""
    rng = np.random.default_rng(0)
    x = np.concatenate([1e-11 * np.arange(4), 0.3 + 1e-16 * np.arange(3), [1.0]])
    y = rng.standard_normal(8)
    for alpha in (1e-3, 1e-9):
        fit = fit_narrow(x, y, alpha, activation, n_layers)
        again = fit_narrow(x - 0.3, y, alpha, activation, n_layers)
        assert fit.lower_bound <= min(fit.objective, again.objective) * (1 + 1e-9)


def test_y_that_is_constant_but_for_rounding_and_y_beyond_the_range_of_numbers():
    x, y = on_a_grid()
    for activation, n_layers in SOME:
        fit = fit_narrow(x, np.where(x > 0, 0.1 + 0.2, 0.3), 1e-30, activation, n_layers)
        assert fit.alpha_max == 0 and len(fit.network.output_weights) == 0
        for factor, words in ((1e160, "so large"), (1e-160, "so small")):
            with pytest.raises(ValueError, match=f"y must not be {words}"):
                fit_narrow(x, factor * y, 0.05, activation, n_layers)
    with pytest.raises(ValueError, match="x must have a finite range"):
        fit_narrow([-1.5e308, 1.5e308], [0.0, 1.0], 0.05)
    with pytest.raises(ValueError, match="alpha must be in the range"):
        fit_narrow(1e200 * x, 1e-130 * y, 1e-300)
