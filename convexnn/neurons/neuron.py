"""Neuron: what a hidden neuron is. Its activation, whether it has a bias, and the norm that its weights are paid in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.cones.sparse import sparse_norms
from convexnn.neurons.activations import ACTIVATIONS, Activation, get_activation
from convexnn.neurons.penalties import (
    ConeGroupLasso,
    ConeSparseGroupLasso,
    FreeBiasConeGroupLasso,
    GroupLasso,
    Penalty,
    SparseGroupLasso,
)

#: What weight decay does to hidden biases.
HIDDEN_BIASES = ("penalized", "free", "none")


@dataclass(frozen=True, eq=False)
class Neuron:
    """What all hidden neurons of a network have in common.

    Attributes
    ----------
    activation : Activation
        See convexnn.neurons.activations.
    hidden_bias : {"penalized", "free", "none"}
        Whether there is a bias, the last coordinate of a neuron's vector, and whether its norm counts it.
    feature_penalty : array of shape (n_coordinates,), optional
        mu, what the norm adds for each unit of each coordinate: |v| + sum_j mu_j |v_j|; 0 for a bias.
    """

    activation: Activation = ACTIVATIONS["relu"]
    hidden_bias: str = "penalized"
    feature_penalty: NDArray | None = None

    @classmethod
    def of(cls, activation: str | Activation, hidden_bias: str, feature_penalty: Any, n_features: int) -> Neuron:
        """The neuron that an estimator's options describe.

        Parameters
        ----------
        activation : str or Activation
            Key of ACTIVATIONS, or an object.
        hidden_bias : {"penalized", "free", "none"}
            As above.
        feature_penalty : float, array of shape (n_features,) or None
            One for all features, or one for each.
        n_features : int
            Number of features, without a ones column.

        Returns
        -------
        neuron : Neuron

        Raises
        ------
        ValueError
            For a feature penalty that is not finite and non-negative, of another shape, or beside free biases.
        """
        if hidden_bias not in HIDDEN_BIASES:
            raise ValueError(f"hidden_bias must be one of {', '.join(HIDDEN_BIASES)}, got {hidden_bias!r}.")
        neuron = cls(get_activation(activation), hidden_bias)
        if feature_penalty is None:
            return neuron
        mu = np.asarray(feature_penalty)
        fits = mu.dtype.kind in "fiu" and mu.shape in ((), (n_features,))
        if not fits or not np.isfinite(mu).all() or mu.min() < 0:
            raise ValueError(
                f"feature_penalty must be a finite number >= 0, or an array of {n_features} of them, got "
                f"{feature_penalty!r}."
            )
        if not mu.any():
            return neuron
        if hidden_bias == "free":
            raise ValueError(
                "feature_penalty needs hidden_bias='penalized' or 'none', got 'free': blocks whose bias no norm holds "
                "are projected by a method of their own, which leaves no features out."
            )
        mu = np.append(np.broadcast_to(mu, n_features), np.zeros(int(neuron.has_bias)))
        return cls(neuron.activation, hidden_bias, mu)

    @property
    def has_bias(self) -> bool:
        """Whether the last coordinate is a bias."""
        return self.hidden_bias != "none"

    @property
    def free_bias(self) -> bool:
        """Whether the norm leaves the bias out."""
        return self.hidden_bias == "free"

    def rows(self, X: NDArray) -> NDArray:
        """The rows that neurons see: the data, with a ones column for the bias."""
        return np.column_stack([X, np.ones(len(X))]) if self.has_bias else X

    def split(self, V: NDArray) -> tuple[NDArray, NDArray]:
        """Weights (n_neurons, n_features) and biases (n_neurons,) of vectors (n_neurons, n_coordinates)."""
        if not self.has_bias:
            return V, np.zeros(len(V))
        return np.ascontiguousarray(V[:, :-1]), V[:, -1].copy()

    def join(self, weights: NDArray, biases: ArrayLike) -> NDArray:
        """The vectors (n_neurons, n_coordinates) of weights and biases.

        Raises
        ------
        ValueError
            For biases other than zero where there are none.
        """
        if self.has_bias:
            return np.column_stack([weights, biases])
        if np.any(biases):
            raise ValueError("hidden_bias='none' needs a network without hidden biases.")
        return weights

    def turns(self, rows: NDArray, patterns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of activation patterns are to be turned into their opposite, which are those of the same neurons.

        Weights and their negatives make the same neuron of an even activation: the one is kept that is active at the
        first row that is not zero.

        Parameters
        ----------
        rows : array of shape (n_samples, n_coordinates)
            What neurons see.
        patterns : bool array of shape (n_patterns, n_samples)
            One pattern a row.

        Returns
        -------
        turned : bool array of shape (n_patterns,)
            All False but for even activations.
        """
        first = np.flatnonzero(rows.any(axis=1))[:1] if self.activation.even else np.zeros(0, dtype=int)
        return np.asarray(~patterns[:, first].all(axis=1))

    def turned(self, rows: NDArray, patterns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The patterns with those turned into their opposite that ``turns`` says; rows of zeros stay active."""
        return patterns ^ (rows.any(axis=1) & self.turns(rows, patterns)[:, None])

    def distinct(self, rows: NDArray, patterns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The patterns turned, each once; arguments as in ``turns``."""
        if not self.activation.even:
            return patterns
        patterns = self.turned(rows, patterns)
        _, first = np.unique(np.packbits(patterns, axis=1), axis=0, return_index=True)
        return patterns[np.sort(first)]

    def linear(self, patterns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which patterns have all samples on one side, where a free bias is a constant and weights need no cone.

        Parameters
        ----------
        patterns : bool array of shape (n_patterns, n_samples)
            One pattern a row.

        Returns
        -------
        linear : bool array of shape (n_patterns,)
            All False unless biases are free; patterns without an active sample count where the activation has a slope.
        """
        whole = patterns.all(axis=1) | (~patterns.any(axis=1) & (self.activation.slope != 0))
        return np.asarray(whole & self.free_bias)

    def norms(self, V: NDArray) -> NDArray:
        """The norm of each vector, shape (n_neurons,)."""
        return sparse_norms(V[:, : V.shape[1] - self.free_bias], self.feature_penalty)

    def penalty(self, rows: NDArray, patterns: NDArray[np.bool_], pattern: NDArray[np.intp]) -> Penalty:
        """The sum of the norms of blocks, each in the cone of its pattern where the activation binds it to one.

        Parameters
        ----------
        rows : array of shape (n_samples, n_coordinates)
            What neurons see.
        patterns : bool array of shape (n_patterns, n_samples)
            One pattern a row.
        pattern : int array of shape (n_blocks,)
            The pattern of each block.

        Returns
        -------
        penalty : Penalty
        """
        mu = self.feature_penalty
        if not self.activation.cones:
            return GroupLasso() if mu is None else SparseGroupLasso(mu)
        if mu is not None:
            return ConeSparseGroupLasso(rows, patterns, pattern, mu)
        if self.free_bias:
            return FreeBiasConeGroupLasso(rows, patterns, pattern, bent=self.activation.slope != 0)
        return ConeGroupLasso(rows, patterns, pattern)
