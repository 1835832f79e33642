"""Coefficients of a program as a network, and a network as coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.neurons.neuron import Neuron
from convexnn.program.design import Design
from convexnn.program.problem import Problem

# A neuron counts as on a sample's hyperplane when its unit weights come this close to it.
ON_HYPERPLANE = 1e-9


def network_of(problem: Problem, coef: NDArray, intercept: NDArray | float, gates: NDArray | None = None) -> Network:
    """The network of a solution, one neuron for each non-zero block.

    Block k becomes the neuron w = v_k / sqrt|v_k|, a = sign_k sqrt|v_k|, and the penalties agree:
    (|w|^2 + a^2) / 2 = |v_k|, in the norm of the penalty.

    Parameters
    ----------
    problem : Problem
        The program.
    coef : array of shape (n_blocks, n_coordinates)
        Coefficients, in their cones.
    intercept : float or array
        Unpenalised terms, as solvers return them.
    gates : array of shape (n_coordinates, n_patterns), optional
        A gate for each listed pattern, of activations without cones.

    Returns
    -------
    network : Network
    """
    task, design = problem.task, problem.design
    neuron, blocks = task.neuron, np.flatnonzero(coef.any(axis=1))
    root = np.sqrt(problem.penalty.norms(coef[blocks]))
    weights, biases = neuron.split(coef[blocks] / root[:, None])
    output = _outputs(design, blocks, root * design.sign[blocks])
    skip_weights, intercept = task.free_weights(intercept)
    linear = np.flatnonzero(neuron.linear(design.patterns)[design.pattern[blocks]])
    if len(linear):
        # Where all samples are on one side any bias that keeps them there will do, and the intercept takes it back.
        above = design.patterns[:, 0][design.pattern[blocks[linear]]]
        inner = task.X @ weights[linear].T
        biases[linear] = -np.where(above, inner.min(axis=0), inner.max(axis=0))
        intercept = intercept - (neuron.activation.slopes(above) * biases[linear]) @ output[linear]
    gated, gate_biases = (None, None) if gates is None else neuron.split(gates[:, design.pattern[blocks]].T)
    mu = neuron.feature_penalty
    return Network(
        weights,
        biases,
        output,
        intercept,
        gated,
        gate_biases,
        skip_weights,
        hidden_bias="free" if neuron.free_bias else "penalized",
        feature_penalty=None if mu is None else mu[: weights.shape[1]],
        activation=neuron.activation,
    )


def coef_of(network: Network, problem: Problem) -> NDArray:
    """Coefficients of a network whose patterns are all listed, shape (n_blocks, n_coordinates).

    Parameters
    ----------
    network : Network
        With the weights of the problem's rows.
    problem : Problem
        The program.

    Returns
    -------
    coef : array of shape (n_blocks, n_coordinates)

    Raises
    ------
    ValueError
        When the network is of another activation, or has patterns that are not listed.
    """
    design, neuron = problem.design, problem.task.neuron
    cones = neuron.activation.cones
    if network.activation != neuron.activation:
        raise ValueError(
            f"network must have {neuron.activation.title} neurons, got {network.activation.title} ones; "
            "network.to_relu(X) is a ReLU network with the same predictions on X."
        )
    weights, coef = neuron.join(network.hidden_weights, network.hidden_biases), np.zeros(design.shape)
    # The sides on which samples lie, of weights that may be turned as the listed patterns are.
    weights = np.where(neuron.turns(design.X, (design.X @ weights.T >= 0).T)[:, None], -weights, weights)
    pattern = find_patterns(network, design.X, design.patterns, neuron)
    lost = np.count_nonzero(pattern < 0)
    if lost:
        raise ValueError(
            f"network has {lost} neurons whose activation patterns are not listed; add patterns_of(network, X)."
        )
    block = {key: k for k, key in enumerate(zip(design.output, design.pattern, design.sign))}
    for j, amounts in enumerate(network.output_weights.reshape(len(weights), network.n_outputs)):
        for output in np.flatnonzero(amounts):
            sign = np.sign(amounts[output]) if cones else 1.0
            coef[block[output, pattern[j], sign]] += sign * amounts[output] * weights[j]
    coef[neuron.linear(design.patterns)[design.pattern], -1] = 0.0
    return coef


def find_patterns(network: Network, rows: NDArray, patterns: NDArray[np.bool_], neuron: Neuron) -> NDArray[np.intp]:
    """Where in a list the pattern of each neuron stands.

    A ReLU neuron on a sample's hyperplane contributes nothing there, so either side will do; a gate on one is open.

    Parameters
    ----------
    network : Network
        Any network.
    rows : array of shape (n_samples, n_coordinates)
        What neurons see.
    patterns : bool array of shape (n_patterns, n_samples)
        The list.
    neuron : Neuron
        Whether there are biases.

    Returns
    -------
    index : int array of shape (n_neurons,)
        -1 for a neuron whose pattern is not listed.
    """
    gates = neuron.join(*network.switches)
    side = rows @ gates.T
    side = np.where(neuron.turns(rows, (side >= 0).T), -side, side)
    on, off = side >= 0, side < 0
    if network.activation.cones:
        slack = ON_HYPERPLANE * np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(gates, axis=1))
        on, off = side > slack, side < -slack
    listed = neuron.turned(rows, patterns).astype(float)
    conflicts = (1 - listed) @ on + listed @ off
    index = np.argmin(conflicts, axis=0) if len(patterns) else np.zeros(len(gates), dtype=int)
    return np.where(conflicts.min(axis=0, initial=np.inf) == 0, index, -1)


def _outputs(design: Design, blocks: NDArray, amounts: NDArray) -> NDArray:
    if design.n_outputs == 1:
        return amounts
    output = np.zeros((len(blocks), design.n_outputs))
    output[np.arange(len(blocks)), design.output[blocks]] = amounts
    return output
