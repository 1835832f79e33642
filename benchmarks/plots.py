"""Pictures of the suites, each as PNG and SVG. matplotlib comes with the extra ``bench``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: One colour for a method in every picture; others take the cycle's.
COLOURS = {"convexnn": "#c1272d", "L-BFGS": "#0000a7", "SGD": "#7a7a7a", "Adam": "#eecc16", "AdamW": "#b08900"}
COLOURS |= {"adelie": "#008176", "pyscnn": "#5e3c99", "cvxpy": "#6a9fb5", "skglm": "#e66101", "celer": "#d45087"}


def colour(method, k):
    """Colour of a method by the beginning of its name."""
    return next(
        (c for name, c in sorted(COLOURS.items(), key=lambda x: -len(x[0])) if method.startswith(name)), f"C{k}"
    )


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


def kept(figure, path):
    """Write PNG and SVG; the Markdown line that shows the former."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
    return f"![{path.stem}]({path.stem}.png)"


def gaps(path, panels, label="relative gap"):
    """Points (seconds, relative gap) of methods, joined, one panel a problem.

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
                axis.loglog(*zip(*points), "o-", ms=4, lw=1, label=method, color=colour(method, k), alpha=0.85)
        axis.axhline(1e-6, color="black", lw=0.7, ls=":")
        axis.set(title=title, xlabel="seconds", ylabel=label)
    axes[0].legend(fontsize=7)
    return kept(figure, path)


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
        low = min([lowest, *bounds.values()])
        axis.set(title=title, xlabel="seconds", ylabel="objective (N)", xscale="log")
        axis.set_ylim(low - 0.05 * abs(lowest), lowest * 1.5)
    axes[0].legend(fontsize=6)
    return kept(figure, path)


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
            axis.step(x, y, where="post", label=method, color=colour(method, k), lw=2 if "convexnn" in method else 1)
        left = min(ends, default=1.0)
        axis.set(title=title, xlabel=abscissa, ylabel=label, xscale="log", ylim=(-0.02, 1.02))
        axis.set_xlim(max(0.8 * left, 1e-3), right)
    axes[0].legend(fontsize=6)
    return kept(figure, path)


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


def strips(path, panels, label):
    """One point a seed beside a line for the convex value.

    Parameters
    ----------
    path : Path
        Without suffix.
    panels : dict
        From a title to a dictionary from methods to lists of numbers.
    label : str
        Of the ordinate.

    Returns
    -------
    line : str
        Markdown.
    """
    figure, axes = drawn(path, len(panels))
    for axis, (title, methods) in zip(axes, panels.items()):
        for k, (method, values) in enumerate(methods.items()):
            jitter = k + np.linspace(-0.2, 0.2, len(values))
            axis.plot(jitter, values, "o", ms=4, color=colour(method, k), alpha=0.8)
        axis.set_xticks(range(len(methods)), list(methods), fontsize=7, rotation=20)
        axis.set(title=title, ylabel=label, yscale="symlog")
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
