"""Preconditioners of L-BFGS and non-linear conjugate gradients: M ≈ ∂²J/∂θ², positive definite, and products with M⁻¹.

A curvature matrix B is scaled by its own diagonal D = diag |B| before it is damped and made positive definite, so that
the solver's path does not depend on the units of the features (docs/theory.md, eq. 10.22).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..checks import check_integer, check_number
from ..curvature.blocks import diagonal_blocks, fisher_root, matrix_diagonal
from ..curvature.kfac import kronecker_factors
from ..curvature.risk import EmpiricalRisk, require_second_derivatives
from ..linalg.kronecker import KroneckerInverse
from ..linalg.quadratic_models import quadratic_model
from ..names import suggestion
from ..objective import Objective, SmoothFunction
from .base import of_network

__all__ = ["NAMES", "Metric", "Preconditioner", "PreconditionerLike", "check_preconditioner"]

Kind: TypeAlias = Literal["ggn", "hessian"]
Product: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: Least eigenvalue of a scaled matrix that is not damped.
FLOOR = 1e-12


@runtime_checkable
class Preconditioner(Protocol):
    """What :class:`LBFGS` and :class:`NonlinearCG` ask of a preconditioner of one's own."""

    def update(self, objective: SmoothFunction, theta: np.ndarray, gradient: np.ndarray) -> None:
        """Take M at theta (P,), where the gradient is `gradient` (P,): at the start, and where it is refreshed."""

    def apply(self, vector: np.ndarray) -> np.ndarray:
        """M⁻¹ times a vector (P,), symmetric and positive definite; a new array (P,)."""


PreconditionerLike: TypeAlias = str | Preconditioner | LinearOperator | Product | None


def _fisher(objective: SmoothFunction, theta: np.ndarray, damping: float) -> Product:
    risk = of_network(objective, "the preconditioner 'fisher'").risk_at(theta, second_order=False)
    diagonal = fisher_root(risk, risk.weight, risk.weight_exponent)
    risk.add_penalty(diagonal)
    return _division(diagonal, damping)


def _diagonal(objective: SmoothFunction, theta: np.ndarray, damping: float, kind: Kind) -> Product:
    if not isinstance(objective, Objective):
        return _division(np.diagonal(objective.hessian(theta)).copy(), damping)
    risk = objective.risk_at(theta)
    diagonal = matrix_diagonal(risk, kind)
    diagonal[_without_effect(risk)] = 0.0
    return _division(diagonal, damping)


def _division(diagonal: np.ndarray, damping: float) -> Product:
    size, _ = _sizes(diagonal)
    inverse = 1.0 / ((1.0 + damping) * size)
    return lambda v: np.asarray(inverse * v)


