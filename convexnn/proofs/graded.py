"""What a network is graded by: its training problem as given and in numbers near one, and bounds from dual points.

A lower bound is the dual value of a point theta at which no neuron has a price above alpha and which is orthogonal to
the unpenalised terms. Both hold up to rounding only, and so does the value; here is what that may amount to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.arrangements import Arrangement, enumerate_patterns
from convexnn.faces import with_faces
from convexnn.losses import Loss, get_loss
from convexnn.network import Network
from convexnn.neurons.neuron import Neuron
from convexnn.program.problem import Problem
from convexnn.program.task import EPS, Task
from convexnn.program.units import ROUNDING, Units

# How many rounding errors of its terms a sum may be off by.
TERMS = 8.0
# Unpenalised terms are lost in rounding where a dual variable may be off by more than this share from orthogonal.
BLURRED = 1e-9


@dataclass(frozen=True, eq=False)
class Graded:
    """A network and the training problem that it is graded by, as given and in numbers near one.

    Attributes
    ----------
    network : Network
        The network.
    task : Task
        The training problem in the units of the user.
    alpha : float
        Weight decay, in these units.
    units : Units
        What the numbers of ``normal`` are in.
    normal : Problem
        The training problem in numbers near one, without patterns; dual points and evidence are about it.
    """

    network: Network
    task: Task
    alpha: float
    units: Units
    normal: Problem

    @classmethod
    def of(cls, network: Network, task: Task, alpha: float, units: Units | None = None) -> Graded:
        """The grading of a network by a training problem that it is a candidate of (``task_of``)."""
        # Those of the distinct samples, as a fit has them: weights and repetitions come to the same.
        units = Units.of(task.merged[0]) if units is None else units
        return cls(network, task, alpha, units, Problem.bare(units.task(task), units.level(alpha)))

    @cached_property
    def distinct(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Where each distinct sample stands first, and the distinct sample of each sample."""
        return self.task.merged[1:]

    @cached_property
    def listed(self) -> Arrangement:
        """The list of all patterns of the distinct samples; ValueError where there is none that is complete."""
        rows = self.normal.task.rows if self.task.neuron.activation.cones else self.task.rows
        listed = self.complete(enumerate_patterns(rows[self.distinct[0]]))
        if listed is None:
            raise ValueError("X has rows that gates tell apart though they are one but for rounding; round the data.")
        return listed

    def complete(self, listed: Arrangement) -> Arrangement | None:
        """A complete list of the patterns of the distinct samples as one of all patterns of these neurons, or None.

        Gates tell rows apart that are one but for rounding, which moves the price of no ReLU. They are about the data
        as they are: in numbers near one, which are rounded, gates on a hyperplane may lie beside it. What rounding
        amounts to is known in units of the rows that were listed: with free biases, which have a center, these must be
        those of ``normal``.
        """
        neuron, first = self.task.neuron, self.distinct[0]
        if not neuron.activation.cones:
            if listed.resolution > 0:
                return None
            if not neuron.has_bias and listed.faces is None:
                return with_faces(self.task.rows[first], listed)
        elif neuron.free_bias and listed.resolution > 0:
            try:
                return enumerate_patterns(self.normal.task.rows[first])
            except ValueError:
                return None
        return listed

    @cached_property
    def objective(self) -> float:
        """Weight-decay objective of the network, in the units of the user."""
        task = self.task
        return self.network.objective(task.X, task.y, self.alpha, task.loss, task.sample_weight)

    @cached_property
    def rounding(self) -> float:
        """What rounding errors of predictions and sums may make of the objective, in the units of the user."""
        network, task = self.network, self.task
        X = task.X
        z = network.predict(X)
        inner = np.abs(X) @ np.abs(network.hidden_weights.T) + np.abs(network.hidden_biases)
        size = network.activation.steepest * inner @ np.abs(network.output_weights) + np.abs(network.output_bias)
        if network.skip_weights is not None:
            size = size + np.abs(X) @ np.abs(network.skip_weights)
        if task.loss.target == "real":
            size = size + np.abs(task.y)
        error = EPS * (X.shape[1] + network.n_neurons + 4) * size
        if z.ndim > 1:
            # The loss of a class falls with its own score and rises with the others.
            worse = z + error * np.where(np.eye(z.shape[1], dtype=bool)[task.y], -1.0, 1.0)
            change = task.loss.value(task.y, worse) - task.loss.value(task.y, z)
        else:
            value = task.loss.value(task.y, z)
            ends = [task.loss.value(task.y, z + side * error) for side in (1, -1)]
            change = np.maximum(*ends) - value
        return float(task.sample_weight @ change) + TERMS * EPS * len(X) ** 0.5 * abs(self.objective)

    @cached_property
    def negligible(self) -> float:
        """An objective, or a gap, that is as good as none, in the units of the user: what a linear term cannot improve,
        or the loss of predictions that are off by rounding of the targets."""
        task, rounded = self.task, 0.0
        if task.loss.target == "real":
            # A loss of classes has no targets to be met.
            near = task.loss.value(task.y, task.y + ROUNDING * np.abs(task.y))
            rounded = float(task.sample_weight @ near)
        return self.units.factor * self.normal.task.negligible + rounded

    def lower_bound(self, theta: NDArray, price: float) -> float:
        r"""A number below the objective of every network, in the units of the user; -inf when there is none.

        theta is shortened until no price is above alpha. It is orthogonal to the unpenalised terms but for rounding: a
        vector Delta as small as what is left of their products takes it to where it is exactly. So prices may be larger
        by sum_i |Delta_i| |x_i|, and the dual value is that of theta - Delta, or less by rounding errors. That of zero,
        where every loss has its infimum, is all that is said where the unpenalised terms are lost in rounding.

        Parameters
        ----------
        theta : array, shape of the predictions
            Dual point of ``normal``.
        price : float
            Upper bound of its prices.
        """
        problem, least = self.normal, self.units.factor * self.normal.task.dual_value(np.zeros_like(theta))
        if not np.isfinite(price):
            return -np.inf
        away, blur = self.away(theta)
        if blur > BLURRED * np.linalg.norm(theta):
            return least
        lengths = np.linalg.norm(problem.task.rows, axis=1)
        if self.task.neuron.free_bias:
            # Biases up to the length of the longest row beside weights of length 1.
            lengths = lengths + lengths.max()
        lengths = self.task.neuron.activation.steepest * lengths
        reach = 2 * lengths @ np.abs(away).reshape(len(away), -1) + blur * np.linalg.norm(lengths)
        size = problem.alpha / max(problem.alpha, price + float(np.max(reach, initial=0.0)))
        if not np.isfinite(size):
            return -np.inf
        value = problem.task.dual_value(size * theta)
        moved = problem.task.dual_value(size * (theta - away)) if away.any() else value
        # How steep the dual value is: y and theta / s for losses of y - z, for those of classes the logarithm of a
        # share, at most that of the smallest number there is.
        s = problem.task.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        steep = 750 * len(theta) ** 0.5 + np.linalg.norm(problem.task.y) + np.linalg.norm(theta / s)
        bound = min(value, moved) - abs(value - moved) - blur * steep
        if not np.isfinite(bound):
            return -np.inf
        return max(float(self.units.factor * bound - self.dual_rounding(theta)), least)

    def stated_bound(self, theta: NDArray, price: float) -> float:
        """``lower_bound``, or the objective of the network where that is less by rounding."""
        return min(self.lower_bound(theta, price), self.objective)

    def price_rounding(self, theta: NDArray) -> float:
        """What rounding errors of the sums over the samples may make of a price."""
        columns = self.task.neuron.activation.steepest * np.abs(theta).reshape(len(theta), -1)
        return TERMS * EPS * float((np.linalg.norm(self.normal.task.rows, axis=1) @ columns).max(initial=0.0))

    def dual_rounding(self, theta: NDArray) -> float:
        """What rounding errors may make of the dual value, in the units of the user."""
        task = self.normal.task
        s = task.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        ratio = np.abs(theta / s).reshape(len(theta), -1)
        size = np.abs(task.y) if task.loss.target == "real" else np.ones(len(theta))
        terms = np.abs(task.loss.conjugate(task.y, -theta / s)) + (ratio * (ratio + size[..., None])).sum(axis=1)
        total = fsum(task.sample_weight * np.where(np.isfinite(terms), terms, 0.0))
        return self.units.factor * TERMS * EPS * len(theta) ** 0.5 * total

    def orthogonal(self, theta: NDArray) -> NDArray:
        """theta less what keeps it from being orthogonal to the unpenalised terms, where that has a dual value."""
        moved = theta - self.away(theta)[0]
        return moved if np.isfinite(self.normal.task.dual_value(moved)) else theta

    def away(self, theta: NDArray) -> tuple[NDArray, float]:
        """The shortest vector whose difference to theta is orthogonal to the unpenalised terms, and how far that may
        be off; entries on an edge of the domain of the loss stay there."""
        basis, blur = self.task.unpenalised
        if not len(blur):
            return np.zeros_like(theta), 0.0
        task, free = self.normal.task, np.full(len(theta), True)
        s = task.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        left, Q = (basis.T @ theta.reshape(len(theta), -1)).astype(float), basis.astype(float)
        away = Q @ left
        for _ in range(10):
            # A loss of several outputs sees differences only: the rows of theta sum to zero, and so do those of away.
            away = (away - away.mean(axis=1, keepdims=True) * (theta.ndim > 1)) * free[:, None]
            away = away.reshape(theta.shape)
            if np.isfinite(task.dual_value(theta - away)) or not np.isfinite(task.dual_value(theta)):
                break
            ends = [task.loss.conjugate(task.y, -(theta - side * away) / s) for side in (1, -2)]
            free &= np.isfinite(ends).all(axis=0)
            away = Q @ np.linalg.lstsq(Q.T @ (Q * free[:, None]), left, rcond=None)[0]
        return away.reshape(theta.shape), float(blur.sum() * np.linalg.norm(theta))


