from itertools import product
from math import hypot

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn.neurons.penalties import (
    PENALTIES,
    ConeGroupLasso,
    ConeSparseGroupLasso,
    GroupLasso,
    SparseGroupLasso,
    _difference,
    _longest,
)

N, D, BLOCKS = 12, 3, 10
# Penalties of the whole block; tests/test_free_bias.py has the one that leaves out the bias.
NORMS = [name for name in PENALTIES if not PENALTIES[name].free_bias]
# What a unit of each weight costs beside its share in the length, for the sparse ones.
MU = np.array([0.6, 0.0, 1.3])


def build(name, seed=0):
    """A penalty, and for each block the matrix B of its cone {v : B v >= 0}, without rows where there is none."""
    rng = np.random.default_rng(seed)
    if not name.startswith("cone"):
        return SparseGroupLasso(MU) if "sparse" in name else GroupLasso(), [np.zeros((0, D))] * BLOCKS
    X = rng.standard_normal((N, D)) * rng.uniform(0.1, 10, (N, 1))
    patterns = rng.standard_normal((4, D)) @ X.T >= 0
    pattern = rng.integers(4, size=BLOCKS)
    cones = [np.where(patterns[k], 1.0, -1.0)[:, None] * X for k in pattern]
    if "sparse" in name:
        return ConeSparseGroupLasso(X, patterns, pattern, MU), cones
    return ConeGroupLasso(X, patterns, pattern), cones


def project(q, B):
    if not len(B):
        return q
    p = q + B.T @ nnls(B.T, -q)[0]
    return p if p @ p > 1e-20 * (q @ q) else np.zeros_like(q)


def draw_feasible(rng, cones):
    return np.array([project(3 * rng.standard_normal(D), B) for B in cones])


def value(V, name):
    mu = MU if "sparse" in name else 0 * MU
    return sum(float(np.sqrt(v @ v)) + sum(m * abs(x) for m, x in zip(mu, v)) for v in V)


def threshold(q, B, size, name):
    """argmin |v - q|^2 / 2 + size * sum_j mu_j |v_j| over B v >= 0, one orthant after the other."""
    if "sparse" not in name:
        return project(q, B)
    best, lowest = np.zeros_like(q), 0.5 * q @ q
    for signs in product((-1.0, 1.0), repeat=len(q)):
        v = project(q - size * MU * signs, np.concatenate([B, np.diag(signs)]))
        reached = 0.5 * (v - q) @ (v - q) + size * MU @ np.abs(v)
        if reached < lowest:
            best, lowest = v, reached
    return best


def support(g, B, name):
    """max g^T v over B v >= 0 and norms of at most 1, by bisection: the s at which g after thresholding is s long."""
    low, high = 0.0, float(np.linalg.norm(g))
    for _ in range(60):
        s = 0.5 * (low + high)
        low, high = (s, high) if np.linalg.norm(threshold(g, B, s, name)) > s else (low, s)
    return high


@pytest.mark.parametrize("name", NORMS)
def test_value(name):
    penalty, _ = build(name)
    V = np.random.default_rng(1).standard_normal((BLOCKS, D))
    assert np.isclose(penalty.value(V), value(V, name), rtol=1e-14)
    assert np.allclose(penalty.norms(V), [value([v], name) for v in V], rtol=1e-14)
    assert penalty.value(np.zeros((BLOCKS, D))) == 0.0


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("step", [0.0, 0.3, 1.0, 2.5])
def test_three_point_inequality(name, step):
    penalty, cones = build(name)
    rng = np.random.default_rng(2)
    V = 2 * rng.standard_normal((BLOCKS, D))
    P, _ = penalty.prox(V, step)
    assert penalty.violation(P) <= 1e-11
    best = 0.5 * np.sum((P - V) ** 2) + step * value(P, name)
    for shrink in (0.0, 0.01, 1.0):
        for _ in range(30):
            U = P + shrink * (draw_feasible(rng, cones) - P)
            other = 0.5 * np.sum((U - V) ** 2) + step * value(U, name)
            assert other >= best + 0.5 * np.sum((U - P) ** 2) - 1e-10


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("step", [0.0, 0.7, 2.0])
def test_prox_solves_its_program(name, step):
    penalty, cones = build(name, 3)
    V = 2 * np.random.default_rng(3).standard_normal((BLOCKS, D))
    P, _ = penalty.prox(V, step)
    mu = MU if "sparse" in name else 0 * MU
    for v, p, B in zip(V, P, cones):
        u = cp.Variable(D)
        constraints = [B @ u >= 0] if len(B) else []
        size = cp.norm(u, 2) + mu @ cp.abs(u)
        program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(u - v) + step * size), constraints)
        program.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        # A gap of 1e-11 and strong convexity leave sqrt(2e-11) in the solution.
        assert np.allclose(p, u.value, atol=1e-5)


