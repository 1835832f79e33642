"""Scores of the estimators with alpha="auto" on 1,000 sampled patterns beside scikit-learn's linear models and MLPs.

    python benchmarks/scores.py --data DIR > table.md

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and classification/*.csv.gz: one header row,
the target in the last column. Without it only scikit-learn's bundled sets are used.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from data import tables
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import ConvexReLUClassifier, ConvexReLURegressor

SETS = {
    "diabetes": "regression",
    "concrete": "regression",
    "yacht": "regression",
    "ionosphere": "classification",
    "pima": "classification",
    "wine": "classification",
}
BUNDLED = {"diabetes": load_diabetes, "wine": load_wine}
MODELS = {
    "regression": (ConvexReLURegressor, Ridge, MLPRegressor),
    "classification": (ConvexReLUClassifier, LogisticRegression, MLPClassifier),
}
SPLITS = 5
HEADS = ["data set", "n, d", "status", "relative gap", "neurons", "seconds", "seconds, MLP"]
HEADS += ["convex ReLU", "linear", "MLP", "MLP, scaled y"]


def read(name, folder):
    """X and y of a data set, None where it takes a folder that was not given."""
    if name in BUNDLED and (folder is None or name == "diabetes"):
        return BUNDLED[name](return_X_y=True)
    if folder is None:
        return None
    return tables.read(Path(folder, SETS[name], f"{name}.csv.gz"))


def row(name, X, y, max_time):
    """One row of the table: means over the splits, except for the status and gap, which are the worst.

    Parameters
    ----------
    name : str
        A key of SETS.
    X, y : arrays of shape (n_samples, n_features), (n_samples,)
        The whole data set.
    max_time : float
        Limit of one fit in seconds.

    Returns
    -------
    cells : list of str
    """
    convex, linear, mlp = MODELS[SETS[name]]
    models = [
        make_pipeline(StandardScaler(), model)
        for model in (
            convex(patterns="sampled", n_patterns=1000, tol=1e-4, max_time=max_time, random_state=0),
            linear(),
            mlp(random_state=0),
        )
    ]
    if SETS[name] == "regression":
        models.append(TransformedTargetRegressor(clone(models[-1]), transformer=StandardScaler()))
    scores, seconds = np.zeros((2, len(models), SPLITS))
    fits = []
    for split in range(SPLITS):
        classes = y if SETS[name] == "classification" else None
        parts = train_test_split(X, y, test_size=0.2, stratify=classes, random_state=split)
        for k, model in enumerate(models):
            start = perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(parts[0], parts[2])
            seconds[k, split] = perf_counter() - start
            scores[k, split] = model.score(parts[1], parts[3])
        model = models[0][-1]
        fits.append((model.result_.status, model.certificate_.relative_gap, model.network_.n_neurons))
        numbers = f"scores {scores[:, split].round(3)}, seconds {seconds[:, split].round(2)}"
        print(f"  {name}, split {split}: {fits[-1]}, {numbers}", file=sys.stderr, flush=True)
    statuses, gaps, neurons = zip(*fits)
    late = [status for status in statuses if status != "optimal"]
    status = f"{', '.join(sorted(set(late)))} ({len(late)} of {SPLITS})\\*" if late else "optimal"
    best = scores.mean(axis=1).max()
    means = [f"**{m:.3f}**" if m == best else f"{m:.3f}" for m in scores.mean(axis=1)]
    cells = [name, f"{X.shape[0]}, {X.shape[1]}", status, f"{max(gaps):.0e}", f"{np.mean(neurons):.0f}"]
    cells += [f"{s:.2f}" for s in seconds.mean(axis=1)[[0, 2]]] + means
    return cells + [""] * (len(HEADS) - len(cells))


def main():
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="data folder")
    parser.add_argument("--max-time", type=float, default=60.0, help="limit of one convex fit in seconds")
    args = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}", flush=True)
    for name in SETS:
        if (data := read(name, args.data)) is not None:
            print(f"| {' | '.join(row(name, *data, args.max_time))} |", flush=True)
    print(
        f"\nTest R2 or accuracy, mean over {SPLITS} 80/20 splits, beside Ridge or LogisticRegression and the MLP of "
        "scikit-learn with default settings. Gap: the largest; neurons, seconds: means. The gap is over 1000 sampled "
        f"patterns. \\*: stopped after {args.max_time:g} s."
    )


if __name__ == "__main__":
    main()
