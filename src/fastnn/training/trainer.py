"""A training run, epoch by epoch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from .._core.threads import blas_threads
from .._typing import ArrayLike, BatchSource, ClassWeight, Data, Seed
from ..augment import Augmentation
from ..checks import check_integer, check_seed
from ..metrics import Metrics, rises
from ..names import explains_arguments
from ..network import Network
from ..optimizers import Optimizer, Solver
from ..plan import TrainResult, UpdateRule
from ..schedules import Schedule, missing_schedule
from .averages import Averages
from .data import Dataset, Scoring, Stream, hold_out, training_data
from .history import DivergenceError, EpochResult, History, check_monitor, norm_figures, norm_series, series_names
from .options import TrainingOptions
from .overflow import overflows
from .passes import (
    USUAL,
    ArrayPass,
    BatchwisePass,
    Conventions,
    Engine,
    LearningRates,
    Pass,
    PassResult,
    PreconditionedPass,
    StreamPass,
)
from .scale import scale_warning
from .second_order import Curvature, curvature_of
from .state import Snapshot, TrainingState

__all__ = ["Trainer"]

# Epochs of a small network are trained in blocks, one call of the engine for several epochs: the calls should be long
# beside their overhead, and short enough that a progress line or a divergence does not wait.
BLOCK_SECONDS = 0.05
BLOCK_BYTES = 10_000_000

#: Of augmentations: a file's JSON holds integers up to it.
MAX_SEED = 2**53


@contextmanager
def restored_if_refused(net: Network, *generators: np.random.Generator) -> Iterator[None]:
    """Put the generators back, the network's among them, and its validation rows, if what follows raises."""
    before = [(generator, generator.bit_generator.state) for generator in (net.generator, *generators)]
    split_start = net.split_start
    try:
        yield
    except BaseException:
        for generator, saved in before:
            generator.bit_generator.state = saved
        net.split_start = split_start
        raise


def restored_if_drawn(
    net: Network, options: TrainingOptions, *generators: np.random.Generator
) -> AbstractContextManager[None]:
    """`restored_if_refused` where validation rows are drawn; nothing else is before a trainer's first step."""
    return restored_if_refused(net, *generators) if options.validation_split else nullcontext()


