"""Full-batch solvers over an Objective, each also an optimizer of ``net.fit``."""

from .gauss_newton import GaussNewtonCG
from .gradient import LBFGS, GradientDescent, NonlinearCG
from .least_squares import LevenbergMarquardt
from .newton import ARC, Newton
from .run import FullBatchSolver, Iteration, SolverResult
from .scipy_methods import NewtonCG, TrustRegion

__all__ = [
    "ARC",
    "LBFGS",
    "FullBatchSolver",
    "GaussNewtonCG",
    "GradientDescent",
    "Iteration",
    "LevenbergMarquardt",
    "Newton",
    "NewtonCG",
    "NonlinearCG",
    "SolverResult",
    "TrustRegion",
]
