"""Test error against alpha / alpha_max: the measurement behind alpha="auto" (docs/alpha.md).

    python benchmarks/alpha.py --data DIR > table.md

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and classification/*.csv.gz: one header row,
the target in the last column. Without it scikit-learn's bundled sets are used.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from data.tables import read
from scipy.stats import gmean, rankdata
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from convexnn import ConvexReLUClassifier, ConvexReLURegressor

FRACTIONS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
MAX_FEATURES, MAX_CLASSES = 40, 8
FLOOR = {"error %": 1.0, "log-loss": 0.01}
MEASURES = {"regression": ["RMSE / std(y)"], "classification": ["error %", "log-loss"]}


def data_sets(folder):
    """Loaders of the data sets.

    Parameters
    ----------
    folder : str or None
        The data folder; None for scikit-learn's bundled sets.

    Returns
    -------
    sets : dict
        For "regression" and "classification" a dict from name to a function that returns X and y.
    """
    if folder is None:
        bundled = {"breast_cancer": load_breast_cancer, "wine": load_wine, "iris": load_iris}
        sets = {"regression": {"diabetes": load_diabetes}, "classification": bundled}
        return {
            kind: {name: lambda load=load: load(return_X_y=True) for name, load in loaders.items()}
            for kind, loaders in sets.items()
        }
    return {
        kind: {path.name.removesuffix(".csv.gz"): lambda path=path: read(path) for path in sorted(paths)}
        for kind in MEASURES
        for paths in [Path(folder, kind).glob("*.csv.gz")]
    }


def errors(kind, X, y, seed, rows, max_time, cold, patterns):
    """Test errors on one 80/20 split, for every fraction.

    From large to small fractions, each fit warm-started: its patterns are 300 sampled ones and those of the network
    before, or it searches all patterns from that network.

    Parameters
    ----------
    kind : {"regression", "classification"}
        The task.
    X, y : arrays of shape (n_samples, n_features), (n_samples,)
        The whole data set.
    seed : int
        Seed of the split and of the patterns.
    rows : int
        Largest number of training rows.
    max_time : float
        Limit of one fit in seconds.
    cold : bool
        Start no fit from the one before.
    patterns : {"sampled", "auto"}
        300 sampled patterns and those of the network before, or all patterns.

    Returns
    -------
    values : array of shape (n_fractions, n_measures)
        In the order of MEASURES.
    late : bool array of shape (n_fractions,)
        Whether the fit stopped before its tolerance.
    """
    classes = y if kind == "classification" else None
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=classes, random_state=seed)
    if len(y) > rows:
        classes = y if kind == "classification" else None
        X, _, y, _ = train_test_split(X, y, train_size=rows, stratify=classes, random_state=seed)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    model = ConvexReLUClassifier() if kind == "classification" else ConvexReLURegressor()
    if kind == "regression":
        y, y_test = (y - y.mean()) / y.std(), (y_test - y.mean()) / y.std()
    model.set_params(patterns=patterns, n_patterns=300, random_state=seed, certify=False)
    model.set_params(tol=1e-3, max_time=max_time, warm_start=not cold)
    # Far above alpha_max the fit ends at once, and knows alpha_max.
    alpha_max = model.set_params(alpha=1e6 * len(y)).fit(X, y).alpha_max_
    values, late = [], []
    for fraction in FRACTIONS:
        start = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(alpha=fraction * alpha_max).fit(X, y)
        result = model.result_
        late.append(result.status != "optimal")
        if kind == "regression":
            values.append([np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2))])
        else:
            loss = log_loss(y_test, model.predict_proba(X_test), labels=model.classes_)
            values.append([100 * (1 - model.score(X_test, y_test)), loss])
        print(
            f"    seed {seed}, {len(y)} rows, {fraction}: {perf_counter() - start:.1f} s, {result.status}, "
            f"{result.n_iter} iterations, relative gap {result.relative_gap:.0e}, {model.network_.n_neurons} neurons, "
            f"test {np.array(values[-1])}",
            file=sys.stderr,
            flush=True,
        )
    return np.array(values), np.array(late)


def table(kind, sets, seeds, rows, *settings):
    """Print the table of one kind of task, row by row.

    Parameters
    ----------
    kind : {"regression", "classification"}
        The task.
    sets : dict
        From name to a function that returns X and y.
    seeds : int
        Splits of a data set.
    rows : int
        Largest number of training rows; of ``k > 2`` classes, whose programs are ``k`` times larger, 2 / k of it.
    *settings
        Passed on to ``errors``.
    """
    measures = MEASURES[kind]
    print(f"\n{kind.capitalize()}: {' / '.join(measures)}\n")
    line("data set", "rows, d", *FRACTIONS)
    line(*["---"] * (2 + len(FRACTIONS)))
    means, skipped = [], []
    for name, load in sets.items():
        X, y = load()
        n_classes = len(np.unique(y)) if kind == "classification" else 0
        if X.shape[1] > MAX_FEATURES or n_classes > MAX_CLASSES:
            skipped.append(f"{name} ({X.shape[1]} features{f', {n_classes} classes' if n_classes else ''})")
            continue
        print(f"  {name} {X.shape}", file=sys.stderr, flush=True)
        limit = 2 * rows // max(n_classes, 2)
        values, late = zip(*(errors(kind, X, y, seed, limit, *settings) for seed in range(seeds)))
        values, late = np.mean(values, axis=0), np.any(late, axis=0)
        means.append(values)
        texts = [[f"{v:.1f}" if m == "error %" else f"{v:.3f}" for m, v in zip(measures, row)] for row in values]
        least = values.argmin(axis=0)
        cells = []
        for text, row, star in zip(texts, values, late):
            marked = [f"**{t}**" if v == values[k, j] else t for j, (t, v, k) in enumerate(zip(text, row, least))]
            cells.append(" / ".join(marked) + ("\\*" if star else ""))
        line(name, f"{min(limit, int(0.8 * len(y)))}, {X.shape[1]}", *cells)
    if means:
        summary(measures, np.array(means))
    if skipped:
        print(f"\nSkipped: {', '.join(skipped)}.", flush=True)


def summary(measures, means):
    """Print two rows for each measure: mean rank, and geometric mean of the ratio to the best fraction.

    Error rates and log-losses can be zero: FLOOR is added to both sides of their ratio.

    Parameters
    ----------
    measures : list of str
        Names.
    means : array of shape (n_sets, n_fractions, n_measures)
        Test errors.
    """
    for j, measure in enumerate(measures):
        values = means[:, :, j]
        ranks = rankdata(values, axis=1).mean(axis=0)
        shifted = values + FLOOR.get(measure, 0.0)
        ratios = gmean(shifted / shifted.min(axis=1, keepdims=True), axis=0)
        for name, numbers, digits in (("mean rank", ranks, 2), ("ratio to the best", ratios, 3)):
            texts = [f"{v:.{digits}f}" for v in numbers]
            least = texts[numbers.argmin()]
            line(f"*{name}, {measure}*", "", *(f"**{t}**" if t == least else t for t in texts))


def line(*cells):
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main():
    """Parse the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="data folder")
    parser.add_argument("--seeds", type=int, default=3, help="splits of a data set")
    parser.add_argument("--rows", type=int, default=1500, help="largest number of training rows")
    parser.add_argument("--max-time", type=float, default=20.0, help="limit of one fit in seconds")
    parser.add_argument("--quick", action="store_true", help="one seed, three small sets")
    parser.add_argument("--patterns", choices=("sampled", "auto"), default="sampled", help="300 sampled ones, or all")
    parser.add_argument("--cold", action="store_true", help="no warm starts")
    args = parser.parse_args()
    sets, seeds = data_sets(args.data), args.seeds
    if args.quick:
        small, seeds = ("yacht", "diabetes", "iris", "wine"), 1
        sets = {kind: {name: load for name, load in group.items() if name in small} for kind, group in sets.items()}
    if not any(sets.values()):
        parser.error(f"no {' or '.join(f'{kind}/*.csv.gz' for kind in sets)} in {args.data}")
    start = perf_counter()
    for kind, group in sets.items():
        table(kind, group, seeds, args.rows, args.max_time, args.cold, args.patterns)
    splits = f"{seeds} 80/20 split{'s' * (seeds > 1)}"
    print(
        f"\nMean over {splits}, at most {args.rows} training rows (2 / k of it for k > 2 classes), "
        f"{'300 sampled' if args.patterns == 'sampled' else 'all'} patterns, tol 1e-3, "
        f"{'cold' if args.cold else 'warm'} starts. \\*: a fit ended without its tolerance "
        f"(limit {args.max_time:g} s). Ratios: after adding 1 % to the error rates, 0.01 to the log-losses."
    )
    print(f"{(perf_counter() - start) / 60:.1f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
