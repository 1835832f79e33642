"""Units: a training problem in numbers near one, and its solution back in the units of the user.

With rows x = rho x', targets y = o + tau y', weights s = sigma s' and a loss l(y, z) = phi l'(y', z'), the program

    sum_i s_i l(y_i, x_i^T v + c) + alpha |v|     is     phi sigma (sum_i s'_i l'(y'_i, x'_i^T v' + c') + alpha' |v'|),

    v = (tau / rho) v',   c = o + tau c',   theta = (phi sigma / tau) theta',   alpha = (rho phi sigma / tau) alpha'.

sigma is a power of two, and so is phi / tau where the dual variable has bounds: what lies on a bound stays there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.neurons.neuron import Neuron
from convexnn.program.result import Result
from convexnn.program.task import Task

# Beyond these sizes squares leave the range of double precision.
LARGEST, SMALLEST = 1e140, 1e-140
# Targets that differ by no more than so many units in the last place are equal but for rounding.
ROUNDING = 4 * float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one training problem.

    Attributes
    ----------
    row, target, weight : float
        rho, tau and sigma.
    origin : float
        o, one of the targets; 0 without an intercept, and for losses that are not of y - z.
    center : array of shape (n_features,)
        What is subtracted from the features where a shift of them is free: of a skip connection beside an intercept,
        and of neurons with free biases.
    loss : Loss
        l'.
    loss_factor : float
        phi.
    neuron : Neuron
        The ones column of a free bias keeps its length.
    """

    row: float
    target: float
    weight: float
    origin: float
    center: NDArray[np.float64]
    loss: Loss
    loss_factor: float
    neuron: Neuron

    @classmethod
    def of(cls, task: Task) -> Units:
        """The units of a problem.

        Parameters
        ----------
        task : Task
            In the units of the user; a loss with a method ``in_units`` is a function of y - z.

        Returns
        -------
        units : Units

        Raises
        ------
        ValueError
            When features, targets or weights are so large or small that their squares leave double precision.
        """
        X, y, loss, neuron = task.X, task.y, task.loss, task.neuron
        largest = _checked("sample_weight", "weights", float(task.sample_weight.max()))
        weight = float(2.0 ** np.round(np.log2(largest)))
        share = task.sample_weight / weight
        center = np.zeros(X.shape[1])
        if task.fit_intercept:
            # An element of the column: the differences of numbers that hardly differ are exact.
            center = X[np.abs(X - _mean(X, share)).argmin(axis=0), np.arange(X.shape[1])]
        row = _checked("X", "features", _root_mean_square(X - center if neuron.free_bias else task.rows, share) or 1.0)
        if neuron.has_bias and not neuron.free_bias:
            # A ones column has a unit of its own: no other data are the same but for units, and nothing is rounded.
            row = float(2.0 ** np.round(np.log2(row)))
        target, origin, factor = 1.0, 0.0, 1.0
        if hasattr(loss, "in_units"):
            if task.fit_intercept:
                origin = float(y[np.abs(y - _mean(y, share)).argmin()])
            _checked("y", "targets", float(np.abs(y).max()) or 1.0)
            target = _checked("y", "targets", _root_mean_square(_less(y, origin), share) or 1.0)
            loss, factor = loss.in_units(target)
        return cls(row, target, weight, origin, center, loss, factor, neuron)

    @property
    def factor(self) -> float:
        """The unit of the objective, phi sigma."""
        return self.loss_factor * self.weight

    @property
    def alpha(self) -> float:
        """The unit of alpha, and of prices."""
        return self.row * self.theta

    def level(self, alpha: float) -> float:
        """alpha', the weight decay in these units.

        Raises
        ------
        ValueError
            When alpha is so small that the norms of neurons with such prices leave double precision.
        """
        level = float(alpha / self.alpha)
        if not level > SMALLEST:
            raise ValueError(f"alpha must be above {SMALLEST * self.alpha:.0e} for data of this size, got {alpha!r}.")
        return level

    @property
    def theta(self) -> float:
        """The unit of the dual variable."""
        return self.loss_factor / self.target * self.weight

    def rows(self, X: NDArray) -> NDArray:
        """The rows x' that neurons see, with their ones column.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.

        Returns
        -------
        rows : array of shape (n_samples, n_features) or (n_samples, n_features + 1)
        """
        if self.neuron.free_bias:
            return self.neuron.rows((X - self.center) / self.row)
        return self.neuron.rows(X) / self.row

    def skip(self, X: NDArray) -> NDArray:
        """The features of a skip connection, shape (n_samples, n_features)."""
        return (X - self.center) / self.row

    def targets(self, y: NDArray) -> NDArray:
        """The targets y', shape (n_samples,)."""
        return _less(y, self.origin) / self.target if hasattr(self.loss, "in_units") else y

    def network(self, network: Network) -> Network:
        """The network in the units of the user; gates are in these units already.

        Parameters
        ----------
        network : Network
            Weights of ``rows`` and ``skip``, output bias c'.

        Returns
        -------
        network : Network
        """
        root = np.sqrt(self.target / self.row)
        weights, biases = root * network.hidden_weights, root * network.hidden_biases
        if self.neuron.free_bias:
            biases = biases * self.row - weights @ self.center
        bias, skip = self.origin + self.target * network.output_bias, network.skip_weights
        if skip is not None:
            skip = skip * (self.target / self.row)
            bias = bias - self.center @ skip
        output = root * network.output_weights
        return replace(
            network,
            hidden_weights=weights,
            hidden_biases=biases,
            output_weights=output,
            output_bias=bias if np.ndim(bias) else float(bias),
            skip_weights=skip,
        )

    def neurons(self, network: Network) -> Network:
        """The network with the hidden and output weights that neurons on ``rows`` have, the inverse of ``network``."""
        root = np.sqrt(self.row / self.target)
        weights, biases = network.hidden_weights, network.hidden_biases
        if self.neuron.free_bias:
            biases = (biases + weights @ self.center) / self.row
        output = root * network.output_weights
        return replace(network, hidden_weights=root * weights, hidden_biases=root * biases, output_weights=output)

    def task(self, task: Task) -> Task:
        """The same training problem in these units.

        Parameters
        ----------
        task : Task
            In the units of the user.

        Returns
        -------
        task : Task
        """
        return replace(
            task,
            rows=self.rows(task.X),
            y=self.targets(task.y),
            loss=self.loss,
            sample_weight=task.sample_weight / self.weight,
            skip=None if task.skip is None else self.skip(task.X),
        )

    def result(self, result: Result) -> Result:
        """The result of a solver in the units of the user."""
        coef = result.coef * (self.target / self.row)
        if self.neuron.free_bias:
            coef[:, -1] = coef[:, -1] * self.row - coef[:, :-1] @ self.center
        return replace(
            result,
            coef=coef,
            intercept=self.origin + self.target * result.intercept,
            theta=self.theta * result.theta,
            primal=self.factor * result.primal,
            dual=self.factor * result.dual,
            history=[entry | dict(objective=self.factor * entry["objective"]) for entry in result.history],
        )


