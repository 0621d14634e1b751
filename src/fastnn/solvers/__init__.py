"""Full-batch solvers over an Objective, each also an optimizer of ``net.fit``."""

from ..names import listing
from ..objective import Evaluations, SmoothFunction
from .base import FullBatchSolver, Iteration, SolverResult
from .cubic import ARC
from .functions import minimize, wolfe_search
from .gauss_newton import GaussNewtonCG
from .gradient import LBFGS, GradientDescent, NonlinearCG
from .levenberg_marquardt import LevenbergMarquardt
from .line_search import Point
from .newton import Newton
from .preconditioning import Preconditioner
from .scipy_methods import NewtonCG, TrustRegion

__all__ = [
    "ARC",
    "LBFGS",
    "Evaluations",
    "FullBatchSolver",
    "GaussNewtonCG",
    "GradientDescent",
    "Iteration",
    "LevenbergMarquardt",
    "Newton",
    "NewtonCG",
    "NonlinearCG",
    "Point",
    "Preconditioner",
    "SmoothFunction",
    "SolverResult",
    "TrustRegion",
    "minimize",
    "wolfe_search",
]
__dir__ = listing(__all__)
