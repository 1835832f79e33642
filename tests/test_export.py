"""Export: other software predicts what the network predicts, and files say what they are."""

import importlib.util
import json
import pickle
import re
import subprocess
import sys

import joblib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import safetensors
import safetensors.numpy
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import convexnn
from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    certify,
    cli,
    network_from,
)
from convexnn.export import load_safetensors, save_safetensors, to_onnx, to_sklearn, to_torch
from convexnn.losses import LOSSES, Huber, Quantile

#: Rounding relative to the terms that are added up.
BARS = {"float64": 1e-12, "float32": 1e-6}
# Features, neurons, outputs, skip connection, hidden biases, whether neurons are gated.
SHAPES = [
    (d, m, k, skip, bias, gated)
    for d, m, k, skip, bias, gated in [
        (1, 0, 1, False, "penalized", False),
        (1, 0, 3, True, "penalized", False),
        (2, 0, 1, True, "free", False),
        (4, 0, 3, False, "none", False),
        (3, 1, 1, False, "none", False),
        (2, 1, 3, False, "free", False),
        (1, 7, 1, False, "free", False),
        (5, 4, 1, True, "penalized", False),
        (6, 5, 3, True, "none", False),
        (2, 30, 3, False, "penalized", False),
        (6, 12, 2, True, "free", False),
        (3, 0, 1, False, "penalized", True),
        (4, 6, 1, True, "penalized", True),
        (2, 5, 3, False, "none", True),
    ]
]
PLAIN = [shape for shape in SHAPES if not shape[-1]]


def draw(shape, rng):
    """A network of the shape, and data whose gates are not near zero (rounding would open or close them)."""
    d, m, k, skip, bias, gated = shape
    outputs = () if k == 1 else (k,)
    weights, gates = rng.standard_normal((2, m, d))
    biases, gate_biases = rng.standard_normal((2, m)) * (bias != "none")
    network = Network(
        weights,
        biases,
        rng.standard_normal((m, *outputs)),
        rng.standard_normal(outputs) if k > 1 else float(rng.standard_normal()),
        gate_weights=gates if gated else None,
        gate_biases=gate_biases if gated else None,
        skip_weights=rng.standard_normal((d, *outputs)) if skip else None,
        hidden_bias="free" if bias == "free" else "penalized",
    )
    X = rng.standard_normal((200, d)).astype(np.float32).astype(float)
    if gated:
        X = X[(np.abs(X @ gates.T + gate_biases) > 1e-3).all(axis=1)]
    return network, X


def scores(network, X):
    """The formula of Network's docstring in scalar loops, and the scale of its terms."""
    k = network.n_outputs
    out, size = np.zeros((len(X), k)), np.zeros((len(X), k))
    A, S = network.output_weights.reshape(-1, k), network.skip_weights
    for i, x in enumerate(X):
        terms = [np.broadcast_to(network.output_bias, (k,))]
        for j in range(network.n_neurons):
            value = float(network.hidden_weights[j] @ x + network.hidden_biases[j])
            gated = network.gate_weights is not None
            on = network.gate_weights[j] @ x + network.gate_biases[j] >= 0 if gated else value > 0
            terms.append(value * A[j] if on else 0 * A[j])
        if S is not None:
            terms += [x[j] * S.reshape(-1, k)[j] for j in range(len(x))]
        out[i], size[i] = np.sum(terms, axis=0), np.sum(np.abs(terms), axis=0)
    return out, 1 + size


def run(model, X, dtype="float64"):
    """Outputs by name of an ONNX model or file."""
    session = onnxruntime.InferenceSession(
        model if isinstance(model, str) else model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("X", ["n_samples", X.shape[1]])]
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X.astype(dtype)})))


def metadata(model):
    return {each.key: each.value for each in model.metadata_props}


def same(a, b):
    """The same weights, bitwise, and nothing else."""
    assert type(a) is type(b) and vars(a).keys() == vars(b).keys()
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert isinstance(value, np.ndarray) == isinstance(other, np.ndarray), name
        if isinstance(value, np.ndarray):
            assert value.dtype == other.dtype and value.shape == other.shape, name
            assert value.tobytes() == other.tobytes(), name
        else:
            assert value == other, name


