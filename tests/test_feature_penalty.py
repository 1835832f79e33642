"""feature_penalty: networks that leave features out, against textbook programs, all patterns, and planted features."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from programs import task_of_rows
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.feature_selection import SelectFromModel
from sklearn.pipeline import make_pipeline

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    audit,
    certify,
    enumerate_patterns,
    polish,
)
from convexnn.losses import LOSSES
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.neuron import Neuron
from convexnn.program.problem import Problem
from convexnn.search import descent as descent_module
from convexnn.search.column_generation import find, search_alpha_max
from convexnn.search.descent import descend
from convexnn.search.pricing import Effort, ascend, no_peaks
from convexnn.solvers import SOLVERS

TIGHT = dict(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
MU = np.array([0.3, 1.0])


def small(seed=0, n=12, d=2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.maximum(X[:, 0] - 0.3, 0) - 0.5 * X[:, -1] + 0.1 * rng.standard_normal(n)


def textbook(X, y, alpha, mu, activation="relu", bias=True, skip=False, loss="squared"):
    """Optimal value over all patterns, from the definition of the network's penalty."""
    n, d = X.shape
    X1 = np.column_stack([X, np.ones(n)]) if bias else X
    c, s, z, penalty, constraints = cp.Variable(), cp.Variable(d), 0, 0, []
    patterns = enumerate_patterns(X1).patterns.T
    if activation == "gated_relu":
        # The gate 0 is open everywhere.
        patterns = np.unique(np.vstack([patterns, np.ones((1, n), dtype=bool)]), axis=0)
    for pattern in patterns:
        for sign in (1,) if activation == "gated_relu" else (1, -1):
            v = cp.Variable(X1.shape[1])
            below = {"leaky_relu": 0.01, "absolute": -1.0}.get(activation, 0.0)
            z = z + cp.multiply(sign * np.where(pattern, 1.0, below), X1 @ v)
            penalty = penalty + cp.norm(v) + mu @ cp.abs(v[:d])
            if activation != "gated_relu":
                constraints.append(cp.multiply(2.0 * pattern - 1.0, X1 @ v) >= 0)
    z = z + c + (X @ s if skip else 0)
    losses = {
        "squared": lambda: 0.5 * cp.sum_squares(y - z),
        "log_loss": lambda: cp.sum(cp.logistic(cp.multiply(-y, z))),
        "absolute": lambda: cp.norm1(y - z),
    }
    program = cp.Problem(cp.Minimize(losses[loss]() + alpha * penalty), constraints)
    program.solve(**TIGHT)
    return program.value


