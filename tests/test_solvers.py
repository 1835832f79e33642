from dataclasses import FrozenInstanceError, replace

import cvxpy as cp
import numpy as np
import pytest
from programs import changed
from scipy.optimize import nnls

from convexnn.losses import LOSSES
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.penalties import ConeGroupLasso
from convexnn.program.design import Design
from convexnn.program.result import STATUSES
from convexnn.solvers import SOLVERS, CvxpySolver, Fista

SMOOTH = [name for name in LOSSES if np.isfinite(LOSSES[name].lipschitz)]
KINKED = [name for name in LOSSES if name not in SMOOTH]


def check_result(problem, result, explicit):
    """What every result promises, whatever its status: nothing here trusts a number of the solver."""
    design = problem.design
    A = explicit(design)
    assert result.status in STATUSES
    assert result.message.startswith(STATUSES[result.status])
    assert result.coef.shape == design.shape and np.isfinite(result.coef).all()
    z = np.stack([matrix @ result.coef.ravel() for matrix in A], axis=1)
    z = (z if design.n_outputs > 1 else z[:, 0]) + result.intercept
    primal = problem.task.sample_weight @ problem.task.loss.value(problem.task.y, z)
    primal += problem.alpha * sum(np.linalg.norm(v) for v in result.coef)
    assert np.isclose(result.primal, primal, rtol=1e-9, atol=1e-12)
    assert result.dual <= result.primal * (1 + 1e-12) + 1e-12
    theta = result.theta.reshape(len(problem.task.y), -1)
    correlations = sum(matrix.T @ column for matrix, column in zip(A, theta.T)).reshape(design.shape)
    cones = [np.zeros((0, design.shape[1]))] * len(correlations)
    if isinstance(problem.penalty, ConeGroupLasso):
        cones = [np.where(design.patterns[k], 1.0, -1.0)[:, None] * design.X for k in design.pattern]
    for v, g, B in zip(result.coef, correlations, cones):
        support = g + B.T @ nnls(B.T, -g)[0] if len(B) else g
        assert np.linalg.norm(support) <= problem.alpha * (1 + 1e-8)
        if len(B) and v.any():
            assert np.min(B @ v / np.linalg.norm(B, axis=1)) >= -1e-9 * np.linalg.norm(v)
    if problem.task.fit_intercept:
        assert np.abs(theta.sum(axis=0)).max() <= 1e-8 * (1 + np.abs(theta).sum())
    if np.isfinite(result.dual):
        assert np.isclose(problem.task.dual_value(result.theta), result.dual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.slow
def test_textbook(solver, loss, activation, intercept, weighted, reference, explicit):
    problem, (optimum, _, _) = reference(loss, activation, intercept, weighted)
    result = SOLVERS[solver](tol=1e-8).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    assert np.isclose(result.dual, optimum, rtol=1e-6)
    # The textbook program is solved to a relative 1e-9, in constraints and gap.
    assert result.primal >= optimum - 1e-7 * (1 + abs(optimum))
    assert result.dual <= optimum + 1e-7 * (1 + abs(optimum))
    if solver == "fista":
        assert result.status == "optimal" and result.relative_gap <= 1e-8
    check_result(problem, result, explicit)


@pytest.mark.parametrize("loss", KINKED)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("intercept", [False, True])
def test_textbook_with_kinks(loss, activation, intercept, reference, explicit):
    problem, (optimum, _, _) = reference(loss, activation, intercept, True)
    result = CvxpySolver(tol=1e-6).solve(problem)
    assert result.status == "optimal"
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    assert result.dual <= optimum + 1e-7 * (1 + abs(optimum))
    check_result(problem, result, explicit)


@pytest.mark.parametrize("loss", KINKED)
def test_fista_refuses_kinks(loss, make_problem):
    problem = make_problem(np.random.default_rng(0), loss)
    with pytest.raises(ValueError, match=f"'fista'.*loss='{loss}'.*solver='cvxpy'"):
        Fista().solve(problem)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_zero_from_alpha_max_on(solver, loss, activation, make_problem, explicit):
    for ratio in (1.0 + 1e-9, 1.5, 100.0):
        problem = make_problem(np.random.default_rng(1), loss, activation, ratio=ratio)
        result = SOLVERS[solver](tol=1e-6).solve(problem)
        assert result.status == "optimal"
        assert not result.coef.any()
        assert np.allclose(result.intercept, problem.task.null_model[0])
        check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_small_alpha(solver, activation, make_problem, textbook, explicit):
    problem = make_problem(np.random.default_rng(2), "squared", activation, ratio=1e-3)
    optimum, _, _ = textbook(problem)
    result = SOLVERS[solver](tol=1e-6).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-5)
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_features_than_samples(solver, make_problem, textbook, explicit):
    problem = make_problem(np.random.default_rng(3), "squared", "relu", n=4, d=7)
    optimum, _, _ = textbook(problem)
    result = SOLVERS[solver](tol=1e-7).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_sample(solver, make_problem, textbook, explicit):
    problem = make_problem(np.random.default_rng(4), "squared", "relu", intercept=False, n=1, P=9)
    assert problem.alpha_max > 0
    optimum, _, _ = textbook(problem)
    result = SOLVERS[solver](tol=1e-7).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