@pytest.fixture(params=range(len(SHAPES)), ids=lambda i: "-".join(map(str, SHAPES[i])))
def any_network(request):
    return draw(SHAPES[request.param], np.random.default_rng(request.param))


@pytest.fixture(params=range(len(PLAIN)), ids=lambda i: "-".join(map(str, PLAIN[i])))
def plain_network(request):
    return draw(PLAIN[request.param], np.random.default_rng(100 + request.param))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((60, 3))
    z = np.abs(X[:, 0]) - X[:, 1] + 0.3 * rng.standard_normal(60)
    return X, z, np.array(["low", "mid", "top"])[np.digitize(z, [0.0, 1.0])]


FITS = {
    "regressor": (ConvexReLURegressor, {}, None),
    "skip": (ConvexReLURegressor, dict(skip_connection=True, hidden_bias="free", loss="huber"), None),
    "no neuron": (ConvexReLURegressor, dict(alpha=1e6), None),
    "two classes": (ConvexReLUClassifier, dict(hidden_bias="none"), 2),
    "softmax": (ConvexReLUClassifier, dict(skip_connection=True, alpha=1.0), 3),
    "squared hinge": (ConvexReLUClassifier, dict(loss="squared_hinge"), 2),
    "constant classes": (ConvexReLUClassifier, dict(alpha=1e6), 3),
}


@pytest.fixture(scope="module")
def fits(data):
    """Fitted estimators and the data with column names."""
    X, z, classes = data
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    made = {}
    for name, (estimator, options, n_classes) in FITS.items():
        y = z if n_classes is None else classes if n_classes == 3 else np.where(classes == "low", "low", "not low")
        made[name] = estimator(patterns="sampled", n_patterns=30, random_state=0, **options).fit(frame, y), y
    return frame, made


# scikit-learn


def test_sklearn_regression(plain_network):
    network, X = plain_network
    expected, size = scores(network, X)
    model = to_sklearn(network)
    assert type(model) is MLPRegressor
    found = model.predict(X)
    assert found.shape == (expected.shape if network.n_outputs > 1 else (len(X),))
    assert np.max(np.abs(found.reshape(expected.shape) - expected) / size) < 1e-12
    assert model.n_features_in_ == X.shape[1] and not hasattr(model, "feature_names_in_")
    assert model.n_outputs_ == network.n_outputs and model.n_layers_ == 3 and model.out_activation_ == "identity"
    assert [W.shape for W in model.coefs_] == [
        (X.shape[1], *model.hidden_layer_sizes),
        (*model.hidden_layer_sizes, network.n_outputs),
    ]
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), found)
    back, _ = scores(network_from(model), X)
    assert np.max(np.abs(back - expected) / size) < 1e-12


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"], [True, False], [-3, 8], ["no", "yes"]], ids=str)
@pytest.mark.parametrize("m", [0, 1, 9])
def test_sklearn_classification(labels, m):
    rng = np.random.default_rng(m)
    k = len(labels) if len(labels) > 2 else 1
    network, X = draw((3, m, k, m != 1, "penalized", False), rng)
    labels = np.unique(labels)
    z, size = scores(network, X)
    model = to_sklearn(network, classes=labels)
    assert type(model) is MLPClassifier and np.array_equal(model.classes_, labels)
    p = softmax(z, axis=1) if k > 1 else np.hstack([expit(-z), expit(z)])
    # Probabilities move by at most half of what scores do.
    assert np.max(np.abs(model.predict_proba(X) - p) / size.max(axis=1, keepdims=True)) < 1e-12
    assert np.array_equal(model.predict(X), labels[p.argmax(axis=1)])
    assert model.predict(X).dtype == labels.dtype
    assert model.score(X, labels[p.argmax(axis=1)]) == 1.0


def test_sklearn_is_deterministic_and_leaves_random_numbers_alone():
    network, _ = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = to_sklearn(network, alpha=0.5), to_sklearn(network, alpha=0.5)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert pickle.dumps(a) == pickle.dumps(b)
    assert a.alpha == 0.5 and "lbfgs" in repr(a) and clone(a).get_params() == a.get_params()
    assert a.t_ == 0 and a.loss_curve_ == [] and np.isnan(a.loss_)


