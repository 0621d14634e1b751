"""Curvature against two independent oracles: forward-mode jets (jets.py), and results of JAX kept in a file."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curvature_cases import BACKENDS, N_CASES, Case, case
from jets import Oracle, inputs
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg, eigsh

import fastnn as fnn
from fastnn import curvature as cv
from fastnn.linalg import memory

pytestmark = pytest.mark.every_simd

NUMBERS = range(N_CASES)
CHAINS = [number for number in NUMBERS if case(number).chain]
SEPARATE = [number for number in NUMBERS if not case(number).whole]
WHOLE = [number for number in NUMBERS if case(number).whole]
TOLERANCE = 1e-9

with np.load(Path(__file__).with_name("golden") / "curvature.npz") as _file:
    GOLDEN = dict(_file)  # made by make_curvature.py beside it

every_case = pytest.mark.parametrize("number", NUMBERS)
every_separate_case = pytest.mark.parametrize("number", SEPARATE)
every_chain = pytest.mark.parametrize("number", CHAINS)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend that has `linearize`."""
    return request.param


@functools.cache
def oracle(number: int) -> Oracle:
    made = case(number)
    return Oracle(made.net, made.X, made.y, **made.options)


def error(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))


def full(upper: np.ndarray) -> np.ndarray:
    """A symmetric matrix from its upper triangle."""
    n = int((np.sqrt(8 * len(upper) + 1) - 1) / 2)
    H = np.zeros((n, n))
    H[np.triu_indices(n)] = upper
    return H + np.triu(H, 1).T


def places(net: fnn.Sequential) -> dict[int, slice]:
    """Where each layer's parameters are in theta."""
    found: dict[int, slice] = {}
    for name, offset, shape in net.layout:
        layer, stop = int(name.split(".")[0]), offset + int(np.prod(shape))
        found[layer] = slice(found[layer].start if layer in found else offset, stop)
    return found


# Against the oracles.


def test_the_cases_cover_what_there_is():
    cases = [case(number) for number in NUMBERS]
    kinds = {type(layer).__name__ for made in cases for layer in made.net.layers}
    assert kinds == {"Dense", "Activation", "BatchNorm", "LayerNorm", "Dropout", "Standardize"}
    assert {made.net.loss_name for made in cases} == {*fnn.losses.LOSSES} - {"absolute_error"}
    used = {op.activation for made in cases for op in made.net.ops}
    assert used == set(fnn.reference.ACTIVATIONS) - {"sign"}
    assert len(CHAINS) == 15
    assert len(WHOLE) >= 5
    assert any(made.options["sample_weight"] is None for made in cases)
    assert any(made.net.input_scale for made in cases)


@every_case
def test_hessian(number, backend):
    made = case(number, backend)
    H = cv.hessian(made.net, made.X, made.y, **made.options)
    assert error(H, oracle(number).hessian) < TOLERANCE
    assert error(H, full(GOLDEN[f"{number}.hessian"])) < TOLERANCE
    np.testing.assert_array_equal(H, H.T)


@every_case
def test_ggn(number, backend):
    made = case(number, backend)
    G = cv.ggn(made.net, made.X, made.y, **made.options)
    assert error(G, oracle(number).ggn) < TOLERANCE
    assert error(G, full(GOLDEN[f"{number}.ggn"])) < TOLERANCE
    np.testing.assert_array_equal(G, G.T)
    assert np.linalg.eigvalsh(G)[0] > -1e-12 * np.abs(G).max()


@every_separate_case
def test_empirical_fisher(number, backend):
    made = case(number, backend)
    F = cv.empirical_fisher(made.net, made.X, made.y, **made.options)
    assert error(F, oracle(number).fisher) < TOLERANCE
    np.testing.assert_array_equal(F, F.T)


@every_case
@pytest.mark.parametrize("keep", [True, False])
def test_operators(number, backend, keep, monkeypatch):
    monkeypatch.setattr("fastnn.curvature.products.WORKSPACE", 6000)  # a few rows at a time
    made = case(number, backend)
    kinds = {"hessian": cv.hessian_operator, "ggn": cv.ggn_operator, "fisher": cv.empirical_fisher_operator}
    rng = np.random.default_rng(number)
    for kind, make in kinds.items():
        if kind == "fisher" and made.whole:
            continue
        operator = make(made.net, made.X, made.y, keep=keep, **made.options)
        assert isinstance(operator, LinearOperator)
        assert operator.kept == keep
        assert operator.dtype == np.float64
        V = rng.standard_normal((made.net.n_parameters, 3))
        expected = getattr(oracle(number), kind) @ V
        assert error(operator @ V, expected) < TOLERANCE
        assert error(operator.matvec(V[:, 0]), expected[:, 0]) < TOLERANCE
        assert error(operator.rmatvec(V[:, 0]), expected[:, 0]) < TOLERANCE
        np.testing.assert_array_equal(operator.matvec(V[:, 1]), operator.matvec(V[:, 1]))  # nothing is left over
        assert operator.H is operator
        assert operator.T is operator


