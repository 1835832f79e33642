"""How far scikit-learn's fits of one network are from the best network of any width: convexnn.audit on real data.

    python benchmarks/audit.py [--data DIR] [--alpha 30] [--max-time 120] > table.md

Diabetes comes with scikit-learn; concrete is read from DIR/regression/concrete.csv.gz (one header row, target last).
Features and targets are standardised. Adam takes full batches, so that it minimises the same function as L-BFGS.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

from data.tables import read
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from convexnn import audit

HEADS = ["data set", "solver", "as trained", "polished", "improved", "lower bound", "above the best network"]


def sets(folder):
    """Names and standardised data."""
    yield "diabetes", *load_diabetes(return_X_y=True)
    if folder is not None:
        yield "concrete", *read(Path(folder, "regression", "concrete.csv.gz"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"))
    parser.add_argument("--alpha", type=float, default=30.0)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--max-time", type=float, default=120.0)
    arguments = parser.parse_args()
    print(f"alpha {arguments.alpha:g}, {arguments.hidden} neurons, at most {arguments.max_time:g} s an audit\n")
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    for name, X, y in sets(arguments.data):
        X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
        for solver in ("lbfgs", "adam"):
            model = MLPRegressor(
                hidden_layer_sizes=(arguments.hidden,),
                solver=solver,
                alpha=arguments.alpha,
                batch_size=len(y),
                max_iter=5000,
                random_state=0,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(X, y)
            report = audit(model, X, y, arguments.alpha, improve=True, tol=1e-5, max_time=arguments.max_time)
            bound = "none" if report.lower_bound is None else f"{report.lower_bound:.2f}"
            found = [report.objective, report.polished_objective, report.improved_objective]
            cells = [name, solver, *(f"{value:.2f}" for value in found), bound]
            print("| " + " | ".join([*cells, report.verdict.split(" above ")[0]]) + " |", flush=True)


if __name__ == "__main__":
    main()
