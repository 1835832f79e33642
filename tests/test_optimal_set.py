"""optimal_set: the oracle is the textbook program at its optimal value, and brute force over supports."""

from itertools import combinations

import cvxpy as cp
import numpy as np
import pytest

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    OptimalSet,
    enumerate_patterns,
    optimal_set,
    sample_patterns,
)


def planted(name, seed=0):
    """Small data of which some have many optimal networks, or functions."""
    rng = np.random.default_rng(seed)
    if name == "circle":
        angle = 2 * np.pi * np.arange(8) / 8
        return np.column_stack([np.cos(angle), np.sin(angle)]), np.ones(8)
    if name == "grid":
        X = np.array([[a, b] for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)])
        return X, np.abs(X).sum(axis=1)
    if name == "line":
        x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        return x[:, None], np.abs(x)
    X = rng.standard_normal((7, 2))
    return X, np.abs(X[:, 0]) - X[:, 1] + 0.3 * rng.standard_normal(7)


CASES = [
    ("circle", dict(hidden_bias="none", fit_intercept=False), 0.05),
    ("grid", dict(hidden_bias="none", fit_intercept=False), 0.05),
    ("grid", dict(), 0.05),
    ("line", dict(), 0.1),
    ("random", dict(hidden_bias="none", fit_intercept=False), 0.1),
    ("random", dict(), 0.05),
    ("random", dict(skip_connection=True), 0.02),
    ("random", dict(feature_penalty=0.5), 0.05),
    ("circle", dict(activation="gated_relu", hidden_bias="none", fit_intercept=False), 0.05),
    ("line", dict(activation="gated_relu"), 0.1),
]


def fitted(name, options, alpha, **more):
    X, y = planted(name)
    model = ConvexReLURegressor(alpha=alpha, patterns="exact", **options, **more).fit(X, y)
    return model, X, y


def cells_by_hand(rows):
    """Every activation pattern: signs around each ray on which d - 1 hyperplanes meet (how many is asserted)."""
    rng, d = np.random.default_rng(1), rows.shape[1]
    rays = [np.linalg.svd(rows[list(k)])[2][-1] for k in combinations(range(len(rows)), d - 1)]
    around = np.concatenate([rays, np.negative(rays)])[:, None] + 1e-4 * rng.standard_normal((100, d))
    return np.unique(around.reshape(-1, d) @ rows.T >= 0, axis=0)


@pytest.mark.parametrize(("name", "options", "alpha"), CASES)
def test_the_textbook_program_has_the_same_optima(name, options, alpha):
    # Support functions of both sets in random directions of coefficient space; a neuron on a wall may be in any cell.
    model, X, y = fitted(name, options, alpha, tol=1e-8)
    optima = optimal_set(model, X, y)
    rows = X if options.get("hidden_bias") == "none" else np.column_stack([X, np.ones(len(X))])
    d, gated = rows.shape[1], "activation" in options
    patterns = cells_by_hand(rows)
    assert len(patterns) == enumerate_patterns(rows).n_patterns
    mu = np.append(np.full(X.shape[1], options.get("feature_penalty", 0.0)), np.zeros(d - X.shape[1]))
    blocks = [(k, sign) for k in range(len(patterns)) for sign in ((1,) if gated else (1, -1))]
    V = cp.Variable((len(blocks), d))
    z = sum(sign * cp.multiply(patterns[k], rows @ V[j]) for j, (k, sign) in enumerate(blocks))
    if options.get("fit_intercept", True):
        z = z + cp.Variable()
    if options.get("skip_connection"):
        z = z + X @ cp.Variable(X.shape[1])
    size = cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.abs(V) @ mu)
    cones = [
        cp.multiply(np.where(patterns[k], 1.0, -1.0), rows @ V[j]) >= 0 for j, (k, _) in enumerate(blocks) if not gated
    ]
    program = cp.Problem(cp.Minimize(cp.sum_squares(y - z) / 2 + alpha * size), cones)
    program.solve(solver="CLARABEL")
    assert np.isclose(program.value, optima.objective, rtol=1e-6)
    fixed = [z == optima.network.predict(X), size <= optima.path_norms.sum() * (1 + 1e-8), *cones]
    units = np.column_stack([optima.neurons.hidden_weights, optima.neurons.hidden_biases])[:, :d]
    if gated:
        own = optima.neurons.gate_weights @ X.T + optima.neurons.gate_biases[:, None] >= 0
    rng = np.random.default_rng(2)
    for _ in range(2):
        c = rng.standard_normal((len(blocks), d))
        highest = cp.Problem(cp.Maximize(cp.sum(cp.multiply(c, V))), fixed).solve(solver="CLARABEL")
        cost = np.full(len(units), -np.inf)
        for j, (u, a) in enumerate(zip(units, optima.neurons.output_weights)):
            for (k, sign), direction in zip(blocks, c):
                if gated:
                    inside = np.array_equal(own[j], patterns[k])
                else:
                    inside = sign * a > 0 and np.all(np.where(patterns[k], 1.0, -1.0) * (rows @ u) >= -1e-9)
                if inside:
                    cost[j] = max(cost[j], sign * a * direction @ u if gated else direction @ u)
        found = cost @ optima.polytope.least(-cost)
        # What tolerances leave of the constraints widens a set of optima by its square root.
        assert -1e-4 <= (highest - found) / optima.path_norms.sum() <= 1e-2


