"""The same sampled convex program solved by convexnn, by cvxpy (Clarabel) and by pyscnn.

    python benchmarks/solvers.py            # writes benchmarks/results/solvers.md and solvers.csv
    python benchmarks/solvers.py --quick

Squared loss, no intercept, no hidden bias, alpha = n * 1e-3, a ReLU teacher with five neurons plus noise. All methods
get the same rows, targets and gates. pyscnn runs in an environment of its own, which is made on first use; torch's CPU
build is enough for it.

A referee that shares no code with the package recomputes every figure but the seconds in float64 from the returned
weights and dual points.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import cvxpy as cp
import numpy as np
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from convexnn.losses import get_loss
from convexnn.penalties import ConeGroupLasso, GroupLasso
from convexnn.problem import Design, Problem
from convexnn.solvers import Fista, Newton

HERE = Path(__file__).parent
# With NumPy 2 pyscnn's float32 turns into float64.
PYSCNN = ["torch==2.13.0", "pyscnn==0.0.10", "numpy==1.26.4"]
LAM = 1e-3
TOLERANCES = {Newton: (1e-4, 1e-6, 1e-8), Fista: (1e-4, 1e-5, 1e-6)}
TARGETS = (1e-4, 1e-5, 1e-6)
COLUMNS = ["method", "setting", "seconds", "relative gap", "certified gap", "as ReLU net", "cone violation"]

CAPTION = (
    "Squared loss, alpha = n * {:g}, no intercept, no hidden bias. Seconds: the solve alone, best of {} (one run for "
    "Clarabel, for pyscnn's AL and above 5 s), by Clarabel's and pyscnn's own clocks. Relative gap: objective over "
    "the best lower bound of any dual point, minus one (negative: weights left their cones). Certified gap: one minus "
    "the bound of the method's own dual point over its objective. As ReLU net: relative gap of the ReLU network with "
    "these weights. Cone violation: per unit of the block's norm and of the row's. All recomputed in float64 from "
    "returned weights."
)


class Referee:
    """One program, and the judgement of whatever a method returns for it.

    Parameters
    ----------
    n, d, P : int
        Rows, features, gates.
    cones : bool
        ReLU (two signs, weights kept in the cones of their patterns), or gated ReLU.
    """

    def __init__(self, n, d, P, cones):
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((n, d))
        teacher = np.maximum(self.X @ rng.standard_normal((d, 5)), 0) @ rng.standard_normal(5)
        self.y = teacher + 0.1 * rng.standard_normal(n)
        self.alpha, self.cones = n * LAM, cones
        gates = np.random.default_rng(0).standard_normal((P, d)).T
        # pyscnn drops equal and empty patterns and sorts the rest like this.
        D, first = np.unique((self.X @ gates > 0).astype(float), axis=1, return_index=True)
        first, D = first[D.any(axis=0)], D[:, D.any(axis=0)]
        self.gates, self.D = gates[:, first], D
        self.signs = np.repeat([1.0, -1.0], D.shape[1]) if cones else np.ones(D.shape[1])
        self.pattern = np.tile(np.arange(D.shape[1]), 2 if cones else 1)
        self.sides = np.where(D > 0, 1.0, -1.0)
        self.unit = self.X / np.linalg.norm(self.X, axis=1, keepdims=True)
        self.bound = 0.0

    def problem(self):
        """The package's Problem, with blocks in the referee's order."""
        patterns = np.ascontiguousarray(self.D.T > 0)
        design = Design(self.X, patterns, self.pattern, self.signs, np.zeros(len(self.signs), dtype=int))
        penalty = ConeGroupLasso(self.X, patterns, self.pattern) if self.cones else GroupLasso()
        return Problem(design, self.y, get_loss("squared"), penalty, self.alpha, np.ones(len(self.y)), False)

    def objective(self, V, relu=False):
        """Sum of losses + alpha sum|v|; with relu, of the ReLU network whose neurons have the weights V."""
        before = self.X @ V.T
        after = np.maximum(before, 0) if relu else before * self.D[:, self.pattern]
        return 0.5 * np.sum((self.y - after @ self.signs) ** 2) + self.alpha * np.linalg.norm(V, axis=1).sum()

    def violation(self, V):
        """Largest distance of a block to the wrong side of a row's hyperplane, per unit of the block's norm.

        Blocks below 1e-6 of the longest are dust and do not count.
        """
        lengths = np.linalg.norm(V, axis=1)
        keep = lengths > 1e-6 * lengths.max()
        side = (self.unit @ (V[keep] / lengths[keep, None]).T) * self.sides[:, self.pattern[keep]]
        return max(0.0, -float(side.min()))

    def lower_bound(self, theta):
        """Dual value of theta, scaled until no block's price is above alpha; kept when it is the best."""
        G = self.signs[:, None] * (self.D[:, self.pattern].T @ (theta[:, None] * self.X))
        price, lengths = self.alpha, np.linalg.norm(G, axis=1)
        for k in np.argsort(-lengths):
            if lengths[k] <= price:
                break
            # Moreau: the projection onto the cone is g plus the nearest point of the cone of the inward normals to -g.
            normals = (self.unit * self.sides[:, [self.pattern[k]]]).T
            price = max(price, lengths[k] if not self.cones else nnls(normals, -G[k], maxiter=10_000)[1])
        theta = theta * (self.alpha / price)
        value = float(self.y @ theta - 0.5 * theta @ theta)
        self.bound = max(self.bound, value)
        return value


