"""Certificates: how far a network is from the best one, among which networks, and how to check it without a solver."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import comb
from numbers import Real
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from convexnn.adaptive import solve_adaptively
from convexnn.arrangements import Arrangement, count_patterns, enumerate_patterns, rank_of, with_faces
from convexnn.branching import bound_price
from convexnn.budget import STOPS, Budget, check, current
from convexnn.cells import Cells
from convexnn.charges import bound_charged_price, highest_price
from convexnn.cone_bounds import bound_over_cones
from convexnn.design import Design
from convexnn.graded import Graded, task_of
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.neuron import Neuron
from convexnn.problem import Problem
from convexnn.relaxation import bound_prices
from convexnn.result import relative_gap
from convexnn.solvers import CvxpySolver, Newton
from convexnn.squares import Squares
from convexnn.task import Task
from convexnn.trees import ChargedTree, Tree, with_charges

METHODS = ("auto", "enumeration", "branch_and_bound", "sums_of_squares")
# Patterns up to which "auto" lists them all: some seconds.
MAX_LISTED = 50_000
# Ranks up to which "auto" searches cones, and beyond which it compares the result with sums of squares.
MAX_CONE_RANK, SURE_CONE_RANK = 8, 6
# Rows of the matrices of sums of squares up to which a level takes a minute or so.
QUICK_ROWS = 300
# Free biases: weight s of the bias in an ellipsoid around |w| <= 1, |b| <= R; prices grow by 1 / sqrt(1 - s) at most.
FREE_SHARE = 1e-3
# For sums of squares, which are loose where the bias outweighs the features: the best of 0.001 to 0.75 on diabetes.
FREE_SHARE_SQUARES = 0.6
# Prices that are stored and recomputed may differ by this share of alpha.
AGREE = 1e-8
# theta may be this share of its length off from being orthogonal to the unpenalised terms; the bound says by how much.
ORTHOGONAL = 1e-9
# Nothing is proved where rounding errors of prices are above this share of alpha.
LOST = 1e-6
# How far a stored bound may be from the recomputed one, in units of the gap between that and the objective.
GAP_SHARE = 1e-7


@dataclass(frozen=True, eq=False)
class Enumeration:
    """Evidence by the complete list of activation patterns, for one output and sign.

    Attributes
    ----------
    activation, hidden_bias : str
        As in the estimators.
    bound : float
        The largest price.
    feature_penalty : array of shape (n_features,), optional
        Of all coordinates, 0 for a bias.
    """

    activation: str
    hidden_bias: str
    bound: float
    feature_penalty: NDArray | None = None

    def check(self, X: NDArray, t: NDArray, data: NDArray | None = None) -> float:
        """An upper bound of the prices over all patterns of X, the largest price but for rounding, from the data alone.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if there are hidden biases.
        t : array of shape (n_samples,)
            Signed dual variable.
        data : array of shape (n_samples, n_features), optional
            The data as they are, where X are they in other units and rounded: gates see the difference.

        Returns
        -------
        price : float

        Raises
        ------
        ValueError
            When X has cells too thin for double precision.
        """
        data = X if data is None else data
        return self.over(self.listed(enumerate_patterns(data), data), X, t, data)

    def listed(self, arrangement: Arrangement, data: NDArray) -> Arrangement:
        """The complete list of the patterns of the data, with those of gates on hyperplanes where that is wanted."""
        if self.activation != "gated_relu":
            return arrangement
        if arrangement.resolution > 0:
            raise ValueError("X has rows that gates tell apart though they are one but for rounding; round the data.")
        if self.hidden_bias == "none" and arrangement.faces is None:
            return with_faces(data, arrangement)
        return arrangement

    def over(self, arrangement: Arrangement, X: NDArray, t: NDArray, data: NDArray) -> float:
        """The same with what ``listed`` gives at hand."""
        # In one order and without repetitions, so that the same data have the same rounding errors.
        _, first, group = np.unique(data, axis=0, return_index=True, return_inverse=True)
        return bound_over_cones(
            X[first],
            np.bincount(group.ravel(), t),
            arrangement.closed_patterns[:, first],
            gated=self.activation == "gated_relu",
            free_bias=self.hidden_bias == "free",
            feature_penalty=self.feature_penalty,
            resolution=arrangement.resolution,
        )

    def concerns(self, task: Task) -> None:
        """ValueError unless the evidence is about the neurons of a task."""
        neuron = task.neuron
        if (self.activation, self.hidden_bias) != (neuron.activation.name, neuron.hidden_bias):
            raise ValueError(
                f"evidence must be about {neuron.activation.name!r} and hidden_bias={neuron.hidden_bias!r}."
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
        in the units of ``convexnn.units``.
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
        if self.networks != (networks := _networks(graded, " of any width")):
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
        if type(evidence) not in EVIDENCE:
            raise ValueError(f"evidence must be one of {[kind.__name__ for kind in EVIDENCE]}, got {evidence!r:.80}.")
        plain, charged = isinstance(evidence, Enumeration), isinstance(evidence, ChargedTree)
        if isinstance(evidence, Enumeration):
            evidence.concerns(graded.task)
        elif not neuron.activation.cones:
            raise ValueError("evidence for gated networks must be a list of patterns.")
        if charged and not _same_penalty(evidence.feature_penalty, neuron, rows):
            raise ValueError("evidence must be about the feature penalty of the network.")
        share = FREE_SHARE_SQUARES if isinstance(evidence, Squares) else FREE_SHARE
        ball = rows if plain or charged else _unit_ball(rows, neuron, share)
        t = sign * theta.reshape(len(rows), -1)[:, output]
        bound = evidence.check(ball, t, graded.data) if plain else evidence.check(ball, t)
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


def certify_listed(graded: Graded, design: Design, theta: NDArray, listed: Arrangement | None = None) -> Certificate:
    """Grade a network against all networks with the listed patterns, from the data and a dual point.

    Parameters
    ----------
    graded : Graded
        The network to grade.
    design : Design
        The listed blocks, of the samples of ``graded``.
    theta : array, shape of the predictions
        A guess of the dual variable, in the units of ``graded``; it is made feasible here, whatever a solver believed
        of it.
    listed : Arrangement, optional
        The list of patterns; where it is complete the certificate is about all of them.

    Returns
    -------
    certificate : Certificate
    """
    normal, task, neuron = graded.normal, graded.normal.task, graded.task.neuron
    first = np.unique(np.packbits(design.patterns, axis=1), axis=0, return_index=True)[1]
    patterns = design.patterns[np.sort(first)]
    n_patterns = len(patterns)
    evidence: tuple = ()
    # A search lists a pattern with the sign and the output that it found it for: here it counts with all.
    program = Problem.listing(task, patterns, normal.alpha)
    theta = graded.orthogonal(program.dual_bound(theta)[1])
    # Gates tell rows apart that are one but for rounding, which moves the price of no ReLU.
    complete = listed is not None and listed.complete and (neuron.activation.cones or listed.resolution == 0)
    if listed is not None and complete:
        theta, evidence = _by_list(graded, theta, listed)
        price = _highest(evidence)
        which, method = " of any width", f"listing all {n_patterns:,} activation patterns"
    else:
        price = program.penalty.dual_norm(program.design.adjoint(theta))
        which, method = f" with the {n_patterns:,} listed activation patterns", "no statement on other patterns"
    bound = graded.stated_bound(theta, price)
    return Certificate(
        graded.objective,
        bound,
        "none" if not np.isfinite(bound) else "global" if complete else "patterns",
        method,
        graded.units.theta * theta,
        price / normal.alpha,
        n_patterns,
        _networks(graded, which),
        alpha=graded.alpha,
        loss=graded.task.loss,
        fit_intercept=task.fit_intercept,
        hidden_bias=neuron.hidden_bias,
        network=graded.network,
        negligible=graded.negligible,
        evidence=evidence,
    )


def _networks(graded: Graded, which: str) -> str:
    kind = "two-layer ReLU network" if graded.task.neuron.activation.cones else "gated ReLU network"
    kind += "" if graded.task.skip is None else " with a skip connection"
    return kind + which + (" whose neurons feed one output each" if graded.task.n_outputs > 1 else "")


def _stretch(feature_penalty: NDArray | None, rows: NDArray) -> NDArray:
    """1 + mu: a feature penalty makes the norm of v at least the length of (1 + mu_j) v_j, since
    (|v| + sum_j mu_j |v_j|)^2 >= |v|^2 + 2 sum_j mu_j v_j^2 + sum_j mu_j^2 v_j^2."""
    return np.ones(rows.shape[1]) if feature_penalty is None else 1.0 + feature_penalty


def _unit_ball(rows: NDArray, neuron: Neuron, share: float) -> NDArray:
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


def is_quick(rows: NDArray) -> bool:
    """Whether seconds are enough for a proof: for lists of all patterns, or branch and bound, of rows of this rank."""
    rank, count = _size(rows)
    return rank <= SURE_CONE_RANK or count <= MAX_LISTED


def _size(rows: NDArray) -> tuple[int, int]:
    """Rank, and an upper bound on the number of patterns."""
    check(4.0 * rows.size * min(rows.shape))
    rank = rank_of(rows)
    return rank, count_patterns(len(np.unique(rows, axis=0)), rank)


def prove(
    graded: Graded,
    theta: NDArray,
    method: str = "auto",
    accuracy: float = 1e-3,
    max_time: float | None = 60.0,
    max_cones: int | None = None,
    known: NDArray | None = None,
) -> tuple[NDArray, tuple, str]:
    """A dual point that is feasible for all neurons, from a guess of it.

    Parameters
    ----------
    graded : Graded
        The training problem, of a ReLU network.
    theta : array, shape of the predictions
        Guess of the dual variable, in the units of ``graded``, like ``known``.
    method : {"auto", "enumeration", "branch_and_bound", "sums_of_squares"}, default="auto"
        As in ``certify``.
    accuracy : float, default=1e-3
        Relative accuracy of the upper bound of the prices at which branch and bound stops.
    max_time : float, optional
        Seconds.
    max_cones : int, optional
        Limit on the cones of branch and bound, for each output and sign.
    known : array of shape (n_known, n_features), optional
        Neurons with high prices.

    Returns
    -------
    theta : array
        Feasible for every neuron; zero when nothing better was proved.
    evidence : tuple
        As in Certificate.
    method : str
        How the prices were bounded, in words.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    start = perf_counter()
    problem, task, neuron = graded.normal, graded.normal.task, graded.task.neuron
    rows, mu = task.rows, neuron.feature_penalty
    # What is longer is no dual variable of these data, what is shorter is zero.
    size = float(np.abs(theta).max(initial=0.0))
    theta = theta / max(size / 1e100, 1.0) if size > 1e-100 else np.zeros_like(theta)
    if problem.task.free.shape[1]:
        theta = graded.orthogonal(problem.dual_bound(theta)[1])
    rank, count = _size(rows)
    if mu is not None:
        rank = int(np.linalg.matrix_rank(with_charges(rows, np.zeros(len(rows)), mu)[0]))
    if method == "enumeration" or (method == "auto" and count <= MAX_LISTED):
        try:
            return *_by_list(graded, theta, enumerate_patterns(rows)), "listing all activation patterns"
        except ValueError:
            # Cells too thin to be listed: cones cover them all the same.
            if method == "enumeration":
                raise
    ball = _unit_ball(rows, neuron, FREE_SHARE) if mu is None else rows
    found = []
    if method == "branch_and_bound" or (method == "auto" and rank <= MAX_CONE_RANK):
        share = 1.0 if method != "auto" or rank <= SURE_CONE_RANK or not problem.task.smooth else 0.5
        until = np.inf if max_time is None else start + share * max_time
        if mu is None:
            tries = _both_signs(theta, lambda t: (t, bound_price(ball, t, max_cones=0, known=known).price))
        else:
            tries = _both_signs(theta, lambda t: (t, highest_price(rows, t, mu, known)))
        # theta is as long as it can be once no bound is above alpha or the largest price.
        target = max(problem.alpha, *(price for *_, (_, price) in tries))
        evidence: tuple = ()
        # The hardest comes last: it has the time that the others leave.
        for n_left, (output, sign, (t, _)) in zip(range(len(tries), 0, -1), sorted(tries, key=lambda one: one[2][1])):
            left = None if max_time is None else max(until - perf_counter(), 0.0) / n_left
            limits = dict(accuracy=accuracy, target=target, max_time=left, max_cones=max_cones, known=known)
            tree = bound_price(ball, t, **limits) if mu is None else bound_charged_price(rows, t, mu, **limits)
            evidence += ((output, sign, tree),)
        n_cones = sum(tree.n_cones for _, _, tree in evidence)
        found.append((*feasible(graded, theta, evidence), f"branch and bound over {n_cones:,} cones"))
        slack = _highest(evidence) / target - 1
        if method != "auto" or share == 1.0 or slack <= 10 * accuracy:
            return found[0]
    if method == "sums_of_squares" or problem.task.smooth:
        ball = _unit_ball(rows, neuron, FREE_SHARE_SQUARES)
        try:
            found.append(_by_squares(graded, theta, ball, None if max_time is None else start + max_time))
        except STOPS as stop:
            current().stop(stop)
    if not found:
        return np.zeros_like(theta), (), "nothing"
    return max(found, key=lambda f: problem.task.dual_value(f[0]))


