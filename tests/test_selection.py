"""Networks of a wanted sparsity: problems whose counts are known by hand, counts recounted, definitions in loops."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

import convexnn.estimators.selection as selection_module
from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    engine,
    select_alpha,
    select_feature_penalty,
)
from convexnn.arrangements import Arrangement
from convexnn.estimators.selection import feature_levels, neuron_levels

PLAIN = dict(hidden_bias="none", fit_intercept=False)


def separable(lengths=(5.0, 3.0, 3.0, 1.0)):
    """Gated blocks on disjoint rows of the identity: block k is active exactly below alpha = lengths[k]."""
    rng = np.random.default_rng(0)
    sizes = np.array([1, 2, 2, 4])[: len(lengths)]
    X = np.eye(sizes.sum())
    block = np.repeat(np.arange(len(lengths)), sizes)
    y = rng.choice([-1.0, 1.0], len(X)) * rng.uniform(0.5, 1.0, len(X))
    for k, length in enumerate(lengths):
        y[block == k] *= length / np.linalg.norm(y[block == k])
    if lengths[1] == lengths[2]:
        # Of the same numbers, which rounding cannot tell apart.
        y[block == 2] = y[block == 1][::-1]
    gates = np.where(block[:, None] == np.arange(len(lengths)), 1.0, -1.0)
    return X, y, dict(activation="gated_relu", patterns=Arrangement.from_gates(X, gates), **PLAIN)


def smooth(n=24, d=2, seed=0):
    # So few rows that all patterns are listed.
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.abs(X[:, 0]) - np.abs(X[:, 1]) + 0.1 * rng.standard_normal(n)


def classes(n_classes, n=24):
    X, y = smooth(n)
    cuts = np.quantile(y, np.arange(1, n_classes) / n_classes)
    return X, np.array(["low", "middle", "top"])[np.searchsorted(cuts, y)]


def weights_of(network):
    return sum(np.sum(part != 0) for part in (network.hidden_weights, network.hidden_biases, network.output_weights))


# ---------------------------------------------------------------------------------------------------------------------
# Counts known by hand


@pytest.mark.parametrize("k, low, high", [(0, 5, 6), (1, 3, 5), (3, 1, 3), (4, 0, 1)])
def test_counts_that_there_are(k, low, high):
    X, y, options = separable()
    found = select_alpha(X, y, n_neurons=k, tol=0, **options)
    assert found.attained and found.n_neurons == found.network.n_neurons == k
    assert low * (1 - 1e-9) <= found.alpha < high * (1 - 1e-9) and np.isclose(found.alpha_max, 5.0)
    assert str(found).startswith(f"{k} neurons")
    if k == 0:
        assert len(found.fits) == 1 and found.alpha == found.alpha_max and "1 fit." in str(found)


def test_a_count_that_is_jumped_over():
    X, y, options = separable()
    found = select_alpha(X, y, n_neurons=2, tol=0, **options)
    low, high = found.bracket
    assert not found.attained and low * (1 - 1e-9) <= 3.0 <= high < 1.002 * low
    count = {fit["alpha"]: fit["n_neurons"] for fit in found.fits}
    assert count[low] == 3 and count[high] == 1 and found.n_neurons in (1, 3)
    assert f"too many at {low:.6g}; too few at {high:.6g}" in str(found) and str(found).startswith("not attained")
    assert select_alpha(X, y, n_neurons=2, tol=1, **options).attained


def test_more_than_any_network_has():
    X, y, options = separable()
    found = select_alpha(X, y, n_neurons=7, **options)
    low, high = found.bracket
    assert not found.attained and found.n_neurons == 4 and low == 0.0 and 0 < high <= 1.002e-4 * 5.0
    assert "too many" not in str(found) and "too few" in str(found)


def test_numbers_of_weights():
    X, y, options = separable()
    # Blocks of 1, 2, 2 and 4 weights, and an output weight each: 2, then 2 + 3 + 3, then 13.
    found = select_alpha(X, y, n_weights=8, tol=0, **options)
    assert found.attained and found.n_weights == weights_of(found.network) == 8 and 1 <= found.alpha < 3
    found = select_alpha(X, y, n_weights=5, tol=2, **options)
    low, high = found.bracket
    assert not found.attained and low * (1 - 1e-9) <= 3.0 <= high < 1.002 * low
    assert [fit["n_weights"] for fit in found.fits if fit["alpha"] == found.bracket[1]] == [2]


def test_relu_neurons_that_come_together():
    # On rows of the identity one neuron takes the positive targets and one the negative ones.
    X, y = np.eye(4), np.array([3.0, 4.0, -5.0, 0.0])
    found = select_alpha(X, y, n_neurons=1, tol=0, **PLAIN)
    low, high = found.bracket
    assert not found.attained and low < 5.0 <= high * (1 + 1e-9) and high < 1.002 * low
    assert {fit["n_neurons"] for fit in found.fits} == {0, 2}
    found = select_alpha(X, np.array([3.0, 4.0, -2.0, 0.0]), n_neurons=1, tol=0, **PLAIN)
    assert found.attained and 2.0 <= found.alpha < 5.0


def test_mirrored_data():
    # An even function of one feature: a neuron on each side of zero, or none.
    x = np.array([0.5, 1.0, 2.0])
    X, y = np.concatenate([x, -x])[:, None], np.concatenate([x, x]) ** 2
    found = select_alpha(X, y, n_neurons=1, tol=0, hidden_bias="none")
    top = x @ (x**2 - np.mean(x**2))
    low, high = found.bracket
    assert not found.attained and np.isclose(high, top, rtol=1e-9) and low < top < 1.002 * low
    assert select_alpha(X, y, n_neurons=2, tol=0, hidden_bias="none").attained


def test_nothing_to_explain():
    X = smooth()[0]
    found = select_alpha(X, np.ones(24), n_neurons=2)
    assert not found.attained and found.n_neurons == 0 and len(found.fits) == 1 and found.bracket[0] == 0.0
    assert select_alpha(X, np.ones(24), n_neurons=0).attained


# ---------------------------------------------------------------------------------------------------------------------
# Levels


def test_levels_of_separable_blocks_are_their_thresholds():
    X, y, options = separable((5.0, 3.0, 2.0, 1.0))
    model = ConvexReLURegressor(2.5, certify=False, tol=1e-10, **options)
    data = model._coded(X, y, None)
    levels, sizes = neuron_levels(next(model._train(data)), model._task_of(data))
    assert np.allclose(np.sort(levels), [3.0, 5.0]) and np.sort(sizes).tolist() == [2, 3]


def test_levels_of_neurons_that_are_not_there_yet():
    X, y = np.eye(4), np.array([3.0, 4.0, -2.0, 0.0])
    model = ConvexReLURegressor(4.0, patterns="exact", certify=False, tol=1e-8, **PLAIN)
    data = model._coded(X, y, None)
    levels, sizes = neuron_levels(next(model._train(data)), model._task_of(data))
    assert len(levels) == len(sizes) and np.isclose(levels[0], 5.0)
    # The price of a direction is its product with theta, which is shrunk to length alpha on the positive part.
    assert np.isclose(levels[1:], 2.0, rtol=1e-3).any() and levels[1:].max() < 4.0


@pytest.mark.parametrize("kind", ["squared", "log_loss", "three classes"])
def test_levels_by_their_definitions(kind):
    X, y = smooth() if kind == "squared" else classes(2 if kind == "log_loss" else 3)
    weight = np.random.default_rng(1).uniform(0.0, 2.0, len(X)) * (np.arange(len(X)) % 7 > 0)
    kind = ConvexReLURegressor if kind == "squared" else ConvexReLUClassifier
    model = kind(3.0 if kind is ConvexReLURegressor else 0.7, patterns="sampled", n_patterns=40, certify=False)
    data = model.set_params(random_state=0)._coded(X, y, weight)
    fit = next(model._train(data))
    rng, n_outputs = np.random.default_rng(2), fit.network.n_outputs
    # Any weights will do; those of a solution put rows on hyperplanes.
    weights = (
        rng.standard_normal((4, 2)),
        rng.standard_normal(4),
        rng.standard_normal((4, n_outputs)[: 1 + (n_outputs > 1)]),
    )
    network, target, loss = Network(*weights, fit.network.output_bias), data.y, data.loss
    fit = replace(fit, network=network)
    got, sizes = neuron_levels(fit, model._task_of(data))
    shares = feature_levels(fit, model._task_of(data))
    output = network.output_weights.reshape(network.n_neurons, n_outputs)

    def dual(skip_neuron=None, skip_feature=None):
        """Minus the weighted gradient, without a neuron or without what a feature adds to each active neuron."""
        theta = np.zeros((len(X), n_outputs))
        for i in range(len(X)):
            z = np.array(network.output_bias).ravel().astype(float)
            for j in range(network.n_neurons):
                w, b = network.hidden_weights[j], network.hidden_biases[j]
                if X[i] @ w + b > 0 and j != skip_neuron:
                    inside = X[i] @ w + b - (0.0 if skip_feature is None else X[i, skip_feature] * w[skip_feature])
                    z = z + inside * output[j]
            slope = loss.gradient(target[[i]], z[None] if n_outputs > 1 else z)
            theta[i] = -weight[i] * slope.ravel()
        return theta

    for j in range(network.n_neurons):
        w, b, a = network.hidden_weights[j], network.hidden_biases[j], output[j]
        price = sum(max(x @ w + b, 0.0) * (t @ a) for x, t in zip(X, dual(skip_neuron=j)))
        assert np.isclose(got[j], price / np.sqrt(w @ w + b * b) / np.linalg.norm(a), rtol=1e-8)
        assert sizes[j] == np.sum(w != 0) + (b != 0) + np.sum(a != 0)
    for f in range(2):
        theta, largest = dual(skip_feature=f), 0.0
        for j in range(network.n_neurons):
            w, b = network.hidden_weights[j], network.hidden_biases[j]
            on = X @ w + b > 0
            along = sum(np.sum(np.sign(output[j, o]) * theta[on, o] * X[on, f]) for o in range(n_outputs))
            largest = max(largest, abs(along))
        assert np.isclose(shares[f], largest, rtol=1e-8)


# ---------------------------------------------------------------------------------------------------------------------
# Answers on other data


@pytest.mark.parametrize(
    "kind", ["squared", "two classes", "three classes", "weights", "skip", "free", "gated", "search"]
)
def test_an_answer_holds_for_a_single_fit(kind):
    k, options = 3, dict(random_state=0)
    if "classes" in kind:
        X, y = classes(2 if kind == "two classes" else 3)
        options["loss"], estimator = "log_loss", ConvexReLUClassifier
    else:
        (X, y), estimator = smooth(), ConvexReLURegressor
    options |= dict(skip_connection=True) if kind == "skip" else {}
    options |= dict(hidden_bias="free") if kind == "free" else {}
    options |= dict(activation="gated_relu", n_patterns=60) if kind == "gated" else {}
    options |= dict(patterns="adaptive") if kind == "search" else {}
    weight = np.arange(len(X)) % 3 + 0.5 if kind == "weights" else None
    found = select_alpha(X, y, n_neurons=k, tol=1, sample_weight=weight, **options)
    assert found.attained and abs(found.n_neurons - k) <= 1 and len(found.network.hidden_weights) == found.n_neurons
    assert found.n_weights == weights_of(found.network)
    model = estimator(found.alpha, tol=1e-6, certify=False, **options).fit(X, y, sample_weight=weight)
    assert abs(model.network_.n_neurons - k) <= 1
    assert np.isclose(model.certificate_.objective, found.certificate.objective, rtol=3e-6)
    assert found.certificate.alpha == found.alpha
    assert all(fit["status"] == "optimal" and fit["relative_gap"] <= 1e-6 for fit in found.fits)
    assert (found.classes is None) == ("classes" not in kind)
    if found.classes is not None:
        assert found.classes.tolist() == model.classes_.tolist() and found.classes.dtype.kind == "U"
    count = {fit["alpha"]: fit["n_neurons"] for fit in found.fits}
    low, high = found.bracket
    assert (low == 0.0 or count[low] > k) and (high == np.inf or count[high] < k)


def test_the_same_answer_twice():
    X, y = smooth()
    one, two = (select_alpha(X, y, n_neurons=2, tol=0, random_state=3) for _ in range(2))
    assert one.fits == two.fits and np.array_equal(one.network.hidden_weights, two.network.hidden_weights)
    frame = select_alpha(pd.DataFrame(X, columns=["a", "b"]), pd.Series(y), n_neurons=2, tol=0, random_state=3)
    assert frame.fits == one.fits


def test_options_arrive(capsys):
    X, y = smooth()
    found = select_alpha(X, y, n_neurons=2, verbose=1, random_state=0, feature_penalty=[0.0, 5.0])
    assert capsys.readouterr().err.count("relative gap") >= len(found.fits)
    assert not found.network.hidden_weights[:, 1].any()
    search = dict(patterns="adaptive", random_state=0)
    assert select_alpha(X, y, n_neurons=2, certify=True, **search).certificate.scope == "global"
    assert select_alpha(X, y, n_neurons=2, **search).certificate.scope == "patterns"
    rough = select_alpha(X, y, n_neurons=2, solver_tol=1e-2, random_state=0)
    assert max(fit["relative_gap"] for fit in rough.fits) > 1e-5


# ---------------------------------------------------------------------------------------------------------------------
# Limits


def test_one_fit():
    X, y, options = separable()
    with pytest.warns(ConvergenceWarning, match="ended before the wanted numbers"):
        found = select_alpha(X, y, n_neurons=3, max_fits=1, **options)
    assert not found.attained and len(found.fits) == 1 and found.n_neurons == 0 and found.bracket[0] == 0.0


def test_no_time():
    X, y = smooth()
    with pytest.warns(ConvergenceWarning):
        found = select_alpha(X, y, n_neurons=5, max_time=0.0)
    assert not found.attained and len(found.fits) == 1
    with pytest.warns(ConvergenceWarning):
        found = select_feature_penalty(X, y, alpha=2.0, groups=[0, 1], n_active={0: 1, 1: 0}, max_time=0.0)
    assert len(found.fits) == 1 and not found.attained


@pytest.mark.parametrize("status", ["time_limit", "interrupted", "failed"])
def test_a_fit_that_was_cut_short_does_not_count(monkeypatch, status):
    X, y, options = separable()
    whole = select_alpha(X, y, n_neurons=2, tol=0, **options)
    assert len(whole.fits) > 3
    solve, n_calls = engine.solve_without, []

    def third(*args):
        n_calls.append(1)
        result = solve(*args)
        return replace(result, status=status) if len(n_calls) == 3 else result

    monkeypatch.setattr(engine, "solve_without", third)
    with pytest.warns(ConvergenceWarning, match="ended before"):
        found = select_alpha(X, y, n_neurons=2, tol=0, **options)
    assert len(n_calls) == 3 and found.fits == whole.fits[:2] and not found.attained


def test_ctrl_c_between_fits(monkeypatch):
    X, y, options = separable()
    levels, n_calls = selection_module.neuron_levels, []

    def second(*args):
        n_calls.append(1)
        if len(n_calls) == 2:
            raise KeyboardInterrupt
        return levels(*args)

    monkeypatch.setattr(selection_module, "neuron_levels", second)
    with pytest.warns(ConvergenceWarning, match="ended before"):
        found = select_alpha(X, y, n_neurons=2, tol=0, **options)
    assert len(found.fits) == 2 and found.n_neurons > 0 and not found.attained


# ---------------------------------------------------------------------------------------------------------------------
# Groups of features


def planted(seed=0, n=60):
    """Two groups of three; features 0 and 1 of one and 3 of the other matter, with effects of different size."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6))
    y = 2 * np.maximum(X[:, 0] + X[:, 1], 0) - 0.8 * np.maximum(X[:, 3] - 0.5, 0)
    return X, y + 0.1 * rng.standard_normal(n)


