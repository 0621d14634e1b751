"""Random changes of training rows, of images above all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ..plan import ROW_AUGMENTATIONS, AugmentSpec
from .arguments import Call, Integer, Number, Read, checked
from .dropout import check_first_row, mask_words, threefry4x32

__all__ = ["augment_rows"]

#: The weighted mean of a loss, and its derivative, of outputs, targets and weights.
LossOf: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray | None], tuple[float, np.ndarray]]

#: In the counter's third word, tells these draws from those of dropout.
_LAYER = 1 << 31


def _check_kind(name: str, value: object, call: Call) -> str:
    """The name of an augmentation."""
    if not isinstance(value, str) or value not in ROW_AUGMENTATIONS:
        raise ValueError(f"{name}: expected one of {', '.join(ROW_AUGMENTATIONS)}, got {value!r}")
    return value


def _check_images(call: Call) -> None:
    """Rows must be images of whole channels, a probability one, and a crop no larger than the image."""
    pixels, columns = call.values["height"] * call.values["width"], call.lengths["D"]
    if columns == 0 or columns % pixels:
        raise ValueError(f"X: expected a multiple of height * width = {pixels} columns, got {columns}")
    if call.values["probability"] > 1.0:
        raise ValueError(f"probability: expected a number in [0, 1], got {call.values['probability']!r}")
    if call.values["kind"] == "crop" and call.values["amount"] > 1.0:
        raise ValueError(f"amount: expected a number in [0, 1] for a crop, got {call.values['amount']!r}")


def _row_words(first: int, rows: int, seed: int, step: int, layer: int) -> tuple[np.ndarray, ...]:
    """The four words of each row, uint64 (rows,) each."""
    block = np.arange(first, first + rows, dtype=np.uint64)
    low, high = block.astype(np.uint32), (block >> np.uint64(32)).astype(np.uint32)
    words = threefry4x32(
        (low, high, np.full_like(low, layer), np.zeros_like(low)),
        (seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF, step >> 32),
    )
    return tuple(word.astype(np.uint64) for word in words)


def _below(words: np.ndarray, n: int) -> np.ndarray:
    """Uniform on 0 … n − 1."""
    return (words * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def _normal(words: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Quantiles of N(0, 1) at (words + ½) / 2³², by PPND7 of Wichura 1988, to about seven digits."""
    lower = words < np.uint32(1 << 31)
    half, one = dtype.type(0.5), dtype.type(1.0)
    p = (np.where(lower, words, ~words).astype(dtype) + half) * dtype.type(2.0**-32)
    q = half - p
    r, t = dtype.type(0.180625) - q * q, np.sqrt(-np.log(p)) - dtype.type(1.6)

    def polynomial(x: np.ndarray, *coefficients: float) -> np.ndarray:
        value = np.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            value = value * x + dtype.type(coefficient)
        return value

    above = polynomial(r, 59.109374720, 159.29113202, 50.434271938, 3.3871327179)
    middle = q * above / (polynomial(r, 67.187563600, 78.757757664, 17.895169469, 1.0))
    tail = polynomial(t, 0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777)
    tail /= polynomial(t, 0.12021132975, 0.73700164250, 1.0)
    z = np.where(q <= dtype.type(0.425), middle, tail)
    return np.where(lower, -z, z) * one


def _shifted(image: np.ndarray, dy: int, dx: int, fill: float) -> np.ndarray:
    out = np.full_like(image, fill)
    height, width, _ = image.shape
    if abs(dy) < height and abs(dx) < width:
        from_rows, from_columns = max(-dy, 0), max(-dx, 0)
        part = image[from_rows : height - max(dy, 0), from_columns : width - max(dx, 0)]
        out[max(dy, 0) :, max(dx, 0) :][: part.shape[0], : part.shape[1]] = part
    return out


def _fraction(word: np.ndarray) -> np.ndarray:
    """Uniform on (0, 1)."""
    return (word + 0.5) * 2.0**-32


def _between(image: np.ndarray, y: np.ndarray, x: np.ndarray, fill: float) -> np.ndarray:
    """Bilinear between pixels, at y and x from −1 to the height and to the width."""
    real = image.dtype.type
    padded = np.pad(image, ((1, 2), (1, 2), (0, 0)), constant_values=real(fill))
    y, x = y + real(1), x + real(1)
    row, column = y.astype(np.int64), x.astype(np.int64)
    a, b = (y - row.astype(real))[..., None], (x - column.astype(real))[..., None]
    top = padded[row, column] + b * (padded[row, column + 1] - padded[row, column])
    low = padded[row + 1, column] + b * (padded[row + 1, column + 1] - padded[row + 1, column])
    between: np.ndarray = top + a * (low - top)
    return between


