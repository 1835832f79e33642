import tracemalloc
from fractions import Fraction
from itertools import combinations, product
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest

from convexnn import arrangements
from convexnn.arrangements import (
    EPS,
    SAME,
    Arrangement,
    count_patterns,
    enumerate_patterns,
    patterns_of,
    sample_patterns,
)
from convexnn.budget import Budget, OutOfTime
from convexnn.exact import cells_of, integer_rows, positive_flats
from convexnn.faces import face_patterns, with_faces

BATCH_BYTES = 16_000_000


def count_by_inclusion_exclusion(X):
    """Whitney's theorem: sum over row subsets S of (-1)^(|S| - rank S)."""
    X = X[np.linalg.norm(X, axis=1) > 0]
    if not len(X):
        return 1
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    subsets = np.array(list(product([0, 1], repeat=len(X))))
    ranks = np.linalg.matrix_rank(subsets[:, :, None] * X, tol=1e-9)
    return int(((-1) ** (subsets.sum(axis=1) - ranks)).sum())


def as_set(arrangement):
    return {column.tobytes() for column in arrangement.patterns.T}


def check_cells(arrangement, X):
    """Every gate is strictly inside the cell of its pattern, and no pattern comes twice."""
    lengths = np.linalg.norm(X, axis=1)
    side = X @ arrangement.gates
    assert arrangement.patterns.shape == (len(X), arrangement.n_patterns)
    assert np.array_equal(side >= 0, arrangement.patterns)
    assert np.all(arrangement.patterns[lengths == 0])
    solid = lengths > 0
    # A dot product of fewer than 10 terms is exact to about 1e-15 of the sum of their sizes.
    size = np.abs(X[solid]) @ np.abs(arrangement.gates)
    assert np.all(np.abs(side[solid]) > 5e-16 * size)
    assert len(as_set(arrangement)) == arrangement.n_patterns


def gaussian(rng, n, d):
    return rng.standard_normal((n, d))


def with_ones(rng, n, d):
    return np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])


def integer_grid(rng, n, d):
    return rng.integers(-2, 3, (n, d)).astype(float)


def integer_grid_with_ones(rng, n, d):
    return np.column_stack([rng.integers(0, 3, (n, d - 1)), np.ones(n)])


def duplicates(rng, n, d):
    return rng.standard_normal((max(1, n // 2), d))[rng.integers(max(1, n // 2), size=n)]


def parallel_and_antiparallel(rng, n, d):
    scales = rng.choice([-3.7, -1.0, 0.1, 1.0, 2.3], size=(n, 1))
    return duplicates(rng, n, d) * scales


def zero_rows(rng, n, d):
    return rng.standard_normal((n, d)) * rng.integers(0, 2, (n, 1))


def rank_deficient(rng, n, d):
    rank = max(1, d - 1)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))


def rank_deficient_integers(rng, n, d):
    rank = max(1, d - 1)
    return (rng.integers(-2, 3, (n, rank)) @ rng.integers(-2, 3, (rank, d))).astype(float)


FAMILIES = [
    gaussian,
    with_ones,
    integer_grid,
    integer_grid_with_ones,
    duplicates,
    parallel_and_antiparallel,
    zero_rows,
    rank_deficient,
    rank_deficient_integers,
]
SHAPES = [(1, 1), (1, 3), (4, 1), (2, 2), (5, 2), (7, 2), (3, 3), (5, 3), (8, 3), (4, 4), (6, 4), (7, 5), (3, 6)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(2))
def test_enumeration_matches_inclusion_exclusion(family, shape, seed):
    X = family(np.random.default_rng([seed, *shape]), *shape)
    arrangement = enumerate_patterns(X)
    assert arrangement.complete
    assert arrangement.n_patterns == count_by_inclusion_exclusion(X)
    check_cells(arrangement, X)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(9, 4), (10, 3)])
