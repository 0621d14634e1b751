"""The file format of networks: safetensors with a description. :func:`fastnn.load` builds networks from it.

A file holds one tensor for each entry of ``net.parameters``, under the same name ("0.weight", "0.bias", …), and one
metadata entry, ``fastnn``: a JSON description of the network,

::

    {"format": 1, "version": "0.1.0",
     "network": {"layers": [{"type": "Dense", "units": 64, "activation": "relu", …}, …],
                 "input_size": 784, "loss": "cross_entropy", "dtype": "float32", "input_scale": null},
     "metadata": {…the caller's own…}, "sha256": "…"}

The state of a training adds tensors "training.…" (the optimizer's moments, and what callbacks keep), and an entry
"training" of counters, generators and history. "sha256" is the checksum of all the rest: a damaged or edited file is
refused.

Nothing in a file is code: reading it never runs anything from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import files, initializers, layers, losses, optimizers, schedules
from ._typing import JSON, DType
from ._version import __version__
from .checks import check_flag
from .names import listing
from .network import Network
from .training.history import History, StopFlag
from .training.kfac import Factors
from .training.state import TrainingState

__all__ = ["SavedNetwork", "build", "describe", "read", "save"]
__dir__ = listing(__all__)

#: Version of the layout of the description. A file with a higher number is refused.
FORMAT = 1

#: Modules whose dataclasses describe a network.
NETWORK_PARTS = (layers, losses, initializers)

_DTYPES = {"F32": "float32", "F64": "float64"}  # safetensors' names


def save(
    net: Network,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, object] | None = None,
    training_state: bool = False,
) -> None:
    """Save a network: its parameters, its buffers and its description, in the safetensors format.

    The file is written under a temporary name in the same folder and renamed: it appears complete or not at all, and an
    existing file is replaced only by a complete one.

    Parameters
    ----------
    net : Network
    path : str or path-like
        The file; ``.safetensors`` is the usual suffix, none is added.
    metadata : mapping, optional
        Anything of your own that JSON can express (names of classes, a date …); `load` returns it.
    training_state : bool, default=False
        Whether to save what ``fit(resume=True)`` and ``partial_fit`` need to continue: the optimizer's moments, the
        generators, the history, and the states of schedules and callbacks.

    Raises
    ------
    TypeError
        If a state of a callback, or `metadata`, is not a mapping or holds something that JSON cannot express.
    ValueError
        If a parameter or a buffer is not finite (a diverged network), or `metadata` holds NaN or infinity.
    OSError
        If the file cannot be written.

    Notes
    -----
    A function of your own as initializer cannot be described; the loaded layer has the default one. Initializers matter
    only when a network is made, so the loaded network computes the same.
    """
    from safetensors.numpy import save as serialize

    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {type(metadata).__name__}")
    training_state = check_flag("training_state", training_state)
    tensors = {}
    names = net.feature_names
    if names is not None and not (len(names) == net.input_size and all(isinstance(name, str) for name in names)):
        raise ValueError(f"feature_names: expected {net.input_size} names or None, got {names!r:.60}")
    # Copies first: another thread may be training the network, and the checksum is of what is written.
    theta, state = net.theta.copy(), net.state.copy()
    for name, offset, shape in net.layout:
        values = theta[offset : offset + math.prod(shape)].reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError(f"parameter {name!r} has values that are not finite; the network was not saved")
        tensors[name] = values
    if not np.isfinite(state).all():
        raise ValueError("the network's state (buffers) has values that are not finite; it was not saved")
    if state.size:
        tensors["state"] = state
    description = {"format": FORMAT, "version": __version__, "network": _describe_network(net)}
    try:
        description["metadata"] = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
        if training_state:
            description["generator"] = _describe_generator(net.generator)
            if net.training_state is not None:
                description["training"] = _describe_training(net.training_state, tensors)
        description["sha256"] = _checksum(description, tensors)
        text = json.dumps(description, allow_nan=False, ensure_ascii=False)
        text.encode()  # lone surrogates cannot be stored
    except TypeError as error:
        raise TypeError(f"metadata must hold only what JSON can express: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata must hold only what JSON can express: {error}") from error
    with files.write_aside(path) as temporary:
        temporary.write_bytes(serialize(tensors, {"fastnn": text}))


# ------------------------------------------------------------------ description


def _describe_network(net: Network) -> JSON:
    loss = net.loss_function.shorthand
    return {
        "layers": [describe(layer) for layer in net.layers],
        "input_size": int(net.input_size),
        "loss": loss if isinstance(loss, str) else describe(loss),
        "dtype": np.dtype(net.dtype).name,
        "input_scale": net.input_scale,
        **({} if net.feature_names is None else {"feature_names": list(net.feature_names)}),
    }


def describe(item: Any) -> JSON:
    """A layer, loss, initializer, optimizer or schedule in JSON: the fields of its dataclass, and its class as "type".

    Fields that JSON cannot express (a user's own function) are left out, so that `build` gives their defaults.
    """
    names = {id(function): name for name, function in initializers.INITIALIZERS.items()}
    fields = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        if id(value) in names:
            value = names[id(value)]
        elif dataclasses.is_dataclass(value) and type(value).__name__ in _classes((initializers, schedules)):
            value = describe(value)
        elif callable(value):
            continue
        fields[field.name] = value
    return {"type": type(item).__name__, **fields}


def build(data: Any, modules: tuple[ModuleType, ...] = NETWORK_PARTS) -> Any:
    """The inverse of `describe`; ValueError or TypeError for anything that it cannot have written."""
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ValueError(f'expected an object with a "type", got {data!r:.60}')
    known = _classes(modules)
    if data["type"] not in known:
        raise ValueError(f"unknown type {data['type']!r}; this version knows {', '.join(known)}")
    cls = known[data["type"]]
    fields = {
        key: build(value, modules) if isinstance(value, dict) else value for key, value in data.items() if key != "type"
    }
    unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"{data['type']} has no option {', '.join(sorted(unknown))}")
    return cls(**fields)


def _classes(modules: tuple[ModuleType, ...]) -> dict[str, type]:
    """The dataclasses that a description may name: the public ones of these modules, and no others."""
    return {
        name: cls
        for module in modules
        for name in module.__all__
        if isinstance(cls := getattr(module, name), type) and dataclasses.is_dataclass(cls)
    }


# ------------------------------------------------------------------ state of the training

_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def _checksum(description: Mapping[str, object], tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the description and of all tensors with their names, types and shapes."""
    text = {key: value for key, value in description.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(text, sort_keys=True, ensure_ascii=True).encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name!r} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.data.cast("B") if values.size else b"")
    return digest.hexdigest()


