"""The same restricted convex program, squared loss and no intercept, by convexnn and every convex rival.

NxD:P is a generated set with P gates and no hidden bias; NAME:P any data set, standardised, with a column of ones as a
hidden bias that is penalised with the other weights. alpha = n / 1000; SIZE@SHARE: that share of the smallest alpha for
which all weights are zero. All methods get the same rows, targets and gates. Seconds are those of the solve alone, by
the rival's own clock (Clarabel, SCS, pyscnn) or the clock around its solve, without making matrices and constraints,
and without compilation.
"""

from __future__ import annotations

import numpy as np

from benchmarks import plots, rivals
from benchmarks.data import load, standardised
from benchmarks.records import log, markdown
from benchmarks.referee import Program

TITLE = "Solvers of the restricted convex program"
QUESTION = "How fast are Newton and FISTA beside every other convex tool on the same sampled program?"
OPTIONS = {
    "sizes": (
        ["500x10:300", "1000x20:500@0.01", "concrete:500@0.01", "2000x50:1000@0.01"],
        ["300x8:100", "diabetes:100@0.01"],
        "programs",
    ),
    "kinds": (["gated", "relu"], ["gated", "relu"], "gated ReLU, ReLU"),
    "rivals": (list(rivals.RIVALS), list(rivals.RIVALS), "rivals, convexnn first"),
    "repeats": (3, 1, "solves of which the best time counts"),
    "al-iters": (10_000, 1_000, "limit on pyscnn's iterations for ReLU"),
    "rfista-iters": (10_000, 5_000, "limit on pyscnn's iterations for gated ReLU"),
    "max-time": (600.0, 10.0, "limit of one run in seconds"),
}
COLUMNS = ["problem", "size", "n", "d", "patterns", "alpha", "rival", "method", "setting", "seconds", "objective"]
COLUMNS += ["neurons", "bound", "as ReLU net", "cone violation"]
KEY = ["problem", "size", "rival", "method", "setting"]
TARGETS = (1e-4, 1e-6)
OWN = "convexnn Newton, proof of 1e-6"
CAPTION = (
    "Relative gap: objective over the best lower bound of any method's dual point, minus one (negative: weights left "
    "their cones). Own bound: one minus the bound by the method's own dual point (its residuals where it has none) "
    "over its objective. As ReLU net: relative gap of the ReLU network with these weights. Cone violation: largest "
    "distance to the wrong side, per unit of the block's norm and of the row's. All recomputed in float64 from "
    "returned weights by benchmarks/referee.py."
)


def program(size, data, cones):
    """The restricted program that a size stands for."""
    name, _, share = size.partition("@")
    name, _, n_gates = name.partition(":")
    X, y, task = load(name, data)
    if "x" not in name:
        X, y = standardised(X, y, task)
        X = np.column_stack([X, np.ones(len(X))])
    alpha = {"share": float(share)} if share else {"alpha": len(y) * 1e-3}
    return Program(X, y, int(n_gates), cones, **alpha)


def rows(args, table):
    """Rows of a rival come together, when it is done with a program."""
    for size in args.sizes:
        for kind in args.kinds:
            try:
                referee = program(size, args.data, kind == "relu")
            except LookupError as error:
                log(f"{size}: {error}")
                continue
            (n, d), patterns = referee.X.shape, referee.D.shape[1]
            first = {"problem": kind, "size": size, "n": n, "d": d, "patterns": patterns, "alpha": referee.alpha}
            referee.bound = max([row["bound"] or 0.0 for row in table.find(problem=kind, size=size)], default=0.0)
            for name in args.rivals:
                if table.find(problem=kind, size=size, rival=name):
                    continue
                module = rivals.load(name)
                if hasattr(module, "MISSING"):
                    yield first | {"rival": name, "method": name, "setting": module.MISSING, "seconds": np.inf}, []
                    continue
                if not hasattr(module, "convex"):
                    continue
                found = []
                try:
                    for method, setting, seconds, coef, theta in module.convex(referee, args):
                        figures = {"method": method, "setting": setting, "seconds": seconds}
                        found.append(first | {"rival": name} | figures | referee.judge(coef, theta))
                except Exception as error:  # one failure is a row, not the end of a run of hours
                    why = str(error) if isinstance(error, RuntimeError) else f"failed: {error!r}"
                    found.append(first | {"rival": name, "method": name, "setting": why, "seconds": np.inf})
                for row in found:
                    yield row, module.PINS


def headline(row):
    """Seconds and objective."""
    return [f"{row['seconds']:.2f} s", f"objective {row['objective']:.9g}"] if row.get("objective") else []


def graded(rows):
    """Rows of one program with their gaps."""
    bound = max(row["bound"] or 0.0 for row in rows)
    for row in rows:
        known = row["objective"] is not None
        row["relative gap"] = row["objective"] / bound - 1 if known else None
        row["own bound"] = 1 - row["bound"] / row["objective"] if known and row["bound"] else None
        row["net gap"] = row["as ReLU net"] / bound - 1 if row["as ReLU net"] is not None else row["relative gap"]
    return bound


