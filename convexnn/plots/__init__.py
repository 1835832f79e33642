"""Displays in scikit-learn's convention: constructors store, ``plot`` draws, ``from_estimator`` computes and draws."""

from convexnn.plots.arrangement import ArrangementDisplay
from convexnn.plots.certificate import CertificateDisplay
from convexnn.plots.convergence import ConvergenceDisplay
from convexnn.plots.neurons import NeuronDisplay
from convexnn.plots.path import PathDisplay

__all__ = ["ArrangementDisplay", "CertificateDisplay", "ConvergenceDisplay", "NeuronDisplay", "PathDisplay"]
