"""Trained networks for other software: scikit-learn, torch, ONNX and safetensors."""

from __future__ import annotations

import importlib
import json
import warnings
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neural_network import MLPClassifier, MLPRegressor

from convexnn._version import __version__
from convexnn.files import replacing
from convexnn.losses import Loss, get_loss
from convexnn.network import Network
from convexnn.neurons.activations import Activation
from convexnn.proofs.certificate import Certificate

PROBABILISTIC = ("log_loss", "multinomial_log_loss")
#: What a certificate says of a fit, beside its text.
STATED = ("alpha", "objective", "lower_bound", "relative_gap", "scope", "method", "fit_intercept", "hidden_bias")
# What onnxruntime 1.13 (2022) and later can run.
OPSET, IR_VERSION = 17, 8


def to_sklearn(
    network: Network,
    *,
    loss: str | Loss | None = None,
    classes: ArrayLike | None = None,
    feature_names: ArrayLike | None = None,
    alpha: float = 0.0001,
) -> MLPRegressor | MLPClassifier:
    """A fitted MLPRegressor or MLPClassifier with the predictions of the network.

    A skip connection becomes two neurons an output, x^T s = (s^T x)_+ - (-s^T x)_+.

    Parameters
    ----------
    network : Network
        Of ReLU neurons.
    loss : str or Loss, optional
        What it was trained with; by default "squared", or "log_loss" where classes are given. A classification loss
        gives an MLPClassifier, any other an MLPRegressor.
    classes : array of shape (n_classes,), optional
        Sorted class labels: two for one output, else one an output. By default 0, 1, ...
    feature_names : array of shape (n_features,), optional
        For ``feature_names_in_``.
    alpha : float, default=0.0001
        Parameter of the MLP: the weight decay if it is fitted further.

    Returns
    -------
    model : MLPRegressor or MLPClassifier
        Of one hidden layer, in float64. ``solver="lbfgs"``; ``set_params(warm_start=True).fit(X, y)`` goes on from
        these weights, and so does ``set_params(solver="adam").partial_fit(X, y)``, both with scikit-learn's loss and
        without a penalty of biases. ``loss_`` is NaN, ``t_`` is 0 and ``n_iter_`` is 1: it has seen no data.

    Raises
    ------
    ValueError
        When the network has neurons that are no ReLU, or loss, classes or feature_names do not fit it.

    Warns
    -----
    UserWarning
        When the loss gives no probabilities (hinge losses): ``predict_proba`` of the MLPClassifier is then the logistic
        function of the scores; ``predict`` is right.

    Examples
    --------
    >>> import numpy as np
    >>> network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), -0.5)
    >>> to_sklearn(network).predict([[-3.0], [2.0]])
    array([2.5, 1.5])
    >>> to_sklearn(network, classes=["far away", "near"]).predict([[-3.0], [0.0]]).tolist()
    ['near', 'far away']
    """
    if network.activation.slope:
        raise ValueError(
            f"scikit-learn's MLP has no {network.activation.title} neurons: export network.to_relu(X)[0], which has "
            "two ReLU neurons for each and the same predictions, or use to_torch or to_onnx."
        )
    W1, b1, W2, b2 = _layers(network, "scikit-learn's MLP")
    loss, labels = _task(network, loss, classes)
    options: dict[str, Any] = dict(hidden_layer_sizes=(len(b1),), alpha=float(alpha), solver="adam", random_state=0)
    # One step on empty data lets scikit-learn itself make everything that its version keeps in a fitted model.
    if labels is None:
        targets = np.zeros((2, len(b2)) if len(b2) > 1 else 2)
        model = MLPRegressor(**options).partial_fit(np.zeros((2, len(W1))), targets)
    else:
        model = MLPClassifier(**options).partial_fit(np.zeros((len(labels), len(W1))), labels, classes=labels)
        if loss.name not in PROBABILISTIC:
            warnings.warn(
                f"predict_proba of this MLPClassifier is the logistic function of the scores, which loss={loss.name!r} "
                "does not make a probability; predict is right.",
                stacklevel=2,
            )
    vars(model).pop("_optimizer", None)
    model.set_params(solver="lbfgs")
    model.coefs_, model.intercepts_ = [W1, W2], [b1, b2]
    model.t_, model.loss_, model.loss_curve_, model.best_loss_ = 0, float("nan"), [], float("inf")
    names = _names(network, feature_names)
    if names is not None:
        model.feature_names_in_ = np.array(names, dtype=object)
    return model


