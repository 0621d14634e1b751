"""Curvature of the cross-entropy with targets that do not sum to exactly 1: ∂²ℓ/∂z² is Σ y (diag p − p pᵀ)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from curvature_cases import BACKENDS, error

import fastnn as fnn
from fastnn import curvature as cv

pytestmark = pytest.mark.every_simd

ROWS, CLASSES = 7, 4
SUMS = {"0.3": 0.3, "1.7": 1.7, "mixed": np.random.default_rng(1).uniform(0.2, 2.0, ROWS), "a zero": np.arange(7.0) / 3}
SMOOTHING = {"plain": 0.0, "smoothed": 0.1}
LAYERS: dict[str, Any] = {
    "chain": lambda: [fnn.Dense(5, "tanh"), fnn.Dense(4, "softplus"), fnn.Dense(CLASSES)],
    "normed": lambda: [fnn.Dense(5, "tanh"), fnn.LayerNorm(), fnn.Dense(CLASSES)],
    "coupled": lambda: [fnn.Dense(5), fnn.BatchNorm(), fnn.Activation("gelu"), fnn.Dense(CLASSES)],
}
OPTIONS = {layers: {"l2": 0.1, "training": layers == "coupled"} for layers in LAYERS}


@pytest.fixture(autouse=True)
def _any_sum(monkeypatch):
    """Networks refuse sums that differ from 1 by more than 1e-3; here they are taken."""
    monkeypatch.setattr(
        fnn.losses.CrossEntropy, "_targets", lambda _, y, K, dtype: y if y.ndim == 1 else y.astype(dtype)
    )


def made(layers="chain", backend="compiled", dtype="float64", sums="mixed", smoothing="plain"):
    """A network, X, y and the weights of the rows: parameters and targets that float32 has too, for any dtype."""
    rng = np.random.default_rng(5)
    net = fnn.Sequential(
        LAYERS[layers](),
        input_size=3,
        loss=fnn.losses.CrossEntropy(SMOOTHING[smoothing]),
        dtype=dtype,
        seed=2,
        backend=backend,
    )
    y = rng.dirichlet(np.ones(CLASSES), ROWS)
    y *= np.broadcast_to(SUMS[sums], ROWS)[:, None]
    net.theta[...] = net.theta.astype("float32")
    return net, rng.standard_normal((ROWS, 3)), y.astype("float32").astype(dtype), rng.uniform(0.2, 1.0, ROWS)


def differences(net, X, y, **options) -> np.ndarray:
    """Hessian of a network in float64 by central differences of the gradient."""
    double, h = net.copy(), 1e-5
    theta = double.theta.copy()
    rows = []
    for i in range(len(theta)):
        ends = []
        for sign in (-1.0, 1.0):
            double.theta[...] = theta
            double.theta[i] += sign * h
            ends.append(double.gradient(X, y, **options))
        rows.append((ends[1] - ends[0]) / (2.0 * h))
    return np.array(rows)


@functools.cache
def truth(layers, sums, smoothing, plain) -> tuple[np.ndarray, np.ndarray]:
    """Gradient, and Hessian by differences of it, once for both backends and dtypes."""
    net, X, y, w = made(layers, BACKENDS[0], "float64", sums, smoothing)
    options = {**OPTIONS[layers], "sample_weight": None if plain else w}
    return net.gradient(X, y, **options), differences(net, X, y, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("layers", LAYERS)
def test_hessians_have_the_sum_of_the_targets(layers, sums, smoothing, dtype, backend):
    net, X, y, w = made(layers, backend, dtype, sums, smoothing)
    tolerance = 1e-7 if dtype == "float64" else 2e-5
    for weight in (None, w):
        options = {**OPTIONS[layers], "sample_weight": weight}
        gradient, expected = truth(layers, sums, smoothing, weight is None)
        assert error(net.astype("float64").gradient(X, y, **options), gradient) < 1e-12
        assert error(cv.hessian(net, X, y, **options), expected) < tolerance
        products = cv.hessian_operator(net, X, y, **options).matmat(np.eye(len(expected)))
        assert error(products, expected) < tolerance
        assert error(cv.hessian_diagonal(net, X, y, **options), np.diag(expected)) < tolerance
        if dtype == "float64" and sums == "mixed":  # which takes the same differences again
            assert fnn.check_hessian(net, X, y, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("layers", ["chain", "normed"])
def test_gauss_newton_and_kfac_have_it_too(layers, sums, backend):
    net, X, y, w = made(layers, backend, sums=sums)
    J, p = cv.output_jacobian(net, X), net.predict_proba(X)
    H = y.sum(axis=1)[:, None, None] * (np.einsum("nk,kl->nkl", p, np.eye(CLASSES)) - p[:, :, None] * p[:, None, :])
    expected = np.einsum("n,nkp,nkl,nlq->pq", w / w.sum(), J, H, J)
    options = {"sample_weight": w}
    assert error(cv.ggn(net, X, y, **options), expected) < 1e-12
    assert error(cv.ggn_operator(net, X, y, **options).matmat(np.eye(len(expected))), expected) < 1e-12
    assert error(cv.ggn_diagonal(net, X, y, **options), np.diag(expected)) < 1e-12
    last = len(net.layers) - 1
    _, G = cv.kfac_factors(net, X, y, **options)[last]
    exact = np.einsum("n,nkl->kl", w / w.sum(), H)
    assert error(G, exact) < 1e-12
    many = {"sample_weight": np.tile(w, 100), "kind": "mc"}
    X, y = np.tile(X, (100, 1)), np.tile(y, (100, 1))
    drawn = [cv.kfac_factors(net, X, y, seed=seed, **many)[last][1] for seed in range(30)]
    spread = np.std(drawn, axis=0).max() / np.sqrt(len(drawn))
    assert np.abs(np.mean(drawn, axis=0) - exact).max() < 5.0 * spread


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layers", ["chain", "normed"])
def test_so_have_the_rows_own_hessians(layers, backend):
    net, X, y, _ = made(layers, backend)
    for layer in (0, len(net.layers) - 1):
        blocks = cv.per_sample_hessian_blocks(net, X, y, layer=layer)
        whole = cv.hessian_blocks(net, X, y)[layer]
        assert error(blocks.mean(axis=0), whole) < 1e-12
        for i in range(ROWS):
            alone = cv.hessian_blocks(net, X[i : i + 1], y[i : i + 1])[layer]
            assert error(blocks[i], alone) < 1e-9 if y[i].any() else not alone.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_hot_rows_have_the_bits_of_labels(backend):
    net, X, _, w = made("chain", backend)
    labels = np.arange(ROWS) % CLASSES
    hot = np.eye(CLASSES)[labels]
    for options in ({}, {"sample_weight": w}):
        assert np.array_equal(cv.ggn(net, X, hot, **options), cv.ggn(net, X, labels, **options))
        factors = cv.kfac_factors(net, X, hot, **options), cv.kfac_factors(net, X, labels, **options)
        for i in factors[0]:
            assert np.array_equal(factors[0][i][1], factors[1][i][1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_the_sigmoid_has_no_such_factor(smoothing, backend):
    # Σ y and Σ (1 − y) add up to 1 in each output, whatever y.
    rng = np.random.default_rng(3)
    net = fnn.Sequential(
        [fnn.Dense(4, "tanh"), fnn.Dense(3)],
        input_size=2,
        loss=fnn.losses.BinaryCrossEntropy(SMOOTHING[smoothing]),
        dtype="float64",
        seed=0,
        backend=backend,
    )
    X, y = rng.standard_normal((6, 2)), rng.uniform(0.0, 1.0, (6, 3))
    assert fnn.check_gradient(net, X, y)
    assert fnn.check_hessian(net, X, y)