#: Fixed gates: quick, and the same for all levels.
GATED = dict(activation="gated_relu", n_patterns=60, random_state=0)


def active(network, index):
    return sum(any(w[i] != 0 for w in network.hidden_weights) for i in index)


@pytest.mark.parametrize("seed", range(2))
def test_planted_groups(seed):
    X, y = planted(seed)
    groups = ["big"] * 3 + ["small"] * 3
    found = select_feature_penalty(X, y, alpha=15.0, groups=groups, n_active={"big": 2, "small": 1}, random_state=0)
    assert found.attained and found.n_active == {"big": 2, "small": 1}
    assert np.flatnonzero(found.network.hidden_weights.any(axis=0)).tolist() == [0, 1, 3]
    assert found.feature_penalty.tolist() == [found.levels["big"]] * 3 + [found.levels["small"]] * 3
    options = dict(feature_penalty=found.feature_penalty, random_state=0, certify=False, tol=1e-6)
    model = ConvexReLURegressor(15.0, **options).fit(X, y)
    assert np.flatnonzero(model.feature_importances_).tolist() == [0, 1, 3]
    assert np.isclose(model.certificate_.objective, found.certificate.objective, rtol=3e-6)


@pytest.mark.parametrize("wanted", [{"a": 3, "b": 0}, {"a": 1, "b": 2}, {"a": 0, "b": 0}])
def test_other_numbers(wanted):
    X, y = planted()
    found = select_feature_penalty(X, y, alpha=10.0, groups=[*"aaabbb"], n_active=wanted, **GATED)
    assert found.attained and found.n_active == wanted
    assert active(found.network, range(3)) == wanted["a"] and active(found.network, range(3, 6)) == wanted["b"]
    assert found.levels["a"] == 0.0 or wanted["a"] < 3
    assert len(found.fits) <= 20 and all(fit["status"] == "optimal" for fit in found.fits)


