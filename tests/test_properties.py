"""Properties: drawn cases that try to make a certificate false, judged by an oracle that shares no code.

Below them the inputs by which each kind of fault was first seen.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    audit,
    certify,
    enumerate_patterns,
)
from convexnn.losses import Squared
from convexnn.univariate import ReLUSplineRegressor

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "attack.py").exists():
    pytest.skip("benchmarks are in the checkout only", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.attack import EXCESS, INGREDIENTS, Case, examine  # noqa: E402
from benchmarks.oracle import Oracle, Setting  # noqa: E402

cases = st.builds(Case.of, st.integers(0, 2**32 - 1), **{k: st.sampled_from(v) for k, v in INGREDIENTS.items()})


def drawn(max_examples):
    """Settings of a property: the same cases everywhere, while the command of benchmarks/attack.py draws others."""
    health = list(HealthCheck)
    return settings(
        max_examples=max_examples, deadline=None, derandomize=True, database=None, suppress_health_check=health
    )


def wrong(case, kind):
    """What is wrong with a case; a refusal that names an argument is not."""
    return [words for found, words in examine(case, [kind]) if found != "refused"]


@drawn(150)
@given(cases)
@pytest.mark.slow
def test_no_bound_is_above_a_network(case):
    assert wrong(case, "bounds") == []


@drawn(100)
@given(cases)
@pytest.mark.slow
def test_honest_certificates_are_accepted_and_forgeries_refused(case):
    assert wrong(case, "verify") == []


@drawn(40)
@given(cases)
@pytest.mark.slow
def test_fits_are_no_worse_than_a_constant_and_know_no_units(case):
    assert wrong(case, "fits") == []


# Inputs by which the faults were seen: bounds.


def without_neurons(d, bias=0.0, **kind):
    return Network(np.zeros((0, d)), np.zeros(0), np.zeros(0), bias, **kind)


def least(X, y, alpha, loss="squared", **options):
    """The objective of the best network that the oracle finds, and the most that a bound may be."""
    setting = Setting(np.asarray(X, dtype=float), np.asarray(y), np.ones(len(y)), loss, **options)
    best = Oracle(setting).best(alpha)
    return float(best.value), float(best.value * (1 + EXCESS) + setting.rounding(best.predictions))


def test_a_feature_penalty_far_from_zero():
    X, y = 1e5 + np.array([[-1.5], [-0.5], [0.6], [1.1]]), np.array([1.0, 2.0, 3.0, 4.0])
    network, options = without_neurons(1, feature_penalty=np.ones(1)), dict(alpha=5e4, fit_intercept=False)
    found = certify(network, X, y, method="enumeration", theta=y, **options)
    best, ceiling = least(X, y, 5e4, intercept=False, mu=np.ones(1))
    assert best <= 4.875
    assert found.lower_bound <= ceiling


@pytest.mark.parametrize("offset", [0.0, 2e3, 1e5])
def test_a_fit_with_a_feature_penalty_far_from_zero(offset):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(15)
    X, y = (offset + x)[:, None], 3 * x + 0.5 * rng.standard_normal(15)
    model = ConvexReLURegressor(feature_penalty=0.5, random_state=0).fit(X, y)
    oracle = Oracle(Setting(X, y, np.ones(15), "squared", mu=np.array([0.5])))
    assert np.isclose(model.alpha_max_, oracle.alpha_max, rtol=1e-6)
    best = float(oracle.best(model.alpha_).value)
    assert model.certificate_.objective <= best * (1 + 1e-3)
    assert model.certificate_.lower_bound <= best * (1 + 1e-9)


@pytest.mark.parametrize("hidden_bias", ["none", "penalized"])
@pytest.mark.parametrize("loss", ["squared", "log_loss"])
def test_gates_reach_faces(hidden_bias, loss):
    X, y = np.array([[-1.0], [1.0]]), np.array([-1.0, 1.0])
    kind = ConvexReLURegressor if loss == "squared" else ConvexReLUClassifier
    options = dict(activation="gated_relu", fit_intercept=False, loss=loss, hidden_bias=hidden_bias)
    certificate = kind(0.5, patterns="exact", **options).fit(X, y).certificate_
    best, ceiling = least(X, y, 0.5, loss, hidden_bias=hidden_bias, intercept=False, gated=True)
    assert (loss, hidden_bias) != ("squared", "none") or np.isclose(best, 0.4375, rtol=1e-12)
    assert np.isclose(certificate.objective, best, rtol=1e-3)
    assert certificate.scope != "global" or certificate.lower_bound <= ceiling


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("closeness", [1e-9, 1e-10, 1e-11, 1e-12])
@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_a_skip_connection_with_nearly_dependent_features(closeness, alpha):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 8))
    X = np.column_stack([x, x + closeness * z])
    best, ceiling = least(X, z, alpha, skip=True)
    # Rounding of x2 spoils the fit of z by no more than this.
    assert best <= 1e-8 + 10 * (1e-16 / closeness) ** 2
    network = without_neurons(2, skip_weights=np.zeros(2))
    certificates = [certify(network, X, z, alpha=alpha, theta=theta, max_time=2.0) for theta in (None, z)]
    try:
        certificates.append(ConvexReLURegressor(alpha, skip_connection=True, patterns="exact").fit(X, z).certificate_)
    except ValueError as error:
        assert "too thin for double precision" in str(error) and closeness < 1e-11
    for certificate in certificates:
        assert certificate.scope != "global" or certificate.lower_bound <= ceiling


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("offset", [1e10, 1e11, 1.7e12])
@pytest.mark.parametrize("hidden_bias", ["penalized", "free"])
def test_a_skip_connection_and_time_stamps(offset, hidden_bias):
    rng = np.random.default_rng(0)
    X, y = offset + np.arange(8.0)[:, None], np.arange(8.0) + 0.1 * rng.standard_normal(8)
    _, ceiling = least(X, y, 0.1, skip=True, hidden_bias=hidden_bias)
    options = dict(skip_connection=True, hidden_bias=hidden_bias, patterns="exact")
    certificates = [ConvexReLURegressor(0.1, **options).fit(X, y).certificate_]
    if hidden_bias == "free":
        certificates.append(ReLUSplineRegressor(0.1).fit(X, y).certificate_)
    for certificate in certificates:
        assert certificate.scope != "global" or certificate.lower_bound <= ceiling


def certified(offset=1e6, patterns="exact"):
    """A certificate of a fit whose target has a mean far from zero, and its data."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 1))
    y = offset + np.abs(X[:, 0]) + 0.3 * rng.standard_normal(10)
    certificate = ConvexReLURegressor(0.1, patterns=patterns).fit(X, y).certificate_
    certificate.verify(X, y)
    return X, y, certificate


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9])
def test_forgeries_where_the_target_has_an_offset(offset):
    X, y, certificate = certified(offset)
    objective, bound = certificate.objective, certificate.lower_bound
    ones = np.abs(certificate.theta).sum() / len(y)
    forged = {
        "thirty times": dict(lower_bound=30 * objective),
        "above": dict(lower_bound=objective * (1 + 1e-5) + 1e-14 * offset),
        "moved": dict(theta=certificate.theta + 1e-9 * ones, lower_bound=bound + 1e-9 * ones * y.sum()),
    }
    for words, changes in forged.items():
        if words == "moved" and not offset:
            continue
        with pytest.raises(ValueError, match=r"bound|theta|objective"):
            replace(certificate, **changes).verify(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_honest_certificates_are_accepted():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 2))
    y = np.abs(x[:, 0])
    far = ConvexReLURegressor(0.1, patterns="exact").fit(1e8 + x, y).certificate_
    assert far.scope != "global" or far.verify(1e8 + x, y) <= least(1e8 + x, y, 0.1)[1]
    line = x @ [1.0, 2.0] + 1e-9 * rng.standard_normal(10)
    skip = ConvexReLURegressor(0.1, patterns="exact", skip_connection=True).fit(x, line).certificate_
    assert skip.scope == "global"
    assert skip.verify(x, line) <= least(x, line, 0.1, skip=True)[1]