def every_vertex(optima):
    """Vertices by brute force: the solution on every support of as many neurons as there are equations."""
    E, t = optima.polytope.equations, optima.path_norms
    vertices = []
    for support in combinations(range(len(t)), len(E)):
        k = list(support)
        if np.linalg.matrix_rank(E[:, k], tol=1e-8) < len(E):
            continue
        x = np.linalg.solve(E[:, k], E @ t)
        if x.min() > -1e-9 * t.sum():
            vertex = np.zeros(len(t))
            vertex[k] = np.where(x > 1e-9 * t.sum(), x, 0.0)
            vertices.append(vertex)
    return np.unique(np.round(vertices, 9), axis=0)


@pytest.mark.parametrize(("name", "options", "alpha"), CASES)
def test_all_networks_of_the_set(name, options, alpha):
    model, X, y = fitted(name, options, alpha)
    optima = optimal_set(model, X, y)
    assert optima.scope == "global" and optima.relative_gap < 1e-11 and 0 <= optima.given_gap < 1e-4
    assert np.abs(optima.prices - 1).max() < 1e-6
    assert np.allclose(optima.theta, y - optima.network.predict(X), atol=1e-9)
    vertices, rng = every_vertex(optima), np.random.default_rng(0)
    smallest, at_least = optima.smallest()
    assert smallest.n_neurons == at_least == np.count_nonzero(vertices, axis=1).min()
    low, high = optima.path_norm_ranges().T
    assert np.allclose(low, vertices.min(axis=0), atol=1e-7) and np.allclose(high, vertices.max(axis=0), atol=1e-7)
    spread = vertices - vertices.mean(axis=0)
    assert optima.dimension == np.linalg.matrix_rank(spread, tol=1e-6)
    new = np.vstack([X, 3 * rng.standard_normal((6, X.shape[1]))])
    predictions = np.array([optima.network_of(optima.polytope.nearest(v)).predict(new) for v in vertices])
    bottom, top = optima.predict_range(new)
    assert np.allclose(bottom, predictions.min(axis=0), atol=1e-6)
    assert np.allclose(top, predictions.max(axis=0), atol=1e-6)
    assert np.allclose(bottom[: len(X)], top[: len(X)], atol=1e-9)
    many = 5 * rng.standard_normal((300, X.shape[1]))
    values = np.array([optima.network_of(optima.polytope.nearest(v)).predict(many) for v in vertices])
    assert optima.function_dimension == np.linalg.matrix_rank(values - values.mean(axis=0), tol=1e-5)
    networks = [optima.network, smallest, optima.largest(), optima.best(new, np.arange(len(new)))]
    networks += [optima.vertex(rng.standard_normal(len(low))) for _ in range(3)]
    for network in networks:
        assert np.isclose(network.objective(X, y, alpha), optima.objective, rtol=1e-9)
        assert np.allclose(network.predict(X), optima.network.predict(X), atol=1e-9)
        assert np.allclose(np.linalg.norm(network.output_weights.reshape(network.n_neurons, -1), axis=1) ** 2,
                           network.path_norms)  # fmt: skip
        assert (network.gate_weights is None) == (optima.network.gate_weights is None)
    assert optima.largest().n_neurons == np.count_nonzero(vertices.max(axis=0))
    assert all(network.n_neurons <= len(optima.polytope.equations) for network in networks[4:])
    assert optima.is_unique == (len(vertices) == 1)


