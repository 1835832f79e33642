"""Networks against scalar loops, and the conversions by what they promise: same predictions on X, no larger penalty."""

import gc
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from convexnn.losses import LOSSES
from convexnn.network import Network

KINDS = ["relu", "gated_relu"]
N_OUTPUTS = [None, 1, 3]  # None: a vector of output weights
FIELDS = ["hidden_weights", "hidden_biases", "output_weights", "output_bias", "gate_weights", "gate_biases"]


def draw_network(rng, kind="relu", n_outputs=None, m=7, d=3, one_each=False):
    output = rng.standard_normal(m if n_outputs is None else (m, n_outputs))
    if one_each and n_outputs is not None:
        output *= np.eye(n_outputs)[np.arange(m) % n_outputs]
    bias = float(rng.standard_normal()) if n_outputs is None else rng.standard_normal(n_outputs)
    gates = {}
    if kind == "gated_relu":
        gates = dict(gate_weights=rng.standard_normal((m, d)), gate_biases=rng.standard_normal(m))
    return Network(rng.standard_normal((m, d)), rng.standard_normal(m), output, bias, **gates)


def scalar_hidden(network, x):
    """Activations of one sample, neuron by neuron."""
    out = []
    for j in range(len(network.hidden_weights)):
        before = sum(w * t for w, t in zip(network.hidden_weights[j], x)) + network.hidden_biases[j]
        if network.gate_weights is None:
            on = before > 0
        else:
            on = sum(g * t for g, t in zip(network.gate_weights[j], x)) + network.gate_biases[j] >= 0
        out.append(before if on else 0.0)
    return out


def scalar_predict(network, x):
    hidden, outputs = scalar_hidden(network, x), network.n_outputs
    bias = np.broadcast_to(network.output_bias, (outputs,))
    columns = [list(np.ravel(row)) for row in network.output_weights]
    z = [bias[o] + sum(h * a[o] for h, a in zip(hidden, columns)) for o in range(outputs)]
    return z[0] if network.output_weights.ndim == 1 else z


def weight_decay(network):
    squares = sum(w**2 for w in network.hidden_weights.ravel()) + sum(b**2 for b in network.hidden_biases)
    return 0.5 * (squares + sum(a**2 for a in network.output_weights.ravel()))


def scalar_loss(loss, y, z):
    r = y - z if np.ndim(z) == 0 else None
    return {
        "squared": lambda: 0.5 * r * r,
        "huber": lambda: 0.5 * r * r if abs(r) <= 1.35 else 1.35 * (abs(r) - 0.5 * 1.35),
        "log_loss": lambda: math.log(1 + math.exp(-y * z)),
        "multinomial_log_loss": lambda: math.log(sum(math.exp(t) for t in z)) - z[int(y)],
        "squared_hinge": lambda: max(0.0, 1 - y * z) ** 2,
        "hinge": lambda: max(0.0, 1 - y * z),
        "absolute": lambda: abs(r),
        "quantile": lambda: 0.5 * abs(r),
    }[loss]()


def same_predictions(before, after, X):
    scale = 1 + np.abs(before.predict(X)).max()
    # Rounding is relative to the terms of the sum, which are larger than the sum itself by a small factor here.
    assert np.abs(before.predict(X) - after.predict(X)).max() <= 1e-9 * scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_predict_and_hidden(kind, n_outputs):
    rng = np.random.default_rng(0)
    network, X = draw_network(rng, kind, n_outputs), rng.standard_normal((9, 3))
    assert np.allclose(network.hidden(X), [scalar_hidden(network, x) for x in X], rtol=1e-12, atol=1e-12)
    assert np.allclose(network.predict(X), [scalar_predict(network, x) for x in X], rtol=1e-12, atol=1e-12)
    assert network.predict(X).shape == ((9,) if n_outputs is None else (9, n_outputs))
    assert network.n_outputs == (n_outputs or 1) and network.n_neurons == 7
    norms = [
        np.linalg.norm([*w, b]) * np.linalg.norm(a)
        for w, b, a in zip(network.hidden_weights, network.hidden_biases, network.output_weights)
    ]
    assert np.allclose(network.path_norms, norms, rtol=1e-13)


def test_a_gate_through_a_sample_is_open():
    network = Network(np.array([[2.0]]), np.array([1.0]), np.array([3.0]), 0.0, np.array([[1.0]]), np.array([-1.0]))
    assert network.predict([[1.0], [0.5]]).tolist() == [9.0, 0.0]