def test_groups_that_are_not_named():
    X, y = planted()
    for groups, name in (
        ([1] * 3 + [0] * 3, 0),
        (pd.Index(["x"] * 3 + ["y"] * 3), "y"),
        ([1, 1, "a", *"bbb"], "b"),
    ):
        found = select_feature_penalty(X, y, alpha=10.0, groups=groups, n_active={name: 1}, **GATED)
        assert found.attained and not found.feature_penalty[:3].any() and found.feature_penalty[3:].all()
        assert active(found.network, range(3, 6)) == 1
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    again = select_feature_penalty(frame, y, alpha=10.0, groups=groups, n_active={"b": 1}, **GATED)
    assert again.fits == found.fits


def test_numbers_that_cannot_be():
    # Equal columns are used alike, and a column of zeros never.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 1))
    X = np.column_stack([x, x, rng.standard_normal(60), np.zeros(60)])
    y = np.abs(x[:, 0]) + 0.5 * X[:, 2]
    found = select_feature_penalty(X, y, alpha=3.0, groups=[*"aabc"], n_active={"a": 1, "b": 1}, **GATED)
    low, high = found.bracket["a"]
    assert not found.attained and 0 < low < high <= low * 1.002 and str(found).startswith("not attained")
    same = [fit for fit in found.fits if fit["levels"]["b"] == found.levels["b"]]
    tried = {(fit["levels"]["a"], fit["n_active"]["a"]) for fit in same}
    assert {(low, 2), (high, 0)} <= tried and found.n_active["b"] == 1
    assert select_feature_penalty(X, y, alpha=3.0, groups=[*"aabc"], n_active={"a": 1, "b": 1}, tol=1, **GATED).attained
    found = select_feature_penalty(X, y, alpha=3.0, groups=[*"aabc"], n_active={"c": 1}, **GATED)
    assert not found.attained and found.bracket == {"c": (0.0, 0.0)} and len(found.fits) == 1


