"""Skipping products with zeros of X changes no bit of any result."""

from __future__ import annotations

import knobs
import numpy as np
import pytest
from engine_cases import chain, mostly_zero, problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from other_sets import examples

import fastnn as fnn
from fastnn._core.engine import Plan
from fastnn.plan import UpdateRule
from fastnn.reference.plan import Plan as ReferencePlan
from fastnn.reference.sparse import SparseRows

pytestmark = pytest.mark.every_simd


@pytest.fixture
def skipping():
    """Nothing runs by feature, and what decides whether zeros of X are skipped may be changed."""
    with knobs.changed(feature_rows=10**9):
        yield


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    knobs.change(zeros_tiles=tiles)
    results = []
    for sample in (0, 8):
        knobs.change(zeros_sample=sample)
        outputs = plan.forward(theta, X, workers)
        value, gradient = plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2, workers)
        results.append((outputs, value, gradient))
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    reference_plan = ReferencePlan(ops, n_parameters, "cross_entropy", dtype)
    expected, expected_gradient = reference_plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2)
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
        knobs.change(zeros_sample=sample)
        start, moments = theta.copy(), np.zeros((2, n_parameters), dtype)
        plan = Plan(ops, n_parameters, "cross_entropy", dtype, 0.5)
        outcome = plan.train(
            start, moments, X, y, order, batch, UpdateRule("adam", 0.003), 0, sample_weight=w, l2=1e-3, threads=workers
        )
        results.append((start, moments, outcome.losses, outcome.correct))
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
    for kind in (Plan, ReferencePlan):
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
    knobs.change(zeros_sample=0)
    assert np.isnan(plan.forward(theta, X)).any()
    knobs.change(zeros_sample=32)
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
    knobs.change(chunk_bytes=float(1 << 32))
    results = []
    for sample in (0, 8):
        knobs.change(zeros_sample=sample)
        plan = Plan(ops, n_parameters, "cross_entropy", dtype)
        results.append([*plan.loss_and_gradient(theta, X, y, threads=2), plan.forward(theta, X)])
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    expected, gradient = ReferencePlan(ops, n_parameters, "cross_entropy", dtype).loss_and_gradient(theta, X, y)
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
    knobs.change(zeros_tiles=tiles)
    results = []
    for sample in (0, 32):
        knobs.change(zeros_sample=sample)
        lin = Plan(ops, n_parameters, "cross_entropy", dtype).linearize(theta, X, y, w, threads=2)
        results.append((lin.loss, lin.outputs, lin.product(V, kind)))
    for dense, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(dense, skipped)
    V[:, 11 * 40 : 12 * 40] = np.nan  # of a feature that is zero everywhere: they are left out
    assert np.isfinite(lin.product(V, kind)).all()


@pytest.mark.usefixtures("own_products")
@pytest.mark.parametrize("batch_norm", [False, True])
def test_skipping_zeros_below_other_layers(skipping, batch_norm, rng) -> None:
    X, y = mostly_zero((400, 90), rng, "float32"), rng.integers(0, 3, 400)
    ends = []
    for sample in (0, 32):
        knobs.change(zeros_sample=sample)
        norm = [fnn.BatchNorm()] if batch_norm else []
        layers = [fnn.Dense(40), *norm, fnn.Activation("relu"), fnn.Dropout(0.3), fnn.Dense(24, "relu"), fnn.Dense(3)]
        net = fnn.Sequential(layers, input_size=90, loss="cross_entropy", seed=0)
        net.fit(X, y, optimizer=fnn.Adam(1e-3), epochs=3, batch_size=50, seed=1)
        ends.append(net.theta.copy())
    np.testing.assert_array_equal(*ends)
