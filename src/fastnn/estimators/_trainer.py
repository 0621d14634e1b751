"""A training run as scikit-learn does it: its order of the rows, its mean over batches, its learning rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..network import Network
from ..training.data import Dataset
from ..training.order import RowOrder

__all__ = ["CumulativeOrder", "ReportedLoss", "reported_loss", "unit_weights"]


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


class CumulativeOrder(RowOrder):
    """Each epoch shuffles the order of the epoch before, as scikit-learn does.

    Reading the state of a Mersenne Twister takes as long as a small epoch, so the orders are kept instead: going back
    hands them out again.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = np.arange(self.n_rows)
        self._drawn = np.empty((0, self.n_rows), np.int64)  # the last ones that were drawn
        self._next = 0  # of them

    def draw(self, count: int) -> np.ndarray | None:
        """See :class:`RowOrder`."""
        if not self.shuffle:
            return super().draw(count)
        kept = self._drawn[self._next :]
        if len(kept) < count:
            orders = np.empty((count - len(kept), self.n_rows), np.int64)
            self.kernels.shuffle(self._last, self.generator.bit_generator, orders)
            self._drawn = orders if not len(kept) else np.concatenate([kept, orders])
            self._next = 0
        self._next += count
        return self._drawn[self._next - count : self._next]

    def position(self) -> tuple[np.ndarray, int]:
        """See :class:`RowOrder`."""
        return self._drawn, self._next

    def go_back(self, position: tuple[np.ndarray, int]) -> None:
        """See :class:`RowOrder`."""
        drawn, start = position
        if drawn is not self._drawn:  # what was left of them is the beginning of those that were drawn since
            start = 0
        self._next = start


class ReportedLoss:
    """The epoch's loss as scikit-learn's MLPs report it: the mean of the batches', each weighted by its number of rows.

    Parameters
    ----------
    data : Dataset
        Of the training; its targets give the part of the Poisson deviance that does not depend on the parameters, which
        the engine's objective leaves out.
    """

    def __init__(self, data: Dataset) -> None:
        self.net, self._weight = data.net, data.weight
        self._constants = self.net.loss_function.deviance_constant(data.y)

    def of_epochs(self, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """See :class:`fastnn.training.passes.EpochLoss`."""
        constant = 0.0 if self._constants is None else float(self._constants.mean())
        return reported_loss(self.net, losses, penalties, constant)

    def of_batches(self, rows: np.ndarray, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """See :class:`fastnn.training.passes.EpochLoss`."""
        constants = np.zeros(len(rows))
        if self._constants is not None and self._weight is not None:
            w = self._weight[rows].astype(np.float64)
            sums = w.sum(axis=1)
            kept = sums > 0.0
            constants[kept] = (w * self._constants[rows])[kept].sum(axis=1) / sums[kept]
        return reported_loss(self.net, losses, penalties, constants)
