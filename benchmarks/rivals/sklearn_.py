"""scikit-learn's MLPRegressor and MLPClassifier: their hidden biases are outside the weight decay, another objective.

Graded by (N), in which hidden biases count. Both minimise the mean loss plus alpha / (2 n_samples) times the squared
weights, so that alpha is ours; the classifier's loss is the log loss.
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
        options = dict(learning_rate_init=run["step"], batch_size=min(n, 200)) if adam else {}
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
                for _ in range(max(2000 // n, 1) if adam else 1):
                    if adam:
                        model.partial_fit(
                            X, y, **({} if kind is MLPRegressor else {"classes": np.array([False, True])})
                        )
                    else:
                        model.fit(X, y)
            seconds = perf_counter() - begin
            (W, a), (b, c) = model.coefs_, model.intercepts_
            now = W.T.copy(), b.copy(), a[:, 0].copy(), float(c[0])
            value = training.objective(now)
            if not trace or value < trace[-1][1] * (1 - 1e-9):
                trace.append((seconds, value))
                network = now
            elif not adam:
                break
        yield run, network, trace
