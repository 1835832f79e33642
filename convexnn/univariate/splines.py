r"""Networks of one feature with free hidden biases and a skip connection: linear splines, by an active set of knots.

In one dimension |w_j| |a_j| is the change of slope at the knot -b_j / w_j, so that program (C) is

    minimise over linear splines f   sum_i s_i l(y_i, f(x_i)) + alpha TV(f')

(Savarese, Evron, Soudry & Srebro, 2019; Parhi & Nowak, 2021), and knots at data points suffice: with z the values at
the distinct points it is l1 trend filtering, alpha |D z|_1 with D z the changes of slope (Kim, Koh, Boyd & Gorinevsky,
2009). Its dual variable is the price of a ramp, u_j = sum_i theta_i (x_i - x_j)_+, a twofold cumulative sum.

The solver keeps a set of knots and the signs of their changes of slope. Over splines with these knots and signs the
objective is smooth, and in the basis of hat functions its Hessian is tridiagonal and well conditioned however close the
points are, where D has a condition number of n^4. Prices above alpha ask for further knots, one in each interval; a
change of slope that passes zero on the way loses its knot.

All of that happens to what the best line leaves of y, in units in which x, y and the weights have a size of one: powers
of two, so that neither they nor an offset of y changes a digit. Bounds hold for the data as given, rounding included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solveh_banded

from convexnn.losses import Loss
from convexnn.program.result import relative_gap

# Where a loss is linear its Hessian gets this share of its largest, or more while steps must be cut short.
RIDGE = 1e-8
# Rounds of dropping all wrong signs at once before a line search takes over.
BULK = 12
# A Newton decrement below this share of the objective is rounding; prices are as exact as its root.
CONVERGED = 1e-26
# Newton steps between two looks at the prices.
NEWTON = 50
# Evaluations of the gap without a better one after which rounding is said to have stopped the progress.
PATIENCE = 30
# Between neighbouring numbers there are at most so many of their sizes.
EPS = float(np.finfo(float).eps)
# Points nearer to each other than this share of their range share a value.
SAME_POINT = 1e-13
# Binary digits of the largest and the smallest objective.
LARGEST, SMALLEST = 1000, -960


@dataclass(frozen=True, eq=False)
class Line:
    """Samples on a line, in the order of x; x that are equal but for rounding share a prediction.

    Parameters
    ----------
    x, y, weights : arrays of shape (n_samples,)
        Sorted x; targets; positive weights.
    loss : Loss
        With a Lipschitz gradient.
    error : float, default=0.0
        By how much each target may be off; bounds allow for it.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    weights: NDArray[np.float64]
    loss: Loss
    error: float = 0.0

    @cached_property
    def first(self) -> NDArray[np.intp]:
        """Index of the first sample of each distinct x."""
        near = max(SAME_POINT * (self.x[-1] - self.x[0]), EPS * np.abs(self.x).max())
        first = np.flatnonzero(np.concatenate([[True], np.diff(self.x) > near]))
        while True:
            # No point is further than that from the first of its group.
            after = np.searchsorted(self.x, self.x[first] + near, side="right")
            new = after[after < np.append(first[1:], len(self.x))]
            if not len(new):
                return first
            first = np.union1d(first, new)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """The distinct x, shape (n_points,)."""
        return self.x[self.first]

    @cached_property
    def group(self) -> NDArray[np.intp]:
        """Index of each sample's point."""
        return np.repeat(np.arange(len(self.first)), np.diff(np.append(self.first, len(self.x))))

    @cached_property
    def unit(self) -> Unit:
        """These samples in units of their own."""
        return Unit.of(self)

    @cached_property
    def longest(self) -> float:
        """max_j sqrt(sum_i s_i r_j(x_i)^2) for the ramps r_j at the samples, each in its shorter direction."""
        right, left = _lengths(self.x, self.weights), _lengths(-self.x[::-1], self.weights[::-1])[::-1]
        return float(np.minimum(right, left).max())

    def value(self, z: NDArray) -> float:
        """Sum of the losses for values z at the points."""
        return float(self.weights @ self.loss.value(self.y, z[self.group]))

    def gradient(self, z: NDArray) -> NDArray:
        """Derivative of ``value``, shape (n_points,)."""
        return np.add.reduceat(self.weights * self.loss.gradient(self.y, z[self.group]), self.first)

    def curvature(self, z: NDArray, ridge: float) -> NDArray:
        """Second derivative of ``value``, that of each sample at least this share of its largest; (n_points,)."""
        floor = ridge * self.loss.lipschitz
        return np.add.reduceat(self.weights * np.maximum(self.loss.hessian(self.y, z[self.group]), floor), self.first)

    def prices(self, theta: NDArray) -> NDArray:
        """sum_i theta_i (x_i - x_j)_+ at each point, for theta orthogonal to 1 and x: zero at the ends.

        Shape (n_points,).
        """
        total = np.add.reduceat(theta, self.first)
        after = np.cumsum(total[:0:-1])[::-1]
        inner = np.cumsum((after * np.diff(self.points))[::-1])[-2::-1]
        return np.concatenate([[0.0], inner, [0.0]])[: len(total)]

    def dual_bound(self, theta: NDArray, alpha: float) -> tuple[float, NDArray]:
        """The dual value of theta made feasible, and that theta: a lower bound for every spline, or network.

        Parameters
        ----------
        theta : array of shape (n_samples,)
            Guess of minus the derivative of each sample's loss.
        alpha : float
            Price of a unit change of slope.

        Returns
        -------
        bound : float
        theta : array of shape (n_samples,)
        """
        centred = self.x - self.x[0] - self.weights @ (self.x - self.x[0]) / self.weights.sum()
        free = np.column_stack([np.ones_like(centred), centred / (np.abs(centred).max() or 1.0)])
        for _ in range(2):
            theta = theta - self.weights * (free @ np.linalg.lstsq(free.T * self.weights @ free, free.T @ theta)[0])
        # In the length sqrt(sum_i s_i f(x_i)^2) theta gains at most ``left`` from a line of length one, no ramp is
        # longer than ``longest``, and the best function is at most twice as long as y.
        (price, error), (total, total_error) = _ramps(self.x, theta)
        size, spread = np.sqrt(self.weights.sum()), np.sqrt(self.weights @ centred**2)
        moment = abs(price[0] + centred[0] * total) + error[0] + abs(centred[0]) * total_error
        left = np.hypot((abs(total) + total_error) / size, moment / spread if spread > 0 else 0.0)
        both = (price, error), _ramps(-self.x[::-1], theta[::-1])[0]
        highest = np.max([np.max(np.abs(prices) + errors) for prices, errors in both]) + self.longest * left
        # Huber: the projection may leave the domain of the conjugate by a little.
        delta = getattr(self.loss, "delta", np.inf)
        # np.max keeps NaN, which the max of Python may lose.
        edge = np.abs(theta / self.weights).max() / delta
        shrink = np.max([1.0, highest / alpha, edge])
        theta = theta / shrink
        value = -(self.weights @ self.loss.conjugate(self.y, -theta / self.weights))
        rounding = (self.error + 8 * EPS * np.abs(self.y).max()) * np.abs(theta).sum()
        return float(value - rounding - 2 * left / shrink * np.sqrt(self.weights @ self.y**2)), theta


