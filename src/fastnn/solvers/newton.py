"""Newton's method with exact Hessians, whole, by layers, or their diagonals; cubic regularisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..checks import check_integer
from ..curvature.blocks import _blocks, _diagonal
from ..objective import Objective
from .model import BlockModel, Model, SpectralModel, model
from .run import FullBatchSolver, Run

__all__ = ["ARC", "Newton"]


@dataclass(frozen=True)
class _HessianSolver(FullBatchSolver):
    """What the solvers with a whole Hessian share."""

    max_parameters: int = field(default=5000, kw_only=True)

    second_order: ClassVar[bool] = True
    double: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "max_parameters", check_integer("max_parameters", self.max_parameters))

    def _check_size(self, objective: Objective, instead: str) -> None:
        P = objective.n_parameters
        if self.max_parameters < P:
            raise ValueError(
                f"{type(self).__name__}: a network of {P:,} parameters has a Hessian of {8 * P * P:,} bytes, "
                f"max_parameters is {self.max_parameters:,}; {instead}"
            )


@dataclass(frozen=True)
class Newton(_HessianSolver):
    """Newton's method: steps by an exact Hessian H, made positive definite where it is not.

    An iteration computes H once. With ``globalization="line_search"`` it then goes along −M⁻¹ g by a strong Wolfe line
    search, `updates` times, M being H made positive definite and after each step corrected by a BFGS update with what
    the gradients tell of the curvature there::

        up to 600 parameters, and diagonals:       M = Q max(|Λ|, damping) Qᵀ,  H = Q Λ Qᵀ;  M = H where Λ > 0
        beyond, for a whole H or a block:          M = H + τ I, τ = 0 or about as small as makes it definite

    With ``globalization="trust_region"`` a step is the minimum of the quadratic model within a radius (Moré and
    Sorensen 1983), negative curvature included; the radius follows the ratio of the real to the promised decrease.

    At a point with ‖g‖ ≤ tol the lowest eigenvalue of H decides: where it is negative, the point is a saddle, and the
    method leaves it along that eigenvector.

    Parameters
    ----------
    matrix : {"full", "block", "diagonal"}, default="full"
        H whole; its diagonal blocks of each layer (weights and biases); its diagonal. All are exact. The last two take
        any number of parameters, as far as blocks have memory, but do not look for saddles.
    globalization : {"line_search", "trust_region"}, default="line_search"
    updates : int, default=20
        Steps of an iteration, at least 1; 1 is Newton's method proper. Only with a line search.
    damping : float, default=1e-4
        Least eigenvalue of M, relative to the largest of |H|; above 0.
    radius : float, default=1.0
        Of the trust region at the start.
    escape : bool, default=True
        Whether saddles are left. Costs one eigenvalue at the end.
    max_parameters : int, default=5000
        Of ``matrix="full"``: more are refused.
    max_iter, tol, dtype
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

    Seed 000 inverts indefinite matrices that are not second derivatives either, without damping or line search, and
    does not learn; its networks do with all three matrices of this class.
    """

    matrix: str = field(default="full", kw_only=True)
    globalization: str = field(default="line_search", kw_only=True)
    updates: int = field(default=20, kw_only=True)
    damping: float = field(default=1e-4, kw_only=True)
    radius: float = field(default=1.0, kw_only=True)
    escape: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("matrix", ("full", "block", "diagonal"))
        self._choice("globalization", ("line_search", "trust_region"))
        object.__setattr__(self, "updates", check_integer("updates", self.updates))
        self._number("damping", above=0.0, below=1.0)
        self._number("radius", above=0.0)
        if not isinstance(self.escape, bool):
            raise TypeError(f"escape must be True or False, got {self.escape!r}")

    def _check(self, objective: Objective) -> None:
        if self.matrix == "full":
            self._check_size(objective, "use matrix='block', GaussNewtonCG or LBFGS")

    def _model(self, objective: Objective, theta: np.ndarray, shift: float = 0.0) -> Any:
        if self.matrix == "full":
            return model(objective.hessian(theta), shift)
        objective.evaluations.matrix += 1
        problem, n = objective._at(theta), objective.n_parameters
        if self.matrix == "diagonal":
            return SpectralModel([(slice(0, n), _diagonal(problem, "hessian").astype(np.float64))], n)
        blocks = _blocks(problem, "hessian", None, "use matrix='diagonal', GaussNewtonCG or LBFGS")
        places = [(problem.place(i), block.astype(np.float64)) for i, block in blocks.items()]
        return BlockModel(places, shift) if self.globalization == "line_search" else SpectralModel(places, n)

    def _solve(self, run: Run) -> NoReturn:
        if self.globalization == "line_search":
            _by_line_search(self, run)
        _by_regions(self, run)


def _by_line_search(solver: Newton, run: Run) -> NoReturn:
    theta, value, gradient = _begin(solver, run)
    shift = 0.0
    while True:
        current = solver._model(run.objective, theta, shift)
        inverse, shift = current.inverse(solver.damping * max(current.scale, 1e-300))
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


def _begin(solver: Newton, run: Run) -> tuple[np.ndarray, float, np.ndarray]:
    """Record the start; leave it if it is a saddle."""
    theta = run.theta
    value, gradient = run.evaluate(theta)
    return _report(solver, run, theta, value, gradient, math.nan)


def _report(
    solver: Newton, run: Run, theta: np.ndarray, value: float, gradient: np.ndarray, damping: float
) -> tuple[np.ndarray, float, np.ndarray]:
    """Record an iteration; where the gradient is small, end the run, or give a point that lies below the saddle."""
    small = float(np.linalg.norm(gradient)) <= run.tol
    if not (small and solver.escape and solver.matrix == "full"):
        run.report(theta, value, gradient, damping=damping)
        return theta, value, gradient
    below = _escape(solver._model(run.objective, theta), run, theta, value, gradient)
    run.report(theta, value, gradient, damping=damping, final=below is None)
    assert below is not None
    return below


def _escape(
    current: Model, run: Run, theta: np.ndarray, value: float, gradient: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """A lower point along the lowest eigenvector, if the curvature there is negative beyond rounding."""
    lowest, vector = current.lowest()
    if lowest >= -1e-8 * max(current.scale, 1e-300):
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


@dataclass(frozen=True)
class ARC(_HessianSolver):
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
    max_iter, tol, dtype
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

    def _check(self, objective: Objective) -> None:
        self._check_size(objective, "use GaussNewtonCG or LBFGS")

    def _solve(self, run: Run) -> NoReturn:
        _by_regions(self, run)


def _by_regions(solver: Newton | ARC, run: Run) -> NoReturn:
    """Steps of a trust region's or a cubic model, its size fitted to how well the model has done."""
    cubic = isinstance(solver, ARC)
    size = solver.sigma if isinstance(solver, ARC) else solver.radius
    if isinstance(solver, Newton):
        theta, value, gradient = _begin(solver, run)
    else:
        theta, value, gradient = run.begin()
    mu = 0.0
    while True:
        if isinstance(solver, Newton):
            current = solver._model(run.objective, theta)
        else:
            current = model(run.objective.hessian(theta))
        rejected = 0
        while True:
            p, mu = current.cubic_step(gradient, size, mu) if cubic else current.trust_step(gradient, size, mu)
            length = float(np.linalg.norm(p))
            gain = -float(np.dot(gradient, p)) - 0.5 * current.quadratic(p)
            if cubic:
                gain -= size / 3.0 * length**3
            candidate = theta + p
            found, slope = run.evaluate(candidate)
            if run.negligible(value, gain):  # values no longer tell: the gradient does
                better = float(np.linalg.norm(slope)) < float(np.linalg.norm(gradient)) and math.isfinite(found)
                ratio = 1.0 if better else -1.0
            else:
                ratio = (value - found) / gain if math.isfinite(found) else -1.0
            if cubic:
                size = size / 3.0 if ratio > 0.9 else 2.0 * size if ratio < 0.1 else size
            elif ratio < 0.25:
                size = 0.25 * length
            elif ratio > 0.75 and length > 0.85 * size:
                size *= 2.0
            if ratio > 1e-4:
                break
            rejected += 1
            if rejected > 60 or length <= 1e-15 * (1.0 + float(np.linalg.norm(theta))):
                run.give_up(value, gain)
        theta, value, gradient = candidate, found, slope
        if isinstance(solver, Newton):
            theta, value, gradient = _report(solver, run, theta, value, gradient, mu)
        else:
            run.report(theta, value, gradient, damping=mu)