def ours(referee, repeats):
    """Rows of Newton and Fista: best time of a few solves of the same problem."""
    rows = []
    for solver, tolerances in TOLERANCES.items():
        for tol in tolerances:
            best, problem = np.inf, referee.problem()
            problem.design @ np.zeros(problem.design.shape)  # the float patterns are part of the set-up
            for _ in range(repeats):
                start = perf_counter()
                result = solver(tol=tol, max_time=60).solve(problem)
                best = min(best, perf_counter() - start)
                if best > 5:
                    break
            bound = referee.lower_bound(result.theta)
            certified = 1 - bound / referee.objective(result.coef)
            name = f"tol={tol:.0e}, {result.n_iter} iterations" + (
                "" if result.status == "optimal" else f", {result.status}"
            )
            rows.append((f"convexnn {solver.__name__}", name, best, result.coef, certified))
            log(*rows[-1][:3])
        # Like pyscnn's: up to the first iterate that is this good, whether or not the method can know it.
        for target in TARGETS if best < 5 else ():
            good = [entry["iteration"] for entry in result.history if entry["objective"] / referee.bound - 1 <= target]
            if not good:
                continue
            best = np.inf
            for _ in range(repeats):
                start = perf_counter()
                stopped = solver(tol=0.0, max_iter=good[0]).solve(problem)
                best = min(best, perf_counter() - start)
            name = f"objective within {target:.0e}, {good[0]} iterations"
            rows.append((f"convexnn {solver.__name__}", name, best, stopped.coef, None))
            log(*rows[-1][:3])
    return rows


def clarabel(referee, max_time):
    """Row of the program as cvxpy sees it; the time is Clarabel's own, without cvxpy's compilation."""
    V, z = cp.Variable((len(referee.signs), referee.X.shape[1])), cp.Variable(len(referee.y))
    mixed = (referee.D[:, referee.pattern] * referee.signs) @ V
    link = z == cp.sum(cp.multiply(referee.X, mixed), axis=1)
    sides = referee.sides[:, referee.pattern].T
    cones = [cp.multiply(sides, V @ referee.unit.T) >= 0] if referee.cones else []
    value = 0.5 * cp.sum_squares(referee.y - z) + referee.alpha * cp.sum(cp.norm(V, 2, axis=1))
    program = cp.Problem(cp.Minimize(value), [link, *cones])
    start = perf_counter()
    try:
        program.solve(solver="CLARABEL", time_limit=float(max_time))
    except cp.error.SolverError as error:
        return [("cvxpy (Clarabel)", str(error).splitlines()[0], np.inf, None, None)]
    seconds = program.solver_stats.solve_time
    name = f"default tolerances, {program.status}; with compilation {perf_counter() - start:.1f} s"
    certified = None
    if V.value is not None and link.dual_value is not None:
        bound = max(referee.lower_bound(sign * link.dual_value) for sign in (1, -1))
        certified = 1 - bound / referee.objective(V.value)
    rows = [("cvxpy (Clarabel)", name, seconds, V.value, certified)]
    log(*rows[0][:3])
    return rows


