"""Curvature against two independent oracles: forward-mode jets (jets.py), and results of JAX kept in a file."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from curvature_cases import (
    N_CASES,
    NUMBERS,
    SECOND_ORDER,
    TOLERANCE,
    WHOLE,
    Case,
    case,
    error,
    every_separate_case,
    oracle,
    places,
)
from jets import Oracle, inputs, losses
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg, eigsh

import fastnn as fnn
from fastnn import curvature as cv

pytestmark = pytest.mark.every_simd


CHAINS = [number for number in NUMBERS if case(number).chain]


with np.load(Path(__file__).with_name("golden") / "curvature.npz") as _file:
    GOLDEN = dict(_file)  # made by make_curvature.py beside it


every_case = pytest.mark.parametrize("number", NUMBERS)


every_chain = pytest.mark.parametrize("number", CHAINS)


def full(upper: np.ndarray) -> np.ndarray:
    """A symmetric matrix from its upper triangle."""
    n = int((np.sqrt(8 * len(upper) + 1) - 1) / 2)
    H = np.zeros((n, n))
    H[np.triu_indices(n)] = upper
    return H + np.triu(H, 1).T


# Against the oracles.


def test_the_cases_cover_what_there_is():
    cases = [case(number) for number in NUMBERS]
    kinds = {type(layer).__name__ for made in cases for layer in made.net.layers}
    assert kinds == {"Dense", "Activation", "BatchNorm", "LayerNorm", "Dropout", "Standardize", "Scale"}
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
    if number < N_CASES:
        assert error(H, full(GOLDEN[f"{number}.hessian"])) < TOLERANCE
    np.testing.assert_array_equal(H, H.T)


@every_case
def test_ggn(number, backend):
    made = case(number, backend)
    G = cv.ggn(made.net, made.X, made.y, **made.options)
    assert error(G, oracle(number).ggn) < TOLERANCE
    if number < N_CASES:
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
    if number < N_CASES:
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
    if number < N_CASES:
        assert error(H, GOLDEN[f"{number}.input_hessian"].reshape(H.shape)) < TOLERANCE
    np.testing.assert_array_equal(H, H.swapaxes(-1, -2))
    out = np.full_like(H, np.nan)
    assert cv.input_hessian(made.net, made.X, out=out) is out
    np.testing.assert_array_equal(out, H)


@every_separate_case
def test_hessians_of_losses_with_respect_to_inputs(number, backend):
    made = case(number, backend)
    expected = losses(made.net, inputs(made.net, made.X), np.asarray(made.y)).h
    H = fnn.input_hessian(made.net, made.X, made.y)
    assert H.shape == (len(made.X), made.net.input_size, made.net.input_size)
    assert error(H, expected) < TOLERANCE
    np.testing.assert_array_equal(H, H.swapaxes(-1, -2))
    out = np.full_like(H, np.nan)
    assert cv.input_hessian(made.net, made.X, made.y, out=out) is out
    np.testing.assert_array_equal(out, H)


def test_hessians_of_losses_with_respect_to_inputs_by_complex_steps_and_differences(backend, complex_step_gradient):
    """With batch norm in inference mode, X scaled and standardised by the network, in chunks of rows."""
    rng = np.random.default_rng(4)
    layers = [fnn.Standardize(), fnn.Dense(4, "tanh"), fnn.BatchNorm(), fnn.Dense(3)]
    net = fnn.Sequential(
        layers, input_size=3, loss="cross_entropy", input_scale=0.25, dtype="float64", seed=2, backend=backend
    )
    X, y = 5.0 * rng.normal(size=(40, 3)) + 2.0, rng.integers(0, 3, 40)
    net.fit(X, y, epochs=2)
    assert not np.allclose(net.state, 0.0)
    H = fnn.input_hessian(net, X, y)

    def loss(x, i):
        return net.loss(x[None], y[i : i + 1])

    step = 1e-3
    for i in (0, 17, 39):
        for a in range(3):
            for b in range(3):
                ea, eb = step * np.eye(3)[a], step * np.eye(3)[b]
                by_differences = (
                    loss(X[i] + ea + eb, i)
                    - loss(X[i] + ea - eb, i)
                    - loss(X[i] - ea + eb, i)
                    + loss(X[i] - ea - eb, i)
                ) / (4.0 * step**2)
                assert abs(by_differences - H[i, a, b]) < 1e-6
    weights = [rng.normal(size=(3, 5)), rng.normal(size=(5, 2))]
    net = fnn.Sequential(
        [fnn.Dense(5, "tanh", bias=False), fnn.Dense(2, bias=False)],
        input_size=3,
        loss="cross_entropy",
        dtype="float64",
        seed=0,
        backend=backend,
    )
    net.theta[...] = np.concatenate([W.ravel() for W in weights])

    def slope(x, target, d):  # ∂ℓ/∂x_d in formulas, for a complex x
        a = np.tanh(x @ weights[0])
        z = a @ weights[1]
        p = np.exp(z) / np.exp(z).sum()
        return ((((p - np.eye(2)[target]) @ weights[1].T) * (1.0 - a**2)) @ weights[0].T)[d]

    H = fnn.input_hessian(net, X / 5.0, y % 2)
    for i in range(5):
        rows = [complex_step_gradient(lambda x, i=i, d=d: slope(x, y[i] % 2, d), X[i] / 5.0) for d in range(3)]
        np.testing.assert_allclose(H[i], rows, rtol=1e-12, atol=1e-14)


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
        double = operator + operator  # SciPy's, which has ours
        for one, expected in ((operator, product), (double, 2 * product)):
            for copied in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
                np.testing.assert_array_equal(copied @ V, expected, err_msg=name)
        earlier = {key: value for key, value in operator.__dict__.items() if key != "_xp"}  # SciPy has it since 1.18
        assert operator.__getstate__().keys() == earlier.keys(), name
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


def test_linearize_takes_either_targets_or_a_cotangent(backend):
    made: Case = case(0, backend)
    X = np.ascontiguousarray(made.X)
    with pytest.raises(TypeError, match="either y or cotangent"):
        made.net.plan.linearize(made.net.theta, X, buffers=made.net.state)
    lin = made.net.plan.linearize(made.net.theta, X, made.y, buffers=made.net.state)
    with pytest.raises(ValueError, match="kind must be one of 'hessian', 'ggn', 'fisher', got 'x'"):
        lin.product(made.net.theta, "x")
    whole = case(WHOLE[0], backend)
    net = whole.net
    lin = net.plan.linearize(
        net.theta, whole.X, net.check_data(whole.X, whole.y, None)[1], buffers=net.state, training=True
    )
    with pytest.raises(ValueError, match="'fisher' needs rows that do not depend on each other"):
        lin.product(net.theta, "fisher")
    with pytest.raises(ValueError, match="input_product needs rows that do not depend on each other"):
        lin.input_product(np.ones(net.input_size))


@every_case
def test_compiled_linearizations_are_those_of_the_reference(number, dtype, compiled):
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    ours, theirs = (case(number, backend, dtype) for backend in ("compiled", "reference"))
    lins, products = [], []
    V = np.random.default_rng(0).standard_normal((2, ours.net.n_parameters)).astype(dtype)
    for made in (ours, theirs):
        X, y, w = made.net.check_data(made.X, made.y, made.options["sample_weight"])
        plan, theta, state = made.net.plan, made.net.theta, made.net.state
        training = made.options["training"]
        lin = plan.linearize(theta, X, y, w, buffers=state, training=training)
        used = plan.linearize(theta, X[:2], y[:2], buffers=state)
        lin = plan.linearize(theta, X, y, w, buffers=state, training=training, into=used)
        lins.append(lin)
        kinds = ["hessian", "ggn", *([] if made.whole else ["fisher"])]
        products.append([lin.product(V, kind) for kind in kinds] + [lin.product(V[0]), lin.input_gradient()])
        if not made.whole:
            cotangent = np.cos(np.arange(len(X) * made.net.n_outputs)).reshape(len(X), -1).astype(dtype)
            moved = plan.linearize(theta, X, cotangent=cotangent, buffers=state, training=training)
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
