"""What the scikit-learn estimators share: their parameters, what fits leave, and exports."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.analysis.audit import network_from
from convexnn.arrangements import Arrangement
from convexnn.engine import PROVING, Settings, Training
from convexnn.estimators.feature_scales import UNEVEN, FeatureScaleWarning, scale_factor
from convexnn.estimators.progress import Progress, plain_entry
from convexnn.export import save_safetensors, to_onnx, to_sklearn, to_torch
from convexnn.fits import Sample, how_it_ended
from convexnn.listing import LISTINGS, listing_of
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.neurons.activations import get_activation
from convexnn.neurons.neuron import HIDDEN_BIASES, Neuron
from convexnn.program.result import REMEDIES
from convexnn.program.task import Task
from convexnn.solvers import SOLVERS

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9: estimators have no set_callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        pass

    def with_callbacks(method):
        return method


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

    def _train(self, sample: Sample, *, alphas: Callable[[float], Sequence[float]] | None = None) -> Training:
        """Everything after the targets are coded: a fit for the estimator's alpha, or for each of a decreasing
        sequence, a function of alpha_max."""
        task = self._task_of(sample)
        return Training(sample, task, self._settings(task), alphas)

    def _settings(self, task: Task) -> Settings:
        """The parameters as the engine takes them."""
        solver = self.solver if self.solver != "auto" else "newton" if task.smooth else "cvxpy"
        watched = self.verbose or hasattr(self, "_callback_fit_ctx")
        return Settings(
            None if self.alpha == "auto" else float(self.alpha),
            listing_of(self.patterns, self.n_patterns),
            SOLVERS[solver],
            self.tol,
            self.max_iter,
            self.max_time,
            PROVING[self.certify],
            check_random_state(self.random_state).randint(np.iinfo(np.int32).max),
            self._previous_network(task),
            partial(Progress, self) if watched else None,
        )

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

    def _previous_network(self, task: Task) -> Network | None:
        """The network to start from: of the previous fit, if ``warm_start`` and it is of the same kind, or init."""
        network = getattr(self, "network_", None) if self.warm_start else None
        if network is None and self.init is not None:
            return self._initial_network(task)
        if network is None or not network.n_neurons or network.hidden_weights.shape[1] != task.X.shape[1]:
            return None
        same = network.n_outputs == task.n_outputs
        same &= network.activation == task.neuron.activation
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
        if network.activation != task.neuron.activation:
            raise ValueError(
                f"init must have {task.neuron.activation.title} neurons, got {network.activation.title} ones; "
                "network.to_relu(X)[0] is a ReLU network with the same predictions on X."
            )
        return network.balance()

    def _check_parameters(self, losses):
        """ValueError that names the parameter, what was expected and what came."""

        number, choice = partial(_check_number, self), partial(_check_choice, self)
        number("alpha", Real, 0, strict=True, special=("auto",))
        number("n_patterns", Integral, 1)
        number("tol", Real, 0)
        number("max_iter", Integral, 1)
        number("max_time", Real, 0, special=(None,))
        number("verbose", Integral, 0) if not isinstance(self.verbose, bool) else None
        activation = get_activation(self.activation)
        choice("solver", ["auto", *SOLVERS])
        choice("hidden_bias", HIDDEN_BIASES)
        if self.hidden_bias == "free" and not activation.cones:
            raise ValueError(
                "hidden_bias='free' needs an activation without gates, got 'gated_relu': without a cone a free bias is "
                "a free step function of the gate, and enough of those fit anything."
            )
        if not isinstance(self.patterns, Arrangement):
            choice("patterns", LISTINGS)
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


def _check_number(estimator, name, kind, low, *, strict=False, special=()):
    """ValueError unless a parameter is a number of a kind, at least or above ``low``, or one of special values."""
    value = getattr(estimator, name)
    if any(value is s or (isinstance(value, str) and value == s) for s in special):
        return
    good = isinstance(value, kind) and not isinstance(value, bool) and np.isfinite(value)
    if not good or value < low or (strict and value == low):
        what = "an integer" if kind is Integral else "a finite number"
        extra = "".join(f" or {s!r}" for s in special)
        raise ValueError(f"{name} must be {what} {'>' if strict else '>='} {low}{extra}, got {value!r}.")


def _check_choice(estimator, name, options):
    """ValueError unless a parameter is one of some names."""
    value = getattr(estimator, name)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {sorted(options)}, got {value!r}.")
