"""Curvature layer by layer: diagonal blocks, of the sum and of every row, and diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import check_number
from .dense import average, output_curvature
from .firstorder import check_out
from .operators import SymmetricOperator
from .problem import DIRECTIONS, DenseLayer, Problem

__all__ = [
    "Preconditioner",
    "ggn_blocks",
    "ggn_diagonal",
    "hessian_blocks",
    "hessian_diagonal",
    "per_sample_hessian_blocks",
    "preconditioner",
]


def hessian_blocks(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> dict[int, np.ndarray]:
    """Diagonal blocks of the Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖², one for each layer with parameters.

    Seed 002, algorithm 3, from its equation 83 on (its program starts from the diagonal of that, which is not the
    Hessian); weight and bias of a layer stand in one block.

    Parameters
    ----------
    net : Sequential
    X : array_like (N, D)
        At least one row.
    y : array_like
        As for ``net.fit``.
    sample_weight : array_like (N,), optional
    l2 : float, default=0.0
        Of the weights, not of the biases, γ and β.
    training : bool, default=False
        Whether batch norm uses the statistics of these rows. Nothing is dropped either way.
    threads : int, optional
    max_bytes : int, optional
        Largest sum of the blocks that is allowed; None is the memory that is available.

    Returns
    -------
    dict of ndarray (P_l, P_l)
        By the layer's index in ``net.layers``, each symmetric to the last bit, in the layout of theta: weight (in, out)
        in C order, then bias; γ, then β.

    Raises
    ------
    MemoryError
        If the blocks are too large, before they are allocated.
    TypeError, ValueError
        If an argument does not fit, or curvature is not defined: for the loss absolute_error and the activation sign.

    Notes
    -----
    Beyond the blocks: working memory as that of :func:`hessian`, chunks of rows with 3 n_out² values each of the widest
    dense layer. With norm layers the blocks are made of products, one for each parameter, of 2 · 32 vectors (P,) at
    once; with batch norm and ``training=True`` of all rows at once.
    """
    problem = Problem(net, X, y, sample_weight, l2, training, threads, what="hessian_blocks")
    return _blocks(problem, "hessian", max_bytes, "use fnn.curvature.hessian_operator or hessian_diagonal")


def ggn_blocks(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> dict[int, np.ndarray]:
    """Diagonal blocks of the generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W, one for each layer.

    Parameters
    ----------
    net, X, y, sample_weight, l2, training, threads, max_bytes
        As for :func:`hessian_blocks`.

    Returns
    -------
    dict of ndarray (P_l, P_l)
        As for :func:`hessian_blocks`.

    Raises
    ------
    MemoryError, TypeError, ValueError
        As for :func:`hessian_blocks`.

    Notes
    -----
    Memory and time as those of :func:`hessian_blocks`.
    """
    problem = Problem(net, X, y, sample_weight, l2, training, threads, what="ggn_blocks")
    return _blocks(problem, "ggn", max_bytes, "use fnn.curvature.ggn_operator or ggn_diagonal")


def _blocks(problem: Problem, kind: str, max_bytes: Any, instead: str) -> dict[int, np.ndarray]:
    having = tuple(i for i, op in enumerate(problem.ops) if op.weight >= 0)
    sizes = [place.stop - place.start for place in map(problem.place, having)]
    problem.check_size((sum(size**2 for size in sizes),), max_bytes, instead)
    return selected_blocks(problem, kind, having)


def selected_blocks(problem: Problem, kind: str, having: tuple[int, ...]) -> dict[int, np.ndarray]:
    """What :func:`hessian_blocks` or :func:`ggn_blocks` gives, for some layers only; their sizes are not checked."""
    if not having:
        return {}
    places = {i: problem.place(i) for i in having}
    sizes = {i: place.stop - place.start for i, place in places.items()}
    blocks = {i: np.zeros((size, size), problem.dtype) for i, size in sizes.items()}
    layers = problem.chain()
    if layers is None:
        for i, place in places.items():
            for start, products in problem.unit_products([place], kind):
                blocks[i][start - place.start : start - place.start + len(products)] += products[:, place]
            average(blocks[i])
    else:
        kernels, threads = problem.kernels, problem.threads
        lin = None
        for rows in problem.chunks(problem.row_elements + 3 * max(layer.op.n_out for layer in layers) ** 2):
            lin = problem.linearize(rows, into=lin)
            for k, A in output_curvature(problem, lin, layers, kind == "ggn"):
                i, bias = layers[k].index, layers[k].bias
                if i not in blocks:
                    continue
                options: dict[str, Any] = {"bias": bias, "scale": 1.0 / problem.total, "threads": threads}
                kernels.hessian_block_acc(lin.inputs(i), A, blocks[i], 0, 0, **options)
                if i == min(having):
                    break  # before what lies under it is computed
        for block in blocks.values():
            kernels.symmetrize(block, threads=threads)
    diagonal = np.zeros(problem.n_parameters, problem.dtype)
    problem.add_penalty(diagonal)
    for i, block in blocks.items():
        np.einsum("pp->p", block)[...] += diagonal[places[i]]
    return blocks


def per_sample_hessian_blocks(
    net: Any,
    X: Any,
    y: Any,
    *,
    layer: int,
    kronecker: bool = False,
    training: bool = False,
    threads: int | None = None,
    out: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> Any:
    """Hessian of every row's loss alone with respect to one layer's parameters: no weights, no 1/N, no penalty.

    For a dense layer in a chain of dense and element-wise ones it is (x̃ x̃ᵀ) ⊗ A, with x̃ = (x, 1) what the layer reads
    and A = ∂²ℓ/∂z² (seed 002, equations 66 to 70)::

        H[k n_out + j, k' n_out + j'] = x̃[k] x̃[k'] A[j, j']

    Parameters
    ----------
    net : Sequential
    X : array_like (N, D)
        At least one row.
    y : array_like
        As for ``net.fit``.
    layer : int
        Index of a layer with parameters in ``net.layers``; negative ones count from the end.
    kronecker : bool, default=False
        Give the two factors instead of their product.
    training : bool, default=False
        Must be False where there is batch norm.
    threads : int, optional
    out : ndarray (N, P_l, P_l) of the network's dtype, in C order, optional
        Where the result goes; not with `kronecker`.
    max_bytes : int, optional
        Largest result that is allowed; None is the memory that is available.

    Returns
    -------
    ndarray (N, P_l, P_l), or with `kronecker` a pair of ndarray (N, n_out, n_out) and (N, n_in [+ 1])
        The pair is A and x̃, which ends with 1 where the layer has a bias.

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit; curvature is not defined (the loss absolute_error, the activation sign); with
        ``training=True`` and batch norm, where a row has no loss of its own; or `kronecker` is asked for in a network
        with norm layers.
    """
    what = "per_sample_hessian_blocks"
    problem = Problem(net, X, y, None, 0.0, training, threads, what=what, separate=True)
    index = problem.layer(layer)
    op, place, layers, N = problem.ops[index], problem.place(index), problem.chain(), problem.n_rows
    size = place.stop - place.start
    if kronecker:
        if out is not None:
            raise ValueError("out: the two factors of kronecker=True have no place in one array; leave it out")
        if layers is None:
            raise ValueError(f"{what}: kronecker=True is for networks without norm layers")
        n = op.n_in + (op.bias >= 0)
        problem.check_size((N, op.n_out**2 + n), max_bytes, "take the rows in parts")
        A, x = np.empty((N, op.n_out, op.n_out), problem.dtype), np.ones((N, n), problem.dtype)
    else:
        if out is None:
            instead = "use kronecker=True, or take the rows in parts"
            problem.check_size((N, size, size), max_bytes, instead)
        result = np.empty((N, size, size), problem.dtype) if out is None else out
        check_out(result, (N, size, size), problem, contiguous=True)
    lin = None
    if layers is None:  # a row at a time, with unit vectors
        V = np.zeros((min(DIRECTIONS, size), problem.n_parameters), problem.dtype)
        for i in range(N):
            lin = problem.linearize(slice(i, i + 1), into=lin)
            for start in range(0, size, len(V)):
                n = min(len(V), size - start)
                V[...] = 0.0
                V[np.arange(n), place.start + start + np.arange(n)] = 1.0
                result[i, start : start + n] = lin.product(V[:n])[:, place]
            average(result[i])
        return result
    for rows in problem.chunks(problem.row_elements + 3 * max(at.op.n_out for at in layers) ** 2):
        lin = problem.linearize(rows, into=lin)
        for k, block in output_curvature(problem, lin, layers, False):
            if layers[k].index != index:
                continue
            if kronecker:
                A[rows], x[rows, : op.n_in] = block, lin.inputs(index)
            else:
                options: dict[str, Any] = {"bias": op.bias >= 0, "out": result[rows], "threads": problem.threads}
                problem.kernels.per_sample_hessian_blocks(block, lin.inputs(index), **options)
            break
    return (A, x) if kronecker else result


def hessian_diagonal(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
) -> np.ndarray:
    """Diagonal of the Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖²; exact.

    From the whole A_ll of every row: Σ x̃[k]² A_ll[j, j]. (Back-propagating diagonals alone, as seed 000 does, does not
    give it.) With norm layers it takes P products, as much as the whole matrix: where the sum is enough, ``trace(net,
    X, y, n_products=...)`` estimates it with few.

    Parameters
    ----------
    net, X, y, sample_weight, l2, training, threads
        As for :func:`hessian_blocks`.

    Returns
    -------
    ndarray (P,) of the network's dtype

    Raises
    ------
    TypeError, ValueError
        As for :func:`hessian_blocks`.

    Notes
    -----
    Memory beyond the result as that of :func:`hessian_blocks`.
    """
    return _diagonal(Problem(net, X, y, sample_weight, l2, training, threads, what="hessian_diagonal"), "hessian")


def ggn_diagonal(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
) -> np.ndarray:
    """Diagonal of the generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W; exact.

    With norm layers it takes P products, and memory as :func:`hessian_diagonal`.

    Parameters
    ----------
    net, X, y, sample_weight, l2, training, threads
        As for :func:`hessian_blocks`.

    Returns
    -------
    ndarray (P,) of the network's dtype

    Raises
    ------
    TypeError, ValueError
        As for :func:`hessian_blocks`.
    """
    return _diagonal(Problem(net, X, y, sample_weight, l2, training, threads, what="ggn_diagonal"), "ggn")


def _diagonal(problem: Problem, kind: str) -> np.ndarray:
    diagonal = np.zeros(problem.n_parameters, problem.dtype)
    layers = problem.chain()
    if layers is None:
        for start, block in problem.unit_products([slice(0, problem.n_parameters)], kind):
            diagonal[start : start + len(block)] += np.einsum("pp->p", block[:, start : start + len(block)])
    else:
        lin = None
        for rows in problem.chunks(problem.row_elements + 3 * max(layer.op.n_out for layer in layers) ** 2):
            lin = problem.linearize(rows, into=lin)
            for k, A in output_curvature(problem, lin, layers, kind == "ggn"):
                _add_squares(problem, lin, layers[k], np.einsum("ikk->ik", A), 1.0 / problem.total, diagonal)
    problem.add_penalty(diagonal)
    return diagonal


def _add_squares(
    problem: Problem, lin: Any, layer: DenseLayer, C: np.ndarray, scale: float, diagonal: np.ndarray
) -> None:
    """Add scale · Σ_rows x̃[k]² c[j] to a dense layer's part of a diagonal."""
    squares = np.square(lin.inputs(layer.index))
    weight = layer.weight(diagonal)
    C = C * problem.dtype.type(scale)
    weight += problem.kernels.matmul(squares, C, transpose_a=True)
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
        return self._inverse * V


