"""Whether select_alpha finds networks of a wanted number of neurons, and select_feature_penalty wanted features.

    python benchmarks/selection.py --data DIR     # DIR/regression/*.csv.gz, DIR/classification/*.csv.gz
    python benchmarks/selection.py                # bundled data only

Features and regression targets are standardised. Writes benchmarks/results/selection.md and .csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from data.tables import read
from records import processor, versions
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from convexnn import select_alpha, select_feature_penalty

HERE = Path(__file__).parent
COLUMNS = ["data", "k", "attained", "neurons", "alpha / alpha_max", "fits", "seconds", "bracket / alpha_max", "counts"]
PLANTED = ["seed", "attained", "wanted", "active", "planted features found", "fits", "seconds"]
REGRESSION = ["yacht", "concrete", "auto_mpg", "energy_heating", "wine_quality_red", "power_plant"]
CLASSIFICATION = ["pima", "ionosphere", "banknote", "sonar"]


def tables(folder):
    """Name, features, targets and loss of each data set."""
    if not folder:
        yield "diabetes", *load_diabetes(return_X_y=True), "squared"
        yield "breast cancer", *load_breast_cancer(return_X_y=True), "log_loss"
        return
    for kind, loss, names in (("regression", "squared", REGRESSION), ("classification", "log_loss", CLASSIFICATION)):
        for name in names:
            yield name, *read(Path(folder, kind, f"{name}.csv.gz")), loss


def standardised(X, y, loss):
    """Features (constant ones dropped) and regression targets in standard units."""
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std() if loss == "squared" else y


def planted(seed):
    """Two groups of eight features, of which three and two matter; the groups' effects differ in size."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((200, 16))
    y = 2 * np.maximum(X[:, 0] + X[:, 1], 0) - 2 * np.maximum(X[:, 2] - 0.5, 0)
    y += 0.8 * np.maximum(X[:, 8] - X[:, 9], 0)
    return X, y + 0.1 * rng.standard_normal(len(X))


def neurons_row(name, X, y, loss, k, max_time):
    """One line of the first table."""
    X, y = standardised(X, y, loss)
    start = perf_counter()
    found = select_alpha(X, y, n_neurons=k, tol=1, loss=loss, random_state=0, max_time=max_time)
    seconds = perf_counter() - start
    alpha_max = found.alpha_max
    low, high = found.bracket
    count = {fit["alpha"]: fit["n_neurons"] for fit in found.fits}
    cells = [name, k, found.attained, found.n_neurons, found.alpha / alpha_max, len(found.fits), seconds]
    ends, counts = f"{low / alpha_max:.5g} to {high / alpha_max:.5g}", f"{count.get(low, '-')}, {count.get(high, '-')}"
    return dict(zip(COLUMNS, [*cells, "" if found.attained else ends, "" if found.attained else counts]))


def planted_row(seed):
    """One line of the second table."""
    X, y = planted(seed)
    wanted = {"a": 3, "b": 2}
    start = perf_counter()
    found = select_feature_penalty(
        X, y, alpha=20.0, groups=["a"] * 8 + ["b"] * 8, n_active=wanted, random_state=0, max_time=120.0
    )
    seconds = perf_counter() - start
    used = np.flatnonzero(found.network.hidden_weights.any(axis=0)).tolist()
    cells = [seed, found.attained, wanted, found.n_active, used == [0, 1, 2, 8, 9], len(found.fits), seconds]
    return dict(zip(PLANTED, cells))


def text(column, value):
    """A cell of the table."""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, dict):
        return ", ".join(f"{group}: {count}" for group, count in value.items())
    return f"{value:.1f}" if column == "seconds" else f"{value:.4g}" if isinstance(value, float) else str(value)


def table(columns, rows):
    """The lines of a table."""
    body = (f"| {' | '.join(text(column, row[column]) for column in columns)} |" for row in rows)
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *body, ""]


def main():
    """Run all rows and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), metavar="DIR", help="data folder")
    parser.add_argument("--neurons", type=int, nargs="+", default=[3, 10, 30], help="wanted numbers of neurons")
    parser.add_argument("--only", nargs="+", metavar="NAME", help='these data sets only, or "planted"')
    parser.add_argument("--max-time", type=float, default=600.0, help="seconds for all fits of a row")
    parser.add_argument("--quick", action="store_true", help="the first data set and one planted problem")
    parser.add_argument("--out", default=str(HERE / "results"), metavar="DIR", help="where the tables go")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows, groups = [], []
    with threadpool_limits(1):
        for seed in range(1 if args.quick else 5 if not args.only or "planted" in args.only else 0):
            groups.append(planted_row(seed))
            print(" | ".join(text(*cell) for cell in groups[-1].items()), flush=True)
        for k, data in enumerate(tables(args.data)):
            if (args.quick and k) or (args.only and data[0] not in args.only):
                continue
            for wanted in args.neurons:
                rows.append(neurons_row(*data, wanted, args.max_time))
                print(" | ".join(text(*cell) for cell in rows[-1].items()), flush=True)
    lines = [
        "# Asking for a sparsity\n",
        f"{sum(row['attained'] for row in rows)} of {len(rows)} wanted numbers of neurons are attained within 1.\n",
        *table(COLUMNS, rows),
        "`select_alpha(X, y, n_neurons=k, tol=1)`, patterns='adaptive', relative gap 1e-6 of each fit. Where the count "
        "is not attained: the nearest alphas tried with too many neurons and with too few, and their counts.\n",
        "Two groups of eight features, of which three and two are planted "
        "(`select_feature_penalty(..., n_active={'a': 3, 'b': 2})`):\n",
        *table(PLANTED, groups),
        f"Machine: {processor()}, 1 BLAS thread; {versions()}.",
        "",
        f"Command: `python benchmarks/selection.py{' --data DIR' if args.data else ''}"
        f"{' --quick' if args.quick else ''}`",
    ]
    Path(args.out).mkdir(parents=True, exist_ok=True)
    Path(args.out, "selection.md").write_text("\n".join(lines) + "\n")
    for name, columns, part in (("selection", COLUMNS, rows), ("selection_groups", PLANTED, groups)):
        with open(Path(args.out, f"{name}.csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)


if __name__ == "__main__":
    main()
