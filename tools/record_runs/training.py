"""Runs of training: layers, losses, optimizers, options, and what X may be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from cases import (
    ACTIVATIONS,
    LATER,
    Results,
    case,
    classes,
    network,
    outcome,
    pixels,
    prefixed,
    train,
    values,
    weights,
    wide,
)

import fastnn as fnn

for _name in (*ACTIVATIONS, *LATER):

    @case(f"activation {_name}")
    def activation(dtype: str, n: int, name: str = _name) -> Results:
        X, y = classes(dtype=dtype)
        net = network(wide(activation=name), 64, dtype)
        loss, gradient = net.loss_and_gradient(X, y, l2=1e-2, threads=n)
        return {"loss": loss, "gradient": gradient, **train(net, X, y, n)}


@case("activation, own layer")
def own_layer(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    layers = [fnn.Dense(128), fnn.Activation("gelu"), fnn.Dense(64, bias=False), fnn.Activation("tanh"), fnn.Dense(10)]
    return train(network(layers, 64, dtype), X, y, n)


NORMS = {
    "batch norm": [fnn.Dense(128), fnn.BatchNorm(momentum=0.8), fnn.Activation("relu"), fnn.Dense(10)],
    "layer norm": [fnn.Dense(128), fnn.LayerNorm(), fnn.Activation("tanh"), fnn.Dense(10)],
    "dropout": [fnn.Dense(128, "relu"), fnn.Dropout(0.3), fnn.Dense(64, "relu"), fnn.Dropout(0.1), fnn.Dense(10)],
    "standardize": [fnn.Standardize(), fnn.Dense(128, "relu"), fnn.Dense(10)],
    "scale": [fnn.Scale(), fnn.Dense(128, "relu"), fnn.Scale(), fnn.Dense(64, "selu"), fnn.Scale(), fnn.Dense(10)],
    "all": [
        *(fnn.Standardize(), fnn.Dropout(0.1), fnn.Dense(128), fnn.BatchNorm(), fnn.Activation("silu")),
        *(fnn.Dropout(0.2), fnn.Dense(64, "elu"), fnn.LayerNorm(), fnn.Dense(32, "softplus"), fnn.Dense(10)),
    ],
}
for _name, _layers in NORMS.items():

    @case(f"layers {_name}")
    def layers(dtype: str, n: int, layers: Any = _layers) -> Results:
        X, y = classes(dtype=dtype)
        net = network(layers, 64, dtype)
        trained = train(net, X, y, n, validation_data=(X[:100], y[:100]))
        loss, gradient = net.loss_and_gradient(X, y, l1=1e-3, training=True, threads=n)
        return {"loss": loss, "gradient": gradient, **trained}


LOSSES: dict[str, tuple[Any, int]] = {
    "cross_entropy": ("cross_entropy", 10),
    "smoothed": (fnn.losses.CrossEntropy(label_smoothing=0.1), 10),
    "binary": ("binary_cross_entropy", 1),
    "labels": ("binary_cross_entropy", 4),
    "squared_error": ("squared_error", 3),
    "absolute_error": ("absolute_error", 3),
    "huber": ("huber", 3),
    "poisson": ("poisson", 2),
}


def targets(name: str, k: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    if k == 10:
        return classes(dtype=dtype)
    X, y = values(k=k, dtype=dtype)
    if name in ("binary", "labels"):
        return X, (y > 0).astype(dtype)
    return X, np.floor(np.exp(y)).astype(dtype) if name == "poisson" else y


for _name, (_loss, _k) in LOSSES.items():

    @case(f"loss {_name}")
    def loss(dtype: str, n: int, name: str = _name, loss: Any = _loss, k: int = _k) -> Results:
        X, y = targets(name, k, dtype)
        w = weights(len(X))
        plain = train(network(wide(outputs=k), 64, dtype, loss), X, y, n)
        weighted = train(network(wide(outputs=k), 64, dtype, loss), X, y, n, sample_weight=w, l2=1e-3)
        return prefixed({"plain": plain, "weighted": weighted})


@case("loss of soft targets and class weights")
def soft(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    T = np.random.default_rng(5).dirichlet(np.ones(10), len(X)).astype(dtype)
    return prefixed(
        {
            "soft": train(network(wide(), 64, dtype), X, T, n),
            "smoothed": train(network(wide(), 64, dtype, fnn.losses.CrossEntropy(label_smoothing=0.2)), X, T, n),
            "balanced": train(network(wide(), 64, dtype), X, y, n, class_weight="balanced"),
            "given": train(network(wide(), 64, dtype), X, y, n, class_weight={0: 2.0, 3: 0.5}, validation_split=0.2),
        }
    )


OPTIMIZERS = {
    "sgd": fnn.SGD(0.05),
    "momentum": fnn.SGD(0.05, momentum=0.9),
    "nesterov": fnn.SGD(0.05, momentum=0.9, nesterov=True),
    "nag": fnn.NAG(0.05),
    "adagrad": fnn.AdaGrad(0.02),
    "rmsprop": fnn.RMSProp(1e-3),
    "rmsprop centred": fnn.RMSProp(1e-3, rho=0.9, momentum=0.5, centered=True),
    "adam epsilon_hat": fnn.Adam(1e-3, epsilon_hat=True),
    "amsgrad": fnn.Adam(1e-3, amsgrad=True),
    "adamw": fnn.AdamW(1e-3, weight_decay=0.1, amsgrad=True),
    "kfac": fnn.KFAC(update_every=2),
    "kfac empirical": fnn.KFAC(kind="empirical", update_every=3, momentum=0.5),
}
for _name, _optimizer in OPTIMIZERS.items():

    @case(f"optimizer {_name}")
    def optimizer(dtype: str, n: int, optimizer: Any = _optimizer) -> Results:
        """Stopped and gone on with from a file, and trained further: the optimizer's state is part of the result."""
        X, y = classes(dtype=dtype)
        net = network(wide(), 64, dtype)
        train(net, X, y, n, optimizer=optimizer)
        with tempfile.TemporaryDirectory() as folder:
            net.save(Path(folder) / "net.safetensors", training_state=True)
            net = fnn.load(Path(folder) / "net.safetensors")
        resumed = train(net, X, y, n, optimizer=optimizer, epochs=4, resume=True)
        net.partial_fit(X[:300], y[:300], batch_size=128, threads=n)
        return prefixed({"resumed": resumed, "further": outcome(net, X, y)})


