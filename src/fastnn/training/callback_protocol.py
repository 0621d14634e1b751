"""How a training deals with callbacks: their check, and when which of their methods is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import JSON
from ..network import Network
from ..schema import printable
from .history import Callback, EpochResult
from .state import TrainingState

__all__ = [
    "begin_callbacks",
    "call_callbacks",
    "check_callbacks",
    "end_callbacks",
    "restore_callbacks",
]


def check_callbacks(callbacks: object) -> list[Callback]:
    """Callbacks in the order of their calls.

    Raises
    ------
    TypeError
        If it is not a list, or one of them cannot be called.
    """
    if isinstance(callbacks, (str, dict)) or callable(callbacks) or not hasattr(callbacks, "__iter__"):
        raise TypeError(f"callbacks must be a list of functions or objects that can be called, got {callbacks!r}")
    found = list(callbacks)
    for index, callback in enumerate(found):
        if isinstance(callback, type) or not callable(callback):
            hint = f"; did you mean {callback.__name__}()?" if isinstance(callback, type) else ""
            raise TypeError(f"callbacks[{index}] must be something that can be called, got {callback!r}{hint}")
    return sorted(found, key=_is_last)


def _is_last(callback: object) -> bool:
    return bool(getattr(callback, "last", False))


def begin_callbacks(callbacks: Sequence[object], series: tuple[str, ...]) -> None:
    """Tell them that training begins; they may refuse by raising."""
    for callback in callbacks:
        if hasattr(callback, "begin"):
            callback.begin(series)


def call_callbacks(callbacks: Sequence[Callback], result: EpochResult) -> None:
    """Call each with an epoch; StopIteration lets it be the last one.

    Raises
    ------
    TypeError
        If one returns something: that has no meaning, least of all that training is to stop.
    """
    for callback in callbacks:
        try:
            returned = callback(result)
        except StopIteration:
            result.stop()
            continue
        if returned is not None:
            raise TypeError(
                f"callbacks: {callback!r} returned {returned!r:.60}, expected None; result.stop() ends the training"
            )


def end_callbacks(callbacks: Sequence[object], net: Network, state: TrainingState | None = None) -> None:
    """Tell them that training has ended. A resumed run goes on from before what they do to the network now."""
    if not callbacks:
        return
    final = None if state is None or state.theta is not None else (net.theta.copy(), net.state.copy())
    for late in (False, True):
        for callback in callbacks:
            if _is_last(callback) == late and hasattr(callback, "end"):
                callback.end(net)
        if final is not None and not (np.array_equal(final[0], net.theta) and np.array_equal(final[1], net.state)):
            assert state is not None
            state.theta, state.buffers = final


def restore_callbacks(callbacks: Sequence[Any], states: list[tuple[str, JSON]]) -> None:
    """Give the callbacks of a resumed run their states."""
    takers = [callback for callback in callbacks if hasattr(callback, "get_state")]
    if not states:
        return
    names = [type(callback).__name__ for callback in takers]
    if names != [name for name, _ in states]:
        expected, got = printable(", ".join(name for name, _ in states)), ", ".join(names) or "none"
        raise ValueError(f"resume: expected the callbacks {expected} as in the training to be resumed, got {got}")
    for callback, (_, state) in zip(takers, states, strict=True):
        callback.set_state(state)
