"""The benchmarks: a referee that can be trusted, rows that survive, and a small run of every suite."""

import argparse
import ast
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "benchmarks" / "__main__.py").exists():
    pytest.skip("benchmarks are in the checkout only", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import data, racing, records, rivals, suites  # noqa: E402
from benchmarks.referee import Program, Training, price_bound  # noqa: E402
from benchmarks.rivals import convexnn_, sklearn_, torch_  # noqa: E402
from benchmarks.search import fresh_price  # noqa: E402
from benchmarks.suites import optimal_sets, profile, scaling, solvers  # noqa: E402
from convexnn import ConvexReLUClassifier, ConvexReLURegressor, Network  # noqa: E402
from convexnn.solvers import Newton  # noqa: E402


def teacher(n=25, d=3):
    X, y, _ = data.load(f"{n}x{d}")
    return X, y


def drawn_network(d, m=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m), 0.3


# The referee


LOGGED = json.loads((ROOT / "benchmarks" / "logged.json").read_text())


@pytest.mark.parametrize("entry", LOGGED["entries"], ids=lambda entry: f"{entry['rival']}-{entry['cones']}")
def test_the_referee_agrees_with_what_rivals_say_of_themselves(entry):
    """lambda = alpha / n and objective / n: pyscnn's logged loss and adelie's own diagnosis of the same weights."""
    X, y, _ = data.load(LOGGED["set"])
    program = Program(X, y, LOGGED["gates"], entry["cones"], alpha=LOGGED["alpha"])
    assert program.objective(np.array(entry["coef"])) == pytest.approx(entry["objective"] * len(y), rel=1e-9)
    assert {other["rival"] for other in LOGGED["entries"]} == {"pyscnn", "adelie"}


@pytest.mark.parametrize("name", ["referee.py", "search.py"])
def test_the_referee_knows_nothing_of_convexnn(name):
    tree = ast.parse((ROOT / "benchmarks" / name).read_text())
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in found if name.split(".")[0] in ("convexnn", "benchmarks")]


@pytest.mark.parametrize("cones", [False, True])
def test_program_row_by_row(cones):
    X, y = teacher()
    program, rng = Program(X, y, 6, cones, alpha=0.7), np.random.default_rng(1)
    V = rng.standard_normal((len(program.signs), X.shape[1]))
    V[::3] = 0
    loss = loss_net = 0.0
    worst = 0.0
    for i, x in enumerate(X):
        z = z_net = 0.0
        for k, v in enumerate(V):
            on = x @ program.gates[:, program.pattern[k]] > 0
            z += program.signs[k] * (x @ v) * on
            z_net += program.signs[k] * max(x @ v, 0.0)
            if v.any():
                worst = max(worst, -(1 if on else -1) * (x @ v) / np.linalg.norm(x) / np.linalg.norm(v))
        loss, loss_net = loss + 0.5 * (y[i] - z) ** 2, loss_net + 0.5 * (y[i] - z_net) ** 2
    decay = 0.7 * sum(np.linalg.norm(v) for v in V)
    judged = program.judge(V)
    assert judged["objective"] == pytest.approx(loss + decay, rel=1e-12)
    assert judged["neurons"] == int(V.any(axis=1).sum())
    if cones:
        assert judged["as ReLU net"] == pytest.approx(loss_net + decay, rel=1e-12)
        assert judged["cone violation"] == pytest.approx(worst, rel=1e-12)
    assert program.judge(None) == {} and program.violation(0 * V) == 0.0


@pytest.mark.parametrize("cones", [False, True])
def test_program_bounds_meet_at_the_optimum_and_hold_elsewhere(cones):
    X, y = teacher()
    program = Program(X, y, 8, cones, share=0.05)
    problem = convexnn_.problem_of(program)
    assert program.alpha == pytest.approx(0.05 * problem.alpha_max, rel=1e-9)
    result = Newton(tol=1e-9).solve(problem)
    judged = program.judge(result.coef, result.theta)
    assert judged["objective"] == pytest.approx(result.primal, rel=1e-12)
    assert 0 <= 1 - judged["bound"] / judged["objective"] < 1e-8
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert program.lower_bound(rng.standard_normal(len(y)) * rng.exponential()) <= result.primal
    assert program.bound == pytest.approx(result.primal, rel=1e-8)
    # At alpha_max all weights are zero.
    assert Program(X, y, 8, cones, share=1.0).lower_bound(y) == pytest.approx(0.5 * y @ y, rel=1e-12)