def test_enumeration_matches_inclusion_exclusion_on_ten_rows(family, shape):
    X = family(np.random.default_rng(shape), *shape)
    arrangement = enumerate_patterns(X)
    assert arrangement.n_patterns == count_by_inclusion_exclusion(X)
    check_cells(arrangement, X)


@pytest.mark.parametrize("n, d", [(6, 2), (9, 3), (12, 4), (4, 6), (20, 5)])
def test_general_position(n, d):
    X = np.random.default_rng(n).standard_normal((n, d))
    expected = 2 * sum(comb(n - 1, k) for k in range(min(n, d)))
    assert enumerate_patterns(X).n_patterns == expected == count_patterns(n, min(n, d))


def test_grid_with_bias_has_58_patterns():
    grid = np.array([[i, j, 1] for i in range(3) for j in range(3)])
    arrangement = enumerate_patterns(grid)
    assert arrangement.n_patterns == 58
    check_cells(arrangement, grid.astype(float))


def test_large_plane_arrangement_and_its_memory():
    X = np.random.default_rng(0).standard_normal((300, 3))
    tracemalloc.start()
    try:
        arrangement = enumerate_patterns(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert arrangement.n_patterns == 89_702
    assert len(np.unique(arrangement.packed, axis=0)) == 89_702
    assert peak <= 2 * (arrangement.packed.nbytes + arrangement.gates.nbytes) + BATCH_BYTES


@pytest.mark.slow
def test_memory_of_a_deeper_recursion():
    X = np.random.default_rng(1).standard_normal((30, 5))
    tracemalloc.start()
    try:
        arrangement = enumerate_patterns(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert arrangement.n_patterns == count_patterns(30, 5)
    assert peak <= 2 * (arrangement.packed.nbytes + arrangement.gates.nbytes) + BATCH_BYTES


def test_all_zero_rows_have_one_pattern():
    arrangement = enumerate_patterns(np.zeros((3, 2)))
    assert arrangement.n_patterns == 1 and arrangement.complete
    assert arrangement.patterns.all()


@pytest.mark.parametrize("family", [gaussian, integer_grid_with_ones, parallel_and_antiparallel, zero_rows])
def test_invariances(family):
    rng = np.random.default_rng(5)
    X = family(rng, 9, 4)
    base = as_set(enumerate_patterns(X))
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    assert as_set(enumerate_patterns(X @ rotation)) == base
    assert as_set(enumerate_patterns(X * rng.uniform(0.01, 100, (9, 1)))) == base
    order = rng.permutation(9)
    permuted = enumerate_patterns(X[order]).patterns
    restored = np.empty_like(permuted)
    restored[order] = permuted
    assert {column.tobytes() for column in restored.T} == base


def test_antipodes_are_listed():
    X = np.random.default_rng(2).standard_normal((8, 3))
    patterns = enumerate_patterns(X).patterns
    found = {column.tobytes() for column in patterns.T}
    assert {column.tobytes() for column in ~patterns.T} == found


@pytest.mark.parametrize("scales", [(1e-3, 1, 1e3), (1e-4, 1, 1), (1, 1, 1e4)])
def test_badly_scaled_columns(scales):
    X = np.random.default_rng(3).standard_normal((8, 3)) * scales
    arrangement = enumerate_patterns(X)
    assert arrangement.n_patterns == 58
    check_cells(arrangement, X)


@pytest.mark.parametrize("scales", [(1e-4, 1, 1e4), (1e-6, 1, 1), (1, 1, 1e6), (1e-9, 1, 1), (1, 1e-5, 1e8)])
def test_very_badly_scaled_columns_are_right_or_refused(scales):
    for seed in range(10):
        X = np.random.default_rng(seed).standard_normal((8, 3)) * scales
        try:
            arrangement = enumerate_patterns(X)
        except ValueError as error:
            assert "too thin for double precision" in str(error)
            continue
        assert arrangement.n_patterns == 58
        check_cells(arrangement, X)


def test_count_patterns():
    assert count_patterns(300, 3) == 89_702
    assert count_patterns(1, 1) == count_patterns(1, 7) == 2
    assert count_patterns(5, 0) == 1
    assert count_patterns(6, 6) == count_patterns(6, 60) == 2**6
    assert count_patterns(10_000, 30) == 2 * sum(comb(9_999, k) for k in range(30))


@pytest.mark.parametrize("n_samples, rank", [(0, 1), (-3, 1), (4, -1)])
def test_count_patterns_rejects(n_samples, rank):
    with pytest.raises(ValueError, match="n_samples must be at least 1 and rank at least 0"):
        count_patterns(n_samples, rank)


def test_refusal_names_count_and_bytes():
    X = np.random.default_rng(0).standard_normal((100, 6))
    count = 2 * sum(comb(99, k) for k in range(6))
    n_bytes = count * (13 + 6 * 8)
    with pytest.raises(ValueError) as error:
        enumerate_patterns(X)
    assert f"{count:,} activation patterns" in str(error.value)
    assert f"{n_bytes:,} bytes" in str(error.value)
    assert "max_patterns=1,000,000" in str(error.value)


def test_refusal_counts_distinct_hyperplanes_and_rank_only():
    X = np.repeat(np.random.default_rng(0).standard_normal((6, 2)), 50, axis=0) @ np.ones((2, 5))
    assert enumerate_patterns(X, max_patterns=2).n_patterns == 2
    with pytest.raises(ValueError, match=r"up to 58 activation patterns \(8 distinct hyperplanes, rank 3\)"):
        enumerate_patterns(np.random.default_rng(0).standard_normal((8, 3)), max_patterns=57)
    assert enumerate_patterns(np.random.default_rng(0).standard_normal((8, 3)), max_patterns=58).n_patterns == 58


BAD_DATA = {
    "vector": ([1.0, 2.0], r"shape \(n_samples, n_features\).*got shape \(2,\)"),
    "no rows": (np.zeros((0, 3)), "at least 1"),
    "no columns": (np.zeros((3, 0)), "at least 1"),
    "nan": ([[1.0, np.nan]], "finite"),
    "infinity": ([[1.0, np.inf]], "finite"),
    "text": ([["a", "b"]], "numeric"),
    "ragged": ([[1.0], [1.0, 2.0]], "numeric"),
}


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize(
    "function", [enumerate_patterns, lambda X: sample_patterns(X, 3), lambda X: Arrangement.from_gates(X, [[1.0]])]
)
def test_bad_data(case, function):
    X, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=f"X must .*{message}"):
        function(X)


def test_cells_too_thin_for_double_precision_are_an_error_or_are_listed():
    # Two lines 1e-12 apart merge under the documented tolerance; the result must be one of the two consistent counts.
    X = np.array([[1.0, 0.0], [1.0, 1e-12], [0.0, 1.0]])
    assert enumerate_patterns(X).n_patterns in (4, 6)


METHODS = ["gaussian", "data"]


@pytest.mark.parametrize("method", METHODS)
def test_samples_are_nested_and_deterministic(method):
    X = np.random.default_rng(0).standard_normal((30, 4))
    previous = sample_patterns(X, 1, method=method, random_state=3)
    for n_patterns in (2, 3, 8, 21, 60, 201):
        now = sample_patterns(X, n_patterns, method=method, random_state=3)
        assert np.array_equal(now.packed[: previous.n_patterns], previous.packed)
        assert np.array_equal(now.gates[:, : previous.n_patterns], previous.gates)
        assert now.n_patterns <= n_patterns
        previous = now
    again = sample_patterns(X, 201, method=method, random_state=np.random.default_rng(3))
    assert np.array_equal(again.packed, previous.packed)
    other = sample_patterns(X, 201, method=method, random_state=4)
    assert not np.array_equal(other.gates, previous.gates)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (6, 2), (8, 3), (9, 4)])
