"""Standard errors of a fitted network's parameters, and influence of its training rows, by the Hessian."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg

from .._typing import ArrayLike, Data, Options
from ..checks import check_number
from ..linalg.memory import check_size
from ..network import Network
from .jacobians import output_jacobian
from .linearization import Linearization
from .per_sample import fill_gradients, per_sample_gradients
from .risk import EmpiricalRisk, in_double
from .whole import fisher_matrix, whole_matrix

__all__ = ["influence", "standard_errors"]


def standard_errors(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    l2: float = 0.0,
    robust: bool = False,
    noise: Literal["per_output", "pooled"] = "per_output",
    threads: int | None = None,
    max_bytes: int | None = None,
) -> dict[str, np.ndarray]:
    """Standard errors of the parameters of a network that is fitted by maximum likelihood.

    The roots of the diagonal of a covariance, with H the exact Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² and n = Σ w::

        classical   φ (n H)⁻¹                                φ = Σ w (y − z)² / (n − P) for squared errors, else 1
        per output  (n H)⁻¹ (Σ w Jᵀ diag(φ) J) (n H)⁻¹       φ_k = Σ w (y_k − z_k)² / (n − P/K), of K squared errors
        pooled      φ (n H)⁻¹                                φ = Σ w ‖y − z‖² / (K n − P), one noise for all outputs
        robust      (n H)⁻¹ (Σ w g gᵀ) (n H)⁻¹               the sandwich of Huber (1967) and White (1982), g = ∂ℓ_i/∂θ

    All hold at a minimum, for many rows. With a penalty they are those of the penalised estimate, about its mean.

    What is common to all outputs of a softmax says nothing of the classes. The last layer's biases, and without a
    penalty its weights, are determined but for their mean over the classes: the errors are those of the differences
    from that mean, as with the constraint that they sum to 0 (the pseudo-inverse of H).

    Parameters
    ----------
    net : Sequential
        Its loss is a log-likelihood: squared_error, cross_entropy, binary_cross_entropy or poisson; with `robust` also
        huber.
    X : array_like (N, D) or sparse matrix
    y : array_like
        Targets as the network's loss takes them: class indices (N,), or values (N, K).
    sample_weight : array_like (N,), optional
        A weight of 2 counts a row twice.
    l2 : float, default=0.0
        That of the objective that was minimised; a layer's own ``l2`` takes its place.
    robust : bool, default=False
    noise : {"per_output", "pooled"}, default="per_output"
        Of several squared errors that are not `robust`.
    threads : int, optional
    max_bytes : int, optional
        Largest Hessian that is allowed; None is the memory that is available.

    Returns
    -------
    dict of ndarray
        By the names of ``net.parameters``, of their shapes, float64.

    Raises
    ------
    MemoryError
        If the Hessian is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit; curvature is not defined; squared errors have no more targets than there are
        parameters; or H is not positive definite: θ is no minimum, or parameters are not determined.

    Notes
    -----
    All is computed in float64.
    """
    exact = in_double(net)
    if not exact.loss_function.is_likelihood and not robust:
        raise ValueError(f"standard_errors: {exact.loss_name!r} is no log-likelihood; use robust=True")
    if noise not in ("per_output", "pooled"):
        raise ValueError(f"noise must be 'per_output' or 'pooled', got {noise!r}")
    data: Options = {"sample_weight": sample_weight, "threads": threads, "what": "standard_errors"}
    risk = EmpiricalRisk(exact, X, y, l2=l2, **data)
    values, vectors = _determined(exact, risk, max_bytes)
    n = float(risk.n_rows if sample_weight is None else np.sum(sample_weight, dtype=np.float64))
    if robust:
        scores = EmpiricalRisk(exact, X, y, second_order=False, per_sample=True, penalised=False, **data)
        middle = fisher_matrix(scores, max_bytes)
    elif exact.loss_function.least_squares and noise == "per_output" and exact.n_outputs > 1:
        risk = EmpiricalRisk(exact, X, y, penalised=False, **data)
        risk.output_precision = _noise(exact, risk, n, sample_weight)
        middle = whole_matrix(risk, "ggn", max_bytes, "use noise='pooled'")
    else:
        dispersion = 1.0
        if exact.loss_function.least_squares:
            dispersion = float(_noise(exact, risk, n, sample_weight, pooled=True)[0])
        diagonal = dispersion / n * (np.square(vectors) @ (1.0 / values))
        middle = None
    if middle is not None:
        G = vectors.T @ middle @ vectors
        G /= values[:, None] * values
        diagonal = np.einsum("pi,ij,pj->p", vectors, G, vectors, optimize=True) / n
    errors = np.sqrt(diagonal)
    return {name: errors[start : start + int(np.prod(shape))].reshape(shape) for name, start, shape in exact.layout}


def _noise(
    net: Network, risk: EmpiricalRisk, n: float, sample_weight: ArrayLike | None, pooled: bool = False
) -> np.ndarray:
    """Unbiased variances of the targets around the outputs, (K,), or (1,) of all of them; n is Σ w."""
    counts = np.ones(risk.n_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
    squares = counts @ np.square(net.outputs(risk.X, risk.threads) - risk.y)
    targets, K = n * len(squares), len(squares)
    freedom = targets - net.n_parameters
    if freedom <= 0.0:
        raise ValueError(
            f"standard_errors: {targets:g} targets do not determine the noise of a network with "
            f"{net.n_parameters} parameters; use robust=True, or Laplace"
        )
    variances: np.ndarray = (squares.sum(keepdims=True) / freedom) if pooled else squares / (freedom / K)
    return variances


def _determined(net: Network, risk: EmpiricalRisk, max_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the Hessian but for the directions in which a softmax never changes."""
    H = _hessian(risk, max_bytes)
    U = _common_shifts(risk)
    largest = float(np.abs(H).sum(axis=1).max())  # no eigenvalue is larger
    H += 2.0 * largest * (U @ U.T)
    values, vectors = scipy.linalg.eigh(H, overwrite_a=True, check_finite=False, driver="evd")
    values, vectors = values[: len(values) - U.shape[1]], vectors[:, : len(vectors) - U.shape[1]]
    limit = _rounding(values)
    if values[0] > limit:
        return values, vectors
    problem = "standard_errors: the Hessian is not positive definite: its eigenvalues are "
    problem += f"{values[0]:.3g} to {values[-1]:.3g}"
    if values[0] < -limit:
        raise ValueError(f"{problem}, of both signs; the network is not at a minimum, train on")
    undetermined = int((values <= limit).sum())
    place = int(np.square(vectors[:, :undetermined]).sum(axis=1).argmax())
    name = next(name for name, start, shape in reversed(net.layout) if start <= place)
    raise ValueError(
        f"{problem}; the data determine {len(values) - undetermined} directions of {len(values)}, and not, for "
        f"instance, {name!r}: train with l2 and give it here, or use a smaller network"
    )