def test_lists_and_integers_are_data_too():
    network = draw_network(np.random.default_rng(1), d=2)
    assert np.array_equal(network.predict([[1, 2], [3, 4]]), network.predict(np.array([[1.0, 2.0], [3.0, 4.0]])))


@pytest.mark.parametrize(
    "X, match",
    [
        ([[1.0, 2.0]], "X must have 3 features, got 2"),
        ([1.0, 2.0, 3.0], "X must have shape"),
        ([[1.0, np.nan, 2.0]], "X must be finite"),
        ([["a", "b", "c"]], "X must be a numeric matrix"),
        (np.zeros((0, 3)), "X must have shape"),
    ],
)
def test_bad_data(X, match):
    network = draw_network(np.random.default_rng(2))
    for method in (network.predict, network.hidden, network.prune):
        with pytest.raises(ValueError, match=match):
            method(X)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_objective(loss, kind, weighted, make_target):
    rng = np.random.default_rng(3)
    multi = LOSSES[loss].target == "classes"
    network, X = draw_network(rng, kind, 3 if multi else None), rng.standard_normal((11, 3))
    y = make_target(rng, LOSSES[loss](), 11)
    weights = rng.uniform(0.5, 2.0, 11) if weighted else None
    losses = [scalar_loss(loss, target, scalar_predict(network, x)) for x, target in zip(X, y)]
    expected = sum(s * l for s, l in zip(np.ones(11) if weights is None else weights, losses))
    expected += 0.7 * weight_decay(network)
    for given in (loss, LOSSES[loss]()):
        assert np.isclose(network.objective(X, y, 0.7, given, weights), expected, rtol=1e-12)


def test_objective_of_several_outputs_by_the_name_of_the_log_loss():
    rng = np.random.default_rng(4)
    network, X, y = draw_network(rng, "relu", 3), rng.standard_normal((8, 3)), np.arange(8) % 3
    assert network.objective(X, y, 0.1, "log_loss") == network.objective(X, y, 0.1, "multinomial_log_loss")


def test_objective_takes_zero_and_one_for_signs():
    rng = np.random.default_rng(5)
    network, X, y = draw_network(rng), rng.standard_normal((8, 3)), np.arange(8) % 2
    assert network.objective(X, y, 0.1, "log_loss") == network.objective(X, 2 * y - 1, 0.1, "log_loss")


@pytest.mark.parametrize(
    "y, weights, match",
    [
        (np.zeros(4), None, "y"),
        (np.zeros((5, 2)), None, "y"),
        (np.zeros(5), np.ones(4), "sample_weight"),
        (np.full(5, np.nan), None, "y"),
    ],
)
def test_objective_of_wrong_shapes(y, weights, match):
    network = draw_network(np.random.default_rng(6))
    with pytest.raises(ValueError, match=match):
        network.objective(np.ones((5, 3)), y, 1.0, "squared", weights)


def test_objective_of_an_unknown_loss():
    with pytest.raises(ValueError, match=r"loss must be one of .*'squared'.*, got 'cubic'"):
        draw_network(np.random.default_rng(7)).objective(np.ones((5, 3)), np.ones(5), 1.0, "cubic")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
@pytest.mark.parametrize("step", ["balance", "merge", "prune"])
@pytest.mark.parametrize("m", [0, 1, 2, 40])
def test_conversions_keep_predictions_and_lower_the_penalty(kind, n_outputs, step, m):
    rng = np.random.default_rng([8, m])
    X = rng.standard_normal((10, 3))
    for one_each in (False, True):
        network = draw_network(rng, kind, n_outputs, m, one_each=one_each)
        before = {name: np.copy(value) for name, value in vars(network).items() if value is not None}
        changed = network.prune(X) if step == "prune" else getattr(network, step)()
        same_predictions(network, changed, X)
        assert weight_decay(changed) <= weight_decay(network) * (1 + 1e-12)
        assert changed.path_norms.sum() <= network.path_norms.sum() * (1 + 1e-9)
        inner = np.linalg.norm(np.column_stack([changed.hidden_weights, changed.hidden_biases]), axis=1)
        outer = np.linalg.norm(changed.output_weights.reshape(changed.n_neurons, changed.n_outputs), axis=1)
        assert np.allclose(inner, outer, rtol=1e-12)
        assert (changed.gate_weights is None) == (kind == "relu")
        assert changed.output_weights.ndim == network.output_weights.ndim
        if step == "prune":
            assert changed.n_neurons <= len(X) * (n_outputs or 1)
            for column in changed.output_weights.reshape(changed.n_neurons, changed.n_outputs).T if one_each else []:
                assert np.count_nonzero(column) <= len(X)
        for name, value in before.items():
            assert np.array_equal(getattr(network, name), value)  # the original is untouched


