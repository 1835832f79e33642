"""Time and memory of our solvers against rows, features and patterns, on generated data, with fitted power laws.

One size grows, the others stay. Restricted programs at 0.01 alpha_max by Newton and by FISTA, and the fit over all
patterns at 0.05 alpha_max. Memory: peak of what Python and NumPy allocate, in a second run, which is not timed.
"""

from __future__ import annotations

import tracemalloc
from time import perf_counter

import numpy as np

from benchmarks import plots
from benchmarks.data import load, standardised
from benchmarks.records import markdown
from benchmarks.referee import Program, Training
from benchmarks.rivals import convexnn_
from convexnn.solvers import Fista, Newton

TITLE = "Scaling"
QUESTION = "How do time and memory grow with rows, features and patterns?"
OPTIONS = {
    "rows": ([250, 500, 1000, 2000, 4000], [100, 200], "numbers of rows; the others stay at the first size"),
    "features": ([5, 10, 20, 40, 80], [4, 8], "numbers of features"),
    "patterns": ([125, 250, 500, 1000, 2000], [50, 100], "numbers of gates"),
    "base": ([1000, 10, 250], [150, 5, 50], "rows, features and gates that stay"),
    "methods": (["newton gated", "newton relu", "fista gated", "adaptive"], ["newton gated", "adaptive"], "methods"),
    "tol": (1e-5, 1e-4, "relative gap"),
    "max-time": (300.0, 20.0, "limit of a solve in seconds"),
}
COLUMNS = ["method", "grows", "n", "d", "patterns", "alpha", "seconds", "memory", "objective", "neurons", "status"]
KEY = ["method", "n", "d", "patterns", "grows"]


def solved(method, n, d, patterns, args):
    """A function that solves, and one that judges what it returns."""
    X, y, _ = load(f"{n}x{d}")
    X, y = standardised(X, y, "regression")
    if method == "adaptive":
        training = Training(X, y, "squared", 1.0)
        training.alpha = 0.05 * convexnn_.alpha_max(training)

        def solve():
            model, _ = convexnn_.fitted(training, tol=args.tol, max_time=args.max_time)
            return model.network_, model.result_.status

        return training.alpha, solve, lambda network: training.judge(convexnn_.weights(network))
    name, kind = method.split()
    program = Program(X, y, patterns, kind == "relu", share=0.01)
    problem = convexnn_.problem_of(program)
    solver = (Newton if name == "newton" else Fista)(tol=args.tol, max_time=args.max_time)

    def solve():
        result = solver.solve(problem)
        return result.coef, result.status

    return program.alpha, solve, lambda coef: program.judge(coef)


def rows(args, table):
    """One size grows at a time."""
    for method in args.methods:
        for place, (grows, sizes) in enumerate({"n": args.rows, "d": args.features, "patterns": args.patterns}.items()):
            for size in sizes if method != "adaptive" or grows != "patterns" else ():
                n, d, patterns = (size if k == place else value for k, value in enumerate(args.base))
                row = {"method": method, "grows": grows, "n": n, "d": d}
                row["patterns"] = patterns if method != "adaptive" else None
                if row in table:
                    continue
                row["alpha"], solve, judge = solved(method, n, d, patterns, args)
                start = perf_counter()
                found, row["status"] = solve()
                row["seconds"] = perf_counter() - start
                tracemalloc.start()
                solve()
                row["memory"] = tracemalloc.get_traced_memory()[1] / 2**20
                tracemalloc.stop()
                judged = judge(found)
                yield row | {name: judged[name] for name in ("objective", "neurons")}, []


def headline(row):
    """Sizes and figures."""
    return [f"n={row['n']}, d={row['d']}, P={row['patterns']}", f"{row['seconds']:.2f} s", f"{row['memory']:.0f} MiB"]


def slope(sizes, values):
    """Exponent of the power law through the points, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 else np.nan


def report(rows, folder):
    """Exponents, curves and the table."""
    names = {"n": "rows", "d": "features", "patterns": "patterns"}
    panels, lines = {}, []
    for column, ordinate in (("seconds", "seconds"), ("memory", "MiB")):
        for grows, word in names.items():
            methods = {}
            for method in dict.fromkeys(row["method"] for row in rows):
                own = sorted(
                    (row[grows], row[column]) for row in rows if (row["method"], row["grows"]) == (method, grows)
                )
                if own:
                    sizes, values = zip(*own)
                    methods[method] = sizes, values, slope(sizes, values)
                    exponent = f"{methods[method][2]:.2f}"
                    lines.append([method, ordinate, word, f"{sizes[0]:.0f} to {sizes[-1]:.0f}", exponent])
            if methods:
                panels[f"{ordinate} against {word}", word, ordinate] = methods
    shown = ["method", "grows", "n", "d", "patterns", "seconds", "memory", "neurons", "status"]
    body = [[f"{row[c]:.3g}" if isinstance(row[c], float) else row[c] or "" for c in shown] for row in rows]
    return [
        "Exponent: of the power law through the points, by least squares of the logarithms. Memory in MiB.",
        "",
        *markdown(["method", "what", "against", "from, to", "exponent"], lines),
        "",
        plots.slopes(folder / "scaling", panels),
        "",
        *markdown(shown, body),
    ]