def seconds_to(rows, method, target):
    """Least seconds of a method's rows whose weights, and whose network for ReLU, are within the target."""
    return min(
        (
            row["seconds"]
            for row in rows
            if row["method"] == method
            and row["objective"] is not None
            and max(abs(row["relative gap"]), row["net gap"]) <= target * (1 + 1e-6)
        ),
        default=np.inf,
    )


def certified(rows, method, target=1e-6):
    """Least seconds of a method's rows that prove the target by their own dual point, weights inside their cones."""
    return min(
        (
            row["seconds"]
            for row in rows
            if row["method"] == method
            and row["own bound"] is not None
            and row["own bound"] <= target
            and (row["cone violation"] or 0.0) < 1e-9
        ),
        default=np.inf,
    )


def report(rows, folder):
    """A table of ratios, two pictures, a table for each program."""
    programs, parts, ratio_rows, panels, bar_panels, summary = {}, [], [], {}, {}, {OWN: {}}
    for row in rows:
        programs.setdefault((row["problem"], row["size"]), []).append(row)
    for (kind, size), own in programs.items():
        bound, title = graded(own), f"{'ReLU' if kind == 'relu' else 'gated ReLU'}, {size}"
        methods = list(dict.fromkeys(row["method"] for row in own))
        newton = certified(own, "convexnn Newton")
        bars = {}
        for method in methods:
            times = [seconds_to(own, method, target) for target in TARGETS]
            ratios = [t / newton if np.isfinite(t) and np.isfinite(newton) else np.inf for t in times]
            why = "" if np.isfinite(times[-1]) else reason(own, method)
            shown = [f"{t:.2f} s ({r:.3g})" if np.isfinite(r) else "-" for t, r in zip(times, ratios)]
            proved = certified(own, method)
            ratio_rows.append([title, method, *shown, f"{proved:.2f} s" if np.isfinite(proved) else "-", why])
            words = (
                f"{ratios[-1]:.3g}" if np.isfinite(ratios[-1]) else "left out" if "left out" in why else "not reached"
            )
            if not why.startswith(("not available", "left out")):
                bars[method] = ratios[-1], words
            summary.setdefault(method, {})[title] = f"{ratios[-1]:.3g}" if np.isfinite(ratios[-1]) else short(why)
        summary.setdefault(OWN, {})[title] = f"{newton:.2f} s" if np.isfinite(newton) else "not reached"
        bar_panels[title] = bars
        panels[title] = {
            method: [
                (row["seconds"], max(abs(row["relative gap"]), row["net gap"], 1e-10))
                for row in own
                if row["method"] == method and row["objective"] is not None
            ]
            for method in methods
        }
        shown = ["method", "setting", "seconds", "relative gap", "own bound"]
        shown += ["net gap", "cone violation", "neurons"] if kind == "relu" else ["neurons"]
        first = own[0]
        about = f"n={first['n']:.0f}, d={first['d']:.0f}, {first['patterns']:.0f} patterns, alpha {first['alpha']:.6g}"
        parts += ["", f"## {title}: {about}, best lower bound {bound:.9g}", ""]
        heads = ["as ReLU net" if head == "net gap" else head for head in shown]
        parts += markdown(heads, [[cell(head, row[head]) for head in shown] for row in own])
    heads = ["program", "method", *(f"within {target:g}" for target in TARGETS), "proved to 1e-06 by itself", "remark"]
    pictures = [
        plots.bars(folder / "solvers_ratios", bar_panels, "time to 1e-6, over Newton's to its own proof of 1e-6"),
        plots.gaps(folder / "solvers_gaps", panels),
    ]
    words = (
        "Seconds until the objective is within 1e-4 and 1e-6 of the best lower bound, from either side (from below: "
        "the weights left their cones), and the value of the ReLU network of the weights is not above that; in "
        "brackets as multiples of the time that Newton takes to a *proved* gap of 1e-6."
    )
    first = (
        "Time until the objective is within 1e-6 of the best lower bound, as a multiple of the time that Newton takes "
        "until it *proves* as much; that time itself in the first row. Best of each method's settings; one run may "
        "take --max-time: see the command below."
    )
    titles = list(panels)
    overview = [[method, *(cells.get(title, "") for title in titles)] for method, cells in summary.items()]
    lines = [first, "", *markdown(["method", *titles], overview), "", *pictures, "", "## Two accuracies", "", words, ""]
    return [*lines, *markdown(heads, ratio_rows), *parts, "", CAPTION]


def short(why):
    """A reason in two or three words."""
    for word in ("not available", "left out", "not installed", "outside the cones"):
        if word in why:
            return word if word != "left out" or "cone" not in why else "no cones"
    return "not reached"


def reason(rows, method):
    """Why a method did not arrive: its last words."""
    last = [row for row in rows if row["method"] == method][-1]
    gap = last["relative gap"]
    if gap is not None and gap < -1e-6:
        return f"{-gap:.0e} below the bound: outside the cones, by up to {last['cone violation']:.0e}"
    return last["setting"] if gap is None else f"ended at {max(gap, last['net gap']):.0e}"


def cell(column, value):
    """Text of a table cell."""
    if value is None or isinstance(value, str):
        return value or ""
    if column == "neurons":
        return f"{value:.0f}"
    if column == "seconds":
        return f"{value:.2f}" if np.isfinite(value) else "-"
    return f"{value:.1e}"
