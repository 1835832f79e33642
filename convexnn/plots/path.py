"""PathDisplay: a regularisation path."""

from __future__ import annotations

import numpy as np

from convexnn.plots.drawing import COLORS, NEGATIVE, POSITIVE, fitted, legend_above, new_axes, outputs_and_signs

QUANTITIES = ("path_norms", "n_neurons", "objective", "relative_gap")
# Neurons of neighbouring alphas are joined when the cosine of their directions is above this.
SAME_NEURON = 0.9


class PathDisplay:
    """Regularisation path: neurons, objective and gap against alpha / alpha_max, which falls to the right.

    Parameters
    ----------
    alphas : array of shape (n_alphas,)
        Weight decays, in units of alpha_max.
    n_neurons : int array of shape (n_alphas,)
        Number of neurons.
    objectives, lower_bounds, relative_gaps : arrays of shape (n_alphas,)
        Objective of each network, its lower bound (-inf without one) and the gap as a share of the objective.
    penalties : array of shape (n_alphas,)
        alpha times the sum of path norms: what weight decay adds to the objective.
    path_norms : list of arrays
        For each alpha the path norms of the neurons, with the sign of the output weight.
    segments : array of shape (n_segments, 2, 2)
        Pairs of points (alpha / alpha_max, signed path norm) that join a neuron with the same neuron at the next alpha:
        each is the other's nearest in direction, with a cosine above 0.9.
    chosen : float, optional
        An alpha / alpha_max to mark.
    name : str, optional
        For the legend.

    Attributes
    ----------
    ax_, axes_, figure_
        First axes, all axes, figure.
    lines_ : list of matplotlib lines or collections
        The main artist on each axes.
    """

    def __init__(
        self, *, alphas, n_neurons, objectives, lower_bounds, relative_gaps, penalties, path_norms, segments,
        chosen=None, name=None,
    ):  # fmt: skip
        self.alphas = alphas
        self.n_neurons = n_neurons
        self.objectives = objectives
        self.lower_bounds = lower_bounds
        self.relative_gaps = relative_gaps
        self.penalties = penalties
        self.path_norms = path_norms
        self.segments = segments
        self.chosen = chosen
        self.name = name

    @classmethod
    def from_path(cls, path, *, ax=None, quantity=None, chosen=None, name=None, **kwargs):
        """Draw a path.

        Parameters
        ----------
        path : Path
            With ``alphas``, ``alpha_max``, ``networks``, ``n_neurons``, ``objectives``, ``lower_bounds`` and
            ``relative_gaps``.
        ax, quantity, name, **kwargs
            As in ``plot``.
        chosen : float, optional
            An alpha to mark.

        Returns
        -------
        display : PathDisplay
        """
        # Where there is nothing to explain, alpha_max is zero and no unit.
        unit = path.alpha_max or 1.0
        alphas = np.asarray(path.alphas, dtype=float) / unit
        signed = [outputs_and_signs(network)[1] * network.path_norms for network in path.networks]
        segments = []
        for k in range(len(alphas) - 1):
            start, end = path.networks[k], path.networks[k + 1]
            for i, j in _same_neurons(start, end):
                segments.append([(alphas[k], signed[k][i]), (alphas[k + 1], signed[k + 1][j])])
        display = cls(
            alphas=alphas,
            n_neurons=np.asarray(path.n_neurons),
            objectives=np.asarray(path.objectives, dtype=float),
            lower_bounds=np.asarray(path.lower_bounds, dtype=float),
            relative_gaps=np.asarray(path.relative_gaps, dtype=float),
            penalties=np.array([alpha * norms.sum() for alpha, norms in zip(path.alphas, map(np.abs, signed))]),
            path_norms=signed,
            segments=np.reshape(segments, (-1, 2, 2)),
            chosen=None if chosen is None else chosen / unit,
            name=name,
        )
        return display.plot(ax, quantity=quantity, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, quantity=None, name=None, **kwargs):
        """Draw the path of a fitted estimator and mark the alpha that it chose.

        Parameters
        ----------
        estimator : fitted estimator
            With ``path_`` and ``alpha_``.
        ax, quantity, name, **kwargs
            As in ``plot``.

        Returns
        -------
        display : PathDisplay

        Raises
        ------
        ValueError
            When the estimator has no path.
        """
        path = fitted(estimator, "path_")
        return cls.from_path(path, ax=ax, quantity=quantity, chosen=estimator.alpha_, name=name, **kwargs)

    def plot(self, ax=None, *, quantity=None, name=None, **kwargs):
        """Draw one quantity, or three below each other.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw one quantity; by default a new figure.
        quantity : {"path_norms", "n_neurons", "objective", "relative_gap"}, optional
            What to draw; by default path norms, neurons and objective in a new figure, the number of neurons on given
            axes. "objective" comes with its two parts and, shaded, the gap to its lower bound.
        name : str, optional
            For the legend.
        **kwargs
            For the lines of the quantity.

        Returns
        -------
        display : PathDisplay

        Raises
        ------
        ValueError
            For an unknown quantity.
        """
        if quantity is not None and quantity not in QUANTITIES:
            raise ValueError(f"quantity must be one of {sorted(QUANTITIES)} or None, got {quantity!r}.")
        drawn = [quantity] if quantity else list(QUANTITIES[:3]) if ax is None else ["n_neurons"]
        self.axes_ = new_axes(ax, (6.4, 2.2 * len(drawn) + 1.2), len(drawn), sharex=True)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        name = self.name if name is None else name
        self.lines_ = [getattr(self, f"_draw_{what}")(ax, name, kwargs) for what, ax in zip(drawn, self.axes_)]
        for k, ax in enumerate(self.axes_):
            ax.set_xscale("log")
            ax.xaxis.set_inverted(True)
            if self.chosen is not None:
                ax.axvline(self.chosen, color="black", lw=1.2, ls=":", label=None if k else "chosen alpha")
            legend_above(ax)
        self.axes_[-1].set_xlabel("alpha / alpha_max (weaker weight decay to the right)")
        return self

    def _draw_path_norms(self, ax, name, kwargs):
        from matplotlib.collections import LineCollection

        options = dict(lw=1.2, colors=[POSITIVE if s[0, 1] > 0 else NEGATIVE for s in self.segments]) | kwargs
        lines = ax.add_collection(LineCollection(self.segments, **options))
        norms = np.concatenate(self.path_norms)
        at = np.repeat(self.alphas, [len(part) for part in self.path_norms])
        for sign, color, label in ((1, POSITIVE, "positive neurons"), (-1, NEGATIVE, "negative neurons")):
            here = norms * sign > 0
            ax.plot(at[here], norms[here], ls="", marker="o", ms=3, color=color, label=label if here.any() else None)
        ax.axhline(0.0, color="0.6", lw=0.8, zorder=0)
        ax.set_ylabel("signed path norm\nsign(a) |w| |a|")
        return lines

    def _draw_n_neurons(self, ax, name, kwargs):
        from matplotlib.ticker import MaxNLocator

        options = dict(marker="o", ms=4, lw=1.8, label=name) | ({} if name else dict(color="black")) | kwargs
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_ylabel("number of neurons")
        return ax.plot(self.alphas, self.n_neurons, **options)[0]

    def _draw_objective(self, ax, name, kwargs):
        whole = f"objective of {name}" if name else "objective"
        (line,) = ax.plot(self.alphas, self.objectives, **(dict(color="black", lw=2, label=whole) | kwargs))
        bounds = np.where(np.isfinite(self.lower_bounds), self.lower_bounds, np.nan)
        band = dict(color=COLORS[2], alpha=0.35, lw=0)
        ax.fill_between(self.alphas, bounds, self.objectives, label="down to its lower bound", **band)
        ax.plot(self.alphas, self.objectives - self.penalties, color=COLORS[4], lw=1.8, ls="--", label="loss")
        ax.plot(self.alphas, self.penalties, color=COLORS[1], lw=1.8, ls="-.", label="weight decay")
        ax.set_ylabel("objective")
        return line

    def _draw_relative_gap(self, ax, name, kwargs):
        gaps = np.where(np.isfinite(self.relative_gaps) & (self.relative_gaps > 0), self.relative_gaps, np.nan)
        options = dict(marker="o", ms=4, lw=1.8, label=name) | ({} if name else dict(color="black")) | kwargs
        ax.set_yscale("log")
        ax.set_ylabel("relative gap")
        return ax.plot(self.alphas, gaps, **options)[0]


def _same_neurons(start, end):
    """Pairs of neurons of two networks, of one output and sign, that are each other's nearest in direction."""
    if not start.n_neurons or not end.n_neurons:
        return []
    units = []
    for network in (start, end):
        inside = np.column_stack([network.hidden_weights, network.hidden_biases])
        lengths = np.linalg.norm(inside, axis=1, keepdims=True)
        units.append(inside / np.where(lengths > 0, lengths, 1.0))
    kinds = [np.column_stack(outputs_and_signs(network)) for network in (start, end)]
    cosines = np.where((kinds[0][:, None] == kinds[1]).all(axis=2), units[0] @ units[1].T, -1.0)
    there, back = cosines.argmax(axis=1), cosines.argmax(axis=0)
    return [(i, j) for i, j in enumerate(there) if back[j] == i and cosines[i, j] > SAME_NEURON]
