"""What surrounds a fit: callbacks, history, summary, precision, repeatability, copies, metadata, and later fits."""

import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from convexnn import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.fits import solve_without
from convexnn.program.result import REMEDIES, STATUSES
from convexnn.solvers import Newton, newton

has_callbacks = importlib.util.find_spec("sklearn.callback") is not None
callbacks = pytest.mark.skipif(not has_callbacks, reason="callbacks came with scikit-learn 1.9")
MODES = {
    "exact": dict(patterns="exact"),
    "adaptive": dict(patterns="adaptive", certify=False),
    "sampled": dict(patterns="sampled", n_patterns=40),
    "fista": dict(patterns="sampled", n_patterns=20, solver="fista", tol=1e-3),
    "cvxpy": dict(patterns="sampled", n_patterns=8, solver="cvxpy"),
    "gated": dict(activation="gated_relu", n_patterns=40),
}
TASKS = ["regressor", "binary", "three"]


def draw(task, n=24):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, 2))
    score = np.abs(X[:, 0]) - 0.8 + 0.3 * X[:, 1] + 0.1 * rng.standard_normal(n)
    if task == "regressor":
        return X, score
    return X, np.array(["low", "middle", "high"])[np.digitize(score, [0.0] if task == "binary" else [-0.4, 0.3])]


def make(task, mode, alpha=0.1, **options):
    kind = ConvexReLURegressor if task == "regressor" else ConvexReLUClassifier
    return kind(alpha, **(dict(random_state=0) | MODES[mode] | options))


# ---------------------------------------------------------------------------------------------------------------------
# Callbacks and history


