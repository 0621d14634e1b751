"""States of NumPy's generators in files: written, checked and made into generators again.

NumPy takes a state as it comes. A position outside of its buffer makes it read beyond it, and a state of zeros alone
gives the same number for ever, which some draws wait in vain to end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .names import listing
from .schema import Anything, Array, Choice, Record, Schema, Whole, decode, encode

__all__ = ["check_generator", "describe_generator", "restore_generator"]
__dir__ = listing(__all__)

_BITS_128 = Whole(0, 2**128 - 1)
_HALF = {"has_uint32": Whole(0, 1), "uinteger": Whole(0, 2**32 - 1)}
_WORDS_4 = Array("u", (4,), "uint64")
_PCG = {"state": Record({"state": _BITS_128, "inc": _BITS_128}), **_HALF}

#: What a generator's state is, beside its name.
_STATES: dict[str, dict[str, Schema]] = {
    "PCG64": _PCG,
    "PCG64DXSM": _PCG,
    "MT19937": {"state": Record({"key": Array("u", (624,), "uint32"), "pos": Whole(0, 624)})},
    "Philox": {
        "state": Record({"counter": _WORDS_4, "key": Array("u", (2,), "uint64")}),
        "buffer": _WORDS_4,
        "buffer_pos": Whole(0, 4),
        **_HALF,
    },
    "SFC64": {"state": Record({"state": _WORDS_4}), **_HALF},
}
_NAME = Choice(tuple(_STATES))


def describe_generator(generator: np.random.Generator) -> Any:
    """The state of a generator in JSON.

    Raises
    ------
    TypeError
        If it is none of NumPy's own.
    ValueError
        If its state has been set to one that it cannot come to.
    """
    state = generator.bit_generator.state
    if not isinstance(state, dict) or not _NAME.fits(state.get("bit_generator")):
        raise TypeError(f"a generator of NumPy's own ({', '.join(_STATES)}) can be saved, got {generator!r}")
    data = encode(state)
    check_generator(data, "generator")
    return data


def check_generator(data: Any, name: str) -> None:
    """Raise a ValueError unless it is what `describe_generator` writes."""
    Record({"bit_generator": _NAME}, others=Anything()).check(data, name)
    kind = data["bit_generator"]
    Record({"bit_generator": _NAME, **_STATES[kind]}).check(data, name)
    inner = data["state"]
    if kind == "MT19937":
        key = inner["key"]["__array__"][2]
        # Of its 19,937 bits, those of the first word are the topmost alone.
        if not (key[0] >> 31 or any(key[1:])):
            raise ValueError(f"{name}.state.key cannot be zeros alone")
    elif "inc" in inner and inner["inc"] % 2 == 0:
        raise ValueError(f"{name}.state.inc must be odd, got {inner['inc']}")


def restore_generator(data: Any, name: str = "generator") -> np.random.Generator:
    """A generator of the state that `describe_generator` wrote.

    Raises
    ------
    ValueError
        If it is no such state.
    """
    check_generator(data, name)
    bits = getattr(np.random, data["bit_generator"])(0)
    bits.state = decode(data)
    return np.random.Generator(bits)
