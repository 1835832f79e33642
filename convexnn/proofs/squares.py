r"""Evidence by sums of squares that bound the price of every neuron, and its check: what one has to read to trust it.

The price of a neuron of unit norm is t^T (X u)_+, t = +theta or -theta; other activations have the linear term
lift t^T X u beside it (``convexnn.neurons.activations``). With (z)_+ = (z + |z|) / 2 and L = (1 + 2 lift) X^T t

    2 max_u (t^T (X u)_+ + lift t^T X u) = max_u |L^T u| + sum_i t_i |x_i^T u|,   |u| = 1.

With tau_i = (x_i^T u)^2 / |x_i|^2 in [0, 1] each |x_i^T u| is |x_i| sqrt(tau_i). Polynomials of degree k that touch the
square root from above where the weight is positive, L included, and from below where it is negative make the right
hand side a form of degree 2k on the unit sphere, v_k(u)^T (Q + W) v_k(u) with v_k the monomials of degree k weighted so
that |v_k(u)| = |u|^k, and W any matrix whose form vanishes identically. So for every u, polynomials and W

    t^T (X u)_+ <= lambda_max(Q + W) / 2.

The derivatives of the square root alternate in sign: Hermite interpolation, with double nodes inside [0, 1] and simple
ones at its ends, is one-sided whatever the nodes are.

References
----------
.. [1] J. B. Lasserre, Global optimization with polynomials and the problem of moments, SIAM J. Optim. 11 (2001).
.. [2] P. A. Parrilo, Semidefinite programming relaxations for semialgebraic problems, Math. Program. 96 (2003).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations_with_replacement
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from convexnn.search.prices import Price

# Rows of the matrices beyond which a level is refused: an eigenvalue decomposition takes seconds there.
MAX_ROWS = 1500
# Bytes beyond which a level is refused.
MAX_MEMORY = 2**33
# Singular values of X below this share of the largest are dropped, and what is dropped is added to the bound.
RANK_TOL = 1e-12
# Corrections that L-BFGS remembers.
MEMORY = 12
EPS = float(np.finfo(float).eps)


class Forms:
    """Forms of degree 2k in r variables, as matrices on the weighted monomials of degree k.

    v_j(u) has the entries sqrt(j! / prod(m_i!)) u^m over exponents m with sum j. Contraction with the i-th unit vector
    maps v_j(u) to u_i v_(j-1)(u): one non-zero a row, kept as places and factors.

    Parameters
    ----------
    r : int
        Number of variables.
    level : int
        The degree k.
    """

    def __init__(self, r: int, level: int):
        self.r, self.level = r, level
        words = [list(combinations_with_replacement(range(r), j)) for j in range(level + 1)]
        # Of v_j: the word without its last letter, that letter, and the factor that the letter brings.
        self._grow, self._contract = [], []
        for j in range(1, level + 1):
            place = {w: k for k, w in enumerate(words[j])}
            before = {w: k for k, w in enumerate(words[j - 1])}
            grow = np.array([[before[w[:-1]], w[-1], w.count(w[-1])] for w in words[j]])
            self._grow.append((grow[:, 0], grow[:, 1], np.sqrt(j / grow[:, 2])))
            at = np.array([[place[tuple(sorted((*w, i)))] for w in words[j - 1]] for i in range(r)])
            factor = np.sqrt([[(w.count(i) + 1) / j for w in words[j - 1]] for i in range(r)])
            self._contract.append((at, factor))
        last = np.array(words[level])
        both = np.sort(np.concatenate(np.broadcast_arrays(last[:, None], last[None]), axis=2), axis=2)
        code = both @ r ** np.arange(2 * level)
        _, self._form = np.unique(code.ravel(), return_inverse=True)
        count = np.array([factorial(level) / np.prod([factorial(w.count(i)) for i in set(w)]) for w in words[level]])
        root = np.sqrt(count)
        self._weight = np.outer(root, root).ravel()
        self._total = np.bincount(self._form, self._weight**2)

    def features(self, U: NDArray) -> list[NDArray]:
        """v_0 .. v_k of every row of U."""
        V = [np.ones((len(U), 1))]
        for before, letter, factor in self._grow:
            V.append(V[-1][:, before] * U[:, letter] * factor)
        return V

    def collect(self, *terms: tuple[list[NDArray], NDArray]) -> NDArray:
        """Matrix of the form sum_i sum_j C_ij (x_i^T u)^(2j) |u|^(2k-2j), from pairs (features of the rows x, C)."""
        parts = [sum((V[j] * C[:, j, None]).T @ V[j] for V, C in terms) for j in range(self.level + 1)]
        A = parts[0]
        for raised, (at, factor) in zip(parts[1:], self._contract):
            for i, f in zip(at, factor):
                raised[i[:, None], i] += f[:, None] * A * f
            A = raised
        return A

    def traces(self, Y: NDArray) -> list[NDArray]:
        """Partial traces Y_0 .. Y_k; the adjoint of ``collect`` takes v_j^T Y_j v_j."""
        parts = [Y]
        for at, factor in reversed(self._contract):
            Y = sum(f[:, None] * Y[i[:, None], i] * f for i, f in zip(at, factor))
            parts.append(Y)
        return parts[::-1]

    def moments(self, V: list[NDArray], parts: list[NDArray]) -> NDArray:
        """v_j(x_i)^T Y_j v_j(x_i), shape (n, k + 1)."""
        return np.column_stack([np.einsum("na,na->n", v @ Y, v) for v, Y in zip(V, parts)])

    def slope(self, v: list[NDArray], parts: list[NDArray], c: NDArray) -> NDArray:
        """Gradient in u of sum_j c_j v_j(u)^T Y_j v_j(u), v the features of one vector."""
        total = np.zeros(self.r)
        for j, (at, factor) in enumerate(self._contract, 1):
            q = parts[j] @ v[j][0]
            total += 2 * j * c[j] * ((factor * q[at]) @ v[j - 1][0])
        return total

    def vanishing(self, A: NDArray) -> NDArray:
        """The nearest matrix whose form vanishes identically: A less its mean over entries of the same monomial."""
        if self.level == 1:
            return np.zeros_like(A)
        mean = np.bincount(self._form, self._weight * A.ravel()) / self._total
        return A - (mean[self._form] * self._weight).reshape(A.shape)


def free_nodes(level: int) -> tuple[int, int]:
    """How many touching points a polynomial of that degree has from above and from below."""
    return (level + 1) // 2, level // 2


def times(c: NDArray, root: NDArray) -> NDArray:
    """Coefficients of polynomials of lower degree, one a row, times tau - root^2."""
    product = -(root**2)[:, None] * c
    product[:, 1:] += c[:, :-1]
    return product


def touching(level: int, above: bool, nodes: NDArray) -> tuple[NDArray, list[NDArray]]:
    r"""Polynomials in tau on one side of sqrt(tau) on [0, 1], by Hermite interpolation.

    Nodes are (a, a), (a, a, 1), (a, a, b, b), (a, a, b, b, 1) from above and (0, 1), (0, a, a), (0, 1, a, a),
    (0, a, a, b, b) from below. With f = sqrt, a = s^2, b = p^2, c = q^2 the divided differences are

        f[a, a, b] = -1 / (2s (s + p)^2),   f[a, a, b, c] = (2s + p + q) / (2s (s + p)^2 (s + q)^2 (p + q)),
        f[a, a, b, b, c] = -((s + p + q)^2 + s p) / (2 s p (s + p)^3 (s + q)^2 (p + q)^2).

    Parameters
    ----------
    level : int
        Degree, 1 to 4.
    above : bool
        Side.
    nodes : array of shape (n, n_free)
        Square roots s (and p) of the double nodes, in (0, 1].

    Returns
    -------
    coefficients : array of shape (n, level + 1)
        Of 1, tau, tau^2, ...
    slopes : list of arrays of that shape
        Derivatives in s (and p).
    """
    n = len(nodes)
    if level == 1 and not above:
        return np.tile([0.0, 1.0], (n, 1)), []
    s, p, end = nodes[:, 0], nodes[:, -1], np.full(n, float(above))
    rest = [(), (end,), (p, p) if above else (end, 1 - end), (p, p, end)][level - 1]
    # The divided differences over the first nodes, and the logarithmic derivative in s of the last one.
    differences, change = [s, 0.5 / s], -1 / s
    if level > 1:
        b = rest[0]
        differences.append(-0.5 / (s * (s + b) ** 2))
        change = change - 2 / (s + b)
    if level > 2:
        c = rest[1]
        differences.append((2 * s + b + c) / (2 * s * ((s + b) * (s + c)) ** 2 * (b + c)))
        change = change - 2 / (s + c) + 2 / (2 * s + b + c)
    if level > 3:
        square = (s + p + end) ** 2 + s * p
        differences.append(-square / (2 * s * p * (s + p) ** 3 * ((s + end) * (p + end)) ** 2))
        change = (2 * (s + p + end) + p) / square - 1 / s - 3 / (s + p) - 2 / (s + end)
    coefficients = np.zeros((n, level + 1))
    for difference, root in zip(differences[::-1], (s, s, *rest)[level::-1]):
        coefficients = times(coefficients, root)
        coefficients[:, 0] += difference
    # d f[a, a, ...] / da = 2 f[a, a, a, ...]: a double node moves the last difference only.
    last = np.zeros((n, level + 1))
    last[:, 0] = differences[-1]
    slopes = [change[:, None] * reduce(times, (s, *rest), last)]
    if nodes.shape[1] > 1:
        change = -1 / p - 3 / (s + p)
        if level > 3:
            change = change + (2 * (s + p + end) + s) / square - 2 / (p + end)
        slopes.append(change[:, None] * reduce(times, (p, s, s, end)[:level], last))
    return coefficients, slopes


def unit_rows(Z: NDArray) -> NDArray:
    """Rows of unit length, the first unit vector in place of zero."""
    lengths = np.linalg.norm(Z, axis=1, keepdims=True)
    return np.where(lengths > 0, Z / np.where(lengths > 0, lengths, 1.0), np.eye(1, Z.shape[1]))


def forecast(n: int, rank: int, level: int, n_blocks: int = 1) -> int:
    """Rows of the matrices of a level; ValueError, with the memory and a level that fits, when they are too many."""
    if level not in (1, 2, 3, 4):
        raise ValueError(f"level must be 1, 2, 3 or 4, got {level!r}.")

    def needs(k):
        rows = comb(rank + k - 1, k)
        return rows, 8.0 * rows * (rows * (n_blocks * (MEMORY + 6) + 4 * k) + 3 * n)

    rows, memory = needs(level)
    if rows > MAX_ROWS or memory > MAX_MEMORY:
        fits = [k for k in (1, 2, 3) if k < level and needs(k)[0] <= MAX_ROWS and needs(k)[1] <= MAX_MEMORY]
        advice = f"level={fits[-1]} needs {needs(fits[-1])[0]:,}" if fits else "no smaller level fits either"
        raise ValueError(
            f"level={level} in dimension {rank} needs matrices of {rows:,} rows and {memory / 2**30:.1f} GiB, beyond "
            f"{MAX_ROWS:,} rows or {MAX_MEMORY / 2**30:.0f} GiB; {advice}."
        )
    return rows


class Geometry:
    """The data in an orthonormal basis of its row space: unit rows, their lengths and features.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    level : int
        Degree of the polynomials.
    basis : array of shape (rank, n_features), optional
        Orthonormal rows; by default right singular vectors.
    n_blocks : int, default=1
        Matrices of unknowns that will be kept, for the forecast of memory.
    """

    def __init__(self, X: NDArray, level: int, basis: NDArray | None = None, n_blocks: int = 1):
        if basis is None:
            _, singular, basis = np.linalg.svd(X, full_matrices=False)
            basis = basis[: max(int((singular > RANK_TOL * singular.max(initial=0.0)).sum()), 1)]
        rank = len(basis)
        self.rows = forecast(len(X), rank, level, n_blocks)
        self.basis, self.Z = basis, X @ basis.T
        #: What the basis leaves out of each row: rounding.
        self.lost = np.linalg.norm(X - self.Z @ basis, axis=1)
        self.lengths = np.linalg.norm(self.Z, axis=1)
        self.forms = Forms(rank, level)
        self.V = self.forms.features(unit_rows(self.Z))


@dataclass(frozen=True, eq=False)
class Squares:
    """Evidence that no neuron of one output and one sign has a price above a bound.

    Attributes
    ----------
    level : int
        Degree of the polynomials.
    output, sign : int
        The neurons it is about: their prices are t^T (X u)_+ + lift t^T X u with t = sign * kink * theta[:, output].
    above : array of shape (n_samples + 1, n_free)
        Square roots of the touching points from above, for each sample and, last, for X^T t; used where t_i > 0.
    below : array of shape (n_samples, n_free)
        The same from below, used where t_i < 0.
    W : array of shape (n_rows, n_rows)
        A matrix whose form vanishes, on the weighted monomials in the coordinates of ``basis``.
    basis : array of shape (rank, n_features)
        Orthonormal basis of the row space of X.
    bound : float
        Upper bound on the price over |u| <= 1.
    """

    level: int
    output: int
    sign: int
    above: NDArray
    below: NDArray
    W: NDArray
    basis: NDArray
    bound: float

    def scaled(self, size: float) -> Squares:
        """The evidence for size * t."""
        return replace(self, W=size * self.W, bound=size * self.bound)

    def check(self, price: Price, geometry: Geometry | None = None) -> float:
        """A valid bound on a price over |u| <= 1 from what is stored, without optimisation.

        Whatever is stored: touching points in (0, 1] give one-sided polynomials, W is projected on the matrices whose
        forms vanish, and what the basis B leaves out of the rows of X is added, so that wrong entries only make the
        bound larger: t^T (X u)_+ <= |B| max_v t^T (X B^T v)_+ + sum_i |t_i| |x_i - B^T B x_i|. So are rounding errors.

        Parameters
        ----------
        price : Price
            With t = sign * kink * theta[:, output].
        geometry : Geometry, optional
            Of its rows and the level, when it is there already.

        Returns
        -------
        bound : float

        Raises
        ------
        ValueError
            When shapes do not fit the data or touching points lie outside (0, 1].
        """
        X, t = price.X, price.t
        if self.basis.ndim != 2 or self.basis.shape[1:] != X.shape[1:] or not np.isfinite(self.basis).all():
            raise ValueError(f"basis must be finite and have {X.shape[1]} columns, got shape {self.basis.shape}.")
        geometry = geometry or Geometry(X, self.level, self.basis)
        rows, n = geometry.rows, len(geometry.Z)
        high, low = free_nodes(self.level)
        shapes = {"above": (n + 1, high), "below": (n, low), "W": (rows, rows)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite and of shape {shape} for these data, got {value.shape}.")
            if name != "W" and not ((value > 0) & (value <= 1)).all():
                raise ValueError(f"touching points {name} must lie in (0, 1]: others give no one-sided polynomial.")
        W = geometry.forms.vanishing(0.5 * (self.W + self.W.T))
        positive, negative = np.maximum(t, 0.0), np.maximum(-t, 0.0)
        block = Block(geometry, positive, negative, self.above, self.below, 1 + 2 * price.lift)
        top = eigvalsh(block.Q + W, subset_by_index=(rows - 1, rows - 1))[0]
        rounding = 8 * EPS * (rows + n) * (max(1.0, abs(block.lean)) * block.size + np.linalg.norm(W))
        size = np.linalg.norm(geometry.basis, 2)
        return float(0.5 * size * max(top + rounding, 0.0) + (1 + abs(price.lift)) * (np.abs(t) @ geometry.lost))


class Block:
    """The form of one output and sign, at given weights and touching points, with L = lean X^T t."""

    def __init__(self, geometry, positive, negative, above, below, lean=1.0):
        self.geometry, self.lean, forms = geometry, lean, geometry.forms
        self.L = lean * ((positive - negative) @ geometry.Z)
        self.length = float(np.linalg.norm(self.L))
        self.direction = unit_rows(self.L[None])
        self.V = forms.features(self.direction)
        self.above, self.d_above = touching(forms.level, True, above)
        self.below, self.d_below = touching(forms.level, False, below)
        self.positive, self.negative = positive * geometry.lengths, negative * geometry.lengths
        C = self.positive[:, None] * self.above[:-1] - self.negative[:, None] * self.below
        self.Q = forms.collect((geometry.V, C), (self.V, self.length * self.above[-1:]))
        sizes = [np.abs(c).sum(axis=1) + 2 for c in (self.above, self.below)]
        self.size = self.positive @ sizes[0][:-1] + self.negative @ sizes[1] + self.length * sizes[0][-1]
