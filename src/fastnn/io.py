"""The file format of networks: safetensors with a description. :func:`fastnn.load` builds networks from it.

A file holds one tensor for each entry of ``net.parameters``, under the same name ("0.weight", "0.bias", …), and one
metadata entry, ``fastnn``: a JSON description of the network,

::

    {"format": 1, "version": "0.1.0",
     "network": {"layers": [{"type": "Dense", "units": 64, "activation": "relu", …}, …],
                 "input_size": 784, "loss": "cross_entropy", "dtype": "float32", "input_scale": null,
                 "feature_names": […], "classes": […]},
     "split_start": {…}, "metadata": {…the caller's own…}, "sha256": "…"}

"split_start" is the state of the generator that drew the validation rows, where some were drawn: a training of the
loaded network holds out the same rows of the same data.

The state of a training adds tensors "training.…" (the optimizer's moments, and what callbacks keep), and an entry
"training" of counters, generators and history (:mod:`fastnn.saved_training`). "sha256" is the checksum of all the rest:
a damaged or edited file is refused.

Nothing in a file is code: reading it never runs anything from it. The checksum can be made anew by anybody, so all that
a file says is checked by schemas (:mod:`fastnn.schema`), and compared with the sizes of its tensors, before anything is
built; what cannot be read again is not written either.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import files, layers, schema
from ._typing import JSON
from ._version import __version__
from .array_files import MAX_HEADER, read_tensors
from .checks import check_flag
from .descriptions import build, describe
from .generators import check_generator, describe_generator
from .names import listing
from .network import Network
from .saved_training import describe_training, give_training, restore_training
from .schema import TEXT, Anything, Choice, Items, Maybe, OneOf, Real, Record, Whole, decode, encode, printable

__all__ = ["SavedNetwork", "build", "checksum", "describe", "describe_network", "read", "save"]
__dir__ = listing(__all__)

#: Version of the layout of the description. A file with a higher number is refused.
FORMAT = 1

#: The most layers that a file may have: the time to make a network grows with their square.
MAX_LAYERS = 1000

#: Entries of a network's description that are arguments of a network, beside its layers.
ARGUMENTS = ("input_size", "loss", "dtype", "input_scale")


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
        If a parameter or a buffer is not finite (a diverged network), or `metadata` holds NaN or infinity, more than
        64 levels or, with the description of the network, more than 100 MB.
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
    tensors = _tensors(net)
    description: JSON = {"format": FORMAT, "version": __version__, "network": describe_network(net)}
    start = net.split_start or (None if net.training_state is None else net.training_state.start)
    if start is not None:
        description["split_start"] = encode(start)
    if training_state:
        description["generator"] = describe_generator(net.generator)
        if net.training_state is not None:
            description["training"] = describe_training(net, net.training_state, tensors)
    description["metadata"] = _checked_metadata(metadata)
    description["sha256"] = checksum(description, tensors)
    _check_description(description)  # nothing is written that would be refused on reading
    text = json.dumps(description, allow_nan=False, ensure_ascii=False)
    content = serialize(tensors, {"fastnn": text})
    header = int.from_bytes(content[:8], "little")
    if header > MAX_HEADER:
        raise ValueError(
            f"metadata and training state: expected at most {MAX_HEADER:,} bytes with the description of the network, "
            f"got {header:,}; the network was not saved"
        )
    with files.write_aside(path) as temporary:
        temporary.write_bytes(content)


def _tensors(net: Network) -> dict[str, np.ndarray]:
    """Parameters and buffers. Copies: another thread may be training, and the checksum is of what is written."""
    theta, state = net.theta.copy(), net.state.copy()
    tensors = {}
    for name, offset, shape in net.layout:
        values = theta[offset : offset + math.prod(shape)].reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError(f"parameter {name!r} has values that are not finite; the network was not saved")
        tensors[name] = values
    if not np.isfinite(state).all():
        raise ValueError("the network's state (buffers) has values that are not finite; it was not saved")
    if state.size:
        tensors["state"] = state
    return tensors


def _checked_metadata(metadata: Mapping[str, object] | None) -> JSON:
    """The caller's own, as it comes back from a file."""
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False, ensure_ascii=False)
        text.encode()  # lone surrogates cannot be stored
        parsed: JSON = schema.parse(text)
        return parsed
    except TypeError as error:
        raise TypeError(f"metadata must hold only what JSON can express: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata must hold only what JSON can express: {error}") from error


# ------------------------------------------------------------------ description


def describe_network(net: Network) -> JSON:
    """A network in JSON, without its parameters."""
    loss = net.loss_function.shorthand
    return {
        "layers": [describe(layer) for layer in net.layers],
        "input_size": int(net.input_size),
        "loss": loss if isinstance(loss, str) else describe(loss),
        "dtype": np.dtype(net.dtype).name,
        "input_scale": net.input_scale,
        **({} if net.feature_names is None else {"feature_names": list(net.feature_names)}),
        **({} if net.classes_ is None else {"classes": net.classes_.tolist()}),
    }


def give_names(net: Network, description: Mapping[str, Any]) -> None:
    """Give a network the names of features and classes of its description.

    Raises
    ------
    ValueError, TypeError
        If they do not fit it.
    """
    net.feature_names = description.get("feature_names")
    net.classes_ = description.get("classes")


