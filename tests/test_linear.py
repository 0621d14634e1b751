"""Linear models: least squares in closed form, and the Hessian of logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import fastnn as fnn


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("intercept", [True, False])
def test_is_lstsq(rng, outputs: int | None, weighted: bool, l2: float, intercept: bool) -> None:
    X, y = rng.normal(size=(40, 5)) + 3.0, rng.normal(size=40 if outputs is None else (40, outputs))
    w = rng.random(40) if weighted else None
    fit = fnn.linear.least_squares(X, y, w, l2, intercept=intercept)
    root = np.ones(40) if w is None else np.sqrt(w / w.mean())
    A = np.concatenate([X, np.ones((40, 1))], axis=1) if intercept else X
    A, B = A * root[:, None], y.reshape(40, -1) * root[:, None]
    penalty = np.sqrt(l2 * 40) * np.eye(5, A.shape[1])
    A, B = np.concatenate([A, penalty]), np.concatenate([B, np.zeros((5, B.shape[1]))])
    expected = np.linalg.lstsq(A, B)[0]
    np.testing.assert_allclose(fit.weight, expected[:5], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fit.bias, expected[5] if intercept else 0.0, rtol=1e-10, atol=1e-12)
    assert fit.rank == 5
    # and the network's own minimum
    net = fnn.Sequential(
        [fnn.Dense(expected.shape[1], bias=intercept)], input_size=5, loss="squared_error", dtype="float64", seed=0
    )
    net.parameters["0.weight"] = fit.weight
    if intercept:
        net.parameters["0.bias"] = fit.bias
    assert np.abs(net.gradient(X, y, sample_weight=w, l2=l2)).max() < 1e-12


def test_rank_deficient(rng) -> None:
    X = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6))
    y = rng.normal(size=30)
    fit = fnn.linear.least_squares(X, y, intercept=False)
    assert fit.rank == 2
    np.testing.assert_allclose(fit.weight[:, 0], np.linalg.lstsq(X, y)[0], rtol=1e-9, atol=1e-12)
    wide = fnn.linear.least_squares(rng.normal(size=(3, 10)), rng.normal(size=3))
    assert wide.rank == 2  # of centred rows
    constant = fnn.linear.least_squares(np.ones((5, 2)), np.arange(5.0))
    assert (constant.rank, constant.bias[0]) == (0, 2.0)
    sparse = fnn.linear.least_squares(scipy.sparse.csr_array(X), y, intercept=False)
    np.testing.assert_allclose(sparse.weight, fit.weight, rtol=1e-12)


def test_bad_arguments() -> None:
    X, y = np.ones((3, 2)), np.ones(3)
    for arguments, message in (
        ((X, np.ones(2)), r"y: expected shape \(3,\) or \(3, K\), got \(2,\)"),
        ((X, [1.0, np.nan, 0.0]), "y: expected finite values"),
        ((np.ones(3), y), r"X: expected shape"),
        ((np.ones((0, 2)), np.ones(0)), "X: expected at least one row"),
        ((X, y, [-1.0, 0.0, 1.0]), "sample_weight: expected finite values >= 0"),
        ((X, y, None, -1.0), "l2 must be a finite number >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.linear.least_squares(*arguments)
    with pytest.raises(TypeError, match="intercept must be True or False"):
        fnn.linear.least_squares(X, y, intercept=1)


def test_hessian_of_logistic_regression(rng) -> None:
    """Newton's matrix of logistic regression: ∇²L = Xᵀ diag(h (1 − h)) X / m."""
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    net = fnn.Sequential([fnn.Dense(1, bias=False)], input_size=4, loss="binary_cross_entropy", dtype="float64", seed=0)
    h = 1.0 / (1.0 + np.exp(-X @ net.theta))
    expected = X.T @ (X * (h * (1.0 - h))[:, None]) / 60
    np.testing.assert_allclose(fnn.curvature.hessian(net, X, y), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(fnn.Objective(net, X, y).hessian(net.theta), expected, rtol=1e-12, atol=1e-15)


def test_hessian_of_softmax_regression(rng) -> None:
    """The same for classes: blocks Xᵀ diag(p_j (δ_jk − p_k)) X / m, in the layout of theta."""
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    net = fnn.Sequential([fnn.Dense(3, bias=False)], input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    P = net.predict_proba(X)
    expected = np.einsum("na,nb,nj,njk->ajbk", X, X, P, np.eye(3) - P[:, None, :]) / 60
    np.testing.assert_allclose(fnn.curvature.hessian(net, X, y), expected.reshape(12, 12), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_logistic_regression_by_newton_and_lbfgs(rng, loss: str) -> None:
    X = rng.normal(size=(200, 3))
    y = (X @ [1.0, -2.0, 0.5] + rng.normal(size=200) > 0).astype(np.int64)
    units = 1 if loss == "binary_cross_entropy" else 2
    values = []
    for solver in (fnn.Newton(20, 1e-9), fnn.Newton(20, 1e-9, updates=1), fnn.LBFGS(200, 1e-9)):
        net = fnn.Sequential([fnn.Dense(units, init="zeros")], input_size=3, loss=loss, dtype="float64", seed=0)
        history = net.fit(X, y, optimizer=solver, l2=1e-3)
        assert history.result.converged
        values.append(history["loss"][-1])
        if solver == fnn.Newton(20, 1e-9, updates=1):
            assert len(history) <= 10  # quadratic convergence
    np.testing.assert_allclose(values, values[0], rtol=1e-13)
