"""How close fits are proved to be to the best two-layer ReLU network of any width, and what the proof takes.

    python benchmarks/proofs.py                # generated and bundled data
    python benchmarks/proofs.py --data DIR     # and DIR/regression/*.csv.gz, DIR/classification/*.csv.gz

Each row is a fit over all patterns (`certify=False`), then `certify(network, X, y, alpha=...)`, then
`Certificate.verify`. Features and regression targets are standardised. Writes benchmarks/results/proofs.md and .csv.
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
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from convexnn import ConvexReLUClassifier, ConvexReLURegressor, certify

HERE = Path(__file__).parent
COLUMNS = ["data", "n", "rank", "alpha / alpha_max", "neurons", "fit", "method", "proof", "check", "gap proved"]
# Name, kind, and the largest number of rows.
FILES = [
    ("power_plant", "regression", None),
    ("banknote", "classification", None),
    ("yacht", "regression", None),
    ("pima", "classification", None),
    ("concrete", "regression", None),
    ("kin8nm", "regression", 2000),
]


def smooth(n, d):
    """A smooth function with noise; a feature takes eleven values."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, d))
    X[:, 1] = np.round(5 * X[:, 1]) / 5
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + np.abs(X[:, -1]) - 0.5 * X[:, -2] ** 2
    return X, y + 0.2 * rng.standard_normal(n)


def tables(folder):
    """Name, features, targets and task of each data set."""
    yield "smooth function", *smooth(2000, 4), "regression"
    yield "smooth function", *smooth(1500, 5), "regression"
    for name, kind, rows in FILES if folder else ():
        X, y = read(Path(folder, kind, f"{name}.csv.gz"))
        yield name, X[:rows], y[:rows], kind
    yield "diabetes", *load_diabetes(return_X_y=True), "regression"


def row(name, X, y, kind, share, max_time):
    """One line of the table."""
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    if kind == "regression":
        y, model, loss = (y - y.mean()) / y.std(), ConvexReLURegressor(certify=False, random_state=0), "squared"
        target = y
    else:
        model, loss = ConvexReLUClassifier(certify=False, random_state=0), "log_loss"
        target = np.where(y == y.max(), 1.0, -1.0)
    # Far above alpha_max the fit ends at once, and knows alpha_max.
    alpha = share * model.set_params(alpha=1e9).fit(X, y).alpha_max_
    start = perf_counter()
    model.set_params(alpha=alpha, max_time=max_time).fit(X, y)
    fitted = perf_counter()
    certificate = certify(
        model.network_, X, target, alpha=alpha, loss=loss, theta=model.certificate_.theta, max_time=max_time
    )
    proved = perf_counter()
    certificate.verify(X, target)
    rank = int(np.linalg.matrix_rank(np.column_stack([X, np.ones(len(X))])))
    cells = [name, len(X), rank, share, model.network_.n_neurons, fitted - start, certificate.method, proved - fitted]
    return dict(zip(COLUMNS, [*cells, perf_counter() - proved, certificate.relative_gap]))


def text(column, value):
    """A cell of the table."""
    if column in ("fit", "proof", "check"):
        return f"{value:.1f} s"
    return f"{100 * value:.2g} %" if column == "gap proved" else f"{value:,}" if isinstance(value, int) else str(value)


def main():
    """Run all rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), metavar="DIR", help="data folder")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.02], help="alpha / alpha_max")
    parser.add_argument("--max-time", type=float, default=120.0, help="seconds for a fit, and for a proof")
    parser.add_argument("--quick", action="store_true", help="the first two data sets, 0.1 alpha_max")
    parser.add_argument("--out", default=str(HERE / "results"), metavar="DIR", help="where the table goes")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    with threadpool_limits(1):
        for k, data in enumerate(tables(args.data)):
            for share in args.shares[:1] if args.quick else args.shares:
                if not args.quick or k < 2:
                    rows.append(row(*data, share, args.max_time))
                    print(" | ".join(text(c, v) for c, v in rows[-1].items()), flush=True)
    lines = [
        "# What is proved over all activation patterns\n",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *(f"| {' | '.join(text(c, v) for c, v in line.items())} |" for line in rows),
        "",
        f"Machine: {processor()}, 1 BLAS thread; {versions()}.",
        "",
        f"Command: `python benchmarks/proofs.py{' --data DIR' if args.data else ''}{' --quick' if args.quick else ''}`",
        "",
        "Fit: patterns='adaptive', tol 1e-4. Proof: `certify`, method 'auto', from the dual point of the fit. Check: "
        "`Certificate.verify`, which uses no solver. Gap proved: distance of the objective from the lower bound on "
        "every two-layer ReLU network of any width, as a share of the objective. "
        f"At most {args.max_time:g} s for a fit and for a proof.",
    ]
    Path(args.out).mkdir(parents=True, exist_ok=True)
    Path(args.out, "proofs.md").write_text("\n".join(lines) + "\n")
    with open(Path(args.out, "proofs.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
