"""Derivatives of the outputs of every row: with respect to the parameters and to the inputs, twice for the latter."""

from __future__ import annotations

import numpy as np

from .._typing import ArrayLike, Data
from ..network import Network
from .arguments import shared_arguments
from .linearization import Linearization
from .per_sample import fill_gradients
from .risk import EmpiricalRisk

__all__ = ["input_hessian", "input_jacobian", "output_jacobian", "softmax_jacobian"]


@shared_arguments
def output_jacobian(
    net: Network,
    X: Data,
    *,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Jacobian ∂z_k/∂θ of the outputs of every row, those of ``net.decision_function``.

    Parameters
    ----------
    {running net, X, threads}
    out : ndarray (N, K, P) of the network's dtype, optional
        Where the result goes. The last axis must have no gaps.
    {max_bytes}

    Returns
    -------
    ndarray (N, K, P) of the network's dtype

    Raises
    ------
    {too large, does not fit}
    """
    what = "output_jacobian"
    risk = EmpiricalRisk(net, X, None, threads=threads, what=what, second_order=False, targets=False)
    shape = risk.n_rows, risk.n_outputs, risk.n_parameters
    if out is None:
        risk.check_size(shape, max_bytes, "take the rows in parts, or products by fnn.curvature.ggn_operator")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape)
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements):
        lin = fill_jacobian(risk, rows, out[rows], lin)
    return out


def fill_jacobian(
    risk: EmpiricalRisk, rows: slice, out: np.ndarray, lin: Linearization | None = None
) -> Linearization | None:
    """Jacobian of the outputs of some rows into `out` (n, K, P) of the network's dtype.

    `lin` is what an earlier call returned; its memory is used again.
    """
    for k in range(risk.n_outputs):
        lin = risk.linearize(rows, cotangent=risk.unit_cotangent(rows, k), into=lin)
        fill_gradients(risk, lin, out[:, k])
    return lin


@shared_arguments
def input_jacobian(net: Network, X: Data, *, threads: int | None = None, max_bytes: int | None = None) -> np.ndarray:
    """Jacobian ∂z_k/∂x_d of the outputs of every row with respect to X as it is given.

    Scaling and standardisation by the network are part of the derivative.

    Parameters
    ----------
    {running net, X, threads}
    {max_bytes}

    Returns
    -------
    ndarray (N, K, D) of the network's dtype

    Raises
    ------
    {too large, does not fit}
    """
    what = "input_jacobian"
    risk = EmpiricalRisk(net, X, None, threads=threads, what=what, second_order=False, targets=False)
    shape = risk.n_rows, risk.n_outputs, risk.plan_inputs
    risk.check_size(shape, max_bytes, "take the rows in parts")
    result = np.empty(shape, risk.dtype)
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements):
        for k in range(risk.n_outputs):
            lin = risk.linearize(rows, cotangent=risk.unit_cotangent(rows, k), into=lin)
            result[rows, k] = lin.input_gradient()
    return result


@shared_arguments
def input_hessian(
    net: Network,
    X: Data,
    y: ArrayLike | None = None,
    *,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Hessian of every row's loss, or of its outputs, with respect to X as it is given; exact.

    ::

        ∂²ℓ_i/∂x∂x = Σ_k ∂ℓ_i/∂z_k ∂²z_k/∂x∂x + Jᵀ ∂²ℓ_i/∂z∂z J,    J = ∂z/∂x        with y
        ∂²z_k/∂x∂x                                                                  without

    Scaling and standardisation by the network are part of the derivative. It takes D products (docs/theory.md, eqs. 4.1
    to 4.4), or K D without y, each as long as a gradient; for few features.

    Parameters
    ----------
    {running net, X}
    y : array_like, optional
        Targets as the network's loss takes them. Each row's ℓ is differentiated by itself: without weight, 1/N or
        penalty.
    {threads}
    out : ndarray (N, D, D), without y (N, K, D, D), of the network's dtype, optional
        Where the result goes. The last axis must have no gaps.
    {max_bytes}

    Returns
    -------
    ndarray (N, D, D), without y (N, K, D, D), of the network's dtype
        Symmetric to the last bit in the last two axes.

    Raises
    ------
    {too large}
    TypeError, ValueError
        If an argument does not fit, an activation is sign or, with y, the loss is absolute_error.

    Notes
    -----
    relu, leaky_relu and hard_tanh have second derivative 0.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> net = fnn.Sequential([fnn.Dense(1, bias=False)], input_size=2, loss="squared_error", dtype="float64", seed=0)
    >>> net.theta[...] = 2.0, 3.0  # ℓ = ½ (2 x₁ + 3 x₂ − y)²
    >>> fnn.input_hessian(net, [[1.0, 1.0]], [0.0])[0].tolist()
    [[4.0, 6.0], [6.0, 9.0]]
    """
    risk = EmpiricalRisk(net, X, y, threads=threads, what="input_hessian", targets=y is not None)
    N, K, D = risk.n_rows, risk.n_outputs, risk.plan_inputs
    shape = (N, D, D) if y is not None else (N, K, D, D)
    if out is None:
        risk.check_size(shape, max_bytes, "take the rows in parts, or fewer features")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape)
    lin: Linearization | None = None
    for rows in risk.chunks(2 * risk.row_elements + D * D):
        if y is not None:
            lin = risk.linearize(rows, into=lin)
            _fill_input_hessian(lin, D, out[rows])
            continue
        for k in range(K):
            lin = risk.linearize(rows, cotangent=risk.unit_cotangent(rows, k), into=lin)
            _fill_input_hessian(lin, D, out[rows, k])
    return out


def _fill_input_hessian(lin: Linearization, D: int, out: np.ndarray) -> None:
    """Second derivatives (n, D, D) of what was linearized, by the inputs of each row."""
    block = np.empty((lin.n_rows, D, D), out.dtype)
    direction = np.zeros(D, out.dtype)
    for d in range(D):
        direction[d] = 1.0
        block[:, d] = lin.input_product(direction)
        direction[d] = 0.0
    np.add(block, block.transpose(0, 2, 1), out=out)
    out *= 0.5


@shared_arguments
def softmax_jacobian(
    net: Network,
    X: Data,
    *,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Jacobian ∂p_k/∂z_m = p_k ([k = m] − p_m) of the probabilities p = softmax(z) of every row, z the outputs.

    It is also ∂²ℓ/∂z² of the cross-entropy. :func:`fastnn.kernels.softmax_jacobian` takes p itself.

    Parameters
    ----------
    net : Sequential
        With the loss cross_entropy; batch norm uses its running statistics.
    {X, threads}
    out : ndarray (N, K, K) of the network's dtype, in C order, optional
        Where the result goes.
    {max_bytes}

    Returns
    -------
    ndarray (N, K, K) of the network's dtype

    Raises
    ------
    {too large}
    TypeError, ValueError
        If an argument does not fit, or the network's loss is another one.
    """
    risk = EmpiricalRisk(net, X, None, threads=threads, what="softmax_jacobian", second_order=False, targets=False)
    if not risk.softmax:
        raise ValueError(f"softmax_jacobian: expected a network with loss 'cross_entropy', got {net.loss_name!r}")
    shape = risk.n_rows, risk.n_outputs, risk.n_outputs
    if out is None:
        risk.check_size(shape, max_bytes, "take the rows in parts")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape, contiguous=True)
    kernels = risk.kernels
    Z = risk.plan.forward(risk.theta, risk.X, threads=risk.threads, buffers=risk.buffers)
    result: np.ndarray = kernels.softmax_jacobian(kernels.softmax(Z), out=out, threads=risk.threads)
    return result