def preconditioner(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    damping: float = 1e-8,
) -> Preconditioner:
    """Diagonal preconditioner H = Diag(Σ_i w_i g_i g_iᵀ)^½ (seed 002, equation 14), g_i = ∂ℓ_i/∂θ of each row.

    The sum is over the rows, without 1/N, as in the document. The squares of gradients of dense layers are summed as
    Σ x̃[k]² δ[j]², without the gradients themselves.

    Parameters
    ----------
    net, X, y, sample_weight, training, threads
        As for :func:`hessian_blocks`.
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
    TypeError, ValueError
        If an argument does not fit, or with ``training=True`` and batch norm, where a row has no gradient of its own.
    """
    problem = Problem(
        net, X, y, sample_weight, l2, training, threads, what="preconditioner", second_order=False, separate=True
    )
    damping = check_number("damping", damping, above=0.0)
    squares = np.zeros(problem.n_parameters, problem.dtype)
    layers = {layer.index: layer for layer in problem.dense_layers()}
    lin = None
    for rows in problem.chunks(2 * problem.row_elements):
        lin = problem.linearize(rows, weighted=False, into=lin)
        w = None if problem.weight is None else problem.weight[rows, None]
        for i, op in enumerate(problem.ops):
            if op.weight < 0:
                continue
            C = np.square(lin.delta(i))
            if w is not None:
                C *= w
            if i in layers:
                _add_squares(problem, lin, layers[i], C, 1.0, squares)
            else:
                gamma, beta = np.split(squares[problem.place(i)], 2)
                gamma += (C * np.square(lin.normalised(i))).sum(axis=0)
                beta += C.sum(axis=0)
    diagonal = np.sqrt(squares)
    diagonal *= problem.dtype.type(2.0 ** (0.5 * problem.weight_exponent))
    problem.add_penalty(diagonal)
    return Preconditioner(diagonal, damping)
