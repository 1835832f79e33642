"""The referee: every figure but the seconds, in float64, from the weights and dual points that a method returns.

It shares no code with convexnn, whose answers it judges like all others, and knows networks as arrays only.

Restricted program, over listed patterns D_k with signs e_k, cones K_k for ReLU:

    P(V) = sum_i (y_i - sum_k e_k D_k X v_k)_i^2 / 2 + alpha sum_k |v_k|

Program (N), over networks f(x) = sum_j (w_j^T x + b_j)_+ a_j + c:

    N = sum_i l(y_i, f(x_i)) + alpha / 2 sum_j (|w_j|^2 + b_j^2 + a_j^2)

Lower bounds are dual values -L*(-theta), theta scaled until no price |theta^T (X u)_+|, |u| <= 1, exceeds alpha: exact
prices of listed patterns, for (N) an upper bound of them by branch and bound over cones of directions.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from scipy.optimize import nnls
from scipy.special import entr, expit

#: A block or neuron below this share of the longest is dust: it does not count as a neuron, nor for cone violations.
DUST = 1e-6
#: Ranks up to which directions are split into cones: the first split makes 2^rank of them.
MAX_RANK = 10


class Program:
    """The restricted program, squared loss, no intercept, and the judgement of whatever a method returns for it.

    Parameters
    ----------
    X, y : arrays of shape (n_samples, n_features), (n_samples,)
        Data and targets.
    n_gates : int
        Random gates to draw, with seed 0.
    cones : bool
        ReLU (two signs, weights kept in the cones of their patterns), or gated ReLU.
    alpha : float, optional
        Weight decay.
    share : float, optional
        alpha as a share of the smallest for which all weights are zero, in place of ``alpha``.

    Attributes
    ----------
    gates, D : arrays of shape (n_features, n_patterns), (n_samples, n_patterns)
        Gates of the different non-empty patterns, and these patterns as 0 and 1, in the order of ``numpy.unique``
        (pyscnn's own order).
    signs, pattern : arrays of shape (n_blocks,)
        e_k and the column of D of each block: positive signs first.
    bound : float
        The best lower bound so far, of any method's dual point.
    """

    def __init__(self, X, y, n_gates, cones, alpha=None, share=None):
        self.X, self.y, self.cones = X, y, cones
        gates = np.random.default_rng(0).standard_normal((n_gates, X.shape[1])).T
        D, first = np.unique((X @ gates > 0).astype(float), axis=1, return_index=True)
        first, D = first[D.any(axis=0)], D[:, D.any(axis=0)]
        self.gates, self.D = gates[:, first], D
        self.signs = np.repeat([1.0, -1.0], D.shape[1]) if cones else np.ones(D.shape[1])
        self.pattern = np.tile(np.arange(D.shape[1]), 2 if cones else 1)
        self.sides = np.where(D > 0, 1.0, -1.0)
        self.unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
        self.bound = 0.0
        self.alpha = alpha if alpha is not None else share * self.price(y, 0.0)

    def residual(self, V, relu=False):
        """Targets minus predictions; with relu, those of the ReLU network whose neurons have the weights V."""
        before = self.X @ V.T
        after = np.maximum(before, 0) if relu else before * self.D[:, self.pattern]
        return self.y - after @ self.signs

    def objective(self, V, relu=False):
        """P(V); with relu, the value of (N) for the ReLU network of these weights."""
        return 0.5 * np.sum(self.residual(V, relu) ** 2) + self.alpha * np.linalg.norm(V, axis=1).sum()

    def violation(self, V):
        """Largest distance of a block to the wrong side of a row's hyperplane, per unit of the block's norm."""
        lengths = np.linalg.norm(V, axis=1)
        keep = lengths > DUST * lengths.max(initial=0.0)
        if not keep.any():
            return 0.0
        side = (self.unit @ (V[keep] / lengths[keep, None]).T) * self.sides[:, self.pattern[keep]]
        return max(0.0, -float(side.min()))

    def price(self, theta, floor):
        """The larger of ``floor`` and the largest norm of a projection P_k(A_k^T theta)."""
        G = self.signs[:, None] * (self.D[:, self.pattern].T @ (theta[:, None] * self.X))
        price, lengths = floor, np.linalg.norm(G, axis=1)
        for k in np.argsort(-lengths):
            if lengths[k] <= price:
                break
            # Moreau: the projection onto the cone is g plus the nearest point of the cone of the inward normals to -g.
            normals = (self.unit * self.sides[:, [self.pattern[k]]]).T
            price = max(price, lengths[k] if not self.cones else nnls(normals, -G[k], maxiter=10_000)[1])
        return price

    def lower_bound(self, theta):
        """Dual value of theta, scaled until no block's price is above alpha; kept when it is the best."""
        theta = theta * (self.alpha / self.price(theta, self.alpha))
        value = float(self.y @ theta - 0.5 * theta @ theta)
        self.bound = max(self.bound, value)
        return value

    def judge(self, coef=None, theta=None):
        """Columns of a row: objective, value as a ReLU net, cone violation, neurons, bound by the method's own theta.

        Without theta it is the residual of the coefficients.
        """
        if coef is None:
            return {}
        lengths = np.linalg.norm(coef, axis=1)
        found = {"objective": self.objective(coef), "neurons": int(np.sum(lengths > DUST * lengths.max(initial=0.0)))}
        found["bound"] = self.lower_bound(self.residual(coef) if theta is None else theta)
        if self.cones:
            found |= {"as ReLU net": self.objective(coef, relu=True), "cone violation": self.violation(coef)}
        return found


def squared(y, z):
    """Sum of (y - z)^2 / 2, and its gradient in z."""
    return 0.5 * float((y - z) @ (y - z)), z - y


def log_loss(y, z):
    """Sum of log(1 + exp(-y z)) with y = -1 or 1, and its gradient in z."""
    return float(np.logaddexp(0.0, -y * z).sum()), -y * expit(-y * z)


LOSSES = {"squared": squared, "log_loss": log_loss}


class Training:
    """Program (N) on one data set, and the judgement of networks, which are tuples of arrays (W, b, a, c).

    Parameters
    ----------
    X, y : arrays of shape (n_samples, n_features), (n_samples,)
        Training data, without a ones column; -1 and 1 for the log loss.
    loss : {"squared", "log_loss"}
        Loss of a sample.
    alpha : float
        Weight decay.
    intercept : bool, default=True
        Whether the output bias c is free; without it c must be 0.
    test : tuple (X, y), optional
        Test data.
    """

    def __init__(self, X, y, loss, alpha, intercept=True, test=None):
        self.X, self.y, self.loss, self.alpha, self.intercept, self.test = X, y, loss, alpha, intercept, test

    def predictions(self, network, X=None):
        """f at each row."""
        W, b, a, c = network
        return np.maximum((self.X if X is None else X) @ W.T + b, 0.0) @ a + float(c)

    def objective(self, network):
        """(N)."""
        W, b, a, c = network
        if not self.intercept and float(c) != 0.0:
            raise ValueError(f"the output bias must be 0 without intercept, got {float(c)}.")
        decay = 0.5 * self.alpha * float(np.sum(W * W) + b @ b + a @ a)
        return LOSSES[self.loss](self.y, self.predictions(network))[0] + decay

    def theta(self, network):
        """Minus the gradient of the loss at the network's predictions."""
        return -LOSSES[self.loss](self.y, self.predictions(network))[1]

    def judge(self, network):
        """Columns of a row: objective, neurons, mean loss and (two classes) share of errors on the test data."""
        W, b, a, _ = network
        strength = np.sqrt(np.sum(W * W, axis=1) + b * b) * np.abs(a)
        found = {"objective": self.objective(network)}
        found["neurons"] = int(np.sum(strength > DUST * strength.max(initial=0.0)))
        if self.test is not None:
            z = self.predictions(network, self.test[0])
            found["test loss"] = LOSSES[self.loss](self.test[1], z)[0] / len(z)
            if set(np.unique(self.y)) <= {-1.0, 1.0}:
                found["test error"] = float(np.mean(np.where(z >= 0, 1.0, -1.0) != self.test[1]))
        return found

    def feasible(self, theta):
        """theta, changed as little as it takes to lie in the domain of the conjugate, orthogonal to the output bias."""
        if self.loss == "squared":
            return theta - theta.mean() if self.intercept else theta
        theta = self.y * np.clip(self.y * theta, 0.0, 1.0)
        up, down = theta[theta > 0].sum(), -theta[theta < 0].sum()
        if not self.intercept:
            return theta
        less = min(up, down)
        return np.where(theta > 0, theta * (less / max(up, 1e-300)), theta * (less / max(down, 1e-300)))

    def lower_bound(self, theta, max_time=5.0, accuracy=1e-4):
        """Dual value of theta, scaled by an upper bound of its prices: no network of any width has a lower objective.

        Parameters
        ----------
        theta : array of shape (n_samples,)
            A dual point, feasible or not.
        max_time, accuracy : float
            Limits for ``price_bound`` of both signs together.

        Returns
        -------
        bound : float
        """
        theta, lifted = self.feasible(theta), np.column_stack([self.X, np.ones(len(self.X))])
        price = max(price_bound(lifted, sign * theta, max_time / 2, accuracy) for sign in (1, -1))
        theta = theta * min(1.0, self.alpha / max(price, 1e-300))
        if self.loss == "squared":
            return float(self.y @ theta - 0.5 * theta @ theta)
        s = np.clip(self.y * theta, 0.0, 1.0)
        return float(np.sum(entr(s) + entr(1 - s)))


def price_bound(X, t, max_time=5.0, accuracy=1e-4, batch=256):
    """Upper bound of max over |u| <= 1 of t^T (X u)_+, by branch and bound over simplicial cones of directions.

    With p and q the sums over rows of positive and of negative t, p(u) - q(u) is bounded on the cone of generators g_k
    by sum_k lam_k c_k, c_k = p(g_k) - s^T g_k, where u = sum_k lam_k g_k, lam >= 0 and s is a subgradient of q. Any w
    with g_k^T w >= c_k for all k then bounds it by |w|.

    Parameters
    ----------
    X : array of shape (n_samples, d)
        The data with their ones column.
    t : array of shape (n_samples,)
        A dual point.
    max_time, accuracy : float
        Stop after so many seconds, or when the bound is that close (relative) to a price that was found.
    batch : int
        Cones split at a time.

    Returns
    -------
    bound : float
        Where the rank of X is above MAX_RANK, or time ends, it may be far above the largest price.
    """
    keep = t != 0
    if not keep.any():
        return 0.0
    _, size, basis = np.linalg.svd(X[keep], full_matrices=False)
    X, t = X[keep] @ basis[size > 1e-10 * size[0]].T, t[keep]
    up = t > 0
    # (z)_+ = (z + |z|) / 2, negative rows dropped, and Cauchy-Schwarz for the sum of |x_i^T u|.
    P, weights = X[up], t[up]
    moment = np.linalg.eigvalsh((P * weights[:, None]).T @ P)[-1] if up.any() else 0.0
    best = 0.5 * (np.linalg.norm(weights @ P) + np.sqrt(max(weights.sum() * moment, 0.0)))
    rank = X.shape[1]
    if rank > MAX_RANK or not up.any():
        return float(best) * (1 + 1e-9)

    def price(U):
        return np.maximum(U @ X.T, 0.0) @ t

    def bounds(cones):
        inner = cones.reshape(-1, rank)
        convex = (np.maximum(inner @ P.T, 0.0) @ weights).reshape(cones.shape[:2])
        on = (cones.sum(axis=1) @ X[~up].T > 0).astype(float)
        slope = on @ (-t[~up, None] * X[~up])
        c = convex - np.einsum("mkr,mr->mk", cones, slope)
        found = np.linalg.norm(np.linalg.solve(cones, c[:, :, None])[:, :, 0], axis=1)
        for m in np.flatnonzero((c.max(axis=1) > 0) & (found > lowest)):
            # The shortest w with g_k^T w >= c_k, by Lawson and Hanson's reduction to non-negative least squares.
            system = np.vstack([cones[m].T, c[m] / np.abs(c[m]).max()])
            residual = system @ nnls(system, target)[0] - target
            w = -np.abs(c[m]).max() * residual[:-1] / min(residual[-1], -1e-300)
            lack = np.max(c[m] - cones[m] @ w)
            if lack <= 1e-10 * np.abs(c[m]).max():
                found[m] = min(found[m], np.linalg.norm(w) * (1 + 1e-9))
        return np.where(c.max(axis=1) <= 0, 0.0, found)

    corners = np.array(np.meshgrid(*[[1.0, -1.0]] * rank)).reshape(rank, -1).T
    cones = corners[:, :, None] * np.eye(rank)
    target, begin, done = np.eye(rank + 1)[-1], perf_counter(), 0.0
    lowest = max(0.0, float(price(cones.reshape(-1, rank)).max()))
    value = bounds(cones)
    while True:
        open_ = value > lowest * (1 + accuracy)
        done = max(done, float(value[~open_].max(initial=0.0)))
        cones, value = cones[open_], value[open_]
        if not len(cones) or perf_counter() - begin > max_time:
            break
        order = np.argpartition(-value, min(batch, len(value) - 1))
        first, rest = order[:batch], order[batch:]
        chosen = cones[first]
        gram = np.einsum("mkr,mlr->mkl", chosen, chosen)
        k, other = np.unravel_index(gram.reshape(len(first), -1).argmin(axis=1), (rank, rank))
        each = np.arange(len(first))
        middle = chosen[each, k] + chosen[each, other]
        middle /= np.linalg.norm(middle, axis=1, keepdims=True)
        lowest = max(lowest, float(price(middle).max()))
        halves = np.concatenate([chosen, chosen])
        halves[each, k] = middle
        halves[len(first) + each, other] = middle
        # A part of a cone is bounded by the whole as well.
        part = np.minimum(bounds(halves), np.tile(value[first], 2))
        cones, value = np.concatenate([cones[rest], halves]), np.concatenate([value[rest], part])
    return float(min(best, max(done, value.max(initial=0.0), lowest))) * (1 + 1e-9)