@pytest.mark.parametrize("name", NORMS)
def test_prox_is_the_shrunken_projection(name):
    penalty, cones = build(name, 4)
    V = 2 * np.random.default_rng(4).standard_normal((BLOCKS, D))
    lengths = []
    for step in (0.0, 0.5, 2.5):
        P, _ = penalty.prox(V, step)
        for v, p, B in zip(V, P, cones):
            q = threshold(v, B, step, name)
            lengths.append(np.linalg.norm(q))
            expected = q * max(0.0, 1 - step / lengths[-1]) if lengths[-1] > step else 0 * q
            assert np.allclose(p, expected, atol=1e-10)
            # What is left out is left out exactly.
            assert np.array_equal(p == 0, (np.abs(expected) <= 1e-12))
    assert min(lengths) < 2.5 < max(lengths)


@pytest.mark.parametrize("name", NORMS)
def test_prox_of_zero_and_huge_thresholds(name):
    penalty, _ = build(name)
    V = np.random.default_rng(5).standard_normal((BLOCKS, D))
    for step in (0.0, 1.0):
        assert not penalty.prox(np.zeros((BLOCKS, D)), step)[0].any()
    # A solver's threshold is alpha over a curvature that may be next to nothing.
    assert not penalty.prox(V, 1e300)[0].any()


@pytest.mark.parametrize("name", NORMS)
def test_projection_leaves_no_infeasible_dust(name):
    penalty, cones = build(name, 6)
    rng = np.random.default_rng(6)
    polar = np.array([-rng.uniform(0.1, 1, len(B)) @ B if len(B) else np.zeros(D) for B in cones])
    for V in (polar, 1e-9 * polar, rng.standard_normal((BLOCKS, D))):
        P, _ = penalty.prox(V, 0.0)
        assert penalty.violation(P) <= 1e-11


@pytest.mark.parametrize("name", NORMS)
def test_prox_with_a_warm_start_and_its_arguments(name):
    penalty, _ = build(name, 7)
    rng = np.random.default_rng(7)
    V, warm = 2 * rng.standard_normal((BLOCKS, D)), None
    for step in (0.5, 0.5, 0.01, 0.01, 0.01, 0.5, 0.01):
        V = V + step * rng.standard_normal(V.shape)
        before = V.copy()
        P, warm = penalty.prox(V, 1.0, warm)
        assert np.allclose(P, penalty.prox(V, 1.0)[0], atol=1e-12)
        assert np.isclose(penalty.dual_norm(V, 0.1, warm), penalty.dual_norm(V), rtol=1e-10)
        assert np.array_equal(V, before)


@pytest.mark.parametrize("name", NORMS)
def test_dual_norm_is_the_largest_support(name):
    penalty, cones = build(name, 8)
    rng = np.random.default_rng(8)
    for scale in (1e-3, 1.0, 1e3):
        G = scale * rng.standard_normal((BLOCKS, D))
        expected = max(support(g, B, name) for g, B in zip(G, cones))
        found = penalty.dual_norm(G)
        assert np.isclose(found, expected, rtol=1e-10)
        for _ in range(50):
            for g, v in zip(G, draw_feasible(rng, cones)):
                assert g @ v <= found * value([v], name) * (1 + 1e-10)


@pytest.mark.parametrize("name", NORMS)
def test_dual_norm_floor_and_warm_start(name):
    penalty, _ = build(name, 9)
    rng = np.random.default_rng(9)
    G = rng.standard_normal((BLOCKS, D))
    exact = penalty.dual_norm(G)
    assert np.isclose(penalty.dual_norm(G, 0.9 * exact), exact, rtol=1e-10)
    assert penalty.dual_norm(G, 1.1 * exact) == 1.1 * exact
    _, warm = penalty.prox(G, 0.0)
    assert np.isclose(penalty.dual_norm(G, 0.0, warm), exact, rtol=1e-10)
    assert penalty.dual_norm(np.zeros((0, D)), 0.5) == 0.5
    assert penalty.dual_norm(np.zeros((BLOCKS, D))) == 0.0


def test_dual_norm_of_more_blocks_than_one_part():
    rng = np.random.default_rng(10)
    X = rng.standard_normal((20, D))
    gates = rng.standard_normal((300, D))
    patterns = np.unique(gates @ X.T >= 0, axis=0)
    penalty = ConeGroupLasso(X, patterns, np.arange(len(patterns)))
    assert len(patterns) > 64
    G = -rng.standard_normal((len(patterns), D)) * np.linspace(1, 3, len(patterns))[:, None]
    cones = [np.where(pattern, 1.0, -1.0)[:, None] * X for pattern in patterns]
    assert np.isclose(penalty.dual_norm(G), max(np.linalg.norm(project(g, B)) for g, B in zip(G, cones)), rtol=1e-10)


@pytest.mark.parametrize("name", NORMS)
def test_restrict(name):
    penalty, cones = build(name, 11)
    V = np.random.default_rng(11).standard_normal((BLOCKS, D))
    P, _ = penalty.prox(V, 0.2)
    for blocks in (np.array([7, 2, 2]), np.arange(BLOCKS) % 3 == 0, np.zeros(0, dtype=int)):
        part = penalty.restrict(blocks)
        assert np.allclose(part.prox(V[blocks], 0.2)[0], P[blocks], atol=1e-12)
        outside = np.zeros_like(V)
        outside[blocks] = V[blocks]
        assert np.isclose(part.violation(V[blocks]), penalty.violation(outside))
        chosen = np.arange(BLOCKS)[blocks]
        expected = max((support(P[k], cones[k], name) for k in chosen), default=0.0)
        assert np.isclose(part.dual_norm(P[blocks]), expected, rtol=1e-10)


