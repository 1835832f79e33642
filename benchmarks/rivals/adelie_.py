"""adelie on one convex program; run by benchmarks/solvers.py with the interpreter of an environment that has adelie.

    python adelie_.py IN.npz OUT.npz

IN holds X, y, patterns (n, P), lam (alpha / n), cones (ReLU or gated ReLU), tol, constraint_tol, lambdas (length of the
path that ends at lam), threads and repeats. OUT holds coef, with the blocks of the positive sign before those of the
negative one; seconds, the wall clock around the solve of the fastest repeat; total, adelie's own clock of that solve;
and error, adelie's complaint, with which there may be no coef.

The matrix and the constraints are made before the clock starts. Rows of the constraints have unit length. The limits
on iterations are far above the defaults, at which adelie gives up on tight tolerances.
"""

import logging
import sys
from time import perf_counter

import adelie
import numpy as np

MANY = 10**8


def cone_constraints(X, patterns, tol):
    """For each block the constraint that keeps it in the cone of its pattern."""
    configs = {"tol": tol / 100, "nnls_tol": tol, "pinball_tol": tol}  # the proportions of the defaults
    configs |= {"max_iters": MANY, "nnls_max_iters": MANY, "pinball_max_iters": MANY}
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    lower, upper = np.full(len(X), -np.inf), np.zeros(len(X))
    sides = [np.ascontiguousarray(np.where(pattern, -1.0, 1.0)[:, None] * unit) for pattern in patterns.T]
    return [adelie.constraint.linear(side, lower, upper, configs=configs) for side in 2 * sides]


def main(source, destination):
    """Read the program, run adelie, write the fastest run."""
    logging.disable(logging.CRITICAL)
    with np.load(source) as file:
        data = {name: file[name] for name in file.files}
    X, y, patterns, cones = np.asfortranarray(data["X"]), data["y"], np.asfortranarray(data["patterns"]), data["cones"]
    threads, lam, (n, d) = int(data["threads"]), float(data["lam"]), X.shape
    matrix = adelie.matrix.convex_relu(X, patterns, gated=not cones, n_threads=threads)
    constraints = cone_constraints(X, patterns, float(data["constraint_tol"])) if cones else None
    blocks, top = patterns.shape[1] * (2 if cones else 1), np.linalg.norm(patterns.T @ (X * y[:, None]), axis=1).max()
    path = np.geomspace(max(top / n, lam), lam, int(data["lambdas"])) if data["lambdas"] > 1 else np.array([lam])
    best = {"seconds": np.inf}
    for _ in range(int(data["repeats"])):
        start = perf_counter()
        state = adelie.grpnet(
            matrix,
            adelie.glm.gaussian(y),
            constraints=constraints,
            groups=np.arange(0, blocks * d, d),
            penalty=np.ones(blocks),
            lmda_path=path,
            tol=float(data["tol"]),
            max_iters=MANY,
            intercept=False,
            early_exit=False,
            progress_bar=False,
            n_threads=threads,
        )
        seconds = perf_counter() - start
        if len(state.lmdas) < len(path):
            best = {"error": state.error or "the path ended early"}
            break
        if seconds < best["seconds"]:
            coef = state.betas[-1].toarray().reshape(blocks, d)
            best = {"seconds": seconds, "total": state.total_time, "coef": coef, "error": ""}
        if seconds > 5:
            break
    np.savez(destination, **best)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
