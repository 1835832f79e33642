"""The neurons of price alpha against a fine look at all directions of the plane."""

import numpy as np
import pytest

from convexnn.analysis.optimal_neurons import optimal_neurons
from convexnn.arrangements import enumerate_patterns
from convexnn.estimators.networks import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.losses import get_loss
from convexnn.program.cells import Cells
from convexnn.proofs.graded import task_of

X = np.array([-2.0, -1.0, -0.4, 0.3, 1.0, 1.7])[:, None]
y = np.array([1.0, -0.5, 0.4, 0.2, -0.8, 1.5])


@pytest.mark.parametrize("loss", ["squared", "log_loss"])
@pytest.mark.parametrize("mu", [None, 0.4])
def test_prices_all_round_the_circle(loss, mu):
    target = y if loss == "squared" else np.sign(y)
    model = ConvexReLURegressor(alpha=0.05, feature_penalty=mu or 0.0, patterns="exact")
    if loss == "log_loss":
        model = ConvexReLUClassifier(alpha=0.05, feature_penalty=mu or 0.0, patterns="exact")
    network = model.fit(X, target).network_
    task = task_of(network, X, target, get_loss(loss), None, True, "penalized")
    rows, listed = task.rows, enumerate_patterns(task.rows)
    cells = Cells.of_network(network, rows, task.neuron)
    found = optimal_neurons(task, 0.05, cells, listed, np.random.default_rng(0), 1e-9)
    neurons, t, pairs, theta, highest, n_patterns = found
    assert n_patterns == listed.n_patterns == 12 and len(pairs) == 0
    assert np.isclose(highest, 0.05, rtol=1e-12)
    assert np.allclose(task.neuron.norms(neurons.V), 1.0)
    prices = neurons.sign * (np.maximum(rows @ neurons.V.T, 0).T @ theta)
    assert np.allclose(prices, 0.05, rtol=1e-9)
    # The solution explains theta, and theta is orthogonal to the intercept.
    z = np.maximum(rows @ neurons.V.T, 0) @ (neurons.sign * t)
    assert np.allclose(-task.gradient(z + task.best_intercept(z)), theta, atol=1e-12)
    angle = np.arange(0, 2 * np.pi, 1e-4)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    charged = task.neuron.feature_penalty
    circle /= 1.0 if charged is None else (1 + np.abs(circle) @ charged)[:, None]
    price = np.maximum(rows @ circle.T, 0).T @ theta
    assert np.abs(price).max() <= 0.05 * (1 + 1e-9)
    for k in np.flatnonzero(np.abs(price) > 0.05 * (1 - 1e-8)):
        distance = np.linalg.norm(neurons.V - circle[k], axis=1) + np.abs(neurons.sign - np.sign(price[k]))
        assert distance.min() < 1e-3
