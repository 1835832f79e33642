"""Pricing from above with a feature penalty: branch and bound on the data and rows that charge for each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.branching import bound_price
from convexnn.pricing import ascend
from convexnn.sparse_cones import sparse_norms
from convexnn.trees import ChargedTree, with_charges


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
    prices = np.maximum(X @ U.T, 0.0).T @ t / sparse_norms(U, feature_penalty)
    return float(prices.max(initial=0.0))