def to_torch(network: Network, *, dtype: Any = "float64") -> Any:
    """A torch ``Sequential(Linear, ReLU, Linear)`` with the predictions of the network.

    In the place of ReLU stands ``LeakyReLU`` with the slope below zero of other activations, -1 for the absolute value.
    A skip connection becomes two neurons an output, x^T s = (s^T x)_+ - (-s^T x)_+; a network without neurons gets one
    whose weights are zero.

    Parameters
    ----------
    network : Network
        Any network without gates.
    dtype : {"float64", "float32"} or torch.dtype, default="float64"
        Of the weights, and so of the inputs.

    Returns
    -------
    model : torch.nn.Sequential
        Takes (n_samples, n_features) and gives (n_samples, n_outputs), also for one output; for a classifier the scores
        before the link function: a logit for two classes.

    Raises
    ------
    ImportError
        When torch is not installed.
    ValueError
        When the network has gates, or a skip connection beside absolute values, whose sums are no linear function; or
        when the dtype is another.

    Examples
    --------
    >>> import numpy as np
    >>> network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.5)
    >>> to_torch(network)  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=1, out_features=2, bias=True)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=1, bias=True)
    )
    """
    W1, b1, W2, b2 = _layers(network, "a torch Sequential")
    name = _float(dtype)
    torch = _optional("torch")
    layers = []
    for weight, bias in ((W1, b1), (W2, b2)):
        # Without initial weights, whose drawing would move torch's random numbers.
        layer = torch.nn.utils.skip_init(torch.nn.Linear, *weight.shape, dtype=getattr(torch, name))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers.append(layer)
    slope = network.activation.slope
    return torch.nn.Sequential(layers[0], torch.nn.LeakyReLU(slope) if slope else torch.nn.ReLU(), layers[1])


