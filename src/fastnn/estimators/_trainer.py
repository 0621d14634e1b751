"""A training run as scikit-learn does it: its order of the rows, its mean over batches, its learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..network import Network
from ..plan import TrainResult
from ..training import Trainer

__all__ = ["FaceTrainer", "reported_loss", "unit_weights"]


def unit_weights(sample_weight: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Weights scaled by a power of two to at most 1, as a network scales them, and that power of two.

    `alpha` is divided by a sum of the weights, so it is to be scaled by the same power.
    """
    if sample_weight is None:
        return None, 1.0
    exponent = int(np.frexp(np.max(sample_weight, initial=0.0))[1])
    return np.ldexp(sample_weight, -exponent), float(np.ldexp(1.0, -exponent))


def reported_loss(net: Network, loss: Any, penalty: Any, constant: Any) -> Any:
    """The loss as scikit-learn reports it: squared errors are a mean over the outputs, the Poisson deviance is whole.

    Parameters
    ----------
    net : Network
    loss : float or ndarray
        The objective, a sum over the outputs.
    penalty : float or ndarray
        The part of it that is penalty.
    constant : float or ndarray
        Mean over the rows of what turns ℓ into half the deviance.
    """
    if net.loss_function.least_squares and net.n_outputs > 1:
        return (loss - penalty) / net.n_outputs + penalty
    return loss + constant


class FaceTrainer(Trainer):
    """A :class:`fastnn.Trainer` that goes through the data, and reports the loss, as scikit-learn's MLPs do.

    The rows are shuffled by `random_state` from the order of the epoch before, the penalty of each batch is l2 / Σw,
    and an epoch's loss is the mean of its batches' losses weighted by their numbers of rows.

    Parameters
    ----------
    net, X, y
        As for :class:`fastnn.Trainer`.
    random_state : numpy.random.RandomState
    rate_ahead : callable, optional
        Gives the learning rate of the epoch that is so many epochs ahead, in the place of the optimizer's.
    **options
        Of :class:`fastnn.Trainer`.
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        y: Any,
        *,
        random_state: np.random.RandomState,
        rate_ahead: Callable[[int], float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, X, y, seed=np.random.Generator(random_state._bit_generator), **options)  # type: ignore[attr-defined]
        self._random_state, self._rate_ahead = random_state, rate_ahead
        self._orders: np.ndarray | None = None  # of the last epochs that were drawn, from this one on
        self._drawn_from = 0
        self._last = np.arange(self._n_rows)  # of them
        self._constants = net.loss_function.deviance_constant(self._y)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "divide_l2": True}

    # Reading the state of a Mersenne twister takes as long as a small epoch, so the orders are kept instead.

    def _position(self) -> None:
        return None

    def _go_back(self, position: None) -> None:
        pass

    def _order(self, count: int) -> np.ndarray | None:
        if not self._shuffle:
            return super()._order(count)
        start = self.state.epoch - self._drawn_from
        if self._orders is not None and 0 <= start <= len(self._orders) - count:  # they are repeated
            return self._orders[start : start + count]
        orders = np.empty((count, self._n_rows), np.int64)
        self.net.kernels.shuffle(self._last, self._random_state._bit_generator, orders)  # type: ignore[attr-defined]
        self._orders, self._drawn_from = orders, self.state.epoch
        return orders

    def _rates(self, count: int, batches: int) -> np.ndarray | None:
        if self._rate_ahead is None:
            return super()._rates(count, batches)
        return np.repeat([self._rate_ahead(epoch) for epoch in range(count)], batches)

    def _pass(self, count: int) -> tuple[TrainResult, list[float], int]:
        if self._w is not None:
            return self._weighted_pass(count, self._w)
        result, rates, batches = super()._pass(count)
        constant = 0.0 if self._constants is None else float(self._constants.mean())
        losses = reported_loss(self.net, np.array(result.losses), np.array(result.penalties), constant)
        return result._replace(losses=tuple(losses.tolist())), rates, batches

    def _weighted_pass(self, count: int, weights: np.ndarray) -> tuple[TrainResult, list[float], int]:
        """Epochs whose loss needs that of each batch: to the engine, each batch is an epoch."""
        net, state, size = self.net, self.state, self._batch_size
        assert size is not None
        batches = -(-self._n_rows // size)
        rates = self._rates(count, batches)
        order = self._order(count)
        if order is None:
            order = np.arange(self._n_rows)[None]
        losses: list[float] = []
        hits: list[float] = []
        steps = state.steps
        for index, rows in enumerate(order):
            whole = len(rows) // size * size
            parts = [part for part in (rows[:whole].reshape(-1, size), rows[None, whole:]) if part.size]
            total = counted = weight = right = 0.0
            batch = index * batches
            for part in parts:
                result = net.plan.train(
                    net.theta,
                    state.slots,
                    self._X,
                    self._y,
                    np.ascontiguousarray(part),
                    part.shape[1],
                    self._rule,
                    steps,
                    sample_weight=weights,
                    learning_rates=None if rates is None else rates[batch : batch + len(part)],
                    **self._options(),
                )
                batch, steps = batch + len(part), result.steps
                if result.status != "ok":
                    correct = None if result.correct is None else tuple(hits)
                    return result._replace(losses=tuple(losses), correct=correct), [self._rule.learning_rate], batches
                w = weights[part].astype(np.float64)
                sums = w.sum(axis=1)
                kept = sums > 0.0  # the others were skipped
                constants = np.zeros(len(part))
                if self._constants is not None:
                    constants[kept] = (w * self._constants[part])[kept].sum(axis=1) / sums[kept]
                values = reported_loss(net, np.array(result.losses), np.array(result.penalties), constants)
                total += part.shape[1] * float(kept @ values)
                counted += part.shape[1] * int(kept.sum())
                weight += float(sums.sum())
                right += 0.0 if result.correct is None else float(sums @ np.array(result.correct))
            losses.append(total / counted if counted else 0.0)
            hits.append(right / weight if weight else 0.0)
        correct = tuple(hits) if net.loss_function.classifies else None
        last = [self._rule.learning_rate] * count if rates is None else rates[batches - 1 :: batches].tolist()
        return TrainResult(tuple(losses), correct, steps, "ok"), last, batches
