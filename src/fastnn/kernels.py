"""Compiled kernels: every function of :mod:`fastnn.reference` under the same name, signature, defaults and errors.

Arguments are checked by the reference function's contract, which copies what is not contiguous and casts nothing. The
documentation is the reference's, which states the formulas in NumPy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import reference
from ._core import curvature as _curvature
from ._core import kernels as _core
from .losses import LOSSES
from .names import listing
from .plan import AUGMENTATIONS, NEGATIVE_SLOPE, RULES
from .reference import losses, optim
from .reference.activations import SAVES_OUTPUT
from .reference.arguments import Contract
from .reference.losses import total_weight

__all__ = [
    "activation_backward",
    "activation_derivatives",
    "activation_forward",
    "all_finite",
    "augment_rows",
    "batch_norm_backward",
    "batch_norm_forward",
    "cross_backward",
    "curvature_backward",
    "dense_backward",
    "dense_forward",
    "dropout",
    "exp",
    "hessian_block_acc",
    "layer_norm_backward",
    "layer_norm_forward",
    "log",
    "log_softmax",
    "loss_hessian",
    "matmul",
    "per_sample_hessian_blocks",
    "per_sample_outer",
    "shuffle",
    "simd",
    "softmax",
    "softmax_jacobian",
    "softmax_vjp",
    "symmetrize",
    "tanh",
]
__all__ += losses.__all__
__all__ += optim.__all__
__dir__ = listing(__all__)

INF = math.inf
_Function = TypeVar("_Function", bound=Callable[..., Any])
_CODES = _core.ACTIVATION_CODES
_NONE = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.float32, np.float64)}


def _compiled(function: _Function) -> _Function:
    """Give a compiled kernel the contract and the documentation of its namesake in fastnn.reference."""
    return _namesake(function, function.__name__)


def _namesake(function: Callable[..., Any], name: str) -> Any:
    """The function of that name in fastnn.reference, computed by `function`.

    `function` gets arguments that are checked, contiguous and aligned; what had to be copied to be so and is changed in
    place is written back. As in the reference, `unchecked` is the function itself; its arrays must be C-contiguous and
    aligned.
    """
    reference_function = getattr(reference, name)
    contract: Contract = reference_function.contract

    @functools.wraps(reference_function)
    def call(*args: Any, **kwargs: Any) -> Any:
        checked = contract.check(args, kwargs)
        copies = checked.make_ready()
        result = function(**checked.values)
        for array, copy in copies:
            array[...] = copy
        return result

    call.__module__ = __name__
    call.unchecked = function  # type: ignore[attr-defined]
    return call


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


@_compiled
def exp(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _core.exp(x.size, x, y)
    return y


@_compiled
def log(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _core.log(x.size, x, y)
    return y


@_compiled
def tanh(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _core.tanh(x.size, x, y)
    return y


@_compiled
def activation_forward(Z: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE) -> np.ndarray:
    A = np.empty_like(Z)
    _core.activation_forward(_CODES[activation], negative_slope, Z.size, Z, A)
    return A


@_compiled
def activation_backward(
    saved: np.ndarray, delta: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE
) -> np.ndarray:
    result = delta.copy()
    _core.activation_backward(_CODES[activation], negative_slope, saved.size, saved, result)
    return result


@_compiled
def activation_derivatives(
    Z: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    A, D1, D2 = np.empty_like(Z), np.empty_like(Z), np.empty_like(Z)
    _core.activation_derivatives(_CODES[activation], negative_slope, Z.size, Z, A, D1, D2)
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
    strides = (1, k) if transpose_b else (n, 1)
    _core.gemm(m, n, k, A, 0, transpose_a, B, *strides, bias, False, pack, C, n)
    return C


@_compiled
def matmul(A: np.ndarray, B: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    return _product(A, B, transpose_a=transpose_a, transpose_b=transpose_b)


@_compiled
def dense_forward(
    X: np.ndarray, W: np.ndarray, b: np.ndarray | None = None, activation: str = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    Z = _product(X, W, b)
    A = np.empty_like(Z)
    _core.activation_forward(_CODES[activation], NEGATIVE_SLOPE, Z.size, Z, A)
    return A, Z


@_compiled
def dense_backward(
    X: np.ndarray,
    W: np.ndarray,
    Z: np.ndarray,
    dA: np.ndarray,
    activation: str = "linear",
    input_gradient: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    saved = activation_forward(Z, activation) if activation in SAVES_OUTPUT else Z
    delta = activation_backward(saved, dA, activation)
    db = np.empty(W.shape[1], X.dtype)
    _core.column_sums(*delta.shape, delta, False, db)
    return (_product(delta, W, transpose_b=True) if input_gradient else None), _product(X, delta, transpose_a=True), db


# -- softmax and losses -----------------------------------------------------------------------------------------------


@_compiled
def softmax(Z: np.ndarray) -> np.ndarray:
    P = np.empty_like(Z)
    _core.softmax(*Z.shape, Z, P)
    return P


@_compiled
def log_softmax(Z: np.ndarray) -> np.ndarray:
    log_P = np.empty_like(Z)
    _core.log_softmax(*Z.shape, Z, log_P)
    return log_P


@_compiled
def softmax_jacobian(P: np.ndarray, out: np.ndarray | None = None, threads: int | None = None) -> np.ndarray:
    J = np.empty((*P.shape, P.shape[1]), P.dtype) if out is None else out
    if J.size:
        _curvature.loss_hessian(P, True, _NONE[P.dtype], J, threads)
    return J


@_compiled
def softmax_vjp(P: np.ndarray, V: np.ndarray) -> np.ndarray:
    dZ = np.empty_like(P)
    if dZ.size:
        _core.softmax_vjp(*P.shape, P, V, dZ)
    return dZ


def _weights(sample_weight: np.ndarray | None, Z: np.ndarray) -> tuple[np.ndarray | None, float]:
    """The weights and their sum; divided by it where its inverse may leave the dtype."""
    total = total_weight(sample_weight, Z)
    if sample_weight is not None and total != 0.0 and not 1e-30 < abs(total) < 1e30:
        return (sample_weight / total).astype(Z.dtype), 1.0
    return sample_weight, total


def _mean(total: float, loss: float, delta: np.ndarray) -> tuple[float, np.ndarray]:
    if total == 0.0:
        delta[...] = 0.0
        return 0.0, delta
    delta *= 1.0 / total
    return loss / total, delta


def _loss(name: str) -> Callable[..., tuple[float, np.ndarray]]:
    """The compiled kernel of a loss; y: labels of int64, or targets of the outputs' shape and dtype."""
    code = _core.LOSS_CODES[name]

    def loss(
        Z: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None, label_smoothing: float = 0.0
    ) -> tuple[float, np.ndarray]:
        labels, target = (y, None) if y.dtype == np.int64 else (None, y)
        w, total = _weights(sample_weight, Z)
        delta = np.empty_like(Z)
        value = _core.loss(code, *Z.shape, Z, labels, target, w, label_smoothing, None, delta)
        return _mean(total, value, delta)

    return _namesake(loss, name)


