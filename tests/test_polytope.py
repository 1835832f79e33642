"""Polytope against vertices written down by hand and non-negative least squares."""

import numpy as np
import pytest
from scipy.optimize import nnls

from convexnn.analysis.polytope import Polytope


def test_a_polytope_of_three_vertices():
    # t_1 + t_2 + t_3 + t_4 = 4 and t_1 = t_2: vertices (2, 2, 0, 0), (0, 0, 4, 0), (0, 0, 0, 4).
    E = np.linalg.qr(np.array([[1.0, 1, 1, 1], [1, -1, 0, 0]]).T)[0].T
    part = Polytope(E, np.array([1.0, 1.0, 2.0, 0.0]))
    assert part.dimension == 2 and len(part.live) == 4 and len(part.needed) == 0
    assert np.allclose(part.ranges, [[0, 2], [0, 2], [0, 4], [0, 4]])
    t, at_least = part.fewest(5.0)
    assert at_least == 1 and np.count_nonzero(t) == 1
    goal = np.array([3.0, 0.0, 1.0, -5.0])
    system = np.vstack([np.eye(4), 1e6 * E])
    nearest = [nnls(system, np.append(to, 1e6 * E @ part.point))[0] for to in (goal, np.maximum(goal, 0.0))]
    found = part.minimise(lambda t: (0.5 * np.sum((t - goal) ** 2), t - goal, np.eye(4)), 1.0)
    assert np.allclose(found, nearest[0], atol=1e-5)
    assert np.allclose(part.nearest(np.maximum(goal, 0.0)), nearest[1], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_random_polytopes(seed):
    rng = np.random.default_rng(seed)
    point = np.where(rng.random(9) < 0.6, rng.exponential(size=9), 0.0)
    rows = np.vstack([np.ones(9), rng.integers(-1, 2, (3, 9))])
    E = np.linalg.svd(rows, full_matrices=False)[2][: np.linalg.matrix_rank(rows)]
    part = Polytope(E, point)
    low, high = part.ranges.T
    assert np.all(low <= point + 1e-9) and np.all(point <= high + 1e-9)
    for t in (part.inside, part.least(rng.standard_normal(9)), part.fewest(5.0)[0], part.nearest(rng.random(9))):
        assert t.min() >= 0 and np.allclose(E @ t, E @ point, atol=1e-9) and np.isclose(t.sum(), point.sum())
    assert np.all(part.inside[part.live] > 0) and np.allclose(E @ part.directions, 0, atol=1e-9)
    assert np.allclose(part.directions.T @ part.directions, np.eye(part.dimension))
    goal = rng.standard_normal(9)
    found = part.minimise(lambda t: (0.5 * np.sum((t - goal) ** 2), t - goal, np.eye(9)), 1.0)
    # No vertex lies on the other side of the tangent plane.
    best = part.least(found - goal)
    assert (found - goal) @ (found - best) <= 1e-6


def test_a_point_and_nothing():
    point = Polytope(np.eye(2), np.array([1.0, 3.0]))
    assert point.dimension == 0 and point.fewest(1.0) == (pytest.approx([1.0, 3.0]), 2)
    nothing = Polytope(np.zeros((0, 0)), np.zeros(0))
    assert nothing.dimension == 0 and nothing.ranges.shape == (0, 2) and nothing.fewest(1.0)[1] == 0
