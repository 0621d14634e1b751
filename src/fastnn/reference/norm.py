"""Batch and layer normalisation: forward and backward next to each other.

Rows are samples. Index letters: n of N samples, d of D features.
"""

from __future__ import annotations

import numpy as np

from .arguments import Number, Out, Read, checked

__all__ = ["batch_norm_backward", "batch_norm_forward", "layer_norm_backward", "layer_norm_forward"]


EPSILON = Number(above=0.0, finite=True)
ROWS = Read("N", "D", least=(1, 1))


@checked(Z=ROWS, gamma=Read("D"), beta=Read("D"), epsilon=EPSILON, out=Out("N", "D", in_place=("Z",)))
def batch_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch normalisation with the statistics of the batch, feature by feature.

    ::

        μ_d = (1/N) Σ_n z_nd        σ²_d = (1/N) Σ_n (z_nd − μ_d)²        θ_d = (σ²_d + ε)^(-1/2)
        û_nd = (z_nd − μ_d) θ_d     out_nd = γ_d û_nd + β_d

    (Ioffe & Szegedy 2015, algorithm 1; docs/theory.md, eq. 6.1). The statistics are computed from differences to a row
    of the batch, so that columns far from zero lose no digits by that and a constant column has variance 0 exactly.

    Parameters
    ----------
    Z : ndarray (N, D) of float32 or float64
        N and D at least 1. With N = 1 the result is β whatever Z is; a network refuses to train on that.
    gamma, beta : ndarray (D,), same dtype
    epsilon : float, default=1e-5
    out : ndarray (N, D), same dtype, C-contiguous, or None
        Where the result goes; may be Z, if no backward pass follows, and must not overlap any other argument. None
        makes a new array.

    Returns
    -------
    out : ndarray (N, D), same dtype
    mean, variance : ndarray (D,)
        The variance has 1/N. The backward pass needs both, and Z.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, dtypes differ, or epsilon is not a number.
    ValueError
        If shapes do not fit, Z is empty, epsilon is not finite and above 0, or out is read-only, not contiguous, or
        overlaps a part of Z.

    Notes
    -----
    torch normalises with 1/N like this, but its running variance takes 1/(N − 1).
    """
    first = Z[0].copy()
    U = Z - first
    step = U.mean(axis=0)
    U -= step
    variance = np.einsum("nd,nd->d", U, U) / Z.dtype.type(Z.shape[0])
    U *= 1 / np.sqrt(variance + Z.dtype.type(epsilon))
    out = np.multiply(gamma, U, out=out)
    out += beta
    return out, first + step, variance


@checked(
    delta=ROWS,
    Z=Read("N", "D"),
    gamma=Read("D"),
    mean=Read("D"),
    variance=Read("D"),
    epsilon=EPSILON,
    out=Out("N", "D", in_place=("delta", "Z")),
)
def batch_norm_backward(
    delta: np.ndarray,
    Z: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float = 1e-5,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reverse pass of :func:`batch_norm_forward`, through the statistics of the batch as well.

    With δ = ∂L/∂out, θ = (σ² + ε)^(-1/2) and û = (z − μ) θ, made again from Z rather than kept::

        ∂β_d = Σ_n δ_nd        ∂γ_d = Σ_n δ_nd û_nd
        ∂z_nd = γ_d θ_d (δ_nd − ∂β_d / N − û_nd ∂γ_d / N)

    (docs/theory.md, eq. 6.4). The components are ∂û_m/∂z_n = θ ([m = n] − (1 + û_m û_n) / N); the (N, N) matrix of a
    feature is not needed: two sums per feature are all that enters.

    Parameters
    ----------
    delta : ndarray (N, D) of float32 or float64
        ∂L/∂out; N and D at least 1.
    Z : ndarray (N, D), same dtype
        The input of the forward pass.
    gamma : ndarray (D,), same dtype
    mean, variance : ndarray (D,), same dtype
        What the forward pass returned.
    epsilon : float, default=1e-5
        That of the forward pass.
    out : ndarray (N, D), same dtype, C-contiguous, or None
        Where dZ goes; may be delta or Z, and must not overlap any other argument. None makes a new array. In place of
        delta is fastest: two arrays of the batch's size pass through the caches instead of three.

    Returns
    -------
    dZ : ndarray (N, D), same dtype
    dgamma, dbeta : ndarray (D,)
        Sums over the rows, not means.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, dtypes differ, or epsilon is not a number.
    ValueError
        If shapes do not fit, delta is empty, epsilon is not finite and above 0, or out is read-only, not contiguous,
        or overlaps a part of delta or Z.
    """
    per_row = 1 / delta.dtype.type(delta.shape[0])
    inv_std = 1 / np.sqrt(variance + delta.dtype.type(epsilon))
    dZ = Z - mean
    dbeta = delta.sum(axis=0)
    dgamma = inv_std * np.einsum("nd,nd->d", delta, dZ)
    dZ *= -per_row * inv_std * dgamma
    dZ += delta
    dZ -= per_row * dbeta
    return np.multiply(dZ, gamma * inv_std, out=dZ if out is None else out), dgamma, dbeta