def test_patterns_that_are_never_active(solver, activation, make_problem, explicit):
    problem = make_problem(np.random.default_rng(4), "squared", activation)
    design = problem.design
    nothing = np.zeros_like(design.patterns)
    dead = type(design)(design.X, nothing, design.pattern, design.sign, design.output)
    penalty = ConeGroupLasso(design.X, nothing, design.pattern) if activation != "gated_relu" else problem.penalty
    problem = replace(problem, design=dead, penalty=penalty, alpha=0.5)
    for start in (None, np.ones(design.shape)):
        result = SOLVERS[solver](tol=1e-6).solve(problem, coef_init=start)
        assert result.status == "optimal"
        assert problem.alpha * np.linalg.norm(result.coef, axis=1).sum() <= 1e-6 * result.primal
        check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 3.7])
def test_a_constant_target_is_solved_at_once(solver, loss, constant, make_problem, explicit):
    problem = make_problem(np.random.default_rng(5), loss, weighted=True)
    problem = changed(problem, y=np.full(len(problem.task.y), constant), alpha=0.5)
    result = SOLVERS[solver](**({"max_iter": 50} if solver != "cvxpy" else {})).solve(problem)
    assert not result.coef.any() and np.isclose(result.intercept, constant)
    assert result.primal <= 1e-20
    assert result.status == "optimal"
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", ["log_loss", "multinomial_log_loss", "squared"])
@pytest.mark.slow
def test_duplicated_rows_are_sample_weight_two(solver, activation, loss, make_problem, explicit):
    problem = make_problem(np.random.default_rng(6), loss, activation, weighted=True, n=14)
    design = problem.design
    twice = np.concatenate([[2], np.arange(14), [5]])
    X, patterns = design.X[twice], design.patterns[:, twice]
    copied = changed(
        problem,
        design=type(design)(
            X, patterns, design.pattern, design.sign, design.output, design.n_outputs, design.activation
        ),
        penalty=ConeGroupLasso(X, patterns, design.pattern) if activation != "gated_relu" else problem.penalty,
        y=problem.task.y[twice],
        sample_weight=problem.task.sample_weight[twice],
    )
    weighted = changed(problem, sample_weight=problem.task.sample_weight * np.bincount(twice))
    results = [SOLVERS[solver](tol=1e-8).solve(p) for p in (copied, weighted)]
    assert np.isclose(results[0].primal, results[1].primal, rtol=1e-7)
    assert np.isclose(results[0].dual, results[1].dual, rtol=1e-7)
    check_result(copied, results[0], explicit)


@pytest.mark.parametrize("solver", SOLVERS)
def test_integer_features_and_copies(solver, textbook, make_problem, explicit):
    problem = make_problem(np.random.default_rng(12), "squared", "relu", n=16, d=3, P=6)
    rng = np.random.default_rng(13)
    X = np.column_stack([rng.integers(0, 3, (16, 2)), np.ones(16)]).astype(float)
    patterns = np.unique(rng.standard_normal((40, 3)) @ X.T >= 0, axis=0)
    pattern, sign = np.repeat(np.arange(len(patterns)), 2), np.tile([1.0, -1.0], len(patterns))
    problem = changed(
        problem,
        design=type(problem.design)(X, patterns, pattern, sign, np.zeros(len(pattern), dtype=int)),
        penalty=ConeGroupLasso(X, patterns, pattern),
        alpha=0.3,
    )
    optimum, _, _ = textbook(problem)
    result = SOLVERS[solver](tol=1e-7).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    check_result(problem, result, explicit)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("max_iter", [0, 1, 3, 17])
