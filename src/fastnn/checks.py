"""Checks of arguments, shared by all entry points: each returns the value in the form that the backends take.

An error names the argument, what was expected and what came. Checks change nothing and copy only where they must.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._typing import ArrayLike, Data, DType, DTypeLike, Rows, Seed
from .reference.sparse import SparseRows
from .scalars import check_flag, check_integer, check_number

__all__ = [
    "check_dtype",
    "check_flag",
    "check_integer",
    "check_number",
    "check_parameters",
    "check_rows",
    "check_sample_weight",
    "check_seed",
    "check_threads",
    "moments",
    "weight_exponent",
]

MAX_THREADS = 256  # workers of one team; asking for more is not an error


def check_parameters(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Values of parameters, of exactly this shape and dtype and finite, or an error that names them."""
    array = np.asarray(value)
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {array.dtype}; use .astype(np.{dtype})")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"{name}: expected finite values, got {array[~finite][0]} among them")
    return array


def check_rows(X: Data, n_features: int, dtype: DType) -> Rows:
    """Samples as the backends take them: C-contiguous, 2-D, float32, float64 or uint8, finite; `X` never changes.

    A sparse matrix or array of SciPy stays sparse, as CSR; its rows are made dense batch by batch.

    float32, float64 and uint8 stay as they are (a backend converts row by row, without a copy of the whole); other
    integers and bool become `dtype`.

    Parameters
    ----------
    X : array_like (N, D)
        Array in C or F order, a view, read-only, a DataFrame of numbers, or sparse.
    n_features : int
        D.
    dtype : dtype
        That of the network.

    Returns
    -------
    ndarray (N, D) or SparseRows

    Raises
    ------
    TypeError
        If its dtype is not real numbers.
    ValueError
        If X is not 2-D, has another number of columns, masked values, or a value that is not finite in `dtype`; the
        message has the first such row and column.
    """
    if hasattr(X, "tocsr"):
        return _check_sparse(X, n_features, dtype)
    if isinstance(X, SparseRows) and X.shape[1] == n_features:
        return X  # made by this function
    if isinstance(X, np.ndarray) and type(X) is not np.ndarray and np.any(getattr(X, "mask", False)):
        raise ValueError("X: expected values everywhere, got a masked array; fill the masked values first")
    array = np.asarray(X)
    if array.dtype.kind not in "buif":
        raise TypeError(f"X: expected real numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        hint = ""
        if array.ndim == 1:
            hint = "; use X.reshape(1, -1) for one sample or X.reshape(-1, 1) for one feature"
        elif array.ndim > 2:
            hint = "; use X.reshape(len(X), -1)"
        raise ValueError(f"X: expected shape (N, {n_features}), got {array.shape}{hint}")
    if array.shape[1] != n_features:
        raise ValueError(f"X: expected {n_features} features (columns), got {array.shape[1]}")
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        return np.ascontiguousarray(array, dtype=dtype)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(array, dtype=array.dtype if array.dtype in (np.float32, np.float64) else dtype)
        rows = rows if rows.flags.aligned else rows.copy()
        if rows.dtype.itemsize > dtype.itemsize:
            # Values beyond float32 become infinite in a float32 network, so the extremes are what counts.
            suspicious = rows.size and not np.isfinite(np.array([rows.min(), rows.max()]).astype(dtype)).all()
        else:
            from ._core import kernels  # compiled: loaded when first needed, as the backends are

            suspicious = not kernels.all_finite(rows.size, rows)
        if suspicious:
            finite = np.isfinite(rows.astype(dtype, copy=False))
            if not finite.all():
                row, column = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
                raise ValueError(
                    f"X: expected finite values of {dtype}, got {array[row, column]} in row {row}, column {column}"
                )
    return rows


def _check_sparse(X: Any, n_features: int, dtype: DType) -> SparseRows:
    if X.dtype.kind not in "buif":
        raise TypeError(f"X: expected real numbers, got dtype {X.dtype}")
    if X.ndim != 2:
        raise ValueError(f"X: expected shape (N, {n_features}), got {X.shape}")
    if X.shape[1] != n_features:
        raise ValueError(f"X: expected {n_features} features (columns), got {X.shape[1]}")
    matrix = X.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy() if matrix is X else matrix
        matrix.sum_duplicates()
    data = matrix.data
    if data.dtype not in (np.float32, np.float64, np.uint8):
        data = data.astype(dtype)
    rows = SparseRows(
        np.ascontiguousarray(data),
        np.ascontiguousarray(matrix.indices, dtype=np.int32),
        np.ascontiguousarray(matrix.indptr, dtype=np.int64),
        n_features,
    )
    if data.dtype != np.uint8:
        with np.errstate(over="ignore"):
            finite = np.isfinite(data.astype(dtype, copy=False))
        if not finite.all():
            at = int(finite.argmin())
            row = int(np.searchsorted(rows.indptr, at, side="right")) - 1
            raise ValueError(
                f"X: expected finite values of {dtype}, got {matrix.data[at]} in row {row}, column {rows.indices[at]}"
            )
    return rows


def check_sample_weight(
    sample_weight: ArrayLike | None, n_rows: int, dtype: DType, *, zeros: bool = False
) -> np.ndarray | None:
    """Weights of samples as the backends take them: (N,) of the network's dtype, finite, at least 0.

    Unless `zeros`, one of them must be above 0.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If the shape does not fit, a weight is negative or not finite, or they sum to 0.
    """
    if sample_weight is None:
        return None
    array = np.asarray(sample_weight)
    if array.dtype.kind not in "buif":
        raise TypeError(f"sample_weight: expected real numbers, got dtype {array.dtype}")
    if array.shape != (n_rows,):
        raise ValueError(f"sample_weight: expected shape ({n_rows},), got {array.shape}")
    weights = array.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"sample_weight: expected finite values >= 0, got {array[row]} in row {row}")
    if n_rows and not zeros and not weights.any():
        raise ValueError("sample_weight: expected a positive sum, got zeros only")
    # Only ratios matter. A power of two brings the largest to [0.5, 1), so that no sum or product leaves the range of
    # the dtype, and changes no ratio.
    return np.ldexp(weights, -weight_exponent(weights)).astype(dtype)


