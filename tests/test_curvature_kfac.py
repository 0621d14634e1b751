"""Kronecker factors against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from curvature_cases import TOLERANCE, case, error, every_separate_case, places
from jets import Oracle

import fastnn as fnn
from fastnn import curvature as cv
from fastnn.curvature import kfac
from fastnn.curvature.risk import EmpiricalRisk

pytestmark = pytest.mark.every_simd

#  K-FAC by its definition.

HEADS = {
    "one layer": lambda K: [fnn.Dense(K)],
    "two": lambda K: [fnn.Dense(6, "tanh"), fnn.Dense(K)],
    "three": lambda K: [fnn.Dense(5, "relu"), fnn.Dense(4), fnn.Activation("gelu"), fnn.Dropout(0.2), fnn.Dense(K)],
    "normed": lambda K: [fnn.Dense(6), fnn.LayerNorm(), fnn.Activation("tanh"), fnn.Dense(K)],
    "bent": lambda K: [fnn.Dense(5, "relu"), fnn.Dense(K, "softplus"), fnn.Activation("tanh")],
    "norm last": lambda K: [fnn.Dense(6, "tanh"), fnn.Dense(K), fnn.LayerNorm(), fnn.Activation("tanh")],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("recursion", [True, False])
@pytest.mark.parametrize(
    ("head", "loss"),
    [(head, "squared_error") for head in HEADS]
    + [(head, loss) for head in list(HEADS)[:4] for loss in ("cross_entropy", "poisson")],
)
def test_formulas_and_backward_passes_give_the_same_factors(head, loss, recursion, dtype, backend, monkeypatch):
    """G of rows of which the network is almost sure, too, where p (1 − p) and E xxᵀ − E x E xᵀ cancel."""
    K = 5
    net = fnn.Sequential(HEADS[head](K), input_size=3, loss=loss, dtype=dtype, seed=0, backend=backend)
    net.theta[...] *= 6.0 if loss == "cross_entropy" else 1.0
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((30, 3)), rng.uniform(0.1, 1.0, 30)
    y = rng.integers(0, K, 30) if loss == "cross_entropy" else rng.uniform(0.0, 1.0, (30, K))
    if loss == "cross_entropy":
        sure = np.argsort(net.predict_proba(X).max(axis=1))[-10:]
        X, y, w = X[sure], y[sure], w[sure]
    chain = "norm" not in head
    monkeypatch.setattr(kfac, "_recursion_is_cheaper", lambda *_: recursion and chain)
    found = cv.kfac_factors(net, X, y, sample_weight=w)
    monkeypatch.setattr(kfac, "_recursion_is_cheaper", lambda *_: False)
    monkeypatch.setattr(kfac, "_ends_elementwise", lambda *_: False)
    by_passes = cv.kfac_factors(net, X, y, sample_weight=w)
    for i, (_, G) in found.items():
        assert error(G, by_passes[i][1]) < (1e-11 if dtype == "float64" else 3e-6)


def test_more_outputs_need_no_more_passes(monkeypatch):
    passes = []
    linearize = EmpiricalRisk.linearize
    monkeypatch.setattr(EmpiricalRisk, "linearize", lambda *a, **k: passes.append(1) or linearize(*a, **k))
    X, y = np.random.default_rng(0).standard_normal((40, 8)), np.arange(40) % 3
    for K in (100, 400):
        net = fnn.Sequential([fnn.Dense(12, "tanh"), fnn.Dense(K)], input_size=8, loss="cross_entropy", seed=0)
        cv.kfac_factors(net, X, y)
        assert len(passes) == 1
        passes.clear()


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
