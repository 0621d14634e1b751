"""Columns of a table, whatever it came in: one array of numbers, of texts or of moments each."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

__all__ = ["Column", "Values", "as_kind", "column_of", "n_rows_of", "names_of", "recognise"]

#: What a column can be taken for.
Values: TypeAlias = Literal["numeric", "categorical", "date"]

_NAMES = {"numeric": "numbers", "categorical": "categories", "date": "dates"}

#: Of this many rows on, a column whose values are all different texts, or number the rows, is an id.
ID_ROWS = 20


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    name : str
    holds : {"numeric", "categorical", "date"}
        What its dtype or its values say.
    values : numpy.ndarray, shape (N,)
        float64 with NaN where a value is missing; texts (object) with None; or datetime64[us] with NaT.
    """

    name: str
    holds: Values
    values: np.ndarray

    def missing(self) -> np.ndarray:
        """Mask of the rows without a value."""
        if self.holds == "categorical":
            return np.array([value is None for value in self.values], dtype=bool)
        mask: np.ndarray = np.isnat(self.values) if self.holds == "date" else np.isnan(self.values)
        return mask


def names_of(X: Any) -> list[str]:
    """Names of the columns; "x0", "x1", … of a table without names."""
    names = getattr(X, "column_names", None)  # pyarrow
    if names is None:
        names = getattr(X, "columns", None)  # pandas, polars
    if names is None:
        if np.ndim(X) != 2:
            raise ValueError(
                f"X: expected a table with rows and columns, got {np.ndim(X)} dimension(s). Reshape your data: "
                "X.reshape(-1, 1) if it has one feature, X.reshape(1, -1) if it is one row"
            )
        return [f"x{i}" for i in range(np.shape(X)[1])]
    names = [str(name) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"X: column {twice[0]!r} appears more than once")
    return names


def n_rows_of(X: Any) -> int:
    """Number of rows."""
    rows = getattr(X, "num_rows", None)  # pyarrow
    return int(rows) if rows is not None else len(X)


def column_of(X: Any, name: str, index: int) -> Column:
    """One column of a pandas or polars frame, a pyarrow table, or an array.

    Parameters
    ----------
    X : table
    name : str
        Of a table with names.
    index : int
        Its place, in a table without names.

    Raises
    ------
    TypeError
        If its values are neither numbers nor text nor moments (lists, complex numbers, bytes, durations).
    """
    module = type(X).__module__.split(".")[0]
    if module == "pyarrow":
        return _arrow_column(name, X.column(name))
    if hasattr(X, "columns"):
        series = X[name] if module == "polars" else X.iloc[:, index]
        return _polars_column(name, series) if module == "polars" else _pandas_column(name, series)
    return _array_column(name, np.asarray(X)[:, index])


def _pandas_column(name: str, series: Any) -> Column:
    kind = series.dtype.kind if hasattr(series.dtype, "kind") else "O"
    if type(series.dtype).__name__ == "CategoricalDtype":
        return _texts(name, series.astype(object).to_numpy(), series.isna().to_numpy())
    if kind == "M":
        if getattr(series.dt, "tz", None) is not None:
            series = series.dt.tz_localize(None)  # the hour that a clock shows there
        return Column(name, "date", series.to_numpy().astype("datetime64[us]"))
    if kind == "b":
        return _texts(name, series.astype(object).to_numpy(), series.isna().to_numpy())
    if kind in "iuf":
        return Column(name, "numeric", series.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind in "cm":
        raise TypeError(f"X: column {name!r} has dtype {series.dtype}, expected numbers, text or dates")
    return _objects(name, series.to_numpy(dtype=object), series.isna().to_numpy())


def _polars_column(name: str, series: Any) -> Column:
    missing = series.is_null().to_numpy()
    base = str(series.dtype.base_type()) if hasattr(series.dtype, "base_type") else str(series.dtype)
    if base in ("Categorical", "Enum"):
        return _texts(name, np.array(series.to_list(), dtype=object), missing)
    if base in ("Date", "Datetime"):
        series = series.dt.replace_time_zone(None) if getattr(series.dtype, "time_zone", None) else series
        return Column(name, "date", series.to_numpy().astype("datetime64[us]"))
    if series.dtype.is_numeric():
        return Column(name, "numeric", series.cast(float).to_numpy().astype(np.float64))
    return _objects(name, np.array(series.to_list(), dtype=object), missing)


def _arrow_column(name: str, array: Any) -> Column:
    import pyarrow

    kind = array.type
    missing = np.asarray(array.is_null())
    if pyarrow.types.is_dictionary(kind):
        return _texts(name, _listed(array), missing)
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
        if getattr(kind, "tz", None):
            array = pyarrow.compute.local_timestamp(array)
        return Column(name, "date", array.to_numpy().astype("datetime64[us]"))
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind):
        values = np.array([math.nan if value is None else float(value) for value in array.to_pylist()])
        if not pyarrow.types.is_decimal(kind):
            values = np.asarray(array.cast(pyarrow.float64(), safe=False).to_numpy(), dtype=np.float64)
        return Column(name, "numeric", values)
    return _objects(name, _listed(array), missing)