def proved(
    graded: Graded,
    theta: NDArray,
    evidence: tuple,
    method: str,
    n_searched: int = 0,
    price_found: float = float("nan"),
) -> Certificate:
    """Grade a network against all networks of any width, by what ``prove`` returned.

    Parameters
    ----------
    graded : Graded
        The network to grade.
    theta, evidence, method
        As returned by ``prove``.
    n_searched, price_found
        As in Certificate.

    Returns
    -------
    certificate : Certificate
        Of scope "none" when nothing was proved.
    """
    price = _highest(evidence)
    bound = graded.stated_bound(theta, price)
    return Certificate(
        graded.objective,
        bound,
        "global" if np.isfinite(bound) else "none",
        method,
        graded.units.theta * theta,
        price / graded.normal.alpha,
        0,
        _networks(graded, " of any width"),
        n_searched,
        price_found,
        graded.alpha,
        graded.task.loss,
        graded.task.fit_intercept,
        graded.task.neuron.hidden_bias,
        graded.network,
        graded.negligible,
        evidence,
    )


def _highest(evidence: tuple) -> float:
    """The largest bound of prices: infinite without evidence, NaN where one is."""
    return float(np.max([proof.bound for _, _, proof in evidence])) if evidence else np.inf


def _both_signs(theta: NDArray, bounded) -> tuple:
    """Evidence for every output and sign."""
    columns = theta.reshape(len(theta), -1).T
    return tuple((k, sign, bounded(sign * column)) for k, column in enumerate(columns) for sign in (1, -1))


