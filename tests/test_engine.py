"""The compiled engine: against its twin over random networks, with any number of workers, and under interruption."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from fastnn._core.engine import Plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn import reference
from fastnn._core import engine, threads
from fastnn.plan import OpSpec, UpdateRule
from fastnn.reference.activations import ACTIVATIONS
from fastnn.reference.network import Plan as Twin
from fastnn.reference.sparse import SparseRows

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "poisson")
RULES = (
    UpdateRule("sgd", 0.05),
    UpdateRule("sgd", 0.02, momentum=0.9),
    UpdateRule("sgd", 0.02, momentum=0.9, nesterov=True),
    UpdateRule("nag", 0.02),
    UpdateRule("adagrad", 0.02, epsilon=1e-10),
    UpdateRule("rmsprop", 0.003),
    UpdateRule("rmsprop", 0.001, momentum=0.9),
    UpdateRule("rmsprop", 0.003, centered=True, epsilon=1e-3),
    UpdateRule("rmsprop", 0.001, centered=True, epsilon=1e-3, momentum=0.5),
    UpdateRule("adam", 0.003),
    UpdateRule("adam", 0.003, beta2=0.9, amsgrad=True),
    UpdateRule("adam", 0.003, epsilon=1e-3, epsilon_hat=True),
    UpdateRule("adam", 0.003, weight_decay=0.1),
)
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


@pytest.fixture
def many_workers():
    """Any work, however small, is worth a worker."""
    before = engine.worth_a_worker()
    engine.worth_a_worker(1.0)
    yield
    engine.worth_a_worker(before)


@pytest.fixture
def own_products():
    """No product goes to BLAS, which may sum in an order that depends on the number of rows."""
    before = engine.blas_from()
    engine.blas_from(np.inf)
    yield
    engine.blas_from(before)


def chain(sizes, activations, *, bias=True):
    ops, offset = [], 0
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        weight, offset = offset, offset + n_in * n_out
        ops.append(OpSpec("dense", index - 1, n_in, n_out, weight, offset if bias else -1, activations[index]))
        offset += n_out if bias else 0
    return ops, offset


def problem(sizes, loss, dtype, rows, rng, *, soft=False):
    """theta, X, y and weights for a chain of these sizes."""
    n_parameters = sum(a * b + b for a, b in itertools.pairwise(sizes))
    theta = (0.5 * rng.standard_normal(n_parameters)).astype(dtype)
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy" and not soft:
        y = rng.integers(0, sizes[-1], rows)
    elif loss == "poisson":
        theta *= 0.2  # rates that stay within the type
        y = rng.poisson(2.0, (rows, sizes[-1])).astype(dtype)
    elif loss in ("squared_error", "absolute_error", "huber"):
        y = rng.standard_normal((rows, sizes[-1])).astype(dtype)
    else:
        y = rng.random((rows, sizes[-1])).astype(dtype)
        y = np.ascontiguousarray(y / y.sum(axis=1, keepdims=True)) if soft else (y > 0.5).astype(dtype)
    return theta, X, y, rng.random(rows).astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    activation=st.sampled_from([name for name in ACTIVATIONS if name != "sign"]),
    loss=st.sampled_from(LOSSES),
    dtype=st.sampled_from(["float32", "float64"]),
    rows=st.integers(1, 90),
    workers=st.integers(1, 4),
    soft=st.booleans(),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_loss_and_gradient_are_the_twins(
    sizes, activation, loss, dtype, rows, workers, soft, weighted, smoothing, seed
) -> None:
    rng = np.random.default_rng(seed)
    ops, n_parameters = chain(sizes, [activation] * (len(sizes) - 2) + ["linear"])
    theta, X, y, w = problem(sizes, loss, dtype, rows, rng, soft=soft and loss == "cross_entropy")
    w = w if weighted else None
    options = {"label_smoothing": smoothing} if loss == "cross_entropy" else {}
    before = engine.worth_a_worker()
    engine.worth_a_worker(1.0)
    try:
        plan = Plan(ops, n_parameters, loss, dtype, **options)
        value, gradient = plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2, workers)
        outputs = plan.forward(theta, X, workers)
    finally:
        engine.worth_a_worker(before)
    twin = Twin(ops, n_parameters, loss, dtype, **options)
    expected, expected_gradient = twin.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
    scale = 1 + abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance * scale)
    expected_outputs = twin.forward(theta, X)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=0, atol=tolerance * (1 + abs(expected_outputs).max()))


@pytest.fixture
def by_feature():
    """All narrow networks run by feature, in chunks of 135 rows."""
    before = engine.by_feature()
    engine.by_feature(0, 135, 0.0)
    yield
    engine.by_feature(*before)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 128), min_size=2, max_size=5),
    activation=st.sampled_from([name for name in ACTIVATIONS if name != "sign"]),
    separate=st.booleans(),
    bias=st.booleans(),
    loss=st.sampled_from(LOSSES),
    dtype=st.sampled_from(["float32", "float64"]),
    rows=st.integers(65, 500),
    workers=st.integers(1, 3),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_narrow_networks_by_feature_are_the_twins(
    by_feature, many_workers, sizes, activation, separate, bias, loss, dtype, rows, workers, weighted, seed
) -> None:
    rng = np.random.default_rng(seed)
    if activation in ("relu", "leaky_relu", "hard_tanh", "leaky_tanh") and max(sizes) > 16:
        dtype = "float64"  # of so many units one may lie on the other side of its kink by rounding alone
    ops, n_parameters = chain(sizes, [activation] * (len(sizes) - 2) + ["linear"], bias=bias)
    if separate and len(ops) > 1:  # the first activation is an operation of its own
        inner = OpSpec("activation", 0, ops[0].n_out, ops[0].n_out, -1, -1, activation)
        ops = [ops[0]._replace(activation="linear"), inner, *(op._replace(input=op.input + 1) for op in ops[1:])]
    theta, X, y, w = problem(sizes, loss, dtype, rows, rng)
    theta, w = theta[:n_parameters], w if weighted else None
    theta *= min(1.0, 4 / max(sizes) ** 0.5)  # outputs of a deep, wide network that are not all rounding
    value, gradient = Plan(ops, n_parameters, loss, dtype).loss_and_gradient(theta, X, y, w, 1e-3, 1e-2, workers)
    expected, expected_gradient = Twin(ops, n_parameters, loss, dtype).loss_and_gradient(theta, X, y, w, 1e-3, 1e-2)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
    scale = 1 + abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("batch", [70, 150, 500])
@pytest.mark.parametrize("source", ["own", "uint8", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_by_feature_is_training_by_row(by_feature, dtype, source, batch, rng) -> None:
    ops, n_parameters = chain([7, 33, 5, 3], ["tanh", "gelu", "linear"])
    theta, _, y, w = problem([7, 33, 5, 3], "cross_entropy", dtype, 500, rng)
    X = rng.integers(0, 4, (500, 7)).astype(dtype if source == "own" else np.uint8)
    if source == "sparse":
        filled = X != 0
        indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int64)
        X = SparseRows(X[filled], np.nonzero(filled)[1].astype(np.int32), indptr, 7)
    order = np.stack([rng.permutation(500) for _ in range(3)])
    results = []
    for from_rows in (0, 10**9):
        engine.by_feature(from_rows)
        start, state = theta.copy(), np.zeros((2, n_parameters), dtype)
        plan = Plan(ops, n_parameters, "cross_entropy", dtype)
        rule = UpdateRule("adam", 0.003, weight_decay=0.1)
        outcome = plan.train(start, state, X, y, order, batch, rule, 0, sample_weight=w, l2=1e-3)
        results.append((start, state, outcome.losses, outcome.correct))
    for ours, other in zip(*results, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=TOLERANCE[dtype])


@pytest.fixture
def skipping():
    """Sets what decides whether zeros of X are skipped; nothing runs by feature."""
    before, narrow = engine.zeros(), engine.by_feature()
    engine.by_feature(10**9)
    yield engine.zeros
    engine.zeros(*before)
    engine.by_feature(*narrow)


def mostly_zero(shape, rng, dtype):
    """Rows in which about a quarter is not zero, in runs, and some columns are zero everywhere."""
    X = rng.normal(size=shape)
    X[np.repeat(rng.random((shape[0], -(-shape[1] // 5))) < 0.75, 5, axis=1)[:, : shape[1]]] = 0
    X[:, rng.random(shape[1]) < 0.1] = 0
    return X.astype(dtype)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_in=st.integers(16, 200),
    hidden=st.integers(9, 150),
    tiles=st.sampled_from(
        [(2, 2, 1), (2, 4, 1), (4, 2, 1), (4, 4, 1), (2, 2, 8), (2, 2, 32), (4, 4, 2), (4, 2, 32), (4, 4, 16)]
    ),
    activation=st.sampled_from(["relu", "tanh", "gelu"]),
    bias=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    rows=st.integers(64, 500),
    workers=st.integers(1, 3),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_skipping_zeros_changes_no_bit(
    skipping, own_products, many_workers, n_in, hidden, tiles, activation, bias, dtype, rows, workers, weighted, seed
) -> None:
    rng = np.random.default_rng(seed)
    sizes = [n_in, hidden, 3]
    ops, n_parameters = chain(sizes, [activation, "linear"], bias=bias)
    theta, _, y, w = problem(sizes, "cross_entropy", dtype, rows, rng)
    theta, w = theta[:n_parameters], w if weighted else None
    X = mostly_zero((rows, n_in), rng, dtype)
    plan = Plan(ops, n_parameters, "cross_entropy", dtype)
    skipping(tiles=tiles)
    results = []
    for sample in (0, 8):
        skipping(sample)
        outputs = plan.forward(theta, X, workers)
        value, gradient = plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2, workers)
        results.append((outputs, value, gradient))
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    twin = Twin(ops, n_parameters, "cross_entropy", dtype)
    expected, expected_gradient = twin.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert results[1][1] == pytest.approx(expected, rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(
        results[1][2], expected_gradient, rtol=0, atol=tolerance * (1 + abs(expected_gradient).max())
    )


@pytest.mark.usefixtures("own_products")
@pytest.mark.parametrize("batch", [16, 70, 300])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("source", ["own", "other", "uint8", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_that_skips_zeros_is_training(skipping, many_workers, dtype, source, workers, batch, rng) -> None:
    n_in, rows = 150, 300
    ops, n_parameters = chain([n_in, 40, 3], ["relu", "linear"])
    theta, _, y, w = problem([n_in, 40, 3], "cross_entropy", dtype, rows, rng)
    X = mostly_zero(
        (rows, n_in), rng, {"own": dtype, "other": np.float64 if dtype == "float32" else np.float32}.get(source, dtype)
    )
    if source in ("uint8", "sparse"):
        X = np.ceil(abs(X)).astype(np.uint8)
    if source == "sparse":
        filled = X != 0
        indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int64)
        X = SparseRows(X[filled], np.nonzero(filled)[1].astype(np.int32), indptr, n_in)
    order = np.stack([rng.permutation(rows) for _ in range(3)])
    results = []
    for sample in (0, 8):
        skipping(sample)
        start, state = theta.copy(), np.zeros((2, n_parameters), dtype)
        plan = Plan(ops, n_parameters, "cross_entropy", dtype, 0.5)
        outcome = plan.train(
            start, state, X, y, order, batch, UpdateRule("adam", 0.003), 0, sample_weight=w, l2=1e-3, threads=workers
        )
        results.append((start, state, outcome.losses, outcome.correct))
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)


@pytest.mark.usefixtures("own_products")
@pytest.mark.parametrize("n_in", [97, 98, 161, 225])
@pytest.mark.parametrize("batch", [8, 17, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_that_are_zero_together_at_a_distance(dtype, batch, n_in, rng) -> None:
    # Small batches and widths just above a multiple of the distance: the workspace holds the most tiles for its rows.
    hidden, rows = 41, 280
    ops, n_parameters = chain([n_in, hidden, 3], ["tanh", "linear"])
    theta, _, y, _ = problem([n_in, hidden, 3], "cross_entropy", dtype, rows, rng)
    X = (rng.normal(size=(rows, n_in)) * np.tile(rng.random((rows, 32)) < 0.15, n_in // 32 + 1)[:, :n_in]).astype(dtype)
    results = []
    for kind in (Plan, Twin):
        trained = theta.copy()
        kind(ops, n_parameters, "cross_entropy", dtype).train(
            trained, np.zeros((0, n_parameters), dtype), X, y, None, batch, UpdateRule("sgd", 0.05), 0, epochs=2
        )
        results.append(trained)
    np.testing.assert_allclose(*results, rtol=0, atol=1e-4 if dtype == "float32" else 1e-10)


@pytest.mark.usefixtures("own_products")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_are_skipped_where_there_are_many(skipping, dtype, rng) -> None:
    # A weight that is not finite tells: whoever multiplies it by zero gets NaN.
    ops, n_parameters = chain([64, 40, 3], ["relu", "linear"])
    theta, _, y, _ = problem([64, 40, 3], "cross_entropy", dtype, 300, rng)
    X = mostly_zero((300, 64), rng, dtype)
    X[:, 7] = 0
    theta[7 * 40 : 8 * 40] = np.nan
    plan = Plan(ops, n_parameters, "cross_entropy", dtype)
    assert np.isfinite(plan.forward(theta, X)).all()
    value, gradient = plan.loss_and_gradient(theta, X, y)
    assert np.isfinite(value)
    assert (gradient[7 * 40 : 8 * 40] == 0).all()
    skipping(0)
    assert np.isnan(plan.forward(theta, X)).any()
    skipping(32)
    X[:, :] = rng.normal(size=X.shape)  # few zeros: not worth it
    X[:, 7] = 0
    assert np.isnan(plan.forward(theta, X)).any()
    X = mostly_zero((300, 64), rng, dtype)
    X[:, 7] = 0
    X[5, 9] = np.nan  # is not zero
    assert np.isnan(plan.forward(theta, X)[5]).all()


@pytest.mark.usefixtures("own_products", "many_workers")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_skipping_zeros_in_blocks_of_rows(skipping, dtype, rng) -> None:
    # 96 rows of so large a layer are a block, which lists its zeros for itself; the chunk holds them all.
    n_in, hidden, rows = 2000, 1100, 260
    ops, n_parameters = chain([n_in, hidden, 20, 3], ["relu", "relu", "linear"])
    theta, _, y, _ = problem([n_in, hidden, 20, 3], "cross_entropy", dtype, rows, rng)
    X = mostly_zero((rows, n_in), rng, dtype)
    before = engine.chunk_bytes()
    try:
        engine.chunk_bytes(float(1 << 32))
        results = []
        for sample in (0, 8):
            skipping(sample)
            plan = Plan(ops, n_parameters, "cross_entropy", dtype)
            results.append([*plan.loss_and_gradient(theta, X, y, threads=2), plan.forward(theta, X)])
    finally:
        engine.chunk_bytes(before)
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    expected, gradient = Twin(ops, n_parameters, "cross_entropy", dtype).loss_and_gradient(theta, X, y)
    assert results[1][0] == pytest.approx(expected, rel=2e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(
        results[1][1], gradient, rtol=0, atol=(2e-5 if dtype == "float32" else 1e-12) * (1 + abs(gradient).max())
    )


@pytest.mark.usefixtures("own_products", "many_workers")
@pytest.mark.parametrize("kind", ["hessian", "ggn", "fisher"])
@pytest.mark.parametrize("tiles", [(2, 2, 1), (4, 4, 1), (2, 4, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_curvature_skip_zeros(skipping, dtype, tiles, kind, rng) -> None:
    sizes, rows = [90, 40, 3], 700
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, _, y, w = problem(sizes, "cross_entropy", dtype, rows, rng)
    X, V = mostly_zero((rows, 90), rng, dtype), rng.standard_normal((3, n_parameters)).astype(dtype)
    X[:, 11] = 0
    skipping(tiles=tiles)
    results = []
    for sample in (0, 32):
        skipping(sample)
        lin = Plan(ops, n_parameters, "cross_entropy", dtype).linearize(theta, X, y, w, threads=2)
        results.append((lin.loss, lin.outputs, lin.product(V, kind)))
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    V[:, 11 * 40 : 12 * 40] = np.nan  # of a feature that is zero everywhere: they are left out
    assert np.isfinite(lin.product(V, kind)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bias_shared_across_a_relu(own_products, dtype, rng) -> None:
    # The op above the relu sums up both bias gradients, its own first.
    ops, n_parameters = chain([20, 20, 20, 3], ["relu", "relu", "linear"])
    shared = ops[1].bias
    ops = [ops[0]._replace(bias=shared), *ops[1:]]
    ops = [op._replace(weight=op.weight - 20, bias=op.bias - 20) if k else op for k, op in enumerate(ops)]
    ops[0] = ops[0]._replace(bias=ops[1].bias)
    theta, X, y, w = problem([20, 20, 20, 3], "cross_entropy", dtype, 150, rng)
    theta = theta[: n_parameters - 20]
    value, gradient = Plan(ops, len(theta), "cross_entropy", dtype).loss_and_gradient(theta, X, y, w)
    expected, expected_gradient = Twin(ops, len(theta), "cross_entropy", dtype).loss_and_gradient(theta, X, y, w)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert value == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance * (1 + abs(expected_gradient).max()))


@pytest.mark.usefixtures("own_products")
@pytest.mark.parametrize("batch_norm", [False, True])
def test_skipping_zeros_below_other_layers(skipping, batch_norm, rng) -> None:
    X, y = mostly_zero((400, 90), rng, "float32"), rng.integers(0, 3, 400)
    ends = []
    for sample in (0, 32):
        skipping(sample)
        norm = [fnn.BatchNorm()] if batch_norm else []
        layers = [fnn.Dense(40), *norm, fnn.Activation("relu"), fnn.Dropout(0.3), fnn.Dense(24, "relu"), fnn.Dense(3)]
        net = fnn.Sequential(layers, input_size=90, loss="cross_entropy", seed=0)
        net.fit(X, y, optimizer=fnn.Adam(1e-3), epochs=3, batch_size=50, seed=1)
        ends.append(net.theta.copy())
    np.testing.assert_array_equal(*ends)


def test_epochs_in_the_order_of_the_rows_need_no_indices(rng) -> None:
    ops, n_parameters = chain([5, 9, 3], ["tanh", "linear"])
    theta, X, y, _ = problem([5, 9, 3], "cross_entropy", "float64", 40, rng)
    for make in (Plan, Twin):
        plan, results = make(ops, n_parameters, "cross_entropy", "float64"), []
        for order, epochs in ((np.tile(np.arange(40), (3, 1)), 1), (None, 3)):
            start, state = theta.copy(), np.zeros((2, n_parameters))
            outcome = plan.train(start, state, X, y, order, 16, UpdateRule("adam", 0.01), 0, epochs=epochs)
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
        {"l2": 0.2, "divide_l2": True},
        {"l2": 0.2, "divide_l2": True, "clip_norm": 0.05},
    ],
    ids=str,
)
@pytest.mark.usefixtures("many_workers")
def test_training_is_the_twins(rule, dtype, options, rng) -> None:
    sizes = [6, 11, 17, 3]
    ops, n_parameters = chain(sizes, ["tanh", "gelu", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 107, rng)
    order = np.stack([rng.permutation(107) for _ in range(3)])
    results = []
    for plan, workers in ((Twin, 1), (Plan, 1), (Plan, 2), (Plan, 5)):
        trained, state = theta.copy(), np.zeros((rule.n_moments, n_parameters), dtype)
        result = plan(ops, n_parameters, "cross_entropy", dtype).train(
            trained, state, X, y, order, 16, rule, 0, sample_weight=w, threads=workers, **options
        )
        results.append((trained, state, result))
    (expected, expected_state, expected_result), *compiled = results
    assert abs(expected - theta).max() > 1e-3
    for trained, state, result in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(state, expected_state, rtol=1e-2, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(result.losses, expected_result.losses, rtol=1e-5)
        np.testing.assert_allclose(result.correct, expected_result.correct, atol=0.02)
        np.testing.assert_allclose(result.penalties, expected_result.penalties, rtol=1e-5)
        assert result.steps == expected_result.steps == 21
        assert result.status == "ok"


@pytest.mark.parametrize("kind", [Plan, Twin])
def test_a_divided_penalty_is_that_of_each_batchs_weight(kind, rng) -> None:
    """Batch by batch, with l2 / Σw written out: the weights of the batches differ, and the last one is short."""
    sizes = [6, 11, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", "float64", 43, rng)
    rule = UpdateRule("sgd", 0.1)
    plan, state = kind(ops, n_parameters, "cross_entropy", "float64"), np.zeros((0, n_parameters))
    together, apart = theta.copy(), theta.copy()
    result = plan.train(together, state, X, y, None, 10, rule, 0, sample_weight=w, l2=0.3, divide_l2=True)
    weights = [float(w[at : at + 10].sum()) for at in range(0, 43, 10)]
    parts = []
    for at, weight in zip(range(0, 43, 10), weights, strict=True):
        some = slice(at, at + 10)
        W = np.concatenate([apart[op.weight : op.weight + op.n_in * op.n_out] for op in ops])
        parts.append(0.5 * 0.3 / weight * float(W @ W))
        one = plan.train(apart, state, X[some], y[some], None, 10, rule, 0, sample_weight=w[some], l2=0.3 / weight)
        assert one.penalties[0] == pytest.approx(parts[-1], rel=1e-12)
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-14)
    assert result.penalties[0] == pytest.approx(np.average(parts, weights=weights), rel=1e-12)
    assert result.penalties[0] < result.losses[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [*LOSSES[1:], "smoothed"])
@pytest.mark.usefixtures("many_workers")
def test_training_with_other_losses_is_the_twins(loss, dtype, rng) -> None:
    loss, options = ("cross_entropy", {"label_smoothing": 0.2}) if loss == "smoothed" else (loss, {})
    sizes = [6, 11, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, loss, dtype, 107, rng)
    order = np.stack([rng.permutation(107) for _ in range(3)])
    results = []
    for plan, workers in ((Twin, 1), (Plan, 1), (Plan, 3)):
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


@pytest.mark.parametrize("kind", [Plan, Twin])
def test_smoothing_is_for_cross_entropy(kind) -> None:
    ops, n_parameters = chain([3, 2], ["linear"])
    for loss, smoothing in (("huber", 0.1), ("cross_entropy", 1.0), ("cross_entropy", -0.1)):
        with pytest.raises(ValueError, match=rf"label_smoothing: expected .* or 0 for {loss}, got {smoothing}"):
            kind(ops, n_parameters, loss, "float32", label_smoothing=smoothing)


@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [None, 1 / 255])
@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.usefixtures("many_workers")
def test_rows_are_converted_and_scaled_as_by_the_twin(source, dtype, scale, shuffled, rng) -> None:
    sizes = [37, 5, 1]
    ops, n_parameters = chain(sizes, ["relu", "linear"])
    theta, _, y, _ = problem(sizes, "squared_error", dtype, 50, rng)
    X = rng.integers(0, 256, (50, 37)).astype(source)
    original = X.copy()
    X.setflags(write=False)
    order = rng.permutation(50)[None] if shuffled else None
    results = []
    for plan, workers in ((Twin, 1), (Plan, 1), (Plan, 3)):
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(9, 100, 10), (70, 64, 3), (5, 37, 1), (33, 130, 17), (12, 65, 33), (90, 257, 32)])
def test_gradients_of_few_outputs_are_the_twins(sizes, dtype, rng, own_products) -> None:
    """They are made turned where that fills the vectors, in one chunk, in several, and while training."""
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "squared_error", dtype, 150, rng)
    plan, twin = Plan(ops, n_parameters, "squared_error", dtype), Twin(ops, n_parameters, "squared_error", dtype)
    _, expected = twin.loss_and_gradient(theta, X, y, w)
    atol = (1e-5 if dtype == "float32" else 1e-13) * abs(expected).max()
    size = engine.chunk_bytes()
    try:
        for chunk in (size, 1.0):  # of no more bytes than 16 rows have
            engine.chunk_bytes(chunk)
            np.testing.assert_allclose(plan.loss_and_gradient(theta, X, y, w)[1], expected, rtol=0, atol=atol)
    finally:
        engine.chunk_bytes(size)
    rule, results = UpdateRule("sgd", 0.01), []
    for kind in (plan, twin):
        trained = theta.copy()
        kind.train(trained, np.zeros((0, n_parameters), dtype), X, y, None, 50, rule, 0)
        results.append(trained)
    np.testing.assert_allclose(*results, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_batch_in_many_chunks_is_the_twins(dtype, rng) -> None:
    sizes = [300, 200, 4]
    ops, n_parameters = chain(sizes, ["silu", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 3000, rng)
    theta *= 0.1
    plan, twin = Plan(ops, n_parameters, "cross_entropy", dtype), Twin(ops, n_parameters, "cross_entropy", dtype)
    expected, expected_gradient = twin.loss_and_gradient(theta, X, y, w)
    for workers in (1, 2, 3):
        value, gradient = plan.loss_and_gradient(theta, X, y, w, threads=workers)
        assert value == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
        atol = (1e-5 if dtype == "float32" else 1e-13) * abs(expected_gradient).max()
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=atol)


@pytest.mark.usefixtures("many_workers")
def test_the_same_number_of_workers_gives_the_same_bits(rng) -> None:
    sizes = [20, 33, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float32", 1000, rng)
    order = rng.permutation(1000)[None]
    for workers in (1, 2, 3, 4):
        results = []
        for _ in range(3):
            trained, state = theta.copy(), np.zeros((2, n_parameters), np.float32)
            plan = Plan(ops, n_parameters, "cross_entropy", "float32")
            result = plan.train(
                trained, state, X, y, order, 32, UpdateRule("adam", 1e-3), 0, clip_norm=0.5, threads=workers
            )
            results.append((trained.tobytes(), state.tobytes(), result))
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("many_workers")
def test_deterministic_results_do_not_depend_on_the_workers(dtype, rng) -> None:
    sizes = [20, 33, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 1003, rng)
    order = rng.permutation(1003)[None]
    plan, rule = Plan(ops, n_parameters, "cross_entropy", dtype), UpdateRule("adam", 1e-3)
    options = {"clip_norm": 0.5, "l1": 1e-4, "l2": 1e-3, "sample_weight": w}
    results = []
    for workers in (1, 2, 3, 4, 7):
        trained, state = theta.copy(), np.zeros((2, n_parameters), dtype)
        result = plan.train(trained, state, X, y, order, 100, rule, 0, threads=workers, deterministic=True, **options)
        loss, gradient = plan.loss_and_gradient(trained, X, y, w, threads=workers, deterministic=True)
        results.append((trained.tobytes(), state.tobytes(), result, loss, gradient.tobytes()))
    assert all(result == results[0] for result in results)
    expected, state = theta.copy(), np.zeros((2, n_parameters), dtype)
    Twin(ops, n_parameters, "cross_entropy", dtype).train(expected, state, X, y, order, 100, rule, 0, **options)
    np.testing.assert_allclose(np.frombuffer(results[0][0], dtype), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.usefixtures("many_workers", "own_products")
def test_outputs_of_a_row_do_not_depend_on_its_company(rng) -> None:
    sizes = [19, 70, 3]
    ops, n_parameters = chain(sizes, ["gelu", "linear"])
    theta, X, _, _ = problem(sizes, "squared_error", "float32", 100, rng)
    plan = Plan(ops, n_parameters, "squared_error", "float32")
    together = plan.forward(theta, X)
    np.testing.assert_array_equal(plan.forward(theta, X, 3), together)
    for row in (0, 41, 99):
        np.testing.assert_array_equal(plan.forward(theta, X[row : row + 1])[0], together[row])


@pytest.mark.parametrize("rule", [UpdateRule("adam", 1e-2), UpdateRule("nag", 1e-2)], ids=lambda rule: rule.rule)
def test_several_epochs_in_one_call_are_several_calls(rule, rng) -> None:
    sizes = [5, 8, 2]
    ops, n_parameters = chain(sizes, ["relu", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 30, rng)
    order = np.stack([rng.permutation(30) for _ in range(4)])
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    once, state = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    result = plan.train(once, state, X, y, order, 7, rule, 0)
    often, state = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    steps, losses = 0, []
    for epoch in order:
        part = plan.train(often, state, X, y, epoch[None], 7, rule, steps)
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
    skipped, state = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    result = plan.train(skipped, state, X, y, None, 4, rule, 0, sample_weight=w, l2=0.1, threads=workers)
    assert result.steps == 2
    keep = np.r_[0:4, 8:12]
    left_out, state = theta.copy(), np.zeros((rule.n_moments, n_parameters))
    plan.train(left_out, state, X[keep], y[keep], None, 4, rule, 0, sample_weight=w[keep], l2=0.1, threads=workers)
    np.testing.assert_allclose(skipped, left_out, rtol=0, atol=1e-15)


def test_products_by_blas_are_the_same(rng) -> None:
    sizes = [50, 60, 70, 2]
    ops, n_parameters = chain(sizes, ["tanh", "relu", "linear"])
    for dtype in ("float32", "float64"):
        theta, X, y, _ = problem(sizes, "squared_error", dtype, 80, rng)
        theta *= 0.2
        plan = Plan(ops, n_parameters, "squared_error", dtype)
        before = engine.blas_from()
        values = []
        try:
            for threshold in (0.0, np.inf):
                engine.blas_from(threshold)
                values.append(plan.loss_and_gradient(theta, X, y))
        finally:
            engine.blas_from(before)
        (loss, gradient), (own_loss, own_gradient) = values
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        assert loss == pytest.approx(own_loss, rel=tolerance)
        np.testing.assert_allclose(gradient, own_gradient, rtol=0, atol=tolerance * abs(gradient).max())


def test_shared_weights_are_the_twins(rng) -> None:
    ops = [
        OpSpec("dense", -1, 4, 5, 0, 20, "tanh"),
        OpSpec("dense", 0, 5, 5, 25, 50, "tanh"),
        OpSpec("dense", 1, 5, 5, 25, 50, "sigmoid"),
        OpSpec("dense", 2, 5, 2, 55, 65, "linear"),
    ]
    theta = rng.standard_normal(67)
    X, y = rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    value, gradient = Plan(ops, 67, "squared_error", "float64").loss_and_gradient(theta, X, y, l2=0.1)
    expected, expected_gradient = Twin(ops, 67, "squared_error", "float64").loss_and_gradient(theta, X, y, l2=0.1)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-12)


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
    state = np.zeros((2, n_parameters), dtype)
    state[0, first] = 1e3 * tiny
    rule, results = UpdateRule("adam", 1e-3), []
    for plan in (Plan(ops, n_parameters, "cross_entropy", dtype), Twin(ops, n_parameters, "cross_entropy", dtype)):
        trained, slots = theta.copy(), state.copy()
        plan.train(trained, slots, X, y, None, 40, rule, 0, epochs=100, threads=workers)
        results.append((trained, slots[0, first]))
    assert (results[0][1] == 0).all()
    assert (results[1][1] > 0).all()  # the twin has them
    assert (results[1][1] < tiny).all()
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=0, atol=TOLERANCE[dtype])
    assert (np.full(4, tiny, dtype) / np.dtype(dtype).type(2) > 0).all()  # and the caller has them again


def test_a_signals_handler_has_subnormal_numbers(rng) -> None:
    sizes = [64, 256, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float32", 2000, rng)
    plan, state = Plan(ops, n_parameters, "cross_entropy", "float32"), np.zeros((0, n_parameters), np.float32)
    tiny, seen = np.full(4, np.finfo(np.float32).tiny), []

    class Alarm(Exception):
        pass

    def handler(*_):
        seen.extend(tiny / np.float32(2))
        raise Alarm

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        result = plan.train(theta, state, X, y, None, 500, UpdateRule("sgd", 1e-6), 0, epochs=5000, threads=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
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
    state = np.zeros((0, n_parameters), np.float32)
    order = np.arange(4000)[None].repeat(5000, axis=0)

    class Alarm(Exception):
        pass

    def handler(*_):
        raise Alarm

    trained = theta.copy()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        result = plan.train(trained, state, X, y, order, 4000, rule, 0, threads=workers)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    replay = theta.copy()
    for steps in range(5000):
        if np.array_equal(replay, trained):
            break
        plan.train(replay, state, X, y, order[:1], 4000, rule, steps, threads=workers)
    assert 0 < steps < 4999
    assert (result.status, result.steps, len(result.losses)) == ("interrupted", steps, steps)
    assert isinstance(result.error, Alarm)
    np.testing.assert_array_equal(replay, trained)
    assert np.isfinite(plan.loss_and_gradient(trained, X, y, threads=workers)[0])


@pytest.mark.usefixtures("many_workers")
def test_concurrent_trainings_do_not_disturb_each_other(rng) -> None:
    sizes = [10, 30, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 300, rng)
    plan, rule = Plan(ops, n_parameters, "cross_entropy", "float64"), UpdateRule("adam", 1e-2)
    order = np.stack([rng.permutation(300) for _ in range(20)])
    results = [theta.copy() for _ in range(4)]

    def train(trained):
        plan.train(trained, np.zeros((2, n_parameters)), X, y, order, 16, rule, 0, threads=2)

    runners = [threading.Thread(target=train, args=(trained,)) for trained in results]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    train(alone := theta.copy())
    for trained in results:
        np.testing.assert_array_equal(trained, alone)


def _train_in_child(queue):
    rng = np.random.default_rng(0)
    sizes = [10, 30, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 300, rng)
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    queue.put(plan.loss_and_gradient(theta, X, y, threads=3)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("many_workers")
def test_workers_come_back_after_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    _train_in_child(queue)
    expected = queue.get()
    child = context.Process(target=_train_in_child, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == expected


def test_overlapping_holds_restore_the_blas_limit() -> None:
    before = threads.blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with threads.blas_held_to_one_thread():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(10)
    with threads.blas_held_to_one_thread():
        assert [library.get_num_threads() for library in threads._blas()] == [1] * len(threads._blas())
        leave.set()
        other.join()
        assert [library.get_num_threads() for library in threads._blas()] == [1] * len(threads._blas())
        assert threads.blas_threads() == before
    assert threads.blas_threads() == before


COUNTER = """
#include <stddef.h>
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
long fastnn_allocations;
void *malloc(size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{ __atomic_add_fetch(&fastnn_allocations, 1, 5); *p = __libc_memalign(a, n); return *p ? 0 : 12; }
"""

COUNTED = """
import ctypes, sys
import numpy as np
from fastnn._core import engine
from fastnn._core.engine import Plan
from fastnn.plan import OpSpec, UpdateRule

engine.worth_a_worker(1.0)
count = ctypes.c_long.in_dll(ctypes.CDLL(None), "fastnn_allocations")
rng = np.random.default_rng(0)
ops = [OpSpec("dense", -1, 8, 16, 0, 128, "gelu"), OpSpec("dense", 0, 16, 3, 144, 192, "linear")]
X, y = rng.standard_normal((400, 8)), rng.integers(0, 3, 400)
plan, rule = Plan(ops, 195, "cross_entropy", "float32"), UpdateRule("adam", 1e-3)
theta, state = rng.standard_normal(195).astype("f"), np.zeros((2, 195), "f")
for workers in (1, 2):
    counts = []
    for epochs in (1, 1, 1, 40):
        order = np.stack([rng.permutation(400) for _ in range(epochs)])
        before = count.value
        result = plan.train(theta, state, X, y, order, 8, rule, 0, l2=1e-3, clip_norm=1.0, threads=workers)
        counts.append(count.value - before)
        assert result.steps == 50 * epochs
    print(*counts)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the calls of glibc's malloc")
def test_steps_allocate_nothing(tmp_path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or os.confstr("CS_GNU_LIBC_VERSION") is None:
        pytest.skip("needs a C compiler and glibc")
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", source, "-o", library], check=True)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COUNTED)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [[int(number) for number in line.split()] for line in run.stdout.splitlines()]
    assert len(lines) == 2
    for _, _, one_epoch, forty_epochs in lines:
        # 1,950 more steps; what differs is the list of the epochs' losses that goes back to Python
        assert one_epoch > 0
        assert forty_epochs - one_epoch < 20


def test_plan_refuses_what_would_be_unsafe(rng) -> None:
    ops, n_parameters = chain([3, 2], ["linear"])
    plan = Plan(ops, n_parameters, "cross_entropy", "float32")
    theta, X, y = np.zeros(8, np.float32), np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    with pytest.raises(TypeError, match="theta: expected element type 'f', got 'd'"):
        plan.forward(theta.astype(float), X)
    with pytest.raises(ValueError, match="theta: expected 8 elements, got 7"):
        plan.forward(theta[:7], X)
    with pytest.raises(ValueError, match=r"X: expected shape \(N, 3\), got \(4, 2\)"):
        plan.forward(theta, X[:, :2])
    with pytest.raises(ValueError, match="contiguous"):
        plan.forward(theta, np.zeros((3, 4), np.float32).T)
    with pytest.raises(TypeError, match="X: expected dtype float32, float64 or uint8, got int64"):
        plan.forward(theta, X.astype(np.int64))
    with pytest.raises(ValueError, match=r"y: expected labels in \[0, 2\), got 0 to 2"):
        plan.loss_and_gradient(theta, X, np.array([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="order: expected indices of the 4 rows of X"):
        plan.train(theta, np.zeros((0, 8), np.float32), X, y, np.array([[0, 4]]), 2, UpdateRule("sgd", 0.1), 0)
    frozen = theta.copy()
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        plan.train(frozen, np.zeros((0, 8), np.float32), X, y, None, 2, UpdateRule("sgd", 0.1), 0)
    with pytest.raises(ValueError, match=r"ops\[0\]: .* does not fit"):
        Plan(ops, 7, "cross_entropy", "float32")
    with pytest.raises(ValueError, match=r"ops\[1\]: expected to read .* input 0, got -1"):
        Plan([*ops, OpSpec("dense", -1, 3, 2, 0, 6, "linear")], 8, "cross_entropy", "float32")
    assert reference.softmax(plan.forward(theta, X)).shape == (4, 2)


@pytest.mark.parametrize("rows", [1, 17, 33])
@pytest.mark.usefixtures("many_workers")
def test_a_batch_with_fewer_rows_than_workers_is_clipped_by_its_own_norm(rows, rng) -> None:
    sizes = [5, 4, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", rows, rng)
    rule, options = UpdateRule("sgd", 0.1), {"clip_norm": 0.05, "l2": 0.01}
    expected = theta.copy()
    Twin(ops, n_parameters, "cross_entropy", "float64").train(
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
        for plan in (Plan, Twin)
    ]
    assert results[0].correct == pytest.approx((1 / 3,))
    assert results[0].correct == pytest.approx(results[1].correct)


def test_a_shared_weight_with_biases_of_its_own(rng) -> None:
    ops = [
        OpSpec("dense", -1, 4, 4, 0, 16, "tanh"),
        OpSpec("dense", 0, 4, 4, 0, 20, "sigmoid"),
        OpSpec("dense", 1, 4, 2, 24, -1, "linear"),
    ]
    theta, X, y = rng.standard_normal(32), rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    plan = Plan(ops, 32, "squared_error", "float64")
    expected = Twin(ops, 32, "squared_error", "float64").loss_and_gradient(theta, X, y)[1]
    for _ in range(3):  # the same again: nothing adds up from call to call
        np.testing.assert_allclose(plan.loss_and_gradient(theta, X, y)[1], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("specs", "n_parameters"),
    [
        ([OpSpec("dense", -1, 3, 2, 0, 6, "linear")], 9),
        ([OpSpec("dense", -1, 3, 2, 1, 7, "linear")], 9),
        ([OpSpec("dense", -1, 3, 2, 0, 5, "linear")], 7),
    ],
    ids=["gap at the end", "gap at the start", "overlap"],
)
def test_parameters_cover_theta_exactly(specs, n_parameters) -> None:
    with pytest.raises(ValueError, match="without gaps or overlaps"):
        Plan(specs, n_parameters, "squared_error", "float32")


def test_a_missing_target_is_refused() -> None:
    ops, n_parameters = chain([3, 2], ["linear"])
    plan, theta, X = Plan(ops, n_parameters, "cross_entropy", "float32"), np.zeros(8, "f"), np.zeros((4, 3), "f")
    with pytest.raises(TypeError, match="y: expected an array, got None"):
        plan.loss_and_gradient(theta, X, None)
    with pytest.raises(TypeError, match="y: expected an array, got None"):
        plan.train(theta, np.zeros((0, 8), "f"), X, None, None, 2, UpdateRule("sgd", 0.1), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_while_blas_is_held_leaves_the_child_free() -> None:
    before = threads.blas_threads()
    with threads.blas_held_to_one_thread():
        pid = os.fork()
        if pid == 0:
            limits = {library.get_num_threads() for library in threads._blas()}
            os._exit(0 if threads.blas_threads() == before and max(limits) == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
