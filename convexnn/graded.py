"""What a network is graded by: its training problem as given and in numbers near one, and bounds from dual points.

A lower bound is the dual value of a point theta at which no neuron has a price above alpha and which is orthogonal to
the unpenalised terms. Both hold up to rounding only, and so does the value; here is what that may amount to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import fsum

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import lift_feature_penalty
from convexnn.arrangements import check_data
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.penalties import GroupLasso, SparseGroupLasso
from convexnn.problem import EPS, Design, Problem
from convexnn.units import ROUNDING, Units

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
    X : array of shape (n_samples, n_features)
        The samples of positive weight, without a ones column.
    problem : Problem
        The program in the units of the user, without patterns.
    units : Units
        What the numbers of ``normal`` are in.
    normal : Problem
        The same program in these units; dual points and evidence are about it.
    hidden_bias : {"penalized", "free", "none"}
        As in the estimators.
    """

    network: Network
    X: NDArray
    problem: Problem
    units: Units
    normal: Problem
    hidden_bias: str

    @classmethod
    def of(cls, network, X, y, alpha, loss, sample_weight, fit_intercept, hidden_bias) -> Graded:
        """The grading of a network; arguments and errors as in ``certify``."""
        X, _, problem = bare_problem(network, X, y, alpha, loss, sample_weight, fit_intercept, hidden_bias)
        units = Units.of(X, problem.y, problem.loss, problem.sample_weight, fit_intercept, hidden_bias)
        return cls(network, X, problem, units, units.problem(problem, X), hidden_bias)

    @property
    def activation(self) -> str:
        """Key of ACTIVATIONS."""
        return "relu" if self.network.gate_weights is None else "gated_relu"

    @property
    def data(self) -> NDArray | None:
        """For gated networks the data as they are, with their ones column: those of ``normal`` are rounded, and gates
        on a hyperplane may lie beside it."""
        return None if self.activation == "relu" else self.problem.design.X

    @cached_property
    def objective(self) -> float:
        """Weight-decay objective of the network, in the units of the user."""
        problem = self.problem
        return self.network.objective(self.X, problem.y, problem.alpha, problem.loss, problem.sample_weight)

    @cached_property
    def rounding(self) -> float:
        """What rounding errors of predictions and sums may make of the objective, in the units of the user."""
        network, problem = self.network, self.problem
        z = network.predict(self.X)
        inner = np.abs(self.X) @ np.abs(network.hidden_weights.T) + np.abs(network.hidden_biases)
        size = inner @ np.abs(network.output_weights) + np.abs(network.output_bias)
        if network.skip_weights is not None:
            size = size + np.abs(self.X) @ np.abs(network.skip_weights)
        if problem.loss.target == "real":
            size = size + np.abs(problem.y)
        error = EPS * (self.X.shape[1] + network.n_neurons + 4) * size
        if z.ndim > 1:
            # The loss of a class falls with its own score and rises with the others.
            worse = z + error * np.where(np.eye(z.shape[1], dtype=bool)[problem.y], -1.0, 1.0)
            change = problem.loss.value(problem.y, worse) - problem.loss.value(problem.y, z)
        else:
            value = problem.loss.value(problem.y, z)
            ends = [problem.loss.value(problem.y, z + side * error) for side in (1, -1)]
            change = np.maximum(*ends) - value
        return float(problem.sample_weight @ change) + TERMS * EPS * len(self.X) ** 0.5 * abs(self.objective)

    @cached_property
    def negligible(self) -> float:
        """An objective, or a gap, that is as good as none, in the units of the user: what a linear term cannot improve,
        or the loss of predictions that are off by rounding of the targets."""
        problem, rounded = self.problem, 0.0
        if problem.loss.target == "real":
            # A loss of classes has no targets to be met.
            near = problem.loss.value(problem.y, problem.y + ROUNDING * np.abs(problem.y))
            rounded = float(problem.sample_weight @ near)
        return self.units.factor * self.normal.negligible + rounded

    def lower_bound(self, theta: NDArray, price: float) -> float:
        r"""A number below the objective of every network, in the units of the user; -inf when there is none.

        theta is shortened until no price is above alpha. It is orthogonal to the unpenalised terms but for rounding: a
        vector Delta as small as what is left of their products takes it to where it is exactly. So prices may be larger
        by sum_i |Delta_i| |x_i|, and the dual value is that of theta - Delta, or less by rounding errors. No loss falls
        below zero, which is all that is said where the unpenalised terms themselves are lost in rounding.

        Parameters
        ----------
        theta : array, shape of the predictions
            Dual point of ``normal``.
        price : float
            Upper bound of its prices.
        """
        problem = self.normal
        away, blur = self.away(theta)
        if blur > BLURRED * np.linalg.norm(theta):
            return 0.0
        lengths = np.linalg.norm(problem.design.X, axis=1)
        if self.hidden_bias == "free":
            # Biases up to the length of the longest row beside weights of length 1.
            lengths = lengths + lengths.max()
        reach = 2 * lengths @ np.abs(away).reshape(len(away), -1) + blur * np.linalg.norm(lengths)
        size = problem.alpha / max(problem.alpha, price + float(np.max(reach, initial=0.0)))
        if not (np.isfinite(size) and np.isfinite(price)):
            return -np.inf
        value = problem.dual_value(size * theta)
        moved = problem.dual_value(size * (theta - away)) if away.any() else value
        # The dual value of a loss of classes is no steeper than the logarithm of the smallest number there is.
        s = problem.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        steep = 40 * len(theta) ** 0.5 + np.linalg.norm(problem.y) + np.linalg.norm(theta / s)
        bound = min(value, moved) - abs(value - moved) - blur * steep
        if not np.isfinite(bound):
            return -np.inf
        # What is above the objective is rounding of the objective.
        return min(max(float(self.units.factor * bound - self.dual_rounding(theta)), 0.0), self.objective)

    def price_rounding(self, theta: NDArray) -> float:
        """What rounding errors of the sums over the samples may make of a price."""
        columns = np.abs(theta).reshape(len(theta), -1)
        return TERMS * EPS * float((np.linalg.norm(self.normal.design.X, axis=1) @ columns).max(initial=0.0))

    def dual_rounding(self, theta: NDArray) -> float:
        """What rounding errors may make of the dual value, in the units of the user."""
        problem = self.normal
        s = problem.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        ratio = np.abs(theta / s).reshape(len(theta), -1)
        size = np.abs(problem.y) if problem.loss.target == "real" else np.ones(len(theta))
        terms = np.abs(problem.loss.conjugate(problem.y, -theta / s)) + (ratio * (ratio + size[..., None])).sum(axis=1)
        total = fsum(problem.sample_weight * np.where(np.isfinite(terms), terms, 0.0))
        return self.units.factor * TERMS * EPS * len(theta) ** 0.5 * total

    @cached_property
    def unpenalised(self) -> tuple[NDArray, NDArray]:
        """An orthonormal basis (n_samples, n_free) of the unpenalised terms of the data as they are, and how far each
        vector of it may be off.

        Features are centred exactly, and reduced by Gram and Schmidt in extended precision: what is left of one is a
        direction, whose weights are free however small it is, unless it is rounding there too.
        """
        columns = np.ones((len(self.X), int(self.problem.fit_intercept)), dtype=np.longdouble)
        if self.problem.skip is not None:
            columns = np.column_stack([columns, self.X.astype(np.longdouble) - self.units.center])
        eps = float(np.finfo(np.longdouble).eps) * len(self.X) ** 0.5
        size = np.abs(columns).max(axis=0, initial=0.0)
        columns = columns[:, size > 0] / size[size > 0]
        lengths = np.sqrt((columns**2).sum(axis=0))
        basis: list[NDArray] = []
        blur: list[float] = []
        while columns.shape[1]:
            left = np.sqrt((columns**2).sum(axis=0)) / lengths
            if left.max() <= 16 * eps:
                break
            k = int(left.argmax())
            vector = columns[:, k] / np.sqrt((columns[:, k] ** 2).sum())
            # The second time removes what the first one left.
            for _ in range(2):
                for other in basis:
                    vector = vector - (other @ vector) * other
                vector = vector / np.sqrt((vector**2).sum())
            basis.append(vector)
            blur.append(16 * eps / float(left[k]))
            columns = columns - np.outer(vector, vector @ columns)
        found = np.array(basis, dtype=np.longdouble).reshape(len(basis), len(self.X)).T
        return found, np.array(blur)

    def orthogonal(self, theta: NDArray) -> NDArray:
        """theta less what keeps it from being orthogonal to the unpenalised terms, where that has a dual value."""
        moved = theta - self.away(theta)[0]
        return moved if np.isfinite(self.normal.dual_value(moved)) else theta

    def away(self, theta: NDArray) -> tuple[NDArray, float]:
        """The shortest vector whose difference to theta is orthogonal to the unpenalised terms, and how far that may
        be off; entries on an edge of the domain of the loss stay there."""
        basis, blur = self.unpenalised
        if not len(blur):
            return np.zeros_like(theta), 0.0
        problem, free = self.normal, np.full(len(theta), True)
        s = problem.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
        left, Q = (basis.T @ theta.reshape(len(theta), -1)).astype(float), basis.astype(float)
        away = Q @ left
        for _ in range(10):
            # A loss of several outputs sees differences only: the rows of theta sum to zero, and so do those of away.
            away = (away - away.mean(axis=1, keepdims=True) * (theta.ndim > 1)) * free[:, None]
            away = away.reshape(theta.shape)
            if np.isfinite(problem.dual_value(theta - away)) or not np.isfinite(problem.dual_value(theta)):
                break
            ends = [problem.loss.conjugate(problem.y, -(theta - side * away) / s) for side in (1, -2)]
            free &= np.isfinite(ends).all(axis=0)
            away = Q @ np.linalg.lstsq(Q.T @ (Q * free[:, None]), left, rcond=None)[0]
        return away.reshape(theta.shape), float(blur.sum() * np.linalg.norm(theta))


