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

from .arguments import Call, Changed, Integer, Number, Out, Read, check_array, checked, flag, threads

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


# -- arguments --------------------------------------------------------------------------------------------------------


class Square(Changed):
    """A square matrix (N, N, ...) that is changed in place, too large to be copied."""

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray | None:
        H = check_array(name, value, ("P", "P"), call.dtype, writable=True)
        if H.shape[0] != H.shape[1]:
            raise ValueError(f"{name}: expected a square matrix, got shape {H.shape}")
        return super().__call__(name, H, call)


class Hessians(Read):
    """Square matrices (N, n_out, n_out)."""

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray | None:
        N = call.lengths.get("N", "N")
        A = check_array(name, value, (N, "n_out", "n_out"), call.dtype)
        if A.shape[1] != A.shape[2]:
            raise ValueError(f"{name}: expected square matrices, shape ({N}, n_out, n_out), got {A.shape}")
        return super().__call__(name, A, call)


SQUARE = Square("P", "P", contiguous=True)
HESSIANS = Hessians("N", "n_out", "n_out")


def _check_rows(name: str, value: Any, call: Call) -> np.ndarray | None:
    """M of cross_backward: matrices, or their diagonals."""
    return Read("N", "n_out")(name, value, call) if np.ndim(value) == 2 else Read("N", "R", "n_out")(name, value, call)


def _check_block_hessians(name: str, value: Any, call: Call) -> np.ndarray | None:
    """A of hessian_block_acc: square for the block of one layer."""
    if call.values["X2"] is None:
        return Hessians("N", "n_out", "n_out", strided=True)(name, value, call)
    return Read("N", "n_out", "n_out2", strided=True)(name, value, call)


def _check_jacobian(name: str, value: Any, call: Call) -> np.ndarray | None:
    """J of hessian_block_acc: matrices, or their diagonals; only with X2 and delta."""
    delta, X2 = call.values["delta"], call.values["X2"]
    if (value is None) != (delta is None):
        raise ValueError("jacobian, delta: expected both or neither")
    if value is None:
        return None
    if X2 is None:
        raise ValueError("jacobian: expected None without X2, as the block of one layer has no such term")
    if np.ndim(value) != 2:
        return Read("N", "n_out", "n_in2", strided=True)(name, value, call)
    jacobian = Read("N", "n_out", strided=True)(name, value, call)
    N, outputs, inputs = (call.lengths[length] for length in ("N", "n_out", "n_in2"))
    if inputs != outputs:
        raise ValueError(
            f"jacobian: expected shape ({N}, {outputs}, {inputs}), as a diagonal one needs as many outputs as the later"
            f" layer has inputs, got {np.shape(value)}"
        )
    return jacobian


def _check_block(call: Call) -> None:
    """The block of hessian_block_acc is within the upper triangle of H."""
    n, row, column = call.lengths, call.values["row"], call.values["column"]
    height = (n["n_in"] + n["bias"]) * n["n_out"]
    width = height if call.values["X2"] is None else (n["n_in2"] + n["bias2"]) * n["n_out2"]
    if call.values["X2"] is None and column != row:
        raise ValueError(f"column: expected {row} like row, as there is no X2, got {column}")
    if call.values["X2"] is not None and column < row + height:
        raise ValueError(f"column: expected at least {row + height}, beyond the rows of the block, got {column}")
    if row < 0 or column + width > n["P"]:
        shape = (n["P"], n["P"])
        raise ValueError(
            f"H: expected room for a block of shape ({height}, {width}) at ({row}, {column}), got shape {shape}"
        )


# -- per sample -------------------------------------------------------------------------------------------------------


@checked(
    X=Read("N", "n_in"),
    D=Read("N", "n_out"),
    bias=flag,
    out=Out(lambda n: (n["N"], (n["n_in"] + n["bias"]) * n["n_out"]), rows_apart=True),
    threads=threads,
)
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
        Most threads to use; None is the present limit of BLAS. The reference leaves it to NumPy. The result does not
        depend on it.

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
    n_in, n_out = X.shape[1], D.shape[1]
    if out is None:
        out = np.empty((X.shape[0], (n_in + bias) * n_out), X.dtype)
    cube = out.reshape(X.shape[0], n_in + bias, n_out)  # splits an axis: a view
    np.multiply(X[:, :, None], D[:, None, :], out=cube[:, :n_in])
    if bias:
        cube[:, n_in] = D
    return out