@checked(Z=ROWS, gamma=Read("D"), beta=Read("D"), epsilon=EPSILON)
def layer_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layer normalisation, row by row.

    ::

        μ_n = (1/D) Σ_d z_nd        σ²_n = (1/D) Σ_d (z_nd − μ_n)²        θ_n = (σ²_n + ε)^(-1/2)
        û_nd = (z_nd − μ_n) θ_n     out_nd = γ_d û_nd + β_d

    (Ba, Kiros & Hinton 2016, equation 4, with ε inside the root as in torch). No row depends on another. The result is
    right for all finite rows: one whose squares would overflow is normalised in larger units, 2^96 or 2^600.

    Parameters
    ----------
    Z : ndarray (N, D) of float32 or float64
        N and D at least 1.
    gamma, beta : ndarray (D,), same dtype
    epsilon : float, default=1e-5

    Returns
    -------
    out : ndarray (N, D), same dtype
    normalised : ndarray (N, D)
        û, which the backward pass needs.
    inv_std : ndarray (N,)
        θ, which it needs too.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, dtypes differ, or epsilon is not a number.
    ValueError
        If shapes do not fit, Z is empty, or epsilon is not finite and above 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        U, variance = _row_statistics(Z)
        inv_std = 1 / np.sqrt(variance + Z.dtype.type(epsilon))
        U *= inv_std[:, None]
    huge = ~np.isfinite(variance)
    if huge.any():
        unit = Z.dtype.type(2.0 ** (-96 if Z.dtype == np.float32 else -600))
        U[huge], variance = _row_statistics(unit * Z[huge])
        scaled = 1 / np.sqrt(variance + Z.dtype.type(epsilon * float(unit) ** 2))
        U[huge] *= scaled[:, None]
        inv_std[huge] = scaled * unit
    out = gamma * U
    out += beta
    return out, U, inv_std


def _row_statistics(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z − μ and σ² of rows."""
    U = Z - Z[:, :1]
    U -= U.mean(axis=1, keepdims=True)
    return U, np.einsum("nd,nd->n", U, U) / Z.dtype.type(Z.shape[1])


@checked(delta=ROWS, normalised=Read("N", "D"), gamma=Read("D"), inv_std=Read("N"))
def layer_norm_backward(
    delta: np.ndarray, normalised: np.ndarray, gamma: np.ndarray, inv_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reverse pass of :func:`layer_norm_forward`.

    With δ = ∂L/∂out and means over the features of a row::

        ∂β_d = Σ_n δ_nd        ∂γ_d = Σ_n δ_nd û_nd
        ∂z_nd = θ_n (γ_d δ_nd − mean_d(γ δ)_n − û_nd mean_d(û γ δ)_n)

    Parameters
    ----------
    delta : ndarray (N, D) of float32 or float64
        ∂L/∂out; N and D at least 1.
    normalised : ndarray (N, D), same dtype
        û of the forward pass.
    gamma : ndarray (D,), same dtype
    inv_std : ndarray (N,), same dtype
        θ of the forward pass.

    Returns
    -------
    dZ : ndarray (N, D), same dtype
    dgamma, dbeta : ndarray (D,)
        Sums over the rows, not means.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or dtypes differ.
    ValueError
        If shapes do not fit or delta is empty.
    """
    per_column = 1 / delta.dtype.type(delta.shape[1])
    dZ = gamma * delta
    products = np.einsum("nd,nd->n", dZ, normalised)
    dZ -= per_column * dZ.sum(axis=1, keepdims=True)
    dZ -= normalised * (per_column * products)[:, None]
    dZ *= inv_std[:, None]
    return dZ, np.einsum("nd,nd->d", delta, normalised), delta.sum(axis=0)
