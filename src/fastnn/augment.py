"""Augmentation: random changes of the training rows, new ones in every step.

``net.fit(X, y, augment=[fnn.augment.Shift(2), fnn.augment.HorizontalFlip()])`` trains on changed copies of the rows,
made one after the other by the augmentations in their order; X itself, validation rows and predictions are left alone.
Each is a small immutable description. What happens to a row depends on the seed of the training, drawn from its
generator when it begins, on the number of the update and on the row's place in its batch, and on nothing else: not on
`threads`, and a resumed training goes on with the same draws as one that was not interrupted. The rows are changed as
batches are gathered, so that nothing but a batch is copied.

Images are rows of H · W · C features in C order: line by line, and of each pixel the channels next to each other.
`shape` is (H, W) or (H, W, C); without it, square images of one channel are assumed if the number of features is a
square, and of three channels if it is three times a square. `fill` and `std` are in the units of X.

:func:`fastnn.reference.augment_rows` has the formulas, but for those of :class:`Mixup`, which takes a second row of the
batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

from . import names
from ._typing import JSON
from .checks import check_integer, check_number
from .plan import AugmentSpec

__all__ = ["Augmentation", "Crop", "Erase", "HorizontalFlip", "Mixup", "Noise", "Rotation", "Shift"]
__dir__ = names.listing(__all__)

#: Of shapes, and of pixels.
_MOST = 2**31 - 1


class Augmentation:
    """What every augmentation offers: an immutable description and :meth:`spec`."""

    kind: ClassVar[str]
    shape: tuple[int, ...] | None = None
    fill: float = 0.0

    def spec(self, n_features: int, input_scale: float | None = None) -> AugmentSpec:
        """The augmentation as flat numbers, for rows of that many features.

        Raises
        ------
        ValueError
            If they are not images of its shape.
        """
        scale = 1.0 if input_scale is None else input_scale
        height, width, channels = self._image(n_features)
        amount, probability = self._numbers(scale)
        if amount >= 2.0**31:
            raise ValueError(f"augment: {self!r} is too large with input_scale={input_scale!r}")
        return AugmentSpec(self.kind, height, width, channels, amount, probability, self.fill * scale)

    def _numbers(self, scale: float) -> tuple[float, float]:
        """Amount and probability, for features that are multiplied by `scale`."""
        raise NotImplementedError

    def _image(self, n_features: int) -> tuple[int, int, int]:
        """Height, width and channels."""
        if self.shape is not None:
            height, width, channels = (*self.shape, 1)[:3]
            if height * width * channels != n_features:
                raise ValueError(
                    f"augment: {self!r} needs rows of {height} * {width} * {channels} = {height * width * channels} "
                    f"features, got {n_features}"
                )
            return height, width, channels
        for channels in (1, 3):
            side = math.isqrt(n_features // channels)
            if side * side * channels == n_features:
                return side, side, channels
        raise ValueError(
            f"augment: {self!r} needs the shape of the images: {n_features} features are no square ones of one or "
            "three channels; give shape=(H, W) or (H, W, C)"
        )

    def _set(self, **checked: object) -> None:
        for name, value in checked.items():  # the dataclasses are frozen once they are checked
            object.__setattr__(self, name, value)

    def _check_image(self) -> None:
        """Check `shape` and, where there is one, `fill`."""
        if self.shape is not None:
            if not isinstance(self.shape, (tuple, list)) or len(self.shape) not in (2, 3):
                raise TypeError(f"shape: expected (H, W) or (H, W, C), got {self.shape!r}")
            self._set(shape=tuple(check_integer("shape", length, maximum=_MOST) for length in self.shape))
        if "fill" in (field.name for field in fields(self)):  # type: ignore[arg-type]
            self._set(fill=check_number("fill", self.fill))


@names.explained
@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds independent normal noise to every feature: x + std z, z ~ N(0, 1). For any data, not for images alone.

    Parameters
    ----------
    std : float
        Standard deviation, at least 0, in the units of X; with the linear model and the squared error it is the
        penalty ½ std² ‖w‖² (Bishop 1995).

    Raises
    ------
    ValueError, TypeError
        If it is negative or not a number.
    """

    kind = "noise"
    std: float

    def __post_init__(self) -> None:
        self._set(std=check_number("std", self.std, minimum=0.0, below=2.0**31))

    def _image(self, n_features: int) -> tuple[int, int, int]:
        return 1, n_features, 1

    def _numbers(self, scale: float) -> tuple[float, float]:
        return self.std * abs(scale), 1.0


@names.explained
@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves an image by up to `pixels` up or down, and as many left or right, all whole distances alike likely.

    It is the random crop of an image that was padded by `pixels` on all sides.

    Parameters
    ----------
    pixels : int, default=2
        At least 0.
    fill : float, default=0.0
        What comes in at the edges.
    shape : tuple of int, optional
        (H, W) or (H, W, C).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.
    """

    kind = "shift"
    pixels: int = 2
    fill: float = 0.0
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._set(pixels=check_integer("pixels", self.pixels, minimum=0, maximum=_MOST))
        self._check_image()

    def _numbers(self, scale: float) -> tuple[float, float]:
        return float(self.pixels), 1.0


@names.explained
@dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirrors an image, left to right, with the given probability.

    Parameters
    ----------
    probability : float, default=0.5
        In [0, 1].
    shape : tuple of int, optional
        (H, W) or (H, W, C).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.
    """

    kind = "flip"
    probability: float = 0.5
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._set(probability=check_number("probability", self.probability, minimum=0.0, maximum=1.0))
        self._check_image()

    def _numbers(self, scale: float) -> tuple[float, float]:
        return 0.0, self.probability


