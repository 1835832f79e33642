"""The Newton system against its definition, and the solver on data that are hard for linear algebra."""

from dataclasses import replace

import numpy as np
import pytest
from programs import changed, program
from scipy.linalg import null_space

from convexnn.losses import LOSSES, Huber
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.penalties import ConeGroupLasso, GroupLasso
from convexnn.program.design import Design
from convexnn.program.result import STATUSES
from convexnn.solvers import Newton, newton

SMOOTH = [name for name, loss in LOSSES.items() if np.isfinite(loss.lipschitz)]


@pytest.fixture(autouse=True)
def from_the_first_step(monkeypatch):
    """Without FISTA's iterations, which solve small problems without cones before Newton's first step."""
    monkeypatch.setattr(newton, "_worth_of_steps", lambda problem: 0)


def draw_point(make_problem, seed, loss, activation, intercept, n=14, d=4, P=6):
    """A problem, a point with several non-zero blocks, some on faces of their cones, and sigma."""
    rng = np.random.default_rng([seed, *loss.encode()])
    problem = make_problem(rng, loss, activation, intercept, True, n=n, d=d, P=P)
    shape = np.shape(problem.task.null_model[1])
    C = problem.design.n_outputs
    V, warm = problem.penalty.prox(0.5 * rng.standard_normal(problem.design.shape), 0.1)
    c = (0.1 * rng.standard_normal(C) if C > 1 else 0.1) if intercept else 0.0
    sigma = 10.0 ** rng.uniform(-1, 1) / problem.alpha
    point = newton._Point(problem, 0.3 * rng.standard_normal(shape), V, c, sigma, warm)
    assert point.U.any()
    return problem, point, sigma


def pieces(problem, point):
    """The arguments that _newton_step gives to the systems."""
    blocks = np.flatnonzero(point.U.any(axis=1))
    bases, skip = problem.penalty.faces(point.U, blocks, point.warm)
    k, j = np.nonzero(np.arange(point.U.shape[1]) >= skip[:, None])
    return blocks, bases, np.linalg.norm(point.U[blocks], axis=1), k, j


def explicit_step(problem, point, sigma, explicit):
    """Solution of (I + sigma A W A^T H) step = A S(.) - u, all matrices dense, samples before outputs."""
    design = problem.design
    n, d = design.X.shape
    C = design.n_outputs
    A = explicit(design).transpose(1, 0, 2).reshape(n * C, -1)
    W = np.zeros((A.shape[1], A.shape[1]))
    for k, v in enumerate(point.U):
        length = np.linalg.norm(v)
        if length == 0:
            continue
        face = np.eye(d)
        if isinstance(problem.penalty, ConeGroupLasso):
            on = np.abs(problem.penalty.rows @ v) <= 1e-9 * length
            N = null_space(design.X[on]) if on.any() else np.eye(d)
            face = N @ N.T
        shrink = length / (length + sigma * problem.alpha)
        part = slice(k * d, (k + 1) * d)
        W[part, part] = shrink * face + (1 - shrink) * np.outer(v, v) / length**2
    K = A @ W @ A.T
    if problem.task.fit_intercept:
        constant = np.tile(np.eye(C), (n, 1))
        K += constant @ constant.T
    H = np.zeros((n * C, n * C))
    hessian = problem.task.loss.hessian(problem.task.y, point.u).reshape(n, C, C)
    for i in range(n):
        part = slice(i * C, (i + 1) * C)
        H[part, part] = problem.task.sample_weight[i] * hessian[i]
    u = point.u.ravel()
    z = (A @ point.U.ravel()).reshape(n, C) + point.c
    return np.linalg.solve(np.eye(n * C) + sigma * K @ H, z.ravel() - u).reshape(point.u.shape)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_three_systems_are_one(seed, loss, activation, intercept, make_problem, explicit, monkeypatch):
    problem, point, sigma = draw_point(make_problem, seed, loss, activation, intercept)
    expected = explicit_step(problem, point, sigma, explicit)
    size = np.linalg.norm(expected)
    assert size > 0
    # sigma times the largest eigenvalue, below 1e6 here, amplifies rounding.
    for system in (newton._direction_step, newton._sample_step):
        step = system(problem, point, sigma, *pieces(problem, point))
        assert step.shape == point.u.shape
        assert np.linalg.norm(step - expected) <= 1e-6 * size
    assert np.linalg.norm(newton._newton_step(problem, point, sigma) - expected) <= 1e-6 * size
    called = []
    system, solve = newton._conjugate_gradient_step, newton.cg
    monkeypatch.setattr(newton, "MATRIX_BYTES", 0)
    monkeypatch.setattr(newton, "_conjugate_gradient_step", lambda *args: called.append(1) or system(*args))
    step = newton._newton_step(problem, point, sigma)
    assert called
    # Stopped at a relative residual of 1e-3, which the condition of the system multiplies: it descends all the same.
    assert np.vdot(point.HR, step) < 0
    monkeypatch.setattr(newton, "cg", lambda *args, **options: solve(*args, rtol=1e-13, maxiter=20_000))
    step = newton._newton_step(problem, point, sigma)
    assert np.linalg.norm(step - expected) <= 1e-6 * size