def _describe_generator(generator: np.random.Generator) -> Any:
    state = generator.bit_generator.state
    if not isinstance(state, dict) or state.get("bit_generator") not in _GENERATORS:
        raise TypeError(f"a generator of NumPy's own ({', '.join(_GENERATORS)}) can be saved, got {generator!r}")
    return files.encode(state)


def _generator(data: Any) -> np.random.Generator:
    state = files.decode(data)
    if not isinstance(state, dict) or state.get("bit_generator") not in _GENERATORS:
        raise ValueError(f"expected the state of a generator, got {data!r:.60}")
    bits = getattr(np.random, state["bit_generator"])(0)
    bits.state = state
    return np.random.Generator(bits)


def _describe_training(training: TrainingState, tensors: dict[str, np.ndarray]) -> JSON:
    """The JSON part; arrays are added to `tensors`."""
    if training.moments.size:
        tensors["training.slots"] = training.moments.copy()
    if (factors := training.factors) is not None:
        tensors["training.factors"] = factors.copy()
    theta, buffers = training.theta, training.buffers  # another thread may set them to None
    elsewhere = theta is not None and buffers is not None
    if theta is not None and buffers is not None:
        if not (np.isfinite(theta).all() and np.isfinite(buffers).all()):
            raise ValueError("the state of the training has parameters that are not finite; it was not saved")
        tensors["training.theta"] = theta.copy()
        if buffers.size:
            tensors["training.state"] = buffers.copy()
    callbacks = []
    for index, (name, state) in enumerate(training.states_of_callbacks()):
        arrays = {}
        for key, value in state.items():
            if isinstance(value, np.ndarray) and value.dtype.name in _DTYPES.values() and value.size:
                arrays[key] = value
                tensors[f"training.callbacks.{index}.{key}"] = np.array(value, order="C")
        rest = {key: files.encode(value) for key, value in state.items() if key not in arrays}
        callbacks.append({"name": name, "state": rest, "tensors": sorted(arrays)})
    return {
        "optimizer": describe(training.optimizer),
        "options": files.encode(training.options),
        "epoch": training.epoch,
        "steps": training.steps,
        "batches": training.batches,
        "stopped": training.stopped,
        "plateau": files.encode(training.plateau),
        "history": files.encode(training.history.to_dict()),
        "generator": _describe_generator(training.generator) if training.own else None,
        "start": files.encode(training.start),
        "elsewhere": elsewhere,
        "callbacks": callbacks,
    }


