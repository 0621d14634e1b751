"""The state of a training in a file: written, checked, and read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import optimizers, schedules
from ._typing import JSON
from .callbacks import EarlyStopping
from .descriptions import TRAINING_PARTS, build, describe
from .generators import check_generator, describe_generator, restore_generator
from .names import listing
from .network import Network
from .schema import (
    FLAG,
    NUMBER,
    TEXT,
    VALUE,
    Anything,
    Choice,
    Items,
    Maybe,
    OneOf,
    Real,
    Record,
    Whole,
    decode,
    encode,
)
from .training.averages import Averages
from .training.data import RESERVED
from .training.history import SERIES, History, StopFlag
from .training.second_order import curvature_of
from .training.state import TrainingState

__all__ = ["describe_training", "give_training", "pack_training", "restore_training", "unpack_training"]
__dir__ = listing(__all__)

_DTYPES = ("float32", "float64")
_OPTION = OneOf((Choice((None, True, False)), Real(), TEXT))
_AUGMENTATION = Record({"type": TEXT}, {"shape": Maybe(Items(Whole(1), minimum=2, maximum=3))}, Real())
_OPTIONS = Record(
    optional={
        "batch_size": Maybe(Whole(1)),
        "steps_per_epoch": Maybe(Whole(1)),
        "n_rows": Whole(),
        **dict.fromkeys(("shuffle", "deterministic"), FLAG),
        **dict.fromkeys(("l1", "l2", "validation_split"), Real(0.0)),
        **dict.fromkeys(("clip_norm", "clip_value"), Maybe(Real(0.0))),
        "ema": Real(0.0, 1.0),
        "augment": Items(_AUGMENTATION, minimum=1),
    },
    others=_OPTION,
)
_PLATEAU = Record({"scale": Real(0.0, 1.0), "best": Maybe(NUMBER), "waited": Whole(), "cooling": Whole()})
_CALLBACK = Record({"name": TEXT, "state": Record(others=VALUE), "tensors": Items(TEXT)})
_TRAINING = Record(
    {
        "optimizer": Record({"type": TEXT}, others=Anything()),
        "options": _OPTIONS,
        **dict.fromkeys(("epoch", "steps", "batches"), Whole()),
        **dict.fromkeys(("stopped", "elsewhere"), FLAG),
        "plateau": Maybe(_PLATEAU),
        "history": Record({"epoch": Items(Whole(1))}, others=Items(NUMBER)),
        **dict.fromkeys(("generator", "start"), Maybe(Record({"bit_generator": TEXT}, others=Anything()))),
        "callbacks": Items(_CALLBACK, maximum=10_000),
    },
    {"augment_seed": Whole()},
)


def describe_training(net: Network, training: TrainingState, tensors: dict[str, np.ndarray]) -> JSON:
    """The JSON part; arrays are added to `tensors`.

    Raises
    ------
    TypeError
        If the state of a callback is not a mapping or holds something that JSON cannot express.
    ValueError
        If the state could not be read again: values that are not finite, a callback's state of too many levels.
    """
    if training.moments.size:
        tensors["training.slots"] = training.moments.copy()
    if (factors := training.factors) is not None:
        tensors["training.factors"] = factors.copy()
    if (averages := training.averages) is not None:
        tensors["training.average"] = averages.theta.copy()
        if averages.buffers.size:
            tensors["training.average_state"] = averages.buffers.copy()
    theta, buffers = training.theta, training.buffers  # another thread may set them to None
    elsewhere = theta is not None and buffers is not None
    if theta is not None and buffers is not None:
        tensors["training.theta"] = theta.copy()
        if buffers.size:
            tensors["training.state"] = buffers.copy()
    for name, values in tensors.items():
        if name.startswith("training.") and not np.isfinite(values).all():
            raise ValueError(f"the state of the training ({name}) has values that are not finite; it was not saved")
    history = training.history.to_dict()
    data = {
        "optimizer": describe(training.optimizer),
        "options": encode(training.options),
        "epoch": training.epoch,
        "steps": training.steps,
        "batches": training.batches,
        "stopped": training.stopped,
        "plateau": encode(training.plateau),
        "history": encode(history),
        "generator": describe_generator(training.generator) if training.own else None,
        "start": encode(training.start),
        "elsewhere": elsewhere,
        "callbacks": _describe_callbacks(training, tensors),
    }
    if training.augment_seed is not None:
        data["augment_seed"] = training.augment_seed
    _check(data)
    return data


def _describe_callbacks(training: TrainingState, tensors: dict[str, np.ndarray]) -> list[JSON]:
    found = []
    for index, (name, state) in enumerate(training.states_of_callbacks()):
        if not isinstance(state, Mapping):
            raise TypeError(f"callbacks: expected a dict from get_state() of {name}, got {type(state).__name__}")
        arrays = {}
        for key, value in state.items():
            if isinstance(value, np.ndarray) and value.dtype.name in _DTYPES and value.size:
                arrays[key] = value
                tensors[f"training.callbacks.{index}.{key}"] = np.array(value, order="C")
        try:
            rest = {key: encode(value) for key, value in state.items() if key not in arrays}
        except TypeError as error:
            raise TypeError(f"callbacks: the state of {name} must hold only what JSON can express: {error}") from error
        found.append({"name": name, "state": rest, "tensors": sorted(arrays)})
    return found


def _check(data: JSON) -> None:
    """Raise a ValueError unless it is what `describe_training` writes, as far as that tells without the network."""
    _TRAINING.check(data, "training")
    for name in ("generator", "start"):
        if data[name] is not None:
            check_generator(data[name], f"training.{name}")
    lengths = {name: len(series) for name, series in data["history"].items()}
    if len(set(lengths.values())) != 1 or lengths["epoch"] > data["epoch"]:
        raise ValueError(f"the history does not fit {data['epoch']} epochs, or its series each other: {lengths!r:.80}")


def restore_training(
    net: Network, description: Mapping[str, object], tensors: Mapping[str, np.ndarray]
) -> tuple[np.random.Generator | None, TrainingState | None]:
    """Generator of the network and state of its training.

    Raises
    ------
    ValueError
        If they are not what `describe_training` writes, or do not fit the network or each other.
    """
    generator = restore_generator(description["generator"]) if "generator" in description else None
    data = description.get("training")
    if data is None:
        found = [name for name in tensors if name.startswith("training.")]
        if found:
            raise ValueError(f"tensors {', '.join(map(repr, sorted(found))):.200} without a description of it")
        return generator, None
    if not isinstance(data, dict) or generator is None:
        raise ValueError("expected an object and a generator")
    _check(data)
    try:
        return generator, _TrainingReader(net, data, tensors).state(generator)
    except TypeError as error:  # of an optimizer's or a schedule's options
        raise ValueError(str(error)) from error


def give_training(net: Network, generator: np.random.Generator | None, training: TrainingState | None) -> None:
    """Give a network what :func:`restore_training` has returned."""
    if generator is not None:
        net.generator = generator
    if training is not None:
        if not training.own:
            training.generator = net.generator
        net.training_state, net.history = training, training.history


def pack_training(net: Network) -> tuple[JSON, dict[str, np.ndarray]]:
    """What ``fit(resume=True)`` needs beside parameters and buffers: a part in JSON, and copies of arrays."""
    tensors: dict[str, np.ndarray] = {}
    description: JSON = {"generator": describe_generator(net.generator)}
    if net.training_state is not None:
        description["training"] = describe_training(net, net.training_state, tensors)
    return description, tensors


def unpack_training(net: Network, description: JSON, tensors: Mapping[str, np.ndarray]) -> None:
    """Give a network what :func:`pack_training` has returned.

    Raises
    ------
    ValueError
        If it cannot have.
    """
    give_training(net, *restore_training(net, description, tensors))


class _TrainingReader:
    """The state of a training, from its checked description and its tensors, each of which must be used."""

    def __init__(self, net: Network, data: JSON, tensors: Mapping[str, np.ndarray]) -> None:
        self._net, self._data, self._tensors = net, data, tensors
        self._unused = {name for name in tensors if name.startswith("training.")}

    def state(self, generator: np.random.Generator) -> TrainingState:
        """The state; `generator` is the network's."""
        data, net = self._data, self._net
        optimizer = build(data["optimizer"], TRAINING_PARTS)
        if not isinstance(optimizer, optimizers.Optimizer):
            raise ValueError(f"expected an optimizer, got {optimizer!r:.60}")
        moments = self._tensor("training.slots", (optimizer.update_rule().n_moments, net.n_parameters)).copy()
        factors = theta = buffers = None
        if (curvature := curvature_of(net, optimizer, 0.0, 1)) is not None:
            factors = self._tensor("training.factors", (curvature.size,)).copy()
        if data["elsewhere"]:
            theta = self._tensor("training.theta", net.theta.shape).copy()
            buffers = self._tensor("training.state", net.state.shape).copy()
        averages, options = None, decode(data["options"])
        if "ema" in options:
            parts = (("training.average", net.theta.shape), ("training.average_state", net.state.shape))
            averages = Averages(options["ema"], *(self._tensor(name, shape).copy() for name, shape in parts))
        history, callback_states = self._history(), self._callbacks()
        self._check_plateau(optimizer)
        if self._unused:
            raise ValueError(f"tensors {', '.join(map(repr, sorted(self._unused))):.200} belong to nothing")
        own = data["generator"] is not None
        return TrainingState(
            optimizer=optimizer,
            options=options,
            generator=restore_generator(data["generator"]) if own else generator,
            own=own,
            moments=moments,
            history=history,
            epoch=data["epoch"],
            steps=data["steps"],
            batches=data["batches"],
            plateau=decode(data["plateau"]),
            start=decode(data["start"]),
            stop_flag=StopFlag(data["stopped"]),
            callback_states=callback_states,
            theta=theta,
            buffers=buffers,
            factors=factors,
            augment_seed=data.get("augment_seed"),
            averages=averages,
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = self._net.dtype
        if 0 in shape:
            return np.zeros(shape, dtype)
        if name not in self._tensors:
            raise ValueError(f"missing tensor {name!r}")
        values = self._tensors[name]
        if values.shape != shape or values.dtype != dtype:
            raise ValueError(f"tensor {name!r} is {values.dtype} {values.shape}, expected {dtype} {shape}")
        self._unused.discard(name)
        return values

    def _history(self) -> History:
        columns = decode(self._data["history"])
        expected = {name for name in SERIES if name != "accuracy" or self._net.loss_function.classifies}
        if not expected <= columns.keys() or columns.keys() & {*RESERVED} - expected:  # others are those of metrics
            raise ValueError(f"the history cannot have the series {list(columns)!r:.100}")
        history = History(tuple(columns))
        for name, column in columns.items():
            history[name].extend(column)
        return history

    def _check_plateau(self, optimizer: optimizers.Optimizer) -> None:
        schedule = optimizer.learning_rate
        if schedules.missing_schedule(schedule):
            return
        listener = schedule.plateau if isinstance(schedule, schedules.Schedule) else None
        if (listener is None) != (self._data["plateau"] is None):
            raise ValueError(f"the memory of {schedule!r:.60} cannot be {self._data['plateau']!r:.60}")

    def _callbacks(self) -> list[tuple[str, JSON]]:
        states = []
        for index, entry in enumerate(self._data["callbacks"]):
            state: dict[str, Any] = {key: decode(value) for key, value in entry["state"].items()}
            for key in entry["tensors"]:
                name = f"training.callbacks.{index}.{key}"
                if name not in self._tensors or key in state:
                    raise ValueError(f"missing tensor {name!r:.100}, or a state of its name")
                state[key] = self._tensors[name].copy()
                self._unused.discard(name)
            if entry["name"] == EarlyStopping.__name__ and state.keys() == EarlyStopping().get_state().keys():
                EarlyStopping().set_state(state, self._net)
            states.append((entry["name"], state))
        return states
