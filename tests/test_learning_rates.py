"""Learning rates per batch and per layer: the compiled engine, the reference, and loops written out."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn.plan import OpSpec, Segment, UpdateRule, parameter_ranges
from fastnn.reference.plan import Plan as ReferencePlan

RULES = [
    UpdateRule("sgd", 0.1, momentum=0.9),
    UpdateRule("rmsprop", 0.01, epsilon=1e-2),
    UpdateRule("adam", 0.01, weight_decay=0.1),
]
OPS = [
    OpSpec("dense", -1, 4, 5, 0, 20, "tanh", 0.5),
    OpSpec("dense", 0, 5, 3, 25, 40, "tanh", 0.0),
    OpSpec("dense", 1, 3, 2, 43, -1, "linear", 2.0),
]


def plans(dtype: str):
    from fastnn._core.engine import Plan

    return Plan(OPS, 49, "squared_error", dtype), ReferencePlan(OPS, 49, "squared_error", dtype)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("options", [{}, {"l1": 1e-3, "l2": 1e-2, "clip_norm": 0.5}], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_compiled_is_the_reference(rule, options, threads, dtype, rng, many_workers) -> None:
    X, y = rng.normal(size=(11, 4)).astype(dtype), rng.normal(size=(11, 2)).astype(dtype)
    order = np.stack([rng.permutation(11) for _ in range(3)])
    start, rates = rng.normal(size=49).astype(dtype), rng.random(9)
    results = []
    for plan in plans(dtype):
        theta, moments = start.copy(), np.zeros((rule.n_moments, 49), dtype)
        got = plan.train(theta, moments, X, y, order, 4, rule, 0, learning_rates=rates, threads=threads, **options)
        results.append((theta, moments, got.losses))
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for compiled_value, reference_value in zip(*results, strict=True):
        np.testing.assert_allclose(compiled_value, reference_value, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(results[0][0][25:43], start[25:43])


@pytest.mark.parametrize("options", [{}, {"l2": 0.1}], ids=str)
def test_rates_are_those_of_the_batches(options, backend, dtype, rng) -> None:
    # One call with a rate per batch is as many calls with one batch each.
    X, y = rng.normal(size=(10, 4)).astype(dtype), rng.normal(size=(10, 2)).astype(dtype)
    w = np.ones(10, dtype)
    w[4:8] = 0.0  # the second batch is skipped; its rate is skipped with it
    net = fnn.Sequential([fnn.Dense(2)], input_size=4, loss="squared_error", dtype=dtype, seed=0, backend=backend)
    rates, rule = np.array([0.1, 0.2, 0.3]), UpdateRule("sgd", 7.0, momentum=0.5)
    once, moments = net.theta.copy(), np.zeros((1, net.n_parameters), dtype)
    net.plan.train(once, moments, X, y, None, 4, rule, 0, sample_weight=w, learning_rates=rates, **options)
    often, moments = net.theta.copy(), np.zeros((1, net.n_parameters), dtype)
    for at, rate in zip((0, 8), (0.1, 0.3), strict=True):
        take = slice(at, at + 4)
        net.plan.train(often, moments, X[take], y[take], None, 4, rule._replace(learning_rate=rate), 0, **options)
    np.testing.assert_array_equal(once, often)


def test_multipliers(backend, dtype, rng) -> None:
    X, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))

    def network(*rates):
        layers = [fnn.Dense(2, "tanh", learning_rate_multiplier=rate) for rate in rates]
        return fnn.Sequential(layers, input_size=3, loss="squared_error", dtype=dtype, seed=0, backend=backend)

    before, after = network(1, 1), network(0, 0.5)
    gradient = before.gradient(X, y)
    after.fit(X, y, optimizer=fnn.SGD(0.1), epochs=1, batch_size=None, shuffle=False)
    expected = before.theta - np.repeat([0.0, 0.05], [8, 6]).astype(dtype) * gradient
    np.testing.assert_allclose(after.theta, expected, rtol=1e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_array_equal(after.theta[:8], before.theta[:8])


def test_ranges() -> None:
    assert parameter_ranges(OPS, 49) == [
        Segment(0, 20, True, 0.5),
        Segment(20, 25, False, 0.5),
        Segment(25, 40, True, 0.0),
        Segment(40, 43, False, 0.0),
        Segment(43, 49, True, 2.0),
    ]
    shared = [OpSpec("dense", -1, 2, 2, 3, 0, "relu"), OpSpec("dense", 0, 2, 2, 3, -1, "relu")]
    assert parameter_ranges(shared, 9) == [
        Segment(0, 3, False, 1.0),
        Segment(3, 7, True, 1.0),
        Segment(7, 9, False, 1.0),
    ]


@pytest.mark.parametrize(
    ("rates", "error"), [(np.ones(2), ValueError), (np.ones(3, np.float32), TypeError)], ids=["length", "dtype"]
)
def test_wrong_rates(rates, error, backend, rng) -> None:
    net = fnn.Sequential([fnn.Dense(2)], input_size=4, loss="squared_error", seed=0, backend=backend)
    theta, X, y = net.theta.copy(), np.ones((10, 4), np.float32), np.ones((10, 2), np.float32)
    with pytest.raises(error, match="learning_rates: expected"):
        net.plan.train(theta, np.zeros((0, 10), np.float32), X, y, None, 4, UpdateRule("sgd", 1.0), 0,
                        learning_rates=rates)  # fmt: skip
    np.testing.assert_array_equal(theta, net.theta)
