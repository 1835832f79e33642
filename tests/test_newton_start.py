"""Without cones Newton begins with FISTA's iterations, and ends by itself where they are not enough."""

import numpy as np
import pytest
from programs import changed

from convexnn.losses import LOSSES
from convexnn.program.design import Design
from convexnn.solvers import Fista, Newton, newton

SMOOTH = [name for name, loss in LOSSES.items() if np.isfinite(loss.lipschitz)]


@pytest.mark.parametrize("loss", SMOOTH)
def test_without_cones_fista_is_enough_for_a_large_alpha(loss, make_problem):
    problem = make_problem(np.random.default_rng(7), loss, "gated_relu", n=200, P=60, ratio=0.5)
    result, alone = Newton(tol=1e-6).solve(problem), Fista(tol=1e-6).solve(problem)
    assert result.status == "optimal" and result.n_iter == alone.n_iter
    assert np.array_equal(result.coef, alone.coef)


@pytest.mark.parametrize("loss", ["squared", "huber", "log_loss"])
def test_without_cones_newton_ends_what_fista_began(loss, make_problem):
    problem = make_problem(np.random.default_rng(7), loss, "gated_relu", n=60, P=12, ratio=1e-4)
    few = newton._worth_of_steps(problem)
    seen = []
    result = Newton(tol=1e-8, callback=seen.append).solve(problem)
    assert result.status == "optimal" and few < result.n_iter < few + 100
    assert result.history == seen
    iterations = [entry["iteration"] for entry in seen]
    assert iterations == sorted(iterations) and few in iterations and iterations[-1] == result.n_iter
    assert np.all(np.diff([entry["objective"] for entry in seen]) <= 0)
    assert np.isclose(result.primal, Fista(tol=1e-6, max_iter=200_000).solve(problem).primal, rtol=1e-6)


@pytest.mark.parametrize("max_iter", [1, 30, 10_000])
def test_iterations_of_both_kinds_count(max_iter, make_problem):
    problem = make_problem(np.random.default_rng(7), "squared", "gated_relu", n=60, P=12, ratio=1e-4)
    result = Newton(tol=0.0, max_iter=max_iter).solve(problem)
    assert result.n_iter <= max_iter and result.status == ("stalled" if max_iter > 1000 else "max_iter")


def test_fista_leaves_steps_to_newton(make_problem):
    problem = make_problem(np.random.default_rng(7), "squared", "gated_relu", n=200, P=60, ratio=1e-3)
    assert newton._worth_of_steps(problem) > 80
    assert Newton(tol=1e-6, max_iter=80).solve(problem).status == "optimal"


def test_repeated_rows_are_as_good_as_weights(make_problem):
    problem = make_problem(np.random.default_rng(3), "squared", "gated_relu", n=40, P=12, ratio=1e-3)
    design, twice = problem.design, np.repeat(np.arange(40), 2)
    repeated = Design(design.X[twice], design.patterns[:, twice], design.pattern, design.sign, design.output)
    weights = problem.task.sample_weight
    doubled = changed(problem, design=repeated, y=problem.task.y[twice], sample_weight=weights[twice])
    weighted = changed(problem, sample_weight=2 * weights)
    one, other = Newton(tol=1e-2).solve(doubled), Newton(tol=1e-2).solve(weighted)
    assert one.n_iter == other.n_iter
    assert np.allclose(one.coef, other.coef, atol=1e-8 * np.abs(one.coef).max())


def test_a_start_that_leads_nowhere_is_short(make_problem, monkeypatch):
    problem = make_problem(np.random.default_rng(7), "squared", "gated_relu", n=200, P=60, ratio=1e-4)
    few, ended = newton._worth_of_steps(problem), []
    solve = Fista.solve
    monkeypatch.setattr(Fista, "solve", lambda *args: ended.append(solve(*args)) or ended[-1])
    result = Newton(tol=1e-6).solve(problem)
    assert result.status == "optimal" and result.relative_gap <= 1e-6
    (start,) = ended
    assert start.relative_gap > 0.3 and few / 4 <= start.n_iter < few / 2 < result.n_iter


@pytest.mark.parametrize("solver", [Fista, Newton])
@pytest.mark.parametrize("activation", ["gated_relu", "relu"])
@pytest.mark.parametrize("share", [0.1, 1e-4])
@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_callback_ends_a_solve(solver, activation, share, calls, make_problem):
    problem = make_problem(np.random.default_rng(7), "squared", activation, n=200, P=30, ratio=share)
    seen = []

    def callback(entry):
        seen.append(entry)
        if len(seen) == calls:
            raise KeyboardInterrupt

    result = solver(tol=0.0, callback=callback).solve(problem)
    assert result.status == "interrupted" and result.history == seen and len(seen) == calls
    assert result.primal == min(entry["objective"] for entry in seen)
