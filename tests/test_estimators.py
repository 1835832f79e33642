"""The scikit-learn face: its own checks, the shapes of its MLP, invariances, bad input, and fits that are cut short."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_linnerud, make_blobs, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn import (
    Arrangement,
    ConvexReLUClassifier,
    ConvexReLURegressor,
    FeatureScaleWarning,
    Network,
    relu_path,
    sample_patterns,
)
from convexnn.estimators.feature_scales import UNEVEN, scale_factor
from convexnn.losses import LOSSES, Huber
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.program.design import Design
from convexnn.program.result import STATUSES
from convexnn.solvers import SOLVERS

KINDS = {"regressor": ConvexReLURegressor, "classifier": ConvexReLUClassifier}
SMOOTH = [name for name, loss in LOSSES.items() if np.isfinite(loss.lipschitz)]


#: Every activation and every solver, and every solver with ReLU.
PAIRS = [("relu", solver) for solver in SOLVERS]
PAIRS += [("gated_relu", "newton"), ("leaky_relu", "newton"), ("absolute", "fista")]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks set max_iter=5
@parametrize_with_checks(
    [
        # Enough accuracy for the checks on the score, and quick; an interior point pays for every pattern. Searches
        # over all patterns have checks of their own, in test_adaptive.py.
        kind(
            activation=activation,
            patterns="sampled",
            solver=solver,
            n_patterns=10 if solver == "cvxpy" else 30,
            tol=1e-2,
            max_iter=200,
            random_state=0,
        )
        for kind in KINDS.values()
        for activation, solver in PAIRS
    ]
)
@pytest.mark.slow
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def draw(task, n=20, d=3, seed=0):
    rng = np.random.default_rng([seed, n, d])
    X = rng.standard_normal((n, d))
    score = np.abs(X[:, 0]) - 0.8 + 0.3 * X[:, -1]
    if task == "regressor":
        return X, 2 * score + 0.2 * rng.standard_normal(n)
    if task == "binary":
        return X, (score + 0.3 * rng.standard_normal(n) > 0).astype(int)
    return X, rng.permutation(np.arange(n) % 3) if task == "noise" else np.digitize(score, [-0.4, 0.3])


def make(task, alpha=0.5, **options):
    options = dict(patterns="sampled", n_patterns=40, random_state=0) | options
    return KINDS["regressor" if task == "regressor" else "classifier"](alpha, **options)


TASKS = ["regressor", "binary", "three"]


def scores(model, X):
    return model.predict(X) if isinstance(model, ConvexReLURegressor) else model.decision_function(X)


def same(first, second, X, tol=1e-4):
    """Predictions agree to what the duality gap allows: the loss is strongly convex in them."""
    a, b = scores(first, X), scores(second, X)
    assert np.abs(a - b).max() <= tol * (1 + np.abs(a).max())


# ---------------------------------------------------------------------------------------------------------------------
# What a fit gives


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_regression_on_real_data(activation):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:150], y[:150]
    model = make_pipeline(
        StandardScaler(), ConvexReLURegressor(activation=activation, n_patterns=40, random_state=0, tol=1e-2)
    )
    # The best linear model has 0.5 on these data.
    assert model.fit(X, y).score(X, y) > 0.5


@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
def test_classification_on_real_data(activation):
    X, y = load_iris(return_X_y=True)
    model = ConvexReLUClassifier(activation=activation, n_patterns=25, random_state=0, tol=1e-2)
    model = make_pipeline(StandardScaler(), model)
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_attributes(task, activation):
    X, y = draw(task)
    model = make(task, activation=activation).fit(X, y)
    assert model.n_features_in_ == 3 and model.n_iter_ >= 1
    assert model.alpha_ == 0.5 and model.alpha_max_ > 0.5
    assert model.result_.status == "optimal" and model.result_.relative_gap <= model.tol
    assert model.certificate_.scope == "patterns" and model.certificate_.relative_gap <= model.tol * (1 + 1e-6)
    assert model.arrangement_.n_samples == 20 and model.arrangement_.n_patterns <= 40
    assert (model.network_.gate_weights is None) == (activation != "gated_relu")
    assert model.network_.n_neurons > 0
    assert np.isclose(model.alpha_max_, make(task, "auto", activation=activation).fit(X, y).alpha_ / 0.01, rtol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_shapes_of_the_mlp_and_its_forward_formula(task):
    X, y = draw(task)
    model = make(task).fit(X, y)
    m = model.network_.n_neurons
    kind = MLPRegressor if task == "regressor" else MLPClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = kind(hidden_layer_sizes=(m,), max_iter=2, random_state=0).fit(X, y)
    assert [W.shape for W in model.coefs_] == [W.shape for W in mlp.coefs_]
    assert [b.shape for b in model.intercepts_] == [b.shape for b in mlp.intercepts_]
    (W, A), (b, c) = model.coefs_, model.intercepts_
    forward = np.maximum(X @ W + b, 0) @ A + c
    assert np.allclose(np.reshape(scores(model, X), forward.shape), forward, rtol=1e-12, atol=1e-12)
    mlp.coefs_, mlp.intercepts_ = [np.array(W) for W in model.coefs_], [np.array(b) for b in model.intercepts_]
    if task == "regressor":
        assert np.allclose(mlp.predict(X), model.predict(X), rtol=1e-10, atol=1e-10)
    else:
        assert np.array_equal(mlp.predict(X), model.predict(X))
        assert np.allclose(mlp.predict_proba(X), model.predict_proba(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.target == "real"])
@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_every_loss_of_regression(name, solver):
    if name not in SMOOTH and solver not in ("auto", "cvxpy"):
        X, y = draw("regressor")
        with pytest.raises(ValueError, match=f"{name}.*cvxpy"):
            make("regressor", loss=name, solver=solver).fit(X, y)
        return
    X, y = draw("regressor")
    model = make("regressor", loss=name, solver=solver, tol=1e-3).fit(X, y)
    best_constant = min(LOSSES[name]().value(y, np.full_like(y, c)).sum() for c in y)
    assert model.certificate_.objective < best_constant
    assert model.certificate_.relative_gap <= 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.target == "signs"])
@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_every_loss_of_two_classes(name, solver):
    X, y = draw("binary")
    if name not in SMOOTH and solver not in ("auto", "cvxpy"):
        with pytest.raises(ValueError, match=f"{name}.*cvxpy"):
            make("binary", loss=name, solver=solver).fit(X, y)
        return
    model = make("binary", loss=name, solver=solver, tol=1e-3).fit(X, y)
    assert model.score(X, y) >= 0.9
    assert hasattr(model, "predict_proba") == hasattr(model, "predict_log_proba") == (name == "log_loss")


def test_a_loss_object():
    X, y = draw("regressor")
    y[0] += 100
    small = make("regressor", loss=Huber(delta=0.1)).fit(X, y)
    assert small.alpha_max_ < make("regressor", loss="huber").fit(X, y).alpha_max_
    assert clone(small).get_params()["loss"] == Huber(delta=0.1)


def test_hinge_losses_are_for_two_classes():
    X, y = draw("three")
    for name in ("hinge", "squared_hinge"):
        with pytest.raises(ValueError, match=f"loss='{name}' is for two classes, got 3"):
            make("three", loss=name).fit(X, y)


def test_an_interior_point_solver_on_three_blobs():
    """The data of scikit-learn's check_classifiers_train, on which 14 patterns broke Clarabel down."""
    X, y = make_blobs(n_samples=300, random_state=0)
    X, y = shuffle(X, y, random_state=7)
    model = ConvexReLUClassifier(solver="cvxpy", n_patterns=14, tol=1e-2, random_state=0)
    model.fit(StandardScaler().fit_transform(X), y)
    assert model.result_.status == "optimal" and model.network_.n_neurons > 0


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], [5, 7], ["a", "b"], [False, True]])
def test_two_classes_under_any_name(labels):
    X, y = draw("binary")
    reference = make("binary").fit(X, y)
    named = np.array(labels)[y]
    model = make("binary").fit(X, named)
    assert model.classes_.tolist() == labels
    assert np.array_equal(model.decision_function(X), reference.decision_function(X))
    assert model.predict(X).dtype == named.dtype
    f, p = model.decision_function(X), model.predict_proba(X)
    assert f.shape == (20,) and p.shape == (20, 2)
    assert np.array_equal(model.predict(X), np.array(labels)[(f > 0) * 1])
    assert np.allclose(p.sum(axis=1), 1, rtol=1e-14)
    assert np.allclose(np.log(p[:, 1] / p[:, 0]), f, rtol=1e-9, atol=1e-12)
    assert np.allclose(model.predict_log_proba(X), np.log(p), rtol=1e-12)


