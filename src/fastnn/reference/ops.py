"""The operations of a plan, forward and backward next to each other, in NumPy.

Each takes its :class:`~fastnn.plan.OpSpec` and the flat theta; what forward saves for backward is handed over as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..plan import OpSpec
from .activations import SAVES_OUTPUT, activation_backward, activation_forward
from .dropout import dropout
from .norm import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward

__all__ = ["Pass", "backward", "forward", "move_statistics", "state_size"]


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


def state_size(op: OpSpec) -> int:
    """Elements of the network's state that an operation has."""
    return {"batch_norm": 2 * op.n_out + 1, "standardize": 2 * op.n_out, "dropout": 1}.get(op.kind, 0)


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
        out, normalised, mean, variance = batch_norm_forward(X, *_gamma_beta(theta, op), op.epsilon)
        return out, (normalised, mean, variance)
    mean, variance = _running(op, run.statistics)
    gamma, beta = _gamma_beta(theta, op)
    normalised = (X - mean) / np.sqrt(variance + X.dtype.type(op.epsilon))
    return gamma * normalised + beta, (normalised, mean, variance)


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
        dX, dgamma, dbeta = batch_norm_backward(dA, saved[0], gamma, saved[2], op.epsilon)
    else:
        normalised, _, variance = saved
        dgamma, dbeta = (dA * normalised).sum(axis=0), dA.sum(axis=0)
        dX = dA * (gamma / np.sqrt(variance + dA.dtype.type(op.epsilon)))
    grad[op.weight : op.weight + op.n_out] += dgamma
    grad[op.bias : op.bias + op.n_out] += dbeta
    return dX


def move_statistics(op: OpSpec, saved: Any, state: np.ndarray) -> None:
    """After a step: running ← m · running + (1 − m) · batch for mean and variance (1/N), and one more is counted."""
    n, at = op.n_out, op.state
    for place, batch in ((at, saved[1]), (at + n, saved[2])):
        state[place : place + n] *= op.momentum
        state[place : place + n] += (1.0 - op.momentum) * batch
    state[at + 2 * n] += 1.0
