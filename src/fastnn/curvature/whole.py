"""Whole curvature matrices: Hessian, Gauss-Newton and empirical Fisher.

A chain of dense layers and element-wise ops has them by blocks. With A_lm = ∂²L/∂z_l ∂z_m of a row and f_l what stands
between the pre-activations z_l and the next dense layer (docs/theory.md, section 5)::

    A_LL = f_L' H_ℓ f_L' + diag(f_L'' ⊙ ∂L/∂x_L)       A_lm = diag(f_l') W_{l+1} A_{l+1,m}              (l < m)
    A_ll = diag(f_l') W_{l+1} A_{l+1,l+1} W_{l+1}ᵀ diag(f_l') + diag(f_l'' ⊙ ∂L/∂x_l)
    J_{m-1,m} = diag(f_{m-1}')                         J_lm = diag(f_l') W_{l+1} J_{l+1,m} = ∂x_{m-1}/∂z_l
    ∂²L / ∂W_l[k,j] ∂W_m[k',j'] = Σ_rows x_{l-1}[k] (A_lm[j,j'] x_{m-1}[k'] + [l<m] J_lm[j,k'] δ_m[j'])

The Gauss-Newton matrix leaves out f'' and J. With any other op the matrix is made of products with unit vectors.
"""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np
from scipy.linalg.blas import dsyrk, ssyrk

from .._typing import ArrayLike, Data, Options
from ..linalg.memory import WORKSPACE
from ..linalg.symmetric_operator import average_with_transpose
from ..network import Network
from .arguments import DataOptions, shared_arguments
from .linearization import Linearization
from .per_sample import fill_gradients
from .recursion import activation_derivatives, preactivation_hessians
from .risk import DenseLayer, EmpiricalRisk

__all__ = ["empirical_fisher", "fisher_matrix", "ggn", "hessian", "whole_matrix"]


@shared_arguments
def hessian(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    max_bytes: int | None = None,
    **data: Unpack[DataOptions],
) -> np.ndarray:
    """Hessian ∂²J/∂θ² of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖², the whole matrix.

    Networks of dense layers, activations, dropout and standardisation have it by blocks of layers (N P² multiplications
    in all, see the module); with batch or layer norm it is made of P products, exact through the batch's statistics.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads, max_bytes}

    Returns
    -------
    ndarray (P, P) of the network's dtype
        In the layout of ``net.theta``, symmetric to the last bit.

    Raises
    ------
    {too large, not defined}

    Notes
    -----
    Rows are taken in chunks, with about 64 MiB of working memory beyond the result. With batch norm and
    ``training=True`` all rows go through products at once: about N (D + 8 Σ widths) values for each unit vector, and
    N (D + 5 Σ widths) besides, whatever the result takes; this counts when a matrix is refused. Where an activation has
    a kink (relu, leaky_relu, hard_tanh) its second derivative is taken as 0; huber is quadratic within 1 and straight
    beyond.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential(
    ...     [fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0
    ... )
    >>> H = fnn.curvature.hessian(net, X, y, l2=1e-3)
    >>> H.shape, bool((H == H.T).all())
    ((67, 67), True)
    """
    risk = EmpiricalRisk(net, X, y, what="hessian", **data)
    instead = "use fnn.curvature.hessian_operator, hessian_blocks or hessian_diagonal"
    return whole_matrix(risk, "hessian", max_bytes, instead)


@shared_arguments
def ggn(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    max_bytes: int | None = None,
    **data: Unpack[DataOptions],
) -> np.ndarray:
    """Generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W, the whole matrix.

    J = ∂z/∂θ of a row's outputs, H_ℓ = ∂²ℓ/∂z² of its loss: the Hessian without the second derivatives of the network.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads, max_bytes}

    Returns
    -------
    ndarray (P, P) of the network's dtype
        Symmetric to the last bit, positive semi-definite to rounding.

    Raises
    ------
    {too large, not defined}

    Notes
    -----
    Memory and time as those of :func:`hessian`.
    """
    risk = EmpiricalRisk(net, X, y, what="ggn", **data)
    return whole_matrix(risk, "ggn", max_bytes, "use fnn.curvature.ggn_operator, ggn_blocks or ggn_diagonal")


@shared_arguments
def empirical_fisher(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    max_bytes: int | None = None,
    **data: Unpack[DataOptions],
) -> np.ndarray:
    """Empirical Fisher matrix Σ w g gᵀ / Σ w + l2 I_W, g = ∂ℓ_i/∂θ of each row; the whole matrix.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training=False}
    threads : int, optional
        Of the gradients; their product is BLAS's, which has its own limit.
    {max_bytes}

    Returns
    -------
    ndarray (P, P) of the network's dtype
        Symmetric to the last bit.

    Raises
    ------
    {too large, no rows}
    """
    what = "empirical_fisher"
    risk = EmpiricalRisk(net, X, y, what=what, second_order=False, per_sample=True, **data)
    return fisher_matrix(risk, max_bytes)


