"""Checks of arguments, shared by all entry points: each returns the value in the form that the backends take.

An error names the argument, what was expected and what came. Checks change nothing and copy only where they must.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._typing import ArrayLike, Data, DType, DTypeLike, Rows, Seed
from .names import listing
from .reference.sparse import SparseRows
from .scalars import check_flag, check_integer, check_number, check_verbose
from .schema import printable

__all__ = [
    "MOMENTS_BLOCK",
    "FeatureNames",
    "Moments",
    "check_dtype",
    "check_flag",
    "check_integer",
    "check_names",
    "check_number",
    "check_parameters",
    "check_rows",
    "check_sample_weight",
    "check_seed",
    "check_threads",
    "check_verbose",
    "column_names",
    "moments",
    "plain_values",
    "refuse_masked",
    "rows_that_count",
    "weight_exponent",
]
__dir__ = listing(__all__)

#: Rows that :class:`Moments` takes in at a time.
MOMENTS_BLOCK = 4096

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
    if type(X) is np.ndarray and is_ready(X, n_features, dtype):
        return X
    if hasattr(X, "tocsr"):
        return _check_sparse(X, n_features, dtype)
    if isinstance(X, SparseRows) and X.shape[1] == n_features:
        return X  # made by this function
    refuse_masked("X", X)
    array = _columns_of(X) if _is_frame(X) or _is_arrow(X) else np.asarray(X)
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
            suspicious = not _all_finite(rows)
        if suspicious:
            finite = np.isfinite(rows.astype(dtype, copy=False))
            if not finite.all():
                row, column = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
                names = column_names(X)
                called = "" if names is None else f" ({printable(names[column])[:60]!r})"
                raise ValueError(
                    f"X: expected finite values of {dtype}, got {array[row, column]} in row {row}, column "
                    f"{column}{called}"
                )
    return rows


def is_ready(X: np.ndarray, n_features: int, dtype: DType) -> bool:
    """Whether an array is what :func:`check_rows` returns, of floats that need not be narrowed."""
    return (
        X.ndim == 2
        and X.shape[1] == n_features
        and (X.dtype == dtype or X.dtype == np.float32)
        and X.flags.c_contiguous
        and X.flags.aligned
        and _all_finite(X)
    )


def _all_finite(array: np.ndarray) -> bool:
    from ._core import kernels  # compiled: loaded when first needed, as the backends are

    return bool(kernels.all_finite(array.size, array))


def _is_frame(X: object) -> bool:
    return type(X) is not np.ndarray and hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "__getitem__")


def _is_arrow(X: object) -> bool:
    """Whether it is a table or a record batch of Arrow."""
    return type(X) is not np.ndarray and hasattr(X, "column_names") and hasattr(X, "schema")


def column_names(X: Any) -> tuple[str, ...] | None:
    """Names of the columns of a DataFrame or an Arrow table, where all are str; None for arrays."""
    names = tuple(X.columns) if _is_frame(X) else tuple(X.column_names) if _is_arrow(X) else ()
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(X: object, expected: tuple[str, ...] | None) -> None:
    """Refuse a DataFrame with other columns than those that the network was trained with, or in another order."""
    names = column_names(X)
    if names is None or expected is None or names == expected:
        return
    same = "in another order" if sorted(names) == sorted(expected) else "with other names"
    wanted, got = (printable(", ".join(columns))[:200] for columns in (expected, names))
    raise ValueError(f"X: expected the columns that the network was trained with, {wanted}, got them {same}: {got}")


class FeatureNames:
    """The attribute ``feature_names`` of what has an ``input_size``: checked when it is assigned.

    Assigned are None, or as many names as there are features: any iterable of str but a str or a mapping.
    """

    def __get__(self, owner: Any, kind: type | None = None) -> tuple[str, ...] | None:
        return None if owner is None else owner.__dict__.get("feature_names")

    def __set__(self, owner: Any, names: Iterable[str] | None) -> None:
        owner.__dict__["feature_names"] = None if names is None else _check_feature_names(names, owner.input_size)


def _check_feature_names(names: Iterable[str], n_features: int) -> tuple[str, ...]:
    if isinstance(names, (str, bytes, Mapping)) or not isinstance(names, Iterable):
        raise TypeError(f"feature_names: expected None or {n_features} names of features, got {names!r:.80}")
    columns = list(names)
    for index, name in enumerate(columns):
        if not isinstance(name, str):
            raise TypeError(f"feature_names[{index}]: expected a str, got {name!r:.80}")
    if len(columns) != n_features:
        raise ValueError(f"feature_names: expected {n_features} names, one for each feature, got {len(columns)}")
    return tuple(str(name) for name in columns)  # of subclasses such as numpy.str_, too


def _columns_of(frame: Any) -> np.ndarray:
    """Values of a table: of one NumPy dtype as they are, else column by column, in float64 with NaN for what misses."""
    if _is_arrow(frame):
        names = frame.column_names
        columns = [frame.column(index) for index in range(len(names))]
        columns = [column.cast("int8") if str(column.type) == "bool" else column for column in columns]
        arrays = [column.to_numpy(zero_copy_only=False) for column in columns]
    elif not hasattr(frame, "iloc"):  # of polars
        names, arrays = list(frame.columns), [np.asarray(frame[name]) for name in frame.columns]
    else:
        dtypes = list(frame.dtypes)
        if all(isinstance(dtype, np.dtype) and dtype.kind in "buif" for dtype in dtypes):
            return np.asarray(frame)
        names, arrays = list(frame.columns), []
        for index, (name, dtype) in enumerate(zip(names, dtypes, strict=True)):
            if getattr(dtype, "kind", "O") not in "buif":
                raise TypeError(f"X: expected columns of real numbers, got dtype {dtype} in column {name!r}")
            arrays.append(frame.iloc[:, index].to_numpy(dtype=np.float64, na_value=np.nan))
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind not in "buif":
            raise TypeError(f"X: expected columns of real numbers, got dtype {array.dtype} in column {name!r}")
    return np.stack(arrays, axis=1) if arrays else np.empty((len(frame), 0))


def _check_sparse(X: Any, n_features: int, dtype: DType) -> SparseRows:
    if X.dtype.kind not in "buif":
        raise TypeError(f"X: expected real numbers, got dtype {X.dtype}")
    if X.ndim != 2:
        raise ValueError(f"X: expected shape (N, {n_features}), got {X.shape}")
    if X.shape[1] != n_features:
        raise ValueError(f"X: expected {n_features} features (columns), got {X.shape[1]}")
    matrix = X.tocsr()
    rows = _sparse_rows(matrix, matrix.data, n_features, dtype)
    if not _is_canonical(rows):  # SciPy's own flag may be out of date; its code takes indices as they come
        # Sums are made in floating point, as uint8 would overflow.
        data = matrix.data if matrix.data.dtype in (np.float32, np.float64) else matrix.data.astype(dtype)
        matrix = type(matrix)((data.copy(), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)
        matrix.sum_duplicates()
        rows = _sparse_rows(matrix, matrix.data, n_features, dtype)
    data = rows.data
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


def _sparse_rows(matrix: Any, data: np.ndarray, n_features: int, dtype: DType) -> SparseRows:
    if data.dtype not in (np.float32, np.float64, np.uint8):
        data = data.astype(dtype)
    return SparseRows(
        np.ascontiguousarray(data),
        np.ascontiguousarray(matrix.indices, dtype=np.int32),
        np.ascontiguousarray(matrix.indptr, dtype=np.int64),
        n_features,
    )


def _is_canonical(rows: SparseRows) -> bool:
    """Whether the columns of each row rise."""
    rises = np.diff(rows.indices) > 0
    starts = rows.indptr[1:-1]
    rises[starts[(starts > 0) & (starts < len(rows.indices))] - 1] = True
    return bool(rises.all())


def refuse_masked(name: str, values: object) -> None:
    """Raise a ValueError if a value is masked: what lies under a mask must not be taken for a value."""
    if isinstance(values, np.ma.MaskedArray) and np.any(values.mask):
        what = "fill the masked values first" if name == "X" else "leave the masked rows out"
        raise ValueError(f"{name}: expected values everywhere, got a masked array; {what}")


def plain_values(name: str, values: Any) -> Any:
    """Targets or weights without a mask: a column of nullable or arrow numbers becomes an array.

    Raises
    ------
    ValueError
        If a value is masked or missing.
    """
    if isinstance(values, np.ma.MaskedArray):
        refuse_masked(name, values)
        return values.data
    dtype = getattr(values, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype) or not hasattr(values, "isna"):
        return values
    if getattr(dtype, "kind", "O") not in "buif":
        return values
    if np.any(values.isna()):
        raise ValueError(f"{name}: expected values everywhere, got missing ones; leave those rows out")
    return values.to_numpy(dtype=np.float64 if dtype.kind == "f" else np.int64)


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
    array = np.asarray(plain_values("sample_weight", sample_weight))
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


def rows_that_count(X: Rows, y: np.ndarray, w: np.ndarray) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Checked data without the rows of weight 0."""
    if w.all():
        return X, y, w
    counts = np.flatnonzero(w > 0.0)
    return X[counts], y[counts], w[counts]


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


