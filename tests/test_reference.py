"""The NumPy reference against independent oracles: extended precision, complex step, finite differences."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastnn as fnn
from fastnn import reference
from fastnn.plan import OpSpec, UpdateRule
from fastnn.reference.plan import Plan

TOLERANCE = {"float32": 3e-6, "float64": 1e-14}
SHAPES = [(1, 1), (1, 2), (2, 1), (7, 3), (16, 10), (33, 17)]

logits = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e4, 1e4, width=64)
)


def precise_log_softmax(Z: np.ndarray) -> np.ndarray:
    """Log-softmax in extended precision."""
    Z = Z.astype(np.longdouble)
    Z = Z - Z.max(axis=1, keepdims=True)
    return Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))


# Matrix products.


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (16, 1, 16), (0, 3, 2), (4, 0, 3)])
def test_matmul(shape, transpose_a, transpose_b, dtype, rng) -> None:
    M, K, N = shape
    A, B = rng.normal(size=(M, K)).astype(dtype), rng.normal(size=(K, N)).astype(dtype)
    expected = np.einsum("mk,kn->mn", A.astype(np.longdouble), B.astype(np.longdouble))
    C = reference.matmul(A.T.copy() if transpose_a else A, B.T.copy() if transpose_b else B, transpose_a, transpose_b)
    assert C.dtype == dtype
    assert C.flags.c_contiguous
    np.testing.assert_allclose(C, expected, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("A", "B", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), ValueError, r"B: expected 3 rows .* \(2, 3\), got shape \(2, 3\)"),
        (np.ones((2, 3)), np.ones((3, 2), np.float32), TypeError, "B: expected dtype float64 like .* got float32"),
        (np.ones((2, 3), int), np.ones((3, 2)), TypeError, "A: expected dtype float32 or float64, got int64"),
        (np.ones(3), np.ones((3, 2)), ValueError, r"A: expected shape \(M, K\), got \(3,\)"),
    ],
)
def test_matmul_refuses(A, B, error, message) -> None:
    with pytest.raises(error, match=message):
        reference.matmul(A, B)


# Softmax.


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_against_extended_precision(shape, dtype, rng) -> None:
    Z = (4 * rng.normal(size=shape)).astype(dtype)
    before = Z.copy()
    expected = precise_log_softmax(Z)
    for function, values in ((reference.softmax, np.exp(expected)), (reference.log_softmax, expected)):
        result = function(Z)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, values, rtol=5 * TOLERANCE[dtype], atol=5 * TOLERANCE[dtype])
    np.testing.assert_array_equal(Z, before)


@given(logits)
def test_softmax_is_a_distribution_at_any_size(Z) -> None:
    P = reference.softmax(Z)
    assert (P >= 0).all()
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-14)
    log_P = reference.log_softmax(Z)
    assert np.isfinite(log_P).all()
    np.testing.assert_allclose(np.exp(log_P), P, rtol=1e-10, atol=1e-300)


def test_softmax_ignores_a_common_shift(dtype, rng) -> None:
    Z = rng.integers(-8, 8, size=(5, 4)).astype(dtype)
    np.testing.assert_array_equal(reference.softmax(Z + 1024), reference.softmax(Z))


def test_softmax_of_no_rows_and_of_no_columns() -> None:
    assert reference.softmax(np.empty((0, 3))).shape == (0, 3)
    for function in (reference.softmax, reference.log_softmax):
        with pytest.raises(ValueError, match=r"Z: expected at least one column, got shape \(3, 0\)"):
            function(np.empty((3, 0)))


def test_softmax_jacobian_against_complex_step(rng, complex_step_gradient) -> None:
    Z = rng.normal(size=(6, 4))
    J = reference.softmax_jacobian(reference.softmax(Z))
    for n, k in itertools.product(range(6), range(4)):
        row = complex_step_gradient(lambda z, k=k: np.exp(z[k]) / np.exp(z).sum(), Z[n])
        np.testing.assert_allclose(J[n, k], row, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(J, J.transpose(0, 2, 1))


@given(logits)
def test_softmax_vjp_is_the_jacobian_times_a_vector(Z) -> None:
    P, V = reference.softmax(Z), np.cos(Z)
    expected = np.einsum("nkj,nj->nk", reference.softmax_jacobian(P), V)
    np.testing.assert_allclose(reference.softmax_vjp(P, V), expected, rtol=0, atol=1e-14)


# Losses.


def oracle(loss: str, Z: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Loss of every row by its definition, for real or complex Z of moderate size."""
    if loss == "cross_entropy":
        return -(Y * (Z - np.log(np.exp(Z).sum(axis=1, keepdims=True)))).sum(axis=1)
    if loss == "binary_cross_entropy":
        S = 1 / (1 + np.exp(-Z))
        return -(Y * np.log(S) + (1 - Y) * np.log(1 - S)).sum(axis=1)
    if loss == "poisson":
        return (np.exp(Z) - Y * Z).sum(axis=1)
    D = Z - Y
    if loss == "absolute_error":
        return (np.sign(D.real) * D).sum(axis=1)
    if loss == "huber":
        return np.where(np.abs(D.real) <= 1, 0.5 * D**2, np.sign(D.real) * D - 0.5).sum(axis=1)
    return 0.5 * (D**2).sum(axis=1)


