"""Density of eigenvalues, and traces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from curvature_cases import BACKENDS, case
from jets import Oracle
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import fastnn as fnn
from fastnn import curvature as cv
from fastnn.plotting import plot_spectrum


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend that has `linearize`."""
    return request.param


def network(backend: str, *layers: Any, loss: str = "cross_entropy", **options: Any) -> fnn.Sequential:
    options = {"input_size": 4, "dtype": "float64", "seed": 0, "backend": backend, **options}
    return fnn.Sequential(layers, loss=loss, **options)


def iris() -> tuple[np.ndarray, np.ndarray]:
    X, y = fnn.datasets.load_iris()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def test_spectrum(backend):
    X, y = iris()
    net = network(backend, fnn.Dense(8, "tanh"), fnn.Dense(3))
    values = np.linalg.eigvalsh(cv.hessian(net, X, y))
    found = cv.spectrum(net, X, y, n_steps=60, n_vectors=10, seed=1)
    np.testing.assert_allclose((found.smallest, found.largest), (values[0], values[-1]), rtol=1e-6)
    assert found.n_parameters == net.n_parameters
    assert found.weights.sum() == pytest.approx(1.0)
    assert (found.weights >= 0.0).all()
    # Moments, and the share below a point, against the true ones.
    for power in (1, 2):
        assert found.weights @ found.nodes**power == pytest.approx(np.mean(values**power), rel=0.25)
    assert found.weights[found.nodes < 0.05].sum() == pytest.approx(np.mean(values < 0.05), abs=0.1)
    at, density = found.density()
    assert np.trapezoid(density, at) == pytest.approx(1.0, abs=1e-2)
    again = cv.spectrum(cv.hessian_operator(net, X, y), n_steps=60, n_vectors=10, seed=1)
    np.testing.assert_array_equal(again.nodes, found.nodes)
    with pytest.raises(ValueError, match="width must be a finite number > 0"):
        found.density(width=0.0)
    with pytest.raises(TypeError, match="for networks only: X, y; got an operator"):
        cv.spectrum(cv.hessian_operator(net, X, y), X, y)


def test_the_spectrum_can_be_drawn(backend, tmp_path):
    pytest.importorskip("matplotlib")
    X, y = iris()
    found = cv.spectrum(network(backend, fnn.Dense(3)), X, y, kind="ggn")
    axis = found.plot(tmp_path / "spectrum.png", title="iris")
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert axis.get_title() == "iris"
    assert axis.get_yscale() == "log"
    assert len(axis.lines) == 3
    assert plot_spectrum(found, ax=axis) is axis


@pytest.mark.parametrize("kind", ["hessian", "ggn", "fisher"])
def test_trace(kind, backend):
    for number in (0, 6, 17, 27):
        made = case(number, backend)
        expected = np.trace(getattr(Oracle(made.net, made.X, made.y, **made.options), kind))
        assert cv.trace(made.net, made.X, made.y, kind=kind, **made.options) == pytest.approx(expected, rel=1e-9)


def test_estimated_trace(backend):
    X, y = iris()
    net = network(backend, fnn.Dense(40, "tanh"), fnn.Dense(3))
    exact = cv.trace(net, X, y)
    assert exact == pytest.approx(np.trace(cv.hessian(net, X, y)), rel=1e-12)
    estimate = cv.trace(net, X, y, n_products=90)
    assert estimate != exact
    assert estimate == pytest.approx(exact, rel=0.02)
    # Hutch++ is exact for a matrix of a rank that its sketch spans.
    rng = np.random.default_rng(0)
    B = rng.standard_normal((200, 5))
    assert cv.trace(aslinearoperator(B @ B.T), n_products=30) == pytest.approx(np.sum(B**2), rel=1e-10)
    with pytest.raises(ValueError, match="target: expected a square operator"):
        cv.trace(LinearOperator((2, 3), matvec=lambda v: v[:2], dtype=float))
    with pytest.raises(TypeError, match=r"target must be a Sequential or a LinearOperator, got int$"):
        cv.trace(3, X, y)


@pytest.mark.parametrize("function", [cv.trace, cv.spectrum])
def test_what_is_for_networks_is_refused_with_operators(function):
    operator = aslinearoperator(np.eye(5))
    for name, value in {"kind": "ggn", "l2": 0.1, "training": True, "threads": 2, "sample_weight": np.ones(3)}.items():
        with pytest.raises(TypeError, match=f"for networks only: {name}; got an operator"):
            function(operator, **{name: value})
    message = r"got ndarray \(use scipy.sparse.linalg.aslinearoperator\)"
    with pytest.raises(TypeError, match=message):
        function(np.eye(5))
    with pytest.raises(TypeError, match="expected an operator of float32 or float64, got dtype int64"):
        function(aslinearoperator(np.eye(5, dtype=np.int64)))