@every_case
def test_blocks_and_diagonals(number, backend):
    made = case(number, backend)
    at = places(made.net)
    for kind, blocks, diagonal in (
        ("hessian", cv.hessian_blocks, cv.hessian_diagonal),
        ("ggn", cv.ggn_blocks, cv.ggn_diagonal),
    ):
        expected = getattr(oracle(number), kind)
        found = blocks(made.net, made.X, made.y, **made.options)
        assert found.keys() == at.keys()
        for layer, block in found.items():
            assert np.abs(block - expected[at[layer], at[layer]]).max() < TOLERANCE * np.abs(expected).max()
            np.testing.assert_array_equal(block, block.T)
        assert error(diagonal(made.net, made.X, made.y, **made.options), np.diag(expected)) < TOLERANCE


@every_separate_case
def test_per_sample_gradients(number, backend):
    made = case(number, backend)
    G = cv.per_sample_gradients(made.net, made.X, made.y)
    assert error(G, oracle(number).gradients) < TOLERANCE
    assert error(G, GOLDEN[f"{number}.gradients"]) < TOLERANCE
    wide = np.full((len(made.X), 3, made.net.n_parameters + 2), 7.0)
    out = wide[:, 1, 1:-1]
    assert cv.per_sample_gradients(made.net, made.X, made.y, out=out) is out
    np.testing.assert_array_equal(out, G)
    out[...] = 7.0
    assert (wide == 7.0).all()


@every_separate_case
def test_output_jacobian(number, backend):
    made = case(number, backend)
    assert error(cv.output_jacobian(made.net, made.X), Oracle(made.net, made.X, made.y).jacobian) < TOLERANCE


@every_separate_case
def test_derivatives_with_respect_to_inputs(number, backend):
    made = case(number, backend)
    z = inputs(made.net, made.X)
    assert error(cv.input_jacobian(made.net, made.X), z.g) < TOLERANCE
    H = cv.input_hessian(made.net, made.X)
    assert error(H, z.h) < TOLERANCE
    assert error(H, GOLDEN[f"{number}.input_hessian"].reshape(H.shape)) < TOLERANCE
    np.testing.assert_array_equal(H, H.swapaxes(-1, -2))
    out = np.full_like(H, np.nan)
    assert cv.input_hessian(made.net, made.X, out=out) is out
    np.testing.assert_array_equal(out, H)


def test_softmax_jacobian(backend):
    net = fnn.Sequential(
        [fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dense(3)],
        input_size=4,
        loss="cross_entropy",
        dtype="float64",
        seed=0,
        backend=backend,
    )
    X = np.random.default_rng(0).standard_normal((6, 4))
    J = cv.softmax_jacobian(net, X)
    assert J.shape == (6, 3, 3)
    # By the chain rule: the probabilities' derivatives with respect to the last bias.
    h = 1e-6
    for m in range(3):
        net.parameters["2.bias"][m] += h
        above = net.predict_proba(X)
        net.parameters["2.bias"][m] -= 2 * h
        below = net.predict_proba(X)
        net.parameters["2.bias"][m] += h
        np.testing.assert_allclose(J[:, :, m], (above - below) / (2 * h), atol=1e-9)
    out = np.empty_like(J)
    assert cv.softmax_jacobian(net, X, out=out, threads=1) is out
    np.testing.assert_array_equal(out, J)
    with pytest.raises(MemoryError, match="softmax_jacobian: 6 x 3 x 3 values of float64"):
        cv.softmax_jacobian(net, X, max_bytes=10)
    with pytest.raises(ValueError, match="out: expected shape"):
        cv.softmax_jacobian(net, X, out=np.empty((6, 3)))
    other = fnn.Sequential([fnn.Dense(2)], input_size=4, loss="squared_error", backend=backend)
    with pytest.raises(ValueError, match="expected a network with loss 'cross_entropy', got 'squared_error'"):
        cv.softmax_jacobian(other, X)


@every_separate_case
def test_per_sample_hessian_blocks(number, backend):
    made = case(number, backend)
    expected = Oracle(made.net, made.X, made.y).hessians
    scale = np.abs(expected).max()
    for layer, at in places(made.net).items():
        blocks = cv.per_sample_hessian_blocks(made.net, made.X, made.y, layer=layer)
        assert np.abs(blocks - expected[:, at, at]).max() < TOLERANCE * scale
        out = np.full_like(blocks, np.nan)
        assert cv.per_sample_hessian_blocks(made.net, made.X, made.y, layer=layer, out=out) is out
        np.testing.assert_array_equal(out, blocks)
        if made.chain:
            A, x = cv.per_sample_hessian_blocks(made.net, made.X, made.y, layer=layer, kronecker=True)
            product = np.einsum("nk,nm,nij->nkimj", x, x, A).reshape(blocks.shape)
            assert np.abs(product - blocks).max() < TOLERANCE * scale
        else:
            with pytest.raises(ValueError, match="kronecker=True is for networks without norm layers"):
                cv.per_sample_hessian_blocks(made.net, made.X, made.y, layer=layer, kronecker=True)


@every_separate_case
def test_preconditioner(number, backend):
    made = case(number, backend)
    w = made.options["sample_weight"]
    w = np.ones(len(made.X)) if w is None else w
    M = cv.preconditioner(made.net, made.X, made.y, sample_weight=made.options["sample_weight"], damping=0.1)
    expected = np.sqrt(np.einsum("n,np->p", w, oracle(number).gradients ** 2))
    assert error(M.diagonal, expected) < TOLERANCE
    v = np.random.default_rng(0).standard_normal(len(expected))
    assert error(M @ v, v / (expected + 0.1)) < TOLERANCE
    for factor in (1.0, 3.0, 1e-3):
        scaled = cv.preconditioner(made.net, made.X, made.y, sample_weight=np.full(len(made.X), factor))
        plain = cv.preconditioner(made.net, made.X, made.y)
        assert error(scaled.diagonal, np.sqrt(factor) * plain.diagonal) < TOLERANCE


