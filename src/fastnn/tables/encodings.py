"""How one column becomes numbers: each encoding is learnt from a column, applied to others, and kept as JSON."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri

from .._typing import JSON
from .columns import Column, Values, as_kind

__all__ = ["ENCODINGS", "Codes", "Dates", "Encoding", "Numeric", "OneHot", "quantiles"]

#: Points of a table of quantiles.
QUANTILES = 1000
#: Beyond these quantiles of a normal nothing is spread further: 5.2 deviations, as in scikit-learn.
TAIL = 1e-7
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True)
class Encoding(ABC):
    """What was learnt from one column.

    Attributes
    ----------
    name : str
        Of the column.
    indicator : bool
        Whether a column of its own says where values are missing; only where some were in the rows learnt from.
    """

    name: str
    indicator: bool

    kind: ClassVar[Values]

    @abstractmethod
    def names(self) -> list[str]:
        """Names of the encoded columns, without the indicator's."""

    @abstractmethod
    def encode(self, column: Column, missing: np.ndarray) -> np.ndarray:
        """The encoded columns (N, len(names)), float64, of a column of this kind; `missing` is its mask."""

    def unseen(self, column: Column) -> int:
        """Number of rows whose category the rows learnt from did not have."""
        return 0

    def all_names(self) -> list[str]:
        """Names of the encoded columns."""
        return [*self.names(), *([f"{self.name}_missing"] if self.indicator else [])]

    def transform(self, column: Column) -> np.ndarray:
        """Encoded columns, float64, (N, len(all_names)).

        Raises
        ------
        ValueError
            If the column's values are not of this kind.
        """
        column = as_kind(column, self.kind)
        missing = column.missing()
        encoded = self.encode(column, missing)
        return np.column_stack([encoded, missing]) if self.indicator else encoded

    def to_json(self) -> JSON:
        """Everything, as JSON can hold it; :data:`ENCODINGS` gives the class of ``type``."""
        return {"type": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Numeric(Encoding):
    """A column of numbers, scaled; missing ones give 0.

    Attributes
    ----------
    scaling : {"robust", "standard", "quantile", "none"}
        With robust, z = (x − m)/q is clipped smoothly to z/√(1 + (z/3)²), between −3 and 3 (Holzmüller et al. 2024).
    center, scale : float
        m and q of "robust": median and distance of the quartiles, or half the range where that is 0; of "standard":
        mean and standard deviation. A column that is constant has the scale 0, and gives 0.
    table : tuple of float
        Of "quantile": quantiles at even steps, which are mapped to those of a normal.
    """

    scaling: str
    center: float = 0.0
    scale: float = 1.0
    table: tuple[float, ...] = ()

    kind: ClassVar[Values] = "numeric"

    @classmethod
    def fit(cls, column: Column, weight: np.ndarray | None, scaling: str, indicator: bool) -> Numeric:
        """Learn from the values that are there; `weight` counts rows."""
        missing = column.missing()
        _check_finite(column, missing)
        values = column.values[~missing]
        w = None if weight is None else weight[~missing]
        has_gaps = indicator and bool(missing.any())
        if len(values) == 0 or scaling == "none":
            return cls(column.name, has_gaps, scaling, scale=float(len(values) > 0))
        if scaling == "quantile":
            table = quantiles(values, np.linspace(0.0, 1.0, min(QUANTILES, len(values))), w)
            return cls(column.name, has_gaps, scaling, table=tuple(table.tolist()))
        if scaling == "robust":
            low, center, high = quantiles(values, np.array([0.25, 0.5, 0.75]), w).tolist()
            spread = high - low
            if spread == 0.0:
                spread = float(values.max() - values.min()) / 2.0
        else:
            center = float(np.average(values, weights=w))
            spread = math.sqrt(float(np.average((values - center) ** 2, weights=w)))
            if spread <= 10 * np.finfo(np.float64).eps * abs(center):  # rounding of equal values
                spread = 0.0
        if not (math.isfinite(center) and math.isfinite(spread)):
            raise ValueError(f"X: column {column.name!r} has values too large to scale")
        return cls(column.name, has_gaps, scaling, center, spread)

    def names(self) -> list[str]:
        return [self.name]

    def encode(self, column: Column, missing: np.ndarray) -> np.ndarray:
        x = np.where(missing, self.center, column.values)
        if not np.isfinite(x).all():
            row = int((~np.isfinite(x)).argmax())
            raise ValueError(
                f"X: column {self.name!r} has {x[row]} in row {row}, expected finite numbers (no infinity)"
            )
        if self.scaling == "none":
            return np.where(missing, 0.0, column.values)[:, None]
        if self.scaling == "quantile":
            return np.where(missing, 0.0, _to_normal(x, np.array(self.table)))[:, None]
        if self.scale == 0.0:
            return np.zeros((len(x), 1))
        with np.errstate(over="ignore"):
            z = (x - self.center) / self.scale
            z = np.clip(z, -1e100, 1e100)
        if self.scaling == "robust":
            z = z / np.sqrt(1.0 + (z / 3.0) ** 2)
        return np.asarray(z[:, None])


@dataclass(frozen=True)
class OneHot(Encoding):
    """A column of categories, one column each; two categories share one, −1 and 1. Missing and unseen: zeros."""

    categories: tuple[str, ...]

    kind: ClassVar[Values] = "categorical"

    def names(self) -> list[str]:
        if len(self.categories) == 2:
            return [f"{self.name}_{self.categories[1]}"]
        return [f"{self.name}_{category}" for category in self.categories]

    def encode(self, column: Column, missing: np.ndarray) -> np.ndarray:
        codes = _codes(column.values, self.categories)
        if len(self.categories) == 2:
            return np.where(codes < 0, 0.0, 2.0 * codes - 1.0)[:, None]
        encoded = np.zeros((len(codes), len(self.categories)))
        rows = np.flatnonzero(codes >= 0)
        encoded[rows, codes[rows]] = 1.0
        return encoded

    def unseen(self, column: Column) -> int:
        return int((_codes(column.values, self.categories) == -2).sum())


@dataclass(frozen=True)
class Codes(Encoding):
    """A column of categories as one column of their numbers, for an embedding: 1, 2, …; 0 is missing or unseen."""

    categories: tuple[str, ...]

    kind: ClassVar[Values] = "categorical"

    def names(self) -> list[str]:
        return [self.name]

    def encode(self, column: Column, missing: np.ndarray) -> np.ndarray:
        return np.maximum(_codes(column.values, self.categories) + 1.0, 0.0)[:, None]

    def unseen(self, column: Column) -> int:
        return int((_codes(column.values, self.categories) == -2).sum())


@dataclass(frozen=True)
class Dates(Encoding):
    """A column of moments: days since the first, scaled, and sines and cosines of the cycles that it runs through.

    A cycle whose phase is the same in all rows learnt from (the hour of dates without a time) is left out.
    """

    elapsed: Numeric
    cycles: tuple[str, ...]

    kind: ClassVar[Values] = "date"

    @classmethod
    def fit(cls, column: Column, weight: np.ndarray | None, scaling: str, indicator: bool) -> Dates:
        """Learn from the moments that are there; `weight` counts rows."""
        missing = column.missing()
        moments = column.values[~missing]
        cycles = tuple(name for name in _CYCLES if len(moments) and np.ptp(_phase(name, moments)) > 0.0)
        days = Numeric.fit(Column(column.name, "numeric", _days(column.values)), weight, scaling, indicator)
        return cls(column.name, days.indicator, days, cycles)

    def names(self) -> list[str]:
        parts = [f"{self.name}_{cycle}_{function}" for cycle in self.cycles for function in ("sin", "cos")]
        return [f"{self.name}_elapsed", *parts]

    def encode(self, column: Column, missing: np.ndarray) -> np.ndarray:
        columns = [self.elapsed.encode(Column(self.name, "numeric", _days(column.values)), missing)[:, 0]]
        moments = np.where(missing, np.datetime64(0, "us"), column.values)
        for cycle in self.cycles:
            angle = 2.0 * math.pi * _phase(cycle, moments)
            columns += [np.where(missing, 0.0, np.sin(angle)), np.where(missing, 0.0, np.cos(angle))]
        return np.column_stack(columns)

    def to_json(self) -> JSON:
        return {**super().to_json(), "elapsed": asdict(self.elapsed)}


ENCODINGS: Mapping[str, type[Encoding]] = {"Numeric": Numeric, "OneHot": OneHot, "Codes": Codes, "Dates": Dates}

_CYCLES = ("month", "day_of_week", "day_of_year", "hour")


def _check_finite(column: Column, missing: np.ndarray) -> None:
    wrong = np.isinf(column.values) & ~missing
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"X: column {column.name!r} has {column.values[row]} in row {row}, expected finite numbers (no infinity)"
        )