def test_sklearn_owns_its_weights():
    network, X = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))
    model, before = to_sklearn(network), network.predict(X)
    for weights in (*model.coefs_, *model.intercepts_):
        weights += 1.0
    assert np.array_equal(network.predict(X), before)


# At the optimum neurons have samples on their kinks, where L-BFGS gives up its line search.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lbfgs_goes_on_from_the_optimum(data):
    """With free biases scikit-learn minimises our objective over n: at the optimum there is nothing to gain."""
    X, z = data[0][:20], data[1][:20]
    model = ConvexReLURegressor(alpha=2.0, hidden_bias="free", tol=1e-9, random_state=0).fit(X, z)
    mlp = model.to_sklearn().set_params(warm_start=True, tol=1e-7).fit(X, z)
    assert abs(mlp.loss_ * len(X) / model.certificate_.objective - 1) < 1e-6
    assert np.allclose(mlp.predict(X), model.predict(X), atol=1e-3)


@pytest.mark.parametrize("name", ["regressor", "two classes", "softmax"])
def test_adam_goes_on(fits, name):
    frame, made = fits
    model, y = made[name]
    mlp = model.to_sklearn().set_params(solver="adam", learning_rate_init=1e-9)
    before = [weights.copy() for weights in mlp.coefs_]
    mlp.partial_fit(frame, y).partial_fit(frame, y)
    assert mlp.t_ == 2 * len(y) and len(mlp.loss_curve_) == 2 and np.isfinite(mlp.loss_)
    # Adam's steps are at most the learning rate in size.
    moved = max(np.abs(a - b).max() for a, b in zip(before, mlp.coefs_))
    assert 0 < moved < 1e-8


# ONNX


@pytest.mark.parametrize("dtype", BARS)
def test_onnx_regression(any_network, dtype):
    network, X = any_network
    expected, size = scores(network, X)
    model = to_onnx(network, dtype=dtype)
    onnx.checker.check_model(model, full_check=True)
    found = run(model, X, dtype)
    assert list(found) == ["prediction"] and found["prediction"].dtype == dtype
    assert found["prediction"].shape == network.predict(X).shape
    assert np.max(np.abs(found["prediction"].reshape(expected.shape) - expected) / size) < BARS[dtype]
    assert run(model, X[:1], dtype)["prediction"].shape == network.predict(X[:1]).shape
    kept = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    if network.n_neurons:
        assert np.array_equal(kept["hidden_weights"], network.hidden_weights.astype(dtype))


def test_onnx_gates_are_open_at_zero():
    network = Network(np.ones((1, 1)), np.ones(1), np.ones(1), 0.0, np.zeros((1, 1)), np.zeros(1))
    assert run(to_onnx(network), np.array([[2.0], [-3.0]]))["prediction"].tolist() == [3.0, -2.0]


LABELS = {
    "int64": (np.array([2, 5, 11]), np.int64),
    "int8": (np.array([-1, 3], dtype=np.int8), np.int64),
    "text": (np.array(["blue", "grün", "red"]), str),
    "objects": (np.array(["no", "yes"], dtype=object), str),
    "bool": (np.array([False, True]), bool),
    "double": (np.array([0.0, 1.0, 2.0]), np.float64),
}


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("shape", [(3, 0, False), (2, 6, False), (4, 5, True)], ids=str)
def test_onnx_classification(labels, dtype, shape):
    labels, kind = LABELS[labels]
    d, m, gated = shape
    k = len(labels) if len(labels) > 2 else 1
    network, X = draw((d, m, k, m == 6, "penalized", gated), np.random.default_rng(m))
    z, size = scores(network, X)
    found = run(to_onnx(network, classes=labels, dtype=dtype), X, dtype)
    assert list(found) == ["label", "probabilities"] and found["probabilities"].dtype == dtype
    p = softmax(z, axis=1) if k > 1 else np.hstack([expit(-z), expit(z)])
    error = np.abs(found["probabilities"] - p) / size.max(axis=1, keepdims=True)
    assert found["probabilities"].shape == p.shape and error.max() < BARS[dtype]
    assert all(isinstance(label, kind) for label in found["label"].tolist()) or found["label"].dtype == kind
    # Where two classes are as good as equal rounding decides.
    clear = np.diff(np.sort(p, axis=1)[:, -2:], axis=1)[:, 0] > 1e-4
    assert np.array_equal(found["label"][clear], labels[p.argmax(axis=1)][clear])
    assert clear.sum() > 100 or not m


