"""What is read from files: JSON of bounded size and depth, schemas that check it, and arrays and numbers within it.

A file comes from anybody, and its checksum can be made anew. So every value is checked, by a schema that says its type,
range and length, before anything is made of it or memory is taken for it. A refusal is a ValueError that says where the
value stands, what was expected and what was found.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .names import listing

__all__ = [
    "FLAG",
    "MAX_DEPTH",
    "NUMBER",
    "TEXT",
    "VALUE",
    "Anything",
    "Array",
    "Choice",
    "Items",
    "Maybe",
    "OneOf",
    "Real",
    "Record",
    "Schema",
    "Value",
    "Whole",
    "decode",
    "encode",
    "parse",
    "printable",
]
__dir__ = listing(__all__)

#: Objects and lists within each other that a file may have.
MAX_DEPTH = 64

#: Digits of an integer in JSON: those of 128 bits, which generators have.
_MAX_DIGITS = 39

#: The largest integer that float64 and every counter hold.
_MAX_COUNT = 2**53

#: Bytes that an array of text may take, more than its characters do.
_MAX_TEXT_BYTES = 1 << 26


# ------------------------------------------------------------------ text


def printable(text: object) -> str:
    r"""Text without what a terminal obeys: control characters, and those that turn the direction, as ``\x1b``."""
    return "".join(character if _harmless(character) else ascii(character)[1:-1] for character in str(text))


def _harmless(character: str) -> bool:
    if character.isprintable():
        return True
    kind = unicodedata.category(character)
    turns = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return kind in ("Zs", "Cf", "Co") and not turns


# ------------------------------------------------------------------ JSON


def parse(text: str | bytes) -> Any:
    """A value of JSON.

    Raises
    ------
    ValueError
        If it is not JSON, has NaN or infinity, an integer of more than 39 digits, the same key twice in an object, or
        more than `MAX_DEPTH` levels.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_short, object_pairs_hook=_no_twins
        )
        check_depth(value)
    except RecursionError:
        raise ValueError(f"expected at most {MAX_DEPTH} levels") from None
    return value


