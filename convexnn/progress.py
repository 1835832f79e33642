"""Progress of a fit: a line on standard error, and scikit-learn's callbacks."""

from __future__ import annotations

import sys

import numpy as np


def plain_entry(entry):
    """An entry of a history in Python's own numbers."""
    counts = ("iteration", "blocks")
    return {name: int(value) if name in counts else float(value) for name, value in entry.items()}


class Progress:
    """Tells of a fit while it runs: with ``verbose`` on standard error, and to scikit-learn's callbacks.

    A line is rewritten in place on a terminal, and repeated every two seconds elsewhere. For callbacks what happens
    between two entries of the history is a task; one that returns True when it ends stops the fit.
    """

    def __init__(self, estimator, unit):
        self.estimator, self.unit = estimator, unit
        self.live = sys.stderr.isatty()
        self.shown = -np.inf
        self.line = ""
        self.task = self._next_task()

    def _next_task(self):
        context = getattr(self.estimator, "_callback_fit_ctx", None)
        if context is None:
            return None
        return context.subcontext(task_name="solver step").call_on_fit_task_begin(estimator=self.estimator)

    def __call__(self, entry):
        entry = entry | dict(objective=self.unit * entry["objective"])
        self.line = (
            f"iteration {entry['iteration']:6d}  objective {entry['objective']:.6g}  relative gap "
            f"{entry['relative_gap']:.1e}  neurons {entry['blocks']:4d}  {entry['seconds']:.1f} s"
        )
        if self.estimator.verbose and entry["seconds"] - self.shown >= (0.1 if self.live else 2.0):
            self.shown = entry["seconds"]
            self._write(self.line if self.live else f"{self.line}\n")
        if self.task is not None:
            self.estimator.history_.append(plain_entry(entry))
            stop = self.task.call_on_fit_task_end(estimator=self.estimator)
            # A fit that has reached its tolerance ends by itself.
            stop = stop and entry["relative_gap"] > self.estimator.tol
            self.task = None if stop else self._next_task()
            if stop:
                # As Ctrl-C does: the solver keeps the best coefficients so far, with their gap.
                raise KeyboardInterrupt

    def close(self):
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator)
        if self.estimator.verbose:
            self._write(f"{self.line}\n")

    def _write(self, text):
        sys.stderr.write(f"\r\x1b[K{text}" if self.live else text)
        sys.stderr.flush()
