"""Displays: what is drawn is what the formulas say, on the axes that were given."""

import sys
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color, to_rgba
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import (
    ArrangementDisplay,
    CertificateDisplay,
    ConvergenceDisplay,
    ConvexReLUClassifier,
    ConvexReLURegressor,
    Network,
    NeuronDisplay,
    PathDisplay,
    certify,
)

POSITIVE, NEGATIVE = "#D55E00", "#0072B2"
KINDS = ("penalized", "free", "none")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fits():
    """Tight fits over all patterns: (number of features, hidden_bias) -> model and data."""
    rng, found = np.random.default_rng(0), {}
    for d, kind in [
        (1, "penalized"),
        (1, "free"),
        (1, "none"),
        (2, "penalized"),
        (2, "free"),
        (2, "none"),
        (3, "none"),
        (3, "free"),
    ]:
        X = rng.standard_normal((11, d))
        y = np.abs(X[:, 0]) - np.maximum(X.sum(axis=1), 0) + 0.3 * rng.standard_normal(11)
        model = ConvexReLURegressor(alpha=0.05, hidden_bias=kind, patterns="exact", tol=1e-8)
        found[d, kind] = model.fit(X, y), X, y
    return found


@pytest.fixture(scope="module")
def three_classes():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((24, 2))
    y = np.array(["low", "mid", "top"])[np.digitize(X[:, 0] + np.abs(X[:, 1]), [0.3, 1.2])]
    return ConvexReLUClassifier(alpha=0.1, tol=1e-6, random_state=0).fit(X, y), X, y


def random_network(m, d=2, seed=0, columns=(), **options):
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((m, *columns))
    return Network(*draws, np.zeros(columns) if columns else 0.0, **options)


def make_path():
    """Neuron p grows along the path; at the second alpha q appears, and at the third it has changed sign."""
    p, q = np.array([1.0, 2.0]), np.array([-1.0, 1.0])
    networks = [
        Network(np.empty((0, 2)), np.empty(0), np.empty(0)),
        Network(np.array([2 * p]), np.zeros(1), np.array([1.0])),
        Network(np.array([q, p]), np.zeros(2), np.array([-1.0, 3.0])),
        Network(np.array([p + 0.01 * q, q]), np.zeros(2), np.array([4.0, 0.5])),
    ]
    objectives = np.array([8.0, 7.0, 5.0, 3.0])
    return SimpleNamespace(
        alphas=np.array([10.0, 1.0, 0.5, 0.1]),
        alpha_max=10.0,
        networks=networks,
        certificates=[None] * 4,
        n_neurons=np.array([0, 1, 2, 2]),
        objectives=objectives,
        lower_bounds=np.array([8.0, 6.9, -np.inf, 2.99]),
        relative_gaps=np.array([0.0, 0.1 / 7, np.inf, 0.01 / 3]),
    )


class WithPath(BaseEstimator):
    def fit(self):
        self.path_, self.alpha_ = make_path(), 0.5
        return self


def drawings(fits, three_classes):
    """Every display, as a function of the axes."""
    model, X, y = fits[2, "penalized"]
    classifier, XC, yc = three_classes
    slope, X1, _ = fits[1, "penalized"]
    free, XF, _ = fits[1, "free"]
    free2, XF2, _ = fits[2, "free"]
    path = make_path()
    deep = random_network(7, 5)
    return {
        "path": lambda ax: PathDisplay.from_path(path, ax=ax, chosen=1.0, name="a"),
        "path norms": lambda ax: PathDisplay.from_path(path, ax=ax, quantity="path_norms"),
        "objective": lambda ax: PathDisplay.from_path(path, ax=ax, quantity="objective"),
        "gap": lambda ax: PathDisplay.from_path(path, ax=ax, quantity="relative_gap"),
        "convergence": lambda ax: ConvergenceDisplay.from_estimator(model, ax=ax, name="Newton"),
        "cells": lambda ax: ArrangementDisplay.from_estimator(model, X, y, ax=ax, grid_resolution=30),
        "prediction": lambda ax: ArrangementDisplay.from_estimator(
            model, X, y, ax=ax, grid_resolution=30, background="prediction"
        ),
        "classes": lambda ax: ArrangementDisplay.from_estimator(classifier, XC, yc, ax=ax, grid_resolution=30),
        "classes predicted": lambda ax: ArrangementDisplay.from_estimator(
            classifier, XC, yc, ax=ax, grid_resolution=30, background="prediction"
        ),
        "knots": lambda ax: NeuronDisplay.from_estimator(slope, X1, ax=ax),
        "radon": lambda ax: NeuronDisplay.from_estimator(classifier, XC, ax=ax),
        "weights": lambda ax: NeuronDisplay.from_network(deep, ax=ax),
        "circle": lambda ax: CertificateDisplay.from_estimator(slope, X1, ax=ax),
        "slice": lambda ax: CertificateDisplay.from_estimator(model, X, ax=ax),
        "knots' prices": lambda ax: CertificateDisplay.from_estimator(free, XF, ax=ax),
        "best bias": lambda ax: CertificateDisplay.from_estimator(free2, XF2, ax=ax),
    }


