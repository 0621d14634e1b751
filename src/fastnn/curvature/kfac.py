"""K-FAC: a dense layer's curvature as one Kronecker product of small matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator

from ..checks import check_number, check_seed
from ..kfac import draw
from .operators import SymmetricOperator
from .problem import DenseLayer, Problem

__all__ = ["KFACFactors", "kfac_factors"]

KINDS = ("ggn", "mc", "empirical")


class KFACFactors(Mapping[int, tuple[np.ndarray, np.ndarray]]):
    """Kronecker factors of the dense layers, by the layer's index in ``net.layers``.

    ``factors[i]`` is the pair (A, G); the layer's block of the curvature matrix is about A ⊗ G. Of the parameters of
    norm layers it knows nothing.

    Attributes
    ----------
    kind : str
    l2 : float
        Not in the factors: the operators add it.
    n_parameters : int
    """

    def __init__(
        self,
        factors: dict[int, tuple[np.ndarray, np.ndarray]],
        layers: list[DenseLayer],
        kind: str,
        l2: float,
        n_parameters: int,
    ) -> None:
        self._factors, self._layers = factors, layers
        self.kind, self.l2, self.n_parameters = kind, l2, n_parameters

    def __getitem__(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        return self._factors[layer]

    def __iter__(self) -> Any:
        return iter(self._factors)

    def __len__(self) -> int:
        return len(self._factors)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{i}: ({len(A)}, {len(G)})" for i, (A, G) in self.items())
        return f"KFACFactors({{{shapes}}}, kind={self.kind!r}, l2={self.l2:g}, n_parameters={self.n_parameters:,})"

    def operator(self, damping: float = 0.0) -> LinearOperator:
        """The approximation itself: A ⊗ G of every dense layer, plus l2 on the weights and `damping` on everything.

        Parameters
        ----------
        damping : float, default=0.0

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (P, P)
        """
        damping = check_number("damping", damping, minimum=0.0)

        return _Blocks(self, partial(_multiply, self, damping), damping)

    def inverse(self, damping: float) -> LinearOperator:
        """Approximate inverse of ``operator(damping)``: (A + π √λ I)⁻¹ ⊗ (G + √λ / π I)⁻¹ with λ = damping + l2.

        π = √((tr A / dim A) / (tr G / dim G)) shares λ between the factors (Martens & Grosse 2015, section 6.3). It is
        the inverse of a Kronecker product, which ``operator(damping)`` is not: it has π √λ I ⊗ G + A ⊗ √λ / π I
        besides, and l2 on the biases, too. Parameters of norm layers are divided by `damping`.

        Parameters
        ----------
        damping : float
            Above 0.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (P, P)
            Symmetric positive definite; ``M @ gradient`` is the natural-gradient direction, and M a preconditioner for
            SciPy's ``cg``.

        Raises
        ------
        TypeError, ValueError
            If `damping` is not a number above 0, or too small to make the factors positive definite in their dtype.
        """
        damping = check_number("damping", damping, above=0.0)
        root = math.sqrt(damping + self.l2)
        solved = {}
        for i, (A, G) in self._factors.items():
            a, g = float(np.trace(A)) / len(A), float(np.trace(G)) / len(G)
            pi = math.sqrt(a / g) if a > 0.0 and g > 0.0 else 1.0
            try:
                solved[i] = (
                    cho_factor(A + A.dtype.type(pi * root) * np.eye(len(A), dtype=A.dtype)),
                    cho_factor(G + G.dtype.type(root / pi) * np.eye(len(G), dtype=G.dtype)),
                )
            except np.linalg.LinAlgError:
                raise ValueError(
                    f"damping: {damping:g} is too small for {A.dtype}: with it a factor of layer {i} is not positive "
                    "definite"
                ) from None

        return _Blocks(self, partial(_divide, solved), 1.0 / damping)


def _multiply(factors: KFACFactors, damping: float, layer: DenseLayer, V: np.ndarray) -> np.ndarray:
    """(A ⊗ G + l2 I_W + damping I) V for n vectors, (n, n_in [+ 1], n_out)."""
    A, G = factors[layer.index]
    result: np.ndarray = A @ V @ G
    result += A.dtype.type(damping) * V
    weight = slice(0, layer.op.n_in)
    result[:, weight] += A.dtype.type(factors.l2) * V[:, weight]
    return result


def _divide(solved: dict[int, tuple[Any, Any]], layer: DenseLayer, V: np.ndarray) -> np.ndarray:
    """(A⁻¹ ⊗ G⁻¹) V by the Cholesky factors of A and G, for n vectors."""
    left, right = solved[layer.index]
    n, rows, columns = V.shape
    V = cho_solve(left, V.transpose(1, 0, 2).reshape(rows, -1)).reshape(rows, n, columns)
    return cho_solve(right, V.reshape(-1, columns).T).T.reshape(rows, n, columns).transpose(1, 0, 2)


class _Blocks(SymmetricOperator):
    """What acts on every dense layer's (n_in + 1, n_out) parameters, and as a number on all others."""

    def __init__(self, factors: KFACFactors, act: Any, rest: float) -> None:
        dtype = next(iter(factors.values()))[0].dtype
        super().__init__(dtype, (factors.n_parameters, factors.n_parameters))
        self._factors, self._act, self._rest = factors, act, rest

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        result = V * self.dtype.type(self._rest)
        for layer in self._factors._layers:
            block = V[:, layer.place].reshape(len(V), -1, layer.op.n_out)
            result[:, layer.place] = self._act(layer, block).reshape(len(V), -1)
        return result