def overflow_message(Z: np.ndarray, theta: np.ndarray) -> str:
    """What to say of outputs (N, K) that are not all finite, of a network of these parameters."""
    if not np.isfinite(theta).all():
        return "theta: the network's parameters are not finite; it has no predictions"
    row = int(np.isfinite(Z).all(axis=1).argmin())
    return (
        f"X: the network's outputs for row {row} are not finite: its features, or the parameters, are too large for "
        f"{Z.dtype}"
    )


class Moments:
    """Mean and standard deviation (1/Σw) of the columns of rows that come in parts, in float64.

    A row of weight w counts as w equal rows: one of weight 0 does not count.

    Parameters
    ----------
    n_columns : int
    """

    def __init__(self, n_columns: int) -> None:
        self._mean, self._squares, self._count = np.zeros(n_columns), np.zeros(n_columns), 0.0
        self._low, self._high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)

    def add(self, X: Rows, weight: np.ndarray | None = None) -> None:
        """Take more checked rows in, a block of them at a time."""
        for start in range(0, len(X), MOMENTS_BLOCK):
            block = X[start : start + MOMENTS_BLOCK]
            block = block.dense(np.dtype(np.float64)) if hasattr(block, "dense") else block.astype(np.float64)
            w = None if weight is None else weight[start : start + MOMENTS_BLOCK].astype(np.float64)
            if w is not None:
                block, w = block[w > 0.0], w[w > 0.0]
            if not len(block):
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # `result` tells
                self._add(block, w)

    def _add(self, block: np.ndarray, w: np.ndarray | None) -> None:
        np.minimum(self._low, block.min(axis=0), out=self._low)
        np.maximum(self._high, block.max(axis=0), out=self._high)
        if w is None:
            here: float = len(block)
            centre = block.mean(axis=0)
            squares = ((block - centre) ** 2).sum(axis=0)
        else:
            here = float(w.sum())
            centre = w @ block / here
            squares = w @ (block - centre) ** 2
        step, total = centre - self._mean, self._count + here
        self._squares += squares + step**2 * (self._count * here / total)
        self._mean += step * (here / total)
        self._count = total

    def result(self, precision: float = float(np.finfo(np.float64).eps)) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (D,) each; a deviation is 0 where all values are equal but for rounding.

        Parameters
        ----------
        precision : float
            ε of the values' arithmetic: a column whose values differ by no more than 4 ε of the largest is constant.

        Raises
        ------
        ValueError
            If there was no row of a weight above 0, or values are so large that they have no finite deviation.
        """
        if self._count == 0.0:
            raise ValueError("X: expected at least one row of a weight above 0")
        deviation = np.sqrt(self._squares / self._count)
        largest = np.maximum(np.abs(self._low), np.abs(self._high))
        # The mean of equal values is off by rounding, which must not become a deviation.
        constant = (self._high - self._low <= 4.0 * precision * largest) | (
            deviation <= 10.0 * np.finfo(np.float64).eps * np.abs(self._mean)
        )
        deviation[constant] = 0.0
        if not (np.isfinite(deviation).all() and np.isfinite(self._mean).all()):
            column = int(np.isfinite(deviation + self._mean).argmin())
            raise ValueError(
                f"X: expected columns with a finite deviation, got values up to {largest[column]:g} in column {column}"
            )
        return self._mean, deviation


def moments(X: Rows, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns of checked rows; see :class:`Moments`."""
    found = Moments(X.shape[1])
    found.add(X, weight)
    return found.result()


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
    return np.random.default_rng(check_integer("seed", seed, minimum=0, maximum=None))
