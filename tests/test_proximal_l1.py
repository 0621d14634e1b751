"""l1 by its proximal operator: update rules against loops over numbers, whole trainings against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from test_optimizers import both_modules, curve, kernel_step

import fastnn as fnn

pytestmark = pytest.mark.every_simd

L1 = 0.4


def soft(x: float, limit: float) -> float:
    """The minimum of (y − x)² / 2 + limit |y|."""
    return math.copysign(max(abs(x) - limit, 0.0), x)


def sgd(x, lr):
    while True:
        g = yield x
        x = soft(x - lr * g, lr * L1)


def inertial(x, lr, momentum):
    """The heavy ball with a proximal step, as Ochs et al. (2014) write it, without velocities."""
    before = x
    while True:
        g = yield x
        x, before = soft(x - lr * g + momentum * (x - before), lr * L1), x


def extrapolated(x, lr, momentum=None):
    """Nesterov's methods with a proximal step, as Beck and Teboulle (2009) write FISTA."""
    y, t = x, 1.0
    while True:
        g = yield y
        x, before = soft(y - lr * g, lr * L1), x
        t, t_before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        y = x + ((t_before - 1) / t if momentum is None else momentum) * (x - before)


def averaged(x, lr, momentum):
    m, t = 0.0, 0
    while True:
        g = yield x
        m, t = momentum * m + (1 - momentum) * g, t + 1
        x = soft(x - lr * m / (1 - momentum**t), lr * L1)


def adagrad(x, lr, eps=1e-10):
    s = 0.0
    while True:
        g = yield x
        s += g * g
        rate = lr / (math.sqrt(s) + eps)
        x = soft(x - rate * g, rate * L1)


def rmsprop(x, lr, rho=0.99, eps=1e-8, momentum=0.0, centered=False):
    s = m = 0.0
    before = x
    while True:
        g = yield x
        s = rho * s + (1 - rho) * g * g
        m = rho * m + (1 - rho) * g
        rate = lr / (math.sqrt(max(s - m * m, 0.0) if centered else s) + eps)
        x, before = soft(x - rate * g + momentum * (x - before), rate * L1), x


def adam(x, lr, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, amsgrad=False):
    m = v = top = 0.0
    t = 0
    while True:
        g = yield x
        t += 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        top = max(top, v) if amsgrad else v
        rate = lr / (math.sqrt(top / (1 - beta2**t)) + eps)
        x = soft((1 - lr * decay) * x - rate * m / (1 - beta1**t), rate * L1)


CASES = [
    (fnn.SGD(0.1), lambda x: sgd(x, 0.1)),
    (fnn.SGD(0.05, momentum=0.8), lambda x: inertial(x, 0.05, 0.8)),
    (fnn.SGD(0.05, momentum=0.8, nesterov=True), lambda x: extrapolated(x, 0.05, 0.8)),
    (fnn.SGD(0.1, momentum=0.8, bias_correction=True), lambda x: averaged(x, 0.1, 0.8)),
    (fnn.NAG(0.1), lambda x: extrapolated(x, 0.1)),
    (fnn.AdaGrad(0.3), lambda x: adagrad(x, 0.3)),
    (fnn.RMSProp(0.02), lambda x: rmsprop(x, 0.02)),
    (fnn.RMSProp(0.02, momentum=0.7), lambda x: rmsprop(x, 0.02, momentum=0.7)),
    (fnn.RMSProp(0.02, 0.9, 0.05, momentum=0.7, centered=True), lambda x: rmsprop(x, 0.02, 0.9, 0.05, 0.7, True)),
    (fnn.Adam(0.1), lambda x: adam(x, 0.1)),
    (fnn.Adam(0.1, beta2=0.5, amsgrad=True), lambda x: adam(x, 0.1, beta2=0.5, amsgrad=True)),
    (fnn.AdamW(0.1, weight_decay=0.3), lambda x: adam(x, 0.1, decay=0.3)),
]


@both_modules
@pytest.mark.parametrize(("optimizer", "rule"), CASES, ids=[str(case[0]) for case in CASES])
def test_kernel_against_a_loop_over_numbers(optimizer, rule, module, dtype) -> None:
    # 0.5 lies within l1 of the curve's value at 0: some of the weights end there, more than a vector of them.
    start = np.linspace(-1.5, 1.5, 37)
    theta, flat = start.astype(dtype), optimizer.update_rule()
    state = np.zeros((flat.n_moments, theta.size), dtype)
    loops = [rule(x) for x in theta.tolist()]
    values = [next(loop) for loop in loops]
    for step in range(1, 21):
        kernel_step(flat, theta, curve(theta) - 0.3, state, step, module, l1=L1)
        values = [loop.send(curve(x) - 0.3) for loop, x in zip(loops, values, strict=True)]
        tolerance = 1e-12 if dtype == "float64" else 1e-3
        np.testing.assert_allclose(theta, values, rtol=tolerance, atol=tolerance)


@both_modules
def test_the_factor_of_clipping_scales_l1_and_nan_passes(module, dtype) -> None:
    theta = np.array([1.0, -1.0, 0.05, np.nan, 0.0], dtype)
    module.sgd_update(theta, np.zeros(5, dtype), None, 0.5, l1=0.4, factor=0.5)
    np.testing.assert_allclose(theta, [0.9, -0.9, 0.0, np.nan, 0.0], rtol=1e-6)


def sparse_regression(n: int = 120, d: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, d)) * np.geomspace(0.7, 1.4, d)
    return X, X[:, :4] @ [2.0, -1.0, 0.5, -0.3] + 0.1 * rng.normal(size=n) + 1.0