@pytest.mark.parametrize("n, P", [(40, 3), (8, 12)])
def test_the_smaller_system_is_taken(n, P, make_problem, monkeypatch):
    problem, point, sigma = draw_point(make_problem, 0, "squared", "gated_relu", True, n=n, P=P)
    called = []
    for name in ("_direction_step", "_sample_step", "_conjugate_gradient_step"):
        monkeypatch.setattr(newton, name, lambda *args, name=name: called.append(name))
    newton._newton_step(problem, point, sigma)
    free = 4 * np.count_nonzero(point.U.any(axis=1))
    assert called == ["_sample_step" if free > n else "_direction_step"]


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("intercept", [False, True])
def test_step_without_blocks(loss, intercept, make_problem, explicit):
    """alpha above alpha_max: all blocks are zero, and the step is that of the intercept alone."""
    rng = np.random.default_rng(0)
    problem = make_problem(rng, loss, "relu", intercept, ratio=10.0)
    zero = np.zeros(problem.design.shape)
    u = np.zeros_like(problem.task.null_model[1])
    c = np.zeros(problem.design.n_outputs) if problem.design.n_outputs > 1 else 0.0
    point = newton._Point(problem, u, zero, c, 0.1, None)
    if not point.U.any():
        assert np.allclose(newton._newton_step(problem, point, 0.1), explicit_step(problem, point, 0.1, explicit))


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
@pytest.mark.slow
def test_high_accuracy(loss, activation, ratio, make_problem):
    for seed in range(3):
        rng = np.random.default_rng([seed, *loss.encode()])
        problem = make_problem(rng, loss, activation, bool(seed % 2), True, n=25, P=8, ratio=ratio)
        result = Newton(tol=1e-9).solve(problem)
        assert result.status == "optimal" and result.relative_gap <= 1e-9
        check_honest(problem, result, 1e-9)


@pytest.mark.parametrize("loss", ["squared", "log_loss", "multinomial_log_loss"])
def test_high_accuracy_by_conjugate_gradients(loss, make_problem, monkeypatch):
    monkeypatch.setattr(newton, "MATRIX_BYTES", 0)
    problem = make_problem(np.random.default_rng(1), loss, "relu", n=25, P=8)
    result = Newton(tol=1e-8).solve(problem)
    assert result.status == "optimal" and result.relative_gap <= 1e-8


