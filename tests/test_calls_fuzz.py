"""Random calls of public functions: whatever an argument is, an error is one of the documented kinds, and a call that
is refused has changed nothing.

FASTNN_FUZZ is the number of seconds of processor time, 6 by default: other processes cost no calls.
"""

from __future__ import annotations

import copy
import os
import pickle
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastnn as fnn
from fastnn import curvature as cv

SECONDS = float(os.environ.get("FASTNN_FUZZ", "6"))

#: What functions document; OverflowError, IndexError, AttributeError and the like are faults.
DOCUMENTED = (TypeError, ValueError, fnn.DivergenceError, MemoryError, ImportError, OSError, KeyError)

HUGE = [2**63, 2**64, -(2**63) - 1, 10**30, 10**400]
#: Arguments that say how long something takes: no valid large values.
COUNTS = {"epochs", "max_iter", "steps_per_epoch", "patience", "n_steps", "n_vectors", "n_samples", "length", "period"}


class Odd:
    """Something that is nothing."""


def values(rng: np.random.Generator) -> list[Any]:
    """One of each kind that somebody might pass."""
    a = rng.normal(size=(6, 3))
    masked = np.ma.masked_greater(a, 0.5)
    return [
        *(None, True, False, 0, 1, 2, 3, -1, -(2**31), 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf")),
        *HUGE,
        *(1 + 2j, "", "x", "adam", "relu", b"x", [], {}, (), set(), Odd(), Odd, len, [1, "a"], {"a": 1}, range(6)),
        *(np.float32(0.5), np.int64(2), np.uint64(2**63), np.array(3), np.array([]), np.bool_(True)),
        *(a, a.astype(np.float32), a[0], a.T, a[:0], a[:, :0], a[:, :2], a[::2], a[::-1], a.astype(complex)),
        *(a.astype(object), np.full((6, 3), None), a.astype(str), a.astype("f2"), a.astype(">f8"), masked),
        *(np.full((6, 3), np.nan), np.full((6, 3), 1e300), np.full((6, 3), np.inf), np.zeros((6, 3), "M8[s]")),
        *(scipy.sparse.csr_array(a), scipy.sparse.csc_array(a[:, :2]), scipy.sparse.coo_array(a)),
        *(np.arange(6), np.arange(6) % 2, np.zeros(6), -np.ones(6), np.arange(6.0), np.arange(5), list(range(6))),
        *(np.arange(6).astype(object), np.array(list("abcdef")), np.full(6, 2**62), np.ma.masked_less(np.arange(6), 3)),
        *(np.zeros(6, [("a", "f8"), ("b", "f8")]), np.random.default_rng(0), np.random.RandomState(0)),
        *(fnn.Adam(0.1), fnn.Adam, fnn.Dense(2), fnn.LBFGS(max_iter=2), fnn.CosineDecay(0.1, 3), fnn.EarlyStopping()),
        *((a, np.arange(6) % 2), (a, a), [(a, np.arange(6) % 2)], iter([(a, np.arange(6) % 2)]), lambda: 3),
    ]


def networks() -> list[fnn.Sequential]:
    """Small ones of different layers, losses, dtypes and backends, trained a little or not at all."""
    made = [
        fnn.Sequential([fnn.Dense(2)], input_size=3, loss="cross_entropy", seed=0),
        fnn.Sequential(
            [fnn.Standardize(), fnn.Dense(4), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.2), fnn.Dense(1)],
            input_size=3,
            loss="binary_cross_entropy",
            dtype="float64",
            seed=1,
        ),
        fnn.Sequential([fnn.Dense(3, "tanh"), fnn.Dense(2)], input_size=3, loss="squared_error", seed=2),
        fnn.Sequential([fnn.Dense(1)], input_size=3, loss="poisson", seed=3, backend="reference", dtype="float64"),
    ]
    X, y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 2
    made[0].fit(X, y, epochs=1, validation_split=0.4)
    return made


def targets(net: fnn.Sequential) -> np.ndarray:
    return np.eye(2)[np.arange(6) % 2] if net.loss_name == "squared_error" else np.arange(6) % 2


def state(net: fnn.Sequential) -> tuple[Any, ...]:
    """All that a refused call must leave as it was."""
    training = net.training_state
    run = None if training is None else (training.epoch, training.steps, training.moments.tobytes(), training.stopped)
    return (
        net.theta.tobytes(),
        net.state.tobytes(),
        pickle.dumps(net.generator.bit_generator.state),
        net.feature_names,
        pickle.dumps(net.split_start),
        id(net.history),
        0 if net.history is None else len(net.history),
        id(training),
        run,
    )