class Recorder:
    """Notes the tasks as they begin and end, and asks to stop at a given number of entries."""

    max_propagation_depth = None

    def __init__(self, stop_after=np.inf):
        self.stop_after, self.log, self.seen = stop_after, [], []

    def setup(self, estimator, context):
        self.log.append("setup")

    def teardown(self, estimator, context):
        self.log.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.log.append(("begin", context.estimator_name, context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.log.append(("end", context.estimator_name, context.task_name, context.task_id))
        if context.task_name == "solver step":
            self.seen.append(len(estimator.history_))
            return len(estimator.history_) >= self.stop_after
        if hasattr(fitted_estimator, "predict"):
            self.prediction = fitted_estimator.predict(X)


def test_callbacks_come_with_scikit_learn():
    assert hasattr(ConvexReLURegressor(), "set_callbacks") == has_callbacks


@callbacks
@pytest.mark.parametrize("mode", MODES)
def test_callbacks_see_a_task_for_each_entry_of_the_history(mode):
    task = "binary"
    X, y = draw(task)
    recorder = Recorder()
    model = make(task, mode).set_callbacks(recorder).fit(X, y)
    name, n = type(model).__name__, len(model.history_)
    # What follows the last entry is a task too, without an entry of its own.
    assert recorder.seen == [*range(1, n + 1), n]
    steps = [(when, name, "solver step", i) for i in range(n + 1) for when in ("begin", "end")]
    assert recorder.log == ["setup", ("begin", name, "fit", 0), *steps, ("end", name, "fit", 0), "teardown"]
    assert np.array_equal(recorder.prediction, model.predict(X))
    plain = make(task, mode).fit(X, y)
    assert np.array_equal(plain.network_.hidden_weights, model.network_.hidden_weights)


@callbacks
@pytest.mark.parametrize("task", ["regressor", "three"])
@pytest.mark.parametrize("mode", ["exact", "adaptive", "cvxpy", "gated"])
def test_a_callback_stops_the_fit(mode, task):
    X, y = draw(task)
    model = make(task, mode, alpha=0.02, tol=1e-9)
    recorder = Recorder(stop_after=1)
    if mode == "cvxpy":  # it has one entry only, after the fact
        model.set_params(max_iter=3)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.set_callbacks(recorder).fit(X, y)
    assert recorder.seen == [1] and recorder.log[-1] == "teardown"
    assert model.result_.status == "interrupted"
    objective, bound = model.certificate_.objective, model.certificate_.lower_bound
    best = make(task, mode, alpha=0.02, tol=1e-6, max_iter=10**5, patterns=model.arrangement_).fit(X, y).certificate_
    assert best.lower_bound * (1 - 1e-9) <= objective < np.inf
    # An adaptive fit lists other cells than those of its network.
    assert bound <= (objective if mode == "adaptive" else best.objective) * (1 + 1e-9)


@callbacks
def test_a_fit_within_its_tolerance_is_optimal_even_if_a_callback_stops_it():
    X, y = draw("regressor")
    once = len(make("regressor", "exact").fit(X, y).history_)
    assert make("regressor", "exact").set_callbacks(Recorder(once)).fit(X, y).result_.status == "optimal"


@callbacks
def test_verbose_shows_the_entry_at_which_a_callback_stops(capsys):
    X, y = draw("regressor")
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = make("regressor", "fista", verbose=1, tol=1e-9).set_callbacks(Recorder(3)).fit(X, y)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.split()[:2] == ["iteration", str(model.history_[2]["iteration"])] and len(model.history_) == 3


@callbacks
def test_scores_of_the_whole_fit():
    pd = pytest.importorskip("pandas")
    from sklearn.callback import ScoringMonitor

    X, y = draw("binary")
    X, weights = pd.DataFrame(X, columns=["a", "b"]), np.arange(1.0, 25)
    monitor = ScoringMonitor(scoring="accuracy")
    model = make("binary", "exact").set_callbacks(monitor).fit(X, y, sample_weight=weights)
    (entry,) = monitor.get_logs().data
    assert entry["accuracy"] == model.score(X, y, sample_weight=weights)


@callbacks
def test_callbacks_reach_through_pipelines_and_searches():
    X, y = draw("regressor")
    recorder = Recorder()
    chain = make_pipeline(StandardScaler(), make("regressor", "sampled"))
    grid = {"convexreluregressor__alpha": [0.1, 1.0]}
    search = GridSearchCV(chain, grid, cv=2).set_callbacks(recorder).fit(X, y)
    fits = [entry for entry in recorder.log if entry[:3] == ("begin", "ConvexReLURegressor", "fit")]
    assert len(fits) == 5 and recorder.log.count("setup") == recorder.log.count("teardown") == 1
    assert not hasattr(search.best_estimator_[-1], "_skl_callbacks")


@callbacks
def test_callbacks_are_torn_down_after_an_error_and_survive_copies():
    X, y = draw("regressor")
    recorder = Recorder()
    model = make("regressor", "fista", loss="absolute").set_callbacks(recorder)
    with pytest.raises(ValueError, match="cvxpy"):
        model.fit(X, y)
    assert recorder.log[-1] == "teardown" and not hasattr(model, "_callback_fit_ctx")
    model.set_params(loss="squared").fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.predict(X), model.predict(X))
    recorder.log.clear()
    clone(model).fit(X, y)
    assert recorder.log[0] == "setup" and recorder.log[-1] == "teardown"


@pytest.mark.parametrize("mode", MODES)
def test_history_is_plain(mode):
    X, y = draw("three")
    model = make("three", mode).fit(X, y)
    assert json.loads(json.dumps(model.history_)) == model.history_ == model.result_.history
    types = dict(iteration=int, seconds=float, objective=float, relative_gap=float, blocks=int)
    assert all({name: type(value) for name, value in entry.items()} == types for entry in model.history_)
    assert model.history_[-1]["relative_gap"] <= model.tol


# ---------------------------------------------------------------------------------------------------------------------
# Summary


def test_summary_of_classes():
    pd = pytest.importorskip("pandas")
    X, y = draw("three")
    X = pd.DataFrame(X, columns=["length", "width"])
    model = make("three", "sampled").fit(X, y)
    lines = model.summary(X).splitlines()
    head = f"alpha 0.1 = {0.1 / model.alpha_max_:.3g} alpha_max, {model.n_iter_} iterations"
    assert lines[0] == f"ConvexReLUClassifier: loss multinomial_log_loss, {head}"
    assert lines[1] == f"the fit reached its tolerance; the relative gap is {model.certificate_.relative_gap:.1e}"
    assert " ".join(lines[2 : lines.index("")]) == str(model.certificate_)
    table = model.network_.summary(model.network_.count_active(X), feature_names=X.columns, classes=model.classes_)
    assert "\n".join(lines[lines.index("") + 1 :]) == table
    assert "length" in table and "constant of middle" in table and "active" in table
    assert "active" not in model.summary().split("holds:")[1]
    assert len(model.summary(max_neurons=2).splitlines()) == len(model.summary(max_neurons=1).splitlines()) + 1
    with pytest.raises(ValueError, match="feature names"):
        model.summary(X[["width", "length"]])


def test_summary_of_a_constant():
    X, y = draw("regressor")
    summary = make("regressor", "exact").fit(X, 0 * y + 3).summary(X)
    assert summary.endswith("Network(0 ReLU neurons, 2 features, 1 output)\nconstant: 3")
    assert "alpha 0.1, 1 iterations\nthe fit reached its tolerance; the relative gap is 0.0e+00" in summary


# ---------------------------------------------------------------------------------------------------------------------
# What is told


@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_one_gap_and_one_number_of_neurons(mode, certify, capsys):
    """Progress line, warning, summary and certificate tell the same of the same network."""
    if certify and mode == "gated":
        return
    X, y = draw("regressor", 60)
    options = MODES[mode] | dict(max_iter=4, tol=1e-9, verbose=1, certify=certify, random_state=0)
    model = ConvexReLURegressor(0.02, **options)
    with pytest.warns(ConvergenceWarning, match=r"above tol 1e-09; raise max_iter") as caught:
        model.fit(X, y)
    said = re.search(r"Relative gap (\S+) with (\d+) neurons?, ", str(caught[0].message))
    assert said.groups() == (f"{model.certificate_.stated_gap:.1e}", str(model.network_.n_neurons))
    last = capsys.readouterr().err.splitlines()[-1]
    gap, neurons = re.search(r"relative gap (\S+)  neurons +(\d+)  ", last).groups()
    assert gap == f"{model.certificate_.stated_gap:.1e}" and neurons == str(model.network_.n_neurons)
    ended = model.summary().splitlines()[1]
    assert ended.endswith(f" {gap}") and ("by a search" in ended) == (mode == "adaptive" and certify)
    if mode == "adaptive" and not certify:
        assert model.certificate_.stated_gap >= model.certificate_.gap_found and gap in str(model.certificate_)


@pytest.mark.parametrize("status", ["time_limit", "max_iter", "stalled", "almost_optimal"])
def test_no_warning_where_the_gap_is_within_tol(status):
    X, y = draw("regressor")
    model = make("regressor", "adaptive")
    fit = next(model._train(model._coded(X, y, None)))
    fit = replace(fit, result=replace(fit.result, status=status, message=STATUSES[status]))
    assert 0 < fit.relative_gap <= model.tol
    model._keep(fit)
    assert STATUSES[status] in model.summary()
    model.tol = 0.5 * fit.relative_gap
    with pytest.warns(ConvergenceWarning, match=rf"{STATUSES[status]}.*{fit.relative_gap:.1e}.*{REMEDIES[status]}"):
        model._keep(fit)
    lost = replace(fit, certificate=replace(fit.certificate, gap_found=np.nan))
    model.tol = 1.0
    with pytest.warns(ConvergenceWarning, match="Relative gap nan"):
        model._keep(lost)


# ---------------------------------------------------------------------------------------------------------------------
# Precision


@pytest.mark.parametrize("mode", ["adaptive", "sampled", "gated"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_single_precision_in_single_precision_out(task, mode):
    X, y = draw(task)
    single, y = X.astype(np.float32), y.astype(np.float32) if task == "regressor" else y
    model = make(task, mode).fit(single, y)
    double = make(task, mode).fit(single.astype(float), y.astype(float) if task == "regressor" else y)
    for name in ("hidden_weights", "hidden_biases", "output_weights", "output_bias"):
        value, other = np.asarray(getattr(model.network_, name)), np.asarray(getattr(double.network_, name))
        assert value.dtype == float and value.tobytes() == other.tobytes()
    methods = ["predict"] if task == "regressor" else ["decision_function", "predict_proba", "predict_log_proba"]
    for method in methods:
        small, exact = getattr(model, method)(single), getattr(model, method)(single.astype(float))
        assert small.dtype == np.float32 and exact.dtype == float
        assert np.abs(small - exact).max() <= 1e-6 * (1 + np.abs(exact).max())
        assert getattr(double, method)(single).dtype == float
    if task != "regressor":
        assert np.array_equal(model.predict(single), double.predict(single))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("task", ["regressor", "three"])
@pytest.mark.parametrize("fitted", [np.float32, np.float64, int])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16, int])
def test_precision_of_predictions_is_that_of_the_mlp(task, fitted, given):
    X, y = draw(task)
    X = np.round(3 * X)
    mlp = (MLPRegressor if task == "regressor" else MLPClassifier)(max_iter=1).fit(X.astype(fitted), y)
    model = make(task, "sampled").fit(X.astype(fitted), y)
    method = "predict" if task == "regressor" else "predict_proba"
    ours, theirs = (getattr(m, method)(X.astype(given)) for m in (model, mlp))
    # Half precision and integers: the MLP multiplies what it gets, here they are converted first.
    assert ours.dtype == (theirs.dtype if given in (np.float32, np.float64) else float)


def test_log_probabilities_do_not_underflow():
    X, y = draw("binary")
    model = make("binary", "sampled").fit(X, y)
    far = 1e4 * X
    f = model.decision_function(far)
    assert np.abs(f).max() > 1e3
    assert np.allclose(model.predict_log_proba(far), -np.logaddexp(0, np.column_stack([f, -f])), rtol=1e-12, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# Repeatability

FINGERPRINTS = """
import sys
sys.path.insert(0, {tests!r})
from test_training import MODES, TASKS, draw, make
for mode in ("exact", "adaptive", "sampled", "gated"):
    for task in TASKS:
        network = make(task, mode).fit(*draw(task)).network_
        parts = network.hidden_weights, network.hidden_biases, network.output_weights
        print(mode, task, sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.slow
def test_fresh_processes_give_the_same_bits():
    code = "from hashlib import sha256" + FINGERPRINTS.format(tests=os.path.dirname(__file__))
    # Nothing may hang on the order of sets of strings.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0] for process in running)
    assert first == second and len(set(first.splitlines())) == 12


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_a_search_over_all_patterns_does_not_depend_on_threads(task):
    """Fits over listed patterns may: BLAS adds in another order, which shows in the Newton system of three classes."""
    X, y = draw(task, n=60)
    bits = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            bits.append(make(task, "adaptive").fit(X, y).network_.hidden_weights.tobytes())
    assert bits[0] == bits[1]


@pytest.mark.parametrize("task", TASKS)
def test_without_a_seed_the_global_generator_decides(task):
    X, y = draw(task)
    weights = []
    for seed in (1, 1, 2):
        np.random.seed(seed)  # noqa: NPY002
        weights.append(make(task, "sampled", n_patterns=5, random_state=None).fit(X, y).network_.hidden_weights)
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


# ---------------------------------------------------------------------------------------------------------------------
# Copies, metadata and later fits


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", ["exact", "adaptive"])
def test_a_file_keeps_the_proof(task, mode, tmp_path):
    X, y = draw(task)
    model = make(task, mode, certify=True).fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    copy = joblib.load(tmp_path / "model.joblib")
    coded = y if task == "regressor" else np.searchsorted(model.classes_, y)
    assert copy.certificate_.scope == "global"
    assert copy.certificate_.verify(X, coded) == model.certificate_.verify(X, coded) <= model.certificate_.objective
    assert copy.summary(X) == model.summary(X) and copy.history_ == model.history_
    assert np.array_equal(copy.predict(X), model.predict(X))


@pytest.mark.parametrize("task", ["regressor", "binary"])
def test_weights_are_routed(task):
    X, y = draw(task)
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make(task, "sampled").set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"alpha": [0.2]}, cv=2).fit(X, y, sample_weight=weights)
    direct = make(task, "sampled", alpha=0.2).fit(X, y, sample_weight=weights)
    assert np.array_equal(search.predict(X), direct.predict(X))
    assert not np.array_equal(direct.coefs_[0], make(task, "sampled", alpha=0.2).fit(X, y).coefs_[0])


@pytest.mark.parametrize("task", ["regressor", "binary"])
@pytest.mark.parametrize("mode", ["exact", "adaptive", "sampled", "fista", "gated"])
@pytest.mark.slow
def test_a_smaller_alpha_starts_from_the_network_so_far(mode, task, monkeypatch):
    # Iterations of one kind are counted: Newton's steps without FISTA's before them.
    monkeypatch.setattr(newton, "_worth_of_steps", lambda problem: 0)
    X, y = draw(task, n=40)
    warm = make(task, mode, alpha=0.5, warm_start=True).fit(X, y)
    n_warm = n_cold = 0
    for alpha in (0.45, 0.4, 0.35, 0.3, 0.25):
        warm.set_params(alpha=alpha).fit(X, y)
        cold = make(task, mode, alpha=alpha).fit(X, y)
        n_warm, n_cold = n_warm + warm.n_iter_, n_cold + cold.n_iter_
        assert warm.certificate_.objective == pytest.approx(cold.certificate_.objective, rel=2 * warm.tol)
    # Over all of them: one cold fit may be lucky.
    assert n_warm < n_cold


@pytest.mark.parametrize("mode", ["adaptive", "sampled", "gated"])
@pytest.mark.slow
def test_a_warm_start_forgets_what_does_not_fit(mode):
    X, y = draw("three")
    model = make("three", mode, warm_start=True).fit(X, y)
    two = y != "middle"
    for rows, columns in ((two, [0, 1]), (two, [0]), (np.ones(len(y), dtype=bool), [0, 1])):
        data = X[rows][:, columns], y[rows]
        fresh = make("three", mode).fit(*data)
        model.fit(*data)
        assert model.classes_.tolist() == fresh.classes_.tolist() and model.n_features_in_ == len(columns)
        # Other classes, or other features, and nothing to start from.
        assert np.array_equal(model.network_.hidden_weights, fresh.network_.hidden_weights)


# Blocks that are zero in every solution.


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
    assert np.isclose(result.primal, problem.task.loss_value(np.zeros(12) + problem.task.null_model[0]), rtol=1e-12)


@pytest.mark.parametrize("y", [np.where(np.arange(30) % 2, 0.1 + 0.2, 0.3), np.full(30, 1e12)])
def test_constant_but_for_rounding(y):
    X = np.random.default_rng(0).standard_normal((30, 2))
    for options in (dict(), dict(skip_connection=True), dict(hidden_bias="free")):
        model = ConvexReLURegressor(**options).fit(X, y)
        assert model.network_.n_neurons == 0 and model.alpha_max_ == 0 and model.result_.status == "optimal"
        assert "nothing but rounding" in model.result_.message and model.certificate_.relative_gap == 0
    model = ConvexReLURegressor().fit(np.ones((30, 2)), np.arange(30.0))
    assert model.network_.n_neurons == 0 and model.result_.status == "optimal"


def of_units():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((25, 3))
    return X, np.abs(X[:, 0]) - X[:, 1] + 0.1 * rng.standard_normal(25)


@cache
def fit_in_its_units(name, value):
    return ConvexReLURegressor(random_state=0, **({} if name is None else {name: value})).fit(*of_units())


@pytest.mark.parametrize("c", [1e-100, 1e-10, 1e-6, 3.0, 1e4, 1e100])
@pytest.mark.slow
def test_units_do_not_matter(c):
    """(c X, y) without biases in the norm, and (X, c y), are the same fit."""
    X, y = of_units()
    for name, value in ((None, None), ("hidden_bias", "none"), ("hidden_bias", "free"), ("patterns", "sampled")):
        options = {} if name is None else {name: value}
        one = fit_in_its_units(name, value)
        other = ConvexReLURegressor(random_state=0, **options).fit(X, c * y)
        np.testing.assert_allclose(other.predict(X) / c, one.predict(X), rtol=1e-6, atol=1e-6)
        assert one.certificate_.objective < 0.5 * y.var() * len(y)
        if options.get("hidden_bias") in ("none", "free"):
            other = ConvexReLURegressor(random_state=0, **options).fit(c * X, y)
            np.testing.assert_allclose(other.predict(c * X), one.predict(X), rtol=1e-6, atol=1e-6)
