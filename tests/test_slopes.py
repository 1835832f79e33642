"""Activations with a slope below zero: reference values, proofs, and everything a network of them goes through."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import clone

from convexnn import (
    Arrangement,
    CertificateDisplay,
    ConvexReLUClassifier,
    ConvexReLURegressor,
    ConvexReLURegressorCV,
    Network,
    audit,
    certify,
    enumerate_patterns,
    network_from,
    optimal_set,
    radon_measure,
    relu_path,
    second_order_tv,
    select_alpha,
)
from convexnn.neurons.activations import ACTIVATIONS, Absolute, Activation, LeakyReLU, get_activation
from convexnn.neurons.neuron import Neuron
from convexnn.program.problem import Problem
from convexnn.program.task import Task
from convexnn.proofs.branching import bound_price
from convexnn.proofs.squares import Geometry, Squares
from convexnn.search.prices import Price
from convexnn.search.pricing import ascend, climb, no_peaks, search
from convexnn.solvers import SOLVERS

BENT = ["leaky_relu", "absolute"]
BIASES = ["penalized", "free", "none"]
#: Optima of twelve samples with a penalised bias, alpha = .5, no intercept: of a program in cvxpy without the package.
REFERENCE = {0: 2.851591, 0.1: 2.991269, 0.5: 3.860883, -0.3: 2.570826, -1: 2.224318, 2: 2.542706}
#: The same of slopes 0.1 and -1 with an intercept, and of slope -1 with a skip connection too.
INTERCEPT = {0.1: 2.561527, -1: 1.575112}
SKIP = 1.513885


def twelve():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 - 1 + 0.1 * rng.standard_normal(12)


def program(slope, intercept=False, skip=False):
    X, y = twelve()
    neuron = Neuron(Activation("bent", slope))
    task = Task.of(X, y, "squared", None, neuron, fit_intercept=intercept, skip_connection=skip)
    return Problem.listing(task, enumerate_patterns(task.rows).patterns.T, 0.5)


def sigma(z, slope):
    return np.where(z > 0, z, slope * z)


def by_hand(network, X, y, alpha):
    """The objective of a network of one output, entry by entry."""
    z = np.full(len(X), float(network.output_bias))
    decay = 0.0
    for w, b, a in zip(network.hidden_weights, network.hidden_biases, network.output_weights):
        z = z + sigma(X @ w + b, network.activation.slope) * a
        decay += w @ w + a * a + (b * b if network.hidden_bias == "penalized" else 0.0)
    if network.skip_weights is not None:
        z = z + X @ network.skip_weights
    return 0.5 * np.sum((y - z) ** 2) + 0.5 * alpha * decay


def descend(X, y, alpha, slope, hidden_bias, rng, m=12):
    """The objective where L-BFGS on the network's own weights ends."""
    d = X.shape[1]

    def objective(p):
        W, b, a, c = p[: m * d].reshape(m, d), p[m * d : m * d + m] * (hidden_bias != "none"), p[-m - 1 : -1], p[-1]
        Z = X @ W.T + b
        r = sigma(Z, slope) @ a + c - y
        back = np.where(Z > 0, 1.0, slope) * r[:, None] * a
        counted = hidden_bias == "penalized"
        value = 0.5 * r @ r + 0.5 * alpha * (np.sum(W**2) + np.sum(a**2) + counted * np.sum(b**2))
        by_b = (back.sum(axis=0) + alpha * counted * b) * (hidden_bias != "none")
        slopes = (back.T @ X + alpha * W).ravel(), by_b, sigma(Z, slope).T @ r + alpha * a, [r.sum()]
        return value, np.concatenate(slopes)

    return minimize(objective, rng.standard_normal(m * d + 2 * m + 1), jac=True, method="L-BFGS-B").fun


