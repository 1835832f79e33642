"""Adaptive fits beside gradient descent on the same weight-decay objective: how low, how soon, and is anything missed?

    python benchmarks/global.py --data DIR                      # results/global.md
    python benchmarks/global.py --data DIR --time-to-accuracy   # results/time_to_accuracy.md
    python benchmarks/global.py --data DIR --small-alpha        # results/small_alpha.md
    python benchmarks/global.py --data DIR --quick              # two small sets, nothing kept

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and classification/*.csv.gz: one header row,
the target in the last column. Features and regression targets are standardised, constant features become zeros.

The runs of L-BFGS and Adam are appended to results/global_rivals.csv, ours to results/global_ours.csv, as they end;
a run that is there already is not repeated: delete a file, or some of its rows, to repeat them. alpha_max of each set
is written to results/global_alpha.csv once.
Objectives of the networks, and the search for a neuron that would improve them, are computed here from weights alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from rivals.descent import LOSSES, WeightDecay, adam, lbfgs, sgd, tuned_step
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from convexnn import ConvexReLUClassifier, ConvexReLURegressor

HERE = Path(__file__).parent
REGRESSION = [
    "abalone",
    "auto_mpg",
    "concrete",
    "energy_cooling",
    "energy_heating",
    "kin8nm",
    "naval_compressor",
    "power_plant",
]
REGRESSION += ["wine_quality_red", "yacht"]
CLASSIFICATION = ["pima", "ionosphere", "banknote", "spambase", "magic"]
RACE = ["concrete", "energy_heating", "yacht", "auto_mpg", "wine_quality_red", "kin8nm", "power_plant", "pima"]
SMALL = ["yacht", "concrete", "energy_heating"]
QUICK = ["yacht", "pima"]
SHARES = (0.1, 0.02)
ROWS = 5000
STEPS = {adam: (3e-3, 1e-2, 3e-2, 1e-1), sgd: (1e-2, 3e-2, 1e-1, 3e-1)}
PRICE_BAR, RIVAL_BAR = 1e-4, 1e-6
ALPHA_FIELDS = ["set", "intercept", "n", "d", "loss", "alpha_max"]
RIVAL_FIELDS = ["set", "alpha", "method", "width", "seed", "step", "objective", "seconds", "iterations", "capped"]
OUR_FIELDS = ["set", "alpha", "tol", "objective", "seconds", "neurons", "status", "price_found"]
OUR_FIELDS += ["own_price", "fresh_price", "fresh_seconds"]
HEADS = ["set", "n", "d", "alpha", "loss", "ours", "seconds", "neurons", "fresh price - 1"]
HEADS += ["L-BFGS, 50", "L-BFGS, 200", "Adam, 200", "(best rival - ours) / ours", "seconds, L-BFGS", "verdict"]

CAPTION = """\
Objective (N): sum of losses + alpha / 2 (|W|^2 + |b|^2 + |a|^2), output bias free, alpha = {shares} of alpha_max (the
largest price found). Ours: `patterns="adaptive"`, tol {tol}. L-BFGS: best of {seeds} seeds, 20 pairs, up to {max_iter}
iterations, started again where it stops until that gains less than 1e-7 three times in a row; Adam: best of two seeds,
all rows, step of {steps} by a short run, {n_steps} steps, the last half falling to zero. {capped} of {runs} rival runs
hit their limit of {cap:g} s. Fresh price: the largest |theta^T (X u)_+| / alpha over unit u that a search of its own,
from 1,000 new random starts and the neurons of the network, finds with theta = minus the gradient of the loss at the
network's predictions; at a global optimum no price is above 1. Met: fresh price <= 1 + {price:g} and no rival lower
than ours by more than {rival:g} of it. Seconds of L-BFGS: all its runs, processor time (--threads 1). {magic}"""
MAGIC = f"magic: {ROWS} rows drawn with seed 0, as its first {ROWS} are of one class."


def read(name, folder):
    """Standardised X, y (-1 and 1 for classes) and the loss."""
    kind, loss = ("classification", "log_loss") if name in CLASSIFICATION else ("regression", "squared")
    table = np.loadtxt(Path(folder, kind, f"{name}.csv.gz"), delimiter=",", skiprows=1)
    if name == "magic":
        table = table[np.random.default_rng(0).permutation(len(table))[:ROWS]]
    X, y = table[:, :-1], table[:, -1]
    X = (X - X.mean(axis=0)) / np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
    X[:, np.ptp(X, axis=0) == 0] = 0.0
    return X, (2 * y - 1 if loss == "log_loss" else (y - y.mean()) / y.std()), loss


def stored(path):
    """Rows of a CSV file, numbers as floats; none when there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


