"""Piecewise functions exactly at their breakpoints, as docs/theory.md has them: kernels and networks, both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from curvature_cases import BACKENDS

import fastnn as fnn
from fastnn import curvature as cv
from fastnn import kernels, losses, reference
from fastnn.reference import ACTIVATIONS

pytestmark = pytest.mark.every_simd

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772
DTYPES = ["float64", "float32"]
both_modules = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
MODULES = {"compiled": kernels, "reference": reference}

# σ, σ' and σ'' of the table in docs/theory.md, of the functions that it writes with "if" or that have a special point.
TABLE: dict[str, Any] = {
    "relu": lambda z: (max(z, 0.0), 1.0 if z > 0 else 0.0, 0.0),
    "leaky_relu": lambda z: (z, 1.0, 0.0) if z > 0 else (z / 100, 0.01, 0.0),
    "hard_tanh": lambda z: (min(max(z, -1.0), 1.0), 1.0 if abs(z) < 1 else 0.0, 0.0),
    "leaky_tanh": lambda z: (np.tanh(z), *tanh_derivatives(z)) if z > 0 else (z / 100, 0.01, 0.0),
    "elu": lambda z: (z, 1.0, 0.0) if z > 0 else (np.expm1(z), np.exp(z), np.exp(z)),
    "selu": lambda z: (
        (LAMBDA * z, LAMBDA, 0.0)
        if z > 0
        else (LAMBDA * ALPHA * np.expm1(z), LAMBDA * ALPHA * np.exp(z), LAMBDA * ALPHA * np.exp(z))
    ),
    "sign": lambda z: (np.sign(z), 0.0, 0.0),
}
POINTS = (0.0, -0.0, 1.0, -1.0)


def tanh_derivatives(z: float) -> tuple[float, float]:
    a = np.tanh(z)
    return 1.0 - a * a, -2.0 * a * (1.0 - a * a)


def around(dtype: str, points: tuple[float, ...] = POINTS) -> np.ndarray:
    """The points themselves, and the numbers next to them on both sides."""
    at = np.array(points, dtype)
    infinity = np.array(np.inf, dtype)
    return np.concatenate([at, np.nextafter(at, infinity), np.nextafter(at, -infinity)])


@both_modules
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kernels_follow_the_table(activation: str, n: int, dtype: str, module: Any) -> None:
    z = np.repeat(around(dtype), n)  # whole vectors of one point, and mixed ones
    for Z in (z, np.tile(around(dtype), n)):
        found = module.activation_derivatives(Z, activation)
        if activation in TABLE:
            expected = np.array([TABLE[activation](float(x)) for x in Z]).T
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
        saved = Z if activation not in reference.SAVES_OUTPUT else found[0]
        slope = module.activation_backward(np.ascontiguousarray(saved), np.ones_like(Z), activation)
        np.testing.assert_allclose(slope, found[1], rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).tiny)


def at_breakpoints(activation: str, width: int, rows: int, backend: str, dtype: str) -> Any:
    """A network whose first layer passes X on, so that its units are at breakpoints and beside them."""
    layers = [fnn.Dense(width, activation), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=width, loss="squared_error", dtype=dtype, seed=1, backend=backend)
    net.parameters["0.weight"][...] = np.eye(width)
    net.parameters["0.bias"][...] = 0.0
    X = np.resize(around(dtype), (rows, width))
    return net, X, np.random.default_rng(0).standard_normal((rows, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "rows"), [(5, 7), (8, 64), (33, 40)])
@pytest.mark.parametrize("activation", [name for name in TABLE if name != "sign"])
def test_networks_follow_the_kernels(activation: str, width: int, rows: int, dtype: str) -> None:
    """Gradients and linearizations use σ', σ'' of exactly the side that the kernels use."""
    results = []
    for backend in BACKENDS:
        net, X, y = at_breakpoints(activation, width, rows, backend, dtype)
        lin = net.plan.linearize(net.theta, X, y)
        z = X + np.zeros(1, dtype)  # the sum with the bias makes 0 of −0
        _, slope, bend = MODULES[backend].activation_derivatives(np.ascontiguousarray(z), activation)
        found = lin.slope(0)
        np.testing.assert_allclose(np.broadcast_to(found, slope.shape), slope, rtol=1e-6, atol=1e-30)
        back = (lin.outputs - y) @ net.parameters["1.weight"].T
        np.testing.assert_allclose(lin.delta(0), slope * back, rtol=1e-4, atol=1e-6)
        if lin.bend(0) is None:
            assert not bend.any()
        else:
            np.testing.assert_allclose(lin.bend(0), bend * back, rtol=1e-4, atol=1e-6)
        results.append((net.gradient(X, y), cv.hessian_diagonal(net, X, y), cv.input_jacobian(net, X)))
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    for compiled, by_reference in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, by_reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", [name for name in TABLE if name != "sign"])
def test_training_uses_the_same_sides(activation: str, backend: str) -> None:
    """One step of gradient descent is a step along the gradient, with every unit at a breakpoint or beside it."""
    net, X, y = at_breakpoints(activation, 16, 64, backend, "float64")
    subnormal = (X != 0.0) & (np.abs(X) < np.finfo(X.dtype).tiny)  # training takes these for zeros
    X = np.where(subnormal, np.copysign(np.finfo(X.dtype).tiny, X), X)
    expected = net.theta - 0.1 * net.gradient(X, y)
    net.fit(X, y, optimizer=fnn.SGD(0.1), epochs=1, batch_size=None)
    np.testing.assert_allclose(net.theta, expected, rtol=1e-12, atol=1e-13)


