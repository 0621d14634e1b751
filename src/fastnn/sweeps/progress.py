"""What a sweep shows while it runs: members alive, epochs per second, the best score."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from ..bars import Bar, print_line
from ..names import listing
from .criterion import Criterion
from .runs import Run

__all__ = ["SweepProgress"]
__dir__ = listing(__all__)

#: Seconds between two lines where there is no bar.
LINE_SECONDS = 5.0


class SweepProgress(AbstractContextManager["SweepProgress"]):
    """A tqdm bar of epochs where tqdm is installed, else lines on stderr.

    Parameters
    ----------
    members : list of list of Run
        Runs of each member, one for each fold.
    metric : Criterion
    """

    def __init__(self, members: Sequence[Sequence[Run]], metric: Criterion) -> None:
        self._members, self._metric = members, metric
        self._began = self._last = time.monotonic()
        self._done = self._epochs()
        self._start = self._done
        total = sum({run.number: max(run.limit, 1) for runs in members for run in runs}.values())
        self._bar = Bar(total, "epoch", initial=self._done)

    def _runs(self) -> list[Run]:
        return list({run.number: run for runs in self._members for run in runs}.values())

    def _epochs(self) -> int:
        return sum(max(run.epoch, int(bool(run.stopped))) for run in self._runs())

    def _figures(self) -> dict[str, str]:
        alive = sum(any(not run.stopped for run in runs) for runs in self._members)
        best = -math.inf
        for index, runs in enumerate(self._members):
            outcomes = [run.outcomes.get(index) for run in runs]
            scores = [outcome.score for outcome in outcomes if outcome is not None]
            if len(scores) == len(runs):
                best = max(best, self._metric.key(sum(scores) / len(scores)))
        shown = f"{abs(best) if not self._metric.rises else best:.4f}" if math.isfinite(best) else "-"
        return {"alive": f"{alive}/{len(self._members)}", f"best {self._metric.name}": shown}

    def show(self, *, last: bool = False) -> None:
        """Show how things stand."""
        epochs = self._epochs()
        if self._bar.drawn:
            self._bar.update(epochs - self._done, self._figures())
            self._done = epochs
            return
        now = time.monotonic()
        if last or now - self._last >= LINE_SECONDS:
            self._last = now
            rate = (epochs - self._start) / max(now - self._began, 1e-9)
            text = "  ".join(f"{name} {value}" for name, value in self._figures().items())
            print_line(f"{epochs} epochs  {rate:.0f}/s  {text}")

    def __exit__(self, *error: object) -> None:
        self.show(last=True)
        self._bar.__exit__(*error)