def test_the_planted_sets_are_what_they_are_for():
    dimensions = []
    for name, options, alpha in CASES:
        optima = optimal_set(*fitted(name, options, alpha))
        dimensions.append((optima.dimension, optima.function_dimension))
    assert (0, 0) in dimensions  # one network
    assert any(d > 0 and f == 0 for d, f in dimensions)  # one function
    assert any(f > 0 for _, f in dimensions)


@pytest.mark.parametrize("name", ["circle", "grid"])
def test_the_best_on_validation_data_is_that_of_cvxpy(name):
    model, X, y = fitted(name, dict(hidden_bias="none", fit_intercept=False), 0.05)
    optima, rng = optimal_set(model, X, y), np.random.default_rng(3)
    new, weight = rng.standard_normal((20, 2)), rng.uniform(0, 2, 20)
    target = optima.vertex(rng.random(len(optima.prices))).predict(new) + 0.02 * rng.standard_normal(20)
    E, t = optima.polytope.equations, cp.Variable(len(optima.prices), nonneg=True)
    ramps = np.maximum(new @ optima.neurons.hidden_weights.T, 0) * optima.neurons.output_weights
    error = cp.sum(cp.multiply(weight, cp.square(target - ramps @ t))) / 2
    least = cp.Problem(cp.Minimize(error), [E @ t == E @ optima.path_norms]).solve(solver="CLARABEL")
    best = optima.best(new, target, weight)
    assert np.isclose(weight @ (target - best.predict(new)) ** 2 / 2, least, rtol=1e-6)
    assert least < 0.9 * weight @ (target - optima.largest().predict(new)) ** 2 / 2


def test_two_classes_and_labels():
    circle, _ = planted("circle")
    X, labels = np.vstack([circle, 0.3 * circle]), np.repeat(["odd", "even"], 8)
    settings = dict(alpha=0.05, hidden_bias="none", patterns="exact")
    model = ConvexReLUClassifier(**settings).fit(X, labels)
    optima = optimal_set(model, X, labels)
    assert optima.dimension > 0 and optima.function_dimension > 0
    signs = np.where(labels == "odd", 1.0, -1.0)
    rng = np.random.default_rng(0)
    new, code = rng.standard_normal((15, 2)), rng.choice([-1.0, 1.0], 15)
    best = optima.best(new, np.where(code > 0, "odd", "even"))
    assert np.isclose(best.objective(X, signs, 0.05, "log_loss"), optima.objective, rtol=1e-9)
    losses = [np.logaddexp(0, -code * optima.network_of(optima.polytope.nearest(v)).predict(new)).sum()
              for v in every_vertex(optima)]  # fmt: skip
    assert np.logaddexp(0, -code * best.predict(new)).sum() <= min(losses) + 1e-9
    with pytest.raises(ValueError, match="classes of the model"):
        optima.best(new, np.full(15, "neither"))


@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
def test_three_classes(activation):
    angle = 2 * np.pi * np.arange(12) / 12
    X, y = np.column_stack([np.cos(angle), np.sin(angle)]), np.arange(12) % 3
    settings = dict(alpha=0.02, hidden_bias="none", patterns="exact", activation=activation, tol=1e-7)
    model = ConvexReLUClassifier(**settings).fit(X, y)
    optima = optimal_set(model, X, y)
    assert optima.dimension > 0 and optima.relative_gap < 1e-11
    rng = np.random.default_rng(0)
    probabilities = model.predict_proba(X)
    for network in (
        optima.network,
        optima.largest(),
        optima.smallest(2.0)[0],
        optima.vertex(rng.random(len(optima.prices))),
    ):
        assert np.isclose(network.objective(X, y, 0.02, "log_loss"), optima.objective, rtol=1e-9)
        scores = np.exp(network.predict(X))
        assert np.allclose(scores / scores.sum(axis=1, keepdims=True), probabilities, atol=1e-3)
    new = rng.standard_normal((4, 2))
    low, high = optima.predict_range(new)
    inside = optima.largest().predict(new)
    inside -= inside.mean(axis=1, keepdims=True)
    assert np.all(low <= inside + 1e-9) and np.all(inside <= high + 1e-9)
    best = optima.best(new, [0, 1, 2, 0])
    assert np.isclose(best.objective(X, y, 0.02, "log_loss"), optima.objective, rtol=1e-9)


