"""hidden_bias="free": biases outside the norm. The prox, the support function, and fits against textbook programs."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from programs import listing
from scipy.optimize import minimize

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    enumerate_patterns,
)
from convexnn.cones.free import minimise, shrink
from convexnn.losses import LOSSES
from convexnn.neurons.penalties import FreeBiasConeGroupLasso
from convexnn.solvers import SOLVERS, Newton

TIGHT = dict(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)


def draw_cones(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(3, 15)), int(rng.integers(1, 5))
    X1 = np.column_stack([rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 1), np.ones(n)])
    patterns = (X1 @ rng.standard_normal((d + 1, 8)) >= 0).T
    patterns = patterns[patterns.any(axis=1) & ~patterns.all(axis=1)]
    rows = X1 / np.linalg.norm(X1, axis=1, keepdims=True)
    Q = rng.standard_normal((len(patterns), d + 1)) * 10 ** rng.uniform(-2, 2)
    return rng, rows, patterns, Q, np.full(Q.shape, -1)


@pytest.mark.parametrize("seed", range(20))
def test_prox_by_brute_force(seed):
    rng, rows, patterns, Q, none = draw_cones(seed)
    U, active, _ = minimise(Q, np.zeros(len(Q)), rows, patterns, none)
    support = np.linalg.norm(U[:, :-1], axis=1)
    for share in (0.0, 0.3, 0.9999):
        threshold = share * support.max(initial=0.0)
        V, _ = shrink(Q, threshold, rows, patterns, none)
        for guess in (active, rng.integers(-1, len(rows), Q.shape)):
            guess = np.array([[j if list(row).index(j) == i else -1 for i, j in enumerate(row)] for row in guess])
            assert np.allclose(shrink(Q, threshold, rows, patterns, guess)[0], V, atol=1e-11 * np.abs(Q).max(initial=1))
        assert np.array_equal(V[:, :-1].any(axis=1), V.any(axis=1))
        for q, v, pattern in zip(Q, V, patterns):
            B = np.where(pattern, 1, -1)[:, None] * rows
            u, size = cp.Variable(len(q)), np.linalg.norm(q)
            value = cp.sum_squares(u - q / size) / 2 + threshold / size * cp.norm(u[:-1])
            program = cp.Problem(cp.Minimize(value), [B @ u >= 0])
            program.solve(solver="CLARABEL")
            reached = np.sum((v - q) ** 2) / 2 + threshold * np.linalg.norm(v[:-1])
            assert np.min(B @ v) >= -1e-11 * size
            assert reached <= (program.value + 1e-7) * size**2


@pytest.mark.parametrize("seed", range(20))
def test_support_by_brute_force(seed):
    _, rows, patterns, Q, none = draw_cones([seed, 1])
    U, _, _ = minimise(Q, np.zeros(len(Q)), rows, patterns, none)
    for q, u, pattern in zip(Q, U, patterns):
        B = np.where(pattern, 1, -1)[:, None] * rows
        v = cp.Variable(len(q))
        program = cp.Problem(cp.Maximize(q / np.abs(q).max() @ v), [B @ v >= 0, cp.norm(v[:-1]) <= 1])
        program.solve(solver="CLARABEL")
        assert np.isclose(np.linalg.norm(u[:-1]), program.value * np.abs(q).max(), rtol=1e-5, atol=1e-7)


def test_penalty_of_patterns_that_are_active_everywhere_or_nowhere():
    X = np.array([[1.0, 2.0, 1.0], [0.5, -1.0, 1.0]])
    penalty = FreeBiasConeGroupLasso(X, np.array([[True, True], [False, False]]), np.array([0, 1]))
    V = np.array([[3.0, 4.0, 7.0], [3.0, 4.0, 7.0]])
    assert np.allclose(penalty.prox(V, 1.0)[0], [[2.4, 3.2, 0.0], [0.0, 0.0, 0.0]])
    assert penalty.dual_norm(V) == 5.0 and penalty.value(V) == 10.0 and penalty.violation(V) == 0.0
    assert penalty.restrict(np.array([1])).dual_norm(V[1:]) == 0.0


def textbook(X, y, alpha, loss="squared", skip=False, weights=None):
    """Optimal value over all patterns, every neuron with a free bias."""
    n, d = X.shape
    X1, weights = np.column_stack([X, np.ones(n)]), np.ones(n) if weights is None else weights
    c, s, penalty, constraints = cp.Variable(), cp.Variable(d), 0, []
    z = c + (X @ s if skip else np.zeros(n))
    for pattern in enumerate_patterns(X1).patterns.T:
        if pattern.any():
            for sign in (1.0, -1.0):
                v = cp.Variable(d + 1)
                z = z + sign * cp.multiply(pattern.astype(float), X1 @ v)
                penalty = penalty + cp.norm(v[:-1])
                constraints.append(cp.multiply(np.where(pattern, 1.0, -1.0), X1 @ v) >= 0)
    losses = {
        "squared": lambda: cp.square(z - y) / 2,
        "log_loss": lambda: cp.logistic(cp.multiply(-y, z)),
        "absolute": lambda: cp.abs(z - y),
        "huber": lambda: cp.huber(z - y, 1.35) / 2,
    }[loss]()
    program = cp.Problem(cp.Minimize(weights @ losses + alpha * penalty), constraints)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return program.value


def fit(X, y, alpha, loss="squared", **options):
    kind = ConvexReLUClassifier if loss == "log_loss" else ConvexReLURegressor
    settings = dict(loss=loss, hidden_bias="free", patterns="exact", tol=1e-8) | options
    weights = settings.pop("weights", None)
    return kind(alpha, **settings).fit(X, y, weights)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("loss", ["squared", "huber", "log_loss", "absolute"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.slow
def test_textbook(d, skip, loss, solver):
    if loss == "absolute" and solver != "cvxpy":
        pytest.skip("a loss with kinks")
    if solver == "fista" and d == 2:
        pytest.skip("thousands of steps, since bias and weights differ in scale")
    rng = np.random.default_rng([d, skip, len(loss)])
    X = rng.standard_normal((9, d))
    y = np.where(rng.permutation(9) % 2, 1.0, -1.0) if loss == "log_loss" else 2 * rng.standard_normal(9)
    weights = rng.uniform(0.5, 2, 9)
    optimum = textbook(X, y, 0.2, loss, skip, weights)
    tol = {"newton": 1e-8, "fista": 1e-4, "cvxpy": 1e-6}[solver]
    model = fit(X, y, 0.2, loss, skip_connection=skip, solver=solver, weights=weights, tol=tol)
    certificate = model.certificate_
    assert certificate.scope == "global"
    assert np.isclose(certificate.objective, optimum, rtol=5 * tol + 1e-7)
    assert certificate.lower_bound <= optimum * (1 + 1e-7) and certificate.relative_gap <= 1.1 * tol + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_one_feature_with_skip_is_a_lasso_over_ramps(seed):
    """The penalty is the total variation of f', and the knots are data points."""
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.standard_normal(15)), rng.standard_normal(15)
    ramps = np.maximum(x[:, None] - x[1:-1], 0.0)
    a, s, c = cp.Variable(13), cp.Variable(), cp.Variable()
    value = cp.sum_squares(ramps @ a + s * x + c - y) / 2 + 0.1 * cp.norm1(a)
    program = cp.Problem(cp.Minimize(value))
    program.solve(**TIGHT)
    model = fit(x[:, None], y, 0.1, skip_connection=True)
    assert np.isclose(model.certificate_.objective, program.value, rtol=1e-7)
    network = model.network_
    assert np.allclose(model.predict(x[:, None]), ramps @ a.value + s.value * x + c.value, atol=1e-3)
    assert np.isclose(network.path_norms.sum(), np.abs(a.value).sum(), rtol=1e-4)
    knots = -network.hidden_biases / network.hidden_weights[:, 0]
    # A knot between two data points is on the data the same as knots at both, of the same sign.
    for knot in knots[np.abs(knots[:, None] - x).min(axis=1) > 1e-7]:
        place = np.searchsorted(x, knot)
        assert a.value[place - 2] * a.value[place - 1] > 1e-6


