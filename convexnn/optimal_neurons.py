"""The neurons that optimal networks can have: those whose price is alpha, at a dual solution exact to rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ACTIVATIONS
from convexnn.adaptive import MAX_NEW_CELLS, ONE_NEURON, Blocks, find, signed
from convexnn.arrangements import Arrangement
from convexnn.cones import project_onto_cones
from convexnn.network import Network, clusters
from convexnn.penalties import FreeBiasConeGroupLasso
from convexnn.pricing import SPREAD, Peaks, spread
from convexnn.problem import Design, Problem
from convexnn.solvers import Newton
from convexnn.sparse_cones import sparse_norms, support

# A sample this close to a neuron's hyperplane (unit vectors), or a weight this small, is exactly zero at the optimum.
ON_FACE = 1e-6
# Blocks below this share of the sum of norms are what the solver leaves of zero.
TINY = 1e-8
# Relative gap over the neurons' cells that Newton's method is asked for, and prices that are above alpha by rounding.
ACCURACY, ROUNDING = 1e-11, 1e-8
# Random starts, perturbed vectors and generations of the searches over all patterns.
EFFORT = (1000, 100, 30)


def optimal_neurons(
    problem: Problem,
    hidden_bias: str,
    gated: bool,
    blocks: Blocks,
    listed: Arrangement | None,
    random_state: np.random.Generator,
    tol: float,
) -> tuple[Blocks, NDArray, NDArray, NDArray, float, int]:
    """Solve a program from nearly optimal blocks, and list the neurons whose price is alpha.

    Column generation first: the cells of the blocks and those with a price above alpha, until there is none. Newton's
    method on the faces that the neurons lie in then takes them, and theta, to the accuracy of rounding, where the
    neurons of all cells are looked at again.

    Parameters
    ----------
    problem : Problem
        The training problem, of a smooth loss, without patterns.
    hidden_bias : {"penalized", "free", "none"}
        Whether the last column of the data are ones, and the norms leave out its weight.
    gated : bool
        Whether the network is gated.
    blocks : Blocks
        To start from; in listed cells if there is a list.
    listed : Arrangement or None
        Patterns to look at, all others count for nothing; None for a search over all.
    random_state : numpy Generator
        Of the search.
    tol : float
        Prices from (1 - tol) alpha on are kept.

    Returns
    -------
    neurons : Blocks
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
    kind = problem, hidden_bias, gated
    blocks, found, n_patterns = _solve(*kind, blocks, listed, random_state)
    blocks, theta = _refined(*kind, blocks)
    found = _highest(*kind, theta, found, 1 - tol) if listed is None else _from_list(*kind, theta, listed, 1 - tol)
    highest = float(norms_of(problem, hidden_bias, found.V).max(initial=0.0))
    return *_distinct(*kind, blocks, found), theta, highest, n_patterns


def norms_of(problem, hidden_bias, V) -> NDArray:
    """Norms of vectors in the penalty."""
    return sparse_norms(V[:, : V.shape[1] - (hidden_bias == "free")], problem.penalty.feature_penalty)