def append(path, fields, row):
    """Add a row to a CSV file, with a head when the file is new."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.12g}" if isinstance(value, float) else value for key, value in row.items()})


def write(path, rows):
    """Write rows to a CSV file."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def estimator(loss, **options):
    """The adaptive estimator for a loss."""
    return (ConvexReLURegressor if loss == "squared" else ConvexReLUClassifier)(
        loss=loss, patterns="adaptive", certify=False, random_state=0, **options
    )


def find_alpha(name, X, y, loss, share, folder, intercept=True):
    """A share of alpha_max, which is searched for once and kept to 7 digits."""
    path = folder / "global_alpha.csv"
    for row in stored(path):
        if row["set"] == name and row["intercept"] == intercept:
            return float(f"{share * row['alpha_max']:.7g}")
    model = estimator(loss, alpha=1e9, fit_intercept=intercept).fit(X, y)
    values = [name, int(intercept), *X.shape, loss, float(f"{model.alpha_max_:.7g}")]
    append(path, ALPHA_FIELDS, dict(zip(ALPHA_FIELDS, values)))
    return find_alpha(name, X, y, loss, share, folder, intercept)


def fit(X, y, loss, alpha, tol, max_time, intercept=True):
    """A fitted adaptive estimator, its seconds and its objective by weights alone."""
    model = estimator(loss, alpha=alpha, tol=tol, max_time=max_time, fit_intercept=intercept)
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    seconds = perf_counter() - start
    return model, seconds, objective(X, y, loss, alpha, model.network_)[0]


def objective(X, y, loss, alpha, network):
    """Objective (N) of a network, and theta, minus the gradient of the loss at its predictions."""
    W, b, a = network.hidden_weights, network.hidden_biases, network.output_weights
    value, slope = LOSSES[loss](y, np.maximum(X @ W.T + b, 0.0) @ a + float(network.output_bias))
    return value + 0.5 * alpha * float(np.sum(W * W) + b @ b + a @ a), -slope


def fresh_price(X, theta, neurons, seed=12345, n_starts=1000, max_time=60.0):
    """Largest |theta^T (X u)_+| over the unit sphere that a search finds.

    Parameters
    ----------
    X : array of shape (n_samples, d)
        The data with their ones column.
    theta : array of shape (n_samples,)
        Minus the gradient of the loss.
    neurons : array of shape (n_neurons, d)
        Further starting points.
    seed, n_starts : int
        Random starting points.
    max_time : float
        Limit for the refinement of the points that the climbs found, best first, for each sign.

    Returns
    -------
    price : float
    """
    X, group = np.unique(X, axis=0, return_inverse=True)
    theta, best = np.bincount(group.ravel(), theta), 0.0
    starts = np.random.default_rng(seed).standard_normal((n_starts, X.shape[1]))
    starts = np.concatenate([neurons, starts])
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    for t in (theta, -theta):
        ends = [climb(X, t, starts[first : first + 250]) for first in range(0, len(starts), 250)]
        U, price = (np.concatenate(part) for part in zip(*ends))
        best, order, begin = max(best, price.max()), np.argsort(-price), perf_counter()
        # Climbs that end below eight tenths of the best, and all but 50 beside the neurons, are not refined.
        order = order[price[order] >= 0.8 * price.max()][: len(neurons) + 50]
        done = np.zeros((0, X.shape[1]))
        for u in U[order]:
            if np.any(done @ u > 1 - 1e-10):
                continue
            if perf_counter() - begin > max_time:
                break
            u, value = refine(X, t, u)
            done, best = np.vstack([done, u]), max(best, value)
    return best


