"""First-order pieces per row: gradients and Jacobians; and the second derivatives with respect to the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import check_integer
from ..reference.arguments import shares_memory
from .problem import Problem

__all__ = ["input_hessian", "input_jacobian", "output_jacobian", "per_sample_gradients", "softmax_jacobian"]


def per_sample_gradients(
    net: Any,
    X: Any,
    y: Any,
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
    net : Sequential
    X : array_like (N, D)
        At least one row.
    y : array_like
        As for ``net.fit``.
    training : bool, default=False
        Must be False where there is batch norm.
    threads : int, optional
    out : ndarray (N, P) of the network's dtype, optional
        Where the result goes. Columns must be next to each other.
    max_bytes : int, optional
        Largest result that is allowed; None is the memory that is available.

    Returns
    -------
    ndarray (N, P) of the network's dtype
        ``out`` where it was given. Its mean over the rows is ``net.gradient(X, y)``.

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
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
    problem = Problem(net, X, y, None, 0.0, training, threads, what=what, second_order=False, separate=True)
    shape = problem.n_rows, problem.n_parameters
    if out is None:
        problem.check_size(shape, max_bytes, "take the rows in parts")
        out = np.empty(shape, problem.dtype)
    check_out(out, shape, problem)
    lin = None
    for rows in problem.chunks(problem.row_elements):
        lin = problem.linearize(rows, into=lin)
        fill_gradients(problem, lin, out[rows])
    return out


def fill_gradients(problem: Problem, lin: Any, out: np.ndarray, part: slice = slice(None)) -> np.ndarray:
    """Write the gradient of some of a linearization's rows into `out` (n, P)."""
    for i, op in enumerate(problem.ops):
        if op.weight >= 0:
            fill_layer(problem, lin, i, out[:, problem.place(i)], part)
    return out


def fill_layer(problem: Problem, lin: Any, layer: int, out: np.ndarray, part: slice = slice(None)) -> None:
    """Write one layer's part of the gradient of some of a linearization's rows into `out` (n, P_l)."""
    op, delta = problem.ops[layer], lin.delta(layer)[part]
    if op.kind == "dense":
        x = lin.inputs(layer)[part]
        problem.kernels.per_sample_outer(x, delta, bias=op.bias >= 0, out=out, threads=problem.threads)
    else:
        np.multiply(delta, lin.normalised(layer)[part], out=out[:, : op.n_out])
        out[:, op.n_out :] = delta


def output_jacobian(
    net: Any, X: Any, *, threads: int | None = None, out: np.ndarray | None = None, max_bytes: int | None = None
) -> np.ndarray:
    """Jacobian ∂z_k/∂θ of the outputs of every row, those of ``net.decision_function``.

    Parameters
    ----------
    net : Sequential
        Batch norm uses its running statistics.
    X : array_like (N, D)
        At least one row.
    threads : int, optional
    out : ndarray (N, K, P) of the network's dtype, optional
        Where the result goes. The last axis must have no gaps.
    max_bytes : int, optional
        As for :func:`per_sample_gradients`.

    Returns
    -------
    ndarray (N, K, P) of the network's dtype

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit.
    """
    what = "output_jacobian"
    problem = Problem(net, X, None, threads=threads, what=what, second_order=False, targets=False)
    shape = problem.n_rows, problem.n_outputs, problem.n_parameters
    if out is None:
        problem.check_size(shape, max_bytes, "take the rows in parts, or products by fnn.curvature.ggn_operator")
        out = np.empty(shape, problem.dtype)
    check_out(out, shape, problem)
    lin = None
    for rows in problem.chunks(problem.row_elements):
        for k in range(problem.n_outputs):
            lin = problem.linearize(rows, cotangent=unit_cotangent(problem, rows, k), into=lin)
            fill_gradients(problem, lin, out[rows, k])
    return out


def input_jacobian(net: Any, X: Any, *, threads: int | None = None, max_bytes: int | None = None) -> np.ndarray:
    """Jacobian ∂z_k/∂x_d of the outputs of every row with respect to X as it is given.

    Parameters
    ----------
    net : Sequential
        Batch norm uses its running statistics.
    X : array_like (N, D)
        At least one row; scaling and standardisation by the network are part of the derivative.
    threads : int, optional
    max_bytes : int, optional
        As for :func:`per_sample_gradients`.

    Returns
    -------
    ndarray (N, K, D) of the network's dtype

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit.
    """
    what = "input_jacobian"
    problem = Problem(net, X, None, threads=threads, what=what, second_order=False, targets=False)
    shape = problem.n_rows, problem.n_outputs, problem.plan_inputs
    problem.check_size(shape, max_bytes, "take the rows in parts")
    result = np.empty(shape, problem.dtype)
    lin = None
    for rows in problem.chunks(problem.row_elements):
        for k in range(problem.n_outputs):
            lin = problem.linearize(rows, cotangent=unit_cotangent(problem, rows, k), into=lin)
            result[rows, k] = lin.input_gradient()
    return result