def test_price_bound_in_the_plane():
    """In the plane the largest price is that of one of the critical angles of an arc between two hyperplanes."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        X, t = rng.standard_normal((12, 2)), rng.standard_normal(12)
        walls = np.sort(np.concatenate([np.arctan2(X[:, 1], X[:, 0]) + k * np.pi / 2 for k in (1, -1)]))
        middles = (walls + np.roll(walls, -1)) / 2 + np.where(np.arange(len(walls)) == len(walls) - 1, np.pi, 0)
        inside = [((X @ [np.cos(a), np.sin(a)] > 0) * t) @ X for a in middles]
        angles = np.concatenate([walls, [np.arctan2(g[1], g[0]) for g in inside]])
        U = np.column_stack([np.cos(angles), np.sin(angles)])
        largest = max(0.0, (np.maximum(U @ X.T, 0) @ t).max())
        bound = price_bound(X, t, accuracy=1e-6)
        assert largest <= bound <= largest * (1 + 2e-6) + 1e-12


@pytest.mark.parametrize("d", [1, 3, 4, 12])
def test_price_bound_is_above_every_price(d):
    rng = np.random.default_rng(d)
    X, t = rng.standard_normal((40, d)), rng.standard_normal(40)
    U = rng.standard_normal((5000, d))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    bound = price_bound(X, t, max_time=1.0, accuracy=1e-2)
    assert (np.maximum(U @ X.T, 0) @ t).max() <= bound
    # Stopped at once it still holds.
    assert bound <= price_bound(X, t, max_time=0.0) * (1 + 1e-9)
    assert price_bound(X, 0 * t) == 0.0 and price_bound(X, -np.abs(t)) < 1e-6


@pytest.mark.parametrize(("loss", "kind"), [("squared", ConvexReLURegressor), ("log_loss", ConvexReLUClassifier)])
@pytest.mark.parametrize("intercept", [True, False])
def test_training_bounds_every_network(loss, kind, intercept):
    X, y = teacher(40, 2)
    y = np.where(y > 0, 1.0, -1.0) if loss == "log_loss" else y
    training = Training(X, y, loss, 0.5, intercept, test=(X[:5], y[:5]))
    model = kind(alpha=0.5, loss=loss, fit_intercept=intercept, patterns="exact", tol=1e-7).fit(X, y)
    network = convexnn_.weights(model.network_)
    best = training.judge(network)
    assert best["objective"] == pytest.approx(model.certificate_.objective, rel=1e-9)
    assert best["neurons"] == model.network_.n_neurons
    bound = training.lower_bound(training.theta(network))
    assert 0 <= 1 - bound / best["objective"] < 1e-3
    W, b, a, c = drawn_network(2)
    other = (W, b, a, c if intercept else 0.0)
    theirs = Network(W, b, a, other[3]).objective(X, y, 0.5, loss)
    assert training.objective(other) == pytest.approx(theirs, rel=1e-12)
    assert training.lower_bound(training.theta(other)) <= best["objective"]
    assert ("test error" in best) == (loss == "log_loss")
    if not intercept:
        with pytest.raises(ValueError, match="output bias must be 0"):
            training.objective((W, b, a, c))


def test_the_fresh_search_finds_what_was_left_out():
    X, y = teacher(40, 3)
    model = ConvexReLURegressor(alpha=0.5, patterns="adaptive", tol=1e-6, random_state=0, certify=False).fit(X, y)
    W, b, a, c = convexnn_.weights(model.network_)
    training, lifted = Training(X, y, "squared", 0.5), np.column_stack([X, np.ones(len(X))])
    whole = fresh_price(lifted, training.theta((W, b, a, c)), np.column_stack([W, b]), n_starts=200)
    less = W[1:], b[1:], a[1:], c
    part = fresh_price(lifted, training.theta(less), np.column_stack(less[:2]), n_starts=200)
    assert whole / 0.5 < 1 + 1e-3 < part / 0.5


# Data, rows, rivals


def test_data_families(tmp_path, monkeypatch):
    (tmp_path / "regression" / "splits").mkdir(parents=True)
    (tmp_path / "uci_protocol").mkdir()
    table = np.column_stack([np.arange(6.0), np.ones(6), np.arange(6.0) % 3])
    for path in ("regression/small.csv.gz", "uci_protocol/three.csv.gz"):
        np.savetxt(tmp_path / path, table, delimiter=",", header="a,b,target", comments="")
    np.savez(tmp_path / "regression/splits/small.npz", test_01=[2], test_00=[1])
    X, y, task = data.load("small", tmp_path)
    assert X.shape == (6, 2) and task == "regression"
    assert [rows.tolist() for rows in data.tables.test_rows("small", tmp_path)] == [[1], [2]]
    assert data.tables.test_rows("other", tmp_path) is None and data.tables.names(tmp_path, "regression") == ["small"]
    Z, t = data.standardised(X, y, task)
    np.testing.assert_allclose(Z[:, 0], (X[:, 0] - 2.5) / X[:, 0].std())
    assert not Z[:, 1].any() and t.std() == pytest.approx(1)
    assert data.uci_protocol.names(tmp_path) == ["uci/three"] and data.uci_protocol.names(None) == []
    X, y, task = data.load("uci/three", tmp_path)
    assert data.standardised(X, np.array([0, 0, 1, 2, 2, 2.0]), task)[1].tolist() == [-1, -1, -1, 1, 1, 1]
    assert data.load("iris")[2] == "classification" and data.load("30x4")[0].shape == (30, 4)

    def offline(**options):
        raise OSError("no network")

    monkeypatch.setattr(data.openml, "fetch_openml", offline)
    with pytest.raises(LookupError, match="no data set 'pima'"):
        data.load("pima")
    answer = (np.zeros((768, 8)), np.repeat(["b", "a"], 384))
    monkeypatch.setattr(data.openml, "fetch_openml", lambda **options: answer)
    assert data.load("pima")[1].tolist() == [1] * 384 + [0] * 384
    with pytest.raises(ValueError, match="must be sonar"):
        data.load("sonar")


def test_rows_survive(tmp_path):
    path = tmp_path / "deep" / "rows.csv"
    table = records.Table(path, ["set", "seed", "value"], ["set", "seed"], "a command", 2)
    table.commit = "66455e9"
    table.add({"set": "a", "seed": None, "value": 1 / 3}, ["torch==2.13.0"])
    table.add({"set": "b, c", "seed": 3, "value": np.inf})
    again = records.Table(path, ["set", "seed", "value"], ["set", "seed"])
    assert again.rows == table.rows and len(again.rows) == 2
    assert {"set": "b, c", "seed": 3.0} in again and {"set": "a", "seed": None} in again
    assert {"set": "a", "seed": 1} not in again and again.find(seed=3)[0]["set"] == "b, c"
    assert again.rows[0]["value"] == pytest.approx(1 / 3, rel=1e-12) and again.rows[1]["value"] == np.inf
    assert again.rows[0]["commit"] == "66455e9" and "torch 2.13.0" in again.rows[0]["versions"]
    lines = "\n".join(records.provenance(again.rows))
    assert "66455e9" in lines and "`a command`" in lines and "cores; BLAS threads: 2" in lines
    with pytest.raises(ValueError, match="must have the columns"):
        records.Table(path, ["set", "value"], ["set"])
    with pytest.raises(ValueError, match="'wrong'"):
        again.add({"set": "d", "seed": 0, "wrong": 1})


def test_every_rival_has_a_file_and_says_what_it_can():
    files = {path.stem for path in (ROOT / "benchmarks" / "rivals").glob("[a-z]*_.py")}
    assert files == {module.split(".")[-1] for module in rivals.RIVALS.values()}
    for name in rivals.RIVALS:
        module = rivals.load(name)
        assert isinstance(module.PINS, list)
        assert hasattr(module, "convex") or hasattr(module, "METHODS") or module.MISSING
    assert [name for name in racing.GRADIENT if not rivals.load(name).METHODS] == []
    pins = [pin for name in rivals.RIVALS for pin in rivals.load(name).PINS if pin.startswith("torch=")]
    assert set(pins) == {"torch==2.13.0"}


def test_balanced_networks_predict_the_same_and_cost_less():
    X, y = teacher()
    training, network = Training(X, y, "squared", 0.5), drawn_network(3)
    network[2][1] = 0.0
    same = sklearn_.balanced(*network)
    np.testing.assert_allclose(training.predictions(same), training.predictions(network), atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.sum(same[0] ** 2, axis=1) + same[1] ** 2), np.abs(same[2]), atol=1e-12)
    assert training.objective(same) < training.objective(network)


def test_torch_methods_descend():
    pytest.importorskip("torch")
    X, y = teacher(30, 2)
    training = Training(X, y, "squared", 0.1)
    arrays = dict(X=X, y=y, loss=np.array("squared"), alpha=0.1, intercept=True, threads=1)
    for method in torch_.METHODS:
        runs = dict(width=[8], step=[3e-3], seed=[0], max_time=[0.3])
        out = torch_.solve(arrays | {"method": np.array(method)} | {k: np.array(v) for k, v in runs.items()})
        trace = out["trace_0"]
        value = training.objective((out["W_0"], out["b_0"], out["a_0"], float(out["c_0"])))
        assert value == pytest.approx(trace[-1, 1], rel=1e-9) and np.all(np.diff(trace[:, 1]) < 0)
        assert "other" in method or value < 0.5 * trace[0, 1]


def test_traces():
    trace = [(0.001 * k, 10.0 / k + 1) for k in range(1, 5000)]
    row = {"trace": racing.thin(trace)}
    points = json.loads(row["trace"])
    assert len(points) < 200 and points[0][1] == 11.0 and points[-1] == pytest.approx(trace[-1])
    for target in (5.0, 2.0, 1.1, 1.01):
        exact = next(s for s, value in trace if value <= target)
        assert exact * 0.999 <= racing.reached(row, target) <= 1.3 * exact
    assert racing.reached(row, 0.5) == np.inf and racing.reached({"trace": "[]"}, 1.0) == np.inf


def runs_of(method, values, width=10):
    """Rows of a method on one problem, for (step, seed, objective, seconds)."""
    about = {"set": "a", "share": 0.1, "method": method, "width": width, "limit": 1.0}
    return [
        about | {"step": step, "seed": seed, "objective": value, "trace": json.dumps([[seconds, value]])}
        for step, seed, value, seconds in values
    ]


def test_tuned_and_untuned():
    rows = runs_of("Adam", [(1e-3, 0, 5.0, 1.0), (1e-3, 1, 3.0, 1.0), (1e-2, 0, 2.0, 0.5), (1e-2, 1, 4.0, 0.5)])
    rows += runs_of("Adam", [(1e-3, 0, None, 1.0)]) + runs_of("SGD", [(1e-3, 0, 1.0, 1.0)])
    good, plain = racing.tuned(rows, "Adam")
    assert {row["step"] for row in good} == {1e-2} and {row["step"] for row in plain} == {1e-3}
    assert racing.tuned(rows, "L-BFGS") == ([], [])
    found, n_problems = profile.arrivals(rows + runs_of("convexnn adaptive", [(None, 0, 1.0, 0.25)], None), 0.5)
    assert n_problems == 1 and found["SGD"][0] == 1.0 and found["convexnn adaptive"][0] == 0.25
    assert found["Adam, tuned"][0] == np.inf == found["Adam, default"][0]
    # A method that has no run on one of two problems has not solved it.
    other = [
        row | {"set": "b"} for row in runs_of("SGD", [(1e-3, 0, 1.0, 0.1)]) + runs_of("L-BFGS", [(None, 0, 1.5, 1.0)])
    ]
    found, n_problems = profile.arrivals(rows + other, 1.0)
    assert n_problems == 2 and {len(times) for times in found.values()} == {2}
    assert found["L-BFGS"].tolist() == [np.inf, 1.0] and found["Adam, tuned"].tolist() == [0.5, np.inf]
    late = runs_of("L-BFGS", [(None, 0, 1.0, 1.2)])
    assert profile.arrivals(rows + late, 1.0)[0]["L-BFGS"].tolist() == [np.inf]
    found, _ = profile.arrivals(rows, 1.0)
    assert found["Adam, tuned"][0] == 0.5 and found["Adam, default"][0] == np.inf


def test_weights_outside_the_cones_have_not_arrived():
    shared = {"bound": 1.0, "cone violation": 0.0, "as ReLU net": None, "setting": ""}
    rows = [
        shared | {"method": "inside", "objective": 1 + 1e-7, "as ReLU net": 1 + 1e-7, "seconds": 2.0},
        shared | {"method": "outside", "objective": 0.9, "as ReLU net": 0.9, "seconds": 1.0, "cone violation": 0.1},
        shared | {"method": "worse net", "objective": 1.0, "as ReLU net": 1.1, "seconds": 1.0},
        shared | {"method": "gated", "objective": 1 + 1e-5, "seconds": 3.0},
    ]
    assert solvers.graded(rows) == 1.0
    assert solvers.seconds_to(rows, "inside", 1e-6) == 2.0 and solvers.certified(rows, "inside") == 2.0
    assert solvers.seconds_to(rows, "outside", 1e-2) == np.inf == solvers.certified(rows, "outside")
    assert solvers.seconds_to(rows, "worse net", 1e-2) == np.inf
    assert solvers.seconds_to(rows, "gated", 1e-4) == 3.0 and solvers.seconds_to(rows, "gated", 1e-6) == np.inf
    assert "outside the cones" in solvers.reason(rows, "outside")


def test_variants_of_an_optimum_that_is_not_unique():
    """They differ, all are optimal, and each is the least of what it is to be least in."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    X = np.column_stack([X, X[:, 0]])
    y, test = np.sign(X[:, 0] + 0.3 * X[:, 1]), rng.standard_normal((30, 3))
    program = Program(X, y, 30, True, alpha=0.05)
    result = Newton(tol=1e-10).solve(convexnn_.problem_of(program))
    wanted = np.maximum(test[:, 0], 0) - np.maximum(-test[:, 1], 0)
    parts = test[:10], wanted[:10], test[10:], wanted[10:]
    found = optimal_sets.variants(program, result.coef, result.theta, *parts)
    assert tuple(found) == optimal_sets.VARIANTS

    def error(V):
        return np.sum((np.maximum(parts[2] @ V.T, 0) @ program.signs - parts[3]) ** 2)

    for name, V in found.items():
        assert program.violation(V) < 1e-6
        if name != "same predictions only":
            assert program.objective(V) == pytest.approx(result.primal, rel=1e-5)
            assert error(found["least test error"]) <= error(V) * (1 + 1e-5) + 1e-7
        np.testing.assert_allclose(program.residual(V), program.residual(result.coef), atol=1e-3)
    # The fit itself may hold one neuron in two blocks, which is shorter.
    lengths = [np.linalg.norm(found[name]) for name in optimal_sets.VARIANTS[1:-1]]
    assert lengths[0] <= min(lengths) * (1 + 1e-5) and lengths[1] > lengths[0] * 1.001


