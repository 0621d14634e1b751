"""The objective of a network on fixed data as functions of a flat vector, as SciPy's optimizers want them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._typing import ArrayLike, Data, DTypeLike
from .checks import check_sample_weight
from .curvature.arguments import DataOptions
from .curvature.products import CurvatureOperator
from .curvature.risk import EmpiricalRisk, require_second_derivatives
from .curvature.whole import whole_matrix
from .names import listing
from .network import Network

__all__ = ["Evaluations", "Objective"]
__dir__ = listing(__all__)

INSTEAD = "use hessp, or a solver that needs products only, such as NewtonCG"


@dataclass
class Evaluations:
    """How often an objective was evaluated.

    Attributes
    ----------
    value : int
        Values, alone or with a gradient.
    gradient : int
    product : int
        Products with the Hessian or the Gauss-Newton matrix.
    matrix : int
        Whole or block matrices and Jacobians.
    """

    value: int = 0
    gradient: int = 0
    product: int = 0
    matrix: int = 0


class Objective:
    """J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² of a network on fixed data, and its derivatives, as functions of θ.

    Each function takes theta (P,) as SciPy passes it, and never touches ``net.theta``; all data is checked once, here.
    ``scipy.optimize.minimize(objective.value_and_gradient, theta0, jac=True, hessp=objective.hessp, method=...)``
    works with every method that uses gradients, ``hess=objective.hessian`` with those that want the matrix.

    Parameters
    ----------
    net : Sequential
        Its layers, loss and buffers are used; the buffers as they are now.
    X : array_like (N, D)
        Not copied where it is C-contiguous float32, float64 or uint8; it must not change.
    y : array_like
        As for ``net.fit``.
    sample_weight : array_like (N,), optional
    l2 : float, default=0.0
        Of the weights, not of the biases, γ and β.
    batches : iterable of integer arrays, optional
        Rows of each of R fixed batches B_r. The objective is then the mean of theirs (docs/theory.md, eq. 2.4),
        J(θ) = 1/R Σ_r (Σ_{i∈B_r} w_i ℓ_i / Σ_{i∈B_r} w_i) + ½ l2 ‖W‖². A row may be in several batches; rows in none do
        not count, and are not evaluated.
    training : bool, default=False
        Whether batch norm uses the statistics of these rows, all at once, instead of the running ones. Nothing is
        dropped either way.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic; None is the network's. "float64" evaluates a float32 network in double precision.
    threads : int, optional
        None is the present limit of the BLAS libraries.

    Attributes
    ----------
    net : Sequential
    n_parameters, n_rows : int
    dtype : numpy.dtype
    risk : EmpiricalRisk
        The network in `dtype` with the checked data; its theta is that of the last second derivatives.
    evaluations : Evaluations
        Counts of what was evaluated.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.

    Notes
    -----
    Values and gradients of a float32 network carry rounding errors of about 1e-7 relative, which ends a line search
    early; take ``dtype="float64"`` for a minimum of more than three or four digits. The gradients and products have the
    dtype of the theta that they are asked for.

    The batches are fixed: L-BFGS and non-linear conjugate gradients compare gradients of successive points, which would
    belong to different functions if batches were drawn anew for each evaluation.

    Examples
    --------
    >>> import numpy as np, scipy.optimize, fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    >>> objective = fnn.Objective(net, X, y, l2=1e-3, dtype="float64")
    >>> theta = net.theta.astype(np.float64)
    >>> found = scipy.optimize.minimize(
    ...     objective.value_and_gradient, theta, jac=True, hessp=objective.hessp, method="trust-krylov"
    ... )
    >>> bool(np.linalg.norm(objective.gradient(found.x)) < 1e-4)
    True
    """

    def __init__(
        self,
        net: Network,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        l2: float = 0.0,
        *,
        batches: Iterable[ArrayLike] | None = None,
        training: bool = False,
        dtype: DTypeLike | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        if dtype is not None and str(dtype) not in ("float32", "float64") and dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {dtype!r}")
        self.net = net
        evaluated = net if dtype is None or np.dtype(dtype) == net.dtype else net.astype(dtype)
        if batches is not None:
            X, y, sample_weight = _take_batches(evaluated, X, y, sample_weight, batches, training)
        data: DataOptions = {"sample_weight": sample_weight, "l2": l2, "training": training, "threads": threads}
        self.risk = EmpiricalRisk(evaluated, X, y, what="Objective", second_order=False, **data)
        self.dtype, self.n_rows, self.n_parameters = evaluated.dtype, self.risk.n_rows, net.n_parameters
        self.l2 = self.risk.l2
        self.evaluations = Evaluations()
        self._operators: dict[str, CurvatureOperator] = {}

    # Values and gradients.

    def value(self, theta: np.ndarray) -> float:
        """J(θ); not finite where it overflows."""
        return self._evaluate(theta, gradient=False)[0]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """∂J/∂θ, a new array (P,) of theta's dtype."""
        gradient: np.ndarray = self._evaluate(theta, gradient=True)[1]
        return gradient

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """J(θ) and ∂J/∂θ (P,), in one pass forward and backward.

        Parameters
        ----------
        theta : ndarray (P,)
            float32 or float64; rounded to the objective's dtype for the evaluation.

        Returns
        -------
        value : float
        gradient : ndarray (P,) of theta's dtype

        Raises
        ------
        ValueError, TypeError
            If theta has another shape, or is not of floats. A theta that is not finite gives what it gives.
        """
        return self._evaluate(theta, gradient=True)

    def _evaluate(self, theta: np.ndarray, gradient: bool) -> tuple[float, Any]:
        theta = self.check_theta(theta)
        risk = self.risk
        self.evaluations.value += 1
        self.evaluations.gradient += gradient
        value, found = risk.plan.loss_and_gradient(
            np.ascontiguousarray(theta, self.dtype),
            risk.X,
            risk.y,
            sample_weight=risk.weight,
            l1=0.0,
            l2=risk.l2,
            threads=risk.threads,
            gradient=gradient,
            buffers=risk.buffers,
            training=risk.training,
        )
        return value, found.astype(theta.dtype, copy=False) if gradient else None

    # Second order.

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """∂²J/∂θ² (P, P) of theta's dtype, as :func:`fastnn.curvature.hessian` computes it.

        Raises
        ------
        MemoryError
            If the matrix is larger than the memory that is available.
        ValueError
            For the loss absolute_error and the activation sign, which have no curvature.
        """
        return self._matrix(theta, "hessian")

    def ggn(self, theta: np.ndarray) -> np.ndarray:
        """Generalised Gauss-Newton matrix (P, P) of theta's dtype; as :meth:`hessian`, positive semi-definite."""
        return self._matrix(theta, "ggn")

    def _matrix(self, theta: np.ndarray, kind: Literal["hessian", "ggn"]) -> np.ndarray:
        risk = self.risk_at(theta)
        self.evaluations.matrix += 1
        return whole_matrix(risk, kind, None, INSTEAD).astype(theta.dtype, copy=False)

    def hessp(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Product of the Hessian at theta with a vector (P,), exact; the argument order is SciPy's.

        The pass over the data at theta is kept, as long as theta's values stay the same, for the next product.

        Parameters
        ----------
        theta, v : ndarray (P,)

        Returns
        -------
        ndarray (P,) of v's dtype
        """
        return self._product(theta, v, "hessian")

    def ggnp(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Product of the generalised Gauss-Newton matrix at theta with a vector (P,); as :meth:`hessp`."""
        return self._product(theta, v, "ggn")

    def _product(self, theta: np.ndarray, v: np.ndarray, kind: str) -> np.ndarray:
        risk = self.risk_at(theta)
        operator = self._operators.get("any")
        if operator is None:
            operator = self._operators["any"] = CurvatureOperator(risk, kind, "auto")
        operator.kind = kind  # one linearization serves both
        v = np.asarray(v)
        if v.shape != (self.n_parameters,):
            raise ValueError(f"v: expected shape ({self.n_parameters},), got {v.shape}")
        self.evaluations.product += 1
        product: np.ndarray = operator.matvec(v)
        return product.astype(v.dtype, copy=False)

    def risk_at(self, theta: np.ndarray) -> EmpiricalRisk:
        """The risk, moved to theta, with second derivatives; what is known of another point is forgotten."""
        theta = self.check_theta(theta)
        risk = self.risk
        require_second_derivatives(risk.net, "Objective")
        rounded = theta.astype(self.dtype, copy=False)
        if not np.array_equal(risk.theta, rounded):
            self._operators.clear()
            risk.theta[...] = rounded
        return risk

    def subset(self, rows: np.ndarray) -> Objective:
        """The objective of some rows alone; evaluations count for both."""
        other, risk = copy.copy(self), copy.copy(self.risk)
        risk.X, risk.theta = risk.X[rows], risk.theta.copy()
        risk.y = None if risk.y is None else risk.y[rows]
        if risk.weight is not None:
            risk.weight = risk.weight[rows]
        risk.n_rows = other.n_rows = len(rows)
        risk.total = float(len(rows)) if risk.weight is None else float(risk.weight.sum(dtype=np.float64))
        other.risk, other._operators = risk, {}
        return other

    def check_theta(self, theta: np.ndarray) -> np.ndarray:
        theta = np.asarray(theta)
        if theta.dtype not in (np.float32, np.float64):
            raise TypeError(f"theta: expected dtype float32 or float64, got {theta.dtype}")
        if theta.shape != (self.n_parameters,):
            raise ValueError(f"theta: expected shape ({self.n_parameters},), got {theta.shape}")
        return theta

    def __repr__(self) -> str:
        return f"Objective({self.net!r}, {self.n_rows:,} rows, l2={self.l2:g}, dtype={self.dtype.name!r})"


def _take_batches(
    net: Network, X: Data, y: ArrayLike, sample_weight: ArrayLike | None, batches: Iterable[ArrayLike], training: bool
) -> tuple[Any, Any, np.ndarray]:
    """The rows of fixed batches, each once, and the weights that make the mean of the batches one weighted mean."""
    if training and net.needs_batches:
        raise ValueError(
            "batches: cannot be given with training=True and batch norm, which takes all rows as one batch"
        )
    X, y, _ = net.check_data(X, y, None)
    n_rows = len(X)
    weight = check_sample_weight(sample_weight, n_rows, np.dtype(np.float64))
    if weight is None:
        weight = np.ones(n_rows)
    total = np.zeros(n_rows)
    count = 0
    for number, batch in enumerate(batches):
        rows = np.asarray(batch)
        if rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows):
            raise TypeError(f"batches[{number}]: expected a 1-D array of row indices, got {batch!r}")
        if rows.min() < 0 or rows.max() >= n_rows:
            raise ValueError(f"batches[{number}]: expected indices in [0, {n_rows}), got {rows.min()} to {rows.max()}")
        share = weight[rows].sum()
        if share == 0.0:
            raise ValueError(f"batches[{number}]: expected weights with a positive sum, got zeros only")
        np.add.at(total, rows, weight[rows] / share)
        count += 1
    if not count:
        raise ValueError("batches: expected at least one batch, got none")
    rows = np.flatnonzero(total)
    if len(rows) == n_rows:
        return X, y, total / count
    return X[rows], y[rows], total[rows] / count
