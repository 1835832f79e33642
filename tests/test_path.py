"""Regularisation paths, judged by the textbook program, by single fits and by what is known of optimal values."""

import itertools
import pickle

import matplotlib
from programs import listing

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    engine,
    relu_path,
)
from convexnn.arrangements import sample_patterns
from convexnn.estimators.path import check_alphas
from convexnn.losses import LOSSES, Huber
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.plots import PathDisplay
from convexnn.solvers import Newton

SMOOTH = [name for name in LOSSES if np.isfinite(LOSSES[name].lipschitz)]
SINGLE = [name for name in LOSSES if name != "multinomial_log_loss"]


def draw(loss="squared", n=20, d=2, seed=0):
    """Features, and a target with a bend in the first; three classes for the softmax, else two or real numbers."""
    rng = np.random.default_rng([seed, n, d])
    X = rng.standard_normal((n, d))
    score = np.abs(X[:, 0]) - 0.8 + 0.3 * X[:, -1] + 0.3 * rng.standard_normal(n)
    if loss == "multinomial_log_loss":
        return X, 3 * np.argsort(np.argsort(score)) // n
    return X, 2 * score if LOSSES[loss].target == "real" else (score > np.median(score)).astype(int)


def fit(loss, alpha, X, y, sample_weight=None, **options):
    kind = ConvexReLURegressor if LOSSES[loss].target == "real" else ConvexReLUClassifier
    return kind(alpha, loss=loss, **dict(tol=1e-7, certify=False) | options).fit(X, y, sample_weight)


def by_hand(network, loss, X, y, alpha, weights):
    """The training objective from the weights, with the losses written out."""
    W, b, a = network.hidden_weights, network.hidden_biases, network.output_weights
    gates = W @ X.T + b[:, None] if network.gate_weights is None else None
    open_ = gates >= 0 if gates is not None else network.gate_weights @ X.T + network.gate_biases[:, None] >= 0
    below = {"leaky_relu": 0.01, "absolute": -1.0}.get(network.activation.name, 0.0)
    z = (np.where(open_, 1.0, below) * (W @ X.T + b[:, None])).T @ a + network.output_bias
    if network.skip_weights is not None:
        z = z + X @ network.skip_weights
    r, m = y - z if z.ndim == 1 else None, (2 * y - 1) * z if z.ndim == 1 else None
    each = {
        "squared": lambda: r**2 / 2,
        "huber": lambda: np.where(np.abs(r) <= 1.35, r**2 / 2, 1.35 * (np.abs(r) - 1.35 / 2)),
        "absolute": lambda: np.abs(r),
        "quantile": lambda: 0.5 * np.abs(r),
        "log_loss": lambda: np.log1p(np.exp(-m)),
        "squared_hinge": lambda: np.maximum(1 - m, 0) ** 2,
        "hinge": lambda: np.maximum(1 - m, 0),
        "multinomial_log_loss": lambda: np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y],
    }[loss]()
    free = network.hidden_bias == "free"
    return weights @ each + 0.5 * alpha * (np.sum(W**2) + (0 if free else np.sum(b**2)) + np.sum(a**2))


def check(path, loss, X, y, weights=None, tol=1e-3):
    """Decreasing alphas, and every network within its gap."""
    weights = np.ones(len(X)) if weights is None else weights
    assert np.all(np.diff(path.alphas) <= 0)
    for alpha, network, certificate, result in zip(path.alphas, path.networks, path.certificates, path.results):
        objective = by_hand(network, loss, X, y, alpha, weights)
        assert np.isclose(objective, certificate.objective, rtol=1e-9)
        assert certificate.lower_bound <= objective * (1 + 1e-9)
        assert objective - certificate.lower_bound <= tol * objective * (1 + 1e-9) and result.status == "optimal"
    assert np.all(path.relative_gaps <= tol)