def _listed(array: Any) -> np.ndarray:
    values = np.empty(len(array), dtype=object)
    values[:] = array.to_pylist()
    return values


def _array_column(name: str, values: np.ndarray) -> Column:
    if values.dtype.kind == "b":
        return _texts(name, values.astype(object), np.zeros(len(values), dtype=bool))
    if values.dtype.kind in "iuf":
        return Column(name, "numeric", values.astype(np.float64))
    if values.dtype.kind == "M":
        return Column(name, "date", values.astype("datetime64[us]"))
    if values.dtype.kind in "OU":
        missing = np.array([_is_missing(value) for value in values], dtype=bool)
        return _objects(name, values.astype(object), missing)
    if values.dtype.kind == "c":
        raise ValueError(f"X: Complex data not supported, column {name!r} has dtype {values.dtype}")
    raise TypeError(f"X: column {name!r} has dtype {values.dtype}, expected numbers, text or dates")


def _is_missing(value: object) -> bool:
    """None, NaN, NaT, and pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _objects(name: str, values: np.ndarray, missing: np.ndarray) -> Column:
    """A column of Python objects: numbers, moments or texts, by what all of its values are."""
    present = values[~missing]
    kinds = {type(value) for value in present.tolist()}
    if kinds and all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return _texts(name, values, missing)
    if kinds and all(issubclass(kind, (int, float, np.number)) and not issubclass(kind, bool) for kind in kinds):
        numbers = np.full(len(values), np.nan)
        try:
            numbers[~missing] = present.astype(np.float64)
        except (TypeError, OverflowError):
            raise TypeError(f"X: column {name!r} has numbers that float64 cannot hold") from None
        return Column(name, "numeric", numbers)
    if kinds and all(issubclass(kind, (datetime.date, np.datetime64)) for kind in kinds):
        moments = np.full(len(values), np.datetime64("NaT"), dtype="datetime64[us]")
        moments[~missing] = [
            np.datetime64(value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value, "us")
            for value in present
        ]
        return Column(name, "date", moments)
    wrong = [value for value in present.tolist() if not isinstance(value, (str, int, float, np.generic))]
    if wrong:
        raise TypeError(
            f"X: column {name!r} has a value of type {type(wrong[0]).__name__}, expected numbers, text or dates. "
            "argument must be a string or a number"
        )
    return _texts(name, values, missing)


def _texts(name: str, values: np.ndarray, missing: np.ndarray) -> Column:
    texts = np.empty(len(values), dtype=object)
    known: dict[object, str] = {}
    for row in np.flatnonzero(~missing):
        value = values[row]
        text = known.get((type(value), value))
        if text is None:
            text = known[(type(value), value)] = text_of(value)
        texts[row] = text or None  # spaces alone are a missing value
    return Column(name, "categorical", texts)


def text_of(value: object) -> str:
    """A category as text, the same for one value of several types: 3, 3.0 and "3" are one category."""
    if isinstance(value, (float, np.floating)) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def as_kind(column: Column, kind: Values) -> Column:
    """A column taken for numbers, categories or dates.

    Raises
    ------
    ValueError
        If a value is no number, or no date; names the column, the value and its row.
    """
    if column.holds == kind:
        return column
    missing = column.missing()
    if kind == "categorical":
        values = column.values.astype(object)
        return _texts(column.name, values, missing)
    if column.holds != "categorical" and not missing.all():
        raise ValueError(f"X: column {column.name!r} holds {_NAMES[column.holds]}, expected {_NAMES[kind]}")
    if kind == "numeric":
        values = _numbers(column.values, missing)
        wrong = np.isnan(values) & ~missing
    else:
        values = _dates(column.values, missing)
        wrong = np.isnat(values) & ~missing
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"X: column {column.name!r} has {column.values[row]!r:.50} in row {row}, expected {_NAMES[kind]}"
        )
    return Column(column.name, kind, values)


def _numbers(texts: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Numbers that texts write; NaN for other texts. True and False are 1 and 0."""
    values = np.full(len(texts), np.nan)
    truth = {"True": 1.0, "False": 0.0}
    unique, places = np.unique(texts[~missing].astype(str), return_inverse=True)
    parsed = np.full(len(unique), np.nan)
    for i, text in enumerate(unique.tolist()):
        try:
            number = truth[text] if text in truth else float(text)
        except ValueError:
            continue
        if math.isfinite(number) and "_" not in text:
            parsed[i] = number
    values[~missing] = parsed[places]
    return values


