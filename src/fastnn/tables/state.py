"""Reading what an encoder has learnt: every entry is checked before anything is built."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from .._typing import JSON
from .encodings import ENCODINGS, Codes, Dates, Encoding, Numeric, OneHot

__all__ = ["encoder_state"]

#: More columns or categories than this are no table.
MAX_ENTRIES = 10_000_000


def encoder_state(state: JSON) -> tuple[dict[str, Any], int, list[str] | None, tuple[Encoding, ...], list[str]]:
    """Parameters, number of features, their names, encodings and notes of an encoder.

    Raises
    ------
    ValueError
        If an entry is missing, or is not what it should be.
    """
    if not isinstance(state, dict):
        _refuse("state")
    parameters = state.get("parameters")
    expected = {"numeric", "embed_above", "integer_categories", "kinds", "missing_indicator", "dtype"}
    if not isinstance(parameters, dict) or set(parameters) != expected:
        _refuse("parameters")
    parameters = dict(parameters)
    kinds = parameters["kinds"]
    if kinds is not None:
        good = isinstance(kinds, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in kinds)
        if not good or not all(isinstance(key, (str, int)) and isinstance(kind, str) for key, kind in kinds):
            _refuse("kinds")
        parameters["kinds"] = dict(kinds)
    n_features = state.get("n_features")
    if not isinstance(n_features, int) or isinstance(n_features, bool) or not 0 < n_features <= MAX_ENTRIES:
        _refuse("n_features")
    names = state.get("feature_names")
    if names is not None:
        names = _texts("feature_names", names)
        if len(names) != n_features or len(set(names)) != n_features:
            _refuse("feature_names")
    entries = state.get("encodings")
    if not isinstance(entries, list) or not 0 < len(entries) <= n_features:
        _refuse("encodings")
    encodings = tuple(_encoding(entry) for entry in entries)
    known = {f"x{i}" for i in range(n_features)} if names is None else set(names)
    used = [encoding.name for encoding in encodings]
    if len(set(used)) != len(used) or not set(used) <= known:
        _refuse("encodings")
    return parameters, n_features, names, encodings, list(_texts("notes", state.get("notes")))


def _encoding(entry: Any) -> Encoding:
    kind = ENCODINGS.get(str(entry.get("type"))) if isinstance(entry, dict) else None
    if kind is None or not isinstance(entry.get("name"), str) or not isinstance(entry.get("indicator"), bool):
        _refuse("encodings")
    name, indicator = entry["name"], entry["indicator"]
    if kind in (OneHot, Codes):
        categories = tuple(_texts("categories", entry.get("categories")))
        if len(set(categories)) != len(categories):
            _refuse("categories")
        return kind(name, indicator, categories)
    if kind is Dates:
        cycles = tuple(_texts("cycles", entry.get("cycles")))
        elapsed = entry.get("elapsed")
        if not isinstance(elapsed, dict) or not set(cycles) <= {"month", "day_of_week", "day_of_year", "hour"}:
            _refuse("cycles")
        return Dates(name, indicator, _numeric(elapsed), cycles)
    return _numeric(entry)


def _numeric(entry: dict[str, Any]) -> Numeric:
    name, indicator, table = entry.get("name"), entry.get("indicator"), entry.get("table")
    if not isinstance(name, str) or not isinstance(indicator, bool):
        _refuse("encodings")
    if entry.get("scaling") not in ("robust", "standard", "quantile", "none"):
        _refuse("scaling")
    numbers = [entry.get("center"), entry.get("scale"), *(table if isinstance(table, (list, tuple)) else [None])]
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in numbers):
        _refuse("numbers of a column")
    center, scale, *rest = (float(x) for x in numbers)
    if scale < 0.0 or rest != sorted(rest) or (entry["scaling"] == "quantile") != bool(rest):
        _refuse("numbers of a column")
    return Numeric(name, indicator, entry["scaling"], center, scale, tuple(rest))


def _texts(what: str, values: Any) -> list[str]:
    good = isinstance(values, (list, tuple)) and len(values) <= MAX_ENTRIES
    if not good or not all(isinstance(value, str) for value in values):
        _refuse(what)
    return list(values)


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"damaged description of a table's encoding: {what}")