LOSSES = ["cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "poisson"]


def targets(loss: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    if loss == "cross_entropy":
        return rng.dirichlet(np.ones(shape[1]), size=shape[0])
    if loss == "poisson":
        return rng.poisson(2.0, shape).astype(float)
    return rng.random(shape) if loss == "binary_cross_entropy" else rng.normal(size=shape)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_against_its_definition(loss, shape, weighted, dtype, rng, complex_step_gradient) -> None:
    Z, Y = rng.normal(size=shape).astype(dtype), targets(loss, shape, rng).astype(dtype)
    w = rng.random(shape[0]).astype(dtype) if weighted else None
    W = np.ones(shape[0]) if w is None else w.astype(np.float64)

    def mean(z: np.ndarray) -> complex:
        return (oracle(loss, z.reshape(shape), Y.astype(np.float64)) * W).sum() / W.sum()

    value, delta = getattr(reference, loss)(Z, Y, w)
    assert type(value) is float
    assert delta.dtype == dtype
    z = Z.astype(np.float64).ravel()
    np.testing.assert_allclose(value, mean(z).real, rtol=10 * TOLERANCE[dtype], atol=1e-15)
    expected = complex_step_gradient(mean, z).reshape(shape)
    np.testing.assert_allclose(delta, expected, rtol=0, atol=10 * TOLERANCE[dtype])


def test_labels_are_one_hot_rows(dtype, rng) -> None:
    Z, y = rng.normal(size=(9, 4)).astype(dtype), rng.integers(0, 4, size=9)
    w = rng.random(9).astype(dtype)
    a, A = reference.cross_entropy(Z, y, w)
    b, B = reference.cross_entropy(Z, np.eye(4, dtype=dtype)[y], w)
    assert a == pytest.approx(b, rel=1e-6)
    np.testing.assert_allclose(A, B, rtol=0, atol=1e-7)


def test_soft_targets_need_not_sum_to_one(rng, complex_step_gradient) -> None:
    Z, Y = rng.normal(size=(5, 3)), rng.random((5, 3))
    value, delta = reference.cross_entropy(Z, Y)
    expected = complex_step_gradient(lambda z: oracle("cross_entropy", z.reshape(5, 3), Y).mean(), Z.ravel())
    assert value == pytest.approx(oracle("cross_entropy", Z, Y).mean(), rel=1e-14)
    np.testing.assert_allclose(delta.ravel(), expected, rtol=0, atol=1e-15)


def test_losses_of_huge_logits_are_exact(dtype) -> None:
    Z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    value, delta = reference.cross_entropy(Z, np.array([0, 0]))
    assert value == 1e4
    np.testing.assert_array_equal(delta, np.array([[0, 0], [-0.5, 0.5]], dtype))
    value, delta = reference.binary_cross_entropy(Z, np.array([[1, 0], [1, 1]], dtype))
    assert value == 5e3
    np.testing.assert_array_equal(delta, np.array([[0, 0], [-0.5, 0]], dtype))


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_smoothed_loss_against_its_definition(shape, smoothing, dtype, rng, complex_step_gradient) -> None:
    Z, Y = rng.normal(size=shape).astype(dtype), targets("cross_entropy", shape, rng).astype(dtype)
    smooth = (1 - smoothing) * Y.astype(np.float64) + smoothing / shape[1]
    value, delta = reference.cross_entropy(Z, Y, None, smoothing)

    def mean(z: np.ndarray) -> complex:
        return oracle("cross_entropy", z.reshape(shape), smooth).mean()

    z = Z.astype(np.float64).ravel()
    np.testing.assert_allclose(value, mean(z).real, rtol=10 * TOLERANCE[dtype], atol=1e-15)
    expected = complex_step_gradient(mean, z).reshape(shape)
    np.testing.assert_allclose(delta, expected, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("loss", LOSSES)
def test_no_weight_is_no_loss(loss, dtype, rng) -> None:
    Z, Y = rng.normal(size=(3, 2)).astype(dtype), np.full((3, 2), 0.5, dtype)
    value, delta = getattr(reference, loss)(Z, Y, np.zeros(3, dtype))
    assert value == 0.0
    assert not delta.any()
    value, delta = getattr(reference, loss)(Z[:0], Y[:0])
    assert value == 0.0
    assert delta.shape == (0, 2)


def test_loss_sums_in_double() -> None:
    n = 1 << 20
    Z = np.full((n, 1), 0.1, np.float32)
    value, _ = reference.squared_error(Z, np.zeros_like(Z))
    assert value == pytest.approx(0.5 * float(np.float32(0.1)) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reference.cross_entropy(np.ones((2, 3)), np.array([0, 3])), ValueError, r"\[0, 3\), got 3 in row 1"),
        (lambda: reference.cross_entropy(np.ones((2, 3)), np.array([-1, 0])), ValueError, "got -1 in row 0"),
        (lambda: reference.cross_entropy(np.ones((2, 3)), np.array([0])), ValueError, r"y: expected shape \(2,\)"),
        (lambda: reference.cross_entropy(np.ones((2, 3)), np.ones((2, 2))), ValueError, r"y: expected shape \(2, 3\)"),
        (lambda: reference.cross_entropy(np.ones((2, 3)), np.ones(2, np.int32)), TypeError, "int64 .* got int32"),
        (lambda: reference.squared_error(np.ones((2, 3)), np.ones((3, 2))), ValueError, r"y: .*\(2, 3\), got \(3, 2\)"),
        (lambda: reference.squared_error(np.ones((2, 1), np.float16), np.ones((2, 1))), TypeError, "Z: .* got float16"),
        (
            lambda: reference.binary_cross_entropy(np.ones((2, 1)), np.ones((2, 1)), np.ones(3)),
            ValueError,
            r"sample_weight: expected shape \(2,\), got \(3,\)",
        ),
        (
            lambda: reference.squared_error(np.ones((2, 1)), np.ones((2, 1)), np.ones(2, np.float32)),
            TypeError,
            "sample_weight: expected dtype float64 like the other arguments, got float32",
        ),
    ],
)
def test_loss_refuses(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


# The fully connected layer.


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_dense_against_finite_differences(activation, rng, numerical_gradient) -> None:
    X, W, b, V = (rng.normal(size=shape) for shape in ((5, 4), (4, 3), (3,), (5, 3)))

    def value(x: np.ndarray) -> float:
        A, _ = reference.dense_forward(x[:20].reshape(5, 4), x[20:32].reshape(4, 3), x[32:].copy(), activation)
        return float((A * V).sum())

    A, Z = reference.dense_forward(X, W, b, activation)
    np.testing.assert_allclose(Z, np.einsum("ni,ij->nj", X, W) + b, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(A, reference.activation_forward(Z, activation))
    dX, dW, db = reference.dense_backward(X, W, Z, V, activation)
    expected = numerical_gradient(value, np.concatenate([X.ravel(), W.ravel(), b]))
    np.testing.assert_allclose(np.concatenate([dX.ravel(), dW.ravel(), db]), expected, rtol=0, atol=1e-9)


def test_dense_without_bias_and_without_input_gradient(dtype, rng) -> None:
    X, W = rng.normal(size=(5, 4)).astype(dtype), rng.normal(size=(4, 3)).astype(dtype)
    A, Z = reference.dense_forward(X, W)
    np.testing.assert_allclose(A, X @ W, rtol=1e-6)
    dX, dW, db = reference.dense_backward(X, W, Z, np.ones_like(Z), input_gradient=False)
    assert dX is None
    assert dW.dtype == db.dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reference.dense_forward(np.ones((2, 3)), np.ones((2, 3))), r"W: expected shape \(3, n_out\)"),
        (lambda: reference.dense_forward(np.ones((2, 3)), np.ones((3, 2)), np.ones(3)), r"b: expected shape \(2,\)"),
        (lambda: reference.dense_forward(np.ones((2, 3)), np.ones((3, 2)), None, "no"), "activation"),
        (
            lambda: reference.dense_backward(np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 2)), np.ones((2, 3))),
            r"dA: expected shape \(2, 2\), got \(2, 3\)",
        ),
    ],
)
def test_dense_refuses(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# A whole network.


def test_plan_with_shared_parameters(rng, numerical_gradient) -> None:
    # Two operations use one weight, two others one weight and one bias: gradients must add up.
    ops = [
        OpSpec("dense", -1, 3, 3, 0, 9, "tanh"),
        OpSpec("dense", 0, 3, 3, 12, -1, "sigmoid"),
        OpSpec("dense", 1, 3, 3, 12, 21, "softplus"),
        OpSpec("dense", 2, 3, 3, 0, 9, "tanh"),
        OpSpec("dense", 3, 3, 2, 24, 30, "linear"),
    ]
    plan = Plan(ops, 32, "squared_error", "float64", input_scale=0.5)
    theta, X, Y = rng.normal(size=32), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    value, grad = plan.loss_and_gradient(theta, X, Y, l1=0.1, l2=0.3)
    expected = numerical_gradient(lambda t: plan.loss_and_gradient(t, X, Y, l1=0.1, l2=0.3, gradient=False)[0], theta)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-9)
    weights = np.concatenate([theta[:9], theta[12:21], theta[24:30]])
    data = plan.loss_and_gradient(theta, X, Y)[0]
    assert value == pytest.approx(data + 0.1 * np.abs(weights).sum() + 0.15 * (weights**2).sum(), rel=1e-14)


