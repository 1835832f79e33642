"""Column generation over all patterns, judged by the complete list of patterns and by the network itself."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from programs import program, task_of_rows, to_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import convexnn.search.column_generation as adaptive
from convexnn import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.arrangements import enumerate_patterns
from convexnn.losses import LOSSES, get_loss
from convexnn.network import Network
from convexnn.neurons.neuron import Neuron
from convexnn.neurons.penalties import ConeGroupLasso
from convexnn.program.cells import Cells
from convexnn.program.design import Design
from convexnn.program.problem import Problem
from convexnn.search.column_generation import search_alpha_max, solve_adaptively
from convexnn.search.descent import descend
from convexnn.search.pricing import no_peaks, search
from convexnn.solvers import SOLVERS, Newton

KINDS = {"regressor": ConvexReLURegressor, "classifier": ConvexReLUClassifier}


#: Repeated rows change the random starts: fits agree in objective within tol, 0.1 here, not in predictions.
INEXACT = "check_sample_weight_equivalence_on_dense_data"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks set max_iter
@parametrize_with_checks(
    # A large alpha and tol, so that these many fits are quick.
    [
        ConvexReLURegressor(500.0, patterns="adaptive", tol=0.1, max_iter=20, random_state=0),
        ConvexReLUClassifier(50.0, patterns="adaptive", tol=0.1, max_iter=20, random_state=0),
    ],
    expected_failed_checks=lambda estimator: {INEXACT: "see test_weights_are_repetitions"},
)
@pytest.mark.slow
def test_scikit_learn_checks(estimator, check, monkeypatch):
    # Nor need the search be thorough.
    monkeypatch.setattr(adaptive, "search", lambda *args, **options: search(*args[:3], 50, 10, 1, *args[6:], **options))
    check(estimator)


def draw(loss, n=20, d=2, seed=0):
    """Features, target and an estimator class for a loss."""
    rng = np.random.default_rng([seed, n, d])
    X = rng.standard_normal((n, d))
    score = np.abs(X[:, 0]) - 0.8 + 0.3 * X[:, -1] + 0.3 * rng.standard_normal(n)
    if loss == "softmax":
        rank = np.argsort(np.argsort(score))
        return X, 3 * rank // n
    if LOSSES[loss].target == "real":
        return X, 2 * score
    return X, (score > np.median(score)).astype(int)


def make(loss, alpha=0.5, **options):
    kind = ConvexReLURegressor if loss in LOSSES and LOSSES[loss].target == "real" else ConvexReLUClassifier
    options = dict(patterns="adaptive", random_state=0, tol=1e-7, certify=False) | options
    return kind(alpha, loss="log_loss" if loss == "softmax" else loss, **options)


SMOOTH = ["squared", "huber", "log_loss", "squared_hinge", "softmax"]


def coded(loss, y):
    """The loss object and the target in its coding."""
    if loss == "softmax":
        return LOSSES["multinomial_log_loss"](), y
    return LOSSES[loss](), y if LOSSES[loss].target == "real" else 2.0 * y - 1.0


def objective(model, loss, X, y, weights=None):
    """Loss and weight decay of the fitted network, from its weights alone."""
    network, weights = model.network_, np.ones(len(X)) if weights is None else weights
    loss, y = coded(loss, y)
    hidden = np.maximum(X @ network.hidden_weights.T + network.hidden_biases, 0.0)
    z = hidden @ network.output_weights + network.output_bias
    decay = sum(np.sum(part**2) for part in (network.hidden_weights, network.hidden_biases, network.output_weights))
    return weights @ loss.value(y, z) + 0.5 * model.alpha_ * decay


def check_certificate(model, loss, X, y, weights=None, optimal=True):
    certificate = model.certificate_
    assert np.isclose(certificate.objective, objective(model, loss, X, y, weights), rtol=1e-10)
    assert certificate.scope == "patterns"
    assert "any width" not in str(certificate) and "any width" not in certificate.networks
    assert certificate.lower_bound <= certificate.objective * (1 + 1e-12)
    assert certificate.price <= 1 + 1e-8
    if optimal:
        assert model.result_.status == "optimal" and model.result_.relative_gap <= model.tol
        assert "search" in str(certificate) and "not a proof" in str(certificate)
        assert certificate.n_searched >= 1000
        assert certificate.price_found <= 1 + 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# The optimum over all patterns


SIZES = {"penalized": [(40, 1), (24, 2), (10, 3)], "none": [(40, 2), (24, 3), (15, 1)]}


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("hidden_bias", SIZES)
@pytest.mark.parametrize("seed, fit_intercept, weighted", [(0, True, False), (1, False, True), (2, True, True)])
@pytest.mark.slow
def test_optimum_of_the_complete_list(loss, hidden_bias, seed, fit_intercept, weighted):
    n, d = SIZES[hidden_bias][seed]
    X, y = draw(loss, n, d, seed)
    weights = np.random.default_rng(seed).uniform(0.2, 3.0, n) if weighted else None
    alpha = [0.3, 1.0, 0.1][seed]
    options = dict(hidden_bias=hidden_bias, fit_intercept=fit_intercept)
    exact = make(loss, alpha, patterns="exact", **options).fit(X, y, sample_weight=weights)
    model = make(loss, alpha, **options).fit(X, y, sample_weight=weights)
    check_certificate(model, loss, X, y, weights)
    best, found = exact.certificate_, model.certificate_
    assert best.scope == "global"
    # Two gaps of 1e-7 and rounding.
    assert abs(found.objective - best.objective) <= 1e-6 * best.objective
    assert found.objective >= best.lower_bound * (1 - 1e-12)
    # The estimate of alpha_max comes from below.
    assert model.alpha_max_ <= exact.alpha_max_ * (1 + 1e-9)


@pytest.mark.parametrize("loss", ["squared", "log_loss", "softmax"])
def test_integer_data(loss):
    """Many samples on common hyperplanes, and samples that occur more than once."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (20, 2)).astype(float)
    y = draw(loss, 20)[1]
    exact = make(loss, 0.3, patterns="exact").fit(X, y)
    model = make(loss, 0.3).fit(X, y)
    check_certificate(model, loss, X, y)
    assert abs(model.certificate_.objective - exact.certificate_.objective) <= 1e-6 * exact.certificate_.objective