class TestPrograms:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("slope", REFERENCE)
    def test_reference(self, slope, solver):
        result = SOLVERS[solver](tol=1e-8).solve(program(slope))
        assert result.primal == pytest.approx(REFERENCE[slope], abs=1e-6)
        assert result.dual == pytest.approx(REFERENCE[slope], abs=1e-6)

    @pytest.mark.parametrize("slope", INTERCEPT)
    def test_reference_with_an_intercept(self, slope):
        assert SOLVERS["newton"](tol=1e-8).solve(program(slope, True)).primal == pytest.approx(
            INTERCEPT[slope], abs=1e-6
        )
        assert SOLVERS["newton"](tol=1e-8).solve(program(-1, True, True)).primal == pytest.approx(SKIP, abs=1e-6)

    @pytest.mark.parametrize("slope", [0.1, 0.5, -0.3, -1, 2])
    def test_beside_a_linear_term_all_are_relu_at_another_alpha(self, slope):
        """With intercept and skip connection sigma at alpha is ReLU at alpha / |1 - slope|."""
        relu = program(0.0, True, True)
        other = replace(program(slope, True, True), alpha=0.5 * abs(1 - slope))
        best = [SOLVERS["newton"](tol=1e-9).solve(each).primal for each in (relu, other)]
        assert best[0] == pytest.approx(best[1], rel=1e-7)

    def test_an_even_activation_needs_half_of_the_patterns(self):
        assert len(program(-1).design.patterns) == 67 and len(program(0.1).design.patterns) == 134

    @pytest.mark.parametrize("slope", [0.1, -0.3, -1])
    @pytest.mark.parametrize("hidden_bias", BIASES)
    def test_no_descent_goes_below_a_bound(self, slope, hidden_bias):
        X, y = twelve()
        model = ConvexReLURegressor(0.3, activation=Activation("bent", slope), hidden_bias=hidden_bias, tol=1e-6)
        certificate = model.fit(X, y).certificate_
        rng = np.random.default_rng(3)
        ends = [descend(X, y, 0.3, slope, hidden_bias, rng) for _ in range(20)]
        assert certificate.scope == "global"
        assert certificate.lower_bound <= min(ends) * (1 + 1e-9)
        # And some come near.
        assert min(ends) <= certificate.objective * 1.05
        assert by_hand(model.network_, X, y, 0.3) == pytest.approx(certificate.objective, rel=1e-10)


