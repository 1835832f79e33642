"""One feature: the spline solver, beside scikit-learn's Lasso on the explicit matrix of ramps.

    python benchmarks/univariate.py --data DIR --out benchmarks/results/univariate.md

DIR (or the environment variable CONVEXNN_DATA) holds one_dim/*.csv.gz: one header row, the feature and the target.
Without it only generated data are used. Lasso minimises the same objective: ramps at all inner points, from which the
constant and the linear term, which no penalty touches, are projected out. Gaps are computed here, for both by the same
code: the objective of the spline that was found, and the bound from its residuals. Seconds are those of the process on
the CPU, one thread; the smallest of three runs of the spline solver.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import warnings
from pathlib import Path
from time import process_time

import numpy as np
import scipy
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from convexnn import ReLUSplineRegressor, ReLUSplineRegressorCV, spline_path
from convexnn.losses import Huber, Squared
from convexnn.program.result import relative_gap
from convexnn.univariate import Line, fit_spline

SHARES = (0.1, 0.01, 1e-3, 1e-4)


def draw(n, seed=0):
    """A wave of growing frequency with noise, at random points."""
    rng = np.random.default_rng([seed, n])
    x = np.sort(rng.uniform(0, 1, n))
    return x, np.sin(20 * x**2) + 0.3 * rng.standard_normal(n)


def timed(function, repeats=1):
    """Result and seconds, the smallest of the repeats."""
    best = np.inf
    for _ in range(repeats):
        start = process_time()
        result = function()
        best = min(best, process_time() - start)
    return result, best


def largest_alpha(line):
    """Above which the spline is a line."""
    return float(np.abs(line.prices(fit_spline(line, 1e300).theta)).max())


def ramps_by_lasso(x, y, alpha, max_iter, tol):
    """Values at x of scikit-learn's solution, its sum of |a|, and the seconds of ``fit`` alone."""
    ramps = np.maximum(x[:, None] - x[1:-1], 0.0)
    free = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    A, target = ramps - free @ (free.T @ ramps), y - free @ (free.T @ y)
    A = np.asfortranarray(A)
    model = Lasso(alpha / len(x), fit_intercept=False, max_iter=max_iter, tol=tol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, seconds = timed(lambda: model.fit(A, target))
    values = y - target + A @ model.coef_
    return values, float(np.abs(model.coef_).sum()), seconds, model.n_iter_


def against_lasso(lasso_iterations, tol):
    """Rows: the spline solver at n = 1,000 and 10,000, and Lasso at n = 1,000."""
    text = "| share of alpha_max | spline, n = 10,000: s | gap | knots | spline, n = 1,000: s | gap |"
    text += " Lasso, n = 1,000: s | gap | objective above the optimum | passes |\n"
    text += f"|{'---|' * 10}\n"
    for share in SHARES:
        cells = []
        for n in (10_000, 1_000):
            x, y = draw(n)
            line = Line(x, y, np.ones(n), Squared())
            alpha = share * largest_alpha(line)
            spline, seconds = timed(lambda line=line, alpha=alpha: fit_spline(line, alpha, tol=tol), 3)
            cells.append(f"{seconds:.3f} | {spline.relative_gap:.1e}")
            if n == 10_000:
                cells.append(f"{len(spline.knots)}")
        values, total, seconds, passes = ramps_by_lasso(x, y, alpha, lasso_iterations, tol)
        objective = line.value(values) + alpha * total
        gap = relative_gap(objective, line.dual_bound(y - values, alpha)[0])
        excess = objective / spline.primal - 1
        text += f"| {share:g} | {' | '.join(cells)} | {seconds:.1f} | {gap:.1e} | {excess:.1e} | {passes} |\n"
        print(text.splitlines()[-1], file=sys.stderr)
    return text


def sizes(tol):
    """Rows: seconds by size and loss."""
    text = "| n | loss | share | s | gap | knots | Newton steps |\n|---|---|---|---|---|---|---|\n"
    for n in (1_000, 10_000, 100_000):
        x, y = draw(n)
        for loss in (Squared(), Huber(0.4)):
            line = Line(x, y, np.ones(n), loss)
            largest = largest_alpha(line)
            for share in (0.01, 1e-4):
                spline, seconds = timed(lambda: fit_spline(line, share * largest, tol=tol), 3)  # noqa: B023
                text += f"| {n:,} | {loss.name} | {share:g} | {seconds:.3f} | {spline.relative_gap:.1e} |"
                text += f" {len(spline.knots)} | {spline.n_iter} |\n"
    return text


def estimators(sets):
    """Rows: whole fits, with certificate; paths; cross-validation."""
    text = "| data | n | fit at 0.01 alpha_max, s | gap | path of 30 alphas, s | largest gap | cross-validation, s |"
    text += " chosen alpha / alpha_max | knots | R2 on the held-out folds |\n"
    text += f"|{'---|' * 10}\n"
    for name, (x, y) in sets.items():
        X = x[:, None]
        largest = ReLUSplineRegressor().fit(X, y).alpha_max_
        model, fit = timed(lambda: ReLUSplineRegressor(0.01 * largest).fit(X, y))  # noqa: B023
        path, walk = timed(lambda: spline_path(X, y))  # noqa: B023
        cv = KFold(5, shuffle=True, random_state=0)
        chosen, seconds = timed(lambda: ReLUSplineRegressorCV(cv=cv, scoring="r2").fit(X, y))  # noqa: B023
        text += f"| {name} | {len(x):,} | {fit:.3f} | {model.certificate_.relative_gap:.1e} | {walk:.2f} |"
        text += f" {path.relative_gaps.max():.1e} | {seconds:.2f} | {chosen.alpha_ / chosen.alpha_max_:.2g} |"
        text += f" {len(chosen.knots_)} | {chosen.best_score_:.3f} |\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="folder with one_dim/*.csv.gz")
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--lasso-iterations", type=int, default=20_000, help="limit on the passes of Lasso")
    parser.add_argument("--out", help="where to write the tables (default: standard output)")
    arguments = parser.parse_args()
    sets = {"generated": draw(10_000)}
    for path in sorted(Path(arguments.data or "nowhere").glob("one_dim/*.csv.gz")):
        sets[path.name.removesuffix(".csv.gz")] = tuple(np.loadtxt(path, delimiter=",", skiprows=1).T)
    with threadpool_limits(1):
        text = (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy "
            f"{np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}; tol {arguments.tol:g}, "
            f"Lasso with the same tol and at most {arguments.lasso_iterations:,} passes\n\n"
            f"{against_lasso(arguments.lasso_iterations, arguments.tol)}\n{sizes(arguments.tol)}\n{estimators(sets)}"
        )
    if arguments.out:
        Path(arguments.out).write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
