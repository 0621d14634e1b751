"""Learning-rate schedules: small immutable descriptions, given to an optimizer in place of a number.

``fnn.Adam(fnn.CosineDecay(1e-3, 20))``. In the formulas η is `learning_rate`, and t the time since training began:
with ``per="epoch"`` the number of finished epochs, with ``per="step"`` the number of batches gone over.
`CosineDecay` and `WarmUp` count parts of epochs, t = epochs + batches of this epoch / batches per epoch, so that they
change smoothly; the others keep one rate for a whole epoch. With batches from an iterator that has no length, the
time in epochs moves between epochs only.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ._typing import JSON
from .checks import check_integer, check_number
from .names import explained, listing

__all__ = [
    "SCHEDULES",
    "CosineDecay",
    "ExponentialDecay",
    "OwnSchedule",
    "RationalDecay",
    "ReduceOnPlateau",
    "RootDecay",
    "Schedule",
    "StepDecay",
    "WarmUp",
]
__dir__ = listing(__all__)


class Clock(NamedTuple):
    """A moment of training.

    Attributes
    ----------
    step : int
        Batches that training has gone over.
    epoch : int
        Finished epochs.
    part : float
        Finished part of the present epoch, in [0, 1).
    length : int
        Batches in an epoch; 0 where it is not known.
    """

    step: int
    epoch: int
    part: float = 0.0
    length: int = 0

    def time(self, per: str) -> int:
        """Finished epochs, or with "step" batches gone over."""
        return self.step if per == "step" else self.epoch


class Schedule:
    """What every schedule offers: an immutable description and :meth:`rate`; base of schedules of one's own.

    A saved training has a schedule of one's own by its class's name and its attributes (:class:`OwnSchedule`); to
    resume it, give an optimizer with an equal schedule again.

    Attributes
    ----------
    learning_rate : float
        η, the rate that the schedule starts from.
    plateau : ReduceOnPlateau or None
        The part of the schedule that listens to how training goes.
    """

    learning_rate: float
    plateau: ClassVar[Any] = None

    @property
    def smooth(self) -> bool:
        """Whether the rate changes within an epoch."""
        return getattr(self, "per", "epoch") == "step"

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment; `scale` is what a plateau has reduced the rate to, as a factor."""
        raise NotImplementedError

    def _check(self, name: str, **bounds: float) -> None:
        object.__setattr__(self, name, check_number(name, getattr(self, name), **bounds))

    def _check_per(self, per: object) -> None:
        if not isinstance(per, str):
            raise TypeError(f"per must be 'epoch' or 'step', got {per!r}")
        if per not in ("epoch", "step"):
            raise ValueError(f"per must be 'epoch' or 'step', got {per!r}")


@explained
@dataclass(frozen=True)
class RationalDecay(Schedule):
    """η / (1 + d t).

    Parameters
    ----------
    learning_rate : float
        η > 0.
    decay : float, default=1.0
        d ≥ 0.
    per : {"epoch", "step"}, default="epoch"

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    docs/theory.md, eq. 13.1. Keras' InverseTimeDecay; torch has none.
    """

    learning_rate: float
    decay: float = 1.0
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("decay", minimum=0.0)
        self._check_per(self.per)

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        return self.learning_rate / (1.0 + self.decay * clock.time(self.per))


@explained
@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """η kᵗ.

    Parameters
    ----------
    learning_rate : float
        η > 0.
    factor : float, default=0.95
        k in (0, 1].
    per : {"epoch", "step"}, default="epoch"

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    docs/theory.md, eq. 13.2; torch's ExponentialLR. The rate never falls below 1e-300, where it would stop being a
    number above 0.
    """

    learning_rate: float
    factor: float = 0.95
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("factor", above=0.0, maximum=1.0)
        self._check_per(self.per)

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        return max(self.learning_rate * self.factor ** clock.time(self.per), 1e-300)


@explained
@dataclass(frozen=True)
class RootDecay(Schedule):
    """η c / √(t + 1).

    Parameters
    ----------
    learning_rate : float
        η > 0.
    factor : float, default=1.0
        c > 0.
    per : {"epoch", "step"}, default="epoch"

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    docs/theory.md, eq. 13.3.
    """

    learning_rate: float
    factor: float = 1.0
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("factor", above=0.0)
        self._check_per(self.per)

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        return self.learning_rate * self.factor / math.sqrt(clock.time(self.per) + 1.0)


