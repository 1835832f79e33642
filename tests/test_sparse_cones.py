from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn.cones import sparse as sparse_cones
from convexnn.cones.project import project_onto_cones
from convexnn.cones.sparse import UNKNOWN, soft_threshold, support, threshold_onto_cones


def gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def with_ones(rng, n, d):
    return np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])


def integer_grid(rng, n, d):
    return np.column_stack([rng.integers(0, 3, (n, d - 1)), np.ones(n)]).astype(float)


def centred_integers_and_zero_rows(rng, n, d):
    return rng.integers(-1, 2, (n, d)).astype(float)


def duplicates(rng, n, d):
    half = rng.standard_normal(((n + 1) // 2, d))
    return np.concatenate([half, -2.0 * half])[:n]


FAMILIES = [gaussian, with_ones, integer_grid, centred_integers_and_zero_rows, duplicates]


def draw(seed, family, n, d, n_blocks=12):
    """Points, unit rows, patterns, and costs mu, one of which is zero."""
    rng = np.random.default_rng(seed)
    X = family(rng, n, d)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    rows = X / np.where(lengths > 0, lengths, 1.0)
    patterns = rng.standard_normal((n_blocks, d)) @ rows.T >= 0
    # Towards the inside of the cones, so that a good part of the answers is not zero.
    Q = rng.standard_normal((n_blocks, d)) + rng.uniform(0, 1, (n_blocks, 1)) * np.where(patterns, 1, -1) @ rows / d
    mu = rng.uniform(0.1, 1.0, d)
    mu[-1] = 0.0
    return rng, Q, rows, patterns, mu


def cone(rows, pattern):
    return np.where(pattern, 1.0, -1.0)[:, None] * rows


def orthant_by_orthant(q, T, B):
    """The minimiser of |v - q|^2 / 2 + T^T |v| over B v >= 0, its value beside it: linear terms, and projections."""
    best, lowest = np.zeros_like(q), 0.5 * q @ q
    for signs in product((-1.0, 1.0), repeat=len(q)):
        A = np.concatenate([B, np.diag(signs)])
        point = q - T * np.array(signs)
        v = point + A.T @ nnls(A.T, -point)[0]
        value = 0.5 * (v - q) @ (v - q) + T @ np.abs(v)
        if value < lowest:
            best, lowest = v, value
    return best, lowest


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(1, 1), (5, 2), (12, 3), (40, 4)])
def test_minimisers_by_brute_force(family, n, d):
    for seed in range(4):
        _, Q, rows, patterns, mu = draw([seed, n, d], family, n, d)
        for scale, size in ((1.0, 0.0), (1.0, 0.3), (1.0, 1.5), (1e3, 0.3), (1e-3, 1e-4)):
            T = np.broadcast_to(scale * size * mu, Q.shape)
            V, active, signs = threshold_onto_cones(scale * Q, T, rows, patterns)
            for q, v, pattern, on, sign in zip(Q, V, patterns, active, signs):
                B = cone(rows, pattern)
                expected, lowest = orthant_by_orthant(scale * q, T[0], B)
                assert np.allclose(v, expected, atol=1e-9 * scale)
                assert np.all(B @ v >= -1e-11 * np.linalg.norm(v))
                value = 0.5 * (v - scale * q) @ (v - scale * q) + T[0] @ np.abs(v)
                assert value <= lowest + 1e-12 * scale**2
                if v.any():
                    # Zeros are exact (on grids rows alone may make them), and the state says what is zero.
                    zero = (np.abs(expected) <= 1e-9 * scale) & (T[0] > 0)
                    assert not v[zero].any() or family not in (gaussian, with_ones)
                    assert np.all(np.abs(B[on[on >= 0]] @ v) <= 1e-11 * scale)
                    assert not v[sign == 0].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_warm_starts_good_and_bad(family):
    for seed in range(5):
        rng, Q, rows, patterns, mu = draw([seed, 7], family, 30, 5)
        T = rng.uniform(0, 1, (len(Q), 1)) * mu
        V, active, signs = threshold_onto_cones(Q, T, rows, patterns)
        for guess in (
            (active, signs),
            (active, None),
            (None, signs),
            (None, np.zeros_like(signs)),
            (np.sort(rng.integers(-1, len(rows), Q.shape), axis=1), rng.integers(-1, 2, Q.shape).astype(np.int8)),
            (rng.integers(-1, 1, Q.shape), np.full(Q.shape, UNKNOWN, dtype=np.int8)),
        ):
            given = [None if part is None else part.copy() for part in guess]
            again, _, _ = threshold_onto_cones(Q, T, rows, patterns, *given)
            assert np.allclose(again, V, atol=1e-10)
            # Arguments stay what they were.
            assert all(a is None or np.array_equal(a, b) for a, b in zip(given, guess))


def test_without_thresholds_it_is_the_projection():
    _, Q, rows, patterns, _ = draw(1, with_ones, 60, 6)
    expected, _ = project_onto_cones(Q, rows, patterns)
    assert np.allclose(threshold_onto_cones(Q, np.zeros_like(Q), rows, patterns)[0], expected, atol=1e-12)


def test_without_rows_it_is_soft_thresholding():
    _, Q, _, _, mu = draw(2, gaussian, 5, 4)
    none, T = np.zeros((len(Q), 0), dtype=bool), np.broadcast_to(mu, Q.shape)
    V, _, _ = threshold_onto_cones(Q, T, np.zeros((0, 4)), none)
    assert np.allclose(V, np.sign(Q) * np.maximum(np.abs(Q) - mu, 0.0), atol=1e-14)
    assert np.array_equal(soft_threshold(np.array([[3.0, -3.0, 0.5]]), np.ones((1, 3))), [[2.0, -2.0, 0.0]])


