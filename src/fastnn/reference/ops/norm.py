"""Batch norm and layer norm, a = γ û + β with û = (x − μ) / √(σ² + ε), in all their passes.

μ and σ² are taken over the rows of a batch, feature by feature (batch norm in training), or over the features, row by
row (layer norm). With s = 1/√(σ² + ε), g = ∂L/∂a, means over that axis, and the projection
C(c) = c − mean c − û mean(û c)::

    ∂L/∂x = s C(γ g),   ∂L/∂γ = Σ g û,   ∂L/∂β = Σ g
    û̇ = s C(ẋ),         ȧ = γ̇ û + γ û̇ + β̇
    its tangent:  s [ C(γ̇ g + γ ġ) − s m₂ C(γ g) − û̇ mean(û γ g) − û mean(û̇ γ g) ]    with m₂ = mean(û ẋ)

Of a batch norm γ is constant along the axis and stands in front of C. Outside of training its statistics are the
running ones: C is the identity, and s does not move.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...plan import OpSpec
from ..norm import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward
from .base import Affine, Op, Pass, Point

__all__ = ["BatchNorm", "LayerNorm", "running_statistics"]


def running_statistics(op: OpSpec, buffers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and variance (n_out,) of a batch norm, with the weight of their start, momentumᵗ, taken out.

    0 and 1 before the first step.
    """
    n, at = op.n_out, op.buffer
    count = float(buffers[at + 2 * n])
    if count == 0.0:
        return np.zeros(n, buffers.dtype), np.ones(n, buffers.dtype)
    correction = buffers.dtype.type(1.0 / (1.0 - op.momentum**count))
    return buffers[at : at + n] * correction, buffers[at + n : at + 2 * n] * correction


class _Norm(Op):
    """What both norms share; the axis of their means, and where γ stands, differ."""

    axis: int

    def _statistics_move(self, run: Pass) -> bool:
        """Whether μ and σ² are functions of the input."""
        raise NotImplementedError

    def _column(self, s: np.ndarray) -> np.ndarray:
        """1/σ in a shape that broadcasts to (N, n_out)."""
        raise NotImplementedError

    def _through(self, gamma: np.ndarray, dA: np.ndarray, at: Point, run: Pass) -> np.ndarray:
        """s C(γ dA)."""
        raise NotImplementedError

    def _through_moved(self, dgamma: np.ndarray, g: np.ndarray, at: Point, run: Pass) -> np.ndarray:
        """s C(γ̇ g)."""
        return self._through(dgamma, g, at, run)

    def _centred(self, C: np.ndarray, U: np.ndarray, run: Pass) -> np.ndarray:
        """C − mean C − û mean(û C); C itself where the statistics do not move."""
        if not self._statistics_move(run):
            return C
        return C - C.mean(axis=self.axis, keepdims=True) - U * (U * C).mean(axis=self.axis, keepdims=True)

    @staticmethod
    def _kept(at: Point) -> tuple[np.ndarray, np.ndarray]:
        """û and 1/σ of a point."""
        assert at.normalised is not None
        assert at.inv_std is not None
        return at.normalised, at.inv_std

    def vjp(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        at: Point,
        dA: np.ndarray,
        out: np.ndarray | None,
        run: Pass,
        bent: np.ndarray | None = None,
    ) -> np.ndarray:
        U, _ = self._kept(at)
        if out is not None:
            out[..., self.weight] += (dA * U).sum(axis=-2)
            out[..., self.bias] += dA.sum(axis=-2)
        return self._through(theta[self.weight], dA, at, run)

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        U, s = self._kept(at)
        dA = None if V is None else V[:, None, self.weight] * U + V[:, None, self.bias]
        if dX is None:
            return dA, None
        dU = self._column(s) * self._centred(dX, U, run)
        own = theta[self.weight] * dU
        return (own if dA is None else dA + own), dU

    def vjp_jvp(
        self,
        theta: np.ndarray,
        V: np.ndarray | None,
        X: np.ndarray,
        dX: np.ndarray | None,
        at: Point,
        kept: np.ndarray | None,
        dA: np.ndarray,
        out: np.ndarray | None,
        run: Pass,
    ) -> np.ndarray:
        back = self.vjp(theta, X, at, dA, out, run)
        U, _ = self._kept(at)
        g, dU = at.delta, kept
        assert g is not None
        if dU is not None and out is not None:
            out[:, self.weight] += (g * dU).sum(axis=-2)
        if V is not None:
            back += self._through_moved(V[:, None, self.weight], g, at, run)
        if dU is None or not self._statistics_move(run):
            return back
        assert dX is not None
        factor, c, s = self._outside(theta[self.weight], g, at)
        m2 = (U * dX).mean(axis=self.axis, keepdims=True)
        back -= factor * s * m2 * self._centred(c, U, run)
        mean = dU * (U * c).mean(axis=self.axis, keepdims=True) + U * (dU * c).mean(axis=self.axis, keepdims=True)
        back -= factor * mean
        return back

    def _outside(self, gamma: np.ndarray, g: np.ndarray, at: Point) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """s C(γ g) as factor · C(c): the factor, c, and s in a shape that broadcasts."""
        raise NotImplementedError