@pytest.mark.parametrize("loss", SMOOTH)
def test_small_alpha(loss):
    """Data that the network nearly interpolates."""
    X, y = draw(loss, 14, 1)
    largest = make(loss, 1.0, patterns="exact").fit(X, y).alpha_max_
    exact = make(loss, 0.003 * largest, patterns="exact").fit(X, y)
    model = make(loss, 0.003 * largest).fit(X, y)
    check_certificate(model, loss, X, y)
    assert model.alpha_ == 0.003 * largest
    assert abs(model.certificate_.objective - exact.certificate_.objective) <= 1e-6 * exact.certificate_.objective


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("factor", [1.0001, 50.0])
@pytest.mark.slow
def test_no_neurons_from_alpha_max_on(loss, fit_intercept, factor):
    X, y = draw(loss, 15, 2)
    largest = make(loss, 1.0, patterns="exact", fit_intercept=fit_intercept).fit(X, y).alpha_max_
    model = make(loss, factor * largest, fit_intercept=fit_intercept).fit(X, y)
    check_certificate(model, loss, X, y)
    # Just above alpha_max a tiny neuron costs less than tol.
    assert model.network_.n_neurons == 0 or factor < 1.1


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("hidden_bias", ["penalized", "none"])
def test_targets_of_one_sign_without_intercept(sign, hidden_bias):
    """The dual variable has one sign, and samples lie all around the origin: half of the search finds no price."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 2))
    X, y = np.concatenate([X, -X]), sign * rng.uniform(1.0, 2.0, 40)
    options = dict(fit_intercept=False, hidden_bias=hidden_bias)
    exact = make("squared", patterns="exact", **options).fit(X, y)
    model = make("squared", **options).fit(X, y)
    check_certificate(model, "squared", X, y)
    assert abs(model.certificate_.objective - exact.certificate_.objective) <= 1e-6 * exact.certificate_.objective


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_target(value):
    X, _ = draw("squared")
    model = make("squared", "auto").fit(X, np.full(20, value))
    assert model.network_.n_neurons == 0 and np.allclose(model.predict(X), value)


def test_target_far_from_zero():
    X, y = draw("squared", 20, 2)
    near, far = make("squared").fit(X, y), make("squared").fit(X, y + 1000.0)
    # The loss is strongly convex in the predictions; the shift costs three digits.
    assert np.allclose(far.predict(X) - 1000.0, near.predict(X), atol=1e-2)
    assert np.isclose(far.certificate_.objective, near.certificate_.objective, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 100.0])
def test_hinge_through_cvxpy(alpha):
    X, y = draw("hinge", 10, 1)
    exact = make("hinge", alpha, patterns="exact", tol=1e-5).fit(X, y)
    model = make("hinge", alpha, tol=1e-5).fit(X, y)
    check_certificate(model, "hinge", X, y)
    # Two gaps of 1e-5.
    assert abs(model.certificate_.objective - exact.certificate_.objective) <= 3e-5 * exact.certificate_.objective


@pytest.mark.parametrize("solver", ["fista", "cvxpy"])
def test_other_solvers(solver):
    X, y = draw("squared", 15, 1)
    exact = make("squared", patterns="exact").fit(X, y)
    model = make("squared", solver=solver, tol=1e-4).fit(X, y)
    assert abs(model.certificate_.objective - exact.certificate_.objective) <= 3e-4 * exact.certificate_.objective


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.slow
def test_optimum_of_the_textbook_program(name, fit_intercept, make_target, textbook):
    """Every loss, against the explicit program over the patterns of a great many random directions."""
    loss = LOSSES[name]()
    rng = np.random.default_rng([len(name), fit_intercept])
    X = np.column_stack([rng.standard_normal((5, 1)), np.ones(5)])
    y = make_target(rng, loss, 5)
    C = 3 if name == "multinomial_log_loss" else 1
    patterns = np.unique(rng.standard_normal((20_000, 2)) @ X.T >= 0, axis=0)
    assert len(patterns) == 10
    pattern, sign, output = (part.ravel() for part in np.meshgrid(np.arange(10), [1.0, -1.0], np.arange(C)))
    design = Design(X, patterns, pattern, sign, output, C)
    penalty = ConeGroupLasso(X, patterns, pattern)
    complete = program(design, y, loss, penalty, 0.1, rng.uniform(0.5, 2.0, 5), fit_intercept)
    value = textbook(complete)[0]
    smooth = bool(np.isfinite(loss.lipschitz))
    solver = SOLVERS["newton"](tol=1e-8) if smooth else SOLVERS["cvxpy"](tol=1e-6)
    problem, result, seen = solve_adaptively(
        task_of_rows(X, y, loss, complete.task.sample_weight, fit_intercept, C), 0.1, solver
    )
    assert np.isclose(result.primal, value, rtol=1e-5, atol=1e-6)
    assert np.isclose(problem.objective(result.coef, result.intercept), result.primal, rtol=1e-12, atol=1e-12)
    if smooth:
        assert result.status == "optimal" and seen.gap <= 1e-8


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_alpha_max_and_beyond(loss):
    X, y = draw(loss, 20, 2)
    code, target = coded(loss, y)
    C = 3 if loss == "softmax" else 1
    largest = search_alpha_max(task_of_rows(X, target, code, np.ones(20), True, C), np.random.default_rng(0))
    for factor in (1 + 1e-9, 1.1, 1e6):
        _, result, seen = adaptively(loss, factor * largest, X, y, tol=1e-6)
        assert result.status == "optimal" and not result.coef.any() and seen.n_rounds == 1
        assert seen.price <= 1 and seen.gap <= 1e-6
    _, result, _ = adaptively(loss, 0.9 * largest, X, y, tol=1e-6)
    assert result.status == "optimal" and result.coef.any()


# ---------------------------------------------------------------------------------------------------------------------
# The face of the estimators


@pytest.mark.parametrize("kind", KINDS.values())
def test_gates_are_refused(kind):
    X, y = draw("log_loss")
    with pytest.raises(ValueError, match=r"(?=.*patterns='adaptive')(?=.*gated_relu)"):
        kind(patterns="adaptive", activation="gated_relu").fit(X, y)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_deterministic(loss):
    X, y = draw(loss, 20, 2)
    first, second = make(loss, tol=1e-4).fit(X, y), make(loss, tol=1e-4).fit(X, y)
    for name in ("hidden_weights", "hidden_biases", "output_weights"):
        assert np.array_equal(getattr(first.network_, name), getattr(second.network_, name))
    assert first.alpha_max_ == second.alpha_max_ and str(first.certificate_) == str(second.certificate_)
    other = make(loss, tol=1e-4, random_state=1).fit(X, y)
    assert np.isclose(first.certificate_.objective, other.certificate_.objective, rtol=3e-4)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("hidden_bias", ["penalized", "none"])
@pytest.mark.slow
def test_warm_start(loss, hidden_bias):
    X, y = draw(loss, 25, 2)
    model = make(loss, 0.3, warm_start=True, hidden_bias=hidden_bias, tol=1e-5).fit(X, y)
    cold, before = len(model.result_.history), model.certificate_.objective
    model.fit(X, y)
    check_certificate(model, loss, X, y)
    # Two entries a round.
    assert len(model.result_.history) < cold or cold == 2
    # Two gaps of 1e-5.
    assert np.isclose(model.certificate_.objective, before, rtol=3e-5)
    # Another alpha, other data, other weights: a start for another problem is only a start.
    model.set_params(alpha=0.25).fit(X, y)
    fresh = make(loss, 0.25, hidden_bias=hidden_bias, tol=1e-5).fit(X, y)
    assert np.isclose(model.certificate_.objective, fresh.certificate_.objective, rtol=3e-5)
    model.fit(X[:15] + 0.1, y[:15])
    check_certificate(model, loss, X[:15] + 0.1, y[:15])


def test_weights_are_repetitions():
    X, y = draw("squared", 15, 2)
    weights = np.arange(15) % 3
    model = make("squared").fit(X, y, sample_weight=weights)
    repeated = make("squared").fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert np.isclose(model.certificate_.objective, repeated.certificate_.objective, rtol=3e-7)


# ---------------------------------------------------------------------------------------------------------------------
# Fits that are cut short


def interrupt_after(monkeypatch, calls):
    """Control-C in the given call of the search, counted from 1."""
    count = [0]

    def interrupted(*args, **options):
        count[0] += 1
        if count[0] >= calls:
            raise KeyboardInterrupt
        return search(*args, **options)

    monkeypatch.setattr(adaptive, "search", interrupted)


def check_usable(model, loss, X, y):
    assert np.isfinite(model.predict(X)).all()
    check_certificate(model, loss, X, y, optimal=False)
    # The bound holds among the listed patterns, so it is no more than the objective of the best constant.
    constant = replace(model.network_.select([]), output_bias=null_intercept(loss, y))
    loss, target = coded(loss, y)
    assert model.certificate_.lower_bound <= constant.objective(X, target, model.alpha_, loss) * (1 + 1e-9)


def null_intercept(loss, y):
    loss, target = coded(loss, y)
    shape = np.bincount(y).shape[0] if loss.name == "multinomial_log_loss" else 1
    design = Design(np.zeros((len(y), 1)), np.zeros((0, len(y)), dtype=bool), [], [], [], shape)
    penalty = ConeGroupLasso(design.X, design.patterns, design.pattern)
    return program(design, target, loss, penalty, 1.0, np.ones(len(y)), True).task.null_model[0]


@pytest.mark.parametrize("loss", ["squared", "log_loss", "softmax"])
@pytest.mark.parametrize("alpha", [0.3, 0.001])
def test_no_time(loss, alpha):
    X, y = draw(loss, 30, 3)
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        model = make(loss, alpha, max_time=0).fit(X, y)
    assert model.result_.status == "time_limit"
    check_usable(model, loss, X, y)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("alpha", [0.3, 0.001])
@pytest.mark.parametrize("rounds", [0, 1])
def test_control_c(loss, alpha, rounds, monkeypatch):
    """In the first search after a solve or later, behind the one for alpha_max."""
    X, y = draw(loss, 20, 3)
    interrupt_after(monkeypatch, 3 + rounds)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = make(loss, alpha).fit(X, y)
    assert model.result_.status == "interrupted"
    check_usable(model, loss, X, y)


@pytest.mark.parametrize("rounds", [0, 1])
def test_the_price_of_a_fit_that_is_cut_short(rounds, monkeypatch):
    """A network that is not done has neurons to gain: the certificate must not deny it."""
    X, y = draw("squared", 100, 5)
    interrupt_after(monkeypatch, 3 + rounds)
    with pytest.warns(ConvergenceWarning):
        model = make("squared", 0.01).fit(X, y)
    lifted = np.column_stack([X, np.ones(100)])
    theta = y - model.predict(X)
    # Any neuron has at most the largest price.
    U = np.random.default_rng(0).standard_normal((20_000, 6))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    best = np.abs(np.maximum(U @ lifted.T, 0.0) @ theta).max() / model.alpha_
    # Unknown is honest (nan, inf), and so is any number of that size.
    assert not model.certificate_.price_found < best


@pytest.mark.parametrize("max_iter", [1, 3])
def test_iteration_limit(max_iter):
    X, y = draw("squared", 30, 2)
    with pytest.warns(ConvergenceWarning):
        model = make("squared", 0.05, max_iter=max_iter).fit(X, y)
    assert model.result_.status != "optimal" and model.result_.relative_gap > model.tol
    check_usable(model, "squared", X, y)


def adaptively(loss, alpha, X, y, **options):
    loss, target = coded(loss, y)
    C = 3 if loss.name == "multinomial_log_loss" else 1
    solver = Newton(**options)
    return solve_adaptively(task_of_rows(X, target, loss, np.ones(len(X)), True, C), alpha, solver)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("alpha", [0.3, 0.001])
@pytest.mark.parametrize("rounds", [0, 1, 2, None])
def test_result_is_about_the_problem(loss, alpha, rounds, monkeypatch):
    """Coefficients, bound and gap are those of the problem that comes with them, also when cut short."""
    X, y = draw(loss, 20, 2)
    if rounds is not None:
        interrupt_after(monkeypatch, 2 + rounds)
    problem, result, seen = adaptively(loss, alpha, X, y, tol=1e-6, max_time=0.0 if rounds is None else None)
    assert result.status == ("time_limit" if rounds is None else "interrupted")
    assert problem.alpha == alpha and result.coef.shape == problem.design.shape
    assert np.isclose(result.primal, problem.objective(result.coef, result.intercept), rtol=1e-9)
    # Feasible to what rounding leaves of a projection.
    assert problem.penalty.violation(result.coef) <= 1e-9
    optimum = Newton(tol=1e-8).solve(problem)
    assert result.dual <= optimum.primal * (1 + 1e-9)
    assert result.primal >= optimum.dual * (1 - 1e-9)
    assert seen.n_rounds <= (rounds if rounds is not None else 1)


def test_history():
    X, y = draw("squared", 30, 3)
    loss, target = coded("squared", y)
    entries = []
    _, result, seen = solve_adaptively(
        task_of_rows(X, target, loss, np.ones(30), True, 1), 0.3, Newton(tol=1e-6), callback=entries.append
    )
    assert entries == result.history and 2 * seen.n_rounds == len(entries)
    assert all(set(e) == {"iteration", "seconds", "objective", "relative_gap", "blocks"} for e in entries)
    assert np.all(np.diff([e["iteration"] for e in entries]) >= 0)
    assert entries[-1]["relative_gap"] == seen.gap <= 1e-6


@pytest.mark.parametrize("loss, alpha", [("squared", 0.01), ("huber", 0.01), ("log_loss", 0.02), ("softmax", 0.03)])
def test_objectives_and_gaps_only_fall(loss, alpha):
    """What is reported is the best so far, of the objective and of the bound."""
    X, y = draw(loss, 25, 2)
    exact = make(loss, alpha, patterns="exact", hidden_bias="none", tol=1e-6).fit(X, y).certificate_
    _, result, seen = adaptively(loss, alpha, X, y, tol=1e-7)
    objectives = np.array([entry["objective"] for entry in result.history])
    gaps = np.array([entry["relative_gap"] for entry in result.history])
    assert len(objectives) == 2 * seen.n_rounds >= 4
    assert np.all(np.diff(objectives) <= 0) and np.all(np.diff(gaps) <= 1e-12)
    # Neurons that are fused in the end lower the objective by less than the gap.
    assert objectives[-1] * (1 - 1e-7) <= result.primal <= objectives[-1] and gaps[-1] == seen.gap <= 1e-7
    # Gaps hold over all patterns, where the search finds the dearest neuron.
    assert np.all(objectives * (1 - gaps) <= exact.objective * (1 + 1e-12))
    assert np.all(objectives >= exact.lower_bound * (1 - 1e-12))


@pytest.mark.parametrize("loss, seed", [("squared", 1), ("huber", 2), ("squared", 14)])
def test_an_optimal_result_is_within_tol(loss, seed):
    """The best network may be of an earlier, rougher round than the bound; its result goes with the bound."""
    X, y = draw(loss, 14, 2, seed)
    X = np.column_stack([X, np.ones(14)])
    alpha = 0.003 * search_alpha_max(task_of_rows(X, y, LOSSES[loss](), np.ones(14), True, 1), np.random.default_rng(0))
    problem, result, seen = adaptively(loss, alpha, X, y, tol=1e-6)
    assert result.status == "optimal" and seen.gap <= 1e-6
    assert result.relative_gap <= 1e-6
    assert np.isclose(problem.dual_bound(result.theta)[0], result.dual, rtol=1e-9)


@dataclass(frozen=True)
class Clumsy(Newton):
    """Newton's method, except that one of its programs, counted from 1, ends in the null network or worse."""

    when: int = 1
    status: str = "optimal"
    calls: ClassVar[list] = []

    def solve(self, problem, coef=None):
        self.calls.append(problem)
        result = super().solve(problem, coef)
        if len(self.calls) != self.when:
            return result
        if self.status == "KeyboardInterrupt":
            raise KeyboardInterrupt
        V = np.zeros_like(result.coef)
        c, theta = problem.task.null_model
        dual, theta = problem.dual_bound(theta)
        return replace(
            result, coef=V, intercept=c, theta=theta, primal=problem.objective(V, c), dual=dual, status=self.status
        )


