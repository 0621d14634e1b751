"""The objective of a network on fixed data as functions of a flat vector, as SciPy's optimizers want them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ._typing import ArrayLike, Data, DTypeLike
from .checks import check_flag, check_sample_weight
from .curvature.arguments import DataOptions
from .curvature.jacobians import fill_jacobian
from .curvature.linearization import Linearization
from .curvature.products import CurvatureOperator
from .curvature.risk import EmpiricalRisk, require_second_derivatives
from .curvature.whole import whole_matrix
from .linalg.memory import check_size
from .names import listing
from .network import Network

__all__ = ["Evaluations", "Objective", "SmoothFunction"]
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

    @property
    def total(self) -> int:
        """Evaluations of any kind; a value that comes with its gradient is one."""
        return self.value + self.product + self.matrix


@runtime_checkable
class SmoothFunction(Protocol):
    """What a solver asks of a function f of a flat vector; an :class:`Objective` is one.

    ``solver.minimize(f, theta)`` takes any object with these attributes and methods, of whatever class; a method that
    the solver does not use may raise NotImplementedError. :func:`fastnn.minimize` makes one of plain functions.

    Attributes
    ----------
    n_parameters : int
        P.
    dtype : numpy.dtype
        Of its arithmetic, from which solvers take the rounding noise of its values.
    evaluations : Evaluations
        Which its methods count.
    """

    n_parameters: int
    dtype: np.dtype[Any]
    evaluations: Evaluations

    def check_theta(self, theta: np.ndarray) -> np.ndarray:
        """Theta as an array (P,) of floats, or an error."""

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """F and ∂f/∂θ (P,) of theta's dtype; not finite where f is not."""

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """∂²f/∂θ² (P, P)."""

    def hessp(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """∂²f/∂θ² v (P,)."""


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
        Of the weights, not of the biases, γ and β; a layer's own ``l2`` takes its place.
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
    deterministic : bool, default=False
        Make values and gradients independent of `threads`, bit for bit, on one machine.

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
        If an argument does not fit, or a layer has an ``l1`` above 0: the objective has to be differentiable.

    Notes
    -----
    Values and gradients of a float32 network carry rounding errors of about 1e-7 relative, which ends a line search
    early; take ``dtype="float64"`` for a minimum of more than three or four digits. The gradients and products have the
    dtype of the theta that they are asked for.

    The batches are fixed: L-BFGS and non-linear conjugate gradients compare gradients of successive points, which would
    belong to different functions if batches were drawn anew for each evaluation. :meth:`redraw` takes others, for
    those who want that all the same.

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

    threads: int | None = None  # also of a subclass that has no data

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
        deterministic: bool = False,
    ) -> None:
        deterministic = check_flag("deterministic", deterministic)
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        if dtype is not None and str(dtype) not in ("float32", "float64") and dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {dtype!r}")
        for index, op in enumerate(net.ops):
            if op.l1:
                raise ValueError(f"net: Objective is to be differentiable, got l1={op.l1:g} of layer {index}")
        self.net = net
        evaluated = net if dtype is None or np.dtype(dtype) == net.dtype else net.astype(dtype)
        self._all = None if batches is None else (X, y, sample_weight)
        if batches is not None:
            X, y, sample_weight = _take_batches(evaluated, X, y, sample_weight, batches, training)
        data: DataOptions = {"sample_weight": sample_weight, "l2": l2, "training": training, "threads": threads}
        self.risk = EmpiricalRisk(evaluated, X, y, what="Objective", second_order=False, **data)
        self.dtype, self.n_rows, self.n_parameters = evaluated.dtype, self.risk.n_rows, net.n_parameters
        self.l2, self.threads = self.risk.l2, self.risk.threads
        self._deterministic = deterministic
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
        assert risk.y is not None
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
            deterministic=self._deterministic,
            gradient=gradient,
            buffers=risk.buffers,
            training=risk.training,
        )
        return value, None if found is None else found.astype(theta.dtype, copy=False)

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

    def risk_at(self, theta: np.ndarray, *, second_order: bool = True) -> EmpiricalRisk:
        """The risk, moved to theta; what is known of another point is forgotten.

        With `second_order` the loss and the activations must have second derivatives.
        """
        theta = self.check_theta(theta)
        risk = self.risk
        if second_order:
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

    # Least squares.

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """Residuals r with J(θ) = ½ ‖r‖², of the loss squared_error, for ``scipy.optimize.least_squares``.

        Parameters
        ----------
        theta : ndarray (P,)

        Returns
        -------
        ndarray (N K,) or (N K + number of weights,) of theta's dtype
            √(w/Σw) (ŷ − y) row by row and, with a penalty, √l2 W.

        Raises
        ------
        ValueError
            If the loss is another one.
        """
        theta, risk = self.check_theta(theta), self._least_squares("residuals")
        self.evaluations.value += 1
        rounded = np.ascontiguousarray(theta, self.dtype)
        outputs = risk.plan.forward(rounded, risk.X, threads=risk.threads, buffers=risk.buffers)
        assert risk.y is not None
        errors = (outputs - risk.y).astype(theta.dtype, copy=False) * self._roots(theta.dtype)
        return np.concatenate([errors.ravel(), *(theta[place] * np.sqrt(l2) for place, l2 in risk.ridges)])

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Jacobian ∂r/∂θ of :meth:`residuals`, (len(r), P) of theta's dtype.

        Raises
        ------
        ValueError
            If the loss is another one than squared_error, or batch norm couples the rows.
        MemoryError
            If the matrix is larger than the memory that is available.
        """
        theta, risk = self.check_theta(theta), self._least_squares("jacobian")
        risk = self.risk_at(theta)
        self.evaluations.matrix += 1
        N, K, P = risk.n_rows, risk.n_outputs, risk.n_parameters
        n_weights = sum(place.stop - place.start for place, _ in risk.ridges)
        check_size("jacobian", (N * K + n_weights, P), theta.dtype, None, "use hessp, or LevenbergMarquardt")
        result = np.zeros((N * K + n_weights, P), theta.dtype)
        whole, roots = result[: N * K].reshape(N, K, P), self._roots(theta.dtype)[:, :, None]
        lin: Linearization | None = None
        for rows in risk.chunks(risk.row_elements + K * P):
            part = np.empty((rows.stop - rows.start, K, P), risk.dtype)
            lin = fill_jacobian(risk, rows, part, lin)
            np.multiply(part, roots if len(roots) == 1 else roots[rows], out=whole[rows])
        row = N * K
        for place, l2 in risk.ridges:
            for column in range(place.start, place.stop):
                result[row, column] = np.sqrt(l2)
                row += 1
        return result

    def _least_squares(self, what: str) -> EmpiricalRisk:
        loss = self.net.loss_function
        if not loss.least_squares:
            raise ValueError(f"{what} needs loss 'squared_error', got {loss.name!r}")
        if self.risk.batch_coupled:
            raise ValueError(f"{what} needs training=False where there is batch norm")
        return self.risk

    def _roots(self, dtype: DTypeLike) -> np.ndarray:
        """√(w/Σw) of the rows, (N, 1) or (1, 1)."""
        risk = self.risk
        share = np.ones(1) if risk.weight is None else risk.weight.astype(np.float64)
        roots: np.ndarray = np.sqrt(share / risk.total).astype(dtype)
        return roots[:, None]

    def redraw(self, batches: Iterable[ArrayLike]) -> None:
        """Take other batches, such as reshuffled ones after each iteration of a solver (from its callback).

        The solver goes on with what it knows of the batches before: its next step is by their value and gradient.
        Convergence is then no longer that of a fixed function; steps without a line search suffer least.

        Parameters
        ----------
        batches : iterable of integer arrays
            As for the constructor, of the rows that it was given.

        Raises
        ------
        ValueError, TypeError
            If the objective was made without batches, or they do not fit; nothing has changed then.
        """
        if self._all is None:
            raise ValueError("batches: this objective was made without batches, and takes all rows")
        old = self.risk
        X, y, weight = _take_batches(old.net, *self._all, batches, old.training)
        data: DataOptions = {
            "sample_weight": weight,
            "l2": self.l2,
            "training": old.training,
            "threads": old.threads,
        }
        risk = EmpiricalRisk(old.net, X, y, what="Objective", second_order=False, **data)
        risk.theta[...] = old.theta
        self.risk, self.n_rows = risk, risk.n_rows
        self._operators.clear()

    def check_theta(self, theta: np.ndarray) -> np.ndarray:
        """Theta as an array (P,) of floats, or an error."""
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
