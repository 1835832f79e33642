"""Spread of the objective over the seeds of SGD and Adam, beside the convex value, which has none.

Every run has the wall time of our fit, at least --floor seconds.
"""

from __future__ import annotations

import numpy as np

from benchmarks import plots, racing
from benchmarks.records import markdown

TITLE = "Twenty seeds"
QUESTION = "How much does the objective of SGD and Adam depend on the seed, and how far is it from the convex value?"
OPTIONS = {
    "sets": (["yacht", "concrete", "diabetes", "pima", "breast_cancer"], ["diabetes"], "data sets"),
    "shares": ([0.02], [0.05], "alpha over the smallest alpha without neurons"),
    "widths": ([100], [50], "neurons"),
    "steps": (3, 2, "step sizes of each method, its default first"),
    "seeds": (20, 5, "seeds"),
    "tol": (1e-6, 1e-5, "relative gap of our fit"),
    "max-time": (120.0, 10.0, "limit of our fit in seconds"),
    "floor": (3.0, 0.5, "least seconds of a rival's run"),
    "max-rows": (5_000, 500, "rows of a data set, drawn with seed 0"),
    "ours": (3, 2, "seeds of our own fit's search"),
}
headline = racing.headline
COLUMNS, KEY = racing.COLUMNS, racing.KEY
METHODS = ("SGD", "Adam")


def rows(args, table):
    """Our fit with several seeds of its search, then the rivals."""
    for name, share, training in racing.problems(args, table):
        for seed in range(args.ours):
            yield from racing.ours(name, share, training, args, table, seed=seed)
        slowest = max(row["seconds"] or 0.0 for row in table.find(set=name, share=share, rival="convexnn"))
        yield from racing.gradient(name, share, training, args, table, max(slowest, args.floor), METHODS)


def report(rows, folder):
    """Least, median and largest excess over the convex value."""
    groups, lines, panels = {}, [], {}
    for row in rows:
        groups.setdefault((row["set"], row["share"]), []).append(row)
    for (name, share), group in groups.items():
        own = [row["objective"] for row in group if row["rival"] == "convexnn" and row["objective"] is not None]
        if not own:
            continue
        value, strips = min(own), {"convexnn": [100 * (v / min(own) - 1) for v in own]}
        for method in METHODS:
            for word, runs in zip(("tuned", "default"), racing.tuned(group, method)):
                if runs:
                    strips[f"{method}, {word}"] = [100 * (row["objective"] / value - 1) for row in runs]
        for method, excess in strips.items():
            figures = [np.min(excess), np.median(excess), np.max(excess)]
            lines.append([name, f"{share:g}", method, len(excess), f"{value:.8g}", *(f"{v:.3g} %" for v in figures)])
        panels[f"{name}, {share:g} alpha_max"] = strips
    heads = ["set", "share", "method", "seeds", "convex value", "least excess", "median", "largest"]
    return [
        "Excess of the objective (N) over the lowest of the adaptive fits, which differ in the seed of their search.",
        "",
        *markdown(heads, lines),
        "",
        plots.strips(folder / "seeds", panels, "excess, % (shown as 1e-6 at least)", 1e-6) if panels else "",
    ]
