"""Small networks and data of the tests of training."""

from __future__ import annotations

import numpy as np

import fastnn as fnn


def linear_network(backend: str, dtype: str = "float64", n_in: int = 3, seed: int = 1) -> fnn.Sequential:
    layers = [fnn.Dense(2, bias_init="normal")]
    return fnn.Sequential(layers, input_size=n_in, loss="squared_error", dtype=dtype, seed=seed, backend=backend)


def classifier(backend: str, **options) -> fnn.Sequential:
    layers = [fnn.Dense(8, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0, backend=backend, **options)


def blobs(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n)
    return rng.normal(size=(n, 4)) + 2.0 * np.eye(3, 4)[y], y
