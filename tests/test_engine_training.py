"""Training by the compiled engine against the reference."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from engine_cases import LOSSES, RULES, TOLERANCE, chain, problem

from fastnn._core.engine import Plan
from fastnn.plan import UpdateRule
from fastnn.reference.plan import Plan as ReferencePlan

pytestmark = pytest.mark.every_simd


def test_epochs_in_the_order_of_the_rows_need_no_indices(rng) -> None:
    ops, n_parameters = chain([5, 9, 3], ["tanh", "linear"])
    theta, X, y, _ = problem([5, 9, 3], "cross_entropy", "float64", 40, rng)
    for make in (Plan, ReferencePlan):
        plan, results = make(ops, n_parameters, "cross_entropy", "float64"), []
        for order, epochs in ((np.tile(np.arange(40), (3, 1)), 1), (None, 3)):
            start, moments = theta.copy(), np.zeros((2, n_parameters))
            outcome = plan.train(start, moments, X, y, order, 16, UpdateRule("adam", 0.01), 0, epochs=epochs)
            results.append((start, outcome))
        np.testing.assert_array_equal(results[0][0], results[1][0])
        assert results[0][1] == results[1][1]
        assert len(results[1][1].losses) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: "-".join(map(str, (rule.rule, rule.momentum, rule.weight_decay, *rule[1:])))
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"l1": 1e-3, "l2": 1e-2},
        {"clip_norm": 0.05},
        {"clip_value": 0.01, "l2": 1e-2},
        {"clip_norm": 0.1, "clip_value": 0.02, "l1": 1e-3},
        {"l2": 0.2, "l2_over_weight_sum": True},
        {"l2": 0.2, "l2_over_weight_sum": True, "clip_norm": 0.05},
    ],
    ids=str,
)
@pytest.mark.usefixtures("many_workers")
def test_training_is_that_of_the_reference(rule, dtype, options, rng) -> None:
    sizes = [6, 11, 17, 3]
    ops, n_parameters = chain(sizes, ["tanh", "gelu", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 75, rng)
    order = np.stack([rng.permutation(75) for _ in range(2)])  # the last batch has 11 rows
    results = []
    for plan, workers in ((ReferencePlan, 1), (Plan, 1), (Plan, 2), (Plan, 5)):
        trained, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters), dtype)
        result = plan(ops, n_parameters, "cross_entropy", dtype).train(
            trained, moments, X, y, order, 16, rule, 0, sample_weight=w, threads=workers, **options
        )
        results.append((trained, moments, result))
    (expected, expected_moments, expected_result), *compiled = results
    assert abs(expected - theta).max() > 1e-3
    for trained, moments, result in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(moments, expected_moments, rtol=1e-2, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(result.losses, expected_result.losses, rtol=1e-5)
        np.testing.assert_allclose(result.correct, expected_result.correct, atol=0.02)
        np.testing.assert_allclose(result.penalties, expected_result.penalties, rtol=1e-5)
        assert result.steps == expected_result.steps == 10
        assert result.status == "ok"


@pytest.mark.parametrize("kind", [Plan, ReferencePlan])
def test_a_divided_penalty_is_that_of_each_batchs_weight(kind, rng) -> None:
    """Batch by batch, with l2 / Σw written out: the weights of the batches differ, and the last one is short."""
    sizes = [6, 11, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", "float64", 43, rng)
    rule = UpdateRule("sgd", 0.1)
    plan, moments = kind(ops, n_parameters, "cross_entropy", "float64"), np.zeros((0, n_parameters))
    together, apart = theta.copy(), theta.copy()
    result = plan.train(together, moments, X, y, None, 10, rule, 0, sample_weight=w, l2=0.3, l2_over_weight_sum=True)
    weights = [float(w[at : at + 10].sum()) for at in range(0, 43, 10)]
    parts = []
    for at, weight in zip(range(0, 43, 10), weights, strict=True):
        some = slice(at, at + 10)
        W = np.concatenate([apart[op.weight : op.weight + op.n_in * op.n_out] for op in ops])
        parts.append(0.5 * 0.3 / weight * float(W @ W))
        one = plan.train(apart, moments, X[some], y[some], None, 10, rule, 0, sample_weight=w[some], l2=0.3 / weight)
        assert one.penalties[0] == pytest.approx(parts[-1], rel=1e-12)
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-14)
    assert result.penalties[0] == pytest.approx(np.average(parts, weights=weights), rel=1e-12)
    assert result.penalties[0] < result.losses[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [*LOSSES[1:], "smoothed", "smoothed binary"])
@pytest.mark.usefixtures("many_workers")
def test_training_with_other_losses_is_that_of_the_reference(loss, dtype, rng) -> None:
    smoothed = {"smoothed": "cross_entropy", "smoothed binary": "binary_cross_entropy"}
    loss, options = (smoothed[loss], {"label_smoothing": 0.2}) if loss in smoothed else (loss, {})
    sizes = [6, 11, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, loss, dtype, 107, rng)
    order = np.stack([rng.permutation(107) for _ in range(3)])
    results = []
    for plan, workers in ((ReferencePlan, 1), (Plan, 1), (Plan, 3)):
        trained = theta.copy()
        result = plan(ops, n_parameters, loss, dtype, **options).train(
            trained, np.zeros((0, n_parameters), dtype), X, y, order, 16, RULES[0], 0, sample_weight=w, threads=workers
        )
        results.append((trained, result))
    (expected, expected_result), *compiled = results
    assert (expected_result.correct is None) == (loss not in ("cross_entropy", "binary_cross_entropy"))
    for trained, result in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(result.losses, expected_result.losses, rtol=1e-5)
        assert (result.correct is None) == (expected_result.correct is None)
        assert result.status == "ok"


@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [None, 1 / 255])
@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.usefixtures("many_workers")
def test_rows_are_converted_and_scaled_as_by_the_reference(source, dtype, scale, shuffled, rng) -> None:
    sizes = [37, 5, 1]
    ops, n_parameters = chain(sizes, ["relu", "linear"])
    theta, _, y, _ = problem(sizes, "squared_error", dtype, 50, rng)
    X = rng.integers(0, 256, (50, 37)).astype(source)
    original = X.copy()
    X.setflags(write=False)
    order = rng.permutation(50)[None] if shuffled else None
    results = []
    for plan, workers in ((ReferencePlan, 1), (Plan, 1), (Plan, 3)):
        plan = plan(ops, n_parameters, "squared_error", dtype, scale)
        trained = theta.copy()
        rule = UpdateRule("sgd", 1e-6 if scale is None else 1e-2)
        plan.train(trained, np.zeros((0, n_parameters), dtype), X, y, order, 8, rule, 0, threads=workers)
        results.append((trained, plan.forward(theta, X, workers)))
    (expected, outputs), *compiled = results
    for trained, compiled_outputs in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(compiled_outputs, outputs, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-4)
    np.testing.assert_array_equal(X, original)


@pytest.mark.parametrize("rule", [UpdateRule("adam", 1e-2), UpdateRule("nag", 1e-2)], ids=lambda rule: rule.rule)
def test_several_epochs_in_one_call_are_several_calls(rule, rng) -> None:
    sizes = [5, 8, 2]
    ops, n_parameters = chain(sizes, ["relu", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 30, rng)
    order = np.stack([rng.permutation(30) for _ in range(4)])
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    once, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    result = plan.train(once, moments, X, y, order, 7, rule, 0)
    often, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    steps, losses = 0, []
    for epoch in order:
        part = plan.train(often, moments, X, y, epoch[None], 7, rule, steps)
        steps = part.steps
        losses.extend(part.losses)
    np.testing.assert_array_equal(once, often)
    assert result.losses == tuple(losses)
    assert result.steps == steps == 20


@pytest.mark.parametrize("rule", [UpdateRule("adam", 1e-2), UpdateRule("nag", 1e-2)], ids=lambda rule: rule.rule)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("many_workers")
def test_a_batch_without_weight_is_skipped(rule, workers, rng) -> None:
    sizes = [4, 3]
    ops, n_parameters = chain(sizes, ["linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", "float64", 12, rng)
    w[4:8] = 0
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    skipped, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    result = plan.train(skipped, moments, X, y, None, 4, rule, 0, sample_weight=w, l2=0.1, threads=workers)
    assert result.steps == 2
    keep = np.r_[0:4, 8:12]
    left_out, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    plan.train(left_out, moments, X[keep], y[keep], None, 4, rule, 0, sample_weight=w[keep], l2=0.1, threads=workers)
    np.testing.assert_allclose(skipped, left_out, rtol=0, atol=1e-15)


def test_divergence_does_not_apply_the_update(rng) -> None:
    sizes = [3, 2]
    ops, n_parameters = chain(sizes, ["linear"])
    theta, X, y, _ = problem(sizes, "squared_error", "float32", 10, rng)
    X[7] = 1e38
    theta *= 100
    trained = theta.copy()
    plan = Plan(ops, n_parameters, "squared_error", "float32")
    result = plan.train(trained, np.zeros((0, n_parameters), np.float32), X, y, None, 5, UpdateRule("sgd", 1e-3), 0)
    assert (result.status, result.steps, result.losses) == ("diverged", 1, ())
    assert np.isfinite(trained).all()


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"), reason="has no mode that flushes them"
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("many_workers")
def test_subnormal_numbers_are_zeros_while_it_trains(dtype, workers, rng) -> None:
    """The first average of Adam of a column that is zero from now on fades away: 0.9 ** steps of what it was."""
    ops, n_parameters = chain([3, 20, 2], ["tanh", "linear"])
    theta, X, y, _ = problem([3, 20, 2], "cross_entropy", dtype, 40, rng)
    tiny, first = np.finfo(dtype).tiny, slice(0, 20)
    X[:, 0] = 0
    moments = np.zeros((2, n_parameters), dtype)
    moments[0, first] = 1e3 * tiny
    rule, results = UpdateRule("adam", 1e-3), []
    for plan in (
        Plan(ops, n_parameters, "cross_entropy", dtype),
        ReferencePlan(ops, n_parameters, "cross_entropy", dtype),
    ):
        trained, slots = theta.copy(), moments.copy()
        plan.train(trained, slots, X, y, None, 40, rule, 0, epochs=100, threads=workers)
        results.append((trained, slots[0, first]))
    assert (results[0][1] == 0).all()
    assert (results[1][1] > 0).all()  # the reference has them
    assert (results[1][1] < tiny).all()
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=0, atol=TOLERANCE[dtype])
    assert (np.full(4, tiny, dtype) / np.dtype(dtype).type(2) > 0).all()  # and the caller has them again


@pytest.mark.parametrize("rows", [1, 17, 33])
@pytest.mark.usefixtures("many_workers")
def test_a_batch_with_fewer_rows_than_workers_is_clipped_by_its_own_norm(rows, rng) -> None:
    sizes = [5, 4, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", rows, rng)
    rule, options = UpdateRule("sgd", 0.1), {"clip_norm": 0.05, "l2": 0.01}
    expected = theta.copy()
    ReferencePlan(ops, n_parameters, "cross_entropy", "float64").train(
        expected, np.zeros((0, n_parameters)), X, y, None, 16, rule, 0, **options
    )
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    for workers in (1, 2, 5):
        trained = theta.copy()
        plan.train(trained, np.zeros((0, n_parameters)), X, y, None, 16, rule, 0, threads=workers, **options)
        np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("soft", [False, True])
def test_of_equal_logits_the_first_is_the_prediction(soft) -> None:
    ops, n_parameters = chain([2, 3], ["linear"])
    theta, X, labels = np.zeros(n_parameters), np.ones((6, 2)), np.array([0, 0, 1, 2, 1, 2])
    y = np.eye(3)[labels] if soft else labels
    rule = UpdateRule("sgd", 0.0)
    results = [
        plan(ops, n_parameters, "cross_entropy", "float64").train(
            theta, np.zeros((0, n_parameters)), X, y, None, 6, rule, 0
        )
        for plan in (Plan, ReferencePlan)
    ]
    assert results[0].correct == pytest.approx((1 / 3,))
    assert results[0].correct == pytest.approx(results[1].correct)
