"""Optimizers: descriptions, update rules against loops over single numbers, and whole trainings against torch."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.plan import UpdateRule

pytestmark = pytest.mark.every_simd

# One generator per rule for a single parameter: it is sent gradients at its present value, and yields new values.
Rule = Callable[[float], Iterator[float]]


def sgd(theta, lr, momentum=0.0, nesterov=False):
    v = 0.0
    while True:
        g = yield theta
        v = momentum * v - lr * g
        theta += momentum * v - lr * g if nesterov else v


def averaged(theta, lr, momentum):
    """Steps along Σ μ^{t−s} g_s / Σ μ^{t−s}, which is summed anew each time."""
    gradients = []
    while True:
        gradients.append((yield theta))
        weights = [momentum**age for age in reversed(range(len(gradients)))]
        theta -= lr * sum(w * g for w, g in zip(weights, gradients, strict=True)) / sum(weights)


def lookahead_nesterov(theta, lr, momentum):
    """Nesterov's momentum as usually written: the gradient is taken at θ + μ v, which is what is yielded."""
    v = 0.0
    while True:
        g = yield theta + momentum * v
        v = momentum * v - lr * g
        theta += v


def nag(theta, lr):
    """Nesterov's method as he writes it: iterates x, extrapolated points y, of which the gradient is taken."""
    x = y = theta
    t = 1.0
    while True:
        g = yield y
        x, before = y - lr * g, x
        t, t_before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        y = x + (t_before - 1) / t * (x - before)


def adagrad(theta, lr, eps=1e-10):
    s = 0.0
    while True:
        g = yield theta
        s += g * g
        theta -= lr * g / (math.sqrt(s) + eps)


def rmsprop(theta, lr, rho=0.99, eps=1e-8, momentum=0.0, centered=False):
    s = m = v = 0.0
    while True:
        g = yield theta
        s = rho * s + (1 - rho) * g * g
        m = rho * m + (1 - rho) * g
        v = momentum * v + g / (math.sqrt(s - m * m if centered else s) + eps)
        theta -= lr * v


def adam(theta, lr, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, amsgrad=False, hat=False):
    m = v = top = 0.0
    t = 0
    while True:
        g = yield theta
        t += 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        theta *= 1 - lr * decay
        top = max(top, v) if amsgrad else v
        if hat:
            theta -= lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (math.sqrt(top) + eps)
        else:
            theta -= lr * (m / (1 - beta1**t)) / (math.sqrt(top / (1 - beta2**t)) + eps)


CASES = [
    (fnn.SGD(0.1), lambda x: sgd(x, 0.1)),
    (fnn.SGD(0.1, momentum=0.9), lambda x: sgd(x, 0.1, 0.9)),
    (fnn.SGD(0.1, momentum=0.9, nesterov=True), lambda x: sgd(x, 0.1, 0.9, True)),
    (fnn.SGD(0.1, momentum=0.9, nesterov=True), lambda x: lookahead_nesterov(x, 0.1, 0.9)),
    (fnn.SGD(0.1, momentum=0.9, bias_correction=True), lambda x: averaged(x, 0.1, 0.9)),
    (fnn.NAG(0.1), lambda x: nag(x, 0.1)),
    (fnn.AdaGrad(0.1), lambda x: adagrad(x, 0.1)),
    (fnn.AdaGrad(0.1, epsilon=0.5), lambda x: adagrad(x, 0.1, 0.5)),
    (fnn.RMSProp(0.1), lambda x: rmsprop(x, 0.1)),
    (fnn.RMSProp(0.1, rho=0.5, epsilon=0.1), lambda x: rmsprop(x, 0.1, 0.5, 0.1)),
    (fnn.RMSProp(0.02, momentum=0.7), lambda x: rmsprop(x, 0.02, momentum=0.7)),
    (fnn.RMSProp(0.02, epsilon=0.01, centered=True), lambda x: rmsprop(x, 0.02, eps=0.01, centered=True)),
    (
        fnn.RMSProp(0.02, 0.9, 0.05, momentum=0.7, centered=True),
        lambda x: rmsprop(x, 0.02, 0.9, 0.05, 0.7, centered=True),
    ),
    (fnn.Adam(0.1), lambda x: adam(x, 0.1)),
    (fnn.Adam(0.1, beta1=0.5, beta2=0.7, epsilon=0.1), lambda x: adam(x, 0.1, 0.5, 0.7, 0.1)),
    (fnn.Adam(0.1, beta2=0.5, amsgrad=True), lambda x: adam(x, 0.1, beta2=0.5, amsgrad=True)),
    (fnn.Adam(0.1, epsilon=0.01, epsilon_hat=True), lambda x: adam(x, 0.1, eps=0.01, hat=True)),
    (fnn.AdamW(0.1, weight_decay=0.3), lambda x: adam(x, 0.1, decay=0.3)),
    (
        fnn.AdamW(0.1, 0.8, 0.6, 0.01, 0.3, amsgrad=True, epsilon_hat=True),
        lambda x: adam(x, 0.1, 0.8, 0.6, 0.01, 0.3, amsgrad=True, hat=True),
    ),
]


