"""Pictures of the suites, each as PNG and SVG. matplotlib comes with the extra ``bench``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: One colour for a method in every picture; others take the cycle's.
COLOURS = {"convexnn": "#c1272d", "convex ReLU": "#c1272d", "convexnn newton": "#7b1113"}
COLOURS |= dict.fromkeys(["convexnn Fista", "convexnn fista"], "#f08080")
COLOURS |= {"L-BFGS": "#0000a7", "SGD": "#7a7a7a", "Adam": "#eecc16", "AdamW": "#b08900", "adelie": "#008176"}
COLOURS |= {"pyscnn": "#5e3c99", "cvxpy (CLARABEL)": "#6a9fb5", "cvxpy (SCS)": "#1f4e5f", "skglm": "#e66101"}
COLOURS |= {"celer": "#d45087", "MLP adam": "#a6761d", "MLP lbfgs": "#66a61e"}


def colour(method, k):
    """Colour of a method by the beginning of its name."""
    found = [name for name in COLOURS if method.startswith(name)]
    return COLOURS[max(found, key=len)] if found else f"C{k}"


def drawn(path, n_panels, width=4.6, height=3.4, columns=3):
    """A figure and its axes; imports matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    # The same picture from the same rows.
    matplotlib.rcParams["svg.hashsalt"] = Path(path).stem
    import matplotlib.pyplot as plt

    columns = min(columns, n_panels)
    lines = -(-n_panels // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False)
    for axis in axes.flat[n_panels:]:
        axis.axis("off")
    return figure, list(axes.flat[:n_panels])


def kept(figure, path, legend=False):
    """Write PNG and SVG, with one legend for all panels below them; the Markdown line that shows the former."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    for axis in figure.axes:
        axis.xaxis.set_minor_formatter(NullFormatter())
    figure.tight_layout()
    if legend:
        shown = {}
        for axis in figure.axes:
            for handle, name in zip(*axis.get_legend_handles_labels()):
                shown.setdefault(name, handle)
        lines = -(-len(shown) // 4)
        room = 0.1 + 0.19 * lines
        height = figure.get_figheight()
        figure.set_figheight(height + room)
        figure.subplots_adjust(bottom=(figure.subplotpars.bottom * height + room) / (height + room))
        figure.legend(shown.values(), shown.keys(), loc="lower center", ncol=4, fontsize=7, frameon=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
    return f"![{path.stem}]({path.stem}.png)"


def gaps(path, panels, label="relative gap"):
    """Points (seconds, relative gap) of methods, and the least gap by each time as a line, one panel a problem.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From a title to a dictionary from methods to lists of (seconds, gap).
    label : str
        Of the ordinate.

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels), columns=2)
    for axis, (title, methods) in zip(axes, panels.items()):
        for k, (method, points) in enumerate(methods.items()):
            points = sorted((s, max(gap, 1e-12)) for s, gap in points if np.isfinite(s))
            if points:
                seconds, values = zip(*points)
                axis.loglog(seconds, values, "o", ms=4, label=method, color=colour(method, k), alpha=0.85)
                axis.step(seconds, np.minimum.accumulate(values), where="post", lw=0.8, color=colour(method, k))
        axis.axhline(1e-6, color="black", lw=0.7, ls=":")
        axis.set(title=title, xlabel="seconds", ylabel=label)
        # Only powers of ten are labelled.
        low, high = axis.get_xlim()
        axis.set_xlim(low, max(high, 12 * low))
    return kept(figure, path, legend=True)


