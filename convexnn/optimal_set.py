"""The set of all optimal networks: a polytope, its vertices, and which of its networks to take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp, nnls
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from convexnn.activations import ACTIVATIONS, find_patterns
from convexnn.adaptive import MAX_NEW_CELLS, ONE_NEURON, Blocks, blocks_of, find, signed
from convexnn.arrangements import Arrangement, check_data, count_patterns, enumerate_patterns, patterns_of
from convexnn.audit import network_from
from convexnn.certificate import MAX_LISTED, bare_problem
from convexnn.cones import project_onto_cones
from convexnn.losses import Loss, get_loss
from convexnn.network import Network
from convexnn.penalties import FreeBiasConeGroupLasso
from convexnn.pricing import SPREAD, Peaks, spread
from convexnn.problem import Design, Problem
from convexnn.result import relative_gap
from convexnn.solvers import Newton
from convexnn.sparse_cones import sparse_norms, support

# Singular values below this share of the largest count as zero: directions are accurate to about 1e-12.
DEPENDENT = 1e-9
# Path norms below this share of their sum are rounding errors of linear programs.
DUST = 1e-9
# A sample this close to a neuron's hyperplane (unit vectors), or a weight this small, is exactly zero at the optimum.
ON_FACE = 1e-6
# Relative gap over the neurons' cells that Newton's method is asked for, and prices that are above alpha by rounding.
ACCURACY, ROUNDING = 1e-11, 1e-8
# A relative gap above this after all is no optimum.
NOT_SOLVED = 1e-8
# Random starts, perturbed vectors and generations of the searches over all patterns.
EFFORT = (1000, 100, 30)


@dataclass(frozen=True, eq=False)
class OptimalSet:
    r"""All optimal networks of a training problem, {t >= 0 : equations @ t = equations @ path_norms}.

    t_j is the path norm |(w_j, b_j)| |a_j| of neuron j. The neurons are those that an optimal network can have: their
    price is alpha. Predictions on the data, the sum of t and the objective are the same for all of them; intercept and
    skip weights follow from t. Every network that the methods return is balanced, and in the set.

    Attributes
    ----------
    network : Network
        The optimal network nearest to the given one, by its path norms.
    neurons : Network
        The m neurons, each with path norm 1; its output bias and skip weights mean nothing.
    path_norms : array of shape (m,)
        t of ``network``: what alpha multiplies.
    prices : array of shape (m,)
        e theta^T (X u)_+ of each neuron in units of alpha, u = (w, b) of norm 1: at least 1 - tol.
    equations : array of shape (rank, m)
        Orthonormal rows.
    theta : array, shape of the predictions on the samples of positive weight
        The dual solution, the same for all optimal networks.
    objective : float
        Of ``network`` and all others in the set.
    relative_gap : float
        (objective - lower bound) / objective, over the networks of the scope.
    given_gap : float
        (objective of the given network, balanced, - objective) / objective of the given network.
    scope : {"global", "patterns", "search"}
        "global": every activation pattern was listed, these are all optimal networks (whose neurons feed one output
        each). "patterns": a part was listed, these are the optima among networks with these patterns. "search": as
        far as a search over all patterns found; there may be more, and the gap is over what was found.
    n_patterns : int
        Length of the list, or number of cells that the last search ended in.
    alpha, loss
        The training problem.
    """

    network: Network
    neurons: Network
    path_norms: NDArray[np.float64]
    prices: NDArray[np.float64]
    equations: NDArray[np.float64] = field(repr=False)
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

    @cached_property
    def _corners(self) -> tuple[NDArray, NDArray]:
        """Points of the set at which each t_j is least, and at which it is largest: two arrays (m, m)."""
        costs = np.eye(len(self.path_norms))
        return np.array([self._least(c) for c in costs]), np.array([self._least(-c) for c in costs])

    @cached_property
    def _live(self) -> NDArray[np.intp]:
        """Neurons that are active in some optimal network."""
        m = len(self.path_norms)
        return np.flatnonzero(np.diag(self._corners[1].reshape(m, m)) > DUST * self.path_norms.sum())

    @property
    def dimension(self) -> int:
        """Of the polytope: 0 where it is a point, 1 for an interval."""
        return len(self._live) - self._rank(self._live)

    @property
    def is_unique(self) -> bool:
        """Whether there is only one optimal network in the scope, up to the order of its neurons."""
        return self.dimension == 0

    @property
    def function_dimension(self) -> int:
        """Dimension of the set of functions of x that these networks are: 0 where all of them predict the same
        everywhere.

        Often smaller than ``dimension``: (u^T x)_+ - (-u^T x)_+ is linear, so that neurons that face each other can be
        exchanged as long as the linear parts cancel. Functions with a bend on different hyperplanes are independent.
        """
        if self.is_unique:
            return 0
        part, k = self.neurons, self._live
        gated = part.gate_weights is not None and part.gate_biases is not None
        inside = np.column_stack([part.hidden_weights, part.hidden_biases])
        gates = np.column_stack([part.gate_weights, part.gate_biases]) if gated else inside  # type: ignore[list-item]
        gates = gates[k] / np.linalg.norm(gates[k], axis=1, keepdims=True)
        first = gates[np.arange(len(k)), np.argmax(np.abs(gates) > 1e-6, axis=1)]
        front = first > 0
        tree = cKDTree(np.where(front, 1.0, -1.0)[:, None] * gates)
        plane = connected_components(tree.sparse_distance_matrix(tree, ONE_NEURON) != 0, directed=False)[1]
        n_planes, C, d = plane.max() + 1, part.n_outputs, inside.shape[1]
        feeds = inside[k][:, None, :] * part.output_weights.reshape(-1, C)[k][:, :, None]
        # f = linear + bend 1[in front]; behind the hyperplane a neuron that faces backwards is all linear.
        free = self._free.reshape(-1, C, len(self.path_norms))[:, :, k]
        linear = np.where(front[:, None, None], 0.0, feeds)
        bend = np.zeros((n_planes, C, d, len(k)))
        bend[plane, :, :, np.arange(len(k))] = np.where(front[:, None, None], feeds, -feeds)
        whole = np.moveaxis(linear, 0, -1).copy()
        whole[:, -1] += free[-1]
        if self.network.skip_weights is not None:
            whole[:, :-1] += np.moveaxis(free[:-1], 0, 1)
        if C > 1:
            whole, bend = whole - whole.mean(axis=0), bend - bend.mean(axis=1, keepdims=True)
        change = np.vstack([whole.reshape(-1, len(k)), bend.reshape(-1, len(k))])
        return int(np.linalg.matrix_rank(change @ self._null(k), tol=1e-7 * np.linalg.norm(change, axis=0).max()))

    def path_norm_ranges(self) -> NDArray[np.float64]:
        """Least and largest path norm of each neuron over the set, shape (m, 2), by two linear programs each.

        A neuron whose least is positive is in every optimal network, one whose largest is 0 in none.
        """
        low, high = (np.diag(part.reshape(len(part), len(part))) for part in self._corners)
        return np.column_stack([low, high])

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
        size = self.path_norms.sum()
        off = np.linalg.norm(self.equations @ (t - self.path_norms))
        if t.min(initial=0.0) < 0 or off > 1e-8 * size:
            raise ValueError(
                f"path_norms must be a point of the set, got a least entry of {t.min():.3g} and equations that are off "
                f"by {off:.3g}; convex combinations of path norms of optimal networks are in it."
            )
        free = self._free @ (t - self.path_norms)
        k = np.flatnonzero(t > 0)
        root, part = np.sqrt(t[k]), self.neurons.select(k)
        gaps = free.reshape(-1, *np.shape(self.network.output_weights)[1:])
        bias = self.network.output_bias + gaps[-1]
        skip = self.network.skip_weights
        return replace(
            part,
            hidden_weights=part.hidden_weights * root[:, None],
            hidden_biases=part.hidden_biases * root,
            output_weights=(part.output_weights.T * root).T,
            output_bias=bias if part.n_outputs > 1 else float(bias),
            skip_weights=None if skip is None else skip + gaps[:-1],
        )

    def vertex(self, cost: ArrayLike) -> Network:
        """An optimal network of least sum_j cost_j t_j: a vertex of the polytope.

        Its activations on the data, with the columns of intercept and skip connection, are linearly independent: none
        of its neurons can be left out, even if all others may be rescaled. Another vertex may have fewer.

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
        return self.network_of(self._least(cost))

    def largest(self) -> Network:
        """An optimal network of as many neurons as possible, in the relative interior of the set.

        Returns
        -------
        network : Network
            The mean of the vertices at which the neurons have their largest path norms.
        """
        return self.network_of(self._inside)

    def smallest(self, max_time: float = 10.0) -> tuple[Network, int]:
        """An optimal network of as few neurons as possible, by a mixed-integer linear program.

        To find the fewest is NP-hard in general; hundreds of neurons may take longer than the limit.

        Parameters
        ----------
        max_time : float, default=10.0
            Limit in seconds. Without a solution by then the network is a vertex.

        Returns
        -------
        network : Network
        at_least : int
            No optimal network has fewer neurons: the network has the fewest if that is their number.

        Raises
        ------
        ValueError
            When max_time is not a positive number.
        """
        if not (isinstance(max_time, Real) and max_time > 0):
            raise ValueError(f"max_time must be above 0, got {max_time!r}.")
        k, (low, high) = self._live, self.path_norm_ranges().T
        size, needed = self.path_norms.sum(), int(np.count_nonzero(low > DUST * self.path_norms.sum()))
        start = self._least(-self.path_norms)
        if self.is_unique or np.count_nonzero(start) == needed:
            return self.network_of(start), int(np.count_nonzero(start))
        E, most, zero = self.equations[:, k], high[k] / size, np.zeros((len(self.equations), len(k)))
        right = self.equations @ self.path_norms / size
        found = milp(
            np.append(np.zeros(len(k)), np.ones(len(k))),
            integrality=np.append(np.zeros(len(k)), np.ones(len(k))),
            bounds=Bounds(0, np.append(most, np.ones(len(k)))),
            constraints=[
                LinearConstraint(np.hstack([E, zero]), right, right),
                LinearConstraint(np.hstack([np.eye(len(k)), -np.diag(most)]), -np.inf, 0),
            ],
            options=dict(time_limit=float(max_time)),
        )
        bound = getattr(found, "mip_dual_bound", None)
        at_least = max(needed, 1, 0 if bound is None else int(np.ceil(bound - 1e-6)))
        if found.x is not None:
            t = np.zeros_like(start)
            t[k] = np.where(found.x[len(k) :] > 0.5, found.x[: len(k)], 0.0)
            t = self._exact(t * size)
            if self._off(t) <= 1e-10 and np.count_nonzero(t) <= np.count_nonzero(start):
                start = t
        return self.network_of(start), min(at_least, int(np.count_nonzero(start)))

    def best(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Network:
        r"""The optimal network with the lowest loss on other data: a convex problem, solved by a barrier method.

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

        References
        ----------
        .. [1] S. Boyd, L. Vandenberghe, Convex optimization, 2004, section 11.3.
        """
        X = check_data(X)
        y = self.loss.check_target(_coded(y, self._classes, self.network.n_outputs))
        s = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        if y.shape != (len(X),) or s.shape != (len(X),) or not np.isfinite(s).all() or s.min() < 0:
            raise ValueError(
                f"y and sample_weight must have shape ({len(X)},), weights finite and non-negative, got {y.shape} and "
                f"{s.shape}."
            )
        if self.loss.target == "classes" and y.max() >= self.network.n_outputs:
            raise ValueError(f"y must be below {self.network.n_outputs}, the number of outputs, got {y.max()}.")
        if self.is_unique:
            return self.network_of(self.path_norms)
        k, n_outputs = self._live, self.network.n_outputs
        # t = inside + N x, so that predictions are f + M x.
        N, inside = self._null(k), self._inside[k]
        f = self.network_of(self._inside).predict(X)
        M = (self._slopes(X)[:, :, k] @ N).reshape(-1, N.shape[1])
        x, scale = np.zeros(N.shape[1]), max(float(s @ self.loss.value(y, f)), 1e-300)

        def value(x, barrier):
            t = inside + N @ x
            if t.min() <= 0:
                return np.inf
            return s @ self.loss.value(y, f + (M @ x).reshape(f.shape)) - barrier * np.log(t).sum()

        for barrier in scale / len(k) * 0.1 ** np.arange(1, 10):
            for _ in range(100):
                z, t = f + (M @ x).reshape(f.shape), inside + N @ x
                slope = M.T @ (self.loss.gradient(y, z).T * s).T.ravel() - barrier * (N.T @ (1 / t))
                curved = self.loss.hessian(y, z).reshape(len(X), n_outputs, n_outputs) * s[:, None, None]
                bent = (curved @ M.reshape(len(X), n_outputs, -1)).reshape(M.shape)
                hessian = M.T @ bent + barrier * (N.T / t**2) @ N
                step = -np.linalg.lstsq(hessian, slope, rcond=1e-14)[0]
                fall, now, size = -float(slope @ step), value(x, barrier), 1.0
                if fall <= 1e-3 * barrier:
                    break
                while value(x + size * step, barrier) > now - 0.1 * size * fall and size > 1e-10:
                    size *= 0.5
                x = x + size * step * (size > 1e-10)
        t = np.zeros_like(self.path_norms)
        t[k] = inside + N @ x
        # On a face the barrier keeps path norms at about barrier / multiplier.
        return self.network_of(self._exact(t))

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
        shape, slopes = middle.shape, slopes.reshape(-1, len(self.path_norms))
        low, high = middle.ravel().copy(), middle.ravel().copy()
        if not self.is_unique:
            for i, row in enumerate(slopes):
                low[i] += min(row @ (self._least(row) - self.path_norms), 0.0)
                high[i] += max(row @ (self._least(-row) - self.path_norms), 0.0)
        return low.reshape(shape), high.reshape(shape)

    def __str__(self) -> str:
        count = f"{self.n_patterns:,}"
        words = {
            "global": f"All {count} activation patterns were listed: these are all optimal networks.",
            "patterns": f"{count} activation patterns were listed: these are the optima among networks with these.",
            "search": f"A search over all activation patterns ended in {count} cells: there may be more neurons.",
        }
        m, least = len(self._live), np.count_nonzero(self.path_norm_ranges()[:, 0] > DUST * self.path_norms.sum())
        if self.is_unique:
            shape = f"one optimal network, {m} neuron{'' if m == 1 else 's'}"
        else:
            shape = f"a polytope of dimension {self.dimension}: {m} neurons can be active, {least} always are"
        return f"objective {self.objective:.6g} (relative gap {self.relative_gap:.1e}): {shape}. {words[self.scope]}"

    @cached_property
    def _inside(self) -> NDArray[np.float64]:
        if self.is_unique:
            return self.path_norms
        return self._corners[1][self._live].mean(axis=0)

    def _rank(self, k: NDArray) -> int:
        return int(np.linalg.matrix_rank(self.equations[:, k], tol=DEPENDENT)) if len(k) else 0

    def _null(self, k: NDArray) -> NDArray:
        """Orthonormal basis of the directions in which the live neurons' path norms can move, shape (n_live, dim)."""
        return np.linalg.svd(self.equations[:, k], full_matrices=True)[2][self._rank(k) :].T

    def _slopes(self, X: NDArray) -> NDArray:
        """Change of the predictions with each path norm, intercept and skip weights included: (n, n_outputs, m)."""
        C, m = self.network.n_outputs, len(self.path_norms)
        slopes = self.neurons.hidden(X)[:, None, :] * self.neurons.output_weights.reshape(m, C).T
        free = self._free.reshape(-1, C, m)
        slopes = slopes + free[-1]
        return slopes if self.network.skip_weights is None else slopes + np.tensordot(X, free[:-1], 1)

    def _off(self, t: NDArray) -> float:
        """Distance from the equations, relative to the sum of path norms."""
        return float(np.linalg.norm(self.equations @ (t - self.path_norms)) / (self.path_norms.sum() or 1.0))

    def _least(self, cost: NDArray) -> NDArray:
        """A vertex that minimises cost @ t."""
        size = self.path_norms.sum()
        if not size or not len(cost):
            return self.path_norms
        right, scale = self.equations @ self.path_norms / size, np.abs(cost).max() or 1.0
        accurate = dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10)
        found = linprog(cost / scale, A_eq=self.equations, b_eq=right, method="highs-ds", options=accurate)
        if found.x is None:
            raise RuntimeError(f"the linear program over the optimal set failed: {found.message}")
        return self._exact(found.x * size)

    def _exact(self, t: NDArray) -> NDArray:
        """Dust dropped, and the equations met to rounding by the least change of the other path norms."""
        size = self.path_norms.sum()
        for share in (DUST, 1e-12):
            k = np.flatnonzero(t > share * size)
            exact = np.zeros_like(t)
            exact[k] = t[k] + np.linalg.lstsq(self.equations[:, k], self.equations @ (self.path_norms - t), rcond=DEPENDENT)[0]
            exact[k] += np.linalg.lstsq(self.equations[:, k], self.equations @ (self.path_norms - exact), rcond=DEPENDENT)[0]
            exact = np.where(exact > 1e-14 * size, exact, 0.0)
            if self._off(exact) <= 1e-11:
                break
        return exact



