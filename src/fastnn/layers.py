"""Layers: small immutable descriptions, without parameters. The network that holds them owns the numbers.

A layer says of itself which parameters and buffers it needs and which operation it is (:meth:`Layer.describe`): to add
one, write a class here; the operation itself is a matter of the backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from . import initializers, names
from .checks import Moments, check_integer, check_number
from .initializers import draw
from .layout import Builder, Layout, Parts
from .plan import ACTIVATIONS, NEGATIVE_SLOPE

__all__ = [
    "ACTIVATIONS",
    "LAYERS",
    "Activation",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Scale",
    "Standardize",
    "check_layers",
    "lay_out",
]
__dir__ = names.listing(__all__)


class Layer:
    """What every layer offers: an immutable description and :meth:`describe`.

    Attributes
    ----------
    first_only : bool
        Whether it must be the first layer.
    """

    first_only: ClassVar[bool] = False

    def describe(self, builder: Builder) -> None:
        """Ask for parameters and buffers, and name the operation.

        Parameters
        ----------
        builder : Builder
            Its ``n_in`` is the width of the layer before.
        """
        raise NotImplementedError


@names.explained
@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer, A = σ(X W + b).

    X is (N, n_in), W (n_in, units), b (units,), A (N, units); n_in is the width of the layer before.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or LeakyReLU, default="linear"
        Name of σ, one of ``fastnn.layers.ACTIVATIONS``, or :class:`LeakyReLU` with its slope; the formulas are in
        docs/theory.md, section 2. gelu is the exact one; selu wants ``init="lecun_normal"``. The last
        layer of a classifier is linear: its softmax or sigmoid is inside the loss.
    bias : bool, default=True
        Whether there is a bias b.
    init, bias_init : str, callable or float, default="glorot_uniform" and "zeros"
        Distributions of the initial weight and bias; see :mod:`fastnn.initializers`.
    learning_rate_multiplier : float, default=1.0
        Multiplies the optimizer's learning rate for this layer, at least 0. 0 freezes the layer: its parameters do not
        change, but count in penalties and in the norm that `clip_norm` limits.
    l1, l2 : float, optional
        Penalties l1 ‖W‖₁ + ½ l2 ‖W‖² of this layer's weight, wherever there is an objective: in training, ``net.loss``,
        gradients, Hessians and so on. A number takes the place of the `l1` or `l2` that ``fit`` or the other function
        is given; 0 exempts the layer. None: what they are given holds.

    Raises
    ------
    ValueError
        If `units` is below 1, a penalty is negative, or an activation or initializer has an unknown name.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    The weight is (inputs, outputs), as in Keras; torch's ``Linear`` holds its transpose, and draws it from
    U(-√(1/n_in), √(1/n_in)). Keras' ``kernel_regularizer=L1L2(l1, l2)`` adds l1 ‖W‖₁ + l2 ‖W‖², without the ½, and to
    nothing: it has no penalty of all layers.
    """

    units: int
    activation: str | LeakyReLU = "linear"
    bias: bool = field(default=True, kw_only=True)
    init: object = field(default="glorot_uniform", kw_only=True)
    bias_init: object = field(default="zeros", kw_only=True)
    learning_rate_multiplier: float = field(default=1.0, kw_only=True)
    l1: float | None = field(default=None, kw_only=True)
    l2: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_integer("units", self.units))
        if isinstance(self.activation, str):
            _check_activation("activation", self.activation)
        elif not isinstance(self.activation, LeakyReLU):
            raise TypeError(f"activation must be a name (str) or LeakyReLU(negative_slope), got {self.activation!r}")
        if not isinstance(self.bias, bool):
            raise TypeError(f"bias must be True or False, got {self.bias!r}")
        initializers.get(self.init, "init")
        initializers.get(self.bias_init, "bias_init")
        name = "learning_rate_multiplier"
        object.__setattr__(self, name, check_number(name, self.learning_rate_multiplier, minimum=0.0))
        for name in ("l1", "l2"):
            if (value := getattr(self, name)) is not None:
                _set(self, name, check_number(name, value, minimum=0.0))

    def describe(self, builder: Builder) -> None:
        """W (n_in, units) and b (units,), as their initializers draw them."""
        n_in, n_out, bias = builder.n_in, self.units, -1
        shape = n_in, n_out
        weight = builder.parameter("weight", shape, partial(draw, self.init, n_in, n_out, shape, name="init"))
        if self.bias:
            begin = partial(draw, self.bias_init, n_in, n_out, (n_out,), name="bias_init")
            bias = builder.parameter("bias", (n_out,), begin)
        builder.op(
            "dense",
            n_out,
            weight=weight,
            bias=bias,
            lr_multiplier=self.learning_rate_multiplier,
            l1=self.l1,
            l2=self.l2,
            **(self.activation.fields if isinstance(self.activation, LeakyReLU) else {"activation": self.activation}),
        )


