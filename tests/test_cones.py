from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn.cones import project as cones
from convexnn.cones.project import project_onto_cones


def unit(X):
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def project_by_nnls(q, B):
    multipliers, _ = nnls(B.T, -q)
    return q + B.T @ multipliers


def project_by_brute_force(q, B):
    """The nearest feasible one among the projections onto all faces spanned by at most d rows."""
    best, distance = np.zeros_like(q), np.linalg.norm(q)
    for size in range(min(len(q), len(B)) + 1):
        for rows in combinations(range(len(B)), size):
            face = B[list(rows)]
            p = q - np.linalg.pinv(face, rcond=1e-10) @ (face @ q) if size else q
            if np.all(B @ p >= -1e-12) and np.linalg.norm(q - p) < distance:
                best, distance = p, np.linalg.norm(q - p)
    return best


def gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def with_ones(rng, n, d):
    return np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])


def integer_grid(rng, n, d):
    return np.column_stack([rng.integers(0, 3, (n, d - 1)), np.ones(n)])


def centred_integers_and_zero_rows(rng, n, d):
    return rng.integers(-1, 2, (n, d)).astype(float)


def duplicates(rng, n, d):
    half = rng.standard_normal(((n + 1) // 2, d))
    return np.concatenate([half, -2.0 * half])[:n]


FAMILIES = [gaussian, with_ones, integer_grid, centred_integers_and_zero_rows, duplicates]


def draw(rng, family, n, d, n_blocks):
    """Points, unit rows, patterns of random gates (so every cone has the gate inside), and the gates."""
    rows = unit(family(rng, n, d))
    gates = rng.standard_normal((n_blocks, d))
    patterns = gates @ rows.T >= 0
    return rng.standard_normal((n_blocks, d)) * 10.0 ** rng.uniform(-2, 2, (n_blocks, 1)), rows, patterns, gates


def signed(rows, pattern):
    return np.where(pattern, 1.0, -1.0)[:, None] * rows


def worst_violation(P, rows, patterns, scale):
    """Largest crossing of a face, in units of the scale of each block; blocks of scale zero do not count."""
    side = (P @ rows.T) * np.where(patterns, 1.0, -1.0)
    return np.max(-side[scale > 0] / scale[scale > 0, None], initial=0.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(1, 2), (4, 2), (7, 3), (8, 3), (6, 4)])
def test_brute_force_over_faces(family, n, d):
    Q, rows, patterns, _ = draw(np.random.default_rng([n, d]), family, n, d, 12)
    P, _ = project_onto_cones(Q, rows, patterns)
    for q, p, pattern in zip(Q, P, patterns):
        assert np.allclose(p, project_by_brute_force(q, signed(rows, pattern)), atol=1e-9 * np.linalg.norm(q))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(30, 1), (40, 2), (60, 5), (50, 9), (5, 12)])
def test_nnls(family, n, d):
    Q, rows, patterns, _ = draw(np.random.default_rng([n, d]), family, n, d, 40)
    P, active = project_onto_cones(Q, rows, patterns)
    assert active.shape == Q.shape
    for q, p, pattern in zip(Q, P, patterns):
        # NNLS stops at about 1e-15 |q| in the multipliers, which nearly parallel rows amplify.
        assert np.allclose(p, project_by_nnls(q, signed(rows, pattern)), atol=1e-9 * np.linalg.norm(q))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(8, 3), (60, 5), (200, 8)])
