"""One feature: ReLU networks as linear splines, exactly and fast, and lasso dictionaries for other networks."""

from convexnn.univariate.estimators import Ramps, ReLUSplineRegressor, ReLUSplineRegressorCV, spline_path
from convexnn.univariate.splines import Line, Spline, fit_spline

__all__ = ["Line", "Ramps", "ReLUSplineRegressor", "ReLUSplineRegressorCV", "Spline", "fit_spline", "spline_path"]
