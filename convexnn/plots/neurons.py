"""NeuronDisplay: where the neurons of a network are, and how strong."""

from __future__ import annotations

import numpy as np

from convexnn.analysis.radon import RadonMeasure, radon_measure
from convexnn.arrangements import check_data
from convexnn.network import Network, upper_half
from convexnn.plots.drawing import (
    check_names,
    fitted,
    legend_above,
    names_of,
    neuron_colors,
    neuron_handles,
    new_axes,
    output_labels,
    outputs_and_signs,
)

#: Degrees by which the half turn of angles is drawn beyond its ends, where its lines come back.
WRAP = 8.0


class NeuronDisplay:
    r"""Where the neurons of a network are, and how strong.

    One feature: the knots, each with its change of slope a |w|. Two features: the Radon domain, in which every line of
    the plane is a point, its angle and its offset, and the network a sum of atoms of weight a |w|, drawn as areas
    (``radon_measure``). Neurons on one knot or line are added up with their signs; the legend says to what their
    absolute values add up (``second_order_tv``). A sample is a curve: all lines through it. Lines between the same
    curves have the same activation pattern, or its complement. A normal turned by 180 degrees is the same line with the
    opposite offset, so what is near one end of the angles is drawn once more, pale, beyond the other.

    More features: a heat map of the weights, divided by the norm that the weight decay counts, the strongest
    neurons first.

    Parameters
    ----------
    network : Network
        Any two-layer network.
    measure : RadonMeasure
        Its atoms. For a gated network, which has no such measure, the hyperplanes of the gates instead, one for each
        neuron, with weights a |w|.
    feature_names : list of str
        Names of the features.
    classes : array, optional
        Labels of the outputs.
    X : array of shape (n_samples, n_features), optional
        Samples.

    Attributes
    ----------
    ax_, figure_
        Axes and figure.
    artist_
        Stem lines, two scatters (positive and negative atoms), or image.
    order_ : int array
        Atoms, or with three and more features neurons, that are drawn, in their order.
    """

    def __init__(self, *, network, measure, feature_names, classes=None, X=None):
        self.network = network
        self.measure = measure
        self.feature_names = feature_names
        self.classes = classes
        self.X = X

    @classmethod
    def from_network(cls, network, X=None, *, feature_names=None, classes=None, ax=None, **kwargs):
        """Draw the neurons of a network.

        Parameters
        ----------
        network : Network
            Any two-layer network.
        X : array of shape (n_samples, n_features), optional
            Samples: marks on the axis of the knots, curves in the Radon domain; with more features, the share of
            samples on which each neuron is active.
        feature_names : list of str, optional
            Names of the features.
        classes : array, optional
            Labels of the outputs.
        ax, **kwargs
            As in ``plot``.

        Returns
        -------
        display : NeuronDisplay

        Raises
        ------
        ValueError
            When X or feature_names do not fit the network.
        """
        n_features = network.hidden_weights.shape[1]
        X = None if X is None else check_data(X)
        if X is not None and X.shape[1] != n_features:
            raise ValueError(f"X must have {n_features} features, got {X.shape[1]}.")
        display = cls(
            network=network,
            measure=radon_measure(network) if network.gate_weights is None else _gates(network),
            feature_names=check_names(feature_names, n_features),
            classes=classes,
            X=X,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, X=None, *, ax=None, **kwargs):
        """Draw the neurons of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With ``network_``; feature names and classes are taken from it.
        X, ax, **kwargs
            As in ``from_network``.

        Returns
        -------
        display : NeuronDisplay
        """
        return cls.from_network(fitted(estimator, "network_"), X, **names_of(estimator), ax=ax, **kwargs)

    def plot(self, ax=None, *, max_neurons=25, **kwargs):
        """Draw the neurons.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw, by default a new figure.
        max_neurons : int, default=25
            With three and more features, the rows of the heat map: the strongest neurons.
        **kwargs
            For the stems, the scatter or the image.

        Returns
        -------
        display : NeuronDisplay
        """
        if not max_neurons >= 1:
            raise ValueError(f"max_neurons must be at least 1, got {max_neurons!r}.")
        n_features = self.network.hidden_weights.shape[1]
        rows = min(self.network.n_neurons, max_neurons)
        size = (6.4, 4.4) if n_features < 3 else (min(3.4 + 0.45 * n_features, 12.0), 2.0 + 0.26 * rows)
        self.ax_ = new_axes(ax, size)[0]
        self.figure_ = self.ax_.figure
        if n_features > 2:
            return self._draw_weights(self.ax_, rows, kwargs)
        self.order_ = np.arange(len(self.measure.offsets))
        (self._draw_knots if n_features == 1 else self._draw_lines)(self.ax_, kwargs)
        if self.network.gate_weights is None:
            name = "total variation of the slope" if n_features == 1 else "second-order total variation"
            text, legend = f"{name} {self.measure.total_variation:.4g}", self.ax_.get_legend()
            if legend is None:
                self.ax_.set_title(text, loc="left")
            else:
                legend.set_title(text)
                legend.set_alignment("left")
        return self

    def _atoms(self):
        """The atoms as neurons, the sign of each, and its size."""
        measure = self.measure
        atoms = Network(measure.directions, -measure.offsets, measure.weights, hidden_bias="free")
        return atoms, outputs_and_signs(atoms)[1], atoms.path_norms

    def _draw_knots(self, ax, kwargs):
        atoms, signs, sizes = self._atoms()
        knots, heights, colors = self.measure.offsets, signs * sizes, neuron_colors(atoms)
        self.artist_ = ax.vlines(knots, 0.0, heights, **(dict(colors=colors, lw=2.2) | kwargs))
        facing = self.network.switches[0][:, 0]
        for k in self.order_:
            sides = set(np.sign(facing[self.measure.atom_of == k]))
            marker = "D" if len(sides) > 1 else ">" if 1.0 in sides else "<"
            own = dict(color=colors[k], ms=9 if len(sides) == 1 else 7, mec="white", mew=0.6)
            ax.plot(knots[k], heights[k], marker=marker, ls="", **own)
        ax.axhline(0.0, color="0.4", lw=0.8)
        if self.X is not None:
            ax.plot(self.X[:, 0], np.zeros(len(self.X)), "|", color="0.4", ms=9, zorder=0)
        ax.set_xlabel(f"{self.feature_names[0]} at the knot (arrowhead: active side; diamond: both)")
        ax.set_ylabel("change of slope, a |w|")
        ax.margins(y=0.12)
        legend_above(ax, neuron_handles(atoms, self.classes, "stem", name="knot"))

    def _draw_lines(self, ax, kwargs):
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        handles = []
        if self.X is not None:
            turns = np.linspace(-WRAP, 180 + WRAP, 393)
            rows = np.unique(self.X, axis=0)
            curves = rows @ np.vstack([np.cos(np.radians(turns)), np.sin(np.radians(turns))])
            ax.fill_between(turns, curves.min(axis=0), curves.max(axis=0), color="0.95", lw=0, zorder=0)
            lines = LineCollection([np.column_stack([turns, curve]) for curve in curves], zorder=0.5)
            shade = float(np.clip(3 / np.sqrt(len(rows)), 0.08, 0.6))
            ax.add_collection(lines).set(color="0.35", linewidth=0.9, alpha=shade, rasterized=len(rows) > 500)
            handles = [Line2D([], [], color="0.55", lw=1.2, label="lines through a sample")]
        atoms, signs, sizes = self._atoms()
        offsets, angles = self.measure.offsets, np.degrees(np.arctan2(*self.measure.directions.T[::-1]))
        largest = sizes.max(initial=0.0) or 1.0
        colors, areas = np.array(neuron_colors(atoms)), np.maximum(400 * sizes / largest, 20.0)
        options = dict(alpha=0.85, edgecolors="white", linewidths=0.7) | kwargs
        self.artist_ = []
        for sign, marker in ((1, "^"), (-1, "v")):
            here = np.flatnonzero(signs == sign)
            here = here[np.argsort(-areas[here])]
            look = dict(s=areas[here], c=colors[here], marker=marker) | options
            self.artist_.append(ax.scatter(angles[here], offsets[here], **look))
            for turn, edge in ((180, angles < WRAP), (-180, angles > 180 - WRAP)):
                again = here[edge[here]]
                look = dict(s=areas[again], c=colors[again], marker=marker) | options
                ax.scatter(angles[again] + turn, -offsets[again], **(look | dict(alpha=0.3)))
        for end in (0, 180):
            ax.axvline(end, color="0.4", lw=0.8, ls=":", zorder=0.6)
        ax.set(xlim=(-WRAP, 180 + WRAP), xticks=np.arange(0, 181, 30))
        ax.set_xlabel(f"angle of the line's normal in the plane ({', '.join(self.feature_names)}), degrees")
        ax.set_ylabel("offset of the line from the origin,\nin units of the features")
        if len(sizes) and "s" not in kwargs:
            # 1, 2 or 5 times a power of ten.
            power = 10.0 ** np.floor(np.log10(largest))
            top = power * max(digit for digit in (1, 2, 5) if digit * power <= largest * (1 + 1e-12))
            for weight in (top, top / 5):
                size = np.sqrt(400 * weight / largest)
                own = dict(ls="", marker="^", color="0.5", ms=size, mec="white", label=f"weight {weight:.3g}")
                handles.append(Line2D([], [], **own))
        name = "atom" if self.network.gate_weights is None else "gate"
        legend_above(ax, neuron_handles(atoms, self.classes, "marker", name=name) + handles)

    def _draw_weights(self, ax, rows, kwargs):
        network = self.network
        self.order_ = np.argsort(-network.path_norms, kind="stable")[:rows]
        inside, names = network.hidden_weights, list(self.feature_names)
        if network.hidden_bias != "free" and np.any(network.hidden_biases):
            inside, names = np.column_stack([inside, network.hidden_biases]), [*names, "bias"]
        if not rows:
            self.artist_ = ax.text(0.5, 0.5, "no neurons", ha="center", transform=ax.transAxes)
            return self
        lengths = np.linalg.norm(inside, axis=1, keepdims=True)
        weights = (inside / np.where(lengths > 0, lengths, 1.0))[self.order_]
        options = dict(cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest") | kwargs
        self.artist_ = ax.imshow(weights, **options)
        self.figure_.colorbar(self.artist_, ax=ax, label="unit weight")
        output, sign = outputs_and_signs(network)
        labels = output_labels(network, self.classes)
        share = None if self.X is None else (self.X @ network.switches[0].T + network.switches[1] > 0).mean(axis=0)
        ticks = []
        for j in self.order_:
            text = f"{'+' if sign[j] > 0 else '-'}{network.path_norms[j]:.3g}"
            text += "" if share is None else f" ({100 * share[j]:.0f} % active)"
            ticks.append(text if network.n_outputs == 1 else f"{labels[output[j]]}: {text}")
        ax.set_yticks(range(rows), ticks)
        ax.set_xticks(
            range(len(names)),
            names,
            rotation=45 if max(map(len, names)) > 3 else 0,
            ha="right" if max(map(len, names)) > 3 else "center",
        )
        ax.set_ylabel("neuron: signed path norm")
        return self


def _gates(network):
    """The hyperplanes where the gates of a gated network switch, each with the weights a |w| of its neuron."""
    lengths = np.linalg.norm(network.gate_weights, axis=1)
    open_or_shut = lengths == 0
    safe = np.where(open_or_shut, 1.0, lengths)
    directions, offsets = network.gate_weights / safe[:, None], -network.gate_biases / safe
    sign = upper_half(directions)
    weights = (network.output_weights.T * np.linalg.norm(network.hidden_weights, axis=1)).T
    kept = np.flatnonzero(~open_or_shut)
    atom_of = np.full(network.n_neurons, -1)
    atom_of[kept] = np.arange(len(kept))
    return RadonMeasure((directions * sign[:, None])[kept], (offsets * sign)[kept], weights[kept], atom_of)