def test_moreau(family, n, d):
    rng = np.random.default_rng([n, d])
    Q, rows, patterns, gates = draw(rng, family, n, d, 50)
    P, _ = project_onto_cones(Q, rows, patterns)
    rest, size = Q - P, np.linalg.norm(Q, axis=1)
    assert np.all(np.abs(np.einsum("kd,kd->k", rest, P)) <= 1e-11 * size**2)
    assert worst_violation(P, rows, patterns, size) <= 1e-11
    assert np.all(np.einsum("kd,kd->k", rest, gates) <= 1e-11 * size * np.linalg.norm(gates, axis=1))
    for residual, length, pattern in zip(rest, size, patterns):
        # The polar cone of {v : B v >= 0} is {-B^T lam : lam >= 0}.
        _, distance = nnls(-signed(rows, pattern).T, residual)
        assert distance <= 1e-10 * length


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n, d", [(8, 3), (60, 5), (200, 8)])
def test_violation_relative_to_the_projection_itself(family, n, d):
    # What is left of a point whose projection is zero must not be dust that points out of the cone.
    Q, rows, patterns, _ = draw(np.random.default_rng([n, d]), family, n, d, 50)
    P, _ = project_onto_cones(Q, rows, patterns)
    assert worst_violation(P, rows, patterns, np.linalg.norm(P, axis=1)) <= 1e-11


def test_points_inside_stay():
    rng = np.random.default_rng(0)
    _, rows, patterns, gates = draw(rng, gaussian, 50, 4, 20)
    P, active = project_onto_cones(gates, rows, patterns)
    assert np.allclose(P, gates, rtol=1e-15)
    assert np.all(active == -1)


def test_polar_points_become_zero():
    rng = np.random.default_rng(1)
    _, rows, patterns, _ = draw(rng, gaussian, 10, 3, 20)
    Q = np.array([-rng.uniform(0.1, 1, 10) @ signed(rows, pattern) for pattern in patterns])
    P, _ = project_onto_cones(Q, rows, patterns)
    assert np.linalg.norm(P, axis=1).max() <= 1e-12 * np.linalg.norm(Q, axis=1).max()


def test_zero_points_and_no_blocks():
    rows, patterns = unit(np.random.default_rng(0).standard_normal((5, 3))), np.ones((2, 5), dtype=bool)
    P, active = project_onto_cones(np.zeros((2, 3)), rows, patterns)
    assert not P.any() and np.all(active == -1)
    P, active = project_onto_cones(np.zeros((0, 3)), rows, patterns[:0])
    assert P.shape == active.shape == (0, 3)


def test_projection_is_idempotent_and_homogeneous():
    Q, rows, patterns, _ = draw(np.random.default_rng(2), gaussian, 40, 5, 30)
    P, _ = project_onto_cones(Q, rows, patterns)
    size = np.linalg.norm(Q)
    assert np.allclose(project_onto_cones(P, rows, patterns)[0], P, atol=1e-12 * size)
    assert np.allclose(project_onto_cones(1e6 * Q, rows, patterns)[0], 1e6 * P, atol=1e-6 * size)
    assert np.allclose(project_onto_cones(1e-6 * Q, rows, patterns)[0], 1e-6 * P, atol=1e-18 * size)


def test_projection_is_nonexpansive():
    rng = np.random.default_rng(3)
    Q, rows, patterns, _ = draw(rng, gaussian, 60, 4, 40)
    R = Q + rng.standard_normal(Q.shape)
    moved = np.linalg.norm(project_onto_cones(Q, rows, patterns)[0] - project_onto_cones(R, rows, patterns)[0], axis=1)
    assert np.all(moved <= np.linalg.norm(Q - R, axis=1) * (1 + 1e-10))


@pytest.mark.parametrize("family", FAMILIES)
def test_warm_starts_change_nothing(family):
    rng = np.random.default_rng(4)
    Q, rows, patterns, _ = draw(rng, family, 60, 5, 60)
    P, active = project_onto_cones(Q, rows, patterns)
    size = np.linalg.norm(Q, axis=1)
    guesses = [
        active,
        project_onto_cones(Q + 0.3 * rng.standard_normal(Q.shape), rows, patterns)[1],
        project_onto_cones(-Q, rows, patterns)[1],
    ]
    if family in (gaussian, with_ones):  # any d rows are independent
        guesses.append(np.array([rng.choice(60, size=5, replace=False) for _ in Q]))
    for guess in guesses:
        before = guess.copy()
        warm, _ = project_onto_cones(Q, rows, patterns, guess)
        assert np.allclose(warm, P, atol=1e-9 * size.max())
        assert worst_violation(warm, rows, patterns, size) <= 1e-11
        assert np.array_equal(guess, before)


