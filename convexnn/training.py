"""What the scikit-learn estimators share: their parameters, and the way from arrays to networks.

A fit makes four things in this order: an arrangement (which activation patterns), a problem (the convex program over
them), a result (its solution) and a network (the ReLU weights), and then grades the network with a certificate. For a
sequence of weight decays each fit starts from the one before.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral, Real
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.activations import ACTIVATIONS, find_patterns, lift, lift_feature_penalty
from convexnn.adaptive import blocks_in, blocks_of, least_alpha_max, search_alpha_max, signed, solve_adaptively
from convexnn.arrangements import Arrangement, count_patterns, enumerate_patterns, patterns_of, sample_patterns
from convexnn.audit import network_from
from convexnn.budget import STOPS, Budget, OutOfTime, affordable, current
from convexnn.certificate import Certificate, bare_problem, certify_listed, is_quick, prove, proved
from convexnn.export import save_safetensors, to_onnx, to_sklearn, to_torch
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.pricing import no_peaks
from convexnn.problem import Problem
from convexnn.progress import Progress, plain_entry
from convexnn.result import STATUSES, Result, untouched
from convexnn.solvers import SOLVERS

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9: estimators have no set_callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        pass

    def with_callbacks(method):
        return method


#: certify="auto" looks at this many cones for each output and sign: a second or so.
AUTO_CONES = 5_000
#: alpha="auto" is this share of alpha_max; docs/alpha.md has the table of test errors it was chosen by.
AUTO_ALPHA = 0.01
#: Blocks are left out of a fit on a path if no more than this share of them remains.
WORTH_SCREENING = 0.7


@dataclass(frozen=True, eq=False)
class Fit:
    """A network and all that is known of it, for one weight decay.

    Attributes
    ----------
    alpha, alpha_max : float
        Weight decay; smallest weight decay without neurons, over the listed or the searched patterns.
    network : Network
        Merged and pruned.
    result : Result
        Solution of the convex program, with the solver's history.
    certificate : Certificate
        Grade of ``network``.
    arrangement : Arrangement
        The patterns that were listed; those of the network after a search over all.
    """

    alpha: float
    alpha_max: float
    network: Network
    result: Result
    certificate: Certificate
    arrangement: Arrangement

    @property
    def relative_gap(self) -> float:
        """That of the certificate; after a search, at least that to the bound if no price were above those found."""
        searched = self.result.history[-1]["relative_gap"] if self.certificate.n_searched else 0.0
        return max(self.certificate.relative_gap, searched)


class TwoLayerNetwork(CallbackSupportMixin, BaseEstimator):
    """Parameters, training and attributes that regressor and classifier share."""

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

    @with_callbacks
    def _fit(self, X, y, sample_weight):
        """A fit for the estimator's alpha; callbacks see it as a task with a subtask for each entry of the history."""
        if not hasattr(self, "_skl_callbacks"):
            return next(self._train(*self._coded(X, y, sample_weight)))
        # The data as they came, with the names of the features.
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        task = dict(estimator=self, X=X, y=y, metadata=metadata)
        context = self._init_callback_context(max_subtasks=None).call_on_fit_task_begin(**task)
        data = self._coded(X, y, sample_weight)
        self.history_ = []
        fit = next(self._train(*data))
        context.call_on_fit_task_end(**task, reconstruction_attributes=self._attributes(fit))
        return fit

    def _train(
        self,
        X: NDArray,
        y: NDArray,
        loss,
        sample_weight: NDArray,
        class_weight: NDArray | float = 1.0,
        n_outputs: int = 1,
        *,
        alphas: Callable[[float], Sequence[float]] | None = None,
    ) -> Iterator[Fit]:
        """Everything after the targets are coded: a fit for the estimator's alpha, or for each of a decreasing
        sequence, a function of alpha_max; these end early when ``max_time`` is over, and after an interrupted fit.

        Where there is not even time for the first fit, it is the network without neurons.
        """
        start = perf_counter()
        weights = sample_weight * class_weight
        keep = weights > 0
        rows, y, weights, sample_weight = X[keep], loss.check_target(y)[keep], weights[keep], sample_weight[keep]
        lifted = np.column_stack([rows, np.ones(len(rows))]) if self.hidden_bias != "none" else rows
        mu = lift_feature_penalty(self.feature_penalty, rows.shape[1], self.hidden_bias)
        data = (rows, lifted, y, loss, weights, sample_weight, n_outputs, start, alphas, mu)
        budget, fits, fit = Budget(self.max_time), self._fits(X, keep, *data), None
        while not (ended := False):
            try:
                with budget:
                    following = next(fits, None)
            except STOPS as stop:
                ended, status = True, budget.stop(stop)
                following = self._without_neurons(status, *data) if fit is None else None
            if (fit := following) is None:
                return
            yield fit
            if ended:
                return

    def _fits(self, X, keep, rows, lifted, y, loss, *rest):
        adaptive = self.patterns == "adaptive"
        if self.patterns == "auto" and self.activation == "relu" and self._solver_name(loss) == "newton":
            # The rank of some rows is no larger than that of all, which may take a while.
            part = lifted if affordable(4.0 * lifted.size * min(lifted.shape)) else lifted[:50]
            adaptive = count_patterns(len(lifted), np.linalg.matrix_rank(part)) > self.n_patterns
        data = (rows, lifted, y, loss, *rest)
        yield from self._train_adaptively(*data) if adaptive else self._train_listed(X, keep, *data)

    def _without_neurons(self, status, rows, lifted, y, loss, weights, sample_weight, n_outputs, start, alphas, mu):
        """The fit that takes no time: no neurons, no statement on others, and a guess at alpha_max from below."""
        with Budget.without_limit():
            activation, skip = ACTIVATIONS[self.activation](), rows if self.skip_connection else None
            arrangement = Arrangement.from_gates(lifted, np.zeros((lifted.shape[1], 0)))
            fixed = (self.fit_intercept, n_outputs, skip, self.hidden_bias, mu)
            problem = lift(activation, lifted, y, arrangement, loss, 1.0, weights, *fixed)
            bare = replace(problem, sample_weight=sample_weight, skip=None)
            even, alpha_max = (
                least_alpha_max(lifted, signed(part.null_model[1]), part.penalty) for part in (bare, problem)
            )
            first = self._alpha(even, weights, sample_weight) if alphas is None else next(iter(alphas(alpha_max)))
            problem = replace(problem, alpha=float(first))
            result = untouched(problem, status)
            network = activation.network(problem, result.coef, result.intercept, arrangement, self.hidden_bias)
            certificate = proved(network, rows, problem, result.theta, (), "nothing", self.hidden_bias)
            return Fit(problem.alpha, alpha_max, network, result, certificate, arrangement)

    def _train_listed(self, X, keep, rows, lifted, y, loss, weights, sample_weight, n_outputs, start, alphas, mu):
        """Fits over a fixed list of patterns."""
        arrangement = self._arrangement(X, lifted, keep)
        activation = ACTIVATIONS[self.activation]()
        previous = self._previous_network(n_outputs, rows)
        if previous is not None:
            found = find_patterns(previous, lifted, arrangement.patterns.T, self.hidden_bias)
            if np.any(found < 0):
                unlisted = previous.select(found < 0)
                arrangement = arrangement.union(patterns_of(unlisted, rows, hidden_bias=self.hidden_bias))
        skip = rows if self.skip_connection else None
        fixed = (self.fit_intercept, n_outputs, skip, self.hidden_bias, mu)
        problem = lift(activation, lifted, y, arrangement, loss, 1.0, weights, *fixed)
        alpha_max = problem.alpha_max
        even = replace(problem, sample_weight=sample_weight, skip=None).alpha_max if self.alpha == "auto" else 0.0
        coef = None if previous is None else activation.coef(previous, problem, self.hidden_bias)
        before: tuple[float, Result] | None = None
        for alpha in [self._alpha(even, weights, sample_weight)] if alphas is None else alphas(alpha_max):
            problem = replace(problem, alpha=float(alpha))
            keep = np.full(len(problem.design.pattern), problem.alpha < alpha_max)
            if before is not None and keep.any():
                alpha_before, result = before
                coef, theta = result.coef, min(1.0, problem.alpha / alpha_before) * result.theta
                with suppress(OutOfTime):
                    # Without a lower bound theta need not be feasible.
                    dual = problem.dual_value(theta) if np.isfinite(result.dual) else -np.inf
                    gap = problem.objective(coef, result.intercept) - dual
                    active = problem.may_be_active(theta, max(gap, 0.0))
                    keep = active if active.mean() <= WORTH_SCREENING else keep
            solver, progress = self._solver(loss, start)
            result = solve_without(problem, replace(solver, callback=progress), coef, keep)
            if progress is not None:
                progress.close()
            network = activation.network(problem, result.coef, result.intercept, arrangement, self.hidden_bias)
            network, certificate, result = self._conclude(network, rows, problem, result, arrangement.complete)
            if result.status != "interrupted":
                certificate = self._prove(network, certificate, rows, y, weights, result.coef, start)
            yield Fit(problem.alpha, alpha_max, network, result, certificate, arrangement)
            if self._is_over(result, start):
                return
            before = (problem.alpha, result)

    def _train_adaptively(self, rows, lifted, y, loss, weights, sample_weight, n_outputs, start, alphas, mu):
        """Fits over all patterns: cells are listed as a search finds them."""
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
        common, kind = (self.fit_intercept, n_outputs, rng), (self.hidden_bias, mu)
        blocks = None if previous is None else blocks_of(previous, lifted, self.hidden_bias)
        alpha_max: float | None = None
        remembered = None
        if alphas is None:
            even = 0.0
            if self.alpha == "auto":
                even = search_alpha_max(lifted, y, loss, sample_weight, *common, None, *kind)
            sequence = [self._alpha(even, weights, sample_weight)]
        else:
            alpha_max = search_alpha_max(lifted, y, loss, weights, *common, skip, *kind, n_random=1000)
            remembered = no_peaks(lifted)
            sequence = alphas(alpha_max)
        for alpha in sequence:
            solver, progress = self._solver(loss, start)
            data = (lifted, y, loss, float(alpha), weights, self.fit_intercept, n_outputs)
            problem, result, found = solve_adaptively(
                *data, solver, blocks, rng, progress, skip, *kind, alpha_max, remembered
            )
            if progress is not None:
                progress.close()
            remembered = found.peaks
            network = ACTIVATIONS["relu"]().network(problem, result.coef, result.intercept, None, self.hidden_bias)
            network, certificate, result = self._conclude(network, rows, problem, result, False)
            with Budget.without_limit():
                arrangement = patterns_of(network, rows[group], hidden_bias=self.hidden_bias)
            column = share.reshape((-1,) + (1,) * (result.theta.ndim - 1))
            blocks = blocks_in(problem, result.coef)
            theta, coef = column * certificate.theta[group], result.coef
            result = replace(result, theta=column * result.theta[group])
            certificate = replace(certificate, theta=theta, n_searched=found.n_starts, price_found=found.price)
            if result.status != "interrupted":
                certificate = self._prove(network, certificate, rows[group], y[group], each, coef, start)
            yield Fit(problem.alpha, found.alpha_max, network, result, certificate, arrangement)
            if self._is_over(result, start):
                return

    def _conclude(self, network, rows, problem, result, complete):
        """The network merged and pruned, its certificate, and the result; each as far as there is time for it."""
        budget = current()

        def ended(stop):
            status = budget.stop(stop) if isinstance(stop, KeyboardInterrupt) else result.status
            return result if status == result.status else replace(result, status=status, message=STATUSES[status])

        try:
            with budget.conclusion():
                network = network.merge().prune(rows)
        except STOPS as stop:
            result = ended(stop)
        try:
            with budget.conclusion():
                certificate = certify_listed(network, rows, problem, result.theta, complete, self.hidden_bias)
        except STOPS as stop:
            result, nothing = ended(stop), np.zeros_like(result.theta)
            certificate = proved(network, rows, problem, nothing, (), "nothing", self.hidden_bias)
        return network, certificate, result

    def _is_over(self, result, start):
        """Whether an interrupt or the time limit ends a path."""
        late = self.max_time is not None and perf_counter() - start >= self.max_time
        return late or result.status == "interrupted"

    def _prove(self, network, certificate, rows, y, weights, coef, start):
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
        rows, lifted, problem = bare_problem(network, rows, y, *settings)
        spent = perf_counter() - start
        left = 60.0 if self.max_time is None else self.max_time - spent
        # A number of cones, unlike a time, gives the same bound on every machine.
        max_cones = AUTO_CONES if self.certify == "auto" else None
        if left <= 0 or (self.certify == "auto" and not (certificate.n_searched and is_quick(lifted))):
            return certificate
        known = None if self.hidden_bias == "free" else coef[coef.any(axis=1)]
        try:
            proof = prove(problem, certificate.theta, self.hidden_bias, max_time=left, max_cones=max_cones, known=known)
        except STOPS as stop:
            current().stop(stop)
            return certificate
        searched = certificate.n_searched, certificate.price_found
        found = proved(network, rows, problem, *proof, self.hidden_bias, *searched)
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
        watched = self.verbose or hasattr(self, "_callback_fit_ctx")
        return solver, Progress(self) if watched else None

    def _attributes(self, fit):
        """The attributes of a fitted estimator by name."""
        return dict(
            network_=fit.network,
            arrangement_=fit.arrangement,
            alpha_=fit.alpha,
            alpha_max_=fit.alpha_max,
            result_=fit.result,
            certificate_=fit.certificate,
            n_iter_=max(fit.result.n_iter, 1),
            history_=[plain_entry(entry) for entry in fit.result.history],
        )

    def _keep(self, fit):
        """The estimator with the attributes of a fit, and a warning if it is not optimal."""
        self.__dict__.update(self._attributes(fit))
        if fit.result.status != "optimal":
            warnings.warn(
                f"status {fit.result.status!r}: {fit.result.message}. Relative gap {fit.result.relative_gap:.1e}, "
                f"tol {self.tol}.",
                ConvergenceWarning,
                stacklevel=3,
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

    def summary(self, X=None, *, max_neurons=10, max_weights=4):
        """What a fitted network is and does, in words: how good it is, and its heaviest neurons.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), optional
            Count the rows on which each neuron is active.
        max_neurons, max_weights : int
            At most so many neurons, and so many weights of each, are written out: the largest.

        Returns
        -------
        summary : str
            For ``print``; ``Network.summary`` explains the table.
        """
        check_is_fitted(self, "network_")
        n_active = None
        if X is not None:
            n_active = self.network_.count_active(validate_data(self, X, dtype=float, reset=False))
        share = f" = {self.alpha_ / self.alpha_max_:.3g} alpha_max" if self.alpha_max_ else ""
        head = f"{type(self).__name__}: loss {self.certificate_.loss.name}, alpha {self.alpha_:.4g}{share}, "
        lines = [f"{head}{self.result_.status} after {self.n_iter_} iterations"]
        lines += textwrap.wrap(str(self.certificate_), 100)
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        most = dict(max_neurons=max_neurons, max_weights=max_weights)
        table = self.network_.summary(n_active, feature_names=names, classes=classes, **most)
        return "\n".join([*lines, "", table])

    @property
    def feature_importances_(self):
        """How steeply predictions may depend on each feature, as shares that sum to 1, shape (n_features,).

        For feature i it is sum_j |w_ji| |a_j| + |s_i| (s of a skip connection), divided by the sum of these. Undivided
        they bound slopes: no prediction moves by more than that times what feature i moves by (unless a gate opens or
        closes). Exactly 0 for features that the network does not use, as ``feature_penalty`` makes them
        (1e-7 with losses with kinks): ``SelectFromModel(model, threshold=1e-5)`` keeps those it uses.
        """
        return self.network_.feature_importances

    def to_sklearn(self):
        """This network as a fitted MLPRegressor or MLPClassifier; see ``convexnn.export.to_sklearn``.

        Returns
        -------
        model : MLPRegressor or MLPClassifier
            With the same predictions and ``alpha``; it takes this one's place after a scaler.

        Raises
        ------
        ValueError
            When the network has gates.
        """
        check_is_fitted(self, "network_")
        return to_sklearn(self.network_, alpha=self.alpha_, **self._task())

    def to_torch(self, *, dtype="float64"):
        """This network as a torch Sequential(Linear, ReLU, Linear); see ``convexnn.export.to_torch``.

        Parameters
        ----------
        dtype : {"float64", "float32"} or torch.dtype, default="float64"
            Of the weights.

        Returns
        -------
        model : torch.nn.Sequential
            Its output is a column for each output: predictions, or the scores of ``decision_function``.

        Raises
        ------
        ImportError
            When torch is not installed.
        ValueError
            When the network has gates.
        """
        check_is_fitted(self, "network_")
        return to_torch(self.network_, dtype=dtype)

    def to_onnx(self, path=None, *, dtype="float64"):
        """This network as an ONNX model with its certificate in the metadata; see ``convexnn.export.to_onnx``.

        Parameters
        ----------
        path : str or path, optional
            Where to write the model.
        dtype : {"float64", "float32"}, default="float64"
            Of weights and input.

        Returns
        -------
        model : onnx.ModelProto
            Input "X"; output "prediction", or "label" and "probabilities" (without the log loss "scores").

        Raises
        ------
        ImportError
            When onnx is not installed.
        """
        check_is_fitted(self, "network_")
        return to_onnx(self.network_, path, dtype=dtype, certificate=self.certificate_, **self._task())

    def to_safetensors(self, path):
        """Write the weights and the certificate to a file; see ``convexnn.export.save_safetensors``.

        Parameters
        ----------
        path : str or path
            File name; ``convexnn.export.load_safetensors`` reads the network back.

        Raises
        ------
        ImportError
            When safetensors is not installed.
        """
        check_is_fitted(self, "network_")
        save_safetensors(self.network_, path, certificate=self.certificate_, **self._task())

    def _task(self):
        """What an export must know beside the weights."""
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        return dict(loss=self.certificate_.loss, classes=classes, feature_names=names)

    def _checked(self, X, y, **options):
        """X in double precision, in which networks are trained, and y; the precision that X came in is remembered."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], **options)
        self._dtype = X.dtype
        return X.astype(float, copy=False), y

    def _scores(self, X):
        """Outputs of the network, in single precision if the training data and X both are."""
        check_is_fitted(self, "network_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.network_.predict(X).astype(np.result_type(X, self._dtype), copy=False)


def solve_without(problem: Problem, solver, coef: NDArray | None, keep: NDArray[np.bool_]) -> Result:
    """Solve without the blocks that are zero in every solution.

    Parameters
    ----------
    problem : Problem
        Over listed patterns.
    solver : Fista, Newton or CvxpySolver
        Settings.
    coef : array of shape (n_blocks, n_features) or None
        Starting point.
    keep : bool array of shape (n_blocks,)
        The other blocks.

    Returns
    -------
    result : Result
        Of the whole problem, its bound over all blocks.
    """
    if keep.all():
        return solver.solve(problem, coef)
    result = solver.solve(problem.restrict(keep), None if coef is None else coef[keep])
    whole = np.zeros(problem.design.shape)
    whole[keep] = result.coef
    # The blocks left out may yet bind the dual point a little.
    zero = np.zeros_like(result.theta)
    dual, theta = problem.dual_value(zero), zero
    with current().conclusion(), suppress(OutOfTime):
        dual, theta = problem.dual_bound(result.theta)
    result = replace(result, coef=whole, dual=dual, theta=theta)
    if result.status == "optimal" and result.relative_gap > solver.tol and keep.any():
        return solver.solve(problem, whole)
    return result


def check_weights(sample_weight, n_samples):
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