# ---------------------------------------------------------------------------------------------------------------------
# Every point within its gap


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_textbook(loss, activation, textbook):
    X, y = draw(loss, 9)
    weights = np.random.default_rng(1).uniform(0.3, 2.0, 9)
    lifted = np.column_stack([X, np.ones(9)])
    # The interior point of the oracle does not reach its accuracy with every draw.
    arrangement = sample_patterns(lifted, 3, random_state=int(activation == "absolute"))
    options = dict(activation=activation, patterns=arrangement, sample_weight=weights)
    path = relu_path(X, y, loss=loss, alphas=3, eps=0.05, tol=1e-5, **options)
    check(path, loss, X, y, weights, 1e-5)
    kind, coded = LOSSES[loss](), y if LOSSES[loss].target in ("real", "classes") else 2.0 * y - 1.0
    outputs = 3 if loss == "multinomial_log_loss" else 1
    problem = listing(activation, lifted, coded, arrangement, kind, 1.0, weights, True, outputs)
    for alpha, objective, bound in zip(path.alphas[1:], path.objectives[1:], path.lower_bounds[1:]):
        value = textbook(problem, alpha)[0]
        # The interior point's own accuracy beside the gap.
        assert bound <= value * (1 + 1e-7) and objective <= value * (1 + 1e-5 + 1e-7)


@pytest.mark.parametrize("hidden_bias, skip", [("penalized", False), ("free", False), ("none", True)])
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.slow
def test_single_fits(loss, hidden_bias, skip):
    X, y = draw(loss, 14)
    weights = np.random.default_rng(2).uniform(0.3, 2.0, 14)
    options = dict(patterns="exact", hidden_bias=hidden_bias, skip_connection=skip)
    path = relu_path(X, y, loss=loss, alphas=4, eps=0.02, sample_weight=weights, **options)
    check(path, loss, X, y, weights)
    for alpha, objective, bound in zip(path.alphas, path.objectives, path.lower_bounds):
        cold = fit(loss, alpha, X, y, weights, **options)
        assert np.isclose(cold.alpha_max_, path.alpha_max, rtol=1e-9)
        best = cold.certificate_.objective
        assert bound <= best * (1 + 1e-9) and objective <= best * (1 + 1e-3)


@pytest.mark.parametrize("loss", SMOOTH)
def test_adaptive_path_reaches_the_complete_list(loss):
    X, y = draw(loss, 14)
    path = relu_path(X, y, loss=loss, alphas=4, eps=0.02, patterns="adaptive", random_state=0)
    check(path, loss, X, y)
    for alpha, objective, certificate in zip(path.alphas, path.objectives, path.certificates):
        best = fit(loss, alpha, X, y, patterns="exact").certificate_
        assert best.scope == "global" and certificate.scope == "patterns"
        assert best.lower_bound * (1 - 1e-9) <= objective <= best.objective * (1 + 1e-3)
    exact = relu_path(X, y, loss=loss, alphas=1, patterns="exact")
    assert path.alpha_max <= exact.alpha_max * (1 + 1e-9) and path.alpha_max >= exact.alpha_max * (1 - 1e-6)


