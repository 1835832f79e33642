"""NeuronDisplay: where the neurons of a network are, and how strong."""

from __future__ import annotations

import numpy as np

from convexnn.arrangements import check_data
from convexnn.plots.drawing import (
    check_names,
    fitted,
    hyperplanes,
    legend_above,
    names_of,
    neuron_colors,
    neuron_handles,
    new_axes,
    output_labels,
    outputs_and_signs,
)


class NeuronDisplay:
    r"""Where the neurons of a network are, and how strong.

    One feature: the knots, each with the change of slope a |w|. Two features: angle of w and signed distance -b / |w|
    of the line from the origin, the coordinates in which a network is a sum of points (the Radon domain); areas are
    |w| |a|. More features: a heat map of the weights, divided by the norm that the weight decay counts, the strongest
    neurons first.

    Parameters
    ----------
    network : Network
        Any two-layer network. Gated networks with one or two features are placed by their gates.
    directions : array of shape (n_neurons, n_features)
        Weights divided by their length.
    offsets : array of shape (n_neurons,)
        -b / |w|: the neuron switches where the direction's coordinate of x is this.
    strengths : array of shape (n_neurons,)
        |w| |a| with the sign of the output weight.
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
        Stem lines, two scatters (positive and negative neurons), or image.
    order_ : int array
        Neurons that are drawn, in their order.
    """

    def __init__(self, *, network, directions, offsets, strengths, feature_names, classes=None, X=None):
        self.network = network
        self.directions = directions
        self.offsets = offsets
        self.strengths = strengths
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
            Samples: marks where knots and lines meet the data; with more features, the share of samples on which each
            neuron is active.
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
        weights, biases = hyperplanes(network)
        lengths = np.linalg.norm(weights, axis=1)
        safe = np.where(lengths > 0, lengths, np.nan)
        outer = np.linalg.norm(network.output_weights.reshape(network.n_neurons, network.n_outputs), axis=1)
        display = cls(
            network=network,
            directions=weights / safe[:, None],
            offsets=-biases / safe,
            strengths=outputs_and_signs(network)[1] * np.linalg.norm(network.hidden_weights, axis=1) * outer,
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
        self.order_ = np.flatnonzero(np.isfinite(self.offsets))
        return (self._draw_knots if n_features == 1 else self._draw_lines)(self.ax_, kwargs)

    def _draw_knots(self, ax, kwargs):
        chosen = self.order_
        knots = self.offsets[chosen] * self.directions[chosen, 0]
        heights, colors = self.strengths[chosen], np.array(neuron_colors(self.network))[chosen]
        self.artist_ = ax.vlines(knots, 0.0, heights, **(dict(colors=colors, lw=2.2) | kwargs))
        for knot, height, color, side in zip(knots, heights, colors, self.directions[chosen, 0]):
            ax.plot(knot, height, marker=">" if side > 0 else "<", color=color, ms=9, ls="", mec="white", mew=0.6)
        ax.axhline(0.0, color="0.4", lw=0.8)
        if self.X is not None:
            ax.plot(self.X[:, 0], np.zeros(len(self.X)), "|", color="0.4", ms=9, zorder=0)
        ax.set_xlabel(f"{self.feature_names[0]} at the knot (arrowhead: where the neuron is active)")
        ax.set_ylabel("change of slope, a |w|")
        ax.margins(y=0.12)
        legend_above(ax, neuron_handles(self.network, self.classes, "stem"))
        return self

    def _draw_lines(self, ax, kwargs):
        chosen = self.order_
        if self.X is not None:
            turns = np.linspace(-np.pi, np.pi, 361)
            shadows = self.X @ np.vstack([np.cos(turns), np.sin(turns)])
            band = dict(color="0.9", lw=0, zorder=0, label="lines that meet the data's hull")
            ax.fill_between(np.degrees(turns), shadows.min(axis=0), shadows.max(axis=0), **band)
        strengths, signs = np.abs(self.strengths[chosen]), outputs_and_signs(self.network)[1][chosen]
        angles = np.degrees(np.arctan2(self.directions[chosen, 1], self.directions[chosen, 0]))
        colors, areas = np.array(neuron_colors(self.network))[chosen], 400 * strengths / strengths.max(initial=1e-300)
        options = dict(alpha=0.85, edgecolors="white", linewidths=0.7) | kwargs
        self.artist_ = []
        for sign, marker in ((1, "^"), (-1, "v")):
            here = np.flatnonzero(signs == sign)
            here = here[np.argsort(-areas[here])]
            own = dict(s=np.maximum(areas[here], 20.0), c=colors[here], marker=marker)
            self.artist_.append(ax.scatter(angles[here], self.offsets[chosen][here], **(own | options)))
        ax.set(xlim=(-184, 184), xticks=np.arange(-180, 181, 60))
        ax.set_xlabel(f"angle of w in the plane ({self.feature_names[0]}, {self.feature_names[1]}), degrees")
        ax.set_ylabel("distance of the line from the origin, -b / |w|")
        handles = ax.get_legend_handles_labels()[0]
        legend_above(ax, neuron_handles(self.network, self.classes, "marker") + handles)
        return self

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
        share = (
            None if self.X is None else (self.X @ hyperplanes(network)[0].T + hyperplanes(network)[1] > 0).mean(axis=0)
        )
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
