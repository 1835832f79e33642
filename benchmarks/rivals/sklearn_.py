"""scikit-learn's MLPRegressor and MLPClassifier: their hidden biases are outside the weight decay, another objective.

Graded by (N), in which hidden biases count, after each neuron got the scale at which it costs least there, which
changes no prediction. Both minimise the mean loss plus alpha / (2 n_samples) times the squared weights when batches
hold all rows, so that alpha is ours; the classifier's loss is the log loss.
"""

from __future__ import annotations

import warnings
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

PINS: list[str] = []
METHODS = {"MLP adam (free biases)": (1e-3, 1e-2), "MLP lbfgs (free biases)": (None,)}


def train(training, args, runs):
    """Epochs of Adam, or pieces of 200 iterations of L-BFGS, until the time of the run is over."""
    if not training.intercept:
        raise RuntimeError("left out: its output bias cannot be left out")
    X, n = training.X, len(training.y)
    for run in runs:
        kind, y = (MLPRegressor, training.y) if training.loss == "squared" else (MLPClassifier, training.y > 0)
        adam = "adam" in run["method"]
        options = dict(learning_rate_init=run["step"], batch_size=n) if adam else {}
        model = kind(
            hidden_layer_sizes=(run["width"],),
            alpha=training.alpha,
            solver="adam" if adam else "lbfgs",
            max_iter=200,
            tol=1e-12,
            warm_start=not adam,
            random_state=run["seed"],
            **options,
        )
        classes = {} if kind is MLPRegressor else {"classes": np.array([False, True])}
        seconds, trace, network = 0.0, [], None
        while seconds < run["max_time"]:
            begin = perf_counter() - seconds
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                for _ in range(30 if adam else 1):
                    if adam:
                        model.partial_fit(X, y, **classes)
                    else:
                        model.fit(X, y)
            seconds = perf_counter() - begin
            (W, a), (b, c) = model.coefs_, model.intercepts_
            now = balanced(W.T, b, a[:, 0], float(c[0]))
            value = training.objective(now)
            if not trace or value < trace[-1][1] * (1 - 1e-9):
                trace.append((seconds, value))
                network = now
            elif not adam:
                break
        yield run, network, trace


def balanced(W, b, a, c):
    """The same network with |(w_j, b_j)| = |a_j|."""
    inner, outer = np.sqrt(np.sum(W * W, axis=1) + b * b), np.abs(a)
    t = np.sqrt(outer / np.where(inner > 0, inner, 1.0))
    alive = (inner > 0) & (outer > 0)
    scale, back = np.where(alive, t, 0.0), np.where(alive, 1 / np.where(alive, t, 1.0), 0.0)
    return scale[:, None] * W, scale * b, back * a, c
