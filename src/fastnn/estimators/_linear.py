"""SoftmaxRegression and LinearRegression: networks without a hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._typing import ArrayLike, Data, Options
from ..layers import Dense, Layer
from ..linear import least_squares
from ..names import explains_arguments
from ..optimizers import Optimizer
from ..schedules import Schedule
from ..sequential import Sequential
from ..training.history import Callback
from ._labels import Classifier, Regressor
from ._network import CONSTRAINTS
from ._sgd import one_validation

__all__ = ["LinearRegression", "SoftmaxRegression"]


def _intercept(net: Sequential) -> np.ndarray:
    return net.parameters["0.bias"] if "0.bias" in net.parameters else np.zeros(net.n_outputs, net.dtype)


class SoftmaxRegression(Classifier):
    """Softmax (multinomial logistic) regression: one dense layer, started at zero.

    It minimises Σ w ℓ / Σ w + ½ (alpha / Σ w) ‖W‖², which is convex; with alpha = 1 / C the minimum is that of
    scikit-learn's ``LogisticRegression(C)``. Two classes share one column of weights and a sigmoid.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty of the weights, not of the intercept.
    solver : {"lbfgs", "newton", "sgd", "adam"}, another optimizer's name, or an Optimizer, default="lbfgs"
        newton is :class:`fastnn.solvers.Newton` with the exact Hessian: few iterations, (classes · features)² memory.
    fit_intercept : bool, default=True
    batch_size, learning_rate, learning_rate_init, max_iter, shuffle, random_state, verbose, warm_start
        As for :class:`MLPClassifier`.
    tol : float, default=1e-4
        For lbfgs the largest component of the gradient to stop at, for newton its norm; else as for
        :class:`MLPClassifier`.
    n_iter_no_change, optimizer, label_smoothing, class_weight, callbacks, n_threads, posterior
        As for :class:`MLPClassifier`.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray (n_classes, n_features), or (1, n_features) for two classes
        View into ``network_.theta``.
    intercept_ : ndarray (n_classes,) or (1,)
    network_ : Sequential
    loss_, n_iter_, loss_curve_, n_features_in_, feature_names_in_, posterior_
        As for :class:`MLPClassifier`.

    Raises
    ------
    ValueError, TypeError
        By `fit`, if a parameter or the data do not fit, or training diverges.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` ends training.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastnn import SoftmaxRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> SoftmaxRegression().fit(X, y).score(X, y) > 0.95
    True
    """

    # As LogisticRegression calls it: `tol` decides, and not the last digits of the loss.
    _minimiser_options: ClassVar[Options] = {"ftol": 64 * np.finfo(np.float64).eps, "maxls": 50}
    _parameter_constraints: ClassVar[Options] = {
        **{
            name: CONSTRAINTS[name]
            for name in (
                *("alpha", "batch_size", "learning_rate", "learning_rate_init", "max_iter", "shuffle"),
                *("random_state", "tol", "verbose", "warm_start", "n_iter_no_change", "optimizer", "callbacks"),
                *("n_threads", "posterior"),
            )
        },
        "solver": [StrOptions({"newton"}), *CONSTRAINTS["solver"]],
        "fit_intercept": ["boolean"],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    @explains_arguments
    def __init__(
        self,
        alpha: float = 1.0,
        *,
        solver: str | Optimizer = "lbfgs",
        fit_intercept: bool = True,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        max_iter: int = 1000,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        n_iter_no_change: int = 10,
        optimizer: str | Optimizer | None = None,
        label_smoothing: float = 0.0,
        class_weight: object = None,
        callbacks: Callback | Sequence[Callback] = (),
        n_threads: int | None = None,
        posterior: str | None = None,
    ) -> None:
        self.alpha = alpha
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_iter_no_change = n_iter_no_change
        self.optimizer = optimizer
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.posterior = posterior

    def _layers(self, n_features: int, n_outputs: int) -> list[Layer]:
        return [Dense(n_outputs, bias=bool(self.fit_intercept), init="zeros")]

    @property
    def coef_(self) -> np.ndarray:
        """Weights (n_classes, n_features), or (1, n_features) for two classes; assignment writes through.

        Assigned before the first fit, as `intercept_`, they are what it begins from.
        """
        return self.coefs_[0].T

    @coef_.setter
    def coef_(self, value: Any) -> None:
        self.coefs_ = [np.asarray(value).T]

    @property
    def intercept_(self) -> np.ndarray:
        """Intercepts (n_classes,) or (1,); assignment writes through."""
        if "network_" not in vars(self):
            return self.intercepts_[0]
        return _intercept(self.network_)

    @intercept_.setter
    def intercept_(self, value: Any) -> None:
        if not self.fit_intercept:
            raise ValueError("intercept_: there is none with fit_intercept=False")
        self.intercepts_ = [np.asarray(value)]

    def fit(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: Sequence[ArrayLike] | None = None,
        X_val: Data | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train on data; see :meth:`MLPClassifier.fit`."""
        validation_data = one_validation(validation_data, X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    @available_if(lambda self: self._check_solver())
    def partial_fit(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Go over data once; see :meth:`MLPClassifier.partial_fit`."""
        self._begin_partial_fit(y, classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def decision_function(self, X: Data) -> np.ndarray:
        """Logits of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        Z = self._decision(X)
        return Z[:, 0] if self._kind == "binary" else Z


class LinearRegression(Regressor):
    """Weighted linear least squares with an l2 penalty, in closed form.

    It minimises Σ w ½ ‖y − x W − b‖² + ½ alpha ‖W‖². This is quadratic, so that one Newton step from anywhere ends at
    the minimum; the step is taken by the singular values of the √w-scaled, centred
    rows, never by the normal equations, whose condition is the square. Of several minima it is the one of the smallest
    ‖W‖, as ``numpy.linalg.lstsq``'s, and with an alpha near 0 the solution is near that one.

    Parameters
    ----------
    alpha : float, default=0.0
        Strength of the penalty of the weights; scikit-learn's ``Ridge`` has the same.
    fit_intercept : bool, default=True
    n_threads : int, optional
        Of predictions.
    posterior : str, optional
        As for :class:`MLPRegressor`; "full", of one layer, is exact Bayesian linear regression.

    Attributes
    ----------
    coef_ : ndarray (n_features,) or (n_outputs, n_features)
        View into ``network_.theta``.
    intercept_ : float or ndarray (n_outputs,)
    rank_ : int
        Of the scaled, centred X with the rows of the penalty.
    singular_ : ndarray
        Its singular values.
    network_ : Sequential
    n_outputs_, n_features_in_, feature_names_in_, posterior_
        As for :class:`MLPRegressor`.

    Raises
    ------
    ValueError, TypeError
        By `fit`, if a parameter or the data do not fit.

    Notes
    -----
    All is computed in float64; the weights have the dtype of X. A sparse X is made dense.

    Examples
    --------
    >>> from fastnn import LinearRegression
    >>> LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).predict([[3.0]])
    array([7.])
    """

    _parameter_constraints: ClassVar[Options] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "n_threads": CONSTRAINTS["n_threads"],
        "posterior": CONSTRAINTS["posterior"],
    }
    _saved = (*Regressor._saved, "rank_", "singular_")

    @explains_arguments
    def __init__(
        self,
        alpha: float = 0.0,
        *,
        fit_intercept: bool = True,
        n_threads: int | None = None,
        posterior: str | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.n_threads = n_threads
        self.posterior = posterior

    @property
    def coef_(self) -> np.ndarray:
        """Weights (n_features,) or (n_outputs, n_features); assignment writes through."""
        W = self.coefs_[0].T
        return W[0] if self._one else W

    @coef_.setter
    def coef_(self, value: Any) -> None:
        W = np.asarray(value)
        self._assign(".weight", [(W[None] if W.ndim == 1 and "network_" in vars(self) and self._one else W).T])

    @property
    def intercept_(self) -> Any:
        """Intercept, a float or (n_outputs,); assignment writes through."""
        self.coefs_  # noqa: B018 (not fitted: an AttributeError)
        intercept = _intercept(self.network_)
        return intercept[0] if self._one else intercept

    @intercept_.setter
    def intercept_(self, value: Any) -> None:
        if not self.fit_intercept:
            raise ValueError("intercept_: there is none with fit_intercept=False")
        b = np.asarray(value)
        self._assign(".bias", [b[None] if b.ndim == 0 and "network_" in vars(self) and self._one else b])

    def _assign(self, ending: str, values: Any) -> None:
        if "network_" not in vars(self):  # there is nothing that the solution begins from
            raise AttributeError(f"{type(self).__name__!r} object is not fitted: its parameters cannot be set")
        super()._assign(ending, values)

    def _loss(self) -> str:
        return "squared_error"

    @property
    def _one(self) -> bool:
        return self.n_outputs_ == 1

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are kept, others become float64.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
            At least 0.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = self._check_X_y(X, y, reset=True, incremental=False)
        w = self._row_weights(X, y, sample_weight, False)
        dtype = X.dtype
        A = (X.toarray() if scipy.sparse.issparse(X) else X).astype(np.float64)
        B = self._targets(y).astype(np.float64)
        if w is not None:
            w = np.asarray(w, np.float64)
            if not w.any():
                raise ValueError("sample_weight: expected a positive sum, got zeros only")
        total = float(len(A)) if w is None else float(w.sum())
        fit = least_squares(A, B, sample_weight=w, l2=float(self.alpha) / total, intercept=bool(self.fit_intercept))
        self.rank_, self.singular_ = fit.rank, fit.singular_values
        layer = Dense(self.n_outputs_, bias=bool(self.fit_intercept), init="zeros")
        net = Sequential([layer], input_size=X.shape[1], loss="squared_error", dtype=dtype, seed=0)
        with np.errstate(over="ignore"):  # an overflow in float32 is refused next
            net.parameters["0.weight"] = fit.weight.astype(dtype)
            if self.fit_intercept:
                net.parameters["0.bias"] = fit.bias.astype(dtype)
        self.network_ = net
        self.__dict__.pop("posterior_", None)
        self._fit_own_posterior(X, self._targets(y), w)
        return self
