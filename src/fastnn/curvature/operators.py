"""Curvature matrices as linear operators of SciPy: products without the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from .memory import WORKSPACE, available_memory, check_size
from .problem import Problem

__all__ = ["CurvatureOperator", "empirical_fisher_operator", "ggn_operator", "hessian_operator"]

KEEP_BYTES = 1 << 30  # largest linearization that keep="auto" keeps, and largest X that is copied


class SymmetricOperator(LinearOperator):
    """A real symmetric operator: vectors are cast to its dtype, which products have; complex ones are refused."""

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        """Products of vectors in rows, (n, P), in C order and of the operator's dtype; a new array."""
        raise NotImplementedError

    def _cast(self, V: np.ndarray) -> np.ndarray:
        if V.dtype.kind not in "buif":
            raise TypeError(f"expected a real vector, got dtype {V.dtype}")
        return np.ascontiguousarray(V, dtype=self.dtype)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._rows_product(self._cast(np.reshape(x, (1, -1))))[0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._rows_product(self._cast(X.T)).T

    _rmatvec, _rmatmat = _matvec, _matmat

    def _adjoint(self) -> SymmetricOperator:
        return self

    _transpose = _adjoint


class CurvatureOperator(SymmetricOperator):
    """A symmetric curvature matrix (P, P) that is there as products only.

    Made by :func:`hessian_operator`, :func:`ggn_operator` and :func:`empirical_fisher_operator`. SciPy's ``cg``,
    ``minres``, ``eigsh`` and ``svds`` take it as it is. It is that of the moment when it was made: theta, the network's
    state, y and the weights are copied, and so is X up to 1 GiB. A larger or sparse X is not, and must not change.

    Attributes
    ----------
    shape : tuple (P, P)
    dtype : numpy.dtype
        That of the network; vectors are cast to it, and products have it.
    kind : str
        ``"hessian"``, ``"ggn"`` or ``"fisher"``.
    kept : bool
        Whether the forward and backward pass over the data is kept; else each product runs it again, in chunks.
    """

    def __init__(self, problem: Problem, kind: str, keep: bool | str) -> None:
        super().__init__(problem.dtype, (problem.n_parameters, problem.n_parameters))
        if not isinstance(keep, bool) and keep != "auto":
            raise ValueError(f"keep must be True, False or 'auto', got {keep!r}")
        self.kind = kind
        self._problem = problem
        shape = problem.n_rows, problem.row_elements
        size = shape[0] * shape[1] * problem.dtype.itemsize
        if keep is True:
            check_size(f"{problem.what}: keep=True", shape, problem.dtype, None, "use keep=False")
        available = available_memory() if keep == "auto" else None
        self.kept = bool(keep) and (keep is True or size <= min(KEEP_BYTES, available or KEEP_BYTES))
        self._linearization = problem.linearize(slice(0, problem.n_rows)) if self.kept else None
        self._spare: Any = None  # a chunk's linearization, for its memory

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        problem = self._problem
        if self._linearization is not None:
            result = self._linearization.product(V, self.kind)
        else:
            result = None
            lin, self._spare = self._spare, None  # another thread's product makes one of its own
            per_row = problem.row_elements + len(V) * problem.tangent_elements
            for rows in problem.chunks(per_row, WORKSPACE):
                lin = problem.linearize(rows, into=lin)
                part, share = lin.product(V, self.kind), problem.share(lin)
                if share != 1.0:
                    part *= self.dtype.type(share)
                result = part if result is None else np.add(result, part, out=result)
            self._spare = lin
        if problem.l2 != 0.0:
            for place in problem.penalised:
                result[:, place] += self.dtype.type(problem.l2) * V[:, place]
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_linearization": None, "_spare": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.kept:
            self._linearization = self._problem.linearize(slice(0, self._problem.n_rows))


def _operator(problem: Problem, kind: str, keep: bool | str, X: Any) -> CurvatureOperator:
    """An operator that later changes of the caller's arrays do not reach."""
    if problem.y is not None:
        problem.y = problem.y.copy()
    rows = problem.X
    shared = isinstance(rows, np.ndarray) and (not isinstance(X, np.ndarray) or np.may_share_memory(rows, X))
    if isinstance(rows, np.ndarray) and shared and rows.nbytes <= KEEP_BYTES:
        problem.X = rows.copy()
    return CurvatureOperator(problem, kind, keep)


def hessian_operator(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    keep: bool | str = "auto",
) -> CurvatureOperator:
    """Hessian ∂²J/∂θ² of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² as an operator; exact.

    A product costs about as much as a gradient (Pearlmutter 1994), whatever P, and is exact through the batch's
    statistics with ``training=True``.

    Parameters
    ----------
    net : Sequential
    X : array_like (N, D)
        At least one row. Copied, unless it is sparse or has more than 1 GiB: then it must not change as long as the
        operator is used.
    y : array_like
        As for ``net.fit``.
    sample_weight : array_like (N,), optional
    l2 : float, default=0.0
        Of the weights, not of the biases, γ and β.
    training : bool, default=False
        Whether batch norm uses the statistics of these rows. Nothing is dropped either way.
    threads : int, optional
    keep : {"auto", True, False}
        Whether to keep what the forward and backward pass over the data have found, so that a product is two tangent
        passes; "auto" does where it takes 1 GiB or less. Without, each product runs in chunks of rows.

    Returns
    -------
    CurvatureOperator
        A :class:`scipy.sparse.linalg.LinearOperator` (P, P) of the network's dtype, its own adjoint.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or curvature is not defined: for the loss absolute_error and the activation sign.

    Notes
    -----
    Where an activation has a kink (relu, leaky_relu, hard_tanh) its second derivative is taken as 0; huber is quadratic
    within 1 and straight beyond. The products are then those of the piece that the point lies in.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> from scipy.sparse.linalg import eigsh
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential(
    ...     [fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0
    ... )
    >>> H = fnn.curvature.hessian_operator(net, X, y)
    >>> H.shape
    (67, 67)
    >>> largest = eigsh(H, k=1, which="LA", return_eigenvectors=False)
    >>> bool(np.isclose(largest[0], np.linalg.eigvalsh(fnn.curvature.hessian(net, X, y))[-1]))
    True
    """
    problem = Problem(net, X, y, sample_weight, l2, training, threads, what="hessian_operator")
    return _operator(problem, "hessian", keep, X)


def ggn_operator(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    keep: bool | str = "auto",
) -> CurvatureOperator:
    """Generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W as an operator (Schraudolph 2002).

    J = ∂z/∂θ of a row's outputs and H_ℓ = ∂²ℓ/∂z² of the loss. It is positive semi-definite, and for these losses (but
    huber) the Fisher information of the model.

    Parameters
    ----------
    net, X, y, sample_weight, l2, training, threads, keep
        As for :func:`hessian_operator`.

    Returns
    -------
    CurvatureOperator

    Raises
    ------
    TypeError, ValueError
        As for :func:`hessian_operator`.
    """
    problem = Problem(net, X, y, sample_weight, l2, training, threads, what="ggn_operator")
    return _operator(problem, "ggn", keep, X)


def empirical_fisher_operator(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
    keep: bool | str = "auto",
) -> CurvatureOperator:
    """Empirical Fisher matrix Σ w g gᵀ / Σ w + l2 I_W as an operator, g = ∂ℓ_i/∂θ of each row.

    Parameters
    ----------
    net, X, y, sample_weight, l2, training, threads, keep
        As for :func:`hessian_operator`.

    Returns
    -------
    CurvatureOperator

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or with ``training=True`` and batch norm, where a row has no gradient of its own.
    """
    problem = Problem(
        net,
        X,
        y,
        sample_weight,
        l2,
        training,
        threads,
        what="empirical_fisher_operator",
        second_order=False,
        separate=True,
    )
    return _operator(problem, "fisher", keep, X)
