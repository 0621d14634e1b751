"""Dropout, and the counter-based generator of its masks."""

from __future__ import annotations

import math

import numpy as np

from .arguments import Call, Integer, Number, Read, checked

__all__ = ["dropout"]

ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
TILE_BLOCKS, TILE = 16, 64
_U32 = np.uint32


def threefry4x32(counter: tuple[np.ndarray, ...], key: tuple[int, ...], rounds: int = 20) -> tuple[np.ndarray, ...]:
    """Threefry4x32 (Salmon, Moraes, Dror & Shaw 2011): a bijection of counters of four 32-bit words, one for each key.

    Parameters
    ----------
    counter : tuple of four ndarrays of uint32, one shape, at least 1-D
    key : tuple of four int in [0, 2**32)
    rounds : int, default=20

    Returns
    -------
    tuple of four ndarrays of uint32
    """
    parity = 0x1BD11BDA
    for word in key:
        parity ^= word
    subkeys = [_U32(word) for word in (*key, parity)]
    x = [word + subkey for word, subkey in zip(counter, subkeys[:4], strict=True)]
    for r in range(rounds):
        # words are mixed in the pairs (0, 1), (2, 3) in even rounds and (0, 3), (2, 1) in odd ones
        first, second = (1, 3) if r % 2 == 0 else (3, 1)
        for a, b, n in ((0, first, ROTATIONS[r % 8][0]), (2, second, ROTATIONS[r % 8][1])):
            x[a] = x[a] + x[b]
            x[b] = (x[b] << _U32(n) | x[b] >> _U32(32 - n)) ^ x[a]
        if r % 4 == 3:
            s = r // 4 + 1
            for i in range(4):
                x[i] = x[i] + subkeys[(s + i) % 5]
            x[3] = x[3] + _U32(s)
    return tuple(x)


def check_first_row(name: str, value: object, call: Call) -> int:
    """A row of a batch whose last element has a number below 2**63."""
    rows, columns = call.lengths["N"], call.lengths["D"]
    return Integer(0, max(0, (2**63 - 1) // max(1, columns) - rows))(name, value, call)


def mask_words(start: int, n: int, seed: int, step: int, layer: int) -> np.ndarray:
    """Words of the elements start … start + n − 1 of a layer's output, uniform on 0 … 2**32 − 1."""
    first, last = start // TILE, (start + n + TILE - 1) // TILE
    block = np.arange(first * TILE_BLOCKS, last * TILE_BLOCKS, dtype=np.uint64)
    low, high = block.astype(_U32), (block >> np.uint64(32)).astype(_U32)
    words = threefry4x32(
        (low, high, np.full_like(low, layer), np.zeros_like(low)),
        (seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF, step >> 32),
    )
    tiles = np.stack([word.reshape(-1, TILE_BLOCKS) for word in words], axis=1)
    return tiles.ravel()[start - first * TILE :][:n]


@checked(
    X=Read("N", "D"),
    rate=Number(minimum=0.0, below=1.0),
    seed=Integer(0, 2**64 - 1),
    step=Integer(0, 2**64 - 1),
    layer=Integer(0, 2**31 - 1),
    first_row=check_first_row,
)
def dropout(X: np.ndarray, rate: float, seed: int, step: int = 0, layer: int = 0, first_row: int = 0) -> np.ndarray:
    """Inverted dropout: every element is 0 with probability `rate`, and divided by 1 − rate otherwise.

    ::

        out_nd = x_nd / (1 − rate) if m_nd else 0        P(m_nd = 1) = 1 − rate        E out = x

    (Srivastava et al. 2014; docs/theory.md, eq. 7.1). For a given mask it is linear and its own transpose: applied to
    ∂L/∂out with the same arguments it gives ∂L/∂X, so no mask is stored.

    The mask of an element is a function of (seed, step, layer, element) alone, where element =
    (first_row + n) D + d: parts of a batch, each with the `first_row` where it starts, have the masks of the whole, in
    float32 and float64. The element's word of Threefry4x32-20 [1]_ is uniform on 0 … 2**32 − 1, and it is dropped if
    that is below rate · 2**32. The key is (seed, step), the counter (block, layer, 0), in words of 32 bits, low ones
    first; element 64 t + 16 w + b is word w of block 16 t + b.

    Parameters
    ----------
    X : ndarray (N, D) of float32 or float64
    rate : float
        In [0, 1).
    seed : int
        In [0, 2**64).
    step : int, default=0
        Counts the updates of a training: every step has masks of its own; in [0, 2**64).
    layer : int, default=0
        Tells apart the layers of a network; in [0, 2**31).
    first_row : int, default=0
        Row in the batch of the first row of X.

    Returns
    -------
    ndarray (N, D), same dtype
        Dropped elements are 0 even where X is not finite.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, rate is not a number, or another argument is not an integer.
    ValueError
        If X is not 2-D or a number is out of range.

    Notes
    -----
    Every `step` has another mask. A generator that is seeded alike at every step would drop the same elements always.

    References
    ----------
    .. [1] Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    bound = min(math.ceil(rate * 2**32), 2**32 - 1)
    words = mask_words(first_row * X.shape[1], X.size, seed, step, layer).reshape(X.shape)
    return np.where(words >= _U32(bound), X * X.dtype.type(1 / (1 - rate)), X.dtype.type(0))
