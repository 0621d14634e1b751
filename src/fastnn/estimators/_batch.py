"""Training on all rows at once: L-BFGS-B as scikit-learn calls it, and Newton's method."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from .._typing import Data, Options
from ..network import Network
from ..objective import Objective
from ..optimizers import Optimizer
from ..sequential import Sequential
from ..solvers import Newton
from ._sgd import reported_loss

__all__ = ["FullBatchTraining"]


class FullBatchTraining:
    """Training of ``network_`` on all rows at once, in float64 whatever its dtype."""

    network_: Sequential
    loss_: float
    n_iter_: int

    #: More options of L-BFGS-B.
    _minimiser_options: ClassVar[Options] = {}

    if TYPE_CHECKING:  # parameters, and methods of NetworkEstimator
        solver: str | Optimizer
        alpha: float
        batch_norm: bool
        dropout: float
        max_fun: int
        max_iter: int
        tol: float
        verbose: bool | int

        def _threads(self) -> int | None: ...

    def _minimise(self, X: Any, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Train with the solver "lbfgs" or "newton"."""
        if self.batch_norm or self.dropout:
            raise ValueError("batch_norm and dropout need batches: use a stochastic solver, not 'lbfgs'")
        net = self.network_
        exact = net if net.dtype == np.float64 else net.astype("float64")
        total = float(X.shape[0] if weights is None else weights.sum(dtype=np.float64))
        if total <= 0.0:
            raise ValueError("sample_weight: expected a positive sum")
        l2 = float(self.alpha) / total
        if self.solver == "newton":
            self._minimise_by_newton(Objective(exact, X, y, weights, l2, threads=self._threads(), deterministic=True))
        else:
            self._minimise_by_lbfgs(exact, X, y, weights, l2)

    def _minimise_by_lbfgs(self, exact: Network, X: Data, y: np.ndarray, weights: np.ndarray | None, l2: float) -> None:
        """L-BFGS-B, called as scikit-learn calls it; `exact` is the network in float64."""
        net, threads = self.network_, self._threads()
        rows, targets, checked = exact.check_data(X, y, weights)

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = exact.plan.loss_and_gradient(
                theta,
                rows,
                targets,
                sample_weight=checked,
                l2=l2,
                threads=threads,
                buffers=exact.state,
                deterministic=True,
            )
            assert gradient is not None
            return value, gradient

        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol, **self._minimiser_options}
        result = minimize(objective, net.theta.astype(np.float64), method="L-BFGS-B", jac=True, options=options)
        self.n_iter_ = min(result.nit, self.max_iter)
        if self.verbose:
            print(f"L-BFGS-B: {self.n_iter_} iterations, {result.nfev} evaluations, loss = {result.fun:.8f}")
        if result.status != 0:
            more = f"\nIncrease the number of iterations to improve the convergence (max_iter={self.max_iter})."
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s) (status={result.status}):\n"
                f"{result.message}\n{more if self.n_iter_ == self.max_iter else ''}"
                "\nYou might also want to scale the data.",
                ConvergenceWarning,
                stacklevel=5,
            )
        penalty = 0.5 * l2 * sum(float(np.vdot(W, W)) for W in _weights(exact, result.x))
        constant = 0.0
        constants = net.loss_function.deviance_constant(targets)
        if constants is not None:
            constant = float(np.average(constants, weights=weights))
        self.loss_ = reported_loss(net, float(result.fun), penalty, constant)
        if np.isfinite(result.x).all():  # else `_fit` says so
            net.theta[...] = result.x
        else:
            net.theta[...] = np.nan

    def _minimise_by_newton(self, objective: Objective) -> None:
        """Newton's method with the exact Hessian, in float64."""
        net = self.network_
        result = Newton(int(self.max_iter), float(self.tol)).minimize(objective, net.theta.astype(np.float64))
        self.n_iter_, self.loss_ = result.iterations, float(result.value)
        if self.verbose:
            print(f"Newton: {result.iterations} iterations, loss = {result.value:.8f}")
        if not result.converged and result.status != "precision":
            warnings.warn(
                f"newton failed to converge after {result.iterations} iteration(s): {result.message}",
                ConvergenceWarning,
                stacklevel=5,
            )
        net.theta[...] = result.theta


def _weights(net: Network, theta: np.ndarray) -> list[np.ndarray]:
    return [theta[op.weight : op.weight + op.n_in * op.n_out] for op in net.ops if op.kind == "dense"]
