"""Density of the eigenvalues, and trace, of a curvature matrix or of any symmetric operator, by products."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Unpack, cast

import numpy as np
from scipy.linalg import eigh_tridiagonal, qr
from scipy.sparse.linalg import LinearOperator

from .._typing import ArrayLike, Data, Seed
from ..checks import check_integer, check_number, check_seed
from ..linalg.lanczos import lanczos
from ..network import Network
from .arguments import DataOptions, given_options, shared_arguments, with_defaults
from .blocks import matrix_diagonal
from .products import OPERATORS
from .risk import EmpiricalRisk

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes

__all__ = ["Spectrum", "spectrum", "trace"]


@dataclass(frozen=True)
class Spectrum:
    """Density of the eigenvalues of a symmetric matrix, estimated by Lanczos.

    Attributes
    ----------
    nodes, weights : ndarray of float64
        Points, ascending, and their share of the eigenvalues; the shares sum to 1. Σ weights f(nodes) estimates
        tr f(H) / P.
    smallest, largest : float
        The outermost nodes, which come close to the extreme eigenvalues.
    n_parameters : int
        P.
    """

    nodes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    smallest: float
    largest: float
    n_parameters: int

    def density(self, at: ArrayLike | None = None, width: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Density on a grid: a Gaussian around every node.

        Parameters
        ----------
        at : array_like, optional
            The grid; 500 points over the spectrum and three widths around it by default.
        width : float, optional
            Standard deviation of the Gaussians; a hundredth of the spectrum's extent by default.

        Returns
        -------
        at, density : ndarray of float64
            The density integrates to 1.
        """
        extent = self.largest - self.smallest or max(abs(self.largest), 1.0)
        sigma = extent / 100.0 if width is None else check_number("width", width, above=0.0)
        if at is None:
            at = np.linspace(self.smallest - 3.0 * sigma, self.largest + 3.0 * sigma, 500)
        x = np.asarray(at, dtype=np.float64)
        bells = np.exp(-0.5 * ((x[..., None] - self.nodes) / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))
        return x, bells @ self.weights

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, ax: Axes | None = None, title: str | None = None
    ) -> Axes:
        """Draw the density; see :func:`fastnn.plotting.plot_spectrum`."""
        from ..plotting import plot_spectrum

        return plot_spectrum(self, path, ax=ax, title=title)