def kernel_step(
    rule: UpdateRule,
    theta: np.ndarray,
    grad: np.ndarray,
    state: np.ndarray,
    step: int,
    module=reference,
    **options: float,
) -> None:
    """One update by a kernel of `module`."""
    eta, slots = rule.learning_rate, list(state)
    if rule.rule == "sgd":
        velocity = slots[0] if slots else None
        module.sgd_update(theta, grad, velocity, eta, rule.momentum, rule.nesterov, **options)
    elif rule.rule == "momentum":
        module.momentum_update(theta, grad, slots[0], step, eta, rule.beta1, **options)
    elif rule.rule == "nag":
        module.nag_update(theta, grad, slots[0], eta, module.nag_momentum(step)[0], **options)
    elif rule.rule == "adagrad":
        module.adagrad_update(theta, grad, slots[0], eta, rule.epsilon, **options)
    elif rule.rule == "rmsprop":
        mean = slots[1] if rule.centered else None
        velocity = slots[-1] if rule.momentum else None
        numbers = eta, rule.rho, rule.epsilon, rule.momentum
        module.rmsprop_update(theta, grad, slots[0], *numbers, mean, velocity, **options)
    else:
        numbers = eta, rule.beta1, rule.beta2, rule.epsilon, rule.weight_decay
        top = slots[2] if rule.amsgrad else None
        module.adam_update(theta, grad, slots[0], slots[1], step, *numbers, top, rule.epsilon_hat, **options)


both_modules = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])


def curve(theta: np.ndarray | float) -> np.ndarray | float:
    """Gradient of something with curvature, for steps that depend on where they start."""
    return theta**3 - 2 * theta + 0.5


@both_modules
@pytest.mark.parametrize(("optimizer", "rule"), CASES, ids=[str(case[0]) for case in CASES])
def test_kernel_against_a_loop_over_numbers(optimizer, rule, module, dtype) -> None:
    start = np.array([-1.5, -0.2, 0.0, 0.7, 1.1])
    theta = start.astype(dtype)
    flat = optimizer.update_rule()
    state = np.zeros((flat.n_moments, 5), dtype)
    loops = [rule(x) for x in theta.tolist()]
    values = [next(loop) for loop in loops]
    for step in range(1, 13):
        grad = curve(theta)
        kept = grad.copy()
        kernel_step(flat, theta, grad, state, step, module)
        np.testing.assert_array_equal(grad, kept)
        values = [loop.send(curve(x)) for loop, x in zip(loops, values, strict=True)]
        # Nesterov's look-ahead point is the loop's value; for the other rules it is θ itself.
        np.testing.assert_allclose(theta, values, rtol=1e-13 if dtype == "float64" else 2e-5, atol=1e-6)
    assert theta.dtype == dtype


EFFECTIVE = [
    {},
    {"scale": 0.25},
    {"l2": 0.3},
    {"clip_value": 0.4},
    {"factor": 0.5, "scale": 0.5, "l2": 0.3, "clip_value": 0.2},
]
WITH_L1 = [{"l1": 0.2}, {"factor": 0.5, "scale": 0.5, "l1": 0.2, "l2": 0.3, "clip_value": 0.2}]


