"""Column generation: the convex program over all activation patterns, listing only those that matter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from threadpoolctl import threadpool_limits

from convexnn.budget import STOPS, Budget, OutOfTime, check, current, late
from convexnn.cells import Cells
from convexnn.penalties import FreeBiasConeGroupLasso
from convexnn.pricing import SPREAD, Peaks, in_single_precision, no_peaks, search
from convexnn.problem import Problem
from convexnn.result import STATUSES, Result, relative_gap, untouched
from convexnn.task import Task

# Neurons are fused with one of their nearest, so many, at a cosine above this: it bounds the work.
NEAR, NEIGHBOURS = 0.9, 5
# Cells added in a round, for each sign and output.
MAX_NEW_CELLS = 200
# Below this share of alpha_max the first descent takes more neurons.
WIDE_BELOW = 0.02
# Above this gap neurons have far to go, and descent on the network takes them across many walls at once; until a round
# that began with it lowers the objective by no more than this share. Nor near the end of a rough fit, at thirty times
# its tolerance: the descent brings cells by the hundred.
FAR, FUTILE = 1e-3, 1e-5
# A quick search: fresh random starts, the least number of vectors that are moved in a generation, generations, and
# the share of alpha below which no climb begins: most that end above alpha begin within a per cent or two of it.
QUICK = (50, 0, 1, 0.985)
# A thorough one: fresh random starts, 50 a feature but within these limits; generations, two a feature; the rest.
STARTS, GENERATIONS, MOVED, WORTH = (1000, 2000), (10, 20), 100, 0.95
# And where peaks are known from another alpha.
THOROUGH_ALONG = (100, 20, 4, WORTH)
# A thorough search follows at once where a quick one has found fewer cells than this share of those that are listed:
# most that later rounds find are there already, and a round costs more.
FEW = 0.1
# Where the cells of the last thorough search have lowered the objective by less than this share of tol, a quick search
# ends a fit on a path, where the next alpha is searched anyway. (Concrete at 0.001 alpha_max: of thirty such rounds two
# were followed by one that lowered it by more; all that are left out lower it by about 0.6 tol.)
LITTLE = 0.1
# What part of a time limit a search for alpha_max may take: without networks it is of no use.
SEARCH_SHARE = 0.2
# Free biases are searched for as the weights of a column this many times as long as the rows of the data.
BIAS_COLUMN = 10.0


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
    alpha_max : float
        Largest price found at the best constant prediction: from this alpha on there are no neurons.
    peaks : Peaks
        Where the price is high and neurons are, to start from at another alpha.
    """

    n_starts: int
    price: float
    gap: float
    n_rounds: int
    alpha_max: float
    peaks: Peaks = field(compare=False, repr=False)


# Products are small here: threads that wait for each other cost up to ten times what they save.
@threadpool_limits.wrap(limits=1, user_api="blas")
def solve_adaptively(
    task: Task,
    alpha: float,
    solver,
    start: Cells | None = None,
    random_state: np.random.Generator | None = None,
    callback: Callable[[dict], object] | None = None,
    alpha_max: float | None = None,
    remembered: Peaks | None = None,
) -> tuple[Problem, Result, Search]:
    """Optimum of the ReLU program over all patterns, as far as a thorough search can tell.

    Starts from a short local descent on the network (or from given blocks), then repeats: solve the program over the
    listed cells, drop zero blocks, search all patterns for prices above alpha, list the cells found. The accuracy of
    the inner solves follows the gap. It stops when thorough searches (from every current neuron, from remembered maxima
    and from 1,000 to 2,000 fresh random starts) leave a gap of at most ``solver.tol``; neurons near each other are then
    fused, and the program over their cells is solved further where their own residuals do not prove that gap. Where
    maxima of another alpha are given thorough searches have 100 fresh starts, and once what they find lowers the
    objective by less than a tenth of tol, a quick search with 50 is enough.

    Parameters
    ----------
    task : Task
        The training problem, of ReLU neurons.
    alpha : float
        Loss per unit of block norm.
    solver : Fista, Newton or CvxpySolver
        Solves the programs over the listed cells; its tol and max_time are those of the whole.
    start : Cells, optional
        Start from these neurons instead of a local descent.
    random_state : numpy Generator, optional
        Source of random starts.
    callback : callable, optional
        Called with an entry of the history after each round.
    alpha_max : float, optional
        Known from a search at the best constant prediction, which is then left out.
    remembered : Peaks, optional
        Those of the searches for a larger alpha, to start from. Thorough searches then need fewer fresh starts.

    Returns
    -------
    problem : Problem
        Over the cells listed in the best round, and those of fused neurons.
    result : Result
        Its solution; ``history`` has two entries a round: after solving, and after searching.
    search : Search
        What the search behind the best bound found.

    References
    ----------
    .. [1] F. Bach, Breaking the curse of dimensionality with convex neural networks, JMLR 18 (2017), section 2.5
       (incremental addition of neurons).
    """
    with Budget(solver.max_time) as budget:
        return _solve(budget, task, alpha, solver, start, random_state, callback, alpha_max, remembered)