def test_onnx_ties_are_broken_as_by_the_estimators():
    zero = Network(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert run(to_onnx(zero, classes=["a", "b"]), np.zeros((2, 2)))["label"].tolist() == ["a", "a"]
    assert to_sklearn(zero, classes=["a", "b"]).predict(np.zeros((2, 2))).tolist() == ["a", "a"]
    zero = Network(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)), np.array([0.0, 1.0, 1.0]))
    assert run(to_onnx(zero, classes=[4, 5, 6]), np.zeros((2, 2)))["label"].tolist() == [5, 5]


@pytest.mark.parametrize(
    "loss", [name for name, loss in LOSSES.items() if loss.target == "signs" and name != "log_loss"]
)
def test_losses_without_probabilities(loss):
    network, X = draw((2, 6, 1, False, "penalized", False), np.random.default_rng(0))
    z, size = scores(network, X)
    labels = np.array(["in", "out"])
    found = run(to_onnx(network, loss=loss, classes=labels), X)
    assert list(found) == ["label", "scores"] and found["scores"].shape == (len(X),)
    assert np.max(np.abs(found["scores"] - z[:, 0]) / size[:, 0]) < 1e-12
    assert np.array_equal(found["label"], labels[(z[:, 0] > 0).astype(int)])
    with pytest.warns(UserWarning, match=f"predict_proba.*{loss}"):
        model = to_sklearn(network, loss=loss, classes=labels)
    assert np.array_equal(model.predict(X), found["label"])


def test_onnx_takes_raw_features(tmp_path, data):
    """Scaler and network in one file; an exported MLP takes the network's place after the scaler."""
    X, z, _ = data
    raw = X * [1.0, 1e3, 1e-3] + [5.0, -2e3, 0.0]
    pipeline = make_pipeline(StandardScaler(), ConvexReLURegressor(patterns="sampled", n_patterns=30, random_state=0))
    expected = pipeline.fit(raw, z).predict(raw)
    scaler, model = pipeline
    path = tmp_path / "raw.onnx"
    to_onnx(model.network_.for_raw_inputs(scaler.mean_, scaler.scale_), path, certificate=model.certificate_)
    assert np.allclose(run(str(path), raw)["prediction"], expected, rtol=0, atol=1e-11)
    assert metadata(onnx.load(path))["alpha"] == repr(model.alpha_)
    exported = make_pipeline(scaler, model.to_sklearn())
    assert np.allclose(exported.predict(raw), expected, rtol=0, atol=1e-12)


def test_onnx_metadata(data):
    X, z, _ = data
    model = ConvexReLURegressor(alpha=1.0, loss=Huber(delta=0.7), hidden_bias="none", patterns="exact").fit(
        X[:12], z[:12]
    )
    said, certificate = metadata(model.to_onnx()), model.certificate_
    assert certificate.scope == "global"
    assert said["convexnn_version"] == convexnn.__version__ and said["loss"] == "huber" and said["delta"] == "0.7"
    assert said["hidden_bias"] == "none" and said["fit_intercept"] == "true"
    for name in ("alpha", "objective", "lower_bound", "relative_gap"):
        assert float(said[name]) == getattr(certificate, name)
    assert said["scope"] == "global" and said["method"] == certificate.method
    assert said["certificate"] == str(certificate)
    assert "classes" not in said and "feature_names" not in said
    network = model.network_
    said = metadata(
        to_onnx(network, loss=Quantile(0.9), feature_names=["a", "b", "ü"], note="mine", year=np.int64(2026))
    )
    assert said["loss"] == "quantile" and said["q"] == "0.9" and said["note"] == "mine" and said["year"] == "2026"
    assert json.loads(said["feature_names"]) == ["a", "b", "ü"] and said["hidden_bias"] == "penalized"
    unproved = certify(network, X, z, alpha=1.0, max_time=0.0)
    assert float(metadata(to_onnx(network, certificate=unproved))["lower_bound"]) == unproved.lower_bound