@dataclass(frozen=True, eq=False)
class Unit:
    """Samples in units in which x, weights and what the best line leaves of y have a size of one.

    Attributes
    ----------
    line : Line
        x / 2^x_size, (y - shift - 2^y_size line) / 2^rest_size and weights / 2^weight_size.
    x_size, y_size, rest_size, weight_size : int
        Binary exponents.
    shift, constant, slope : float
        One of the targets, and the best line for the other targets less that one, from the middle point.
    """

    line: Line
    x_size: int
    y_size: int
    rest_size: int
    weight_size: int
    shift: float
    constant: float
    slope: float

    @classmethod
    def of(cls, line: Line) -> Unit:
        """The samples of a line in these units; ValueError where they are too large or too small for any."""
        shift = float(np.partition(line.y, len(line.y) // 2)[len(line.y) // 2])
        with np.errstate(over="ignore"):
            spreads = dict(X=line.x[-1] - line.x[0], y=np.abs(line.y - shift).max(), sample_weight=line.weights.sum())
        for name, spread in spreads.items():
            if not np.isfinite(spread):
                raise ValueError(f"{name} must have a finite range and sum, got {spread:.3g}; divide {name} by 1e10.")
        x_size, y_size, weight_size = exponent(spreads["X"]), exponent(spreads["y"]), exponent(line.weights.max())
        x, weights = np.ldexp(line.x, -x_size), np.ldexp(line.weights, -weight_size)
        y = np.ldexp(line.y - shift, -y_size)
        centred, root, coef = x - x[len(x) // 2], np.sqrt(weights), np.zeros(2)
        free = np.column_stack([np.ones_like(centred), centred])
        for _ in range(2):
            coef += np.linalg.lstsq(root[:, None] * free, root * (y - free @ coef))[0]
        rest = y - free @ coef
        error = 4 * EPS * (np.abs(free) @ np.abs(coef)).max(initial=np.abs(y).max())
        # A line but for rounding, in y or here.
        if np.abs(rest).max() <= error + EPS * np.ldexp(np.abs(line.y).max(), -y_size):
            rest = np.zeros_like(rest)
        rest_size = y_size + (more := exponent(np.abs(rest).max()))
        check_squares(rest, rest_size, weight_size)
        loss = line.loss
        if (delta := getattr(loss, "delta", None)) is not None:
            loss = replace(loss, delta=float(np.ldexp(delta, -rest_size)))  # type: ignore[type-var]
        unit = Line(x, np.ldexp(rest, -more), weights, loss, float(np.ldexp(error, -more)))
        return cls(unit, x_size, y_size, rest_size, weight_size, shift, float(coef[0]), float(coef[1]))

    def alpha(self, alpha: float) -> float:
        """The price of a unit change of slope; ValueError where it is beyond the range of numbers."""
        with np.errstate(over="ignore"):
            price = float(np.ldexp(alpha, -self.x_size - self.rest_size - self.weight_size))
        if price < 1e-300:
            raise ValueError(f"alpha must be larger for data of this size, got {alpha!r}; try alpha='auto'.")
        return min(price, 1e300)

    def objective(self, value: float) -> float:
        """An objective in the units of the data."""
        return float(np.ldexp(value, 2 * self.rest_size + self.weight_size))

    def best_line(self) -> NDArray:
        """Values of the best line at the points, in the units of the data and without the shift."""
        centred = self.line.points - self.line.x[len(self.line.x) // 2]
        return np.ldexp(self.constant + self.slope * centred, self.y_size)

    def values(self, values: NDArray) -> NDArray:
        """Values at the points, from the units of the data."""
        return np.ldexp(values - self.shift - self.best_line(), -self.rest_size)

    def back(self, spline: Spline) -> Spline:
        """A spline in the units of the data."""
        steep = self.rest_size - self.x_size
        return replace(
            spline,
            jumps=np.ldexp(spline.jumps, steep),
            values=self.shift + self.best_line() + np.ldexp(spline.values, self.rest_size),
            slopes=np.ldexp(self.slope, self.y_size - self.x_size) + np.ldexp(spline.slopes, steep),
            theta=np.ldexp(spline.theta, self.rest_size + self.weight_size),
            primal=self.objective(spline.primal),
            dual=self.objective(spline.dual),
        )


def exponent(value: float) -> int:
    """The exponent of the next power of two."""
    return int(np.frexp(value)[1])


def check_squares(y: NDArray, size: int, weight_size: int) -> None:
    """ValueError unless sums of squares of numbers of at most 2^size, or all zero, are in the range of numbers."""
    digits = 2 * size + weight_size + len(y).bit_length()
    if y.any() and not SMALLEST < digits < LARGEST:
        raise ValueError(
            f"y must not be so {'large' if digits > 0 else 'small'} that sums of its squares are beyond the range of "
            f"numbers, got differences of 10^{0.30103 * size:.0f}; divide y by that."
        )


def _sums(t: NDArray) -> tuple[NDArray, NDArray]:
    """Sums of the first, the first two, ... numbers, and a bound of the rounding in each.

    What rounding takes from each sum is known exactly (Knuth's two-sum), and is added up too.
    """
    total = np.cumsum(t)
    before = np.concatenate([[0.0], total[:-1]])
    moved = total - before
    lost = np.cumsum((before - (total - moved)) + (t - moved))
    exact = total + lost
    return exact, EPS * (np.abs(exact) + np.cumsum(np.abs(lost)))


def _ramps(x: NDArray, t: NDArray) -> tuple[tuple[NDArray, NDArray], tuple[float, float]]:
    """sum_i t_i (x_i - x_j)_+ for all j, sorted x, and the sum of t, both with bounds of their rounding."""
    after, error = (part[::-1] for part in _sums(t[::-1]))
    steps = np.diff(x)
    areas = after[1:] * steps
    inner, more = (np.append(part[::-1], 0.0) for part in _sums(areas[::-1]))
    each = steps * error[1:] + 2 * EPS * np.abs(areas)
    return (inner, 1.01 * (more + np.append(np.cumsum(each[::-1])[::-1], 0.0))), (float(after[0]), float(error[0]))


def _lengths(x: NDArray, weights: NDArray) -> NDArray:
    """sqrt(sum_i s_i (x_i - x_j)_+^2) for all j, sorted x: from right to left, sums of positive numbers."""
    steps, mass = np.diff(x), np.cumsum(weights[:0:-1])[::-1]
    first = np.append(np.cumsum((mass * steps)[::-1])[::-1], 0.0)
    second = np.cumsum((steps * (2 * first[1:] + steps * mass))[::-1])[::-1]
    return np.sqrt(np.append(second, 0.0))


def highest_price(x: NDArray, t: NDArray) -> float:
    """The largest price of a ramp at a sample between the ends, in either direction, with a bound of its rounding.

    Parameters
    ----------
    x : array of shape (n_samples,)
        Sorted.
    t : array of shape (n_samples,)
        Signed dual variable, orthogonal to 1 and x.

    Returns
    -------
    price : float
        No smaller than max_j sum_i t_i (x_i - x_j)_+ and max_j sum_i t_i (x_j - x_i)_+.
    """
    (right, above), _ = _ramps(x, t)
    (left, beyond), _ = _ramps(-x[::-1], t[::-1])
    inner = (x > x[0]) & (x < x[-1])
    return float(np.maximum(right + above, (left + beyond)[::-1])[inner].max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Spline:
    """A linear spline and its grade.

    Attributes
    ----------
    knots : integer array of shape (n_knots,)
        Indices of its knots among the points.
    jumps : array of shape (n_knots,)
        Changes of slope there, none of them zero.
    values : array of shape (n_points,)
        Its values at the points.
    slopes : array of shape (n_knots + 1,)
        Its slopes between the knots.
    theta : array of shape (n_samples,)
        Feasible dual point.
    primal, dual : float
        Objective, and lower bound from theta.
    status : str
        A key of ``convexnn.program.result.STATUSES``.
    n_iter : int
        Newton steps.
    history : list of dict
        One entry for each evaluation of the gap.
    """

    knots: NDArray[np.intp]
    jumps: NDArray[np.float64]
    values: NDArray[np.float64]
    slopes: NDArray[np.float64]
    theta: NDArray[np.float64]
    primal: float
    dual: float
    status: str
    n_iter: int
    history: list[dict] = field(default_factory=list, repr=False)

    @property
    def relative_gap(self) -> float:
        """(primal - dual) / |primal|."""
        return relative_gap(self.primal, self.dual)


class _Hats:
    """Splines with given knots: hat functions, one for each knot and the two ends."""

    def __init__(self, points: NDArray, knots: NDArray):
        # A single point has a single node.
        self.nodes = np.concatenate([[0], knots, [len(points) - 1]])[: len(knots) + min(len(points), 2)]
        self.widths = np.diff(points[self.nodes])
        segment = np.repeat(np.arange(len(self.widths)), np.diff(self.nodes))
        # The last point stands alone behind the last segment.
        self.right = np.append((points[:-1] - points[self.nodes[segment]]) / self.widths[segment], 0.0)
        self.left = 1.0 - self.right
        self.segment = np.append(segment, len(self.widths))

    def __matmul__(self, c: NDArray) -> NDArray:
        return self.left * c[self.segment] + self.right * np.append(c, 0.0)[self.segment + 1]

    def adjoint(self, r: NDArray) -> NDArray:
        total = np.add.reduceat(self.left * r, self.nodes)
        total[1:] += np.add.reduceat(self.right * r, self.nodes)[:-1]
        return total

    def slopes(self, c: NDArray) -> NDArray:
        """Slopes between the nodes; zero for a single point."""
        return np.diff(c) / self.widths if len(c) > 1 else np.zeros(1)

    def jumps(self, c: NDArray) -> NDArray:
        """Changes of slope at the knots."""
        return np.diff(self.slopes(c))

    def jumps_adjoint(self, s: NDArray) -> NDArray:
        """Transpose of ``jumps``."""
        steps = -np.diff(np.concatenate([[0.0], s, [0.0]])) / self.widths
        return -np.diff(np.concatenate([[0.0], steps, [0.0]]))

    def newton_step(self, curvature: NDArray, gradient: NDArray) -> NDArray:
        diagonal = np.add.reduceat(self.left**2 * curvature, self.nodes)
        diagonal[1:] += np.add.reduceat(self.right**2 * curvature, self.nodes)[:-1]
        if len(diagonal) == 1:
            return -gradient / diagonal
        beside = np.add.reduceat(self.left * self.right * curvature, self.nodes)[:-1]
        # Equilibrated, as weights and numbers of samples differ from hat to hat.
        scale = 1.0 / np.sqrt(diagonal)
        bands = np.vstack([np.ones_like(diagonal), np.append(beside * scale[:-1] * scale[1:], 0.0)])
        try:
            return -scale * solveh_banded(bands, scale * gradient, lower=True, check_finite=False)
        except LinAlgError:
            # Hats that rounding has made dependent: a step along each alone still leads down.
            return -gradient / diagonal


def fit_spline(
    line: Line,
    alpha: float,
    *,
    tol: float = 1e-6,
    max_iter: int = 20_000,
    max_time: float | None = None,
    start: Spline | None = None,
    callback: Callable[[dict], None] | None = None,
) -> Spline:
    """The best linear spline.

    Parameters
    ----------
    line : Line
        The samples.
    alpha : float
        Price of a unit change of slope, on a sum of losses.
    tol : float, default=1e-6
        Relative duality gap.
    max_iter : int, default=20000
        Limit on the Newton steps.
    max_time : float, optional
        Limit in seconds.
    start : Spline, optional
        Of the same samples, to start from; by default the best line.
    callback : callable, optional
        Gets every entry of the history.

    Returns
    -------
    spline : Spline
    """
    clock, unit = perf_counter(), line.unit
    line, alpha, points = unit.line, unit.alpha(alpha), unit.line.points
    if start is None or not line.y.any():
        knots, signs, values = np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(len(points))
    else:
        knots, signs, values = start.knots, np.sign(start.jumps), unit.values(start.values)
    # Losses are not negative.
    best: dict = dict(primal=np.inf, dual=0.0, theta=np.zeros_like(line.y))
    history: list[dict] = []
    n_iter, stale, smallest = 0, 0, np.inf
    fresh = np.zeros(len(knots), dtype=bool)
    status = "max_iter"
    try:
        while True:
            knots, signs, values, steps = _descend(line, alpha, knots, signs, fresh, values, tol)
            n_iter += steps
            hats = _Hats(points, knots)
            slopes = hats.slopes(values[hats.nodes])
            jumps = np.diff(slopes)
            primal = line.value(values) + alpha * float(np.abs(jumps).sum())
            if primal < best["primal"]:
                best |= dict(knots=knots, jumps=jumps, values=values, slopes=slopes, primal=primal)
            theta = -line.weights * line.loss.gradient(line.y, values[line.group])
            dual, feasible = line.dual_bound(theta, alpha)
            if dual > best["dual"]:
                best |= dict(dual=min(dual, best["primal"]), theta=feasible)
            gap = relative_gap(best["primal"], best["dual"])
            stale = 0 if gap < smallest else stale + 1
            smallest = min(gap, smallest)
            seconds = perf_counter() - clock
            entry = dict(iteration=n_iter, seconds=seconds, objective=unit.objective(best["primal"]))
            history.append(entry | dict(relative_gap=gap, blocks=len(best["knots"])))
            if callback is not None:
                callback(history[-1])
            if gap <= tol:
                status = "optimal"
            elif stale >= PATIENCE:
                status = "stalled"
            elif max_time is not None and seconds >= max_time:
                status = "time_limit"
            elif n_iter < max_iter:
                prices = line.prices(theta)
                knots, signs, fresh = _add_knots(prices, alpha, knots, signs)
                continue
            break
    except KeyboardInterrupt:
        if "knots" not in best:
            raise
        status = "interrupted"
    return unit.back(Spline(**best, status=status, n_iter=n_iter, history=history))


def _add_knots(prices, alpha, knots, signs):
    """Knots, signs and which are fresh, with the dearest ramp of either sign in every interval between knots."""
    new = np.zeros(len(prices), dtype=bool)
    nodes = np.concatenate([[0], knots])
    inside = prices.copy()
    inside[np.append(nodes, -1)] = 0.0
    for sign in (1.0, -1.0):
        excess = sign * inside - alpha
        highest = np.repeat(np.maximum.reduceat(excess, nodes), np.diff(np.append(nodes, len(prices))))
        new |= (excess == highest) & (excess > 0)
    added = np.flatnonzero(new)
    merged = np.concatenate([knots, added])
    order = np.argsort(merged, kind="stable")
    signs = np.concatenate([signs, np.sign(prices[added])])
    return merged[order], signs[order], np.isin(order, np.arange(len(knots), len(merged)))


def _descend(line, alpha, knots, signs, fresh, values, tol):
    """The best spline with these knots or some of them, and its signs: Newton steps with exact line searches."""
    points, quadratic = line.points, line.loss.name == "squared"
    n_steps, last, ridge = 0, np.inf, RIDGE
    while n_steps < NEWTON:
        n_steps += 1
        hats = _Hats(points, knots)
        c = values[hats.nodes]
        gradient = hats.adjoint(line.gradient(values)) + alpha * hats.jumps_adjoint(signs)
        move = hats.newton_step(line.curvature(values, ridge), gradient)
        turn = hats.jumps(move)
        against = fresh & (signs * turn <= 0)
        if against.any() and not against.all():
            knots, signs, fresh = knots[~against], signs[~against], fresh[~against]
            continue
        jumps = np.where(fresh, 0.0, hats.jumps(c))
        decrement = -float(gradient @ move)
        objective = line.value(values) + alpha * float(np.abs(jumps).sum())
        wrong = signs * (jumps + turn) <= 0
        stuck = decrement <= 1e-16 * objective and decrement >= 0.25 * last and not wrong.any()
        if (stuck or decrement <= CONVERGED * objective) and not fresh.any() and not quadratic:
            break
        last = decrement
        if not wrong.any() and quadratic:
            values = hats @ (c + move)
            break
        trial = _bulk(line, alpha, hats, knots, signs, c + move, wrong, ridge) if wrong.any() else None
        if trial is not None and trial[3] < objective - (0.0 if quadratic else 0.25 * decrement):
            knots, signs, values = trial[:3]
            fresh = np.zeros(len(knots), dtype=bool)
            if quadratic:
                break
            continue
        t, hit = _line_search(line, alpha, hats, values, jumps, move, turn, fresh)
        ridge = min(100 * ridge, 1.0) if t < 0.1 else max(0.01 * ridge, RIDGE)
        values = hats @ (c + t * move)
        jumps = jumps + t * turn
        keep = np.ones(len(knots), dtype=bool)
        keep[hit] = False
        keep &= jumps != 0
        knots, signs, fresh = knots[keep], np.sign(jumps[keep]), np.zeros(keep.sum(), dtype=bool)
        if t == 0.0 and not len(hit):
            break
    return knots, signs, values, n_steps


def _bulk(line, alpha, hats, knots, signs, c, wrong, ridge):
    """Drop all knots with wrong signs at once, again and again: knots, signs, values and objective, or None."""
    for _ in range(BULK):
        if not wrong.any():
            values = hats @ c
            return knots, signs, values, line.value(values) + alpha * float(np.abs(hats.jumps(c)).sum())
        knots, signs = knots[~wrong], signs[~wrong]
        c = np.concatenate([c[:1], c[1:-1][~wrong], c[-1:]])
        hats = _Hats(line.points, knots)
        values = hats @ c
        gradient = hats.adjoint(line.gradient(values)) + alpha * hats.jumps_adjoint(signs)
        c = c + hats.newton_step(line.curvature(values, ridge), gradient)
        wrong = signs * hats.jumps(c) <= 0
    return None


def _line_search(line, alpha, hats, values, jumps, move, turn, fresh):
    """The best t in [0, 1] along a move, and the knots whose change of slope vanishes there.

    The slope along the move rises with t and jumps where a change of slope passes zero.
    """
    along = hats @ move
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(fresh, 0.0, -jumps / turn)
    crossing = np.where((crossing >= 0) & (turn != 0) & ~fresh, crossing, np.inf)

    def slope(t):
        signs = np.where(crossing <= t, np.sign(turn), np.where(fresh, np.sign(turn), np.sign(jumps)))
        return float(line.gradient(values + t * along) @ along + alpha * (signs @ turn))

    cuts = np.unique(np.append(crossing[crossing < 1], 1.0))
    low, high = 0, len(cuts) - 1
    # The first cut behind which the slope is not negative.
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if slope(cuts[middle]) >= 0 else (middle + 1, high)
    end = cuts[low]
    begin = cuts[low - 1] if low else 0.0
    before = np.nextafter(end, begin)
    if slope(before) < 0:
        return end, np.flatnonzero(crossing == end)
    a, b = slope(begin), slope(before)
    if a >= 0:
        # Rounding: no way down. A change of slope that would vanish at once is rounding too.
        return begin, np.flatnonzero(crossing <= 1e-12)
    for _ in range(60):
        t = begin - a * (before - begin) / (b - a) if b > a else begin
        s = slope(t) if begin < t < before else 0.0
        if abs(s) <= 1e-10 * (abs(a) + abs(b)) or before - begin <= 1e-12:
            break
        begin, a, before, b = (t, s, before, b) if s < 0 else (begin, a, t, s)
    return t, np.zeros(0, dtype=np.intp)
