"""The operations of a plan, a file for each family, all passes of one operation next to each other.

To add a kind of operation, write a subclass of :class:`~fastnn.reference.ops.base.Op` and give it a row here.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...plan import OpSpec
from .base import Op, Pass, Point
from .dense import Dense
from .elementwise import Activation, Dropout, Standardize
from .norm import BatchNorm, LayerNorm, running_statistics

__all__ = ["Op", "Pass", "Point", "make_ops", "running_statistics"]

KINDS: dict[str, type[Op]] = {
    "dense": Dense,
    "activation": Activation,
    "batch_norm": BatchNorm,
    "layer_norm": LayerNorm,
    "dropout": Dropout,
    "standardize": Standardize,
}


def make_ops(specs: Iterable[OpSpec]) -> tuple[Op, ...]:
    """The operations of a plan, ready to be run."""
    return tuple(KINDS[spec.kind](spec, index) for index, spec in enumerate(specs))
