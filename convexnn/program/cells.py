"""Cells: activation patterns with the sign and the output of their neurons, and the neurons in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.arrangements import as_one
from convexnn.network import Network, clusters
from convexnn.neurons.neuron import Neuron
from convexnn.program.design import Design

# Neurons closer than this (unit vectors) are one neuron that lies on the wall between two cells.
ONE_NEURON = 1e-6


@dataclass(frozen=True)
class Cells:
    """Listed cells: where neurons may be, and where they are.

    Attributes
    ----------
    patterns : bool array of shape (n_cells, n_samples)
        The samples that are active in each cell.
    sign : array of shape (n_cells,)
        Sign of the output weights.
    output : int array of shape (n_cells,)
        The output that is fed.
    V : array of shape (n_cells, n_coordinates)
        The neuron of each cell, zero where there is none.
    """

    patterns: NDArray[np.bool_]
    sign: NDArray[np.float64]
    output: NDArray[np.intp]
    V: NDArray[np.float64]

    def take(self, keep: NDArray) -> Cells:
        return Cells(self.patterns[keep], self.sign[keep], self.output[keep], self.V[keep])

    def turned(self, rows: NDArray, neuron: Neuron) -> Cells:
        """The same neurons, of weights and their negatives that make one neuron always the same ones."""
        side = np.where(neuron.turns(rows, self.patterns), -1.0, 1.0)
        return replace(self, patterns=neuron.turned(rows, self.patterns), V=side[:, None] * self.V)

    def weightless(self) -> Cells:
        """The same cells with zero coefficients."""
        return replace(self, V=np.zeros_like(self.V))

    def followed_by(self, other: Cells) -> Cells:
        """Both lists, one after the other."""
        return Cells(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values())))

    def join(self, other: Cells) -> Cells:
        """Both lists; equal cells become one with the sum of the coefficients."""
        every = self.followed_by(other)
        feeds = np.ascontiguousarray(every.output, dtype=np.int64).view(np.uint8).reshape(len(every.output), 8)
        key = np.column_stack([np.packbits(every.patterns, axis=1), (every.sign > 0).astype(np.uint8), feeds])
        _, first, group = np.unique(as_one(key), return_index=True, return_inverse=True)
        total = np.zeros((len(first), every.V.shape[1]))
        np.add.at(total, group.ravel(), every.V)
        return replace(every.take(first), V=total)

    def merged(self) -> Cells:
        """Without empty cells; neurons that agree but for the side of a wall become one, in their heaviest cell."""
        lengths = np.linalg.norm(self.V, axis=1)
        keep = np.flatnonzero(lengths)[np.argsort(-lengths[lengths > 0], kind="stable")]
        part, lengths = self.take(keep), lengths[keep]
        if len(keep) < 2:
            return part
        place = np.column_stack([part.V / lengths[:, None], part.sign, part.output])
        group = clusters(place, ONE_NEURON)
        total = np.zeros((group.max() + 1, part.V.shape[1]))
        np.add.at(total, group, part.V)
        first = np.unique(group, return_index=True)[1]
        return replace(part.take(first), V=total)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether there is a neuron in each cell."""
        return np.asarray(self.V.any(axis=1))

    @classmethod
    def none(cls, rows: NDArray) -> Cells:
        """The empty list."""
        n, p = rows.shape
        return cls(np.zeros((0, n), dtype=bool), np.zeros(0), np.zeros(0, dtype=int), np.zeros((0, p)))

    @classmethod
    def of_solution(cls, design: Design, coef: NDArray) -> Cells:
        """The cells of the cells that are not zero.

        Parameters
        ----------
        design : Design
            The listed cells.
        coef : array of shape (n_cells, n_coordinates)
            Their coefficients.

        Returns
        -------
        cells : Cells
        """
        k = np.flatnonzero(coef.any(axis=1))
        return cls(design.patterns[design.pattern[k]], design.sign[k], design.output[k], coef[k])

    @classmethod
    def of_network(cls, network: Network, rows: NDArray, neuron: Neuron, patterns: NDArray | None = None) -> Cells:
        """The cells of a network's neurons, one for each output fed.

        Parameters
        ----------
        network : Network
            Any two-layer network. Cells of gated ones have positive signs.
        rows : array of shape (n_samples, n_coordinates)
            What neurons see.
        neuron : Neuron
            Whether there are biases.
        patterns : array of shape (n_neurons, n_samples), optional
            The patterns of the neurons, by default those that their weights have.

        Returns
        -------
        cells : Cells
        """
        W = neuron.join(network.hidden_weights, network.hidden_biases)
        patterns = (rows @ W.T >= 0).T if patterns is None else patterns
        amounts = network.output_weights.reshape(network.n_neurons, network.n_outputs)
        index, output = np.nonzero(amounts)
        a = amounts[index, output]
        # Where one sign is listed it is 1, and weights may be of any.
        sign = np.where(a < 0, min(network.activation.signs), 1.0)
        cells = cls(patterns[index], sign, output, (sign * a)[:, None] * W[index])
        return cells.turned(rows, neuron).join(cls.none(rows))