def test_axes_are_respected_labelled_and_free_of_legends(fits, three_classes):
    for name, draw in drawings(fits, three_classes).items():
        figure, (ax, other) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
        display = draw(ax)
        assert display.ax_ is ax and display.figure_ is figure and plt.get_fignums() == [figure.number], name
        assert ax.get_xlabel() or name == "weights", name
        assert ax.get_ylabel() and not other.lines and not other.collections, name
        if ax.get_legend():
            figure.draw_without_rendering()
            legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
            assert legend.y0 >= inside.y1 - 1 and legend.x1 <= max(inside.x1 + 40, figure.bbox.x1), name
        plt.close(figure)


def test_drawn_again_from_what_is_stored(fits, three_classes):
    draws = drawings(fits, three_classes)
    for name in ("path norms", "convergence", "cells", "radon", "circle"):
        figure = plt.figure(layout="constrained")
        display = draws[name](figure.subfigures(1, 2)[1].subplots())
        assert plt.get_fignums() == [figure.number]
        before = [artist.get_zorder() for artist in display.ax_.get_children()]
        assert display.plot() is display and display.figure_ is plt.gcf() is not figure
        other = [artist.get_zorder() for artist in display.ax_.get_children()]
        assert name == "path norms" or before == other
        plt.close("all")


def test_without_matplotlib_the_error_says_what_to_install(fits, three_classes, monkeypatch):
    draws = drawings(fits, three_classes)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for draw in draws.values():
        with pytest.raises(ImportError, match=r'pip install "convexnn\[plot\]"'):
            draw(None)


@pytest.mark.parametrize(
    "draw",
    [
        lambda model, X: ArrangementDisplay.from_estimator(model, X),
        lambda model, X: NeuronDisplay.from_estimator(model),
        lambda model, X: CertificateDisplay.from_estimator(model, X),
        lambda model, X: ConvergenceDisplay.from_estimator(model),
        lambda model, X: PathDisplay.from_estimator(model),
    ],
)
def test_estimators_that_are_none(draw, fits):
    _, X, y = fits[2, "penalized"]
    with pytest.raises(NotFittedError):
        draw(ConvexReLURegressor(), X)
    with pytest.raises(ValueError, match=r"estimator must be a convexnn estimator, got a pipeline; .* model\[-1\]"):
        draw(make_pipeline(StandardScaler(), ConvexReLURegressor(alpha=1.0)).fit(X, y), X)
    with pytest.raises(ValueError, match=r"estimator must have the attribute .*, got StandardScaler"):
        draw(StandardScaler().fit(X), X)
    assert not plt.get_fignums()


class TestPath:
    def test_three_quantities_against_alpha_over_alpha_max(self):
        path = make_path()
        display = PathDisplay.from_path(path)
        shares = [1.0, 0.1, 0.05, 0.01]
        assert len(display.axes_) == 3 and display.ax_ is display.axes_[0]
        for ax in display.axes_:
            assert ax.get_xscale() == "log" and ax.xaxis.get_inverted()
        np.testing.assert_allclose(display.lines_[1].get_xydata(), np.column_stack([shares, [0, 1, 2, 2]]))
        np.testing.assert_allclose(display.lines_[2].get_xydata(), np.column_stack([shares, [8, 7, 5, 3]]))
        five, two = np.sqrt(5), np.sqrt(2)
        decay = [0, 1.0 * 2 * five, 0.5 * (two + 3 * five), 0.1 * (4 * np.sqrt(5 + 2e-4 + 0.02) + two / 2)]
        np.testing.assert_allclose(display.penalties, decay)
        loss = next(line for line in display.axes_[2].lines if line.get_label() == "loss")
        np.testing.assert_allclose(loss.get_ydata(), path.objectives - decay)

    def test_neurons_are_joined_by_direction_and_sign(self):
        display = PathDisplay.from_path(make_path(), quantity="path_norms")
        five = np.sqrt(5)
        expected = [
            [(0.1, 2 * five), (0.05, 3 * five)],
            [(0.05, 3 * five), (0.01, 4 * np.sqrt(5.0202))],
        ]
        np.testing.assert_allclose(display.segments, expected)
        assert all(same_color(color, POSITIVE) for color in display.lines_[0].get_colors())
        points = [line for line in display.ax_.lines if line.get_label() == "negative neurons"]
        np.testing.assert_allclose(points[0].get_xydata(), [[0.05, -np.sqrt(2)]])

    def test_unknown_bounds_are_gaps_in_the_drawing(self):
        display = PathDisplay.from_path(make_path(), quantity="relative_gap")
        np.testing.assert_array_equal(np.isnan(display.lines_[0].get_ydata()), [True, False, True, False])
        display = PathDisplay.from_path(make_path(), quantity="objective")
        display.figure_.canvas.draw()

    def test_from_estimator_marks_the_chosen_alpha(self):
        display = PathDisplay.from_estimator(WithPath().fit())
        marks = [line for line in display.ax_.lines if line.get_label() == "chosen alpha"]
        assert display.chosen == 0.05 and list(marks[0].get_xdata()) == [0.05, 0.05]

    def test_two_paths_on_one_axes(self):
        first = PathDisplay.from_path(make_path(), quantity="n_neurons", name="one")
        second = PathDisplay.from_path(make_path(), ax=first.ax_, name="two", color="red", ls="--")
        assert first.ax_.xaxis.get_inverted() and second.lines_[0].get_linestyle() == "--"
        assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["one", "two"]

    def test_unknown_quantity(self):
        with pytest.raises(ValueError, match=r"quantity must be one of .*'n_neurons'.*, got 'loss'"):
            PathDisplay.from_path(make_path(), quantity="loss")