def test_slopes():
    assert scaling.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2) and np.isnan(scaling.slope([1], [1]))


# The command line, and a small run of every suite


SMOKE = {
    "solvers": "--sizes 20x2:5 --max-time 5 --rivals convexnn cvxpy adelie skglm cronos",
    "global": "--sets 25x2 --widths 5 --steps 1 --max-time 5 --floor 0.05 --bound-time 0.5",
    "profile": "--sets iris --shares 0.3 --every 1 --widths 5 --steps 1 --max-time 0.2 --max-rows 40",
    "accuracy": "--sets diabetes iris --max-rows 40 --max-time 1",
    "scaling": "--rows 20 40 --features 2 3 --patterns 5 8 --base 20 2 5",
    "optimal-sets": "--sets iris --gates 10 --seeds 1",
    "seeds": "--sets 25x2 --ours 2 --max-time 3 --floor 0.05",
}
ROWS = {"solvers": 26, "global": 7, "profile": 9, "accuracy": 10, "scaling": 10, "optimal-sets": 6, "seeds": 4}


def test_every_suite_is_smoked():
    assert set(SMOKE) == set(suites.SUITES) == set(ROWS)


@pytest.mark.parametrize("name", suites.SUITES)
@pytest.mark.slow
def test_a_small_run(name, tmp_path, monkeypatch, capsys):
    """Without environments: rivals that cannot be had are listed."""

    def no_environment(pins, folder):
        raise RuntimeError("not installed: offline")

    for rival in rivals.RIVALS:
        if rivals.load(rival).PINS:
            monkeypatch.setattr(rivals.load(rival), "ensure", no_environment, raising=False)
    monkeypatch.delenv("CONVEXNN_DATA", raising=False)
    argv = ["run", name, "--quick", "--out", str(tmp_path), *SMOKE[name].split()]
    command.main(argv)
    path = tmp_path / "quick" / f"{name}.csv"
    first = path.read_text()
    rows = records.stored(path)
    assert len(rows) == ROWS[name] and "--out" not in first and str(tmp_path) not in first
    assert "row 1]" in capsys.readouterr().err
    # Finished rows are kept, and nothing is measured again.
    command.main(argv)
    assert path.read_text() == first
    capsys.readouterr()
    command.main(["report", name, "--out", str(tmp_path)])
    page = path.with_suffix(".md").read_text()
    assert (
        suites.load(name).TITLE in page
        and "* Command: `python -m benchmarks run" in page
        and not re.search(r"\bnan\b", page)
    )
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert pictures
    for picture in pictures:
        for suffix in (".png", ".svg"):
            assert (tmp_path / "quick" / picture).with_suffix(suffix).stat().st_size > 1000
    if name in ("solvers", "global", "profile", "seeds"):
        assert "not installed: offline" in first
    if name == "solvers":
        assert "not available" in page and "not installed" in page


