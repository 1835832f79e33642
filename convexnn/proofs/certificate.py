"""Certificates: how far a network is from the best one, among which networks, and how to check it without a solver."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.arrangements import Arrangement
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.neurons.activations import Activation
from convexnn.neurons.neuron import Neuron
from convexnn.program.result import relative_gap
from convexnn.program.task import Task
from convexnn.proofs.cone_bounds import bound_over_cones
from convexnn.proofs.graded import Graded, task_of
from convexnn.proofs.squares import Squares
from convexnn.proofs.trees import ChargedTree, Tree
from convexnn.search.prices import Price

# Free biases: weight s of the bias in an ellipsoid around |w| <= 1, |b| <= R; prices grow by 1 / sqrt(1 - s) at most.
FREE_SHARE = 1e-3
# For sums of squares, which are loose where the bias outweighs the features: the best of 0.001 to 0.75 on diabetes.
FREE_SHARE_SQUARES = 0.6
# Prices that are stored and recomputed may differ by this share of alpha.
AGREE = 1e-8
# theta may be this share of its length off from being orthogonal to the unpenalised terms; the bound says by how much.
ORTHOGONAL = 1e-9
# How far a stored bound may be from the recomputed one, in units of the gap between that and the objective.
GAP_SHARE = 1e-7


@dataclass(frozen=True, eq=False)
class Enumeration:
    """Evidence by the complete list of activation patterns, for one output and sign.

    Attributes
    ----------
    activation : Activation
        See convexnn.neurons.activations.
    hidden_bias : {"penalized", "free", "none"}
        As in the estimators.
    bound : float
        The largest price.
    feature_penalty : array of shape (n_features,), optional
        Of all coordinates, 0 for a bias.
    """

    activation: Activation
    hidden_bias: str
    bound: float
    feature_penalty: NDArray | None = None

    def check(self, graded: Graded, t: NDArray) -> float:
        """An upper bound of the prices over all patterns, the largest price but for rounding, from the data alone.

        Parameters
        ----------
        graded : Graded
            The training problem.
        t : array of shape (n_samples,)
            Signed dual variable times the kink of the activation, in the units of ``graded``.

        Returns
        -------
        price : float

        Raises
        ------
        ValueError
            When the data have cells too thin for double precision.
        """
        return self.over(graded, graded.listed, t)

    def over(self, graded: Graded, listed: Arrangement, t: NDArray) -> float:
        """The same with the complete list of the patterns of the distinct samples at hand."""
        # In one order and without repetitions, so that the same data have the same rounding errors.
        first, group = graded.distinct
        return bound_over_cones(
            graded.normal.task.rows[first],
            np.bincount(group, t),
            listed.closed_patterns,
            graded.task.neuron,
            resolution=listed.resolution,
        )

    def concerns(self, task: Task) -> None:
        """ValueError unless the evidence is about the neurons of a task."""
        neuron = task.neuron
        if (self.activation, self.hidden_bias) != (neuron.activation, neuron.hidden_bias):
            raise ValueError(
                f"evidence must be about {neuron.activation.title} neurons and hidden_bias={neuron.hidden_bias!r}."
            )
        if not _same_penalty(self.feature_penalty, neuron, task.rows):
            raise ValueError("evidence must be about the feature penalty of the network.")

    def scaled(self, size: float) -> Enumeration:
        """The evidence for size * t."""
        return replace(self, bound=size * self.bound)


@dataclass(frozen=True, eq=False)
class Certificate:
    """Objective of a network, and a lower bound with its scope.

    Attributes
    ----------
    objective : float
        Weight-decay objective of the network itself, evaluated from its weights.
    lower_bound : float
        No network in the scope has a smaller objective; -inf when nothing was proved.
    scope : {"global", "patterns", "none"}
        "global": every two-layer network of any width (with several outputs: whose neurons feed one output each).
        "patterns": networks whose neurons have one of the listed activation patterns. "none": no bound.
    method : str
        How the bound was found.
    theta : array, shape of the predictions
        The dual point of the bound; it can be checked against the data without a solver.
    price : float
        Scope "patterns": largest |P_k A_k^T theta| / alpha over the listed blocks; "global": the proved upper bound of
        the prices of all neurons, in units of alpha. At most 1.
    n_patterns : int
        Length of the list; 0 without one.
    networks : str
        The networks of the scope, in words.
    n_searched : int
        Starting points and cells that a search over all patterns looked at, 0 without one. It proves nothing.
    price_found : float
        Largest price that search found, in units of alpha; a neuron improves the network only if its price is above 1.
    alpha, loss, fit_intercept, hidden_bias
        The training problem, as in ``certify``.
    network : Network, optional
        The network.
    negligible : float
        A gap no larger than this is none: the loss of predictions that meet targets but for rounding.
    gap_found : float
        Relative gap to the bound that would hold if no price were above ``price_found``; nan without a search.
    evidence : tuple of (int, int, Enumeration, Tree, ChargedTree or Squares)
        For scope "global": an output, a sign (+1 or -1), and what proves that no such neuron has a price above alpha,
        in the units of ``convexnn.program.units``.
    """

    objective: float
    lower_bound: float
    scope: str
    method: str
    theta: NDArray = field(repr=False)
    price: float
    n_patterns: int
    networks: str
    n_searched: int = 0
    price_found: float = float("nan")
    alpha: float = float("nan")
    loss: Loss | None = None
    fit_intercept: bool = True
    hidden_bias: str = "penalized"
    network: Network | None = None
    negligible: float = 0.0
    evidence: tuple = field(default=(), repr=False)
    gap_found: float = float("nan")

    @property
    def gap(self) -> float:
        """objective - lower_bound, never below zero."""
        return max(self.objective - self.lower_bound, 0.0)

    @property
    def relative_gap(self) -> float:
        """gap divided by the objective."""
        return 0.0 if self.gap <= self.negligible else relative_gap(self.objective, self.lower_bound)

    @property
    def stated_gap(self) -> float:
        """The gap that is told of a fit: the proved one; of a search without proof the one that it found, if larger."""
        if self.scope == "global" or not self.n_searched:
            return self.relative_gap
        return float(np.maximum(self.relative_gap, self.gap_found))

    def __str__(self) -> str:
        if self.scope == "none":
            return f"objective {self.objective:.6g}; no lower bound was found."
        found = f"A search over all activation patterns ({self.n_searched:,} starts and cells) found no neuron "
        if f"{self.price_found:.7g}" == "1" or self.price_found < 1:
            found += "that lowers the objective: none has a price above alpha."
        else:
            found += f"with a price above {self.price_found:.7g} alpha; only a price above alpha lowers the objective."
        if self.n_searched and self.scope == "patterns":
            gap = f"relative gap {self.stated_gap:.1e}"
            return f"objective {self.objective:.6g}, {gap}. {found} That is a search, not a proof."
        how = "proved by " if self.scope == "global" else ""
        search = f" {found}" if self.n_searched else ""
        share = 100 * self.relative_gap
        return (
            f"objective {self.objective:.6g}, within {share:{'.2g' if share < 99.5 else '.0f'}} % of the best "
            f"{self.networks} (lower bound {self.lower_bound + 0.0:.6g}, {how}{self.method}).{search}"
        )

    def restated(self, graded: Graded) -> Certificate:
        """The certificate with the objective and the bound on other samples that come to the same training problem."""
        if self.scope == "none":
            return self
        bound = graded.stated_bound(self.theta / graded.units.theta, self.price * graded.normal.alpha)
        return replace(self, objective=graded.objective, lower_bound=bound, negligible=graded.negligible)

    @np.errstate(all="ignore")
    def verify(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Check everything again from the data and the evidence, without a solver.

        Recomputed are the objective from the weights, that theta is orthogonal to the unpenalised terms, the upper
        bound of the prices of all neurons from the evidence, the dual value of theta, and what counts as no gap. What a
        search found (``n_searched``, ``price_found``, ``gap_found``), ``method`` and ``n_patterns`` prove nothing, and
        are not looked at.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, without a ones column.
        y : array of shape (n_samples,)
            Targets in the loss's coding: numbers, -1 / +1 (or 0 / 1), or class indices.
        sample_weight : array of shape (n_samples,), optional
            Weights of the losses (with ``class_weight``: times the weights of the classes), by default ones.

        Returns
        -------
        lower_bound : float
            The lower bound as recomputed.

        Raises
        ------
        ValueError
            When anything does not hold, or does not agree with what is stored; the message says what.
        """
        if self.scope != "global" or self.network is None or self.loss is None:
            raise ValueError(f"only certificates of scope 'global' can be verified, got scope {self.scope!r}.")
        if self.hidden_bias != "none" and self.network.hidden_bias != self.hidden_bias:
            raise ValueError(f"hidden_bias must be that of the network, {self.network.hidden_bias!r}.")
        task = task_of(self.network, X, y, self.loss, sample_weight, self.fit_intercept, self.hidden_bias)
        graded = Graded.of(self.network, task, self.alpha)
        theta = np.asarray(self.theta, dtype=float)
        if theta.shape != task.shape or not np.isfinite(theta).all():
            raise ValueError(f"theta must be finite of shape {task.shape}, got {theta.shape}.")
        theta = theta / graded.units.theta
        _agree("objective", self.objective, graded.objective, graded.rounding)
        _agree("negligible", self.negligible, graded.negligible, 1e-6 * graded.negligible)
        if self.networks != (networks := networks_in_words(graded, " of any width")):
            raise ValueError(f"networks is stored as {self.networks!r}, but is {networks!r}.")
        price = max(self._checked_bound(graded, theta, *part) for part in self._covering(graded))
        allowed = AGREE + graded.price_rounding(theta) / graded.normal.alpha
        _agree("price", self.price, price / graded.normal.alpha, allowed)
        if not price <= graded.normal.alpha * (1 + allowed):
            raise ValueError(f"theta must be feasible, got a price of {price / graded.normal.alpha:.9g} alpha.")
        left, size = np.linalg.norm(graded.away(theta)[0]), np.linalg.norm(theta)
        if not left <= ORTHOGONAL * (size + np.linalg.norm(graded.normal.task.null_model[1])):
            raise ValueError(
                f"theta must be orthogonal to the unpenalised terms, got one {left / size:.1e} of its length off."
            )
        found = graded.lower_bound(theta, price)
        if not np.isfinite(found):
            raise ValueError("theta must lie inside the domain of the loss, got one without a dual value.")
        if not found <= graded.objective + graded.rounding + graded.dual_rounding(theta):
            raise ValueError(f"lower_bound must not be above the objective {graded.objective:.12g}, got {found:.12g}.")
        # What is stored follows from the stored price, which the recomputed one agrees with.
        claimed = graded.stated_bound(theta, self.price * graded.normal.alpha)
        tolerance = GAP_SHARE * max(graded.objective - found, 0.0) + graded.dual_rounding(theta)
        if not abs(self.lower_bound - claimed) <= tolerance:
            raise ValueError(f"lower_bound is stored as {self.lower_bound:.12g}, but recomputed as {claimed:.12g}.")
        return min(found, graded.objective)

    def _covering(self, graded: Graded) -> tuple:
        """The evidence, if it is about every output and sign; ValueError if it is not."""
        wanted = {(output, sign) for output in range(graded.task.n_outputs) for sign in (1, -1)}
        if {(output, sign) for output, sign, _ in self.evidence} != wanted:
            raise ValueError(f"evidence must cover the outputs and signs {sorted(wanted)}.")
        return self.evidence

    def _checked_bound(self, graded: Graded, theta: NDArray, output: int, sign: int, evidence) -> float:
        """The bound of the prices of one output and sign, recomputed; ValueError for evidence of something else."""
        rows, neuron = graded.normal.task.rows, graded.task.neuron
        activation = neuron.activation
        t = sign * activation.kink * theta.reshape(len(rows), -1)[:, output]
        if type(evidence) not in EVIDENCE:
            raise ValueError(f"evidence must be one of {[kind.__name__ for kind in EVIDENCE]}, got {evidence!r:.80}.")
        if isinstance(evidence, Enumeration):
            evidence.concerns(graded.task)
            bound = evidence.check(graded, t)
        elif not activation.cones:
            raise ValueError("evidence for gated networks must be a list of patterns.")
        elif isinstance(evidence, ChargedTree):
            if not _same_penalty(evidence.feature_penalty, neuron, rows):
                raise ValueError("evidence must be about the feature penalty of the network.")
            bound = evidence.check(Price(rows, t, activation.lift))
        else:
            share = FREE_SHARE_SQUARES if isinstance(evidence, Squares) else FREE_SHARE
            bound = evidence.check(Price(unit_ball(rows, neuron, share), t, activation.lift))
        tolerance = AGREE * graded.normal.alpha + graded.price_rounding(theta)
        _agree(f"the bound for output {output}, sign {sign:+d},", evidence.bound, bound, tolerance)
        return bound


