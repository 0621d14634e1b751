"""The files of sweeps and of ensembles, written whole or not at all; what a run resumes from.

A file holds one flat tensor for each dtype, of all arrays behind each other, and one metadata entry,
``fastnn_sweep``: a JSON description in which {"__tensor__": [dtype, offset, shape]} stands for an array. "sha256" is
the checksum of all the rest. Nothing in a file is code.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import augment, files, initializers, io, layers, losses, optimizers, saved_training, schedules, schema, solvers
from .._typing import JSON
from .._version import __version__
from ..array_files import MAX_HEADER, read_tensors
from ..names import listing
from ..network import Network
from ..schema import FLAG, NUMBER, TEXT, Anything, Items, Maybe, OneOf, Record, Schema, Whole
from ..sequential import Sequential
from .runs import Outcome, Run, Weights

__all__ = [
    "ARRAY",
    "CONTENT",
    "build_network",
    "check_lengths",
    "pack",
    "pack_meanwhile",
    "read_file",
    "shown",
    "unpack",
    "unpack_outcome",
    "write_file",
]
__dir__ = listing(__all__)

#: Version of the layout of the description. A file with a higher number is refused.
FORMAT = 1

ENTRY = "fastnn_sweep"

#: Modules whose dataclasses a parameter may be of.
PARTS = (augment, layers, losses, initializers, optimizers, schedules, solvers)


# ------------------------------------------------------------------ runs


def pack(run: Run) -> JSON:
    """A run as it stands, between two epochs: nested values, lists and arrays."""
    active: JSON | None = None
    if run.net is not None and not run.stopped and run.epoch:
        description, tensors = saved_training.pack_training(run.net)
        active = {
            "theta": run.net.theta.copy(),
            "state": run.net.state.copy(),
            "training": description,
            "tensors": tensors,
        }
    return {
        **pack_blank(run),
        "stopped": run.stopped,
        "scores": np.array(run.scores, np.float64),
        "best_epoch": run.best_epoch,
        "seconds": run.seconds,
        "best": _pack_weights(run.best),
        "outcomes": {str(member): pack_outcome(outcome) for member, outcome in run.outcomes.items()},
        "active": active,
    }


def pack_meanwhile(run: Run) -> JSON:
    """A run, which may be at work, as it stood when it was last asked to :func:`pack` itself."""
    with run.lock:
        if run.idle or run.stopped:
            return pack(run)
        if run.snapshot is not None:
            return run.snapshot
        return pack_blank(run)


def pack_blank(run: Run) -> JSON:
    """A run that has not begun."""
    return {
        "number": run.number,
        "fold": run.fold_number,
        "marks": [[mark.epochs, mark.member] for mark in run.marks],
        "stopped": "",
        "scores": np.array([], np.float64),
        "best_epoch": 0,
        "seconds": 0.0,
        "best": None,
        "outcomes": {},
        "active": None,
    }


def unpack(run: Run, packed: JSON) -> None:
    """Let a new run stand where a packed one stood.

    Raises
    ------
    ValueError
        If it is another run.
    """
    marks = [[mark.epochs, mark.member] for mark in run.marks]
    if packed["marks"] != marks or packed["fold"] != run.fold_number or packed["number"] != run.number:
        raise ValueError(f"run {run.number} is of other members or of another fold")
    outcomes = {int(member): unpack_outcome(outcome) for member, outcome in packed["outcomes"].items()}
    if not outcomes.keys() <= {mark.member for mark in run.marks}:
        raise ValueError(f"run {run.number} has outcomes of other members")
    run.outcomes = outcomes
    run.scores = packed["scores"].tolist()
    run.stopped, run.best_epoch, run.seconds = packed["stopped"], packed["best_epoch"], packed["seconds"]
    active = packed["active"]
    if active is None:
        if not run.stopped:
            run.scores, run.best_epoch = [], 0
        return
    run.best = _unpack_weights(packed["best"])
    net = run.model.build(run.recipe)
    assert isinstance(net, Network)
    if net.theta.shape != active["theta"].shape or net.state.shape != active["state"].shape:
        raise ValueError(f"run {run.number}: the model makes another network than before")
    net.theta[...], net.state[...] = active["theta"], active["state"]
    saved_training.unpack_training(net, active["training"], active["tensors"])
    run.net = net


def pack_outcome(outcome: Outcome) -> JSON:
    """An outcome in values and arrays; an estimator is left out."""
    fields = {name: getattr(outcome, name) for name in ("score", "epochs", "best_epoch", "stopped", "seconds")}
    weights, best = _pack_weights(outcome.weights), _pack_weights(outcome.best)
    return {**fields, "series": dict(outcome.series), "weights": weights, "best": best}


def unpack_outcome(packed: JSON) -> Outcome:
    """The inverse of :func:`pack_outcome`."""
    weights, best = _unpack_weights(packed["weights"]), _unpack_weights(packed["best"])
    return Outcome(**{**packed, "weights": weights, "best": best})


def _pack_weights(weights: Weights | None) -> list[np.ndarray] | None:
    return None if weights is None else [weights.theta, weights.state]


def _unpack_weights(packed: list[np.ndarray] | None) -> Weights | None:
    return None if packed is None else Weights(*packed)


# ------------------------------------------------------------------ values of parameters


def shown(value: Any) -> Any:
    """A parameter's value in JSON: what JSON can express, a description of a layer, optimizer and the like, or text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, augment.Augmentation):
            return {"__object__": augment.describe_augment((value,))[0]}
        known = any(getattr(module, type(value).__name__, None) is type(value) for module in PARTS)
        if known:
            return {"__object__": io.describe(value)}
    if callable(value):
        return {"__text__": str(getattr(value, "__qualname__", type(value).__qualname__))}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, Mapping):
        return {"__pairs__": [[shown(key), shown(item)] for key, item in value.items()]}
    try:
        return schema.encode(value)
    except TypeError:
        return {"__text__": repr(value)}


