"""Optima of linear models, each with a duality gap that proves how near it is."""

from widemax.solvers.cross_entropy import minimize_cross_entropy
from widemax.solvers.hinge import HingeLoss, minimize_hinge
from widemax.solvers.separators import Separators, used_columns
from widemax.solvers.solution import Solution

__all__ = ["HingeLoss", "Separators", "Solution", "minimize_cross_entropy", "minimize_hinge", "used_columns"]
