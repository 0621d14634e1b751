"""Epochs of a training, each with its validation, in calls of the engine that do without Python.

The numbers are those of :meth:`fastnn.Trainer.epochs`. What is out of the ordinary (a number that is not finite,
outputs that overflow) is left to it: the run goes back to where the call began.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .._core.results import LanesResult
from .._typing import Rows
from ..plan import CourseResult
from .history import series_names
from .overflow import overflows
from .passes import ArrayPass
from .state import Snapshot
from .trainer import Trainer

if TYPE_CHECKING:
    from .._core.engine import Plan

__all__ = ["Course", "Pursuit", "lanes", "run_side_by_side"]

# A call is long beside its overhead, and short enough that a progress bar does not wait. Before an epoch has been
# timed, one is taken to do a billion multiplications in a second.
BLOCK_SECONDS = 0.1
BLOCK_BYTES = 10_000_000
MULTIPLICATIONS = 1e9

#: Update rules that lanes of a vector have.
LANE_RULES = ("sgd", "adam")


class Pursuit:
    """The best epoch of a run so far, and how long it waits for a better one.

    Parameters
    ----------
    by : {"loss", "accuracy"}
        Which score of the validation rows counts.
    rises : bool
        Whether more is better.
    patience : int or None
        Epochs without a better score after which the run ends.
    keeps : bool
        Whether to keep the parameters of the best epoch.

    Attributes
    ----------
    score : float
        NaN: there is none yet.
    waited : int
        Epochs since.
    best : tuple of ndarray or None
        Parameters and buffers of that epoch, where it was among those of the last call.
    """

    def __init__(self, by: str, rises: bool, patience: int | None, keeps: bool) -> None:
        self.by, self.rises, self.patience, self.keeps = by, rises, patience, keeps
        self.score, self.waited = np.nan, 0
        self.best: tuple[np.ndarray, np.ndarray] | None = None

    def follow(self, result: CourseResult, best: tuple[np.ndarray, np.ndarray] | None) -> list[float]:
        """Take in what epochs have given, and their best parameters; returns their scores."""
        scores = result.val_losses if self.by == "loss" else result.val_accuracies
        self._take(scores, result.best, best)
        return scores

    def _take(self, scores: list[float], best: int, weights: tuple[np.ndarray, np.ndarray] | None) -> None:
        if best < 0:
            self.waited += len(scores)
        else:
            self.score, self.waited, self.best = scores[best], len(scores) - best - 1, weights


class Course:
    """The epochs of a trainer whose data is arrays, and whose validation rows have classes and no weights.

    Parameters
    ----------
    trainer : Trainer
        For which :meth:`fits` is true.
    """

    def __init__(self, trainer: Trainer) -> None:
        step = trainer._pass
        assert isinstance(step, ArrayPass)
        self._trainer, self._step = trainer, step
        self._data = self._step.data
        self._seconds = self._data.n_rows * trainer.net.n_parameters / MULTIPLICATIONS

    @staticmethod
    def fits(trainer: Trainer) -> bool:
        """Whether nothing but the engine takes part in the trainer's epochs."""
        step, net = trainer._pass, trainer.net
        if type(step) is not ArrayPass or step.epoch_loss is not None or trainer.state.plateau is not None:
            return False
        validation = step.data.validation
        if validation is None or validation.weight is not None or not net.loss_function.classifies:
            return False
        unusual = (
            step.engine.augment
            or trainer.state.averages
            or step.engine.options["record_norms"]
            or not trainer._scoring.only_usual
        )
        known = trainer.history.keys() == series_names(True, (), trainer._scoring.validation)
        return not unusual and known and net.backend == "compiled"

    def block(self, most: int) -> int:
        """Epochs of the next call, of at most so many."""
        limits = BLOCK_SECONDS / max(self._seconds, 1e-9), BLOCK_BYTES / (8 * self._data.n_rows)
        return max(1, int(min(most, *limits)))

    def run(self, count: int, pursuit: Pursuit, last: bool) -> list[float] | None:
        """Train up to `count` more epochs; fewer where patience ends.

        Parameters
        ----------
        count : int
        pursuit : Pursuit
            Is told of the best score.
        last : bool
            Whether the outputs after `count` epochs must be finite, too.

        Returns
        -------
        list of float or None
            The score of each epoch. None: nothing has changed, and the trainer is to train these epochs itself.

        Raises
        ------
        BaseException
            What ended the call within an epoch; the run is where it was before the call.
        """
        trainer = self._trainer
        net, state, order = trainer.net, trainer.state, self._step.order
        trainer.begin_epochs()
        start = Snapshot(net, state, order)
        began = time.perf_counter()
        try:
            rates = self._step.rates.of_epochs(state, count, self._step.batches)
            best = (np.empty_like(net.theta), np.empty_like(net.state)) if pursuit.keeps else None
            result = self._call(count, order.draw(count), rates, pursuit, best)
            done = len(result.losses)
            if result.status == "interrupted":
                raise result.error or KeyboardInterrupt
            if result.status != "ok" or (last and done == count and overflows(net, self._data, 1)):
                start.restore_network(net)
                start.restore_run(state, order)
                return None
            self._seconds = (time.perf_counter() - began) / done
            self._record(result, self._step.rates.last(rates, count, self._step.batches)[:done])
        except BaseException:
            start.restore_network(net)
            start.restore_run(state, order)
            raise
        return pursuit.follow(result, best)

    def _call(
        self,
        count: int,
        order: np.ndarray | None,
        rates: np.ndarray | None,
        pursuit: Pursuit,
        best: tuple[np.ndarray, np.ndarray] | None,
    ) -> CourseResult:
        from .._core import courses

        arguments, options, validation = self._arguments(count, order, rates)
        return courses.run(
            cast("Plan", self._trainer.net.plan),
            arguments,
            options,
            validation,
            by=pursuit.by,
            rises=pursuit.rises,
            best=pursuit.score,
            waited=pursuit.waited,
            patience=pursuit.patience,
            keep=best,
            deterministic=self._step.engine.options["deterministic"],
        )

    def _arguments(
        self, count: int, order: np.ndarray | None, rates: np.ndarray | None
    ) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Rows, np.ndarray]]:
        """Arguments and options of ``Plan.train``, and the rows that are validated on."""
        data, state = self._data, self._trainer.state
        assert data.validation is not None
        piece = self._step.piece(order, rates, epochs=count)
        arguments, options = self._step.engine.arguments(piece, state, state.steps)
        alone = {name: value for name, value in options.items() if name not in ("threads", "deterministic")}
        return arguments, alone, (data.validation.X, data.validation.y)

    def shape(self) -> Hashable:
        """Equal for courses whose networks may train side by side, each in a lane of a vector; None: this may not."""
        net, state, step, data = self._trainer.net, self._trainer.state, self._step, self._data
        rule, validation = step.engine.rule, data.validation
        assert validation is not None
        known = rule.rule in LANE_RULES and not rule.amsgrad
        if not known or net.state.size or data.y.ndim != 1 or data.weight is not None:
            return None
        options = {name: value for name, value in step.engine.options.items() if name not in ("l2", "subset")}
        arrays = data.X, data.y, data.rows, validation.X, validation.y
        return (
            *(tuple(net.ops), net.loss_function, net.dtype, net.input_scale, step.batch_size, state.steps, state.epoch),
            *(rule.rule, rule.moments, rule.nesterov, rule.epsilon_hat, repr(options), repr(step.order.position())),
            *(step.order.shuffle, *map(id, arrays)),
        )

    def _take_lane(
        self,
        lane: int,
        result: LanesResult,
        seconds: float,
        rates: np.ndarray | None,
        moments: np.ndarray,
        pursuit: Pursuit,
        position: object,
        last: int,
    ) -> list[float] | None:
        """What :meth:`run` returns, of what a lane has given; `position` is that of the order now."""
        net, state, done = self._trainer.net, self._trainer.state, int(result.epochs[lane])
        self._seconds = seconds
        if done == 0:
            return None
        before = net.theta.copy()
        net.theta[...] = result.theta[lane]
        if last and done == last and overflows(net, self._data, 1):
            net.theta[...] = before
            return None
        state.moments[...] = moments
        self._step.order.go_back(position)
        losses, hits, penalties, val_losses, val_hits = result.figures[:, :done, lane].tolist()
        best = None if result.best_theta is None else (result.best_theta[lane].copy(), net.state.copy())
        steps, at = result.steps[:done].tolist(), int(result.best[lane])
        of_lane = CourseResult(losses, hits, penalties, val_losses, val_hits, steps, at, "ok")
        self._record(of_lane, self._step.rates.last(rates, len(result.steps), self._step.batches)[:done])
        return pursuit.follow(of_lane, best)

    def _record(self, result: CourseResult, rates: list[float]) -> None:
        """Count the epochs, and append them to the history."""
        state, done = self._trainer.state, len(result.losses)
        columns: dict[str, list[Any]] = {
            "epoch": list(range(state.epoch + 1, state.epoch + done + 1)),
            "loss": result.losses,
            "accuracy": result.correct,
            "val_loss": result.val_losses,
            "val_accuracy": result.val_accuracies,
            "learning_rate": rates,
            "seconds": [self._seconds] * done,
        }
        state.epoch += done
        state.batches += self._step.batches * done
        state.steps = result.steps[-1]
        state.history.extend(columns)


