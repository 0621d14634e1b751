"""Checks of single values: numbers, integers, flags. They stand below everything that takes an argument."""

from __future__ import annotations

import math
import operator

import numpy as np

from .names import listing

__all__ = ["check_flag", "check_integer", "check_number", "check_verbose"]
__dir__ = listing(__all__)


#: Integers beyond it do not fit into those of NumPy and C, sizes and counters among them.
LARGEST = 2**63 - 1


def check_flag(name: str, value: object) -> bool:
    """`value` as a bool, or a TypeError that names the argument unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_integer(name: str, value: object, *, minimum: int = 1, maximum: int | None = LARGEST) -> int:
    """`value` as an int, or a TypeError / ValueError that names the argument; None is no maximum."""
    if type(value) is int and value >= minimum and (maximum is None or value <= maximum):
        return value
    expected = f"{name} must be an integer >= {minimum}"
    if isinstance(value, bool) or type(value).__name__ == "bool":  # True is an int to Python; here it is a mistake
        raise TypeError(f"{expected}, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{expected}, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{expected}, got {_shown(number)}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be an integer of at most {maximum}, got {_shown(number)}")
    return number


def check_verbose(value: object) -> int:
    """`verbose` as an int: False is 0, and True is 1."""
    return check_integer("verbose", int(value) if isinstance(value, bool) else value, minimum=0)


def _shown(number: int) -> str:
    """An integer as text; Python itself refuses to write those of more than 4300 digits."""
    return str(number) if abs(number) < 10**100 else f"one of {number.bit_length()} bits"


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
    error: type[Exception] = ValueError
    if isinstance(value, (bool, str)) or type(value).__name__ == "bool":
        error, number = TypeError, math.nan
    else:
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            error, number = TypeError, math.nan
        except OverflowError:
            number = math.inf
    if (
        math.isfinite(number)
        and (above is None or number > above)
        and (minimum is None or number >= minimum)
        and (below is None or number < below)
        and (maximum is None or number <= maximum)
    ):
        return number
    low = f"> {above:g}" if above is not None else f">= {minimum:g}" if minimum is not None else ""
    high = f"< {below:g}" if below is not None else f"<= {maximum:g}" if maximum is not None else ""
    bounds = " and ".join(part for part in (low, high) if part)
    raise error(f"{name} must be a finite number{' ' + bounds if bounds else ''}, got {value!r}")
