"""MLPClassifier and MLPRegressor: scikit-learn's, on fastnn's engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import ClassVar, Self

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._typing import ArrayLike, Data, Options
from ..losses import LOSSES, Loss
from ..names import explains_arguments
from ..optimizers import Optimizer
from ..schedules import Schedule
from ..training.history import Callback
from ._labels import Classifier, Regressor
from ._network import CONSTRAINTS
from ._sgd import one_validation

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(Classifier):
    """Multi-layer perceptron classifier with scikit-learn's parameters.

    The objective of a batch is Σ w ℓ / Σ w + ½ (alpha / Σ w) ‖W‖², ℓ the cross-entropy of a softmax (three classes or
    more) or of sigmoids (two classes; several labels). One ``random_state`` gives the initial weights, the order of the
    rows and the validation rows of scikit-learn 1.9, and so, in float64, the same result to rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of the hidden layers.
    activation : str, default="relu"
        Of the hidden layers: identity, logistic, tanh, relu, or another one of ``fastnn.layers.ACTIVATIONS`` (whose
        linear and sigmoid are identity and logistic).
    solver : {"lbfgs", "sgd", "adam"}, another optimizer's name, or an Optimizer, default="adam"
        lbfgs is SciPy's L-BFGS-B on all rows at once; the others are stochastic.
    alpha : float, default=0.0001
        Strength of the penalty of the weights, divided by Σ w of the batch.
    batch_size : int or "auto", default="auto"
        Rows of a batch of a stochastic solver; "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"} or Schedule, default="constant"
        invscaling and adaptive are for ``solver="sgd"``; a schedule of :mod:`fastnn.schedules` is for any.
    learning_rate_init : float, default=0.001
        Initial learning rate, where `learning_rate` is no schedule.
    power_t : float, default=0.5
        Exponent of invscaling: learning_rate_init / (t + 1)^power_t after t rows.
    max_iter : int, default=200
        Most epochs, or iterations of lbfgs.
    shuffle : bool, default=True
        Whether to shuffle the rows for each epoch.
    random_state : int, RandomState or None, default=None
        Of the initial weights, the validation rows and the shuffling.
    tol : float, default=1e-4
        An epoch improves when its loss is below the best, or its validation score above the best, by at least this;
        for lbfgs, the largest component of the gradient to stop at.
    verbose : bool or int, default=False
        Whether to print each epoch's loss; k > 1 prints that of the first and of every k-th epoch.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the call before.
    momentum : float, default=0.9
        Of sgd, in [0, 1).
    nesterovs_momentum : bool, default=True
        Whether that momentum is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the rows, to stop when the score on them no longer improves, and to
        go back to the best weights. Later fits with `warm_start` hold out the same rows; classes are in both parts
        alike, where each has rows enough.
    validation_fraction : float, default=0.1
        In [0, 1).
    beta_1, beta_2, epsilon : float, default=0.9, 0.999 and 1e-8
        Of adam.
    n_iter_no_change : int, default=10
        Training stops after more epochs than this without an improvement.
    max_fun : int, default=15000
        Most evaluations of lbfgs.
    optimizer : Optimizer or str, optional
        Takes the place of `solver`. A name is used as `solver` uses it; an Optimizer such as
        ``fnn.AdamW(fnn.CosineDecay(1e-3, 50))`` has its own learning rate, and `learning_rate`, `learning_rate_init`
        and the parameters of sgd and adam beside it are an error. ``optimizer__learning_rate`` sets its parameter.
    dropout : float, default=0.0
        Probability with which an output of a hidden layer is dropped in training.
    batch_norm : bool, default=False
        Whether to normalise each hidden layer by batch before its activation.
    label_smoothing : float, default=0.0
        ε in [0, 1): targets become (1 − ε) y + ε / K for K classes, (1 − ε) y + ε / 2 for two and for labels.
    class_weight : dict, list of dicts or "balanced", optional
        Weights of the classes, multiplied with `sample_weight`, as in scikit-learn's other classifiers; "balanced"
        counts a row of the weight w as w rows.
    callbacks : list of callables, default=()
        Called after each epoch of a stochastic solver; see :mod:`fastnn.callbacks`. They may watch a metric that
        :mod:`fastnn.metrics` knows, as ``EarlyStopping("val_f1")`` does, and `scoring` as "val_score".
    scoring : str or callable, optional
        What is scored on validation rows, instead of accuracy: a name of scikit-learn's scorers, such as
        "balanced_accuracy" or "neg_log_loss", or ``f(estimator, X, y)``; more is better. `early_stopping` goes by it.
    n_threads : int, optional
        Threads to use; None is the limit of BLAS, and one in a thread of joblib's. The result does not depend on
        it, nor on `n_jobs` around it: `random_state` says all. With `batch_norm` one thread trains.
    posterior : {"full", "block", "kfac", "last_layer"}, optional
        What `fit` ends with: ``fit_posterior(X, y, sample_weight, structure=posterior)``, on all rows of X.

    Attributes
    ----------
    classes_ : ndarray
    network_ : Sequential
        The network underneath.
    coefs_, intercepts_ : list of ndarray
        Weights (inputs, outputs) and biases of the layers, views into ``network_.theta``; assignment writes through.
    loss_ : float
        The last epoch's.
    loss_curve_ : list of float
        Of a stochastic solver.
    best_loss_ : float or None
        Smallest loss; None with `early_stopping`.
    validation_scores_, best_validation_score_ : list of float and float, or None
        Accuracies on the validation rows.
    history_ : History
        All numbers of the last training.
    n_iter_, t_ : int
        Epochs or iterations of the last `fit`, and rows seen by all of them.
    n_layers_, n_outputs_ : int
        Layers, with the input, and outputs.
    out_activation_ : str
        "softmax" or "logistic".
    n_features_in_ : int
    feature_names_in_ : ndarray
        Where X had names.
    posterior_ : fastnn.curvature.Laplace
        After :meth:`fit_posterior`, or with `posterior`.

    Raises
    ------
    ValueError, TypeError
        By `fit`, if a parameter or the data do not fit, or training diverges.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` ends training.

    Notes
    -----
    The differences from scikit-learn are listed in docs/scikit-learn.md.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastnn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier((20,), max_iter=1000, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[Options] = {
        **CONSTRAINTS,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    @explains_arguments
    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        optimizer: str | Optimizer | None = None,
        dropout: float = 0.0,
        batch_norm: bool = False,
        label_smoothing: float = 0.0,
        class_weight: object = None,
        callbacks: Callback | Sequence[Callback] = (),
        scoring: str | Callable[..., float] | None = None,
        n_threads: int | None = None,
        posterior: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.optimizer = optimizer
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.scoring = scoring
        self.n_threads = n_threads
        self.posterior = posterior

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
        """Train on data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are kept, others become float64.
        y : array-like of shape (n_samples,), or of 0 and 1 (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,), optional
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Scored after each epoch instead of held-out rows.
        X_val, y_val, sample_weight_val : array-like, optional
            The same one by one, as metadata routing names them: a Pipeline with ``transform_input=["X_val"]`` gives
            X_val through its transformers. What is given as ``step__validation_data`` goes past them.

        Returns
        -------
        self
        """
        validation_data = one_validation(validation_data, X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    @available_if(lambda self: self._check_solver())
    def partial_fit(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Go over data once, with the optimizer's state of the call before.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, optional
            All classes; needed in the first call, where y is not a table of labels.

        Returns
        -------
        self
        """
        self._begin_partial_fit(y, classes)
        return self._fit(X, y, sample_weight, incremental=True)


class MLPRegressor(Regressor):
    """Multi-layer perceptron regressor with scikit-learn's parameters.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber"}, default="squared_error"
        ½ (ŷ − y)², the deviance of counts with log link, |ŷ − y|, or Huber's with δ = 1, summed over the outputs.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter
        As for :class:`MLPClassifier`.
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction
        As for :class:`MLPClassifier`; the score on validation rows is R².
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As for :class:`MLPClassifier`.
    optimizer, dropout, batch_norm, callbacks, scoring, n_threads, posterior
        As for :class:`MLPClassifier`; `scoring` in place of R².
    standardize_target : bool, default=False
        Whether to train on (y − mean) / deviation of each output and fold both into the last layer after the training:
        `network_` and `coefs_` predict in the units of y, while `alpha`, `tol`, ``loss="huber"``, `loss_`,
        `loss_curve_` and `history_` are in deviations, as is the network that callbacks and `scoring` see. Mean and
        deviation are those of the rows given to the first `fit` or `partial_fit`, with their weights; `partial_fit` and
        `warm_start` keep them. Not for ``loss="poisson"``.

    Attributes
    ----------
    network_ : Sequential
        The network underneath.
    out_activation_ : str
        "identity", or "exp" for poisson.
    target_mean_, target_scale_ : ndarray (n_outputs_,)
        With `standardize_target`.
    coefs_, intercepts_, loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_, history_
        As for :class:`MLPClassifier`. A squared error is reported as its mean over the outputs, as scikit-learn does.
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_, feature_names_in_, posterior_
        As for :class:`MLPClassifier`.

    Raises
    ------
    ValueError, TypeError
        By `fit`, if a parameter or the data do not fit, or training diverges.

    Warns
    -----
    ConvergenceWarning
        When `max_iter` ends training; or when √(mean y²) is below 0.01 or above 100 and R² on the training rows below
        0.5, without `standardize_target`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import MLPRegressor
    >>> X = np.linspace(-2, 2, 100)[:, None]
    >>> MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _parameter_constraints: ClassVar[Options] = {
        **CONSTRAINTS,
        "standardize_target": ["boolean"],
        "loss": [StrOptions({name for name, loss in LOSSES.items() if not loss.classifies})],
    }

    @explains_arguments
    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        optimizer: str | Optimizer | None = None,
        dropout: float = 0.0,
        batch_norm: bool = False,
        callbacks: Callback | Sequence[Callback] = (),
        scoring: str | Callable[..., float] | None = None,
        n_threads: int | None = None,
        posterior: str | None = None,
        standardize_target: bool = False,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.optimizer = optimizer
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.callbacks = callbacks
        self.scoring = scoring
        self.n_threads = n_threads
        self.posterior = posterior
        self.standardize_target = standardize_target

    def _loss(self) -> str | Loss:
        return self.loss

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
        """Train on data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are kept, others become float64.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Scored after each epoch instead of held-out rows.
        X_val, y_val, sample_weight_val : array-like, optional
            The same one by one, as metadata routing names them: a Pipeline with ``transform_input=["X_val"]`` gives
            X_val through its transformers. What is given as ``step__validation_data`` goes past them.

        Returns
        -------
        self
        """
        validation_data = one_validation(validation_data, X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Go over data once, with the optimizer's state of the call before.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)
