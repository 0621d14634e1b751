"""What outputs mean: probabilities, their logarithms, decisions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, losses, outputs, reference


def exact_log_softmax(row: np.ndarray) -> list[float]:
    with mpmath.workdps(450):
        exponentials = [mpmath.exp(mpmath.mpf(float(z))) for z in row]
        total = mpmath.fsum(exponentials)
        return [float(mpmath.log(e / total)) for e in exponentials]


def exact_log_sigmoid(z: float) -> float:
    with mpmath.workdps(450):
        return float(-mpmath.log(1 + mpmath.exp(-mpmath.mpf(z))))


LOGITS = np.array(
    [[0.0, 0.0, 0.0], [30.0, 0.0, 1.0], [-400.0, 2.0, 2.5], [7.0, 7.5, -900.0], [1e-3, 0.0, -1e-3], [0.0, 60.0, 1.0]]
)


@pytest.mark.parametrize("backend", [kernels, reference])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 3])
def test_log_softmax_has_all_digits(backend, dtype, n) -> None:
    Z = LOGITS[:, :n].astype(dtype)
    found = outputs.log_probabilities(losses.get("cross_entropy"), backend, Z)
    expected = np.array([exact_log_softmax(row) for row in Z])
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps, atol=float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("backend", [kernels, reference])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sigmoid_has_all_digits(backend, dtype) -> None:
    Z = np.array([[-80.0], [-20.0], [-0.5], [0.0], [0.25], [16.0], [40.0], [80.0]], dtype)
    found = outputs.log_probabilities(losses.get("binary_cross_entropy"), backend, outputs.both_answers(Z))
    expected = np.array([[exact_log_sigmoid(-z), exact_log_sigmoid(z)] for z in Z[:, 0].tolist()])
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps, atol=float(np.finfo(dtype).tiny))


@pytest.mark.parametrize(("loss", "units"), [("cross_entropy", 4), ("binary_cross_entropy", 1)])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_logarithms_of_a_network(loss, units, backend) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    net = fnn.Sequential([fnn.Dense(units)], input_size=3, loss=loss, dtype="float64", seed=0, backend=backend)
    p = net.predict_proba(X)
    np.testing.assert_allclose(np.exp(net.predict_log_proba(X)), p, rtol=1e-14)
    net.theta *= 1e4
    assert (net.predict_proba(X) == 0.0).any()
    logarithms = net.predict_log_proba(X)
    assert np.isfinite(logarithms).all()
    assert logarithms.min() < -745.2  # what exp cannot hold
    assert net.predict_log_proba(X[:0]).shape == (0, p.shape[1])


def test_several_answers_and_regressions() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    net = fnn.Sequential([fnn.Dense(4)], input_size=3, loss="binary_cross_entropy", seed=0)
    np.testing.assert_allclose(net.predict_log_proba(X), np.log(net.predict_proba(X)), rtol=1e-5)
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    with pytest.raises(ValueError, match="predict_log_proba needs a classifier, got loss 'squared_error'"):
        net.predict_log_proba(X)