def feasible(graded: Graded, theta: NDArray, evidence: tuple) -> tuple[NDArray, tuple]:
    """theta shortened until the proved bound of its prices is alpha, and the evidence for that."""
    price = _highest(evidence)
    size = graded.normal.alpha / max(graded.normal.alpha, price) if np.isfinite(price) else 0.0
    lost = graded.price_rounding(size * theta) > LOST * graded.normal.alpha
    zero = graded.lower_bound(np.zeros_like(theta), 0.0)
    if lost or not graded.lower_bound(size * theta, graded.normal.alpha) > zero:
        size = 0.0
    if size == 0.0:
        # Nothing can be said of theta, but zero is feasible.
        theta = np.zeros_like(theta)
    return size * theta, tuple((output, sign, proof.scaled(size)) for output, sign, proof in evidence)


def settled(graded: Graded, theta: NDArray, evidence: Callable[[NDArray], tuple]) -> tuple[NDArray, tuple]:
    """theta shortened until no price is above alpha, and the evidence for just the numbers that a check will see.

    Parameters
    ----------
    graded : Graded
        The training problem.
    theta : array, shape of the predictions
        Guess of the dual variable, in the units of ``graded``.
    evidence : callable
        The evidence about a dual point. Where prices cancel it may grow by other factors than theta.

    Returns
    -------
    theta : array
        Zero when nothing better was proved.
    evidence : tuple
        As in Certificate.
    """
    found = evidence(theta)
    for _ in range(5):
        theta = feasible(graded, theta, found)[0]
        theta = graded.units.theta * theta / graded.units.theta
        found = evidence(theta)
        if _highest(found) <= graded.normal.alpha * (1 + 0.1 * AGREE):
            return theta, found
    return np.zeros_like(theta), evidence(np.zeros_like(theta))


