"""Optimizers: descriptions, and update rules against loops written out for one number at a time."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optimizers, reference
from fastnn.plan import UpdateRule

# One generator per rule for a single parameter: it is sent gradients at its present value, and yields new values.
Rule = Callable[[float], Iterator[float]]


def sgd(theta, lr, momentum=0.0, nesterov=False):
    v = 0.0
    while True:
        g = yield theta
        v = momentum * v - lr * g
        theta += momentum * v - lr * g if nesterov else v


def lookahead_nesterov(theta, lr, momentum):
    """Nesterov's momentum as usually written: the gradient is taken at θ + μ v, which is what is yielded."""
    v = 0.0
    while True:
        g = yield theta + momentum * v
        v = momentum * v - lr * g
        theta += v


def adagrad(theta, lr, eps=1e-10):
    s = 0.0
    while True:
        g = yield theta
        s += g * g
        theta -= lr * g / (math.sqrt(s) + eps)


def rmsprop(theta, lr, rho=0.99, eps=1e-8):
    s = 0.0
    while True:
        g = yield theta
        s = rho * s + (1 - rho) * g * g
        theta -= lr * g / (math.sqrt(s) + eps)


def adam(theta, lr, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    m = v = 0.0
    t = 0
    while True:
        g = yield theta
        t += 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        theta *= 1 - lr * decay
        theta -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)


CASES = [
    (fnn.SGD(0.1), lambda x: sgd(x, 0.1)),
    (fnn.SGD(0.1, momentum=0.9), lambda x: sgd(x, 0.1, 0.9)),
    (fnn.SGD(0.1, momentum=0.9, nesterov=True), lambda x: sgd(x, 0.1, 0.9, True)),
    (fnn.SGD(0.1, momentum=0.9, nesterov=True), lambda x: lookahead_nesterov(x, 0.1, 0.9)),
    (fnn.AdaGrad(0.1), lambda x: adagrad(x, 0.1)),
    (fnn.AdaGrad(0.1, epsilon=0.5), lambda x: adagrad(x, 0.1, 0.5)),
    (fnn.RMSProp(0.1), lambda x: rmsprop(x, 0.1)),
    (fnn.RMSProp(0.1, rho=0.5, epsilon=0.1), lambda x: rmsprop(x, 0.1, 0.5, 0.1)),
    (fnn.Adam(0.1), lambda x: adam(x, 0.1)),
    (fnn.Adam(0.1, beta1=0.5, beta2=0.7, epsilon=0.1), lambda x: adam(x, 0.1, 0.5, 0.7, 0.1)),
    (fnn.AdamW(0.1, weight_decay=0.3), lambda x: adam(x, 0.1, decay=0.3)),
]


def kernel_step(rule: UpdateRule, theta: np.ndarray, grad: np.ndarray, state: np.ndarray, step: int, **options) -> None:
    """One update by the twin's kernel."""
    if rule.rule == "sgd":
        velocity = state[0] if len(state) else None
        reference.sgd_update(theta, grad, velocity, rule.learning_rate, rule.momentum, rule.nesterov, **options)
    elif rule.rule == "adagrad":
        reference.adagrad_update(theta, grad, state[0], rule.learning_rate, rule.epsilon, **options)
    elif rule.rule == "rmsprop":
        reference.rmsprop_update(theta, grad, state[0], rule.learning_rate, rule.rho, rule.epsilon, **options)
    else:
        numbers = rule.learning_rate, rule.beta1, rule.beta2, rule.epsilon, rule.weight_decay
        reference.adam_update(theta, grad, state[0], state[1], step, *numbers, **options)


def curve(theta: np.ndarray | float) -> np.ndarray | float:
    """Gradient of something with curvature, for steps that depend on where they start."""
    return theta**3 - 2 * theta + 0.5


