"""scikit-learn estimators: ConvexReLURegressor and ConvexReLUClassifier."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from convexnn.estimators.base import TwoLayerNetwork
from convexnn.fits import Sample
from convexnn.losses import LOSSES, get_loss
from convexnn.program.task import check_weights


class ConvexReLURegressor(RegressorMixin, TwoLayerNetwork):
    r"""Two-layer ReLU network for regression, trained to the optimum of its convex program.

    Minimises sum_i s_i l(y_i, f(x_i)) + alpha / 2 * (squared norm of the weights), over networks whose neurons have
    the listed activation patterns. Standardise the features first.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Weight decay on a *sum* of losses: ``MLPRegressor(alpha=a)`` on full batches has a = alpha (on mini-batches of B
        of n rows, its default, a = alpha B / n). "auto" takes 0.01 of ``alpha_max_``, which does not change with the
        units of y, nor of X as a whole (without hidden bias), nor with repeated data.
    loss : {"squared", "huber", "absolute", "quantile"} or loss object, default="squared"
        ``convexnn.losses.Huber(delta=0.5)`` sets a parameter. "absolute" and "quantile" need solver="cvxpy".
    activation : {"relu", "leaky_relu", "absolute", "gated_relu"} or activation object, default="relu"
        "leaky_relu" has the slope 0.01 below zero, "absolute" is |z|; ``convexnn.neurons.activations.LeakyReLU(0.2)``
        sets the slope. "gated_relu" fixes the gates and drops the cone constraints: a faster relaxation, not a ReLU
        network.
    patterns : {"auto", "adaptive", "exact", "sampled"} or Arrangement, default="auto"
        "adaptive" (not for gates) searches all activation patterns for those that matter and stops when a thorough
        search finds no better neuron; ``alpha_max_`` is then the largest price found. "exact" lists every pattern of
        the data (few samples, few features), "sampled" draws ``n_patterns`` random gates. "auto" is exact if there are
        at most ``n_patterns`` patterns, else adaptive with the solver "newton", and sampled for gated ReLU and the
        other solvers, which are too slow for many programs in a row.
    n_patterns : int, default=1000
        Number of gates to draw, and up to which "auto" lists all patterns.
    solver : {"auto", "newton", "fista", "cvxpy"}, default="auto"
        "auto" is "newton" for smooth losses, "cvxpy" for the others.
    fit_intercept : bool, default=True
        Unpenalised output bias.
    hidden_bias : {"penalized", "free", "none"}, default="penalized"
        Whether neurons have a bias, and whether it counts in the weight decay. "free" is for ReLU with an intercept;
        shifting the features does not change its optimum.
    skip_connection : bool, default=False
        Add an unpenalised linear term to the network: neurons then explain only what a linear model does not.
        alpha="auto" stays what it is without it.
    feature_penalty : float or array of shape (n_features,), default=0.0
        mu, for networks that leave features out: alpha multiplies |(w, b)| + sum_i mu_i |w_i| in place of |(w, b)| for
        each neuron, and features whose weights do not pay for that get none (0.3 to 3 leaves out more and more). 0 for
        a feature exempts it. Not with hidden_bias="free"; with patterns="sampled" few gates suit sparse neurons.
    tol : float, default=1e-4
        Relative duality gap at which the solver stops.
    max_iter : int, default=20000
        Iteration limit of the solver.
    max_time : float, optional
        Limit in seconds; the best network so far is kept, with its gap. At first that is the one without neurons.
    warm_start : bool, default=False
        Start from the network of the previous fit, whose patterns join the list.
    init : Network, fitted estimator or other model, optional
        Start from this network: ours, one hidden ReLU layer of ``MLPRegressor`` or ``MLPClassifier``, or whatever else
        ``network_from`` takes. Its patterns join the list; "adaptive" starts from its neurons instead of a local
        descent.
    certify : {"auto", True, False}, default="auto"
        Whether to prove a lower bound over all networks of any width, which ``certificate_`` then holds: True takes
        what is left of ``max_time`` (two fifths of it are kept free; a minute without limit); "auto" takes a second or
        so, after a search over all patterns, where that may be enough (up to 5 features with a hidden bias, or few
        patterns). Complete lists of patterns are a proof in any case.
    random_state : int, RandomState or None
        Seed of the sampled patterns, or of the search's random starts. With an int the same data give bitwise the same
        weights on one machine with the same number of BLAS threads; None takes a new seed from NumPy's global generator
        for every fit.
    verbose : int, default=0
        Progress on standard error. scikit-learn's callbacks (1.9 or later) get it too: ``set_callbacks`` makes a task
        of the fit, with a subtask for each entry of ``history_``, which they read from the estimator; the fit stops as
        with Ctrl-C, with what it has, when one returns True. Only the whole fit comes with a ``fitted_estimator``.

    Attributes
    ----------
    network_ : Network
        The weights.
    certificate_ : Certificate
        Objective of ``network_``, lower bound, gap and scope.
    result_ : Result
        Solution of the convex program, with the solver's history.
    arrangement_ : Arrangement
        The listed patterns of the samples with positive weight.
    alpha_, alpha_max_ : float
        Weight decay used; smallest weight decay for which the network has no neuron (over the listed patterns).
    coefs_, intercepts_ : lists of arrays
        As in ``MLPRegressor``; the weights of a skip connection are in ``network_.skip_weights``.
    feature_importances_ : array of shape (n_features,)
        How steeply predictions may depend on each feature, as shares; exactly 0 for features that are not used.
    n_iter_ : int
        Iterations.
    history_ : list of dict
        ``iteration``, ``seconds``, ``objective``, ``relative_gap`` (inf before the first bound) and ``blocks``, the
        number of non-zero blocks, at each evaluation of the gap, in Python's own numbers.

    Notes
    -----
    Networks are trained in double precision, whatever the precision of X. As in ``MLPRegressor`` predictions are in
    single precision if the training data and the X to predict for both are.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 21)[:, None]
    >>> model = ConvexReLURegressor(alpha=0.01, patterns="exact").fit(X, np.abs(X[:, 0]))
    >>> model.certificate_.scope
    'global'
    >>> bool(model.score(X, np.abs(X[:, 0])) > 0.99)
    True
    """

    def __init__(
        self,
        alpha="auto",
        *,
        loss="squared",
        activation="relu",
        patterns="auto",
        n_patterns=1000,
        solver="auto",
        fit_intercept=True,
        hidden_bias="penalized",
        skip_connection=False,
        feature_penalty=0.0,
        tol=1e-4,
        max_iter=20_000,
        max_time=None,
        warm_start=False,
        init=None,
        certify="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            alpha,
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
            warm_start=warm_start,
            init=init,
            certify=certify,
            random_state=random_state,
            verbose=verbose,
        )

    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features, standardised for a penalty that treats them alike.
        y : array of shape (n_samples,)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses.

        Returns
        -------
        self : ConvexReLURegressor

        Raises
        ------
        ValueError
            For unusable data or parameters.
        """
        return self._keep(self._fit(X, y, sample_weight))

    def _coded(self, X, y, sample_weight):
        """Checked data in the loss's coding: X, y, the loss and the weights."""
        self._check_parameters({name for name, loss in LOSSES.items() if loss.target == "real"})
        X, y = self._checked(X, y, y_numeric=True)
        y = column_or_1d(y, warn=True).astype(float)
        return Sample(X, y, get_loss(self.loss), check_weights(sample_weight, len(y)))

    def predict(self, X):
        """Predicted targets.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : array of shape (n_samples,)
        """
        return self._scores(X)


