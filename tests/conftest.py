"""Small problems, and the textbook program that judges them: explicit matrices and scalar loops only."""

from functools import cache

import cvxpy as cp
import numpy as np
import pytest
from programs import program
from threadpoolctl import threadpool_limits

from convexnn.losses import LOSSES
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.penalties import ConeGroupLasso, GroupLasso
from convexnn.program.design import Design

# The problems are small and the tests run in parallel: more threads would only wait for each other.
threadpool_limits(1)


def draw_target(rng, loss, n, n_classes=3):
    """A target in the first coding that the loss accepts: real numbers, signs, class indices (every class occurs)."""
    signs = rng.permutation(np.where(np.arange(n) % 2, 1.0, -1.0))
    for y in (2 * rng.standard_normal(n), signs):
        try:
            return loss.check_target(y)
        except ValueError:
            continue
    return loss.check_target(rng.permutation(np.arange(n) % n_classes))


def draw_problem(
    rng,
    loss="squared",
    activation="relu",
    intercept=True,
    weighted=False,
    n=12,
    d=3,
    P=4,
    n_classes=3,
    ratio=0.1,
):
    """A random Problem with alpha = ratio * alpha_max; the last column of X is ones."""
    loss = LOSSES[loss]() if isinstance(loss, str) else loss
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    y = draw_target(rng, loss, n, n_classes)
    n_outputs = n_classes if loss.name == "multinomial_log_loss" else 1
    patterns = np.unique(rng.standard_normal((P, d)) @ X.T >= 0, axis=0)
    signs = (1.0,) if activation == "gated_relu" else (1.0, -1.0)
    blocks = [(k, sign, out) for k in range(len(patterns)) for sign in signs for out in range(n_outputs)]
    pattern, sign, output = (np.array(column) for column in zip(*blocks))
    design = Design(X, patterns, pattern, sign, output, n_outputs, ACTIVATIONS[activation])
    penalty = GroupLasso() if activation == "gated_relu" else ConeGroupLasso(X, patterns, pattern)
    weights = rng.uniform(0.5, 2.0, n) if weighted else np.ones(n)
    scale = program(design, y, loss, penalty, 1.0, weights, intercept).alpha_max
    return program(design, y, loss, penalty, ratio * scale, weights, intercept)


def explicit_matrices(design):
    """One matrix an output, (n_outputs, n_samples, n_blocks * n_features), filled entry by entry."""
    n, d = design.X.shape
    below = {"leaky_relu": 0.01, "absolute": -1.0}.get(design.activation.name, 0.0)
    A = np.zeros((design.n_outputs, n, len(design.pattern) * d))
    for k in range(len(design.pattern)):
        for i in range(n):
            slope = 1.0 if design.patterns[design.pattern[k], i] else below
            for j in range(d):
                A[design.output[k], i, k * d + j] = slope * design.sign[k] * design.X[i, j]
    return A


def textbook_loss(loss, y, z):
    """One sample's loss in cvxpy; z is a list with one scalar expression an output."""
    if loss.name == "multinomial_log_loss":
        return cp.log_sum_exp(cp.hstack(z)) - z[int(y)]
    z = z[0]
    if loss.name == "huber":
        inner = cp.Variable()  # the Huber function is the infimal convolution of a square and an absolute value
        return 0.5 * cp.square(inner) + loss.delta * cp.abs(y - z - inner)
    return {
        "squared": lambda: 0.5 * cp.square(y - z),
        "log_loss": lambda: cp.log_sum_exp(cp.hstack([0.0, -y * z])),
        "squared_hinge": lambda: cp.square(cp.maximum(0, 1 - y * z)),
        "hinge": lambda: cp.maximum(0, 1 - y * z),
        "absolute": lambda: cp.abs(y - z),
        "quantile": lambda: loss.q * cp.maximum(0, y - z) + (1 - loss.q) * cp.maximum(0, z - y),
    }[loss.name]()


def solve_textbook(problem, alpha=None):
    """Optimal value, coefficients and intercept of program (C) by Clarabel at tight tolerances."""
    design, alpha = problem.design, problem.alpha if alpha is None else alpha
    n, d = design.X.shape
    A = explicit_matrices(design)
    blocks = [cp.Variable(d) for _ in design.pattern]
    v = cp.hstack(blocks)
    intercept = cp.Variable(design.n_outputs)
    constraints = [] if problem.task.fit_intercept else [intercept == 0]
    total = 0
    features = np.zeros((n, 1)) if problem.task.skip is None else problem.task.skip
    linear = cp.Variable((features.shape[1], design.n_outputs))
    for i in range(n):
        z = [A[out, i] @ v + intercept[out] + features[i] @ linear[:, out] for out in range(design.n_outputs)]
        total = total + problem.task.sample_weight[i] * textbook_loss(problem.task.loss, problem.task.y[i], z)
    for block in blocks:
        total = total + alpha * cp.norm(block, 2)
    if isinstance(problem.penalty, ConeGroupLasso):
        for k, block in enumerate(blocks):
            inside = design.patterns[design.pattern[k]]
            constraints.append(np.array([x if on else -x for x, on in zip(design.X, inside)]) @ block >= 0)
    program = cp.Problem(cp.Minimize(total), constraints)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert program.status == "optimal"
    return program.value, np.array([block.value for block in blocks]), intercept.value


@pytest.fixture(scope="session")
def make_problem():
    return draw_problem


@pytest.fixture(scope="session")
def make_target():
    return draw_target


@pytest.fixture(scope="session")
def explicit():
    return explicit_matrices


@pytest.fixture(scope="session")
def textbook():
    return solve_textbook


@pytest.fixture(scope="session")
def reference():
    """The problem of the given settings and its textbook solution, solved once a session."""

    @cache
    def solve(loss, activation, intercept, weighted):
        settings = f"{loss} {activation} {intercept} {weighted}"
        problem = draw_problem(np.random.default_rng(list(settings.encode())), loss, activation, intercept, weighted)
        return problem, solve_textbook(problem)

    return solve