class TestConvergence:
    history = tuple(
        dict(iteration=k, seconds=0.5 * k, objective=f, relative_gap=g, blocks=3)
        for k, (f, g) in enumerate([(9.0, np.inf), (5.0, 0.5), (4.0, 1e-3), (4.0, 0.0)])
    )

    def test_relative_gap_against_seconds(self):
        display = ConvergenceDisplay(history=self.history, lower_bound=3.5, tol=1e-2).plot()
        assert display.ax_.get_yscale() == "log" and display.ax_.get_xlabel() == "time (s)"
        np.testing.assert_array_equal(display.line_.get_xdata(), [0.0, 0.5, 1.0, 1.5])
        np.testing.assert_array_equal(display.line_.get_ydata(), [np.nan, 0.5, 1e-3, np.nan])
        assert list(display.tol_line_.get_ydata()) == [1e-2, 1e-2]

    def test_suboptimality_against_iterations(self):
        display = ConvergenceDisplay(history=self.history, lower_bound=3.5, tol=1e-2)
        display.plot(x="iteration", y="suboptimality", color="red")
        np.testing.assert_array_equal(display.line_.get_xydata(), [[0, 5.5], [1, 1.5], [2, 0.5], [3, 0.5]])
        assert display.tol_line_ is None and same_color(display.line_.get_color(), "red")

    def test_several_estimators_on_one_axes(self, fits):
        model = fits[2, "none"][0]
        first = ConvergenceDisplay.from_estimator(model, name="one")
        second = ConvergenceDisplay.from_estimator(model, ax=first.ax_, name="two")
        history = model.result_.history
        np.testing.assert_array_equal(second.line_.get_xdata(), [entry["seconds"] for entry in history])
        assert second.tol_line_ is first.tol_line_ and not same_color(first.line_.get_color(), second.line_.get_color())
        texts = [text.get_text() for text in first.ax_.get_legend().get_texts()]
        assert texts == ["one", "two", "tol = 1e-08"]

    def test_errors(self):
        display = ConvergenceDisplay(history=self.history, lower_bound=-np.inf)
        with pytest.raises(ValueError, match=r"x must be one of .*, got 'hours'"):
            display.plot(x="hours")
        with pytest.raises(ValueError, match=r"y must be one of .*, got 'loss'"):
            display.plot(y="loss")
        with pytest.raises(ValueError, match="needs a finite lower bound"):
            display.plot(y="suboptimality")