def fisher_matrix(risk: EmpiricalRisk, max_bytes: int | None) -> np.ndarray:
    """What :func:`empirical_fisher` gives, of rows that do not depend on each other."""
    P, dtype = risk.n_parameters, risk.dtype
    risk.check_size((P, P), max_bytes, "use fnn.curvature.empirical_fisher_operator")
    H = np.zeros((P, P), dtype)
    syrk = ssyrk if dtype == np.float32 else dsyrk
    rows_at_once = max(1, min(risk.n_rows, WORKSPACE // (P * dtype.itemsize)))
    memory = np.empty((rows_at_once, P), dtype)
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements + P):
        lin = risk.linearize(rows, weighted=False, into=lin)
        for start in range(0, rows.stop - rows.start, rows_at_once):
            part = slice(start, min(start + rows_at_once, rows.stop - rows.start))
            G = fill_gradients(risk, lin, memory[: part.stop - part.start], part)
            if risk.weight is not None:
                G *= np.sqrt(risk.weight[rows][part])[:, None]
            # BLAS counts in columns: to it H is its transpose, whose lower triangle is H's upper one.
            syrk(1.0 / risk.total, G.T, beta=1.0, c=H.T, lower=1, overwrite_c=1)
    risk.kernels.symmetrize(H, threads=risk.threads)
    risk.add_penalty(np.einsum("pp->p", H))
    return H


def whole_matrix(
    risk: EmpiricalRisk, kind: Literal["hessian", "ggn"], max_bytes: int | None, instead: str
) -> np.ndarray:
    """The Hessian or Gauss-Newton matrix (P, P), by blocks of layers or by products with unit vectors.

    `instead` is what the refusal of a size that does not fit in memory suggests.
    """
    P = risk.n_parameters
    risk.check_size((P, P), max_bytes, instead)
    H = np.zeros((P, P), risk.dtype)
    layers = risk.chain()
    if layers is None:
        for start, block in risk.unit_products([slice(0, P)], kind):
            H[start : start + len(block)] += block
        average_with_transpose(H)
    else:
        _add_blocks(risk, layers, kind == "ggn", H)
        risk.kernels.symmetrize(H, threads=risk.threads)
    risk.add_penalty(np.einsum("pp->p", H))
    return H


def _add_blocks(risk: EmpiricalRisk, layers: list[DenseLayer], gauss_newton: bool, H: np.ndarray) -> None:
    """Add the data term's upper triangle to H, by blocks of layers."""
    kernels, threads = risk.kernels, risk.threads
    widest = max(layer.op.n_out for layer in layers)
    inputs = max((layer.op.n_in for layer in layers[1:]), default=0)
    scale = 1.0 / risk.total
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements + 3 * widest * (widest + (0 if gauss_newton else inputs))):
        lin = risk.linearize(rows, into=lin)
        weights = [layer.weight(risk.theta) for layer in layers]
        slopes = [activation_derivatives(lin, layer.elementwise)[0] for layer in layers]
        for m, A in preactivation_hessians(risk, lin, layers, gauss_newton):
            later = layers[m]
            X2, delta, place = lin.inputs(later.index), lin.delta(later.index), later.place.start
            kernels.hessian_block_acc(X2, A, H, place, place, bias=later.bias, scale=scale, threads=threads)
            cross: np.ndarray = A  # A_lm transposed; A_mm is symmetric
            jacobian: np.ndarray | None = None  # J_lm transposed
            for k in reversed(range(m)):
                layer, slope = layers[k], slopes[k]
                cross = kernels.cross_backward(cross, weights[k + 1], slope, threads=threads)
                options: Options = {}
                if not gauss_newton:
                    if k == m - 1:
                        shape = len(X2), layer.op.n_out
                        jacobian = np.ones(shape, risk.dtype) if slope is None else slope
                        options = {"jacobian": jacobian, "delta": delta}
                    else:
                        jacobian = kernels.cross_backward(jacobian, weights[k + 1], slope, threads=threads)
                        options = {"jacobian": jacobian.transpose(0, 2, 1), "delta": delta}
                kernels.hessian_block_acc(
                    lin.inputs(layer.index),
                    cross.transpose(0, 2, 1),
                    H,
                    layer.place.start,
                    place,
                    X2,
                    bias=layer.bias,
                    bias2=later.bias,
                    scale=scale,
                    threads=threads,
                    **options,
                )
