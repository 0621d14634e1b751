"""Prepared predictions: what :meth:`fastnn.Sequential.predictor` returns, in Python for any backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np

from ._typing import Data, DType
from .losses import Loss
from .names import listing

__all__ = ["NamesPredictor", "PlainPredictor", "Predictor", "check_out", "kind_of_result"]
__dir__ = listing(__all__)

#: What `predict` gives, by the loss's inverse link, of compiled predictors.
_PREDICTIONS = {"softmax": "largest", "sigmoid": "positive", "exp": "rates", "identity": "values"}


class Predictor(Protocol):
    """A prepared method of a network, for calls with few rows; see :meth:`fastnn.Sequential.predictor`."""

    def __call__(self, X: Data, out: np.ndarray | None = None) -> Any:
        """Result for X, (N, D), or for one row (D,)."""


class PlainPredictor:
    """A predictor that calls the network's method.

    Parameters
    ----------
    method : callable
        Takes rows (N, D).
    """

    def __init__(self, method: Callable[[Data], np.ndarray]) -> None:
        self._method = method

    def __call__(self, X: Data, out: np.ndarray | None = None) -> Any:
        """Result for X, (N, D), or for one row (D,); see :class:`Predictor`."""
        one: bool = np.ndim(X) == 1  # type: ignore[arg-type]  # of a sparse matrix, too
        result = self._method(np.asanyarray(X)[None] if one else X)
        if one:
            result = result[0]
        if out is None:
            return result if result.ndim else result.item()
        check_out(out, result.shape, result.dtype)
        out[...] = result
        return out

    def __reduce__(self) -> NoReturn:
        raise TypeError("a predictor belongs to its network and cannot be copied or pickled; copy the network instead")


class NamesPredictor:
    """A predictor of the names of classes.

    Parameters
    ----------
    codes : Predictor
        Of their codes.
    classes : ndarray (K,) of str
    """

    def __init__(self, codes: Predictor, classes: np.ndarray) -> None:
        self._codes, self._classes = codes, classes

    def __call__(self, X: Data, out: np.ndarray | None = None) -> Any:
        """Result for X, (N, D), or for one row (D,); see :class:`Predictor`."""
        names = self._classes[self._codes(X)]
        if out is None:
            return names if isinstance(names, np.ndarray) else str(names)
        check_out(out, np.shape(names), self._classes.dtype)
        out[...] = names
        return out

    def __reduce__(self) -> NoReturn:
        raise TypeError("a predictor belongs to its network and cannot be copied or pickled; copy the network instead")


def kind_of_result(method: str, loss: Loss, n_outputs: int) -> str:
    """How a method of a network makes its result of the outputs, one of the RESULTS of the compiled predictor.

    Raises
    ------
    ValueError
        If there is no such method, or the network is a regression and has no probabilities.
    """
    if method == "predict":
        return _PREDICTIONS[loss.inverse_link]
    if method == "decision_function":
        return "values"
    if method != "predict_proba":
        raise ValueError(f"method must be 'predict', 'predict_proba' or 'decision_function', got {method!r}")
    loss.require_probabilities()
    if loss.inverse_link == "softmax":
        return "shares"
    return "both" if n_outputs == 1 else "chances"


def check_out(out: object, shape: tuple[int, ...], dtype: DType) -> None:
    """Refuse what cannot take a result of this shape and dtype.

    Raises
    ------
    TypeError
        If `out` is no array, or of another dtype.
    ValueError
        If its shape does not fit, or it is read-only or not C-contiguous and aligned.
    """
    if type(out) is not np.ndarray:
        raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {out.shape}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ValueError("out: expected a writable, C-contiguous, aligned array")