@threadpool_limits.wrap(limits=1, user_api="blas")
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
    fit_intercept = True if fit_intercept is None else fit_intercept
    if not (isinstance(alpha, Real) and np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be given, finite and above 0, unless the model has it; got {alpha!r}.")
    if not (isinstance(tol, Real) and 0 < tol < 0.1 and isinstance(max_gap, Real) and max_gap > 0):
        raise ValueError(f"tol must lie between 0 and 0.1, max_gap be above 0, got {tol!r} and {max_gap!r}.")
    several = network.n_outputs > 1 or classes is not None
    loss = get_loss(("log_loss" if several else "squared") if loss is None else loss, network.n_outputs)
    fed = network.output_weights.reshape(network.n_neurons, -1) != 0
    if (fed.sum(axis=1) > 1).any():
        raise ValueError("model must have neurons that feed one output each, got one that feeds several.")
    if network.gate_weights is not None and hidden_bias == "free":
        raise ValueError("hidden_bias must be 'penalized' or 'none' for a gated network, got 'free'.")
    y = _coded(y, classes, network.n_outputs)
    settings = float(alpha), loss, sample_weight, fit_intercept, hidden_bias
    X, rows, problem = bare_problem(network, X, y, *settings)
    if not problem.smooth:
        raise ValueError(
            f"loss={loss.name!r} has kinks: neither predictions nor theta need be unique; take a smooth loss."
        )
    gated = network.gate_weights is not None
    listed, scope = _listed(model, network, rows, hidden_bias, patterns)
    kind = problem, hidden_bias, gated
    blocks = _blocks_of(network, rows, hidden_bias, listed)
    blocks, found, n_patterns = _solve(*kind, blocks, listed, np.random.default_rng(random_state))
    blocks, theta = _refined(*kind, blocks)
    # Whatever listed cells or the last search hold, at the refined theta.
    found = _highest(*kind, theta, found, 1 - tol) if listed is None else _from_list(*kind, theta, listed, 1 - tol)
    highest = _norms(problem, hidden_bias, found.V).max(initial=0.0)
    bound = problem.dual_value(problem.dual_bound(theta)[1] * min(1.0, alpha / max(highest, 1e-300)))
    cells, t, pairs = _distinct(*kind, blocks, found)
    neurons = _network_of(network, *kind, cells, listed)
    shape = len(X), network.n_outputs, len(t)
    phi = neurons.hidden(X)[:, None, :] * neurons.output_weights.reshape(-1, network.n_outputs).T
    phi = phi.reshape(shape)
    free, weights = _free_terms(problem, phi)
    prices = np.einsum("noj,no->j", phi, theta.reshape(shape[:2])) / alpha
    keep = np.flatnonzero((prices >= 1 - tol) | (t > 0))
    moved = phi + free
    if network.n_outputs > 1:
        # The loss sees differences of the outputs only.
        moved = moved - moved.mean(axis=1, keepdims=True)
    A = moved.reshape(-1, len(t))[:, keep]
    A = np.vstack([A, np.full((1, len(keep)), np.linalg.norm(A, axis=0).max(initial=0.0))])
    _, singular, axes = np.linalg.svd(A, full_matrices=False)
    equations = axes[singular > DEPENDENT * singular.max(initial=0.0)]
    t, neurons, weights = t[keep], neurons.select(keep), weights[:, keep]
    z = (phi[:, :, keep] @ t).reshape(theta.shape)
    skip, bias = problem.free_weights(problem.best_intercept(z))
    if problem.skip is None and not fit_intercept:
        bias = 0.0 * network.output_bias
    start = replace(neurons.select(slice(0, 0)), output_bias=bias, skip_weights=skip)
    optima = OptimalSet(
        start, neurons, t, prices[keep], equations, theta, 0.0, 0.0, 0.0, scope, n_patterns, float(alpha), loss,
        classes, weights,
    )
    grade = problem.y, float(alpha), loss, problem.sample_weight
    refined = optima.network_of(t)
    objective = refined.objective(X, *grade)
    gap, given = relative_gap(objective, bound), network.objective(X, *grade)
    given_gap = relative_gap(given, objective)
    if given_gap > max_gap:
        raise ValueError(
            f"model must be optimal: its objective is {given:.8g}, and {objective:.8g} was reached, a relative gap of "
            f"{given_gap:.2g}, more than max_gap={max_gap:g}; fit with a smaller tol, check alpha, loss and "
            "sample_weight, or take a network that was fitted on these patterns."
        )
    if gap > NOT_SOLVED and objective > problem.negligible:
        raise ValueError(
            f"the optimum was found to a relative gap of {gap:.1e} only, where {NOT_SOLVED:g} is needed to tell which "
            "neurons are optimal; standardise the features, or take a larger alpha."
        )
    bent = loss.hessian(problem.y, z + problem.best_intercept(z)).reshape(len(X), -1)
    flat = int(np.count_nonzero(bent.max(axis=1) <= 0))
    if flat:
        raise ValueError(
            f"loss={loss.name!r} is flat or straight at the predictions of {flat} of {len(X)} samples, which are "
            "therefore not unique; the optimal set is no polytope of path norms with fixed predictions."
        )
    optima = replace(optima, network=refined, objective=objective, relative_gap=gap, given_gap=given_gap)
    live = np.isin(pairs, keep[optima._live]).all(axis=1)
    if live.any():
        raise ValueError(
            f"hidden_bias='free' leaves the bias of {live.sum()} neurons free to move between samples without a change "
            "of the objective: the optimal networks are no polytope; take hidden_bias='penalized'."
        )
    return replace(optima, **_nearest(optima, _blocks_of(network, rows, hidden_bias, listed), cells.take(keep), *kind))


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


def _listed(model, network, rows, hidden_bias, patterns) -> tuple[Arrangement | None, str]:
    """The patterns to list, None for a search, and the scope of the set."""
    certificate, gated = getattr(model, "certificate_", None), network.gate_weights is not None
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
    elif certificate is not None and (model.arrangement_.complete or certificate.scope == "patterns") and (
        certificate.n_searched == 0
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
            f"{'' if hidden_bias == 'none' else ' and a ones column'}, got one of other data."
        )
    X = rows if hidden_bias == "none" else rows[:, :-1]
    unlisted = np.arange(network.n_neurons)
    if not gated and listed.n_patterns:
        unlisted = np.flatnonzero(find_patterns(network, rows, listed.patterns.T, hidden_bias) < 0)
    if len(unlisted):
        # A network's own gates stay what they are.
        listed = patterns_of(network.select(unlisted), X, hidden_bias=hidden_bias).union(listed)
    return listed, "global" if listed.complete else "patterns"


def _blocks_of(network, rows, hidden_bias, listed) -> Blocks:
    """The blocks of a network's neurons, in listed cells if there is a list."""
    if listed is None:
        return blocks_of(network, rows, hidden_bias)
    W = network.hidden_weights
    if hidden_bias != "none":
        W = np.column_stack([W, network.hidden_biases])
    amounts = network.output_weights.reshape(network.n_neurons, network.n_outputs)
    neuron, output = np.nonzero(amounts)
    a = amounts[neuron, output]
    patterns = listed.patterns.T[find_patterns(network, rows, listed.patterns.T, hidden_bias)[neuron]]
    sign = np.sign(a) if network.gate_weights is None else np.ones(len(a))
    blocks = Blocks(patterns, sign, output, (sign * a)[:, None] * W[neuron])
    return blocks.join(blocks.take(np.zeros(0, dtype=int)))


def _norms(problem, hidden_bias, V) -> NDArray:
    """Norms of vectors in the penalty."""
    return sparse_norms(V[:, : V.shape[1] - (hidden_bias == "free")], problem.penalty.feature_penalty)


def _highest(problem, hidden_bias, gated, theta, cells: Blocks, share: float) -> Blocks:
    """Of each cell the vector of highest price, with the price as norm; only prices above that share of alpha."""
    X, floor, mu = problem.design.X, share * problem.alpha, problem.penalty.feature_penalty
    t = cells.sign * theta.reshape(len(X), -1)[:, cells.output]
    G, k = np.zeros((len(cells.sign), X.shape[1])), np.arange(len(cells.sign))
    size = max(1, 4_000_000 // len(X))
    for part in (k[i : i + size] for i in range(0, len(k), size)):
        G[part] = (cells.patterns[part] * t[:, part].T) @ X
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    rows, V = X / np.where(lengths > 0, lengths, 1.0), G
    if gated and mu is not None:
        V = support(G, mu, np.zeros((1, X.shape[1])), np.zeros((len(G), 1), dtype=bool), floor=floor)[0]
    elif not gated and mu is not None:
        V = support(G, mu, rows, cells.patterns, floor=floor)[0]
    elif hidden_bias == "free":
        V = FreeBiasConeGroupLasso(X, cells.patterns, k).maximisers(G)
    elif not gated:
        V = project_onto_cones(G, rows, cells.patterns, floor=floor)[0]
    if mu is not None:
        # As long as the price, where norms are wanted that are the price.
        V = V * (np.linalg.norm(V, axis=1) / np.maximum(sparse_norms(V, mu), 1e-300))[:, None]
    prices = _norms(problem, hidden_bias, V)
    return replace(cells, V=V).take(np.flatnonzero(prices > max(floor, 1e-12 * problem.alpha)))


def _from_list(problem, hidden_bias, gated, theta, listed: Arrangement, share: float) -> Blocks:
    """The same for all listed patterns, signs and outputs."""
    patterns, parts = listed.patterns.T, []
    for output in range(problem.design.n_outputs):
        for sign in (1.0,) if gated else (1.0, -1.0):
            size = len(patterns)
            V = np.zeros((size, problem.design.X.shape[1]))
            cells = Blocks(patterns, np.full(size, sign), np.full(size, output), V)
            parts.append(_highest(problem, hidden_bias, gated, theta, cells, share))
    return Blocks(*(np.concatenate(part) for part in zip(*(vars(part).values() for part in parts))))


def _solve(problem, hidden_bias, gated, blocks: Blocks, listed, rng) -> tuple[Blocks, Blocks, int]:
    """Column generation from given blocks: the solution, the last cells found, and how many were looked at."""
    X, alpha = problem.design.X, problem.alpha
    activation = ACTIVATIONS["gated_relu" if gated else "relu"]()
    for _ in range(100):
        k = np.arange(len(blocks.sign))
        design = Design(X, blocks.patterns, k, blocks.sign, blocks.output, problem.design.n_outputs)
        penalty = activation.penalty(X, blocks.patterns, k, hidden_bias, problem.penalty.feature_penalty)
        program = replace(problem, design=design, penalty=penalty)
        V = Newton(tol=ACCURACY).solve(program, blocks.V).coef if len(k) else blocks.V
        z = design @ V
        theta = -problem.gradient(z + problem.best_intercept(z))
        blocks = replace(blocks, V=V)
        if listed is None:
            neurons = blocks.take(V.any(axis=1))
            dual = 2 * neurons.output + (neurons.sign < 0)
            known = Peaks(neurons.patterns, neurons.V, np.full(neurons.V.shape, -1), dual)
            mu = problem.penalty.feature_penalty
            peaks = find(X, signed(theta), known, hidden_bias, (*EFFORT, rng), feature_penalty=mu)[0]
            output, negative = np.divmod(np.concatenate([peaks.dual, dual]), 2)
            patterns = np.concatenate([peaks.patterns, neurons.patterns])
            cells = Blocks(patterns, 1.0 - 2.0 * negative, output, np.zeros((len(output), X.shape[1])))
            n_patterns = len(peaks.patterns)
            found = _highest(problem, hidden_bias, gated, theta, cells.join(cells.take(k[:0])), 0.9)
        else:
            found, n_patterns = _from_list(problem, hidden_bias, gated, theta, listed, 0.9), listed.n_patterns
        prices = _norms(problem, hidden_bias, found.V)
        order = np.argsort(-prices, kind="stable")
        order = order[prices[order] > alpha * (1 + ROUNDING)]
        before = len(blocks.sign)
        for output in range(problem.design.n_outputs):
            for sign in (1.0, -1.0):
                own = order[(found.output[order] == output) & (found.sign[order] == sign)]
                far = spread(found.V[own] / prices[own, None], MAX_NEW_CELLS, SPREAD) if len(own) else []
                blocks = blocks.join(found.take(own[far]).weightless())
        if len(blocks.sign) == before:
            break
    return blocks, found, n_patterns


def _refined(problem, hidden_bias, gated, blocks: Blocks) -> tuple[Blocks, NDArray]:
    """Newton's method on the smooth problem over the faces that the blocks lie in, and theta there.

    On its face a non-zero block is free, and the norm is smooth; steps of least length where several blocks do the
    same.
    """
    X, n_outputs, mu = problem.design.X, problem.design.n_outputs, problem.penalty.feature_penalty
    norms = _norms(problem, hidden_bias, blocks.V)
    blocks = blocks.take(norms > 10 * DUST * norms.sum())
    if not gated:
        blocks = blocks.merged()
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    free = np.kron(problem.free, np.eye(n_outputs))
    faces, columns = [], [np.zeros((free.shape[0], 0))]
    for pattern, sign, output, v in zip(*vars(blocks).values()):
        linear = hidden_bias == "free" and pattern.all()
        on = (np.abs(unit @ v) <= ON_FACE * np.linalg.norm(v)) & (not gated and not linear)
        zero = np.abs(v) <= ON_FACE * np.linalg.norm(v) * (np.zeros(len(v)) if mu is None else mu > 0)
        zero[-1] |= linear
        normals = np.vstack([unit[on], np.eye(len(v))[zero]])
        _, singular, axes = np.linalg.svd(normals, full_matrices=True)
        faces.append(axes[np.count_nonzero(singular > 1e-9) :].T)
        feeds = np.zeros((len(X), n_outputs, faces[-1].shape[1]))
        feeds[:, output] = sign * (pattern[:, None] * X) @ faces[-1]
        columns.append(feeds.reshape(-1, faces[-1].shape[1]))
    B = np.hstack([*columns, free])
    cuts = np.cumsum([0, *(face.shape[1] for face in faces)])
    start = problem.best_intercept(Design(X, blocks.patterns, np.arange(len(faces)), blocks.sign, blocks.output, n_outputs) @ blocks.V)
    start = np.broadcast_to(start, problem.null_model[1].shape).reshape(len(X), n_outputs)
    x = np.concatenate([*(face.T @ v for face, v in zip(faces, blocks.V)), (problem.free.T @ start / len(X)).ravel()])
    counts = np.ones(X.shape[1])
    counts[-1:] = hidden_bias != "free"
    shape, best = problem.null_model[1].shape, (np.inf, x, problem.null_model[1])
    for _ in range(30):
        z = (B @ x).reshape(shape)
        theta = -problem.gradient(z)
        slope = -B.T @ theta.ravel()
        curved = problem.loss.hessian(problem.y, z).reshape(len(X), n_outputs, n_outputs)
        curved = curved * problem.sample_weight[:, None, None]
        hessian = B.T @ (curved @ B.reshape(len(X), n_outputs, -1)).reshape(B.shape)
        for face, low, high in zip(faces, cuts, cuts[1:]):
            v = face @ x[low:high]
            length = np.linalg.norm(counts * v)
            toward = face.T @ (counts * v) / length
            charge = 0.0 if mu is None else face.T @ (mu * np.sign(v))
            slope[low:high] += problem.alpha * (toward + charge)
            hessian[low:high, low:high] += (
                problem.alpha / length * ((face.T * counts) @ face - np.outer(toward, toward))
            )
        left = float(np.linalg.norm(slope))
        if left >= best[0]:
            break
        best = left, x, theta
        root = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
        step = np.linalg.lstsq(hessian / np.outer(root, root), slope / root, rcond=1e-13)[0] / root
        x = x - step
    _, x, theta = best
    V = np.array([face @ x[low:high] for face, low, high in zip(faces, cuts, cuts[1:])]).reshape(-1, X.shape[1])
    return replace(blocks, V=V), theta


def _distinct(problem, hidden_bias, gated, blocks: Blocks, found: Blocks) -> tuple[Blocks, NDArray, NDArray]:
    """Neurons of norm 1, each once although it may lie on walls of several cells, and the path norms of the blocks.

    Free biases: also pairs of neurons that differ by a bias from one end of a cell to the other, (n_pairs, 2), with the
    same neuron twice where that has no end.
    """
    X, ends = problem.design.X, [replace(found, V=found.V / _norms(problem, hidden_bias, found.V)[:, None])]
    if hidden_bias == "free":
        W = ends[0].V[:, :-1]
        low = np.max(-X[:, :-1] @ W.T, axis=0, where=found.patterns.T, initial=-np.inf)
        high = np.min(-X[:, :-1] @ W.T, axis=0, where=~found.patterns.T, initial=np.inf)
        high = np.where(np.isinf(high), low, high)
        ends = [replace(found, V=np.column_stack([W, bias])) for bias in (low, high)]
        linear = blocks.patterns.all(axis=1)
        blocks.V[linear, -1] = -(X[:, :-1] @ blocks.V[linear, :-1].T).min(axis=0)
    ends.append(replace(blocks, V=blocks.V / _norms(problem, hidden_bias, blocks.V)[:, None]))
    every = Blocks(*(np.concatenate(part) for part in zip(*(vars(part).values() for part in ends))))
    place = [every.V, every.sign[:, None], every.output[:, None]]
    if gated:
        place.append(np.unique(np.packbits(every.patterns, axis=1), axis=0, return_inverse=True)[1].reshape(-1, 1))
    pairs = cKDTree(np.hstack(place)).query_pairs(ONE_NEURON, output_type="ndarray") if len(every.V) else np.zeros((0, 2))
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(every.V), len(every.V)))
    group = connected_components(graph, directed=False)[1] if len(every.V) else np.zeros(0, dtype=int)
    norms = np.zeros(len(every.V))
    norms[len(norms) - len(blocks.V) :] = _norms(problem, hidden_bias, blocks.V)
    pairs = group[: (len(ends) - 1) * len(found.V)].reshape(len(ends) - 1, -1).T[:, [0, -1]]
    same = pairs[:, 0] == pairs[:, 1]
    pairs = pairs[~same | found.patterns.all(axis=1)] if hidden_bias == "free" else pairs[:0]
    return every.take(np.unique(group, return_index=True)[1]), np.bincount(group, norms), pairs


