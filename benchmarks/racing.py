"""Program (N) raced: convexnn's fits, then every gradient rival for the same wall time, all graded by the referee."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import rivals
from benchmarks.data import load, standardised
from benchmarks.records import log
from benchmarks.referee import Training
from benchmarks.rivals import convexnn_

COLUMNS = ["set", "n", "d", "loss", "share", "alpha", "rival", "method", "width", "step", "seed", "limit", "seconds"]
COLUMNS += ["objective", "neurons", "test loss", "test error", "status", "trace"]
KEY = ["set", "share", "method", "width", "step", "seed"]
#: The rivals that train networks.
GRADIENT = ("scipy", "torch", "sklearn")
#: What is offered of convexnn: settings of the estimator.
OURS = {
    "adaptive": dict(patterns="adaptive"),
    "newton": dict(patterns="sampled", n_patterns=1000, solver="newton"),
    "fista": dict(patterns="sampled", n_patterns=1000, solver="fista"),
}


def opened(name, share, args, table, intercept=True, loss=None):
    """The training problem of a data set at a share of alpha_max, which finished rows know already."""
    X, y, task = load(name, args.data)
    if len(y) > args.max_rows:
        rows = np.random.default_rng(0).permutation(len(y))[: args.max_rows]
        X, y = X[rows], y[rows]
    X, y = standardised(X, y, task)
    loss = loss or ("squared" if task == "regression" else "log_loss")
    training = Training(X, y, loss, 1.0, intercept)
    known = [row["alpha"] / row["share"] for row in table.find(set=name)]
    training.alpha = float(f"{share * (known[0] if known else convexnn_.alpha_max(training)):.7g}")
    return training


def problems(args, table):
    """Set, share and training problem of every set that is there, at every share."""
    for name in args.sets:
        for share in args.shares:
            try:
                training = opened(name, share, args, table)
            except LookupError as error:
                log(str(error))
                break
            yield name, share, training


def headline(row):
    """What a run prints of a row: seconds and objective."""
    return [f"{row['seconds']:.2f} s", f"{row['objective']:.8g}"] if row.get("objective") else [row.get("status", "")]


def thin(trace, n_points=80):
    """A trace with about that many points, dense early in time and where the objective still falls; as text."""
    trace = [point for point in trace if np.isfinite(point[1])]
    if not trace:
        return "[]"
    lowest = np.minimum.accumulate([value for _, value in trace])
    keep = {0, len(trace) - 1, *np.unique(np.geomspace(1, len(trace), n_points // 3).astype(int) - 1)}
    left = np.log(np.maximum(lowest - lowest[-1], 1e-9 * abs(lowest[-1])) + 1e-300)
    marks = np.linspace(left[0], left[-1], n_points // 2)
    keep |= set(np.searchsorted(-left, -marks).clip(0, len(trace) - 1).tolist())
    return json.dumps([[float(f"{trace[k][0]:.4g}"), float(f"{lowest[k]:.12g}")] for k in sorted(keep)])


def reached(row, target):
    """Seconds at which a row's trace is at or below a target; inf if never."""
    return next((seconds for seconds, value in json.loads(row["trace"] or "[]") if value <= target), np.inf)


def about(name, share, training):
    """The first columns of a row."""
    n, d = training.X.shape
    return {"set": name, "n": n, "d": d, "loss": training.loss, "share": share, "alpha": training.alpha}


def ours(name, share, training, args, table, kinds=("adaptive",), more=None, seed=0):
    """Rows of convexnn's fits; ``more(model, network)`` gives further columns."""
    for kind in kinds:
        row = about(name, share, training) | {"rival": "convexnn", "method": f"convexnn {kind}", "seed": seed}
        row |= {"width": None, "step": None, "limit": args.max_time}
        if row in table:
            continue
        options = dict(tol=args.tol, max_time=args.max_time, random_state=seed)
        try:
            model, seconds = convexnn_.fitted(training, **options, **OURS[kind])
        except Exception as error:  # one failure is a row, not the end of a run of hours
            yield row | {"status": f"failed: {error!r}", "trace": "[]"}, []
            continue
        network = convexnn_.weights(model.network_)
        row |= training.judge(network) | {"seconds": seconds, "status": model.result_.status}
        # What the history says counts only as far as the weights confirm it.
        trace = [
            (s, value) for s, value in convexnn_.trace_of(model, seconds) if value >= row["objective"] * (1 - 1e-9)
        ]
        yield row | {"trace": thin([*trace, (seconds, row["objective"])])} | (more(model, network) if more else {}), []


def gradient(name, share, training, args, table, limit, methods=None):
    """Rows of every gradient rival over its grid of widths, step sizes and seeds, ``limit`` seconds a run.

    Yields pairs of a row and the pins of the rival's environment.
    """
    for rival in GRADIENT:
        module, runs, first = rivals.load(rival), [], about(name, share, training)
        for method, steps in module.METHODS.items():
            if methods is not None and method not in methods:
                continue
            for width in args.widths:
                for step in steps[: args.steps]:
                    for seed in range(args.seeds):
                        run = dict(method=method, width=int(width), step=step, seed=seed, max_time=limit)
                        if first | run not in table:
                            runs.append(run)
        begun = first | {"rival": rival, "limit": limit}
        try:
            for run, network, trace in module.train(training, args, runs) if runs else ():
                row = begun | {key: run[key] for key in ("method", "width", "step", "seed")}
                row |= training.judge(network) | {"seconds": trace[-1][0], "trace": thin(trace), "status": ""}
                yield row, module.PINS
        except Exception as error:  # as above
            error = error if isinstance(error, RuntimeError) else f"failed: {error!r}"
            log("  ", rival, str(error))
            for method in dict.fromkeys(run["method"] for run in runs):
                row = begun | {"method": method, "width": None, "step": None, "seed": 0, "status": str(error)}
                if row not in table:
                    yield row, []


def tuned(rows, method):
    """Runs of the setting (width, step) with the lowest mean objective over its seeds, and of the untuned one.

    Untuned: the default step, the first width.
    """
    runs = [row for row in rows if row["method"] == method and row["objective"] is not None]
    settings = {}
    for row in runs:
        settings.setdefault((row["width"], row["step"]), []).append(row)
    if not settings:
        return [], []
    best = min(settings.values(), key=lambda group: np.mean([row["objective"] for row in group]))
    return best, next(iter(settings.values()))
