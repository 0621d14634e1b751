"""Laplace posteriors against Bayesian linear regression, dense definitions, quadrature and finite differences."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from scipy.stats import multivariate_normal

import fastnn as fnn
from fastnn.curvature import Laplace, ggn, kfac_factors, output_jacobian
from fastnn.curvature.predictive import class_probabilities, drawn_probabilities, predictive

STRUCTURES = ("full", "block", "kfac", "last_layer")
LOSSES = ("squared_error", "cross_entropy", "binary_cross_entropy", "poisson")


def small(loss: str, backend: str = "compiled", dtype: str = "float64", norm: bool = False, seed: int = 0) -> Any:
    """A 3-4-3-2 network, data and weights."""
    rng = np.random.default_rng([11, seed])
    layers: list[Any] = [fnn.Dense(4, "tanh"), fnn.Dense(3, "sigmoid", bias=False), fnn.Dense(2)]
    if norm:
        layers.insert(1, fnn.BatchNorm())
    net = fnn.Sequential(layers, input_size=3, loss=loss, dtype=dtype, seed=seed, backend=backend)
    net.theta[...] += (0.3 * rng.standard_normal(net.n_parameters)).astype(dtype)
    X = rng.standard_normal((12, 3))
    targets = {
        "squared_error": rng.standard_normal((12, 2)),
        "cross_entropy": rng.integers(0, 2, 12),
        "binary_cross_entropy": rng.integers(0, 2, (12, 2)),
        "poisson": rng.poisson(2.0, (12, 2)),
    }
    return net, X, targets[loss], rng.integers(0, 4, 12).astype(float)


def defined(net: Any, X: Any, y: Any, w: np.ndarray, structure: str, variance: np.ndarray | None = None) -> np.ndarray:
    """G as the docstring defines it, a dense matrix over all parameters, or the last layer's.

    With noise variances it is G / σ²: that of the network whose outputs are divided by σ_k, as a function of θ.
    """
    if variance is not None:
        scaled, by = net.copy(), np.ones(net.n_parameters)
        for name, start, shape in net.layout[-2:]:
            scaled.parameters[name][...] /= np.sqrt(variance)
            by[start : start + int(np.prod(shape))] = np.broadcast_to(1.0 / np.sqrt(variance), shape).ravel()
        found = defined(scaled, X, y, w, structure)
        by = by[len(by) - len(found) :]
        return by[:, None] * found * by
    exact = net.copy()
    if structure == "full":
        return w.sum() * ggn(exact, X, y, sample_weight=w)
    G = np.zeros((net.n_parameters, net.n_parameters))
    for i in sorted({int(name.split(".")[0]) for name in net.parameters}):
        first = net.ops[i].weight
        size = sum(value.size for name, value in net.parameters.items() if name.startswith(f"{i}."))
        place = slice(first, first + size)
        if structure == "kfac":
            A, B = kfac_factors(exact, X, y, sample_weight=w)[i]
            G[place, place] = w.sum() * np.kron(A, B)
        else:
            G[place, place] = w.sum() * ggn(exact, X, y, sample_weight=w)[place, place]
    return G if structure != "last_layer" else G[place, place]


def log_likelihood(net: Any, X: Any, y: np.ndarray, w: np.ndarray, variance: float | None) -> float:
    Z = net.decision_function(X).reshape(len(X), -1)
    if net.loss_name == "squared_error":
        terms = -0.5 * (y - Z) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    elif net.loss_name == "poisson":
        factorials = np.array([[np.log(np.arange(1, int(v) + 1)).sum() for v in row] for row in y])
        terms = y * Z - np.exp(Z) - factorials
    elif net.loss_name == "binary_cross_entropy":
        terms = np.log(np.where(y > 0, expit(Z), expit(-Z)))
    else:
        terms = log_softmax(Z, axis=1)[np.arange(len(y)), y][:, None]
    return float(w @ terms.sum(axis=1))


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("loss", LOSSES)
def test_dense_definitions(loss: str, structure: str, backend: str) -> None:
    net, X, y, w = small(loss, backend)
    posterior = Laplace(net, X, y, structure=structure, prior_precision=0.7, sample_weight=w)
    variance = posterior.noise_variance
    precision = defined(net, X, y, w, structure, variance)
    P = len(precision)
    precision += 0.7 * np.eye(P)
    theta = net.theta[posterior.place]
    assert len(theta) == P
    S = np.linalg.inv(precision)
    np.testing.assert_allclose(posterior.covariance(), S, rtol=0, atol=1e-12)

    evidence = log_likelihood(net, X, y, w, variance) - 0.35 * theta @ theta + 0.5 * P * np.log(0.7)
    evidence -= 0.5 * np.linalg.slogdet(precision)[1]
    assert posterior.log_marginal_likelihood() == pytest.approx(evidence, rel=1e-12)

    new = np.random.default_rng(1).standard_normal((5, 3))
    result = posterior.predictive(new)
    J = output_jacobian(net, new)[:, :, posterior.place]
    C = np.einsum("nkp,pq,nlq->nkl", J, S, J)
    np.testing.assert_allclose(result.covariance, C, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.outputs, net.decision_function(new), rtol=1e-14)


def test_norm_layers_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.curvature.risk.WORKSPACE", 4096)
    net, X, y, w = small("cross_entropy", norm=True)
    net.state[:4] += 0.3
    for structure in ("full", "block", "last_layer"):
        posterior = Laplace(net, X, y, structure=structure, prior_precision=0.5, sample_weight=w)
        G = defined(net, X, y, w, structure)
        S = np.linalg.inv(G + 0.5 * np.eye(len(G)))
        np.testing.assert_allclose(posterior.covariance(), S, rtol=0, atol=1e-11)
        J = output_jacobian(net, X)[:, :, posterior.place]
        C = np.einsum("nkp,pq,nlq->nkl", J, S, J)
        np.testing.assert_allclose(posterior.predictive(X).covariance, C, rtol=1e-9, atol=1e-13)
    with pytest.raises(ValueError, match="'kfac' is for networks without norm layers"):
        Laplace(net, X, y, structure="kfac")


def test_linear_regression_is_exact() -> None:
    """One layer: the posterior, the evidence and their best hyper-parameters are BayesianRidge's, found by its way."""
    BayesianRidge = pytest.importorskip("sklearn.linear_model").BayesianRidge
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5)) * [1, 2, 0.5, 1, 3]
    y = X @ [1.0, 0.0, 2.0, -1.0, 0.1] + 0.7 * rng.standard_normal(40)
    options = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(fit_intercept=False, compute_score=True, tol=1e-15, max_iter=5000, **options).fit(X, y)
    net = fnn.Sequential([fnn.Dense(1, bias=False)], input_size=5, loss="squared_error", dtype="float64", seed=0)
    net.theta[...] = ridge.coef_
    posterior = Laplace(net, X, y)
    assert posterior.noise_variance == pytest.approx(1.0 / ridge.alpha_, rel=1e-10)
    assert posterior.prior_precision == pytest.approx(ridge.lambda_, rel=1e-9)
    assert posterior.log_marginal_likelihood() == pytest.approx(ridge.scores_[-1], rel=1e-12)
    np.testing.assert_allclose(posterior.covariance(), ridge.sigma_, rtol=1e-8, atol=1e-14)
    std = ridge.predict(X, return_std=True)[1]
    np.testing.assert_allclose(posterior.predictive(X).std[:, 0], std, rtol=1e-10)
    # and the evidence is the density of y itself, at the mode of any hyper-parameters
    delta, variance = 0.6, 0.3
    net.theta[...] = np.linalg.solve(X.T @ X + delta * variance * np.eye(5), X.T @ y)
    density = multivariate_normal(np.zeros(40), X @ X.T / delta + variance * np.eye(40)).logpdf(y)
    posterior = Laplace(net, X, y, prior_precision=delta, noise_variance=variance)
    assert posterior.log_marginal_likelihood() == pytest.approx(density, rel=1e-12)