@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_balance_is_the_least_penalty_of_all_rescalings(n_outputs):
    rng = np.random.default_rng(9)
    balanced = draw_network(rng, "relu", n_outputs).balance()
    assert np.isclose(weight_decay(balanced), balanced.path_norms.sum(), rtol=1e-12)
    for _ in range(20):
        t = np.exp(rng.standard_normal(7))
        other = replace(
            balanced,
            hidden_weights=balanced.hidden_weights * t[:, None],
            hidden_biases=balanced.hidden_biases * t,
            output_weights=balanced.output_weights / t.reshape((-1,) + (1,) * (balanced.output_weights.ndim - 1)),
        )
        assert weight_decay(other) >= weight_decay(balanced)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_merge_joins_copies_and_rescaled_copies(kind, n_outputs):
    rng = np.random.default_rng(10)
    network, X = draw_network(rng, kind, n_outputs), rng.standard_normal((9, 3))
    copies = np.repeat(np.arange(7), 3)
    t = np.exp(rng.standard_normal(21))
    shape = (-1,) + (1,) * (network.output_weights.ndim - 1)
    share = rng.uniform(0.5, 1.5, 21)
    share /= np.repeat(share.reshape(7, 3).sum(axis=1), 3)
    gates = {}
    if kind == "gated_relu":
        # A gate may be rescaled on its own.
        u = np.exp(rng.standard_normal(21))
        gates = dict(
            gate_weights=network.gate_weights[copies] * u[:, None], gate_biases=network.gate_biases[copies] * u
        )
    many = Network(
        network.hidden_weights[copies] * t[:, None],
        network.hidden_biases[copies] * t,
        network.output_weights[copies] * (share / t).reshape(shape),
        network.output_bias,
        **gates,
    )
    merged = many.merge()
    assert merged.n_neurons == 7
    same_predictions(network, merged, X)
    assert np.isclose(weight_decay(merged), network.path_norms.sum(), rtol=1e-9)


@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_merge_keeps_opposite_outputs_and_different_gates_apart(n_outputs):
    rng = np.random.default_rng(11)
    network = draw_network(rng, "relu", n_outputs, m=1)
    twice = replace(
        network,
        hidden_weights=np.repeat(network.hidden_weights, 2, axis=0),
        hidden_biases=np.repeat(network.hidden_biases, 2),
        output_weights=np.concatenate([network.output_weights, -network.output_weights]),
    )
    assert twice.merge().n_neurons == 2
    gated = replace(
        twice,
        output_weights=np.repeat(network.output_weights, 2, axis=0),
        gate_weights=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        gate_biases=np.zeros(2),
    )
    assert gated.merge().n_neurons == 2


@pytest.mark.parametrize("step", ["balance", "merge", "prune"])
def test_dead_neurons_are_dropped(step):
    rng = np.random.default_rng(12)
    X = rng.standard_normal((6, 3))
    network = draw_network(rng)
    network.hidden_weights[0], network.hidden_biases[0] = 0.0, 0.0
    network.output_weights[3] = 0.0
    changed = network.prune(X) if step == "prune" else getattr(network, step)()
    assert changed.n_neurons <= 5
    same_predictions(network, changed, X)


def test_prune_drops_what_is_inactive_on_the_data():
    X = np.array([[1.0], [2.0]])
    network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.0)
    assert network.prune(X).n_neurons == 1


@pytest.mark.parametrize("step", ["merge", "prune"])
def test_a_gate_that_is_zero_is_always_open(step):
    rng = np.random.default_rng(13)
    X = rng.standard_normal((6, 3))
    network = draw_network(rng, "gated_relu")
    network.gate_weights[[1, 4]], network.gate_biases[[1, 4]] = 0.0, 0.0
    changed = network.prune(X) if step == "prune" else network.merge()
    same_predictions(network, changed, X)