def _solve(budget, task, alpha, solver, cells, random_state, callback, alpha_max, remembered):
    start = perf_counter()
    rng = np.random.default_rng(0) if random_state is None else random_state
    none = Cells.none(task.rows)
    peaks = no_peaks(task.rows) if remembered is None else remembered
    last: tuple = (None, peaks, np.inf)

    def program(cells):
        return Problem.over(task, cells, alpha)

    def price(theta, cells, n_random, n_climbs, n_generations, worth):
        """Largest price, number of starts, and the cells with prices above alpha that are to be listed."""
        nonlocal peaks, last
        # With free biases what a search returns is not what it compared.
        own_norm = not task.neuron.free_bias
        if own_norm and theta is last[0]:
            known, settled = last[1:]
        else:
            settled = np.inf
            neurons = cells.take(cells.alive)
            dual = 2 * neurons.output + (neurons.sign < 0)
            directions = neurons.V * (alpha / np.linalg.norm(neurons.V, axis=1, keepdims=True))
            known = peaks.join(Peaks(neurons.patterns, directions, np.full(neurons.V.shape, -1), dual))
        effort = (n_random, n_climbs, n_generations, rng)
        floor = worth * alpha if own_norm else -np.inf
        found, prices, V, looked = find(task, theta, known, effort, floor=floor, settled=settled)
        last = (theta, found, min(floor, settled))
        peaks = found.take(found.apart(n_climbs, SPREAD[1:4]))
        above = np.flatnonzero(prices > alpha * (1 + 0.1 * solver.tol))
        above = above[found.take(above).apart(MAX_NEW_CELLS, SPREAD)]
        output, negative = np.divmod(found.dual[above], 2)
        new = Cells(found.patterns[above], 1.0 - 2.0 * negative, output, V[above] / prices[above, None])
        return float(prices.max(initial=0.0)), looked, new

    def within(tol):
        """The solver with a tolerance, and with what is left of the limits."""
        most = None if solver.max_iter is None else solver.max_iter - n_iter
        return replace(solver, tol=tol, max_iter=most, max_time=budget.left, callback=None)

    def record(result, gap):
        n_blocks = int(np.count_nonzero(result.coef.any(axis=1)))
        entry = dict(iteration=n_iter, seconds=perf_counter() - start, objective=result.primal)
        history.append(entry | dict(relative_gap=gap, blocks=n_blocks))
        if callback is not None:
            callback(history[-1])

    local = partial(descend, task, alpha, rng)
    theta, smooth = task.null_model[1], task.smooth
    history: list[dict] = []
    seen = Search(0, np.inf, np.inf, 0, np.nan, peaks)
    status, inner_tol, n_iter = "max_iter", 1e-3, 0
    # Peaks are the more, and the smaller, the more features there are.
    n_features = task.rows.shape[1]
    effort = int(np.clip(50 * n_features, *STARTS)), MOVED, int(np.clip(2 * n_features, *GENERATIONS)), WORTH
    # Small basins are missed as often as not: what one thorough search did not find another may.
    thorough = 2 * [effort] if remembered is None else [THOROUGH_ALONG]
    best: tuple[Problem, Result] | None = None
    # What the solver starts from: a network too.
    begun = none
    lower, anchor, looked_twice = -np.inf, theta, False
    try:
        new = none
        if alpha_max is None:
            # A limit that ends the search leaves what can be had for nothing.
            alpha_max = least_alpha_max(task)
            seen = replace(seen, alpha_max=alpha_max)
            with suppress(OutOfTime), budget.part(SEARCH_SHARE):
                alpha_max, _, new = price(theta, none, 100, 30, 2, -np.inf)
        seen = replace(seen, alpha_max=alpha_max)
        if alpha >= alpha_max:
            cells = none
        elif cells is None:
            cells = new.weightless()
            if smooth:
                # Small alphas keep many neurons, and local descent from few ends percents above the optimum.
                width = int(np.clip(WIDE_BELOW * alpha_max / alpha, 1, 6) * 50)
                moved = local(n_neurons=width, max_iter=2 * width)
                cells = cells.join(moved)
        for n_rounds in range(1, 501):
            problem, begun = program(cells), cells
            result = within(inner_tol).solve(problem, cells.V)
            n_iter += result.n_iter
            drop = np.inf if best is None else 1 - result.primal / best[1].primal
            if best is None or result.primal <= best[1].primal:
                best = (problem, result)
            record(best[1], relative_gap(best[1].primal, lower))
            listed = replace(cells, V=result.coef)
            cells = listed.merged()
            if drop <= 1e-6 and not smooth:
                # theta is not unique there: cells that it once violated restrain it only while they are listed.
                cells = cells.join(listed.weightless())
            if result.status in ("interrupted", "time_limit", "failed"):
                status = result.status
                break
            # A bound that a quick search suggests is looked at again, thoroughly, before it ends the fit, and so is a
            # theta at which it found little; along a path not where that was just done and hardly paid.
            gap, few = np.inf, min(MAX_NEW_CELLS, 20 + len(cells.sign))
            seen_enough, looked_twice = looked_twice and remembered is not None and drop < LITTLE * solver.tol, False
            for n_random, least, n_generations, worth in [QUICK, *thorough]:
                theta = anchor if gap <= solver.tol else result.theta
                largest, looked, new = price(theta, cells, n_random, max(few, least), n_generations, worth)
                bound = problem.task.dual_value(theta * (alpha / max(alpha, largest)))
                if bound > lower or theta is anchor:
                    lower, anchor = bound, theta
                    seen = replace(seen, n_starts=looked, price=largest / alpha)
                gap = relative_gap(best[1].primal, lower)
                if gap <= solver.tol:
                    if seen_enough and theta is anchor:
                        break
                elif len(new.sign) >= FEW * len(cells.sign):
                    break
                looked_twice = True
            seen = replace(seen, gap=gap, n_rounds=n_rounds)
            record(best[1], gap)
            if budget.over:
                status = budget.status
                break
            if gap <= solver.tol or best[1].primal <= problem.task.negligible:
                status = "optimal"
                break
            if solver.max_iter is not None and n_iter >= solver.max_iter:
                break
            before = len(cells.sign)
            cells = cells.join(new.weightless())
            if gap > max(FAR, 30 * solver.tol) and drop > FUTILE and smooth:
                seed = cells.join(replace(new, V=new.V * 0.3 * np.linalg.norm(cells.V, axis=1).max(initial=0.0)))
                moved = local(seed)
                cells = cells.weightless().join(moved)
            inner_tol = min(inner_tol, max(0.1 * gap, 0.2 * solver.tol))
            if len(cells.sign) == before:
                inner_tol *= 0.1
                if inner_tol < 1e-3 * solver.tol:
                    status = "almost_optimal"
                    break
    except STOPS as stop:
        status = budget.stop(stop)
    with budget.conclusion():
        if best is None or status in ("time_limit", "interrupted"):
            candidates = [] if best is None else [best]
            candidates += [(part, untouched(part, status)) for part in [program(none)]]
            for listed in (begun, none if cells is None else cells):
                with suppress(OutOfTime):
                    candidates.append(_as_it_is(program(listed), listed.V, status))
            best = min(candidates, key=lambda pair: pair[1].primal)
    problem, result = best
    try:
        # Fewer neurons have another best intercept, with which more may become one.
        while True:
            listed = Cells.of_solution(problem.design, result.coef)
            cells = fused(problem, listed, result.intercept)
            if len(cells.sign) == len(listed.sign):
                break
            design = problem.design
            zero = np.zeros(design.shape)
            cells = Cells(design.patterns[design.pattern], design.sign, design.output, zero).join(cells)
            wider = program(cells)
            c = wider.task.best_intercept(wider.design @ cells.V, result.intercept)
            primal = wider.objective(cells.V, c)
            # Neurons that are one change the objective by rounding.
            if primal > result.primal * (1 + 1e-12):
                break
            dual, theta = wider.dual_bound(result.theta)
            primal = min(primal, result.primal)
            result = replace(result, coef=cells.V, intercept=c, theta=theta, primal=primal, dual=dual)
            problem = wider
        # Another dual variable may have proved the gap. That of the weights can be far from it where features are
        # nearly dependent: at it the neurons themselves would have prices above alpha, as if one were missing.
        k = np.flatnonzero(result.coef.any(axis=1))
        part = program(Cells.of_solution(problem.design, result.coef))
        for share in (0.1, 0.01, 0.001) if smooth and status == "optimal" else ():
            own, _ = part.dual_bound(-part.task.gradient(part.design @ result.coef[k] + result.intercept))
            near = relative_gap(result.primal, own) <= solver.tol
            if near or n_iter == solver.max_iter or budget.over:
                break
            closer = within(share * solver.tol).solve(part, result.coef[k])
            n_iter += closer.n_iter
            if closer.primal <= result.primal:
                coef = np.zeros_like(result.coef)
                coef[k] = closer.coef
                dual, theta = problem.dual_bound(closer.theta)
                result = replace(closer, coef=coef, theta=theta, dual=dual)
            if closer.status == "interrupted":
                status = "interrupted"
                break
    except STOPS as stop:
        status = budget.stop(stop) if isinstance(stop, KeyboardInterrupt) else status
    # The best bound may stem from a later round than the best network.
    # Without a search the program that lists no neurons says nothing.
    with budget.conclusion(), suppress(OutOfTime):
        dual, theta = problem.dual_bound(anchor)
        if dual > result.dual and (len(problem.design.pattern) or status not in ("time_limit", "interrupted")):
            result = replace(result, dual=dual, theta=theta)
    result = replace(result, status=status, message=STATUSES[status], n_iter=n_iter, history=history)
    return problem, result, replace(seen, peaks=peaks)


