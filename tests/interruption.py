"""Interruptions after some processor time of this process, however long that takes on a machine with much to do."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")


class Alarm(Exception):
    """What `alarm` raises unless told otherwise."""


def ring(*_: Any) -> None:
    raise Alarm


@contextmanager
def _once_more(send: Callable[[], None]) -> Iterator[None]:
    """Send what was raised, and lost, in a callback of a weak reference or the like, which Python lets raise nothing.

    What fastnn's functions lose stays lost, and is an error.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        module = getattr(lost.object, "__module__", None) or "fastnn"
        if issubclass(lost.exc_type, (Alarm, KeyboardInterrupt)) and module.split(".")[0] != "fastnn":
            send()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def alarm(seconds: float, handler: Callable[..., Any] = ring) -> Iterator[None]:
    """Call a handler of signals after so much processor time."""

    def start(time: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, time)

    before = signal.signal(signal.SIGPROF, handler)
    try:
        with _once_more(lambda: start(0.01)):
            start(seconds)
            yield
    finally:
        start(0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """Interrupt the main thread, as Ctrl-C does, after so much processor time."""
    end, left, due = time.process_time() + seconds, threading.Event(), threading.Event()

    def wait() -> None:
        while not left.wait(0.002):
            if due.is_set() and time.process_time() >= end:
                due.clear()
                _thread.interrupt_main()

    waiting = threading.Thread(target=wait)
    due.set()
    waiting.start()
    try:
        with _once_more(due.set):
            yield
    finally:
        left.set()
        waiting.join()
