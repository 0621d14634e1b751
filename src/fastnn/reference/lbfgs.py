"""The direction of stochastic L-BFGS; the reference of the engine's step."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["lbfgs_direction"]


def lbfgs_direction(
    grad: np.ndarray,
    basis: np.ndarray,
    middle: np.ndarray,
    scale: float,
    learning_rate: float,
    kl_clip: float,
) -> np.ndarray:
    """min(1, √(κ / (η² u·∇))) u with u = H ∇ and H = γ I + Bᵀ N B.

    Parameters
    ----------
    grad : ndarray (P,)
        The effective gradient ∇.
    basis : ndarray (r, P)
        B.
    middle : ndarray (r, r) of float64
        N.
    scale : float
        γ.
    learning_rate : float
        η.
    kl_clip : float
        κ: the step's squared length in the metric H⁻¹ is at most that.

    Returns
    -------
    ndarray (P,)

    Notes
    -----
    The compact form of L-BFGS's inverse (Byrd, Nocedal & Schnabel 1994); docs/theory.md, eq. 9.11.
    """
    dots = basis.astype(np.float64) @ grad.astype(np.float64)
    weights = middle @ dots
    u = grad.dtype.type(scale) * grad + basis.T @ weights.astype(grad.dtype)
    square = float(np.square(grad.astype(np.float64)).sum())
    length = learning_rate**2 * (scale * square + float(weights @ dots))
    if length > kl_clip:
        factor = math.sqrt(kl_clip / length)
        u *= grad.dtype.type(factor if factor >= np.finfo(grad.dtype).tiny else math.nan)  # else the step would be 0
    return np.asarray(u)
