"""Batch and layer normalisation: compiled against the reference, and the reference against independent oracles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastnn as fnn
from fastnn import reference

pytestmark = pytest.mark.every_simd

TOLERANCE = {"float32": 4e-6, "float64": 1e-14}
SHAPES = [(1, 1), (1, 7), (2, 1), (3, 2), (7, 15), (8, 16), (9, 17), (17, 31), (33, 64), (64, 65), (5, 300), (300, 5)]
KINDS = ["batch_norm", "layer_norm"]


@pytest.fixture
def kernels(compiled):
    """The compiled kernels."""
    from fastnn import kernels

    return kernels


@pytest.fixture
def core(compiled):
    """The stages of the compiled kernels."""
    from fastnn._core import kernels

    return kernels


def arrays(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> tuple[np.ndarray, ...]:
    """Z, gamma, beta and delta."""
    N, D = shape
    sizes = ((N, D), (D,), (D,), (N, D))
    Z, gamma, beta, delta = (rng.normal(size=size).astype(dtype) for size in sizes)
    return 3 * Z + 1, gamma, beta, delta


def forward_backward(module, kind: str, Z, gamma, beta, delta, epsilon=1e-5) -> tuple[np.ndarray, ...]:
    """All results of both passes of batch_norm or layer_norm."""
    if kind == "batch_norm":
        out, mean, variance = module.batch_norm_forward(Z, gamma, beta, epsilon)
        return out, mean, variance, *module.batch_norm_backward(delta, Z, gamma, mean, variance, epsilon)
    out, U, inv_std = module.layer_norm_forward(Z, gamma, beta, epsilon)
    return out, U, inv_std, *module.layer_norm_backward(delta, U, gamma, inv_std)


def assert_close(ours, theirs, tolerance: float) -> None:
    for x, y in zip(ours, theirs, strict=True):
        assert x.shape == y.shape
        scale = max(1.0, float(np.abs(y).max()))
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_against_the_reference(kind, shape, dtype, rng, kernels) -> None:
    given = arrays(rng, shape, dtype)
    before = [x.copy() for x in given]
    epsilon = 1e-2  # of the size of the variance of a few rows: the result is not sensitive to rounding
    ours = forward_backward(kernels, kind, *given, epsilon)
    theirs = forward_backward(reference, kind, *given, epsilon)
    assert all(x.dtype == y.dtype == dtype for x, y in zip(ours, theirs, strict=True))
    assert_close(ours, theirs, 10 * TOLERANCE[dtype])
    for x, y in zip(given, before, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_any_strides_and_read_only(kind, dtype, rng, kernels) -> None:
    given = arrays(rng, (11, 13), dtype)
    awkward = []
    for x in given:
        wide = np.zeros(tuple(2 * n for n in x.shape), dtype, order="F")
        view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
        view[...] = x
        view.flags.writeable = False
        awkward.append(view)
    for module in (kernels, reference):
        plain = forward_backward(module, kind, *given)
        assert_close(forward_backward(module, kind, *awkward), plain, TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(1, 16), (19, 32), (37, 512), (33, 528), (8, 1040)])
def test_results_do_not_depend_on_the_place_in_a_cache_line(shape, dtype, rng, kernels) -> None:
    """Rows of whole lines go by aligned vectors, and the columns before the first one on their own."""

    def at(offset: int, values: np.ndarray) -> np.ndarray:
        raw = np.empty(values.nbytes + 128, np.uint8)
        array = np.ndarray(shape, dtype, raw, (offset - raw.ctypes.data) % 64)
        array[...] = values
        return array

    Z, gamma, _, delta = arrays(rng, shape, dtype)
    offsets = (0, 8, 16, 48, 56)
    mean, variance = Z.mean(0), Z.var(0)
    expected = kernels.batch_norm_backward(at(0, delta), at(0, Z), gamma, mean, variance)
    assert_close(expected, reference.batch_norm_backward(delta, Z, gamma, mean, variance), TOLERANCE[dtype])
    for first, second in itertools.product(offsets, offsets):
        ours = kernels.batch_norm_backward(at(first, delta), at(second, Z), gamma, mean, variance)
        for x, y in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_misaligned_arrays_and_lists(kind, dtype, rng, kernels) -> None:
    given = arrays(rng, (11, 13), dtype)
    odd = []
    for x in given:
        view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
        view[...] = x
        assert not view.flags.aligned
        odd.append(view)
    plain = forward_backward(kernels, kind, *given)
    assert_close(forward_backward(kernels, kind, *odd), plain, TOLERANCE[dtype])
    if dtype == "float64":  # what lists of numbers become
        assert_close(forward_backward(kernels, kind, *(x.tolist() for x in given)), plain, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (6, 1)])
def test_reference_against_complex_step(kind, shape, rng, complex_step_gradient) -> None:
    Z, gamma, beta, delta = arrays(rng, shape, "float64")
    N, D = shape
    axis = 0 if kind == "batch_norm" else 1

    def value(x: np.ndarray) -> complex:
        z, g, b = x[: N * D].reshape(N, D), x[N * D : N * D + D], x[N * D + D :]
        centred = z - z.mean(axis=axis, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(axis=axis, keepdims=True) + 1e-5)
        return ((g * normalised + b) * delta).sum()

    results = forward_backward(reference, kind, Z, gamma, beta, delta)
    x = np.concatenate([Z.ravel(), gamma, beta])
    assert (results[0] * delta).sum() == pytest.approx(value(x).real, rel=1e-12)
    dZ, dgamma, dbeta = results[-3:]
    expected = complex_step_gradient(value, x)
    np.testing.assert_allclose(np.concatenate([dZ.ravel(), dgamma, dbeta]), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_reference_against_finite_differences(kind, rng, numerical_gradient) -> None:
    Z, gamma, beta, delta = arrays(rng, (6, 4), "float64")
    forward = getattr(reference, f"{kind}_forward")
    expected = numerical_gradient(lambda z: float((forward(z.reshape(6, 4), gamma, beta)[0] * delta).sum()), Z.ravel())
    dZ = forward_backward(reference, kind, Z, gamma, beta, delta)[-3]
    np.testing.assert_allclose(dZ.ravel(), expected, rtol=0, atol=1e-9)


def four_fold_loop(U: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Reverse differential of the normalisation, component by component as a loop fills it; features in
    rows, examples in columns."""
    m, n = U.shape
    tensor = np.zeros((m, n, m, n))
    for alpha, beta, i, j in itertools.product(range(m), range(n), range(m), range(n)):
        tensor[alpha, beta, i, j] = (alpha == i) * theta[alpha] * ((j == beta) - (1 + U[alpha, j] * U[alpha, beta]) / n)
    return tensor.transpose(2, 3, 0, 1)