def _restore_training(
    net: Network, description: Mapping[str, object], tensors: Mapping[str, np.ndarray]
) -> tuple[np.random.Generator | None, TrainingState | None]:
    """Generator of the network and state of its training, checked; any error means that the file is wrong."""
    generator = _generator(description["generator"]) if "generator" in description else None
    data = description.get("training")
    if data is None:
        found = [name for name in tensors if name.startswith("training.")]
        if found:
            raise ValueError(f"tensors {', '.join(sorted(found))} without a description of the training")
        return generator, None
    if not isinstance(data, dict) or generator is None:
        raise ValueError("expected an object and a generator")
    return generator, _TrainingReader(net, data, tensors).state(generator)


class _TrainingReader:
    """The state of a training, from its description and its tensors, each of which must be used."""

    def __init__(self, net: Network, data: JSON, tensors: Mapping[str, np.ndarray]) -> None:
        self._net, self._data, self._tensors = net, data, tensors
        self._unused = {name for name in tensors if name.startswith("training.")}

    def state(self, generator: np.random.Generator) -> TrainingState:
        """The state; `generator` is the network's."""
        data, net = self._data, self._net
        self._check_types()
        optimizer = build(data["optimizer"], (optimizers, schedules))
        if not isinstance(optimizer, optimizers.Optimizer):
            raise ValueError(f"expected an optimizer, got {optimizer!r}")
        moments = self._tensor("training.slots", (optimizer.update_rule().n_moments, net.n_parameters)).copy()
        factors = theta = buffers = None
        if isinstance(optimizer, optimizers.KFAC):
            factors = self._tensor("training.factors", (Factors(net, optimizer, 0.0, 1).size,)).copy()
        if data["elsewhere"]:
            theta = self._tensor("training.theta", net.theta.shape).copy()
            if not np.isfinite(theta).all():
                raise ValueError("tensor 'training.theta' has values that are not finite")
            buffers = self._tensor("training.state", net.state.shape).copy()
        history, plateau, callback_states = self._history(), self._plateau(optimizer), self._callbacks()
        if self._unused:
            raise ValueError(f"tensors {', '.join(sorted(self._unused))} belong to nothing")
        own, start = data["generator"] is not None, files.decode(data["start"])
        if start is not None:
            _generator(data["start"])  # is it one?
        return TrainingState(
            optimizer=optimizer,
            options=files.decode(data["options"]),
            generator=_generator(data["generator"]) if own else generator,
            own=own,
            moments=moments,
            history=history,
            epoch=data["epoch"],
            steps=data["steps"],
            batches=data["batches"],
            plateau=plateau,
            start=start,
            stop_flag=StopFlag(data["stopped"]),
            callback_states=callback_states,
            theta=theta,
            buffers=buffers,
            factors=factors,
        )

    def _check_types(self) -> None:
        for name in ("epoch", "steps", "batches"):
            if type(self._data[name]) is not int or self._data[name] < 0:
                raise ValueError(f"{name} is {self._data[name]!r:.60}")
        for name in ("stopped", "elsewhere"):
            if type(self._data[name]) is not bool:
                raise ValueError(f"{name} is {self._data[name]!r:.60}")

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
        columns = files.decode(self._data["history"])
        history = History(tuple(columns))
        if len({len(column) for column in columns.values()}) != 1 or "epoch" not in columns:
            raise ValueError("the series of the history do not fit each other")
        for name, column in columns.items():
            if not all(type(value) in (int, float) for value in column):
                raise ValueError(f"series {name!r} of the history has something that is not a number")
            history[name].extend(column)
        return history

    def _plateau(self, optimizer: optimizers.Optimizer) -> JSON | None:
        plateau: JSON | None = files.decode(self._data["plateau"])
        schedule = optimizer.learning_rate
        listener = schedule.plateau if isinstance(schedule, schedules.Schedule) else None
        if (listener.start().keys() if listener else None) != (plateau.keys() if plateau is not None else None):
            raise ValueError(f"the schedule's memory is {plateau!r:.60}")
        return plateau

    def _callbacks(self) -> list[tuple[str, JSON]]:
        states = []
        for index, entry in enumerate(self._data["callbacks"]):
            state = {key: files.decode(value) for key, value in entry["state"].items()}
            for key in entry["tensors"]:
                name = f"training.callbacks.{index}.{key}"
                state[key] = self._tensors[name].copy()
                self._unused.discard(name)
            states.append((str(entry["name"]), state))
        return states