@names.explained
@dataclass(frozen=True)
class Activation(Layer):
    """An activation as a layer of its own, A = σ(X), for instance after a normalisation.

    Parameters
    ----------
    name : str
        Name of σ, as for :class:`Dense`.

    Raises
    ------
    TypeError, ValueError
        If it is not the name of an activation.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a name (str), got {self.name!r}")
        _check_activation("name", self.name)

    def describe(self, builder: Builder) -> None:
        """No parameters."""
        builder.op("activation", activation=self.name)


@names.explained
@dataclass(frozen=True)
class LeakyReLU(Layer):
    """The activation leaky_relu with a slope of one's choice, σ(z) = z for z > 0, else `negative_slope` · z.

    It is a layer of its own, as ``Activation("leaky_relu")`` is, or a layer's activation:
    ``Dense(64, LeakyReLU(0.2))``.

    Parameters
    ----------
    negative_slope : float, default=0.01
        Above 0, at most 1. σ'(0) is the slope.

    Raises
    ------
    ValueError, TypeError
        If `negative_slope` is out of range or not a number.

    Notes
    -----
    Maas, Hannun and Ng 2013. torch's ``LeakyReLU`` has the same default; that of Keras 3 is 0.3.
    """

    negative_slope: float = NEGATIVE_SLOPE

    def __post_init__(self) -> None:
        _set(self, "negative_slope", check_number("negative_slope", self.negative_slope, above=0.0, maximum=1.0))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of an operation that has this activation."""
        return {"activation": "leaky_relu", "negative_slope": self.negative_slope}

    def describe(self, builder: Builder) -> None:
        """No parameters."""
        builder.op("activation", **self.fields)


@names.explained
@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation, A = γ û + β with û = (X − μ) / √(σ² + ε), feature by feature.

    In training μ and σ² (with 1/N, not weighted) are those of the batch, of all its rows however many threads share
    them, and running statistics move: running ← m · running + (1 − m) · batch. Outside of training the running ones
    are used, divided by 1 − mᵗ after t steps, so that their start at zero leaves no trace; before the first step they
    are 0 and 1.

    Parameters
    ----------
    epsilon : float, default=1e-5
        ε, above 0.
    momentum : float, default=0.9
        m of the running statistics, in [0, 1). torch's ``momentum`` is 1 − m, and its running variance has 1/(N − 1).
    learning_rate_multiplier : float, default=1.0
        As for :class:`Dense`.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or not a number.

    Notes
    -----
    Ioffe and Szegedy 2015; the derivatives are those of docs/theory.md, eq. 6.1 to 6.6. It stands between a ``Dense``
    without activation and an ``Activation``. A batch of one row cannot be normalised.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    learning_rate_multiplier: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        _set(self, "epsilon", check_number("epsilon", self.epsilon, above=0.0))
        _set(self, "momentum", check_number("momentum", self.momentum, minimum=0.0, below=1.0))
        name = "learning_rate_multiplier"
        _set(self, name, check_number(name, self.learning_rate_multiplier, minimum=0.0))

    def describe(self, builder: Builder) -> None:
        """γ and β; buffers for the running mean, the running variance, and their count, all 0."""
        gamma, beta = _gamma_beta(builder)
        builder.op(
            "batch_norm",
            weight=gamma,
            bias=beta,
            buffer=builder.buffer(2 * builder.n_in + 1),
            lr_multiplier=self.learning_rate_multiplier,
            epsilon=self.epsilon,
            momentum=self.momentum,
        )


