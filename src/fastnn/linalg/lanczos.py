"""Lanczos's method for symmetric operators: tridiagonal matrices and extreme eigenvalues."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh_tridiagonal, eigvalsh
from scipy.sparse.linalg import LinearOperator

__all__ = ["extreme_eigenvalues", "lanczos", "lanczos_steps"]

#: Most products for the extreme eigenvalues.
STEPS = 300
#: Most memory for the vectors.
STEPS_BYTES = 1 << 30


def extreme_eigenvalues(matrix: np.ndarray | LinearOperator, rng: np.random.Generator) -> tuple[float, float, float]:
    """Smallest and largest eigenvalue of a symmetric array or operator, and the larger of their residuals.

    An array's are LAPACK's; an operator's are Lanczos's, whose residual of a Ritz value is |β_k s_k|, s_k the last
    component of its vector in the tridiagonal matrix (Parlett 1998, section 13.2).
    """
    if isinstance(matrix, np.ndarray):
        values = eigvalsh(matrix)
        return float(values[0]), float(values[-1]), 0.0
    n = matrix.shape[0]
    goal = 1e-8 if matrix.dtype == np.float64 else 1e-5
    most = min(n, STEPS, max(STEPS_BYTES // (8 * n), 20))
    smallest = largest = residual = 0.0
    for alpha, beta, last in lanczos_steps(matrix, rng.standard_normal(n), most):
        k = len(alpha)
        if k % 10 and not last:
            continue
        low, s = eigh_tridiagonal(alpha, beta[:-1], select="i", select_range=(0, 0))
        high, t = eigh_tridiagonal(alpha, beta[:-1], select="i", select_range=(k - 1, k - 1))
        smallest, largest = float(low[0]), float(high[0])
        residual = float(beta[-1] * max(abs(s[-1, 0]), abs(t[-1, 0])))
        if residual <= goal * max(abs(smallest), abs(largest)):
            break
    return smallest, largest, residual


def lanczos(operator: LinearOperator, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and off-diagonal of Lanczos's tridiagonal matrix, in float64, with full reorthogonalisation.

    It ends early where the vectors span an invariant subspace.
    """
    *_, (alpha, beta, _) = lanczos_steps(operator, start, steps)
    return alpha, beta[:-1]


def lanczos_steps(
    operator: LinearOperator, start: np.ndarray, steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """After each step of Lanczos: α, β (as many; the last one leads to the next vector), whether it is the end."""
    Q = np.zeros((steps, len(start)))
    alpha, beta = np.zeros(steps), np.zeros(steps)
    q = start / np.linalg.norm(start)
    scale = 0.0
    for j in range(steps):
        Q[j] = q
        r = np.asarray(operator.matvec(q.astype(operator.dtype)), dtype=np.float64).ravel()
        alpha[j] = q @ r
        r -= alpha[j] * q
        if j:
            r -= beta[j - 1] * Q[j - 1]
        for _ in range(2):  # once loses digits, twice is enough
            r -= Q[: j + 1].T @ (Q[: j + 1] @ r)
        beta[j] = np.linalg.norm(r)
        scale = max(scale, abs(alpha[j]) + beta[j])
        invariant = bool(beta[j] <= 10.0 * np.finfo(operator.dtype).eps * scale)
        yield alpha[: j + 1], beta[: j + 1], invariant or j + 1 == steps
        if invariant:
            return
        q = r / beta[j]
