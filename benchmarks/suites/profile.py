"""Performance profile over the UCI sets of the papers on convex networks, six regularisation levels each.

Squared loss on targets -1 and 1 (of more than two classes: the most frequent one against the rest), standardised
features, at most --max-rows rows. All methods minimise (N), have the same wall time, and are judged by their networks.
The idea is that of figure 4 of [1]_; the profile is that of [2]_. Without a data folder scikit-learn's sets are used.

References
----------
.. [1] A. Mishkin, A. Sahiner, M. Pilanci, Fast convex optimization for two-layer ReLU networks, ICML 2022.
.. [2] E. Dolan, J. More, Benchmarking optimization software with performance profiles, Math. Programming 91 (2002).
"""

from __future__ import annotations

import numpy as np

from benchmarks import plots, racing
from benchmarks.data import uci_protocol
from benchmarks.records import log, markdown

TITLE = "Performance profile"
QUESTION = "Which share of many training problems does each method solve, how accurately, and how soon?"
SHARES = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
OPTIONS = {
    "sets": (["all"], ["all"], "data sets"),
    "shares": (SHARES, SHARES, "alpha over the smallest alpha without neurons"),
    "every": (1, 10, "one problem of so many, drawn with seed 0"),
    "widths": ([200], [200], "neurons of gradient rivals"),
    "steps": (3, 2, "step sizes of each method, its default first"),
    "seeds": (1, 1, "seeds of gradient rivals"),
    "tol": (1e-5, 1e-4, "relative gap of our fits"),
    "max-time": (10.0, 2.0, "limit of every run in seconds, ours and rivals'"),
    "max-rows": (5_000, 1_000, "rows of a data set, drawn with seed 0"),
}
headline = racing.headline
COLUMNS, KEY = racing.COLUMNS, racing.KEY
ACCURACIES = (1e-2, 1e-3, 1e-4)
LATE = 1.1


def rows(args, table):
    """Problem by problem, so that a run that is ended early has whole ones."""
    every = uci_protocol.names(args.data) or ["iris", "wine", "breast_cancer", "digits"]
    names = every if args.sets == ["all"] else args.sets
    problems = [(name, share) for name in names for share in args.shares]
    # A fixed part: drawn by a seed, in the order of the list.
    order = np.random.default_rng(0).permutation(len(problems))[: -(-len(problems) // args.every)]
    problems = [problems[k] for k in sorted(order)]
    for k, (name, share) in enumerate(problems):
        log(f"problem {k + 1} of {len(problems)}: {name}, {share:g}")
        try:
            training = racing.opened(name, share, args, table, loss="squared")
        except LookupError as error:
            log(str(error))
            continue
        yield from racing.ours(name, share, training, args, table, racing.OURS)
        yield from racing.gradient(name, share, training, args, table, args.max_time)


def arrivals(rows, accuracy):
    """For each method seconds to an accuracy on each problem, inf if never; ours, and others untuned and tuned."""
    problems = {}
    for row in rows:
        if row["objective"] is not None:
            problems.setdefault((row["set"], row["share"]), []).append(row)
    methods = list(dict.fromkeys(row["method"] for group in problems.values() for row in group))
    runs = {(key, m): [row for row in group if row["method"] == m] for key, group in problems.items() for m in methods}
    found = {}
    for key, group in problems.items():
        target = min(row["objective"] for row in group) * (1 + accuracy)
        for method in methods:
            own = runs[key, method]
            times = [racing.reached(row, target) for row in own]
            # A run that overshot its limit has not arrived in time.
            times = [t if t <= LATE * row["limit"] else np.inf for t, row in zip(times, own)]
            if max(len(runs[other, method]) for other in problems) == 1:
                found.setdefault(method, []).append(min(times, default=np.inf))
                continue
            plain = [
                t for t, row in zip(times, own) if (row["width"], row["step"]) == (own[0]["width"], own[0]["step"])
            ]
            found.setdefault(f"{method}, default", []).append(min(plain, default=np.inf))
            found.setdefault(f"{method}, tuned", []).append(min(times, default=np.inf))
    return {method: np.array(times) for method, times in found.items()}, len(problems)


def report(rows, folder):
    """Shares of problems, and the profile at two accuracies."""
    panels, table = {}, {}
    if all(row["objective"] is None for row in rows):
        return ["No run has ended well yet."]
    for accuracy in ACCURACIES:
        found, n_problems = arrivals(rows, accuracy)
        fastest = np.min(list(found.values()), axis=0)
        for method, times in found.items():
            first = np.isfinite(times) & (times <= fastest * (1 + 1e-9))
            cells = [f"{np.mean(np.isfinite(times)):.0%}", f"{np.mean(first):.0%}"]
            table.setdefault(method, []).extend(cells)
        if accuracy in ACCURACIES[1:]:
            panels[f"within {accuracy:g}", "seconds"] = found
            # Below a millisecond the clock decides, not the method.
            base = np.maximum(fastest, 1e-3)
            ratios = {m: np.where(np.isfinite(t), np.maximum(t, 1e-3) / base, np.inf) for m, t in found.items()}
            panels[f"within {accuracy:g}", "time over the fastest method's"] = ratios
    heads = ["method", *(f"{word} {accuracy:g}" for accuracy in ACCURACIES for word in ("within", "first within"))]
    limits = sorted({f"{row['limit']:g}" for row in rows})
    lines = [
        f"{n_problems} problems (set x alpha), {', '.join(limits)} s for every run. Share of the problems on which a "
        "method comes within a relative accuracy of the best objective that any run found, and on which it is first. "
        f"Arrivals count up to {LATE:g} times the limit. Tuned: the fastest of the grid of steps on each problem, "
        "tuning not counted; default: the package's own step.",
        "",
        *markdown(heads, [[method, *cells] for method, cells in table.items()]),
        "",
        plots.profile(folder / "profile", panels),
    ]
    return lines
