"""How many threads BLAS may use, holding it to one while workers of our own run, and cancelling calls of the engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

#: Order up to which matrices are factorized by one thread: more of them cost more than they save, above all where
#: other programs use the processors, as threads of BLAS wait for each other by spinning.
SMALL_MATRIX = 600

_lock = threading.Lock()
_holders = 0
_saved: list[tuple[Any, int]] = []


@cache
def _blas() -> tuple[Any, ...]:
    import threadpoolctl

    return tuple(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


def _limit(library: Any, n_threads: int) -> None:
    """Set a limit that any thread may lift: threadpoolctl (3.8) ignores all but the thread that set one last. Where
    another thread holds a limit of its own through threadpoolctl, that one stays in force."""
    library.set_num_threads(n_threads)
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release()


def blas_threads() -> int:
    """The present limit: the largest number of threads that a loaded BLAS would use, at least 1."""
    if getattr(_calls, "check", None) is not None:
        return 1
    with _lock:
        if _holders:
            return max((limit for _, limit in _saved), default=1)
    return max((library.get_num_threads() or 1 for library in _blas()), default=1)


@contextmanager
def blas_held_to_one_thread() -> Iterator[None]:
    """While any thread is inside, BLAS uses one thread.

    The limit is the process's, so it is counted: the first in saves it and the last out restores it. (Two overlapping
    threadpoolctl limits would restore each other's.)
    """
    global _holders, _saved
    with _lock:
        if _holders == 0:
            _saved = [(library, library.get_num_threads() or 1) for library in _blas()]
            for library, _ in _saved:
                _limit(library, 1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                for library, limit in _saved:
                    _limit(library, limit)
                _saved = []


def blas_for_matrices(order: int, threads: int | None) -> AbstractContextManager[None]:
    """BLAS and LAPACK as a call with so many `threads` has them for matrices of up to this order: held to one thread,
    as :func:`blas_held_to_one_thread` does it, or as they are."""
    return blas_held_to_one_thread() if threads == 1 or order <= SMALL_MATRIX else nullcontext()


_calls = threading.local()


@contextmanager
def one_of_several_threads(check: Callable[[], None]) -> Iterator[None]:
    """While inside, this thread is one of several that work side by side.

    The limit that :func:`blas_threads` tells it is 1, and a call of the engine runs `check` now and then; what it
    raises ends the call. Signals reach the main thread only: this is how it ends what other threads are at.
    """
    before = getattr(_calls, "check", None)
    _calls.check = check
    try:
        yield
    finally:
        _calls.check = before


def check_cancelled() -> None:
    """Run the check of :func:`one_of_several_threads`, if this thread has one."""
    check = getattr(_calls, "check", None)
    if check is not None:
        check()


def _after_fork_in_child() -> None:
    """The threads that were inside are not in the child; neither may their lock and their limit be."""
    global _lock, _holders, _saved
    _lock = threading.Lock()
    for library, limit in _saved:
        _limit(library, limit)
    _holders, _saved = 0, []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