# -- normalisation ----------------------------------------------------------------------------------------------------


# Batch norm looks at its arguments in C first: a small batch takes no longer than the checks in Python do.


def _batch_norm(function: _Function) -> _Function:
    """The compiled call; where it returns None, as there is something to refuse or to copy first, by the contract."""
    careful = _compiled(function)

    @functools.wraps(careful)
    def call(*args: Any, **kwargs: Any) -> Any:
        results = function(*args, **kwargs)
        return careful(*args, **kwargs) if results is None else results

    return call  # type: ignore[return-value]


@_batch_norm
def batch_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _core.try_batch_norm_forward(Z, gamma, beta, epsilon, out)  # type: ignore[return-value]


@_batch_norm
def batch_norm_backward(
    delta: np.ndarray,
    Z: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float = 1e-5,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _core.try_batch_norm_backward(delta, Z, gamma, mean, variance, epsilon, out)  # type: ignore[return-value]


@_compiled
def layer_norm_forward(
    Z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    out, U, inv_std = np.empty_like(Z), np.empty_like(Z), np.empty(Z.shape[0], Z.dtype)
    _core.layer_norm_forward(*Z.shape, Z, gamma, beta, epsilon, U, inv_std, out)
    return out, U, inv_std


@_compiled
def layer_norm_backward(
    delta: np.ndarray, normalised: np.ndarray, gamma: np.ndarray, inv_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dZ, dgamma, dbeta = np.empty_like(delta), np.zeros_like(gamma), np.zeros_like(gamma)
    _core.layer_norm_backward(*delta.shape, delta, normalised, gamma, inv_std, dZ, dgamma, dbeta)
    return dZ, dgamma, dbeta


# -- dropout ----------------------------------------------------------------------------------------------------------


@_compiled
def dropout(X: np.ndarray, rate: float, seed: int, step: int = 0, layer: int = 0, first_row: int = 0) -> np.ndarray:
    out = np.empty_like(X)
    if X.size:
        _core.dropout(*X.shape, seed, step, layer, first_row, rate, X, out)
    return out


@_compiled
def augment_rows(
    X: np.ndarray,
    kind: str,
    height: int,
    width: int,
    amount: float,
    probability: float,
    fill: float,
    seed: int,
    step: int = 0,
    place: int = 0,
    first_row: int = 0,
) -> np.ndarray:
    out, channels = X.copy(), X.shape[1] // (height * width)
    scratch = np.empty((height + 3) * (width + 3) * channels, X.dtype)
    numbers = amount, probability, fill, seed, step, place, first_row
    _core.augment_rows(len(X), AUGMENTATIONS.index(kind), height, width, channels, *numbers, scratch, out)
    return out


# -- rows ------------------------------------------------------------------------------------------------------------


@_compiled
def all_finite(x: np.ndarray) -> bool:
    return bool(_core.all_finite(x.size, x))


@_compiled
def shuffle(rows: np.ndarray, bit_generator: np.random.BitGenerator, orders: np.ndarray | None = None) -> None:
    _core.shuffle(rows, bit_generator, orders)


# -- curvature --------------------------------------------------------------------------------------------------------


@_compiled
def per_sample_outer(
    X: np.ndarray, D: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    if out is None:
        out = np.empty((X.shape[0], (X.shape[1] + bias) * D.shape[1]), X.dtype)
    if out.size:
        _curvature.per_sample_outer(X, D, bias, out, threads)
    return out


@_compiled
def per_sample_hessian_blocks(
    A: np.ndarray, X: np.ndarray, bias: bool = True, out: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    width = (X.shape[1] + bias) * A.shape[1]
    if out is None:
        out = np.empty((X.shape[0], width, width), X.dtype)
    if out.size:
        _curvature.per_sample_hessian_blocks(A, X, bias, out, threads)
    return out


@_compiled
def loss_hessian(curvature: np.ndarray, softmax: bool, weight: np.ndarray | None = None) -> np.ndarray:
    H = np.empty((*curvature.shape, curvature.shape[1]), curvature.dtype)
    if H.size:
        w = _NONE[H.dtype] if weight is None else weight
        _curvature.loss_hessian(curvature, softmax, w, H, None)
    return H


def _rows_or_none(value: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """A matrix, of no rows for None."""
    return np.empty((0, 1), like.dtype) if value is None else value


@_compiled
def curvature_backward(
    A: np.ndarray,
    W: np.ndarray,
    slope: np.ndarray | None = None,
    bend: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    out = np.empty((A.shape[0], W.shape[0], W.shape[0]), A.dtype)
    if out.size:
        _curvature.curvature_backward(A, W, _rows_or_none(slope, A), _rows_or_none(bend, A), out, threads)
    return out


@_compiled
def cross_backward(
    M: np.ndarray, W: np.ndarray, slope: np.ndarray | None = None, threads: int | None = None
) -> np.ndarray:
    out = np.empty((M.shape[0], M.shape[1], W.shape[0]), M.dtype)
    if out.size:
        _curvature.cross_backward(M.ravel(), M.ndim == 2, W, _rows_or_none(slope, M), out, threads)
    return out


@_compiled
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
    rows = (X.shape[1] + bias) * A.shape[1]
    columns = rows if X2 is None else (X2.shape[1] + bias2) * A.shape[2]
    diagonal = jacobian is not None and jacobian.ndim == 2
    if jacobian is not None and diagonal:
        jacobian = jacobian[:, :, None]
    if X.shape[0] and rows and columns:
        _curvature.hessian_block_acc(X, A, H, row, column, X2, jacobian, diagonal, delta, bias, bias2, scale, threads)


@_compiled
def symmetrize(H: np.ndarray, threads: int | None = None) -> None:
    if H.size:
        _curvature.symmetrize(H, threads)


# -- update rules -----------------------------------------------------------------------------------------------------


@_compiled
def nag_momentum(step: int, count: int = 1) -> np.ndarray:
    momenta = np.empty(count)
    _core.nag_momentum(step, momenta)
    return momenta


@_compiled
def gradient_norm2(
    theta: np.ndarray, grad: np.ndarray, *, scale: float = 1.0, l1: float = 0.0, l2: float = 0.0
) -> float:
    return _core.gradient_norm2(theta.size, (scale, l1, l2, 1.0, INF), theta, grad)


def _rule(name: str) -> Callable[..., None]:
    """The compiled kernel of an update rule."""
    code, moments = _core.RULE_CODES[name], tuple(RULES[name].moments)
    contract: Contract = getattr(reference, f"{name}_update").contract

    def update(*args: Any, **kwargs: Any) -> None:
        values = {**contract.defaults, **dict(zip(contract.positional, args, strict=False)), **kwargs}
        terms = tuple([values[term] for term in _TERMS])
        _core.update(code, terms, values, [values[moment] for moment in moments])

    return _namesake(update, f"{name}_update")


_TERMS = ("scale", "l1", "l2", "factor", "clip_value")


# -- one kernel for each loss and each update rule ---------------------------------------------------------------------

if TYPE_CHECKING:  # with the types of the reference
    from .reference.losses import *
    from .reference.optim import *
else:
    globals().update({name: _loss(name) for name in LOSSES})
    globals().update({f"{name}_update": _rule(name) for name, facts in RULES.items() if not facts.preconditioned})