def bare_problem(network, X, y, alpha, loss, sample_weight, fit_intercept, hidden_bias):
    """Samples of positive weight, their rows with the ones column, and the program that lists no patterns.

    Arguments as in ``certify``.
    """
    X, loss = check_data(X), get_loss(loss, network.n_outputs)
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    y = np.asarray(y)
    if y.shape != (len(X),) or weights.shape != (len(X),):
        raise ValueError(f"y and sample_weight must have shape ({len(X)},), got {y.shape} and {weights.shape}.")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("sample_weight must be finite and non-negative, and positive somewhere.")
    if X.shape[1] != network.hidden_weights.shape[1]:
        raise ValueError(f"X must have {network.hidden_weights.shape[1]} features, got {X.shape[1]}.")
    if hidden_bias not in ("penalized", "free", "none"):
        raise ValueError(f'hidden_bias must be "penalized", "free" or "none", got {hidden_bias!r}.')
    if hidden_bias == "free" and not fit_intercept:
        raise ValueError('hidden_bias="free" needs fit_intercept=True: without it no dual point is feasible.')
    if hidden_bias == "none" and np.any(network.hidden_biases):
        raise ValueError('hidden_bias="none" needs a network without hidden biases.')
    if not fit_intercept and np.any(network.output_bias):
        raise ValueError("fit_intercept=False needs a network without an output bias.")
    if not all(np.isfinite(part).all() for part in vars(network).values() if isinstance(part, (np.ndarray, float))):
        raise ValueError("network must have finite weights.")
    if (loss.target == "classes") != (network.output_weights.ndim > 1):
        shape = network.output_weights.shape
        raise ValueError(f"loss={loss.name!r} does not go with a network with output weights of shape {shape}.")
    y = loss.check_target(y)
    if loss.target == "classes" and y.max() >= network.n_outputs:
        raise ValueError(f"y must be below {network.n_outputs}, the number of outputs, got {y.max()}.")
    keep = weights > 0
    X, y, weights = X[keep], y[keep], weights[keep]
    rows = X if hidden_bias == "none" else np.column_stack([X, np.ones(len(X))])
    design = Design(rows, np.zeros((0, len(X)), dtype=bool), [], [], [], network.n_outputs)
    skip = X if network.skip_weights is not None else None
    mu = lift_feature_penalty(network.feature_penalty, X.shape[1], hidden_bias)
    penalty = GroupLasso() if mu is None else SparseGroupLasso(mu)
    return X, rows, Problem(design, y, loss, penalty, alpha, weights, fit_intercept, skip)
