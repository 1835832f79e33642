"""Certificate: how far a returned network is from the best one, and among which networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.problem import Problem
from convexnn.result import relative_gap


@dataclass(frozen=True, eq=False)
class Certificate:
    """Objective of a network, and a lower bound with its scope.

    Attributes
    ----------
    objective : float
        Weight-decay objective of the network itself, evaluated from its weights.
    lower_bound : float
        No network in the scope has a smaller objective; -inf when nothing was proved.
    scope : {"global", "patterns", "none"}
        "global": every two-layer network of any width (with several outputs: whose neurons feed one output each).
        "patterns": networks whose neurons have one of the listed activation patterns. "none": no bound.
    method : str
        How the bound was found.
    theta : array, shape of the predictions
        The dual point of the bound; it can be checked against the data without a solver.
    price : float
        Largest |P_k A_k^T theta| / alpha over the listed blocks, at most 1.
    n_patterns : int
        Length of the list.
    networks : str
        The networks of the scope, in words.
    n_searched : int
        Starting points and cells that a search over all patterns looked at, 0 without one. It proves nothing.
    price_found : float
        Largest price that search found, in units of alpha; a neuron improves the network only if its price is above 1.
    """

    objective: float
    lower_bound: float
    scope: str
    method: str
    theta: NDArray
    price: float
    n_patterns: int
    networks: str
    n_searched: int = 0
    price_found: float = float("nan")

    @property
    def gap(self) -> float:
        """objective - lower_bound, never below zero."""
        return max(self.objective - self.lower_bound, 0.0)

    @property
    def relative_gap(self) -> float:
        """gap divided by the objective."""
        return relative_gap(self.objective, self.lower_bound)

    def __str__(self) -> str:
        if self.scope == "none":
            return f"objective {self.objective:.6g}; no lower bound was found."
        if self.n_searched and self.scope == "patterns":
            return (
                f"objective {self.objective:.6g}; a search over all activation patterns ({self.n_searched:,} starts "
                f"and cells) found no price above {self.price_found:.7g} alpha. That is a search, not a proof; among "
                f"networks with the {self.n_patterns:,} patterns listed last the gap is {self.relative_gap:.1e}."
            )
        return (
            f"objective {self.objective:.6g}, within {100 * self.relative_gap:.2g} % of the best {self.networks} "
            f"(lower bound {self.lower_bound:.6g}, {self.method})."
        )


def certify_listed(network: Network, X: NDArray, problem: Problem, theta: NDArray, complete: bool) -> Certificate:
    """Grade a network against all networks with the listed patterns, from the data and a dual point.

    Parameters
    ----------
    network : Network
        The network to grade.
    X : array of shape (n_samples, n_features)
        The data, without a ones column.
    problem : Problem
        The program over the listed patterns.
    theta : array, shape of the predictions
        A guess of the dual variable; it is made feasible here, whatever a solver believed of it.
    complete : bool
        Whether the list holds every pattern of the data.

    Returns
    -------
    certificate : Certificate
    """
    objective = network.objective(X, problem.y, problem.alpha, problem.loss, problem.sample_weight)
    bound, theta = problem.dual_bound(theta)
    price = problem.penalty.dual_norm(problem.design.adjoint(theta)) / problem.alpha
    kind = "two-layer ReLU network" if network.gate_weights is None else "gated ReLU network"
    kind += "" if problem.skip is None else " with a skip connection"
    each = " whose neurons feed one class each" if problem.design.n_outputs > 1 else ""
    n_patterns = len(problem.design.patterns)
    scope = "none" if not np.isfinite(bound) else "global" if complete else "patterns"
    if complete:
        networks, method = f"{kind} of any width{each}", f"all {n_patterns:,} activation patterns listed"
    else:
        networks = f"{kind}{each} with the {n_patterns:,} listed activation patterns"
        method = "no statement on other patterns"
    return Certificate(objective, bound, scope, method, theta, price, n_patterns, networks)