def test_samples_are_cells_without_duplicates(method, family, shape):
    X = family(np.random.default_rng(shape), *shape)
    sample = sample_patterns(X, 300, method=method, random_state=0)
    assert not sample.complete
    assert np.array_equal(X @ sample.gates >= 0, sample.patterns)
    assert len(as_set(sample)) == sample.n_patterns
    assert as_set(sample) <= as_set(enumerate_patterns(X))


@pytest.mark.parametrize("method", METHODS)
def test_samples_of_all_zero_rows(method):
    sample = sample_patterns(np.zeros((3, 2)), 5, method=method, random_state=0)
    assert sample.n_patterns == 1 and sample.patterns.all()


def test_data_method_finds_every_cell():
    # Each cell has a vertex ray, one of C(8, 2) = 28, and each draw picks it with probability 1 / 112 at least.
    X = np.random.default_rng(8).standard_normal((8, 3))
    X[:, 2] = 1.0
    assert sample_patterns(X, 4000, method="data", random_state=0).n_patterns == 58


def test_data_method_finds_small_cells_before_gaussian_does():
    X = np.random.default_rng(1).standard_normal((60, 3)) + [4.0, 0.0, 0.0]
    found = {m: sample_patterns(X, 1000, method=m, random_state=0).n_patterns for m in METHODS}
    assert found["data"] > 1.5 * found["gaussian"]


