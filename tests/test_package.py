"""What the package is made of: imports that run one way, and a light `import convexnn`."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import convexnn

ROOT = Path(convexnn.__file__).parent
#: A module may import only modules to its left.
ORDER = [
    "_version",
    "files",
    "budget",
    "threads",
    "exact",
    "arrangements",
    "faces",
    "cones.project",
    "analysis.scenario",
    "cones.free",
    "cones.sparse",
    "losses",
    "neurons",
    "proofs.cone_bounds",
    "summary",
    "network",
    "analysis.radon",
    "program.spans",
    "program.design",
    "program.cells",
    "program.task",
    "program.problem",
    "program.conversion",
    "program.result",
    "program.units",
    "proofs.graded",
    "solvers",
    "search.prices",
    "search.pricing",
    "search.fusion",
    "search.descent",
    "proofs.trees",
    "proofs.branching",
    "proofs.squares",
    "proofs.relaxation",
    "proofs.charges",
    "search.column_generation",
    "proofs.certificate",
    "proofs.prove",
    "plots",
    "analysis.audit",
    "analysis.polytope",
    "analysis.optimal_neurons",
    "analysis.optimal_set",
    "export",
    "estimators.progress",
    "fits",
    "listing",
    "engine",
    "estimators.feature_scales",
    "estimators.base",
    "estimators.networks",
    "estimators.path",
    "estimators.selection",
    "estimators.cross_validation",
    "univariate",
    "cli",
]
#: Narrower than the order.
ONLY = {
    "_version": set(),
    "budget": set(),
    "threads": set(),
    "exact": {"budget"},
    "arrangements": {"budget"},
    "faces": {"arrangements", "budget", "exact"},
    "estimators.feature_scales": set(),
    "cones.project": {"budget"},
    "analysis.scenario": {"arrangements", "cones.project"},
    "cones.free": {"budget", "cones.project"},
    "cones.sparse": {"budget", "cones.project"},
    "losses": set(),
    "neurons": {"budget", "cones.project", "cones.free", "cones.sparse"},
    "proofs.cone_bounds": {"cones.project", "cones.free", "neurons", "cones.sparse"},
    "summary": set(),
    "network": {"files", "arrangements", "budget", "losses", "neurons", "summary"},
    "analysis.radon": {"network"},
    "program.spans": {"budget"},
    "program.design": {"budget", "neurons"},
    "program.cells": {"arrangements", "program.design", "network", "neurons"},
    "program.task": {"arrangements", "budget", "losses", "neurons", "program.spans"},
    "program.problem": {"budget", "program.cells", "program.design", "neurons", "program.task"},
    "solvers": {"budget", "cones.project", "losses", "neurons", "program.problem", "program.result"},
    "search.pricing": {"arrangements", "budget", "cones.project", "cones.sparse"},
    "search.prices": set(),
    "proofs.trees": {"search.prices"},
    "proofs.branching": {"budget", "cones.project", "search.prices", "search.pricing", "proofs.trees"},
    "proofs.squares": {"search.prices"},
    "proofs.relaxation": {"budget", "search.prices", "program.problem", "proofs.squares", "program.task"},
    "proofs.charges": {"proofs.branching", "search.prices", "search.pricing", "cones.sparse", "proofs.trees"},
    "analysis.polytope": set(),
    "estimators.progress": set(),
    "search.fusion": {"budget", "program.cells", "program.problem"},
    "search.descent": {"budget", "program.cells", "search.pricing", "program.task"},
    "search.column_generation": {
        *("budget", "threads", "neurons", "search.descent", "search.fusion", "search.pricing"),
        *("program.cells", "program.problem", "program.result", "program.task"),
    },
}
MODULES = sorted(ROOT.rglob("*.py"))
#: Optional or heavy: never loaded by `import convexnn`.
LAZY = ["cvxpy", "torch", "matplotlib", "onnx", "onnxruntime", "safetensors"]


def module_id(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(dotted module, whether inside a function) of every import; relative ones are made absolute."""
    tree = ast.parse(path.read_text())
    nested = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for n in ast.walk(f)
    }
    package = ["convexnn", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from convexnn import network` names a module in its second part, and so do folders.
            package_or_folder = module == "convexnn" or (ROOT.parent / module.replace(".", "/")).is_dir()
            names = [f"{module}.{alias.name}" for alias in node.names] if package_or_folder else [module]
        else:
            continue
        for name in names:
            yield name, id(node) in nested


#: Folders whose modules are one layer; in other folders every module is one.
WHOLE = ("neurons", "plots", "solvers", "univariate")


def layer(path):
    """The name of the layer that a module is, or is part of, such as "losses", "solvers", "program.task"."""
    return layer_of(path.relative_to(ROOT).with_suffix("").parts)


def layer_of(parts):
    """The same from the parts of a dotted name after convexnn."""
    folder = (ROOT / parts[0]).is_dir() and parts[0] not in WHOLE
    return ".".join(parts[:2]) if folder else parts[0]


def imported_layers(path):
    found = set()
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] == "convexnn" and len(parts) > 1:
            found.add(layer_of(parts[1:]))
    return found


def imported_externals(path):
    return {name.split(".")[0] for name, _ in imports(path)}


def test_the_reader_of_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for folder in ("solvers", "cones"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "solvers" / "x.py"
    path.write_text(
        "from ..network import Network\nfrom . import fista\nimport convexnn.cones.project as c\n"
        "from convexnn import losses\ndef f():\n    import cvxpy.atoms\n"
    )
    assert imported_layers(path) == {"network", "solvers", "cones.project", "losses"}
    assert dict(imports(path))["cvxpy.atoms"] and not dict(imports(path))["convexnn.cones.project"]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_run_one_way(path):
    if path.name in ("__init__.py", "__main__.py") and path.parent.name not in WHOLE:
        return
    name = layer(path)
    assert name in ORDER, f"{name} has no place in the order of modules: see docs on the house and ORDER in this test"
    below = set(ORDER[: ORDER.index(name)])
    allowed = ONLY.get(name, below)
    assert allowed <= below
    # Newton begins with FISTA's iterations.
    if name in ("neurons", "plots", "univariate") or (name == "solvers" and path.name in ("__init__.py", "newton.py")):
        allowed = allowed | {name}
    found = imported_layers(path) & set(ORDER)
    assert found <= allowed, f"{module_id(path)} imports {sorted(found - allowed)}, which lie above it"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_what_faces_the_user_knows_scikit_learn(path):
    if "sklearn" in imported_externals(path):
        assert module_id(path) in (
            "estimators/base.py",
            "estimators/networks.py",
            "estimators/path.py",
            "estimators/selection.py",
            "estimators/cross_validation.py",
            "univariate/estimators.py",
            "cli.py",
            "export.py",
            "plots/drawing.py",
        )


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_cvxpy_stays_inside_functions(path):
    inside = [nested for name, nested in imports(path) if name.split(".")[0] == "cvxpy"]
    assert all(inside)
    if inside:
        assert module_id(path) in ("losses.py", "neurons/penalties.py", "solvers/cvxpy_.py")


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_heavy_packages_are_imported_when_used(path):
    for name, nested in imports(path):
        assert nested or name.split(".")[0] not in LAZY


def test_import_is_light():
    code = f"import sys, convexnn; print(sorted({set(LAZY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and done.stderr == ""


@pytest.mark.parametrize("name", convexnn.__all__)
def test_public_names_have_docstrings(name):
    member = getattr(convexnn, name)
    assert member.__doc__ and member.__doc__.strip()
    # A dataclass without a docstring gets its signature for one.
    assert not member.__doc__.startswith(f"{name}(")
    if inspect.isclass(member):
        for key, value in vars(member).items():
            if not key.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, classmethod))):
                assert inspect.getdoc(getattr(member, key) if not isinstance(value, property) else value), key


def test_all_is_sorted_and_complete():
    assert convexnn.__all__ == sorted(convexnn.__all__)
    public = {
        name for name, value in vars(convexnn).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(convexnn.__all__)


def test_version():
    assert convexnn.__version__.count(".") == 2
    # Packaging reads the file; the citation has a copy.
    stated = re.findall(r'^__version__ = "(.*)"$', (ROOT / "_version.py").read_text(), re.MULTILINE)
    assert stated == [convexnn.__version__]
    assert f"\nversion: {convexnn.__version__}\n" in (ROOT.parent / "CITATION.cff").read_text()


#: Words by which a condition asks for an option, and how many conditions on it the package has at most. A class that
#: decides for itself needs none: the numbers only get smaller.
CONDITIONS = {
    "activation": ({"activation", "gated", "cones", "gate_weights"}, 69),
    "hidden_bias": ({"hidden_bias", "free_bias", "has_bias"}, 56),
    "n_outputs": ({"n_outputs", "C"}, 33),
    "feature_penalty": ({"feature_penalty", "mu"}, 31),
    "skip": ({"skip", "skip_connection", "skip_weights"}, 33),
    "loss": ({"smooth", "target", "lipschitz"}, 54),
}
#: No function's body, without its docstring, is longer than this many lines.
LINES = 80


def conditions(tree):
    """The names and texts in each condition."""
    for node in ast.walk(tree):
        tests = [node.test] if isinstance(node, ast.If | ast.IfExp | ast.While) else []
        for test in tests + (node.ifs if isinstance(node, ast.comprehension) else []):
            words = set()
            for part in ast.walk(test):
                names = [getattr(part, name, None) for name in ("attr", "id", "value")]
                words |= {name for name in names if isinstance(name, str)}
            yield words


@pytest.mark.parametrize("option", CONDITIONS)
def test_conditions_on_options_only_get_fewer(option):
    words, most = CONDITIONS[option]
    counts = {p.name: sum(bool(found & words) for found in conditions(ast.parse(p.read_text()))) for p in MODULES}
    assert sum(counts.values()) <= most, {name: count for name, count in counts.items() if count}


def test_conditions_are_counted():
    tree = ast.parse("if self.skip is None and x:\n    y = 1 if n_outputs > 1 else [k for k in z if k == 'free_bias']")
    assert sorted(map(sorted, conditions(tree))) == [["free_bias", "k"], ["n_outputs"], ["self", "skip", "x"]]


def test_functions_fit_on_a_screen():
    found = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                if node.end_lineno - first.lineno >= LINES:
                    found.add(node.name)
    assert not found
