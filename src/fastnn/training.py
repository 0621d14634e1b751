"""Training over epochs: the generator that does it, what it yields, and what it keeps."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import optimizers
from ._core.threads import blas_threads
from ._typing import Rows
from .callbacks import check_callbacks, check_monitor, rises
from .checks import check_integer, check_number, check_seed, check_threads
from .kfac import Factors
from .network import Network
from .plan import TrainResult
from .rows import Stream, check_class_weight, class_weights, split_rows
from .schedules import Clock, Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DivergenceError", "EpochResult", "History", "Trainer", "TrainingState", "fit", "partial_fit"]

# Epochs of a small network are trained in blocks, one call of the engine for several epochs: the calls should be long
# beside their overhead, and short enough that a progress line or a divergence does not wait.
BLOCK_SECONDS = 0.05
BLOCK_BYTES = 10_000_000


class DivergenceError(ArithmeticError):
    """The loss or the parameters stopped being finite; the network has the parameters of the last good epoch."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch of training. ``result["val_loss"]`` gives any of its numbers by the name of its series.

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
        Of the epoch's last batch.
    seconds : float
        Time of the epoch; epochs that were trained in one block share its time equally.
    validation : dict of float
        What ``net.evaluate`` gives on the validation data after the epoch, with ``val_`` before each name; empty
        without such data.
    steps : int
        Updates done since training began.
    net : Sequential
        The network, as the epoch has left it.
    history : History
        All epochs so far, with this one.
    solver : dict of float
        Of an iteration of a full-batch solver: ``gradient_norm``, ``step`` and ``damping``; its `accuracy` is None and
        its `learning_rate` NaN.
    """

    epoch: int
    loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float
    validation: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    net: Network | None = field(default=None, repr=False, compare=False)
    history: History | None = field(default=None, repr=False, compare=False)
    _training: TrainingState | None = field(default=None, repr=False, compare=False)
    solver: Mapping[str, float] = field(default_factory=dict)

    def stop(self) -> None:
        """Let this epoch be the last one."""
        if self._training is not None:
            self._training.stopped = True

    @property
    def stopped(self) -> bool:
        """Whether someone has called :meth:`stop`."""
        return self._training is not None and self._training.stopped

    def __getitem__(self, name: str) -> Any:
        for further in (self.validation, self.solver):
            if name in further:
                return further[name]
        if name in SERIES:
            return getattr(self, name)
        raise KeyError(f"no record {name!r}; there are {', '.join((*SERIES, *self.validation, *self.solver))}")


SERIES = ("epoch", "loss", "accuracy", "learning_rate", "seconds")


class History:
    """Record of a training run, one entry per epoch.

    ``history["loss"]`` is a list, :meth:`keys` has the names: ``epoch``, ``loss``, ``accuracy`` (classifiers only),
    with validation data ``val_loss`` and the other results of ``net.evaluate``, ``learning_rate``, ``seconds``.
    ``len(history)`` is the number of epochs. A full-batch solver has one entry per iteration, with ``gradient_norm``,
    ``step`` and ``damping`` in the place of the accuracy and the learning rate.

    Attributes
    ----------
    result : SolverResult or None
        Of a full-batch solver: why it stopped, and how often it evaluated what.
    """

    result: Any = None

    def __init__(self, keys: tuple[str, ...] = SERIES) -> None:
        self._columns: dict[str, list[Any]] = {key: [] for key in keys}

    def append(self, *results: EpochResult) -> None:
        """Add epochs; without validation, ``val_`` series get NaN."""
        for key, column in self._columns.items():
            if key in SERIES:
                column += [getattr(result, key) for result in results]
            elif key.startswith("val_"):
                column += [result.validation.get(key, math.nan) for result in results]
            else:
                column += [result[key] for result in results]

    def _truncate(self, n: int) -> None:
        """Keep the first n entries."""
        for column in self._columns.values():
            del column[n:]

    def keys(self) -> tuple[str, ...]:
        """Names of what was recorded."""
        return tuple(self._columns)

    def to_dict(self) -> dict[str, list[Any]]:
        """The record as a dict of new lists, for instance for ``pandas.DataFrame``."""
        return {key: list(column) for key, column in self._columns.items()}

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Figure:
        """Draw the curves with matplotlib; see :func:`fastnn.plotting.plot_history`.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        **options
            `ax` and `title`, as for ``plot_history``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If there are no epochs.
        ImportError
            If matplotlib is not installed.
        """
        from .plotting import plot_history

        return plot_history(self, path, **options)

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
        names = [name for name in self._columns if name.endswith(("loss", "accuracy"))]
        last = [f"{key}={self._columns[key][-1]:.6g}" for key in names]
        return f"History({len(self)} epochs, last {', '.join(last)})"


@dataclass
class TrainingState:
    """What a training run remembers between epochs, beside the network's parameters and state.

    It belongs to the network after the run, so that `partial_fit` and ``fit(resume=True)`` go on from it, and is what
    ``net.save(path, training_state=True)`` adds to the file.

    Attributes
    ----------
    optimizer : Optimizer
    options : dict
        Arguments that a resumed run must share.
    generator : numpy.random.Generator
        Of the shuffling; `own` says that it is not the network's.
    slots : ndarray (n_moments, P)
        The optimizer's state vectors.
    factors : ndarray or None
        Those of K-FAC.
    history : History
    epoch, steps, batches : int
        Finished epochs, updates done, batches gone over.
    plateau : dict or None
        Memory of a schedule that listens.
    start : dict or None
        State of the generator before the validation rows were drawn.
    stopped : bool
        Whether a callback has stopped the run.
    callbacks : list
        Those of the run.
    callback_states : list of (name, dict)
        Of the callbacks that have a state, of a run that was loaded from a file.
    theta, state : ndarray or None
        Parameters and state of the network at the end of the last finished epoch, where the network no longer has them.
    """

    optimizer: optimizers.Optimizer
    options: dict[str, Any]
    generator: np.random.Generator
    own: bool
    slots: np.ndarray
    history: History
    epoch: int = 0
    steps: int = 0
    batches: int = 0
    plateau: dict[str, Any] | None = None
    start: dict[str, Any] | None = None
    stopped: bool = False
    callbacks: list[Any] = field(default_factory=list)
    callback_states: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    theta: np.ndarray | None = None
    state: np.ndarray | None = None
    factors: np.ndarray | None = None

    def states_of_callbacks(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and state of each callback that has one."""
        if not self.callbacks:
            return self.callback_states
        return [(type(c).__name__, c.get_state()) for c in self.callbacks if hasattr(c, "get_state")]

    def __getstate__(self) -> dict[str, Any]:
        # A user's functions need not be something that can be copied; their states are.
        return {**self.__dict__, "callbacks": [], "callback_states": self.states_of_callbacks()}