def test_a_search_finds_what_the_list_has():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((25, 3))
    y = np.abs(X[:, 0]) + 0.3 * rng.standard_normal(25)
    model = ConvexReLURegressor(alpha=0.2, patterns="adaptive", tol=1e-6, random_state=0).fit(X, y)
    listed, searched = (optimal_set(model, X, y, patterns=patterns) for patterns in ("exact", "search"))
    assert (listed.scope, searched.scope) == ("global", "search") and "there may be more" in str(searched)
    assert np.isclose(listed.objective, searched.objective, rtol=1e-12)
    assert len(listed.polytope.live) == len(searched.polytope.live) > 3
    assert listed.dimension == searched.dimension


def test_sampled_patterns_and_equal_weights():
    X, y = planted("random")
    rows = np.column_stack([X, np.ones(7)])
    model = ConvexReLURegressor(alpha=0.05, patterns=sample_patterns(rows, 12, random_state=0), tol=1e-8).fit(X, y)
    optima = optimal_set(model, X, y)
    assert optima.scope == "patterns" and optima.n_patterns == model.arrangement_.n_patterns
    assert optima.objective > optimal_set(*fitted("random", {}, 0.05)).objective * (1 + 1e-6)
    # A sample twice is a sample of weight 2, and one of weight 0 is none.
    weight = np.array([2.0, 1, 1, 1, 1, 1, 0])
    settings = dict(alpha=0.05, patterns="exact")
    weighted = optimal_set(ConvexReLURegressor(**settings).fit(X, y, sample_weight=weight), X, y, sample_weight=weight)
    again = [0, 0, 1, 2, 3, 4, 5]
    repeated = optimal_set(ConvexReLURegressor(**settings).fit(X[again], y[again]), X[again], y[again])
    assert np.isclose(weighted.objective, repeated.objective, rtol=1e-10)
    assert weighted.dimension == repeated.dimension and len(weighted.prices) == len(repeated.prices)


def test_the_given_network_comes_back_if_it_is_optimal():
    model, X, y = fitted("circle", dict(hidden_bias="none", fit_intercept=False), 0.05)
    optima = optimal_set(model, X, y)
    for network in (optima.largest(), optima.smallest()[0]):
        again = optimal_set(network, X, y, alpha=0.05, hidden_bias="none", fit_intercept=False)
        assert again.given_gap < 1e-9
        assert np.allclose(np.sort(again.network.path_norms), np.sort(network.path_norms), atol=1e-6)


def test_without_neurons():
    X, y = planted("random")
    model = ConvexReLURegressor(alpha=100.0).fit(X, y)
    optima = optimal_set(model, X, y)
    assert optima.is_unique and optima.network.n_neurons == 0 and optima.function_dimension == 0
    assert np.allclose(optima.network.predict(X), y.mean())
    assert optima.smallest()[1] == 0 and optima.largest().n_neurons == 0 and optima.path_norm_ranges().shape == (0, 2)
    assert np.allclose(optima.predict_range(X), y.mean()) and optima.best(X, y).n_neurons == 0
    assert "one optimal network, 0 neurons" in str(optima)


def test_the_default_accuracy_is_enough():
    # The fit stops at a gap of 1e-4; prices and predictions are then exact all the same.
    for name, options, alpha in CASES:
        optima = optimal_set(*fitted(name, options, alpha, tol=1e-4))
        exact = optimal_set(*fitted(name, options, alpha, tol=1e-10))
        assert np.abs(optima.prices[optima.polytope.live] - 1).max() < 1e-10
        assert np.isclose(optima.objective, exact.objective, rtol=1e-12)
        assert optima.dimension == exact.dimension and np.allclose(optima.theta, exact.theta, atol=1e-9)