def weight_exponent(sample_weight: ArrayLike | None) -> int:
    """e of the power 2^e that :func:`check_sample_weight` divides weights by; 0 without weights."""
    if sample_weight is None or np.size(sample_weight) == 0:
        return 0
    return int(np.frexp(np.max(np.asarray(sample_weight, dtype=np.float64)))[1])


def check_threads(threads: int | None) -> int | None:
    """Number of threads to use; None stays None: a plan asks the BLAS libraries for their limit when the work is worth
    more than one thread.

    Raises
    ------
    TypeError
        If `threads` is not an integer.
    ValueError
        If it is below 1.
    """
    return None if threads is None else min(check_integer("threads", threads), MAX_THREADS)


def moments(X: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1/N) of the columns of checked rows, in float64, a block of rows at a time.

    A deviation that is no more than rounding is 0.
    """
    mean, squares, count = np.zeros(X.shape[1]), np.zeros(X.shape[1]), 0
    for start in range(0, len(X), 4096):
        block = X[start : start + 4096]
        block = block.dense(np.dtype(np.float64)) if hasattr(block, "dense") else block.astype(np.float64)
        centre = block.mean(axis=0)
        step, total = centre - mean, count + len(block)
        squares += ((block - centre) ** 2).sum(axis=0) + step**2 * (count * len(block) / total)
        mean += step * (len(block) / total)
        count = total
    deviation = np.sqrt(squares / count)
    # The mean of equal values is off by rounding, which must not become a deviation.
    deviation[deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 0.0
    return mean, deviation


def check_dtype(dtype: DTypeLike) -> DType:
    try:
        result = np.dtype("O" if dtype is None else dtype)  # NumPy reads None as float64
    except TypeError:
        result = np.dtype("O")
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return result


def check_seed(seed: Seed) -> np.random.Generator:
    """Generator of a seed: an int at least 0, a Generator itself, or None for fresh entropy."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(check_integer("seed", seed, minimum=0))
