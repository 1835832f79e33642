r"""A ReLU network as a measure on hyperplanes: its second derivative in the Radon domain, and the variation of that.

With u = w / |w| and t = -b / |w| a neuron is a |w| (u^T x - t)_+, a ridge function that bends on the hyperplane
u^T x = t only: in the Radon domain its filtered second derivative along the offset (Parhi & Nowak, 2021, section 3)
is an atom of weight a |w| at (u, t). (u, t) and (-u, -t) are the same hyperplane, and (z)_+ = z + (-z)_+: which side a
neuron faces changes a linear function, which the second derivative does not see. So the weights of all neurons on one
hyperplane add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.network import SAME_DIRECTION, Network, clusters, upper_half

# A sum of weights below this share of the sum of their absolute values is rounding.
CANCELLED = 1e-13


@dataclass(frozen=True, eq=False)
class RadonMeasure:
    r"""Atoms at hyperplanes u^T x = t; with them f(x) = sum_k c_k (u_k^T x - t_k)_+ + a linear function.

    Attributes
    ----------
    directions : array of shape (n_atoms, n_features)
        u: unit vectors whose last non-zero coordinate is positive. In the plane their angles are in [0, 180) degrees.
    offsets : array of shape (n_atoms,)
        t, in the units of the features.
    weights : array of shape (n_atoms,) or (n_atoms, n_outputs)
        c: by how much the slope along u changes across the hyperplane.
    atom_of : integer array of shape (n_neurons,)
        The atom that each neuron of the network is part of, -1 for none.
    """

    directions: NDArray[np.float64]
    offsets: NDArray[np.float64]
    weights: NDArray[np.float64]
    atom_of: NDArray[np.intp]

    @property
    def total_variation(self) -> float:
        """sum_k |c_k|, with Euclidean norms for several outputs."""
        weights = self.weights
        return float((np.abs(weights) if weights.ndim == 1 else np.linalg.norm(weights, axis=1)).sum())

    def __repr__(self) -> str:
        n = len(self.offsets)
        return f"RadonMeasure({n} atom{'' if n == 1 else 's'}, total variation {self.total_variation:.6g})"


def radon_measure(network: Network) -> RadonMeasure:
    r"""The atoms of a ReLU network in the Radon domain, the heaviest first.

    Neurons on one hyperplane are added up, a |w| each, whichever side they face. Neurons with w = 0 or a = 0, and
    neurons that cancel, have no atom; the skip connection and the output bias have none either.

    Parameters
    ----------
    network : Network
        Of ReLU neurons. ``network_from`` converts networks trained elsewhere.

    Returns
    -------
    measure : RadonMeasure

    Raises
    ------
    ValueError
        For a gated network, which jumps at its gates: its second derivative is no measure.

    Notes
    -----
    Hyperplanes are one when their directions differ by less than 1e-10 and their offsets by less than that share of the
    larger one or, if that is more, of sum_j |a_j b_j| / sum_j |a_j| |w_j|.

    References
    ----------
    .. [1] R. Parhi, R. D. Nowak, Banach space representer theorems for neural networks and ridge splines, JMLR 22
       (2021), section 3.
    .. [2] R. Parhi, R. D. Nowak, Deep learning meets sparse regularization: a signal processing perspective, IEEE
       Signal Processing Magazine 40 (2023), arXiv:2301.09554.

    Examples
    --------
    |x_0 - 1| + x_1 is linear but for a fold of 2 at x_0 = 1:

    >>> network = Network(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([-1.0, 1.0]), np.ones(2), 0.0)
    >>> measure = radon_measure(network)
    >>> measure, measure.directions, measure.offsets
    (RadonMeasure(1 atom, total variation 2), array([[1., 0.]]), array([1.]))
    """
    if not isinstance(network, Network):
        raise ValueError(
            f"network must be a Network, got {type(network).__name__}; pass estimator.network_, or what network_from "
            "makes of a network trained elsewhere."
        )
    if network.gate_weights is not None:
        raise ValueError(
            "network must have neurons without gates, got gated ones: they jump at their gates, so that the second "
            "derivative is no measure; network.to_relu(X) gives a ReLU network with the same predictions on X."
        )
    lengths = np.linalg.norm(network.hidden_weights, axis=1)
    outputs = network.output_weights.reshape(network.n_neurons, network.n_outputs)
    sizes = abs(network.activation.kink) * lengths * np.linalg.norm(outputs, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        directions, offsets = network.hidden_weights / lengths[:, None], -network.hidden_biases / lengths
    alive = np.flatnonzero((sizes > 0) & np.isfinite(offsets))
    directions, offsets, sizes = directions[alive], offsets[alive], sizes[alive]
    # By how much the slope across the hyperplane changes.
    weights = network.activation.kink * outputs[alive] * lengths[alive, None]
    n = len(alive)
    # arcsinh is linear near 0 and a logarithm far out, where offsets are compared by their ratio.
    scale = (sizes @ np.abs(offsets) / sizes.sum() if n else 0.0) or 1.0
    keys = np.column_stack([directions, np.arcsinh(offsets / scale)])
    # Every hyperplane twice, as (u, t) and as (-u, -t).
    sides = clusters(np.vstack([keys, -keys]), SAME_DIRECTION).reshape(2, n).min(axis=0)
    planes, group = np.unique(sides, return_inverse=True)

    total, parts = np.zeros((len(planes), network.n_outputs)), np.zeros(len(planes))
    np.add.at(total, group, weights)
    np.add.at(parts, group, sizes)
    norms = np.linalg.norm(total, axis=1)
    kept = np.flatnonzero(norms > CANCELLED * parts)
    kept = kept[np.argsort(-norms[kept], kind="stable")]
    chosen = np.unique(group, return_index=True)[1][kept]
    sign = upper_half(directions[chosen])
    position = np.full(len(planes), -1)
    position[kept] = np.arange(len(kept))
    atom_of = np.full(network.n_neurons, -1)
    atom_of[alive] = position[group]
    return RadonMeasure(
        directions[chosen] * sign[:, None] + 0.0,
        offsets[chosen] * sign + 0.0,
        total[kept].reshape(len(kept), *network.output_weights.shape[1:]),
        atom_of,
    )


def second_order_tv(network: Network) -> float:
    r"""Second-order total variation of a ReLU network in the Radon domain: how much the function bends in all.

    The sum over hyperplanes of |sum of a_j |w_j| over the neurons on it|: of the atoms of ``radon_measure``. With one
    feature it is the total variation of f', the sum of ``ReLUSplineRegressor.slope_changes_`` in absolute value.

    It belongs to the function: networks that compute the same function have the same, and linear functions have 0. It
    is the least sum_j |w_j| |a_j| with which a network with a skip connection computes f, hence at most
    ``network.path_norms.sum()``; networks of one output that were trained with ``hidden_bias="free"`` and
    ``skip_connection=True`` to the optimum pay alpha times it.

    Parameters
    ----------
    network : Network
        Of ReLU neurons. With several outputs an atom has a vector of weights and counts by its Euclidean norm, as in
        the variation spaces of vector-valued functions [3]_; neurons on one hyperplane that feed different outputs
        then count less than in the sum of path norms.

    Returns
    -------
    variation : float
        In units of the outputs by units of the features.

    Raises
    ------
    ValueError
        For a gated network.

    References
    ----------
    .. [1] R. Parhi, R. D. Nowak, Banach space representer theorems for neural networks and ridge splines, JMLR 22
       (2021), section 3.
    .. [2] G. Ongie, R. Willett, D. Soudry, N. Srebro, A function space view of bounded norm infinite width ReLU nets:
       the multivariate case, ICLR 2020.
    .. [3] J. Shenouda, R. Parhi, K. Lee, R. D. Nowak, Variation spaces for multi-output neural networks: insights on
       multi-task learning and network compression, JMLR 25 (2024), arXiv:2305.16534.

    Examples
    --------
    A hat, 0 outside (-1, 1): its slope changes by 1, -2 and 1.

    >>> hat = Network(np.ones((3, 1)), np.array([1.0, 0.0, -1.0]), np.array([1.0, -2.0, 1.0]), 0.0)
    >>> second_order_tv(hat)
    4.0
    """
    return radon_measure(network).total_variation
