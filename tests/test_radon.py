"""Networks as atoms in the Radon domain; slopes of predictions along lines judge them."""

from dataclasses import replace

import numpy as np
import pytest

from convexnn import (
    ConvexReLURegressor,
    Network,
    ReLUSplineRegressor,
    radon_measure,
    second_order_tv,
)


def draw(m, d, seed=0, k=None):
    """m neurons, the last half of them on hyperplanes of the first, facing either side, with weights of any size."""
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((m, d)), rng.standard_normal(m)
    h = m // 2
    factor = rng.choice([-3.0, -0.7, 0.1, 2.0], h)
    W[m - h :], b[m - h :] = W[:h] * factor[:, None], b[:h] * factor
    a = rng.standard_normal(m if k is None else (m, k))
    skip = rng.standard_normal(d if k is None else (d, k))
    return Network(W, b, a, 0.3 if k is None else np.zeros(k), skip_weights=skip, hidden_bias="free")


def variation_along(network, point, direction):
    """Total variation of the slope on a line: slopes of predictions between the places where neurons switch."""
    with np.errstate(divide="ignore"):
        places = -(network.hidden_weights @ point + network.hidden_biases) / (network.hidden_weights @ direction)
    places = np.sort(places[np.isfinite(places)])
    apart = np.append(True, np.diff(places) > 1e-7)
    ends = np.concatenate([[places[0] - 1.0], places[apart], [places[-1] + 1.0]])
    inside = ends[:-1, None] + np.diff(ends)[:, None] * [0.25, 0.75]
    f = network.predict(point + inside.reshape(-1, 1) * direction).reshape(len(inside), 2, -1)
    slopes = (f[:, 1] - f[:, 0]) / np.diff(inside)
    return np.linalg.norm(np.diff(slopes, axis=0), axis=1).sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [None, 2])
def test_one_feature_is_the_total_variation_of_the_slope(seed, k):
    network = draw(9, 1, seed, k)
    numeric = variation_along(network, np.zeros(1), np.ones(1))
    assert second_order_tv(network) == pytest.approx(numeric, rel=1e-6)
    if k is None:
        # Second differences on a fine grid know nothing of where neurons switch; knots are far apart here.
        knots = np.sort(np.unique((-network.hidden_biases / network.hidden_weights[:, 0]).round(9)))
        grid = np.linspace(knots[0] - 1, knots[-1] + 1, 40_001)
        step = grid[1] - grid[0]
        assert np.diff(knots).min() > 3 * step
        bends = np.abs(np.diff(network.predict(grid[:, None]), 2)).sum() / step
        assert second_order_tv(network) == pytest.approx(bends, rel=1e-6)


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("k", [None, 3])
def test_slopes_along_a_line(d, k):
    """On a line with direction v the slope varies by sum_k |c_k| |u_k^T v|."""
    rng, network = np.random.default_rng(d), draw(8, d, d, k)
    measure = radon_measure(network)
    assert len(measure.offsets) == 4
    sizes = np.linalg.norm(measure.weights.reshape(4, -1), axis=1)
    for _ in range(10):
        v = rng.standard_normal(d)
        v /= np.linalg.norm(v)
        numeric = variation_along(network, rng.standard_normal(d), v)
        assert numeric == pytest.approx(sizes @ np.abs(measure.directions @ v), rel=1e-5)


