"""Distribution of targets whose network's outputs are Gaussian: means and standard deviations, by the inverse link."""

from __future__ import annotations

import warnings
from math import pi
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logsumexp, softmax

__all__ = ["Predictive", "class_probabilities", "drawn_probabilities", "predictive"]

#: Elements of the draws that are kept at once.
DRAWS = 1 << 20


class Predictive(NamedTuple):
    """What a posterior says of new rows.

    Attributes
    ----------
    mean : ndarray (N, K)
        Of the targets: values, probabilities, or rates.
    std : ndarray (N, K)
        Standard deviation of the targets, noise and all.
    outputs : ndarray (N, K)
        The network's, those of ``net.decision_function``.
    covariance : ndarray (N, K, K)
        J Σ Jᵀ of the outputs.
    """

    mean: np.ndarray
    std: np.ndarray
    outputs: np.ndarray
    covariance: np.ndarray


def predictive(
    link: str, Z: np.ndarray, C: np.ndarray, noise: float | np.ndarray | None, draws: int, rng: np.random.Generator
) -> Predictive:
    """Moments of the targets of outputs that are N(z, C) (docs/theory.md, eq. 11.5 to 11.8).

    Parameters
    ----------
    link : str
        Inverse link: ``"identity"``, ``"exp"``, ``"sigmoid"`` or ``"softmax"``.
    Z, C : ndarray (N, K), (N, K, K) of float64
        Rows of C that are not finite become infinite.
    noise : float, ndarray (K,) or None
        Variances of the targets around the outputs, with the identity.
    draws : int
        Probabilities are means of that many draws; 0 is the closed formulas.
    rng : numpy.random.Generator
        Of the draws.

    Returns
    -------
    Predictive

    Warns
    -----
    RuntimeWarning
        If something is too large for float64; it is then infinite, and probabilities are even.
    """
    far = ~np.isfinite(C).all(axis=(1, 2))
    if far.any():
        C[far] = np.inf
        _warn(f"the outputs' covariance is too large for float64 in {far.sum():,} of {len(Z):,} rows, and infinite")
    v = np.einsum("nkk->nk", C)
    if link == "identity":
        assert noise is not None
        return Predictive(Z, np.sqrt(v + noise), Z, C)
    if link == "exp":
        rate, std = _log_normal(Z, v)
        large = (np.isinf(rate) | np.isinf(std)).any(axis=1) & ~far
        if large.any():
            _warn(f"rates or their deviations are too large for float64 in {large.sum():,} of {len(Z):,} rows, and inf")
        return Predictive(rate, std, Z, C)
    if draws:
        p = drawn_probabilities(link, Z, C, draws, rng)
    else:
        p = class_probabilities(Z, C) if link == "softmax" else expit(Z / np.sqrt(1.0 + (pi / 8.0) * v))
    p[far] = 1.0 / Z.shape[1] if link == "softmax" else 0.5
    return Predictive(p, np.sqrt(p * (1.0 - p)), Z, C)


def _log_normal(Z: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean r = exp(z + v/2) of a log-normal rate, and the root of r + (eᵛ − 1) r² of its counts.

    The root is taken of logarithms, so that it is finite wherever it can be.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        rate = np.exp(Z + 0.5 * v)
        spread = np.where(v < 1.0, np.log(np.expm1(v)), v + np.log1p(-np.exp(-v)))  # log(eᵛ − 1)
        std = np.exp(0.5 * np.logaddexp(Z + 0.5 * v, 2.0 * Z + v + spread))
    return rate, std


def class_probabilities(Z: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Mean of softmax(z) for z ~ N(Z, C), about, from the differences of outputs alone (Lu, Ie & Sha 2020).

    ::

        p_k ∝ 1 / Σ_i exp(−(z_k − z_i) / √(1 + π/8 Var(z_k − z_i)))

    Of two outputs it is MacKay's (1992) formula for their difference.

    Parameters
    ----------
    Z, C : ndarray (N, K), (N, K, K) of float64

    Returns
    -------
    ndarray (N, K)
        Rows sum to 1.
    """
    v = np.einsum("nkk->nk", C)
    log_p = np.empty_like(Z)
    with np.errstate(invalid="ignore"):
        for k in range(Z.shape[1]):
            variance = np.maximum(v + v[:, k : k + 1] - 2.0 * C[:, k], 0.0)
            log_p[:, k] = -logsumexp((Z - Z[:, k : k + 1]) / np.sqrt(1.0 + (pi / 8.0) * variance), axis=1)
        p: np.ndarray = softmax(log_p, axis=1)
    return p


def drawn_probabilities(link: str, Z: np.ndarray, C: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Mean of softmax(z) or sigmoid(z) over draws of z ~ N(Z, C).

    Parameters
    ----------
    link : {"softmax", "sigmoid"}
    Z, C : ndarray (N, K), (N, K, K) of float64
    draws : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray (N, K)
    """
    N, K = Z.shape
    p = np.empty_like(Z)
    at_once = max(1, DRAWS // max(K, 1))
    for i in range(N):
        if not np.isfinite(C[i]).all():
            continue
        values, vectors = np.linalg.eigh(C[i])
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        total = np.zeros(K)
        for start in range(0, draws, at_once):
            z = Z[i] + rng.standard_normal((min(at_once, draws - start), K)) @ root.T
            total += (softmax(z, axis=1) if link == "softmax" else expit(z)).sum(axis=0)
        p[i] = total / draws
    return p


def _warn(message: str) -> None:
    warnings.warn(f"Laplace.predictive: {message}", RuntimeWarning, stacklevel=4)
