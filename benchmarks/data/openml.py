"""Sets that OpenML has, where the machine is online. Downloads are kept by scikit-learn."""

import warnings

import numpy as np
from sklearn.datasets import fetch_openml

#: Number at OpenML, rows and features (a download that differs is refused), and the task.
SETS = {
    "concrete": (4353, 1030, 8, "regression"),
    "kin8nm": (189, 8192, 8, "regression"),
    "pima": (37, 768, 8, "classification"),
    "ionosphere": (59, 351, 34, "classification"),
    "sonar": (40, 208, 60, "classification"),
    "banknote": (1462, 1372, 4, "classification"),
    "spambase": (44, 4601, 57, "classification"),
    "magic": (1120, 19020, 10, "classification"),
    "glass": (41, 214, 9, "classification"),
}


def find(name, folder):
    """X, y and the task; None for unknown names and where the machine is offline."""
    if name not in SETS:
        return None
    number, n, d, task = SETS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, target = fetch_openml(
                data_id=number, as_frame=False, return_X_y=True, n_retries=0, parser="liac-arff"
            )
    except OSError:
        return None
    if target is None:
        data, target = data[:, :-1], data[:, -1]
    if data.shape != (n, d):
        raise ValueError(f"OpenML's set {number} must be {name} with shape {(n, d)}, got {data.shape}.")
    X = np.asarray(data, dtype=float)
    return X, (np.unique(target, return_inverse=True)[1] if task == "classification" else target.astype(float)), task