@pytest.mark.parametrize("large", [1e3, 1e6, 1e12])
def test_huge_thresholds_take_the_feature_out(large):
    _, Q, rows, patterns, mu = draw(3, with_ones, 25, 5, 40)
    mu[1] = large
    V, _, _ = threshold_onto_cones(Q, np.broadcast_to(mu, Q.shape), rows, patterns)
    others = np.array([0, 2, 3, 4])
    assert not V[:, 1].any() and V.any()
    for q, v, pattern in zip(Q, V, patterns):
        expected, _ = orthant_by_orthant(q[others], mu[others], cone(rows, pattern)[:, others])
        assert np.allclose(v[others], expected, atol=1e-9)


def test_the_order_and_the_signs_of_features_do_not_matter():
    rng, Q, rows, patterns, mu = draw(4, with_ones, 50, 6)
    T = np.broadcast_to(0.5 * mu, Q.shape)
    V, _, _ = threshold_onto_cones(Q, T, rows, patterns)
    order, flip = rng.permutation(6), rng.choice([-1.0, 1.0], 6)
    again, _, _ = threshold_onto_cones((flip * Q)[:, order], T[:, order], (flip * rows)[:, order], patterns)
    assert np.allclose(again, (flip * V)[:, order], atol=1e-12)


def test_floor_leaves_the_others_as_they_are():
    _, Q, rows, patterns, mu = draw(5, with_ones, 50, 6, 60)
    T = np.broadcast_to(0.3 * mu, Q.shape)
    V, _, _ = threshold_onto_cones(Q, T, rows, patterns)
    lengths = np.linalg.norm(V, axis=1)
    floor = np.median(lengths[lengths > 0])
    W, _, _ = threshold_onto_cones(Q, T, rows, patterns, floor=floor)
    long = lengths > floor * (1 + 1e-9)
    assert long.any() and not long.all()
    assert np.allclose(W[long], V[long], atol=1e-12) and np.linalg.norm(W[~long], axis=1).max() <= floor * (1 + 1e-9)


def test_no_blocks():
    V, active, signs = threshold_onto_cones(np.zeros((0, 3)), np.zeros((0, 3)), np.eye(3), np.zeros((0, 3), dtype=bool))
    assert V.shape == active.shape == signs.shape == (0, 3)
    assert support(np.zeros((0, 3)), np.ones(3), np.eye(3), np.zeros((0, 3), dtype=bool))[0].shape == (0, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_block_at_a_time(family):
    # The way out for blocks on which the batch does not settle.
    _, Q, rows, patterns, mu = draw(6, family, 20, 4)
    for q, pattern in zip(Q, patterns):
        B, size = cone(rows, pattern), np.linalg.norm(q)
        v = sparse_cones._minimise_one(q / size, 0.4 * mu / size, B)
        expected, _ = orthant_by_orthant(q / size, 0.4 * mu / size, B)
        assert np.allclose(v, expected, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_support_attains_and_bounds(family):
    for seed in range(3):
        _, G, rows, patterns, mu = draw([seed, 8], family, 25, 4)
        V, active, signs = support(G, mu, rows, patterns)
        for g, v, pattern in zip(G, V, patterns):
            B, s = cone(rows, pattern), np.linalg.norm(v)
            # The defining equation: thresholded by s mu, g is s long.
            assert np.isclose(np.linalg.norm(orthant_by_orthant(g, s * mu, B)[0]), s, atol=1e-9)
            if s > 0:
                assert np.isclose(g @ v, s * (s + mu @ np.abs(v)), rtol=1e-9) and np.all(B @ v >= -1e-11 * s)
        lengths = np.linalg.norm(V, axis=1)
        for guess in ((active, signs), (None, np.sign(G).astype(np.int8))):
            assert np.allclose(support(G, mu, rows, patterns, *guess)[0], V, atol=1e-9)
        low = 0.9 * lengths
        assert np.allclose(support(G, mu, rows, patterns, floor=low)[0], V, atol=1e-9)
        floor = float(np.median(lengths))
        W, _, _ = support(G, mu, rows, patterns, floor=floor)
        assert np.allclose(W[lengths > floor * (1 + 1e-9)], V[lengths > floor * (1 + 1e-9)], atol=1e-9)
        assert np.all(np.linalg.norm(W[lengths <= floor], axis=1) <= floor * (1 + 1e-9))


def test_support_solves_its_program():
    _, G, rows, patterns, mu = draw(9, with_ones, 40, 6, 8)
    V, _, _ = support(G, mu, rows, patterns)
    assert V.any()
    for g, v, pattern in zip(G, V, patterns):
        u = cp.Variable(6)
        constraints = [cone(rows, pattern) @ u >= 0, cp.norm(u) + mu @ cp.abs(u) <= 1]
        program = cp.Problem(cp.Maximize(g @ u), constraints)
        program.solve(solver="CLARABEL")
        assert np.isclose(np.linalg.norm(v), program.value, atol=1e-6)


def test_support_without_penalty_is_the_length_of_the_projection():
    _, G, rows, patterns, mu = draw(10, with_ones, 40, 5)
    V, _, _ = support(G, 0 * mu, rows, patterns)
    assert np.allclose(V, project_onto_cones(G, rows, patterns)[0], atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_walls_constrain(family):
    rng, Q, rows, patterns, mu = draw(5, family, 20, 4)
    walls = rng.random(patterns.shape) < 0.5
    V, active, _ = support(Q, mu, rows, patterns, walls=walls)
    for k, v in enumerate(V):
        some = np.flatnonzero(walls[k])
        alone = support(Q[k : k + 1], mu, rows[some], patterns[k : k + 1, some])[0][0]
        assert np.allclose(v, alone, atol=1e-9) and set(active[k]) <= {-1, *some}