class LayerNorm(_Norm, kind="layer_norm"):
    """Means over the features, row by row."""

    axis = -1

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        out, normalised, inv_std = layer_norm_forward(X, theta[self.weight], theta[self.bias], self.spec.epsilon)
        return out, (normalised, inv_std)

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: Any, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        normalised, inv_std = saved
        dX, dgamma, dbeta = layer_norm_backward(dA, normalised, theta[self.weight], inv_std)
        grad[self.weight] += dgamma
        grad[self.bias] += dbeta
        return dX

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        out, (normalised, inv_std) = self.forward(theta, X, run)
        return out, Point(normalised=normalised, inv_std=inv_std)

    def _statistics_move(self, run: Pass) -> bool:
        return True

    def _column(self, s: np.ndarray) -> np.ndarray:
        return s[:, None]

    def _through(self, gamma: np.ndarray, dA: np.ndarray, at: Point, run: Pass) -> np.ndarray:
        U, s = self._kept(at)
        return s[:, None] * self._centred(gamma * dA, U, run)

    def _outside(self, gamma: np.ndarray, g: np.ndarray, at: Point) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, s = self._kept(at)
        return s[:, None], gamma * g, s[:, None]


class BatchNorm(_Norm, kind="batch_norm"):
    """Means over the rows of the batch, feature by feature; running ones outside of training."""

    axis = -2

    def _normalised(self, X: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """û and 1/σ."""
        inv_std = 1 / np.sqrt(variance + X.dtype.type(self.spec.epsilon))
        return (X - mean) * inv_std, inv_std

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        gamma, beta = theta[self.weight], theta[self.bias]
        if run.training:
            out, mean, variance = batch_norm_forward(X, gamma, beta, self.spec.epsilon)
            return out, (mean, variance)
        assert run.buffers is not None
        mean, variance = running_statistics(self.spec, run.buffers)
        return self._normalised(X, mean, variance)[0] * gamma + beta, (mean, variance)

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: Any, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        mean, variance = saved
        gamma = theta[self.weight]
        if run.training:
            dX, dgamma, dbeta = batch_norm_backward(dA, X, gamma, mean, variance, self.spec.epsilon)
        else:
            normalised, inv_std = self._normalised(X, mean, variance)
            dgamma, dbeta = (dA * normalised).sum(axis=0), dA.sum(axis=0)
            dX = dA * (gamma * inv_std)
        grad[self.weight] += dgamma
        grad[self.bias] += dbeta
        return dX

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        out, (mean, variance) = self.forward(theta, X, run)
        normalised, inv_std = self._normalised(X, mean, variance)
        return out, Point(normalised=normalised, inv_std=inv_std)

    def affine(self, theta: np.ndarray, buffers: np.ndarray) -> Affine:
        mean, variance = running_statistics(self.spec, buffers)
        return Affine(mean, theta[self.weight] / np.sqrt(variance + self.spec.epsilon), theta[self.bias])

    def after_step(self, saved: Any, run: Pass) -> None:
        """Running ← m · running + (1 − m) · batch for mean and variance (1/N), and one more is counted."""
        assert run.buffers is not None
        n, at, momentum = self.spec.n_out, self.spec.buffer, self.spec.momentum
        for place, batch in zip((at, at + n), saved, strict=True):
            run.buffers[place : place + n] *= momentum
            run.buffers[place : place + n] += (1.0 - momentum) * batch
        run.buffers[at + 2 * n] += 1.0

    def _statistics_move(self, run: Pass) -> bool:
        return run.training

    def _column(self, s: np.ndarray) -> np.ndarray:
        return s

    def _through(self, gamma: np.ndarray, dA: np.ndarray, at: Point, run: Pass) -> np.ndarray:
        U, s = self._kept(at)
        return (s * gamma) * self._centred(dA, U, run)

    def _through_moved(self, dgamma: np.ndarray, g: np.ndarray, at: Point, run: Pass) -> np.ndarray:
        U, s = self._kept(at)
        return s * (dgamma * self._centred(g, U, run))

    def _outside(self, gamma: np.ndarray, g: np.ndarray, at: Point) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, s = self._kept(at)
        return s * gamma, g, s
