"""Choice of alpha by cross-validation: ConvexReLURegressorCV and ConvexReLUClassifierCV."""

from __future__ import annotations

import inspect
import sys
import warnings
from dataclasses import replace
from math import ceil
from time import perf_counter

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from convexnn.budget import Budget
from convexnn.engine import AUTO_ALPHA
from convexnn.estimators.networks import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.estimators.path import check_alphas, path_of
from convexnn.fits import Fit
from convexnn.network import Network
from convexnn.threads import one_thread

#: Fits in the folds stop at a gap of this share of the loss without neurons, ...
ROUGH = 0.01
#: ... and at most this share of their own objective: the last alphas explain a hundred times as much as the first.
ROUGHEST = 0.1
#: A grid of alphas is left when so many in a row have scored worse than the best: what is left costs most.
PATIENCE = 4
#: A rough fit in a fold takes a good part of a second; but no grid has fewer alphas than these.
ROUGH_SECONDS, FEWEST = 0.2, 6
#: What part of the folds' time the first alpha may take.
FIRST_SHARE = 0.3
#: What part of max_time the folds may take.
FOLDS_SHARE = 0.6


class ConvexReLURegressorCV(ConvexReLURegressor):
    r"""ConvexReLURegressor with the weight decay chosen by cross-validation.

    Every fold walks down the alphas, each fit started from the one before. As alpha stands beside a *sum* of losses, a
    fold trains with alpha times its share of the sample weights. The network of the best alpha is then trained on all
    data, at the end of a path that is kept in ``path_``.

    Parameters
    ----------
    alphas : int or array of shape (n_alphas,), default=25
        Weight decays for all data, or their number: a geometric sequence from alpha_max, where the network has no
        neuron, down to ``eps * alpha_max``. Such a sequence is left once 4 alphas in a row have scored worse than the
        best: those that remain cost most. A given array is scored to its end.
    eps : float, default=1e-4
        The last of that sequence in units of alpha_max.
    cv : int, splitter or iterable of (train, test), optional
        Folds, 5 by default: ``KFold`` without shuffling, as everywhere in scikit-learn.
    scoring : str or callable, optional
        By default minus the mean loss of the held-out rows, the loss that is minimised in training: for
        ``loss="squared"`` minus *half* the mean squared error. "r2" is what ``score`` gives.
    n_jobs : int, optional
        Folds at a time (threads).
    one_standard_error : bool, default=False
        Take the largest alpha whose mean score is within one standard error of the best: fewer neurons.
    loss, activation, patterns, n_patterns, solver, fit_intercept, hidden_bias, skip_connection, feature_penalty
        As in ConvexReLURegressor.
    max_iter
        As in ConvexReLURegressor.
    tol : float, default=1e-3
        Relative duality gap of the last fit. Those before it are rough: they stop at a gap of 1 % of the loss without
        neurons, and at most 10 % of their own objective.
    max_time : float, optional
        Limit in seconds for everything; three fifths are for the folds. Every alpha may take as long as any other, so
        that all are scored roughly; with little time some of a grid are left out, or the folds end before the last.
    certify, random_state, verbose
        As in ConvexReLURegressor; what is certified is the last fit.

    Attributes
    ----------
    alpha_ : float
        The chosen weight decay.
    alphas_ : array of shape (n_alphas,)
        All of them, decreasing.
    best_index_ : int
        ``alpha_`` is ``alphas_[best_index_]``.
    best_score_ : float
        Mean score over the folds at ``alpha_``.
    cv_results_ : dict of arrays of shape (n_alphas,)
        As in ``GridSearchCV``, with alpha and mean_n_neurons besides: param_alpha, params, split0_test_score and so
        on, mean_test_score, std_test_score, rank_test_score, and the mean and std of fit_time and score_time. Scores
        are nan where a sequence was left.
    n_splits_ : int
        Number of folds.
    path_ : Path
        On all data, from the largest alpha to ``alpha_``.
    network_, certificate_, result_, arrangement_, alpha_max_, coefs_, intercepts_, n_iter_
        Of the last fit; see ConvexReLURegressor.

    See Also
    --------
    relu_path : the path alone.

    References
    ----------
    .. [1] T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed., section 7.10.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (60, 1))
    >>> y = np.abs(X[:, 0]) + 0.1 * rng.standard_normal(60)
    >>> model = ConvexReLURegressorCV(alphas=8, random_state=0).fit(X, y)
    >>> bool(model.alpha_ == model.alphas_[model.best_index_])
    True
    >>> bool(model.score(X, y) > 0.7)
    True
    """

    def __init__(
        self,
        alphas=25,
        *,
        eps=1e-4,
        cv=None,
        scoring=None,
        n_jobs=None,
        one_standard_error=False,
        loss="squared",
        activation="relu",
        patterns="auto",
        n_patterns=1000,
        solver="auto",
        fit_intercept=True,
        hidden_bias="penalized",
        skip_connection=False,
        feature_penalty=0.0,
        tol=1e-3,
        max_iter=20_000,
        max_time=None,
        certify="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            loss=loss,
            activation=activation,
            patterns=patterns,
            n_patterns=n_patterns,
            solver=solver,
            fit_intercept=fit_intercept,
            hidden_bias=hidden_bias,
            skip_connection=skip_connection,
            feature_penalty=feature_penalty,
            tol=tol,
            max_iter=max_iter,
            max_time=max_time,
            certify=certify,
            random_state=random_state,
            verbose=verbose,
        )
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.one_standard_error = one_standard_error

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose alpha and train the network.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features, standardised for a penalty that treats them alike.
        y : array of shape (n_samples,)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses, in training and in the scores.
        groups : array of shape (n_samples,), optional
            For splitters such as ``GroupKFold``.

        Returns
        -------
        self : ConvexReLURegressorCV

        Raises
        ------
        ValueError
            For unusable data or parameters.
        """
        sample = self._coded(X, y, sample_weight)
        return cross_validate(self, ConvexReLURegressor(1.0), sample, sample.y, sample_weight is not None, groups)


class ConvexReLUClassifierCV(ConvexReLUClassifier):
    r"""ConvexReLUClassifier with the weight decay chosen by cross-validation.

    Parameters
    ----------
    alphas, eps, n_jobs, one_standard_error
        As in ConvexReLURegressorCV.
    cv : int, splitter or iterable of (train, test), optional
        Folds, 5 by default; a number stands for ``StratifiedKFold``. Every class must be in every fold's training rows.
    scoring : str or callable, optional
        By default minus the mean loss of the held-out rows: for the log loss it is "neg_log_loss", which tells alphas
        apart on which the accuracy is equal. Class weights count in it, as they do in training.
    loss, activation, patterns, n_patterns, solver, fit_intercept, hidden_bias, skip_connection, max_iter, class_weight
        As in ConvexReLUClassifier; balanced class weights are those of all data.
    tol, max_time, certify, random_state, verbose
        As in ConvexReLURegressorCV.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels.
    alpha_, alphas_, best_index_, best_score_, cv_results_, n_splits_, path_
        As in ConvexReLURegressorCV.
    network_, certificate_, result_, arrangement_, alpha_max_, coefs_, intercepts_, n_iter_
        Of the last fit; see ConvexReLURegressor.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (60, 1))
    >>> y = np.where(np.abs(X[:, 0]) > 0.5, "far", "near")
    >>> model = ConvexReLUClassifierCV(alphas=5, cv=3, random_state=0).fit(X, y)
    >>> model.predict([[-0.9], [0.1], [0.8]]).tolist()
    ['far', 'near', 'far']
    """

    def __init__(
        self,
        alphas=25,
        *,
        eps=1e-4,
        cv=None,
        scoring=None,
        n_jobs=None,
        one_standard_error=False,
        loss="log_loss",
        activation="relu",
        patterns="auto",
        n_patterns=1000,
        solver="auto",
        fit_intercept=True,
        hidden_bias="penalized",
        skip_connection=False,
        feature_penalty=0.0,
        tol=1e-3,
        max_iter=20_000,
        max_time=None,
        certify="auto",
        random_state=None,
        verbose=0,
        class_weight=None,
    ):
        super().__init__(
            loss=loss,
            activation=activation,
            patterns=patterns,
            n_patterns=n_patterns,
            solver=solver,
            fit_intercept=fit_intercept,
            hidden_bias=hidden_bias,
            skip_connection=skip_connection,
            feature_penalty=feature_penalty,
            tol=tol,
            max_iter=max_iter,
            max_time=max_time,
            certify=certify,
            random_state=random_state,
            verbose=verbose,
            class_weight=class_weight,
        )
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.one_standard_error = one_standard_error

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose alpha and train the network.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features, standardised for a penalty that treats them alike.
        y : array of shape (n_samples,)
            Class labels.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses, in training and in the scores.
        groups : array of shape (n_samples,), optional
            For splitters such as ``StratifiedGroupKFold``.

        Returns
        -------
        self : ConvexReLUClassifierCV

        Raises
        ------
        ValueError
            For unusable data or parameters, or when a fold lacks a class.
        """
        sample = self._coded(X, y, sample_weight)
        code = sample.y if len(self.classes_) > 2 else (sample.y > 0).astype(int)
        labels = self.classes_[code]
        return cross_validate(self, ConvexReLUClassifier(1.0), sample, labels, sample_weight is not None, groups)


