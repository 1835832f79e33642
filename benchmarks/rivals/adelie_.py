"""adelie 1.1.52: group lasso with linear constraints, in an environment of its own (it needs NumPy 1).

There the file runs as ``python -m benchmarks.rivals.adelie_ IN.npz OUT.npz``. IN holds X, y, patterns (n, P), lam
(alpha / n), cones (ReLU or gated ReLU), tol, constraint_tol, lambdas (length of the path that ends at lam), threads
and repeats. OUT holds coef, with the blocks of the positive sign before those of the negative one; seconds, the wall
clock around the solve of the fastest repeat; total, adelie's own clock of that solve; objective, its own diagnosis of
the weights; and error, adelie's complaint, with which there may be no coef.

The matrix and the constraints are made before the clock starts. Rows of the constraints have unit length. The limits
on iterations are far above the defaults, at which adelie gives up on tight tolerances.
"""

from __future__ import annotations

import logging
from time import perf_counter

import numpy as np

from benchmarks.environments import call, ensure, serve
from benchmarks.records import log

PINS = ["numpy==1.26.4", "adelie==1.1.52"]
TARGET = 1e-6
TOLERANCES = tuple(10.0**-k for k in range(7, 17))
MANY = 10**8


def convex(program, args):
    """Along a path of ten lambdas and straight at the last one, until the relative gap is TARGET.

    The tolerance is tightened up to the first run that gets there, and loosened by three to see if that does as well;
    a run that was stopped, or took longer than one that got there, is the last. For ReLU the tolerance of the
    constraints is tightened after that, until the weights are near their cones and their network is as good.
    """
    python = ensure(PINS, args.envs)
    record = np.inf
    for lambdas in (10, 1):

        def run(tol, constraint_tol, lambdas=lambdas):
            """The row; relative gaps of the weights and of their network, and seconds."""
            setting = f"{'a path of ' if lambdas > 1 else ''}{lambdas} lambda{'s' * (lambdas > 1)}, tol={tol:.0e}"
            setting += f", constraints {constraint_tol:.0e}" * program.cones
            arrays = dict(X=program.X, y=program.y, patterns=program.D > 0, lam=program.alpha / len(program.y))
            arrays |= dict(cones=program.cones, tol=tol, constraint_tol=constraint_tol, lambdas=lambdas)
            try:
                out = call(
                    __name__,
                    python,
                    arrays | dict(threads=args.threads, repeats=args.repeats),
                    args.threads,
                    args.max_time,
                )
                if str(out["error"]):
                    raise RuntimeError(str(out["error"]))
            except RuntimeError as error:
                return ("adelie", f"{setting}, {error}", np.inf, None, None), np.inf, np.inf
            gaps = [program.objective(out["coef"], relu) / program.bound - 1 for relu in (False, program.cones)]
            setting = f"{setting}; own clock {out['total']:.2f} s"
            log("  adelie", setting, *(f"{gap:.1e}" for gap in gaps))
            return ("adelie", setting, float(out["seconds"]), out["coef"], None), *gaps

        for tol in TOLERANCES:
            row, gap, net = run(tol, 1e-7)
            yield row
            if gap <= TARGET or row[2] >= record:
                break
        if gap <= TARGET:
            record = min(record, row[2])
            yield run(3 * tol, 1e-7)[0]
            for constraint_tol in (1e-9, 1e-11):
                if (net <= TARGET and gap >= -TARGET) or np.isinf(net):
                    break
                row, gap, net = run(tol, constraint_tol)
                yield row


def cone_constraints(X, patterns, tol):
    """For each block the constraint that keeps it in the cone of its pattern."""
    import adelie

    configs = {"tol": tol / 100, "nnls_tol": tol, "pinball_tol": tol}  # the proportions of the defaults
    configs |= {"max_iters": MANY, "nnls_max_iters": MANY, "pinball_max_iters": MANY}
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    lower, upper = np.full(len(X), -np.inf), np.zeros(len(X))
    sides = [np.ascontiguousarray(np.where(pattern, -1.0, 1.0)[:, None] * unit) for pattern in patterns.T]
    return [adelie.constraint.linear(side, lower, upper, configs=configs) for side in 2 * sides]


def solve(data):
    """The fastest run."""
    import adelie

    logging.disable(logging.CRITICAL)
    X, y, patterns, cones = np.asfortranarray(data["X"]), data["y"], np.asfortranarray(data["patterns"]), data["cones"]
    threads, lam, (n, d) = int(data["threads"]), float(data["lam"]), X.shape
    matrix = adelie.matrix.convex_relu(X, patterns, gated=not cones, n_threads=threads)
    constraints = cone_constraints(X, patterns, float(data["constraint_tol"])) if cones else None
    blocks, top = patterns.shape[1] * (2 if cones else 1), np.linalg.norm(patterns.T @ (X * y[:, None]), axis=1).max()
    path = np.geomspace(max(top / n, lam), lam, int(data["lambdas"])) if data["lambdas"] > 1 else np.array([lam])
    glm, groups, penalty = adelie.glm.gaussian(y), np.arange(0, blocks * d, d), np.ones(blocks)
    best = {"seconds": np.inf}
    for _ in range(int(data["repeats"])):
        start = perf_counter()
        state = adelie.grpnet(
            matrix,
            glm,
            constraints=constraints,
            groups=groups,
            penalty=penalty,
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
            ends = dict(betas=state.betas, intercepts=state.intercepts, lmdas=state.lmdas)
            own = adelie.diagnostic.objective(matrix, glm, **ends, groups=groups, penalty=penalty)
            best["objective"] = own[-1]
        if seconds > 5:
            break
    return best


if __name__ == "__main__":
    serve(solve)
