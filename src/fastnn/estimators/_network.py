"""What the estimators share: the network underneath, its training by scikit-learn's rules, and the safe file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self, SupportsIndex

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import io, losses
from .._typing import ArrayLike, Data
from ..checks import is_ready
from ..initializers import Uniform
from ..layers import Activation, BatchNorm, Dense, Dropout, Layer
from ..losses import Loss
from ..optimizers import OPTIMIZERS, Optimizer
from ..plan import ACTIVATIONS
from ..schedules import Schedule
from ..schema import printable
from ..sequential import Sequential, load
from ._batch import FullBatchTraining
from ._curvature import CurvatureMethods
from ._files import LINKS, describe_estimator, restore_estimator
from ._parameters import Parameters, validated
from ._sgd import PREPROCESS, StochasticTraining, row_weights
from ._target import TargetScaling

__all__ = ["CONSTRAINTS", "NetworkEstimator"]

#: scikit-learn's names of activations that fastnn calls otherwise.
NAMES = {"identity": "linear", "logistic": "sigmoid"}

#: What scikit-learn's validation accepts.
CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({*NAMES, *ACTIVATIONS})],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "optimizer": [StrOptions(set(OPTIMIZERS)), Optimizer, None],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "batch_norm": ["boolean"],
    "callbacks": [list, tuple],
    "scoring": [str, callable, None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "posterior": [StrOptions({"full", "block", "kfac", "last_layer"}), None],
}


def _words(constraints: list[Any]) -> set[str]:
    """Those of a parameter's constraints that are words."""
    return {constraint for constraint in constraints if isinstance(constraint, str)}


class _Views(list[np.ndarray]):
    """Views into a network's parameters; assigning to an element writes through. A copy is a plain list."""

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        views = self[index] if isinstance(index, slice) else [self[index]]
        values = list(value) if isinstance(index, slice) else [value]
        if len(values) != len(views):
            raise ValueError(f"expected {len(views)} arrays, got {len(values)}")
        arrays = [np.asarray(new) for new in values]
        for view, array in zip(views, arrays, strict=True):
            if array.shape != view.shape:
                raise ValueError(f"expected an array of shape {view.shape}, got {array.shape}")
        for view, array in zip(views, arrays, strict=True):
            view[...] = array

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _views(net: Sequential, ending: str) -> _Views:
    """Views of the weights or biases of the dense layers."""
    dense = {f"{index}{ending}" for index, layer in enumerate(net.layers) if isinstance(layer, Dense)}
    return _Views(view for name, view in net.parameters.items() if name in dense)


