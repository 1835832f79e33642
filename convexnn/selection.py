"""The weight decay for a wanted sparsity: select_alpha, by order statistics of block correlations and bisection."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import lift_feature_penalty
from convexnn.adaptive import find
from convexnn.network import Network
from convexnn.path import estimator_for
from convexnn.pricing import SPREAD, no_peaks
from convexnn.training import Fit

#: A bracket this narrow, as a ratio of its ends, holds a jump of the count.
NARROW = 1 + 1e-3
#: Below this share of alpha_max nothing is looked for.
SMALLEST = 1e-4
#: Fits in which all groups of features move at once.
TOGETHER = 8


@dataclass(frozen=True, eq=False)
class Selection:
    """A network of a wanted sparsity, or the statement that none was found.

    Attributes
    ----------
    alpha : float
        Weight decay of ``network``.
    network : Network
        The network whose count is nearest to the wanted one.
    n_neurons, n_weights : int
        Its neurons, after merging and pruning; its non-zero hidden weights, hidden biases and output weights.
    attained : bool
        Whether the wanted count is met within the tolerance.
    bracket : tuple of float
        The nearest weight decays tried with a count too high, and too low: (smaller, larger). Counts may jump between
        them. 0 and inf where there is none.
    fits : list of dict
        alpha, n_neurons, n_weights and relative_gap of each fit, in the order made.
    """

    alpha: float
    network: Network
    n_neurons: int
    n_weights: int
    attained: bool
    bracket: tuple[float, float]
    fits: list[dict] = field(repr=False)

    def __str__(self) -> str:
        what = f"{self.n_neurons} neurons and {self.n_weights} weights at alpha = {self.alpha:.6g}"
        if self.attained:
            return f"{what}, after {len(self.fits)} fits."
        low, high = self.bracket
        return (
            f"not attained: nearest {what}; too many at {low:.6g}, too few at {high:.6g}, after {len(self.fits)} fits."
        )


def select_alpha(
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_neurons: int | None = None,
    n_weights: int | None = None,
    tol: int = 1,
    max_fits: int = 40,
    loss: Any = "squared",
    sample_weight: ArrayLike | None = None,
    solver_tol: float = 1e-6,
    **options,
) -> Selection:
    """The weight decay at which the network has a wanted number of neurons, or of weights.

    Each fit starts from the one before. The next alpha is an order statistic of the levels at which neurons vanish or
    appear: for a neuron of the network the price of its direction with the neuron itself taken out, for others their
    price, the local maxima found by a search. Where that leaves the bracket of alphas with too many and too few, or
    does not narrow it, the bracket is halved. Counts can jump; then the answer says so.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Features, standardised for a penalty that treats them alike.
    y : array of shape (n_samples,)
        Targets, or class labels if the loss is one for classes.
    n_neurons, n_weights : int
        The wanted count: neurons, or non-zero hidden weights, hidden biases and output weights. One of the two.
    tol : int, default=1
        Counts that differ from the wanted one by no more than this will do.
    max_fits : int, default=40
        Limit on the number of fits.
    loss, sample_weight
        As in ``relu_path``.
    solver_tol : float, default=1e-6
        Relative gap of each fit. Larger gaps leave clusters of neurons where the optimum has one.
    **options
        The other parameters of ConvexReLURegressor or ConvexReLUClassifier, except alpha and warm_start; ``max_time``
        is for all fits together.

    Returns
    -------
    selection : Selection

    Raises
    ------
    ValueError
        For unusable data or parameters.

    References
    ----------
    .. [1] L. Shen, R. Wang, Y. Xu, M. Yan, Sparse machine learning in Banach spaces: parameter choice for a prescribed
       sparsity, arXiv:2408.02801 (iterative choice of the parameter by order statistics).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> select_alpha(X, np.abs(X[:, 0]) - np.abs(X[:, 1]), n_neurons=4, tol=0).n_neurons
    4
    """
    if (n_neurons is None) == (n_weights is None):
        raise ValueError("one of n_neurons and n_weights must be given.")
    name, count = ("n_neurons", n_neurons) if n_weights is None else ("n_weights", n_weights)
    wanted, tol, max_fits = _integer(name, count, 0), _integer("tol", tol, 0), _integer("max_fits", max_fits, 1)
    model = estimator_for(loss, tol=solver_tol, **({"certify": False} | options))
    data = model._coded(X, y, sample_weight)
    fits: list[Fit] = []
    counts: list[int] = []

    def bracket():
        """Nearest alphas with too many and with too few."""
        many = [fit.alpha for fit, count in zip(fits, counts) if count > wanted]
        few = [fit.alpha for fit, count in zip(fits, counts) if count < wanted]
        low = max((alpha for alpha in many if not few or alpha < max(few)), default=0.0)
        return low, min((alpha for alpha in few if alpha > low), default=np.inf)

    def sequence(alpha_max):
        """alpha_max, and then whatever the fits so far suggest."""
        yield alpha_max or 1.0
        while len(fits) < max_fits and abs(counts[-1] - wanted) > tol:
            low, high = bracket()
            floor = max(low, SMALLEST * alpha_max)
            if high <= floor * NARROW:
                return
            levels, sizes = neuron_levels(model, fits[-1], *data)
            alpha = _order_statistic(levels, np.ones(len(sizes)) if name == "n_neurons" else sizes, wanted)
            # The guess only counts inside the bracket, and the bracket is halved now and then all the same.
            share = np.log(high / alpha) / np.log(high / floor)
            if not 0.02 < share < 0.98 or len(fits) % 3 == 0:
                alpha = np.sqrt(high * floor) if low > 0 else max(0.5 * high, np.sqrt(high * floor))
            yield alpha

    for fit in model._train(*data, alphas=sequence):
        fits.append(fit)
        counts.append(_count(fit.network, name))
    best = int(np.argmin([abs(count - wanted) for count in counts]))
    network = fits[best].network
    return Selection(
        fits[best].alpha,
        network,
        network.n_neurons,
        _count(network, "n_weights"),
        abs(counts[best] - wanted) <= tol,
        bracket(),
        [
            dict(
                alpha=fit.alpha,
                n_neurons=fit.network.n_neurons,
                n_weights=_count(fit.network, "n_weights"),
                relative_gap=fit.certificate.relative_gap,
            )
            for fit in fits
        ],
    )


@dataclass(frozen=True, eq=False)
class FeatureSelection:
    """Penalty weights for which every group of features has its wanted number of active ones, or the nearest found.

    Attributes
    ----------
    levels : dict
        Penalty weight of each group.
    feature_penalty : array of shape (n_features,)
        The same for each feature: the ``feature_penalty`` of an estimator.
    network : Network
        The network found with it.
    n_active : dict
        Features of each group that some neuron uses.
    attained : bool
        Whether every group has its wanted number within the tolerance.
    bracket : dict
        For each group the nearest levels tried with too many and with too few active features, while the other groups
        had the levels of the end: (smaller, larger); 0 and inf where there is none.
    fits : list of dict
        levels, n_active and relative_gap of each fit, in the order made.
    """

    levels: dict
    feature_penalty: NDArray[np.float64]
    network: Network
    n_active: dict
    attained: bool
    bracket: dict
    fits: list[dict] = field(repr=False)

    def __str__(self) -> str:
        found = ", ".join(
            f"{group}: {count} active at {self.levels[group]:.4g}" for group, count in self.n_active.items()
        )
        return f"{'' if self.attained else 'not attained; nearest: '}{found}, after {len(self.fits)} fits."


def select_feature_penalty(
    X: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float,
    groups: ArrayLike,
    n_active: dict,
    tol: int = 0,
    max_fits: int = 60,
    loss: Any = "squared",
    sample_weight: ArrayLike | None = None,
    solver_tol: float = 1e-6,
    **options,
) -> FeatureSelection:
    """A penalty weight for each group of features, such that each has its wanted number of active features.

    At a given alpha, features of group g have the ``feature_penalty`` mu_g. The next mu_g is an order statistic of the
    levels at which the features of the group would become inactive or active: the largest correlation of the feature
    with the dual variable over the samples where a neuron is active, in units of alpha, the feature itself taken out
    of the network. Groups move together at first, then one after the other by bisection.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Features, standardised for a penalty that treats them alike.
    y : array of shape (n_samples,)
        Targets, or class labels if the loss is one for classes.
    alpha : float
        Weight decay.
    groups : array of shape (n_features,)
        The group of each feature: any labels.
    n_active : dict
        Wanted number of active features for each group; groups that are not named have no penalty weight.
    tol : int, default=0
        Numbers that differ from the wanted ones by no more than this will do.
    max_fits : int, default=60
        Limit on the number of fits.
    loss, sample_weight, solver_tol, **options
        As in ``select_alpha``.

    Returns
    -------
    selection : FeatureSelection

    Raises
    ------
    ValueError
        For unusable data or parameters.

    References
    ----------
    .. [1] L. Shen, R. Wang, Y. Xu, M. Yan, Sparse machine learning in Banach spaces: parameter choice for a prescribed
       sparsity, arXiv:2408.02801 (several parameters).
    """
    for name in ("feature_penalty", "init"):
        if name in options:
            raise ValueError(f"{name} must not be given: it is what is chosen here.")
    tol, max_fits = _integer("tol", tol, 0), _integer("max_fits", max_fits, 1)
    model = estimator_for(loss, tol=solver_tol, **({"certify": False} | options)).set_params(alpha=alpha)
    data = model._coded(X, y, sample_weight)
    groups = np.asarray(groups)
    if groups.shape != (data[0].shape[1],):
        raise ValueError(f"groups must have one label for each of the {data[0].shape[1]} features, got {groups.shape}.")
    members = {group: np.flatnonzero(groups == group) for group in n_active}
    for group, index in members.items():
        if _integer(f"n_active[{group!r}]", n_active[group], 0) > len(index):
            raise ValueError(f"n_active[{group!r}] must be at most {len(index)}, the features of the group.")
    tried: list[tuple[dict, dict, Fit]] = []

    def fit(levels):
        """Active features of each group at some levels."""
        mu = np.zeros(len(groups))
        for group, index in members.items():
            mu[index] = levels[group]
        model.set_params(feature_penalty=mu, init=tried[-1][2].network if tried else None)
        found = next(model._train(*data))
        used = found.network.hidden_weights.any(axis=0)
        counts = {group: int(used[index].sum()) for group, index in members.items()}
        tried.append((dict(levels), counts, found))
        return counts

    def off(counts):
        return {
            group: counts[group] - n_active[group] for group in counts if abs(counts[group] - n_active[group]) > tol
        }

    def bracket(group, levels):
        """Levels of a group with too many and with too few, among the fits that had these levels for the others."""
        others = [
            (at[group], counts[group] - n_active[group])
            for at, counts, _ in tried
            if all(at[other] == levels[other] for other in at if other != group)
        ]
        low = max((level for level, more in others if more > 0), default=0.0)
        return low, min((level for level, more in others if more < 0 and level > low), default=np.inf)

    # Where all features are wanted no penalty is needed, unless it turns out that one is not used.
    levels = {group: 0.0 if n_active[group] == len(index) else 1.0 for group, index in members.items()}
    wrong = off(fit(levels))
    while wrong and len(tried) < max_fits:
        guess = feature_levels(tried[-1][2], *data) / alpha
        # Together while that helps, then the worst group alone, in its bracket.
        together = len(tried) <= TOGETHER
        moved = False
        for group in list(wrong) if together else sorted(wrong, key=lambda group: -abs(wrong[group])):
            index, now = members[group], levels[group]
            aim = _order_statistic(guess[index], np.ones(len(index)), n_active[group])
            low, high = bracket(group, levels)
            if together:
                low, high = (now, np.inf) if wrong[group] > 0 else (0.0, now)
            if high <= max(low, 1e-6) * NARROW:
                continue
            if not low * 1.02 < aim < high / 1.02:
                aim = 2 * max(low, 0.05) if high == np.inf else 0.5 * high if low == 0 else np.sqrt(low * high)
            levels[group], moved = aim, True
            if not together:
                break
        if not moved or (min(levels.values()) < 1e-6 * (1 - together) and not any(off(tried[-1][1]).values())):
            break
        wrong = off(fit(levels))
    best = min(range(len(tried)), key=lambda k: (sum(map(abs, off(tried[k][1]).values())), -k))
    levels, counts, found = tried[best]
    mu = np.zeros(len(groups))
    for group, index in members.items():
        mu[index] = levels[group]
    return FeatureSelection(
        levels,
        mu,
        found.network,
        counts,
        not off(counts),
        {group: bracket(group, levels) for group in members},
        [dict(levels=at, n_active=n, relative_gap=one.certificate.relative_gap) for at, n, one in tried],
    )


def feature_levels(fit: Fit, X, y, loss, sample_weight, class_weight=1.0, n_outputs=1) -> NDArray:
    """For each feature the largest |theta^T D_j x_i| over the neurons j, theta without the feature in the network.

    A feature that no neuron uses stays out while alpha times its penalty weight is at least that, as long as no new
    neuron appears.

    Parameters
    ----------
    fit : Fit
        A fit of a ReLU network.
    X, y, loss, sample_weight, class_weight, n_outputs
        What ``_coded`` makes of the data.

    Returns
    -------
    levels : array of shape (n_features,)
    """
    weights = sample_weight * class_weight
    keep = weights > 0
    X, y, weights = X[keep], loss.check_target(y)[keep], weights[keep]
    network, z = fit.network, fit.network.predict(X)
    output = network.output_weights.reshape(network.n_neurons, n_outputs)
    active = network.hidden(X) > 0
    levels = np.zeros(X.shape[1])
    for i, used in enumerate(network.hidden_weights.T):
        out = z - ((active * np.outer(X[:, i], used)) @ output).reshape(z.shape)
        theta = -weights[:, None] * loss.gradient(y, out).reshape(len(y), n_outputs)
        along = np.einsum("nj,no,jo->j", active, theta * X[:, i, None], np.sign(output))
        levels[i] = np.abs(along).max(initial=np.abs(theta.T @ X[:, i]).max() if not network.n_neurons else 0.0)
    return levels


def neuron_levels(model, fit: Fit, X, y, loss, sample_weight, class_weight=1.0, n_outputs=1):
    """Weight decays at which neurons would vanish or appear, were nothing else to change, and their numbers of weights.

    For a neuron of the network it is the price of its direction with the neuron itself taken out of the predictions;
    for other neurons (ReLU) the price at local maxima below alpha that lie apart, as a search finds them.

    Parameters
    ----------
    model : ConvexReLURegressor or ConvexReLUClassifier
        Settings.
    fit : Fit
        A fit.
    X, y, loss, sample_weight, class_weight, n_outputs
        What ``_coded`` makes of the data.

    Returns
    -------
    levels, sizes : arrays of shape (n_levels,)
    """
    weights = sample_weight * class_weight
    keep = weights > 0
    X, y, weights = X[keep], loss.check_target(y)[keep], weights[keep]
    network, levels, sizes = fit.network, [], []
    hidden, z = network.hidden(X), network.predict(X)
    output = network.output_weights.reshape(network.n_neurons, n_outputs)
    lengths = network.path_norms / np.linalg.norm(output, axis=1)
    for j, (w, a) in enumerate(zip(network.hidden_weights, output)):
        out = z - (hidden[:, j, None] * a).reshape(z.shape)
        theta = -weights[:, None] * loss.gradient(y, out).reshape(len(y), n_outputs)
        levels.append(float(hidden[:, j] @ theta @ a) / (lengths[j] * np.linalg.norm(a)))
        sizes.append(np.count_nonzero(w) + (network.hidden_biases[j] != 0) + np.count_nonzero(a))
    if model.activation == "relu":
        lifted = X if model.hidden_bias == "none" else np.column_stack([X, np.ones(len(X))])
        mu = lift_feature_penalty(model.feature_penalty, X.shape[1], model.hidden_bias)
        known, rng = np.zeros((0, lifted.shape[1])), np.random.default_rng(0)
        theta = fit.certificate.theta.reshape(len(y), n_outputs)
        for column, sign in product(theta.T, (1.0, -1.0)):
            effort = (no_peaks(lifted), 200, 60, 1, rng)
            peaks, prices, V, _ = find(lifted, sign * column, known, model.hidden_bias, *effort, feature_penalty=mu)
            chosen = peaks.apart(len(prices), SPREAD[:2])
            for k in chosen[prices[chosen] < (1 - 1e-3) * fit.alpha]:
                levels.append(prices[k])
                sizes.append(np.count_nonzero(V[k]) + 1)
    return np.array(levels), np.array(sizes)


def _order_statistic(levels: NDArray, sizes: NDArray, wanted: int) -> float:
    """Between the levels of the last neuron that the wanted count has room for and of the first that it has not."""
    order = np.argsort(-levels)
    levels, total = np.maximum(levels[order], 1e-300), np.cumsum(sizes[order])
    k = int(np.searchsorted(total, wanted, side="right"))
    if k == 0:
        return float(1.01 * levels[0]) if len(levels) else 1e-300
    return float(np.sqrt(levels[k - 1] * levels[k])) if k < len(levels) else float(0.7 * levels[-1])


def _integer(name: str, value: Any, least: int) -> int:
    """A count, or a ValueError that says what is wrong with it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
    return int(value)


def _count(network: Network, name: str) -> int:
    if name == "n_neurons":
        return network.n_neurons
    parts = (network.hidden_weights, network.hidden_biases, network.output_weights)
    return int(sum(np.count_nonzero(part) for part in parts))
