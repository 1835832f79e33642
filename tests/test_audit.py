"""Networks trained elsewhere: conversion keeps predictions, polishing never loses, the report says what is proved."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import cvxpy as cp
import numpy as np
import pytest
from scipy.special import expit, logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import (
    Certificate,
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    audit,
    network_from,
    polish,
)
from convexnn.losses import LOSSES

LOSS_NAMES = sorted(LOSSES)
KINDS = ("penalized", "free", "none")


def draw(rng, n=30, d=3):
    """Features, a target that bends, and three classes of text."""
    X = rng.standard_normal((n, d))
    y = np.abs(X[:, 0]) - X[:, 1] + 0.1 * rng.standard_normal(n)
    return X, y, np.array(["low", "mid", "top"])[np.digitize(y, np.quantile(y, [0.33, 0.67]))]


def random_network(rng, m=6, d=3, n_outputs=1, hidden_bias="penalized", skip=False, scale=1.0):
    columns = () if n_outputs == 1 else (n_outputs,)
    biases = np.zeros(m) if hidden_bias == "none" else scale * rng.standard_normal(m)
    return Network(
        scale * rng.standard_normal((m, d)),
        biases,
        scale * rng.standard_normal((m, *columns)),
        rng.standard_normal(columns) if columns else float(rng.standard_normal()),
        skip_weights=rng.standard_normal((d, *columns)) if skip else None,
        hidden_bias="free" if hidden_bias == "free" else "penalized",
    )


def mlp(kind, X, y, m=8, **options):
    """A fit of scikit-learn, converged or not."""
    options = dict(hidden_layer_sizes=(m,), solver="lbfgs", max_iter=200, random_state=0) | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**options).fit(X, y)


def torch_module(name, **attributes):
    """Looks like a torch module of that class."""
    return type(name, (SimpleNamespace,), {})(**attributes)


class Parameter:
    """A torch parameter in float32 as far as conversion sees it: NumPy only after detach and cpu."""

    def __init__(self, value):
        self.value = np.asarray(value, dtype=np.float32)

    def detach(self):
        return SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: self.value))


class Sequential:
    """Iterates over its modules, which is how torch's does too."""

    def __init__(self, modules):
        self.modules = modules

    def __iter__(self):
        return iter(self.modules)

    def named_children(self):
        return enumerate(self.modules)


def torch_like(W1, b1, W2, b2, kinds=("Linear", "ReLU", "Linear")):
    """torch keeps (out, in) matrices."""
    parameter = lambda value: None if value is None else Parameter(value)  # noqa: E731
    first = torch_module(kinds[0], weight=Parameter(W1.T), bias=parameter(b1))
    return Sequential(
        [first, torch_module(kinds[1]), torch_module(kinds[2], weight=Parameter(W2.T), bias=parameter(b2))]
    )


# Conversion


@pytest.mark.parametrize("n_targets", [1, 2])
def test_conversion_of_a_regressor(n_targets):
    rng = np.random.default_rng(0)
    X, y, _ = draw(rng)
    target = y if n_targets == 1 else np.column_stack([y, X[:, 0]])
    model = mlp(MLPRegressor, X, target)
    network = network_from(model)
    fresh = rng.standard_normal((50, 3))
    assert network.hidden_bias == "free"
    assert network.n_outputs == n_targets
    np.testing.assert_allclose(network.predict(fresh), model.predict(fresh), rtol=1e-12, atol=1e-12)
    assert network_from(model, hidden_bias="penalized").hidden_bias == "penalized"


@pytest.mark.parametrize("n_classes", [2, 3])
def test_conversion_of_a_classifier(n_classes):
    rng = np.random.default_rng(1)
    X, _, labels = draw(rng)
    labels = labels if n_classes == 3 else np.where(labels == "low", "low", "not low")
    model = mlp(MLPClassifier, X, labels, max_iter=20)
    fresh = rng.standard_normal((50, 3))
    scores = network_from(model).predict(fresh)
    found = softmax(scores, axis=1) if n_classes == 3 else np.column_stack([expit(-scores), expit(scores)])
    np.testing.assert_allclose(found, model.predict_proba(fresh), rtol=1e-12, atol=1e-12)