@pytest.mark.parametrize("target", [np.zeros(6), np.full(6, 0.3)])
@pytest.mark.parametrize("method", ["auto", "enumeration", "branch_and_bound", "sums_of_squares"])
def test_nothing_to_explain(target, method):
    X = np.random.default_rng(0).standard_normal((6, 2))
    found = certify(without_neurons(2, float(target[0])), X, target, alpha=0.1, method=method, max_time=1.0)
    assert found.scope == "global" and abs(found.lower_bound) <= 1e-15 and abs(found.objective) <= 1e-15


def test_thin_cells():
    rng = np.random.default_rng(0)
    for closeness in (1e-8, 1e-10, 1e-12, 1e-14):
        x = rng.standard_normal(7)
        X = np.column_stack([x, x + closeness * rng.standard_normal(7)])
        y = rng.standard_normal(7)
        found = certify(without_neurons(2), X, y, alpha=0.1, max_time=2.0)
        assert found.lower_bound <= least(X, y, 0.1)[1]


@pytest.mark.parametrize(
    "X",
    [
        np.append(1e-11 * np.arange(9.0), 1.0)[:, None],
        1e11 + np.random.default_rng(0).standard_normal((10, 2)),
    ],
    ids=["cluster", "offset"],
)
def test_lists_that_are_called_complete_are(X):
    rows = np.column_stack([X, np.ones(len(X))])
    oracle = Oracle(Setting(X, np.zeros(len(X)), np.ones(len(X)), "squared"))
    found = enumerate_patterns(rows)
    assert not found.complete or found.n_patterns == len(oracle.masks)


