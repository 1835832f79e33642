"""Every notebook's code runs from top to bottom, and its assertions hold."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_code_cells_run(path, monkeypatch):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code and any(cell.get("outputs") for cell in cells)
    monkeypatch.chdir(path.parent)  # as Jupyter does: data are read from data/
    backend, scope = plt.get_backend(), {}
    plt.switch_backend("agg")
    try:
        with plt.rc_context():
            for source in code:
                exec(compile(source, path.name, "exec"), scope)
    finally:
        plt.close("all")
        plt.switch_backend(backend)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_of_a_clean_run(path):
    notebook = json.loads(path.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] in ("stream", "display_data", "execute_result") and "stderr" not in str(output)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_ends_with_two_questions(path):
    last = "".join(json.loads(path.read_text())["cells"][-1]["source"])
    questions, _, sources = last.partition("## Questions for the class\n\n")[2].partition("\n\n## Sources\n\n")
    assert re.findall(r"^(\d)\. ", questions, re.MULTILINE) == ["1", "2"] and sources.startswith("* ")