@pytest.mark.parametrize("loss", ["squared", "softmax"])
@pytest.mark.parametrize("status", ["optimal", "time_limit", "failed", "KeyboardInterrupt"])
@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.slow
def test_the_best_network_is_kept(loss, status, when):
    X, y = draw(loss, 15, 2)
    code, target = coded(loss, y)
    C, entries, solver = 3 if loss == "softmax" else 1, [], Clumsy(tol=1e-7, when=when, status=status)
    solver.calls.clear()
    problem, result, seen = solve_adaptively(
        task_of_rows(X, target, code, np.ones(15), True, C), 0.03, solver, callback=entries.append
    )
    assert len(solver.calls) >= when
    if status != "optimal":
        assert result.status == ("interrupted" if status == "KeyboardInterrupt" else status)
        assert len(solver.calls) == when and len(entries) == 2 * when - (1 if status != "KeyboardInterrupt" else 2)
    else:
        assert result.status == "optimal" and seen.gap <= 1e-7
    objectives = [entry["objective"] for entry in entries]
    assert result.history == entries and np.all(np.diff(objectives) <= 0)
    assert result.primal <= min(objectives, default=np.inf)
    assert np.isclose(problem.objective(result.coef, result.intercept), result.primal, rtol=1e-9)
    assert result.dual <= result.primal * (1 + 1e-12)
    if status == "optimal":
        assert entries[-1]["relative_gap"] == seen.gap