@pytest.mark.parametrize("seed", range(2))
def test_no_descent_on_the_network_gets_below_the_bound(seed):
    rng = np.random.default_rng(seed)
    X, m, alpha = rng.standard_normal((12, 2)), 25, 0.1
    y = np.abs(X[:, 0] - 1) + 0.3 * rng.standard_normal(12)
    certificate = fit(X, y, alpha).certificate_

    def objective(p):
        W, b, a, c = p[: 2 * m].reshape(m, 2), p[2 * m : 3 * m], p[3 * m : -1], p[-1]
        hidden = np.maximum(X @ W.T + b, 0)
        g = hidden @ a + c - y
        back = (hidden > 0) * np.outer(g, a)
        slope = [(back.T @ X + alpha * W).ravel(), back.sum(axis=0), hidden.T @ g + alpha * a, [g.sum()]]
        return g @ g / 2 + alpha / 2 * (np.sum(W**2) + a @ a), np.concatenate(slope)

    best = np.inf
    for _ in range(12):
        found = minimize(objective, rng.standard_normal(4 * m + 1), jac=True, method="L-BFGS-B")
        best = min(best, found.fun)
        part = found.x
        network = Network(
            part[: 2 * m].reshape(m, 2), part[2 * m : 3 * m], part[3 * m : -1], part[-1], hidden_bias="free"
        )
        assert np.isclose(network.objective(X, y, alpha), found.fun)
    assert certificate.lower_bound <= best + 1e-9 and best <= 1.05 * certificate.objective


