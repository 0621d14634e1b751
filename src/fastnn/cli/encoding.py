"""Encoding of a table: task, class labels, and the split into rows to train on and rows to test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .._typing import JSON, DTypeLike
from ..network import Network
from ..schema import TEXT, Anything, Choice, Items, Maybe, Real, Record
from ..training.data import stratified_split
from .arguments import TASKS
from .tables import Table, listed

__all__ = ["Encoding", "OutsideScaling", "Split", "in_target_units", "prepare"]

N = TypeVar("N", bound=Network)

#: A whole-number target with more different values than this is a quantity, not a class.
MAX_INTEGER_CLASSES = 20


@dataclass
class OutsideScaling:
    """Standardisation beside the network, in files written before networks standardised their inputs themselves."""

    mean: np.ndarray | None  # (D,); None: the inputs stay as they are (pixels)
    scale: np.ndarray | None
    target_mean: float
    target_scale: float


@dataclass
class Encoding:
    """What the columns of a table and the outputs of a network mean. Saved with the network."""

    task: str
    target: str | None
    features: list[str] | None
    classes: list[str] | None = None
    scaling: OutsideScaling | None = None

    def inputs(self, X: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        """What the network is given."""
        if self.scaling is None or self.scaling.mean is None or self.scaling.scale is None:
            return X
        with np.errstate(over="ignore"):  # the network refuses infinities
            scaled: np.ndarray = (X - self.scaling.mean) / self.scaling.scale
            return scaled.astype(dtype)

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """A regression's outputs in the target's units, float64 (N,)."""
        values = outputs.astype(np.float64).reshape(len(outputs))
        return values if self.scaling is None else values * self.scaling.target_scale + self.scaling.target_mean

    def scores(self, net: Network, inputs: np.ndarray, y: np.ndarray, threads: int | None) -> tuple[float, float]:
        """R² of a regression, and the root of its mean squared error in the target's units."""
        mean, scale = (0.0, 1.0) if self.scaling is None else (self.scaling.target_mean, self.scaling.target_scale)
        values = net.evaluate(inputs, (y - mean) / scale, threads=threads)
        return values["r2"], math.sqrt(values["mse"]) * scale

    def labels(self, table: Table) -> np.ndarray:
        """The target of a table as names of classes, object (N,); among them may be classes that are not known.

        A name is found by its text or, where that is not known, by its value: "1.0" is the class "01".
        """
        written = table.y if table.text is None else table.text
        if written is None or self.classes is None:
            raise ValueError(f"{table.title}: no labels")
        known = {_canonical(name): name for name in self.classes}
        known |= {name: name for name in self.classes}
        values, places = np.unique(written.astype(str) if table.text is not None else written, return_inverse=True)
        names = [_label(value) for value in values]
        found = [known.get(name) or known.get(_canonical(name), name) for name in names]
        return np.array(found, dtype=object)[places]

    def to_metadata(self) -> JSON:
        """Everything, as JSON can hold it."""
        return {"task": self.task, "target": self.target, "features": self.features, "classes": self.classes}

    @classmethod
    def from_metadata(cls, path: str, net: Network, metadata: JSON) -> Encoding:
        """Rebuild from the metadata of the file `path`; a ValueError if they do not fit the network."""
        if "task" not in metadata:
            raise ValueError(
                f"{path}: has no description of its data; only networks saved by fastnn train can be used here"
            )
        try:
            _METADATA.check(metadata, "")
            return cls._restored(net, metadata)
        except ValueError as error:
            raise ValueError(f"{path}: damaged description of its data: {error}") from error

    @classmethod
    def _restored(cls, net: Network, metadata: JSON) -> Encoding:
        """From metadata of the right types."""
        task, classes, features = metadata["task"], metadata.get("classes"), metadata.get("features")
        classifies = task == "classification"
        if classifies != net.loss_function.classifies or classifies != (classes is not None):
            raise ValueError(f"task {task!r} does not fit the network, or the classes")
        if classes is not None and len(classes) != net.n_outputs:
            raise ValueError(f"classes cannot be {len(classes)} names for {net.n_outputs} outputs")
        if classes is None and net.n_outputs != 1:
            raise ValueError(f"a regression cannot have {net.n_outputs} outputs")
        if features is not None and len(features) != net.input_size:
            raise ValueError(f"features cannot be {len(features)} names of {net.input_size} columns")
        return cls(task, metadata.get("target"), features, classes, _scaling(metadata, net.input_size))


_NUMBERS = Maybe(Items(Real()))
_METADATA = Record(
    {"task": Choice(TASKS)},
    {
        "target": Maybe(TEXT),
        **dict.fromkeys(("features", "classes"), Maybe(Items(TEXT))),
        **dict.fromkeys(("feature_mean", "feature_scale"), _NUMBERS),
        **dict.fromkeys(("target_mean", "target_scale"), Maybe(Real())),
    },
    others=Anything(),
)


