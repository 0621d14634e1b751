"""Sparse input: every call gives what the dense array gives, and what is wrong is refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

import fastnn as fnn
from fastnn import curvature
from fastnn.checks import check_rows
from fastnn.reference.sparse import SparseRows

pytestmark = pytest.mark.every_simd

FORMATS = ["csr_matrix", "csr_array", "csc_matrix", "coo_array"]


def network(backend: str = "compiled", dtype: str = "float64", **options) -> fnn.Sequential:
    layers = [fnn.Dense(6, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=9, loss="cross_entropy", seed=0, dtype=dtype, backend=backend, **options)


def data(rng: np.random.Generator, n: int = 40, kind: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    X = rng.normal(size=(n, 9)) if kind.startswith("float") else rng.integers(0, 200, size=(n, 9))
    X[rng.random((n, 9)) < 0.7] = 0
    X[3] = 0  # an empty row
    return X.astype(kind), rng.integers(0, 3, n)


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int64", "bool"])
def test_same_as_dense(kind, scale, backend, dtype, rng) -> None:
    X, y = data(rng, kind=kind)
    S = sparse.csr_matrix(X)
    nets = [network(backend, dtype, input_scale=scale) for _ in range(2)]
    for net, rows in zip(nets, (X, S), strict=True):
        net.fit(rows, y, epochs=3, batch_size=7, validation_split=0.2, threads=1, sample_weight=rng.random(40) * 0 + 2)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert nets[0].history["val_loss"] == nets[1].history["val_loss"]
    net = nets[0]
    for call in (net.predict, net.predict_proba, net.decision_function):
        np.testing.assert_array_equal(call(S), call(X))
    assert net.evaluate(S, y) == net.evaluate(X, y)
    assert net.loss(S, y) == net.loss(X, y)
    np.testing.assert_array_equal(net.gradient(S, y), net.gradient(X, y))


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name, backend, rng) -> None:
    X, y = data(rng)
    S = getattr(sparse, name)(X)
    before = S.copy()
    net = network(backend)
    np.testing.assert_array_equal(net.decision_function(S), net.decision_function(X))
    assert (before != S).nnz == 0
    assert len(net.fit(S, y, epochs=2, shuffle=False)) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_many_workers_and_chunks(workers, many_workers, rng) -> None:
    X, y = data(rng, 20_000)
    nets = [network("compiled", "float32") for _ in range(2)]
    for net, rows in zip(nets, (X, sparse.csr_array(X)), strict=True):
        net.fit(rows, y, epochs=1, batch_size=None, threads=workers)
        net.fit(rows, y, epochs=1, batch_size=500, threads=workers)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    outputs = [
        net.decision_function(rows, threads=workers) for net, rows in zip(nets, (X, sparse.csr_array(X)), strict=True)
    ]
    np.testing.assert_array_equal(*outputs)


def test_awkward_matrices(backend) -> None:
    net = network(backend)
    empty = sparse.csr_matrix((5, 9))
    np.testing.assert_array_equal(net.decision_function(empty), net.decision_function(np.zeros((5, 9))))
    assert net.predict(sparse.csr_matrix((0, 9))).shape == (0,)
    with pytest.raises(ValueError, match=r"X: expected at least one row, got shape \(0, 9\)"):
        net.fit(sparse.csr_matrix((0, 9)), [])
    doubled = sparse.csr_matrix((np.array([1.0, 2.0, 4.0]), np.array([8, 0, 8]), np.array([0, 3])), shape=(1, 9))
    dense = doubled.toarray()  # duplicates are summed
    np.testing.assert_array_equal(net.decision_function(doubled), net.decision_function(dense))
    assert doubled.nnz == 3  # in a copy
    long = sparse.csr_matrix(dense)
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    np.testing.assert_array_equal(net.decision_function(long), net.decision_function(dense))


def test_batches_of_sparse_rows(backend, rng) -> None:
    X, y = data(rng)
    S = sparse.csr_matrix(X)
    nets = [network(backend) for _ in range(2)]
    nets[0].fit([(S[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)], epochs=2)
    nets[1].fit([(X[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)], epochs=2)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    nets[0].partial_fit(S, y, shuffle=False)
    nets[1].partial_fit(X, y, shuffle=False)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert fnn.check_gradient(nets[0], S, y)


OF_X = ("output_jacobian", "input_jacobian", "input_hessian", "softmax_jacobian")
OWN = {"per_sample_hessian_blocks": {"layer": 1}, "standard_errors": {"l2": 0.1}}
CURVATURE = [name for name in curvature.__all__ if inspect.isfunction(getattr(curvature, name))]


def values(found) -> list[np.ndarray]:
    """All arrays of a result."""
    if isinstance(found, dict | Mapping):
        return [array for value in found.values() for array in values(value)]
    if isinstance(found, LinearOperator):
        return [found @ np.ones(found.shape[1], found.dtype)]
    if isinstance(found, curvature.Spectrum):
        return [found.nodes, found.weights]
    if isinstance(found, tuple):
        return [np.asarray(value) for value in found]
    return [np.array(str(found)) if isinstance(found, curvature.ConvexityReport) else np.asarray(found)]


@pytest.mark.parametrize("name", [*CURVATURE, "Laplace"])
def test_curvature_of_sparse_rows(name, backend, rng) -> None:
    X, y = data(rng)
    S, net = sparse.csr_matrix(X), network(backend)
    net.fit(X, y, optimizer=fnn.Newton(max_iter=50), l2=0.1)
    arguments = [(net, rows) if name in OF_X else (net, rows, y) for rows in (X, S)]
    if name == "influence":
        arguments = [(net, rows, y, rows[:3]) for rows in (X, S)]
    if name == "Laplace":
        found = [curvature.Laplace(net, *a[1:], prior_precision=1.0).predictive(a[1]) for a in arguments]
    else:
        found = [getattr(curvature, name)(*a, **OWN.get(name, {})) for a in arguments]
    for dense, of_sparse in zip(values(found[0]), values(found[1]), strict=True):
        if dense.dtype.kind == "f":
            np.testing.assert_allclose(of_sparse, dense, rtol=1e-8, atol=1e-10 * np.abs(dense).max())
        else:
            assert of_sparse == dense


def test_checks_of_sparse_rows(backend, rng) -> None:
    X, y = data(rng, 12)
    S, net = sparse.csr_matrix(X), network(backend)
    w = rng.uniform(0.5, 1.0, 12)
    assert fnn.check_gradient(net, S, y, sample_weight=w, n=20)
    assert fnn.check_hessian(net, S, y, sample_weight=w, n=20)
    objective = fnn.Objective(net, S, y)
    np.testing.assert_allclose(objective.hessian(net.theta), fnn.Objective(net, X, y).hessian(net.theta), atol=1e-12)


def test_rows_are_taken_as_numpy_takes_them(rng) -> None:
    X, _ = data(rng)
    rows = check_rows(sparse.csr_matrix(X), 9, np.dtype(np.float64))
    assert (len(rows), rows.shape, rows.ndim, rows.dtype) == (40, (40, 9), 2, np.float64)
    for take in (slice(None), slice(5, 20), slice(40, 50), np.array([3, 3, 39, 0]), np.array([], np.int64)):
        np.testing.assert_array_equal(rows[take].dense(np.dtype(np.float64)), X[take])


def broken(**arrays) -> sparse.csr_matrix:
    S = sparse.csr_matrix(np.eye(3, 9))
    for name, values in arrays.items():
        setattr(S, name, np.array(values, getattr(S, name).dtype))
    S.has_canonical_format = True  # nobody looks
    return S


@pytest.mark.parametrize(
    ("S", "error", "message"),
    [
        (sparse.csr_matrix(np.eye(3)), ValueError, r"X: expected 9 features \(columns\), got 3"),
        (sparse.csr_matrix(np.eye(3, 9) * 1j), TypeError, "X: expected real numbers, got dtype complex128"),
        (broken(data=[1.0, np.nan, 2.0]), ValueError, "float32, got nan in row 1, column 1"),
        (broken(data=[1.0, 2.0, 1e300]), ValueError, r"got 1e\+300 in row 2, column 2"),
        (broken(indices=[0, 1, 9]), ValueError, r"X: damaged CSR matrix, expected indices in \[0, 9\), got others"),
        (broken(indices=[0, -1, 2]), ValueError, "X: damaged CSR matrix, expected indices"),
        (broken(indptr=[0, 2, 1, 3]), ValueError, "X: damaged CSR matrix, indptr does not rise from 0 to 3"),
        (broken(indptr=[0, 1, 2, 7]), ValueError, "X: damaged CSR matrix, indptr does not rise from 0 to 3"),
    ],
)  # fmt: skip
def test_refused(S, error, message, backend) -> None:
    net = network(backend, "float32")
    for call in (net.predict, lambda X: net.fit(X, [0, 1, 2]), lambda X: net.evaluate(X, [0, 1, 2])):
        with pytest.raises(error, match=message):
            call(S)


def test_the_engine_looks_at_indices_itself(backend) -> None:
    rows = check_rows(sparse.csr_matrix(np.eye(3, 9)), 9, np.dtype(np.float64))
    rows.indices[1] = 100
    net = network(backend)
    with pytest.raises((ValueError, IndexError)):
        net.plan.forward(net.theta, rows)
    with pytest.raises(TypeError, match="indices and indptr: expected int32 and int64, got int64 and int64"):
        SparseRows(np.ones(1), np.zeros(1, np.int64), np.array([0, 1]), 2)
