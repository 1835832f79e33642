"""ConvergenceDisplay: the gap of a fit as it falls."""

from __future__ import annotations

import numpy as np

from convexnn.plots.drawing import fitted, legend_above, new_axes


class ConvergenceDisplay:
    """Gap of a fit against time or iterations, on a logarithmic axis.

    Parameters
    ----------
    history : list of dict
        Entries with iteration, seconds, objective, relative_gap, as in ``Result.history``.
    lower_bound : float
        Lower bound of the program that was solved.
    tol : float, optional
        Relative gap at which the solver was to stop.
    name : str, optional
        For the legend.

    Attributes
    ----------
    ax_, figure_
        Axes and figure.
    line_, tol_line_
        The curve; the line at tol (None when it is not drawn).

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import ConvergenceDisplay, ConvexReLURegressor
    >>> X = np.linspace(-1, 1, 21)[:, None]
    >>> model = ConvexReLURegressor(alpha=0.01, patterns="exact").fit(X, np.abs(X[:, 0]))
    >>> display = ConvergenceDisplay.from_estimator(model)
    >>> display.ax_.get_ylabel()
    'relative gap'
    >>> import matplotlib.pyplot as plt
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, history, lower_bound, tol=None, name=None):
        self.history = history
        self.lower_bound = lower_bound
        self.tol = tol
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, x="seconds", y="relative_gap", name=None, **kwargs):
        """Draw the history of a fitted estimator; several on one axes with ``ax=display.ax_`` and a name each.

        Parameters
        ----------
        estimator : fitted estimator
            With ``result_`` and ``tol``.
        ax, x, y, name, **kwargs
            As in ``plot``.

        Returns
        -------
        display : ConvergenceDisplay
        """
        result = fitted(estimator, "result_")
        tol = getattr(estimator, "tol", None)
        display = cls(history=result.history, lower_bound=result.dual, tol=tol, name=name)
        return display.plot(ax, x=x, y=y, **kwargs)

    def plot(self, ax=None, *, x="seconds", y="relative_gap", name=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw, by default a new figure.
        x : {"seconds", "iteration"}, default="seconds"
            The horizontal axis.
        y : {"relative_gap", "suboptimality"}, default="relative_gap"
            "relative_gap": as the solver saw it then, with the best bound so far; comes with the line at tol.
            "suboptimality": objective minus the last lower bound. Values that are zero or infinite are left out.
        name : str, optional
            For the legend.
        **kwargs
            For the curve.

        Returns
        -------
        display : ConvergenceDisplay

        Raises
        ------
        ValueError
            For an unknown axis, or a suboptimality without a finite lower bound.
        """
        for argument, value, allowed in (
            ("x", x, ("seconds", "iteration")),
            ("y", y, ("relative_gap", "suboptimality")),
        ):
            if value not in allowed:
                raise ValueError(f"{argument} must be one of {list(allowed)}, got {value!r}.")
        if y == "suboptimality" and not np.isfinite(self.lower_bound):
            raise ValueError('y="suboptimality" needs a finite lower bound; use y="relative_gap".')
        self.ax_ = new_axes(ax, (6.0, 4.0))[0]
        self.figure_ = self.ax_.figure
        name = self.name if name is None else name
        at = np.array([entry[x] for entry in self.history], dtype=float)
        what = "objective" if y == "suboptimality" else "relative_gap"
        values = np.array([entry[what] for entry in self.history], dtype=float)
        values = values - self.lower_bound if y == "suboptimality" else values
        values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        options = dict(marker="o", ms=4, lw=1.8, label=name) | ({} if name else dict(color="black")) | kwargs
        (self.line_,) = self.ax_.plot(at, values, **options)
        self.tol_line_ = None
        if y == "relative_gap" and self.tol:
            drawn = [line for line in self.ax_.lines if line.get_label() == f"tol = {self.tol:g}"]
            style = dict(color="0.4", lw=1.2, ls=":")
            self.tol_line_ = drawn[0] if drawn else self.ax_.axhline(self.tol, label=f"tol = {self.tol:g}", **style)
        self.ax_.set_yscale("log")
        self.ax_.set_xlabel("time (s)" if x == "seconds" else "iteration")
        self.ax_.set_ylabel("relative gap" if y == "relative_gap" else "objective - lower bound")
        handles = self.ax_.get_legend_handles_labels()[0]
        legend_above(self.ax_, sorted(handles, key=lambda handle: handle.get_label().startswith("tol = ")))
        return self
