"""Design: the linear map from the coefficients of listed neurons to predictions. Data meet patterns here alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check
from convexnn.neurons.activations import ACTIVATIONS

# Patterns are kept as float64 beside the bits up to this size; larger ones are converted by chunks at each pass,
# which costs as much as reading them from memory would.
FLOAT_PATTERNS_BYTES = 2**28


class Design:
    r"""The linear map from coefficients to predictions, z_i = sum_k sign_k s_ik x_i^T v_k.

    The slope s_ik of the activation is 1 where sample i is active in the pattern of block k, and for ReLU 0 elsewhere.
    Written as z_i = x_i^T (S U)_i with U the signed coefficients summed over the blocks of a pattern, both the map and
    its adjoint are one matrix product with the 0/1 pattern matrix and one elementwise product with X; a slope below
    zero adds the sum over all blocks, as s_ik = kink D_ik + slope.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    patterns : bool array of shape (n_patterns, n_samples)
        One activation pattern a row.
    pattern, sign, output : arrays of shape (n_blocks,)
        Pattern index, sign (+1 or -1) and output index of each block; no two blocks agree in all three.
    n_outputs : int, default=1
        With 1, predictions have shape (n_samples,), else (n_samples, n_outputs).
    activation : Activation, default=ReLU
        See convexnn.neurons.activations.

    Examples
    --------
    >>> import numpy as np
    >>> design = Design(np.array([[2.0], [3.0]]), np.array([[True, False]]), [0], [-1.0], [0])
    >>> design @ np.array([[10.0]])
    array([-20.,   0.])
    """

    def __init__(self, X, patterns, pattern, sign, output, n_outputs: int = 1, activation=ACTIVATIONS["relu"]):
        self.X = X
        self.patterns = patterns
        self.pattern = np.asarray(pattern, dtype=np.intp)
        self.sign = np.asarray(sign, dtype=float)
        self.output = np.asarray(output, dtype=np.intp)
        self.n_outputs = n_outputs
        self.activation = activation
        self._plus, self._minus = self.sign > 0, self.sign < 0
        self._squared_norm: tuple[Any, float] = (None, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the coefficients: (n_blocks, n_features)."""
        return len(self.pattern), self.X.shape[1]

    @cached_property
    def _chunks(self) -> list[tuple[slice, NDArray]]:
        n_patterns, n_samples = self.patterns.shape
        if self.patterns.size * 8 <= FLOAT_PATTERNS_BYTES:
            return [(slice(0, n_patterns), self.patterns.astype(float))]
        size = max(1, 2_000_000 // n_samples)
        cuts = range(0, n_patterns, size)
        return [(slice(start, start + size), self.patterns[start : start + size]) for start in cuts]

    def __matmul__(self, V: NDArray) -> NDArray:
        n, d = self.X.shape
        check()
        U = np.zeros((len(self.patterns), self.n_outputs, d))
        U[self.pattern[self._plus], self.output[self._plus]] = V[self._plus]
        U[self.pattern[self._minus], self.output[self._minus]] -= V[self._minus]
        U = U.reshape(len(U), self.n_outputs * d)
        rows, D = self._chunks[0]
        total = D.astype(float, copy=False).T @ U[rows]
        for rows, D in self._chunks[1:]:
            check()
            total += D.astype(float).T @ U[rows]
        total = self.activation.kink * total + self.activation.slope * U.sum(axis=0)
        if self.n_outputs == 1:
            return np.einsum("nd,nd->n", total, self.X)
        return np.einsum("ncd,nd->nc", total.reshape(n, self.n_outputs, d), self.X)

    def adjoint(self, r: NDArray) -> NDArray:
        """A_k^T r for every block, shape (n_blocks, n_features); r has the shape of the predictions."""
        n, d = self.X.shape
        M = (r.reshape(n, self.n_outputs, 1) * self.X[:, None, :]).reshape(n, self.n_outputs * d)
        parts = []
        for _, D in self._chunks:
            check()
            parts.append(D.astype(float, copy=False) @ M)
        G = self.activation.kink * np.concatenate(parts) + self.activation.slope * M.sum(axis=0)
        return self.sign[:, None] * G.reshape(-1, self.n_outputs, d)[self.pattern, self.output]

    def restrict(self, blocks: NDArray) -> Design:
        """The map on some of the blocks; patterns that none of them uses are dropped."""
        used, pattern = np.unique(self.pattern[blocks], return_inverse=True)
        own = self.sign[blocks], self.output[blocks], self.n_outputs, self.activation
        part = Design(self.X, self.patterns[used], pattern, *own)
        # A bound for the part too.
        part._squared_norm = self._squared_norm
        return part

    def slopes(self, blocks: NDArray) -> NDArray:
        """The slope of the activation at every sample in some blocks, shape (n, n_samples)."""
        return self.activation.slopes(self.patterns[self.pattern[blocks]])

    def columns(self, blocks: NDArray, vectors: NDArray) -> NDArray:
        """By how much predictions change when blocks move along vectors (n, n_features), shape (n, n_samples)."""
        columns = vectors @ self.X.T
        columns *= self.slopes(blocks)
        columns *= self.sign[blocks, None]
        return columns

    def squared_norm(self, weights: NDArray) -> float:
        """Largest eigenvalue of A^T diag(weights) A, from below, by the power method; kept for the same weights."""
        if not len(self.pattern):
            return 0.0
        given, known = weights, self._squared_norm
        if known[0] is given:
            return known[1]
        V = np.random.default_rng(0).standard_normal(self.shape)
        weights = weights if self.n_outputs == 1 else weights[:, None]
        value = 0.0
        for _ in range(200):
            V /= np.linalg.norm(V) or 1.0
            V = self.adjoint(weights * (self @ V))
            value, before = float(np.linalg.norm(V)), value
            if value <= before * (1 + 1e-5):
                break
        self._squared_norm = (given, value)
        return value