def _dates(texts: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Moments that texts write in ISO 8601 ("2024-02-29", "2024-02-29T12:30"); NaT for other texts."""
    values = np.full(len(texts), np.datetime64("NaT"), dtype="datetime64[us]")
    unique, places = np.unique(texts[~missing].astype(str), return_inverse=True)
    parsed = np.full(len(unique), np.datetime64("NaT"), dtype="datetime64[us]")
    for i, text in enumerate(unique.tolist()):
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            continue
        parsed[i] = np.datetime64(moment.replace(tzinfo=None), "us")
    values[~missing] = parsed[places]
    return values


def recognise(column: Column) -> tuple[Values | Literal["id", "constant"], str]:
    """What a column is best taken for, and why it is to be left out where it is.

    Texts are numbers where all of them are, dates where all of them are dates in ISO 8601 with a hyphen, else
    categories. Of `ID_ROWS` rows on, texts that are all different, and whole numbers that are a permutation of
    consecutive ones, are ids. A column with one value, or none, is constant.
    """
    missing = column.missing()
    present = column.values[~missing]
    if len(present) == 0:
        return "constant", "has no value"
    kind: Values = column.holds
    distinct = np.unique(present.astype(str) if kind == "categorical" else present)
    if kind == "categorical":
        if not np.isnan(_numbers(distinct, np.zeros(len(distinct), dtype=bool))).any() and not _truth(distinct):
            kind = "numeric"
            distinct = np.unique(distinct.astype(np.float64))
        elif all(text.count("-") >= 2 for text in distinct.tolist()):
            dates = _dates(distinct, np.zeros(len(distinct), dtype=bool))
            kind = "date" if not np.isnat(dates).any() else kind
    if len(distinct) == 1 and not missing.any():
        return "constant", f"is {distinct[0]!s:.30} in all rows"
    if len(column.values) >= ID_ROWS and len(distinct) == len(column.values):
        if kind == "categorical":
            return "id", "has another text in every row"
        if kind == "numeric" and distinct[-1] - distinct[0] == len(distinct) - 1 and (distinct % 1 == 0).all():
            return "id", "numbers the rows"
    return kind, ""


def _truth(texts: Sequence[str] | np.ndarray) -> bool:
    return set(texts) <= {"True", "False"}