@both_modules
@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=str)
def test_effective_gradient(optimizer, module, dtype) -> None:
    theta = np.array([-1.5, -0.2, 0.0, 0.7, 1.1], dtype)
    grad = np.array([0.3, -2.0, 0.1, 0.0, 5.0], dtype)
    rtol = 1e-12 if dtype == "float64" else 1e-5
    for options in EFFECTIVE:
        settings = {"scale": 1.0, "l2": 0.0, "factor": 1.0, "clip_value": np.inf, **options}
        effective = settings["scale"] * grad + settings["l2"] * theta
        limit = settings["clip_value"]
        effective = np.clip(settings["factor"] * effective, -limit, limit).astype(dtype)
        rule = optimizer.update_rule()
        results = []
        for gradient, kwargs in ((grad, options), (effective, {})):
            moved, state = theta.copy(), np.full((rule.n_moments, 5), 0.1, dtype)
            kernel_step(rule, moved, gradient, state, 3, module, **kwargs)
            results.append(np.concatenate([moved, *state]))
        np.testing.assert_allclose(results[0], results[1], rtol=rtol, atol=1e-7, err_msg=str(options))


@pytest.mark.parametrize("options", EFFECTIVE + WITH_L1, ids=str)
@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=str)
def test_kernel_is_the_reference(optimizer, options, dtype, rng) -> None:
    # More elements than a vector holds, with a tail; then a view that the kernel has to copy and write back.
    rule, rtol = optimizer.update_rule(), 2e-5 if dtype == "float32" else 1e-12
    start, grad = rng.normal(size=(2, 67)).astype(dtype)
    state = rng.uniform(0.1, 0.2, size=(rule.n_moments, 67)).astype(dtype)
    results = []
    for module, stride in ((reference, 1), (kernels, 1), (kernels, 2)):
        theta = np.empty(67 * stride, dtype)[::stride]
        slots = np.empty((rule.n_moments, 67 * stride), dtype)[:, ::stride]
        theta[...], slots[...] = start, state
        for step in (2, 3, 4):
            kernel_step(rule, theta, grad * (step - 2.5), slots, step, module, **options)
        results.append((theta, slots))
    for theta, slots in results[1:]:
        np.testing.assert_allclose(theta, results[0][0], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(slots, results[0][1], rtol=rtol, atol=rtol)


@both_modules
def test_momenta_of_nesterovs_sequence(module) -> None:
    t = [1.0]
    for _ in range(5000):
        t.append((1 + math.sqrt(1 + 4 * t[-1] * t[-1])) / 2)
    expected = [(a - 1) / b for a, b in itertools.pairwise(t)]
    assert module.nag_momentum(1).tolist() == [0.0]
    assert module.nag_momentum(2)[0] == pytest.approx((math.sqrt(5) - 1) / 2 / t[2], rel=1e-15)
    # Whatever was asked before, and in whatever pieces.
    assert module.nag_momentum(1, 5000).tolist() == expected
    assert module.nag_momentum(100, 3).tolist() == expected[99:102]
    assert module.nag_momentum(103, 10).tolist() == expected[102:112]
    assert module.nag_momentum(102, 0).tolist() == []
    assert module.nag_momentum(5000).tolist() == expected[-1:]
    assert module.nag_momentum(7).tolist() == expected[6:7]
    # 1 − 3 / k to the first order
    assert 1 - expected[-1] == pytest.approx(3 / 5000, rel=0.01)
    with pytest.raises(ValueError, match="step: expected an integer >= 1, got 0"):
        module.nag_momentum(0)
    with pytest.raises(ValueError, match="count: expected an integer >= 0, got -1"):
        module.nag_momentum(1, -1)


@both_modules
def test_the_iterate_is_behind_the_extrapolated_point(module, rng) -> None:
    x = theta = rng.normal(size=4)
    theta, ahead = theta.copy(), np.zeros(4)
    for step in range(1, 20):
        x = theta - 0.1 * curve(theta)
        module.nag_update(theta, curve(theta), ahead, 0.1, module.nag_momentum(step)[0])
        np.testing.assert_allclose(theta - ahead, x, rtol=0, atol=1e-14)


@both_modules
def test_nag_keeps_its_bound_where_descent_is_slow(module) -> None:
    # A long chain of springs, Nesterov's hard function: J(x) − min J ≤ 2 ‖x_0 − x*‖² / (η (k + 1)²), η = 1 / L.
    n, eta = 200, 0.25
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    best = np.linalg.solve(A, np.eye(n)[0])

    def gap(x: np.ndarray) -> float:
        return 0.5 * (x - best) @ A @ (x - best)

    theta, ahead, plain = np.zeros(n), np.zeros(n), np.zeros(n)
    for step in range(1, 101):
        module.nag_update(theta, A @ theta - np.eye(n)[0], ahead, eta, module.nag_momentum(step)[0])
        plain -= eta * (A @ plain - np.eye(n)[0])
        assert gap(theta - ahead) <= 2 * best @ best / (eta * (step + 1) ** 2)
    assert gap(theta) < gap(plain) / 4
    assert gap(theta) == pytest.approx(gap(theta - ahead), rel=0.1)


def test_nag_on_iris_as_document_001_has_it() -> None:
    # 4-16-3 with softplus, the whole batch, steps of 0.01, 350 of them.
    data = fnn.datasets.load_iris()
    X, y = (data[0] - data[0].mean(axis=0)) / data[0].std(axis=0), data[1]
    accuracies = []
    for optimizer in (fnn.NAG(0.01), fnn.SGD(0.01)):
        for seed in range(3):
            layers = [fnn.Dense(16, "softplus"), fnn.Dense(3)]
            net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=seed)
            net.fit(X, y, optimizer=optimizer, epochs=350, batch_size=None)
            accuracies.append(net.evaluate(X, y)["accuracy"])
    assert min(accuracies[:3]) > 0.97
    assert np.median(accuracies[3:]) < 0.93


