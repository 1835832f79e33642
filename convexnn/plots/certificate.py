"""CertificateDisplay: the dual function, which touches its limit at the neurons."""

from __future__ import annotations

import numpy as np

from convexnn.arrangements import check_data
from convexnn.plots.drawing import NEGATIVE, POSITIVE, check_names, fitted, legend_above, new_axes

# Share of a neuron's direction outside a plane up to which it is drawn in it.
IN_PLANE = 1e-6
# Entries of the matrix samples x points held at once.
BATCH = 4_000_000
OTHER_DATA = (
    "X must be the training data, in the order of the fit and without samples of weight zero: with this X the "
    "certificate would have {}."
)


class CertificateDisplay:
    r"""The dual function of a certificate: where it touches its limit, there are the neurons.

    A dual point theta proves a lower bound if no neuron u of length one has a *price* theta^T sigma(X u) above alpha,
    or below -alpha, with sigma the activation; at the optimum the price of every neuron with a positive output weight
    is alpha, with a negative one -alpha. Drawn is price / alpha over

    * the unit circle, if u has two entries: two features with ``hidden_bias="none"``, or the weight and bias of one
      feature with "penalized";
    * a circle through two neurons, if u has more entries: a slice of the function;
    * the knot of one feature with ``hidden_bias="free"``, for neurons active to the right and to the left;
    * directions of w with more features and a free bias: the largest and the smallest price over all biases.

    In a new figure a second axes shows on a logarithmic scale what is left to the limit. Neuron j with path norm r_j
    takes at least alpha r_j (1 - price / alpha) of the gap between objective and lower bound.

    Parameters
    ----------
    positions : array of shape (n_points,)
        Angles in degrees, or knots.
    prices : array of shape (n_curves, n_points)
        In units of alpha.
    curve_names : list of str
        One a curve.
    neurons : int array
        Neurons that lie in what is drawn.
    neuron_positions, neuron_prices, neuron_norms : arrays, shape of neurons
        Where they are, their price / alpha with its sign, their path norms.
    neuron_signs : int array
        Signs of the output weights.
    xlabel : str
        What the positions are.
    scope : str
        Of the certificate: only with "global" is it proved that no price exceeds alpha.

    Attributes
    ----------
    ax_, axes_, figure_
        The axes of the prices, all axes, the figure.
    lines_ : list of matplotlib lines
        The curves of prices.
    neurons_ : list of matplotlib collections
        Markers of positive and of negative neurons.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import CertificateDisplay, ConvexReLURegressor
    >>> X = np.linspace(-1, 1, 21)[:, None]
    >>> model = ConvexReLURegressor(alpha=0.1, patterns="exact", tol=1e-9).fit(X, np.abs(X[:, 0]))
    >>> display = CertificateDisplay.from_estimator(model, X)
    >>> bool(abs(display.prices).max() <= 1 + 1e-9)
    True
    >>> bool(np.allclose(display.neuron_prices, display.neuron_signs, atol=1e-5))
    True
    >>> import matplotlib.pyplot as plt
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, positions, prices, curve_names, neurons, neuron_positions, neuron_prices, neuron_norms, neuron_signs,
        xlabel, scope,
    ):  # fmt: skip
        self.positions = positions
        self.prices = prices
        self.curve_names = curve_names
        self.neurons = neurons
        self.neuron_positions = neuron_positions
        self.neuron_prices = neuron_prices
        self.neuron_norms = neuron_norms
        self.neuron_signs = neuron_signs
        self.xlabel = xlabel
        self.scope = scope

    @classmethod
    def from_certificate(
        cls, certificate, X, *, plane=None, output=0, n_points=1441, feature_names=None, ax=None, **kwargs
    ):
        """Draw the prices of a certificate.

        Parameters
        ----------
        certificate : Certificate
            With its network, of neurons without gates.
        X : array of shape (n_samples, n_features)
            The training data in their order, without samples of weight zero.
        plane : pair of neurons (ints) or array of shape (2, n_entries), optional
            For a slice: two neurons to draw the circle through, or two vectors that span its plane (with a last entry
            for a penalised bias). By default the two strongest neurons of different direction that feed the output.
        output : int, default=0
            With several outputs, which column of theta.
        n_points : int, default=1441
            Points of the curves; neurons are added to them.
        feature_names : list of str, optional
            Names of the features.
        ax, **kwargs
            As in ``plot``.

        Returns
        -------
        display : CertificateDisplay

        Raises
        ------
        ValueError
            When the certificate has no dual point or network, X is not the training data, or an option does not fit.
        """
        network, X = certificate.network, check_data(X)
        if network is None or not np.isfinite(certificate.lower_bound + certificate.alpha):
            raise ValueError("certificate must have a network, an alpha and a lower bound, got one without.")
        if network.gate_weights is not None:
            raise ValueError(
                "certificate must be of a network without gates, got a gated one: its prices belong to pairs of a gate "
                "and a weight, and are no function on the circle."
            )
        activation = network.activation
        names, kind = check_names(feature_names, network.hidden_weights.shape[1]), certificate.hidden_bias
        theta = np.asarray(certificate.theta, dtype=float).reshape(len(certificate.theta), -1)
        if X.shape != (len(theta), len(names)):
            raise ValueError(
                f"X must be the training data of shape {(len(theta), len(names))}, samples of weight zero left out, "
                f"got shape {X.shape}."
            )
        if isinstance(output, bool) or not (isinstance(output, (int, np.integer)) and 0 <= output < theta.shape[1]):
            raise ValueError(f"output must be an integer from 0 to {theta.shape[1] - 1}, got {output!r}.")
        # What the penalty leaves beyond the prices is part of the gap, whatever the loss: for other data it is not.
        outer = network.output_weights.reshape(network.n_neurons, network.n_outputs)
        slack = certificate.alpha * network.path_norms.sum() - float((theta * (network.hidden(X) @ outer)).sum())
        rounding = 1e-6 * max(abs(certificate.objective), 1e-3 * np.abs(theta).sum())
        if slack > certificate.gap + rounding:
            raise ValueError(OTHER_DATA.format("neurons whose prices are too low for its gap"))

        t = theta[:, output] / certificate.alpha
        fed = np.flatnonzero((outer[:, output] != 0) & (network.path_norms > 0))
        inside = np.column_stack([network.hidden_weights, network.hidden_biases])[fed]
        lengths = np.linalg.norm(inside[:, :-1] if kind == "free" else inside, axis=1, keepdims=True)
        units = inside / lengths
        price_of = activation(X @ units[:, :-1].T + units[:, -1]).T @ t
        if kind == "free" and len(names) == 1:
            if plane is not None:
                raise ValueError("plane must be None for one feature: all neurons are in the picture.")
            where, shown = -units[:, 1] / units[:, 0], np.arange(len(fed))
            ends = X.min() - 0.05 * np.ptp(X), X.max() + 0.05 * np.ptp(X)
            positions = np.unique(np.concatenate([np.linspace(*ends, n_points), X[:, 0], where]))
            right = _in_batches(lambda k: activation(X - positions[k]).T @ t, positions, X)
            left = _in_batches(lambda k: activation(positions[k] - X).T @ t, positions, X)
            prices, curves = np.array([right, left]), ["active to the right", "active to the left"]
            xlabel = f"{names[0]} at the knot of the neuron"
        else:
            rows = np.column_stack([X, np.ones(len(X))]) if kind == "penalized" else X
            entries = [*names, "bias"] if kind == "penalized" else names
            u = units if kind == "penalized" else units[:, :-1]
            basis, xlabel = _plane(plane, u, fed, network.path_norms[fed], entries)
            shown = np.flatnonzero(np.linalg.norm(u - u @ basis.T @ basis, axis=1) < IN_PLANE)
            where = np.degrees(np.arctan2(*(basis @ u[shown].T)[::-1]))
            positions = np.unique(np.concatenate([np.linspace(-180.0, 180.0, n_points), where]))
            turn = np.radians(positions)
            circle, shadow = np.column_stack([np.cos(turn), np.sin(turn)]), rows @ basis.T
            if kind == "free":
                prices = _in_batches(lambda k: _extreme_prices(shadow @ circle[k].T, t, activation), positions, X)
                curves = ["largest price over all biases", "smallest"]
            else:
                prices = _in_batches(lambda k: activation(shadow @ circle[k].T).T @ t, positions, X)[None]
                curves = ["price of u"]
        if certificate.scope == "global" and np.abs(prices).max() > 1 + 1e-6:
            raise ValueError(OTHER_DATA.format(f"a price of {np.abs(prices).max():.6g} alpha, which it excludes"))
        display = cls(
            positions=positions,
            prices=prices,
            curve_names=curves,
            neurons=fed[shown],
            neuron_positions=where,
            neuron_prices=price_of[shown],
            neuron_norms=network.path_norms[fed[shown]],
            neuron_signs=np.where(outer[fed[shown], output] < 0, -1, 1),
            xlabel=xlabel,
            scope=certificate.scope,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, X, *, plane=None, output=0, n_points=1441, ax=None, **kwargs):
        """Draw the prices of a fitted estimator's certificate.

        Parameters
        ----------
        estimator : fitted estimator
            With ``certificate_``; feature names are taken from it.
        X, plane, output, n_points, ax, **kwargs
            As in ``from_certificate``.

        Returns
        -------
        display : CertificateDisplay

        Raises
        ------
        ValueError
            As in ``from_certificate``.
        """
        certificate = fitted(estimator, "certificate_")
        options = dict(plane=plane, output=output, n_points=n_points, ax=ax)
        names = getattr(estimator, "feature_names_in_", None)
        return cls.from_certificate(certificate, X, feature_names=names, **options, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the prices, the limits and the neurons.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw the prices; by default a new figure, with what is left to the limit below.
        **kwargs
            For the curves.

        Returns
        -------
        display : CertificateDisplay
        """
        size, ratios = (6.6, 5.2), dict(height_ratios=[2.2, 1.0])
        self.axes_ = new_axes(ax, size, 2, sharex=True, gridspec_kw=ratios)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        top = max(1.18, 1.05 * np.abs(self.prices).max())
        self.ax_.axhspan(1.0, top, color="0.92", lw=0)
        self.ax_.axhspan(
            -top,
            -1.0,
            color="0.92",
            lw=0,
            label="excluded by the proof" if self.scope == "global" else "beyond the limit",
        )
        for level in (1.0, -1.0):
            self.ax_.axhline(level, color="black", lw=1.0)
        self.ax_.axhline(0.0, color="0.7", lw=0.8)
        self.lines_ = []
        for prices, name, dash in zip(self.prices, self.curve_names, ("-", (0, (5, 1.5)))):
            style = dict(color="black", lw=1.8, ls=dash, label=name) | kwargs
            self.lines_ += self.ax_.plot(self.positions, prices, **style)
            for ax, sign, color in ((ax, s, c) for ax in self.axes_[1:] for s, c in ((1, POSITIVE), (-1, NEGATIVE))):
                left = np.where((sign * prices > 0) & (sign * prices < 1), 1 - sign * prices, np.nan)
                ax.plot(self.positions, left, color=color, lw=1.5, ls=dash)
        areas = 30 + 80 * self.neuron_norms / self.neuron_norms.max(initial=1e-300)
        self.neurons_ = []
        for sign, color, marker, word in ((1, POSITIVE, "^", "positive"), (-1, NEGATIVE, "v", "negative")):
            here = self.neuron_signs == sign
            look = dict(
                s=areas[here], color=color, marker=marker, edgecolors="white", linewidths=0.7, zorder=5, clip_on=False
            )
            place = self.neuron_positions[here], self.neuron_prices[here]
            self.neurons_.append(self.ax_.scatter(*place, label=f"{word} neuron" if here.any() else None, **look))
            for ax in self.axes_:
                for position in place[0]:
                    ax.axvline(position, color=color, lw=0.8, ls=":", zorder=0)
        for ax in self.axes_[1:]:
            ax.set_yscale("log")
            ax.set_ylim(max(ax.get_ylim()[0], 1e-12), 2.0)
            ax.set_ylabel("1 - |price| / alpha")
        if "degrees" in self.xlabel:
            self.ax_.set(xlim=(-180, 180), xticks=np.arange(-180, 181, 60))
        self.ax_.set(ylim=(-top, top), ylabel="price / alpha")
        self.axes_[-1].set_xlabel(self.xlabel)
        legend_above(self.ax_)
        return self


