"""Prices: what the neurons of one output and sign promise at a dual point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Price:
    """h(u) = t^T ((X u)_+ + lift X u), the price of a neuron with weights u.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        What neurons see: the data, with a ones column if there are hidden biases.
    t : array of shape (n_samples,)
        The dual variable of an output, times the sign of the output weight and the kink of the activation.
    lift : float, default=0.0
        Of the activation, see convexnn.neurons.activations; 0 for ReLU.

    Raises
    ------
    ValueError
        When shapes do not match, or numbers are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> Price(np.array([[1.0], [-1.0]]), np.array([3.0, -1.0]))(np.array([[1.0], [-1.0]]))
    array([ 3., -1.])
    """

    X: NDArray[np.float64]
    t: NDArray[np.float64]
    lift: float = 0.0

    def __post_init__(self):
        X, t = np.asarray(self.X, dtype=float), np.asarray(self.t, dtype=float)
        if X.ndim != 2 or t.shape != (len(X),):
            raise ValueError(
                f"X must have shape (n_samples, n_features) and t one entry a sample, got {X.shape}, {t.shape}."
            )
        if not (np.isfinite(X).all() and np.isfinite(t).all()):
            raise ValueError("X and t must be finite.")
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "t", t)

    def __call__(self, U: ArrayLike) -> NDArray[np.float64]:
        """h of every row of U."""
        Z = self.X @ np.transpose(U)
        return self.t @ (np.maximum(Z, 0.0) + self.lift * Z)

    def __len__(self) -> int:
        return len(self.t)

    @property
    def pull(self) -> NDArray[np.float64]:
        """The vector X^T t, with which h(u) - h(-u) = (1 + 2 lift) pull^T u."""
        return self.X.T @ self.t

    def charged(self, charges: NDArray) -> Price:
        """The price less sum_j charge_j |u_j|: two more rows for each such feature, e_j and -e_j.

        Parameters
        ----------
        charges : array of shape (n_features,)
            Features without charge get no rows.

        Returns
        -------
        price : Price
        """
        unit, charge = np.eye(self.X.shape[1])[charges > 0], charges[charges > 0]
        # The linear terms of the two rows cancel.
        X, t = np.concatenate([self.X, unit, -unit]), np.concatenate([self.t, -charge, -charge])
        return replace(self, X=X, t=t)

    def merged(self) -> Price:
        """The same price with equal rows as one: their kinks cancel."""
        rows, inverse = np.unique(self.X, axis=0, return_inverse=True)
        if len(rows) == len(self.X):
            return self
        return replace(self, X=rows, t=np.bincount(inverse.ravel(), self.t, len(rows)).astype(float))