def lanes(dtype: np.dtype) -> int:
    """Networks that a vector of the processor has room for."""
    from .._core import lanes

    return lanes.width(dtype.itemsize)


def run_side_by_side(
    courses: Sequence[Course], pursuits: Sequence[Pursuit], count: int, last: Sequence[bool]
) -> list[list[float] | None] | None:
    """:meth:`Course.run` of courses of one :meth:`Course.shape`, each in a lane of a vector.

    Parameters
    ----------
    courses : sequence of Course
        As many as there are lanes, at most.
    pursuits : sequence of Pursuit
        Of one metric and one patience.
    count : int
    last : sequence of bool

    Returns
    -------
    list of (list of float or None), or None
        For each what :meth:`Course.run` returns; None: nothing has changed, for they cannot train this way.

    Raises
    ------
    BaseException
        What ended the call within an epoch; the runs are where they were before the call.
    """
    trainers, step = [course._trainer for course in courses], courses[0]._step
    for trainer in trainers:
        trainer.begin_epochs()
    position = step.order.position()
    began = time.perf_counter()
    rates = [course._step.rates.of_epochs(trainer.state, count, step.batches) for course, trainer in _pairs(courses)]
    moments = np.stack([trainer.state.moments for trainer in trainers])
    try:
        result = _call_lanes(courses, pursuits, count, step.order.draw(count), rates, moments)
        if result is not None and result.error is not None:
            raise result.error
    except BaseException:
        step.order.go_back(position)
        raise
    after = step.order.position()
    step.order.go_back(position)
    if result is None:
        return None
    seconds = (time.perf_counter() - began) / len(result.steps) / len(courses)
    return [
        course._take_lane(lane, result, seconds, rates[lane], moments[lane], pursuit, after, last[lane] and count)
        for lane, (course, pursuit) in enumerate(zip(courses, pursuits, strict=True))
    ]


