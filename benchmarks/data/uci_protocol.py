"""UCI classification sets as the papers on convex networks use them: DIR/uci_protocol/*.csv.gz, "uci/NAME" here.

The format of ``tables``, all of them classification. [1]_ and [2]_ take the collection of Fernandez-Delgado et al.

References
----------
.. [1] A. Mishkin, A. Sahiner, M. Pilanci, Fast convex optimization for two-layer ReLU networks, ICML 2022.
.. [2] A. Mishkin, M. Pilanci, Optimal sets and solution paths of ReLU networks, ICML 2023, arXiv:2306.00119.
"""

from pathlib import Path

from .tables import read

#: The 17 sets of the full version of table 1 of [2]_.
OPTIMAL_SETS = ["blood", "breast-cancer", "fertility", "heart-hungarian", "hepatitis", "hill-valley", "horse-colic"]
OPTIMAL_SETS += ["ilpd-indian-liver", "ionosphere", "mammographic", "monks-1", "parkinsons", "pima", "planning"]
OPTIMAL_SETS += ["spectf", "statlog-heart", "tic-tac-toe"]


def find(name, folder):
    """X, y and the task, or None."""
    path = Path(folder or "", "uci_protocol", f"{name.removeprefix('uci/')}.csv.gz")
    if not folder or not name.startswith("uci/") or not path.exists():
        return None
    return *read(path), "classification"


def names(folder):
    """Names of all sets."""
    paths = Path(folder, "uci_protocol").glob("*.csv.gz") if folder else ()
    return sorted("uci/" + path.name.removesuffix(".csv.gz") for path in paths)
