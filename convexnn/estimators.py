"""scikit-learn estimators: ConvexReLURegressor and ConvexReLUClassifier.

A fit makes four things in this order: an arrangement (which activation patterns), a problem (the convex program over
them), a result (its solution) and a network (the ReLU weights), and then grades the network with a certificate.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from numbers import Integral, Real
from time import perf_counter

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from convexnn.activations import ACTIVATIONS, find_patterns, lift, lift_feature_penalty
from convexnn.adaptive import blocks_of, search_alpha_max, solve_adaptively
from convexnn.arrangements import Arrangement, count_patterns, enumerate_patterns, patterns_of, sample_patterns
from convexnn.audit import network_from
from convexnn.certificate import bare_problem, certify_listed, is_quick, prove, proved
from convexnn.losses import LOSSES, get_loss
from convexnn.solvers import SOLVERS

#: certify="auto" looks at this many cones for each output and sign: a second or so.
AUTO_CONES = 5_000
#: alpha="auto" is this share of alpha_max; docs/alpha.md has the table of test errors it was chosen by.
AUTO_ALPHA = 0.01


class _TwoLayerNetwork(BaseEstimator):
    """Parameters and the fit that regressor and classifier share."""

    def __init__(
        self,
        alpha="auto",
        *,
        loss,
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
        self.alpha = alpha
        self.loss = loss
        self.activation = activation
        self.patterns = patterns
        self.n_patterns = n_patterns
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.skip_connection = skip_connection
        self.feature_penalty = feature_penalty
        self.tol = tol
        self.max_iter = max_iter
        self.max_time = max_time
        self.warm_start = warm_start
        self.init = init
        self.certify = certify
        self.random_state = random_state
        self.verbose = verbose

    def _fit_network(self, X, y, loss, sample_weight, class_weight=1.0, n_outputs=1):
        """Everything after the targets are coded: patterns, program, solution, network, certificate."""
        start = perf_counter()
        weights = sample_weight * class_weight
        keep = weights > 0
        rows, y, weights, sample_weight = X[keep], loss.check_target(y)[keep], weights[keep], sample_weight[keep]
        lifted = np.column_stack([rows, np.ones(len(rows))]) if self.hidden_bias != "none" else rows
        feature_penalty = lift_feature_penalty(self.feature_penalty, rows.shape[1], self.hidden_bias)
        adaptive = self.patterns == "adaptive"
        if self.patterns == "auto" and self.activation == "relu" and self._solver_name(loss) == "newton":
            adaptive = count_patterns(len(lifted), np.linalg.matrix_rank(lifted)) > self.n_patterns
        if adaptive:
            data = (rows, lifted, y, loss, weights, sample_weight, n_outputs)
            return self._fit_adaptively(*data, start, feature_penalty)
        arrangement = self._arrangement(X, lifted, keep)
        activation = ACTIVATIONS[self.activation]()
        previous = self._previous_network(n_outputs, rows)
        if previous is not None:
            found = find_patterns(previous, lifted, arrangement.patterns.T, self.hidden_bias)
            if np.any(found < 0):
                unlisted = previous.select(found < 0)
                arrangement = arrangement.union(patterns_of(unlisted, rows, hidden_bias=self.hidden_bias))
        skip = rows if self.skip_connection else None
        fixed = (self.fit_intercept, n_outputs, skip, self.hidden_bias, feature_penalty)
        problem = lift(activation, lifted, y, arrangement, loss, 1.0, weights, *fixed)
        alpha_max = problem.alpha_max
        even = replace(problem, sample_weight=sample_weight, skip=None).alpha_max if self.alpha == "auto" else 0.0
        problem = replace(problem, alpha=self._alpha(even, weights, sample_weight))
        coef_init = None if previous is None else activation.coef(previous, problem, self.hidden_bias)
        solver, progress = self._solver(loss, start)
        result = replace(solver, callback=progress).solve(problem, coef_init)
        if progress is not None:
            progress.close()
        network = activation.network(problem, result.coef, result.intercept, arrangement, self.hidden_bias)
        self.network_ = network.merge().prune(rows)
        self.arrangement_ = arrangement
        certificate = certify_listed(self.network_, rows, problem, result.theta, arrangement.complete, self.hidden_bias)
        certificate = self._prove(certificate, rows, y, weights, result.coef, start)
        return self._finish(problem, result, certificate, alpha_max)

    def _fit_adaptively(self, rows, lifted, y, loss, weights, sample_weight, n_outputs, start, feature_penalty):
        """The same over all patterns: cells are listed as a search finds them."""
        if self.activation != "relu":
            raise ValueError(
                "patterns='adaptive' needs activation='relu', got 'gated_relu': gates have no best direction."
            )
        previous = self._previous_network(n_outputs, rows)
        # Equal rows become one and rows are sorted, so that neither repetitions nor the order of rows change the fit.
        _, first, group = np.unique(np.column_stack([lifted, y]), axis=0, return_index=True, return_inverse=True)
        group = group.ravel()
        rows, lifted, y = rows[first], lifted[first], y[first]
        each, share = weights, weights / np.bincount(group, weights)[group]
        weights, sample_weight = np.bincount(group, weights), np.bincount(group, sample_weight)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        skip = rows if self.skip_connection else None
        common = (self.fit_intercept, n_outputs, rng)
        even = 0.0
        if self.alpha == "auto":
            kind = (None, self.hidden_bias, feature_penalty)
            even = search_alpha_max(lifted, y, loss, sample_weight, *common, *kind)
        alpha = self._alpha(even, weights, sample_weight)
        blocks = None if previous is None else blocks_of(previous, lifted, self.hidden_bias)
        solver, progress = self._solver(loss, start)
        data = (lifted, y, loss, alpha, weights, self.fit_intercept, n_outputs)
        kind = (skip, self.hidden_bias, feature_penalty)
        problem, result, found = solve_adaptively(*data, solver, blocks, rng, progress, *kind)
        if progress is not None:
            progress.close()
        network = ACTIVATIONS["relu"]().network(problem, result.coef, result.intercept, None, self.hidden_bias)
        self.network_ = network.merge().prune(rows)
        certificate = certify_listed(self.network_, rows, problem, result.theta, False, self.hidden_bias)
        self.arrangement_ = patterns_of(self.network_, rows[group], hidden_bias=self.hidden_bias)
        share = share.reshape((-1,) + (1,) * (result.theta.ndim - 1))
        result = replace(result, theta=share * result.theta[group])
        theta = share * certificate.theta[group]
        certificate = replace(certificate, theta=theta, n_searched=found.n_starts, price_found=found.price)
        certificate = self._prove(certificate, rows[group], y[group], each, result.coef, start)
        return self._finish(problem, result, certificate, found.alpha_max)

    def _prove(self, certificate, rows, y, weights, coef, start):
        """The certificate with a bound over all networks instead, when that is wanted and there is time for it."""
        if self.certify is False or certificate.scope == "global":
            return certificate
        if self.activation != "relu":
            if self.certify is True:
                raise ValueError(
                    "certify=True needs activation='relu' or patterns='exact', got 'gated_relu' with listed patterns."
                )
            return certificate
        settings = (certificate.alpha, certificate.loss, weights, self.fit_intercept, self.hidden_bias)
        rows, lifted, problem = bare_problem(self.network_, rows, y, *settings)
        spent = perf_counter() - start
        left = 60.0 if self.max_time is None else self.max_time - spent
        # A number of cones, unlike a time, gives the same bound on every machine.
        max_cones = AUTO_CONES if self.certify == "auto" else None
        if left <= 0 or (self.certify == "auto" and not (certificate.n_searched and is_quick(lifted))):
            return certificate
        known = None if self.hidden_bias == "free" else coef[coef.any(axis=1)]
        proof = prove(problem, certificate.theta, self.hidden_bias, max_time=left, max_cones=max_cones, known=known)
        searched = certificate.n_searched, certificate.price_found
        found = proved(self.network_, rows, problem, *proof, self.hidden_bias, *searched)
        return found if found.scope == "global" else certificate

    def _alpha(self, even, weights, sample_weight):
        """The weight decay, "auto" from the alpha_max without class weights.

        It is that of the network without skip connection: what noise there is does not depend on the linear term.
        Class weights enter by their mean only: the alpha_max of a lopsided weighting says nothing about noise. Ten
        digits keep the rounding errors of alpha_max, which depend on the order of the rows, out of the fit. A constant
        target needs no neuron whatever alpha is.
        """
        if self.alpha != "auto":
            return float(self.alpha)
        return float(f"{AUTO_ALPHA * even * weights.sum() / sample_weight.sum():.10g}") or 1.0

    def _solver_name(self, loss):
        """The solver's key; "auto" by the loss."""
        return self.solver if self.solver != "auto" else "newton" if np.isfinite(loss.lipschitz) else "cvxpy"

    def _solver(self, loss, start):
        """The solver with what is left of the time, and the progress line."""
        share = 0.6 if self.certify is True else 1.0
        left = None if self.max_time is None else max(share * self.max_time - (perf_counter() - start), 0.0)
        solver = SOLVERS[self._solver_name(loss)](tol=self.tol, max_iter=self.max_iter, max_time=left)
        return solver, _Progress() if self.verbose else None

    def _finish(self, problem, result, certificate, alpha_max):
        self.alpha_ = problem.alpha
        self.alpha_max_ = alpha_max
        self.result_ = result
        self.certificate_ = certificate
        self.n_iter_ = max(result.n_iter, 1)
        if result.status != "optimal":
            warnings.warn(
                f"status {result.status!r}: {result.message}. Relative gap {result.relative_gap:.1e}, tol {self.tol}.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self

    def _arrangement(self, X, lifted, keep):
        """The list of patterns that ``patterns`` asks for."""
        if isinstance(self.patterns, Arrangement):
            given = self.patterns
            whole = np.column_stack([X, np.ones(len(X))]) if self.hidden_bias != "none" else X
            if given.n_samples != len(keep) or len(given.gates) != lifted.shape[1]:
                raise ValueError(
                    f"patterns must be an Arrangement of {len(keep)} samples and {lifted.shape[1]} gate rows"
                    f"{' (the features and a ones column, for hidden_bias=' + repr(self.hidden_bias) + ')'}, got one "
                    f"of {given.n_samples} samples and {len(given.gates)} gate rows."
                )
            if not given.belongs_to(whole):
                raise ValueError(
                    "patterns must be an Arrangement of the X of this fit, got one of other data: its gates do not "
                    "give its patterns on X, or it is complete for another X."
                )
            return given if keep.all() else given.rows(keep)
        random_state = check_random_state(self.random_state)
        exact = self.patterns == "exact"
        if self.patterns == "auto":
            exact = count_patterns(len(lifted), np.linalg.matrix_rank(lifted)) <= self.n_patterns
        if exact:
            return enumerate_patterns(lifted)
        seed = random_state.randint(np.iinfo(np.int32).max)
        return sample_patterns(lifted, self.n_patterns, random_state=seed)

    def _previous_network(self, n_outputs, rows):
        """The network to start from: of the previous fit, if ``warm_start`` and it is of the same kind, or init."""
        network = getattr(self, "network_", None) if self.warm_start else None
        if network is None and self.init is not None:
            return self._initial_network(n_outputs, rows)
        if network is None or not network.n_neurons or network.hidden_weights.shape[1] != rows.shape[1]:
            return None
        same = network.n_outputs == n_outputs and (network.gate_weights is None) == (self.activation == "relu")
        return network if same and (self.hidden_bias != "none" or not network.hidden_biases.any()) else None

    def _initial_network(self, n_outputs, rows):
        """``init`` as a Network; ValueError when it does not fit the data or the activation."""
        try:
            network = network_from(self.init, hidden_bias=self.hidden_bias)
        except ValueError as error:
            raise ValueError(f"init does not fit: {error}") from None
        n_features = network.hidden_weights.shape[1]
        if n_features != rows.shape[1] or network.n_outputs != n_outputs:
            raise ValueError(
                f"init must have {rows.shape[1]} features and {n_outputs} outputs, got {n_features} features and "
                f"{network.n_outputs} outputs."
            )
        if (network.gate_weights is None) != (self.activation == "relu"):
            raise ValueError(f"init must be a {self.activation} network for activation={self.activation!r}.")
        return network.balance()

    def _check_parameters(self, losses):
        """ValueError that names the parameter, what was expected and what came."""

        def number(name, kind, low, *, strict=False, special=()):
            value = getattr(self, name)
            if any(value is s or (isinstance(value, str) and value == s) for s in special):
                return
            good = isinstance(value, kind) and not isinstance(value, bool) and np.isfinite(value)
            if not good or value < low or (strict and value == low):
                what = "an integer" if kind is Integral else "a finite number"
                extra = "".join(f" or {s!r}" for s in special)
                raise ValueError(f"{name} must be {what} {'>' if strict else '>='} {low}{extra}, got {value!r}.")

        def choice(name, options):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in options:
                raise ValueError(f"{name} must be one of {sorted(options)}, got {value!r}.")

        number("alpha", Real, 0, strict=True, special=("auto",))
        number("n_patterns", Integral, 1)
        number("tol", Real, 0)
        number("max_iter", Integral, 1)
        number("max_time", Real, 0, special=(None,))
        number("verbose", Integral, 0) if not isinstance(self.verbose, bool) else None
        choice("activation", ACTIVATIONS)
        choice("solver", ["auto", *SOLVERS])
        choice("hidden_bias", ["penalized", "free", "none"])
        if self.hidden_bias == "free":
            if self.activation != "relu":
                raise ValueError(
                    "hidden_bias='free' needs activation='relu', got 'gated_relu': without a cone a free bias is a "
                    "free step function of the gate, and enough of those fit anything."
                )
            if not self.fit_intercept:
                raise ValueError(
                    "hidden_bias='free' needs fit_intercept=True, got False: a neuron with zero weights and a free "
                    "bias is a free constant."
                )
        if not isinstance(self.patterns, Arrangement):
            choice("patterns", ["auto", "exact", "sampled", "adaptive"])
        for name in ("fit_intercept", "skip_connection", "warm_start"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if not (
            isinstance(self.certify, (bool, np.bool_)) or (isinstance(self.certify, str) and self.certify == "auto")
        ):
            raise ValueError(f'certify must be True, False or "auto", got {self.certify!r}.')
        if isinstance(self.loss, str):
            choice("loss", losses)
        elif get_loss(self.loss).name not in losses:
            raise ValueError(f"loss must be one of {sorted(losses)} or an instance of those, got {self.loss!r}.")

    @property
    def coefs_(self):
        """[(n_features, n_neurons), (n_neurons, n_outputs)], the shapes of MLPRegressor.

        Gates are in ``network_``, the weights of a skip connection in ``network_.skip_weights``.
        """
        network = self.network_
        return [network.hidden_weights.T, network.output_weights.reshape(network.n_neurons, network.n_outputs)]

    @property
    def intercepts_(self):
        """[(n_neurons,), (n_outputs,)], the shapes of MLPRegressor; not the weights of a skip connection."""
        network = self.network_
        return [network.hidden_biases, np.broadcast_to(network.output_bias, (network.n_outputs,))]

    @property
    def feature_importances_(self):
        """sum_j |w_ji| |a_j| + |s_i| (skip connection) for each feature i, divided by their sum, (n_features,).

        Undivided they bound slopes: no prediction moves by more than that times what feature i moves by (unless a gate
        opens or closes). Exactly 0 for features that the network does not use, as ``feature_penalty`` makes them
        (1e-7 with losses with kinks): ``SelectFromModel(model, threshold=1e-5)`` keeps those it uses.
        """
        return self.network_.feature_importances

    def _scores(self, X):
        check_is_fitted(self, "network_")
        return self.network_.predict(validate_data(self, X, dtype=float, reset=False))


class ConvexReLURegressor(RegressorMixin, _TwoLayerNetwork):
    r"""Two-layer ReLU network for regression, trained to the optimum of its convex program.

    Minimises sum_i s_i l(y_i, f(x_i)) + alpha / 2 * (squared norm of the weights), over networks whose neurons have
    the listed activation patterns. Standardise the features first.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Weight decay on a *sum* of losses: ``MLPRegressor(alpha=a)`` has a = alpha. "auto" takes 0.01 of ``alpha_max_``,
        which does not change with the units of y, nor of X as a whole (without hidden bias), nor with repeated data.
    loss : {"squared", "huber", "absolute", "quantile"} or loss object, default="squared"
        ``convexnn.losses.Huber(delta=0.5)`` sets a parameter. "absolute" and "quantile" need solver="cvxpy".
    activation : {"relu", "gated_relu"}, default="relu"
        "gated_relu" fixes the gates and drops the cone constraints: a faster relaxation, not a ReLU network.
    patterns : {"auto", "adaptive", "exact", "sampled"} or Arrangement, default="auto"
        "adaptive" (ReLU only) searches all activation patterns for those that matter and stops when a thorough search
        finds no better neuron; ``alpha_max_`` is then the largest price found. "exact" lists every pattern of the data
        (few samples, few features), "sampled" draws ``n_patterns`` random gates. "auto" is exact if there are at most
        ``n_patterns`` patterns, else adaptive for ReLU with the solver "newton", and sampled for gated ReLU and the
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
        Limit in seconds; the best network so far is kept, with its gap.
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
        Seed of the sampled patterns, or of the search's random starts.
    verbose : int, default=0
        Progress on standard error.

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
        self._check_parameters({name for name, loss in LOSSES.items() if loss.target == "real"})
        X, y = validate_data(self, X, y, dtype=float, y_numeric=True)
        y = column_or_1d(y, warn=True).astype(float)
        weights = _check_weights(sample_weight, len(y))
        return self._fit_network(X, y, get_loss(self.loss), weights)

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


class ConvexReLUClassifier(ClassifierMixin, _TwoLayerNetwork):
    r"""Two-layer ReLU network for classification, trained to the optimum of its convex program.

    Two classes are told apart by the sign of one output; more by a softmax over one output a class, where every hidden
    neuron feeds one class.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Weight decay on a *sum* of losses; "auto" takes 0.01 of ``alpha_max_``.
    loss : {"log_loss", "squared_hinge", "hinge"} or loss object, default="log_loss"
        The hinge losses are for two classes; "hinge" needs solver="cvxpy".
    activation, patterns, n_patterns, solver, fit_intercept, hidden_bias, skip_connection, feature_penalty, tol, \
    max_iter, max_time, warm_start, init, certify, random_state, verbose
        As in ConvexReLURegressor.
    class_weight : dict, "balanced" or None
        Factors of the losses by class; "balanced" makes the classes equally heavy.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels.
    network_, certificate_, result_, arrangement_, alpha_, alpha_max_, coefs_, intercepts_, feature_importances_, \
    n_iter_
        As in ConvexReLURegressor.

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
        self._check_parameters({name for name, loss in LOSSES.items() if loss.target != "real"})
        X, y = validate_data(self, X, y, dtype=float)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        weights = _check_weights(sample_weight, len(y))
        self.classes_, code = np.unique(y, return_inverse=True)
        class_weight = compute_sample_weight(self.class_weight, y)
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
        return self._fit_network(X, code if n_outputs > 1 else 2.0 * code - 1.0, loss, weights, class_weight, n_outputs)

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
        return np.log(self.predict_proba(X))


def _check_weights(sample_weight, n_samples):
    """Weights as a float vector, or a ValueError that says what is wrong."""
    if sample_weight is None:
        return np.ones(n_samples)
    try:
        weights = np.asarray(sample_weight, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight must be numeric of shape ({n_samples},): {error}") from None
    if weights.ndim == 0:
        weights = np.full(n_samples, float(weights))
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},), got {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"sample_weight must be finite and non-negative, got a smallest value of {weights.min()}.")
    if not weights.any():
        raise ValueError("sample_weight must be positive for at least one sample, got only zeros.")
    return weights


class _Progress:
    """One line on standard error, rewritten in place on a terminal, repeated every two seconds elsewhere."""

    def __init__(self):
        self.live = sys.stderr.isatty()
        self.shown = -np.inf
        self.line = ""

    def __call__(self, entry):
        self.line = (
            f"iteration {entry['iteration']:6d}  objective {entry['objective']:.6g}  relative gap "
            f"{entry['relative_gap']:.1e}  neurons {entry['blocks']:4d}  {entry['seconds']:.1f} s"
        )
        if entry["seconds"] - self.shown >= (0.1 if self.live else 2.0):
            self.shown = entry["seconds"]
            sys.stderr.write(f"\r\x1b[K{self.line}" if self.live else f"{self.line}\n")
            sys.stderr.flush()

    def close(self):
        sys.stderr.write(f"\r\x1b[K{self.line}\n" if self.live else f"{self.line}\n")
        sys.stderr.flush()