def test_groups_of_a_classifier_and_with_weights():
    X, y = planted()
    label = np.where(y > np.median(y), "yes", "no")
    options = dict(groups=[*"aaabbb"], n_active={"a": 2, "b": 0}, **GATED)
    found = select_feature_penalty(X, label, alpha=2.0, loss="log_loss", **options)
    assert found.attained and found.classes.tolist() == ["no", "yes"]
    assert np.flatnonzero(found.network.hidden_weights.any(axis=0)).tolist() == [0, 1]
    found = select_feature_penalty(X, y, alpha=10.0, **options)
    assert found.attained and np.flatnonzero(found.network.hidden_weights.any(axis=0)).tolist() == [0, 1]
    light = select_feature_penalty(X, y, alpha=10.0, sample_weight=np.full(60, 0.1), **options)
    heavy = select_feature_penalty(X, y, alpha=100.0, **options)
    assert light.attained and np.isclose(light.certificate.objective, heavy.certificate.objective / 10, rtol=1e-5)


def test_time_is_for_all_fits_together(monkeypatch):
    X, y = planted()
    now = iter(100.0 * np.arange(50))
    monkeypatch.setattr(selection_module, "perf_counter", lambda: next(now))
    options = dict(groups=[*"aaabbb"], n_active={"a": 1, "b": 2}, **GATED)
    with pytest.warns(ConvergenceWarning, match="ended before"):
        found = select_feature_penalty(X, y, alpha=10.0, max_time=250.0, **options)
    # A clock that moves on by 100 seconds a fit leaves time for two, and none for a third.
    assert len(found.fits) == 2 and not found.attained and found.network.n_neurons


