"""Symmetric linear operators of SciPy, and symmetric matrices."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator

__all__ = ["DiagonalBlock", "SymmetricOperator", "average_with_transpose"]


class SymmetricOperator(LinearOperator):
    """A real symmetric operator: vectors are cast to its dtype, which products have; complex ones are refused."""

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        """Products of vectors in rows, (n, P), in C order and of the operator's dtype; a new array."""
        raise NotImplementedError

    def _cast(self, V: np.ndarray) -> np.ndarray:
        if V.dtype.kind not in "buif":
            raise TypeError(f"expected a real vector, got dtype {V.dtype}")
        return np.ascontiguousarray(V, dtype=self.dtype)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._rows_product(self._cast(np.reshape(x, (1, -1))))[0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._rows_product(self._cast(X.T)).T

    _rmatvec, _rmatmat = _matvec, _matmat

    def _adjoint(self) -> SymmetricOperator:
        return self

    _transpose = _adjoint

    def __getstate__(self) -> dict[str, object]:
        # Without what SciPy adds since 1.18, a module, so that every version reads what another has written.
        return {name: value for name, value in self.__dict__.items() if name != "_xp"}

    def __setstate__(self, state: dict[str, object]) -> None:
        LinearOperator.__init__(self, state["dtype"], state["shape"])
        self.__dict__.update(state)


def average_with_transpose(H: np.ndarray) -> None:
    """Replace a square matrix by the mean of itself and its transpose, in place, a tile at a time."""
    tile = 256
    for i in range(0, len(H), tile):
        for j in range(i, len(H), tile):
            upper, lower = H[i : i + tile, j : j + tile], H[j : j + tile, i : i + tile]
            mean = upper + lower.T
            mean *= 0.5
            upper[...] = mean
            lower[...] = mean.T


class DiagonalBlock(LinearOperator):
    """A diagonal block of an operator: the rows and columns of `place`."""

    def __init__(self, whole: LinearOperator, place: slice) -> None:
        super().__init__(whole.dtype, (place.stop - place.start,) * 2)
        self._whole, self._place = whole, place

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, (-1, 1)))[:, 0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        full = np.zeros((self._whole.shape[0], X.shape[1]), self.dtype)
        full[self._place] = X
        return self._whole.matmat(full)[self._place]
