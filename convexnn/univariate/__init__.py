"""One feature: ReLU networks as linear splines, exactly and fast, and lasso dictionaries for other networks."""

from convexnn.univariate.estimators import Ramps, ReLUSplineRegressor, ReLUSplineRegressorCV, spline_path
from convexnn.univariate.narrow import NarrowFit, NarrowNetwork, fit_narrow, narrow_dictionary
from convexnn.univariate.splines import Line, Spline, fit_spline

__all__ = [
    "Line",
    "NarrowFit",
    "NarrowNetwork",
    "Ramps",
    "ReLUSplineRegressor",
    "ReLUSplineRegressorCV",
    "Spline",
    "fit_narrow",
    "fit_spline",
    "narrow_dictionary",
    "spline_path",
]