OPTIONS: dict[str, dict[str, Any]] = {
    "clip_norm": {"clip_norm": 0.5, "l2": 1e-2},
    "clip_value": {"clip_value": 1e-3, "l1": 1e-4},
    "in order": {"shuffle": False, "batch_size": 100},
    "whole": {"batch_size": None, "epochs": 4},
    "validation_split": {"validation_split": 0.25, "seed": 7},
    "rational": {"optimizer": fnn.SGD(fnn.RationalDecay(0.1, 0.5, "step"))},
    "exponential": {"optimizer": fnn.Adam(fnn.ExponentialDecay(1e-3))},
    "root": {"optimizer": fnn.Adam(fnn.RootDecay(1e-3, per="step"))},
    "steps": {"optimizer": fnn.RMSProp(fnn.StepDecay(1e-3, every=1))},
    "warm": {"optimizer": fnn.Adam(fnn.WarmUp(fnn.CosineDecay(1e-3, 3))), "epochs": 4},
    "plateau": {"optimizer": fnn.SGD(fnn.ReduceOnPlateau(2.0, patience=1)), "epochs": 5},
}


@case("options of fit")
def options(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    return prefixed({name: train(network(wide(), 64, dtype), X, y, n, **given) for name, given in OPTIONS.items()})


@case("multipliers of learning rates")
def multipliers(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    layers = [
        fnn.Dense(128, learning_rate_multiplier=0.0),
        fnn.BatchNorm(learning_rate_multiplier=3.0),
        fnn.Activation("relu"),
        fnn.Dense(64, "tanh", learning_rate_multiplier=0.1, init="he_normal", bias_init=0.1),
        fnn.Dense(10),
    ]
    rules = {"adamw": fnn.AdamW(1e-3), "sgd": fnn.SGD(0.05, momentum=0.5)}
    return prefixed(
        {
            name: train(network(layers, 64, dtype), X, y, n, optimizer=rule, clip_norm=1.0, l1=1e-4)
            for name, rule in rules.items()
        }
    )


@case("deterministic")
def deterministic(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    return prefixed(
        {
            "dense": train(network(wide(), 64, dtype), X, y, n, deterministic=True),
            "norms": train(network(NORMS["all"], 64, dtype), X, y, n, deterministic=True),
        }
    )


@case("narrow networks")
def narrow(dtype: str, n: int) -> Results:
    parts = {}
    for k, activation, loss in ((3, "tanh", "cross_entropy"), (10, "relu", "cross_entropy"), (1, "elu", "huber")):
        X, y = classes(3000, 4, k, dtype) if loss == "cross_entropy" else values(3000, 4, k, dtype)
        net = network([fnn.Dense(10, activation), fnn.Dense(10, activation), fnn.Dense(k)], 4, dtype, loss)
        parts[f"{activation}{k}"] = train(net, X, y, n, batch_size=1000, sample_weight=weights(len(X)))
        parts[f"{activation}{k}"]["gradient"] = net.gradient(X, y, threads=n)
    return prefixed(parts)


@case("tiny batches")
def tiny(dtype: str, n: int) -> Results:
    X, y = classes(150, 4, 3, dtype)
    return train(network([fnn.Dense(10, "tanh"), fnn.Dense(3)], 4, dtype), X, y, n, batch_size=16, epochs=5)


# What X may be.


@case("zeros, uint8, sparse, other types")
def inputs(dtype: str, n: int) -> Results:
    P, y = pixels()
    given = {
        "uint8": P,
        "same": (P / 255).astype(dtype),
        "other": np.asfortranarray((P / 255).astype("float64" if dtype == "float32" else "float32")),
        "int": P.astype(np.int64),
        "csr": scipy.sparse.csr_matrix((P / 255).astype(dtype)),
        "csr8": scipy.sparse.csr_array(P),
    }
    parts = {}
    for name, X in given.items():
        for batch_size in (64, 350):
            scale = 1 / 255 if name in ("uint8", "int", "csr8") else None
            net = network(wide(), 100, dtype, input_scale=scale)
            parts[f"{name}{batch_size}"] = train(net, X, y, n, batch_size=batch_size)
            parts[f"{name}{batch_size}"]["gradient"] = net.gradient(X, y, threads=n)
    return prefixed(parts)


@case("streams")
def streams(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)

    def batches() -> Iterator[Any]:
        for start in range(0, len(X), 250):
            rows = slice(start, start + 250)
            yield X[rows], y[rows], weights(len(X))[rows]

    net = network(wide(), 64, dtype)
    net.fit(batches, epochs=2, validation_data=(X, y), threads=n)
    return outcome(net, X, y)


@case("reference", threads=False)
def reference(dtype: str, n: int) -> Results:
    """The NumPy reference."""
    X, y = classes(300, dtype=dtype)
    parts = {
        name: train(network(NORMS["all"], 64, dtype, backend="reference"), X, y, n, optimizer=rule)
        for name, rule in OPTIMIZERS.items()
        if "kfac" not in name
    }
    for name in ACTIVATIONS:
        parts[name] = train(network(wide(32, name), 64, dtype, backend="reference"), X, y, n, l2=1e-2)
    for name, (loss, k) in LOSSES.items():
        X, y = targets(name, k, dtype)
        net = network(wide(32, "tanh", k), 64, dtype, loss, backend="reference")
        parts[name] = train(net, X, y, n, sample_weight=weights(len(X)), deterministic=True)
        if name != "absolute_error":
            parts[name]["product"] = fnn.curvature.hessian_operator(net, X, y) @ net.theta
    return prefixed(parts)


@case("reference of selu, mish and scale", threads=False)
def later_reference(dtype: str, n: int) -> Results:
    X, y = classes(300, dtype=dtype)
    stacks = {"selu": wide(32, "selu"), "mish": wide(32, "mish"), "scale": NORMS["scale"]}
    nets = {name: network(layers, 64, dtype, backend="reference") for name, layers in stacks.items()}
    parts = {name: train(net, X, y, n, l2=1e-2) for name, net in nets.items()}
    for name, net in nets.items():
        parts[name]["product"] = fnn.curvature.hessian_operator(net, X, y) @ net.theta
    return prefixed(parts)
