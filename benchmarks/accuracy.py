"""Test errors of the estimators that choose alpha by cross-validation, beside scikit-learn's tuned as carefully.

    python benchmarks/accuracy.py --data DIR

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and classification/*.csv.gz (one header row,
the target in the last column), and the fixed splits of the UCI regression sets in regression/splits/*.npz: test rows of
each split under test_00, test_01, ... Sets without them are split by a seed. Every choice is made by cross-validation
on the training rows. Finished rows are kept in results/accuracy.csv; what is there is not run again. Without a data
folder scikit-learn's bundled sets are used.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import warnings
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import scipy
import sklearn
from scipy.stats import rankdata
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

import convexnn
from convexnn import ConvexReLUClassifierCV, ConvexReLURegressorCV

REGRESSION = ["yacht", "concrete", "diabetes", "energy_heating", "power_plant", "wine_quality_red", "kin8nm"]
CLASSIFICATION = ["pima", "wine", "ionosphere", "glass", "banknote", "german_credit", "breast_cancer_wdbc", "sonar"]
BUNDLED = {"diabetes": load_diabetes, "iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}
FIELDS = ["task", "data", "split", "rows", "features", "model", "error", "accuracy", "seconds", "cpu", "chosen"]
RESULTS = Path(__file__).parent / "results"


def regressors(folds, max_time, quick):
    """Models by name; each chooses its parameters by the same folds of the training rows, on standardised targets."""

    def tuned(model, grid):
        return GridSearchCV(model, grid, cv=folds, scoring="neg_mean_squared_error")

    C, gamma = ([1.0], [0.1]) if quick else (np.geomspace(0.1, 1000, 5), np.geomspace(0.01, 1, 4))
    mlp = MLPRegressor(hidden_layer_sizes=(100,), solver="lbfgs", max_iter=50 if quick else 500, random_state=0)
    trees = HistGradientBoostingRegressor(random_state=0)
    models = {
        "convex ReLU": ConvexReLURegressorCV(6 if quick else 20, cv=folds, max_time=max_time, random_state=0),
        "ridge": RidgeCV(np.geomspace(1e-3, 1e4, 22), cv=folds),
        "SVR": tuned(SVR(epsilon=0.05), dict(C=C, gamma=gamma)),
        "MLP": tuned(mlp, dict(alpha=[1.0] if quick else np.geomspace(0.01, 30, 5))),
        "boosting": tuned(trees, boosting_grid(quick)),
    }
    return {name: TransformedTargetRegressor(pipeline(m), transformer=StandardScaler()) for name, m in models.items()}


def classifiers(folds, max_time, quick):
    """Models by name; each chooses its parameters by the log-loss over the same folds of the training rows."""

    def tuned(model, grid):
        return GridSearchCV(model, grid, cv=folds, scoring="neg_log_loss")

    C, gamma = ([1.0], [0.1]) if quick else (np.geomspace(0.1, 100, 4), np.geomspace(0.003, 0.3, 5))
    mlp = MLPClassifier(hidden_layer_sizes=(100,), solver="lbfgs", max_iter=50 if quick else 500, random_state=0)
    logistic = dict(Cs=3 if quick else 10, scoring="neg_log_loss", max_iter=5000, use_legacy_attributes=False)
    models = {
        "convex ReLU": ConvexReLUClassifierCV(6 if quick else 20, cv=folds, max_time=max_time, random_state=0),
        "logistic": LogisticRegressionCV(cv=folds, l1_ratios=[0.0], **logistic),
        "SVC": tuned(CalibratedClassifierCV(SVC(), cv=3, ensemble=False), dict(estimator__C=C, estimator__gamma=gamma)),
        "MLP": tuned(mlp, dict(alpha=[1.0] if quick else np.geomspace(0.1, 30, 5))),
        "boosting": tuned(HistGradientBoostingClassifier(random_state=0), boosting_grid(quick)),
    }
    return {name: pipeline(model) for name, model in models.items()}


def boosting_grid(quick):
    """Learning rates, tree sizes and numbers of trees."""
    if quick:
        return dict(learning_rate=[0.1], max_iter=[20])
    return dict(learning_rate=[0.03, 0.1], max_leaf_nodes=[7, 31], max_iter=[200])


def pipeline(model):
    """Features are scaled by the training rows."""
    return make_pipeline(StandardScaler(), model)


def read(task, name, folder):
    """X, y and the test rows of each split (None without fixed splits); None where a folder was needed."""
    path = None if folder is None else Path(folder, task, f"{name}.csv.gz")
    if path is None or not path.exists():
        return (*BUNDLED[name](return_X_y=True), None) if name in BUNDLED else None
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    fixed = Path(folder, task, "splits", f"{name}.npz")
    tests = None
    if fixed.exists():
        with np.load(fixed) as file:
            tests = [file[key] for key in sorted(file.files) if key.startswith("test_")]
    return table[:, :-1], table[:, -1], tests


def rows_of(task, y, tests, split, max_rows):
    """Training and test rows of a split, the former thinned to ``max_rows``."""
    index = np.arange(len(y))
    if tests is not None:
        test = tests[split]
        train = np.setdiff1d(index, test)
    else:
        train, test = train_test_split(
            index, test_size=0.1, random_state=split, stratify=y if task == "classification" else None
        )
    if len(train) > max_rows:
        train = np.random.default_rng(split).choice(train, max_rows, replace=False)
    return train, test


def chosen(model):
    """What was chosen, in a word."""
    model = getattr(model, "regressor_", model)[-1]
    if hasattr(model, "path_"):
        gap = model.certificate_.relative_gap
        scores = model.cv_results_["mean_test_score"]
        last = np.isfinite(scores).sum() - 1
        # Scores that are still the best when the folds end early say that time was short.
        ended = ", folds ended" if last < len(scores) - 1 and last - model.best_index_ < 4 else ""
        share, m = model.alpha_ / model.alpha_max_, model.network_.n_neurons
        return f"{share:.2g} of alpha_max, {m} neurons, gap {gap:.0e}{ended}"
    found = getattr(model, "best_params_", None) or {
        k: getattr(model, k) for k in ("alpha_", "C_") if hasattr(model, k)
    }
    return ", ".join(f"{key.strip('_')} {float(np.max(value)):.3g}" for key, value in found.items())


def measure(task, name, X, y, train, test, split, args, done):
    """Rows for the models that have none yet."""
    kind = KFold if task == "regression" else StratifiedKFold
    folds = kind(3, shuffle=True, random_state=0)
    models = (regressors if task == "regression" else classifiers)(folds, args.max_time, args.quick)
    for label, model in models.items():
        if (task, name, str(split), label) in done:
            continue
        start, cpu = perf_counter(), process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X[train], y[train])
        seconds, cpu = perf_counter() - start, process_time() - cpu
        if task == "regression":
            error, accuracy = np.sqrt(np.mean((model.predict(X[test]) - y[test]) ** 2)), np.nan
        else:
            error = log_loss(y[test], model.predict_proba(X[test]), labels=model.classes_)
            accuracy = np.mean(model.predict(X[test]) == y[test])
        row = [task, name, split, len(train), X.shape[1], label, f"{error:.6g}", f"{accuracy:.6g}"]
        yield dict(zip(FIELDS, [*row, f"{seconds:.2f}", f"{cpu:.2f}", chosen(model)]))


def table(rows, task, value, digits):
    """Markdown: a line for each data set, the mean over the splits that all models have; the best is bold."""
    rows = [row for row in rows if row["task"] == task]
    models = list(dict.fromkeys(row["model"] for row in rows))
    if not models:
        return []
    lines = [f"| data | training rows, d | splits | {' | '.join(models)} |", "| --- " * (3 + len(models)) + "|"]
    ranks, everything = [], []
    for name in dict.fromkeys(row["data"] for row in rows):
        own = {(row["split"], row["model"]): row for row in rows if row["data"] == name}
        splits = sorted({split for split, _ in own if all((split, model) in own for model in models)})
        if not splits:
            continue
        first = own[splits[0], models[0]]
        values = np.array([[float(own[split, model][value]) for model in models] for split in splits]).mean(axis=0)
        signed = -values if value == "accuracy" else values
        cells = [f"{v:.{digits}g}" for v in values]
        if value in ("error", "accuracy"):
            cells = [f"**{cell}**" if s == signed.min() else cell for cell, s in zip(cells, signed)]
        ranks.append(rankdata(signed))
        everything.append(values)
        lines.append(f"| {name} | {first['rows']}, {first['features']} | {len(splits)} | {' | '.join(cells)} |")
    if ranks:
        last = np.mean(ranks, axis=0) if value in ("error", "accuracy") else np.mean(everything, axis=0)
        word = "mean rank" if value in ("error", "accuracy") else "mean"
        lines.append(f"| *{word}* | | | {' | '.join(f'{v:.3g}' for v in last)} |")
    return lines


def report(rows, args):
    """The page."""
    lines = [
        "# Test errors with alpha chosen by cross-validation",
        "",
        "    OMP_NUM_THREADS=1 python benchmarks/accuracy.py --data DIR",
        "",
    ]
    for title, task, value, digits in (
        ("Regression: test RMSE, in units of y", "regression", "error", 3),
        ("Classification: test log-loss", "classification", "error", 3),
        ("Classification: test accuracy", "classification", "accuracy", 3),
        ("Regression: CPU seconds of one fit with all its tuning", "regression", "cpu", 3),
        ("Classification: CPU seconds of one fit with all its tuning", "classification", "cpu", 3),
    ):
        if body := table(rows, task, value, digits):
            lines += [title, "", *body, ""]
    own = [row for row in rows if row["model"] == "convex ReLU"]
    lines += ["What cross-validation chose for the convex network, by split:", ""]
    for name in dict.fromkeys(row["data"] for row in own):
        lines.append(f"* {name}: " + "; ".join(row["chosen"] for row in own if row["data"] == name))
    lines += [
        "",
        "Means over the splits, the best bold; mean rank over the data sets, 1 is best. Regression sets but diabetes: "
        "the first of the 20 fixed splits of Hernandez-Lobato and Adams (2015), 10 % test rows; others: seeded "
        f"(stratified) splits with 10 % test rows. At most {args.max_rows} training rows, drawn by a seed. Features "
        "and regression targets are standardised on the training rows, and all choices are made by 3-fold "
        "cross-validation on them: 20 alphas for the convex network, 22 for ridge, 20 pairs (C, gamma) for SVR and for "
        "SVC (with Platt's probabilities), 5 alphas of an MLP with 100 neurons (L-BFGS, 500 iterations), 4 settings of "
        f"gradient boosting. One fit of the convex network may take {args.max_time:g} s of wall time, of which the "
        "folds take three fifths; where that ended it, the gap in the list is large, or the chosen alpha is the last "
        'that was reached ("folds ended").',
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, shared with other work (CPU seconds, not wall time, are "
        f"compared; both are in accuracy.csv), one BLAS thread; Python {platform.python_version()}, NumPy "
        f"{np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}, convexnn "
        f"{convexnn.__version__}.",
    ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Parse the command line, run what is missing, write results/accuracy.csv and accuracy.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="data folder")
    parser.add_argument("--sets", nargs="*", default=[*REGRESSION, *CLASSIFICATION], help="data sets")
    parser.add_argument("--splits", type=int, default=3, help="splits of each set")
    parser.add_argument("--max-rows", type=int, default=500, help="training rows at most")
    parser.add_argument("--max-time", type=float, default=300.0, help="limit of one convex fit in seconds")
    parser.add_argument("--quick", action="store_true", help="one split and tiny grids: does it run?")
    parser.add_argument("--out", default=RESULTS, type=Path, help="folder of accuracy.csv and accuracy.md")
    args = parser.parse_args(argv)
    path = args.out / "accuracy.csv"
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    # Split by split, so that a run that is ended early has something on every set.
    for split in range(1 if args.quick else args.splits):
        for name in args.sets:
            task = "regression" if name in REGRESSION else "classification"
            if (data := read(task, name, args.data)) is None:
                continue
            X, y, tests = data
            train, test = rows_of(task, y, tests, split, args.max_rows)
            done = {(row["task"], row["data"], row["split"], row["model"]) for row in rows}
            for row in measure(task, name, X, y, train, test, split, args, done):
                rows.append({key: str(value) for key, value in row.items()})
                with path.open("w", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)
                print(" ".join(rows[-1].values()), file=sys.stderr, flush=True)
    order = [*REGRESSION, *CLASSIFICATION, *BUNDLED]
    rows.sort(key=lambda row: (order.index(row["data"]), int(row["split"])))
    (args.out / "accuracy.md").write_text(report(rows, args))


if __name__ == "__main__":
    main()
