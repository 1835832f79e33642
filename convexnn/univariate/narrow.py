r"""Narrow networks of one feature, two layers of any activation or deeper chains, as lassos over finite dictionaries.

A chain applies its activation again and again to a number, h_0 = x, h_l = sigma(w_l h_{l-1} + b_l), and a network of L
layers adds chains of L - 1 hidden neurons: f(x) = c + sum_k a_k h_{L-1}(x; w_k, b_k). Biases are free. With

    R = (alpha / L) sum_k (|w_k1|^L + ... + |w_k,L-1|^L + |a_k|^L)

(for L = 2 the weight decay) and a homogeneous activation, rescaling the layers of a chain turns R into its minimum
alpha sum_k |w_k1 ... w_k,L-1 a_k|: a lasso over chains with weights +1 and -1. For theta that sums to zero the price
theta^T h_{L-1} of such a chain is bounded, continuous and linear in (b_1, ..., b_{L-1}) on polyhedra that contain no
line; so the largest is at a vertex, where L - 1 independent equations w_l h_{l-1}(x_i) + b_l = 0 hold. The vertices are
the dictionary:

* ReLU and leaky ReLU are monotone, so that one equation belongs to each layer, b_l = -w_l h_{l-1}(x_i): all kinks are
  at data points.
* The absolute value folds the line, and two points may meet on it. A layer may then take two equations, or three, and
  an earlier one is pinned by x_i and x_j falling together: it folds at their midpoint. A fold at x_j with the next at
  |x_i - x_j| has a kink at x_i and one at its mirror image 2 x_j - x_i.

Threshold and sign do not change with the size of their argument: w costs nothing, and the decay of a alone can be
divided by m by taking m copies of a neuron, so that only fits without penalty would be left. As in the paper each
neuron has an amplitude s instead, and R = (alpha / 2) sum_k (s_k^2 + a_k^2): alpha sum_k |s_k a_k|, a lasso over steps.

References
----------
.. [1] E. Zeger, Y. Wang, A. Mishkin, T. Ergen, E. Candes, M. Pilanci, A library of mirrors: deep neural nets in low
   dimensions are convex lasso models with reflection features, arXiv:2403.01046.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr_delete, solve_triangular

from convexnn.program.result import relative_gap
from convexnn.univariate.splines import EPS, check_squares, exponent

#: Activations, and the numbers of layers for which their dictionaries are known.
LAYERS = {"relu": (2, 3, 4), "leaky_relu": (2, 3, 4), "abs": (2, 3, 4), "threshold": (2,), "sign": (2,)}
#: Activations that do not change with the size of their argument.
STEPS = ("threshold", "sign")
# Features closer than this, in units of the largest, are one; bounds allow for it in each layer.
SAME_FEATURE = 1e-13
# A feature whose part orthogonal to the active ones is below this share of its length depends on them.
DEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class NarrowNetwork:
    r"""f(x) = c + sum_k a_k s_k h_{L-1}(x), h_0 = x, h_l = sigma(w_kl h_{l-1} + b_kl), with all s_k = 1 unless given.

    Parameters
    ----------
    hidden_weights : array of shape (n_chains, n_layers - 1)
        w.
    hidden_biases : array of shape (n_chains, n_layers - 1)
        b, which no penalty touches.
    output_weights : array of shape (n_chains,)
        a.
    output_bias : float
        c.
    activation : {"relu", "leaky_relu", "abs", "threshold", "sign"}
        sigma; threshold is 1 and sign +1 at zero.
    slope : float, default=0.1
        Of the leaky ReLU below zero.
    amplitudes : array of shape (n_chains,), optional
        s, for threshold and sign.

    Examples
    --------
    >>> network = NarrowNetwork(np.ones((1, 2)), np.array([[0.0, -1.0]]), np.ones(1), 0.0, "abs")
    >>> network.predict([-3.0, -1.0, 0.0, 1.0])
    array([2., 0., 1., 0.])
    """

    hidden_weights: NDArray[np.float64]
    hidden_biases: NDArray[np.float64]
    output_weights: NDArray[np.float64]
    output_bias: float
    activation: str
    slope: float = 0.1
    amplitudes: NDArray[np.float64] | None = None

    @property
    def n_layers(self) -> int:
        """Hidden layers and the output layer."""
        return self.hidden_weights.shape[1] + 1

    def hidden(self, x: ArrayLike) -> NDArray[np.float64]:
        """h_{L-1} of each chain, shape (n_samples, n_chains).

        Parameters
        ----------
        x : array of shape (n_samples,) or (n_samples, 1)
            The feature.

        Returns
        -------
        features : array of shape (n_samples, n_chains)
        """
        h = np.asarray(x, dtype=float).reshape(-1, 1)
        for w, b in zip(self.hidden_weights.T, self.hidden_biases.T):
            h = activate(h * w + b, self.activation, self.slope)
        return h

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """f at each x.

        Parameters
        ----------
        x : array of shape (n_samples,) or (n_samples, 1)
            The feature.

        Returns
        -------
        predictions : array of shape (n_samples,)
        """
        scale = 1.0 if self.amplitudes is None else self.amplitudes
        return self.hidden(x) @ (scale * self.output_weights) + self.output_bias

    def objective(self, x: ArrayLike, y: ArrayLike, alpha: float, sample_weight: ArrayLike | None = None) -> float:
        """Training objective sum_i s_i (y_i - f(x_i))^2 / 2 + R from the weights alone; R is defined above.

        Parameters
        ----------
        x : array of shape (n_samples,) or (n_samples, 1)
            The feature.
        y : array of shape (n_samples,)
            Targets.
        alpha : float
            Penalty on a sum of losses.
        sample_weight : array of shape (n_samples,), optional
            Factors of the losses.

        Returns
        -------
        objective : float
        """
        # From large y the bias goes first, which rounds nothing off.
        squares = (np.asarray(y, dtype=float) - self.output_bias - replace(self, output_bias=0.0).predict(x)) ** 2
        weights = np.ones(len(squares)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        paid = self.hidden_weights if self.amplitudes is None else self.amplitudes[:, None]
        power = self.n_layers
        decay = np.sum(np.abs(paid) ** power) + np.sum(np.abs(self.output_weights) ** power)
        return float(0.5 * weights @ squares + alpha / power * decay)


@dataclass(frozen=True, eq=False)
class NarrowFit:
    """A narrow network and its grade.

    Attributes
    ----------
    network : NarrowNetwork
        One chain for each feature of the dictionary that the lasso uses.
    objective : float
        Training objective of ``network``, from its weights.
    lower_bound : float
        No narrow network of any width has a lower one.
    alpha_max : float
        Smallest penalty for which the best network is a constant.
    n_features : int
        Length of the dictionary.
    theta : array of shape (n_samples,)
        Feasible dual point of the bound.
    n_iter : int
        Steps of the solver.
    """

    network: NarrowNetwork
    objective: float
    lower_bound: float
    alpha_max: float
    n_features: int
    theta: NDArray[np.float64] = field(repr=False)
    n_iter: int

    @property
    def relative_gap(self) -> float:
        """(objective - lower_bound) / objective."""
        return relative_gap(self.objective, self.lower_bound)


#: sigma(z, slope) by name.
FUNCTIONS: dict[str, Callable[[NDArray, float], NDArray]] = {
    "relu": lambda z, slope: np.maximum(z, 0.0),
    "leaky_relu": lambda z, slope: np.where(z >= 0, z, slope * z),
    "abs": lambda z, slope: np.abs(z),
    "threshold": lambda z, slope: (z >= 0).astype(float),
    "sign": lambda z, slope: np.where(z >= 0, 1.0, -1.0),
}


def activate(z: NDArray, activation: str, slope: float = 0.1) -> NDArray:
    """sigma(z), elementwise; arguments as in NarrowNetwork."""
    return FUNCTIONS[activation](z, slope)


def narrow_dictionary(
    x: ArrayLike, activation: str = "relu", n_layers: int = 2, *, slope: float = 0.1, max_features: int = 100_000
) -> NarrowNetwork:
    """The chains that a best network can be made of, as a network with output weights 1 and output bias 0.

    Parameters
    ----------
    x : array of shape (n_samples,) or (n_samples, 1)
        The feature.
    activation : {"relu", "leaky_relu", "abs", "threshold", "sign"}, default="relu"
        The last two have two layers.
    n_layers : {2, 3, 4}, default=2
        Hidden layers and the output layer.
    slope : float, default=0.1
        Of the leaky ReLU below zero, above 0 and below 1.
    max_features : int, default=100000
        More are refused; there are O(n_samples^(n_layers - 1)) of them.

    Returns
    -------
    dictionary : NarrowNetwork
        Its ``hidden(x)`` are the features. Those that agree on x but for a constant and the sign are listed once.

    Raises
    ------
    ValueError
        For unknown combinations, and when the dictionary would be too long.

    Examples
    --------
    >>> narrow_dictionary([0.0, 1.0, 3.0], "abs").hidden([0.0, 1.0, 3.0])
    array([[0., 1.],
           [1., 0.],
           [3., 2.]])
    """
    if activation not in LAYERS:
        raise ValueError(f"activation must be one of {sorted(LAYERS)}, got {activation!r}.")
    if not isinstance(n_layers, Integral) or n_layers not in LAYERS[activation]:
        raise ValueError(f"n_layers must be one of {LAYERS[activation]} for {activation!r}, got {n_layers!r}.")
    if not (isinstance(slope, Real) and 0 < slope < 1):
        raise ValueError(f"slope must be a number above 0 and below 1, got {slope!r}.")
    points = np.unique(_feature(x))
    n = len(points)
    bound = {2: n, 3: n * (3 * n - 1) // 2, 4: 4 * n**3}[n_layers] if activation == "abs" else (2 * n) ** (n_layers - 1)
    if bound > max_features:
        raise ValueError(
            f"the dictionary of {n} distinct points has up to {bound:,} features, more than max_features="
            f"{max_features:,}; use fewer layers, or fewer points."
        )
    if activation in STEPS:
        weights, biases = np.ones((n - 1, 1)), -0.5 * (points[1:] + points[:-1])[:, None]
    elif activation == "abs":
        biases = _folds(points, n_layers)
        weights = np.ones_like(biases)
    else:
        chains = [_chain(points, signs, activation, slope) for signs in product((1.0, -1.0), repeat=n_layers - 1)]
        weights, biases = np.concatenate([chain[0] for chain in chains]), np.concatenate([chain[1] for chain in chains])
    amplitudes = np.ones(len(weights)) if activation in STEPS else None
    every = NarrowNetwork(weights, biases, np.ones(len(weights)), 0.0, activation, slope, amplitudes)
    features = every.hidden(points)
    features = features - features[:1]
    scale = np.abs(features).max(axis=0, initial=0.0)
    moving = scale > SAME_FEATURE * max(scale.max(initial=0.0), 1e-300)
    # The first value beyond rounding decides the sign.
    large = np.abs(features) > 0.5 * SAME_FEATURE * scale
    sign = np.sign(features[np.argmax(large, axis=0), np.arange(len(scale))])
    rounded = np.round(features[:, moving] * sign[moving] / (SAME_FEATURE * scale.max(initial=1e-300)))
    first = np.sort(np.unique(rounded, axis=1, return_index=True)[1]) if moving.any() else np.zeros(0, dtype=int)
    keep = np.flatnonzero(moving)[first]
    return NarrowNetwork(
        weights[keep],
        biases[keep],
        np.ones(len(keep)),
        0.0,
        activation,
        slope,
        None if amplitudes is None else amplitudes[keep],
    )


def fit_narrow(
    x: ArrayLike,
    y: ArrayLike,
    alpha: float,
    activation: str = "relu",
    n_layers: int = 2,
    *,
    slope: float = 0.1,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 10_000,
    max_features: int = 100_000,
) -> NarrowFit:
    """The best narrow network of any width for the squared loss, and how good it is.

    Parameters
    ----------
    x : array of shape (n_samples,) or (n_samples, 1)
        The feature.
    y : array of shape (n_samples,)
        Targets.
    alpha : float
        Penalty on a sum of losses (y - f)^2 / 2.
    activation, n_layers, slope, max_features
        As in ``narrow_dictionary``.
    sample_weight : array of shape (n_samples,), optional
        Non-negative factors of the losses.
    tol : float, default=1e-8
        Relative duality gap at which the solver stops.
    max_iter : int, default=10000
        Limit on the steps; the gap reached by then is in the answer.

    Returns
    -------
    fit : NarrowFit

    Raises
    ------
    ValueError
        For unusable arguments.

    Examples
    --------
    Three layers of the absolute value see that the left half is a mirror image of the right one:

    >>> x = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    >>> fit = fit_narrow(x, np.abs(np.abs(x) - 2), alpha=0.1, activation="abs", n_layers=3)
    >>> len(fit.network.output_weights), len(fit_narrow(x, np.abs(np.abs(x) - 2), 0.1, "abs").network.output_weights)
    (1, 3)
    """
    x = _feature(x)
    y = np.asarray(y, dtype=float)
    weights = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if y.shape != x.shape or weights.shape != x.shape:
        raise ValueError(f"y and sample_weight must have shape {x.shape} to match x, got {y.shape}, {weights.shape}.")
    if not (np.isfinite(y).all() and np.isfinite(weights).all() and weights.min() >= 0 and weights.any()):
        raise ValueError("y and sample_weight must be finite, and sample_weight non-negative and positive somewhere.")
    if not (isinstance(alpha, Real) and 0 < alpha < np.inf):
        raise ValueError(f"alpha must be a finite number > 0, got {alpha!r}.")
    steps, keep = activation in STEPS, weights > 0
    # In units of their own, powers of two, x, y and the weights have a size of one and no offset.
    corner, middle = x[keep].min(), float(np.partition(y[keep], keep.sum() // 2)[keep.sum() // 2])
    with np.errstate(over="ignore"):
        spreads = dict(x=np.ptp(x[keep]), y=np.abs(y[keep] - middle).max(), sample_weight=weights.sum())
    for name, spread in spreads.items():
        if not np.isfinite(spread):
            raise ValueError(f"{name} must have a finite range and sum, got {spread:.3g}; divide {name} by 1e10.")
    x_size, y_size, weight_size = exponent(spreads["x"]), exponent(spreads["y"]), exponent(weights.max())
    u, v = np.ldexp(x[keep] - corner, -x_size), np.ldexp(y[keep] - middle, -y_size)
    share = np.ldexp(weights[keep], -weight_size)
    if spreads["y"] <= EPS * np.abs(y[keep]).max():
        # A constant but for rounding.
        v = np.zeros_like(v)
    check_squares(v, y_size, weight_size)
    reach = 0 if steps else x_size
    with np.errstate(over="ignore"):
        price = float(np.ldexp(float(alpha), -reach - y_size - weight_size))
    if not 0 < price < np.inf:
        raise ValueError(f"alpha must be in the range of numbers for data of this size, got {alpha!r}.")
    dictionary = narrow_dictionary(u, activation, n_layers, slope=slope, max_features=max_features)
    features, mean, root = dictionary.hidden(u), share / share.sum(), np.sqrt(share)
    # The constant is minimised over: what is left is a lasso in centred features.
    A, target = root[:, None] * (features - mean @ features), root * (v - mean @ v)
    coef, residual, n_iter = _lasso(A, target, price, tol, max_iter)
    used = np.flatnonzero(coef)
    constant = middle + float(np.ldexp(mean @ (v - features[:, used] @ coef[used]), y_size))
    amount = np.ldexp(coef[used], y_size - reach)
    strength = np.abs(amount) ** (1.0 / n_layers)
    powers = strength[:, None] ** np.arange(1, n_layers)
    inside, outside = dictionary.hidden_weights[used], np.ldexp(dictionary.hidden_biases[used], x_size)
    outside[:, 0] -= inside[:, 0] * corner
    network = NarrowNetwork(
        inside if steps else inside * strength[:, None],
        outside if steps else outside * powers,
        np.sign(amount) * strength,
        constant,
        activation,
        slope,
        strength if steps else None,
    )
    # Features that were taken for another, or for a constant, may have a higher price than all that are listed.
    size = np.abs(features - features[:1]).max(initial=0.0)
    highest = np.abs(A.T @ residual).max(initial=0.0) + n_layers * SAME_FEATURE * size * (root @ np.abs(residual))
    theta = residual * (price / np.maximum(price, highest))
    left = abs(root @ theta) / np.sqrt(share.sum()) + 8 * EPS * np.linalg.norm(theta)
    bound = theta @ target - 0.5 * theta @ theta - 2 * left * np.linalg.norm(target)
    objective = network.objective(x, y, alpha, weights)
    whole = np.zeros(len(x))
    whole[keep] = np.ldexp(root * theta, y_size + weight_size)
    return NarrowFit(
        network,
        objective,
        min(float(np.ldexp(max(bound, 0.0), 2 * y_size + weight_size)), objective),
        float(np.ldexp(np.abs(A.T @ target).max(initial=0.0), reach + y_size + weight_size)),
        A.shape[1],
        whole,
        n_iter,
    )


def _feature(x: ArrayLike) -> NDArray:
    """x as a vector; ValueError when it is not one feature."""
    x = np.asarray(x, dtype=float)
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x must be finite of shape (n_samples,) or (n_samples, 1), got shape {x.shape}.")
    return x


def _chain(points, signs, activation, slope):
    """Weights and biases of all chains with these signs whose layers have a kink at a point each."""
    biases, h = np.zeros((1, 0)), points[:, None]
    grid = SAME_FEATURE * (np.ptp(points) or 1.0)
    for sign in signs:
        # One more layer: chain k with its kink at point i.
        new = -sign * h
        biases = np.column_stack([np.repeat(biases, len(points), axis=0), new.T.ravel()])
        h = activate(sign * np.repeat(h, len(points), axis=1) + biases[:, -1], activation, slope)
        known = np.unique(np.round(h / grid), axis=1, return_index=True)[1]
        biases, h = biases[known], h[:, known]
    return np.tile(signs, (len(biases), 1)), biases


def _folds(points, n_layers):
    """Biases -p, -q, ... of all vertices of |... ||x - p| - q| ... |: equations a layer (1), (1, 1), (0, 2), ..."""
    n, columns = len(points), np.arange(len(points))
    pairs = [(i, k) for i in columns for k in columns[:i]]
    middle = np.array([0.5 * (points[i] + points[k]) for i, k in pairs])
    if n_layers == 2:
        return -points[:, None]
    # (1, 1) and (0, 2): |x - p| is zero at a point, or equal at two.
    p = np.concatenate([np.repeat(points, n), middle])
    q = np.concatenate([np.abs(points[:, None] - points).ravel(), [0.5 * abs(points[i] - points[k]) for i, k in pairs]])
    if n_layers == 3:
        return -np.column_stack([p, q])
    # (1, 1, 1) and (0, 2, 1): the last layer has a kink at any point.
    third = np.abs(np.abs(points[:, None] - p) - q)
    found = [np.column_stack([np.repeat(p, n), np.repeat(q, n), third.T.ravel()])]
    for i, k in pairs:
        # (1, 0, 2): two points of a fold at a point fall together.
        y = np.abs(points - points[:, None])
        r = 0.5 * (y[:, i] + y[:, k])
        found.append(np.column_stack([points, r, np.abs(y[:, i] - r)]))
        # (0, 1, 2): a zero at point j, and i and k fall together.
        fold = np.concatenate(
            [
                np.full(n, 0.5 * (points[i] + points[k])),
                0.25 * (points[i] + points[k] + 2 * points),
                points - 0.5 * (points[i] - points[k]),
                points + 0.5 * (points[i] - points[k]),
            ]
        )
        zero = np.abs(np.tile(points, 4) - fold)
        found.append(np.column_stack([fold, zero, np.abs(np.abs(points[i] - fold) - zero)]))
        # (0, 0, 3): i and k fall together at once, and j with them later.
        fold = np.full(n, 0.5 * (points[i] + points[k]))
        near, far = np.abs(points[i] - fold), np.abs(points - fold)
        found.append(np.column_stack([fold, 0.5 * (near + far), 0.5 * np.abs(near - far)]))
    return -np.concatenate(found)


def _lasso(A, target, alpha, tol, max_iter):
    """min |target - A c|^2 / 2 + alpha |c|_1: coefficients, residual and steps, by an active set.

    The dearest feature enters with the sign of its price; with the signs held the objective is quadratic, and a
    coefficient that reaches zero on the way to its minimum leaves. Features may depend on one another: along a null
    combination only the penalty changes, and it is followed down until a coefficient vanishes.
    """
    coef = np.zeros(A.shape[1])
    active = np.zeros(0, dtype=np.intp)
    sign = np.zeros(0)
    # A[:, active] = Q R.
    Q, R = np.zeros((len(A), 0)), np.zeros((0, 0))
    residual, n_iter = target.copy(), 0
    while n_iter < max_iter:
        prices = A.T @ residual
        largest = np.abs(prices).max(initial=0.0)
        theta = residual * min(1.0, alpha / largest) if largest > 0 else residual
        primal = 0.5 * residual @ residual + alpha * np.abs(coef).sum()
        if relative_gap(primal, theta @ target - 0.5 * theta @ theta) <= tol or largest <= alpha * (1 + 1e-14):
            break
        prices[active] = 0.0
        new = int(np.argmax(np.abs(prices)))
        if abs(prices[new]) <= alpha:
            break
        active, sign = np.append(active, new), np.append(sign, np.sign(prices[new]))
        while n_iter < max_iter:
            n_iter += 1
            move, end = np.zeros(0), 1.0
            if len(R) < len(active):
                # The new feature, the last one, is not in the factorisation yet: orthogonalised, twice for rounding.
                inside = Q.T @ A[:, new]
                rest = A[:, new] - Q @ inside
                inside += (again := Q.T @ rest)
                rest -= Q @ again
                size = np.linalg.norm(rest)
                if size <= DEPENDENT * np.linalg.norm(A[:, new]):
                    # A null vector: the new feature less its expansion in the others.
                    move, end = np.append(-solve_triangular(R, inside), 1.0) * sign[-1], np.inf
                else:
                    Q = np.column_stack([Q, rest / size])
                    R = np.block([[R, inside[:, None]], [np.zeros((1, len(R))), size]])
            if end == 1.0:
                best = solve_triangular(R, Q.T @ target - solve_triangular(R, alpha * sign, trans="T"))
                move = best - coef[active]
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = np.where(sign * move < 0, -coef[active] / move, np.inf)
            t = min(end, reach.min())
            if not np.isfinite(t):
                break
            coef[active] += t * move
            gone = reach <= t
            coef[active[gone]] = 0.0
            for k in np.flatnonzero(gone[: len(R)])[::-1]:
                Q, R = qr_delete(Q, R, k, which="col")
            active, sign = active[~gone], sign[~gone]
            residual = target - A[:, active] @ coef[active]
            if t == 1.0 or not len(active):
                break
    return coef, residual, n_iter
