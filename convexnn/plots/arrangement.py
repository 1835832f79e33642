"""ArrangementDisplay: how the neurons of a network cut the plane of two features."""

from __future__ import annotations

import numpy as np

from convexnn.arrangements import check_data
from convexnn.plots.drawing import (
    COLORS,
    MARKERS,
    NEGATIVE,
    POSITIVE,
    check_names,
    fitted,
    legend_above,
    names_of,
    neuron_colors,
    neuron_handles,
    new_axes,
    outputs_and_signs,
)


class ArrangementDisplay:
    r"""The input plane of a network with two features: cells, the lines where neurons switch, and the data.

    Each neuron's line w^T x + b = 0 is drawn with an arrow to the side on which the neuron is active, its width by the
    path norm. Colour is the sign of the output weight (dashed when negative), with three and more classes the class it
    feeds. Within a cell between lines the network is linear.

    Parameters
    ----------
    network : Network
        Two features, with or without hidden biases. Gated networks switch at their gates.
    X : array of shape (n_samples, 2)
        Samples.
    y : array of shape (n_samples,), optional
        Targets or class labels; colours the samples.
    xx0, xx1 : arrays of shape (grid_resolution, grid_resolution)
        Grid over the window.
    response : array of the grid's shape
        Number of active neurons, or prediction (three and more classes: index of the class).
    background : {"cells", "prediction"}
        Which of them.
    segments : array of shape (n_neurons, 2, 2)
        End points of each neuron's line within the window; NaN when it does not meet the window.
    n_cells : int
        Number of cells in the window, counted from the lines: exact, apart from rounding.
    feature_names : list of str
        Names of the axes.
    classes : array, optional
        Class labels: y is of these.

    Attributes
    ----------
    ax_, figure_
        Axes and figure.
    surface_, lines_, arrows_, samples_
        Background, line collection, arrows, list of scatters (one for each class).

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import ArrangementDisplay, Network
    >>> network = Network(np.eye(2), np.zeros(2), np.array([1.0, -1.0]))
    >>> display = ArrangementDisplay.from_network(network, [[-1.0, -1.0], [1.0, 1.0]])
    >>> display.n_cells
    4
    >>> import matplotlib.pyplot as plt
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, network, X, y=None, xx0, xx1, response, background, segments, n_cells, feature_names, classes=None
    ):  # fmt: skip
        self.network = network
        self.X = X
        self.y = y
        self.xx0 = xx0
        self.xx1 = xx1
        self.response = response
        self.background = background
        self.segments = segments
        self.n_cells = n_cells
        self.feature_names = feature_names
        self.classes = classes

    @classmethod
    def from_network(
        cls, network, X, y=None, *, background="cells", grid_resolution=300, margin=0.1, feature_names=None,
        classes=None, ax=None, **kwargs,
    ):  # fmt: skip
        """Draw a network.

        Parameters
        ----------
        network : Network
            With two features.
        X : array of shape (n_samples, 2)
            Samples; they also set the window.
        y : array of shape (n_samples,), optional
            Targets or class labels.
        background : {"cells", "prediction"}, default="cells"
            The darker a cell, the more neurons are active in it; or contours of the prediction.
        grid_resolution : int, default=300
            Points of the grid in each direction.
        margin : float, default=0.1
            Margin around the samples as a share of their range.
        feature_names : list of str, optional
            Names of the axes.
        classes : array, optional
            Class labels, when y holds classes.
        ax, **kwargs
            As in ``plot``.

        Returns
        -------
        display : ArrangementDisplay

        Raises
        ------
        ValueError
            When the network has not two features, or X, y or an option does not fit.
        """
        X, n_features = check_data(X), network.hidden_weights.shape[1]
        if n_features != 2 or X.shape[1] != 2:
            raise ValueError(f"X must have exactly 2 features, as must the network, got {X.shape[1]} and {n_features}.")
        if background not in ("cells", "prediction"):
            raise ValueError(f'background must be "cells" or "prediction", got {background!r}.')
        if y is not None and np.shape(y) != (len(X),):
            raise ValueError(f"y must have shape ({len(X)},) to match X, got {np.shape(y)}.")
        y = None if y is None else np.asarray(y)
        if classes is not None and y is not None and not np.isin(y, classes).all():
            raise ValueError(f"y must hold labels of {list(classes)}, got {np.setdiff1d(y, classes)[:3].tolist()}.")
        if classes is None and y is not None and y.dtype.kind not in "biuf":
            raise ValueError(f"y must be numbers, or of the labels given as classes, got dtype {y.dtype}.")
        low, high = X.min(axis=0), X.max(axis=0)
        around = margin * np.where(high > low, high - low, 1.0)
        low, high = low - around, high + around
        weights, biases = network.switches
        segments = np.array([_clip(w, b, low, high) for w, b in zip(weights, biases)]).reshape(-1, 2, 2)
        xx0, xx1 = np.meshgrid(*(np.linspace(low[k], high[k], grid_resolution) for k in range(2)))
        grid = np.column_stack([xx0.ravel(), xx1.ravel()])
        if background == "cells":
            response = (grid @ weights.T + biases > 0).sum(axis=1)
        else:
            response = network.predict(grid).reshape(len(grid), -1)
            response = response.argmax(axis=1) if network.n_outputs > 1 else response[:, 0]
        display = cls(
            network=network,
            X=X,
            y=y,
            xx0=xx0,
            xx1=xx1,
            response=response.reshape(xx0.shape),
            background=background,
            segments=segments,
            n_cells=_count_cells(segments, low, high),
            feature_names=check_names(feature_names, 2),
            classes=classes,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, background="cells", grid_resolution=300, margin=0.1, ax=None, **kwargs
    ):
        """Draw a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            With ``network_``; feature names and classes are taken from it.
        X, y, background, grid_resolution, margin, ax, **kwargs
            As in ``from_network``.

        Returns
        -------
        display : ArrangementDisplay

        Raises
        ------
        ValueError
            As in ``from_network``.
        """
        network = fitted(estimator, "network_")
        options = dict(background=background, grid_resolution=grid_resolution, margin=margin, ax=ax)
        return cls.from_network(network, X, y, **names_of(estimator), **options, **kwargs)

    def plot(self, ax=None, *, line_kw=None, scatter_kw=None):
        """Draw cells, lines and samples.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw, by default a new figure.
        line_kw, scatter_kw : dict, optional
            For the lines of the neurons and for the samples.

        Returns
        -------
        display : ArrangementDisplay
        """
        self.ax_ = ax = new_axes(ax, (6.4, 5.2))[0]
        from matplotlib.collections import LineCollection
        from matplotlib.colors import CenteredNorm, LinearSegmentedColormap, ListedColormap, Normalize
        from matplotlib.patches import Patch

        self.figure_ = ax.figure
        many = self.network.n_outputs > 1
        real = self.classes is None and self.y is not None
        handles, scale = [], {}
        if self.background == "cells":
            grey = LinearSegmentedColormap.from_list("cells", ["white", "0.78"])
            self.surface_ = ax.pcolormesh(
                self.xx0, self.xx1, self.response, cmap=grey, shading="nearest", rasterized=True
            )
            handles.append(Patch(facecolor="0.85", label=f"{self.n_cells} cells, darker: more active"))
        elif many:
            tints = ListedColormap([COLORS[k % len(COLORS)] for k in range(self.network.n_outputs)])
            options = dict(cmap=tints, vmin=-0.5, vmax=self.network.n_outputs - 0.5, shading="nearest", rasterized=True)
            self.surface_ = ax.pcolormesh(self.xx0, self.xx1, self.response, alpha=0.25, **options)
        elif self.classes is None:
            shown = [self.response, self.y] if real else [self.response]
            scale = dict(norm=Normalize(min(map(np.min, shown)), max(map(np.max, shown))))
            self.surface_ = ax.contourf(self.xx0, self.xx1, self.response, 15, cmap="cividis", zorder=0, **scale)
        else:
            both = LinearSegmentedColormap.from_list("signs", ["#80B8D9", "white", "#EAAE80"])
            options = dict(cmap=both, norm=CenteredNorm(halfrange=np.abs(self.response).max() or 1.0), zorder=0)
            self.surface_ = ax.contourf(self.xx0, self.xx1, self.response, 15, **options)
            if self.response.min() < 0 < self.response.max():
                ax.contour(self.xx0, self.xx1, self.response, levels=[0.0], colors="black", linewidths=1.2)
        crowd = np.sqrt(max(1.0, self.network.n_neurons / 20))
        norms, signs = self.network.path_norms, outputs_and_signs(self.network)[1]
        options = dict(
            colors=neuron_colors(self.network),
            linewidths=(1.2 + 2.8 * np.sqrt(norms / (norms.max(initial=0.0) or 1.0))) / crowd,
            linestyles=["-" if sign > 0 else (0, (4, 1.5)) for sign in signs],
            zorder=2,
        )
        self.lines_ = ax.add_collection(LineCollection(self.segments, **(options | (line_kw or {}))))
        # At right angles to the line when the window is drawn as a square.
        ranges = np.array([np.ptp(self.xx0), np.ptp(self.xx1)])
        there = np.isfinite(self.segments[:, 0, 0])
        normals = (self.network.switches[0] * ranges)[there]
        normals = ranges * normals / np.linalg.norm(normals, axis=1, keepdims=True)
        colors = [color for color, shown in zip(neuron_colors(self.network), there) if shown]
        # Off the middle, where lines cross; twins of opposite direction get an arrow at each end.
        feet = 0.8 * self.segments[there][:, 0] + 0.2 * self.segments[there][:, 1]
        fixed = dict(angles="xy", scale_units="xy", scale=1, width=0.006 / crowd, zorder=4)
        self.arrows_ = ax.quiver(*feet.T, *(0.06 * normals).T, color=colors, **fixed)
        self.samples_ = []
        look = dict(
            s=np.clip(26 * np.sqrt(300 / len(self.X)), 4, 26),
            edgecolors="white",
            linewidths=0.6 if len(self.X) < 1000 else 0,
            zorder=3,
        )
        if self.y is None or real:
            look |= dict(color="black") if self.y is None else dict(c=self.y, cmap="cividis", **scale)
            self.samples_ = [ax.scatter(*self.X.T, **(look | (scatter_kw or {})))]
        else:
            palette = COLORS if many else (NEGATIVE, POSITIVE)
            for k, label in enumerate(self.classes):
                own = dict(color=palette[k % len(palette)], marker=MARKERS[k % len(MARKERS)], label=f"class {label}")
                chosen = self.X[self.y == label]
                self.samples_.append(ax.scatter(*chosen.T, **(look | own | (scatter_kw or {}))))
        if real:
            label = "target y" if self.background == "cells" else "prediction (plane) and target y (samples)"
            self.figure_.colorbar(self.samples_[0], ax=ax, label=label)
        elif self.background == "prediction" and not many:
            label = "prediction" if self.classes is None else f"score, positive for class {self.classes[-1]}"
            self.figure_.colorbar(self.surface_, ax=ax, label=label)
        ax.set(xlim=(self.xx0.min(), self.xx0.max()), ylim=(self.xx1.min(), self.xx1.max()))
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        labelled = [] if self.y is None or real else self.samples_
        neurons = neuron_handles(self.network, self.classes, "line", bool(labelled))
        legend_above(ax, labelled + neurons + handles)
        return self


def _clip(w, b, low, high):
    """End points of the line w^T x + b = 0 in the box [low, high], NaN when it stays outside."""
    nothing = np.full((2, 2), np.nan)
    if not np.any(w):
        return nothing
    foot, along = -b * w / (w @ w), np.array([-w[1], w[0]]) / np.linalg.norm(w)
    ends = [-np.inf, np.inf]
    for k in range(2):
        if along[k] == 0:
            if not low[k] <= foot[k] <= high[k]:
                return nothing
            continue
        t = sorted([(low[k] - foot[k]) / along[k], (high[k] - foot[k]) / along[k]])
        ends = [max(ends[0], t[0]), min(ends[1], t[1])]
    return nothing if ends[0] >= ends[1] else foot + np.outer(ends, along)


def _count_cells(segments, low, high):
    """Cells that lines make in a box: 1 + lines + sum over crossings inside of (lines through it - 1)."""
    lines = (segments[np.isfinite(segments[:, 0, 0])] - low) / (high - low)
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    normal = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)
    offset = (normal * start).sum(axis=1)
    flip = np.where((normal[:, 0] < -1e-9) | ((np.abs(normal[:, 0]) <= 1e-9) & (normal[:, 1] < 0)), -1.0, 1.0)
    keys = np.unique(np.round(np.column_stack([normal, offset]) * flip[:, None], 9) + 0.0, axis=0)
    i, j = np.triu_indices(len(keys), 1)
    cross = keys[i, 0] * keys[j, 1] - keys[i, 1] * keys[j, 0]
    i, j, cross = i[np.abs(cross) > 1e-9], j[np.abs(cross) > 1e-9], cross[np.abs(cross) > 1e-9]
    points = np.column_stack([
        (keys[i, 2] * keys[j, 1] - keys[j, 2] * keys[i, 1]) / cross,
        (keys[i, 0] * keys[j, 2] - keys[j, 0] * keys[i, 2]) / cross,
    ])  # fmt: skip
    inside = points[((points > 1e-9) & (points < 1 - 1e-9)).all(axis=1)]
    pairs = np.unique(np.round(inside, 7) + 0.0, axis=0, return_counts=True)[1]
    # k lines through a point are k (k - 1) / 2 pairs.
    through = np.round((1 + np.sqrt(1 + 8 * pairs)) / 2).astype(int)
    return 1 + len(keys) + int((through - 1).sum())
