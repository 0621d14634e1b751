"""Public kernels: the compiled form of every function of :mod:`fastnn.reference`, with the same names, signatures,
defaults and errors.

Arrays of any strides come in, never cast; checked and contiguous ones go to the compiled loops. Documentation is the
twin's, which states the formulas in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import reference
from ._core import curvature as _curvature  # type: ignore[attr-defined]
from ._core import kernels as _core
from .reference.activations import ACTIVATIONS, SAVES_OUTPUT
from .reference.curvature import (
    check_block_acc,
    check_blocks,
    check_cross_backward,
    check_curvature_backward,
    check_loss_hessian,
    check_outer,
    check_square,
)
from .reference.dense import check_array, check_out
from .reference.dropout import check_key, check_rate
from .reference.norm import check_epsilon, check_matrix, check_result
from .reference.rows import check_bit_generator, check_contiguous, check_order

__all__ = [
    "absolute_error",
    "activation_backward",
    "activation_derivatives",
    "activation_forward",
    "adagrad_update",
    "adam_update",
    "all_finite",
    "batch_norm_backward",
    "batch_norm_forward",
    "binary_cross_entropy",
    "cross_backward",
    "cross_entropy",
    "curvature_backward",
    "dense_backward",
    "dense_forward",
    "dropout",
    "exp",
    "gradient_norm2",
    "hessian_block_acc",
    "huber",
    "layer_norm_backward",
    "layer_norm_forward",
    "log",
    "log_softmax",
    "loss_hessian",
    "matmul",
    "nag_momentum",
    "nag_update",
    "per_sample_hessian_blocks",
    "per_sample_outer",
    "poisson",
    "rmsprop_update",
    "sgd_update",
    "shuffle",
    "simd",
    "softmax",
    "softmax_jacobian",
    "softmax_vjp",
    "squared_error",
    "symmetrize",
    "tanh",
]

INF = math.inf
_Function = TypeVar("_Function", bound=Callable[..., Any])
_CODES = _core.ACTIVATION_CODES
_NO_LABELS = np.empty(0, np.int64)
_NONE = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.float32, np.float64)}


def _twin(function: _Function) -> _Function:
    """Give a kernel its twin's documentation."""
    function.__doc__ = getattr(reference, function.__name__).__doc__
    return function


def _ready(array: np.ndarray) -> np.ndarray:
    """Contiguous, and where its element type wants it in memory."""
    array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


def _floats(name: str, value: Any) -> np.ndarray:
    """A float array of any shape, contiguous."""
    array = np.asarray(value)
    if array.dtype not in _NONE:
        raise TypeError(f"{name}: expected dtype float32 or float64, got {array.dtype}")
    return _ready(array).reshape(array.shape)


def _contiguous(name: str, value: Any, shape: tuple[int | str, ...], dtype: np.dtype[Any] | None = None) -> np.ndarray:
    return _ready(check_array(name, value, shape, dtype))


def _code(activation: str) -> int:
    if not isinstance(activation, str) or activation not in _CODES:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return _CODES[activation]


def _threads(threads: Any) -> int | None:
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads: expected an integer or None, got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    return min(int(threads), 1 << 16)


def simd() -> dict[str, Any]:
    """Instruction sets of the compiled kernels.

    Returns
    -------
    dict
        ``"active"``: the name of the one in use, the best that the processor can run unless the environment variable
        ``FASTNN_SIMD`` named another at import; ``"available"``: the names of all that can be used here.
    """
    return _core.simd()


# -- math and activations ---------------------------------------------------------------------------------------------


@_twin
def exp(x: np.ndarray) -> np.ndarray:
    x = _floats("x", x)
    y = np.empty_like(x)
    _core.exp(x.ravel(), y.ravel())
    return y


@_twin
def log(x: np.ndarray) -> np.ndarray:
    x = _floats("x", x)
    y = np.empty_like(x)
    _core.log(x.ravel(), y.ravel())
    return y


@_twin
def tanh(x: np.ndarray) -> np.ndarray:
    x = _floats("x", x)
    y = np.empty_like(x)
    _core.tanh(x.ravel(), y.ravel())
    return y


@_twin
def activation_forward(Z: np.ndarray, activation: str) -> np.ndarray:
    Z, code = _floats("Z", Z), _code(activation)
    A = np.empty_like(Z)
    _core.activation_forward(code, Z.ravel(), A.ravel())
    return A


@_twin
def activation_backward(saved: np.ndarray, delta: np.ndarray, activation: str) -> np.ndarray:
    saved, code = _floats("saved", saved), _code(activation)
    result = np.array(check_array("delta", delta, saved.shape, saved.dtype), order="C")
    _core.activation_backward(code, saved.ravel(), result.ravel())
    return result