@pytest.mark.parametrize("labels", [[0, 1, 2], [3, -1, 8], ["x", "y", "zz"]])
def test_three_classes_under_any_name(labels):
    X, y = draw("three")
    named = np.array(labels)[y]
    model = make("three").fit(X, named)
    f, p = model.decision_function(X), model.predict_proba(X)
    assert f.shape == p.shape == (20, 3) and model.classes_.tolist() == sorted(labels)
    assert np.allclose(p.sum(axis=1), 1, rtol=1e-14)
    assert np.allclose(p, np.exp(f) / np.exp(f).sum(axis=1, keepdims=True), rtol=1e-9)
    assert np.array_equal(model.predict(X), model.classes_[f.argmax(axis=1)])
    assert model.score(X, named) > 0.8
    assert (np.count_nonzero(model.network_.output_weights, axis=1) == 1).all()


def test_pandas():
    pd = pytest.importorskip("pandas")
    X, y = draw("regressor")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = make("regressor").fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(model.predict(frame), make("regressor").fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c"]])
    labels = pd.Series(np.where(y > 0, "up", "down"), dtype="category")
    assert set(make("binary").fit(frame, labels).predict(frame)) <= {"up", "down"}


def test_hidden_bias_none():
    X, y = draw("regressor")
    model = make("regressor", hidden_bias="none").fit(X, y)
    assert model.network_.n_neurons and not model.network_.hidden_biases.any()
    assert len(model.arrangement_.gates) == 3
    # Positively homogeneous up to the intercept.
    c = model.predict(np.zeros((1, 3)))
    assert np.allclose(model.predict(3 * X) - c, 3 * (model.predict(X) - c), rtol=1e-10, atol=1e-10)


def test_no_intercept():
    X, y = draw("regressor")
    model = make("regressor", fit_intercept=False).fit(X, y + 10)
    assert model.network_.output_bias == 0.0
    assert model.alpha_max_ > make("regressor").fit(X, y + 10).alpha_max_


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0])
def test_a_constant_target(fit_intercept, activation, solver, constant):
    X, _ = draw("regressor")
    model = make("regressor", "auto", fit_intercept=fit_intercept, activation=activation, solver=solver, n_patterns=20)
    model.fit(X, np.full(20, constant))
    if fit_intercept or constant == 0:
        assert model.network_.n_neurons == 0 and model.n_iter_ >= 1
        assert np.allclose(model.predict(X), constant, rtol=1e-12)
        assert [W.shape for W in model.coefs_] == [(3, 0), (0, 1)]
    assert np.isfinite(model.certificate_.lower_bound)