@shared_arguments
def spectrum(
    target: Network | LinearOperator,
    X: Data | None = None,
    y: ArrayLike | None = None,
    *,
    kind: Literal["hessian", "ggn", "fisher"] = "hessian",
    n_steps: int = 80,
    n_vectors: int = 4,
    seed: Seed = 0,
    **data: Unpack[DataOptions],
) -> Spectrum:
    """Density of the eigenvalues by stochastic Lanczos quadrature.

    From each of some random vectors, `n_steps` of Lanczos give a tridiagonal matrix, whose eigenvalues are nodes and
    whose eigenvectors' squared first components are their weights (Golub & Welsch 1969; Ghorbani et al. 2019).

    Parameters
    ----------
    target : Sequential or scipy.sparse.linalg.LinearOperator
        A network, or any symmetric operator.
    X, y : array_like
        Rows (N, D) and targets, for a network.
    kind : {"hessian", "ggn", "fisher"}
        Which matrix, for a network.
    {sample_weight, l2, training, threads}
    n_steps : int, default=80
        Products for each vector; the nodes are exact eigenvalues when it reaches P.
    n_vectors : int, default=4
        Random vectors.
    seed : int, numpy.random.Generator or None, default=0

    Returns
    -------
    Spectrum

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    steps, count, rng = check_integer("n_steps", n_steps), check_integer("n_vectors", n_vectors), check_seed(seed)
    operator = _operator(target, X, y, kind, **with_defaults("spectrum", data))
    n = operator.shape[0]
    nodes, weights = [], []
    for _ in range(count):
        alpha, beta = lanczos(operator, rng.standard_normal(n), min(steps, n))
        values, vectors = eigh_tridiagonal(alpha, beta)
        nodes.append(values)
        weights.append(vectors[0] ** 2 / count)
    flat, shares = np.concatenate(nodes), np.concatenate(weights)
    order = np.argsort(flat)
    flat, shares = flat[order], shares[order]
    return Spectrum(flat, shares / shares.sum(), float(flat[0]), float(flat[-1]), n)


@shared_arguments
def trace(
    target: Network | LinearOperator,
    X: Data | None = None,
    y: ArrayLike | None = None,
    *,
    kind: Literal["hessian", "ggn", "fisher"] = "hessian",
    n_products: int | None = None,
    seed: Seed = 0,
    **data: Unpack[DataOptions],
) -> float:
    """Trace of a curvature matrix, exact where that is cheap, else estimated.

    A network of dense and element-wise layers has the trace of its Hessian and its Gauss-Newton matrix exactly, from
    their diagonals; so has every operator no larger than the number of products. Else Hutch++ estimates it (Meyer et
    al. 2021): exactly on the range of a random sketch, and by random signs on the rest.

    Parameters
    ----------
    target : Sequential or scipy.sparse.linalg.LinearOperator
        A network, or any symmetric operator.
    X, y : array_like
        Rows (N, D) and targets, for a network.
    kind : {"hessian", "ggn", "fisher"}
        Which matrix, for a network.
    {sample_weight, l2, training, threads}
    n_products : int, optional
        Estimate by that many products, at least 3, whatever the network; 99 where an estimate is needed by default.
    seed : int, numpy.random.Generator or None, default=0

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    rng = check_seed(seed)
    _check_target(target)
    count = 99 if n_products is None else check_integer("n_products", n_products, minimum=3)
    if n_products is None and kind in ("hessian", "ggn") and not isinstance(target, LinearOperator):
        risk = EmpiricalRisk(target, cast(Data, X), y, what="trace", **data)
        if risk.chain() is not None:
            return float(matrix_diagonal(risk, kind).sum(dtype=np.float64))
    operator = _operator(target, X, y, kind, **data)
    n = operator.shape[0]
    if n <= count:
        return float(np.trace(_columns(operator, np.eye(n))))
    third = count // 3
    signs = rng.integers(0, 2, (n, third)) * 2.0 - 1.0
    Q, _ = qr(_columns(operator, signs), mode="economic")
    rest = rng.integers(0, 2, (n, count - 2 * third)) * 2.0 - 1.0
    rest -= Q @ (Q.T @ rest)
    inside = float(np.einsum("pi,pi->", Q, _columns(operator, Q)))
    outside = float(np.einsum("pi,pi->", rest, _columns(operator, rest)))
    trace: float = inside + outside / rest.shape[1]
    return trace


def _columns(operator: LinearOperator, V: np.ndarray) -> np.ndarray:
    """Products with columns, in float64."""
    return np.asarray(operator.matmat(V.astype(operator.dtype)), dtype=np.float64)


def _operator(
    target: Network | LinearOperator,
    X: Data | None,
    y: ArrayLike | None,
    kind: str,
    **data: Unpack[DataOptions],
) -> LinearOperator:
    """The target itself, checked, or the operator of a network's matrix."""
    if not isinstance(kind, str) or kind not in OPERATORS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, OPERATORS))}, got {kind!r}")
    if isinstance(target, LinearOperator):
        given = {"X": X is not None, "y": y is not None, "kind": kind != "hessian"}
        names = [name for name, is_given in given.items() if is_given] + given_options(data)
        if names:
            raise TypeError(f"for networks only: {', '.join(names)}; got an operator")
        if target.shape[0] != target.shape[1]:
            raise ValueError(f"target: expected a square operator, got shape {target.shape}")
        if target.dtype not in (np.float32, np.float64):
            raise TypeError(f"target: expected an operator of float32 or float64, got dtype {target.dtype}")
        return target
    _check_target(target)
    return OPERATORS[kind](target, cast(Data, X), cast(ArrayLike, y), **data)


def _check_target(target: object) -> None:
    """Refuse what is neither a network nor an operator."""
    if not isinstance(target, Network | LinearOperator):
        hint = " (use scipy.sparse.linalg.aslinearoperator)" if hasattr(target, "shape") else ""
        raise TypeError(f"target must be a Sequential or a LinearOperator, got {type(target).__name__}{hint}")