OPTIMIZERS = [
    fnn.SGD(0.2),
    fnn.SGD(0.1, momentum=0.8),
    fnn.SGD(0.1, momentum=0.8, nesterov=True),
    fnn.SGD(0.2, momentum=0.8, bias_correction=True),
    fnn.NAG(0.2),
    fnn.AdaGrad(0.5),
    fnn.RMSProp(fnn.schedules.ExponentialDecay(0.02, 0.998)),
    fnn.RMSProp(fnn.schedules.ExponentialDecay(0.01, 0.998), momentum=0.5),
    fnn.Adam(fnn.schedules.ExponentialDecay(0.05, 0.995)),
    fnn.AdamW(fnn.schedules.ExponentialDecay(0.05, 0.995), weight_decay=0.0),
    fnn.KFAC(0.1, kl_clip=1.0),
    fnn.KFAC(0.3, momentum=0.0, kl_clip=10.0, kind="empirical"),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_training_finds_the_lasso(optimizer, clip_norm) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = sparse_regression()
    lasso = linear_model.Lasso(alpha=0.1, tol=1e-14, max_iter=100_000).fit(X, y)
    assert 3 <= np.count_nonzero(lasso.coef_) <= 6
    net = fnn.Sequential([fnn.Dense(1)], input_size=X.shape[1], loss="squared_error", dtype="float64", seed=0)
    epochs = 600 if isinstance(optimizer, fnn.KFAC) else 4000
    net.fit(X, y, optimizer=optimizer, l1=0.1, epochs=epochs, batch_size=None, clip_norm=clip_norm)
    weights = net.parameters["0.weight"].ravel()
    np.testing.assert_array_equal(weights == 0.0, lasso.coef_ == 0.0)
    np.testing.assert_allclose(weights, lasso.coef_, atol=1e-5)
    np.testing.assert_allclose(net.parameters["0.bias"], lasso.intercept_, atol=1e-5)


@pytest.mark.parametrize("optimizer", [fnn.NAG(1.0), fnn.Adam(0.02), fnn.KFAC(0.1), fnn.StochasticLBFGS(1.0)], ids=str)
def test_training_finds_the_sparse_logistic_regression(optimizer) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    penalty = linear_model.LogisticRegression().penalty  # "l2" in scikit-learn 1.7
    lasso: dict[str, Any] = {"penalty": "l1"} if penalty == "l2" else {"l1_ratio": 1.0}
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 10))
    y = (X[:, 0] - 0.5 * X[:, 1] + 0.3 * rng.normal(size=300) > 0).astype(int)
    model = linear_model.LogisticRegression(
        C=1 / (300 * 0.05), **lasso, solver="saga", tol=1e-12, max_iter=100_000, random_state=0
    ).fit(X, y)
    net = fnn.Sequential([fnn.Dense(1)], input_size=10, loss="binary_cross_entropy", dtype="float64", seed=0)
    net.fit(X, y, optimizer=optimizer, l1=0.05, epochs=600 if optimizer == fnn.KFAC(0.1) else 5000, batch_size=None)
    weights = net.parameters["0.weight"].ravel()
    assert np.count_nonzero(weights) == 2
    np.testing.assert_array_equal(weights == 0.0, model.coef_[0] == 0.0)
    np.testing.assert_allclose(weights, model.coef_[0], atol=1e-5)


@pytest.mark.parametrize(
    "optimizer", [fnn.SGD(0.05, momentum=0.9, nesterov=True), fnn.Adam(0.01), fnn.KFAC(0.02)], ids=str
)
def test_mini_batches_leave_zeros_and_resume_bit_for_bit(optimizer, backend, dtype, tmp_path) -> None:
    X, y = sparse_regression()

    def network() -> fnn.Sequential:
        layers = [fnn.Dense(6, "tanh"), fnn.Dense(1)]
        return fnn.Sequential(layers, input_size=X.shape[1], loss="squared_error", dtype=dtype, seed=0, backend=backend)

    options = {"optimizer": optimizer, "l1": 0.05, "batch_size": 40, "seed": 3, "threads": 1}
    whole, first = network(), network()
    history = whole.fit(X, y, epochs=60, **options)
    assert 0.3 < np.mean(whole.parameters["0.weight"] == 0.0) < 1.0
    assert (whole.parameters["0.bias"] != 0.0).any()
    penalty = 0.05 * sum(np.abs(whole.parameters[f"{layer}.weight"]).sum(dtype=np.float64) for layer in (0, 1))
    assert whole.loss(X, y, l1=0.05) == pytest.approx(whole.loss(X, y) + penalty, rel=1e-6)
    first.fit(X, y, epochs=25, **options)
    first.save(tmp_path / "half", training_state=True)
    resumed = fnn.load(tmp_path / "half", backend=backend)
    assert resumed.fit(X, y, epochs=60, resume=True, **options)["loss"] == history["loss"]
    np.testing.assert_array_equal(resumed.theta, whole.theta)


def test_a_limit_of_the_gradient_below_l1_is_refused(backend) -> None:
    X, y = sparse_regression()
    net = fnn.Sequential([fnn.Dense(1)], input_size=X.shape[1], loss="squared_error", seed=0, backend=backend)
    before = net.theta.copy()
    with pytest.raises(ValueError, match=r"clip_value: expected at least l1=0.1, got 0.05"):
        net.fit(X, y, l1=0.1, clip_value=0.05)
    np.testing.assert_array_equal(net.theta, before)
    net.fit(X, y, l1=0.1, clip_value=0.1, epochs=1)
