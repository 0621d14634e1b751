"""Checks of single values: numbers, integers, flags. They stand below everything that takes an argument."""

from __future__ import annotations

import math
import operator

import numpy as np

from .names import listing

__all__ = ["check_flag", "check_integer", "check_number"]
__dir__ = listing(__all__)


def check_flag(name: str, value: object) -> bool:
    """`value` as a bool, or a TypeError that names the argument unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_integer(name: str, value: object, *, minimum: int = 1) -> int:
    """`value` as an int, or a TypeError / ValueError that names the argument."""
    expected = f"{name} must be an integer >= {minimum}"
    if isinstance(value, bool) or type(value).__name__ == "bool":  # True is an int to Python; here it is a mistake
        raise TypeError(f"{expected}, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{expected}, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{expected}, got {number}")
    return number


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """`value` as a finite float within bounds (`above` and `below` are open), or an error that names the argument."""
    low = f"> {above:g}" if above is not None else f">= {minimum:g}" if minimum is not None else ""
    high = f"< {below:g}" if below is not None else f"<= {maximum:g}" if maximum is not None else ""
    bounds = " and ".join(part for part in (low, high) if part)
    expected = f"{name} must be a finite number{' ' + bounds if bounds else ''}, got {value!r}"
    if isinstance(value, (bool, str)) or type(value).__name__ == "bool":
        raise TypeError(expected)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(expected) from None
    if (
        not math.isfinite(number)
        or (above is not None and number <= above)
        or (minimum is not None and number < minimum)
        or (below is not None and number >= below)
        or (maximum is not None and number > maximum)
    ):
        raise ValueError(expected)
    return number