def _highest(problem, hidden_bias, gated, theta, cells: Blocks, share: float) -> Blocks:
    """Of each cell the vector of highest price, with the price as norm; only prices above that share of alpha."""
    X, floor, mu = problem.design.X, share * problem.alpha, problem.penalty.feature_penalty
    t = cells.sign * theta.reshape(len(X), -1)[:, cells.output]
    G, k = np.zeros((len(cells.sign), X.shape[1])), np.arange(len(cells.sign))
    size = max(1, 4_000_000 // len(X))
    for part in (k[i : i + size] for i in range(0, len(k), size)):
        G[part] = (cells.patterns[part] * t[:, part].T) @ X
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    rows, V = X / np.where(lengths > 0, lengths, 1.0), G
    if gated and mu is not None:
        V = support(G, mu, np.zeros((1, X.shape[1])), np.zeros((len(G), 1), dtype=bool), floor=floor)[0]
    elif not gated and mu is not None:
        V = support(G, mu, rows, cells.patterns, floor=floor)[0]
    elif hidden_bias == "free":
        V = FreeBiasConeGroupLasso(X, cells.patterns, k).maximisers(G, floor)
    elif not gated:
        V = project_onto_cones(G, rows, cells.patterns, floor=floor)[0]
    if mu is not None:
        # As long as the price, where norms are wanted that are the price.
        V = V * (np.linalg.norm(V, axis=1) / np.maximum(sparse_norms(V, mu), 1e-300))[:, None]
    prices = norms_of(problem, hidden_bias, V)
    return replace(cells, V=V).take(np.flatnonzero(prices > max(floor, 1e-12 * problem.alpha)))


def _from_list(problem, hidden_bias, gated, theta, listed: Arrangement, share: float) -> Blocks:
    """The same for all listed patterns, signs and outputs."""
    patterns, parts = listed.patterns.T, []
    for output in range(problem.design.n_outputs):
        for sign in (1.0,) if gated else (1.0, -1.0):
            size = len(patterns)
            V = np.zeros((size, problem.design.X.shape[1]))
            cells = Blocks(patterns, np.full(size, sign), np.full(size, output), V)
            parts.append(_highest(problem, hidden_bias, gated, theta, cells, share))
    return Blocks(*(np.concatenate(part) for part in zip(*(vars(part).values() for part in parts))))


def _solve(problem, hidden_bias, gated, blocks: Blocks, listed, rng) -> tuple[Blocks, Blocks, int]:
    """Column generation from given blocks: the solution, the last cells found, and how many were looked at."""
    X, alpha = problem.design.X, problem.alpha
    activation = ACTIVATIONS["gated_relu" if gated else "relu"]()
    for _ in range(100):
        k = np.arange(len(blocks.sign))
        design = Design(X, blocks.patterns, k, blocks.sign, blocks.output, problem.design.n_outputs)
        penalty = activation.penalty(X, blocks.patterns, k, hidden_bias, problem.penalty.feature_penalty)
        program = replace(problem, design=design, penalty=penalty)
        V = Newton(tol=ACCURACY).solve(program, blocks.V).coef if len(k) else blocks.V
        z = design @ V
        theta = -problem.gradient(z + problem.best_intercept(z))
        blocks = replace(blocks, V=V)
        if listed is None:
            neurons = blocks.take(np.flatnonzero(V.any(axis=1)))
            dual = 2 * neurons.output + (neurons.sign < 0)
            known = Peaks(neurons.patterns, neurons.V, np.full(neurons.V.shape, -1), dual)
            mu = problem.penalty.feature_penalty
            peaks = find(X, signed(theta), known, hidden_bias, (*EFFORT, rng), feature_penalty=mu)[0]
            output, negative = np.divmod(np.concatenate([peaks.dual, dual]), 2)
            patterns = np.concatenate([peaks.patterns, neurons.patterns])
            cells = Blocks(patterns, 1.0 - 2.0 * negative, output, np.zeros((len(output), X.shape[1])))
            n_patterns = len(peaks.patterns)
            found = _highest(problem, hidden_bias, gated, theta, cells.join(cells.take(k[:0])), 0.9)
        else:
            found, n_patterns = _from_list(problem, hidden_bias, gated, theta, listed, 0.9), listed.n_patterns
        prices = norms_of(problem, hidden_bias, found.V)
        order = np.argsort(-prices, kind="stable")
        order = order[prices[order] > alpha * (1 + ROUNDING)]
        before = len(blocks.sign)
        for feed in range(problem.design.n_outputs):
            for sign in (1.0, -1.0):
                own = order[(found.output[order] == feed) & (found.sign[order] == sign)]
                far = spread(found.V[own] / prices[own, None], MAX_NEW_CELLS, SPREAD) if len(own) else []
                blocks = blocks.join(found.take(own[far]).weightless())
        if len(blocks.sign) == before:
            break
    return blocks, found, n_patterns


def _refined(problem, hidden_bias, gated, blocks: Blocks) -> tuple[Blocks, NDArray]:
    """Newton's method on the smooth problem over the faces that the blocks lie in, and theta there.

    On its face a non-zero block is free, and the norm is smooth; steps of least length where several blocks do the
    same.
    """
    X, n_outputs, mu = problem.design.X, problem.design.n_outputs, problem.penalty.feature_penalty
    norms = norms_of(problem, hidden_bias, blocks.V)
    blocks = blocks.take(norms > TINY * norms.sum())
    if not gated:
        blocks = blocks.merged()
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    free = np.kron(problem.free, np.eye(n_outputs))
    faces, columns = [], [np.zeros((free.shape[0], 0))]
    for pattern, sign, output, v in zip(*vars(blocks).values()):
        linear = hidden_bias == "free" and pattern.all()
        on = (np.abs(unit @ v) <= ON_FACE * np.linalg.norm(v)) & (not gated and not linear)
        zero = np.abs(v) <= ON_FACE * np.linalg.norm(v) * (np.zeros(len(v)) if mu is None else mu > 0)
        zero[-1] |= linear
        normals = np.vstack([unit[on], np.eye(len(v))[zero]])
        _, singular, axes = np.linalg.svd(normals, full_matrices=True)
        faces.append(axes[np.count_nonzero(singular > 1e-9) :].T)
        feeds = np.zeros((len(X), n_outputs, faces[-1].shape[1]))
        feeds[:, output] = sign * (pattern[:, None] * X) @ faces[-1]
        columns.append(feeds.reshape(len(free), faces[-1].shape[1]))
    B = np.hstack([*columns, free])
    cuts = np.cumsum([0, *(face.shape[1] for face in faces)])
    start = problem.best_intercept(
        Design(X, blocks.patterns, np.arange(len(faces)), blocks.sign, blocks.output, n_outputs) @ blocks.V
    )
    start = np.broadcast_to(start, problem.null_model[1].shape).reshape(len(X), n_outputs)
    x = np.concatenate([*(face.T @ v for face, v in zip(faces, blocks.V)), (problem.free.T @ start / len(X)).ravel()])
    counts = np.ones(X.shape[1])
    counts[-1:] = hidden_bias != "free"
    shape, best = problem.null_model[1].shape, (np.inf, x, problem.null_model[1])
    for _ in range(30):
        z = (B @ x).reshape(shape)
        theta = -problem.gradient(z)
        slope = -B.T @ theta.ravel()
        curved = problem.loss.hessian(problem.y, z).reshape(len(X), n_outputs, n_outputs)
        curved = curved * problem.sample_weight[:, None, None]
        hessian = B.T @ (curved @ B.reshape(len(X), n_outputs, B.shape[1])).reshape(B.shape)
        inside = True
        for face, pattern, low, high in zip(faces, blocks.patterns, cuts, cuts[1:]):
            v = face @ x[low:high]
            length = np.linalg.norm(counts * v)
            toward = face.T @ (counts * v) / length
            charge = 0.0 if mu is None else face.T @ (mu * np.sign(v))
            slope[low:high] += problem.alpha * (toward + charge)
            hessian[low:high, low:high] += (
                problem.alpha / length * ((face.T * counts) @ face - np.outer(toward, toward))
            )
            side = (unit @ v) * np.where(pattern, 1.0, -1.0) * (not gated)
            inside &= bool(side.min() > -ON_FACE * length or (hidden_bias == "free" and pattern.all()))
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
    return replace(blocks, V=V), theta


def _distinct(problem, hidden_bias, gated, blocks: Blocks, found: Blocks) -> tuple[Blocks, NDArray, NDArray]:
    """Neurons of norm 1, each once although it may lie on walls of several cells, and the path norms of the blocks.

    Free biases: also pairs of neurons that differ by a bias from one end of a cell to the other, (n_pairs, 2), with the
    same neuron twice where that has no end.
    """
    X, ends = problem.design.X, [replace(found, V=found.V / norms_of(problem, hidden_bias, found.V)[:, None])]
    if hidden_bias == "free":
        W = ends[0].V[:, :-1]
        low = np.max(-X[:, :-1] @ W.T, axis=0, where=found.patterns.T, initial=-np.inf)
        high = np.min(-X[:, :-1] @ W.T, axis=0, where=~found.patterns.T, initial=np.inf)
        high = np.where(np.isinf(high), low, high)
        ends = [replace(found, V=np.column_stack([W, bias])) for bias in (low, high)]
        linear = blocks.patterns.all(axis=1)
        blocks.V[linear, -1] = -(X[:, :-1] @ blocks.V[linear, :-1].T).min(axis=0)
    ends.append(replace(blocks, V=blocks.V / norms_of(problem, hidden_bias, blocks.V)[:, None]))
    every = Blocks(*(np.concatenate(part) for part in zip(*(vars(part).values() for part in ends))))
    place = [every.V, every.sign[:, None], every.output[:, None]]
    if gated:
        place.append(
            np.unique(np.packbits(every.patterns, axis=1), axis=0, return_inverse=True)[1].reshape(len(every.V), 1)
        )
    group = clusters(np.hstack(place), ONE_NEURON)
    norms = np.zeros(len(every.V))
    norms[len(norms) - len(blocks.V) :] = norms_of(problem, hidden_bias, blocks.V)
    pairs = group[: (len(ends) - 1) * len(found.V)].reshape(len(ends) - 1, len(found.V)).T[:, [0, -1]]
    same = pairs[:, 0] == pairs[:, 1]
    pairs = pairs[~same | found.patterns.all(axis=1)] if hidden_bias == "free" else pairs[:0]
    return every.take(np.unique(group, return_index=True)[1]), np.bincount(group, norms), pairs


def unit_neurons(network, problem, hidden_bias, gated, cells: Blocks, listed) -> Network:
    """Neurons of path norm 1."""
    m, d = len(cells.sign), network.hidden_weights.shape[1]
    output_weights = np.zeros((m, problem.design.n_outputs))
    output_weights[np.arange(m), cells.output] = cells.sign
    gates = {}
    if gated:
        index = {row.tobytes(): k for k, row in enumerate(listed.packed)}
        k = np.array([index[row.tobytes()] for row in np.packbits(cells.patterns, axis=1)], dtype=int)
        gate = np.pad(listed.gates[:, k].T, ((0, 0), (0, int(hidden_bias == "none"))))
        gates = dict(gate_weights=gate[:, :d], gate_biases=gate[:, d])
    return replace(
        network,
        hidden_weights=cells.V[:, :d],
        hidden_biases=np.zeros(m) if hidden_bias == "none" else cells.V[:, d],
        output_weights=output_weights.reshape(m, *network.output_weights.shape[1:]),
        **gates,
    )


def free_terms(problem, phi: NDArray) -> tuple[NDArray, NDArray]:
    """What intercept and skip connection add to keep predictions where they are, for a unit of each path norm: on the
    data (n_samples, n_outputs, m), and as weights, those of the features first, then the bias, (..., m)."""
    n, n_outputs, m = phi.shape
    shift = -np.tensordot(problem.free, np.tensordot(problem.free.T, phi, 1), 1) / n
    if problem.skip is None:
        return shift, shift[:1] if problem.fit_intercept else np.zeros((1, n_outputs, m))
    weights = np.zeros((problem.skip.shape[1] + 1, n_outputs, m))
    for j in range(m):
        skip, bias = problem.free_weights(shift[:, :, j].reshape(problem.null_model[1].shape))
        weights[:-1, :, j], weights[-1, :, j] = np.reshape(skip, (-1, n_outputs)), bias
    return shift, weights


def match(problem: Problem, hidden_bias: str, gated: bool, blocks: Blocks, neurons: Blocks) -> NDArray:
    """Path norms of a network's blocks, each given to the neuron of its sign and output (and gate) that lies next.

    Parameters
    ----------
    problem, hidden_bias, gated
        As in ``optimal_neurons``.
    blocks : Blocks
        Of a nearly optimal network.
    neurons : Blocks
        V of norm 1.

    Returns
    -------
    path_norms : array of shape (n_neurons,)
    """
    norms, t = norms_of(problem, hidden_bias, blocks.V), np.zeros(len(neurons.sign))
    for k in np.flatnonzero(norms):
        same = (neurons.sign == blocks.sign[k]) & (neurons.output == blocks.output[k])
        if gated:
            same &= (neurons.patterns == blocks.patterns[k]).all(axis=1)
        own = np.flatnonzero(same)
        if len(own):
            t[own[np.argmin(np.linalg.norm(neurons.V[own] - blocks.V[k] / norms[k], axis=1))]] += norms[k]
    return t
