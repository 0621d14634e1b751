"""The direction of K-FAC, given the inverses of its factors; the reference of the engine's K-FAC step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..plan import OpSpec

__all__ = ["kfac_direction"]


def kfac_direction(
    ops: Sequence[OpSpec],
    grad: np.ndarray,
    inverses: Sequence[tuple[np.ndarray, np.ndarray] | None],
    learning_rate: float,
    kl_clip: float,
) -> np.ndarray:
    """min(1, √(κ / (η² Σ u·∇))) u with u = A⁻¹ ∇ G⁻¹ per dense layer, and u = ∇ where there are no factors.

    Parameters
    ----------
    ops : sequence of OpSpec
    grad : ndarray (P,)
        The effective gradient ∇; of a dense layer, its weight's and below it its bias's are one matrix.
    inverses : sequence of (ndarray (m, m), ndarray (n_out, n_out)) or None
        A⁻¹ and G⁻¹ of every operation.
    learning_rate : float
        η.
    kl_clip : float
        κ: the step's squared length in the metric of the factors is at most that.

    Returns
    -------
    ndarray (P,)

    Notes
    -----
    Martens & Grosse 2015; the bound on the step is that of Ba, Grosse & Martens 2017, section 3.
    """
    u = grad.copy()
    for op, pair in zip(ops, inverses, strict=True):
        if pair is not None:
            A, G = pair
            block = slice(op.weight, op.weight + len(A) * len(G))
            u[block] = (A @ (grad[block].reshape(len(A), len(G)) @ G)).ravel()
    length = learning_rate**2 * float(u.astype(np.float64) @ grad.astype(np.float64))
    if length > kl_clip:
        factor = math.sqrt(kl_clip / length)
        u *= grad.dtype.type(factor if factor >= np.finfo(grad.dtype).tiny else math.nan)  # else the step would be 0
    return u
