"""The program as cvxpy states it, solved by Clarabel and by SCS; seconds are the solver's own, without compilation."""

from __future__ import annotations

import warnings
from time import perf_counter

import cvxpy as cp
import numpy as np

PINS: list[str] = []
#: Above so many rows times blocks the compilation alone takes minutes.
LARGEST = 300_000


def convex(program, args):
    """Default tolerances, and for SCS tighter ones."""
    blocks, d = len(program.signs), program.X.shape[1]
    if len(program.y) * blocks > LARGEST:
        raise RuntimeError(f"left out: more than {LARGEST:,} rows times blocks")
    V, z = cp.Variable((blocks, d)), cp.Variable(len(program.y))
    mixed = (program.D[:, program.pattern] * program.signs) @ V
    link = z == cp.sum(cp.multiply(program.X, mixed), axis=1)
    sides = program.sides[:, program.pattern].T
    cones = [cp.multiply(sides, V @ program.unit.T) >= 0] if program.cones else []
    value = 0.5 * cp.sum_squares(program.y - z) + program.alpha * cp.sum(cp.norm(V, 2, axis=1))
    stated = cp.Problem(cp.Minimize(value), [link, *cones])
    limit = float(args.max_time)
    for solver, options in {
        "CLARABEL": dict(time_limit=limit),
        "SCS": dict(time_limit_secs=limit, eps_abs=1e-6, eps_rel=1e-6, max_iters=10**7),
    }.items():
        start = perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # inaccurate solutions are graded like others
                stated.solve(solver=solver, **options)
        except cp.error.SolverError as error:
            yield f"cvxpy ({solver})", str(error).splitlines()[0], np.inf, None, None
            continue
        tolerances = "default tolerances" if solver == "CLARABEL" else "tolerances 1e-6"
        setting = f"{tolerances}, {stated.status}; with compilation {perf_counter() - start:.1f} s"
        seconds = stated.solver_stats.solve_time
        if V.value is None:
            yield f"cvxpy ({solver})", setting, np.inf, None, None
            continue
        # cvxpy's sign of a multiplier is a convention: theta is near the residual, not near its negative.
        theta = link.dual_value
        if theta is not None and theta @ program.residual(V.value) < 0:
            theta = -theta
        yield f"cvxpy ({solver})", setting, seconds, V.value, theta
