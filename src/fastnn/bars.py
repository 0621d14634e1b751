"""The bar of whatever takes long: tqdm's where it is installed, else lines on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, suppress
from typing import Any

from .names import listing

__all__ = ["Bar", "print_line"]
__dir__ = listing(__all__)


class Bar(AbstractContextManager["Bar"]):
    """A tqdm bar where tqdm is installed; elsewhere `drawn` is False, and its user may print lines instead.

    Parameters
    ----------
    total : int
        What is full.
    unit : str
        What is counted.
    wanted : bool
        Whether to draw a bar at all.
    **options
        Others of tqdm.
    """

    def __init__(self, total: int, unit: str, *, wanted: bool = True, **options: Any) -> None:
        self._bar: Any = None
        if wanted:
            with suppress(ImportError):
                from tqdm import auto

                self._bar = auto.tqdm(total=total, unit=unit, **options)

    @property
    def drawn(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def update(self, count: int = 1, figures: dict[str, str] | str = "") -> None:
        """Move the bar on, and show figures beside it."""
        if self._bar is None:
            return
        if isinstance(figures, dict):
            self._bar.set_postfix(figures, refresh=False)
        elif figures:
            self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update(count)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def print_line(text: str) -> None:
    """Print a line on stderr, whose reader may have gone: the work goes on."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
