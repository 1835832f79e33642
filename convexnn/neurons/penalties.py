"""Penalties on blocks of coefficients, and the dictionary PENALTIES.

A penalty is sum_k |v_k| over the blocks it allows, |.| a norm; ``alpha`` belongs to the problem and reaches a prox as
part of its threshold. The prox returns, beside the new coefficients, whatever makes the next call on similar input
cheaper.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check
from convexnn.cones.free import minimise, shrink
from convexnn.cones.project import project_onto_cones
from convexnn.cones.sparse import SUPPORT_TOL, UNKNOWN, soft_threshold, sparse_norms, support, threshold_onto_cones


class Penalty(Protocol):
    """What solvers ask of a penalty on coefficients V of shape (n_blocks, n_features)."""

    #: Whether |.| leaves out the last feature.
    free_bias: bool
    #: Whether blocks are confined to cones, which makes a prox cost more than a pass over the data.
    cones: bool

    @property
    def feature_penalty(self) -> NDArray | None:
        """What |.| adds for each unit of each weight, shape (n_features,); None where it adds nothing."""

    def norms(self, V: NDArray) -> NDArray:
        """|v_k| of each block, shape (n_blocks,)."""

    def value(self, V: NDArray) -> float:
        """sum_k |v_k|, without a check that the blocks lie in their cones."""

    def prox(self, V: NDArray, threshold: float, warm: Any = None) -> tuple[NDArray, Any]:
        """Minimiser over U of |U - V|^2 / 2 + threshold * value(U), and a warm start for the next call."""

    def dual_norm(self, G: NDArray, floor: float = 0.0, warm: Any = None) -> float:
        """max_k of the support of the unit ball of block k in direction G_k; exact when above floor, else floor."""

    def maximisers(self, G: NDArray, floor: float = 0.0) -> NDArray:
        """For each block what it allows along G's maximum over |.| <= 1, with that maximum as |.|; blocks whose maximum
        is no larger than the floor are left unfinished, with |.| no larger."""

    def faces(self, V: NDArray, blocks: NDArray, warm: Any) -> tuple[NDArray, NDArray]:
        """Orthonormal bases (n, n_features, n_features) and counts (n,) for some blocks of a prox V: near it the prox
        moves block k only along the columns of its basis from count k on. ``warm`` is what the prox returned."""

    def violation(self, V: NDArray) -> float:
        """Largest distance from a block to a face of its cone that it should not cross, per unit of |v_k|."""

    def restrict(self, blocks: NDArray) -> Penalty:
        """The same penalty on some of the blocks."""

    def cvxpy(self, V: Any, samples: NDArray) -> tuple[Any, list]:
        """The value as a cvxpy expression, and the constraints that it needs, on some of the samples."""


class GroupLasso:
    r"""sum_k |v_k|: the penalty of gated ReLU networks.

    The prox is block soft thresholding (Yuan & Lin, J. R. Stat. Soc. B 68, 2006, section 2), the dual norm the
    largest block norm.
    """

    free_bias = False
    cones = False
    feature_penalty: NDArray | None = None

    def norms(self, V):
        return np.linalg.norm(V, axis=1)

    def value(self, V):
        return float(self.norms(V).sum())

    def prox(self, V, threshold, warm=None):
        return _shrunken(V, threshold), None

    def dual_norm(self, G, floor=0.0, warm=None):
        return max(floor, float(np.linalg.norm(G, axis=1).max(initial=0.0)))

    def maximisers(self, G, floor=0.0):
        return G

    def faces(self, V, blocks, warm):
        d = V.shape[1]
        return np.broadcast_to(np.eye(d), (len(blocks), d, d)), np.zeros(len(blocks), dtype=int)

    def violation(self, V):
        return 0.0

    def restrict(self, blocks):
        return self

    def cvxpy(self, V, samples):
        import cvxpy as cp

        return cp.sum(cp.norm(V, 2, axis=1)), []


class ConeGroupLasso:
    r"""sum_k |v_k| with every v_k in the cone of its activation pattern: the penalty of ReLU networks.

    For a closed convex cone K the prox of ``threshold |.| + indicator of K`` is the block shrinkage of the
    projection onto K, and the support function of K's part of the unit ball at g is |P_K g|.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    patterns : bool array of shape (n_patterns, n_samples)
        One pattern a row.
    pattern : int array of shape (n_blocks,)
        The pattern of each block.
    """

    free_bias = False
    cones = True
    feature_penalty: NDArray | None = None

    def __init__(self, X: NDArray, patterns: NDArray[np.bool_], pattern: NDArray[np.intp]):
        self.rows = _unit(X)
        self.patterns = patterns
        self.pattern = pattern

    def norms(self, V):
        return np.linalg.norm(V, axis=1)

    def value(self, V):
        return float(self.norms(V).sum())

    def prox(self, V, threshold, warm=None):
        # Beside the active rows of each block, its last P q - q, a vector of the dual cone.
        active, dual = (np.full(V.shape, -1), np.zeros_like(V)) if warm is None else (warm[0].copy(), warm[1].copy())
        out = np.zeros_like(V)
        k = np.flatnonzero(_longest(V, dual) > threshold)
        out[k], active[k] = project_onto_cones(V[k], self.rows, self.patterns[self.pattern[k]], active[k], threshold)
        dual[k] = _difference(out[k], V[k])
        return _shrunken(out, threshold), (active, dual)

    def dual_norm(self, G, floor=0.0, warm=None):
        lengths = np.linalg.norm(G, axis=1) if warm is None else _longest(G, warm[1])
        order = np.argsort(-lengths)
        for part in np.split(order, [64]):
            k = part[lengths[part] > floor]
            guess = None if warm is None else warm[0][k]
            P, _ = project_onto_cones(G[k], self.rows, self.patterns[self.pattern[k]], guess, floor)
            floor = max(floor, float(np.linalg.norm(P, axis=1).max(initial=0.0)))
        return floor

    def maximisers(self, G, floor=0.0):
        return project_onto_cones(G, self.rows, self.patterns[self.pattern], floor=floor)[0]

    def faces(self, V, blocks, warm):
        rows = np.sort(warm[0][blocks], axis=1)[:, ::-1]
        normals = self.rows[rows] * (rows >= 0)[:, :, None]
        bases = _frames(normals)
        return bases, (rows >= 0).sum(axis=1)

    def violation(self, V):
        lengths = np.linalg.norm(V, axis=1)
        k = np.flatnonzero(lengths)
        side = (V[k] @ self.rows.T) * np.where(self.patterns[self.pattern[k]], 1.0, -1.0)
        return float(np.max(-side / lengths[k, None], initial=0.0))

    def restrict(self, blocks):
        return ConeGroupLasso(self.rows, self.patterns, self.pattern[blocks])

    def cvxpy(self, V, samples):
        import cvxpy as cp

        signs = np.where(self.patterns[:, samples][self.pattern], 1.0, -1.0)
        return cp.sum(cp.norm(V, 2, axis=1)), [cp.multiply(signs, V @ self.rows[samples].T) >= 0]


class FreeBiasConeGroupLasso:
    r"""sum_k |w_k| with every v_k = (w_k, b_k) in the cone of its activation pattern: ReLU networks with free biases.

    Where all samples are active the bias is a constant that the intercept gives as well, and no end of its interval
    binds: such blocks have b = 0 and no cone. So have those of no active sample, where the activation has a slope below
    zero. The dual variable must sum to zero.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data; the last column is ones.
    patterns : bool array of shape (n_patterns, n_samples)
        One pattern a row.
    pattern : int array of shape (n_blocks,)
        The pattern of each block.
    bent : bool, default=False
        Whether the activation has a slope below zero.
    """

    free_bias = True
    cones = True
    feature_penalty: NDArray | None = None

    def __init__(self, X: NDArray, patterns: NDArray[np.bool_], pattern: NDArray[np.intp], bent: bool = False):
        self.rows = X / np.linalg.norm(X, axis=1, keepdims=True)
        self.patterns = patterns
        self.pattern = pattern
        self.bent = bent
        count = patterns.sum(axis=1)[pattern]
        self.linear = np.flatnonzero((count == patterns.shape[1]) | (bent & (count == 0)))
        size = max(1, 4_000_000 // patterns.shape[1])
        mixed = np.flatnonzero((count > 0) & (count < patterns.shape[1]))
        self.parts = [mixed[start : start + size] for start in range(0, len(mixed), size)]

    def norms(self, V):
        return np.linalg.norm(V[:, :-1], axis=1)

    def value(self, V):
        return float(self.norms(V).sum())

    def prox(self, V, threshold, warm=None):
        out = np.zeros_like(V)
        active = np.full(V.shape, -1) if warm is None else warm
        lengths = np.linalg.norm(V[self.linear, :-1], axis=1, keepdims=True)
        keep = 1 - threshold / np.maximum(lengths, max(threshold, 1e-300))
        out[self.linear, :-1] = keep * V[self.linear, :-1]
        for k in self.parts:
            out[k], active[k] = shrink(V[k], threshold, self.rows, self.patterns[self.pattern[k]], active[k])
        return out, active

    def maximisers(self, G, floor=0.0):
        V, none = np.zeros_like(G), np.full(G.shape, -1)
        V[self.linear, :-1] = G[self.linear, :-1]
        for k in self.parts:
            V[k], _, _ = minimise(G[k], np.zeros(len(k)), self.rows, self.patterns[self.pattern[k]], none[k], floor)
        return V

    def dual_norm(self, G, floor=0.0, warm=None):
        floor = max(floor, float(np.linalg.norm(G[self.linear, :-1], axis=1).max(initial=0.0)))
        for k in self.parts:
            guess = np.full((len(k), G.shape[1]), -1) if warm is None else warm[k]
            flat = np.zeros(len(k))
            U, _, _ = minimise(G[k], flat, self.rows, self.patterns[self.pattern[k]], guess, floor)
            floor = max(floor, float(np.linalg.norm(U[:, :-1], axis=1).max(initial=0.0)))
        return floor

    def faces(self, V, blocks, warm):
        rows = np.sort(warm[blocks], axis=1)[:, ::-1]
        normals = self.rows[rows] * (rows >= 0)[:, :, None]
        skip = (rows >= 0).sum(axis=1)
        linear = np.isin(blocks, self.linear)
        normals[linear] = 0.0
        normals[linear, 0, -1], skip[linear] = 1.0, 1
        return _frames(normals), skip

    def violation(self, V):
        worst = 0.0
        for k in self.parts:
            side = (V[k] @ self.rows.T) * np.where(self.patterns[self.pattern[k]], 1.0, -1.0)
            lengths = np.linalg.norm(V[k], axis=1, keepdims=True)
            worst = max(worst, float(np.max(-side / np.where(lengths > 0, lengths, 1.0), initial=0.0)))
        return worst

    def restrict(self, blocks):
        return FreeBiasConeGroupLasso(self.rows / self.rows[:, -1:], self.patterns, self.pattern[blocks], self.bent)

    def cvxpy(self, V, samples):
        import cvxpy as cp

        size = cp.sum(cp.norm(V[:, :-1], 2, axis=1))
        mixed = np.concatenate([*self.parts, np.zeros(0, dtype=int)]).astype(int)
        rest = np.setdiff1d(np.arange(V.shape[0]), mixed)
        constraints = [V[rest, -1] == 0] if len(rest) else []
        if len(mixed):
            signs = np.where(self.patterns[:, samples][self.pattern[mixed]], 1.0, -1.0)
            constraints.append(cp.multiply(signs, V[mixed] @ self.rows[samples].T) >= 0)
        return size, constraints


class SparseGroupLasso:
    r"""sum_k |v_k| + sum_k sum_j mu_j |v_kj|: gated ReLU networks that leave features out.

    The norm of a block is |v| + sum_j mu_j |v_j|, and its prox the block shrinkage of soft thresholding [1]_. The dual
    norm of g is the s at which g, soft-thresholded by s mu, is s long.

    Parameters
    ----------
    feature_penalty : array of shape (n_features,)
        mu, non-negative; 0 for the bias coordinate.

    References
    ----------
    .. [1] N. Simon, J. Friedman, T. Hastie, R. Tibshirani, A sparse-group lasso, J. Comput. Graph. Stat. 22 (2013).
    """

    free_bias = False
    cones = False

    def __init__(self, feature_penalty: NDArray):
        self.feature_penalty = feature_penalty

    def norms(self, V):
        return sparse_norms(V, self.feature_penalty)

    def value(self, V):
        return float(self.norms(V).sum())

    def prox(self, V, threshold, warm=None):
        return _shrunken(soft_threshold(V, threshold * self.feature_penalty), threshold), None

    def dual_norm(self, G, floor=0.0, warm=None):
        # Newton's method for the largest root, as in ``support``.
        while len(G):
            P = soft_threshold(G, floor * self.feature_penalty)
            above = np.linalg.norm(P, axis=1) > floor * (1 + SUPPORT_TOL)
            G, P = G[above], P[above]
            floor = float((np.einsum("kd,kd->k", G, P) / self.norms(P)).max(initial=floor))
        return floor

    def maximisers(self, G, floor=0.0):
        free = np.zeros((1, G.shape[1])), np.zeros((len(G), 1), dtype=bool)
        return self._as_long_as_its_price(support(G, self.feature_penalty, *free, floor=floor)[0])

    def _as_long_as_its_price(self, V):
        """Vectors whose lengths are prices with these as norms."""
        return V * (np.linalg.norm(V, axis=1) / np.maximum(self.norms(V), 1e-300))[:, None]

    def faces(self, V, blocks, warm):
        zero = (V[blocks] == 0) & (self.feature_penalty > 0)
        order = np.argsort(~zero, axis=1, kind="stable")
        return np.eye(V.shape[1])[order].transpose(0, 2, 1), zero.sum(axis=1)

    def violation(self, V):
        return 0.0

    def restrict(self, blocks):
        return self

    def cvxpy(self, V, samples):
        import cvxpy as cp

        return cp.sum(cp.norm(V, 2, axis=1)) + cp.sum(cp.abs(V) @ self.feature_penalty), []


class ConeSparseGroupLasso(SparseGroupLasso):
    r"""The same with every v_k in the cone of its activation pattern: ReLU networks that leave features out.

    The composition of soft thresholding and shrinkage holds for cones too: the prox of a sum of the norm and a function
    h that is positively homogeneous is the block shrinkage of the prox of h, here that of sum_j mu_j |v_j| over the
    cone. Near it the prox moves where active rows and zero coordinates stay what they are.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    patterns : bool array of shape (n_patterns, n_samples)
        One pattern a row.
    pattern : int array of shape (n_blocks,)
        The pattern of each block.
    feature_penalty : array of shape (n_features,)
        mu, non-negative; 0 for the bias coordinate.
    """

    cones = True

    def __init__(self, X: NDArray, patterns: NDArray[np.bool_], pattern: NDArray[np.intp], feature_penalty: NDArray):
        self.rows = _unit(X)
        self.patterns = patterns
        self.pattern = pattern
        self.feature_penalty = feature_penalty

    def prox(self, V, threshold, warm=None):
        mu = self.feature_penalty
        cold = np.full(V.shape, -1), np.full(V.shape, UNKNOWN, dtype=np.int8), np.zeros_like(V), 0.0
        # Beside active rows and signs, the last corrections p - q, and the threshold up to which they may be used.
        active, signs, dual, last = cold if warm is None else (*(part.copy() for part in warm[:3]), warm[3])
        dual *= min(1.0, threshold / last) if last > 0 else 1.0
        out = np.zeros_like(V)
        k = np.flatnonzero(self._longest(V, threshold, warm) > threshold)
        thresholds = np.broadcast_to(threshold * mu, (len(k), len(mu)))
        state = self.rows, self.patterns[self.pattern[k]], active[k], signs[k]
        out[k], active[k], signs[k] = threshold_onto_cones(V[k], thresholds, *state, threshold)
        dual[k] = _difference(out[k], V[k])
        return _shrunken(out, threshold), (active, signs, dual, threshold)

    def _longest(self, Q, threshold, warm):
        """Bounds on the lengths after thresholding: without the cone, and by the last correction, a multiple of which
        is a correction as long as no coordinate of it exceeds its threshold."""
        lengths = np.linalg.norm(soft_threshold(Q, threshold * self.feature_penalty), axis=1)
        if warm is None:
            return lengths
        most = threshold / warm[3] if warm[3] > 0 else 1.0
        return np.minimum(lengths, _longest(Q, warm[2], most))

    def dual_norm(self, G, floor=0.0, warm=None):
        order = np.argsort(-self._longest(G, floor, warm))
        for part in np.split(order, [64]):
            k = part[self._longest(G[part], floor, None) > floor]
            if warm is not None:
                k = k[_longest(G[k], warm[2][k], floor / warm[3] if warm[3] > 0 else 1.0) > floor]
            active, signs = (None, None) if warm is None else (warm[0][k], warm[1][k])
            patterns = self.patterns[self.pattern[k]]
            V, _, _ = support(G[k], self.feature_penalty, self.rows, patterns, active, signs, floor)
            floor = max(floor, float(np.linalg.norm(V, axis=1).max(initial=0.0)))
        return floor

    def maximisers(self, G, floor=0.0):
        cones = self.rows, self.patterns[self.pattern]
        return self._as_long_as_its_price(support(G, self.feature_penalty, *cones, floor=floor)[0])

    def faces(self, V, blocks, warm):
        n, d = len(self.rows), V.shape[1]
        zero = (warm[1][blocks] == 0) & (self.feature_penalty > 0)
        fixed = np.column_stack([warm[0][blocks], np.where(zero, n + np.arange(d), -1)])
        fixed = np.sort(fixed, axis=1)[:, ::-1][:, :d]
        normals = np.vstack([self.rows, np.eye(d)])[fixed] * (fixed >= 0)[:, :, None]
        return _frames(normals), (fixed >= 0).sum(axis=1)

    def violation(self, V):
        return ConeGroupLasso(self.rows, self.patterns, self.pattern).violation(V)

    def restrict(self, blocks):
        return ConeSparseGroupLasso(self.rows, self.patterns, self.pattern[blocks], self.feature_penalty)

    def cvxpy(self, V, samples):
        import cvxpy as cp

        size, constraints = ConeGroupLasso(self.rows, self.patterns, self.pattern).cvxpy(V, samples)
        return size + cp.sum(cp.abs(V) @ self.feature_penalty), constraints


def _unit(X: NDArray) -> NDArray:
    """Rows of length one; zero rows stay zero."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def _frames(normals: NDArray) -> NDArray:
    """Orthogonal matrices whose first columns span the normals (n_blocks, n_normals, n_features) of each block."""
    frames, d = np.empty((len(normals), normals.shape[2], normals.shape[2])), normals.shape[2]
    size = max(1, 10**9 // (4 * d**3))
    for start in range(0, len(normals), size):
        check()
        part = slice(start, start + size)
        frames[part] = np.linalg.qr(normals[part].transpose(0, 2, 1), mode="complete")[0]
    return frames


def _shrunken(V: NDArray, threshold: float) -> NDArray:
    """Every block shorter by the threshold, or zero."""
    lengths = np.linalg.norm(V, axis=1, keepdims=True)
    return V * (1 - threshold / np.maximum(lengths, max(threshold, 1e-300)))


def _difference(P: NDArray, Q: NDArray) -> NDArray:
    """P - Q, or zero where its direction would be rounding."""
    return (P - Q) * (np.linalg.norm(P - Q, axis=1, keepdims=True) > 1e-6 * np.linalg.norm(Q, axis=1, keepdims=True))


def _longest(Q: NDArray, dual: NDArray, most: float = np.inf) -> NDArray:
    """Bounds on |P q|: the least |q + c s| over 0 <= c <= most, for s in the dual cone."""
    squares = np.einsum("kd,kd->k", dual, dual)
    along = np.minimum(np.einsum("kd,kd->k", Q, dual), 0.0)
    c = np.minimum(-along / np.where(squares > 0, squares, 1.0), most)
    # The difference cancels: margins keep it a bound.
    size = np.einsum("kd,kd->k", Q, Q)
    rest = (1 + 1e-13) * size + c * (2 * along + c * squares)
    return np.sqrt(np.maximum(rest, 0.0)) + 1e-8 * np.sqrt(size)


#: Every penalty by name; the tests run over it.
PENALTIES: dict[str, Any] = {
    "group_lasso": GroupLasso,
    "cone_group_lasso": ConeGroupLasso,
    "free_bias_cone_group_lasso": FreeBiasConeGroupLasso,
    "sparse_group_lasso": SparseGroupLasso,
    "cone_sparse_group_lasso": ConeSparseGroupLasso,
}
