"""What a network and its X may be, and what is refused."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from network_cases import data, network

import fastnn as fnn
from fastnn.network import Network

# What X may be.


def variants(X: np.ndarray) -> dict[str, object]:
    wide = np.empty((len(X) * 2, X.shape[1] * 2), X.dtype)
    wide[::2, ::2] = X
    locked = X.copy()
    locked.flags.writeable = False
    return {
        "F order": np.asfortranarray(X),
        "view": wide[::2, ::2],
        "reversed": np.ascontiguousarray(X[::-1])[::-1],
        "read-only": locked,
        "list": X.tolist(),
        "DataFrame": pd.DataFrame(X, columns=list("abcdef")),
        "byte order": X.astype(X.dtype.newbyteorder()),
        "longdouble": X.astype(np.longdouble),
    }


def test_kinds_of_input(backend) -> None:
    X, y, _ = data("cross_entropy")
    net = network(backend)
    expected = net.decision_function(X), net.gradient(X, y)
    for name, variant in variants(X).items():
        kept = copy.deepcopy(variant)
        np.testing.assert_array_equal(net.decision_function(variant), expected[0], err_msg=name)
        np.testing.assert_array_equal(net.gradient(variant, y), expected[1], err_msg=name)
        other = network(backend)
        other.fit(variant, y, epochs=1, threads=1)
        np.testing.assert_array_equal(np.asarray(variant), np.asarray(kept), err_msg=name)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool"])
def test_types_of_input(kind, backend, dtype, rng) -> None:
    X = rng.integers(0, 2 if kind == "bool" else 100, size=(9, 6)).astype(kind)
    y = rng.integers(0, 3, size=9)
    net = network(backend, dtype=dtype, input_scale=1 / 64)
    plain = network(backend, dtype=dtype)
    scaled = (X.astype(dtype) * np.dtype(dtype).type(1 / 64)).astype(dtype)
    np.testing.assert_array_equal(net.decision_function(X), plain.decision_function(scaled))
    np.testing.assert_array_equal(net.gradient(X, y), plain.gradient(scaled, y))
    net.fit(X, y, epochs=2, batch_size=4, threads=1)
    plain.fit(scaled, y, epochs=2, batch_size=4, threads=1)
    np.testing.assert_array_equal(net.theta, plain.theta)


def test_large_sums_are_not_mistaken_for_infinities(backend) -> None:
    net = network(backend, dtype="float32", hidden="linear")
    X = np.full((2, 6), 2e38, np.float32)
    net.theta *= 1e-3  # outputs that are finite
    with np.errstate(all="ignore"):
        assert net.decision_function(X).shape == (2, 3)


NAN_AT = np.zeros((3, 6))


NAN_AT[1, 4] = np.nan


MASKED = np.ma.masked_array(np.zeros((3, 6)), mask=np.eye(3, 6, dtype=bool))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(6), ValueError, r"X: expected shape \(N, 6\), got \(6,\); use X.reshape\(1, -1\) for one sample"),
        (
            np.zeros((3, 2, 3)),
            ValueError,
            r"X: expected shape \(N, 6\), got \(3, 2, 3\); use X.reshape\(len\(X\), -1\)",
        ),
        (np.zeros((3, 5)), ValueError, r"X: expected 6 features \(columns\), got 5"),
        (3.0, ValueError, r"X: expected shape \(N, 6\), got \(\)"),
        (np.zeros((3, 6), object), TypeError, "X: expected real numbers, got dtype object"),
        (np.zeros((3, 6), complex), TypeError, "X: expected real numbers, got dtype complex128"),
        (np.full((3, 6), "1"), TypeError, "X: expected real numbers, got dtype <U1"),
        (np.zeros((3, 6), "M8[s]"), TypeError, "X: expected real numbers, got dtype datetime64"),
        (
            pd.DataFrame({c: ["a", 1, 2] for c in "abcdef"}, dtype=object),
            TypeError,
            r"X: expected columns of real numbers, got dtype object in column 'a'",
        ),
        (scipy.sparse.csr_array((3, 5)), ValueError, r"X: expected 6 features \(columns\), got 5"),
        (NAN_AT, ValueError, "X: expected finite values of float64, got nan in row 1, column 4"),
        (np.where(np.isnan(NAN_AT), -np.inf, 0).astype("f4"), ValueError, "got -inf in row 1, column 4"),
        (np.where(np.isnan(NAN_AT), np.inf, 0).astype("f2"), ValueError, "got inf in row 1, column 4"),
        (MASKED, ValueError, "X: expected values everywhere, got a masked array; fill the masked values first"),
    ],
)
def test_bad_input(X, error, message, backend) -> None:
    net = network(backend)
    before = net.theta.copy()
    for call in (net.predict, lambda X: net.fit(X, np.zeros(3, int)), lambda X: net.loss(X, np.zeros(3, int))):
        with pytest.raises(error, match=message):
            call(X)
    np.testing.assert_array_equal(net.theta, before)


def test_input_too_large_for_single_precision(backend) -> None:
    X = np.zeros((3, 6))
    X[2, 1] = -1e300
    with pytest.raises(ValueError, match=r"X: expected finite values of float32, got -1e\+300 in row 2, column 1"):
        network(backend, dtype="float32").predict(X)
    assert network(backend).predict(X).shape == (3,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": np.zeros(4, int)}, ValueError, r"y: expected 11 rows like X, got shape \(4,\)"),
        ({"y": np.full(11, 3)}, ValueError, r"y: expected labels in \[0, 3\), got 3 in row 0"),
        ({"l2": -1.0}, ValueError, "l2 must be a finite number >= 0, got -1.0"),
        ({"l1": "a"}, TypeError, "l1 must be a finite number >= 0, got 'a'"),
        ({"threads": 0}, ValueError, "threads must be an integer >= 1, got 0"),
        ({"training": 1}, TypeError, "training must be True or False, got 1"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight: expected shape \(11,\), got \(3,\)"),
        ({"X": np.empty((0, 6)), "y": np.empty(0, int)}, ValueError, "X: expected at least one row"),
    ],
)
def test_objective_refuses(options, error, message, backend) -> None:
    X, y, _ = data("cross_entropy")
    net = network(backend)
    arguments = {"X": X, "y": y, **options}
    for call in (net.loss, net.gradient, net.loss_and_gradient):
        with pytest.raises(error, match=message):
            call(**arguments)


def test_training_mode_makes_no_difference_yet(backend) -> None:
    X, y, _ = data("cross_entropy")
    net = network(backend)
    assert net.loss(X, y, training=True) == net.loss(X, y)


# What a network may be.


def wrong_shape(fan_in, fan_out, shape, rng) -> np.ndarray:
    return np.zeros(2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": []}, ValueError, "layers: expected at least one layer, got none"),
        ({"layers": fnn.Dense(3)}, TypeError, "layers must be a list of layers, got Dense"),
        ({"layers": 3}, TypeError, "layers must be a list of layers, got 3"),
        ({"layers": [fnn.Dense(3), "relu"]}, TypeError, "layers: expected a layer .* at position 1, got 'relu'"),
        ({"layers": [fnn.Dense(1)]}, ValueError, "at least 2 units .*; use loss='binary_cross_entropy' for one output"),
        (
            {"layers": [fnn.Dense(3, "sigmoid")]},
            ValueError,
            "expected a linear last layer .* softmax .* got .* 'sigmoid'",
        ),
        (
            {"layers": [fnn.Dense(1, "sigmoid")], "loss": "binary_cross_entropy"},
            ValueError,
            "expected a linear last layer for loss 'binary_cross_entropy', whose sigmoid is inside the loss",
        ),
        (
            {"layers": [fnn.Dense(1, "relu")], "loss": "poisson"},
            ValueError,
            "expected a linear last layer for loss 'poisson', whose exponential is inside the loss, got .* 'relu'",
        ),
        ({"input_size": 0}, ValueError, "input_size must be an integer >= 1, got 0"),
        ({"input_size": 2.5}, TypeError, "input_size must be an integer >= 1, got 2.5"),
        ({"loss": "mse"}, ValueError, "loss: unknown name 'mse'; known: cross_entropy"),
        ({"loss": None}, TypeError, r"loss must be a name \(str\) or a loss such as .*, got None"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64', got 'float16'"),
        ({"dtype": "single?"}, ValueError, r"dtype must be 'float32' or 'float64', got 'single\?'"),
        ({"dtype": None}, ValueError, "dtype must be 'float32' or 'float64', got None"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
        ({"seed": "a"}, TypeError, "seed must be an integer >= 0, got 'a'"),
        ({"input_scale": 0}, ValueError, "input_scale must be a finite number > 0, got 0"),
        ({"backend": "torch"}, ValueError, "backend must be one of 'compiled', 'reference', got 'torch'"),
        ({"layers": [fnn.Dense(3, init=wrong_shape)]}, ValueError, r"init: expected an array of shape \(6, 3\)"),
    ],
)
def test_network_refuses(options, error, message) -> None:
    arguments = {"layers": [fnn.Dense(3)], "input_size": 6, "loss": "cross_entropy", "backend": "reference", **options}
    with pytest.raises(error, match=message):
        fnn.Sequential(**arguments)


def test_dtype_may_be_a_type() -> None:
    for dtype in (np.float32, np.dtype("float32"), "f4"):
        assert network("reference", dtype=dtype).theta.dtype == np.float32


def test_an_output_activation_is_allowed_for_a_regression(backend) -> None:
    layers = [fnn.Dense(2, "sigmoid")]
    net = fnn.Sequential(layers, input_size=6, loss="squared_error", backend=backend, seed=0)
    X, y, _ = data("squared_error", outputs=2)
    values = net.predict(X)
    assert (values > 0).all()
    assert (values < 1).all()
    assert net.gradient(X, y).shape == (14,)


def test_signature_of_fit() -> None:
    names = (
        "X y optimizer epochs batch_size steps_per_epoch shuffle sample_weight class_weight validation_data "
        "validation_split metrics train_metrics augment l1 l2 clip_norm clip_value ema callbacks verbose threads "
        "deterministic record_norms seed resume"
    )
    parameters = inspect.signature(fnn.Sequential.fit).parameters
    assert list(parameters)[1:] == names.split()
    # By their text: a default is not equal to the same value when it is passed.
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    assert {name: repr(value) for name, value in defaults.items()} == {
        "y": "None",
        "optimizer": "'adam'",
        "epochs": "10",
        "batch_size": "64",
        "steps_per_epoch": "None",
        "shuffle": "True",
        "sample_weight": "None",
        "class_weight": "None",
        "validation_data": "None",
        "validation_split": "0.0",
        "metrics": "None",
        "train_metrics": "False",
        "augment": "()",
        "l1": "0.0",
        "l2": "0.0",
        "clip_norm": "None",
        "clip_value": "None",
        "ema": "None",
        "callbacks": "()",
        "verbose": "0",
        "threads": "None",
        "deterministic": "False",
        "record_norms": "False",
        "seed": "None",
        "resume": "False",
    }


def test_misplaced_arguments_are_refused_by_sequential() -> None:
    with pytest.raises(TypeError, match=r"^Sequential.__init__\(\) takes 2 positional arguments but 3 were given"):
        fnn.Sequential(3, [fnn.Dense(2)])
    with pytest.raises(TypeError, match=r"^Sequential.__init__\(\) got an unexpected keyword argument 'units'"):
        fnn.Sequential([fnn.Dense(2)], input_size=3, loss="squared_error", units=2)
    ours, base = (inspect.signature(cls).parameters.values() for cls in (fnn.Sequential, Network))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in base]