@pytest.mark.parametrize("rounds", [1, 2])
def test_control_c_in_the_callback(rounds):
    X, y = draw("squared", 25, 2)
    entries = []

    def stop(entry):
        entries.append(entry)
        if len(entries) == 2 * rounds:
            raise KeyboardInterrupt

    _, result, seen = solve_adaptively(
        task_of_rows(X, y, LOSSES["squared"](), np.ones(25), True, 1), 0.03, Newton(tol=1e-7), callback=stop
    )
    assert result.status == "interrupted" and result.history == entries
    assert result.primal <= entries[-1]["objective"] and seen.gap == entries[-1]["relative_gap"]
    assert seen.n_rounds == rounds


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_same_random_state_gives_the_same_fit(n_outputs):
    loss = "softmax" if n_outputs == 3 else "squared"
    X, y = draw(loss, 20, 2)
    code, target = coded(loss, y)
    fits = [
        solve_adaptively(
            task_of_rows(X, target, code, np.ones(20), True, n_outputs),
            0.1,
            Newton(tol=1e-6),
            None,
            np.random.default_rng(seed),
        )
        for seed in (3, 3, 4)
    ]
    (_, first, seen), (_, second, again), (_, other, _) = fits
    assert np.array_equal(first.coef, second.coef) and seen == again
    assert np.isclose(first.primal, other.primal, rtol=3e-6)


