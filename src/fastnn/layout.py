"""Where parameters and buffers stand in their flat vectors, and what they start from: collected layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ._typing import ArrayLike, DType, Rows
from .checks import check_parameters
from .losses import Loss
from .names import listing
from .plan import OpSpec

__all__ = [
    "Begin",
    "Buffer",
    "Builder",
    "Layout",
    "Parameter",
    "Parameters",
    "Parts",
    "aligned",
    "check_output",
    "initial_parameters",
    "initial_state",
]
__dir__ = listing(__all__)

#: Rows with their weights, or None for weights of 1, in one part or several.
Parts = Iterable[tuple[Rows, np.ndarray | None]]

#: Values of a buffer before the first step of a training: from those that it has, the parts of the data, their scale
#: and a generator. None keeps those that it has; the data are read only where they are needed.
Begin = Callable[[np.ndarray, Parts, float, np.random.Generator], np.ndarray | int | None]


class Parameter(NamedTuple):
    """An array within θ.

    Attributes
    ----------
    name : str
        Unique in the network, such as "0.weight".
    offset : int
    shape : tuple of int
    draw : callable
        Its initial values, of a generator.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator], np.ndarray | float]


class Buffer(NamedTuple):
    """A part of the network's buffers, what is learnt but not optimised.

    Attributes
    ----------
    offset, size : int
    initial : ndarray (size,) or float
    begin : Begin or None
        What a training sets before its first step.
    """

    offset: int
    size: int
    initial: np.ndarray | float
    begin: Begin | None


class Layout(NamedTuple):
    """Where everything is that a list of layers needs."""

    ops: tuple[OpSpec, ...]
    parameters: tuple[Parameter, ...]
    buffers: tuple[Buffer, ...]
    n_parameters: int
    n_buffers: int


class Builder:
    """Takes down what each layer says of itself: its parameters, its buffers, then its operation.

    Parameters
    ----------
    n_inputs : int
        Of the network.

    Attributes
    ----------
    n_in : int
        Inputs of the layer that is being described: outputs of the one before.
    """

    def __init__(self, n_inputs: int) -> None:
        self.n_in = n_inputs
        self._ops: list[OpSpec] = []
        self._parameters: list[Parameter] = []
        self._buffers: list[Buffer] = []
        self._shared: dict[str, int] = {}
        self._n_parameters = self._n_buffers = 0

    def parameter(
        self, name: str, shape: tuple[int, ...], draw: Callable[[np.random.Generator], np.ndarray | float]
    ) -> int:
        """Offset of a new parameter in θ; `name` is unique in its layer."""
        offset = self._n_parameters
        self._parameters.append(Parameter(f"{len(self._ops)}.{name}", offset, shape, draw))
        self._n_parameters += math.prod(shape)
        return offset

    def buffer(
        self, size: int, initial: np.ndarray | float = 0.0, *, begin: Begin | None = None, shared: str | None = None
    ) -> int:
        """Offset of a new part of the buffers; with `shared`, of the one that all layers with this word have."""
        if shared in self._shared:
            return self._shared[shared]
        offset = self._n_buffers
        self._buffers.append(Buffer(offset, size, initial, begin))
        self._n_buffers += size
        if shared is not None:
            self._shared[shared] = offset
        return offset

    def op(self, kind: str, n_out: int | None = None, **fields: Any) -> None:
        """The layer's operation, which ends its description; it has n_in outputs where nothing else is said.

        `fields` are those of :class:`~fastnn.plan.OpSpec`, without the parameters and activation that it does not have.
        """
        n_out = self.n_in if n_out is None else n_out
        fields = {"weight": -1, "bias": -1, "activation": "linear", **fields}
        self._ops.append(OpSpec(kind, len(self._ops) - 1, self.n_in, n_out, **fields))
        self.n_in = n_out

    def layout(self) -> Layout:
        """All that was taken down."""
        parts = tuple(self._ops), tuple(self._parameters), tuple(self._buffers)
        return Layout(*parts, self._n_parameters, self._n_buffers)


def initial_parameters(layout: Layout, dtype: DType, generator: np.random.Generator) -> np.ndarray:
    """θ as the layers draw it, in list order."""
    theta = np.empty(layout.n_parameters, dtype)
    for parameter in layout.parameters:
        part = theta[parameter.offset : parameter.offset + math.prod(parameter.shape)]
        part.reshape(parameter.shape)[...] = parameter.draw(generator)
    return theta


def aligned(theta: np.ndarray) -> np.ndarray:
    """Theta, copied to the start of a cache line unless it is mapped: updates and products then read whole lines."""
    line = 64
    if _address(theta) % line == 0 or not theta.flags.writeable or isinstance(theta, np.memmap):
        return theta
    raw = np.empty(theta.nbytes + line, np.uint8)
    copy = raw[-_address(raw) % line :][: theta.nbytes].view(theta.dtype)
    copy[...] = theta
    return copy


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def initial_state(layout: Layout, dtype: DType) -> np.ndarray:
    """Buffers before any training."""
    state = np.zeros(layout.n_buffers, dtype)
    for buffer in layout.buffers:
        state[buffer.offset : buffer.offset + buffer.size] = buffer.initial
    return state


def check_output(layer: object, op: OpSpec, loss: Loss) -> None:
    """Refuse a last layer, with this operation, whose outputs the loss cannot take."""
    plain = loss.inverse_link == "identity"
    if not (op.facts.has_weight or (plain and op.facts.activates)):
        raise ValueError(f"layers: expected a Dense layer as the last one, got {layer!r}")
    if plain:
        return
    if op.activation != "linear":
        inside = "exponential" if loss.inverse_link == "exp" else loss.inverse_link
        raise ValueError(
            f"layers: expected a linear last layer for loss {loss.name!r}, whose {inside} is inside the loss, "
            f"got activation {op.activation!r}"
        )
    if loss.couples_outputs and op.n_out == 1:
        raise ValueError(
            f"layers: expected at least 2 units in the last layer for loss {loss.name!r}, got 1; "
            "use loss='binary_cross_entropy' for one output"
        )


class Parameters(dict[str, np.ndarray]):
    """A network's parameters by name, each a view into ``net.theta``; assigning to a name writes through."""

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        if name not in self:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self)}")
        view = self[name]
        view[...] = check_parameters(name, value, view.shape, view.dtype)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Write several parameters through."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Parameters:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _refuse(self, *args: object) -> NoReturn:
        raise TypeError("parameters belong to the network and cannot be removed or added")

    __delitem__ = clear = pop = popitem = setdefault = _refuse

    def __reduce__(self) -> tuple[type[dict[str, np.ndarray]], tuple[dict[str, np.ndarray]]]:
        return dict, (dict(self),)  # a copy has no network behind it
