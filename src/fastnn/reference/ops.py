"""The operations of a plan, all their orders next to each other, in NumPy.

Each takes its :class:`~fastnn.plan.OpSpec` and the flat theta; what forward saves for backward is handed over as it is.
Tangents (of parameters, of values, of derivatives: the dots of the formulas) have the directions as a first axis before
the rows, so that a block of directions goes through one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..plan import ACTIVATIONS, OpSpec
from .activations import SAVES_OUTPUT, activation_backward, activation_derivatives, activation_forward
from .dropout import dropout
from .norm import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward

__all__ = [
    "Pass",
    "Point",
    "backward",
    "forward",
    "linear_backward",
    "linearize",
    "move_statistics",
    "tangent_backward",
    "tangent_forward",
]


class Pass(NamedTuple):
    """What an evaluation needs besides theta.

    Attributes
    ----------
    statistics : ndarray or None
        The network's state: running statistics, standardisation, the dropouts' seed.
    training : bool
        Whether batch norm uses the batch's own statistics.
    step : int
        Updates done before, which with the seed fixes the dropout masks; -1 drops nothing.
    """

    statistics: np.ndarray | None = None
    training: bool = False
    step: int = -1


@dataclass(slots=True)
class Point:
    """What a linearization keeps of one operation, for N rows; None for what it does not have.

    Attributes
    ----------
    slope : ndarray (N, n_out)
        σ'(z).
    bend : ndarray (N, n_out)
        σ''(z), and after the backward pass σ''(z) ⊙ ∂L/∂a.
    delta : ndarray (N, n_out)
        ∂L/∂z of a dense or activation op, ∂L/∂(output) of the others.
    normalised, inv_std : ndarray
        û and 1/σ of a norm.
    """

    slope: np.ndarray | None = None
    bend: np.ndarray | None = None
    delta: np.ndarray | None = None
    normalised: np.ndarray | None = None
    inv_std: np.ndarray | None = None


def _weight(theta: np.ndarray, op: OpSpec) -> np.ndarray:
    return theta[op.weight : op.weight + op.n_in * op.n_out].reshape(op.n_in, op.n_out)


def _gamma_beta(theta: np.ndarray, op: OpSpec) -> tuple[np.ndarray, np.ndarray]:
    return theta[op.weight : op.weight + op.n_out], theta[op.bias : op.bias + op.n_out]


def _running(op: OpSpec, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and variance with the weight of their start, momentumᵗ, taken out; 0 and 1 before the first step."""
    n, at = op.n_out, op.state
    count = float(state[at + 2 * n])
    if count == 0.0:
        return np.zeros(n, state.dtype), np.ones(n, state.dtype)
    correction = state.dtype.type(1.0 / (1.0 - op.momentum**count))
    return state[at : at + n] * correction, state[at + n : at + 2 * n] * correction


