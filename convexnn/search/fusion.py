"""Neurons near each other become one wherever that does not raise the objective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check
from convexnn.program.cells import Cells
from convexnn.program.problem import Problem

# Neurons are fused with one of their nearest, so many, at a cosine above this: it bounds the work.
NEAR, NEIGHBOURS = 0.9, 5


def fused(problem: Problem, cells: Cells, intercept: NDArray | float) -> Cells:
    """Neurons near each other become their sum wherever that does not raise the objective.

    A solution to a tolerance often has several neurons where the optimum has one: in cells next to each other, with
    directions that hardly differ. Their sum is shorter than both together, and changes the predictions little.

    Parameters
    ----------
    problem : Problem
        Its loss, alpha and norm are those of the objective.
    cells : Cells
        Neurons, each inside the cell of its pattern.
    intercept : float or array
        Beside the neurons, and not changed.

    Returns
    -------
    cells : Cells
        Without empty ones; sums have patterns of their own.
    """
    part = cells.take(np.flatnonzero(cells.alive))
    task, X, V = problem.task, problem.task.rows, part.V.copy()
    z = np.zeros((len(task.y), task.n_outputs))
    activation = task.neuron.activation
    H = activation(X @ V.T) * part.sign
    np.add.at(z.T, part.output, H.T)

    def objective(z, norms):
        return task.loss_value((z if z.shape[1] > 1 else z[:, 0]) + intercept) + problem.alpha * norms.sum()

    norms = task.neuron.norms(V)
    value, alive = objective(z, norms), np.full(len(V), True)
    apart = np.not_equal.outer(part.sign, part.sign) | np.not_equal.outer(part.output, part.output)
    np.fill_diagonal(apart, True)
    while True:
        U = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-300)
        cosine = np.where(apart | ~np.logical_and.outer(alive, alive), -1.0, U @ U.T)
        first = np.repeat(np.arange(len(V)), min(NEIGHBOURS, len(V)))
        second = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS].ravel()
        order = np.argsort(-cosine[first, second], kind="stable")
        before, touched = int(alive.sum()), np.full(len(V), False)
        for i, j in zip(first[order], second[order], strict=True):
            check()
            if cosine[i, j] <= NEAR:
                break
            if touched[i] or touched[j]:
                continue
            v = V[i] + V[j]
            h = X @ v
            if task.neuron.linear(np.array([h >= 0, h > 0])).any():
                # With all samples on one side the bias is a constant, which is the intercept's.
                continue
            h = activation(h) * part.sign[i]
            trial, lengths = z.copy(), norms.copy()
            trial[:, part.output[i]] += h - H[:, i] - H[:, j]
            lengths[i], lengths[j] = task.neuron.norms(v[None])[0], 0.0
            if (reached := objective(trial, lengths)) <= value:
                value, z, norms = reached, trial, lengths
                V[i], V[j], H[:, i], H[:, j] = v, 0.0, h, 0.0
                alive[j], touched[i], touched[j] = False, True, True
        if alive.sum() == before:
            return Cells((X @ V.T >= 0).T, part.sign, part.output, V).take(np.flatnonzero(alive))
