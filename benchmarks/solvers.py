"""The same sampled convex program solved by convexnn, by cvxpy (Clarabel), by pyscnn and by adelie.

    python benchmarks/solvers.py            # writes benchmarks/results/solvers.md and solvers.csv
    python benchmarks/solvers.py --quick
    python benchmarks/solvers.py --sizes 500x10x300 1000x20x500@0.01 2000x50x1000@0.01 concrete:500@0.01 --data DIR

Squared loss, no intercept. NxDxP: a ReLU teacher with five neurons plus noise, no hidden bias. NAME:P:
DIR/regression/NAME.csv.gz, all columns standardised, and a column of ones as a hidden bias that is penalised with the
other weights. alpha = n * 1e-3; SIZE@SHARE: that share of the smallest alpha for which all weights are zero. All
methods get the same rows, targets and gates. pyscnn and adelie run in environments of their own, which are made on
first use; torch's CPU build is enough for pyscnn.

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
ADELIE = ["numpy==1.26.4", "adelie==1.1.52"]
LAM = 1e-3
TOLERANCES = {Newton: (1e-4, 1e-6, 1e-8), Fista: (1e-4, 1e-5, 1e-6)}
TARGETS = (1e-4, 1e-5, 1e-6)
ADELIE_TOLERANCES = (1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16)
SMALL = 500 * 300
FISTA_TIME = 60.0
COLUMNS = ["method", "setting", "seconds", "relative gap", "certified gap", "as ReLU net", "cone violation"]

CAPTION = (
    "Squared loss, alpha = n * {lam:g} or, with @SHARE, that share of the smallest alpha for which all weights are "
    "zero; no intercept; NxDxP: no hidden bias, NAME:P: a hidden bias as a penalised "
    "column. Seconds: the solve alone, best of {repeats} (one run for Clarabel, for pyscnn's AL and above 5 s), by "
    "Clarabel's and pyscnn's own clocks; for adelie by the clock around its solve (its own is with the setting), "
    "without the making of matrix and constraints. adelie's tolerance goes down by factors of ten until the relative "
    "gap is {target:g}, then once back up by three; where the ReLU network of its weights is worse than that, the "
    "tolerance of its constraints goes down as well. Limits: {max_time:.0f} s for one run of Newton, Clarabel and "
    "adelie and for all runs of pyscnn at one precision, {fista:.0f} s for one of FISTA; {rfista} iterations of "
    "pyscnn's RFISTA, {al} of its AL; neither Clarabel nor pyscnn's AL nor its float32 where n * P is above {small}. "
    "Relative gap: objective over the best lower bound of any dual point, minus one (negative: weights left their "
    "cones). Certified gap: one minus the bound of the method's own dual point (adelie: its "
    "residuals) over its objective. As ReLU net: relative gap of the ReLU network with these weights. Cone violation: "
    "per unit of the block's norm and of the row's. All recomputed in float64 from returned weights."
)


def program(size, data):
    """Features, targets, number of gates and share of alpha_max (0: alpha = n * LAM) that a size stands for."""
    size, _, share = size.partition("@")
    share = float(share or 0.0)
    if ":" in size:
        name, P = size.split(":")
        table = np.loadtxt(Path(data, "regression", f"{name}.csv.gz"), delimiter=",", skiprows=1)
        table = (table - table.mean(axis=0)) / table.std(axis=0)
        return np.column_stack([table[:, :-1], np.ones(len(table))]), table[:, -1], int(P), share
    n, d, P = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    teacher = np.maximum(X @ rng.standard_normal((d, 5)), 0) @ rng.standard_normal(5)
    return X, teacher + 0.1 * rng.standard_normal(n), P, share


class Referee:
    """One program, and the judgement of whatever a method returns for it.

    Parameters
    ----------
    X, y : array
        Features and targets.
    P : int
        Gates.
    share : float
        alpha as a share of alpha_max; 0 for n * LAM.
    cones : bool
        ReLU (two signs, weights kept in the cones of their patterns), or gated ReLU.
    """

    def __init__(self, X, y, P, share, cones):
        self.X, self.y = X, y
        n, d = X.shape
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
        self.bound, self.small = 0.0, n * P <= SMALL
        if share:
            self.alpha = share * self.problem().alpha_max

    def problem(self):
        """The package's Problem, with blocks in the referee's order."""
        patterns = np.ascontiguousarray(self.D.T > 0)
        design = Design(self.X, patterns, self.pattern, self.signs, np.zeros(len(self.signs), dtype=int))
        penalty = ConeGroupLasso(self.X, patterns, self.pattern) if self.cones else GroupLasso()
        return Problem(design, self.y, get_loss("squared"), penalty, self.alpha, np.ones(len(self.y)), False)

    def residual(self, V, relu=False):
        """Targets minus predictions; with relu, those of the ReLU network whose neurons have the weights V."""
        before = self.X @ V.T
        after = np.maximum(before, 0) if relu else before * self.D[:, self.pattern]
        return self.y - after @ self.signs

    def objective(self, V, relu=False):
        """Sum of losses + alpha sum|v|."""
        return 0.5 * np.sum(self.residual(V, relu) ** 2) + self.alpha * np.linalg.norm(V, axis=1).sum()

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


def ours(referee, repeats, max_time):
    """Rows of Newton and Fista: best time of a few solves of the same problem."""
    rows = []
    for solver, tolerances in TOLERANCES.items():
        limit = min(max_time, FISTA_TIME) if solver is Fista else max_time
        for tol in tolerances:
            best, problem = np.inf, referee.problem()
            problem.design @ np.zeros(problem.design.shape)  # the float patterns are part of the set-up
            for _ in range(repeats):
                start = perf_counter()
                result = solver(tol=tol, max_time=limit).solve(problem)
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
            if result.status != "optimal":
                break
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


def call(script, python, arrays, threads, max_time):
    """What a script in rivals/ makes of the arrays; a line of text when it fails or takes too long."""
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OPENBLAS", "OMP", "MKL")}
    with tempfile.TemporaryDirectory() as folder:
        source, destination = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **arrays)
        command = [python, str(HERE / "rivals" / script), str(source), str(destination)]
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=max_time, text=True)
            with np.load(destination) as out:
                return dict(out)
        except subprocess.TimeoutExpired:
            return f"stopped after {max_time:.0f} s"
        except (OSError, subprocess.CalledProcessError) as error:
            return f"failed: {(getattr(error, 'stderr', None) or str(error)).strip().splitlines()[-1]}"


def pyscnn(referee, python, threads, repeats, max_iters, max_time):
    """Rows of pyscnn's solver for this kind of network; of a small program in both precisions."""
    method = f"pyscnn {'AL' if referee.cones else 'RFISTA'}"
    if not Path(python).exists():
        return [(method, python, np.inf, None, None)]
    rows, n = [], len(referee.y)
    for dtype in ("float32", "float64") if referee.small else ("float64",):
        arrays = dict(
            X=referee.X,
            y=referee.y,
            gates=referee.gates,
            lam=referee.alpha / n,
            formulation="relu" if referee.cones else "gated_relu",
            dtype=dtype,
            optimum=referee.bound / n,
            targets=TARGETS,
            max_iters=max_iters,
            repeats=repeats,
        )
        out = call("pyscnn_.py", python, arrays, threads, max_time)
        if isinstance(out, str):
            rows.append((method, f"{dtype}, {out}", np.inf, None, None))
            log(*rows[-1][:3])
            continue
        for k in range(len(out) // 4):
            name = f"{out[f'name_{k}']}, {out[f'iterations_{k}']} iterations"
            coef = out[f"coef_{k}"].reshape(len(referee.signs), -1)
            rows.append((method, name, float(out[f"seconds_{k}"]), coef, None))
            log(*rows[-1][:3])
    return rows


def adelie(referee, python, threads, repeats, max_time):
    """Rows of adelie, along a path of ten lambdas and straight at the last one, to the last of the targets.

    The tolerance is tightened up to the first run that gets there, and loosened by three to see if that does as well;
    a run that was stopped, or took longer than one that got there, is the last. For ReLU the tolerance of the
    constraints is tightened after that, until the network of the weights is as good.
    """
    if not Path(python).exists():
        return [("adelie", python, np.inf, None, None)]
    rows = []

    def run(lambdas, tol, constraint_tol):
        """One more row; relative gaps of the weights and of their network, and seconds, or infinity."""
        name = f"{'a path of ' if lambdas > 1 else ''}{lambdas} lambda{'s' * (lambdas > 1)}, tol={tol:.0e}"
        name += f", constraints {constraint_tol:.0e}" * referee.cones
        arrays = dict(X=referee.X, y=referee.y, patterns=referee.D > 0, lam=referee.alpha / len(referee.y))
        arrays |= dict(cones=referee.cones, tol=tol, constraint_tol=constraint_tol, lambdas=lambdas)
        out = call("adelie_.py", python, arrays | dict(threads=threads, repeats=repeats), threads, max_time)
        if isinstance(out, str) or str(out["error"]):
            rows.append(("adelie", f"{name}, {out if isinstance(out, str) else out['error']}", np.inf, None, None))
            log(*rows[-1][:3])
            return np.inf, np.inf, np.inf
        coef = out["coef"]
        bound = referee.lower_bound(referee.residual(coef))
        certified = 1 - bound / referee.objective(coef)
        rows.append(("adelie", f"{name}; own clock {out['total']:.2f} s", float(out["seconds"]), coef, certified))
        gaps = [referee.objective(coef, relu) / referee.bound - 1 for relu in (False, referee.cones)]
        log(*rows[-1][:3], *(f"{gap:.1e}" for gap in gaps))
        return *gaps, rows[-1][2]

    record = np.inf
    for lambdas in (10, 1):
        for tol in ADELIE_TOLERANCES:
            gap, net, seconds = run(lambdas, tol, 1e-7)
            if gap <= TARGETS[-1] or seconds >= record:
                break
        if gap <= TARGETS[-1]:
            record = min(record, seconds)
            run(lambdas, 3 * tol, 1e-7)
            for constraint_tol in (1e-9, 1e-11):
                if net <= TARGETS[-1] or np.isinf(net):
                    break
                net = run(lambdas, tol, constraint_tol)[1]
    return rows


def ensure(pins, folder):
    """Interpreter of an environment with these packages, made when it is not there; or why there is none."""
    home = Path(folder).expanduser() / "-".join(pins).replace("==", "-")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        if not (home / "ready").exists():
            log("installing", *pins, "...")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True)
            # The first one first, and its version again with the others, which would take any.
            for packages in (pins[:1], pins):
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