def kfac_factors(
    net: Any,
    X: Any,
    y: Any,
    *,
    kind: str = "ggn",
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    seed: int | np.random.Generator | None = None,
) -> KFACFactors:
    """Kronecker factors of the curvature of every dense layer (Martens & Grosse 2015), weight and bias as one.

    With x̃ = (x, 1) what a layer reads and z its pre-activations::

        A = Σ w x̃ x̃ᵀ / Σ w        G = Σ w M / Σ w        block ≈ A ⊗ G

        "ggn"        M = (∂out/∂z)ᵀ H_ℓ (∂out/∂z)     exactly
        "mc"         M = δ δᵀ, δ = ∂ℓ/∂z with a target drawn from the model's own distribution: as "ggn" in the mean
        "empirical"  M = δ δᵀ, δ = ∂ℓ/∂z with the given targets

    Parameters
    ----------
    net : Sequential
    X : array_like (N, D)
        At least one row.
    y : array_like
        As for ``net.fit``. Only "empirical" depends on it (and huber's H_ℓ).
    kind : {"ggn", "mc", "empirical"}
    sample_weight : array_like (N,), optional
    l2 : float, default=0.0
        Kept for the operators, which add it; the factors have no part of it.
    training : bool, default=False
        Must be False where there is batch norm.
    threads : int, optional
    seed : int, numpy.random.Generator or None, optional
        Of the draws of "mc".

    Returns
    -------
    KFACFactors
        A mapping from the layer's index to (A, G), of shapes (n_in [+ 1], n_in [+ 1]) and (n_out, n_out), with
        ``operator()`` and ``inverse(damping)``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; with ``training=True`` and batch norm, where rows depend on each other; for the
        loss absolute_error and the activation sign (but for "empirical"); and for "mc" with huber, which belongs to no
        distribution with this curvature.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    problem = Problem(
        net,
        X,
        y,
        sample_weight,
        l2,
        training,
        threads,
        what="kfac_factors",
        second_order=kind != "empirical",
        separate=True,
    )
    if kind == "mc" and net.loss_name == "huber":
        raise ValueError("kfac_factors: kind 'mc' needs a loss that is a log-likelihood, got 'huber'; use 'ggn'")
    rng = check_seed(seed)
    layers = problem.dense_layers()
    dtype = problem.dtype
    factors = {
        layer.index: (
            np.zeros((layer.op.n_in + layer.bias,) * 2, dtype),
            np.zeros((layer.op.n_out,) * 2, dtype),
        )
        for layer in layers
    }
    for rows in problem.chunks(2 * problem.row_elements + problem.n_outputs**2):
        # Cotangents c of the outputs with Σ c cᵀ = H_ℓ: each goes back through the network once.
        first = problem.linearize(rows, weighted=False)
        # What the roots of the weights multiply is squared in A and G.
        root = np.full(first.n_rows, 1.0 / problem.total)
        if problem.weight is not None:
            root *= problem.weight[rows]
        root = np.sqrt(root).astype(dtype)[:, None]
        for layer in layers:
            x = first.inputs(layer.index) * root
            if layer.bias:
                x = np.concatenate([x, root], axis=1)
            A = factors[layer.index][0]
            A += problem.kernels.matmul(x, x, transpose_a=True)
        if kind == "empirical":
            _add_outer(problem, first, layers, root, factors)
            continue
        q = first.curvature.copy()
        for cotangent in _roots(q, problem.softmax) if kind == "ggn" else [draw(net.loss_name, first.outputs, q, rng)]:
            first = problem.linearize(rows, cotangent=cotangent, weighted=False, into=first)
            _add_outer(problem, first, layers, root, factors)
    for A, G in factors.values():
        for matrix in (A, G):
            np.add(matrix, matrix.T, out=matrix)
            matrix *= 0.5
    return KFACFactors(factors, layers, kind, problem.l2, problem.n_parameters)


def _add_outer(
    problem: Problem,
    lin: Any,
    layers: list[DenseLayer],
    root: np.ndarray,
    factors: dict[int, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Add Σ δ δᵀ to the G of every layer, δ times the roots of the rows' weights."""
    for layer in layers:
        delta = lin.delta(layer.index) * root
        G = factors[layer.index][1]
        G += problem.kernels.matmul(delta, delta, transpose_a=True)


def _roots(q: np.ndarray, softmax: bool) -> Any:
    """Cotangents (N, K), K of them, whose outer products add up to the loss's Hessian.

    diag q is Σ (√q_k e_k)(…)ᵀ; diag q − q qᵀ is Σ (√q_k (e_k − q))(…)ᵀ, as q sums to 1.
    """
    for k in range(q.shape[1]):
        root = np.sqrt(q[:, k : k + 1])
        cotangent = -q * root if softmax else np.zeros_like(q)
        cotangent[:, k : k + 1] += root
        yield cotangent
