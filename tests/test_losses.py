"""What the losses accept as targets and as options; compiled kernels against the reference, and at extremes."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import fastnn as fnn
from fastnn import kernels, losses, reference

pytestmark = pytest.mark.every_simd

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def check(loss: str, y: object, n: int, k: int, dtype: np.dtype = F64) -> np.ndarray:
    return losses.get(loss).check_targets(y, n, k, dtype)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_integer_type(kind) -> None:
    y = check("cross_entropy", np.array([2, 0, 1], kind), 3, 3)
    assert y.dtype == np.int64
    assert y.tolist() == [2, 0, 1]


def test_labels_of_other_containers() -> None:
    assert check("cross_entropy", [0, 1], 2, 2).tolist() == [0, 1]
    assert check("cross_entropy", pd.Series([1, 0], index=[5, 9]), 2, 2).tolist() == [1, 0]
    assert check("cross_entropy", np.array([True, False]), 2, 2).tolist() == [1, 0]


def test_label_arrays_are_taken_as_they_are() -> None:
    y = np.array([0, 1, 1])
    assert check("cross_entropy", y, 3, 2) is y
    Y = np.eye(3, dtype=np.float32)
    assert check("cross_entropy", Y, 3, 3, F32) is Y


def test_one_hot_rows_of_any_type() -> None:
    for kind in ("bool", "int64", "float32", "float64"):
        Y = check("cross_entropy", np.eye(3).astype(kind), 3, 3, F32)
        assert Y.dtype == np.float32
        np.testing.assert_array_equal(Y, np.eye(3))


def test_soft_rows_of_single_precision() -> None:
    rng = np.random.default_rng(0)
    soft = rng.dirichlet(np.ones(50), size=20).astype(np.float32)
    np.testing.assert_array_equal(check("cross_entropy", soft, 20, 50, F64), soft)


@pytest.mark.parametrize("y", [np.array([0, 1, 1]), np.array([[0], [1], [1]]), np.array([False, True, True])])
def test_binary_targets(y) -> None:
    Y = check("binary_cross_entropy", y, 3, 1, F32)
    assert Y.dtype == np.float32
    assert Y.tolist() == [[0.0], [1.0], [1.0]]


@pytest.mark.parametrize("y", [[1.5, 2.0], [[1.5], [2.0]], pd.DataFrame({"a": [1.5, 2.0]}), np.array([1.5, 2.0], "f2")])
def test_regression_targets(y) -> None:
    assert check("squared_error", y, 2, 1).tolist() == [[1.5], [2.0]]


@pytest.mark.parametrize(
    ("loss", "y", "n", "k", "error", "message"),
    [
        ("cross_entropy", [0, 3], 2, 3, ValueError, r"y: expected labels in \[0, 3\), got 3 in row 1"),
        ("cross_entropy", [0, -1], 2, 3, ValueError, "got -1 in row 1"),
        ("cross_entropy", np.array([2**63], "u8"), 1, 3, ValueError, "got 9223372036854775808 in row 0"),
        ("cross_entropy", [0.0, 1.0], 2, 3, TypeError, r"y: expected integer labels, .*float64; use y.astype\(int\)"),
        ("cross_entropy", ["a", "b"], 2, 3, TypeError, "y: expected numbers, got dtype <U1; encode class names first"),
        ("cross_entropy", np.array(["a", 1], object), 2, 3, TypeError, "y: expected numbers, got dtype object"),
        ("cross_entropy", [1j, 0], 2, 3, TypeError, "y: expected numbers, got dtype complex128"),
        ("cross_entropy", [[0], [1]], 2, 3, ValueError, r"y: expected labels of shape \(2,\), .* use y.ravel\(\)"),
        ("cross_entropy", np.eye(2), 2, 3, ValueError, r"y: expected shape \(2,\) or \(2, 3\), got \(2, 2\)"),
        ("cross_entropy", [0, 1], 3, 3, ValueError, r"y: expected 3 rows like X, got shape \(2,\)"),
        ("cross_entropy", 1, 3, 3, ValueError, r"y: expected 3 rows like X, got shape \(\)"),
        ("cross_entropy", [[1.0, 0.0], [0.5, 0.4]], 2, 2, ValueError, r"sum to 1, got \[0.5, 0.4\] in row 1"),
        ("cross_entropy", [[1.5, -0.5]], 1, 2, ValueError, ">= 0 and sum to 1"),
        ("cross_entropy", scipy.sparse.eye_array(2), 2, 2, TypeError, r"got a sparse .*; use y.toarray\(\)"),
        ("binary_cross_entropy", [0, 2], 2, 1, ValueError, r"y: expected values in \[0, 1\], got 2 in row 1, column 0"),
        ("binary_cross_entropy", [0, 1], 2, 3, ValueError, r"y: expected shape \(2, 3\), got \(2,\)"),
        (
            "binary_cross_entropy",
            [np.nan, 1],
            2,
            1,
            ValueError,
            "y: expected finite values of float64, got nan in row 0",
        ),
        ("poisson", [0.0, 3.0, -0.5], 3, 1, ValueError, "y: expected values >= 0, got -0.5 in row 2, column 0"),
        ("poisson", [0.0, np.inf], 2, 1, ValueError, "got inf in row 1, column 0"),
        ("huber", [0, 1], 2, 3, ValueError, r"y: expected shape \(2, 3\), got \(2,\)"),
        ("absolute_error", ["a", "b"], 2, 1, TypeError, "y: expected numbers, got dtype <U1"),
        ("squared_error", [[1, 2]], 1, 1, ValueError, r"y: expected shape \(1, 1\) or \(1,\), got \(1, 2\)"),
        ("squared_error", [1, np.inf], 2, 1, ValueError, "got inf in row 1, column 0"),
    ],
)
def test_bad_targets(loss, y, n, k, error, message) -> None:
    with pytest.raises(error, match=message):
        check(loss, y, n, k)


def test_target_too_large_for_single_precision() -> None:
    with pytest.raises(ValueError, match=r"y: expected finite values of float32, got 1e\+300 in row 1, column 0"):
        check("squared_error", [1.0, 1e300], 2, 1, F32)


def test_unknown_loss() -> None:
    with pytest.raises(ValueError, match="loss: unknown name 'mse'; known: cross_entropy"):
        losses.get("mse")
    with pytest.raises(TypeError, match=r"loss must be a name \(str\) or a loss such as .*, got 3"):
        losses.get(3)
    with pytest.raises(TypeError, match=r"got .*Huber.*; did you mean Huber\(\)\?"):
        losses.get(losses.Huber)
    with pytest.raises(TypeError, match="loss must be a name"):
        losses.get(losses.Loss())


# Descriptions.


def test_descriptions_are_values() -> None:
    smooth = losses.CrossEntropy(label_smoothing=np.float32(0.5))
    assert smooth == losses.CrossEntropy(0.5)
    assert type(smooth.label_smoothing) is float
    assert pickle.loads(pickle.dumps(smooth)) == smooth
    assert losses.get(smooth) is smooth
    assert smooth.shorthand is smooth
    assert losses.get("cross_entropy").shorthand == "cross_entropy"
    assert smooth.options() == {"label_smoothing": 0.5}


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smoothing_of_two_classes_is_the_softmaxs(backend, dtype) -> None:
    """Logits (0, z) of a softmax and z of a sigmoid: the same loss, gradient, Hessian and accuracy."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)).astype(dtype), rng.integers(0, 2, 60)
    w = rng.random(60)
    found = []
    for loss, outputs in ((losses.BinaryCrossEntropy(0.2), 1), (losses.CrossEntropy(0.2), 2)):
        net = fnn.Sequential([fnn.Dense(outputs)], input_size=3, loss=loss, dtype=dtype, backend=backend, seed=0)
        net.theta[...] = 0.0 if outputs == 2 else [1.0, -2.0, 0.5, 0.3]
        if outputs == 2:
            net.theta[1::2] = [1.0, -2.0, 0.5, 0.3]
        objective = fnn.Objective(net, X, y, w)
        value, gradient = objective.value_and_gradient(net.theta)
        step = slice(None) if outputs == 1 else slice(1, None, 2)
        found.append((value, gradient[step], objective.hessian(net.theta)[step, step], net.evaluate(X, y)["accuracy"]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-6)
    assert found[0][0] > 0.5  # smoothed: it cannot come near 0


def test_smoothing_of_several_labels(tmp_path) -> None:
    """Training with smoothed targets is training with targets that were smoothed before; files keep ε."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 2, (50, 3))
    nets = [
        fnn.Sequential([fnn.Dense(5, "tanh"), fnn.Dense(3)], input_size=4, loss=loss, dtype="float64", seed=0)
        for loss in (losses.BinaryCrossEntropy(label_smoothing=0.1), "binary_cross_entropy")
    ]
    for net, targets in zip(nets, (y, 0.9 * y + 0.05), strict=True):
        net.fit(X, targets, epochs=3, batch_size=16)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-12, atol=1e-14)
    nets[0].save(tmp_path / "net.safetensors")
    assert fnn.load(tmp_path / "net.safetensors").loss_function == losses.BinaryCrossEntropy(0.1)
    with pytest.raises(ValueError, match="label_smoothing must be a finite number >= 0 and < 1, got 1"):
        losses.BinaryCrossEntropy(1.0)


def test_names_and_links() -> None:
    found = {
        name: (losses.get(name).name, losses.get(name).inverse_link, losses.get(name).classifies)
        for name in losses.LOSSES
    }
    assert found == {
        "cross_entropy": ("cross_entropy", "softmax", True),
        "binary_cross_entropy": ("binary_cross_entropy", "sigmoid", True),
        "squared_error": ("squared_error", "identity", False),
        "absolute_error": ("absolute_error", "identity", False),
        "huber": ("huber", "identity", False),
        "poisson": ("poisson", "exp", False),
    }


@pytest.mark.parametrize(
    ("smoothing", "error", "message"),
    [
        (1.0, ValueError, "label_smoothing must be a finite number >= 0 and < 1, got 1.0"),
        (-0.1, ValueError, "label_smoothing must be .* got -0.1"),
        (float("nan"), ValueError, "label_smoothing must be .* got nan"),
        ("0.1", TypeError, "label_smoothing must be .* got '0.1'"),
    ],
)
def test_bad_smoothing(smoothing, error, message) -> None:
    for loss in (losses.CrossEntropy, losses.BinaryCrossEntropy):
        with pytest.raises(error, match=message):
            loss(smoothing)
    if error is ValueError:
        for module in (kernels, reference):
            with pytest.raises(ValueError, match=r"label_smoothing: expected a number in \[0, 1\), got"):
                module.cross_entropy(np.ones((2, 2)), np.array([0, 1]), None, smoothing)
            with pytest.raises(ValueError, match=r"label_smoothing: expected a number in \[0, 1\), got"):
                module.binary_cross_entropy(np.ones((2, 1)), np.ones((2, 1)), None, smoothing)


# Kernels against the reference.

ELEMENTWISE = ["binary_cross_entropy", "squared_error", "absolute_error", "huber", "poisson"]
SHAPES = [(0, 3), (1, 1), (2, 1), (1, 9), (300, 1), (33, 17), (64, 32), (65, 33), (7, 257)]


def both(name: str, *arguments: object, rtol: float) -> None:
    value, delta = getattr(kernels, name)(*arguments)
    expected, expected_delta = getattr(reference, name)(*arguments)
    assert value == pytest.approx(expected, rel=rtol, abs=rtol), delta.shape
    assert delta.dtype == expected_delta.dtype
    np.testing.assert_allclose(delta, expected_delta, rtol=rtol, atol=rtol, err_msg=f"shape {delta.shape}")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_kernel_is_the_reference(name, dtype, rng) -> None:
    for shape, weighted in itertools.product(SHAPES, (False, True)):
        Z = (2 * rng.normal(size=shape)).astype(dtype)
        y = (rng.poisson(2.0, shape) if name == "poisson" else rng.random(shape)).astype(dtype)
        w = rng.integers(0, 3, shape[0]).astype(dtype) if weighted else None
        rtol = 2e-6 if dtype == "float32" else 1e-14
        both(name, Z, y, w, rtol=rtol)
        y.setflags(write=False)
        both(name, np.asfortranarray(Z), y, w, rtol=rtol)
        both(name, Z[::-1], y[::-1], None if w is None else w[::-1], rtol=rtol)


@pytest.mark.parametrize("targets", ["labels", "one-hot", "soft", "unnormalised"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.75])
def test_cross_entropy_is_the_reference(targets, smoothing, dtype, rng) -> None:
    for shape in (shape for shape in SHAPES if shape[0]):
        Z, labels = (3 * rng.normal(size=shape)).astype(dtype), rng.integers(0, shape[1], shape[0])
        y = {
            "labels": labels,
            "one-hot": np.eye(shape[1], dtype=dtype)[labels],
            "soft": rng.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype),
            "unnormalised": rng.random(shape).astype(dtype),
        }[targets]
        w = rng.random(shape[0]).astype(dtype)
        for weight in (None, w):
            both("cross_entropy", Z, y, weight, smoothing, rtol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("smoothing", [0.1, 0.75])
def test_smoothed_binary_cross_entropy(smoothing, dtype, rng) -> None:
    """Both kernels, and the definition −Σ y' log s + (1 − y') log(1 − s) in float64."""
    for shape in (shape for shape in SHAPES if shape[0]):
        Z, y = (2 * rng.normal(size=shape)).astype(dtype), rng.random(shape).round(rng.integers(0, 2)).astype(dtype)
        w = rng.random(shape[0]).astype(dtype)
        rtol = 2e-6 if dtype == "float32" else 1e-14
        both("binary_cross_entropy", Z, y, None, smoothing, rtol=rtol)
        both("binary_cross_entropy", Z, y, w, smoothing, rtol=rtol)
        s, smoothed = 1.0 / (1.0 + np.exp(-Z.astype(np.float64))), (1.0 - smoothing) * y.astype(np.float64)
        smoothed += smoothing / 2.0
        rows = -(smoothed * np.log(s) + (1.0 - smoothed) * np.log1p(-s)).sum(axis=1)
        value, delta = kernels.binary_cross_entropy(Z, y, w, smoothing)
        assert value == pytest.approx(np.average(rows, weights=w), rel=2e-6 if dtype == "float32" else 1e-13)
        expected = w[:, None] * (s - smoothed) / w.sum(dtype=np.float64)
        np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-6 if dtype == "float32" else 1e-14)


both_modules = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])


@both_modules
def test_smoothed_targets_are_soft_targets(module, dtype, rng) -> None:
    Z, y, w = rng.normal(size=(9, 5)).astype(dtype), rng.integers(0, 5, 9), rng.random(9).astype(dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-13
    soft = (0.8 * np.eye(5)[y] + 0.2 / 5).astype(dtype)
    expected, expected_delta = module.cross_entropy(Z, soft, w)
    for target in (y, np.eye(5, dtype=dtype)[y]):
        value, delta = module.cross_entropy(Z, target, w, label_smoothing=0.2)
        assert value == pytest.approx(expected, rel=rtol)
        np.testing.assert_allclose(delta, expected_delta, rtol=0, atol=rtol)


@both_modules
def test_no_smoothing_changes_no_bit(module, dtype, rng) -> None:
    Z, y = rng.normal(size=(70, 3)).astype(dtype), rng.integers(0, 3, 70)
    value, delta = module.cross_entropy(Z, y)
    again, same = module.cross_entropy(Z, y, None, 0.0)
    assert value == again
    np.testing.assert_array_equal(delta, same)


@both_modules
def test_smoothing_of_distant_logits_is_exact(module, dtype) -> None:
    Z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    value, delta = module.cross_entropy(Z, np.array([0, 0]), None, 0.5)
    assert value == pytest.approx((5e3 + 1.5e4) / 2, rel=1e-15)
    np.testing.assert_allclose(delta, [[0.125, -0.125], [-0.375, 0.375]], rtol=1e-7)


@both_modules
def test_absolute_error_has_no_slope_where_it_is_met(module, dtype) -> None:
    Z, y = np.array([[1.0, -2.0, 0.5]], dtype), np.array([[1.0, -1.0, 0.0]], dtype)
    value, delta = module.absolute_error(Z, y)
    assert value == 1.5
    assert delta.tolist() == [[0.0, -1.0, 1.0]]


@both_modules
def test_huber_at_its_seams(module, dtype) -> None:
    Z = np.array([[-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]], dtype)
    value, delta = module.huber(Z, np.zeros_like(Z))
    assert value == 2 * (2.5 + 0.5 + 0.125)
    assert delta.tolist() == [[-1.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_second_derivatives_at_seams_are_the_reference(name, dtype) -> None:
    from fastnn._core import kernels as compiled

    seams = np.array([-1.0, 0.0, 1.0], dtype)
    inside, outside = np.nextafter(seams, dtype(0.0)), np.nextafter(seams, 2 * seams)
    Z = np.tile(np.concatenate([seams, inside, outside]), (5, 4))
    q, y = np.empty_like(Z), np.zeros_like(Z)
    compiled.loss_curvature(compiled.LOSS_CODES[name], *Z.shape, Z, y, q)
    np.testing.assert_allclose(q, reference.losses.loss_curvature(Z, y, name), rtol=16 * np.finfo(dtype).eps)
    if name == "huber":
        np.testing.assert_array_equal(q[0, :9], [1, 1, 1, 1, 1, 1, 0, 1, 0])


@both_modules
def test_large_differences_do_not_overflow(module, dtype) -> None:
    large = 0.75 * float(np.finfo(dtype).max)
    Z = np.array([[large, 1.0]], dtype)
    for name in ("absolute_error", "huber"):
        value, delta = getattr(module, name)(Z, np.ones_like(Z))
        assert value == pytest.approx(large, rel=1e-6)
        assert delta.tolist() == [[1.0, 0.0]]


@both_modules
def test_poisson_of_extreme_rates(module, dtype) -> None:
    top = {"float32": 88.0, "float64": 709.0}[dtype]
    Z, y = np.array([[top], [-1e4], [0.0]], dtype), np.array([[3.0], [0.0], [0.0]], dtype)
    value, delta = module.poisson(Z, y)
    assert value == pytest.approx((np.exp(np.float64(top)) - 3 * top + 1) / 3, rel=1e-6)
    np.testing.assert_allclose(delta[1:, 0], [0.0, 1 / 3], rtol=1e-6)
    # Beyond the dtype both are infinite, unless nobody asks.
    Z[0] = 2 * top
    value, delta = module.poisson(Z, y)
    assert (value, delta[0, 0]) == (np.inf, np.inf)
    value, delta = module.poisson(Z, y, np.array([0, 1, 1], dtype))
    assert value == 0.5
    assert delta.tolist() == [[0.0], [0.0], [0.5]]
    # Many counts: e^z and y z nearly cancel, in single precision too.
    value, _ = module.poisson(np.full((1, 1), np.log(1e4), dtype), np.full((1, 1), 1e4, dtype))
    assert value == pytest.approx(1e4 - 1e4 * np.log(1e4), rel=1e-6)


@both_modules
def test_a_zero_target_takes_no_part(module, dtype) -> None:
    # Its logit may be as far away as it likes: log p is −∞ there, and 0 · (−∞) would be NaN.
    big = np.finfo(dtype).max
    Z = np.array([[big, -big, big], [0.0, -np.inf, 0.0]], dtype)
    y = np.array([[0.5, 0.0, 0.5], [0.25, 0.0, 0.75]], dtype)
    with np.errstate(over="ignore"):
        loss, delta = module.cross_entropy(Z, y)
    assert loss == pytest.approx(np.log(2.0), rel=1e-6)
    np.testing.assert_allclose(delta, [[0.0, 0.0, 0.0], [0.125, 0.0, -0.125]], atol=1e-7)


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_logits_far_apart_do_not_overflow(classes, compiled) -> None:
    from fastnn import kernels

    Z = np.zeros((3, classes), np.float32)
    Z[:, 0], Z[:, 1] = 3e38, -3e38
    weight = np.array([1, 0, 1], np.float32)
    loss, delta = kernels.cross_entropy(Z, np.array([0, 1, 1]), weight)
    assert loss == pytest.approx(6e38 / 2)
    assert np.isfinite(delta).all()


def targets(name: str, rng: np.random.Generator, n: int = 50, k: int = 3) -> np.ndarray:
    if losses.LOSSES[name].takes_labels:
        return rng.integers(0, k, n)
    return rng.integers(0, 2, (n, k)).astype(np.float64)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_facts_are_those_of_the_kernels(name: str) -> None:
    rng = np.random.default_rng(0)
    loss, Z = losses.get(name), rng.normal(size=(50, 3))
    y = targets(name, rng)
    q = reference.losses.loss_curvature(Z, y, name)
    assert loss.has_curvature == bool(q.any())
    residual = Z - y if y.ndim == 2 else Z
    half_squares = 0.5 * float(np.square(residual).sum(axis=1).mean())
    assert loss.least_squares == (loss.value(reference, Z, y, None) == pytest.approx(half_squares, rel=1e-12))
    # the second derivative along (1, 1, 1), which is zero where a softmax couples the outputs
    step = 1e-5
    ends = [getattr(reference, name)(Z + shift, y)[1].sum(axis=1) for shift in (step, -step)]
    curvature = (ends[0] - ends[1]) / (2 * step) * len(Z)
    if name != "huber":  # it has kinks in between
        np.testing.assert_allclose(curvature, 0.0 if loss.couples_outputs else q.sum(axis=1), atol=1e-6)


def test_classes_and_hits() -> None:
    Z = np.array([[2.0, 1.0], [-1.0, 3.0]])
    softmax, sigmoid = losses.CrossEntropy, losses.BinaryCrossEntropy
    assert softmax.hits(Z, np.array([0, 0])).tolist() == [True, False]
    assert softmax.hits(Z, np.array([[0.2, 0.8], [0.1, 0.9]])).tolist() == [False, True]  # the likeliest class counts
    assert sigmoid.hits(Z, np.array([[1.0, 0.9], [1.0, 1.0]])).tolist() == [True, False]  # right in all outputs
    assert [softmax.has_one_class(2), sigmoid.has_one_class(1), sigmoid.has_one_class(2)] == [True, True, False]
    assert not losses.SquaredError.has_one_class(1)
    for call in (losses.Huber.labels, lambda y: losses.Huber.hits(Z, y)):
        with pytest.raises(TypeError, match="the targets of huber are not classes"):
            call(Z)


def test_constants_of_poisson() -> None:
    y = np.array([[0.0, 3.0], [1.0, 2.0]])
    poisson = losses.Poisson
    np.testing.assert_allclose(poisson.constant(y), [math.log(6.0), math.log(2.0)])
    lowest = np.where(y > 0, y - y * np.log(np.where(y > 0, y, 1.0)), 0.0).sum(axis=1)  # ℓ at z = log y
    np.testing.assert_allclose(poisson.deviance_constant(y), -lowest)
    Z = np.array([[0.3, 1.0], [-0.5, 0.2]])
    half = poisson.half_deviance(Z, y, np.exp(Z) - y)
    np.testing.assert_allclose(half.sum(axis=1), (np.exp(Z) - y * Z).sum(axis=1) + poisson.deviance_constant(y))
    for other in (losses.SquaredError, losses.CrossEntropy):
        assert other.constant(y) is other.deviance_constant(y) is other.half_deviance(Z, y, Z) is None


def test_nothing_is_drawn_without_curvature() -> None:
    with pytest.raises(TypeError, match="draw: absolute_error has no likelihood with curvature"):
        losses.AbsoluteError.draw(np.zeros((2, 1)), np.zeros((2, 1)), np.random.default_rng(0))