@pytest.mark.parametrize("kind", KINDS)
def test_prune_of_dependent_activations(kind):
    rng = np.random.default_rng(14)
    X = np.repeat(rng.integers(-2, 3, (4, 2)), 3, axis=0).astype(float)  # at most four different rows
    for _ in range(20):
        network = draw_network(rng, kind, m=30, d=2)
        pruned = network.prune(X)
        assert pruned.n_neurons <= 4
        same_predictions(network, pruned, X)
        assert pruned.path_norms.sum() <= network.path_norms.sum() * (1 + 1e-9)
        assert pruned.prune(X).n_neurons == pruned.n_neurons


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e60])
def test_prune_in_any_units(scale):
    rng = np.random.default_rng(15)
    X = rng.standard_normal((5, 3))
    network = draw_network(rng, m=20)
    network = replace(network, output_weights=network.output_weights * scale, output_bias=0.0)
    pruned = network.prune(X)
    assert pruned.n_neurons <= 5
    z = network.predict(X)
    assert np.abs(pruned.predict(X) - z).max() <= 1e-9 * np.abs(z).max()


def gated_case(rng, n_outputs, biased, n=12, d=3, m=6):
    network, X = draw_network(rng, "gated_relu", n_outputs, m, d), rng.standard_normal((n, d))
    if not biased:
        network = replace(network, hidden_biases=np.zeros(m), gate_biases=np.zeros(m))
    return network, X


@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_to_relu(n_outputs, biased, seed):
    network, X = gated_case(np.random.default_rng([16, seed]), n_outputs, biased)
    relu, price = network.to_relu(X)
    z = network.predict(X)
    assert np.abs(relu.predict(X) - z).max() <= 1e-9 * (1 + np.abs(z).max()) * price
    assert price >= 1 - 1e-12
    assert relu.gate_weights is None and relu.gate_biases is None
    assert relu.n_neurons <= 2 * network.n_neurons
    assert np.isclose(price, relu.path_norms.sum() / network.path_norms.sum(), rtol=1e-9)
    assert biased or not relu.hidden_biases.any()
    # Every new neuron has the pattern of one of the gates: its weights lie in that gate's cone.
    lifted = np.column_stack([X, np.ones(len(X))])
    lifted /= np.linalg.norm(lifted, axis=1, keepdims=True)
    open_gates = X @ network.gate_weights.T + network.gate_biases >= 0
    for w, b in zip(relu.hidden_weights, relu.hidden_biases):
        side = lifted @ [*w, b]
        violation = np.where(open_gates.T, -side, side).max(axis=1).min()
        assert violation <= 1e-9 * np.linalg.norm([*w, b])


def test_to_relu_costs_nothing_for_a_network_that_is_one():
    rng = np.random.default_rng(17)
    network, X = draw_network(rng), rng.standard_normal((9, 3))
    gated = replace(network, gate_weights=2 * network.hidden_weights, gate_biases=2 * network.hidden_biases)
    relu, price = gated.to_relu(X)
    assert np.isclose(price, 1.0, rtol=1e-12) and relu.n_neurons == network.n_neurons
    same_predictions(network, relu, X)
    assert network.to_relu(X) == (network, 1.0)


@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_to_relu_without_neurons(n_outputs):
    network = draw_network(np.random.default_rng(18), "gated_relu", n_outputs, m=0)
    relu, price = network.to_relu(np.ones((4, 3)))
    assert price == 1.0 and relu.gate_weights is None and relu.n_neurons == 0
    same_predictions(network, relu, np.ones((4, 3)))


@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
def test_to_relu_of_dead_neurons(n_outputs):
    network = draw_network(np.random.default_rng(19), "gated_relu", n_outputs, m=2)
    network = replace(network, output_weights=0 * network.output_weights)
    relu, price = network.to_relu(np.ones((4, 3)))
    assert price >= 1 and relu.gate_weights is None and relu.n_neurons == 0
    same_predictions(network, relu, np.ones((4, 3)))


def test_to_relu_is_the_cheapest_pair():
    """In one dimension with both kinds of samples the cone is a half-line: a weight against it is its mirror image."""
    network = Network(np.array([[-2.0]]), np.zeros(1), np.array([2.0]), 0.0, np.array([[1.0]]), np.zeros(1))
    relu, price = network.to_relu(np.array([[1.0], [-3.0]]))
    assert relu.n_neurons == 1 and np.isclose(price, 1.0)
    assert np.allclose(relu.predict([[1.0], [-3.0]]), [-4.0, 0.0])


