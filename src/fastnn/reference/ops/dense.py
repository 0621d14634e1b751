"""The dense operation, a = σ(z) with z = x W + b, in all its passes.

::

    z = x W + b                       ∂L/∂W = xᵀ δ,  ∂L/∂b = Σ δ,  ∂L/∂x = δ Wᵀ      with δ = σ'(z) ⊙ ∂L/∂a
    ż = ẋ W + x Ẇ + ḃ,  ȧ = σ'(z) ⊙ ż
    δ̇ = σ'(z) ⊙ ġ + σ''(z) ⊙ g ⊙ ż   its tangents: xᵀ δ̇ + ẋᵀ δ,  Σ δ̇,  δ̇ Wᵀ + δ Ẇᵀ    with g = ∂L/∂a
"""

from __future__ import annotations

import numpy as np

from .base import Pass, Point
from .elementwise import Activation

__all__ = ["Dense"]


class Dense(Activation, kind="dense"):
    """σ(x W + b): what :class:`Activation` does to z, behind a product."""

    def _matrix(self, theta: np.ndarray) -> np.ndarray:
        """W (n_in, n_out) within theta."""
        return theta[self.weight].reshape(self.spec.n_in, self.spec.n_out)

    def _z(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        Z: np.ndarray = X @ self._matrix(theta)
        if self.spec.bias >= 0:
            Z += theta[self.bias]
        return Z

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, np.ndarray]:
        return super().forward(theta, self._z(theta, X), run)

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: np.ndarray, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        delta = super().backward(theta, X, saved, dA, grad, run)
        self._matrix(grad)[...] += X.T @ delta
        if self.spec.bias >= 0:
            grad[self.bias] += delta.sum(axis=0)
        return delta @ self._matrix(theta).T

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        return super().linearize(theta, self._z(theta, X), run)

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
        delta = super().vjp(theta, X, at, dA, out, run, bent)
        if out is not None:
            out[..., self.weight] += (X.T @ delta).reshape(*out.shape[:-1], -1)
            if self.spec.bias >= 0:
                out[..., self.bias] += delta.sum(axis=-2)
        return delta @ self._matrix(theta).T

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        dZ: np.ndarray | None = None if dX is None else dX @ self._matrix(theta)
        if V is not None:
            own = X @ V[:, self.weight].reshape(-1, self.spec.n_in, self.spec.n_out)
            if self.spec.bias >= 0:
                own += V[:, None, self.bias]
            dZ = own if dZ is None else dZ + own
        return super().jvp(theta, V, X, dZ, at, run)

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
        back = super().vjp_jvp(theta, V, X, dX, at, kept, dA, out, run)
        if dX is not None and out is not None:
            out[:, self.weight] += (dX.swapaxes(-1, -2) @ at.delta).reshape(len(out), -1)
        if V is not None:
            assert at.delta is not None
            back += at.delta @ V[:, self.weight].reshape(-1, self.spec.n_in, self.spec.n_out).swapaxes(-1, -2)
        return back
