"""The constants of fastnn._core.tuning, set for a test; imported only where there is compiled code."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def change(**changes: Any) -> None:
    """Set some of them, inside of :func:`changed`. ``zeros_tiles`` are the three of forward, gradient and distance."""
    from fastnn._core import tuning

    tiles = changes.pop("zeros_tiles", None)
    if tiles is not None:
        changes |= zip(("zeros_forward", "zeros_gradient", "zeros_apart"), tiles, strict=True)
    tuning.change(**changes)


def changed(**changes: Any) -> AbstractContextManager[Any]:
    """Set some of them; all are as before at the end."""
    from fastnn._core import tuning

    return tuning.tuning(**changes)