# Points whose projection is zero at a vertex of many dependent rows: the returned sets must still be of use.
DEGENERATE = [
    (integer_grid, 60, 5, 22),
    (integer_grid, 60, 5, 89),
    (centred_integers_and_zero_rows, 30, 3, 287),
    *((family, 20, 4, seed) for family in FAMILIES for seed in range(10)),
]


@pytest.mark.parametrize("family, n, d, seed", DEGENERATE)
def test_warm_starts_on_degenerate_data(family, n, d, seed):
    rng = np.random.default_rng([4, seed, n])
    Q, rows, patterns, _ = draw(rng, family, n, d, 60)
    P, _ = project_onto_cones(Q, rows, patterns)
    size = np.linalg.norm(Q, axis=1)
    _, guess = project_onto_cones(Q + 0.3 * rng.standard_normal(Q.shape), rows, patterns)
    warm, _ = project_onto_cones(Q, rows, patterns, guess)
    assert np.max(np.linalg.norm(warm - P, axis=1) / size) <= 1e-9
    assert worst_violation(warm, rows, patterns, size) <= 1e-11


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.5])
def test_floor_cuts_short_projections_and_no_others(family, share):
    Q, rows, patterns, _ = draw(np.random.default_rng(5), family, 30, 4, 80)
    P, _ = project_onto_cones(Q, rows, patterns)
    lengths = np.linalg.norm(P, axis=1)
    floor = share * np.median(lengths)
    cut, _ = project_onto_cones(Q, rows, patterns, floor=floor)
    long, short = lengths > floor * (1 + 1e-9), lengths <= floor * (1 - 1e-9)
    # What is left unfinished is short, and q moved along rows of its cone only: no further than to the projection.
    left = np.linalg.norm(cut[short], axis=1)
    assert np.all(left <= floor * (1 + 1e-12)) and np.all(left >= lengths[short] * (1 - 1e-9))
    assert np.all(np.einsum("kd,kd->k", cut[short] - Q[short], P[short]) >= -1e-12)
    assert np.allclose(cut[long], P[long], rtol=1e-9, atol=1e-9 * floor)


def test_nearly_parallel_rows():
    rng = np.random.default_rng(6)
    base = rng.standard_normal((10, 4))
    for spread in (1e-3, 1e-6, 1e-9):
        rows = unit(np.concatenate([base, base + spread * rng.standard_normal(base.shape)]))
        gates = rng.standard_normal((40, 4))
        patterns, Q = gates @ rows.T >= 0, rng.standard_normal((40, 4))
        P, _ = project_onto_cones(Q, rows, patterns)
        assert worst_violation(P, rows, patterns, np.linalg.norm(Q, axis=1)) <= 1e-11
        for q, p, pattern in zip(Q, P, patterns):
            assert np.allclose(p, project_by_nnls(q, signed(rows, pattern)), atol=1e-7)


