r"""Pricing from above: sums of squares bound the price of every neuron, and so the objective of every network.

The price of a neuron of unit norm is t^T (X u)_+, t = +theta or -theta. With (z)_+ = (z + |z|) / 2 and L = X^T t

    2 max_u t^T (X u)_+ = max_u |L^T u| + sum_i t_i |x_i^T u|,   |u| = 1.

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
.. [3] Yu. Nesterov, Smoothing technique and its applications in semidefinite optimization, Math. Program. 110 (2007).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations_with_replacement
from math import comb, factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh
from scipy.optimize import minimize
from scipy.special import expit, logit

from convexnn.problem import Problem

# Rows of the matrices beyond which a level is refused: an eigenvalue decomposition takes seconds there.
MAX_ROWS = 1500
# Bytes beyond which a level is refused.
MAX_MEMORY = 2**33
# Singular values of X below this share of the largest are dropped, and what is dropped is added to the bound.
RANK_TOL = 1e-12
# Smoothing of the largest eigenvalue, in units of alpha, from stage to stage.
SMOOTHING = (0.1, 0.03, 0.01, 0.003, 0.001)
# Corrections that L-BFGS remembers.
MEMORY = 12
# Penalty of the augmented Lagrangian, in units of the multiplier.
RHO = 30.0
# Units of the unknowns: touching points matter by the weight of one sample each, theta by its part in the loss.
NODE_UNIT = 0.3
THETA_UNIT = 0.1
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


def quadrature(level: int, above: bool, m: NDArray) -> NDArray:
    """Square roots of the double nodes whose polynomial has the least mean, for tau of moments m = (1, m_1, .. m_k).

    They are those of Gauss, Radau and Lobatto: of Gauss for the moments of tau or 1 - tau times tau^j, where 0 or 1 is
    a simple node.
    """
    count = free_nodes(level)[0 if above else 1]
    m = m if above else m[1:]
    m = m[:-1] - m[1:] if (level % 2 == 0) == above else m
    if not count:
        return np.zeros(0)
    powers = np.add.outer(np.arange(count), np.arange(count))
    monomials = np.linalg.solve(m[powers], -m[count : 2 * count])
    return np.sqrt(np.clip(np.roots([1.0, *monomials[::-1]]).real, 1e-4, 0.99))


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
        The neurons it is about: their prices are t^T (X u)_+ with t = sign * theta[:, output].
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

    def check(self, X: NDArray, t: NDArray, geometry: Geometry | None = None) -> float:
        """A valid bound on t^T (X u)_+ over |u| <= 1 from what is stored, without optimisation.

        Whatever is stored: touching points in (0, 1] give one-sided polynomials, W is projected on the matrices whose
        forms vanish, and what the basis B leaves out of the rows of X is added, so that wrong entries only make the
        bound larger: t^T (X u)_+ <= |B| max_v t^T (X B^T v)_+ + sum_i |t_i| |x_i - B^T B x_i|. So are rounding errors.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if there are hidden biases.
        t : array of shape (n_samples,)
            sign * theta[:, output].
        geometry : Geometry, optional
            Of X and the level, when it is there already.

        Returns
        -------
        bound : float

        Raises
        ------
        ValueError
            When shapes do not fit the data or touching points lie outside (0, 1].
        """
        X = np.asarray(X, dtype=float)
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
        if t.shape != (n,) or not np.isfinite(t).all():
            raise ValueError(f"t must be finite and of shape {(n,)}, got {t.shape}.")
        W = geometry.forms.vanishing(0.5 * (self.W + self.W.T))
        positive, negative = np.maximum(t, 0.0), np.maximum(-t, 0.0)
        block = Block(geometry, positive, negative, self.above, self.below)
        top = eigvalsh(block.Q + W, subset_by_index=(rows - 1, rows - 1))[0]
        rounding = 8 * EPS * (rows + n) * (block.size + np.linalg.norm(W))
        size = np.linalg.norm(geometry.basis, 2)
        return float(0.5 * size * max(top + rounding, 0.0) + np.abs(t) @ geometry.lost)


class Block:
    """The form of one output and sign, at given weights and touching points."""

    def __init__(self, geometry, positive, negative, above, below):
        self.geometry, forms = geometry, geometry.forms
        self.L = (positive - negative) @ geometry.Z
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

    def gradients(self, Y):
        """Of <Q, Y>: in positive, negative, above and below."""
        forms, lengths = self.geometry.forms, self.geometry.lengths
        parts = forms.traces(Y)
        moments = np.concatenate([forms.moments(self.geometry.V, parts), forms.moments(self.V, parts)])
        high, low = (self.above * moments).sum(axis=1), (self.below * moments[:-1]).sum(axis=1)
        slope = forms.slope(self.V, parts, self.above[-1])
        by_L = high[-1] * self.direction[0] + slope - (slope @ self.direction[0]) * self.direction[0]
        by_t = self.geometry.Z @ by_L
        weights = np.append(self.positive, self.length)
        above = [weights * (d * moments).sum(axis=1) for d in self.d_above]
        below = [-self.negative * (d * moments[:-1]).sum(axis=1) for d in self.d_below]
        shape = (-1, len(weights))
        return (
            lengths * high[:-1] + by_t,
            -lengths * low - by_t,
            np.reshape(above, shape).T,
            np.reshape(below, (len(below), len(low))).T,
        )


class Relaxed:
    """The largest price of a level, smoothed, as a function of theta, touching points and vanishing matrices.

    All in units of alpha: theta is feasible where the largest price is at most 1.
    """

    def __init__(self, problem: Problem, level: int):
        self.problem = problem
        self.geometry = Geometry(problem.design.X, level, n_blocks=2 * problem.design.n_outputs)
        self.level, self.n = level, len(problem.y)
        self.blocks = [(o, sign) for o in range(problem.design.n_outputs) for sign in (1, -1)]
        rows = self.geometry.rows
        self._upper = np.triu_indices(rows) if level > 1 else np.triu_indices(0)
        self._root = np.where(self._upper[0] == self._upper[1], 1.0, np.sqrt(2.0))
        n_above, n_below = free_nodes(level)
        self._cuts = np.cumsum([len(self._root), (self.n + 1) * n_above, self.n * n_below])
        self.node_scale = NODE_UNIT * np.sqrt(self.n)

    def start(self) -> NDArray:
        """Touching points for u uniform on the sphere and no vanishing matrices, shape (n_blocks, n_unknowns)."""
        # In one dimension tau is 1; two keep the moments of the rules apart.
        r, m = max(self.geometry.forms.r, 2), np.ones(self.level + 1)
        for j in range(self.level):
            m[j + 1] = m[j] * (2 * j + 1) / (r + 2 * j)
        x = np.zeros((len(self.blocks), self._cuts[-1]))
        _, high, low = np.split(x, self._cuts[:-1], axis=1)
        high[:] = np.tile(logit(quadrature(self.level, True, m)) / self.node_scale, self.n + 1)
        low[:] = np.tile(logit(quadrature(self.level, False, m)) / self.node_scale, self.n)
        return x

    def scaled(self, x: NDArray, size: float) -> NDArray:
        """The unknowns that fit size * theta."""
        x = x.copy()
        x[:, : self._cuts[0]] *= size
        return x

    def parts(self, row: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """W, above and below of one block."""
        w, high, low = np.split(row, self._cuts[:-1])
        W = np.zeros((self.geometry.rows, self.geometry.rows))
        W[self._upper] = w / self._root
        W += np.triu(W, 1).T
        above, below = (np.clip(expit(v * self.node_scale), 1e-3, 1.0) for v in (high, low))
        return W, above.reshape(self.n + 1, -1), below.reshape(self.n, -1)

    def price(self, theta: NDArray, x: NDArray, mu: float, blur: float = 0.0):
        """Smoothed and exact largest eigenvalue, and the gradients of the smoothed one in theta and x."""
        scale = 0.5 / self.problem.alpha
        theta = theta.reshape(self.n, -1)
        found = []
        for (o, sign), row in zip(self.blocks, x):
            t = sign * theta[:, o]
            size = np.sqrt(t**2 + blur**2)
            W, above, below = self.parts(row)
            block = Block(self.geometry, 0.5 * (size + t), 0.5 * (size - t), above, below)
            values, vectors = eigh(scale * block.Q + W, driver="evd", check_finite=False, overwrite_a=True)
            found.append((block, above, below, t / np.where(size > 0, size, 1.0), values, vectors))
        top = max(f[4][-1] for f in found)
        shares = [np.exp(np.maximum((f[4] - top) / mu, -700.0)) for f in found]
        total = sum(s.sum() for s in shares)
        d_theta, d_x = np.zeros_like(theta), np.zeros_like(x)
        for (o, sign), (block, above, below, side, _, vectors), share, d in zip(self.blocks, found, shares, d_x):
            keep = share > 1e-13 * total
            Y = (vectors[:, keep] * (share[keep] / total)) @ vectors[:, keep].T
            up, down, high, low = block.gradients(Y)
            d_theta[:, o] += sign * scale * (0.5 * (1 + side) * up + 0.5 * (side - 1) * down)
            w, d_high, d_low = np.split(d, self._cuts[:-1])
            if len(w):
                w[:] = self.geometry.forms.vanishing(Y)[self._upper] * self._root
            d_high[:] = (high * above * (1 - above)).ravel() * scale * self.node_scale
            d_low[:] = (low * below * (1 - below)).ravel() * scale * self.node_scale
        return top + mu * np.log(total), top, d_theta, d_x


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A dual point that is feasible over all neurons, with the evidence.

    Attributes
    ----------
    theta : array, shape of the predictions
        The dual point, scaled already: orthogonal to the free columns, and no neuron of unit norm has a price above
        alpha.
    evidence : list of Squares
        One for each output and sign; their bounds are those at theta.
    lower_bound : float
        Its dual value: a lower bound on the objective of every two-layer network of any width (with several outputs:
        whose neurons feed one output each).
    history : list of tuples
        (seconds, lower bound) after each stage.
    """

    theta: NDArray
    evidence: list[Squares]
    lower_bound: float
    history: list[tuple[float, float]]


