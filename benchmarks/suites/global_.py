"""All activation patterns: convexnn's adaptive fit against gradient training on the same weight-decay objective (N).

Every gradient rival gets the wall time of our fit, at least --floor seconds, for each run of its grid of widths, steps
and seeds. The referee computes objectives from weights, looks for better neurons by a search of its own with fresh
starts, and bounds the objective of all networks of any width from below; the lower bound that convexnn proves is
checked by ``Certificate.verify`` and shown beside it.
"""

from __future__ import annotations

import json

import numpy as np

from benchmarks import plots, racing, rivals
from benchmarks.records import markdown
from benchmarks.search import fresh_price
from convexnn import certify

TITLE = "All activation patterns, against gradient training"
QUESTION = "How low, how soon, and does any gradient run or fresh search find anything better than the adaptive fit?"
SETS = ["yacht", "auto_mpg", "concrete", "energy_heating", "energy_cooling", "wine_quality_red", "kin8nm"]
SETS += [
    "power_plant",
    "abalone",
    "naval_compressor",
    "diabetes",
    "pima",
    "ionosphere",
    "banknote",
    "spambase",
    "magic",
]
METHODS = [method for rival in racing.GRADIENT for method in rivals.load(rival).METHODS]
OPTIONS = {
    "sets": (SETS, ["diabetes", "300x3"], "data sets"),
    "shares": ([0.1, 0.02], [0.1], "alpha over the smallest alpha without neurons"),
    "widths": ([100, 500], [100], "neurons of gradient rivals"),
    "methods": (METHODS, METHODS, "gradient methods"),
    "steps": (3, 2, "step sizes of each method, its default first"),
    "seeds": (3, 1, "seeds of gradient rivals"),
    "tol": (1e-6, 1e-5, "relative gap of our fit"),
    "max-time": (60.0, 20.0, "limit of our fit in seconds"),
    "floor": (3.0, 1.0, "least seconds of a rival's run"),
    "max-rows": (12_000, 500, "rows of a data set, drawn with seed 0"),
    "bound-time": (60.0, 5.0, "limit in seconds of each proof of a lower bound"),
}
headline = racing.headline
COLUMNS = [*racing.COLUMNS, "referee bound", "certified bound", "certified by", "fresh price"]
KEY = racing.KEY
ACCURACIES = (1e-4, 1e-6)
# Bars: the price of the best neuron that a fresh search finds, and the relative drop of any gradient run below ours.
PRICE, DROP = 1e-4, 1e-6


def judged(training, args):
    """What only our fit needs: lower bounds, and a fresh search for better neurons."""

    def more(model, network):
        theta = training.theta(network)
        lifted = np.column_stack([training.X, np.ones(len(training.X))])
        neurons = np.column_stack([network[0], network[1]])
        found = {"fresh price": fresh_price(lifted, theta, neurons, max_time=args.bound_time) / training.alpha}
        found["referee bound"] = training.lower_bound(theta, args.bound_time)
        settings = dict(alpha=training.alpha, loss=training.loss, max_time=args.bound_time)
        proof = certify(model.network_, training.X, training.y, fit_intercept=training.intercept, **settings)
        verified = proof.verify(training.X, training.y) if proof.scope == "global" else None
        return found | {"certified bound": verified, "certified by": proof.method if verified is not None else ""}

    return more


def rows(args, table):
    """Our fit first: its seconds are the rivals'."""
    for name, share, training in racing.problems(args, table):
        yield from racing.ours(name, share, training, args, table, more=judged(training, args))
        mine = table.find(set=name, share=share, rival="convexnn")[0]
        limit = max(mine["seconds"] or 0.0, args.floor)
        yield from racing.gradient(name, share, training, args, table, limit, args.methods)


def grouped(rows):
    """Rows by (set, share), as far as our fit is among them."""
    groups = {}
    for row in rows:
        groups.setdefault((row["set"], row["share"]), []).append(row)
    return {
        key: group
        for key, group in groups.items()
        if any(row["rival"] == "convexnn" and row["objective"] is not None for row in group)
    }


def verdict(groups):
    """How many problems meet both bars, as a sentence, and the others with what they miss."""
    missed, runs = [], 0
    for (name, share), group in groups.items():
        mine = next(row for row in group if row["rival"] == "convexnn")
        values = [row["objective"] for row in group if row["rival"] != "convexnn" and row["objective"] is not None]
        drop, runs = 1 - min(values, default=np.inf) / mine["objective"], runs + len(values)
        if mine["fresh price"] > 1 + PRICE or drop > DROP:
            found = f"{mine['status']}, fresh price 1 {mine['fresh price'] - 1:+.1e}, lowest run {-drop:+.1e}"
            missed.append(f"* {name} at {share:g} alpha_max: {found}")
    count = f"**{len(groups) - len(missed)} of {len(groups)} problems meet both bars**"
    bars = f"no fresh price above 1 + {PRICE:g}, and none of the {runs} gradient runs lower by more than {DROP:g}"
    return [f"{count}: {bars}.{' The others:' if missed else ''}", "", *missed, *([""] if missed else [])]


