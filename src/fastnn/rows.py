"""What training is given: weights of classes, the split into training and validation rows, batches from an iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._typing import Rows
from .checks import check_number, check_rows, check_sample_weight

if TYPE_CHECKING:
    from .network import Network

__all__ = ["Stream", "check_class_weight", "class_weights", "split_rows"]


def _labels(net: Network, y: np.ndarray) -> np.ndarray | None:
    """Class of each row of checked targets (soft ones: the likeliest); None where rows have no single class."""
    if not net.loss_function.has_one_class(net.n_outputs):
        return None
    return net.loss_function.labels(y)[:, 0].astype(np.int64, copy=False)


def check_class_weight(net: Network, class_weight: Any) -> dict[int, float] | str | None:
    """`class_weight` as ``fit`` uses it.

    Raises
    ------
    TypeError
        If it is neither a mapping nor "balanced", or a key or a value is not a number.
    ValueError
        If the rows of the network's loss have no single class, a class does not exist, or a weight is negative.
    """
    if class_weight is None:
        return None
    expected = 'class_weight must be a dict of class to weight, or "balanced"'
    if isinstance(class_weight, str) and class_weight != "balanced":
        raise ValueError(f"{expected}, got {class_weight!r}")
    if not isinstance(class_weight, (str, Mapping)):
        raise TypeError(f"{expected}, got {class_weight!r}")
    if not net.loss_function.has_one_class(net.n_outputs):
        raise ValueError(
            f"class_weight needs rows with one class each, got loss {net.loss_name!r} with {net.n_outputs} outputs; "
            "use sample_weight"
        )
    if isinstance(class_weight, str):
        return class_weight
    n_classes = max(net.n_outputs, 2)
    checked = {}
    for key, value in class_weight.items():
        if isinstance(key, (bool, np.bool_)) or not isinstance(key, (int, np.integer)):
            raise TypeError(f"class_weight: expected classes as integers, got {key!r}")
        if not 0 <= key < n_classes:
            raise ValueError(f"class_weight: expected classes in [0, {n_classes}), got {key}")
        checked[int(key)] = check_number(f"class_weight[{key}]", value, minimum=0.0)
    return checked


def class_weights(
    net: Network, y: np.ndarray, class_weight: dict[int, float] | str | None, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Weight of each row: that of its class times that of the row.

    "balanced" gives class c the weight n / (k n_c), n rows in k classes, n_c of them in c, as scikit-learn does; a dict
    gives 1 to the classes that it leaves out.

    Parameters
    ----------
    net : Sequential
    y : ndarray
        Checked targets.
    class_weight : dict, "balanced" or None
        As `check_class_weight` returns it.
    sample_weight : ndarray (N,) or None

    Returns
    -------
    ndarray (N,) of the network's dtype, or None
    """
    if class_weight is None:
        return sample_weight
    labels = _labels(net, y)
    assert labels is not None
    per_class = np.ones(max(net.n_outputs, 2))
    if isinstance(class_weight, str):
        counts = np.bincount(labels, minlength=len(per_class))
        per_class = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        for label, weight in class_weight.items():
            per_class[label] = weight
    weights = per_class[labels]
    if sample_weight is not None:
        weights *= sample_weight
    return weights.astype(net.dtype)


def split_rows(net: Network, y: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random indices of training and of validation rows, both rising.

    The rows of each class are divided alike (stratified); shares that are not whole go to the classes with the largest
    remainders, and each class keeps a row to train on. Regressions and several yes/no outputs are divided as a whole.

    Parameters
    ----------
    net : Sequential
    y : ndarray
        Checked targets.
    fraction : float
        Share of the validation rows.
    rng : numpy.random.Generator

    Returns
    -------
    training, validation : ndarray of int64

    Raises
    ------
    ValueError
        If one of them would be empty.
    """
    n_rows = len(y)
    labels = _labels(net, y)
    groups = [np.arange(n_rows)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.array([fraction * len(group) for group in groups])
    counts = np.floor(shares).astype(np.int64)
    missing = round(fraction * n_rows) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    counts = np.minimum(counts, [len(group) - 1 for group in groups])
    if counts.sum() == 0:
        raise ValueError(f"validation_split: {fraction:g} of {n_rows} rows leaves none to validate on")
    chosen = np.zeros(n_rows, bool)
    for group, count in zip(groups, counts, strict=True):
        chosen[rng.permutation(group)[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


class Stream:
    """Batches from an iterator, an iterable, or a function that returns one: data larger than memory.

    Parameters
    ----------
    net : Sequential
    source : iterable or callable
        Gives (X, y) or (X, y, sample_weight); each is one batch. A function, or an iterable that is not an iterator,
        is started anew for each epoch.
    class_weight : dict, optional

    Attributes
    ----------
    once : bool
        Whether there is one epoch only.
    length : int
        Batches of an epoch, where the source knows; else 0.
    """

    def __init__(self, net: Network, source: Any, class_weight: dict[int, float] | str | None) -> None:
        if isinstance(class_weight, str):
            raise ValueError('class_weight: "balanced" needs all labels at once, not an iterator; give a dict')
        self._net, self._source, self._class_weight = net, source, class_weight
        self.once = isinstance(source, Iterator)
        self.length = len(source) if hasattr(source, "__len__") else 0

    @staticmethod
    def fits(X: Any, y: Any) -> bool:
        """Whether X is a source of batches rather than an array."""
        if y is not None or hasattr(X, "__array__") or hasattr(X, "tocsr"):
            return False
        if isinstance(X, (list, tuple)):  # of batches, or of numbers?
            return bool(X) and all(isinstance(item, tuple) and len(item) in (2, 3) for item in X)
        return isinstance(X, (Iterable, Callable)) and not isinstance(X, (str, bytes, Mapping))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Rows, np.ndarray, np.ndarray | None]]:
        """Checked batches of one epoch."""
        source = self._source() if callable(self._source) else self._source
        if not isinstance(source, Iterable):
            raise TypeError(f"X: expected a function that returns an iterator of batches, it returned {source!r}")
        net, number = self._net, 0
        for number, item in enumerate(source, start=1):
            if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
                kind = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else repr(type(item))
                raise TypeError(f"X: expected batches (X, y) or (X, y, sample_weight), got {kind} as batch {number}")
            try:
                X = check_rows(item[0], net.input_size, net.dtype)
                if len(X) == 0:
                    raise ValueError(f"X: expected at least one row, got shape {X.shape}")
                y = net.loss_function.check_targets(item[1], len(X), net.n_outputs, net.dtype)
                w = item[2] if len(item) == 3 else None
                w = check_sample_weight(w, len(X), net.dtype, zeros=True)
                w = class_weights(net, y, self._class_weight, w)
            except (TypeError, ValueError) as error:
                raise type(error)(f"batch {number}: {error}") from error
            yield X, y, w
        if number == 0:
            raise ValueError("X: expected at least one batch from the iterator, got none")
