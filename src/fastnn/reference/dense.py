"""Matrix products and the fully connected layer: forward and backward next to each other.

Rows are samples. Index letters: n samples, i inputs, j outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .activations import SAVES_OUTPUT, activation_backward, activation_forward

__all__ = ["dense_backward", "dense_forward", "matmul"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def check_array(
    name: str, value: Any, shape: tuple[int | str, ...], dtype: np.dtype[Any] | None = None, *, writable: bool = False
) -> np.ndarray:
    """`value` as a float array of the given shape, never cast; letters in `shape` stand for any length.

    `dtype` is the one that all arguments must share (that of the first of them); None accepts float32 and float64.
    """
    if writable and not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array to change in place, got {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype not in FLOATS:
        raise TypeError(f"{name}: expected dtype float32 or float64, got {array.dtype}")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype} like the other arguments, got {array.dtype}")
    matches = array.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not matches:
        letters = ", ".join(str(length) for length in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name}: expected shape ({letters}), got {array.shape}")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return array


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A new array, or `out` if it can hold the result: contiguous but for the distance of a matrix's rows."""
    if out is None:
        return np.empty(shape, dtype)
    out = check_array("out", out, shape, dtype, writable=True)
    if out.ndim == 2:
        contiguous = out.shape[1] < 2 or out.strides[1] == out.itemsize
        if not (contiguous and out.strides[0] % out.itemsize == 0):
            raise ValueError(f"out: expected the elements of a row next to each other, got strides {out.strides}")
    elif not out.flags.c_contiguous:
        raise ValueError(f"out: expected a C-contiguous array, got strides {out.strides}")
    return out


def matmul(A: np.ndarray, B: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    """Product of two matrices, C = op(A) op(B), where op transposes when asked to.

    Parameters
    ----------
    A, B : ndarray of float32 or float64, 2-D, one dtype
    transpose_a, transpose_b : bool, default=False
        Use Aᵀ, Bᵀ. The inner lengths must agree after that; an inner length of 0 gives zeros.

    Returns
    -------
    ndarray, same dtype, C-contiguous

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or the two differ.
    ValueError
        If the shapes do not fit.
    """
    A = check_array("A", A, ("M", "K"))
    B = check_array("B", B, ("K", "N"), A.dtype)
    left, right = A.T if transpose_a else A, B.T if transpose_b else B
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"B: expected {left.shape[1]} {'columns' if transpose_b else 'rows'} to multiply A of shape {A.shape}"
            f"{' transposed' if transpose_a else ''}, got shape {B.shape}"
        )
    return np.ascontiguousarray(left @ right)


def dense_forward(
    X: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, activation: str = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    """Fully connected layer, A = σ(Z) with Z = X W + b.

    Parameters
    ----------
    X : ndarray (N, n_in) of float32 or float64
    W : ndarray (n_in, n_out), same dtype
    b : ndarray (n_out,), same dtype, optional
    activation : str, default="linear"
        Name of σ.

    Returns
    -------
    A, Z : ndarray (N, n_out), same dtype
        Outputs and pre-activations.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or dtypes differ.
    ValueError
        If shapes do not fit or the activation is unknown.
    """
    X = check_array("X", X, ("N", "n_in"))
    W = check_array("W", W, (X.shape[1], "n_out"), X.dtype)
    Z = X @ W
    if b is not None:
        Z += check_array("b", b, (W.shape[1],), X.dtype)
    return activation_forward(Z, activation), Z


def dense_backward(
    X: np.ndarray,
    W: np.ndarray,
    Z: np.ndarray,
    dA: np.ndarray,
    activation: str = "linear",
    input_gradient: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Reverse pass of :func:`dense_forward`.

    With δ = dA ⊙ σ'(Z) (the δ_l of seed 002, appendix B, in rows)::

        dW = Xᵀ δ        db = Σ_n δ_n        dX = δ Wᵀ

    Parameters
    ----------
    X : ndarray (N, n_in) of float32 or float64
    W : ndarray (n_in, n_out), same dtype
    Z : ndarray (N, n_out), same dtype
        Pre-activations, as :func:`dense_forward` returned them.
    dA : ndarray (N, n_out), same dtype
        ∂L/∂A.
    activation : str, default="linear"
        Name of σ.
    input_gradient : bool, default=True
        Whether dX is wanted (the first layer of a network does not need it).

    Returns
    -------
    dX : ndarray (N, n_in) or None
    dW : ndarray (n_in, n_out)
    db : ndarray (n_out,)
        Sums over the rows, not means.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or dtypes differ.
    ValueError
        If shapes do not fit or the activation is unknown.
    """
    X = check_array("X", X, ("N", "n_in"))
    W = check_array("W", W, (X.shape[1], "n_out"), X.dtype)
    Z = check_array("Z", Z, (X.shape[0], W.shape[1]), X.dtype)
    dA = check_array("dA", dA, Z.shape, X.dtype)
    saved = activation_forward(Z, activation) if activation in SAVES_OUTPUT else Z
    delta = activation_backward(saved, dA, activation)
    return (delta @ W.T if input_gradient else None), X.T @ delta, delta.sum(axis=0)