class ConvexReLUClassifier(ClassifierMixin, TwoLayerNetwork):
    r"""Two-layer ReLU network for classification, trained to the optimum of its convex program.

    Two classes are told apart by the sign of one output; more by a softmax over one output a class, where every hidden
    neuron feeds one class.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Weight decay on a *sum* of losses; "auto" takes 0.01 of ``alpha_max_``.
    loss : {"log_loss", "squared_hinge", "hinge"} or loss object, default="log_loss"
        The hinge losses are for two classes; "hinge" needs solver="cvxpy".
    activation, patterns, n_patterns, solver, fit_intercept, hidden_bias, skip_connection, feature_penalty
        As in ConvexReLURegressor.
    tol, max_iter, max_time, warm_start, init, certify, random_state, verbose
        As in ConvexReLURegressor.
    class_weight : dict, "balanced" or None
        Factors of the losses by class, finite and >= 0, 1 for classes that are not in it; "balanced" makes the classes
        equally heavy.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels.
    network_, certificate_, result_, arrangement_, alpha_, alpha_max_, coefs_, intercepts_, feature_importances_
        As in ConvexReLURegressor.
    n_iter_, history_
        As in ConvexReLURegressor, and so is the precision of decision functions and probabilities.

    Examples
    --------
    >>> X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> model = ConvexReLUClassifier(alpha=0.1, patterns="exact").fit(X, ["even", "odd", "odd", "even"])
    >>> model.predict(X).tolist()
    ['even', 'odd', 'odd', 'even']
    """

    def __init__(
        self,
        alpha="auto",
        *,
        loss="log_loss",
        activation="relu",
        patterns="auto",
        n_patterns=1000,
        solver="auto",
        fit_intercept=True,
        hidden_bias="penalized",
        skip_connection=False,
        feature_penalty=0.0,
        tol=1e-4,
        max_iter=20_000,
        max_time=None,
        warm_start=False,
        init=None,
        certify="auto",
        random_state=None,
        verbose=0,
        class_weight=None,
    ):
        super().__init__(
            alpha,
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
            warm_start=warm_start,
            init=init,
            certify=certify,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features, standardised for a penalty that treats them alike.
        y : array of shape (n_samples,)
            Class labels.
        sample_weight : array of shape (n_samples,), optional
            Non-negative factors of the losses.

        Returns
        -------
        self : ConvexReLUClassifier

        Raises
        ------
        ValueError
            For unusable data or parameters, or when fewer than two classes have positive weight.
        """
        return self._keep(self._fit(X, y, sample_weight))

    def _coded(self, X, y, sample_weight):
        """Checked data in the loss's coding: X, y, the loss, the weights of samples and classes, and the outputs."""
        self._check_parameters({name for name, loss in LOSSES.items() if loss.target != "real"})
        X, y = self._checked(X, y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        weights = check_weights(sample_weight, len(y))
        self.classes_, code = np.unique(y, return_inverse=True)
        class_weight = check_class_weight(self.class_weight, self.classes_, y)
        n_classes = len(self.classes_)
        heavy = len(np.unique(code[weights * class_weight > 0]))
        if heavy < 2 or heavy < n_classes:
            raise ValueError(
                f"y must have at least two classes, and samples of positive weight in each, got {heavy} class"
                f"{'' if heavy == 1 else 'es'} with positive weight of {n_classes}."
            )
        n_outputs = n_classes if n_classes > 2 else 1
        loss = get_loss(self.loss, n_outputs)
        if n_classes > 2 and loss.target != "classes":
            raise ValueError(
                f"loss={loss.name!r} is for two classes, got {n_classes}; use loss='log_loss', or wrap the estimator "
                "in sklearn.multiclass.OneVsRestClassifier."
            )
        if n_classes == 2 and loss.target == "classes":
            loss = get_loss("log_loss")
        target = code if n_outputs > 1 else 2.0 * code - 1.0
        return Sample(X, target, loss, weights, class_weight, n_outputs)

    def decision_function(self, X):
        """Scores before the link function.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.

        Returns
        -------
        scores : array of shape (n_samples,), positive for ``classes_[1]``, or (n_samples, n_classes)
        """
        return self._scores(X)

    def predict(self, X):
        """Predicted class labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : array of shape (n_samples,)
        """
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]

    @available_if(lambda self: getattr(self.loss, "name", self.loss) in ("log_loss", "multinomial_log_loss"))
    def predict_proba(self, X):
        """Class probabilities, for the log loss only.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
        """
        scores = self._scores(X)
        return softmax(scores, axis=1) if scores.ndim > 1 else np.column_stack([expit(-scores), expit(scores)])

    @available_if(lambda self: getattr(self.loss, "name", self.loss) in ("log_loss", "multinomial_log_loss"))
    def predict_log_proba(self, X):
        """Logarithm of the class probabilities.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.

        Returns
        -------
        log_probabilities : array of shape (n_samples, n_classes)
        """
        scores = self._scores(X)
        return log_softmax(scores, axis=1) if scores.ndim > 1 else log_expit(np.column_stack([-scores, scores]))


def check_class_weight(class_weight, classes, y):
    """The factor of each sample by its class, or a ValueError that says what is wrong.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        As in ConvexReLUClassifier.
    classes : array of shape (n_classes,)
        Distinct labels.
    y : array of shape (n_samples,)
        The label of each sample.

    Returns
    -------
    factors : array of shape (n_samples,)
    """
    if not isinstance(class_weight, Mapping):
        if class_weight is not None and not (isinstance(class_weight, str) and class_weight == "balanced"):
            raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {class_weight!r}.")
        return compute_sample_weight(class_weight, y)
    labels = classes.tolist()
    unknown = [key for key in class_weight if key not in labels]
    if unknown:
        raise ValueError(f"class_weight must have classes of y as keys, some of {labels[:10]}, got {unknown[:5]}.")
    factors = np.ones(len(labels))
    for key, value in class_weight.items():
        if not (isinstance(value, Real) and 0 <= float(value) < np.inf):
            raise ValueError(f"class_weight must be finite numbers >= 0, got {value!r} for class {key!r}.")
        factors[labels.index(key)] = value
    return factors[np.searchsorted(classes, y)]