def climb(X, t, U, n_steps=60):
    """Projected gradient ascent of t^T (X u)_+ from unit vectors, each with a line search of its own; ends, prices."""

    def price(U):
        G = ((X @ U.T > 0) * t[:, None]).T @ X
        return np.sum(G * U, axis=1), G

    (value, G), step = price(U), np.full(len(U), 0.5)
    for _ in range(n_steps):
        tangent = G - value[:, None] * U
        slope = np.linalg.norm(tangent, axis=1)
        trial = U + (step / np.maximum(slope, 1e-300))[:, None] * tangent
        trial /= np.linalg.norm(trial, axis=1, keepdims=True)
        new, G_new = price(trial)
        up = new > value + 1e-4 * step * slope
        U, G = np.where(up[:, None], trial, U), np.where(up[:, None], G_new, G)
        value, step = np.where(up, new, value), np.where(up, np.minimum(2 * step, 1.0), 0.4 * step)
        if np.all(step < 1e-6):
            break
    return U, value


def refine(X, t, u):
    """From a unit vector to the best of its cell, then across the walls it lies on, until no cell is better."""

    def price(u):
        return float(t @ np.maximum(X @ u, 0.0))

    value, on = price(u), X @ u >= 0
    v, walls = best_of_cell(X, t, on)
    if price(v) > value:
        u, value = v, price(v)
    for _ in range(20):
        cells = [on ^ np.isin(np.arange(len(X)), flipped) for flipped in (*walls[:, None], walls) if len(flipped)]
        found = [(*best_of_cell(X, t, cell), cell) for cell in cells]
        prices = [price(v) for v, _, _ in found]
        if not found or max(prices) <= value * (1 + 1e-9):
            return u, value
        u, walls, on = found[int(np.argmax(prices))]
        value = max(prices)
    return u, value


def best_of_cell(X, t, on):
    """Unit vector of the highest t^T (X u)_+ among those with the pattern ``on``, and the walls it lies on.

    The projection of X^T D t onto the cone, by non-negative least squares on the walls that matter.
    """
    g, inward = t[on] @ X[on], np.where(on, 1.0, -1.0)[:, None] * X
    v, walls, multipliers = g, np.zeros(0, dtype=int), np.zeros(0)
    for _ in range(30):
        inside = inward @ v
        lowest = np.argpartition(inside, min(X.shape[1], len(X) - 1))[: X.shape[1]]
        low = np.setdiff1d(lowest, walls)
        low = low[inside[low] < -1e-11 * np.linalg.norm(g)]
        if not len(low):
            break
        walls = np.concatenate([walls[multipliers > 0], low])
        try:
            multipliers = nnls(inward[walls].T, -g, maxiter=50 * len(walls))[0]
        except RuntimeError:
            break
        v = g + multipliers @ inward[walls]
    size = np.linalg.norm(v)
    kept = walls[multipliers > 0] if len(multipliers) == len(walls) else walls
    return (v / size if size > 1e-12 * np.linalg.norm(g) else np.zeros_like(g)), kept