@names.explained
@dataclass(frozen=True)
class LayerNorm(Layer):
    """Layer normalisation, A = γ û + β with û = (X − μ) / √(σ² + ε), row by row, in training and outside of it.

    Parameters
    ----------
    epsilon : float, default=1e-5
        ε, above 0.
    learning_rate_multiplier : float, default=1.0
        As for :class:`Dense`.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or not a number.

    Notes
    -----
    Ba, Kiros and Hinton 2016, equation 4; `docs/theory.md`, eq. (6.8) to (6.11).
    """

    epsilon: float = 1e-5
    learning_rate_multiplier: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        _set(self, "epsilon", check_number("epsilon", self.epsilon, above=0.0))
        name = "learning_rate_multiplier"
        _set(self, name, check_number(name, self.learning_rate_multiplier, minimum=0.0))

    def describe(self, builder: Builder) -> None:
        """γ and β."""
        gamma, beta = _gamma_beta(builder)
        builder.op(
            "layer_norm",
            weight=gamma,
            bias=beta,
            lr_multiplier=self.learning_rate_multiplier,
            epsilon=self.epsilon,
        )


@names.explained
@dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout: in training, each element is 0 with probability `rate`, else x / (1 − rate).

    The mask comes from a counter-based generator of (seed, step, layer, element): every step has another one, and it
    does not depend on threads. Outside of training, and in :meth:`Sequential.gradient`, nothing is dropped. It
    cannot be the last layer.

    Parameters
    ----------
    rate : float
        Probability of a zero, in [0, 1).

    Raises
    ------
    ValueError, TypeError
        If the rate is out of range or not a number.

    Notes
    -----
    Srivastava et al. 2014; `docs/theory.md`, eq. (7.1).
    """

    rate: float

    def __post_init__(self) -> None:
        _set(self, "rate", check_number("rate", self.rate, minimum=0.0, below=1.0))

    def describe(self, builder: Builder) -> None:
        """One seed for all dropouts, drawn when a training begins; float32 holds it exactly."""
        seed = builder.buffer(1, begin=_seed, shared="seed")
        builder.op("dropout", buffer=seed, dropout_rate=self.rate)


@names.explained
@dataclass(frozen=True)
class Standardize(Layer):
    """A first layer that standardises its input, (x − mean) / scale, with what it learns from the training data.

    Mean and scale are learnt once, by the first training of the network (:meth:`Sequential.fit`, by an optimizer or a
    solver, :meth:`Sequential.partial_fit` or a :class:`Trainer`), before its first step: later ones, on whatever data,
    keep them. They are saved with the network, in its ``state``. To learn them anew, put them back to mean 0 and
    scale 1, ``net.state[: 2 * D] = np.repeat([0.0, 1.0], D)`` for D features, or make a new network.

    The scale is the standard deviation with 1/Σw, over the rows that are trained on (not those held out), each with its
    weight as in the objective: a row of weight 2 counts as two, one of weight 0 does not count. It is 1 for a constant
    feature, that is one whose values differ by no more than rounding, 4 ε of the largest in the network's dtype.

    Batches that can be gone over again, from a function or an iterable that is no iterator, are gone over once before
    training, one epoch of them. Of an iterator, which can be read once only, the first batch is what is learnt from:
    let it be a large one.
    """

    first_only: ClassVar[bool] = True

    def describe(self, builder: Builder) -> None:
        """Buffers for the mean and 1/scale: 0 and 1 before a training."""
        n = builder.n_in
        initial = np.repeat([0.0, 1.0], n)  # mean, 1/scale
        builder.op("standardize", buffer=builder.buffer(2 * n, initial, begin=_mean_and_inverse_scale))


@names.explained
@dataclass(frozen=True)
class Scale(Layer):
    """A learnable factor per feature, A = s ⊙ X, initially 1, to which penalties do not apply.

    It cannot be the last layer.

    Parameters
    ----------
    learning_rate_multiplier : float, default=1.0
        As for :class:`Dense`.

    Raises
    ------
    ValueError, TypeError
        If the multiplier is out of range or not a number.

    Notes
    -----
    `docs/theory.md`, eq. (6.12) to (6.14).
    """

    learning_rate_multiplier: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        name = "learning_rate_multiplier"
        _set(self, name, check_number(name, self.learning_rate_multiplier, minimum=0.0))

    def describe(self, builder: Builder) -> None:
        """s (n_in,)."""
        factors = builder.parameter("scale", (builder.n_in,), lambda _: 1.0)
        builder.op("scale", weight=factors, lr_multiplier=self.learning_rate_multiplier)


def _gamma_beta(builder: Builder) -> tuple[int, int]:
    """Offsets of γ, initially 1, and β, initially 0, of a norm."""
    shape = (builder.n_in,)
    return builder.parameter("gamma", shape, lambda _: 1.0), builder.parameter("beta", shape, lambda _: 0.0)


def _mean_and_inverse_scale(
    values: np.ndarray, parts: Parts, scale: float, generator: np.random.Generator
) -> np.ndarray | None:
    """Mean of scale · X, and the inverse of its standard deviation, 1 for a constant feature; None if learnt before.

    A first mean of 0 is stored as −0, so that a layer that has learnt always differs from a new one.
    """
    n, info = len(values) // 2, np.finfo(values.dtype)
    if values[:n].any() or (values[n:] != 1.0).any() or np.signbit(values[0]):
        return None
    found = Moments(n)
    for X, weight in parts:
        found.add(X, weight)
    mean, deviation = found.result(float(info.eps))
    deviation[deviation <= 1.0 / float(info.max) / scale] = 0.0  # subnormal: its inverse would not be finite
    deviation[deviation == 0.0] = 1.0 / scale
    mean *= scale
    if mean[0] == 0.0:
        mean[0] = -0.0
    return np.concatenate([mean, 1.0 / (deviation * scale)])


def _seed(values: np.ndarray, parts: Parts, scale: float, generator: np.random.Generator) -> int:
    """A new seed of dropout."""
    return int(generator.integers(2**24))


#: What users of other libraries put at the end of a classifier.
_INSIDE_THE_LOSS = {"softmax": "cross_entropy", "log_softmax": "cross_entropy", "logsoftmax": "cross_entropy"}


def _check_activation(argument: str, name: str) -> None:
    if name in ACTIVATIONS:
        return
    loss = _INSIDE_THE_LOSS.get(name.lower())
    if loss is not None:
        raise ValueError(
            f"{argument}: {name!r} is inside the loss, loss={loss!r}: leave the last layer linear, predict_proba gives "
            "probabilities"
        )
    what = "unknown name" if argument == "activation" else "unknown activation"
    hint = names.suggestion(name, ACTIVATIONS, names.ACTIVATIONS)
    raise ValueError(f"{argument}: {what} {name!r}; known: {', '.join(ACTIVATIONS)}{hint}")


def _set(layer: Any, name: str, value: float) -> None:
    object.__setattr__(layer, name, value)


#: What a list of layers may hold.
LAYERS = (Dense, Activation, LeakyReLU, BatchNorm, LayerNorm, Dropout, Standardize, Scale)


def check_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Layers as a tuple, or an error that says which one does not fit where it stands."""
    if isinstance(layers, Layer) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers, got {layers!r}")
    checked = tuple(layers)
    if not checked:
        raise ValueError("layers: expected at least one layer, got none")
    for index, layer in enumerate(checked):
        if not isinstance(layer, Layer):
            names = ", ".join(kind.__name__ for kind in LAYERS)
            raise TypeError(f"layers: expected a layer ({names}) at position {index}, got {layer!r}")
        if layer.first_only and index > 0:
            raise ValueError(f"layers: {type(layer).__name__} must be the first layer, got it at position {index}")
    return checked


def lay_out(layers: Iterable[Layer], n_inputs: int) -> Layout:
    """Operations of layers with the places of their parameters in θ and of their buffers, in list order.

    Raises
    ------
    ValueError
        If no layer has a weight.
    """
    builder = Builder(n_inputs)
    for layer in layers:
        layer.describe(builder)
    layout = builder.layout()
    if not any(op.facts.has_weight for op in layout.ops):
        raise ValueError("layers: expected at least one Dense layer, got none")
    return layout
