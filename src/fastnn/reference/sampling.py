"""Rows before they are trained on: whether they are finite, and in which order an epoch takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import FLOATS, Call, checked

__all__ = ["all_finite", "shuffle"]


def check_contiguous(name: str, x: object, call: Call) -> np.ndarray:
    """`x` if it is a C-contiguous array of floats."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array")
    if not isinstance(x, np.ndarray) or x.dtype not in FLOATS:
        got = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x: expected a NumPy array of float32 or float64, got {got}")
    if not x.flags.c_contiguous:
        raise ValueError(f"x: expected a contiguous array, got shape {x.shape}, strides {x.strides}")
    call.read[name] = x
    return x


def check_order(name: str, rows: object, call: Call) -> np.ndarray | None:
    """`rows` if it can be shuffled in place as indices; `orders` if it can take several orders of so many."""
    n = None if name == "rows" else len(call.written["rows"])
    if rows is None and n is not None:
        return None
    if not isinstance(rows, np.ndarray) or rows.dtype != np.int64:
        got = f"dtype {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise TypeError(f"{name}: expected a NumPy array of int64, got {got}")
    fits = rows.ndim == 1 if n is None else rows.ndim == 2 and rows.shape[1] == n
    if not fits or not rows.flags.carray:
        raise ValueError(
            f"{name}: expected a contiguous, aligned, writable array {'(N,)' if n is None else f'(n, {n})'}, got shape "
            f"{rows.shape}, strides {rows.strides}, {'writable' if rows.flags.writeable else 'read-only'}"
        )
    call.written[name] = rows
    return rows


def check_bit_generator(name: str, bit_generator: Any, call: Call) -> np.random.BitGenerator:
    """`bit_generator` if it has what numpy.random.Generator asks of one."""
    if not (hasattr(bit_generator, "capsule") and hasattr(bit_generator, "lock")):
        raise TypeError(f"bit_generator: expected a numpy.random.BitGenerator, got {type(bit_generator).__name__}")
    return bit_generator  # type: ignore[no-any-return]


@checked(x=check_contiguous)
def all_finite(x: np.ndarray) -> bool:
    """Whether no element of an array of float32 or float64 is infinite or NaN.

    Parameters
    ----------
    x : ndarray of any shape, contiguous

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If `x` is no array of float32 or float64.
    ValueError
        If it is not contiguous.
    """
    return bool(np.isfinite(x).all())


@checked(rows=check_order, bit_generator=check_bit_generator, orders=check_order)
def shuffle(rows: np.ndarray, bit_generator: np.random.BitGenerator, orders: np.ndarray | None = None) -> None:
    """Shuffle `rows` in place: for i = N - 1, ..., 1 exchange rows[i] with rows[j], j uniform on 0, ..., i.

    The order, and the numbers drawn for it, are those of :meth:`numpy.random.Generator.shuffle` and
    :meth:`numpy.random.RandomState.shuffle`.

    Parameters
    ----------
    rows : ndarray (N,) of int64, contiguous
        Indices of rows, say; changed in place.
    bit_generator : numpy.random.BitGenerator
        Such as ``numpy.random.default_rng(seed).bit_generator``; it moves on.
    orders : ndarray (n, N) of int64, contiguous, optional
        Then `rows` is shuffled n times, each time from the order before; these are the orders, the last of which `rows`
        is left in.

    Raises
    ------
    TypeError
        If `rows` or `orders` is no array of int64, or `bit_generator` no bit generator.
    ValueError
        If `rows` is not one-dimensional, contiguous and writable, or `orders` not such an array of as many columns.

    References
    ----------
    Fisher & Yates (1938), as in Durstenfeld (1964).
    """
    generator = np.random.Generator(bit_generator)
    for order in [rows] if orders is None else orders:
        generator.shuffle(rows)
        order[...] = rows
