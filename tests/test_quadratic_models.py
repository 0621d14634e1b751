"""Minima of quadratic and cubic models."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.linalg.quadratic_models import CholeskyModel, SpectralModel

# -- models
# --------------------------------------------------------------------------------------------------------------


def models(B: np.ndarray):
    n = len(B)
    return [SpectralModel([(slice(0, n), B)], n), CholeskyModel(B)]


@pytest.mark.parametrize("lowest", [-2.0, -1e-3, 0.0, 0.5])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 5.0, 1e4])
@pytest.mark.parametrize("hard", [False, True])
def test_trust_steps_are_the_minimum_in_the_ball(rng, lowest: float, radius: float, hard: bool) -> None:
    n = 30
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = np.concatenate([[lowest], rng.uniform(max(lowest, 0.0) + 0.1, 10.0, n - 1)])
    B = (Q * values) @ Q.T
    B = 0.5 * (B + B.T)
    g = Q @ (np.where(np.arange(n) == 0, 0.0, 1.0) * rng.normal(size=n)) if hard else rng.normal(size=n)
    exact = None
    for current in models(B):
        p, mu = current.trust_step(g, radius)
        length = np.linalg.norm(p)
        value = g @ p + 0.5 * p @ B @ p
        assert value == pytest.approx(g @ p + 0.5 * current.quadratic(p), rel=1e-9, abs=1e-14 * length**2)
        assert length <= 1.1001 * radius
        if isinstance(current, SpectralModel):
            exact = value
            assert length <= radius * 1.0011
            assert mu >= -min(lowest, 0.0) - 1e-9
            np.testing.assert_allclose(B @ p + mu * p, -g, atol=1e-6 * (1.0 + radius))
            for _ in range(200):  # nothing in the ball lies lower
                q = rng.normal(size=n)
                q *= radius * rng.random() / np.linalg.norm(q)
                assert g @ q + 0.5 * q @ B @ q >= value - 2e-3 * abs(value)
        else:
            assert value <= 0.75 * exact


@pytest.mark.parametrize("lowest", [-2.0, 0.5])
@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e3])
def test_cubic_steps(rng, lowest: float, sigma: float) -> None:
    n = 30
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    B = (Q * np.concatenate([[lowest], rng.uniform(0.6, 10.0, n - 1)])) @ Q.T
    B, g = 0.5 * (B + B.T), rng.normal(size=n)
    lengths = []
    for current in models(B):
        p, mu = current.cubic_step(g, sigma)
        np.testing.assert_allclose(B @ p + mu * p, -g, atol=1e-6)
        lengths.append(np.linalg.norm(p))
        assert mu == pytest.approx(sigma * lengths[-1], rel=0.12)
    assert lengths[1] == pytest.approx(lengths[0], rel=0.12)


@pytest.mark.parametrize("definite", [True, False])
def test_inverses(rng, definite: bool) -> None:
    n = 20
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = np.geomspace(1e-6, 1.0, n) if definite else np.linspace(-1.0, 2.0, n)
    B, v = (Q * values) @ Q.T, rng.normal(size=n)
    B = 0.5 * (B + B.T)
    spectral, cholesky = (current.inverse(1e-3) for current in models(B))
    if definite:
        for solve, shift in (spectral, cholesky):
            np.testing.assert_allclose(B @ solve(v), v, rtol=1e-7, atol=1e-8)
            assert shift == 0.0
        return
    np.testing.assert_allclose(spectral[0](v), Q @ ((Q.T @ v) / np.maximum(np.abs(values), 1e-3)), rtol=1e-9)
    assert cholesky[1] > 1.0
    np.testing.assert_allclose(B @ cholesky[0](v) + cholesky[1] * cholesky[0](v), v, rtol=1e-8, atol=1e-10)