def test_shifted_features_and_affine_targets():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((12, 2)), rng.standard_normal(12)
    model, moved = fit(X, y, 0.1, tol=1e-7), fit(X + [3.0, -5.0], y, 0.1, tol=1e-7)
    assert np.isclose(model.certificate_.objective, moved.certificate_.objective, rtol=1e-6)
    assert np.isclose(model.alpha_max_, moved.alpha_max_, rtol=1e-8)
    skip, added = (fit(X, z, 0.1, tol=1e-7, skip_connection=True) for z in (y, y + X @ [1.0, -2.0] + 3))
    assert np.isclose(skip.certificate_.objective, added.certificate_.objective, rtol=1e-6)


def test_three_classes_and_conjugate_gradients(monkeypatch):
    rng = np.random.default_rng(4)
    X1 = np.column_stack([rng.standard_normal((25, 2)), np.ones(25)])
    listed = enumerate_patterns(X1)
    y = rng.permutation(np.arange(25) % 3)
    loss = LOSSES["multinomial_log_loss"]()
    problem = listing("relu", X1, y, listed, loss, 1.0, np.ones(25), True, 3, None, "free")
    problem = replace(problem, alpha=0.3 * problem.alpha_max)
    one = Newton(tol=1e-6).solve(problem)
    monkeypatch.setattr("convexnn.solvers.newton.MATRIX_BYTES", 0)
    two = Newton(tol=1e-5).solve(problem)
    assert one.status == "optimal" and one.relative_gap <= 1e-6
    assert np.isclose(one.primal, two.primal, rtol=2e-5)


def test_networks_know_that_their_biases_are_free(tmp_path):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((30, 3))
    y = np.abs(X[:, 0] - 0.5) + X[:, 1] + 0.1 * rng.standard_normal(30)
    model = fit(X, y, 0.3, patterns="sampled", n_patterns=60, random_state=0, warm_start=True)
    network, z, objective = model.network_, model.predict(X), model.certificate_.objective
    w, a = network.hidden_weights, network.output_weights
    value = np.sum((z - y) ** 2) / 2 + 0.15 * (np.sum(w**2) + a @ a)
    assert network.hidden_bias == "free" and np.isclose(objective, value, rtol=1e-12)
    assert np.isclose(model.result_.primal, objective, rtol=1e-8)
    assert np.allclose(np.linalg.norm(w, axis=1), np.abs(a)) and np.allclose(network.path_norms, a**2)
    assert np.allclose(network.merge().prune(X).predict(X), z, atol=1e-9)
    network.save(tmp_path / "network.npz")
    loaded = Network.load(tmp_path / "network.npz")
    assert loaded.hidden_bias == "free" and loaded.objective(X, y, 0.3) == network.objective(X, y, 0.3)
    model.fit(X, y)
    assert model.n_iter_ <= 10 and np.isclose(model.certificate_.objective, objective, rtol=1e-7)


@pytest.mark.parametrize("options", [dict(activation="gated_relu"), dict(fit_intercept=False)], ids=str)
def test_what_it_does_not_go_with(options):
    with pytest.raises(ValueError, match="hidden_bias='free' needs"):
        ConvexReLURegressor(hidden_bias="free", **options).fit([[0.0], [1.0]], [0.0, 1.0])


@pytest.mark.parametrize("push", [0.0, 1e-140])
@pytest.mark.parametrize("seed", range(3))
def test_biases_that_nothing_pushes(seed, push):
    """Rounding must neither divide by the missing curvature nor carry the bias off to infinity."""
    rng = np.random.default_rng(seed)
    X1 = np.column_stack([rng.standard_normal((12, 3)), np.ones(12)])
    rows = X1 / np.linalg.norm(X1, axis=1, keepdims=True)
    patterns = (X1 @ rng.standard_normal((4, 300)) >= 0).T
    patterns = patterns[patterns.any(axis=1) & ~patterns.all(axis=1)]
    Q = np.column_stack([10 * rng.standard_normal((len(patterns), 3)), np.full(len(patterns), push)])
    active = np.full(Q.shape, -1)
    for _ in range(2):
        U, active, _ = minimise(Q, np.zeros(len(Q)), rows, patterns, active)
        assert np.all(np.where(patterns, 1, -1) * (U @ rows.T) >= -1e-9 * np.linalg.norm(Q, axis=1)[:, None])
        Q[:, :-1] += 0.1 * rng.standard_normal((len(Q), 3))
