"""Bounds of prices over listed cones, against cvxpy one cone at a time, and with multipliers that are wrong."""

import warnings

import cvxpy as cp
import numpy as np
import pytest

from convexnn import enumerate_patterns
from convexnn.neurons.activations import ACTIVATIONS, Activation
from convexnn.neurons.neuron import Neuron
from convexnn.proofs import cone_bounds
from convexnn.proofs.cone_bounds import bound_over_cones

MU = np.array([0.3, 1.0, 0.0])
RELU, LEAKY, ABSOLUTE, GATED = (ACTIVATIONS[name] for name in ("relu", "leaky_relu", "absolute", "gated_relu"))
KINDS = {
    "penalized": Neuron(),
    "none": Neuron(hidden_bias="none"),
    "free": Neuron(hidden_bias="free"),
    "feature_penalty": Neuron(feature_penalty=MU),
    "gated": Neuron(GATED),
    "gated_feature_penalty": Neuron(GATED, feature_penalty=MU),
    "leaky": Neuron(LEAKY),
    "steep": Neuron(Activation("steep", -3.0)),
    "leaky_free": Neuron(Activation("leaky", 0.4), "free"),
    "absolute_free": Neuron(ABSOLUTE, "free"),
    "absolute_feature_penalty": Neuron(ABSOLUTE, feature_penalty=MU),
}


def draw(kind, seed=0, offset=0.0, n=7):
    rng = np.random.default_rng(seed)
    X = offset + rng.standard_normal((n, 2))
    rows = X if kind == "none" else np.column_stack([X, np.ones(n)])
    t = rng.standard_normal(n)
    return rows, t - t.mean() * kind.endswith("free"), np.ascontiguousarray(enumerate_patterns(rows).patterns.T)


def largest(rows, t, patterns, neuron):
    """The largest price, one conic program a cone, t without the kink."""
    found, free_bias, slope = [0.0], neuron.free_bias, neuron.activation.slope
    for pattern in patterns:
        v = cp.Variable(rows.shape[1])
        size = cp.norm(v[:-1]) if free_bias else cp.norm(v)
        if neuron.feature_penalty is not None:
            size += neuron.feature_penalty @ cp.abs(v)
        cone = [] if neuron.activation.name == "gated_relu" else [cp.multiply(2.0 * pattern - 1, rows @ v) >= 0]
        if free_bias and (pattern.all() or not pattern.any()):
            cone = [v[-1] == 0]
        program = cp.Problem(cp.Maximize(((np.where(pattern, 1.0, slope) * t) @ rows) @ v), [size <= 1, *cone])
        with warnings.catch_warnings():
            # It cannot always reach its own tolerance; what it reaches is compared below.
            warnings.simplefilter("ignore", UserWarning)
            program.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        found.append(program.value)
    return max(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_the_bound_is_the_largest_price(kind, seed):
    rows, t, patterns = draw(kind, seed)
    price = largest(rows, t, patterns, KINDS[kind])
    bound = bound_over_cones(rows, (1 - KINDS[kind].activation.slope) * t, patterns, KINDS[kind])
    assert price * (1 - 1e-6) <= bound <= price * (1 + 1e-6) + 1e-8


@pytest.mark.parametrize("kind", ["penalized", "none", "free", "feature_penalty", "absolute_free", "leaky"])
def test_whatever_multipliers_are_used_it_is_a_bound(kind, monkeypatch):
    rows, t, patterns = draw(kind)
    exact = bound_over_cones(rows, t, patterns, KINDS[kind])
    for project in ("project_onto_cones", "support", "minimise"):

        def wrong(G, *args, _name=project, **options):
            rng = np.random.default_rng(1)
            V, active = G * rng.random(G.shape), rng.integers(-1, len(rows), G.shape)
            return (V, active) if _name == "project_onto_cones" else (V, active, np.zeros(G.shape))

        monkeypatch.setattr(cone_bounds, project, wrong)
    assert bound_over_cones(rows, t, patterns, KINDS[kind]) >= exact * (1 - 1e-12)
    monkeypatch.setattr(cone_bounds, "_by_least_squares", lambda g, *_: g)
    assert bound_over_cones(rows, t, patterns, KINDS[kind]) >= exact * (1 - 1e-12)


def test_nan_and_infinity_are_no_bounds():
    rows, t, patterns = draw("penalized")
    with np.errstate(all="ignore"):
        for bad in (np.nan, np.inf):
            broken = t.copy()
            broken[0] = bad
            assert bound_over_cones(rows, broken, patterns, Neuron()) == np.inf
            assert bound_over_cones(rows, broken, patterns, Neuron(GATED)) == np.inf


def test_features_far_from_zero():
    """Projections lose eleven digits, and the bound says so instead of being false."""
    X = np.column_stack([1e5 + np.array([-1.5, -0.5, 0.6, 1.1]), np.ones(4)])
    t, mu = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0])
    patterns = np.ascontiguousarray(enumerate_patterns(X).patterns.T)
    u = np.array([1.0, 0.0])
    price = t @ np.maximum(X @ u, 0) / 2
    assert bound_over_cones(X, t, patterns, Neuron(feature_penalty=mu)) >= price


def test_other_rows_within_the_resolution_are_covered():
    rows, t, patterns = draw("penalized")
    moved = rows * (1 + 1e-6 * np.random.default_rng(0).uniform(-1, 1, rows.shape))
    bound = bound_over_cones(rows, t, patterns, Neuron(), resolution=2e-6)
    assert bound >= bound_over_cones(moved, t, np.ascontiguousarray(enumerate_patterns(moved).patterns.T), Neuron())
