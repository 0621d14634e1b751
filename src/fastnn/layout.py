"""From layers to operations: where parameters and buffers stand in their flat vectors, and what they start from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from . import initializers
from ._typing import DType
from .layers import LAYERS, Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Standardize
from .losses import Loss
from .plan import OpSpec

__all__ = ["Layout", "check_layers", "check_output", "initial_parameters", "initial_state", "lay_out"]


class Layout(NamedTuple):
    """Where everything is that a list of layers needs."""

    ops: tuple[OpSpec, ...]
    parameters: list[tuple[str, int, tuple[int, ...]]]
    n_parameters: int
    n_state: int


def lay_out(layers: tuple[Layer, ...], input_size: int) -> Layout:
    """Operations of layers with the places of their parameters in θ and of their buffers, both in list order."""
    ops: list[OpSpec] = []
    parameters: list[tuple[str, int, tuple[int, ...]]] = []
    offset, n, n_state = 0, input_size, 0
    seed = -1  # all dropouts share one
    for index, layer in enumerate(layers):
        source = index - 1
        rate = getattr(layer, "learning_rate_multiplier", 1.0)
        if isinstance(layer, Dense):
            weight, bias = offset, -1
            parameters.append((f"{index}.weight", offset, (n, layer.units)))
            offset += n * layer.units
            if layer.bias:
                bias = offset
                parameters.append((f"{index}.bias", offset, (layer.units,)))
                offset += layer.units
            ops.append(OpSpec("dense", source, n, layer.units, weight, bias, layer.activation, rate))
            n = layer.units
        elif isinstance(layer, (BatchNorm, LayerNorm)):
            parameters += [(f"{index}.gamma", offset, (n,)), (f"{index}.beta", offset + n, (n,))]
            gamma, offset = offset, offset + 2 * n
            op = OpSpec("layer_norm", source, n, n, gamma, gamma + n, "linear", rate, epsilon=layer.epsilon)
            if isinstance(layer, BatchNorm):
                op = op._replace(kind="batch_norm", buffer=n_state, momentum=layer.momentum)
                n_state += 2 * n + 1
            ops.append(op)
        elif isinstance(layer, Dropout):
            if seed < 0:
                seed, n_state = n_state, n_state + 1
            ops.append(OpSpec("dropout", source, n, n, -1, -1, "linear", buffer=seed, dropout_rate=layer.rate))
        elif isinstance(layer, Standardize):
            ops.append(OpSpec("standardize", source, n, n, -1, -1, "linear", buffer=n_state))
            n_state += 2 * n
        else:
            ops.append(OpSpec("activation", source, n, n, -1, -1, layer.name))
    return Layout(tuple(ops), parameters, offset, n_state)


def initial_parameters(
    layers: tuple[Layer, ...], layout: Layout, dtype: DType, generator: np.random.Generator
) -> np.ndarray:
    """θ as the layers' initializers draw it, in list order; γ is 1 and β 0."""
    theta = np.empty(layout.n_parameters, dtype)
    for layer, op in zip(layers, layout.ops, strict=True):
        if isinstance(layer, Dense):
            n_in, n_out = op.n_in, op.n_out
            W = initializers.draw(layer.init, n_in, n_out, (n_in, n_out), generator, "init")
            theta[op.weight : op.weight + W.size] = W.ravel()
            if layer.bias:
                b = initializers.draw(layer.bias_init, n_in, n_out, (n_out,), generator, "bias_init")
                theta[op.bias : op.bias + n_out] = b
        elif op.weight >= 0:
            theta[op.weight : op.weight + op.n_out] = 1.0
            theta[op.bias : op.bias + op.n_out] = 0.0
    return theta


def initial_state(layout: Layout, dtype: DType) -> np.ndarray:
    """Buffers before training: running statistics and their counts 0, a standardisation that changes nothing."""
    state = np.zeros(layout.n_state, dtype)
    for op in layout.ops:
        if op.kind == "standardize":
            state[op.buffer + op.n_out : op.buffer + 2 * op.n_out] = 1.0
    return state


def check_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Layers as a tuple, or an error that says which one does not fit where it stands."""
    if isinstance(layers, LAYERS) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers, got {layers!r}")
    checked = tuple(layers)
    if not checked:
        raise ValueError("layers: expected at least one layer, got none")
    for index, layer in enumerate(checked):
        if not isinstance(layer, LAYERS):
            names = ", ".join(kind.__name__ for kind in LAYERS)
            raise TypeError(f"layers: expected a layer ({names}) at position {index}, got {layer!r}")
        if isinstance(layer, Standardize) and index > 0:
            raise ValueError(f"layers: Standardize must be the first layer, got it at position {index}")
    if not any(isinstance(layer, Dense) for layer in checked):
        raise ValueError("layers: expected at least one Dense layer, got none")
    return checked


def check_output(layer: Layer, loss: Loss) -> None:
    """Refuse a last layer whose outputs the loss cannot take."""
    plain = loss.inverse_link == "identity"
    if not isinstance(layer, (Dense, Activation)) or not (plain or isinstance(layer, Dense)):
        raise ValueError(f"layers: expected a Dense layer as the last one, got {layer!r}")
    if plain:
        return
    assert isinstance(layer, Dense)
    if layer.activation != "linear":
        inside = "exponential" if loss.inverse_link == "exp" else loss.inverse_link
        raise ValueError(
            f"layers: expected a linear last layer for loss {loss.name!r}, whose {inside} is inside the loss, "
            f"got activation {layer.activation!r}"
        )
    if loss.couples_outputs and layer.units == 1:
        raise ValueError(
            "layers: expected at least 2 units in the last layer for loss 'cross_entropy', got 1; "
            "use loss='binary_cross_entropy' for one output"
        )