def verdicts(table, cones):
    """Rows (ours, rival, factor, bar, verdict) of the bars of one program.

    ReLU: Newton at a certified gap of 1e-6, weights within 1e-9 of their cones, three times as fast as adelie at a
    relative gap of 1e-6. Gated ReLU: faster than adelie, and ten times as fast as pyscnn gets an objective within 1e-5
    and within 1e-6; the last two also with the first of our iterates that is as good, which no method can know.
    """
    aims = [("adelie", 1e-6, "tol=1e-06", 3.0 if cones else 1.0)]
    if not cones:
        aims += [("pyscnn", target, "tol=1e-06", 10.0) for target in (1e-5, 1e-6)]
        aims += [("pyscnn", target, f"objective within {target:.0e}", 10.0) for target in (1e-5, 1e-6)]
    lines = []
    for rival, target, setting, bar in aims:
        rows = [row for row in table if row["method"].startswith(rival)]
        theirs = min((row["seconds"] for row in rows if within(row["relative gap"], target)), default=np.inf)
        # Without a run that gets there, a run that was stopped still says how fast it is not.
        stops = [float(row["setting"].split("stopped after ")[1][:-2]) for row in rows if "stopped" in row["setting"]]
        more = not np.isfinite(theirs) and rival == "adelie" and len(stops) > 0
        theirs = min(stops) if more else theirs
        for solver in (Newton,) if cones else TOLERANCES:
            certified = setting.startswith("tol")
            mine = min(
                (
                    row["seconds"]
                    for row in table
                    if row["method"].endswith(solver.__name__)
                    and setting in row["setting"]
                    and within(row["certified gap" if certified else "relative gap"], 1e-6 if certified else target)
                    and (not cones or row["cone violation"] < 1e-9)
                ),
                default=np.inf,
            )
            factor = theirs / mine if np.isfinite(mine) and np.isfinite(theirs) else None
            if factor is None or (more and factor < bar):
                verdict = "missed" if np.isfinite(theirs) and not more else "not decided"
            else:
                verdict = "met" if factor >= bar else "missed"
            over = "more than " * more
            lines.append(
                [
                    f"{solver.__name__}, {'certified 1e-06' if certified else f'first reached {target:.0e}'}",
                    f"{mine:.2f}" if np.isfinite(mine) else "-",
                    f"{rival}, {target:.0e}",
                    over + f"{theirs:.2f}" if np.isfinite(theirs) else "not reached",
                    over + f"{factor:.1f}" if factor is not None else "-",
                    f"{bar:g}",
                    f"**{verdict}**",
                ]
            )
    return lines


