"""A run: one setting trained on one fold, block by block of epochs, with the arithmetic of `fit` alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._core.threads import one_of_several_threads
from ..names import listing
from ..network import Network
from ..training.courses import Course, Pursuit
from ..training.history import DivergenceError, EpochResult, History
from ..training.trainer import Trainer
from .criterion import Criterion
from .data import Fold, SharedData
from .members import FunctionModel, Model, Recipe

__all__ = ["Cancelled", "Mark", "Outcome", "Run", "Task", "Weights"]
__dir__ = listing(__all__)

#: Reasons why a run ended that leave it without a score.
FAILED = ("diverged", "failed", "not started", "not finished")


class Cancelled(Exception):
    """A call of the engine was ended because the sweep is to stop."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Parameters and buffers of a network."""

    theta: np.ndarray
    state: np.ndarray

    @classmethod
    def of(cls, net: Network) -> Weights:
        """Copies of a network's."""
        return cls(net.theta.copy(), net.state.copy())

    def give(self, net: Network) -> None:
        """Copy them into a network."""
        net.theta[...], net.state[...] = self.theta, self.state


@dataclass(eq=False)
class Outcome:
    """The outcome of a setting on a fold.

    Attributes
    ----------
    score : float
        Of the weights that are kept: those of the best epoch with `patience`, else the last ones. NaN: it failed.
    epochs, best_epoch : int
        Epochs trained, and the one of the best score, from 1.
    stopped : str
        Why it ended: "finished", "patience", "halving", "callback", "time limit", "interrupted", "not started",
        "diverged: …" or "failed: …"; in a checkpoint also "not finished".
    seconds : float
    series : dict of ndarray (epochs,)
        Training loss, validation scores and so on by name, among them "score".
    weights, best : Weights or None
        Those that the score is of, and where asked for those of the best epoch.
    estimator : object
        A fitted estimator, where members are estimators.
    """

    score: float = np.nan
    epochs: int = 0
    best_epoch: int = 0
    stopped: str = "not started"
    seconds: float = 0.0
    series: dict[str, np.ndarray] = field(default_factory=dict)
    weights: Weights | None = None
    best: Weights | None = None
    estimator: Any = None

    @property
    def failed(self) -> bool:
        """Whether there is no score."""
        return self.stopped.startswith(FAILED)


@dataclass(frozen=True)
class Mark:
    """The end of a member's training within a run: its number, and its epochs."""

    epochs: int
    member: int


class Watch(Protocol):
    """What a run asks while it trains."""

    def stopping(self) -> bool:
        """Whether to stop after this epoch."""

    def check(self) -> None:
        """Raise Cancelled to stop within an epoch."""

    @property
    def each_epoch(self) -> bool:
        """Whether it must be told of each epoch before the next one begins."""

    def epochs_ended(self, run: Run, count: int) -> bool:
        """Told of `count` more epochs; returns whether the run is to end."""


