"""Suites by name, one file each.

A suite has TITLE and QUESTION, for its page; OPTIONS, a dictionary of its own options; COLUMNS and KEY of its rows;
``rows(args, table)``, which yields (row, pins of the rival's environment) for what ``table`` has not;
``headline(row)``, words of progress; and ``report(rows, folder)``, the lines of its page, with pictures in ``folder``.
"""

from __future__ import annotations

from importlib import import_module

SUITES = {
    "solvers": "benchmarks.suites.solvers",
    "global": "benchmarks.suites.global_",
    "profile": "benchmarks.suites.profile",
    "accuracy": "benchmarks.suites.accuracy",
    "scaling": "benchmarks.suites.scaling",
    "optimal-sets": "benchmarks.suites.optimal_sets",
    "seeds": "benchmarks.suites.seeds",
}


def load(name):
    """The module of a suite."""
    return import_module(SUITES[name])