class TestArrangement:
    X = np.array([[-3.0, -20.0], [3.0, 20.0], [1.0, 0.0]])

    def test_lines_are_where_neurons_switch(self):
        network = random_network(12, seed=3)
        display = ArrangementDisplay.from_network(network, self.X, grid_resolution=20)
        low, high = np.array([-3.6, -24.0]), np.array([3.6, 24.0])
        np.testing.assert_allclose(display.ax_.axis(), [low[0], high[0], low[1], high[1]])
        for w, b, segment in zip(network.hidden_weights, network.hidden_biases, display.segments):
            corners = [w @ (x, y) + b for x in (low[0], high[0]) for y in (low[1], high[1])]
            assert np.isfinite(segment).all() == (min(corners) < 0 < max(corners))
            for point in segment[np.isfinite(segment).all(axis=1)]:
                assert abs(w @ point + b) < 1e-12 * (np.abs(w) @ np.abs(point) + abs(b))
                assert np.isclose(point, low).any() or np.isclose(point, high).any()
        drawn = np.isfinite(display.segments[:, 0, 0])
        np.testing.assert_allclose(display.lines_.get_segments(), display.segments[drawn])

    def test_arrows_point_to_the_active_side(self):
        network = random_network(12, seed=4)
        display = ArrangementDisplay.from_network(network, self.X, grid_resolution=20)
        drawn = np.isfinite(display.segments[:, 0, 0])
        tails = np.column_stack([display.arrows_.X, display.arrows_.Y])
        tips = tails + np.column_stack([display.arrows_.U, display.arrows_.V])
        w, b = network.hidden_weights[drawn], network.hidden_biases[drawn]
        assert drawn.sum() > 4 and (np.einsum("ij,ij->i", w, tips) + b > 0).all()
        np.testing.assert_allclose(np.einsum("ij,ij->i", w, tails) + b, 0, atol=1e-12)

    def test_signs_are_colours_and_path_norms_are_widths(self):
        network = random_network(9, seed=5)
        display = ArrangementDisplay.from_network(network, self.X, grid_resolution=20)
        for a, color in zip(network.output_weights, display.lines_.get_colors()):
            assert same_color(color, POSITIVE if a > 0 else NEGATIVE)
        order = np.argsort([np.hypot(np.hypot(*w), b) * abs(a) for w, b, a in zip(
            network.hidden_weights, network.hidden_biases, network.output_weights
        )])  # fmt: skip
        assert (np.diff(np.asarray(display.lines_.get_linewidths())[order]) > 0).all()

    def test_background(self, fits, three_classes):
        model, X, y = fits[2, "penalized"]
        network = model.network_
        display = ArrangementDisplay.from_estimator(model, X, y, grid_resolution=15)
        for i, j in [(0, 0), (3, 11), (14, 7)]:
            point = np.array([display.xx0[i, j], display.xx1[i, j]])
            active = sum(w @ point + b > 0 for w, b in zip(network.hidden_weights, network.hidden_biases))
            assert display.response[i, j] == active
        display = ArrangementDisplay.from_estimator(model, X, y, grid_resolution=15, background="prediction")
        point = [[display.xx0[2, 9], display.xx1[2, 9]]]
        np.testing.assert_allclose(display.response[2, 9], model.predict(point)[0])
        assert display.surface_.norm is display.samples_[0].norm
        np.testing.assert_array_equal(display.samples_[0].get_array(), y)
        classifier, X, y = three_classes
        display = ArrangementDisplay.from_estimator(classifier, X, y, grid_resolution=15, background="prediction")
        grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
        np.testing.assert_array_equal(classifier.classes_[display.response.ravel()], classifier.predict(grid))
        for label, scatter in zip(classifier.classes_, display.samples_):
            np.testing.assert_array_equal(scatter.get_offsets(), X[y == label])

    def test_two_classes(self):
        rng = np.random.default_rng(2)
        X = rng.standard_normal((20, 2))
        y = np.where(X[:, 0] > 0, "yes", "no")
        model = ConvexReLUClassifier(alpha=0.2, random_state=0).fit(X, y)
        display = ArrangementDisplay.from_estimator(model, X, y, background="prediction", grid_resolution=15)
        # The class that a positive score means has the colour of positive neurons.
        assert [to_rgba(scatter.get_facecolor()[0]) for scatter in display.samples_] == [
            to_rgba(NEGATIVE),
            to_rgba(POSITIVE),
        ]
        assert display.surface_.norm.vcenter == 0

    def test_number_of_cells(self):
        def count(w, b, window=1.0):
            network = Network(np.asarray(w, float), np.asarray(b, float), np.ones(len(b)))
            data = window * np.array([[-1.0, -1.0], [1.0, 1.0]])
            display = ArrangementDisplay.from_network(network, data, grid_resolution=3)
            plt.close(display.figure_)
            return display.n_cells

        rng = np.random.default_rng(6)
        for m in (1, 2, 5, 9):
            w, b = rng.standard_normal((m, 2)), rng.standard_normal(m)
            # In general position, in a window that holds all crossings: 1 + m + m (m - 1) / 2.
            assert count(w, b, 1e4) == 1 + m + m * (m - 1) // 2
            assert count(w, np.zeros(m)) == 2 * m
            assert count(np.tile([[1.0, 2.0]], (m, 1)), np.linspace(-0.5, 0.5, m)) == 1 + m
        assert count([[1, 0], [-2, 0], [0, 1]], [0.3, -0.6, 0]) == 4
        assert count([[1, 0]], [5]) == 1
        assert count(np.empty((0, 2)), []) == 1
        # Two crossings of which one is outside.
        assert count([[1, 0], [0.1, 1], [-0.1, 1]], [0.5, 0, 0.5]) == 6

    def test_gated_networks_switch_at_their_gates(self):
        gates = np.array([[1.0, 1.0], [1.0, -1.0]])
        network = random_network(2, gate_weights=gates, gate_biases=np.array([0.5, 0.0]))
        display = ArrangementDisplay.from_network(network, self.X, grid_resolution=9)
        values = np.einsum("mkj,mj->mk", display.segments, gates) + np.array([[0.5], [0.0]])
        np.testing.assert_allclose(values, 0, atol=1e-12)
        assert set(np.unique(display.response)) <= {0, 1, 2}

    def test_without_neurons_and_without_spread(self):
        empty = Network(np.empty((0, 2)), np.empty(0), np.empty(0), 0.7)
        for background in ("cells", "prediction"):
            display = ArrangementDisplay.from_network(empty, [[1.0, 2.0]], [0.0], background=background)
            display.figure_.canvas.draw()
            assert display.n_cells == 1 and np.ptp(display.response) == 0

    def test_errors(self, fits, three_classes):
        model, X, _ = fits[3, "none"]
        with pytest.raises(ValueError, match="X must have exactly 2 features, as must the network, got 3 and 3"):
            ArrangementDisplay.from_estimator(model, X)
        network = random_network(2)
        with pytest.raises(ValueError, match="got 3 and 2"):
            ArrangementDisplay.from_network(network, X)
        with pytest.raises(ValueError, match='background must be "cells" or "prediction", got \'map\''):
            ArrangementDisplay.from_network(network, self.X, background="map")
        with pytest.raises(ValueError, match=r"y must have shape \(3,\)"):
            ArrangementDisplay.from_network(network, self.X, [1.0])
        with pytest.raises(ValueError, match="y must be numbers, or of the labels given as classes"):
            ArrangementDisplay.from_network(network, self.X, ["a", "b", "c"])
        with pytest.raises(ValueError, match=r"feature_names must have 2 entries, got 1"):
            ArrangementDisplay.from_network(network, self.X, feature_names=["a"])
        classifier, X, y = three_classes
        with pytest.raises(ValueError, match=r"y must hold labels of .*'low'.*, got \['other'\]"):
            ArrangementDisplay.from_estimator(classifier, X, np.where(y == "low", "other", y))
        assert not plt.get_fignums()