def test_a_failure_is_a_row(tmp_path, monkeypatch, capsys):
    def broken(*args, **options):
        raise ZeroDivisionError("out of luck")

    monkeypatch.setattr(convexnn_, "fitted", broken)
    monkeypatch.setattr(convexnn_, "alpha_max", lambda training: 10.0)
    monkeypatch.setattr(racing.rivals.load("scipy"), "lbfgs", broken)
    for rival in ("torch", "sklearn"):
        monkeypatch.setattr(racing.rivals.load(rival), "train", broken)
    monkeypatch.setattr(solvers.rivals.load("cvxpy"), "convex", broken)
    for argv in (
        ["run", "profile", *SMOKE["profile"].split()],
        ["run", "global", *SMOKE["global"].split()],
        ["run", "solvers", "--sizes", "20x2:5", "--rivals", "cvxpy"],
    ):
        command.main([*argv, "--quick", "--out", str(tmp_path)])
        rows = records.stored(tmp_path / "quick" / f"{argv[1]}.csv")
        assert len(rows) > 1 and all(row["objective"] is None for row in rows)
        assert all("out of luck" in (row.get("status") or row.get("setting")) for row in rows)
    command.main(["report", "--out", str(tmp_path)])
    assert "No set has a row of ours yet." in capsys.readouterr().out


