"""Rows before they are trained on: whether they are finite, and in which order an epoch takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dense import FLOATS

__all__ = ["all_finite", "shuffle"]


def check_contiguous(x: Any) -> np.ndarray:
    """`x` if it is a C-contiguous array of floats."""
    if not isinstance(x, np.ndarray) or x.dtype not in FLOATS:
        got = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x: expected a NumPy array of float32 or float64, got {got}")
    if not x.flags.c_contiguous:
        raise ValueError(f"x: expected a contiguous array, got shape {x.shape}, strides {x.strides}")
    return x


def check_order(rows: Any, name: str = "rows", n: int | None = None) -> np.ndarray:
    """`rows` if it can be shuffled in place as indices; with `n`, if it can take several orders of so many."""
    if not isinstance(rows, np.ndarray) or rows.dtype != np.int64:
        got = f"dtype {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise TypeError(f"{name}: expected a NumPy array of int64, got {got}")
    fits = rows.ndim == 1 if n is None else rows.ndim == 2 and rows.shape[1] == n
    if not fits or not rows.flags.c_contiguous or not rows.flags.writeable:
        raise ValueError(
            f"{name}: expected a contiguous, writable array {'(N,)' if n is None else f'(n, {n})'}, got shape "
            f"{rows.shape}, strides {rows.strides}, {'writable' if rows.flags.writeable else 'read-only'}"
        )
    return rows


def check_bit_generator(bit_generator: Any) -> np.random.BitGenerator:
    """`bit_generator` if it has what numpy.random.Generator asks of one."""
    if not (hasattr(bit_generator, "capsule") and hasattr(bit_generator, "lock")):
        raise TypeError(f"bit_generator: expected a numpy.random.BitGenerator, got {type(bit_generator).__name__}")
    return bit_generator  # type: ignore[no-any-return]


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
    return bool(np.isfinite(check_contiguous(x)).all())


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
    generator = np.random.Generator(check_bit_generator(bit_generator))
    check_order(rows)
    for order in [rows] if orders is None else check_order(orders, "orders", len(rows)):
        generator.shuffle(rows)
        order[...] = rows