def run_rivals(name, X, y, loss, alpha, args, folder):
    """L-BFGS and Adam on one set; rows go to the CSV file as they are made."""
    path = folder / "global_rivals.csv"
    done = {(row["alpha"], row["method"], row["width"], row["seed"]) for row in stored(path) if row["set"] == name}
    plan = [("L-BFGS", width, seed) for width in (50, 200) for seed in range(args.seeds)]
    # Processor time does not mind what else the machine does.
    step, clock = None, process_time if args.threads == 1 else perf_counter
    for method, width, seed in [*plan, ("Adam", 200, 0), ("Adam", 200, 1)]:
        if (alpha, method, width, seed) in done:
            continue
        decay = WeightDecay(X, y, loss, alpha, width)
        if method == "L-BFGS":
            p, trace, n_iter = lbfgs(decay, decay.start(seed), args.max_iter, args.cap, clock)
        else:
            step = step or tuned_step(adam, decay, STEPS[adam], 200, args.cap / 10)
            p, trace, n_iter = adam(decay, decay.start(seed), step, args.n_steps, args.cap, clock)
        seconds, value = trace[-1][0], decay(p)[0]
        capped = int(seconds > 0.98 * args.cap)
        values = [name, alpha, method, width, seed, step if method == "Adam" else "", value, seconds, n_iter, capped]
        append(path, RIVAL_FIELDS, dict(zip(RIVAL_FIELDS, values)))
        log(*values)


def run_ours(name, X, y, loss, alpha, args, folder):
    """Ours on one set, judged by weights alone; the row goes to the CSV file."""
    path = folder / "global_ours.csv"
    if any(row["set"] == name and row["alpha"] == alpha and row["tol"] == args.tol for row in stored(path)):
        return
    model, seconds, value = fit(X, y, loss, alpha, args.tol, args.max_time)
    start, network = perf_counter(), model.network_
    theta = objective(X, y, loss, alpha, network)[1]
    neurons = np.column_stack([network.hidden_weights, network.hidden_biases])
    lifted = np.column_stack([X, np.ones(len(X))])
    unit = neurons / np.linalg.norm(neurons, axis=1, keepdims=True)
    own = np.abs(theta @ np.maximum(lifted @ unit.T, 0.0)).max(initial=0.0) / alpha
    fresh = fresh_price(lifted, theta, neurons) / alpha
    values = [name, alpha, args.tol, value, seconds, network.n_neurons, model.result_.status]
    values += [model.certificate_.price_found, own, fresh, perf_counter() - start]
    append(path, OUR_FIELDS, dict(zip(OUR_FIELDS, values)))
    log(*values)


def table(args, folder):
    """global.md and global.csv from what the two CSV files hold."""
    rivals = stored(folder / "global_rivals.csv")
    ours = [row for row in stored(folder / "global_ours.csv") if row["tol"] == args.tol]
    ours = {(row["set"], row["alpha"]): row for row in ours}
    rows, used = [], []
    for about in stored(folder / "global_alpha.csv"):
        alphas = [float(f"{share * about['alpha_max']:.7g}") for share in args.share]
        for alpha in alphas if about["intercept"] else ():
            own, name = ours.get((about["set"], alpha)), about["set"]
            runs = [row for row in rivals if row["set"] == name and row["alpha"] == alpha]
            if own is None or name not in args.sets:
                continue
            best = {
                key: min((row["objective"] for row in runs if (row["method"], row["width"]) == key), default=np.inf)
                for key in (("L-BFGS", 50), ("L-BFGS", 200), ("Adam", 200))
            }
            margin = min(best.values()) / own["objective"] - 1
            misses = [f"price {own['fresh_price'] - 1:.0e}"] if own["fresh_price"] > 1 + PRICE_BAR else []
            misses += [f"rival {margin:.1e}"] if margin < -RIVAL_BAR else []
            misses += ["no rival"] if not runs else []
            seconds = sum(row["seconds"] for row in runs if row["method"] == "L-BFGS")
            values = [name, int(about["n"]), int(about["d"]), alpha, about["loss"], own["objective"], own["seconds"]]
            values += [int(own["neurons"]), own["fresh_price"] - 1, *best.values(), margin, seconds]
            rows.append(dict(zip(HEADS, [*values, ", ".join(misses) or "met"])))
            used += runs
    if not rows:
        return
    rows.sort(key=lambda row: (row["loss"] == "log_loss", row["set"], -row["alpha"]))
    met = sum(row["verdict"] == "met" for row in rows)
    late = [row for row in ours.values() if row["status"] != "optimal"]
    late = ", ".join(f"{row['set']} at {row['alpha']:.4g} ({row['status']})" for row in late)
    formats = dict(zip(HEADS, ["", "", "", ".4g", "", ".7g", ".1f", "", ".1e", *[".7g"] * 3, "+.1e", ".0f", ""]))
    caption = CAPTION.format(
        shares=" and ".join(f"{share:g}" for share in args.share),
        tol=args.tol,
        seeds=args.seeds,
        max_iter=args.max_iter,
        steps=", ".join(f"{step:g}" for step in STEPS[adam]),
        n_steps=args.n_steps,
        capped=int(sum(row["capped"] for row in used)),
        runs=len(used),
        cap=args.cap,
        price=PRICE_BAR,
        rival=RIVAL_BAR,
        magic=MAGIC if any(row["set"] == "magic" for row in rows) else "",
    )
    parts = [
        f"**{met} of {len(rows)} rows meet both bars.**" + (f" Not finished by ours: {late}." if late else ""),
        machine(args),
        caption,
        markdown([{head: format(row[head], formats[head]) for head in HEADS} for row in rows]),
    ]
    finish(folder / "global.md", parts)
    write(folder / "global.csv", rows)