def test_arguments_are_not_changed():
    Q, rows, patterns, _ = draw(np.random.default_rng(7), gaussian, 20, 3, 10)
    copies = Q.copy(), rows.copy(), patterns.copy()
    project_onto_cones(Q, rows, patterns, floor=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(copies, (Q, rows, patterns)))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_walls_constrain(family):
    """Rows that are no walls of a block might as well not be there; blocks have their own floors."""
    rng = np.random.default_rng(3)
    Q, rows, patterns, _ = draw(rng, family, 20, 4, 12)
    walls = rng.random(patterns.shape) < 0.5
    floor = rng.uniform(0, 1.5, 12)
    together, active = project_onto_cones(Q, rows, patterns, None, 0.0, walls)
    cut, _ = project_onto_cones(Q, rows, patterns, None, floor, walls)
    for k in range(12):
        some = np.flatnonzero(walls[k])
        alone, _ = project_onto_cones(Q[k : k + 1], rows[some], patterns[k : k + 1, some])
        assert np.allclose(together[k], alone[0], atol=1e-11)
        assert set(active[k]) <= {-1, *some}
        if np.linalg.norm(alone) > floor[k]:
            assert np.allclose(cut[k], alone[0], atol=1e-11)
        else:
            assert np.linalg.norm(cut[k]) <= floor[k] * (1 + 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Tolerances


@pytest.fixture
def settled(monkeypatch):
    """No block may be left to SciPy, block by block: that is for where rounding has spoilt the small systems."""

    def refuse(q, rows):
        raise AssertionError("a block did not settle")

    monkeypatch.setattr(cones, "_project_one", refuse)


@pytest.mark.parametrize("n, d", [(60, 5), (200, 8), (400, 15)])
def test_ordinary_blocks_settle_in_the_batch(settled, n, d):
    Q, rows, patterns, _ = draw(np.random.default_rng(n), gaussian, n, d, 60)
    P, active = project_onto_cones(Q, rows, patterns)
    again, _ = project_onto_cones(Q * 1.001, rows, patterns, active)
    assert np.allclose(again, 1.001 * P, rtol=1e-10, atol=1e-12 * np.abs(Q).max())


def test_short_projections_are_kept_and_rounding_is_not():
    Q = np.array([[-1.0, 1e-9], [-1.0, 1e-11], [-1.0, -3e-10], [-1.0, 1e-13]])
    P, _ = project_onto_cones(Q, np.array([[1.0, 0.0]]), np.ones((4, 1), dtype=bool))
    assert np.array_equal(P, [[0.0, 1e-9], [0.0, 1e-11], [0.0, -3e-10], [0.0, 0.0]])


@pytest.mark.parametrize("eps", [1e-4, 1e-6, 1e-8, 3e-11])
def test_a_small_violation_counts_behind_large_multipliers(settled, eps):
    """A wedge of angle eps, whose multipliers are about 1 / eps, and a row that its edge violates by a little."""
    small = max(1e-7, 1e-14 / eps)
    rows = unit(np.array([[eps, 1, 0, 0], [eps, -1, 0, 0], [-0.5, 0, 1, -1 - small]]))
    P, _ = project_onto_cones(np.array([[-1.0, 0.3 * eps, 1.0, 1.0]]), rows, np.ones((1, 3), dtype=bool))
    # On the edge (0, 0, z, w) the last row asks for z >= (1 + small) w.
    assert np.allclose(P[0, 2:], [1 + small / 2, 1 - small / 2], atol=1e-3 * small)
    assert np.abs(P[0, :2]).max() <= 1e-15 / eps


@pytest.mark.parametrize("eps, accuracy", [(1e-2, 1e-12), (1e-3, 1e-10), (1e-5, 1e-7), (1e-7, 1e-4), (1e-13, 1e-10)])
def test_projections_onto_thin_wedges_are_orthogonal_to_what_they_leave(eps, accuracy):
    """Pairs of rows that are opposite but for eps: (q - p)^T p = 0, as far as multipliers of 1 / eps allow."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        base = rng.standard_normal((6, 4))
        rows = unit(np.concatenate([base, -base + eps * rng.standard_normal((6, 4))]))
        patterns, Q = rng.standard_normal((30, 4)) @ rows.T >= 0, rng.standard_normal((30, 4))
        patterns[:, [0, 6]] = True
        P, active = project_onto_cones(Q, rows, patterns)
        warm, _ = project_onto_cones(Q + 1e-3 * rng.standard_normal(Q.shape), rows, patterns, active)
        assert np.abs(np.einsum("kd,kd->k", P - Q, P)).max() <= accuracy
        assert np.linalg.norm(warm - P, axis=1).max() <= 2e-2
