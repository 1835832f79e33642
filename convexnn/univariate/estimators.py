"""scikit-learn estimators for one feature: ReLUSplineRegressor, its path and its cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from convexnn.arrangements import patterns_of
from convexnn.budget import Budget, current
from convexnn.engine import AUTO_ALPHA, Training
from convexnn.estimators.base import TwoLayerNetwork
from convexnn.estimators.cross_validation import cross_validate
from convexnn.estimators.path import Path, check_alphas, fit_path
from convexnn.fits import Fit, Sample
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.program.result import STATUSES, Result
from convexnn.program.task import Task, check_weights
from convexnn.program.units import Units
from convexnn.proofs.certificate import EVIDENCE, Certificate, Enumeration
from convexnn.proofs.graded import Graded
from convexnn.proofs.prove import proved, settled
from convexnn.univariate.splines import Line, Spline, fit_spline, highest_price

#: Losses with a Lipschitz gradient and real targets.
SPLINE_LOSSES = ("squared", "huber")
#: Larger than any alpha_max, and 0 times it is 0.
NO_KNOTS = 1e300
#: Why a network can be worse than the spline that it stands for.
FAR = "the weights round the best spline off; X and y should not be far from zero for their range: subtract their means"
#: Prices no larger than this share of the largest that theta could have are zero.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Ramps(Enumeration):
    """Evidence by the prices of the ramps at all data points: with one feature and free biases there are no others.

    Between two points the price of a ramp is linear in its knot, and the ramps at the ends are lines, which a skip
    connection has for nothing. Attributes as in Enumeration.
    """

    def concerns(self, task: Task) -> None:
        """ValueError unless the evidence is about the neurons of a task."""
        super().concerns(task)
        if task.X.shape[1] != 1 or task.skip is None or not task.fit_intercept:
            raise ValueError("evidence by ramps must be about one feature with a skip connection and an intercept.")

    def check(self, graded: Graded, t: NDArray) -> float:
        """The largest price, max_j sum_i t_i (x_i - x_j)_+ in either direction, from the data alone, rounded upwards.

        A ramp at an end is linear on the data, and its price zero.

        Parameters
        ----------
        graded : Graded
            The training problem.
        t : array of shape (n_samples,)
            Signed dual variable, in the units of ``graded``, orthogonal to the feature and to a constant.

        Returns
        -------
        price : float
        """
        x = graded.normal.task.rows[:, 0]
        order = np.argsort(x, kind="stable")
        return highest_price(x[order], t[order])


EVIDENCE.append(Ramps)


class SplineTraining(Training):
    """The splines of a training problem, one for each of a decreasing sequence of alphas."""

    def __next__(self) -> Fit:
        fit, progress = next(self.fits)
        if progress is not None:
            progress.close(fit)
        return fit

    def _fits(self) -> Generator[tuple[Fit, Any]]:
        clock = perf_counter()
        task = self.task
        order = np.argsort(task.rows[:, 0], kind="stable")
        line = Line(task.rows[order, 0], task.y[order], task.sample_weight[order], task.loss)
        spline: Spline = fit_spline(line, NO_KNOTS)
        units = Units.of(task.merged[0])
        alpha_max = float(np.abs(line.prices(spline.theta)).max())
        # Where the best line is the best function of x, prices are rounding.
        if alpha_max <= ROUNDING * np.abs(spline.theta).sum() * np.ptp(line.x):
            alpha_max = 0.0
        for alpha in self._alphas(alpha_max, lambda: _even_alpha_max(line)):
            settings = self.settings
            progress = None if settings.watch is None else settings.watch(1.0)
            left = None if settings.max_time is None else max(settings.max_time - (perf_counter() - clock), 0.0)
            # In cross-validation each alpha has a part of the time.
            left = min((part for part in (left, current().left) if part is not None), default=None)
            limits: dict[str, Any] = dict(tol=settings.tol, max_iter=settings.max_iter, max_time=left)
            spline = fit_spline(line, alpha, **limits, start=spline, callback=progress)
            network = _network(line, spline)
            theta = np.empty_like(spline.theta)
            theta[order] = spline.theta
            # A few passes over the data.
            with Budget.without_limit(), np.errstate(all="ignore"):
                certificate = _certificate(Graded.of(network, task, alpha, units), theta)
            status, message = spline.status, STATUSES[spline.status]
            if spline.primal == 0:
                message = "y is a line but for rounding"
            elif status == "optimal" and certificate.relative_gap > settings.tol * (1 + 1e-6):
                status, message = "stalled", FAR
            size = np.abs(network.hidden_weights * network.output_weights[:, None])
            unit = np.column_stack([np.sign(network.hidden_weights), network.hidden_biases])
            unit[:, 1] /= np.abs(network.hidden_weights[:, 0])
            result = Result(
                size * unit,
                task.X @ network.skip_weights + network.output_bias,
                theta,
                spline.primal,
                spline.dual,
                status,
                message,
                spline.n_iter,
                spline.history,
            )
            arrangement = patterns_of(network, task.X, hidden_bias="free")
            fit = Fit(alpha, alpha_max, network, result, certificate, arrangement)
            yield fit, progress
            late = settings.max_time is not None and perf_counter() - clock >= settings.max_time
            if late or result.status == "interrupted":
                return

    def _alphas(self, alpha_max: float, even: Callable[[], float]) -> Iterator[float]:
        """The alphas of the fits; a share of ``even`` where none is given, which has the units of alpha already."""
        if self.alphas is None and self.settings.alpha is None:
            yield float(f"{AUTO_ALPHA * even():.10g}") or 1.0
        else:
            yield from super()._alphas(alpha_max, even)


class ReLUSplineRegressor(RegressorMixin, TwoLayerNetwork):
    r"""Two-layer ReLU network of one feature, exactly: the linear spline with the least total variation of its slope.

    Minimises sum_i s_i l(y_i, f(x_i)) + alpha TV(f'), which is what ConvexReLURegressor minimises with
    ``hidden_bias="free"`` and ``skip_connection=True``: a neuron costs its change of slope. Every knot is at a data
    point, there are at most n_samples - 2 of them, and the certificate is global. 10,000 samples take some hundredths
    of a second.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Price of a unit change of slope (of y for x) on a *sum* of losses: the weight decay. "auto" is that of
        ConvexReLURegressor, 0.01 of the smallest alpha for which a network without skip connection has no neuron.
    loss : {"squared", "huber"} or loss object, default="squared"
        ``convexnn.losses.Huber(delta=0.5)`` sets a parameter.
    tol : float, default=1e-6
        Relative duality gap at which the solver stops.
    max_iter : int, default=20000
        Limit on the Newton steps.
    max_time : float, optional
        Limit in seconds; the best spline so far is kept, with its gap.
    verbose : int, default=0
        Progress on standard error. scikit-learn's callbacks get it too, as in ConvexReLURegressor.

    Attributes
    ----------
    network_ : Network
        The spline as a network with skip connection: knots left of the median face left, the others right.
    knots_ : array of shape (n_knots,)
        Where the slope changes, ascending.
    slope_changes_ : array of shape (n_knots,)
        By how much.
    certificate_ : Certificate
        Objective of ``network_``, lower bound, gap and scope ("global").
    result_ : Result
        The solver's account; ``coef`` has a row |change of slope| * (w, b) with w = 1 or -1 for each neuron.
    alpha_, alpha_max_ : float
        Weight decay used; smallest weight decay for which the best spline is a line.
    arrangement_, coefs_, intercepts_, n_iter_, history_
        As in ConvexReLURegressor.

    See Also
    --------
    spline_path : splines for many alphas.
    ReLUSplineRegressorCV : alpha by cross-validation.
    convexnn.univariate.fit_narrow : other activations, and deep narrow networks.
    second_order_tv : TV(f') from a network, and what it is for many features.

    References
    ----------
    .. [1] P. Savarese, I. Evron, D. Soudry, N. Srebro, How do infinite width bounded norm networks look in function
       space?, COLT 2019, theorem 3.3.
    .. [2] S.-J. Kim, K. Koh, S. Boyd, D. Gorinevsky, l1 trend filtering, SIAM Review 51 (2009), section 4.
    .. [3] E. Mammen, S. van de Geer, Locally adaptive regression splines, Annals of Statistics 25 (1997).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 201)[:, None]
    >>> model = ReLUSplineRegressor(alpha=1e-3).fit(X, np.abs(X[:, 0]))
    >>> model.knots_
    array([0.])
    >>> model.certificate_.scope
    'global'
    """

    # What ConvexReLURegressor leaves open is settled here.
    activation = "relu"
    patterns = "adaptive"
    n_patterns = 1
    solver = "auto"
    fit_intercept = True
    hidden_bias = "free"
    skip_connection = True
    feature_penalty = 0.0
    warm_start = False
    init = None
    certify = False
    random_state = 0

    def __init__(self, alpha="auto", *, loss="squared", tol=1e-6, max_iter=20_000, max_time=None, verbose=0):
        self.alpha = alpha
        self.loss = loss
        self.tol = tol
        self.max_iter = max_iter
        self.max_time = max_time
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Find the spline.

        Parameters
        ----------
        X : array of shape (n_samples, 1)
            The feature. Equal values are taken together.
        y : array of shape (n_samples,)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses.

        Returns
        -------
        self : ReLUSplineRegressor

        Raises
        ------
        ValueError
            For unusable data or parameters, and for more than one feature.
        """
        return self._keep(self._fit(X, y, sample_weight))

    def predict(self, X):
        """Predicted targets.

        Parameters
        ----------
        X : array of shape (n_samples, 1)
            The feature.

        Returns
        -------
        y : array of shape (n_samples,)
        """
        return self._scores(X)

    def _coded(self, X, y, sample_weight):
        """Checked data: X, y, the loss and the weights."""
        name = self.loss if isinstance(self.loss, str) else getattr(self.loss, "name", None)
        if name not in SPLINE_LOSSES:
            raise ValueError(
                f"loss must be one of {SPLINE_LOSSES} or an instance of those, got {self.loss!r}; "
                "ConvexReLURegressor(hidden_bias='free', skip_connection=True) takes others."
            )
        self._check_parameters(set(SPLINE_LOSSES))
        X, y = self._checked(X, y, y_numeric=True)
        if X.shape[1] != 1:
            raise ValueError(
                f"X must have exactly one feature, got {X.shape[1]}; ConvexReLURegressor(hidden_bias='free', "
                "skip_connection=True) is the same network for many."
            )
        y = column_or_1d(y, warn=True).astype(float)
        return Sample(X, y, get_loss(self.loss), check_weights(sample_weight, len(y)))

    def _train(self, sample: Sample, *, alphas: Callable[[float], Sequence[float]] | None = None) -> Training:
        """A fit for the estimator's alpha, or for each of a decreasing sequence, a function of alpha_max."""
        task = self._task_of(sample)
        return SplineTraining(sample, task, self._settings(task), alphas)

    def _attributes(self, fit):
        weights, changes = fit.network.hidden_weights[:, 0], np.abs(fit.network.hidden_weights[:, 0])
        knots = -fit.network.hidden_biases / weights
        order = np.argsort(knots)
        changes = (changes * fit.network.output_weights)[order]
        return super()._attributes(fit) | dict(knots_=knots[order], slope_changes_=changes)


class ReLUSplineRegressorCV(ReLUSplineRegressor):
    r"""ReLUSplineRegressor with alpha chosen by cross-validation.

    As in ConvexReLURegressorCV: every fold walks down the alphas and trains with alpha times its share of the sample
    weights; the spline of the best alpha is then found on all data.

    Parameters
    ----------
    alphas : int or array of shape (n_alphas,), default=50
        Weight decays for all data, or their number: a geometric sequence from alpha_max, where the spline is a line,
        down to ``eps * alpha_max``, which is left once 4 alphas in a row have scored worse than the best. A given array
        is scored to its end.
    eps : float, default=1e-6
        The last of that sequence in units of alpha_max.
    cv, scoring, n_jobs, one_standard_error
        As in ConvexReLURegressorCV. The default folds are unshuffled: for rows sorted by x, whose outer folds could
        only be extrapolated, give ``KFold(5, shuffle=True, random_state=0)``.
    loss, max_iter, max_time, verbose
        As in ReLUSplineRegressor.
    tol : float, default=1e-6
        Relative duality gap of the last fit; those before it are rough, as in ConvexReLURegressorCV.

    Attributes
    ----------
    alpha_, alphas_, best_index_, best_score_, cv_results_, n_splits_, path_
        As in ConvexReLURegressorCV.
    network_, knots_, slope_changes_, certificate_, result_, alpha_max_, arrangement_, coefs_, intercepts_, n_iter_
        Of the last fit; see ReLUSplineRegressor.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (200, 1))
    >>> y = np.abs(X[:, 0]) + 0.1 * rng.standard_normal(200)
    >>> model = ReLUSplineRegressorCV().fit(X, y)
    >>> bool(model.score(X, y) > 0.8)
    True
    """

    def __init__(
        self,
        alphas=50,
        *,
        eps=1e-6,
        cv=None,
        scoring=None,
        n_jobs=None,
        one_standard_error=False,
        loss="squared",
        tol=1e-6,
        max_iter=20_000,
        max_time=None,
        verbose=0,
    ):
        super().__init__(loss=loss, tol=tol, max_iter=max_iter, max_time=max_time, verbose=verbose)
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.one_standard_error = one_standard_error

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose alpha and find the spline.

        Parameters
        ----------
        X : array of shape (n_samples, 1)
            The feature.
        y : array of shape (n_samples,)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses, in training and in the scores.
        groups : array of shape (n_samples,), optional
            For splitters such as ``GroupKFold``.

        Returns
        -------
        self : ReLUSplineRegressorCV

        Raises
        ------
        ValueError
            For unusable data or parameters, and for more than one feature.
        """
        sample = self._coded(X, y, sample_weight)
        return cross_validate(self, ReLUSplineRegressor(1.0), sample, sample.y, sample_weight is not None, groups)


def spline_path(
    X: ArrayLike,
    y: ArrayLike,
    *,
    alphas: int | ArrayLike = 30,
    eps: float = 1e-6,
    loss: Any = "squared",
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-6,
    **options,
) -> Path:
    """Splines of one feature for a decreasing sequence of weight decays, each fit started from the one before.

    Parameters
    ----------
    X : array of shape (n_samples, 1)
        The feature.
    y : array of shape (n_samples,)
        Targets.
    alphas : int or array of shape (n_alphas,), default=30
        Weight decays, or their number: a geometric sequence from alpha_max, where the spline is a line, down to
        ``eps * alpha_max``.
    eps : float, default=1e-6
        The last of that sequence in units of alpha_max.
    loss, sample_weight, tol
        As in ReLUSplineRegressor.
    **options
        max_iter, max_time and verbose of ReLUSplineRegressor.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        For unusable data or parameters.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 201)[:, None]
    >>> spline_path(X, np.abs(X[:, 0]), alphas=4, eps=1e-3).n_neurons
    array([0, 1, 1, 1])
    """
    return fit_path(ReLUSplineRegressor(loss=loss, tol=tol, **options), X, y, check_alphas(alphas, eps), sample_weight)


def _network(line: Line, spline: Spline) -> Network:
    """The spline as a balanced network; knots face away from the middle point, which keeps sums of ramps short."""
    x, knots = line.points, spline.knots
    middle = len(x) // 2
    facing = np.where(knots < middle, -1.0, 1.0)
    root = np.sqrt(np.abs(spline.jumps))
    piece = int(np.searchsorted(knots, middle))
    a, slope = np.concatenate([[0], knots])[piece], spline.slopes[piece]
    return Network(
        (facing * root)[:, None],
        -facing * root * x[knots],
        np.sign(spline.jumps) * root,
        float(spline.values[a] - slope * x[a]),
        skip_weights=np.array([slope]),
        hidden_bias="free",
    )


def _certificate(graded: Graded, theta: NDArray) -> Certificate:
    """The grade of a network against all others, from the prices of all ramps."""
    blank = Ramps(graded.task.neuron.activation, "free", np.nan)

    def evidence(theta):
        return tuple((0, sign, replace(blank, bound=blank.check(graded, sign * theta))) for sign in (1, -1))

    proof = settled(graded, theta / graded.units.theta, evidence)
    return proved(graded, *proof, "the prices of the ramps at all data points")


def _even_alpha_max(line: Line) -> float:
    """The smallest alpha for which a network without skip connection has no neuron: ramps in both directions."""
    theta = fit_spline(replace(line, x=np.zeros_like(line.x)), NO_KNOTS).theta
    right = line.prices(theta)
    left = right - theta @ (line.x - line.x[0]) + (line.points - line.x[0]) * theta.sum()
    return float(max(np.abs(right).max(), np.abs(left).max()))
