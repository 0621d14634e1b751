"""A network linearized at a point: what curvature needs of every operation, and products with curvature matrices.

Twin of the compiled engine's ``Plan.linearize``. With dots for tangents along a direction v of theta, a product with
the Hessian is a forward pass of tangents (of values) and a backward pass of tangents (of derivatives)::

    ż = ẋ W + x Ẇ + ḃ,   ȧ = σ' ⊙ ż             at the loss:  ġ = w H_ℓ ż
    δ̇ = σ' ⊙ ġ + σ'' ⊙ g ⊙ ż,  ġ_in = δ̇ Wᵀ + δ Ẇᵀ,     H v has xᵀ δ̇ + ẋᵀ δ and Σ δ̇

(Pearlmutter 1994). The Gauss-Newton product leaves out σ'', ẋᵀ δ and δ Ẇᵀ (Schraudolph 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import check_array
from .losses import loss_curvature
from .ops import Pass, Point, linear_backward, linearize, tangent_backward, tangent_forward

if TYPE_CHECKING:
    from .network import Plan

__all__ = ["Linearization"]

KINDS = ("hessian", "ggn", "fisher")


class Linearization:
    """Forward and backward pass over all rows, kept; made by ``Plan.linearize``.

    The function is Σ w ℓ (or Σ w cotangent · outputs): derivatives are of that sum, weights included, not divided by
    Σ w. Arrays are C-contiguous, of the plan's dtype, and not to be written to. theta and X must not change meanwhile.

    Attributes
    ----------
    n_rows : int
    loss : float
        Σ w ℓ / Σ w.
    weight_sum : float
        Σ w; N without weights.
    weight : ndarray (N,) or None
    outputs : ndarray (N, K)
        Of the last operation.
    curvature : ndarray (N, K)
        q, with which the loss has the Hessian w (diag q − q qᵀ) per row for cross_entropy and w diag q for the others.
    """

    def __init__(
        self,
        plan: Plan,
        theta: np.ndarray,
        X: np.ndarray,
        head: np.ndarray,
        curvature: np.ndarray,
        loss: float,
        weight: np.ndarray | None,
        values: list[np.ndarray],
        points: list[Point],
        run: Pass,
    ) -> None:
        self.n_rows = len(X)
        self.loss = loss
        self.weight = weight
        self.weight_sum = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
        self.curvature = curvature
        self._plan, self._theta, self._X, self._values = plan, theta, X, values
        self._head, self._points, self._run = head, points, run
        self._whole = run.training and any(op.kind == "batch_norm" for op in plan.ops)
        self._input_gradient = self._backward()

    @property
    def outputs(self) -> np.ndarray:
        """Outputs of the last operation, (N, K)."""
        return self._values[-1]

    def inputs(self, i: int) -> np.ndarray:
        """What operation i reads, (N, n_in)."""
        source = self._plan.ops[i].input
        return self._X if source < 0 else self._values[source]

    def slope(self, i: int) -> np.ndarray | None:
        """σ'(z) of a dense or activation op, (N, n_out); None where σ is linear."""
        return self._points[i].slope

    def bend(self, i: int) -> np.ndarray | None:
        """w σ''(z) ⊙ ∂ℓ/∂a of a dense or activation op, (N, n_out); None where σ'' is 0 everywhere."""
        return self._points[i].bend

    def delta(self, i: int) -> np.ndarray:
        """w ∂ℓ/∂z of a dense or activation op, w ∂ℓ/∂(output) of the others, (N, n_out)."""
        delta = self._points[i].delta
        assert delta is not None
        return delta

    def normalised(self, i: int) -> np.ndarray:
        """û of a norm, (N, n_out)."""
        normalised = self._points[i].normalised
        assert normalised is not None
        return normalised

    def inv_std(self, i: int) -> np.ndarray:
        """1/σ of a norm: (n_out,) of a batch norm, (N,) of a layer norm."""
        inv_std = self._points[i].inv_std
        assert inv_std is not None
        return inv_std

    def input_gradient(self) -> np.ndarray:
        """w ∂ℓ/∂x with respect to X as it was given, (N, D)."""
        scale = self._plan.input_scale
        return self._input_gradient if scale is None else self._input_gradient * self._plan.dtype.type(scale)

    def product(self, V: np.ndarray, kind: str = "hessian", out: np.ndarray | None = None) -> np.ndarray:
        """Product of a curvature matrix of the data term with vectors.

        Parameters
        ----------
        V : ndarray (P,) or (n, P) of the plan's dtype
        kind : {"hessian", "ggn", "fisher"}
            ∂²/∂θ² of Σ w ℓ / Σ w; its Gauss-Newton part Σ w Jᵀ H_ℓ J / Σ w; or Σ w g gᵀ / Σ w with g = ∂ℓ_i/∂θ.
        out : ndarray, optional
            In the shape of V.

        Returns
        -------
        ndarray in the shape of V
            Zeros where Σ w = 0.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit, the kind is not known, or rows have no gradient of their own for "fisher".
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
        if kind == "fisher" and self._whole:
            raise ValueError("kind: 'fisher' needs rows that do not depend on each other, got statistics of the batch")
        P, dtype = self._plan.n_parameters, self._plan.dtype
        V = check_array("V", V, (P,) if np.ndim(V) == 1 else ("n", P), dtype)
        if out is None:
            out = np.empty_like(V)
        out = check_array("out", out, V.shape, dtype, writable=True)
        sums = np.zeros((1, P) if V.ndim == 1 else V.shape, dtype)
        self._tangents(V.reshape(-1, P), None, kind, sums)
        out[...] = sums.reshape(V.shape) * dtype.type(1.0 / self.weight_sum if self.weight_sum else 0.0)
        return out

    def input_product(self, direction: np.ndarray) -> np.ndarray:
        """Hessian of each row's w ℓ with respect to x (as it was given), times one direction.

        Parameters
        ----------
        direction : ndarray (D,) of the plan's dtype

        Returns
        -------
        ndarray (N, D)

        Raises
        ------
        TypeError, ValueError
            If the direction does not fit, or the rows depend on each other by the statistics of the batch.
        """
        if self._whole:
            raise ValueError("input_product needs rows that do not depend on each other, got statistics of the batch")
        D, dtype = self._X.shape[1], self._plan.dtype
        direction = check_array("direction", direction, (D,), dtype)
        scale = dtype.type(1.0 if self._plan.input_scale is None else self._plan.input_scale)
        dX = np.broadcast_to(direction * scale, (1, self.n_rows, D))
        return self._tangents(None, dX, "hessian", None)[0] * scale

    def _backward(self) -> np.ndarray:
        """Fill the points' delta and bend; the result is the gradient with respect to what the first op reads."""
        ops, last = self._plan.ops, len(self._plan.ops) - 1
        upstream: list[np.ndarray | None] = [None] * len(ops)
        upstream[last] = self._head if self.weight is None else self._head * self.weight[:, None]
        gradient = np.zeros_like(self._X)
        for i in reversed(range(len(ops))):
            op, at, g = ops[i], self._points[i], upstream[i]
            if g is None:  # nothing reads this operation
                g = np.zeros_like(self._values[i])
            at.delta = g if at.slope is None else at.slope * g
            if at.bend is not None:
                at.bend = at.bend * g
            back = linear_backward(op, self._theta, self.inputs(i), at, g, None, self._run)
            if op.input < 0:
                gradient += back
            else:
                before = upstream[op.input]
                upstream[op.input] = back if before is None else before + back
        return gradient

    def _tangents(self, V: np.ndarray | None, dX: np.ndarray | None, kind: str, out: np.ndarray | None) -> np.ndarray:
        """Both tangent passes; parts for theta are added to `out` (n, P), the result is for X, (n, N, D)."""
        ops, theta, run = self._plan.ops, self._theta, self._run
        tangents: list[np.ndarray | None] = []
        kept: list[Any] = []
        for i, op in enumerate(ops):
            source = dX if op.input < 0 else tangents[op.input]
            tangent, keep = tangent_forward(op, theta, V, self.inputs(i), source, self._points[i], run)
            tangents.append(tangent)
            kept.append(keep)
        n = len(V) if V is not None else 1
        back = np.zeros((n, *self._X.shape), self._plan.dtype)
        upstream: list[np.ndarray | None] = [None] * len(ops)
        upstream[-1] = self._loss_tangent(tangents[-1], kind, n)
        for i in reversed(range(len(ops))):
            op, at, g = ops[i], self._points[i], upstream[i]
            if g is None:
                g = np.zeros((n, *self._values[i].shape), self._plan.dtype)
            if kind == "hessian":
                source = dX if op.input < 0 else tangents[op.input]
                down = tangent_backward(op, theta, V, self.inputs(i), source, at, kept[i], g, out, run)
            else:
                down = linear_backward(op, theta, self.inputs(i), at, g, out, run)
            if op.input < 0:
                back += down
            else:
                before = upstream[op.input]
                upstream[op.input] = down if before is None else before + down
        return back

    def _loss_tangent(self, dZ: np.ndarray | None, kind: str, n: int) -> np.ndarray:
        """Tangent of the loss's gradient along the tangent of the outputs, weights included."""
        if dZ is None:
            return np.zeros((n, *self.outputs.shape), self._plan.dtype)
        if kind == "fisher":
            result = (self._head * dZ).sum(axis=-1, keepdims=True) * self._head
        else:
            result = self.curvature * dZ
            if self._plan.loss == "cross_entropy":
                result -= self.curvature * result.sum(axis=-1, keepdims=True)
        return result if self.weight is None else result * self.weight[:, None]


