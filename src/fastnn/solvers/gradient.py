"""Solvers that need gradients alone: gradient descent, non-linear conjugate gradients, L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, NoReturn

import numpy as np
from scipy.linalg import get_blas_funcs

from ..checks import check_integer
from ..names import explained
from ..objective import SmoothFunction
from .base import FullBatchSolver, Run
from .preconditioning import Metric, PreconditionerLike, check_preconditioner

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


@dataclass(frozen=True)
class _PreconditionedSolver(_GradientSolver):
    preconditioner: PreconditionerLike = field(default=None, kw_only=True)
    refresh: int | None = field(default=None, kw_only=True)
    damping: float = field(default=1e-3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        refresh, damping = check_preconditioner(self.preconditioner, self.refresh, self.damping)
        object.__setattr__(self, "refresh", refresh)
        object.__setattr__(self, "damping", damping)

    def _check(self, objective: SmoothFunction) -> None:
        Metric.check(self.preconditioner, objective, type(self).__name__)

    def _metric(self, run: Run) -> Metric | None:
        if self.preconditioner is None:
            return None
        return Metric(self.preconditioner, self.refresh, self.damping, run.objective)


@explained
@dataclass(frozen=True)
class NonlinearCG(_PreconditionedSolver):
    """Non-linear conjugate gradients, p⁺ = −g⁺ + β p, with a strong Wolfe line search.

    With y = g⁺ − g::

        dai_kou            β = max((y − p y·y / p·y)·g⁺ / p·y, ½ p·g⁺ / p·p)
        polak_ribiere      β = max(0, g⁺·y / g·g)
        fletcher_reeves    β = g⁺·g⁺ / g·g
        hager_zhang        β = max((y − 2 p y·y / p·y)·g⁺ / p·y, −1 / (‖p‖ min(0.01, ‖g‖)))

    Where a direction does not descend the method starts again from −g. With a preconditioner M the same is done in the
    coordinates M^½ θ: p⁺ = −M⁻¹ g⁺ + β p, products of gradients are a·M⁻¹ b, those of directions a·M b.

    Parameters
    ----------
    formula : {"dai_kou", "polak_ribiere", "fletcher_reeves", "hager_zhang"}, default="dai_kou"
    preconditioner, refresh, damping
        As for :class:`LBFGS`. Where M is made anew, the method starts again from −M⁻¹ g.
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
        metric, modelled = self._metric(run), self.formula == "dai_kou"
        if metric is not None:
            metric.move(theta, gradient)
        line = _Line.down(gradient, metric)
        guess, fresh = line.first_step(metric), True
        while True:
            point = run.search(theta, value, gradient, line.p, guess, curvature=0.7 if modelled else 0.4)
            if point is None:
                if fresh:
                    run.give_up(value, -0.5 * guess * line.slope)
                line = _Line.down(gradient, metric)
                guess, fresh = line.first_step(metric), True
                continue
            last, change = line, point.gradient - gradient
            theta, value, gradient = point.theta, point.value, point.gradient
            run.report(theta, value, gradient)
            anew = metric is not None and metric.move(theta, gradient)
            line, bend = self._next(last, gradient, change, None if anew else metric)
            fresh = anew or not line.slope < 0.0
            if fresh:
                line = _Line.down(gradient, metric)
            if anew:
                guess = line.first_step(metric)
                continue
            longer = last.slope / line.slope
            if modelled:
                longer = longer ** (2 / 3) * _model_step(last, change, bend, line, longer) ** (1 / 3)
            guess = point.step * min(10.0, longer)

    def _next(self, last: _Line, new: np.ndarray, change: np.ndarray, metric: Metric | None) -> tuple[_Line, float]:
        """The line after `last`, at the gradient `new` = g + `change`; and y·M⁻¹y."""
        z = new if metric is None else metric.inverse(new)
        moved = change if metric is None else z - last.z
        bend = float(np.dot(change, moved))
        beta = last.p.dtype.type(self._beta(last, new, z, change, bend))
        p = beta * last.p - z
        image = p if metric is None else beta * last.image - new
        return _Line(z, p, image, float(np.dot(new, p)), float(np.dot(new, z))), bend

    def _beta(self, last: _Line, new: np.ndarray, z: np.ndarray, change: np.ndarray, bend: float) -> float:
        if self.formula == "fletcher_reeves":
            return float(np.dot(new, z)) / last.square
        if self.formula == "polak_ribiere":
            return max(0.0, float(np.dot(z, change)) / last.square)
        along = float(np.dot(last.p, change))
        if along <= 0.0:
            return 0.0
        slope, bend = float(np.dot(last.p, new)), bend / along
        length = float(np.dot(last.p, last.image))
        if self.formula == "dai_kou":
            beta = (float(np.dot(change, z)) - bend * slope) / along
            return max(beta, 0.5 * slope / length)
        beta = (float(np.dot(change, z)) - 2.0 * bend * slope) / along
        size = float(np.linalg.norm(last.p)) if last.image is last.p else length**0.5
        bound: float = -1.0 / (size * min(0.01, last.square**0.5))
        return max(beta, bound)


