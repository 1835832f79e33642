"""skglm 0.5: GroupLasso on the gated problem, whose matrix it gets whole, in an environment of its own.

There the file runs as ``python -m benchmarks.rivals.skglm_ IN.npz OUT.npz``; its first, untimed run is Numba's
compilation. Its objective is ours divided by the number of rows.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.environments import call, ensure, serve

PINS = ["skglm==0.5", "numpy==2.4.6", "numba==0.68.1", "scipy==1.17.1", "scikit-learn==1.9.1"]
TOLERANCES = tuple(10.0**-k for k in range(4, 13))


def convex(program, args, module=__name__, method="skglm", pins=PINS):
    """Ever tighter tolerances, to the first whose relative gap is 1e-6."""
    if program.cones:
        raise RuntimeError("left out: no cone constraints")
    n = len(program.y)
    arrays = dict(X=program.X, y=program.y, D=program.D, lam=program.alpha / n, repeats=args.repeats)
    arrays |= dict(goal=program.bound / n * (1 + 1e-6), tolerances=TOLERANCES, max_time=args.max_time)
    out = call(module, ensure(pins, args.envs), arrays, args.threads, 2 * args.max_time + 120)
    for tol, seconds, coef in zip(out["tolerances"], out["seconds"], out["coef"]):
        yield method, f"tol={tol:.0e}", float(seconds), coef, None


def race(data, fit):
    """Runs of ``fit(matrix, y, lam, size of a group, tol)``, which gives coefficients, until the goal is reached."""
    X, y, D, lam = data["X"], data["y"], data["D"], float(data["lam"])
    matrix = np.asfortranarray((D[:, :, None] * X[:, None, :]).reshape(len(y), -1))
    few = slice(0, 2 * X.shape[1])
    fit(np.asfortranarray(matrix[:, few]), y, lam, X.shape[1], 1e-3)
    found, begin = [], perf_counter()
    for tol in data["tolerances"]:
        best = np.inf
        for _ in range(int(data["repeats"])):
            start = perf_counter()
            coef = fit(matrix, y, lam, X.shape[1], tol)
            best = min(best, perf_counter() - start)
        coef = np.asarray(coef, dtype=float)
        blocks = coef.reshape(D.shape[1], -1)
        found.append((tol, best, blocks))
        value = 0.5 * np.sum((y - matrix @ coef) ** 2) / len(y) + lam * np.linalg.norm(blocks, axis=1).sum()
        if value <= data["goal"] or perf_counter() - begin > data["max_time"]:
            break
    return {name: np.array(values) for name, values in zip(("tolerances", "seconds", "coef"), zip(*found))}


def fit(matrix, y, lam, size, tol):
    """Coefficients of one solve."""
    import warnings

    from skglm import GroupLasso

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GroupLasso(size, alpha=lam, tol=tol, max_iter=1000, fit_intercept=False)
        return model.fit(matrix, y).coef_


if __name__ == "__main__":
    serve(lambda data: race(data, fit))
