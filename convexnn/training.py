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
from dataclasses import replace
from numbers import Integral, Real
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.adaptive import least_alpha_max, search_alpha_max, solve_adaptively
from convexnn.arrangements import (
    Arrangement,
    enumerate_patterns,
    patterns_of,
    sample_patterns,
)
from convexnn.audit import network_from
from convexnn.budget import STOPS, Budget, OutOfTime, current
from convexnn.cells import Cells
from convexnn.conversion import coef_of, find_patterns
from convexnn.export import save_safetensors, to_onnx, to_sklearn, to_torch
from convexnn.faces import with_faces
from convexnn.feature_scales import UNEVEN, FeatureScaleWarning, scale_factor
from convexnn.fits import Fit, Prepared, Sample, best_network, how_it_ended, least_count, solve_without
from convexnn.graded import Graded
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.neuron import ACTIVATIONS, HIDDEN_BIASES, Neuron
from convexnn.pricing import no_peaks
from convexnn.problem import Problem
from convexnn.progress import Progress, plain_entry
from convexnn.proofs import certify_listed, is_quick, prove, proved
from convexnn.result import REMEDIES, STATUSES, Result, relative_gap, untouched
from convexnn.solvers import SOLVERS
from convexnn.task import Task

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
            return next(self._train(self._coded(X, y, sample_weight)))
        # The data as they came, with the names of the features.
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        task = dict(estimator=self, X=X, y=y, metadata=metadata)
        context = self._init_callback_context(max_subtasks=None).call_on_fit_task_begin(**task)
        data = self._coded(X, y, sample_weight)
        self.history_ = []
        fit = next(self._train(data))
        context.call_on_fit_task_end(**task, reconstruction_attributes=self._attributes(fit))
        return fit

    def _task_of(self, sample: Sample) -> Task:
        """The training problem of the samples of positive weight."""
        neuron = Neuron.of(self.activation, self.hidden_bias, self.feature_penalty, sample.X.shape[1])
        return Task.of(
            sample.X,
            sample.y,
            sample.loss,
            sample.weights,
            neuron,
            fit_intercept=self.fit_intercept,
            skip_connection=self.skip_connection,
            n_outputs=sample.n_outputs,
        )

    def _train(self, sample: Sample, *, alphas: Callable[[float], Sequence[float]] | None = None) -> Iterator[Fit]:
        """Everything after the targets are coded: a fit for the estimator's alpha, or for each of a decreasing
        sequence, a function of alpha_max; these end early when ``max_time`` is over, and after an interrupted fit.

        Where there is not even time for the first fit, it is the network without neurons.
        """
        start = perf_counter()
        data = Prepared.of(sample, self._task_of(sample), start)
        budget, fits, fit = Budget(self.max_time), self._fits(data, alphas), None
        ended = False
        while not ended:
            following = progress = None
            try:
                # What leaves the range of numbers is judged by what comes of it, which must be finite.
                with budget, np.errstate(all="ignore"):
                    following, progress = next(fits, (None, None))
                    if following is None:
                        return
                    fit = self._for_every_row(following, data)
            except (*STOPS, np.linalg.LinAlgError) as stop:
                status = "failed" if isinstance(stop, np.linalg.LinAlgError) else budget.stop(stop)
                ended = True
                if following is None and fit is not None:
                    return
                with Budget.without_limit(), np.errstate(all="ignore"):
                    following = following or self._without_neurons(data, alphas, status)
                    result = replace(following.result, status=status, message=STATUSES[status])
                    fit = self._for_every_row(replace(following, result=result), data)
            if progress is not None:
                progress.close(fit)
            yield fit

    def _fits(self, data: Prepared, alphas) -> Iterator[tuple[Fit, Progress | None]]:
        """Fits over listed patterns or over all, each with its progress line, on distinct rows."""
        rows, adaptive, listed = data.task.rows, self.patterns == "adaptive", None
        if self.patterns == "auto" and data.task.neuron.activation.cones and self._solver_name(data) == "newton":
            adaptive = least_count(rows, self.n_patterns) > self.n_patterns
            if not adaptive:
                try:
                    listed = enumerate_patterns(rows)
                except ValueError:
                    # Cells too thin to be listed; a search needs no list.
                    adaptive = True
        yield from self._train_adaptively(data, alphas) if adaptive else self._train_listed(data, alphas, listed)

    def _for_every_row(self, fit: Fit, data: Prepared) -> Fit:
        """A fit on distinct rows as one on all of them, and its proof if that is wanted."""
        result, certificate, group = fit.result, fit.certificate, data.group
        share = (data.whole.sample_weight / data.task.sample_weight[group]).reshape(
            (-1,) + (1,) * (result.theta.ndim - 1)
        )
        intercept = np.asarray(result.intercept)[group] if self.skip_connection else result.intercept
        if result.status == "optimal" and certificate.stated_gap > self.tol * (1 + 1e-3):
            result = replace(result, status="stalled", message=STATUSES["stalled"])
        if result.status == "optimal" and fit.alpha_max == 0:
            result = replace(result, message="no neuron lowers the objective: nothing but rounding is left to explain")
        certificate = replace(certificate, theta=share * certificate.theta[group])
        if result.status != "interrupted":
            graded = Graded.of(fit.network, data.whole, fit.alpha, data.units)
            certificate = self._prove(graded, certificate.restated(graded), result.coef, data.start)
        result = replace(result, theta=share * result.theta[group], intercept=intercept)
        arrangement = fit.arrangement.rows(group, data.whole.rows)
        return replace(fit, result=result, certificate=certificate, arrangement=arrangement)

    def _without_neurons(self, data: Prepared, alphas, status: str) -> Fit:
        """The fit that takes no time: no neurons, no statement on others, and a guess at alpha_max from below."""
        units = data.units
        arrangement = Arrangement.from_gates(data.task.rows, np.zeros((data.task.rows.shape[1], 0)))
        alpha = self._alpha(least_alpha_max(data.unweighted), data)
        alpha_max = units.alpha * least_alpha_max(data.normal)
        alpha = float(alpha if alphas is None else next(iter(alphas(alpha_max))))
        problem = Problem.bare(data.normal, units.level(alpha))
        result = untouched(problem, status)
        graded = best_network(problem, result, data, alpha, arrangement)
        certificate = proved(graded, result.theta, (), "nothing")
        return Fit(alpha, alpha_max, graded.network, units.result(result), certificate, arrangement)

    def _train_listed(
        self, data: Prepared, alphas, listed: Arrangement | None
    ) -> Iterator[tuple[Fit, Progress | None]]:
        """Fits over a fixed list of patterns, which may be at hand."""
        units, rows, neuron = data.units, data.task.rows, data.task.neuron
        arrangement = self._arrangement(data) if listed is None else listed
        previous = self._previous_network(data)
        if previous is not None:
            found = find_patterns(previous, rows, arrangement.patterns.T, neuron)
            if np.any(found < 0):
                unlisted = previous.select(found < 0)
                arrangement = arrangement.union(patterns_of(unlisted, data.task.X, hidden_bias=self.hidden_bias))
        problem = Problem.listing(data.normal, arrangement.patterns.T, 1.0)
        alpha_max, even = units.alpha * problem.alpha_max, 0.0
        if self.alpha == "auto":
            even = replace(problem, task=data.unweighted).alpha_max
        coef = None if previous is None else coef_of(units.neurons(previous), problem)
        before: tuple[float, Result] | None = None
        for alpha in [self._alpha(even, data)] if alphas is None else alphas(alpha_max):
            problem = replace(problem, alpha=float(f"{units.level(alpha):.12g}"))
            keep = np.full(len(problem.design.pattern), alpha < alpha_max)
            if before is not None and keep.any():
                alpha_before, result = before
                coef, theta = result.coef, min(1.0, problem.alpha / alpha_before) * result.theta
                with suppress(OutOfTime):
                    # Without a lower bound theta need not be feasible.
                    dual = data.normal.dual_value(theta) if np.isfinite(result.dual) else -np.inf
                    gap = problem.objective(coef, result.intercept) - dual
                    active = problem.may_be_active(theta, max(gap, 0.0))
                    keep = active if active.mean() <= WORTH_SCREENING else keep
            solver, progress = self._solver(data)
            result = solve_without(problem, replace(solver, callback=progress), coef, keep)
            graded, certificate, result = self._conclude(problem, result, data, float(alpha), arrangement)
            fit = Fit(float(alpha), alpha_max, graded.network, units.result(result), certificate, arrangement)
            yield fit, progress
            if self._is_over(result, data.start):
                return
            before = (problem.alpha, result)

    def _train_adaptively(self, data: Prepared, alphas) -> Iterator[tuple[Fit, Progress | None]]:
        """Fits over all patterns: cells are listed as a search finds them."""
        if not data.task.neuron.activation.cones:
            raise ValueError(
                "patterns='adaptive' needs activation='relu', got 'gated_relu': gates have no best direction."
            )
        units, task = data.units, data.normal
        rng = np.random.default_rng(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        previous = self._previous_network(data)
        cells = None if previous is None else Cells.of_network(units.neurons(previous), task.rows, task.neuron)
        alpha_max: float | None = None
        remembered = None
        if alphas is None:
            even = search_alpha_max(data.unweighted, rng) if self.alpha == "auto" else 0.0
            sequence = [self._alpha(even, data)]
        else:
            alpha_max = search_alpha_max(task, rng, n_random=1000)
            remembered = no_peaks(task.rows)
            sequence = alphas(units.alpha * alpha_max)
        for alpha in sequence:
            solver, progress = self._solver(data)
            normal_alpha = float(f"{units.level(alpha):.12g}")
            problem, result, found = solve_adaptively(
                task, normal_alpha, solver, cells, rng, progress, alpha_max, remembered
            )
            remembered = found.peaks
            graded, certificate, result = self._conclude(problem, result, data, float(alpha))
            # The gap of the network itself to the bound that the search suggests.
            bound = units.factor * result.primal * (1 - found.gap) if np.isfinite(found.gap) else -np.inf
            gap = relative_gap(graded.objective, bound) if graded.objective - bound > graded.negligible else 0.0
            searched = dict(n_searched=found.n_starts, price_found=found.price, gap_found=gap)
            with Budget.without_limit():
                arrangement = patterns_of(graded.network, data.task.X, hidden_bias=self.hidden_bias)
            cells, alpha_found = Cells.of_solution(problem.design, result.coef), units.alpha * found.alpha_max
            certificate, result_ = replace(certificate, **searched), units.result(result)
            yield Fit(float(alpha), alpha_found, graded.network, result_, certificate, arrangement), progress
            if self._is_over(result, data.start):
                return

    def _conclude(self, problem: Problem, result: Result, data: Prepared, alpha: float, arrangement=None):
        """The network merged and pruned, its certificate, and the result; each as far as there is time for it."""
        budget = current()

        def ended(stop):
            status = budget.stop(stop) if isinstance(stop, KeyboardInterrupt) else result.status
            return result if status == result.status else replace(result, status=status, message=STATUSES[status])

        try:
            with budget.conclusion():
                graded = best_network(problem, result, data, alpha, arrangement)
        except STOPS as stop:
            result, graded = ended(stop), best_network(problem, result, data, alpha, arrangement, tidy=False)
        try:
            with budget.conclusion():
                certificate = certify_listed(graded, problem.design, result.theta, arrangement)
        except STOPS as stop:
            result = ended(stop)
            certificate = proved(graded, np.zeros_like(result.theta), (), "nothing")
        return graded, certificate, result

    def _is_over(self, result, start):
        """Whether an interrupt or the time limit ends a path."""
        late = self.max_time is not None and perf_counter() - start >= self.max_time
        return late or result.status == "interrupted"

    def _prove(self, graded, certificate, coef, start):
        """The certificate with a bound over all networks instead, when that is wanted and there is time for it."""
        if self.certify is False or certificate.scope == "global":
            return certificate
        if not graded.task.neuron.activation.cones:
            if self.certify is True:
                raise ValueError(
                    "certify=True needs activation='relu' or patterns='exact', got 'gated_relu' with listed patterns."
                )
            return certificate
        spent = perf_counter() - start
        left = 60.0 if self.max_time is None else self.max_time - spent
        # A number of cones, unlike a time, gives the same bound on every machine.
        max_cones = AUTO_CONES if self.certify == "auto" else None
        if left <= 0 or (self.certify == "auto" and not certificate.n_searched):
            return certificate
        known = None if graded.task.neuron.free_bias else coef[coef.any(axis=1)]
        theta = certificate.theta / graded.units.theta
        try:
            if self.certify == "auto" and not is_quick(graded.normal.task.rows):
                return certificate
            proof = prove(graded, theta, max_time=left, max_cones=max_cones, known=known)
        except STOPS as stop:
            current().stop(stop)
            return certificate
        found = proved(graded, *proof, certificate.n_searched, certificate.price_found)
        return replace(found, gap_found=certificate.gap_found) if found.scope == "global" else certificate

    def _alpha(self, even: float, data: Prepared) -> float:
        """The weight decay, "auto" from the alpha_max without class weights.

        It is that of the network without skip connection: what noise there is does not depend on the linear term.
        Class weights enter by their mean only: the alpha_max of a lopsided weighting says nothing about noise. Ten
        digits keep the rounding errors of alpha_max, which depend on the order of the rows, out of the fit. A constant
        target needs no neuron whatever alpha is.
        """
        if self.alpha != "auto":
            return float(self.alpha)
        share = AUTO_ALPHA * data.task.sample_weight.sum() / data.even.sum()
        return data.units.alpha * (float(f"{share * even:.10g}") or 1.0)

    def _solver_name(self, data: Prepared) -> str:
        """The solver's key; "auto" by the loss."""
        return self.solver if self.solver != "auto" else "newton" if data.task.smooth else "cvxpy"

    def _solver(self, data: Prepared):
        """The solver with what is left of the time, and the progress line."""
        share = 0.6 if self.certify is True else 1.0
        left = None if self.max_time is None else max(share * self.max_time - (perf_counter() - data.start), 0.0)
        solver = SOLVERS[self._solver_name(data)](tol=self.tol, max_iter=self.max_iter, max_time=left)
        watched = self.verbose or hasattr(self, "_callback_fit_ctx")
        return solver, Progress(self, data.units.factor) if watched else None

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
        if fit.is_short_of(self.tol):
            neurons = f"{fit.network.n_neurons} neuron{'' if fit.network.n_neurons == 1 else 's'}"
            warnings.warn(
                f"status {fit.result.status!r}: {fit.result.message}. Relative gap {fit.relative_gap:.1e} with "
                f"{neurons}, above tol {self.tol}; {REMEDIES[fit.result.status]}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _arrangement(self, data: Prepared) -> Arrangement:
        """The list of patterns of the distinct rows that ``patterns`` asks for."""
        rows = data.task.rows
        if isinstance(self.patterns, Arrangement):
            given, whole = self.patterns, data.task.neuron.rows(data.sample.X)
            if given.n_samples != len(whole) or len(given.gates) != whole.shape[1]:
                raise ValueError(
                    f"patterns must be an Arrangement of {len(whole)} samples and {whole.shape[1]} gate rows"
                    f"{' (the features and a ones column, for hidden_bias=' + repr(self.hidden_bias) + ')'}, got one "
                    f"of {given.n_samples} samples and {len(given.gates)} gate rows."
                )
            if not given.belongs_to(whole):
                raise ValueError(
                    "patterns must be an Arrangement of the X of this fit, got one of other data: its gates do not "
                    "give its patterns on X, or it is complete for another X."
                )
            return given.rows(data.first, rows)
        random_state = check_random_state(self.random_state)
        exact = self.patterns == "exact"
        if self.patterns == "auto":
            exact = least_count(rows, self.n_patterns) <= self.n_patterns
        if exact:
            try:
                return self._every_pattern(data.task)
            except ValueError:
                if self.patterns == "exact":
                    raise
        seed = random_state.randint(np.iinfo(np.int32).max)
        return sample_patterns(rows, self.n_patterns, random_state=seed)

    @staticmethod
    def _every_pattern(task: Task) -> Arrangement:
        """The complete list of patterns, and for gates without a bias those of gates on hyperplanes."""
        listed = enumerate_patterns(task.rows)
        if not task.neuron.activation.cones and not task.neuron.has_bias:
            # Gates are open on their hyperplane: some patterns are those of gates on it alone.
            listed = with_faces(task.rows, listed)
        return listed

    def _previous_network(self, data: Prepared) -> Network | None:
        """The network to start from: of the previous fit, if ``warm_start`` and it is of the same kind, or init."""
        network = getattr(self, "network_", None) if self.warm_start else None
        task = data.task
        if network is None and self.init is not None:
            return self._initial_network(task)
        if network is None or not network.n_neurons or network.hidden_weights.shape[1] != task.X.shape[1]:
            return None
        same = network.n_outputs == task.n_outputs
        same &= (network.gate_weights is None) == task.neuron.activation.cones
        return network if same and (task.neuron.has_bias or not network.hidden_biases.any()) else None

    def _initial_network(self, task: Task) -> Network:
        """``init`` as a Network; ValueError when it does not fit the data or the activation."""
        try:
            network = network_from(self.init, hidden_bias=self.hidden_bias)
        except ValueError as error:
            raise ValueError(f"init does not fit: {error}") from None
        n_features = network.hidden_weights.shape[1]
        if n_features != task.X.shape[1] or network.n_outputs != task.n_outputs:
            raise ValueError(
                f"init must have {task.X.shape[1]} features and {task.n_outputs} outputs, got {n_features} features "
                f"and {network.n_outputs} outputs."
            )
        if (network.gate_weights is None) != task.neuron.activation.cones:
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
        choice("hidden_bias", HIDDEN_BIASES)
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
        lines = [f"{head}{self.n_iter_} iterations", how_it_ended(self.result_, self.certificate_)]
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
        return to_sklearn(self.network_, alpha=self.alpha_, **self._facts())

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
        return to_onnx(self.network_, path, dtype=dtype, certificate=self.certificate_, **self._facts())

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
        save_safetensors(self.network_, path, certificate=self.certificate_, **self._facts())

    def _facts(self):
        """What an export must know beside the weights."""
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        return dict(loss=self.certificate_.loss, classes=classes, feature_names=names)

    def _checked(self, X, y, **options):
        """X in double precision, in which networks are trained, and y; the precision that X came in is remembered."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], **options)
        self._dtype = X.dtype
        X = X.astype(float, copy=False)
        if (factor := scale_factor(X)) >= UNEVEN:
            by = f"{factor:,.0f}" if factor < 1e6 else f"{factor:.0e}"
            warnings.warn(
                f"the features differ in scale by a factor of {by}, so that the weight decay all but silences small "
                "ones; standardise them: make_pipeline(StandardScaler(), ...).",
                FeatureScaleWarning,
                stacklevel=6,
            )
        return X, y

    def _scores(self, X):
        """Outputs of the network, in single precision if the training data and X both are."""
        check_is_fitted(self, "network_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.network_.predict(X).astype(np.result_type(X, self._dtype), copy=False)
