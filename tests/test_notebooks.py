"""Every notebook's code runs from top to bottom, and its assertions hold."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_cells_run(path):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code and any(cell.get("outputs") for cell in cells)
    scope: dict = {}
    for source in code:
        exec(compile(source, path.name, "exec"), scope)
