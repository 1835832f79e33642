"""What pyscnn and adelie say of their own solutions, with the weights: the file that tests hold the referee against.

    python -m benchmarks.logged [--envs DIR]     # writes benchmarks/logged.json

Both divide the loss by the number of rows: their lambda is alpha / n_samples and their objective ours / n_samples.
pyscnn's is its logged ``model_loss``, adelie's ``adelie.diagnostic.objective``; neither runs to convergence here, which
is not what is compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.data import load
from benchmarks.environments import call, ensure
from benchmarks.referee import Program
from benchmarks.rivals import adelie_, pyscnn_

PLACE = Path(__file__).parent / "logged.json"
SET, GATES, ALPHA = "25x3", 6, 0.5


def main():
    """Run both on one small program, gated and ReLU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", default="~/.cache/convexnn-bench", metavar="DIR", help="environments of rivals")
    args, entries = parser.parse_args(), []
    for cones in (False, True):
        X, y, _ = load(SET)
        program = Program(X, y, GATES, cones, alpha=ALPHA)
        lam = ALPHA / len(y)
        shared = dict(X=X, y=y, lam=lam, repeats=1)
        kind = "relu" if cones else "gated_relu"
        settings = dict(gates=program.gates, formulation=kind, dtype="float64", optimum=1.0, targets=[], logged=True)
        found = {
            "pyscnn": call(
                pyscnn_.__name__, ensure(pyscnn_.PINS, args.envs), shared | settings | {"max_iters": 60}, 1, 120
            ),
        }
        settings = dict(patterns=program.D > 0, cones=cones, tol=1e-8, constraint_tol=1e-7, lambdas=1, threads=1)
        found["adelie"] = call(adelie_.__name__, ensure(adelie_.PINS, args.envs), shared | settings, 1, 120)
        for rival, out in found.items():
            coef = out["coef"].reshape(len(program.signs), -1)
            entry = {"rival": rival, "cones": cones, "objective": float(out["objective"]), "coef": coef.tolist()}
            entries.append(entry)
            print(rival, kind, entry["objective"] * len(y), program.objective(coef))
    pins = {"pyscnn": pyscnn_.PINS, "adelie": adelie_.PINS}
    made = {"command": "python -m benchmarks.logged", "pins": pins, "set": SET, "gates": GATES, "alpha": ALPHA}
    PLACE.write_text(json.dumps(made | {"entries": entries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
