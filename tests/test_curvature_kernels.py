"""Second-order kernels: the reference against sums written out, and the compiled kernels against it."""

from __future__ import annotations

import itertools

import knobs
import numpy as np
import pytest
from interruption import Alarm, alarm, needs_alarm

from fastnn import reference

pytestmark = pytest.mark.every_simd

TOLERANCE = {"float32": 2e-6, "float64": 4e-15}


def symmetric(rng: np.random.Generator, N: int, n: int, dtype: str) -> np.ndarray:
    A = rng.normal(size=(N, n, n))
    return (A + A.transpose(0, 2, 1)).astype(dtype)


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    scale = max(1.0, float(np.abs(theirs).max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


def ones(X: np.ndarray, bias: bool) -> np.ndarray:
    return np.hstack([X, np.ones((len(X), 1), X.dtype)]) if bias else X


# -- the reference against the definitions ----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_reference_outer_and_blocks_are_kronecker_products(bias, rng) -> None:
    X, D, A = rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), symmetric(rng, 4, 2, "float64")
    outer = reference.per_sample_outer(X, D, bias)
    blocks = reference.per_sample_hessian_blocks(A, X, bias)
    for i, x in enumerate(ones(X, bias)):
        np.testing.assert_array_equal(outer[i], np.kron(x, D[i]))
        np.testing.assert_allclose(blocks[i], np.kron(np.outer(x, x), A[i]), rtol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_reference_loss_hessian_is_that_of_the_loss(weighted, rng, numerical_gradient) -> None:
    Z, w = rng.normal(size=(3, 4)), rng.uniform(0.5, 2, 3)
    P = reference.softmax(Z)
    H = reference.loss_hessian(P, True, w if weighted else None)
    diagonal = reference.loss_hessian(P, False, w if weighted else None)
    for i in range(3):
        scale = w[i] if weighted else 1.0
        for k in range(4):
            gradient = numerical_gradient(lambda z, k=k: np.exp(z[k]) / np.exp(z).sum(), Z[i])
            np.testing.assert_allclose(H[i, k], scale * gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(diagonal[i], np.diag(P[i] * scale))


def test_reference_steps_down_by_the_chain_rule(rng) -> None:
    A, W = symmetric(rng, 5, 3, "float64"), rng.normal(size=(4, 3))
    slope, bend = rng.normal(size=(2, 5, 4))
    M = rng.normal(size=(5, 2, 3))
    down = reference.curvature_backward(A, W, slope, bend)
    plain = reference.curvature_backward(A, W)
    cross = reference.cross_backward(M, W, slope)
    diagonal = reference.cross_backward(M[:, 0], W, slope)
    for i in range(5):
        S = np.diag(slope[i])
        np.testing.assert_allclose(down[i], S @ W @ A[i] @ W.T @ S + np.diag(bend[i]), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(plain[i], W @ A[i] @ W.T, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(cross[i], M[i] @ W.T @ S, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(diagonal[i], np.diag(M[i, 0]) @ W.T @ S, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(reference.cross_backward(M, W), M @ W.T)


@pytest.mark.parametrize("bias", [False, True])
def test_reference_adds_the_block_of_a_layer(bias, rng) -> None:
    X, A = rng.normal(size=(6, 3)), symmetric(rng, 6, 2, "float64")
    P = (3 + bias) * 2
    before = rng.normal(size=(P + 3, P + 3))
    H = before.copy()
    reference.hessian_block_acc(X, A, H, 2, 2, bias=bias, scale=0.5)
    expected = before.copy()
    total = sum(np.kron(np.outer(x, x), a) for x, a in zip(ones(X, bias), A, strict=True))
    expected[2 : P + 2, 2 : P + 2] += 0.5 * np.triu(total)
    np.testing.assert_allclose(H, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("bias", "bias2"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("jacobian", [None, "full", "diagonal"])
def test_reference_adds_the_block_of_two_layers(bias, bias2, jacobian, rng) -> None:
    N, n_in, n_out, n_in2, n_out2 = 6, 3, 4, 4, 2
    X, X2 = rng.normal(size=(N, n_in)), rng.normal(size=(N, n_in2))
    A, delta = rng.normal(size=(N, n_out, n_out2)), rng.normal(size=(N, n_out2))
    J = {None: None, "full": rng.normal(size=(N, n_out, n_in2)), "diagonal": rng.normal(size=(N, n_out))}[jacobian]
    rows, columns = (n_in + bias) * n_out, (n_in2 + bias2) * n_out2
    expected = np.zeros((n_in + bias, n_out, n_in2 + bias2, n_out2))
    left, right = ones(X, bias), ones(X2, bias2)
    for i, k, j, m, o in itertools.product(range(N), *map(range, expected.shape)):
        term = A[i, j, o] * right[i, m]
        if J is not None and m < n_in2:
            term += (J[i, j, m] if J.ndim == 3 else J[i, j] * (j == m)) * delta[i, o]
        expected[k, j, m, o] += 0.25 * left[i, k] * term
    H = np.zeros((rows + columns + 2, rows + columns + 2))
    given_delta = None if J is None else delta
    reference.hessian_block_acc(X, A, H, 1, rows + 2, X2, J, given_delta, bias=bias, bias2=bias2, scale=0.25)
    block = H[1 : rows + 1, rows + 2 :]
    np.testing.assert_allclose(block, expected.reshape(rows, columns), rtol=1e-12, atol=1e-13)
    block[...] = 0
    assert not H.any()


def test_reference_symmetrizes(rng) -> None:
    H = rng.normal(size=(7, 7))
    upper = np.triu(H)
    reference.symmetrize(H)
    np.testing.assert_array_equal(H, upper + np.triu(upper, 1).T)


# -- compiled against the reference -----------------------------------------------------------------------------------

SIZES = [(1, 1, 1), (2, 1, 3), (3, 5, 1), (7, 3, 2), (5, 17, 4), (9, 16, 16), (33, 7, 10), (130, 4, 17), (300, 13, 33)]


@pytest.fixture
def kernels(compiled):
    """The compiled kernels."""
    from fastnn import kernels

    return kernels


@pytest.fixture(params=["one thread, cached", "many threads, streamed"])
def manner(request, compiled):
    """However small the work: on one thread, or on several and past the caches."""
    many = request.param.startswith("many")
    with knobs.changed(min_work=1.0 if many else np.inf, stream_bytes=0 if many else np.inf):
        yield {"threads": 3} if many else {"threads": 1}


def offset(shape: tuple[int, ...], dtype: str, elements: int) -> np.ndarray:
    """A contiguous array that begins so many elements behind the beginning of a cache line, full of NaN."""
    size = int(np.prod(shape))
    room = np.full(size + 32 + elements, np.nan, dtype)
    begin = (-room.ctypes.data % 64) // room.itemsize + elements
    return room[begin : begin + size].reshape(shape)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_compiled_outer(size, bias, dtype, manner, rng, kernels) -> None:
    N, n_in, n_out = size
    X, D = rng.normal(size=(N, n_in)).astype(dtype), rng.normal(size=(N, n_out)).astype(dtype)
    expected = reference.per_sample_outer(X, D, bias)
    ours = kernels.per_sample_outer(X, D, bias, **manner)
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, expected)
    P = (n_in + bias) * n_out
    for left, right in ((0, 0), (3, 5), (1, 0)):
        wide = offset((N, left + P + right), dtype, 3)
        out = wide[:, left : left + P]
        assert kernels.per_sample_outer(X, D, bias, out, **manner) is out
        np.testing.assert_array_equal(out, expected)
        assert np.isnan(wide[:, :left]).all()
        assert np.isnan(wide[:, left + P :]).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES[:-2])
def test_compiled_hessian_blocks(size, bias, dtype, manner, rng, kernels) -> None:
    N, n_in, n_out = size
    X, A = rng.normal(size=(N, n_in)).astype(dtype), symmetric(rng, N, n_out, dtype)
    expected = reference.per_sample_hessian_blocks(A, X, bias)
    assert_close(kernels.per_sample_hessian_blocks(A, X, bias, **manner), expected, TOLERANCE[dtype])
    for elements in (0, 1, 7):
        out = offset(expected.shape, dtype, elements)
        assert kernels.per_sample_hessian_blocks(A, X, bias, out, **manner) is out
        assert_close(out, expected, TOLERANCE[dtype])


def test_long_rows_go_out_in_pieces(dtype, manner, rng, kernels) -> None:
    X, D = rng.normal(size=(2, 3)).astype(dtype), rng.normal(size=(2, 9001)).astype(dtype)
    np.testing.assert_array_equal(kernels.per_sample_outer(X, D, **manner), reference.per_sample_outer(X, D))
    np.testing.assert_array_equal(
        kernels.per_sample_outer(D, X[:, :1], **manner), reference.per_sample_outer(D, X[:, :1])
    )
    piece = 8192 // np.dtype(dtype).itemsize  # SINK_SIZE / 2 of csrc/kernels/curvature_body.h
    P = reference.softmax(rng.normal(size=(2, piece + 31)).astype(dtype))
    assert_close(kernels.softmax_jacobian(P, **manner), reference.softmax_jacobian(P), TOLERANCE[dtype])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (17, 10), (3, 64), (40, 33)])
def test_compiled_loss_hessian(shape, weighted, dtype, manner, rng, kernels) -> None:
    P = reference.softmax(rng.normal(size=shape).astype(dtype))
    w = rng.uniform(0, 2, shape[0]).astype(dtype) if weighted else None
    for softmax in (False, True):
        ours = kernels.loss_hessian(P, softmax, w)
        np.testing.assert_array_equal(ours, ours.transpose(0, 2, 1))
        assert_close(ours, reference.loss_hessian(P, softmax, w), TOLERANCE[dtype])
    out = offset((*shape, shape[1]), dtype, 5)
    assert kernels.softmax_jacobian(P, out, **manner) is out
    assert_close(out, reference.softmax_jacobian(P), TOLERANCE[dtype])


@pytest.mark.parametrize("size", SIZES)
def test_compiled_steps_down(size, dtype, manner, rng, kernels) -> None:
    N, n_in, n_out = size
    A, W = symmetric(rng, N, n_out, dtype), rng.normal(size=(n_in, n_out)).astype(dtype)
    slope, bend = rng.normal(size=(2, N, n_in)).astype(dtype)
    M = rng.normal(size=(N, 3, n_out)).astype(dtype)
    tolerance = 4 * n_out * TOLERANCE[dtype]
    for s, b in itertools.product((None, slope), (None, bend)):
        ours = kernels.curvature_backward(A, W, s, b, **manner)
        np.testing.assert_array_equal(ours, ours.transpose(0, 2, 1))
        assert_close(ours, reference.curvature_backward(A, W, s, b), tolerance)
    for s, m in itertools.product((None, slope), (M, M[:, 0])):
        assert_close(kernels.cross_backward(m, W, s, **manner), reference.cross_backward(m, W, s), tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_compiled_block_of_a_layer(size, bias, dtype, manner, rng, kernels) -> None:
    N, n_in, n_out = size
    X, A = rng.normal(size=(N, n_in)).astype(dtype), symmetric(rng, N, n_out, dtype)
    P = (n_in + bias) * n_out
    expected = rng.normal(size=(P + 5, P + 5)).astype(dtype)
    start = expected.copy()
    reference.hessian_block_acc(X, A, expected, 3, 3, bias=bias, scale=0.5)
    lower = np.tril(np.full((n_out, n_out), np.nan), -1).astype(dtype)  # is not read
    for given in (A, A.transpose(0, 2, 1), A + lower):
        H = start.copy()
        kernels.hessian_block_acc(X, given, H, 3, 3, bias=bias, scale=0.5, **manner)
        assert_close(H, expected, N * TOLERANCE[dtype])
        outside = np.tril(np.ones(H.shape, bool), -1)
        outside[:3] = outside[:, :3] = outside[P + 3 :] = outside[:, P + 3 :] = True
        np.testing.assert_array_equal(H[outside], start[outside])


@pytest.mark.parametrize("size", [(400, 70, 5), (20, 3, 60), (3, 300, 1), (150, 90, 3), (140, 12, 100)])
def test_compiled_block_of_a_wide_layer(size, dtype, manner, rng, kernels) -> None:
    """Of several parts: groups of pairs, ranges of outputs, ranges of inputs."""
    N, n_in, n_out = size
    X, A = rng.normal(size=(N, n_in)).astype(dtype), symmetric(rng, N, n_out, dtype)
    P = (n_in + 1) * n_out
    H, expected = np.zeros((2, P, P), dtype)
    kernels.hessian_block_acc(X, A, H, 0, 0, **manner)
    reference.hessian_block_acc(X, A, expected, 0, 0)
    assert_close(H, expected, N * TOLERANCE[dtype])
    kernels.symmetrize(H, **manner)
    reference.symmetrize(expected)
    np.testing.assert_array_equal(H, H.T)
    assert_close(H, expected, N * TOLERANCE[dtype])


@pytest.mark.parametrize(("bias", "bias2"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", [(1, 1, 1, 1, 1), (5, 3, 4, 4, 2), (140, 7, 5, 6, 10), (60, 9, 3, 40, 33)])
def test_compiled_block_of_two_layers(size, bias, bias2, dtype, manner, rng, kernels) -> None:
    N, n_in, n_out, n_in2, n_out2 = size
    arrays = [(N, n_in), (N, n_in2), (N, n_out2, n_out), (N, n_in2, n_out), (N, n_out2)]
    X, X2, A, J, delta = (rng.normal(size=shape).astype(dtype) for shape in arrays)
    A, J = A.transpose(0, 2, 1), J.transpose(0, 2, 1)  # as cross_backward leaves them
    P = (n_in + bias) * n_out + (n_in2 + bias2) * n_out2 + 4
    start = rng.normal(size=(P, P)).astype(dtype)
    column = P - (n_in2 + bias2) * n_out2
    for jacobian in (None, J, J[:, :, 0]):
        if jacobian is not None and jacobian.ndim == 2 and n_in2 != n_out:
            continue
        extra = () if jacobian is None else (jacobian, delta)
        H, expected = start.copy(), start.copy()
        for module, matrix, more in ((kernels, H, manner), (reference, expected, {})):
            module.hessian_block_acc(X, A, matrix, 1, column, X2, *extra, bias=bias, bias2=bias2, scale=0.5, **more)
        assert_close(H, expected, N * TOLERANCE[dtype])
        untouched = np.ones(H.shape, bool)
        untouched[1 : 1 + (n_in + bias) * n_out, column:] = False
        np.testing.assert_array_equal(H[untouched], start[untouched])


def test_sums_do_not_depend_on_the_number_of_threads(dtype, rng, kernels) -> None:
    N, n_in, n_out = 300, 40, 20
    X, A = rng.normal(size=(N, n_in)).astype(dtype), symmetric(rng, N, n_out, dtype)
    results = []
    for threads in (1, 2, 3):
        H = np.zeros((41 * 20 + 5 * 21, 41 * 20 + 5 * 21), dtype)
        kernels.hessian_block_acc(X, A, H, 0, 0, threads=threads)
        kernels.hessian_block_acc(X, A[:, :, :5], H, 0, 41 * 20, X[:, :20], A, X[:, :5], threads=threads)
        results.append(H)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@needs_alarm
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_a_sum(threads, rng, kernels) -> None:
    N, n_in, n_out = 20000, 100, 10
    P = (n_in + 1) * n_out
    X, A = rng.normal(size=(N, n_in)), rng.normal(size=(N, n_out, n_out))
    H, whole = np.zeros((2, P, P))
    with alarm(0.02), pytest.raises(Alarm):
        kernels.hessian_block_acc(X, A, H, 0, 0, threads=threads)
    kernels.hessian_block_acc(X, A, whole, 0, 0, threads=threads)
    assert not np.array_equal(H, whole)  # it was left in the middle


def test_no_rows(dtype, kernels) -> None:
    none = np.empty((0, 3), dtype)
    H = np.ones((12, 12), dtype)
    for module in (kernels, reference):
        assert module.per_sample_outer(none, none).shape == (0, 12)
        assert module.per_sample_hessian_blocks(np.empty((0, 3, 3), dtype), none).shape == (0, 12, 12)
        assert module.loss_hessian(none, True).shape == (0, 3, 3)
        assert module.curvature_backward(np.empty((0, 3, 3), dtype), np.ones((4, 3), dtype)).shape == (0, 4, 4)
        assert module.cross_backward(none, np.ones((4, 3), dtype)).shape == (0, 3, 4)
        module.hessian_block_acc(none, np.empty((0, 3, 3), dtype), H, 0, 0)
    np.testing.assert_array_equal(H, 1)


X, A, H = np.ones((4, 3)), np.ones((4, 2, 2)), np.zeros((9, 9))
READ_ONLY = np.zeros((9, 9))
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize("module", ["kernels", "reference"])
@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("per_sample_outer", (X, np.ones((3, 2))), ValueError, r"D: expected shape \(4, n_out\), got \(3, 2\)"),
        ("per_sample_outer", (X, X.astype("f")), TypeError, "D: expected dtype float64 like .* got float32"),
        (
            "per_sample_outer",
            (X, X, True, np.ones((4, 11))),
            ValueError,
            r"out: expected shape \(4, 12\), got \(4, 11\)",
        ),
        (
            "per_sample_outer",
            (X, X, True, np.ones((4, 24))[:, ::2]),
            ValueError,
            "out: expected the elements of a row next",
        ),
        ("per_sample_outer", (X, X, True, np.ones((12, 4)).T), ValueError, "out: expected the elements of a row next"),
        ("per_sample_outer", (X, X, True, READ_ONLY[:4, :12]), ValueError, "out: expected shape"),
        ("per_sample_outer", (X, X, False, READ_ONLY[:4]), ValueError, "out: expected a writable array"),
        ("per_sample_hessian_blocks", (A[:, :1], X), ValueError, r"A: expected square matrices, .* got \(4, 1, 2\)"),
        ("per_sample_hessian_blocks", (A, X[:2]), ValueError, r"X: expected shape \(4, n_in\), got \(2, 3\)"),
        (
            "per_sample_hessian_blocks",
            (A, X, True, np.ones((4, 8, 16))[:, :, ::2]),
            ValueError,
            r"out: expected a C-contiguous, aligned array, got strides",
        ),
        ("loss_hessian", (X, True, np.ones(3)), ValueError, r"weight: expected shape \(4,\), got \(3,\)"),
        ("softmax_jacobian", (X, np.ones((4, 3, 2))), ValueError, r"out: expected shape \(4, 3, 3\), got \(4, 3, 2\)"),
        ("curvature_backward", (A, X), ValueError, r"W: expected shape \(n_in, 2\), got \(4, 3\)"),
        ("curvature_backward", (A, np.ones((3, 2)), A), ValueError, r"slope: expected shape \(4, 3\), got \(4, 2, 2\)"),
        (
            "curvature_backward",
            (A, np.ones((3, 2)), X, X[:1]),
            ValueError,
            r"bend: expected shape \(4, 3\), got \(1, 3\)",
        ),
        ("cross_backward", (A, np.ones((3, 3))), ValueError, r"W: expected shape \(n_in, 2\), got \(3, 3\)"),
        ("cross_backward", (np.ones(3), np.ones((3, 3))), ValueError, r"M: expected shape \(N, R, n_out\), got \(3,\)"),
        ("symmetrize", (np.ones((2, 3)),), ValueError, r"H: expected a square matrix, got shape \(2, 3\)"),
        ("symmetrize", ([[1.0]],), TypeError, "H: expected a NumPy array to change in place, got list"),
        ("symmetrize", (H[::3, ::3],), ValueError, "H: expected a C-contiguous, aligned array, got strides"),
        ("symmetrize", (READ_ONLY,), ValueError, "H: expected a writable array, got a read-only one"),
        ("hessian_block_acc", (X, A, H, 0, 1), ValueError, "column: expected 0 like row, as there is no X2, got 1"),
        (
            "hessian_block_acc",
            (X, A, H, 2, 2),
            ValueError,
            r"H: .* block of shape \(8, 8\) at \(2, 2\), got shape \(9, 9\)",
        ),
        ("hessian_block_acc", (X, A, H, -1, -1), ValueError, r"H: expected room .* at \(-1, -1\)"),
        ("hessian_block_acc", (X, A, H.astype("f"), 0, 0), TypeError, "H: expected dtype float64 like"),
        ("hessian_block_acc", (X, A[:, :1], H, 0, 0), ValueError, r"A: expected square matrices, shape \(4, n_out"),
        ("hessian_block_acc", (X, A, H, 0, 0, None, A, X), ValueError, "jacobian: expected None without X2"),
        ("hessian_block_acc", (X, A, H, 0, 8, X[:, :1], A), ValueError, "jacobian, delta: expected both or neither"),
        ("hessian_block_acc", (X, A, H, 0, 7, X), ValueError, "column: expected at least 8, beyond the rows .* got 7"),
        (
            "hessian_block_acc",
            (X, A, H, 0, 8, X, np.ones((4, 2)), np.ones((4, 2))),
            ValueError,
            r"jacobian: expected shape \(4, 2, 3\), as a diagonal one needs as many outputs .* got \(4, 2\)",
        ),
        ("hessian_block_acc", (X, A, H, 0, 8, X, A, X), ValueError, r"jacobian: expected shape \(4, 2, 3\)"),
    ],
)
def test_refuses(module, name, arguments, error, message, compiled) -> None:
    import fastnn

    with pytest.raises(error, match=message):
        getattr(getattr(fastnn, module), name)(*arguments)


def test_refuses_a_number_of_threads(kernels) -> None:
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        kernels.symmetrize(np.zeros((3, 3)), threads=0)
    with pytest.raises(TypeError, match=r"threads: expected an integer or None, got 1\.5"):
        kernels.symmetrize(np.zeros((3, 3)), threads=1.5)
