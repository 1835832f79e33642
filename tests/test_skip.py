"""Networks with a skip connection x^T s, which is not penalised: solvers, bounds, networks, estimators."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from programs import changed
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    FeatureScaleWarning,
    Network,
)
from convexnn.losses import LOSSES
from convexnn.neurons.activations import ACTIVATIONS as LIFTS
from convexnn.solvers import SOLVERS, CvxpySolver, Newton

SMOOTH = [name for name in LOSSES if np.isfinite(LOSSES[name].lipschitz)]
KINKED = [name for name in LOSSES if name not in SMOOTH]
REAL = [name for name in LOSSES if LOSSES[name].target == "real"]
KINDS = [ConvexReLURegressor, ConvexReLUClassifier]


def add_skip(problem, skip=None, ratio=0.1):
    """The problem with its features (but for the ones) as free columns, at a share of its own alpha_max."""
    problem = changed(problem, skip=problem.design.X[:, :-1] if skip is None else skip)
    return replace(problem, alpha=ratio * problem.alpha_max)


def check_bound(problem, result):
    """theta is orthogonal to all that is free and in the domain of the conjugate."""
    theta = result.theta.reshape(len(problem.task.y), -1)
    free = np.column_stack([problem.task.skip, np.ones((len(theta), int(problem.task.fit_intercept)))])
    assert np.abs(free.T @ theta).max() <= 1e-10 * (np.abs(free).T @ np.abs(theta)).max() + 1e-300
    assert np.isfinite(problem.task.dual_value(result.theta))
    assert result.dual <= result.primal + 1e-12 * abs(result.primal)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.slow
def test_textbook(solver, loss, activation, intercept, make_problem, textbook):
    rng = np.random.default_rng([len(loss), intercept, 7])
    n = 24 if loss in ("multinomial_log_loss", "log_loss", "squared_hinge") else 14
    problem = add_skip(make_problem(rng, loss, activation, intercept, weighted=True, n=n))
    optimum, _, _ = textbook(problem)
    result = SOLVERS[solver](tol=1e-8).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    assert np.isclose(result.dual, optimum, rtol=1e-6)
    check_bound(problem, result)
    assert np.isclose(problem.objective(result.coef, result.intercept), result.primal, rtol=1e-10)


@pytest.mark.parametrize("loss", KINKED)
@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
@pytest.mark.parametrize("intercept", [False, True])
def test_textbook_with_kinks(loss, activation, intercept, make_problem, textbook):
    rng = np.random.default_rng([len(loss), intercept, 1])
    problem = add_skip(make_problem(rng, loss, activation, intercept, weighted=True, n=24))
    optimum, _, _ = textbook(problem)
    result = CvxpySolver(tol=1e-6).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    assert result.relative_gap <= 1e-6
    check_bound(problem, result)


def textbook_free(problem, z):
    """Smallest loss of z plus a combination of the free columns, by cvxpy."""
    from conftest import textbook_loss

    C = problem.design.n_outputs
    columns = np.column_stack([problem.task.skip, np.ones((len(z), int(problem.task.fit_intercept)))])
    b = cp.Variable((columns.shape[1], C))
    total = 0
    for i, (row, zi) in enumerate(zip(columns, z.reshape(len(z), C))):
        part = [zi[o] + row @ b[:, o] for o in range(C)]
        total = total + problem.task.sample_weight[i] * textbook_loss(problem.task.loss, problem.task.y[i], part)
    program = cp.Problem(cp.Minimize(total))
    program.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return program.value


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [0.1, 3.0, 300.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_minimised_over_the_free_terms(loss, size, seed, make_problem):
    rng = np.random.default_rng([seed, len(loss)])
    problem = make_problem(rng, loss, weighted=True, n=40)
    X = problem.design.X[:, :-1]
    # Units, a constant and a copy: none of them matters.
    problem = changed(problem, skip=np.column_stack([X * [1e-3, 1e4], np.full(40, 0.1), X[:, 0]]))
    z = size * rng.standard_normal(np.shape(problem.design @ np.zeros(problem.design.shape)))
    if loss in REAL:
        problem = changed(problem, y=size * problem.task.y)
    found = problem.task.loss_value(z + problem.task.best_intercept(z))
    best = textbook_free(changed(problem, skip=X), z)
    assert found <= best * (1 + 1e-7) + 1e-9
    again = problem.task.loss_value(z + problem.task.best_intercept(z, problem.task.best_intercept(z + 1)))
    assert np.isclose(found, again, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
@pytest.mark.parametrize("loss", ["squared", "huber", "log_loss", "multinomial_log_loss"])
@pytest.mark.slow
def test_conjugate_gradients_and_samples_solve_the_same(activation, loss, make_problem, monkeypatch):
    rng = np.random.default_rng(5)
    problem = add_skip(make_problem(rng, loss, activation, weighted=True, n=24, P=30, d=4), ratio=0.05)
    directions = Newton(tol=1e-6).solve(problem)
    monkeypatch.setattr("convexnn.solvers.newton.MATRIX_BYTES", 0)
    without = Newton(tol=1e-6).solve(problem)
    assert np.isclose(directions.primal, without.primal, rtol=2e-6)
    assert max(directions.relative_gap, without.relative_gap) <= 1e-6


@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
def test_more_directions_than_samples(activation, make_problem, textbook):
    rng = np.random.default_rng(6)
    problem = add_skip(make_problem(rng, "squared", activation, n=10, P=40, d=4), ratio=1e-3)
    result = Newton(tol=1e-8).solve(problem)
    assert np.isclose(result.primal, textbook(problem)[0], rtol=1e-6)
    check_bound(problem, result)


@pytest.mark.parametrize("solver", SOLVERS)
def test_features_that_are_constant_or_copied(solver, make_problem, textbook):
    rng = np.random.default_rng(7)
    problem = make_problem(rng, "huber", n=15)
    X = problem.design.X[:, :-1]
    plain = add_skip(problem)
    copied = changed(plain, skip=np.column_stack([X, np.full(15, 0.3), X @ [[1.0], [-2.0]], np.zeros(15)]))
    assert copied.task.free.shape == plain.task.free.shape == (15, 3)
    result = SOLVERS[solver](tol=1e-7).solve(copied)
    assert np.isclose(result.primal, textbook(plain)[0], rtol=1e-6)
    weights, constant = copied.task.free_weights(result.intercept)
    assert np.allclose(copied.task.skip @ weights + constant, result.intercept, atol=1e-9)
    assert weights[2] == 0 and weights[4] == 0 and np.abs(weights).max() < 1e3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["squared", "huber", "log_loss", "multinomial_log_loss", "squared_hinge"])
def test_a_linear_model_that_fits_perfectly(solver, loss, make_problem):
    """More features than samples: the infimum is zero, and no neuron is needed (nor a gap that rounding rules)."""
    rng = np.random.default_rng(8)
    problem = make_problem(rng, loss, n=6, d=9)
    problem = changed(problem, skip=problem.design.X[:, :-1])
    assert problem.alpha_max == 0.0
    result = SOLVERS[solver]().solve(problem)
    assert result.status == "optimal" and not result.coef.any()
    assert result.primal <= 1e-18
    assert result.dual <= result.primal + 1e-30


@pytest.mark.parametrize("loss", KINKED)
def test_a_perfect_linear_fit_with_kinks(loss, make_problem):
    problem = make_problem(np.random.default_rng(9), loss, n=6, d=9)
    problem = changed(problem, skip=problem.design.X[:, :-1])
    result = CvxpySolver().solve(problem)
    assert result.status == "optimal" and not result.coef.any() and result.primal <= 1e-10


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_class_that_a_hyperplane_cuts_off(solver):
    """The infimum over the free terms is not attained, yet the bound holds."""
    rng = np.random.default_rng(10)
    X = rng.standard_normal((60, 2))
    y = np.where(X[:, 0] + X[:, 1] > 0.5, 1, np.where(X[:, 0] * X[:, 1] > 0, 0, 2))
    X[y == 1] += 6.0
    options = dict(skip_connection=True, patterns="sampled", n_patterns=20, random_state=0, tol=1e-3)
    certificate = ConvexReLUClassifier(0.5, solver=solver, **options).fit(X, y).certificate_
    assert certificate.relative_gap <= 1.1e-3
    columns = np.column_stack([X, np.ones(60)])
    assert np.abs(columns.T @ certificate.theta).max() <= 1e-9


def test_without_neurons_it_is_the_linear_model():
    rng = np.random.default_rng(11)
    X = rng.standard_normal((50, 3)) * [1.0, 100.0, 0.01] + [5.0, 0.0, 1.0]
    y = X @ [1.0, 0.2, 30.0] + rng.standard_normal(50)
    weights = rng.uniform(0.1, 3, 50)
    with pytest.warns(FeatureScaleWarning):
        model = ConvexReLURegressor(1e9, skip_connection=True).fit(X, y, weights)
    linear = LinearRegression().fit(X, y, weights)
    assert model.network_.n_neurons == 0
    assert np.allclose(model.network_.skip_weights, linear.coef_, rtol=1e-8)
    assert np.isclose(model.network_.output_bias, linear.intercept_, rtol=1e-8)
    assert np.allclose(model.predict(X), linear.predict(X), rtol=1e-9)


def test_softmax_without_neurons_is_logistic_regression():
    rng = np.random.default_rng(12)
    X = rng.standard_normal((150, 2))
    y = np.argmax(X @ rng.standard_normal((2, 3)) + rng.gumbel(size=(150, 3)), axis=1)
    model = ConvexReLUClassifier(1e9, skip_connection=True, patterns="sampled", n_patterns=5).fit(X, y)
    linear = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(X, y)
    assert model.network_.skip_weights.shape == (2, 3) and model.network_.n_neurons == 0
    assert np.allclose(model.predict_proba(X), linear.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
@pytest.mark.parametrize("loss", ["squared", "huber", "absolute"])
@pytest.mark.slow
def test_adding_a_linear_function_changes_only_the_skip_weights(patterns, loss):
    rng = np.random.default_rng(13)
    X = rng.standard_normal((15, 2))
    y = np.abs(X[:, 0]) + 0.5 * rng.standard_normal(15)
    options = dict(loss=loss, patterns=patterns, skip_connection=True, tol=1e-6, random_state=0)
    one = ConvexReLURegressor(0.3, **options).fit(X, y)
    two = ConvexReLURegressor(0.3, **options).fit(X, y + X @ [3.0, -2.0] + 7.0)
    assert np.isclose(one.certificate_.objective, two.certificate_.objective, rtol=2e-6)
    assert np.allclose(two.predict(X) - one.predict(X), X @ [3.0, -2.0] + 7.0, atol=1e-2)
    # It never costs anything to have the linear term.
    plain = ConvexReLURegressor(0.3, **(options | dict(skip_connection=False))).fit(X, y)
    assert one.certificate_.objective <= plain.certificate_.objective * (1 + 2e-6)


@pytest.mark.parametrize("loss", ["squared", "log_loss"])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.slow
def test_no_descent_on_the_network_gets_below_the_bound(loss, fit_intercept):
    rng = np.random.default_rng(14)
    X = rng.standard_normal((14, 2))
    y = np.abs(X[:, 0]) - X[:, 1] if loss == "squared" else np.where(X[:, 0] * X[:, 1] + 0.2 > 0, 1.0, -1.0)
    alpha, m = 0.2, 25
    kind = ConvexReLURegressor if loss == "squared" else ConvexReLUClassifier
    options = dict(patterns="exact", skip_connection=True, fit_intercept=fit_intercept, tol=1e-8)
    certificate = kind(alpha, **options).fit(X, y).certificate_
    adaptive = kind(alpha, **(options | dict(patterns="adaptive", random_state=0))).fit(X, y).certificate_
    assert certificate.scope == "global" and "skip" in str(certificate)
    assert np.isclose(adaptive.objective, certificate.objective, rtol=1e-6)

    def objective(p):
        W, b, a, s, c = p[: 2 * m].reshape(m, 2), p[2 * m : 3 * m], p[3 * m : 4 * m], p[4 * m : -1], p[-1]
        hidden = np.maximum(X @ W.T + b, 0)
        z = hidden @ a + X @ s + fit_intercept * c
        g = z - y if loss == "squared" else -y * expit(-y * z)
        value = np.sum((z - y) ** 2) / 2 if loss == "squared" else np.sum(np.logaddexp(0, -y * z))
        back = (hidden > 0) * np.outer(g, a)
        slopes = [back.T @ X + alpha * W, back.sum(axis=0) + alpha * b, hidden.T @ g + alpha * a, X.T @ g]
        slope = np.concatenate([*[part.ravel() for part in slopes], [fit_intercept * g.sum()]])
        return value + alpha / 2 * (np.sum(W**2) + b @ b + a @ a), slope

    best = np.inf
    for _ in range(12):
        start = rng.standard_normal(4 * m + 3)
        best = min(best, minimize(objective, start, jac=True, method="L-BFGS-B", options=dict(maxiter=3000)).fun)
    assert best >= certificate.lower_bound - 1e-9
    assert best <= certificate.objective * 1.02


@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
@pytest.mark.parametrize("task", ["regression", "binary", "classes"])
def test_networks_carry_the_skip_weights(activation, task, tmp_path):
    rng = np.random.default_rng(15)
    X = rng.standard_normal((40, 3))
    kind = ConvexReLURegressor if task == "regression" else ConvexReLUClassifier
    y = {"regression": X[:, 0] ** 2 + X[:, 1], "binary": X[:, 0] ** 2 + rng.standard_normal(40) > 1}.get(
        task, rng.integers(0, 3, 40)
    )
    options = dict(skip_connection=True, patterns="sampled", n_patterns=30, random_state=0, activation=activation)
    model = kind(0.05, **options, warm_start=True).fit(X, y)
    network, z = model.network_, model.network_.predict(X)
    assert network.n_neurons > 0 and network.skip_weights.shape == (3, 3)[: network.output_weights.ndim]
    hidden = network.hidden(X) @ network.output_weights
    assert np.allclose(z, hidden + X @ network.skip_weights + network.output_bias)
    for other in (network.merge(), network.prune(X), network.balance(), network.select(np.arange(network.n_neurons))):
        assert np.allclose(other.predict(X), z, atol=1e-9)
    relu, price = network.to_relu(X)
    assert np.allclose(relu.predict(X), z, atol=1e-6) and relu.gate_weights is None and price >= 1
    mean, scale = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, 10.0])
    assert np.allclose(network.for_raw_inputs(mean, scale).predict(X * scale + mean), z, atol=1e-9)
    network.save(tmp_path / "network.npz")
    loaded = Network.load(tmp_path / "network.npz")
    assert np.array_equal(loaded.skip_weights, network.skip_weights) and np.array_equal(loaded.predict(X), z)
    assert "skip connection" in repr(network)
    # The certificate's objective is that of the network, and the program's.
    assert np.isclose(model.certificate_.objective, model.result_.primal, rtol=1e-7)
    assert model.result_.intercept.shape == z.shape
    before = model.certificate_.objective
    model.fit(X, y)
    assert model.certificate_.objective <= before * (1 + 1e-6) and model.n_iter_ <= 30


def test_a_wrong_shape_in_a_file_is_refused(tmp_path):
    wrong = Network(np.ones((2, 3)), np.zeros(2), np.ones(2), 0.0, skip_weights=np.ones(2))
    wrong.save(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="skip_weights"):
        Network.load(tmp_path / "wrong.npz")


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_skip_connection_must_be_true_or_false(value):
    with pytest.raises(ValueError, match="skip_connection must be True or False"):
        ConvexReLURegressor(skip_connection=value).fit([[0.0], [1.0]], [0.0, 1.0])


@parametrize_with_checks(
    [kind(activation="gated_relu", skip_connection=True, n_patterns=10, tol=1e-2) for kind in KINDS]
)
@pytest.mark.slow
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("activation", LIFTS)
def test_repeated_rows_are_sample_weights(activation):
    rng = np.random.default_rng(16)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    twice = np.concatenate([np.arange(20), np.arange(5)])
    options = dict(activation=activation, skip_connection=True, patterns="exact", tol=1e-8)
    one = ConvexReLURegressor(0.3, **options).fit(X, y, 1.0 + (np.arange(20) < 5))
    two = ConvexReLURegressor(0.3, **options).fit(X[twice], y[twice])
    assert np.isclose(one.certificate_.objective, two.certificate_.objective, rtol=1e-7)
    assert np.isclose(one.alpha_max_, two.alpha_max_, rtol=1e-9)
