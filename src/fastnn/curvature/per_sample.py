"""Derivatives of every row's own loss ℓ_i: gradients, and one layer's block of the Hessian.

No sample weight, 1/N or penalty enters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, overload

import numpy as np

from .._typing import ArrayLike, Data
from ..linalg.symmetric_operator import average_with_transpose
from ..network import Network
from .arguments import shared_arguments
from .linearization import Linearization, multiplied
from .recursion import preactivation_hessians
from .risk import DIRECTIONS, DenseLayer, EmpiricalRisk

__all__ = ["fill_gradients", "fill_layer", "per_sample_gradients", "per_sample_hessian_blocks"]


@shared_arguments
def per_sample_gradients(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    training: bool = False,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Gradient ∂ℓ_i/∂θ of every row's loss alone: no weights, no 1/N, no penalty.

    A dense layer's part is x̃ ⊗ δ with x̃ = (x, 1); a norm's is δ ⊙ û for γ and δ for β.

    Parameters
    ----------
    {net, X, y, training=False, threads}
    out : ndarray (N, P) of the network's dtype, optional
        Where the result goes. Columns must be next to each other.
    {max_bytes}

    Returns
    -------
    ndarray (N, P) of the network's dtype
        ``out`` where it was given. Its mean over the rows is ``net.gradient(X, y)``.

    Raises
    ------
    {too large}
    TypeError, ValueError
        If an argument does not fit, or with ``training=True`` and batch norm, where a row has no loss of its own.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    >>> G = fnn.curvature.per_sample_gradients(net, X, y)
    >>> G.shape, bool(np.allclose(G.mean(axis=0), net.gradient(X, y)))
    ((150, 15), True)
    """
    what = "per_sample_gradients"
    risk = EmpiricalRisk(net, X, y, what=what, second_order=False, per_sample=True, training=training, threads=threads)
    shape = risk.n_rows, risk.n_parameters
    if out is None:
        risk.check_size(shape, max_bytes, "take the rows in parts")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape)
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements):
        lin = risk.linearize(rows, into=lin)
        fill_gradients(risk, lin, out[rows])
    return out


