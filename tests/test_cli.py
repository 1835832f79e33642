"""The command line: every option reaches the model, files survive the round trip, errors are one line and code 2."""

import csv
import gzip
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from convexnn import ConvexReLUClassifier, cli
from convexnn.network import Network

# Few patterns and a loose tolerance: these tests are about the command, not about the solution.
FAST = ["--n-patterns", "20", "--tol", "1e-2", "--quiet"]
AUDIT = ["--no-certify", "--tol", "1e-4"]
BAD_FEATURES = {
    "text": ("1,2,3\n1,red,4\n", ["'b'", "'red'", "row 4"]),
    "empty cell": ("1,2,3\n1,,4\n", ["'b'", "''", "row 4"]),
    "NaN cell": ("1,2,3\n1,nan,4\n", ["'b'", "NaN"]),
    "infinite cell": ("1,2,3\n1,inf,4\n", ["'b'", "infinity"]),
    "ragged row": ("1,2,3\n1,2\n", ["3 cells", "got 2", "row 4"]),
    "empty target": ("1,2,3\n1,2,\n", ["target 'y'", "empty"]),
}
# Option, what to give, parameter of the estimator, what should come.
OPTIONS = [
    (["--alpha", "0.25"], "alpha", 0.25),
    (["--activation", "gated_relu"], "activation", "gated_relu"),
    (["--patterns", "sampled"], "patterns", "sampled"),
    (["--n-patterns", "33"], "n_patterns", 33),
    (["--solver", "fista"], "solver", "fista"),
    (["--hidden-bias", "none"], "hidden_bias", "none"),
    (["--no-intercept"], "fit_intercept", False),
    (["--skip-connection"], "skip_connection", True),
    (["--feature-penalty", "0.7"], "feature_penalty", 0.7),
    (["--tol", "0.5"], "tol", 0.5),
    (["--max-iter", "7"], "max_iter", 7),
    (["--max-time", "3.5"], "max_time", 3.5),
    (["--seed", "11"], "random_state", 11),
    (["--loss", "huber"], "loss", "huber"),
    (["--quiet"], "verbose", 0),
]
DEFAULTS = dict(feature_penalty=0.0,
    alpha="auto", activation="relu", patterns="auto", n_patterns=1000, solver="auto", hidden_bias="penalized",
    fit_intercept=True, skip_connection=False, tol=1e-4, max_iter=20_000, max_time=None, random_state=0,
    loss="squared", verbose=1,
)  # fmt: skip


def report(text):
    """The report as a dictionary; lines are a label of 16 columns and a value."""
    return {line[:16].strip(): line[16:] for line in text.splitlines()}


def run(capsys, *argv):
    """The report of a command that succeeds."""
    assert cli.main([str(argument) for argument in argv]) == 0
    return report(capsys.readouterr().out)


