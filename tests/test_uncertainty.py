"""Standard errors against closed forms, influence against refits without a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

import fastnn as fnn
from fastnn.curvature import hessian, influence, output_jacobian, per_sample_gradients, standard_errors


def fitted(net: Any, X: Any, y: Any, w: Any = None, l2: float = 0.0) -> Any:
    """The network at its minimum, to rounding: L-BFGS, then Newton's method."""

    def objective(theta: np.ndarray) -> Any:
        net.theta[...] = theta
        return net.loss_and_gradient(X, y, sample_weight=w, l2=l2)

    theta = minimize(objective, net.theta.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    for _ in range(4):
        gradient = objective(theta)[1]
        theta = theta - np.linalg.pinv(hessian(net, X, y, sample_weight=w, l2=l2), rcond=1e-12) @ gradient
    assert np.abs(objective(theta)[1]).max() < 1e-12
    return net


def linear(outputs: int, features: int, loss: str, **options: Any) -> Any:
    layer = fnn.Dense(outputs, init="zeros")
    return fnn.Sequential([layer], input_size=features, loss=loss, **{"dtype": "float64", "seed": 0, **options})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_linear_regression(outputs: int, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((50, 3)), rng.integers(1, 4, 50).astype(float) if weighted else None
    y = rng.standard_normal((50, outputs))
    net = fitted(linear(outputs, 3, "squared_error"), X, y, w)
    rows = np.arange(50) if w is None else np.repeat(np.arange(50), w.astype(int))
    A, B = np.column_stack([X, np.ones(50)])[rows], y[rows]
    coef = np.linalg.lstsq(A, B, rcond=None)[0]
    residuals = B - A @ coef
    inverse = np.linalg.inv(A.T @ A)
    pooled = standard_errors(net, X, y, sample_weight=w, noise="pooled")
    found = standard_errors(net, X, y, sample_weight=w)
    assert set(found) == {"0.weight", "0.bias"}
    assert found["0.weight"].shape == (3, outputs)
    for k in range(outputs):
        together = np.append(found["0.weight"][:, k], found["0.bias"][k])
        variance = (residuals[:, k] ** 2).sum() / (len(A) - 4)
        np.testing.assert_allclose(together, np.sqrt(np.diag(inverse) * variance), rtol=1e-9)
        variance = (residuals**2).sum() / ((len(A) - 4) * outputs)
        together = np.append(pooled["0.weight"][:, k], pooled["0.bias"][k])
        np.testing.assert_allclose(together, np.sqrt(np.diag(inverse) * variance), rtol=1e-9)
    robust = standard_errors(net, X, y, sample_weight=w, robust=True)
    for k in range(outputs):  # White's HC0
        sandwich = inverse @ (A.T * residuals[:, k] ** 2) @ A @ inverse
        together = np.append(robust["0.weight"][:, k], robust["0.bias"][k])
        np.testing.assert_allclose(together, np.sqrt(np.diag(sandwich)), rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logistic_regression(dtype: str) -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 2)).astype(np.float32)
    y = rng.random(200) < expit(X @ [1.0, -1.0] + 0.5)
    exact = fitted(linear(1, 2, "binary_cross_entropy"), X, y)
    net = linear(1, 2, "binary_cross_entropy", dtype=dtype)
    net.theta[...] = exact.theta
    A = np.column_stack([X, np.ones(200)]).astype(np.float64)
    p = expit(A @ net.theta.astype(np.float64))
    information = (A.T * (p * (1 - p))) @ A
    found = standard_errors(net, X, y)
    together = np.append(found["0.weight"], found["0.bias"])
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, np.sqrt(np.diag(np.linalg.inv(information))), rtol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("robust", [False, True])
def test_softmax_regression(robust: bool, bias: bool) -> None:
    """The errors of the sum-to-zero parameters, from those with a reference class, where all is determined."""
    rng = np.random.default_rng(8)
    X, K = rng.standard_normal((300, 2)), 3
    y = (X @ rng.standard_normal((2, K)) + rng.gumbel(size=(300, K))).argmax(axis=1)
    layer = fnn.Dense(K, init="zeros", bias=bias)
    net = fnn.Sequential([layer], input_size=2, loss="cross_entropy", dtype="float64", seed=0)
    net = fitted(net, X, y)
    A = np.column_stack([X, np.ones(300)]) if bias else X
    p, n = net.predict_proba(X), A.shape[1]
    H = np.einsum("nk,kl->nkl", p, np.eye(K)) - p[:, :, None] * p[:, None, :]
    information = np.einsum("ni,nkl,nj->ikjl", A, H[:, 1:, 1:], A).reshape(n * (K - 1), -1)
    covariance = np.linalg.inv(information)
    if robust:
        g = (A[:, :, None] * (p - np.eye(K)[y])[:, None, 1:]).reshape(300, -1)
        covariance = covariance @ g.T @ g @ covariance
    centre = (np.eye(K) - 1.0 / K)[:, 1:]  # from logits with a 0 for class 0 to those that sum to 0
    T = np.kron(np.eye(n), centre)
    expected = np.sqrt(np.diag(T @ covariance @ T.T)).reshape(n, K)
    found = standard_errors(net, X, y, robust=robust)
    np.testing.assert_allclose(np.vstack(list(found.values())), expected, rtol=1e-8)
    # whatever is common to all logits
    if bias:
        net.parameters["0.bias"][...] += 7.0
        shifted = standard_errors(net, X, y, robust=robust)
        np.testing.assert_allclose(np.vstack(list(shifted.values())), expected, rtol=1e-8)


def test_softmax_with_a_hidden_layer_and_a_penalty() -> None:
    X, y = fnn.datasets.load_iris()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    net = fnn.Sequential(
        [fnn.Dense(3, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0
    )
    net = fitted(net, X, y, l2=0.02)
    found = np.concatenate([e.ravel() for e in standard_errors(net, X, y, l2=0.02).values()])
    inverse = np.linalg.pinv(len(X) * hessian(net, X, y, l2=0.02), rcond=1e-12)
    np.testing.assert_allclose(found, np.sqrt(np.diag(inverse)), rtol=1e-7)


def test_errors_cover_the_truth() -> None:
    """Over many samples, estimates of Poisson regression scatter as the standard errors say."""
    rng = np.random.default_rng(2)
    X, truth = rng.standard_normal((150, 1)), np.array([0.5, 0.7])
    estimates, said = [], []
    for _ in range(100):
        y = rng.poisson(np.exp(X @ truth[:1] + truth[1]))
        net = fitted(linear(1, 1, "poisson"), X, y)
        estimates.append(net.theta.copy())
        said.append(np.concatenate([e.ravel() for e in standard_errors(net, X, y).values()]))
    np.testing.assert_allclose(np.mean(said, axis=0), np.std(estimates, axis=0), rtol=0.2)


def test_errors_that_do_not_exist() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((30, 2)), rng.integers(0, 3, 30)
    net = linear(3, 2, "cross_entropy")
    twice = np.column_stack([X, X[:, 0]])
    with pytest.raises(ValueError, match=r"not positive definite.* determine 6 directions of 8, and not, .*'0.weight'"):
        standard_errors(linear(3, 3, "cross_entropy"), twice, y)
    start = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Dense(3)], input_size=2, loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match=r"not positive definite.* both signs; the network is not at a minimum"):
        standard_errors(start, X, y)
    with pytest.raises(ValueError, match="noise must be 'per_output' or 'pooled', got 'own'"):
        standard_errors(linear(2, 2, "squared_error"), X, X, noise="own")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="9 targets do not determine the noise of a network with 9 parameters"):
        standard_errors(linear(3, 2, "squared_error"), X[:3], rng.standard_normal((3, 3)))
    with pytest.raises(ValueError, match="'huber' is no log-likelihood"):
        standard_errors(linear(1, 2, "huber"), X, X[:, 0])
    with pytest.raises(MemoryError, match="bytes"):
        standard_errors(net, X, y, max_bytes=8)
    with pytest.raises(TypeError, match="net must be a Sequential"):
        standard_errors(None, X, y)