def test_search_alpha_max():
    for seed, (n, d) in enumerate([(12, 2), (20, 3), (25, 2)]):
        X, y = draw("squared", n, d, seed)
        arrangement = enumerate_patterns(X)
        penalty = ConeGroupLasso(X, arrangement.patterns.T, np.arange(len(arrangement.patterns.T)))
        exact = max(penalty.dual_norm((arrangement.patterns.T * (s * (y - y.mean()))) @ X) for s in (1.0, -1.0))
        found = search_alpha_max(task_of_rows(X, y, LOSSES["squared"](), np.ones(n), True, 1), np.random.default_rng(0))
        assert np.isclose(found, exact, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def some_blocks(rng, n=9, d=3, m=12, n_outputs=2):
    patterns = rng.random((m, n)) < 0.5
    sign = rng.choice([-1.0, 1.0], m)
    return Cells(patterns, sign, rng.integers(0, n_outputs, m), rng.standard_normal((m, d)))


def table(blocks):
    """{(pattern, sign, output): coefficients}, which needs them distinct."""
    keys = [(tuple(p), s, o) for p, s, o in zip(blocks.patterns, blocks.sign, blocks.output)]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, blocks.V))


def test_equal_blocks_add_up():
    rng = np.random.default_rng(0)
    blocks = some_blocks(rng)
    other = replace(blocks.take(np.arange(5)), V=rng.standard_normal((5, 3)))
    flipped = replace(other, sign=-other.sign)
    elsewhere = replace(other, output=other.output + 5)
    expected = {}
    for part in (blocks, other, flipped, elsewhere):
        for p, s, o, v in zip(part.patterns, part.sign, part.output, part.V):
            key = tuple(p), s, o
            expected[key] = expected.get(key, 0.0) + v
    joined = table(blocks.join(other).join(flipped).join(elsewhere))
    assert set(joined) == set(expected)
    assert all(np.allclose(joined[key], expected[key], rtol=1e-14) for key in expected)
    nothing = blocks.take([])
    assert table(nothing.join(nothing)) == {}
    assert set(table(nothing.join(blocks))) == set(table(blocks)) == set(table(blocks.join(nothing)))


@pytest.mark.parametrize("outputs", [(0, 1), (0, 255), (0, 256), (3, 1027)])
def test_blocks_of_different_outputs_stay_apart(outputs):
    patterns = np.ones((2, 4), dtype=bool)
    blocks = Cells(patterns, np.ones(2), np.array(outputs), np.array([[1.0, 0.0], [0.0, 1.0]]))
    joined = blocks.take([0]).join(blocks.take([1]))
    assert sorted(joined.output) == sorted(outputs)
    assert len(replace(blocks, V=np.ones((2, 2))).merged().sign) == 2


def test_weightless():
    blocks = some_blocks(np.random.default_rng(1))
    empty = blocks.weightless()
    assert not empty.V.any() and np.array_equal(empty.patterns, blocks.patterns)
    assert blocks.V.all()
    assert len(empty.merged().sign) == 0