def test_conversion_of_arrays_and_torch():
    rng = np.random.default_rng(2)
    W1, b1, W2, b2 = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal((5, 2)), np.ones(2)
    X = rng.standard_normal((20, 3))

    def by_hand(W1, b1, W2, b2):
        return np.maximum(X @ W1 + b1, 0) @ W2 + b2

    np.testing.assert_allclose(network_from((W1, b1, W2, b2)).predict(X), by_hand(W1, b1, W2, b2), rtol=1e-13)
    np.testing.assert_allclose(network_from([W1, W2]).predict(X), by_hand(W1, 0, W2, 0), rtol=1e-13)
    column = network_from((W1, b1, W2[:, :1], [0.5]))
    vector = network_from((W1, b1, W2[:, 0], 0.5))
    assert column.n_outputs == vector.n_outputs == 1 and column.predict(X).shape == (20,)
    np.testing.assert_array_equal(column.predict(X), vector.predict(X))
    single = [value.astype(np.float32) for value in (W1, b1, W2, b2)]
    converted = network_from(torch_like(*single))
    assert converted.hidden_weights.dtype == float and converted.hidden_bias == "penalized"
    np.testing.assert_allclose(converted.predict(X), by_hand(*(v.astype(float) for v in single)), rtol=1e-13)
    bare = network_from(torch_like(single[0], None, single[2][:, :1], None))
    assert bare.n_outputs == 1 and not bare.hidden_biases.any() and bare.output_bias == 0
    # The weights are copies: training on does not change what was audited.
    W1[:] = 0
    assert vector.hidden_weights.any()


def test_conversion_of_torch():
    torch = pytest.importorskip("torch")
    for bias in (True, False):
        model = torch.nn.Sequential(torch.nn.Linear(3, 5, bias), torch.nn.ReLU(), torch.nn.Linear(5, 2, bias)).double()
        X = torch.randn(20, 3, dtype=torch.float64)
        np.testing.assert_allclose(network_from(model).predict(X.numpy()), model(X).detach().numpy(), rtol=1e-12)


def test_conversion_of_ours_and_of_files(tmp_path):
    rng = np.random.default_rng(3)
    X, y, _ = draw(rng)
    model = ConvexReLURegressor(0.5, hidden_bias="free", tol=1e-2).fit(X, y)
    assert network_from(model) is model.network_ and network_from(model.network_) is model.network_
    model.network_.save(tmp_path / "ours.npz", alpha=0.5)
    for path in (tmp_path / "ours.npz", str(tmp_path / "ours.npz")):
        loaded = network_from(path)
        assert loaded.hidden_bias == "free"
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    weights = dict(W1=rng.standard_normal((3, 4)), b1=rng.standard_normal(4), W2=rng.standard_normal(4), b2=0.25)
    np.savez(tmp_path / "arrays.npz", **weights)
    expected = network_from(tuple(weights.values())).predict(X)
    np.testing.assert_array_equal(network_from(tmp_path / "arrays.npz").predict(X), expected)


GOOD = (np.ones((3, 4)), np.ones(4), np.ones(4), 0.0)


def _deep():
    rng = np.random.default_rng(0)
    return mlp(MLPRegressor, *draw(rng)[:2], hidden_layer_sizes=(4, 4), max_iter=2)


def _multilabel():
    rng = np.random.default_rng(0)
    X = draw(rng)[0]
    return mlp(MLPClassifier, X, X[:, :2] > 0, max_iter=2)