def _as_it_is(problem: Problem, V: NDArray, status: str) -> tuple[Problem, Result]:
    """A program and coefficients that nothing has improved, with the bound of zero."""
    nothing, c = untouched(problem, status), problem.task.best_intercept(problem.design @ V)
    return problem, replace(nothing, coef=V, intercept=c, primal=problem.objective(V, c))


def fused(problem: Problem, cells: Cells, intercept: NDArray | float) -> Cells:
    """Neurons near each other become their sum wherever that does not raise the objective.

    A solution to a tolerance often has several neurons where the optimum has one: in cells next to each other, with
    directions that hardly differ. Their sum is shorter than both together, and changes the predictions little.

    Parameters
    ----------
    problem : Problem
        Its loss, alpha and norm are those of the objective.
    cells : Cells
        Neurons, each inside the cell of its pattern.
    intercept : float or array
        Beside the neurons, and not changed.

    Returns
    -------
    cells : Cells
        Without empty ones; sums have patterns of their own.
    """
    part = cells.take(np.flatnonzero(cells.alive))
    task, X, V = problem.task, problem.task.rows, part.V.copy()
    z = np.zeros((len(task.y), task.n_outputs))
    H = np.maximum(X @ V.T, 0.0) * part.sign
    np.add.at(z.T, part.output, H.T)

    def objective(z, norms):
        return task.loss_value((z if z.shape[1] > 1 else z[:, 0]) + intercept) + problem.alpha * norms.sum()

    norms = task.neuron.norms(V)
    value, alive = objective(z, norms), np.full(len(V), True)
    apart = np.not_equal.outer(part.sign, part.sign) | np.not_equal.outer(part.output, part.output)
    np.fill_diagonal(apart, True)
    while True:
        U = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-300)
        cosine = np.where(apart | ~np.logical_and.outer(alive, alive), -1.0, U @ U.T)
        first = np.repeat(np.arange(len(V)), min(NEIGHBOURS, len(V)))
        second = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS].ravel()
        order = np.argsort(-cosine[first, second], kind="stable")
        before, touched = int(alive.sum()), np.full(len(V), False)
        for i, j in zip(first[order], second[order], strict=True):
            check()
            if cosine[i, j] <= NEAR:
                break
            if touched[i] or touched[j]:
                continue
            v = V[i] + V[j]
            h = X @ v
            if task.neuron.free_bias and (h >= 0).all():
                # Active everywhere the bias is a constant, which is the intercept's.
                continue
            h = np.maximum(h, 0.0) * part.sign[i]
            trial, lengths = z.copy(), norms.copy()
            trial[:, part.output[i]] += h - H[:, i] - H[:, j]
            lengths[i], lengths[j] = task.neuron.norms(v[None])[0], 0.0
            if (reached := objective(trial, lengths)) <= value:
                value, z, norms = reached, trial, lengths
                V[i], V[j], H[:, i], H[:, j] = v, 0.0, h, 0.0
                alive[j], touched[i], touched[j] = False, True, True
        if alive.sum() == before:
            return Cells((X @ V.T >= 0).T, part.sign, part.output, V).take(np.flatnonzero(alive))


