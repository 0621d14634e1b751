"""Newton's method with exact Hessians: whole, by layers, or their diagonals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import numpy as np

from ..checks import check_integer
from ..curvature.blocks import diagonal_blocks, matrix_diagonal
from ..linalg.quadratic_models import BlockModel, QuadraticModel, SpectralModel, quadratic_model
from ..names import explained
from ..objective import SmoothFunction
from .base import HessianSolver, Run, of_network
from .globalization import Located, TrustRadius, minimize_models

__all__ = ["Newton"]


@explained
@dataclass(frozen=True)
class Newton(HessianSolver):
    """Newton's method: steps by an exact Hessian H, made positive definite where it is not.

    An iteration computes H once. With ``globalization="line_search"`` it then goes along −M⁻¹ g by a strong Wolfe line
    search, `updates` times, M being H made positive definite and after each step corrected by a BFGS update with what
    the gradients tell of the curvature there::

        up to 600 parameters, and diagonals:   M = Q max(|Λ|, damping max|Λ|) Qᵀ,  H = Q Λ Qᵀ;  M = H where Λ > 0
        beyond, for a whole H or a block:      M = H + τ I, τ = 0 or about as small as makes it definite

    With ``globalization="trust_region"`` a step is the minimum of the quadratic model within a radius (Moré and
    Sorensen 1983), negative curvature included; the radius follows the ratio of the real to the promised decrease.

    At a point with ‖g‖ ≤ tol the lowest eigenvalue of H decides: where it is negative, the point is a saddle, and the
    method leaves it along that eigenvector.

    Parameters
    ----------
    matrix : {"full", "block", "diagonal"}, default="full"
        H whole; its diagonal blocks of each layer (weights and biases); its diagonal. All are exact. The last two take
        any number of parameters, as far as blocks have memory, but do not look for saddles.
    globalization : {"line_search", "trust_region", None}, default="line_search"
        None is Newton's method as it stands, θ ← θ − α H⁻¹ g, with nothing to keep it from going up or to a saddle.
    step_length : float, default=1.0
        α of ``globalization=None``, above 0.
    updates : int, default=20
        Steps of an iteration, at least 1; 1 is Newton's method proper. Only with a line search.
    damping : float, default=1e-4
        Least eigenvalue of M where H is not positive definite, as a multiple of H's largest by size: |λ_j| becomes
        max(|λ_j|, damping · max |λ|). Relative, in (0, 1).
    radius : float, default=1.0
        Of the trust region at the start.
    escape : bool, default=True
        Whether saddles are left. Costs one eigenvalue at the end.
    max_parameters : int, default=5000
        Of ``matrix="full"``: more are refused.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the network has too many parameters, or no curvature.

    Notes
    -----
    Nocedal and Wright 2006, sections 3.4, 4.3 and 6.1; |Λ|: Dauphin et al. 2014. A gradient costs so much less than H
    and its factorization that steps between two Hessians pay: 4-10-10-3 with tanh on iris comes to ‖g‖ < 1e-8 with 6 to
    11 Hessians and about 230 gradients, where single steps need 40 to 110 Hessians. Its neighbours in print are
    Shamanskii's method and the preconditioned L-BFGS of Jiang, Byrd, Eskow and Schnabel 2004.
    """

    matrix: str = field(default="full", kw_only=True)
    globalization: str | None = field(default="line_search", kw_only=True)
    step_length: float = field(default=1.0, kw_only=True)
    updates: int = field(default=20, kw_only=True)
    damping: float = field(default=1e-4, kw_only=True)
    radius: float = field(default=1.0, kw_only=True)
    escape: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("matrix", ("full", "block", "diagonal"))
        self._choice("globalization", ("line_search", "trust_region", None))
        self._number("step_length", above=0.0)
        object.__setattr__(self, "updates", check_integer("updates", self.updates))
        self._number("damping", above=0.0, below=1.0)
        self._number("radius", above=0.0)
        if not isinstance(self.escape, bool):
            raise TypeError(f"escape must be True or False, got {self.escape!r}")

    def _check(self, objective: SmoothFunction) -> None:
        if self.matrix == "full":
            self._check_size(objective, "use matrix='block', GaussNewtonCG or LBFGS")
        else:
            of_network(objective, f"Newton(matrix={self.matrix!r})")

    def _places(self, objective: SmoothFunction, theta: np.ndarray) -> list[tuple[slice, np.ndarray]]:
        """Diagonal blocks of H in float64, or the one diagonal, with their places in theta."""
        objective.evaluations.matrix += 1
        objective = of_network(objective, "Newton")
        risk = objective.risk_at(theta)
        if self.matrix == "diagonal":
            return [(slice(0, risk.n_parameters), matrix_diagonal(risk, "hessian").astype(np.float64))]
        blocks = diagonal_blocks(risk, "hessian", None, "use matrix='diagonal', GaussNewtonCG or LBFGS")
        return [(risk.place(i), block.astype(np.float64)) for i, block in blocks.items()]

    def _model(self, objective: SmoothFunction, theta: np.ndarray, shift: float = 0.0) -> QuadraticModel:
        """A model with steps, as trust regions need it; `shift` is what made the last whole H definite."""
        if self.matrix == "full":
            return quadratic_model(objective.hessian(theta), shift)
        return SpectralModel(self._places(objective, theta), objective.n_parameters)

    def _directions(self, objective: SmoothFunction, theta: np.ndarray, shift: float) -> QuadraticModel | BlockModel:
        """A model with an inverse, as line searches need it."""
        if self.matrix == "block":
            return BlockModel(self._places(objective, theta), shift)
        return self._model(objective, theta, shift)

    def _solve(self, run: Run) -> NoReturn:
        # Record the start; leave it if it is a saddle.
        value, gradient = run.evaluate(run.theta)
        start = _report(self, run, run.theta, value, gradient, math.nan)
        if self.globalization is None:
            _whole_steps(self, run, start)
        if self.globalization == "line_search":
            _by_line_search(self, run, start)
        model_at = partial(self._model, run.objective)
        minimize_models(run, start, model_at, TrustRadius(self.radius), partial(_report, self, run))


def _by_line_search(solver: Newton, run: Run, start: Located) -> NoReturn:
    """Along −M⁻¹ g, several times for each Hessian, with BFGS corrections of M in between."""
    theta, value, gradient = start
    shift = 0.0
    while True:
        model = solver._directions(run.objective, theta, shift)
        inverse, shift = model.inverse(solver.damping * max(model.scale, 1e-300))
        pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
        moved = False
        for _ in range(solver.updates):
            direction = -_corrected(inverse, pairs, gradient)
            slope = float(np.dot(gradient, direction))
            point = run.search(theta, value, gradient, direction, 1.0) if slope < 0.0 else None
            if point is None:
                break
            s, y = point.theta - theta, point.gradient - gradient
            theta, value, gradient = point.theta, point.value, point.gradient
            moved = True
            if float(np.linalg.norm(gradient)) <= run.tol:
                break
            along = float(np.dot(s, y))
            rounding = 1e-12 * float(np.linalg.norm(s)) * float(np.linalg.norm(y))
            # of a step too short for the values to tell, all of y may be rounding
            if along > rounding and not run.negligible(value, -0.5 * slope):
                pairs.append((s, y, along))
        if not moved:
            run.give_up(value, -0.5 * slope)
        theta, value, gradient = _report(solver, run, theta, value, gradient, shift)


def _whole_steps(solver: Newton, run: Run, start: Located) -> NoReturn:
    """Along −H⁻¹ g, whatever H is and wherever that goes."""
    theta, value, gradient = start
    while True:
        matrices = (
            [(slice(0, len(theta)), run.objective.hessian(theta))]
            if solver.matrix == "full"
            else solver._places(run.objective, theta)
        )
        step = np.empty_like(theta)
        for place, matrix in matrices:
            try:
                step[place] = gradient[place] / matrix if matrix.ndim == 1 else np.linalg.solve(matrix, gradient[place])
            except np.linalg.LinAlgError:
                run.finish("stalled", "the Hessian is singular; a line search or a trust region goes on from there")
        theta = theta - solver.step_length * step
        value, gradient = run.evaluate(theta)
        run.report(theta, value, gradient)


def _corrected(
    inverse: Callable[[np.ndarray], np.ndarray], pairs: list[tuple[np.ndarray, np.ndarray, float]], g: np.ndarray
) -> np.ndarray:
    """BFGS's inverse times g, from M⁻¹ and the pairs since, by the two-loop recursion."""
    q = g.copy()
    parts = []
    for s, y, along in reversed(pairs):
        parts.append(float(np.dot(s, q)) / along)
        q -= parts[-1] * y
    q = inverse(q)
    for (s, y, along), part in zip(pairs, reversed(parts), strict=True):
        q += (part - float(np.dot(y, q)) / along) * s
    return q


