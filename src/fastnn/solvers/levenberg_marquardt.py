"""Levenberg-Marquardt for networks that are fitted by least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import numpy as np
from scipy.linalg import cho_solve, get_lapack_funcs
from scipy.linalg.blas import dsyrk

from ..curvature.jacobians import fill_jacobian
from ..curvature.linearization import Linearization
from ..linalg.memory import WORKSPACE, check_size
from ..names import explained
from ..objective import SmoothFunction
from .base import FullBatchSolver, Run, of_network

__all__ = ["LevenbergMarquardt"]


@explained
@dataclass(frozen=True)
class LevenbergMarquardt(FullBatchSolver):
    """Levenberg-Marquardt for ``loss="squared_error"``.

    With the Jacobian F = ∂ŷ/∂θ of all outputs of all rows::

        A = Fᵀ W F / Σ w + l2 I_W         (A + μ D) p = −g
        ρ = (J(θ) − J(θ + p)) / (½ p·(μ D p − g))
        ρ > 0:  θ ← θ + p,  μ ← μ max(1/3, 1 − (2 ρ − 1)³),  ν ← 2
        else:   μ ← μ ν,  ν ← 2 ν

    D is diagonal, the largest diag A so far, and at least 1e-10 times its largest element.

    Parameters
    ----------
    damping : float, default=1e-3
        μ of A + μ D at the start, above 0; a multiple of D, so that it has no unit.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`. Steps that are refused are part of the
        iteration.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the loss is another one, or A does not fit in memory.

    Notes
    -----
    Marquardt 1963; D: Moré 1978; μ: Nielsen's rule, as in Madsen, Nielsen and Tingleff 2004, algorithm 3.16. A is
    summed by symmetric rank-k products over chunks of rows and factorized by Cholesky; all in float64.
    ``scipy.optimize.least_squares`` takes the whole Jacobian, (N K, P), and its QR or singular values.
    """

    damping: float = field(default=1e-3, kw_only=True)

    second_order: ClassVar[bool] = True
    double: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("damping", above=0.0)

    def _check(self, objective: SmoothFunction) -> None:
        objective = of_network(objective, "LevenbergMarquardt")
        loss = objective.net.loss_function
        if not loss.least_squares:
            raise ValueError(
                f"LevenbergMarquardt needs loss 'squared_error', got {loss.name!r}; GaussNewtonCG takes the others"
            )
        if objective.risk.batch_coupled:
            raise ValueError("LevenbergMarquardt needs training=False where there is batch norm")
        P = objective.n_parameters
        check_size("LevenbergMarquardt", (2, P, P), np.dtype(np.float64), None, "use GaussNewtonCG or LBFGS")

    def _solve(self, run: Run) -> NoReturn:
        P = run.objective.n_parameters
        A = np.empty((P, P), order="F")
        factor = np.empty((P, P), order="F")
        (potrf,) = get_lapack_funcs(("potrf",), (A,))
        diagonal = np.einsum("ii->i", factor)
        theta, value, gradient = run.begin()
        mu, growth = self.damping, 2.0
        scale = np.zeros(P)
        while True:
            normal_matrix(run.objective, theta, A)
            np.maximum(scale, np.einsum("ii->i", A), out=scale)
            D = np.maximum(scale, 1e-10 * max(float(scale.max()), 1e-290))
            while True:
                np.copyto(factor, A)
                diagonal += mu * D
                lower, info = potrf(factor, lower=1, overwrite_a=1, clean=0)
                ratio = -1.0
                gain = math.inf
                if info == 0:
                    p = -cho_solve((lower, True), gradient, check_finite=False)
                    gain = 0.5 * float(np.dot(p, mu * D * p - gradient))
                    candidate = theta + p
                    found, slope = run.evaluate(candidate)
                    if run.negligible(value, gain):
                        better = float(np.linalg.norm(slope)) < float(np.linalg.norm(gradient))
                        ratio = 0.5 if better and found <= value * (1.0 + run.noise) else -1.0
                        if not better:
                            run.give_up(value, gain)
                    elif math.isfinite(found):
                        ratio = (value - found) / gain
                if ratio > 0.0:
                    mu *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
                    growth = 2.0
                    break
                mu *= growth
                growth *= 2.0
                if not mu < 1e100:
                    run.give_up(value, gain)
            theta, value, gradient = candidate, found, slope
            run.report(theta, value, gradient, damping=mu)


def normal_matrix(objective: SmoothFunction, theta: np.ndarray, A: np.ndarray) -> None:
    """Write the lower triangle of Fᵀ W F / Σ w + l2 I_W into A (P, P), in Fortran order, float64."""
    risk = of_network(objective, "LevenbergMarquardt").risk_at(theta)
    objective.evaluations.matrix += 1
    A[...] = 0.0
    P, K = risk.n_parameters, risk.n_outputs
    n = max(1, min(risk.n_rows, WORKSPACE // (K * P * risk.dtype.itemsize)))
    memory = np.empty((n, K, P), risk.dtype)
    lin: Linearization | None = None
    for start in range(0, risk.n_rows, n):
        rows = slice(start, min(start + n, risk.n_rows))
        F = memory[: rows.stop - start]
        lin = fill_jacobian(risk, rows, F, lin)
        if risk.weight is not None:
            F *= np.sqrt(risk.weight[rows])[:, None, None]
        # To BLAS a C-ordered array is its transpose.
        dsyrk(1.0 / risk.total, F.reshape(-1, P).T, beta=1.0, c=A, lower=1, overwrite_c=1)
    risk.add_penalty(np.einsum("ii->i", A))