def test_iteration_limit(activation, max_iter, reference, explicit):
    problem, (optimum, _, _) = reference("log_loss", activation, True, True)
    result = Fista(tol=1e-12, max_iter=max_iter).solve(problem)
    assert result.status == "max_iter"
    assert result.n_iter == max_iter
    assert result.history[-1]["iteration"] == max_iter
    assert result.relative_gap > 1e-12
    assert result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


def test_iteration_limit_of_a_backend(reference, explicit):
    problem, (optimum, _, _) = reference("squared", "relu", True, True)
    result = CvxpySolver(tol=1e-9, max_iter=2).solve(problem)
    assert result.status in ("max_iter", "failed")
    assert result.primal >= optimum - 1e-7 and result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_time_limit(activation, reference, explicit):
    problem, (optimum, _, _) = reference("squared", activation, True, True)
    result = Fista(tol=1e-12, max_time=0.0).solve(problem)
    assert result.status == "time_limit"
    assert result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


def test_time_limit_of_a_backend(reference, explicit):
    problem, (optimum, _, _) = reference("squared", "relu", True, True)
    result = CvxpySolver(tol=1e-9, max_time=1e-9).solve(problem)
    assert result.status == "time_limit"
    assert result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


class Interrupting:
    def __init__(self, after):
        self.after, self.calls = after, 0

    def __call__(self, entry):
        self.calls += 1
        if self.calls >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("loss", ["squared", "multinomial_log_loss"])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_interrupt_from_the_callback(loss, after, reference, explicit):
    problem, (optimum, _, _) = reference(loss, "relu", True, True)
    result = Fista(tol=0.0, check_every=3, callback=Interrupting(after)).solve(problem)
    assert result.status == "interrupted"
    assert result.n_iter == 3 * (after - 1)
    assert len(result.history) == after
    assert result.primal >= optimum - 1e-7 and result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


def test_interrupt_from_the_callback_of_a_backend(reference, explicit):
    problem, _ = reference("squared", "relu", True, True)
    try:
        result = CvxpySolver(callback=Interrupting(1)).solve(problem)
    except KeyboardInterrupt:
        pytest.fail("the finished result was lost to an interrupt")  # a bare KeyboardInterrupt would end the run
    check_result(problem, result, explicit)


def test_interrupt_within_a_backend(reference, monkeypatch, explicit):
    problem, (optimum, _, _) = reference("squared", "relu", True, True)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cp.Problem, "solve", interrupt)
    result = CvxpySolver(tol=1e-9).solve(problem)
    assert result.status == "interrupted" and "interrupted" in result.message
    assert not result.coef.any() and result.dual <= optimum + 1e-7
    check_result(problem, result, explicit)


def test_a_backend_that_fails_is_quoted(reference, monkeypatch, explicit):
    problem, _ = reference("squared", "relu", True, True)

    def fail(*args, **kwargs):
        raise cp.error.SolverError("the factorisation broke down")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    result = CvxpySolver(tol=1e-9).solve(problem)
    assert result.status == "failed" and "the factorisation broke down" in result.message
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
def test_callback_sees_every_entry(solver, reference):
    problem, _ = reference("squared", "relu", True, True)
    seen = []
    result = SOLVERS[solver](callback=seen.append).solve(problem)
    assert seen == result.history and len(seen) >= 1
    for entry in seen:
        assert set(entry) >= {"iteration", "seconds", "objective", "relative_gap", "blocks"}
    assert seen[-1]["objective"] == pytest.approx(result.primal)
    assert seen[-1]["relative_gap"] == pytest.approx(result.relative_gap)


