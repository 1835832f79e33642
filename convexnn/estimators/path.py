"""The regularisation path: networks for a decreasing sequence of weight decays, each started from the one before."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.estimators.networks import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.fits import Fit
from convexnn.losses import LOSSES
from convexnn.network import Network
from convexnn.plots import PathDisplay
from convexnn.program.result import Result
from convexnn.proofs.certificate import Certificate


@dataclass(frozen=True, eq=False)
class Path:
    """Networks for a decreasing sequence of weight decays.

    Attributes
    ----------
    alphas : array of shape (n_alphas,)
        Weight decays, decreasing.
    networks : list of Network
        One for each alpha.
    certificates : list of Certificate
        The grade of each network.
    results : list of Result
        The solution of each convex program, with its status and the solver's history.
    relative_gaps : array of shape (n_alphas,)
        Relative gap for each alpha. After a search over all patterns it is to the bound that would hold if no price
        were above the largest found.
    alpha_max : float
        The smallest weight decay without neurons: the largest price that a search over all patterns found, exact for
        listed patterns.
    classes : array of shape (n_classes,) or None
        Class labels.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 21)[:, None]
    >>> path = relu_path(X, np.abs(X[:, 0]), alphas=5)
    >>> path
    Path(5 alphas from 0.97 to 0.00097, 0 to 2 neurons, relative gaps up to 2.9e-06)
    >>> bool(path.at(0.1).predict(X).shape == (21,))
    True
    """

    alphas: NDArray[np.float64]
    networks: list[Network]
    certificates: list[Certificate]
    results: list[Result]
    relative_gaps: NDArray[np.float64]
    alpha_max: float
    classes: NDArray | None = None

    @property
    def n_neurons(self) -> NDArray[np.intp]:
        """Number of neurons for each alpha, shape (n_alphas,)."""
        return np.array([network.n_neurons for network in self.networks])

    @property
    def objectives(self) -> NDArray[np.float64]:
        """Training objective of each network at its alpha, shape (n_alphas,)."""
        return np.array([certificate.objective for certificate in self.certificates])

    @property
    def lower_bounds(self) -> NDArray[np.float64]:
        """Lower bound for each alpha, of the scope that its certificate states, shape (n_alphas,)."""
        return np.array([certificate.lower_bound for certificate in self.certificates])

    @property
    def total_path_norms(self) -> NDArray[np.float64]:
        """What alpha multiplies in the objective of each network, the sum of its path norms, shape (n_alphas,)."""
        return np.array([network.path_norms.sum() for network in self.networks])

    def at(self, alpha: float) -> Network:
        """The best network of the path for a weight decay.

        The optimal value is concave in alpha, so that between two alphas of the path the better of their networks is
        nearly optimal; it is found by its objective there.

        Parameters
        ----------
        alpha : float
            At least the smallest alpha of the path; from the largest on the first network is returned.

        Returns
        -------
        network : Network

        Raises
        ------
        ValueError
            Below the smallest alpha, and for what is not a finite number.
        """
        last = self.alphas[-1]
        if not (isinstance(alpha, Real) and last * (1 - 1e-12) <= alpha < np.inf):
            raise ValueError(f"alpha must be finite and at least {last:.6g}, the smallest of the path, got {alpha!r}.")
        below = int(np.searchsorted(-self.alphas, -float(alpha)))
        near = [k for k in (below - 1, below) if 0 <= k < len(self.alphas)]
        values = self.objectives[near] + (alpha - self.alphas[near]) * self.total_path_norms[near]
        return self.networks[near[int(np.argmin(values))]]

    def to_frame(self):
        """One row for each alpha.

        Returns
        -------
        frame : pandas.DataFrame
            Columns alpha, share (of alpha_max), n_neurons, objective, loss (the objective without the weight decay),
            lower_bound, relative_gap, scope, status, seconds.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(
            dict(
                alpha=self.alphas,
                share=self.alphas / self.alpha_max if self.alpha_max > 0 else np.inf,
                n_neurons=self.n_neurons,
                objective=self.objectives,
                loss=self.objectives - self.alphas * self.total_path_norms,
                lower_bound=self.lower_bounds,
                relative_gap=self.relative_gaps,
                scope=[certificate.scope for certificate in self.certificates],
                status=[result.status for result in self.results],
                seconds=[result.history[-1]["seconds"] if result.history else 0.0 for result in self.results],
            )
        )

    def plot(self, ax=None, **kwargs) -> PathDisplay:
        """Draw the path; see ``PathDisplay``.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        **kwargs
            Passed on to ``PathDisplay.from_path``.

        Returns
        -------
        display : PathDisplay
        """
        return PathDisplay.from_path(self, ax=ax, **kwargs)

    def __repr__(self) -> str:
        few, many = self.n_neurons.min(), self.n_neurons.max()
        return (
            f"Path({len(self.alphas)} alphas from {self.alphas[0]:.2g} to {self.alphas[-1]:.2g}, {few} to {many} "
            f"neurons, relative gaps up to {self.relative_gaps.max():.1e})"
        )


