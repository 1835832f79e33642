"""Tasks and programs from arrays as tests have them: rows with their ones column, blocks listed one by one."""

from dataclasses import replace

import numpy as np

from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.neuron import Neuron
from convexnn.program.conversion import network_of
from convexnn.program.problem import Problem
from convexnn.program.task import Task


def task_of_rows(
    rows,
    y,
    loss,
    weights=None,
    fit_intercept=True,
    n_outputs=1,
    skip=None,
    hidden_bias="penalized",
    feature_penalty=None,
    activation="relu",
):
    """The task of rows that have their ones column already, and of a feature penalty of all coordinates."""
    neuron = Neuron(ACTIVATIONS[activation], hidden_bias, feature_penalty)
    weights = np.ones(len(rows)) if weights is None else weights
    return Task(rows, y, loss, weights, neuron, fit_intercept, skip, n_outputs)


def listing(activation, rows, y, arrangement, loss, alpha, *settings, **options):
    """The program over all patterns of an arrangement."""
    task = task_of_rows(rows, y, loss, *settings, activation=activation, **options)
    return Problem.listing(task, arrangement.patterns.T, alpha)


def program(design, y, loss, penalty, alpha, weights, fit_intercept=True, skip=None):
    """The program over the blocks of a design, of neurons that the penalty is one of."""
    bias = "free" if penalty.free_bias else "penalized"
    activation = design.activation.name if penalty.cones else "gated_relu"
    options = dict(hidden_bias=bias, feature_penalty=penalty.feature_penalty, activation=activation)
    task = task_of_rows(design.X, y, loss, weights, fit_intercept, design.n_outputs, skip, **options)
    return Problem(task, design, penalty, alpha)


def changed(problem, **changes):
    """The program with another design, penalty or alpha, or of a task with other data or settings."""
    own = {name: changes.pop(name) for name in ("design", "penalty", "alpha") if name in changes}
    if "design" in own:
        changes["rows"] = own["design"].X
    return replace(problem, task=replace(problem.task, **changes), **own)


def to_network(problem, coef, intercept, arrangement=None):
    """The network of coefficients; gates are those of the arrangement."""
    gates = None if problem.task.neuron.activation.cones else arrangement.gates
    return network_of(problem, coef, intercept, gates)
