"""Layers, losses, initializers, optimizers and schedules in JSON, and back."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from . import initializers, layers, losses, optimizers, schedules
from ._typing import JSON
from .names import listing
from .schema import printable

__all__ = ["NETWORK_PARTS", "TRAINING_PARTS", "build", "classes", "describe"]
__dir__ = listing(__all__)

#: Modules whose dataclasses describe a network, and a training.
NETWORK_PARTS = (layers, losses, initializers)
TRAINING_PARTS = (optimizers, schedules)


def describe(item: Any) -> JSON:
    """A layer, loss, initializer, optimizer or schedule in JSON: the fields of its dataclass, and its class as "type".

    Fields that JSON cannot express (a user's own function) are left out, so that `build` gives their defaults. A
    schedule of a user's own class becomes an OwnSchedule.

    Raises
    ------
    TypeError
        If it is of another class that is not fastnn's: it could not be built again.
    """
    if isinstance(item, schedules.Schedule) and not _known(item, (schedules,)):
        item = schedules.OwnSchedule.of(item)
    if not _known(item, (*NETWORK_PARTS, *TRAINING_PARTS)):
        kind = type(item)
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not fastnn's own: what it is cannot be saved")
    names = {id(function): name for name, function in initializers.INITIALIZERS.items()}
    fields = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        if id(value) in names:
            value = names[id(value)]
        elif isinstance(value, schedules.Schedule) or _known(value, (initializers, layers)):
            value = describe(value)
        elif callable(value):
            continue
        fields[field.name] = value
    return {"type": type(item).__name__, **fields}


def _known(item: object, modules: tuple[ModuleType, ...]) -> bool:
    """Whether it is of a class that a description may name, and not of one that has only its name."""
    return classes(modules).get(type(item).__name__) is type(item)


def build(data: Any, modules: tuple[ModuleType, ...] = NETWORK_PARTS) -> Any:
    """The inverse of `describe`; ValueError or TypeError for anything that it cannot have written."""
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ValueError(f'expected an object with a "type", got {data!r:.60}')
    known = classes(modules)
    if data["type"] not in known:
        raise ValueError(f"unknown type {data['type']!r:.60}; this version knows {', '.join(known)}")
    cls = known[data["type"]]
    fields = {
        key: build(value, modules) if isinstance(value, dict) else value for key, value in data.items() if key != "type"
    }
    unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"{data['type']} has no option {printable(', '.join(sorted(unknown))):.60}")
    return cls(**fields)


def classes(modules: tuple[ModuleType, ...]) -> dict[str, type]:
    """The dataclasses that a description may name: the public ones of these modules, and no others."""
    return {
        name: cls
        for module in modules
        for name in module.__all__
        if isinstance(cls := getattr(module, name), type) and dataclasses.is_dataclass(cls)
    }
