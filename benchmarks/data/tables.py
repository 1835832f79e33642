"""Tables of a data folder: DIR/regression/*.csv.gz and DIR/classification/*.csv.gz.

One header row, the target in the last column, numbers only; classes are 0, 1, ... DIR/regression/splits/NAME.npz may
hold fixed test rows: test_00, test_01, ...
"""

from pathlib import Path

import numpy as np

TASKS = ("regression", "classification")


def read(path):
    """X and y of a table."""
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1]


def find(name, folder):
    """X, y and the task, or None."""
    for task in TASKS if folder else ():
        path = Path(folder, task, f"{name}.csv.gz")
        if path.exists():
            return *read(path), task
    return None


def names(folder, task):
    """Names of all tables of one task."""
    return sorted(path.name.removesuffix(".csv.gz") for path in Path(folder, task).glob("*.csv.gz"))


def test_rows(name, folder):
    """Fixed test rows, one array for each split, or None."""
    path = Path(folder or "", "regression", "splits", f"{name}.npz")
    if not folder or not path.exists():
        return None
    with np.load(path) as file:
        return [file[key] for key in sorted(file.files) if key.startswith("test_")]