@overload
def per_sample_hessian_blocks(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    layer: int,
    kronecker: Literal[False] = False,
    training: bool = False,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray: ...
@overload
def per_sample_hessian_blocks(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    layer: int,
    kronecker: Literal[True],
    training: bool = False,
    threads: int | None = None,
    out: None = None,
    max_bytes: int | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
@shared_arguments
def per_sample_hessian_blocks(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    layer: int,
    kronecker: bool = False,
    training: bool = False,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Hessian of every row's loss alone with respect to one layer's parameters: no weights, no 1/N, no penalty.

    For a dense layer in a chain of dense and element-wise ones it is (x̃ x̃ᵀ) ⊗ A, with x̃ = (x, 1) what the layer reads
    and A = ∂²ℓ/∂z² (docs/theory.md, eq. 5.7)::

        H[k n_out + j, k' n_out + j'] = x̃[k] x̃[k'] A[j, j']

    Parameters
    ----------
    {net, X, y}
    layer : int
        Index of a layer with parameters in ``net.layers``; negative ones count from the end.
    kronecker : bool, default=False
        Give the two factors instead of their product.
    {training=False, threads}
    out : ndarray (N, P_l, P_l) of the network's dtype, in C order, optional
        Where the result goes; not with `kronecker`.
    {max_bytes}

    Returns
    -------
    ndarray (N, P_l, P_l), or with `kronecker` a pair of ndarray (N, n_out, n_out) and (N, n_in [+ 1])
        The pair is A and x̃, which ends with 1 where the layer has a bias.

    Raises
    ------
    {too large}
    TypeError, ValueError
        If an argument does not fit; curvature is not defined (the loss absolute_error, the activation sign); with
        ``training=True`` and batch norm, where a row has no loss of its own; or `kronecker` is asked for in a network
        with norm layers.
    """
    what = "per_sample_hessian_blocks"
    risk = EmpiricalRisk(net, X, y, what=what, per_sample=True, training=training, threads=threads)
    index, layers = risk.layer(layer), risk.chain()
    if kronecker:
        if out is not None:
            raise ValueError("out: the two factors of kronecker=True have no place in one array; leave it out")
        if layers is None:
            raise ValueError(f"{what}: kronecker=True is for networks without norm layers")
        return _kronecker_factors(risk, layers, index, max_bytes)
    place = risk.place(index)
    shape = risk.n_rows, place.stop - place.start, place.stop - place.start
    if out is None:
        risk.check_size(shape, max_bytes, "use kronecker=True, or take the rows in parts")
        out = np.empty(shape, risk.dtype)
    risk.check_out(out, shape, contiguous=True)
    if layers is None:
        _fill_by_products(risk, place, out)
    else:
        options = {"bias": risk.ops[index].bias >= 0, "threads": risk.threads}
        for rows, x, A in _layer_hessians(risk, layers, index):
            risk.kernels.per_sample_hessian_blocks(A, x, out=out[rows], **options)
    return out


def _kronecker_factors(
    risk: EmpiricalRisk, layers: list[DenseLayer], index: int, max_bytes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """A (N, n_out, n_out) and x̃ (N, n_in [+ 1]) of a dense layer for every row."""
    op, N = risk.ops[index], risk.n_rows
    n = op.n_in + (op.bias >= 0)
    risk.check_size((N, op.n_out**2 + n), max_bytes, "take the rows in parts")
    A, x = np.empty((N, op.n_out, op.n_out), risk.dtype), np.ones((N, n), risk.dtype)
    for rows, inputs, block in _layer_hessians(risk, layers, index):
        A[rows], x[rows, : op.n_in] = block, inputs
    return A, x


def _layer_hessians(
    risk: EmpiricalRisk, layers: list[DenseLayer], index: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Chunk by chunk: its rows, what a dense layer reads (n, n_in), and ∂²ℓ/∂z² (n, n_out, n_out)."""
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements + 3 * max(at.op.n_out for at in layers) ** 2):
        lin = risk.linearize(rows, into=lin)
        for k, A in preactivation_hessians(risk, lin, layers, False):
            if layers[k].index == index:
                yield rows, lin.inputs(index), A
                break


def _fill_by_products(risk: EmpiricalRisk, place: slice, out: np.ndarray) -> None:
    """Every row's block (P_l, P_l) into `out`, by products of the row alone with unit vectors."""
    size = place.stop - place.start
    V = np.zeros((min(DIRECTIONS, size), risk.n_parameters), risk.dtype)
    lin: Linearization | None = None
    for i in range(risk.n_rows):
        lin = risk.linearize(slice(i, i + 1), into=lin)
        for start in range(0, size, len(V)):
            n = min(len(V), size - start)
            V[...] = 0.0
            V[np.arange(n), place.start + start + np.arange(n)] = 1.0
            out[i, start : start + n] = lin.product(V[:n])[:, place]
        average_with_transpose(out[i])


def fill_gradients(risk: EmpiricalRisk, lin: Linearization, out: np.ndarray, part: slice = slice(None)) -> np.ndarray:
    """Write the gradient of some of a linearization's rows into `out` (n, P)."""
    for i, op in enumerate(risk.ops):
        if op.weight >= 0:
            fill_layer(risk, lin, i, out[:, risk.place(i)], part)
    return out


def fill_layer(risk: EmpiricalRisk, lin: Linearization, layer: int, out: np.ndarray, part: slice = slice(None)) -> None:
    """Write one layer's part of the gradient of some of a linearization's rows into `out` (n, P_l)."""
    op, delta = risk.ops[layer], lin.delta(layer)[part]
    if op.facts.has_weight:
        x = lin.inputs(layer)[part]
        risk.kernels.per_sample_outer(x, delta, bias=op.bias >= 0, out=out, threads=risk.threads)
    else:
        np.multiply(delta, multiplied(lin, op, layer)[part], out=out[:, : op.n_out])
        if op.bias >= 0:
            out[:, op.n_out :] = delta