@pytest.mark.parametrize(("optimizer", "rule"), CASES, ids=[str(case[0]) for case in CASES])
def test_kernel_against_a_loop_over_numbers(optimizer, rule, dtype) -> None:
    start = np.array([-1.5, -0.2, 0.0, 0.7, 1.1])
    theta = start.astype(dtype)
    flat = optimizer.update_rule()
    state = np.zeros((flat.n_slots, 5), dtype)
    loops = [rule(x) for x in theta.tolist()]
    values = [next(loop) for loop in loops]
    for step in range(1, 13):
        grad = curve(theta)
        kept = grad.copy()
        kernel_step(flat, theta, grad, state, step)
        np.testing.assert_array_equal(grad, kept)
        values = [loop.send(curve(x)) for loop, x in zip(loops, values, strict=True)]
        # Nesterov's look-ahead point is the loop's value; for the other rules it is θ itself.
        np.testing.assert_allclose(theta, values, rtol=1e-13 if dtype == "float64" else 2e-5, atol=1e-6)
    assert theta.dtype == dtype


EFFECTIVE = [
    {},
    {"scale": 0.25},
    {"l2": 0.3},
    {"l1": 0.2},
    {"clip_value": 0.4},
    {"factor": 0.5, "scale": 0.5, "l1": 0.2, "l2": 0.3, "clip_value": 0.2},
]


@pytest.mark.parametrize("options", EFFECTIVE, ids=str)
@pytest.mark.parametrize(
    "optimizer", [fnn.SGD(0.1, 0.9), fnn.AdaGrad(), fnn.RMSProp(), fnn.Adam(), fnn.AdamW()], ids=str
)
def test_effective_gradient(optimizer, options, dtype) -> None:
    theta = np.array([-1.5, -0.2, 0.0, 0.7, 1.1], dtype)
    grad = np.array([0.3, -2.0, 0.1, 0.0, 5.0], dtype)
    settings = {"scale": 1.0, "l1": 0.0, "l2": 0.0, "factor": 1.0, "clip_value": np.inf, **options}
    effective = settings["scale"] * grad + settings["l2"] * theta + settings["l1"] * np.sign(theta)
    effective = np.clip(settings["factor"] * effective, -settings["clip_value"], settings["clip_value"]).astype(dtype)
    rule = optimizer.update_rule()
    results = []
    for gradient, kwargs in ((grad, options), (effective, {})):
        moved, state = theta.copy(), np.full((rule.n_slots, 5), 0.1, dtype)
        kernel_step(rule, moved, gradient, state, 3, **kwargs)
        results.append(np.concatenate([moved, *state]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-7)


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
        (lambda t: reference.gradient_norm2(t[None], t), ValueError, r"theta: expected shape \(P,\), got \(1, 3\)"),
    ],
)
def test_kernel_refuses(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call(np.ones(3))


def test_kernel_refuses_read_only() -> None:
    theta = np.ones(3)
    theta.flags.writeable = False
    with pytest.raises(ValueError, match="theta: expected a writable array, got a read-only one"):
        reference.sgd_update(theta, np.ones(3), None, 0.1)


@pytest.mark.parametrize(("optimizer", "rule"), CASES, ids=[str(case[0]) for case in CASES])
def test_against_torch(optimizer, rule) -> None:
    torch = pytest.importorskip("torch")
    flat = optimizer.update_rule()
    common = {"lr": flat.learning_rate}
    start = np.array([-1.5, -0.2, 0.0, 0.7, 1.1])
    parameter = torch.nn.Parameter(torch.tensor(start.copy()))
    other = {
        "SGD": lambda: torch.optim.SGD([parameter], momentum=flat.momentum, nesterov=flat.nesterov, **common),
        "AdaGrad": lambda: torch.optim.Adagrad([parameter], eps=flat.epsilon, **common),
        "RMSProp": lambda: torch.optim.RMSprop([parameter], alpha=flat.rho, eps=flat.epsilon, **common),
        "Adam": lambda: torch.optim.Adam([parameter], betas=(flat.beta1, flat.beta2), eps=flat.epsilon, **common),
        "AdamW": lambda: torch.optim.AdamW([parameter], weight_decay=flat.weight_decay, **common),
    }[type(optimizer).__name__]()
    theta, state = start.copy(), np.zeros((flat.n_slots, 5))
    for step in range(1, 13):
        parameter.grad = torch.tensor(curve(parameter.detach().numpy()))
        other.step()
        kernel_step(flat, theta, curve(theta), state, step)
        np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=1e-12, atol=1e-14)