SECOND_ORDER = [cv.hessian, cv.ggn, cv.hessian_operator, cv.ggn_operator, cv.hessian_blocks, cv.ggn_blocks]
SECOND_ORDER += [cv.hessian_diagonal, cv.ggn_diagonal, cv.kfac_factors, cv.convexity_report, cv.trace, cv.spectrum]


# K-FAC by its definition.


def brute_force_factors(number: int, layer: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A and G of a dense layer from the oracle's per-row derivatives alone: those with respect to its bias are those
    with respect to z."""
    made = case(number)
    made = made._replace(net=with_biases(made.net))
    truth = Oracle(made.net, made.X, made.y)
    slot = {name: slice(at, at + int(np.prod(shape))) for name, at, shape in made.net.layout}
    bias = slot[f"{layer}.bias"]
    w = made.options["sample_weight"]
    w = np.ones(len(made.X)) if w is None else w
    w = w / w.sum()
    if kind == "ggn":
        J = truth.jacobian[:, :, bias]
        G = np.einsum("n,nkp,nkm,nmq->pq", w, J, truth.loss_hessians, J)
    else:
        D = truth.gradients[:, bias]
        G = np.einsum("n,np,nq->pq", w, D, D)
    # What the layer reads: the outputs of the network cut off before it.
    layers = made.net.layers[:layer]
    x = made.X if made.net.input_scale is None else made.X * made.net.input_scale
    if layers:
        net = fnn.Sequential(
            [*layers, fnn.Dense(1)], input_size=made.net.input_size, loss="squared_error", dtype="float64",
            input_scale=made.net.input_scale, backend="reference",
        )  # fmt: skip
        net.theta[: slot[f"{layer}.weight"].start] = made.net.theta[: slot[f"{layer}.weight"].start]
        net.state[...] = made.net.state[: len(net.state)]
        W = net.parameters[f"{layer}.weight"]
        net.parameters[f"{layer}.bias"][...] = 0.0
        columns = []
        for k in range(len(W)):
            W[...] = 0.0
            W[k] = 1.0
            columns.append(net.decision_function(made.X).ravel())
        x = np.stack(columns, axis=1)
    if case(number).net.layers[layer].bias:
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    return np.einsum("n,np,nq->pq", w, x, x), G


def with_biases(net: fnn.Sequential) -> fnn.Sequential:
    """The same function with a bias, of 0 where there was none, in every dense layer."""
    from dataclasses import replace

    layers = [replace(layer, bias=True) if isinstance(layer, fnn.Dense) else layer for layer in net.layers]
    other = fnn.Sequential(
        layers, input_size=net.input_size, loss=net.loss_function, dtype="float64", input_scale=net.input_scale,
        backend="reference",
    )  # fmt: skip
    other.theta[...] = 0.0
    for name, value in net.parameters.items():
        other.parameters[name] = value
    other.state[...] = net.state
    return other


@every_separate_case
@pytest.mark.parametrize("kind", ["ggn", "empirical"])
def test_kfac_factors(number, kind, backend):
    made = case(number, backend)
    factors = cv.kfac_factors(made.net, made.X, made.y, kind=kind, sample_weight=made.options["sample_weight"])
    assert list(factors) == [i for i, layer in enumerate(made.net.layers) if isinstance(layer, fnn.Dense)]
    for layer, (A, G) in factors.items():
        expected_A, expected_G = brute_force_factors(number, layer, kind)
        assert error(A, expected_A) < TOLERANCE
        assert error(G, expected_G) < TOLERANCE
        np.testing.assert_array_equal(A, A.T)
        np.testing.assert_array_equal(G, G.T)


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_drawn_kfac_factors_have_the_exact_ones_as_their_mean(number, backend):
    made = case(number, backend)
    options = {"kind": "mc", "sample_weight": made.options["sample_weight"]}
    exact = cv.kfac_factors(made.net, made.X, made.y, sample_weight=made.options["sample_weight"])
    n, rng = 4000, np.random.default_rng(0)
    X, y = np.tile(made.X, (n, 1)), np.tile(made.y, (n,) + (1,) * (made.y.ndim - 1))
    if options["sample_weight"] is not None:
        options["sample_weight"] = np.tile(options["sample_weight"], n)
    drawn = cv.kfac_factors(made.net, X, y, seed=rng, **options)
    for layer, (A, G) in drawn.items():
        assert error(A, exact[layer][0]) < 1e-12
        assert error(G, exact[layer][1]) < 0.06
    once, again = (cv.kfac_factors(made.net, made.X, made.y, kind="mc", seed=3) for _ in range(2))
    last = len(made.net.layers) - 1 if isinstance(made.net.layers[-1], fnn.Dense) else max(once)
    np.testing.assert_array_equal(once[last][1], again[last][1])


def test_kfac_is_exact_for_one_linear_layer_and_one_row(backend):
    net = fnn.Sequential([fnn.Dense(3)], input_size=2, loss="cross_entropy", dtype="float64", seed=0, backend=backend)
    X, y = np.array([[0.5, -1.0]]), np.array([1])
    A, G = cv.kfac_factors(net, X, y)[0]
    assert error(np.kron(A, G), cv.ggn(net, X, y)) < 1e-12


@pytest.mark.parametrize("bias", [True, False])
def test_the_penalty_of_kfac_is_on_weights_only(bias, backend):
    net = fnn.Sequential(
        [fnn.Dense(3, bias=bias)], input_size=2, loss="cross_entropy", dtype="float64", seed=0, backend=backend
    )
    X, y = np.array([[0.5, -1.0]]), np.array([1])
    P = net.n_parameters
    K = cv.kfac_factors(net, X, y, l2=0.5)
    assert error(K.operator() @ np.eye(P), cv.ggn(net, X, y, l2=0.5)) < 1e-12
    assert error(K.operator(0.1) @ np.eye(P), cv.ggn(net, X, y, l2=0.5) + 0.1 * np.eye(P)) < 1e-12


@pytest.mark.parametrize("number", [0, 6, 17, 21])
def test_kfac_operators(number, backend):
    made = case(number, backend)
    if made.whole:
        made.options["training"] = False
    factors = cv.kfac_factors(made.net, made.X, made.y, l2=0.05)
    P, damping = made.net.n_parameters, 0.15
    whole, inverse = 0.1 * np.eye(P), np.eye(P) / damping
    whole[np.diag_indices(P)] += cv.hessian_diagonal(made.net, made.X, made.y, l2=0.05)
    whole[np.diag_indices(P)] -= cv.hessian_diagonal(made.net, made.X, made.y)
    for layer, at in places(made.net).items():
        if layer not in factors:
            continue
        A, G = factors[layer]
        whole[at, at] += np.kron(A, G)
        pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
        root = np.sqrt(damping + 0.05)
        damped = np.kron(A + pi * root * np.eye(len(A)), G + root / pi * np.eye(len(G)))
        inverse[at, at] = np.linalg.inv(damped)
    v = np.random.default_rng(number).standard_normal(P)
    assert error(factors.operator(0.1) @ v, whole @ v) < 1e-10
    assert error(factors.inverse(damping) @ v, inverse @ v) < 1e-9
    with pytest.raises(ValueError, match="damping must be a finite number > 0"):
        factors.inverse(0.0)


def test_too_little_damping_is_said(backend):
    net = fnn.Sequential([fnn.Dense(3)], input_size=20, loss="cross_entropy", seed=0, backend=backend)
    rng = np.random.default_rng(0)
    factors = cv.kfac_factors(net, 1e3 * rng.standard_normal((4, 20)), rng.integers(0, 3, 4))
    with pytest.raises(ValueError, match="damping: 1e-30 is too small for float32: with it a factor of layer 0 is not"):
        factors.inverse(1e-30)


@pytest.mark.parametrize("function", [*SECOND_ORDER, cv.per_sample_gradients, cv.preconditioner, cv.empirical_fisher])
def test_parameters_and_losses_that_are_not_finite(function, backend):
    net = fnn.Sequential([fnn.Dense(2, "relu"), fnn.Dense(1)], input_size=2, loss="squared_error", backend=backend)
    X, y = np.ones((3, 2)), np.zeros(3)
    net.theta[...] = 1e30  # the square of the error is beyond float32
    message = r"\w+: the loss is not finite at these parameters: (inf|nan)"
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match=message):
        function(net, X, y)
    net.theta[...] = 1.0
    net.theta[3] = np.nan
    with pytest.raises(ValueError, match=r"\w+: the parameters are not finite: theta\[3\] is nan"):
        function(net, X, y)
    with pytest.raises(ValueError, match="input_jacobian: the parameters are not finite"):
        cv.input_jacobian(net, X)


# Types, chunks, threads, copies.


@pytest.mark.parametrize("number", [0, 7, 16, 21, 26])
def test_float32_is_float64_rounded(number, backend):
    made = case(number, backend, "float32")
    single = {k: v for k, v in made.options.items() if k != "sample_weight"}
    w = made.options["sample_weight"]
    truth = oracle(number)
    H = cv.hessian(made.net, made.X.astype(np.float32), made.y, sample_weight=w, **single)
    assert H.dtype == np.float32
    assert error(H, truth.hessian) < 3e-4
    np.testing.assert_array_equal(H, H.T)
    assert error(cv.ggn(made.net, made.X, made.y, **made.options), truth.ggn) < 3e-4
    operator = cv.hessian_operator(made.net, made.X, made.y, **made.options)
    v = np.random.default_rng(0).standard_normal(len(H))
    assert operator.dtype == (operator @ v).dtype == np.float32
    assert error(operator @ v, truth.hessian @ v) < 3e-4
    if not made.whole:
        G = cv.per_sample_gradients(made.net, made.X, made.y)
        assert G.dtype == np.float32
        assert error(G, truth.gradients) < 3e-4
        assert cv.empirical_fisher(made.net, made.X, made.y).dtype == np.float32


@every_chain
def test_chunks_change_nothing_but_rounding(number, backend, monkeypatch):
    made = case(number, backend)
    functions = [cv.hessian, cv.ggn, cv.hessian_diagonal, cv.empirical_fisher]
    at_once = [f(made.net, made.X, made.y, **made.options) for f in functions]
    for place in ("risk", "whole"):
        monkeypatch.setattr(f"fastnn.curvature.{place}.WORKSPACE", 1)
    monkeypatch.setattr(cv.risk.EmpiricalRisk.chunks, "__defaults__", (1,))
    for f, expected in zip(functions, at_once, strict=True):
        assert error(f(made.net, made.X, made.y, **made.options), expected) < 1e-13


def test_rows_of_weight_zero_are_as_if_absent(backend):
    made = case(1, backend)
    w = np.ones(len(made.X))
    w[1:3] = 0.0
    X = made.X.copy()
    keep = w > 0
    expected = cv.hessian(made.net, X[keep], made.y[keep])
    assert error(cv.hessian(made.net, X, made.y, sample_weight=w), expected) < 1e-12
    H = cv.hessian_operator(made.net, X, made.y, sample_weight=w, keep=False)
    assert error(H @ np.eye(len(expected)), expected) < 1e-12


@pytest.mark.parametrize("number", [3, 10, 18])
def test_threads(number, backend):
    made = case(number, backend)
    one, two = (cv.hessian(made.net, made.X, made.y, threads=n, **made.options) for n in (1, 2))
    assert error(one, two) < 1e-12


def test_input_types(backend):
    from scipy import sparse

    rng = np.random.default_rng(0)
    net = fnn.Sequential(
        [fnn.Dense(4, "tanh"), fnn.Dense(3)], input_size=5, loss="cross_entropy", dtype="float64", seed=0,
        input_scale=1 / 255, backend=backend,
    )  # fmt: skip
    X, y = rng.integers(0, 256, (9, 5)).astype(np.uint8), rng.integers(0, 3, 9)
    expected = cv.hessian(net, X.astype(np.float64), y)
    for other in (X, sparse.csr_array(X), X.astype(np.float32), np.asfortranarray(X)):
        assert error(cv.hessian(net, other, y), expected) < 1e-12
        v = np.ones(net.n_parameters)
        assert error(cv.hessian_operator(net, other, y, keep=False) @ v, expected @ v) < 1e-12
    soft = np.eye(3)[y]
    assert error(cv.hessian(net, X, soft), expected) < 1e-12


def test_an_operator_is_of_the_moment_it_was_made(backend):
    made = case(21, backend)
    for keep in (True, False):
        operator = cv.hessian_operator(made.net, made.X, made.y, keep=keep)
        v = np.ones(made.net.n_parameters)
        before = operator @ v
        theta, state = made.net.theta.copy(), made.net.state.copy()
        made.net.theta[...] *= 1.5
        made.net.state[...] += 1.0
        np.testing.assert_array_equal(operator @ v, before)
        made.net.theta[...], made.net.state[...] = theta, state


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "make", [cv.hessian_operator, cv.ggn_operator, cv.empirical_fisher_operator], ids=lambda f: f.__name__
)
def test_an_operator_does_not_see_later_changes_of_the_data(make, keep, backend):
    net = fnn.Sequential(
        [fnn.Dense(4, "tanh"), fnn.Dense(2)], input_size=3, loss="squared_error", dtype="float64", backend=backend
    )
    rng = np.random.default_rng(0)
    X, y, w = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), np.ones(9)
    v = rng.standard_normal(net.n_parameters)
    operator = make(net, X, y, sample_weight=w, keep=keep)
    before = operator @ v
    X += 1.0
    y *= -3.0
    w[:4] = 0.0
    np.testing.assert_array_equal(operator @ v, before)
    assert error(make(net, X, y, sample_weight=w, keep=keep) @ v, before) > 0.01


def all_operators(net: fnn.Sequential, X: np.ndarray, y: np.ndarray) -> dict[str, LinearOperator]:
    factors = cv.kfac_factors(net, X, y, l2=0.1)
    return {
        "kept": cv.hessian_operator(net, X, y, keep=True),
        "not kept": cv.ggn_operator(net, X, y, keep=False),
        "fisher": cv.empirical_fisher_operator(net, X, y),
        "kfac": factors.operator(0.1),
        "inverse": factors.inverse(0.1),
        "preconditioner": cv.preconditioner(net, X, y, damping=0.1),
    }


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("norm", [(), (fnn.LayerNorm(),)])
def test_all_operators_take_the_same_and_can_be_copied(norm, sparse, backend):
    net = fnn.Sequential(
        [fnn.Dense(4, "tanh", bias=False), *norm, fnn.Dense(2)], input_size=3, loss="cross_entropy", backend=backend
    )
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 3)), np.arange(9) % 2
    V = rng.standard_normal((net.n_parameters, 5))
    for name, operator in all_operators(net, csr_array(X) if sparse else X, y).items():
        product = operator @ V
        assert operator.dtype == product.dtype == (operator @ V[:, 0]).dtype == np.float32, name
        assert product.shape == V.shape
        for j in range(5):
            np.testing.assert_allclose(operator @ V[:, j], product[:, j], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(operator.T @ V, product)
        np.testing.assert_allclose(operator.H @ V[:, 0], operator @ V[:, 0])
        np.testing.assert_array_equal(operator @ np.ones(len(V), int), operator @ np.ones(len(V)))
        with pytest.raises(TypeError, match="expected a real vector, got dtype complex128"):
            operator @ V.astype(complex)
        for twin in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
            np.testing.assert_array_equal(twin @ V, product)
    assert repr(cv.kfac_factors(net, X, y, l2=0.1)) == (
        f"KFACFactors({{0: (3, 4), {len(norm) + 1}: (5, 2)}}, kind='ggn', l2=0.1, n_parameters={net.n_parameters})"
    )


def test_scipy_takes_the_operators(backend):
    made = case(6, backend)
    options = {"l2": 0.5}
    G = cv.ggn(made.net, made.X, made.y, **options)
    operator = cv.ggn_operator(made.net, made.X, made.y, **options)
    damped = operator + 0.1 * LinearOperator(G.shape, matvec=lambda v: v, dtype=G.dtype)
    g = made.net.gradient(made.X, made.y, **options)
    M = cv.kfac_factors(made.net, made.X, made.y, l2=0.5).inverse(0.1)
    step, status = cg(damped, g, rtol=1e-10, M=M)
    assert status == 0
    assert error(step, np.linalg.solve(G + 0.1 * np.eye(len(G)), g)) < 1e-7
    values = eigsh(operator, k=3, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(G)[-3:], rtol=1e-8)


# What is refused.

PER_ROW = {
    "empirical_fisher": lambda net, X, y: cv.empirical_fisher(net, X, y, training=True),
    "empirical_fisher_operator": lambda net, X, y: cv.empirical_fisher_operator(net, X, y, training=True),
    "kfac_factors": lambda net, X, y: cv.kfac_factors(net, X, y, training=True),
    "per_sample_gradients": lambda net, X, y: cv.per_sample_gradients(net, X, y, training=True),
    "per_sample_hessian_blocks": lambda net, X, y: cv.per_sample_hessian_blocks(net, X, y, layer=0, training=True),
    "preconditioner": lambda net, X, y: cv.preconditioner(net, X, y, training=True),
}


@pytest.mark.parametrize("what", PER_ROW)
def test_rows_that_depend_on_each_other_have_no_quantities_of_their_own(what, backend):
    made = case(WHOLE[0], backend)
    message = rf"{what} is not defined with training=True and batch norm: by the statistics of the batch every row's"
    with pytest.raises(ValueError, match=message):
        PER_ROW[what](made.net, made.X, made.y)
    with pytest.raises(ValueError, match="at least 2 rows"):
        cv.hessian(made.net, made.X[:1], made.y[:1], training=True)


@pytest.mark.parametrize("function", SECOND_ORDER, ids=lambda f: f.__name__)
def test_curvature_that_is_not_defined(function, backend):
    options: dict[str, Any] = {"input_size": 2, "dtype": "float64", "backend": backend}
    X, y = np.ones((3, 2)), np.zeros(3)
    absolute = fnn.Sequential([fnn.Dense(1)], loss="absolute_error", **options)
    with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
        function(absolute, X, y)
    sign = fnn.Sequential([fnn.Dense(2, "sign"), fnn.Dense(1)], loss="squared_error", **options)
    with pytest.raises(ValueError, match="curvature is not defined for activation 'sign'"):
        function(sign, X, y)
    assert cv.per_sample_gradients(absolute, X, y).shape == (3, 3)
    with pytest.raises(ValueError, match="'mc' needs a loss that is a log-likelihood, got 'huber'"):
        cv.kfac_factors(fnn.Sequential([fnn.Dense(1)], loss="huber", **options), X, y, kind="mc")


@pytest.mark.parametrize("function", [*SECOND_ORDER, cv.per_sample_gradients, cv.preconditioner, cv.empirical_fisher])
def test_targets_are_needed(function, backend):
    options: dict[str, Any] = {"input_size": 2, "dtype": "float64", "backend": backend}
    net = fnn.Sequential([fnn.Dense(1)], loss="squared_error", **options)
    with pytest.raises(TypeError, match="y: expected") as gradient:
        net.gradient(np.ones((3, 2)), None)
    with pytest.raises(TypeError, match="y: expected") as found:
        function(net, np.ones((3, 2)), None)
    assert str(found.value) == str(gradient.value)
    if function in SECOND_ORDER:
        absolute = fnn.Sequential([fnn.Dense(1)], loss="absolute_error", **options)
        with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
            function(absolute, np.ones((3, 2)), None)


LARGE = {
    "hessian": (lambda *a, **k: cv.hessian(*a, **k), "238,510 x 238,510", "hessian_operator"),
    "ggn": (lambda *a, **k: cv.ggn(*a, **k), "238,510 x 238,510", "ggn_operator"),
    "empirical_fisher": (lambda *a, **k: cv.empirical_fisher(*a, **k), "238,510", "empirical_fisher_operator"),
    "hessian_blocks": (lambda *a, **k: cv.hessian_blocks(*a, **k), "55,469,310,100", "hessian_operator"),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_is_too_large_is_refused_before_it_is_allocated(what, backend):
    # The network of seed 002, whose Hessian is 455 GB in float64.
    net = fnn.Sequential(
        [fnn.Dense(300, "tanh"), fnn.Dense(10)], input_size=784, loss="cross_entropy", dtype="float64", backend=backend
    )
    X, y = np.zeros((2, 784)), np.array([0, 1])
    function, size, instead = LARGE[what]
    tracemalloc.start()
    with pytest.raises(MemoryError, match=rf"{what}: .*{size}.* bytes, more than the .*{instead}"):
        function(net, X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    if what == "hessian":
        with pytest.raises(MemoryError, match=r"455,096,160,800 bytes, more than the 1,000 of max_bytes"):
            function(net, X, y, max_bytes=1000)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda net, X: cv.per_sample_gradients(net, X, [0] * len(X), max_bytes=10), "per_sample_gradients: 4 x 13"),
        (lambda net, X: cv.output_jacobian(net, X, max_bytes=10), "output_jacobian: 4 x 3 x 13"),
        (lambda net, X: cv.input_jacobian(net, X, max_bytes=10), "input_jacobian: 4 x 3 x 2"),
        (lambda net, X: cv.input_hessian(net, X, max_bytes=10), "input_hessian: 4 x 3 x 2 x 2"),
        (
            lambda net, X: cv.per_sample_hessian_blocks(net, X, [0] * len(X), layer=-1, max_bytes=10),
            "per_sample_hessian_blocks: 4 x 9 x 9",
        ),
    ],
)
def test_large_arrays_are_refused(function, message, backend):
    net = fnn.Sequential(
        [fnn.Dense(2, "tanh", bias=False), fnn.Dense(3)],
        input_size=2,
        loss="cross_entropy",
        dtype="float64",
        backend=backend,
    )
    with pytest.raises(MemoryError, match=f"{message} values of float64 are .* bytes, more than the 10 of max_bytes"):
        function(net, np.ones((4, 2)))


def test_working_memory_counts(backend, monkeypatch):
    net = fnn.Sequential(
        [fnn.Dense(30), fnn.BatchNorm(), fnn.Dense(3)], input_size=10, loss="cross_entropy", backend=backend
    )
    X, y = np.random.default_rng(0).standard_normal((3000, 10)), np.arange(3000) % 3
    size = 4 * net.n_parameters**2
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.3 * size) + memory.WORKSPACE + 1)
    cv.hessian(net, X, y)
    with pytest.raises(MemoryError, match=r"for all rows at once, as training-mode batch statistics need them, more"):
        cv.hessian(net, X, y, training=True)
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.2 * size) + memory.WORKSPACE)
    with pytest.raises(MemoryError, match=r"hessian: 483 x 483 .* bytes, .* with working memory, more than the"):
        cv.hessian(net, X, y)
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    monkeypatch.setattr(cv.products, "available_memory", lambda: 100)
    with pytest.raises(MemoryError, match=r"hessian_operator: keep=True: 3,000 x \d+ values .*; use keep=False"):
        cv.hessian_operator(net, X, y, keep=True)
    assert not cv.hessian_operator(net, X, y).kept


def test_limits_of_memory(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    proc = tmp_path / "cgroup"
    proc.write_text("0::/a/b\n")
    found = memory._control_groups(str(proc), str(tmp_path))
    assert found is None
    for place, limit in ((deep, "max"), (tmp_path / "a", "1000")):
        (place / "memory.max").write_text(limit + "\n")
        (place / "memory.current").write_text("700\n")
        (place / "memory.stat").write_text("anon 400\nfile 300\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 600
    (deep / "memory.max").write_text("500\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 100
    old = tmp_path / "memory" / "c"
    old.mkdir(parents=True)
    proc.write_text("3:cpu:/c\n4:memory:/c\n")
    (old / "memory.limit_in_bytes").write_text("90\n")
    (old / "memory.usage_in_bytes").write_text("50\n")
    (old / "memory.stat").write_text("cache 10\nrss 40\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 50
    script = """
import resource, fastnn.linalg.memory
before = fastnn.linalg.memory.available_memory()
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
assert 0 < fastnn.linalg.memory._address_space() < 4 << 30
assert fastnn.linalg.memory.available_memory() <= fastnn.linalg.memory._address_space()
"""
    if sys.platform == "linux":
        subprocess.run([sys.executable, "-c", script], check=True)


def test_arguments_are_checked(backend):
    made = case(0, backend)
    net, X, y = made.net, made.X, made.y
    with pytest.raises(TypeError, match=r"net must be a Sequential, got str"):
        cv.hessian("net", X, y)
    with pytest.raises(TypeError, match="training must be True or False, got 1"):
        cv.hessian(net, X, y, training=1)
    with pytest.raises(ValueError, match="l2 must be a finite number >= 0, got -1"):
        cv.ggn(net, X, y, l2=-1)
    with pytest.raises(ValueError, match=r"X: expected .* features"):
        cv.hessian_operator(net, np.ones((3, 9)), [0, 0, 0])
    with pytest.raises(ValueError, match="X: expected at least one row"):
        cv.output_jacobian(net, X[:0])
    with pytest.raises(ValueError, match="sample_weight"):
        cv.hessian(net, X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="keep must be True, False or 'auto', got 'yes'"):
        cv.hessian_operator(net, X, y, keep="yes")
    operator = cv.hessian_operator(net, X, y)
    with pytest.raises(ValueError, match="dimension mismatch"):
        operator @ np.ones(3)
    with pytest.raises(TypeError, match="expected a real vector, got dtype complex128"):
        operator @ np.ones(net.n_parameters, complex)
    with pytest.raises(ValueError, match="kind must be one of 'ggn', 'mc', 'empirical', got 'exact'"):
        cv.kfac_factors(net, X, y, kind="exact")
    with pytest.raises(ValueError, match="kind must be one of 'hessian', 'ggn', 'fisher', got 'exact'"):
        cv.trace(net, X, y, kind="exact")
    with pytest.raises(ValueError, match=r"layer: expected an index below \d, got 99"):
        cv.per_sample_hessian_blocks(net, X, y, layer=99)
    with pytest.raises(TypeError, match="layer must be an integer"):
        cv.per_sample_hessian_blocks(net, X, y, layer="0")
    with pytest.raises(TypeError, match="out: expected an array of float64, got float32"):
        cv.per_sample_gradients(net, X, y, out=np.empty((len(X), net.n_parameters), np.float32))
    with pytest.raises(ValueError, match="out: expected shape"):
        cv.per_sample_gradients(net, X, y, out=np.empty((1, 1)))
    size = len(cv.hessian_blocks(net, X, y)[0])
    with pytest.raises(ValueError, match="out: expected a writable array in C order"):
        cv.per_sample_hessian_blocks(net, X, y, layer=0, out=np.empty((len(X), size, 2 * size))[:, :, :size])
    with pytest.raises(ValueError, match="out: the two factors"):
        cv.per_sample_hessian_blocks(net, X, y, layer=0, kronecker=True, out=np.empty((len(X), size, size)))
    with pytest.raises(ValueError, match="out: expected shape"):
        cv.input_hessian(net, X, out=np.empty((1, 1)))
    with pytest.raises(ValueError, match="out: expected a writable array without gaps"):
        cv.per_sample_gradients(net, X, y, out=np.empty((len(X), 2 * net.n_parameters))[:, ::2])
    without = fnn.Sequential(
        [fnn.Dense(2), fnn.Activation("tanh"), fnn.Dense(1)], input_size=2, loss="squared_error", backend=backend
    )
    with pytest.raises(ValueError, match=r"layer: expected a layer with parameters \(0, 2\), got 1"):
        cv.per_sample_hessian_blocks(without, np.ones((1, 2)), [0.0], layer=1)


def test_linearize_takes_either_targets_or_a_cotangent(backend):
    made: Case = case(0, backend)
    X = np.ascontiguousarray(made.X)
    with pytest.raises(TypeError, match="either y or cotangent"):
        made.net.plan.linearize(made.net.theta, X, statistics=made.net.state)
    lin = made.net.plan.linearize(made.net.theta, X, made.y, statistics=made.net.state)
    with pytest.raises(ValueError, match="kind must be one of 'hessian', 'ggn', 'fisher', got 'x'"):
        lin.product(made.net.theta, "x")
    whole = case(WHOLE[0], backend)
    net = whole.net
    lin = net.plan.linearize(
        net.theta, whole.X, net.check_data(whole.X, whole.y, None)[1], statistics=net.state, training=True
    )
    with pytest.raises(ValueError, match="'fisher' needs rows that do not depend on each other"):
        lin.product(net.theta, "fisher")
    with pytest.raises(ValueError, match="input_product needs rows that do not depend on each other"):
        lin.input_product(np.ones(net.input_size))


@every_case
def test_compiled_linearizations_are_their_twins(number, dtype, compiled):
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    ours, twin = (case(number, backend, dtype) for backend in ("compiled", "reference"))
    lins, products = [], []
    V = np.random.default_rng(0).standard_normal((2, ours.net.n_parameters)).astype(dtype)
    for made in (ours, twin):
        X, y, w = made.net.check_data(made.X, made.y, made.options["sample_weight"])
        plan, theta, state = made.net.plan, made.net.theta, made.net.state
        training = made.options["training"]
        lin = plan.linearize(theta, X, y, w, statistics=state, training=training)
        used = plan.linearize(theta, X[:2], y[:2], statistics=state)
        lin = plan.linearize(theta, X, y, w, statistics=state, training=training, into=used)
        lins.append(lin)
        kinds = ["hessian", "ggn", *([] if made.whole else ["fisher"])]
        products.append([lin.product(V, kind) for kind in kinds] + [lin.product(V[0]), lin.input_gradient()])
        if not made.whole:
            cotangent = np.cos(np.arange(len(X) * made.net.n_outputs)).reshape(len(X), -1).astype(dtype)
            moved = plan.linearize(theta, X, cotangent=cotangent, statistics=state, training=training)
            direction = np.sin(np.arange(X.shape[1])).astype(dtype)
            products[-1] += [moved.input_gradient(), moved.input_product(direction), moved.product(V, "hessian")]
    a, b = lins
    assert a.n_rows == b.n_rows
    assert a.weight_sum == pytest.approx(b.weight_sum, rel=1e-12)
    assert a.loss == pytest.approx(b.loss, rel=tolerance)
    pairs = [(a.outputs, b.outputs), (a.curvature, b.curvature), *zip(*products, strict=True)]
    for i, op in enumerate(ours.net.ops):
        pairs.append((a.inputs(i), b.inputs(i)))
        if op.kind != "dropout":  # the engine's shares memory with the op below, and no one asks for it
            pairs.append((a.delta(i), b.delta(i)))
        if op.kind in ("dense", "activation"):
            assert (a.slope(i) is None) == (b.slope(i) is None)
            assert (a.bend(i) is None) == (b.bend(i) is None)
            pairs += [(x, y) for x, y in ((a.slope(i), b.slope(i)), (a.bend(i), b.bend(i))) if x is not None]
        if op.kind in ("batch_norm", "layer_norm"):
            pairs += [(a.normalised(i), b.normalised(i)), (a.inv_std(i), b.inv_std(i))]
    for x, y in pairs:
        assert x.dtype == y.dtype == dtype
        assert np.abs(x - y).max() <= tolerance * max(np.abs(y).max(), 1.0)
