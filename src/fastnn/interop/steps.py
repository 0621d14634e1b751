"""What a trained network computes, as a short list of affine maps, products, norms and activations in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..plan import NEGATIVE_SLOPE
from ..reference.ops import Affine, make_ops
from ..sequential import Sequential

__all__ = [
    "LINEAR",
    "ActivationStep",
    "Affine",
    "LayerNormStep",
    "Product",
    "Step",
    "find_network",
    "into_products",
    "is_estimator",
    "steps_of",
]


def find_network(model: object) -> tuple[Sequential, Any]:
    """The network of a model, and the model if it is an estimator."""
    if isinstance(model, Sequential):
        return model, None
    net = getattr(model, "network_", None)
    if isinstance(net, Sequential):
        return net, model
    if is_estimator(model):
        raise ValueError(f"{type(model).__name__} is not fitted")
    raise TypeError(f"expected a Sequential or an estimator of fastnn, got {type(model).__name__}")


def is_estimator(model: object) -> bool:
    """Whether it is an estimator of fastnn, fitted or not, or of a class derived from one."""
    return hasattr(model, "get_params") and any(base.__module__.startswith("fastnn.") for base in type(model).__mro__)


class ActivationStep(NamedTuple):
    """x ↦ σ(x)."""

    name: str
    negative_slope: float = NEGATIVE_SLOPE


LINEAR = ActivationStep("linear")


class Product(NamedTuple):
    """x ↦ σ(x W + b), in float64."""

    W: np.ndarray
    b: np.ndarray
    activation: ActivationStep = LINEAR


class LayerNormStep(NamedTuple):
    gamma: np.ndarray
    beta: np.ndarray
    epsilon: float


Step = Affine | Product | LayerNormStep | ActivationStep


def steps_of(net: Sequential) -> list[Step]:
    """What the network computes outside of training; maps of columns behind a linear product are folded into it."""
    theta, state = net.theta.astype(np.float64), net.state.astype(np.float64)
    steps: list[Step] = []
    if net.input_scale is not None:
        n = net.input_size
        steps.append(Affine(np.zeros(n), np.full(n, net.input_scale), np.zeros(n)))
    for operation in make_ops(net.ops):
        op = operation.spec
        n, activation = op.n_out, ActivationStep(op.activation, op.negative_slope)
        if op.kind == "dense":
            b = theta[op.bias : op.bias + n] if op.bias >= 0 else np.zeros(n)
            W = theta[op.weight : op.weight + op.n_in * n].reshape(op.n_in, n)
            steps.append(Product(W, b, activation))
        elif op.kind == "activation":
            last = steps[-1] if steps else None
            if isinstance(last, Product) and last.activation.name == "linear":
                steps[-1] = last._replace(activation=activation)
            else:
                steps.append(activation)
        elif op.kind == "layer_norm":
            steps.append(LayerNormStep(theta[op.weight : op.weight + n], theta[op.bias : op.bias + n], op.epsilon))
        elif (columns := operation.affine(theta, state)) is not None:
            last = steps[-1] if steps else None
            if isinstance(last, Product) and last.activation.name == "linear":
                shifted = (last.b - columns.mean) * columns.scale + columns.shift
                steps[-1] = Product(last.W * columns.scale, shifted)
            else:
                steps.append(columns)
        elif not op.facts.drops:  # a dropout is the identity here
            raise ValueError(f"an operation {op.kind!r} has no counterpart in other formats")
    return steps


def into_products(steps: list[Step], purpose: str) -> list[Product]:
    """Steps as products alone: what stands before a product is folded into it too."""
    products: list[Product] = []
    waiting: Affine | None = None
    for step in steps:
        if isinstance(step, Affine):
            if waiting is not None:  # ((x − m) s + h − m') s' + h'
                step = Affine(
                    waiting.mean, waiting.scale * step.scale, (waiting.shift - step.mean) * step.scale + step.shift
                )
            waiting = step
            continue
        if not isinstance(step, Product):
            what = "LayerNorm"
            if isinstance(step, ActivationStep):
                what = f"Activation({step.name!r}) that follows no Dense layer"
            raise ValueError(f"{purpose} has no counterpart of {what}")
        if waiting is not None:
            W = waiting.scale[:, None] * step.W
            step = Product(W, step.b - waiting.mean @ W + waiting.shift @ step.W, step.activation)
            waiting = None
        products.append(step)
    if waiting is not None:
        raise ValueError(f"{purpose} has no counterpart of a normalisation after the last Dense layer")
    return products
