"""Solvers of a Problem: frozen settings with one method, ``solve(problem, coef_init=None) -> Result``."""

from typing import Any

from convexnn.solvers.cvxpy_ import CvxpySolver
from convexnn.solvers.fista import Fista
from convexnn.solvers.newton import Newton

#: Every solver by name. A class listed here is an option of the estimators and under test.
SOLVERS: dict[str, Any] = {"fista": Fista, "newton": Newton, "cvxpy": CvxpySolver}

__all__ = ["SOLVERS", "CvxpySolver", "Fista", "Newton"]