# Units.


def fitted(X, y, alpha=0.1, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ConvexReLURegressor(alpha, random_state=0, **options).fit(X, y)


@pytest.mark.parametrize("factor", [1e-100, 1e-10, 1e-6, 2.0**-20, 1e4, 1e10, 1e100])
@pytest.mark.slow
def test_units_of_the_target(factor):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.standard_normal(40)
    options = dict(patterns="adaptive", certify=False)
    plain, scaled = fitted(X, y, **options), fitted(X, factor * y, 0.1 * factor, **options)
    assert scaled.score(X, factor * y) > 0.99
    assert np.allclose(scaled.predict(X) / factor, plain.predict(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-100, 1e-10, 1e4, 1e100])
@pytest.mark.parametrize("hidden_bias", ["free", "none"])
@pytest.mark.slow
def test_units_of_the_features(factor, hidden_bias):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.standard_normal(40)
    options = dict(patterns="adaptive", certify=False, hidden_bias=hidden_bias)
    plain, scaled = fitted(X, y, **options), fitted(factor * X, y, 0.1 * factor, **options)
    assert np.allclose(scaled.predict(factor * X), plain.predict(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-10, 1e-6, 1e4, 1e10])
@pytest.mark.parametrize("which", ["X", "y"])
@pytest.mark.slow
def test_no_fit_is_worse_than_a_constant(factor, which):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.abs(X[:, 0]) + X[:, 1]
    X, y = (factor * X, y) if which == "X" else (X, factor * y)
    for options in (dict(), dict(alpha="auto"), dict(patterns="sampled"), dict(patterns="adaptive")):
        # Where alpha is all but nothing a fit is long, and its limit must not make it worse either.
        limit = dict(max_time=2.0) if factor > 1 or which == "X" else {}
        model = fitted(X, y, **limit, **options)
        assert model.certificate_.objective <= 0.5 * np.sum((y - y.mean()) ** 2) * (1 + 1e-9)


@pytest.mark.parametrize("offset", [1e3, 1e9, 1e12])
def test_a_target_with_an_offset(offset):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(12)
    y = offset + np.abs(x)
    best, _ = least(x[:, None], y, 0.01, hidden_bias="free", skip=True)
    # A target of this size is known to an ulp.
    allowed = best * 1e-3 + 12 * np.spacing(offset)
    assert ReLUSplineRegressor(0.01).fit(x[:, None], y).certificate_.objective <= best + allowed
    options = dict(skip_connection=True, hidden_bias="free")
    assert fitted(x[:, None], y, 0.01, **options).certificate_.objective <= best + allowed


def test_a_target_that_is_constant_but_for_rounding():
    X = np.random.default_rng(0).standard_normal((20, 2))
    y = np.where(np.arange(20) % 2, 0.1 + 0.2, 0.3)
    for options in (dict(), dict(alpha="auto"), dict(patterns="adaptive"), dict(skip_connection=True)):
        model = fitted(X, y, **options)
        assert model.network_.n_neurons == 0 and model.result_.status == "optimal"
        assert np.allclose(model.predict(X), 0.3, rtol=1e-15)
    spline = ReLUSplineRegressor(0.1).fit(X[:, :1], y)
    assert spline.network_.n_neurons == 0 and spline.result_.status == "optimal"


def test_features_that_are_all_one():
    X, y = np.ones((20, 2)), np.random.default_rng(0).standard_normal(20)
    for options in (dict(), dict(alpha="auto"), dict(hidden_bias="free"), dict(skip_connection=True)):
        model = fitted(X, y, **options)
        assert model.network_.n_neurons == 0 and model.result_.status == "optimal"
        assert np.allclose(model.predict(X), y.mean(), rtol=1e-9)


def test_a_spline_at_points_that_are_equal_up_to_an_ulp():
    x = np.concatenate([0.1 * np.arange(1, 101), np.cumsum(np.full(100, 0.1))])
    y = np.sin(x) + 0.1 * np.random.default_rng(0).standard_normal(200)
    model = ReLUSplineRegressor(0.1).fit(x[:, None], y)
    assert model.result_.status == "optimal" and model.certificate_.relative_gap <= model.tol
    merged = ReLUSplineRegressor(0.1).fit(np.round(x, 6)[:, None], y)
    assert np.isclose(model.certificate_.objective, merged.certificate_.objective, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e160, 1e200])
