"""The data of a sweep: checked and converted once, shared by all members; folds are lists of rows."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .._typing import ArrayLike, Data, Rows
from ..checks import check_integer, check_number, check_sample_weight, column_names, plain_values
from ..names import listing
from ..network import Network
from ..training.classes import check_class_weight, class_labels, class_weights
from ..training.data import Dataset, stratified_split, take_rows

__all__ = ["Fold", "SharedData", "folds_of"]
__dir__ = listing(__all__)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows to train on and rows to validate on.

    Attributes
    ----------
    train : ndarray of int64, or None
        None is all rows.
    validation : ndarray of int64, or None
        None: the validation data that was given apart, or none.
    """

    train: np.ndarray | None
    validation: np.ndarray | None


class SharedData:
    """X, y and weights, as members take them.

    What depends on a network's loss, dtype or sizes is made once for each kind and kept.

    Parameters
    ----------
    X, y, sample_weight
        As for :meth:`fastnn.Sequential.fit`.
    validation : tuple (X, y) or (X, y, sample_weight), optional
    """

    def __init__(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None, validation: tuple[Any, ...] | None
    ) -> None:
        if y is None:
            raise TypeError("y: expected targets, got None")
        self.X, self.y, self.sample_weight = X, y, sample_weight
        if validation is not None and (not isinstance(validation, tuple | list) or len(validation) not in (2, 3)):
            raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {validation!r:.60}")
        self.validation = None if validation is None else (*validation, None)[:3]
        self.names = column_names(X)
        self.n_rows = int(X.shape[0]) if hasattr(X, "shape") and len(X.shape) else len(X)  # type: ignore[arg-type]
        if self.n_rows == 0:
            raise ValueError("X: expected at least one row, got none")
        if np.shape(y)[:1] != (self.n_rows,):
            raise ValueError(f"y: expected {self.n_rows} rows like X, got shape {np.shape(y)}")
        self._kept: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` returns, made once for each key."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            found: T = self._kept[key]
            return found

    def _checked(self, net: Network, part: str, X: Data, y: ArrayLike) -> tuple[Rows, np.ndarray]:
        """Rows and targets as the network takes them."""
        dtype = net.dtype.char
        rows = self._once((part, "X", net.input_size, dtype), lambda: net.check_rows(X))
        classes = self.classes(net)
        known = None if classes is None else tuple(classes.tolist())
        key = (part, "y", net.loss_function, net.n_outputs, dtype, known)
        targets = self._once(key, lambda: net.check_targets(y, len(rows), classes))
        return rows, targets

    def classes(self, net: Network) -> np.ndarray | None:
        """Names of the classes, the network's own or those of all rows; None where the targets are no names."""
        if net.classes_ is not None:
            return net.classes_
        one = net.loss_function.has_one_class(net.n_outputs)
        return self._once(("classes", one, net.n_classes), lambda: net.new_classes(self.y))

    def labels(self, net: Network) -> np.ndarray | None:
        """Class of each row, None where rows have no single class."""
        return class_labels(net, self._checked(net, "all", self.X, self.y)[1])

    def dataset(self, net: Network, fold: Fold, number: int, class_weight: object) -> Dataset:
        """What a member trains and validates on, equal to ``X[train]`` and ``(X[validation], y[validation])``.

        Raises
        ------
        ValueError, TypeError
            If the data does not fit the network.
        """
        X, y = self._checked(net, "all", self.X, self.y)
        weight = self._once((number, "weight", net.dtype.char), lambda: self._weight(fold.train, net.dtype))
        classes = self.classes(net)
        checked = check_class_weight(net, class_weight, classes)
        if checked is not None:
            weight = self._class_weight(net, y, fold.train, checked, weight)
        data = Dataset.of_checked(net, X, y, weight, self.names, classes)
        if fold.train is not None:
            data.rows, data.shared = fold.train, True
        data.validation = self._validation(net, fold, number)
        return data

    def _weight(self, rows: np.ndarray | None, dtype: np.dtype) -> np.ndarray | None:
        """Checked weights of some rows, in their places among all rows; the others are never read."""
        if self.sample_weight is None:
            return None
        if rows is None:
            return check_sample_weight(self.sample_weight, self.n_rows, dtype)
        given = np.asarray(plain_values("sample_weight", self.sample_weight))
        if given.shape != (self.n_rows,):
            raise ValueError(f"sample_weight: expected shape ({self.n_rows},), got {given.shape}")
        return _in_place(check_sample_weight(given[rows], len(rows), dtype), rows, self.n_rows)

    def _class_weight(
        self, net: Network, y: np.ndarray, rows: np.ndarray | None, class_weight: Any, weight: np.ndarray | None
    ) -> np.ndarray | None:
        if rows is None:
            found = class_weights(net, y, class_weight, weight)
        else:
            found = class_weights(net, y[rows], class_weight, None if weight is None else weight[rows])
        if found is not None and not found.any():
            raise ValueError("class_weight: expected a positive sum over the rows, got zeros only")
        return found if rows is None else _in_place(found, rows, self.n_rows)

    def _validation(self, net: Network, fold: Fold, number: int) -> Dataset | None:
        if fold.validation is not None:
            part = fold.validation
            X, y = self._checked(net, "all", self.X, self.y)
            rows = self._once((number, "X", net.input_size, net.dtype.char), lambda: X[part])
            targets = self._once((number, "y", net.loss_function, net.n_outputs, net.dtype.char), lambda: y[part])
            weight = self._once(
                (number, "validation weight", net.dtype.char), lambda: self._validation_weight(part, net.dtype)
            )
            return Dataset.of_checked(net, rows, targets, weight, self.names)
        if self.validation is None:
            return None
        X, y, weight = self.validation
        try:
            rows, targets = self._checked(net, "validation", X, y)
            weight = self._once(
                ("validation weight", net.dtype.char), lambda: check_sample_weight(weight, len(rows), net.dtype)
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from error
        names = column_names(X)
        if names and self.names and names != self.names:
            raise ValueError(
                f"validation_data: expected the columns of X, {', '.join(self.names):.200}, got {', '.join(names):.200}"
            )
        return Dataset.of_checked(net, rows, targets, weight, names)

    def _validation_weight(self, rows: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
        if self.sample_weight is None:
            return None
        return check_sample_weight(
            np.asarray(plain_values("sample_weight", self.sample_weight))[rows], len(rows), dtype
        )

    def validation_part(self, net: Network, fold: Fold, number: int) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        """Rows, targets and weights that a network is validated on."""
        data = self._validation(net, fold, number)
        if data is None:
            raise ValueError("there are no validation rows")
        return data.X, data.y, data.weight

    def raw(self, fold: Fold, number: int) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any] | None]:
        """X, y and weights to train on and to validate on, as they were given: for what takes arrays alone."""
        train = self._once((number, "raw"), lambda: self._part(fold.train))
        if fold.validation is not None:
            return train, self._once((number, "raw validation"), lambda: self._part(fold.validation))
        return train, self.validation

    def _part(self, rows: np.ndarray | None) -> tuple[Any, Any, Any]:
        given = (self.X, self.y, self.sample_weight)
        if rows is None:
            return given
        return tuple(None if values is None else take_rows(values, rows) for values in given)  # type: ignore[return-value]

    def fingerprint(self, folds: Iterable[Fold]) -> str:
        """SHA-256 of the data and of the folds."""
        digest = hashlib.sha256()
        for values in (self.X, self.y, self.sample_weight, *(self.validation or ())):
            _digest(digest, values)
        for fold in folds:
            _digest(digest, fold.train)
            _digest(digest, fold.validation)
        return digest.hexdigest()


def _in_place(values: np.ndarray | None, rows: np.ndarray, n_rows: int) -> np.ndarray | None:
    """Values of some rows in their places among all rows, 1 elsewhere."""
    if values is None:
        return None
    whole = np.ones(n_rows, values.dtype)
    whole[rows] = values
    return whole


def _digest(digest: Any, values: Any) -> None:
    if values is None:
        digest.update(b"none")
        return
    if hasattr(values, "tocsr"):
        matrix = values.tocsr()
        parts = [matrix.data, matrix.indices, matrix.indptr]
    else:
        parts = [np.asarray(values)]
    for part in parts:
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        if part.dtype.hasobject:
            digest.update("\n".join(map(repr, part.ravel().tolist())).encode())
        elif part.size:
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)


def folds_of(
    cv: object,
    validation_data: object,
    validation_split: float,
    data: SharedData,
    labels: np.ndarray | None,
    groups: ArrayLike | None,
    generator: np.random.Generator,
) -> list[Fold]:
    """The folds of a sweep.

    Parameters
    ----------
    cv : int, splitter of scikit-learn, iterable of (train, validation) rows, or None
    validation_data : tuple or None
    validation_split : float
        One of these three is given.
    data : SharedData
    labels : ndarray (N,) or None
        Classes: an integer `cv`, and `validation_split`, part each class alike, and no fold may train without one.
    groups : array_like (N,), optional
        For a splitter.
    generator : numpy.random.Generator

    Raises
    ------
    ValueError, TypeError
        If none or several are given, or a fold is empty, has rows in both parts, or trains without one of the classes.
    """
    split = check_number("validation_split", validation_split, minimum=0.0, below=1.0)
    given = [name for name, it in (("cv", cv), ("validation_data", validation_data), ("validation_split", split)) if it]
    if len(given) != 1:
        what = "none" if not given else " and ".join(given)
        raise ValueError(f"expected one of cv, validation_data and validation_split, got {what}")
    if validation_data is not None:
        return [Fold(None, None)]
    if split:
        kept, held_out = stratified_split(labels, data.n_rows, split, generator)
        if not len(held_out):
            raise ValueError(f"validation_split: {split:g} of {data.n_rows} rows leaves none to validate on")
        return [Fold(kept, held_out)]
    pairs: Iterable[Any]
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        pairs = _k_folds(check_integer("cv", cv, minimum=2), data.n_rows, labels, generator)
    elif hasattr(cv, "split") and not isinstance(cv, str | bytes):
        pairs = cv.split(np.zeros((data.n_rows, 1)) if data.X is None else data.X, data.y, groups)
    elif isinstance(cv, Iterable) and not isinstance(cv, str | Mapping):
        pairs = cv
    else:
        raise TypeError(f"cv must be an integer, a splitter or a list of (train, validation) rows, got {cv!r:.60}")
    folds = [_check_fold(number, pair, data.n_rows) for number, pair in enumerate(pairs)]
    if not folds:
        raise ValueError("cv: expected at least one fold, got none")
    if labels is not None:
        for number, fold in enumerate(folds):
            _check_classes(number, fold, labels)
    return folds


def _k_folds(
    k: int, n_rows: int, labels: np.ndarray | None, generator: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """K folds of random rows, of equal sizes but for one row, with the rows of each class dealt out in turn."""
    if k > n_rows:
        raise ValueError(f"cv: expected at most as many folds as rows, got {k} for {n_rows}")
    groups = [np.arange(n_rows)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    order = np.concatenate([generator.permutation(group) for group in groups])
    number = np.empty(n_rows, np.int64)
    number[order] = np.arange(n_rows) % k
    return [(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(k)]


def _check_fold(number: int, pair: Any, n_rows: int) -> Fold:
    try:
        train, validation = pair
    except (TypeError, ValueError):
        raise TypeError(f"cv: expected pairs (train, validation) of rows, got {pair!r:.60} as fold {number}") from None
    parts = []
    for name, rows in (("train", train), ("validation", validation)):
        array = np.asarray(rows)
        if array.dtype == bool and array.shape == (n_rows,):
            array = np.flatnonzero(array)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(f"cv: expected indices of rows, got {rows!r:.60} as the {name} rows of fold {number}")
        if not len(array):
            raise ValueError(f"cv: fold {number} has no {name} rows")
        if array.min() < 0 or array.max() >= n_rows:
            raise ValueError(f"cv: expected rows in [0, {n_rows}), fold {number} has {array.min()} to {array.max()}")
        parts.append(np.ascontiguousarray(array, np.int64))
    both = np.intersect1d(parts[0], parts[1])
    if len(both):
        raise ValueError(f"cv: fold {number} trains and validates on row {both[0]}")
    return Fold(*parts)


def _check_classes(number: int, fold: Fold, labels: np.ndarray) -> None:
    present = labels if fold.train is None else labels[fold.train]
    missing = np.setdiff1d(labels, present)
    if len(missing):
        count = int((labels == missing[0]).sum())
        raise ValueError(
            f"cv: fold {number} has no row of class {missing[0]} to train on (there are {count} in all); use fewer "
            "folds or StratifiedKFold, or leave the class out"
        )