def test_neurons_on_both_sides_of_a_wall_become_one():
    w = np.array([0.6, 0.8, 0.0])
    # The third block is the same neuron but for rounding; the rest differ in sign, output or direction.
    V = np.array([w, 3 * w, 2 * w + 1e-8, w, w, [0.6, 0.8, 1e-3], np.zeros(3)])
    patterns = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [1, 0], [1, 0], [0, 0]], dtype=bool)
    sign = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0])
    output = np.array([0, 0, 0, 0, 1, 0, 0])
    for order in (np.arange(7), np.arange(7)[::-1], np.random.default_rng(0).permutation(7)):
        merged = table(Cells(patterns, sign, output, V).take(order).merged())
        assert set(merged) == {
            ((True, True), 1.0, 0),
            ((True, False), -1.0, 0),
            ((True, False), 1.0, 1),
            ((True, False), 1.0, 0),
        }
        assert np.allclose(merged[(True, True), 1.0, 0], 6 * w, atol=1e-7)
        assert np.array_equal(merged[(True, False), 1.0, 1], w)
        assert np.array_equal(merged[(True, False), 1.0, 0], V[5])


def test_merging_keeps_the_function():
    rng = np.random.default_rng(3)
    blocks = some_blocks(rng, m=40)
    merged = blocks.merged()
    assert np.isclose(np.linalg.norm(merged.V, axis=1).sum(), np.linalg.norm(blocks.V, axis=1).sum())
    assert np.all(np.diff(np.linalg.norm(merged.V, axis=1)) <= 1e-12)


def split_neurons(rng, loss, n_outputs=1, hidden_bias="penalized"):
    """A problem and neurons in pairs: one direction, and the same with a little noise."""
    n, d, m = 60, 3, 6
    X = rng.standard_normal((n, d))
    X[:, -1] = 1.0
    V = np.repeat(rng.standard_normal((m, d)), 2, axis=0)
    V[1::2] += 0.02 * rng.standard_normal((m, d))
    sign = np.repeat(np.where(np.arange(m) % 2, 1.0, -1.0), 2)
    output = np.repeat(np.arange(m) % n_outputs, 2)
    blocks = Cells((X @ V.T >= 0).T, sign, output, V)
    design = Design(X, blocks.patterns, np.arange(2 * m), sign, output, n_outputs)
    penalty = Neuron(hidden_bias=hidden_bias).penalty(X, blocks.patterns, np.arange(2 * m))
    kind = get_loss(loss, n_outputs)
    y = kind.check_target(rng.integers(0, 3, n) if n_outputs > 1 else design @ V)
    return program(design, y, kind, penalty, 1.0, rng.uniform(0.5, 2.0, n)), blocks


def objective_of(problem, blocks, intercept):
    """From the neurons alone, whatever their patterns are."""
    z = np.zeros((len(problem.task.y), problem.design.n_outputs))
    for v, sign, output in zip(blocks.V, blocks.sign, blocks.output, strict=True):
        z[:, output] += sign * np.maximum(problem.design.X @ v, 0.0)
    z = z if z.shape[1] > 1 else z[:, 0]
    return problem.task.loss_value(z + intercept) + problem.alpha * problem.penalty.norms(blocks.V).sum()


@pytest.mark.parametrize("hidden_bias", ["penalized", "free"])
@pytest.mark.parametrize("loss, n_outputs", [("squared", 1), ("huber", 1), ("absolute", 1), ("log_loss", 3)])
def test_neurons_near_each_other_are_fused(loss, n_outputs, hidden_bias):
    rng = np.random.default_rng([n_outputs, *loss.encode()])
    problem, blocks = split_neurons(rng, loss, n_outputs, hidden_bias)
    fused = adaptive.fused(problem, blocks, 0.1)
    assert objective_of(problem, fused, 0.1) <= objective_of(problem, blocks, 0.1) * (1 + 1e-12)
    # Of every pair one is left wherever that pays; what is left are sums.
    assert len(fused.sign) < len(blocks.sign)
    assert np.allclose(fused.V.sum(axis=0), blocks.V.sum(axis=0))
    for key in {(s, o) for s, o in zip(blocks.sign, blocks.output, strict=True)}:
        ours, theirs = [(b.sign == key[0]) & (b.output == key[1]) for b in (fused, blocks)]
        assert np.allclose(fused.V[ours].sum(axis=0), blocks.V[theirs].sum(axis=0))
    assert np.array_equal(fused.patterns, (problem.design.X @ fused.V.T >= 0).T)
    # Nothing is left to do.
    assert len(adaptive.fused(problem, fused, 0.1).sign) == len(fused.sign)


def test_neurons_that_the_loss_wants_apart_are_not_fused():
    rng = np.random.default_rng(1)
    problem, blocks = split_neurons(rng, "squared")
    # Without a penalty to speak of, the pairs meet the targets as they are; only those in one cell are one neuron.
    exact = replace(problem, alpha=1e-9)
    cells = len(blocks.join(blocks.weightless()).sign)
    assert len(adaptive.fused(exact, blocks, 0.0).sign) == cells < len(blocks.sign)
    assert cells > len(adaptive.fused(problem, blocks, 0.0).sign)
    assert len(adaptive.fused(problem, blocks.take(np.arange(0)), 0.0).sign) == 0


@pytest.mark.parametrize("loss, alpha", [("squared", 0.01), ("log_loss", 0.02), ("softmax", 0.03)])
def test_a_fit_ends_with_neurons_that_are_fused(loss, alpha):
    X, y = draw(loss, 40, 2)
    problem, result, _ = adaptively(loss, alpha, X, y, tol=1e-2)
    design = problem.design
    listed = Cells(design.patterns[design.pattern], design.sign, design.output, result.coef)
    assert len(adaptive.fused(problem, listed, result.intercept).sign) == np.count_nonzero(result.coef.any(axis=1))
    assert np.isclose(problem.objective(result.coef, result.intercept), result.primal, rtol=1e-12)
    assert problem.penalty.violation(result.coef) <= 1e-9