# safetensors


def test_safetensors(any_network, tmp_path):
    network, _ = any_network
    path = tmp_path / "m.safetensors"
    save_safetensors(network, path, note="mine", loss=Huber(), classes=np.array([1, 2]))
    same(load_safetensors(path), network)
    with safetensors.safe_open(path, "np") as file:
        said = file.metadata()
        assert said["note"] == "mine" and said["loss"] == "huber" and said["delta"] == "1.35"
        assert said["classes"] == "[1, 2]" and said["hidden_bias"] == network.hidden_bias
        assert np.array_equal(file.get_tensor("hidden_weights"), network.hidden_weights)


def test_safetensors_of_transposed_weights(tmp_path):
    weights = np.arange(6.0).reshape(2, 3).T
    network = Network(weights, np.zeros(3), np.ones(6)[::2])
    save_safetensors(network, tmp_path / "m.safetensors")
    assert np.array_equal(load_safetensors(tmp_path / "m.safetensors").hidden_weights, weights)


def test_bad_safetensors(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match=r"m\.safetensors"):
        load_safetensors(path)
    path.write_bytes(b"PK not this format")
    with pytest.raises(ValueError, match=r"not a \.safetensors file"):
        load_safetensors(path)
    safetensors.numpy.save_file({"weight": np.ones(2)}, path)
    with pytest.raises(ValueError, match=r"lacks.*hidden_weights"):
        load_safetensors(path)
    wrong = dict(
        hidden_weights=np.ones((2, 3)), hidden_biases=np.ones(3), output_weights=np.ones(2), output_bias=np.ones(())
    )
    safetensors.numpy.save_file(wrong, path)
    with pytest.raises(ValueError, match="shapes"):
        load_safetensors(path)
    good = wrong | dict(hidden_biases=np.ones(2))
    for weights, metadata, words in (
        (good | dict(hidden_weights=np.full((2, 3), np.nan)), {}, "hidden_weights must be finite"),
        (good | dict(feature_penalty=-np.ones(3)), {}, "feature_penalty must not be negative"),
        (good, {"hidden_bias": "some"}, "hidden_bias must be 'penalized' or 'free', got 'some'"),
    ):
        safetensors.numpy.save_file(weights, path, metadata)
        with pytest.raises(ValueError, match=words):
            load_safetensors(path)


# torch


@pytest.mark.parametrize("dtype", BARS)
def test_torch(plain_network, dtype):
    torch = pytest.importorskip("torch")
    network, X = plain_network
    expected, size = scores(network, X)
    state = torch.random.get_rng_state()
    model = to_torch(network, dtype=dtype)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [type(layer) for layer in model] == [torch.nn.Linear, torch.nn.ReLU, torch.nn.Linear]
    found = model(torch.from_numpy(X.astype(dtype))).detach().numpy()
    assert found.dtype == dtype and found.shape == expected.shape
    assert np.max(np.abs(found - expected) / size) < BARS[dtype]
    if network.skip_weights is None and network.n_neurons and dtype == "float64":
        back = network_from(model)
        assert np.array_equal(back.hidden_weights, network.hidden_weights)
        assert np.array_equal(back.output_weights, network.output_weights)
    assert all(weights.requires_grad for weights in model.parameters())


def test_torch_owns_its_weights_and_takes_dtypes():
    torch = pytest.importorskip("torch")
    network, X = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))
    before = network.predict(X)
    for dtype in (torch.float64, np.float32, np.dtype("float64")):
        model = to_torch(network, dtype=dtype)
        assert str(model[0].weight.dtype).removeprefix("torch.") in str(dtype)
        with torch.no_grad():
            model[0].weight += 1.0
    assert np.array_equal(network.predict(X), before)


# Methods of the estimators


