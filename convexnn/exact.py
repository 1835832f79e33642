"""Hyperplanes in exact arithmetic: which rows lie on which flat, and the cells of the others on it.

Rows are primitive integer vectors, for every double is a fraction; sets of rows are the bits of an integer. A flat is
the set of rows x_i with x_i^T u = 0 for some u. On it the other rows are those of one dimension less: solved for one
coordinate of u, with the sign of every product kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check

Vector = tuple[int, ...]


class Planes(NamedTuple):
    """The distinct hyperplanes of some rows: a normal of each, and the rows along and against it; and the zero rows."""

    normals: list[Vector]
    along: list[int]
    against: list[int]
    zero: int


class Restriction(NamedTuple):
    """Rows on a flat, in its coordinates, and the steps that lead there: a coordinate, and the row solved for it."""

    rows: list[Vector]
    steps: tuple[tuple[int, Vector], ...]

    def lift(self, u: Vector) -> Vector:
        """A vector of the flat in the coordinates of the whole space."""
        for coordinate, row in reversed(self.steps):
            rest = row[:coordinate] + row[coordinate + 1 :]
            solved = -sum(a * b for a, b in zip(rest, u))
            u = tuple(row[coordinate] * b for b in u)
            u = u[:coordinate] + (solved,) + u[coordinate:]
        return primitive(u)


def primitive(vector: Sequence[int]) -> Vector:
    """The vector divided by the largest common divisor of its entries."""
    divisor = gcd(*vector)
    return tuple(vector) if divisor <= 1 else tuple(entry // divisor for entry in vector)


def integer_rows(X: NDArray) -> list[Vector]:
    """The rows of X, each times a positive number that makes it a primitive integer vector."""
    rows = []
    for row in X.tolist():
        parts = [float(entry).as_integer_ratio() for entry in row]
        common = max(below for _, below in parts)
        rows.append(primitive([above * (common // below) for above, below in parts]))
    return rows


def independent_columns(rows: list[Vector]) -> list[int]:
    """Columns that the others are combinations of: their number is the rank."""
    left, kept = list(dict.fromkeys(rows)), list(range(len(rows[0])))
    found = []
    while left:
        row = left.pop()
        if any(row):
            coordinate = _pivot(row)
            found.append(kept.pop(coordinate))
            left = [] if not kept else list(dict.fromkeys(_solved(left, coordinate, row)))
    return sorted(found)


def distinct(rows: list[Vector]) -> Planes:
    """The hyperplanes of the rows, in the order in which they come first."""
    sides: dict[Vector, list[int]] = {}
    zero = 0
    for i, row in enumerate(rows):
        first = next((entry for entry in row if entry), 0)
        if first == 0:
            zero |= 1 << i
        else:
            normal = row if first > 0 else tuple(-entry for entry in row)
            sides.setdefault(normal, [0, 0])[first < 0] |= 1 << i
    return Planes(list(sides), [along for along, _ in sides.values()], [against for _, against in sides.values()], zero)


def restrict(rows: list[Vector], on: Sequence[int]) -> Restriction:
    """The rows on the flat of some independent rows ``on``."""
    steps: list[tuple[int, Vector]] = []
    for i in on:
        coordinate = _pivot(rows[i])
        row = rows[i] if rows[i][coordinate] > 0 else tuple(-entry for entry in rows[i])
        steps.append((coordinate, row))
        rows = _solved(rows, coordinate, row)
    return Restriction(rows, tuple(steps))


def positive_flats(rows: list[Vector], generic: bool) -> Iterator[Restriction]:
    """Flats, but for the empty one and that of all rows, on which every row is minus a positive combination of others.

    These are the flats that a vector cannot leave for a side where all of their rows are positive. A flat is one of
    them unless its rows, on some flat in it of one rank less, are all on one side of that.

    Parameters
    ----------
    rows : list of tuples
        Their columns must be independent.
    generic : bool
        Whether the distinct hyperplanes are in general position: flats of less than full rank are then any of them.

    Yields
    ------
    restriction : Restriction
        All rows on such a flat.
    """
    planes, rank = distinct(rows), len(rows[0])
    if generic:
        both = [_lowest(along) for along, against in zip(planes.along, planes.against) if along and against]
        for size in range(1, rank):
            for some in combinations(both, size):
                check()
                yield restrict(rows, some)
        return
    level: dict[int, tuple[int, ...]] = {planes.zero: ()}
    for _ in range(1, rank):
        above: dict[int, tuple[int, ...]] = {}
        one_sided = set()
        for flat, on in level.items():
            check()
            planes = distinct(restrict(rows, on).rows)
            for along, against in zip(planes.along, planes.against):
                larger = flat | along | against
                above.setdefault(larger, (*on, _lowest(along | against)))
                if not (along and against):
                    one_sided.add(larger)
        for flat, on in above.items():
            if flat not in one_sided:
                check()
                yield restrict(rows, on)
        level = above


def cells_of(rows: list[Vector]) -> Iterator[tuple[int, Vector]]:
    """The cells of the rows: those that are positive or zero there, and a vector inside on no other hyperplane."""
    planes = distinct(rows)
    for signs, inside in _cells(planes.normals, len(rows[0])).items():
        pattern = planes.zero
        for i, sides in enumerate(zip(planes.against, planes.along)):
            pattern |= sides[signs >> i & 1]
        yield pattern, inside


def _cells(normals: list[Vector], size: int) -> dict[int, Vector]:
    """The cells of distinct hyperplanes: the normals that are positive there, and a vector inside."""
    if not normals:
        return {0: (0,) * size}
    if size == 2 and len(normals) > 1:
        return _sectors(normals)
    first = normals[0]
    found = {1: first, 0: _minus(first)}
    for i, normal in enumerate(normals[1:], 1):
        check()
        # A cell of the earlier hyperplanes on this one is inside the one cell of theirs that it splits.
        flat = restrict([*normals[:i], normal], [i])
        split = dict(cells_of(flat.rows[:i]))
        every, found = found, {}
        for signs, inside in every.items():
            side, face = _product(normal, inside), split.get(signs)
            if face is None:
                found[signs | (side > 0) << i] = inside
                continue
            face = flat.lift(face)
            far = 1 + max(abs(_product(x, normal)) // abs(_product(x, face)) for x in normals[:i])
            near = [far * entry for entry in face]
            found[signs | 1 << i] = inside if side > 0 else primitive([a + b for a, b in zip(near, normal)])
            found[signs] = inside if side < 0 else primitive([a - b for a, b in zip(near, normal)])
    return found


def _sectors(normals: list[Vector]) -> dict[int, Vector]:
    """The sectors between at least two lines through the origin."""
    slope = {normal: _Slope(*normal) for normal in normals}
    order = sorted(range(len(normals)), key=lambda i: slope[normals[i]])
    # Every normal turned by a right angle, from the lowest line to the highest and then half round.
    edges = [(-normals[i][1], normals[i][0]) for i in order]
    signs, every = (1 << len(normals)) - 1, (1 << len(normals)) - 1
    found = {}
    for k, i in enumerate(order):
        (a, b), (c, d) = edges[k], edges[k + 1] if k + 1 < len(edges) else _minus(edges[0])
        signs &= ~(1 << i)
        inside = primitive([a + c, b + d])
        found[signs], found[every ^ signs] = inside, _minus(inside)
    return found


class _Slope:
    """Orders vectors (a, b) with a > 0, or a = 0 and b > 0, by angle."""

    def __init__(self, a: int, b: int):
        self.a, self.b = a, b

    def __lt__(self, other: _Slope) -> bool:
        return self.b * other.a < other.b * self.a


def _solved(rows: list[Vector], coordinate: int, row: Vector) -> list[Vector]:
    """Rows on the hyperplane of a row, a positive multiple of each, without the coordinate that is solved for."""
    pivot, sign = abs(row[coordinate]), 1 if row[coordinate] > 0 else -1
    rest = row[:coordinate] + row[coordinate + 1 :]
    solved = []
    for x in rows:
        share, others = sign * x[coordinate], x[:coordinate] + x[coordinate + 1 :]
        solved.append(primitive([pivot * a - share * b for a, b in zip(others, rest)]) if share else others)
    return solved


def _pivot(row: Vector) -> int:
    """The smallest coordinate that is not zero."""
    return min((abs(entry), k) for k, entry in enumerate(row) if entry)[1]


def _product(x: Vector, u: Vector) -> int:
    return sum(a * b for a, b in zip(x, u))


def _minus(x: Vector) -> Vector:
    return tuple(-entry for entry in x)


def _lowest(rows: int) -> int:
    """The first row of a set."""
    return (rows & -rows).bit_length() - 1


def as_bools(patterns: Sequence[int], n_samples: int) -> NDArray[np.bool_]:
    """Sets of rows as a boolean matrix of shape (n_patterns, n_samples)."""
    n_bytes = (n_samples + 7) // 8
    packed = b"".join(pattern.to_bytes(n_bytes, "little") for pattern in patterns)
    bits = np.frombuffer(packed, np.uint8).reshape(len(patterns), n_bytes)
    return np.unpackbits(bits, axis=1, count=n_samples, bitorder="little").view(bool)


def as_floats(u: Vector) -> list[float]:
    """A positive multiple of an integer vector, exact where it has no more than 53 digits; entries up to 1."""
    unit = 1 << max(abs(entry) for entry in u).bit_length()
    return [entry / unit for entry in u]