class TestNeurons:
    def test_knots_are_the_changes_of_slope(self, fits):
        model, X, _ = fits[1, "penalized"]
        display = NeuronDisplay.from_estimator(model, X)
        stems = np.array(display.artist_.get_segments())
        knots, weights = stems[:, 0, 0], model.network_.hidden_weights[:, 0]
        # This fit has neurons that face both sides of a knot.
        assert 1 < len(stems) < model.network_.n_neurons and not stems[:, 0, 1].any()
        step = 0.3 * np.abs(np.subtract.outer(knots, knots) + 9 * np.eye(len(knots))).min()
        markers = {line.get_xdata()[0]: line.get_marker() for line in display.ax_.lines if line.get_marker() in "<>D"}
        for knot, height in zip(knots, stems[:, 1, 1]):
            f = model.predict([[knot - step], [knot], [knot + step]])
            np.testing.assert_allclose(height, (f[2] - 2 * f[1] + f[0]) / step, rtol=1e-9)
            sides = set(np.sign(weights[np.abs(-model.network_.hidden_biases / weights - knot) < 1e-9]))
            assert markers[knot] == {(1,): ">", (-1,): "<"}.get(tuple(sides), "D")
        total = np.abs(stems[:, 1, 1]).sum()
        assert display.ax_.get_legend().get_title().get_text() == f"total variation of the slope {total:.4g}"

    def test_points_of_the_radon_domain(self):
        network = random_network(8, seed=7)
        display = NeuronDisplay.from_network(network, feature_names=["a", "b"])
        points = np.vstack([scatter.get_offsets() for scatter in display.artist_])
        assert len(points) == 8 and (points[:, 0] >= 0).all() and (points[:, 0] < 180).all()
        for w, b in zip(network.hidden_weights, network.hidden_biases):
            turned = np.radians(points[:, 0])
            along = np.column_stack([np.cos(turned), np.sin(turned)])
            # The foot of the line from the origin, with w along the angle or against it.
            fits = (np.abs(points[:, 1] * (along @ w) + b) < 1e-9) & (np.abs(along @ w) > (1 - 1e-9) * np.hypot(*w))
            assert fits.sum() == 1
        assert len(display.artist_[0].get_offsets()) == (network.output_weights > 0).sum()
        assert "(a, b)" in display.ax_.get_xlabel()
        sizes = np.abs(network.output_weights) * np.hypot(*network.hidden_weights.T)
        areas = np.concatenate([scatter.get_sizes() for scatter in display.artist_])
        np.testing.assert_allclose(np.sort(areas), np.sort(np.maximum(400 * sizes / sizes.max(), 20)))
        legend = display.ax_.get_legend()
        assert legend.get_title().get_text() == f"second-order total variation {sizes.sum():.4g}"
        keys = [h for h in legend.legend_handles if h.get_label().startswith("weight ")]
        for key in keys:
            weight = float(key.get_label().split()[1])
            np.testing.assert_allclose(key.get_markersize() ** 2, 400 * weight / sizes.max())
            assert weight <= sizes.max() < 5 * max(float(key.get_label().split()[1]) for key in keys)

    def test_neurons_on_one_line_are_one_atom(self):
        W = np.array([[3.0, 4.0], [-3.0, -4.0], [-1.0, 0.02], [1.0, 0.0], [-1.0, 0.0]])
        network = Network(W, np.array([-10.0, 10.0, 2.0, 1.0, -1.0]), np.array([1.0, -3.0, 1.0, 2.0, -2.0]))
        display = NeuronDisplay.from_network(network)
        positive, negative = (scatter.get_offsets().data for scatter in display.artist_)
        np.testing.assert_allclose(negative, [[np.degrees(np.arctan2(4, 3)), 2.0]])
        np.testing.assert_allclose(positive, [[180 - np.degrees(np.arctan(0.02)), -2.0 / np.hypot(1, 0.02)]])
        # What is near 180 degrees comes back below 0, with the opposite offset.
        drawn = np.vstack([c.get_offsets() for c in display.ax_.collections])
        np.testing.assert_allclose(drawn[drawn[:, 0] < 0], positive * [1, -1] - [180, 0])
        assert len(drawn) == 3 and display.order_.tolist() == [0, 1]

    def test_samples_are_the_lines_through_them(self):
        X = np.random.default_rng(8).standard_normal((7, 2))
        display = NeuronDisplay.from_network(random_network(4, seed=8), np.vstack([X, X[:2]]))
        curves = display.ax_.collections[1].get_segments()
        assert len(curves) == 7
        for x, curve in zip(X[np.lexsort(X.T[::-1])], curves):
            for angle, offset in curve[::40]:
                assert offset == pytest.approx(x[0] * np.cos(np.radians(angle)) + x[1] * np.sin(np.radians(angle)))

    def test_lines_outside_the_band_miss_the_data(self):
        X = np.random.default_rng(8).standard_normal((30, 2))
        network = random_network(30, seed=8)
        display = NeuronDisplay.from_network(network, X)
        band, measure = display.ax_.collections[0].get_paths()[0], display.measure
        for k, w, b in zip(measure.atom_of, network.hidden_weights, network.hidden_biases):
            values = X @ w + b
            margin = min(abs(values.min()), abs(values.max())) / np.hypot(*w)
            # The band is drawn every half degree.
            if margin > 0.02:
                angle = np.degrees(np.arctan2(*measure.directions[k, ::-1]))
                assert band.contains_point((angle, measure.offsets[k])) == (values.min() < 0 < values.max())

    def test_neurons_without_weights_have_no_line(self):
        network = Network(np.array([[0.0, 0.0], [1.0, 0.0]]), np.ones(2), np.ones(2))
        display = NeuronDisplay.from_network(network)
        assert display.order_.tolist() == [0] and display.measure.atom_of.tolist() == [-1, 0]

    @pytest.mark.parametrize("d", [1, 2])
    def test_gated_networks_are_placed_by_their_gates(self, d):
        rng = np.random.default_rng(3)
        gates, biases = rng.standard_normal((5, d)), rng.standard_normal(5)
        gates[2] = 0
        network = random_network(5, d, gate_weights=gates, gate_biases=biases)
        display = NeuronDisplay.from_network(network)
        if d == 1:
            places = np.array(display.artist_.get_segments())[:, 0, 0]
            np.testing.assert_allclose(np.sort(places), np.sort(-np.delete(biases, 2) / np.delete(gates, 2)))
        else:
            points = np.vstack([scatter.get_offsets().data for scatter in display.artist_])
            along = np.column_stack([np.cos(np.radians(points[:, 0])), np.sin(np.radians(points[:, 0]))])
            values = points[:, 1:] * along @ gates.T + biases
            assert len(points) == 4 and ((np.abs(values) < 1e-9).sum(axis=0) == [1, 1, 0, 1, 1]).all()
        # No second derivative to speak of.
        assert "variation" not in display.ax_.get_legend().get_title().get_text() + display.ax_.get_title(loc="left")

    def test_heat_map(self):
        X = np.random.default_rng(9).standard_normal((40, 4))
        network = random_network(30, 4, seed=9)
        display = NeuronDisplay.from_network(network, X, max_neurons=6, feature_names=["p", "q", "r", "s"])
        inside = np.column_stack([network.hidden_weights, network.hidden_biases])
        norms = np.sqrt((inside**2).sum(axis=1)) * np.abs(network.output_weights)
        assert display.order_.tolist() == np.argsort(-norms)[:6].tolist()
        rows = inside[display.order_] / np.sqrt((inside[display.order_] ** 2).sum(axis=1))[:, None]
        np.testing.assert_allclose(display.artist_.get_array(), rows)
        assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["p", "q", "r", "s", "bias"]
        first = display.order_[0]
        share = 100 * np.mean([inside[first] @ [*x, 1.0] > 0 for x in X])
        sign = "+" if network.output_weights[first] > 0 else "-"
        assert display.ax_.get_yticklabels()[0].get_text() == f"{sign}{norms[first]:.3g} ({share:.0f} % active)"

    def test_free_biases_are_no_weights(self):
        display = NeuronDisplay.from_network(random_network(3, 4, hidden_bias="free"))
        np.testing.assert_allclose((display.artist_.get_array() ** 2).sum(axis=1), 1)
        assert display.artist_.get_array().shape == (3, 4)

    def test_several_outputs(self, three_classes):
        display = NeuronDisplay.from_network(random_network(5, 3, columns=(2,)), classes=["left", "right"])
        texts = [label.get_text() for label in display.ax_.get_yticklabels()]
        outputs = np.abs(display.network.output_weights[display.order_]).argmax(axis=1)
        assert all(text.startswith(f"class {['left', 'right'][k]}: ") for text, k in zip(texts, outputs))

    @pytest.mark.parametrize("d", [1, 2, 5])
    def test_no_neurons(self, d):
        empty = Network(np.empty((0, d)), np.empty(0), np.empty(0))
        display = NeuronDisplay.from_network(empty)
        display.figure_.canvas.draw()
        assert len(display.order_) == 0

    def test_errors(self):
        network = random_network(3)
        with pytest.raises(ValueError, match="X must have 2 features, got 3"):
            NeuronDisplay.from_network(network, np.zeros((4, 3)))
        with pytest.raises(ValueError, match="feature_names must have 2 entries, got 3"):
            NeuronDisplay.from_network(network, feature_names="abc")
        with pytest.raises(ValueError, match="max_neurons must be"):
            NeuronDisplay.from_network(random_network(3, 4), max_neurons=0)


