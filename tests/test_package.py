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
    "cones",
    "scenario",
    "free_cones",
    "sparse_cones",
    "losses",
    "penalties",
    "neurons",
    "cone_bounds",
    "summary",
    "network",
    "radon",
    "spans",
    "design",
    "cells",
    "task",
    "problem",
    "conversion",
    "result",
    "units",
    "graded",
    "solvers",
    "prices",
    "pricing",
    "fusion",
    "descent",
    "trees",
    "branching",
    "squares",
    "relaxation",
    "charges",
    "adaptive",
    "certificate",
    "proofs",
    "plots",
    "audit",
    "polytope",
    "optimal_neurons",
    "optimal_set",
    "export",
    "progress",
    "fits",
    "listing",
    "engine",
    "feature_scales",
    "training",
    "estimators",
    "path",
    "selection",
    "cross_validation",
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
    "feature_scales": set(),
    "cones": {"budget"},
    "scenario": {"arrangements", "cones"},
    "free_cones": {"budget", "cones"},
    "sparse_cones": {"budget", "cones"},
    "losses": set(),
    "neurons": {"penalties", "sparse_cones"},
    "cone_bounds": {"cones", "free_cones", "neurons", "sparse_cones"},
    "summary": set(),
    "network": {"files", "arrangements", "budget", "losses", "neurons", "summary"},
    "radon": {"network"},
    "spans": {"budget"},
    "design": {"budget", "neurons"},
    "cells": {"arrangements", "design", "network", "neurons"},
    "task": {"arrangements", "budget", "losses", "neurons", "spans"},
    "problem": {"budget", "cells", "design", "penalties", "task"},
    "solvers": {"budget", "cones", "losses", "penalties", "problem", "result"},
    "pricing": {"arrangements", "budget", "cones", "sparse_cones"},
    "prices": set(),
    "trees": {"prices"},
    "branching": {"budget", "cones", "prices", "pricing", "trees"},
    "squares": {"prices"},
    "relaxation": {"budget", "prices", "problem", "squares", "task"},
    "charges": {"branching", "prices", "pricing", "sparse_cones", "trees"},
    "polytope": set(),
    "progress": set(),
    "fusion": {"budget", "cells", "problem"},
    "descent": {"budget", "cells", "pricing", "task"},
    "adaptive": {
        *("budget", "cells", "descent", "fusion", "penalties", "pricing", "problem", "result", "task", "threads"),
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
            # `from convexnn import network` names a module in its second part.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "convexnn" else [module]
        else:
            continue
        for name in names:
            yield name, id(node) in nested


def layer(path):
    """The word solvers for everything in that folder, else the name of the module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_layers(path):
    found = set()
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] == "convexnn" and len(parts) > 1:
            found.add(parts[1])
    return found


def imported_externals(path):
    return {name.split(".")[0] for name, _ in imports(path)}


def test_the_reader_of_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "solvers").mkdir()
    path = tmp_path / "solvers" / "x.py"
    path.write_text(
        "from ..network import Network\nfrom . import fista\nimport convexnn.cones as c\n"
        "from convexnn import estimators\ndef f():\n    import cvxpy.atoms\n"
    )
    assert imported_layers(path) == {"network", "solvers", "cones", "estimators"}
    assert dict(imports(path))["cvxpy.atoms"] and not dict(imports(path))["convexnn.cones"]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_run_one_way(path):
    if path.parent == ROOT and path.name in ("__init__.py", "__main__.py"):
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
            "training.py",
            "estimators.py",
            "path.py",
            "selection.py",
            "cross_validation.py",
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
        assert module_id(path) in ("losses.py", "penalties.py", "solvers/cvxpy_.py")


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
