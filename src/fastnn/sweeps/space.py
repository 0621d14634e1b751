"""Search spaces, and the settings that are drawn from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from .._typing import Options
from ..names import listing
from ..scalars import check_flag, check_integer, check_number

__all__ = ["MAX_SETTINGS", "Distribution", "LogUniform", "Space", "settings_of"]
__dir__ = listing(__all__)

#: Most settings of a grid.
MAX_SETTINGS = 10_000_000


@runtime_checkable
class Distribution(Protocol):
    """Something that draws values, as SciPy's frozen distributions do."""

    def rvs(self, *, random_state: Any) -> Any:
        """One draw."""


#: What `sweep` takes as its space.
Space: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LogUniform:
    """A range whose logarithm is uniform: as many draws between 0.001 and 0.01 as between 0.01 and 0.1.

    ::

        x = exp(u),           u uniform in [log low, log high)
        x = 1 − exp(u),       u uniform in [log(1 − high), log(1 − low))        complement=True
        x = ⌊exp(u)⌋,         u uniform in [log low, log(high + 1))             integer=True

    Parameters
    ----------
    low, high : float
        0 < low < high; with `complement` also high < 1.
    complement : bool, default=False
        Whether 1 − x is on a logarithmic scale instead of x: for a decay rate β of moving averages, whose memory
        1 / (1 − β) is then log-uniform.
    integer : bool, default=False
        Whether x is an int, in [low, high] with both ends included: for widths and batch sizes.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a number.

    Notes
    -----
    Bergstra and Bengio 2012 draw learning rates and penalties so.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> 0.9 <= fnn.LogUniform(0.9, 0.999, complement=True).rvs(random_state=np.random.default_rng(0)) < 0.999
    True
    """

    low: float
    high: float
    complement: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        check_flag("complement", self.complement)
        if check_flag("integer", self.integer):
            if self.complement:
                raise ValueError("integer and complement cannot both be True")
            low: float = check_integer("low", self.low)
            high: float = check_integer("high", self.high)
        else:
            low = check_number("low", self.low, above=0.0)
            high = check_number("high", self.high, above=0.0, below=1.0 if self.complement else None)
        if not low < high:
            raise ValueError(f"high must be > low, got low={self.low!r} and high={self.high!r}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def rvs(self, *, random_state: np.random.Generator | np.random.RandomState | int | None = None) -> float | int:
        """One draw, as of SciPy's frozen distributions."""
        random: np.random.Generator | np.random.RandomState
        if isinstance(random_state, np.random.Generator | np.random.RandomState):
            random = random_state
        else:
            random = np.random.default_rng(random_state)
        if self.integer:
            value = int(math.exp(random.uniform(math.log(self.low), math.log(self.high + 1.0))))
            return min(max(value, int(self.low)), int(self.high))
        if self.complement:
            return float(1.0 - math.exp(random.uniform(math.log1p(-self.high), math.log1p(-self.low))))
        return float(math.exp(random.uniform(math.log(self.low), math.log(self.high))))


def settings_of(space: object, n: int | None, generator: np.random.Generator) -> list[Options]:
    """The settings of a space, in order.

    Parameters
    ----------
    space : dict, list of dict, or DataFrame
        A dict of lists gives its grid, the last name varying fastest, or `n` draws from it: without replacement where
        there are lists alone (all of them where there are no more), else independent ones. A list of dicts and the rows
        of a DataFrame are settings as they stand, or `n` of them.
    n : int, optional
        Number of draws.
    generator : numpy.random.Generator

    Raises
    ------
    ValueError
        If it is empty, a grid of more than 10⁷ settings, or has distributions without `n`.
    TypeError
        If it is something else, or a value is neither a list nor a distribution.
    """
    if n is not None:
        n = check_integer("n", n)
    if hasattr(space, "to_dict") and hasattr(space, "columns"):
        space = [{str(key): _plain(value) for key, value in row.items()} for row in space.to_dict("records")]
        if not space:
            raise ValueError("space: expected at least one row, got an empty DataFrame")
    if isinstance(space, Mapping):
        return _of_mapping(space, n, generator)
    if isinstance(space, Iterable) and not isinstance(space, str | bytes):
        rows = list(itertools.islice(space, MAX_SETTINGS + 1))
        if not rows:
            raise ValueError("space: expected at least one setting, got an empty list")
        if len(rows) > MAX_SETTINGS:
            raise ValueError(f"space: expected at most {MAX_SETTINGS:,} settings, got more")
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise TypeError(f"space[{index}]: expected a dict of parameters by name, got {row!r:.60}")
        chosen = range(len(rows)) if n is None else _without_replacement(len(rows), n, generator)
        return [dict(rows[index]) for index in chosen]
    raise TypeError(
        f"space must be a dict of lists and distributions, a list of dicts or a DataFrame, got {space!r:.60}"
    )


def _of_mapping(space: Mapping[str, object], n: int | None, generator: np.random.Generator) -> list[Options]:
    if not space:
        raise ValueError("space: expected at least one parameter, got an empty dict")
    values: dict[str, list[Any] | Distribution] = {}
    for name, given in space.items():
        if not isinstance(name, str):
            raise TypeError(f"space: expected names of parameters, got {name!r}")
        values[name] = _choices(name, given)
    lists = {name: choices for name, choices in values.items() if isinstance(choices, list)}
    if len(lists) == len(values):
        size = math.prod(map(len, lists.values()))
        if size > MAX_SETTINGS and n is None:
            factors = " x ".join(f"{len(choices)} of {name}" for name, choices in lists.items())
            raise ValueError(
                f"space: expected at most {MAX_SETTINGS:,} settings, its grid has {size:,} ({factors}); draw n of them"
            )
        chosen = range(size) if n is None else _without_replacement(size, n, generator)
        return [_of_grid(lists, index) for index in chosen]
    if n is None:
        name = next(name for name, choices in values.items() if not isinstance(choices, list))
        raise ValueError(f"n: expected the number of draws, as space[{name!r}] is a distribution")
    return [_draw(values, generator) for _ in range(n)]


def _choices(name: str, given: object) -> list[Any] | Distribution:
    if isinstance(given, Distribution):
        return given
    if isinstance(given, np.ndarray) and given.ndim == 1:
        given = given.tolist()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(
            f"space[{name!r}]: expected a list of values or a distribution (fnn.LogUniform, SciPy's frozen ones), got "
            f"{given!r:.60}; one value is a list of one"
        )
    choices = [_plain(value) for value in itertools.islice(given, MAX_SETTINGS + 1)]
    if not choices:
        raise ValueError(f"space[{name!r}]: expected at least one value, got none")
    return choices


def _of_grid(lists: dict[str, list[Any]], index: int) -> Options:
    """Setting `index` of the grid; the last name varies fastest."""
    setting = {}
    for name in reversed(lists):
        index, place = divmod(index, len(lists[name]))
        setting[name] = lists[name][place]
    return {name: setting[name] for name in lists}


def _draw(values: Mapping[str, list[Any] | Distribution], generator: np.random.Generator) -> Options:
    return {
        name: given[int(generator.integers(len(given)))]
        if isinstance(given, list)
        else _plain(given.rvs(random_state=generator))
        for name, given in values.items()
    }


def _without_replacement(size: int, n: int, generator: np.random.Generator) -> list[int]:
    """Up to `n` different indices below `size`, in the order of the draws."""
    if n >= size:
        return list(range(size))
    if size <= MAX_SETTINGS:
        return [int(index) for index in generator.choice(size, n, replace=False)]
    found: dict[int, None] = {}
    bits = size.bit_length()
    while len(found) < n:  # sizes beyond 64 bits, too
        index = int.from_bytes(generator.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if index < size:
            found.setdefault(index)
    return list(found)


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's."""
    return value.item() if isinstance(value, np.generic) else value
