"""Local descent on the weight-decay objective of a network: it brings patterns that are worth listing."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from scipy.optimize import Bounds, minimize

from convexnn.budget import OutOfTime, check, late
from convexnn.program.cells import Cells
from convexnn.program.task import Task
from convexnn.search.pricing import in_single_precision


# Trial steps may leave the range of single precision; the line search does not take them.
@np.errstate(over="ignore", invalid="ignore")
def descend(
    task: Task,
    alpha: float,
    random_state: np.random.Generator,
    start: Cells | None = None,
    n_neurons: int = 50,
    max_iter: int = 400,
) -> Cells:
    """Neurons that L-BFGS finds on the weight-decay objective itself, from given ones or from a random start.

    Every neuron feeds one output. The point is not to be optimal but to bring patterns worth listing: products are in
    single precision, mostly. With a feature penalty weights are differences of two non-negative numbers, and those of
    most features end at zero.
    """
    X, n_outputs = task.rows, task.n_outputs
    n, d = X.shape
    decayed = np.ones(d)
    decayed[-1:] = not task.neuron.free_bias
    feature_penalty = task.neuron.feature_penalty
    signs, mu = ([1.0], np.zeros(d)) if feature_penalty is None else ([1.0, -1.0], feature_penalty)
    if start is None:
        output = np.arange(n_neurons * n_outputs) % n_outputs
        W = random_state.standard_normal((len(output), d)) / np.sqrt(d)
        a = 0.5 * random_state.choice([-1.0, 1.0], len(output))
    else:
        lengths = np.linalg.norm(start.V * decayed, axis=1) + np.abs(start.V) @ mu
        keep = lengths > 0
        output, root = start.output[keep], np.sqrt(lengths[keep])
        W, a = start.V[keep] / root[:, None], start.sign[keep] * root
    order = np.argsort(output, kind="stable")
    output, W, a, m = output[order], W[order], a[order], len(output)
    feeding = [slice(*np.searchsorted(output, (o, o + 1))) for o in range(n_outputs)]
    free = task.free

    rows, activation = in_single_precision(X), task.neuron.activation

    def forward(W, a):
        before = rows @ W.T.astype(rows.dtype)
        hidden, a = activation(before), a.astype(rows.dtype)
        return before > 0, hidden, np.column_stack([hidden[:, part] @ a[part] for part in feeding]).astype(float)

    def unpack(p):
        parts, a, c = np.split(p, [len(signs) * m * d, len(signs) * m * d + m])
        parts = parts.reshape(len(signs), m, d)
        return np.tensordot(signs, parts, 1), parts.sum(axis=0) @ mu, a, c.reshape(-1, n_outputs)

    def objective(p):
        check()
        W, charge, a, c = unpack(p)
        active, hidden, z = forward(W, a)
        z += free @ c
        z = z[:, 0] if n_outputs == 1 else z
        g = task.gradient(z).reshape(n, n_outputs)
        back, slope_a = activation.slopes(active).astype(rows.dtype), np.empty(m)
        for o, part in enumerate(feeding):
            slope = g[:, o].astype(rows.dtype)
            slope_a[part] = slope @ hidden[:, part]
            back[:, part] *= slope[:, None]
        # The decay is the sum of size^2, size = |w| + sum_j mu_j |w_j|, the second linear in the parts.
        lengths = np.linalg.norm(decayed * W, axis=1)
        size = lengths + charge
        slope_W = a[:, None] * (back.T @ rows) + alpha * (size / np.maximum(lengths, 1e-300))[:, None] * decayed * W
        slopes = [(sign * slope_W + alpha * size[:, None] * mu).ravel() for sign in signs]
        slope_a += alpha * a
        decay = np.sum(decayed * W * W) if feature_penalty is None else size @ size
        value = task.loss_value(z) + 0.5 * alpha * (decay + a @ a)
        return value, np.concatenate([*slopes, slope_a, (free.T @ g).ravel()])

    # Neurons that first have to stand in for the unpenalised terms would lose their places.
    z = forward(W, a)[2]
    z = z[:, 0] if n_outputs == 1 else z
    c = free.T @ np.broadcast_to(task.best_intercept(z), z.shape).reshape(n, n_outputs) / n
    parts, low = np.stack([W]), -np.inf
    if feature_penalty is not None:
        parts, low = np.maximum(np.multiply.outer(signs, W), 0.0), 0.0
    begin = np.concatenate([parts.ravel(), a, c.ravel()])
    bounds = Bounds(np.where(np.arange(len(begin)) < parts.size, low, -np.inf), np.inf)
    options = dict(maxiter=max_iter)
    last = begin

    def watch(p):
        nonlocal last
        last = p.copy() if np.isfinite(p).all() else last
        if late():
            raise OutOfTime

    with suppress(OutOfTime):
        minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options, callback=watch)
    W, _, a, _ = unpack(last)
    cells = Cells((X @ W.T >= 0).T, np.where(a >= 0, 1.0, -1.0), output, np.abs(a)[:, None] * W)
    return cells.turned(X, task.neuron).join(Cells.none(X))