def checksum(description: Mapping[str, object], tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the description and of all tensors with their names, types and shapes."""
    text = {key: value for key, value in description.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(text, sort_keys=True, ensure_ascii=True).encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name!r} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.data.cast("B") if values.size else b"")
    return digest.hexdigest()


# ------------------------------------------------------------------ reading

#: The description, all but the network's parts and the state of the training, which have schemas of their own.
DESCRIPTION = Record(
    {
        "format": Whole(1, FORMAT),
        "network": Record(
            {
                "layers": Items(Record({"type": TEXT}, others=Anything()), minimum=1, maximum=MAX_LAYERS),
                "input_size": Whole(1),
                "loss": OneOf((TEXT, Record({"type": TEXT}, others=Anything()))),
                "dtype": Choice(("float32", "float64")),
            },
            {"input_scale": Maybe(Real()), "feature_names": Maybe(Items(TEXT)), "classes": Items(TEXT)},
        ),
        "sha256": TEXT,
    },
    {"metadata": Record(others=Anything()), "split_start": Record({"bit_generator": TEXT}, others=Anything())},
    others=Anything(),
)


@dataclasses.dataclass(frozen=True)
class SavedNetwork:
    """What :func:`read` found in a file. Its methods raise ValueErrors that name the file.

    Attributes
    ----------
    path : Path
    tensors : dict of ndarray
        Read-only.
    description : dict
        Of the format at the head of this module.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    description: JSON

    @property
    def metadata(self) -> JSON:
        """What `save` was given."""
        metadata: JSON = self.description.get("metadata", {})
        return metadata

    def describe_network(self) -> tuple[list[layers.Layer], JSON]:
        """Layers and keyword arguments to make the network with; it needs no more memory than the tensors take."""
        path, network = self.path, self.description["network"]
        stack = []
        for index, data in enumerate(network["layers"]):
            try:
                stack.append(build(data))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: layer {index}: {error}") from error
        options = {key: value for key, value in network.items() if key in ARGUMENTS}
        if isinstance(options["loss"], dict):
            try:
                options["loss"] = build(options["loss"])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
        try:
            _compare_tensors(layers.check_layers(stack), network, self.tensors)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        return stack, options

    def restore(self, net: Network) -> None:
        """Give a network of this description its parameters, its buffers and the state of its training."""
        tensors = self.tensors
        try:
            give_names(net, self.description["network"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: damaged description: {error}") from error
        try:
            generator, training = restore_training(net, self.description, tensors)
        except ValueError as error:
            raise ValueError(f"{self.path}: damaged state of the training: {error}") from error
        for name, values in net.parameters.items():
            values[...] = tensors[name]
        if net.state.size:
            net.state[...] = tensors["state"]
        net.split_start = decode(self.description.get("split_start"))
        give_training(net, generator, training)


def read(path: str | os.PathLike[str]) -> SavedNetwork:
    """Read a file, after the checks that need no network.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, of another kind or of a newer format.
    """
    path = Path(path)
    metadata, tensors = read_tensors(path)
    if "fastnn_sweep" in metadata:
        raise ValueError(f"{path}: a sweep or an ensemble, which fnn.SweepResult.load or fnn.Ensemble.load reads")
    if "fastnn" not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not one that fastnn saved (no description in it)")
    try:
        description = schema.parse(metadata["fastnn"])
        _check_format(description)
    except ValueError as error:
        raise ValueError(f"{path}: damaged description: {error}") from error
    if description["format"] > FORMAT:
        version = f"({printable(description.get('version')):.60}): format {description['format']}"
        raise ValueError(f"{path}: saved by a newer fastnn {version}, this version reads up to {FORMAT}")
    if description.get("sha256") != checksum(description, tensors):
        raise ValueError(f"{path}: damaged or edited: its checksum does not fit what is in it")
    try:
        _check_description(description)
    except ValueError as error:
        raise ValueError(f"{path}: damaged description: {error}") from error
    for name, values in tensors.items():
        if not name.startswith("training.callbacks.") and not np.isfinite(values).all():
            raise ValueError(f"{path}: tensor {name!r:.60} has values that are not finite")
    return SavedNetwork(path, tensors, description)


def _check_format(description: object) -> None:
    if not isinstance(description, dict) or not Whole(1).fits(description.get("format")):
        raise ValueError("no format number")


def _check_description(description: JSON) -> None:
    """Raise a ValueError unless a description is of the format at the head of this module."""
    DESCRIPTION.check(description, "")
    if "split_start" in description:
        check_generator(description["split_start"], "split_start")
    network = description["network"]
    names = network.get("feature_names")
    if names is not None and len(names) != network["input_size"]:
        raise ValueError(f"feature_names cannot be {len(names)} names of {network['input_size']} features")


def _compare_tensors(stack: tuple[layers.Layer, ...], network: JSON, tensors: Mapping[str, np.ndarray]) -> None:
    """Compare names, shapes and dtypes of tensors with what the layers need, for which no memory is taken."""
    dtype = np.dtype(network["dtype"])
    n_elements = sum(values.size for values in tensors.values())
    if network["input_size"] > n_elements:  # every input has a weight; layers may have buffers of their own for each
        raise ValueError(f"input_size {network['input_size']} does not fit tensors of {n_elements} numbers")
    layout = layers.lay_out(stack, network["input_size"])
    expected = {parameter.name: parameter.shape for parameter in layout.parameters}
    if layout.n_buffers:
        expected["state"] = (layout.n_buffers,)
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ValueError(f"missing tensor {', '.join(map(repr, missing)):.200}")
    extra = [name for name in tensors if name not in expected and not name.startswith("training.")]
    if extra:
        raise ValueError(f"tensor {', '.join(map(repr, extra)):.200} belongs to no layer of the network described")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"tensor {name!r} has shape {tensors[name].shape}, expected {shape}")
        if tensors[name].dtype != dtype:
            raise ValueError(f"tensor {name!r} is {tensors[name].dtype}, expected {dtype}")