def value_of(network, X, y, alpha, mu):
    """The objective, neuron by neuron."""
    total = 0.5 * np.sum((y - network.predict(X)) ** 2)
    for w, b, a in zip(network.hidden_weights, network.hidden_biases, network.output_weights):
        total += alpha * (np.sqrt(w @ w + b * b) + sum(m * abs(x) for m, x in zip(mu, w))) * abs(a)
    return total


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias, skip", [(True, False), (False, False), (True, True)])
@pytest.mark.slow
def test_all_solvers_reach_the_textbook_optimum(activation, bias, skip):
    X, y = small(1, n=9)
    alpha = 0.2
    best = textbook(X, y, alpha, MU, activation, bias, skip)
    for solver in SOLVERS:
        model = ConvexReLURegressor(
            alpha,
            patterns="exact",
            activation=activation,
            solver=solver,
            feature_penalty=MU,
            hidden_bias="penalized" if bias else "none",
            skip_connection=skip,
            tol=1e-6,
        ).fit(X, y)
        assert np.isclose(value_of(model.network_, X, y, alpha, MU), best, rtol=2e-6)
        assert np.isclose(model.network_.objective(X, y, alpha), best, rtol=2e-6)
        assert model.certificate_.scope == "global"
        assert best - 2e-6 * best <= model.certificate_.verify(X, y) + 2e-6 * best <= best * (1 + 4e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_reaches_the_optimum_over_all_patterns(seed):
    X, y = small(seed, n=14, d=2 + seed % 2)
    mu = np.array([0.2, 0.8, 0.4])[: X.shape[1]]
    model = ConvexReLURegressor(0.1, patterns="adaptive", feature_penalty=mu, tol=1e-7, certify=False, random_state=0)
    exact = clone(model).set_params(patterns="exact").fit(X, y)
    model.fit(X, y)
    assert np.isclose(model.network_.objective(X, y, 0.1), exact.network_.objective(X, y, 0.1), rtol=1e-6)
    assert np.isclose(model.alpha_max_, exact.alpha_max_, rtol=1e-9)
    # Any pattern that the exact program lists has a price that the search has found to be no larger.
    assert exact.certificate_.lower_bound <= model.network_.objective(X, y, 0.1) * (1 + 1e-6)


def test_kinks_and_classes():
    X, y = small(3, n=10)
    absolute = ConvexReLURegressor(0.3, loss="absolute", feature_penalty=MU, patterns="exact", tol=1e-5).fit(X, y)
    best = textbook(X, y, 0.3, MU, loss="absolute")
    assert np.isclose(absolute.network_.objective(X, y, 0.3, "absolute"), best, rtol=1e-4)
    signs = np.where(y > np.median(y), 1.0, -1.0)
    two = ConvexReLUClassifier(0.05, feature_penalty=MU, patterns="exact", tol=1e-6).fit(X, signs)
    assert np.isclose(two.network_.objective(X, signs, 0.05, "log_loss"), textbook(X, signs, 0.05, MU, loss="log_loss"))
    three = ConvexReLUClassifier(0.02, feature_penalty=[0.0, 50.0], patterns="adaptive", random_state=0)
    three.fit(X, np.digitize(X[:, 0], [-0.5, 0.5]))
    assert three.feature_importances_.tolist() == [1.0, 0.0] and three.score(X, np.digitize(X[:, 0], [-0.5, 0.5])) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("patterns", ["exact", "adaptive", "sampled"])
@pytest.mark.slow
def test_no_penalty_is_the_plain_fit(activation, patterns):
    if activation == "gated_relu" and patterns == "adaptive":
        return
    X, y = small(4)
    model = ConvexReLURegressor(0.1, patterns=patterns, activation=activation, n_patterns=30, random_state=0)
    plain = model.fit(X, y).network_
    for off in (0, 0.0, [0.0, 0.0]):
        network = clone(model).set_params(feature_penalty=off).fit(X, y).network_
        assert network.feature_penalty is None
        assert np.array_equal(network.hidden_weights, plain.hidden_weights)


@pytest.mark.parametrize("solver", ["newton", "fista"])
def test_a_huge_penalty_is_the_fit_without_the_feature(solver):
    X, y = small(5, n=8, d=3)
    mu = np.array([0.2, 1e6, 0.4])
    model = ConvexReLURegressor(0.1, patterns="exact", solver=solver, feature_penalty=mu, tol=1e-6).fit(X, y)
    less = ConvexReLURegressor(0.1, patterns="exact", feature_penalty=mu[[0, 2]], tol=1e-6).fit(X[:, [0, 2]], y)
    assert model.feature_importances_[1] == 0 and model.network_.n_neurons
    value, expected = model.network_.objective(X, y, 0.1), less.network_.objective(X[:, [0, 2]], y, 0.1)
    assert np.isclose(value, expected, rtol=2e-6)


def test_nothing_depends_on_the_order_and_signs_of_features():
    X, y = small(6, d=3)
    mu, order, flip = np.array([0.1, 0.9, 0.4]), [2, 0, 1], np.array([1.0, -1.0, -1.0])
    model = ConvexReLURegressor(0.1, patterns="exact", feature_penalty=mu, tol=1e-8).fit(X, y)
    other = clone(model).set_params(feature_penalty=mu[order]).fit((X * flip)[:, order], y)
    assert np.isclose(model.network_.objective(X, y, 0.1), other.certificate_.objective, rtol=1e-7)
    assert np.allclose(model.feature_importances_[order], other.feature_importances_, atol=1e-3)
    assert np.isclose(model.alpha_max_, other.alpha_max_, rtol=1e-9)


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
def test_alpha_max(patterns):
    X, y = small(7)
    options = dict(patterns=patterns, feature_penalty=0.7, certify=False, random_state=0, tol=1e-8)
    top = ConvexReLURegressor(1.0, **options).fit(X, y).alpha_max_
    assert ConvexReLURegressor(top * (1 + 1e-9), **options).fit(X, y).network_.n_neurons == 0
    assert ConvexReLURegressor(top * 0.999, **options).fit(X, y).network_.n_neurons > 0


def test_penalties_are_charged_per_feature():
    # One neuron on one feature: at the same slope it costs 1 + mu times as much.
    X, y = np.array([[-1.0], [0.0], [2.0]]), np.array([0.0, 0.0, 2.0])
    plain = ConvexReLURegressor(1.0, patterns="exact", hidden_bias="none", tol=1e-9)
    charged = clone(plain).set_params(feature_penalty=3.0)
    assert np.isclose(charged.fit(X, y).alpha_max_, plain.fit(X, y).alpha_max_ / 4)
    charged.set_params(alpha=0.1).fit(X, y)
    assert np.allclose(charged.predict(X), plain.set_params(alpha=0.4).fit(X, y).predict(X), atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Planted features


def planted(n=220, d=8, seed=0):
    """y depends on features 1, 4 and 6 through two neurons."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = 2 * np.maximum(X[:, 1] + 0.5 * X[:, 4], 0) - 1.5 * np.maximum(X[:, 6] - 0.3, 0)
    return X, y + 0.1 * rng.standard_normal(n)


@pytest.mark.parametrize("seed", range(2))
def test_the_planted_features_are_found(seed):
    X, y = planted(seed=seed)
    model = ConvexReLURegressor(10.0, feature_penalty=2.0, certify=False, random_state=0).fit(X, y)
    assert np.flatnonzero(model.feature_importances_).tolist() == [1, 4, 6]
    assert model.certificate_.price_found <= 1 + 1e-4 and model.score(X, y) > 0.8
    plain = ConvexReLURegressor(10.0, patterns="sampled", n_patterns=50, certify=False, random_state=0).fit(X, y)
    assert np.count_nonzero(plain.feature_importances_) == 8


def test_select_from_model():
    X, y = planted()
    selector = SelectFromModel(
        ConvexReLURegressor(10.0, feature_penalty=3.0, certify=False, random_state=0), threshold=1e-5
    )
    model = make_pipeline(selector, ConvexReLURegressor(2.0, certify=False, random_state=0)).fit(X, y)
    assert model[0].get_support(indices=True).tolist() == [1, 4, 6]
    assert model[1].n_features_in_ == 3 and model.score(X, y) > 0.97


def test_gated_networks_leave_features_out_too():
    X, y = planted()
    model = ConvexReLURegressor(10.0, activation="gated_relu", n_patterns=300, feature_penalty=2.0, random_state=0)
    assert set(np.flatnonzero(model.fit(X, y).feature_importances_)) == {1, 4, 6}
    network, price = model.network_.to_relu(X)
    assert np.allclose(network.predict(X), model.predict(X), atol=1e-8) and price >= 1
    assert np.isclose(network.path_norms.sum(), price * model.network_.path_norms.sum())


def test_importances_by_hand():
    weights, output = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 4.0]]), np.array([[3.0, -4.0], [0.0, 1.0]])
    network = Network(weights, np.zeros(2), output, np.zeros(2))
    assert np.allclose(network.feature_importances, np.array([5.0, 0.0, 14.0]) / 19)
    linear = replace(network, skip_weights=np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    assert np.allclose(linear.feature_importances, np.array([5.0, 5.0, 15.0]) / 25)
    assert not network.select(np.zeros(0, dtype=int)).feature_importances.any()
    # Slopes: no prediction moves by more.
    X = np.random.default_rng(0).standard_normal((50, 3))
    moved = np.linalg.norm(network.predict(X + [0.0, 0.0, 0.1]) - network.predict(X), axis=1)
    assert moved.max() <= 0.1 * 14 * (1 + 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# The search


@pytest.mark.parametrize("seed", range(4))
def test_prices_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    n, d = (6, 7, 10, 5)[seed], 3 + seed % 2
    X = rng.integers(-2, 3, (n, d)).astype(float) if seed % 4 == 3 else rng.standard_normal((n, d))
    X[:, -1] = 1.0
    t, mu = rng.standard_normal(n), np.append(rng.uniform(0, 1.5, d - 1), 0.0)
    highest = 0.0
    for pattern in enumerate_patterns(X).patterns.T:
        u = cp.Variable(d)
        inside = cp.multiply(2.0 * pattern - 1.0, X @ u) >= 0
        program = cp.Problem(cp.Maximize((pattern * t) @ X @ u), [inside, cp.norm(u) + mu @ cp.abs(u) <= 1])
        program.solve(solver="CLARABEL")
        highest = max(highest, program.value)
    task = task_of_rows(X, t, LOSSES["squared"](), feature_penalty=mu)
    peaks, prices, V, _ = find(task, t, no_peaks(X), Effort(100, 30, 3), np.random.default_rng(0))
    prices, V = prices[peaks.dual == 0], V[peaks.dual == 0]
    assert np.isclose(prices.max(initial=0.0), highest, atol=1e-6)
    for price, v in zip(prices, V):
        attained = t @ np.maximum(X @ v, 0) / (np.sqrt(v @ v) + mu @ np.abs(v))
        assert np.isclose(price, attained, atol=1e-9) and np.isclose(price, np.linalg.norm(v), rtol=1e-9)


def test_ascent_never_goes_down_and_leaves_features_out():
    X, y = planted(100)
    mu, rng = np.full(8, 1.0), np.random.default_rng(0)
    starts = rng.standard_normal((50, 8))

    def price(U):
        return np.maximum(X @ U.T, 0).T @ (y - y.mean()) / (np.linalg.norm(U, axis=1) + np.abs(U) @ mu)

    U, before = starts, price(starts)
    for n_steps in (1, 3, 30):
        U = ascend(X, y - y.mean(), starts, n_steps, feature_penalty=mu)
        assert np.all(price(U) >= before * (1 - 1e-12)) and np.allclose(np.linalg.norm(U, axis=1), 1.0)
        before = price(U)
    assert np.mean(U == 0) > 0.3


@pytest.mark.parametrize("loss", ["squared", "log_loss"])
def test_gradient_of_the_descent(loss, monkeypatch):
    X, y = small(8, n=9)
    rows, loss = np.column_stack([X, np.ones(9)]), LOSSES[loss]()
    y = np.sign(y) if loss.name == "log_loss" else y
    seen = {}

    def spy(objective, begin, **options):
        seen.update(objective=objective, begin=begin)
        return minimize(objective, begin, **options)

    minimize = descent_module.minimize
    monkeypatch.setattr(descent_module, "minimize", spy)
    task = task_of_rows(rows, y, loss, feature_penalty=np.array([0.3, 5.0, 0.0]))
    descend(task, 0.2, np.random.default_rng(0), n_neurons=4)
    single = seen["objective"]
    # Differences of values need double precision.
    monkeypatch.setattr(descent_module, "in_single_precision", lambda X: X)
    blocks = descend(task, 0.2, np.random.default_rng(0), n_neurons=4)
    p = np.abs(seen["begin"]) + 0.1
    assert np.isclose(single(p)[0], seen["objective"](p)[0], rtol=1e-6)
    assert 0 < np.abs(single(p)[1] - seen["objective"](p)[1]).max() < 1e-5
    gradient = approx_fprime(p, lambda q: seen["objective"](q)[0], 1e-7)
    assert np.allclose(seen["objective"](p)[1], gradient, atol=1e-4)
    # At its end the value is that of the network, whose weights are exact zeros in places.
    assert len(blocks.V) and (blocks.V[:, 1] == 0).any()


def test_search_for_alpha_max_is_a_lower_bound_that_is_reached():
    X, y = small(9)
    rows, mu = np.column_stack([X, np.ones(len(X))]), np.append(MU, 0.0)
    task = task_of_rows(rows, y, LOSSES["squared"](), feature_penalty=mu)
    found = search_alpha_max(task, np.random.default_rng(0))
    problem = Problem.listing(task, enumerate_patterns(rows).patterns.T, 1.0)
    assert np.isclose(found, problem.alpha_max, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Networks, certificates, audits


def random_network(seed=0, m=5, d=2):
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m)
    return Network(*parts, 0.3, feature_penalty=MU[:d])


def test_network_methods_count_the_penalty():
    X, y = small(2)
    network = random_network()
    norms = np.linalg.norm(np.column_stack([network.hidden_weights, network.hidden_biases]), axis=1)
    norms += np.abs(network.hidden_weights) @ MU
    assert np.allclose(network.path_norms, norms * np.abs(network.output_weights))
    decay = 0.5 * (norms @ norms + network.output_weights @ network.output_weights)
    loss = 0.5 * np.sum((y - network.predict(X)) ** 2)
    assert np.isclose(network.objective(X, y, 0.7), loss + 0.7 * decay)
    balanced = network.balance()
    assert np.isclose(balanced.objective(X, y, 0.7), loss + 0.7 * network.path_norms.sum())
    assert np.allclose(balanced.predict(X), network.predict(X))
    doubled = replace(
        network,
        hidden_weights=np.repeat(network.hidden_weights, 2, axis=0),
        hidden_biases=np.repeat(network.hidden_biases, 2),
        output_weights=np.repeat(network.output_weights / 2, 2),
    )
    assert doubled.merge().n_neurons == 5
    for smaller in (doubled.merge(), doubled.prune(X), network.prune(X[:3])):
        assert smaller.path_norms.sum() <= network.path_norms.sum() * (1 + 1e-9)
    raw = network.for_raw_inputs([1.0, 2.0], [10.0, 0.1])
    assert np.allclose(raw.predict(X * [10.0, 0.1] + [1.0, 2.0]), network.predict(X))
    charged = np.abs(raw.hidden_weights) @ raw.feature_penalty
    assert np.allclose(charged, np.abs(network.hidden_weights) @ network.feature_penalty)


def test_network_files(tmp_path):
    network = random_network()
    network.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz")
    assert np.array_equal(again.feature_penalty, MU) and np.array_equal(again.path_norms, network.path_norms)
    replace(network, feature_penalty=np.ones(3)).save(tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="feature_penalty"):
        Network.load(tmp_path / "wrong.npz")


@pytest.mark.parametrize("method", ["enumeration", "branch_and_bound", "sums_of_squares"])
@pytest.mark.parametrize("bias", [True, False])
def test_proved_bounds_are_bounds(method, bias):
    X, y = small(10)
    mu = np.array([0.2, 0.6])
    kind = "penalized" if bias else "none"
    model = ConvexReLURegressor(0.1, patterns="exact", feature_penalty=mu, hidden_bias=kind, tol=1e-7).fit(X, y)
    best = model.certificate_.objective
    found = certify(model.network_, X, y, alpha=0.1, method=method, hidden_bias=kind, max_time=5)
    assert found.scope == "global" and found.lower_bound <= best * (1 + 1e-9)
    assert found.lower_bound >= best * (0.7 if method == "sums_of_squares" else 1 - 2e-3)
    assert np.isclose(found.verify(X, y), found.lower_bound)
    # The proof is of this penalty: for a cheaper one it says nothing.
    for other in (None, 0.5 * mu):
        cheaper = replace(found, network=replace(found.network, feature_penalty=other))
        with pytest.raises(ValueError, match="objective"):
            cheaper.verify(X, y)
        value = cheaper.network.objective(X, y, 0.1)
        with pytest.raises(ValueError, match=r"bound|feature penalty|feasible|box|cone"):
            replace(cheaper, objective=value).verify(X, y)


def test_tampered_proofs_are_refused():
    X, y = small(10)
    network = ConvexReLURegressor(0.1, patterns="exact", feature_penalty=MU).fit(X, y).network_
    proof = certify(network, X, y, alpha=0.1, method="branch_and_bound")
    assert proof.verify(X, y) > 0
    for change in (
        lambda evidence: replace(evidence, charge=0.9 * evidence.charge),
        lambda evidence: replace(evidence, feature_penalty=2 * evidence.feature_penalty),
        lambda evidence: evidence.tree,
    ):
        tampered = tuple((output, sign, change(evidence)) for output, sign, evidence in proof.evidence)
        with pytest.raises(ValueError):
            replace(proof, evidence=tampered).verify(X, y)


def test_certify_of_the_estimator():
    X, y = planted(80)
    X = X[:, [1, 4, 6]]
    model = ConvexReLURegressor(10.0, patterns="adaptive", feature_penalty=0.5, certify=True, max_time=10)
    model.set_params(random_state=0).fit(X, y)
    assert model.certificate_.scope == "global" and model.certificate_.relative_gap < 2e-3
    assert np.isclose(model.certificate_.verify(X, y), model.certificate_.lower_bound)


def test_polish_and_audit_keep_the_penalty():
    X, y = small(11)
    network = random_network(3)
    best = textbook(X, y, 0.2, MU)
    polished = polish(network, X, y, alpha=0.2)
    assert np.array_equal(polished.feature_penalty, MU)
    assert best * (1 - 1e-6) <= polished.objective(X, y, 0.2) <= network.objective(X, y, 0.2)
    report = audit(network, X, y, alpha=0.2, improve=True, tol=1e-6)
    assert np.isclose(report.improved.objective(X, y, 0.2), best, rtol=1e-5)
    assert report.lower_bound <= best * (1 + 1e-9)


def test_warm_start_and_init():
    X, y = planted(100)
    model = ConvexReLURegressor(10.0, feature_penalty=1.0, certify=False, random_state=0, tol=1e-6).fit(X, y)
    again = clone(model).set_params(init=model.network_).fit(X, y)
    assert np.isclose(again.certificate_.objective, model.certificate_.objective, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf, [1.0], [1.0, -1.0], np.ones((2, 1)), "0.5", {}, True])
def test_unusable_penalties(wrong):
    with pytest.raises(ValueError, match="feature_penalty must be"):
        ConvexReLURegressor(0.1, feature_penalty=wrong).fit(*small())


def test_free_biases_are_refused():
    with pytest.raises(ValueError, match="feature_penalty needs hidden_bias"):
        ConvexReLURegressor(0.1, feature_penalty=0.5, hidden_bias="free").fit(*small())
    with pytest.raises(ValueError, match="feature_penalty needs hidden_bias"):
        certify(replace(random_network(), hidden_bias="free"), *small(), alpha=0.1)
    ConvexReLURegressor(0.1, feature_penalty=0.0, hidden_bias="free").fit(*small())


def test_lifting():
    assert Neuron.of("relu", "penalized", None, 2).feature_penalty is None
    assert Neuron.of("relu", "none", [0, 0], 2).feature_penalty is None
    assert Neuron.of("relu", "penalized", 0.5, 2).feature_penalty.tolist() == [0.5, 0.5, 0.0]
    assert Neuron.of("relu", "none", [0.5, 0.0], 2).feature_penalty.tolist() == [0.5, 0.0]
