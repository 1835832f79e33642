"""Data sets by name, from the families in this folder."""

from __future__ import annotations

import numpy as np

from . import bundled, generated, openml, tables, uci_protocol

#: Each family has ``find(name, folder)``: X, y and the task, or None where it has no such set. The first that has wins.
FAMILIES = {
    "generated": generated,
    "uci_protocol": uci_protocol,
    "tables": tables,
    "bundled": bundled,
    "openml": openml,
}


def load(name, folder=None):
    """Features, targets and task of a data set.

    Parameters
    ----------
    name : str
        "300x8" (rows x features, generated), "uci/blood" (UCI protocol), or the name of a table, of a set that comes
        with scikit-learn, or of one that OpenML has.
    folder : str, optional
        The data folder.

    Returns
    -------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)
        Numbers, or classes 0, 1, ...
    task : {"regression", "classification"}

    Raises
    ------
    LookupError
        When no family has it.
    """
    for family in FAMILIES.values():
        if (found := family.find(name, folder)) is not None:
            return found
    raise LookupError(f"no data set {name!r}: give its folder by --data or CONVEXNN_DATA, or go online.")


def standardised(X, y, task):
    """Features in standard units (constant ones zero), targets too, or two classes as -1 and 1.

    More than two classes become the most frequent one, 1, against the others.

    Returns
    -------
    X, y : arrays
    """
    varies = np.ptp(X, axis=0) > 0
    X = np.where(varies, (X - X.mean(axis=0)) / np.where(varies, X.std(axis=0), 1.0), 0.0)
    if task == "regression":
        return X, (y - y.mean()) / y.std()
    classes, counts = np.unique(y, return_counts=True)
    return X, np.where(y == classes[-1 if len(classes) == 2 else counts.argmax()], 1.0, -1.0)