def test_batch_norm_is_the_four_fold_loop(rng, kernels) -> None:
    Z, gamma, beta, delta = arrays(rng, (7, 3), "float64")
    for module in (kernels, reference):
        _, mean, variance = module.batch_norm_forward(Z, gamma, beta)
        theta = 1 / np.sqrt(variance + 1e-5)
        U = (Z - mean) * theta
        tensor = four_fold_loop(U.T, theta)
        expected = np.einsum("ijkl,kl->ij", tensor, (gamma * delta).T).T
        dZ, dgamma, dbeta = module.batch_norm_backward(delta, Z, gamma, mean, variance)
        np.testing.assert_allclose(dZ, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(dgamma, (U * delta).sum(axis=0), rtol=0, atol=1e-13)
        np.testing.assert_allclose(dbeta, delta.sum(axis=0), rtol=0, atol=1e-13)


def test_layer_norm_is_batch_norm_of_the_transpose(rng, kernels) -> None:
    Z, _, _, delta = arrays(rng, (9, 21), "float64")
    ones, zeros = np.ones(21), np.zeros(21)
    out, U, inv_std = kernels.layer_norm_forward(Z, ones, zeros)
    other, mean, variance = kernels.batch_norm_forward(Z.T, ones[:9], zeros[:9])
    np.testing.assert_allclose(out, other.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(variance + 1e-5), rtol=1e-13)
    dZ = kernels.layer_norm_backward(delta, U, ones, inv_std)[0]
    transposed = kernels.batch_norm_backward(delta.T, Z.T, ones[:9], mean, variance)[0].T
    np.testing.assert_allclose(dZ, transposed, rtol=0, atol=1e-13)


# Numerical robustness.


@pytest.mark.parametrize("order", ["random", "sorted", "outlier first"])
@pytest.mark.parametrize("N", [100, 5000])
def test_columns_far_from_zero(N, order, rng, kernels) -> None:
    Z = 1e4 + rng.normal(size=(N, 20))
    if order == "sorted":
        Z.sort(axis=0)
    elif order == "outlier first":
        Z[0] += 100
    Z = Z.astype(np.float32)
    gamma, beta = np.ones(20, np.float32), np.zeros(20, np.float32)
    exact = Z.astype(np.float64)
    normalised = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-5)
    spacing = float(np.spacing(np.float32(1e4)))
    delta = rng.normal(size=Z.shape).astype(np.float32)
    dZ = reference.batch_norm_backward(delta.astype(float), exact, np.ones(20), exact.mean(axis=0), exact.var(axis=0))[
        0
    ]
    for module in (kernels, reference):
        out, mean, variance = module.batch_norm_forward(Z, gamma, beta)
        np.testing.assert_allclose(
            mean, exact.mean(axis=0), rtol=0, atol=0.51 * spacing if module is kernels else spacing
        )
        np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-4)
        np.testing.assert_allclose(out, normalised, rtol=1e-4, atol=spacing)
        ours = module.batch_norm_backward(delta, Z, gamma, mean, variance)[0]
        np.testing.assert_allclose(ours, dZ, rtol=0, atol=spacing)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e4, 1e6])