class TestFits:
    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("hidden_bias", BIASES)
    @pytest.mark.parametrize("patterns", ["exact", "adaptive", "sampled"])
    def test_ways_to_list_patterns_agree(self, activation, hidden_bias, patterns):
        X, y = twelve()
        options = dict(activation=activation, hidden_bias=hidden_bias, tol=1e-6, random_state=0)
        best = ConvexReLURegressor(0.5, patterns="exact", **options).fit(X, y).certificate_.objective
        model = ConvexReLURegressor(0.5, patterns=patterns, **options).fit(X, y)
        assert model.certificate_.objective == pytest.approx(best, rel=3e-6)
        assert model.network_.activation == ACTIVATIONS[activation]
        assert by_hand(model.network_, X, y, 0.5) == pytest.approx(model.certificate_.objective, rel=1e-10)
        if patterns != "sampled":
            assert model.certificate_.scope == "global"
            assert model.certificate_.verify(X, y) == pytest.approx(model.certificate_.lower_bound, rel=1e-9)
            assert ACTIVATIONS[activation].title in str(model.certificate_)

    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("skip", [False, True])
    @pytest.mark.slow
    def test_feature_penalty(self, activation, skip):
        X, y = twelve()
        options = dict(activation=activation, feature_penalty=[0.1, 0.4], skip_connection=skip, tol=1e-6)
        found = [
            ConvexReLURegressor(0.2, patterns=patterns, random_state=0, **options).fit(X, y)
            for patterns in ("exact", "adaptive")
        ]
        values = [model.certificate_.objective for model in found]
        assert values[0] == pytest.approx(values[1], rel=3e-6)
        for method in ("enumeration", "branch_and_bound", "sums_of_squares"):
            proof = certify(found[0].network_, X, y, alpha=0.2, method=method)
            assert proof.lower_bound <= values[0] and proof.verify(X, y) == pytest.approx(proof.lower_bound, rel=1e-9)
            assert proof.relative_gap < {"enumeration": 1e-6, "branch_and_bound": 2e-3, "sums_of_squares": 0.3}[method]

    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "hinge"])
    def test_classes(self, activation, loss):
        rng = np.random.default_rng(1)
        X = rng.standard_normal((30, 2))
        y = np.where(np.abs(X[:, 0]) + 0.3 * rng.standard_normal(30) > 0.7, "far", "near")
        model = ConvexReLUClassifier(0.3, loss=loss, activation=activation, patterns="adaptive", random_state=0)
        model.fit(X, y)
        assert model.certificate_.scope == "global" and model.certificate_.relative_gap < 2e-3
        assert model.score(X, y) > 0.8

    def test_three_classes(self):
        rng = np.random.default_rng(2)
        X = rng.standard_normal((24, 2))
        y = np.digitize(np.abs(X[:, 0]), [0.4, 1.0])
        for activation in BENT:
            options = dict(activation=activation, random_state=0, tol=1e-5)
            found = [ConvexReLUClassifier(0.2, patterns=p, **options).fit(X, y) for p in ("exact", "adaptive")]
            assert found[0].certificate_.objective == pytest.approx(found[1].certificate_.objective, rel=3e-5)
            found[1].certificate_.verify(X, np.unique(y, return_inverse=True)[1])

    def test_absolute_values_fit_an_absolute_value_with_one_neuron(self):
        X = np.random.default_rng(0).standard_normal((60, 3))
        y = np.abs(X @ [1.0, -2.0, 0.5] + 0.7)
        model = ConvexReLURegressor(1e-3, activation="absolute", patterns="adaptive", random_state=0).fit(X, y)
        assert model.network_.n_neurons == 1 and model.score(X, y) > 0.999

    def test_an_object_is_an_option(self):
        X, y = twelve()
        model = ConvexReLURegressor(0.5, activation=LeakyReLU(0.3), tol=1e-6).fit(X, y)
        again = clone(pickle.loads(pickle.dumps(model))).fit(X, y)
        assert again.activation == LeakyReLU(0.3) and np.array_equal(again.predict(X), model.predict(X))
        assert "LeakyReLU" not in str(model.certificate_) and "slope 0.3" in str(model.certificate_)

    def test_warm_start_and_init(self):
        X, y = twelve()
        for activation in BENT:
            options = dict(activation=activation, patterns="adaptive", tol=1e-6, random_state=0)
            cold = ConvexReLURegressor(0.5, **options).fit(X, y)
            begun = ConvexReLURegressor(0.5, init=cold.network_, **options).fit(X, y)
            assert begun.certificate_.objective == pytest.approx(cold.certificate_.objective, rel=3e-6)
            with pytest.raises(ValueError, match="init must have ReLU neurons, got"):
                ConvexReLURegressor(0.5, init=cold.network_).fit(X, y)
            changed = ConvexReLURegressor(0.5, patterns="adaptive", warm_start=True, random_state=0).fit(X, y)
            assert changed.set_params(activation=activation).fit(X, y).network_.activation.name == activation

    @pytest.mark.parametrize("activation", BENT)
    def test_paths_cross_validation_and_selection(self, activation):
        X, y = twelve()
        path = relu_path(X, y, activation=activation, alphas=4, eps=0.05, random_state=0)
        assert all(network.activation.name == activation for network in path.networks)
        assert np.all(np.diff(path.objectives) <= 1e-9)
        model = ConvexReLURegressorCV(alphas=3, cv=3, activation=activation, random_state=0).fit(X, y)
        assert model.network_.activation.name == activation
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = select_alpha(X, y, n_neurons=2, activation=activation, random_state=0)
        assert chosen.network.activation.name == activation