def _scaling(metadata: JSON, n_features: int) -> OutsideScaling | None:
    """Standardisation beside the network, where a file has it."""
    if not metadata.keys() & {"feature_mean", "feature_scale", "target_mean", "target_scale"}:
        return None
    mean, scale = metadata.get("feature_mean"), metadata.get("feature_scale")
    if (mean is None) != (scale is None) or any(
        values is not None and len(values) != n_features for values in (mean, scale)
    ):
        raise ValueError(f"feature_mean and feature_scale do not fit each other, or {n_features} columns")
    if scale is not None and not all(value > 0 for value in scale):
        raise ValueError("feature_scale must be above 0")
    if metadata.get("target_mean") is None or metadata.get("target_scale") is None:
        raise ValueError("target_mean and target_scale must be numbers")
    return OutsideScaling(
        None if mean is None else np.array(mean, np.float64),
        None if scale is None else np.array(scale, np.float64),
        float(metadata["target_mean"]),
        float(metadata["target_scale"]),
    )


@dataclass
class Split:
    """Rows to train and to test, raw; y as codes (classification) or float64 (regression).

    `target_mean` and `target_scale` are those of a regression's rows to train on.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    target_mean: float = 0.0
    target_scale: float = 1.0


def prepare(
    table: Table, task: str = "auto", *, test_fraction: float | None = None, seed: int = 0
) -> tuple[Encoding, Split, str]:
    """Recognise the task, encode the target, and split.

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
    encoding : Encoding
    split : Split
    why : str
        Why it is that task, where this was recognised; else empty.

    Raises
    ------
    ValueError
        If the task does not fit the target, or there is nothing to learn, or there are too few rows.
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
    if table.X.dtype != np.uint8:
        _mean_and_scale(split.X, lambda i: f"{table.title}: column {table.features[i] if table.features else i!r}")
    if task == "regression":
        mean, scale = _mean_and_scale(split.y[:, None], lambda _: name)
        split.target_mean, split.target_scale = float(mean[0]), float(scale[0])
        if split.y.min() == split.y.max():
            raise ValueError(f"{name} is {split.y[0]:g} in all rows: nothing to learn")
    return Encoding(task, table.target, table.features, classes), split, why


def _encode(table: Table, y: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray | None, list[str] | None, str, str]:
    """Targets to train and to test as codes or float64, names of the classes, the task, and why it is that one."""
    y_test = table.y_test
    if table.classes is not None:
        if task == "regression":
            raise ValueError(f"task regression does not fit {table.title}, which has classes")
        return y, y_test, table.classes, "classification", ""
    # Classes of a fixed test part count as well; one without training rows is refused later.
    both = y if y_test is None else np.concatenate([y, y_test])
    task, why = _recognise(both, task)
    if task == "regression":
        return y.astype(np.float64), None if y_test is None else y_test.astype(np.float64), None, task, why
    values, codes = np.unique(both, return_inverse=True)
    codes = codes.astype(np.int64)
    classes = [_label(value) for value in values]
    if table.text is not None:
        classes = _as_written(classes, codes, table.text)
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
    labels = None if classes is None else y
    train, test = stratified_split(labels, len(y), n_test / len(y), _generator(seed))
    return Split(table.X[train], y[train], table.X[test], y[test])


def _generator(seed: int) -> np.random.Generator:
    """Of the split: independent of the network's, which has the same seed."""
    return np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])


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


def _as_written(names: list[str], codes: np.ndarray, text: np.ndarray) -> list[str]:
    """Names of classes as the table writes them ("01", "TRUE"), unless it writes one class in several ways."""
    written: list[set[str]] = [set() for _ in names]
    for code, value in set(zip(codes.tolist(), text.tolist(), strict=True)):
        written[code].add(value)
    return [min(ways) for ways in written] if all(len(ways) == 1 for ways in written) else names


def _canonical(name: str) -> str:
    """One name for all ways to write a number or a truth value: "1" for "01" and "1.0"."""
    if name.lower() in ("true", "false"):
        return name.capitalize()
    try:
        value = float(name)
    except ValueError:
        return name
    return _label(value) if math.isfinite(value) and abs(value) < 2**53 else name


def _label(value: object) -> str:
    """A class as text: 3 and 3.0 are both "3"."""
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)


def in_target_units(net: N, encoding: Encoding, split: Split) -> N:
    """The network whose outputs are in the target's units: W s and b s + m instead of W and b in the last layer."""
    if encoding.classes:
        return net
    scaled, last = net.copy(), len(net.layers) - 1
    for name, shift in (("weight", 0.0), ("bias", split.target_mean)):
        values = scaled.parameters[f"{last}.{name}"]
        with np.errstate(over="ignore"):  # parameters that are not finite are not saved
            values[...] = values.astype(np.float64) * split.target_scale + shift
    return scaled