def test_constant_columns_have_no_variance(value, dtype, rng, kernels) -> None:
    Z = np.full((37, 19), value, dtype)
    gamma, beta = rng.normal(size=(2, 19)).astype(dtype)
    delta = rng.normal(size=(37, 19)).astype(dtype)
    for module in (kernels, reference):
        out, mean, variance, dZ, dgamma, _ = forward_backward(module, "batch_norm", Z, gamma, beta, delta)
        np.testing.assert_array_equal(mean, Z[0])
        np.testing.assert_array_equal(variance, 0)
        np.testing.assert_array_equal(out, np.broadcast_to(beta, out.shape))
        np.testing.assert_array_equal(dgamma, 0)
        assert np.isfinite(dZ).all()
        out, _, inv_std = module.layer_norm_forward(Z, gamma, beta)
        np.testing.assert_array_equal(out, np.broadcast_to(beta, out.shape))
        np.testing.assert_allclose(inv_std, 1e-5**-0.5, rtol=1e-6)


@pytest.mark.parametrize("cols", [3, 16, 37, 1000])
def test_rows_whose_squares_overflow(cols, dtype, rng, kernels) -> None:
    largest = float(np.finfo(dtype).max)
    scales = np.array([1.0, largest**0.5 / cols, 3.0 * largest**0.5, largest**0.52, largest**0.8, largest / 2, 2.0])
    base = rng.uniform(-1.0, 1.0, (7, cols))
    base[5, :3] = 2.0, -2.0, 1.999999  # ± the largest: even differences overflow
    Z = (np.minimum(np.maximum(base * scales[:, None], -largest), largest)).astype(dtype)
    gamma, beta, delta = rng.normal(size=cols), rng.normal(size=cols), rng.normal(size=Z.shape)
    gamma, beta, delta = (values.astype(dtype) for values in (gamma, beta, delta))
    unit = scales[:, None].copy()
    exact = Z.astype(np.longdouble) / unit  # the same rows within range, with what ε is there
    centred = exact - exact.mean(axis=1, keepdims=True)
    theta = 1 / np.sqrt(
        (centred**2).mean(axis=1, keepdims=True) + np.longdouble(1e-5) / unit.astype(np.longdouble) ** 2
    )
    U = centred * theta
    zeta = gamma * delta
    dZ = zeta - zeta.mean(axis=1, keepdims=True) - U * (U * zeta).mean(axis=1, keepdims=True)
    dZ *= theta / unit
    eps = 200 * np.finfo(dtype).eps
    for module in (kernels, reference):
        out, normalised, inv_std = module.layer_norm_forward(Z, gamma, beta)
        np.testing.assert_allclose(normalised, U, rtol=eps, atol=eps)
        np.testing.assert_allclose(out, gamma * U + beta, rtol=eps, atol=4 * eps)
        np.testing.assert_allclose(inv_std, (theta / unit)[:, 0], rtol=eps, atol=4 * np.finfo(dtype).tiny)
        ours = module.layer_norm_backward(delta, normalised, gamma, inv_std)[0]
        np.testing.assert_allclose(ours * unit, dZ * unit, rtol=eps, atol=10 * eps)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e20), ("float64", 1e200), ("float64", 1e307)])