@both_modules
def test_centred_rmsprop_of_a_constant_gradient_is_finite(module, dtype) -> None:
    # The variance is 0 and rounding takes s − m² to either side of it.
    theta, s, mean = np.zeros((3, 9), dtype)
    grad = np.linspace(0.1, 1e3, 9).astype(dtype)
    for _ in range(3000):
        module.rmsprop_update(theta, grad, s, 1e-3, 0.9, 1.0, mean=mean)
    assert np.isfinite(theta).all()
    assert (theta < 0).all()


DIVIDING = [fnn.AdaGrad, fnn.RMSProp, fnn.Adam, lambda **o: fnn.Adam(amsgrad=True, epsilon_hat=True, **o)]
DIVIDING_IDS = ["adagrad", "rmsprop", "adam", "amsgrad with epsilon hat"]


@both_modules
@pytest.mark.parametrize("epsilon", [0.0, 1e-60, 1e-320])
@pytest.mark.parametrize("optimizer", DIVIDING, ids=DIVIDING_IDS)
def test_no_gradient_is_no_step_whatever_epsilon(optimizer, epsilon, module, dtype) -> None:
    rule = optimizer(learning_rate=0.1, epsilon=epsilon).update_rule()
    theta, state = np.ones(37, dtype), np.zeros((rule.n_moments, 37), dtype)
    grad = np.zeros(37, dtype)
    grad[::3] = np.linspace(-2, 2, 13)
    for step in (1, 2, 3):
        kernel_step(rule, theta, grad, state, step, module)
    assert (theta[grad == 0] == 1).all()
    assert np.isfinite(theta).all()
    assert (theta[grad < 0] > 1).all()
    assert (theta[grad > 0] < 1).all()


@pytest.mark.parametrize("optimizer", DIVIDING, ids=DIVIDING_IDS)
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_dead_feature_trains_without_epsilon(backend, optimizer, dtype, rng) -> None:
    X = rng.normal(size=(40, 3))
    y, X[:, 1] = X @ [1.0, 0.0, -2.0], 0.0
    layers = [fnn.Dense(8, "tanh"), fnn.Dense(1)]
    net = fnn.Sequential(layers, input_size=3, loss="squared_error", dtype=dtype, seed=0, backend=backend)
    before = net.parameters["0.weight"].copy()
    history = net.fit(X, y, optimizer=optimizer(learning_rate=0.01, epsilon=0.0), epochs=30, batch_size=8)
    np.testing.assert_array_equal(net.parameters["0.weight"][1], before[1])
    assert history["loss"][-1] < history["loss"][0] / 2