def cross_validate(model, single, sample, labels, weighted, groups):
    """Choose the alpha of a ...CV estimator and fit it.

    Parameters
    ----------
    model : ConvexReLURegressorCV, ConvexReLUClassifierCV or ReLUSplineRegressorCV
        What is being fitted.
    single : ConvexReLURegressor, ConvexReLUClassifier or ReLUSplineRegressor
        Takes over its settings; walks the paths, and is what scorers see.
    sample : Sample
        Checked data in the loss's coding.
    labels : array of shape (n_samples,)
        Targets in the user's coding.
    weighted : bool
        Whether there are sample weights.
    groups : array of shape (n_samples,) or None
        For the splitter.
    """
    with Budget(model.max_time) as budget:
        if hasattr(model, "_skl_callbacks"):
            raise ValueError(f"{type(model).__name__} takes no callbacks; verbose=1 prints a line for each alpha.")
        if not isinstance(model.one_standard_error, (bool, np.bool_)):
            raise ValueError(f"one_standard_error must be True or False, got {model.one_standard_error!r}.")
        if not (model.scoring is None or isinstance(model.scoring, str) or callable(model.scoring)):
            raise ValueError(f"scoring must be None, one name of a scorer, or a callable, got {model.scoring!r}.")
        run = _Run(budget, model, single, sample, labels, groups)
        run.walk(weighted)
        fit = run.last_fit(run.chosen())
    return model._keep(fit)


