"""Diagonal blocks of curvature matrices, layer by layer; their diagonals, and the diagonal preconditioner."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from .._typing import ArrayLike, Data, Options
from ..checks import check_number
from ..linalg.symmetric_operator import SymmetricOperator, average_with_transpose
from ..network import Network
from .arguments import DataOptions, shared_arguments
from .linearization import Linearization, multiplied
from .recursion import preactivation_hessians
from .risk import DenseLayer, EmpiricalRisk

__all__ = [
    "Preconditioner",
    "diagonal_blocks",
    "fisher_root",
    "ggn_blocks",
    "ggn_diagonal",
    "hessian_blocks",
    "hessian_diagonal",
    "matrix_diagonal",
    "preconditioner",
    "selected_blocks",
]


@shared_arguments
def hessian_blocks(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    max_bytes: int | None = None,
    **data: Unpack[DataOptions],
) -> dict[int, np.ndarray]:
    """Diagonal blocks of the Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖², one for each layer with parameters.

    By Hessian backpropagation (docs/theory.md, eq. 5.3 and 5.7); weight and bias of a layer share a block.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads}
    max_bytes : int, optional
        Largest sum of the blocks that is allowed; None is the memory that is available.

    Returns
    -------
    dict of ndarray (P_l, P_l)
        By the layer's index in ``net.layers``, each symmetric to the last bit, in the layout of theta: weight (in, out)
        in C order, then bias; γ, then β.

    Raises
    ------
    {too large, not defined}

    Notes
    -----
    Beyond the blocks: working memory as that of :func:`hessian`, chunks of rows with 3 n_out² values each of the widest
    dense layer. With norm layers the blocks are made of products, one for each parameter, of 2 · 32 vectors (P,) at
    once; with batch norm and ``training=True`` of all rows at once.
    """
    risk = EmpiricalRisk(net, X, y, what="hessian_blocks", **data)
    return diagonal_blocks(risk, "hessian", max_bytes, "use fnn.curvature.hessian_operator or hessian_diagonal")


@shared_arguments
def ggn_blocks(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    max_bytes: int | None = None,
    **data: Unpack[DataOptions],
) -> dict[int, np.ndarray]:
    """Diagonal blocks of the generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W, one for each layer.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads}
    max_bytes : int, optional
        Largest sum of the blocks that is allowed; None is the memory that is available.

    Returns
    -------
    dict of ndarray (P_l, P_l)
        As for :func:`hessian_blocks`.

    Raises
    ------
    {too large, not defined}

    Notes
    -----
    Memory and time as those of :func:`hessian_blocks`.
    """
    risk = EmpiricalRisk(net, X, y, what="ggn_blocks", **data)
    return diagonal_blocks(risk, "ggn", max_bytes, "use fnn.curvature.ggn_operator or ggn_diagonal")


def diagonal_blocks(
    risk: EmpiricalRisk, kind: Literal["hessian", "ggn"], max_bytes: int | None, instead: str
) -> dict[int, np.ndarray]:
    """Diagonal blocks of every layer with parameters; `instead` is what the refusal of their size suggests."""
    having = risk.layers_with_parameters()
    sizes = [place.stop - place.start for place in map(risk.place, having)]
    risk.check_size((sum(size**2 for size in sizes),), max_bytes, instead)
    return selected_blocks(risk, kind, having)


def selected_blocks(
    risk: EmpiricalRisk, kind: Literal["hessian", "ggn"], having: tuple[int, ...]
) -> dict[int, np.ndarray]:
    """What :func:`hessian_blocks` or :func:`ggn_blocks` gives, for some layers only; their sizes are not checked."""
    if not having:
        return {}
    places = {i: risk.place(i) for i in having}
    sizes = {i: place.stop - place.start for i, place in places.items()}
    blocks = {i: np.zeros((size, size), risk.dtype) for i, size in sizes.items()}
    layers = risk.chain()
    if layers is None:
        for i, place in places.items():
            for start, products in risk.unit_products([place], kind):
                blocks[i][start - place.start : start - place.start + len(products)] += products[:, place]
            average_with_transpose(blocks[i])
    else:
        kernels, threads = risk.kernels, risk.threads
        lin: Linearization | None = None
        for rows in risk.chunks(risk.row_elements + 3 * max(layer.op.n_out for layer in layers) ** 2):
            lin = risk.linearize(rows, into=lin)
            for k, A in preactivation_hessians(risk, lin, layers, kind == "ggn"):
                i, bias = layers[k].index, layers[k].bias
                if i not in blocks:
                    continue
                options: Options = {"bias": bias, "scale": 1.0 / risk.total, "threads": threads}
                kernels.hessian_block_acc(lin.inputs(i), A, blocks[i], 0, 0, **options)
                if i == min(having):
                    break  # before what lies under it is computed
        for block in blocks.values():
            kernels.symmetrize(block, threads=threads)
    diagonal = np.zeros(risk.n_parameters, risk.dtype)
    risk.add_penalty(diagonal)
    for i, block in blocks.items():
        np.einsum("pp->p", block)[...] += diagonal[places[i]]
    return blocks


@shared_arguments
def hessian_diagonal(
    net: Network,
    X: Data,
    y: ArrayLike,
    **data: Unpack[DataOptions],
) -> np.ndarray:
    """Diagonal of the Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖²; exact.

    From the whole A_ll of every row: Σ x̃[k]² A_ll[j, j]. (Propagating the diagonals alone is not exact:
    docs/theory.md, section 5.) With norm layers it takes P products, as much as the whole matrix: where the sum is
    enough, ``trace(net, X, y, n_products=...)`` estimates it with few.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads}

    Returns
    -------
    ndarray (P,) of the network's dtype

    Raises
    ------
    {not defined}

    Notes
    -----
    Memory beyond the result as that of :func:`hessian_blocks`.
    """
    return matrix_diagonal(EmpiricalRisk(net, X, y, what="hessian_diagonal", **data), "hessian")


@shared_arguments
def ggn_diagonal(
    net: Network,
    X: Data,
    y: ArrayLike,
    **data: Unpack[DataOptions],
) -> np.ndarray:
    """Diagonal of the generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W; exact.

    With norm layers it takes P products, and memory as :func:`hessian_diagonal`.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads}

    Returns
    -------
    ndarray (P,) of the network's dtype

    Raises
    ------
    {not defined}
    """
    risk = EmpiricalRisk(net, X, y, what="ggn_diagonal", **data)
    return matrix_diagonal(risk, "ggn")


def matrix_diagonal(risk: EmpiricalRisk, kind: Literal["hessian", "ggn"]) -> np.ndarray:
    """Exact diagonal (P,) of the Hessian or Gauss-Newton matrix."""
    diagonal = np.zeros(risk.n_parameters, risk.dtype)
    layers = risk.chain()
    if layers is None:
        for start, block in risk.unit_products([slice(0, risk.n_parameters)], kind):
            diagonal[start : start + len(block)] += np.einsum("pp->p", block[:, start : start + len(block)])
    else:
        lin: Linearization | None = None
        for rows in risk.chunks(risk.row_elements + 3 * max(layer.op.n_out for layer in layers) ** 2):
            lin = risk.linearize(rows, into=lin)
            for k, A in preactivation_hessians(risk, lin, layers, kind == "ggn"):
                _add_squares(risk, lin, layers[k], np.einsum("ikk->ik", A), 1.0 / risk.total, diagonal)
    risk.add_penalty(diagonal)
    return diagonal


def _add_squares(
    risk: EmpiricalRisk, lin: Linearization, layer: DenseLayer, C: np.ndarray, scale: float, diagonal: np.ndarray
) -> None:
    """Add scale · Σ_rows x̃[k]² c[j] to a dense layer's part of a diagonal."""
    squares = np.square(lin.inputs(layer.index))
    weight = layer.weight(diagonal)
    C = C * risk.dtype.type(scale)
    weight += risk.kernels.matmul(squares, C, transpose_a=True)
    if layer.bias:
        diagonal[layer.op.bias : layer.op.bias + layer.op.n_out] += C.sum(axis=0)


