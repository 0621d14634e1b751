"""Predictors: what they give is what the network's method gives, for every form of rows."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastnn as fnn

pytestmark = pytest.mark.every_simd

D = 7
HEADS = {
    "cross_entropy": (5, ("predict", "predict_proba", "decision_function")),
    "binary_cross_entropy": (1, ("predict", "predict_proba", "decision_function")),
    "labels": (3, ("predict", "predict_proba", "decision_function")),
    "squared_error": (1, ("predict", "decision_function")),
    "huber": (4, ("predict", "decision_function")),
    "poisson": (1, ("predict", "decision_function")),
    "rates": (2, ("predict", "decision_function")),
}
LOSSES = {"labels": "binary_cross_entropy", "rates": "poisson"}
CASES = [(head, method) for head, (_, methods) in HEADS.items() for method in methods]


def trained(head: str, dtype: str = "float32", backend: str = "compiled") -> fnn.Sequential:
    """A network with every kind of normalisation, after some steps."""
    n_outputs = HEADS[head][0]
    layers = [fnn.Standardize(), fnn.Dense(9), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dropout(0.1)]
    layers += [fnn.LayerNorm(), fnn.Dense(n_outputs)]
    loss = LOSSES.get(head, head)
    net = fnn.Sequential(layers, input_size=D, loss=loss, dtype=dtype, seed=0, backend=backend, input_scale=0.5)
    X = rows(64, dtype)
    y: np.ndarray = np.arange(64) % n_outputs if loss == "cross_entropy" else np.ones((64, n_outputs), dtype)
    y[::3] = 0
    net.fit(X, y, epochs=2, batch_size=16)
    return net


def rows(n: int, dtype: Any = "float32") -> np.ndarray:
    return (3.0 * np.random.default_rng(1).normal(size=(n, D))).astype(dtype)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("head", "method"), CASES)
def test_it_gives_what_the_method_gives(head: str, method: str, dtype: str, backend: str) -> None:
    net = trained(head, dtype, backend)
    predictor, direct = net.predictor(method), getattr(net, method)
    for X in (rows(1, dtype), rows(3, dtype), rows(16, dtype), rows(17, dtype), rows(500, dtype), rows(0, dtype)):
        expected = direct(X)
        for same in (X, np.asfortranarray(X), X.tolist() if dtype == "float64" and len(X) else X):
            found = predictor(same)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found, expected)
        out = np.zeros_like(expected)
        assert predictor(X, out) is out
        np.testing.assert_array_equal(out, expected)
    for other in (rows(4, "float64"), rows(4).astype(np.uint8), rows(4).astype(np.int16), rows(4, "float32")):
        np.testing.assert_array_equal(predictor(other), direct(other))
    np.testing.assert_array_equal(predictor(scipy.sparse.csr_array(rows(4))), direct(scipy.sparse.csr_array(rows(4))))


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize(("head", "method"), CASES)
def test_one_row_without_an_axis(head: str, method: str, backend: str) -> None:
    net = trained(head, backend=backend)
    predictor, x = net.predictor(method), rows(1)[0]
    expected = getattr(net, method)(x[None])[0]
    found = predictor(x)
    if expected.ndim:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    else:
        assert type(found) is (int if expected.dtype == np.int64 else float)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictor(x.tolist()), predictor(x.astype(np.float64)))
    out = np.zeros_like(expected)
    assert predictor(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_what_does_not_fit_is_refused_and_out_stays(backend: str) -> None:
    net = trained("cross_entropy", backend=backend)
    predictor = net.predictor("predict_proba")
    X = rows(2)
    missing, infinite = X.copy(), X.astype(np.float64)
    missing[1, 2], infinite[1, 2] = np.nan, 1e300
    out = np.full((2, 5), 7.0, np.float32)
    masked = np.ma.masked_array(X, X > 0)
    for wrong in (
        missing,
        infinite,
        X[:, :3],
        X[None],
        np.float32(1.0),
        X.astype(complex),
        masked,
        missing[1],
        X[0, :3],
    ):
        with pytest.raises((ValueError, TypeError), match="X: expected"):
            predictor(wrong, out)
    read_only = np.zeros((2, 5), np.float32)
    read_only.flags.writeable = False
    unaligned = np.zeros(41, np.uint8)[1:].view(np.float32).reshape(2, 5)
    swapped = np.zeros((2, 5), np.dtype(np.float32).newbyteorder())
    for refused in (
        *(np.zeros((2, 5)), np.zeros((1, 5), np.float32), np.zeros(5, np.float32), np.zeros((5, 2), np.float32).T),
        *(read_only, unaligned, swapped, np.zeros((2, 10), np.float32)[:, ::2], [[0.0] * 5] * 2, bytearray(40)),
        *(np.ma.zeros((2, 5), np.float32), np.zeros((2, 5), np.int32)),
    ):
        before = copy.deepcopy(refused)
        with pytest.raises((ValueError, TypeError), match="out: expected"):
            predictor(X, refused)
        np.testing.assert_array_equal(refused, before)
    np.testing.assert_array_equal(out, 7.0)
    with pytest.raises(ValueError, match="method must be"):
        net.predictor("fit")
    with pytest.raises(ValueError, match="threads"):
        net.predictor(threads=0)
    with pytest.raises(ValueError, match="predict_proba needs a classifier"):
        trained("huber").predictor("predict_proba")


def test_out_may_be_the_rows() -> None:
    net = fnn.Sequential([fnn.Dense(D, "tanh"), fnn.Dense(D)], input_size=D, loss="squared_error", seed=0)
    X = rows(3)
    expected = net.predict(X)
    np.testing.assert_array_equal(net.predictor()(X, X), expected)


def test_it_follows_a_training_and_assignments() -> None:
    net = trained("cross_entropy")
    predictor, X = net.predictor("predict_proba"), rows(5)
    before = predictor(X)
    net.fit(rows(64), np.arange(64) % 5, epochs=3)
    after = predictor(X)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, net.predict_proba(X))
    net.theta = np.zeros_like(net.theta)
    np.testing.assert_array_equal(predictor(X), np.full((5, 5), 0.2, np.float32))


def test_it_outlives_its_network_and_is_not_copied() -> None:
    net = trained("squared_error")
    X = rows(2)
    for backend in ("compiled", "reference"):
        expected = trained("squared_error", backend=backend).predict(X)
        predictor = trained("squared_error", backend=backend).predictor()
        np.testing.assert_array_equal(predictor(X), expected)
        refused: tuple[Callable[[Any], object], ...] = (copy.copy, copy.deepcopy, pickle.dumps)
        for function in refused:
            with pytest.raises(TypeError, match="belongs to its network"):
                function(predictor)
    assert net.copy().predictor()(X).shape == (2,)


def test_equal_and_unordered_outputs() -> None:
    net = fnn.Sequential([fnn.Dense(4)], input_size=1, loss="cross_entropy", dtype="float64", seed=0)
    net.parameters["0.weight"] = np.array([[1.0, 2.0, 2.0, -1.0]])
    predictor, big = net.predictor(), np.array([[8e307], [-8e307], [0.0], [1.0], [-1.0]])
    for row in big:
        assert predictor(row) == net.predict(row[None])[0]
    np.testing.assert_array_equal(predictor(big), net.predict(big))
    infinite = np.array([[1e308]])
    for call in (predictor, net.predict):
        with pytest.raises(ValueError, match="X: the network's outputs for row 0 are not finite"):
            call(infinite)
    net.theta[:] = [1e300, -1e300, 1e300, 0.0, 0.0, np.nan, 0.0, 0.0]  # written past the checks
    for call in (predictor, net.predict):
        with pytest.raises(ValueError, match="theta: the network's parameters are not finite"):
            call(big)


def test_threads_share_it() -> None:
    net = trained("cross_entropy")
    predictor, X = net.predictor("predict_proba"), rows(40)
    expected = net.predict_proba(X)
    wrong: list[int] = []

    def work(first: int) -> None:
        out = np.empty(5, np.float32)
        for turn in range(300):
            i = (first + turn) % 40
            single = predictor(X[i], out).copy()
            several = predictor(X[i : i + 3])
            if not np.array_equal(several, net.predict_proba(X[i : i + 3])) or abs(single - expected[i]).max() > 1e-6:
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(7 * k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
