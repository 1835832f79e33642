"""Certificates: how far a network is from the best one, among which networks, and how to check it without a solver."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import comb
from numbers import Real
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from convexnn.activations import ACTIVATIONS, lift_feature_penalty
from convexnn.adaptive import blocks_of, solve_adaptively
from convexnn.arrangements import check_data, count_patterns, enumerate_patterns
from convexnn.branching import bound_price
from convexnn.budget import STOPS, Budget, current
from convexnn.charges import bound_charged_price, highest_price
from convexnn.losses import Loss, get_loss
from convexnn.network import Network
from convexnn.penalties import GroupLasso, SparseGroupLasso
from convexnn.problem import Design, Problem
from convexnn.relaxation import bound_prices
from convexnn.result import relative_gap
from convexnn.solvers import CvxpySolver, Newton
from convexnn.squares import Squares
from convexnn.trees import ChargedTree, with_charges

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
# What is stored and what is recomputed may differ by rounding.
ROUNDING = 1e-9


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

    def check(self, X: NDArray, t: NDArray) -> float:
        """The largest price over all patterns of X, without feature penalty max_k |P_k X^T D_k t|, from the data alone.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if there are hidden biases.
        t : array of shape (n_samples,)
            Signed dual variable.

        Returns
        -------
        price : float
        """
        patterns = enumerate_patterns(X).patterns.T
        settings = np.arange(len(patterns)), self.hidden_bias, self.feature_penalty
        penalty = ACTIVATIONS[self.activation]().penalty(X, patterns, *settings)
        return penalty.dual_norm((patterns * t) @ X)

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
    evidence : tuple of (int, int, Enumeration, Tree, ChargedTree or Squares)
        For scope "global": an output, a sign (+1 or -1), and what proves that no such neuron has a price above alpha.
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
    evidence: tuple = field(default=(), repr=False)

    @property
    def gap(self) -> float:
        """objective - lower_bound, never below zero."""
        return max(self.objective - self.lower_bound, 0.0)

    @property
    def relative_gap(self) -> float:
        """gap divided by the objective."""
        return relative_gap(self.objective, self.lower_bound)

    def __str__(self) -> str:
        if self.scope == "none":
            return f"objective {self.objective:.6g}; no lower bound was found."
        found = f"{self.n_searched:,} starts and cells) found no price above {self.price_found:.7g} alpha"
        if self.n_searched and self.scope == "patterns":
            return (
                f"objective {self.objective:.6g}; a search over all activation patterns ({found}. That is a search, "
                f"not a proof; among networks with the {self.n_patterns:,} patterns listed last the gap is "
                f"{self.relative_gap:.1e}."
            )
        how = "proved by " if self.scope == "global" else ""
        search = f" A search over all activation patterns ({found}." if self.n_searched else ""
        share = 100 * self.relative_gap
        return (
            f"objective {self.objective:.6g}, within {share:{'.2g' if share < 99.5 else '.0f'}} % of the best "
            f"{self.networks} (lower bound {self.lower_bound + 0.0:.6g}, {how}{self.method}).{search}"
        )

    def verify(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Check everything again from the data and the evidence, without a solver.

        Recomputed are the objective from the weights, that theta is orthogonal to the unpenalised terms, the upper
        bound of the prices of all neurons from the evidence, and the dual value of theta.

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
        if self.scope != "global" or self.network is None:
            raise ValueError(f"only certificates of scope 'global' can be verified, got scope {self.scope!r}.")
        settings = (self.alpha, self.loss, sample_weight, self.fit_intercept, self.hidden_bias)
        X, rows, problem = bare_problem(self.network, X, y, *settings)
        shape = problem.null_model[1].shape
        theta = np.asarray(self.theta, dtype=float)
        if theta.shape != shape or not np.isfinite(theta).all():
            raise ValueError(f"theta must be finite of shape {shape}, got {theta.shape}.")
        if self.hidden_bias != "none" and self.network.hidden_bias != self.hidden_bias:
            raise ValueError(f"hidden_bias must be that of the network, {self.network.hidden_bias!r}.")
        objective = self.network.objective(X, problem.y, problem.alpha, problem.loss, problem.sample_weight)
        # Where a fit is nearly perfect the objective is rounding of the losses.
        scale = 1e-3 * problem.loss_value(np.zeros(shape))
        _agree("objective", self.objective, objective, scale)
        left = float(np.abs(problem.free.T @ theta).max(initial=0.0))
        if left > ROUNDING * np.abs(problem.free).max(initial=0.0) * np.abs(theta).sum():
            raise ValueError(f"theta must be orthogonal to the unpenalised terms, got an inner product of {left:.3g}.")
        columns = theta.reshape(len(rows), -1)
        wanted = {(output, sign) for output in range(columns.shape[1]) for sign in (1, -1)}
        if {(output, sign) for output, sign, _ in self.evidence} != wanted:
            raise ValueError(f"evidence must cover the outputs and signs {sorted(wanted)}.")
        activation, price = "relu" if self.network.gate_weights is None else "gated_relu", 0.0
        mu = problem.penalty.feature_penalty
        for output, sign, evidence in self.evidence:
            plain = isinstance(evidence, Enumeration)
            if plain and (evidence.activation, evidence.hidden_bias) != (activation, self.hidden_bias):
                raise ValueError(f"evidence must be about {activation!r} and hidden_bias={self.hidden_bias!r}.")
            charged = isinstance(evidence, ChargedTree)
            if (plain or charged) and not np.array_equal(_stretch(evidence.feature_penalty, rows), _stretch(mu, rows)):
                raise ValueError("evidence must be about the feature penalty of the network.")
            if not plain and activation != "relu":
                raise ValueError("evidence for gated networks must be a list of patterns.")
            share = FREE_SHARE_SQUARES if isinstance(evidence, Squares) else FREE_SHARE
            ball = rows if plain or charged else _unit_ball(rows, self.hidden_bias, share, mu)
            bound = evidence.check(ball, sign * columns[:, output])
            _agree(f"the bound for output {output}, sign {sign:+d},", evidence.bound, bound, problem.alpha)
            price = max(price, bound)
        _agree("price", self.price, price / problem.alpha, 1.0)
        if price > problem.alpha * (1 + ROUNDING):
            raise ValueError(f"theta must be feasible, got a price of {price / problem.alpha:.9g} alpha.")
        lower_bound = problem.dual_value(theta)
        _agree("lower_bound", self.lower_bound, lower_bound, scale)
        return lower_bound


def _agree(name: str, stored: float, recomputed: float, scale: float) -> None:
    """ValueError unless two numbers agree but for rounding, which is measured by the scale where they are small."""
    size = max(abs(stored), abs(recomputed), scale)
    if not (np.isfinite(size) and abs(stored - recomputed) <= ROUNDING * size):
        raise ValueError(f"{name} is stored as {stored:.12g}, but recomputed as {recomputed:.12g}.")


def certify_listed(
    network: Network, X: NDArray, problem: Problem, theta: NDArray, complete: bool, hidden_bias: str = "penalized"
) -> Certificate:
    """Grade a network against all networks with the listed patterns, from the data and a dual point.

    Parameters
    ----------
    network : Network
        The network to grade.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    problem : Problem
        The program over the listed patterns.
    theta : array, shape of the predictions
        A guess of the dual variable; it is made feasible here, whatever a solver believed of it.
    complete : bool
        Whether the list holds every pattern of the data.
    hidden_bias : {"penalized", "free", "none"}, default="penalized"
        Of the program.

    Returns
    -------
    certificate : Certificate
    """
    objective = network.objective(X, problem.y, problem.alpha, problem.loss, problem.sample_weight)
    bound, theta = problem.dual_bound(theta)
    design, kind = problem.design, "relu" if network.gate_weights is None else "gated_relu"
    first = np.unique(np.packbits(design.patterns, axis=1), axis=0, return_index=True)[1]
    patterns, evidence = design.patterns if complete else design.patterns[np.sort(first)], []
    n_patterns, signs = len(patterns), ACTIVATIONS[kind].signs
    if complete or len(design.pattern) < n_patterns * len(signs) * design.n_outputs:
        # A search lists a pattern with the sign and the output that it found it for: here it counts with all.
        mu = problem.penalty.feature_penalty
        penalty = ACTIVATIONS[kind]().penalty(design.X, patterns, np.arange(n_patterns), hidden_bias, mu)
        for output, column in enumerate(theta.reshape(len(X), -1).T):
            for sign in (1, -1):
                size = penalty.dual_norm((patterns * (sign * column)) @ design.X)
                evidence.append((output, sign, Enumeration(kind, hidden_bias, size, mu)))
        price = max(proof.bound for _, _, proof in evidence) / problem.alpha
        if not complete and price > 1:
            theta, price = theta / price, 1.0
            bound = problem.dual_value(theta)
    else:
        price = problem.penalty.dual_norm(design.adjoint(theta)) / problem.alpha
    scope = "none" if not np.isfinite(bound) else "global" if complete else "patterns"
    if complete:
        networks, method = (
            _networks(network, problem, " of any width"),
            f"listing all {n_patterns:,} activation patterns",
        )
    else:
        networks = _networks(network, problem, f" with the {n_patterns:,} listed activation patterns")
        method = "no statement on other patterns"
    return Certificate(
        objective,
        bound,
        scope,
        method,
        theta,
        price,
        n_patterns,
        networks,
        alpha=problem.alpha,
        loss=problem.loss,
        fit_intercept=problem.fit_intercept,
        hidden_bias=hidden_bias,
        network=network,
        evidence=tuple(evidence) if complete else (),
    )


def _networks(network: Network, problem: Problem, which: str) -> str:
    kind = "two-layer ReLU network" if network.gate_weights is None else "gated ReLU network"
    kind += "" if problem.skip is None else " with a skip connection"
    return kind + which + (" whose neurons feed one output each" if problem.design.n_outputs > 1 else "")


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


def _stretch(feature_penalty: NDArray | None, rows: NDArray) -> NDArray:
    """1 + mu: a feature penalty makes the norm of v at least the length of (1 + mu_j) v_j, since
    (|v| + sum_j mu_j |v_j|)^2 >= |v|^2 + 2 sum_j mu_j v_j^2 + sum_j mu_j^2 v_j^2."""
    return np.ones(rows.shape[1]) if feature_penalty is None else 1.0 + feature_penalty


def _unit_ball(rows: NDArray, hidden_bias: str, share: float, feature_penalty: NDArray | None = None) -> NDArray:
    r"""Rows whose prices over the unit ball bound those of the neurons that the penalty counts as of norm 1.

    Free biases: with the features shifted to their mean and R the largest norm, a bias beyond R turns all samples on,
    or all off, and then does not matter, since theta sums to zero. So (w, b) with |w| <= 1 and |b| <= R are all there
    are; they lie in the ellipsoid (1 - s) |w|^2 + s (b / R)^2 <= 1, which for small s is hardly longer in w.
    """
    if hidden_bias != "free":
        return rows / _stretch(feature_penalty, rows)
    X = rows[:, :-1] - rows[:, :-1].mean(axis=0)
    reach = np.linalg.norm(X, axis=1).max() or 1.0
    return np.column_stack([X / np.sqrt(1 - share), np.full(len(X), reach / np.sqrt(share))])


def is_quick(rows: NDArray) -> bool:
    """Whether seconds are enough for a proof: for lists of all patterns, or branch and bound, of rows of this rank."""
    rank, count = _size(rows)
    return rank <= SURE_CONE_RANK or count <= MAX_LISTED


def _size(rows: NDArray) -> tuple[int, int]:
    """Rank, and an upper bound on the number of patterns."""
    rank = int(np.linalg.matrix_rank(rows))
    return rank, count_patterns(len(np.unique(rows, axis=0)), rank)


def prove(
    problem: Problem,
    theta: NDArray,
    hidden_bias: str = "penalized",
    method: str = "auto",
    accuracy: float = 1e-3,
    max_time: float | None = 60.0,
    max_cones: int | None = None,
    known: NDArray | None = None,
) -> tuple[NDArray, tuple, str]:
    """A dual point that is feasible for all neurons, from a guess of it.

    Parameters
    ----------
    problem : Problem
        With the rows of the samples (with ones column) and any list of patterns.
    theta : array, shape of the predictions
        Guess of the dual variable.
    hidden_bias : str
        As in the estimators; the activation is ReLU.
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
    rows = problem.design.X
    size = float(np.abs(theta).max(initial=0.0))
    if not 1e-100 < size < 1e100:
        # Squares of such numbers leave the range of double precision.
        theta = theta * (1e100 / size if size > 1 else 0.0)
    if problem.free.shape[1]:
        theta = problem.dual_bound(theta)[1]
    mu = problem.penalty.feature_penalty
    rank, count = _size(rows)
    if mu is not None:
        rank = int(np.linalg.matrix_rank(with_charges(rows, np.zeros(len(rows)), mu)[0]))
    if method == "enumeration" or (method == "auto" and count <= MAX_LISTED):
        blank = Enumeration("relu", hidden_bias, np.inf, mu)
        evidence = _both_signs(theta, lambda t: replace(blank, bound=blank.check(rows, t)))
        return *_feasible(problem, theta, evidence), "listing all activation patterns"
    ball = _unit_ball(rows, hidden_bias, FREE_SHARE)
    found = []
    if method == "branch_and_bound" or (method == "auto" and rank <= MAX_CONE_RANK):
        share = 1.0 if method != "auto" or rank <= SURE_CONE_RANK or not problem.smooth else 0.5
        until = np.inf if max_time is None else start + share * max_time
        if mu is None:
            tries = _both_signs(theta, lambda t: (t, bound_price(ball, t, max_cones=0, known=known).price))
        else:
            tries = _both_signs(theta, lambda t: (t, highest_price(rows, t, mu, known)))
        # theta is as long as it can be once no bound is above alpha or the largest price.
        target = max(problem.alpha, *(price for *_, (_, price) in tries))
        evidence = ()
        # The hardest comes last: it has the time that the others leave.
        for n_left, (output, sign, (t, _)) in zip(range(len(tries), 0, -1), sorted(tries, key=lambda one: one[2][1])):
            left = None if max_time is None else max(until - perf_counter(), 0.0) / n_left
            limits = dict(accuracy=accuracy, target=target, max_time=left, max_cones=max_cones, known=known)
            tree = bound_price(ball, t, **limits) if mu is None else bound_charged_price(rows, t, mu, **limits)
            evidence += ((output, sign, tree),)
        n_cones = sum(tree.n_cones for _, _, tree in evidence)
        found.append((*_feasible(problem, theta, evidence), f"branch and bound over {n_cones:,} cones"))
        slack = max(tree.bound for _, _, tree in evidence) / target - 1
        if method != "auto" or share == 1.0 or slack <= 10 * accuracy:
            return found[0]
    if method == "sums_of_squares" or problem.smooth:
        ball = _unit_ball(rows, hidden_bias, FREE_SHARE_SQUARES, mu)
        try:
            found.append(_by_squares(problem, theta, ball, None if max_time is None else start + max_time))
        except STOPS as stop:
            current().stop(stop)
    if not found:
        return np.zeros_like(theta), (), "nothing"
    return max(found, key=lambda f: problem.dual_value(f[0]))


