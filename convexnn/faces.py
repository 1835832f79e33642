"""Patterns of gates on hyperplanes: a gate is open on the hyperplane that it lies on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.arrangements import MAX_PATTERNS, Arrangement, batches, count_patterns, first_of_each, sign_is_sure
from convexnn.budget import check
from convexnn.exact import as_bools, as_floats, cells_of, distinct, independent_columns, integer_rows, positive_flats


def face_patterns(
    X: NDArray, arrangement: Arrangement, *, max_patterns: int = MAX_PATTERNS
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The patterns X u >= 0 of vectors u on hyperplanes that no vector off them has, and such a u for each.

    A vector on a flat can leave it for a side where all rows of the flat are positive, and has the pattern of a cell
    then, unless a positive combination of some of these rows is zero: opposite rows, or three in a plane around the
    origin. So only flats count of which all rows are in such combinations. They are found, and the cells of the other
    rows on them, in exact arithmetic. With a ones column there are none.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    arrangement : Arrangement
        Its list of patterns off the hyperplanes.
    max_patterns : int, default=1_000_000
        Refuse to list more.

    Returns
    -------
    patterns : bool array of shape (n_patterns, n_samples)
        Including that of u = 0, unless it is listed.
    gates : array of shape (n_patterns, n_features)
        Rounded: their products with rows that they lie on may differ from zero.

    Raises
    ------
    ValueError
        When there are more than max_patterns.
    """
    strict = _strict_patterns(X, arrangement)
    if np.any(np.unpackbits(strict, axis=1, count=len(X)).all(axis=1)):
        return np.zeros((0, len(X)), dtype=bool), np.zeros((0, X.shape[1]))
    rows = integer_rows(X)
    columns = independent_columns(rows)
    rows = [tuple(row[j] for j in columns) for row in rows]
    # As many cells as in general position are in general position.
    generic = len(strict) >= count_patterns(len(distinct(rows).normals), len(columns))
    found: dict[int, list[float]] = {}
    for restriction in positive_flats(rows, generic):
        for pattern, inside in cells_of(restriction.rows):
            found[pattern] = as_floats(restriction.lift(inside))
        if len(found) > max_patterns:
            raise ValueError(
                f"X has more than {max_patterns:,} activation patterns of gates on the hyperplanes of samples; give "
                "the gates a bias, or list a part of them: in the estimators patterns='sampled'."
            )
    found.setdefault((1 << len(X)) - 1, [0.0] * len(columns))
    gates = np.zeros((len(found), X.shape[1]))
    gates[:, columns] = list(found.values())
    return as_bools(list(found), len(X)), gates


def with_faces(X: NDArray, arrangement: Arrangement, *, max_patterns: int = MAX_PATTERNS) -> Arrangement:
    """A complete list with the patterns of gates that are open on hyperplanes that they lie on.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data.
    arrangement : Arrangement
        Their complete list of patterns off the hyperplanes.
    max_patterns : int, default=1_000_000
        Refuse to list more of the others.

    Returns
    -------
    arrangement : Arrangement
        ``faces`` are all of them. Those with gates whose products with the samples have no rounding errors, or too
        small ones to matter, are in the list.

    Raises
    ------
    ValueError
        When there are more than max_patterns.
    """
    patterns, rows = face_patterns(X, arrangement, max_patterns=max_patterns)
    gates, packed, sure = rows.T, np.packbits(patterns, axis=1), np.zeros(len(patterns), dtype=bool)
    for part in batches(len(patterns), len(X)):
        side = X @ gates[:, part]
        certain = sign_is_sure(X, gates[:, part], side) | _without_rounding(X, gates[:, part])
        sure[part] = np.all(certain & ((side >= 0) == patterns[part].T), axis=0)
    listed = arrangement.union(Arrangement(packed[sure], gates[:, sure], len(X)))
    return replace(listed, faces=packed)


def _without_rounding(X: NDArray, gates: NDArray) -> NDArray[np.bool_]:
    """Which products X @ gates are exact in whatever order they are summed."""
    lowest, of_gates = np.full((len(X), gates.shape[1]), np.inf), _lowest_digit(gates)
    for j, digit in enumerate(_lowest_digit(X).T):
        lowest = np.minimum(lowest, digit[:, None] + of_gates[j])
    with np.errstate(divide="ignore"):
        highest = np.log2(np.abs(X) @ np.abs(gates))
    return (lowest > -1000) & (highest < lowest + 52)


def _lowest_digit(values: NDArray) -> NDArray:
    """Exponents of the last binary digit that is not zero; infinity for zero."""
    mantissa, exponent = np.frexp(values)
    digits = np.abs(mantissa * 2.0**53).astype(np.int64)
    return np.where(digits > 0, np.log2(np.maximum(digits & -digits, 1)) + exponent - 53, np.inf)


def _strict_patterns(X: NDArray, arrangement: Arrangement) -> NDArray[np.uint8]:
    """The packed patterns of those gates that are on no hyperplane for certain, each once."""
    some, found = X.any(axis=1), [np.zeros((0, (len(X) + 7) // 8), dtype=np.uint8)]
    for part in batches(arrangement.n_patterns, len(X)):
        check()
        gates = arrangement.gates[:, part]
        side = X @ gates
        strict = sign_is_sure(X[some], gates, side[some]).all(axis=0)
        found.append(np.packbits((side >= 0)[:, strict].T, axis=1))
    packed = np.concatenate(found)
    return packed[first_of_each(packed)]