@pytest.mark.parametrize(
    ("ops", "n", "options", "message"),
    [
        ([], 4, {}, "ops: expected at least one operation"),
        ([OpSpec("dense", 0, 2, 2, 0, -1, "relu")], 4, {}, r"ops\[0\]: expected to read .* input -1, got 0"),
        ([OpSpec("conv", -1, 2, 2, 0, -1, "relu")], 4, {}, r"ops\[0\]: .* does not fit"),
        ([OpSpec("dense", -1, 2, 2, 0, 3, "relu")], 4, {}, r"ops\[0\]: .* does not fit"),
        ([OpSpec("dense", -1, 2, 2, 0, -1, "relu")], 4, {"loss": "hinge"}, "loss: unknown name 'hinge'"),
        ([OpSpec("dense", -1, 2, 2, 0, -1, "relu")], 4, {"dtype": "float16"}, "dtype must be .* got 'float16'"),
    ],
)
def test_plan_refuses(ops, n, options, message) -> None:
    arguments = {"loss": "squared_error", "dtype": "float64", **options}
    with pytest.raises(ValueError, match=message):
        Plan(ops, n, **arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"theta": np.zeros(3)}, ValueError, r"theta: expected shape \(2,\), got \(3,\)"),
        ({"theta": np.zeros(2, np.float32)}, TypeError, "theta: expected dtype float64"),
        ({"moments": np.zeros((1, 2))}, ValueError, r"moments: expected shape \(0, 2\), got \(1, 2\)"),
        ({"X": np.zeros((4, 1), np.int64)}, TypeError, "X: expected dtype float32, float64 or uint8, got int64"),
        ({"X": np.zeros((4, 2))}, ValueError, r"X: expected shape \(N, 1\), got \(4, 2\)"),
        ({"y": np.zeros((3, 1))}, ValueError, "y: expected 4 rows like X"),
        ({"order": np.array([[0, 4]])}, ValueError, r"order: expected row indices in \[0, 4\)"),
        ({"order": np.array([0, 1])}, TypeError, "order: expected a 2-D int64 array"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer >= 1, got 0"),
    ],
)
def test_train_refuses(changes, error, message) -> None:
    plan = Plan([OpSpec("dense", -1, 1, 1, 0, 1, "linear")], 2, "squared_error", "float64")
    arguments = {
        "theta": np.zeros(2),
        "moments": np.zeros((0, 2)),
        "X": np.ones((4, 1)),
        "y": np.ones((4, 1)),
        "order": None,
        "batch_size": 2,
        "optimizer": UpdateRule("sgd", 0.1),
        "step": 0,
        **changes,
    }
    with pytest.raises(error, match=message):
        plan.train(**arguments)