@explained
@dataclass(frozen=True)
class StepDecay(Schedule):
    """η k^⌊t / every⌋.

    Parameters
    ----------
    learning_rate : float
        η > 0.
    factor : float, default=0.1
        k in (0, 1].
    every : int, default=10
        Epochs (or steps) between two reductions, at least 1.
    per : {"epoch", "step"}, default="epoch"

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    torch's StepLR.
    """

    learning_rate: float
    factor: float = 0.1
    every: int = 10
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("factor", above=0.0, maximum=1.0)
        object.__setattr__(self, "every", check_integer("every", self.every))
        self._check_per(self.per)

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        return max(self.learning_rate * self.factor ** (clock.time(self.per) // self.every), 1e-300)


@explained
@dataclass(frozen=True)
class CosineDecay(Schedule):
    """m + ½ (η − m) (1 + cos(π t / T)), and m from t = T on; t counts parts of epochs.

    Parameters
    ----------
    learning_rate : float
        η > 0.
    length : int
        T ≥ 1: epochs, or steps with ``per="step"``.
    minimum : float, default=0.0
        m in [0, η].
    per : {"epoch", "step"}, default="epoch"
        The unit of `length`; the rate changes at every step either way.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts. torch's CosineAnnealingLR, which changes between
    epochs and rises again after T.
    """

    learning_rate: float
    length: int
    minimum: float = 0.0
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        object.__setattr__(self, "length", check_integer("length", self.length))
        self._check("minimum", minimum=0.0, maximum=self.learning_rate)
        self._check_per(self.per)

    @property
    def smooth(self) -> bool:
        """Whether the rate changes within an epoch: it does."""
        return True

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        t = clock.epoch + clock.part if self.per == "epoch" else clock.step
        wave = 1.0 + math.cos(math.pi * min(t / self.length, 1.0))
        return self.minimum + 0.5 * (self.learning_rate - self.minimum) * wave


@explained
@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """η kⁿ, but not below `minimum`: n grows by one whenever a loss or score has not improved for `patience` epochs.

    Parameters
    ----------
    learning_rate : float
        η > 0.
    factor : float, default=0.1
        k in (0, 1).
    patience : int, default=10
        Epochs without an improvement that are waited for, at least 0; the next one without reduces the rate.
    min_delta : float, default=1e-4
        By how much a value must be better than the best to be an improvement, at least 0.
    cooldown : int, default=0
        Epochs after a reduction in which nothing is counted.
    minimum : float, default=0.0
        Lowest rate, in [0, η].
    monitor : str, optional
        A series of the history. None is ``val_loss``, or ``loss`` without validation data.
    mode : {"auto", "min", "max"}, default="auto"
        Whether the series should fall or rise; "auto" goes by its name, if that is one that fastnn gives.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number; by `fit`, if the history does not have that series.

    Notes
    -----
    torch's ReduceLROnPlateau with ``threshold_mode="abs"``. A value that is not a number is no improvement.
    """

    learning_rate: float
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    minimum: float = 0.0
    monitor: str | None = None
    mode: str = "auto"

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("factor", above=0.0, below=1.0)
        object.__setattr__(self, "patience", check_integer("patience", self.patience, minimum=0))
        self._check("min_delta", minimum=0.0)
        object.__setattr__(self, "cooldown", check_integer("cooldown", self.cooldown, minimum=0))
        self._check("minimum", minimum=0.0, maximum=self.learning_rate)
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be the name of a series or None, got {self.monitor!r}")
        check_mode(self.mode)

    @property
    def plateau(self) -> ReduceOnPlateau:
        """Itself: this schedule listens to how training goes."""
        return self

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        return max(self.learning_rate * scale, self.minimum)

    def start(self) -> JSON:
        """What the schedule remembers, at the beginning of training."""
        return {"scale": 1.0, "best": None, "waited": 0, "cooling": 0}

    def update(self, memory: JSON, value: float, rising: bool) -> None:
        """Take the monitored value of an epoch into account."""
        best = memory["best"]
        if improves(value, best, self.min_delta, rising):
            memory.update(best=value, waited=0)
        elif memory["cooling"] == 0:
            memory["waited"] += 1
        if memory["cooling"] > 0:
            memory["cooling"] -= 1
        if memory["waited"] > self.patience:
            memory.update(scale=memory["scale"] * self.factor, waited=0, cooling=self.cooldown)


def check_mode(mode: object) -> str:
    """Whether a monitored series should rise or fall: "auto", "min" or "max"."""
    if not isinstance(mode, str) or mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
    return mode


def improves(value: float, best: float | None, min_delta: float, rising: bool) -> bool:
    """Whether a value is better than the best so far (None: there is none) by more than `min_delta`."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value > best + min_delta if rising else value < best - min_delta


@explained
@dataclass(frozen=True)
class WarmUp(Schedule):
    """η₀ (t + 1) / T for the first T steps, then another schedule, whose time starts there; η₀ is its first rate.

    Parameters
    ----------
    then : Schedule or float
        What follows; a number is a constant rate. Not another WarmUp.
    length : int, default=1
        Epochs (counted in steps: the rate rises at every step), or steps with ``per="step"``; at least 1.
    per : {"epoch", "step"}, default="epoch"
        The unit of `length`.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.

    Notes
    -----
    Goyal et al. 2017, section 2.2, gradual warm-up. With batches from an iterator ``per="epoch"`` rises once an epoch.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.SGD(fnn.WarmUp(fnn.CosineDecay(0.1, 30), 2), momentum=0.9).learning_rate.length
    2
    """

    then: Schedule | float
    length: int = 1
    per: str = "epoch"

    def __post_init__(self) -> None:
        if isinstance(self.then, WarmUp):
            raise TypeError(f"then must be a number or a schedule other than WarmUp, got {self.then!r}")
        if not isinstance(self.then, Schedule):
            self._check("then", above=0.0)
        object.__setattr__(self, "length", check_integer("length", self.length))
        self._check_per(self.per)

    @property
    def learning_rate(self) -> float:  # type: ignore[override]
        """The rate that the warm-up rises to."""
        return self.then.learning_rate if isinstance(self.then, Schedule) else self.then

    @property
    def plateau(self) -> Any:
        """That of the schedule that follows."""
        return self.then.plateau if isinstance(self.then, Schedule) else None

    @property
    def smooth(self) -> bool:
        """Whether the rate changes within an epoch: it does."""
        return True

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """The learning rate at a moment."""
        length = clock.length
        if self.per == "epoch":
            progress = (clock.epoch + clock.part + (1.0 / length if length else 1.0)) / self.length
            after = Clock(clock.step - self.length * length, clock.epoch - self.length, clock.part, length)
            warm = clock.epoch < self.length
        else:
            progress = (clock.step + 1.0) / self.length
            # The epochs that follow are counted from the end of the warm-up, which need not be that of an epoch.
            epochs = clock.epoch + clock.part - (self.length / length if length else 0.0)
            whole = max(math.floor(epochs + 1e-9), 0)
            after = Clock(clock.step - self.length, whole, max(epochs - whole, 0.0), length)
            warm = clock.step < self.length
        if not warm:
            return self.then.rate(after, scale) if isinstance(self.then, Schedule) else self.then
        first = self.then.rate(Clock(0, 0, 0.0, length), scale) if isinstance(self.then, Schedule) else self.then
        return first * min(progress, 1.0)


@dataclass(frozen=True, eq=False)
class OwnSchedule(Schedule):
    """A schedule of a class that is not fastnn's, as files have it: by its name and its values.

    It stands for the schedule in a training or an estimator that was loaded, and equals it; what it does, only the
    class itself knows. ``fit(optimizer=Adam(Own(...)), resume=True)`` goes on with the schedule that is given; without
    one, training is refused.

    Parameters
    ----------
    name : str
        Of the class.
    learning_rate : float
        η > 0.
    values : str
        Its attributes in JSON, as far as JSON can express them.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another type.
    """

    name: str
    learning_rate: float
    values: str = "{}"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.values, str):
            raise TypeError(f"name and values must be texts, got {self.name!r:.60} and {self.values!r:.60}")
        self._check("learning_rate", above=0.0)

    @classmethod
    def of(cls, schedule: Schedule) -> OwnSchedule:
        """What describes a schedule."""
        if isinstance(schedule, OwnSchedule):
            return schedule
        slots = getattr(schedule, "__dataclass_fields__", getattr(schedule, "__slots__", ()))
        names = {*slots, *getattr(schedule, "__dict__", {})}
        values = {}
        for name in sorted(names):
            value = getattr(schedule, name, None)
            if isinstance(value, (np.ndarray, np.generic)):
                value = value.tolist()
            with suppress(TypeError, ValueError):
                values[name] = json.loads(json.dumps(value))
        return cls(type(schedule).__name__, float(schedule.learning_rate), json.dumps(values, sort_keys=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule) or type(other) in SCHEDULES.values():
            return NotImplemented
        other = OwnSchedule.of(other)
        return (self.name, self.learning_rate, self.values) == (other.name, other.learning_rate, other.values)

    def __hash__(self) -> int:
        return hash((self.name, self.learning_rate, self.values))

    def rate(self, clock: Clock, scale: float = 1.0) -> float:
        """Not known."""
        raise TypeError(f"what {self.name} does is not in the file: give the schedule itself")


def missing_schedule(schedule: object) -> str | None:
    """Name of the class of a schedule that is only known by its description, be it within a WarmUp; else None."""
    if isinstance(schedule, WarmUp):
        return missing_schedule(schedule.then)
    return schedule.name if isinstance(schedule, OwnSchedule) else None


SCHEDULES: dict[str, type[Schedule]] = {
    cls.__name__: cls
    for cls in (RationalDecay, ExponentialDecay, RootDecay, StepDecay, CosineDecay, WarmUp, ReduceOnPlateau)
}