def test_control_c_while_neurons_are_fused(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptive, "fused", interrupted)
    X, y = draw("squared", 40, 2)
    problem, result, _ = adaptively("squared", 0.01, X, y, tol=1e-2)
    assert result.status == "interrupted" and result.coef.any() and result.primal == result.history[-1]["objective"]
    assert np.isclose(problem.objective(result.coef, result.intercept), result.primal, rtol=1e-12)


@pytest.mark.parametrize("noise, seed", [(0.01, 0), (1e-3, 1), (1e-3, 2)])
def test_the_residuals_of_a_fit_price_its_neurons_at_alpha(noise, seed):
    # Features that are nearly combinations of two: networks with a gap of tol can have residuals far apart there.
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((100, 2))
    X = B @ rng.standard_normal((2, 6)) + noise * rng.standard_normal((100, 6))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rest = (X - B @ np.linalg.lstsq(B, X)[0])[:, 0]
    y = np.abs(B[:, 0]) - 0.5 * np.maximum(B[:, 1], 0.0) + np.maximum(rest / noise, 0.0)
    model = make("squared", 0.1, tol=1e-4).fit(X, y)
    assert model.result_.status == "optimal"
    network, theta = model.network_, y - model.predict(X)
    prices = np.sign(network.output_weights) * (theta @ network.hidden(X))
    prices /= np.linalg.norm(np.column_stack([network.hidden_weights, network.hidden_biases]), axis=1)
    assert np.abs(prices / 0.1 - 1).max() < 1e-3


def random_network(rng, m=7, d=3, n_outputs=1, biases=True):
    output = rng.standard_normal((m, n_outputs))
    if n_outputs > 1:
        output[:, 0] = 0.0
    bias = rng.standard_normal(m) if biases else np.zeros(m)
    return Network(rng.standard_normal((m, d)), bias, output if n_outputs > 1 else output[:, 0], 0.0)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("hidden_bias", ["penalized", "none"])
def test_blocks_of_a_network(n_outputs, hidden_bias):
    rng = np.random.default_rng(n_outputs)
    network = random_network(rng, n_outputs=n_outputs, biases=hidden_bias == "penalized")
    X = rng.standard_normal((15, 3))
    lifted = np.column_stack([X, np.ones(15)]) if hidden_bias == "penalized" else X
    blocks = Cells.of_network(network, lifted, Neuron(hidden_bias=hidden_bias))
    pattern = np.arange(len(blocks.sign))
    design = Design(lifted, blocks.patterns, pattern, blocks.sign, blocks.output, n_outputs)
    assert np.allclose(design @ blocks.V, network.predict(X), atol=1e-12)
    assert ConeGroupLasso(lifted, blocks.patterns, pattern).violation(blocks.V) <= 1e-12
    one_each = network
    if n_outputs > 1:
        # Neurons that feed several outputs are split, one for each.
        neuron, output = np.nonzero(network.output_weights)
        one_each = replace(
            network.select(neuron), output_weights=network.output_weights[neuron] * np.eye(n_outputs)[output]
        )
    # The same neurons again: cells are distinct here, so nothing adds up.
    assert len(blocks.sign) == one_each.n_neurons
    assert np.isclose(np.linalg.norm(blocks.V, axis=1).sum(), one_each.path_norms.sum())
    task = task_of_rows(lifted, None, None, np.ones(15), True, n_outputs, hidden_bias=hidden_bias)
    again = to_network(Problem.over(task, blocks, 1.0), blocks.V, 0.0)
    assert np.allclose(again.predict(X), network.predict(X), atol=1e-12)
    assert np.isclose(again.path_norms.sum(), one_each.path_norms.sum())