def fails(capsys, *argv, names):
    """The command ends with code 2 and exactly one line on standard error, which has all the names."""
    try:
        code = cli.main([str(argument) for argument in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.endswith("\n") and err.count("\n") == 1 and err.startswith("convexnn"), err
    assert "error: " in err
    for name in names:
        assert name in err, err


def shell(*argv, **options):
    """``python -m convexnn`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "convexnn", *map(str, argv)], capture_output=True, text=True, check=False, **options
    )


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(text):
    """Header and columns of CSV text."""
    header, *rows = csv.reader(text.splitlines())
    return header, list(zip(*rows))


@pytest.fixture(scope="module")
def table():
    """Features (30, 3) on very different scales, numbers to predict, and three classes of text."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3)) * [1.0, 100.0, 0.01] + [0.0, 5000.0, 1.0]
    y = np.abs(X[:, 0]) + X[:, 1] / 1000
    return X, y, np.array(["low", "mid", "top"])[np.digitize(y, np.quantile(y, [0.33, 0.67]))]


@pytest.fixture
def numeric(tmp_path, table):
    X, y, _ = table
    return write(tmp_path / "numeric.csv", ["a", "b", "c", "y"], np.column_stack([X, y]).tolist())


@pytest.fixture
def text(tmp_path, table):
    X, _, labels = table
    return write(tmp_path / "text.csv", ["a", "b", "c", "y"], [[*x, label] for x, label in zip(X.tolist(), labels)])


@pytest.fixture
def keep(monkeypatch):
    """The list of the models that the command fits."""
    models = []
    for name in ("ConvexReLURegressor", "ConvexReLUClassifier"):

        class Kept(getattr(cli, name)):
            # scikit-learn reads the parameters from the signature of __init__, which is inherited.
            def fit(self, X, y):
                models.append(self)
                self.seen_ = X
                return super().fit(X, y)

        monkeypatch.setattr(cli, name, Kept)
    return models


class Stop(ValueError):
    """Raised in place of a fit."""


@pytest.fixture
def parameters(monkeypatch):
    """Parameters of the model that the command makes; it is not fitted."""
    seen = {}

    def fit(self, X, y):
        seen.update(self.get_params(), rows=len(X), X=X)
        raise Stop("seen enough")

    for name in ("ConvexReLURegressor", "ConvexReLUClassifier"):
        monkeypatch.setattr(getattr(cli, name), "fit", fit)
    return seen


@pytest.mark.parametrize(
    "data, target, size, task, proof",
    [
        ("iris", None, "150 rows, 4 features", "classification", True),
        ("wine", None, "178 rows, 13 features", "classification", False),
        ("diabetes", None, "442 rows, 10 features", "regression", False),
        ("linnerud", "Waist", "20 rows, 3 features", "regression", True),
    ],
)
@pytest.mark.slow
def test_bundled_sets(capsys, data, target, size, task, proof):
    said = run(capsys, "fit", data, *(["--target", target] if target else []), *FAST)
    assert said["data"] == f"{data}: {size}, {task}"
    count, text = said["patterns"].split(maxsplit=1)
    assert 1 <= int(count) <= int(said["neurons"]) and text == "listed, found by search"
    assert float(said["objective"]) >= float(said["lower bound"]) > 0
    gap, scope = said["relative gap"].split(", scope: ")
    assert float(gap) <= 2e-2 and scope == ("global" if proof else "patterns")
    assert said["time"].endswith("optimal") and said["ended"].startswith("the fit reached its tolerance")
    assert f"{float(gap):.1e}" in said["ended"] or f"{float(gap):.0e}" in said["ended"]
    assert said["accuracy" if task == "classification" else "R2"].startswith("train ")


def test_linnerud_needs_a_target(capsys):
    fails(capsys, "fit", "linnerud", names=["--target", "Weight", "Waist", "Pulse"])
    fails(capsys, "fit", "linnerud", "--target", "Height", names=["--target", "'Height'", "Weight"])
    fails(capsys, "fit", "iris", "--target", "species", names=["--target", "'species'"])


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "BOM", "CRLF and blank lines"])
def test_files(capsys, tmp_path, numeric, kind):
    raw, path = numeric.read_bytes(), tmp_path / "table.csv"
    if kind == "csv.gz":
        path = tmp_path / "table.csv.gz"
        path.write_bytes(gzip.compress(raw))
    elif kind == "BOM":
        # The byte order mark must not become part of the first column's name, which is the target here.
        path.write_bytes(b"\xef\xbb\xbf" + raw.replace(b"a,b,c,y", b"y,b,c,a"))
    elif kind == "CRLF and blank lines":
        path.write_bytes(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n\r\n"))
    else:
        path.write_bytes(raw)
    assert run(capsys, "fit", path, "--target", "y", *FAST)["data"] == f"{path}: 30 rows, 3 features, regression"


def test_text_target(capsys, text):
    assert run(capsys, "fit", text, "--target", "y", *FAST)["data"].endswith("30 rows, 3 features, classification")


def test_task_is_guessed_and_can_be_set(capsys, tmp_path, table, parameters):
    X = table[0]
    whole = write(tmp_path / "whole.csv", ["a", "y"], [[x, i % 3] for i, x in enumerate(X[:, 0])])
    many = write(tmp_path / "many.csv", ["a", "y"], [[x, i] for i, x in enumerate(X[:, 0])])
    for path, options, classifier in [
        (whole, [], True),
        (whole, ["--task", "regression"], False),
        (many, [], False),  # 30 different whole numbers are no classes
    ]:
        parameters.clear()
        fails(capsys, "fit", path, "--target", "y", *options, names=["seen enough"])
        assert ("class_weight" in parameters) == classifier


@pytest.mark.parametrize("argv, name, value", OPTIONS, ids=[" ".join(option[0]) for option in OPTIONS])
def test_options_reach_the_model(capsys, parameters, argv, name, value):
    fails(capsys, "fit", "diabetes", *argv, names=["seen enough"])
    assert {key: parameters[key] for key in DEFAULTS} == DEFAULTS | {name: value}


def test_seed_and_share_of_the_split(capsys, parameters):
    rows = {}
    for seed, share in [(0, 0.2), (0, 0.5), (0, 0.0), (1, 0.2)]:
        argv = ["fit", "diabetes", "--seed", str(seed), "--test-share", str(share), "--no-standardize"]
        fails(capsys, *argv, names=["seen enough"])
        rows[seed, share] = parameters["X"]
    assert [len(X) for X in rows.values()] == [353, 221, 442, 353]
    assert not np.array_equal(rows[0, 0.2], rows[1, 0.2])


def test_standardize(capsys, parameters, numeric, table):
    for argv, mean, std in [([], 0.0, 1.0), (["--no-standardize"], table[0].mean(axis=0), table[0].std(axis=0))]:
        fails(capsys, "fit", numeric, "--target", "y", "--test-share", "0", *argv, names=["seen enough"])
        # Rounding of 30 sums at values up to 5000.
        np.testing.assert_allclose(parameters["X"].mean(axis=0), np.broadcast_to(mean, 3), atol=1e-11)
        np.testing.assert_allclose(parameters["X"].std(axis=0), np.broadcast_to(std, 3), rtol=1e-11)


def test_options_show_in_the_report(capsys, numeric):
    common = ["fit", numeric, "--target", "y", "--quiet"]
    said = run(capsys, *common, "--alpha", "0.25", "--n-patterns", "7", "--test-share", "0.5", "--patterns", "sampled")
    assert said["alpha"].startswith("0.25 (")
    assert said["patterns"] == "7 listed, sampled"
    assert "(15 rows), test " in said["R2"]
    said = run(capsys, *common, "--alpha", "cv", "--n-patterns", "7", "--patterns", "sampled", "--tol", "1e-2")
    assert re.fullmatch(r"\S+ \(\S+ of alpha_max, chosen of 25 by cross-validation\)", said["alpha"])
    said = run(capsys, *common, "--patterns", "exact", "--hidden-bias", "none", "--test-share", "0")
    # Cover's count for 30 rows in general position in three dimensions: 2 (C(29, 0) + C(29, 1) + C(29, 2)).
    assert said["patterns"].startswith("872 listed, all") and said["relative gap"].endswith("scope: global")
    assert "test" not in said["R2"]
    said = run(capsys, *common, "--activation", "gated_relu", "--n-patterns", "7")
    assert "gated ReLU network" in said["certificate"]
    free = ("--hidden-bias", "free", "--skip-connection", "--alpha", "0.25")
    said = run(capsys, *common, *free, "--certify", "no")
    assert "found by search" in said["patterns"] and "That is a search, not a proof" in said["certificate"]
    said = run(capsys, *common, *free, "--certify", "yes")
    assert "of any width" in said["certificate"] and said["relative gap"].endswith("scope: global")
    said = run(capsys, *common, "--solver", "fista", "--max-iter", "2", "--n-patterns", "7")
    assert "2 iterations, max_iter" in said["time"] and "max_iter" in said["note"]
    said = run(capsys, *common, "--solver", "fista", "--max-time", "0", "--tol", "1e-12", "--n-patterns", "7")
    assert said["time"].endswith("time_limit") and "time_limit" in said["note"]


@pytest.mark.parametrize(
    "options", [[], ["--activation", "gated_relu"], ["--no-standardize"], ["--hidden-bias", "none"]]
)
@pytest.mark.parametrize("target", ["numeric", "text"])
def test_prediction_takes_raw_features(capsys, tmp_path, request, table, keep, target, options):
    X, path = table[0], request.getfixturevalue(target)
    model_path, out = tmp_path / "model.npz", tmp_path / "predictions.csv"
    run(capsys, "fit", path, "--target", "y", "--test-share", "0", "--out", model_path, *options, *FAST)
    (model,) = keep
    inside = model.seen_
    raw = Network.load(model_path).predict(X)
    run(capsys, "predict", model_path, path, "--out", out)
    header, columns = read(out.read_text())
    if target == "numeric":
        expected = model.predict(inside)
        assert header == ["prediction"]
        np.testing.assert_allclose(raw, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.array(columns[0], dtype=float), expected, rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_allclose(raw, model.decision_function(inside), rtol=1e-9, atol=1e-9)
        assert list(columns[0]) == model.predict(inside).tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities(capsys, tmp_path, keep, classes):
    bunch = load_iris()
    rows = bunch.target < classes
    labels = bunch.target_names[bunch.target[rows]].tolist()
    data = write(tmp_path / "iris.csv", ["a", "b", "c", "d", "y"], [[*x, n] for x, n in zip(bunch.data[rows], labels)])
    model_path = tmp_path / "model.npz"
    run(capsys, "fit", data, "--target", "y", "--test-share", "0", "--out", model_path, *FAST)
    assert cli.main(["predict", str(model_path), str(data), "--proba"]) == 0
    header, columns = read(capsys.readouterr().out)
    names = sorted(set(labels))
    assert header == ["prediction", *(f"probability_{name}" for name in names)]
    p = np.array(columns[1:], dtype=float).T
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(p, keep[0].predict_proba(keep[0].seen_), atol=1e-9)
    assert [names[k] for k in p.argmax(axis=1)] == list(columns[0])


def test_whole_number_classes_stay_whole_numbers(capsys, tmp_path, table):
    data = write(tmp_path / "d.csv", ["a", "y"], [[x, 7 if x > 0 else -2] for x in table[0][:, 0].tolist()])
    run(capsys, "fit", data, "--target", "y", "--out", tmp_path / "m.npz", *FAST)
    assert cli.main(["predict", str(tmp_path / "m.npz"), str(data)]) == 0
    assert set(read(capsys.readouterr().out)[1][0]) == {"7", "-2"}


@pytest.fixture
def model(capsys, tmp_path, numeric):
    path = tmp_path / "model.npz"
    run(capsys, "fit", numeric, "--target", "y", "--out", path, *FAST)
    return path


def test_columns_are_found_by_name(capsys, tmp_path, table, model):
    a, b, c = table[0].T.tolist()
    orders = {
        "plain": (["a", "b", "c"], zip(a, b, c)),
        "turned": (["c", "a", "b"], zip(c, a, b)),
        "more": (["note", "b", "c", "a", "y"], zip(["red"] * len(a), b, c, a, [""] * len(a))),
    }
    said = []
    for name, (header, rows) in orders.items():
        assert cli.main(["predict", str(model), str(write(tmp_path / f"{name}.csv", header, rows))]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2] and len(said[0].splitlines()) == 31
    lacking = write(tmp_path / "lacking.csv", ["a", "c"], zip(a, c))
    fails(capsys, "predict", model, lacking, names=[str(lacking), "'b'"])


def test_network_saved_without_names_takes_all_columns(capsys, tmp_path, table):
    network = Network(np.eye(3), np.zeros(3), np.array([1.0, -1.0, 2.0]))
    network.save(tmp_path / "plain.npz")
    data = write(tmp_path / "d.csv", ["p", "q", "r"], table[0].tolist())
    assert cli.main(["predict", str(tmp_path / "plain.npz"), str(data)]) == 0
    column = np.array(read(capsys.readouterr().out)[1][0], dtype=float)
    np.testing.assert_allclose(column, network.predict(table[0]), rtol=1e-12)


@pytest.mark.parametrize("kind", BAD_FEATURES)
def test_bad_cells(capsys, tmp_path, kind):
    rows, names = BAD_FEATURES[kind]
    path = tmp_path / "bad.csv"
    path.write_text("a,b,y\n0,1,2\n" + rows)
    fails(capsys, "fit", path, "--target", "y", *FAST, names=[str(path), *names])


def test_bad_rows_are_counted_as_an_editor_does(capsys, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,y\n\n0,1,2\n\n1,red,4\n")
    fails(capsys, "fit", path, "--target", "y", *FAST, names=["'red'", "row 5"])


@pytest.mark.parametrize(
    "content, names",
    [
        (b"", ["header row", "0 rows"]),
        (b"a,y\n", ["header row", "1 rows"]),
        (b"\x89PNG\xff\xfe", ["UTF-8"]),
        (b"y\n1\n2\n", ["one column beside"]),
        (b"a,a,y\n1,2,3\n4,5,6\n7,8,8\n1,1,1\n2,2,2\n", ["'a'"]),  # a column would be lost without a word
        (b'a,y\n"' + 200_000 * b"x", []),  # a quote that never closes: longer than the csv module takes
    ],
    ids=["empty", "header only", "binary", "no features", "equal names", "open quote"],
)
def test_bad_files(capsys, tmp_path, content, names):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    fails(capsys, "fit", path, "--target", "y", *FAST, names=[str(path), *names])


@pytest.mark.parametrize("kind", ["not gzip", "cut short"])
def test_bad_gzip(capsys, tmp_path, numeric, kind):
    path = tmp_path / "bad.csv.gz"
    path.write_bytes(numeric.read_bytes() if kind == "not gzip" else gzip.compress(numeric.read_bytes())[:-40])
    fails(capsys, "fit", path, "--target", "y", *FAST, names=[str(path)])


def test_missing_files_and_columns(capsys, tmp_path, numeric, model):
    fails(capsys, "fit", tmp_path / "none.csv", names=["DATA", "none.csv", "iris"])
    fails(capsys, "fit", tmp_path, "--target", "y", names=[str(tmp_path)])
    fails(capsys, "fit", numeric, names=["--target", "a, b, c, y"])
    fails(capsys, "fit", numeric, "--target", "z", names=["--target", "'z'", "a, b, c, y"])
    fails(capsys, "predict", tmp_path / "none.npz", numeric, names=["none.npz"])
    fails(capsys, "predict", model, tmp_path / "none.csv", names=["none.csv"])


@pytest.mark.parametrize(
    "argv, name",
    [
        (["--alpha", "-1"], "alpha"),
        (["--alpha", "0"], "alpha"),
        (["--alpha", "nan"], "alpha"),
        (["--alpha", "-1e-3"], "alpha"),
        (["--alpha", "much"], "--alpha"),
        (["--alpha", "cv", "--init", "model.npz"], "--init"),
        (["--test-share", "1.5"], "--test-share"),
        (["--test-share", "-0.1"], "--test-share"),
        (["--test-share", "1"], "--test-share"),
        (["--test-share", "nan"], "--test-share"),
        (["--test-share", "half"], "--test-share"),
        (["--n-patterns", "0"], "n_patterns"),
        (["--n-patterns", "2.5"], "--n-patterns"),
        (["--tol", "-1"], "tol"),
        (["--max-iter", "0"], "max_iter"),
        (["--max-time", "-1"], "max_time"),
        (["--activation", "tanh"], "--activation"),
        (["--loss", "log_loss"], "loss"),  # for classes, and diabetes is a regression
        (["--loss", "wrong"], "--loss"),
        (["--solver", "adam"], "--solver"),
        (["--loss", "absolute", "--solver", "newton"], "loss"),
        (["--task", "clustering"], "--task"),
        (["--hidden-bias", "some"], "--hidden-bias"),
        (["--learning-rate", "1"], "--learning-rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(capsys, argv, name):
    fails(capsys, "fit", "diabetes", *FAST, *argv, names=[name])


def test_bad_targets(capsys, tmp_path, text):
    fails(capsys, "fit", text, "--target", "y", "--task", "regression", names=["target", "--task regression"])
    fails(capsys, "fit", "diabetes", "--task", "regression", "--target", "y", names=["--target", "diabetes"])
    path = tmp_path / "nan.csv"
    path.write_text("a,y\n1,2.5\n2,nan\n3,1.5\n4,0.5\n5,1\n")
    fails(capsys, "fit", path, "--target", "y", "--test-share", "0", *FAST, names=["NaN"])


def test_commands(capsys):
    fails(capsys, "train", names=["audit", "fit", "predict"])
    fails(capsys, "audit", "model.npz", names=["DATA"])
    fails(capsys, names=["COMMAND"])
    fails(capsys, "fit", names=["DATA"])
    fails(capsys, "predict", "model.npz", names=["FILE.csv"])


@pytest.mark.parametrize("kind", ["csv", "npz", "npy", "empty", "cut short"])
def test_predict_wants_a_model(capsys, tmp_path, numeric, model, kind):
    path = tmp_path / "other"
    if kind == "csv":
        path.write_bytes(numeric.read_bytes())
    elif kind in ("npz", "npy"):
        with open(path, "wb") as file:
            np.save(file, np.zeros(3)) if kind == "npy" else np.savez(file, weights=np.zeros(3))
    else:
        path.write_bytes(model.read_bytes()[: 0 if kind == "empty" else 500])
    fails(capsys, "predict", path, numeric, names=[str(path)])


CRAFTED = [
    dict(hidden_weights=np.full((2, 3), np.nan)),
    dict(hidden_weights=np.ones((2, 3), dtype=complex)),
    dict(hidden_bias="some"),
    dict(feature_penalty=-np.ones(3)),
    dict(alpha=np.ones(3)),
    dict(alpha="much"),
    dict(lower_bound=np.nan),
    dict(loss="wrong"),
    dict(loss=3),
    dict(classes=np.array([0.5])),
    dict(classes=np.array([1, 0])),
    dict(classes=np.array([[0, 1]])),
    dict(feature_names=np.array(["a"])),
    dict(feature_names=np.ones(3)),
    dict(feature_mean=np.array([0.0, 1.0, np.inf])),
    dict(feature_mean=0.0),
    dict(feature_scale=np.zeros(3)),
    dict(train_rows=np.array([-1])),
    dict(train_rows=np.array([[1]])),
]


@pytest.mark.parametrize("wrong", CRAFTED, ids=lambda wrong: f"{wrong}")
def test_crafted_models(capsys, tmp_path, numeric, wrong):
    """One line that names the file and the array, and no file."""
    good = dict(
        hidden_weights=np.ones((2, 3)), hidden_biases=np.zeros(2), output_weights=np.ones(2), output_bias=0.0, alpha=1.0
    )
    np.savez(tmp_path / "bad.npz", **(good | wrong))
    out, (name,) = tmp_path / "out.onnx", wrong
    for argv in (["predict", numeric], ["audit", numeric, "--target", "y", *AUDIT], ["export"]):
        fails(capsys, argv[0], tmp_path / "bad.npz", *argv[1:], "--out", out, names=["bad.npz", name])
    assert not out.exists()


def test_a_model_without_its_loss_has_no_probabilities(capsys, tmp_path, numeric):
    np.savez(tmp_path / "m.npz", W1=np.ones((4, 2)), W2=np.ones(2), classes=np.array(["no", "yes"]))
    fails(capsys, "predict", tmp_path / "m.npz", numeric, "--proba", names=["--proba needs", "None"])


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 1. TiB")])
def test_too_little_memory_is_one_line(capsys, monkeypatch, error):
    def fit(self, X, y):
        raise error

    monkeypatch.setattr(cli.ConvexReLUClassifier, "fit", fit)
    fails(capsys, "fit", "iris", *FAST, names=["out of memory", str(error)])


@pytest.mark.parametrize("command", ["fit", "path", "predict", "audit", "export"])
def test_a_failed_command_leaves_files_as_they_were(capsys, monkeypatch, tmp_path, numeric, model, command):
    def stop(*args, **options):
        raise Stop("in the middle")

    monkeypatch.setattr(cli.ConvexReLURegressor, "fit", stop)
    for name in ("relu_path", "audit", "to_onnx", "_numbers"):
        monkeypatch.setattr(cli, name, stop)
    data = [numeric, "--target", "y"]
    argv = dict(fit=data, path=data, predict=[model, numeric], audit=[model, *data], export=[model])[command]
    there, new = tmp_path / "there.onnx", tmp_path / "new.onnx"
    there.write_text("precious")
    before = sorted(tmp_path.iterdir())
    for out in (there, new):
        fails(capsys, command, *argv, "--out", out, names=["in the middle"])
    assert there.read_text() == "precious" and sorted(tmp_path.iterdir()) == before


def test_a_file_of_the_wrong_kind_is_not_begun(capsys, tmp_path, numeric):
    plot = tmp_path / "path.wrong"
    fails(capsys, "path", numeric, "--target", "y", "--alphas", "2", "--plot", plot, "--quiet", names=["wrong"])
    assert not plot.exists()


def test_proba_needs_a_model_with_probabilities(capsys, tmp_path, text, numeric, model):
    fails(capsys, "predict", model, numeric, "--proba", names=["--proba", "classification"])
    two = write(tmp_path / "two.csv", ["a", "y"], [[k * (-1) ** k, k % 2] for k in range(20)])
    hinge = tmp_path / "hinge.npz"
    run(capsys, "fit", two, "--target", "y", "--loss", "squared_hinge", "--out", hinge, *FAST)
    fails(capsys, "predict", hinge, two, "--proba", names=["--proba", "squared_hinge"])
    assert cli.main(["predict", str(hinge), str(two)]) == 0
    capsys.readouterr()


def test_out_is_tried_before_the_fit(capsys, tmp_path, parameters):
    # A fit may take an hour: a folder that does not exist must not cost it.
    fails(capsys, "fit", "iris", "--out", tmp_path / "none" / "m.npz", *FAST, names=[str(tmp_path / "none")])
    assert not parameters


def test_classes_with_few_rows(capsys, tmp_path, table):
    # Ten classes of three rows: the six test rows cannot hold one of each, which is no reason to refuse the fit.
    path = write(tmp_path / "few.csv", ["a", "b", "y"], [[*x[:2], k % 10] for k, x in enumerate(table[0].tolist())])
    said = run(capsys, "fit", path, "--target", "y", *FAST)
    assert said["data"].endswith("classification")


def test_quiet_and_progress(capsys):
    argv = ["fit", "iris", "--n-patterns", "20"]
    assert cli.main([*argv, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert cli.main(argv) == 0
    loud = capsys.readouterr()
    assert re.search(r"^iteration +\d+  objective \S+  relative gap \S+  neurons +\d+  \S+ s$", loud.err, re.MULTILINE)
    assert "iteration " not in loud.out
    times = [re.sub(r"(?m)^time .*$", "", text) for text in (quiet.out, loud.out)]
    assert times[0] == times[1]


def test_quiet_with_one_test_row(capsys, tmp_path):
    path = tmp_path / "five.csv"
    path.write_text("a,y\n1,1.5\n2,2.5\n3,0.5\n4,1.25\n5,2.2\n")
    run(
        capsys, "fit", path, "--target", "y", *FAST
    )  # R2 of one row is not defined: say nothing, or say it in the report


def test_as_a_process(tmp_path, numeric):
    done = shell("fit", numeric, "--target", "y", "--out", tmp_path / "m.npz", "--n-patterns", "20")
    assert done.returncode == 0 and report(done.stdout)["saved"] == str(tmp_path / "m.npz")
    assert done.stderr.startswith("iteration ") and "Warning" not in done.stderr
    bad = shell("fit", numeric, "--target", "z")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and not bad.stdout


@pytest.mark.parametrize("size", ["short", "long"])
def test_reader_that_leaves(tmp_path, monkeypatch, size):
    # "short" fits into the buffer, so that the pipe breaks when the interpreter ends; "long" breaks while it writes.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    Network(np.eye(1), np.zeros(1), np.ones(1)).save(tmp_path / "m.npz")
    count = 10 if size == "short" else 100_000
    data = write(tmp_path / "d.csv", ["a"], [[k] for k in range(count)])
    command = [sys.executable, "-m", "convexnn", "predict", str(tmp_path / "m.npz"), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if size == "long":
            assert process.stdout.readline() == "prediction\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("options", [[], ["--hidden-bias", "free"], ["--hidden-bias", "none"], ["--skip-connection"]])
@pytest.mark.parametrize("target", ["numeric", "text"])
@pytest.mark.slow
def test_audit_of_a_fit(capsys, tmp_path, request, target, options):
    """It knows alpha, loss, classes and scaling, and finds the objective that the fit reported."""
    data, model = request.getfixturevalue(target), tmp_path / "m.npz"
    argv = ["fit", data, "--target", "y", "--test-share", "0", "--tol", "1e-2", "--quiet", "--out", model, *options]
    fit = run(capsys, *argv)
    kind = options if "none" in options else []
    said = run(capsys, "audit", model, data, "--target", "y", *kind, *AUDIT, "--out", tmp_path / "p.npz")
    assert said["data"] == f"{data}: 30 rows, 3 features" and said["alpha"] == fit["alpha"].split()[0]
    before, after = (float(said[name].split()[0]) for name in ("as trained", "polished"))
    assert before == pytest.approx(float(fit["objective"]), rel=1e-6)
    assert after <= before and said["lower bound"] == "none proved" and said["saved"] == str(tmp_path / "p.npz")
    again = run(capsys, "audit", tmp_path / "p.npz", data, "--target", "y", *kind, *AUDIT)
    assert float(again["as trained"].split()[0]) == pytest.approx(after, rel=1e-6)
    assert cli.main(["predict", str(tmp_path / "p.npz"), str(data)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 31


def test_audit_takes_the_rows_that_trained(capsys, tmp_path, table, numeric):
    """By default a fifth of the rows is for the test score, and no part of the objective."""
    model, polished = tmp_path / "m.npz", tmp_path / "p.npz"
    fit = run(capsys, "fit", numeric, "--target", "y", "--tol", "1e-2", "--quiet", "--out", model)
    said = run(capsys, "audit", model, numeric, "--target", "y", *AUDIT, "--out", polished)
    assert said["rows"] == "24 of 30, those that trained the model"
    assert float(said["as trained"].split()[0]) == pytest.approx(float(fit["objective"]), rel=1e-6)
    assert run(capsys, "audit", polished, numeric, "--target", "y", *AUDIT)["rows"] == said["rows"]
    X, y, _ = table
    moved = write(tmp_path / "moved.csv", ["y", "c", "a", "b"], np.column_stack([y, X[:, [2, 0, 1]]]).tolist())
    assert run(capsys, "audit", model, moved, "--target", "y", *AUDIT)["rows"] == said["rows"]
    other = write(tmp_path / "other.csv", ["a", "b", "c", "y"], np.column_stack([X, y])[:25].tolist())
    said = run(capsys, "audit", model, other, "--target", "y", *AUDIT)
    assert said["rows"] == "all 25; they are not the data that the model was made from"
    np.savez(tmp_path / "w.npz", W1=np.ones((3, 2)), W2=np.ones(2), alpha=1.0)
    said = run(capsys, "audit", tmp_path / "w.npz", numeric, "--target", "y", *AUDIT)
    assert said["rows"] == "all 30; the model does not say which rows trained it"


def test_audit_of_arrays(capsys, tmp_path, table, numeric):
    X, y, _ = table
    rng = np.random.default_rng(1)
    W1, W2 = rng.standard_normal((3, 4)), rng.standard_normal(4)
    np.savez(tmp_path / "w.npz", W1=W1, W2=W2)
    argv = ["audit", tmp_path / "w.npz", numeric, "--target", "y"]
    said = run(capsys, *argv, "--alpha", "0.5", "--hidden-bias", "none", *AUDIT)
    residual = y - np.maximum(X @ W1, 0) @ W2
    decay = 0.25 * (np.sum(W1**2) + np.sum(W2**2))
    assert float(said["as trained"].split()[0]) == pytest.approx(0.5 * residual @ residual + decay, rel=1e-7)
    np.savez(tmp_path / "w.npz", W1=W1, W2=W2, alpha=0.5, loss="absolute", feature_mean=[0.0, 5000.0, 1.0])
    said = run(capsys, *argv, *AUDIT)
    shifted = y - np.maximum(X @ W1, 0) @ W2
    decay += 0.25 * np.sum((np.array([0.0, 5000.0, 1.0]) @ W1) ** 2)
    assert float(said["as trained"].split()[0]) == pytest.approx(np.abs(shifted).sum() + decay, rel=1e-6)


def test_audit_options(capsys, monkeypatch, tmp_path, numeric, model):
    seen = {}

    def audit(network, X, y, alpha, **options):
        seen.update(options, alpha=alpha, X=X)
        raise Stop("seen enough")

    monkeypatch.setattr(cli, "audit", audit)
    argv = ["audit", model, numeric, "--target", "y"]
    fails(capsys, *argv, names=["seen enough"])
    expected = dict(loss="squared", hidden_bias=None, improve=False, certify=True, tol=1e-6, max_time=None)
    assert {name: seen[name] for name in expected} == expected and seen["random_state"] == 0
    # The features as the network was trained: standardised by the training rows.
    assert np.abs(seen["X"]).max() < 5
    argv += ["--alpha", "3", "--loss", "huber", "--hidden-bias", "free", "--improve", "--no-certify", "--tol", "0.1"]
    fails(capsys, *argv, "--max-time", "7", "--seed", "11", names=["seen enough"])
    expected = dict(loss="huber", hidden_bias="free", improve=True, certify=False, tol=0.1, max_time=7.0, alpha=3.0)
    assert {name: seen[name] for name in expected} == expected and seen["random_state"] == 11


def test_audit_proves(capsys, tmp_path):
    path = write(tmp_path / "v.csv", ["a", "y"], [[k, abs(k)] for k in range(-5, 6)])
    np.savez(tmp_path / "w.npz", W1=[[1.0, -1.0]], b1=[0.1, 0.0], W2=[1.0, 1.0], b2=0.0)
    said = run(capsys, "audit", tmp_path / "w.npz", path, "--target", "y", "--alpha", "0.1", "--improve")
    assert 0 < float(said["lower bound"].split()[0]) <= float(said["improved"].split()[0])
    assert re.fullmatch(r"at least \S+ % and at most \S+ % above the best .* of any width", said["verdict"])


@pytest.mark.parametrize(
    "argv, names",
    [
        ([], ["--alpha", "w.npz"]),
        (["--alpha", "-1"], ["alpha", "-1"]),
        (["--alpha", "1", "--seed", "-1"], ["--seed"]),
        (["--alpha", "1", "--max-time", "-1"], ["max_time"]),
        (["--alpha", "1", "--loss", "wrong"], ["--loss"]),
        (["--alpha", "1", "--hidden-bias", "none"], ["hidden biases"]),
        (["--alpha", "1", "--out", "/none/p.npz"], ["/none/p.npz"]),
    ],
)
def test_audit_refuses(capsys, tmp_path, numeric, argv, names):
    np.savez(tmp_path / "w.npz", W1=np.ones((3, 2)), b1=np.ones(2), W2=np.ones(2))
    fails(capsys, "audit", tmp_path / "w.npz", numeric, "--target", "y", *argv, names=names)


def test_audit_wants_the_columns_of_the_model(capsys, tmp_path, table, text, model):
    np.savez(tmp_path / "w.npz", W1=np.ones((2, 2)), W2=np.ones(2), alpha=1.0)
    fails(capsys, "audit", tmp_path / "w.npz", text, "--target", "y", names=["2 features", "got 3"])
    path = write(tmp_path / "part.csv", ["a", "b", "y"], table[0].tolist())
    fails(capsys, "audit", model, path, "--target", "y", names=["lacks", "'c'"])
    # In another order they are the same columns.
    X, y, _ = table
    moved = write(tmp_path / "moved.csv", ["y", "c", "a", "b"], np.column_stack([y, X[:, [2, 0, 1]]]).tolist())
    straight = write(tmp_path / "straight.csv", ["a", "b", "c", "y"], np.column_stack([X, y]).tolist())
    said = [run(capsys, "audit", model, path, "--target", "y", *AUDIT)["as trained"] for path in (moved, straight)]
    assert said[0] == said[1]


def test_audit_of_other_classes(capsys, tmp_path, table, text):
    run(capsys, "fit", text, "--target", "y", "--out", tmp_path / "m.npz", *FAST)
    path = write(tmp_path / "other.csv", ["a", "b", "c", "y"], [[*x, "else"] for x in table[0].tolist()])
    fails(capsys, "audit", tmp_path / "m.npz", path, "--target", "y", names=["'low'", "'else'"])


def test_path_prints_and_writes_one_row_for_each_alpha(tmp_path, capsys):
    out, plot = tmp_path / "path.csv", tmp_path / "path.png"
    options = ["--alphas", "5", "--eps", "0.1", "--out", str(out), "--plot", str(plot), "--quiet"]
    assert cli.main(["path", "iris", *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and rows[0]["neurons"] == "0" and int(rows[-1]["neurons"]) > 0
    assert printed[0].split()[:3] == ["alpha", "share", "neurons"]
    for row, line in zip(rows, printed[1:]):
        assert float(line.split()[0]) == pytest.approx(float(row["alpha"]), rel=1e-5)
        assert line.split()[2] == row["neurons"]
    assert float(rows[-1]["share"]) == pytest.approx(0.1)
    # The alpha of a single fit, and its objective.
    X, y = load_iris(return_X_y=True)
    alpha = float(rows[-1]["alpha"])
    model = ConvexReLUClassifier(alpha, random_state=1, certify=False).fit(StandardScaler().fit_transform(X), y)
    assert float(rows[-1]["objective"]) == pytest.approx(model.certificate_.objective, rel=2e-3)
    assert plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--alphas", "0"], "alphas must be at least 1"),
        (["--eps", "2"], "eps must be"),
        (["--seed", "-1"], "--seed must be"),
        (["--feature-penalty", "-1"], "feature_penalty"),
    ],
)
def test_bad_options_of_path(options, words, capsys):
    assert cli.main(["path", "iris", *options]) == 2
    assert words in capsys.readouterr().err


def test_fit_with_a_feature_penalty_leaves_features_out(tmp_path, capsys):
    out = tmp_path / "m.npz"
    assert cli.main(["fit", "iris", "--feature-penalty", "2", "--alpha", "10", "--out", str(out), "--quiet"]) == 0
    assert not Network.load(out).hidden_weights.any(axis=0).all()
