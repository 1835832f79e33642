from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from programs import changed, program
from scipy.optimize import minimize_scalar

import convexnn.program.design
from convexnn.losses import LOSSES, Huber, Quantile
from convexnn.neurons.activations import ACTIVATIONS
from convexnn.neurons.penalties import ConeGroupLasso, GroupLasso
from convexnn.program.design import Design
from convexnn.solvers import Newton

SMOOTH = [name for name in LOSSES if np.isfinite(LOSSES[name].lipschitz)]


def draw_design(rng, n_outputs=1, n=14, d=4, n_patterns=5):
    """Blocks in random order, not every combination of pattern, sign and output, and one pattern that nobody uses."""
    X = rng.standard_normal((n, d))
    patterns = rng.integers(0, 2, (n_patterns, n)).astype(bool)
    combinations = [(k, s, o) for k in range(n_patterns - 1) for s in (1.0, -1.0) for o in range(n_outputs)]
    chosen = rng.permutation(len(combinations))[: max(3, int(0.8 * len(combinations)))]
    pattern, sign, output = (np.array([combinations[c][j] for c in chosen]) for j in range(3))
    return Design(X, patterns, pattern, sign, output, n_outputs)


def apply(A, V):
    z = np.stack([matrix @ V.ravel() for matrix in A], axis=1)
    return z[:, 0] if len(A) == 1 else z


def apply_transposed(A, r, shape):
    return sum(matrix.T @ column for matrix, column in zip(A, r.reshape(len(r), -1).T)).reshape(shape)


@pytest.fixture(params=["float", "chunked"])
def pattern_storage(request, monkeypatch):
    if request.param == "chunked":
        monkeypatch.setattr(convexnn.program.design, "FLOAT_PATTERNS_BYTES", 0)
    return request.param


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_design_is_the_explicit_matrix(pattern_storage, n_outputs, seed, explicit):
    rng = np.random.default_rng(seed)
    design = draw_design(rng, n_outputs)
    A = explicit(design)
    V = rng.standard_normal(design.shape)
    z = design @ V
    r = rng.standard_normal(z.shape)
    G = design.adjoint(r)
    assert z.shape == ((14,) if n_outputs == 1 else (14, n_outputs)) and G.shape == design.shape
    assert np.allclose(z, apply(A, V), atol=1e-13)
    assert np.allclose(G, apply_transposed(A, r, V.shape), atol=1e-13)
    assert np.isclose(np.vdot(z, r), np.vdot(V, G), rtol=1e-12)


def test_several_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (900, 5000)).astype(bool)
    settings = rng.standard_normal((5000, 2)), patterns, np.arange(900), np.ones(900), np.zeros(900, dtype=int)
    V, r = rng.standard_normal((900, 2)), rng.standard_normal(5000)
    whole = Design(*settings)
    expected = whole @ V, whole.adjoint(r)
    monkeypatch.setattr(convexnn.program.design, "FLOAT_PATTERNS_BYTES", 0)
    design = Design(*settings)
    assert len(design._chunks) > 1
    assert np.allclose(design @ V, expected[0], atol=1e-10)
    assert np.allclose(design.adjoint(r), expected[1], atol=1e-10)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_restricted_design(pattern_storage, n_outputs, explicit):
    rng = np.random.default_rng(1)
    design = draw_design(rng, n_outputs)
    V = rng.standard_normal(design.shape)
    r = rng.standard_normal((design @ V).shape)
    for blocks in (np.array([2, 0]), np.arange(design.shape[0]) % 2 == 1, np.zeros(0, dtype=int)):
        part = design.restrict(blocks)
        only = np.zeros_like(V)
        only[blocks] = V[blocks]
        assert np.allclose(part @ V[blocks], apply(explicit(design), only), atol=1e-13)
        assert np.allclose(part.adjoint(r), design.adjoint(r)[blocks], atol=1e-13)
        assert len(part.patterns) == len(set(design.pattern[blocks]))


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_squared_norm(n_outputs, seed, explicit):
    rng = np.random.default_rng([seed, n_outputs])
    design = draw_design(rng, n_outputs)
    weights = rng.uniform(0.2, 3, 14)
    exact = np.linalg.norm(np.concatenate([np.sqrt(weights)[:, None] * A for A in explicit(design)]), 2) ** 2
    found = design.squared_norm(weights)
    # The documented accuracy is 1 %, from below.
    assert 0.99 * exact <= found <= exact * (1 + 1e-12)
    assert design.restrict(np.zeros(0, dtype=int)).squared_norm(weights) == 0.0


