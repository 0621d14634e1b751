"""What the command line prints, and how it fails."""

from __future__ import annotations

import contextlib
import sys

from ..schema import printable

__all__ = ["Failure", "Output", "duration", "say"]


class Failure(Exception):
    """What the user has to hear; becomes one line on stderr and exit code 2."""


def say(line: str) -> None:
    """Print a line on stderr, without what a terminal obeys."""
    # stderr may also be gone
    with contextlib.suppress(OSError, ValueError):
        print(printable(line), file=sys.stderr, flush=True)


class Output:
    """What goes to stdout, unless it is to be quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str = "") -> None:
        if not self.quiet:
            print("\n".join(printable(line) for line in text.split("\n")), flush=True)

    def table(self, rows: list[list[str]]) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                row[0].ljust(16),
                *(cell.rjust(width + 3) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self.line("".join(cells).rstrip())


def duration(seconds: float) -> str:
    """Seconds as text."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
