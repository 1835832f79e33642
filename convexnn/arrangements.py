"""Hyperplane arrangements: the activation patterns that a ReLU neuron can have on a data set.

A neuron with weights u is active on row i when x_i^T u >= 0. The rows of X are the normals of n_samples hyperplanes
through the origin of weight space; the patterns are the cells into which those hyperplanes cut it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import svd

from convexnn.budget import check

# Directions of the data with singular values below this share of the largest are no coordinates of a sample of gates.
PARALLEL_TOL = 1e-10
EPS = float(np.finfo(float).eps)
TINY = float(np.finfo(float).tiny)
# Rows are one hyperplane where they differ by no more than so many times their rounding errors, ...
SAME = 4.0
# ... and a list is not complete where rows that differ by more than this (unit vectors) had to be taken for one.
RESOLUTION = 1e-11
# Nor is a list made of more patterns than this.
MAX_PATTERNS = 1_000_000


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A list of activation patterns of one data set, with a gate that generates each.

    Parameters
    ----------
    packed : uint8 array of shape (n_patterns, ceil(n_samples / 8))
        The patterns, eight samples to a byte (``numpy.packbits`` along the samples).
    gates : array of shape (n_features, n_patterns)
        ``X @ gates >= 0`` gives the patterns.
    n_samples : int
        Number of rows of the data set.
    complete : bool
        True only when every pattern of the data set is in the list.
    fingerprint : str
        Of the data that a complete list is complete for.
    resolution : float
        A complete list is that of rows which differ from the data by this share of their lengths at most: by rounding.
    faces : uint8 array of shape (n_faces, ceil(n_samples / 8)), optional
        Packed patterns of gates on hyperplanes that no gate off them has, all of the data, where ``with_faces`` has
        looked for them.

    Examples
    --------
    >>> import numpy as np
    >>> arrangement = enumerate_patterns(np.array([[1.0], [-2.0]]))
    >>> arrangement.patterns.sum(axis=0)
    array([1, 1])
    >>> arrangement
    Arrangement(2 patterns of 2 samples, complete)
    """

    packed: NDArray[np.uint8]
    gates: NDArray[np.float64]
    n_samples: int
    complete: bool = False
    fingerprint: str = ""
    resolution: float = 0.0
    faces: NDArray[np.uint8] | None = None

    @classmethod
    def from_gates(cls, X: ArrayLike, gates: ArrayLike, *, complete: bool = False) -> Arrangement:
        """Patterns ``X @ gates >= 0``, each kept once, in the order of the gates.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if hidden biases are wanted.
        gates : array of shape (n_features, n_gates)
            One generator a column.
        complete : bool, default=False
            Say True only when the gates reach every cell.

        Returns
        -------
        arrangement : Arrangement
            At most n_gates patterns.

        Raises
        ------
        ValueError
            When X is not a finite matrix or the gates do not have its number of features.
        """
        X, gates = check_data(X), np.asarray(gates, dtype=float)
        if gates.ndim != 2 or gates.shape[0] != X.shape[1]:
            raise ValueError(
                f"gates must have shape (n_features, n_gates) with n_features={X.shape[1]}, got shape {gates.shape}; "
                "a ones column in X needs a last row of gate biases."
            )
        packed = np.empty((gates.shape[1], (len(X) + 7) // 8), dtype=np.uint8)
        for rows in batches(gates.shape[1], len(X)):
            check()
            packed[rows] = np.packbits((X @ gates[:, rows] >= 0).T, axis=1)
        first = first_of_each(packed)
        return cls(packed[first], gates[:, first], len(X), complete)

    @property
    def n_patterns(self) -> int:
        """Number of patterns in the list."""
        return len(self.packed)

    @property
    def patterns(self) -> NDArray[np.bool_]:
        """Boolean matrix of shape (n_samples, n_patterns), unpacked anew at each call."""
        return self._unpacked(self.packed).T

    @property
    def closed_patterns(self) -> NDArray[np.bool_]:
        """Boolean matrix of shape (n_patterns, n_samples): those of the list, then those of ``faces``."""
        packed = self.packed if self.faces is None else np.concatenate([self.packed, self.faces])
        return self._unpacked(packed)

    def _unpacked(self, packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.unpackbits(packed, axis=1, count=self.n_samples).view(bool)

    def belongs_to(self, X: NDArray) -> bool:
        """Whether this is a list for the data X: its gates give its patterns, and it is complete for no other data.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if the gates have a bias row.

        Returns
        -------
        belongs : bool
            Samples on a gate, within rounding, may be on either side.
        """
        if X.shape != (self.n_samples, len(self.gates)) or (self.complete and self.fingerprint != _fingerprint(X)):
            return False
        for part in batches(self.n_patterns, self.n_samples):
            side, gates = X @ self.gates[:, part], self.gates[:, part]
            differ = (side >= 0) != np.unpackbits(self.packed[part], axis=1, count=len(X)).view(bool).T
            if np.any(differ & (np.abs(side) > 1e-12 * np.linalg.norm(X) * np.linalg.norm(gates, axis=0))):
                return False
        return True

    def rows(self, keep: NDArray, X: NDArray) -> Arrangement:
        """The same gates on some of the samples; patterns that become equal are merged.

        Parameters
        ----------
        keep : boolean or integer array
            Samples to keep, or to repeat.
        X : array of shape (n_kept, n_features)
            Their data, with its ones column if the gates have a bias row.

        Returns
        -------
        arrangement : Arrangement
            A complete list stays complete.
        """
        patterns = self.patterns[keep]
        packed = np.packbits(patterns.T, axis=1)
        first = first_of_each(packed)
        fingerprint = _fingerprint(X) if self.complete else ""
        gates, faces = self.gates[:, first], self.faces
        if faces is not None:
            faces = np.packbits(self._unpacked(faces)[:, keep], axis=1)
            faces = faces[first_of_each(faces)]
        return Arrangement(packed[first], gates, len(patterns), self.complete, fingerprint, self.resolution, faces)

    def union(self, other: Arrangement) -> Arrangement:
        """This list followed by those patterns of another list that are not in it.

        Parameters
        ----------
        other : Arrangement
            A list for the same data.

        Returns
        -------
        arrangement : Arrangement
            Complete if either list was.
        """
        packed = np.concatenate([self.packed, other.packed])
        first = first_of_each(packed)
        gates = np.concatenate([self.gates, other.gates], axis=1)[:, first]
        whole = self if self.complete else other
        return replace(whole, packed=packed[first], gates=gates)

    def __repr__(self) -> str:
        kind = "complete" if self.complete else "not known to be complete"
        return f"Arrangement({self.n_patterns:,} patterns of {self.n_samples:,} samples, {kind})"


def check_data(X: ArrayLike) -> NDArray[np.float64]:
    """X as a finite float64 matrix with at least one row and one column, or a ValueError that says what is wrong."""
    try:
        X = np.asarray(X, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"X must be a numeric matrix of shape (n_samples, n_features): {error}") from None
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must have shape (n_samples, n_features), both at least 1, got shape {X.shape}.")
    if not np.isfinite(X).all():
        raise ValueError("X must be finite, got NaN or infinity; impute or drop those rows first.")
    return X


def count_patterns(n_samples: int, rank: int) -> int:
    """Number of patterns of n_samples hyperplanes in general position: 2 * sum_{k < rank} C(n_samples - 1, k).

    Degenerate data (parallel rows, several rows in one plane) have fewer; none have more.

    Parameters
    ----------
    n_samples : int
        Number of rows, at least 1.
    rank : int
        Rank of the data matrix, its ones column included.

    Returns
    -------
    count : int
        Exact integer.

    Raises
    ------
    ValueError
        When n_samples < 1 or rank < 0.

    References
    ----------
    .. [1] T. M. Cover, Geometrical and statistical properties of systems of linear inequalities with applications in
       pattern recognition, IEEE Trans. Electronic Computers EC-14 (1965), Theorem 1.

    Examples
    --------
    >>> count_patterns(300, 3)
    89702
    """
    if n_samples < 1 or rank < 0:
        raise ValueError(f"n_samples must be at least 1 and rank at least 0, got {n_samples} and {rank}.")
    if rank == 0:
        return 1
    return 2 * sum(comb(n_samples - 1, k) for k in range(min(rank, n_samples)))


def enumerate_patterns(X: ArrayLike, *, max_patterns: int = MAX_PATTERNS) -> Arrangement:
    r"""List every activation pattern of X, each with a strict witness gate.

    Deletion and restriction: adding the hyperplane x_i to an arrangement splits exactly those cells that it meets,
    and those correspond to the cells of the earlier hyperplanes restricted to it, an arrangement of one dimension
    less. No cell is found twice, and parallel, repeated or zero rows and rows in special position need no case of
    their own, since they merge in the restriction.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if hidden biases are wanted. Scaling of rows and columns does not change the
        patterns.
    max_patterns : int, default=1_000_000
        Refuse data whose forecast, the count in general position, is larger.

    Returns
    -------
    arrangement : Arrangement
        ``complete=True``. Gates have unit length and lie in the row space of X; every entry of ``X @ gates`` is
        non-zero but for zero rows of X, which count as active.

    Raises
    ------
    ValueError
        When X is not a finite matrix, or the forecast is above max_patterns: the message has the forecast count and
        bytes. Also when cells are too thin for double precision.

    Notes
    -----
    Time O(n_samples * n_patterns * rank); memory stays below twice the packed result
    (n_patterns * (n_samples / 8 + 8 n_features) bytes) plus 16 MB of batches, as measured at ranks 3 to 5.

    References
    ----------
    .. [1] T. Zaslavsky, Facing up to arrangements: face-count formulas for partitions of space by hyperplanes,
       Memoirs of the AMS 154 (1975), section 2.

    Examples
    --------
    >>> grid = [[i, j, 1] for i in range(3) for j in range(3)]
    >>> enumerate_patterns(grid).n_patterns
    58
    """
    X = check_data(X)
    n_samples, n_features = X.shape
    rows, to_gates, error, condition = _balanced(X)
    rank = rows.shape[1]
    weights = np.asarray(np.random.default_rng(0).integers(2**64, size=n_samples, dtype=np.uint64))
    errors = np.full(n_samples, error)
    n_distinct = len(_essential(rows, weights, errors).normals)
    forecast = count_patterns(max(n_distinct, 1), rank)
    n_bytes = forecast * ((n_samples + 7) // 8 + 8 * n_features)
    if forecast > max_patterns:
        raise ValueError(
            f"X has up to {forecast:,} activation patterns ({n_distinct:,} distinct hyperplanes, rank {rank}), "
            f"{n_bytes:,} bytes, above max_patterns={max_patterns:,}; raise max_patterns, or list "
            "a part of them: sample_patterns(X, n_patterns), in the estimators patterns='sampled'."
        )
    gates, keys, resolution = _cells(rows, weights, errors)
    # As many patterns as there can be: none is missing. Else rows, or features, that only the last digits tell apart
    # may have been taken for one.
    generic = rank == min(X.shape) and len(gates) == count_patterns(max(_count_hyperplanes(X), 1), rank)
    resolution = 0.0 if generic else max(resolution, EPS)
    gates = gates @ to_gates
    gates /= _positive(np.abs(gates).max(axis=1, initial=0.0)[:, None])
    gates /= _positive(np.linalg.norm(gates, axis=1, keepdims=True))
    packed = np.empty((len(gates), (n_samples + 7) // 8), dtype=np.uint8)
    wrong, some = len(keys) - len(np.unique(keys)), rows.any(axis=1)
    for part in batches(len(gates), n_samples):
        check()
        side = X @ gates[part].T
        active = side >= 0
        packed[part] = np.packbits(active.T, axis=1)
        wrong += int(np.count_nonzero(weights @ active != keys[part]))
        wrong += int(np.count_nonzero(~sign_is_sure(X[some], gates[part].T, side[some])))
    if wrong:
        raise _thin_cells(f"{wrong} seen")
    return Arrangement(packed, gates.T, n_samples, True, _fingerprint(X), resolution * condition)


def rank_of(X: NDArray) -> int:
    """Rank of the data, whatever the units of their columns and however far from zero they are beside a ones column.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.

    Returns
    -------
    rank : int
    """
    return _balanced(X)[0].shape[1]


def sample_patterns(
    X: ArrayLike, n_patterns: int, *, method: str = "gaussian", random_state: int | np.random.Generator | None = None
) -> Arrangement:
    """Patterns of randomly drawn gates, strict duplicates merged.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if hidden biases are wanted.
    n_patterns : int
        Number of gates to draw; the list is as long or, after merging, shorter. The patterns of fewer gates are the
        first of those of more, given the same random_state.
    method : {"gaussian", "data"}, default="gaussian"
        "gaussian" draws gates uniformly over directions. "data" puts hyperplanes through rank - 1 random samples
        and takes the two cells on opposite sides of those samples at random: many small cells that gaussian gates
        rarely hit.
    random_state : int, numpy Generator or None
        Seed.

    Returns
    -------
    arrangement : Arrangement
        ``complete=False``: a sample is never known to hold all patterns.

    Raises
    ------
    ValueError
        When X is not a finite matrix, n_patterns < 1 or the method is unknown.

    Notes
    -----
    Sampling misses cells: of the 58 patterns of 8 points in general position with d = 3, 200,000 gaussian gates found
    55. "data" costs one (rank - 1)-dimensional least-squares problem a gate pair.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 1.0], [-1.0, 1.0]])
    >>> sample_patterns(X, 100, random_state=0).n_patterns
    4
    """
    X = check_data(X)
    if not isinstance(n_patterns, (int, np.integer)) or isinstance(n_patterns, bool) or n_patterns < 1:
        raise ValueError(f"n_patterns must be an integer of at least 1, got {n_patterns!r}.")
    if method not in ("gaussian", "data"):
        raise ValueError(f"method must be 'gaussian' or 'data', got {method!r}.")
    rng = np.random.default_rng(random_state)
    if method == "gaussian":
        return Arrangement.from_gates(X, rng.standard_normal((n_patterns, X.shape[1])).T)
    normals, basis = _essential(X, np.zeros(len(X), dtype=np.uint64), PARALLEL_TOL * np.linalg.norm(X, axis=1))[:2]
    n_points = max(basis.shape[1] - 1, 0)
    gates = np.empty((n_patterns + 1, X.shape[1]))
    for k in range(0, n_patterns, 2):
        through = normals[rng.choice(len(normals), size=n_points, replace=False)] if len(normals) else normals
        direction, tie = rng.standard_normal(basis.shape[1]), rng.choice([-1.0, 1.0], size=n_points)
        # The vertex ray is orthogonal to the chosen samples; the nudge moves each of them to its drawn side.
        ray = direction - np.linalg.lstsq(through, through @ direction, rcond=None)[0] if n_points else direction
        ray /= np.linalg.norm(ray) or 1.0
        nudge = np.linalg.lstsq(through, tie, rcond=None)[0] if n_points else np.zeros_like(ray)
        away, shift = np.abs(normals @ ray), np.abs(normals @ nudge)
        clear = away > PARALLEL_TOL
        step = 0.5 * np.min(away[clear] / np.maximum(shift[clear], 1e-300), initial=1.0)
        gates[k], gates[k + 1] = basis @ (ray + step * nudge), basis @ (ray - step * nudge)
    return Arrangement.from_gates(X, gates[:n_patterns].T)


def patterns_of(network, X: ArrayLike, *, hidden_bias: str = "penalized") -> Arrangement:
    """The patterns that the neurons of a network have on X.

    Parameters
    ----------
    network : Network
        Its gates if it is a gated ReLU network, else its hidden weights, generate the patterns.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    hidden_bias : {"penalized", "free", "none"}, default="penalized"
        With "none" the gates have no bias row, and the network must have no hidden biases.

    Returns
    -------
    arrangement : Arrangement
        Patterns of ``[X, 1]``, gates of shape (n_features + 1, n_patterns); of X alone with ``hidden_bias="none"``.

    Raises
    ------
    ValueError
        When hidden_bias is unknown, or "none" for a network with hidden biases.
    """
    X = check_data(X)
    weights, biases = network.switches
    if hidden_bias in ("penalized", "free"):
        return Arrangement.from_gates(np.column_stack([X, np.ones(len(X))]), np.column_stack([weights, biases]).T)
    if hidden_bias != "none":
        raise ValueError(f"hidden_bias must be 'penalized', 'free' or 'none', got {hidden_bias!r}.")
    if np.any(biases):
        raise ValueError("hidden_bias='none' needs a network without hidden biases; use hidden_bias='penalized'.")
    return Arrangement.from_gates(X, weights.T)


def _count_hyperplanes(X: NDArray) -> int:
    """Number of distinct hyperplanes of the rows, in exact arithmetic."""
    found = set()
    for row in np.unique(X[X.any(axis=1)], axis=0).tolist():
        entries = [Fraction(entry) for entry in row]
        first = next(entry for entry in entries if entry)
        found.add(tuple(entry / first for entry in entries))
    return len(found)


def _fingerprint(X: NDArray) -> str:
    return sha256(np.ascontiguousarray(X, dtype=float).tobytes()).hexdigest()


def sign_is_sure(X: NDArray, gates: NDArray, side: NDArray) -> NDArray[np.bool_]:
    """Which products X @ gates, as computed, cannot have the wrong sign by rounding."""
    # Twice the rounding error of a sum of products; what is lost below the smallest numbers comes on top.
    error = EPS * (X.shape[1] + 2) * (np.abs(X) @ np.abs(gates)) + X.shape[1] * TINY
    return np.abs(side) > error


def _positive(lengths: NDArray) -> NDArray:
    """Divisors: the lengths, with 1 in place of 0."""
    return np.where(lengths > 0, lengths, 1.0)


def _thin_cells(why: str) -> ValueError:
    return ValueError(
        f"X has cells too thin for double precision ({why}), and no list of its activation patterns is known to be "
        "complete; round or standardise the data, or use sample_patterns, in the estimators patterns='adaptive'."
    )


def batches(n_columns: int, n_rows: int) -> list[slice]:
    """Column slices that keep a float64 block of n_rows rows near 4 MB."""
    size = max(1, 500_000 // max(n_rows, 1))
    return [slice(start, min(start + size, n_columns)) for start in range(0, n_columns, size)]


def as_one(key: NDArray[np.uint8]) -> NDArray:
    """Rows of bytes as single items, ordered like the rows.

    Parameters
    ----------
    key : uint8 array of shape (n_rows, n_bytes)
        Any bytes.

    Returns
    -------
    items : array of shape (n_rows,)
    """
    return np.ascontiguousarray(key).view(np.dtype((np.void, key.shape[1]))).ravel()


def first_of_each(packed: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Ascending indices of the first occurrence of each distinct row."""
    return np.sort(np.unique(as_one(packed), return_index=True)[1])


def _balanced(X: NDArray) -> tuple[NDArray, NDArray, float, float]:
    """Rows with the same patterns, however the columns are scaled or far from zero: those of an orthonormal basis of
    the column space.

    Returns
    -------
    rows : array of shape (n_samples, rank)
        Zero for zero rows of X.
    to_gates : array of shape (rank, n_features)
        ``v @ to_gates`` is the gate on X that v is on the rows.
    error : float
        Rounding errors of the rows.
    condition : float
        Errors of the rows are at most so many times as large, relative to their lengths, as rows of X.
    """
    lengths_of_X = np.linalg.norm(X, axis=1)
    shift, constant = np.eye(X.shape[1]), np.flatnonzero((np.ptp(X, axis=0) == 0) & (X[0] != 0))
    if len(constant):
        # Beside a constant column the others may be shifted: numbers that hardly differ have exact differences.
        one = constant[0]
        origin = X[np.abs(X - X.mean(axis=0)).argmin(axis=0), np.arange(X.shape[1])]
        origin[one] = 0.0
        shift[one] -= origin / X[0, one]
        X = X - origin
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    balanced = X / _positive(lengths)
    column = _positive(np.linalg.norm(balanced, axis=0))
    left, singular, right = svd(balanced / column, full_matrices=False, lapack_driver="gesvd")
    rank = int(np.count_nonzero(singular > SAME * EPS * np.sqrt(X.size) * singular[0])) if singular[0] > 0 else 0
    rows = left[:, :rank] * (lengths > 0)
    to_gates = (right[:rank] / singular[:rank, None] if rank else right[:0]) / column @ shift.T
    stretch = np.linalg.norm(np.linalg.pinv(to_gates.T, rcond=1e-300), 2) if rank else 0.0
    condition = stretch * np.max(np.linalg.norm(rows * lengths, axis=1) / _positive(lengths_of_X))
    return rows, to_gates, 2 * EPS * float(singular[0] / singular[rank - 1] if rank else 1.0), float(condition)


class _Essential(NamedTuple):
    """The distinct hyperplanes of an arrangement, in coordinates of the row space.

    normals (m, rank); basis (n_features, rank); hash weights (m,) merged onto them, and their constant; rounding errors
    (m,); and the largest difference between rows that were taken for one.
    """

    normals: NDArray
    basis: NDArray
    weights: NDArray
    constant: np.uint64
    errors: NDArray
    resolution: float


def _essential(X: NDArray, weights: NDArray[np.uint64], errors: NDArray) -> _Essential:
    """Distinct unit normals of rows with rounding errors of these lengths.

    The hash of a pattern is the sum of the weights of its active rows, modulo 2^64. Rows parallel to a representative
    add their weight to it, opposite rows subtract theirs and add it to the constant, zero rows are always active.
    """
    lengths = np.linalg.norm(X, axis=1)
    solid = lengths > SAME * errors
    resolution = float(lengths[~solid].max(initial=0.0))
    if not solid.any():
        none = np.zeros(0)
        total = weights.sum(dtype=np.uint64)
        return _Essential(none[:, None][:, :0], np.zeros((X.shape[1], 0)), weights[solid], total, none, resolution)
    errors_of_X = errors
    unit, errors = X[solid] / lengths[solid, None], (errors[solid] / lengths[solid]) + 2 * EPS
    _, singular, axes = svd(unit, full_matrices=False, lapack_driver="gesvd")
    kept = singular > SAME * np.linalg.norm(errors)
    resolution = max(resolution, float(singular[~kept].max(initial=0.0)))
    if not kept.any():
        return _essential(np.zeros_like(X), weights, errors_of_X)._replace(resolution=1.0)
    basis = axes[kept].T
    normals = unit @ basis
    # One half of the sphere, then neighbours along a random axis: equal normals have equal projections.
    rng = np.random.default_rng(1)
    half, axis = rng.standard_normal((2, basis.shape[1]))
    flipped = normals @ half < 0
    normals[flipped] *= -1
    order = np.argsort(normals @ axis, kind="stable")
    # Zero rows and rows that were turned round count as active where the representative is not.
    constant = np.concatenate([weights[~solid], weights[solid][flipped]]).sum(dtype=np.uint64)
    normals, flipped, weights, errors = normals[order], flipped[order], weights[solid][order], errors[order]
    apart = np.abs(np.diff(normals, axis=0)).max(axis=1)
    new = np.concatenate([[True], apart > SAME * (errors[1:] + errors[:-1])])
    signed, first = np.where(flipped, -weights, weights), np.flatnonzero(new)
    # Neighbours differ by rounding; the first and the last of a group may differ by more.
    taken_for = normals[first[np.cumsum(new) - 1]]
    resolution = max(resolution, float(np.linalg.norm(normals - taken_for, axis=1).max()))
    merged = np.add.reduceat(signed, first, dtype=np.uint64)
    return _Essential(normals[new], basis, merged, constant, np.maximum.reduceat(errors, first), resolution)


def _cells(X: NDArray, weights: NDArray[np.uint64], errors: NDArray) -> tuple[NDArray, NDArray[np.uint64], float]:
    """A unit witness (P, n_features) and a pattern hash (P,) for every cell of the hyperplanes X u = 0, and the largest
    difference between rows that were taken for one."""
    normals, basis, weights, constant, errors, resolution = _essential(X, weights, errors)
    if resolution > RESOLUTION:
        raise _thin_cells(f"rows that differ by {resolution:.0e} cannot be told from equal ones")
    m, rank = normals.shape
    if rank == 0:
        return np.zeros((1, X.shape[1])), np.array([constant], dtype=np.uint64), resolution
    if rank == 1:
        witnesses, keys = np.array([[1.0], [-1.0]]) * np.sign(normals[0, 0]), np.array([weights[0], 0], dtype=np.uint64)
        return witnesses @ basis.T, keys + constant, resolution
    if rank == 2:
        witnesses, keys = _cells_in_the_plane(normals, weights)
        return witnesses @ basis.T, keys + constant, resolution
    capacity = count_patterns(m, rank)
    witnesses, keys = np.empty((capacity, rank)), np.empty(capacity, dtype=np.uint64)
    margins = np.empty(capacity)
    witnesses[:2], keys[:2], margins[:2] = [normals[0], -normals[0]], [weights[0], 0], 1.0
    size = 2
    for i in range(1, m):
        check()
        row, weight = normals[i], weights[i]
        earlier = normals[:i]
        restricted = earlier - np.outer(earlier @ row, row)
        faces, face_keys, seen = _cells(restricted, weights[:i], errors[:i] + errors[i] + 2 * EPS)
        resolution = max(resolution, seen)
        side = witnesses[:size] @ row
        order = np.argsort(keys[:size])
        parent = order[np.minimum(np.searchsorted(keys[:size], face_keys, sorter=order), size - 1)]
        if not np.array_equal(keys[parent], face_keys):
            raise _thin_cells(f"{np.count_nonzero(keys[parent] != face_keys)} seen")
        # A face strictly inside the cells it splits: half-way to the first earlier hyperplane on either side.
        reach = _closest(faces, earlier / np.maximum(np.abs(earlier @ row), 1e-300)[:, None])
        near = faces + (0.5 * np.minimum(reach, 2.0))[:, None] * row
        far = 2 * faces - near
        active = side >= 0
        keys[:size] += np.where(active, weight, np.uint64(0))
        margins[:size] = np.minimum(margins[:size], np.abs(side))
        fresh = np.arange(size, size + len(faces))
        flip = active[parent]
        keys[fresh] = np.where(flip, keys[parent] - weight, keys[parent] + weight)
        margins[fresh] = -1.0
        same, other = np.where(flip[:, None], near, far), np.where(flip[:, None], far, near)
        for cells, points in ((parent, same), (fresh, other)):
            points = points / np.linalg.norm(points, axis=1, keepdims=True)
            margin = _closest(points, normals[: i + 1])
            better = margin > margins[cells]
            witnesses[cells[better]], margins[cells[better]] = points[better], margin[better]
        size += len(faces)
    return witnesses[:size] @ basis.T, keys[:size] + constant, resolution


def _closest(points: NDArray, normals: NDArray) -> NDArray:
    """min over the normals of |normal . point|, for each point, in batches."""
    least = np.empty(len(points))
    for part in batches(len(points), len(normals)):
        check()
        side = points[part] @ normals.T
        least[part] = np.abs(side, out=side).min(axis=1)
    return least


def _cells_in_the_plane(normals: NDArray, weights: NDArray[np.uint64]) -> tuple[NDArray, NDArray[np.uint64]]:
    """The 2 m sectors between m distinct lines through the origin: mid-angles, and hashes by one sweep."""
    across = np.arctan2(-normals[:, 0], normals[:, 1])  # angle at which the row becomes active
    turn = across % np.pi
    order = np.argsort(turn)
    turn, weights, entering = turn[order], weights[order], (across[order] % (2 * np.pi)) < np.pi
    middles = 0.5 * (turn + np.concatenate([turn[1:], [turn[0] + np.pi]]))
    half = np.column_stack([np.cos(middles), np.sin(middles)])
    # Before the first line exactly the rows that leave during the half turn are active.
    steps = np.where(entering, weights, -weights)
    first = weights[~entering].sum(dtype=np.uint64)
    keys = first + np.cumsum(steps, dtype=np.uint64)
    opposite = weights.sum(dtype=np.uint64) - keys
    return np.concatenate([half, -half]), np.concatenate([keys, opposite])
