"""convexnn itself, through its public interface."""

from __future__ import annotations

import warnings
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from convexnn import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.losses import get_loss
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.neuron import Neuron
from convexnn.program.design import Design
from convexnn.program.problem import Problem
from convexnn.program.task import Task
from convexnn.solvers import Fista, Newton

PINS: list[str] = []
TOLERANCES = {Newton: (1e-3, 1e-4, 1e-6, 1e-8), Fista: (1e-3, 1e-4, 1e-5, 1e-6)}
#: Limit of one run of FISTA in seconds.
FISTA_TIME = 60.0


def problem_of(program):
    """The package's Problem, with blocks in the referee's order."""
    patterns = np.ascontiguousarray(program.D.T > 0)
    blocks = len(program.signs)
    design = Design(program.X, patterns, program.pattern, program.signs, np.zeros(blocks, dtype=int))
    neuron = Neuron(ACTIVATIONS["relu" if program.cones else "gated_relu"])
    task = Task(program.X, program.y, get_loss("squared"), np.ones(len(program.y)), neuron, fit_intercept=False)
    penalty = neuron.penalty(program.X, patterns, program.pattern)
    return Problem(task, design, penalty, program.alpha)


def convex(program, args):
    """Newton and FISTA at several tolerances: best time of a few solves of the same problem."""
    for solver, tolerances in TOLERANCES.items():
        limit = min(args.max_time, FISTA_TIME) if solver is Fista else args.max_time
        for tol in tolerances:
            best, problem = np.inf, problem_of(program)
            problem.design @ np.zeros(problem.design.shape)  # the float patterns are part of the set-up
            for _ in range(args.repeats):
                start = perf_counter()
                result = solver(tol=tol, max_time=limit).solve(problem)
                best = min(best, perf_counter() - start)
                if best > 5:
                    break
            setting = f"tol={tol:.0e}, {result.n_iter} iterations"
            late = result.status != "optimal"
            yield f"convexnn {solver.__name__}", setting + f", {result.status}" * late, best, result.coef, result.theta
            if late:
                break


def estimator(training, **options):
    """The estimator for the loss of a training problem."""
    kind = ConvexReLURegressor if training.loss == "squared" else ConvexReLUClassifier
    settings = dict(loss=training.loss, patterns="adaptive", certify=False, random_state=0)
    return kind(alpha=training.alpha, fit_intercept=training.intercept, **(settings | options))


def fitted(training, **options):
    """A fitted estimator and its seconds."""
    model = estimator(training, **options)
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(training.X, training.y)
    return model, perf_counter() - start


def alpha_max(training):
    """The largest price over all patterns that the search finds, to 7 digits: where the network loses its neurons."""
    saved, training.alpha = training.alpha, 1e6 * len(training.y)
    try:
        return float(f"{fitted(training)[0].alpha_max_:.7g}")
    finally:
        training.alpha = saved


def weights(network):
    """The arrays of a network, as the referee takes them."""
    return network.hidden_weights, network.hidden_biases, network.output_weights, float(network.output_bias)


def trace_of(model, seconds):
    """(seconds, objective) of a fit; what came before the history's clock is added to it."""
    history = model.result_.history
    before = max(seconds - history[-1]["seconds"], 0.0) if history else 0.0
    return [(entry["seconds"] + before, entry["objective"]) for entry in history]
