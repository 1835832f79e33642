"""Two-layer ReLU networks trained as convex programs, with a certificate of how far they are from optimal."""

from convexnn._version import __version__ as __version__
from convexnn.analysis.audit import Audit, audit, network_from, polish
from convexnn.analysis.optimal_set import OptimalSet, optimal_set
from convexnn.analysis.radon import RadonMeasure, radon_measure, second_order_tv
from convexnn.analysis.scenario import ScenarioBound, scenario_bound
from convexnn.arrangements import Arrangement, count_patterns, enumerate_patterns, patterns_of, sample_patterns
from convexnn.estimators.cross_validation import ConvexReLUClassifierCV, ConvexReLURegressorCV
from convexnn.estimators.feature_scales import FeatureScaleWarning
from convexnn.estimators.networks import ConvexReLUClassifier, ConvexReLURegressor
from convexnn.estimators.path import Path, relu_path
from convexnn.estimators.selection import FeatureSelection, Selection, select_alpha, select_feature_penalty
from convexnn.network import Network
from convexnn.plots import ArrangementDisplay, CertificateDisplay, ConvergenceDisplay, NeuronDisplay, PathDisplay
from convexnn.program.result import Result
from convexnn.proofs.certificate import Certificate
from convexnn.proofs.prove import certify
from convexnn.univariate import ReLUSplineRegressor, ReLUSplineRegressorCV, spline_path

__all__ = [
    "Arrangement",
    "ArrangementDisplay",
    "Audit",
    "Certificate",
    "CertificateDisplay",
    "ConvergenceDisplay",
    "ConvexReLUClassifier",
    "ConvexReLUClassifierCV",
    "ConvexReLURegressor",
    "ConvexReLURegressorCV",
    "FeatureScaleWarning",
    "FeatureSelection",
    "Network",
    "NeuronDisplay",
    "OptimalSet",
    "Path",
    "PathDisplay",
    "RadonMeasure",
    "ReLUSplineRegressor",
    "ReLUSplineRegressorCV",
    "Result",
    "ScenarioBound",
    "Selection",
    "audit",
    "certify",
    "count_patterns",
    "enumerate_patterns",
    "network_from",
    "optimal_set",
    "patterns_of",
    "polish",
    "radon_measure",
    "relu_path",
    "sample_patterns",
    "scenario_bound",
    "second_order_tv",
    "select_alpha",
    "select_feature_penalty",
    "spline_path",
]