class TestPrices:
    """Every price is kink * (t^T (X u)_+ + lift t^T X u)."""

    @pytest.mark.parametrize("slope", [0.1, 0.6, -0.3, -1, -4, 3])
    def test_the_number_is_the_price(self, slope):
        rng = np.random.default_rng(0)
        X, theta, U = rng.standard_normal((9, 3)), rng.standard_normal(9), rng.standard_normal((5, 3))
        activation = Activation("bent", slope)
        price = Price(X, activation.kink * theta, activation.lift)
        assert np.allclose(price(U), sigma(X @ U.T, slope).T @ theta, atol=1e-12)
        assert np.allclose(activation(X), sigma(X, slope)) and np.allclose(
            activation.slopes(X > 0) * X, sigma(X, slope)
        )

    @pytest.mark.parametrize("slope", [0.6, -0.3, -1, -4, 3])
    @pytest.mark.parametrize("seed", range(3))
    def test_bounds_hold_and_are_reached(self, slope, seed):
        rng = np.random.default_rng(seed)
        # Repeated, opposite and zero rows too.
        X = np.concatenate([rng.standard_normal((9, 3)), np.zeros((1, 3))])
        X = np.concatenate([X, X[:2], -X[2:4]])
        theta, activation = rng.standard_normal(len(X)), Activation("bent", slope)
        price = Price(X, activation.kink * theta, activation.lift)
        U = rng.standard_normal((100_000, 3))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        highest = (sigma(X @ U.T, slope).T @ theta).max(initial=0.0)
        tree = bound_price(price)
        assert highest <= tree.bound <= 1.02 * max(highest, 1e-3 * np.abs(theta).sum())
        assert tree.check(price) == pytest.approx(tree.bound, rel=1e-9)
        assert tree.price == pytest.approx(max(float(price(tree.maximiser)), 0.0), rel=1e-12)
        # Evidence of another activation is still a bound, of this one.
        other = bound_price(replace(price, lift=0.0))
        assert other.check(price) >= highest
        geometry = Geometry(X, 2)
        ones = np.ones((len(X) + 1, 1)), np.ones((len(X), 1))
        for above, below in (ones, (0.3 * ones[0], 0.4 * ones[1])):
            W = np.zeros((geometry.rows, geometry.rows))
            assert Squares(2, 0, 1, above, below, W, geometry.basis, 0.0).check(price) >= highest

    @pytest.mark.parametrize("slope", [0.6, -0.3, -1, 3])
    def test_climbs_do_not_descend_and_searches_find_the_highest(self, slope):
        rng = np.random.default_rng(1)
        X, theta, activation = rng.standard_normal((40, 4)), rng.standard_normal(40), Activation("bent", slope)
        t, lift = activation.kink * theta, activation.lift
        starts = rng.standard_normal((30, 4))
        starts /= np.linalg.norm(starts, axis=1, keepdims=True)
        before = sigma(X @ starts.T, slope).T @ theta
        U = ascend(X, t, starts, lift=lift)
        after = sigma(X @ U.T, slope).T @ theta
        assert np.all(after >= before - 1e-9)
        none = np.full(U.shape, -1)
        peaks, _ = climb(X, t[:, None], U, np.zeros(len(U), dtype=int), none, lift=lift)
        V = peaks.V / peaks.prices[:, None]
        assert np.allclose(sigma(X @ V.T, slope).T @ theta, peaks.prices, rtol=1e-9)
        assert peaks.prices[0] >= after.max() - 1e-9
        found, _ = search(X, t[:, None], no_peaks(X), 200, 20, 3, rng, lift=lift)
        many = rng.standard_normal((100_000, 4))
        many /= np.linalg.norm(many, axis=1, keepdims=True)
        assert found.prices[0] >= (sigma(X @ many.T, slope).T @ theta).max()

    @pytest.mark.parametrize("activation", BENT)
    def test_rank_five_is_proved(self, activation):
        rng = np.random.default_rng(5)
        X = rng.standard_normal((60, 4))
        y = np.abs(X[:, 0] - X[:, 1]) + np.maximum(X[:, 2], 0.2 * X[:, 2]) + 0.1 * rng.standard_normal(60)
        model = ConvexReLURegressor(2.0, activation=activation, patterns="adaptive", random_state=0).fit(X, y)
        certificate = certify(model.network_, X, y, alpha=2.0, method="branch_and_bound")
        assert certificate.scope == "global" and certificate.relative_gap < 1.2e-3
        assert certificate.verify(X, y) == pytest.approx(certificate.lower_bound, rel=1e-9)

    @pytest.mark.parametrize("slope", [0.0, 0.5, -1.0])
    def test_squares_beside_nearly_dependent_skip_features_are_verified(self, slope):
        rng = np.random.default_rng(7)
        X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
        X[:, 1] = X[:, 0] + 1e-9 * rng.standard_normal(8)
        options = dict(hidden_bias="none", skip_connection=True, patterns="exact")
        model = ConvexReLURegressor(1e-3, activation=Activation("bent", slope), **options).fit(X, y)
        certificate = certify(model.network_, X, y, alpha=1e-3, hidden_bias="none", method="sums_of_squares")
        assert certificate.verify(X, y) == pytest.approx(certificate.lower_bound, abs=1e-9)

    def test_certificates_say_whose_they_are(self):
        X, y = twelve()
        model = ConvexReLURegressor(0.5, activation="leaky_relu", tol=1e-6).fit(X, y)
        other = replace(model.network_, activation=LeakyReLU(0.1))
        with pytest.raises(ValueError, match=r"objective is stored|evidence must be about"):
            replace(model.certificate_, network=other).verify(X, y)
        k, sign, proof = model.certificate_.evidence[0]
        forged = replace(proof, activation=ACTIVATIONS["relu"])
        with pytest.raises(ValueError, match="evidence must be about leaky ReLU"):
            replace(model.certificate_, evidence=((k, sign, forged), *model.certificate_.evidence[1:])).verify(X, y)


