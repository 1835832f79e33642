"""Network: the weights of a network of two layers, and what can be done with weights alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from os import PathLike
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from convexnn.arrangements import check_data
from convexnn.budget import check
from convexnn.files import read_arrays, replacing
from convexnn.losses import Loss, get_loss
from convexnn.neurons.activations import ACTIVATIONS, Activation
from convexnn.summary import describe

# Unit weight vectors closer than this are one direction: merging them moves predictions by less than rounding
# amplified a million times.
SAME_DIRECTION = 1e-10
# Singular values of the activations below this share of the largest count as linear dependence.
DEPENDENT = 1e-11
# Activations below this share of the neuron's largest are rounding errors of rows on its hyperplane.
ON_HYPERPLANE = 1e-9


# Parameters with a row for each neuron.
PER_NEURON = ("hidden_weights", "hidden_biases", "output_weights", "gate_weights", "gate_biases")


@dataclass(frozen=True, eq=False)
class Network:
    r"""f(x) = sum_j sigma(w_j^T x + b_j) a_j + c, or with gates sum_j 1[g_j^T x + h_j >= 0] (w_j^T x + b_j) a_j + c.

    sigma is the activation, (z)_+ for ReLU. A skip connection adds x^T s.

    Parameters
    ----------
    hidden_weights : array of shape (n_neurons, n_features)
        w_j.
    hidden_biases : array of shape (n_neurons,)
        b_j; zeros for a network without hidden biases.
    output_weights : array of shape (n_neurons,) or (n_neurons, n_outputs)
        a_j.
    output_bias : float or array of shape (n_outputs,)
        c.
    gate_weights, gate_biases : arrays of shape (n_neurons, n_features) and (n_neurons,), optional
        g_j and h_j of a gated ReLU network.
    skip_weights : array of shape (n_features,) or (n_features, n_outputs), optional
        s, which no penalty touches.
    hidden_bias : {"penalized", "free"}, default="penalized"
        Whether the weight decay counts hidden biases.
    feature_penalty : array of shape (n_features,), optional
        mu, what the norm of a neuron's weights adds for each unit of each: |(w, b)| + sum_i mu_i |w_i|.
    activation : Activation, optional
        sigma, an object of convexnn.neurons.activations; by default ReLU, or gated ReLU where there are gates.

    Raises
    ------
    ValueError
        When there are gates beside an activation with a slope below zero.

    Examples
    --------
    >>> import numpy as np
    >>> network = Network(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([1.0, 1.0]), 0.5)
    >>> network.predict([[-3.0], [2.0]])
    array([3.5, 2.5])
    >>> network
    Network(2 ReLU neurons, 1 feature, 1 output)
    """

    hidden_weights: NDArray[np.float64]
    hidden_biases: NDArray[np.float64]
    output_weights: NDArray[np.float64]
    output_bias: NDArray[np.float64] | float = 0.0
    gate_weights: NDArray[np.float64] | None = None
    gate_biases: NDArray[np.float64] | None = None
    skip_weights: NDArray[np.float64] | None = None
    hidden_bias: str = "penalized"
    feature_penalty: NDArray[np.float64] | None = None
    activation: Activation = None  # type: ignore[assignment]

    def __post_init__(self):
        # Gates make a gated ReLU of a ReLU, and the other way round.
        given, gated = self.activation or ACTIVATIONS["relu"], self.gate_weights is not None
        object.__setattr__(self, "activation", given.with_gates(gated))

    @property
    def n_neurons(self) -> int:
        """Number of hidden neurons."""
        return len(self.hidden_weights)

    @property
    def n_outputs(self) -> int:
        """Number of columns of the prediction, 1 for a vector."""
        return 1 if self.output_weights.ndim == 1 else self.output_weights.shape[1]

    @property
    def path_norms(self) -> NDArray[np.float64]:
        """|(w_j, b_j)| |a_j| of each neuron, shape (n_neurons,): what alpha multiplies in the convex program.

        |w_j| |a_j| with free biases, (|(w_j, b_j)| + sum_i mu_i |w_ji|) |a_j| with a feature penalty mu.
        """
        output = np.linalg.norm(self.output_weights.reshape(self.n_neurons, self.n_outputs), axis=1)
        return self._inner_norms * output

    @property
    def _inner_norms(self) -> NDArray[np.float64]:
        counted = [self.hidden_weights] if self.hidden_bias == "free" else [self.hidden_weights, self.hidden_biases]
        lengths = np.linalg.norm(np.column_stack(counted), axis=1)
        return lengths if self.feature_penalty is None else lengths + np.abs(self.hidden_weights) @ self.feature_penalty

    @property
    def feature_importances(self) -> NDArray[np.float64]:
        r"""sum_j |w_ji| |a_j| + |s_i| for each feature i, divided by their sum, shape (n_features,).

        Undivided they bound slopes: the prediction moves by no more than that times what feature i moves by, unless a
        gate opens or closes. 0 for a feature whose weights are all zero; all 0 for a network without weights.
        """
        output = np.linalg.norm(self.output_weights.reshape(self.n_neurons, self.n_outputs), axis=1)
        slopes = self.activation.steepest * output @ np.abs(self.hidden_weights)
        if self.skip_weights is not None:
            slopes = slopes + np.linalg.norm(self.skip_weights.reshape(len(slopes), -1), axis=1)
        return slopes / (slopes.sum() or 1.0)

    @property
    def switches(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights and biases of the hyperplanes where neurons switch, their gates or their own, as ``hidden_weights``
        and ``hidden_biases``."""
        if self.gate_weights is None or self.gate_biases is None:
            return self.hidden_weights, self.hidden_biases
        return self.gate_weights, self.gate_biases

    def hidden(self, X: ArrayLike) -> NDArray[np.float64]:
        """Activations of the hidden neurons, shape (n_samples, n_neurons).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        activations : array of shape (n_samples, n_neurons)

        Raises
        ------
        ValueError
            When X is not a finite matrix with the network's number of features.
        """
        X = check_data(X)
        if X.shape[1] != self.hidden_weights.shape[1]:
            raise ValueError(f"X must have {self.hidden_weights.shape[1]} features, got {X.shape[1]}.")
        before = X @ self.hidden_weights.T + self.hidden_biases
        if self.gate_weights is None or self.gate_biases is None:
            return self.activation(before)
        return before * (X @ self.gate_weights.T + self.gate_biases >= 0)

    def slopes(self, X: ArrayLike) -> NDArray[np.float64]:
        """By how much each activation changes with its input, 1 and 0 for ReLU, shape (n_samples, n_neurons).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        slopes : array of shape (n_samples, n_neurons)
            On a hyperplane the slope above it, as a gate is open there.
        """
        weights, biases = self.switches
        return self.activation.slopes(check_data(X) @ weights.T + biases >= 0)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predictions f(x_i): shape (n_samples,), or (n_samples, n_outputs) for several outputs.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        predictions : array
            Raw scores; for classification not yet probabilities.

        Raises
        ------
        ValueError
            When X is not a finite matrix with the network's number of features.
        """
        X = check_data(X)
        predictions = self.hidden(X) @ self.output_weights + self.output_bias
        return predictions if self.skip_weights is None else predictions + X @ self.skip_weights

    def objective(
        self,
        X: ArrayLike,
        y: ArrayLike,
        alpha: float,
        loss: str | Loss = "squared",
        sample_weight: ArrayLike | None = None,
    ) -> float:
        r"""Weight-decay training objective, from the weights alone:

        sum_i s_i l(y_i, f(x_i)) + alpha / 2 * sum_j (|w_j|^2 + b_j^2 + |a_j|^2);

        neither skip weights nor free biases are penalised. With a feature penalty the square of
        |(w_j, b_j)| + sum_i mu_i |w_ji| takes the place of |w_j|^2 + b_j^2.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.
        y : array of shape (n_samples,)
            Targets: numbers, -1 / +1 (or 0 / 1), or class indices, as the loss wants.
        alpha : float
            Weight decay on a sum of losses.
        loss : str or Loss, default="squared"
            A key of LOSSES or a loss object.
        sample_weight : array of shape (n_samples,), optional
            s_i, by default ones.

        Returns
        -------
        objective : float

        Raises
        ------
        ValueError
            When shapes disagree or the loss is unknown.
        """
        loss = get_loss(loss, self.n_outputs)
        y, network = loss.check_target(y), self
        if loss.target == "real":
            # Such a loss is one of differences: from large y the bias goes first, which rounds nothing off.
            y, network = y - self.output_bias, replace(self, output_bias=0.0)
        z = network.predict(X)
        weights = np.ones(len(z)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if y.shape != (len(z),) or weights.shape != (len(z),):
            raise ValueError(
                f"y and sample_weight must have shape ({len(z)},) to match X, got {y.shape} and {weights.shape}."
            )
        decay = float(np.sum(self._inner_norms**2) + np.sum(self.output_weights**2))
        return float(weights @ loss.value(y, z)) + 0.5 * alpha * decay

    def balance(self) -> Network:
        """The same function with |(w_j, b_j)| = |a_j| for every neuron, in the norm of ``path_norms``.

        That minimises the weight decay.

        Returns
        -------
        network : Network
            Neurons with a zero side are dropped; what constants among them add goes to the output bias.
        """
        counts = self.path_norms > 0
        part = self.select(counts)
        if self.hidden_bias == "free":
            # Zero weights beside a free bias make a constant.
            constant = self.activation(self.hidden_biases[~counts]) @ self.output_weights[~counts]
            part = replace(part, output_bias=self.output_bias + constant)
        outer = np.linalg.norm(part.output_weights.reshape(part.n_neurons, part.n_outputs), axis=1)
        inner = part._inner_norms
        return part._scaled(np.sqrt(outer / inner), np.sqrt(inner / outer))

    def merge(self) -> Network:
        """Join neurons of equal direction and equal output direction; the function and the penalty stay the same.

        Returns
        -------
        network : Network
            Balanced; neurons with a zero side are dropped.
        """
        part = self.balance()
        m = part.n_neurons
        inside = np.column_stack([part.hidden_weights, part.hidden_biases])
        inner = part._inner_norms[:, None]
        directions = inside / inner
        if part.activation.even:
            directions *= upper_half(directions)[:, None]
        keys = [directions, part.output_weights.reshape(m, part.n_outputs) / inner]
        if part.gate_weights is not None:
            gates = np.column_stack(part.switches)
            across = np.linalg.norm(gates, axis=1, keepdims=True)
            keys.append(gates / np.where(across > 0, across, 1.0))
        if m < 2:
            return part
        group = clusters(np.column_stack(keys), SAME_DIRECTION)
        if group.max() == m - 1:
            return part
        strength = np.bincount(group, part.path_norms)
        first = np.unique(group, return_index=True)[1]
        factor = np.sqrt(strength / part.path_norms[first])
        return part.select(first)._scaled(factor, factor)

    def prune(self, X: ArrayLike) -> Network:
        r"""Remove neurons until the activations on X that remain are linearly independent.

        Along a null combination sum_j t_j phi_j = 0 of the neurons' contributions the predictions on X do not move,
        and one of the two directions does not raise the penalty; follow it until a neuron vanishes. At most
        n_samples neurons remain (for each output, when every neuron feeds one).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        network : Network
            Same predictions on X, penalty no larger. Neurons that are inactive on all of X are dropped.

        References
        ----------
        .. [1] A. Mishkin, M. Pilanci, Optimal sets and solution paths of ReLU networks, ICML 2023, section 4.
        """
        part = self.balance()
        contributions = part.hidden(X)[:, :, None] * part.output_weights.reshape(1, part.n_neurons, part.n_outputs)
        live = np.flatnonzero(np.abs(contributions).max(axis=(0, 2), initial=0.0) > 0)
        part, contributions = part.select(live), contributions[:, live]
        fed = part.output_weights.reshape(part.n_neurons, part.n_outputs) != 0
        one_each = bool((fed.sum(axis=1) == 1).all())
        group = np.argmax(fed, axis=1) if one_each else np.zeros(part.n_neurons, dtype=int)
        scale = np.ones(part.n_neurons)
        for g in np.unique(group):
            members = np.flatnonzero(group == g)
            stacked = np.moveaxis(contributions, 1, 2).reshape(-1, part.n_neurons)
            phi = contributions[:, members, g] if one_each else stacked
            scale[members] = _independent_scales(phi, part.path_norms[members])
        keep = np.flatnonzero(scale > 0)
        root = np.sqrt(scale[keep])
        return part.select(keep)._scaled(root, root)

    def to_relu(self, X: ArrayLike) -> tuple[Network, float]:
        r"""A ReLU network with the same predictions on X as this network, and its price.

        Every gated weight v is a difference p - q of two vectors of its pattern's cone; of these the pair with the
        least |p|^2 + |q|^2 is taken. Other activations are the sum of two ReLUs, max(z, 0) + s min(z, 0) =
        (z)_+ - s (-z)_+.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data whose patterns the gates stand for, without a ones column.

        Returns
        -------
        network : Network
            Up to two neurons for each. Off the data X the predictions of gates differ, those of others do not.
        price : float
            Sum of path norms divided by that of this network, at least 1: the growth of the penalty.

        Raises
        ------
        ValueError
            When a gate passes through a sample, so that its cone may be too flat to hold a decomposition.

        References
        ----------
        .. [1] A. Mishkin, A. Sahiner, M. Pilanci, Fast convex optimization for two-layer ReLU networks, ICML 2022,
           section 3 (cone decompositions).
        """
        if self.gate_weights is None:
            return self._two_for_each() if self.activation.slope else (self, 1.0)
        X = check_data(X)
        biased = bool(np.any(self.gate_biases) or np.any(self.hidden_biases))
        rows = np.column_stack([X, np.ones(len(X))]) if biased else X
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(lengths > 0, lengths, 1.0)
        part = self.balance()
        if not part.n_neurons:
            return replace(part, gate_weights=None, gate_biases=None, activation=ACTIVATIONS["relu"]), 1.0
        weights = np.column_stack([part.hidden_weights, part.hidden_biases])[:, : rows.shape[1]]
        gates = np.column_stack([part.gate_weights, part.gate_biases])[:, : rows.shape[1]]  # type: ignore[list-item]
        signs = np.where(rows @ gates.T >= 0, 1.0, -1.0)
        hidden, output = [], []
        for w, a, sign in zip(weights, part.output_weights, signs.T):
            p, q = _cone_pair(w, rows * sign[:, None])
            for v, s in ((p, 1.0), (q, -1.0)):
                if np.any(v):
                    hidden.append(v)
                    output.append(s * a)
        matrix = np.zeros((len(hidden), X.shape[1] + 1))
        matrix[:, : rows.shape[1]] = hidden
        network = replace(
            self,
            hidden_weights=matrix[:, :-1],
            hidden_biases=matrix[:, -1],
            output_weights=np.array(output),
            gate_weights=None,
            gate_biases=None,
            activation=ACTIVATIONS["relu"],
        ).balance()
        return network, float(network.path_norms.sum() / part.path_norms.sum())

    def _two_for_each(self) -> tuple[Network, float]:
        """The ReLU network of both sides of each neuron, and its price."""
        mirrored = self._scaled(-np.ones(self.n_neurons), -self.activation.slope * np.ones(self.n_neurons))
        names = ("hidden_weights", "hidden_biases", "output_weights")
        both: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(mirrored, name)]) for name in names}
        network = replace(self, **both, activation=ACTIVATIONS["relu"]).balance()
        return network, float(network.path_norms.sum() / (self.path_norms.sum() or 1.0)) if self.n_neurons else 1.0

    def for_raw_inputs(self, mean: ArrayLike, scale: ArrayLike) -> Network:
        """The network that on raw x does what this one does on (x - mean) / scale.

        Parameters
        ----------
        mean, scale : arrays of shape (n_features,)
            As in ``StandardScaler.mean_`` and ``scale_``.

        Returns
        -------
        network : Network
            Same predictions; its weight decay, being measured on other inputs, is not comparable. A feature penalty is
            multiplied by the scale, and charges what it did.
        """
        mean, scale = np.asarray(mean, dtype=float), np.asarray(scale, dtype=float)
        weights = self.hidden_weights / scale
        mu = None if self.feature_penalty is None else self.feature_penalty * scale
        biases = self.hidden_biases - weights @ mean
        changed = replace(self, hidden_weights=weights, hidden_biases=biases, feature_penalty=mu)
        if self.skip_weights is not None:
            skip = (self.skip_weights.T / scale).T
            changed = replace(changed, skip_weights=skip, output_bias=self.output_bias - mean @ skip)
        if self.gate_weights is None:
            return changed
        gates = self.gate_weights / scale
        return replace(changed, gate_weights=gates, gate_biases=self.gate_biases - gates @ mean)

    def save(self, path: str | PathLike | IO[bytes], **extra: ArrayLike) -> None:
        """Write the weights to an .npz file that needs no pickle to read.

        Parameters
        ----------
        path : str, path or binary file
            File name; ``.npz`` is appended when missing, as numpy does. The file is written beside and renamed.
        **extra : arrays
            Further arrays to keep in the file, such as class labels; ``load`` ignores them.

        Raises
        ------
        ValueError
            When the name of an extra array is taken, or it cannot be stored without pickle.
        OSError
            When the file cannot be written; one that was there stays as it was.
        """
        facts = dict(hidden_bias=self.hidden_bias, activation=self.activation.name, slope=self.activation.slope)
        weights: Any = self.arrays | facts
        for name, value in extra.items():
            if name in (*vars(self), "slope", "file", "allow_pickle"):
                raise ValueError(f"extra arrays must not be named {name!r}: that name is taken.")
            if np.asarray(value).dtype.hasobject:
                raise ValueError(f"extra array {name!r} must have a numeric or string dtype, got object.")
        if not isinstance(path, (str, PathLike)):
            np.savez(path, **weights, **extra)  # type: ignore[arg-type]
            return
        name = os.fspath(path)
        with replacing(name if name.endswith(".npz") else f"{name}.npz") as file:
            np.savez(file, **weights, **extra)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | PathLike) -> Network:
        """Read a network that ``save`` wrote.

        Parameters
        ----------
        path : str or path
            An .npz file.

        Returns
        -------
        network : Network
            With bitwise the same weights.

        Raises
        ------
        ValueError
            When the file is not an .npz file, would expand to much more than its size, or does not hold the weights of
            a network: see ``from_weights``.
        OSError
            When the file cannot be read.
        """
        return cls.from_weights(read_arrays(path), path)

    @classmethod
    def from_weights(cls, found: dict, path: str | PathLike) -> Network:
        """The network of the arrays that a file holds, once they are checked.

        Parameters
        ----------
        found : dict of arrays
            Parameters of Network by name; others are left out.
        path : str or path
            The file, for error messages.

        Returns
        -------
        network : Network

        Raises
        ------
        ValueError
            When weights are missing, not real or not finite, their shapes do not match, hidden_bias is unknown, a
            feature penalty is negative, or a slope is that of no activation.
        """
        bad = f"{path} is not a saved network"
        needed = {"hidden_weights", "hidden_biases", "output_weights", "output_bias"}
        needed |= {"gate_weights", "gate_biases"} if {"gate_weights", "gate_biases"} & set(found) else set()
        if needed - set(found):
            raise ValueError(f"{bad}: it lacks {sorted(needed - set(found))}.")
        hidden_bias = str(found.get("hidden_bias", "penalized"))
        if hidden_bias not in ("penalized", "free"):
            raise ValueError(f"{bad}: hidden_bias must be 'penalized' or 'free', got {hidden_bias[:50]!r}.")
        names = [
            name for name in cls.__dataclass_fields__ if name in found and name not in ("hidden_bias", "activation")
        ]
        weights: dict[str, Any] = {name: real_array(found[name], f"{bad}: {name}") for name in names}
        shape, outputs = weights["hidden_weights"].shape, weights["output_weights"].shape[1:]
        fits = dict(hidden_biases=shape[:1], gate_weights=shape, gate_biases=shape[:1], feature_penalty=shape[1:])
        fits |= dict(output_weights=shape[:1] + outputs, skip_weights=shape[1:] + outputs)
        fits["output_bias"] = outputs if weights["output_bias"].ndim else ()
        wrong = [name for name, expected in fits.items() if name in weights and weights[name].shape != expected]
        if len(shape) != 2 or len(outputs) > 1 or 0 in shape[1:] + outputs or wrong:
            raise ValueError(f"{bad}: the shapes of {wrong or 'its weights'} do not match.")
        if "feature_penalty" in weights and weights["feature_penalty"].min() < 0:
            raise ValueError(f"{bad}: feature_penalty must not be negative, got {weights['feature_penalty'].min():g}.")
        if not weights["output_bias"].ndim:
            weights["output_bias"] = float(weights["output_bias"])
        return cls(**weights, hidden_bias=hidden_bias, activation=_activation(found, bad))

    def __repr__(self) -> str:
        kind = self.activation.title
        counts = [
            f"{count} {name}{'' if count == 1 else 's'}"
            for count, name in (
                (self.n_neurons, f"{kind} neuron"),
                (self.hidden_weights.shape[1], "feature"),
                (self.n_outputs, "output"),
            )
        ]
        return f"Network({', '.join(counts)}{'' if self.skip_weights is None else ', skip connection'})"

    def count_active(self, X: ArrayLike) -> NDArray[np.intp]:
        """Number of rows on which each neuron is active, above zero or with an open gate, shape (n_neurons,).

        Rows on a neuron's hyperplane, where rounding decides the sign, do not count.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        n_active : integer array of shape (n_neurons,)

        Raises
        ------
        ValueError
            When X is not a finite matrix with the network's number of features.
        """
        size = np.abs(self.hidden(X))
        return np.count_nonzero((size > ON_HYPERPLANE * size.max(axis=0)) & (self.slopes(X) == 1), axis=0)

    def summary(
        self,
        n_active: ArrayLike | None = None,
        *,
        feature_names: Sequence[str] | None = None,
        classes: Sequence | None = None,
        max_neurons: int = 10,
        max_weights: int = 4,
    ) -> str:
        r"""The network in words: its constant, its linear term if it has one, and a table of its heaviest neurons.

        With u = w / |w|, slope = |w| a and offset = -b / |w| a neuron is slope * (u^T x - offset) where u^T x > offset.

        Parameters
        ----------
        n_active : array of shape (n_neurons,), optional
            Rows on which each neuron is active, from ``count_active``.
        feature_names : sequence of str, optional
            By default x0, x1, ...
        classes : sequence, optional
            Labels of the outputs; two labels for one output, whose negative values speak for the first.
        max_neurons, max_weights : int
            At most so many neurons, and so many coordinates of u, are written out: the largest.

        Returns
        -------
        summary : str
            Neurons come by their share of the sum of path norms, which is what alpha multiplies.

        Raises
        ------
        ValueError
            When an argument does not match the network.

        Examples
        --------
        >>> network = Network(np.array([[3.0, 4.0], [-1.0, 0.0]]), np.array([-5.0, 0.0]), np.array([1.0, -1.0]), 0.5)
        >>> print(network.summary(feature_names=["age", "dose"]))
        Network(2 ReLU neurons, 2 features, 1 output)
        constant: 0.5
        each neuron adds slope * (left - right side) where its condition holds:
         share  slope  condition
        87.6 %     +5  0.8 dose + 0.6 age > 1
        12.4 %     -1  -1 age > 0
        """
        return describe(self, n_active, feature_names, classes, max_neurons, max_weights)

    @property
    def arrays(self) -> dict[str, Any]:
        """The weights that the network has, by the names of its parameters."""
        return {name: value for name, value in vars(self).items() if isinstance(value, (np.ndarray, float))}

    def select(self, keep: NDArray) -> Network:
        """The network of some of the neurons.

        Parameters
        ----------
        keep : integer or boolean array
            Neurons to keep.

        Returns
        -------
        network : Network
        """
        found = self.arrays
        return replace(self, **{name: found[name][keep] for name in PER_NEURON if name in found})

    def _scaled(self, inner: NDArray, outer: NDArray) -> Network:
        shape = (-1,) + (1,) * (self.output_weights.ndim - 1)
        return replace(
            self,
            hidden_weights=self.hidden_weights * inner[:, None],
            hidden_biases=self.hidden_biases * inner,
            output_weights=self.output_weights * outer.reshape(shape),
        )


def _activation(found: dict, bad: str) -> Activation:
    """The activation of the arrays of a file; of those without a name the one that they can be of."""
    gated = "gate_weights" in found
    slope = real_array(found.get("slope", 0.0), f"{bad}: slope")
    if slope.shape:
        raise ValueError(f"{bad}: slope must be one number, got shape {slope.shape}.")
    usual = "gated_relu" if gated else "leaky_relu" if slope.any() else "relu"
    try:
        return Activation(str(found.get("activation") or usual)[:50], slope.item(), cones=not gated)
    except ValueError as error:
        raise ValueError(f"{bad}: {error}") from None


def upper_half(directions: NDArray) -> NDArray:
    """1 for unit vectors whose last coordinate that is not zero up to rounding is positive, -1 for the others."""
    last = directions.shape[1] - 1 - np.argmax(np.abs(directions[:, ::-1]) > SAME_DIRECTION, axis=1)
    return np.where(np.take_along_axis(directions, last[:, None], axis=1)[:, 0] < 0, -1.0, 1.0)


def real_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """The values in double precision; ValueError that names them when they are no real, finite numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}.")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return array


