"""What training is given: arrays or batches from an iterator, rows held out for validation."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from .._typing import ArrayLike, Data, Rows
from ..checks import (
    MOMENTS_BLOCK,
    check_sample_weight,
    column_names,
    rows_that_count,
)
from ..metrics import Metric, check_metrics, default_names, monitored
from ..network import Network
from ..schema import printable
from .classes import CodeWeights, check_class_weight, class_labels, class_weights
from .options import TrainingOptions

__all__ = [
    "Dataset",
    "Scoring",
    "Stream",
    "hold_out",
    "stratified_split",
    "take_rows",
    "training_data",
]

#: Names that no metric can have: series of a history, of a solver's too.
RESERVED = ("epoch", "learning_rate", "seconds", "gradient_norm", "step", "damping", "evaluations")

#: Checked rows, targets and weights.
Batch: TypeAlias = tuple[Rows, np.ndarray, np.ndarray | None]


def take_rows(values: Any, rows: np.ndarray) -> Any:
    """Some rows of an array, a DataFrame, an Arrow table, a sparse matrix or a list."""
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if hasattr(values, "tocsr"):
        return values.tocsr()[rows]
    if hasattr(values, "schema") and hasattr(values, "take"):  # of Arrow
        return values.take(rows)
    return values[rows] if hasattr(values, "shape") else np.asarray(values)[rows]


def stratified_split(
    labels: np.ndarray | None, n_rows: int, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random indices of the rows to keep and of those to hold out, both rising.

    round(`fraction` · n_rows) rows are held out, from each class alike; shares that are not whole go to the classes
    with the largest remainders, and each class keeps a row.

    Parameters
    ----------
    labels : ndarray (N,) or None
        Classes; None divides all rows as one class.
    n_rows : int
        N.
    fraction : float
        In [0, 1].
    rng : numpy.random.Generator

    Returns
    -------
    kept, held_out : ndarray of int64
    """
    groups = [np.arange(n_rows)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.array([fraction * len(group) for group in groups])
    counts = np.floor(shares).astype(np.int64)
    missing = round(fraction * n_rows) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    counts = np.minimum(counts, [len(group) - 1 for group in groups])
    chosen = np.zeros(n_rows, bool)
    for group, count in zip(groups, counts, strict=True):
        chosen[rng.permutation(group)[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


class Dataset:
    """Rows, targets and weights that a training or an evaluation is given, checked once.

    Parameters
    ----------
    net : Network
    X, y, sample_weight
        As for :meth:`fastnn.Sequential.fit`.
    class_weight : dict, "balanced" or None
        As :func:`check_class_weight` returns it.
    classes : ndarray (K,) of str, optional
        Names of the classes that the network is about to learn; None is its own.

    Attributes
    ----------
    X : ndarray or SparseRows (N, D)
    y : ndarray
    weight : ndarray (N,) or None
        Σ of classes and rows: with `class_weight`.
    names : tuple of str or None
        Of X's columns.
    classes : ndarray (K,) of str, or None
    rows : ndarray of int64 or None
        Those to train on, where they are not all.
    shared : bool
        X has rows of others, too: the training has the bits of one on ``X[rows]`` alone.
    validation : Dataset or None

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    """

    def __init__(
        self,
        net: Network,
        X: Data,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None = None,
        class_weight: CodeWeights | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        if y is None:
            raise TypeError("y: expected targets, got None")
        self.net, self.names, self.classes = net, column_names(X), classes
        self.X, self.y, self._row_weight = net.check_data(X, y, sample_weight, classes)
        self.weight = self._row_weight
        if class_weight is not None:
            self.weight = class_weights(net, self.y, class_weight, self._row_weight)
            if self.weight is not None and not self.weight.any():
                raise ValueError("class_weight: expected a positive sum over the rows, got zeros only")
        self.rows: np.ndarray | None = None
        self.shared = False
        self.validation: Dataset | None = None

    @classmethod
    def of_checked(
        cls,
        net: Network,
        X: Rows,
        y: np.ndarray,
        weight: np.ndarray | None,
        names: tuple[str, ...] | None,
        classes: np.ndarray | None = None,
    ) -> Dataset:
        """A data set of what ``net.check_data`` has returned, for this network or one like it: nothing is copied."""
        self = cls.__new__(cls)
        self.net, self.names, self.classes, self.X, self.y = net, names, classes, X, y
        self.weight = self._row_weight = weight
        self.rows = self.validation = None
        self.shared = False
        return self

    @property
    def n_rows(self) -> int:
        """Rows to train on."""
        return len(self.X) if self.rows is None else len(self.rows)

    def name_network(self) -> None:
        """Give the network the names of the columns and of the classes, unless it knows some already."""
        self.net.feature_names = self.net.feature_names or self.names
        if self.net.classes_ is None:
            self.net.classes_ = self.classes

    def training_part(self) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        """X, y and weights of the rows to train on."""
        if self.rows is None:
            return self.X, self.y, self.weight
        return self.X[self.rows], self.y[self.rows], None if self.weight is None else self.weight[self.rows]

    def some_rows(self, count: int) -> Rows:
        """About so many of the rows to train on, evenly spread; all where they are fewer."""
        step = max(1, self.n_rows // count)
        return self.X[::step] if self.rows is None else self.X[self.rows[::step]]

    def parts(self) -> Iterator[tuple[Rows, np.ndarray | None]]:
        """The rows to train on, for ``net.begin_training``: a block at a time, where they are not all."""
        if self.rows is None:
            yield self.X, self.weight
            return
        for start in range(0, len(self.rows), MOMENTS_BLOCK):
            rows = self.rows[start : start + MOMENTS_BLOCK]
            yield self.X[rows], None if self.weight is None else self.weight[rows]

    def drop_rows_that_do_not_count(self) -> None:
        """Leave out the rows of weight 0 where batch norm would count them in its statistics.

        Elsewhere they are gone over: whether they are there or not makes the batches others, but no wrong ones.
        """
        if self.net.needs_batches and self.weight is not None and not self.weight.all():
            counts = np.flatnonzero(self.weight > 0.0)
            self.rows = counts if self.rows is None else self.rows[self.weight[self.rows] > 0.0]

    def hold_out(self, fraction: float, rng: np.random.Generator) -> None:
        """Hold out a share of the rows for validation, with their own weights: classes are weighted in training alone.

        Raises
        ------
        ValueError
            If one of the parts has no rows, or weights of 0 alone.
        """
        n_rows = len(self.X)
        self.rows, held_out = stratified_split(class_labels(self.net, self.y), n_rows, fraction, rng)
        if not len(held_out):
            raise ValueError(f"validation_split: {fraction:g} of {n_rows} rows leaves none to validate on")
        weight = None if self._row_weight is None else self._row_weight[held_out]
        trained = self.weight is None or self.weight[self.rows].any()
        if not trained or not (weight is None or weight.any()):
            raise ValueError("sample_weight: expected a positive sum in both parts of validation_split")
        part = copy.copy(self)
        part.X, part.y, part.weight, part.rows = self.X[held_out], self.y[held_out], weight, None
        self.validation = part

    def evaluate(self, threads: int | None, metrics: tuple[Metric, ...] = ()) -> dict[str, float]:
        """What ``net.evaluate`` gives on all rows."""
        return self.net.evaluate_checked(self.X, self.y, self.weight, threads, metrics)

    def training_rows(self) -> Dataset:
        """The rows to train on as data to evaluate: copies of them where they are not all, without class weights."""
        part = copy.copy(self)
        part.weight, part.rows, part.validation = self._row_weight, None, None
        if self.rows is not None:
            part.X, part.y = self.X[self.rows], self.y[self.rows]
            part.weight = None if self._row_weight is None else self._row_weight[self.rows]
        return part


class Scoring:
    """What is evaluated after each epoch, and the names of its series.

    Parameters
    ----------
    net : Network
    data : Dataset or Stream
        With its validation rows, unless `validated` says that some are still to be held out.
    options : TrainingOptions
    validated : bool
        Whether there are, or will be, validation rows.

    Attributes
    ----------
    train, validation : tuple of str
        Names of the series, those of validation with ``val_``.

    Raises
    ------
    ValueError, TypeError
        If `metrics` or `train_metrics` do not fit.
    """

    def __init__(self, net: Network, data: Dataset | Stream, options: TrainingOptions, validated: bool) -> None:
        loss = net.loss_function
        given = check_metrics(options.metrics, loss, RESERVED)
        if options.train_metrics and not given:
            raise ValueError("train_metrics=True needs metrics, got metrics=None")
        if options.train_metrics and isinstance(data, Stream):
            raise ValueError("train_metrics=True needs arrays, X gives batches")
        if given and not (validated or options.train_metrics):
            raise ValueError("metrics: needs validation_data, validation_split, or train_metrics=True")
        self._data, self._on_training = data, given if options.train_metrics else ()
        self._on_validation = monitored(options.monitors(), loss, given) if validated else ()
        self._rows: Dataset | None = None
        self.train = tuple(metric.name for metric in self._on_training)
        names = (*default_names(loss), *(metric.name for metric in self._on_validation)) if validated else ()
        self.validation = tuple("val_" + name for name in names)

    @property
    def only_usual(self) -> bool:
        """Whether no metrics are asked for beside those of every evaluation."""
        return not (self._on_training or self._on_validation)

    def scores(self, threads: int | None) -> tuple[dict[str, float], dict[str, float]]:
        """The metrics on the training rows, and all scores of the validation rows."""
        train: dict[str, float] = {}
        if self._on_training and isinstance(self._data, Dataset):
            self._rows = self._rows or self._data.training_rows()
            found = self._rows.evaluate(threads, self._on_training)
            train = {name: found[name] for name in self.train}
        validation = self._data.validation
        if validation is None:
            return train, {}
        return train, {
            f"val_{name}": value for name, value in validation.evaluate(threads, self._on_validation).items()
        }


class Stream:
    """Batches from an iterator, an iterable, or a function that returns one: data larger than memory.

    Parameters
    ----------
    net : Network
    source : iterable or callable
        Gives (X, y) or (X, y, sample_weight); each is one batch. A function, or an iterable that is not an iterator,
        is started anew for each epoch; with `steps` only when it has ended.
    class_weight : dict, optional
    steps : int, optional
        Batches of an epoch: each takes the next ones. None is all.
    classes : ndarray (K,) of str, optional
        Names of the classes that the network is about to learn. None: it learns them of the first batch.

    Attributes
    ----------
    once : bool
        Whether the source can be gone over once only.
    length : int
        Batches of an epoch, where they are known; else 0.
    validation : Dataset or None
    """

    def __init__(
        self,
        net: Network,
        source: Any,
        class_weight: CodeWeights | None,
        steps: int | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        if isinstance(class_weight, str):
            raise ValueError('class_weight: "balanced" needs all labels at once, not an iterator; give a dict')
        self._net, self._source, self._class_weight = net, source, class_weight
        self.steps, self.classes = steps, classes
        self.validation: Dataset | None = None
        self.once = isinstance(source, Iterator)
        self.length = steps or (len(source) if hasattr(source, "__len__") else 0)
        self.last: Rows | None = None  # those of the batch that was given last
        self._held: list[Any] = []  # batches of an iterator that were read before training
        self._open: Iterator[Any] | None = None  # with `steps`: where the next epoch goes on

    @staticmethod
    def fits(X: object, y: object) -> bool:
        """Whether X is a source of batches rather than an array."""
        if y is not None or hasattr(X, "__array__") or hasattr(X, "tocsr"):
            return False
        if isinstance(X, (list, tuple)):  # of batches, or of numbers?
            return bool(X) and all(isinstance(item, tuple) and len(item) in (2, 3) for item in X)
        return isinstance(X, (Iterable, Callable)) and not isinstance(X, (str, bytes, Mapping))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        """Checked batches of one epoch."""
        if self.steps is None:
            batches = self._start()
        else:
            self._open = self._open or self._start()
            batches = itertools.islice(self._going_on(), self.steps)
        number = 0
        for number, item in enumerate(batches, start=1):
            batch = self._checked(item, number)
            self.last = batch[0]
            yield batch
        if number == 0:
            raise ValueError("X: expected at least one batch from the iterator, got none")

    def parts(self) -> Iterator[tuple[Rows, np.ndarray | None]]:
        """What ``net.begin_training`` may learn from: an epoch of batches, or the first one of an iterator."""
        batches = self._start()
        for number in itertools.count(1) if self.steps is None or self.once else range(1, self.steps + 1):
            try:
                item = next(batches)
            except StopIteration:
                break
            if self.once:
                self._held.append(item)
            X, _, weight = self._checked(item, number)
            yield X, weight
            if self.once and (weight is None or weight.any()):
                break

    def _start(self) -> Iterator[Any]:
        """The source from its beginning."""
        if self.once:
            held, self._held = self._held, []
            return itertools.chain(held, self._source)
        source = self._source() if callable(self._source) else self._source
        if not isinstance(source, Iterable):
            raise TypeError(f"X: expected a function that returns an iterator of batches, it returned {source!r}")
        return iter(source)

    def _going_on(self) -> Iterator[Any]:
        """Batches without end, from where the last epoch has ended; where the source ends, it is started anew."""
        fruitless = False
        while self._open is not None:
            for item in self._open:
                fruitless = False
                yield item
            if self.once:
                raise ValueError(
                    f"X: the iterator ended within an epoch of steps_per_epoch={self.steps} batches; give fewer "
                    "epochs, or a function that returns a new iterator"
                )
            self._open = None if fruitless else self._start()
            fruitless = True

    def _checked(self, item: Any, number: int) -> Batch:
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            kind = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else repr(type(item))
            raise TypeError(f"X: expected batches (X, y) or (X, y, sample_weight), got {kind} as batch {number}")
        net = self._net
        try:
            X = net.check_rows(item[0])
            if len(X) == 0:
                raise ValueError(f"X: expected at least one row, got shape {X.shape}")
            classes = net.new_classes(item[1]) if self.classes is None else self.classes
            y = net.check_targets(item[1], len(X), classes)
            w = check_sample_weight(item[2] if len(item) == 3 else None, len(X), net.dtype, zeros=True)
            w = class_weights(net, y, self._class_weight, w)
        except (TypeError, ValueError) as error:
            raise type(error)(f"batch {number}: {error}") from error
        net.feature_names = net.feature_names or column_names(item[0])
        if net.classes_ is None:
            net.classes_ = classes
        if w is not None and net.needs_batches and w.any():  # rows of weight 0 do not count in statistics
            X, y, w = rows_that_count(X, y, w)
        return X, y, w


def hold_out(data: Dataset | Stream, options: TrainingOptions, generator: np.random.Generator) -> Any:
    """Hold out the rows of `validation_split`; returns the state of the generator that they were drawn at, or None.

    They are the same in every training of a network, unless a seed is given: rows that a training before has seen
    would not validate anything.
    """
    if not options.validation_split:
        return None
    assert isinstance(data, Dataset)
    net, start = data.net, None
    if options.resume and net.training_state is not None:
        start = net.training_state.start
    elif options.seed is None:
        start = net.split_start or (None if net.training_state is None else net.training_state.start)
    if start is None:
        start = generator.bit_generator.state
        try:
            data.hold_out(options.validation_split, generator)
        except BaseException:
            generator.bit_generator.state = start
            raise
    else:
        bits = getattr(np.random, start["bit_generator"])(0)
        bits.state = start
        data.hold_out(options.validation_split, np.random.Generator(bits))
    net.split_start = start
    return start


def training_data(net: Network, X: Any, y: ArrayLike | None, options: TrainingOptions) -> Dataset | Stream:
    """What a training is given, checked, with its validation data; rows are not yet held out.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    """
    if options.validation_data is not None and options.validation_split:
        raise ValueError("validation_data and validation_split cannot both be given")
    classes = net.new_classes(y)
    validation = None if options.validation_data is None else _validation_data(net, options.validation_data, classes)
    if validation is not None:
        classes = validation.classes
    class_weight = check_class_weight(net, options.class_weight, classes)
    data: Dataset | Stream
    if Stream.fits(X, y):
        data = Stream(net, X, class_weight, options.steps_per_epoch, classes)
        if options.sample_weight is not None:
            raise ValueError("sample_weight: with an iterator, give batches (X, y, sample_weight)")
        if options.validation_split:
            raise ValueError("validation_split needs arrays, X is an iterator; use validation_data")
    else:
        if options.steps_per_epoch is not None:
            raise ValueError("steps_per_epoch is for batches from an iterator, X is an array; use batch_size")
        data = Dataset(net, X, y, options.sample_weight, class_weight, classes)
        if validation is not None and validation.names and data.names and validation.names != data.names:
            raise ValueError(
                f"validation_data: expected the columns of X, {printable(', '.join(data.names)):.200}, got "
                f"{printable(', '.join(validation.names)):.200}"
            )
    data.validation = validation
    return data


def _validation_data(net: Network, data: Any, classes: np.ndarray | None) -> Dataset:
    """Checked rows of validation, which tell the names of classes where nothing else has, as with batches."""
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        kind = f"{type(data).__name__} of {len(data)}" if isinstance(data, (tuple, list)) else type(data).__name__
        raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {kind}")
    X, y, weight = (*data, None)[:3]
    try:
        return Dataset(net, X, y, weight, classes=net.new_classes(y) if classes is None else classes)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error
