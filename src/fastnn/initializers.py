"""Distributions of initial parameters.

Every initializer is a callable ``(fan_in, fan_out, shape, rng) -> ndarray``; a layer takes one, or the name of one,
or a number for a constant. `fan_in` and `fan_out` are the inputs and outputs of the *layer*, for its weight and its
bias alike; the bias does not count as an input. All draws are made in float64 and cast to the network's dtype
afterwards, so that a float32 and a float64 network of one seed start from the same numbers.

======================  ==========================================================================================
name                    distribution
======================  ==========================================================================================
``"glorot_uniform"``    U(-a, a), a = √(6 / (fan_in + fan_out))
``"glorot_normal"``     N(0, σ²), σ = √(2 / (fan_in + fan_out))
``"he_uniform"``        U(-a, a), a = √(6 / fan_in)
``"he_normal"``         N(0, σ²), σ = √(2 / fan_in)
``"lecun_uniform"``     U(-a, a), a = √(3 / fan_in)
``"lecun_normal"``      N(0, σ²), σ = √(1 / fan_in)
``"xavier_half"``       U(-a, a), a = √(0.5 / (fan_in + fan_out)), Glorot's limit / √12
``"uniform_half"``      U(-0.5, 0.5)
``"uniform"``           ``Uniform()``: U(-0.05, 0.05)
``"normal"``            ``Normal()``: N(0, 0.05²)
``"zeros"``             0
======================  ==========================================================================================

The normal distributions are not truncated (torch's are not either; Keras truncates its at two standard deviations).
Some programs draw the bias from the distribution of the weight: ``Dense(n, init="xavier_half",
bias_init="xavier_half")`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from . import names
from .checks import check_number

__all__ = [
    "INITIALIZERS",
    "Constant",
    "Initializer",
    "Normal",
    "Uniform",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "uniform_half",
    "xavier_half",
    "zeros",
]
__dir__ = names.listing(__all__)

Shape = tuple[int, ...]
Initializer = Callable[[int, int, Shape, np.random.Generator], np.ndarray]


def _uniform(limit: float, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-limit, limit, shape)


def glorot_uniform(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(-a, a) with a = √(6 / (fan_in + fan_out)); Glorot and Bengio 2010, equation 16. Returns float64 `shape`."""
    return _uniform(math.sqrt(6.0 / (fan_in + fan_out)), shape, rng)


def glorot_normal(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """N(0, 2 / (fan_in + fan_out)), not truncated; Glorot and Bengio 2010, equation 12. Returns float64 `shape`."""
    return rng.normal(0.0, math.sqrt(2.0 / (fan_in + fan_out)), shape)


def he_uniform(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(-a, a) with a = √(6 / fan_in), variance 2 / fan_in; He et al. 2015, equation 10. Returns float64 `shape`."""
    return _uniform(math.sqrt(6.0 / fan_in), shape, rng)


def he_normal(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """N(0, 2 / fan_in), not truncated; He et al. 2015, equation 10. Returns float64 `shape`."""
    return rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)


def lecun_uniform(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(-a, a) with a = √(3 / fan_in), variance 1 / fan_in; LeCun et al. 1998, equation 16. Returns float64 `shape`."""
    return _uniform(math.sqrt(3.0 / fan_in), shape, rng)


def lecun_normal(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1 / fan_in), not truncated; LeCun et al. 1998, equation 16. Returns float64 `shape`."""
    return rng.normal(0.0, math.sqrt(1.0 / fan_in), shape)


def xavier_half(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(-a, a) with a = √(0.5 / (fan_in + fan_out)), variance 1 / (6 (fan_in + fan_out)). Returns float64 `shape`.

    A narrow variant that goes by the name "Xavier" in some programs; Glorot's limit is √12 times as wide.
    """
    return _uniform(math.sqrt(0.5 / (fan_in + fan_out)), shape, rng)


def uniform_half(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(-0.5, 0.5), whatever the fans; variance 1/12. Returns float64 `shape`."""
    return _uniform(0.5, shape, rng)


def zeros(fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Zeros, without drawing from `rng`. Returns float64 `shape`."""
    return np.zeros(shape)


@dataclass(frozen=True)
class Uniform:
    """U(-limit, limit), whatever the fans.

    Parameters
    ----------
    limit : float, default=0.05
        At least 0.

    Raises
    ------
    ValueError, TypeError
        If `limit` is not a finite number at least 0.
    """

    limit: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_number("limit", self.limit, minimum=0.0))

    def __call__(self, fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return _uniform(self.limit, shape, rng)


@dataclass(frozen=True)
class Normal:
    """N(mean, std²), whatever the fans.

    Parameters
    ----------
    std : float, default=0.05
        Standard deviation, at least 0.
    mean : float, default=0.0

    Raises
    ------
    ValueError, TypeError
        If `std` is not a finite number at least 0, or `mean` no finite number.
    """

    std: float = 0.05
    mean: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", check_number("std", self.std, minimum=0.0))
        object.__setattr__(self, "mean", check_number("mean", self.mean))

    def __call__(self, fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(self.mean, self.std, shape)


@dataclass(frozen=True)
class Constant:
    """One value everywhere, without drawing from the generator.

    Parameters
    ----------
    value : float, default=0.0

    Raises
    ------
    ValueError, TypeError
        If `value` is not a finite number.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", check_number("value", self.value))

    def __call__(self, fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value)


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "xavier_half": xavier_half,
    "uniform_half": uniform_half,
    "uniform": Uniform(),
    "normal": Normal(),
    "zeros": zeros,
}


def get(init: object, name: str = "init") -> Initializer:
    """The initializer that `init` names: a name of the table, a callable, or a number (a constant).

    Parameters
    ----------
    init : str, callable or float
    name : str, default="init"
        Argument to name in an error.

    Returns
    -------
    callable
        ``(fan_in, fan_out, shape, rng) -> ndarray``.

    Raises
    ------
    ValueError
        If the name is unknown or the number is not finite.
    TypeError
        If `init` is of another type.
    """
    if isinstance(init, str):
        if init not in INITIALIZERS:
            hint = names.suggestion(init, INITIALIZERS, names.INITIALIZERS)
            raise ValueError(f"{name}: unknown initializer {init!r}; known: {', '.join(INITIALIZERS)}{hint}")
        return INITIALIZERS[init]
    if callable(init) and not isinstance(init, type):
        return cast(Initializer, init)
    if isinstance(init, (int, float, np.floating, np.integer)) and not isinstance(init, bool):
        return Constant(check_number(name, init))
    hint = f"; did you mean {init.__name__}()?" if isinstance(init, type) else ""
    raise TypeError(f"{name} must be an initializer's name, a callable or a number, got {init!r}{hint}")


def draw(
    init: object, fan_in: int, fan_out: int, shape: Shape, rng: np.random.Generator, name: str = "init"
) -> np.ndarray:
    """Draw an array from an initializer and check what a user's own callable returned.

    Returns
    -------
    ndarray of float64, `shape`

    Raises
    ------
    ValueError
        If the initializer returned another shape or a value that is not finite.
    """
    initializer = get(init, name)
    if isinstance(init, str):
        return initializer(fan_in, fan_out, shape, rng)
    values = np.asarray(initializer(fan_in, fan_out, shape, rng), dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"{name}: expected an array of shape {shape} from the initializer, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite values from the initializer, got some that are not")
    return values
