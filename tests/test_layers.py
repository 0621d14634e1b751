from __future__ import annotations

import dataclasses
import pickle

import pytest

import fastnn as fnn
from fastnn import layers, plan, reference


def test_defaults() -> None:
    layer = fnn.Dense(3)
    assert dataclasses.asdict(layer) == {
        "units": 3,
        "activation": "linear",
        "bias": True,
        "init": "glorot_uniform",
        "bias_init": "zeros",
        "learning_rate_multiplier": 1.0,
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
        ((2, None), {}, TypeError, r"activation must be a name \(str\), got None"),
        ((2,), {"bias": 1}, TypeError, "bias must be True or False, got 1"),
        ((2,), {"learning_rate_multiplier": -1}, ValueError, "learning_rate_multiplier must be a finite number >= 0"),
        ((2,), {"init": "xavier"}, ValueError, "init: unknown initializer 'xavier'"),
        ((2,), {"bias_init": "one"}, ValueError, "bias_init: unknown initializer 'one'"),
    ],
)
def test_bad_argument(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fnn.Dense(*arguments, **options)