def test_to_relu_with_a_gate_through_a_flat_cone():
    """Samples x and -x on the gate: the cone lies in their hyperplane, and v has a part across it."""
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.3, 1.0]])
    gated = Network(np.array([[1.0, 1.0]]), np.zeros(1), np.ones(1), 0.0, np.array([[0.0, 1.0]]), np.zeros(1))
    with pytest.raises(ValueError, match="sample on a gate"):
        gated.to_relu(X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
@pytest.mark.parametrize("m", [0, 5])
def test_for_raw_inputs(kind, n_outputs, m):
    rng = np.random.default_rng(20)
    network, X = draw_network(rng, kind, n_outputs, m), 5 + 3 * rng.standard_normal((20, 3))
    mean, scale = X.mean(axis=0), X.std(axis=0)
    raw = network.for_raw_inputs(mean, scale)
    expected = network.predict((X - mean) / scale)
    assert np.allclose(raw.predict(X), expected, rtol=1e-10, atol=1e-10)
    assert raw.for_raw_inputs([0, 0, 0], [1, 1, 1]).predict(X).tolist() == raw.predict(X).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_outputs", N_OUTPUTS)
@pytest.mark.parametrize("m", [0, 5])
def test_save_and_load_bitwise(tmp_path, kind, n_outputs, m):
    network = draw_network(np.random.default_rng(21), kind, n_outputs, m)
    labels = np.array(["no", "yes"])
    network.save(tmp_path / "net.npz", classes=labels, mean=[1.0, 2.0])
    loaded = Network.load(tmp_path / "net.npz")
    for name in FIELDS:
        old, new = getattr(network, name), getattr(loaded, name)
        if old is None:
            assert new is None
            continue
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes() and np.shape(old) == np.shape(new)
        assert np.asarray(old).dtype == np.asarray(new).dtype
    assert isinstance(loaded.output_bias, float) == (n_outputs is None)
    X = np.random.default_rng(22).standard_normal((4, 3))
    assert np.array_equal(network.predict(X), loaded.predict(X))
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        assert np.array_equal(file["classes"], labels) and file["mean"].tolist() == [1.0, 2.0]
        assert not any(file[name].dtype.hasobject for name in file.files)


def test_save_appends_the_suffix_as_numpy_does(tmp_path):
    network = draw_network(np.random.default_rng(23))
    network.save(str(tmp_path / "net"))
    assert Network.load(tmp_path / "net.npz").n_neurons == 7


@pytest.mark.parametrize(
    "extra, match",
    [
        (dict(output_bias=np.ones(1)), "'output_bias'"),
        (dict(gate_weights=np.ones(1)), "'gate_weights'"),
        (dict(classes=np.array(["a", None], dtype=object)), "'classes'.*object"),
    ],
)
def test_save_refuses(tmp_path, extra, match):
    with pytest.raises(ValueError, match=match):
        draw_network(np.random.default_rng(24)).save(tmp_path / "net.npz", **extra)
    assert not (tmp_path / "net.npz").exists()


@pytest.mark.parametrize("name", ["file", "allow_pickle"])
def test_extra_arrays_named_like_an_argument_of_numpy(tmp_path, name):
    network = draw_network(np.random.default_rng(25))
    try:
        network.save(tmp_path / "net.npz", **{name: np.arange(3)})
    except ValueError as error:
        assert name in str(error)  # refused by name; anything else must be kept
        return
    with np.load(tmp_path / "net.npz") as file:
        assert file[name].tolist() == [0, 1, 2]


def bad_file(kind, path):
    arrays = draw_network(np.random.default_rng(26)).arrays
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hidden_weights = 1\n")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.arange(3.0))
    elif kind == "truncated":
        np.savez(path, **arrays)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "damaged":
        np.savez(path, **arrays)
        content = bytearray(path.read_bytes())
        content[150:170] = bytes(b ^ 255 for b in content[150:170])
        path.write_bytes(content)
    elif kind == "pickled":
        np.savez(path, **(arrays | dict(hidden_weights=np.array([[1.0], None], dtype=object))))
    elif kind == "lacks":
        np.savez(path, hidden_weights=np.ones((1, 1)), output_bias=0.0)
    elif kind == "half_a_gate":
        np.savez(path, **arrays, gate_weights=np.ones((7, 3)))
    elif kind == "shapes":
        np.savez(path, **(arrays | dict(hidden_biases=np.ones(4))))


@pytest.mark.parametrize(
    "kind", ["empty", "text", "npy", "truncated", "damaged", "pickled", "lacks", "half_a_gate", "shapes"]
)
def test_bad_files(tmp_path, kind):
    path = tmp_path / "bad.npz"
    bad_file(kind, path)
    with pytest.raises(ValueError, match=r"bad\.npz"):
        Network.load(path)
    gc.collect()  # a file left open is a ResourceWarning, hence an error, of this test and not of a later one


BAD_WEIGHTS = [
    (dict(hidden_weights=np.full((7, 3), np.nan)), "hidden_weights must be finite"),
    (dict(output_bias=np.inf), "output_bias must be finite"),
    (dict(hidden_weights=np.ones((7, 3), dtype=complex)), "hidden_weights must hold real .* complex128"),
    (dict(output_weights=np.full(7, "1")), "output_weights must hold real numbers, got dtype <U1"),
    (dict(output_weights=np.ones((7, 2, 2))), "shapes"),
    (dict(output_weights=np.ones(6)), "shapes .*output_weights"),
    (dict(output_weights=np.ones(())), "shapes"),
    (dict(output_weights=np.ones((7, 0))), "shapes"),
    (dict(hidden_weights=np.ones(7)), "shapes"),
    (dict(hidden_weights=np.ones((7, 0))), "shapes"),
    (dict(output_bias=np.ones(2)), "shapes .*output_bias"),
    (dict(skip_weights=np.ones(2)), "shapes .*skip_weights"),
    (dict(hidden_bias="none at all"), "hidden_bias must be 'penalized' or 'free', got 'none at all'"),
    (dict(hidden_bias=np.ones(3)), "hidden_bias must be"),
    (dict(feature_penalty=np.array([1.0, -1.0, 0.0])), "feature_penalty must not be negative, got -1"),
    (dict(feature_penalty=np.ones(2)), "shapes .*feature_penalty"),
]


@pytest.mark.parametrize("wrong, match", BAD_WEIGHTS)
def test_bad_weights_in_a_file(tmp_path, wrong, match):
    arrays = draw_network(np.random.default_rng(26)).arrays
    np.savez(tmp_path / "bad.npz", **(arrays | wrong))
    with pytest.raises(ValueError, match=rf"bad\.npz is not a saved network: .*{match}"):
        Network.load(tmp_path / "bad.npz")


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    network = draw_network(np.random.default_rng(27))
    network.save(tmp_path / "net.npz")

    def full(file, **arrays):
        file.write(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    for name in ("net", "new"):
        with pytest.raises(OSError, match="no space"):
            network.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    assert Network.load(tmp_path / "net.npz").n_neurons == 7


def test_the_message_for_a_file_without_weights_lists_them(tmp_path):
    bad_file("lacks", tmp_path / "bad.npz")
    with pytest.raises(ValueError, match=r"lacks .*'hidden_biases', 'output_weights'"):
        Network.load(tmp_path / "bad.npz")


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    "kind, n_outputs, m, text",
    [
        ("relu", None, 7, "Network(7 ReLU neurons, 3 features, 1 output)"),
        ("relu", 3, 1, "Network(1 ReLU neuron, 3 features, 3 outputs)"),
        ("gated_relu", None, 0, "Network(0 gated ReLU neurons, 3 features, 1 output)"),
    ],
)
def test_repr(kind, n_outputs, m, text):
    assert repr(draw_network(np.random.default_rng(27), kind, n_outputs, m)) == text


# ---------------------------------------------------------------------------------------------------------------------
# Summary


def read_side(text, names):
    """Coefficients of "0.8 dose - 0.6 age"."""
    u = np.zeros(len(names))
    for sign, size, name in re.findall(r"(?:^|([+-]) ?)(-?[\d.e-]+) (\w+)", text):
        u[names.index(name)] = float(size) * (-1 if sign == "-" else 1)
    return u


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_the_summary_can_be_computed_with(n_outputs, skip, gated):
    """Whoever reads constants, linear terms and table gets the predictions, up to the digits printed."""
    rng = np.random.default_rng([n_outputs, skip, gated])
    shape = (3,) if n_outputs == 1 else (3, n_outputs)
    fed = rng.standard_normal((7,) + shape[1:]) * (1 if n_outputs == 1 else np.eye(3)[rng.integers(0, 3, 7)])
    W, b = rng.standard_normal((7, 3)), rng.standard_normal(7)
    W[0], b[0] = 0.0, 0.7  # a constant
    gates = (rng.standard_normal((7, 3)), rng.standard_normal(7)) if gated else (None, None)
    constant = rng.standard_normal(shape[1:])[()]
    network = Network(W, b, fed, constant, *gates, skip_weights=rng.standard_normal(shape) if skip else None)
    names = ["age", "dose", "weight"]
    X = rng.standard_normal((30, 3))
    active = network.count_active(X)
    lines = network.summary(active, feature_names=names, max_neurons=7).splitlines()
    assert lines[0] == repr(network)
    read = np.zeros((30, n_outputs))
    read += [float(line.split(": ")[1]) for line in lines if line.startswith("constant")]
    if skip:
        read += X @ np.array([read_side(line.split(": ")[1], names) for line in lines if line.startswith("linear")]).T
    table = lines[[line.startswith("each neuron") for line in lines].index(True) + 1 :]
    assert len(table) == 8
    shares, counts = [], []
    for row in table[1:]:
        share, count, slope, condition = re.fullmatch(r" *([\d.e+]+) % +(\d+) +([-+][\d.e-]+) +(.*)", row).groups()
        shares.append(float(share))
        counts.append(int(count))
        # A column for each output, and the slope ends where the title of its column does.
        end = row.index(slope) + len(slope)
        titles = re.finditer(r"slope|output \d", table[0])
        output = next(i for i, title in enumerate(titles) if title.end() == end)
        if gated:
            linear, offset, gate = re.fullmatch(r"\((.*) ([+-] [\d.e-]+)\) where (.*)", condition).groups()
            u, offset = read_side(linear, names), -float(offset.replace(" ", ""))
            left, right = gate.split(" > ")
            on = X @ read_side(left, names) > float(right)
        else:
            linear, offset = condition.split(" > ")
            u, offset = read_side(linear, names), float(offset)
            on = X @ u + (0 if u.any() else float(linear)) > offset
        value = X @ u - offset if u.any() else np.full(30, float(linear))
        read[:, output] += float(slope) * on * value
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=2)
    before = X @ W.T + b
    on = (before > 0) if not gated else (X @ gates[0].T + gates[1] >= 0)
    assert counts == on.sum(axis=0)[np.argsort(-network.path_norms)].tolist()
    far = np.abs(read - network.predict(X).reshape(30, n_outputs)).max(axis=1)
    # Two digits of a gate can put a row on its other side.
    assert np.quantile(far, 0.8) < 0.2 and np.median(far) < 0.1