def _poisson():
    model = mlp(MLPRegressor, *draw(np.random.default_rng(0))[:2], max_iter=2)
    model.out_activation_ = "exp"
    return model


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda: 3, ["model must be", "got 3"]),
        (lambda: None, ["model must be", "None"]),
        (lambda: MLPRegressor(), ["MLPRegressor()", "not fitted"]),
        (lambda: ConvexReLURegressor(), ["ConvexReLURegressor()", "not fitted"]),
        (lambda: make_pipeline(StandardScaler(), MLPRegressor()), ["model must be", "Pipeline"]),
        (_deep, ["one hidden layer", "got 2"]),
        (_multilabel, ["multilabel", "2 labels"]),
        (_poisson, ["identity, logistic or softmax", "'exp'"]),
        (lambda: mlp(MLPRegressor, *draw(np.random.default_rng(0))[:2], activation="tanh"), ["'relu'", "'tanh'"]),
        (lambda: GOOD[:3], ["W1, b1, W2, b2", "got 3 arrays"]),
        (lambda: (np.ones((3, 4)), np.ones(3), np.ones(4), 0.0), ["(n_features, n_hidden)", "(3, 4), (3,), (4,)"]),
        (lambda: (np.ones(3), np.ones(3)), ["(n_features, n_hidden)", "(3,)"]),
        (lambda: (np.ones((3, 4)), np.ones(4), np.ones((4, 2)), np.ones(3)), ["(4, 2) and (3,)"]),
        (lambda: (np.ones((3, 4)), np.ones(4), np.ones((4, 2, 2)), np.ones((2, 2))), ["(4, 2, 2)"]),
        (lambda: (np.ones((3, 4)), np.full(4, np.nan), np.ones(4), 0.0), ["finite", "b1"]),
        (lambda: Network(*(np.full((2, 3), np.inf), np.zeros(2), np.ones(2))), ["finite", "hidden_weights"]),
        (lambda: (np.array([["a"]]), np.ones(1)), ["numeric"]),
        (lambda: torch_like(*GOOD[:2], np.ones((4, 1)), None, ("Linear", "Tanh", "Linear")), ["'Tanh'"]),
        (lambda: Sequential([]), ["Sequential(Linear, ReLU, Linear)", "[]"]),
    ],
)
def test_what_cannot_be_converted(model, words):
    with pytest.raises(ValueError) as error:
        network_from(model())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_files_that_cannot_be_converted(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="is not an"):
        network_from(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", W1=np.ones((2, 2)))
    with pytest.raises(ValueError, match="lacks"):
        network_from(tmp_path / "other.npz")
    np.savez(tmp_path / "other.npz", W1=np.ones((2, 2), dtype=complex), W2=np.ones(2))
    with pytest.raises(ValueError, match=r"other\.npz: .*W1 must hold real numbers, got dtype complex128"):
        network_from(tmp_path / "other.npz")
    with pytest.raises(OSError, match="missing"):
        network_from(tmp_path / "missing.npz")


def test_hidden_bias_of_a_conversion():
    with pytest.raises(ValueError, match=r"hidden_bias must be .* 'some'"):
        network_from(GOOD, hidden_bias="some")
    with pytest.raises(ValueError, match="no hidden biases"):
        network_from(GOOD, hidden_bias="none")
    assert network_from((GOOD[0], GOOD[2]), hidden_bias="none").hidden_bias == "penalized"


def test_init_takes_what_the_audit_takes():
    X, y, _ = draw(np.random.default_rng(4))
    model = mlp(MLPRegressor, X, y, alpha=0.5)
    weights = (model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1])
    options = dict(tol=1e-6, random_state=0)
    first, second = (ConvexReLURegressor(0.5, init=init, **options).fit(X, y) for init in (model, weights))
    assert first.certificate_.objective == second.certificate_.objective
    with pytest.raises(ValueError, match=r"init .* one hidden layer, got 2"):
        ConvexReLURegressor(0.5, init=_deep()).fit(X, y)


def test_constants_survive_balancing():
    """A neuron without weights and with a free bias is a constant."""
    weights = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    network = Network(weights, np.array([0.5, 2.0, -2.0]), np.array([1.0, 3.0, 1.0]), 1.0, hidden_bias="free")
    X = np.random.default_rng(5).standard_normal((10, 2))
    np.testing.assert_allclose(network.balance().predict(X), network.predict(X), rtol=1e-14)
    assert network.balance().n_neurons == 1


# Polishing


def draw_labels(rng, loss, y):
    if LOSSES[loss].target == "real":
        return y
    return (
        np.sign(y - np.median(y) + 1e-9) if LOSSES[loss].target == "signs" else rng.permutation(np.arange(len(y)) % 3)
    )