@pytest.mark.parametrize("name", FITS)
def test_methods(fits, name, tmp_path):
    frame, made = fits
    model, y = made[name]
    X, probabilistic = frame.to_numpy(), hasattr(model, "predict_proba")
    if name == "squared hinge":
        with pytest.warns(UserWarning, match="squared_hinge"):
            mlp = model.to_sklearn()
    else:
        mlp = model.to_sklearn()
    assert mlp.alpha == model.alpha_ and mlp.feature_names_in_.tolist() == ["a", "b", "c"]
    predicted = model.predict(frame)
    found = run(model.to_onnx(tmp_path / "m.onnx"), X)
    if isinstance(model, ConvexReLURegressor):
        assert np.allclose(mlp.predict(frame), predicted, rtol=0, atol=1e-12)
        assert np.allclose(found["prediction"], predicted, rtol=0, atol=1e-12)
    else:
        assert np.array_equal(mlp.predict(frame), predicted) and np.array_equal(found["label"], predicted)
        assert np.array_equal(mlp.classes_, model.classes_)
        if probabilistic:
            assert np.allclose(mlp.predict_proba(frame), model.predict_proba(frame), rtol=0, atol=1e-12)
            assert np.allclose(found["probabilities"], model.predict_proba(frame), rtol=0, atol=1e-12)
    assert mlp.score(frame, y) == pytest.approx(model.score(frame, y), abs=1e-12)
    model.to_safetensors(tmp_path / "m.safetensors")
    same(load_safetensors(tmp_path / "m.safetensors"), model.network_)
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        said = file.metadata()
    assert said == metadata(onnx.load(tmp_path / "m.onnx"))
    assert json.loads(said["feature_names"]) == ["a", "b", "c"] and said["loss"] == model.certificate_.loss.name
    assert said["hidden_bias"] == model.hidden_bias and float(said["objective"]) == model.certificate_.objective
    assert json.loads(said.get("classes", "null")) == (model.classes_.tolist() if "classes" in said else None)
    assert ("classes" in said) == isinstance(model, ConvexReLUClassifier)
    assert run(model.to_onnx(dtype="float32"), X, "float32").keys() == found.keys()


@pytest.mark.parametrize("name", FITS)
def test_torch_method(fits, name):
    torch = pytest.importorskip("torch")
    frame, made = fits
    model, _ = made[name]
    z = model.predict(frame) if isinstance(model, ConvexReLURegressor) else model.decision_function(frame)
    out = model.to_torch()(torch.tensor(frame.to_numpy())).detach().numpy()
    assert np.allclose(out, z.reshape(len(z), -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["to_sklearn", "to_torch", "to_onnx", "to_safetensors"])
def test_methods_need_a_fit(method):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        getattr(ConvexReLURegressor(), method)(*(["m.safetensors"] if method == "to_safetensors" else []))


# Errors


def test_gates_stay_at_home():
    network, X = draw((2, 5, 1, False, "penalized", True), np.random.default_rng(0))
    for export in (to_sklearn, to_torch):
        with pytest.raises(ValueError, match=r"gates.*to_relu\(X\)"):
            export(network)
    relu, _ = network.to_relu(X)
    assert np.allclose(to_sklearn(relu).predict(X), relu.predict(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("export", [to_sklearn, to_onnx])
@pytest.mark.parametrize(
    "k, options, words",
    [
        (1, dict(loss="squared", classes=[0, 1]), ["classes", "squared", "regression"]),
        (1, dict(classes=[0, 1, 2]), ["classes", "2 distinct labels", "[0, 1, 2]"]),
        (3, dict(classes=["b", "a", "c"]), ["3 distinct labels in sorted order", "3 outputs"]),
        (3, dict(classes=["a", "a", "b"]), ["3 distinct labels"]),
        (3, dict(loss="hinge"), ["hinge", "one output"]),
        (1, dict(loss="nonsense"), ["loss", "nonsense", "squared"]),
        (1, dict(feature_names=["a"]), ["feature_names", "2 names", "got 1"]),
    ],
)
def test_what_does_not_fit(export, k, options, words):
    network, _ = draw((2, 3, k, False, "penalized", False), np.random.default_rng(0))
    with pytest.raises(ValueError) as error:
        export(network, **options)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("export", [to_torch, to_onnx])
@pytest.mark.parametrize("dtype", ["float16", float, "double", None])
def test_other_dtypes(export, dtype):
    network, _ = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))
    with pytest.raises(ValueError, match="dtype must be 'float64' or 'float32'"):
        export(network, dtype=dtype)


def test_onnx_labels_of_another_kind():
    network, _ = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))
    days = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match=r"classes must be.*datetime64"):
        to_onnx(network, classes=days)


