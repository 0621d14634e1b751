"""Second-order kernels: the twin against sums written out, compiled against twin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastnn import reference

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


# -- the twin against the definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_twin_outer_and_blocks_are_kronecker_products(bias, rng) -> None:
    X, D, A = rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), symmetric(rng, 4, 2, "float64")
    outer = reference.per_sample_outer(X, D, bias)
    blocks = reference.per_sample_hessian_blocks(A, X, bias)
    for i, x in enumerate(ones(X, bias)):
        np.testing.assert_array_equal(outer[i], np.kron(x, D[i]))
        np.testing.assert_allclose(blocks[i], np.kron(np.outer(x, x), A[i]), rtol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_twin_loss_hessian_is_that_of_the_loss(weighted, rng, numerical_gradient) -> None:
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


def test_twin_steps_down_by_the_chain_rule(rng) -> None:
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
def test_twin_adds_the_block_of_a_layer(bias, rng) -> None:
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
def test_twin_adds_the_block_of_two_layers(bias, bias2, jacobian, rng) -> None:
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


def test_twin_symmetrizes(rng) -> None:
    H = rng.normal(size=(7, 7))
    upper = np.triu(H)
    reference.symmetrize(H)
    np.testing.assert_array_equal(H, upper + np.triu(upper, 1).T)
