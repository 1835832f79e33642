"""What random gates say of a dual point: a probabilistic statement for high dimension, and no certificate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from convexnn.arrangements import check_data
from convexnn.cones.project import project_onto_cones


@dataclass(frozen=True)
class ScenarioBound:
    """What random gates say of a dual point: a statement on the measure of violating gates, not on the largest price.

    Attributes
    ----------
    n_gates, n_violations : int
        Gates drawn, and those in whose cell a neuron has a price above alpha.
    measure : float
        With the given confidence the uniform measure on the sphere of violating gates is at most this.
    confidence : float
        Probability, over the draw of the gates, with which the statement holds.
    """

    n_gates: int
    n_violations: int
    measure: float
    confidence: float

    def __str__(self) -> str:
        return (
            f"{self.n_violations} of {self.n_gates:,} random gates lie in a cell with a price above alpha: with "
            f"confidence {self.confidence:g} at most a share {self.measure:.2g} of all gates does. This is no "
            "certificate: it says nothing on how far the prices there are above alpha."
        )


def scenario_bound(
    theta: ArrayLike,
    X: ArrayLike,
    alpha: float,
    *,
    hidden_bias: str = "penalized",
    n_gates: int = 10_000,
    confidence: float = 0.999,
    random_state: int | np.random.Generator | None = None,
) -> ScenarioBound:
    """How many gates violate the dual constraint, as far as a random sample tells; for high dimension.

    Parameters
    ----------
    theta : array of shape (n_samples,) or (n_samples, n_outputs)
        Dual point, such as ``Certificate.theta``.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    alpha : float
        Weight decay.
    hidden_bias : {"penalized", "none"}, default="penalized"
        Whether gates have a bias.
    n_gates : int, default=10000
        Gates drawn uniformly from the unit sphere.
    confidence : float, default=0.999
        Of the statement.
    random_state : int or numpy Generator, optional
        Source of the gates.

    Returns
    -------
    bound : ScenarioBound

    Notes
    -----
    With k violations among N independent gates the bound is that of Clopper and Pearson on a binomial share; for k = 0
    it is at most log(1 / (1 - confidence)) / N.

    References
    ----------
    .. [1] C. J. Clopper, E. S. Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).
    .. [2] M. C. Campi, S. Garatti, The exact feasibility of randomized solutions of uncertain convex programs, SIAM J.
       Optim. 19 (2008).
    """
    X, theta = check_data(X), np.asarray(theta, dtype=float)
    if theta.shape[:1] != (len(X),) or theta.ndim > 2:
        raise ValueError(f"theta must have {len(X)} rows to match X, got shape {theta.shape}.")
    if not (np.isfinite(theta).all() and np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"theta must be finite, and alpha finite and above 0, got alpha={alpha!r}.")
    if hidden_bias not in ("penalized", "none"):
        raise ValueError(f'hidden_bias must be "penalized" or "none", got {hidden_bias!r}.')
    if not 0 < confidence < 1 or n_gates < 1:
        raise ValueError(f"confidence must lie in (0, 1) and n_gates be positive, got {confidence} and {n_gates}.")
    rows = np.column_stack([X, np.ones(len(X))]) if hidden_bias == "penalized" else X
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1.0)
    gates = np.random.default_rng(random_state).standard_normal((n_gates, rows.shape[1]))
    high = np.zeros(n_gates, dtype=bool)
    size = max(1, 4_000_000 // len(X))
    for start in range(0, n_gates, size):
        k = np.arange(start, min(start + size, n_gates))
        patterns = gates[k] @ rows.T >= 0
        for column in theta.reshape(len(X), -1).T:
            for sign in (1.0, -1.0):
                V, _ = project_onto_cones((patterns * (sign * column)) @ rows, unit, patterns, floor=alpha)
                high[k] |= np.linalg.norm(V, axis=1) > alpha * (1 + 1e-9)
    n_violations = int(high.sum())
    share = beta.ppf(confidence, n_violations + 1, n_gates - n_violations) if n_violations < n_gates else 1.0
    return ScenarioBound(n_gates, n_violations, float(share), confidence)