def losses_by_hand(loss, y, z):
    if loss.name == "multinomial_log_loss":
        return np.array([np.log(np.exp(row).sum()) - row[k] for row, k in zip(z, y)])
    r, m = y - z, y * z
    return {
        "squared": lambda: r**2 / 2,
        "huber": lambda: np.where(np.abs(r) <= loss.delta, r**2 / 2, loss.delta * (np.abs(r) - loss.delta / 2)),
        "log_loss": lambda: np.log(1 + np.exp(-m)),
        "squared_hinge": lambda: np.where(m < 1, 1 - m, 0) ** 2,
        "hinge": lambda: np.where(m < 1, 1 - m, 0),
        "absolute": lambda: np.abs(r),
        "quantile": lambda: np.where(r > 0, loss.q * r, (loss.q - 1) * r),
    }[loss.name]()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_objective_by_hand(name, activation, make_problem, explicit):
    rng = np.random.default_rng(3)
    problem = make_problem(rng, name, activation, weighted=True)
    V = rng.standard_normal(problem.design.shape)
    c = rng.standard_normal(problem.design.n_outputs)
    c = c if len(c) > 1 else float(c[0])
    z = apply(explicit(problem.design), V) + c
    expected = problem.task.sample_weight @ losses_by_hand(problem.task.loss, problem.task.y, z)
    assert np.isclose(problem.task.loss_value(z), expected, rtol=1e-12)
    expected += problem.alpha * sum(np.linalg.norm(v) for v in V)
    assert np.isclose(problem.objective(V, c), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_the_derivative(name, make_problem):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, name, weighted=True)
    z = rng.standard_normal((problem.design @ np.zeros(problem.design.shape)).shape)
    direction, h = rng.standard_normal(z.shape), 1e-6
    slope = (problem.task.loss_value(z + h * direction) - problem.task.loss_value(z - h * direction)) / (2 * h)
    assert problem.task.gradient(z).shape == z.shape
    assert np.isclose(np.vdot(problem.task.gradient(z), direction), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_smooth_is_a_finite_lipschitz_constant(name, make_problem):
    assert make_problem(np.random.default_rng(0), name).task.smooth == (name in SMOOTH)


INTERCEPT_LOSSES = [
    *(LOSSES[name]() for name in LOSSES if name != "multinomial_log_loss"),
    Huber(delta=0.2),
    Quantile(q=0.1),
    Quantile(q=0.93),
]


@pytest.mark.parametrize("loss", INTERCEPT_LOSSES, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_best_intercept_is_a_minimiser(loss, weighted, scale, make_problem):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        problem = make_problem(rng, loss, weighted=weighted, n=15 + seed)
        z = scale * rng.standard_normal(15 + seed)

        def total(c, problem=problem, z=z):
            return problem.task.sample_weight @ losses_by_hand(problem.task.loss, problem.task.y, z + c)

        reach = 5 + 4 * scale
        oracle = minimize_scalar(total, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-10}).fun
        if not problem.task.smooth:
            oracle = min(total(k) for k in problem.task.y - z)
        for start in (0.0, 7.0, -1000.0):
            found = total(problem.task.best_intercept(z, start))
            assert found <= oracle + 1e-9 * (1 + abs(oracle))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0, 100.0])
