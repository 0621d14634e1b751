"""Softmax over the last axis and its derivatives."""

from __future__ import annotations

import numpy as np

from .arguments import Out, Read, checked, threads

__all__ = ["log_softmax", "softmax", "softmax_jacobian", "softmax_vjp"]


LOGITS = Read("N", "K", least=(0, 1))


@checked(Z=LOGITS)
def softmax(Z: np.ndarray) -> np.ndarray:
    """Softmax of every row, p_k = exp(z_k − m) / Σ_j exp(z_j − m) with m = max_j z_j.

    Subtracting the maximum leaves the value as it is and keeps the exponentials from overflowing (docs/theory.md,
    eq. 2.6).

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Logits; K at least 1.

    Returns
    -------
    ndarray (N, K), same dtype
        Rows are at least 0 and sum to 1.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If Z is not 2-D or has no columns.
    """
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    E /= E.sum(axis=1, keepdims=True)
    return E


@checked(Z=LOGITS)
def log_softmax(Z: np.ndarray) -> np.ndarray:
    """Logarithm of :func:`softmax`, z_k − m − log Σ_j exp(z_j − m) with m = max_j z_j.

    Parameters
    ----------
    Z : ndarray (N, K) of float32 or float64
        Logits; K at least 1.

    Returns
    -------
    ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If Z is not 2-D or has no columns.

    Notes
    -----
    Values are accurate for logits of any size (docs/theory.md, eq. 2.6).
    """
    shifted = Z - Z.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


@checked(P=Read("N", "K"), out=Out("N", "K", "K"), threads=threads)
def softmax_jacobian(P: np.ndarray, out: np.ndarray | None = None, threads: int | None = None) -> np.ndarray:
    """Jacobian of softmax for every row, J_n = ∂p/∂z = diag(p_n) − p_n p_nᵀ.

    Parameters
    ----------
    P : ndarray (N, K) of float32 or float64
        Probabilities, the result of :func:`softmax`.
    out : ndarray (N, K, K), same dtype, C-contiguous, optional
        Where the result goes.
    threads : int, optional
        Most threads to use; None is the present limit of BLAS. The reference leaves it to NumPy. The result does not
        depend on it.

    Returns
    -------
    ndarray (N, K, K), same dtype
        Symmetric; ``out`` where it was given. It is also the Hessian of the cross-entropy with respect to the logits.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or the two differ.
    ValueError
        If P is not 2-D, or ``out`` does not fit, cannot be written or is not C-contiguous.
    """
    J = np.empty((*P.shape, P.shape[1]), P.dtype) if out is None else out
    np.multiply(-P[:, :, None], P[:, None, :], out=J)
    diagonal = np.einsum("nkk->nk", J)  # a view: writing to it writes to J
    diagonal += P
    return J


@checked(P=Read("N", "K"), V=Read("N", "K"))
def softmax_vjp(P: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Product of the softmax Jacobian with a vector for every row, J_n v_n = p_n ⊙ (v_n − p_n·v_n).

    The Jacobian is symmetric, so this is the vector-Jacobian and the Jacobian-vector product.

    Parameters
    ----------
    P : ndarray (N, K) of float32 or float64
        Probabilities, the result of :func:`softmax`.
    V : ndarray (N, K), same dtype

    Returns
    -------
    ndarray (N, K), same dtype

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or the two differ.
    ValueError
        If shapes do not fit.
    """
    return P * (V - (P * V).sum(axis=1, keepdims=True))
