"""What the curvature says about a network: convexity, spectrum, trace."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh_tridiagonal, eigvalsh, qr
from scipy.sparse.linalg import LinearOperator

from ..checks import check_integer, check_number, check_seed
from ..network import Network
from .blocks import ggn_diagonal, hessian_diagonal, selected_blocks
from .dense import _whole
from .operators import CurvatureOperator, empirical_fisher_operator, ggn_operator, hessian_operator
from .problem import Problem, local

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ConvexityReport", "LayerConvexity", "Spectrum", "convexity_report", "spectrum", "trace"]

SMALL = 2000  # up to this size LAPACK has all eigenvalues of a matrix, to the last digits, in a second or two
STEPS = 300  # most products of Lanczos for the extreme eigenvalues
STEPS_BYTES = 1 << 30  # most memory for its vectors

OPERATORS = {"hessian": hessian_operator, "ggn": ggn_operator, "fisher": empirical_fisher_operator}


@dataclass(frozen=True)
class LayerConvexity:
    """One layer's part of a `ConvexityReport`.

    Attributes
    ----------
    layer : int
        Index in ``net.layers``.
    name : str
        Its class.
    negative : float or None
        Share of rows × units in which σ''(z) ∂ℓ/∂a < 0, σ being all that stands between the layer and the next one with
        parameters; None where σ'' is 0 everywhere.
    smallest, largest : float
        Extreme eigenvalues of the layer's diagonal block of the Hessian.
    residual : float
        As that of the report, for the block.
    """

    layer: int
    name: str
    negative: float | None
    smallest: float
    largest: float
    residual: float


@dataclass(frozen=True)
class ConvexityReport:
    """Where the objective is convex around the present parameters, and where not.

    Attributes
    ----------
    layers : tuple of LayerConvexity
    gradient_norm : float
        ‖∂J/∂θ‖.
    smallest, largest : float
        Extreme eigenvalues of the whole Hessian.
    tolerance : float
        Eigenvalues between −tolerance and tolerance count as zero.
    residual : float
        ‖H v − λ v‖ of the extreme eigenvalues, the larger of the two: an eigenvalue lies within it of each. 0 where
        they are LAPACK's. The smallest eigenvalue may lie below `smallest`, never above it.
    verdict : str
        ``"not stationary"`` where the gradient is not small; else

        - ``"saddle"``: with eigenvalues of both signs;
        - ``"minimum"``: all eigenvalues are positive, by more than `tolerance` and `residual`, so that J rises in every
          direction;
        - ``"maximum"``: all are negative, likewise;
        - ``"no negative curvature (degenerate)"``: none is negative, some are zero. Higher derivatives decide, which
          are not looked at: it may be one of a valley of minima, or a saddle as that of θ₁³ is at 0;
        - ``"no positive curvature (degenerate)"``: likewise.
    convex : bool
        Whether the whole Hessian has no negative eigenvalue, at whatever gradient.
    """

    layers: tuple[LayerConvexity, ...]
    gradient_norm: float
    smallest: float
    largest: float
    tolerance: float
    residual: float
    verdict: str
    convex: bool

    def __str__(self) -> str:
        lines = [f"{'layer':16}{'negative':>10}{'smallest':>14}{'largest':>14}"]
        for layer in self.layers:
            share = "-" if layer.negative is None else f"{layer.negative:.1%}"
            name = f"{layer.layer} {layer.name}"
            lines.append(f"{name:16}{share:>10}{layer.smallest:>14.4g}{layer.largest:>14.4g}")
        lines.append(f"{'whole Hessian':16}{'':>10}{self.smallest:>14.4g}{self.largest:>14.4g}")
        if self.residual:
            lines.append(f"eigenvalues by Lanczos, with residuals of {self.residual:.2g} or less")
        local = "convex" if self.convex else "not convex"
        lines.append(f"gradient norm {self.gradient_norm:.4g}: {self.verdict}; the Hessian here is {local}")
        return "\n".join(lines)


def convexity_report(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    gradient_tolerance: float = 1e-3,
    seed: int | np.random.Generator | None = 0,
) -> ConvexityReport:
    """Where the objective is convex around the present parameters, layer by layer and as a whole.

    All terms of a layer's block are positive semi-definite but diag(σ''(z) ⊙ ∂ℓ/∂a) (seed 002, appendix C, equation 87,
    the red term of its equation 82). The report has the share of rows and units in which that term is negative and the
    extreme eigenvalues of each block. Blocks without negative eigenvalues do not make the objective convex, as the
    appendix has it: the smallest eigenvalue of the whole Hessian decides, with the gradient, between a minimum and a
    saddle.

    Parameters
    ----------
    net : Sequential
    X : array_like (N, D)
        At least one row.
    y : array_like
        As for ``net.fit``.
    sample_weight : array_like (N,), optional
    l2 : float, default=0.0
        Of the weights; part of the gradient, of the blocks and of the Hessian.
    training : bool, default=False
        Whether batch norm uses the statistics of these rows.
    threads : int, optional
    gradient_tolerance : float, default=1e-3
        Largest gradient norm, as a multiple of the Hessian's largest eigenvalue by size, at which a point counts as
        stationary: a Newton step along that eigenvector is then about that long.
    seed : int, numpy.random.Generator or None, default=0
        Of Lanczos's start.

    Returns
    -------
    ConvexityReport

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or curvature is not defined: for the loss absolute_error and the activation sign.

    Notes
    -----
    Eigenvalues of matrices of up to 2,000 rows are LAPACK's. Those of larger ones are Lanczos's, by up to 300 products
    (fewer where the vectors would take more than 1 GiB), which end early when the residuals are within 1e-8 (float32:
    1e-5) of the largest eigenvalue by size; where they are not in the end, the report's `residual` tells. Eigenvalues
    within 100 √P ε times the largest one count as zero. Equations 88 and 89 of the document have the sign of z wrong
    for sigmoid and tanh: their σ'' is positive for z < 0.
    """
    limit = check_number("gradient_tolerance", gradient_tolerance, above=0.0)
    rng = check_seed(seed)
    options: dict[str, Any] = {"sample_weight": sample_weight, "l2": l2, "training": training, "threads": threads}
    problem = Problem(net, X, y, sample_weight, l2, training, threads, what="convexity_report")
    shares = _negative_shares(problem)
    places = {i: problem.place(i) for i in _with_parameters(problem)}
    ends = {}
    if problem.n_parameters <= SMALL:
        H = _whole(problem, "hessian", None, "")
        ends = {i: extremes(H[place, place], rng) for i, place in places.items()}
        whole = extremes(H, rng)
    else:
        operator = CurvatureOperator(problem, "hessian", "auto")
        small = tuple(i for i, place in places.items() if place.stop - place.start <= SMALL)
        for i, block in selected_blocks(problem, "hessian", small).items():
            ends[i] = extremes(block, rng)
        for i, place in places.items():
            if i not in ends:
                ends[i] = extremes(_Block(operator, place), rng)
        whole = extremes(operator, rng)
    smallest, largest, residual = whole
    norm = float(np.linalg.norm(net.gradient(X, y, **options).astype(np.float64)))
    size = max(abs(smallest), abs(largest))
    tolerance = 100.0 * math.sqrt(problem.n_parameters) * float(np.finfo(problem.dtype).eps) * size
    verdict = "not stationary" if norm > limit * size else _verdict(smallest, largest, residual, tolerance)
    layers = tuple(
        LayerConvexity(i, type(net.layers[i]).__name__, shares.get(i), *ends[i]) for i in _with_parameters(problem)
    )
    return ConvexityReport(layers, norm, smallest, largest, tolerance, residual, verdict, smallest >= -tolerance)


def _verdict(smallest: float, largest: float, residual: float, tolerance: float) -> str:
    """What a stationary point is: a Ritz value proves an eigenvalue of its sign; that all have it takes a margin."""
    if smallest < -tolerance:
        if largest > tolerance:
            return "saddle"
        return "maximum" if largest + residual < -tolerance else "no positive curvature (degenerate)"
    return "minimum" if smallest - residual > tolerance else "no negative curvature (degenerate)"


def _with_parameters(problem: Problem) -> list[int]:
    return [i for i, op in enumerate(problem.ops) if op.weight >= 0]


def _negative_shares(problem: Problem) -> dict[int, float | None]:
    """Share of rows × units with a negative σ'' ∂ℓ/∂a, by the layer with parameters that σ stands behind."""
    groups: dict[int, list[int]] = {}
    for i, op in enumerate(problem.ops):
        if op.weight >= 0:
            groups[i] = [i] if op.kind == "dense" else []
        elif op.kind == "activation" and groups:
            groups[max(groups)].append(i)
    negative = dict.fromkeys(groups, 0)
    bent = dict.fromkeys(groups, False)
    lin = None
    for rows in problem.chunks(problem.row_elements):
        lin = problem.linearize(rows, into=lin)
        for i, group in groups.items():
            bend = local(lin, group)[1]
            if bend is not None:
                bent[i] = True
                negative[i] += int((bend < 0.0).sum())
    return {i: negative[i] / (problem.n_rows * problem.ops[i].n_out) if bent[i] else None for i in groups}


class _Block(LinearOperator):
    """A diagonal block of an operator."""

    def __init__(self, whole: LinearOperator, place: slice) -> None:
        super().__init__(whole.dtype, (place.stop - place.start,) * 2)
        self._whole, self._place = whole, place

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, (-1, 1)))[:, 0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        full = np.zeros((self._whole.shape[0], X.shape[1]), self.dtype)
        full[self._place] = X
        return self._whole.matmat(full)[self._place]


def extremes(matrix: Any, rng: np.random.Generator) -> tuple[float, float, float]:
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
    for alpha, beta, last in _lanczos_steps(matrix, rng.standard_normal(n), most):
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

    def density(self, at: Any = None, width: float | None = None) -> tuple[np.ndarray, np.ndarray]:
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
    ) -> Figure:
        """Draw the density; see :func:`fastnn.plotting.plot_spectrum`."""
        from ..plotting import plot_spectrum

        return plot_spectrum(self, path, ax=ax, title=title)


def spectrum(
    target: Any,
    X: Any = None,
    y: Any = None,
    *,
    kind: str = "hessian",
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    n_steps: int = 80,
    n_vectors: int = 4,
    seed: int | np.random.Generator | None = 0,
) -> Spectrum:
    """Density of the eigenvalues by stochastic Lanczos quadrature.

    From each of some random vectors, `n_steps` of Lanczos give a tridiagonal matrix, whose eigenvalues are nodes and
    whose eigenvectors' squared first components are their weights (Golub & Welsch 1969; Ghorbani et al. 2019).

    Parameters
    ----------
    target : Sequential or scipy.sparse.linalg.LinearOperator
        A network, or any symmetric operator.
    X, y : array_like
        Data, for a network.
    kind : {"hessian", "ggn", "fisher"}
        Which matrix, for a network.
    sample_weight, l2, training, threads
        As for :func:`hessian_operator`, for a network.
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
    operator = _operator(target, X, y, kind, sample_weight, l2, training, threads)
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


