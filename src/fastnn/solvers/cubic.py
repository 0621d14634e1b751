"""Adaptive regularisation with cubics (ARC)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ..linalg.quadratic_models import quadratic_model
from ..names import explained
from ..objective import SmoothFunction
from .base import HessianSolver, Run
from .globalization import CubicRegularization, Located, minimize_models

__all__ = ["ARC"]


@explained
@dataclass(frozen=True)
class ARC(HessianSolver):
    """Adaptive cubic regularisation: p minimises g·p + ½ p·H p + σ/3 ‖p‖³, with the exact Hessian.

    ::

        ρ = (J(θ) − J(θ + p)) / −m(p)
        ρ > 0.9: σ ← σ / 3;  ρ < 0.1: σ ← 2 σ, and the step is not taken where ρ ≤ 1e-4

    Parameters
    ----------
    sigma : float, default=1.0
        σ at the start.
    max_parameters : int, default=5000
        More are refused.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the network has too many parameters, or no curvature.

    Notes
    -----
    Cartis, Gould and Toint 2011, algorithm 2.1; Nesterov and Polyak 2006. The model's minimum is found exactly, from
    (H + μ I) p = −g with μ = σ ‖p‖, so that saddles are no obstacle. The history's damping is μ.
    """

    sigma: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("sigma", above=0.0)

    def _check(self, objective: SmoothFunction) -> None:
        self._check_size(objective, "use GaussNewtonCG or LBFGS")

    def _solve(self, run: Run) -> NoReturn:
        def report(theta: np.ndarray, value: float, gradient: np.ndarray, mu: float) -> Located:
            run.report(theta, value, gradient, damping=mu)
            return theta, value, gradient

        minimize_models(
            run,
            run.begin(),
            lambda theta: quadratic_model(run.objective.hessian(theta)),
            CubicRegularization(self.sigma),
            report,
        )