def check_depth(value: object) -> None:
    """Raise a ValueError if objects and lists are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = [item for item in level if isinstance(item, (dict, list, tuple))]
        if not inner:
            return
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(f"expected at most {MAX_DEPTH} levels")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text:.20}")
    return value


def _short(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"expected an integer of at most {_MAX_DIGITS} digits, got {text:.10}…")
    return int(text)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r:.60} appears twice")
    return found


# ------------------------------------------------------------------ schemas


class Schema:
    """What a value of JSON must be."""

    #: In words, for messages.
    expected: str

    def fits(self, value: Any) -> bool:
        """Whether the value itself is right, without what is in it."""
        raise NotImplementedError

    def check(self, value: Any, name: str) -> None:
        """Raise a ValueError unless the value, and what is in it, is right; `name` is where it stands."""
        if not self.fits(value):
            raise ValueError(f"{name} cannot be {value!r:.60}: expected {self.expected}")


@dataclass(frozen=True)
class Whole(Schema):
    """An integer within bounds."""

    minimum: int = 0
    maximum: int = _MAX_COUNT

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"an integer from {self.minimum} to {self.maximum}"

    def fits(self, value: Any) -> bool:
        """Whether it is one."""
        return type(value) is int and self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class Real(Schema):
    """A number within bounds; with `special`, also NaN and infinity as `encode` writes them, whatever the bounds."""

    minimum: float = -math.inf
    maximum: float = math.inf
    special: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        bounded = self.minimum > -math.inf or self.maximum < math.inf
        return "a number" + (f" from {self.minimum:g} to {self.maximum:g}" if bounded else "")

    def fits(self, value: Any) -> bool:
        """Whether it is one."""
        if type(value) in (int, float):
            return self.minimum <= value <= self.maximum if math.isfinite(value) else self.special
        return self.special and _is_special(value)


@dataclass(frozen=True)
class Choice(Schema):
    """One of these values."""

    values: tuple[str | bool | None, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        return ("one of " if len(self.values) > 1 else "") + ", ".join(map(repr, self.values))

    def fits(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, (str, bool, type(None))) and value in self.values


@dataclass(frozen=True)
class _Text(Schema):
    expected = "text"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str)


@dataclass(frozen=True)
class Anything(Schema):
    """Whatever JSON has."""

    expected = "anything"

    def fits(self, value: Any) -> bool:
        """It does."""
        return True


@dataclass(frozen=True)
class Items(Schema):
    """A list of values of one kind, of a given length or of a length within bounds."""

    of: Schema
    count: int | None = None
    minimum: int = 0
    maximum: int = _MAX_COUNT

    @property
    def expected(self) -> str:  # type: ignore[override]
        if self.count is not None:
            return f"a list of {self.count}"
        return f"a list of {self.minimum} to {self.maximum}" if self.maximum < _MAX_COUNT else "a list"

    def fits(self, value: Any) -> bool:
        """Whether it is a list of a right length."""
        if not isinstance(value, list):
            return False
        return self.minimum <= len(value) <= self.maximum if self.count is None else len(value) == self.count

    def check(self, value: Any, name: str) -> None:
        """Check the list and what is in it."""
        super().check(value, name)
        plain = type(self.of).check is Schema.check  # the quick way through long histories
        for index, item in enumerate(value):
            if not plain or not self.of.fits(item):
                self.of.check(item, f"{name}[{index}]")


#: Keys of the objects that stand for arrays and for numbers that are not finite; see :func:`encode`.
_RESERVED = {"__array__", "__float__"}


@dataclass(frozen=True)
class Record(Schema):
    """An object with these entries, those that it may have, and others, if they are allowed, of one kind."""

    entries: Mapping[str, Schema] = field(default_factory=dict)
    optional: Mapping[str, Schema] = field(default_factory=dict)
    others: Schema | None = None

    expected = "an object"

    def fits(self, value: Any) -> bool:
        """Whether it is an object, and not an array or a number that is written as one."""
        return isinstance(value, dict) and not value.keys() & _RESERVED

    def check(self, value: Any, name: str) -> None:
        """Check the object and its entries."""
        super().check(value, name)
        where = f"{name}." if name else ""
        for key, schema in self.entries.items():
            if key not in value:
                raise ValueError(f"{where}{key} is missing")
            schema.check(value[key], where + key)
        for key, item in value.items():
            if key in self.entries:
                continue
            schema_or_none = self.optional.get(key, self.others)
            if schema_or_none is None:
                raise ValueError(f"unknown {where}{printable(key):.60}")
            schema_or_none.check(item, f"{where}{printable(key):.60}")


@dataclass(frozen=True)
class OneOf(Schema):
    """A value that one of these schemas takes; the first whose kind fits judges what is in it."""

    schemas: tuple[Schema, ...]

    @property
    def expected(self) -> str:  # type: ignore[override]
        return " or ".join(schema.expected for schema in self.schemas)

    def fits(self, value: Any) -> bool:
        """Whether one of them fits."""
        return any(schema.fits(value) for schema in self.schemas)

    def check(self, value: Any, name: str) -> None:
        """Check by the schema that fits."""
        super().check(value, name)
        next(schema for schema in self.schemas if schema.fits(value)).check(value, name)


def Maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return OneOf((Choice((None,)), schema))


FLAG, TEXT, NUMBER = Choice((True, False)), _Text(), Real(special=True)


# ------------------------------------------------------------------ arrays and numbers in JSON

_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
_NUMERIC = {
    np.dtype(f"{order}{kind}{size}").str: kind for kind, sizes in _SIZES.items() for size in sizes for order in "<>"
}


def encode(value: object) -> object:
    """A value as JSON can express it; arrays and numbers that are not finite become objects with one reserved key.

    Parameters
    ----------
    value : None, bool, int, float, str, NumPy number, array, list, tuple or mapping of str
        Nested at will. Arrays hold numbers or str; tuples become lists.

    Returns
    -------
    None, bool, int, float, str, list or dict
        An array is ``{"__array__": [dtype, shape, items]}``, a number that is not finite ``{"__float__": "nan"}``.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(value, np.ndarray):
        items = value.ravel().tolist()
        if value.dtype.kind not in "biufUO" or (value.dtype.kind == "O" and not all(type(i) is str for i in items)):
            raise TypeError(f"expected an array of numbers or str, got dtype {value.dtype} with {items[:3]}")
        kind = "O" if value.dtype.kind == "O" else value.dtype.str
        return {"__array__": [kind, list(value.shape), [encode(item) for item in items]]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be str, got {list(value)!r:.60}")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} is neither what JSON can express nor an array")