FIT: dict[str, Any] = {
    "optimizer": "adam",
    "epochs": 1,
    "batch_size": 4,
    "shuffle": True,
    "sample_weight": None,
    "class_weight": None,
    "validation_data": None,
    "validation_split": 0.0,
    "metrics": None,
    "train_metrics": False,
    "ema": None,
    "record_norms": False,
    "augment": [fnn.augment.Noise(0.1), fnn.augment.Shift(1, shape=(1, 3))],
    "l1": 0.0,
    "l2": 0.0,
    "clip_norm": None,
    "clip_value": None,
    "callbacks": (),
    "verbose": 0,
    "threads": 1,
    "deterministic": False,
    "seed": None,
    "resume": False,
    "steps_per_epoch": None,
}
PARTIAL = {name: FIT[name] for name in FIT if name in fnn.Sequential.partial_fit.__wrapped__.__kwdefaults__}  # type: ignore[attr-defined]
TRAINER = {name: FIT[name] for name in FIT if name not in ("epochs", "callbacks", "verbose")}
OBJECTIVE = {"sample_weight": None, "l1": 0.0, "l2": 0.0, "training": False, "threads": 1}
CURVATURE = {"sample_weight": None, "l2": 0.0, "training": False, "threads": 1}


def of_network(net: fnn.Sequential) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Calls with the arguments that are right; one or two of them will not be."""
    X, y = np.random.default_rng(0).normal(size=(6, 3)), targets(net)
    data = {"X": X, "y": y}
    return [
        (net.fit, data | FIT),
        (net.partial_fit, data | PARTIAL),
        (lambda **options: fnn.Trainer(net, **options), data | TRAINER),
        (net.predict, {"X": X, "threads": 1}),
        (net.decision_function, {"X": X, "threads": 1}),
        (net.evaluate, {**data, "sample_weight": None, "metrics": None, "threads": 1}),
        (net.loss, data | OBJECTIVE),
        (net.gradient, data | OBJECTIVE),
        (net.loss_and_gradient, data | OBJECTIVE),
        (lambda **options: fnn.check_gradient(net, **options), {**data, "sample_weight": None, "l2": 0.0}),
        (lambda **options: cv.hessian(net, **options), data | CURVATURE),
        (lambda **options: cv.ggn_diagonal(net, **options), data | CURVATURE),
        (lambda **options: cv.per_sample_gradients(net, **options), data | {"l2": 0.0, "threads": 1}),
        (lambda **options: cv.input_jacobian(net, **options), {"X": X, "threads": 1}),
        (lambda **options: fnn.Objective(net, **options), {**data, "sample_weight": None, "l2": 0.0, "threads": 1}),
        (lambda theta: setattr(net, "theta", theta), {"theta": net.theta}),
        (lambda value: net.parameters.__setitem__("0.weight", value), {"value": 0}),
        (net.astype, {"dtype": "float32"}),
    ]


#: Constructors: descriptions, callbacks, networks.
MADE: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (fnn.Dense, {"units": 2, "activation": "relu", "bias": True, "init": "he_normal", "bias_init": "zeros"}),
    (fnn.Dropout, {"rate": 0.2}),
    (fnn.BatchNorm, {"momentum": 0.9, "epsilon": 1e-5}),
    (fnn.LayerNorm, {"epsilon": 1e-5}),
    (fnn.Activation, {"name": "relu"}),
    (fnn.SGD, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (fnn.Adam, {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}),
    (fnn.StochasticLBFGS, {"learning_rate": 0.1, "damping": 0.1, "update_every": 3, "memory": 2}),
    (fnn.KFAC, {"learning_rate": 0.1, "damping": 0.1, "update_every": 3}),
    (fnn.CosineDecay, {"learning_rate": 0.1, "length": 3}),
    (fnn.StepDecay, {"learning_rate": 0.1}),
    (fnn.WarmUp, {"then": 0.1, "length": 3}),
    (fnn.ReduceOnPlateau, {"learning_rate": 0.1, "patience": 1, "cooldown": 1, "monitor": None, "mode": "auto"}),
    (fnn.EarlyStopping, {"monitor": None, "patience": 1, "min_delta": 0.0, "restore_best": True, "mode": "auto"}),
    (fnn.Checkpoint, {"path": "x", "every": 1, "monitor": None}),
    (fnn.LBFGS, {"max_iter": 3, "tol": 1e-5, "memory": 3}),
    (fnn.Newton, {"max_iter": 3, "tol": 1e-5}),
    (fnn.NewtonCG, {"max_iter": 3, "tol": 1e-5}),
    (fnn.LevenbergMarquardt, {"max_iter": 3, "tol": 1e-5}),
    (fnn.losses.CrossEntropy, {"label_smoothing": 0.1}),
    (fnn.losses.BinaryCrossEntropy, {"label_smoothing": 0.1}),
    (fnn.initializers.Uniform, {"limit": 0.1}),
    (
        lambda **options: fnn.Sequential([fnn.Dense(2)], **options),
        {"input_size": 3, "loss": "cross_entropy", "dtype": "float32", "seed": 0, "input_scale": None},
    ),
]


def arguments(right: dict[str, Any], pool: list[Any], rng: np.random.Generator) -> dict[str, Any]:
    """The right arguments with one or two of them exchanged."""
    given = dict(right)
    for name in rng.choice(list(right), size=min(len(right), int(rng.integers(1, 3))), replace=False):
        value = pool[rng.integers(len(pool))]
        if name in COUNTS and isinstance(value, (int, float)) and 3 < value < 2**63 - 1:
            value = 3
        given[str(name)] = value
    return given


def refused(call: Callable[..., Any], given: dict[str, Any]) -> Exception | None:
    """What a call raises; anything that is not documented is a failure that shows the call."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            call(**given)
    except DOCUMENTED as error:
        return error
    except Exception as error:
        shown = {name: f"{type(value).__name__} {value!r:.80}" for name, value in given.items()}
        pytest.fail(f"{call}: {type(error).__name__}: {error}, of {shown}")
    return None