def task_of(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    loss: str | Loss,
    sample_weight: ArrayLike | None,
    fit_intercept: bool,
    hidden_bias: str,
) -> Task:
    """The training problem that a network is one of the candidates of.

    Parameters
    ----------
    network : Network
        Its gates, skip connection and feature penalty are those of the candidates.
    X, y, loss, sample_weight, fit_intercept
        As in ``Task.of``.
    hidden_bias : {"penalized", "free", "none"}
        Of the candidates.

    Returns
    -------
    task : Task

    Raises
    ------
    ValueError
        For unusable data, or a network that is no candidate.
    """
    loss = get_loss(loss, network.n_outputs)
    if (loss.target == "classes") != (network.output_weights.ndim > 1):
        shape = network.output_weights.shape
        raise ValueError(f"loss={loss.name!r} does not go with a network with output weights of shape {shape}.")
    task = Task.of(
        X,
        y,
        loss,
        sample_weight,
        Neuron.of(network.activation, hidden_bias, network.feature_penalty, network.hidden_weights.shape[1]),
        fit_intercept=fit_intercept,
        skip_connection=network.skip_weights is not None,
        n_outputs=network.n_outputs,
    )
    n_features = network.hidden_weights.shape[1]
    if task.X.shape[1] != n_features:
        raise ValueError(f"X must have {n_features} features, got {task.X.shape[1]}.")
    if not task.neuron.has_bias and np.any(network.hidden_biases):
        raise ValueError('hidden_bias="none" needs a network without hidden biases.')
    if not task.fit_intercept and np.any(network.output_bias):
        raise ValueError("fit_intercept=False needs a network without an output bias.")
    if not all(np.isfinite(part).all() for part in network.arrays.values()):
        raise ValueError("network must have finite weights.")
    return task