def decode(value: object) -> Any:
    """The inverse of :func:`encode`.

    Raises
    ------
    ValueError
        For a reserved key with something that `encode` cannot have written; no memory has been taken then.
    """
    VALUE.check(value, "value")
    return _decode(value)


def _decode(value: object) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return _SPECIAL[value["__float__"]]
        if value.keys() == {"__array__"}:
            kind, shape, items = value["__array__"]
            return np.array([_decode(item) for item in items], dtype=np.dtype(kind)).reshape(shape)
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


def _is_special(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"__float__"}:
        return False
    return isinstance(value["__float__"], str) and value["__float__"] in _SPECIAL


@dataclass(frozen=True)
class Array(Schema):
    """An array as `encode` writes it, of these kinds of dtypes (letters of NumPy) and of this shape.

    None in the shape is any length; no shape is any shape.
    """

    kinds: str = "biufUO"
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None

    @property
    def expected(self) -> str:  # type: ignore[override]
        what = self.dtype or ("numbers or str" if "U" in self.kinds else "numbers" if self.kinds != "O" else "str")
        return f"an array of {what}" + ("" if self.shape is None else f" of shape {self.shape}")

    def fits(self, value: Any) -> bool:
        """Whether it is one; all of it is looked at."""
        if not isinstance(value, dict) or value.keys() != {"__array__"}:
            return False
        parts = value["__array__"]
        if not isinstance(parts, list) or len(parts) != 3:
            return False
        kind, shape, items = parts
        if not (isinstance(kind, str) and isinstance(shape, list) and isinstance(items, list)) or len(shape) > 32:
            return False
        if not all(type(n) is int and 0 <= n <= _MAX_COUNT for n in shape) or math.prod(shape) != len(items):
            return False
        if math.prod(n for n in shape if n) > _MAX_COUNT // 64:  # NumPy has no such empty array
            return False
        if self.shape is not None and not (
            len(shape) == len(self.shape) and all(n in (None, m) for n, m in zip(self.shape, shape, strict=True))
        ):
            return False
        if self.dtype is not None and (kind not in _NUMERIC or np.dtype(kind).newbyteorder("=") != self.dtype):
            return False
        return (_NUMERIC.get(kind) or kind.lstrip("<>=")[:1] or " ") in self.kinds and _items_fit(kind, items)


def _items_fit(kind: str, items: list[Any]) -> bool:
    """Whether these are items of an array of this dtype, which takes little more memory than they do."""
    if kind in _NUMERIC:
        dtype = np.dtype(kind)
        if dtype.kind == "b":
            return all(type(item) is bool for item in items)
        if dtype.kind == "f":
            return all(NUMBER.fits(item) for item in items)
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        return all(type(item) is int and low <= item <= high for item in items)
    if not all(type(item) is str for item in items):
        return False
    if kind == "O":
        return True
    digits = kind[2:]
    if kind[:2] not in ("<U", ">U") or not (digits.isascii() and digits.isdigit() and len(digits) < 8):
        return False
    return int(digits) * 4 * len(items) <= _MAX_TEXT_BYTES and all(len(item) <= int(digits) for item in items)


class Value(Schema):
    """Whatever `encode` writes: reserved keys have what belongs to them."""

    expected = "an array of numbers or str, or a number, as fastnn writes them"

    def fits(self, value: Any) -> bool:
        """Whether a reserved key has what belongs to it."""
        if isinstance(value, dict):
            if "__array__" in value:
                return _ARRAY.fits(value)
            if "__float__" in value:
                return _is_special(value)
        return True

    def check(self, value: Any, name: str) -> None:
        """Check it, and what is in it."""
        super().check(value, name)
        children: Iterable[Any] = ()
        if isinstance(value, dict) and not value.keys() & _RESERVED:
            children = value.values()
        elif isinstance(value, list):
            children = value
        for child in children:
            if isinstance(child, (dict, list)):
                self.check(child, name)


_ARRAY, VALUE = Array(), Value()