class Trainer:
    """A training run of a network, epoch by epoch.

    The arguments are those of :meth:`fastnn.Sequential.fit`; all are checked here, before anything changes. The
    optimizer's state belongs to the trainer: several calls of :meth:`epochs` continue one run.

    Parameters
    ----------
    net : Network
    X, y : array_like
        Or X an iterator of batches, without y.
    optimizer : Optimizer or str, default="adam"
    batch_size : int or None, default=64
    steps_per_epoch : int, optional
    shuffle : bool, default=True
    sample_weight : array_like (N,), optional
    class_weight : dict or "balanced", optional
    validation_data : tuple, optional
    validation_split : float, default=0.0
    metrics : str, callable, or list or dict of those, optional
    train_metrics : bool, default=False
    augment : iterable of augmentations, default=()
    l1, l2 : float, default=0.0
    clip_norm, clip_value : float, optional
    ema : float, optional
    threads : int, optional
    deterministic : bool, default=False
    record_norms : bool, default=False
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

    @explains_arguments
    def __init__(
        self,
        net: Network,
        X: Data | BatchSource,
        y: ArrayLike | None = None,
        *,
        optimizer: Optimizer | Solver | str = "adam",
        batch_size: int | None = 64,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        validation_data: tuple[Data, ArrayLike] | tuple[Data, ArrayLike, ArrayLike | None] | None = None,
        validation_split: float = 0.0,
        metrics: Metrics | None = None,
        train_metrics: bool = False,
        augment: Iterable[Augmentation] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
        threads: int | None = None,
        deterministic: bool = False,
        record_norms: bool = False,
        seed: Seed = None,
        resume: bool = False,
    ) -> None:
        options = TrainingOptions(
            optimizer=optimizer,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            train_metrics=train_metrics,
            augment=augment,
            l1=l1,
            l2=l2,
            clip_norm=clip_norm,
            clip_value=clip_value,
            ema=ema,
            threads=threads,
            deterministic=deterministic,
            record_norms=record_norms,
            seed=seed,
            resume=resume,
        )
        self._begin(net, X, y, options, USUAL)

    @classmethod
    def with_options(
        cls,
        net: Network,
        X: Data | BatchSource | Dataset,
        y: ArrayLike | None,
        options: TrainingOptions,
        conventions: Conventions = USUAL,
    ) -> Trainer:
        """A trainer of options that are checked already, which may follow other conventions; for the package itself.

        A Dataset has its validation data, and the weights of classes are in its own.
        """
        self = cls.__new__(cls)
        self._begin(net, X, y, options, conventions)
        return self

    def _begin(
        self,
        net: Network,
        X: Data | BatchSource | Dataset,
        y: ArrayLike | None,
        options: TrainingOptions,
        conventions: Conventions,
    ) -> None:
        """Check the data, and prepare the first epoch."""
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        if isinstance(options.optimizer, Solver):
            name = type(options.optimizer).__name__
            raise TypeError(f"optimizer: {name} is a full-batch solver; use it with net.fit")
        assert isinstance(options.optimizer, Optimizer)
        for index, op in enumerate(net.ops):
            if op.l1 and options.clip_value is not None and options.clip_value < op.l1:
                raise ValueError(
                    f"clip_value: expected at least l1={op.l1!r} of layer {index}, got {options.clip_value!r}: smaller "
                    "gradients move no weight away from 0"
                )
        self.net, self.optimizer = net, options.optimizer
        self._augment = tuple(item.spec(net.input_size, net.input_scale) for item in options.augment)
        given = self.optimizer.learning_rate
        self._schedule = given if isinstance(given, Schedule) else None
        if (unknown := missing_schedule(given)) is not None:
            raise ValueError(
                f"optimizer: the schedule {unknown} is a class of one's own, of which files have the name alone; "
                f"give the optimizer with a {unknown}"
            )
        # One number for the whole run: the same number of threads gives the same bits.
        self._threads = options.threads or blas_threads()
        self._deterministic = options.deterministic
        self._data = X if isinstance(X, Dataset) else training_data(net, X, y, options)
        previous = net.training_state if options.resume else None
        shared = options.to_share()
        if isinstance(self._data, Dataset):
            shared["n_rows"] = self._data.n_rows if self._data.shared else len(self._data.X)
        validated = self._data.validation is not None or options.validation_split
        self._scoring = Scoring(net, self._data, options, bool(validated))
        self._norms = norm_series([name for name, *_ in net.layout]) if options.record_norms else ()
        train = (*self._scoring.train, *self._norms)
        series = series_names(net.loss_function.classifies, train, self._scoring.validation)
        plateau = None if self._schedule is None else self._schedule.plateau
        self._monitor = None if plateau is None else check_monitor(plateau.monitor, series)
        self._rising = plateau is not None and rises(self._monitor or "loss", plateau.mode)
        if previous is not None:
            _check_resumed(previous, self.optimizer, shared, series)
            previous.optimizer = self.optimizer  # a file may not have had the schedule itself
            generator = previous.generator
        else:
            generator = net.generator if options.seed is None else check_seed(options.seed)
        rule = self.optimizer.update_rule()
        with restored_if_drawn(net, options, generator):
            start = hold_out(self._data, options, generator)
            if isinstance(self._data, Dataset):
                self._data.drop_rows_that_do_not_count()
            batch_size = self._check_batch_size(options.batch_size)
            l2, threads = self._l2(options.l2, batch_size, conventions), 1 if self._deterministic else self._threads
            curvature = curvature_of(net, self.optimizer, l2, threads)
            self._choose_pass(options, conventions, rule, batch_size, generator, curvature)
        self._seconds = float("inf")  # of an epoch, as last measured
        self.state = previous or TrainingState(
            optimizer=self.optimizer,
            options=shared,
            generator=generator,
            own=options.seed is not None,
            moments=np.zeros((rule.n_moments, net.n_parameters), net.dtype),
            history=History(series),
            plateau=None if plateau is None else plateau.start(),
            start=start,
            factors=None if curvature is None else curvature.start(),
            averages=None if options.ema is None else Averages.start(net, options.ema),
        )

    def _check_batch_size(self, batch_size: int | None) -> int:
        """Rows of a batch; 0 where an iterator decides."""
        if isinstance(self._data, Stream):
            return 0
        n_rows = self._data.n_rows
        size = n_rows if batch_size is None else min(batch_size, n_rows)
        if self.net.needs_batches and n_rows % size == 1 % size:
            raise ValueError(
                f"batch_size: expected batches of at least 2 rows for batch norm, but {n_rows} rows in batches of "
                f"{size} leave one of 1 row"
            )
        return size

    def _l2(self, l2: float, batch_size: int, conventions: Conventions) -> float:
        """`l2` of a batch of the mean weight."""
        if not conventions.l2_over_weight_sum or isinstance(self._data, Stream):
            return l2
        weight = self._data.training_part()[2]
        mean = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
        return l2 / (batch_size * mean) if mean else l2

    def _choose_pass(
        self,
        options: TrainingOptions,
        conventions: Conventions,
        rule: UpdateRule,
        batch_size: int,
        generator: np.random.Generator,
        curvature: Curvature | None,
    ) -> None:
        """The pass that goes over the data, the order of the rows, and whether epochs can be trained in blocks."""
        net, data = self.net, self._data
        engine = Engine(
            net,
            rule,
            self._augment,
            l1=options.l1,
            l2=options.l2,
            clip_norm=options.clip_norm,
            clip_value=options.clip_value,
            threads=self._threads,
            deterministic=options.deterministic,
            record_norms=options.record_norms,
            l2_over_weight_sum=conventions.l2_over_weight_sum,
            subset=data.rows if isinstance(data, Dataset) and data.shared else None,
        )
        rates = LearningRates(rule, self._schedule, conventions.rate_ahead)
        kernels = net.kernels
        self._pass: Pass
        # Where a batch may be skipped, only single epochs tell how many steps they took.
        if isinstance(data, Stream):
            self._order = conventions.order(0, None, generator, kernels, False)
            self._pass = StreamPass(engine, data, rates, curvature, net.needs_batches)
            self._blocks = False
            return
        self._order = conventions.order(data.n_rows, data.rows, generator, kernels, options.shuffle)
        arguments = engine, data, batch_size, self._order, rates
        epoch_loss = None if conventions.epoch_loss is None else conventions.epoch_loss(data)
        if curvature is not None:
            self._pass = PreconditionedPass(curvature, *arguments, epoch_loss)
        elif epoch_loss is not None and data.weight is not None:
            self._pass = BatchwisePass(*arguments, epoch_loss)
        else:
            self._pass = ArrayPass(*arguments, epoch_loss)
        skips = data.weight is not None and not data.weight.all()
        self._blocks = not (skips or curvature or self._scoring.train) and data.validation is None

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return self.state.steps

    @property
    def history(self) -> History:
        """Record of the epochs that were yielded."""
        return self.state.history

    def warn_of_scale(self) -> None:
        """Warn of a poor fit of targets that are far from the scale of 1."""
        if isinstance(self._data, Dataset) and self.state.epoch:
            text = scale_warning(self.net, *self._data.training_part(), self._threads)
            if text is not None:
                warnings.warn(f"{text}: standardise the targets, (y - y.mean()) / y.std()", UserWarning, stacklevel=5)

    def continue_from(self, previous: TrainingState) -> None:
        """Go on with the optimizer's state, the counters and the history of an earlier run, on these data."""
        previous.take_over(self.state)
        self.state = previous

    def epochs(self, n: int, *, block: bool = False) -> Iterator[EpochResult]:
        """Train for `n` more epochs, yielding each one's result; fewer, if :meth:`EpochResult.stop` is called.

        Parameters
        ----------
        n : int
            At least 1.
        block : bool, default=False
            False: the network is at the yielded epoch whenever the generator pauses. True: short epochs are trained
            several at a time, faster, and their results are yielded when the network may be past them already. The
            numbers are the same. With validation data, or a metric-driven schedule, nothing is blocked.

        Yields
        ------
        EpochResult

        Raises
        ------
        DivergenceError
            If the loss, the parameters, the running statistics or the optimizer's moments stop being finite, as the
            latter do where squares of gradients overflow (above 1.8e19 in float32), or the outputs after the n-th epoch
            are not. The network has the parameters of
            the end of the last good epoch, and the trainer cannot go on usefully without a smaller learning rate.
        ValueError, TypeError
            If a batch of an iterator does not fit.
        """
        n = check_integer("n", n)
        if isinstance(self._data, Stream) and self._data.once and self._data.steps is None and n > 1:
            raise ValueError(
                f"epochs: an iterator lasts for one epoch, {n} were asked for; give a function that returns a new "
                "iterator, something that can be iterated over again, or steps_per_epoch"
            )
        return self._epochs(n, block)

    # A run goes from one finished epoch to a later one, a block of epochs at a time. Whatever happens, what it goes on
    # from is the end of a finished epoch:
    #
    #       ┌─────────── recorded as a whole, handed out ◄─────────────┐
    #       ▼                                                          │ finished
    #   snapshot ──► train a block, validate ──────────────────────────┤
    #       ▲                                                          │ not finite: all goes back
    #       ├─────────── of several epochs: each again, alone ◄────────┼────────► of one epoch: DivergenceError
    #       │                                                          │ interrupted: all goes back ...
    #       └─────────── after k > 0 epochs: these again, then raise ◄─┼────────► ... in its first epoch: raise
    #                                                                  │ an exception: the run goes back, raise
    #
    # So where a diverging run ends does not depend on how its epochs were blocked, which depends on the clock. After an
    # interruption the network has the parameters of its last finished step, `state.theta` those of the last epoch.

    def begin_epochs(self) -> None:
        """Let the network stand where the run goes on from."""
        state, net = self.state, self.net
        state.begin_run(net)
        if state.epoch == 0 and state.steps == 0:
            net.begin_training(self._data.parts(), state.generator)
        if self._augment and state.augment_seed is None:
            state.augment_seed = int(state.generator.integers(MAX_SEED))
        net.training_state = state
        if isinstance(self._data, Dataset):
            self._data.name_network()

    def _epochs(self, n: int, block: bool) -> Iterator[EpochResult]:
        self.begin_epochs()
        state, net, order = self.state, self.net, self._order
        block = block and self._blocks and state.plateau is None
        done = alone = 0  # epochs finished; those of a block that diverged, which are trained one at a time
        interruption: _Interruption | None = None
        while interruption is not None or (done < n and not state.stopped):
            if interruption is not None:
                count = interruption.finished
            else:
                count = self._block_size(n - done) if block and not alone else 1
            state.give_own(net)
            start = Snapshot(net, state, order)
            try:
                passed, seconds = self._timed_pass(count)
                what = self._not_finite(passed.result)
                state.give_averages(net)
                if not what and done + count == n and overflows(net, self._data, self._threads):
                    what = "outputs"
                records = [] if what else self._record(passed, seconds)
            except BaseException as error:  # a signal's handler may raise between any two lines
                state.give_averages(net)
                start.restore_run(state, order)
                state.theta, state.buffers = start.theta, start.buffers
                if not isinstance(error, _Interruption):
                    raise
                if not error.finished:
                    raise error.error from None
                interruption = error
                interruption.remember(net)
                start.restore_network(net)
                continue
            if what:
                start.restore_network(net)
                start.restore_run(state, order)
                state.theta = state.buffers = None
                if count == 1:
                    state.give_averages(net)
                    raise self._divergence(what, passed.rates[0])
                alone = count
                continue
            alone, done = max(0, alone - count), done + count
            # Recorded as a whole before the first is handed out: a run stopped in between can be continued.
            yield from records
            if interruption is not None:
                if state.averages is None:
                    state.theta, state.buffers = net.theta.copy(), net.state.copy()
                interruption.restore(net)
                raise interruption.error

    def _block_size(self, left: int) -> int:
        """Epochs of the next block."""
        assert isinstance(self._data, Dataset)
        limits = BLOCK_SECONDS / max(self._seconds, 1e-9), BLOCK_BYTES / (8 * self._data.n_rows)
        return max(1, int(min(left, *limits)))

    def _timed_pass(self, count: int) -> tuple[PassResult, float]:
        """Train `count` epochs; what they gave, and the seconds of one."""
        start = time.perf_counter()
        passed = self._pass.run(self.state, count)
        result = passed.result
        if result.status == "interrupted":
            raise _Interruption(result.error or KeyboardInterrupt(), len(result.losses))
        return passed, (time.perf_counter() - start) / count

    def _not_finite(self, result: TrainResult) -> str:
        """What is not finite after a pass, or an empty string."""
        all_finite = self.net.kernels.all_finite.unchecked
        if result.status != "ok" or not all(map(math.isfinite, result.losses)):
            return "loss"
        if not all_finite(self.net.theta):
            return "parameters"
        if not all_finite(self.net.state):
            return "statistics of batch norm"
        # a parameter whose mean of squares is infinite would never move again
        return "" if all_finite(self.state.moments) else f"moments of {type(self.optimizer).__name__}"

    def _record(self, passed: PassResult, seconds: float) -> list[EpochResult]:
        """Count the epochs of one pass, and append them to the history."""
        state, result = self.state, passed.result
        # BLAS, where it makes the products, may round a row's outputs differently for other sizes of the chunks.
        metrics, validation = self._scoring.scores(1 if self._deterministic else self._threads)
        self._seconds = seconds
        count = len(result.losses)
        correct = (None,) * count if result.correct is None else result.correct
        norms = [dict(zip(self._norms, norm_figures(epoch), strict=True)) for epoch in result.norms] or [{}] * count
        figures = zip(result.losses, correct, passed.rates, result.penalties, norms, strict=True)
        records = [
            EpochResult(
                state.epoch + number,
                loss,
                accuracy,
                rate,
                seconds,
                validation,
                result.steps - passed.batches * (count - number),
                self.net,
                state.history,
                penalty=penalty,
                metrics={**metrics, **of_norms},
                stop_flag=state.stop_flag,
            )
            for number, (loss, accuracy, rate, penalty, of_norms) in enumerate(figures, 1)
        ]
        state.epoch += count
        state.batches += passed.batches * count
        state.steps = result.steps
        state.history.append(*records)
        if state.plateau is not None and self._schedule is not None:
            name = self._monitor or "loss"
            for epoch in records:
                self._schedule.plateau.update(state.plateau, float(epoch[name]), self._rising)
        return records

    def _divergence(self, what: str, rate: float) -> DivergenceError:
        return DivergenceError(
            f"training diverged: the {what} stopped being finite in epoch {self.state.epoch + 1} "
            f"(learning_rate={rate:g}); the network has the parameters from before that epoch. "
            "Try a smaller learning_rate, clip_norm=1.0, or standardised inputs and targets"
        )


class _Interruption(Exception):
    """A call of the engine was interrupted by `error` after `finished` epochs; theta is the last finished step's."""

    def __init__(self, error: BaseException, finished: int) -> None:
        super().__init__(error)
        self.error, self.finished = error, finished

    def remember(self, net: Network) -> None:
        """Keep the network's parameters and buffers."""
        self._theta, self._buffers = net.theta.copy(), net.state.copy()

    def restore(self, net: Network) -> None:
        """Give them back to the network."""
        net.theta[...], net.state[...] = self._theta, self._buffers


def _check_resumed(
    previous: TrainingState, optimizer: Optimizer, options: dict[str, Any], series: tuple[str, ...]
) -> None:
    """Refuse to go on with other arguments than those that the training began with."""
    expected = {"optimizer": previous.optimizer, **previous.options, "series": list(previous.history.keys())}
    got = {"optimizer": optimizer, **options, "series": list(series)}
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            raise ValueError(
                f"resume: expected {name}={expected.get(name)!r} as in the training to be resumed, "
                f"got {got.get(name)!r}"
            )
