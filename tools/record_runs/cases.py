"""What the runs share: their register, data, networks, and what a training leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn

Results = dict[str, Any]
CASES: dict[str, Callable[..., Results]] = {}
WORKERS = (1, 2)
ACTIVATIONS = (
    *("linear", "relu", "leaky_relu", "tanh", "hard_tanh", "leaky_tanh"),
    *("sigmoid", "softplus", "elu", "gelu", "silu", "sign"),
)
LATER = ("selu", "mish")  # in runs of their own, so that the others keep their hashes
SERIES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_r2", "learning_rate", "gradient_norm", "step", "damping")


def case(name: str, threads: bool = True) -> Callable[[Callable[..., Results]], Callable[..., Results]]:
    """Register a run for both types, and unless told otherwise for one and two workers."""

    def register(function: Callable[..., Results]) -> Callable[..., Results]:
        for dtype in ("float32", "float64"):
            for n in WORKERS if threads else (1,):
                CASES[f"{name}, {dtype}, {n}"] = lambda dtype=dtype, n=n: function(dtype, n)
        return function

    return register


# Data, the same for all runs of a kind.


def classes(n: int = 700, d: int = 64, k: int = 10, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, d, k])
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, k)) + rng.standard_normal((n, k))).argmax(axis=1)
    return X.astype(dtype), y


def values(n: int = 700, d: int = 64, k: int = 3, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, d, k, 1])
    X = rng.standard_normal((n, d))
    return X.astype(dtype), (np.tanh(X[:, :k]) + 0.1 * rng.standard_normal((n, k))).astype(dtype)


def pixels(n: int = 700, d: int = 100, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Four fifths of them 0."""
    rng = np.random.default_rng([n, d, k, 2])
    X = rng.integers(1, 256, (n, d)) * (rng.random((n, d)) < 0.2)
    return X.astype(np.uint8), rng.integers(0, k, n)


def weights(n: int) -> np.ndarray:
    return np.random.default_rng([n, 3]).integers(0, 4, n) / 2


# Training.


def network(layers: list[Any], d: int, dtype: str, loss: Any = "cross_entropy", **options: Any) -> fnn.Sequential:
    return fnn.Sequential(layers, input_size=d, loss=loss, dtype=dtype, seed=1, **options)


def wide(units: int = 128, activation: str = "relu", outputs: int = 10) -> list[Any]:
    return [fnn.Dense(units, activation), fnn.Dense(64, activation), fnn.Dense(outputs)]


def outcome(net: fnn.Sequential, X: Any, y: Any) -> Results:
    """What a training leaves."""
    results = {"theta": net.theta, "state": net.state, "outputs": net.decision_function(X)}
    results["scores"] = [net.evaluate(X, y)[name] for name in ("loss", "accuracy", "r2") if name in net.evaluate(X, y)]
    if net.history is not None:
        results["history"] = [net.history[name] for name in SERIES if name in net.history.keys()]  # noqa: SIM118
    return results


def train(net: fnn.Sequential, X: Any, y: Any, n: int, **options: Any) -> Results:
    given = {"optimizer": fnn.Adam(1e-3), "epochs": 2, "batch_size": 256, "threads": n, **options}
    net.fit(X, y, **given)
    return outcome(net, X, y)


def prefixed(parts: dict[str, Results]) -> Results:
    return {f"{name}.{key}": value for name, results in parts.items() for key, value in results.items()}
