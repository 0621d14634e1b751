"""What all solvers share: their description, the run that watches over them, and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np

from .._core.threads import blas_for_matrices
from ..checks import check_integer, check_number
from ..objective import Evaluations, Objective, SmoothFunction
from ..optimizers import Solver
from .line_search import Point, search

__all__ = ["FullBatchSolver", "HessianSolver", "Iteration", "Run", "SolverResult", "of_network"]

PATIENCE = 10  # iterations that move, but improve neither value nor gradient beyond the noise

MESSAGES = {
    "converged": "the gradient's norm is at most tol",
    "small_change": "the value changed by at most ftol",
    "max_iter": "max_iter iterations are done",
    "stopped": "a callback stopped the run",
    "precision": "what can still be gained is less than the rounding noise of the objective",
    "stalled": "no step along the direction lowers the objective",
    "not_finite": "the objective or its gradient is not finite",
}


@dataclass(frozen=True)
class Iteration:
    """A finished iteration, as callbacks get it.

    Attributes
    ----------
    number : int
        0 is the start.
    theta : ndarray (P,)
        The solver's own array: copy what is to be kept.
    value, gradient_norm : float
        J and ‖∂J/∂θ‖₂ there.
    step : float
        ‖Δθ‖₂ of the iteration; 0 at the start.
    damping : float
        What the solver adds to its curvature, or NaN where it has no such number.
    """

    number: int
    theta: np.ndarray
    value: float
    gradient_norm: float
    step: float
    damping: float


@dataclass(frozen=True, repr=False)
class SolverResult:
    """What a solver has found and how.

    Attributes
    ----------
    theta : ndarray (P,)
        The last finished iteration's.
    value, gradient_norm : float
    status : str
        Why it stopped: ``"converged"`` (by tol), ``"small_change"`` (by ftol), ``"max_iter"``, ``"stopped"`` (by a
        callback), ``"precision"`` (rounding noise), ``"stalled"`` or ``"not_finite"``.
    message : str
        The same in words.
    iterations : int
    history : dict of lists
        ``value``, ``gradient_norm``, ``step`` and ``damping``, with the start as first entry, and ``seconds`` since
        then.
    evaluations : Evaluations
        Of this run.
    """

    theta: np.ndarray = field(repr=False)
    value: float
    gradient_norm: float
    status: str
    message: str
    iterations: int
    history: dict[str, list[float]] = field(repr=False)
    evaluations: Evaluations

    @property
    def converged(self) -> bool:
        """Whether the gradient's norm came to tol, or the value's change to ftol."""
        return self.status in ("converged", "small_change")

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} of the {name}" for name, count in asdict(self.evaluations).items() if count)
        return (
            f"SolverResult({self.status}: {self.message}; {self.iterations:,} iterations, value={self.value:.6g}, "
            f"gradient_norm={self.gradient_norm:.3g}; evaluations: {counts or 'none'})"
        )


class Finished(Exception):
    """Ends a run from within, through SciPy's loops too."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Run:
    """One run of a solver: evaluates, remembers the last evaluations, records iterations, and ends it.

    Parameters
    ----------
    objective : SmoothFunction
    theta : ndarray (P,)
        The start; not changed.
    max_iter : int
    tol, ftol : float
    callback : callable or None
        Of an :class:`Iteration`; StopIteration ends the run.
    dtype : dtype
        Of the solver's vectors.
    """

    def __init__(
        self,
        objective: SmoothFunction,
        theta: np.ndarray,
        max_iter: int,
        tol: float,
        ftol: float,
        callback: Callable[[Iteration], object] | None,
        dtype: np.dtype,
    ) -> None:
        self.objective, self.max_iter, self.callback = objective, max_iter, callback
        self.tol, self.ftol = tol, ftol
        self.last: Iteration | None = None
        self.history: dict[str, list[float]] = {
            name: [] for name in ("value", "gradient_norm", "step", "damping", "seconds")
        }
        self._best = math.inf, math.inf  # value and gradient norm when one of them last improved
        self._waited = 0
        self._memory: list[tuple[np.ndarray, float, np.ndarray]] = []
        self._began = time.perf_counter()
        #: Relative rounding noise of a value: losses of rows are rounded in the objective's dtype, and summed in
        # double.
        self.noise = 4.0 * float(np.finfo(objective.dtype).eps)
        self.theta = np.array(theta, dtype=dtype)

    def begin(self, damping: float = math.nan) -> tuple[np.ndarray, float, np.ndarray]:
        """Evaluate and record the start: theta, value and gradient there."""
        value, gradient = self.evaluate(self.theta)
        self.report(self.theta, value, gradient, damping=damping)
        return self.theta, value, gradient

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; the last two points are remembered, as SciPy's methods ask twice."""
        for known, value, gradient in self._memory:
            if np.array_equal(known, theta):
                return value, gradient
        value, gradient = self.objective.value_and_gradient(theta)
        return value, gradient

    def remember(self, theta: np.ndarray, value: float, gradient: np.ndarray) -> None:
        """Keep a point's value and gradient for :meth:`evaluate`; of these the last two."""
        self._memory = [(theta.copy(), value, gradient), *self._memory[:1]]

    def report(
        self,
        theta: np.ndarray,
        value: float,
        gradient: np.ndarray,
        *,
        damping: float = math.nan,
        final: bool | None = None,
    ) -> None:
        """Record an iteration; ends the run where it is to end. `final` None means: by tol."""
        norm = float(np.linalg.norm(gradient))
        if not (math.isfinite(value) and math.isfinite(norm)):
            self.finish("not_finite")
        before = self.last
        step = 0.0 if before is None else float(np.linalg.norm(theta - before.theta))
        number = 0 if before is None else before.number + 1
        self.last = Iteration(number, theta, value, norm, step, damping)
        for name in ("value", "gradient_norm", "step", "damping"):
            self.history[name].append(getattr(self.last, name))
        self.history["seconds"].append(time.perf_counter() - self._began)
        if self.callback is not None:
            try:
                self.callback(self.last)
            except StopIteration:
                self.finish("stopped")
        if norm <= self.tol if final is None else final:
            self.finish("converged")
        if before is not None and step > 0.0 and final is None and self._changed_little(before.value, value):
            self.finish("small_change")
        if number >= self.max_iter:
            self.finish("max_iter")
        if value < self._best[0] - self.noise * abs(value) or norm < 0.9 * self._best[1]:
            self._best, self._waited = (value, min(norm, self._best[1])), 0
        elif step > 0.0:
            self._waited += 1
            if self._waited >= PATIENCE:
                self.give_up(value, 0.0)

    def _changed_little(self, before: float, value: float) -> bool:
        return abs(before - value) <= self.ftol * max(abs(before), abs(value), 1.0) and self.ftol > 0.0

    def search(
        self,
        theta: np.ndarray,
        value: float,
        gradient: np.ndarray,
        direction: np.ndarray,
        step: float,
        **options: Any,
    ) -> Point | None:
        """Point along a direction that meets the Wolfe conditions, or None."""
        start = Point(0.0, theta, value, gradient, float(np.dot(gradient, direction)))
        return search(self.evaluate, start, direction, step, noise=self.noise * abs(value), **options)

    def negligible(self, value: float, gain: float) -> bool:
        """Whether a decrease that is hoped for would not be seen among the rounding errors of the value."""
        return not gain > self.noise * abs(value)

    def give_up(self, value: float, gain: float) -> NoReturn:
        """End a run that finds no better point, `gain` being what its model had promised."""
        if self.negligible(value, gain):
            hint = " of float32; dtype='float64' goes further" if self.objective.dtype == np.float32 else ""
            self.finish("precision", MESSAGES["precision"] + hint)
        self.finish("stalled")

    def finish(self, status: str, message: str | None = None) -> NoReturn:
        """End the run."""
        raise Finished(status, message or MESSAGES[status])


