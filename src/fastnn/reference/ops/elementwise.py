"""Operations that take each element by itself: activation, dropout, standardisation, scale.

::

    activation     a = σ(z)          ∂L/∂z = σ'(z) ⊙ ∂L/∂a
                   ȧ = σ'(z) ⊙ ż     its tangent: σ'(z) ⊙ ġ + σ''(z) ⊙ g ⊙ ż     with g = ∂L/∂a
    dropout        a = x ⊙ mask / (1 − p), the mask a function of (seed, step, layer, element)
    standardize    a = (x − mean) / scale
    scale          a = s ⊙ x            ∂L/∂s = Σ_rows x ⊙ g,  ∂L/∂x = s ⊙ g
                   ȧ = s ⊙ ẋ + ṡ ⊙ x    their tangents: Σ_rows x ⊙ ġ + ẋ ⊙ g,  s ⊙ ġ + ṡ ⊙ g
"""

from __future__ import annotations

import numpy as np

from ...plan import ACTIVATIONS
from ..activations import activation_backward, activation_derivatives, activation_forward
from ..dropout import dropout
from .base import Affine, Op, Pass, Point

__all__ = ["Activation", "Dropout", "Scale", "Standardize"]


class Activation(Op, kind="activation"):
    """a = σ(x)."""

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, np.ndarray]:
        A = activation_forward(X, self.spec.activation, self.spec.negative_slope)
        return A, A if ACTIVATIONS[self.spec.activation].saves_output else X

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: np.ndarray, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        return activation_backward(saved, dA, self.spec.activation, self.spec.negative_slope)

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        if self.spec.activation == "linear":
            return X, Point()
        A, slope, bend = activation_derivatives(X, self.spec.activation, self.spec.negative_slope)
        return A, Point(slope, None if ACTIVATIONS[self.spec.activation].piecewise_linear else bend)

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
        D = dA if at.slope is None else at.slope * dA
        return D if bent is None else D + bent

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        return (dX if dX is None or at.slope is None else at.slope * dX), dX

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
        bent = None if at.bend is None or kept is None else at.bend * kept
        return self.vjp(theta, X, at, dA, out, run, bent)


class Dropout(Op, kind="dropout"):
    """x / (1 − p), or 0 with probability p. The identity outside of training, and in linearizations."""

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, None]:
        if run.step < 0:
            return X, None
        assert run.buffers is not None
        seed = int(run.buffers[self.spec.buffer])
        return dropout(X, self.spec.dropout_rate, seed, run.step, self.index), None

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: None, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        return self.forward(theta, dA, run)[0]  # linear, with the same mask

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        return X, Point()

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
        return dA

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, None]:
        return dX, None


class Standardize(Op, kind="standardize"):
    """(x − mean) / scale, with what the network has learnt of its training data."""

    def _inverse_scale(self, run: Pass) -> np.ndarray:
        assert run.buffers is not None
        start = self.spec.buffer + self.spec.n_out
        return run.buffers[start : start + self.spec.n_out]

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, None]:
        assert run.buffers is not None
        mean = run.buffers[self.spec.buffer : self.spec.buffer + self.spec.n_out]
        return (X - mean) * self._inverse_scale(run), None

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: None, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        return dA * self._inverse_scale(run)

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        return self.forward(theta, X, run)[0], Point()

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
        return dA * self._inverse_scale(run)

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, None]:
        return (None if dX is None else dX * self._inverse_scale(run)), None

    def affine(self, theta: np.ndarray, buffers: np.ndarray) -> Affine:
        n = self.spec.n_out
        mean, inverse_scale = buffers[self.spec.buffer : self.spec.buffer + 2 * n].reshape(2, n)
        return Affine(mean, inverse_scale, np.zeros(n))


class Scale(Op, kind="scale"):
    """s ⊙ x with a parameter s per feature."""

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, None]:
        return X * theta[self.weight], None

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: None, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        grad[self.weight] += (X * dA).sum(axis=0)
        return dA * theta[self.weight]

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        return X * theta[self.weight], Point()

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
        if out is not None:
            out[..., self.weight] += (X * dA).sum(axis=-2)
        return dA * theta[self.weight]

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, None]:
        own = None if V is None else V[:, None, self.weight] * X
        if dX is None:
            return own, None
        return dX * theta[self.weight] + (0.0 if own is None else own), None

    def vjp_jvp(
        self,
        theta: np.ndarray,
        V: np.ndarray | None,
        X: np.ndarray,
        dX: np.ndarray | None,
        at: Point,
        kept: None,
        dA: np.ndarray,
        out: np.ndarray | None,
        run: Pass,
    ) -> np.ndarray:
        back = self.vjp(theta, X, at, dA, out, run)
        if out is not None and dX is not None:
            out[:, self.weight] += (dX * at.delta).sum(axis=-2)
        return back if V is None else back + V[:, None, self.weight] * at.delta

    def affine(self, theta: np.ndarray, buffers: np.ndarray) -> Affine:
        zeros = np.zeros(self.spec.n_out)
        return Affine(zeros, theta[self.weight], zeros)