def test_worse_networks_are_refused():
    model, X, y = fitted("random", {}, 0.05)
    worse = model.network_.select(np.arange(1, model.network_.n_neurons))
    with pytest.raises(ValueError, match=r"relative gap of .* more than max_gap=0.001"):
        optimal_set(worse, X, y, alpha=0.05)
    with pytest.raises(ValueError, match="must be optimal"):
        optimal_set(model, X, y, alpha=0.1)


def test_free_biases():
    # Two samples of each height: no sample keeps the bias of the neuron between them.
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    X, y = x[:, None], np.array([0.0, 0.0, 0.0, 1.0, 3.0, 5.0])
    model = ConvexReLURegressor(alpha=0.01, hidden_bias="free", skip_connection=True, tol=1e-8).fit(X, y)
    with pytest.raises(ValueError, match="hidden_bias='free' leaves the bias of"):
        optimal_set(model, X, y)
    y = np.maximum(x - 2, 0)
    model = ConvexReLURegressor(alpha=0.01, hidden_bias="free", skip_connection=True, tol=1e-8).fit(X, y)
    optima = optimal_set(model, X, y)
    # A ramp to the right is one to the left and a line.
    assert (optima.dimension, optima.function_dimension, len(optima.prices)) == (1, 0, 2)
    assert optima.smallest()[0].n_neurons == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(loss="absolute"), "kinks"),
        (dict(alpha=-1.0), "alpha must be given, finite and above 0"),
        (dict(tol=0.5), "tol must lie between"),
        (dict(max_gap=0), "max_gap be above 0"),
        (dict(patterns="all"), "patterns must be 'auto', 'exact', 'search' or an Arrangement"),
        (dict(patterns=enumerate_patterns(np.eye(3))), "of the 7 samples"),
        (dict(hidden_bias="none"), "no hidden biases"),
    ],
)
def test_arguments_are_checked(change, message):
    model, X, y = fitted("random", {}, 0.05)
    with pytest.raises(ValueError, match=message):
        optimal_set(model, X, y, **change)


def test_what_is_no_polytope_is_refused():
    X, y = planted("random")
    network = Network(np.eye(2), np.zeros(2), np.ones((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="one that feeds several"):
        optimal_set(network, X, np.arange(7) % 3, alpha=1.0)
    with pytest.raises(ValueError, match="alpha must be given"):
        optimal_set(Network(np.eye(2), np.zeros(2), np.ones(2)), X, y)
    far = y + 100 * (np.arange(7) == 3)
    model = ConvexReLURegressor(alpha=1.0, loss="huber", tol=1e-8).fit(X, far)
    with pytest.raises(ValueError, match="flat or straight at the predictions of"):
        optimal_set(model, X, far)
    separable = ConvexReLUClassifier(alpha=0.1, skip_connection=True).fit(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match="skip connection separates the classes"):
        optimal_set(separable, X, X[:, 0] > 0)
    gated = ConvexReLURegressor(alpha=0.1, activation="gated_relu").fit(X, y)
    with pytest.raises(ValueError, match="got 'search'"):
        optimal_set(gated, X, y, patterns="search")


def test_methods_check_their_arguments():
    optima = optimal_set(*fitted("grid", dict(hidden_bias="none", fit_intercept=False), 0.05))
    assert isinstance(optima, OptimalSet) and optima.dimension > 0
    m = len(optima.prices)
    for call, message in [
        (lambda: optima.network_of(np.full(m, 7.0)), "must be a point of the set"),
        (lambda: optima.network_of(np.zeros(m + 1)), "path_norms must be finite of shape"),
        (lambda: optima.vertex([np.nan] * m), "cost must be finite of shape"),
        (lambda: optima.smallest(max_time=0), "max_time must be above 0"),
        (lambda: optima.best(np.ones((3, 2)), np.ones(2)), "y and sample_weight must have shape"),
        (lambda: optima.predict_range(np.ones((3, 1))), "must have 2 features"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
