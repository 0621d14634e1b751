"""The backward recursion of second derivatives through a chain of dense and element-wise ops, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .linearization import Linearization
from .risk import DenseLayer, EmpiricalRisk

__all__ = ["activation_derivatives", "preactivation_hessians"]


def activation_derivatives(lin: Linearization, ops: Iterable[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """f' and w f'' ⊙ ∂ℓ/∂f of element-wise ops in a row, a dense op counting for its activation.

    For f = σ₂∘σ₁: f' = σ₂' σ₁', and f'' times the derivative is that of σ₁ plus that of σ₂ times σ₁'². None where the
    first is 1, or the second 0.
    """
    slope: np.ndarray | None = None
    bend: np.ndarray | None = None
    for i in ops:
        own = lin.bend(i)
        if own is not None:
            term = own if slope is None else own * slope**2
            bend = term if bend is None else bend + term
        own = lin.slope(i)
        if own is not None:
            slope = own if slope is None else slope * own
    return slope, bend


def preactivation_hessians(
    risk: EmpiricalRisk, lin: Linearization, layers: list[DenseLayer], gauss_newton: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """From the last layer to the first: its number in `layers`, and every row's w A_ll, (N, n_out, n_out)."""
    kernels = risk.kernels
    A = kernels.loss_hessian(lin.curvature, risk.softmax, lin.curvature_weight)
    slope, bend = activation_derivatives(lin, layers[-1].elementwise)
    if slope is not None:
        A *= slope[:, :, None]
        A *= slope[:, None, :]
    if bend is not None and not gauss_newton:
        np.einsum("ikk->ik", A)[...] += bend
    yield len(layers) - 1, A
    for k in reversed(range(len(layers) - 1)):
        slope, bend = activation_derivatives(lin, layers[k].elementwise)
        W = layers[k + 1].weight(risk.theta)
        A = kernels.curvature_backward(A, W, slope, None if gauss_newton else bend, threads=risk.threads)
        yield k, A