class Preconditioner(SymmetricOperator):
    """Division by a positive diagonal, as SciPy's solvers take it for M.

    Attributes
    ----------
    diagonal : ndarray (P,)
        What vectors are divided by, without the damping.
    damping : float
        Added to it.
    """

    def __init__(self, diagonal: np.ndarray, damping: float) -> None:
        super().__init__(diagonal.dtype, (len(diagonal), len(diagonal)))
        self.diagonal, self.damping = diagonal, damping
        self._inverse = 1.0 / (diagonal + diagonal.dtype.type(damping))

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        product: np.ndarray = self._inverse * V
        return product


@shared_arguments
def preconditioner(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    damping: float = 1e-8,
    **data: Unpack[DataOptions],
) -> Preconditioner:
    """Diagonal preconditioner H = Diag(Σ_i w_i g_i g_iᵀ)^½, g_i = ∂ℓ_i/∂θ of each row (docs/theory.md, eq. 5.9).

    The sum is over the rows, without 1/N: the matrix of AdaGrad (Duchi, Hazan & Singer 2011) for one pass. The squares
    of gradients of dense layers are summed as Σ x̃[k]² δ[j]², without the gradients themselves.

    Parameters
    ----------
    {net, X, y, sample_weight, training=False, threads}
    l2 : float, default=0.0
        Added to the weights' places of the diagonal.
    damping : float, default=1e-8
        Added to the whole diagonal before vectors are divided by it; above 0.

    Returns
    -------
    Preconditioner
        A :class:`scipy.sparse.linalg.LinearOperator` that divides: M of SciPy's ``cg`` and ``minres``. Its `diagonal`
        is that of H.

    Raises
    ------
    {no rows}
    """
    risk = EmpiricalRisk(net, X, y, what="preconditioner", second_order=False, per_sample=True, **data)
    damping = check_number("damping", damping, above=0.0)
    diagonal = fisher_root(risk, risk.weight, risk.weight_exponent)
    risk.add_penalty(diagonal)
    return Preconditioner(diagonal, damping)


def fisher_root(risk: EmpiricalRisk, weight: np.ndarray | None, exponent: int) -> np.ndarray:
    """Diagonal (P,) of (Σ_i w_i g_i g_iᵀ)^½, of the weights (N,) times 2 to the exponent; without a penalty."""
    squares = np.zeros(risk.n_parameters, risk.dtype)
    layers = {layer.index: layer for layer in risk.dense_layers()}
    lin: Linearization | None = None
    for rows in risk.chunks(2 * risk.row_elements):
        lin = risk.linearize(rows, weighted=False, into=lin)
        for i in risk.layers_with_parameters():
            C = np.square(lin.delta(i))
            if weight is not None:
                C *= weight[rows, None]
            if i in layers:
                _add_squares(risk, lin, layers[i], C, 1.0, squares)
            else:
                op = risk.ops[i]
                squares[op.weight : op.weight + op.n_out] += (C * np.square(multiplied(lin, op, i))).sum(axis=0)
                if op.bias >= 0:
                    squares[op.bias : op.bias + op.n_out] += C.sum(axis=0)
    root = np.sqrt(squares)
    root *= risk.dtype.type(2.0 ** (0.5 * exponent))
    return root