def test_ctrl_c_between_fits_of_groups(monkeypatch):
    X, y = planted()
    stop = iter([False, True, False])
    levels = selection_module.feature_levels

    def second(*args):
        if next(stop):
            raise KeyboardInterrupt
        return levels(*args)

    monkeypatch.setattr(selection_module, "feature_levels", second)
    with pytest.warns(ConvergenceWarning, match="ended before"):
        found = select_feature_penalty(X, y, alpha=10.0, groups=[*"aaabbb"], n_active={"a": 1, "b": 2}, **GATED)
    assert len(found.fits) == 2 and not found.attained


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    "wrong, match",
    [
        (dict(), "one of n_neurons and n_weights"),
        (dict(n_neurons=2, n_weights=3), "one of n_neurons and n_weights"),
        (dict(n_neurons=-1), "n_neurons must be an integer >= 0, got -1"),
        (dict(n_neurons=2.0), "n_neurons must be"),
        (dict(n_weights=True), "n_weights must be"),
        (dict(n_neurons=2, tol=-1), "tol must be an integer >= 0"),
        (dict(n_neurons=2, tol=1e-4), "tol must be an integer"),
        (dict(n_neurons=2, max_fits=0), "max_fits must be an integer >= 1"),
        (dict(n_neurons=2, alpha=1.0), "alpha must not be given"),
        (dict(n_neurons=2, warm_start=True), "warm_start must not be given"),
        (dict(n_neurons=2, init=3), "init must not be given"),
        (dict(n_neurons=2, loss="none"), "loss must be one of"),
        (dict(n_neurons=2, solver_tol=-1.0), "tol must be"),
        (dict(n_neurons=2, sample_weight=[1.0]), "sample_weight must have shape"),
    ],
)
def test_unusable_arguments(wrong, match):
    with pytest.raises(ValueError, match=match):
        select_alpha(*smooth(), **wrong)


