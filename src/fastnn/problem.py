"""What is to be learnt: the task, the classes, and how columns become a network's inputs and its outputs answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .files import need
from .tables import Table, listed

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["TASKS", "Problem", "Split", "prepare"]

TASKS = ("classification", "regression")
#: A whole-number target with more different values than this is a quantity, not a class.
MAX_INTEGER_CLASSES = 20


@dataclass
class Problem:
    """How raw columns become the network's inputs, and its outputs become answers. Saved with the network."""

    task: str
    target: str | None
    features: list[str] | None
    classes: list[str] | None = None
    mean: np.ndarray | None = None  # (D,); None: the inputs stay as they are (pixels)
    scale: np.ndarray | None = None
    target_mean: float = 0.0
    target_scale: float = 1.0

    def inputs(self, X: np.ndarray, dtype: Any) -> np.ndarray:
        """What the network is given, in its dtype; pixels stay as they are, the network scales them."""
        if self.mean is None or self.scale is None:
            return X
        with np.errstate(over="ignore"):  # the network refuses infinities
            return ((X - self.mean) / self.scale).astype(dtype)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """What the network is to learn: codes of classes, or standardised values."""
        return y if self.classes is not None else (y - self.target_mean) / self.target_scale

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """A regression's outputs in the target's units, float64 (N,)."""
        return outputs.astype(np.float64).reshape(len(outputs)) * self.target_scale + self.target_mean

    def labels(self, y: np.ndarray) -> np.ndarray:
        """Raw values of a target as names of classes, object (N,); among them may be classes that are not known."""
        return np.array([_label(value) for value in y], dtype=object)

    def to_metadata(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""

        def numbers(values: np.ndarray | None) -> list[float] | None:
            return None if values is None else [float(value) for value in values]

        return {
            "task": self.task,
            "target": self.target,
            "features": self.features,
            "classes": self.classes,
            "feature_mean": numbers(self.mean),
            "feature_scale": numbers(self.scale),
            "target_mean": self.target_mean,
            "target_scale": self.target_scale,
        }

    @classmethod
    def from_metadata(cls, path: str, net: Sequential, metadata: dict[str, Any]) -> Problem:
        """Rebuild from the metadata of the file `path`; a ValueError if they do not fit the network."""
        if "task" not in metadata:
            raise ValueError(
                f"{path}: has no description of its data; only networks saved by fastnn train can be used here"
            )

        def wrong(name: str) -> NoReturn:
            raise ValueError(f"{path}: damaged description of its data: {name}")

        def names(key: str, count: int | None) -> list[str] | None:
            values = metadata.get(key)
            if values is None:
                return None
            fits = isinstance(values, list) and all(isinstance(value, str) for value in values)
            if not fits or (count is not None and len(values) != count):
                wrong(key)
            return values

        def numbers(key: str) -> np.ndarray | None:
            values = metadata.get(key)
            if values is None:
                return None
            try:
                array = np.array(values, dtype=np.float64)
            except (TypeError, ValueError):
                wrong(key)
            if array.shape != (net.input_size,) or not np.isfinite(array).all():
                wrong(key)
            return array

        def number(key: str) -> float:
            value = metadata.get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                wrong(key)
            return float(value)

        task, target = metadata["task"], metadata.get("target")
        if task not in TASKS:
            wrong("task")
        if target is not None and not isinstance(target, str):
            wrong("target")
        n_outputs = net.n_outputs
        classes = names("classes", n_outputs if task == "classification" else None)
        if task == "classification" and classes is None:
            wrong("classes")
        mean, scale = numbers("feature_mean"), numbers("feature_scale")
        if (mean is None) != (scale is None) or (scale is not None and not (scale > 0).all()):
            wrong("feature_scale")
        return cls(
            task,
            target,
            names("features", net.input_size),
            classes,
            mean,
            scale,
            number("target_mean"),
            number("target_scale"),
        )


@dataclass
class Split:
    """Rows to train and to test, raw; y as codes (classification) or float64 (regression)."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def prepare(
    table: Table, task: str = "auto", *, test_fraction: float | None = None, seed: int = 0
) -> tuple[Problem, Split, str]:
    """Recognise the task, encode the target, split, and learn means and scales from the training rows.

    Parameters
    ----------
    table : Table
        With a target.
    task : {"auto", "classification", "regression"}
        What to make of the target. "auto": text, True/False and at most `MAX_INTEGER_CLASSES` different whole numbers
        (1.0 is one) are classes, other numbers are a quantity.
    test_fraction : float, optional
        Part of the rows kept back for the test, 0.2 by default; not for a table that has a test part.
    seed : int
        Of the split, which keeps the proportions of the classes.

    Returns
    -------
    problem : Problem
    split : Split
    why : str
        Why it is that task, where this was recognised; else empty.

    Raises
    ------
    ValueError
        If the task does not fit the target, or there is nothing to learn, or there are too few rows.
    MissingPackageError
        If the rows are to be split and scikit-learn is not installed.
    """
    if table.y is None:
        raise ValueError(f"{table.title}: no target")
    name = f"{table.title}: target {table.target!r}"
    y, y_test, classes, task, why = _encode(table, table.y, task)
    if classes is not None:
        _check_classes(name, classes, y, quantity=table.y.dtype.kind in "iuf", needed=2 if y_test is None else 1)
    if y_test is None or table.X_test is None:
        split = _split(table, y, classes, 0.2 if test_fraction is None else test_fraction, seed)
    elif test_fraction is not None:
        raise ValueError(f"a test fraction does not apply: {table.title} has its own test part")
    else:
        split = Split(table.X, y, table.X_test, y_test)
    problem = Problem(task, table.target, table.features, classes)
    if table.X.dtype != np.uint8:

        def column(index: int) -> str:
            return f"{table.title}: column {table.features[index] if table.features else index!r}"

        problem.mean, problem.scale = _mean_and_scale(split.X, column)
    if task == "regression":
        mean, scale = _mean_and_scale(split.y[:, None], lambda _: name)
        problem.target_mean, problem.target_scale = float(mean[0]), float(scale[0])
        if split.y.min() == split.y.max():
            raise ValueError(f"{name} is {split.y[0]:g} in all rows: nothing to learn")
    return problem, split, why


def _encode(table: Table, y: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray | None, list[str] | None, str, str]:
    """Targets to train and to test as codes or float64, names of the classes, the task, and why it is that one."""
    y_test = table.y_test
    if table.classes is not None:
        if task == "regression":
            raise ValueError(f"task regression does not fit {table.title}, which has classes")
        return y, y_test, table.classes, "classification", ""
    # Classes of a fixed test part count, too; one without training rows is refused later.
    both = y if y_test is None else np.concatenate([y, y_test])
    task, why = _recognise(both, task)
    if task == "regression":
        return y.astype(np.float64), None if y_test is None else y_test.astype(np.float64), None, task, why
    values, codes = np.unique(both, return_inverse=True)
    codes = codes.astype(np.int64)
    classes = [_label(value) for value in values]
    return codes[: len(y)], None if y_test is None else codes[len(y) :], classes, task, why


def _check_classes(name: str, classes: list[str], codes: np.ndarray, quantity: bool, needed: int) -> None:
    """Refuse a target with one class, or with a class of fewer than `needed` rows."""
    if len(classes) < 2:
        raise ValueError(f"{name} has only one class, {classes[0]!r}: nothing to learn")
    counts = np.bincount(codes, minlength=len(classes))
    if counts.min() < needed:
        rare = [classes[k] for k in np.flatnonzero(counts < needed)]
        hint = "; choose task regression if it is a quantity" if quantity else ""
        raise ValueError(
            f"{name} has {len(classes)} classes, and {len(rare)} of them have fewer than {needed} rows to learn from "
            f"({listed(rare, 3)}){hint}"
        )


def _split(table: Table, y: np.ndarray, classes: list[str] | None, fraction: float, seed: int) -> Split:
    n_test = math.ceil(fraction * len(y))
    needed = 2 if classes is None else len(classes)
    if min(n_test, len(y) - n_test) < needed:
        raise ValueError(
            f"{table.title}: too few rows: {len(y)} make {len(y) - n_test} to train and {n_test} to test, and each "
            f"part needs {needed}"
        )
    selection = need("sklearn.model_selection", "splitting the rows")
    train, test = selection.train_test_split(
        np.arange(len(y)),
        test_size=n_test,
        random_state=seed % 2**32,
        stratify=None if classes is None else y,
    )
    return Split(table.X[train], y[train], table.X[test], y[test])


def _recognise(y: np.ndarray, task: str) -> tuple[str, str]:
    """Task and, when it was not given, why it is that one."""
    if task == "regression" and y.dtype.kind not in "buif":
        raise ValueError(f"task regression needs numbers in the target, got text such as {str(y[0])!r:.50}")
    if task != "auto":
        return task, ""
    if y.dtype.kind not in "iuf":
        return "classification", "the target is text" if y.dtype.kind != "b" else "the target is True/False"
    if y.dtype.kind == "f" and (y != np.floor(y)).any():  # 0.0 and 1.0 are what pandas makes of 0 and 1 beside a gap
        return "regression", "the target has decimal numbers"
    count = len(np.unique(y))
    if count <= MAX_INTEGER_CLASSES and count <= max(2, len(y) / 3):
        return "classification", f"the target has {count} different whole numbers"
    return "regression", f"the target has {count} different whole numbers"


def _mean_and_scale(values: np.ndarray, what: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per column; 1 in place of the deviation of a constant column."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = values.mean(axis=0), values.std(axis=0)
    bad = ~(np.isfinite(mean) & np.isfinite(scale))
    if bad.any():
        raise ValueError(f"{what(int(bad.argmax()))} has values too large to standardise")
    # The mean of equal values is off by rounding, which must not become a "deviation".
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def _label(value: Any) -> str:
    """A class as text: 3 and 3.0 are both "3"."""
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)
