"""Rivals by name, one file each, loaded when used: several run in environments of their own.

What a file may have:

* ``PINS``: requirements of its own environment; empty where it runs beside convexnn.
* ``convex(program, args)``: yields (method, setting, seconds, coef, theta) on a restricted program, theta None where it
  has no dual point.
* ``train(training, args, runs)``: yields (run, network, trace) on program (N), for runs that are dictionaries with
  method, width, step, seed and max_time; a trace is a list of (seconds, objective).
* ``METHODS``: what ``train`` trains with, a dictionary from names to step sizes, of which the first is the package's
  own default; (None,) where there is none to choose.
* ``MISSING``: why it cannot be had.

Both raise RuntimeError, with the reason, where they have nothing to offer.
"""

from __future__ import annotations

from importlib import import_module

MODULES = ("convexnn_", "cvxpy_", "adelie_", "pyscnn_", "skglm_", "celer_", "cronos_", "scipy_", "torch_", "sklearn_")
#: Names as tables show them, and the modules behind them.
RIVALS = {name.rstrip("_"): f"benchmarks.rivals.{name}" for name in MODULES}


def load(name):
    """The module of a rival."""
    return import_module(RIVALS[name])