def test_average_over_all_lines_of_the_plane():
    """|cos| is 2 / pi on average: pi / 2 times the mean variation along lines is the variation of the function."""
    for seed in range(3):
        network = draw(7, 2, seed)
        angles = (np.arange(720) + 0.5) * np.pi / 720
        mean = np.mean([variation_along(network, np.zeros(2), np.array([np.cos(t), np.sin(t)])) for t in angles])
        assert second_order_tv(network) == pytest.approx(np.pi / 2 * mean, rel=1e-4)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_network_is_its_atoms_and_a_linear_function(d):
    network = draw(11, d, d)
    measure = radon_measure(network)
    np.testing.assert_allclose(np.linalg.norm(measure.directions, axis=1), 1, rtol=1e-14)
    assert (measure.directions[:, -1] > 0).all() and (np.diff(np.abs(measure.weights)) <= 0).all()
    X = 2 * np.random.default_rng(1).standard_normal((200, d))
    ridges = np.maximum(X @ measure.directions.T - measure.offsets, 0) @ measure.weights
    left, line = network.predict(X) - ridges, np.column_stack([X, np.ones(200)])
    assert np.ptp(left) > 0.1
    np.testing.assert_allclose(line @ np.linalg.lstsq(line, left)[0], left, atol=1e-11)
    for w, b, k in zip(network.hidden_weights, network.hidden_biases, measure.atom_of):
        u, t = measure.directions[k], measure.offsets[k]
        np.testing.assert_allclose(abs(u @ w), np.linalg.norm(w), rtol=1e-12)
        np.testing.assert_allclose(-b, t * (u @ w), rtol=1e-9)


def joined(*parts):
    names = ("hidden_weights", "hidden_biases", "output_weights")
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_variation_belongs_to_the_function(d):
    network, rng = draw(6, d, 5), np.random.default_rng(5)
    variation, n_atoms = second_order_tv(network), len(radon_measure(network).offsets)
    # a (z)_+ - a (-z)_+ = a z is linear, on new hyperplanes and on those that are there.
    for W, b in (
        (rng.standard_normal((4, d)), rng.standard_normal(4)),
        (network.hidden_weights, network.hidden_biases),
    ):
        a = rng.standard_normal(len(W))
        more = joined(network, replace(network, hidden_weights=W, hidden_biases=b, output_weights=a))
        more = joined(more, replace(network, hidden_weights=-3 * W, hidden_biases=-3 * b, output_weights=-a / 3))
        assert second_order_tv(more) == pytest.approx(variation, rel=1e-12)
        assert len(radon_measure(more).offsets) == n_atoms
    # Parts of a neuron, other scales and orders.
    t = rng.uniform(0.01, 100, 6)
    split = replace(
        network,
        hidden_weights=network.hidden_weights * t[:, None],
        hidden_biases=network.hidden_biases * t,
        output_weights=network.output_weights / t / 2,
    )
    order = rng.permutation(12)
    for same in (joined(split, split).select(order), network.balance(), network.merge()):
        assert second_order_tv(same) == pytest.approx(variation, rel=1e-12)
    assert second_order_tv(replace(network, output_weights=-2.5 * network.output_weights)) == pytest.approx(
        2.5 * variation, rel=1e-12
    )
    turned = replace(network, hidden_weights=network.hidden_weights @ np.linalg.qr(rng.standard_normal((d, d)))[0])
    assert second_order_tv(turned) == pytest.approx(variation, rel=1e-12)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e7])
def test_units_and_origin_of_the_features(unit):
    network, mean = draw(8, 2, 3), np.array([1.0, -2.0])
    before, after = radon_measure(network), radon_measure(network.for_raw_inputs(unit * mean, np.full(2, unit)))
    np.testing.assert_allclose(after.directions, before.directions, atol=1e-12)
    np.testing.assert_allclose(after.offsets, unit * (before.offsets + before.directions @ mean), rtol=1e-9)
    np.testing.assert_allclose(after.weights, before.weights / unit, rtol=1e-9)


def test_neurons_that_bend_nothing():
    # w = 0, a = 0, a hyperplane beyond all numbers, and a pair that cancels.
    W = np.array([[0.0, 0.0], [1.0, 0.0], [1e-300, 0.0], [0.3, 0.1], [-0.3, -0.1], [0.0, 2.0]])
    network = Network(W, np.array([1.0, 1.0, 1e300, 0.7, -0.7, 2.0]), np.array([1.0, 0.0, 1.0, 5.0, -5.0, -1.5]))
    measure = radon_measure(network)
    assert measure.atom_of.tolist() == [-1, -1, -1, -1, -1, 0]
    assert measure.directions.tolist() == [[0, 1]] and measure.offsets.tolist() == [-1] and measure.weights == [-3]
    assert repr(measure) == "RadonMeasure(1 atom, total variation 3)"
    for columns in ((), (3,)):
        empty = Network(np.empty((0, 2)), np.empty(0), np.empty((0, *columns)), np.zeros(columns))
        assert second_order_tv(empty) == 0 and radon_measure(empty).weights.shape == (0, *columns)


