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
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh
from scipy.optimize import minimize
from scipy.special import expit, logit

from convexnn.problem import Problem

# Rows of the matrices beyond which a level is refused: an eigenvalue decomposition takes seconds there.
MAX_ROWS = 1500
# Singular values of X below this share of the largest are dropped, and what is dropped is added to the bound.
RANK_TOL = 1e-12
# Smoothing of the largest eigenvalue, as a share of it, from stage to stage.
SMOOTHING = (0.1, 0.03, 0.01, 0.003, 0.001)
# Corrections that L-BFGS remembers.
MEMORY = 12
RHO = 10.0
BLUR = 1.0
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
        self.sizes = [len(w) for w in words]
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

    def collect(self, V: list[NDArray], C: NDArray) -> NDArray:
        """Matrix of the form sum_i sum_j C_ij (x_i^T u)^(2j) |u|^(2k-2j), given the features V of the rows x_i."""
        A = np.full((1, 1), C[:, 0].sum())
        for j, (at, factor) in enumerate(self._contract, 1):
            raised = (V[j] * C[:, j, None]).T @ V[j]
            for i in range(self.r):
                raised[np.ix_(at[i], at[i])] += np.outer(factor[i], factor[i]) * A
            A = raised
        return A

    def traces(self, Y: NDArray) -> list[NDArray]:
        """Partial traces Y_0 .. Y_k; the adjoint of ``collect`` takes v_j^T Y_j v_j."""
        parts = [Y]
        for at, factor in reversed(self._contract):
            Y = sum(np.outer(factor[i], factor[i]) * Y[np.ix_(at[i], at[i])] for i in range(self.r))
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


def touching(level: int, above: bool, nodes: NDArray) -> tuple[NDArray, list[NDArray]]:
    r"""Polynomials in tau on one side of sqrt(tau) on [0, 1], by Hermite interpolation.

    With f = sqrt, a = s^2, and so on, the divided differences over double nodes are

        f[a, a] = 1 / 2s,   f[a, a, b] = -1 / (2s (s + p)^2),
        f[a, a, b, c] = (2s + p + q) / (2s (s + p)^2 (s + q)^2 (p + q)).

    Parameters
    ----------
    level : int
        Degree, 1 to 3.
    above : bool
        The nodes are (a, a), (a, a, 1), (a, a, b, b) from above and (0, 1), (0, a, a), (0, a, a, 1) from below.
    nodes : array of shape (n, n_free)
        Square roots s (and p) of the nodes that are free, in (0, 1].

    Returns
    -------
    coefficients : array of shape (n, level + 1)
        Of 1, tau, tau^2, ...
    slopes : list of arrays of that shape
        Derivatives in each free node.
    """
    n = len(nodes)
    if level == 1 and not above:
        return np.tile([0.0, 1.0], (n, 1)), []
    s = nodes[:, 0]
    p = nodes[:, 1] if nodes.shape[1] > 1 else np.full(n, 1.0 if above and level == 2 else 0.0)
    q = p if above else np.ones(n)
    differences = [s, 0.5 / s, -0.5 / (s * (s + p) ** 2)]
    if level == 3:
        differences.append((2 * s + p + q) / (2 * s * (s + p) ** 2 * (s + q) ** 2 * (p + q)))
    differences = differences[: level + 1]
    basis = [np.eye(level + 1)[:1].repeat(n, axis=0)]
    for root in (s, s, p)[:level]:
        basis.append(np.roll(basis[-1], 1, axis=1) - (root**2)[:, None] * basis[-1])
    coefficients = sum(f[:, None] * b for f, b in zip(differences, basis))
    # d f[a, a, ...] / da = 2 f[a, a, a, ...]: only the last difference counts, over one node a fewer.
    last = differences[-1]
    change = [-1 / s, -1 / s - 2 / (s + p), 2 / (2 * s + p + q) - 1 / s - 2 / (s + p) - 2 / (s + q)][level - 1]
    others = (p, q)[: level - 1]
    slopes = [(last * change)[:, None] * _product((s, *others), level)]
    if level == 3 and above:
        slopes.append((last * (-1 / p - 3 / (s + p)))[:, None] * _product((s, s, p), level))
    return coefficients, slopes