class _Run:
    """One cross-validation: the folds, a walk down the alphas for each, side by side, and what they have scored."""

    def __init__(self, budget, model, single, sample, labels, groups):
        self.start, self.budget, self.model, self.single = perf_counter(), budget, model, single
        self.sample, self.labels, self.weights = sample, labels, sample.weights
        sequence = check_alphas(model.alphas, model.eps)
        # One seed for all fits: a RandomState would hand out its numbers in the order in which threads ask.
        seed = model.random_state
        if seed is None or isinstance(seed, np.random.RandomState):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        shared = set(single.get_params()) & set(model.get_params())
        single.set_params(**{name: getattr(model, name) for name in shared})
        _set(single, random_state=seed, certify=False, verbose=0)
        single.n_features_in_, single._dtype = model.n_features_in_, model._dtype
        self.classes = single.classes_ = getattr(model, "classes_", None)
        self.scorer = None if model.scoring is None else check_scoring(single, model.scoring)
        n = len(sample.y)
        self.splits = list(
            check_cv(model.cv, labels, classifier=self.classes is not None).split(sample.X, labels, groups)
        )
        self.counts = [np.bincount(np.arange(n)[train], minlength=n) for train, _ in self.splits]
        _check_folds(self.splits, self.counts, self.weights, labels, self.classes)

        self.folds = budget.part(FOLDS_SHARE)
        single.max_time = self.folds.left
        (empty,) = single._train(sample, alphas=lambda alpha_max: [alpha_max or 1.0])
        #: Objective without neurons, for a unit of weight.
        self.null = empty.certificate.objective / self.weights.sum()
        self.alphas, self.stride = np.asarray(sequence(empty.alpha_max), dtype=float), 1
        # With a limit every alpha may take as long as every other, so that all are scored before any is fitted well;
        # what an alpha leaves is for those that follow. Of a grid on which fits would be too rough to compare some are
        # tried.
        n_folds = len(self.counts)
        self.rounds = ceil(n_folds / min(effective_n_jobs(model.n_jobs), n_folds))
        if self.folds.left is not None and np.ndim(model.alphas) == 0:
            most = int(self.folds.left / (self.rounds * ROUGH_SECONDS))
            self.stride = ceil(len(self.alphas) / max(most, FEWEST))
            self.alphas = self.alphas[:: self.stride]
        self.scores, self.fit_times, self.score_times, self.n_neurons = np.full((4, len(self.alphas), n_folds), np.nan)
        self.tols, self.n_late, self.unfinished = np.full(len(self.alphas), np.nan), 0, False
        #: The network of a fold at the best alpha so far.
        self.found: Network | None = None

    @property
    def n_done(self) -> int:
        """Number of alphas that all folds have scored."""
        return int(np.isfinite(self.scores).all(axis=1).sum())

    def walk(self, weighted: bool) -> None:
        """Fit and score alpha after alpha in all folds, until the grid, the time or the patience ends."""
        model, walks, rough = self.model, [], 0.0
        for count in self.counts:
            share = count @ self.weights / self.weights.sum()
            part = replace(self.sample, sample_weight=count * self.sample.sample_weight)
            walks.append(self.single._train(part, alphas=lambda _, s=share: s * self.alphas))
        # Solvers that limit the threads of BLAS for themselves would, in several threads, leave the limit behind.
        with one_thread():
            for k in range(len(self.alphas)):
                self.tols[k] = max(model.tol, ROUGH, min(rough, ROUGHEST))
                fits = self.step(k, walks)
                if fits is None:
                    break
                for i, (fit, seconds) in enumerate(fits):
                    self.score(k, i, fit, seconds, weighted)
                self.tell(k)
                if k == 0 or self.scores[k].mean() > self.scores[:k].mean(axis=1).max():
                    self.found = fits[0][0].network
                objectives = [fit.certificate.objective / (c @ self.weights) for (fit, _), c in zip(fits, self.counts)]
                rough = ROUGH * self.null / max(np.mean(objectives), 1e-300)
                explained = self.folds.left is None or self.n_neurons[k].any()
                best = np.argmax(self.scores[: k + 1].mean(axis=1))
                if explained and np.ndim(model.alphas) == 0 and k - best >= PATIENCE:
                    break
        for walk in walks:
            walk.close()

    def step(self, k: int, walks: list) -> list | None:
        """The fits of all folds for an alpha, with their seconds; None where an end came first."""
        left = self.folds.left
        # The first lists patterns and finds alpha_max.
        share = 1.0 / (len(self.alphas) - k) if k else max(FIRST_SHARE, 1.0 / len(self.alphas))
        seconds = None if left is None else share * left / self.rounds
        for walk in walks:
            walk.settings = replace(walk.settings, tol=self.tols[k])
        jobs = Parallel(n_jobs=self.model.n_jobs, require="sharedmem")
        fits = jobs(delayed(_advance)(walk, seconds) for walk in walks)
        lost = any(fit is None for fit, _ in fits)
        self.unfinished = lost or any(fit.result.status in ("time_limit", "interrupted") for fit, _ in fits)
        cut = lost or any(fit.result.status == "time_limit" for fit, _ in fits)
        if lost or (k and cut and self.folds.over) or (k and self.budget.interrupted):
            return None
        return fits

    def score(self, k: int, i: int, fit: Fit, seconds: float, weighted: bool) -> None:
        """Keep how well the fit of a fold does on the rows held out."""
        began, (_, test) = perf_counter(), self.splits[i]
        X, loss = self.sample.X, self.sample.loss
        if self.scorer is None:
            held_out = loss.value(loss.check_target(self.sample.y[test]), fit.network.predict(X[test]))
            self.scores[k, i] = -np.average(held_out, weights=self.weights[test])
        else:
            self.single.network_ = fit.network
            rows = X[test], self.labels[test], self.sample.sample_weight[test] if weighted else None
            self.scores[k, i] = _scored(self.scorer, self.single, i, *rows)
        self.fit_times[k, i], self.score_times[k, i] = seconds, perf_counter() - began
        self.n_neurons[k, i] = fit.network.n_neurons
        self.n_late += fit.result.status != "optimal"

    def tell(self, k: int) -> None:
        """A line on the scores of an alpha, if that is wanted; ValueError where they are no numbers."""
        if not np.isfinite(self.scores[k]).all():
            raise ValueError(f"the held-out loss must be finite, got {-self.scores[k]} for the folds.")
        if self.model.verbose:
            mean, error = self.scores[k].mean(), _standard_error(self.scores[k])
            line = (
                f"alpha {self.alphas[k]:.4g}  score {mean:.6g} +- {error:.2g}  neurons {self.n_neurons[k].mean():.1f}"
            )
            print(f"{line}  {perf_counter() - self.start:.1f} s", file=sys.stderr)

    def chosen(self) -> int:
        """The alpha that is chosen, with the attributes that say why, and a warning where time was short."""
        model, n_done = self.model, self.n_done
        best = _choose(self.scores[:n_done], bool(model.one_standard_error))
        blank = self.folds.left is not None and not self.n_neurons[:n_done].any() and n_done > 1
        if blank:
            # Scores that are all those of the constant say nothing.
            best = int(np.argmin(np.abs(np.log(self.alphas[:n_done] / (AUTO_ALPHA * self.alphas[0])))))
        if self.n_late or self.unfinished:
            self.warn(best, blank)
        model.alphas_, model.best_index_, model.n_splits_ = self.alphas, best, len(self.splits)
        model.cv_results_ = _results(self.alphas, self.scores, self.fit_times, self.score_times, self.n_neurons)
        model.best_score_ = float(model.cv_results_["mean_test_score"][best])
        return best

    def warn(self, best: int, blank: bool) -> None:
        """What time there was not for."""
        n_done, n_alphas = self.n_done, len(self.alphas)
        end = "an interrupt" if self.budget.interrupted else f"max_time={self.model.max_time}"
        ended = f"; {end} ended the folds after {n_done} of {n_alphas} alphas"
        if blank:
            ended += ", none of which had the time for a neuron: the one that is chosen is a guess"
        elif best == n_done - 1:
            ended += ", and the one that is chosen is the last of these: smaller ones may be better"
        if self.stride > 1:
            ended = f"; one in {self.stride} of the alphas was tried{ended if n_done < n_alphas else ''}"
        told = self.stride > 1 or blank or (n_done < n_alphas and self.unfinished)
        warnings.warn(
            f"{self.n_late} of {n_done * len(self.splits)} fits in the folds stopped before their tolerance"
            f"{ended if told else ''}.",
            ConvergenceWarning,
            stacklevel=5,
        )

    def last_fit(self, best: int) -> Fit:
        """The last step of a path over all rows: to its own tolerance, with its proof."""
        model, single, budget = self.model, self.single, self.budget
        single.max_time = budget.left
        walk = single._train(self.sample, alphas=lambda _: self.alphas[: best + 1])
        path: list[Fit] = []
        for k in range(best + 1):
            walk.settings = replace(walk.settings, tol=self.tols[k])
            if k == best:
                _set(single, tol=model.tol, certify=model.certify, verbose=model.verbose)
                walk.settings = single._settings(walk.task)
            # Half of the time is for the last step.
            share = None if k == best or budget.left is None else 0.5 * budget.left / (best - k)
            fit, _ = _advance(walk, share)
            if fit is None or (k < best and budget.over):
                break
            path.append(fit)
        if len(path) <= best:
            # Out of time on the way: one more fit from what a fold has found, which keeps at least what it starts from.
            found = self.found if self.found is not None and self.found.n_neurons else None
            _set(single, tol=model.tol, max_time=0.0, init=found)
            single.alpha = float(self.alphas[best])
            path.append(next(single._train(self.sample)))
        model.path_ = path_of(path, self.classes)
        return path[-1]