class Search:
    """Stages of L-BFGS, and the best point of all evaluations: each of them is a valid bound."""

    def __init__(self, problem: Problem, theta: NDArray, level: int, max_time: float | None, callback):
        self.problem, self.relaxed, self.callback = problem, Relaxed(problem, level), callback
        self.began = time.perf_counter()
        self.until = np.inf if max_time is None else self.began + max_time
        self.theta, self.x, self.bound, self.top = theta, self.relaxed.start(), -np.inf, np.inf
        self.history: list[tuple[float, float]] = []

    @property
    def late(self) -> bool:
        return time.perf_counter() > self.until

    def record(self, theta: NDArray, x: NDArray, top: float) -> None:
        bound = self.problem.dual_value(theta / max(1.0, top))
        if (bound, -top) > (self.bound, -self.top):
            self.bound, self.top, self.theta, self.x = bound, top, theta.copy(), x.copy()

    def minimise(self, function, x: NDArray, tol: float) -> NDArray:
        """A minimiser of a smooth function, or the last iterate when the time is over."""
        last = [x]

        def watch(v):
            last[0] = v
            if self.late:
                raise StopIteration

        options = {"maxiter": 400, "maxcor": MEMORY, "ftol": tol, "gtol": 1e-12}
        minimize(function, x, jac=True, method="L-BFGS-B", options=options, callback=watch)
        self.history.append((time.perf_counter() - self.began, self.bound))
        if self.callback is not None:
            self.callback(*self.history[-1])
        return last[0]

    def fixed(self, theta: NDArray, x: NDArray, smoothing: tuple[float, ...]) -> NDArray:
        """Touching points and vanishing matrices that make the largest price of theta small."""
        shape = x.shape
        # Far from feasible, smoothing in units of alpha would be none at all.
        size = max(1.0, 0.5 * self.relaxed.price(theta, x, 1.0)[1])
        for mu in smoothing:

            def smoothed(v, mu=mu * size):
                at = v.reshape(shape)
                value, top, _, slope = self.relaxed.price(theta, at, mu)
                self.record(theta, at, top)
                return value, slope.ravel()

            if not self.late:
                x = self.minimise(smoothed, x.ravel(), 3e-6).reshape(shape)
        return x

    def joint(self, theta: NDArray, x: NDArray, smoothing: tuple[float, ...]) -> None:
        r"""Maximise the dual value over theta as well.

        theta is minus the gradient of the loss at predictions z, the intercept profiled out: so it is orthogonal to
        the free columns and inside the domain of the conjugate. Its dual value is L(z) + theta^T z, and the gradient
        of that in theta is z. That the largest price M is at most 1 enters by an augmented Lagrangian; the multiplier
        is theta^T z at the optimum, where z is the multiplier times the gradient of M.
        """
        problem = self.problem
        top = max(1.0, self.relaxed.price(theta, x, smoothing[0])[1])
        theta, x = theta / top, self.relaxed.scaled(x, 1 / top)
        z = predictions(problem, theta)
        unit = problem.loss_value(np.zeros_like(z) + problem.null_model[0])
        multiplier = max(float(np.vdot(theta, z)) / unit, 0.01)
        stretch = THETA_UNIT * np.sqrt(unit / (problem.loss.lipschitz * problem.sample_weight.mean()))
        state: dict[str, Any] = {"c": problem.best_intercept(z)}
        shape = x.shape
        for mu in smoothing:
            base, rho = z.copy(), RHO * multiplier

            def lagrangian(v, mu=mu, base=base, rho=rho, multiplier=multiplier):
                z, at = base + stretch * v[: base.size].reshape(base.shape), v[base.size :].reshape(shape)
                state["c"] = problem.best_intercept(z, state["c"])
                z = z + state["c"]
                theta = -problem.gradient(z)
                # A sample at theta_i = 0 has a kink, rounded off by a polynomial on each side.
                value, top, d_theta, d_x = self.relaxed.price(theta, at, mu, mu * np.sqrt(np.mean(theta**2)))
                self.record(theta, at, top)
                force = max(0.0, multiplier + rho * (value - 1))
                dual = problem.loss_value(z) + float(np.vdot(theta, z))
                state.update(force=force, pull=force * d_theta.reshape(z.shape), z=z)
                d_z = stretch * through(problem, z, state["pull"] - z / unit)
                return force**2 / (2 * rho) - dual / unit, np.concatenate([d_z.ravel(), force * d_x.ravel()])

            if self.late:
                break
            v = self.minimise(lagrangian, np.concatenate([np.zeros(z.size), x.ravel()]), 1e-6)
            lagrangian(v)
            z, x = base + stretch * v[: z.size].reshape(z.shape), v[z.size :].reshape(shape)
            multiplier = max(state["force"], 0.1 * multiplier)
            if z.ndim == 1:
                # On a linear part of the loss theta does not depend on z: there z is what it is at an optimum.
                flat = problem.loss.hessian(problem.y, state["z"]) == 0
                z[flat] = unit * state["pull"][flat]

    def finish(self) -> Relaxation:
        """The best point made feasible, and the evidence checked."""
        problem, relaxed = self.problem, self.relaxed
        theta = problem._balanced(self.theta) if problem.free.shape[1] else self.theta
        parts, basis = [relaxed.parts(row) for row in self.x], relaxed.geometry.basis
        columns = [(o, sign, sign * theta.reshape(relaxed.n, -1)[:, o]) for o, sign in relaxed.blocks]

        def evidence(size):
            found = []
            for (o, sign, t), (W, above, below) in zip(columns, parts):
                square = Squares(relaxed.level, o, sign, above, below, 2 * problem.alpha * size * W, basis, np.inf)
                bound = square.check(problem.design.X, size * t, relaxed.geometry)
                found.append(replace(square, bound=bound))
            return found

        price = max(square.bound for square in evidence(1.0))
        size = min(1.0, problem.alpha / price * (1 - 1e-12)) if price > 0 else 1.0
        if not np.isfinite(problem.dual_value(size * theta)):
            # No loss here falls below zero, and zero is feasible.
            size = 0.0
        return Relaxation(size * theta, evidence(size), problem.dual_value(size * theta), self.history)