@both_modules
def test_adam_is_accurate_for_small_and_large_moments(module, dtype) -> None:
    # Against float64, or for float64 extended precision, from v = 0 and subnormal numbers up; a step is a few ulp of
    # the exact one. g = 0, so that only decay, root and quotient are in question.
    info, wide = np.finfo(dtype), np.longdouble if dtype == "float64" else np.float64
    v = np.geomspace(info.tiny, info.max / 4, 301).astype(dtype)
    v = np.concatenate([np.zeros(3, dtype), np.full(3, 2 * info.tiny), v]).astype(dtype)
    m = np.sqrt(v) * np.resize(np.array([0.5, -1.5, 0.9, -3.0, 0.0], dtype), v.size)
    m[:3] = [1e-6, -1e-6, 0.0]
    theta, a, q = np.zeros_like(v), m.copy(), v.copy()
    module.adam_update(theta, np.zeros_like(v), a, q, 5, 0.01, epsilon=1e-8)
    root = np.sqrt(q.astype(wide)) / np.sqrt(wide(1 - 0.999**5)) + np.dtype(dtype).type(1e-8)
    exact = -wide(0.01 / (1 - 0.9**5)) * a.astype(wide) / root
    np.testing.assert_allclose(theta.astype(wide), exact, rtol=8 * float(info.eps), atol=0)


# Rules that step by x / (√q + ε) and nothing else: averages halve exactly, and corrections of the bias are 1 by then.
QUOTIENTS = [
    fnn.AdaGrad(1.0, 1e-10),
    fnn.RMSProp(1.0, 0.5),
    fnn.Adam(1.0, 0.5, 0.5),
    fnn.Adam(1.0, 0.5, 0.5, 1e-3, amsgrad=True, epsilon_hat=True),
]


def quotient_step(rule: UpdateRule, x: np.ndarray, q: np.ndarray, module) -> tuple[np.ndarray, ...]:
    """-x' / (√q' + ε) by one step of `rule`, with the numbers x' and q' that the rule makes of `x` and `q`."""
    theta, state = np.zeros_like(x), np.tile(q, (rule.n_moments, 1))
    grad = x
    if rule.rule == "adam":
        grad, state[0] = np.zeros_like(x), x
    with np.errstate(all="ignore"):
        kernel_step(rule, theta, grad, state, 70, module)
    return theta, state[0] if rule.rule == "adam" else grad, state[-1]


@both_modules
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double on this platform")
@pytest.mark.parametrize("optimizer", QUOTIENTS, ids=str)
def test_quotient_in_ulp(optimizer, module, dtype, rng) -> None:
    info, n = np.finfo(dtype), 200_003
    q = np.ldexp(rng.uniform(1, 2, n), rng.integers(info.minexp - info.nmant, info.maxexp, n)).astype(dtype)
    x = (np.sqrt(q) * rng.uniform(-0.5, 0.5, n)).astype(dtype)
    rule = optimizer.update_rule()
    theta, *numbers = quotient_step(rule, x, q, module)
    x, q = (a.astype(np.longdouble) for a in numbers)
    exact = -x / (np.sqrt(q) + np.dtype(dtype).type(rule.epsilon))
    normal = np.abs(exact) >= info.tiny
    assert normal.mean() > 0.7
    unit = np.spacing(np.abs(exact[normal]).astype(dtype))
    # A quotient's error in ulp is its own 0.5 and, of its divisor's, up to twice the sum's 0.5 and the root's: 0.5, and
    # 0.84 with AVX-512.
    estimated = module is kernels and kernels.simd()["active"] == "avx512"
    limit = 3.2 if estimated else 2.5
    assert (np.abs(theta[normal] - exact[normal]) / unit).max() < limit