def check_honest(problem, result, tol):
    """Status, bound and objective, none of them taken from the solver."""
    assert result.status in STATUSES and result.message.startswith(STATUSES[result.status])
    assert np.isfinite(result.coef).all() and np.isfinite(result.intercept).all() and np.isfinite(result.primal)
    objective = problem.objective(result.coef, result.intercept)
    assert np.isclose(result.primal, objective, rtol=1e-9, atol=1e-12)
    # Feasible to what rounding leaves of a projection.
    assert problem.penalty.violation(result.coef) <= 1e-9
    if np.isfinite(result.dual):
        assert result.dual <= result.primal * (1 + 1e-12) + 1e-12
        assert np.isclose(problem.task.dual_value(result.theta), result.dual, rtol=1e-9, atol=1e-12)
        assert problem.penalty.dual_norm(problem.design.adjoint(result.theta)) <= problem.alpha * (1 + 1e-8)
        if problem.task.fit_intercept:
            assert np.abs(result.theta.sum(axis=0)).max() <= 1e-8 * (1 + np.abs(result.theta).sum())
    if result.status == "optimal":
        assert result.relative_gap <= tol
    if result.history:
        assert result.history[-1]["relative_gap"] >= result.relative_gap * (1 - 1e-9) - 1e-15


def duplicated_columns(rng, X):
    return np.column_stack([X, X[:, :2], X[:, 0]])


def duplicated_rows(rng, X):
    return np.repeat(X, 3, axis=0)


def rank_deficient(rng, X):
    return X[:, :2] @ rng.standard_normal((2, 5))


def mixed_scales(rng, X):
    return X * np.logspace(-3, 3, X.shape[1])


def all_of_it(rng, X):
    return mixed_scales(rng, duplicated_rows(rng, duplicated_columns(rng, X)))


def zero_rows_and_columns(rng, X):
    return np.concatenate([np.column_stack([X, np.zeros(len(X))]), np.zeros((3, X.shape[1] + 1))])


HARD = [duplicated_columns, duplicated_rows, rank_deficient, mixed_scales, all_of_it, zero_rows_and_columns]


def hard_problem(rng, family, loss, activation, make_target, ratio=0.05):
    X = family(rng, np.column_stack([rng.standard_normal((12, 3)), np.ones(12)]))
    n, d = X.shape
    y = make_target(rng, LOSSES[loss](), n)
    C = 3 if loss == "multinomial_log_loss" else 1
    patterns = np.unique(rng.standard_normal((8, d)) @ X.T >= 0, axis=0)
    signs = (1.0,) if activation == "gated_relu" else (1.0, -1.0)
    blocks = [(k, s, o) for k in range(len(patterns)) for s in signs for o in range(C)]
    pattern, sign, output = (np.array(column) for column in zip(*blocks))
    design = Design(X, patterns, pattern, sign, output, C, ACTIVATIONS[activation])
    penalty = ConeGroupLasso(X, patterns, pattern) if activation != "gated_relu" else GroupLasso()
    problem = program(design, y, LOSSES[loss](), penalty, 1.0, np.ones(n), True)
    return replace(problem, alpha=ratio * problem.alpha_max)


@pytest.mark.parametrize("family", HARD)
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_data_that_are_hard_for_linear_algebra(family, loss, activation, make_target):
    for seed, ratio in enumerate((0.3, 0.01)):
        problem = hard_problem(np.random.default_rng(seed), family, loss, activation, make_target, ratio)
        result = Newton(tol=1e-8, max_iter=2000).solve(problem)
        check_honest(problem, result, 1e-8)
        # Rounding stops the progress near the optimum, unless columns are a million times as long as others.
        assert result.relative_gap <= 1e-4 or family in (mixed_scales, all_of_it)


