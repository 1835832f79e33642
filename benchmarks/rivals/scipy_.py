"""SciPy's L-BFGS on the weight-decay objective (N) of a two-layer ReLU network, NumPy in float64."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

PINS: list[str] = []
METHODS = {"L-BFGS": (None,)}
# Rows are taken in chunks whose activations, about this many numbers, stay in the cache.
CHUNK = 65_536


def squared(y, z):
    """Sum of (y - z)^2 / 2, and its gradient in z."""
    return 0.5 * float((y - z) @ (y - z)), z - y


def log_loss(y, z):
    """Sum of log(1 + exp(-y z)) with y = -1 or 1, and its gradient in z."""
    return float(np.logaddexp(0.0, -y * z).sum()), -y * expit(-y * z)


LOSSES = {"squared": squared, "log_loss": log_loss}


def train(training, args, runs):
    """L-BFGS from random weights, started again where it stops, for the time of each run."""
    for run in runs:
        decay = WeightDecay(training.X, training.y, training.loss, training.alpha, run["width"], training.intercept)
        p, trace, _ = lbfgs(decay, decay.start(run["seed"]), max_time=run["max_time"])
        yield run, decay.network(p), trace


class WeightDecay:
    """Sum of losses + alpha / 2 (|W|^2 + |b|^2 + |a|^2) as a function of one vector (W with b as last column, a, c).

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    y : array of shape (n_samples,)
        Targets; -1 and 1 for the log loss.
    loss : {"squared", "log_loss"}
        Loss of a sample.
    alpha : float
        Weight decay.
    width : int
        Number of neurons.
    intercept : bool, default=True
        Whether there is an output bias c, which is not penalised.
    """

    def __init__(self, X, y, loss, alpha, width, intercept=True):
        self.X, self.y, self.alpha, self.width = np.column_stack([X, np.ones(len(X))]), y, alpha, width
        self.loss, self.intercept, self.split = LOSSES[loss], float(intercept), width * (X.shape[1] + 1)

    def start(self, seed):
        """Random weights: hidden rows of length about 1, output weights of -1 or 1 over the root of the width."""
        rng = np.random.default_rng(seed)
        W = rng.standard_normal(self.split) / np.sqrt(self.X.shape[1])
        return np.concatenate([W, rng.choice([-1.0, 1.0], self.width) / np.sqrt(self.width), [0.0]])

    def network(self, p):
        """Hidden weights, hidden biases, output weights, output bias."""
        W = p[: self.split].reshape(self.width, -1)
        return W[:, :-1], W[:, -1], p[self.split : -1], p[-1]

    def __call__(self, p):
        """Objective and gradient."""
        step = max(CHUNK // self.width, 32)
        value, slope = 0.5 * self.alpha * float(p[:-1] @ p[:-1]), self.alpha * p
        slope[-1] = 0.0
        for first in range(0, len(self.y), step):
            rows = slice(first, first + step)
            part, add = self.losses(p, self.X[rows], self.y[rows])
            value += part
            slope += add
        return value, slope

    def losses(self, p, X, y):
        """Sum of the losses of some rows, and its gradient."""
        W, a = p[: self.split].reshape(self.width, -1), p[self.split : -1]
        hidden = X @ W.T
        on = (hidden > 0).astype(float)
        np.maximum(hidden, 0.0, out=hidden)
        value, g = self.loss(y, hidden @ a + p[-1])
        slope = np.empty_like(p)
        np.multiply(on.T @ (g[:, None] * X), a[:, None], out=slope[: self.split].reshape(W.shape))
        slope[self.split : -1] = g @ hidden
        slope[-1] = self.intercept * g.sum()
        return value, slope


def lbfgs(objective, p, max_iter=10**6, max_time=np.inf, clock=perf_counter):
    """SciPy's L-BFGS-B with 20 pairs; where it stops it starts again from weights changed by about 0.1 %.

    It often stops at a kink, far from a minimum. The end is reached when three new starts in a row gain less than 1e-7.

    Parameters
    ----------
    objective : WeightDecay
        What to minimise.
    p : array
        Start.
    max_iter : int, default=10**6
        Limit of iterations, all starts together.
    max_time : float, optional
        Limit in seconds.
    clock : callable, default=perf_counter
        What seconds are.

    Returns
    -------
    p : array
        Best weights.
    trace : list of (seconds, objective)
    n_iter : int
        Iterations.
    """
    begin, trace, n_iter, idle = clock(), [], 0, 0
    rng, best, lowest = np.random.default_rng(0), p, np.inf

    def recorded(p):
        value, slope = objective(p)
        if not trace or value < trace[-1][1]:
            trace.append((clock() - begin, value))
        return value, slope

    def on_time(intermediate_result):
        if clock() - begin > max_time:
            raise StopIteration

    while n_iter < max_iter and clock() - begin < max_time and idle < 3:
        options = dict(maxiter=max_iter - n_iter, maxfun=10 * max_iter, maxcor=20, ftol=1e-13, gtol=1e-8)
        found = minimize(recorded, p, jac=True, method="L-BFGS-B", options=options, callback=on_time)
        n_iter += max(found.nit, 1)
        idle = idle + 1 if found.fun > lowest * (1 - 1e-7) else 0
        if found.fun < lowest:
            best, lowest = found.x, found.fun
        p = best * (1 + 1e-3 * rng.standard_normal(len(best)))
    return best, trace, n_iter