@pytest.mark.parametrize("weighted", [False, True])
def test_influence_against_refits(weighted: bool) -> None:
    """Softmax regression: the change from leaving a row out, predicted to first order in 1 / N."""
    rng = np.random.default_rng(4)
    N = 120
    X = rng.standard_normal((N, 2))
    y = (X @ rng.standard_normal((2, 3)) + rng.gumbel(size=(N, 3))).argmax(axis=1)
    w = rng.uniform(0.5, 2.0, N) if weighted else np.ones(N)
    alpha = 2.0
    net = fitted(linear(3, 2, "cross_entropy"), X, y, w, l2=alpha / w.sum())
    test_X, test_y = rng.standard_normal((4, 2)), rng.integers(0, 3, 4)
    options: dict[str, Any] = {"sample_weight": w, "l2": alpha / w.sum()}
    on_outputs = influence(net, X, y, test_X, **options)
    on_loss = influence(net, X, y, test_X, test_y, **options)
    assert on_outputs.shape == (4, 3, N)
    assert on_loss.shape == (4, N)

    def loss(network: Any) -> np.ndarray:
        return np.array([network.loss(test_X[i : i + 1], test_y[i : i + 1]) for i in range(4)])

    # θ is determined but for a common shift of the biases, which the fit does not move
    changes, losses, predicted, predicted_loss = [], [], [], []
    for i in range(0, N, 8):
        kept = np.arange(N) != i
        other = fitted(net.copy(), X[kept], y[kept], w[kept], l2=alpha / w[kept].sum())
        changes.append(other.decision_function(test_X) - net.decision_function(test_X))
        losses.append(loss(other) - loss(net))
        predicted.append(-w[i] / w.sum() * on_outputs[:, :, i])
        predicted_loss.append(-w[i] / w.sum() * on_loss[:, i])
    for real, said in ((changes, predicted), (losses, predicted_loss)):
        a, b = np.ravel(real), np.ravel(said)
        assert np.corrcoef(a, b)[0, 1] > 0.998
        assert np.linalg.norm(a - b) < 0.08 * np.linalg.norm(a)