def _in_batches(prices_at, positions, X):
    """prices_at(slice) for slices of the positions, joined along the last axis."""
    step = max(1, BATCH // len(X))
    parts = [prices_at(slice(k, k + step)) for k in range(0, len(positions), step)]
    return np.concatenate(parts, axis=-1)


def _extreme_prices(shadow, t, activation):
    """Largest and smallest t^T sigma(p + b) over all b, for each column p of shadow: it bends only at b = -p_i.

    Beyond the data it is constant, since t sums to zero.
    """
    order = np.argsort(-shadow, axis=0)
    p, t = np.take_along_axis(shadow, order, axis=0), t[order]
    # With p falling, the first k samples are active at b = -p_k.
    prices = activation.kink * (np.cumsum(t * p, axis=0) - p * np.cumsum(t, axis=0))
    prices += activation.slope * np.sum(t * p, axis=0)
    return np.array([prices.max(axis=0), prices.min(axis=0)])


def _plane(plane, units, neurons, norms, entries):
    """Orthonormal basis, as rows, of the plane of a circle, and what its angle means."""
    size, strongest = len(entries), np.argsort(-norms, kind="stable")
    if size < 2:
        raise ValueError(
            'X must have at least 2 features with hidden_bias="none", got 1: there are two neurons, u = 1 and u = -1.'
        )
    if size == 2:
        if plane is not None:
            raise ValueError(f"plane must be None for u = ({', '.join(entries)}): all neurons are in the picture.")
        return np.eye(2), f"angle of u = ({', '.join(entries)}), degrees"
    given = None if plane is None else np.asarray(plane)
    if given is None:
        candidates, names = (
            np.vstack([units[strongest], np.eye(size)]),
            [*(f"neuron {j}" for j in neurons[strongest]), *entries],
        )
    elif given.shape == (2,) and given.dtype.kind in "iu":
        if not np.isin(given, neurons).all():
            raise ValueError(f"plane must hold neurons that feed the output, of {neurons.tolist()}, got {plane}.")
        candidates = units[[int(np.flatnonzero(neurons == j)[0]) for j in given]]
        names = [f"neuron {j}" for j in given]
    elif given.shape == (2, size) and np.isfinite(given).all() and given.any(axis=1).all():
        candidates, names = given / np.linalg.norm(given, axis=1, keepdims=True), ["the first", "the second vector"]
    else:
        raise ValueError(f"plane must be a pair of neurons or two finite vectors of {size} entries, got {plane!r}.")
    for candidate, name in zip(candidates[1:], names[1:]):
        across = candidate - candidates[0] * (candidates[0] @ candidate)
        if np.linalg.norm(across) > 1e-3:
            basis = np.array([candidates[0], across / np.linalg.norm(across)])
            return basis, f"angle of u from {names[0]} towards {name}, degrees"
    raise ValueError(f"plane must be spanned by two vectors of different directions, got {plane!r}.")
