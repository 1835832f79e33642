"""pyscnn 0.0.10: RFISTA for gated ReLU, its augmented Lagrangian method (AL) for ReLU, in an environment of its own.

There the file runs as ``python -m benchmarks.rivals.pyscnn_ IN.npz OUT.npz``. IN holds X, y, gates (d, P), lam,
formulation ("gated_relu" or "relu"), dtype, optimum (of pyscnn's objective), targets (relative distances), max_iters
and repeats. OUT holds a list of runs: name_k, seconds_k, iterations_k and coef_k, with coef (P, d), or (2, P, d) for
the two signs of ReLU.

Seconds are the ones that pyscnn logs; they leave out set-up and the computation of metrics. On the CPU pyscnn computes
with NumPy, so that the BLAS threads of the environment apply. Under NumPy 2 its float32 is float64 in all but name, as
scalars promote the arrays; the names of the runs say so.
"""

from __future__ import annotations

import logging

import numpy as np

from benchmarks.environments import TORCH, call, ensure, serve

# With NumPy 2 pyscnn's float32 turns into float64.
PINS = [TORCH, "pyscnn==0.0.10", "numpy==1.26.4"]
TARGETS = (1e-4, 1e-5, 1e-6)
#: Rows times gates up to which AL, and both precisions, are run.
SMALL = 150_000


def convex(program, args):
    """Runs of the solver for this kind of network; of a small program in both precisions."""
    n, method = len(program.y), f"pyscnn {'AL' if program.cones else 'RFISTA'}"
    small = n * program.D.shape[1] <= SMALL
    if program.cones and not small:
        raise RuntimeError(f"left out: AL only up to {SMALL:,} rows times patterns")
    python = ensure(PINS, args.envs)
    for dtype in ("float32", "float64") if small else ("float64",):
        arrays = dict(
            X=program.X,
            y=program.y,
            gates=program.gates,
            lam=program.alpha / n,
            formulation="relu" if program.cones else "gated_relu",
            dtype=dtype,
            optimum=program.bound / n,
            targets=TARGETS,
            max_iters=args.al_iters if program.cones else args.rfista_iters,
            repeats=args.repeats,
        )
        try:
            # Five runs or so in one process, at least.
            out = call(__name__, python, arrays, args.threads, 3 * args.max_time)
        except RuntimeError as error:
            yield method, f"{dtype}, {error}", np.inf, None, None
            continue
        for k in range(len(out) // 4):
            setting = f"{out[f'name_{k}']}, {out[f'iterations_{k}']} iterations"
            coef = out[f"coef_{k}"].reshape(len(program.signs), -1)
            yield method, setting, float(out[f"seconds_{k}"]), coef, None


def fit(data, tol, max_iters):
    """One run; the coefficients, the logged objectives and the logged seconds, one entry for each iteration."""
    from scnn.metrics import Metrics
    from scnn.models import ConvexGatedReLU, ConvexReLU
    from scnn.optimize import optimize_model
    from scnn.regularizers import NeuronGL1
    from scnn.solvers import AL, RFISTA

    gates, X, y = data["gates"], data["X"], data["y"]
    if data["formulation"] == "relu":
        model = ConvexReLU(gates)
        solver = AL(model, tol=tol, constraint_tol=tol, max_primal_iters=max_iters)
    else:
        model = ConvexGatedReLU(gates)
        solver = RFISTA(model, tol=tol, max_iters=max_iters)
    model, log = optimize_model(
        model,
        solver,
        Metrics(grad_norm=False, model_loss=True),
        X,
        y[:, None],
        regularizer=NeuronGL1(float(data["lam"])),
        return_convex=True,
        unitize_data=False,
        dtype=str(data["dtype"]),
    )
    if model.G.shape != gates.shape or not np.allclose(model.G, gates, rtol=1e-5, atol=1e-6):
        raise SystemExit("pyscnn changed the list of gates")
    if model.parameters[0].dtype != str(data["dtype"]):
        data["remark"] = f" in name, {model.parameters[0].dtype} in fact"
    coef = np.array([part[0] for part in model.parameters], dtype=float)
    return (coef if data["formulation"] == "relu" else coef[0]), np.array(log.model_loss), np.array(log.time)


def solve(data):
    """The runs."""
    logging.disable(logging.CRITICAL)
    max_iters, repeats, runs = int(data["max_iters"]), int(data["repeats"]), []
    if data["formulation"] == "relu":
        coef, first, seconds = fit(data, 1e-6, max_iters)
        runs.append(("tol=1e-6 (its default)", seconds[-1], len(seconds) - 2, coef))
    else:
        coef, first, seconds = min((fit(data, 1e-6, max_iters) for _ in range(repeats)), key=lambda run: run[2][-1])
        runs.append(("tol=1e-6 (its default)", seconds[-1], len(seconds) - 2, coef))
        coef, objective, seconds = fit(data, 1e-16, max_iters)
        # All runs take the same steps, so every run that gets as far is a repeat: the weights at each target are those
        # of a run that ends there, the time is the shortest of all.
        clocks, found = [seconds], []
        for target in data["targets"]:
            reached = np.flatnonzero(objective / data["optimum"] - 1 <= target)
            k = max(int(reached[0]), 1) if len(reached) else None
            again = [fit(data, 1e-16, k) for _ in range(repeats)] if k else []
            clocks += [run[2] for run in again]
            found.append((f"objective within {target:.0e}", k, again[0][0] if k else coef))
        for name, k, weights in found:
            when = min(clock[k] for clock in clocks if len(clock) > k) if k else np.inf
            runs.append((name if k else name + ": not reached", when, k or len(seconds) - 2, weights))
    if "logged" in data:
        return {"coef": runs[0][3], "objective": first[-1]}
    out = {}
    for k, (name, when, iterations, coef) in enumerate(runs):
        name = f"{data['dtype']}{data.get('remark', '')}, {name}"
        out |= {f"name_{k}": name, f"seconds_{k}": when, f"iterations_{k}": iterations, f"coef_{k}": coef}
    return out


if __name__ == "__main__":
    serve(solve)
