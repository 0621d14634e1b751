"""Saving and loading networks as safetensors files.

A file holds one tensor for each entry of ``net.parameters``, under the same name ("0.weight", "0.bias", …), and one
metadata entry, ``fastnn``: a JSON description of the network,

::

    {"format": 1, "version": "0.1.0",
     "network": {"layers": [{"type": "Dense", "units": 64, "activation": "relu", …}, …],
                 "input_size": 784, "loss": "cross_entropy", "dtype": "float32", "input_scale": null},
     "metadata": {…the caller's own…}}

Nothing in it is code: reading a file never runs anything from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import initializers, layers, losses

if TYPE_CHECKING:
    from .network import Sequential

__all__ = ["load", "save"]

#: Version of the layout of the description. A file with a higher number is refused.
FORMAT = 1

_DTYPES = {"F32": "float32", "F64": "float64"}  # safetensors' names


def save(net: Sequential, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
    """Save a network: its parameters and its description, in the safetensors format.

    The file is written aside, in the same folder, and renamed: it appears complete or not at all, and an existing file
    is replaced only by a complete one.

    Parameters
    ----------
    net : Sequential
        The network.
    path : str or path-like
        The file; ``.safetensors`` is the usual suffix, none is added.
    metadata : mapping, optional
        Anything of your own that JSON can express (names of classes, a date …). `load` gives it back.

    Raises
    ------
    TypeError
        If `metadata` is not a mapping or holds something that JSON cannot express.
    ValueError
        If a parameter is not finite (a diverged network), or `metadata` holds NaN or infinity.
    OSError
        If the file cannot be written.

    Notes
    -----
    An initializer that is a function of your own cannot be described; the loaded layer has the default one instead.
    Initializers matter only when a network is made, so the loaded network computes the same.
    """
    from safetensors.numpy import save as serialize

    from . import __version__

    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {type(metadata).__name__}")
    tensors = {}
    for name, values in net.parameters.items():
        if not np.isfinite(values).all():
            raise ValueError(f"parameter {name!r} has values that are not finite; the network was not saved")
        tensors[name] = np.ascontiguousarray(values)
    description = {"format": FORMAT, "version": __version__, "network": _describe(net)}
    try:
        description["metadata"] = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
        text = json.dumps(description, allow_nan=False, ensure_ascii=False)
        text.encode()  # lone surrogates cannot be stored
    except TypeError as error:
        raise TypeError(f"metadata must hold only what JSON can express: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata must hold only what JSON can express: {error}") from error
    with write_aside(path) as temporary:
        temporary.write_bytes(serialize(tensors, {"fastnn": text}))


def load(
    path: str | os.PathLike[str], *, return_metadata: bool = False, backend: str = "compiled"
) -> Sequential | tuple[Sequential, dict[str, Any]]:
    """Load a network that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    return_metadata : bool, default=False
        Whether to return the metadata that `save` was given, too.
    backend : {"compiled", "reference"}, default="compiled"
        What runs the network; the file does not say, any of them can.

    Returns
    -------
    net : Sequential
    metadata : dict
        Only with ``return_metadata=True``.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is damaged, of another kind or of a newer format, or its tensors are not those of the network it
        describes (missing, wrong shape or dtype, not finite). The message names the file and what is wrong.
    """
    from .network import BACKENDS

    if backend not in BACKENDS:  # or it would be reported as a fault of the file
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    path = Path(path)
    tensors, description = _read(path)
    network = description["network"]
    stack = _stack(path, network["layers"])
    _check_widths(path, network["input_size"], stack, tensors)
    net = _build(path, network, stack, backend)
    expected = net.parameters
    _compare_names(path, expected, tensors)
    for name, values in expected.items():
        _check_shape(path, name, values.shape, tensors[name])
        if tensors[name].dtype != values.dtype:
            raise ValueError(f"{path}: tensor {name!r} is {tensors[name].dtype}, expected {values.dtype}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: tensor {name!r} has values that are not finite")
    for name, values in expected.items():
        values[...] = tensors[name]
    return (net, description["metadata"]) if return_metadata else net


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` at the end, or remove it after an error."""
    target = Path(os.path.realpath(path))  # through a symbolic link: the link stays
    check_writable(path)
    temporary = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # otherwise a crash can leave the new name with no content
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError, naming the path, unless a file can be written there. Nothing is left behind."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: not a regular file")  # a device must not be replaced by a file
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    probe = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error