class TestNetworks:
    @pytest.mark.parametrize("slope", [0.1, -0.3, -1])
    def test_two_relu_neurons_for_each(self, slope):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((20, 3))
        network = Network(
            rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4), 0.3, None, None,
            rng.standard_normal(3), activation=Activation("bent", slope),
        )  # fmt: skip
        relu, price = network.to_relu(X)
        assert relu.activation.name == "relu" and relu.n_neurons == 8
        assert np.allclose(relu.predict(X), network.predict(X), atol=1e-12)
        assert price == pytest.approx(1 + abs(slope))
        raw = network.for_raw_inputs(X.mean(axis=0), X.std(axis=0))
        assert np.allclose(raw.predict(X), network.predict((X - X.mean(axis=0)) / X.std(axis=0)), atol=1e-12)

    def test_opposite_weights_of_an_even_activation_merge(self):
        W = np.array([[1.0, -2.0], [-1.0, 2.0], [0.5, 0.0]])
        network = Network(W, np.array([0.3, -0.3, 0.0]), np.array([1.0, 1.0, 2.0]), 0.0, activation=Absolute())
        merged = network.merge()
        X = np.random.default_rng(0).standard_normal((9, 2))
        assert merged.n_neurons == 2 and np.allclose(merged.predict(X), network.predict(X))
        leaky = replace(network, activation=LeakyReLU()).merge()
        assert leaky.n_neurons == 3

    @pytest.mark.parametrize("activation", [*BENT, "relu"])
    def test_files(self, activation, tmp_path):
        network = Network(np.eye(2), np.ones(2), np.ones(2), 0.1, activation=ACTIVATIONS[activation])
        network.save(tmp_path / "net.npz")
        again = Network.load(tmp_path / "net.npz")
        assert again.activation == network.activation
        assert np.array_equal(again.predict(np.eye(2)), network.predict(np.eye(2)))
        with np.load(tmp_path / "net.npz") as file:
            arrays = dict(file)
        for bad in (1.0, np.nan, "steep", [0.1, 0.2]):
            np.savez(tmp_path / "bad.npz", **arrays | dict(slope=bad))
            with pytest.raises(ValueError, match=r"bad\.npz is not a saved network: .*slope"):
                Network.load(tmp_path / "bad.npz")
        # Files of before there were slopes.
        np.savez(tmp_path / "old.npz", **{k: v for k, v in arrays.items() if k not in ("slope", "activation")})
        assert Network.load(tmp_path / "old.npz").activation.name == "relu"

    def test_words(self):
        network = Network(np.array([[2.0, 0.0]]), np.array([1.0]), np.array([1.5]), 0.0, activation=LeakyReLU(0.1))
        text = network.summary(network.count_active([[1.0, 0.0], [-3.0, 0.0], [-1.0, 2.0]]))
        assert "1 leaky ReLU (slope 0.1) neuron" in text and "elsewhere 0.1 times that" in text
        assert network.count_active([[1.0, 0.0], [-3.0, 0.0], [-1.0, 2.0]]).tolist() == [1]
        assert repr(replace(network, activation=Absolute())).startswith("Network(1 absolute-value neuron,")

    @pytest.mark.parametrize("slope", [0.1, -1])
    def test_bends(self, slope):
        """The slope across a hyperplane changes by 1 - slope times what it does for ReLU."""
        W, b, a = np.array([[1.0, 1.0], [-2.0, 0.0]]), np.array([0.5, 1.0]), np.array([1.0, -0.5])
        network = Network(W, b, a, 0.0, activation=Activation("bent", slope))
        relu = replace(network, activation=ACTIVATIONS["relu"])
        assert second_order_tv(network) == pytest.approx((1 - slope) * second_order_tv(relu))
        assert np.allclose(radon_measure(network).weights, (1 - slope) * radon_measure(relu).weights)

    def test_gates_have_no_slope(self):
        with pytest.raises(ValueError, match="gate_weights must be None for leaky ReLU"):
            Network(np.eye(2), np.zeros(2), np.ones(2), 0.0, np.eye(2), np.zeros(2), activation=LeakyReLU())
        with pytest.raises(ValueError, match="slope must be 0 for neurons with gates"):
            Activation("gated", 0.1, cones=False)

    @pytest.mark.parametrize("slope", [1, 1.0, np.nan, np.inf, "0.1", None, True])
    def test_slopes_that_are_none(self, slope):
        with pytest.raises(ValueError, match="slope must be a finite number other than 1"):
            Activation("bent", slope)

    @pytest.mark.parametrize("activation", ["tanh", None, 3, LeakyReLU])
    def test_names_that_are_none(self, activation):
        with pytest.raises(ValueError, match=r"activation must be one of .*LeakyReLU\(0\.2\)"):
            get_activation(activation)
        with pytest.raises(ValueError, match="activation must be one of"):
            ConvexReLURegressor(activation=activation).fit(*twelve())