def proved(
    network: Network,
    X: NDArray,
    problem: Problem,
    theta: NDArray,
    evidence: tuple,
    method: str,
    hidden_bias: str = "penalized",
    n_searched: int = 0,
    price_found: float = float("nan"),
) -> Certificate:
    """Grade a network against all networks of any width, by what ``prove`` returned.

    Parameters
    ----------
    network : Network
        The network to grade.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    problem, theta, evidence, method, hidden_bias
        As given to and returned by ``prove``.
    n_searched, price_found
        As in Certificate.

    Returns
    -------
    certificate : Certificate
        Of scope "none" when nothing was proved.
    """
    bound = problem.dual_value(theta) if evidence else -np.inf
    return Certificate(
        network.objective(X, problem.y, problem.alpha, problem.loss, problem.sample_weight),
        bound,
        "global" if np.isfinite(bound) else "none",
        method,
        theta,
        max((proof.bound for _, _, proof in evidence), default=np.inf) / problem.alpha,
        0,
        _networks(network, problem, " of any width"),
        n_searched,
        price_found,
        problem.alpha,
        problem.loss,
        problem.fit_intercept,
        hidden_bias,
        network,
        evidence,
    )


def _both_signs(theta: NDArray, bounded) -> tuple:
    """Evidence for every output and sign."""
    columns = theta.reshape(len(theta), -1).T
    return tuple((k, sign, bounded(sign * column)) for k, column in enumerate(columns) for sign in (1, -1))


