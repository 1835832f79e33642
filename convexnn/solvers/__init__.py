"""Solvers of a Problem: frozen settings with one method, ``solve(problem, coef_init=None) -> Result``."""

from convexnn.solvers.cvxpy_ import CvxpySolver
from convexnn.solvers.fista import Fista

#: Every solver by name. A class listed here is an option of the estimators and under test.
SOLVERS: dict[str, type] = {"fista": Fista, "cvxpy": CvxpySolver}

__all__ = ["SOLVERS", "CvxpySolver", "Fista"]