class TestAnalysis:
    @pytest.mark.parametrize("activation", BENT)
    def test_audit_compares_with_networks_of_the_same_kind(self, activation):
        X, y = twelve()
        rng = np.random.default_rng(0)
        network = Network(
            rng.standard_normal((6, 2)),
            rng.standard_normal(6),
            rng.standard_normal(6),
            activation=ACTIVATIONS[activation],
        )
        report = audit(network, X, y, alpha=0.5, improve=True)
        best = ConvexReLURegressor(0.5, activation=activation, tol=1e-6).fit(X, y).certificate_.objective
        assert report.improved_objective == pytest.approx(best, rel=1e-4)
        assert best * (1 - 2e-3) <= report.lower_bound <= best * (1 + 1e-9)
        assert f"two-layer {ACTIVATIONS[activation].title} network" in str(report)

    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("hidden_bias", BIASES)
    def test_optimal_sets(self, activation, hidden_bias):
        """Every vertex is a network with the same objective, and the network that was fitted is in the set."""
        X, y = twelve()
        options = dict(activation=activation, hidden_bias=hidden_bias, tol=1e-8, random_state=0)
        model = ConvexReLURegressor(0.5, **options).fit(X, y)
        found = optimal_set(model, X, y)
        assert found.objective == pytest.approx(model.certificate_.objective, rel=1e-6)
        assert found.relative_gap < 1e-9
        for network in (found.network, found.largest(), found.vertex(np.arange(len(found.prices), dtype=float))):
            assert network.activation.name == activation
            assert by_hand(network, X, y, 0.5) == pytest.approx(found.objective, rel=1e-9)

    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("hidden_bias", BIASES)
    def test_optimal_sets_with_more_than_one_network(self, activation, hidden_bias):
        """Data with symmetries have many optimal networks; how many functions they are is seen far from the data."""
        angle = 2 * np.pi * np.arange(8) / 8
        X = np.column_stack([np.cos(angle), np.sin(angle)])
        y = np.cos(2 * angle)
        options = dict(activation=activation, hidden_bias=hidden_bias, patterns="exact", tol=1e-8)
        model = ConvexReLURegressor(0.02, **options).fit(X, y)
        found = optimal_set(model, X, y)
        rng = np.random.default_rng(0)
        vertices = [found.vertex(rng.standard_normal(len(found.prices))) for _ in range(30)]
        for network in vertices:
            assert by_hand(network, X, y, 0.02) == pytest.approx(found.objective, rel=1e-9)
            assert np.allclose(network.predict(X), found.network.predict(X), atol=1e-6)
        far = 10 * rng.standard_normal((500, 2))
        changes = [network.predict(far) - found.network.predict(far) for network in vertices]
        rank = np.linalg.matrix_rank(changes, tol=1e-5)
        assert rank <= found.function_dimension <= found.dimension
        assert rank == found.function_dimension or len(vertices) <= found.function_dimension

    @pytest.mark.parametrize("activation", BENT)
    @pytest.mark.parametrize("hidden_bias", BIASES)
    def test_pictures_of_prices(self, activation, hidden_bias):
        pytest.importorskip("matplotlib").use("Agg")
        import matplotlib.pyplot as plt

        X, y = twelve()
        for features in (X, X[:, :1]):
            if hidden_bias == "none" and features.shape[1] == 1:
                continue
            model = ConvexReLURegressor(0.3, activation=activation, hidden_bias=hidden_bias, tol=1e-9, certify=True)
            display = CertificateDisplay.from_estimator(model.fit(features, y), features)
            assert np.abs(display.prices).max() <= 1 + 1e-6
            assert np.allclose(display.neuron_prices, display.neuron_signs, atol=1e-3)
            plt.close("all")

    def test_an_arrangement_of_ones_own(self):
        X, y = twelve()
        rows = np.column_stack([X, np.ones(12)])
        listed = Arrangement.from_gates(rows, np.random.default_rng(0).standard_normal((3, 15)))
        for activation in BENT:
            model = ConvexReLURegressor(0.5, activation=activation, patterns=listed, tol=1e-6).fit(X, y)
            assert model.certificate_.scope == "patterns" and model.certificate_.relative_gap <= 1e-5
            again = ConvexReLURegressor(0.5, activation=activation, patterns=listed, tol=1e-6, init=model.network_)
            assert again.fit(X, y).certificate_.objective <= model.certificate_.objective * (1 + 2e-6)


