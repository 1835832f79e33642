"""The neurons that optimal networks can have: those whose price is alpha, at a dual solution exact to rounding."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.arrangements import Arrangement
from convexnn.network import Network, clusters
from convexnn.program.cells import ONE_NEURON, Cells
from convexnn.program.problem import Problem
from convexnn.program.task import Task
from convexnn.search.column_generation import MAX_NEW_CELLS, find
from convexnn.search.pricing import SPREAD, Effort, Peaks, spread
from convexnn.solvers import Newton

# A sample this close to a neuron's hyperplane (unit vectors), or a weight this small, is exactly zero at the optimum.
ON_FACE = 1e-6
# Blocks below this share of the sum of norms are what the solver leaves of zero.
TINY = 1e-8
# Relative gap over the neurons' cells that Newton's method is asked for, and prices that are above alpha by rounding.
ACCURACY, ROUNDING = 1e-11, 1e-8
# Random starts, perturbed vectors and generations of the searches over all patterns.
EFFORT = Effort(n_random=1000, n_moved=100, n_generations=30)


def optimal_neurons(
    task: Task,
    alpha: float,
    cells: Cells,
    listed: Arrangement | None,
    random_state: np.random.Generator,
    tol: float,
) -> tuple[Cells, NDArray, NDArray, NDArray, float, int]:
    """Solve a program from nearly optimal neurons, and list the neurons whose price is alpha.

    Column generation first: the cells of the neurons and those with a price above alpha, until there is none. Newton's
    method on the faces that the neurons lie in then takes them, and theta, to the accuracy of rounding, where the
    neurons of all cells are looked at again.

    Parameters
    ----------
    task : Task
        The training problem, of a smooth loss.
    alpha : float
        Weight decay.
    cells : Cells
        Neurons to start from; in listed cells if there is a list.
    listed : Arrangement or None
        Patterns to look at, all others count for nothing; None for a search over all.
    random_state : numpy Generator
        Of the search.
    tol : float
        Prices from (1 - tol) alpha on are kept.

    Returns
    -------
    neurons : Cells
        Each once although it may lie on the walls of several cells; V is of norm 1.
    path_norms : array of shape (n_neurons,)
        Of the solution that Newton's method ended at.
    pairs : int array of shape (n_pairs, 2)
        Free biases: neurons that differ by a bias from one end of a cell to the other, and do the same for the
        objective; the same neuron twice where that has no end.
    theta : array, shape of the predictions
        Minus the gradient of the loss at the solution.
    highest : float
        The largest price, of the patterns of the list or the last search.
    n_patterns : int
        Length of the list, or number of cells that the last search ended in.
    """
    problem = Problem.bare(task, alpha)
    cells, found, n_patterns = _solve(problem, cells, listed, random_state)
    cells, theta = _refined(problem, cells)
    found = _highest(problem, theta, found, 1 - tol) if listed is None else _from_list(problem, theta, listed, 1 - tol)
    highest = float(task.neuron.norms(found.V).max(initial=0.0))
    return *_distinct(task, cells, found), theta, highest, n_patterns


def _highest(problem: Problem, theta: NDArray, cells: Cells, share: float) -> Cells:
    """Of each cell the vector of highest price, with the price as norm; only prices above that share of alpha."""
    neuron, X, floor = problem.task.neuron, problem.task.rows, share * problem.alpha
    t = cells.sign * theta.reshape(len(X), -1)[:, cells.output]
    G, k = np.zeros((len(cells.sign), X.shape[1])), np.arange(len(cells.sign))
    size = max(1, 4_000_000 // len(X))
    for part in (k[i : i + size] for i in range(0, len(k), size)):
        G[part] = (neuron.activation.slopes(cells.patterns[part]) * t[:, part].T) @ X
    V = neuron.penalty(X, cells.patterns, k).maximisers(G, floor)
    prices = neuron.norms(V)
    return replace(cells, V=V).take(np.flatnonzero(prices > max(floor, 1e-12 * problem.alpha)))


def _from_list(problem: Problem, theta: NDArray, listed: Arrangement, share: float) -> Cells:
    """The same for all listed patterns, signs and outputs."""
    task, found = problem.task, Cells.none(problem.task.rows)
    patterns = task.neuron.distinct(task.rows, listed.patterns.T)
    for output in range(task.n_outputs):
        for sign in task.neuron.activation.signs:
            size = len(patterns)
            zero = np.zeros((size, task.rows.shape[1]))
            cells = Cells(patterns, np.full(size, sign), np.full(size, output), zero)
            found = found.followed_by(_highest(problem, theta, cells, share))
    return found


def _solve(problem: Problem, cells: Cells, listed: Arrangement | None, rng) -> tuple[Cells, Cells, int]:
    """Column generation from given neurons: the solution, the last cells found, and how many were looked at."""
    task, alpha, neuron = problem.task, problem.alpha, problem.task.neuron
    for _ in range(100):
        program = Problem.over(task, cells, alpha)
        V = Newton(tol=ACCURACY).solve(program, cells.V).coef if len(cells.sign) else cells.V
        z = program.design @ V
        theta = -task.gradient(z + task.best_intercept(z))
        cells = replace(cells, V=V)
        if listed is None:
            neurons = cells.take(np.flatnonzero(cells.alive))
            dual = 2 * neurons.output + (neurons.sign < 0)
            known = Peaks(neurons.patterns, neurons.V, np.full(neurons.V.shape, -1), dual)
            peaks = find(task, theta, known, EFFORT, rng)[0]
            output, negative = np.divmod(peaks.dual, 2)
            looked_at = Cells(peaks.patterns, 1.0 - 2.0 * negative, output, np.zeros_like(peaks.V))
            n_patterns = len(peaks.patterns)
            looked_at = looked_at.turned(task.rows, neuron).join(neurons.weightless())
            found = _highest(problem, theta, looked_at, 0.9)
        else:
            found, n_patterns = _from_list(problem, theta, listed, 0.9), listed.n_patterns
        prices = neuron.norms(found.V)
        order = np.argsort(-prices, kind="stable")
        order = order[prices[order] > alpha * (1 + ROUNDING)]
        before = len(cells.sign)
        for feed in range(task.n_outputs):
            for sign in (1.0, -1.0):
                own = order[(found.output[order] == feed) & (found.sign[order] == sign)]
                far = spread(found.V[own] / prices[own, None], MAX_NEW_CELLS, SPREAD) if len(own) else []
                cells = cells.join(found.take(own[far]).weightless())
        if len(cells.sign) == before:
            break
    return cells, found, n_patterns


def _refined(problem: Problem, cells: Cells) -> tuple[Cells, NDArray]:
    """Newton's method on the smooth problem over the faces that the neurons lie in, and theta there.

    On its face a neuron is free, and the norm is smooth; steps of least length where several neurons do the same.
    """
    task, X, n_outputs = problem.task, problem.task.rows, problem.task.n_outputs
    neuron, mu, cones = task.neuron, task.neuron.feature_penalty, task.neuron.activation.cones
    norms = neuron.norms(cells.V)
    cells = cells.take(norms > TINY * norms.sum())
    if cones:
        cells = cells.merged()
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    free = np.kron(task.free, np.eye(n_outputs))
    faces, columns = [], [np.zeros((free.shape[0], 0))]
    whole = neuron.linear(cells.patterns)
    for pattern, sign, output, v, linear in zip(cells.patterns, cells.sign, cells.output, cells.V, whole):
        on = (np.abs(unit @ v) <= ON_FACE * np.linalg.norm(v)) & (cones and not linear)
        zero = np.abs(v) <= ON_FACE * np.linalg.norm(v) * (np.zeros(len(v)) if mu is None else mu > 0)
        zero[-1] |= linear
        normals = np.vstack([unit[on], np.eye(len(v))[zero]])
        _, singular, axes = np.linalg.svd(normals, full_matrices=True)
        faces.append(axes[np.count_nonzero(singular > 1e-9) :].T)
        feeds = np.zeros((len(X), n_outputs, faces[-1].shape[1]))
        feeds[:, output] = sign * (neuron.activation.slopes(pattern)[:, None] * X) @ faces[-1]
        columns.append(feeds.reshape(len(free), faces[-1].shape[1]))
    B = np.hstack([*columns, free])
    cuts = np.cumsum([0, *(face.shape[1] for face in faces)])
    start = task.best_intercept(Problem.over(task, cells, problem.alpha).design @ cells.V)
    start = np.broadcast_to(start, task.shape).reshape(len(X), n_outputs)
    x = np.concatenate([*(face.T @ v for face, v in zip(faces, cells.V)), (task.free.T @ start / len(X)).ravel()])
    counts = np.ones(X.shape[1])
    counts[-1:] = not neuron.free_bias
    shape, best = task.shape, (np.inf, x, task.null_model[1])
    for _ in range(30):
        z = (B @ x).reshape(shape)
        theta = -task.gradient(z)
        slope = -B.T @ theta.ravel()
        curved = task.loss.hessian(task.y, z).reshape(len(X), n_outputs, n_outputs)
        curved = curved * task.sample_weight[:, None, None]
        hessian = B.T @ (curved @ B.reshape(len(X), n_outputs, B.shape[1])).reshape(B.shape)
        inside = True
        for face, pattern, linear, low, high in zip(faces, cells.patterns, whole, cuts, cuts[1:]):
            v = face @ x[low:high]
            length = np.linalg.norm(counts * v)
            toward = face.T @ (counts * v) / length
            charge = 0.0 if mu is None else face.T @ (mu * np.sign(v))
            slope[low:high] += problem.alpha * (toward + charge)
            hessian[low:high, low:high] += (
                problem.alpha / length * ((face.T * counts) @ face - np.outer(toward, toward))
            )
            side = (unit @ v) * np.where(pattern, 1.0, -1.0) * cones
            inside &= bool(side.min() > -ON_FACE * length or linear)
        left = float(np.linalg.norm(slope))
        # Where the objective is flat a step may be a long one, out of the cones.
        if left >= best[0] or not inside:
            break
        best = left, x, theta
        root = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
        step = np.linalg.lstsq(hessian / np.outer(root, root), slope / root, rcond=1e-12)[0] / root
        x = x - step
    _, x, theta = best
    V = np.array([face @ x[low:high] for face, low, high in zip(faces, cuts, cuts[1:])]).reshape(len(faces), X.shape[1])
    return replace(cells, V=V), theta


def _distinct(task: Task, cells: Cells, found: Cells) -> tuple[Cells, NDArray, NDArray]:
    """Neurons of norm 1, each once although it may lie on walls of several cells, and their path norms.

    Free biases: also pairs of neurons that differ by a bias from one end of a cell to the other, (n_pairs, 2), with the
    same neuron twice where that has no end.
    """
    X, neuron = task.rows, task.neuron
    ends = [replace(found, V=found.V / neuron.norms(found.V)[:, None])]
    if neuron.free_bias:
        W = ends[0].V[:, :-1]
        low = np.max(-X[:, :-1] @ W.T, axis=0, where=found.patterns.T, initial=-np.inf)
        high = np.min(-X[:, :-1] @ W.T, axis=0, where=~found.patterns.T, initial=np.inf)
        low, high = np.where(np.isinf(low), high, low), np.where(np.isinf(high), low, high)
        ends = [replace(found, V=np.column_stack([W, bias])) for bias in (low, high)]
        linear = neuron.linear(cells.patterns)
        inner = X[:, :-1] @ cells.V[linear, :-1].T
        cells.V[linear, -1] = -np.where(cells.patterns[linear, 0], inner.min(axis=0), inner.max(axis=0))
    ends.append(replace(cells, V=cells.V / neuron.norms(cells.V)[:, None]))
    every = reduce(Cells.followed_by, ends)
    place = [every.V, every.sign[:, None], every.output[:, None]]
    if not neuron.activation.cones:
        place.append(
            np.unique(np.packbits(every.patterns, axis=1), axis=0, return_inverse=True)[1].reshape(len(every.V), 1)
        )
    group = clusters(np.hstack(place), ONE_NEURON)
    norms = np.zeros(len(every.V))
    norms[len(norms) - len(cells.V) :] = neuron.norms(cells.V)
    pairs = group[: (len(ends) - 1) * len(found.V)].reshape(len(ends) - 1, len(found.V)).T[:, [0, -1]]
    same = pairs[:, 0] == pairs[:, 1]
    pairs = pairs[~same | neuron.linear(found.patterns)] if neuron.free_bias else pairs[:0]
    return every.take(np.unique(group, return_index=True)[1]), np.bincount(group, norms), pairs


def unit_neurons(network: Network, task: Task, cells: Cells, listed: Arrangement | None) -> Network:
    """Neurons of path norm 1."""
    weights, biases = task.neuron.split(cells.V)
    output_weights = np.zeros((len(weights), task.n_outputs))
    output_weights[np.arange(len(weights)), cells.output] = cells.sign
    gates: dict[str, Any] = {}
    if listed is not None and not task.neuron.activation.cones:
        index = {row.tobytes(): k for k, row in enumerate(listed.packed)}
        k = np.array([index[row.tobytes()] for row in np.packbits(cells.patterns, axis=1)], dtype=int)
        gates = dict(zip(("gate_weights", "gate_biases"), task.neuron.split(listed.gates[:, k].T)))
    return replace(
        network,
        hidden_weights=weights,
        hidden_biases=biases,
        output_weights=output_weights.reshape(len(weights), *network.output_weights.shape[1:]),
        **gates,
    )


def free_terms(task: Task, phi: NDArray) -> tuple[NDArray, NDArray]:
    """What intercept and skip connection add to keep predictions where they are, for a unit of each path norm: on the
    data (n_samples, n_outputs, m), and as weights, those of the features first, then the bias, (..., m)."""
    n, n_outputs, m = phi.shape
    shift = -np.tensordot(task.free, np.tensordot(task.free.T, phi, 1), 1) / n
    if task.skip is None:
        return shift, shift[:1] if task.fit_intercept else np.zeros((1, n_outputs, m))
    weights = np.zeros((task.skip.shape[1] + 1, n_outputs, m))
    for j in range(m):
        skip, bias = task.free_weights(shift[:, :, j].reshape(task.shape))
        weights[:-1, :, j], weights[-1, :, j] = np.reshape(np.asarray(skip), (-1, n_outputs)), bias
    return shift, weights


def match(task: Task, cells: Cells, neurons: Cells) -> NDArray:
    """Path norms of a network's neurons, each given to the neuron of its sign and output (and gate) that lies next.

    Parameters
    ----------
    task : Task
        The training problem.
    cells : Cells
        Of a nearly optimal network.
    neurons : Cells
        V of norm 1.

    Returns
    -------
    path_norms : array of shape (n_neurons,)
    """
    norms, t = task.neuron.norms(cells.V), np.zeros(len(neurons.sign))
    for k in np.flatnonzero(norms):
        same = (neurons.sign == cells.sign[k]) & (neurons.output == cells.output[k])
        if not task.neuron.activation.cones:
            same &= (neurons.patterns == cells.patterns[k]).all(axis=1)
        own = np.flatnonzero(same)
        if len(own):
            t[own[np.argmin(np.linalg.norm(neurons.V[own] - cells.V[k] / norms[k], axis=1))]] += norms[k]
    return t
