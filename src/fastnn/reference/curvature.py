"""Second-order pieces of dense layers: per-sample outer products, Hessians and their sums.

The formulas are for a chain of dense layers with element-wise activations, one row per sample. With x̃ = (x, 1) where
the layer has a bias, parameter (k, j) of a layer is k · n_out + j: a weight, or for k = n_in a bias. A_lm is
∂²ℓ/∂z_l ∂z_m, the Hessian of a sample's loss with respect to the pre-activations of two layers.

Index letters: i samples, k inputs and j outputs of the layer, m and o those of the later layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .dense import check_array, check_out

__all__ = [
    "cross_backward",
    "curvature_backward",
    "hessian_block_acc",
    "loss_hessian",
    "per_sample_hessian_blocks",
    "per_sample_outer",
    "symmetrize",
]

CHUNK = 1 << 23  # elements of a temporary array


# -- per sample -------------------------------------------------------------------------------------------------------


def per_sample_outer(
    X: np.ndarray, D: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """Outer product of every row of X, with a 1 behind it where there is a bias, and the row of D: x̃_i ⊗ δ_i.

    With X what a dense layer read and D = ∂ℓ/∂z it is the gradient of each sample with respect to the layer's
    parameters.

    Parameters
    ----------
    X : ndarray (N, n_in) of float32 or float64
    D : ndarray (N, n_out), same dtype
    bias : bool, default=True
    out : ndarray (N, P), same dtype, optional
        Where the result goes, P = (n_in + bias) n_out. The last axis must be contiguous; rows may be any distance
        apart, so that it can be some columns of a wider array.
    threads : int, optional
        Most threads to use; None is the present limit of BLAS. The twin leaves it to NumPy. The result does not depend
        on it.

    Returns
    -------
    ndarray (N, P), same dtype
        ``out`` where it was given. Column k n_out + j has x̃_k δ_j.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit, or ``out`` cannot be written or has gaps between its columns.
    """
    X, D = check_outer(X, D)
    n_in, n_out = X.shape[1], D.shape[1]
    out = check_out(out, (X.shape[0], (n_in + bool(bias)) * n_out), X.dtype)
    cube = out.reshape(X.shape[0], n_in + bool(bias), n_out)  # splits an axis: a view
    np.multiply(X[:, :, None], D[:, None, :], out=cube[:, :n_in])
    if bias:
        cube[:, n_in] = D
    return out


def per_sample_hessian_blocks(
    A: np.ndarray, X: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """Hessian of every sample's loss with respect to one layer's parameters, (x̃_i x̃_iᵀ) ⊗ A_i.

    Parameters
    ----------
    A : ndarray (N, n_out, n_out) of float32 or float64
        Hessians with respect to the layer's pre-activations; symmetric.
    X : ndarray (N, n_in), same dtype
        What the layer read.
    bias : bool, default=True
    out : ndarray (N, P, P), same dtype, C-contiguous, optional
        Where the result goes, P = (n_in + bias) n_out.
    threads : int, optional
        As for :func:`per_sample_outer`.

    Returns
    -------
    ndarray (N, P, P), same dtype
        ``out`` where it was given. Element [k n_out + j, k' n_out + j'] of sample i is x̃_k x̃_k' A_i[j, j'] (seed 002,
        equations 66 to 70; with the bias as the weight of an input that is 1).

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit, or ``out`` cannot be written or is not C-contiguous.
    """
    A, X = check_blocks(A, X)
    X = _with_ones(X, bias)
    (N, n_in), n_out = X.shape, A.shape[1]
    out = check_out(out, (N, n_in * n_out, n_in * n_out), X.dtype)
    block = out.reshape(N, n_in, n_out, n_in, n_out)
    for i in range(N):
        np.multiply(X[i, :, None, None, None], X[i, :, None] * A[i, :, None, :], out=block[i])
    return out


def loss_hessian(curvature: np.ndarray, softmax: bool, weight: np.ndarray | None = None) -> np.ndarray:
    """Hessian of every row's loss with respect to the outputs: w (diag q − q qᵀ) with `softmax`, else w diag q.

    Parameters
    ----------
    curvature : ndarray (N, K) of float32 or float64
        q: the probabilities for cross-entropy; the second derivatives of a loss that is a sum over outputs.
    softmax : bool
    weight : ndarray (N,), same dtype, optional
        w; None is ones.

    Returns
    -------
    ndarray (N, K, K), same dtype
        Symmetric.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit.
    """
    q, w = check_loss_hessian(curvature, weight)
    scaled = q if w is None else q * w[:, None]
    H = -(scaled[:, :, None] * q[:, None, :]) if softmax else np.zeros((*q.shape, q.shape[1]), q.dtype)
    diagonal = np.einsum("ikk->ik", H)  # a view: writing to it writes to H
    diagonal += scaled
    return H


# -- from layer to layer ----------------------------------------------------------------------------------------------


def curvature_backward(
    A: np.ndarray,
    W: np.ndarray,
    slope: np.ndarray | None = None,
    bend: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Hessian with respect to the pre-activations of the layer below, S W A Wᵀ S + diag(bend) with S = diag(slope).

    Parameters
    ----------
    A : ndarray (N, n_out, n_out) of float32 or float64
        Hessians with respect to the pre-activations of the layer above; symmetric.
    W : ndarray (n_in, n_out), same dtype
        Its weight.
    slope : ndarray (N, n_in), same dtype, optional
        σ'(z) of the layer below; None is ones.
    bend : ndarray (N, n_in), same dtype, optional
        σ''(z) ⊙ ∂ℓ/∂a of the layer below; None is zeros, which is the Gauss-Newton part.
    threads : int, optional
        As for :func:`per_sample_outer`.

    Returns
    -------
    ndarray (N, n_in, n_in), same dtype
        Symmetric to the last bit in the compiled function.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit.

    Notes
    -----
    Seed 002, algorithm 3 (its equations 78 to 83) is this recursion.
    """
    A, W, slope, bend = check_curvature_backward(A, W, slope, bend)
    result = W @ (A @ W.T)
    if slope is not None:
        result *= slope[:, :, None] * slope[:, None, :]
    if bend is not None:
        np.einsum("ikk->ik", result)[...] += bend
    return result