@pytest.mark.parametrize("n_patterns", [0, -1, 2.5, True, "3", None])
def test_sample_patterns_rejects_counts(n_patterns):
    with pytest.raises(ValueError, match="n_patterns must be an integer of at least 1"):
        sample_patterns(np.eye(2), n_patterns)


def test_sample_patterns_rejects_methods():
    with pytest.raises(ValueError, match="method must be 'gaussian' or 'data', got 'uniform'"):
        sample_patterns(np.eye(2), 3, method="uniform")


def test_from_gates_keeps_the_first_of_each():
    gates = np.array([[1.0, -1.0, 2.0, 3.0], [-1.0, 1.0, -5.0, -1.0], [-2.0, -1.0, -1.0, -7.0]])
    arrangement = Arrangement.from_gates(np.eye(3), gates)
    assert np.array_equal(arrangement.gates, gates[:, :2])
    assert np.array_equal(arrangement.patterns, [[True, False], [False, True], [False, False]])
    assert not arrangement.complete
    assert Arrangement.from_gates(np.eye(3), gates, complete=True).complete


def test_zero_counts_as_active():
    assert Arrangement.from_gates([[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]]).patterns.all()


@pytest.mark.parametrize("gates", [np.ones((3, 4)), np.ones(2), np.ones((2, 2, 2))])
def test_from_gates_rejects_shapes(gates):
    with pytest.raises(ValueError, match=r"gates must have shape \(n_features, n_gates\) with n_features=2, got shape"):
        Arrangement.from_gates(np.eye(2), gates)


@pytest.mark.parametrize("keep", [np.array([0, 2, 5]), np.array([6, 1]), np.arange(7) % 2 == 0])
def test_rows(keep):
    X = np.random.default_rng(0).standard_normal((7, 3))
    part = enumerate_patterns(X).rows(keep, X[keep])
    assert part.complete and part.belongs_to(X[keep]) and not part.belongs_to(X)
    assert as_set(part) == as_set(enumerate_patterns(X[keep]))
    check_cells(part, X[keep])
    assert not sample_patterns(X, 10, random_state=0).rows(keep, X[keep]).complete


def test_union():
    X = np.random.default_rng(0).standard_normal((9, 3))
    a, b = (sample_patterns(X, 20, random_state=seed) for seed in (0, 1))
    both = a.union(b)
    assert np.array_equal(both.packed[: a.n_patterns], a.packed)
    assert as_set(both) == as_set(a) | as_set(b)
    assert len(as_set(both)) == both.n_patterns
    assert np.array_equal(X @ both.gates >= 0, both.patterns)
    assert not both.complete
    everything = a.union(enumerate_patterns(X))
    assert everything.complete and everything.n_patterns == count_patterns(9, 3)
    assert a.union(a).n_patterns == a.n_patterns


