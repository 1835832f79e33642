r"""Activations: what a hidden neuron makes of z = w^T x + b, and the dictionary ACTIVATIONS.

An activation here is linear on either side of zero, sigma(z) = max(z, 0) + s min(z, 0), so that weights of one neuron
that are twice as large double what the neuron does, and weight decay becomes a norm. With the slope s = 0 it is ReLU.

On samples that lie on known sides of a neuron's hyperplane, an activation pattern D, the neuron is linear: the rows of
active samples count once, the others s times. Over the whole space

    sigma(z) = (1 - s) ((z)_+ + lift z),   lift = s / (1 - s),

so that the price theta^T sigma(X u) of every such neuron is that of a ReLU neuron and a linear term, for the dual
variable (1 - s) theta. What searches for prices, or bounds them, knows activations by these two numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Names in sentences, where they are not the words of the name.
TITLES = {"relu": "ReLU", "gated_relu": "gated ReLU", "leaky_relu": "leaky ReLU", "absolute": "absolute-value"}


@dataclass(frozen=True)
class Activation:
    """sigma(z) = max(z, 0) + slope * min(z, 0).

    Parameters
    ----------
    name : str
        What the activation is called.
    slope : float, default=0.0
        The slope below zero, finite and not 1, with which neurons would be linear.
    cones : bool, default=True
        Whether z decides on which side a sample lies, which binds weights to the cone of their activation pattern.
        Otherwise a gate of its own decides.

    Raises
    ------
    ValueError
        For a slope that is not a finite number other than 1, or one of gated neurons that is not 0.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("leaky_relu", 0.1)(np.array([-2.0, 3.0]))
    array([-0.2,  3. ])
    """

    name: str
    slope: float = 0.0
    cones: bool = True

    def __post_init__(self):
        number = isinstance(self.slope, (int, float, np.integer, np.floating)) and not isinstance(self.slope, bool)
        if not number or not np.isfinite(self.slope) or self.slope == 1:
            raise ValueError(f"slope must be a finite number other than 1, got {self.slope!r}.")
        if self.slope and not self.cones:
            raise ValueError(f"slope must be 0 for neurons with gates, got {self.slope!r}.")

    def __call__(self, Z: NDArray) -> NDArray:
        """sigma of every entry."""
        above = np.maximum(Z, 0.0)
        return above if self.slope == 0 else above + self.slope * np.minimum(Z, 0.0)

    def with_gates(self, gated: bool) -> Activation:
        """The activation of neurons that have gates, or have none; ValueError for a slope and gates."""
        if gated and self.slope:
            raise ValueError(f"gate_weights must be None for {self.title} neurons.")
        return self if self.cones != gated else ACTIVATIONS["gated_relu" if gated else "relu"]

    def slopes(self, patterns: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The slope of sigma at every sample of activation patterns, in their shape."""
        return np.where(patterns, 1.0, self.slope)

    @property
    def title(self) -> str:
        """The name as it stands in sentences."""
        title = TITLES.get(self.name, self.name.replace("_", " "))
        return title if self.slope in (0, -1) else f"{title} (slope {self.slope:g})"

    @property
    def kink(self) -> float:
        """By how much the slope changes at zero: the factor of the ReLU price."""
        return 1.0 - self.slope

    @property
    def lift(self) -> float:
        """The share of the linear term beside (z)_+."""
        return self.slope / self.kink

    @property
    def steepest(self) -> float:
        """The larger slope in absolute value: how much larger than its input an output can be."""
        return max(1.0, abs(self.slope))

    @property
    def even(self) -> bool:
        """Whether weights and their negatives make the same neuron."""
        return self.slope == -1

    @property
    def signs(self) -> tuple[float, ...]:
        """The signs of output weights that blocks are listed for: where weights are free, one is enough."""
        return (1.0, -1.0) if self.cones else (1.0,)


def ReLU() -> Activation:
    """max(z, 0)."""
    return Activation("relu")


def LeakyReLU(slope: float = 0.01) -> Activation:
    """max(z, 0) + slope * min(z, 0).

    Parameters
    ----------
    slope : float, default=0.01
        Slope below zero, by default that of ``torch.nn.LeakyReLU``; any number but 1.

    Returns
    -------
    activation : Activation
    """
    return Activation("leaky_relu", slope)


def Absolute() -> Activation:
    """|z|."""
    return Activation("absolute", -1.0)


def GatedReLU() -> Activation:
    """z where a gate is open, else 0."""
    return Activation("gated_relu", cones=False)


#: Every activation by name.
ACTIVATIONS = {activation.name: activation for activation in (ReLU(), LeakyReLU(), Absolute(), GatedReLU())}


def get_activation(activation: str | Activation) -> Activation:
    """The activation of a name, or the activation itself.

    Parameters
    ----------
    activation : str or Activation
        A key of ACTIVATIONS or an object such as ``LeakyReLU(0.2)``.

    Returns
    -------
    activation : Activation

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {sorted(ACTIVATIONS)}, or an object such as LeakyReLU(0.2) of "
            f"convexnn.neurons.activations, got {activation!r}."
        )
    return ACTIVATIONS[activation]