def within(gap, target):
    """Whether a gap that may not be known is at most the target, but for rounding."""
    return gap is not None and gap <= target * (1 + 1e-6)


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
        f"Machine: {model}, {os.cpu_count()} cores, {threads} threads for every method; {loads}; Python "
        f"{platform.python_version()}, {packages}; {', '.join(PYSCNN)}; {', '.join(ADELIE)}."
    )


def log(*words):
    """Progress on standard error."""
    print(*(f"{word:.2f} s" if isinstance(word, float) else word for word in words), file=sys.stderr, flush=True)


def main():
    """Parse the command line, run everything, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", default=["500x10x300"], metavar="SIZE", help="NxDxP (rows, features, gates) or NAME:P"
    )
    parser.add_argument("--data", default=os.environ.get("CONVEXNN_DATA"), metavar="DIR", help="where NAME:P looks")
    parser.add_argument("--quick", action="store_true", help="gated ReLU only, one repeat")
    parser.add_argument("--repeats", type=int, default=3, help="solves of which the best time counts")
    parser.add_argument("--threads", type=int, default=2, help="threads of every method")
    parser.add_argument("--envs", default="~/.cache/convexnn-bench", metavar="DIR", help="where environments are made")
    parser.add_argument("--pyscnn-python", metavar="PATH", help="interpreter of an existing environment with pyscnn")
    parser.add_argument("--adelie-python", metavar="PATH", help="interpreter of an existing environment with adelie")
    parser.add_argument("--al-iters", type=int, default=10_000, help="limit on pyscnn's iterations for ReLU")
    parser.add_argument("--rfista-iters", type=int, default=10_000, help="limit on pyscnn's for gated ReLU")
    parser.add_argument("--max-time", type=float, default=600.0, help="limit in seconds of one run")
    parser.add_argument("--kinds", nargs="+", choices=("gated", "relu"), default=["gated", "relu"])
    parser.add_argument("--out", default=str(HERE / "results"), metavar="DIR", help="where the tables go")
    args = parser.parse_args()
    if args.data is None and any(":" in size for size in args.sizes):
        parser.error("NAME:P needs --data DIR or CONVEXNN_DATA")
    pyscnn_python = args.pyscnn_python or ensure(PYSCNN, args.envs)
    adelie_python = args.adelie_python or ensure(ADELIE, args.envs)
    load, repeats = os.getloadavg(), 1 if args.quick else args.repeats
    parts, bars, records = [], [], []
    for size in args.sizes:
        X, y, P, share = program(size, args.data)
        for kind in ("gated",) if args.quick else args.kinds:
            cones = kind == "relu"
            referee = Referee(X, y, P, share, cones)
            with threadpool_limits(args.threads):
                rows = ours(referee, repeats, args.max_time)
                if referee.small:
                    rows += clarabel(referee, args.max_time)
            rows += adelie(referee, adelie_python, args.threads, repeats, args.max_time)
            if referee.small or not cones:
                limit = args.al_iters if cones else args.rfista_iters
                rows += pyscnn(referee, pyscnn_python, args.threads, repeats, limit, args.max_time)
            table = judged(referee, rows)
            kind, (n, d), patterns = "ReLU" if cones else "Gated ReLU", X.shape, referee.D.shape[1]
            shown = [c for c in COLUMNS if cones or c not in ("as ReLU net", "cone violation")]
            title = f"{kind}, {size}: n={n}, d={d}, {patterns} patterns, best lower bound {referee.bound:.9g}"
            parts += [f"\n## {title}\n", f"| {' | '.join(shown)} |", "|" + "---|" * len(shown)]
            parts += [f"| {' | '.join(cell(c, row[c]) for c in shown)} |" for row in table]
            records += [dict(problem=kind, size=size, n=n, d=d, patterns=patterns) | row for row in table]
            bars += [f"| {' | '.join([kind, size, *line])} |" for line in verdicts(table, cones)]
    options, private = sys.argv[1:], ("--pyscnn-python", "--adelie-python", "--envs", "--data", "--out")
    shown = [w for before, w in zip(["", *options], options) if w not in private and before not in private]
    text = "\n".join(
        [
            "# Solvers of the sampled convex program\n",
            "Bars. ReLU: Newton at a certified gap of 1e-6, weights within 1e-9 of their cones, at least 3 times as "
            "fast as adelie at a relative gap of 1e-6. Gated ReLU: faster than adelie at 1e-6, and at least 10 times "
            "as fast as pyscnn gets an objective within 1e-5 and within 1e-6.\n",
            "| problem | size | convexnn | seconds | rival | seconds | times as fast | bar | verdict |",
            "|" + "---|" * 9,
            *bars,
            "",
            machine(args.threads, load),
            "",
            f"Command: `{' '.join(['python benchmarks/solvers.py', *shown])}`",
            "",
            CAPTION.format(
                lam=LAM,
                repeats=repeats,
                target=TARGETS[-1],
                max_time=args.max_time,
                fista=min(FISTA_TIME, args.max_time),
                rfista=args.rfista_iters,
                al=args.al_iters,
                small=SMALL,
            ),
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
