"""Other forms of the same network: another dtype, and pickles of earlier versions."""

from __future__ import annotations

import copyreg
import pickle
import subprocess
import sys

import numpy as np
import pytest
from network_cases import data

import fastnn as fnn


def normalised(backend: str, dtype: str) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dropout(0.2), fnn.Dense(3)]
    net = fnn.Sequential(
        layers, input_size=6, loss="cross_entropy", dtype=dtype, seed=0, input_scale=0.5, backend=backend
    )
    X, y, _ = data("cross_entropy", 40)
    net.fit(X, y, epochs=2, batch_size=10)
    return net


def test_astype_keeps_parameters_buffers_and_options(backend) -> None:
    net = normalised(backend, "float32")
    theta, state, generator = net.theta.copy(), net.state.copy(), net.generator.bit_generator.state
    double = net.astype("float64")
    assert (type(double), double.dtype, double.backend) == (fnn.Sequential, np.dtype(np.float64), backend)
    assert (double.input_scale, double.layers, double.loss_name) == (0.5, net.layers, "cross_entropy")
    np.testing.assert_array_equal(double.theta, theta)
    np.testing.assert_array_equal(double.state, state)
    assert double.history is None
    assert double.training_state is None
    X, y, w = data("cross_entropy")
    assert double.loss(X, y, sample_weight=w) == pytest.approx(net.loss(X, y, sample_weight=w), rel=1e-5)
    double.theta[...] = 0.0
    double.state[...] = 0.0
    double.fit(X, y, epochs=1)
    np.testing.assert_array_equal(net.theta, theta)
    np.testing.assert_array_equal(net.state, state)
    assert net.generator.bit_generator.state == generator
    assert net.history is not None


def test_astype_rounds_to_the_narrower_dtype_and_refuses_others(backend) -> None:
    net = normalised(backend, "float64")
    np.testing.assert_array_equal(net.astype(np.float32).theta, net.theta.astype(np.float32))
    same = net.astype("float64")
    assert not np.shares_memory(same.theta, net.theta)
    np.testing.assert_array_equal(same.theta, net.theta)
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'int32'"):
        net.astype("int32")


class Earlier:
    """Pickles as a network of before 0.1.0 did: under its old module, with its old attributes."""

    def __init__(self, net: fnn.Sequential) -> None:
        state = net.__getstate__()
        for old, new in (("_loss", "loss_function"), ("_rng", "generator"), ("_training", "training_state")):
            state[old] = state.pop(new)
        self.state = {**state, "_n_state": net.state.size, "n_parameters": net.n_parameters, "n_outputs": net.n_outputs}

    def __reduce__(self):
        from fastnn.network import Sequential  # resolved by the module's __getattr__

        return copyreg._reconstructor, (Sequential, object, None), self.state


def test_earlier_pickles_load(backend) -> None:
    net = normalised(backend, "float64")
    text = pickle.dumps(Earlier(net), 2).replace(b"cfastnn.sequential\nSequential\n", b"cfastnn.network\nSequential\n")
    assert b"cfastnn.network\nSequential\n" in text
    code = "import pickle, sys; sys.stdout.write(repr(pickle.load(sys.stdin.buffer).theta.tolist()))"
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True)
    assert done.stdout.decode() == repr(net.theta.tolist())
    again = pickle.loads(text)
    X, y, _ = data("cross_entropy")
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert again.history["loss"] == net.history["loss"]
    again.partial_fit(X, y)
    assert vars(again).keys() == vars(net).keys()
