"""Do time limits hold? Wall time against ``max_time``, for fits and everything else that takes one.

    python benchmarks/limits.py --data DIR --out benchmarks/results/limits.md

DIR (or the environment variable CONVEXNN_DATA) holds regression/*.csv.gz and images/*.npz as benchmarks/path.py wants
them; without it data of the same sizes are made. One thread. Beside the wall time stands that of the process on the
CPU: where it is less, others were using the machine, and what cannot be cut short took longer than it does alone.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))
from records import processor, versions

from convexnn import (
    ConvexReLUClassifier,
    ConvexReLURegressor,
    ConvexReLURegressorCV,
    audit,
    certify,
    relu_path,
    select_alpha,
    select_feature_penalty,
)
from convexnn.cli import main as command_line

HEADER = "| what | rows x features | limit, s | wall, s | overshoot, s | allowed, s | CPU, s | gap | neurons |\n"
HEADER += "|---|---|---|---|---|---|---|---|---|\n"


def smooth(rng, n, d):
    """Features and targets that many neurons explain in part."""
    X = rng.standard_normal((n, d))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * np.abs(X[:, 2 % d]) + 0.3 * rng.standard_normal(n)


def table(data, name, n, d, rng):
    """A data set with n rows at most, standardised, or made data of that size."""
    path = None if data is None else Path(data, "regression", f"{name}.csv.gz")
    if path is None or not path.exists():
        return smooth(rng, n, d)
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    rows = StandardScaler().fit_transform(rows[rng.permutation(len(rows))[:n]])
    return rows[:, :-1], rows[:, -1]


def images(data, rng):
    """300 images of 520 pixels and whether they show one of the first five classes."""
    path = None if data is None else Path(data, "images", "mnist_train_10k.npz")
    if path is None or not path.exists():
        X = rng.random((300, 520)) * (rng.random((300, 520)) < 0.3)
        return X, (X[:, :20].sum(axis=1) > 3).astype(int)
    arrays = np.load(path)
    pixels, labels = (arrays[key] for key in ("X", "y")) if "X" in arrays else (arrays[k] for k in arrays.files[:2])
    pixels = pixels[:300].reshape(300, -1) / 255.0
    return pixels[:, np.argsort(-pixels.var(axis=0), kind="stable")[:520]], (labels[:300] < 5).astype(int)


def jobs(data):
    """What is measured: name, rows and features, and a function of the limit that returns gap and neurons."""
    rng = np.random.default_rng(0)
    california = table(data, "california_housing", 16512, 8, rng)
    wine, middle, tiny = table(data, "wine_quality_red", 1000, 11, rng), smooth(rng, 3000, 20), smooth(rng, 32, 2)
    sparse = np.column_stack([rng.random((30_000, 90)) < 0.1, rng.standard_normal((30_000, 10))]).astype(float)
    adult = sparse, (sparse @ rng.standard_normal(100) + np.sin(sparse[:, -1]) > 0).astype(int)
    kinks = smooth(rng, 400, 6)

    def fit(kind, X, y, **options):
        def run(limit):
            model = kind(max_time=limit, random_state=0, **options).fit(X, y)
            return model.result_.relative_gap, model.network_.n_neurons

        return f"{X.shape[0]:,} x {X.shape[1]}", run

    def other(function, X, y, look, **options):
        return f"{X.shape[0]:,} x {X.shape[1]}", lambda limit: look(function(X, y, max_time=limit, **options))

    def graded(found):
        return found.relative_gap, found.network.n_neurons

    network = ConvexReLURegressor(16.0, max_time=1.0).fit(*middle).network_
    tight = ConvexReLURegressor(1e-8, max_time=1.0).fit(*tiny).network_

    def of(function, network, alpha, **options):
        return lambda X, y, max_time: function(network, X, y, alpha=alpha, max_time=max_time, **options)

    def audited(report):
        return report.relative_gap if hasattr(report, "relative_gap") else np.nan, report.polished.n_neurons

    def through_the_door(X, y, max_time):
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            rows, model = Path(folder, "rows.csv"), Path(folder, "model.npz")
            header = ",".join([*(f"x{j}" for j in range(X.shape[1])), "target"])
            np.savetxt(rows, np.column_stack([X, y]), delimiter=",", header=header, comments="")
            options = ["--target", "target", "--max-time", str(max_time), "--out", str(model)]
            command_line(["fit", str(rows), *options])
        return np.nan, np.nan

    groups = np.arange(20) % 2
    wanted = dict(alpha=30.0, groups=groups, n_active={0: 3, 1: 3})
    return {
        "fit, california": fit(ConvexReLURegressor, *california),
        "fit, made like adult": fit(ConvexReLUClassifier, *adult),
        "fit": fit(ConvexReLURegressor, *middle),
        "fit, alpha=0.001": fit(ConvexReLURegressor, *middle, alpha=1e-3),
        "fit, patterns='sampled'": fit(ConvexReLURegressor, *middle, patterns="sampled"),
        "fit, gated": fit(ConvexReLURegressor, *middle, patterns="sampled", activation="gated_relu"),
        "fit, certify=True": fit(ConvexReLURegressor, *middle, certify=True),
        "fit, feature_penalty=0.5": fit(ConvexReLURegressor, *middle, feature_penalty=0.5),
        "fit, hidden_bias='free'": fit(ConvexReLURegressor, *middle, hidden_bias="free"),
        "fit, alpha=1e-8": fit(ConvexReLURegressor, *tiny, alpha=1e-8),
        "fit, images": fit(ConvexReLUClassifier, *images(data, rng)),
        "fit, absolute loss": fit(ConvexReLURegressor, *kinks, loss="absolute", patterns="adaptive"),
        "fit, absolute loss, sampled": fit(ConvexReLURegressor, *kinks, loss="absolute", n_patterns=100),
        "relu_path": other(relu_path, *middle, lambda path: (path.relative_gaps.max(), path.networks[-1].n_neurons)),
        "ConvexReLURegressorCV, wine": fit(ConvexReLURegressorCV, *wine),
        "select_alpha": other(
            select_alpha, *middle, lambda found: (found.certificate.relative_gap, found.n_neurons), n_neurons=12
        ),
        "select_feature_penalty": other(
            select_feature_penalty,
            *middle,
            lambda found: (found.certificate.relative_gap, found.network.n_neurons),
            **wanted,
        ),
        "certify": other(of(certify, network, 16.0), *middle, graded),
        "certify, alpha=1e-8": other(of(certify, tight, 1e-8), *tiny, graded),
        "audit, improve=True": other(of(audit, network, 16.0, improve=True), *middle, audited),
        "convexnn fit": other(through_the_door, *middle, lambda found: found),
    }


def row(name, size, run, limit):
    """A line of the table."""
    wall, cpu = perf_counter(), process_time()
    gap, neurons = run(limit)
    wall, cpu = perf_counter() - wall, process_time() - cpu
    times = f"{limit:g} | {wall:.2f} | {wall - limit:.2f} | {0.05 * limit + 1:.2f} | {cpu:.2f}"
    return f"| {name} | {size} | {times} | {gap:.1e} | {neurons:g} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), metavar="DIR", help="data folder")
    parser.add_argument("--limits", type=float, nargs="+", default=[1.0, 5.0, 30.0], help="seconds")
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--out", type=Path, help="where the table is written")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    words = f"python benchmarks/limits.py --data DIR --limits {' '.join(f'{limit:g}' for limit in args.limits)}"
    lines = [f"{processor()}, {versions()}; load {os.getloadavg()[0]:.1f} at the start\n", HEADER.strip()]
    print(*lines, sep="\n", flush=True)
    with threadpool_limits(1):
        for limit in args.limits:
            for name, (size, run) in jobs(args.data).items():
                if args.only in name:
                    lines.append(row(name, size, run, limit))
                    print(lines[-1], flush=True)
                    if args.out:
                        args.out.write_text("\n".join([*lines, f"\n    {words}\n"]))


if __name__ == "__main__":
    main()