def _network_of(network, problem, hidden_bias, gated, cells: Blocks, listed) -> Network:
    """Neurons of path norm 1."""
    m, d = len(cells.sign), network.hidden_weights.shape[1]
    output_weights = np.zeros((m, problem.design.n_outputs))
    output_weights[np.arange(m), cells.output] = cells.sign
    gates = {}
    if gated:
        index = {row.tobytes(): k for k, row in enumerate(listed.packed)}
        k = [index[row.tobytes()] for row in np.packbits(cells.patterns, axis=1)]
        gate = np.pad(listed.gates[:, k].T.reshape(m, -1), ((0, 0), (0, int(hidden_bias == "none"))))
        gates = dict(gate_weights=gate[:, :d], gate_biases=gate[:, d])
    return replace(
        network,
        hidden_weights=cells.V[:, :d],
        hidden_biases=np.zeros(m) if hidden_bias == "none" else cells.V[:, d],
        output_weights=output_weights.reshape(m, *network.output_weights.shape[1:]),
        **gates,
    )


def _free_terms(problem, phi: NDArray) -> tuple[NDArray, NDArray]:
    """What intercept and skip connection add to keep predictions where they are, for a unit of each path norm: on the
    data (n_samples, n_outputs, m), and as weights, those of the features first, then the bias, (..., m)."""
    n, n_outputs, m = phi.shape
    shift = -np.tensordot(problem.free, np.tensordot(problem.free.T, phi, 1), 1) / n
    if problem.skip is None:
        return shift, shift[0] if problem.fit_intercept else np.zeros((n_outputs, m))
    weights = np.zeros((problem.skip.shape[1] + 1, n_outputs, m))
    for j in range(m):
        skip, bias = problem.free_weights(shift[:, :, j].reshape(problem.null_model[1].shape))
        weights[:-1, :, j], weights[-1, :, j] = np.reshape(skip, (-1, n_outputs)), bias
    return shift, weights.reshape(-1, m)


def _nearest(optima: OptimalSet, given: Blocks, cells: Blocks, problem, hidden_bias, gated) -> dict:
    """The point of the set next to the path norms of the given network."""
    norms = _norms(problem, hidden_bias, given.V)
    t, size = np.zeros_like(optima.path_norms), optima.path_norms.sum()
    for k in np.flatnonzero(norms):
        same = (cells.sign == given.sign[k]) & (cells.output == given.output[k])
        if gated:
            same &= (cells.patterns == given.patterns[k]).all(axis=1)
        own = np.flatnonzero(same)
        if len(own):
            t[own[np.argmin(np.linalg.norm(cells.V[own] - given.V[k] / norms[k], axis=1))]] += norms[k]
    if not size:
        return {}
    heavy = 1e4
    system = np.vstack([heavy * optima.equations, np.eye(len(t))])
    near = nnls(system, np.append(heavy * optima.equations @ optima.path_norms, t), maxiter=100 * len(t))[0]
    near = optima._exact(near)
    return dict(path_norms=near, network=optima.network_of(near)) if optima._off(near) <= 1e-10 else {}
