"""Losses: what they expect as targets, and how a network's outputs become predictions.

The arithmetic (value and gradient) is in the kernels; here stand small immutable descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LOSSES", "Loss", "get"]


@dataclass(frozen=True)
class Loss:
    """A loss: its name and the kind of problem that it belongs to.

    Attributes
    ----------
    name : str
        ``"cross_entropy"``: ℓ = −Σ_k y_k log softmax(z)_k.
        ``"binary_cross_entropy"``: ℓ = −Σ_k y_k log s_k + (1 − y_k) log(1 − s_k), s = sigmoid(z).
        ``"squared_error"``: ℓ = ½ Σ_k (z_k − y_k)².
    link : str
        What turns outputs into probabilities: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
    """

    name: str
    link: str
    _targets: Callable[[np.ndarray, int, np.dtype[Any]], np.ndarray]

    @property
    def classifies(self) -> bool:
        """Whether the targets are classes."""
        return self.link != "none"

    def check_targets(self, y: Any, n_rows: int, n_outputs: int, dtype: np.dtype[Any]) -> np.ndarray:
        """Targets as the backends take them.

        Parameters
        ----------
        y : array_like
            cross_entropy: integer labels (N,) in [0, K), or rows (N, K) that are at least 0 and sum to 1.
            binary_cross_entropy: values in [0, 1] (also bool), (N, K), or (N,) when K is 1.
            squared_error: finite real values, (N, K), or (N,) when K is 1.
        n_rows, n_outputs : int
            N and K.
        dtype : dtype
            That of the network.

        Returns
        -------
        ndarray
            C-contiguous; int64 (N,) for labels, else `dtype` (N, K). A copy only where one is needed.

        Raises
        ------
        TypeError
            If y is not numeric, or labels are not integers.
        ValueError
            If the shape does not fit or a value is out of range; the message has the first such row.
        """
        array = _numeric(y)
        if array.shape[:1] != (n_rows,):
            raise ValueError(f"y: expected {n_rows} rows like X, got shape {array.shape}")
        return self._targets(array, n_outputs, dtype)


def _numeric(y: Any) -> np.ndarray:
    if hasattr(y, "tocsr"):
        raise TypeError(f"y: expected a dense array, got a sparse {type(y).__name__}; use y.toarray()")
    array = np.asarray(y)
    if array.dtype.kind in "OSUT":
        raise TypeError(
            f"y: expected numbers, got dtype {array.dtype}; "
            "encode class names first, for instance classes, y = np.unique(y, return_inverse=True)"
        )
    if array.dtype.kind not in "buif":
        raise TypeError(f"y: expected numbers, got dtype {array.dtype}")
    return array


def _values(array: np.ndarray, n_outputs: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Real values as (N, K) of the network's dtype, checked to be finite after the cast."""
    if array.ndim == 1 and n_outputs == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_outputs:
        shapes = f"({array.shape[0]}, {n_outputs})" + (f" or ({array.shape[0]},)" if n_outputs == 1 else "")
        raise ValueError(f"y: expected shape {shapes}, got {array.shape}")
    with np.errstate(over="ignore"):  # an overflow shows as inf below
        values = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
        raise ValueError(
            f"y: expected finite values of {dtype}, got {array[row, column]} in row {row}, column {column}"
        )
    return values


def _class_targets(array: np.ndarray, n_outputs: int, dtype: np.dtype[Any]) -> np.ndarray:
    if array.ndim == 1:
        if array.dtype.kind == "f":
            raise TypeError(f"y: expected integer labels, got dtype {array.dtype}; use y.astype(int) for whole numbers")
        if array.size and (array.min() < 0 or array.max() >= n_outputs):
            row = int(((array < 0) | (array >= n_outputs)).argmax())
            raise ValueError(f"y: expected labels in [0, {n_outputs}), got {array[row]} in row {row}")
        return np.ascontiguousarray(array, dtype=np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        raise ValueError(f"y: expected labels of shape ({array.shape[0]},), got {array.shape}; use y.ravel()")
    if array.ndim != 2 or array.shape[1] != n_outputs:
        n_rows = array.shape[0]
        raise ValueError(f"y: expected shape ({n_rows},) or ({n_rows}, {n_outputs}), got {array.shape}")
    values = _values(array, n_outputs, dtype)
    sums = values.sum(axis=1, dtype=np.float64)
    # Soft targets are often themselves float32 softmax outputs: their sums are 1 to a few units in the last place.
    wrong = (values < 0.0).any(axis=1) | (np.abs(sums - 1.0) > 1e-3)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"y: expected rows that are >= 0 and sum to 1, got {values[row].tolist()} in row {row}")
    return values


def _binary_targets(array: np.ndarray, n_outputs: int, dtype: np.dtype[Any]) -> np.ndarray:
    values = _values(array, n_outputs, dtype)
    wrong = (values < 0.0) | (values > 1.0)
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ValueError(f"y: expected values in [0, 1], got {values[row, column]:g} in row {row}, column {column}")
    return values


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss("cross_entropy", "softmax", _class_targets),
    "binary_cross_entropy": Loss("binary_cross_entropy", "sigmoid", _binary_targets),
    "squared_error": Loss("squared_error", "none", _values),
}


def get(loss: Any) -> Loss:
    """The loss of that name.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `loss` is not a name.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name (str), got {loss!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss: unknown name {loss!r}; known: {', '.join(LOSSES)}")
    return LOSSES[loss]