# Descriptions.


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (fnn.SGD(), UpdateRule("sgd", 0.01)),
        (fnn.SGD(1, 0.9, True), UpdateRule("sgd", 1.0, momentum=0.9, nesterov=True)),
        (fnn.AdaGrad(), UpdateRule("adagrad", 0.01, epsilon=1e-10)),
        (fnn.RMSProp(rho=0.5), UpdateRule("rmsprop", 1e-3, rho=0.5, epsilon=1e-8)),
        (fnn.Adam(beta1=0.8), UpdateRule("adam", 1e-3, beta1=0.8)),
        (fnn.AdamW(), UpdateRule("adam", 1e-3, weight_decay=0.01)),
    ],
)
def test_update_rule(optimizer, expected) -> None:
    assert optimizer.update_rule() == expected


def test_state_vectors() -> None:
    numbers = [name.update_rule().n_slots for name in (fnn.SGD(), fnn.SGD(0.1, 0.9), fnn.AdaGrad(), fnn.RMSProp())]
    assert numbers == [0, 1, 1, 1]
    assert fnn.Adam().update_rule().n_slots == fnn.AdamW().update_rule().n_slots == 2


def test_descriptions_are_values() -> None:
    assert fnn.Adam(np.float32(0.5)) == fnn.Adam(0.5)
    assert type(fnn.Adam(1).learning_rate) is float
    assert pickle.loads(pickle.dumps(fnn.AdamW(0.1))) == fnn.AdamW(0.1)
    assert dataclasses.replace(fnn.Adam(0.1), beta1=0.5) == fnn.Adam(0.1, beta1=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fnn.Adam().learning_rate = 1.0


def test_names() -> None:
    assert {name: optimizers.get(name) for name in optimizers.OPTIMIZERS} == {
        "sgd": fnn.SGD(),
        "adagrad": fnn.AdaGrad(),
        "rmsprop": fnn.RMSProp(),
        "adam": fnn.Adam(),
        "adamw": fnn.AdamW(),
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fnn.SGD(0), ValueError, "learning_rate must be a finite number > 0, got 0"),
        (lambda: fnn.Adam(math.nan), ValueError, "learning_rate must be a finite number > 0, got nan"),
        (lambda: fnn.Adam("fast"), TypeError, "learning_rate must be a finite number > 0, got 'fast'"),
        (lambda: fnn.Adam(True), TypeError, "learning_rate must be a finite number > 0, got True"),
        (lambda: fnn.Adam(None), TypeError, "learning_rate must be .* got None"),
        (lambda: fnn.SGD(momentum=1.0), ValueError, "momentum must be a finite number >= 0 and < 1, got 1.0"),
        (lambda: fnn.SGD(nesterov=True), ValueError, "nesterov=True needs a momentum > 0"),
        (lambda: fnn.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov must be True or False, got 1"),
        (lambda: fnn.AdaGrad(epsilon=-1.0), ValueError, "epsilon must be a finite number >= 0, got -1.0"),
        (lambda: fnn.RMSProp(rho=1.5), ValueError, "rho must be a finite number >= 0 and < 1, got 1.5"),
        (lambda: fnn.Adam(beta1=1.0), ValueError, "beta1 must be"),
        (lambda: fnn.Adam(beta2=-0.1), ValueError, "beta2 must be"),
        (lambda: fnn.AdamW(weight_decay=-0.1), ValueError, "weight_decay must be a finite number >= 0, got -0.1"),
        (lambda: optimizers.get("momentum"), ValueError, "optimizer: unknown name 'momentum'; known: sgd, adagrad"),
        (lambda: optimizers.get(fnn.Adam), TypeError, r"optimizer must be .*; did you mean Adam\(\)\?"),
        (lambda: optimizers.get(0.1), TypeError, "optimizer must be a name or an optimizer such as .*, got 0.1"),
    ],
)
def test_bad_description(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