def _pairs(courses: Sequence[Course]) -> list[tuple[Course, Trainer]]:
    return [(course, course._trainer) for course in courses]


def _call_lanes(
    courses: Sequence[Course],
    pursuits: Sequence[Pursuit],
    count: int,
    order: np.ndarray | None,
    rates: Sequence[np.ndarray | None],
    moments: np.ndarray,
) -> LanesResult | None:
    from .._core import lanes

    first, pursuit = courses[0], pursuits[0]
    engines = [course._step.engine for course in courses]
    given = None
    if not all(
        engine.rule.learning_rate if own is None else own.all() for engine, own in zip(engines, rates, strict=True)
    ):
        return None  # a step at the rate 0 leaves the moments alone, too
    if any(values is not None for values in rates):
        n = count * first._step.batches
        constant = [np.full(n, engine.rule.learning_rate) for engine in engines]
        given = np.stack([own if values is None else values for own, values in zip(constant, rates, strict=True)])
    arguments, options, validation = first._arguments(count, order, None)
    return lanes.run(
        cast("Plan", first._trainer.net.plan),
        arguments,
        options,
        validation,
        [engine.rule for engine in engines],
        [engine.options["l2"] for engine in engines],
        given,
        np.stack([course._trainer.net.theta for course in courses]),
        moments,
        by=pursuit.by,
        rises=pursuit.rises,
        best=[pursuit.score for pursuit in pursuits],
        waited=[pursuit.waited for pursuit in pursuits],
        patience=pursuit.patience,
        keeps=pursuit.keeps,
        deterministic=first._step.engine.options["deterministic"],
    )