def _by_list(graded: Graded, theta: NDArray, listed: Arrangement) -> tuple[NDArray, tuple]:
    """theta shortened until no price over a complete list is above alpha, and the evidence for just that theta."""
    rows, neuron, data = graded.normal.task.rows, graded.task.neuron, graded.data
    blank = Enumeration(neuron.activation.name, neuron.hidden_bias, np.inf, neuron.feature_penalty)
    listed = blank.listed(listed, data)

    listed = blank.listed(listed, data)

    def evidence(theta):
        return _both_signs(theta, lambda t: replace(blank, bound=blank.over(listed, rows, t, data)))

    return settled(graded, theta, evidence)


def _by_squares(graded: Graded, theta: NDArray, ball: NDArray, end: float | None) -> tuple[NDArray, tuple, str]:
    """Sums of squares: the two highest levels that are quick, the second from the dual point of the first."""
    rank = int(np.linalg.matrix_rank(ball))
    program = replace(graded.normal, task=replace(graded.normal.task, rows=ball))
    levels = [level for level in (1, 2, 3) if level == 1 or comb(rank + level - 1, level) <= QUICK_ROWS][-2:]
    results: list[tuple] = []
    for level in levels:
        left = None if end is None else max(end - perf_counter(), 0.0)
        share = 1.0 if level == levels[-1] else 0.3
        try:
            found = bound_prices(program, theta, level=level, max_time=None if left is None else share * left)
        except STOPS as stop:
            if not results:
                raise
            current().stop(stop)
            break
        evidence = tuple((square.output, square.sign, square) for square in found.evidence)
        results.append((found.lower_bound, found.theta, evidence, f"sums of squares, level {level}"))
        theta = found.theta
        if end is not None and perf_counter() > end:
            break
    return max(results, key=lambda result: result[0])[1:]