def lanczos(operator: Any, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and off-diagonal of Lanczos's tridiagonal matrix, in float64, with full reorthogonalisation.

    It ends early where the vectors span an invariant subspace.
    """
    *_, (alpha, beta, _) = _lanczos_steps(operator, start, steps)
    return alpha, beta[:-1]


def _lanczos_steps(operator: Any, start: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
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


def trace(
    target: Any,
    X: Any = None,
    y: Any = None,
    *,
    kind: str = "hessian",
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    n_products: int | None = None,
    seed: int | np.random.Generator | None = 0,
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
        Data, for a network.
    kind : {"hessian", "ggn", "fisher"}
        Which matrix, for a network.
    sample_weight, l2, training, threads
        As for :func:`hessian_operator`, for a network.
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
        options: dict[str, Any] = {"sample_weight": sample_weight, "l2": l2, "training": training, "threads": threads}
        problem = Problem(target, X, y, what="trace", **options)
        if problem.chain() is not None:
            diagonal = (hessian_diagonal if kind == "hessian" else ggn_diagonal)(target, X, y, **options)
            return float(diagonal.sum(dtype=np.float64))
    operator = _operator(target, X, y, kind, sample_weight, l2, training, threads)
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
    return inside + outside / rest.shape[1]


def _columns(operator: LinearOperator, V: np.ndarray) -> np.ndarray:
    """Products with columns, in float64."""
    return np.asarray(operator.matmat(V.astype(operator.dtype)), dtype=np.float64)


def _operator(
    target: Any, X: Any, y: Any, kind: Any, sample_weight: Any, l2: Any, training: Any, threads: Any
) -> LinearOperator:
    if not isinstance(kind, str) or kind not in OPERATORS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, OPERATORS))}, got {kind!r}")
    if isinstance(target, LinearOperator):
        given = {
            "X": X is not None,
            "y": y is not None,
            "kind": kind != "hessian",
            "sample_weight": sample_weight is not None,
            "l2": l2 != 0.0,
            "training": training is not False,
            "threads": threads is not None,
        }
        if any(given.values()):
            names = ", ".join(name for name, is_given in given.items() if is_given)
            raise TypeError(f"for networks only: {names}; got an operator")
        if target.shape[0] != target.shape[1]:
            raise ValueError(f"target: expected a square operator, got shape {target.shape}")
        if target.dtype not in (np.float32, np.float64):
            raise TypeError(f"target: expected an operator of float32 or float64, got dtype {target.dtype}")
        return target
    _check_target(target)
    return OPERATORS[kind](target, X, y, sample_weight=sample_weight, l2=l2, training=training, threads=threads)


def _check_target(target: Any) -> None:
    if not isinstance(target, Network | LinearOperator):
        hint = " (use scipy.sparse.linalg.aslinearoperator)" if hasattr(target, "shape") else ""
        raise TypeError(f"target must be a Sequential or a LinearOperator, got {type(target).__name__}{hint}")