def test_best_intercepts_of_several_classes(weighted, scale, make_problem):
    rng = np.random.default_rng(5)
    problem = make_problem(rng, "multinomial_log_loss", weighted=weighted, n=20)
    z = scale * rng.standard_normal((20, 3))
    c = cp.Variable(3)
    terms = [
        weight * (cp.log_sum_exp(row + c) - row[k] - c[k])
        for row, k, weight in zip(z, problem.task.y, problem.task.sample_weight)
    ]
    program = cp.Problem(cp.Minimize(sum(terms)), [cp.sum(c) == 0])
    oracle = program.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9)
    for start in (0.0, np.array([3.0, -4.0, 10.0])):
        found = problem.task.best_intercept(z, start)
        assert (
            problem.task.sample_weight @ losses_by_hand(problem.task.loss, problem.task.y, z + found) <= oracle + 1e-7
        )
        assert np.abs(problem.task.gradient(z + found).sum(axis=0)).max() <= 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_no_intercept_is_zero(name, make_problem):
    problem = make_problem(np.random.default_rng(0), name, intercept=False)
    assert (
        problem.task.best_intercept(
            np.ones_like(problem.task.gradient(problem.design @ np.zeros(problem.design.shape)))
        )
        == 0.0
    )


@pytest.mark.parametrize("name", ["log_loss", "squared_hinge", "hinge"])
def test_best_intercept_of_one_class_ends(name, make_problem):
    problem = make_problem(np.random.default_rng(0), name)
    problem = changed(problem, y=np.ones_like(problem.task.y))
    c = problem.task.best_intercept(np.zeros(len(problem.task.y)))
    assert np.isfinite(c) and problem.task.loss_value(np.full(len(problem.task.y), c)) <= 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_null_model(name, make_problem):
    problem = make_problem(np.random.default_rng(6), name, weighted=True)
    c, theta = problem.task.null_model
    z = np.zeros_like(theta)
    # theta is a subgradient: Fenchel-Young holds with equality, so the dual value is the loss.
    assert np.isclose(problem.task.dual_value(theta), problem.task.loss_value(z + c), rtol=1e-9)
    assert np.abs(theta.sum(axis=0)).max() <= 1e-8 * np.abs(theta).sum()


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("intercept", [False, True])
def test_alpha_max_is_exact(name, activation, intercept, make_problem, textbook):
    rng = np.random.default_rng([len(name), intercept, 5 * (activation == "leaky_relu")])
    problem = make_problem(rng, name, activation, intercept, weighted=True, n=10, P=3)
    alpha_max = problem.alpha_max
    z = np.zeros_like(problem.task.null_model[1])
    null = problem.task.loss_value(z + problem.task.best_intercept(z))
    above, V, _ = textbook(problem, 1.0001 * alpha_max)
    # Any block of length v costs at least 1e-4 alpha_max v, and the program is solved to 1e-9.
    assert np.isclose(above, null, rtol=1e-7)
    assert np.linalg.norm(V, axis=1).max() <= 1e-3
    below, V, _ = textbook(problem, 0.99 * alpha_max)
    assert below < null * (1 - 2e-7)
    assert np.linalg.norm(V, axis=1).max() > 1e-3


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in SMOOTH])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_alpha_max_of_a_loss_with_kinks_is_enough(name, activation, make_problem, textbook):
    problem = make_problem(np.random.default_rng(7), name, activation, n=11, P=3)
    z = np.zeros(11)
    null = problem.task.loss_value(z + problem.task.best_intercept(z))
    assert np.isclose(textbook(problem, 1.0001 * problem.alpha_max)[0], null, rtol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dual_bound_is_below_the_optimum(name, activation, make_problem, textbook):
    rng = np.random.default_rng(8)
    problem = make_problem(rng, name, activation, weighted=True, n=10, P=3)
    optimum, V, c = textbook(problem)
    c = c if problem.design.n_outputs > 1 else float(c[0])
    at_optimum = -problem.task.gradient(problem.design @ V + c)
    shape = at_optimum.shape
    guesses = [at_optimum, problem.task.null_model[1], np.zeros(shape)]
    guesses += [-problem.task.gradient(rng.standard_normal(shape)) for _ in range(5)]
    bounds = []
    for guess in guesses:
        bound, theta = problem.dual_bound(guess)
        bounds.append(bound)
        assert bound <= optimum + 1e-7 * (1 + abs(optimum))
        if np.isfinite(bound):
            assert np.abs(theta.sum(axis=0)).max() <= 1e-9
            assert problem.penalty.dual_norm(problem.design.adjoint(theta)) <= problem.alpha * (1 + 1e-9)
            assert np.isclose(problem.task.dual_value(theta), bound)
    assert np.isfinite(bounds[1])
    if problem.task.smooth:
        # The textbook point is 1e-5 from the optimum or nearer, and the bound is first-order in that distance.
        assert bounds[0] >= optimum - 1e-3 * (1 + abs(optimum))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dual_bound_takes_known_correlations(activation, make_problem):
    rng = np.random.default_rng(9)
    problem = make_problem(rng, "squared", activation)
    theta = rng.standard_normal(len(problem.task.y))
    theta -= theta.mean()
    bound, point = problem.dual_bound(theta)
    again, same = problem.dual_bound(theta, problem.design.adjoint(theta))
    assert np.isclose(again, bound) and np.allclose(point, same)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_duplicated_rows_are_sample_weight_two(name, activation, make_problem):
    rng = np.random.default_rng(10)
    problem = make_problem(rng, name, activation, weighted=True)
    design = problem.design
    twice = np.concatenate([np.arange(len(problem.task.y)), [0, 3, 4]])
    X, patterns = design.X[twice], design.patterns[:, twice]
    copied = program(
        Design(X, patterns, design.pattern, design.sign, design.output, design.n_outputs, design.activation),
        problem.task.y[twice],
        problem.task.loss,
        ConeGroupLasso(X, patterns, design.pattern) if activation != "gated_relu" else GroupLasso(),
        problem.alpha,
        problem.task.sample_weight[twice],
    )
    weights = problem.task.sample_weight.copy()
    weights[[0, 3, 4]] *= 2
    weighted = changed(problem, sample_weight=weights)
    V = rng.standard_normal(design.shape)
    assert np.isclose(copied.objective(V, 0.3), weighted.objective(V, 0.3), rtol=1e-12)
    z = design @ V
    assert np.allclose(copied.task.best_intercept(z[twice]), weighted.task.best_intercept(z), atol=1e-8)
    assert np.isclose(copied.alpha_max, weighted.alpha_max, rtol=1e-7)
    r = rng.standard_normal(z.shape)
    per_row = r / np.where(np.isin(np.arange(len(r)), [0, 3, 4]), 2, 1).reshape((-1,) + (1,) * (r.ndim - 1))
    assert np.allclose(copied.design.adjoint(per_row[twice]), weighted.design.adjoint(r), atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["squared", "multinomial_log_loss"])
def test_restricted_problem(name, activation, make_problem):
    rng = np.random.default_rng(11)
    problem = make_problem(rng, name, activation, weighted=True)
    blocks = np.array([3, 1])
    part = problem.restrict(blocks)
    V = np.zeros(problem.design.shape)
    V[blocks] = rng.standard_normal((2, V.shape[1]))
    assert np.isclose(part.objective(V[blocks], 0.2), problem.objective(V, 0.2), rtol=1e-13)
    assert part.alpha == problem.alpha and part.task.fit_intercept == problem.task.fit_intercept
    assert part.penalty.violation(V[blocks]) == pytest.approx(problem.penalty.violation(V), abs=1e-14)
    assert part.alpha_max <= problem.alpha_max * (1 + 1e-12)
    everything = problem.restrict(np.arange(len(V)))
    assert np.isclose(everything.alpha_max, problem.alpha_max, rtol=1e-12)


def test_constant_target_has_a_perfect_null_model(make_problem):
    problem = make_problem(np.random.default_rng(0), "squared", weighted=True)
    problem = changed(problem, y=np.full(len(problem.task.y), 0.1))
    assert np.isclose(problem.task.null_model[0], 0.1)
    assert problem.alpha_max <= 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# Gap-safe screening


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", SMOOTH)
def test_screening_keeps_what_the_optimum_uses(loss, activation, weighted, reference):
    problem, (value, blocks, _) = reference(loss, activation, True, weighted)
    used = np.linalg.norm(blocks, axis=1) > 1e-5 * np.linalg.norm(blocks, axis=1).max()
    assert used.any()
    for tol in (0.5, 1e-1, 1e-2, 1e-3, 1e-5):
        result = Newton(tol=tol).solve(problem)
        # Any feasible theta will do, and the least gap that is one.
        for share in (1.0, 0.999, 0.9, 0.5):
            gap = value * (1 + 1e-7) - problem.task.dual_value(share * result.theta)
            assert not np.any(used & ~problem.may_be_active(share * result.theta, gap))
    # Without a gap only blocks at the bound remain (all, where all are used); far from it no statement is possible.
    assert used.all() or not problem.may_be_active(result.theta, 1e-12 * value).all()
    assert problem.may_be_active(result.theta, 1e6 * value).all()


@pytest.mark.parametrize("weight", [1.0, 0.2, 7.0])
@pytest.mark.parametrize("loss, largest", [("squared", 1.0), ("huber", 1.0), ("squared_hinge", 2.0)])
def test_screening_is_tight_for_one_sample(loss, largest, weight):
    """The optimal theta is on the boundary of the ball: with any smaller gap the block would be lost."""
    X, patterns = np.array([[1.0]]), np.array([[True]])
    design = Design(X, patterns, [0], [1.0], [0])
    weights, alpha = np.array([weight]), largest * weight
    cones = ConeGroupLasso(X, patterns, design.pattern)
    problem = program(design, np.ones(1), LOSSES[loss](), cones, alpha, weights, fit_intercept=False)
    assert np.isclose(problem.alpha_max, alpha)
    for share in (0.0, 0.3, 0.9):
        theta = np.array([share * alpha])
        gap = problem.task.loss_value(np.zeros(1)) - problem.task.dual_value(theta)
        assert problem.may_be_active(theta, gap).all()
        assert not problem.may_be_active(theta, 0.99 * gap).any()


@pytest.mark.parametrize("loss", ["hinge", "absolute", "quantile"])
def test_no_screening_with_kinks(loss, make_problem):
    problem = make_problem(np.random.default_rng(0), loss)
    assert problem.may_be_active(0.01 * problem.task.null_model[1], 0.0).all()


def test_screening_knows_the_cones():
    """A block whose cone points away from theta is left out, however long its correlation is."""
    X, patterns = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[True, True], [True, False]])
    design = Design(X, patterns, [0, 1, 0, 1], [1.0, 1.0, -1.0, -1.0], [0] * 4)
    cones = ConeGroupLasso(X, patterns, design.pattern)
    problem = program(design, np.array([3.0, 1.0]), LOSSES["squared"](), cones, 1.0, np.ones(2), fit_intercept=False)
    theta = np.array([0.9, 0.3])
    assert problem.may_be_active(theta, 0.02).tolist() == [True, True, False, False]
    lengths = np.linalg.norm(design.adjoint(theta), axis=1)
    assert lengths[2] == lengths[0] and lengths[3] == lengths[1]


# ---------------------------------------------------------------------------------------------------------------------
# Bounds at the edge of the conjugate's domain


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("loss", ["huber", "hinge", "absolute", "quantile", "squared_hinge", "log_loss"])
@pytest.mark.parametrize("seed", range(6))
def test_the_null_model_is_its_own_bound(loss, skip, seed, make_problem):
    """From alpha_max on the best prediction without neurons is optimal, and its theta proves it."""
    problem = make_problem(np.random.default_rng(seed), loss, weighted=True, n=24, d=4, ratio=1.0)
    problem = changed(problem, skip=problem.design.X[:, :2]) if skip else problem
    problem = replace(problem, alpha=problem.alpha_max)
    c, theta = problem.task.null_model
    objective = problem.task.loss_value(np.zeros(24) + c)
    bound, feasible = problem.dual_bound(theta)
    assert objective * (1 - 1e-8) <= bound <= objective * (1 + 1e-12)
    assert np.abs(problem.task.free.T @ feasible).max() <= 1e-11 * np.abs(feasible).sum()
