"""pyscnn on one convex program; run by benchmarks/solvers.py with the interpreter of an environment that has pyscnn.

    python pyscnn_.py IN.npz OUT.npz

IN holds X, y, gates (d, P), lam, formulation ("gated_relu" or "relu"), dtype, optimum (of pyscnn's objective), targets
(relative distances), max_iters and repeats. OUT holds a list of runs: name_k, seconds_k, iterations_k and coef_k, with
coef (P, d), or (2, P, d) for the two signs of ReLU.

Seconds are the ones that pyscnn logs; they leave out set-up and the computation of metrics. On the CPU pyscnn computes
with NumPy, so that the BLAS threads of the environment apply. Under NumPy 2 its float32 is float64 in all but name, as
scalars promote the arrays; the names of the runs say so.
"""

import logging
import sys

import numpy as np
from scnn.metrics import Metrics
from scnn.models import ConvexGatedReLU, ConvexReLU
from scnn.optimize import optimize_model
from scnn.regularizers import NeuronGL1
from scnn.solvers import AL, RFISTA


def fit(data, tol, max_iters):
    """One run; the coefficients, the logged objectives and the logged seconds, one entry for each iteration."""
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


def main(source, destination):
    """Read the program, run pyscnn, write the runs."""
    logging.disable(logging.CRITICAL)
    with np.load(source) as file:
        data = {name: file[name] for name in file.files}
    max_iters, repeats, runs = int(data["max_iters"]), int(data["repeats"]), []
    if data["formulation"] == "relu":
        coef, objective, seconds = fit(data, 1e-6, max_iters)
        runs.append(("tol=1e-6 (its default)", seconds[-1], len(seconds) - 2, coef))
    else:
        coef, objective, seconds = min((fit(data, 1e-6, max_iters) for _ in range(repeats)), key=lambda run: run[2][-1])
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
    out = {}
    for k, (name, when, iterations, coef) in enumerate(runs):
        name = f"{data['dtype']}{data.get('remark', '')}, {name}"
        out |= {f"name_{k}": name, f"seconds_{k}": when, f"iterations_{k}": iterations, f"coef_{k}": coef}
    np.savez(destination, **out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
