"""The compiled engine against the reference: outputs, losses and gradients of random networks, and what it refuses."""

from __future__ import annotations

import knobs
import numpy as np
import pytest
from engine_cases import LOSSES, TOLERANCE, chain, problem
from hypothesis import given, settings
from hypothesis import strategies as st
from other_sets import examples

from fastnn import reference
from fastnn._core.engine import Plan
from fastnn.plan import OpSpec, UpdateRule
from fastnn.reference.activations import ACTIVATIONS
from fastnn.reference.plan import Plan as ReferencePlan

pytestmark = pytest.mark.every_simd


@settings(max_examples=examples(60), deadline=None)
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
def test_loss_and_gradient_are_those_of_the_reference(
    sizes, activation, loss, dtype, rows, workers, soft, weighted, smoothing, seed
) -> None:
    rng = np.random.default_rng(seed)
    ops, n_parameters = chain(sizes, [activation] * (len(sizes) - 2) + ["linear"])
    theta, X, y, w = problem(sizes, loss, dtype, rows, rng, soft=soft and loss == "cross_entropy")
    w = w if weighted else None
    options = {"label_smoothing": smoothing} if loss in ("cross_entropy", "binary_cross_entropy") else {}
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0):
        plan = Plan(ops, n_parameters, loss, dtype, **options)
        value, gradient = plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2, workers)
        outputs = plan.forward(theta, X, workers)
    reference_plan = ReferencePlan(ops, n_parameters, loss, dtype, **options)
    expected, expected_gradient = reference_plan.loss_and_gradient(theta, X, y, w, 1e-3, 1e-2)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
    scale = 1 + abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance * scale)
    expected_outputs = reference_plan.forward(theta, X)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=0, atol=tolerance * (1 + abs(expected_outputs).max()))


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
    expected, expected_gradient = ReferencePlan(ops, len(theta), "cross_entropy", dtype).loss_and_gradient(
        theta, X, y, w
    )
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert value == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance * (1 + abs(expected_gradient).max()))


@pytest.mark.parametrize("kind", [Plan, ReferencePlan])
def test_smoothing_is_for_cross_entropies(kind) -> None:
    ops, n_parameters = chain([3, 2], ["linear"])
    for loss, smoothing in (("huber", 0.1), ("cross_entropy", 1.0), ("binary_cross_entropy", -0.1)):
        with pytest.raises(ValueError, match=rf"label_smoothing: expected .* or 0 for {loss}, got {smoothing}"):
            kind(ops, n_parameters, loss, "float32", label_smoothing=smoothing)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(9, 100, 10), (70, 64, 3), (5, 37, 1), (33, 130, 17), (12, 65, 33), (90, 257, 32)])
def test_gradients_of_few_outputs_are_those_of_the_reference(sizes, dtype, rng, own_products) -> None:
    """They are computed transposed where that fills the vectors, in one chunk, in several, and while training."""
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "squared_error", dtype, 150, rng)
    plan, reference_plan = (
        Plan(ops, n_parameters, "squared_error", dtype),
        ReferencePlan(ops, n_parameters, "squared_error", dtype),
    )
    _, expected = reference_plan.loss_and_gradient(theta, X, y, w)
    atol = (1e-5 if dtype == "float32" else 1e-13) * abs(expected).max()
    for chunk in ({}, {"chunk_bytes": 1.0}):  # of no more bytes than 16 rows have
        with knobs.changed(**chunk):
            np.testing.assert_allclose(plan.loss_and_gradient(theta, X, y, w)[1], expected, rtol=0, atol=atol)
    rule, results = UpdateRule("sgd", 0.01), []
    for kind in (plan, reference_plan):
        trained = theta.copy()
        kind.train(trained, np.zeros((0, n_parameters), dtype), X, y, None, 50, rule, 0)
        results.append(trained)
    np.testing.assert_allclose(*results, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_batch_in_many_chunks_is_that_of_the_reference(dtype, rng) -> None:
    sizes = [300, 200, 4]
    ops, n_parameters = chain(sizes, ["silu", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 3000, rng)
    theta *= 0.1
    plan, reference_plan = (
        Plan(ops, n_parameters, "cross_entropy", dtype),
        ReferencePlan(ops, n_parameters, "cross_entropy", dtype),
    )
    expected, expected_gradient = reference_plan.loss_and_gradient(theta, X, y, w)
    for workers in (1, 2, 3):
        value, gradient = plan.loss_and_gradient(theta, X, y, w, threads=workers)
        assert value == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
        atol = (1e-5 if dtype == "float32" else 1e-13) * abs(expected_gradient).max()
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=atol)


def test_products_by_blas_are_the_same(rng) -> None:
    sizes = [50, 60, 70, 2]
    ops, n_parameters = chain(sizes, ["tanh", "relu", "linear"])
    for dtype in ("float32", "float64"):
        theta, X, y, _ = problem(sizes, "squared_error", dtype, 80, rng)
        theta *= 0.2
        plan = Plan(ops, n_parameters, "squared_error", dtype)
        values = []
        for threshold in (0.0, np.inf):
            with knobs.changed(blas_work=threshold):
                values.append(plan.loss_and_gradient(theta, X, y))
        (loss, gradient), (own_loss, own_gradient) = values
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        assert loss == pytest.approx(own_loss, rel=tolerance)
        np.testing.assert_allclose(gradient, own_gradient, rtol=0, atol=tolerance * abs(gradient).max())


def test_shared_weights_are_those_of_the_reference(rng) -> None:
    ops = [
        OpSpec("dense", -1, 4, 5, 0, 20, "tanh"),
        OpSpec("dense", 0, 5, 5, 25, 50, "tanh"),
        OpSpec("dense", 1, 5, 5, 25, 50, "sigmoid"),
        OpSpec("dense", 2, 5, 2, 55, 65, "linear"),
    ]
    theta = rng.standard_normal(67)
    X, y = rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    value, gradient = Plan(ops, 67, "squared_error", "float64").loss_and_gradient(theta, X, y, l2=0.1)
    expected, expected_gradient = ReferencePlan(ops, 67, "squared_error", "float64").loss_and_gradient(
        theta, X, y, l2=0.1
    )
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-12)


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


def test_a_shared_weight_with_biases_of_its_own(rng) -> None:
    ops = [
        OpSpec("dense", -1, 4, 4, 0, 16, "tanh"),
        OpSpec("dense", 0, 4, 4, 0, 20, "sigmoid"),
        OpSpec("dense", 1, 4, 2, 24, -1, "linear"),
    ]
    theta, X, y = rng.standard_normal(32), rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    plan = Plan(ops, 32, "squared_error", "float64")
    expected = ReferencePlan(ops, 32, "squared_error", "float64").loss_and_gradient(theta, X, y)[1]
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
