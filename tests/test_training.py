"""What a path adds to single fits: solving without the blocks that are zero in every solution."""

from dataclasses import dataclass

import numpy as np
import pytest

from convexnn.solvers import Newton
from convexnn.training import solve_without


@dataclass
class Counting:
    """A solver that remembers the number of blocks of each program."""

    solver: Newton
    sizes: list

    @property
    def tol(self):
        return self.solver.tol

    def solve(self, problem, coef):
        self.sizes.append(len(problem.design.pattern))
        return self.solver.solve(problem, coef)


@pytest.mark.parametrize("activation", ["relu", "gated_relu"])
@pytest.mark.parametrize("loss", ["squared", "log_loss", "multinomial_log_loss"])
def test_without_blocks_that_are_zero(loss, activation, make_problem, textbook):
    problem = make_problem(np.random.default_rng(0), loss, activation, ratio=0.4, P=6)
    value, blocks, _ = textbook(problem)
    lengths = np.linalg.norm(blocks, axis=1)
    keep = lengths > 1e-5 * lengths.max()
    assert 0 < keep.sum() < len(keep)
    counting = Counting(Newton(tol=1e-6), [])
    result = solve_without(problem, counting, np.ones(problem.design.shape), keep)
    assert counting.sizes == [keep.sum()] and result.coef.shape == problem.design.shape
    assert not result.coef[~keep].any() and result.status == "optimal"
    # Its bound is over all blocks.
    assert np.isclose(result.primal, problem.objective(result.coef, result.intercept), rtol=1e-12)
    assert problem.penalty.dual_norm(problem.design.adjoint(result.theta)) <= problem.alpha * (1 + 1e-9)
    assert result.dual <= value * (1 + 1e-7) and result.primal <= value * (1 + 2e-6)


def test_a_wrong_exclusion_is_noticed(make_problem, textbook):
    """The bound over all blocks shows it, and the whole program is solved."""
    problem = make_problem(np.random.default_rng(1), ratio=0.1)
    value, blocks, _ = textbook(problem)
    keep = np.ones(len(blocks), dtype=bool)
    keep[np.argmax(np.linalg.norm(blocks, axis=1))] = False
    counting = Counting(Newton(tol=1e-6), [])
    result = solve_without(problem, counting, None, keep)
    assert counting.sizes == [len(keep) - 1, len(keep)]
    assert result.relative_gap <= 1e-6 and np.isclose(result.primal, value, rtol=2e-6)


def test_without_any_block(make_problem):
    problem = make_problem(np.random.default_rng(2), "log_loss", ratio=1.5)
    result = solve_without(problem, Newton(tol=1e-9), None, np.zeros(len(problem.design.pattern), dtype=bool))
    assert result.status == "optimal" and not result.coef.any() and result.relative_gap <= 1e-9
    assert np.isclose(result.primal, problem.loss_value(np.zeros(12) + problem.null_model[0]), rtol=1e-12)
