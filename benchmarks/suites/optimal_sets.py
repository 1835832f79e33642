"""How much the test accuracy varies among networks that are all optimal: after table 1 of arXiv:2306.00119.

ReLU networks on UCI sets, targets -1 and 1, squared loss, 500 random gates, alpha = 1e-3 n: 80 % of the rows are test
rows, 5 % validation and 15 % training rows, five seeds from 650 on; features as they are, no biases. All optima share
the predictions and the directions of their neurons, v_k = s_k q_k with s >= 0 and sum_k s_k A_k q_k = z [1]_. Among
them: the one of least Euclidean norm ("min L2"), an extreme point with few neurons, and those of least squared error on
the validation and on the test rows: the last is what no honest choice can exceed by much.

References
----------
.. [1] A. Mishkin, M. Pilanci, Optimal sets and solution paths of ReLU networks, ICML 2023, section 3.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog, nnls
from sklearn.model_selection import train_test_split

from benchmarks import plots
from benchmarks.data import load, uci_protocol
from benchmarks.records import log, markdown
from benchmarks.referee import Program
from benchmarks.rivals import convexnn_
from convexnn.solvers import Newton

TITLE = "Optimal sets"
QUESTION = "How much does test accuracy vary among networks that are all optimal?"
SETS = ["uci/" + name for name in uci_protocol.OPTIMAL_SETS]
OPTIONS = {
    "sets": (SETS, ["uci/fertility", "uci/monks-1", "breast_cancer"], "data sets"),
    "seeds": (5, 2, "splits"),
    "gates": (500, 100, "random gates"),
    "lam": (1e-3, 1e-3, "alpha over the number of training rows"),
    "tol": (1e-9, 1e-9, "relative gap of the fit"),
    "max-time": (120.0, 20.0, "limit of a fit in seconds"),
}
COLUMNS = ["set", "seed", "n", "d", "alpha", "method", "seconds", "objective", "bound", "cone violation", "neurons"]
COLUMNS += ["validation error", "test accuracy"]
KEY = ["set", "seed", "method"]
VARIANTS = ("fit", "min L2", "extreme point", "least validation error", "least test error")


def variants(program, coef, X_validation, y_validation, X_test, y_test):
    """Coefficients of optimal networks, from one of them.

    Parameters
    ----------
    program : Program
        The restricted program.
    coef : array of shape (n_blocks, n_features)
        An optimum.
    X_validation, y_validation, X_test, y_test : arrays
        Where errors are to be least.

    Returns
    -------
    found : dict
        From the names in VARIANTS to coefficients.
    """
    lengths = np.linalg.norm(coef, axis=1)
    # Directions of the optimal blocks: those of the fit. Others whose price is alpha as well may be missing.
    active = np.flatnonzero(lengths > 1e-9 * lengths.max())
    q = coef[active] / lengths[active, None]
    signs = program.signs[active]
    M = np.maximum(program.X @ q.T, 0.0) * signs
    z, weight = M @ lengths[active], 1e4

    def least(F, y):
        """s >= 0 of least |F s - y|^2 with M s = z and the same sum of lengths, which a heavy weight enforces."""
        scale = weight * max(np.linalg.norm(F), 1.0) / max(np.linalg.norm(M), 1e-300)
        ones = np.full((1, len(active)), np.linalg.norm(M) / np.sqrt(len(active)))
        left = np.vstack([F, scale * M, scale * ones])
        right = np.concatenate([y, scale * z, scale * ones @ lengths[active]])
        return nnls(left, right, maxiter=100 * len(active))[0]

    def outputs(X):
        return np.maximum(X @ q.T, 0.0) * signs

    # Among the optima every linear function has its least value at an extreme point.
    slope = np.random.default_rng(0).standard_normal(len(active))
    corner = linprog(slope, A_eq=np.vstack([M, np.ones(len(active))]), b_eq=np.append(z, lengths[active].sum()))
    scales = {
        "fit": lengths[active],
        "min L2": least(np.eye(len(active)), np.zeros(len(active))),
        "extreme point": corner.x if corner.x is not None else lengths[active],
        "least validation error": least(outputs(X_validation), y_validation),
        "least test error": least(outputs(X_test), y_test),
    }
    found = {}
    for name, s in scales.items():
        found[name] = np.zeros_like(coef)
        found[name][active] = s[:, None] * q
    return found


def rows(args, table):
    """Five variants of each fit."""
    for name in args.sets:
        try:
            X, y, _ = load(name, args.data)
        except LookupError as error:
            log(str(error))
            continue
        classes, counts = np.unique(y, return_counts=True)
        y = np.where(y == classes[-1 if len(classes) == 2 else counts.argmax()], 1.0, -1.0)
        for seed in range(650, 650 + args.seeds):
            first = {"set": name, "seed": seed}
            if all(first | {"method": method} in table for method in VARIANTS):
                continue
            rest, test = train_test_split(np.arange(len(y)), test_size=0.8, random_state=seed, stratify=y)
            train, validation = train_test_split(rest, test_size=0.25, random_state=seed)
            program = Program(X[train], y[train], args.gates, True, alpha=args.lam * len(train))
            problem = convexnn_.problem_of(program)
            result = Newton(tol=args.tol, max_time=args.max_time).solve(problem)
            parts = (X[validation], y[validation], X[test], y[test])
            first |= {"n": len(train), "d": X.shape[1], "alpha": program.alpha}
            first["seconds"] = result.history[-1]["seconds"] if result.history else 0.0
            for method, coef in variants(program, result.coef, *parts).items():
                judged = program.judge(coef, result.theta)
                judged.pop("as ReLU net")
                outputs = [np.maximum(part @ coef.T, 0.0) @ program.signs for part in parts[::2]]
                judged["validation error"] = float(np.mean((outputs[0] - parts[1]) ** 2))
                judged["test accuracy"] = float(np.mean(np.where(outputs[1] >= 0, 1, -1) == parts[3]))
                row = first | {"method": method} | judged
                if row not in table:
                    yield row, []


def headline(row):
    """Accuracy and objective."""
    return [f"accuracy {row['test accuracy']:.3f}", f"objective {row['objective']:.9g}"]


def report(rows, folder):
    """Medians over the seeds."""
    lines, panels = [], {}
    names = list(dict.fromkeys(row["set"] for row in rows))
    for name in names:
        own = [row for row in rows if row["set"] == name]
        accuracy = {m: [row["test accuracy"] for row in own if row["method"] == m] for m in VARIANTS}
        medians = [100 * np.median(values) for values in accuracy.values()]
        worst = max(row["objective"] / row["bound"] - 1 for row in own)
        neurons = [np.median([row["neurons"] for row in own if row["method"] == m]) for m in VARIANTS]
        spread = max(medians) - min(medians)
        lines.append([name, f"{own[0]['n']:.0f}, {own[0]['d']:.0f}", *(f"{m:.1f}" for m in medians), f"{spread:.1f}"])
        lines[-1] += [f"{neurons[1]:.0f}, {neurons[2]:.0f}", f"{worst:.0e}"]
        panels[name] = {method: [100 * v for v in values] for method, values in accuracy.items()}
    heads = ["set", "training rows, d", *VARIANTS, "largest difference", "neurons: min L2, extreme", "largest gap"]
    return [
        "Test accuracy in percent, median over the splits. Largest gap: objective over the best lower bound, minus "
        "one, of all variants: all of them are optimal to that accuracy.",
        "",
        *markdown(heads, lines),
        "",
        plots.strips(folder / "optimal-sets", dict(list(panels.items())[:6]), "test accuracy, %"),
    ]
