"""Linear least squares in closed form: what one Newton step gives, by singular values instead of normal equations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lstsq, svd

from ._typing import ArrayLike
from .checks import check_number, check_rows, check_sample_weight
from .names import listing

__all__ = ["LinearFit", "least_squares"]
__dir__ = listing(__all__)


class LinearFit(NamedTuple):
    """Minimum of a linear least-squares problem.

    Attributes
    ----------
    weight : ndarray (D, K)
    bias : ndarray (K,)
        Zeros without an intercept.
    rank : int
        Of the weighted, centred rows with those of the penalty; below D several W are minima.
    singular_values : ndarray
        Of the same matrix, falling.
    """

    weight: np.ndarray
    bias: np.ndarray
    rank: int
    singular_values: np.ndarray


def least_squares(
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    l2: float = 0.0,
    *,
    intercept: bool = True,
    rcond: float | None = None,
) -> LinearFit:
    """Minimise Σ w ½ ‖y − x W − b‖² / Σ w + ½ l2 ‖W‖², the objective of ``Sequential([Dense(K)])`` with squared_error.

    The objective is quadratic, so that one Newton step from anywhere ends at its minimum (docs/theory.md, section 10).
    The step is taken as a least-squares problem of the rows √w (x − x̄): without a penalty by LAPACK's gelsd, with one
    by their singular values s, each of which counts s / (s² + l2 Σ w). The condition of the normal equations,
    X'WX + l2 Σ w I, would be the square. Singular values that are rounding count as 0 with a penalty as well, so that a
    tiny one changes nothing; wide rows cost N² D.

    Parameters
    ----------
    X : array_like (N, D)
        Made dense where sparse.
    y : array_like (N,) or (N, K)
    sample_weight : array_like (N,), optional
        At least 0, not all 0.
    l2 : float, default=0.0
        Of W, not of b.
    intercept : bool, default=True
        Whether there is a b.
    rcond : float, optional
        Singular values up to this times the largest count as 0; None is ε max(rows, columns), as
        ``numpy.linalg.lstsq``.

    Returns
    -------
    LinearFit
        In float64. Of several minima that of the smallest ‖W‖.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fit = fnn.linear.least_squares([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> fit.weight.round(6).tolist(), fit.bias.round(6).tolist()
    ([[2.0]], [1.0])
    """
    double = np.dtype(np.float64)
    n_features = X.shape[1] if getattr(X, "ndim", 0) == 2 else np.shape(X)[-1] if np.ndim(X) else 0
    rows = check_rows(X, n_features, double)
    A = rows.dense(double) if hasattr(rows, "dense") else rows.astype(double)
    if len(A) == 0:
        raise ValueError(f"X: expected at least one row, got shape {A.shape}")
    B = np.asarray(y)
    if B.dtype.kind not in "buif":
        raise TypeError(f"y: expected real numbers, got dtype {B.dtype}")
    if B.ndim not in (1, 2) or len(B) != len(A):
        raise ValueError(f"y: expected shape ({len(A)},) or ({len(A)}, K), got {B.shape}")
    B = B.reshape(len(A), -1).astype(double)
    if not np.isfinite(B).all():
        raise ValueError("y: expected finite values")
    w = check_sample_weight(sample_weight, len(A), double)
    l2 = check_number("l2", l2, minimum=0.0)
    if not isinstance(intercept, bool):
        raise TypeError(f"intercept must be True or False, got {intercept!r}")
    centre, mean = np.zeros(n_features), np.zeros(B.shape[1])
    if intercept:
        centre, mean = np.average(A, axis=0, weights=w), np.average(B, axis=0, weights=w)
        A -= centre
        B -= mean
    total = float(len(A))
    if w is not None:
        total = float(w.sum())
        root = np.sqrt(w)[:, None]
        A *= root
        B *= root
    limit = np.finfo(double).eps * max(A.shape) if rcond is None else check_number("rcond", rcond, minimum=0.0)
    if l2:
        W, rank, values = _ridge(A, B, l2 * total, limit)
        return LinearFit(W, mean - centre @ W, rank, values)
    W, _, rank, values = lstsq(A, B, cond=limit, check_finite=False)
    return LinearFit(W, mean - centre @ W, int(rank), values)


def _ridge(A: np.ndarray, B: np.ndarray, penalty: float, limit: float) -> tuple[np.ndarray, int, np.ndarray]:
    """W with the smallest ‖A W − B‖² + penalty ‖W‖², and rank and singular values of [A; √penalty I]."""
    U, s, Vt = svd(A, full_matrices=False, overwrite_a=True, check_finite=False)
    kept = s > limit * s[0]
    factor = np.zeros_like(s)
    root = np.hypot(s[kept], np.sqrt(penalty))
    factor[kept] = s[kept] / root / root
    W = Vt.T @ (factor[:, None] * (U.T @ B))
    values = np.full(A.shape[1], np.sqrt(penalty))
    values[: len(s)] = np.hypot(s, values[: len(s)])
    return W, int((values > limit * values[0]).sum()), values
