"""Networks in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def describe(
    network: Any,
    n_active: ArrayLike | None,
    feature_names: Sequence[str] | None,
    classes: Sequence | None,
    max_neurons: int,
    max_weights: int,
) -> str:
    """The network's constant, its linear term if it has one, and a table of its heaviest neurons.

    ``network`` is a Network; arguments and errors are those of ``Network.summary``.
    """
    d, k, n_neurons = network.hidden_weights.shape[1], network.n_outputs, network.n_neurons
    names = [f"x{i}" for i in range(d)] if feature_names is None else [str(name) for name in feature_names]
    labels = [f"output {i}" for i in range(k)] if classes is None else [str(label) for label in classes]
    if len(names) != d:
        raise ValueError(f"feature_names must have {d} names, one for each feature, got {len(names)}.")
    if len(labels) != k + (k == 1 and classes is not None):
        raise ValueError(f"classes must have {max(k, 2)} labels, got {len(labels)}.")
    if n_active is not None and np.shape(n_active) != (n_neurons,):
        raise ValueError(f"n_active must have shape ({n_neurons},), got {np.shape(n_active)}.")
    if min(max_neurons, max_weights) < 1:
        raise ValueError(f"max_neurons and max_weights must be at least 1, got {max_neurons} and {max_weights}.")
    words = _Words(names, max_weights)
    lines = [repr(network)]
    for i in range(k):
        of = f" of {labels[i]}" if k > 1 else ""
        sign = "" if k > 1 or classes is None else f" (a positive sum means {labels[1]})"
        lines.append(f"constant{of}: {np.broadcast_to(network.output_bias, k)[i]:.4g}{sign}")
        if network.skip_weights is not None:
            lines.append(f"linear term{of}: {words.terms(network.skip_weights.reshape(d, k)[:, i], 4)}")
    return "\n".join([*lines, *_neurons(network, n_active, labels, words, max_neurons)])


class _Words:
    """Linear functions of named features, the largest terms first."""

    def __init__(self, names: list[str], max_weights: int):
        self.names, self.max_weights = names, max_weights

    def terms(self, u: NDArray, digits: int = 2) -> str:
        """The largest terms of a linear function."""
        largest = np.argsort(-np.abs(u), kind="stable")[: min(self.max_weights, np.count_nonzero(u))]
        text = "".join(f" {'-' if u[i] < 0 else '+'} {abs(u[i]):.{digits}g} {self.names[i]}" for i in largest) or " + 0"
        text = text[3:] if text.startswith(" +") else f"-{text[3:]}"
        return text if np.count_nonzero(u) == len(largest) else f"{text} + ..."

    def sides(self, w: NDArray, b: float) -> tuple[str, float]:
        """u^T x and its offset; without a direction b and 0."""
        length = float(np.linalg.norm(w))
        return (self.terms(w / length), float(-b / length + 0.0)) if length else (f"{b:.3g}", 0.0)


def _neurons(network: Any, n_active: ArrayLike | None, labels: list[str], words: _Words, most: int) -> list[str]:
    """The table of the heaviest neurons, with a line above and one on the rest; nothing without neurons."""
    if not network.n_neurons:
        return []
    k = network.n_outputs
    each, where = _conditions(network, words)
    order = np.argsort(-network.path_norms, kind="stable")
    lengths = np.linalg.norm(network.hidden_weights, axis=1)
    amounts = network.output_weights.reshape(network.n_neurons, k) * np.where(lengths > 0, lengths, 1.0)[:, None]
    shares = 100 * network.path_norms / (network.path_norms.sum() or 1.0)
    table = [["share", *([] if n_active is None else ["active"]), *(labels if k > 1 else ["slope"]), "condition"]]
    for j in order[:most]:
        counts = [] if n_active is None else [str(np.asarray(n_active)[j])]
        table.append([f"{shares[j]:.3g} %", *counts, *(f"{a:+.3g}" if a else "" for a in amounts[j]), where[j]])
    widths = [max(len(cell) for cell in column) for column in zip(*table)]
    lines = [each, *("  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in table)]
    if network.n_neurons > most:
        lines.append(f"{shares[order[most:]].sum():.3g} %  {network.n_neurons - most} more neurons")
    return lines


def _conditions(network: Any, words: _Words) -> tuple[str, list[str]]:
    """What every neuron adds, and for each neuron where."""
    parts = [words.sides(w, b) for w, b in zip(network.hidden_weights, network.hidden_biases)]
    if network.gate_weights is not None:
        linear = [f"({left} {'-' if right >= 0 else '+'} {abs(right):.3g})" for left, right in parts]
        gates = [words.sides(g, h) for g, h in zip(*network.switches)]
        where = [f"{part} where {left} > {right:.3g}" for part, (left, right) in zip(linear, gates)]
        return "each neuron adds slope * (...) where its gate is open:", where
    below = f"; elsewhere {network.activation.slope:g} times that" if network.activation.slope else ""
    each = f"each neuron adds slope * (left - right side) where its condition holds{below}:"
    return each, [f"{left} > {right:.3g}" for left, right in parts]