@pytest.mark.parametrize("index", range(4))
def test_random_calls_of_a_network(index: int) -> None:
    seed = int(os.environ.get("FASTNN_FUZZ_SEED", "0"))
    rng = np.random.default_rng([seed, index])
    original = networks()[index]
    net = copy.deepcopy(original)
    end, n_refused = time.process_time() + SECONDS / 5, 0
    while time.process_time() < end:
        calls = of_network(net)
        call, right = calls[rng.integers(len(calls))]
        given = arguments(right, values(rng), rng)
        before = state(net)
        error = refused(call, given)
        if error is not None:
            n_refused += 1
            changed = state(net) != before
            assert not changed or _may_change(error, call, net, given), f"{call} changed the network: {error}"
            assert np.isfinite(net.theta).all()
        if state(net) != before:
            net = copy.deepcopy(original)
    assert n_refused > 20


def _may_change(error: Exception, call: Callable[..., Any], net: fnn.Sequential, given: dict[str, Any]) -> bool:
    """Whether the call may have trained before it raised: with batches, callbacks and own metrics, or diverging."""
    if isinstance(error, fnn.DivergenceError):
        return True
    trains = call == net.fit or call == net.partial_fit
    return trains and (given.get("y") is None or bool(given.get("callbacks")) or callable(given.get("metrics")))


def test_random_descriptions() -> None:
    rng = np.random.default_rng(int(os.environ.get("FASTNN_FUZZ_SEED", "0")))
    end = time.process_time() + SECONDS / 5
    while time.process_time() < end:
        call, right = MADE[rng.integers(len(MADE))]
        refused(call, arguments(right, values(rng), rng))


@pytest.mark.parametrize("value", HUGE)
def test_integers_beyond_64_bits_are_refused_by_name(value: int) -> None:
    for call, name in [
        (fnn.Dense, "units"),
        (lambda units: fnn.Sequential([fnn.Dense(2)], input_size=units, loss="poisson"), "input_size"),
        (lambda units: networks()[0].fit(np.zeros((6, 3)), np.zeros(6, int), epochs=units), "epochs"),
        (lambda units: networks()[0].fit(np.zeros((6, 3)), np.zeros(6, int), batch_size=units), "batch_size"),
        (lambda units: networks()[0].predict(np.zeros((6, 3)), threads=units), "threads"),
        (lambda units: fnn.EarlyStopping(patience=units), "patience"),
        (lambda units: fnn.LBFGS(max_iter=units), "max_iter"),
        (lambda units: fnn.Adam(units), "learning_rate"),
    ]:
        if name == "learning_rate" and abs(value) < 10**300:
            continue
        with pytest.raises(ValueError, match=f"^{name} "):
            call(value)
    if value >= 0 and value < 10**300:
        assert fnn.Sequential([fnn.Dense(2)], input_size=3, loss="poisson", seed=value).theta.size == 8
