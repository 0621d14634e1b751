"""A network linearized at a point: what curvature needs of every operation, and products with curvature matrices.

Reference implementation of the compiled engine's ``Plan.linearize``. With dots for tangents along a direction v of
theta, a product with the Hessian is a forward pass of tangents (of values) and a backward pass of tangents (of
derivatives)::

    ż = ẋ W + x Ẇ + ḃ,   ȧ = σ' ⊙ ż             at the loss:  ġ = w H_ℓ ż
    δ̇ = σ' ⊙ ġ + σ'' ⊙ g ⊙ ż,  ġ_in = δ̇ Wᵀ + δ Ẇᵀ,     H v has xᵀ δ̇ + ẋᵀ δ and Σ δ̇

(Pearlmutter 1994). The Gauss-Newton product leaves out σ'', ẋᵀ δ and δ Ẇᵀ (Schraudolph 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..losses import Loss
from .arguments import check_array
from .losses import loss_curvature
from .ops import Op, Pass, Point

__all__ = ["Linearization", "linearize"]

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
        q, with which the loss has the Hessian c (diag q − q qᵀ) per row for cross_entropy and c diag q for the others.
    curvature_weight : ndarray (N,) or None
        c, the weight w, times the sum of the row's targets for cross_entropy; None for ones.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        theta: np.ndarray,
        values: list[np.ndarray],
        points: list[Point],
        head: np.ndarray,
        curvature: np.ndarray,
        loss: float,
        weight: np.ndarray | None,
        curvature_weight: np.ndarray | None,
        *,
        couples_outputs: bool,
        input_scale: float | None,
        run: Pass,
    ) -> None:
        self.n_rows = len(head)
        self.loss = loss
        self.weight = weight
        self.weight_sum = _weight_sum(self.n_rows, weight)
        self.curvature, self.curvature_weight = curvature, curvature_weight
        self._ops, self._theta, self._run = ops, theta, run
        self._values, self._points = values, points  # X first, then each operation's output
        self._head, self._couples_outputs = head, couples_outputs
        self._scale = theta.dtype.type(1.0 if input_scale is None else input_scale)
        self._couples_rows = run.training and any(op.spec.facts.couples_rows for op in ops)
        self._input_gradient = self._backward()

    @property
    def outputs(self) -> np.ndarray:
        """Outputs of the last operation, (N, K)."""
        return self._values[-1]

    def inputs(self, i: int) -> np.ndarray:
        """What operation i reads, (N, n_in)."""
        return self._values[i]

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
        return self._input_gradient * self._scale

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
        if kind == "fisher" and self._couples_rows:
            raise ValueError("kind: 'fisher' needs rows that do not depend on each other, got statistics of the batch")
        P, dtype = len(self._theta), self._theta.dtype
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
        if self._couples_rows:
            raise ValueError("input_product needs rows that do not depend on each other, got statistics of the batch")
        D = self._values[0].shape[1]
        direction = check_array("direction", direction, (D,), self._theta.dtype)
        dX = np.broadcast_to(direction * self._scale, (1, self.n_rows, D))
        return self._tangents(None, dX, "hessian", None)[0] * self._scale

    def _backward(self) -> np.ndarray:
        """Fill the points' delta and bend; the result is the gradient with respect to what the first op reads."""
        g = self._head if self.weight is None else self._head * self.weight[:, None]
        for i in reversed(range(len(self._ops))):
            at = self._points[i]
            at.delta = g if at.slope is None else at.slope * g
            if at.bend is not None:
                at.bend = at.bend * g
            g = self._ops[i].vjp(self._theta, self._values[i], at, g, None, self._run)
        return g

    def _tangents(self, V: np.ndarray | None, dX: np.ndarray | None, kind: str, out: np.ndarray | None) -> np.ndarray:
        """Both tangent passes; parts for theta are added to `out` (n, P), the result is for X, (n, N, D)."""
        theta, run = self._theta, self._run
        tangents: list[np.ndarray | None] = [dX]
        kept: list[np.ndarray | None] = []
        for op, X, at in zip(self._ops, self._values, self._points, strict=False):
            tangent, keep = op.jvp(theta, V, X, tangents[-1], at, run)
            tangents.append(tangent)
            kept.append(keep)
        g = self._loss_tangent(tangents[-1], kind, len(V) if V is not None else 1)
        for i in reversed(range(len(self._ops))):
            op, X, at = self._ops[i], self._values[i], self._points[i]
            if kind == "hessian":
                g = op.vjp_jvp(theta, V, X, tangents[i], at, kept[i], g, out, run)
            else:
                g = op.vjp(theta, X, at, g, out, run)
        return g

    def _loss_tangent(self, dZ: np.ndarray | None, kind: str, n: int) -> np.ndarray:
        """Tangent of the loss's gradient along the tangent of the outputs, weights included: (n, N, K)."""
        if dZ is None:
            return np.zeros((n, *self.outputs.shape), self._theta.dtype)
        weight = self.weight
        if kind == "fisher":
            result = (self._head * dZ).sum(axis=-1, keepdims=True) * self._head
        else:
            weight = self.curvature_weight
            result = self.curvature * dZ
            if self._couples_outputs:
                result -= self.curvature * result.sum(axis=-1, keepdims=True)
        return result if weight is None else result * weight[:, None]


def _weight_sum(n_rows: int, weight: np.ndarray | None) -> float:
    return float(n_rows) if weight is None else float(weight.sum(dtype=np.float64))


def linearize(
    ops: Sequence[Op],
    theta: np.ndarray,
    X: np.ndarray,
    y: np.ndarray | None,
    weight: np.ndarray | None,
    cotangent: np.ndarray | None,
    *,
    loss: type[Loss],
    label_smoothing: float,
    loss_of: Callable[[np.ndarray, np.ndarray, np.ndarray | None], tuple[float, np.ndarray]],
    input_scale: float | None,
    run: Pass,
) -> Linearization:
    """Linearize a chain of operations at checked arrays.

    Parameters
    ----------
    ops : sequence of Op
    theta : ndarray (P,)
    X : ndarray (N, D)
        What the first operation reads, `input_scale` included.
    y, weight, cotangent : ndarray or None
        Targets, (N,) or (N, K); weights of the rows (N,); or, instead of targets, ∂ℓ/∂(outputs) (N, K).
    loss : type of Loss
    label_smoothing : float
    loss_of : callable
        Its mean and the derivative of that, as functions of outputs, targets and weights.
    input_scale : float or None
    run : Pass

    Returns
    -------
    Linearization
    """
    values, points = [X], []
    for op in ops:
        out, point = op.linearize(theta, values[-1], run)
        values.append(out)
        points.append(point)
    Z, dtype = values[-1], theta.dtype
    if y is None:
        head = check_array("cotangent", cotangent, Z.shape, dtype)
        rows = (head * Z).sum(axis=1, dtype=np.float64)
        total = _weight_sum(len(X), weight)
        mean = float(rows.sum() if weight is None else rows @ weight) / total if total else 0.0
        curvature, curvature_weight = np.zeros_like(Z), weight
    else:
        mean, _ = loss_of(Z, y, weight)
        head = loss_of(Z, y, None)[1] * dtype.type(len(X))  # the kernels give means
        curvature = loss_curvature(Z, y, loss.name)
        curvature_weight = loss.curvature_weight(y, weight, label_smoothing)
    return Linearization(
        ops,
        theta,
        values,
        points,
        head,
        curvature,
        mean,
        weight,
        curvature_weight,
        couples_outputs=loss.couples_outputs,
        input_scale=input_scale,
        run=run,
    )
