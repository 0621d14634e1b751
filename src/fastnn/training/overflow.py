"""Finite parameters with which a network's outputs overflow."""

from __future__ import annotations

import numpy as np

from ..network import Network
from .data import Dataset, Stream

__all__ = ["overflows"]

#: Rows of the training data that are tried.
N_ROWS = 256


def overflows(net: Network, data: Dataset | Stream, threads: int | None) -> bool:
    """Whether a network's outputs for the rows that it was trained on, or some of them, are not finite.

    They are computed only where that could be. An operation with parameters lengthens a row by no more than a factor
    of the order of ‖θ‖: with L of them, ‖θ‖^L is then above the root of the largest number, of which the input has the
    other.

    Parameters
    ----------
    net : Network
        With finite parameters.
    data : Dataset or Stream
        Of a stream the last batch.
    threads : int, optional
    """
    length = max(1, sum(op.weight >= 0 for op in net.ops))
    with np.errstate(over="ignore"):
        square = float(net.theta.dot(net.theta))
    if square <= float(np.finfo(net.dtype).max) ** (1.0 / length):
        return False
    rows = data.last if isinstance(data, Stream) else data.some_rows(N_ROWS)
    if rows is None:
        return False
    Z = net.plan.forward(net.theta, rows, threads=threads, buffers=net.state)
    return not net.kernels.all_finite.unchecked(Z)