@_twin
def activation_derivatives(Z: np.ndarray, activation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    Z, code = _floats("Z", Z), _code(activation)
    A, D1, D2 = np.empty_like(Z), np.empty_like(Z), np.empty_like(Z)
    _core.activation_derivatives(code, Z.ravel(), A.ravel(), D1.ravel(), D2.ravel())
    return A, D1, D2


# -- products ---------------------------------------------------------------------------------------------------------


def _product(
    A: np.ndarray,
    B: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> np.ndarray:
    """op(A) op(B) + bias of contiguous arrays."""
    m, k = A.shape[::-1] if transpose_a else A.shape
    n = B.shape[0] if transpose_b else B.shape[1]
    C = np.empty((m, n), A.dtype)
    pack = np.empty(_core.gemm_pack_bytes() // A.itemsize, A.dtype)
    start = _NONE[A.dtype] if bias is None else bias
    _core.gemm(m, n, k, A.ravel(), transpose_a, B.ravel(), transpose_b, start, pack, C.ravel())
    return C


@_twin
def matmul(A: np.ndarray, B: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    A = _contiguous("A", A, ("M", "K"))
    B = _contiguous("B", B, ("K", "N"), A.dtype)
    left, right = A.T if transpose_a else A, B.T if transpose_b else B
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"B: expected {left.shape[1]} {'columns' if transpose_b else 'rows'} to multiply A of shape {A.shape}"
            f"{' transposed' if transpose_a else ''}, got shape {B.shape}"
        )
    return _product(A, B, transpose_a=transpose_a, transpose_b=transpose_b)


@_twin
def dense_forward(
    X: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, activation: str = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    X = _contiguous("X", X, ("N", "n_in"))
    W = _contiguous("W", W, (X.shape[1], "n_out"), X.dtype)
    bias = None if b is None else _contiguous("b", b, (W.shape[1],), X.dtype)
    code = _code(activation)
    Z = _product(X, W, bias)
    A = np.empty_like(Z)
    _core.activation_forward(code, Z.ravel(), A.ravel())
    return A, Z


@_twin
def dense_backward(
    X: np.ndarray,
    W: np.ndarray,
    Z: np.ndarray,
    dA: np.ndarray,
    activation: str = "linear",
    input_gradient: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    X = _contiguous("X", X, ("N", "n_in"))
    W = _contiguous("W", W, (X.shape[1], "n_out"), X.dtype)
    Z = _contiguous("Z", Z, (X.shape[0], W.shape[1]), X.dtype)
    delta = np.array(check_array("dA", dA, Z.shape, X.dtype), order="C")
    code = _code(activation)
    saved = activation_forward(Z, activation) if activation in SAVES_OUTPUT else Z
    _core.activation_backward(code, saved.ravel(), delta.ravel())
    db = np.empty(W.shape[1], X.dtype)
    _core.column_sums(X.shape[0], delta.ravel(), db)
    return (_product(delta, W, transpose_b=True) if input_gradient else None), _product(X, delta, transpose_a=True), db


# -- softmax and losses -----------------------------------------------------------------------------------------------


def _logits(Z: Any) -> np.ndarray:
    Z = _contiguous("Z", Z, ("N", "K"))
    if Z.shape[1] == 0:
        raise ValueError(f"Z: expected at least one column, got shape {Z.shape}")
    return Z


@_twin
def softmax(Z: np.ndarray) -> np.ndarray:
    Z = _logits(Z)
    P = np.empty_like(Z)
    _core.softmax(Z.shape[1], Z.ravel(), P.ravel())
    return P


@_twin
def log_softmax(Z: np.ndarray) -> np.ndarray:
    Z = _logits(Z)
    log_P = np.empty_like(Z)
    _core.log_softmax(Z.shape[1], Z.ravel(), log_P.ravel())
    return log_P


@_twin
def softmax_jacobian(P: np.ndarray, out: np.ndarray | None = None, threads: int | None = None) -> np.ndarray:
    P = _contiguous("P", P, ("N", "K"))
    J = check_out(out, (*P.shape, P.shape[1]), P.dtype)
    if J.size:
        _curvature.loss_hessian(P, True, _NONE[P.dtype], J, _threads(threads))
    return J


@_twin
def softmax_vjp(P: np.ndarray, V: np.ndarray) -> np.ndarray:
    P = _contiguous("P", P, ("N", "K"))
    V = _contiguous("V", V, P.shape, P.dtype)
    dZ = np.empty_like(P)
    if dZ.size:
        _core.softmax_vjp(P.shape[1], P.ravel(), V.ravel(), dZ.ravel())
    return dZ


def _weights(sample_weight: Any, Z: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights, empty where there are none, and their sum."""
    if sample_weight is None:
        return _NONE[Z.dtype], float(Z.shape[0])
    w = _contiguous("sample_weight", sample_weight, (Z.shape[0],), Z.dtype)
    return w, float(w.sum(dtype=np.float64))


def _mean(total: float, loss: float, delta: np.ndarray) -> tuple[float, np.ndarray]:
    if total == 0.0:
        delta[...] = 0.0
        return 0.0, delta
    delta *= 1.0 / total
    return loss / total, delta


@_twin
def cross_entropy(
    Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, label_smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    Z = _logits(Z)
    N, K = Z.shape
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing: expected a number in [0, 1), got {label_smoothing!r}")
    w, total = _weights(sample_weight, Z)
    target = np.asarray(y)
    labels, soft = _NO_LABELS, _NONE[Z.dtype]
    if target.dtype == np.int64:
        if target.shape != (N,):
            raise ValueError(f"y: expected shape ({N},) for integer labels, got {target.shape}")
        wrong = (target < 0) | (target >= K)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"y: expected labels in [0, {K}), got {target[row]} in row {row}")
        labels = _ready(target)
    elif target.dtype == Z.dtype:
        soft = _contiguous("y", target, (N, K), Z.dtype).ravel()
    else:
        raise TypeError(f"y: expected dtype int64 (labels) or {Z.dtype} (one-hot, soft), got {target.dtype}")
    delta = np.empty_like(Z)
    loss = _core.cross_entropy(K, Z.ravel(), labels, soft, w, label_smoothing, delta.ravel())
    return _mean(total, loss, delta)


def _elementwise_loss(kernel: Callable[..., float], Z: Any, y: Any, sample_weight: Any) -> tuple[float, np.ndarray]:
    """A loss whose targets have the shape of the outputs."""
    Z = _contiguous("Z", Z, ("N", "K"))
    y = _contiguous("y", y, Z.shape, Z.dtype)
    w, total = _weights(sample_weight, Z)
    delta = np.empty_like(Z)
    loss = kernel(max(Z.shape[1], 1), Z.ravel(), y.ravel(), w, delta.ravel())
    return _mean(total, loss, delta)


@_twin
def binary_cross_entropy(
    Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    return _elementwise_loss(_core.binary_cross_entropy, Z, y, sample_weight)


@_twin
def squared_error(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    return _elementwise_loss(_core.squared_error, Z, y, sample_weight)


@_twin
def absolute_error(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    return _elementwise_loss(_core.absolute_error, Z, y, sample_weight)


@_twin
def huber(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    return _elementwise_loss(_core.huber, Z, y, sample_weight)


@_twin
def poisson(Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    return _elementwise_loss(_core.poisson, Z, y, sample_weight)


# -- normalisation ----------------------------------------------------------------------------------------------------


@_twin
def batch_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    results = _core.batch_norm_forward(Z, gamma, beta, epsilon, out)
    if results is None:  # there is something to refuse, or to copy first
        Z = _ready(check_matrix("Z", Z))
        gamma = _ready(check_array("gamma", gamma, (Z.shape[1],), Z.dtype))
        beta = _ready(check_array("beta", beta, (Z.shape[1],), Z.dtype))
        results = _core.batch_norm_forward(Z, gamma, beta, check_epsilon(epsilon), check_result(out, Z))
    return results


@_twin
def batch_norm_backward(
    delta: np.ndarray,
    Z: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float = 1e-5,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    results = _core.batch_norm_backward(delta, Z, gamma, mean, variance, epsilon, out)
    if results is None:
        delta = _ready(check_matrix("delta", delta))
        Z = _ready(check_array("Z", Z, delta.shape, delta.dtype))
        gamma = _ready(check_array("gamma", gamma, (delta.shape[1],), delta.dtype))
        mean = _ready(check_array("mean", mean, (delta.shape[1],), delta.dtype))
        variance = _ready(check_array("variance", variance, (delta.shape[1],), delta.dtype))
        out = check_result(out, delta, Z)
        results = _core.batch_norm_backward(delta, Z, gamma, mean, variance, check_epsilon(epsilon), out)
    return results


@_twin
def layer_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    Z = _ready(check_matrix("Z", Z))
    gamma = _contiguous("gamma", gamma, (Z.shape[1],), Z.dtype)
    beta = _contiguous("beta", beta, (Z.shape[1],), Z.dtype)
    epsilon = check_epsilon(epsilon)
    out, U, inv_std = np.empty_like(Z), np.empty_like(Z), np.empty(Z.shape[0], Z.dtype)
    _core.layer_norm_forward(Z.ravel(), gamma, beta, epsilon, U.ravel(), inv_std, out.ravel())
    return out, U, inv_std


@_twin
def layer_norm_backward(
    delta: np.ndarray, normalised: np.ndarray, gamma: np.ndarray, inv_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    delta = _ready(check_matrix("delta", delta))
    U = _contiguous("normalised", normalised, delta.shape, delta.dtype)
    gamma = _contiguous("gamma", gamma, (delta.shape[1],), delta.dtype)
    inv_std = _contiguous("inv_std", inv_std, (delta.shape[0],), delta.dtype)
    dZ, dgamma, dbeta = np.empty_like(delta), np.zeros_like(gamma), np.zeros_like(gamma)
    _core.layer_norm_backward(delta.ravel(), U.ravel(), gamma, inv_std, dZ.ravel(), dgamma, dbeta)
    return dZ, dgamma, dbeta


# -- dropout ----------------------------------------------------------------------------------------------------------


@_twin
def dropout(X: np.ndarray, rate: float, seed: int, step: int = 0, layer: int = 0, first_row: int = 0) -> np.ndarray:
    X = _contiguous("X", X, ("N", "D"))
    rate = check_rate(rate)
    key = check_key(X.shape, seed, step, layer, first_row)
    out = np.empty_like(X)
    if X.size:
        _core.dropout(X.shape[1], X.ravel(), rate, *key, out.ravel())
    return out


# -- rows ------------------------------------------------------------------------------------------------------------


@_twin
def all_finite(x: np.ndarray) -> bool:
    return _core.all_finite(check_contiguous(x).ravel())  # type: ignore[no-any-return]


@_twin
def shuffle(rows: np.ndarray, bit_generator: np.random.BitGenerator, orders: np.ndarray | None = None) -> None:
    check_order(rows)
    if orders is not None:
        check_order(orders, "orders", len(rows))
    _core.shuffle(rows, check_bit_generator(bit_generator), orders)


# -- curvature --------------------------------------------------------------------------------------------------------


@_twin
def per_sample_outer(
    X: np.ndarray, D: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    X, D = map(_ready, check_outer(X, D))
    out = check_out(out, (X.shape[0], (X.shape[1] + bool(bias)) * D.shape[1]), X.dtype)
    if out.size:
        _curvature.per_sample_outer(X, D, bias, out, _threads(threads))
    return out


@_twin
def per_sample_hessian_blocks(
    A: np.ndarray, X: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    A, X = map(_ready, check_blocks(A, X))
    width = (X.shape[1] + bool(bias)) * A.shape[1]
    out = check_out(out, (X.shape[0], width, width), X.dtype)
    if out.size:
        _curvature.per_sample_hessian_blocks(A, X, bias, out, _threads(threads))
    return out


@_twin
def loss_hessian(curvature: np.ndarray, softmax: bool, weight: np.ndarray | None = None) -> np.ndarray:
    q, w = check_loss_hessian(curvature, weight)
    H = np.empty((*q.shape, q.shape[1]), q.dtype)
    if H.size:
        w = _NONE[q.dtype] if w is None else _ready(w)
        _curvature.loss_hessian(_ready(q), softmax, w, H, None)
    return H


def _rows_or_none(value: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """A contiguous matrix, of no rows for None."""
    return np.empty((0, 1), like.dtype) if value is None else _ready(value)


@_twin
def curvature_backward(
    A: np.ndarray,
    W: np.ndarray,
    slope: np.ndarray | None = None,
    bend: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    A, W, slope, bend = check_curvature_backward(A, W, slope, bend)
    A, W = _ready(A), _ready(W)
    out = np.empty((A.shape[0], W.shape[0], W.shape[0]), A.dtype)
    if out.size:
        _curvature.curvature_backward(A, W, _rows_or_none(slope, A), _rows_or_none(bend, A), out, _threads(threads))
    return out


@_twin
def cross_backward(
    M: np.ndarray, W: np.ndarray, slope: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    M, W, slope = check_cross_backward(M, W, slope)
    M, W = _ready(M), _ready(W)
    out = np.empty((M.shape[0], M.shape[1], W.shape[0]), M.dtype)
    if out.size:
        _curvature.cross_backward(M.ravel(), M.ndim == 2, W, _rows_or_none(slope, M), out, _threads(threads))
    return out


@_twin
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
    X, A, H, X2, jacobian, delta = check_block_acc(X, A, H, row, column, X2, jacobian, delta, bias, bias2)
    X = _ready(X)
    X2, delta = (None if value is None else _ready(value) for value in (X2, delta))
    diagonal = False
    if jacobian is not None and jacobian.ndim == 2:
        jacobian, diagonal = jacobian[:, :, None], True
    if A.size:
        _curvature.hessian_block_acc(
            X, A, H, row, column, X2, jacobian, diagonal, delta, bias, bias2, scale, _threads(threads)
        )


@_twin
def symmetrize(H: np.ndarray, threads: int | None = None) -> None:
    H = check_square(H)
    if H.size:
        _curvature.symmetrize(H, _threads(threads))


# -- update rules -----------------------------------------------------------------------------------------------------


def _update(
    rule: Callable[..., None],
    theta: Any,
    grad: Any,
    state: dict[str, np.ndarray | None],
    numbers: tuple[Any, ...],
    *terms: float,
) -> None:
    """Check the arrays of an update rule, run it, and write back those that had to be copied to be contiguous.

    An array that a rule does without is None, and empty for the compiled rule.
    """
    theta = check_array("theta", theta, ("P",), writable=True)
    grad = _contiguous("grad", grad, theta.shape, theta.dtype)
    changed = [theta] + [
        _NONE[theta.dtype] if array is None else check_array(name, array, theta.shape, theta.dtype, writable=True)
        for name, array in state.items()
    ]
    work = [_ready(array) for array in changed]
    rule(work[0], grad, *work[1:], *numbers, terms)
    for array, copy in zip(changed, work, strict=True):
        if array is not copy:
            array[...] = copy


@_twin
def sgd_update(
    theta: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    terms = (scale, l1, l2, factor, clip_value)
    if momentum != 0.0 and velocity is None:
        raise ValueError("velocity: expected an array because momentum is not 0, got None")
    state = {"velocity": velocity if momentum != 0.0 else None}
    _update(_core.sgd_update, theta, grad, state, (learning_rate, momentum, nesterov and momentum != 0.0), *terms)


@_twin
def nag_momentum(step: int, count: int = 1) -> np.ndarray:
    if step < 1:
        raise ValueError(f"step: expected an integer >= 1, got {step}")
    if count < 0:
        raise ValueError(f"count: expected an integer >= 0, got {count}")
    momenta = np.empty(count)
    _core.nag_momentum(step, momenta)
    return momenta


@_twin
def nag_update(
    theta: np.ndarray,
    grad: np.ndarray,
    ahead: np.ndarray,
    learning_rate: float,
    momentum: float,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    terms = (scale, l1, l2, factor, clip_value)
    _update(_core.nag_update, theta, grad, {"ahead": ahead}, (learning_rate, momentum), *terms)


@_twin
def adagrad_update(
    theta: np.ndarray,
    grad: np.ndarray,
    s: np.ndarray,
    learning_rate: float,
    epsilon: float = 1e-10,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    terms = (scale, l1, l2, factor, clip_value)
    _update(_core.adagrad_update, theta, grad, {"s": s}, (learning_rate, epsilon), *terms)


@_twin
def rmsprop_update(
    theta: np.ndarray,
    grad: np.ndarray,
    s: np.ndarray,
    learning_rate: float,
    rho: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    mean: np.ndarray | None = None,
    velocity: np.ndarray | None = None,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    terms = (scale, l1, l2, factor, clip_value)
    if momentum != 0.0 and velocity is None:
        raise ValueError("velocity: expected an array because momentum is not 0, got None")
    state = {"s": s, "mean": mean, "velocity": velocity if momentum != 0.0 else None}
    _update(_core.rmsprop_update, theta, grad, state, (learning_rate, rho, epsilon, momentum), *terms)


@_twin
def adam_update(
    theta: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    v_max: np.ndarray | None = None,
    epsilon_hat: bool = False,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    if step < 1:
        raise ValueError(f"step: expected an integer >= 1, got {step}")
    terms = (scale, l1, l2, factor, clip_value)
    numbers = (step, learning_rate, beta1, beta2, epsilon, weight_decay, epsilon_hat)
    _update(_core.adam_update, theta, grad, {"m": m, "v": v, "v_max": v_max}, numbers, *terms)


@_twin
def gradient_norm2(
    theta: np.ndarray, grad: np.ndarray, *, scale: float = 1.0, l1: float = 0.0, l2: float = 0.0
) -> float:
    theta = _contiguous("theta", theta, ("P",))
    grad = _contiguous("grad", grad, theta.shape, theta.dtype)
    return _core.gradient_norm2(theta, grad, (scale, l1, l2, 1.0, INF))
