"""Activations: how a list of patterns becomes a Problem, and how coefficients become a Network and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.arrangements import Arrangement
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.penalties import (
    ConeGroupLasso,
    ConeSparseGroupLasso,
    FreeBiasConeGroupLasso,
    GroupLasso,
    SparseGroupLasso,
)
from convexnn.problem import Design, Problem

# A neuron counts as on a sample's hyperplane when its unit weights come this close to it.
ON_HYPERPLANE = 1e-9


class ReLU:
    """Exact ReLU: two blocks (output weight + and -) for each pattern and output, each kept in its cone.

    Block k becomes the neuron w = v_k / sqrt|v_k|, a = sign_k sqrt|v_k|, and the penalties agree:
    (|w|^2 + a^2) / 2 = |v_k|, in the norm of the penalty.
    """

    name = "relu"
    signs = (1.0, -1.0)

    def penalty(self, X, patterns, pattern, hidden_bias="penalized", feature_penalty=None):
        if feature_penalty is not None:
            return ConeSparseGroupLasso(X, patterns, pattern, feature_penalty)
        kind = FreeBiasConeGroupLasso if hidden_bias == "free" else ConeGroupLasso
        return kind(X, patterns, pattern)

    def network(self, problem: Problem, coef, intercept, arrangement: Arrangement, hidden_bias: str) -> Network:
        """The network of coefficients (n_blocks, n_features), one neuron for each non-zero block."""
        blocks, free = np.flatnonzero(coef.any(axis=1)), hidden_bias == "free"
        root = np.sqrt(problem.penalty.norms(coef[blocks]))
        weights, biases = _split(coef[blocks] / root[:, None], hidden_bias)
        output = _outputs(problem.design, blocks, root * problem.design.sign[blocks])
        skip_weights, intercept = problem.free_weights(intercept)
        if free:
            # Where all samples are active any bias that keeps them so will do, and the intercept takes it back.
            linear = np.flatnonzero(problem.design.patterns.all(axis=1)[problem.design.pattern[blocks]])
            biases[linear] = -(problem.design.X[:, :-1] @ weights[linear].T).min(axis=0)
            intercept = intercept - biases[linear] @ output[linear]
        return Network(
            weights,
            biases,
            output,
            intercept,
            skip_weights=skip_weights,
            hidden_bias="free" if free else "penalized",
            feature_penalty=_of_features(problem, hidden_bias),
        )

    def coef(self, network: Network, problem: Problem, hidden_bias: str) -> NDArray:
        """Coefficients of a network whose patterns are all listed, shape (n_blocks, n_features)."""
        if network.gate_weights is not None:
            raise ValueError("network has gates; use activation='gated_relu' or network.to_relu(X).")
        weights = _join(network.hidden_weights, network.hidden_biases, hidden_bias)
        coef = _place(network, problem, weights, hidden_bias, signed=True)
        if hidden_bias == "free":
            coef[problem.design.patterns.all(axis=1)[problem.design.pattern], -1] = 0.0
        return coef


class GatedReLU:
    """Gated ReLU: one free block for each pattern and output; the gate is fixed, the weights are not bound to it."""

    name = "gated_relu"
    signs = (1.0,)

    def penalty(self, X, patterns, pattern, hidden_bias="penalized", feature_penalty=None):
        return GroupLasso() if feature_penalty is None else SparseGroupLasso(feature_penalty)

    def network(self, problem: Problem, coef, intercept, arrangement: Arrangement, hidden_bias: str) -> Network:
        """The network of coefficients (n_blocks, n_features), one neuron for each non-zero block."""
        blocks = np.flatnonzero(coef.any(axis=1))
        root = np.sqrt(problem.penalty.norms(coef[blocks]))
        hidden = _split(coef[blocks] / root[:, None], hidden_bias)
        gates = _split(arrangement.gates[:, problem.design.pattern[blocks]].T, hidden_bias)
        skip_weights, intercept = problem.free_weights(intercept)
        output, mu = _outputs(problem.design, blocks, root), _of_features(problem, hidden_bias)
        return Network(*hidden, output, intercept, *gates, skip_weights, feature_penalty=mu)

    def coef(self, network: Network, problem: Problem, hidden_bias: str) -> NDArray:
        """Coefficients of a network whose gates are all listed, shape (n_blocks, n_features)."""
        if network.gate_weights is None:
            raise ValueError("network has no gates; use activation='relu'.")
        weights = _join(network.hidden_weights, network.hidden_biases, hidden_bias)
        return _place(network, problem, weights, hidden_bias, signed=False)


#: Every activation by name.
ACTIVATIONS: dict[str, Any] = {"relu": ReLU, "gated_relu": GatedReLU}


def lift(
    activation: ReLU | GatedReLU,
    X: NDArray,
    y: NDArray,
    arrangement: Arrangement,
    loss: Loss,
    alpha: float,
    sample_weight: NDArray,
    fit_intercept: bool = True,
    n_outputs: int = 1,
    skip: NDArray | None = None,
    hidden_bias: str = "penalized",
    feature_penalty: NDArray | None = None,
) -> Problem:
    """The convex program of a list of patterns.

    Parameters
    ----------
    activation : ReLU or GatedReLU
        Which signs and which penalty.
    X : array of shape (n_samples, n_features)
        The data, with its ones column if hidden biases are wanted.
    y : array of shape (n_samples,)
        Targets in the loss's coding.
    arrangement : Arrangement
        Patterns of X.
    loss : Loss
        See convexnn.losses.
    alpha : float
        Loss per unit of block norm.
    sample_weight : array of shape (n_samples,)
        Positive weights.
    fit_intercept : bool, default=True
        Unpenalised constant.
    n_outputs : int, default=1
        Columns of the prediction; every block feeds one of them.
    skip : array of shape (n_samples, n_skip), optional
        Features of an unpenalised linear term.
    hidden_bias : {"penalized", "free", "none"}, default="penalized"
        Whether the norm of a block leaves out the last feature ("free", ReLU only).
    feature_penalty : array of shape (n_features,), optional
        What the norm of a block adds for each unit of each weight, 0 for a ones column; not with "free".

    Returns
    -------
    problem : Problem
        Blocks ordered by output, then sign, then pattern.
    """
    patterns = np.ascontiguousarray(arrangement.patterns.T)
    signs = np.array(activation.signs)
    output, sign, pattern = np.meshgrid(np.arange(n_outputs), signs, np.arange(len(patterns)), indexing="ij")
    design = Design(X, patterns, pattern.ravel(), sign.ravel(), output.ravel(), n_outputs)
    penalty = activation.penalty(X, patterns, design.pattern, hidden_bias, feature_penalty)
    return Problem(design, y, loss, penalty, alpha, sample_weight, fit_intercept, skip)


def lift_feature_penalty(feature_penalty, n_features: int, hidden_bias: str) -> NDArray | None:
    """The feature penalty of all coordinates of a block, 0 for a bias; None where there is none.

    Parameters
    ----------
    feature_penalty : float, array of shape (n_features,) or None
        One for all features, or one for each.
    n_features : int
        Number of features, without a ones column.
    hidden_bias : {"penalized", "free", "none"}
        "penalized" adds the bias coordinate.

    Returns
    -------
    feature_penalty : array of shape (n_features,) or (n_features + 1,), or None

    Raises
    ------
    ValueError
        For values that are not finite and non-negative, another shape, or ``hidden_bias="free"``.
    """
    if feature_penalty is None:
        return None
    mu = np.asarray(feature_penalty)
    fits = mu.dtype.kind in "fiu" and mu.shape in ((), (n_features,))
    if not fits or not np.isfinite(mu).all() or mu.min() < 0:
        raise ValueError(
            f"feature_penalty must be a finite number >= 0, or an array of {n_features} of them, got "
            f"{feature_penalty!r}."
        )
    if not mu.any():
        return None
    if hidden_bias == "free":
        raise ValueError(
            "feature_penalty needs hidden_bias='penalized' or 'none', got 'free': blocks whose bias no norm holds are "
            "projected by a method of their own, which leaves no features out."
        )
    return np.append(np.broadcast_to(mu, n_features), np.zeros(int(hidden_bias != "none")))


def _of_features(problem: Problem, hidden_bias: str) -> NDArray | None:
    """The feature penalty without the bias coordinate."""
    mu = problem.penalty.feature_penalty
    return mu if mu is None or hidden_bias == "none" else mu[:-1]


def _split(vectors: NDArray, hidden_bias: str) -> tuple[NDArray, NDArray]:
    """Weights and biases of vectors that end in a bias coordinate unless hidden_bias is "none"."""
    if hidden_bias == "none":
        return vectors, np.zeros(len(vectors))
    return np.ascontiguousarray(vectors[:, :-1]), vectors[:, -1].copy()


def _join(weights, biases, hidden_bias: str) -> NDArray:
    if hidden_bias == "none":
        if np.any(biases):
            raise ValueError("hidden_bias='none' needs a network without hidden biases.")
        return weights
    return np.column_stack([weights, biases])


def _outputs(design: Design, blocks: NDArray, amounts: NDArray) -> NDArray:
    if design.n_outputs == 1:
        return amounts
    output = np.zeros((len(blocks), design.n_outputs))
    output[np.arange(len(blocks)), design.output[blocks]] = amounts
    return output


def find_patterns(network: Network, X: NDArray, patterns: NDArray[np.bool_], hidden_bias: str) -> NDArray[np.intp]:
    """Where in a list the pattern of each neuron stands.

    A ReLU neuron on a sample's hyperplane contributes nothing there, so either side will do; a gate on one is open.

    Parameters
    ----------
    network : Network
        Any network.
    X : array of shape (n_samples, n_features)
        The data, with its ones column unless ``hidden_bias="none"``.
    patterns : bool array of shape (n_patterns, n_samples)
        The list.
    hidden_bias : {"penalized", "free", "none"}
        Whether biases are the last coordinate.

    Returns
    -------
    index : int array of shape (n_neurons,)
        -1 for a neuron whose pattern is not listed.
    """
    gated = network.gate_weights is not None
    weights = network.gate_weights if gated else network.hidden_weights
    gates = _join(weights, network.gate_biases if gated else network.hidden_biases, hidden_bias)
    side = X @ gates.T
    slack = 0.0 if gated else ON_HYPERPLANE * np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(gates, axis=1))
    on, off = (side >= 0, side < 0) if gated else (side > slack, side < -slack)
    listed = patterns.astype(float)
    conflicts = (1 - listed) @ on + listed @ off
    index = np.argmin(conflicts, axis=0) if len(patterns) else np.zeros(len(gates), dtype=int)
    return np.where(conflicts.min(axis=0, initial=np.inf) == 0, index, -1)


def _place(network: Network, problem: Problem, weights: NDArray, hidden_bias: str, signed: bool) -> NDArray:
    """Add every neuron to the block of its pattern, sign and output."""
    design = problem.design
    coef = np.zeros(design.shape)
    pattern = find_patterns(network, design.X, design.patterns, hidden_bias)
    lost = np.count_nonzero(pattern < 0)
    if lost:
        raise ValueError(
            f"network has {lost} neurons whose activation patterns are not listed; add patterns_of(network, X)."
        )
    block = {key: k for k, key in enumerate(zip(design.output, design.pattern, design.sign))}
    for j, amounts in enumerate(network.output_weights.reshape(len(weights), network.n_outputs)):
        for output in np.flatnonzero(amounts):
            sign = np.sign(amounts[output]) if signed else 1.0
            coef[block[output, pattern[j], sign]] += sign * amounts[output] * weights[j]
    return coef