def cross_backward(
    M: np.ndarray, W: np.ndarray, slope: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    """One step down of a derivative that is held transposed, M Wᵀ diag(slope).

    From A_{l+1,m}ᵀ it makes A_{l,m}ᵀ, and from (∂x_{m−1}/∂z_{l+1})ᵀ it makes (∂x_{m−1}/∂z_l)ᵀ.

    Parameters
    ----------
    M : ndarray (N, R, n_out) or (N, n_out) of float32 or float64
        Of the layer above; a matrix stands for the diagonals of R = n_out rows.
    W : ndarray (n_in, n_out), same dtype
        The weight of the layer above.
    slope : ndarray (N, n_in), same dtype, optional
        σ'(z) of the layer below; None is ones.
    threads : int, optional
        As for :func:`per_sample_outer`.

    Returns
    -------
    ndarray (N, R, n_in), same dtype

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit.
    """
    M, W, slope = check_cross_backward(M, W, slope)
    result = M[:, :, None] * W.T if M.ndim == 2 else M @ W.T
    if slope is not None:
        result *= slope[:, None, :]
    return result


# -- sums over samples ------------------------------------------------------------------------------------------------


def hessian_block_acc(
    X: np.ndarray,
    A: np.ndarray,
    H: np.ndarray,
    row: int,
    column: int,
    X2: np.ndarray | None = None,
    jacobian: np.ndarray | None = None,
    delta: np.ndarray | None = None,
    *,
    bias: bool = True,
    bias2: bool = True,
    scale: float = 1.0,
    threads: int | None = None,
) -> None:
    """Add to a Hessian the block of one layer, or of two, summed over samples.

    The block of layer l itself, at H[row, row], of which the upper triangle alone is written::

        [(k, j), (k', j')] += scale · Σ_i x̃_i[k] x̃_i[k'] A_i[j, j']

    and with X2 that of layer l and a later layer m, at H[row, column]::

        [(k, j), (m, o)] += scale · Σ_i x̃_i[k] ( A_i[j, o] x̃2_i[m] + J_i[j, m] δ_i[o] )

    Parameters
    ----------
    X : ndarray (N, n_in) of float32 or float64
        What layer l read.
    A : ndarray (N, n_out, n_out), or (N, n_out, n_out2) with X2, same dtype
        A_ll, of which the upper triangle alone is read, or A_lm. Any strides: that of a transposed view is as good.
    H : ndarray (P, P), same dtype, C-contiguous
        Changed in place.
    row, column : int
        Where the block begins. They are equal without X2; with it the block lies above the diagonal.
    X2 : ndarray (N, n_in2), same dtype, optional
        What layer m read.
    jacobian : ndarray (N, n_out, n_in2) or (N, n_out), same dtype, optional
        J = ∂x_{m−1}/∂z_l, any strides; a matrix stands for diagonals, as m = l + 1 has it (the slope of layer l).
        Together with delta and X2 only; the Gauss-Newton matrix does without.
    delta : ndarray (N, n_out2), same dtype, optional
        ∂ℓ/∂z_m.
    bias, bias2 : bool, default=True
        Whether layer l and layer m have a bias.
    scale : float, default=1.0
    threads : int, optional
        As for :func:`per_sample_outer`.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit, H cannot be written or is not C-contiguous, or the block is not within its upper triangle.

    Notes
    -----
    The second term stands there because what layer m reads depends on the weights of layer l.
    """
    X, A, H, X2, jacobian, delta = check_block_acc(X, A, H, row, column, X2, jacobian, delta, bias, bias2)
    left, right = _with_ones(X, bias), _with_ones(X if X2 is None else X2, bias if X2 is None else bias2)
    (N, n_in), n_out, n_in2, n_out2 = left.shape, A.shape[1], right.shape[1], A.shape[2]
    block = np.zeros((n_in, n_out * n_in2 * n_out2), X.dtype)
    if X2 is None:
        A = np.triu(A)
        A = A + np.triu(A, 1).transpose(0, 2, 1)
    for part in _parts(N, block.shape[1]):
        T = A[part, :, None, :] * right[part, None, :, None]
        if jacobian is not None and delta is not None:
            inputs = n_in2 - bool(bias2)
            if jacobian.ndim == 2:
                np.einsum("ijjo->ijo", T[:, :, :inputs])[...] += jacobian[part, :, None] * delta[part, None, :]
            else:
                T[:, :, :inputs] += jacobian[part, :, :, None] * delta[part, None, None, :]
        block += left[part].T @ T.reshape(-1, block.shape[1])
    block = block.reshape(n_in * n_out, n_in2 * n_out2)
    if X2 is None:
        block = np.triu(block)
    H[row : row + block.shape[0], column : column + block.shape[1]] += block.dtype.type(scale) * block


def symmetrize(H: np.ndarray, threads: int | None = None) -> None:
    """Copy the upper triangle of a square matrix to the lower one, in place.

    Parameters
    ----------
    H : ndarray (P, P) of float32 or float64, C-contiguous
    threads : int, optional
        As for :func:`per_sample_outer`.

    Raises
    ------
    TypeError
        If H is not an array, or its dtype is neither float32 nor float64.
    ValueError
        If H is not square, not C-contiguous or cannot be written.
    """
    H = check_square(H)
    for i in range(1, H.shape[0]):
        H[i, :i] = H[:i, i]


# -- checks, shared with the compiled functions -----------------------------------------------------------------------


def check_outer(X: Any, D: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of per_sample_outer."""
    X = check_array("X", X, ("N", "n_in"))
    return X, check_array("D", D, (X.shape[0], "n_out"), X.dtype)


def _check_hessians(A: Any) -> np.ndarray:
    A = check_array("A", A, ("N", "n_out", "n_out"))
    if A.shape[1] != A.shape[2]:
        raise ValueError(f"A: expected square matrices, shape (N, n_out, n_out), got {A.shape}")
    return A


def check_blocks(A: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of per_sample_hessian_blocks."""
    A = _check_hessians(A)
    return A, check_array("X", X, (A.shape[0], "n_in"), A.dtype)


def check_loss_hessian(curvature: Any, weight: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs of loss_hessian."""
    q = check_array("curvature", curvature, ("N", "K"))
    return q, None if weight is None else check_array("weight", weight, (q.shape[0],), q.dtype)


def check_curvature_backward(
    A: Any, W: Any, slope: Any, bend: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Inputs of curvature_backward."""
    A = _check_hessians(A)
    W = check_array("W", W, ("n_in", A.shape[1]), A.dtype)
    shape = (A.shape[0], W.shape[0])
    slope = None if slope is None else check_array("slope", slope, shape, A.dtype)
    return A, W, slope, None if bend is None else check_array("bend", bend, shape, A.dtype)


def check_cross_backward(M: Any, W: Any, slope: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Inputs of cross_backward."""
    M = check_array("M", M, ("N", "n_out") if np.ndim(M) == 2 else ("N", "R", "n_out"))
    W = check_array("W", W, ("n_in", M.shape[-1]), M.dtype)
    return M, W, None if slope is None else check_array("slope", slope, (M.shape[0], W.shape[0]), M.dtype)


def check_square(H: Any) -> np.ndarray:
    """A matrix that is to be changed in place."""
    H = check_array("H", H, ("P", "P"), writable=True)
    if H.shape[0] != H.shape[1]:
        raise ValueError(f"H: expected a square matrix, got shape {H.shape}")
    if not H.flags.c_contiguous:
        raise ValueError(f"H: expected a C-contiguous matrix, got strides {H.strides}")
    return H


def check_block_acc(
    X: Any, A: Any, H: Any, row: int, column: int, X2: Any, jacobian: Any, delta: Any, bias: bool, bias2: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Inputs of hessian_block_acc."""
    X = check_array("X", X, ("N", "n_in"))
    N, dtype = X.shape[0], X.dtype
    H = check_square(H)
    check_array("H", H, H.shape, dtype)
    if (jacobian is None) != (delta is None):
        raise ValueError("jacobian, delta: expected both or neither")
    if X2 is None:
        if jacobian is not None:
            raise ValueError("jacobian: expected None without X2, as the block of one layer has no such term")
        if column != row:
            raise ValueError(f"column: expected {row} like row, as there is no X2, got {column}")
        A = check_array("A", A, (N, "n_out", "n_out"), dtype)
        if A.shape[1] != A.shape[2]:
            raise ValueError(f"A: expected square matrices, shape ({N}, n_out, n_out), got {A.shape}")
        width = (X.shape[1] + bool(bias)) * A.shape[1]
        height = width
    else:
        X2 = check_array("X2", X2, (N, "n_in2"), dtype)
        A = check_array("A", A, (N, "n_out", "n_out2"), dtype)
        height, width = (X.shape[1] + bool(bias)) * A.shape[1], (X2.shape[1] + bool(bias2)) * A.shape[2]
        if jacobian is not None:
            diagonal = np.ndim(jacobian) == 2
            shape: tuple[int, ...] = (N, A.shape[1]) if diagonal else (N, A.shape[1], X2.shape[1])
            jacobian = check_array("jacobian", jacobian, shape, dtype)
            if diagonal and X2.shape[1] != A.shape[1]:
                raise ValueError(
                    f"jacobian: expected shape ({N}, {A.shape[1]}, {X2.shape[1]}), as a diagonal one needs as many"
                    f" outputs as the later layer has inputs, got {jacobian.shape}"
                )
            delta = check_array("delta", delta, (N, A.shape[2]), dtype)
        if column < row + height:
            raise ValueError(f"column: expected at least {row + height}, beyond the rows of the block, got {column}")
    if row < 0 or column + width > H.shape[0]:
        raise ValueError(
            f"H: expected room for a block of shape ({height}, {width}) at ({row}, {column}), got shape {H.shape}"
        )
    return X, A, H, X2, jacobian, delta


def _with_ones(X: np.ndarray, bias: bool) -> np.ndarray:
    """x̃: X with a column of ones where there is a bias."""
    return np.concatenate([X, np.ones((X.shape[0], 1), X.dtype)], axis=1) if bias else X


def _parts(N: int, width: int) -> Iterator[slice]:
    """Slices of rows, so few at a time that rows of `width` elements stay a temporary array of bounded size."""
    step = max(1, CHUNK // max(width, 1))
    return (slice(i, i + step) for i in range(0, N, step))
