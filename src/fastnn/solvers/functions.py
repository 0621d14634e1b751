"""The solvers on any smooth function: fnn.minimize, and the line search by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .._typing import ArrayLike
from ..checks import check_integer, check_number
from ..names import suggestion
from ..objective import Evaluations
from .base import FullBatchSolver, Iteration, SolverResult
from .cubic import ARC
from .gradient import LBFGS, GradientDescent, NonlinearCG
from .line_search import Point, search
from .newton import Newton
from .scipy_methods import NewtonCG, TrustRegion

__all__ = ["METHODS", "minimize", "wolfe_search"]

#: Solvers that ask for nothing but the function and its derivatives.
METHODS: dict[str, type[FullBatchSolver]] = {
    "arc": ARC,
    "gradient_descent": GradientDescent,
    "lbfgs": LBFGS,
    "newton": Newton,
    "newton_cg": NewtonCG,
    "nonlinear_cg": NonlinearCG,
    "trust_region": TrustRegion,
}
#: Names that others have for them.
OTHERS = {"bfgs": "lbfgs", "l-bfgs-b": "lbfgs", "cg": "nonlinear_cg", "sgd": "gradient_descent"}

Function = Callable[[np.ndarray], Any]
Product = Callable[[np.ndarray, np.ndarray], Any]


class _Function:
    """A function with its derivatives, as solvers want it (a SmoothFunction), in float64."""

    def __init__(
        self,
        function: Function,
        n_parameters: int,
        gradient: Function | Literal[True] | None,
        hessian: Function | None,
        hessp: Product | None,
    ) -> None:
        self.function, self.derivative = function, gradient
        self.second, self.product = hessian, hessp
        self.n_parameters, self.dtype = n_parameters, np.dtype(np.float64)
        self.evaluations = Evaluations()

    def check_theta(self, theta: np.ndarray) -> np.ndarray:
        theta = np.asarray(theta, dtype=np.float64)
        if theta.shape != (self.n_parameters,):
            raise ValueError(f"theta: expected shape ({self.n_parameters},), got {theta.shape}")
        return theta

    def value(self, theta: np.ndarray) -> float:
        """Value alone."""
        self.evaluations.value += 1
        found = self.function(theta.copy())
        return _scalar(found[0] if self.derivative is True else found)

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        theta = self.check_theta(theta)
        if self.derivative is True:
            self.evaluations.value += 1
            self.evaluations.gradient += 1
            found = self.function(theta.copy())
            if not isinstance(found, tuple) or len(found) != 2:
                raise TypeError(
                    f"fun: expected a tuple of value and gradient, as gradient=True says, got {type(found).__name__}"
                )
            return _scalar(found[0]), self._array("gradient", found[1], (self.n_parameters,))
        value = self.value(theta)
        if self.derivative is None:
            return value, self._differences(theta)
        self.evaluations.gradient += 1
        return value, self._array("gradient", self.derivative(theta.copy()), (self.n_parameters,))

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        theta, P = self.check_theta(theta), self.n_parameters
        if self.second is not None:
            self.evaluations.matrix += 1
            H = self._array("hessian", self.second(theta.copy()), (P, P))
        elif self.product is not None:
            H = np.array([self.hessp(theta, unit) for unit in np.eye(P)])
        else:
            H = self._gradient_differences(theta)
        return np.asarray(0.5 * (H + H.T))

    def hessp(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        if self.product is not None:
            self.evaluations.product += 1
            return self._array("hessp", self.product(theta.copy(), v.copy()), (self.n_parameters,))
        if self.second is not None:
            return np.asarray(self.hessian(theta) @ v)
        length = float(np.linalg.norm(v))
        if length == 0.0:
            return np.zeros_like(v)
        step = np.finfo(np.float64).eps ** (1 / 3) * max(1.0, float(np.linalg.norm(theta))) / length
        ahead, behind = (self.value_and_gradient(theta + sign * step * v)[1] for sign in (1.0, -1.0))
        return np.asarray((ahead - behind) / (2.0 * step))

    def _differences(self, theta: np.ndarray) -> np.ndarray:
        """Central differences, whose error is about eps^(2/3) of f's scale."""
        steps = np.finfo(np.float64).eps ** (1 / 3) * np.maximum(1.0, np.abs(theta))
        gradient = np.empty_like(theta)
        for i, step in enumerate(steps):
            ahead, behind = theta.copy(), theta.copy()
            ahead[i] += step
            behind[i] -= step
            gradient[i] = (self.value(ahead) - self.value(behind)) / (ahead[i] - behind[i])
        return gradient

    def _gradient_differences(self, theta: np.ndarray) -> np.ndarray:
        """The Hessian by central differences of the gradient."""
        steps = np.finfo(np.float64).eps ** (1 / 3) * np.maximum(1.0, np.abs(theta))
        H = np.empty((self.n_parameters, self.n_parameters))
        for i, step in enumerate(steps):
            ahead, behind = theta.copy(), theta.copy()
            ahead[i] += step
            behind[i] -= step
            difference = self.value_and_gradient(ahead)[1] - self.value_and_gradient(behind)[1]
            H[i] = difference / (ahead[i] - behind[i])
        return H

    def _array(self, what: str, found: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = np.asarray(found)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{what}: expected real numbers, got dtype {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"{what}: expected shape {shape}, got {array.shape}")
        return array.astype(np.float64)


def minimize(
    fun: Function,
    x0: ArrayLike,
    *,
    gradient: Function | bool | None = None,
    hessian: Function | None = None,
    hessp: Product | None = None,
    method: str | FullBatchSolver = "lbfgs",
    callback: Callable[[Iteration], object] | None = None,
    **options: Any,
) -> SolverResult:
    """Minimise a smooth function of a vector with any of the solvers.

    Parameters
    ----------
    fun : callable
        θ (P,) -> f(θ), a number; with ``gradient=True`` a tuple (f, ∂f/∂θ). It may give inf or NaN where f is not
        defined: such a point is too far.
    x0 : array_like (P,)
        The start.
    gradient : callable or True, optional
        θ -> ∂f/∂θ (P,). None: central differences, 2 P values, which are exact to about ten digits.
    hessian : callable, optional
        θ -> ∂²f/∂θ² (P, P). None: from `hessp`, or by central differences of the gradient, 2 P gradients.
    hessp : callable, optional
        (θ, v) -> ∂²f/∂θ² v (P,). None: from `hessian`, or by central differences, two gradients.
    method : str or solver, default="lbfgs"
        "gradient_descent", "nonlinear_cg", "lbfgs", "newton_cg", "trust_region", "newton" or "arc"; or one of
        :mod:`fastnn.solvers`, such as ``fnn.Newton(globalization=None)``.
    callback : callable, optional
        Called with an :class:`~fastnn.solvers.Iteration` at the start and after each iteration; StopIteration ends the
        run.
    **options
        Of the solver, where `method` is a name: ``max_iter``, ``tol``, ``ftol``, ``memory``, ….

    Returns
    -------
    SolverResult
        With ``theta``, ``value``, ``status``, ``history`` and the counts of ``evaluations``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or `fun` or a derivative returns something else than it should.
    ArithmeticError
        If value or gradient is not finite at the start.

    Examples
    --------
    >>> import fastnn as fnn
    >>> from scipy.optimize import rosen, rosen_der, rosen_hess
    >>> found = fnn.minimize(rosen, [-1.2, 1.0], gradient=rosen_der, hessian=rosen_hess, method="newton", tol=1e-9)
    >>> found.status, found.theta.round(6).tolist()
    ('converged', [1.0, 1.0])
    """
    for name, value in (("fun", fun), ("hessian", hessian), ("hessp", hessp)):
        if not callable(value) and (name == "fun" or value is not None):
            raise TypeError(f"{name}: expected a function, got {type(value).__name__}")
    if not (gradient is None or gradient is True or callable(gradient)):
        raise TypeError(f"gradient: expected a function, True or None, got {gradient!r}")
    start = np.array(x0, ndmin=1)
    if start.dtype.kind not in "iuf":
        raise TypeError(f"x0: expected real numbers, got dtype {start.dtype}")
    if start.ndim != 1 or not len(start):
        raise ValueError(f"x0: expected a vector, got shape {np.shape(x0)}")
    start = start.astype(np.float64)
    if not np.isfinite(start).all():
        raise ValueError(f"x0: expected finite values, got {start[~np.isfinite(start)][0]} among them")
    solver = _solver(method, options)
    return solver.minimize(_Function(fun, len(start), gradient, hessian, hessp), start, callback=callback)


def _solver(method: str | FullBatchSolver, options: dict[str, Any]) -> FullBatchSolver:
    if isinstance(method, FullBatchSolver):
        if options:
            raise TypeError(f"{min(options)}: give it to {type(method).__name__}, not to minimize")
        return method
    if not isinstance(method, str):
        raise TypeError(f"method: expected a name or a solver, got {type(method).__name__}")
    if method not in METHODS:
        raise ValueError(
            f"method: expected one of {', '.join(METHODS)}, got {method!r}{suggestion(method, METHODS, OTHERS)}"
        )
    return METHODS[method](**options)


def _scalar(value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"fun: expected a number, got {type(value).__name__} of shape {array.shape}")
    return float(array.reshape(()))


def wolfe_search(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    theta: ArrayLike,
    direction: ArrayLike,
    *,
    step: float = 1.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    noise: float = 0.0,
    max_evaluations: int = 20,
) -> Point | None:
    """Find a step along a direction that meets the strong Wolfe conditions.

    ::

        φ(α) = f(θ + α p)        φ(α) ≤ φ(0) + c₁ α φ'(0)        |φ'(α)| ≤ c₂ |φ'(0)|

    Parameters
    ----------
    value_and_gradient : callable
        θ (P,) -> (f, ∂f/∂θ); for a network ``Objective.value_and_gradient``.
    theta, direction : array_like (P,)
        f must descend along p.
    step : float, default=1.0
        The first α to try.
    decrease, curvature : float
        c₁ and c₂, 0 < c₁ < c₂ < 1.
    noise : float, default=0.0
        Rounding error of a value: where values differ by no more, slopes decide.
    max_evaluations : int, default=20

    Returns
    -------
    Point or None
        ``step`` (α), ``theta``, ``value``, ``gradient``, ``slope``. Where no point met both conditions in time, the
        best that meets the first; None if there is none.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or f does not descend along p.

    Notes
    -----
    Nocedal and Wright 2006, algorithms 3.5 and 3.6; with `noise`, Hager and Zhang 2005, equation 4.1.
    """
    start, p = np.asarray(theta, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    if start.ndim != 1 or start.shape != p.shape:
        raise ValueError(f"direction: expected the shape of theta, {start.shape}, got {p.shape}")
    step = check_number("step", step, above=0.0)
    decrease = check_number("decrease", decrease, above=0.0, below=1.0)
    curvature = check_number("curvature", curvature, above=decrease, below=1.0)
    noise = check_number("noise", noise, minimum=0.0)
    most = check_integer("max_evaluations", max_evaluations)
    value, gradient = value_and_gradient(start.copy())
    slope = float(np.dot(gradient, p))
    if not slope < 0.0:
        raise ValueError(f"direction: expected one along which f descends, got a slope of {slope:.3g}")
    at = Point(0.0, start, float(value), np.asarray(gradient), slope)
    return search(
        value_and_gradient,
        at,
        p,
        step,
        decrease=decrease,
        curvature=curvature,
        noise=noise,
        max_evaluations=most,
    )