def _common_shifts(risk: EmpiricalRisk) -> np.ndarray:
    """Unit vectors (P, m) along which only what is common to all outputs of a softmax changes, and J does not."""
    if not risk.softmax:
        return np.zeros((risk.n_parameters, 0))
    op = risk.ops[-1]
    starts = [op.bias] if op.bias >= 0 else []
    if risk.ridge(op) == 0.0:
        starts += [op.weight + k * op.n_out for k in range(op.n_in)]
    U = np.zeros((risk.n_parameters, len(starts)))
    for i, start in enumerate(starts):
        U[start : start + op.n_out, i] = 1.0 / np.sqrt(op.n_out)
    return U


def influence(
    net: Network,
    X_train: Data,
    y_train: ArrayLike,
    X: Data,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    l2: float = 0.0,
    damping: float | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> np.ndarray:
    """Influence of every training row on what a network says at other rows (Koh & Liang 2017).

    The derivative, with respect to ε, of f(x) at the θ that minimises J(θ) + ε ℓ_i(θ)::

        I = −∇f(x)ᵀ (H + τ I)⁻¹ ∂ℓ_i/∂θ

    with H the exact Hessian of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² of the training rows. Leaving row i out changes f(x) by
    about −w_i / Σ w times this.

    Parameters
    ----------
    net : Sequential
        At a minimum of J, or near one.
    X_train : array_like (N, D)
    y_train : array_like
        Targets as the network's loss takes them: class indices (N,), or values (N, K).
    X : array_like (n, D)
    y : array_like, optional
        Targets; f is then the loss of a row, else its outputs, those of ``net.decision_function``.
    sample_weight : array_like (N,), optional
        Of the training rows.
    l2 : float, default=0.0
    damping : float, optional
        τ, at least 0. None is 0 where no eigenvalue of H is negative beyond rounding; else |λ_min| + 1e-3 λ_max, which
        makes H + τ I positive definite.
    threads : int, optional
    max_bytes : int, optional
        Most that a matrix may take; None is the memory that is available.

    Returns
    -------
    ndarray (n, N) where y is given, else (n, K, N); float64

    Raises
    ------
    MemoryError
        If a matrix is too large, before it is allocated.
    TypeError, ValueError
        If an argument does not fit; curvature is not defined; or `damping` leaves negative eigenvalues.

    Notes
    -----
    All is computed in float64. Directions in which H + τ I is 0 to rounding, such as the common shift of a softmax's
    biases, are left out: a pseudo-inverse.
    """
    exact = in_double(net)
    if damping is not None:
        damping = check_number("damping", damping, minimum=0.0)
    options: Options = {"threads": threads, "max_bytes": max_bytes}
    F = output_jacobian(exact, X, **options) if y is None else per_sample_gradients(exact, X, y, **options)
    risk = EmpiricalRisk(exact, X_train, y_train, what="influence", sample_weight=sample_weight, l2=l2, threads=threads)
    values, vectors = _eigen(risk, max_bytes)
    limit = _rounding(values)
    if damping is None:
        damping = 0.0 if values[0] >= -limit else -float(values[0]) + 1e-3 * float(abs(values).max())
    values = values + damping
    if values[0] < -limit:
        raise ValueError(
            f"damping: H + {damping:g} I has a negative eigenvalue, {values[0]:.3g}; expected at least "
            f"{damping - values[0]:.3g}, or None"
        )
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > limit)
    B = -((F.reshape(-1, exact.n_parameters) @ vectors) * inverse) @ vectors.T
    what = "influence"
    risk = EmpiricalRisk(exact, X_train, y_train, threads=threads, what=what, second_order=False, per_sample=True)
    check_size(what, (len(B), risk.n_rows), risk.dtype, max_bytes, "take the rows in parts")
    result = np.empty((len(B), risk.n_rows))
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements + risk.n_parameters):
        lin = risk.linearize(rows, weighted=False, into=lin)
        G = fill_gradients(risk, lin, np.empty((rows.stop - rows.start, risk.n_parameters)))
        result[:, rows] = B @ G.T
    return result.reshape(*F.shape[:-1], risk.n_rows)


def _eigen(risk: EmpiricalRisk, max_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, the smallest first, and eigenvectors of the Hessian."""
    H = _hessian(risk, max_bytes)
    values, vectors = scipy.linalg.eigh(H, overwrite_a=True, check_finite=False, driver="evd")
    return values, vectors


def _hessian(risk: EmpiricalRisk, max_bytes: int | None) -> np.ndarray:
    return whole_matrix(risk, "hessian", max_bytes, "use a smaller network, or Laplace with structure='kfac'")


def _rounding(values: np.ndarray) -> float:
    """What an eigenvalue must exceed to be told from 0."""
    return float(len(values) * np.finfo(np.float64).eps * abs(values).max())
