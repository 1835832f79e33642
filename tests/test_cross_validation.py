"""Choice of alpha: the scores of cold fits fold by fold, rules by hand, and scikit-learn's contract."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLUClassifierCV,
    ConvexReLURegressor,
    ConvexReLURegressorCV,
    FeatureScaleWarning,
    PathDisplay,
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks set max_iter=5
@parametrize_with_checks(
    [
        # Enough alphas for the checks on the score, and quick.
        kind(alphas=2, eps=0.01, cv=2, patterns="sampled", n_patterns=10, tol=2e-2, max_iter=50, random_state=0)
        for kind in (ConvexReLURegressorCV, ConvexReLUClassifierCV)
    ]
)
@pytest.mark.slow
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def draw(task, n=40, seed=0):
    rng = np.random.default_rng([seed, n])
    X = rng.standard_normal((n, 2))
    score = np.abs(X[:, 0]) - 0.8 + 0.3 * X[:, 1] + 0.3 * rng.standard_normal(n)
    if task == "regressor":
        return X, 2 * score
    if task == "binary":
        return X, np.where(score > 0, "yes", "no")
    return X, np.array(["low", "middle", "high"])[np.digitize(score, [-0.4, 0.3])]


SINGLE = {"regressor": ConvexReLURegressor, "binary": ConvexReLUClassifier, "three": ConvexReLUClassifier}
COMMON = dict(patterns="sampled", n_patterns=20, random_state=0, certify=False)


def make(task, **options):
    kind = ConvexReLURegressorCV if task == "regressor" else ConvexReLUClassifierCV
    return kind(**(dict(alphas=6, eps=0.01, cv=3) | COMMON | options))


@pytest.mark.parametrize("scoring", [None, "given"])
@pytest.mark.parametrize("task", SINGLE)
def test_scores_of_cold_fits(task, scoring, monkeypatch):
    """Each fold and alpha by a fit of its own: alpha times the share of the rows, and cross_val_score."""
    monkeypatch.setattr("convexnn.estimators.cross_validation.ROUGH", 1e-6)
    monkeypatch.setattr("convexnn.estimators.cross_validation.ROUGHEST", 1e-6)
    X, y = draw(task)
    cv = KFold(3) if task == "regressor" else StratifiedKFold(3, shuffle=True, random_state=1)
    given = {None: None, "given": "r2" if task == "regressor" else "accuracy"}[scoring]
    alphas = np.array([8.0, 2.0, 0.5])
    model = make(task, alphas=alphas[::-1], cv=cv, scoring=given, tol=1e-6).fit(X, y)
    name = given or ("neg_mean_squared_error" if task == "regressor" else "neg_log_loss")
    factor = 0.5 if name == "neg_mean_squared_error" else 1.0
    found = model.cv_results_
    np.testing.assert_array_equal(found["alpha"], alphas)
    expected = []
    for alpha in alphas:
        rows = []
        for train, test in cv.split(X, y):
            cold = SINGLE[task](alpha * len(train) / len(y), tol=1e-6, **COMMON)
            (score,) = cross_val_score(cold, X, y, cv=[(train, test)], scoring=name)
            rows.append(factor * score)
        expected.append(rows)
    scores = np.array([found[f"split{i}_test_score"] for i in range(3)]).T
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["mean_test_score"], np.mean(expected, axis=1), rtol=1e-3, atol=1e-3)
    assert model.best_index_ == np.argmax(np.mean(expected, axis=1)) and model.alpha_ == alphas[model.best_index_]
    # The last fit is the single estimator's.
    alone = SINGLE[task](model.alpha_, tol=1e-6, **COMMON).fit(X, y)
    assert model.certificate_.objective == pytest.approx(alone.certificate_.objective, rel=1e-5)
    assert model.result_.relative_gap <= 1e-6


def test_rough_fits_choose_as_close_ones_do():
    X, y = draw("regressor", n=80)
    rough, close = (make("regressor", alphas=8, n_patterns=100, tol=tol).fit(X, y) for tol in (1e-3, 1e-6))
    means = close.cv_results_["mean_test_score"]
    assert means[rough.best_index_] >= np.nanmax(means) - 0.02 * abs(np.nanmax(means))


@pytest.mark.parametrize("task", SINGLE)
def test_results(task):
    X, y = draw(task)
    model = make(task).fit(X, y)
    found = model.cv_results_
    keys = {"alpha", "param_alpha", "params", "mean_n_neurons", "rank_test_score"}
    keys |= {f"{what}_{name}" for what in ("mean", "std") for name in ("fit_time", "score_time", "test_score")}
    assert set(found) == keys | {f"split{i}_test_score" for i in range(3)}
    assert all(len(column) == 6 for column in found.values()) and model.n_splits_ == 3
    assert pd.DataFrame(found).shape == (6, len(found))
    scores = np.array([found[f"split{i}_test_score"] for i in range(3)])
    np.testing.assert_allclose(found["mean_test_score"], scores.mean(axis=0), equal_nan=True)
    np.testing.assert_allclose(found["std_test_score"], scores.std(axis=0), equal_nan=True)
    assert found["rank_test_score"][model.best_index_] == 1
    assert model.best_score_ == found["mean_test_score"][model.best_index_] == np.nanmax(found["mean_test_score"])
    assert np.allclose(model.alphas_, model.alpha_max_ * np.geomspace(1, 0.01, 6), rtol=1e-6)
    assert found["params"][2] == dict(alpha=model.alphas_[2])
    # The path ends with the fit.
    assert len(model.path_.alphas) == model.best_index_ + 1 and model.path_.alphas[-1] == model.alpha_
    assert model.path_.networks[-1] is model.network_ and model.path_.certificates[-1] is model.certificate_
    np.testing.assert_array_equal(model.path_.networks[0].hidden_weights.shape, (0, 2))
    if task != "regressor":
        assert list(model.path_.classes) == list(model.classes_) == sorted(set(y))
        assert np.allclose(model.predict_proba(X).sum(axis=1), 1) and set(model.predict(X)) <= set(y)


def test_one_standard_error():
    X, y = draw("regressor")
    best, sparse = (make("regressor", alphas=12, one_standard_error=flag).fit(X, y) for flag in (False, True))
    found = best.cv_results_
    scores = np.array([found[f"split{i}_test_score"] for i in range(3)])
    k = np.nanargmax(scores.mean(axis=0))
    limit = scores[:, k].mean() - scores[:, k].std(ddof=1) / np.sqrt(3)
    within = [i for i in range(12) if scores[:, i].mean() >= limit]
    assert sparse.best_index_ == within[0] < k == best.best_index_
    assert sparse.alpha_ > best.alpha_ and sparse.best_score_ == scores[:, within[0]].mean()
    assert sparse.network_.n_neurons <= best.network_.n_neurons


def test_a_grid_is_left_when_scores_fall_and_an_array_is_not():
    X, y = draw("regressor")
    y = np.random.default_rng(0).permutation(y)
    grid = make("regressor", alphas=12, eps=1e-3).fit(X, y)
    means = grid.cv_results_["mean_test_score"]
    done = np.flatnonzero(np.isfinite(means))
    assert len(done) < 12 and done[-1] == len(done) - 1 == grid.best_index_ + 4
    assert all(means[grid.best_index_] >= means[done])
    assert list(grid.cv_results_["rank_test_score"][len(done) :]) == [len(done) + 1] * (12 - len(done))
    whole = make("regressor", alphas=grid.alphas_, eps=1e-3).fit(X, y)
    assert np.isfinite(whole.cv_results_["mean_test_score"]).all()
    np.testing.assert_array_equal(whole.cv_results_["mean_test_score"][done], means[done])


@pytest.mark.parametrize("scoring", [None, "r2"])
@pytest.mark.parametrize("patterns", ["sampled", "adaptive"])
def test_weights_are_repetitions(patterns, scoring):
    X, y = draw("regressor", n=24)
    weights = np.random.default_rng(0).integers(0, 3, 24)
    rows = np.repeat(np.arange(24), weights)
    halves = [np.arange(24) % 2 == half for half in (0, 1)]
    # Gates of the sampled patterns do not depend on repetitions, the alphas are given.
    options = dict(alphas=[3.0, 1.0, 0.3], patterns=patterns, scoring=scoring)
    options |= dict(tol=1e-6) if patterns == "sampled" else {}
    weighted = make("regressor", cv=[(np.flatnonzero(a), np.flatnonzero(b)) for a, b in (halves, halves[::-1])])
    weighted.set_params(**options).fit(X, y, sample_weight=weights.astype(float))
    repeated = make(
        "regressor", cv=[(np.flatnonzero(a[rows]), np.flatnonzero(b[rows])) for a, b in (halves, halves[::-1])]
    )
    repeated.set_params(**options).fit(X[rows], y[rows])
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(weighted.cv_results_[key], repeated.cv_results_[key], rtol=1e-2)
    assert weighted.alpha_ == repeated.alpha_
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-2, atol=1e-2)


def test_default_score_is_the_loss_of_training(monkeypatch):
    """With class weights, and where a fold's test rows hold one class only."""
    monkeypatch.setattr("convexnn.estimators.cross_validation.ROUGH", 1e-8)
    monkeypatch.setattr("convexnn.estimators.cross_validation.ROUGHEST", 1e-8)
    X, y = draw("binary", n=30)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    test = np.flatnonzero(y == "yes")[:5]
    cv = [(np.setdiff1d(np.arange(30), test), test), (np.arange(0, 30, 2), np.arange(1, 30, 2))]
    model = make("binary", alphas=[1.0], cv=cv, class_weight={"no": 1.0, "yes": 3.0}, tol=1e-8).fit(X, y)
    weights = np.where(y == "yes", 3.0, 1.0)
    for i, (train, test) in enumerate(cv):
        alpha = weights[train].sum() / weights.sum()
        cold = ConvexReLUClassifier(alpha, tol=1e-8, class_weight={"no": 1.0, "yes": 3.0}, **COMMON)
        probabilities = cold.fit(X[train], y[train]).predict_proba(X[test])
        expected = -log_loss(y[test], probabilities, labels=["no", "yes"], sample_weight=weights[test])
        assert model.cv_results_[f"split{i}_test_score"][0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("task", ["regressor", "three"])
@pytest.mark.slow
def test_threads_change_nothing(task):
    X, y = draw(task, n=24)
    for random_state in (0, np.random.RandomState(5)):
        patterns = "adaptive" if task == "regressor" else "sampled"
        options = dict(patterns=patterns, alphas=[2.0, 0.5], random_state=random_state)
        one, two = (clone(make(task, n_jobs=n_jobs, **options)).fit(X, y) for n_jobs in (1, 2))
        for key, column in one.cv_results_.items():
            if "time" not in key:
                np.testing.assert_array_equal(column, two.cv_results_[key])
        np.testing.assert_array_equal(one.network_.hidden_weights, two.network_.hidden_weights)


def test_clone_and_pickle():
    X, y = draw("three")
    model = make("three", alphas=[1.0, 0.3]).fit(X, y)
    fresh = clone(model)
    assert not hasattr(fresh, "alpha_") and fresh.get_params().keys() == model.get_params().keys()
    assert not {"alpha", "init", "warm_start"} & fresh.get_params().keys()
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.path_.alphas.tolist() == [1.0, 0.3][: model.best_index_ + 1]


def test_pipeline_with_pandas_groups_and_pictures():
    X, y = draw("regressor")
    frame, target = pd.DataFrame(X, columns=["a", "b"]), pd.Series(y, index=np.arange(100, 140))
    pipe = make_pipeline(StandardScaler().set_output(transform="pandas"), make("regressor", cv=GroupKFold(4)))
    groups = np.arange(40) // 10
    pipe.fit(frame, target, convexreluregressorcv__groups=groups)
    model = pipe[-1]
    assert list(model.feature_names_in_) == ["a", "b"] and model.n_splits_ == 4
    assert pipe.predict(frame).shape == (40,) and model.to_sklearn().alpha == model.alpha_
    display = PathDisplay.from_estimator(model, quantity="n_neurons")
    assert display.chosen == pytest.approx(model.alpha_ / model.alpha_max_)


def test_a_limit_on_time():
    X, y = draw("regressor")
    with pytest.warns(ConvergenceWarning) as caught:
        model = make("regressor", patterns="adaptive", max_time=0.0).fit(X, y)
    first, second = (str(warning.message) for warning in caught)
    assert "max_time=0.0 ended the folds after 1 of 6 alphas" in first and "the last of these" in first
    assert "the time limit came first" in second
    assert np.isfinite(model.predict(X)).all() and model.best_index_ == 0 and model.alpha_ == model.alphas_[0]
    assert np.isnan(model.cv_results_["mean_test_score"][1:]).all()


def test_verbose_writes_a_line_for_each_alpha(capsys):
    X, y = draw("regressor")
    make("regressor", alphas=[2.0, 1.0], verbose=1).fit(X, y)
    out, err = capsys.readouterr()
    assert out == "" and err.count("score") == 2 and "neurons" in err


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(alphas=0), "alphas must be at least 1"),
        (dict(alphas=[-1.0]), "alphas must be an int, the number of alphas, or a list"),
        (dict(alphas=30.0), "got 30.0"),
        (dict(eps=2), "eps must be"),
        (dict(one_standard_error="yes"), "one_standard_error must be True or False, got 'yes'"),
        (dict(scoring=["r2"]), r"scoring must be None, one name of a scorer, or a callable, got \['r2'\]"),
        (dict(scoring=lambda model, X, y: np.nan), "scoring must give finite numbers, got .nan"),
        (dict(cv=1000), "1000"),
        (dict(cv=[]), "cv must give at least one split"),
        (dict(cv=[(np.arange(40), np.arange(0))]), "cv must give training and test rows of positive weight.* split 0"),
        (dict(tol=-1), "tol must be"),
    ],
)
def test_bad_parameters(options, match):
    X, y = draw("regressor")
    with pytest.raises(ValueError, match=match):
        make("regressor", **options).fit(X, y)


