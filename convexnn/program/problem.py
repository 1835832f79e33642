"""Problem: the convex program over listed cells, everything that a solver needs to know.

minimise over V and c   sum_i s_i l(y_i, z_i + c) + alpha sum_k |v_k|,   z = sum_k A_k v_k,   A_k = sign_k S_k X

S_k holds the slopes of the activation: for ReLU 1 for the samples that are active in the pattern of block k, else 0.

With a skip connection x_i^T s stands beside c, as little penalised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.budget import check
from convexnn.neurons.penalties import Penalty
from convexnn.program.cells import Cells
from convexnn.program.design import Design
from convexnn.program.task import Task


@dataclass(frozen=True, eq=False)
class Problem:
    """One convex program: a task, alpha, and the blocks that are listed.

    Attributes
    ----------
    task : Task
        Data, loss and unpenalised terms.
    design : Design
        The linear map from coefficients to predictions.
    penalty : Penalty
        See convexnn.neurons.penalties.
    alpha : float
        Loss per unit of block norm.
    """

    task: Task
    design: Design
    penalty: Penalty
    alpha: float

    @classmethod
    def over(cls, task: Task, cells: Cells, alpha: float) -> Problem:
        """The program over given cells, a block for each.

        Parameters
        ----------
        task : Task
            Data, loss and unpenalised terms.
        cells : Cells
            Of the samples of the task.
        alpha : float
            Loss per unit of block norm.

        Returns
        -------
        problem : Problem
        """
        k = np.arange(len(cells.sign))
        own = cells.sign, cells.output, task.n_outputs, task.neuron.activation
        design = Design(task.rows, cells.patterns, k, *own)
        return cls(task, design, task.neuron.penalty(task.rows, cells.patterns, k), alpha)

    @classmethod
    def listing(cls, task: Task, patterns: NDArray[np.bool_], alpha: float) -> Problem:
        """The program over activation patterns, each with every sign and output.

        Parameters
        ----------
        task : Task
            Data, loss and unpenalised terms.
        patterns : bool array of shape (n_patterns, n_samples)
            One pattern a row.
        alpha : float
            Loss per unit of block norm.

        Returns
        -------
        problem : Problem
            Blocks ordered by output, then sign, then pattern. Of patterns that are the same neurons one is listed.
        """
        activation = task.neuron.activation
        patterns = np.ascontiguousarray(task.neuron.distinct(task.rows, patterns))
        signs = np.array(activation.signs)
        output, sign, pattern = np.meshgrid(np.arange(task.n_outputs), signs, np.arange(len(patterns)), indexing="ij")
        own = pattern.ravel(), sign.ravel(), output.ravel(), task.n_outputs, activation
        design = Design(task.rows, patterns, *own)
        return cls(task, design, task.neuron.penalty(task.rows, patterns, design.pattern), alpha)

    @classmethod
    def bare(cls, task: Task, alpha: float) -> Problem:
        """The program that lists nothing."""
        return cls.over(task, Cells.none(task.rows), alpha)

    def objective(self, coef: NDArray, intercept: NDArray | float) -> float:
        """Value of the program at coefficients (n_blocks, n_features) and intercept."""
        return self.task.loss_value(self.design @ coef + intercept) + self.alpha * self.penalty.value(coef)

    @cached_property
    def alpha_max(self) -> float:
        """Smallest alpha for which all coefficients are zero, over the listed patterns.

        Exact when theta of the null model is unique: always for a smooth loss; for a loss with kinks it is an upper
        bound otherwise.
        """
        theta = self.task.null_model[1]
        value = self.penalty.dual_norm(self.design.adjoint(theta))
        # A neuron that is active everywhere may correlate with theta by rounding alone.
        return value if value > self.task.price_rounding(theta) else 0.0

    def dual_bound(
        self, theta: NDArray, correlations: NDArray | None = None, warm: Any = None
    ) -> tuple[float, NDArray]:
        """The best lower bound that a guess of the dual variable gives after it is made feasible.

        The guess is made orthogonal to the free columns, scaled until no listed block correlates with it by more than
        alpha, and, should rounding have left it outside the domain of the conjugate, mixed with the interior dual
        point of the null model.

        Parameters
        ----------
        theta : array, shape of the predictions
            Usually minus the gradient of the loss.
        correlations : array of shape (n_blocks, n_features), optional
            ``design.adjoint(theta)``, when it is known already; used only if theta is orthogonal to the free columns.
        warm : optional
            Warm start that the penalty's prox returned.

        Returns
        -------
        bound : float
            -inf when no feasible point was found.
        theta : array
            The feasible point that gives it.
        """
        guess, rounding = theta, False
        if self.task.free.shape[1]:
            shift = theta.mean(axis=0) if self.task.skip is None else theta - self.task.balanced(theta)
            theta = theta - shift
            rounding = bool(np.abs(shift).max() <= 1e-12 * np.abs(theta).max(initial=0.0))
            if not rounding:
                correlations = None
        if correlations is None:
            correlations = self.design.adjoint(theta)
        price = self.penalty.dual_norm(correlations, self.alpha, warm)
        theta = theta * (self.alpha / price)
        bound = self.task.dual_value(theta)
        if rounding and not np.isfinite(bound):
            # A shift by rounding takes what lies on the edge of the domain outside.
            theta = guess * (self.alpha / price)
            bound = self.task.dual_value(theta)
        for share in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6):
            if np.isfinite(bound):
                break
            anchor = self.task.null_model[1] * (self.alpha / max(self.alpha, self.alpha_max))
            mixed = (1 - share) * theta + share * anchor
            bound, theta = (value, mixed) if np.isfinite(value := self.task.dual_value(mixed)) else (bound, theta)
        if self.task.skip is not None and not bound >= 0.0:
            # No loss here falls below zero, and zero is feasible.
            theta = np.zeros_like(theta)
            bound = self.task.dual_value(theta)
        return bound, theta

    def may_be_active(self, theta: NDArray, gap: float) -> NDArray[np.bool_]:
        r"""Blocks that the duality gap does not exclude from every solution (gap-safe screening).

        The dual function is strongly concave, with modulus 1 / (L s_i) for sample i: its maximiser lies within
        r = sqrt(2 L gap) of theta, in the norm of theta_i / sqrt(s_i), and no price |P_k A_k^T theta| there is above
        that at theta by more than r times the largest singular value of the weighted data.

        Parameters
        ----------
        theta : array, shape of the predictions
            A feasible dual point.
        gap : float
            Its distance to the objective of any point.

        Returns
        -------
        keep : bool array of shape (n_blocks,)
            All True for a loss with kinks, and where biases are outside the norm.

        References
        ----------
        .. [1] E. Ndiaye, O. Fercoq, A. Gramfort, J. Salmon, Gap safe screening rules for sparsity enforcing penalties,
           JMLR 18 (2017), section 3.
        """
        if not self.task.smooth or self.penalty.free_bias:
            return np.ones(self.design.shape[0], dtype=bool)
        check(4.0 * self.task.rows.size * min(self.task.rows.shape))
        size = np.linalg.norm(np.sqrt(self.task.sample_weight)[:, None] * self.task.rows, 2)
        reach = np.sqrt(2 * self.task.loss.lipschitz * gap) * size * self.task.neuron.activation.steepest
        threshold = (1 - 1e-9) * self.alpha - reach
        if threshold <= 0:
            return np.ones(self.design.shape[0], dtype=bool)
        return np.asarray(self.penalty.prox(self.design.adjoint(theta), threshold)[0].any(axis=1))

    def restrict(self, blocks: NDArray) -> Problem:
        """The program over some of the blocks."""
        return replace(self, design=self.design.restrict(blocks), penalty=self.penalty.restrict(blocks))