# ------------------------------------------------------------------ description


def _describe(net: Sequential) -> dict[str, Any]:
    return {
        "layers": [encode(layer) for layer in net.layers],
        "input_size": int(net.input_size),
        "loss": net._loss.shorthand if isinstance(net._loss.shorthand, str) else encode(net._loss),
        "dtype": np.dtype(net.dtype).name,
        "input_scale": net.input_scale,
    }


def encode(item: Any) -> Any:
    """A layer, a loss or an initializer as plain JSON data: a dataclass becomes its fields and its class under "type".

    Fields that cannot be expressed (a user's own function) are left out, so that `decode` gives their defaults.
    """
    names = {id(function): name for name, function in initializers.INITIALIZERS.items()}
    fields = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        if id(value) in names:
            value = names[id(value)]
        elif dataclasses.is_dataclass(value) and type(value).__name__ in _classes():
            value = encode(value)
        elif callable(value):
            continue
        fields[field.name] = value
    return {"type": type(item).__name__, **fields}


def decode(data: Any) -> Any:
    """The inverse of `encode`; ValueError or TypeError for anything that it cannot have written."""
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ValueError(f'expected an object with a "type", got {data!r:.60}')
    known = _classes()
    if data["type"] not in known:
        raise ValueError(f"unknown type {data['type']!r}; this version knows {', '.join(known)}")
    cls = known[data["type"]]
    fields = {key: decode(value) if isinstance(value, dict) else value for key, value in data.items() if key != "type"}
    unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"{data['type']} has no option {', '.join(sorted(unknown))}")
    return cls(**fields)


def _classes() -> dict[str, type]:
    """The dataclasses that a description may name: the public ones of layers, losses and initializers."""
    return {
        name: cls
        for module in (layers, losses, initializers)
        for name in module.__all__
        if isinstance(cls := getattr(module, name), type) and dataclasses.is_dataclass(cls)
    }


# ------------------------------------------------------------------ reading


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and description of a file, after the checks that need no network."""
    from safetensors import SafetensorError, safe_open

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
    return tensors, description


def _check_description(path: Path, text: str) -> dict[str, Any]:
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
    return description


def _stack(path: Path, described: list[Any]) -> list[Any]:
    stack = []
    for index, data in enumerate(described):
        try:
            stack.append(decode(data))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: layer {index}: {error}") from error
    return stack


def _check_widths(path: Path, width: int, stack: list[Any], tensors: dict[str, np.ndarray]) -> None:
    """Compare weights with the widths described, before memory for them is taken: a damaged width may be huge."""
    for index, layer in enumerate(stack):
        units = getattr(layer, "units", None)
        if units is not None:
            name = f"{index}.weight"
            if name not in tensors:
                raise ValueError(f"{path}: missing tensor {name!r}")
            _check_shape(path, name, (width, units), tensors[name])
            width = units


def _build(path: Path, network: dict[str, Any], stack: list[Any], backend: str) -> Sequential:
    from .network import Sequential

    options = {key: value for key, value in network.items() if key != "layers"}
    unknown = options.keys() - {"input_size", "loss", "dtype", "input_scale"}
    if unknown:
        raise ValueError(f"{path}: damaged description: unknown {', '.join(sorted(unknown))}")
    try:
        if isinstance(options["loss"], dict):
            options["loss"] = decode(options["loss"])
        return Sequential(stack, backend=backend, **options)
    except (TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path}: {error}") from error


def _compare_names(path: Path, expected: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ValueError(f"{path}: missing tensor {', '.join(map(repr, missing))}")
    extra = [name for name in tensors if name not in expected]
    if extra:
        raise ValueError(f"{path}: tensor {', '.join(map(repr, extra))} belongs to no layer of the network described")


def _check_shape(path: Path, name: str, shape: tuple[int, ...], tensor: np.ndarray) -> None:
    if tensor.shape != tuple(shape):
        raise ValueError(f"{path}: tensor {name!r} has shape {tensor.shape}, expected {tuple(shape)}")