class Run:
    """One training, of one setting on one fold. Members that differ in `epochs` alone are read off the same run.

    Parameters
    ----------
    number : int
        Its place among the runs.
    recipe : Recipe
        That of the member with the most epochs.
    marks : list of Mark
        By rising epochs.
    fold, fold_number : Fold, int
    model, data, metric
        The sweep's; without a metric nothing is validated.
    patience : int or None
    keep_best : bool
        Whether to keep the weights of the best epoch beside the last.

    Attributes
    ----------
    outcomes : dict of int to Outcome
        By member, once its epochs are trained.
    stopped : str
        Why the run has ended; empty before.
    """

    def __init__(
        self,
        number: int,
        recipe: Recipe,
        marks: list[Mark],
        fold: Fold,
        fold_number: int,
        *,
        model: Model,
        data: SharedData,
        metric: Criterion | None,
        patience: int | None,
        keep_best: bool,
    ) -> None:
        self.number, self.recipe, self.marks, self.fold, self.fold_number = number, recipe, marks, fold, fold_number
        self.model, self.data, self.metric = model, data, metric
        self.patience, self.keep_best = patience, keep_best
        self.outcomes: dict[int, Outcome] = {}
        self.stopped = ""
        self.scores: list[float] = []
        self.best_epoch, self.seconds, self.packed = 0, 0.0, 0
        self.work = 1.0  # of an epoch
        self.kind: Hashable = None  # equal for runs that may train side by side; None: this may not
        self.snapshot: dict[str, Any] | None = None  # of a run that goes on, for a checkpoint
        self.best: Weights | None = None
        self.net: Network | None = None
        self.trainer: Trainer | None = None
        self.course: Course | None = None
        self.pursuit: Pursuit | None = None
        self.settled: Callable[[int], object] | None = None  # told the number of each member that has its outcome
        self.lock = threading.RLock()  # of what the main thread may read: outcomes, scores and whether it is idle
        self.idle = True

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return len(self.scores)

    @property
    def limit(self) -> int:
        """Epochs of the longest member."""
        return self.marks[-1].epochs

    def cost(self, until: int) -> float:
        """Multiplications from here to an epoch, about."""
        return self.work * max(1, until - self.epoch)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The setting."""
        return self.recipe.parameters

    def advance(self, until: int, watch: Watch) -> None:
        """Train up to an epoch, unless the run ends before; what goes wrong is why it ended."""
        with self.at_work(watch):
            if self.recipe.is_whole:
                self._whole()
            else:
                self._train(until, watch)

    @contextmanager
    def at_work(self, watch: Watch) -> Iterator[None]:
        """While a thread works on this run; what goes wrong there is why it ended."""
        began = time.perf_counter()
        with self.lock:
            self.idle = False
        try:
            with one_of_several_threads(watch.check):
                yield
        except Cancelled:
            if self.trainer is not None and self.net is not None:  # to the end of the last finished epoch
                self.trainer.state.begin_run(self.net)
        except DivergenceError as error:
            self.end(f"diverged: {error}")
        except MemoryError as error:
            self.end(f"failed: MemoryError: {error}")
        except Exception as error:  # of the model, the data or the metric: a row with a reason
            self.end(f"failed: {type(error).__name__}: {error}")
        finally:
            with self.lock:
                self.seconds += time.perf_counter() - began
                self.idle, self.snapshot = True, None

    def begin(self) -> None:
        """Make the network and its trainer, or the trainer alone where a saved run has brought its network."""
        resumed = self.net is not None
        net = self.model.build(self.recipe) if self.net is None else self.net
        assert isinstance(net, Network)
        data = self.data.dataset(net, self.fold, self.fold_number, self.recipe.fit.get("class_weight"))
        self.trainer = Trainer.with_options(net, data, None, self.recipe.options(resume=resumed, **self._metrics()))
        self.net = net
        if self.metric is not None and self.metric.name in ("loss", "accuracy") and Course.fits(self.trainer):
            self.course = Course(self.trainer)
            self.pursuit = Pursuit(self.metric.name, self.metric.rises, self.patience, self.keeps_best)
            self.pursuit.waited = self.epoch - self.best_epoch
            if self.best_epoch:
                self.pursuit.score = self.scores[self.best_epoch - 1]

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best epoch are kept."""
        return self.metric is not None and (self.patience is not None or self.keep_best)

    def _train(self, until: int, watch: Watch) -> None:
        if self.trainer is None:
            self.begin()
        assert self.trainer is not None
        while self.epoch < until:
            if self.course is None:
                self._train_by_epoch(until, watch)
                return
            assert self.pursuit is not None
            count = 1 if watch.each_epoch else self.course.block(self.to_next_mark(until))
            scores = self.course.run(count, self.pursuit, self.epoch + count == until)
            if self.take_block(scores, watch):
                return

    def to_next_mark(self, until: int) -> int:
        """Epochs to the next one after which weights are needed."""
        return min(until, *(mark.epochs for mark in self.marks if mark.epochs > self.epoch)) - self.epoch

    def _train_by_epoch(self, until: int, watch: Watch) -> None:
        assert self.trainer is not None
        for result in self.trainer.epochs(until - self.epoch):
            with self.lock:
                self._take(result)
            if self._told(watch, 1):
                return

    def _told(self, watch: Watch, count: int) -> bool:
        """Tell of epochs; whether to leave the run."""
        if watch.epochs_ended(self, count):
            self.end("callback")
        return bool(self.stopped) or watch.stopping()

    def take_block(self, scores: list[float] | None, watch: Watch) -> bool:
        """Take in epochs of a course: their scores, the best weights so far, and the members that end here.

        None: something is not finite, and the run goes on epoch by epoch. Returns whether to leave the run.
        """
        if scores is None:
            self.course = None
            return False
        assert self.pursuit is not None
        with self.lock:
            self.scores += scores
            if self.pursuit.waited < len(scores):
                self.best_epoch = self.epoch - self.pursuit.waited
                if self.pursuit.best is not None:
                    self.best = Weights(*self.pursuit.best)
            self._settle_marks()
        return self._told(watch, len(scores))

    def _take(self, result: EpochResult) -> None:
        """Take in an epoch: its score, the best weights so far, and the members that end here."""
        assert self.net is not None
        before = self.scores[self.best_epoch - 1] if self.best_epoch else np.nan
        score = np.nan if self.metric is None else self.metric.of_epoch(result.validation)
        self.scores.append(score)
        if self.metric is not None and self.metric.better(score, before):
            self.best_epoch = self.epoch
            if self.keeps_best:
                self.best = Weights.of(self.net)
        self._settle_marks()

    def _settle_marks(self) -> None:
        """End the run where patience ends, or give the members whose last epoch this was their outcomes."""
        waited = self.epoch - self.best_epoch
        if self.patience is not None and waited >= self.patience:
            self.end("patience")
            return
        for mark in self.marks:
            if mark.epochs == self.epoch:
                self._settle(mark.member, self._outcome("finished"))
        if self.epoch == self.limit:
            self.end("finished")

    def _metrics(self) -> dict[str, Any]:
        """What ``fit`` is given for the score."""
        return {} if self.metric is None else self.metric.for_fit

    def end(self, why: str) -> None:
        """End the run; the members that it has not reached yet end with it."""
        with self.lock:
            if self.stopped:
                return
            self.stopped = why
            for mark in self.marks:
                if mark.member not in self.outcomes:
                    self._settle(mark.member, self._outcome(why))
            self.net = self.trainer = self.course = self.pursuit = self.best = self.snapshot = None

    def _settle(self, member: int, outcome: Outcome) -> None:
        self.outcomes[member] = outcome
        if self.settled is not None:
            self.settled(member)

    def now(self, why: str) -> dict[int, Outcome]:
        """Outcomes of all members as the run stands, which may go on; those that are not reached end by `why`."""
        rest = {mark.member for mark in self.marks} - self.outcomes.keys()
        if not rest:
            return self.outcomes
        outcome = self._outcome(why) if self.epoch else Outcome(stopped=f"not started: {why}")
        return {**self.outcomes, **dict.fromkeys(rest, outcome)}

    def meanwhile(self) -> dict[int, Outcome]:
        """Outcomes of all members while the run may be at work."""
        with self.lock:
            rest = {mark.member for mark in self.marks} - self.outcomes.keys()
            return {**self.outcomes, **dict.fromkeys(rest, Outcome(stopped="not finished"))}

    def _outcome(self, why: str) -> Outcome:
        """What there is now."""
        scores = np.array(self.scores)
        columns = self._history().to_dict()
        series = {name: np.array(values[: self.epoch], np.float64) for name, values in columns.items()}
        seconds = float(series.pop("seconds").sum())
        del series["epoch"]
        outcome = Outcome(
            epochs=self.epoch,
            best_epoch=self.best_epoch,
            stopped=why,
            seconds=seconds,
            series={**series, "score": scores},
        )
        if self.net is not None and self.epoch and not outcome.failed:
            last = Weights.of(self.net)
            kept_best = self.patience is not None and self.best is not None
            outcome.weights = self.best if kept_best else last
            outcome.best = self.best if self.keep_best else None
            outcome.score = float(scores[(self.best_epoch if kept_best else self.epoch) - 1])
        return outcome

    def _history(self) -> History:
        if self.trainer is not None:
            return self.trainer.history
        resumed: History | None = getattr(self.net, "history", None)  # of a saved run that has not gone on
        return History() if resumed is None else resumed

    # Members that are trained in one piece.

    def _whole(self) -> None:
        """Train an estimator, or with a full-batch solver, to the end."""
        began = time.perf_counter()
        outcome = self._solved() if isinstance(self.model, FunctionModel) else self._fitted()
        outcome.seconds = time.perf_counter() - began
        outcome.stopped = "finished"
        with self.lock:
            self.stopped = "finished"
            for mark in self.marks:
                self._settle(mark.member, outcome)

    def _solved(self) -> Outcome:
        net: Any = self.model.build(self.recipe)
        (X, y, weight), validation = self.data.raw(self.fold, self.fold_number)
        fit = {name: value for name, value in self.recipe.fit.items() if name != "epochs"}
        history = net.fit(X, y, sample_weight=weight, validation_data=validation, threads=1, **fit, **self._metrics())
        columns = history.to_dict()
        series = {name: np.array(values, np.float64) for name, values in columns.items()}
        del series["epoch"], series["seconds"]
        outcome = Outcome(epochs=len(history), best_epoch=len(history), weights=Weights.of(net), series=series)
        if validation is not None:
            assert self.metric is not None
            outcome.score = net.evaluate(*validation, threads=1, **self._metrics())[self.metric.name]
            series["score"] = series.get("val_" + self.metric.name, np.array([]))
        return outcome

    def _fitted(self) -> Outcome:
        estimator: Any = self.model.build(self.recipe)
        (X, y, weight), validation = self.data.raw(self.fold, self.fold_number)
        estimator.fit(X, y) if weight is None else estimator.fit(X, y, sample_weight=weight)
        outcome = Outcome(estimator=estimator)
        if validation is not None:
            assert self.metric is not None
            outcome.score = self.metric.of_estimator(estimator, *validation)
        return outcome


#: A run, and the epoch to train it to.
Task = tuple[Run, int]