def test_a_run_that_was_ended_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVEXNN_DATA", raising=False)
    argv = ["run", "scaling", "--quick", "--out", str(tmp_path), "--methods", "newton gated"]
    argv += ["--rows", "20", "40", "--features", "2", "--patterns", "5", "--base", "20", "2", "5"]
    command.main(argv)
    path = tmp_path / "quick" / "scaling.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))
    command.main(argv)
    assert (
        path.read_text().splitlines()[1] == lines[1].strip() and len(path.read_text().splitlines()) == len(lines) == 5
    )


def test_list_and_errors(tmp_path, capsys):
    command.main([])
    out = capsys.readouterr().out
    assert all(name in out for name in [*suites.SUITES, *rivals.RIVALS])
    with pytest.raises(SystemExit, match="no rows of seeds"):
        command.main(["report", "seeds", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main(["report", "nothing"])
    assert "no suite nothing" in capsys.readouterr().err
    words = command.public(["run", "x", "--data", "/secret", "--out=/secret", "--sets", "a b", "--envs", "/secret"])
    assert words == "python -m benchmarks run x --sets 'a b'"


PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
PAGES += [path for path in (ROOT / "benchmarks" / "results").rglob("*.md") if "earlier" not in path.parts]


def test_printed_commands_exist():
    """Every command of the benchmarks that a page prints is one that the command line takes."""
    seen = 0
    for page in PAGES:
        if "_build" in page.parts:
            continue
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"python -m benchmarks ([^`&|\n#]*)", text):
            words = shlex.split(line)
            if words and words[0] == "run" and words[1:] and words[1] not in ("SUITE",):
                assert isinstance(command.command_line().parse_args(words), argparse.Namespace), line
                seen += 1
        for script in re.findall(r"python (benchmarks/\w+\.py)", text):
            assert (ROOT / script).exists(), f"{page} prints {script}"
            seen += 1
    assert seen > 3
