"""One pass over the data: what the engine is called with, and what the epoch's figures are made of.

A pass is one or several calls of ``Plan.train``, each for a :class:`Piece`: rows, their order, learning rates and, with
K-FAC, inverse factors. Over arrays one piece is whole epochs. K-FAC and stochastic L-BFGS cut an epoch where they
estimate the curvature anew, an iterator where its batches end; :func:`run_pieces` sums their figures up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._typing import Rows
from ..network import Network
from ..plan import AugmentSpec, TrainResult, UpdateRule
from ..schedules import Clock, Schedule
from .data import Dataset, Stream
from .order import RowOrder
from .second_order import Curvature, StepMetric
from .state import TrainingState

__all__ = [
    "USUAL",
    "ArrayPass",
    "BatchwisePass",
    "Conventions",
    "Engine",
    "EpochLoss",
    "LearningRates",
    "Pass",
    "PassResult",
    "Piece",
    "PreconditionedPass",
    "StreamPass",
]


class EpochLoss(Protocol):
    """How the reported loss of an epoch is made of what the engine measures, where this is not the engine's own mean.

    `losses` and `penalties` are values of the objective and the part of them that is penalty.
    """

    def of_epochs(self, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Reported losses of epochs, of means over their rows."""

    def of_batches(self, rows: np.ndarray, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Reported losses of batches of weighted rows, (batches, batch_size) indices."""


@dataclass(frozen=True)
class Conventions:
    """What is convention in a training; the defaults are :meth:`fastnn.Sequential.fit`'s.

    Attributes
    ----------
    order : type of RowOrder
        Draws the orders of the rows.
    rate_ahead : callable or None
        Gives the learning rate of the epoch that lies a given number of epochs ahead, in place of the optimizer's.
    l2_over_weight_sum : bool
        Whether `l2` is divided by the Σw of each batch.
    epoch_loss : callable or None
        Makes the EpochLoss of the data; None reports the mean over the batches, each weighted by its Σw.
    """

    order: type[RowOrder] = RowOrder
    rate_ahead: Callable[[int], float] | None = None
    l2_over_weight_sum: bool = False
    epoch_loss: Callable[[Dataset], EpochLoss] | None = None


#: The conventions of `fit`.
USUAL = Conventions()


class LearningRates:
    """Learning rates of batches, by the optimizer's number, by its schedule, or by a convention."""

    def __init__(self, rule: UpdateRule, schedule: Schedule | None, ahead: Callable[[int], float] | None) -> None:
        self.initial, self.schedule, self._ahead = rule.learning_rate, schedule, ahead

    def at(self, clock: Clock, state: TrainingState) -> float:
        """By the schedule, at a moment."""
        if self.schedule is None:
            return self.initial
        return self.schedule.rate(clock, 1.0 if state.plateau is None else state.plateau["scale"])

    def of_epochs(self, state: TrainingState, count: int, batches: int) -> np.ndarray | None:
        """Of each batch of the next epochs, (count · batches,); None where they are all `initial`."""
        if self._ahead is not None:
            return np.repeat([self._ahead(epoch) for epoch in range(count)], batches)
        if self.schedule is None:
            return None
        rates = np.empty((count, batches))
        for index, row in enumerate(rates):
            clocks = (
                Clock(state.batches + index * batches + batch, state.epoch + index, batch / batches, batches)
                for batch in range(batches if self.schedule.smooth else 1)
            )
            row[...] = [self.at(clock, state) for clock in clocks]
        return rates.ravel()

    def last(self, rates: np.ndarray | None, count: int, batches: int) -> list[float]:
        """Of the last batch of each epoch."""
        return [self.initial] * count if rates is None else rates[batches - 1 :: batches].tolist()


class Piece(NamedTuple):
    """What one call of the engine goes over.

    Attributes
    ----------
    X, y, weight
        Checked rows, targets, and weights or None.
    order : ndarray (epochs, n) or None
        Indices of the rows of each epoch; None: all rows as they stand, `epochs` times.
    batch_size : int
    rates : ndarray or None
        Learning rate of each batch.
    total : float
        Σw of the piece: what its figures count in the epoch's.
    """

    X: Rows
    y: np.ndarray
    weight: np.ndarray | None
    order: np.ndarray | None
    batch_size: int
    rates: np.ndarray | None
    epochs: int = 1
    total: float = 0.0
    metric: StepMetric | None = None


class Engine:
    """The calls of the engine in one run: what they have in common is said once.

    Parameters
    ----------
    net : Network
    rule : UpdateRule
    augment : sequence of AugmentSpec, default=()
    **options
        Of ``Plan.train``: penalties, clipping, threads and so on.
    """

    def __init__(self, net: Network, rule: UpdateRule, augment: Sequence[AugmentSpec] = (), **options: Any) -> None:
        self.net, self.rule, self.augment, self.options = net, rule, augment, options

    def arguments(self, piece: Piece, state: TrainingState, steps: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of ``Plan.train`` for a piece after `steps` updates, by position and by name."""
        net, augment, averages = self.net, None, state.averages
        if self.augment and state.augment_seed is not None:
            augment = state.augment_seed, self.augment
        by_name = {
            **self.options,
            "sample_weight": piece.weight,
            "learning_rates": piece.rates,
            "epochs": piece.epochs,
            "preconditioner": piece.metric,
            "buffers": net.state,
            "augment": augment,
            "average": None if averages is None else (averages.decay, averages.theta, averages.buffers),
        }
        rows = piece.X, piece.y, piece.order, piece.batch_size
        return (net.theta, state.moments, *rows, self.rule, steps), by_name

    def train(self, piece: Piece, state: TrainingState, steps: int) -> TrainResult:
        """Train on a piece, in place on the network and on the optimizer's moments, after `steps` updates."""
        by_position, by_name = self.arguments(piece, state, steps)
        result: TrainResult = self.net.plan.train(*by_position, **by_name)
        return result

    def run_pieces(self, pieces: Iterable[Piece | None], state: TrainingState) -> TrainResult:
        """Train one epoch that consists of pieces; None among them: the curvature is not finite."""
        loss = hits = penalty = total = 0.0
        steps, norms = state.steps, []
        for piece in pieces:
            if piece is None:
                return TrainResult((), None, steps, "diverged")
            result = self.train(piece, state, steps)
            if result.status != "ok":
                return TrainResult((), None, result.steps, result.status, result.error)
            norms += [(result.steps - steps, np.array(epoch)) for epoch in result.norms]
            steps = result.steps
            loss += piece.total * result.losses[0]
            hits += piece.total * (result.correct[0] if result.correct is not None else 0.0)
            penalty += piece.total * result.penalties[0]
            total += piece.total
        mean = 1.0 / total if total else 0.0
        correct = (hits * mean,) if self.net.loss_function.classifies else None
        updates = max(1, steps - state.steps)
        means = [np.sum([n * squares for n, squares in norms], axis=0) / updates] if norms else []
        return TrainResult(
            (loss * mean,), correct, steps, "ok", None, (penalty * mean,), tuple(array.tolist() for array in means)
        )


class PassResult(NamedTuple):
    """What a pass has done, the learning rate of each epoch's last batch, and the batches of an epoch."""

    result: TrainResult
    rates: list[float]
    batches: int


class Pass(Protocol):
    """Trains epochs over the data of a run."""

    def run(self, state: TrainingState, count: int) -> PassResult:
        """Train `count` epochs; only the figures of finished ones are returned."""


class ArrayPass:
    """Epochs over arrays, in one call of the engine."""

    def __init__(
        self,
        engine: Engine,
        data: Dataset,
        batch_size: int,
        order: RowOrder,
        rates: LearningRates,
        epoch_loss: EpochLoss | None = None,
    ) -> None:
        self.engine, self.data, self.batch_size, self.order = engine, data, batch_size, order
        self.rates, self.epoch_loss = rates, epoch_loss
        self.batches = -(-data.n_rows // batch_size)

    def piece(self, order: np.ndarray | None, rates: np.ndarray | None, **more: Any) -> Piece:
        """A piece of the data."""
        data = self.data
        return Piece(data.X, data.y, data.weight, order, self.batch_size, rates, **more)

    def reported(self, result: TrainResult) -> TrainResult:
        """The result with the losses that are reported."""
        if self.epoch_loss is None or not result.losses:
            return result
        losses = self.epoch_loss.of_epochs(np.array(result.losses), np.array(result.penalties))
        return result._replace(losses=tuple(losses.tolist()))

    def run(self, state: TrainingState, count: int) -> PassResult:
        """See :class:`Pass`."""
        rates = self.rates.of_epochs(state, count, self.batches)
        piece = self.piece(self.order.draw(count), rates, epochs=count)
        result = self.reported(self.engine.train(piece, state, state.steps))
        return PassResult(result, self.rates.last(rates, count, self.batches), self.batches)


class PreconditionedPass(ArrayPass):
    """An epoch over arrays, as many batches at a time as an estimate of the curvature serves."""

    def __init__(self, curvature: Curvature, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.curvature = curvature

    def run(self, state: TrainingState, count: int) -> PassResult:
        """See :class:`Pass`; `count` is 1."""
        rates = self.rates.of_epochs(state, 1, self.batches)
        result = self.engine.run_pieces(self._pieces(state, rates), state)
        result = self.reported(result)
        return PassResult(result, [self.rates.initial if rates is None else float(rates[-1])], self.batches)

    def _pieces(self, state: TrainingState, rates: np.ndarray | None) -> Iterator[Piece | None]:
        data, size, every = self.data, self.batch_size, self.curvature.update_every
        assert state.factors is not None
        order = self.order.draw(1)
        rows = np.arange(data.n_rows) if order is None else order[0]
        for first in range(0, self.batches, every):
            part = rows[first * size : (first + every) * size]
            seen = part[: self.curvature.rows(size)]
            weight = None if data.weight is None else data.weight[seen]
            metric = self.curvature.update(state.factors, data.X[seen], data.y[seen], weight, state.generator)
            if metric is None:
                yield None
                return
            total = float(len(part)) if data.weight is None else float(data.weight[part].sum(dtype=np.float64))
            batch_rates = None if rates is None else rates[first : first + every]
            yield self.piece(part[None], batch_rates, total=total, metric=metric)


class StreamPass:
    """An epoch over the batches of an iterator; with `curvature`, by K-FAC or stochastic L-BFGS."""

    def __init__(
        self, engine: Engine, stream: Stream, rates: LearningRates, curvature: Curvature | None, batch_norm: bool
    ) -> None:
        self.engine, self.stream, self.rates, self.curvature = engine, stream, rates, curvature
        self.batch_norm = batch_norm

    def run(self, state: TrainingState, count: int) -> PassResult:
        """See :class:`Pass`; `count` is 1."""
        self._rate, self._number = self.rates.initial, 0
        result = self.engine.run_pieces(self._pieces(state), state)
        return PassResult(result, [self._rate], self._number)

    def _pieces(self, state: TrainingState) -> Iterator[Piece | None]:
        stream, metric = self.stream, None
        for number, (X, y, weight) in enumerate(stream):
            if self.rates.schedule is not None:
                part = number / stream.length if number < stream.length else 0.0
                self._rate = self.rates.at(Clock(state.batches + number, state.epoch, part, stream.length), state)
            if self.batch_norm and len(X) == 1:
                raise ValueError("X: expected batches of at least 2 rows for batch norm, got one of 1 row")
            if self.curvature is not None and number % self.curvature.update_every == 0:
                assert state.factors is not None
                metric = self.curvature.update(state.factors, X, y, weight, state.generator)
                if metric is None:
                    yield None
                    return
            total = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
            rates = np.array([self._rate])
            yield Piece(X, y, weight, None, len(X), rates, total=total, metric=metric)
            self._number = number + 1


class BatchwisePass(ArrayPass):
    """Epochs over weighted rows whose reported loss is a mean of the batches', each weighted by its number of rows.

    To the engine each batch is an epoch, so that it tells the figures of each. Batches whose weights sum to 0 are
    skipped, and do not count.
    """

    def run(self, state: TrainingState, count: int) -> PassResult:
        """See :class:`Pass`."""
        rates = self.rates.of_epochs(state, count, self.batches)
        order = self.order.draw(count)
        if order is None:
            order = np.broadcast_to(np.arange(self.data.n_rows), (count, self.data.n_rows))
        figures: list[tuple[float, float, float]] = []
        steps = state.steps
        for index, rows in enumerate(order):
            first = index * self.batches
            batch_rates = None if rates is None else rates[first : first + self.batches]
            result, epoch = self._epoch(rows, batch_rates, state, steps)
            steps = result.steps
            if epoch is None:
                return PassResult(self._figures(figures, result), [self.rates.initial], self.batches)
            figures.append(epoch)
        ended = TrainResult((), None, steps, "ok")
        return PassResult(self._figures(figures, ended), self.rates.last(rates, count, self.batches), self.batches)

    def _figures(self, epochs: list[tuple[float, float, float]], result: TrainResult) -> TrainResult:
        losses, hits, penalties = (tuple(column) for column in zip(*epochs, strict=True)) if epochs else ((), (), ())
        correct = hits if self.engine.net.loss_function.classifies else None
        return result._replace(losses=losses, correct=correct, penalties=penalties)

    def _epoch(
        self, rows: np.ndarray, rates: np.ndarray | None, state: TrainingState, steps: int
    ) -> tuple[TrainResult, tuple[float, float, float] | None]:
        """One epoch: the last result, and loss, accuracy and penalty; None unless it was finished."""
        size, weights = self.batch_size, self.data.weight
        assert weights is not None
        assert self.epoch_loss is not None
        whole = len(rows) // size * size
        parts = [part for part in (rows[:whole].reshape(-1, size), rows[None, whole:]) if part.size]
        loss = penalty = counted = weight = right = 0.0
        batch = 0
        result = TrainResult((), None, steps, "ok")
        for part in parts:
            piece = self.piece(np.ascontiguousarray(part), None if rates is None else rates[batch : batch + len(part)])
            result = self.engine.train(piece._replace(batch_size=part.shape[1]), state, steps)
            batch, steps = batch + len(part), result.steps
            if result.status != "ok":
                return result, None
            sums = weights[part].astype(np.float64).sum(axis=1)
            kept = sums > 0.0  # the others were skipped
            penalties = np.array(result.penalties)
            values = self.epoch_loss.of_batches(part, np.array(result.losses), penalties)
            loss += part.shape[1] * float(kept @ values)
            penalty += part.shape[1] * float(kept @ penalties)
            counted += part.shape[1] * int(kept.sum())
            weight += float(sums.sum())
            right += 0.0 if result.correct is None else float(sums @ np.array(result.correct))
        mean = 1.0 / counted if counted else 0.0
        figures = (loss / counted if counted else 0.0, right / weight if weight else 0.0, penalty * mean)
        return result, figures