def input_hessian(
    net: Any, X: Any, *, threads: int | None = None, out: np.ndarray | None = None, max_bytes: int | None = None
) -> np.ndarray:
    """Hessian ∂²z_k/∂x∂x of the outputs of every row with respect to X as it is given.

    K D products; for few features.

    Parameters
    ----------
    net : Sequential
        Batch norm uses its running statistics.
    X : array_like (N, D)
        At least one row.
    threads : int, optional
    out : ndarray (N, K, D, D) of the network's dtype, optional
        Where the result goes. The last axis must have no gaps.
    max_bytes : int, optional
        As for :func:`per_sample_gradients`.

    Returns
    -------
    ndarray (N, K, D, D) of the network's dtype
        Symmetric to the last bit in the last two axes.

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit, or an activation is sign.

    Notes
    -----
    relu, leaky_relu and hard_tanh have second derivative 0.
    """
    what = "input_hessian"
    problem = Problem(net, X, None, threads=threads, what=what, targets=False)
    N, K, D = problem.n_rows, problem.n_outputs, problem.plan_inputs
    shape = N, K, D, D
    if out is None:
        problem.check_size(shape, max_bytes, "take the rows in parts, or fewer features")
        out = np.empty(shape, problem.dtype)
    check_out(out, shape, problem)
    direction = np.zeros(D, problem.dtype)
    lin = None
    for rows in problem.chunks(2 * problem.row_elements + D * D):
        for k in range(K):
            lin = problem.linearize(rows, cotangent=unit_cotangent(problem, rows, k), into=lin)
            block = np.empty((rows.stop - rows.start, D, D), problem.dtype)
            for d in range(D):
                direction[d] = 1.0
                block[:, d] = lin.input_product(direction)
                direction[d] = 0.0
            np.add(block, block.transpose(0, 2, 1), out=out[rows, k])
            out[rows, k] *= 0.5
    return out


def softmax_jacobian(
    net: Any, X: Any, *, threads: int | None = None, out: np.ndarray | None = None, max_bytes: int | None = None
) -> np.ndarray:
    """Jacobian ∂p_k/∂z_m = p_k ([k = m] − p_m) of the probabilities p = softmax(z) of every row, z the outputs.

    It is also ∂²ℓ/∂z² of the cross-entropy. :func:`fastnn.kernels.softmax_jacobian` takes p itself.

    Parameters
    ----------
    net : Sequential
        With the loss cross_entropy; batch norm uses its running statistics.
    X : array_like (N, D)
        At least one row.
    threads : int, optional
    out : ndarray (N, K, K) of the network's dtype, in C order, optional
        Where the result goes.
    max_bytes : int, optional
        As for :func:`per_sample_gradients`.

    Returns
    -------
    ndarray (N, K, K) of the network's dtype

    Raises
    ------
    MemoryError
        If the array is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit, or the network's loss is another one.
    """
    problem = Problem(net, X, None, threads=threads, what="softmax_jacobian", second_order=False, targets=False)
    if not problem.softmax:
        raise ValueError(f"softmax_jacobian: expected a network with loss 'cross_entropy', got {net.loss_name!r}")
    shape = problem.n_rows, problem.n_outputs, problem.n_outputs
    if out is None:
        problem.check_size(shape, max_bytes, "take the rows in parts")
        out = np.empty(shape, problem.dtype)
    check_out(out, shape, problem, contiguous=True)
    kernels = problem.kernels
    Z = problem.plan.forward(problem.theta, problem.X, threads=problem.threads, statistics=problem.state)
    result: np.ndarray = kernels.softmax_jacobian(kernels.softmax(Z), out=out, threads=problem.threads)
    return result


def unit_cotangent(problem: Problem, rows: slice, k: int) -> np.ndarray:
    """The cotangent that picks output k in every row."""
    cotangent = np.zeros((rows.stop - rows.start, problem.n_outputs), problem.dtype)
    cotangent[:, check_integer("k", k, minimum=0)] = 1.0
    return cotangent


def check_out(out: Any, shape: tuple[int, ...], problem: Problem, contiguous: bool = False) -> None:
    """Refuse what a result cannot be written to; unless `contiguous`, only the last axis must have no gaps."""
    if not isinstance(out, np.ndarray) or out.dtype != problem.dtype:
        raise TypeError(f"out: expected an array of {problem.dtype}, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {out.shape}")
    if not out.flags.aligned or any(stride % out.itemsize for stride in out.strides):
        raise ValueError("out: expected an array aligned to its elements")
    if contiguous and not (out.flags.writeable and out.flags.c_contiguous):
        raise ValueError("out: expected a writable array in C order without gaps")
    if not out.flags.writeable or (out.shape[-1] > 1 and out.strides[-1] != out.itemsize):
        raise ValueError("out: expected a writable array without gaps along its last axis")
    given = {"X": problem.X, "y": problem.y, "the network's parameters": problem.net.theta}
    for name, array in given.items():
        if isinstance(array, np.ndarray) and shares_memory(out, array):
            raise ValueError(f"out: expected an array apart from the other arguments, got one that overlaps {name}")
