"""What the displays share: axes, legends, colours, and what they read from estimators and networks.

Orange red is positive and blue negative throughout; the colours are those of Okabe & Ito, which colour-blind readers
can tell apart. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

POSITIVE, NEGATIVE = "#D55E00", "#0072B2"
#: One colour and marker an output or class, of three and more.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def pyplot():
    """matplotlib.pyplot, or an ImportError that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('displays need matplotlib: pip install "convexnn[plot]"') from error
    return plt


def new_axes(ax, size, n_rows=1, **options):
    """The axes to draw on: the given one, or n_rows new ones below each other."""
    plt = pyplot()
    if ax is not None:
        return np.array([ax])
    _, axes = plt.subplots(n_rows, figsize=size, squeeze=False, layout="constrained", **options)
    for ax in axes[:, 0]:
        ax.set_prop_cycle(color=COLORS)
    return axes[:, 0]


def legend_above(ax, handles=None):
    """A legend over the axes, where no data are, in as many columns as fit."""
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    if not handles:
        return
    if ax.get_legend():
        ax.get_legend().remove()
    # The layout decides how wide the axes are; the canvas knows the figure that a subfigure belongs to.
    ax.figure.canvas.figure.draw_without_rendering()
    place = dict(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2, columnspacing=1.2, handlelength=1.8)
    for ncols in range(len(handles), 0, -1):
        legend = ax.legend(handles=handles, ncols=ncols, frameon=False, **place)
        if legend.get_window_extent().width <= ax.get_window_extent().width:
            break


def fitted(estimator, attribute):
    """The fitted attribute of an estimator; ValueError for a pipeline, whose last step is meant."""
    if hasattr(estimator, "steps"):
        raise ValueError(
            "estimator must be a convexnn estimator, got a pipeline; pass its last step, model[-1], and X as the other "
            "steps leave it, model[:-1].transform(X)."
        )
    check_is_fitted(estimator)
    if not hasattr(estimator, attribute):
        raise ValueError(f"estimator must have the attribute {attribute}, got {type(estimator).__name__} without it.")
    return getattr(estimator, attribute)


def names_of(estimator):
    """Feature names and class labels of an estimator, None where it has none."""
    return dict(
        feature_names=getattr(estimator, "feature_names_in_", None), classes=getattr(estimator, "classes_", None)
    )


def check_names(names, n_features):
    names = [f"x{j}" for j in range(n_features)] if names is None else [str(name) for name in names]
    if len(names) != n_features:
        raise ValueError(f"feature_names must have {n_features} entries, got {len(names)}.")
    return names


def outputs_and_signs(network):
    """For each neuron the output that it feeds most, and the sign of that weight."""
    weights = network.output_weights.reshape(network.n_neurons, network.n_outputs)
    output = np.argmax(np.abs(weights), axis=1)
    return output, np.where(np.take_along_axis(weights, output[:, None], axis=1)[:, 0] < 0, -1, 1)


def neuron_colors(network):
    """A colour a neuron: by sign for one output, by output for several."""
    output, sign = outputs_and_signs(network)
    if network.n_outputs > 1:
        return [COLORS[k % len(COLORS)] for k in output]
    return [POSITIVE if s > 0 else NEGATIVE for s in sign]


def output_labels(network, classes):
    labels = range(network.n_outputs) if classes is None else classes
    return [f"{'output' if classes is None else 'class'} {label}" for label in labels]


def neuron_handles(network, classes, kind, classes_shown=False, name="neuron"):
    """Legend entries for the colours of neurons: "line" (dashed if negative), "stem" or "marker" (down if negative).

    One for all where the legend shows the colours of the classes already.
    """
    from matplotlib.lines import Line2D

    def handle(color, label, sign):
        style: dict = dict(ls="--" if sign < 0 and kind == "line" else "-", lw=2.5)
        if kind == "marker":
            style = dict(ls="", marker="^" if sign > 0 else "v", ms=8)
        return Line2D([], [], color=color, label=label, **style)

    output, sign = outputs_and_signs(network)
    if network.n_outputs == 1:
        pairs = ((POSITIVE, f"positive {name}", 1), (NEGATIVE, f"negative {name}", -1))
        return [handle(*pair) for pair in pairs if pair[2] in sign]
    labels = output_labels(network, classes)
    handles = [handle(COLORS[k % len(COLORS)], f"{name} of {labels[k]}", 1) for k in np.unique(output)]
    if classes_shown:
        handles = [handle("black", "neuron of the class", 1)]
    return handles + [handle("black", "negative weight", -1)] if -1 in sign and kind != "stem" else handles