# ------------------------------------------------------------------ reading


@dataclasses.dataclass(frozen=True)
class SavedNetwork:
    """What :func:`read` found in a file. Its methods raise ValueErrors that name the file.

    Attributes
    ----------
    path : Path
    tensors : dict of ndarray
    description : dict
        Of the format at the head of this module.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    description: JSON

    @property
    def metadata(self) -> JSON:
        """What `save` was given."""
        return self.description["metadata"]  # type: ignore[no-any-return]

    def describe_network(self) -> tuple[list[layers.Layer], JSON]:
        """Layers and keyword arguments to make the network with; the widths fit the weights."""
        path, network = self.path, self.description["network"]
        stack = []
        for index, data in enumerate(network["layers"]):
            try:
                stack.append(build(data))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: layer {index}: {error}") from error
        _check_widths(path, network["input_size"], stack, self.tensors)
        options = {key: value for key, value in network.items() if key not in ("layers", "feature_names")}
        unknown = options.keys() - {"input_size", "loss", "dtype", "input_scale"}
        if unknown:
            raise ValueError(f"{path}: damaged description: unknown {', '.join(sorted(unknown))}")
        if isinstance(options["loss"], dict):
            try:
                options["loss"] = build(options["loss"])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
        return stack, options

    def restore(self, net: Network) -> None:
        """Give a network of this description its parameters, its buffers and the state of its training."""
        path, tensors = self.path, self.tensors
        expected = net.parameters
        own = [name for name in tensors if not name.startswith("training.") and name != "state"]
        _compare_names(path, expected, own)
        for name, values in expected.items():
            _check_shape(path, name, values.shape, tensors[name])
            if tensors[name].dtype != values.dtype:
                raise ValueError(f"{path}: tensor {name!r} is {tensors[name].dtype}, expected {values.dtype}")
            if not np.isfinite(tensors[name]).all():
                raise ValueError(f"{path}: tensor {name!r} has values that are not finite")
        if net.state.size:
            _check_tensor(path, "state", net.state.shape, net.dtype, tensors)
        elif "state" in tensors:
            raise ValueError(f"{path}: tensor 'state' belongs to no layer of the network described")
        if self.description.get("sha256") != _checksum(self.description, tensors):
            raise ValueError(f"{path}: damaged or edited: its checksum does not fit what is in it")
        try:
            generator, training = _restore_training(net, self.description, tensors)
        except (AttributeError, KeyError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged state of the training: {error}") from error
        for name, values in expected.items():
            values[...] = tensors[name]
        if net.state.size:
            net.state[...] = tensors["state"]
        names = self.description["network"].get("feature_names")
        net.feature_names = None if names is None else tuple(names)
        if generator is not None:
            net.generator = generator
        if training is not None:
            if not training.own:
                training.generator = net.generator
            net.training_state, net.history = training, training.history


def read(path: str | os.PathLike[str]) -> SavedNetwork:
    """Read a file, after the checks that need no network.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, of another kind or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    with open(path, "rb"):  # an OSError for a missing file or a folder, before the library words it in its own way
        pass
    try:
        with safe_open(path, framework="np") as file:
            entry = (file.metadata() or {}).get("fastnn")
            if entry is None:
                raise ValueError(f"{path}: a safetensors file, but not one that fastnn saved (no description in it)")
            description = _check_description(path, entry)
            tensors = {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                kind = file.get_slice(name).get_dtype()
                if kind not in _DTYPES:
                    raise ValueError(f"{path}: tensor {name!r} is of type {kind}, expected F32 or F64")
                tensors[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error
    return SavedNetwork(path, tensors, description)


def _check_description(path: Path, text: str) -> JSON:
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged description: {error}") from error
    form = description.get("format") if isinstance(description, dict) else None
    if not isinstance(form, int) or isinstance(form, bool) or form < 1:
        raise ValueError(f"{path}: damaged description: no format number")
    if form > FORMAT:
        raise ValueError(
            f"{path}: saved by a newer fastnn ({description.get('version')}): format {form}, this version reads up to "
            f"{FORMAT}"
        )
    network, metadata = description.get("network"), description.setdefault("metadata", {})
    if not isinstance(network, dict) or not isinstance(metadata, dict):
        raise ValueError(f"{path}: damaged description: no network, or metadata that is not an object")
    for key, kinds in (("layers", list), ("input_size", int), ("loss", (str, dict)), ("dtype", str)):
        if not isinstance(network.get(key), kinds) or isinstance(network[key], bool):
            raise ValueError(f"{path}: damaged description: {key} is {network.get(key)!r:.60}")
    names = network.get("feature_names")
    if names is not None and not (
        isinstance(names, list) and len(names) == network["input_size"] and all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"{path}: damaged description: feature_names is {names!r:.60}")
    checked: JSON = description
    return checked


def _check_widths(path: Path, width: int, stack: list[layers.Layer], tensors: dict[str, np.ndarray]) -> None:
    """Compare weights with the widths described, before memory for them is taken: a damaged width may be huge."""
    for index, layer in enumerate(stack):
        units = getattr(layer, "units", None)
        if units is not None:
            name = f"{index}.weight"
            if name not in tensors:
                raise ValueError(f"{path}: missing tensor {name!r}")
            _check_shape(path, name, (width, units), tensors[name])
            width = units


def _compare_names(path: Path, expected: Mapping[str, object], tensors: list[str]) -> None:
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ValueError(f"{path}: missing tensor {', '.join(map(repr, missing))}")
    extra = [name for name in tensors if name not in expected]
    if extra:
        raise ValueError(f"{path}: tensor {', '.join(map(repr, extra))} belongs to no layer of the network described")


def _check_shape(path: Path, name: str, shape: tuple[int, ...], tensor: np.ndarray) -> None:
    if tensor.shape != tuple(shape):
        raise ValueError(f"{path}: tensor {name!r} has shape {tensor.shape}, expected {tuple(shape)}")


def _check_tensor(
    path: Path, name: str, shape: tuple[int, ...], dtype: DType, tensors: Mapping[str, np.ndarray]
) -> None:
    if name not in tensors:
        raise ValueError(f"{path}: missing tensor {name!r}")
    _check_shape(path, name, shape, tensors[name])
    if tensors[name].dtype != dtype or not np.isfinite(tensors[name]).all():
        raise ValueError(f"{path}: tensor {name!r} is {tensors[name].dtype}, expected finite values of {dtype}")
