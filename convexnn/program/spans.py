"""Linear algebra of floating point numbers as they are, whatever their sizes: ranks, and bases of what they span."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check


def exact_rank(columns: NDArray, least: int) -> int:
    """The rank of a matrix, or a number above a limit as soon as the rank is.

    Every number is an integer times a power of two, so that elimination modulo a prime is exact. The rank modulo a
    prime is never above the rank. It is below only where the prime divides every minor of that size, which of the 5e7
    primes between 2^30 and 2^31 few can: the largest of three that are drawn at random is taken.

    Parameters
    ----------
    columns : array of shape (n_rows, n_columns)
        Finite numbers in double precision.
    least : int
        Elimination ends once the rank is known to be above this.

    Returns
    -------
    rank : int
        ``least + 1`` where the rank is larger than ``least``.

    Examples
    --------
    >>> import numpy as np
    >>> exact_rank(np.array([[1.0, 1.0], [1.0, 1.0], [1e-25, 0.0]]), 1)
    2
    """
    rng = np.random.default_rng()
    return max(_rank_modulo(columns, _draw_prime(rng), least) for _ in range(3))


def _draw_prime(rng: np.random.Generator) -> int:
    """A random prime between 2^30 and 2^31, so that products of two remainders fit into 64 bits."""
    divisors = np.arange(3, 2**15.5, 2, dtype=np.int64)
    while True:
        candidate = int(rng.integers(2**29, 2**30)) * 2 + 1
        if (candidate % divisors).all():
            return candidate


def _rank_modulo(columns: NDArray, p: int, least: int) -> int:
    mantissa, exponent = np.frexp(columns)
    integers = (mantissa * 2.0**53).astype(np.int64) % p
    low = int(exponent.min(initial=0))
    powers = np.ones(int(exponent.max(initial=0)) - low + 1, dtype=np.int64)
    for k in range(1, len(powers)):
        powers[k] = 2 * powers[k - 1] % p
    # The common factor 2^(low - 53) does not change the rank.
    left = (integers * powers[exponent - low]) % p
    rank = 0
    for _ in range(min(left.shape)):
        check(20.0 * left.size)
        i, j = np.divmod(int(np.argmax(left != 0)), left.shape[1])
        if not left[i, j]:
            break
        rank += 1
        if rank > least:
            break
        row = left[i] * pow(int(left[i, j]), -1, p) % p
        left = (left - left[:, j, None] * row % p) % p
        left = np.delete(left, j, axis=1)
    return rank


def orthonormal_basis(X: NDArray, constant: bool) -> tuple[NDArray, NDArray]:
    """An orthonormal basis of what features span, with a constant or without, and how far each vector may be off.

    Features are centred, and reduced by Gram and Schmidt in extended precision: what is left of one is a direction
    however small it is, unless it is rounding there too.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Features; none of them is fine.
    constant : bool
        Whether the vector of ones is spanned too.

    Returns
    -------
    basis : array of shape (n_samples, n_basis)
        In extended precision.
    blur : array of shape (n_basis,)
        How far each vector may be off, relative to 1: infinite where rounding hides a direction.
    """
    n, d = X.shape
    columns = np.ones((n, int(constant)), dtype=np.longdouble)
    # With one of its values taken off, a column that hardly varies keeps its digits.
    center = X[np.abs(X - X.mean(axis=0)).argmin(axis=0), np.arange(d)] if constant else np.zeros(d)
    columns = np.column_stack([columns, X.astype(np.longdouble) - center])
    eps = float(np.finfo(np.longdouble).eps) * n**0.5
    size = np.abs(columns).max(axis=0, initial=0.0)
    columns = columns[:, size > 0] / size[size > 0]
    lengths = np.sqrt((columns**2).sum(axis=0))
    basis: list[NDArray] = []
    blur: list[float] = []
    while columns.shape[1]:
        check(20.0 * columns.size)
        left = np.sqrt((columns**2).sum(axis=0)) / lengths
        if left.max() <= 16 * eps:
            break
        k = int(left.argmax())
        vector = columns[:, k] / np.sqrt((columns[:, k] ** 2).sum())
        # The second time removes what the first one left.
        for _ in range(2):
            for other in basis:
                vector = vector - (other @ vector) * other
            vector = vector / np.sqrt((vector**2).sum())
        basis.append(vector)
        blur.append(16 * eps / float(left[k]))
        columns = columns - np.outer(vector, vector @ columns)
    whole = np.column_stack([np.ones((n, int(constant))), X])
    if len(basis) < whole.shape[1] and exact_rank(whole, len(basis)) > len(basis):
        blur = [np.inf] * len(blur)
    return np.array(basis, dtype=np.longdouble).reshape(len(basis), n).T, np.array(blur)