@pytest.mark.parametrize("optimizer", QUOTIENTS, ids=str)
def test_quotients_of_zeros_infinities_and_nan(optimizer, dtype) -> None:
    info, rule = np.finfo(dtype), optimizer.update_rule()
    positive = [0.0, info.smallest_subnormal, info.tiny, 1.0, info.max, np.inf, np.nan]
    x, q = np.meshgrid(np.array([*positive, *(-a for a in positive)], dtype), np.array([*positive, -1.0], dtype))
    x, q = x.ravel(), q.ravel()
    theta, *numbers = quotient_step(rule, x, q, kernels)
    expected, *others = quotient_step(rule, x, q, reference)
    np.testing.assert_allclose(theta, expected, rtol=4 * float(info.eps), atol=2 * float(info.smallest_subnormal))
    np.testing.assert_array_equal(np.signbit(theta[theta != 0]), np.signbit(expected[theta != 0]))
    np.testing.assert_array_equal(numbers, others)
    assert (theta[(x == 0) & (q == 0)] == 0).all()
    assert (theta[np.isfinite(x) & (q == np.inf)] == 0).all()
    assert np.isnan(theta[np.isnan(x) | np.isnan(q)]).all()


@pytest.mark.parametrize("options", [{}, {"l2": 0.3, "clip_value": 0.4}], ids=str)
@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=str)
def test_a_step_does_not_depend_on_the_parameters_place(optimizer, options, dtype, rng) -> None:
    # To the bit: workers share θ out differently with their number.
    rule, n = optimizer.update_rule(), 53
    theta, grad = rng.normal(size=(2, n)).astype(dtype)
    state = rng.uniform(0.1, 0.2, size=(rule.n_moments, n)).astype(dtype)
    whole, slots = theta.copy(), state.copy()
    kernel_step(rule, whole, grad, slots, 3, kernels, **options)
    for start in range(n):
        stop = min(n, start + 1 + start % 20)
        part, some = theta[start:stop].copy(), state[:, start:stop].copy()
        kernel_step(rule, part, grad[start:stop], some, 3, kernels, **options)
        np.testing.assert_array_equal(part, whole[start:stop])
        np.testing.assert_array_equal(some, slots[:, start:stop])


def test_gradient_norm(dtype) -> None:
    theta, grad = np.array([1.0, -2.0, 0.0], dtype), np.array([0.5, 0.25, -1.0], dtype)
    assert reference.gradient_norm2(theta, grad) == 1.3125
    parts = [2 * 0.5 + 0.5 * 1 + 0.25, 2 * 0.25 - 0.5 * 2 - 0.25, -2.0]
    assert reference.gradient_norm2(theta, grad, scale=2.0, l1=0.25, l2=0.5) == sum(x * x for x in parts)


def test_momentum_zero_needs_no_velocity(dtype) -> None:
    theta = np.ones(2, dtype)
    reference.sgd_update(theta, np.full(2, 0.5, dtype), None, 1.0)
    assert theta.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: reference.sgd_update(t, t, None, 0.1, 0.9), ValueError, "velocity: expected an array because"),
        (lambda t: reference.sgd_update(t, t[:2], None, 0.1), ValueError, r"grad: expected shape \(3,\), got \(2,\)"),
        (lambda t: reference.sgd_update([1.0], t, None, 0.1), TypeError, "theta: expected a NumPy array .* got list"),
        (lambda t: reference.adagrad_update(t, t, t.astype("f4"), 0.1), TypeError, "s: .* float64 .* got float32"),
        (
            lambda t: reference.rmsprop_update(t, t, np.ones(4), 0.1),
            ValueError,
            r"s: expected shape \(3,\), got \(4,\)",
        ),
        (lambda t: reference.adam_update(t, t, t, t, 0, 0.1), ValueError, "step: expected an integer >= 1, got 0"),
        (
            lambda t: reference.nag_update(t, t, t[:2], 0.1, 0.5),
            ValueError,
            r"ahead: expected shape \(3,\), got \(2,\)",
        ),
        (
            lambda t: reference.rmsprop_update(t, t, t, 0.1, momentum=0.5),
            ValueError,
            "velocity: expected an array because momentum is not 0, got None",
        ),
        (lambda t: reference.rmsprop_update(t, t, t, 0.1, mean=t[:1]), ValueError, r"mean: expected shape \(3,\)"),
        (
            lambda t: reference.adam_update(t, t, t, t, 1, 0.1, v_max=t.astype("f4")),
            TypeError,
            "v_max: expected dtype float64 like the other arguments, got float32",
        ),
        (lambda t: reference.gradient_norm2(t[None], t), ValueError, r"theta: expected shape \(P,\), got \(1, 3\)"),
    ],
)
def test_kernel_refuses(call, error, message, monkeypatch) -> None:
    for module in (reference, kernels):
        monkeypatch.setitem(globals(), "reference", module)
        with pytest.raises(error, match=message):
            call(np.ones(3))