@pytest.mark.parametrize("seed", range(180))
@pytest.mark.slow
def test_polish_is_never_worse_than_a_random_network(seed):
    rng = np.random.default_rng(seed)
    # Losses with kinks take a conic solver, and time.
    loss = ["hinge", "absolute", "quantile"][seed // 9 % 3] if seed % 9 == 0 else None
    loss = loss or rng.choice([name for name in LOSS_NAMES if np.isfinite(LOSSES[name].lipschitz)])
    kind, n_outputs = KINDS[seed % 3], 3 if loss == "multinomial_log_loss" else 1
    X, y, _ = draw(rng, n=int(rng.integers(8, 40)))
    y = draw_labels(rng, loss, y)
    skip, scale = bool(rng.random() < 0.2), 10.0 ** rng.uniform(-2, 1)
    network = random_network(rng, int(rng.integers(0, 30)), 3, n_outputs, kind, skip, scale)
    if rng.random() < 0.3:
        # Dead neurons, and neurons twice.
        network = network.select(np.arange(network.n_neurons) // 2)
        network.output_weights[::3] = 0.0
    if rng.random() < 0.3:
        X = np.round(X)
        X[0] = 0.0
    alpha = 10.0 ** rng.uniform(-3, 2)
    weights = None if rng.random() < 0.5 else rng.integers(0, 3, len(y)) + (np.arange(len(y)) == 0)
    if weights is not None and LOSSES[loss].target != "real":
        weights[np.unique(y, return_index=True)[1]] = 1
    options = dict(alpha=alpha, loss=str(loss), sample_weight=weights)
    polished = polish(network, X, y, hidden_bias=kind, max_time=0.3 if seed % 4 else 0.0, **options)
    before = network.objective(X, y, **options)
    assert polished.objective(X, y, **options) <= before
    assert polished.hidden_bias == network.hidden_bias
    assert kind != "none" or not polished.hidden_biases.any()
    assert (polished.skip_weights is None) == (network.skip_weights is None)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.slow
def test_polish_is_never_worse_than_a_trained_network(seed):
    rng = np.random.default_rng(seed)
    X, y, labels = draw(rng, n=40)
    alpha, steps = 10.0 ** rng.uniform(-3, 1), int(rng.choice([3, 30, 3000]))
    options = dict(alpha=alpha, max_iter=steps, solver=["lbfgs", "adam"][seed % 2], random_state=seed)
    if seed % 4 < 2:
        model, target, loss = mlp(MLPRegressor, X, y, int(rng.integers(1, 40)), **options), y, "squared"
    else:
        model, target, loss = (
            mlp(MLPClassifier, X, labels, 10, **options),
            np.unique(labels, return_inverse=True)[1],
            "log_loss",
        )
    network = network_from(model)
    polished = polish(network, X, target, alpha=alpha, loss=loss)
    assert polished.objective(X, target, alpha, loss) <= network.objective(X, target, alpha, loss)


def polished_by_cvxpy(network, X, y, alpha, loss, weights, kind, skip):
    """Optimum of the convex program over the network's patterns, written out."""
    d = X.shape[1]
    patterns = np.unique(X @ network.hidden_weights.T + network.hidden_biases >= 0, axis=1).T
    c, s = cp.Variable(), cp.Variable(d)
    z, penalty, constraints = c + (X @ s if skip else 0), 0, []
    for pattern in patterns:
        for sign in (1, -1):
            w, b = cp.Variable(d), cp.Variable()
            before = X @ w + b
            z = z + sign * cp.multiply(pattern, before)
            constraints.append(cp.multiply(2 * pattern - 1, before) >= 0)
            penalty = penalty + (cp.norm(cp.hstack([w, b])) if kind == "penalized" else cp.norm(w))
            constraints += [b == 0] if kind == "none" else []
    losses = 0.5 * cp.square(y - z) if loss == "squared" else cp.logistic(-cp.multiply(y, z))
    program = cp.Problem(cp.Minimize(weights @ losses + alpha * penalty), constraints)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return program.value


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("loss", ["squared", "log_loss"])
@pytest.mark.parametrize("kind", KINDS)
def test_polish_reaches_the_optimum_over_the_patterns(kind, loss, skip):
    rng = np.random.default_rng(6)
    X, y, _ = draw(rng, n=20)
    y = draw_labels(rng, loss, y)
    network = random_network(rng, 5, 3, 1, kind, skip)
    weights = rng.uniform(0.5, 2.0, 20)
    polished = polish(network, X, y, alpha=0.3, loss=loss, sample_weight=weights, hidden_bias=kind, tol=1e-8)
    expected = polished_by_cvxpy(network, X, y, 0.3, loss, weights, kind, skip)
    assert np.isclose(polished.objective(X, y, 0.3, loss, weights), expected, rtol=1e-6)
    allowed = {tuple(column) for column in (X @ network.hidden_weights.T + network.hidden_biases >= 0).T}
    before = X @ polished.hidden_weights.T + polished.hidden_biases
    for column in before.T:
        # A neuron on a sample's hyperplane has the pattern of either side.
        assert any(np.all(np.where(pattern, column, -column) > -1e-7) for pattern in np.array(list(allowed)))


def test_polish_refuses():
    X, y, _ = draw(np.random.default_rng(7))
    network = random_network(np.random.default_rng(7))
    gated = replace(network, gate_weights=network.hidden_weights, gate_biases=network.hidden_biases)
    cases = [
        (dict(network=gated), "gated"),
        (dict(X=X[:, :2]), "3 features, got 2"),
        (dict(y=y[:5]), "shape"),
        (dict(alpha=0.0), "alpha .* got 0"),
        (dict(alpha="auto"), "alpha .* 'auto'"),
        (dict(sample_weight=-np.ones(30)), "sample_weight"),
        (dict(sample_weight=np.zeros(30)), "sample_weight"),
        (dict(hidden_bias="none"), "no hidden biases"),
        (dict(fit_intercept=False), "output bias"),
        (dict(hidden_bias="free", fit_intercept=False), "needs fit_intercept=True"),
        (dict(loss="multinomial_log_loss"), "several outputs"),
        (dict(loss="cubic"), "cubic"),
        (dict(loss="log_loss", y=np.ones(30)), "each of 2 classes"),
        (dict(tol=-1.0), "tol .* got -1"),
        (dict(max_time=np.nan), "max_time .* got nan"),
    ]
    for changes, words in cases:
        arguments = dict(network=network, X=X, y=y, alpha=1.0) | changes
        with pytest.raises(ValueError, match=words):
            polish(**arguments)


# The report


@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_every_objective_is_above_the_bound(kind):
    """One feature and a bias: the complete list of patterns is short, so that bounds are tight."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((25, 1))
    y = np.abs(X[:, 0]) + 0.1 * rng.standard_normal(25)
    labels = np.array(["a", "b", "c"])[np.digitize(y, [0.5, 1.0])]
    labels = labels if kind == "three classes" else np.where(labels == "a", "a", "z")
    options = dict(alpha=0.05, max_iter=1000)
    model = mlp(MLPRegressor, X, y, **options) if kind == "regression" else mlp(MLPClassifier, X, labels, **options)
    target = y if kind == "regression" else labels
    report = audit(model, X, target, 0.05, improve=True, tol=1e-8)
    objectives = [report.objective, report.balanced_objective, report.polished_objective, report.improved_objective]
    if kind != "three classes":
        assert objectives == sorted(objectives, reverse=True)
        assert report.improved_objective <= report.lower_bound * (1 + 1e-3)
    assert 0 < report.lower_bound <= min(objectives) * (1 + 1e-9)
    assert report.gap == pytest.approx((report.objective - report.lower_bound) / report.objective)
    assert "at most" in report.verdict and "best two-layer ReLU network of any width" in report.verdict
    assert report.objective == pytest.approx(25 * model.loss_, rel=1e-10)
    coded = y if kind == "regression" else np.unique(labels, return_inverse=True)[1]
    loss = "squared" if kind == "regression" else "log_loss"
    assert report.improved.objective(X, coded, 0.05, loss) == pytest.approx(report.improved_objective, rel=1e-12)


def stub(bound, seen=None, scope="global"):
    """certify with a bound of one's own."""

    def certify(network, X, y, **options):
        if seen is not None:
            seen.append((network, X, y, options))
        return Certificate(1.0, bound, scope, "a stub", np.zeros(len(X)), 1.0, 0, "networks")

    return certify


@pytest.mark.parametrize("name", ["squared", "free", "none", "skip"])
def test_the_proof_is_about_the_same_problem(monkeypatch, name):
    """What certify gets: the best network, the samples that count, their coded targets, and all settings."""
    seen = []
    monkeypatch.setattr("convexnn.proofs.prove.certify", stub(-1.0, seen))
    rng = np.random.default_rng(9)
    X, y, _ = draw(rng)
    kind = name if name in KINDS else "penalized"
    network = random_network(rng, hidden_bias=kind, skip=name == "skip")
    weights = rng.integers(0, 3, 30)
    report = audit(network, X, y, 0.5, sample_weight=weights, hidden_bias=kind, max_time=60.0, random_state=5)
    ((best, rows, target, options),) = seen
    keep = weights > 0
    assert best is report.polished
    np.testing.assert_array_equal(rows, X[keep])
    np.testing.assert_array_equal(target, y[keep])
    np.testing.assert_array_equal(options["sample_weight"], weights[keep])
    assert options["hidden_bias"] == kind and options["alpha"] == 0.5 and options["loss"].name == "squared"
    assert options["fit_intercept"] is True and options["random_state"] == 5 and 0 < options["max_time"] <= 60
    expected = {"none": " without hidden biases", "skip": " with a skip connection"}.get(name, "")
    assert f"the best two-layer ReLU network{expected} of any width" in report.verdict


def test_neurons_that_feed_several_outputs(monkeypatch):
    """Their bound is that of separate neurons at alpha / sqrt(3)."""
    seen = []
    monkeypatch.setattr("convexnn.proofs.prove.certify", stub(1.0, seen))
    rng = np.random.default_rng(10)
    X, _, labels = draw(rng)
    shared = mlp(MLPClassifier, X, labels, alpha=1.0, max_iter=3000)
    report = audit(shared, X, labels, 1.0)
    assert seen[0][3]["alpha"] == pytest.approx(1 / np.sqrt(3), rel=1e-14)
    assert np.all((report.polished.output_weights != 0).sum(axis=1) > 1)
    assert report.polished_objective <= report.objective
    assert "several outputs" in report.verdict and "feed one output each did better" in report.verdict
    separate = ConvexReLUClassifier(1.0, tol=1e-3, random_state=0).fit(X, labels)
    report = audit(separate, X, labels, 1.0)
    assert seen[1][3]["alpha"] == 1.0 and "whose neurons feed one output each" in report.verdict
    assert report.objective == pytest.approx(separate.certificate_.objective, rel=1e-12)


@pytest.mark.parametrize(
    "bound, scope, words, absent",
    [
        (None, "none", ["nothing was proved"], []),
        (-np.inf, "none", ["how far at most was not proved"], ["and at most"]),
        (1.0, "patterns", ["how far at most was not proved"], ["and at most"]),
        (1.0, "global", ["at least", " and at most", "of any width"], ["not proved"]),
        (-1.0, "global", ["how far at most was not proved"], ["and at most"]),
    ],
)
def test_the_verdict_claims_what_is_proved(monkeypatch, bound, scope, words, absent):
    monkeypatch.setattr("convexnn.proofs.prove.certify", stub(bound, scope=scope))
    rng = np.random.default_rng(11)
    X, y, _ = draw(rng)
    network = random_network(rng)
    report = audit(network, X, y, 0.5, certify=bound is not None)
    if bound is None:
        words = ["how far at most was not proved"]
        assert report.certificate is None
    assert all(word in report.verdict for word in words), report.verdict
    assert not any(word in report.verdict for word in absent), report.verdict
    proved = scope == "global"
    assert (report.lower_bound is not None) == proved and (report.gap is not None) == proved
    text = str(report)
    assert ("none proved" in text) != proved
    assert f"{report.objective:.8g}" in text and f"{report.polished_objective:.8g}" in text
    assert report.verdict in text


def percentages(verdict):
    return [float(verdict.split(f"at {word} ")[1].split(" %")[0].replace(",", "")) for word in ("least", "most")]


def test_percentages_are_rounded_to_the_safe_side(monkeypatch):
    rng = np.random.default_rng(12)
    X, y, _ = draw(rng)
    for seed in range(20):
        network = random_network(np.random.default_rng(seed))
        best = audit(network, X, y, 0.5, certify=False).polished_objective
        bound = best * (1 - 10.0 ** -np.random.default_rng(seed).uniform(0.1, 5))
        monkeypatch.setattr("convexnn.proofs.prove.certify", stub(bound))
        report = audit(network, X, y, 0.5)
        least, most = percentages(report.verdict)
        exact_least, exact_most = 100 * (report.objective / best - 1), 100 * (report.objective / bound - 1)
        assert exact_least * 0.9 <= least <= exact_least and exact_most <= most <= exact_most * 1.1 + 1e-12


def test_an_optimal_network_is_called_neither_better_nor_worse(monkeypatch):
    X = np.random.default_rng(13).standard_normal((12, 1))
    y = np.abs(X[:, 0])
    model = ConvexReLURegressor(0.5, patterns="exact", tol=1e-10).fit(X, y)
    report = audit(model, X, y, 0.5, certify=False)
    assert report.verdict == "no better network was found; how far it is from the best was not proved"
    assert "no lower" in str(report)
    report = audit(model, X, y, 0.5)
    assert report.verdict.startswith("at most") and report.gap <= 1e-6


def test_improving_goes_beyond_the_patterns():
    rng = np.random.default_rng(14)
    X, y, _ = draw(rng, n=40)
    network = random_network(rng, m=3)
    report = audit(network, X, y, 0.1, improve=True, certify=False, tol=1e-4)
    fit = ConvexReLURegressor(0.1, tol=1e-4, random_state=0).fit(X, y)
    assert report.improved_objective < 0.9 * report.polished_objective
    assert report.improved_objective == pytest.approx(fit.certificate_.objective, rel=1e-3)
    assert "improved" in str(report)
    plain = audit(network, X, y, 0.1, certify=False)
    assert plain.improved is None and plain.improved_objective is None and "improved" not in str(plain)


def test_the_hidden_bias_that_an_audit_takes(monkeypatch):
    seen = []
    monkeypatch.setattr("convexnn.proofs.prove.certify", stub(1.0, seen))
    X, y, _ = draw(np.random.default_rng(15))
    models = [
        (mlp(MLPRegressor, X, y), "free"),
        (ConvexReLURegressor(1.0, hidden_bias="none", tol=1e-2).fit(X, y), "none"),
        (ConvexReLURegressor(1.0, hidden_bias="free", tol=1e-2).fit(X, y).network_, "free"),
        (GOOD, "penalized"),
    ]
    for model, kind in models:
        audit(model, X, y, 1.0)
        assert seen[-1][3]["hidden_bias"] == kind
    audit(models[0][0], X, y, 1.0, hidden_bias="penalized")
    assert seen[-1][3]["hidden_bias"] == "penalized"


def test_labels_and_losses():
    rng = np.random.default_rng(16)
    X, _, labels = draw(rng)
    model = mlp(MLPClassifier, X, labels, max_iter=30)
    coded = np.unique(labels, return_inverse=True)[1]
    network = network_from(model)
    expected = network.objective(X, coded, 0.5, "log_loss")
    quick = dict(alpha=0.5, certify=False)
    assert audit(model, X, labels, **quick).objective == expected
    assert audit(network, X, labels, **quick).objective == expected
    top = labels == "top"
    two = mlp(MLPClassifier, X, top, max_iter=30)
    weights = (two.coefs_[0], two.intercepts_[0], two.coefs_[1], two.intercepts_[1])
    signs = np.where(top, 1.0, -1.0)
    expected = network_from(two).objective(X, signs, 0.5, "log_loss")
    assert audit(two, X, top, **quick).objective == expected
    free = dict(loss="log_loss", hidden_bias="free")
    for y in (top, signs, np.where(top, "yes", "no")):
        assert audit(weights, X, y, **free, **quick).objective == expected
    ours = ConvexReLUClassifier(1.0, loss="squared_hinge", tol=1e-2).fit(X, top)
    hinge = ours.network_.objective(X, signs, 0.5, "squared_hinge")
    assert audit(ours, X, top, **quick).objective == pytest.approx(hinge, rel=1e-14)
    several = np.where(labels == "mid", "low", labels)
    for bad, words in (
        (np.full(30, "else"), "classes of the model"),
        (labels[:20], "shape"),
        (several, "each of 3 classes"),
    ):
        with pytest.raises(ValueError, match=words):
            audit(model, X, bad, **quick)
    with pytest.raises(ValueError, match="2 classes to match"):
        audit(weights, X, labels, **free, **quick)
    with pytest.raises(ValueError, match="one output for loss='squared', got 3"):
        audit(model, X, labels, loss="squared", **quick)


def test_time_is_shared(monkeypatch):
    seen = []
    monkeypatch.setattr("convexnn.proofs.prove.certify", stub(1.0, seen))
    X, y, _ = draw(np.random.default_rng(17))
    audit(random_network(np.random.default_rng(17)), X, y, 0.01, improve=True, max_time=0.0)
    assert seen[0][3]["max_time"] == 0.0
    audit(random_network(np.random.default_rng(17)), X, y, 0.01)
    assert "max_time" not in seen[1][3]


# The table of docs/weight_decay.md: their loss, recomputed from weights, is a multiple of our objective at that alpha.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["regression", "two classes", "three classes"])
def test_weight_decay_of_scikit_learn(kind, weighted):
    rng = np.random.default_rng(18)
    X, y, labels = draw(rng)
    labels = labels if kind == "three classes" else labels == "top"
    weights = rng.uniform(0.5, 2.0, 30) if weighted else None
    options = dict(hidden_layer_sizes=(5,), solver="lbfgs", alpha=0.7, max_iter=2000, tol=1e-9)
    if kind == "regression":
        model, target, loss = MLPRegressor(**options).fit(X, y, sample_weight=weights), y, "squared"
    else:
        model, target = MLPClassifier(**options).fit(X, labels, sample_weight=weights), labels
        loss = "log_loss"
    coded = y if kind == "regression" else np.unique(target, return_inverse=True)[1]
    network = network_from(model)
    total = 30 if weights is None else weights.sum()
    objective = network.objective(X, coded, 0.7, loss, weights)
    assert network.hidden_biases.any()
    assert objective == pytest.approx(total * model.loss_, rel=1e-10)
    assert audit(model, X, target, 0.7, sample_weight=weights, certify=False).objective == pytest.approx(objective)


@pytest.mark.parametrize(
    "options, alpha, words",
    [
        (dict(solver="lbfgs"), 0.7, "which saw full batches, was trained at that"),
        (dict(solver="lbfgs"), 2, "which saw full batches, was trained at 0.7"),
        (dict(batch_size=30), 0.7, "which saw full batches, was trained at that"),
        (dict(batch_size="auto"), 0.7, "which saw full batches, was trained at that"),
        (dict(batch_size=12), 0.7, "which divides by the 12 rows of a mini-batch, was trained at 1.75"),
        (dict(batch_size=12, solver="sgd"), 1.75, "which divides by the 12 rows of a mini-batch, was trained at that"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_report_says_full_or_mini_batch(options, alpha, words):
    X, y, _ = draw(np.random.default_rng(18))
    model = MLPRegressor(hidden_layer_sizes=(5,), alpha=0.7, max_iter=3, random_state=0, **options).fit(X, y)
    report = audit(model, X, y, alpha, certify=False)
    ours = f"alpha {alpha} beside the sum of the losses of all 30 rows"
    assert report.weight_decay == f"{ours}; MLPRegressor(alpha=0.7), {words}"
    assert str(report).splitlines()[0] == f"weight decay    {report.weight_decay}"
    for silent in (network_from(model), (*(each for pair in zip(model.coefs_, model.intercepts_) for each in pair),)):
        report = audit(silent, X, y, alpha, certify=False)
        assert report.weight_decay == f"{ours}, as of training with full batches"
    own = ConvexReLURegressor(0.7, patterns="sampled", n_patterns=5, random_state=0, tol=1e-2).fit(X, y)
    assert audit(own, X, y, 0.7, certify=False).weight_decay.endswith(", as of training with full batches")


def test_weight_decay_of_batches():
    """One epoch of plain gradient steps moves the weights by the mean gradient of (N) at a n / B, to first order."""
    rng = np.random.default_rng(19)
    X, y, _ = draw(rng)
    X, y = X[:24], y[:24]
    rate, a, B = 1e-6, 0.7, 6
    options = dict(hidden_layer_sizes=(5,), solver="sgd", alpha=a, batch_size=B, momentum=0.0, learning_rate_init=rate)
    model = MLPRegressor(**options, random_state=0).partial_fit(X, y)
    before = network_from(model)
    start = before.hidden_weights.copy()
    model.partial_fit(X, y)
    moved = (network_from(model).hidden_weights - start) / (-rate * 24 / B)

    def slope(alpha):
        """Gradient of (N) / n in the hidden weights by central differences."""
        gradient = np.zeros_like(start)
        for index in np.ndindex(*start.shape):
            ends = []
            for h in (1e-5, -1e-5):
                W = start.copy()
                W[index] += h
                ends.append(replace(before, hidden_weights=W).objective(X, y, alpha) / 24)
            gradient[index] = (ends[0] - ends[1]) / 2e-5
        return gradient

    np.testing.assert_allclose(moved, slope(a * 24 / B), rtol=1e-3, atol=1e-4)
    assert np.abs(moved - slope(a)).max() > 1e-2


def _cross_entropy(y, z):
    return logsumexp(z, axis=1) - z[np.arange(len(y)), y] if z.ndim > 1 else np.log1p(np.exp(-y * z))


@pytest.mark.parametrize(
    "package, loss, reduction, alpha, factor, hidden_bias",
    [
        # Their objective times the factor is ours at alpha; n = 30, r = 0.2.
        ("torch", "squared", "mean", 30 * 0.2 / 2, 30 / 2, "penalized"),
        ("torch", "squared", "sum", 0.2 / 2, 1 / 2, "penalized"),
        ("torch", "log_loss", "mean", 30 * 0.2, 30, "penalized"),
        ("torch", "multinomial_log_loss", "mean", 30 * 0.2, 30, "penalized"),
        ("torch", "log_loss", "sum", 0.2, 1, "penalized"),
        ("torch", "multinomial_log_loss", "sum", 0.2, 1, "penalized"),
        ("torch, weights only", "squared", "mean", 30 * 0.2 / 2, 30 / 2, "free"),
        ("keras", "squared", "mean", 30 * 0.2, 30 / 2, "free"),
        ("keras", "log_loss", "mean", 2 * 30 * 0.2, 30, "free"),
        ("keras", "multinomial_log_loss", "mean", 2 * 30 * 0.2, 30, "free"),
    ],
)
def test_weight_decay_of_others(package, loss, reduction, alpha, factor, hidden_bias):
    rng = np.random.default_rng(20)
    X, y, _ = draw(rng)
    y = draw_labels(rng, loss, y)
    C = 3 if loss == "multinomial_log_loss" else 1
    W1, b1, W2, b2 = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal((5, C)), np.zeros(C)
    z = np.maximum(X @ W1 + b1, 0) @ W2
    z = z[:, 0] if C == 1 else z
    losses = (y - z) ** 2 if loss == "squared" else _cross_entropy(y, z)
    squares = sum(np.sum(p**2) for p in ([W1, b1, W2] if package == "torch" else [W1, W2]))
    theirs = (losses.mean() if reduction == "mean" else losses.sum()) + 0.2 * squares * (
        1 if package == "keras" else 0.5
    )
    network = network_from((W1, b1, W2, b2), hidden_bias=hidden_bias)
    assert network.objective(X, y, alpha, loss) == pytest.approx(factor * theirs, rel=1e-12)


def test_weight_decay_of_pyscnn():
    rng = np.random.default_rng(21)
    X, y, _ = draw(rng)
    V, sign = rng.standard_normal((4, 3)), np.array([1.0, -1.0, 1.0, -1.0])
    theirs = np.mean((y - np.maximum(X @ V.T, 0) @ sign) ** 2) / 2 + 0.2 * np.linalg.norm(V, axis=1).sum()
    network = Network(V, np.zeros(4), sign).balance()
    assert network.objective(X, y, 30 * 0.2) == pytest.approx(30 * theirs, rel=1e-12)


def test_weight_decay_of_torch():
    """The optimiser's step is the gradient step of the objective in the table."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)).double()
    X, y = torch.randn(30, 3, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.2)
    before = model[0].weight.detach().clone()
    torch.nn.MSELoss()(model(X)[:, 0], y).backward()
    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimiser.step()
    f = torch.relu(X @ weights[0].T + weights[1]) @ weights[2][0]
    ours = (0.5 * (y - f - weights[3]) ** 2).sum() + 0.5 * (30 * 0.2 / 2) * sum((w**2).sum() for w in weights[:3])
    (slope,) = torch.autograd.grad(ours, weights[0])
    assert torch.allclose((before - model[0].weight) / 0.1, slope / (30 / 2))