@pytest.mark.parametrize("family", HARD)
def test_hard_data_by_every_system(family, make_target, monkeypatch):
    """Each of the three systems alone reaches the same optimum."""
    problem = hard_problem(np.random.default_rng(3), family, "squared", "relu", make_target)
    optimum = Newton(tol=1e-7, max_iter=2000).solve(problem)

    def with_pieces(system):
        def step(problem, point, sigma):
            return system(problem, point, sigma, *pieces(problem, point)) if point.U.any() else -point.R

        return step

    for system in (newton._direction_step, newton._sample_step):
        with monkeypatch.context() as patch:
            patch.setattr(newton, "_newton_step", with_pieces(system))
            result = Newton(tol=1e-7, max_iter=2000).solve(problem)
            check_honest(problem, result, 1e-7)
            # Each objective is above the optimum by its own gap at most.
            slack = (result.relative_gap + optimum.relative_gap) * optimum.primal
            assert abs(result.primal - optimum.primal) <= slack + 1e-12


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("tol", [0.0, 1e-15])
def test_beyond_rounding(loss, tol, make_problem):
    """A gap that rounding forbids: the solver stops by itself and says so."""
    problem = make_problem(np.random.default_rng(2), loss, "relu", n=20)
    result = Newton(tol=tol, max_iter=3000).solve(problem)
    check_honest(problem, result, tol)
    assert result.status in ("optimal", "stalled")
    assert result.relative_gap <= 1e-9


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_iteration_limit(loss, max_iter, make_problem):
    problem = make_problem(np.random.default_rng(4), loss, "relu", n=20, P=8, ratio=0.01)
    result = Newton(tol=1e-12, max_iter=max_iter).solve(problem)
    assert result.n_iter <= max_iter
    assert result.status == "max_iter"
    check_honest(problem, result, 1e-12)
    # Never worse than the start, the best constant.
    zero = problem.objective(np.zeros(problem.design.shape), problem.task.null_model[0])
    assert result.primal <= zero * (1 + 1e-12)


@pytest.mark.parametrize("intercept", [True, False])
def test_all_residuals_beyond_delta(intercept, make_problem):
    """No sample has curvature at the best constant prediction, nor after a long step across zero."""
    problem = make_problem(np.random.default_rng(5), "huber", "relu", intercept, n=40, P=20)
    # alpha is a share of what its largest value is for these targets too: theta is that of the signs.
    problem = changed(problem, y=50 + 10 * problem.task.y)
    result = Newton(tol=1e-6).solve(problem)
    assert result.status == "optimal"
    check_honest(problem, result, 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_huber_just_below_alpha_max(seed, make_problem):
    """Neurons that only move samples beyond delta have no curvature, and rounding hides that it is exactly none."""
    rng = np.random.default_rng(seed)
    for activation in ("relu", "gated_relu"):
        problem = make_problem(rng, Huber(0.5), activation, weighted=True, ratio=0.99)
        result = Newton(tol=1e-8).solve(problem)
        assert result.status == "optimal" and result.n_iter < 100 and result.coef.any()


def test_huber_whose_neuron_moves_two_outliers():
    X = np.array([-0.7, 1.0, 0.1, -0.6, 0.5, -0.8, -0.7, 0.7, -0.2, -1.1, -1.1, -2.0])
    y = np.array([-0.31, 1.55, -1.27, -1.29, -1.57, -0.55, -0.80, 1.04, -0.98, 0.43, -0.46, 1.57])
    weights = np.array([1.38, 0.76, 0.37, 0.33, 1.68, 1.85, 1.33, 1.54, 1.22, 1.89, 1.69, 0.3])
    lifted, patterns = np.column_stack([X, np.ones(12)]), (X >= 0.6)[None]
    design = Design(lifted, patterns, [0], [1.0], [0])
    problem = program(design, y, Huber(), GroupLasso(), 1.0, weights)
    result = Newton(tol=1e-8).solve(replace(problem, alpha=0.99 * problem.alpha_max))
    assert result.status == "optimal" and result.coef.any()


@pytest.mark.parametrize("cubic", [(2.0, 1.0), (0.0, 2.0), (5.0, 3.0)])
def test_line_searches_step_to_the_least_value_of_the_cubic(cubic):
    a, b = cubic
    t = np.linspace(0.0, 1.0, 100_001)
    least = t[np.argmin(a * t**3 + b * t**2 - t)]
    assert abs(newton._least_of_cubic(-1.0, a + b - 1.0, 3 * a + 2 * b - 1.0) - least) <= 1e-5


def test_line_searches_halve_where_the_value_is_no_number():
    assert newton._least_of_cubic(-1.0, np.inf, np.inf) == newton._least_of_cubic(-1.0, np.nan, 1.0) == 0.5
    # Never a step that is too short to be told from none.
    assert newton._least_of_cubic(-1.0, 1e9, 1e9) == 0.1