def test_violation_by_hand():
    X = np.array([[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    penalty = ConeGroupLasso(X, np.array([[True, False, True]]), np.array([0, 0]))
    # Unit rows: the faces are v_0 >= 0 and v_1 <= 0, and lengths are measured per unit of |v|.
    assert penalty.violation(np.array([[0.0, 0.0], [1.0, -1.0]])) == 0.0
    assert np.isclose(penalty.violation(np.array([[-3.0, -4.0], [1.0, 0.0]])), 0.6)
    assert np.isclose(penalty.violation(np.array([[-3e-9, 4e-9], [1.0, 0.0]])), 0.8)
    assert GroupLasso().violation(np.array([[-1.0, 2.0]])) == 0.0


@pytest.mark.parametrize("name", NORMS)
def test_faces_give_the_derivative_of_the_prox(name):
    penalty, _ = build(name, 14)
    rng = np.random.default_rng(14)
    V, step, h = 2 * rng.standard_normal((BLOCKS, D)), 0.4, 1e-6
    P, warm = penalty.prox(V, step)
    blocks = np.flatnonzero(P.any(axis=1))
    bases, skip = penalty.faces(P, blocks, warm)
    assert np.allclose(bases @ bases.transpose(0, 2, 1), np.eye(D)) and skip.any() == (name != "group_lasso")
    for k, basis, count in zip(blocks, bases, skip):
        free, length = basis[:, count:], np.linalg.norm(P[k])
        g = P[k] / length
        a = length / (length + step)
        derivative = a * free @ free.T + (1 - a) * np.outer(g, g)
        for j in range(D):
            move = h * np.eye(D)[j] * (np.arange(BLOCKS) == k)[:, None]
            difference = (penalty.prox(V + move, step)[0] - penalty.prox(V - move, step)[0])[k] / (2 * h)
            assert np.allclose(derivative[:, j], difference, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_cvxpy(name):
    penalty, cones = build(name, 12)
    rng = np.random.default_rng(12)
    V = cp.Variable((BLOCKS, D), value=draw_feasible(rng, cones))
    expression, constraints = penalty.cvxpy(V, np.arange(N))
    assert expression.is_convex()
    assert np.isclose(expression.value, value(V.value, name))
    assert all(np.max(constraint.violation()) <= 1e-10 for constraint in constraints)
    assert len(constraints) == name.startswith("cone")
    if constraints:
        V.value = -V.value
        assert np.max(constraints[0].violation()) > 0.1


def test_cvxpy_on_some_of_the_samples():
    penalty, cones = build("cone_group_lasso", 13)
    samples = np.array([7, 2, 5])
    V = cp.Variable((BLOCKS, D), value=np.random.default_rng(13).standard_normal((BLOCKS, D)))
    _, (constraint,) = penalty.cvxpy(V, samples)
    crossed = [max(0.0, *(-B[samples] @ v / np.linalg.norm(B[samples], axis=1))) for B, v in zip(cones, V.value)]
    assert np.isclose(np.max(constraint.violation()), max(crossed))


# ---------------------------------------------------------------------------------------------------------------------
# Margins


def test_bounds_on_lengths_of_projections_hold_where_they_cancel_and_are_tight():
    """The least |q + c s|, s in the dual cone of K = {v : v_j >= 0 for j < d / 2}, is no less than |P_K q|."""
    rng = np.random.default_rng(0)
    for d, n in ((4, 200), (4000, 60)):
        half = d // 2
        Q = -np.abs(rng.standard_normal((n, d)))
        Q[:, half:] *= 10.0 ** rng.uniform(-9, 0, (n, 1)) * np.where(np.arange(n)[:, None] % 2, 1.0, 1e-7)
        P = np.where(np.arange(d) < half, 0.0, Q)
        bounds, exact = _longest(Q, _difference(P, Q)), np.array([hypot(*row[half:]) for row in Q])
        sizes = np.linalg.norm(Q, axis=1)
        assert np.all(bounds >= exact)
        assert np.all(bounds <= exact + 1e-6 * sizes)
        # A multiple of the correction that is cut off is a bound too.
        for most in (0.0, 0.3):
            assert np.all(
                _longest(Q, P - Q, most) >= np.sqrt(exact**2 + (1 - most) ** 2 * (sizes**2 - exact**2)) * 0.9999999
            )


def test_corrections_that_are_rounding_are_forgotten_and_no_others():
    q = np.array([[3.0, 4.0]])
    for share, kept in ((1e-4, True), (1e-5, True), (1e-7, False), (1e-9, False)):
        assert _difference(q + share * np.array([[5.0, 0.0]]), q).any() == kept