def test_certified_path():
    X, y = draw(n=15, d=1)
    path = relu_path(X, y, alphas=4, eps=0.1, patterns="adaptive", certify=True, random_state=0)
    check(path, "squared", X, y)
    for certificate in path.certificates:
        assert certificate.scope == "global" and certificate.verify(X, y) <= certificate.objective * (1 + 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# alpha_max


CASES = [
    (loss, *case)
    for loss in LOSSES
    for case in itertools.product(ACTIVATIONS, ("penalized", "free", "none"), (False, True), ("exact", "adaptive"))
    if (case[0] == "relu" or (case[1] != "free" and case[3] == "exact"))
    and (case[3] == "exact" or (not case[2] and loss in ("squared", "huber", "multinomial_log_loss", "hinge")))
]


@pytest.mark.parametrize("loss, activation, hidden_bias, skip, patterns", CASES)
@pytest.mark.slow
def test_no_neurons_at_alpha_max(loss, activation, hidden_bias, skip, patterns):
    X, y = draw(loss, 12, 1 if hidden_bias != "none" else 2, seed=3)
    weights = np.random.default_rng(0).uniform(0.3, 2.0, 12)
    options = dict(loss=loss, activation=activation, hidden_bias=hidden_bias, skip_connection=skip, patterns=patterns)
    solver = "newton" if loss in SMOOTH else "cvxpy"
    options |= dict(random_state=0, sample_weight=weights, solver=solver)
    path = relu_path(X, y, alphas=1, **options)
    assert path.alphas.tolist() == [path.alpha_max] and path.n_neurons.tolist() == [0]
    check(path, loss, X, y, weights, 1e-6)
    assert relu_path(X, y, alphas=[1.5 * path.alpha_max], **options).n_neurons.tolist() == [0]
    if loss in SMOOTH:
        # Where the gain, which grows with the square of the distance to alpha_max, is not below the tolerance.
        just_below = relu_path(X, y, alphas=[0.99 * path.alpha_max], tol=1e-9, **options)
        assert just_below.n_neurons[0] > 0 and just_below.objectives[0] < path.objectives[0]


@pytest.mark.parametrize("loss", ["squared", "log_loss", "squared_hinge"])
def test_alpha_max_by_brute_force(loss):
    """The largest price on a fine circle of neurons, at the best constant found by a scalar search."""
    X, y = draw(loss, 17, 1)
    weights = np.random.default_rng(0).uniform(0.3, 2.0, 17)
    sign = 2.0 * y - 1.0
    value, slope = {
        "squared": (lambda c: (y - c) ** 2 / 2, lambda c: c - y),
        "log_loss": (lambda c: np.log1p(np.exp(-sign * c)), lambda c: -sign / (1 + np.exp(sign * c))),
        "squared_hinge": (
            lambda c: np.maximum(1 - sign * c, 0) ** 2,
            lambda c: -2 * sign * np.maximum(1 - sign * c, 0),
        ),
    }[loss]
    c = minimize_scalar(lambda c: weights @ value(c), options=dict(xtol=1e-12)).x
    # The price has kinks where a neuron's hyperplane meets a sample, and may be largest there.
    walls = np.arctan2(-X[:, 0], 1.0)
    angle = np.concatenate([np.linspace(0, 2 * np.pi, 40_001), walls, walls + np.pi])
    hidden = np.maximum(np.outer(X[:, 0], np.cos(angle)) + np.sin(angle), 0.0)
    largest = np.abs((weights * slope(c)) @ hidden).max()
    for patterns in ("exact", "adaptive"):
        path = relu_path(X, y, loss=loss, alphas=1, patterns=patterns, random_state=0, sample_weight=weights)
        assert np.isclose(path.alpha_max, largest, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The optimal value is concave and non-decreasing in alpha


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
@pytest.mark.parametrize("loss", ["squared", "log_loss", "multinomial_log_loss"])
def test_objective_is_concave_and_increasing(loss, patterns):
    X, y = draw(loss, 20, 1)
    alphas = relu_path(X, y, loss=loss, alphas=1, patterns="exact").alpha_max * np.array(
        [1.2, 1.0, 0.7, 0.65, 0.3, 0.1, 0.09, 0.02, 0.003]
    )
    path = relu_path(X, y, loss=loss, alphas=alphas, tol=1e-6, patterns=patterns, random_state=0)
    alphas, upper = path.alphas[::-1], path.objectives[::-1]
    error = 2e-6 * upper
    assert np.all(np.diff(upper) >= -error[1:])
    slopes = np.diff(upper) / np.diff(alphas)
    slack = (error[1:] + error[:-1]) / np.diff(alphas)
    assert np.all(np.diff(slopes) <= slack[1:] + slack[:-1])
    assert slopes[0] > 3 * slopes[-2] > 0 and slopes[-1] <= slack[-1]
    # The sum of path norms is a supergradient.
    decay = np.array([network.path_norms.sum() for network in path.networks])[::-1]
    assert np.all(upper[None, :] <= upper[:, None] + decay[:, None] * (alphas[None, :] - alphas[:, None]) + error)


# ---------------------------------------------------------------------------------------------------------------------
# alphas, eps, and unusable arguments


def test_sequences():
    X, y = draw()
    options = dict(patterns="exact", tol=1e-4)
    path = relu_path(X, y, alphas=6, eps=0.03, **options)
    assert np.allclose(path.alphas, path.alpha_max * np.geomspace(1, 0.03, 6), rtol=1e-12)
    assert len(relu_path(X, y, alphas=np.int64(2), **options).alphas) == 2
    shuffled = relu_path(X, y, alphas=path.alphas[[3, 0, 5, 4, 2, 1]].tolist(), **options)
    assert np.array_equal(shuffled.alphas, path.alphas) and np.array_equal(shuffled.objectives, path.objectives)
    given = path.alphas[[2, 2]]
    twice = relu_path(X, y, alphas=given, **options)
    assert twice.n_neurons[0] == twice.n_neurons[1] and np.allclose(twice.objectives, path.objectives[2], rtol=1e-4)
    assert np.array_equal(given, path.alphas[[2, 2]])
    assert relu_path(X, y, alphas=[2], **options).alphas.tolist() == [2.0]
    assert relu_path(X, y, alphas=pd.Series([1.0, 2.0]), **options).alphas.tolist() == [2.0, 1.0]


def test_sequence_ends():
    for eps in (1e-12, 1 - 1e-9):
        alphas = check_alphas(3, eps)(5.0)
        assert alphas[0] == 5.0 and np.isclose(alphas[-1], 5.0 * eps, rtol=1e-12) and len(alphas) == 3
    assert check_alphas(1, 0.1)(5.0).tolist() == [5.0]
    assert (check_alphas(4, 0.1)(0.0) > 0).all()


@pytest.mark.parametrize(
    "options, words",
    [(dict(alphas=alphas), ["alphas must be", repr(alphas)]) for alphas in (0, -1, "x", "5", float("nan"), None, True)]
    + [
        (dict(alphas=alphas), ["an int, the number", "a list or array of positive values"])
        for alphas in (30.0, 0.5, np.array(3.0))
    ]
    + [(dict(alphas=alphas), ["alphas must be"]) for alphas in ([], [1, 0.0], [1, -1], [np.inf], [True], [1j], {1: 2})]
    + [(dict(eps=eps), ["eps must be", repr(eps)]) for eps in (0, 1, 2, -0.1, float("nan"), "x", None, [0.1])]
    + [(dict(loss=loss), ["loss must be", "squared_hinge", repr(loss)]) for loss in ("foo", 5, None, [])]
    + [
        (dict(alpha=1.0), ["alpha must not be given", "alphas"]),
        (dict(warm_start=True), ["warm_start must not be given"]),
        (dict(tol=-1), ["tol must be"]),
        (dict(patterns="all"), ["patterns must be"]),
        (dict(activation="gated_relu", patterns="adaptive"), ["activation without gates"]),
        (dict(loss="absolute", solver="newton"), ["solver='newton'", "absolute"]),
    ],
)
def test_unusable_arguments(options, words):
    X, y = draw(n=8)
    with pytest.raises(ValueError) as caught:
        relu_path(X, y, **options)
    assert all(word in str(caught.value) for word in words)


def test_unknown_option():
    X, y = draw(n=8)
    with pytest.raises(TypeError, match="n_pattern"):
        relu_path(X, y, n_pattern=3)
    with pytest.raises(TypeError, match="class_weight"):
        relu_path(X, y, class_weight="balanced")
    with pytest.raises(ValueError, match="two classes"):
        relu_path(X, np.zeros(8), loss="log_loss")


# ---------------------------------------------------------------------------------------------------------------------
# Path


@pytest.fixture(scope="module")
def path():
    return relu_path(*draw(), alphas=6, eps=0.01, patterns="exact")


def test_at(path):
    X, y = draw()
    for alpha in np.geomspace(1.3 * path.alpha_max, path.alphas[-1], 40):
        values = [network.objective(X, y, alpha) for network in path.networks]
        found = path.at(alpha).objective(X, y, alpha)
        above, below = np.flatnonzero(path.alphas >= alpha)[-1:], np.flatnonzero(path.alphas <= alpha)[:1]
        assert np.isclose(found, min(values[k] for k in (*above, *below)), rtol=1e-12)
        assert found <= min(values) * (1 + 1e-3)
    # Not always the same side.
    middle = {
        path.networks.index(path.at(share * big + (1 - share) * small)) - k
        for k, (big, small) in enumerate(itertools.pairwise(path.alphas))
        for share in (0.05, 0.95)
    }
    assert middle == {0, 1}
    assert path.at(1e9) is path.networks[0] and path.at(int(path.alpha_max) + 1).n_neurons == 0
    assert path.at(path.alphas[-1]) is path.networks[-1] is path.at(float(path.alphas[-1]) * (1 - 1e-14))


@pytest.mark.parametrize("alpha", [0.0, -1.0, "x", None, float("nan"), float("inf")])
def test_at_nothing(path, alpha):
    with pytest.raises(ValueError, match=r"alpha must be .* at least .* smallest of the path"):
        path.at(alpha)


def test_frame(path):
    X, y = draw()
    frame = path.to_frame()
    columns = [
        "alpha",
        "share",
        "n_neurons",
        "objective",
        "loss",
        "lower_bound",
        "relative_gap",
        "scope",
        "status",
        "seconds",
    ]
    assert frame.columns.tolist() == columns and len(frame) == 6
    assert np.allclose(frame.share, np.geomspace(1, 0.01, 6), rtol=1e-12)
    for row, network in zip(frame.itertuples(), path.networks):
        assert row.n_neurons == network.n_neurons
        assert np.isclose(row.objective, by_hand(network, "squared", X, y, row.alpha, np.ones(20)), rtol=1e-12)
        assert np.isclose(row.loss, 0.5 * np.sum((y - network.predict(X)) ** 2), rtol=1e-9)
        assert np.isclose(row.relative_gap, (row.objective - row.lower_bound) / row.objective, atol=1e-12)
        assert row.scope == "global" and row.status == "optimal" and row.seconds >= 0
    assert frame.n_neurons.iloc[0] == 0 and frame.n_neurons.iloc[-1] > 2


def test_repr_and_pickle(path):
    first, last, most = path.alphas[0], path.alphas[-1], path.n_neurons.max()
    said = repr(path)
    assert f"6 alphas from {first:.2g} to {last:.2g}, 0 to {most} neurons" in said
    assert f"{path.relative_gaps.max():.1e}" in said
    again = pickle.loads(pickle.dumps(path))
    assert repr(again) == said and np.array_equal(again.objectives, path.objectives)


def test_plot(path):
    import matplotlib.pyplot as plt

    display = path.plot()
    assert isinstance(display, PathDisplay) and len(display.axes_) == 3
    assert np.array_equal(display.n_neurons, path.n_neurons)
    display.figure_.canvas.draw()
    _, ax = plt.subplots()
    line = path.plot(ax, quantity="objective").lines_[0]
    assert np.array_equal(line.get_ydata(), path.objectives) and line.axes is ax
    plt.close("all")


def test_gap_of_a_search(monkeypatch):
    """A search that could not finish has a larger gap than that over the patterns listed last."""
    X, y = draw(n=30, d=3)
    with pytest.warns(ConvergenceWarning, match="stopped before tol"):
        path = relu_path(X, y, alphas=[0.1, 0.01], patterns="adaptive", max_iter=20, tol=1e-8, random_state=0)
    listed = np.array([certificate.relative_gap for certificate in path.certificates])
    searched = np.array([result.history[-1]["relative_gap"] for result in path.results])
    assert np.allclose(path.relative_gaps, np.maximum(listed, searched), rtol=1e-9) and (searched > listed).any()


# ---------------------------------------------------------------------------------------------------------------------
# Time limits and interrupts


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
def test_time_limit(patterns):
    X, y = draw(n=30)
    with pytest.warns(ConvergenceWarning, match=r"max_time=1e-06 ended the path before its last 29 alphas") as caught:
        path = relu_path(X, y, patterns=patterns, max_time=1e-6, random_state=0)
    assert caught[0].filename == __file__
    assert len(path.alphas) == len(path.networks) == 1 and path.n_neurons.tolist() == [0]
    assert np.isclose(path.objectives[0], 0.5 * np.sum((y - y.mean()) ** 2))


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def on_call(number, function, instead):
    """The function, but for one call of it."""
    calls = itertools.count(1)
    return lambda *args, **kwargs: (instead if next(calls) == number else function)(*args, **kwargs)


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
def test_interrupted_fit(patterns, monkeypatch):
    """The third fit ends at its first report."""
    X, y = draw(n=16)
    options = dict(alphas=[3.0, 1.0, 0.3, 0.2, 0.1], patterns=patterns, random_state=0, tol=1e-6)
    whole = relu_path(X, y, **options)
    name = "solve_adaptively" if patterns == "adaptive" else "solve_without"
    real = getattr(engine, name)

    def interrupted(*args):
        if patterns == "adaptive":
            return real(*args[:5], interrupt, *args[6:])
        return real(args[0], Newton(tol=1e-6, callback=interrupt), *args[2:])

    monkeypatch.setattr(engine, name, on_call(3, real, interrupted))
    with pytest.warns(ConvergenceWarning, match=r"an interrupt ended the path before its last 2 .*1 of 3 fits stopped"):
        path = relu_path(X, y, **options)
    assert [result.status for result in path.results] == ["optimal", "optimal", "interrupted"]
    assert np.array_equal(path.objectives[:2], whole.objectives[:2])
    # What the third had reached is kept: no worse than the network that it started from.
    assert whole.lower_bounds[2] * (1 - 1e-9) <= path.objectives[2] <= whole.networks[1].objective(X, y, 0.3) + 1e-9
    assert np.isclose(path.objectives[2], by_hand(path.networks[2], "squared", X, y, 0.3, np.ones(16)))


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
def test_interrupt_outside_of_a_solver(patterns, monkeypatch):
    """The fit that is being graded is kept, ungraded."""
    X, y = draw(n=16)
    real = engine.certify_listed
    monkeypatch.setattr(engine, "certify_listed", on_call(3, real, interrupt))
    with pytest.warns(ConvergenceWarning, match=r"an interrupt ended the path before its last 2 alphas; 1 of 3 fits"):
        path = relu_path(X, y, alphas=5, patterns=patterns, random_state=0)
    assert [result.status for result in path.results] == ["optimal", "optimal", "interrupted"]
    assert [certificate.scope for certificate in path.certificates][2] == "none"
    monkeypatch.setattr(engine, "certify_listed", interrupt)
    with pytest.warns(ConvergenceWarning, match=r"an interrupt ended the path before its last 4 alphas; 1 of 1 fits"):
        path = relu_path(X, y, alphas=5, patterns=patterns, random_state=0)
    assert [result.status for result in path.results] == ["interrupted"] and not path.networks[0].n_neurons


# ---------------------------------------------------------------------------------------------------------------------
# Screening and warm starts


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", SMOOTH)
def test_screening_changes_nothing(loss, activation, monkeypatch):
    X, y = draw(loss, 30, 3)
    options = dict(loss=loss, activation=activation, alphas=12, eps=0.9, tol=1e-5, random_state=0)
    options |= dict(patterns="sampled", n_patterns=60)
    shares, real = [], engine.solve_without
    monkeypatch.setattr(engine, "solve_without", lambda *args: shares.append(args[3].mean()) or real(*args))
    screened = relu_path(X, y, **options)
    check(screened, loss, X, y, tol=1e-5)
    # The first alpha keeps no block, and others few.
    assert shares[0] == 0 and min(shares[1:]) < 0.7
    monkeypatch.setattr(engine, "WORTH_SCREENING", -1)
    del shares[:]
    plain = relu_path(X, y, **options)
    assert shares[1:] == [1.0] * 11
    assert np.allclose(screened.objectives, plain.objectives, rtol=2e-5)


def test_a_path_takes_fewer_steps_than_single_fits():
    X, y = draw(n=100, d=4)
    options = dict(patterns="sampled", n_patterns=150, random_state=0, tol=1e-3)
    path = relu_path(X, y, alphas=15, eps=0.01, **options)
    cold = [fit("squared", alpha, X, y, **options) for alpha in path.alphas[1:]]
    steps = sum(result.n_iter for result in path.results[1:]), sum(model.result_.n_iter for model in cold)
    assert steps[0] < 0.75 * steps[1]
    assert np.allclose(path.objectives[1:], [model.certificate_.objective for model in cold], rtol=1e-3)


def test_a_path_takes_fewer_starts_than_single_searches():
    X, y = draw(n=40, d=3)
    options = dict(patterns="adaptive", random_state=0, tol=1e-3)
    path = relu_path(X, y, alphas=6, eps=0.1, **options)
    cold = [fit("squared", alpha, X, y, **options).certificate_ for alpha in path.alphas[1:]]
    starts = sum(certificate.n_searched for certificate in path.certificates), sum(c.n_searched for c in cold)
    assert starts[0] < 0.5 * starts[1]
    assert np.allclose(path.objectives[1:], [certificate.objective for certificate in cold], rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Data


@pytest.mark.parametrize("patterns", ["sampled", "adaptive"])
@pytest.mark.parametrize("loss", ["squared", "log_loss"])
def test_same_seed_same_bits(loss, patterns):
    X, y = draw(loss, 20)
    options = dict(loss=loss, alphas=3, eps=0.1, patterns=patterns, n_patterns=40)
    first, second = (relu_path(X, y, random_state=0, **options) for _ in range(2))
    assert np.array_equal(first.alphas, second.alphas)
    for one, other in zip(first.networks, second.networks):
        assert np.array_equal(one.hidden_weights, other.hidden_weights)
        assert np.array_equal(one.output_weights, other.output_weights)
        assert np.array_equal(one.output_bias, other.output_bias)
    assert first.n_neurons[-1] > 0


def test_frames_floats_and_labels():
    X, y = draw("log_loss")
    options = dict(alphas=4, eps=0.05, patterns="exact", loss="log_loss")
    path = relu_path(X, y, **options)
    assert path.classes.tolist() == [0, 1]
    named = relu_path(pd.DataFrame(X, columns=["a", "b"]), pd.Series(np.array(["no", "yes"])[y]), **options)
    assert named.classes.tolist() == ["no", "yes"] and np.array_equal(named.objectives, path.objectives)
    single = relu_path(X.astype(np.float32), y, **options)
    assert single.networks[-1].hidden_weights.dtype == np.float64
    assert np.allclose(single.objectives, path.objectives, rtol=1e-3)
    assert relu_path(*draw(n=8), alphas=2, eps=0.5).classes is None
    three = relu_path(*draw("multinomial_log_loss"), alphas=2, eps=0.5, loss="log_loss")
    assert three.classes.tolist() == [0, 1, 2] and three.networks[1].predict(X).shape == (20, 3)


def test_weights_of_samples_and_classes():
    X, y = draw("log_loss")
    options = dict(alphas=4, eps=0.05, patterns="exact", loss="log_loss", tol=1e-6)
    weights = np.random.default_rng(0).integers(0, 3, 20).astype(float)
    path = relu_path(X, y, sample_weight=weights, **options)
    check(path, "log_loss", X, y, weights, 1e-6)
    kept = weights > 0
    dropped = relu_path(X[kept], y[kept], sample_weight=weights[kept], **options)
    assert np.allclose(path.alphas, dropped.alphas, rtol=1e-12)
    assert np.allclose(path.objectives, dropped.objectives, rtol=1e-6)
    repeated = relu_path(np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int)), **options)
    assert np.allclose(path.alphas, repeated.alphas, rtol=1e-9)
    assert np.allclose(path.objectives, repeated.objectives, rtol=2e-6)
    by_class = relu_path(X, y, class_weight={0: 1.0, 1: 2.5}, **options)
    check(by_class, "log_loss", X, y, np.where(y == 1, 2.5, 1.0), 1e-6)


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6 / 3])
def test_constant_target(patterns, constant):
    import matplotlib.pyplot as plt

    X = draw(n=12)[0]
    path = relu_path(X, np.full(12, constant), alphas=3, patterns=patterns, random_state=0)
    assert path.n_neurons.tolist() == [0, 0, 0] and path.alpha_max == 0 and path.relative_gaps.max() == 0
    assert np.allclose(path.at(1.0).predict(X), constant) and (path.alphas > 0).all()
    assert np.isinf(path.to_frame().share).all()
    path.plot().figure_.canvas.draw()
    plt.close("all")
    if constant:
        # Without an intercept neurons have to carry the constant.
        bare = relu_path(X, np.full(12, constant), alphas=3, patterns=patterns, random_state=0, fit_intercept=False)
        assert bare.n_neurons[0] == 0 and bare.n_neurons[-1] > 0 and bare.relative_gaps.max() <= 1e-3


