"""Progress of a fit: a line on standard error, and scikit-learn's callbacks."""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np


def plain_entry(entry):
    """An entry of a history in Python's own numbers."""
    counts = ("iteration", "blocks")
    return {name: int(value) if name in counts else float(value) for name, value in entry.items()}


def _line(iteration, seconds, objective, relative_gap, blocks):
    return (
        f"iteration {iteration:6d}  objective {objective:.6g}  relative gap {relative_gap:.1e}  neurons {blocks:4d}  "
        f"{seconds:.1f} s"
    )


class Progress:
    """Tells of a fit while it runs: with ``verbose`` on standard error, and to scikit-learn's callbacks.

    A line is rewritten in place on a terminal, and repeated every two seconds elsewhere. For callbacks what happens
    between two entries of the history is a task; one that returns True when it ends stops the fit.
    """

    def __init__(self, estimator, unit):
        self.estimator, self.unit = estimator, unit
        self.live = sys.stderr.isatty()
        self.began, self.shown = perf_counter(), -np.inf
        self.task = self._next_task()

    def _next_task(self):
        context = getattr(self.estimator, "_callback_fit_ctx", None)
        if context is None:
            return None
        return context.subcontext(task_name="solver step").call_on_fit_task_begin(estimator=self.estimator)

    def __call__(self, entry):
        entry = entry | dict(objective=self.unit * entry["objective"])
        if self.estimator.verbose and entry["seconds"] - self.shown >= (0.1 if self.live else 2.0):
            self.shown = entry["seconds"]
            line = _line(**entry)
            self._write(line if self.live else f"{line}\n")
        if self.task is not None:
            self.estimator.history_.append(plain_entry(entry))
            stop = self.task.call_on_fit_task_end(estimator=self.estimator)
            # A fit that has reached its tolerance ends by itself.
            stop = stop and entry["relative_gap"] > self.estimator.tol
            self.task = None if stop else self._next_task()
            if stop:
                # As Ctrl-C does: the solver keeps the best coefficients so far, with their gap.
                raise KeyboardInterrupt

    def close(self, fit):
        """Ends with the line of the network itself: what warnings and reports tell of it, too."""
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.estimator)
        if self.estimator.verbose:
            objective, gap = fit.certificate.objective, fit.relative_gap
            seconds = perf_counter() - self.began
            self._write(f"{_line(fit.result.n_iter, seconds, objective, gap, fit.network.n_neurons)}\n")

    def _write(self, text):
        sys.stderr.write(f"\r\x1b[K{text}" if self.live else text)
        sys.stderr.flush()
