"""The operations of a plan, a file for each family, all passes of one operation next to each other.

To add a kind of operation, write a subclass of :class:`~fastnn.reference.ops.base.Op` that names its kind.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...plan import OpSpec
from . import dense, elementwise  # noqa: F401  their classes enter themselves in KINDS
from .base import KINDS, Affine, Op, Pass, Point
from .norm import running_statistics

__all__ = ["Affine", "Op", "Pass", "Point", "make_ops", "running_statistics"]


def make_ops(specs: Iterable[OpSpec]) -> tuple[Op, ...]:
    """The operations of a plan, ready to be run."""
    return tuple(KINDS[spec.kind](spec, index) for index, spec in enumerate(specs))
