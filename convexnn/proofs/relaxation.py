r"""Pricing from above by sums of squares: touching points, vanishing matrices and the dual point that bound well.

``Squares`` bounds prices whatever it holds. Here the largest of its eigenvalues is smoothed [1]_ and made small by
L-BFGS, and the dual point moves where the bound on the objective is high.

References
----------
.. [1] Yu. Nesterov, Smoothing technique and its applications in semidefinite optimization, Math. Program. 110 (2007).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, logit

from convexnn.budget import STOPS, OutOfTime, current, late
from convexnn.program.problem import Problem
from convexnn.program.task import Task
from convexnn.proofs.squares import MEMORY, Block, Geometry, Squares, free_nodes
from convexnn.search.prices import Price

# Smoothing of the largest eigenvalue, in units of alpha, from stage to stage.
SMOOTHING = (0.1, 0.03, 0.01, 0.003, 0.001)
# Penalty of the augmented Lagrangian, in units of the multiplier.
RHO = 30.0
# Units of the unknowns: touching points matter by the weight of one sample each, theta by its part in the loss.
NODE_UNIT = 0.3
THETA_UNIT = 0.1


def quadrature(level: int, above: bool, m: NDArray) -> NDArray:
    """Square roots of the double nodes whose polynomial has the least mean, for tau of moments m = (1, m_1, .. m_k).

    They are those of Gauss, Radau and Lobatto: of Gauss for the moments of tau or 1 - tau times tau^j, where 0 or 1 is
    a simple node.
    """
    count = free_nodes(level)[0 if above else 1]
    m = m if above else m[1:]
    m = m[:-1] - m[1:] if (level % 2 == 0) == above else m
    if not count:
        return np.zeros(0)
    powers = np.add.outer(np.arange(count), np.arange(count))
    monomials = np.linalg.solve(m[powers], -m[count : 2 * count])
    return np.sqrt(np.clip(np.roots([1.0, *monomials[::-1]]).real, 1e-4, 0.99))


def gradients(block: Block, Y: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Gradients of <Q, Y> of a block: in positive, negative, above and below."""
    forms, lengths = block.geometry.forms, block.geometry.lengths
    parts = forms.traces(Y)
    moments = np.concatenate([forms.moments(block.geometry.V, parts), forms.moments(block.V, parts)])
    high, low = (block.above * moments).sum(axis=1), (block.below * moments[:-1]).sum(axis=1)
    slope = forms.slope(block.V, parts, block.above[-1])
    by_L = high[-1] * block.direction[0] + slope - (slope @ block.direction[0]) * block.direction[0]
    by_t = block.lean * (block.geometry.Z @ by_L)
    weights = np.append(block.positive, block.length)
    above = [weights * (d * moments).sum(axis=1) for d in block.d_above]
    below = [-block.negative * (d * moments[:-1]).sum(axis=1) for d in block.d_below]
    shape = (-1, len(weights))
    return (
        lengths * high[:-1] + by_t,
        -lengths * low - by_t,
        np.reshape(above, shape).T,
        np.reshape(below, (len(below), len(low))).T,
    )