def test_targets_whose_squares_overflow_are_refused(factor):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 1)), factor * rng.standard_normal(12)
    for model in (ReLUSplineRegressor(), ConvexReLURegressor(), ConvexReLURegressor(0.1, patterns="exact")):
        with pytest.raises(ValueError, match=r"\by\b"):
            model.fit(X, y)


# Evidence that says nothing, or nothing of these data.


def test_slopes_that_overflow_bound_nothing():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 4))
    y = X[:, 0] ** 2 + 0.1 * rng.standard_normal(30)
    empty = Network(np.zeros((0, 4)), np.zeros(0), np.zeros(0), y.mean())
    found = certify(empty, X, y, alpha=0.5, method="branch_and_bound", theta=y - y.mean(), max_time=None)
    huge = [(k, s, replace(tree, slopes=np.full_like(tree.slopes, -1.7e308))) for k, s, tree in found.evidence]
    for bounds in ([proof.bound for *_, proof in huge], [2e-11, 2e-11]):
        evidence = tuple((k, s, replace(tree, bound=bound)) for (k, s, tree), bound in zip(huge, bounds))
        for theta in (found.theta, y - y.mean()):
            with pytest.raises(ValueError, match="bound"):
                replace(found, evidence=evidence, theta=theta, price=max(bounds) / 0.5).verify(X, y)


def test_a_basis_of_nan_is_none():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    network = ConvexReLURegressor(0.3, random_state=0).fit(X, y).network_
    found = certify(network, X, y, alpha=0.3, method="branch_and_bound")
    assert found.scope == "global"
    for name in ("basis", "weights"):
        nan = tuple((k, s, replace(p, **{name: np.full_like(getattr(p, name), np.nan)})) for k, s, p in found.evidence)
        with pytest.raises(ValueError):
            replace(found, evidence=nan).verify(X, y)


@pytest.mark.parametrize("skip", [False, True])
def test_ramps_say_nothing_of_two_features_or_of_no_skip_connection(skip):
    rng = np.random.default_rng(0)
    X, n_features = rng.standard_normal((30, 2)), 2 if skip else 1
    y = 2 * np.abs(X[:, 1])
    ramps = ReLUSplineRegressor(0.05).fit(X[:, :1], y).certificate_
    options = dict(hidden_bias="free", skip_connection=skip, patterns="exact" if n_features == 1 else "auto")
    model = ConvexReLURegressor(0.05, certify=True, max_time=30, **options).fit(X[:, :n_features], y)
    model.certificate_.verify(X[:, :n_features], y)
    with pytest.raises(ValueError, match="ramps"):
        replace(model.certificate_, evidence=ramps.evidence).verify(X[:, :n_features], y)


@pytest.mark.parametrize("small", [2.0**-57, 2.0**-63, 2.0**-83, 2.0**-133])
def test_directions_of_a_skip_connection_count_however_small_they_are(small):
    X, y = np.array([[1, 1], [0, 0], [small, 0], [2, 2], [3, 3.0]]), np.array([0, 0, 1, 0, 0.0])
    network = Network(np.zeros((0, 2)), np.zeros(0), np.zeros(0), 0.0, skip_weights=np.array([1 / small, -1 / small]))
    reached = network.objective(X, y, 0.5)
    assert reached == 0.0
    bare = replace(network, skip_weights=np.zeros(2))
    for found in (
        certify(bare, X, y, alpha=0.5),
        ConvexReLURegressor(0.5, skip_connection=True, certify=True).fit(X, y).certificate_,
    ):
        assert found.scope != "global" or found.lower_bound <= reached