def test_a_fold_without_a_class():
    X, y = draw("three")
    split = np.flatnonzero(y != "high"), np.flatnonzero(y == "high")
    with pytest.raises(
        ValueError, match=r"cv must give training rows of every class, got none of class high in split 0"
    ):
        make("three", cv=[split]).fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr"])
@pytest.mark.parametrize("task", ["binary", "three"])
def test_a_test_fold_without_a_class(task, scoring):
    """Scorers that cannot score it say in which split; those that can, and the default, do."""
    X, y = draw(task)
    lost = np.unique(y)[-1]
    test = np.flatnonzero(y != lost)[:5], np.flatnonzero(y == lost)[:3]
    cv = [(np.setdiff1d(np.arange(len(y)), rows), rows) for rows in (*test, np.arange(20))]
    with pytest.raises(
        ValueError, match=rf"scoring must .* the 5 test rows of split 0, which have none of class {lost}"
    ):
        make(task, cv=cv, scoring=scoring).fit(X, y)
    for can in (None, "accuracy"):
        assert np.isfinite(make(task, cv=cv, scoring=can, alphas=2).fit(X, y).best_score_)


def test_uneven_features_are_told_once():
    X, y = draw("regressor")
    with pytest.warns(FeatureScaleWarning, match="StandardScaler") as caught:
        make("regressor", alphas=2).fit(X * [1e-3, 1], y)
    assert len(caught) == 1
