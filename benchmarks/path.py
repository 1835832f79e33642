"""A path against single fits: the same alphas, the same accuracy.

    python benchmarks/path.py --data DIR --out benchmarks/results/path.md

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and classification/*.csv.gz: one header row,
the target in the last column. Without it scikit-learn's bundled sets are used. Seconds are those of the process on the
CPU, one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from time import process_time

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))
from alpha import data_sets
from records import processor, versions

from convexnn import ConvexReLUClassifier, ConvexReLURegressor, relu_path

HEADER = "| data | rows x features | alphas | path, s | single fits, s | ratio | largest gap of the path, of the fits |"
HEADER += " worst excess over a single fit | concave, non-decreasing | neurons at alpha_max, at the end |\n"
HEADER += "|---|---|---|---|---|---|---|---|---|---|\n"


def compare(X, y, n_alphas, eps, tol):
    """A row of the table after the name: times, gaps and shape of the curve of objectives.

    Parameters
    ----------
    X, y : arrays of shape (n_samples, n_features), (n_samples,)
        Standardised features; standardised targets or classes.
    n_alphas, eps, tol
        As in ``relu_path``.

    Returns
    -------
    row : str
    """
    classes = len(np.unique(y)) <= 20
    loss, kind = ("log_loss", ConvexReLUClassifier) if classes else ("squared", ConvexReLURegressor)
    start = process_time()
    path = relu_path(X, y, alphas=n_alphas, eps=eps, tol=tol, loss=loss, random_state=0)
    warm = process_time() - start
    cold, objectives, gaps = 0.0, [], []
    for alpha in path.alphas:
        start = process_time()
        model = kind(alpha, tol=tol, random_state=0, certify=False).fit(X, y)
        cold += process_time() - start
        objectives.append(model.certificate_.objective)
        gaps.append(max(model.certificate_.relative_gap, model.history_[-1]["relative_gap"]))
        print(
            f"  {alpha:.5g}: {model.network_.n_neurons} neurons, cold {cold:.0f} s, path {warm:.0f} s", file=sys.stderr
        )
    # Slopes of the optimal value fall from left to right; each is known to within the gaps of its two ends.
    alphas, values = path.alphas[::-1], path.objectives[::-1]
    slack = tol * values
    slopes, error = np.diff(values) / np.diff(alphas), (slack[1:] + slack[:-1]) / np.diff(alphas)
    concave = bool(np.all(slopes[1:] <= slopes[:-1] + error[1:] + error[:-1]))
    rising = bool(np.all(np.diff(values) >= -slack[1:]))
    excess = float(np.max(path.objectives / objectives - 1))
    return (
        f"{X.shape[0]} x {X.shape[1]} | {len(path.alphas)} | {warm:.1f} | {cold:.1f} | {cold / warm:.1f} | "
        f"{path.relative_gaps.max():.1e}, {max(gaps):.1e} | {excess:.1e} | {'yes' if concave else 'no'}, "
        f"{'yes' if rising else 'no'} | {path.n_neurons[0]}, {path.n_neurons[-1]} |\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", default=["concrete", "pima"], help="names of data sets")
    parser.add_argument("--alphas", type=int, default=30)
    parser.add_argument("--eps", type=float, default=1e-3)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--out", help="where to write the table (default: standard output)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    loaders = {name: load for sets in data_sets(arguments.data).values() for name, load in sets.items()}
    sets = arguments.sets if arguments.data else sorted(loaders)
    text = (
        f"{processor()}, {versions()}; tol {arguments.tol:g}, alphas from alpha_max "
        f"to {arguments.eps:g} alpha_max\n\n{HEADER}"
    )
    with threadpool_limits(1):
        for name in sets:
            X, y = loaders[name]()
            X = StandardScaler().fit_transform(X)
            if len(np.unique(y)) > 20:
                y = (y - y.mean()) / y.std()
            text += f"| {name} | {compare(X, y, arguments.alphas, arguments.eps, arguments.tol)}"
            if arguments.out:
                Path(arguments.out).write_text(text)
    if not arguments.out:
        print(text)


if __name__ == "__main__":
    main()