@pytest.mark.parametrize("patterns", ["exact", "adaptive"])
def test_degenerate_data(patterns):
    X, y = draw(n=12)
    options = dict(alphas=3, eps=0.1, patterns=patterns, random_state=0, tol=1e-5)
    plain = relu_path(X, y, **options)
    padded = relu_path(np.column_stack([X, np.zeros(12)]), y, **options)
    assert np.allclose(padded.objectives, plain.objectives, rtol=1e-5)
    twice = relu_path(np.tile(X, (2, 1)), np.tile(y, 2), **options | dict(alphas=2 * plain.alphas))
    assert np.allclose(twice.objectives, 2 * plain.objectives, rtol=2e-5)
    one_feature = relu_path(X[:, :1], y, **options)
    check(one_feature, "squared", X[:, :1], y, tol=1e-5)
    assert one_feature.n_neurons[-1] > 0
    one_row = relu_path(X[:1], y[:1], **options)
    assert one_row.n_neurons.tolist() == [0] * 3 and np.isclose(one_row.networks[0].output_bias, y[0])


def test_start_from_a_network(path):
    X, y = draw()
    for patterns in ("sampled", "adaptive"):
        options = dict(alphas=path.alphas, patterns=patterns, n_patterns=10, random_state=0)
        begun = relu_path(X, y, init=path.networks[-1], **options)
        check(begun, "squared", X, y)
        # The patterns of the network are among those of the last program.
        assert begun.objectives[-1] <= path.objectives[-1] * (1 + 1e-3)


def test_loss_objects():
    X, y = draw()
    path = relu_path(X, y, loss=Huber(delta=0.3), alphas=3, eps=0.1, patterns="exact")
    for alpha, network, objective in zip(path.alphas, path.networks, path.objectives):
        assert np.isclose(network.objective(X, y, alpha, Huber(delta=0.3)), objective)
    softmax = relu_path(*draw("log_loss"), loss="multinomial_log_loss", alphas=2, eps=0.5, patterns="exact")
    assert np.allclose(
        softmax.objectives,
        relu_path(*draw("log_loss"), loss="log_loss", alphas=2, eps=0.5, patterns="exact").objectives,
    )