def signed(theta: NDArray) -> NDArray:
    """The dual variables with which neurons are priced, those of an output and a sign in column 2 output + (sign < 0).

    Parameters
    ----------
    theta : array of shape (n_samples, n_outputs) or (n_samples,)
        A dual point.

    Returns
    -------
    T : array of shape (n_samples, 2 * n_outputs)

    Examples
    --------
    >>> import numpy as np
    >>> signed(np.array([1.0, -2.0]))
    array([[ 1., -1.],
           [-2.,  2.]])
    """
    return (theta.reshape(len(theta), -1, 1) * np.array([1.0, -1.0])).reshape(len(theta), -1)


def least_alpha_max(task: Task) -> float:
    """The largest price among the gradients at zero, a lower bound of alpha_max that takes two passes over the data.

    Parameters
    ----------
    task : Task
        The training problem.

    Returns
    -------
    least : float
    """
    T = signed(task.null_model[1])
    pull = T.T @ task.rows
    if task.neuron.free_bias:
        pull[:, -1] = 0.0
    prices = np.einsum("nk,nk->k", np.maximum(task.rows @ pull.T, 0.0), T)
    return float((prices / np.maximum(task.neuron.norms(pull), 1e-300)).max(initial=0.0))


def search_alpha_max(task: Task, random_state: np.random.Generator, n_random: int = 100) -> float:
    """Largest price found over all patterns at the best constant prediction: a lower bound of the true alpha_max.

    Parameters
    ----------
    task : Task
        The training problem, of ReLU neurons.
    random_state : numpy Generator
        Source of random starts.
    n_random : int, default=100
        Random starts for each sign and output.

    Returns
    -------
    alpha_max : float
    """
    theta = task.null_model[1]
    try:
        with current().part(SEARCH_SHARE):
            found = find(task, theta, no_peaks(task.rows), (n_random, 30, 2, random_state))
            price = float(found[1].max(initial=0.0))
    except OutOfTime:
        price = least_alpha_max(task)
    return price if price > task.price_rounding(theta) else 0.0


