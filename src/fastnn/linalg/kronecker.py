"""Kronecker products A ⊗ G of small symmetric matrices: damping, inverses, eigenvalues.

A (m, m) belongs to the inputs of a dense layer and G (n, n) to its outputs. A vector of the layer's parameters is a
matrix V (m, n), weight above bias, on which the product acts as (A ⊗ G) vec V = vec(A V G).

SciPy is imported when first needed: training imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["KroneckerEigen", "KroneckerInverse", "damped_inverse", "split_damping"]

#: How often :func:`damped_inverse` damps a factor ten times more before it gives up.
TRIES = 12


def split_damping(A: np.ndarray, G: np.ndarray, damping: float) -> tuple[float, float]:
    """The parts π √λ of A and √λ / π of G of a damping λ, π = √((tr A / m) / (tr G / n)).

    Martens & Grosse 2015, section 6.3: of all π this one makes the trace norm of what (A + π √λ I) ⊗ (G + √λ / π I) has
    beyond A ⊗ G + λ I smallest. π is 1 where a trace is 0.
    """
    tiny = float(np.finfo(A.dtype).tiny)
    a, g = float(np.trace(A)) / len(A), float(np.trace(G)) / len(G)
    pi = math.sqrt(max(a, tiny) / max(g, tiny)) if a > 0.0 and g > 0.0 else 1.0
    root = math.sqrt(damping)
    return pi * root, root / pi


def damped_inverse(factor: np.ndarray, damping: float, symmetrize: Callable[[np.ndarray], object]) -> np.ndarray | None:
    """(factor + damping I)⁻¹ by Cholesky; ten times more damping, up to 12 times, where that fails; then None.

    Parameters
    ----------
    factor : ndarray (m, m), symmetric
        Not changed.
    damping : float
        At least 0.
    symmetrize : callable
        Copies the upper triangle of a matrix to the lower one, in place.
    """
    from scipy.linalg.lapack import get_lapack_funcs

    potrf, potri = get_lapack_funcs(("potrf", "potri"), (factor,))
    for _ in range(TRIES):
        damped = factor.copy()
        damped.ravel()[:: len(factor) + 1] += damping
        root, failed = potrf(damped.T, lower=1, overwrite_a=1, clean=0)
        if not failed:
            inverse, failed = potri(root, lower=1, overwrite_c=1)
        if not failed:
            symmetrize(inverse.T)
            return inverse.T
        damping *= 10.0
    return None


class KroneckerInverse:
    """(A + a I)⁻¹ ⊗ (G + g I)⁻¹ by Cholesky factors.

    Parameters
    ----------
    A : ndarray (m, m)
    G : ndarray (n, n)
    a, g : float
        The damping of each; see :func:`split_damping`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a damped factor is not positive definite in its dtype.
    """

    def __init__(self, A: np.ndarray, G: np.ndarray, a: float, g: float) -> None:
        from scipy.linalg import cho_factor

        self._left = cho_factor(A + A.dtype.type(a) * np.eye(len(A), dtype=A.dtype))
        self._right = cho_factor(G + G.dtype.type(g) * np.eye(len(G), dtype=G.dtype))

    def multiply(self, V: np.ndarray) -> np.ndarray:
        """The products with several vectors, (count, m, n)."""
        from scipy.linalg import cho_solve

        count, m, n = V.shape
        V = cho_solve(self._left, V.transpose(1, 0, 2).reshape(m, -1)).reshape(m, count, n)
        return cho_solve(self._right, V.reshape(-1, n).T).T.reshape(m, count, n).transpose(1, 0, 2)


class KroneckerEigen(NamedTuple):
    """Eigenvalues and eigenvectors of A ⊗ G: it is (U_A ⊗ U_G) diag(vec values) (U_A ⊗ U_G)ᵀ.

    Functions of the matrix are given by their eigenvalues, an array of the shape of `values`.

    Attributes
    ----------
    values : ndarray (m, n)
        Products of the eigenvalues of A and G.
    left : ndarray (m, m)
        U_A.
    right : ndarray (n, n)
        U_G.
    """

    values: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, A: np.ndarray, G: np.ndarray, scale: float = 1.0) -> KroneckerEigen:
        """Of scale · A ⊗ G, both positive semi-definite: negative eigenvalues, which are rounding, become 0.

        A and G are overwritten.
        """
        (a, left), (g, right) = _eigh(A), _eigh(G)
        return cls(np.outer(a * scale, g), left, right)

    def quadratic(self, function: np.ndarray, x: np.ndarray, D: Sequence[np.ndarray]) -> np.ndarray:
        """J f(A ⊗ G) Jᵀ of rows whose gradients of the outputs k are the outer products (x, 1) ⊗ D[k].

        Parameters
        ----------
        function : ndarray (m, n)
            Eigenvalues of f(A ⊗ G).
        x : ndarray (count, m) or (count, m − 1)
            What the layer reads, with or without the 1 of a bias.
        D : sequence of K ndarray (count, n)
            ∂z_k/∂(pre-activations).

        Returns
        -------
        ndarray (count, K, K)
        """
        x = x @ self.left[: x.shape[1]] + (self.left[-1] if len(self.left) > x.shape[1] else 0.0)
        between = np.square(x) @ function  # (count, n)
        rotated = np.stack([d @ self.right for d in D], axis=1)
        product: np.ndarray = (rotated * between[:, None]) @ rotated.transpose(0, 2, 1)
        return product

    def matrix(self, function: np.ndarray) -> np.ndarray:
        """f(A ⊗ G), (m n, m n), from its eigenvalues (m, n)."""
        U = np.kron(self.left, self.right)
        product: np.ndarray = (U * function.ravel()) @ U.T
        return product


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a positive semi-definite matrix, which is overwritten."""
    from scipy.linalg import eigh

    values, vectors = eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
    return np.maximum(values, 0.0), vectors