def test_logistic_regression_by_hand() -> None:
    """Σ⁻¹ = Xᵀ diag(p (1 − p)) X + δ I, and the evidence near its integral."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 2))
    y = (rng.random(60) < expit(X @ [1.0, -0.5])).astype(int)
    net = fnn.Sequential([fnn.Dense(1, bias=False)], input_size=2, loss="binary_cross_entropy", dtype="float64", seed=0)
    theta = np.zeros(2)
    for _ in range(30):  # Newton's method, with δ = 2
        p = expit(X @ theta)
        H = (X * (p * (1 - p))[:, None]).T @ X + 2.0 * np.eye(2)
        theta -= np.linalg.solve(H, X.T @ (p - y) + 2.0 * theta)
    net.theta[...] = theta
    posterior = Laplace(net, X, y, prior_precision=2.0)
    np.testing.assert_allclose(posterior.covariance(), np.linalg.inv(H), rtol=1e-10)
    grid = np.linspace(-3, 3, 241)
    T = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2) + theta
    Z = T @ X.T
    joint = (y * Z - np.logaddexp(0, Z)).sum(axis=1) - (T**2).sum(axis=1) + np.log(2.0 / (2 * np.pi))
    integral = np.log(np.exp(joint - joint.max()).sum()) + joint.max() + 2 * np.log(grid[1] - grid[0])
    assert posterior.log_marginal_likelihood() == pytest.approx(integral, abs=0.05)
    new = rng.standard_normal((7, 2)) * 3
    weights = np.exp(joint - joint.max())
    exact = expit(new @ T.T) @ weights / weights.sum()
    result = posterior.predictive(new)
    assert np.abs(result.mean[:, 0] - exact).max() < 0.02
    np.testing.assert_allclose(result.std, np.sqrt(result.mean * (1 - result.mean)))


def test_predictive_formulas() -> None:
    rng = np.random.default_rng(5)
    for loss in LOSSES:
        net, X, y, _ = small(loss)
        mean, std, Z, C = Laplace(net, X, y, prior_precision=0.3).predictive(X)
        v = np.einsum("nkk->nk", C)
        if loss == "cross_entropy":
            variance = v.sum(axis=1) - 2.0 * C[:, 0, 1]
            mackay = expit((Z[:, 1] - Z[:, 0]) / np.sqrt(1 + np.pi * variance / 8))
            np.testing.assert_allclose(mean, np.stack([1.0 - mackay, mackay], axis=1))
        if loss == "binary_cross_entropy":
            drawn = expit(Z + np.sqrt(v) * rng.standard_normal((40000, *Z.shape))).mean(axis=0)
            np.testing.assert_allclose(mean, drawn, atol=0.02)
        if loss == "squared_error":
            np.testing.assert_array_equal(mean, Z)
            assert (std**2 > v).all()
    # rates and counts drawn from what is stated
    net, X, y, _ = small("poisson")
    mean, std, Z, C = Laplace(net, X, y, prior_precision=20.0).predictive(X[:3])
    v = np.einsum("nkk->nk", C)
    counts = rng.poisson(np.exp(Z + np.sqrt(v) * rng.standard_normal((200000, *Z.shape))))
    np.testing.assert_allclose(mean, counts.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(std, counts.std(axis=0), rtol=0.03)


@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("kind", ["small", "medium", "large", "correlated"])
def test_probabilities_of_classes_against_draws(K: int, kind: str) -> None:
    rng = np.random.default_rng([K, len(kind)])
    Z, B = 2.0 * rng.standard_normal((20, K)), rng.standard_normal((20, K, K)) / np.sqrt(K)
    C = {"small": 0.3, "medium": 1.0, "large": 10.0, "correlated": 0.5}[kind] ** 2 * B @ B.transpose(0, 2, 1)
    if kind == "correlated":
        C += 30.0**2
    exact = drawn_probabilities("softmax", Z, C, 20_000, rng)
    found = class_probabilities(Z, C)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    # The formula is close where differences vary by about 1, and for two classes; far off it is still of the same kind.
    limit = 0.02 if K == 2 or kind == "small" else 0.4 if kind == "large" else 0.12
    assert np.abs(found - exact).max() < limit
    # what is common to all logits, in the mean and in the covariance, says nothing
    a, c = rng.standard_normal((20, 1)), rng.standard_normal((20, K))
    shared = C + c[:, :, None] + c[:, None, :] + 3.0 * np.abs(c).max()
    np.testing.assert_allclose(class_probabilities(Z + 500.0 * a, shared), found, atol=1e-12)
    np.testing.assert_allclose(class_probabilities(Z, np.zeros_like(C)), softmax(Z, axis=1), atol=1e-15)


def test_draws_on_request() -> None:
    for loss in ("cross_entropy", "binary_cross_entropy"):
        net, X, y, _ = small(loss)
        posterior = Laplace(net, X, y, prior_precision=0.3)
        drawn = posterior.predictive(X, method="monte_carlo", n_samples=20_000, seed=1)
        again = posterior.predictive(X, method="monte_carlo", n_samples=20_000, seed=1)
        np.testing.assert_array_equal(drawn.mean, again.mean)
        assert np.abs(drawn.mean - posterior.predictive(X).mean).max() < 0.02
    exact = Laplace(*small("squared_error")[:3])
    np.testing.assert_array_equal(exact.predictive(X, method="monte_carlo").std, exact.predictive(X).std)
    with pytest.raises(ValueError, match="method must be 'formula' or 'monte_carlo', got 'mc'"):
        posterior.predictive(X, method="mc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_samples"):
        posterior.predictive(X, method="monte_carlo", n_samples=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", LOSSES)
def test_far_from_the_data(loss: str) -> None:
    """Everything is finite, or infinite with a warning."""
    X, y = small(loss)[1:3]
    linear = fnn.Sequential([fnn.Dense(2)], input_size=3, loss=loss, dtype="float64", seed=0)
    posterior = Laplace(linear, X, y, prior_precision=0.3)
    for scale in (1e3, 1e8, 1e120):
        if loss == "poisson":
            with pytest.warns(RuntimeWarning, match=r"rates .* too large for float64 in \d+ of 12 rows, and inf"):
                result = posterior.predictive(scale * X)
        else:
            result = posterior.predictive(scale * X)
            assert np.isfinite(result.mean).all()
            assert np.isfinite(result.std).all()
        assert not np.isnan([result.mean, result.std]).any()
    with pytest.warns(RuntimeWarning, match="covariance is too large for float64 in 12 of 12 rows"):
        result = posterior.predictive(1e200 * X)
    assert not np.isnan(result.std).any()
    assert not np.isnan(result.covariance).any()
    if "cross_entropy" in loss:
        assert (result.mean == 0.5).all()


def test_rates_that_are_small_or_large() -> None:
    from mpmath import exp, expm1, mp, sqrt

    mp.dps = 50
    Z = np.array([[-1e4], [-300.0], [300.0], [0.0], [-5.0], [3.0]])
    v = np.array([[1e3], [600.0], [100.0], [1e-12], [0.0], [1.0]])
    mean, std, _, _ = predictive("exp", Z, v[:, :, None], None, 0, np.random.default_rng(0))
    for i in range(len(Z)):
        z, u = mp.mpf(Z[i, 0]), mp.mpf(v[i, 0])
        rate = exp(z + u / 2)
        assert mean[i, 0] == pytest.approx(float(rate), rel=1e-12)
        assert std[i, 0] == pytest.approx(float(sqrt(rate + expm1(u) * rate**2)), rel=1e-11)


def test_every_output_has_its_own_noise() -> None:
    """Of a linear model of K outputs with a flat prior each σ_k² is the unbiased estimate of that output alone."""
    rng = np.random.default_rng(4)
    X, noise = rng.standard_normal((80, 3)), np.array([0.1, 1.0, 20.0])
    y = X @ rng.standard_normal((3, 3)) + noise * rng.standard_normal((80, 3))
    net = fnn.Sequential([fnn.Dense(3, bias=False)], input_size=3, loss="squared_error", dtype="float64", seed=0)
    net.theta[...] = np.linalg.lstsq(X, y, rcond=None)[0].ravel()
    residuals = np.square(y - net.predict(X)).sum(axis=0)
    posterior = Laplace(net, X, y, prior_precision=1e-9)
    np.testing.assert_allclose(posterior.noise_variance, residuals / (80 - 3), rtol=1e-6)
    expected = posterior.noise_variance * (1.0 + np.einsum("ni,ij,nj->n", X, np.linalg.inv(X.T @ X), X)[:, None])
    np.testing.assert_allclose(posterior.predictive(X).std, np.sqrt(expected), rtol=1e-6)
    pooled = Laplace(net, X, y, prior_precision=1e-9, noise_variance="pooled")
    assert pooled.noise_variance == pytest.approx(residuals.sum() / (240 - 9), rel=1e-6)
    assert pooled.log_marginal_likelihood() < posterior.log_marginal_likelihood()
    given = Laplace(net, X, y, prior_precision=1e-9, noise_variance=posterior.noise_variance)
    np.testing.assert_allclose(given.covariance(), posterior.covariance(), rtol=1e-9, atol=1e-14)
    assert given.log_marginal_likelihood() == pytest.approx(posterior.log_marginal_likelihood(), rel=1e-12)
    assert "noise_variance=[" in repr(posterior)
    assert "[" not in repr(pooled)
    # the units of an output matter to nothing else
    scaled, by = net.copy(), np.array([1.0, 1.0, 1e3])
    scaled.theta[...] = (net.theta.reshape(3, 3) * by).ravel()
    other = Laplace(scaled, X, y * by, prior_precision=1e-12)
    np.testing.assert_allclose(other.predictive(X).std, posterior.predictive(X).std * by, rtol=1e-6)
    for wrong in ([1.0, 2.0], [1.0, 0.0, 2.0], [1.0, np.nan, 2.0]):
        with pytest.raises(ValueError, match="noise_variance: expected 3 numbers above 0, one for each output"):
            Laplace(net, X, y, noise_variance=wrong)
    with pytest.raises(ValueError, match="noise_variance: output 1 is fitted exactly"):
        Laplace(net, X, np.stack([y[:, 0], net.predict(X)[:, 1], y[:, 2]], axis=1))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("loss", LOSSES)
def test_evidence_is_largest_where_it_is_chosen(loss: str, structure: str) -> None:
    net, X, y, w = small(loss, seed=2)
    X, y, w = np.tile(X, (5, 1)), np.concatenate([y] * 5), np.tile(w, 5)
    noisy = loss == "squared_error"
    free: dict[str, Any] = {"structure": structure, "sample_weight": w}
    for fixed in ({}, {"prior_precision": 0.4}, {"noise_variance": 0.8}) if noisy else ({},):
        posterior = Laplace(net, X, y, **free, **fixed)
        here = [posterior.prior_precision] + ([float(np.mean(posterior.noise_variance))] if noisy else [])
        best, gradient = posterior.log_marginal_likelihood(eval_gradient=True)
        for i, name in enumerate(("prior_precision", "noise_variance")[: len(here)]):
            if name in fixed:
                assert here[i] == fixed[name]
                continue
            assert abs(gradient[i]) < 1e-8
        others = [(a, b) for a, b in itertools.product((0.5, 0.97, 1.0, 1.03, 2.0), repeat=2)]
        for factors in others:
            point = [
                value if name in fixed else factor * value
                for name, factor, value in zip(("prior_precision", "noise_variance"), factors, here, strict=False)
            ]
            assert posterior.log_marginal_likelihood(*point) <= best + 1e-9
        # the gradient, away from the maximum
        at = 1.7 * np.array(here)
        _, gradient = posterior.log_marginal_likelihood(*at, eval_gradient=True)
        for i in range(len(at)):
            step = np.exp(1e-5 * (np.arange(len(at)) == i))
            up, down = (posterior.log_marginal_likelihood(*at * s) for s in (step, 1 / step))
            assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


def test_weights_count_rows() -> None:
    net, X, y, w = small("squared_error")
    rows = np.repeat(np.arange(12), w.astype(int))
    once, repeated = Laplace(net, X, y, sample_weight=w), Laplace(net, X[rows], y[rows])
    np.testing.assert_allclose(once.noise_variance, repeated.noise_variance, rtol=1e-10)
    assert once.log_marginal_likelihood() == pytest.approx(repeated.log_marginal_likelihood(), rel=1e-12)
    np.testing.assert_allclose(once.covariance(), repeated.covariance(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_float32_pickle_and_snapshot(structure: str) -> None:
    net, X, y, _ = small("cross_entropy")
    low = fnn.Sequential(net.layers, input_size=3, loss="cross_entropy", dtype="float32", seed=0)
    low.theta[...] = net.theta
    net.theta[...] = low.theta
    posterior, from_low = Laplace(net, X, y, structure=structure), Laplace(low, X, y, structure=structure)
    assert from_low.prior_precision == pytest.approx(posterior.prior_precision, rel=1e-12)
    again = pickle.loads(pickle.dumps(from_low))
    before = from_low.predictive(X)
    low.theta[...] = 0.0  # the posterior has its own copy
    for result in (again.predictive(X), from_low.predictive(X), posterior.predictive(X)):
        for a, b in zip(result, before, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert repr(again) == repr(posterior)
    assert posterior.predictive(np.empty((0, 3))).covariance.shape == (0, 2, 2)


def test_sizes_are_refused() -> None:
    net, X, y, _ = small("squared_error")
    for structure, other in zip(STRUCTURES, ("'block'", "'kfac'", "'last_layer'", "'kfac'"), strict=True):
        with pytest.raises(MemoryError, match=rf"structure='{structure}'.* bytes, more than .*use structure=.*{other}"):
            Laplace(net, X, y, structure=structure, max_bytes=200)
    posterior = Laplace(net, X, y, structure="kfac")
    with pytest.raises(MemoryError, match="take the rows in parts"):
        posterior.predictive(X, max_bytes=10)
    with pytest.raises(MemoryError, match="use predictive"):
        posterior.covariance(max_bytes=10)
    wide = fnn.Sequential([fnn.Dense(200_000), fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    with pytest.raises(MemoryError, match=r"2 x 1,000,001 x 1,000,001 values of float64"):
        Laplace(wide, X, y[:, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"structure": "diagonal"}, ValueError, "structure must be one of 'full', 'block', 'kfac', 'last_layer'"),
        ({"prior_precision": "map"}, ValueError, "prior_precision must be 'marginal_likelihood' or a number above 0"),
        ({"prior_precision": 0.0}, ValueError, "prior_precision"),
        ({"prior_precision": None}, TypeError, "prior_precision"),
        ({"noise_variance": -1.0}, ValueError, "noise_variance"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    net, X, y, _ = small("squared_error")
    with pytest.raises(error, match=message):
        Laplace(net, X, y, **options)


def test_what_has_no_posterior() -> None:
    net, X, y, _ = small("cross_entropy")
    with pytest.raises(ValueError, match="noise_variance is for loss 'squared_error'"):
        Laplace(net, X, y, noise_variance=1.0)
    with pytest.raises(ValueError, match="noise_variance is for loss 'squared_error'"):
        Laplace(net, X, y).log_marginal_likelihood(noise_variance=1.0)
    with pytest.raises(TypeError, match="net must be a Sequential"):
        Laplace("net", X, y)
    for loss in ("huber", "absolute_error"):
        other = fnn.Sequential([fnn.Dense(1)], input_size=3, loss=loss, seed=0)
        with pytest.raises(ValueError, match="log-likelihood" if loss == "huber" else "not defined"):
            Laplace(other, X, X[:, 0])
    net.theta[...] = 0.0
    with pytest.raises(ValueError, match=r"the marginal likelihood has no maximum.*give prior_precision"):
        Laplace(net, X, y)
    exact = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", dtype="float64", seed=0)
    with pytest.raises(ValueError, match="give prior_precision and noise_variance"):
        Laplace(exact, X, exact.decision_function(X))
