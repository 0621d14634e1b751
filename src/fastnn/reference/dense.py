"""Matrix products and the fully connected layer: forward and backward next to each other.

Rows are samples. Index letters: n samples, i inputs, j outputs.
"""

from __future__ import annotations

import numpy as np

from .activations import SAVES_OUTPUT, activation_backward, activation_forward
from .arguments import ACTIVATION, Call, Read, checked, flag

__all__ = ["dense_backward", "dense_forward", "matmul"]


def check_matmul(call: Call) -> None:
    """The inner lengths of a product agree."""
    A, B = call.values["A"], call.values["B"]
    transpose_a, transpose_b = call.values["transpose_a"], call.values["transpose_b"]
    left, right = A.T if transpose_a else A, B.T if transpose_b else B
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"B: expected {left.shape[1]} {'columns' if transpose_b else 'rows'} to multiply A of shape {A.shape}"
            f"{' transposed' if transpose_a else ''}, got shape {B.shape}"
        )


@checked(check_matmul, A=Read("M", "K"), B=Read("L", "N"), transpose_a=flag, transpose_b=flag)
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
    return np.ascontiguousarray((A.T if transpose_a else A) @ (B.T if transpose_b else B))


@checked(X=Read("N", "n_in"), W=Read("n_in", "n_out"), b=Read("n_out", optional=True), activation=ACTIVATION)
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
    Z = X @ W
    if b is not None:
        Z += b
    return activation_forward(Z, activation), Z


@checked(
    X=Read("N", "n_in"),
    W=Read("n_in", "n_out"),
    Z=Read("N", "n_out"),
    dA=Read("N", "n_out"),
    activation=ACTIVATION,
    input_gradient=flag,
)
def dense_backward(
    X: np.ndarray,
    W: np.ndarray,
    Z: np.ndarray,
    dA: np.ndarray,
    activation: str = "linear",
    input_gradient: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Reverse pass of :func:`dense_forward`.

    With δ = dA ⊙ σ'(Z) (docs/theory.md, eq. 3.1 to 3.3)::

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
    saved = activation_forward(Z, activation) if activation in SAVES_OUTPUT else Z
    delta = activation_backward(saved, dA, activation)
    return (delta @ W.T if input_gradient else None), X.T @ delta, delta.sum(axis=0)
