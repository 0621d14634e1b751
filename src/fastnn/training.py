"""Training over epochs: the generator that does it, what it yields, and what it keeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import optimizers
from .network import Sequential, check_seed, check_threads
from .plan import check_integer, check_number

__all__ = ["DivergenceError", "EpochResult", "History", "Trainer", "fit"]

# Epochs of a small network are trained in blocks, one call of the engine for several epochs: the calls should be long
# beside their overhead, and short enough that a progress line or a divergence does not wait.
BLOCK_SECONDS = 0.05
BLOCK_BYTES = 10_000_000


class DivergenceError(ArithmeticError):
    """The loss or the parameters stopped being finite; the network has the parameters of the last good epoch."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch of training.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    loss : float
        Mean over the epoch's batches of the objective, penalties included, each batch weighted by its Σw, measured
        as training went over it (each with the parameters before its update).
    accuracy : float or None
        Weighted fraction of rows classified correctly, measured likewise; None for regression.
    learning_rate : float
    seconds : float
        Time of the epoch; epochs that were trained in one block share its time equally.
    """

    epoch: int
    loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float


class History:
    """Record of a training run, one entry per epoch.

    ``history["loss"]`` is a list, :meth:`keys` has the names: ``epoch``, ``loss``, ``accuracy`` (classifiers only),
    ``learning_rate``, ``seconds``. ``len(history)`` is the number of epochs.
    """

    def __init__(self, keys: tuple[str, ...] = ("epoch", "loss", "accuracy", "learning_rate", "seconds")) -> None:
        self._columns: dict[str, list[Any]] = {key: [] for key in keys}

    def append(self, result: EpochResult) -> None:
        """Add one epoch."""
        for key, column in self._columns.items():
            column.append(getattr(result, key))

    def keys(self) -> tuple[str, ...]:
        """Names of what was recorded."""
        return tuple(self._columns)

    def to_dict(self) -> dict[str, list[Any]]:
        """The record as a dict of new lists, for instance for ``pandas.DataFrame``."""
        return {key: list(column) for key, column in self._columns.items()}

    def __getitem__(self, key: str) -> list[Any]:
        if key not in self._columns:
            raise KeyError(f"no record {key!r}; there are {', '.join(self._columns)}")
        return self._columns[key]

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns["epoch"])

    def __repr__(self) -> str:
        if not len(self):
            return "History(0 epochs)"
        last = [f"{key}={self._columns[key][-1]:.6g}" for key in ("loss", "accuracy") if key in self._columns]
        return f"History({len(self)} epochs, last {', '.join(last)})"


class Trainer:
    """A training run of a network, epoch by epoch.

    The arguments are those of :meth:`fastnn.Sequential.fit`; all are checked here, before anything changes. The
    optimizer's state belongs to the trainer: several calls of :meth:`epochs` continue one run.

    Parameters
    ----------
    net : Sequential
    X, y : array_like
    optimizer : Optimizer or str, default="adam"
    batch_size : int or None, default=64
    shuffle : bool, default=True
    sample_weight : array_like (N,), optional
    l1, l2 : float, default=0.0
    clip_norm, clip_value : float, optional
    threads : int, optional
    seed : int, numpy.random.Generator or None, default=None

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; nothing has changed then.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.linspace(-1.0, 1.0, 32)[:, None]
    >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(1)], input_size=1, loss="squared_error", seed=0)
    >>> for result in fnn.Trainer(net, X, X[:, 0] ** 2, optimizer=fnn.Adam(0.01), batch_size=8).epochs(100):
    ...     if result.loss < 1e-3:
    ...         break
    """

    def __init__(
        self,
        net: Sequential,
        X: Any,
        y: Any,
        *,
        optimizer: optimizers.Optimizer | str = "adam",
        batch_size: int | None = 64,
        shuffle: bool = True,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(net, Sequential):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        self.net = net
        self.optimizer = optimizers.get(optimizer)
        self._rule = self.optimizer.update_rule()
        self._batch_size = None if batch_size is None else check_integer("batch_size", batch_size)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle must be True or False, got {shuffle!r}")
        self._shuffle = bool(shuffle)
        self._l1 = check_number("l1", l1, minimum=0.0)
        self._l2 = check_number("l2", l2, minimum=0.0)
        self._clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, above=0.0)
        self._clip_value = None if clip_value is None else check_number("clip_value", clip_value, above=0.0)
        self._threads = check_threads(threads)
        self._rng = net._rng if seed is None else check_seed(seed)
        self._X, self._y, self._w = net._check_data(X, y, sample_weight)
        n_rows = len(self._X)
        self._batch_size = n_rows if self._batch_size is None else min(self._batch_size, n_rows)
        self._slots = np.zeros((self._rule.n_slots, net.n_parameters), net.dtype)
        self._steps = 0
        self._epoch = 0
        self._seconds = float("inf")  # of an epoch, as last measured

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return self._steps

    def epochs(self, n: int, *, block: bool = False) -> Iterator[EpochResult]:
        """Train for `n` more epochs, yielding each one's result.

        Parameters
        ----------
        n : int
            At least 1.
        block : bool, default=False
            False: the network is at the yielded epoch whenever the generator pauses. True: short epochs are trained
            several at a time, faster, and their results are yielded when the network may be past them already. The
            numbers are the same.

        Yields
        ------
        EpochResult

        Raises
        ------
        DivergenceError
            If the loss or the parameters stop being finite. The network has the parameters of the end of the last good
            epoch, and the trainer cannot go on usefully without a smaller learning rate.
        """
        return self._epochs(check_integer("n", n), block)

    def _epochs(self, n: int, block: bool) -> Iterator[EpochResult]:
        n_rows = len(self._X)
        done = 0
        while done < n:
            count = 1
            if block:
                limits = BLOCK_SECONDS / max(self._seconds, 1e-9), BLOCK_BYTES / (8 * n_rows)
                count = max(1, int(min(n - done, *limits)))
            for result in self._run(count):
                done += 1
                yield result

    def _run(self, count: int) -> Iterator[EpochResult]:
        """Train `count` epochs in one call; when one of them fails, go back and repeat them one at a time.

        The repetition makes where a diverging run ends independent of how its epochs were blocked, which depends on
        the clock.
        """
        net = self.net
        saved = net.theta.copy(), self._slots.copy() if count > 1 else None, self._rng.bit_generator.state
        start = time.perf_counter()
        result = net._plan.train(
            net.theta,
            self._slots,
            self._X,
            self._y,
            self._order(count),
            self._batch_size,
            self._rule,
            self._steps,
            sample_weight=self._w,
            l1=self._l1,
            l2=self._l2,
            clip_norm=self._clip_norm,
            clip_value=self._clip_value,
            threads=self._threads,
        )
        self._seconds = (time.perf_counter() - start) / count
        if result.status == "interrupted":
            raise KeyboardInterrupt
        if result.status != "ok" or not np.isfinite(net.theta).all():
            theta, slots, generator = saved
            net.theta[...] = theta
            if slots is None:
                self._diverged(result.status)
            self._slots[...] = slots
            self._rng.bit_generator.state = generator
            for _ in range(count):
                yield from self._run(1)
            return
        self._steps = result.steps
        for index, loss in enumerate(result.losses):
            self._epoch += 1
            accuracy = None if result.correct is None else result.correct[index]
            yield EpochResult(self._epoch, loss, accuracy, self._rule.learning_rate, self._seconds)

    def _order(self, count: int) -> np.ndarray | None:
        """Row indices of the next epochs, (count, N)."""
        n_rows = len(self._X)
        if not self._shuffle:
            return None if count == 1 else np.tile(np.arange(n_rows, dtype=np.int64), (count, 1))
        order = np.empty((count, n_rows), np.int64)
        for row in order:
            row[...] = self._rng.permutation(n_rows)
        return order

    def _diverged(self, status: str) -> None:
        what = "loss" if status == "diverged" else "parameters"
        raise DivergenceError(
            f"training diverged: the {what} stopped being finite in epoch {self._epoch + 1} "
            f"(learning_rate={self._rule.learning_rate:g}); the network has the parameters from before that epoch. "
            "Try a smaller learning_rate, clip_norm=1.0, or standardised inputs and targets"
        )


def fit(
    net: Sequential,
    X: Any,
    y: Any,
    *,
    epochs: int = 10,
    class_weight: Any = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    callbacks: Any = (),
    verbose: int = 0,
    **options: Any,
) -> History:
    """Train a network; see :meth:`fastnn.Sequential.fit`, which calls this."""
    later = {
        "class_weight": class_weight is not None,
        "validation_data": validation_data is not None,
        "validation_split": validation_split != 0.0,
        "callbacks": not (isinstance(callbacks, (tuple, list)) and not callbacks),
    }
    for name, given in later.items():
        if given:
            raise NotImplementedError(f"{name} is not available in this version of fastnn")
    epochs = check_integer("epochs", epochs)
    verbose = check_integer("verbose", int(verbose) if isinstance(verbose, bool) else verbose, minimum=0)
    trainer = Trainer(net, X, y, **options)
    keys = ("epoch", "loss", "accuracy", "learning_rate", "seconds")
    history = History(keys if net._loss.classifies else tuple(key for key in keys if key != "accuracy"))
    net.history = history  # now, so that an interrupted run leaves what it got to
    with _Progress(epochs) if verbose else nullcontext() as progress:
        for result in trainer.epochs(epochs, block=not verbose):
            history.append(result)
            if progress is not None:
                progress.show(result)
    return history


class _Progress(AbstractContextManager["_Progress"]):
    """A tqdm bar where tqdm is installed, else one line per epoch on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._bar: Any = None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=epochs, unit="epoch")

    def show(self, result: EpochResult) -> None:
        values = {"loss": f"{result.loss:.4g}"}
        if result.accuracy is not None:
            values["accuracy"] = f"{result.accuracy:.4f}"
        if self._bar is not None:
            self._bar.set_postfix(values, refresh=False)
            self._bar.update()
            return
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        print(f"epoch {result.epoch}/{self._epochs}  {text}  {result.seconds:.3g} s", file=sys.stderr)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
