"""Exponential moving averages of a network's parameters and of its running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..network import Network

__all__ = ["Averages"]

#: Updates that a batch norm counts whose statistics are averages: nothing is left of a start to be taken out.
SETTLED = 1e6


@dataclass
class Averages:
    """Averages ā ← ā + (1 − d) / (1 − dᵗ) (a − ā) after update number t, which the engine makes.

    That is Σ d^{t−s} a_s / Σ d^{t−s}, a weighted mean of the values after each update.

    Attributes
    ----------
    decay : float
        d.
    theta : ndarray (P,)
        Of the parameters; zeros before the first update.
    buffers : ndarray (n_buffers,)
        Of the running means and variances of batch norms, without the weight of their start; what else is in the
        buffers has no average.
    """

    decay: float
    theta: np.ndarray
    buffers: np.ndarray

    @classmethod
    def start(cls, net: Network, decay: float) -> Averages:
        """Those of a training that begins."""
        return cls(decay, np.zeros_like(net.theta), np.zeros_like(net.state))

    def copy(self) -> Averages:
        """Independent copy."""
        return Averages(self.decay, self.theta.copy(), self.buffers.copy())

    def give(self, net: Network) -> None:
        """Let the network have the averages; before the first update it keeps what it has."""
        if not self.theta.any():
            return
        net.theta[...] = self.theta
        for place, count in _statistics(net):
            net.state[place] = self.buffers[place]
            net.state[count] = SETTLED


def _statistics(net: Network) -> Iterator[tuple[slice, int]]:
    """Where the running statistics of each batch norm are in the buffers, and their count."""
    for op in net.ops:
        if op.facts.couples_rows:
            end = op.buffer + 2 * op.n_out
            yield slice(op.buffer, end), end