def predictions(problem: Problem, theta: NDArray) -> NDArray:
    """z with theta = -gradient of the loss at z, but for a ridge, since there is none at the edge of the domain."""
    weights = problem.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
    ridge = 1e-6 * problem.loss.lipschitz

    def tilted(v):
        z = v.reshape(theta.shape)
        value = problem.loss_value(z) + np.vdot(theta, z) + 0.5 * ridge * np.vdot(z, weights * z)
        return value, (problem.gradient(z) + theta + ridge * weights * z).ravel()

    found = minimize(tilted, np.zeros(theta.size), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x.reshape(theta.shape)


def through(problem: Problem, z: NDArray, g: NDArray) -> NDArray:
    """Gradient in z of what has gradient g in theta = -gradient of the loss at z, the intercept profiled out."""
    n, m, C = *problem.free.shape, problem.design.n_outputs
    h = problem.loss.hessian(problem.y, z).reshape(n, C, C) * problem.sample_weight[:, None, None]
    g = g.reshape(n, C)
    if m:
        hF = np.einsum("nop,nb->nobp", h, problem.free).reshape(n, C, m * C)
        gram = np.tensordot(problem.free, hF, axes=(0, 0)).reshape(m * C, m * C)
        right = problem.free.T @ np.einsum("nop,np->no", h, g)
        g = g - problem.free @ np.linalg.lstsq(gram, right.ravel(), rcond=1e-12)[0].reshape(m, C)
    return -np.einsum("nop,np->no", h, g).reshape(z.shape)


def bound_prices(
    problem: Problem,
    theta: NDArray,
    *,
    level: int = 2,
    optimise: bool = True,
    max_time: float | None = None,
    callback: Callable[[float, float], None] | None = None,
) -> Relaxation:
    r"""A lower bound on the objective of every network, of any width, by sums of squares.

    The largest price M over all neurons of unit norm is bounded at a dual point theta, which then is scaled by
    min(1, alpha / M). Touching points, vanishing matrices and, unless ``optimise`` is False, theta itself are chosen by
    L-BFGS on a smoothed largest eigenvalue, mu log tr exp(. / mu), with mu falling from stage to stage.

    Parameters
    ----------
    problem : Problem
        With a loss that has a Lipschitz gradient; which patterns it lists does not matter.
    theta : array, shape of the predictions
        Where to start: the dual point of a fitted network.
    level : {1, 2, 3, 4}, default=2
        Degree k of the polynomials. Matrices have binom(r + k - 1, k) rows in dimension r.
    optimise : bool, default=True
        Whether theta may move.
    max_time : float, optional
        Seconds after which the best point so far is returned.
    callback : callable, optional
        Called with (seconds, lower bound) after each stage. KeyboardInterrupt returns the best point so far too.

    Returns
    -------
    relaxation : Relaxation

    Raises
    ------
    ValueError
        When the loss has kinks, or the level needs too much memory: the message has the figures and a level that fits.

    Notes
    -----
    An evaluation costs two eigenvalue decompositions and O(n rows^2) for each output, a bound some hundreds of them.
    Columns of different scales make every level loose, as the polynomials are at tau near zero: standardise them. The
    bounds are loose at small alpha too, where theta balances many neurons.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn.losses import Squared
    >>> from convexnn.penalties import GroupLasso
    >>> from convexnn.problem import Design, Problem
    >>> X, y = np.array([[1.0], [-1.0]]), np.array([3.0, 1.0])
    >>> design = Design(X, np.array([[True, False]]), [0], [1.0], [0])
    >>> problem = Problem(design, y, Squared(), GroupLasso(), 1.0, np.ones(2), fit_intercept=False)
    >>> round(bound_prices(problem, np.array([1.0, 1.0])).lower_bound, 3)
    3.0
    """
    if not problem.smooth:
        raise ValueError(f"the loss must have a Lipschitz gradient, got {problem.loss.name!r}.")
    theta = np.asarray(theta, dtype=float)
    if theta.shape != problem.null_model[1].shape or not np.isfinite(theta).all():
        raise ValueError(f"theta must be finite and of shape {problem.null_model[1].shape}, got {theta.shape}.")
    theta = problem._balanced(theta) if problem.free.shape[1] else theta
    search = Search(problem, theta, level, max_time, callback)
    moves = optimise and bool(theta.any())
    try:
        x = search.fixed(theta, search.x, SMOOTHING[:1] if moves else SMOOTHING)
        before = search.bound
        if moves:
            search.joint(theta, x, SMOOTHING[1:])
            if search.bound <= before + 0.05 * abs(before):
                # The remaining stages may gain more than that where theta is nearly optimal.
                search.fixed(theta, x, SMOOTHING[1:])
    except KeyboardInterrupt:
        pass
    return search.finish()