def test_kernel_refuses_read_only() -> None:
    theta = np.ones(3)
    theta.flags.writeable = False
    with pytest.raises(ValueError, match="theta: expected a writable array, got a read-only one"):
        reference.sgd_update(theta, np.ones(3), None, 0.1)


# Whole trainings against torch.

GOLDEN = Path(__file__).parent / "golden"


def golden_script():
    """The module that made the golden file."""
    spec = importlib.util.spec_from_file_location("make_optimizers", GOLDEN / "make_optimizers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOLDEN_CASES = json.loads((GOLDEN / "optimizers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case["optimizer"])
def test_trajectory_is_torchs(case, backend) -> None:
    make = golden_script()
    X, Y, theta = make.problem()
    layers = [fnn.Dense(make.SIZES[1], "tanh"), fnn.Dense(make.SIZES[2])]
    net = fnn.Sequential(
        layers, input_size=make.SIZES[0], loss="squared_error", dtype="float64", seed=0, backend=backend
    )
    net.theta = theta
    optimizer = eval(case["optimizer"], {"fnn": fnn})
    trainer = fnn.Trainer(net, X, Y, optimizer=optimizer, batch_size=make.BATCH, shuffle=False, l2=case["l2"])
    steps_of_an_epoch = len(X) // make.BATCH
    for _ in trainer.epochs(make.STEPS // steps_of_an_epoch):
        expected = case["theta"].get(str(trainer.steps))
        if expected is not None:
            np.testing.assert_allclose(net.theta, expected, rtol=0, atol=1e-9)
    assert trainer.steps == make.STEPS == max(map(int, case["theta"]))
    assert np.abs(net.theta - theta).max() > 0.01


def test_golden_file_is_what_torch_gives() -> None:
    pytest.importorskip("torch")
    again = golden_script().trajectories()
    assert [case["optimizer"] for case in again] == [case["optimizer"] for case in GOLDEN_CASES]
    for ours, theirs in zip(GOLDEN_CASES, again, strict=True):
        assert ours["l2"] == theirs["l2"]
        for step, theta in theirs["theta"].items():
            np.testing.assert_allclose(ours["theta"][step], theta, rtol=0, atol=1e-10)


@pytest.mark.parametrize("optimizer", [fnn.Adam(0.01, epsilon=1e-3, epsilon_hat=True)], ids=str)
def test_adam_with_epsilon_hat_is_sklearns(optimizer) -> None:
    stochastic = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    start = np.array([-1.5, -0.2, 0.0, 0.7, 1.1])
    parameters = [start.copy()]
    other = stochastic.AdamOptimizer(parameters, learning_rate_init=0.01, epsilon=1e-3)
    rule, theta, state = optimizer.update_rule(), start.copy(), np.zeros((2, 5))
    for step in range(1, 101):
        other.update_params(parameters, [curve(parameters[0])])
        kernel_step(rule, theta, curve(theta), state, step, kernels)
        np.testing.assert_allclose(theta, parameters[0], rtol=0, atol=1e-13)


@both_modules
@pytest.mark.parametrize("optimizer", [fnn.Adam(1e-3, epsilon=0.0), fnn.RMSProp(1e-3, epsilon=0.0)], ids=str)
def test_gradients_whose_squares_vanish_take_small_steps(optimizer, module, dtype) -> None:
    rule, tiny = optimizer.update_rule(), float(np.finfo(dtype).tiny)
    grad = np.array([0.0, 1e-3 * tiny**0.5, -0.5 * tiny**0.5], dtype)
    theta, state = np.zeros(3, dtype), np.zeros((rule.n_moments, 3), dtype)
    for step in range(1, 9):
        kernel_step(rule, theta, grad, state, step, module)
    assert theta[0] == 0.0
    assert (np.abs(theta) <= 8 * 1e-2).all()
