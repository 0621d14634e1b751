"""Where the objective of a network is convex: layer by layer and as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from .._typing import ArrayLike, Data, Seed
from ..checks import check_number, check_seed
from ..linalg.lanczos import extreme_eigenvalues
from ..linalg.symmetric_operator import DiagonalBlock
from ..network import Network
from .arguments import DataOptions, shared_arguments
from .blocks import selected_blocks
from .linearization import Linearization
from .products import CurvatureOperator
from .recursion import activation_derivatives
from .risk import EmpiricalRisk
from .whole import whole_matrix

__all__ = ["ConvexityReport", "LayerConvexity", "convexity_report"]

#: Up to this size LAPACK has all eigenvalues of a matrix, to the last digits, in a second or two.
SMALL = 2000


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


@dataclass(frozen=True, repr=False)
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

    __repr__ = __str__  # as notebooks and prompts show it


@shared_arguments
def convexity_report(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    gradient_tolerance: float = 1e-3,
    seed: Seed = 0,
    **data: Unpack[DataOptions],
) -> ConvexityReport:
    """Where the objective is convex around the present parameters, layer by layer and as a whole.

    All terms of a layer's block are positive semi-definite but diag(σ''(z) ⊙ ∂ℓ/∂a) (docs/theory.md, eq. 12.1). The
    report has the share of rows and units in which that term is negative, and the extreme eigenvalues of each block.
    Blocks without negative eigenvalues do not make the objective convex: the smallest eigenvalue of the whole Hessian
    decides, with the gradient, between a minimum and a saddle.

    Parameters
    ----------
    {net, X, y, sample_weight, l2, training, threads}
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
    {not defined}

    Notes
    -----
    Eigenvalues of matrices of up to 2,000 rows are LAPACK's. Those of larger ones are Lanczos's, by up to 300 products
    (fewer where the vectors would take more than 1 GiB), which end early when the residuals are within 1e-8 (float32:
    1e-5) of the largest eigenvalue by size; where they are not in the end, the report's `residual` tells. Eigenvalues
    within 100 √P ε times the largest one count as zero.
    """
    limit = check_number("gradient_tolerance", gradient_tolerance, above=0.0)
    rng = check_seed(seed)
    risk = EmpiricalRisk(net, X, y, what="convexity_report", **data)
    shares = _negative_shares(risk)
    places = {i: risk.place(i) for i in risk.layers_with_parameters()}
    ends = {}
    if risk.n_parameters <= SMALL:
        H = whole_matrix(risk, "hessian", None, "")
        ends = {i: extreme_eigenvalues(H[place, place], rng) for i, place in places.items()}
        whole = extreme_eigenvalues(H, rng)
    else:
        operator = CurvatureOperator(risk, "hessian", "auto")
        small = tuple(i for i, place in places.items() if place.stop - place.start <= SMALL)
        for i, block in selected_blocks(risk, "hessian", small).items():
            ends[i] = extreme_eigenvalues(block, rng)
        for i, place in places.items():
            if i not in ends:
                ends[i] = extreme_eigenvalues(DiagonalBlock(operator, place), rng)
        whole = extreme_eigenvalues(operator, rng)
    smallest, largest, residual = whole
    norm = float(np.linalg.norm(net.gradient(X, y, **data).astype(np.float64)))
    size = max(abs(smallest), abs(largest))
    tolerance = 100.0 * math.sqrt(risk.n_parameters) * float(np.finfo(risk.dtype).eps) * size
    verdict = "not stationary" if norm > limit * size else _verdict(smallest, largest, residual, tolerance)
    layers = tuple(
        LayerConvexity(i, type(net.layers[i]).__name__, shares.get(i), *ends[i]) for i in risk.layers_with_parameters()
    )
    return ConvexityReport(layers, norm, smallest, largest, tolerance, residual, verdict, smallest >= -tolerance)


def _verdict(smallest: float, largest: float, residual: float, tolerance: float) -> str:
    """What a stationary point is: a Ritz value proves an eigenvalue of its sign; that all have it takes a margin."""
    if smallest < -tolerance:
        if largest > tolerance:
            return "saddle"
        return "maximum" if largest + residual < -tolerance else "no positive curvature (degenerate)"
    return "minimum" if smallest - residual > tolerance else "no negative curvature (degenerate)"


def _negative_shares(risk: EmpiricalRisk) -> dict[int, float | None]:
    """Share of rows × units with a negative σ'' ∂ℓ/∂a, by the layer with parameters that σ stands behind."""
    groups: dict[int, list[int]] = {}
    for i, op in enumerate(risk.ops):
        if op.weight >= 0:
            groups[i] = [i] if op.kind == "dense" else []
        elif op.kind == "activation" and groups:
            groups[max(groups)].append(i)
    negative = dict.fromkeys(groups, 0)
    nonlinear = dict.fromkeys(groups, False)
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements):
        lin = risk.linearize(rows, into=lin)
        for i, group in groups.items():
            bend = activation_derivatives(lin, group)[1]
            if bend is not None:
                nonlinear[i] = True
                negative[i] += int((bend < 0.0).sum())
    return {i: negative[i] / (risk.n_rows * risk.ops[i].n_out) if nonlinear[i] else None for i in groups}
