"""Narrow networks, which run by feature, against those that run by row and the reference."""

from __future__ import annotations

import knobs
import numpy as np
import pytest
from engine_cases import LOSSES, TOLERANCE, chain, problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from other_sets import examples

from fastnn._core.engine import Plan
from fastnn.plan import OpSpec, UpdateRule
from fastnn.reference.activations import ACTIVATIONS
from fastnn.reference.plan import Plan as ReferencePlan
from fastnn.reference.sparse import SparseRows

pytestmark = pytest.mark.every_simd


@pytest.fixture
def by_feature():
    """All narrow networks run by feature, in chunks of 135 rows."""
    with knobs.changed(feature_rows=0, feature_chunk=135, feature_margin=0.0):
        yield


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
def test_narrow_networks_by_feature_are_those_of_the_reference(
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
    expected, expected_gradient = ReferencePlan(ops, n_parameters, loss, dtype).loss_and_gradient(
        theta, X, y, w, 1e-3, 1e-2
    )
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
        knobs.change(feature_rows=from_rows)
        start, moments = theta.copy(), np.zeros((2, n_parameters), dtype)
        plan = Plan(ops, n_parameters, "cross_entropy", dtype)
        rule = UpdateRule("adam", 0.003, weight_decay=0.1)
        outcome = plan.train(start, moments, X, y, order, batch, rule, 0, sample_weight=w, l2=1e-3)
        results.append((start, moments, outcome.losses, outcome.correct))
    for ours, other in zip(*results, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=TOLERANCE[dtype])
