"""K-FAC: a dense layer's curvature as one Kronecker product of small matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Unpack

import numpy as np
from scipy.sparse.linalg import LinearOperator

from .._typing import ArrayLike, Data, Seed
from ..checks import check_number, check_seed
from ..linalg.kronecker import KroneckerInverse, split_damping
from ..linalg.symmetric_operator import SymmetricOperator
from ..network import Network
from .arguments import DataOptions, shared_arguments
from .linearization import Linearization
from .recursion import activation_derivatives
from .risk import DenseLayer, EmpiricalRisk

__all__ = ["KFACFactors", "kfac_factors", "kronecker_factors"]

KINDS = ("ggn", "mc", "empirical")

#: What the element-wise work on a row's (n, n) matrix costs, in multiplications of a product for each element.
ELEMENTWISE = 240


class KFACFactors(Mapping[int, tuple[np.ndarray, np.ndarray]]):
    """Kronecker factors of the dense layers, by the layer's index in ``net.layers``.

    ``factors[i]`` is the pair (A, G); the layer's block of the curvature matrix is about A ⊗ G. Parameters of norm
    layers have no factors.

    Attributes
    ----------
    kind : str
    l2 : float
        Not in the factors: the operators add it, to layers with an l2 of their own that.
    n_parameters : int
    """

    def __init__(
        self,
        factors: dict[int, tuple[np.ndarray, np.ndarray]],
        layers: list[DenseLayer],
        kind: str,
        risk: EmpiricalRisk,
    ) -> None:
        self._factors, self._layers = factors, layers
        self._ridges = {layer.index: risk.ridge(layer.op) for layer in layers}
        self.kind, self.l2, self.n_parameters = kind, risk.l2, risk.n_parameters

    def __getitem__(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        return self._factors[layer]

    def __iter__(self) -> Iterator[int]:
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
        return _Approximation(self.n_parameters, self._layers, self._factors, self._ridges, damping)

    def inverse(self, damping: float) -> LinearOperator:
        """Approximate inverse of ``operator(damping)``: (A + π √λ I)⁻¹ ⊗ (G + √λ / π I)⁻¹ with λ = damping + l2.

        π = √((tr A / dim A) / (tr G / dim G)) shares λ between the factors (Martens & Grosse 2015, section 6.3). It is
        the inverse of a Kronecker product, which ``operator(damping)`` is not: it has π √λ I ⊗ G + A ⊗ √λ / π I
        besides, and l2 on the biases as well. Parameters of norm layers are divided by `damping`.

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
        inverses = {}
        for i, (A, G) in self._factors.items():
            try:
                inverses[i] = KroneckerInverse(A, G, *split_damping(A, G, damping + self._ridges[i]))
            except np.linalg.LinAlgError:
                raise ValueError(
                    f"damping: {damping:g} is too small for {A.dtype}: with it a factor of layer {i} is not positive "
                    "definite"
                ) from None
        return _Inverse(self.n_parameters, self._layers, inverses, _dtype(self._factors), damping)


class _LayerwiseOperator(SymmetricOperator):
    """A block for each dense layer's parameters (n_in [+ 1], n_out), and a multiple of I for all others."""

    def __init__(self, dtype: np.dtype, n_parameters: int, layers: list[DenseLayer], rest: float) -> None:
        super().__init__(dtype, (n_parameters, n_parameters))
        self._layers, self._rest = layers, rest

    def _block_product(self, layer: DenseLayer, V: np.ndarray) -> np.ndarray:
        """Products of the layer's block with vectors (count, n_in [+ 1], n_out)."""
        raise NotImplementedError

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        result: np.ndarray = V * self.dtype.type(self._rest)
        for layer in self._layers:
            block = V[:, layer.place].reshape(len(V), -1, layer.op.n_out)
            result[:, layer.place] = self._block_product(layer, block).reshape(len(V), -1)
        return result


class _Approximation(_LayerwiseOperator):
    """A ⊗ G + l2 I_W + damping I of each layer."""

    def __init__(
        self,
        n_parameters: int,
        layers: list[DenseLayer],
        factors: dict[int, tuple[np.ndarray, np.ndarray]],
        ridges: dict[int, float],
        damping: float,
    ) -> None:
        super().__init__(_dtype(factors), n_parameters, layers, damping)
        self._factors, self._ridges, self._damping = factors, ridges, damping

    def _block_product(self, layer: DenseLayer, V: np.ndarray) -> np.ndarray:
        A, G = self._factors[layer.index]
        result: np.ndarray = A @ V @ G
        result += A.dtype.type(self._damping) * V
        weight = slice(0, layer.op.n_in)
        result[:, weight] += A.dtype.type(self._ridges[layer.index]) * V[:, weight]
        return result


