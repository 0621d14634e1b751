"""Layers: small immutable descriptions, without parameters. The network that holds them owns the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import initializers
from .plan import ACTIVATIONS, check_integer, check_number

__all__ = ["ACTIVATIONS", "Dense"]


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, A = σ(X W + b).

    X is (N, n_in), W (n_in, units), b (units,), A (N, units); n_in is the width of the layer before.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str, default="linear"
        Name of σ: linear, relu, leaky_relu, tanh, hard_tanh, leaky_tanh, sigmoid, softplus, elu, gelu (the exact one),
        silu or sign. The last layer of a classifier is linear: its softmax or sigmoid is inside the loss.
    bias : bool, default=True
        Whether there is a bias b.
    init, bias_init : str, callable or float, default="glorot_uniform" and "zeros"
        Distributions of the initial weight and bias; see :mod:`fastnn.initializers`.
    learning_rate_multiplier : float, default=1.0
        Multiplies the optimizer's learning rate for this layer, at least 0. 0 freezes the layer: its parameters do not
        change, but count in penalties and in the norm that `clip_norm` limits.

    Raises
    ------
    ValueError
        If `units` is below 1, or an activation or initializer has an unknown name.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    The weight is (inputs, outputs), as in Keras; torch's ``Linear`` holds its transpose, and draws it from
    U(-√(1/n_in), √(1/n_in)).
    """

    units: int
    activation: str = "linear"
    bias: bool = field(default=True, kw_only=True)
    init: Any = field(default="glorot_uniform", kw_only=True)
    bias_init: Any = field(default="zeros", kw_only=True)
    learning_rate_multiplier: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_integer("units", self.units))
        if not isinstance(self.activation, str):
            raise TypeError(f"activation must be a name (str), got {self.activation!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: unknown name {self.activation!r}; known: {', '.join(ACTIVATIONS)}")
        if not isinstance(self.bias, bool):
            raise TypeError(f"bias must be True or False, got {self.bias!r}")
        initializers.get(self.init, "init")
        initializers.get(self.bias_init, "bias_init")
        name = "learning_rate_multiplier"
        object.__setattr__(self, name, check_number(name, self.learning_rate_multiplier, minimum=0.0))