@threadpool_limits.wrap(limits=1, user_api="blas")
@np.errstate(all="ignore")
def certify(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    hidden_bias: str | None = None,
    method: str = "auto",
    accuracy: float = 1e-3,
    max_time: float | None = 60.0,
    theta: ArrayLike | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> Certificate:
    r"""A lower bound on what any two-layer ReLU network of any width could reach, beside what this one reaches.

    For a dual point theta and any M that is at least max e theta^T (X u)_+ over unit vectors u and e = +1, -1, the
    point min(1, alpha / M) theta is feasible in the dual of the program over all patterns, so that its dual value is a
    lower bound. theta comes from a fit that starts at the network, unless it is given; M from one of

    * "enumeration": every activation pattern, exactly;
    * "branch_and_bound": cones that cover half of the sphere, to ``accuracy`` or ``max_time`` (rank up to 12);
    * "sums_of_squares": polynomials in place of the activations, with theta moved to where they are best;
    * "auto": the first up to 50,000 patterns, the second up to rank 6, both others up to rank 8 if need be, then the
      third; with losses that have kinks only the first two.

    Parameters
    ----------
    network : Network
        A ReLU network; its ``skip_weights`` say whether there is an unpenalised linear term, its ``feature_penalty``
        is that of the networks it is compared with. Polynomials bound prices over the ellipsoid
        sum_j (1 + mu_j)^2 v_j^2 <= 1 then, which is larger than the ball of the norm; the others lose nothing.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    y : array of shape (n_samples,)
        Targets in the loss's coding: numbers, -1 / +1 (or 0 / 1), or class indices.
    alpha : float
        Weight decay on the sum of losses.
    loss : str or Loss, default="squared"
        See convexnn.losses.
    sample_weight : array of shape (n_samples,), optional
        Weights of the losses.
    fit_intercept : bool, default=True
        Whether networks may have an unpenalised output bias.
    hidden_bias : {"penalized", "free", "none"}, optional
        Among which networks; by default "free" or "penalized" as the network says.
    method : str, default="auto"
        See above.
    accuracy : float, default=1e-3
        Relative accuracy of M at which branch and bound stops.
    max_time : float, default=60
        Seconds; a third of it at most goes into the search for theta. None is no limit.
    theta : array, shape of the predictions, optional
        Dual point, for samples of positive weight.
    random_state : int or numpy Generator, default=0
        Of the search for theta.

    Returns
    -------
    certificate : Certificate
        Of scope "global", or "none" when the bound is -inf.

    Raises
    ------
    ValueError
        For unusable arguments, or a method that is refused for this size: the message says why.

    Examples
    --------
    A network that is far from optimal, and the proof:

    >>> import numpy as np
    >>> from convexnn import Network, certify
    >>> X, y = np.array([[-1.0], [0.0], [1.0]]), np.array([1.0, 0.0, 1.0])
    >>> network = Network(np.array([[1.0]]), np.zeros(1), np.array([1.0]), 0.5)
    >>> certificate = certify(network, X, y, alpha=0.1)
    >>> print(f"{certificate.objective:.3f} {certificate.lower_bound:.3f} {certificate.scope}")
    0.475 0.170 global
    >>> bool(np.isclose(certificate.verify(X, y), certificate.lower_bound))
    True
    """
    # Without a proof all else is in vain.
    budget = Budget(max_time, 0.4 + 0.02 * (max_time or 0.0))
    if network.gate_weights is not None:
        raise ValueError("network must be a ReLU network, got one with gates; use network.to_relu(X).")
    if not (isinstance(alpha, Real) and np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be finite and above 0, got {alpha!r}.")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    hidden_bias = network.hidden_bias if hidden_bias is None else hidden_bias
    if hidden_bias in ("penalized", "free"):
        network = replace(network, hidden_bias=hidden_bias)
    graded = Graded.of(network, task_of(network, X, y, loss, sample_weight, fit_intercept, hidden_bias), alpha)
    problem, task = graded.normal, graded.normal.task
    if method == "sums_of_squares" and not task.smooth:
        raise ValueError(f'method="sums_of_squares" needs a loss with a Lipschitz gradient, got {task.loss.name!r}.')
    searched: dict = {}
    known = None
    if theta is None:
        left = None if max_time is None else max_time / 3
        solver = Newton(tol=1e-4, max_time=left) if task.smooth else CvxpySolver(max_time=left)
        cells = Cells.of_network(graded.units.neurons(network), task.rows, task.neuron)
        point = task.null_model[1]
        with budget, suppress(np.linalg.LinAlgError):
            rng = np.random.default_rng(random_state)
            _, result, seen = solve_adaptively(task, problem.alpha, solver, cells, rng)
            point = result.theta
            known = None if task.neuron.free_bias else result.coef[result.coef.any(axis=1)]
            searched = dict(n_searched=seen.n_starts, price_found=seen.price)
    else:
        point = np.asarray(theta, dtype=float)
        if point.shape != task.shape or not np.isfinite(point).all():
            raise ValueError(f"theta must be finite of shape {task.shape}, got {point.shape}.")
        point = point / graded.units.theta
    try:
        with budget, budget.conclusion():
            proof = prove(graded, point, method, accuracy, budget.left, known=known)
    except STOPS as stop:
        budget.stop(stop)
        proof = np.zeros_like(point), (), "nothing"
    except np.linalg.LinAlgError:
        proof = np.zeros_like(point), (), "nothing"
    return proved(graded, *proof, **searched)
