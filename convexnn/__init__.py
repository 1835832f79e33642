"""Two-layer ReLU networks trained as convex programs, with a certificate of how far they are from optimal."""

from convexnn.arrangements import Arrangement, count_patterns, enumerate_patterns, patterns_of, sample_patterns
from convexnn.certificate import Certificate, ScenarioBound, certify, scenario_bound
from convexnn.estimators import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.network import Network
from convexnn.result import Result

__version__ = "0.1.0"

__all__ = [
    "Arrangement",
    "Certificate",
    "ConvexReLUClassifier",
    "ConvexReLURegressor",
    "Network",
    "Result",
    "ScenarioBound",
    "certify",
    "count_patterns",
    "enumerate_patterns",
    "patterns_of",
    "sample_patterns",
    "scenario_bound",
]