def find(
    task: Task, theta: NDArray, known: Peaks, effort: tuple[int, int, int, np.random.Generator], **options
) -> tuple[Peaks, NDArray, NDArray, int]:
    """Peaks of a search at theta, their prices in the norm of the neurons, vectors with these prices as norms, and the
    starts of the search.

    ``effort`` is n_random, n_climbs, n_generations and rng; all else is as in ``search``. With free biases that runs
    with a long ones column, in whose norm biases hardly count; the cells that it finds are then priced exactly.
    """
    X, T = task.rows, signed(theta)
    if not task.neuron.free_bias:
        peaks, n_starts = search(X, T, known, *effort, feature_penalty=task.neuron.feature_penalty, **options)
        return peaks, peaks.prices, peaks.V, n_starts
    scale = np.ones(X.shape[1])
    scale[-1] = BIAS_COLUMN * np.sqrt(np.mean(np.sum(X[:, :-1] ** 2, axis=1))) or 1.0
    peaks, n_starts = search(X * scale, T, replace(known, V=known.V / scale), *effort, **options)
    peaks = peaks.take(peaks.apart(2 * MAX_NEW_CELLS, SPREAD))
    cones = FreeBiasConeGroupLasso(X, peaks.patterns, np.arange(len(peaks.V)))
    V = cones.maximisers((peaks.patterns * T.T[peaks.dual]) @ X)
    prices, found = np.linalg.norm(V[:, :-1], axis=1), peaks.V * scale
    peaks = replace(peaks, V=found * (prices / np.linalg.norm(found, axis=1))[:, None])
    keep = prices > 0
    return peaks.take(keep), prices[keep], V[keep], n_starts