def _days(moments: np.ndarray) -> np.ndarray:
    """Days since 1970; NaN for NaT."""
    micro = moments.astype("datetime64[us]").astype(np.int64).astype(np.float64)
    return np.where(np.isnat(moments), np.nan, micro / (1e6 * SECONDS_PER_DAY))


def _phase(cycle: str, moments: np.ndarray) -> np.ndarray:
    """The part of a cycle that has passed, in [0, 1)."""
    days = moments.astype("datetime64[D]")
    if cycle == "hour":
        seconds = (moments - days) / np.timedelta64(1, "s")
        return np.asarray(np.floor(seconds / 3600.0) / 24.0)
    if cycle == "day_of_week":
        return np.asarray((days.astype(np.int64) + 3) % 7 / 7.0)  # 1970 began on a Thursday
    months, years = moments.astype("datetime64[M]"), moments.astype("datetime64[Y]")
    if cycle == "month":
        return np.asarray((months.astype(np.int64) % 12) / 12.0)
    length = (
        (years + np.timedelta64(1, "Y")).astype("datetime64[D]") - years.astype("datetime64[D]")
    ) / np.timedelta64(1, "D")
    return np.asarray((days - years.astype("datetime64[D]")) / np.timedelta64(1, "D") / length)


def _codes(values: np.ndarray, categories: tuple[str, ...]) -> np.ndarray:
    """Places among the categories; −1 where the value is missing, −2 where it is not among them."""
    places: dict[Any, int] = {category: i for i, category in enumerate(categories)}
    places[None] = -1
    return np.array([places.get(value, -2) for value in values.tolist()], dtype=np.int64)