@pytest.mark.parametrize(
    "wrong, match",
    [
        (dict(feature_penalty=1.0), "feature_penalty must not be given"),
        (dict(init=None), "init must not be given"),
        (dict(alpha="auto"), "alpha must be a number > 0, got 'auto'"),
        (dict(alpha=-1.0), "alpha must be a finite number > 0"),
        (dict(groups=["a"]), "one label for each of the 2 features"),
        (dict(groups="ab"), "one label for each of the 2 features"),
        (dict(groups=None), "one label for each of the 2 features"),
        (dict(groups=[["a", "b"], ["a", "b"]]), "one label for each of the 2 features"),
        (dict(n_active={}), "n_active must be a dict"),
        (dict(n_active=3), "n_active must be a dict"),
        (dict(n_active={"c": 0}), r"n_active names 'c', which is no group: groups has \['a', 'b'\]"),
        (dict(n_active={"a": 2}), r"n_active\['a'\] must be at most 1"),
        (dict(n_active={"a": -1}), r"n_active\['a'\] must be an integer >= 0"),
        (dict(tol=0.5), "tol must be an integer"),
        (dict(max_fits=0), "max_fits must be"),
        (dict(hidden_bias="free"), "feature_penalty needs hidden_bias"),
    ],
)
def test_unusable_groups(wrong, match):
    with pytest.raises(ValueError, match=match):
        select_feature_penalty(*smooth(), **(dict(alpha=1.0, groups=["a", "b"], n_active={"a": 1, "b": 0}) | wrong))


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="widht"):
        select_alpha(np.eye(4), np.arange(4.0), n_neurons=2, widht=3)