def unshown(value: Any) -> Any:
    """The value of what :func:`shown` has returned; text stays text."""
    if isinstance(value, list):
        return [unshown(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"__object__"}:
            return io.build(value["__object__"], PARTS)
        if value.keys() == {"__text__"}:
            return value["__text__"]
        if value.keys() == {"__pairs__"}:
            return {unshown(key): unshown(item) for key, item in value["__pairs__"]}
    return schema.decode(value)


def build_network(description: JSON, weights: Weights) -> Sequential:
    """A network of a description of :func:`fastnn.io.describe_network`, with these weights.

    Raises
    ------
    ValueError, TypeError
        If they do not fit each other; no memory has been taken then.
    """
    options = {key: value for key, value in description.items() if key in io.ARGUMENTS}
    if isinstance(options["loss"], dict):
        options["loss"] = io.build(options["loss"])
    stack = layers.check_layers([io.build(layer) for layer in description["layers"]])
    layout = layers.lay_out(stack, options["input_size"])
    sizes = sum(math.prod(parameter.shape) for parameter in layout.parameters), layout.n_buffers
    if sizes != (weights.theta.size, weights.state.size):
        raise ValueError(f"{weights.theta.size} parameters do not fit the network described, which has {sizes[0]}")
    net = Sequential(stack, seed=0, **options)
    if not (np.isfinite(weights.theta).all() and np.isfinite(weights.state).all()):
        raise ValueError("parameters or buffers are not finite")
    weights.give(net)
    io.give_names(net, description)
    return net


# ------------------------------------------------------------------ the file


class _Store:
    """Arrays behind each other, one flat array for each dtype; an array that comes twice is kept once.

    Row indices are kept as float64, which holds them exactly: the format of networks has no integers.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}
        self._sizes: dict[str, int] = {}
        self._places: dict[int, tuple[np.ndarray, JSON]] = {}  # the array too: its id stays its own

    def without_arrays(self, value: Any) -> Any:
        """The value with a reference in the place of each array."""
        if isinstance(value, np.ndarray):
            if id(value) not in self._places:
                name = "float32" if value.dtype == np.float32 else "float64"
                offset = self._sizes.get(name, 0)
                self._parts.setdefault(name, []).append(value.ravel().astype(name, copy=False))
                self._sizes[name] = offset + value.size
                self._places[id(value)] = value, {"__tensor__": [value.dtype.name, offset, list(value.shape)]}
            return self._places[id(value)][1]
        if isinstance(value, dict):
            return {key: self.without_arrays(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.without_arrays(item) for item in value]
        return value

    def tensors(self) -> dict[str, np.ndarray]:
        """The flat arrays by dtype."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def _with_arrays(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The value with the arrays in the place of their references; nothing larger than the file is made."""
    if isinstance(value, dict):
        if value.keys() == {"__tensor__"}:
            return _array(value["__tensor__"], tensors)
        return {key: _with_arrays(item, tensors) for key, item in value.items()}
    return [_with_arrays(item, tensors) for item in value] if isinstance(value, list) else value


def _array(place: Any, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if not (isinstance(place, list) and len(place) == 3 and isinstance(place[0], str)):
        raise ValueError(f"{place!r:.60} is no place of an array")
    name, offset, shape = place
    _OFFSET.check(offset, "offset")
    _SHAPE.check(shape, "shape")
    if name not in ("float32", "float64", "int64"):
        raise ValueError(f"arrays cannot be of {name!r:.20}")
    flat = tensors.get("float64" if name == "int64" else name, np.empty(0, name))
    size = math.prod(shape)
    if offset + size > len(flat):
        raise ValueError(f"an array of {size} values at {offset} lies beyond the end of {name}")
    values: np.ndarray = flat[offset : offset + size].reshape(shape)
    if name == "int64":
        if not (np.isfinite(values).all() and (np.abs(values) < 2**53).all() and (values == np.floor(values)).all()):
            raise ValueError("row indices are no integers")
        return values.astype(np.int64)
    return values


def write_file(path: str | os.PathLike[str], content: JSON) -> None:
    """Write nested values and arrays; the file is replaced as a whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    ValueError
        If its description would have more than 100 MB.
    """
    from safetensors.numpy import save as serialize

    store = _Store()
    description: Any = schema.encode(store.without_arrays({"format": FORMAT, "version": __version__, **content}))
    tensors = store.tensors()
    description["sha256"] = io.checksum(description, tensors)
    data = serialize(tensors, {ENTRY: json.dumps(description, allow_nan=False)})
    header = int.from_bytes(data[:8], "little")
    if header > MAX_HEADER:
        raise ValueError(
            f"save: the description of the sweep has {header:,} bytes, more than the {MAX_HEADER:,} of files"
        )
    with files.write_aside(path) as temporary:
        temporary.write_bytes(data)


def read_file(path: str | os.PathLike[str], entries: Mapping[str, Schema], what: str) -> JSON:
    """The inverse of :func:`write_file`.

    Parameters
    ----------
    path : str or path-like
    entries : dict of Schema
        What the file says, beside its format.
    what : str
        What it holds, for messages.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, of another kind or of a newer format.
    """
    path = Path(path)
    metadata, tensors = read_tensors(path)
    if ENTRY not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not of {what}")
    try:
        description = schema.parse(metadata[ENTRY])
        Record({"format": Whole(1), "version": TEXT, "sha256": TEXT, **entries}).check(description, "")
        if description["format"] > FORMAT:
            version = schema.printable(description["version"])
            raise ValueError(f"saved by a newer fastnn ({version:.60}), format {description['format']}")
        if description["sha256"] != io.checksum(description, tensors):
            raise ValueError("damaged or edited: its checksum does not fit what is in it")
        content: JSON = _with_arrays(schema.decode(description), tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


# What a file may say. Descriptions of networks and trainings, and parameters, are checked where they are built.
_OFFSET, _SHAPE = Whole(), Items(Whole(), maximum=8)
ARRAY = Record({"__tensor__": Items(Anything(), 3)})
_WEIGHTS = Maybe(Items(ARRAY, 2))
_OUTCOME = Record(
    {
        "score": NUMBER,
        "epochs": Whole(),
        "best_epoch": Whole(),
        "stopped": TEXT,
        "seconds": NUMBER,
        "series": Record(others=ARRAY),
        "weights": _WEIGHTS,
        "best": _WEIGHTS,
    }
)
_ACTIVE = Record(
    {"theta": ARRAY, "state": ARRAY, "training": Record(others=Anything()), "tensors": Record(others=ARRAY)}
)
_RUN = Record(
    {
        "number": Whole(),
        "fold": Whole(),
        "marks": Items(Items(Whole(), 2), minimum=1),
        "stopped": TEXT,
        "scores": ARRAY,
        "best_epoch": Whole(),
        "seconds": NUMBER,
        "best": _WEIGHTS,
        "outcomes": Record(others=_OUTCOME),
        "active": Maybe(_ACTIVE),
    }
)
_NETWORK = Maybe(Record({"layers": Items(Record(others=Anything())), "input_size": Whole(1)}, others=Anything()))
CONTENT: dict[str, Schema] = {
    "parameters": Items(Record(others=Anything()), minimum=1),
    "outcomes": Items(Items(_OUTCOME, minimum=1), minimum=1),
    "folds": Items(Items(Maybe(ARRAY), 2), minimum=1),
    "metric": Items(OneOf((FLAG, TEXT)), 2),
    "networks": Items(_NETWORK),
    "read_off": Items(Maybe(Whole())),
    "stopped": TEXT,
    "seconds": NUMBER,
    "fingerprint": Maybe(Record(others=TEXT)),
    "runs": Items(_RUN),
    "ensemble": Maybe(Items(Record(others=Anything()), minimum=1)),
    "refitted": Maybe(Record({"weights": Items(ARRAY, 2), "network": _NETWORK})),
}


def check_lengths(content: JSON) -> None:
    """Of a sweep: raise a ValueError unless there is one of each for every member."""
    n, k = len(content["parameters"]), len(content["folds"])
    for name in ("outcomes", "networks", "read_off"):
        if len(content[name]) != n:
            raise ValueError(f"{name} cannot be of {len(content[name])} members, parameters are of {n}")
    if any(len(row) != k for row in content["outcomes"]):
        raise ValueError(f"outcomes cannot be of other than {k} folds")