def _to_normal(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Normal quantiles of the places of x in a table of quantiles; the middle place of a value that it repeats."""
    steps = np.linspace(0.0, 1.0, len(table))
    if table[0] == table[-1]:
        return np.zeros(len(x))
    first = np.interp(x, table, steps)
    last = 1.0 - np.interp(-x, -table[::-1], steps)
    places = 0.5 * (first + last)
    return np.asarray(ndtri(np.clip(places, TAIL, 1.0 - TAIL)))


def quantiles(values: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Quantiles by linear interpolation between order statistics, as :func:`numpy.quantile`.

    Whole numbers as weights count rows as often; other weights are scaled to a mean of 1 and count parts of rows.

    Parameters
    ----------
    values : numpy.ndarray, shape (N,)
    p : numpy.ndarray
        Between 0 and 1.
    weight : numpy.ndarray, shape (N,), optional
        At least 0, not all 0.
    """
    if weight is None:
        return np.asarray(np.quantile(values, p))
    values, weight = values[weight > 0.0], weight[weight > 0.0]
    if (weight % 1.0 != 0.0).any():
        weight = weight / weight.mean()
    order = np.argsort(values, kind="stable")
    values, ends = values[order], np.cumsum(weight[order])
    place = p * max(ends[-1] - 1.0, 0.0)
    # A row covers the places from the sum of the weights before it to that sum with its own.
    low = np.searchsorted(ends, np.floor(place) + 1e-9, side="right")
    high = np.searchsorted(ends, np.floor(place) + 1.0 + 1e-9, side="right")
    last = len(values) - 1
    low, high = np.minimum(low, last), np.minimum(high, last)
    return np.asarray(values[low] + (place - np.floor(place)) * (values[high] - values[low]))