@names.explained
@dataclass(frozen=True)
class Rotation(Augmentation):
    """Turns an image about its centre by an angle that is uniform on ±`degrees`, bilinear between the pixels.

    Parameters
    ----------
    degrees : float, default=10.0
        In [0, 180].
    fill : float, default=0.0
        What lies outside of the image.
    shape : tuple of int, optional
        (H, W) or (H, W, C).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.
    """

    kind = "rotate"
    degrees: float = 10.0
    fill: float = 0.0
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._set(degrees=check_number("degrees", self.degrees, minimum=0.0, maximum=180.0))
        self._check_image()

    def _numbers(self, scale: float) -> tuple[float, float]:
        return math.radians(self.degrees), 1.0


@names.explained
@dataclass(frozen=True)
class Erase(Augmentation):
    """Fills a square of an image with the given probability; its centre may be any pixel, all alike likely.

    Parts of the square may thus lie outside (DeVries and Taylor 2017, "cutout").

    Parameters
    ----------
    size : int, default=8
        Side of the square, at least 0.
    probability : float, default=0.5
        In [0, 1].
    fill : float, default=0.0
    shape : tuple of int, optional
        (H, W) or (H, W, C).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.
    """

    kind = "erase"
    size: int = 8
    probability: float = 0.5
    fill: float = 0.0
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._set(
            size=check_integer("size", self.size, minimum=0, maximum=_MOST),
            probability=check_number("probability", self.probability, minimum=0.0, maximum=1.0),
        )
        self._check_image()

    def _numbers(self, scale: float) -> tuple[float, float]:
        return float(self.size), self.probability


@names.explained
@dataclass(frozen=True)
class Crop(Augmentation):
    """Cuts a part of an image out and makes it as large as the image again, bilinear between the pixels.

    Its height and width are the image's times the same s, uniform on [scale, 1], and its place is uniform (Szegedy et
    al. 2015, section 6, without other ratios of height to width). :class:`Shift` crops without a change of size.

    Parameters
    ----------
    scale : float, default=0.8
        Smallest share of height and width, in (0, 1].
    shape : tuple of int, optional
        (H, W) or (H, W, C).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.

    References
    ----------
    Szegedy et al., "Going deeper with convolutions", 2015.
    """

    kind = "crop"
    scale: float = 0.8
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._set(scale=check_number("scale", self.scale, above=0.0, maximum=1.0))
        self._check_image()

    def _numbers(self, scale: float) -> tuple[float, float]:
        return self.scale, 1.0


@names.explained
@dataclass(frozen=True)
class Mixup(Augmentation):
    """Mixes every row with another one of its batch, and their targets alike (Zhang et al. 2018). For any data.

    ::

        x̃ = λ x_i + (1 − λ) x_j        ℓ̃ = λ ℓ(z̃, y_i) + (1 − λ) ℓ(z̃, y_j)        λ ~ Beta(α, α)

    j is uniform over the rows of the batch; with the cross-entropy ℓ̃ is the loss of the mixed target
    λ y_i + (1 − λ) y_j. Augmentations before it in the list happen to both rows, those after it to the mixed one. The
    weight of a row is that of x_i; rows of weight 0 are not mixed in. The training loss and accuracy in the history are
    those of the mixed rows: the accuracy counts λ for y_i and 1 − λ for y_j.

    Parameters
    ----------
    alpha : float, default=0.2
        α > 0. Small: nearly all rows are almost one of the two; 1: λ is uniform.

    Raises
    ------
    ValueError, TypeError
        If it is not positive or not a number.

    References
    ----------
    Zhang, Cissé, Dauphin & Lopez-Paz, "mixup: beyond empirical risk minimization", 2018.
    """

    kind = "mixup"
    alpha: float = 0.2

    def __post_init__(self) -> None:
        self._set(alpha=check_number("alpha", self.alpha, above=0.0, below=2.0**31))

    def _image(self, n_features: int) -> tuple[int, int, int]:
        return 1, n_features, 1

    def _numbers(self, scale: float) -> tuple[float, float]:
        return self.alpha, 1.0


def check_augment(augment: object) -> tuple[Augmentation, ...]:
    """The argument `augment` of ``fit``, as a tuple.

    Raises
    ------
    TypeError
        If it is not an iterable of augmentations.
    ValueError
        If there are two mixups among them.
    """
    expected = "augment must be a list of augmentations (fastnn.augment)"
    if isinstance(augment, Augmentation):
        raise TypeError(f"{expected}, got {augment!r}; did you mean [{augment!r}]?")
    if isinstance(augment, (str, dict)) or not isinstance(augment, Iterable):
        raise TypeError(f"{expected}, got {augment!r:.80}")
    found = tuple(augment)
    for index, item in enumerate(found):
        if not isinstance(item, Augmentation):
            hint = f"; did you mean {item.__name__}()?" if isinstance(item, type) else ""
            raise TypeError(f"augment[{index}]: expected an augmentation (fastnn.augment), got {item!r:.80}{hint}")
    if sum(isinstance(item, Mixup) for item in found) > 1:
        raise ValueError(f"augment: expected at most one Mixup, got {list(found)!r:.200}")
    return found


def describe_augment(augment: tuple[Augmentation, ...]) -> list[JSON]:
    """Augmentations in JSON: the fields of each, and its class as "type"."""
    found = []
    for item in augment:
        values = {field.name: getattr(item, field.name) for field in fields(item)}  # type: ignore[arg-type]
        if values.get("shape") is not None:
            values["shape"] = list(values["shape"])
        found.append({"type": type(item).__name__, **values})
    return found