def _set(single, **settings):
    """Set those parameters that the estimator has."""
    single.set_params(**{name: value for name, value in settings.items() if name in single.get_params()})


def _advance(walk, seconds: float | None) -> tuple[Fit | None, float]:
    """The next fit of a path, which may take so many seconds, None at its end, and the seconds it took."""
    start = perf_counter()
    with Budget(seconds, None if seconds is None else 0.3 * seconds):
        return next(walk, None), perf_counter() - start


def _scored(scorer, single, i: int, X: NDArray, labels: NDArray, sample_weight: NDArray | None) -> float:
    """The score of a fold's test rows; ValueError that names the fold where there is none."""
    takes = sample_weight is not None and "sample_weight" in inspect.signature(scorer).parameters
    try:
        score = scorer(single, X, labels, **(dict(sample_weight=sample_weight) if takes else {}))
        bad = "" if np.isfinite(score) else str(score)
    except (ValueError, UndefinedMetricWarning) as error:
        score, bad = np.nan, str(error)
    if bad:
        lost = np.zeros(0) if single.classes_ is None else np.setdiff1d(single.classes_, labels)
        why = f", which have none of class {lost[0]}" if len(lost) else ""
        hint = "splits with every class in every fold" if len(lost) else "another scorer or larger folds"
        raise ValueError(
            f"scoring must give finite numbers, got {bad!r} for the {len(labels)} test rows of split {i}{why}. Give "
            f"{hint}, or leave scoring out: the mean loss takes any rows."
        )
    return score


