"""A sweep that is saved while it runs, and resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from .. import files
from .._typing import JSON
from ..names import listing
from .result import SweepResult
from .runs import Run
from .saving import CONTENT, read_file, unpack
from .workers import Control

__all__ = ["Checkpointer", "restore"]
__dir__ = listing(__all__)

#: Seconds that a checkpoint waits for runs to come to the end of an epoch; later ones are saved as they last were.
PATIENCE = 5.0
#: A checkpoint may take this share of the time.
SHARE = 0.05


class Checkpointer:
    """Saves a sweep every few seconds.

    Parameters
    ----------
    path : str or path-like
    seconds : float
        Between two checkpoints, or more where writing one takes longer than a twentieth of that.

    Raises
    ------
    OSError
        If a file cannot be written there.
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float) -> None:
        files.check_writable(path)
        self.path, self._seconds = os.fspath(path), seconds
        self._next = time.monotonic() + seconds
        self._asked = 0.0
        self._waiting: set[Run] = set()

    def tick(self, control: Control, active: set[Run], result: Callable[[], SweepResult]) -> None:
        """Ask the runs for snapshots, if it is time, and write them once they are there."""
        now = time.monotonic()
        if now < self._next:
            return
        if not self._asked:
            control.wanted += 1
            self._asked, self._waiting = now, set(active)
        self._waiting = {run for run in self._waiting & active if run.packed < control.wanted and not run.stopped}
        if self._waiting and now - self._asked < PATIENCE:
            return
        result().save(self.path)
        took = time.monotonic() - now
        self._asked, self._next = 0.0, time.monotonic() + max(self._seconds, took / SHARE)


def restore(
    resume: str | os.PathLike[str] | SweepResult | bool,
    checkpoint: str | os.PathLike[str] | None,
    runs: Sequence[Run],
    fingerprint: Callable[[], JSON],
) -> float:
    """Let new runs stand where those of an earlier sweep stood; the seconds that it has taken.

    Raises
    ------
    ValueError, TypeError
        If there is nothing to resume, or it is another sweep.
    OSError
        If the file cannot be read.
    """
    if resume is False or resume is None:
        return 0.0
    if isinstance(resume, SweepResult):
        content = resume.pack()
    else:
        if resume is True:
            if checkpoint is None:
                raise ValueError("resume=True needs a checkpoint; or give the path of a file, or a result")
            if not os.path.exists(checkpoint):
                return 0.0
            resume = checkpoint
        if not isinstance(resume, str | os.PathLike):
            raise TypeError(f"resume must be a path, a SweepResult, True or False, got {resume!r:.60}")
        content = read_file(resume, CONTENT, "a sweep")
    before = content["fingerprint"] or {}
    for name, value in fingerprint().items():
        if before.get(name) != value:
            raise ValueError(
                f"resume: expected {name} as in the sweep to be resumed, {before.get(name)!r:.100}, got {value!r:.100}"
            )
    try:
        for run, packed in zip(runs, content["runs"], strict=True):
            unpack(run, packed)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"resume: {error}") from error
    return float(content["seconds"])
