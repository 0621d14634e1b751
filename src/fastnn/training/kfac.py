"""K-FAC's running factors: estimated on rows of the data, damped, inverted. The step itself is the engine's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .._core.threads import blas_for_matrices
from .._typing import Options, Rows
from ..linalg.kronecker import damped_inverse, split_damping
from ..network import Network
from ..optimizers import KFAC
from ..plan import OpSpec

__all__ = ["Factors", "Inverses"]

#: A⁻¹ and G⁻¹ of every op, None for one without factors.
Inverses: TypeAlias = list[tuple[np.ndarray, np.ndarray] | None]

#: Least number of rows of an estimate, if the next batches have as many.
ROWS = 512


class Factors:
    """The factors A and G of every dense layer, in one flat array that belongs to the training's state.

    Parameters
    ----------
    net : Network
    optimizer : KFAC
    l2 : float
        Joins the damping, as a layer's own l2 does in its place: it is part of the curvature.
    threads : int

    Raises
    ------
    ValueError
        If K-FAC is not defined for the network: batch norm, or a loss without curvature.
    """

    def __init__(self, net: Network, optimizer: KFAC, l2: float, threads: int) -> None:
        if any(op.kind == "batch_norm" for op in net.ops):
            raise ValueError(
                "optimizer: K-FAC needs gradients of single rows, which batch norm couples; use LayerNorm or Adam"
            )
        if not net.loss_function.has_curvature:
            raise ValueError(
                f"optimizer: K-FAC needs a loss with curvature, {net.loss_function.name} has none; use huber"
            )
        self._net, self._optimizer, self._l2, self._threads = net, optimizer, l2, threads
        self._places: list[tuple[int, int, int] | None] = []  # of every op: offset, order of A, order of G
        self._order = 1  # of the largest
        at = 1  # the first element counts the estimates
        for op in net.ops:
            m = op.n_in + (op.bias >= 0)
            self._places.append((at, m, op.n_out) if op.kind == "dense" else None)
            if op.kind == "dense":
                at += m * m + op.n_out**2
                self._order = max(self._order, m, op.n_out)
        self.size = at

    def start(self) -> np.ndarray:
        """The array before the first estimate."""
        return np.zeros(self.size, self._net.dtype)

    def rows(self, batch_size: int) -> int:
        """Rows of an estimate."""
        return max(batch_size, ROWS)

    @property
    def update_every(self) -> int:
        """Batches between two estimates."""
        return self._optimizer.update_every

    def update(
        self, factors: np.ndarray, X: Rows, y: np.ndarray, w: np.ndarray | None, generator: np.random.Generator
    ) -> Inverses | None:
        """Move the factors by an estimate on rows of data; returns A⁻¹ and G⁻¹ of every op, None where not finite.

        ::

            A ← ρ A + (1 − ρ) Σ w x̃ x̃ᵀ / Σ w        G ← ρ G + (1 − ρ) Σ w δ δᵀ / Σ w
            (A + π √λ I)⁻¹,  (G + √λ / π I)⁻¹       π = √(tr A / m · n / tr G)

        with ρ smaller while there are few estimates.
        """
        # With one thread LAPACK has no more either: its bits then do not depend on the threads of BLAS.
        with blas_for_matrices(self._order, self._threads):
            return self._update(factors, X, y, w, generator)

    def _update(
        self, factors: np.ndarray, X: Rows, y: np.ndarray, w: np.ndarray | None, generator: np.random.Generator
    ) -> Inverses | None:
        net, factors[0] = self._net, factors[0] + 1
        symmetrize = net.kernels.symmetrize
        keep = min(self._optimizer.decay, 1.0 - 1.0 / float(factors[0]))
        plan = net.plan
        options: Options = {"buffers": net.state, "threads": self._threads}
        lin = plan.linearize(net.theta, X, y, w, **options)
        if lin.weight_sum == 0.0:
            factors[0] -= 1
            keep = 1.0
        if self._optimizer.kind == "mc":
            sample = net.loss_function.draw(lin.outputs, lin.curvature, generator)
            if lin.curvature_weight is not None:
                sample *= np.sqrt(lin.curvature_weight)[:, None]
            lin = plan.linearize(net.theta, X, cotangent=sample, into=lin, **options)
            root = None  # √w is in the deltas already
        else:
            root = None if w is None else np.sqrt(w)
        total = float(len(lin.outputs)) if w is None else float(w.sum(dtype=np.float64)) or 1.0
        inverses: Inverses = []
        for index, (op, place) in enumerate(zip(net.ops, self._places, strict=True)):
            if place is None:
                inverses.append(None)
                continue
            at, m, n = place
            A = factors[at : at + m * m].reshape(m, m)
            G = factors[at + m * m : at + m * m + n * n].reshape(n, n)
            delta = lin.delta(index)
            if root is not None:  # it carries w
                delta = np.divide(delta, root[:, None], out=np.zeros_like(delta), where=root[:, None] > 0)
            _move(A, _inputs(lin.inputs(index), op, w), keep, total, symmetrize)
            _move(G, delta, keep, total, symmetrize)
            pair = self._invert(A, G, self._l2 if op.l2 is None else op.l2)
            if pair is None:
                return None
            inverses.append(pair)
        return inverses

    def _invert(self, A: np.ndarray, G: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray] | None:
        if not (math.isfinite(float(np.trace(A))) and math.isfinite(float(np.trace(G)))):
            return None
        a, g = split_damping(A, G, self._optimizer.damping + l2)
        symmetrize = self._net.kernels.symmetrize
        left, right = damped_inverse(A, a, symmetrize), damped_inverse(G, g, symmetrize)
        return None if left is None or right is None else (left, right)


def _inputs(X: np.ndarray, op: OpSpec, w: np.ndarray | None) -> np.ndarray:
    """√w (x, 1)."""
    if op.bias >= 0:
        X = np.concatenate([X, np.ones((len(X), 1), X.dtype)], axis=1)
    return X if w is None else X * np.sqrt(w)[:, None]


def _move(
    factor: np.ndarray, rows: np.ndarray, keep: float, total: float, symmetrize: Callable[[np.ndarray], object]
) -> None:
    """factor ← keep · factor + (1 − keep) rowsᵀ rows / total."""
    from scipy.linalg.blas import get_blas_funcs

    (syrk,) = get_blas_funcs(("syrk",), (factor,))
    # of the transpose, which BLAS reads where it is; the lower triangle there is the upper one here
    moved = syrk((1.0 - keep) / total, rows.T, beta=keep, c=factor.T, trans=0, lower=1, overwrite_c=1)
    if not np.may_share_memory(moved, factor):
        factor[...] = moved.T
    symmetrize(factor)