def test_repr():
    X = np.random.default_rng(0).standard_normal((9, 3))
    assert repr(enumerate_patterns(X)) == "Arrangement(74 patterns of 9 samples, complete)"
    assert "not known to be complete" in repr(sample_patterns(X, 3, random_state=0))


def stub_network(weights, biases, gate_weights=None, gate_biases=None):
    """What the function asks of a network: the hyperplanes where neurons switch."""
    return SimpleNamespace(switches=(weights, biases) if gate_weights is None else (gate_weights, gate_biases))


def test_patterns_of_a_network():
    rng = np.random.default_rng(0)
    X, W, b = rng.standard_normal((10, 3)), rng.standard_normal((6, 3)), rng.standard_normal(6)
    expected = {(X @ w + shift >= 0).tobytes() for w, shift in zip(W, b)}
    found = patterns_of(stub_network(W, b), X)
    assert as_set(found) == expected and found.gates.shape[0] == 4
    gated = patterns_of(stub_network(rng.standard_normal((6, 3)), np.zeros(6), W, b), X)
    assert as_set(gated) == expected
    plain = patterns_of(stub_network(W, np.zeros(6)), X, hidden_bias="none")
    assert as_set(plain) == {(X @ w >= 0).tobytes() for w in W} and plain.gates.shape[0] == 3


def test_patterns_of_rejects():
    network = stub_network(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="hidden_bias must be"):
        patterns_of(network, np.ones((4, 3)), hidden_bias="bound")
    with pytest.raises(ValueError, match="without hidden biases"):
        patterns_of(network, np.ones((4, 3)), hidden_bias="none")


@pytest.mark.parametrize("width", [1e-12, 1e-14])
@pytest.mark.parametrize("at", [0.0, 1.0, 1e3])
def test_a_cluster_and_an_outlier(width, at):
    """Ten points on a line have 20 patterns, however close nine of them are; or they are refused with the reason."""
    x = np.concatenate([at + width * np.arange(9), [at + 1.0]])
    n = len(np.unique(x))
    try:
        assert enumerate_patterns(np.column_stack([x, np.ones(10)])).n_patterns == 2 * n
    except ValueError as error:
        assert "too thin for double precision" in str(error) and at == 1e3


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e11])
def test_features_at_a_common_offset(offset):
    Z = np.round(np.random.default_rng(0).standard_normal((6, 2)) * 1024) / 1024
    rows = np.column_stack([Z + offset, np.ones(6)])
    near = np.column_stack([rows[:, :2] - offset, np.ones(6)])
    assert enumerate_patterns(rows).n_patterns == enumerate_patterns(near).n_patterns


def test_patterns_of_gates_on_hyperplanes():
    X = np.array([[-1.0], [1.0]])
    patterns, gates = face_patterns(X, enumerate_patterns(X))
    assert patterns.tolist() == [[True, True]] and gates.tolist() == [[0.0]]
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    patterns, _ = face_patterns(X, enumerate_patterns(X))
    directions = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])
    assert {row.tobytes() for row in patterns} == {(X @ u >= 0).tobytes() for u in directions}
    # With a ones column no combination of rows with positive weights is zero.
    rows = np.column_stack([np.random.default_rng(0).integers(-2, 3, (7, 2)), np.ones(7)])
    assert len(face_patterns(rows, enumerate_patterns(rows))[0]) == 0


def null_space(rows, d):
    """A basis of the vectors that are orthogonal to all rows, in fractions."""
    M, pivots = [[Fraction(entry) for entry in row] for row in rows], []
    for j in range(d):
        k = next((i for i in range(len(pivots), len(M)) if M[i][j]), None)
        if k is None:
            continue
        r = len(pivots)
        M[r], M[k] = M[k], M[r]
        M[r] = [entry / M[r][j] for entry in M[r]]
        for i in range(len(M)):
            if i != r:
                M[i] = [a - M[i][j] * b for a, b in zip(M[i], M[r])]
        pivots.append(j)
    basis = []
    for j in set(range(d)) - set(pivots):
        u = [Fraction(int(k == j)) for k in range(d)]
        for i, pivot in enumerate(pivots):
            u[pivot] = -M[i][j]
        basis.append(u)
    return basis