def race(args, folder):
    """time_to_accuracy.md: seconds until the objective is within 1e-4 and 1e-6 of the best known."""
    known, rows, points = stored(folder / "global_rivals.csv") + stored(folder / "global_ours.csv"), [], []
    names = ["ours", "L-BFGS", "Adam", "SGD"]
    for name in args.sets:
        X, y, loss = read(name, args.data)
        alpha = find_alpha(name, X, y, loss, args.share[-1], folder)
        model, total, value = fit(X, y, loss, alpha, args.tol, args.cap)
        history = model.result_.history
        # The clock of the history starts after the search for alpha_max; a fit without neurons does that and more.
        start = perf_counter()
        estimator(loss, alpha=1e9).fit(X, y)
        before = min(perf_counter() - start, total - history[-1]["seconds"] if history else total)
        traces = {("ours", ""): [(entry["seconds"] + before, entry["objective"]) for entry in history]}
        traces["ours", ""].append((total, value))
        cap = min(args.cap, max(10.0, 2 * total))
        for width in (50, 200):
            decay = WeightDecay(X, y, loss, alpha, width)
            for seed in range(2):
                traces["L-BFGS", f"width {width}, seed {seed}"] = lbfgs(decay, decay.start(seed), 10**6, cap)[1]
            for method in (adam, sgd):
                step = tuned_step(method, decay, STEPS[method], 200, 0.5)
                for limit in (cap / 5, cap):
                    label = f"width {width}, step {step:g}, {limit:.0f} s"
                    trace = method(decay, decay.start(0), step, 10**9, limit)[1]
                    traces["Adam" if method is adam else "SGD", label] = trace
        best = min(trace[-1][1] for trace in traces.values())
        best = min([best, *(row["objective"] for row in known if row["set"] == name and row["alpha"] == alpha)])
        row = {"set": name, "alpha": f"{alpha:.4g}", "best known": f"{best:.7g}", "limit, rivals": f"{cap:.0f} s"}
        for accuracy in (1e-4, 1e-6):
            for method in names:
                times = [
                    (next((seconds for seconds, value in trace if value <= best * (1 + accuracy)), np.inf), label)
                    for (who, label), trace in traces.items()
                    if who == method
                ]
                row[f"{method}, {accuracy:g}"] = min(times)[0]
        row["ours, total"] = total
        rows.append(row)
        for (method, label), trace in traces.items():
            thin = sorted({*np.unique(np.geomspace(1, len(trace), 40).astype(int) - 1), len(trace) - 1})
            points += [
                {"set": name, "method": method, "run": label, "seconds": f"{s:.4g}", "objective": f"{v:.10g}"}
                for s, v in (trace[k] for k in thin)
            ]
        log(*row.values())
    counts = {}
    for accuracy in ("0.0001", "1e-06"):
        ours = np.array([row[f"ours, {accuracy}"] for row in rows])
        fastest = np.min([[row[f"{method}, {accuracy}"] for method in names[1:]] for row in rows], axis=1)
        counts[accuracy] = int(np.sum(np.isfinite(ours) & (ours <= fastest))), int(np.isfinite(ours).sum())
    lines = [
        f"* Within {accuracy}: ours arrives on {arrived} of {len(rows)} sets, no slower than any rival on {first}."
        for accuracy, (first, arrived) in counts.items()
    ]
    caption = (
        f"Seconds until the objective is within 1e-4 and 1e-6 (relative) of the best known, the lowest of any run "
        f"here and in global.md; alpha = {args.share[-1]:g} of alpha_max. Ours: history of one fit, tol {args.tol:g}, "
        f"with set-up, limit {args.cap:g} s; total: until the fit returns its certificate. A rival's time is that of "
        f"its single best run of width 50 or 200 (L-BFGS: two seeds each; Adam on all rows, SGD with momentum 0.9 and "
        f"batches of 128: tuned step, two lengths of the schedule); tuning, and the evaluation of SGD's objective, do "
        f"not count. -: no run arrived within the limit, which is twice the time of ours, at least 10 s and "
        f"at most {args.cap:g} s."
    )
    text = [
        {key: value if isinstance(value, str) else f"{value:.2f}" if np.isfinite(value) else "-" for key, value in r}
        for r in (row.items() for row in rows)
    ]
    finish(folder / "time_to_accuracy.md", ["\n".join(lines), machine(args), caption, markdown(text)])
    write(folder / "time_to_accuracy.csv", points)


