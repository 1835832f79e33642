"""Pricing from above with a feature penalty: branch and bound on the data and rows that charge for each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.cones.sparse import sparse_norms
from convexnn.proofs.branching import bound_price
from convexnn.proofs.trees import ChargedTree
from convexnn.search.prices import Price
from convexnn.search.pricing import ascend


def bound_charged_price(price: Price, feature_penalty: NDArray, *, target: float, **limits: Any) -> ChargedTree:
    """Upper bound of a price over all vectors with |u| + sum_j mu_j |u_j| <= 1.

    Parameters
    ----------
    price : Price
        Of rows that have, with the features that cost, rank 12 at most.
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
    charged = price.charged(target * feature_penalty)
    return ChargedTree(bound_price(charged, target=target, **limits), target, feature_penalty)


def highest_price(price: Price, feature_penalty: NDArray, known: NDArray | None = None) -> float:
    """The highest price among vectors with |u| + sum_j mu_j |u_j| <= 1 that ascents find.

    Parameters
    ----------
    price, feature_penalty
        As in ``bound_charged_price``.
    known : array of shape (n_known, n_features), optional
        Vectors to start from, beside others.

    Returns
    -------
    price : float
        0 when none is positive.
    """
    d = price.X.shape[1]
    starts = np.concatenate([np.eye(d), np.random.default_rng(0).standard_normal((200, d))])
    starts = starts if known is None else np.concatenate([known, starts])
    U = ascend(price.X, price.t, starts, 60, feature_penalty=feature_penalty, lift=price.lift)
    return float((price(U) / sparse_norms(U, feature_penalty)).max(initial=0.0))
