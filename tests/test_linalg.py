"""Linear algebra that knows nothing of networks: Lanczos, Kronecker products, steps of quadratic models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from fastnn.linalg import lanczos as lanczos_module
from fastnn.linalg.kronecker import KroneckerEigen, KroneckerInverse, damped_inverse, split_damping
from fastnn.linalg.lanczos import extreme_eigenvalues, lanczos
from fastnn.linalg.quadratic_models import CholeskyModel, SpectralModel
from fastnn.linalg.symmetric_operator import DiagonalBlock, average_with_transpose

# Lanczos.


def test_extremes_by_lanczos_are_those_of_lapack():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((450, 450))
    A = A + A.T
    low, high, residual = extreme_eigenvalues(aslinearoperator(A), rng)
    values = np.linalg.eigvalsh(A)
    np.testing.assert_allclose((low, high), (values[0], values[-1]), rtol=1e-7)
    assert 0.0 < residual < 1e-7 * values[-1]
    assert extreme_eigenvalues(A, rng) == (pytest.approx(values[0]), pytest.approx(values[-1]), 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [0, 1, 40])
def test_extremes_of_a_matrix_without_full_rank(rank, dtype):
    # The smallest eigenvalue is 0: no tolerance relative to it can be met.
    rng = np.random.default_rng(0)
    B = rng.standard_normal((2500, rank)).astype(dtype)
    operator = LinearOperator((2500, 2500), matvec=lambda v: B @ (B.T @ v.ravel()), dtype=dtype)
    top = np.linalg.norm(B, 2) ** 2 if rank else 0.0
    low, high, residual = extreme_eigenvalues(operator, rng)
    assert high == pytest.approx(top, rel=1e-5)
    assert abs(low) <= max(residual, 1e-5 * top)
    assert residual <= 1e-4 * top


def test_extremes_tell_when_they_are_not_exact(monkeypatch):
    monkeypatch.setattr(lanczos_module, "STEPS", 10)
    values = np.linspace(0.0, 1.0, 3000)
    operator = LinearOperator((3000, 3000), matvec=lambda v: values * v.ravel(), dtype=np.float64)
    low, high, residual = extreme_eigenvalues(operator, np.random.default_rng(0))
    assert residual > 1e-3
    assert 0.0 < low < residual
    assert 1.0 - residual < high < 1.0


def test_lanczos_in_full_is_exact():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 30))
    A = A + A.T
    alpha, beta = lanczos(aslinearoperator(A), rng.standard_normal(30), 30)
    T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    np.testing.assert_allclose(np.linalg.eigvalsh(T), np.linalg.eigvalsh(A), atol=1e-10)
    # A matrix with three eigenvalues ends it after three steps.
    alpha, beta = lanczos(aslinearoperator(np.diag(np.repeat([1.0, 2.0, 5.0], 10))), rng.standard_normal(30), 30)
    assert (len(alpha), len(beta)) == (3, 2)


# Kronecker products.


def factors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    A, G = rng.normal(size=(7, 4)), rng.normal(size=(9, 3))
    return A.T @ A, G.T @ G


def test_damping_is_split_so_that_the_remainder_is_smallest():
    A, G = factors(np.random.default_rng(0))
    a, g = split_damping(A, G, 0.3)
    assert a * g == pytest.approx(0.3)

    def remainder(pi: float) -> float:
        """Trace norm of what the damped product has beyond A ⊗ G + λ I."""
        root = np.sqrt(0.3)
        return float(np.trace(np.kron(pi * root * np.eye(4), G) + np.kron(A, root / pi * np.eye(3))))

    pi = a / np.sqrt(0.3)
    assert remainder(pi) < min(remainder(0.99 * pi), remainder(1.01 * pi))
    assert split_damping(np.zeros((2, 2)), G, 0.25) == (0.5, 0.5)


def test_the_inverse_of_a_damped_kronecker_product():
    rng = np.random.default_rng(1)
    A, G = factors(rng)
    V = rng.normal(size=(5, 4, 3))
    damped = np.kron(A + 0.1 * np.eye(4), G + 0.2 * np.eye(3))
    found = KroneckerInverse(A, G, 0.1, 0.2).multiply(V)
    np.testing.assert_allclose(found.reshape(5, -1) @ damped, V.reshape(5, -1), rtol=1e-10, atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        KroneckerInverse(A, -G, 0.1, 0.1)


def test_functions_of_a_kronecker_product_by_its_eigenvalues():
    rng = np.random.default_rng(2)
    A, G = factors(rng)
    product = 2.5 * np.kron(A, G)
    eigen = KroneckerEigen.of(A.copy(), G.copy(), 2.5)
    np.testing.assert_allclose(eigen.matrix(eigen.values), product, rtol=1e-10, atol=1e-10)
    inverse = 1.0 / (eigen.values + 0.5)
    whole = np.linalg.inv(product + 0.5 * np.eye(12))
    np.testing.assert_allclose(eigen.matrix(inverse), whole, rtol=1e-10, atol=1e-12)
    x, D = rng.normal(size=(6, 3)), rng.normal(size=(2, 6, 3))
    J = np.einsum("nm,knj->nkmj", np.c_[x, np.ones(6)], D).reshape(6, 2, 12)  # with a bias
    expected = J @ whole @ J.transpose(0, 2, 1)
    np.testing.assert_allclose(eigen.quadratic(inverse, x, list(D)), expected, rtol=1e-10, atol=1e-12)


def test_a_factor_that_is_not_positive_definite_is_damped_more():
    def symmetrize(M: np.ndarray) -> None:
        M[...] = np.triu(M) + np.triu(M, 1).T

    A = np.diag([1.0, -0.5])
    inverse = damped_inverse(A, 0.1, symmetrize)
    np.testing.assert_allclose(inverse, np.diag([1 / 2.0, 1 / 0.5]))  # damped by 1, after 0.1
    np.testing.assert_array_equal(A, np.diag([1.0, -0.5]))
    assert damped_inverse(np.diag([1.0, -np.inf]), 0.1, symmetrize) is None


# Matrices.


def test_the_mean_with_the_transpose():
    M = np.random.default_rng(3).normal(size=(300, 300))  # more than one tile
    mean = (M + M.T) / 2
    average_with_transpose(M)
    np.testing.assert_allclose(M, mean, rtol=1e-15)
    np.testing.assert_array_equal(M, M.T)


def test_a_diagonal_block_of_an_operator():
    M = np.arange(25.0).reshape(5, 5)
    block = DiagonalBlock(aslinearoperator(M), slice(1, 4))
    np.testing.assert_array_equal(block.matmat(np.eye(3)), M[1:4, 1:4])


# Steps of models.


@pytest.mark.parametrize("lowest", [-1.0, 0.5])
def test_steps_without_a_gradient(lowest):
    rng = np.random.default_rng(4)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    B = Q @ np.diag([lowest, 1.0, 2.0, 3.0, 4.0, 5.0]) @ Q.T
    B = (B + B.T) / 2
    for model in (SpectralModel([(slice(0, 6), B)], 6), CholeskyModel(B)):
        for step, length in ((model.trust_step, 2.0), (model.cubic_step, 0.5)):
            p, _ = step(np.zeros(6), 2.0)
            if lowest > 0.0:
                np.testing.assert_array_equal(p, np.zeros(6))
            else:  # along the lowest eigenvector, to the radius or to μ / σ = 1 / 2
                assert np.linalg.norm(p) == pytest.approx(length, rel=0.1)
                assert abs(Q[:, 0] @ p) == pytest.approx(np.linalg.norm(p), rel=1e-2)