def clusters(points: NDArray, radius: float) -> NDArray[np.intp]:
    """The number of its cluster for each point: points within the radius, directly or by way of others, are one."""
    if not len(points):
        return np.zeros(0, dtype=int)
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    return connected_components(graph, directed=False)[1].astype(int)


def _independent_scales(phi: NDArray, price: NDArray) -> NDArray:
    """Non-negative factors s with phi @ s = phi @ 1 and price @ s <= price @ 1, supported on independent columns."""
    n, m = phi.shape
    if m > 4 * n:
        # Of many columns few at a time: the work for each that goes is that of the null space of those at hand.
        scale, kept = np.ones(m), np.zeros(0, dtype=int)
        for part in np.array_split(np.arange(m), ceil(m / n)):
            kept = np.concatenate([kept, part])
            scale[kept] *= _independent_scales(phi[:, kept] * scale[kept], price[kept] * scale[kept])
            kept = kept[scale[kept] > 0]
        return scale
    lengths = np.linalg.norm(phi, axis=0)
    check(2.0 * phi.size * phi.shape[1] + 10.0 * phi.shape[1] ** 3)
    unit = phi / lengths
    if len(unit) > unit.shape[1]:
        unit = np.linalg.qr(unit, mode="r")
    _, singular, axes = np.linalg.svd(unit, full_matrices=True)
    rank = int(np.count_nonzero(singular > DEPENDENT * singular.max(initial=0.0)))
    null = axes[rank:].T
    # In units of lengths: contribution j is scale_j * lengths_j times a unit column.
    amount, unit_price = lengths.copy(), price / lengths
    while null.shape[1]:
        check()
        move = null[:, 0] if unit_price @ null[:, 0] <= 0 else -null[:, 0]
        falling = np.flatnonzero(move < -1e-12 * np.abs(move).max())
        if not len(falling):
            # Only at price zero: nothing can fall, so the other direction is as good.
            move, falling = -move, np.flatnonzero(move > 0)
        gone = falling[np.argmin(-amount[falling] / move[falling])]
        amount = np.maximum(amount - amount[gone] / move[gone] * move, 0.0)
        amount[gone] = 0.0
        # A reflection turns the null space so that only its first vector has the vanished neuron; drop that one.
        row = null[gone].copy()
        row[0] += np.copysign(np.linalg.norm(row), row[0])
        null = (null - np.outer(null @ row, 2 * row / (row @ row)))[:, 1:]
        null[gone] = 0.0
    return amount / lengths


def _cone_pair(v: NDArray, signed_rows: NDArray) -> tuple[NDArray, NDArray]:
    """p, q with p - q = v and signed_rows @ p, signed_rows @ q >= 0, of least |p|^2 + |q|^2.

    With s = p + q this is the least-distance problem min |s| over signed_rows @ s >= |signed_rows @ v|, solved through
    non-negative least squares (Lawson & Hanson, 1974, section 23.4).
    """
    size = np.linalg.norm(v)
    need = np.abs(signed_rows @ v) / size
    if np.all(signed_rows @ v >= -1e-12 * size):
        return v, np.zeros_like(v)
    if np.all(signed_rows @ v <= 1e-12 * size):
        return np.zeros_like(v), -v
    E = np.vstack([signed_rows.T, need])
    target = np.zeros(len(E))
    target[-1] = 1.0
    u, _ = nnls(E, target, maxiter=30 * E.shape[1])
    residual = E @ u - target
    if -residual[-1] <= 1e-14:
        raise ValueError("X has a sample on a gate, whose cone is too flat to decompose weights; resample the gates.")
    s = -residual[:-1] / residual[-1] * size
    return 0.5 * (s + v), 0.5 * (s - v)