class TestExport:
    @pytest.mark.parametrize("slope", [0.01, -0.3, -1.0])
    @pytest.mark.parametrize("skip", [False, True])
    def test_onnx(self, slope, skip):
        runtime = pytest.importorskip("onnxruntime")
        from convexnn.export import to_onnx

        network = self.network(slope, skip)
        X = np.random.default_rng(1).standard_normal((7, 3))
        session = runtime.InferenceSession(to_onnx(network).SerializeToString())
        assert np.allclose(session.run(None, {"X": X})[0], network.predict(X), atol=1e-14)

    def test_safetensors(self, tmp_path):
        pytest.importorskip("safetensors")
        from convexnn.export import load_safetensors, save_safetensors

        for slope in (0.01, -0.3, -1.0):
            network = self.network(slope, True)
            save_safetensors(network, tmp_path / "net.safetensors")
            again = load_safetensors(tmp_path / "net.safetensors")
            assert again.activation == network.activation
            assert np.array_equal(again.predict(np.eye(3)), network.predict(np.eye(3)))

    def test_scikit_learn_refuses_with_a_way_out(self):
        from convexnn.export import to_sklearn

        X = np.random.default_rng(1).standard_normal((7, 3))
        for slope in (0.01, -1.0):
            network = self.network(slope, True)
            with pytest.raises(ValueError, match=r"no .* neurons: export network\.to_relu"):
                to_sklearn(network)
            assert np.allclose(to_sklearn(network.to_relu(X)[0]).predict(X), network.predict(X), atol=1e-12)

    @pytest.mark.parametrize("slope", [0.01, -0.3, -1.0])
    def test_torch(self, slope):
        torch = pytest.importorskip("torch")
        from convexnn.export import to_torch

        X = np.random.default_rng(1).standard_normal((7, 3))
        for skip in (False, True):
            network = self.network(slope, skip)
            if skip and slope == -1:
                with pytest.raises(ValueError, match=r"cannot hold a skip connection.*to_relu"):
                    to_torch(network)
                continue
            module = to_torch(network)
            assert np.allclose(module(torch.from_numpy(X)).detach().numpy()[:, 0], network.predict(X), atol=1e-13)
            again = network_from(module)
            assert again.activation.slope == slope
            assert np.allclose(again.predict(X), network.predict(X), atol=1e-13)

    @staticmethod
    def network(slope, skip):
        rng = np.random.default_rng(0)
        own = dict(skip_weights=rng.standard_normal(3)) if skip else {}
        name = {0.01: "leaky_relu", -1.0: "absolute"}.get(slope, "bent")
        weights = rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4), 0.3
        return Network(*weights, **own, activation=Activation(name, slope))