def every_pattern(X):
    """Patterns X u >= 0 of all u, and of those off all hyperplanes, in fractions: every sign vector of an arrangement
    is composed of those of its rays."""
    rows, d = [[Fraction(entry) for entry in row] for row in X.tolist()], X.shape[1]
    some = [row for row in rows if any(row)]
    apart = null_space(some, d)
    rays = set()
    for through in combinations(some, max(d - len(apart) - 1, 0)):
        ray = null_space([*through, *apart], d)
        if len(ray) == 1:
            side = [sum(a * b for a, b in zip(row, ray[0])) for row in rows]
            rays |= {tuple((s > 0) - (s < 0) for s in (sign * v for v in side)) for sign in (1, -1)}
    found = fresh = {(0,) * len(rows)}
    while fresh:
        fresh = {tuple(a or b for a, b in zip(v, ray)) for v in fresh for ray in rays} - found
        found = found | fresh
    strict = {v for v in found if all(sign or not any(row) for sign, row in zip(v, rows))}
    return ({tuple(sign >= 0 for sign in v) for v in some} for some in (found, strict))


def check_faces(X):
    listed = enumerate_patterns(X)
    patterns, gates = face_patterns(X, listed)
    every, strict = every_pattern(X)
    assert {tuple(row) for row in listed.patterns.T.tolist()} == strict
    assert {tuple(row) for row in patterns.tolist()} == every - strict
    assert len(patterns) == len(every) - len(strict) and gates.shape == (len(patterns), X.shape[1])
    closed = with_faces(X, listed)
    assert {tuple(row) for row in closed.closed_patterns.tolist()} == every
    # Gates that are listed have their pattern, however the products are summed.
    assert np.array_equal(X @ closed.gates >= 0, closed.patterns)
    assert np.array_equal(np.array([[x @ g >= 0 for g in closed.gates.T] for x in X]), closed.patterns)
    assert as_set(closed) <= {np.array(pattern).tobytes() for pattern in every}
    return every, closed


@pytest.mark.parametrize("seed", range(60))
def test_faces_against_brute_force(seed):
    """Small integers: opposite rows, multiples, zero rows, rows in one plane, dependent features."""
    rng = np.random.default_rng([7, seed])
    d, most = rng.integers(1, 4), rng.integers(1, 4)
    X = rng.integers(-most, most + 1, (rng.integers(1, 8), d)).astype(float)
    if seed % 3 == 0:
        X = np.concatenate([X, -rng.integers(1, 4) * X[:2]])
    if seed % 4 == 0 and d == 3:
        X = np.concatenate([X, [[1.0, 0.0, 2.0], [0.0, 1.0, 2.0], [-1.0, -1.0, -4.0]]])
    if seed % 5 == 0:
        X = X @ rng.integers(-2, 3, (d, d))
    every, closed = check_faces(X)
    assert closed.n_patterns == len(every)


@pytest.mark.parametrize("shape", [(5, 2), (4, 3)])
def test_faces_of_opposite_rows_in_general_position_against_brute_force(shape):
    half = np.random.default_rng(3).standard_normal(shape)
    check_faces(np.concatenate([half, -4 * half[:3], 2 * half[:1]]))
    check_faces(np.concatenate([half, -half]))


@pytest.mark.parametrize("entry", [1e-300, 1e-17, 1e-16, 1e-15, 5e-15, 8e-15, 1e-14, 1.2e-14, 1e-13, 1e-12, 1e-6])
def test_a_row_beside_a_flat_is_not_on_it(entry):
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, -entry], [0.0, 1.0]])
    patterns, _ = face_patterns(X, enumerate_patterns(X))
    every, strict = every_pattern(X)
    found = {tuple(row) for row in patterns.tolist()}
    assert found == every - strict and (True, True, False, True) in found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [30, 40, 60])
