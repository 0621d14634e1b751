"""Losses: value and gradient with respect to the logits in one pass.

Every function returns the weighted mean over the rows of a loss that is a sum over the outputs,

    L = Σ_i w_i ℓ_i / Σ_i w_i        δ_i = ∂L/∂z_i = (w_i / Σ_j w_j) ∂ℓ_i/∂z_i

with w_i = 1 without `sample_weight`. Sums over rows are made in float64. When Σ w = 0 (or there are no rows) the loss
is 0 and so is δ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .arguments import Call, Number, Read, check_array, checked
from .softmax import LOGITS, log_softmax, softmax

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "poisson",
    "squared_error",
]


WEIGHT = Read("N", optional=True)


def check_classes(name: str, value: object, call: Call) -> np.ndarray:
    """Targets of cross-entropy: labels (N,) of int64, or rows (N, K) of the outputs' dtype."""
    N, K = call.lengths["N"], call.lengths["K"]
    y = np.asarray(value)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array")
    if y.dtype == call.dtype:
        y = call.settle(name, y, (N, K))
    elif y.dtype != np.int64:
        raise TypeError(f"{name}: expected dtype int64 (labels) or {call.dtype} (one-hot, soft), got {y.dtype}")
    elif y.shape != (N,):
        raise ValueError(f"{name}: expected shape ({N},) for integer labels, got {y.shape}")
    else:
        wrong = (y < 0) | (y >= K)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"{name}: expected labels in [0, {K}), got {y[row]} in row {row}")
    call.read[name] = y
    return y


@checked(Z=LOGITS, y=check_classes, sample_weight=WEIGHT, label_smoothing=Number(minimum=0.0, below=1.0))
def cross_entropy(
    Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, label_smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Softmax cross-entropy from logits.

    With p = softmax(z) and targets y (one-hot for an integer label)::

        ℓ = −Σ_k y_k log p_k = Σ_k y_k (lse(z) − z_k)        ∂ℓ/∂z = (Σ_k y_k) p − y

    so that δ = w (p − y) / Σ w for labels and for rows that sum to one (docs/theory.md, section 2).
    With `label_smoothing` ε > 0, y' = (1 − ε) y + ε / K stands for y (Szegedy et al. 2016, section 7).

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Logits; K at least 1.
    y : ndarray of int64 (N,), or (N, K) of Z's dtype
        Labels in [0, K), or one-hot or soft targets.
    sample_weight : ndarray (N,) of Z's dtype, optional
    label_smoothing : float, default=0.0
        ε in [0, 1).

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), Z's dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit, or a label or `label_smoothing` is out of range.

    Notes
    -----
    As torch's ``cross_entropy`` has it, for labels and for rows of probabilities.
    """
    log_p = log_softmax(Z)
    N, K = log_p.shape
    w, total = sample_weight, total_weight(sample_weight, Z)
    labels = y
    P = np.exp(log_p)
    if labels.dtype == np.int64:
        rows = np.arange(N)
        losses = -(1.0 - label_smoothing) * log_p[rows, labels]
        P[rows, labels] -= 1.0 - label_smoothing
    else:
        # A zero target takes no part, however far away its logit: 0 · (−∞) is NaN.
        losses = -(1.0 - label_smoothing) * (labels * np.where(labels != 0.0, log_p, 0.0)).sum(axis=1)
        P *= (1.0 - label_smoothing) * labels.sum(axis=1, keepdims=True) + label_smoothing
        P -= (1.0 - label_smoothing) * labels
    if label_smoothing != 0.0:
        losses -= label_smoothing / K * log_p.sum(axis=1, dtype=np.float64)
        P -= label_smoothing / K
    return _reduce(losses, P, w, total)


@checked(Z=Read("N", "K"), y=Read("N", "K"), sample_weight=WEIGHT, label_smoothing=Number(minimum=0.0, below=1.0))
def binary_cross_entropy(
    Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, label_smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Sigmoid cross-entropy from logits, summed over the outputs.

    ::

        ℓ = Σ_k max(z_k, 0) − z_k y_k + log(1 + exp(−|z_k|))        ∂ℓ/∂z_k = sigmoid(z_k) − y_k

    which is −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k) without overflow or cancellation. With `label_smoothing` ε > 0,
    y' = (1 − ε) y + ε / 2 stands for y, as for the softmax of two classes.

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Logits of K independent outputs.
    y : ndarray (N, K), same dtype
        Targets in [0, 1].
    sample_weight : ndarray (N,), same dtype, optional
    label_smoothing : float, default=0.0
        ε in [0, 1).

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit, or `label_smoothing` is out of range.
    """
    w, total = sample_weight, total_weight(sample_weight, Z)
    if label_smoothing != 0.0:
        y = Z.dtype.type(1.0 - label_smoothing) * y + Z.dtype.type(label_smoothing / 2.0)
    E = np.exp(-np.abs(Z))
    losses = (np.maximum(Z, 0.0) - Z * y + np.log1p(E)).sum(axis=1)
    P = np.where(Z >= 0.0, 1.0, E).astype(Z.dtype, copy=False)
    P /= 1.0 + E
    return _reduce(losses, P - y, w, total)


