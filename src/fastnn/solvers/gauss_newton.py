"""Gauss-Newton steps by preconditioned conjugate gradients, "Hessian-free"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NoReturn

import numpy as np

from ..checks import check_integer, check_sample_weight, check_seed, weight_exponent
from ..curvature.blocks import fisher_root
from ..curvature.kfac import kronecker_factors
from ..names import explained
from ..objective import Objective, SmoothFunction
from .base import FullBatchSolver, Run, of_network

__all__ = ["GaussNewtonCG"]


@explained
@dataclass(frozen=True)
class GaussNewtonCG(FullBatchSolver):
    """Gauss-Newton by preconditioned conjugate gradients, for any loss and any number of parameters.

    An iteration minimises q(p) = g·p + ½ p·(G + λ I) p by CG on products G v, G the generalised Gauss-Newton matrix,
    from `decay` times the step before; goes back over CG's iterates to the one with the lowest J (on the rows of G);
    shortens it until J falls enough; and fits λ to ρ = (J(θ + p) − J(θ)) / (g·p + ½ p·G p)::

        ρ < 1/4: λ ← 3/2 λ        ρ > 3/4: λ ← 2/3 λ

    CG ends at iteration i when q has fallen by less than k · 5e-4 |q| over the last k = max(10, i / 10) iterations.

    Parameters
    ----------
    preconditioner : {"fisher", "kfac", None}, default="fisher"
        "fisher": division by (Σ_i w_i² g_i ⊙ g_i)^½ / Σ w + λ, docs/theory.md, eq. 10.20. "kfac": Kronecker factors of
        G, damped with λ.
    curvature_rows : int or None, default=None
        Rows, drawn anew for each iteration, on which G and the preconditioner are taken; None is all. Values and
        gradients are always of all rows.
    cg_iterations : int, default=50
        Most products of one iteration.
    damping : float, default=0.1
        λ of G + λ I at the start, above 0; absolute, in units of the curvature.
    decay : float, default=0.95
        In [0, 1].
    seed : int or None, default=0
        Of the draws of rows.
    max_iter, tol, ftol, dtype
        As for every solver; see :class:`fastnn.solvers.FullBatchSolver`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when run, if the network has no curvature, or with batch norm in training mode,
        where a row has no gradient of its own (unless `preconditioner` is None).

    Notes
    -----
    Martens 2010: sections 4.1 (damping), 4.4 (CG's end), 4.5 (decay), 4.6 (going back); its preconditioner is that of
    "fisher" with the exponent 3/4 around the whole sum. K-FAC: Martens and Grosse 2015.

    Steps are few and costly: 784-256-256-10 on MNIST (l2 = 1e-4, ``curvature_rows=6000``, ``damping=0.03``) came to 98
    % test accuracy in 8 iterations with "kfac", which are 9 gradients and 170 products; with "fisher" to 97.9 % in 15.
    Adam needs 5 epochs, and a sixth of the processor time of the 8 iterations: what limits accuracy there is not
    curvature.
    """

    preconditioner: str | None = field(default="fisher", kw_only=True)
    curvature_rows: int | None = field(default=None, kw_only=True)
    cg_iterations: int = field(default=50, kw_only=True)
    damping: float = field(default=0.1, kw_only=True)
    decay: float = field(default=0.95, kw_only=True)
    seed: int | None = field(default=0, kw_only=True)

    second_order: ClassVar[bool] = True
    double: ClassVar[bool] = True
    vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("preconditioner", ("fisher", "kfac", None))
        if self.curvature_rows is not None:
            object.__setattr__(self, "curvature_rows", check_integer("curvature_rows", self.curvature_rows))
        object.__setattr__(self, "cg_iterations", check_integer("cg_iterations", self.cg_iterations))
        self._number("damping", above=0.0)
        self._number("decay", minimum=0.0, maximum=1.0)
        check_seed(self.seed)

    def _check(self, objective: SmoothFunction) -> None:
        objective = of_network(objective, "GaussNewtonCG")
        if objective.risk.batch_coupled and (self.preconditioner is not None or self.curvature_rows is not None):
            raise ValueError(
                "GaussNewtonCG: preconditioner and curvature_rows need rows that do not depend on each other; with "
                "batch norm in training mode give None for both"
            )

    def _solve(self, run: Run) -> NoReturn:
        theta, value, gradient = run.begin(self.damping)
        objective, rng = of_network(run.objective, "GaussNewtonCG"), check_seed(self.seed)
        damping, before = self.damping, np.zeros_like(theta)
        while True:
            part = objective
            if self.curvature_rows is not None and self.curvature_rows < objective.n_rows:
                rows = np.sort(rng.choice(objective.n_rows, self.curvature_rows, replace=False))
                part = objective.subset(rows)
            divide = self._preconditioner(part, theta, damping)
            start = self.decay * before
            product = partial(_damped, part, theta, damping)
            candidates = _conjugate_gradients(product, gradient, start, divide, self.cg_iterations)
            # Back over the iterates, as long as J falls on the rows of G.
            step = candidates.pop()
            lowest = part.value(theta + step)
            while candidates:
                lower = part.value(theta + candidates[-1])
                if not (lower < lowest or not math.isfinite(lowest)):
                    break
                step, lowest = candidates.pop(), lower
            found, slope = run.evaluate(theta + step)
            descent = float(np.dot(gradient, step))
            gain = -descent - 0.5 * float(np.dot(step, part.ggnp(theta, step)))
            ratio = (value - found) / gain if gain > 0.0 and math.isfinite(found) else -1.0
            if ratio < 0.25:
                damping *= 1.5
            elif ratio > 0.75:
                damping /= 1.5
            length = 1.0
            while not (found <= value + 1e-2 * length * min(descent, 0.0)) and length > 1e-4:
                length *= 0.5
                found, slope = run.evaluate(theta + length * step)
            if not found < value:
                if not before.any() and damping > 1e8 * self.damping:
                    run.give_up(value, gain)
                if run.negligible(value, gain) and float(np.linalg.norm(slope)) >= float(np.linalg.norm(gradient)):
                    run.give_up(value, gain)
                damping, before = 4.0 * damping, np.zeros_like(theta)
                continue
            before = length * step
            theta, value, gradient = theta + before, found, slope
            run.report(theta, value, gradient, damping=damping)

    def _preconditioner(
        self, part: Objective, theta: np.ndarray, damping: float
    ) -> Callable[[np.ndarray], np.ndarray] | None:
        if self.preconditioner is None:
            return None
        risk = part.risk_at(theta)
        if self.preconditioner == "kfac":
            inverse = kronecker_factors(risk, "ggn", None).inverse(damping)
            return lambda v: inverse.matvec(v.astype(part.dtype, copy=False)).astype(np.float64, copy=False)
        weight, exponent = None, 0
        if risk.weight is not None:
            squares = risk.weight.astype(np.float64) ** 2
            weight = check_sample_weight(squares, risk.n_rows, risk.dtype)
            exponent = weight_exponent(squares)
        diagonal = fisher_root(risk, weight, exponent).astype(np.float64) / risk.total + damping
        risk.add_penalty(diagonal)
        return lambda v: v / diagonal


def _damped(objective: Objective, theta: np.ndarray, damping: float, v: np.ndarray) -> np.ndarray:
    return objective.ggnp(theta, v) + damping * v


def _conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray],
    g: np.ndarray,
    start: np.ndarray,
    divide: Callable[[np.ndarray], np.ndarray] | None,
    most: int,
) -> list[np.ndarray]:
    """Iterates of CG for product(p) = −g: the last one, and before it some, ever farther apart backwards."""
    x = start.copy()
    r = -g - (product(x) if x.any() else 0.0)
    z = r if divide is None else divide(r)
    d, rz = z.copy(), float(np.dot(r, z))
    values = [-0.5 * float(np.dot(x, r - g))]
    kept, mark = [], 1.0
    for i in range(1, most + 1):
        if rz <= 0.0:
            break
        Ad = product(d)
        curvature = float(np.dot(d, Ad))
        if not curvature > 0.0:
            break
        alpha = rz / curvature
        x = x + alpha * d
        r = r - alpha * Ad
        values.append(-0.5 * float(np.dot(x, r - g)))
        if i >= mark:
            kept.append(x)
            mark = math.ceil(1.3 * mark) if mark >= 4.0 else mark + 1.0
        k = max(10, i // 10)
        if i > k and values[-1] < 0.0 and values[-1] - values[-1 - k] > k * 5e-4 * values[-1]:
            break
        z = r if divide is None else divide(r)
        before, rz = rz, float(np.dot(r, z))
        d = z + (rz / before) * d
    if not kept or kept[-1] is not x:
        kept.append(x)
    return kept