def test_hyperplanes_that_only_look_alike():
    # Almost dead neurons have far hyperplanes; near ones must still be told apart, and far ones by their ratio.
    W = np.array([[1.0, 0.0], [1.0, 0.0], [1e-11, 0.0], [-1.0, 1e-17], [1.0, 1e-8], [1.0, 0.0], [1.0, 0.0]])
    b = np.array([1.0, 1.0 + 1e-8, 1.0, -1.0, 1.0, -1e-16, 0.0])
    measure = radon_measure(Network(W, b, np.ones(7)))
    assert len(measure.offsets) == 5
    assert measure.atom_of[0] == measure.atom_of[3] and measure.atom_of[5] == measure.atom_of[6]
    assert len(set(measure.atom_of[[0, 1, 2, 4, 5]])) == 5
    assert (measure.directions @ [1.0, 1e-3] > 0).all()


def test_several_outputs_are_a_group():
    # One line, two outputs: the norm of (3, 4), where the path norms of two neurons add up to 7.
    network = Network(np.array([[1.0], [-1.0]]), np.array([-1.0, 1.0]), np.diag([3.0, 4.0]), np.zeros(2))
    measure = radon_measure(network)
    assert measure.weights.tolist() == [[3, 4]] and second_order_tv(network) == 5
    assert replace(network, hidden_bias="free").path_norms.sum() == 7


@pytest.mark.parametrize("d", [1, 2, 3])
def test_what_a_fit_with_free_biases_and_a_skip_connection_pays(d):
    rng = np.random.default_rng(d)
    X = rng.standard_normal((14, d))
    y = np.abs(X[:, 0]) - np.maximum(X.sum(axis=1), 0) + 0.3 * rng.standard_normal(14)
    options = dict(hidden_bias="free", patterns="exact", n_patterns=10_000, tol=1e-8)
    model = ConvexReLURegressor(0.1, skip_connection=True, **options).fit(X, y)
    loss = 0.5 * np.sum((y - model.predict(X)) ** 2)
    assert model.network_.n_neurons >= 2
    variation = second_order_tv(model.network_)
    assert 0.1 * variation == pytest.approx(model.certificate_.objective - loss, rel=1e-6)
    # Without a skip connection a linear part costs neurons, and with penalised biases offsets cost something.
    for other in (dict(hidden_bias="free"), dict(hidden_bias="penalized"), dict(hidden_bias="none")):
        network = ConvexReLURegressor(0.1, **(options | other)).fit(X, y).network_
        assert second_order_tv(network) <= network.path_norms.sum() * (1 + 1e-12)
    if d == 1:
        spline = ReLUSplineRegressor(0.1).fit(X, y)
        assert second_order_tv(spline.network_) == pytest.approx(np.abs(spline.slope_changes_).sum(), rel=1e-12)
        # A gap of 1e-8 allows each part of the objective its root.
        assert second_order_tv(spline.network_) == pytest.approx(variation, rel=1e-4)
        measure = radon_measure(spline.network_)
        np.testing.assert_allclose(np.sort(measure.offsets), spline.knots_, rtol=1e-12)


def test_errors():
    network = draw(4, 2)
    gated = replace(network, gate_weights=network.hidden_weights, gate_biases=network.hidden_biases)
    for function in (radon_measure, second_order_tv):
        with pytest.raises(
            ValueError, match=r"network must have neurons without gates, got gated ones: .*to_relu\(X\)"
        ):
            function(gated)
        with pytest.raises(ValueError, match="network must be a Network, got ConvexReLURegressor"):
            function(ConvexReLURegressor())
