"""The weight decay for a wanted sparsity: select_alpha, by order statistics of block correlations and bisection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.estimators.path import estimator_for
from convexnn.fits import Fit, Sample
from convexnn.network import Network
from convexnn.program.task import Task
from convexnn.proofs.certificate import Certificate
from convexnn.search.column_generation import find
from convexnn.search.pricing import SPREAD, Effort, no_peaks

#: A bracket this narrow, as a ratio of its ends, holds a jump of the count.
NARROW = 1 + 1e-3
#: Below this share of alpha_max nothing is looked for.
SMALLEST = 1e-4
#: Fits in which all groups of features move at once.
TOGETHER = 8
#: Levels of features below this are none.
LEAST = 1e-6
#: Fits that ended like this say nothing of the optimum's neurons, and there are no more fits after them.
UNUSABLE = ("time_limit", "interrupted", "failed")


@dataclass(frozen=True, eq=False)
class Selection:
    """A network of a wanted sparsity, or the statement that none was found.

    Attributes
    ----------
    alpha, alpha_max : float
        Weight decay of ``network``; the smallest one without neurons, as a search over the patterns found it.
    network : Network
        The network whose count is nearest to the wanted one.
    certificate : Certificate
        Its grade.
    n_neurons, n_weights : int
        Its neurons, after merging and pruning; its non-zero hidden weights, hidden biases and output weights.
    attained : bool
        Whether the wanted count is met within the tolerance.
    bracket : tuple of float
        The nearest weight decays tried with a count too high, and too low: (smaller, larger). 0 where no count was too
        high, inf where none was too low.
    fits : list of dict
        alpha, n_neurons, n_weights, relative_gap and status of each fit, in the order made.
    classes : array of shape (n_classes,) or None
        Class labels, in the order of the network's outputs.
    """

    alpha: float
    alpha_max: float
    network: Network
    certificate: Certificate = field(repr=False)
    n_neurons: int
    n_weights: int
    attained: bool
    bracket: tuple[float, float]
    fits: list[dict] = field(repr=False)
    classes: NDArray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        what = f"{self.n_neurons} neurons and {self.n_weights} weights at alpha = {self.alpha:.6g}"
        low, high = self.bracket
        ends = [f"too many at {low:.6g}" if low > 0 else "", f"too few at {high:.6g}" if np.isfinite(high) else ""]
        if not self.attained:
            what = "; ".join(["not attained: nearest " + what, *filter(None, ends)])
        return f"{what}, after {len(self.fits)} fit{'s' * (len(self.fits) != 1)}."


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
        The other parameters of ConvexReLURegressor or ConvexReLUClassifier, except alpha and warm_start. ``max_time``
        is for all fits together. The first fit is at alpha_max, and alphas below 1e-4 of it are not tried.

    Returns
    -------
    selection : Selection
        After ``max_time`` or Ctrl-C with the best of the fits that were completed.

    Warns
    -----
    ConvergenceWarning
        When a time limit or Ctrl-C ended the search, or fits stopped before ``solver_tol``.

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
    model = _estimator(loss, solver_tol, options)
    sample = model._coded(X, y, sample_weight)
    task = model._task_of(sample)
    fits: list[Fit] = []
    counts: list[int] = []

    def bracket():
        """Nearest alphas with too many and with too few."""
        many = [fit.alpha for fit, count in zip(fits, counts) if count > wanted]
        few = [fit.alpha for fit, count in zip(fits, counts) if count < wanted]
        low = max((alpha for alpha in many if not few or alpha < max(few)), default=0.0)
        return low, min((alpha for alpha in few if alpha > low), default=np.inf)

    def undecided():
        """Whether there is an alpha left to try: where nothing can be explained, none has a neuron."""
        low, high = bracket()
        wide = high > max(low, SMALLEST * fits[0].alpha) * NARROW and fits[0].alpha_max > 0
        return abs(counts[-1] - wanted) > tol and wide

    def sequence(alpha_max):
        """alpha_max, and then whatever the fits so far suggest."""
        yield alpha_max or 1.0
        while len(fits) < max_fits and undecided():
            low, high = bracket()
            floor = max(low, SMALLEST * alpha_max)
            levels, sizes = neuron_levels(fits[-1], task)
            alpha = _order_statistic(levels, np.ones(len(sizes)) if name == "n_neurons" else sizes, wanted)
            if high == np.inf:
                # alpha_max is the largest price that was found: there may be a little above it.
                alpha = 1.01 * low
            # The guess only counts inside the bracket, and the bracket is halved now and then all the same.
            elif not 0.02 < np.log(high / alpha) / np.log(high / floor) < 0.98 or len(fits) % 3 == 0:
                alpha = np.sqrt(high * floor) if low > 0 else max(0.5 * high, np.sqrt(high * floor))
            yield alpha

    try:
        for fit in model._train(sample, alphas=sequence):
            if fit.result.status not in UNUSABLE or not fits:
                fits.append(fit)
                counts.append(_count(fit.network, name))
            if fit.result.status in UNUSABLE:
                break
    except KeyboardInterrupt:
        # Between two fits; within one the solver keeps what it has.
        if not fits:
            raise
    _warn(fits, undecided(), solver_tol)
    best = int(np.argmin([abs(count - wanted) for count in counts]))
    network = fits[best].network
    sizes = [(fit.network.n_neurons, _count(fit.network, "n_weights")) for fit in fits]
    return Selection(
        fits[best].alpha,
        fits[best].alpha_max,
        network,
        fits[best].certificate,
        *sizes[best],
        abs(counts[best] - wanted) <= tol and fits[best].result.status not in UNUSABLE,
        bracket(),
        [
            dict(alpha=fit.alpha, n_neurons=m, n_weights=size, relative_gap=fit.relative_gap, status=fit.result.status)
            for fit, (m, size) in zip(fits, sizes)
        ],
        getattr(model, "classes_", None),
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
    certificate : Certificate
        Its grade.
    n_active : dict
        Features of each group that some neuron uses.
    attained : bool
        Whether every group has its wanted number within the tolerance.
    bracket : dict
        For each group the nearest levels tried with too many and with too few active features, while the other groups
        had the levels of the end: (smaller, larger); 0 and inf where there is none, (0, 0) where too few are active
        without any penalty.
    fits : list of dict
        levels, n_active, relative_gap and status of each fit, in the order made.
    classes : array of shape (n_classes,) or None
        Class labels, in the order of the network's outputs.
    """

    levels: dict
    feature_penalty: NDArray[np.float64]
    network: Network
    certificate: Certificate = field(repr=False)
    n_active: dict
    attained: bool
    bracket: dict
    fits: list[dict] = field(repr=False)
    classes: NDArray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        found = ", ".join(
            f"{group}: {count} active at {self.levels[group]:.4g}" for group, count in self.n_active.items()
        )
        after = f"after {len(self.fits)} fit{'s' * (len(self.fits) != 1)}"
        return f"{'' if self.attained else 'not attained; nearest: '}{found}, {after}."


