from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import layers, plan, reference
from fastnn.layout import Builder, initial_parameters, initial_state
from fastnn.lowering import lower


def test_defaults() -> None:
    layer = fnn.Dense(3)
    assert dataclasses.asdict(layer) == {
        "units": 3,
        "activation": "linear",
        "bias": True,
        "init": "glorot_uniform",
        "bias_init": "zeros",
        "learning_rate_multiplier": 1.0,
        "l1": None,
        "l2": None,
    }


def test_immutable_and_comparable() -> None:
    layer = fnn.Dense(3, "relu", init="he_normal")
    assert layer == fnn.Dense(units=3, activation="relu", init="he_normal")
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert layer in {layer}
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.units = 4


def test_activations_are_those_of_the_kernels() -> None:
    assert layers.ACTIVATIONS is plan.ACTIVATIONS is reference.ACTIVATIONS
    for name in layers.ACTIVATIONS:
        assert fnn.Dense(1, name).activation == name


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0,), {}, ValueError, "units must be an integer >= 1, got 0"),
        ((2.0,), {}, TypeError, "units must be an integer >= 1, got 2.0"),
        ((True,), {}, TypeError, "units must be an integer >= 1, got True"),
        ((2, "rleu"), {}, ValueError, "activation: unknown name 'rleu'; known: linear, relu"),
        ((2, None), {}, TypeError, r"activation must be a name \(str\) or LeakyReLU\(negative_slope\), got None"),
        ((2,), {"bias": 1}, TypeError, "bias must be True or False, got 1"),
        ((2,), {"learning_rate_multiplier": -1}, ValueError, "learning_rate_multiplier must be a finite number >= 0"),
        ((2,), {"init": "xavier"}, ValueError, "init: unknown initializer 'xavier'"),
        ((2,), {"bias_init": "one"}, ValueError, "bias_init: unknown initializer 'one'"),
    ],
)
def test_bad_argument(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fnn.Dense(*arguments, **options)


def test_a_layer_describes_itself() -> None:
    @dataclasses.dataclass(frozen=True)
    class Twice(layers.Layer):
        """Two dropouts' worth of buffers, and a dense operation of its own."""

        def describe(self, builder: Builder) -> None:
            weight = builder.parameter("weight", (builder.n_in, 2), lambda generator: 0.5)
            builder.buffer(2, 3.0)
            builder.op("dense", 2, weight=weight, lr_multiplier=0.5)

    layout = layers.lay_out([fnn.Dense(3), fnn.Dropout(0.5), Twice(), fnn.Dropout(0.1)], 4)
    assert [(part.name, part.offset, part.shape) for part in layout.parameters] == [
        ("0.weight", 0, (4, 3)),
        ("0.bias", 12, (3,)),
        ("2.weight", 15, (3, 2)),
    ]
    assert [(op.kind, op.input, op.n_in, op.n_out) for op in layout.ops] == [
        ("dense", -1, 4, 3),
        ("dropout", 0, 3, 3),
        ("dense", 1, 3, 2),
        ("dropout", 2, 2, 2),
    ]
    assert [op.buffer for op in layout.ops] == [-1, 0, -1, 0]  # the dropouts share a seed
    assert (layout.n_parameters, layout.n_buffers) == (21, 3)
    assert initial_state(layout, np.dtype("f")).tolist() == [0.0, 3.0, 3.0]
    assert initial_parameters(layout, np.dtype("d"), np.random.default_rng(0))[15:].tolist() == [0.5] * 6
    lower(layout.ops, layout.n_parameters, "squared_error", "float32")