def test_networks_of_rows_whose_squares_overflow(backend, dtype, scale, rng) -> None:
    X = rng.normal(size=(20, 7))

    def results(scale: float) -> tuple[np.ndarray, np.ndarray]:
        layers = [fnn.LayerNorm(), fnn.Dense(5, "tanh"), fnn.Dense(3)]
        net = fnn.Sequential(layers, input_size=7, loss="cross_entropy", seed=0, dtype=dtype, backend=backend)
        return net.decision_function(scale * X), net.gradient(scale * X, np.arange(20) % 3)

    for huge, usual in zip(results(scale), results(1e4), strict=True):
        np.testing.assert_allclose(huge, usual, rtol=1e-4, atol=1e-6)


def test_one_row_gives_beta(dtype, rng, kernels) -> None:
    Z, gamma, beta, delta = arrays(rng, (1, 18), dtype)
    for module in (kernels, reference):
        out, mean, variance, dZ, _, dbeta = forward_backward(module, "batch_norm", Z, gamma, beta, delta)
        np.testing.assert_array_equal(out[0], beta)
        np.testing.assert_array_equal(mean, Z[0])
        np.testing.assert_array_equal(variance, 0)
        np.testing.assert_array_equal(dZ, 0)
        np.testing.assert_array_equal(dbeta, delta[0])


def test_nan_is_not_hidden(dtype, rng, kernels) -> None:
    Z, gamma, beta, _ = arrays(rng, (20, 33), dtype)
    Z[13, 5] = np.nan
    for module in (kernels, reference):
        out, mean, variance = module.batch_norm_forward(Z, gamma, beta)
        for result in (mean, variance, *out):
            np.testing.assert_array_equal(np.isnan(result), np.arange(33) == 5)


# Stages: a batch in shards gives what it gives as a whole.


@pytest.mark.parametrize("cuts", [[13], [0, 13], [1, 2, 40], [16, 32, 48], [64], [5, 5, 5]])
def test_shards_equal_the_whole(cuts, dtype, rng, core) -> None:
    N, D = 64, 270
    Z, gamma, beta, delta = arrays(rng, (N, D), dtype)
    Z[:, 0] = 7.7
    whole = forward_backward(reference, "batch_norm", Z, gamma, beta, delta)
    edges = [0, *cuts, N]
    shards = [slice(a, b) for a, b in itertools.pairwise(edges)]
    counts = np.diff(edges)
    means, m2s = np.empty((2, len(shards), D), dtype)
    for s, rows in enumerate(shards):
        core.batch_norm_moments(*Z[rows].shape, Z[rows], means[s], m2s[s])
    mean, variance, *sums = np.empty((4, D), dtype)
    core.batch_norm_combine(D, len(counts), counts, means, m2s, mean, variance)
    assert mean[0] == Z[0, 0]
    assert variance[0] == 0
    inv_std = (1 / np.sqrt(variance + np.dtype(dtype).type(1e-5))).astype(dtype)
    out, U, dZ = np.empty((3, N, D), dtype)
    parts = np.empty((2, len(shards), D), dtype)
    for normalised in (False, True):
        for s, rows in enumerate(shards):
            z, d = Z[rows], delta[rows]
            u = U[rows] if normalised else None
            core.batch_norm_normalise(*z.shape, z, mean, inv_std, gamma, beta, u, out[rows])
            given = (u, None) if normalised else (z, mean)
            core.batch_norm_backward_sums(*z.shape, d, *given, inv_std, parts[0, s], parts[1, s])
        dbeta, dgamma = parts.sum(axis=1)
        sums = (dbeta / N).astype(dtype), (dgamma / N).astype(dtype)
        for rows in shards:
            given = (U[rows], None) if normalised else (Z[rows], mean)
            core.batch_norm_backward_apply(*Z[rows].shape, delta[rows], *given, gamma, inv_std, *sums, dZ[rows])
        assert_close((out, mean, variance, dZ, dgamma, dbeta), whole, 10 * TOLERANCE[dtype])
        for result in (out, dZ):
            result.fill(np.nan)


