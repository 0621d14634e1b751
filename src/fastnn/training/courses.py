"""Epochs of a training, each with its validation, in calls of the engine that do without Python.

The numbers are those of :meth:`fastnn.Trainer.epochs`. What is out of the ordinary (a number that is not finite,
outputs that overflow) is left to it: the run goes back to where the call began.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..plan import CourseResult
from .history import series_names
from .overflow import overflows
from .passes import ArrayPass
from .state import Snapshot
from .trainer import Trainer

if TYPE_CHECKING:
    from .._core.engine import Plan

__all__ = ["Course", "Pursuit"]

# A call is long beside its overhead, and short enough that a progress bar does not wait. Before an epoch has been
# timed, one is taken to do a billion multiplications in a second.
BLOCK_SECONDS = 0.1
BLOCK_BYTES = 10_000_000
MULTIPLICATIONS = 1e9


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
        if result.best < 0:
            self.waited += len(scores)
        else:
            self.score, self.waited = scores[result.best], len(scores) - result.best - 1
            self.best = best
        return scores


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

        net, state, engine, data = self._trainer.net, self._trainer.state, self._step.engine, self._data
        assert data.validation is not None
        options = {name: value for name, value in engine.options.items() if name not in ("threads", "deterministic")}
        arguments = net.theta, state.moments, data.X, data.y, order, self._step.batch_size, engine.rule, state.steps
        return courses.run(
            cast("Plan", net.plan),
            arguments,
            {**options, "sample_weight": data.weight, "learning_rates": rates, "epochs": count, "buffers": net.state},
            (data.validation.X, data.validation.y),
            by=pursuit.by,
            rises=pursuit.rises,
            best=pursuit.score,
            waited=pursuit.waited,
            patience=pursuit.patience,
            keep=best,
            deterministic=engine.options["deterministic"],
        )

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
