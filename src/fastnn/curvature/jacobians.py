"""Derivatives of the outputs of every row: with respect to the parameters and to the inputs, twice for the latter."""

from __future__ import annotations

import numpy as np

from .._typing import Data
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
    *,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Hessian ∂²z_k/∂x∂x of the outputs of every row with respect to X as it is given.

    Scaling and standardisation by the network are part of the derivative.

    K D products; for few features.

    Parameters
    ----------
    {running net, X, threads}
    out : ndarray (N, K, D, D) of the network's dtype, optional
        Where the result goes. The last axis must have no gaps.
    {max_bytes}

    Returns
    -------
    ndarray (N, K, D, D) of the network's dtype
        Symmetric to the last bit in the last two axes.

    Raises
    ------
    {too large}
    TypeError, ValueError
        If an argument does not fit, or an activation is sign.

    Notes
    -----
    relu, leaky_relu and hard_tanh have second derivative 0.
    """
    what = "input_hessian"
    risk = EmpiricalRisk(net, X, None, threads=threads, what=what, targets=False)
    N, K, D = risk.n_rows, risk.n_outputs, risk.plan_inputs
    shape = N, K, D, D
    if out is None:
        risk.check_size(shape, max_bytes, "take the rows in parts, or fewer features")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape)
    direction = np.zeros(D, risk.dtype)
    lin: Linearization | None = None
    for rows in risk.chunks(2 * risk.row_elements + D * D):
        for k in range(K):
            lin = risk.linearize(rows, cotangent=risk.unit_cotangent(rows, k), into=lin)
            block = np.empty((rows.stop - rows.start, D, D), risk.dtype)
            for d in range(D):
                direction[d] = 1.0
                block[:, d] = lin.input_product(direction)
                direction[d] = 0.0
            np.add(block, block.transpose(0, 2, 1), out=out[rows, k])
            out[rows, k] *= 0.5
    return out


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
