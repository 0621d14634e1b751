"""Whole networks against results of PyTorch, kept in a file: loss, gradient, and twenty steps of Adam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

FILE = Path(__file__).with_name("golden") / "networks.npz"  # made by make_networks.py beside it

with np.load(FILE) as _file:
    ARRAYS = dict(_file)
DESCRIPTION: dict[str, Any] = json.loads(str(ARRAYS.pop("description")))
CASES: list[dict[str, Any]] = DESCRIPTION["cases"]

every_case = pytest.mark.parametrize("index", range(len(CASES)), ids=[case["name"] for case in CASES])


def network(index: int, backend: str) -> tuple[fnn.Sequential, dict[str, np.ndarray], dict[str, Any]]:
    """A case's network in its initial state, the case's arrays, and the options of its objective."""
    case = CASES[index]
    arrays = {key.split(".", 1)[1]: value for key, value in ARRAYS.items() if key.startswith(f"{index}.")}
    net = fnn.Sequential(
        [fnn.Dense(units, activation, bias=bias) for units, activation, bias in case["layers"]],
        input_size=arrays["X"].shape[1],
        loss=case["loss"],
        dtype="float64",
        input_scale=case.get("input_scale"),
        backend=backend,
    )
    net.theta[...] = arrays["theta"]
    options = {"sample_weight": arrays.get("sample_weight"), "l1": case.get("l1", 0.0), "l2": case.get("l2", 0.0)}
    return net, arrays, options


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference over the largest absolute value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@every_case
def test_loss_and_gradient(index: int, backend: str) -> None:
    net, arrays, options = network(index, backend)
    loss, gradient = net.loss_and_gradient(arrays["X"], arrays["y"], **options)
    assert loss == pytest.approx(float(arrays["loss"]), rel=1e-10)
    assert largest_difference(gradient, arrays["gradient"]) < 1e-10


@every_case
def test_short_training(index: int, backend: str) -> None:
    net, arrays, options = network(index, backend)
    training = DESCRIPTION["training"]
    net.fit(
        arrays["X"],
        arrays["y"],
        optimizer=fnn.Adam(training["learning_rate"]),
        epochs=training["epochs"],
        batch_size=training["batch_size"],
        shuffle=False,
        **options,
    )
    moved = arrays["trained"] - arrays["theta"]
    assert np.abs(moved).max() > 0.05
    assert largest_difference(net.theta - arrays["theta"], moved) < 1e-8


def test_the_cases_cover_the_losses_and_the_smooth_activations() -> None:
    assert {case["loss"] for case in CASES} == {"cross_entropy", "binary_cross_entropy", "squared_error"}
    used = {activation for case in CASES for _, activation, _ in case["layers"]}
    assert used >= {"tanh", "sigmoid", "softplus", "elu", "gelu", "silu"}
