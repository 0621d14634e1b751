"""Full-batch solvers over an Objective, each also an optimizer of ``net.fit``."""

from .gradient import LBFGS, GradientDescent, NonlinearCG
from .run import FullBatchSolver, Iteration, SolverResult

__all__ = ["LBFGS", "FullBatchSolver", "GradientDescent", "Iteration", "NonlinearCG", "SolverResult"]