def select_feature_penalty(
    X: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float,
    groups: ArrayLike,
    n_active: Mapping,
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
    of the network. Groups move together at first, then one after the other, each in its bracket of levels with too
    many and too few, until none can be moved.

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
        As in ``select_alpha``; neither ``feature_penalty`` nor ``init``.

    Returns
    -------
    selection : FeatureSelection
        After ``max_time`` or Ctrl-C with the best of the fits that were completed.

    Warns
    -----
    ConvergenceWarning
        When a time limit or Ctrl-C ended the search, or fits stopped before ``solver_tol``.

    Raises
    ------
    ValueError
        For unusable data or parameters.

    References
    ----------
    .. [1] L. Shen, R. Wang, Y. Xu, M. Yan, Sparse machine learning in Banach spaces: parameter choice for a prescribed
       sparsity, arXiv:2408.02801 (several parameters).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((80, 6))
    >>> y = np.abs(X[:, 0]) + X[:, 3] + 0.5 * X[:, 4]
    >>> groups, wanted = ["a", "a", "a", "b", "b", "b"], {"a": 1, "b": 2}
    >>> print(select_feature_penalty(X, y, alpha=5.0, groups=groups, n_active=wanted, random_state=0).n_active)
    {'a': 1, 'b': 2}
    """
    if not isinstance(alpha, Real):
        raise ValueError(f"alpha must be a number > 0, got {alpha!r}.")
    tol, max_fits = _integer("tol", tol, 0), _integer("max_fits", max_fits, 1)
    model = _estimator(loss, solver_tol, options, feature_penalty="it is what is chosen here")
    model.set_params(alpha=alpha)
    search = _PenaltySearch(model, model._coded(X, y, sample_weight), groups, n_active, tol)
    try:
        search.run(max_fits)
    except KeyboardInterrupt:
        if not search.tried:
            raise
    _warn([tried.fit for tried in search.tried], bool(search.moves()), solver_tol)
    return search.selection()


@dataclass(frozen=True)
class _Tried:
    """A fit, the levels of the groups that it had, and how many active features more than wanted each group had."""

    levels: dict
    more: dict
    fit: Fit


class _PenaltySearch:
    """The fits so far for penalty weights of groups, and where to go from the last one."""

    def __init__(self, model, sample: Sample, groups: ArrayLike, n_active: Mapping, tol: int):
        self.model, self.sample, self.n_active, self.tol = model, sample, n_active, tol
        self.task, self.members = model._task_of(sample), _members(groups, n_active, sample.X.shape[1])
        self.tried: list[_Tried] = []
        self.start, self.max_time = perf_counter(), model.max_time

    def penalty(self, levels: dict) -> NDArray:
        """The penalty weight of each feature, shape (n_features,)."""
        mu = np.zeros(self.sample.X.shape[1])
        for group, index in self.members.items():
            mu[index] = levels[group]
        return mu

    def run(self, max_fits: int) -> None:
        """Fit and move on until no group that is wrong can be moved."""
        # Where all features are wanted no penalty is needed, unless it turns out that one is not used.
        members, wanted = self.members, self.n_active
        going = self.attempt({group: 0.0 if wanted[group] == len(index) else 1.0 for group, index in members.items()})
        moved: Any = None
        while going and len(self.tried) < max_fits and (following := self.moves()):
            if len(self.tried) > TOGETHER:
                # One group until it is right or stuck, then another, which gives the first a new bracket.
                moved = moved if moved in following else next(iter(following))
                following = {moved: following[moved]}
            going = self.attempt(self.tried[-1].levels | following)

    def attempt(self, levels: dict) -> bool:
        """A fit that starts from the last network; False when it ran out of time, and then it does not count."""
        model, tried = self.model, self.tried
        if self.max_time is not None:
            model.set_params(max_time=max(self.max_time - (perf_counter() - self.start), 0.0))
        model.set_params(feature_penalty=self.penalty(levels), init=tried[-1].fit.network if tried else None)
        fit = next(model._train(self.sample))
        if fit.result.status in UNUSABLE and tried:
            return False
        used = fit.network.hidden_weights.any(axis=0)
        more = {group: int(used[i].sum()) - self.n_active[group] for group, i in self.members.items()}
        tried.append(_Tried(levels, more, fit))
        return fit.result.status not in UNUSABLE

    def bracket(self, group: Any, levels: dict) -> tuple[float, float]:
        """Levels of a group with too many (-1: none) and with too few, the other groups having these levels."""
        like = levels | {group: 0.0}
        same = [(one.levels[group], one.more[group]) for one in self.tried if one.levels | {group: 0.0} == like]
        few = [level for level, more in same if more < 0]
        low = max((level for level, more in same if more > 0 and (not few or level < max(few))), default=-1.0)
        return low, min((level for level in few if level > low), default=np.inf)

    def moves(self) -> dict:
        """The next levels of the groups that are wrong and can be moved: the order statistic, or halves."""
        last, found = self.tried[-1], {}
        guess = feature_levels(last.fit, self.task) / self.model.alpha
        for group, index in self.members.items():
            if abs(last.more[group]) <= self.tol:
                continue
            low, high = self.bracket(group, last.levels)
            if len(self.tried) <= TOGETHER:
                low, high = (last.levels[group], np.inf) if last.more[group] > 0 else (-1.0, last.levels[group])
            if high <= max(low, LEAST) * NARROW:
                continue
            aim = _order_statistic(guess[index], np.ones(len(index)), self.n_active[group])
            if not 1.02 * max(low, 0.0) < aim < high / 1.02 or len(self.tried) % 3 == 0:
                # Below 0.05 without a lower end: whether it takes any penalty at all.
                half = np.sqrt(low * high) if low > 0 else 0.5 * high if high > 0.05 else 0.0 if low < 0 else high / 10
                aim = max(2 * low, 0.1) if high == np.inf else half
            found[group] = float(aim)
        return found

    def selection(self) -> FeatureSelection:
        """The best of the fits."""

        def counts(one):
            return {group: self.n_active[group] + one.more[group] for group in self.members}

        misses = [sum(abs(k) for k in one.more.values() if abs(k) > self.tol) for one in self.tried]
        best = int(np.argmin(misses))
        chosen = self.tried[best]
        ends = {group: self.bracket(group, chosen.levels) for group in self.members}
        return FeatureSelection(
            chosen.levels,
            self.penalty(chosen.levels),
            chosen.fit.network,
            chosen.fit.certificate,
            counts(chosen),
            misses[best] == 0 and chosen.fit.result.status not in UNUSABLE,
            {group: (max(low, 0.0), high) for group, (low, high) in ends.items()},
            [
                dict(
                    levels=one.levels,
                    n_active=counts(one),
                    relative_gap=one.fit.relative_gap,
                    status=one.fit.result.status,
                )
                for one in self.tried
            ],
            getattr(self.model, "classes_", None),
        )


def feature_levels(fit: Fit, task: Task) -> NDArray:
    """For each feature the largest |theta^T S_j x_i| over the neurons j, theta without the feature in the network.

    A feature that no neuron uses stays out while alpha times its penalty weight is at least that, as long as no new
    neuron appears.

    Parameters
    ----------
    fit : Fit
        A fit.
    task : Task
        The training problem, in the units of the user.

    Returns
    -------
    levels : array of shape (n_features,)
    """
    network, X, C = fit.network, task.X, task.n_outputs
    n, d = X.shape
    output = network.output_weights.reshape(network.n_neurons, C)
    active = network.slopes(X)
    steep = active @ (network.hidden_weights[:, :, None] * output[:, None]).reshape(-1, d * C)
    columns = X.T[:, :, None]
    theta = _dual_without(columns * steep.reshape(n, d, C).transpose(1, 0, 2), network, task)
    pull = (theta * columns).transpose(0, 2, 1)
    if not network.n_neurons:
        return np.abs(pull.sum(axis=2)).max(axis=1)
    along = (pull.reshape(d * C, n) @ active).reshape(d, C, -1)
    return np.abs((along * np.sign(output).T).sum(axis=1)).max(axis=1)


def neuron_levels(fit: Fit, task: Task) -> tuple[NDArray, NDArray]:
    """Weight decays at which neurons would vanish or appear, were nothing else to change, and their numbers of weights.

    For a neuron of the network it is the price of its direction with the neuron itself taken out of the predictions;
    for other neurons without gates the price at local maxima below alpha that lie apart, as a search finds them.

    Parameters
    ----------
    fit : Fit
        A fit.
    task : Task
        The training problem, in the units of the user.

    Returns
    -------
    levels, sizes : arrays of shape (n_levels,)
    """
    network = fit.network
    output = network.output_weights.reshape(network.n_neurons, task.n_outputs)
    parts = network.hidden(task.X).T[:, :, None] * output[:, None]
    levels = np.einsum("jno,jno->j", parts, _dual_without(parts, network, task)) / network.path_norms
    each = (network.hidden_weights, network.hidden_biases[:, None], output)
    sizes = np.count_nonzero(np.column_stack(each), axis=1)
    if task.neuron.activation.cones:
        effort, rng = Effort(n_random=200, n_moved=60, n_generations=1), np.random.default_rng(0)
        peaks, prices, V, _ = find(task, fit.certificate.theta, no_peaks(task.rows), effort, rng)
        chosen = peaks.apart(len(prices), SPREAD[:2])
        below = chosen[prices[chosen] < (1 - 1e-3) * fit.alpha]
        levels = np.concatenate([levels, prices[below]])
        sizes = np.concatenate([sizes, np.count_nonzero(V[below], axis=1) + 1])
    return levels, sizes


def _dual_without(parts: NDArray, network: Network, task: Task) -> NDArray:
    """Minus the weighted gradients at the predictions without each of the parts (n_parts, n_samples, n_outputs)."""
    n_parts, z = len(parts), network.predict(task.X)
    out = (z - parts.reshape(n_parts, *z.shape)).reshape(n_parts * len(z), *z.shape[1:])
    slopes = task.loss.gradient(np.tile(task.y, n_parts), out)
    return -task.sample_weight[:, None] * slopes.reshape(parts.shape)


def _order_statistic(levels: NDArray, sizes: NDArray, wanted: int) -> float:
    """Between the levels of the last neuron that the wanted count has room for and of the first that it has not."""
    order = np.argsort(-levels)
    levels, total = np.maximum(levels[order], 1e-300), np.cumsum(sizes[order])
    k = int(np.searchsorted(total, wanted, side="right"))
    if k == 0:
        return float(1.01 * levels[0]) if len(levels) else 1e-300
    return float(np.sqrt(levels[k - 1] * levels[k])) if k < len(levels) else float(0.7 * levels[-1])


def _members(groups: ArrayLike, n_active: Mapping, n_features: int) -> dict:
    """The features of each group that a number is wanted for; ValueError for groups and numbers that make no sense."""
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (n_features,):
        raise ValueError(f"groups must have one label for each of the {n_features} features, got {groups!r}.")
    if not isinstance(n_active, Mapping) or not n_active:
        raise ValueError(f"n_active must be a dict with a wanted number for at least one group, got {n_active!r}.")
    members = {group: np.flatnonzero(labels == group) for group in n_active}
    for group, index in members.items():
        if not len(index):
            raise ValueError(f"n_active names {group!r}, which is no group: groups has {sorted(set(labels), key=str)}.")
        if _integer(f"n_active[{group!r}]", n_active[group], 0) > len(index):
            raise ValueError(
                f"n_active[{group!r}] must be at most {len(index)}, the features of the group, got {n_active[group]}."
            )
    return members


def _warn(fits: list[Fit], undecided: bool, solver_tol: float) -> None:
    """A warning when the search ended early, or when fits are less accurate than asked for."""
    late = [fit.relative_gap for fit in fits if fit.is_short_of(solver_tol)]
    what = []
    if undecided:
        what.append("the search ended before the wanted numbers were found or ruled out; raise max_fits or max_time")
    if late:
        what.append(f"{len(late)} of {len(fits)} fits stopped before solver_tol, with gaps up to {max(late):.1e}")
    if what:
        warnings.warn(f"{'; '.join(what)}.", ConvergenceWarning, stacklevel=3)


def _estimator(loss: Any, solver_tol: float, options: dict, **refused: str):
    """The estimator of the fits; ValueError with the reason for options that are not the user's to give."""
    refused = {"init": "each fit starts from the one before, the first without neurons"} | refused
    for name, reason in refused.items():
        if name in options:
            raise ValueError(f"{name} must not be given: {reason}.")
    return estimator_for(loss, tol=solver_tol, **({"certify": False} | options))


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