# Trial steps may leave the range of single precision; the line search does not take them.
@np.errstate(over="ignore", invalid="ignore")
def descend(
    task: Task,
    alpha: float,
    random_state: np.random.Generator,
    start: Cells | None = None,
    n_neurons: int = 50,
    max_iter: int = 400,
) -> Cells:
    """Neurons that L-BFGS finds on the weight-decay objective itself, from given ones or from a random start.

    Every neuron feeds one output. The point is not to be optimal but to bring patterns worth listing: products are in
    single precision, mostly. With a feature penalty weights are differences of two non-negative numbers, and those of
    most features end at zero.
    """
    X, n_outputs = task.rows, task.n_outputs
    n, d = X.shape
    decayed = np.ones(d)
    decayed[-1:] = not task.neuron.free_bias
    feature_penalty = task.neuron.feature_penalty
    signs, mu = ([1.0], np.zeros(d)) if feature_penalty is None else ([1.0, -1.0], feature_penalty)
    if start is None:
        output = np.arange(n_neurons * n_outputs) % n_outputs
        W = random_state.standard_normal((len(output), d)) / np.sqrt(d)
        a = 0.5 * random_state.choice([-1.0, 1.0], len(output))
    else:
        lengths = np.linalg.norm(start.V * decayed, axis=1) + np.abs(start.V) @ mu
        keep = lengths > 0
        output, root = start.output[keep], np.sqrt(lengths[keep])
        W, a = start.V[keep] / root[:, None], start.sign[keep] * root
    order = np.argsort(output, kind="stable")
    output, W, a, m = output[order], W[order], a[order], len(output)
    feeding = [slice(*np.searchsorted(output, (o, o + 1))) for o in range(n_outputs)]
    free = task.free

    rows = in_single_precision(X)

    def forward(W, a):
        hidden = rows @ W.T.astype(rows.dtype)
        np.maximum(hidden, 0.0, out=hidden)
        a = a.astype(rows.dtype)
        return hidden, np.column_stack([hidden[:, part] @ a[part] for part in feeding]).astype(float)

    def unpack(p):
        parts, a, c = np.split(p, [len(signs) * m * d, len(signs) * m * d + m])
        parts = parts.reshape(len(signs), m, d)
        return np.tensordot(signs, parts, 1), parts.sum(axis=0) @ mu, a, c.reshape(-1, n_outputs)

    def objective(p):
        check()
        W, charge, a, c = unpack(p)
        hidden, z = forward(W, a)
        z += free @ c
        z = z[:, 0] if n_outputs == 1 else z
        g = task.gradient(z).reshape(n, n_outputs)
        back, slope_a = (hidden > 0).astype(rows.dtype), np.empty(m)
        for o, part in enumerate(feeding):
            slope = g[:, o].astype(rows.dtype)
            slope_a[part] = slope @ hidden[:, part]
            back[:, part] *= slope[:, None]
        # The decay is the sum of size^2, size = |w| + sum_j mu_j |w_j|, the second linear in the parts.
        lengths = np.linalg.norm(decayed * W, axis=1)
        size = lengths + charge
        slope_W = a[:, None] * (back.T @ rows) + alpha * (size / np.maximum(lengths, 1e-300))[:, None] * decayed * W
        slopes = [(sign * slope_W + alpha * size[:, None] * mu).ravel() for sign in signs]
        slope_a += alpha * a
        decay = np.sum(decayed * W * W) if feature_penalty is None else size @ size
        value = task.loss_value(z) + 0.5 * alpha * (decay + a @ a)
        return value, np.concatenate([*slopes, slope_a, (free.T @ g).ravel()])

    # Neurons that first have to stand in for the unpenalised terms would lose their places.
    z = forward(W, a)[1]
    z = z[:, 0] if n_outputs == 1 else z
    c = free.T @ np.broadcast_to(task.best_intercept(z), z.shape).reshape(n, n_outputs) / n
    parts, low = np.stack([W]), -np.inf
    if feature_penalty is not None:
        parts, low = np.maximum(np.multiply.outer(signs, W), 0.0), 0.0
    begin = np.concatenate([parts.ravel(), a, c.ravel()])
    bounds = Bounds(np.where(np.arange(len(begin)) < parts.size, low, -np.inf), np.inf)
    options = dict(maxiter=max_iter)
    last = begin

    def watch(p):
        nonlocal last
        last = p.copy() if np.isfinite(p).all() else last
        if late():
            raise OutOfTime

    with suppress(OutOfTime):
        minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options, callback=watch)
    W, _, a, _ = unpack(last)
    cells = Cells((X @ W.T >= 0).T, np.where(a >= 0, 1.0, -1.0), output, np.abs(a)[:, None] * W)
    return cells.join(Cells.none(X))