def _sizes(diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|diagonal| in float64 with its largest in place of what is 0 but for rounding, and where that is.

    A parameter without curvature, such as those of a unit that is never active, may get some: short steps are safe.
    """
    size = np.abs(diagonal.astype(np.float64))
    largest = float(size.max(initial=0.0))
    nothing = size <= 4.0 * float(np.finfo(diagonal.dtype).eps) ** 2 * largest  # a square of rounding errors
    size[nothing] = largest or 1.0
    return size, nothing


def _without_effect(risk: EmpiricalRisk) -> np.ndarray:
    """Mask (P,) of biases that the statistics of the batch take out again: what is computed of them is rounding."""
    mask = np.zeros(risk.n_parameters, bool)
    for op, after in itertools.pairwise(risk.ops):
        linear = op.kind == "dense" and op.activation == "linear" and op.bias >= 0
        if risk.batch_coupled and linear and after.kind == "batch_norm":
            mask[op.bias : op.bias + op.n_out] = True
    return mask


def _hessian(objective: SmoothFunction, theta: np.ndarray, damping: float) -> Product:
    H = objective.hessian(theta)
    if isinstance(objective, Objective):
        _clear(H, _without_effect(objective.risk))
    return _scaled_inverse(H, damping)


def _clear(B: np.ndarray, mask: np.ndarray) -> None:
    B[mask] = 0.0
    B[:, mask] = 0.0


def _blocks(objective: SmoothFunction, theta: np.ndarray, damping: float, kind: Kind) -> Product:
    risk = of_network(objective, f"the preconditioner '{kind}_blocks'").risk_at(theta)
    blocks, mask = diagonal_blocks(risk, kind, None, "use 'kfac' or 'ggn_diagonal'"), _without_effect(risk)
    inverses = []
    for i, block in blocks.items():
        place = risk.place(i)
        _clear(block, mask[place])
        inverses.append((place, _scaled_inverse(block, damping)))

    def multiply(v: np.ndarray) -> np.ndarray:
        result = np.empty_like(v)
        for place, inverse in inverses:
            result[place] = inverse(v[place])
        return result

    return multiply


def _scaled_inverse(B: np.ndarray, damping: float) -> Product:
    """v -> M⁻¹ v with M = D^½ (|D^-½ B D^-½ + λ I|) D^½; beyond 600 rows B + (λ + τ) D, τ as large as is needed."""
    S, scale = _scaled(B)
    S.ravel()[:: len(S) + 1] += damping
    inverse, _ = quadratic_model(S).inverse(max(damping, FLOOR))
    return lambda v: np.asarray(scale * inverse(scale * v))


def _scaled(B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D^-½ B D^-½ in float64 with a diagonal of ±1, and the diagonal (n,) of D^-½."""
    size, nothing = _sizes(np.diagonal(B))
    scale = 1.0 / np.sqrt(size)
    S = B.astype(np.float64)
    S *= scale[:, None]
    S *= scale
    S[nothing, nothing] = 1.0
    return S, scale


def _kfac(objective: SmoothFunction, theta: np.ndarray, damping: float) -> Product:
    objective = of_network(objective, "the preconditioner 'kfac'")
    return _ScaledFactors(objective.risk_at(theta), max(damping, FLOOR)).multiply


class _ScaledFactors:
    """(A ⊗ G + l2 I + λ D)⁻¹ of every dense layer, about, and division by the mean of squared gradients elsewhere.

    With D = diag(A ⊗ G) + l2, and A, G scaled to unit diagonals Ã, G̃ (docs/theory.md, eq. 10.22)::

        M⁻¹ = D^-½ ((Ã + √λ I)⁻¹ ⊗ (G̃ + √λ I)⁻¹) D^-½
    """

    def __init__(self, risk: EmpiricalRisk, damping: float) -> None:
        factors = kronecker_factors(risk, "ggn", None)
        root = fisher_root(risk, risk.weight, 0).astype(np.float64)
        inverse = np.empty(risk.n_parameters)
        penalty = np.zeros(risk.n_parameters, risk.dtype)
        risk.add_penalty(penalty)
        elsewhere = np.ones(risk.n_parameters, bool)
        self._layers: list[tuple[slice, KroneckerInverse, tuple[int, int, int]]] = []
        for layer in risk.dense_layers():
            (A, a), (G, g) = (_scaled(factor) for factor in factors[layer.index])
            inverse[layer.place] = 1.0 / (np.outer(a**-2, g**-2).ravel() + penalty[layer.place])
            elsewhere[layer.place] = False
            part = math.sqrt(damping)
            self._layers.append((layer.place, KroneckerInverse(A, G, part, part), (1, len(A), len(G))))
        squares = np.square(root) / risk.total + penalty
        inverse[elsewhere] = 1.0 / _sizes(squares[elsewhere])[0]
        self._scale = np.sqrt(inverse)

    def multiply(self, v: np.ndarray) -> np.ndarray:
        """M⁻¹ v."""
        v = self._scale * v
        for place, inverse, shape in self._layers:
            v[place] = inverse.multiply(v[place].reshape(shape)).ravel()
        return np.asarray(self._scale * v)


_MAKERS: dict[str, Callable[[SmoothFunction, np.ndarray, float], Product]] = {
    "fisher": _fisher,
    "ggn_diagonal": partial(_diagonal, kind="ggn"),
    "hessian_diagonal": partial(_diagonal, kind="hessian"),
    "ggn_blocks": partial(_blocks, kind="ggn"),
    "hessian_blocks": partial(_blocks, kind="hessian"),
    "hessian": _hessian,
    "kfac": _kfac,
}
NAMES = tuple(_MAKERS)
#: Of these, those that any function with a Hessian has.
_OF_ANY = ("hessian", "hessian_diagonal")
#: Of these, those that are made of single rows.
_BY_ROWS = ("fisher", "kfac")
_OTHERS = {
    "adagrad": "fisher",
    "diagonal": "ggn_diagonal",
    "jacobi": "ggn_diagonal",
    "block": "ggn_blocks",
    "blocks": "ggn_blocks",
    "newton": "hessian",
}


def check_preconditioner(preconditioner: object, refresh: object, damping: object) -> tuple[int | None, float]:
    """Refuse what is none; the other two arguments, checked.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    """
    if isinstance(preconditioner, str):
        if preconditioner not in _MAKERS:
            raise ValueError(
                f"preconditioner must be one of {', '.join(map(repr, NAMES))}, or an object that applies one, got "
                f"{preconditioner!r}{suggestion(preconditioner, NAMES, _OTHERS)}"
            )
    elif not (preconditioner is None or isinstance(preconditioner, Preconditioner) or callable(preconditioner)):
        raise TypeError(
            f"preconditioner: expected a name ({', '.join(map(repr, NAMES))}), a function of a vector, a "
            f"LinearOperator, or an object with update and apply, got {type(preconditioner).__name__}"
        )
    every = None if refresh is None else check_integer("refresh", refresh)
    return every, check_number("damping", damping, minimum=0.0)


class Metric:
    """M of one run of a solver: made at the start, again every `refresh` iterations, and applied."""

    def __init__(
        self, preconditioner: PreconditionerLike, refresh: int | None, damping: float, objective: SmoothFunction
    ) -> None:
        self._preconditioner, self._refresh, self._damping = preconditioner, refresh, damping
        self._objective, self._age = objective, 0
        self._apply: Product | None = None

    @classmethod
    def check(cls, preconditioner: PreconditionerLike, objective: SmoothFunction, what: str) -> None:
        """Refuse an objective that has no such preconditioner."""
        if isinstance(preconditioner, LinearOperator):
            expected = (objective.n_parameters,) * 2
            if preconditioner.shape != expected:
                raise ValueError(f"preconditioner: expected shape {expected}, got {preconditioner.shape}")
        if not isinstance(preconditioner, str):
            return
        if preconditioner not in _OF_ANY:
            of_network(objective, f"{what}(preconditioner={preconditioner!r})")
        if isinstance(objective, Objective):
            if preconditioner != "fisher":
                require_second_derivatives(objective.risk.net, f"{what}(preconditioner={preconditioner!r})")
            if objective.risk.batch_coupled and preconditioner in _BY_ROWS:
                raise ValueError(
                    f"{what}: preconditioner={preconditioner!r} needs rows that do not depend on each other; with "
                    "batch norm in training mode take 'ggn_blocks' or 'ggn_diagonal'"
                )

    def move(self, theta: np.ndarray, gradient: np.ndarray) -> bool:
        """Go to the next iteration's point; whether M has been made anew there."""
        due = self._apply is None or (self._refresh is not None and self._age >= self._refresh)
        if due:
            self._make(theta, gradient)
            self._age = 0
        self._age += 1
        return due

    def _make(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        given = self._preconditioner
        if isinstance(given, str):
            self._objective.evaluations.matrix += given not in _OF_ANY or isinstance(self._objective, Objective)
            self._apply = _MAKERS[given](self._objective, theta, self._damping)
        elif isinstance(given, Preconditioner):
            given.update(self._objective, theta.copy(), gradient.copy())
            self._apply = given.apply
        elif isinstance(given, LinearOperator):
            self._apply = given.matvec
        else:
            assert given is not None
            self._apply = given

    def inverse(self, vector: np.ndarray) -> np.ndarray:
        """M⁻¹ times a vector, of the vector's dtype.

        Raises
        ------
        ValueError, TypeError
            If a preconditioner that was given does not return such an array.
        """
        assert self._apply is not None
        found = np.asarray(self._apply(vector))
        if found.dtype.kind not in "iuf":
            raise TypeError(f"preconditioner: expected an array of floats, got dtype {found.dtype}")
        if found.shape != vector.shape:
            raise ValueError(f"preconditioner: expected an array of shape {vector.shape}, got {found.shape}")
        if np.may_share_memory(found, vector):
            found = found.copy()
        return found.astype(vector.dtype, copy=False)

    @staticmethod
    def check_positive(square: float) -> None:
        """Refuse an M⁻¹ with g·M⁻¹g ≤ 0, or none."""
        if not square > 0.0:
            raise ValueError(f"preconditioner: expected a positive definite one, got g·M⁻¹g = {square:.3g}")
