"""Signals while the engine trains."""

from __future__ import annotations

import numpy as np
import pytest
from engine_cases import chain, problem
from interruption import Alarm, alarm

from fastnn._core.engine import Plan
from fastnn.plan import UpdateRule


def test_a_signals_handler_has_subnormal_numbers(rng) -> None:
    sizes = [64, 256, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float32", 2000, rng)
    plan, moments = Plan(ops, n_parameters, "cross_entropy", "float32"), np.zeros((0, n_parameters), np.float32)
    tiny, seen = np.full(4, np.finfo(np.float32).tiny), []

    def handler(*_):
        seen.extend(tiny / np.float32(2))
        raise Alarm

    with alarm(0.1, handler):
        result = plan.train(theta, moments, X, y, None, 500, UpdateRule("sgd", 1e-6), 0, epochs=5000, threads=1)
    assert result.status == "interrupted"
    assert len(seen) == 4
    assert min(seen) > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_whole_steps(workers, rng) -> None:
    sizes = [64, 256, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float32", 4000, rng)
    theta *= 0.1
    plan, rule = Plan(ops, n_parameters, "cross_entropy", "float32"), UpdateRule("sgd", 1e-2)
    moments = np.zeros((0, n_parameters), np.float32)
    order = np.arange(4000)[None].repeat(5000, axis=0)

    trained = theta.copy()
    with alarm(0.3):
        result = plan.train(trained, moments, X, y, order, 4000, rule, 0, threads=workers)
    replay = theta.copy()
    for steps in range(5000):
        if np.array_equal(replay, trained):
            break
        plan.train(replay, moments, X, y, order[:1], 4000, rule, steps, threads=workers)
    assert 0 < steps < 4999
    assert (result.status, result.steps, len(result.losses)) == ("interrupted", steps, steps)
    assert isinstance(result.error, Alarm)
    np.testing.assert_array_equal(replay, trained)
    assert np.isfinite(plan.loss_and_gradient(trained, X, y, threads=workers)[0])