class _Line(NamedTuple):
    """A direction p at a point of gradient g, with M⁻¹ g, M p, p·g and g·M⁻¹ g."""

    z: np.ndarray
    p: np.ndarray
    image: np.ndarray
    slope: float
    square: float

    @classmethod
    def down(cls, gradient: np.ndarray, metric: Metric | None) -> _Line:
        """Along −M⁻¹ g."""
        z = gradient if metric is None else metric.inverse(gradient)
        square = float(np.dot(gradient, z))
        if metric is not None:
            metric.check_positive(square)
        p = -z
        return cls(z, p, p if metric is None else -gradient, -square, square)

    def first_step(self, metric: Metric | None) -> float:
        """α to try first where no earlier step tells: 1 if M is to be the curvature."""
        return min(1.0, self.square**-0.5) if metric is None else 1.0


def _model_step(last: _Line, change: np.ndarray, bend: float, line: _Line, other: float) -> float:
    """−p·g / p·B p for p of `line` as a multiple of the last α, or `other` where B is not positive definite.

    B = (y·M⁻¹y / s·y) (M − M s sᵀ M / s·M s) + y yᵀ / s·y, with y = `change`, y·M⁻¹y = `bend` and s = α p of `last`.
    """
    along = float(np.dot(last.p, change))
    across = float(np.dot(line.p, line.image))
    across -= float(np.dot(last.image, line.p)) ** 2 / float(np.dot(last.p, last.image))
    bend = bend * max(across, 0.0) + float(np.dot(change, line.p)) ** 2
    return -line.slope * along / bend if along > 0.0 and bend > 0.0 else other


@explained
@dataclass(frozen=True)
class LBFGS(_PreconditionedSolver):
    """Limited-memory BFGS with a strong Wolfe line search.

    p = −H g, where H is the BFGS approximation of the inverse Hessian from the last `memory` pairs
    s = θ⁺ − θ, y = g⁺ − g and the start H₀ of the newest one::

        H₀ = (s·y / y·y) I        with a preconditioner M:  H₀ = (s·y / y·M⁻¹y) M⁻¹

    Parameters
    ----------
    memory : int, default=10
        Pairs, at least 1; they take 2 · memory vectors of the network's dtype.
    preconditioner : str, object, LinearOperator, callable or None, default=None
        What makes M ≈ ∂²J/∂θ², positive definite. Of a network's objective one of

        - "ggn_diagonal", "hessian_diagonal": the exact diagonals, of the latter the sizes;
        - "ggn_blocks", "hessian_blocks": the exact blocks of each layer;
        - "kfac": Kronecker factors of the Gauss-Newton matrix;
        - "fisher": (Σ_i w_i g_i ⊙ g_i)^½ of the rows' gradients, :func:`fastnn.curvature.preconditioner`;
        - "hessian": the whole Hessian. It and "hessian_diagonal" are there for any function in :func:`minimize`.

        A function v -> M⁻¹ v, or a LinearOperator that multiplies with M⁻¹, stays as it is. An object with
        ``update(objective, theta, gradient)`` and ``apply(vector)`` is asked for M⁻¹ v.
    refresh : int or None, default=None
        Iterations after which M is made anew, where the run has come to; None keeps that of the start.
    damping : float, default=1e-3
        λ ≥ 0, without a unit: of a matrix B with D = diag |B| it is M = D^½ (|D^-½ B D^-½| + λ I) D^½. Of a diagonal
        it changes the length alone, of what was given nothing.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the objective has no such preconditioner (the loss absolute_error,
        "fisher" and "kfac" with batch norm), or M⁻¹ is not positive definite.
    MemoryError
        If blocks or a whole Hessian are larger than the memory that is available.

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
        pairs, metric = _Pairs(self.memory, theta), self._metric(run)
        if metric is not None:
            metric.move(theta, gradient)
        while True:
            direction = pairs.direction(gradient, metric)
            slope = float(np.dot(gradient, direction))
            if not slope < 0.0:
                if metric is not None and not pairs.count:
                    metric.check_positive(-slope)
                pairs.count = 0
                continue
            guess = 1.0 if pairs.count or metric is not None else min(1.0, (-slope) ** -0.5)
            point = run.search(theta, value, gradient, direction, guess)
            if point is None:
                if not pairs.count:
                    run.give_up(value, -0.5 * guess * slope)
                pairs.count = 0  # once more, along the gradient
                continue
            pairs.add(point.theta, theta, point.gradient, gradient)
            theta, value, gradient = point.theta, point.value, point.gradient
            run.report(theta, value, gradient)
            if metric is not None:
                metric.move(theta, gradient)


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

    def direction(self, gradient: np.ndarray, metric: Metric | None = None) -> np.ndarray:
        """−H g by the two-loop recursion, from a multiple of M⁻¹."""
        p = -gradient
        newest_first = [(self.next - 1 - k) % len(self.S) for k in range(self.count)]
        alphas = []
        for i in newest_first:
            alphas.append(self.rho[i] * float(self._dot(self.S[i], p)))
            p = self._axpy(self.Y[i], p, a=-alphas[-1])
        if metric is not None:
            p = metric.inverse(p)
        if newest_first:
            i = newest_first[0]
            y = self.Y[i]
            p *= p.dtype.type(1.0 / (self.rho[i] * float(self._dot(y, y if metric is None else metric.inverse(y)))))
        for i, alpha in zip(reversed(newest_first), reversed(alphas), strict=True):
            p = self._axpy(self.S[i], p, a=alpha - self.rho[i] * float(self._dot(self.Y[i], p)))
        return p