def test_history_improves(reference):
    problem, _ = reference("log_loss", "gated_relu", False, True)
    history = Fista(tol=1e-8).solve(problem).history
    assert np.all(np.diff([entry["objective"] for entry in history]) <= 0)
    assert np.all(np.diff([entry["relative_gap"] for entry in history]) <= 1e-15)
    assert np.all(np.diff([entry["seconds"] for entry in history]) >= 0)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_warm_start_at_the_solution(loss, activation, reference, explicit):
    problem, _ = reference(loss, activation, True, False)
    cold = Fista(tol=1e-9).solve(problem)
    start = cold.coef.copy()
    warm = Fista(tol=1e-6).solve(problem, coef_init=start)
    assert warm.status == "optimal" and warm.n_iter <= 10
    assert warm.n_iter < cold.n_iter
    assert np.array_equal(start, cold.coef)
    check_result(problem, warm, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_start_gives_the_same_optimum(solver, activation, reference, explicit):
    problem, (optimum, _, _) = reference("squared", activation, True, True)
    start = 10 * np.random.default_rng(0).standard_normal(problem.design.shape)
    before = start.copy()
    result = SOLVERS[solver](tol=1e-8).solve(problem, coef_init=start)
    assert np.isclose(result.primal, optimum, rtol=1e-6)
    assert np.array_equal(start, before)
    check_result(problem, result, explicit)


def test_a_backend_keeps_a_better_start(reference, monkeypatch):
    problem, (optimum, _, _) = reference("squared", "relu", True, True)
    start = Fista(tol=1e-8).solve(problem).coef

    def fail(*args, **kwargs):
        raise cp.error.SolverError("no")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    result = CvxpySolver(tol=1e-6).solve(problem, coef_init=start)
    assert np.isclose(result.primal, optimum, rtol=1e-6)


def test_unknown_backend(reference):
    problem, _ = reference("squared", "relu", True, True)
    with pytest.raises(ValueError, match=r"backend must be one of .*CLARABEL.*, got 'NO_SUCH_SOLVER'"):
        CvxpySolver(backend="NO_SUCH_SOLVER").solve(problem)


@pytest.mark.parametrize("backend", [name for name in ("SCS",) if name in cp.installed_solvers()])
def test_another_backend(backend, reference, explicit):
    problem, (optimum, _, _) = reference("squared", "relu", True, True)
    result = CvxpySolver(backend=backend, tol=1e-2).solve(problem)
    assert np.isclose(result.primal, optimum, rtol=1e-2)
    assert backend in result.message
    check_result(problem, result, explicit)


@pytest.mark.parametrize("solver", SOLVERS)
def test_settings_are_frozen(solver):
    settings = SOLVERS[solver]()
    with pytest.raises(FrozenInstanceError):
        settings.tol = 1.0
    assert settings == SOLVERS[solver]()


@pytest.mark.parametrize("solver", SOLVERS)
def test_solutions_are_deterministic(solver, reference):
    problem, _ = reference("squared", "relu", True, False)
    first, second = (SOLVERS[solver]().solve(problem) for _ in range(2))
    assert np.array_equal(first.coef, second.coef)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_blocks_that_are_zero_are_exactly_zero(activation, reference):
    problem, (_, V, _) = reference("squared", activation, True, False)
    lengths = np.linalg.norm(V, axis=1)
    for solver in SOLVERS.values():
        found = solver(tol=1e-8).solve(problem).coef
        assert not found[lengths < 1e-6 * lengths.max()].any()


def test_fista_moves_the_blocks_that_are_not_zero(make_problem, monkeypatch):
    problem = make_problem(np.random.default_rng(0), "squared", "gated_relu", n=40, P=40, ratio=0.2)
    sizes, adjoint = [], Design.adjoint
    monkeypatch.setattr(Design, "adjoint", lambda design, r: sizes.append(len(design.pattern)) or adjoint(design, r))
    result = Fista(tol=1e-8).solve(problem)
    n_blocks = len(problem.design.pattern)
    assert result.status == "optimal" and 1 < np.count_nonzero(result.coef.any(axis=1)) < n_blocks / 2
    full = sum(size == n_blocks for size in sizes)
    assert full <= len(sizes) / 4 and np.median(sizes) < n_blocks / 2