def to_onnx(
    network: Network,
    path: str | PathLike | None = None,
    *,
    loss: str | Loss | None = None,
    classes: ArrayLike | None = None,
    feature_names: ArrayLike | None = None,
    dtype: Any = "float64",
    **facts: Any,
) -> Any:
    """An ONNX model with the predictions of the network, which onnx.checker has passed.

    Skip connections and gates are in it as they are.

    Parameters
    ----------
    network : Network
        Any network. ``network.for_raw_inputs(scaler.mean_, scaler.scale_)`` is one that takes the features before a
        StandardScaler: scaling and network are then one file.
    path : str or path, optional
        Where to write the model.
    loss : str or Loss, optional
        What it was trained with; by default "squared", or "log_loss" where classes are given.
    classes : array of shape (n_classes,), optional
        Sorted class labels (whole numbers, text, bool): two for one output, else one an output. For classification
        losses by default 0, 1, ...
    feature_names : array of shape (n_features,), optional
        For the metadata.
    dtype : {"float64", "float32"}, default="float64"
        Of the weights and the input. In float32 standardise the features first: raw ones with a mean far from zero lose
        digits.
    **facts
        Whatever else the metadata shall say. A ``certificate=`` is written out: alpha, objective, lower_bound,
        relative_gap, scope, method, fit_intercept, hidden_bias, and its text.

    Returns
    -------
    model : onnx.ModelProto
        Input ``X`` (n_samples, n_features), any number of samples. Regression: output ``prediction``, (n_samples,) or
        (n_samples, n_outputs). Classification: ``label``, (n_samples,), of int64, string, bool or double, and
        ``probabilities``, (n_samples, n_classes), for the log loss, ``scores`` as from ``decision_function`` otherwise.
        ``metadata_props``: text as it is, all else in JSON; always "convexnn_version", "loss" with its parameters and
        "hidden_bias", and "classes" and "feature_names" where they are known.

    Raises
    ------
    ImportError
        When onnx is not installed.
    ValueError
        When loss, classes, feature_names or dtype do not fit.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.5)
    >>> model = to_onnx(network, alpha=0.1)
    >>> [node.op_type for node in model.graph.node]
    ['Gemm', 'Relu', 'Gemm', 'Squeeze']
    """
    name = _float(dtype)
    loss, labels = _task(network, loss, classes)
    metadata = _metadata(network, dict(facts, loss=loss, classes=labels, feature_names=_names(network, feature_names)))
    onnx = _optional("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    nodes, constants, outputs = [], [], []

    def constant(label, value):
        constants.append(onnx.numpy_helper.from_array(np.asarray(value), label))
        return label

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def declare(label, kind, *columns):
        outputs.append(helper.make_tensor_value_info(label, getattr(types, kind), ["n_samples", *columns]))

    weights = {key: constant(key, value.astype(name)) for key, value in _matrices(network).items()}
    width, real = network.n_outputs, {"float64": "DOUBLE", "float32": "FLOAT"}[name]
    zero, column = constant("zero", np.zeros((), dtype=name)), constant("column", np.array([1]))
    z = node("Gemm", ["X", weights["hidden_weights"], weights["hidden_biases"]], "preactivations", transB=1)
    if network.gate_weights is None:
        z = _hidden_nodes(network.activation, z, node, lambda value: constant("slope", np.asarray(value, dtype=name)))
    else:
        gates = node("Gemm", ["X", weights["gate_weights"], weights["gate_biases"]], "gates", transB=1)
        z = node("Where", [node("GreaterOrEqual", [gates, zero], "open"), z, zero], "hidden")
    z = node("Gemm", [z, weights["output_weights"], weights["output_bias"]], "network")
    if network.skip_weights is not None:
        z = node("Add", [z, node("MatMul", ["X", weights["skip_weights"]], "linear")], "with_linear")
    if labels is not None:
        if width == 1:
            code = node("Squeeze", [node("Greater", [z, zero], "positive"), column], "second_class")
            code = node("Cast", [code], "code", to=types.INT64)
        else:
            code = node("ArgMax", [z], "code", axis=1, keepdims=0)
        # As Python's own values: whole numbers of any width are int64, and text in object arrays is text.
        plain = np.array(labels.tolist())
        kind = {"b": "BOOL", "i": "INT64", "f": "DOUBLE", "U": "STRING"}.get(plain.dtype.kind)
        if kind is None:
            raise ValueError(f"classes must be whole numbers, text or bool for ONNX, got dtype {labels.dtype}.")
        node("Gather", [constant("classes", plain.astype(object) if kind == "STRING" else plain), code], "label")
        declare("label", kind)
    if labels is not None and loss.name in PROBABILISTIC:
        if width == 1:
            both = [node("Sigmoid", [node("Neg", [z], "negated")], "first"), node("Sigmoid", [z], "second")]
            node("Concat", both, "probabilities", axis=1)
        else:
            node("Softmax", [z], "probabilities", axis=1)
        declare("probabilities", real, len(labels))
    else:
        last = "prediction" if labels is None else "scores"
        node("Squeeze", [z, column], last) if width == 1 else node("Identity", [z], last)
        declare(last, real, *([width] if width > 1 else []))
    used = {label for each in nodes for label in each.input}
    graph = helper.make_graph(
        nodes,
        "convexnn",
        [helper.make_tensor_value_info("X", getattr(types, real), ["n_samples", network.hidden_weights.shape[1]])],
        outputs,
        [each for each in constants if each.name in used],
    )
    model = helper.make_model(
        graph,
        producer_name="convexnn",
        producer_version=metadata["convexnn_version"],
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        with replacing(path) as file:
            file.write(model.SerializeToString())
    return model


def _hidden_nodes(activation: Activation, z: str, node: Any, constant: Any) -> str:
    """The nodes of an activation on pre-activations z: max(z, 0) - slope max(-z, 0)."""
    if activation.slope == 0:
        return node("Relu", [z], "hidden")
    if activation.even:
        return node("Abs", [z], "hidden")
    below = node("Relu", [node("Neg", [z], "below")], "below_zero")
    bent = node("Mul", [below, constant(activation.slope)], "bent")
    return node("Sub", [node("Relu", [z], "above_zero"), bent], "hidden")


def save_safetensors(network: Network, path: str | PathLike, **facts: Any) -> None:
    """Write the weights, bitwise, to a .safetensors file.

    Parameters
    ----------
    network : Network
        Any network.
    path : str or path
        File name.
    **facts
        What the metadata of the file shall say, such as loss, classes, feature_names: text as it is, all else in JSON.
        A ``certificate=`` is written out as by ``to_onnx``. Always there are "convexnn_version" and "hidden_bias".

    Raises
    ------
    ImportError
        When safetensors is not installed.
    OSError
        When the file cannot be written.

    Notes
    -----
    Tensors have the names and shapes of Network's parameters. ``safetensors.safe_open(path, "np").metadata()`` reads
    the metadata.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(network, f"{folder}/model.safetensors", alpha=0.1)
    ...     print(load_safetensors(f"{folder}/model.safetensors"))
    Network(2 ReLU neurons, 1 feature, 1 output)
    """
    numpy = _optional("safetensors.numpy")
    weights = network.arrays | dict(slope=network.activation.slope)
    tensors = {key: np.array(value, dtype=float, order="C") for key, value in weights.items()}
    content = numpy.save(tensors, _metadata(network, facts))
    with replacing(path) as file:
        file.write(content)


def load_safetensors(path: str | PathLike) -> Network:
    """Read a network that ``save_safetensors`` wrote.

    Parameters
    ----------
    path : str or path
        A .safetensors file.

    Returns
    -------
    network : Network
        With bitwise the same weights.

    Raises
    ------
    ImportError
        When safetensors is not installed.
    ValueError
        When the file is not a .safetensors file, or does not hold the weights of a network: see
        ``Network.from_weights``.
    OSError
        When the file cannot be read.
    """
    safetensors = _optional("safetensors")
    with open(path, "rb"):
        # For the usual OSError.
        pass
    try:
        with safetensors.safe_open(path, "np") as file:
            names = [*Network.__dataclass_fields__, "slope"]
            weights: dict[str, Any] = {key: file.get_tensor(key) for key in names if key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, TypeError) as error:
        # NumPy has no such dtype, for the second.
        raise ValueError(f"{path} is not a .safetensors file of a network: {error}") from None
    # A certificate's is beside the weights, and may be "none": then there is nothing to penalise.
    hidden_bias = metadata.get("hidden_bias", "none")
    weights["hidden_bias"] = "penalized" if hidden_bias == "none" else hidden_bias
    weights["activation"] = metadata.get("activation")
    return Network.from_weights(weights, path)


def _optional(module: str) -> Any:
    """An optional package, or an ImportError that says how to get it."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f'this export needs {package}, which is not installed: pip install "convexnn[{package}]"'
        ) from None


def _float(dtype: Any) -> str:
    """ "float64" or "float32", however it is said."""
    name = getattr(dtype, "__name__", str(dtype)).removeprefix("torch.")
    if name not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}.")
    return name


def _matrices(network: Network) -> dict[str, NDArray]:
    """The weights by name, outputs as columns; at least one neuron, if of zero weights: not all software takes none."""
    columns = ("output_weights", "skip_weights")
    found = {key: np.asarray(value) for key, value in network.arrays.items()}
    for key in columns:
        if key in found:
            found[key] = found[key].reshape(-1, network.n_outputs)
    found["output_bias"] = np.broadcast_to(found["output_bias"], (network.n_outputs,))
    if not network.n_neurons:
        neurons = [key for key in found if key not in ("output_bias", "skip_weights")]
        found |= {key: np.zeros((1, *found[key].shape[1:])) for key in neurons}
    return found


def _layers(network: Network, target: str) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Weights and biases of two dense layers, in the shapes of scikit-learn, with neurons for a skip connection."""
    if network.gate_weights is not None:
        raise ValueError(
            f"{target} cannot hold gates: export network.to_relu(X)[0], which predicts the same on the data X, or use "
            "to_onnx, which keeps gates."
        )
    found = _matrices(network)
    W1, b1, W2 = found["hidden_weights"].T, found["hidden_biases"], found["output_weights"]
    if "skip_weights" in found:
        if network.activation.even:
            raise ValueError(
                f"{target} of absolute values cannot hold a skip connection: export network.to_relu(X)[0], which has "
                "two ReLU neurons for each and the same predictions, or use to_onnx."
            )
        # sigma(z) - sigma(-z) = (1 + slope) z.
        S, k = found["skip_weights"], network.n_outputs
        whole = np.eye(k) / (1 + network.activation.slope)
        W1, b1 = np.hstack([W1, S, -S]), np.concatenate([b1, np.zeros(2 * k)])
        W2 = np.vstack([W2, whole, -whole])
    return tuple(np.array(each, dtype=float, order="C") for each in (W1, b1, W2, found["output_bias"]))  # type: ignore


def _task(network: Network, loss: str | Loss | None, classes: ArrayLike | None) -> tuple[Loss, NDArray | None]:
    """The loss, and the class labels if it is one for classification."""
    k = network.n_outputs
    known = get_loss(loss if loss is not None else "squared" if classes is None else "log_loss", k)
    if known.target == "real":
        if classes is not None:
            raise ValueError(f"classes must be left out for loss={known.name!r}, which is for regression.")
        return known, None
    if known.target == "signs" and k > 1:
        raise ValueError(f"loss={known.name!r} is for networks of one output, got one of {k} outputs.")
    n_classes = max(k, 2)
    labels = np.arange(n_classes) if classes is None else np.asarray(classes)
    if labels.shape != (n_classes,) or not np.array_equal(np.unique(labels), labels):
        raise ValueError(
            f"classes must be {n_classes} distinct labels in sorted order for a network of {k} output"
            f"{'' if k == 1 else 's'}, got {labels.tolist()}."
        )
    return known, labels


def _names(network: Network, feature_names: ArrayLike | None) -> list[str] | None:
    """The names of the features as text."""
    if feature_names is None:
        return None
    names = [str(name) for name in np.asarray(feature_names, dtype=object).ravel()]
    if len(names) != network.hidden_weights.shape[1]:
        raise ValueError(f"feature_names must be {network.hidden_weights.shape[1]} names, got {len(names)}.")
    return names


def _metadata(network: Network, facts: dict[str, Any]) -> dict[str, str]:
    """Facts as text; a loss by its name, with its parameters beside it, a certificate by what it states."""
    activation = network.activation
    own: dict[str, Any] = {"hidden_bias": network.hidden_bias, "activation": activation.name, "slope": activation.slope}
    facts = {"convexnn_version": __version__} | own | facts
    loss, certificate = facts.get("loss"), facts.get("certificate")
    if isinstance(certificate, Certificate):
        facts |= {key: getattr(certificate, key) for key in STATED} | {"certificate": str(certificate)}
    if loss is not None and not isinstance(loss, str):
        facts |= {"loss": loss.name, **vars(loss)}

    def plain(value):
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return {
        key: value if isinstance(value, str) else json.dumps(value, default=plain)
        for key, value in facts.items()
        if value is not None
    }
