"""The documentation site: what can be checked without building it, and the formulas that its pages state."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Lasso, LogisticRegression, Ridge

import convexnn
from convexnn import ConvexReLURegressor, Network, network_from
from convexnn.arrangements import Arrangement
from convexnn.losses import LOSSES
from convexnn.solvers import SOLVERS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [page for folder in ("", "guide/", "extend/", "decisions/") for page in sorted(DOCS.glob(f"{folder}*.md"))]


def page_id(path):
    return str(path.relative_to(DOCS))


def load(path):
    """A module that lies outside the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_the_api_page():
    api = load(DOCS / "api_page.py")
    modules = {name: getattr(convexnn, name).__module__ for name in convexnn.__all__}
    lost = [name for name, module in modules.items() if api.group_of(module) is None]
    assert not lost, f"{lost} are in no group: add their modules to GROUPS in docs/api_page.py"
    lines = api.api_page(modules).splitlines()
    for name in convexnn.__all__:
        assert lines.count(f"   ~convexnn.{name}") == 1
    for _, _, module, dictionary, others in api.LISTED:
        for name in [*others, *(entry.__name__ for entry in dictionary.values())]:
            assert lines.count(f"   ~convexnn.{module}.{name}") == 1
    assert api.group_of("convexnn.nowhere") is None
    assert "~convexnn.lost" not in api.api_page({"lost": "convexnn.nowhere"})