def test_summary_shortens_and_names():
    rng = np.random.default_rng(0)
    network = Network(rng.standard_normal((5, 6)), np.zeros(5), rng.standard_normal(5))
    text = network.summary(max_neurons=2, max_weights=3, classes=["bad", "good"])
    assert "constant: 0 (a positive sum means good)" in text
    assert text.splitlines()[-1].endswith("%  3 more neurons") and text.count("+ ... > 0") == 2
    assert all(f"x{i}" in network.summary(max_weights=6) for i in range(6))
    assert "100 %" in Network(np.ones((1, 2)), np.zeros(1), np.ones(1)).summary()
    empty = Network(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 1.5)
    assert empty.summary(empty.count_active(np.ones((3, 2)))).splitlines() == [repr(empty), "constant: 1.5"]


def test_rows_on_a_hyperplane_are_not_active():
    network = Network(np.array([[3.0]]), np.array([-0.3]), np.array([1.0]))
    X = np.array([[0.1], [1.0], [0.0]])
    assert network.hidden(X)[0, 0] != 0  # rounding
    assert network.count_active(X).tolist() == [1]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(feature_names=["a"]), "feature_names must have 2 names.* got 1"),
        (dict(classes=["a"]), "classes must have 2 labels, got 1"),
        (dict(n_active=[1]), r"n_active must have shape \(3,\), got \(1,\)"),
        (dict(max_neurons=0), "max_neurons and max_weights must be at least 1, got 0 and 4"),
        (dict(max_weights=-1), "max_neurons and max_weights must be at least 1, got 10 and -1"),
    ],
)
def test_summaries_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Network(np.ones((3, 2)), np.zeros(3), np.ones(3)).summary(**options)