def test_dependent_features_of_a_skip_connection_keep_their_bounds():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 60)
    onehot = np.eye(3)[kind]
    X = (onehot - onehot.mean(axis=0)) / onehot.std(axis=0)
    y = kind + rng.standard_normal(60)
    found = ConvexReLURegressor(0.5, skip_connection=True).fit(X, y).certificate_
    assert found.scope == "global" and found.relative_gap < 1e-6
    assert np.isclose(found.verify(X, y), found.lower_bound)


def test_weights_and_repetitions_have_the_same_units():
    # The root mean square of these rows is the square root of two, between two powers of two.
    X = np.tile([[-1.0], [1.0], [1.0], [3.0]], (4, 1))
    y = np.tile([0.0, 1.0, 0.0, 2.0], 4)
    found = ConvexReLURegressor(0.05, patterns="exact").fit(X, y).certificate_
    assert found.scope == "global"
    assert np.isclose(found.verify(X, y), found.lower_bound)


class Lowered:
    """The squared loss less ten."""

    name, target, lipschitz = "lowered", "real", 1.0

    def __getattr__(self, name):
        if name in ("gradient", "hessian", "check_target"):
            return getattr(Squared(), name)
        raise AttributeError(name)

    def value(self, y, z):
        return Squared().value(y, z) - 10.0

    def conjugate(self, y, u):
        return Squared().conjugate(y, u) + 10.0


def test_losses_below_zero_have_bounds_below_zero():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    plain = ConvexReLURegressor(0.5, patterns="exact").fit(X, y)
    found = certify(plain.network_.select([]), X, y, alpha=0.5, loss=Lowered())
    assert found.lower_bound <= plain.certificate_.objective - 200.0 + 1e-9


def test_what_counts_as_no_gap_is_checked():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    found = ConvexReLURegressor(0.5).fit(X, y).certificate_
    for forged in (dict(negligible=1e9), dict(negligible=np.nan), dict(networks="neural network of any depth")):
        with pytest.raises(ValueError, match=next(iter(forged))):
            replace(found, **forged).verify(X, y)


def test_evidence_of_another_class_is_refused():
    class Anything:
        bound = 0.0

        def check(self, X, t):
            return 0.0

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    found = ConvexReLURegressor(0.5).fit(X, y).certificate_
    with pytest.raises(ValueError, match="evidence"):
        replace(found, evidence=tuple((k, s, Anything()) for k, s, _ in found.evidence)).verify(X, y)


def test_a_weight_decay_that_norms_cannot_hold_is_refused():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 2)), rng.standard_normal(12)
    network = Network(np.zeros((0, 2)), np.zeros(0), np.zeros(0), y.mean())
    for refused in (
        lambda: certify(network, X, y, alpha=1e-280),
        lambda: ConvexReLURegressor(1e-280).fit(X, y),
        lambda: ConvexReLURegressor(1e-280, patterns="adaptive").fit(X, y),
        lambda: audit(network, X, y, alpha=1e-280),
    ):
        with pytest.raises(ValueError, match="alpha must be above"):
            refused()
    # In other units of the targets the same number is an ordinary one.
    assert ConvexReLURegressor(0.1 * 1e-120).fit(X, y * 1e-120).network_.n_neurons


def test_lists_of_rows_far_from_zero_with_free_biases():
    """What rounding amounts to depends on the rows that were listed: the data, or the data less their center."""
    X = 1e6 + np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [3.0, 2.0]])
    y = np.array([0.0, 1.0, 0.5, 0.0, -1.0, 2.0])
    assert enumerate_patterns(np.column_stack([X, np.ones(6)])).resolution > 0
    found = ConvexReLURegressor(0.01, hidden_bias="free", patterns="exact").fit(X, y).certificate_
    assert found.scope == "global" and np.isclose(found.verify(X, y), found.lower_bound)
    oracle = Oracle(Setting(X, y, np.ones(6), "squared", hidden_bias="free"))
    assert found.lower_bound <= float(oracle.best(0.01).value) * (1 + 1e-9)
    near = ConvexReLURegressor(0.01, hidden_bias="free", patterns="exact").fit(X - 1e6, y).certificate_
    assert np.isclose(found.lower_bound, near.lower_bound, rtol=1e-6)