def make(
    plan: Plan,
    theta: np.ndarray,
    X: np.ndarray,
    y: np.ndarray | None,
    weight: np.ndarray | None,
    cotangent: np.ndarray | None,
    evaluate: Any,
    run: Pass,
) -> Linearization:
    """Linearize `plan` at checked arrays; `evaluate` is its loss as a function of outputs, targets and weights."""
    values: list[np.ndarray] = []
    points: list[Point] = []
    for op in plan.ops:
        out, point = linearize(op, theta, X if op.input < 0 else values[op.input], run)
        values.append(out)
        points.append(point)
    Z = values[-1]
    if y is None:
        assert cotangent is not None
        head = check_array("cotangent", cotangent, Z.shape, plan.dtype)
        losses = (head * Z).sum(axis=1, dtype=np.float64)
        total = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
        loss = float(losses.sum() if weight is None else losses @ weight) / total if total else 0.0
        return Linearization(plan, theta, X, head, np.zeros_like(Z), loss, weight, values, points, run)
    loss, _ = evaluate(Z, y, weight)
    head = evaluate(Z, y, None)[1] * plan.dtype.type(len(X))  # the kernels give means
    return Linearization(plan, theta, X, head, loss_curvature(Z, y, plan.loss), loss, weight, values, points, run)
