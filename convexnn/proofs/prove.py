"""Proofs: dual points at which no neuron has a price above alpha, and the evidence for that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import comb
from numbers import Real
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.arrangements import Arrangement, count_patterns, rank_of
from convexnn.budget import STOPS, Budget, check, current
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.program.cells import Cells
from convexnn.program.design import Design
from convexnn.program.problem import Problem
from convexnn.proofs.branching import bound_price
from convexnn.proofs.certificate import (
    AGREE,
    FREE_SHARE,
    FREE_SHARE_SQUARES,
    ORTHOGONAL,
    Certificate,
    Enumeration,
    networks_in_words,
    unit_ball,
)
from convexnn.proofs.charges import bound_charged_price, highest_price
from convexnn.proofs.graded import Graded, task_of
from convexnn.proofs.relaxation import Relaxation, bound_prices
from convexnn.search.column_generation import solve_adaptively
from convexnn.search.prices import Price
from convexnn.solvers import CvxpySolver, Newton
from convexnn.threads import one_thread

METHODS = ("auto", "enumeration", "branch_and_bound", "sums_of_squares")
# Patterns up to which "auto" lists them all: some seconds.
MAX_LISTED = 50_000
# Ranks up to which "auto" searches cones, and beyond which it compares the result with sums of squares.
MAX_CONE_RANK, SURE_CONE_RANK = 8, 6
# Rows of the matrices of sums of squares up to which a level takes a minute or so.
QUICK_ROWS = 300
# Nothing is proved where rounding errors of prices are above this share of alpha.
LOST = 1e-6


def highest_bound(evidence: tuple) -> float:
    """The largest bound of prices: infinite without evidence, NaN where one is."""
    return float(np.max([proof.bound for _, _, proof in evidence])) if evidence else np.inf


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
    complete = None
    if listed is not None and listed.complete:
        first = graded.distinct[0]
        complete = graded.complete(listed.rows(first, graded.task.rows[first]))
    if complete is not None:
        theta, evidence = _by_list(graded, theta, complete)
        price = highest_bound(evidence)
        which, method = " of any width", f"listing all {n_patterns:,} activation patterns"
    else:
        price = program.penalty.dual_norm(program.design.adjoint(theta))
        which, method = f" with the {n_patterns:,} listed activation patterns", "no statement on other patterns"
    bound = graded.stated_bound(theta, price)
    return Certificate(
        graded.objective,
        bound,
        "none" if not np.isfinite(bound) else "patterns" if complete is None else "global",
        method,
        graded.units.theta * theta,
        price / normal.alpha,
        n_patterns,
        networks_in_words(graded, which),
        alpha=graded.alpha,
        loss=graded.task.loss,
        fit_intercept=task.fit_intercept,
        hidden_bias=neuron.hidden_bias,
        network=graded.network,
        negligible=graded.negligible,
        evidence=evidence,
    )


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
        rank = int(np.linalg.matrix_rank(Price(rows, np.zeros(len(rows))).charged(mu).X))
    if method == "enumeration" or (method == "auto" and count <= MAX_LISTED):
        try:
            return *_by_list(graded, theta, graded.listed), "listing all activation patterns"
        except ValueError:
            # Cells too thin to be listed: cones cover them all the same.
            if method == "enumeration":
                raise
    found = []
    if method == "branch_and_bound" or (method == "auto" and rank <= MAX_CONE_RANK):
        share = 1.0 if method != "auto" or rank <= SURE_CONE_RANK or not task.smooth else 0.5
        limits = dict(accuracy=accuracy, max_cones=max_cones, known=known)
        until = np.inf if max_time is None else start + share * max_time
        point, evidence, words, slack = _by_cones(graded, theta, until, limits)
        found.append((point, evidence, words))
        if method != "auto" or share == 1.0 or slack <= 10 * accuracy:
            return found[0]
    if method == "sums_of_squares" or task.smooth:
        ball = unit_ball(rows, neuron, FREE_SHARE_SQUARES)
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
    price = highest_bound(evidence)
    bound = graded.stated_bound(theta, price)
    return Certificate(
        graded.objective,
        bound,
        "global" if np.isfinite(bound) else "none",
        method,
        graded.units.theta * theta,
        price / graded.normal.alpha,
        0,
        networks_in_words(graded, " of any width"),
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


def _both_signs(theta: NDArray, bounded) -> tuple:
    """Evidence for every output and sign."""
    columns = theta.reshape(len(theta), -1).T
    return tuple((k, sign, bounded(sign * column)) for k, column in enumerate(columns) for sign in (1, -1))


def feasible(graded: Graded, theta: NDArray, evidence: tuple) -> tuple[NDArray, tuple]:
    """theta shortened until the proved bound of its prices is alpha, and the evidence for that."""
    price = highest_bound(evidence)
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
        if highest_bound(found) <= graded.normal.alpha * (1 + 0.1 * AGREE):
            return theta, found
    return np.zeros_like(theta), evidence(np.zeros_like(theta))


def _by_list(graded: Graded, theta: NDArray, listed: Arrangement) -> tuple[NDArray, tuple]:
    """theta shortened until no price over a complete list is above alpha, and the evidence for just that theta."""
    neuron = graded.task.neuron
    blank = Enumeration(neuron.activation, neuron.hidden_bias, np.inf, neuron.feature_penalty)

    def evidence(theta):
        t = neuron.activation.kink * theta
        return _both_signs(t, lambda t: replace(blank, bound=blank.over(graded, listed, t)))

    return settled(graded, theta, evidence)


def _by_cones(graded: Graded, theta: NDArray, until: float, limits: dict) -> tuple[NDArray, tuple, str, float]:
    """Branch and bound: a feasible theta, its evidence, the method in words, and how far above its target it ended."""
    rows, neuron, known = graded.normal.task.rows, graded.task.neuron, limits["known"]
    mu, ball = neuron.feature_penalty, unit_ball(rows, neuron, FREE_SHARE)
    T, lift = neuron.activation.kink * theta, neuron.activation.lift
    prices = _both_signs(T, lambda t: Price(ball if mu is None else rows, t, lift))

    def found(price):
        return bound_price(price, max_cones=0, known=known).price if mu is None else highest_price(price, mu, known)

    tries = [(output, sign, (price, found(price))) for output, sign, price in prices]
    # theta is as long as it can be once no bound is above alpha or the largest price.
    target = max(graded.normal.alpha, *(highest for *_, (_, highest) in tries))
    evidence: tuple = ()
    # The hardest comes last: it has the time that the others leave.
    for n_left, (output, sign, (price, _)) in zip(range(len(tries), 0, -1), sorted(tries, key=lambda one: one[2][1])):
        left = None if until == np.inf else max(until - perf_counter(), 0.0) / n_left
        given = dict(target=target, max_time=left, **limits)
        tree = bound_price(price, **given) if mu is None else bound_charged_price(price, mu, **given)
        evidence += ((output, sign, tree),)
    n_cones = sum(tree.n_cones for _, _, tree in evidence)
    words = f"branch and bound over {n_cones:,} cones"
    return *feasible(graded, theta, evidence), words, highest_bound(evidence) / target - 1


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
        point, evidence = _orthogonal_squares(graded, found, ball)
        results.append((found.lower_bound, point, evidence, f"sums of squares, level {level}"))
        theta = found.theta
        if end is not None and perf_counter() > end:
            break
    return max(results, key=lambda result: result[0])[1:]


def _orthogonal_squares(graded: Graded, found: Relaxation, ball: NDArray) -> tuple[NDArray, tuple]:
    """The dual point and the evidence of sums of squares; where the point is not orthogonal to the unpenalised terms,
    as features of a skip connection are nearly dependent, one nearby that is, with bounds of its own."""
    theta, evidence = found.theta, tuple((square.output, square.sign, square) for square in found.evidence)
    if np.linalg.norm(graded.away(theta)[0]) <= 0.1 * ORTHOGONAL * np.linalg.norm(theta):
        return theta, evidence
    theta, activation = graded.orthogonal(theta), graded.task.neuron.activation
    columns = activation.kink * theta.reshape(len(theta), -1)
    prices = [Price(ball, sign * columns[:, output], activation.lift) for output, sign, _ in evidence]
    proofs = (replace(square, bound=square.check(price)) for (*_, square), price in zip(evidence, prices))
    return feasible(graded, theta, tuple((*key, proof) for (*key, _), proof in zip(evidence, proofs)))


@one_thread()
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
    r"""A lower bound on what any two-layer network of any width could reach, beside what this one reaches.

    For a dual point theta and any M that is at least max e theta^T sigma(X u) over unit vectors u and e = +1, -1, the
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
        A network without gates; the bound is about networks of its activation. Its ``skip_weights`` say whether there
        is an unpenalised linear term, its ``feature_penalty`` is that of the networks it is compared with. Polynomials
        bound prices over the ellipsoid sum_j (1 + mu_j)^2 v_j^2 <= 1 then, which is larger than the ball of the norm;
        the others lose nothing.
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
        raise ValueError("network must be one without gates, got a gated ReLU network; use network.to_relu(X).")
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