@dataclass(frozen=True)
class FullBatchSolver(Solver):
    """What every solver offers: :meth:`minimize`, and ``net.fit(X, y, optimizer=solver)``.

    Parameters
    ----------
    max_iter : int, default=100
        Most iterations, at least 1.
    tol : float, default=1e-5
        The run has converged when ‖∂J/∂θ‖₂ ≤ tol.
    ftol : float, default=0.0
        Above 0 it also ends when an iteration has changed the value by at most ftol max(|J|, |J⁺|, 1).
    dtype : {"float32", "float64"} or None, default=None
        In `fit`, of the objective; None is the network's. :meth:`minimize` takes the objective as it is.
    """

    max_iter: int = 100
    tol: float = 1e-5
    ftol: float = field(default=0.0, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)

    second_order: ClassVar[bool] = False  # whether the network must have curvature
    double: ClassVar[bool] = False  # whether the solver's own vectors are always float64
    # Whether its own work is on vectors alone, which are too short for threads of BLAS to pay; so are small matrices.
    # With threads=1 there are none either way.
    vectors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_iter", check_integer("max_iter", self.max_iter))
        self._number("tol", minimum=0.0)
        self._number("ftol", minimum=0.0)
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {self.dtype!r}")

    def _number(self, name: str, **bounds: float) -> None:
        object.__setattr__(self, name, check_number(name, getattr(self, name), **bounds))

    def _choice(self, name: str, choices: tuple[object, ...]) -> None:
        value = getattr(self, name)
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

    def minimize(
        self, objective: SmoothFunction, theta: np.ndarray, *, callback: Callable[[Iteration], object] | None = None
    ) -> SolverResult:
        """Minimise an objective from a start.

        Parameters
        ----------
        objective : Objective or SmoothFunction
        theta : ndarray (P,)
            The start; it is not changed.
        callback : callable, optional
            Called with an :class:`Iteration` at the start and after each iteration; StopIteration ends the run.

        Returns
        -------
        SolverResult

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or the solver cannot take this objective.
        ArithmeticError
            If value or gradient is not finite at the start.
        """
        if not isinstance(objective, SmoothFunction):
            raise TypeError(
                f"objective must be an Objective, got {type(objective).__name__}, which is no fastnn.solvers."
                "SmoothFunction either; fnn.minimize takes a function"
            )
        theta = objective.check_theta(theta)
        self._check(objective)
        dtype = np.dtype(np.float64) if self.double else objective.dtype
        run = Run(objective, theta, self.max_iter, self.tol, self.ftol, callback, dtype)
        before = Evaluations(**vars(objective.evaluations))
        try:
            order = 1 if self.vectors else objective.n_parameters
            threads = objective.threads if isinstance(objective, Objective) else None
            with blas_for_matrices(order, threads), np.errstate(over="ignore", invalid="ignore"):
                self._solve(run)
        except Finished as finished:
            status, message = finished.status, finished.message
        last = run.last
        if last is None:
            raise ArithmeticError("the objective or its gradient is not finite at the start")
        spent = {name: count - getattr(before, name) for name, count in vars(objective.evaluations).items()}
        return SolverResult(
            last.theta,
            last.value,
            last.gradient_norm,
            status,
            message,
            last.number,
            run.history,
            Evaluations(**spent),
        )

    def _check(self, objective: SmoothFunction) -> None:
        """Refuse an objective that the solver cannot take."""

    def _solve(self, run: Run) -> NoReturn:
        """Begin the run and go on until it finishes."""
        raise NotImplementedError


@dataclass(frozen=True)
class HessianSolver(FullBatchSolver):
    """What solvers with an exact Hessian share: a limit of its size, and evaluation in float64."""

    max_parameters: int = field(default=5000, kw_only=True)

    second_order: ClassVar[bool] = True
    double: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "max_parameters", check_integer("max_parameters", self.max_parameters))

    def _check_size(self, objective: SmoothFunction, instead: str) -> None:
        """Refuse a whole Hessian of more than `max_parameters`."""
        P = objective.n_parameters
        if self.max_parameters < P:
            raise ValueError(
                f"{type(self).__name__}: a function of {P:,} parameters has a Hessian of {8 * P * P:,} bytes, "
                f"max_parameters is {self.max_parameters:,}; {instead}"
            )


def of_network(objective: SmoothFunction, what: str) -> Objective:
    """The objective, if it is one of a network; else a TypeError that says what needs one."""
    if not isinstance(objective, Objective):
        raise TypeError(f"{what} needs the Objective of a network, got {type(objective).__name__}")
    return objective