def pyscnn(referee, python, threads, repeats, max_iters, max_time):
    """Rows of pyscnn's solver for this kind of network, in both precisions."""
    method = f"pyscnn {'AL' if referee.cones else 'RFISTA'}"
    if not Path(python).exists():
        return [(method, python, np.inf, None, None)]
    rows, n = [], len(referee.y)
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OPENBLAS", "OMP", "MKL")}
    for dtype in ("float32", "float64"):
        with tempfile.TemporaryDirectory() as folder:
            source, destination = Path(folder, "in.npz"), Path(folder, "out.npz")
            np.savez(
                source,
                X=referee.X,
                y=referee.y,
                gates=referee.gates,
                lam=LAM,
                formulation="relu" if referee.cones else "gated_relu",
                dtype=dtype,
                optimum=referee.bound / n,
                targets=TARGETS,
                max_iters=max_iters,
                repeats=repeats,
            )
            command = [python, str(HERE / "rivals" / "pyscnn_.py"), str(source), str(destination)]
            try:
                subprocess.run(command, env=environment, check=True, capture_output=True, timeout=max_time, text=True)
            except subprocess.TimeoutExpired:
                rows.append((method, f"{dtype}, stopped after {max_time:.0f} s", np.inf, None, None))
                continue
            except subprocess.CalledProcessError as error:
                rows.append((method, f"{dtype}, failed: {error.stderr.splitlines()[-1]}", np.inf, None, None))
                continue
            with np.load(destination) as out:
                for k in range(len(out.files) // 4):
                    name = f"{out[f'name_{k}']}, {out[f'iterations_{k}']} iterations"
                    coef = out[f"coef_{k}"].reshape(len(referee.signs), -1)
                    rows.append((method, name, float(out[f"seconds_{k}"]), coef, None))
                    log(*rows[-1][:3])
    return rows


def ensure_pyscnn(folder):
    """Interpreter of an environment with pyscnn, made when it is not there; or the reason why there is none."""
    home = Path(folder).expanduser() / "-".join(PYSCNN).replace("==", "-")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        if not (home / "ready").exists():
            log("installing", *PYSCNN, "...")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True)
            # torch first, and its version again with pyscnn, which would take any.
            for packages in (PYSCNN[:1], PYSCNN):
                command = [str(python), "-m", "pip", "install", "--quiet", *packages]
                subprocess.run(command, check=True, capture_output=True, text=True)
            (home / "ready").touch()
        return str(python)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return f"not installed: {said[-1] if said else error}"


def judged(referee, rows):
    """Dictionaries with the columns of the table; None where a figure does not apply."""
    table = []
    for method, setting, seconds, coef, certified in rows:
        gap = net = violation = None
        if coef is not None:
            gap = referee.objective(coef) / referee.bound - 1
            if referee.cones:
                net = referee.objective(coef, relu=True) / referee.bound - 1
                violation = referee.violation(coef)
        table.append(dict(zip(COLUMNS, [method, setting, seconds, gap, certified, net, violation])))
    return table


def bar(table):
    """The bar in words: 1e-6 at least five times faster than pyscnn at 1e-5, for each of our solvers.

    Twice: with the gap certified by the solver itself, and, as for pyscnn, up to the first iterate that is as good.
    """
    rival = min(
        (row["seconds"] for row in table if "pyscnn" in row["method"] and "within 1e-05" in row["setting"]),
        default=np.inf,
    )
    lines = []
    for solver in TOLERANCES:
        for kind, setting in (("certified by itself", "tol=1e-06"), ("first reached", "objective within 1e-06")):
            mine = [
                row["seconds"]
                for row in table
                if row["method"].endswith(solver.__name__)
                and setting in row["setting"]
                and (row["certified gap"] or 0.0) <= 1e-6 * (1 + 1e-6)
            ]
            if not mine or not np.isfinite(rival):
                lines.append(f"* {solver.__name__}, {kind}: not decided (ours: {mine}, pyscnn: {rival} s).")
                continue
            factor = rival / mine[0]
            lines.append(
                f"* {solver.__name__}, {kind}: **{'met' if factor >= 5 else 'missed'}**, {factor:.1f} times as fast "
                f"({mine[0]:.2f} s against {rival:.2f} s)."
            )
    return lines