class NetworkEstimator(StochasticTraining, FullBatchTraining, TargetScaling, CurvatureMethods, Parameters):
    """An estimator whose model is a :class:`fastnn.Sequential`, ``network_``."""

    network_: Sequential
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None  # None with early stopping
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _given: dict[str, list[np.ndarray]]  # weights and biases assigned before the first fit

    # What estimators without such a parameter do; the others set it in their __init__.
    hidden_layer_sizes: int | Sequence[int] = ()
    activation = "identity"
    dropout = 0.0
    batch_norm = False
    fit_intercept = True
    learning_rate: str | Schedule = "constant"
    power_t = 0.5
    momentum = 0.9
    nesterovs_momentum = True
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-8
    early_stopping = False
    validation_fraction = 0.1
    max_fun = 15000

    #: Fitted attributes that the file of `save` keeps, where they are there.
    _saved: ClassVar[tuple[str, ...]] = (
        *("n_features_in_", "feature_names_in_", "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"),
        *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"),
    )

    # What a subclass says.

    def _loss(self) -> str | Loss:
        """Loss of the network, once the targets are known."""
        raise NotImplementedError

    def _check_X_y(self, X: Data, y: ArrayLike, *, reset: bool, incremental: bool) -> tuple[Any, Any]:
        """Validated X and the targets that the network takes; sets what is known of the targets where `reset`."""
        raise NotImplementedError

    def _targets(self, y: ArrayLike) -> np.ndarray:
        """Validated y as the network takes it."""
        raise NotImplementedError

    def _labels(self, targets: np.ndarray) -> np.ndarray:
        """Targets of the network as they are given to `fit`."""
        return targets

    def _row_weights(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None, incremental: bool
    ) -> np.ndarray | None:
        """Weight of each row, or None; y as it was given."""
        return row_weights(sample_weight, X)

    def _stratum(self, targets: np.ndarray) -> np.ndarray | None:
        """Labels to stratify the validation rows by."""
        return None

    # The network underneath.

    def _layers(self, n_features: int, n_outputs: int) -> list[Layer]:
        """Layers for data of this shape, with the initial distributions of scikit-learn."""
        activation = NAMES.get(self.activation, self.activation)
        factor = 2.0 if activation == "sigmoid" else 6.0
        layers: list[Layer] = []
        width = n_features
        for units in self._hidden():
            init = Uniform(np.sqrt(factor / (width + units)))
            plain = activation if not self.batch_norm else "linear"
            layers.append(Dense(units, plain, init=init, bias_init=init))
            if self.batch_norm:
                layers += [BatchNorm(), Activation(activation)]
            if self.dropout:
                layers.append(Dropout(self.dropout))
            width = units
        init = Uniform(np.sqrt(factor / (width + n_outputs)))
        return [*layers, Dense(n_outputs, init=init, bias_init=init)]

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _of_network(self, ending: str) -> list[np.ndarray]:
        if "network_" not in vars(self):
            what = {".weight": "coefs_", ".bias": "intercepts_"}[ending]
            if ending in vars(self).get("_given", ()):
                return self._given[ending]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {what!r}: it is not fitted")
        return _views(self.network_, ending)

    def _assign(self, ending: str, values: Iterable[ArrayLike]) -> None:
        """Set weights or biases: of the network, or before the first fit of the network that it begins with."""
        if "network_" in vars(self):
            _views(self.network_, ending)[:] = values
        else:
            self.__dict__.setdefault("_given", {})[ending] = [np.asarray(value) for value in values]

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights (inputs, outputs) of the dense layers, views into ``network_.theta``; assignment writes through.

        Assigned before the first fit they are what it begins from.
        """
        return self._of_network(".weight")

    @coefs_.setter
    def coefs_(self, values: Iterable[ArrayLike]) -> None:
        self._assign(".weight", values)

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of the dense layers, views into ``network_.theta``; assignment writes through.

        Assigned before the first fit they are what it begins from.
        """
        return self._of_network(".bias")

    @intercepts_.setter
    def intercepts_(self, values: Iterable[ArrayLike]) -> None:
        self._assign(".bias", values)

    @property
    def history_(self) -> Any:
        """The :class:`fastnn.History` of the last training by a stochastic solver, else None."""
        check_is_fitted(self)
        return self.network_.history

    def _threads(self) -> int | None:
        """Threads to use. Where joblib's own threads run estimators side by side, each of them uses one.

        A worker process needs no such rule: joblib sets the limit of its BLAS, which is what None means.
        """
        given: int | None = self.n_threads
        if given is not None:
            return given
        if threading.current_thread() is not threading.main_thread() and get_active_backend()[0].nesting_level:
            return 1
        return None

    def _decision(self, X: Data) -> np.ndarray:
        """Outputs (N, K) of the network's last layer."""
        if not self._is_plain(X):
            check_is_fitted(self)
            X = validated(self, X, reset=False)
        return self.network_.outputs(X, self._threads())

    def _is_plain(self, X: Data) -> bool:
        """Whether X is an array that scikit-learn's checks, which take longer than a small network, would let pass."""
        own = vars(self)
        return (
            type(X) is np.ndarray
            and "network_" in own
            and "feature_names_in_" not in own
            and is_ready(X, self.network_.input_size, np.dtype(np.float64))
            and len(X) > 0
        )

    # Training.

    def _fit(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: Sequence[ArrayLike] | None = None,
        incremental: bool = False,
    ) -> Self:
        self._validate_params()
        self._check_used()
        self._hidden()
        first = "network_" not in vars(self) or (not self.warm_start and not incremental)
        given = y
        X, y = self._check_X_y(X, y, reset=first, incremental=incremental)
        targets = self._targets(y)
        weights = self._row_weights(X, given, sample_weight, incremental)
        random_state = check_random_state(self.random_state)
        if first:
            self._initialize(X, targets, random_state)
        else:
            self._check_shape(X, targets)
        self.__dict__.pop("posterior_", None)
        optimizer = self._optimizer()
        if optimizer is None and validation_data is not None:
            raise ValueError(f"validation_data needs a stochastic solver, got solver={self.solver!r}")
        with self._target_in_deviations(targets, weights, first) as scaled:
            if optimizer is None:
                self._minimise(X, scaled, weights)
            else:
                self._train(X, scaled, weights, random_state, optimizer, validation_data, incremental)
        if not np.isfinite(self.network_.theta).all():
            raise ValueError(f"Solver produced non-finite parameter weights. {PREPROCESS}")
        if not incremental:
            self._warn_of_scale(X, targets, weights)
            self._fit_own_posterior(X, targets, weights)
        return self

    def _initialize(self, X: Any, targets: np.ndarray, random_state: np.random.RandomState) -> None:
        """A new network, and counters that begin anew."""
        layers = self._layers(X.shape[1], self.n_outputs_)
        # Draws from the same bits as the RandomState, and in the order in which scikit-learn draws.
        seed = np.random.Generator(random_state._bit_generator)
        net = Sequential(layers, input_size=X.shape[1], loss=self._loss(), dtype=X.dtype, seed=seed)
        for ending, values in vars(self).get("_given", {}).items():
            try:
                _views(net, ending)[:] = values
            except ValueError as error:
                name = {".weight": "coefs_", ".bias": "intercepts_"}[ending]
                raise ValueError(f"{name}: {error}") from error
        self.network_ = net
        self.__dict__.pop("_given", None)
        self.__dict__.pop("_splitter", None)
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = 1 + sum(isinstance(layer, Dense) for layer in layers)
        self.out_activation_ = LINKS[net.loss_function.inverse_link]
        for name in ("loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_", "loss_"):
            self.__dict__.pop(name, None)
        self._waited = 0

    def _check_shape(self, X: Data, targets: np.ndarray) -> None:
        """Whether the fitted network is the one that the parameters describe."""
        net = self.network_
        expected = self._layers(net.input_size, self.n_outputs_)
        if list(net.layers) != expected:
            raise ValueError(
                f"{type(self).__name__} goes on with the network of the call before, {net!r}, but its parameters have "
                "changed to describe another one; fit with warm_start=False"
            )
        if targets.ndim == 2 and targets.shape[1] != net.n_outputs:
            raise ValueError(f"y: expected {net.n_outputs} outputs as in the call before, got {targets.shape[1]}")

    # The safe file.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a safetensors file, which :meth:`load` reads without running code from it.

        Parameters
        ----------
        path : str or path-like
            Written aside and renamed: it appears complete or not at all.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        TypeError
            If classes are neither numbers nor str.
        OSError
            If the file cannot be written.

        Notes
        -----
        `callbacks`, a `scoring` that is no name, and a `random_state` that is a generator are not kept.
        :func:`fastnn.load` gives the network alone.
        """
        check_is_fitted(self)
        params = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name != "callbacks"
            and (name != "random_state" or isinstance(value, (Integral, type(None))))
            and (name != "scoring" or isinstance(value, (str, type(None))))
        }
        fitted = {name: vars(self)[name] for name in self._saved if name in vars(self)}
        if "_splitter" in vars(self):
            fitted["_splitter"] = self._splitter._bit_generator.state
        io.save(self.network_, path, metadata=describe_estimator(type(self).__name__, params, fitted))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        estimator
            Fitted; `partial_fit` and ``warm_start`` go on with a new state of the optimizer.

        Raises
        ------
        ValueError
            If the file is damaged, or of another kind or class.
        OSError
            If it cannot be read.
        """
        net, data = load(path, return_metadata=True)
        if data.get("estimator") != cls.__name__:
            raise ValueError(f"{os.fspath(path)}: expected {cls.__name__}, got {data.get('estimator')!r:.60}")
        try:
            params, fitted = restore_estimator(data, net, (*cls._saved, "_splitter"))
            self = cls(**params)
            self._validate_params()
            for name, value in params.items():  # to scikit-learn True is a number
                if isinstance(value, bool) and not {"boolean", "verbose"} & _words(cls._parameter_constraints[name]):
                    raise ValueError(f"{name} cannot be {value}")
            if "solver" in params:
                self._optimizer()  # is there one of these parameters?
            self.__dict__.update(fitted, network_=net, _waited=0)
            if losses.get(self._loss()).name != net.loss_name:
                raise ValueError(f"a loss that does not fit {net!r}")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: damaged description of the estimator: {printable(error)}") from error
        return self
