"""Pricing from above with a feature penalty mu: branch and bound on rows that charge for each feature.

A price h(u) is at most M (|u| + sum_j mu_j |u_j|) if h(u) - M sum_j mu_j |u_j| is at most M |u|, and that is a price
again: of the data and of two more rows for each feature, e_j and -e_j, with the dual variable -M mu_j.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.branching import Tree, bound_price
from convexnn.penalties import SparseGroupLasso
from convexnn.pricing import ascend


@dataclass(frozen=True, eq=False)
class ChargedTree:
    """Evidence by branch and bound with a feature penalty mu, for one output and sign.

    Attributes
    ----------
    tree : Tree
        For data and features together.
    charge : float
        M.
    feature_penalty : array of shape (n_features,)
        mu of all coordinates, 0 for a bias.
    """

    tree: Tree
    charge: float
    feature_penalty: NDArray

    @property
    def bound(self) -> float:
        """No vector of norm 1 has a higher price."""
        return max(self.charge, self.tree.bound)

    @property
    def n_cones(self) -> int:
        """Number of cones."""
        return self.tree.n_cones

    def check(self, X: NDArray, t: NDArray) -> float:
        """The bound once more, from the data and the boxes alone.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            The data, with its ones column if there are hidden biases.
        t : array of shape (n_samples,)
            Signed dual variable.

        Returns
        -------
        bound : float
        """
        return max(self.charge, self.tree.check(*with_charges(X, t, self.charge * self.feature_penalty)))

    def scaled(self, size: float) -> ChargedTree:
        """The evidence for size * t."""
        return replace(self, tree=self.tree.scaled(size), charge=size * self.charge)


def bound_charged_price(
    X: NDArray, t: NDArray, feature_penalty: NDArray, *, target: float, **limits: Any
) -> ChargedTree:
    """Upper bound of the price t^T (X u)_+ over all vectors with |u| + sum_j mu_j |u_j| <= 1.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases; with the features that cost, of rank 12 at most.
    t : array of shape (n_samples,)
        Signed dual variable.
    feature_penalty : array of shape (n_features,)
        mu, non-negative; 0 for a bias.
    target : float
        M. At least the highest price, or no accuracy is reached; the bound is no lower than it.
    **limits
        accuracy, max_time, max_cones, known: as in ``bound_price``.

    Returns
    -------
    tree : ChargedTree
    """
    rows, dual = with_charges(X, t, target * feature_penalty)
    return ChargedTree(bound_price(rows, dual, target=target, **limits), target, feature_penalty)


def with_charges(X: NDArray, t: NDArray, charges: NDArray) -> tuple[NDArray, NDArray]:
    """The data and two more rows for each feature, e_j and -e_j, whose prices sum to -charge_j |u_j|.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The data, with its ones column if there are hidden biases.
    t : array of shape (n_samples,)
        Signed dual variable.
    charges : array of shape (n_features,)
        Features without charge get no rows.

    Returns
    -------
    X : array of shape (n_samples + 2 * n_charged, n_features)
    t : array of shape (n_samples + 2 * n_charged,)
    """
    unit = np.eye(X.shape[1])[charges > 0]
    charges = charges[charges > 0]
    return np.concatenate([X, unit, -unit]), np.concatenate([t, -charges, -charges])


def highest_price(X: NDArray, t: NDArray, feature_penalty: NDArray, known: NDArray | None = None) -> float:
    """The highest price among vectors with |u| + sum_j mu_j |u_j| <= 1 that ascents find.

    Parameters
    ----------
    X, t, feature_penalty : arrays
        As in ``bound_charged_price``.
    known : array of shape (n_known, n_features), optional
        Vectors to start from, beside others.

    Returns
    -------
    price : float
        0 when none is positive.
    """
    starts = np.concatenate([np.eye(X.shape[1]), np.random.default_rng(0).standard_normal((200, X.shape[1]))])
    starts = starts if known is None else np.concatenate([known, starts])
    U = ascend(X, t, starts, 60, feature_penalty=feature_penalty)
    prices = np.maximum(X @ U.T, 0.0).T @ t / SparseGroupLasso(feature_penalty).norms(U)
    return float(prices.max(initial=0.0))
