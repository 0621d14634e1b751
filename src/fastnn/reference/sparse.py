"""Rows of a sparse matrix, made dense where a batch needs them."""

from __future__ import annotations

import numpy as np

__all__ = ["SparseRows"]


class SparseRows:
    """Rows in SciPy's CSR format, without SciPy: what both backends read in place of a dense X.

    Row i has the values ``data[indptr[i]:indptr[i + 1]]`` in the columns ``indices[indptr[i]:indptr[i + 1]]``.

    Parameters
    ----------
    data : ndarray (nnz,) of float32, float64 or uint8
    indices : ndarray (nnz,) of int32
        Columns, each at most once in a row.
    indptr : ndarray (N + 1,) of int64
    n_columns : int

    Raises
    ------
    TypeError, ValueError
        If an array has another element type or the three do not fit each other.
    """

    ndim = 2

    def __init__(self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, n_columns: int) -> None:
        if indices.dtype != np.int32 or indptr.dtype != np.int64:
            raise TypeError(f"indices and indptr: expected int32 and int64, got {indices.dtype} and {indptr.dtype}")
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = len(indptr) - 1, n_columns
        self.check()

    def check(self) -> None:
        """Raise a ValueError unless every entry lies in the matrix."""
        if self.indptr[0] != 0 or self.indptr[-1] != len(self.data) or (np.diff(self.indptr) < 0).any():
            raise ValueError(f"X: damaged CSR matrix, indptr does not rise from 0 to {len(self.data)}")
        if len(self.indices) != len(self.data):
            raise ValueError(f"X: damaged CSR matrix, {len(self.data)} values but {len(self.indices)} indices")
        if len(self.indices) and (self.indices.min() < 0 or self.indices.max() >= self.shape[1]):
            raise ValueError(f"X: damaged CSR matrix, expected indices in [0, {self.shape[1]}), got others")

    @property
    def dtype(self) -> np.dtype:
        """Element type of the values."""
        return self.data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> SparseRows:
        index = np.arange(len(self))[rows]
        counts = np.diff(self.indptr)[index]
        indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        at = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][index] - indptr[:-1], counts)
        return SparseRows(self.data[at], self.indices[at], indptr, self.shape[1])

    def dense(self, dtype: np.dtype) -> np.ndarray:
        """All rows, (N, n_columns)."""
        out = np.zeros(self.shape, dtype)
        out[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.data
        return out
