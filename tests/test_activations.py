"""Lifting to program (C) and back: a network and its coefficients are the same point, with the same objective."""

from dataclasses import replace

import numpy as np
import pytest
from programs import listing, to_network

from convexnn.arrangements import Arrangement, enumerate_patterns, patterns_of, sample_patterns
from convexnn.losses import LOSSES
from convexnn.network import Network
from convexnn.neurons.activations import ACTIVATIONS, LeakyReLU
from convexnn.program.conversion import coef_of

HIDDEN_BIAS = ["penalized", "none"]


def lifted(X, hidden_bias):
    return np.column_stack([X, np.ones(len(X))]) if hidden_bias == "penalized" else X


def make_program(
    activation, X, y, arrangement, loss="squared", alpha=0.7, weights=None, intercept=True, bias="penalized"
):
    loss = LOSSES[loss]()
    n_outputs = 3 if loss.target == "classes" else 1
    weights = np.ones(len(X)) if weights is None else weights
    return listing(
        activation, lifted(X, bias), y, arrangement, loss, alpha, weights, intercept, n_outputs, hidden_bias=bias
    )


def of_kind(activation, gates):
    """What makes a network one of an activation, gates where it has them."""
    return dict(activation=ACTIVATIONS[activation]) | (gates if activation == "gated_relu" else {})


def draw_coefficients(rng, activation, problem, arrangement, share=0.5):
    """Random blocks, some of them zero; without gates inside their cones, each near a vector of the cone."""
    coef = rng.standard_normal(problem.design.shape)
    if activation != "gated_relu":
        rows = problem.design.X
        for k, p in enumerate(problem.design.pattern):
            signs = np.where(problem.design.patterns[p], 1.0, -1.0)
            # An even activation lists one of two opposite patterns.
            inside = signs[:, None] * (rows @ np.hstack([arrangement.gates, -arrangement.gates]))
            gate = np.hstack([arrangement.gates, -arrangement.gates])[:, inside.min(axis=0) >= 0][:, 0]
            move, t = rng.standard_normal(len(gate)), 1.0
            while np.any(signs * (rows @ (gate + t * move)) < 0):
                t *= 0.5
            coef[k] = (gate + t * move) * np.exp(rng.standard_normal())
    coef[rng.uniform(size=len(coef)) > share] = 0.0
    return coef