class _Sums:
    """An epoch's loss and share of correct rows from those of its parts."""

    def __init__(self, classifies: bool) -> None:
        self.classifies = classifies
        self.loss = self.hits = self.penalty = self.total = 0.0

    def add(self, part: TrainResult, weight: float) -> None:
        self.loss += weight * part.losses[0]
        self.hits += weight * (part.correct[0] if part.correct is not None else 0.0)
        self.penalty += weight * part.penalties[0]
        self.total += weight

    def result(self, steps: int) -> TrainResult:
        mean = 1.0 / self.total if self.total else 0.0
        correct = (self.hits * mean,) if self.classifies else None
        return TrainResult((self.loss * mean,), correct, steps, "ok", None, (self.penalty * mean,))


@contextmanager
def _unless_refused(generator: np.random.Generator) -> Iterator[None]:
    """Put the generator back if what follows raises."""
    before = generator.bit_generator.state
    try:
        yield
    except BaseException:
        generator.bit_generator.state = before
        raise


class Trainer:
    """A training run of a network, epoch by epoch.

    The arguments are those of :meth:`fastnn.Sequential.fit`; all are checked here, before anything changes. The
    optimizer's state belongs to the trainer: several calls of :meth:`epochs` continue one run.

    Parameters
    ----------
    net : Sequential
    X, y : array_like
        Or X an iterator of batches, without y.
    optimizer : Optimizer or str, default="adam"
    batch_size : int or None, default=64
    shuffle : bool, default=True
    sample_weight : array_like (N,), optional
    class_weight : dict or "balanced", optional
    validation_data : tuple, optional
    validation_split : float, default=0.0
    l1, l2 : float, default=0.0
    clip_norm, clip_value : float, optional
    threads : int, optional
    deterministic : bool, default=False
    seed : int, numpy.random.Generator or None, default=None
    resume : bool, default=False

    Attributes
    ----------
    history : History
        One entry for each epoch that was yielded.

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
        net: Network,
        X: Any,
        y: Any = None,
        *,
        optimizer: optimizers.Optimizer | str = "adam",
        batch_size: int | None = 64,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
        resume: bool = False,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        self.net = net
        self.optimizer = optimizers.get(optimizer)
        self._rule = self.optimizer.update_rule()
        given = self.optimizer.learning_rate
        self._schedule = given if isinstance(given, Schedule) else None
        self._batch_size = None if batch_size is None else check_integer("batch_size", batch_size)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle must be True or False, got {shuffle!r}")
        self._shuffle = bool(shuffle)
        self._l1 = check_number("l1", l1, minimum=0.0)
        self._l2 = check_number("l2", l2, minimum=0.0)
        self._clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, above=0.0)
        self._clip_value = None if clip_value is None else check_number("clip_value", clip_value, above=0.0)
        # One number for the whole run: the same number of threads gives the same bits.
        self._threads = check_threads(threads) or blas_threads()
        if not isinstance(deterministic, (bool, np.bool_)):
            raise TypeError(f"deterministic must be True or False, got {deterministic!r}")
        self._deterministic = bool(deterministic)
        split = check_number("validation_split", validation_split, minimum=0.0, below=1.0)
        if not isinstance(resume, (bool, np.bool_)):
            raise TypeError(f"resume must be True or False, got {resume!r}")
        per_class = check_class_weight(net, class_weight)
        previous: TrainingState | None = net.training_state if resume else None
        generator = previous.generator if previous else net.generator if seed is None else check_seed(seed)
        options = {
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "l1": self._l1,
            "l2": self._l2,
            "clip_norm": self._clip_norm,
            "clip_value": self._clip_value,
            "validation_split": split,
            "deterministic": self._deterministic,
        }
        self._stream = Stream(net, X, per_class) if Stream.fits(X, y) else None
        self._rows: np.ndarray | None = None  # those to train on, where they are not all
        self._n_rows = 0
        if validation_data is not None and split:
            raise ValueError("validation_data and validation_split cannot both be given")
        self._validation: tuple[Rows, np.ndarray, np.ndarray | None] | None
        self._validation = None if validation_data is None else self._check_validation(validation_data)
        if self._stream is not None:
            if sample_weight is not None:
                raise ValueError("sample_weight: with an iterator, give batches (X, y, sample_weight)")
            if split:
                raise ValueError("validation_split needs arrays, X is an iterator; use validation_data")
        else:
            if y is None:
                raise TypeError("y: expected targets, got None")
            self._X, self._y, unclassed = net.check_data(X, y, sample_weight)
            self._w = unclassed
            if per_class is not None:
                self._w = class_weights(net, self._y, per_class, self._w)
                if self._w is not None and not self._w.any():
                    raise ValueError("class_weight: expected a positive sum over the rows, got zeros only")
            options["n_rows"] = len(self._X)
        series = [key for key in SERIES if key != "accuracy" or net.loss_function.classifies]
        if self._validation is not None or split:
            series[-2:-2] = ["val_" + key for key in net.score_names()]
        plateau = self._schedule.plateau if self._schedule is not None else None
        self._monitor = None if plateau is None else check_monitor(plateau.monitor, tuple(series))
        if previous is not None:
            self._check_resumed(previous, options, series)
        start: Any = None
        if split:
            with _unless_refused(generator):
                start = generator.bit_generator.state
                if previous is not None and previous.start is not None:
                    generator.bit_generator.state = previous.start
                try:
                    self._rows, held_out = split_rows(net, self._y, split, generator)
                    trained = self._w is None or self._w[self._rows].any()
                    if not trained or not (unclassed is None or unclassed[held_out].any()):
                        raise ValueError("sample_weight: expected a positive sum in both parts of validation_split")
                finally:
                    if previous is not None:
                        generator.bit_generator.state = start
            w = None if unclassed is None else unclassed[held_out]  # classes are weighted in training alone
            self._validation = self._X[held_out], self._y[held_out], w
        if self._stream is None:
            self._n_rows = len(self._X) if self._rows is None else len(self._rows)
            self._batch_size = self._n_rows if self._batch_size is None else min(self._batch_size, self._n_rows)
            if net.needs_batches and self._n_rows % self._batch_size == 1 % self._batch_size:
                raise ValueError(
                    f"batch_size: expected batches of at least 2 rows for batch norm, but {self._n_rows} rows in "
                    f"batches of {self._batch_size} leave one of 1 row"
                )
        self._factors: Factors | None = None
        if isinstance(self.optimizer, optimizers.KFAC):
            self._factors = Factors(net, self.optimizer, self._l2, self._threads)
        self._seconds = float("inf")  # of an epoch, as last measured
        if previous is not None:
            self.state = previous
            return
        self.state = TrainingState(
            optimizer=self.optimizer,
            options=options,
            generator=generator,
            own=seed is not None,
            slots=np.zeros((self._rule.n_moments, net.n_parameters), net.dtype),
            history=History(tuple(series)),
            plateau=None if plateau is None else plateau.start(),
            start=start,
            factors=None if self._factors is None else self._factors.start(),
        )

    def _check_validation(self, data: Any) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            kind = f"{type(data).__name__} of {len(data)}" if isinstance(data, (tuple, list)) else type(data).__name__
            raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {kind}")
        try:
            return self.net.check_data(data[0], data[1], data[2] if len(data) == 3 else None)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from error

    def _check_resumed(self, previous: TrainingState, options: dict[str, Any], series: list[str]) -> None:
        """Refuse to go on with other arguments than those that the training began with."""
        expected = {"optimizer": previous.optimizer, **previous.options, "series": list(previous.history.keys())}
        got = {"optimizer": self.optimizer, **options, "series": series}
        for name in sorted(expected.keys() | got.keys()):
            if expected.get(name) != got.get(name):
                raise ValueError(
                    f"resume: expected {name}={expected.get(name)!r} as in the training to be resumed, "
                    f"got {got.get(name)!r}"
                )

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return self.state.steps

    @property
    def history(self) -> History:
        """Record of the epochs that were yielded."""
        return self.state.history

    def epochs(self, n: int, *, block: bool = False) -> Iterator[EpochResult]:
        """Train for `n` more epochs, yielding each one's result; fewer, if :meth:`EpochResult.stop` is called.

        Parameters
        ----------
        n : int
            At least 1.
        block : bool, default=False
            False: the network is at the yielded epoch whenever the generator pauses. True: short epochs are trained
            several at a time, faster, and their results are yielded when the network may be past them already. The
            numbers are the same. With validation data, or a schedule that listens, nothing is blocked.

        Yields
        ------
        EpochResult

        Raises
        ------
        DivergenceError
            If the loss or the parameters stop being finite. The network has the parameters of the end of the last good
            epoch, and the trainer cannot go on usefully without a smaller learning rate.
        ValueError, TypeError
            If a batch of an iterator does not fit.
        """
        n = check_integer("n", n)
        if self._stream is not None and self._stream.once and n > 1:
            raise ValueError(
                f"epochs: an iterator lasts for one epoch, {n} were asked for; give a function that returns a new "
                "iterator, or something that can be iterated over again"
            )
        return self._epochs(n, block)

    def _epochs(self, n: int, block: bool) -> Iterator[EpochResult]:
        state, net = self.state, self.net
        net.training_state = state
        state.stopped = False
        if state.theta is not None and state.state is not None:
            net.theta[...], net.state[...] = state.theta, state.state
            state.theta = state.state = None
        if state.epoch == 0 and state.steps == 0:
            rows = None if self._stream is not None else self._X if self._rows is None else self._X[self._rows]
            net.begin_training(rows, state.generator)
        # Where a batch may be skipped, only single epochs tell how many steps they took.
        skips = self._stream is not None or (self._w is not None and not self._w.all())
        block = block and not (skips or self._factors) and self._validation is None and state.plateau is None
        done = 0
        while done < n and not state.stopped:
            count = 1
            if block:
                limits = BLOCK_SECONDS / max(self._seconds, 1e-9), BLOCK_BYTES / (8 * self._n_rows)
                count = max(1, int(min(n - done, *limits)))
            for result in self._run(count):
                done += 1
                yield result

    def _run(self, count: int) -> Iterator[EpochResult]:
        """Train `count` epochs in one call; when one of them fails, go back and repeat them one at a time.

        The repetition makes where a diverging run ends independent of how its epochs were blocked, which depends on
        the clock.
        """
        net, state = self.net, self.state
        before = net.theta.copy(), net.state.copy(), state.slots.copy(), self._position()
        factors = None if state.factors is None else state.factors.copy()
        counters = len(state.history), state.epoch, state.batches, state.steps
        plateau = None if state.plateau is None else dict(state.plateau)
        scores: dict[str, float] = {}
        records: list[EpochResult] = []
        result: TrainResult | None = None
        start = time.perf_counter()
        try:
            if self._stream is None:
                result, rates, batches = self._pass(count)
            else:
                result, rates, batches = self._pass_stream()
            status = result.status
            if status == "interrupted":
                raise result.error or KeyboardInterrupt
            seconds = (time.perf_counter() - start) / count
            failed = status != "ok" or not np.isfinite(net.theta).all()
            if self._validation is not None and not failed:
                # BLAS, where it makes the products, may round a row's otherwise in other company.
                values = net.evaluate_checked(*self._validation, 1 if self._deterministic else self._threads)
                scores = {f"val_{name}": value for name, value in values.items()}
            if not failed:
                self._seconds = seconds
                records = self._record(result, rates, batches, seconds, scores)
        except BaseException:  # a signal's handler may raise between any two lines
            state.history._truncate(counters[0])
            _, state.epoch, state.batches, state.steps = counters
            state.plateau = plateau
            # The network stays as of the last finished step; the run goes back to the last finished epoch, to resume.
            state.slots[...], state.factors = before[2], factors
            self._go_back(before[3])
            done = 0 if result is None or result.status != "interrupted" else len(result.losses)
            if done:  # of a block: they are known, but not where they ended
                here = net.theta.copy(), net.state.copy()
                net.theta[...], net.state[...] = before[0], before[1]
                yield from self._run(done)
                before = net.theta.copy(), net.state.copy(), *before[2:]
                net.theta[...], net.state[...] = here
            state.theta, state.state = before[0], before[1]
            raise
        if failed:
            net.theta[...], net.state[...] = before[0], before[1]
            state.slots[...] = before[2]
            state.factors = factors
            self._go_back(before[3])
            if count == 1:
                self._diverged(status, rates[0])
            for _ in range(count):
                yield from self._run(1)
            return
        # Recorded as a whole before the first is handed out: whoever stops in between has a run to go on with.
        yield from records

    def _record(
        self,
        result: TrainResult,
        rates: list[float],
        batches: int,
        seconds: float,
        scores: dict[str, float],
    ) -> list[EpochResult]:
        """Count the epochs of one call of the engine, and append them to the history."""
        state, count = self.state, len(result.losses)
        correct = (None,) * count if result.correct is None else result.correct
        records = [
            EpochResult(
                state.epoch + number,
                loss,
                accuracy,
                rate,
                seconds,
                scores,
                result.steps - batches * (count - number),
                self.net,
                state.history,
                state,
            )
            for number, (loss, accuracy, rate) in enumerate(zip(result.losses, correct, rates, strict=True), 1)
        ]
        state.epoch += count
        state.batches += batches * count
        state.steps = result.steps
        state.history.append(*records)
        if state.plateau is not None and self._schedule is not None:
            name = self._monitor or "loss"
            for epoch in records:
                self._schedule.plateau.update(state.plateau, float(epoch[name]), rises(name))
        return records

    def _pass(self, count: int) -> tuple[TrainResult, list[float], int]:
        """Epochs over the arrays: what was done, the epochs' last rates, batches of an epoch."""
        net, state = self.net, self.state
        assert self._batch_size is not None
        batches = -(-self._n_rows // self._batch_size)
        rates = self._rates(count, batches)
        if self._factors is not None:
            rate = self._rule.learning_rate if rates is None else float(rates[-1])
            return self._pass_preconditioned(self._factors, batches, rates), [rate], batches
        result = net.plan.train(
            net.theta,
            state.slots,
            self._X,
            self._y,
            self._order(count),
            self._batch_size,
            self._rule,
            state.steps,
            sample_weight=self._w,
            learning_rates=rates,
            epochs=count,
            **self._options(),
        )
        last = [self._rule.learning_rate] * count if rates is None else rates[batches - 1 :: batches].tolist()
        return result, last, batches

    def _pass_preconditioned(self, factors: Factors, batches: int, rates: np.ndarray | None) -> TrainResult:
        """One epoch of K-FAC over the arrays, as many batches at a time as an estimate of the factors serves."""
        net, state = self.net, self.state
        assert self._batch_size is not None
        assert state.factors is not None
        order, every = self._order(1), self._optimizer_every
        rows = np.arange(self._n_rows) if order is None else order[0]
        sums, steps = _Sums(net.loss_function.classifies), state.steps
        for first in range(0, batches, every):
            part = rows[first * self._batch_size : (first + every) * self._batch_size]
            seen = part[: factors.rows(self._batch_size)]
            w = None if self._w is None else self._w[seen]
            inverses = factors.update(state.factors, self._X[seen], self._y[seen], w, state.generator)
            if inverses is None:
                return TrainResult((), None, steps, "diverged")
            result = net.plan.train(
                net.theta,
                state.slots,
                self._X,
                self._y,
                part[None],
                self._batch_size,
                self._rule,
                steps,
                sample_weight=self._w,
                learning_rates=None if rates is None else rates[first : first + every],
                preconditioner=inverses,
                **self._options(),
            )
            if result.status != "ok":
                return TrainResult((), None, result.steps, result.status, result.error)
            steps = result.steps
            sums.add(result, float(len(part)) if self._w is None else float(self._w[part].sum(dtype=np.float64)))
        return sums.result(steps)

    def _pass_stream(self) -> tuple[TrainResult, list[float], int]:
        """One epoch over the batches of an iterator."""
        net, state, stream = self.net, self.state, self._stream
        assert stream is not None
        steps, number, rate = state.steps, 0, self._rule.learning_rate
        sums = _Sums(net.loss_function.classifies)
        options = self._options()
        for X, y, w in stream:
            if self._schedule is not None:
                part = number / stream.length if number < stream.length else 0.0
                rate = self._rate(Clock(state.batches + number, state.epoch, part, stream.length))
            if net.needs_batches and len(X) == 1:
                raise ValueError("X: expected batches of at least 2 rows for batch norm, got one of 1 row")
            if self._factors is not None and number % self._optimizer_every == 0:
                assert state.factors is not None
                options["preconditioner"] = self._factors.update(state.factors, X, y, w, state.generator)
                if options["preconditioner"] is None:
                    return TrainResult((), None, steps, "diverged"), [rate], number
            result = net.plan.train(
                net.theta,
                state.slots,
                X,
                y,
                None,
                len(X),
                self._rule,
                steps,
                sample_weight=w,
                learning_rates=np.array([rate]),
                **options,
            )
            if result.status != "ok":
                return TrainResult((), None, steps, result.status, result.error), [rate], number
            steps = result.steps
            number += 1
            sums.add(result, float(len(X)) if w is None else float(w.sum(dtype=np.float64)))
        return sums.result(steps), [rate], number

    @property
    def _optimizer_every(self) -> int:
        """Batches between two estimates of K-FAC's factors."""
        assert isinstance(self.optimizer, optimizers.KFAC)
        return self.optimizer.update_every

    def _options(self) -> dict[str, Any]:
        return {
            "l1": self._l1,
            "l2": self._l2,
            "clip_norm": self._clip_norm,
            "clip_value": self._clip_value,
            "threads": self._threads,
            "statistics": self.net.state,
            "deterministic": self._deterministic,
        }

    def _rate(self, clock: Clock) -> float:
        assert self._schedule is not None
        scale = 1.0 if self.state.plateau is None else self.state.plateau["scale"]
        return self._schedule.rate(clock, scale)

    def _rates(self, count: int, batches: int) -> np.ndarray | None:
        """Learning rate of each batch of the next epochs; None where they are all the optimizer's."""
        if self._schedule is None:
            return None
        state = self.state
        rates = np.empty((count, batches))
        for index, row in enumerate(rates):
            clocks = (
                Clock(state.batches + index * batches + batch, state.epoch + index, batch / batches, batches)
                for batch in range(batches if self._schedule.smooth else 1)
            )
            row[...] = [self._rate(clock) for clock in clocks]
        return rates.ravel()

    def _position(self) -> Any:
        """Where the drawing of orders stands."""
        return self.state.generator.bit_generator.state

    def _go_back(self, position: Any) -> None:
        """Let the epochs that failed be drawn again."""
        self.state.generator.bit_generator.state = position

    def _order(self, count: int) -> np.ndarray | None:
        """Row indices of the next epochs, (count, N); None where they are all rows in their order."""
        rows = self._rows
        if not self._shuffle:
            return None if rows is None else np.tile(rows, (count, 1))
        order = np.empty((count, self._n_rows), np.int64)
        for row in order:
            row[...] = np.arange(self._n_rows) if rows is None else rows
            self.net.kernels.shuffle(row, self.state.generator.bit_generator)
        return order

    def _diverged(self, status: str, rate: float) -> None:
        what = "loss" if status == "diverged" else "parameters"
        raise DivergenceError(
            f"training diverged: the {what} stopped being finite in epoch {self.state.epoch + 1} "
            f"(learning_rate={rate:g}); the network has the parameters from before that epoch. "
            "Try a smaller learning_rate, clip_norm=1.0, or standardised inputs and targets"
        )

    def _take_over(self, previous: TrainingState) -> None:
        """Go on with the optimizer's state, the counters and the history of an earlier run on other data."""
        mine, self.state = self.state, previous
        if type(previous.optimizer) is not type(mine.optimizer) or previous.slots.shape != mine.slots.shape:
            previous.slots, previous.factors = mine.slots, mine.factors
            previous.steps = 0
        previous.optimizer, previous.options, previous.start = mine.optimizer, mine.options, mine.start
        previous.generator, previous.own = mine.generator, mine.own
        previous.plateau = None if mine.plateau is None else previous.plateau or mine.plateau
        previous.callbacks, previous.callback_states, previous.stopped = [], [], False
        previous.theta = previous.state = None
        if not set(mine.history.keys()) <= set(previous.history.keys()):
            previous.history = mine.history


def fit(
    net: Network,
    X: Any,
    y: Any = None,
    *,
    epochs: int = 10,
    callbacks: Any = (),
    verbose: int = 0,
    resume: bool = False,
    **options: Any,
) -> History:
    """Train a network; see :meth:`fastnn.Sequential.fit`, which calls this."""
    epochs = check_integer("epochs", epochs)
    verbose = check_integer("verbose", int(verbose) if isinstance(verbose, bool) else verbose, minimum=0)
    callbacks = check_callbacks(callbacks)
    seed = options.get("seed")
    generators = [net.generator, *([seed] if isinstance(seed, np.random.Generator) else [])]
    before = [generator.bit_generator.state for generator in generators]
    try:
        trainer = Trainer(net, X, y, resume=resume, **options)
        state = trainer.state
        left = epochs - state.epoch
        results = trainer.epochs(left, block=not verbose and not callbacks) if left > 0 and not state.stopped else ()
        states = state.states_of_callbacks()
        for callback in callbacks:
            if hasattr(callback, "begin"):
                callback.begin(trainer.history.keys())
        _restore_callbacks(callbacks, states if state.epoch else [])
    except BaseException:
        for generator, saved in zip(generators, before, strict=True):
            generator.bit_generator.state = saved
        raise
    state.callbacks = callbacks
    net.history = trainer.history  # now, so that an interrupted run leaves what it got to
    with Progress(epochs, state.epoch) if verbose else nullcontext() as progress:
        for result in results:
            call_callbacks(callbacks, result)
            if progress is not None:
                progress.show(result)
    end_callbacks(callbacks, net, state)
    return trainer.history


def call_callbacks(callbacks: list[Any], result: EpochResult) -> None:
    """Call each with an epoch; StopIteration lets it be the last one."""
    for callback in callbacks:
        try:
            callback(result)
        except StopIteration:
            result.stop()


def end_callbacks(callbacks: list[Any], net: Network, state: TrainingState) -> None:
    """Tell the callbacks that training has ended. A resumed run goes on from before what they do to the network now."""
    final = None if state.theta is not None else (net.theta.copy(), net.state.copy())
    for late in (False, True):
        for callback in callbacks:
            if bool(getattr(callback, "last", False)) == late and hasattr(callback, "end"):
                callback.end(net)
        if final is not None and not (np.array_equal(final[0], net.theta) and np.array_equal(final[1], net.state)):
            state.theta, state.state = final


def _restore_callbacks(callbacks: list[Any], states: list[tuple[str, dict[str, Any]]]) -> None:
    """Give the callbacks of a resumed run their states."""
    takers = [callback for callback in callbacks if hasattr(callback, "get_state")]
    if not states:
        return
    names = [type(callback).__name__ for callback in takers]
    if names != [name for name, _ in states]:
        expected, got = ", ".join(name for name, _ in states), ", ".join(names) or "none"
        raise ValueError(f"resume: expected the callbacks {expected} as in the training to be resumed, got {got}")
    for callback, (_, state) in zip(takers, states, strict=True):
        callback.set_state(state)


def partial_fit(net: Network, X: Any, y: Any = None, *, optimizer: Any = None, **options: Any) -> History:
    """Train for one more epoch; see :meth:`fastnn.Sequential.partial_fit`, which calls this."""
    previous = net.training_state
    if optimizer is None:
        optimizer = previous.optimizer if previous is not None else "adam"
    trainer = Trainer(net, X, y, optimizer=optimizer, **options)
    if previous is not None:
        trainer._take_over(previous)
    for _ in trainer.epochs(1):
        pass
    net.history = trainer.history
    return trainer.history


class Progress(AbstractContextManager["Progress"]):
    """A tqdm bar where tqdm is installed, else one line per epoch on stderr."""

    def __init__(self, epochs: int, done: int = 0, unit: str = "epoch") -> None:
        self._epochs, self._unit = epochs, unit
        self._bar: Any = None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=epochs, initial=min(done, epochs), unit=unit)

    def show(self, result: EpochResult) -> None:
        values = {"loss": f"{result.loss:.4g}"}
        if result.accuracy is not None:
            values["accuracy"] = f"{result.accuracy:.4f}"
        if "gradient_norm" in result.solver:
            values["gradient"] = f"{result['gradient_norm']:.3g}"
        for name in ("val_loss", "val_accuracy", "val_r2"):
            if name in result.validation:
                values[name] = f"{result[name]:.4f}" if name != "val_loss" else f"{result[name]:.4g}"
        if self._bar is not None:
            self._bar.set_postfix(values, refresh=False)
            self._bar.update()
            return
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        print(f"{self._unit} {result.epoch}/{self._epochs}  {text}  {result.seconds:.3g} s", file=sys.stderr)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