def test_moments_and_combination_of_nothing(dtype, core) -> None:
    nothing = np.full((2, 3), 5.0, dtype)
    core.batch_norm_moments(0, 3, np.empty(0, dtype), nothing[0], nothing[1])
    np.testing.assert_array_equal(nothing, 0)
    mean, variance = np.ones((2, 3), dtype)
    core.batch_norm_combine(3, 2, np.array([0, 0]), nothing, nothing, mean, variance)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(variance, 0)


def test_in_place(dtype, rng, core) -> None:
    Z, gamma, beta, delta = arrays(rng, (19, 37), dtype)
    out, _, _, dZ, _, _ = forward_backward(reference, "batch_norm", Z, gamma, beta, delta)
    mean, variance = Z.mean(axis=0), Z.var(axis=0)
    inv_std = (1 / np.sqrt(variance + np.dtype(dtype).type(1e-5))).astype(dtype)
    z, d = Z.copy(), delta.copy()
    core.batch_norm_normalise(*z.shape, z, mean, inv_std, gamma, beta, None, z)
    means = delta.mean(axis=0), (delta * (Z - mean) * inv_std).mean(axis=0)
    core.batch_norm_backward_apply(*Z.shape, d, Z, mean, gamma, inv_std, *means, d)
    assert_close((z, d), (out, dZ), 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("place", ["new", "first", "second"])
def test_into_an_array(place, dtype, rng, kernels) -> None:
    Z, gamma, beta, delta = arrays(rng, (19, 37), dtype)
    for module in (kernels, reference):
        plain, mean, variance = module.batch_norm_forward(Z, gamma, beta)
        z = Z.copy()
        given = np.full_like(Z, np.nan) if place == "new" else z
        out, *moments = module.batch_norm_forward(z, gamma, beta, out=given)
        assert out is given
        for ours, theirs in zip((out, *moments), (plain, mean, variance), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        plain = module.batch_norm_backward(delta, Z, gamma, mean, variance)
        z, d = Z.copy(), delta.copy()
        given = {"new": given, "first": d, "second": z}[place]
        results = module.batch_norm_backward(d, z, gamma, mean, variance, out=given)
        assert results[0] is given
        for ours, theirs in zip(results, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype])


def test_arrays_that_cannot_hold_the_result(rng, kernels) -> None:
    wide = rng.normal(size=(12, 5))
    Z, ones = wide[:9], np.ones(5)
    before = wide.copy()
    read_only = np.zeros((9, 5))
    read_only.flags.writeable = False
    cases = [
        (wide[1:10], ValueError, "out: .* overlaps (Z|delta)"),
        (wide[:8], ValueError, r"out: expected shape \(9, 5\), got \(8, 5\)"),
        (np.zeros((5, 9)).T, ValueError, "out: expected a C-contiguous, aligned array"),
        (read_only, ValueError, "out: expected a writable array"),
        (np.zeros((9, 5), np.float32), TypeError, "out: expected dtype float64 like"),
        (Z.tolist(), TypeError, "out: expected a NumPy array to change in place, got list"),
    ]
    for module, (out, error, message) in itertools.product((kernels, reference), cases):
        with pytest.raises(error, match=message):
            module.batch_norm_forward(Z, ones, ones, out=out)
        with pytest.raises(error, match=message):
            module.batch_norm_backward(np.ones((9, 5)), Z, ones, ones, ones, out=out)
    np.testing.assert_array_equal(wide, before)


def test_folded_scale_and_shift(dtype, rng, core) -> None:
    X, scale, shift, _ = arrays(rng, (23, 41), dtype)
    out = np.empty_like(X)
    core.scale_shift(*X.shape, X, scale, shift, out)
    assert_close((out,), (scale * X + shift,), TOLERANCE[dtype])
    core.scale_shift(*X.shape, X, scale, shift, X)
    np.testing.assert_array_equal(X, out)


def test_layer_norm_gradients_accumulate(dtype, rng, core) -> None:
    Z, gamma, beta, delta = arrays(rng, (11, 20), dtype)
    _, U, inv_std = reference.layer_norm_forward(Z, gamma, beta)
    dZ, dgamma, dbeta = reference.layer_norm_backward(delta, U, gamma, inv_std)
    g, b, d = np.ones(20, dtype), np.full(20, 2, dtype), delta.copy()
    for rows in (slice(0, 6), slice(6, 11)):
        part = d[rows]  # a view: in place
        core.layer_norm_backward(*part.shape, part, U[rows], gamma, inv_std[rows].copy(), part, g, b)
    assert_close((d, g, b), (dZ, dgamma + 1, dbeta + 2), 10 * TOLERANCE[dtype])


# Errors.

Z, ONES = np.ones((4, 3)), np.ones(3)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("batch_norm_forward", (ONES, ONES, ONES), ValueError, r"Z: expected shape \(N, D\), got \(3,\)"),
        ("batch_norm_forward", (Z[:0], ONES, ONES), ValueError, r"Z: expected at least one row .* got shape \(0, 3\)"),
        ("batch_norm_forward", (Z.astype(int), ONES, ONES), TypeError, "Z: expected dtype float32 or .* got int64"),
        ("batch_norm_forward", (Z, ONES[:2], ONES), ValueError, r"gamma: expected shape \(3,\), got \(2,\)"),
        ("batch_norm_forward", (Z, ONES, ONES.astype("f4")), TypeError, "beta: expected dtype float64 like"),
        ("batch_norm_forward", (Z, ONES, ONES, 0.0), ValueError, "epsilon: expected a finite number > 0, got 0.0"),
        ("batch_norm_forward", (Z, ONES, ONES, np.nan), ValueError, "epsilon: expected a finite number > 0, got nan"),
        ("batch_norm_forward", (Z, ONES, ONES, "x"), TypeError, "epsilon: expected a number, got 'x'"),
        ("batch_norm_backward", (Z[:, :0], Z, ONES, ONES, ONES), ValueError, r"delta: .* got shape \(4, 0\)"),
        (
            "batch_norm_backward",
            (Z, Z[:3], ONES, ONES, ONES),
            ValueError,
            r"Z: expected shape \(4, 3\), got \(3, 3\)",
        ),
        ("batch_norm_backward", (Z, Z, ONES, np.ones(4), ONES), ValueError, r"mean: expected shape \(3,\), got \(4,\)"),
        (
            "batch_norm_backward",
            (Z, Z, ONES, ONES, np.ones(4)),
            ValueError,
            r"variance: expected shape \(3,\), got \(4,\)",
        ),
        ("batch_norm_backward", (Z, Z, ONES, ONES, ONES, -1.0), ValueError, "epsilon: .* got -1.0"),
        ("layer_norm_forward", (Z[:, :0], ONES[:0], ONES[:0]), ValueError, r"Z: .* got shape \(4, 0\)"),
        ("layer_norm_forward", (Z, ONES, ONES[:1]), ValueError, r"beta: expected shape \(3,\), got \(1,\)"),
        ("layer_norm_forward", (Z, ONES, ONES, np.inf), ValueError, "epsilon: .* got inf"),
        ("layer_norm_backward", (Z, Z, ONES, ONES), ValueError, r"inv_std: expected shape \(4,\), got \(3,\)"),
        ("layer_norm_backward", (Z, Z.astype("f4"), ONES, ONES), TypeError, "normalised: expected dtype float64 like"),
    ],
)
def test_bad_arguments(name, arguments, error, message, kernels) -> None:
    for module in (kernels, reference):
        with pytest.raises(error, match=message):
            getattr(module, name)(*arguments)
