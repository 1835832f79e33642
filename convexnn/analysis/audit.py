"""How good is a network that was trained elsewhere: conversion, polishing on its own patterns, and the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, log10
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.arrangements import patterns_of
from convexnn.budget import STOPS, Budget, current
from convexnn.files import read_arrays
from convexnn.losses import Loss, get_loss
from convexnn.network import Network, real_array
from convexnn.neurons.activations import Activation
from convexnn.program.cells import Cells
from convexnn.program.conversion import coef_of, network_of
from convexnn.program.problem import Problem
from convexnn.program.result import relative_gap
from convexnn.program.task import Task
from convexnn.program.units import Units
from convexnn.proofs import prove as proofs
from convexnn.proofs.certificate import Certificate
from convexnn.proofs.graded import task_of
from convexnn.search.column_generation import solve_adaptively
from convexnn.solvers import CvxpySolver, Newton

EXPECTED = (
    "model must be a Network, a fitted estimator with one hidden ReLU layer (ConvexReLURegressor, MLPRegressor, ...), "
    "a torch Sequential(Linear, ReLU, Linear), arrays (W1, b1, W2, b2) or (W1, W2), or the path of an .npz file"
)
# Improvements below this share of the objective are not put into words.
NOTEWORTHY = 1e-6


def network_from(model: Any, *, hidden_bias: str | None = None) -> Network:
    """The Network of a model with one hidden ReLU layer, whoever trained it.

    Parameters
    ----------
    model : Network, fitted estimator, torch module, arrays or path
        A Network; a fitted ConvexReLURegressor or ConvexReLUClassifier; a fitted MLPRegressor or MLPClassifier with
        one hidden layer and ``activation="relu"``; a torch ``Sequential(Linear, ReLU, Linear)``; a tuple or list
        (W1, b1, W2, b2) or (W1, W2) in the shapes of scikit-learn: (n_features, n_hidden), (n_hidden,),
        (n_hidden,) or (n_hidden, n_outputs), () or (n_outputs,); the path of an .npz file that ``Network.save`` wrote
        or that holds the arrays W1, W2 and perhaps b1, b2.
    hidden_bias : {"penalized", "free", "none"}, optional
        Whether the weight decay counts hidden biases; "none" demands that there are none. By default what a Network or
        a file says, "free" for MLPRegressor and MLPClassifier, which decay no bias, and "penalized" for the rest.

    Returns
    -------
    network : Network
        With the same predictions, in float64; for a classifier its scores before the link function.

    Raises
    ------
    ValueError
        When the model is of another kind, not fitted, has more hidden layers or another activation, weights whose
        shapes do not fit or that are not finite, or hidden biases although ``hidden_bias="none"``.

    Examples
    --------
    >>> import numpy as np
    >>> network = network_from((np.array([[1.0, -1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.5))
    >>> network.predict([[-3.0], [2.0]])
    array([3.5, 2.5])
    """
    if hidden_bias not in (None, "penalized", "free", "none"):
        raise ValueError(f"hidden_bias must be 'penalized', 'free' or 'none', got {hidden_bias!r}.")
    network = getattr(model, "network_", model)
    if isinstance(network, Network):
        _check_finite(network.arrays)
    elif isinstance(model, (str, PathLike)):
        network = network_in(read_arrays(model), model)
    elif isinstance(model, (tuple, list)):
        network = _from_arrays(*_four(model))
    elif hasattr(model, "coefs_") and hasattr(model, "intercepts_"):
        network = replace(_from_mlp(model), hidden_bias="free")
    elif hasattr(model, "named_children") and hasattr(model, "__iter__"):
        network = _from_torch(model)
    else:
        unfitted = " that is not fitted" if hasattr(model, "get_params") and hasattr(model, "fit") else ""
        raise ValueError(f"{EXPECTED}, got {model!r}{unfitted}.")
    if hidden_bias == "none" and network.hidden_biases.any():
        raise ValueError("model must have no hidden biases for hidden_bias='none', got a network with biases.")
    return network if hidden_bias in (None, "none") else replace(network, hidden_bias=hidden_bias)


def _four(arrays) -> tuple:
    if len(arrays) not in (2, 4):
        raise ValueError(f"{EXPECTED}, got {len(arrays)} arrays.")
    return tuple(arrays) if len(arrays) == 4 else (arrays[0], None, arrays[1], None)


def _from_arrays(W1, b1, W2, b2) -> Network:
    """The network of weights in scikit-learn's shapes; missing biases are zero."""
    try:
        W1, W2 = real_array(W1, "W1"), real_array(W2, "W2")
        m, outputs = W1.shape[-1] if W1.ndim else 0, W2.shape[1:]
        b1 = np.zeros(m) if b1 is None else real_array(b1, "b1")
        b2 = np.zeros(outputs) if b2 is None else real_array(b2, "b2")
    except (TypeError, ValueError) as error:
        raise ValueError(f"model must have numeric weights: {error}") from None
    if outputs == (1,):
        W2, outputs = W2[:, 0], ()
    if not outputs and b2.shape == (1,):
        b2 = b2[0]
    fits = W1.ndim == 2 and b1.shape == (m,) and W2.shape == (m, *outputs) and W2.ndim <= 2 and b2.shape == outputs
    if not fits:
        raise ValueError(
            "model must have weights of shapes (n_features, n_hidden), (n_hidden,), (n_hidden, n_outputs) or "
            f"(n_hidden,), and (n_outputs,), got {W1.shape}, {b1.shape}, {W2.shape} and {b2.shape}."
        )
    return Network(np.ascontiguousarray(W1.T), b1.copy(), W2.copy(), b2 if outputs else float(b2))


def _check_finite(weights: dict) -> None:
    for name, value in weights.items():
        if value is not None and not isinstance(value, str) and not np.isfinite(value).all():
            raise ValueError(f"model must have finite weights, got NaN or infinity in {name}.")


def _from_mlp(model) -> Network:
    if len(model.coefs_) != 2:
        raise ValueError(f"model must have one hidden layer, got {len(model.coefs_) - 1}.")
    if model.activation != "relu":
        raise ValueError(f"model must have activation='relu', got {model.activation!r}.")
    out, n_outputs = getattr(model, "out_activation_", "identity"), model.coefs_[1].shape[1]
    if out not in ("identity", "logistic", "softmax"):
        raise ValueError(f"model must have an identity, logistic or softmax output, got {out!r}.")
    if out == "logistic" and n_outputs > 1:
        raise ValueError(f"model must have one label a sample, got a multilabel classifier of {n_outputs} labels.")
    return _from_arrays(model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1])


def _from_torch(model) -> Network:
    layers = list(model)
    kinds = [type(layer).__name__ for layer in layers]
    if kinds[::2] != ["Linear", "Linear"] or len(kinds) != 3 or kinds[1] not in ("ReLU", "LeakyReLU"):
        raise ValueError(
            f"model must be a torch Sequential(Linear, ReLU, Linear), or with LeakyReLU, got layers {kinds}."
        )
    weights = []
    for layer in layers[::2]:
        weights.append(layer.weight.detach().cpu().numpy().T)
        weights.append(None if layer.bias is None else layer.bias.detach().cpu().numpy())
    network, slope = _from_arrays(*weights), float(getattr(layers[1], "negative_slope", 0.0))
    return replace(network, activation=Activation("leaky_relu", slope)) if slope else network


def network_in(arrays: dict, path: str | PathLike) -> Network:
    """The Network of the arrays of a file: those that ``Network.save`` writes, or W1, W2 and perhaps b1, b2.

    Parameters
    ----------
    arrays : dict of arrays
        By name; others are left out.
    path : str or path
        The file, for error messages.

    Returns
    -------
    network : Network

    Raises
    ------
    ValueError
        When they are no network.
    """
    if not {"W1", "W2"} <= set(arrays):
        return Network.from_weights(arrays, path)
    try:
        return _from_arrays(*(arrays.get(name) for name in ("W1", "b1", "W2", "b2")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True, eq=False)
class Audit:
    """What a network is worth: its objective, better networks, and a proved bound on all networks.

    Attributes
    ----------
    network : Network
        The network as it was trained.
    objective : float
        Its weight-decay objective.
    balanced_objective : float
        That of the same function after rescaling each neuron.
    polished : Network
        The best network found on its own activation patterns; never worse.
    polished_objective : float
        Its objective.
    improved : Network or None
        The best network found over all patterns; None if ``improve=False``.
    improved_objective : float or None
        Its objective.
    lower_bound : float or None
        No two-layer ReLU network of any width has a smaller objective; None when nothing was proved.
    gap : float or None
        (objective - lower_bound) / objective; None when nothing was proved.
    certificate : Certificate or None
        The proof, grading the best network found. Where neurons feed several outputs it is about alpha divided by the
        root of the number of outputs.
    verdict : str
        The above in words; every percentage in it is proved and rounded to the safe side.
    weight_decay : str
        Beside which sum alpha stands, and which alpha a model of scikit-learn was trained with: one that saw
        mini-batches of B of n rows at ``alpha=a`` had a n / B.
    """

    network: Network
    objective: float
    balanced_objective: float
    polished: Network
    polished_objective: float
    improved: Network | None
    improved_objective: float | None
    lower_bound: float | None
    gap: float | None
    certificate: Certificate | None
    verdict: str
    weight_decay: str

    def __str__(self) -> str:
        def found(objective, network):
            saved = 1 - objective / self.objective if self.objective > 0 else 0.0
            change = f"{_percent(saved, up=False)} lower" if saved > NOTEWORTHY else "no lower"
            return f"{objective:.8g} ({change}, {_count(network)})"

        lines = [
            ("weight decay", self.weight_decay),
            ("as trained", f"{self.objective:.8g} ({_count(self.network)})"),
            ("balanced", found(self.balanced_objective, self.network)),
            ("polished", found(self.polished_objective, self.polished)),
        ]
        if self.improved is not None:
            lines.append(("improved", found(self.improved_objective, self.improved)))
        proved = "none proved" if self.lower_bound is None else f"{self.lower_bound:.8g} ({self.certificate.method})"  # type: ignore[union-attr]
        lines += [("lower bound", proved), ("verdict", self.verdict)]
        return "\n".join(f"{label:<15} {text}" for label, text in lines)


def audit(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    alpha: float,
    *,
    loss: str | Loss | None = None,
    sample_weight: ArrayLike | None = None,
    hidden_bias: str | None = None,
    fit_intercept: bool = True,
    improve: bool = False,
    certify: bool = True,
    tol: float = 1e-6,
    max_time: float | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> Audit:
    r"""Report how far a trained network is from the best one.

    The network is rescaled, polished (the convex optimum on its own activation patterns), if wanted improved (a search
    over all patterns), and compared with a lower bound on the objective of every two-layer ReLU network,

        sum_i s_i l(y_i, f(x_i)) + alpha / 2 * sum_j (|w_j|^2 + b_j^2 + |a_j|^2).

    Parameters
    ----------
    model
        Whatever ``network_from`` takes.
    X : array of shape (n_samples, n_features)
        The data as the network saw it: standardised, if it was trained on standardised data.
    y : array of shape (n_samples,)
        Targets, or class labels: those of ``model.classes_`` or, without them, coded in sorted order.
    alpha : float
        Weight decay on a *sum* of losses, as of training with full batches: ``MLPRegressor(alpha=a)`` has a with
        ``solver="lbfgs"`` or ``batch_size=len(X)``, and a len(X) / B with mini-batches of B rows (200 by default). The
        report says which. docs/weight_decay.md translates the conventions of other packages.
    loss : str or Loss, optional
        By default that of our own estimators, "log_loss" for other classifiers and several outputs, else "squared".
    sample_weight : array of shape (n_samples,), optional
        Non-negative factors of the losses.
    hidden_bias : {"penalized", "free", "none"}, optional
        As in ``network_from``.
    fit_intercept : bool, default=True
        Whether networks may have an unpenalised output bias.
    improve : bool, default=False
        Search all activation patterns, from the polished network.
    certify : bool, default=True
        Prove a lower bound.
    tol : float, default=1e-6
        Relative gap at which polishing and improving stop.
    max_time : float, optional
        Limit in seconds. Polishing, improving and proving each get an equal share of what is left when they start. By
        default only proving has one, that of ``certify``.
    random_state : int, Generator or None, default=0
        Seed of the searches.

    Returns
    -------
    audit : Audit
        ``print`` shows it.

    Raises
    ------
    ValueError
        When the model cannot be converted, or does not fit the data, the loss or the options.

    Notes
    -----
    Where a neuron feeds m > 1 outputs, with weights a, its decay is alpha |w| |a|_2 >= alpha / sqrt(m) |w| |a|_1, and
    the right-hand side is the decay of m neurons that feed one output each. So the bound for such networks, at
    alpha / sqrt(n_outputs), holds for all networks at alpha.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 21)[:, None]
    >>> weights = np.array([[1.0, -1.0]]), np.zeros(2), np.ones(2), 0.0
    >>> report = audit(weights, X, np.abs(X[:, 0]), alpha=0.1, certify=False)
    >>> bool(report.polished_objective <= report.objective)
    True
    """
    _check_limits(tol, max_time)
    budget = Budget(max_time)
    if hidden_bias is None and hasattr(model, "network_"):
        hidden_bias = getattr(model, "hidden_bias", None)
    network = network_from(model, hidden_bias=hidden_bias)
    kind = hidden_bias or network.hidden_bias
    the_loss = _loss(model, network, loss)
    task = _task(network, X, _coded(model, network, the_loss, y), alpha, the_loss, sample_weight, fit_intercept, kind)
    stages = 1 + improve + certify

    def share(stage):
        return None if budget.left is None else budget.left / (stages - stage)

    def value(candidate):
        return candidate.objective(task.X, task.y, alpha, the_loss, task.sample_weight)

    with budget:
        polished = _polished(network, task, alpha, tol, share(0))
    best, improved, theta, certificate, bound = polished, None, None, None, None
    if improve:
        better = polished
        try:
            with budget:
                better, theta = _improved(polished, task, alpha, tol, share(1), random_state)
        except STOPS as stop:
            budget.stop(stop)
        best = improved = min(better, polished, key=value)
    if certify:
        at = alpha
        # |a|_1 <= sqrt(n_outputs) |a|_2 for neurons that feed several outputs
        if _feeds_several(network):
            at, theta = alpha / np.sqrt(network.n_outputs), None
        limit = {} if max_time is None else dict(max_time=share(stages - 1))
        given: Any = dict(loss=the_loss, sample_weight=task.sample_weight, fit_intercept=fit_intercept, theta=theta)
        given |= dict(hidden_bias=kind, random_state=random_state)
        with budget:
            certificate = proofs.certify(best, task.X, task.y, alpha=at, **given, **limit)
        if certificate.scope == "global" and np.isfinite(certificate.lower_bound):
            bound = float(certificate.lower_bound)
    objective = value(network)
    return Audit(
        network,
        objective,
        min(value(network.balance()), objective),
        polished,
        value(polished),
        improved,
        None if improved is None else value(improved),
        bound,
        None if bound is None else relative_gap(objective, bound),
        certificate,
        _verdict(objective, value(best), bound, network, best, kind),
        _weight_decay(model, float(alpha), len(task.y)),
    )


def polish(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
    hidden_bias: str | None = None,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    max_time: float | None = None,
) -> Network:
    """The optimum over networks whose neurons have the activation patterns of a given network, never worse than it.

    The convex program over these patterns, with output weights of both signs for each, is solved from the network's
    own weights. The smallest of three objectives, evaluated from the weights, wins: the network, the network balanced,
    and the solution.

    Parameters
    ----------
    network : Network
        A ReLU network.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    y : array of shape (n_samples,)
        Targets in the coding of the loss.
    alpha : float
        Weight decay on a sum of losses.
    loss : str or Loss, default="squared"
        A key of LOSSES or a loss object.
    sample_weight : array of shape (n_samples,), optional
        Non-negative factors of the losses.
    hidden_bias : {"penalized", "free", "none"}, optional
        By default ``network.hidden_bias``; with "none" the polished network has no hidden biases either.
    fit_intercept : bool, default=True
        Whether there is an unpenalised output bias.
    tol : float, default=1e-6
        Relative gap over the patterns at which the solver stops.
    max_time : float, optional
        Limit in seconds.

    Returns
    -------
    polished : Network
        Its neurons feed one output each unless such a network is worse than the given one, whose neurons may feed
        several: that is possible because |a|_2 <= |a|_1.

    Raises
    ------
    ValueError
        When the network has gates or does not fit the data, the loss or the options.
    """
    network = network_from(network, hidden_bias=hidden_bias)
    hidden_bias = hidden_bias or network.hidden_bias
    loss = get_loss(loss, network.n_outputs)
    _check_limits(tol, max_time)
    task = _task(network, X, y, alpha, loss, sample_weight, fit_intercept, hidden_bias)
    return _polished(network, task, alpha, tol, max_time)


def _polished(network: Network, task: Task, alpha: float, tol: float, max_time: float | None) -> Network:
    """The best of the network, the network balanced, and the solution over its patterns."""
    balanced = network.balance()
    with Budget(max_time) as budget:
        try:
            solution = _solution(balanced, task, alpha, tol, max_time)
        except STOPS as stop:
            budget.stop(stop)
            solution = balanced
    grade = task.X, task.y, alpha, task.loss, task.sample_weight
    return min(solution, balanced, network, key=lambda candidate: candidate.objective(*grade))


def _solution(balanced: Network, task: Task, alpha: float, tol: float, max_time: float | None) -> Network:
    """The network of the convex program over the patterns of a balanced one."""
    units = Units.of(task)
    arrangement = patterns_of(balanced, task.X, hidden_bias=task.neuron.hidden_bias)
    problem = Problem.listing(units.task(task), arrangement.patterns.T, units.level(alpha))
    solver = Newton(tol=tol, max_time=max_time) if task.smooth else CvxpySolver(tol=tol, max_time=max_time)
    result = solver.solve(problem, coef_of(units.neurons(balanced), problem))
    return _pruned(network_of(problem, result.coef, result.intercept), units, task.X)


def _pruned(network: Network, units: Units, X: NDArray) -> Network:
    """The network merged, in the units of the user, and pruned; or as it is where there is no time for that."""
    budget = current()
    try:
        with budget.conclusion():
            return units.network(network.merge()).prune(X)
    except STOPS as stop:
        budget.stop(stop)
        return units.network(network)


def _improved(
    network: Network, task: Task, alpha: float, tol: float, max_time: float | None, random_state
) -> tuple[Network, NDArray]:
    """Network and dual point from a search over all patterns that starts at the neurons of the given network."""
    units = Units.of(task)
    normal = units.task(task)
    solver = (Newton if task.smooth else CvxpySolver)(tol=tol, max_time=max_time)
    cells = Cells.of_network(units.neurons(network), normal.rows, task.neuron)
    rng = np.random.default_rng(random_state)
    problem, result, _ = solve_adaptively(normal, units.level(alpha), solver, cells, rng)
    found = network_of(problem, result.coef, result.intercept)
    return _pruned(found, units, task.X), units.theta * result.theta


def _feeds_several(network: Network) -> bool:
    """Whether some neuron feeds more than one output."""
    fed = network.output_weights.reshape(network.n_neurons, network.n_outputs) != 0
    return bool((fed.sum(axis=1) > 1).any())


def _loss(model, network: Network, loss: str | Loss | None) -> Loss:
    if loss is None and hasattr(model, "network_"):
        loss = getattr(model, "loss", None)
    if loss is None:
        loss = "log_loss" if hasattr(model, "classes_") or network.n_outputs > 1 else "squared"
    chosen = get_loss(loss, network.n_outputs)
    # One output tells two classes apart.
    return get_loss("log_loss") if chosen.target == "classes" and network.n_outputs == 1 else chosen


def _coded(model, network: Network, loss: Loss, y: ArrayLike) -> ArrayLike:
    """Labels as -1 / +1 or class indices; targets of regression as they are."""
    if loss.target == "real":
        return y
    y, n_classes = np.asarray(y), max(network.n_outputs, 2)
    classes = np.asarray(getattr(model, "classes_", np.unique(y)))
    if len(classes) != n_classes:
        raise ValueError(f"y must have {n_classes} classes to match the outputs, got {classes[:10].tolist()}.")
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y must hold classes of the model, {classes[:10].tolist()}, got {unknown[:5].tolist()}.")
    code = np.argsort(classes)[np.searchsorted(np.sort(classes), y)]
    return code if network.n_outputs > 1 else 2.0 * code - 1.0


def _task(network: Network, X, y, alpha, loss: Loss, sample_weight, fit_intercept, hidden_bias) -> Task:
    """The training problem of a network, or a ValueError that says what does not fit."""
    if network.gate_weights is not None:
        raise ValueError("model must be a ReLU network, got a gated ReLU network; use network.to_relu(X).")
    if (network.n_outputs > 1) != (loss.target == "classes"):
        raise ValueError(
            f"model must have {'several outputs' if loss.target == 'classes' else 'one output'} for "
            f"loss={loss.name!r}, got {network.n_outputs}."
        )
    if not (isinstance(alpha, Real) and 0 < float(alpha) < np.inf):
        raise ValueError(f"alpha must be a finite number > 0, got {alpha!r}.")
    if not fit_intercept and hidden_bias != "free" and np.any(network.output_bias):
        raise ValueError("model must have no output bias for fit_intercept=False, got a network with one.")
    task = task_of(network, X, y, loss, sample_weight, fit_intercept, hidden_bias)
    if loss.target != "real":
        # Without samples of a class no optimum exists: its score falls without end.
        found, n_classes = np.unique(task.y), max(network.n_outputs, 2)
        if len(found) != n_classes:
            raise ValueError(
                f"y must have samples of positive weight in each of {n_classes} classes, got {found[:10].tolist()}."
            )
    return task


def _check_limits(tol: float, max_time: float | None) -> None:
    for name, limit in (("tol", tol), ("max_time", max_time)):
        if limit is not None and not 0 <= limit < np.inf:
            raise ValueError(f"{name} must be a finite number >= 0, got {limit!r}.")


def _percent(share: float, *, up: bool) -> str:
    """A share as a percentage of two digits, rounded so that "at most" or "at least" stays true."""
    if not 100 * share > 0:
        return "0 %"
    unit = 10.0 ** (floor(log10(100 * share)) - 1)
    digits = (ceil if up else floor)(100 * share / unit)
    return f"{digits * unit:,.10g} %"


def _weight_decay(model: Any, alpha: float, n: int) -> str:
    """At which alpha the report is, and at which one the model was trained, where it is one of scikit-learn's."""
    ours = f"alpha {alpha:.6g} beside the sum of the losses of all {n} rows"
    if hasattr(model, "network_") or not hasattr(model, "coefs_") or not hasattr(model, "batch_size"):
        return f"{ours}, as of training with full batches"
    given = f"{type(model).__name__}(alpha={model.alpha:g})"
    size = n if model.solver == "lbfgs" else min(200 if model.batch_size == "auto" else model.batch_size, n)
    trained = model.alpha * n / size
    at = "that" if np.isclose(trained, alpha, rtol=1e-6) else f"{trained:.6g}"
    if size == n:
        return f"{ours}; {given}, which saw full batches, was trained at {at}"
    return f"{ours}; {given}, which divides by the {size} rows of a mini-batch, was trained at {at}"


def _count(network: Network) -> str:
    return f"{network.n_neurons} neuron{'' if network.n_neurons == 1 else 's'}"


def _verdict(
    objective: float, best_objective: float, bound: float | None, network: Network, best: Network, hidden_bias: str
) -> str:
    """What is proved about a network's distance from the best, in words."""
    shared = _feeds_several(network)
    each = " whose neurons feed one output each" if network.n_outputs > 1 and not shared else ""
    kind = " with a skip connection" if network.skip_weights is not None else ""
    kind += " without hidden biases" if hidden_bias == "none" else ""
    rival = f"the best two-layer {network.activation.title} network{kind} of any width{each}"
    least = objective / best_objective - 1 if best_objective > 0 else 0.0
    at_least = f"at least {_percent(least, up=False)}" if least > NOTEWORTHY else ""
    if bound is not None and bound > 0:
        at_most = f"at most {_percent(objective / bound - 1, up=True)}"
        text = f"{at_least}{' and ' if at_least else ''}{at_most} above {rival}"
    elif at_least:
        text = f"{at_least} above {rival}; how far at most was not proved"
    else:
        text = "no better network was found; how far it is from the best was not proved"
    if shared and _feeds_several(best):
        text += "; its neurons feed several outputs, and none that feed one output each did better"
    return text