def test_influence_by_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.curvature.risk.WORKSPACE", 4096)
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    net = fnn.Sequential(
        [fnn.Dense(4, "tanh"), fnn.Dense(2)], input_size=3, loss="cross_entropy", dtype="float64", seed=0
    )
    net.theta[...] *= 3.0  # far from a minimum
    H = hessian(net, X, y, l2=1e-3)
    values = np.linalg.eigvalsh(H)
    assert values[0] < -1e-3
    G, J = per_sample_gradients(net, X, y), output_jacobian(net, X[:3])
    for damping, tau in ((None, -values[0] + 1e-3 * np.abs(values).max()), (2.0, 2.0)):
        expected = -J @ np.linalg.inv(H + tau * np.eye(len(H))) @ G.T
        found = influence(net, X, y, X[:3], l2=1e-3, damping=damping)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    with pytest.raises(ValueError, match=r"damping: H \+ 0 I has a negative eigenvalue.*expected at least"):
        influence(net, X, y, X, damping=0.0)
    with pytest.raises(ValueError, match="damping"):
        influence(net, X, y, X, damping=-1.0)
    with pytest.raises(MemoryError, match="bytes"):
        influence(net, X, y, X, max_bytes=8)


@pytest.mark.parametrize("robust", [False, True])
def test_standard_errors_of_sparse_rows_are_those_of_dense_ones(robust):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * (rng.random((60, 3)) < 0.5)
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", dtype="float64", seed=0)
    y = X @ [1.0, -2.0, 0.5] + rng.normal(size=60)
    net.fit(X, y, optimizer=fnn.Newton())
    dense, other = (standard_errors(net, rows, y, robust=robust) for rows in (X, sparse.csr_array(X)))
    for name, values in dense.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-10)