def test_in_general_position_only_the_gate_of_zero_is_on_a_face(n, seed):
    X = np.random.default_rng(seed).standard_normal((n, 3))
    listed = enumerate_patterns(X)
    closed = with_faces(X, listed)
    assert listed.complete and listed.resolution == 0 and listed.n_patterns == count_patterns(n, 3)
    assert not listed.patterns.all(axis=0).any()
    patterns, gates = face_patterns(X, listed)
    assert patterns.all() and gates.tolist() == [[0.0, 0.0, 0.0]]
    assert closed.n_patterns == listed.n_patterns + 1 and len(closed.faces) == 1


def test_positive_data_have_no_faces():
    X = np.abs(np.random.default_rng(0).standard_normal((30, 3)))
    assert len(face_patterns(X, enumerate_patterns(X))[0]) == 0


def test_the_flats_of_opposite_rows_are_counted():
    """20 planes in general position, all of them with rows on either side: 20 planes of 2 * 19 cells, 190 lines."""
    half = np.random.default_rng(1).standard_normal((20, 3))
    X = np.concatenate([half, -half])
    listed = enumerate_patterns(X)
    assert len(face_patterns(X, listed)[0]) == 20 * 38 + 190 * 2 + 1
    with pytest.raises(ValueError, match="more than 1,000 activation patterns of gates on the hyperplanes"):
        face_patterns(X, listed, max_patterns=1000)


def test_faces_keep_a_time_limit():
    half = np.random.default_rng(1).integers(-9, 9, (20, 4))
    rows = integer_rows(np.concatenate([half, -half]).astype(float))
    for loop in (
        lambda: list(positive_flats(rows, True)),
        lambda: list(positive_flats(rows, False)),
        lambda: list(cells_of(rows)),
    ):
        with pytest.raises(OutOfTime), Budget(0.0, slack=0.0):
            loop()


def test_faces_of_some_samples_and_of_unions():
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0]])
    closed = with_faces(X, enumerate_patterns(X))
    keep = np.array([0, 1, 4, 4])
    part = closed.rows(keep, X[keep])
    every, _ = every_pattern(X[keep])
    assert {tuple(row) for row in part.closed_patterns.tolist()} == every
    both = sample_patterns(X, 3, random_state=0).union(closed)
    assert np.array_equal(both.faces, closed.faces)


def test_the_resolution_is_that_of_all_rows_that_are_taken_for_one():
    """Rows one step of rounding apart from each other are many steps apart in the end."""
    k, error = 30, 1e-13
    angles = 0.3 + SAME * error * np.arange(k)
    X = np.concatenate([np.column_stack([np.cos(angles), np.sin(angles)]), [[-1.0, 1.0]]])
    part = arrangements._essential(X, np.zeros(k + 1, dtype=np.uint64), np.full(k + 1, error))
    assert len(part.normals) == 2
    assert 0.99 * (k - 1) * SAME * error < part.resolution < 1.01 * (k - 1) * SAME * error


@pytest.mark.parametrize("d", [3, 10, 100, 1000])
def test_signs_are_sure_for_the_number_of_features(d):
    """One by one, d terms below half a unit in the last place are lost: the sum is positive, the true one is not."""
    small = -EPS / 5
    gate = np.array([1.0] + [small] * d + [-(1.0 - round(d / 10) * EPS)])
    computed = 0.0
    for term in gate:
        computed += term
    exact = sum(Fraction(term) for term in gate)
    assert computed >= 0 > exact
    X, gates = np.ones((1, d + 2)), gate[:, None]
    assert not arrangements.sign_is_sure(X, gates, np.array([[computed]])).any()
    assert arrangements.sign_is_sure(X, gates, np.array([[10 * EPS * d]])).all()