def sorted_rows(network):
    rows = [network.hidden_weights, network.hidden_biases, network.output_weights.reshape(network.n_neurons, -1)]
    if network.gate_weights is not None:
        rows += [network.gate_weights, network.gate_biases]
    table = np.column_stack(rows)
    return table[np.lexsort(np.round(table, 6).T)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_classes", [1, 3])
def test_block_order_of_lift(activation, n_classes, explicit):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((7, 2))
    arrangement = sample_patterns(lifted(X, "penalized"), 5, random_state=0)
    loss, y = ("multinomial_log_loss", np.arange(7) % 3) if n_classes > 1 else ("squared", rng.standard_normal(7))
    problem = make_program(activation, X, y, arrangement, loss)
    signs = (1.0,) if activation == "gated_relu" else (1.0, -1.0)
    listed = arrangement.patterns.T
    if activation == "absolute":
        # One of two opposite patterns, the one of the first sample.
        listed = np.array([pattern if pattern[0] else ~pattern for pattern in listed])
        listed = listed[np.sort(np.unique(listed, axis=0, return_index=True)[1])]
    expected = [(o, s, p) for o in range(n_classes) for s in signs for p in range(len(listed))]
    assert list(zip(problem.design.output, problem.design.sign, problem.design.pattern)) == expected
    assert np.array_equal(problem.design.patterns, listed)
    V = rng.standard_normal(problem.design.shape)
    z = np.stack([A @ V.ravel() for A in explicit(problem.design)], axis=1)
    assert np.allclose(np.reshape(problem.design @ V, z.shape), z, rtol=1e-12, atol=1e-12)
    for k in (0, len(V) - 1):
        o, s, p = expected[k]
        block = explicit(problem.design)[o][:, k * 3 : (k + 1) * 3]
        slope = {"leaky_relu": 0.01, "absolute": -1.0}.get(activation, 0.0)
        assert np.array_equal(block, s * np.where(listed[p], 1.0, slope)[:, None] * lifted(X, "penalized"))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("hidden_bias", HIDDEN_BIAS)
def test_coef_to_network_and_back(loss, activation, intercept, hidden_bias, make_target):
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((9, 3)), make_target(rng, LOSSES[loss](), 9)
    arrangement = sample_patterns(lifted(X, hidden_bias), 8, random_state=1)
    weights = rng.uniform(0.5, 2.0, 9)
    problem = make_program(activation, X, y, arrangement, loss, 0.7, weights, intercept, hidden_bias)
    coef = draw_coefficients(rng, activation, problem, arrangement)
    outputs = problem.design.n_outputs
    c = 0.0 if not intercept else 0.3 if outputs == 1 else np.array([0.3, -0.2, 0.1])
    network = to_network(problem, coef, c, arrangement)
    assert network.n_neurons == np.count_nonzero(coef.any(axis=1)) > 0
    assert network.output_weights.ndim == (1 if outputs == 1 else 2)
    assert (np.count_nonzero(network.output_weights.reshape(network.n_neurons, -1), axis=1) == 1).all()
    assert hidden_bias == "penalized" or not network.hidden_biases.any()
    z = problem.design @ coef + c
    assert np.allclose(network.predict(X), z, rtol=1e-12, atol=1e-11)
    # (N) at the network is (C) at the coefficients.
    value = network.objective(X, y, problem.alpha, problem.task.loss, weights)
    assert np.isclose(value, problem.objective(coef, c), rtol=1e-9)
    assert np.isclose(network.path_norms.sum(), sum(np.linalg.norm(v) for v in coef), rtol=1e-12)
    back = coef_of(network, problem)
    assert np.allclose(back, coef, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_bias", HIDDEN_BIAS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_network_to_coef_and_back_is_the_identity_up_to_order(activation, hidden_bias, n_outputs):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((12, 3))
    loss, y = ("multinomial_log_loss", np.arange(12) % 3) if n_outputs > 1 else ("squared", rng.standard_normal(12))
    gates = rng.standard_normal((6, 3))
    biases = rng.standard_normal(6) if hidden_bias == "penalized" else np.zeros(6)
    distinct = np.unique(X @ gates.T + biases >= 0, axis=1).shape[1]
    assert distinct == 6  # no two neurons share a block
    # But two of an even activation do, whose weights and their opposites are one neuron.
    shared = 6 - len(np.unique([p if p[0] else ~p for p in (X @ gates.T + biases >= 0).T], axis=0))
    n_blocks = 6 - shared * (activation == "absolute")
    weights = dict(hidden_weights=gates, hidden_biases=biases, activation=ACTIVATIONS[activation])
    if activation == "gated_relu":
        weights |= dict(hidden_weights=rng.standard_normal((6, 3)), hidden_biases=biases[::-1].copy())
        weights |= dict(gate_weights=gates, gate_biases=biases)
    output = rng.uniform(0.5, 2.0, 6) if activation == "gated_relu" else rng.standard_normal(6)
    if n_outputs > 1:
        output = output[:, None] * np.eye(3)[np.arange(6) % 3]
    bias = 0.4 if n_outputs == 1 else np.array([0.4, 0.0, -1.0])
    network = Network(**weights, output_weights=output, output_bias=bias).balance()
    rest = sample_patterns(lifted(X, hidden_bias), 10, random_state=3)
    for arrangement in (
        patterns_of(network, X, hidden_bias=hidden_bias).union(rest),
        rest.union(patterns_of(network, X, hidden_bias=hidden_bias)),
    ):
        problem = make_program(activation, X, y, arrangement, loss, bias=hidden_bias)
        coef = coef_of(network, problem)
        assert np.count_nonzero(coef.any(axis=1)) == n_blocks
        again = to_network(problem, coef, bias, arrangement)
        assert np.allclose(again.predict(X), network.predict(X), rtol=1e-12, atol=1e-11)
        assert n_blocks < 6 or np.isclose(again.path_norms.sum(), network.path_norms.sum(), rtol=1e-12)
        if activation in ("relu", "leaky_relu"):
            assert np.allclose(sorted_rows(again), sorted_rows(network), rtol=1e-9, atol=1e-12)
        value = network.objective(X, y, problem.alpha, problem.task.loss)
        assert n_blocks < 6 or np.isclose(problem.objective(coef, bias), value, rtol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_neurons_that_share_a_block_are_summed(activation):
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
    w = np.array([[1.0, 0.2], [1.0, 0.2 + 1e-6], [1.0, 0.2]])
    gates = of_kind(activation, dict(gate_weights=w, gate_biases=np.zeros(3)))
    network = Network(w, np.array([0.0, 1e-6, 0.0]), np.array([1.0, 2.0, -3.0]), 0.1, **gates)
    arrangement = patterns_of(network, X)
    assert arrangement.n_patterns == 1
    problem = make_program(activation, X, y, arrangement)
    coef = coef_of(network, problem)
    assert np.allclose(problem.design @ coef + 0.1, network.predict(X), rtol=1e-12, atol=1e-12)
    assert np.linalg.norm(coef, axis=1).sum() <= network.path_norms.sum() * (1 + 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_neuron_that_feeds_every_class_becomes_one_block_a_class(activation):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((8, 2))
    gates = of_kind(activation, dict(gate_weights=np.ones((1, 2)), gate_biases=np.zeros(1)))
    network = Network(np.ones((1, 2)), np.zeros(1), np.array([[1.0, -2.0, 0.5]]), np.zeros(3), **gates)
    problem = make_program(activation, X, np.arange(8) % 3, patterns_of(network, X), "multinomial_log_loss")
    coef = coef_of(network, problem)
    assert np.count_nonzero(coef.any(axis=1)) == 3
    assert np.allclose(problem.design @ coef, network.predict(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_no_neuron_is_no_coefficient(activation, n_outputs):
    rng = np.random.default_rng(6)
    X = rng.standard_normal((8, 2))
    arrangement = sample_patterns(lifted(X, "penalized"), 4, random_state=0)
    loss, y = ("multinomial_log_loss", np.arange(8) % 3) if n_outputs > 1 else ("squared", rng.standard_normal(8))
    problem = make_program(activation, X, y, arrangement, loss)
    c = 1.5 if n_outputs == 1 else np.arange(3.0)
    network = to_network(problem, np.zeros(problem.design.shape), c, arrangement)
    assert network.n_neurons == 0
    assert np.array_equal(network.predict(X), np.broadcast_to(c, (8,) if n_outputs == 1 else (8, 3)))
    coef = coef_of(network, problem)
    assert coef.shape == problem.design.shape and not coef.any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_pattern_that_is_not_listed(activation):
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((10, 2)), rng.standard_normal(10)
    w = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, 1.0]])
    gates = of_kind(activation, dict(gate_weights=w, gate_biases=np.zeros(3)))
    network = Network(w, np.zeros(3), np.ones(3), 0.0, **gates)
    listed = patterns_of(network, X)
    assert listed.n_patterns == 3
    rows = lifted(X, "penalized")
    problem = make_program(activation, X, y, Arrangement.from_gates(rows, listed.gates[:, :1]))
    with pytest.raises(ValueError, match=r"network has 2 neurons .* not listed.*patterns_of"):
        coef_of(network, problem)


def test_the_kind_of_the_network_must_match():
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    relu = Network(np.ones((1, 2)), np.zeros(1), np.ones(1), 0.0)
    leaky, other = (replace(relu, activation=LeakyReLU(slope)) for slope in (0.01, 0.1))
    gated = Network(np.ones((1, 2)), np.zeros(1), np.ones(1), 0.0, np.ones((1, 2)), np.zeros(1))
    arrangement = patterns_of(relu, X)
    pairs = ("relu", gated), ("gated_relu", relu), ("relu", leaky), ("leaky_relu", other), ("absolute", leaky)
    for activation, network in pairs:
        problem = make_program(activation, X, y, arrangement)
        with pytest.raises(ValueError, match="network must have"):
            coef_of(network, problem)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_biases_have_no_place_without_a_ones_column(activation):
    X = np.random.default_rng(9).standard_normal((6, 2))
    gates = of_kind(activation, dict(gate_weights=np.ones((1, 2)), gate_biases=np.zeros(1)))
    network = Network(np.ones((1, 2)), np.ones(1), np.ones(1), 0.0, **gates)
    problem = make_program(activation, X, np.ones(6), Arrangement.from_gates(X, np.ones((2, 1))), bias="none")
    with pytest.raises(ValueError, match="hidden_bias='none'"):
        coef_of(network, problem)


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_a_neuron_on_hyperplanes_goes_to_either_side(side, seed):
    """w is orthogonal to two rows up to rounding, and only one of the four cells around it is listed."""
    rng = np.random.default_rng([10, seed])
    X, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    w = np.linalg.svd(X[:2])[2][2] * 10.0 ** rng.integers(-6, 7)
    assert np.abs(X[:2] @ w).max() <= 1e-15 * np.linalg.norm(w) * 10
    network = Network(w[None], np.zeros(1), np.array([-1.3]), 0.2).balance()
    nudge = np.linalg.lstsq(X[:2], side * np.array([1.0, -1.0]), rcond=None)[0]
    gate = w / np.linalg.norm(w) + 1e-6 * nudge
    problem = make_program("relu", X, y, Arrangement.from_gates(X, gate[:, None]), bias="none")
    coef = coef_of(network, problem)
    z = network.predict(X)
    assert np.abs(problem.design @ coef + 0.2 - z).max() <= 1e-12 * np.abs(z).max()
    assert np.isclose(problem.objective(coef, 0.2), network.objective(X, y, problem.alpha), rtol=1e-9)


def test_a_gate_on_a_hyperplane_is_open_there():
    """A sample on the gate is active, and its contribution is not zero: the other side is another function."""
    X, y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([1.0, -1.0, 2.0])
    w, gate = np.array([[2.0, 1.0]]), np.array([[0.0, 1.0]])  # the gate passes through the first sample
    network = Network(w, np.zeros(1), np.ones(1), 0.0, gate, np.zeros(1))
    closed_first = Arrangement.from_gates(X, np.array([[-0.1, 1.0], [0.0, 1.0]]).T)
    assert closed_first.patterns.T.tolist() == [[False, True, True], [True, True, True]]
    problem = make_program("gated_relu", X, y, closed_first, bias="none")
    coef = coef_of(network, problem)
    assert np.allclose(problem.design @ coef, network.predict(X), rtol=1e-12)
    alone = make_program("gated_relu", X, y, Arrangement.from_gates(X, np.array([[-0.1], [1.0]])), bias="none")
    with pytest.raises(ValueError, match="not listed"):
        coef_of(network, alone)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_integer_data_with_repeated_and_zero_rows(activation):
    rng = np.random.default_rng(11)
    X = rng.integers(-1, 2, (12, 2)).astype(float)
    X[3] = 0.0
    y = rng.standard_normal(12)
    for hidden_bias in HIDDEN_BIAS:
        arrangement = enumerate_patterns(lifted(X, hidden_bias))
        problem = make_program(activation, X, y, arrangement, bias=hidden_bias)
        coef = draw_coefficients(rng, activation, problem, arrangement)
        network = to_network(problem, coef, 0.0, arrangement)
        assert np.allclose(problem.design @ coef, network.predict(X), rtol=1e-12, atol=1e-11)
        back = coef_of(network, problem)
        assert np.allclose(problem.design @ back, network.predict(X), rtol=1e-12, atol=1e-11)
        assert np.isclose(problem.penalty.value(back), network.path_norms.sum(), rtol=1e-12)
