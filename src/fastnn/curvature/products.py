"""Curvature matrices as linear operators of SciPy: products without the matrix."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from .._typing import ArrayLike, Data
from ..linalg.memory import WORKSPACE, available_memory, check_size
from ..linalg.symmetric_operator import SymmetricOperator
from ..network import Network
from .arguments import DataOptions, shared_arguments
from .linearization import Linearization
from .risk import EmpiricalRisk

__all__ = ["OPERATORS", "CurvatureOperator", "empirical_fisher_operator", "ggn_operator", "hessian_operator"]

#: Largest linearization that keep="auto" keeps, and largest X that is copied.
KEEP_BYTES = 1 << 30


class CurvatureOperator(SymmetricOperator):
    """A symmetric curvature matrix (P, P), available through products only.

    Made by :func:`hessian_operator`, :func:`ggn_operator` and :func:`empirical_fisher_operator`. SciPy's ``cg``,
    ``minres``, ``eigsh`` and ``svds`` take it as it is. It is a snapshot of θ, buffers and data: later changes of the
    network, of y or of the weights have no effect. X is copied up to 1 GiB; a larger or sparse X must not change.

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

    def __init__(self, risk: EmpiricalRisk, kind: str, keep: bool | Literal["auto"]) -> None:
        super().__init__(risk.dtype, (risk.n_parameters, risk.n_parameters))
        if not isinstance(keep, bool) and keep != "auto":
            raise ValueError(f"keep must be True, False or 'auto', got {keep!r}")
        self.kind = kind
        self._risk = risk
        shape = risk.n_rows, risk.row_elements
        size = shape[0] * shape[1] * risk.dtype.itemsize
        if keep is True:
            check_size(f"{risk.what}: keep=True", shape, risk.dtype, None, "use keep=False")
        available = available_memory() if keep == "auto" else None
        self.kept = bool(keep) and (keep is True or size <= min(KEEP_BYTES, available or KEEP_BYTES))
        self._linearization = risk.linearize(slice(0, risk.n_rows)) if self.kept else None
        self._spare: Linearization | None = None  # of a chunk, for its memory

    def _rows_product(self, V: np.ndarray) -> np.ndarray:
        risk = self._risk
        if self._linearization is not None:
            result = self._linearization.product(V, self.kind)
        else:
            result = self._chunked_product(V)
        for place, l2 in risk.ridges:
            result[:, place] += self.dtype.type(l2) * V[:, place]
        return result

    def _chunked_product(self, V: np.ndarray) -> np.ndarray:
        """Products of the data term, with passes over chunks of rows."""
        risk = self._risk
        result: np.ndarray | None = None
        lin, self._spare = self._spare, None  # a concurrent product makes its own
        for rows in risk.chunks(risk.row_elements + len(V) * risk.tangent_elements, WORKSPACE):
            lin = risk.linearize(rows, into=lin)
            part, share = lin.product(V, self.kind), risk.share(lin)
            if share != 1.0:
                part *= self.dtype.type(share)
            result = part if result is None else np.add(result, part, out=result)
        self._spare = lin
        assert result is not None
        return result

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_linearization": None, "_spare": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        if self.kept:
            self._linearization = self._risk.linearize(slice(0, self._risk.n_rows))


def _operator(risk: EmpiricalRisk, kind: str, keep: bool | Literal["auto"], X: Data) -> CurvatureOperator:
    """Build an operator isolated from later changes to the caller's arrays."""
    if risk.y is not None:
        risk.y = risk.y.copy()
    rows = risk.X
    shared = isinstance(rows, np.ndarray) and (not isinstance(X, np.ndarray) or np.may_share_memory(rows, X))
    if isinstance(rows, np.ndarray) and shared and rows.nbytes <= KEEP_BYTES:
        risk.X = rows.copy()
    return CurvatureOperator(risk, kind, keep)


@shared_arguments
def hessian_operator(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    keep: bool | Literal["auto"] = "auto",
    **data: Unpack[DataOptions],
) -> CurvatureOperator:
    """Hessian ∂²J/∂θ² of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² as an operator; exact.

    A product costs about as much as a gradient (Pearlmutter 1994), whatever P, and is exact through the batch's
    statistics with ``training=True``.

    Parameters
    ----------
    {net, kept X, y, sample_weight, l2, training, threads, keep}

    Returns
    -------
    CurvatureOperator
        A :class:`scipy.sparse.linalg.LinearOperator` (P, P) of the network's dtype, its own adjoint.

    Raises
    ------
    {not defined}

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
    risk = EmpiricalRisk(net, X, y, what="hessian_operator", **data)
    return _operator(risk, "hessian", keep, X)


@shared_arguments
def ggn_operator(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    keep: bool | Literal["auto"] = "auto",
    **data: Unpack[DataOptions],
) -> CurvatureOperator:
    """Generalised Gauss-Newton matrix Σ w Jᵀ H_ℓ J / Σ w + l2 I_W as an operator (Schraudolph 2002).

    J = ∂z/∂θ of a row's outputs and H_ℓ = ∂²ℓ/∂z² of the loss. It is positive semi-definite, and for these losses (but
    huber) the Fisher information of the model.

    Parameters
    ----------
    {net, kept X, y, sample_weight, l2, training, threads, keep}

    Returns
    -------
    CurvatureOperator

    Raises
    ------
    {not defined}
    """
    risk = EmpiricalRisk(net, X, y, what="ggn_operator", **data)
    return _operator(risk, "ggn", keep, X)


@shared_arguments
def empirical_fisher_operator(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    keep: bool | Literal["auto"] = "auto",
    **data: Unpack[DataOptions],
) -> CurvatureOperator:
    """Empirical Fisher matrix Σ w g gᵀ / Σ w + l2 I_W as an operator, g = ∂ℓ_i/∂θ of each row.

    Parameters
    ----------
    {net, kept X, y, sample_weight, l2, training=False, threads, keep}

    Returns
    -------
    CurvatureOperator

    Raises
    ------
    {no rows}
    """
    what = "empirical_fisher_operator"
    risk = EmpiricalRisk(net, X, y, what=what, second_order=False, per_sample=True, **data)
    return _operator(risk, "fisher", keep, X)


#: By the name of the kind.
OPERATORS = {"hessian": hessian_operator, "ggn": ggn_operator, "fisher": empirical_fisher_operator}