def test_blocks_of_a_network_without_neurons():
    network = random_network(np.random.default_rng(0), m=0)
    assert Cells.of_network(network, np.ones((5, 4)), Neuron()).V.shape == (0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Descent on the network


def program_value(blocks, X, y, loss, alpha, fit_intercept, n_outputs, c=None):
    """Objective of the network of blocks, at the best intercept unless one is given."""
    pattern = np.arange(len(blocks.sign))
    design = Design(X, blocks.patterns, pattern, blocks.sign, blocks.output, n_outputs)
    penalty = ConeGroupLasso(X, blocks.patterns, pattern)
    problem = program(design, y, loss, penalty, alpha, np.ones(len(X)), fit_intercept)
    return problem.objective(blocks.V, problem.task.best_intercept(design @ blocks.V) if c is None else c)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_descent_lowers_the_objective(loss, fit_intercept, shift):
    if shift and (LOSSES["squared" if loss == "softmax" else loss].target != "real" or loss == "softmax"):
        return
    X, y = draw(loss, 25, 3)
    loss, y = coded(loss, y)
    y, C = y + shift if shift else y, 3 if loss.name == "multinomial_log_loss" else 1
    rng = np.random.default_rng(0)
    start = descend(task_of_rows(X, y, loss, np.ones(25), fit_intercept, C), 0.5, rng, max_iter=2)
    value = program_value(start, X, y, loss, 0.5, fit_intercept, C)
    for max_iter in (5, 100):
        blocks = descend(
            task_of_rows(X, y, loss, np.ones(25), fit_intercept, C), 0.5, rng, start=start, max_iter=max_iter
        )
        table(blocks)
        lower = program_value(blocks, X, y, loss, 0.5, fit_intercept, C)
        assert lower < value
        # Cells are those of the weights.
        assert ConeGroupLasso(X, blocks.patterns, np.arange(len(blocks.sign))).violation(blocks.V) == 0.0


@pytest.mark.parametrize("loss, n_outputs", [("squared", 1), ("log_loss", 1), ("softmax", 3)])
def test_descent_from_a_random_start(loss, n_outputs):
    X, y = draw(loss, 40, 2)
    loss, y = coded(loss, y)
    blocks = descend(task_of_rows(X, y, loss, np.ones(40), True, n_outputs), 0.1, np.random.default_rng(0))
    assert set(blocks.output) == set(range(n_outputs)) and set(blocks.sign) == {-1.0, 1.0}
    nothing = blocks.take([])
    value = program_value(blocks, X, y, loss, 0.1, True, n_outputs)
    assert value < program_value(nothing, X, y, loss, 0.1, True, n_outputs)
    # Zero blocks are no neurons to start from.
    padded = blocks.join(replace(blocks, sign=-blocks.sign, V=np.zeros_like(blocks.V)))
    table(padded)
    again = descend(task_of_rows(X, y, loss, np.ones(40), True, n_outputs), 0.1, np.random.default_rng(0), start=padded)
    assert len(again.sign) <= len(blocks.sign)
    assert program_value(again, X, y, loss, 0.1, True, n_outputs) <= value * (1 + 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# One search after another


@pytest.mark.parametrize("loss, n_outputs", [("squared", 1), ("log_loss", 1), ("softmax", 3)])
def test_a_known_alpha_max_is_not_searched_again(loss, n_outputs, monkeypatch):
    X, y = draw(loss, 15, 2)
    code, target = coded(loss, y)
    known = search_alpha_max(
        task_of_rows(X, target, code, np.ones(15), True, n_outputs), np.random.default_rng(0), n_random=1000
    )
    exact = make(loss, patterns="exact", hidden_bias="none").fit(X, y).alpha_max_
    assert np.isclose(known, exact, rtol=1e-6) and known <= exact * (1 + 1e-9)
    efforts = []

    def counted(X, T, known, n_random, *rest, **options):
        assert T.shape == (15, 2 * n_outputs)
        efforts.append(n_random)
        return search(X, T, known, n_random, *rest, **options)

    monkeypatch.setattr(adaptive, "search", counted)
    for given in (known, None):
        efforts.clear()
        data = (task_of_rows(X, target, code, np.ones(15), True, n_outputs), 1.2 * known, Newton(tol=1e-6))
        _, result, seen = solve_adaptively(*data, alpha_max=given)
        assert not result.coef.any() and np.isclose(seen.alpha_max, known, rtol=1e-6)
        # Quickly and thoroughly, and before these for alpha_max.
        assert efforts == ([100] if given is None else []) + [50, 1000, 1000]


@pytest.mark.parametrize("loss, n_outputs", [("squared", 1), ("log_loss", 1), ("softmax", 3)])
@pytest.mark.slow
def test_peaks_carry_over(loss, n_outputs):
    """Fits for smaller and smaller alphas, each from the blocks and the peaks of the one before."""
    X, y = draw(loss, 15, 2)
    code, target = coded(loss, y)
    largest = make(loss, patterns="exact", hidden_bias="none").fit(X, y).alpha_max_
    remembered, blocks, rng = no_peaks(X), None, np.random.default_rng(0)
    for alpha in largest * np.array([1.0, 0.5, 0.2, 0.05]):
        data = (task_of_rows(X, target, code, np.ones(15), True, n_outputs), alpha, Newton(tol=1e-6))
        options = dict(start=blocks, random_state=rng, alpha_max=largest)
        problem, result, seen = solve_adaptively(*data, **options, remembered=remembered)
        _, alone, thorough = solve_adaptively(*data, random_state=np.random.default_rng(0))
        best = make(loss, alpha, patterns="exact", hidden_bias="none", tol=1e-8).fit(X, y).certificate_
        assert result.status == "optimal" and seen.gap <= 1e-6
        assert best.lower_bound * (1 - 1e-9) <= result.primal <= best.objective * (1 + 2e-6)
        assert np.isclose(alone.primal, result.primal, rtol=2e-6) and seen.n_starts < thorough.n_starts
        remembered = seen.peaks
        assert len(remembered.V) and set(remembered.dual) <= set(range(2 * n_outputs))
        blocks = Cells.of_solution(problem.design, result.coef)
        assert len(blocks.sign) == np.count_nonzero(result.coef.any(axis=1)) and blocks.V.any(axis=1).all()
        table(blocks)


def test_a_path_ends_with_a_quick_search_where_a_thorough_one_hardly_paid(monkeypatch):
    efforts = []

    def logged(*args, **options):
        efforts.append(args[3])
        return search(*args, **options)

    monkeypatch.setattr(adaptive, "search", logged)
    rng = np.random.default_rng(0)
    X, tol = rng.standard_normal((150, 5)), 1e-2
    y = np.abs(X[:, 0]) * X[:, 1] + 0.3 * rng.standard_normal(150)
    task = task_of_rows(X, y, get_loss("squared", 1))
    largest, remembered, blocks, ends = search_alpha_max(task, rng), no_peaks(X), None, []
    for alpha in largest * np.geomspace(0.5, 0.003, 8):
        efforts.clear()
        rest = (alpha, Newton(tol=tol), blocks, rng)
        problem, result, seen = solve_adaptively(task, *rest, alpha_max=largest, remembered=remembered)
        assert result.status == "optimal" and seen.gap <= tol
        blocks, remembered = Cells.of_solution(problem.design, result.coef), seen.peaks
        ends.append(efforts[-1])
        if efforts[-1] == 50:
            # Two entries a round; that before ended with a thorough search.
            objectives = [entry["objective"] for entry in result.history[::2]]
            assert efforts[-2] == 100 and objectives[-2] / objectives[-1] < 1 + 0.11 * tol
    assert set(ends) == {50, 100}
    efforts.clear()
    solve_adaptively(task, 0.5 * largest, rest[1], alpha_max=largest)
    assert efforts[-1] == 1000