def times(path, panels):
    """Objectives against time, with proved lower bounds as lines.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From a title to (curves, bounds): curves from a method to a list of traces, bounds from a label to a number.

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels), columns=2)
    for axis, (title, (curves, bounds)) in zip(axes, panels.items()):
        lowest = min(value for traces in curves.values() for trace in traces for _, value in trace)
        for k, (method, traces) in enumerate(curves.items()):
            for j, trace in enumerate(traces):
                seconds, values = zip(*trace)
                seconds = np.maximum(seconds, 1e-3)
                shown = dict(
                    label=method if j == 0 else None, color=colour(method, k), lw=2 if "convexnn" in method else 1
                )
                axis.step(seconds, values, where="post", alpha=0.8, **shown)
                axis.plot(seconds[-1], values[-1], "o", ms=3, color=colour(method, k))
        for (label, bound), style in zip(bounds.items(), ("-", "--", ":")):
            axis.axhline(bound, color="black", lw=0.9, ls=style, label=label)
        # From the best bound up: what lies between it and the lowest curve is what nobody knows.
        bound = max(bounds.values(), default=0.98 * lowest)
        span = max(lowest - bound, 2e-3 * abs(lowest))
        axis.set(title=title, xlabel="seconds", ylabel="objective (N)", xscale="log")
        axis.set_ylim(bound - 0.15 * span, lowest + 1.5 * span)
    return kept(figure, path, legend=True)


def profile(path, panels, label="share of problems"):
    """Share of problems that a method solves within a time, or within a factor of the fastest method's.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From (title, label of the abscissa) to a dictionary from methods to arrays, one number a problem, inf if never.

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels), columns=2)
    for axis, ((title, abscissa), methods) in zip(axes, panels.items()):
        ends = [v for values in methods.values() for v in np.asarray(values) if np.isfinite(v)]
        right = 1.3 * max(ends, default=1.0)
        for k, (method, values) in enumerate(methods.items()):
            values = np.sort(np.asarray(values, dtype=float))
            solved = values[np.isfinite(values)]
            x = np.concatenate([[1e-9], solved, [right]])
            y = np.concatenate([[0], np.arange(1, len(solved) + 1), [len(solved)]]) / len(values)
            style = dict(color=colour(method, k), ls="--" if "default" in method else "-")
            axis.step(x, y, where="post", label=method, lw=2 if "convexnn" in method else 1, **style)
        left = min(ends, default=1.0)
        axis.set(title=title, xlabel=abscissa, ylabel=label, xscale="log", ylim=(-0.02, 1.02))
        axis.set_xlim(max(0.8 * left, 1e-3), right)
    return kept(figure, path, legend=True)


def bars(path, ratios, label):
    """Horizontal bars of ratios, on a logarithmic axis that starts at one.

    Parameters
    ----------
    path : Path
        Without suffix.
    ratios : dict
        From a title to a dictionary from methods to (ratio, text).
    label : str
        Of the abscissa.

    Returns
    -------
    line : str
        Markdown.
    """
    tallest = max(len(methods) for methods in ratios.values())
    figure, axes = drawn(path, len(ratios), height=0.9 + 0.32 * tallest, columns=2)
    for axis, (title, methods) in zip(axes, ratios.items()):
        for k, (method, (ratio, words)) in enumerate(methods.items()):
            shown = ratio if np.isfinite(ratio) else 1.0
            axis.barh(k, shown - 1e-9, color=colour(method, k), left=1e-9, alpha=0.85 if np.isfinite(ratio) else 0.0)
            axis.text(max(shown, 1.0) * 1.05, k, words, va="center", fontsize=7)
        axis.axvline(1, color="black", lw=0.8)
        axis.set_yticks(range(len(methods)), list(methods), fontsize=7)
        axis.invert_yaxis()
        finite = [ratio for ratio, _ in methods.values() if np.isfinite(ratio)]
        axis.set(title=title, xlabel=label, xscale="log")
        axis.set_xlim(min([0.3, *(0.7 * r for r in finite)]), 6 * max([2.0, *finite]))
    return kept(figure, path)


def strips(path, panels, label, floor=None):
    """One point a seed for each method, side by side.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From a title to a dictionary from methods to lists of numbers.
    label : str
        Of the ordinate.
    floor : float, optional
        Draw logarithms, of this where a number is smaller.

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels))
    for axis, (title, methods) in zip(axes, panels.items()):
        for k, (method, values) in enumerate(methods.items()):
            jitter = k + np.linspace(-0.2, 0.2, len(values))
            values = values if floor is None else np.maximum(values, floor)
            axis.plot(jitter, values, "o", ms=4, color=colour(method, k), alpha=0.8)
        axis.set_xticks(range(len(methods)), list(methods), fontsize=7, rotation=20)
        axis.set(title=title, ylabel=label, yscale="linear" if floor is None else "log")
    return kept(figure, path)


def slopes(path, panels):
    """Measurements against a size on two logarithmic axes, with the fitted power law.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From (title, abscissa, ordinate) to a dictionary from methods to (sizes, values, slope).

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels))
    for axis, ((title, abscissa, ordinate), methods) in zip(axes, panels.items()):
        for k, (method, (sizes, values, slope)) in enumerate(methods.items()):
            axis.loglog(sizes, values, "o-", ms=4, label=f"{method}: {slope:.2f}", color=colour(method, k))
        axis.set(title=title, xlabel=abscissa, ylabel=ordinate)
        axis.legend(fontsize=7)
    return kept(figure, path)
