"""Worker threads that train runs from a common queue; compiled loops release the GIL."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from .._core.threads import blas_held_to_one_thread
from ..names import listing
from .groups import advance, groups_of
from .runs import Cancelled, Run, Task
from .saving import pack
from .stopping import Plan

__all__ = ["Control", "train_all"]
__dir__ = listing(__all__)

#: Seconds between the main thread's checks of the sweep.
TICK = 0.1


class Control:
    """State that the workers and the main thread share.

    Parameters
    ----------
    on_epoch : callable or None
        Called with a run after each of its epochs, one thread at a time; returns whether to end the run.
    """

    def __init__(self, on_epoch: Callable[[Run], bool] | None) -> None:
        self._on_epoch = on_epoch
        self._lock = threading.Lock()
        self.why = ""  # reason to stop all runs; empty: go on
        self.epochs = 0
        self.wanted = 0  # number of the last checkpoint that was asked for
        self.error: BaseException | None = None

    def stop(self, why: str) -> None:
        """Let all runs stop, within an epoch."""
        self.why = self.why or why

    def stopping(self) -> bool:
        """See :class:`fastnn.sweeps.runs.Watch`."""
        return bool(self.why)

    def check(self) -> None:
        """See :class:`fastnn.sweeps.runs.Watch`."""
        if self.why:
            raise Cancelled

    @property
    def each_epoch(self) -> bool:
        """See :class:`fastnn.sweeps.runs.Watch`."""
        return self._on_epoch is not None

    def epochs_ended(self, run: Run, count: int) -> bool:
        """See :class:`fastnn.sweeps.runs.Watch`."""
        if run.packed < self.wanted:
            run.packed, run.snapshot = self.wanted, pack(run)
        with self._lock:
            self.epochs += count
            if self._on_epoch is None:
                return False
            try:
                return self._on_epoch(run)
            except BaseException as error:  # a callback's error ends the sweep, not the member
                self.error = self.error or error
                self.stop("interrupted")
                return False


class _Queue:
    """Tasks, the longest first, and the tasks that follow from them."""

    def __init__(self, plan: Plan, control: Control, threads: int) -> None:
        self._plan, self._control, self._threads = plan, control, threads
        self.changed = threading.Condition()
        self._tasks: list[tuple[float, int, list[Task]]] = []
        self._count = itertools.count()
        self.active: set[Run] = set()
        self._add(plan.first())

    def _add(self, tasks: list[Task]) -> None:
        for group in groups_of(tasks, self._threads):
            cost = sum(run.cost(until) for run, until in group)
            heapq.heappush(self._tasks, (-cost, next(self._count), group))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.active and (not self._tasks or self._control.stopping())

    def take(self) -> list[Task] | None:
        """The next tasks, of one worker together; waits where others may still bring some. None: there will be none."""
        with self.changed:
            while True:
                if self._control.stopping():
                    return None
                if self._tasks:
                    tasks = heapq.heappop(self._tasks)[2]
                    self.active.update(run for run, _ in tasks)
                    return tasks
                if not self.active:
                    return None
                self.changed.wait()

    def done(self, runs: list[Run]) -> None:
        """A worker has left runs."""
        with self.changed:
            self.active.difference_update(runs)
            if not self._control.stopping():
                self._add([task for run in runs for task in self._plan.done(run)])
            self.changed.notify_all()


def _work(queue: _Queue, control: Control) -> None:
    while (tasks := queue.take()) is not None:
        try:
            advance(tasks, control)
        except BaseException as error:  # a fault of the sweep itself
            control.error = control.error or error
            control.stop("interrupted")
        finally:
            queue.done([run for run, _ in tasks])


def train_all(
    plan: Plan,
    control: Control,
    threads: int,
    deadline: float | None,
    tick: Callable[[set[Run]], Any],
) -> None:
    """Train what a plan asks for.

    Parameters
    ----------
    plan : Plan
    control : Control
    threads : int
        Workers.
    deadline : float or None
        Of ``time.monotonic()``: all runs stop then.
    tick : callable
        Called by the main thread now and then, with the runs that are being trained.

    Raises
    ------
    BaseException
        What a callback has raised. Ctrl-C does not: it stops the runs, within a batch or so.
    """
    with blas_held_to_one_thread():
        queue = _Queue(plan, control, threads)
        workers = [
            threading.Thread(target=_work, args=(queue, control), name=f"fastnn-sweep-{i}", daemon=True)
            for i in range(threads)
        ]
        started: list[threading.Thread] = []
        try:
            try:
                for worker in workers:
                    started.append(worker)
                    worker.start()
                _wait(queue, control, deadline, tick)
            except KeyboardInterrupt:  # a second one leaves
                control.stop("interrupted")
                _wait(queue, control, None, tick)
        except BaseException:
            control.stop("interrupted")
            raise
        finally:
            with queue.changed:
                queue.changed.notify_all()
            for worker in started:
                if worker.ident is not None:
                    worker.join()
    if control.error is not None:
        raise control.error


def _wait(queue: _Queue, control: Control, deadline: float | None, tick: Callable[[set[Run]], Any]) -> None:
    """Wait for the end, with an eye on the clock."""
    while True:
        with queue.changed:
            if queue.finished:
                return
            left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
            if left > 0:
                queue.changed.wait(left)
            active = set(queue.active)
        if deadline is not None and time.monotonic() >= deadline:
            control.stop("time limit")
        if not control.stopping():
            tick(active)