def _mean(values: NDArray, weights: NDArray) -> NDArray:
    """Weighted mean over the samples, of numbers whose sum may overflow."""
    return (weights / weights.sum()) @ values


def _less(y: NDArray, origin: float) -> NDArray:
    """y - origin, exactly zero where targets differ by rounding alone."""
    difference = y - origin
    constant = np.abs(difference).max(initial=0.0) <= ROUNDING * abs(origin)
    return np.zeros_like(difference) if constant else difference


def _root_mean_square(values: NDArray, weights: NDArray) -> float:
    size = float(np.abs(values).max(initial=0.0))
    if size in (0.0, np.inf):
        return size
    return size * float(np.sqrt(_mean((values / size) ** 2, weights).mean()))


def _checked(argument: str, what: str, unit: float) -> float:
    if not SMALLEST < unit < LARGEST:
        raise ValueError(
            f"{argument} must hold {what} of a typical size between {SMALLEST:g} and {LARGEST:g}, whose squares double "
            f"precision can hold, got about {unit:.0e}; give {argument} in other units."
        )
    return unit


def without_dust(values: NDArray) -> NDArray:
    """Numbers rounded to a grid of 2^36 steps over the range of their column, or over their size if all are equal.

    Data in other units are others in their last digits, which would choose among networks that are equally good.
    """
    reach = np.ptp(values, axis=0)
    size = np.where(reach > 0, reach, np.abs(values).max(axis=0, initial=0.0))
    grid = np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))) - 36)
    return (np.round(values / grid) * grid).astype(values.dtype)