def _check_folds(splits, counts, weights, labels, classes):
    """ValueError when a fold cannot be trained on or not be scored."""
    if not splits:
        raise ValueError("cv must give at least one split, got none.")
    for i, ((_, test), count) in enumerate(zip(splits, counts)):
        if not (count @ weights > 0 and weights[test].sum() > 0):
            raise ValueError(f"cv must give training and test rows of positive weight, got none in split {i}.")
        lost = np.zeros(0) if classes is None else np.setdiff1d(classes, labels[count * weights > 0])
        if len(lost):
            raise ValueError(
                f"cv must give training rows of every class, got none of class {lost[0]} in split {i}; give other "
                "splits, or leave out classes with a single sample."
            )


def _standard_error(scores: NDArray) -> float:
    """Standard error of the mean over folds; 0 for one fold."""
    return float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0


def _choose(scores: NDArray, one_standard_error: bool) -> int:
    """Row of the best mean, the first of equal ones; or the first within one standard error of it."""
    means = scores.mean(axis=1)
    best = int(np.argmax(means))
    if one_standard_error:
        best = int(np.argmax(means >= means[best] - _standard_error(scores[best])))
    return best


def _results(alphas, scores, fit_times, score_times, n_neurons) -> dict:
    """``cv_results_``: the keys of GridSearchCV, and two more."""
    results: dict = dict(
        alpha=alphas, param_alpha=np.ma.MaskedArray(alphas, mask=False), params=[dict(alpha=float(a)) for a in alphas]
    )
    for name, values in (("fit_time", fit_times), ("score_time", score_times), ("test_score", scores)):
        if name == "test_score":
            results |= {f"split{i}_test_score": column.copy() for i, column in enumerate(values.T)}
        results |= {f"mean_{name}": values.mean(axis=1), f"std_{name}": values.std(axis=1)}
    means = results["mean_test_score"]
    # As in GridSearchCV, what has no score comes last.
    ranked = np.where(np.isnan(means), np.nanmin(means) - 1, means)
    results["rank_test_score"] = rankdata(-ranked, method="min").astype(np.int32)
    results["mean_n_neurons"] = n_neurons.mean(axis=1)
    return results