def _normalised(op: OpSpec, X: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """û and 1/σ of a batch norm."""
    inv_std = 1 / np.sqrt(variance + X.dtype.type(op.epsilon))
    return (X - mean) * inv_std, inv_std


def forward(op: OpSpec, index: int, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Any]:
    """Output of one operation, and what its backward pass needs."""
    if op.kind in ("dense", "activation"):
        Z = X
        if op.kind == "dense":
            Z = X @ _weight(theta, op)
            if op.bias >= 0:
                Z += theta[op.bias : op.bias + op.n_out]
        A = activation_forward(Z, op.activation)
        return A, A if op.activation in SAVES_OUTPUT else Z
    if op.kind == "dropout":
        if run.step < 0:
            return X, None
        assert run.statistics is not None
        return dropout(X, op.drop, int(run.statistics[op.state]), run.step, index), None
    if op.kind == "layer_norm":
        out, normalised, inv_std = layer_norm_forward(X, *_gamma_beta(theta, op), op.epsilon)
        return out, (normalised, inv_std)
    assert run.statistics is not None
    if op.kind == "standardize":
        mean, inverse = np.split(run.statistics[op.state : op.state + 2 * op.n_out], 2)
        return (X - mean) * inverse, None
    if run.training:
        out, mean, variance = batch_norm_forward(X, *_gamma_beta(theta, op), op.epsilon)
        return out, (mean, variance)
    mean, variance = _running(op, run.statistics)
    gamma, beta = _gamma_beta(theta, op)
    return gamma * _normalised(op, X, mean, variance)[0] + beta, (mean, variance)


def backward(
    op: OpSpec, index: int, theta: np.ndarray, X: np.ndarray, saved: Any, dA: np.ndarray, grad: np.ndarray, run: Pass
) -> np.ndarray:
    """∂L/∂X of one operation from ∂L/∂A; its own part of the gradient grows (operations may share parameters)."""
    if op.kind == "dense":
        delta = activation_backward(saved, dA, op.activation)
        _weight(grad, op)[...] += X.T @ delta
        if op.bias >= 0:
            grad[op.bias : op.bias + op.n_out] += delta.sum(axis=0)
        return delta @ _weight(theta, op).T
    if op.kind == "activation":
        return activation_backward(saved, dA, op.activation)
    if op.kind == "dropout":
        return forward(op, index, theta, dA, run)[0]  # linear, with the same mask
    if op.kind == "standardize":
        assert run.statistics is not None
        return dA * run.statistics[op.state + op.n_out : op.state + 2 * op.n_out]
    gamma, _ = _gamma_beta(theta, op)
    if op.kind == "layer_norm":
        dX, dgamma, dbeta = layer_norm_backward(dA, saved[0], gamma, saved[1])
    elif run.training:
        mean, variance = saved
        dX, dgamma, dbeta = batch_norm_backward(dA, X, gamma, mean, variance, op.epsilon)
    else:
        normalised, inv_std = _normalised(op, X, *saved)
        dgamma, dbeta = (dA * normalised).sum(axis=0), dA.sum(axis=0)
        dX = dA * (gamma * inv_std)
    grad[op.weight : op.weight + op.n_out] += dgamma
    grad[op.bias : op.bias + op.n_out] += dbeta
    return dX


def linearize(op: OpSpec, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
    """Output of one operation, with the derivatives that tangents need. Dropout is the identity."""
    if op.kind in ("dense", "activation"):
        Z = X
        if op.kind == "dense":
            Z = X @ _weight(theta, op)
            if op.bias >= 0:
                Z += theta[op.bias : op.bias + op.n_out]
        if op.activation == "linear":
            return Z, Point()
        A, slope, bend = activation_derivatives(Z, op.activation)
        return A, Point(slope, None if ACTIVATIONS[op.activation].piecewise_linear else bend)
    if op.kind in ("dropout", "standardize"):
        return forward(op, 0, theta, X, run._replace(step=-1))[0], Point()
    out, saved = forward(op, 0, theta, X, run)
    normalised, inv_std = saved if op.kind == "layer_norm" else _normalised(op, X, *saved)
    return out, Point(normalised=normalised, inv_std=inv_std)


def _centred(op: OpSpec, C: np.ndarray, U: np.ndarray, run: Pass) -> np.ndarray:
    """C − mean C − û mean(û C), the projection in a norm's derivative; C itself with running statistics."""
    if op.kind == "batch_norm" and not run.training:
        return C
    axis = -2 if op.kind == "batch_norm" else -1
    return C - C.mean(axis=axis, keepdims=True) - U * (U * C).mean(axis=axis, keepdims=True)


def linear_backward(
    op: OpSpec,
    theta: np.ndarray,
    X: np.ndarray,
    at: Point,
    dA: np.ndarray,
    out: np.ndarray | None,
    run: Pass,
    bent: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed derivative of one operation at a point, applied to `dA` (..., N, n_out).

    The result is for the input, (..., N, n_in); the part for the parameters is added to `out` (..., P). With the loss's
    gradient as `dA` this is the backward pass. `bent` is added to what has passed the slope.
    """
    if op.kind in ("dense", "activation"):
        D = dA if at.slope is None else at.slope * dA
        if bent is not None:
            D = D + bent
        if op.kind == "activation":
            return D
        if out is not None:
            out[..., op.weight : op.weight + op.n_in * op.n_out] += (X.T @ D).reshape(*out.shape[:-1], -1)
            if op.bias >= 0:
                out[..., op.bias : op.bias + op.n_out] += D.sum(axis=-2)
        return D @ _weight(theta, op).T
    if op.kind == "dropout":
        return dA
    if op.kind == "standardize":
        return backward(op, 0, theta, X, None, dA, theta, run)
    gamma, _ = _gamma_beta(theta, op)
    U, s = at.normalised, at.inv_std
    assert U is not None
    assert s is not None
    if out is not None:
        out[..., op.weight : op.weight + op.n_out] += (dA * U).sum(axis=-2)
        out[..., op.bias : op.bias + op.n_out] += dA.sum(axis=-2)
    if op.kind == "layer_norm":
        return s[:, None] * _centred(op, gamma * dA, U, run)
    return (s * gamma) * _centred(op, dA, U, run)


def tangent_forward(
    op: OpSpec,
    theta: np.ndarray,
    V: np.ndarray | None,
    X: np.ndarray,
    dX: np.ndarray | None,
    at: Point,
    run: Pass,
) -> tuple[np.ndarray | None, Any]:
    """Tangent of one operation's output, and what `tangent_backward` needs of it.

    Parameters
    ----------
    V : ndarray (n, P) or None
        Tangents of theta, None for zero.
    X, dX : ndarray (N, n_in), (n, N, n_in) or None
        Input and its tangents, None for zero.
    """
    if op.kind in ("dense", "activation"):
        dZ = dX
        if op.kind == "dense":
            dZ = None if dX is None else dX @ _weight(theta, op)
            if V is not None:
                own = X @ V[:, op.weight : op.weight + op.n_in * op.n_out].reshape(-1, op.n_in, op.n_out)
                if op.bias >= 0:
                    own += V[:, None, op.bias : op.bias + op.n_out]
                dZ = own if dZ is None else dZ + own
        return (dZ if dZ is None or at.slope is None else at.slope * dZ), dZ
    if op.kind == "dropout" or (dX is None and op.kind == "standardize"):
        return dX, None
    if op.kind == "standardize":
        assert dX is not None
        return linear_backward(op, theta, X, at, dX, None, run), None  # a diagonal map is its own transpose
    U, s = at.normalised, at.inv_std
    assert U is not None
    assert s is not None
    gamma, _ = _gamma_beta(theta, op)
    dA = None
    if V is not None:
        dA = V[:, None, op.weight : op.weight + op.n_out] * U + V[:, None, op.bias : op.bias + op.n_out]
    if dX is None:
        return dA, None
    dU = (s[:, None] if op.kind == "layer_norm" else s) * _centred(op, dX, U, run)
    return (gamma * dU if dA is None else dA + gamma * dU), dU


def tangent_backward(
    op: OpSpec,
    theta: np.ndarray,
    V: np.ndarray | None,
    X: np.ndarray,
    dX: np.ndarray | None,
    at: Point,
    kept: Any,
    dA: np.ndarray,
    out: np.ndarray | None,
    run: Pass,
) -> np.ndarray:
    """Tangent of the backward pass: what `linear_backward` does to the tangent `dA`, and how that map itself moves.

    `kept` is that of `tangent_forward`; V, X and dX as there.

    ::

        dense       δ̇ = σ' ⊙ ġ + σ'' ⊙ g ⊙ ż      Ẇ-part: xᵀ δ̇ + ẋᵀ δ      ġ_in = δ̇ Wᵀ + δ Ẇᵀ
        batch norm  δ̇ = s [ (γ̇ − γ s m₂) r + γ (ġ' − û̇ mean(û g) − û mean(û̇ g)) ],
                    m₂ = mean(û ż),  r = g − mean g − û mean(û g),  ġ' = ġ − mean ġ − û mean(û ġ)
        layer norm  the same in a row, with γ g for g, γ̇ g + γ ġ for ġ, and 1 for the γ outside
    """
    bent = None if at.bend is None or kept is None else at.bend * kept
    back = linear_backward(op, theta, X, at, dA, out, run, bent)
    if op.kind == "dense":
        weight = slice(op.weight, op.weight + op.n_in * op.n_out)
        if dX is not None and out is not None:
            out[:, weight] += (dX.swapaxes(-1, -2) @ at.delta).reshape(len(out), -1)
        if V is not None:
            back += at.delta @ V[:, weight].reshape(-1, op.n_in, op.n_out).swapaxes(-1, -2)
        return back
    if op.kind not in ("batch_norm", "layer_norm"):
        return back
    U, s, g, dU = at.normalised, at.inv_std, at.delta, kept
    assert U is not None
    assert s is not None
    assert g is not None
    gamma, _ = _gamma_beta(theta, op)
    rows = op.kind == "layer_norm"
    axis, s = (-1, s[:, None]) if rows else (-2, s)
    dgamma = None if V is None else V[:, None, op.weight : op.weight + op.n_out]
    if dU is not None and out is not None:
        out[:, op.weight : op.weight + op.n_out] += (g * dU).sum(axis=-2)
    if dgamma is not None:
        back += s * (_centred(op, dgamma * g, U, run) if rows else dgamma * _centred(op, g, U, run))
    if dU is None or not (rows or run.training):
        return back
    assert dX is not None
    c, factor = (gamma * g, s) if rows else (g, s * gamma)
    m2 = (U * dX).mean(axis=axis, keepdims=True)
    back -= factor * s * m2 * _centred(op, c, U, run)
    mean = dU * (U * c).mean(axis=axis, keepdims=True) + U * (dU * c).mean(axis=axis, keepdims=True)
    back -= factor * mean
    return back


def move_statistics(op: OpSpec, saved: Any, state: np.ndarray) -> None:
    """After a step: running ← m · running + (1 − m) · batch for mean and variance (1/N), and one more is counted."""
    n, at = op.n_out, op.state
    for place, batch in zip((at, at + n), saved, strict=True):
        state[place : place + n] *= op.momentum
        state[place : place + n] += (1.0 - op.momentum) * batch
    state[at + 2 * n] += 1.0