@pytest.mark.parametrize("package", ["torch", "onnx", "safetensors"])
def test_missing_packages_are_named(monkeypatch, package, tmp_path):
    network, _ = draw((2, 3, 1, False, "penalized", False), np.random.default_rng(0))

    class Nothing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nothing(), *sys.meta_path])
    export = dict(torch=to_torch, onnx=to_onnx, safetensors=lambda each: save_safetensors(each, tmp_path / "m"))[
        package
    ]
    with pytest.raises(ImportError, match=rf'needs {package}.*pip install "convexnn\[{package}\]"'):
        export(network)
    assert not (tmp_path / "m").exists()


# The command line


@pytest.fixture(scope="module")
def saved(tmp_path_factory, data):
    """Files of the command line: a regression network, one of three classes, one of a hinge loss, and plain arrays."""
    X, z, classes = data
    folder = tmp_path_factory.mktemp("saved")
    fast = ["--n-patterns", "20", "--tol", "1e-2", "--quiet", "--patterns", "sampled"]
    targets = {"number": z, "class": classes, "hinge": classes == "low"}
    for name, y in targets.items():
        frame = pd.DataFrame(X * [1, 100, 0.01] + [0, 50, 1], columns=["a", "b", "c"]).assign(y=y)
        frame.to_csv(folder / f"{name}.csv", index=False)
        loss = ["--loss", "squared_hinge"] if name == "hinge" else []
        argv = ["fit", folder / f"{name}.csv", "--target", "y", "--out", folder / f"{name}.npz", *fast, *loss]
        assert cli.main([str(each) for each in argv]) == 0
    rng = np.random.default_rng(0)
    np.savez(folder / "arrays.npz", W1=rng.standard_normal((3, 4)), W2=rng.standard_normal(4))
    return folder


def command(capsys, *argv):
    """The report of a command that succeeds: labels of 16 columns and their lines."""
    capsys.readouterr()
    assert cli.main([str(each) for each in argv]) == 0
    said, label = {}, ""
    for line in capsys.readouterr().out.splitlines():
        label = line[:16].strip() or label
        said[label] = f"{said[label]}\n{line[16:]}" if label in said else line[16:]
    return said


def fails(capsys, *argv, words):
    capsys.readouterr()
    try:
        code = cli.main([str(each) for each in argv])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and all(word in err for word in words), err


@pytest.mark.parametrize("name", ["number", "class", "hinge", "arrays"])
def test_command(capsys, tmp_path, saved, name):
    model, network = saved / f"{name}.npz", network_from(saved / f"{name}.npz")
    table = pd.read_csv(saved / f"{'number' if name == 'arrays' else name}.csv")
    X, z = table[["a", "b", "c"]], network.predict(table[["a", "b", "c"]])
    said = command(capsys, "export", model, "--out", tmp_path / "m.joblib")
    assert said["saved"] == str(tmp_path / "m.joblib")
    assert ("note" in said) == (name == "hinge")
    mlp = joblib.load(tmp_path / "m.joblib")
    command(capsys, "export", model, "--out", tmp_path / "m.onnx")
    found = run(str(tmp_path / "m.onnx"), X.to_numpy())
    command(capsys, "export", model, "--out", tmp_path / "m.safetensors")
    same(load_safetensors(tmp_path / "m.safetensors"), network)
    facts = metadata(onnx.load(tmp_path / "m.onnx"))
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        assert file.metadata().items() <= facts.items()
    if name in ("number", "arrays"):
        rows = X if name == "number" else X.to_numpy()
        size = 1 + np.abs(z).max()
        assert np.allclose(mlp.predict(rows), z, rtol=0, atol=1e-11 * size)
        assert np.allclose(found["prediction"], z, rtol=0, atol=1e-11 * size)
    else:
        assert command(capsys, "predict", model, saved / f"{name}.csv", "--out", tmp_path / "p.csv") == {}
        expected = pd.read_csv(tmp_path / "p.csv", dtype=str)["prediction"].to_numpy()
        assert (mlp.predict(X) == expected).all() and (found["label"] == expected).all()
        assert json.loads(facts["classes"]) == mlp.classes_.tolist()
    if name != "arrays":
        assert mlp.feature_names_in_.tolist() == ["a", "b", "c"] == json.loads(facts["feature_names"])
        gap = (float(facts["objective"]) - float(facts["lower_bound"])) / float(facts["objective"])
        assert float(facts["relative_gap"]) == pytest.approx(gap, rel=1e-6)
        assert facts["scope"] == "patterns" and facts["method"] and facts["certificate"].startswith("objective")
        assert mlp.alpha == float(facts["alpha"])