def _feasible(problem: Problem, theta: NDArray, evidence: tuple) -> tuple[NDArray, tuple]:
    """theta shortened until the proved bound of its prices is alpha, and the evidence for that."""
    size = min(1.0, problem.alpha / max(max(proof.bound for _, _, proof in evidence), 1e-300))
    if not np.isfinite(problem.dual_value(size * theta)):
        size = 0.0
    return size * theta, tuple((output, sign, proof.scaled(size)) for output, sign, proof in evidence)


def _by_squares(problem: Problem, theta: NDArray, ball: NDArray, end: float | None) -> tuple[NDArray, tuple, str]:
    """Sums of squares: the two highest levels that are quick, the second from the dual point of the first."""
    rank, C = int(np.linalg.matrix_rank(ball)), problem.design.n_outputs
    program = replace(problem, design=Design(ball, np.zeros((0, len(ball)), dtype=bool), [], [], [], C))
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
    X, rows, problem = bare_problem(network, X, y, alpha, loss, sample_weight, fit_intercept, hidden_bias)
    if method == "sums_of_squares" and not problem.smooth:
        raise ValueError(f'method="sums_of_squares" needs a loss with a Lipschitz gradient, got {problem.loss.name!r}.')
    if hidden_bias != "none":
        network = replace(network, hidden_bias=hidden_bias)
    searched: dict = {}
    known = None
    if theta is None:
        left = None if max_time is None else max_time / 3
        solver = Newton(tol=1e-4, max_time=left) if problem.smooth else CvxpySolver(max_time=left)
        blocks = blocks_of(network, rows, hidden_bias)
        data = (rows, problem.y, problem.loss, alpha, problem.sample_weight, fit_intercept, network.n_outputs)
        rng = np.random.default_rng(random_state)
        mu = problem.penalty.feature_penalty
        with budget:
            _, result, seen = solve_adaptively(*data, solver, blocks, rng, None, problem.skip, hidden_bias, mu)
        point = result.theta
        known = None if hidden_bias == "free" else result.coef[result.coef.any(axis=1)]
        searched = dict(n_searched=seen.n_starts, price_found=seen.price)
    else:
        point = np.asarray(theta, dtype=float)
        if point.shape != problem.null_model[1].shape or not np.isfinite(point).all():
            raise ValueError(f"theta must be finite of shape {problem.null_model[1].shape}, got {point.shape}.")
    try:
        with budget, budget.conclusion():
            point, evidence, words = prove(problem, point, hidden_bias, method, accuracy, budget.left, known=known)
    except STOPS as stop:
        budget.stop(stop)
        point, evidence, words = np.zeros_like(point), (), "nothing"
    return proved(network, X, problem, point, evidence, words, hidden_bias, **searched)  # type: ignore[arg-type]
