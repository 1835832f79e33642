"""Column generation: the convex program over all activation patterns, listing only those that matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.penalties import ConeGroupLasso, GroupLasso
from convexnn.pricing import search
from convexnn.problem import Design, Problem, free_columns
from convexnn.result import STATUSES, Result, relative_gap

# Neurons closer than this (unit vectors) are one neuron that lies on the wall between two cells.
ONE_NEURON = 1e-6
# Cells added in a round, for each sign and output.
MAX_NEW_CELLS = 100
# Below this share of alpha_max the fit passes through larger alphas, a factor CONTINUATION apart.
SMALL_ALPHA = 0.05
CONTINUATION = 3.0
# Above this gap neurons have far to go, and descent on the network takes them across many walls at once.
FAR = 1e-3


@dataclass(frozen=True)
class Search:
    """What a search over all patterns looked at and found; it proves nothing about what it did not look at.

    Attributes
    ----------
    n_starts : int
        Starting points of climbs, and cells, of the last search.
    price : float
        Largest price found, in units of alpha; at most 1 where no neuron was found that would improve the network.
    gap : float
        Relative gap to the lower bound that would hold if no price were larger than the largest found.
    n_rounds : int
        Rounds of listing and solving.
    """

    n_starts: int
    price: float
    gap: float
    n_rounds: int


@dataclass(frozen=True)
class Blocks:
    """Listed blocks: patterns (n_blocks, n_samples), sign, output, and coefficients V (n_blocks, n_features)."""

    patterns: NDArray[np.bool_]
    sign: NDArray[np.float64]
    output: NDArray[np.intp]
    V: NDArray[np.float64]

    def take(self, keep: NDArray) -> Blocks:
        return Blocks(self.patterns[keep], self.sign[keep], self.output[keep], self.V[keep])

    def weightless(self) -> Blocks:
        """The same cells with zero coefficients."""
        return replace(self, V=np.zeros_like(self.V))

    def join(self, other: Blocks) -> Blocks:
        """Both lists; equal blocks become one with the sum of the coefficients."""
        patterns = np.concatenate([self.patterns, other.patterns])
        sign, output = np.concatenate([self.sign, other.sign]), np.concatenate([self.output, other.output])
        V = np.concatenate([self.V, other.V])
        feeds = np.ascontiguousarray(output, dtype=np.int64).view(np.uint8).reshape(len(output), 8)
        key = np.column_stack([np.packbits(patterns, axis=1), (sign > 0).astype(np.uint8), feeds])
        _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
        total = np.zeros((len(first), V.shape[1]))
        np.add.at(total, group.ravel(), V)
        return Blocks(patterns[first], sign[first], output[first], total)

    def merged(self) -> Blocks:
        """Without zero blocks; neurons that agree but for the side of a wall become one, in their heaviest cell."""
        lengths = np.linalg.norm(self.V, axis=1)
        keep = np.flatnonzero(lengths)[np.argsort(-lengths[lengths > 0], kind="stable")]
        part, lengths = self.take(keep), lengths[keep]
        if len(keep) < 2:
            return part
        place = np.column_stack([part.V / lengths[:, None], part.sign, part.output])
        pairs = cKDTree(place).query_pairs(ONE_NEURON, output_type="ndarray")
        graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(keep), len(keep)))
        n_groups, group = connected_components(graph, directed=False)
        total = np.zeros((n_groups, part.V.shape[1]))
        np.add.at(total, group, part.V)
        first = np.unique(group, return_index=True)[1]
        return replace(part.take(first), V=total)


def solve_adaptively(
    X: NDArray,
    y: NDArray,
    loss: Loss,
    alpha: float,
    sample_weight: NDArray,
    fit_intercept: bool,
    n_outputs: int,
    solver,
    blocks: Blocks | None = None,
    random_state: np.random.Generator | None = None,
    callback: Callable[[dict], object] | None = None,
    skip: NDArray | None = None,
) -> tuple[Problem, Result, Search]:
    """Optimum of the ReLU program over all patterns, as far as a thorough search can tell.

    Starts from a short local descent on the network (or from given blocks), then repeats: solve the program over the
    listed cells, drop zero blocks, search all patterns for prices above alpha, list the cells found. The accuracy of
    the inner solves follows the gap. It stops when a thorough search (from every current neuron, across each of its
    walls, from perturbations and from 1,000 fresh random starts) leaves a gap of at most ``solver.tol``.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    y, loss, sample_weight, fit_intercept, n_outputs
        As in ``lift``.
    alpha : float
        Loss per unit of block norm.
    solver : Fista, Newton or CvxpySolver
        Solves the programs over the listed cells; its tol and max_time are those of the whole.
    blocks : Blocks, optional
        Start from these instead of a local descent.
    random_state : numpy Generator, optional
        Source of random starts.
    callback : callable, optional
        Called with an entry of the history after each round.
    skip : array of shape (n_samples, n_skip), optional
        Features of an unpenalised linear term.

    Returns
    -------
    problem : Problem
        Over the cells listed last.
    result : Result
        Its solution; ``history`` has one entry a round.
    search : Search
        What the last search found.

    References
    ----------
    .. [1] F. Bach, Breaking the curse of dimensionality with convex neural networks, JMLR 18 (2017), section 2.5
       (incremental addition of neurons).
    """
    start = perf_counter()
    rng = np.random.default_rng(0) if random_state is None else random_state
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    rows = X / np.where(lengths > 0, lengths, 1.0)
    none = Blocks(np.zeros((0, len(X)), dtype=bool), np.zeros(0), np.zeros(0, dtype=int), np.zeros((0, X.shape[1])))

    def program(blocks, alpha):
        pattern = np.arange(len(blocks.sign))
        design = Design(X, blocks.patterns, pattern, blocks.sign, blocks.output, n_outputs)
        penalty = ConeGroupLasso(X, blocks.patterns, pattern)
        return Problem(design, y, loss, penalty, alpha, sample_weight, fit_intercept, skip)

    def price(theta, blocks, n_random, n_steps):
        """Best price, starts, and for each sign and output the best cells with distinct maximisers."""
        theta = theta.reshape(len(X), n_outputs)
        best, looked, found = 0.0, 0, []
        for output in range(n_outputs):
            for sign in (1.0, -1.0):
                own = np.flatnonzero((blocks.sign == sign) & (blocks.output == output))
                current = blocks.take(own)
                prices, cells, V, n_starts = search(
                    X, rows, sign * theta[:, output], current.V, current.patterns, n_random, n_steps, rng
                )
                best, looked = max(best, float(prices.max(initial=0.0))), looked + n_starts
                found.append((sign, output, prices, cells, V))
        return best, looked, found

    def violators(found, alpha):
        new = none
        for sign, output, prices, cells, V in found:
            above = np.flatnonzero(prices > alpha * (1 + 0.1 * solver.tol))
            if not len(above):
                continue
            tree = cKDTree(V[above] / prices[above, None])
            taken = np.zeros(len(above), dtype=bool)
            chosen = []
            for k in range(len(above)):
                # The cells around a point share its price: list one of them.
                if not taken[k]:
                    chosen.append(above[k])
                    taken[tree.query_ball_point(tree.data[k], ONE_NEURON)] = True
                if len(chosen) == MAX_NEW_CELLS:
                    break
            size = len(chosen)
            unit = V[chosen] / prices[chosen, None]
            new = new.join(Blocks(cells[chosen], np.full(size, sign), np.full(size, output), unit))
        return new

    _, theta = program(none, 1.0).null_model
    alpha_max, _, found = price(theta, none, 200, 30)
    smooth = bool(np.isfinite(loss.lipschitz))
    stages = [alpha]
    while blocks is None and stages[-1] * CONTINUATION < SMALL_ALPHA * alpha_max:
        stages.append(stages[-1] * CONTINUATION)
    if alpha >= alpha_max:
        blocks = none
    elif blocks is None:
        first = stages[-1]
        blocks = none
        if smooth:
            blocks = descend(X, y, loss, first, sample_weight, fit_intercept, n_outputs, rng, skip=skip)
        blocks = blocks.join(violators(found, first).weightless())
    history: list[dict] = []
    unseen = Search(0, np.inf, np.inf, 0)
    status, inner_tol, n_iter, n_rounds = "max_iter", 1e-2, 0, 0
    stage, best = stages.pop(), None
    try:
        while n_rounds < 500:
            n_rounds += 1
            left = None if solver.max_time is None else max(solver.max_time - (perf_counter() - start), 0.0)
            problem = program(blocks, stage)
            most = None if solver.max_iter is None else max(solver.max_iter - n_iter, 1)
            inner = replace(solver, tol=inner_tol, max_iter=most, max_time=left, callback=None)
            result = inner.solve(problem, blocks.V)
            n_iter += result.n_iter
            if stage == alpha:
                best = (problem, result, unseen)
            blocks = replace(blocks, V=result.coef).merged()
            if result.status in ("interrupted", "time_limit", "failed"):
                status = result.status
                break
            goal = solver.tol if stage == alpha else 0.05
            for n_random, n_steps in ((100, 20), (1000, 40)):
                best_price, looked, found = price(result.theta, blocks, n_random, n_steps)
                bound = problem.dual_value(result.theta * min(1.0, stage / max(best_price, 1e-300)))
                gap = relative_gap(result.primal, bound)
                if stage == alpha:
                    best = (problem, result, Search(looked, best_price / alpha, gap, n_rounds))
                if gap > goal or stage != alpha:
                    break
            seconds = perf_counter() - start
            history.append(
                dict(iteration=n_iter, seconds=seconds, objective=result.primal, relative_gap=gap, blocks=len(blocks.V))
            )
            if callback is not None:
                callback(history[-1])
            if gap <= goal or result.primal <= problem.negligible:
                if stage == alpha:
                    status = "optimal"
                    break
                stage, inner_tol = stages.pop(), 1e-2
                continue
            if solver.max_time is not None and seconds > solver.max_time:
                status = "time_limit"
                break
            if solver.max_iter is not None and n_iter >= solver.max_iter:
                break
            before, new = len(blocks.sign), violators(found, stage)
            blocks = blocks.join(new.weightless())
            if gap > FAR and smooth:
                seed = blocks.join(replace(new, V=new.V * 0.03 * np.linalg.norm(blocks.V, axis=1).max(initial=0.0)))
                moved = descend(X, y, loss, stage, sample_weight, fit_intercept, n_outputs, rng, seed, skip=skip)
                blocks = blocks.weightless().join(moved)
            inner_tol = min(inner_tol, max(0.1 * gap, 0.2 * goal))
            if len(blocks.sign) == before:
                inner_tol *= 0.1
                if inner_tol < 1e-3 * goal:
                    status = "almost_optimal"
                    break
    except KeyboardInterrupt:
        status = "interrupted"
    if best is None:
        # Stopped before the wanted alpha was reached: what there is, graded at that alpha.
        problem = program(blocks, alpha)
        z = problem.design @ blocks.V
        c = problem.best_intercept(z)
        dual, theta = problem.dual_bound(problem.null_model[1])
        best = (problem, Result(blocks.V, c, theta, problem.objective(blocks.V, c), dual, status, "", n_iter), unseen)
    problem, result, seen = best
    result = replace(result, status=status, message=STATUSES[status], n_iter=n_iter, history=history)
    return problem, result, seen


def search_alpha_max(
    X: NDArray,
    y: NDArray,
    loss: Loss,
    sample_weight: NDArray,
    fit_intercept: bool,
    n_outputs: int,
    random_state: np.random.Generator,
    skip: NDArray | None = None,
) -> float:
    """Largest price found over all patterns at the best constant prediction: a lower bound of the true alpha_max.

    Parameters
    ----------
    X, y, loss, sample_weight, fit_intercept, n_outputs, random_state, skip
        As in ``solve_adaptively``.

    Returns
    -------
    alpha_max : float
    """
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    rows = X / np.where(lengths > 0, lengths, 1.0)
    empty = np.zeros((0, len(X)), dtype=bool)
    design = Design(X, empty, [], [], [], n_outputs)
    penalty = ConeGroupLasso(X, empty, design.pattern)
    problem = Problem(design, y, loss, penalty, 1.0, sample_weight, fit_intercept, skip)
    theta = problem.null_model[1].reshape(len(X), n_outputs)
    none = np.zeros((0, X.shape[1]))
    return max(
        float(search(X, rows, sign * column, none, empty, 200, 30, random_state)[0].max(initial=0.0))
        for column in theta.T
        for sign in (1.0, -1.0)
    )


def descend(
    X,
    y,
    loss,
    alpha,
    sample_weight,
    fit_intercept,
    n_outputs,
    rng,
    start: Blocks | None = None,
    n_neurons=50,
    max_iter=100,
    skip=None,
) -> Blocks:
    """Blocks of a network that L-BFGS finds on the weight-decay objective itself, from blocks or from a random start.

    Every neuron feeds one output. The point is not to be optimal but to bring patterns worth listing.
    """
    n, d = X.shape
    if start is None:
        output = np.arange(n_neurons * n_outputs) % n_outputs
        W = rng.standard_normal((len(output), d)) / np.sqrt(d)
        a = 0.5 * rng.choice([-1.0, 1.0], len(output))
    else:
        lengths = np.linalg.norm(start.V, axis=1)
        keep = lengths > 0
        output, root = start.output[keep], np.sqrt(lengths[keep])
        W, a = start.V[keep] / root[:, None], start.sign[keep] * root
    m = len(output)
    feeds = output[:, None] == np.arange(n_outputs)
    free = free_columns(n, fit_intercept, skip)

    def objective(p):
        W, a, c = p[: m * d].reshape(m, d), p[m * d : m * d + m], p[m * d + m :].reshape(-1, n_outputs)
        hidden = np.maximum(X @ W.T, 0.0)
        z = hidden @ (feeds * a[:, None]) + free @ c
        z = z[:, 0] if n_outputs == 1 else z
        g = loss.gradient(y, z).reshape(n, n_outputs) * sample_weight[:, None]
        back = g[:, output]
        value = sample_weight @ loss.value(y, z) + 0.5 * alpha * (np.sum(W * W) + a @ a)
        slope_W = ((hidden > 0) * back * a).T @ X + alpha * W
        slope_a = np.einsum("nm,nm->m", hidden, back) + alpha * a
        return value, np.concatenate([slope_W.ravel(), slope_a, (free.T @ g).ravel()])

    c = np.zeros((free.shape[1], n_outputs))
    if skip is not None:
        # Neurons that first have to stand in for the linear term lose their places.
        z = np.maximum(X @ W.T, 0.0) @ (feeds * a[:, None])
        empty = Design(X, np.zeros((0, n), dtype=bool), [], [], [], n_outputs)
        problem = Problem(empty, y, loss, GroupLasso(), alpha, sample_weight, fit_intercept, skip)
        c = free.T @ np.reshape(problem.best_intercept(z[:, 0] if n_outputs == 1 else z), (n, n_outputs)) / n
    begin = np.concatenate([W.ravel(), a, c.ravel()])
    p = minimize(objective, begin, jac=True, method="L-BFGS-B", options=dict(maxiter=max_iter)).x
    W, a = p[: m * d].reshape(m, d), p[m * d : m * d + m]
    blocks = Blocks((X @ W.T >= 0).T, np.where(a >= 0, 1.0, -1.0), output, np.abs(a)[:, None] * W)
    return blocks.join(blocks.take(np.zeros(0, dtype=int)))


def blocks_of(network: Network, X: NDArray, hidden_bias: str) -> Blocks:
    """The blocks of a ReLU network's neurons, each in the cell that its weights lie in; one for each output fed.

    Parameters
    ----------
    network : Network
        A ReLU network.
    X : array of shape (n_samples, n_features)
        The data, with its ones column if ``hidden_bias="penalized"``.
    hidden_bias : {"penalized", "none"}
        Whether biases are the last coordinate.

    Returns
    -------
    blocks : Blocks
    """
    W = network.hidden_weights
    if hidden_bias == "penalized":
        W = np.column_stack([W, network.hidden_biases])
    amounts = network.output_weights.reshape(network.n_neurons, network.n_outputs)
    neuron, output = np.nonzero(amounts)
    a = amounts[neuron, output]
    blocks = Blocks((X @ W[neuron].T >= 0).T, np.sign(a), output, np.abs(a)[:, None] * W[neuron])
    return blocks.join(blocks.take(np.zeros(0, dtype=int)))