def _product(roots, level):
    """Coefficients of prod (tau - root^2)."""
    total = np.eye(level + 1)[:1].repeat(len(roots[0]), axis=0)
    for root in roots:
        total = np.roll(total, 1, axis=1) - (root**2)[:, None] * total
    return total


def quadrature(level: int, above: bool, m: NDArray) -> NDArray:
    """Square roots of the nodes whose polynomial has the least mean, for tau of moments m = (1, m_1, .. m_k).

    They are the free nodes of the quadrature rules of Gauss, Radau and Lobatto.
    """
    if level == 1:
        nodes = [m[1]] if above else []
    elif level == 2:
        nodes = [(m[1] - m[2]) / (1 - m[1]) if above else m[2] / m[1]]
    elif not above:
        nodes = [(m[2] - m[3]) / (m[1] - m[2])]
    else:
        nodes = np.roots(np.append(1.0, np.linalg.solve([[m[1], 1.0], [m[2], m[1]]], [-m[2], -m[3]])))
    return np.sqrt(np.clip(np.array(nodes), 1e-4, 0.99))


class Geometry:
    """The data in an orthonormal basis of its row space, as unit rows and their features.

    Attributes
    ----------
    lengths : array of shape (n,)
        Lengths of the rows.
    lost : array of shape (n,)
        Length of what the basis leaves out of each row, rounding.
    """

    def __init__(self, X: NDArray, level: int):
        _, singular, basis = np.linalg.svd(X, full_matrices=False)
        rank = max(int((singular > RANK_TOL * singular.max(initial=0.0)).sum()), 1)
        self.basis = basis[:rank]
        self.Z = X @ self.basis.T
        self.lost = np.linalg.norm(X - self.Z @ self.basis, axis=1)
        self.lengths = np.linalg.norm(self.Z, axis=1)
        rows = forecast(len(X), rank, level)
        self.forms = Forms(rank, level)
        self.V = self.forms.features(unit_rows(self.Z))
        self.size = rows


def unit_rows(Z: NDArray) -> NDArray:
    """Rows of unit length, the first unit vector in place of zero."""
    lengths = np.linalg.norm(Z, axis=1, keepdims=True)
    return np.where(lengths > 0, Z / np.where(lengths > 0, lengths, 1.0), np.eye(1, Z.shape[1]))