#: What can be evidence: classes that bound prices from the data, whatever they hold.
EVIDENCE: list[type] = [Enumeration, Tree, ChargedTree, Squares]


def _same_penalty(feature_penalty: NDArray | None, neuron: Neuron, rows: NDArray) -> bool:
    return np.array_equal(_stretch(feature_penalty, rows), _stretch(neuron.feature_penalty, rows))


def _agree(name: str, stored: float, recomputed: float, tolerance: float) -> None:
    """ValueError unless two numbers agree."""
    if not (np.isfinite(recomputed) and abs(stored - recomputed) <= tolerance):
        raise ValueError(f"{name} is stored as {stored:.12g}, but recomputed as {recomputed:.12g}.")


def networks_in_words(graded: Graded, which: str) -> str:
    activation = graded.task.neuron.activation
    kind = f"{'two-layer ' if activation.cones else ''}{activation.title} network"
    kind += "" if graded.task.skip is None else " with a skip connection"
    return kind + which + (" whose neurons feed one output each" if graded.task.n_outputs > 1 else "")


def _stretch(feature_penalty: NDArray | None, rows: NDArray) -> NDArray:
    """1 + mu: a feature penalty makes the norm of v at least the length of (1 + mu_j) v_j, since
    (|v| + sum_j mu_j |v_j|)^2 >= |v|^2 + 2 sum_j mu_j v_j^2 + sum_j mu_j^2 v_j^2."""
    return np.ones(rows.shape[1]) if feature_penalty is None else 1.0 + feature_penalty


def unit_ball(rows: NDArray, neuron: Neuron, share: float) -> NDArray:
    r"""Rows whose prices over the unit ball bound those of the neurons that the penalty counts as of norm 1.

    Free biases: with the features shifted to their mean and R the largest norm, a bias beyond R turns all samples on,
    or all off, and then does not matter, since theta sums to zero. So (w, b) with |w| <= 1 and |b| <= R are all there
    are; they lie in the ellipsoid (1 - s) |w|^2 + s (b / R)^2 <= 1, which for small s is hardly longer in w.
    """
    if not neuron.free_bias:
        return rows / _stretch(neuron.feature_penalty, rows)
    X = rows[:, :-1] - rows[:, :-1].mean(axis=0)
    reach = np.linalg.norm(X, axis=1).max() or 1.0
    return np.column_stack([X / np.sqrt(1 - share), np.full(len(X), reach / np.sqrt(share))])
