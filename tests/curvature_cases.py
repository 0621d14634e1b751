"""Random networks and data for the tests of curvature: architectures, losses, activations, weights, penalties."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
from jets import Oracle

import fastnn as fnn
from fastnn import curvature as cv

BACKENDS = ["compiled", "reference"]
SMOOTH = ("tanh", "sigmoid", "softplus", "elu", "gelu", "silu")
KINKED = ("relu", "leaky_relu", "hard_tanh", "leaky_tanh")
LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error", "huber", "poisson")
N_CASES = 30  # of which golden/curvature.npz has results
N_SCALED = 6  # more of them, with Scale and the activations that came later
LATER = ("selu", "mish")


class Case(NamedTuple):
    """A network with data; `options` go into net.gradient and the curvature functions."""

    name: str
    net: fnn.Sequential
    X: np.ndarray
    y: np.ndarray
    options: dict[str, Any]

    @property
    def chain(self) -> bool:
        """Whether all layers are dense or element-wise without parameters."""
        return not any(isinstance(layer, (fnn.BatchNorm, fnn.LayerNorm, fnn.Scale)) for layer in self.net.layers)

    @property
    def whole(self) -> bool:
        """Whether its rows depend on one another."""
        return self.options["training"] and any(isinstance(layer, fnn.BatchNorm) for layer in self.net.layers)


def case(number: int, backend: str = "reference", dtype: str = "float64") -> Case:
    """The case of a number: the first half without norm layers, every second of the others in training mode.

    From N_CASES on there are Scale layers between all others, the first and the last but one included.
    """
    rng = np.random.default_rng([7, number])
    loss = LOSSES[number % len(LOSSES)]
    normed = number >= N_CASES // 2
    features, K, N = int(rng.integers(2, 5)), int(rng.integers(2, 4)), int(rng.integers(4, 9))
    layers: list[Any] = []
    scaled = number >= N_CASES
    smooth = LATER if scaled else SMOOTH
    if scaled and number % 2:
        layers.append(fnn.Scale())
    if rng.random() < 0.4 and not layers:
        layers.append(fnn.Standardize())
    if rng.random() < 0.2:
        layers.append(fnn.Activation(str(rng.choice(SMOOTH))))
    for _ in range(int(rng.integers(1, 4)) if not normed else int(rng.integers(1, 3))):
        kind = str(rng.choice(smooth if rng.random() < 0.8 else KINKED))
        behind = rng.random() < 0.5
        units = int(rng.integers(2, 5))
        layers.append(fnn.Dense(units, "linear" if behind else kind, bias=bool(rng.random() < 0.8)))
        if normed:
            layers.append(fnn.LayerNorm() if units > 2 and rng.random() < 0.25 else fnn.BatchNorm())
        if scaled:
            layers.append(fnn.Scale())
        if behind:
            layers.append(fnn.Activation(kind))
        if rng.random() < 0.3:
            layers.append(fnn.Dropout(0.3))
        if rng.random() < 0.2:
            layers.append(fnn.Activation("tanh"))
    if scaled and number % 3:
        layers.append(fnn.Scale())
    free = loss in ("squared_error", "huber")
    layers.append(fnn.Dense(K, str(rng.choice(SMOOTH)) if free and rng.random() < 0.5 else "linear"))
    if free and rng.random() < 0.3:
        layers.append(fnn.Activation("softplus"))
    head: Any = loss
    if loss == "cross_entropy" and rng.random() < 0.5:
        head = fnn.losses.CrossEntropy(label_smoothing=0.1)
    net = fnn.Sequential(
        layers,
        input_size=features,
        loss=head,
        dtype=dtype,
        seed=number,
        input_scale=0.5 if rng.random() < 0.3 else None,
        backend=backend,
    )
    net.theta[...] += (0.4 * rng.standard_normal(net.n_parameters)).astype(dtype)
    X = 1.5 * rng.standard_normal((N, features))
    y = rng.integers(0, K, N) if loss == "cross_entropy" else rng.uniform(0.0, 1.0, (N, K))
    if loss == "huber":
        y = 1.5 * y
    if loss == "poisson":
        y = np.floor(5.0 * y)
    # What training learns: standardisation and running statistics, at plausible values.
    state = rng.uniform(0.5, 1.5, len(net.state))
    for op in net.ops:
        if op.kind == "batch_norm":
            state[op.buffer + 2 * op.n_out] = 3.0
    net.state[...] = state.astype(dtype)
    options = {
        "sample_weight": rng.uniform(0.1, 1.0, N) if rng.random() < 0.7 else None,
        "l2": 0.1 if rng.random() < 0.7 else 0.0,
        "training": normed and number % 2 == 0,
    }
    return Case(f"{number}-{loss}", net, X, y, options)


NUMBERS = range(N_CASES + N_SCALED)
SEPARATE = [number for number in NUMBERS if not case(number).whole]
WHOLE = [number for number in NUMBERS if case(number).whole]
TOLERANCE = 1e-9

every_separate_case = pytest.mark.parametrize("number", SEPARATE)


@functools.cache
def oracle(number: int) -> Oracle:
    made = case(number)
    return Oracle(made.net, made.X, made.y, **made.options)


def error(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))


def places(net: fnn.Sequential) -> dict[int, slice]:
    """Where each layer's parameters are in theta."""
    found: dict[int, slice] = {}
    for name, offset, shape in net.layout:
        layer, stop = int(name.split(".")[0]), offset + int(np.prod(shape))
        found[layer] = slice(found[layer].start if layer in found else offset, stop)
    return found


SECOND_ORDER = [cv.hessian, cv.ggn, cv.hessian_operator, cv.ggn_operator, cv.hessian_blocks, cv.ggn_blocks]
SECOND_ORDER += [cv.hessian_diagonal, cv.ggn_diagonal, cv.kfac_factors, cv.convexity_report, cv.trace, cv.spectrum]