@checked(Z=Read("N", "K"), y=Read("N", "K"), sample_weight=WEIGHT)
def squared_error(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Half the squared error, summed over the outputs: ℓ = ½ Σ_k (z_k − y_k)², ∂ℓ/∂z = z − y.

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Predictions.
    y : ndarray (N, K), same dtype
    sample_weight : ndarray (N,), same dtype, optional

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit.

    Notes
    -----
    scikit-learn's ``MLPRegressor`` divides the loss that it reports, but not its gradient, by K as well.
    """
    w, total = sample_weight, total_weight(sample_weight, Z)
    D = Z - y
    return _reduce(0.5 * np.square(D, dtype=np.float64).sum(axis=1), D, w, total)


@checked(Z=Read("N", "K"), y=Read("N", "K"), sample_weight=WEIGHT)
def absolute_error(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Absolute error, summed over the outputs: ℓ = Σ_k |z_k − y_k|, ∂ℓ/∂z = sign(z − y), 0 where z = y.

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Predictions.
    y : ndarray (N, K), same dtype
    sample_weight : ndarray (N,), same dtype, optional

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Its minimum is at the median. torch's ``L1Loss`` has the same subgradient, and divides by K as well.
    """
    w, total = sample_weight, total_weight(sample_weight, Z)
    D = Z - y
    return _reduce(np.abs(D).sum(axis=1, dtype=np.float64), np.sign(D), w, total)


@checked(Z=Read("N", "K"), y=Read("N", "K"), sample_weight=WEIGHT)
def huber(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Huber's loss with δ = 1, summed over the outputs: squared near zero, absolute beyond.

    ::

        ℓ = Σ_k h(z_k − y_k),  h(d) = ½ d² for |d| ≤ 1, |d| − ½ beyond        ∂ℓ/∂z = max(−1, min(1, z − y))

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Predictions.
    y : ndarray (N, K), same dtype
    sample_weight : ndarray (N,), same dtype, optional

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Huber 1964. torch's ``HuberLoss`` and ``SmoothL1Loss`` with their defaults, which divide by K as well. For another δ
    divide the targets by it.
    """
    w, total = sample_weight, total_weight(sample_weight, Z)
    D = Z - y
    C = np.clip(D, -1.0, 1.0)
    # With c = d clipped to ±1, both cases are c (d − ½ c).
    return _reduce((C * (D - 0.5 * C.astype(np.float64))).sum(axis=1), C, w, total)


@checked(Z=Read("N", "K"), y=Read("N", "K"), sample_weight=WEIGHT)
def poisson(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Negative log-likelihood of counts with rate e^z, summed over the outputs: ℓ = Σ_k e^{z_k} − y_k z_k.

    The derivative is ∂ℓ/∂z = e^z − y. The term log y!, which depends on no parameter, is left out.

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Logarithms of the rates.
    y : ndarray (N, K), same dtype
        At least 0.
    sample_weight : ndarray (N,), same dtype, optional

    Returns
    -------
    loss : float
        Weighted mean over the rows.
    delta : ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Where e^z is beyond the dtype (z above 88.7 in float32, 709.7 in float64), loss and derivative are infinite, unless
    the row's weight is 0. torch's ``PoissonNLLLoss`` with its defaults is the same, but divides by K as well.
    """
    w, total = sample_weight, total_weight(sample_weight, Z)
    if w is not None:
        Z = np.where(w[:, None] == 0.0, Z.dtype.type(0.0), Z)
    with np.errstate(over="ignore"):
        rate = np.exp(Z)
    return _reduce((rate - y.astype(np.float64) * Z).sum(axis=1), rate - y, w, total)


def loss_curvature(Z: np.ndarray, y: np.ndarray, loss: str) -> np.ndarray:
    """Second derivative of each loss, by a vector q for each row.

    ∂²ℓ/∂z² is diag(q) − q qᵀ with q = softmax(z) for cross_entropy, and diag(q) for the others::

        binary_cross_entropy  s (1 − s), s = sigmoid(z)      squared_error  1      poisson         e^z
        huber                 1 where |z − y| ≤ 1, else 0                          absolute_error  0

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
    y : ndarray
        Targets; only huber's matter.
    loss : str
        Name of a loss.

    Returns
    -------
    ndarray (N, K), Z's dtype

    Raises
    ------
    TypeError
        If Z is neither float32 nor float64.
    ValueError
        If the loss is not known.
    """
    Z = check_array("Z", Z, ("N", "K"))
    if loss not in KERNELS:
        raise ValueError(f"loss: unknown name {loss!r}")
    return KERNELS[loss].curvature(Z, y)


def _sigmoid_curvature(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    E = np.exp(-np.abs(Z))
    return E / np.square(1.0 + E)


def _poisson_curvature(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(Z)


class Kernels(NamedTuple):
    """What a loss is made of.

    Attributes
    ----------
    loss : callable
        Of outputs, targets and weights: the mean over rows and its derivative (N, K).
    curvature : callable
        Of outputs and targets: q (N, K) of :func:`loss_curvature`.
    """

    loss: Callable[..., tuple[float, np.ndarray]]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]


#: The losses by name.
KERNELS: dict[str, Kernels] = {
    "cross_entropy": Kernels(cross_entropy, lambda Z, y: softmax(Z)),
    "binary_cross_entropy": Kernels(binary_cross_entropy, _sigmoid_curvature),
    "squared_error": Kernels(squared_error, lambda Z, y: np.ones_like(Z)),
    "absolute_error": Kernels(absolute_error, lambda Z, y: np.zeros_like(Z)),
    "huber": Kernels(huber, lambda Z, y: (np.abs(Z - y) <= 1.0).astype(Z.dtype)),
    "poisson": Kernels(poisson, _poisson_curvature),
}


def total_weight(sample_weight: np.ndarray | None, Z: np.ndarray) -> float:
    """Σ w, summed in float64; the number of rows without weights."""
    return float(Z.shape[0]) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))


def _reduce(losses: np.ndarray, D: np.ndarray, w: np.ndarray | None, total: float) -> tuple[float, np.ndarray]:
    """Weighted mean of the rows' losses; D, the rows' gradients, becomes δ in place."""
    if total == 0.0:
        D[...] = 0.0
        return 0.0, D
    if w is None:
        D *= 1.0 / total
        return float(losses.sum(dtype=np.float64)) / total, D
    D *= (w / total).astype(D.dtype, copy=False)[:, None]
    return float(np.dot(losses.astype(np.float64), w.astype(np.float64))) / total, D