def included(path):
    """(file, options) of every literalinclude of a page."""
    for target, options in re.findall(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)```", path.read_text()):
        yield (path.parent / target).resolve(), dict(re.findall(r":([a-z-]+): \"?(.*?)\"?\n", options))


@pytest.mark.parametrize("path", [path for path in PAGES if "{literalinclude}" in path.read_text()], ids=page_id)
def test_included_code_exists(path):
    found = list(included(path))
    assert len(found) == path.read_text().count("{literalinclude}")
    for source, options in found:
        text = source.read_text()
        names = {node.name for node in ast.parse(text).body if hasattr(node, "name")}
        assert options.get("pyobject") is None or options["pyobject"] in names, options
        for key in ("start-at", "start-after", "end-before"):
            assert key not in options or text.count(options[key]) >= 1, options[key]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_between_files(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not target.startswith("http") and "auto_gallery" not in target:
            assert (path.parent / target).exists(), target
        elif "auto_gallery/plot" in target:
            assert (DOCS / "gallery" / (Path(target).stem + ".py")).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_no_line_is_taken_for_a_comment(path):
    """MyST drops the rest of a paragraph from a line that starts with a percent sign."""
    assert not re.search(r"^\s*%", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE)


PAGES = ["index", "guide/certificate", "guide/options", "guide/choosing_alpha", "guide/sparsity", "guide/one_feature"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.slow
def test_code_on_pages_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})


# The lecture.

LECTURE = (DOCS / "guide" / "lecture.md").read_text()
EXAMPLE, *SOLUTIONS = re.findall(r"```python\n(.*?)```", LECTURE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(SOLUTIONS)))
def test_code_of_the_lecture_needs_the_example_only(number):
    scope = {}
    exec(compile(EXAMPLE, "the example", "exec"), scope)
    exec(compile(SOLUTIONS[number], f"block {number + 1} after the example", "exec"), scope)


def test_every_exercise_of_the_lecture_has_a_folded_solution_that_runs():
    _, *exercises = re.split(
        r"^### ", LECTURE.partition("\n## Exercises\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )
    assert len(exercises) == 18
    for number, exercise in enumerate(exercises, 1):
        # Markdown inside of HTML needs the empty lines.
        found = re.fullmatch(
            r"(\d+)\. .+\n\n\*(?:Pencil|Computer|Pencil and computer), (?:easy|medium|hard), \d+ minutes[^*]*\*\s"
            r"(?P<text>.+?)\n\n<details>\n<summary>Solution</summary>\n\n(?P<solution>.+)\n\n</details>\s*",
            exercise,
            re.DOTALL,
        )
        assert found and int(found[1]) == number, exercise.splitlines()[0]
        assert "assert " in found["solution"] and "assert" not in found["text"]
        assert exercise.count("<details>") == exercise.count("</details>") == 1


def test_plan_of_the_lecture():
    """It fills 90 minutes without gaps, and names sections that the page and the notebooks have."""
    rows = re.findall(r"^\| (\d+)-(\d+) \| (.+?) \|.*\| (.+) \|$", LECTURE, re.MULTILINE)
    ends = [0, *(int(stop) for _, stop, *_ in rows)]
    assert [int(start) for start, *_ in rows] == ends[:-1] and ends[-1] == 90
    for _, _, section, shown in rows:
        assert f"\n### {section}\n" in LECTURE or section == "What is not proved"
        sections = re.findall(r"\((\.\./\.\./notebooks/\w+\.ipynb)\): \*([^*]+)\*", shown)
        assert len(sections) == shown.count(".ipynb") >= 1
        for notebook, title in sections:
            cells = json.loads((DOCS / "guide" / notebook).read_text())["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            assert re.search(f"^## {re.escape(title)}$", text, re.MULTILINE), (notebook, title)


# The recipe of docs/extend/loss.md.


def test_a_new_loss(monkeypatch):
    LogCosh = load(DOCS / "extend" / "log_cosh.py").LogCosh
    loss, rng = LogCosh(), np.random.default_rng(0)
    y, z = rng.standard_normal((2, 50)) * 3
    assert np.allclose(loss.value(y, z), np.log(np.cosh(y - z)), rtol=1e-12)
    assert np.allclose(loss.gradient(y, z), (loss.value(y, z + 1e-6) - loss.value(y, z - 1e-6)) / 2e-6, atol=1e-8)
    assert np.allclose(loss.hessian(y, z), (loss.gradient(y, z + 1e-6) - loss.gradient(y, z - 1e-6)) / 2e-6, atol=1e-8)
    assert loss.hessian(y, z).max() <= loss.lipschitz and loss.value(np.zeros(1), np.array([1e-9])) > 0
    t = np.array([-1.0, -0.9, 0.0, 0.3, 0.99])
    r = np.linspace(-30, 30, 100_001)[:, None]
    top = np.max(t * (y[:5] + r) - np.log(np.cosh(r)), axis=0)
    assert np.allclose(loss.conjugate(y[:5], t), top, atol=1e-6)
    assert np.isinf(loss.conjugate(np.zeros(2), np.array([-1.01, 2.0]))).all()

    X = rng.standard_normal((25, 2))
    y = np.abs(X[:, 0]) + rng.standard_t(2, 25)
    with pytest.raises(ValueError, match="log_cosh"):
        ConvexReLURegressor(loss="log_cosh").fit(X, y)
    monkeypatch.setitem(LOSSES, loss.name, LogCosh)
    objectives = []
    for solver in SOLVERS:
        model = ConvexReLURegressor(0.5, loss="log_cosh", patterns="exact", n_patterns=2000, solver=solver, tol=1e-5)
        network = model.fit(X, y).network_
        squares = sum(np.sum(p**2) for p in (network.hidden_weights, network.hidden_biases, network.output_weights))
        ours = np.log(np.cosh(y - network.predict(X))).sum() + 0.25 * squares
        assert model.certificate_.scope == "global" and model.certificate_.relative_gap < 1e-4
        assert model.certificate_.objective == pytest.approx(ours, rel=1e-9)
        assert model.certificate_.verify(X, y) <= min([ours, *objectives]) * (1 + 1e-12)
        objectives.append(ours)
    assert max(objectives) == pytest.approx(min(objectives), rel=1e-4)


# Formulas of docs/weight_decay.md that tests/test_audit.py does not have.


@pytest.mark.parametrize("sizes", ["ones", "square roots"])
def test_lambda_of_group_lasso_packages(sizes):
    """adelie's loss has lost a constant; celer's and skglm's is pyscnn's."""
    rng = np.random.default_rng(1)
    X, y, V, n, d, lam = rng.standard_normal((30, 3)), rng.standard_normal(30), rng.standard_normal((4, 3)), 30, 3, 0.2
    sign = np.array([1.0, -1.0, 1.0, -1.0])
    z = np.maximum(X @ V.T, 0) @ sign
    factor = 1.0 if sizes == "ones" else np.sqrt(d)
    theirs = np.mean(0.5 * z**2 - y * z) + lam * factor * np.linalg.norm(V, axis=1).sum()
    network = Network(V, np.zeros(4), sign).balance()
    assert network.objective(X, y, n * lam * factor) == pytest.approx(n * theirs + 0.5 * y @ y, rel=1e-12)


def test_keras_with_a_bias_regulariser():
    rng = np.random.default_rng(2)
    X, y, r = rng.standard_normal((30, 3)), rng.standard_normal(30), 0.2
    W1, b1, W2 = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    z = np.maximum(X @ W1 + b1, 0) @ W2
    theirs = np.mean((y - z) ** 2) + r * (np.sum(W1**2) + np.sum(b1**2) + np.sum(W2**2))
    network = network_from((W1, b1, W2, 0.0), hidden_bias="penalized")
    assert network.objective(X, y, 30 * r) == pytest.approx(30 / 2 * theirs, rel=1e-12)


def test_alpha_of_lasso():
    """One positive feature behind a gate that is open everywhere is the lasso."""
    rng = np.random.default_rng(3)
    X = rng.uniform(0.5, 2.0, (40, 1))
    y = 1.5 * X[:, 0] + rng.standard_normal(40)
    lasso = Lasso(alpha=0.2, tol=1e-12).fit(X, y)
    gate = Arrangement.from_gates(X, np.ones((1, 1)))
    ours = ConvexReLURegressor(40 * 0.2, activation="gated_relu", patterns=gate, hidden_bias="none", tol=1e-12).fit(
        X, y
    )
    assert 0 < lasso.coef_[0] < np.linalg.lstsq(np.column_stack([X, np.ones(40)]), y)[0][0]
    assert np.allclose(ours.predict(X), lasso.predict(X), atol=1e-5)


@pytest.mark.parametrize("model", ["ridge", "logistic"])
def test_alpha_of_linear_models(model):
    """The sum of losses plus alpha / 2 times the squares is stationary at their coefficients."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, 3))
    y = X[:, 0] + rng.standard_normal(40)
    if model == "ridge":
        alpha, fit = 0.7, Ridge(alpha=0.7, tol=1e-12).fit(X, y)
        residual = fit.predict(X) - y
    else:
        fit = LogisticRegression(C=0.7, tol=1e-10, max_iter=10_000).fit(X, y > 0)
        alpha, residual = 1 / 0.7, fit.predict_proba(X)[:, 1] - (y > 0)
    assert np.allclose(X.T @ residual + alpha * fit.coef_.ravel(), 0, atol=1e-6)
    assert np.abs(X.T @ residual).max() > 0.1
