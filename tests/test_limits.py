"""Time limits hold inside every loop, and an interrupt at any moment keeps what there is."""

import signal
import time
import warnings

import numpy as np
import pytest
from programs import listing
from sklearn.exceptions import ConvergenceWarning

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    ConvexReLURegressorCV,
    audit,
    certify,
    relu_path,
    select_alpha,
    select_feature_penalty,
)
from convexnn.arrangements import enumerate_patterns, sample_patterns
from convexnn.budget import Budget, OutOfTime, affordable, check, current
from convexnn.losses import get_loss
from convexnn.network import Network, _independent_scales
from convexnn.solvers import SOLVERS

# Beside the 5 % and a second of the limit: for machines that run other tests at the same time.
BUSY = 4.0


def made(n, d, seed=0):
    """Features and a target that takes many neurons."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * np.abs(X[:, -1]) + 0.3 * rng.standard_normal(n)


def best_constant(model, y):
    """Objective without neurons."""
    if model.certificate_.loss.name == "squared":
        return 0.5 * np.sum((y - y.mean()) ** 2)
    return float(np.abs(y - np.median(y)).sum()) if model.certificate_.loss.name == "absolute" else len(y) * np.log(2)


def test_budgets_are_nested():
    with Budget(100.0) as outer:
        with Budget(None) as inner:
            assert inner.until == outer.until and 99 < inner.left <= 100 and current() is inner
        assert current() is outer and not outer.over and affordable(1e9) and not affordable(1e15)
        with Budget(-1.0) as late:
            assert late.over and late.left == 0.0 and late.status == "time_limit"
            with pytest.raises(OutOfTime):
                check()
            with late.conclusion():
                check()
        check()
        with Budget(50.0) as inner:
            assert inner.stop(OutOfTime()) == "time_limit" and not inner.over
            assert inner.stop(KeyboardInterrupt()) == "interrupted" and outer.over and outer.status == "interrupted"
    assert current().left is None and not current().over
    check(1e300)


def test_a_budget_that_was_never_left_ends_with_its_function():
    def lost():
        Budget(-1.0).__enter__()

    lost()
    check()


FITS = {
    "many rows": ((20_000, 8), {}),
    "many features": ((300, 520), {}),
    "small alpha": ((3_000, 20), dict(alpha=1e-3)),
    "few rows": ((32, 2), dict(alpha=1e-8)),
    "sampled": ((3_000, 20), dict(patterns="sampled")),
    "fista": ((3_000, 20), dict(patterns="sampled", activation="gated_relu", solver="fista", tol=1e-12)),
    "certified": ((2_000, 12), dict(certify=True)),
    "free biases": ((3_000, 20), dict(hidden_bias="free", patterns="sampled")),
    "feature penalty": ((3_000, 20), dict(feature_penalty=0.5, patterns="sampled")),
    "kinks": ((400, 6), dict(loss="absolute")),
    "kinks, searched": ((2_000, 6), dict(loss="absolute", patterns="adaptive")),
    "all patterns": ((55, 4), dict(patterns="exact")),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.slow
def test_a_fit_ends_in_time(name):
    (n, d), options = FITS[name]
    (X, y), limit = made(n, d), 0.5
    start = time.perf_counter()
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        model = ConvexReLURegressor(max_time=limit, random_state=0, **options).fit(X, y)
    assert time.perf_counter() - start < 1.05 * limit + 1 + BUSY
    assert model.certificate_.objective <= best_constant(model, y) * (1 + 1e-9)
    assert model.certificate_.lower_bound <= model.certificate_.objective
    assert model.result_.dual <= model.result_.primal and model.alpha_max_ > 0


OTHERS = {
    "path": lambda X, y, limit: relu_path(X, y, max_time=limit, random_state=0),
    "alpha": lambda X, y, limit: select_alpha(X, y, n_neurons=12, max_time=limit),
    "features": lambda X, y, limit: select_feature_penalty(
        X, y, alpha=5.0, groups=np.arange(20) % 2, n_active={0: 3, 1: 3}, max_time=limit
    ),
    "cv": lambda X, y, limit: ConvexReLURegressorCV(max_time=limit, random_state=0).fit(X, y),
}


@pytest.mark.parametrize("name", OTHERS)
def test_sequences_of_fits_end_in_time(name):
    (X, y), limit = made(3_000, 20), 0.5
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        OTHERS[name](X, y, limit)
    assert time.perf_counter() - start < 1.05 * limit + 1 + BUSY


@pytest.mark.parametrize("method", [certify, lambda *data, **options: audit(*data, improve=True, **options)])
@pytest.mark.parametrize("n, d, loss", [(3_000, 20, "squared"), (300, 200, "squared"), (500, 5, "absolute")])
def test_certify_and_audit_end_in_time(method, n, d, loss):
    (X, y), limit = made(n, d), 0.5
    rng = np.random.default_rng(1)
    network = Network(rng.standard_normal((40, d)) / d, np.zeros(40), rng.standard_normal(40), float(y.mean()))
    start = time.perf_counter()
    found = method(network, X, y, alpha=n / 1000, loss=loss, max_time=limit)
    assert time.perf_counter() - start < 1.05 * limit + 1 + BUSY
    assert not found.lower_bound or found.lower_bound <= found.objective


@pytest.mark.parametrize("solver", ["newton", "fista", "cvxpy"])
def test_a_solver_without_time_returns_what_costs_nothing(solver):
    X, y = made(2_000, 10)
    problem = listing("relu", X, y, sample_patterns(X, 800, random_state=0), get_loss("squared"), 1.0, np.ones(2_000))
    start = time.perf_counter()
    result = SOLVERS[solver](max_time=0.0).solve(problem, 10 + np.zeros(problem.design.shape))
    assert time.perf_counter() - start < 1 + BUSY and result.status == "time_limit"
    assert result.dual <= result.primal == pytest.approx(problem.objective(result.coef, result.intercept))
    assert problem.penalty.violation(result.coef) < 1e-9


def test_lists_and_projections_cut_short_are_not_used():
    X, _ = made(300, 3)
    with Budget(-1.0), pytest.raises(OutOfTime):
        enumerate_patterns(X)
    problem = listing(
        "relu", X, X[:, 0], sample_patterns(X, 50, random_state=0), get_loss("squared"), 1.0, np.ones(300)
    )
    theta = problem.task.null_model[1]
    with Budget(-1.0), pytest.raises(OutOfTime):
        problem.dual_bound(theta)


def test_pruning_many_neurons_of_few_rows():
    rng = np.random.default_rng(0)
    phi, price = rng.standard_normal((20, 500)), rng.random(500)
    start = time.perf_counter()
    scale = _independent_scales(phi, price)
    assert time.perf_counter() - start < 1 + BUSY
    assert np.count_nonzero(scale) <= 20 and scale.min() >= 0 and price @ scale <= price.sum() * (1 + 1e-9)
    assert np.allclose(phi @ scale, phi.sum(axis=1), atol=1e-9 * np.abs(phi).sum())


@pytest.mark.slow
def test_cross_validation_in_a_hurry_still_chooses():
    X, y = made(600, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ConvexReLURegressorCV(max_time=12.0, random_state=0).fit(X, y)
    scored = np.isfinite(model.cv_results_["mean_test_score"])
    assert scored.sum() >= 3 and model.network_.n_neurons > 1
    assert model.score(X, y) > 0.3
    if model.best_index_ == scored.sum() - 1 and scored.sum() < len(scored):
        assert "the last of these" in str(caught[0].message)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["fit", "classes", "sampled", "skip", "audit", "certify", "path", "cv"])
@pytest.mark.slow
def test_an_interrupt_at_any_moment_keeps_what_there_is(name):
    X, y = made(200, 4)
    network = Network(np.eye(4), np.zeros(4), np.ones(4), 0.0)
    jobs = {
        "fit": lambda: ConvexReLURegressor(0.01, tol=1e-9, random_state=0).fit(X, y),
        "classes": lambda: ConvexReLUClassifier(0.001, tol=1e-9, random_state=0).fit(X, y > 0),
        "sampled": lambda: ConvexReLURegressor(0.01, patterns="sampled", tol=1e-12, random_state=0).fit(X, y),
        "skip": lambda: ConvexReLURegressor(tol=1e-9, skip_connection=True, certify=True, random_state=0).fit(X, y),
        "audit": lambda: audit(network, X, y, alpha=0.01, improve=True),
        "certify": lambda: certify(network, X, y, alpha=0.01, max_time=None),
        "path": lambda: relu_path(X, y, random_state=0),
        "cv": lambda: ConvexReLURegressorCV(random_state=0).fit(X, y),
    }

    def fire(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, fire)
    try:
        for delay in 0.02 * 2.0 ** np.arange(6):
            # Of the processor: others may be using the machine.
            start = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, delay)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = jobs[name]()
            signal.setitimer(signal.ITIMER_REAL, 0)
            # Python drops an interrupt that comes inside a finaliser: such a fit goes on.
            dropped = getattr(getattr(found, "result_", None), "status", "") == "optimal"
            assert dropped or time.process_time() - start < delay + 1 + BUSY
            if hasattr(found, "result_"):
                assert found.result_.status in ("interrupted", "optimal")
                assert found.certificate_.objective <= best_constant(found, y) * (1 + 1e-9)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert current().left is None
