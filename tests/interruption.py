"""Interruptions after some processor time of this process, however long that takes on a machine with much to do."""

from __future__ import annotations

import _thread
import signal
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
def alarm(seconds: float, handler: Callable[..., Any] = ring) -> Iterator[None]:
    """Call a handler of signals after so much processor time."""
    before = signal.signal(signal.SIGPROF, handler)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """Interrupt the main thread, as Ctrl-C does, after so much processor time."""
    end, left = time.process_time() + seconds, threading.Event()

    def wait() -> None:
        while time.process_time() < end:
            if left.wait(0.002):
                return
        _thread.interrupt_main()

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        left.set()
        waiting.join()