def first_there(methods, seconds):
    """How often each method arrives within an accuracy of the best known objective, and how often first; lines.

    ``seconds`` has shape (n_problems, n_methods, n_accuracies), inf where a method does not arrive.
    """
    lines = []
    for k, accuracy in enumerate(ACCURACIES):
        times = seconds[:, :, k]
        first = np.isfinite(times) & (times <= times.min(axis=1, keepdims=True))
        counts = zip(methods, np.isfinite(times).sum(axis=0), first.sum(axis=0))
        words = ", ".join(f"{method} {arrived} ({ahead})" for method, arrived, ahead in counts)
        lines.append(
            f"* Within {accuracy:g} on how many of {len(seconds)} problems, in brackets first or tied: {words}."
        )
    return lines


def report(rows, folder):
    """Excess of every rival over our objective, seconds to an accuracy, and curves with lower bounds."""
    groups, main, soon, panels, seconds = grouped(rows), [], [], {}, []
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if not m.startswith("convexnn")]
    for (name, share), group in groups.items():
        mine = next(row for row in group if row["rival"] == "convexnn")
        value = mine["objective"]
        bounds = {"lower bound by the referee": mine["referee bound"]}
        bounds["lower bound proved by convexnn"] = mine["certified bound"]
        shown = [f"{1 - bound / value:.1e}" if bound is not None else "-" for bound in bounds.values()]
        cells = []
        curves = {"convexnn adaptive": [json.loads(mine["trace"])]}
        best = min(row["objective"] for row in group if row["objective"] is not None)
        arrivals = [[racing.reached(mine, best * (1 + accuracy)) for accuracy in ACCURACIES]]
        for method in methods:
            good, plain = racing.tuned(group, method)
            if not good:
                cells.append("-")
                arrivals.append([np.inf] * len(ACCURACIES))
                continue
            excess = [np.array([row["objective"] for row in runs]) / value - 1 for runs in (good, plain)]
            cells.append(f"{excess[0].min():+.1e} / {np.median(excess[0]):+.1e} / {np.median(excess[1]):+.1e}")
            curves[method] = [json.loads(row["trace"]) for row in good]
            arrivals.append([min(racing.reached(r, best * (1 + a)) for r in good) for a in ACCURACIES])
        first = [name, f"{mine['n']:.0f}, {mine['d']:.0f}", f"{share:g}", f"{value:.7g}", f"{mine['seconds']:.1f}"]
        main.append([*first, f"{mine['neurons']:.0f}", f"{mine['fresh price'] - 1:+.1e}", *shown, *cells])
        seconds.append(arrivals)
        text = [" / ".join(f"{t:.2f}" if np.isfinite(t) else "-" for t in pair) for pair in arrivals]
        limits = sorted({f"{row['limit']:.1f}" for row in group if row["rival"] != "convexnn"}, key=float)
        soon.append([name, f"{share:g}", f"{best:.7g}", " to ".join(dict.fromkeys([*limits[:1], *limits[-1:]])), *text])
        lines = {label: bound for label, bound in bounds.items() if bound is not None}
        panels[f"{name}, {share:g} alpha_max"] = curves, lines
    if not groups:
        return ["No set has a row of ours yet."]
    least = min(share for _, share in groups)
    chosen = {title: panel for title, panel in panels.items() if title.endswith(f", {least:g} alpha_max")}
    picture = plots.times(folder / "global_times", dict(list(chosen.items())[:6]))
    heads = ["set", "n, d", "share", "ours", "seconds", "neurons", "fresh price - 1", "referee's gap", "proved gap"]
    return [
        *verdict(groups),
        "Excess of each method's objective over ours: best and median of the seeds with the tuned width and step, and "
        "median with the package's default step (untuned). Every run has the wall time of the fit of ours that was "
        "there when it began (below: limit of a run). Fresh price: of the best neuron that the referee's own search "
        "finds, over alpha, minus one. Gaps: one minus the lower bound over our objective; the referee's holds for "
        "networks of any width too, and is loose above six features.",
        "",
        *markdown([*heads, *(f"{m}: best / tuned / untuned" for m in methods)], main),
        "",
        picture,
        "",
        "Seconds until within 1e-4 / 1e-6 of the best known objective (the lowest of any row): ours, and the earliest "
        "of the seeds of each method with its tuned setting; tuning does not count.",
        "",
        *first_there(["convexnn", *methods], np.array(seconds)),
        "",
        *markdown(["set", "share", "best known", "limit of a run", "convexnn", *methods], soon),
    ]
