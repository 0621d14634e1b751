"""The arguments of ``fit``, typed and checked in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from .. import optimizers
from .._typing import ArrayLike, ClassWeight, Data
from ..augment import Augmentation, check_augment, describe_augment
from ..checks import check_flag, check_integer, check_number, check_threads, check_verbose
from ..metrics import Metrics
from ..optimizers import Optimizer, Solver
from ..schedules import Schedule
from .callback_protocol import check_callbacks
from .history import Callback

__all__ = ["FitOptions", "TrainingOptions", "default"]


T = TypeVar("T")


class _Default:
    """A default that can be told from the same value when it is passed; it prints as the value."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def default(value: T) -> T:
    """The default of an argument of ``fit`` of which :class:`FitOptions` knows whether it was passed."""
    return cast(T, _Default(value))


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingOptions:
    """Arguments of a training run, as :meth:`fastnn.Sequential.fit` documents them, after their check.

    A name of an optimizer becomes the optimizer. `sample_weight`, `class_weight` and `validation_data` are checked
    against the network, by :func:`fastnn.training.data.training_data`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type; the message names it.
    """

    optimizer: Optimizer | Solver | str = "adam"
    batch_size: int | None = 64
    steps_per_epoch: int | None = None
    shuffle: bool = True
    sample_weight: ArrayLike | None = None
    class_weight: ClassWeight | None = None
    validation_data: tuple[Data, ArrayLike] | tuple[Data, ArrayLike, ArrayLike | None] | None = None
    validation_split: float = 0.0
    metrics: Metrics | None = None
    train_metrics: bool = False
    augment: Iterable[Augmentation] = ()
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    threads: int | None = None
    deterministic: bool = False
    record_norms: bool = False
    seed: int | np.random.Generator | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, object] = {}
        if not isinstance(self.optimizer, Solver):
            checked["optimizer"] = optimizers.get(self.optimizer)
        if self.batch_size is not None:
            checked["batch_size"] = check_integer("batch_size", self.batch_size)
        if self.steps_per_epoch is not None:
            checked["steps_per_epoch"] = check_integer("steps_per_epoch", self.steps_per_epoch)
        for name in ("l1", "l2"):
            checked[name] = check_number(name, getattr(self, name), minimum=0.0)
        for name in ("clip_norm", "clip_value"):
            if (value := getattr(self, name)) is not None:
                checked[name] = check_number(name, value, above=0.0)
        if self.ema is not None:
            checked["ema"] = check_number("ema", self.ema, above=0.0, below=1.0)
        if self.clip_value is not None and self.clip_value < self.l1:
            raise ValueError(
                f"clip_value: expected at least l1={self.l1!r}, got {self.clip_value!r}: smaller gradients move no "
                "weight away from 0"
            )
        for name in ("shuffle", "train_metrics", "deterministic", "record_norms", "resume"):
            checked[name] = check_flag(name, getattr(self, name))
        checked["augment"] = check_augment(self.augment)
        checked["threads"] = check_threads(self.threads)
        checked["validation_split"] = check_number("validation_split", self.validation_split, minimum=0.0, below=1.0)
        if self.seed is not None and not isinstance(self.seed, np.random.Generator):
            check_integer("seed", self.seed, minimum=0, maximum=None)
        self._set(checked)

    def _set(self, values: dict[str, object]) -> None:
        self.__dict__.update(values)  # the fields are frozen once they are checked

    def monitors(self) -> list[object]:
        """Series that schedules and callbacks watch, as far as they say so."""
        schedule = self.optimizer.learning_rate if isinstance(self.optimizer, Optimizer) else None
        plateau = schedule.plateau if isinstance(schedule, Schedule) else None
        return [] if plateau is None else [plateau.monitor]

    def to_share(self) -> dict[str, Any]:
        """Those that a resumed run must share with the run before, beside the optimizer and the data."""
        names = ("batch_size", "shuffle", "l1", "l2", "clip_norm", "clip_value", "validation_split", "deterministic")
        shared = {name: getattr(self, name) for name in names}
        if self.steps_per_epoch is not None:
            shared["steps_per_epoch"] = self.steps_per_epoch
        if self.ema is not None:
            shared["ema"] = self.ema
        if self.augment:
            shared["augment"] = describe_augment(tuple(self.augment))
        return shared


@dataclass(frozen=True, kw_only=True, eq=False)
class FitOptions(TrainingOptions):
    """All arguments of :meth:`fastnn.Sequential.fit` but the data; see :class:`TrainingOptions`."""

    epochs: int = default(10)
    batch_size: int | None = default(64)
    shuffle: bool = default(True)
    callbacks: Iterable[Callback] = ()
    verbose: int = 0
    #: Those of `epochs`, `batch_size` and `shuffle` that were passed, be it the default.
    passed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("epochs", "batch_size", "shuffle")}
        defaults = {name: value.value for name, value in given.items() if isinstance(value, _Default)}
        self._set({**defaults, "passed": frozenset(given.keys() - defaults.keys())})
        checked: dict[str, object] = {"epochs": check_integer("epochs", self.epochs)}
        checked["verbose"] = check_verbose(self.verbose)
        checked["callbacks"] = tuple(check_callbacks(self.callbacks))
        self._set(checked)
        super().__post_init__()

    def monitors(self) -> list[object]:
        return [*super().monitors(), *(getattr(callback, "monitor", None) for callback in self.callbacks)]
