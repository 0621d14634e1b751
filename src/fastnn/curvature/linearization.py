"""What the curvature functions ask of a network that is linearized at some rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..plan import OpSpec

__all__ = ["Linearization", "multiplied"]


class Linearization(Protocol):
    """A plan's forward and backward pass at n rows, with what second derivatives need of it.

    ``plan.linearize`` makes it, in both backends. ℓ stands for w ℓ, or for cotangent · z where a cotangent was given.
    Arrays are views: a linearization made ``into`` this one overwrites them.

    Attributes
    ----------
    n_rows : int
        n.
    loss : float
        Σ w ℓ / Σ w of the rows.
    weight : ndarray (n,) or None
    weight_sum : float
        Σ w.
    outputs : ndarray (n, K)
        z.
    curvature : ndarray (n, K)
        q: w ∂²ℓ/∂z² is c (diag q − q qᵀ) for the softmax cross-entropy, else c diag q. May be scaled in place, which
        products and all else go by.
    curvature_weight : ndarray (n,) or None
        c: w, times the sum of the row's targets for the softmax cross-entropy; None for ones.
    """

    @property
    def n_rows(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def weight(self) -> np.ndarray | None: ...
    @property
    def weight_sum(self) -> float: ...
    @property
    def outputs(self) -> np.ndarray: ...
    @property
    def curvature(self) -> np.ndarray: ...
    @property
    def curvature_weight(self) -> np.ndarray | None: ...

    def inputs(self, i: int) -> np.ndarray:
        """What op i reads, (n, n_in)."""
        ...

    def delta(self, i: int) -> np.ndarray:
        """∂ℓ/∂z of op i, (n, n_out): of a dense op's pre-activations, or of another op's outputs."""
        ...

    def slope(self, i: int) -> np.ndarray | None:
        """σ' of op i, (n, n_out); None where it is 1 everywhere."""
        ...

    def bend(self, i: int) -> np.ndarray | None:
        """σ'' ⊙ ∂ℓ/∂(output) of op i, (n, n_out); None where σ'' is 0 everywhere."""
        ...

    def normalised(self, i: int) -> np.ndarray:
        """What norm op i multiplies with γ, (n, n_out)."""
        ...

    def input_gradient(self) -> np.ndarray:
        """∂ℓ/∂x, (n, D)."""
        ...

    def product(self, V: np.ndarray, kind: str = "hessian", out: np.ndarray | None = None) -> np.ndarray:
        """Products (m, P) of the data term's matrix of these rows with vectors V (m, P)."""
        ...

    def input_product(self, direction: np.ndarray) -> np.ndarray:
        """∂²ℓ/∂x² times a direction (D,), for every row: (n, D)."""
        ...


def multiplied(lin: Linearization, op: OpSpec, i: int) -> np.ndarray:
    """What op i without a weight matrix multiplies its first parameter per feature with, (n, n_out)."""
    return lin.normalised(i) if op.facts.normalises else lin.inputs(i)
