"""Arguments of ``fit`` beside a full-batch solver: what does not apply is refused if it is passed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastnn as fnn


def deep() -> fnn.Sequential:
    layers = [fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10}, "batch_size: LBFGS takes all rows at once, got 10"),
        ({"batch_size": 64}, "batch_size: LBFGS takes all rows at once, got 64"),  # the default, but passed
        ({"epochs": 20}, "epochs: the iterations of LBFGS are its max_iter, got epochs=20"),
        ({"epochs": 10}, "epochs: the iterations of LBFGS are its max_iter, got epochs=10"),
        ({"shuffle": True}, "shuffle: rows have no order for LBFGS, which takes them all at once, got True"),
        ({"shuffle": False}, "shuffle: rows have no order for LBFGS, which takes them all at once, got False"),
        ({"steps_per_epoch": 2}, "steps_per_epoch: LBFGS takes all rows at once, got 2"),
        ({"clip_norm": 1.0}, "clip_norm: LBFGS controls its steps itself"),
        ({"clip_value": 1.0}, "clip_value: LBFGS controls its steps itself"),
        ({"l1": 0.1}, "l1: LBFGS needs a differentiable objective"),
        ({"resume": True}, "resume: a run of LBFGS cannot be resumed"),
        ({"callbacks": [fnn.Checkpoint("x")]}, "callbacks: Checkpoint saves trainings to be resumed"),
        ({"y": None}, "y: LBFGS needs arrays X and y"),
        ({"l2": -1.0}, "l2 must be a finite number >= 0"),
        ({"validation_split": 2.0}, "validation_split must be"),
    ],
)
def test_what_does_not_apply_is_refused(iris, options, message: str) -> None:
    X, y = iris
    net = deep()
    before = net.theta.copy(), net.generator.bit_generator.state
    with pytest.raises(ValueError, match=message):
        net.fit(**{"X": X, "y": y, "optimizer": fnn.LBFGS(), **options})
    assert (net.theta == before[0]).all()
    assert net.generator.bit_generator.state == before[1]
    assert net.history is None


@pytest.mark.parametrize(
    "options",
    [{"batch_size": None}, {"batch_size": 150}, {"l1": 0.0, "clip_norm": None, "clip_value": None, "resume": False}],
)
def test_what_asks_for_nothing_else_is_taken(iris, options) -> None:
    X, y = iris
    nets = deep(), deep()
    for net, more in zip(nets, ({}, options), strict=True):
        net.fit(X, y, optimizer=fnn.LBFGS(max_iter=3), **more)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_defaults_of_fit_print_as_their_values() -> None:
    parameters = inspect.signature(fnn.Sequential.fit).parameters
    assert [str(parameters[name].default) for name in ("epochs", "batch_size", "shuffle")] == ["10", "64", "True"]