def cell(column, value):
    """Text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if column == "seconds":
        return f"{value:.2f}" if np.isfinite(value) else "-"
    return f"{value:.1e}"


def machine(threads, load):
    """One line on hardware, versions and load."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "cvxpy", "clarabel"))
    loads = f"load average {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after"
    return (
        f"Machine: {model}, {os.cpu_count()} cores, {threads} BLAS threads for every method; {loads}; Python "
        f"{platform.python_version()}, {packages}, {', '.join(PYSCNN)}."
    )


def log(*words):
    """Progress on standard error."""
    print(*(f"{word:.2f} s" if isinstance(word, float) else word for word in words), file=sys.stderr, flush=True)


def main():
    """Parse the command line, run everything, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["500x10x300"], metavar="NxDxP", help="rows, features, gates")
    parser.add_argument("--quick", action="store_true", help="gated ReLU only, one repeat")
    parser.add_argument("--repeats", type=int, default=3, help="solves of which the best time counts")
    parser.add_argument("--threads", type=int, default=2, help="BLAS threads of every method")
    parser.add_argument("--envs", default="~/.cache/convexnn-bench", metavar="DIR", help="where environments are made")
    parser.add_argument("--pyscnn-python", metavar="PATH", help="interpreter of an existing environment with pyscnn")
    parser.add_argument("--al-iters", type=int, default=10_000, help="limit on pyscnn's iterations for ReLU")
    parser.add_argument("--max-time", type=float, default=600.0, help="limit in seconds of one run of a rival")
    parser.add_argument("--out", default=str(HERE / "results"), metavar="DIR", help="where the tables go")
    args = parser.parse_args()
    python, load = args.pyscnn_python or ensure_pyscnn(args.envs), os.getloadavg()
    repeats = 1 if args.quick else args.repeats
    parts, verdicts, records = [], [], []
    for size in args.sizes:
        n, d, P = map(int, size.split("x"))
        for cones in (False,) if args.quick else (False, True):
            referee = Referee(n, d, P, cones)
            with threadpool_limits(args.threads):
                rows = ours(referee, repeats)
                rows += clarabel(referee, args.max_time)
            rows += pyscnn(referee, python, args.threads, repeats, args.al_iters if cones else 10_000, args.max_time)
            table = judged(referee, rows)
            kind = "ReLU" if cones else "Gated ReLU"
            shown = [c for c in COLUMNS if cones or c not in ("as ReLU net", "cone violation")]
            title = f"{kind}, n={n}, d={d}, {referee.D.shape[1]} patterns, best lower bound {referee.bound:.9g}"
            parts += [f"\n## {title}\n", f"| {' | '.join(shown)} |", "|" + "---|" * len(shown)]
            parts += [f"| {' | '.join(cell(c, row[c]) for c in shown)} |" for row in table]
            records += [dict(problem=kind, n=n, d=d, patterns=referee.D.shape[1]) | row for row in table]
            if not cones:
                verdicts += [f"n={n}, d={d}, P={P}:", "", *bar(table)]
    local = ("--pyscnn-python", args.pyscnn_python, "--envs", args.envs)
    options = [word for word in sys.argv[1:] if word not in local]
    text = "\n".join(
        [
            "# Solvers of the sampled convex program\n",
            "Bar: on gated ReLU, a relative gap of 1e-6 at least 5 times faster than pyscnn's 1e-5.\n",
            *verdicts,
            "",
            machine(args.threads, load),
            "",
            f"Command: `{' '.join(['python benchmarks/solvers.py', *options])}`",
            "",
            CAPTION.format(LAM, repeats),
            *parts,
        ]
    )
    print(text)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "solvers.md").write_text(text + "\n")
    with open(folder / "solvers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


if __name__ == "__main__":
    main()