def relu_path(
    X: ArrayLike,
    y: ArrayLike,
    *,
    alphas: int | ArrayLike = 30,
    eps: float = 1e-3,
    loss: Any = "squared",
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-3,
    certify: bool | str = False,
    **options,
) -> Path:
    """Networks for a decreasing sequence of weight decays, each fit started from the one before.

    Neurons, patterns and the peaks of the searches carry over: a path usually costs less than as many single fits. Its
    searches over all patterns are smaller, and a quick one ends a fit where the last thorough one hardly paid. With
    listed patterns, blocks that cannot be active at an alpha are screened out by the gap.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Features, standardised for a penalty that treats them alike.
    y : array of shape (n_samples,)
        Targets, or class labels if the loss is one for classes.
    alphas : int or array of shape (n_alphas,), default=30
        Weight decays, or their number, an int: a geometric sequence from alpha_max, where the network has no neuron,
        down to ``eps * alpha_max``.
    eps : float, default=1e-3
        The last of that sequence in units of alpha_max.
    loss : str or loss object, default="squared"
        As in ConvexReLURegressor, or in ConvexReLUClassifier if it is a loss for classes.
    sample_weight : array of shape (n_samples,), optional
        Non-negative factors of the losses.
    tol : float, default=1e-3
        Relative gap at which each fit stops.
    certify : {False, "auto", True}, default=False
        Prove a bound over all networks of any width for each alpha.
    **options
        The other parameters of ConvexReLURegressor or ConvexReLUClassifier, except alpha and warm_start. ``max_time``
        is for the whole path, which may then end early, with a warning; so it does when it is interrupted.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        For unusable data or parameters.

    References
    ----------
    .. [1] A. Mishkin, M. Pilanci, Optimal sets and solution paths of ReLU networks, ICML 2023, section 5.
    """
    sequence = check_alphas(alphas, eps)
    model = estimator_for(loss, tol=tol, certify=certify, **options)
    return fit_path(model, X, y, sequence, sample_weight)


def estimator_for(loss: Any, **options) -> ConvexReLURegressor | ConvexReLUClassifier:
    """An estimator with these options, of the kind that the loss is for, whose alpha is chosen later.

    Parameters
    ----------
    loss : str or loss object
        A key of LOSSES, or an instance of such a loss.
    **options
        Parameters of the estimator, except alpha and warm_start.

    Returns
    -------
    model : ConvexReLURegressor or ConvexReLUClassifier
    """
    for name in ("alpha", "warm_start"):
        if name in options:
            raise ValueError(f"{name} must not be given: there are many alphas, and each fit starts from the last.")
    name = loss if isinstance(loss, str) else getattr(loss, "name", "")
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)} or an instance of those, got {loss!r}.")
    kind = ConvexReLURegressor if LOSSES[name].target == "real" else ConvexReLUClassifier
    return kind(1.0, loss=loss, **options)


def fit_path(model, X, y, sequence, sample_weight=None) -> Path:
    """The path of an estimator's settings.

    Parameters
    ----------
    model : ConvexReLURegressor or ConvexReLUClassifier
        Its alpha is not used.
    X, y, sample_weight
        As in its ``fit``.
    sequence : callable
        The alphas, decreasing, as a function of alpha_max.

    Returns
    -------
    path : Path
    """
    fits: list[Fit] = []
    try:
        for fit in model._train(model._coded(X, y, sample_weight), alphas=sequence):
            fits.append(fit)
        interrupted = fits[-1].result.status == "interrupted"
    except KeyboardInterrupt:
        if not fits:
            raise
        interrupted = True
    path = path_of(fits, getattr(model, "classes_", None))
    n_left = len(sequence(path.alpha_max)) - len(fits)
    late = [fit for fit in fits if fit.is_short_of(model.tol)]
    if n_left or late:
        end = "an interrupt" if interrupted else f"max_time={model.max_time}"
        what = f"{end} ended the path before its last {n_left} alphas" if n_left else ""
        stopped = f"{len(late)} of {len(fits)} fits stopped before tol={model.tol}" if late else ""
        warnings.warn(
            f"{'; '.join(filter(None, [what, stopped]))}. Largest relative gap {path.relative_gaps.max():.1e}; see "
            "to_frame().",
            ConvergenceWarning,
            stacklevel=3,
        )
    return path


def path_of(fits: list[Fit], classes: NDArray | None) -> Path:
    """Fits for decreasing alphas as a Path."""
    return Path(
        np.array([fit.alpha for fit in fits]),
        [fit.network for fit in fits],
        [fit.certificate for fit in fits],
        [fit.result for fit in fits],
        np.array([fit.relative_gap for fit in fits]),
        fits[0].alpha_max,
        classes,
    )


def check_alphas(alphas: int | ArrayLike, eps: float):
    """The alphas of a path as a function of alpha_max; ValueError for numbers that make no path."""
    if not (isinstance(eps, Real) and 0 < eps < 1):
        raise ValueError(f"eps must be a number above 0 and below 1, got {eps!r}.")
    if isinstance(alphas, Integral) and not isinstance(alphas, bool):
        if alphas < 1:
            raise ValueError(f"alphas must be at least 1, got {alphas}.")
        # Where there is nothing to explain, any alpha gives the network without neurons.
        return lambda alpha_max: (alpha_max or 1.0) * np.geomspace(1.0, eps, int(alphas) if alphas > 1 else 1)
    try:
        given = np.asarray(alphas)
        # A number that is no int could be meant either way.
        usable = given.ndim > 0 and given.dtype.kind in "iuf"
        values = np.sort(given.ravel().astype(float))[::-1] if usable else np.zeros(0)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if not (len(values) and np.isfinite(values).all() and values[-1] > 0):
        raise ValueError(
            f"alphas must be an int, the number of alphas, or a list or array of positive values, got {alphas!r}."
        )
    return lambda alpha_max: values
