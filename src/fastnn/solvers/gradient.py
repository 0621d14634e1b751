"""Solvers that need gradients alone: gradient descent, non-linear conjugate gradients, L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import numpy as np
from scipy.linalg import get_blas_funcs

from ..checks import check_integer
from ..names import explained
from .base import FullBatchSolver, Run

__all__ = ["LBFGS", "GradientDescent", "NonlinearCG"]


@dataclass(frozen=True)
class _GradientSolver(FullBatchSolver):
    vectors: ClassVar[bool] = True


@explained
@dataclass(frozen=True)
class GradientDescent(_GradientSolver):
    """Steepest descent, θ ← θ − α ∂J/∂θ.

    Parameters
    ----------
    line_search : {"wolfe", None}, default="wolfe"
        How α is found: by the strong Wolfe conditions, starting from α of the iteration before times the ratio of the
        slopes; None takes `learning_rate` as it is.
    learning_rate : float, default=0.1
        α without a line search, above 0.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    Nocedal and Wright 2006, sections 3.1 and 3.5.
    """

    line_search: str | None = field(default="wolfe", kw_only=True)
    learning_rate: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("line_search", ("wolfe", None))
        self._number("learning_rate", above=0.0)

    def _solve(self, run: Run) -> NoReturn:
        theta, value, gradient = run.begin()
        guess = 0.0
        while True:
            square = float(np.dot(gradient, gradient))
            if self.line_search is None:
                theta = theta - theta.dtype.type(self.learning_rate) * gradient
                value, gradient = run.evaluate(theta)
            else:
                guess = guess / square if guess else min(1.0, square**-0.5)
                point = run.search(theta, value, gradient, -gradient, guess, curvature=0.4)
                if point is None:
                    run.give_up(value, 0.5 * guess * square)
                guess = point.step * square
                theta, value, gradient = point.theta, point.value, point.gradient
            run.report(theta, value, gradient)


@explained
@dataclass(frozen=True)
class NonlinearCG(_GradientSolver):
    """Non-linear conjugate gradients, p⁺ = −g⁺ + β p, with a strong Wolfe line search.

    With y = g⁺ − g::

        dai_kou            β = max((y − p y·y / p·y)·g⁺ / p·y, ½ p·g⁺ / p·p)
        polak_ribiere      β = max(0, g⁺·y / g·g)
        fletcher_reeves    β = g⁺·g⁺ / g·g
        hager_zhang        β = max((y − 2 p y·y / p·y)·g⁺ / p·y, −1 / (‖p‖ min(0.01, ‖g‖)))

    Where a direction does not descend the method starts again from −g.

    Parameters
    ----------
    formula : {"dai_kou", "polak_ribiere", "fletcher_reeves", "hager_zhang"}, default="dai_kou"
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    Dai and Kou 2013: of all −g⁺ + β p the one nearest to a self-scaled memoryless BFGS step, bounded from below so
    that it descends whatever the line search. So |φ'(α)| ≤ 0.7 |φ'(0)| is enough for it, and its first α is a mean of
    two, a^⅔ b^⅓: a is the last α times the ratio of the slopes (Nocedal and Wright 2006, section 3.5), and b
    −p·g / p·B p, B being the BFGS update of (y·y / s·y) I by the last s = α p and y (equation 6.19). The others need
    0.4 and begin at a. On MNIST and digits an iteration takes 1.0 to 1.15 gradients, with the other formulas 1.4 to
    1.55; on tiny tanh networks, where lines bend more, 1.4 to 1.5 and 1.6 to 1.9.

    Nocedal and Wright, section 5.2 (PR+: equation 5.45); Hager and Zhang 2005. SciPy's ``method="CG"`` is PR+ too; it
    takes its vectors in float64 whatever the network, which a float32 network need not pay for.
    """

    formula: str = field(default="dai_kou", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("formula", ("dai_kou", "polak_ribiere", "fletcher_reeves", "hager_zhang"))

    def _solve(self, run: Run) -> NoReturn:
        theta, value, gradient = run.begin()
        direction = -gradient
        slope = -float(np.dot(gradient, gradient))
        guess = min(1.0, (-slope) ** -0.5)
        fresh = True
        modelled = self.formula == "dai_kou"
        while True:
            point = run.search(theta, value, gradient, direction, guess, curvature=0.7 if modelled else 0.4)
            if point is None:
                if fresh:
                    run.give_up(value, -0.5 * guess * slope)
                direction, fresh = -gradient, True
                slope = -float(np.dot(gradient, gradient))
                guess = min(1.0, (-slope) ** -0.5)
                continue
            change, last, before = point.gradient - gradient, direction, slope
            beta = self._beta(point.gradient, gradient, change, direction)
            theta, value, gradient = point.theta, point.value, point.gradient
            direction = direction.dtype.type(beta) * direction - gradient
            slope = float(np.dot(gradient, direction))
            fresh = not slope < 0.0
            if fresh:
                direction, slope = -gradient, -float(np.dot(gradient, gradient))
            run.report(theta, value, gradient)
            longer = before / slope
            if modelled:
                longer = longer ** (2 / 3) * _model_step(last, change, direction, slope, longer) ** (1 / 3)
            guess = point.step * min(10.0, longer)

    def _beta(self, new: np.ndarray, old: np.ndarray, change: np.ndarray, direction: np.ndarray) -> float:
        square = float(np.dot(old, old))
        if self.formula == "fletcher_reeves":
            return float(np.dot(new, new)) / square
        if self.formula == "polak_ribiere":
            return max(0.0, float(np.dot(new, change)) / square)
        along = float(np.dot(direction, change))
        if along <= 0.0:
            return 0.0
        slope, bend = float(np.dot(direction, new)), float(np.dot(change, change)) / along
        if self.formula == "dai_kou":
            beta = (float(np.dot(change, new)) - bend * slope) / along
            return max(beta, 0.5 * slope / float(np.dot(direction, direction)))
        beta = (float(np.dot(change, new)) - 2.0 * bend * slope) / along
        bound: float = -1.0 / (float(np.linalg.norm(direction)) * min(0.01, square**0.5))
        return max(beta, bound)


def _model_step(last: np.ndarray, change: np.ndarray, direction: np.ndarray, slope: float, other: float) -> float:
    """−p·g / p·B p for p = `direction` as a multiple of the last α, or `other` where B is not positive definite.

    B = (y·y / s·y) (I − s sᵀ / s·s) + y yᵀ / s·y, with y = `change` and s = α `last`.
    """
    along = float(np.dot(last, change))
    across = float(np.dot(direction, direction)) - float(np.dot(last, direction)) ** 2 / float(np.dot(last, last))
    bend = float(np.dot(change, change)) * max(across, 0.0) + float(np.dot(change, direction)) ** 2
    return -slope * along / bend if along > 0.0 and bend > 0.0 else other


@explained
@dataclass(frozen=True)
class LBFGS(_GradientSolver):
    """Limited-memory BFGS with a strong Wolfe line search.

    p = −H g, where H is the BFGS approximation of the inverse Hessian from the last `memory` pairs
    s = θ⁺ − θ, y = g⁺ − g and the start s·y / y·y of the newest one.

    Parameters
    ----------
    memory : int, default=10
        Pairs, at least 1; they take 2 · memory vectors of the network's dtype.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    Nocedal and Wright 2006, algorithms 7.4 and 7.5. On 784-300-10 with 60,000 rows it adds one per cent to the time of
    the gradients, with vectors in float32 and in one thread; SciPy's L-BFGS-B, which also handles bounds, has float64
    vectors, needs more gradients, and took 1.5 gradients' time per iteration on two threads.
    """

    memory: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "memory", check_integer("memory", self.memory))

    def _solve(self, run: Run) -> NoReturn:
        theta, value, gradient = run.begin()
        pairs = _Pairs(self.memory, theta)
        while True:
            direction = pairs.direction(gradient)
            slope = float(np.dot(gradient, direction))
            if not slope < 0.0:
                pairs.count = 0
                continue
            guess = 1.0 if pairs.count else min(1.0, (-slope) ** -0.5)
            point = run.search(theta, value, gradient, direction, guess)
            if point is None:
                if not pairs.count:
                    run.give_up(value, -0.5 * guess * slope)
                pairs.count = 0  # once more, along the gradient
                continue
            pairs.add(point.theta, theta, point.gradient, gradient)
            theta, value, gradient = point.theta, point.value, point.gradient
            run.report(theta, value, gradient)


class _Pairs:
    """The last steps and changes of the gradient, in memory that is used in turns."""

    def __init__(self, size: int, theta: np.ndarray) -> None:
        self.S, self.Y = np.empty((size, len(theta)), theta.dtype), np.empty((size, len(theta)), theta.dtype)
        self.rho = np.empty(size)
        self.count = self.next = 0
        self._axpy, self._dot = get_blas_funcs(("axpy", "dot"), (theta,))

    def add(self, theta: np.ndarray, before: np.ndarray, gradient: np.ndarray, gradient_before: np.ndarray) -> None:
        s, y = self.S[self.next], self.Y[self.next]
        np.subtract(theta, before, out=s)
        np.subtract(gradient, gradient_before, out=y)
        along = float(self._dot(s, y))
        if not along > np.finfo(s.dtype).eps * float(np.linalg.norm(s)) * float(np.linalg.norm(y)):
            return  # the curvature along s is not positive: H would no longer be
        self.rho[self.next] = 1.0 / along
        self.next = (self.next + 1) % len(self.S)
        self.count = min(self.count + 1, len(self.S))

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        """−H g by the two-loop recursion."""
        p = -gradient
        newest_first = [(self.next - 1 - k) % len(self.S) for k in range(self.count)]
        alphas = []
        for i in newest_first:
            alphas.append(self.rho[i] * float(self._dot(self.S[i], p)))
            p = self._axpy(self.Y[i], p, a=-alphas[-1])
        if newest_first:
            i = newest_first[0]
            p *= p.dtype.type(1.0 / (self.rho[i] * float(self._dot(self.Y[i], self.Y[i]))))
        for i, alpha in zip(reversed(newest_first), reversed(alphas), strict=True):
            p = self._axpy(self.S[i], p, a=alpha - self.rho[i] * float(self._dot(self.Y[i], p)))
        return p