class Relaxed:
    """The largest price of a level, smoothed, as a function of theta, touching points and vanishing matrices.

    All in units of alpha: theta is feasible where the largest price is at most 1.
    """

    def __init__(self, problem: Problem, level: int):
        self.problem = problem
        self.geometry = Geometry(problem.task.rows, level, n_blocks=2 * problem.task.n_outputs)
        self.level, self.n = level, len(problem.task.y)
        self.blocks = [(o, sign) for o in range(problem.task.n_outputs) for sign in (1, -1)]
        rows = self.geometry.rows
        self._upper = np.triu_indices(rows) if level > 1 else np.triu_indices(0)
        self._root = np.where(self._upper[0] == self._upper[1], 1.0, np.sqrt(2.0))
        n_above, n_below = free_nodes(level)
        self._cuts = np.cumsum([len(self._root), (self.n + 1) * n_above, self.n * n_below])
        self.node_scale = NODE_UNIT * np.sqrt(self.n)

    def start(self) -> NDArray:
        """Touching points for u uniform on the sphere and no vanishing matrices, shape (n_blocks, n_unknowns)."""
        # In one dimension tau is 1; two keep the moments of the rules apart.
        r, m = max(self.geometry.forms.r, 2), np.ones(self.level + 1)
        for j in range(self.level):
            m[j + 1] = m[j] * (2 * j + 1) / (r + 2 * j)
        x = np.zeros((len(self.blocks), self._cuts[-1]))
        _, high, low = np.split(x, self._cuts[:-1], axis=1)
        high[:] = np.tile(logit(quadrature(self.level, True, m)) / self.node_scale, self.n + 1)
        low[:] = np.tile(logit(quadrature(self.level, False, m)) / self.node_scale, self.n)
        return x

    def scaled(self, x: NDArray, size: float) -> NDArray:
        """The unknowns that fit size * theta."""
        x = x.copy()
        x[:, : self._cuts[0]] *= size
        return x

    def parts(self, row: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """W, above and below of one block."""
        w, high, low = np.split(row, self._cuts[:-1])
        W = np.zeros((self.geometry.rows, self.geometry.rows))
        W[self._upper] = w / self._root
        W += np.triu(W, 1).T
        above, below = (np.clip(expit(v * self.node_scale), 1e-3, 1.0) for v in (high, low))
        return W, above.reshape(self.n + 1, -1), below.reshape(self.n, -1)

    def price(self, theta: NDArray, x: NDArray, mu: float, blur: float = 0.0):
        """Smoothed and exact largest eigenvalue, and the gradients of the smoothed one in theta and x."""
        activation = self.problem.task.neuron.activation
        scale, lean = 0.5 / self.problem.alpha, 1 + 2 * activation.lift
        theta = activation.kink * theta.reshape(self.n, -1)
        found = []
        for (o, sign), row in zip(self.blocks, x):
            t = sign * theta[:, o]
            size = np.sqrt(t**2 + blur**2)
            W, above, below = self.parts(row)
            block = Block(self.geometry, 0.5 * (size + t), 0.5 * (size - t), above, below, lean)
            values, vectors = eigh(scale * block.Q + W, driver="evd", check_finite=False, overwrite_a=True)
            found.append((block, above, below, t / np.where(size > 0, size, 1.0), values, vectors))
        top = max(f[4][-1] for f in found)
        shares = [np.exp(np.maximum((f[4] - top) / mu, -700.0)) for f in found]
        total = sum(s.sum() for s in shares)
        d_theta, d_x = np.zeros_like(theta), np.zeros_like(x)
        for (o, sign), (block, above, below, side, _, vectors), share, d in zip(self.blocks, found, shares, d_x):
            keep = share > 1e-13 * total
            Y = (vectors[:, keep] * (share[keep] / total)) @ vectors[:, keep].T
            up, down, high, low = gradients(block, Y)
            d_theta[:, o] += sign * scale * (0.5 * (1 + side) * up + 0.5 * (side - 1) * down)
            w, d_high, d_low = np.split(d, self._cuts[:-1])
            if len(w):
                w[:] = self.geometry.forms.vanishing(Y)[self._upper] * self._root
            d_high[:] = (high * above * (1 - above)).ravel() * scale * self.node_scale
            d_low[:] = (low * below * (1 - below)).ravel() * scale * self.node_scale
        return top + mu * np.log(total), top, activation.kink * d_theta, d_x


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A dual point that is feasible over all neurons, with the evidence.

    Attributes
    ----------
    theta : array, shape of the predictions
        The dual point, scaled already: orthogonal to the free columns, and no neuron of unit norm has a price above
        alpha.
    evidence : list of Squares
        One for each output and sign; their bounds are those at theta.
    lower_bound : float
        Its dual value: a lower bound on the objective of every two-layer network of any width (with several outputs:
        whose neurons feed one output each).
    history : list of tuples
        (seconds, lower bound) after each stage.
    """

    theta: NDArray
    evidence: list[Squares]
    lower_bound: float
    history: list[tuple[float, float]]


class Search:
    """Stages of L-BFGS, and the best point of all evaluations: each of them is a valid bound."""

    def __init__(self, problem: Problem, theta: NDArray, level: int, max_time: float | None, callback):
        self.problem, self.relaxed, self.callback = problem, Relaxed(problem, level), callback
        self.began = time.perf_counter()
        self.until = np.inf if max_time is None else self.began + max_time
        self.theta, self.x, self.bound, self.top = theta, self.relaxed.start(), -np.inf, np.inf
        self.history: list[tuple[float, float]] = []
        self.longest = 0.0

    @property
    def late(self) -> bool:
        """Whether there is no time for one more evaluation and the check of the evidence, which is some of them."""
        return time.perf_counter() + 4 * self.longest > self.until or late()

    def price(self, *at):
        """An evaluation; how long it takes is remembered."""
        began = time.perf_counter()
        found = self.relaxed.price(*at)
        self.longest = max(self.longest, time.perf_counter() - began)
        return found

    def record(self, theta: NDArray, x: NDArray, top: float) -> None:
        bound = self.problem.task.dual_value(theta / max(1.0, top))
        if (bound, -top) > (self.bound, -self.top):
            self.bound, self.top, self.theta, self.x = bound, top, theta.copy(), x.copy()

    def minimise(self, function, x: NDArray, tol: float) -> NDArray:
        """A minimiser of a smooth function, or the last iterate when the time is over."""
        last = [x]

        def watch(v):
            last[0] = v

        def timely(v):
            if self.late:
                raise OutOfTime
            return function(v)

        options = {"maxiter": 400, "maxcor": MEMORY, "ftol": tol, "gtol": 1e-12}
        with suppress(OutOfTime):
            minimize(timely, x, jac=True, method="L-BFGS-B", options=options, callback=watch)
        self.history.append((time.perf_counter() - self.began, self.bound))
        if self.callback is not None:
            self.callback(*self.history[-1])
        return last[0]

    def fixed(self, theta: NDArray, x: NDArray, smoothing: tuple[float, ...]) -> NDArray:
        """Touching points and vanishing matrices that make the largest price of theta small."""
        shape = x.shape
        # Far from feasible, smoothing in units of alpha would be none at all.
        size = max(1.0, 0.5 * self.price(theta, x, 1.0)[1])
        for mu in smoothing:

            def smoothed(v, mu=mu * size):
                at = v.reshape(shape)
                value, top, _, slope = self.price(theta, at, mu)
                self.record(theta, at, top)
                return value, slope.ravel()

            if not self.late:
                x = self.minimise(smoothed, x.ravel(), 3e-6).reshape(shape)
        return x

    def joint(self, theta: NDArray, x: NDArray, smoothing: tuple[float, ...]) -> None:
        r"""Maximise the dual value over theta as well.

        theta is minus the gradient of the loss at predictions z, the intercept profiled out: so it is orthogonal to
        the free columns and inside the domain of the conjugate. Its dual value is L(z) + theta^T z, and the gradient
        of that in theta is z. That the largest price M is at most 1 enters by an augmented Lagrangian; the multiplier
        is theta^T z at the optimum, where z is the multiplier times the gradient of M.
        """
        task = self.problem.task
        top = max(1.0, self.price(theta, x, smoothing[0])[1])
        theta, x = theta / top, self.relaxed.scaled(x, 1 / top)
        z = predictions(task, theta)
        unit = task.loss_value(np.zeros_like(z) + task.null_model[0])
        multiplier = max(float(np.vdot(theta, z)) / unit, 0.01)
        stretch = THETA_UNIT * np.sqrt(unit / (task.loss.lipschitz * task.sample_weight.mean()))
        state: dict[str, Any] = {"c": task.best_intercept(z)}
        shape = x.shape
        for mu in smoothing:
            base, rho = z.copy(), RHO * multiplier

            def lagrangian(v, mu=mu, base=base, rho=rho, multiplier=multiplier):
                z, at = base + stretch * v[: base.size].reshape(base.shape), v[base.size :].reshape(shape)
                state["c"] = task.best_intercept(z, state["c"])
                z = z + state["c"]
                theta = -task.gradient(z)
                # A sample at theta_i = 0 has a kink, rounded off by a polynomial on each side.
                value, top, d_theta, d_x = self.price(theta, at, mu, mu * np.sqrt(np.mean(theta**2)))
                self.record(theta, at, top)
                force = max(0.0, multiplier + rho * (value - 1))
                dual = task.loss_value(z) + float(np.vdot(theta, z))
                state.update(force=force, pull=force * d_theta.reshape(z.shape), z=z)
                d_z = stretch * through(task, z, state["pull"] - z / unit)
                return force**2 / (2 * rho) - dual / unit, np.concatenate([d_z.ravel(), force * d_x.ravel()])

            if self.late:
                break
            v = self.minimise(lagrangian, np.concatenate([np.zeros(z.size), x.ravel()]), 1e-6)
            lagrangian(v)
            z, x = base + stretch * v[: z.size].reshape(z.shape), v[z.size :].reshape(shape)
            multiplier = max(state["force"], 0.1 * multiplier)
            if z.ndim == 1:
                # On a linear part of the loss theta does not depend on z: there z is what it is at an optimum.
                flat = task.loss.hessian(task.y, state["z"]) == 0
                z[flat] = unit * state["pull"][flat]

    def finish(self) -> Relaxation:
        """The best point made feasible, and the evidence checked."""
        task, alpha, relaxed = self.problem.task, self.problem.alpha, self.relaxed
        theta = task.balanced(self.theta) if task.free.shape[1] else self.theta
        parts, basis = [relaxed.parts(row) for row in self.x], relaxed.geometry.basis
        activation = task.neuron.activation
        t = activation.kink * theta.reshape(relaxed.n, -1)
        columns = [(o, sign, sign * t[:, o]) for o, sign in relaxed.blocks]

        def evidence(size):
            found = []
            for (o, sign, t), (W, above, below) in zip(columns, parts):
                square = Squares(relaxed.level, o, sign, above, below, 2 * alpha * size * W, basis, np.inf)
                bound = square.check(Price(task.rows, size * t, activation.lift), relaxed.geometry)
                found.append(replace(square, bound=bound))
            return found

        price = max(square.bound for square in evidence(1.0))
        size = min(1.0, alpha / price * (1 - 1e-12)) if price > 0 else 1.0
        if not np.isfinite(task.dual_value(size * theta)):
            # No loss here falls below zero, and zero is feasible.
            size = 0.0
        return Relaxation(size * theta, evidence(size), task.dual_value(size * theta), self.history)


def predictions(task: Task, theta: NDArray) -> NDArray:
    """z with theta = -gradient of the loss at z, but for a ridge, since there is none at the edge of the domain."""
    weights = task.sample_weight.reshape((-1,) + (1,) * (theta.ndim - 1))
    ridge = 1e-6 * task.loss.lipschitz

    def tilted(v):
        z = v.reshape(theta.shape)
        value = task.loss_value(z) + np.vdot(theta, z) + 0.5 * ridge * np.vdot(z, weights * z)
        return value, (task.gradient(z) + theta + ridge * weights * z).ravel()

    found = minimize(tilted, np.zeros(theta.size), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x.reshape(theta.shape)


def through(task: Task, z: NDArray, g: NDArray) -> NDArray:
    """Gradient in z of what has gradient g in theta = -gradient of the loss at z, the intercept profiled out."""
    n, m, C = *task.free.shape, task.n_outputs
    h = task.loss.hessian(task.y, z).reshape(n, C, C) * task.sample_weight[:, None, None]
    g = g.reshape(n, C)
    if m:
        hF = np.einsum("nop,nb->nobp", h, task.free).reshape(n, C, m * C)
        gram = np.tensordot(task.free, hF, axes=(0, 0)).reshape(m * C, m * C)
        right = task.free.T @ np.einsum("nop,np->no", h, g)
        g = g - task.free @ np.linalg.lstsq(gram, right.ravel(), rcond=1e-12)[0].reshape(m, C)
    return -np.einsum("nop,np->no", h, g).reshape(z.shape)


def bound_prices(
    problem: Problem,
    theta: NDArray,
    *,
    level: int = 2,
    optimise: bool = True,
    max_time: float | None = None,
    callback: Callable[[float, float], None] | None = None,
) -> Relaxation:
    r"""A lower bound on the objective of every network, of any width, by sums of squares.

    The largest price M over all neurons of unit norm is bounded at a dual point theta, which then is scaled by
    min(1, alpha / M). Touching points, vanishing matrices and, unless ``optimise`` is False, theta itself are chosen by
    L-BFGS on a smoothed largest eigenvalue, mu log tr exp(. / mu), with mu falling from stage to stage.

    Parameters
    ----------
    problem : Problem
        With a loss that has a Lipschitz gradient; which patterns it lists does not matter.
    theta : array, shape of the predictions
        Where to start: the dual point of a fitted network.
    level : {1, 2, 3, 4}, default=2
        Degree k of the polynomials. Matrices have binom(r + k - 1, k) rows in dimension r.
    optimise : bool, default=True
        Whether theta may move.
    max_time : float, optional
        Seconds after which the best point so far is returned.
    callback : callable, optional
        Called with (seconds, lower bound) after each stage. KeyboardInterrupt returns the best point so far too.

    Returns
    -------
    relaxation : Relaxation

    Raises
    ------
    ValueError
        When the loss has kinks, or the level needs too much memory: the message has the figures and a level that fits.

    Notes
    -----
    An evaluation costs two eigenvalue decompositions and O(n rows^2) for each output, a bound some hundreds of them.
    Columns of different scales make every level loose, as the polynomials are at tau near zero: standardise them. The
    bounds are loose at small alpha too, where theta balances many neurons.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn.losses import Squared
    >>> from convexnn.neurons.neuron import Neuron
    >>> X, y = np.array([[1.0], [-1.0]]), np.array([3.0, 1.0])
    >>> task = Task.of(X, y, Squared(), None, Neuron(hidden_bias="none"), fit_intercept=False)
    >>> round(bound_prices(Problem.bare(task, 1.0), np.array([1.0, 1.0])).lower_bound, 3)
    3.0
    """
    task = problem.task
    if not task.smooth:
        raise ValueError(f"the loss must have a Lipschitz gradient, got {task.loss.name!r}.")
    theta = np.asarray(theta, dtype=float)
    if theta.shape != task.shape or not np.isfinite(theta).all():
        raise ValueError(f"theta must be finite and of shape {task.shape}, got {theta.shape}.")
    theta = task.balanced(theta) if task.free.shape[1] else theta
    search = Search(problem, theta, level, max_time, callback)
    # Where the best constant is perfect there is nothing to move for.
    moves = optimise and bool(theta.any()) and task.loss_value(np.zeros_like(theta) + task.null_model[0]) > 0
    try:
        x = search.fixed(theta, search.x, SMOOTHING[:1] if moves else SMOOTHING)
        before = search.bound
        if moves:
            search.joint(theta, x, SMOOTHING[1:])
            if search.bound <= before + 0.05 * abs(before):
                # The remaining stages may gain more than that where theta is nearly optimal.
                search.fixed(theta, x, SMOOTHING[1:])
    except STOPS as stop:
        current().stop(stop)
    return search.finish()