def price(theta, X, w, b, alpha):
    """theta^T (X w + b)_+ / alpha, term by term."""
    return sum(t * max(float(np.dot(x, w)) + b, 0.0) for t, x in zip(theta, X)) / alpha


class TestCertificate:
    @pytest.mark.parametrize(
        "case", [(2, "none"), (1, "penalized"), (1, "free"), (2, "penalized"), (2, "free"), (3, "none"), (3, "free")]
    )
    def test_prices_stay_below_the_limit_and_touch_it_at_the_neurons(self, case, fits):
        model, X, _ = fits[case]
        certificate, network = model.certificate_, model.network_
        display = CertificateDisplay.from_estimator(model, X)
        assert np.abs(display.prices).max() <= 1 + 1e-9
        flat = case not in ((2, "penalized"), (3, "none"), (3, "free"))
        assert len(display.neurons) == network.n_neurons if flat else 2 <= len(display.neurons) <= network.n_neurons
        for k, j in enumerate(display.neurons):
            w, b = network.hidden_weights[j], network.hidden_biases[j]
            length = np.hypot(np.linalg.norm(w), b if case[1] == "penalized" else 0.0)
            expected = price(certificate.theta, X, w / length, b / length, model.alpha)
            np.testing.assert_allclose(display.neuron_prices[k], expected, atol=1e-12)
            sign = np.sign(network.output_weights[j])
            assert sign == display.neuron_signs[k]
            # What a neuron leaves to the limit, times its path norm, is part of the gap.
            norm = length * abs(network.output_weights[j])
            assert model.alpha * norm * (1 - sign * expected) <= certificate.gap + 1e-12
            assert sign * expected > 1 - 1e-4
            # The curve has the neuron's price at its position.
            at = np.abs(display.positions - display.neuron_positions[k]).argmin()
            assert display.positions[at] == display.neuron_positions[k]
            assert np.abs(display.prices[:, at] - expected).min() < (1e-4 if case[1] == "free" else 1e-9)

    @pytest.mark.parametrize("case", [(2, "none"), (1, "penalized")])
    def test_the_unit_circle(self, case, fits):
        model, X, _ = fits[case]
        display = CertificateDisplay.from_estimator(model, X, n_points=50)
        for k in range(0, len(display.positions), 7):
            u = np.cos(np.radians(display.positions[k])), np.sin(np.radians(display.positions[k]))
            w, b = (u, 0.0) if case[0] == 2 else (u[:1], u[1])
            expected = price(model.certificate_.theta, X, w, b, model.alpha)
            np.testing.assert_allclose(display.prices[0, k], expected, atol=1e-12)
        np.testing.assert_array_equal(display.lines_[0].get_ydata(), display.prices[0])
        names = "x0, x1" if case[0] == 2 else "x0, bias"
        assert display.ax_.get_xlabel() == "" and display.axes_[1].get_xlabel() == f"angle of u = ({names}), degrees"

    def test_knots_of_a_free_bias(self, fits):
        model, X, _ = fits[1, "free"]
        display = CertificateDisplay.from_estimator(model, X, n_points=40)
        for k in range(0, len(display.positions), 5):
            knot = display.positions[k]
            right = price(model.certificate_.theta, X, [1.0], -knot, model.alpha)
            left = price(model.certificate_.theta, X, [-1.0], knot, model.alpha)
            np.testing.assert_allclose(display.prices[:, k], [right, left], atol=1e-12)

    def test_best_bias_of_every_direction(self, fits):
        model, X, _ = fits[2, "free"]
        display = CertificateDisplay.from_estimator(model, X, n_points=20)
        for k in range(0, len(display.positions), 3):
            w = np.cos(np.radians(display.positions[k])), np.sin(np.radians(display.positions[k]))
            found = [price(model.certificate_.theta, X, w, b, model.alpha) for b in [*(-X @ w), 9.0, -9.0]]
            np.testing.assert_allclose(display.prices[:, k], [max(found), min(found)], atol=1e-9)

    def test_slices(self, fits):
        model, X, _ = fits[2, "penalized"]
        network = model.network_
        inside = np.column_stack([network.hidden_weights, network.hidden_biases])
        units = inside / np.linalg.norm(inside, axis=1, keepdims=True)
        chosen = CertificateDisplay.from_estimator(model, X).neurons
        assert set(np.argsort(-network.path_norms)[:2]) <= set(chosen)
        assert np.linalg.matrix_rank(units[chosen], tol=1e-5) == 2
        display = CertificateDisplay.from_estimator(model, X, plane=(1, 0))
        assert {0, 1} <= set(display.neurons)
        angles = dict(zip(display.neurons, display.neuron_positions))
        np.testing.assert_allclose([angles[1], angles[0]], [0, np.degrees(np.arccos(units[0] @ units[1]))], atol=1e-6)
        plane = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 1.0]])
        display = CertificateDisplay.from_estimator(model, X, plane=plane, n_points=30)
        assert not len(display.neurons)
        for k in range(0, 30, 7):
            turn = np.radians(display.positions[k])
            u = np.cos(turn) * np.array([0, 1, 0]) + np.sin(turn) * np.array([1, 0, 1]) / np.sqrt(2)
            expected = price(model.certificate_.theta, X, u[:2], u[2], model.alpha)
            np.testing.assert_allclose(display.prices[0, k], expected, atol=1e-12)

    def test_several_outputs(self, three_classes):
        model, X, _ = three_classes
        for output in range(3):
            display = CertificateDisplay.from_estimator(model, X, output=output)
            column = model.certificate_.theta[:, output]
            for k, j in enumerate(display.neurons):
                w, b = model.network_.hidden_weights[j], model.network_.hidden_biases[j]
                length = np.sqrt(w @ w + b * b)
                assert model.network_.output_weights[j, output] != 0
                expected = price(column, X, w / length, b / length, model.alpha)
                np.testing.assert_allclose(display.neuron_prices[k], expected, atol=1e-12)

    def test_weights_of_zero_and_many_samples(self, fits, monkeypatch):
        _, X, y = fits[2, "none"]
        weights = np.where(np.arange(len(y)) % 3, 1.0, 0.0)
        model = ConvexReLURegressor(alpha=0.05, hidden_bias="none", patterns="exact", tol=1e-8).fit(X, y, weights)
        with pytest.raises(ValueError, match=r"X must be the training data of shape \(7, 2\), samples of weight zero"):
            CertificateDisplay.from_estimator(model, X)
        display = CertificateDisplay.from_estimator(model, X[weights > 0])
        assert np.allclose(display.neuron_prices, display.neuron_signs, atol=1e-4)
        monkeypatch.setattr("convexnn.plots.certificate.BATCH", 50)
        again = CertificateDisplay.from_estimator(model, X[weights > 0])
        np.testing.assert_allclose(again.prices, display.prices, atol=1e-14)

    def test_other_data_are_refused(self, fits):
        model, X, _ = fits[2, "none"]
        with pytest.raises(ValueError, match="X must be the training data, in the order of the fit"):
            CertificateDisplay.from_estimator(model, X[::-1])
        with pytest.raises(ValueError, match=r"X must be the training data, .* a price of .* alpha, which it excludes"):
            CertificateDisplay.from_estimator(model, 2 * X)
        assert not plt.get_fignums()

    def test_a_search_is_no_proof(self, fits):
        _, X, y = fits[2, "penalized"]
        model = ConvexReLURegressor(alpha=0.05, patterns="adaptive", certify=False, random_state=0).fit(X, y)
        for fit, words in ((model, "beyond the limit"), (fits[2, "penalized"][0], "excluded by the proof")):
            display = CertificateDisplay.from_estimator(fit, X)
            assert words in [text.get_text() for text in display.ax_.get_legend().get_texts()]

    def test_certificate_of_another_network(self, fits):
        _, X, y = fits[1, "penalized"]
        worse = Network(np.array([[1.0]]), np.zeros(1), np.array([0.3]))
        display = CertificateDisplay.from_certificate(certify(worse, X, y, alpha=0.05), X)
        assert np.abs(display.prices).max() <= 1 + 1e-9 and display.neurons.tolist() == [0]

    def test_what_is_left_to_the_limit(self, fits):
        model, X, _ = fits[2, "none"]
        display = CertificateDisplay.from_estimator(model, X)
        assert display.axes_[1].get_yscale() == "log"
        left = np.fmin.reduce(
            [line.get_ydata() for line in display.axes_[1].lines if len(line.get_ydata()) > 2], axis=0
        )
        shown = np.isfinite(left)
        np.testing.assert_allclose(left[shown], 1 - np.abs(display.prices[0][shown]), atol=1e-15)

    def test_errors(self, fits):
        model, X, y = fits[2, "penalized"]
        certificate = model.certificate_
        with pytest.raises(ValueError, match=r"output must be an integer from 0 to 0, got 1"):
            CertificateDisplay.from_estimator(model, X, output=1)
        for plane, words in (
            ((0, 99), "plane must hold neurons"),
            ((0, 0), "spanned by two vectors of different directions"),
            (np.ones((2, 2)), "two finite vectors of 3 entries"),
            ("no", "plane must be a pair of neurons"),
        ):
            with pytest.raises(ValueError, match=words):
                CertificateDisplay.from_certificate(certificate, X, plane=plane)
        flat, X1, _ = fits[1, "penalized"]
        with pytest.raises(ValueError, match=r"plane must be None for u = \(x0, bias\)"):
            CertificateDisplay.from_estimator(flat, X1, plane=(0, 1))
        free, X1, _ = fits[1, "free"]
        with pytest.raises(ValueError, match="plane must be None for one feature"):
            CertificateDisplay.from_estimator(free, X1, plane=(0, 1))
        ray, X1, _ = fits[1, "none"]
        with pytest.raises(ValueError, match="X must have at least 2 features"):
            CertificateDisplay.from_estimator(ray, X1)
        gated = ConvexReLURegressor(alpha=0.1, activation="gated_relu", n_patterns=20, random_state=0).fit(X, y)
        with pytest.raises(ValueError, match="certificate must be of a network without gates, got a gated one"):
            CertificateDisplay.from_estimator(gated, X)
        bare = SimpleNamespace(network=None, lower_bound=0.0)
        with pytest.raises(ValueError, match="certificate must have a network, an alpha and a lower bound"):
            CertificateDisplay.from_certificate(bare, X)

    def test_no_neurons(self, fits):
        _, X, y = fits[2, "penalized"]
        model = ConvexReLURegressor(alpha=100.0, patterns="exact").fit(X, y)
        display = CertificateDisplay.from_estimator(model, X)
        assert not len(display.neurons) and np.abs(display.prices).max() < 1