# Of d = z − y: ℓ, ∂ℓ/∂z, ∂²ℓ/∂z².
LOSS_TABLE: dict[str, Any] = {
    "absolute_error": lambda d: (abs(d), np.sign(d), 0.0),
    "huber": lambda d: (0.5 * d * d, d, 1.0) if abs(d) <= 1 else (abs(d) - 0.5, np.sign(d), 0.0),
    "squared_error": lambda d: (0.5 * d * d, d, 1.0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 4, 19])
@pytest.mark.parametrize("loss", LOSS_TABLE)
def test_losses_follow_the_table(loss: str, outputs: int, dtype: str, backend: str) -> None:
    net = fnn.Sequential([fnn.Dense(outputs)], input_size=outputs, loss=loss, dtype=dtype, seed=0, backend=backend)
    net.parameters["0.weight"][...] = np.eye(outputs)
    net.parameters["0.bias"][...] = 0.0
    Z = np.resize(around(dtype), (24, outputs))
    y = np.zeros_like(Z)
    values, slopes, curvature = (np.array([LOSS_TABLE[loss](float(d)) for d in Z.ravel()]).T).reshape(3, *Z.shape)
    eps = 4 * float(np.finfo(dtype).eps)
    mean, delta = getattr(MODULES[backend], loss)(Z, y)
    assert mean == pytest.approx(values.sum() / len(Z), rel=eps)
    np.testing.assert_allclose(delta * len(Z), slopes, rtol=eps, atol=np.finfo(dtype).tiny)
    lin = net.plan.linearize(net.theta, Z, y)
    np.testing.assert_array_equal(lin.curvature, curvature)
    np.testing.assert_allclose(lin.delta(0), slopes, rtol=2 * eps, atol=np.finfo(dtype).tiny)
    if losses.get(loss).has_curvature:
        diagonal = cv.hessian_diagonal(net, Z, y)[-outputs:]
        np.testing.assert_allclose(diagonal, curvature.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_largest_logits_may_be_equal(backend: str) -> None:
    """The maximum of a softmax is a breakpoint of its computation, not of the function."""
    net = fnn.Sequential([fnn.Dense(3)], input_size=2, loss="cross_entropy", dtype="float64", seed=0, backend=backend)
    net.theta[...] = 0.0
    X = np.zeros((4, 2))
    assert fnn.check_gradient(net, X, [0, 1, 2, 2])
    assert fnn.check_hessian(net, X, [0, 1, 2, 2])