def test_train_goes_over_the_rows_it_is_given() -> None:
    # One parameter, squared error, batch of one: θ ← θ + η x (y − θ x), by hand.
    plan = Plan([OpSpec("dense", -1, 1, 1, 0, -1, "linear")], 1, "squared_error", "float64")
    theta, X, y = np.array([0.5]), np.array([[1.0], [2.0], [-1.0]]), np.array([[1.0], [0.0], [2.0]])
    order = np.array([[2, 0, 1], [1, 1, 0]])
    result = plan.train(theta, np.zeros((0, 1)), X, y, order, 1, UpdateRule("sgd", 0.1), 5)
    t, losses = 0.5, []
    for rows in order:
        values = []
        for row in rows:
            error = t * X[row, 0] - y[row, 0]
            values.append(0.5 * error**2)
            t -= 0.1 * error * X[row, 0]
        losses.append(np.mean(values))
    assert theta[0] == pytest.approx(t, rel=1e-14)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-14)
    assert result == (result.losses, None, 11, "ok", None, (0.0, 0.0), ())


@pytest.mark.parametrize("name", [name for name in reference.__all__ if name not in ("ACTIVATIONS", "SAVES_OUTPUT")])
def test_compiled_kernel_has_the_same_signature(name, compiled) -> None:
    def plain(function):
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert plain(getattr(fnn.kernels, name)) == plain(getattr(reference, name))