@checked(
    A=HESSIANS,
    X=Read("N", "n_in"),
    bias=flag,
    out=Out(lambda n: (n["N"], *2 * ((n["n_in"] + n["bias"]) * n["n_out"],))),
    threads=threads,
)
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
        ``out`` where it was given. Element [k n_out + j, k' n_out + j'] of sample i is x̃_k x̃_k' A_i[j, j']
        (docs/theory.md, eq. 5.7; the bias is the weight of an input that is 1).

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they differ.
    ValueError
        If shapes do not fit, or ``out`` cannot be written or is not C-contiguous.
    """
    X = _with_ones(X, bias)
    (N, n_in), n_out = X.shape, A.shape[1]
    if out is None:
        out = np.empty((N, n_in * n_out, n_in * n_out), X.dtype)
    block = out.reshape(N, n_in, n_out, n_in, n_out)
    for i in range(N):
        np.multiply(X[i, :, None, None, None], X[i, :, None] * A[i, :, None, :], out=block[i])
    return out


@checked(curvature=Read("N", "K"), softmax=flag, weight=Read("N", optional=True))
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
    q, w = curvature, weight
    scaled = q if w is None else q * w[:, None]
    H = -(scaled[:, :, None] * q[:, None, :]) if softmax else np.zeros((*q.shape, q.shape[1]), q.dtype)
    diagonal = np.einsum("ikk->ik", H)  # a view: writing to it writes to H
    diagonal += scaled
    return H


# -- from layer to layer ----------------------------------------------------------------------------------------------


@checked(
    A=HESSIANS,
    W=Read("n_in", "n_out"),
    slope=Read("N", "n_in", optional=True),
    bend=Read("N", "n_in", optional=True),
    threads=threads,
)
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
    docs/theory.md, eq. 5.3: Hessian backpropagation (Botev, Ritter & Barber 2017; Dangel, Harmeling & Hennig 2020).
    """
    result = W @ (A @ W.T)
    if slope is not None:
        result *= slope[:, :, None] * slope[:, None, :]
    if bend is not None:
        np.einsum("ikk->ik", result)[...] += bend
    return result


@checked(M=_check_rows, W=Read("n_in", "n_out"), slope=Read("N", "n_in", optional=True), threads=threads)
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
    result = M[:, :, None] * W.T if M.ndim == 2 else M @ W.T
    if slope is not None:
        result *= slope[:, None, :]
    return result


# -- sums over samples ------------------------------------------------------------------------------------------------


@checked(
    _check_block,
    X=Read("N", "n_in"),
    A=_check_block_hessians,
    H=SQUARE,
    row=Integer(-(2**63)),
    column=Integer(-(2**63)),
    X2=Read("N", "n_in2", optional=True),
    jacobian=_check_jacobian,
    delta=Read("N", "n_out2", optional=True),
    bias=flag,
    bias2=flag,
    scale=Number(),
    threads=threads,
)
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
    left, right = _with_ones(X, bias), _with_ones(X if X2 is None else X2, bias if X2 is None else bias2)
    (N, n_in), n_out, n_in2, n_out2 = left.shape, A.shape[1], right.shape[1], A.shape[2]
    block = np.zeros((n_in, n_out * n_in2 * n_out2), X.dtype)
    if X2 is None:
        A = np.triu(A)
        A = A + np.triu(A, 1).transpose(0, 2, 1)
    for part in _parts(N, block.shape[1]):
        T = A[part, :, None, :] * right[part, None, :, None]
        if jacobian is not None and delta is not None:
            inputs = n_in2 - bias2
            if jacobian.ndim == 2:
                np.einsum("ijjo->ijo", T[:, :, :inputs])[...] += jacobian[part, :, None] * delta[part, None, :]
            else:
                T[:, :, :inputs] += jacobian[part, :, :, None] * delta[part, None, None, :]
        block += left[part].T @ T.reshape(T.shape[0], block.shape[1])
    block = block.reshape(n_in * n_out, n_in2 * n_out2)
    if X2 is None:
        block = np.triu(block)
    H[row : row + block.shape[0], column : column + block.shape[1]] += block.dtype.type(scale) * block


@checked(H=SQUARE, threads=threads)
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
    for i in range(1, H.shape[0]):
        H[i, :i] = H[:i, i]


# -- parts ------------------------------------------------------------------------------------------------------------


def _with_ones(X: np.ndarray, bias: bool) -> np.ndarray:
    """x̃: X with a column of ones where there is a bias."""
    return np.concatenate([X, np.ones((X.shape[0], 1), X.dtype)], axis=1) if bias else X


def _parts(N: int, width: int) -> Iterator[slice]:
    """Slices of rows, so few at a time that rows of `width` elements stay a temporary array of bounded size."""
    step = max(1, CHUNK // max(width, 1))
    return (slice(i, i + step) for i in range(0, N, step))
