"""How much the test accuracy varies among networks that are all optimal: after table 1 of arXiv:2306.00119.

ReLU networks on UCI sets, targets -1 and 1, squared loss, 500 random gates, alpha = 1e-3 n: 80 % of the rows are test
rows, 5 % validation and 15 % training rows, five seeds from 650 on; features as they are, no biases. All optima share
the predictions and the directions of their neurons, v_k = s_k q_k with s >= 0 and sum_k s_k A_k q_k = z [1]_. Among
them: the one of least Euclidean norm ("min L2"), an extreme point with few neurons, and those of least squared error on
the validation and on the test rows: the last is what no honest choice can exceed by much. Beside them, marked: the
least test error of all networks with the same *training predictions*, from any block whose price is at least half of
alpha and without a condition on the norm; such networks need not be optimal, as their objectives show.

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
VARIANTS = ("fit", "min L2", "extreme point", "least validation error", "least test error", "same predictions only")
#: Prices this close to alpha, relatively, count as equal to it.
PRICE = 1e-5


def directions(program, theta, least):
    """Blocks whose price is at least that share of alpha, and the unit vectors q_k that have it.

    Parameters
    ----------
    program : Program
        The restricted program.
    theta : array of shape (n_samples,)
        Its dual solution.
    least : float
        Share of alpha.

    Returns
    -------
    blocks : array of shape (n_found,)
    q : array of shape (n_found, n_features)
    """
    G = program.signs[:, None] * (program.D[:, program.pattern].T @ (theta[:, None] * program.X))
    blocks, q = [], []
    for k in np.flatnonzero(np.linalg.norm(G, axis=1) >= least * program.alpha):
        normals = (program.unit * program.sides[:, [program.pattern[k]]]).T
        inside = G[k] + normals @ nnls(normals, -G[k], maxiter=10_000)[0]
        size = np.linalg.norm(inside)
        # Neighbouring cells share what lies on their boundary: one direction and sign counts once.
        known = [
            j for j, other in zip(blocks, q) if program.signs[j] == program.signs[k] and inside @ other > size - 1e-9
        ]
        if size >= least * program.alpha and not known:
            blocks.append(k)
            q.append(inside / size)
    return np.array(blocks, dtype=int), np.array(q).reshape(-1, program.X.shape[1])


def variants(program, coef, theta, X_validation, y_validation, X_test, y_test):
    """Coefficients of optimal networks, from one of them and the dual solution.

    Parameters
    ----------
    program : Program
        The restricted program.
    coef, theta : arrays of shape (n_blocks, n_features), (n_samples,)
        Optima of the program and of its dual.
    X_validation, y_validation, X_test, y_test : arrays
        Where errors are to be least.

    Returns
    -------
    found : dict
        From the names in VARIANTS to coefficients.
    """

    def outputs(X, blocks, q):
        return np.maximum(X @ q.T, 0.0) * program.signs[blocks]

    def least(F, y, M, z):
        """s >= 0 of least |F s - y|^2 with M s = z, which a heavy weight enforces."""
        scale = 1e4 * max(np.linalg.norm(F), 1.0) / max(np.linalg.norm(M), 1e-300)
        return nnls(np.vstack([F, scale * M]), np.concatenate([y, scale * z]), maxiter=1000 * M.shape[1])[0]

    def assembled(blocks, q, s):
        V = np.zeros_like(coef)
        V[blocks] = s[:, None] * q
        return V

    z = program.y - program.residual(coef)
    blocks, q = directions(program, theta, 1 - PRICE)
    # Predictions and the sum of lengths are those of the fit.
    M = outputs(program.X, blocks, q)
    M = np.vstack([M, np.full((1, len(blocks)), np.linalg.norm(M) / np.sqrt(len(blocks)))])
    target = np.append(z, M[-1, 0] * np.linalg.norm(coef, axis=1).sum())
    # Among the optima every linear function has its least value at an extreme point.
    slope = np.random.default_rng(0).standard_normal(len(blocks))
    start = least(np.zeros((1, len(blocks))), np.zeros(1), M, target)
    corner = linprog(slope, A_eq=M, b_eq=M @ start)
    some = directions(program, theta, 0.5)
    loose = least(outputs(X_test, *some), y_test, outputs(program.X, *some), z)
    return {
        "fit": coef,
        "min L2": assembled(blocks, q, least(np.eye(len(blocks)), np.zeros(len(blocks)), M, target)),
        "extreme point": assembled(blocks, q, corner.x if corner.x is not None else start),
        "least validation error": assembled(
            blocks, q, least(outputs(X_validation, blocks, q), y_validation, M, target)
        ),
        "least test error": assembled(blocks, q, least(outputs(X_test, blocks, q), y_test, M, target)),
        "same predictions only": assembled(*some, loose),
    }


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
            for method, coef in variants(program, result.coef, result.theta, *parts).items():
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
        excess = {m: max(row["objective"] / row["bound"] - 1 for row in own if row["method"] == m) for m in VARIANTS}
        worst = max(excess[m] for m in VARIANTS[:-1])
        neurons = [np.median([row["neurons"] for row in own if row["method"] == m]) for m in VARIANTS]
        spread = max(medians[:-1]) - min(medians[:-1])
        lines.append([name, f"{own[0]['n']:.0f}, {own[0]['d']:.0f}", *(f"{m:.1f}" for m in medians), f"{spread:.1f}"])
        lines[-1] += [f"{neurons[1]:.0f}, {neurons[2]:.0f}", f"{worst:.0e}", f"{excess[VARIANTS[-1]]:.0e}"]
        panels[name] = {method: [100 * v for v in values] for method, values in accuracy.items()}
    heads = ["set", "training rows, d", *VARIANTS, "largest difference", "neurons: min L2, extreme"]
    heads += ["largest gap", "gap of the last"]
    return [
        "Test accuracy in percent, median over the splits. Largest gap: objective over the best lower bound, minus 1, "
        f"of all variants but the last ({VARIANTS[-1]}), which is not held to be optimal; its largest gap is beside "
        "it. Largest difference: of the medians, without the last.",
        "",
        *markdown(heads, lines),
        "",
        plots.strips(folder / "optimal-sets", dict(list(panels.items())[:6]), "test accuracy, %"),
    ]
