"""The set of all optimal networks: a polytope, its vertices, and which of its networks to take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.analysis.audit import network_from
from convexnn.analysis.optimal_neurons import free_terms, match, optimal_neurons, unit_neurons
from convexnn.analysis.polytope import DEPENDENT, Polytope
from convexnn.arrangements import Arrangement, check_data, count_patterns, enumerate_patterns, patterns_of
from convexnn.losses import Loss, get_loss
from convexnn.network import Network, clusters
from convexnn.program.cells import ONE_NEURON, Cells
from convexnn.program.conversion import find_patterns
from convexnn.program.problem import Problem
from convexnn.program.result import relative_gap
from convexnn.program.task import Task
from convexnn.proofs.graded import task_of
from convexnn.proofs.prove import MAX_LISTED
from convexnn.threads import one_thread

# A relative gap above this after all is no optimum.
NOT_SOLVED = 1e-8


@dataclass(frozen=True, eq=False)
class OptimalSet:
    r"""All optimal networks of a training problem: a polytope of path norms t.

    t_j = |(w_j, b_j)| |a_j| is the path norm of neuron j, one of the m neurons that an optimal network can have: those
    whose price is alpha. Predictions on the data, the sum of t and the objective are the same for all optimal networks;
    intercept and skip weights follow from t. The networks that the methods return are balanced, and in the set.

    Attributes
    ----------
    network : Network
        The optimal network nearest to the given one, by its path norms.
    neurons : Network
        The m neurons, each with path norm 1; its output bias and skip weights mean nothing.
    prices : array of shape (m,)
        e theta^T (X u)_+ of each neuron in units of alpha, u = (w, b) of norm 1 and e its sign: at least 1 - tol.
    polytope : Polytope
        {t >= 0 : equations @ t = equations @ point}.
    theta : array, shape of the predictions on the samples of positive weight
        The dual solution, the same for all optimal networks.
    objective : float
        Of every network in the set.
    relative_gap : float
        (objective - lower bound) / objective, over the networks of the scope.
    given_gap : float
        (objective of the given network, balanced, - objective) / objective of the given network.
    scope : {"global", "patterns", "search"}
        "global": every activation pattern was listed, these are all optimal networks (whose neurons feed one output
        each). "patterns": a part was listed, these are the optima among networks with these patterns. "search": as
        far as a search over all patterns found; there may be more neurons, and the gap is over what was found.
    n_patterns : int
        Length of the list, or number of cells that the last search ended in.
    alpha, loss
        The training problem.
    """

    network: Network
    neurons: Network
    prices: NDArray[np.float64]
    polytope: Polytope = field(repr=False)
    theta: NDArray[np.float64] = field(repr=False)
    objective: float
    relative_gap: float
    given_gap: float
    scope: str
    n_patterns: int
    alpha: float
    loss: Loss
    _classes: NDArray | None = field(repr=False)
    _free: NDArray[np.float64] = field(repr=False)

    @property
    def path_norms(self) -> NDArray[np.float64]:
        """t of ``network``, shape (m,)."""
        return self.polytope.point

    @property
    def dimension(self) -> int:
        """Of the polytope: 0 where it is a point, 1 for an interval."""
        return self.polytope.dimension

    @property
    def is_unique(self) -> bool:
        """Whether there is only one optimal network in the scope, up to the order of its neurons."""
        return self.dimension == 0

    @property
    def function_dimension(self) -> int:
        """Dimension of the set of functions of x that these networks are: 0 where all predict the same everywhere.

        Often smaller than ``dimension``: (u^T x)_+ - (-u^T x)_+ is linear, so that neurons that face each other can be
        exchanged as long as the linear parts cancel. Functions with a bend on different hyperplanes are independent.
        """
        if self.is_unique:
            return 0
        part, m, C = self.neurons, len(self.prices), self.network.n_outputs
        inside = np.column_stack([part.hidden_weights, part.hidden_biases])
        gates = np.column_stack(part.switches)
        gates = gates / np.linalg.norm(gates, axis=1, keepdims=True)
        front = gates[np.arange(m), np.argmax(np.abs(gates) > 1e-6, axis=1)] > 0
        plane = clusters(np.where(front, 1.0, -1.0)[:, None] * gates, ONE_NEURON)
        feeds = inside.T[:, None, :] * part.output_weights.reshape(m, C).T
        # f = linear + bend 1[in front]; behind the hyperplane a neuron that faces backwards is all linear.
        linear, kink = np.where(front, part.activation.slope, 1.0) * feeds, part.activation.kink
        bend = np.zeros((plane.max() + 1, *feeds.shape))
        bend[plane, :, :, np.arange(m)] = np.moveaxis(kink * np.where(front, feeds, -feeds), -1, 0)
        linear[-1] += self._free[-1]
        linear[: len(self._free) - 1] += self._free[:-1]
        change = np.concatenate([linear[None], bend])
        if C > 1:
            change -= change.mean(axis=2, keepdims=True)
        change = change.reshape(-1, m)
        return int(np.linalg.matrix_rank(change @ self.polytope.directions, tol=1e-7 * np.abs(change).max()))

    def path_norm_ranges(self) -> NDArray[np.float64]:
        """Least and largest path norm of each neuron over the set, shape (m, 2), by two linear programs each.

        A neuron whose least is positive is in every optimal network, one whose largest is 0 in none.
        """
        return self.polytope.ranges

    def network_of(self, path_norms: ArrayLike) -> Network:
        """The optimal network with these path norms.

        Parameters
        ----------
        path_norms : array of shape (m,)
            A point of the set.

        Returns
        -------
        network : Network
            Of the neurons with positive path norms.

        Raises
        ------
        ValueError
            When the point is not in the set.
        """
        t = np.asarray(path_norms, dtype=float)
        if t.shape != self.path_norms.shape or not np.isfinite(t).all():
            raise ValueError(f"path_norms must be finite of shape {self.path_norms.shape}, got {t.shape}.")
        off = self.polytope.off(t)
        if t.min(initial=0.0) < 0 or off > 1e-8:
            raise ValueError(
                f"path_norms must be a point of the set, got a least entry of {t.min():.3g} and equations that are off "
                f"by {off:.3g} of the sum; convex combinations of path norms of optimal networks are in it."
            )
        k = np.flatnonzero(t > 0)
        root, part, skip = np.sqrt(t[k]), self.neurons.select(k), self.network.skip_weights
        shift = (self._free @ (t - self.path_norms)).reshape(len(self._free), *self.network.output_weights.shape[1:])
        bias = self.network.output_bias + shift[-1]
        return replace(
            part,
            hidden_weights=part.hidden_weights * root[:, None],
            hidden_biases=part.hidden_biases * root,
            output_weights=(part.output_weights.T * root).T,
            output_bias=bias if part.n_outputs > 1 else float(bias),
            skip_weights=None if skip is None else skip + shift[:-1],
        )

    def vertex(self, cost: ArrayLike) -> Network:
        """An optimal network of least sum_j cost_j t_j: a vertex of the polytope.

        Its activations on the data, less what intercept and skip connection explain, are linearly independent: no
        neuron can be left out, even if all others may be rescaled. Another vertex may have fewer.

        Parameters
        ----------
        cost : array of shape (m,)
            Of one unit of path norm of each neuron.

        Returns
        -------
        network : Network

        Raises
        ------
        ValueError
            When cost is not finite or has another shape.
        """
        cost = np.asarray(cost, dtype=float)
        if cost.shape != self.path_norms.shape or not np.isfinite(cost).all():
            raise ValueError(f"cost must be finite of shape {self.path_norms.shape}, got {cost.shape}.")
        return self.network_of(self.polytope.least(cost))

    def largest(self) -> Network:
        """An optimal network of as many neurons as possible, in the relative interior of the set.

        Returns
        -------
        network : Network
            The mean of the vertices at which the neurons have their largest path norms.
        """
        return self.network_of(self.polytope.inside)

    def smallest(self, max_time: float = 10.0) -> tuple[Network, int]:
        """An optimal network of few neurons, and how few there can be, by a mixed-integer linear program.

        To find the fewest is NP-hard in general, and a few dozen neurons may take longer than the limit.

        Parameters
        ----------
        max_time : float, default=10.0
            Limit in seconds.

        Returns
        -------
        network : Network
            The best found, at worst a vertex.
        at_least : int
            No optimal network has fewer neurons; if that is the number of ``network``, it has the fewest.

        Raises
        ------
        ValueError
            When max_time is not a positive number.
        """
        if not (isinstance(max_time, Real) and max_time > 0):
            raise ValueError(f"max_time must be above 0, got {max_time!r}.")
        t, at_least = self.polytope.fewest(float(max_time))
        return self.network_of(t), at_least

    def best(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Network:
        r"""The optimal network with the lowest loss on other data: a convex problem over the polytope.

        Parameters
        ----------
        X : array of shape (n_validation, n_features)
            Validation data.
        y : array of shape (n_validation,)
            Targets, coded as those of the training data.
        sample_weight : array of shape (n_validation,), optional
            Non-negative, by default ones.

        Returns
        -------
        network : Network
            Within 1e-8 of the lowest loss, relative to that of ``largest()``. One of several where several attain it.

        Raises
        ------
        ValueError
            When the data do not fit the network or the loss.
        """
        X, C = check_data(X), self.network.n_outputs
        y = self.loss.check_target(_coded(y, self._classes, C))
        s = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if y.shape != (len(X),) or s.shape != (len(X),) or not np.isfinite(s).all() or s.min() < 0:
            raise ValueError(
                f"y and sample_weight must have shape ({len(X)},), weights finite and non-negative, got {y.shape} and "
                f"{s.shape}."
            )
        if self.loss.target == "classes" and y.max() >= C:
            raise ValueError(f"y must be below {C}, the number of outputs, got {y.max()}.")
        f, slopes = self.network.predict(X), self._slopes(X)

        def validation_loss(t):
            z = f + (slopes @ (t - self.path_norms)).reshape(f.shape)
            gradient = self.loss.gradient(y, z).reshape(len(X), C) * s[:, None]
            bend = self.loss.hessian(y, z).reshape(len(X), C, C) * s[:, None, None]
            hessian = np.einsum("noj,nok->jk", slopes, bend @ slopes, optimize=True)
            return float(s @ self.loss.value(y, z)), np.einsum("no,noj->j", gradient, slopes), hessian

        scale = max(validation_loss(self.polytope.inside)[0], 1e-300)
        return self.network_of(self.polytope.minimise(validation_loss, scale))

    def predict_range(self, X: ArrayLike) -> tuple[NDArray, NDArray]:
        """Least and largest prediction of any optimal network, by two linear programs for each sample and output.

        Parameters
        ----------
        X : array of shape (n_new, n_features)
            New data.

        Returns
        -------
        low, high : arrays of shape (n_new,) or (n_new, n_outputs)
            With several outputs of the scores less their mean over the outputs: the class probabilities depend on
            nothing else, and a constant added to all biases changes no loss.

        Raises
        ------
        ValueError
            When X is not a finite matrix with the network's number of features.
        """
        X = check_data(X)
        middle, slopes = self.network.predict(X), self._slopes(X)
        if self.network.n_outputs > 1:
            middle, slopes = middle - middle.mean(axis=1, keepdims=True), slopes - slopes.mean(axis=1, keepdims=True)
        low, high = middle.ravel().copy(), middle.ravel().copy()
        if not self.is_unique:
            for i, row in enumerate(slopes.reshape(len(low), len(self.path_norms))):
                low[i] += min(row @ (self.polytope.least(row) - self.path_norms), 0.0)
                high[i] += max(row @ (self.polytope.least(-row) - self.path_norms), 0.0)
        return low.reshape(middle.shape), high.reshape(middle.shape)

    def __str__(self) -> str:
        count, m = f"{self.n_patterns:,}", len(self.polytope.live)
        words = {
            "global": f"All {count} activation patterns were listed: these are all optimal networks.",
            "patterns": f"{count} activation patterns were listed: these are the optima among networks with these.",
            "search": f"A search over all activation patterns ended in {count} cells: there may be more neurons.",
        }
        shape = f"one optimal network, {m} neuron{'' if m == 1 else 's'}"
        if not self.is_unique:
            shape = (
                f"a polytope of dimension {self.dimension} of networks, of dimension {self.function_dimension} of "
                f"functions: {m} neurons can be active, {len(self.polytope.needed)} always are"
            )
        return f"objective {self.objective:.6g} (relative gap {self.relative_gap:.1e}): {shape}. {words[self.scope]}"

    def _slopes(self, X: NDArray) -> NDArray:
        """Change of the predictions with each path norm, intercept and skip weights included: (n, n_outputs, m)."""
        C, m = self.network.n_outputs, len(self.path_norms)
        slopes = self.neurons.hidden(X)[:, None, :] * self.neurons.output_weights.reshape(m, C).T + self._free[-1]
        return slopes if self.network.skip_weights is None else slopes + np.tensordot(X, self._free[:-1], 1)


@one_thread()
def optimal_set(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    alpha: float | None = None,
    loss: str | Loss | None = None,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool | None = None,
    hidden_bias: str | None = None,
    patterns: str | Arrangement = "auto",
    tol: float = 1e-6,
    max_gap: float = 1e-3,
    random_state: int | np.random.Generator | None = 0,
) -> OptimalSet:
    r"""All networks with the same, optimal, weight-decay objective as a given one.

    For a smooth loss the dual solution theta is unique, and so is, in each cell of the data (activation pattern, output
    and sign e), the vector u of norm 1 with the largest price e theta^T (X u)_+. An optimal network is a non-negative
    combination of those u whose price is alpha. The predictions on the data are unique where the loss is strictly
    convex, so that the path norms t >= 0 of these neurons form the polytope {t >= 0 : sum_j t_j e_j (X u_j)_+ + free
    terms = z}, z the predictions. The given network is first refined to the accuracy of rounding: its cells, and those
    whose price is above alpha, until none is; then by Newton's method on the faces that its neurons lie in.

    Parameters
    ----------
    model : Network, fitted estimator or other model
        What ``network_from`` takes, nearly optimal. A fitted ConvexReLURegressor or ConvexReLUClassifier brings alpha,
        loss, fit_intercept, hidden_bias and patterns along. Every neuron feeds one output.
    X : array of shape (n_samples, n_features)
        The data of the fit, without a ones column.
    y : array of shape (n_samples,)
        Targets: labels if the model has ``classes_``, else in the loss's coding.
    alpha : float, optional
        Weight decay on the sum of losses; needed unless the model has it.
    loss : str or Loss, optional
        "squared", "log_loss" (two classes or more); "huber" and "squared_hinge" where all samples are on a curved part.
        By default that of the model, else "squared", or "log_loss" for classes.
    sample_weight : array of shape (n_samples,), optional
        Of the losses (with ``class_weight``: times the weights of the classes).
    fit_intercept : bool, optional
        Whether networks may have an unpenalised output bias; by default as in the fit, else True.
    hidden_bias : {"penalized", "free", "none"}, optional
        As in ``certify``. With "free" the set is a polytope only if every optimal neuron has a sample on its hyperplane
        that keeps it there; it is refused where a bias can move from one sample to the next, as often happens.
    patterns : {"auto", "exact", "search"} or Arrangement, default="auto"
        Which neurons to look for: those of all patterns of X, listed ("exact") or searched for ("search", ReLU only),
        or of an arrangement of [X, 1] (X without hidden biases) beside the network's own. "auto" takes the list of the
        fit if it had one, the network's own gates if it has gates, all patterns up to 50,000, and else searches.
    tol : float, default=1e-6
        Prices from (1 - tol) alpha on count as equal to alpha. Too large a value does no harm but to time: a neuron
        with a lower price than alpha gets a largest path norm of 0.
    max_gap : float, default=1e-3
        Relative gap of the given network up to which it is refined and beyond which it is refused.
    random_state : int or numpy Generator, default=0
        Of the search.

    Returns
    -------
    optima : OptimalSet

    Raises
    ------
    ValueError
        For unusable arguments; for losses with kinks, or samples on a flat or straight part of the loss, whose
        predictions need not be unique; for a network that is not optimal: the message has its gap.

    Notes
    -----
    Path norms whose least and largest value differ by no more than 1e-9 of their sum count as fixed, and activations
    as dependent where singular values fall below 1e-9 of the largest.

    References
    ----------
    .. [1] A. Mishkin, M. Pilanci, Optimal sets and solution paths of ReLU networks, ICML 2023, arXiv:2306.00119,
       sections 3 and 4.

    Examples
    --------
    |x| at -1, 0 and 1, without biases: the slope to the right is fixed, and so is that to the left.

    >>> import numpy as np
    >>> from convexnn import ConvexReLURegressor
    >>> X, y = np.array([[-1.0], [0.0], [1.0]]), np.array([1.0, 0.0, 1.0])
    >>> model = ConvexReLURegressor(alpha=0.1, hidden_bias="none", fit_intercept=False).fit(X, y)
    >>> optimal_set(model, X, y).is_unique
    True

    With an intercept or biases there are many ways to draw a straight line through two points:

    >>> X, y = np.array([[-1.0], [1.0]]), np.array([-1.0, 1.0])
    >>> optima = optimal_set(ConvexReLURegressor(alpha=0.1).fit(X, y), X, y)
    >>> optima.is_unique, optima.smallest()[0].n_neurons
    (False, 1)
    """
    certificate, classes = getattr(model, "certificate_", None), getattr(model, "classes_", None)
    if certificate is not None:
        alpha = model.alpha_ if alpha is None else alpha
        loss = certificate.loss if loss is None else loss
        fit_intercept = certificate.fit_intercept if fit_intercept is None else fit_intercept
        hidden_bias = certificate.hidden_bias if hidden_bias is None else hidden_bias
    network = network_from(model, hidden_bias=hidden_bias).balance()
    hidden_bias = network.hidden_bias if hidden_bias is None else hidden_bias
    if not (isinstance(alpha, Real) and np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be given, finite and above 0, unless the model has it; got {alpha!r}.")
    if not (isinstance(tol, Real) and 0 < tol < 0.1 and isinstance(max_gap, Real) and max_gap > 0):
        raise ValueError(f"tol must lie between 0 and 0.1, max_gap be above 0, got {tol!r} and {max_gap!r}.")
    _check_network(network, hidden_bias)
    several = network.n_outputs > 1 or classes is not None
    loss = get_loss(("log_loss" if several else "squared") if loss is None else loss, network.n_outputs)
    fit_intercept = True if fit_intercept is None else fit_intercept
    y = _coded(y, classes, network.n_outputs)
    task, alpha = task_of(network, X, y, loss, sample_weight, fit_intercept, hidden_bias), float(alpha)
    if not task.smooth:
        raise ValueError(
            f"loss={loss.name!r} has kinks: neither predictions nor theta need be unique; take a smooth loss."
        )
    listed, scope = _listed(model, network, task, patterns)
    own = None
    if listed is not None:
        own = listed.patterns.T[find_patterns(network, task.rows, listed.patterns.T, task.neuron)]
    given = Cells.of_network(network, task.rows, task.neuron, own)
    cells, t, pairs, theta, highest, n_patterns = optimal_neurons(
        task, alpha, given, listed, np.random.default_rng(random_state), tol
    )
    bound = task.dual_value(Problem.bare(task, alpha).dual_bound(theta)[1] * (alpha / max(alpha, highest)))
    neurons = unit_neurons(network, task, cells, listed)
    phi = neurons.hidden(task.X)[:, None, :] * neurons.output_weights.reshape(len(t), network.n_outputs).T
    prices = np.einsum("noj,no->j", phi, theta.reshape(phi.shape[:2])) / alpha
    keep = np.flatnonzero((prices >= 1 - tol) | (t > 0))
    moved, weights = free_terms(task, phi)
    polytope = Polytope(_equations((phi + moved)[:, :, keep]), t[keep])
    predictions = (phi[:, :, keep] @ t[keep]).reshape(theta.shape)
    center = task.best_intercept(predictions)
    skip, bias = task.free_weights(center)
    optima = OptimalSet(
        network=replace(network.select(slice(0, 0)), output_bias=bias, skip_weights=skip),
        neurons=neurons.select(keep),
        prices=prices[keep],
        polytope=polytope,
        theta=theta,
        objective=np.nan,
        relative_gap=np.nan,
        given_gap=np.nan,
        scope=scope,
        n_patterns=n_patterns,
        alpha=alpha,
        loss=loss,
        _classes=classes,
        _free=weights[:, :, keep],
    )
    refined = optima.network_of(optima.path_norms)
    reached, before = (each.objective(task.X, task.y, alpha, loss, task.sample_weight) for each in (refined, network))
    gaps = dict(relative_gap=relative_gap(reached, bound), given_gap=relative_gap(before, reached))
    optima = replace(optima, network=refined, objective=reached, **gaps)
    _check_optimum(optima, task, before, max_gap)
    _check_unique(optima, task, predictions + center, np.isin(pairs, keep[polytope.live]).all(axis=1))
    near = polytope.nearest(match(task, given, cells.take(keep)))
    return replace(optima, network=optima.network_of(near), polytope=Polytope(polytope.equations, near))


def _check_network(network: Network, hidden_bias: str) -> None:
    """ValueError for networks that are no candidates of their own program."""
    fed = network.output_weights.reshape(network.n_neurons, network.n_outputs) != 0
    if (fed.sum(axis=1) > 1).any():
        raise ValueError("model must have neurons that feed one output each, got one that feeds several.")
    if network.gate_weights is not None and hidden_bias == "free":
        raise ValueError("hidden_bias must be 'penalized' or 'none' for a gated network, got 'free'.")


def _equations(moved: NDArray) -> NDArray:
    """Orthonormal rows of what path norms must keep: the predictions that neurons make (n_samples, n_outputs, m), with
    the unpenalised terms that follow, and the sum of the path norms."""
    if moved.shape[1] > 1:
        # The loss sees differences of the outputs only.
        moved = moved - moved.mean(axis=1, keepdims=True)
    A = moved.reshape(moved.shape[0] * moved.shape[1], moved.shape[2])
    A = np.vstack([A, np.full((1, A.shape[1]), np.linalg.norm(A, axis=0).max(initial=0.0))])
    _, singular, axes = np.linalg.svd(A, full_matrices=False)
    return axes[singular > DEPENDENT * singular.max(initial=0.0)]


def _check_optimum(optima: OptimalSet, task: Task, given: float, max_gap: float) -> None:
    """ValueError unless the given network was nearly optimal, and the optimum was found to the accuracy of rounding."""
    objective = optima.objective
    if optima.given_gap > max_gap:
        raise ValueError(
            f"model must be optimal: its objective is {given:.8g}, and {objective:.8g} was reached, a relative gap of "
            f"{optima.given_gap:.2g}, more than max_gap={max_gap:g}; fit with a smaller tol, check alpha, loss and "
            "sample_weight, or take a network that was fitted on these patterns."
        )
    if optima.relative_gap > NOT_SOLVED and objective > task.negligible:
        raise ValueError(
            f"the optimum was found to a relative gap of {optima.relative_gap:.1e} only, where {NOT_SOLVED:g} is "
            "needed to tell which neurons are optimal; standardise the features, or take a larger alpha."
        )
    if task.loss.target != "real" and objective <= task.negligible:
        raise ValueError(
            "the skip connection separates the classes: the objective falls towards 0 without an optimum; take "
            "skip_connection=False."
        )


def _check_unique(optima: OptimalSet, task: Task, predictions: NDArray, loose: NDArray[np.bool_]) -> None:
    """ValueError where predictions, or the neurons that reach alpha, are not unique: the set is no polytope then.

    ``loose`` says which pairs of neurons are both optimal that differ by a free bias alone.
    """
    bent = task.loss.hessian(task.y, predictions).reshape(len(task.y), -1)
    flat = int(np.count_nonzero(bent.max(axis=1) <= 0))
    if flat:
        raise ValueError(
            f"loss={task.loss.name!r} is flat or straight at the predictions of {flat} of {len(task.y)} samples, which "
            "are therefore not unique; the optimal set is no polytope of path norms with fixed predictions."
        )
    if loose.any():
        raise ValueError(
            f"hidden_bias='free' leaves the bias of {loose.sum()} neurons free to move between samples without a "
            "change of the objective: the optimal networks are no polytope; take hidden_bias='penalized'."
        )


def _coded(y: ArrayLike, classes: NDArray | None, n_outputs: int) -> NDArray:
    """Labels as -1 / +1 or class indices; without classes as they are."""
    y = np.asarray(y)
    if classes is None:
        return y
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y must hold classes of the model, {classes[:10].tolist()}, got {unknown[:5].tolist()}.")
    code = np.argsort(classes)[np.searchsorted(np.sort(classes), y)]
    return code if n_outputs > 1 else 2.0 * code - 1.0


def _listed(model, network: Network, task: Task, patterns) -> tuple[Arrangement | None, str]:
    """The patterns to list, None for a search, and the scope of the set."""
    certificate, gated, rows = getattr(model, "certificate_", None), network.gate_weights is not None, task.rows
    if isinstance(patterns, Arrangement):
        listed = patterns
    elif patterns not in ("auto", "exact", "search"):
        raise ValueError(f"patterns must be 'auto', 'exact', 'search' or an Arrangement, got {patterns!r}.")
    elif patterns == "search" and gated:
        raise ValueError("patterns must be 'exact' or an Arrangement for a gated network, got 'search'.")
    elif patterns == "search":
        return None, "search"
    elif patterns == "exact":
        listed = enumerate_patterns(rows)
    elif (
        certificate is not None
        and (model.arrangement_.complete or certificate.scope == "patterns")
        and (certificate.n_searched == 0)
    ):
        listed = model.arrangement_
    elif gated:
        listed = Arrangement.from_gates(rows, np.zeros((rows.shape[1], 0)))
    elif count_patterns(len(np.unique(rows, axis=0)), int(np.linalg.matrix_rank(rows))) <= MAX_LISTED:
        listed = enumerate_patterns(rows)
    else:
        return None, "search"
    if not listed.belongs_to(rows):
        raise ValueError(
            f"patterns must be an Arrangement of the {len(rows)} samples of positive weight"
            f"{' and a ones column' if task.neuron.has_bias else ''}, got one of other data."
        )
    unlisted = np.arange(network.n_neurons)
    if not gated and listed.n_patterns:
        unlisted = np.flatnonzero(find_patterns(network, rows, listed.patterns.T, task.neuron) < 0)
    if len(unlisted):
        # A network's own gates stay what they are.
        listed = patterns_of(network.select(unlisted), task.X, hidden_bias=task.neuron.hidden_bias).union(listed)
    return listed, "global" if listed.complete else "patterns"