def small_alpha(args, folder):
    """small_alpha.md: wide networks by L-BFGS beside ours at 0.001 alpha_max."""
    rows, width, max_time = [], 1000, min(args.max_time, 120.0)
    path = folder / "small_alpha.csv"
    for name in args.sets:
        X, y, loss = read(name, args.data)
        alpha = find_alpha(name, X, y, loss, 0.001, folder, intercept=False)
        decay = WeightDecay(X, y, loss, alpha, width, intercept=False)
        for seed in range(args.seeds):
            runs = [row for row in stored(path) if row["set"] == name and row["alpha"] == alpha]
            if not args.ours_only and seed not in [row["seed"] for row in runs]:
                p, trace, n_iter = lbfgs(decay, decay.start(seed), 10**6, args.cap)
                late = int(trace[-1][0] > 0.98 * args.cap)
                values = [name, alpha, "L-BFGS", width, seed, "", decay(p)[0], trace[-1][0], n_iter, late]
                append(path, RIVAL_FIELDS, dict(zip(RIVAL_FIELDS, values)))
                log(*values)
        runs = [row for row in stored(path) if row["set"] == name and row["alpha"] == alpha]
        if args.rivals_only or not runs:
            continue
        best, each = min(row["objective"] for row in runs), np.mean([row["seconds"] for row in runs])
        model, seconds, value = fit(X, y, loss, alpha, args.tol, max_time, intercept=False)
        history, n_neurons = model.result_.history, model.network_.n_neurons
        before = seconds - history[-1]["seconds"] if history else seconds
        times = [entry["seconds"] + before for entry in history if entry["objective"] <= best]
        times += [seconds] if value <= best else []
        rows.append(
            {
                "set": name,
                "n, d": f"{X.shape[0]}, {X.shape[1]}",
                "alpha": f"{alpha:.4g}",
                "best L-BFGS": f"{best:.7g}",
                "seconds, one run": f"{each:.1f}",
                "ours": f"{value:.7g}",
                "(L-BFGS - ours) / ours": f"{best / value - 1:+.1e}",
                "seconds, ours as low": f"{min(times):.1f}" if times else "-",
                "seconds, ours": f"{seconds:.1f}",
                "status": model.result_.status,
                "search gap": f"{history[-1]['relative_gap']:.1e}" if history else "-",
                "neurons": str(n_neurons),
                "neurons <= n": "yes" if n_neurons <= len(X) else "no",
            }
        )
        log(*rows[-1].values())
    if rows:
        caption = (
            f"alpha = 0.001 alpha_max, no output bias, squared loss. L-BFGS: width {width}, best of {args.seeds} "
            f"seeds, each to convergence or {args.cap:g} s (mean seconds). Ours: limit {max_time:g} s, tol "
            f"{args.tol:g}; the time at which its history first is as low as the best L-BFGS, and the relative gap "
            f"that its last search of all patterns left."
        )
        finish(folder / "small_alpha.md", [machine(args), caption, markdown(rows)])