def _report(solver: Newton, run: Run, theta: np.ndarray, value: float, gradient: np.ndarray, damping: float) -> Located:
    """Record an iteration; where the gradient is small, end the run, or give a point that lies below the saddle."""
    small = float(np.linalg.norm(gradient)) <= run.tol
    if not (small and solver.escape and solver.matrix == "full" and solver.globalization is not None):
        run.report(theta, value, gradient, damping=damping)
        return theta, value, gradient
    below = _escape(solver._model(run.objective, theta), run, theta, value, gradient)
    run.report(theta, value, gradient, damping=damping, final=below is None)
    assert below is not None
    return below


def _escape(model: QuadraticModel, run: Run, theta: np.ndarray, value: float, gradient: np.ndarray) -> Located | None:
    """A lower point along the lowest eigenvector, if the curvature there is negative beyond rounding."""
    lowest, vector = model.lowest()
    if lowest >= -1e-8 * max(model.scale, 1e-300):
        return None
    if float(np.dot(vector, gradient)) > 0.0:
        vector = -vector
    length, best = 1.0, None
    for _ in range(40):  # f falls as ½ λ t² for small t; as long as it falls by half of that, take the longest
        candidate = theta + length * vector
        found, slope = run.evaluate(candidate)
        if (
            math.isfinite(found)
            and found <= value + 0.25 * lowest * length**2
            and not run.negligible(value, value - found)
        ):
            best = candidate, found, slope
            break
        length *= 0.5
    return best