def _cropped(image: np.ndarray, share: float, top: float, left: float) -> np.ndarray:
    """The part of that share of height and width, at full size again."""
    real = image.dtype.type
    at = [
        np.clip((start * n * (1 - share) + share / 2 - 0.5 + share * np.arange(n)).astype(real), 0, n - 1)
        for n, start in zip(image.shape, (top, left), strict=False)
    ]
    y, x = np.meshgrid(*at, indexing="ij")
    return _between(image, y, x, 0.0)


def _rotated(image: np.ndarray, angle: float, fill: float) -> np.ndarray:
    height, width, _ = image.shape
    real = image.dtype.type
    c, s = real(math.cos(angle)), real(math.sin(angle))
    cy, cx = real((height - 1) / 2), real((width - 1) / 2)
    i, j = np.arange(height, dtype=real)[:, None] - cy, np.arange(width, dtype=real) - cx
    y = np.clip(c * i - s * j + cy, real(-1), real(height))
    x = np.clip(s * i + c * j + cx, real(-1), real(width))
    return _between(image, y, x, fill)


def _erased(image: np.ndarray, side: int, y: int, x: int, fill: float) -> np.ndarray:
    out = image.copy()
    top, left = y - side // 2, x - side // 2
    out[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill
    return out


@checked(
    _check_images,
    X=Read("N", "D"),
    kind=_check_kind,
    height=Integer(1),
    width=Integer(1),
    amount=Number(minimum=0.0, below=2.0**31),
    probability=Number(minimum=0.0, finite=True),
    fill=Number(finite=True),
    seed=Integer(0, 2**64 - 1),
    step=Integer(0, 2**64 - 1),
    place=Integer(0, 2**31 - 1),
    first_row=check_first_row,
)
def augment_rows(
    X: np.ndarray,
    kind: str,
    height: int,
    width: int,
    amount: float,
    probability: float,
    fill: float,
    seed: int,
    step: int = 0,
    place: int = 0,
    first_row: int = 0,
) -> np.ndarray:
    """Change rows at random. A row is an image (height, width, channels) in C order.

    ::

        noise    x + amount z, z ~ N(0, 1) for every element
        shift    out[y, x] = in[y − dy, x − dx], dy and dx uniform on the integers −amount … amount
        flip     out[y, x] = in[y, width − 1 − x], with the given probability
        rotate   out(p) = in(c + R(α)(p − c)), c the centre, α uniform on ±amount; bilinear between pixels
        erase    with the given probability, a square of side `amount` whose centre is uniform over the pixels
        crop     a part of s height · s width, s uniform on amount … 1, at a uniform place, at full size again: out at
                 pixel i is in at top + (i + ½) s − ½, no further out than the last pixels; bilinear between pixels

    What lies outside of an image, and what is erased, is `fill`.

    The draws of a row are a function of (seed, step, place, first_row + n) alone: parts of a batch, each with the
    `first_row` where it starts, have those of the whole. They are the four words of block first_row + n of
    Threefry4x32-20 with the key (seed, step) and the counter (block, 2**31 + place, 0); see
    :func:`fastnn.reference.dropout`. Of them an integer of 0 … n − 1 is the high half of word · n, and an event happens
    if the word is below probability · 2**32. Noise has a word per element, numbered as there, and the quantile of the
    normal distribution at (word + ½) / 2**32 (Wichura 1988, PPND7).

    Parameters
    ----------
    X : ndarray (N, D) of float32 or float64
        D a multiple of height · width: the channels.
    kind : str
        ``"noise"``, ``"shift"``, ``"flip"``, ``"rotate"``, ``"erase"`` or ``"crop"``.
    height, width : int
        Of an image, at least 1.
    amount : float
        Standard deviation of the noise, pixels of a shift (its integer part), largest angle in radians, side of the
        square in pixels, or smallest share of a crop (at most 1); in [0, 2**31).
    probability : float
        Of a flip or an erasure, in [0, 1].
    fill : float
    seed, step : int
        In [0, 2**64).
    place : int, default=0
        Tells apart the augmentations of a training; in [0, 2**31).
    first_row : int, default=0
        Row in the batch of the first row of X.

    Returns
    -------
    ndarray (N, D), same dtype

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If X is not 2-D, its columns are not whole channels, or a number is out of range.

    References
    ----------
    Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37, 1988.
    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    """
    n, columns = X.shape
    layer = _LAYER + place
    if kind == "noise":
        words = mask_words(first_row * columns, X.size, seed, step, layer).reshape(X.shape)
        return X + X.dtype.type(amount) * _normal(words, X.dtype)
    first, second, third, _ = _row_words(first_row, n, seed, step, layer)
    out = X.reshape(n, height, width, columns // (height * width)).copy()
    most = int(amount)
    if kind == "shift":
        shifts = zip(_below(first, 2 * most + 1) - most, _below(second, 2 * most + 1) - most, strict=True)
        for image, (dy, dx) in zip(out, shifts, strict=True):
            image[...] = _shifted(image, dy, dx, fill)
    elif kind == "rotate":
        for image, word in zip(out, first, strict=True):
            image[...] = _rotated(image, (2 * ((float(word) + 0.5) * 2.0**-32) - 1) * amount, fill)
    elif kind == "crop":
        shares = amount + (1 - amount) * _fraction(first)
        for image, *numbers in zip(out, shares, _fraction(second), _fraction(third), strict=True):
            image[...] = _cropped(image, *numbers)
    else:
        happens = first < np.uint64(math.ceil(probability * 2**32))
        if kind == "flip":
            out[happens] = out[happens, :, ::-1]
        else:
            for i in np.flatnonzero(happens):
                y, x = _below(second[i], height), _below(third[i], width)
                out[i] = _erased(out[i], most, int(y), int(x), fill)
    return out.reshape(X.shape)


class Mixing(NamedTuple):
    """What mixup does to a batch: λ of every row, (N,) of its dtype, and the rows that are mixed in, int64 (N,)."""

    share: np.ndarray
    other: np.ndarray

    def targets(
        self, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Both targets of every row, each with its weights: w λ and w (1 − λ)."""
        w = np.ones_like(self.share) if weight is None else weight
        return (y, w * self.share), (y[self.other], w * (1 - self.share))

    def loss(
        self, loss_of: LossOf, Z: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """The weighted mean of λ ℓ(z, y_i) + (1 − λ) ℓ(z, y_j), and its derivative by Z, for a function of one ℓ."""
        parts = self.targets(y, weight)
        sums = [float(w.sum(dtype=np.float64)) for _, w in parts]
        total, loss, delta = sum(sums), 0.0, np.zeros_like(Z)
        for (targets, w), part in zip(parts, sums, strict=True):
            value, derivative = loss_of(Z, targets, w)
            loss += part / total * value
            delta += Z.dtype.type(part / total) * derivative
        return loss, delta


def draw_mixing(
    rows: int, alpha: float, seed: int, step: int, place: int, weight: np.ndarray | None, dtype: np.dtype
) -> Mixing:
    """Shares and rows of mixup: row i becomes λ x_i + (1 − λ) x_j.

    j is uniform over the rows of the batch, the high half of the third word · `rows`; λ ~ Beta(α, α), and with u and v
    of the first two words, by Student's t (Devroye 1996, "Random variate generation in one line of code")::

        λ = ½ + ½ sign(c) / √(1 + 1 / ((u^(−1/α) − 1) c²)), c = cos 2πv

    Where x_j has weight 0, λ is 1. The words are those of :func:`augment_rows`.
    """
    first, second, third, _ = _row_words(0, rows, seed, step, _LAYER + place)
    other = _below(third, rows)
    turn = np.cos(2 * np.pi * _fraction(second))
    with np.errstate(over="ignore", divide="ignore"):
        odds = np.expm1(-np.log(_fraction(first)) / alpha) * turn * turn
        share = (0.5 + np.copysign(0.5, turn) / np.sqrt(1 + 1 / odds)).astype(dtype)
    if weight is not None:
        share[weight[other] == 0] = 1
    return Mixing(share, other)


def augmented(
    X: np.ndarray, specs: Sequence[AugmentSpec], seed: int, step: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, Mixing | None]:
    """The rows of a batch after all augmentations, one after the other, and what mixup did to them."""
    mixing = None
    for place, spec in enumerate(specs):
        if spec.kind == "mixup":
            mixing = draw_mixing(len(X), spec.amount, seed, step, place, weight, X.dtype)
            share = mixing.share[:, None]
            X = share * X + (1 - share) * X[mixing.other]
            continue
        X = augment_rows.unchecked(  # type: ignore[attr-defined]
            X, spec.kind, spec.height, spec.width, spec.amount, spec.probability, spec.fill, seed, step, place
        )
    return X, mixing