def markdown(rows):
    """A Markdown table of dictionaries of strings."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(args):
    """Hardware, versions and command."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("convexnn", "numpy", "scipy"))
    return (
        f"Machine: {model}, {os.cpu_count()} cores, {args.threads} BLAS thread(s); Python {platform.python_version()}, "
        f"{packages}.\n\nCommand: `{args.command}`"
    )


def finish(path, parts):
    """Print a Markdown file and write it."""
    text = "\n\n".join(parts)
    print(text)
    path.write_text(text + "\n")


def log(*words):
    """Progress on standard error."""
    print(*(f"{word:.7g}" if isinstance(word, float) else word for word in words), file=sys.stderr, flush=True)


def main():
    """Parse the command line and run one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="data folder")
    parser.add_argument("--out", help="folder of the results (default: results/ beside this file)")
    parser.add_argument("--time-to-accuracy", action="store_true", help="seconds until an accuracy is reached")
    parser.add_argument("--small-alpha", action="store_true", help="0.001 alpha_max against wide networks")
    parser.add_argument("--quick", action="store_true", help="two small sets, short limits, a temporary folder")
    parser.add_argument("--rivals-only", action="store_true")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--sets", nargs="+", help="some of the sets")
    parser.add_argument("--share", type=float, nargs="+", default=list(SHARES), help="alpha / alpha_max")
    parser.add_argument("--tol", type=float, default=1e-6, help="relative gap for ours")
    parser.add_argument("--max-time", type=float, default=600.0, help="limit of one of our fits in seconds")
    parser.add_argument("--cap", type=float, help="limit of one rival's run in seconds")
    parser.add_argument("--max-iter", type=int, default=3000, help="limit of L-BFGS iterations")
    parser.add_argument("--n-steps", type=int, default=3000, help="Adam's steps")
    parser.add_argument("--seeds", type=int, default=5, help="L-BFGS runs for each width")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data or CONVEXNN_DATA is needed")
    options = " ".join(sys.argv[1:])
    args.command = f"python benchmarks/global.py {options.replace(args.data, 'DIR')}".strip()
    every = RACE if args.time_to_accuracy else SMALL if args.small_alpha else [*REGRESSION, *CLASSIFICATION]
    if args.quick:
        args.seeds, args.max_iter, args.n_steps, args.max_time = 2, 300, 300, 20.0
        args.sets = args.sets or [name for name in QUICK if name in every]
    args.sets = args.sets or every
    if unknown := set(args.sets) - {*REGRESSION, *CLASSIFICATION}:
        parser.error(f"no such sets: {sorted(unknown)}")
    args.cap = args.cap or (60.0 if args.small_alpha else 30.0 if args.time_to_accuracy else 15.0)
    args.cap = min(args.cap, 5.0) if args.quick else args.cap
    folder = Path(args.out or (tempfile.mkdtemp() if args.quick else HERE / "results"))
    folder.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(args.threads):
        if args.time_to_accuracy:
            return race(args, folder)
        if args.small_alpha:
            return small_alpha(args, folder)
        for name in args.sets:
            X, y, loss = read(name, args.data)
            for share in args.share:
                alpha = find_alpha(name, X, y, loss, share, folder)
                if not args.ours_only:
                    run_rivals(name, X, y, loss, alpha, args, folder)
                if not args.rivals_only:
                    run_ours(name, X, y, loss, alpha, args, folder)
    if not args.rivals_only:
        table(args, folder)


if __name__ == "__main__":
    main()
