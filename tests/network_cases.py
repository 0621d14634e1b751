"""Networks and data of every loss, for the tests of networks."""

from __future__ import annotations

import numpy as np

import fastnn as fnn


def network(backend: str, loss: str = "cross_entropy", hidden: str = "tanh", outputs: int = 3, **options):
    layers = [
        fnn.Dense(5, hidden, bias_init="normal"),
        fnn.Dense(4, hidden, bias=False),
        fnn.Dense(outputs, bias_init="normal"),
    ]
    options = {"dtype": "float64", "seed": 0, **options}
    return fnn.Sequential(layers, input_size=6, loss=loss, backend=backend, **options)


def name_of(loss) -> str:
    return fnn.losses.get(loss).name


def data(loss, n: int = 11, outputs: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    if name_of(loss) == "cross_entropy":
        y = rng.integers(0, outputs, size=n)
    elif loss == "binary_cross_entropy":
        y = rng.integers(0, 2, size=(n, outputs))
    elif loss == "poisson":
        y = rng.poisson(2.0, size=(n, outputs))
    else:
        y = rng.normal(size=(n, outputs))
    return X, y, rng.random(n)
