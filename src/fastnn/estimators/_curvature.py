"""Curvature of a fitted estimator, and what follows from it: uncertainty, standard errors, influence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .. import curvature
from .._typing import ArrayLike, Data, Options
from ..sequential import Sequential
from ._parameters import validated

__all__ = ["CurvatureMethods"]


class CurvatureMethods:
    """What :mod:`fastnn.curvature` knows of ``network_``, with the estimator's own encoding of X and y.

    The objective is that of `fit` with all rows in one batch, J(θ) = Σ w ℓ / Σ w + ½ (alpha / Σ w) ‖W‖², w with
    `class_weight`; parameters stand in the layout of ``network_.theta``. A sparse X is made dense.
    """

    network_: Sequential
    alpha: float
    posterior: str | None = None
    posterior_: curvature.Laplace

    if TYPE_CHECKING:  # of NetworkEstimator

        def _check_X_y(self, X: Data, y: ArrayLike, *, reset: bool, incremental: bool) -> tuple[Any, Any]: ...
        def _targets(self, y: ArrayLike) -> np.ndarray: ...
        def _row_weights(
            self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None, incremental: bool
        ) -> np.ndarray | None: ...
        def _threads(self) -> int | None: ...

    def hessian(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None, *, max_bytes: int | None = None
    ) -> np.ndarray:
        """Hessian ∂²J/∂θ² of the objective J(θ) = Σ w ℓ / Σ w + ½ (alpha / Σ w) ‖W‖², the whole matrix; exact.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like
            As for `fit`.
        sample_weight : array-like of shape (n_samples,), optional
        max_bytes : int, optional
            Largest result that is allowed; None is the memory that is available.

        Returns
        -------
        ndarray of shape (P, P)
            In the layout of ``network_.theta``; see :func:`fastnn.curvature.hessian`, also for what is raised.
        """
        rows, options = self._objective(X, y, sample_weight)
        return curvature.hessian(self.network_, *rows, max_bytes=max_bytes, **options)

    def ggn(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None, *, max_bytes: int | None = None
    ) -> np.ndarray:
        """Generalised Gauss-Newton matrix of the same objective, the whole matrix.

        Parameters
        ----------
        X, y, sample_weight, max_bytes
            As for :meth:`hessian`.

        Returns
        -------
        ndarray of shape (P, P)
            See :func:`fastnn.curvature.ggn`.
        """
        rows, options = self._objective(X, y, sample_weight)
        return curvature.ggn(self.network_, *rows, max_bytes=max_bytes, **options)

    def hessian_operator(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> curvature.CurvatureOperator:
        """Hessian of the same objective as an operator of SciPy, for networks whose matrix is too large.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`hessian`.

        Returns
        -------
        CurvatureOperator
            See :func:`fastnn.curvature.hessian_operator`.
        """
        rows, options = self._objective(X, y, sample_weight)
        return curvature.hessian_operator(self.network_, *rows, **options)

    def ggn_operator(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> curvature.CurvatureOperator:
        """Gauss-Newton matrix of the same objective as an operator of SciPy.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`hessian`.

        Returns
        -------
        CurvatureOperator
            See :func:`fastnn.curvature.ggn_operator`.
        """
        rows, options = self._objective(X, y, sample_weight)
        return curvature.ggn_operator(self.network_, *rows, **options)

    def input_jacobian(self, X: Data, *, max_bytes: int | None = None) -> np.ndarray:
        """Jacobian ∂z_k/∂x_d of the network's outputs (logits, or log-rates) with respect to the features.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        max_bytes : int, optional
            As for :meth:`hessian`.

        Returns
        -------
        ndarray of shape (n_samples, K, n_features)
            K is 1 for two classes: the logit of the second. See :func:`fastnn.curvature.input_jacobian`.
        """
        X = self._dense_rows(X)
        return curvature.input_jacobian(self.network_, X, threads=self._threads(), max_bytes=max_bytes)

    def standard_errors(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        robust: bool = False,
        max_bytes: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Standard errors of the parameters of a fit by maximum likelihood, √diag(φ (Σw H)⁻¹), H from :meth:`hessian`.

        φ = Σ w (y − z)² / (Σ w − P) for squared errors, for each of several outputs its own, else 1. Of several classes
        the errors are those of parameters that sum to 0 over the classes. Classical where alpha is 0.

        Parameters
        ----------
        X, y, sample_weight, max_bytes
            As for :meth:`hessian`: the training rows.
        robust : bool, default=False
            The sandwich instead of H⁻¹.

        Returns
        -------
        dict of ndarray
            By the names of ``network_.parameters``; see :func:`fastnn.curvature.standard_errors`, also for what is
            raised.
        """
        rows, options = self._objective(X, y, sample_weight)
        return curvature.standard_errors(self.network_, *rows, robust=robust, max_bytes=max_bytes, **options)

    def influence(
        self,
        X_train: Data,
        y_train: ArrayLike,
        X: Data,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        damping: float | None = None,
        max_bytes: int | None = None,
    ) -> np.ndarray:
        """Influence of training rows on outputs, or losses, at other rows: −∇f(x)ᵀ H⁻¹ ∂ℓ_i/∂θ (Koh & Liang 2017).

        Leaving row i out of the training changes f(x) by about −w_i / Σ w times this.

        Parameters
        ----------
        X_train, y_train
            As for :meth:`hessian`: the training rows.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like, optional
            With it f is the loss of a row, else the network's outputs (logits, or log-rates).
        sample_weight : array-like of shape (n_training_rows,), optional
        damping : float, optional
            Added to the diagonal of H; None adds only where H is indefinite.
        max_bytes : int, optional
            As for :meth:`hessian`.

        Returns
        -------
        ndarray of shape (n_samples, n_training_rows) where y is given, else (n_samples, K, n_training_rows)
            See :func:`fastnn.curvature.influence`, also for what is raised.
        """
        rows, options = self._objective(X_train, y_train, sample_weight)
        others = (self._dense_rows(X),) if y is None else self._checked(X, y, None)[:2]
        return curvature.influence(self.network_, *rows, *others, damping=damping, max_bytes=max_bytes, **options)

    def fit_posterior(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        structure: str = "full",
        prior_precision: float | str = "marginal_likelihood",
        noise_variance: float | str | ArrayLike = "marginal_likelihood",
        max_bytes: int | None = None,
    ) -> Self:
        """Laplace approximation of the posterior of the fitted parameters, ``posterior_``.

        It is what ``predict(X, return_std=True)`` of a regressor and ``predict_proba(X, posterior="laplace")`` of a
        classifier need. No data are kept. The next `fit` or `partial_fit` drops it; `pickle` keeps it, `save` does not.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`hessian`: the training rows. A weight of 2 counts a row twice.
        structure : {"full", "block", "kfac", "last_layer"}, default="full"
        prior_precision : "marginal_likelihood" or float, default="marginal_likelihood"
            The prior is on all parameters; `alpha` has no part in it.
        noise_variance : "marginal_likelihood", "pooled", float or array-like, default="marginal_likelihood"
            Of each target its own; "pooled" is one for all.
        max_bytes : int, optional
            Most that the matrices may take; None is the memory that is available.

        Returns
        -------
        self

        Raises
        ------
        MemoryError, TypeError, ValueError
            As by :class:`fastnn.curvature.Laplace`, which has the formulas.
        """
        X, targets, weights = self._checked(X, y, sample_weight)
        self.posterior_ = curvature.Laplace(
            self.network_,
            X,
            targets,
            sample_weight=weights,
            structure=structure,
            prior_precision=prior_precision,
            noise_variance=noise_variance,
            threads=self._threads(),
            max_bytes=max_bytes,
        )
        return self

    def _fit_own_posterior(self, X: Data, targets: np.ndarray, weights: np.ndarray | None) -> None:
        """What the parameter `posterior` asks `fit` for, of checked data."""
        if self.posterior is not None:
            self.posterior_ = curvature.Laplace(
                self.network_,
                _dense(X),
                targets,
                sample_weight=weights,
                structure=self.posterior,
                threads=self._threads(),
            )

    def _predictive(self, X: Data) -> curvature.Predictive:
        """The posterior's, where it is that of the present parameters."""
        X = self._dense_rows(X)
        name = type(self).__name__
        if "posterior_" not in vars(self):
            raise NotFittedError(
                f"this {name} has no posterior of its parameters yet: call fit_posterior(X, y) after fit, or fit with "
                "the parameter posterior='full', 'block', 'kfac' or 'last_layer'"
            )
        net, copy = self.network_, self.posterior_.net
        if not (np.array_equal(net.theta, copy.theta) and np.array_equal(net.state, copy.state)):
            raise ValueError(f"the parameters of this {name} have changed since fit_posterior; call it again")
        return self.posterior_.predictive(X, threads=self._threads())

    def _checked(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Dense rows, targets as the network takes them, and weights with those of the classes."""
        check_is_fitted(self)
        given = y
        X, y = self._check_X_y(X, y, reset=False, incremental=True)
        return _dense(X), self._targets(y), self._row_weights(X, given, sample_weight, False)

    def _objective(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[tuple[Any, np.ndarray], Options]:
        """Rows and targets, and the rest of the objective."""
        X, targets, weights = self._checked(X, y, sample_weight)
        total = float(len(X) if weights is None else np.sum(weights, dtype=np.float64))
        if total <= 0.0:
            raise ValueError("sample_weight: expected a positive sum")
        options = {"sample_weight": weights, "l2": float(self.alpha) / total, "threads": self._threads()}
        return (X, targets), options

    def _dense_rows(self, X: Data) -> Any:
        check_is_fitted(self)
        return _dense(validated(self, X, reset=False))


def _dense(X: Data) -> Any:
    return X.toarray() if hasattr(X, "toarray") else X