@pytest.mark.parametrize("task", ["binary", "three"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_perfectly_separable_classes(task, activation):
    y = np.arange(18) % (2 if task == "binary" else 3)
    X = 10.0 * np.eye(3)[y] + np.random.default_rng(0).standard_normal((18, 3))
    model = make(task, 0.01, activation=activation).fit(X, y)
    assert model.score(X, y) == 1.0 and np.isfinite(model.decision_function(X)).all()
    assert model.result_.status == "optimal"


def test_no_neuron_from_alpha_max_on():
    for task in TASKS:
        X, y = draw(task)
        top = make(task).fit(X, y).alpha_max_
        assert make(task, top * (1 + 1e-6)).fit(X, y).network_.n_neurons == 0
        assert make(task, top * 0.9).fit(X, y).network_.n_neurons > 0


# ---------------------------------------------------------------------------------------------------------------------
# Invariances


@pytest.mark.parametrize("alpha", ["auto", 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_sample_weight_two_is_a_duplicated_row(task, alpha):
    X, y = draw(task)
    twice = np.concatenate([np.arange(20), [3, 7, 8]])
    copied = make(task, alpha, tol=1e-6, max_iter=10**5).fit(X[twice], y[twice])
    weighted = make(task, alpha, tol=1e-6, max_iter=10**5).fit(X, y, sample_weight=np.bincount(twice))
    assert np.isclose(copied.alpha_, weighted.alpha_, rtol=1e-9)
    assert np.isclose(copied.certificate_.objective, weighted.certificate_.objective, rtol=2e-6)
    # A relative gap of 1e-6 bounds the distance of predictions by its square root.
    same(copied, weighted, X, 1e-2)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("patterns", ["auto", "exact", "sampled"])
def test_a_zero_weight_is_a_row_removed(task, patterns):
    X, y = draw(task, d=2)
    weights = np.ones(20)
    weights[[0, 5, 6]] = 0.0
    keep = weights > 0
    assert task == "regressor" or set(y[keep]) == set(y)
    y_odd = y.astype(float)
    if task == "regressor":
        y_odd[0] = 1e6  # whatever it is, it does not count
    zeroed = make(task, "auto", patterns=patterns, tol=1e-2).fit(X, y_odd, sample_weight=weights)
    removed = make(task, "auto", patterns=patterns, tol=1e-2).fit(X[keep], y_odd[keep])
    assert zeroed.alpha_ == pytest.approx(removed.alpha_, rel=1e-9)
    assert zeroed.arrangement_.n_patterns == removed.arrangement_.n_patterns
    same(zeroed, removed, X, 1e-8)


def test_auto_alpha_follows_the_units_of_y():
    X, y = draw("regressor")
    model = make("regressor", "auto", tol=1e-6, max_iter=10**5).fit(X, y)
    scaled = make("regressor", "auto", tol=1e-6, max_iter=10**5).fit(X, 1000 * y + 50)
    assert np.isclose(scaled.alpha_, 1000 * model.alpha_, rtol=1e-9)
    assert np.isclose(scaled.certificate_.objective, 1e6 * model.certificate_.objective, rtol=2e-6)
    assert np.abs(scaled.predict(X) - 50 - 1000 * model.predict(X)).max() <= 5e-3 * 1000 * np.abs(y).max()


@pytest.mark.parametrize("task", TASKS)
def test_auto_alpha_doubles_with_duplicated_data(task):
    X, y = draw(task)
    model = make(task, "auto", tol=1e-6, max_iter=10**5).fit(X, y)
    double = make(task, "auto", tol=1e-6, max_iter=10**5).fit(np.tile(X, (2, 1)), np.tile(y, 2))
    assert np.isclose(double.alpha_, 2 * model.alpha_, rtol=1e-9)
    assert np.isclose(double.certificate_.objective, 2 * model.certificate_.objective, rtol=2e-6)
    same(model, double, X, 1e-2)


def test_class_weight():
    X, y = make_classification(40, 4, weights=[0.8], random_state=0)
    model = make("binary", class_weight={0: 1.0, 1: 3.0}).fit(X, y)
    by_hand = make("binary").fit(X, y, sample_weight=np.where(y == 1, 3.0, 1.0))
    assert np.array_equal(model.decision_function(X), by_hand.decision_function(X))
    balanced = make("binary", class_weight="balanced").fit(X, y)
    factors = 40 / (2 * np.bincount(y))
    by_hand = make("binary").fit(X, y, sample_weight=factors[y])
    assert np.array_equal(balanced.decision_function(X), by_hand.decision_function(X))
    plain = make("binary").fit(X, y)
    assert balanced.decision_function(X).mean() > plain.decision_function(X).mean()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_seed_gives_the_same_weights(task, activation, solver):
    X, y = draw(task)
    models = [make(task, activation=activation, solver=solver, tol=1e-3, n_patterns=12).fit(X, y) for _ in range(2)]
    for name, value in vars(models[0].network_).items():
        if value is not None:
            assert np.asarray(value).tobytes() == np.asarray(getattr(models[1].network_, name)).tobytes()
    other = make(task, activation=activation, solver=solver, tol=1e-3, n_patterns=12, random_state=1).fit(X, y)
    assert not np.array_equal(scores(other, X), scores(models[0], X))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
def test_pickle_and_clone(task, activation):
    X, y = draw(task)
    model = make(task, activation=activation).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(scores(copy, X), scores(model, X))
    assert copy.get_params() == model.get_params()
    assert copy.certificate_.objective == model.certificate_.objective
    fresh = clone(model)
    assert fresh.get_params() == model.get_params() and not hasattr(fresh, "network_")
    with pytest.raises(NotFittedError):
        fresh.predict(X)


# ---------------------------------------------------------------------------------------------------------------------
# Patterns


def test_patterns():
    X, y = draw("regressor", n=9, d=1)
    exact = make("regressor", patterns="exact").fit(X, y)
    assert exact.certificate_.scope == "global" and exact.arrangement_.complete
    few = make("regressor", patterns="auto", n_patterns=exact.arrangement_.n_patterns).fit(X, y)
    assert few.certificate_.scope == "global"
    options = dict(patterns="auto", certify=False)
    sampled = make("regressor", n_patterns=exact.arrangement_.n_patterns - 1, **options).fit(X, y)
    assert sampled.certificate_.scope == "patterns"
    # Fewer networks to choose from: never a better one.
    assert sampled.certificate_.objective >= exact.certificate_.lower_bound * (1 - 1e-12)
    given = sample_patterns(np.column_stack([X, np.ones(9)]), 7, random_state=3)
    model = make("regressor", patterns=given).fit(X, y)
    assert model.certificate_.scope == "patterns" and model.certificate_.n_patterns == given.n_patterns
    weights = np.ones(9)
    weights[2] = 0.0
    assert make("regressor", patterns=given).fit(X, y, sample_weight=weights).arrangement_.n_samples == 8


def test_too_many_patterns_to_list():
    X, y = draw("regressor", n=300, d=6)
    with pytest.raises(ValueError, match="activation patterns"):
        make("regressor", patterns="exact").fit(X, y)


def test_more_patterns_are_never_worse():
    X, y = draw("regressor")
    values = [make("regressor", n_patterns=P).fit(X, y).certificate_ for P in (5, 20, 80)]
    for few, many in pairwise(values):
        assert many.lower_bound <= few.objective * (1 + 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Warm starts, limits and interrupts


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_warm_start(task, activation):
    X, y = draw(task)
    options = dict(activation=activation, tol=1e-5, solver="fista")
    cold = make(task, 0.5, **options).fit(X, y)
    warm = make(task, 0.5, warm_start=True, **options).fit(X, y)
    assert warm.n_iter_ == cold.n_iter_
    warm.fit(X, y)
    assert warm.n_iter_ < cold.n_iter_
    assert np.isclose(warm.certificate_.objective, cold.certificate_.objective, rtol=2e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
def test_warm_start_with_other_gates(task, activation):
    """The patterns of the network so far stay, and with them what was reached."""
    X, y = draw(task)
    options = dict(activation=activation, tol=1e-5, solver="fista")
    model = make(task, 0.5, warm_start=True, **options).fit(X, y)
    before, used = model.certificate_, model.network_
    model.set_params(random_state=1).fit(X, y)
    assert model.certificate_.objective <= before.objective * (1 + 2e-5)
    assert model.arrangement_.n_patterns > make(task, random_state=1, **options).fit(X, y).arrangement_.n_patterns
    if activation == "gated_relu":  # its gates pass through no sample
        listed = {tuple(p) for p in model.arrangement_.patterns.T}
        assert {tuple(p) for p in (X @ used.gate_weights.T + used.gate_biases >= 0).T} <= listed


def test_warm_start_after_changes_of_every_kind():
    """The previous network is used where it fits, and forgotten where it does not."""
    X, y = draw("regressor")
    model = make("regressor", warm_start=True).fit(X, y)
    for change in (
        dict(alpha=1.0),
        dict(activation="gated_relu"),
        dict(hidden_bias="none"),
        dict(activation="relu"),
        dict(hidden_bias="penalized", patterns="exact", n_patterns=10),
    ):
        model.set_params(**change).fit(X[:, :2], y)
        params = model.get_params() | dict(warm_start=False)
        fresh = ConvexReLURegressor(**params).fit(X[:, :2], y)
        assert model.certificate_.lower_bound <= fresh.certificate_.objective * (1 + 1e-12)
    model.fit(X[:12], y[:12])  # fewer samples, one more feature
    assert model.predict(X).shape == (20,)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_time_at_all(task, activation, solver):
    X, y = draw(task)
    model = make(task, activation=activation, solver=solver, max_time=0.0, n_patterns=10, tol=1e-9)
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        model.fit(X, y)
    check_honest(model, X, y)


def check_honest(model, X, y):
    """Fitted, with a gap that is true: the optimum to a tight tolerance lies between bound and objective."""
    assert np.isfinite(scores(model, X)).all()
    assert model.result_.status in STATUSES and model.result_.status != "optimal"
    certificate = model.certificate_
    assert certificate.gap >= 0 and not np.isnan(certificate.relative_gap)
    assert np.isfinite(certificate.objective)
    params = model.get_params() | dict(
        max_time=None, max_iter=10**5, solver="fista", tol=1e-5, patterns=model.arrangement_
    )
    best = type(model)(**params).fit(X, y).certificate_
    assert certificate.lower_bound <= best.objective * (1 + 1e-9)
    assert certificate.objective >= best.lower_bound * (1 - 1e-9)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
@pytest.mark.parametrize("calls", [1, 2, 25])
def test_an_interrupt_leaves_a_fitted_model(task, activation, calls, monkeypatch):
    X, y = draw(task)
    state = dict(armed=False, left=calls)
    adjoint, squared_norm = Design.adjoint, Design.squared_norm

    def arm(self, weights):
        # FISTA estimates its step before anything can be lost; interrupts are counted from there.
        value = squared_norm(self, weights)
        state["armed"] = True
        return value

    def interrupt(self, r):
        if state["armed"]:
            state["left"] -= 1
            if state["left"] == 0:
                raise KeyboardInterrupt
        return adjoint(self, r)

    monkeypatch.setattr(Design, "squared_norm", arm)
    monkeypatch.setattr(Design, "adjoint", interrupt)
    model = make(task, activation=activation, solver="fista", tol=1e-9)
    try:
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    except KeyboardInterrupt:
        pytest.fail("the fit was lost to an interrupt")  # a bare KeyboardInterrupt would end the run
    monkeypatch.undo()
    assert model.result_.status == "interrupted"
    assert model.result_.gap == np.inf or np.isfinite(model.result_.gap)
    check_honest(model, X, y)


@pytest.mark.parametrize("task", TASKS)
def test_the_iteration_limit(task):
    X, y = draw(task)
    with pytest.warns(ConvergenceWarning, match=r"max_iter.*Relative gap .*tol 1(\.0)?e-09"):
        model = make(task, solver="fista", max_iter=3, tol=1e-9).fit(X, y)
    assert model.n_iter_ == 3
    check_honest(model, X, y)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("verbose", [False, 0, True, 1])
def test_verbose_writes_to_standard_error_only(capsys, solver, verbose):
    X, y = draw("regressor")
    make("regressor", solver=solver, verbose=verbose, n_patterns=10).fit(X, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("relative gap" in err and "objective" in err and err.endswith("\n")) if verbose else err == ""


def uneven():
    rng = np.random.default_rng(0)
    age, income = rng.uniform(18, 80, 60), rng.lognormal(10.5, 0.6, 60)
    return np.column_stack([age, income]), np.abs(age - 45) / 20 + np.log(income)


def test_uneven_features_are_told_in_one_sentence():
    X, y = uneven()
    model = ConvexReLURegressor(random_state=0, certify=False, tol=1e-2)
    for fit in (model.fit, lambda X, y: relu_path(X, y, alphas=3, eps=0.1, random_state=0)):
        with pytest.warns(FeatureScaleWarning, match=r"scale by a factor of 1,\d\d\d, .*StandardScaler") as caught:
            fit(X, y)
        assert len(caught) == 1 and issubclass(FeatureScaleWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FeatureScaleWarning)
        model.fit(X, y)
    # Any other warning is an error here.
    model.fit(StandardScaler().fit_transform(X), y)
    model.fit(X[:, :1], y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("hidden_bias", ["free", "penalized", "none"])
def test_nothing_but_one_sentence_is_said_of_uneven_features(hidden_bias):
    """Overflows of single precision, as in products with a column of 1e8, are no news to a user."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y = np.abs(X[:, 0]) + X[:, 1]
    for scale in ([1e8, 1, 1], [1, 1e10, 1e-10]):
        model = ConvexReLURegressor(hidden_bias=hidden_bias, random_state=0, max_time=1.0, certify=False)
        with pytest.warns(FeatureScaleWarning) as caught:
            model.fit(X * scale, y)
        assert [type(warning.message) for warning in caught if warning.category is not ConvergenceWarning] == [
            FeatureScaleWarning
        ]
        assert np.isfinite(model.predict(X * scale)).all()


@pytest.mark.parametrize("X", [load_diabetes().data, load_digits().data, load_iris().data, load_linnerud().data])
def test_ordinary_features_are_even(X):
    assert scale_factor(X) < UNEVEN and scale_factor(StandardScaler().fit_transform(X)) < UNEVEN


def test_scale_factor():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (5000, 2))
    for scale in (1e-3, 1e150):
        for unit in (1e-150, 1.0, 1e150):
            assert scale_factor(X * [unit, unit * scale]) == pytest.approx(max(scale, 1 / scale), rel=0.1)
    # Rare columns have small deviations, outliers large ranges; constants, with their rounding, have neither.
    rare, heavy = np.eye(5000)[:, :1], rng.standard_t(1.1, (5000, 1))
    assert scale_factor(np.hstack([X, rare])) < 2.1 < 40 < X.std() / rare.std()
    assert scale_factor(StandardScaler().fit_transform(np.hstack([X, heavy]))) < 1.1 < 20 < np.ptp(heavy) / heavy.std()
    assert scale_factor(np.hstack([X, np.where(X[:, :1] > 0, 0.1 + 0.2, 0.3), 0 * rare])) < 1.1
    assert scale_factor(np.ones((3, 2))) == 1 and scale_factor(X * [1e-300, 1e300]) == np.inf


# ---------------------------------------------------------------------------------------------------------------------
# Bad input

BAD_PARAMETERS = [
    *[("alpha", value) for value in (0, 0.0, -1.0, np.nan, np.inf, "abc", None, [1.0], True)],
    *[("loss", value) for value in ("cubic", None, 3)],
    *[("activation", value) for value in ("tanh", None, 1)],
    *[("patterns", value) for value in ("all", None, np.ones((3, 20)))],
    *[("n_patterns", value) for value in (0, -3, 2.5, "many", None, True)],
    *[("solver", value) for value in ("adam", None)],
    *[("fit_intercept", value) for value in ("yes", 1, None)],
    *[("hidden_bias", value) for value in ("bound", True, None)],
    *[("tol", value) for value in (-1e-3, np.nan, "small", None)],
    *[("max_iter", value) for value in (0, -1, 1.5, None, True)],
    *[("max_time", value) for value in (-1.0, np.nan, "1 s")],
    *[("warm_start", value) for value in ("yes", 1, None)],
    *[("random_state", value) for value in ("abc", -1)],
    *[("verbose", value) for value in (-1, "loud", None)],
]


@pytest.mark.parametrize("task", ["regressor", "binary"])
@pytest.mark.parametrize("name, value", BAD_PARAMETERS)
def test_bad_parameters(task, name, value):
    X, y = draw(task)
    with pytest.raises(ValueError) as caught:
        make(task).set_params(**{name: value}).fit(X, y)
    message = str(caught.value)
    if name != "random_state":  # scikit-learn's own words
        assert message.startswith(f"{name} must be")
        assert isinstance(value, np.ndarray) or repr(value) in message


@pytest.mark.parametrize("value", ["log_loss", "hinge", LOSSES["log_loss"](), LOSSES["squared"]])
def test_losses_of_the_wrong_kind_for_regression(value):
    X, y = draw("regressor")
    with pytest.raises(ValueError, match="loss must be one of"):
        make("regressor", loss=value).fit(X, y)


@pytest.mark.parametrize("value", ["squared", "absolute", Huber()])
def test_losses_of_the_wrong_kind_for_classification(value):
    X, y = draw("binary")
    with pytest.raises(ValueError, match="loss must be one of"):
        make("binary", loss=value).fit(X, y)


def test_a_limit_on_time_that_is_no_limit():
    """No limit is None; infinity is no number of seconds."""
    X, y = draw("regressor")
    with pytest.raises(ValueError, match=r"max_time must be .* got inf"):
        make("regressor", max_time=np.inf).fit(X, y)


@pytest.mark.parametrize(
    "X, match",
    [
        (np.full((20, 3), np.nan), "NaN"),
        (np.full((20, 3), np.inf), "infinity"),
        (np.zeros((20,)), "2D array"),
        (np.zeros((20, 3, 2)), "dim 3"),
        (np.zeros((19, 3)), "inconsistent"),
        (np.zeros((0, 3)), "0 sample"),
        (np.zeros((20, 0)), "0 feature"),
        (np.full((20, 3), "red"), "convert|float"),
        (np.zeros((20, 3), dtype=complex), "[Cc]omplex"),
    ],
)
@pytest.mark.parametrize("task", TASKS)
def test_bad_X(task, X, match):
    y = draw(task)[1] if len(X) else np.zeros(0)
    with pytest.raises(ValueError, match=match):
        make(task).fit(X, y)


@pytest.mark.parametrize(
    "y, match",
    [
        (np.full(20, np.nan), "NaN"),
        (np.full(20, np.inf), "infinity"),
        (np.full(20, "red"), "convert|float"),
        (np.zeros((20, 2)), "1d array|shape"),
        (np.zeros(19), "inconsistent"),
        (None, "y"),
    ],
)
def test_bad_y_for_regression(y, match):
    with pytest.raises(ValueError, match=match):
        make("regressor").fit(draw("regressor")[0], y)


@pytest.mark.parametrize(
    "y, match",
    [
        (np.zeros(20), "y must have at least two classes.* 1 class"),
        (np.full(20, "a"), "y must have at least two classes.* 1 class"),
        (np.linspace(0.1, 0.7, 20), "continuous"),
        (np.full(20, np.nan), "NaN"),
        (np.zeros((20, 2)), "1d array|shape"),
        (np.arange(19) % 2, "inconsistent"),
    ],
)
def test_bad_y_for_classification(y, match):
    with pytest.raises(ValueError, match=match):
        make("binary").fit(draw("binary")[0], y)


@pytest.mark.parametrize(
    "weights, match",
    [
        (-np.ones(20), r"sample_weight must be .*non-negative, got .*-1\.0"),
        (np.zeros(20), "sample_weight must be positive for at least one"),
        (np.ones(19), r"sample_weight must have shape \(20,\), got \(19,\)"),
        (np.ones((20, 1)), r"sample_weight must have shape \(20,\), got \(20, 1\)"),
        (np.full(20, np.nan), "sample_weight must be finite.* got .*nan"),
        (np.full(20, np.inf), "sample_weight must be finite.* got .*inf"),
        (["a"] * 20, "sample_weight must be numeric"),
    ],
)
@pytest.mark.parametrize("task", TASKS)
def test_bad_weights(task, weights, match):
    X, y = draw(task)
    with pytest.raises(ValueError, match=match):
        make(task).fit(X, y, sample_weight=weights)


@pytest.mark.parametrize(
    "labels, class_weight",
    [
        ([0, 1], {True: 2.0, 0.0: 0.5}),
        ([0.0, 1.0], {1: 2}),
        ([False, True], {False: np.float32(0.5)}),
        (["no", "yes"], {np.str_("yes"): 2, "no": 1}),
    ],
)
def test_class_weights_are_looked_up_in_the_classes(labels, class_weight):
    X, y = draw("binary")
    code = np.unique(y, return_inverse=True)[1]
    factors = [class_weight.get(label, 1.0) for label in labels]
    model = make("binary", class_weight=class_weight).fit(X, np.array(labels)[code])
    by_hand = make("binary").fit(X, code, sample_weight=np.array(factors)[code])
    assert np.array_equal(model.decision_function(X), by_hand.decision_function(X))


@pytest.mark.parametrize(
    "class_weight, match",
    [
        ({0: np.nan}, "class_weight must be finite numbers >= 0, got nan for class 0"),
        ({0: np.inf, 1: 1.0}, "got inf for class 0"),
        ({0: 1.0, 1: -1}, "got -1 for class 1"),
        ({0: "2"}, "got '2' for class 0"),
        ({2: 1.0}, r"keys, some of \[0, 1\], got \[2\]"),
        ({"0": 1.0, 1: 1.0}, r"got \['0'\]"),
        ({np.nan: 1.0}, r"got \[nan\]"),
        ([1.0, 2.0], r"class_weight must be a dict, 'balanced' or None, got \[1\.0, 2\.0\]"),
    ],
)
def test_class_weights_that_make_no_sense(class_weight, match):
    X, y = draw("binary")
    with pytest.raises(ValueError, match=match):
        make("binary", class_weight=class_weight).fit(X, np.unique(y, return_inverse=True)[1])


@pytest.mark.parametrize("class_weight", ["heavy", {0: -1.0, 1: 1.0}, {0: 0.0, 1: 1.0}, {0: np.nan, 1: 1.0}, 3])
def test_bad_class_weight(class_weight):
    X, y = draw("binary")
    with pytest.raises(ValueError, match=r"class_weight|positive weight"):
        make("binary", class_weight=class_weight).fit(X, y)


def test_a_class_without_weight():
    X, y = draw("three")
    with pytest.raises(ValueError, match=r"y must have .* 2 classes with positive weight of 3"):
        make("three").fit(X, y, sample_weight=(y != 1).astype(float))


def test_an_arrangement_of_the_wrong_shape():
    X, y = draw("regressor")
    rows = np.column_stack([X, np.ones(20)])
    for wrong, options in (
        (sample_patterns(rows[:19], 5, random_state=0), {}),
        (sample_patterns(X, 5, random_state=0), {}),
        (sample_patterns(rows, 5, random_state=0), dict(hidden_bias="none")),
    ):
        assert isinstance(wrong, Arrangement)
        with pytest.raises(
            ValueError, match=r"patterns must be an Arrangement of 20 samples .* got one of \d+ samples"
        ):
            make("regressor", patterns=wrong, **options).fit(X, y)


def test_a_failed_fit_leaves_no_half_fitted_model():
    X, y = draw("regressor")
    model = make("regressor", loss="absolute", solver="fista")
    with pytest.raises(ValueError, match="cvxpy"):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("task", TASKS)
def test_bad_data_for_prediction(task):
    X, y = draw(task)
    model = make(task).fit(X, y)
    for bad, match in ((X[:, :2], "2 features"), (X[0], "2D array"), (np.full((2, 3), np.nan), "NaN")):
        with pytest.raises(ValueError, match=match):
            model.predict(bad)


# ---------------------------------------------------------------------------------------------------------------------
# All patterns by default, and starts from other networks


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_auto_patterns(task):
    X, y = draw(task, n=40)
    kind = KINDS["regressor" if task == "regressor" else "classifier"]
    assert kind(0.5, n_patterns=100, tol=1e-3).fit(X, y).certificate_.n_searched > 0
    few = kind(0.5, n_patterns=100_000, tol=1e-2).fit(X[:8], y[:8])
    assert few.certificate_.scope == "global" and few.certificate_.n_searched == 0
    for options in (dict(activation="gated_relu"), dict(solver="fista")):
        model = kind(0.5, n_patterns=20, random_state=0, tol=1e-2, **options).fit(X, y)
        assert model.certificate_.n_searched == 0 and model.arrangement_.n_patterns <= 20


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("hidden_bias", ["penalized", "free", "none"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_adaptive_agrees_with_the_complete_list(task, hidden_bias, skip):
    X, y = draw(task, n=14, d=2)
    options = dict(hidden_bias=hidden_bias, skip_connection=skip, tol=1e-7)
    found = make(task, alpha=0.1, patterns="adaptive", certify=False, **options).fit(X, y)
    proved = make(task, alpha=0.1, patterns="exact", **options).fit(X, y)
    assert proved.certificate_.scope == "global" and found.certificate_.scope == "patterns"
    bound, best = proved.certificate_.lower_bound, proved.certificate_.objective
    assert found.certificate_.objective >= bound * (1 - 1e-9)
    assert found.certificate_.objective <= best * (1 + 1e-6)


@pytest.mark.parametrize(
    "options",
    [
        dict(patterns="adaptive"),
        dict(patterns="adaptive", hidden_bias="free", skip_connection=True),
        dict(patterns="exact"),
        dict(patterns="exact", skip_connection=True),
        # 344 patterns of the distinct rows, and 1,642 if each copy counted.
        dict(patterns="auto", n_patterns=1000),
        dict(patterns="sampled", solver="fista"),
        dict(patterns="sampled", activation="gated_relu"),
    ],
)
@pytest.mark.parametrize("task", ["regressor", "three"])
@pytest.mark.slow
def test_repetitions_are_weights_and_any_order_will_do(task, options):
    X, y = draw(task, n=24, d=2)
    times = np.random.default_rng(1).integers(0, 4, len(y))
    options = dict(alpha="auto", tol=1e-3) | options
    weighted = make(task, **options).fit(X, y, sample_weight=times)
    order = np.random.default_rng(2).permutation(np.repeat(np.arange(len(y)), times))
    repeated = make(task, **options).fit(X[order], y[order])
    assert repeated.alpha_ == weighted.alpha_
    np.testing.assert_array_equal(repeated.network_.hidden_weights, weighted.network_.hidden_weights)
    np.testing.assert_array_equal(repeated.predict(X), weighted.predict(X))
    # What belongs to rows belongs to them as they came: dual points, patterns and evidence.
    for model, rows, target, s in (
        (weighted, X[times > 0], y[times > 0], times[times > 0]),
        (repeated, X[order], y[order], None),
    ):
        certificate = model.certificate_
        assert certificate.theta.shape == model.result_.theta.shape and len(certificate.theta) == len(rows)
        assert abs(certificate.theta.sum()) <= 1e-9 * np.abs(certificate.theta).sum()
        if certificate.scope == "global":
            assert np.isclose(certificate.verify(rows, target, s), certificate.lower_bound, rtol=1e-9)
        lifted = np.column_stack([rows, np.ones(len(rows))])
        assert model.arrangement_.belongs_to(lifted)
        if options["patterns"] != "adaptive":
            again = make(task, **options | dict(patterns=model.arrangement_)).fit(rows, target, s)
            np.testing.assert_array_equal(again.network_.hidden_weights, weighted.network_.hidden_weights)


def test_the_dual_point_of_merged_rows_is_minus_the_gradient_of_each():
    X, y = draw("regressor", n=30)
    weights = np.random.default_rng(1).integers(1, 4, len(y))
    order = np.repeat(np.arange(len(y)), weights)
    for rows, target, s in ((X, y, weights), (X[order], y[order], np.ones(len(order)))):
        model = make("regressor", patterns="adaptive", tol=1e-5).fit(rows, target, s)
        theta = s * (target - model.predict(rows))
        np.testing.assert_allclose(model.certificate_.theta, theta, atol=0.02 * np.abs(theta).max())


@pytest.mark.parametrize("hidden_bias", ["penalized", "free"])
def test_auto_alpha_does_not_depend_on_how_patterns_are_listed(hidden_bias):
    X, y = draw("regressor", n=14, d=2)
    options = dict(alpha="auto", hidden_bias=hidden_bias, skip_connection=True, tol=1e-2)
    found, listed = (make("regressor", patterns=patterns, **options).fit(X, y) for patterns in ("adaptive", "exact"))
    assert np.isclose(found.alpha_, listed.alpha_, rtol=1e-6)
    assert np.isclose(found.alpha_max_, listed.alpha_max_, rtol=1e-6)


@pytest.mark.parametrize("patterns", ["sampled", "adaptive"])
@pytest.mark.slow
def test_init(patterns):
    X, y = draw("regressor", n=60)
    mlp = MLPRegressor(hidden_layer_sizes=(20,), alpha=0.5, max_iter=3000, random_state=0, solver="lbfgs").fit(X, y)
    weights = Network(mlp.coefs_[0].T, mlp.intercepts_[0], mlp.coefs_[1][:, 0], mlp.intercepts_[1][0])
    first = make("regressor", patterns=patterns, tol=1e-6).fit(X, y)
    for init in (mlp, weights, first, first.network_):
        model = make("regressor", patterns=patterns, init=init, tol=1e-6).fit(X, y)
        start = weights if init in (mlp, weights) else first.network_
        # Its patterns are listed, so that the optimum is no worse than the start.
        assert model.certificate_.objective <= start.objective(X, y, 0.5) * (1 + 1e-6)
        if patterns == "sampled":
            assert model.arrangement_.n_patterns >= first.arrangement_.n_patterns
    again = make("regressor", patterns=patterns, init=first, tol=1e-3).fit(X, y)
    assert again.n_iter_ < first.n_iter_ or patterns == "sampled"


def test_init_of_several_classes():
    X, y = draw("three", n=60)
    mlp = MLPClassifier(hidden_layer_sizes=(10,), max_iter=2000, random_state=0, solver="lbfgs").fit(X, y)
    model = make("three", patterns="adaptive", init=mlp).fit(X, y)
    assert model.result_.status == "optimal"


@pytest.mark.parametrize(
    "init, words",
    [
        (3, ["init", "fitted estimator", "3"]),
        (Network(np.ones((2, 5)), np.zeros(2), np.ones(2)), ["init", "3 features", "5 features"]),
        (Network(np.ones((2, 3)), np.zeros(2), np.ones((2, 4))), ["init", "1 outputs", "4 outputs"]),
        (Network(np.ones((2, 3)), np.zeros(2), np.ones(2), 0.0, np.ones((2, 3)), np.zeros(2)), ["init", "relu"]),
        (MLPRegressor(), ["init", "fitted"]),
    ],
)
def test_init_that_does_not_fit(init, words):
    X, y = draw("regressor")
    with pytest.raises(ValueError) as error:
        make("regressor", init=init).fit(X, y)
    assert all(word in str(error.value) for word in words)