def forecast(n: int, rank: int, level: int) -> int:
    """Rows of the matrices of a level; ValueError when they are too many."""
    if level not in (1, 2, 3):
        raise ValueError(f"level must be 1, 2 or 3, got {level!r}.")
    rows = comb(rank + level - 1, level)
    if rows > MAX_ROWS:
        lower = max((k for k in (1, 2) if comb(rank + k - 1, k) <= MAX_ROWS), default=None)
        memory = 8 * (rows**2 * 40 + n * rows * 3) / 2**30
        advice = f"level={lower} has {comb(rank + lower - 1, lower):,}" if lower else "no level is small enough"
        raise ValueError(
            f"level={level} in dimension {rank} needs matrices of {rows:,} rows and about {memory:.1f} GiB, more than "
            f"the {MAX_ROWS:,} rows that are feasible; {advice}."
        )
    return rows


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
        A matrix whose form vanishes, on the weighted monomials in the coordinates of the right singular vectors of X.
    bound : float
        Upper bound on the price over |u| <= 1.
    """

    level: int
    output: int
    sign: int
    above: NDArray
    below: NDArray
    W: NDArray
    bound: float

    def check(self, X: NDArray, t: NDArray, geometry: Geometry | None = None) -> float:
        """A valid bound on t^T (X u)_+ over |u| <= 1 from what is stored, without optimisation.

        Whatever is stored: touching points in (0, 1] give one-sided polynomials, and W is projected on the matrices
        whose forms vanish, so that wrong entries only make the bound larger. Rounding errors are added.

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
        geometry = geometry or Geometry(np.asarray(X, dtype=float), self.level)
        rows, n = geometry.size, len(geometry.Z)
        shapes = {"above": (n + 1, 1 + (self.level == 3)), "below": (n, int(self.level > 1)), "W": (rows, rows)}
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
        lost = 2 * float(np.abs(t) @ geometry.lost)
        return max(0.5 * (float(top) + rounding + lost), 0.0)


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
        self.Q = forms.collect(geometry.V, C) + forms.collect(self.V, self.length * self.above[-1:])
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
        self.geometry = Geometry(problem.design.X, level)
        self.level, self.n = level, len(problem.y)
        self.blocks = [(o, sign) for o in range(problem.design.n_outputs) for sign in (1, -1)]
        rows = self.geometry.size
        self._upper = np.triu_indices(rows) if level > 1 else np.triu_indices(0)
        self._root = np.where(self._upper[0] == self._upper[1], 1.0, np.sqrt(2.0))
        n_above, n_below = 1 + (level == 3), int(level > 1)
        self._cuts = np.cumsum([len(self._root), (self.n + 1) * n_above, self.n * n_below])
        # A node matters by the weight of one sample only; what is comparable in size is searched faster.
        self.node_scale = 0.3 * np.sqrt(self.n)

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

    def parts(self, row: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """W, above and below of one block."""
        w, high, low = np.split(row, self._cuts[:-1])
        W = np.zeros((self.geometry.size, self.geometry.size))
        W[self._upper] = w / self._root
        W += np.triu(W, 1).T
        above, below = (np.clip(expit(v * self.node_scale), 1e-3, 1.0) for v in (high, low))
        return W, above.reshape(self.n + 1, -1), below.reshape(self.n, -1)

    def price(self, theta: NDArray, x: NDArray, mu: float, blur: float):
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
    """A feasible dual point over all neurons, with the evidence.

    Attributes
    ----------
    theta : array, shape of the predictions
        Dual point, scaled: no neuron of unit norm has a price above alpha, and it is orthogonal to the free columns.
    evidence : list of Squares
        One for each output and sign, their bounds those of theta.
    lower_bound : float
        On the objective of every two-layer network of any width (with several outputs: whose neurons feed one each).
    history : list of tuples
        (seconds, lower bound) after each stage.
    """

    theta: NDArray
    evidence: list[Squares]
    lower_bound: float
    history: list[tuple[float, float]]


class Search:
    """Stages of L-BFGS and the best point of all evaluations; every one of them is a valid bound."""

    def __init__(self, problem: Problem, relaxed: Relaxed, max_time: float | None, callback: Callable | None):
        self.problem, self.relaxed, self.callback = problem, relaxed, callback
        self.began = time.perf_counter()
        self.until = np.inf if max_time is None else self.began + max_time
        self.best: tuple = (-np.inf, None, None)
        self.history: list[tuple[float, float]] = []

    def record(self, theta, x, top):
        bound = self.problem.dual_value(theta / max(1.0, top))
        if bound > self.best[0] or self.best[1] is None:
            self.best = bound, theta.copy(), x.copy()

    def stage(self, function, x, tol, max_iter):
        """A minimiser of a smooth function, or the last iterate when the time is over."""
        kept = [x]

        def watch(v):
            kept[0] = v
            if time.perf_counter() > self.until:
                raise StopIteration

        options = {"maxiter": max_iter, "maxcor": MEMORY, "ftol": tol, "gtol": 1e-12, "maxfun": 10 * max_iter}
        minimize(function, x, jac=True, method="L-BFGS-B", options=options, callback=watch)
        self.history.append((time.perf_counter() - self.began, self.best[0]))
        if self.callback is not None:
            self.callback(*self.history[-1])
        return kept[0]

    @property
    def late(self) -> bool:
        return time.perf_counter() > self.until

    def fixed(self, theta, x, smoothing):
        """Best touching points and vanishing matrices at one theta."""
        for mu in smoothing:

            def smoothed(v, mu=mu):
                at = v.reshape(x.shape)
                value, top, _, slope = self.relaxed.price(theta, at, mu, 0.0)
                self.record(theta, at, top)
                return value, slope.ravel()

            x = self.stage(smoothed, x.ravel(), 3e-6, 300).reshape(x.shape)
            if self.late:
                break
        return x

    def joint(self, theta, x, smoothing):
        r"""Maximise the dual value over theta as well.

        theta = -gradient of the loss at predictions z, which keeps it in the domain of the conjugate, the intercept
        profiled out. There the dual value is L(z) + theta^T z, and its gradient in theta is z. That the largest price
        M is at most 1 enters by an augmented Lagrangian, whose multiplier is theta^T z at the optimum.
        """
        problem = self.problem
        top = self.relaxed.price(theta, x, smoothing[0], 0.0)[1]
        theta = theta / max(1.0, top)
        z = predictions(problem, theta)
        unit = problem.loss_value(np.zeros_like(z) + problem.null_model[0])
        multiplier = max(float(np.vdot(theta, z)) / unit, 0.01)
        stretch = np.sqrt(unit / max(problem.loss.lipschitz * problem.sample_weight.mean(), 1e-300))
        c = problem.best_intercept(z)
        for mu in smoothing:
            base, rho, memo = z.copy(), RHO * multiplier, {}

            def lagrangian(v, mu=mu, base=base, rho=rho, multiplier=multiplier, memo=memo):
                nonlocal c
                z, at = base + stretch * v[: base.size].reshape(base.shape), v[base.size :].reshape(x.shape)
                c = problem.best_intercept(z, c)
                theta = -problem.gradient(z + c)
                blur = BLUR * mu * np.sqrt(np.mean(theta**2))
                value, top, d_theta, d_x = self.relaxed.price(theta, at, mu, blur)
                self.record(theta, at, top)
                force = max(0.0, multiplier + rho * (value - 1))
                dual = problem.loss_value(z + c) + float(np.vdot(theta, z + c))
                d_z = through(problem, z + c, force * d_theta.reshape(z.shape) - (z + c) / unit)
                memo.update(force=force, pull=d_theta.reshape(z.shape))
                return force**2 / (2 * rho) - dual / unit, np.concatenate([stretch * d_z.ravel(), force * d_x.ravel()])

            v = self.stage(lagrangian, np.concatenate([np.zeros(z.size), x.ravel()]), 1e-6, 400)
            lagrangian(v)
            z, x = base + stretch * v[: z.size].reshape(z.shape), v[z.size :].reshape(x.shape)
            multiplier = max(memo["force"], 0.1 * multiplier)
            print("   mu", mu, "mult", multiplier, "hist", self.history[-1])
            if self.late:
                break


def predictions(problem: Problem, theta: NDArray) -> NDArray:
    """z with theta = -gradient of the loss at z, nearly: a small ridge stands for what the edges of its domain lack."""
    weights = problem.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
    ridge = 1e-6 * problem.loss.lipschitz

    def tilted(v):
        z = v.reshape(theta.shape)
        value = problem.loss_value(z) + np.vdot(theta, z) + 0.5 * ridge * np.vdot(z, weights * z)
        return value, (problem.gradient(z) + theta + ridge * weights * z).ravel()

    return minimize(tilted, np.zeros(theta.size), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x.reshape(
        theta.shape
    )


def through(problem: Problem, z: NDArray, g: NDArray) -> NDArray:
    """Gradient in z of a function whose gradient in theta = -gradient of the loss, intercept profiled out, is g."""
    n, m, C = *problem.free.shape, problem.design.n_outputs
    h = problem.loss.hessian(problem.y, z).reshape(n, C, C) * problem.sample_weight[:, None, None]
    g = g.reshape(n, C)
    if m:
        gram = np.einsum("na,nop,nb->aobp", problem.free, h, problem.free).reshape(m * C, m * C)
        right = np.einsum("na,nop,np->ao", problem.free, h, g).ravel()
        g = g - problem.free @ np.linalg.lstsq(gram, right, rcond=1e-12)[0].reshape(m, C)
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
    """docs"""
    if not problem.smooth:
        raise ValueError(f"the loss must have a Lipschitz gradient, got {problem.loss.name!r}.")
    relaxed = Relaxed(problem, level)
    search = Search(problem, relaxed, max_time, callback)
    theta = problem._balanced(np.asarray(theta, dtype=float)) if problem.free.shape[1] else theta
    x = relaxed.start()
    try:
        x = search.fixed(theta, x, SMOOTHING[:2] if optimise else SMOOTHING)
        if optimise and not search.late:
            search.joint(theta, x, SMOOTHING[1:])
    except KeyboardInterrupt:
        pass
    return search.finish() if False else search