class _Inverse(_LayerwiseOperator):
    """The inverse of a damped A ⊗ G of each layer, and of the damping for all other parameters."""

    def __init__(
        self,
        n_parameters: int,
        layers: list[DenseLayer],
        inverses: dict[int, KroneckerInverse],
        dtype: np.dtype,
        damping: float,
    ) -> None:
        super().__init__(dtype, n_parameters, layers, 1.0 / damping)
        self._inverses = inverses

    def _block_product(self, layer: DenseLayer, V: np.ndarray) -> np.ndarray:
        return self._inverses[layer.index].multiply(V)


def _dtype(factors: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> np.dtype:
    return next(iter(factors.values()))[0].dtype


@shared_arguments
def kfac_factors(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    kind: Literal["ggn", "mc", "empirical"] = "ggn",
    seed: Seed = None,
    **data: Unpack[DataOptions],
) -> KFACFactors:
    """Kronecker factors of the curvature of every dense layer (Martens & Grosse 2015), weight and bias as one.

    With x̃ = (x, 1) what a layer reads and z its pre-activations::

        A = Σ w x̃ x̃ᵀ / Σ w        G = Σ w M / Σ w        block ≈ A ⊗ G

        "ggn"        M = (∂out/∂z)ᵀ H_ℓ (∂out/∂z)     exactly
        "mc"         M = δ δᵀ, δ = ∂ℓ/∂z with a target drawn from the model's own distribution: as "ggn" in the mean
        "empirical"  M = δ δᵀ, δ = ∂ℓ/∂z with the given targets

    Parameters
    ----------
    {net, X}
    y : array_like
        As for ``net.fit``. Only "empirical" depends on it (and huber's H_ℓ).
    kind : {"ggn", "mc", "empirical"}
    {sample_weight}
    l2 : float, default=0.0
        Kept for the operators, which add it; the factors have no part of it.
    {training=False, threads}
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
    second_order = kind != "empirical"
    risk = EmpiricalRisk(net, X, y, what="kfac_factors", second_order=second_order, per_sample=True, **data)
    if kind == "mc" and not net.loss_function.is_likelihood:
        raise ValueError(
            f"kfac_factors: kind 'mc' needs a loss that is a log-likelihood, got {net.loss_name!r}; use 'ggn'"
        )
    rng = check_seed(seed)
    return kronecker_factors(risk, kind, rng if kind == "mc" else None)


def kronecker_factors(
    risk: EmpiricalRisk, kind: Literal["ggn", "mc", "empirical"], rng: np.random.Generator | None
) -> KFACFactors:
    """What :func:`kfac_factors` gives, of rows that do not depend on each other; "mc" needs `rng`."""
    layers = risk.dense_layers()
    dtype = risk.dtype
    factors = {
        layer.index: (
            np.zeros((layer.op.n_in + layer.bias,) * 2, dtype),
            np.zeros((layer.op.n_out,) * 2, dtype),
        )
        for layer in layers
    }
    whole = kind == "ggn" and _recursion_is_cheaper(risk, layers)
    hidden = max((layer.op.n_out for layer in layers[:-1]), default=0) if whole else 0
    for rows in risk.chunks(2 * risk.row_elements + 4 * hidden**2):
        first = risk.linearize(rows, weighted=False)
        # What the roots of the weights multiply is squared in A and G.
        root = np.full(first.n_rows, 1.0 / risk.total)
        if risk.weight is not None:
            root *= risk.weight[rows]
        root = np.sqrt(root).astype(dtype)[:, None]
        for layer in layers:
            x = first.inputs(layer.index) * root
            if layer.bias:
                x = np.concatenate([x, root], axis=1)
            A = factors[layer.index][0]
            A += risk.kernels.matmul(x, x, transpose_a=True)
        if kind == "empirical":
            _add_outer(risk, first, layers, root, factors)
            continue
        rest = layers
        if kind == "ggn" and (whole or _ends_elementwise(risk, layers)):
            done = layers if whole else layers[-1:]
            for layer, moment in zip(reversed(done), _second_moments(risk, first, done, root), strict=True):
                G = factors[layer.index][1]
                G += moment
            rest = layers[: len(layers) - len(done)]
        # Cotangents v of the outputs with Σ v vᵀ = H_ℓ: each goes back through the network once.
        q, c = first.curvature.copy(), first.curvature_weight
        cotangents = _roots(q, risk.softmax) if rng is None else [risk.net.loss_function.draw(first.outputs, q, rng)]
        for cotangent in cotangents if rest else ():
            if c is not None:
                cotangent *= np.sqrt(c)[:, None]
            first = risk.linearize(rows, cotangent=cotangent, weighted=False, into=first)
            _add_outer(risk, first, rest, root, factors)
    for A, G in factors.values():
        for matrix in (A, G):
            np.add(matrix, matrix.T, out=matrix)
            matrix *= 0.5
    return KFACFactors(factors, layers, kind, risk)


def _ends_elementwise(risk: EmpiricalRisk, layers: list[DenseLayer]) -> bool:
    """Whether the last dense layer's pre-activations become the outputs element by element."""
    return all(op.kind in ("activation", "dropout") for op in risk.ops[layers[-1].index + 1 :])


def _recursion_is_cheaper(risk: EmpiricalRisk, layers: list[DenseLayer]) -> bool:
    """Whether :func:`_second_moments` of all layers takes fewer multiplications than a backward pass per output."""
    if risk.chain() is None:
        return False
    ops, K = [layer.op for layer in layers], risk.n_outputs
    recursion = sum(op.n_in * op.n_out * (op.n_in + op.n_out) for op in ops[1:-1])
    recursion += (K + ELEMENTWISE) * ops[-1].n_in ** 2 if len(ops) > 1 else 0
    passes = K * sum(2 * op.n_in * op.n_out for op in ops) + K * sum(op.n_out**2 for op in ops[:-1])
    return recursion <= passes


def _second_moments(
    risk: EmpiricalRisk, lin: Linearization, layers: list[DenseLayer], root: np.ndarray
) -> Iterator[np.ndarray]:
    """Σ c (∂out/∂z)ᵀ H_ℓ (∂out/∂z) of layers, from the last one of the network to the first one given; roots of c.

    Neither the last layer nor the one before needs a row's (K, K) matrix (docs/theory.md, eq. 9.7 and 9.8); the others
    follow by the recursion of eq. 5.3.
    """
    kernels = risk.kernels
    scale = np.square(root)
    if lin.curvature_weight is not None:
        scale *= lin.curvature_weight[:, None]
    q, rows = lin.curvature, np.arange(lin.n_rows)
    if risk.softmax:  # of the likeliest output only 1 − q enters, which the others add up to
        top = q.argmax(axis=1)
        q = q.copy()
        q[rows, top] = 0.0
        rest = q.sum(axis=1, keepdims=True)
        complement = 1.0 - lin.curvature
        complement[rows, top] = rest[:, 0]
        moment = -kernels.matmul(lin.curvature * scale, lin.curvature, transpose_a=True)
        np.fill_diagonal(moment, (scale * lin.curvature * complement).sum(axis=0))
    else:
        slope, _ = activation_derivatives(lin, layers[-1].elementwise)
        if slope is not None:
            q = q * slope**2
        moment = np.diag((scale * q).sum(axis=0))
    yield moment
    if len(layers) == 1:
        return
    W = layers[-1].weight(risk.theta)
    A = np.empty((len(q), len(W), len(W)), risk.dtype)
    q = scale * q
    for a, row in enumerate(W):
        A[:, a, a:] = kernels.matmul(q, np.ascontiguousarray((row * W[a:]).T))
        A[:, a:, a] = A[:, a, a:]
    if risk.softmax:
        u, of_top = kernels.matmul(q, np.ascontiguousarray(W.T)), W.T[top]
        A -= u[:, :, None] * of_top[:, None, :] + of_top[:, :, None] * u[:, None, :]
        A += (scale * rest * of_top)[:, :, None] * of_top[:, None, :]
        u -= scale * rest * of_top
        A -= u[:, :, None] * np.divide(u, scale, out=np.zeros_like(u), where=scale > 0.0)[:, None, :]
    slope, _ = activation_derivatives(lin, layers[-2].elementwise)
    if slope is not None:
        A *= slope[:, :, None]
        A *= slope[:, None, :]
    yield A.sum(axis=0)
    for layer, later in zip(reversed(layers[:-2]), reversed(layers[:-1]), strict=False):
        slope, _ = activation_derivatives(lin, layer.elementwise)
        A = kernels.curvature_backward(A, later.weight(risk.theta), slope, None, threads=risk.threads)
        yield A.sum(axis=0)


def _add_outer(
    risk: EmpiricalRisk,
    lin: Linearization,
    layers: list[DenseLayer],
    root: np.ndarray,
    factors: dict[int, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Add Σ δ δᵀ to the G of every layer, δ times the roots of the rows' weights."""
    for layer in layers:
        delta = lin.delta(layer.index) * root
        G = factors[layer.index][1]
        G += risk.kernels.matmul(delta, delta, transpose_a=True)


def _roots(q: np.ndarray, softmax: bool) -> Iterator[np.ndarray]:
    """Cotangents (N, K), K of them, whose outer products add up to the loss's Hessian.

    diag q is Σ (√q_k e_k)(…)ᵀ; diag q − q qᵀ is Σ (√q_k (e_k − q))(…)ᵀ, as q sums to 1.
    """
    for k in range(q.shape[1]):
        root = np.sqrt(q[:, k : k + 1])
        cotangent = -q * root if softmax else np.zeros_like(q)
        cotangent[:, k : k + 1] += root
        yield cotangent
