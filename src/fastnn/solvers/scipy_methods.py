"""Newton-CG and trust-region methods of SciPy, watched over as every solver is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from .._typing import Options
from ..names import explained
from .base import FullBatchSolver, Run

__all__ = ["NewtonCG", "TrustRegion"]

EXACT_LIMIT = 500  # parameters up to which TrustRegion takes the whole Hessian
REJECTED = 20  # steps that a trust region may refuse in a row: its radius is 4⁻²⁰ of what it was


@dataclass(frozen=True)
class _SciPySolver(FullBatchSolver):
    second_order: ClassVar[bool] = True
    double: ClassVar[bool] = True

    def _minimize(self, run: Run, method: str, **options: Any) -> NoReturn:
        theta, value, gradient = run.begin()
        run.remember(theta, value, gradient)
        refused = 0

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = run.evaluate(x)
            run.remember(x, value, gradient)
            return value if math.isfinite(value) else math.inf, gradient

        def callback(intermediate_result: OptimizeResult) -> None:
            nonlocal refused
            x = np.array(intermediate_result.x)
            value, gradient = evaluate(x)
            assert run.last is not None
            refused = refused + 1 if np.array_equal(x, run.last.theta) else 0
            run.report(x, value, gradient)
            if refused >= REJECTED:
                run.finish("precision")

        objective = run.objective
        derivative = {"hess": objective.hessian} if method == "trust-exact" else {"hessp": objective.hessp}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's own, on what the status says
            result = minimize(
                evaluate,
                run.theta,
                jac=True,
                method=method,
                callback=callback,
                options={"maxiter": 2**31 - 1, **options},
                **derivative,
            )
        assert run.last is not None
        value, gradient = evaluate(run.last.theta)
        step = run.history["step"][-1]
        if run.negligible(value, float(np.linalg.norm(gradient)) * step):
            run.give_up(value, 0.0)
        run.finish("stalled", f"SciPy's {method} ended: {result.message}")


@explained
@dataclass(frozen=True)
class NewtonCG(_SciPySolver):
    """SciPy's ``Newton-CG``: line searches along directions that conjugate gradients find from exact H v products.

    Parameters
    ----------
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the network has no curvature.

    Notes
    -----
    Nocedal and Wright 2006, algorithm 7.1: CG stops where the curvature is negative.
    """

    def _solve(self, run: Run) -> NoReturn:
        self._minimize(run, "Newton-CG", xtol=0.0)


@explained
@dataclass(frozen=True)
class TrustRegion(_SciPySolver):
    """SciPy's trust-region Newton methods on exact curvature.

    Parameters
    ----------
    method : {"auto", "exact", "krylov", "ncg"}, default="auto"
        "exact" (``trust-exact``) solves each subproblem with the whole Hessian, "krylov" (``trust-krylov``) nearly
        exactly with products, "ncg" (``trust-ncg``) by Steihaug's truncated CG. "auto" is "exact" up to 500 parameters
        and "ncg" beyond: "krylov" tends to end with ‖g‖ about 1e-7, its model seeing no improvement any more.
    radius : float, default=1.0
        At the start.
    max_radius : float, default=1000.0
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`. An iteration whose step is refused counts.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the network has no curvature.

    Notes
    -----
    Conn, Gould and Toint 2000; Gould, Lucidi, Roma and Toint 1999; Steihaug 1983.
    """

    method: str = field(default="auto", kw_only=True)
    radius: float = field(default=1.0, kw_only=True)
    max_radius: float = field(default=1000.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("method", ("auto", "exact", "krylov", "ncg"))
        self._number("radius", above=0.0)
        self._number("max_radius", above=self.radius)

    def _solve(self, run: Run) -> NoReturn:
        method = self.method
        if method == "auto":
            method = "exact" if run.objective.n_parameters <= EXACT_LIMIT else "ncg"
        options: Options = {"initial_trust_radius": self.radius, "max_trust_radius": self.max_radius}
        if method == "krylov":
            options["inexact"] = True
        self._minimize(run, f"trust-{method}", gtol=0.0, **options)
