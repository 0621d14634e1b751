"""Convexity reports, the check of Hessians, memory of the Hessian, and a chain worked by hand."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from curvature_cases import BACKENDS, N_CASES, case
from jets import Oracle
from scipy.linalg import eigvalsh

import fastnn as fnn
from fastnn import curvature as cv
from fastnn.linalg import memory


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


def chain(backend: str) -> tuple[fnn.Sequential, np.ndarray, np.ndarray]:
    """A chain 1-1-1-1-1 with tanh, whose gradient and Hessian are worked by hand."""
    net = network(backend, *(fnn.Dense(1, "tanh", bias=False) for _ in range(4)), loss="squared_error", input_size=1)
    net.theta[...] = 0.460, 0.500, -0.139, 0.496
    return net, np.array([[2.0]]), np.array([4.0])


# The chain of examples/document_000.py.


def test_the_worked_chain(backend):
    net, X, y = chain(backend)
    gradient = [0.11503158, 0.17650794, -0.69216773, 0.19427682]
    hessian = [
        [-0.3718, 0.1720, -0.8277, 0.2330],
        [0.1720, -0.0891, -1.2700, 0.3576],
        [-0.8277, -1.2700, 0.0006, -1.4022],
        [0.2330, 0.3576, -1.4022, 0.0019],
    ]
    np.testing.assert_allclose(net.gradient(X, y), gradient, atol=5e-9)
    H = cv.hessian(net, X, y)
    np.testing.assert_allclose(H, hessian, atol=5e-5)
    assert abs(H[1, 3] - 2.449) > 2.0  # which a slip of the derivation by hand gives
    assert abs(H[3, 3] - 0.0004) > 0.001
    np.testing.assert_allclose(H, Oracle(net, X, y).hessian, rtol=1e-12)
    np.testing.assert_allclose(cv.hessian_operator(net, X, y) @ np.eye(4), H, rtol=1e-12)
    np.testing.assert_allclose([block[0, 0] for block in cv.hessian_blocks(net, X, y).values()], np.diag(H), rtol=1e-12)
    assert fnn.check_hessian(net, X, y)
    # The section's δ are the gradients with respect to pre-activations, its second-order ones A_lm times what is read.
    delta = [0.05753091, 0.24329895, -1.9919189, -4.02165237]
    lin = net.plan.linearize(net.theta, X, y[:, None])
    np.testing.assert_allclose([lin.delta(i)[0, 0] for i in range(4)], delta, rtol=2e-3)
    A = [cv.per_sample_hessian_blocks(net, X, y, layer=i, kronecker=True)[0][0, 0, 0] for i in range(4)]
    read = [2.0, *(lin.outputs[0, 0] if i == 3 else lin.inputs(i + 1)[0, 0] for i in range(3))]
    np.testing.assert_allclose([a * x * x for a, x in zip(A, read, strict=True)], np.diag(H), rtol=1e-12)


# check_hessian.


@pytest.mark.parametrize("number", range(0, N_CASES, 3))
def test_check_hessian_passes(number, backend):
    made = case(number, backend, "float32")
    report = fnn.check_hessian(made.net, made.X, made.y, **made.options)
    assert report, str(report)
    P = made.net.n_parameters
    assert report.checked == report.total == P * P
    assert f"Hessian check of {P * P:,} of {P * P:,} components: passed" in str(report)


def test_check_hessian_finds_what_is_wrong(backend, monkeypatch):
    net, X, y = chain(backend)
    right = cv.hessian

    def wrong(*args: Any, **options: Any) -> np.ndarray:
        H = right(*args, **options)
        H[1, 3] = H[3, 1] = 2.449
        return H

    monkeypatch.setattr(cv, "hessian", wrong)
    report = fnn.check_hessian(net, X, y)
    assert not report
    assert {failure.name for failure in report.failures} == {
        "∂²J/∂1.weight[0, 0]∂3.weight[0, 0]",
        "∂²J/∂3.weight[0, 0]∂1.weight[0, 0]",
    }
    assert report.failures[0].numerical == pytest.approx(0.35757, abs=1e-4)


def test_check_hessian_of_some_rows_and_at_kinks(backend):
    X, y = iris()
    net = network(backend, fnn.Dense(5, "relu"), fnn.Dense(3))
    report = fnn.check_hessian(net, X[::10], y[::10], n=3, l2=0.1)
    assert report
    assert report.checked == 3 * net.n_parameters
    # The second pre-activation is 0 in every row: there relu's slope jumps.
    net.parameters["0.weight"][:, 1] = 0.0
    net.parameters["0.bias"][1] = 0.0
    report = fnn.check_hessian(net, X[::10], y[::10])
    assert report
    assert any("0.weight[0, 1]" in kink.name or "0.bias[1]" in kink.name for kink in report.kinks)
    with pytest.raises(TypeError, match="net must be a Sequential, got"):
        fnn.check_hessian(np.sin, X, y)  # type: ignore[arg-type]


def test_check_hessian_of_some_rows_does_without_the_matrix(backend, monkeypatch):
    def never(*args: Any, **options: Any) -> np.ndarray:
        raise AssertionError("the whole matrix was made")

    monkeypatch.setattr(cv, "hessian", never)
    X, y = iris()
    net = network(backend, fnn.Dense(60, "tanh"), fnn.LayerNorm(), fnn.Dense(3), dtype="float32")
    report = fnn.check_hessian(net, X[::10], y[::10], n=5, l2=0.1)
    P = net.n_parameters
    assert report, str(report)
    assert (report.checked, report.total) == (5 * P, P * P)
    right = cv.hessian_operator
    monkeypatch.setattr(cv, "hessian_operator", lambda *args, **options: 1.01 * right(*args, **options))
    assert not fnn.check_hessian(net, X[::10], y[::10], n=5, l2=0.1)


# Convexity.


def test_convexity_of_logistic_regression(backend):
    X, y = iris()
    net = network(backend, fnn.Dense(3))
    report = cv.convexity_report(net, X, y, l2=0.01)
    H = cv.hessian(net, X, y, l2=0.01)
    assert report.convex
    assert report.layers[0].negative is None
    assert report.verdict == "not stationary"
    values = np.linalg.eigvalsh(H)
    np.testing.assert_allclose((report.smallest, report.largest), (values[0], values[-1]), atol=1e-12)
    net.theta[...] = 0.0
    for _ in range(20):  # Newton's method
        H, g = cv.hessian(net, X, y, l2=0.01), net.gradient(X, y, l2=0.01)
        net.theta[...] -= np.linalg.solve(H + 1e-12 * np.eye(len(H)), g)
    report = cv.convexity_report(net, X, y, l2=0.01)
    assert report.gradient_norm < 1e-10
    assert report.verdict == "no negative curvature (degenerate)"  # all biases may be moved together
    assert "degenerate); the Hessian here is convex" in str(report)
    without = network(backend, fnn.Dense(3, bias=False))
    without.theta[...] = 0.0
    for _ in range(20):
        H, g = cv.hessian(without, X, y, l2=0.01), without.gradient(X, y, l2=0.01)
        without.theta[...] -= np.linalg.solve(H, g)
    assert cv.convexity_report(without, X, y, l2=0.01).verdict == "minimum"


def test_positive_blocks_do_not_make_a_minimum(backend):
    # L = ½ (u v x − y)² at u = v = 0: a saddle, though both blocks are 0, not negative.
    net = network(backend, fnn.Dense(1, bias=False), fnn.Dense(1, bias=False), loss="squared_error", input_size=1)
    net.theta[...] = 0.0
    report = cv.convexity_report(net, np.ones((1, 1)), [1.0])
    assert [(layer.smallest, layer.largest) for layer in report.layers] == [(0.0, 0.0), (0.0, 0.0)]
    assert (report.smallest, report.largest) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert report.verdict == "saddle"
    assert not report.convex
    assert report.gradient_norm == 0.0


def test_shares_of_negative_terms(backend):
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((40, 4)), rng.standard_normal(40)
    net = network(
        backend, fnn.Dense(6, "tanh"), fnn.LayerNorm(), fnn.Activation("softplus"), fnn.Dense(1), loss="squared_error"
    )
    report = cv.convexity_report(net, X, y)
    assert [layer.name for layer in report.layers] == ["Dense", "LayerNorm", "Dense"]
    cut = network(backend, fnn.Dense(6, "tanh"), loss="squared_error")
    cut.theta[...] = net.theta[: cut.n_parameters]
    a = cut.decision_function(X)
    tail = network(
        backend, fnn.LayerNorm(), fnn.Activation("softplus"), fnn.Dense(1), loss="squared_error", input_size=6
    )
    tail.theta[...] = net.theta[cut.n_parameters :]
    error = tail.decision_function(a).reshape(-1, 1) - y[:, None]
    downstream = error * cv.input_jacobian(tail, a)[:, 0]
    assert report.layers[0].negative == np.mean(-2.0 * a * (1.0 - a**2) * downstream < 0.0)
    # softplus'' > 0, so that the sign is that of the error times the last layer's weight.
    assert report.layers[1].negative == np.mean(error * net.parameters["3.weight"].T < 0.0)
    assert report.layers[2].negative is None


def test_convexity_of_softmax_regression_on_digits(backend):
    X, y = fnn.datasets.load_digits()
    net = network(backend, fnn.Dense(10), input_size=64, dtype="float32")
    report = cv.convexity_report(net, X / 16.0, y)
    values = np.linalg.eigvalsh(cv.hessian(net, X / 16.0, y).astype(np.float64))
    assert report.convex
    assert report.largest == pytest.approx(values[-1], rel=1e-5)
    assert report.residual == 0.0


@pytest.mark.parametrize("norm", [(), (fnn.LayerNorm(),)])
def test_convexity_with_large_and_small_blocks(backend, norm, monkeypatch):
    X, y = iris()
    net = network(backend, fnn.Dense(20, "tanh"), *norm, fnn.Dense(3))
    exact = cv.convexity_report(net, X, y, l2=0.1)
    monkeypatch.setattr(cv.convexity, "SMALL", 70)  # below the first layer's 100 parameters, above the others'
    report = cv.convexity_report(net, X, y, l2=0.1)
    for one, other in zip((*report.layers, report), (*exact.layers, exact), strict=True):
        np.testing.assert_allclose((one.smallest, one.largest), (other.smallest, other.largest), atol=1e-7)
    assert [layer.residual > 0.0 for layer in report.layers] == [True, *(False for _ in norm), False]
    assert "eigenvalues by Lanczos, with residuals of" in str(report)
    assert report.verdict == exact.verdict


def test_convexity_of_a_wide_network(monkeypatch):
    X, y = fnn.datasets.load_digits()
    X, y = X[:40] / 16.0, y[:40]
    net = network(BACKENDS[0], fnn.Dense(14, "relu"), fnn.Dense(10), input_size=64)  # a block of 910 and one of 150
    monkeypatch.setattr(cv.convexity, "SMALL", 500)
    report = cv.convexity_report(net, X, y)
    wide, top = report.layers
    assert wide.residual > 0.0 == top.residual
    assert abs(wide.smallest) < 1e-8 * wide.largest  # relu's block is positive semi-definite, of rank 40 · 9 at most
    block = cv.hessian_blocks(net, X, y)[0]
    highest = eigvalsh(block, subset_by_index=[len(block) - 1, len(block) - 1])
    assert wide.largest == pytest.approx(highest[0], rel=1e-6)


def test_degenerate_points_are_not_called_minima(backend):
    # L = ½ (u v w x − 1)² at 0: gradient and Hessian are 0, and J falls by its third derivatives.
    net = network(backend, *(fnn.Dense(1, bias=False) for _ in range(3)), loss="squared_error", input_size=1)
    net.theta[...] = 0.0
    report = cv.convexity_report(net, np.ones((1, 1)), [1.0])
    assert net.loss(np.ones((1, 1)), [1.0]) == 0.5
    assert (report.smallest, report.largest, report.gradient_norm) == (0.0, 0.0, 0.0)
    assert report.verdict == "no negative curvature (degenerate)"
    net.theta[...] = 0.1
    assert net.loss(np.ones((1, 1)), [1.0]) < 0.5  # not a minimum, indeed
    # A valley of minima: one weight for x, one for a feature that is always 0.
    net = network(backend, fnn.Dense(1, bias=False), loss="squared_error", input_size=2)
    net.theta[...] = 1.0, 5.0
    X = np.array([[1.0, 0.0]])
    assert cv.convexity_report(net, X, [1.0]).verdict == "no negative curvature (degenerate)"
    assert cv.convexity_report(net, X, [1.0]).convex
    net.theta[1] = 0.0
    net.theta[0] = 1.0 / 1.1
    assert cv.convexity_report(net, X, [1.0], l2=0.1).verdict == "minimum"


def test_a_maximum(backend):
    # silu has a minimum at -1.2784645; a target far above makes it the error's maximum.
    net = network(backend, fnn.Dense(1, "silu", bias=False), loss="squared_error", input_size=1)
    net.theta[...] = -1.2784645427610738
    report = cv.convexity_report(net, np.ones((1, 1)), [1.0])
    assert report.largest < 0.0
    assert report.verdict == "maximum"
    # With a feature that is always 0 it is one along a line only.
    net = network(backend, fnn.Dense(1, "silu", bias=False), loss="squared_error", input_size=2)
    net.theta[...] = -1.2784645427610738, 0.0
    report = cv.convexity_report(net, np.array([[1.0, 0.0]]), [1.0])
    assert report.verdict == "no positive curvature (degenerate)"


# Memory.

MEMORY = """
    import resource
    import numpy as np
    import fastnn as fnn

    def network(width):
        return fnn.Sequential(
            [fnn.Dense(width, "tanh"), *{layers}, fnn.Dense(10)],
            input_size=100, loss="cross_entropy", dtype="float64", seed=0, backend={backend!r},
        )

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal(({rows}, 100)), rng.integers(0, 10, {rows})
    fnn.curvature.hessian(network(2), X[:4], y[:4])  # what is loaded and made once
    before = peak()
    H = fnn.curvature.hessian(network(35), X, y)
    print(H.nbytes, peak() - before)
"""


@pytest.mark.skipif("compiled" not in BACKENDS, reason="the reference makes temporary arrays of the size of a block")
@pytest.mark.parametrize(("layers", "rows"), [("[]", 2000), ("[fnn.LayerNorm()]", 100)])
def test_memory_of_the_hessian(layers, rows):
    resource = pytest.importorskip("resource")
    assert resource
    script = textwrap.dedent(MEMORY).format(layers=layers, backend="compiled", rows=rows)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    size, grown = map(int, done.stdout.split())
    assert size > 110e6
    assert grown < 1.3 * size + memory.WORKSPACE