def test_command_dtype_and_format(capsys, tmp_path, saved):
    out = tmp_path / "model.bin"
    command(capsys, "export", saved / "number.npz", "--to", "onnx", "--dtype", "float32", "--out", out)
    assert onnx.load(out).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    if importlib.util.find_spec("torch"):
        import torch

        command(capsys, "export", saved / "number.npz", "--to", "torch", "--dtype", "float32", "--out", out)
        assert {each.dtype for each in torch.load(out, weights_only=True).values()} == {torch.float32}
    command(capsys, "export", saved / "number.npz", "--to", "safetensors", "--out", out)
    same(load_safetensors(out), Network.load(saved / "number.npz"))


def test_an_audited_network_can_be_exported(capsys, tmp_path, saved):
    options = ["--target", "y", "--max-time", "5", "--tol", "1e-3"]
    command(capsys, "audit", saved / "number.npz", saved / "number.csv", *options, "--out", tmp_path / "p.npz")
    command(capsys, "export", tmp_path / "p.npz", "--out", tmp_path / "p.onnx")
    facts = metadata(onnx.load(tmp_path / "p.onnx"))
    assert facts["scope"] == "global" and facts["method"] and facts["loss"] == "squared"


PREDICT = {
    "joblib": "model.predict_proba([[1.0, 2.0, 3.0]])",
    "pt": "torch.softmax(model(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)), 1)",
    "onnx": "model.run(['probabilities'], {'X': [[1.0, 2.0, 3.0]]})[0]",
    "safetensors": "__import__('scipy').special.softmax(model.predict([[1.0, 2.0, 3.0]]), axis=1)",
}


@pytest.mark.parametrize("ending", PREDICT)
@pytest.mark.slow
def test_the_printed_lines_load_the_file(capsys, tmp_path, saved, ending):
    if ending == "pt":
        pytest.importorskip("torch")
    said = command(capsys, "export", saved / "class.npz", "--out", tmp_path / f"m.{ending}")
    code = f"import warnings\nwarnings.simplefilter('ignore')\n{said['load with']}\nprint({PREDICT[ending]}.tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = softmax(Network.load(saved / "class.npz").predict([[1.0, 2.0, 3.0]]), axis=1)
    assert np.allclose(json.loads(done.stdout), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["number.npz"], ["--out"]),
        (["number.npz", "--out", "m.bin"], ["--to", "onnx", "m.bin"]),
        (["number.npz", "--out", "m.bin", "--to", "tflite"], ["--to", "tflite"]),
        (["number.npz", "--out", "m.joblib", "--dtype", "float32"], ["--dtype", "sklearn"]),
        (["number.npz", "--out", "m.onnx", "--dtype", "float16"], ["--dtype", "float16"]),
        (["number.npz", "--out", "none/m.onnx"], ["none/m.onnx"]),
        (["number.npz", "--out", "none/m.safetensors"], ["none/m.safetensors"]),
        (["number.npz", "--out", "none/m.joblib"], ["none/m.joblib"]),
        (["other.npz", "--out", "m.onnx"], ["other.npz"]),
        (["number.csv", "--out", "m.onnx"], ["number.csv", ".npz"]),
    ],
)
def test_command_errors(capsys, monkeypatch, saved, argv, words):
    monkeypatch.chdir(saved)
    fails(capsys, "export", *argv, words=words)


def test_command_without_a_package(capsys, monkeypatch, saved, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    fails(capsys, "export", saved / "number.npz", "--out", tmp_path / "m.onnx", words=['pip install "convexnn[onnx]"'])
    assert not re.search("onnx", " ".join(path.name for path in tmp_path.iterdir()))
