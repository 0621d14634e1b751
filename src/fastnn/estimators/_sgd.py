"""Stochastic training as scikit-learn does it: its order of the rows, its reported loss, its test of convergence."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight

from .._typing import ArrayLike, Data
from ..checks import refuse_masked
from ..network import Network
from ..optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from ..schedules import Schedule
from ..sequential import Sequential
from ..training import DivergenceError, EpochResult, Trainer
from ..training.callback_protocol import begin_callbacks, call_callbacks, check_callbacks, end_callbacks
from ..training.data import Dataset
from ..training.history import Callback
from ..training.options import TrainingOptions
from ..training.order import RowOrder
from ..training.passes import Conventions
from ._scoring import SCORE, epoch_metrics

__all__ = [
    "PREPROCESS",
    "CumulativeOrder",
    "ReportedLoss",
    "StochasticTraining",
    "one_validation",
    "reported_loss",
    "row_weights",
    "unit_weights",
]

Number = TypeVar("Number", float, np.ndarray)

PREPROCESS = "The input data may contain large values and need to be preprocessed."


def unit_weights(sample_weight: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Weights scaled by a power of two to at most 1, as a network scales them, and that power of two.

    `alpha` is divided by a sum of the weights, so it is to be scaled by the same power.
    """
    if sample_weight is None:
        return None, 1.0
    exponent = int(np.frexp(np.max(sample_weight, initial=0.0))[1])
    return np.ldexp(sample_weight, -exponent), float(np.ldexp(1.0, -exponent))


def row_weights(sample_weight: ArrayLike | None, X: Data, name: str = "sample_weight") -> np.ndarray | None:
    """Weights of the rows of X as scikit-learn takes them, at least 0, or None.

    Raises
    ------
    ValueError
        If a weight is negative; the message has it as it was given.
    """
    if sample_weight is None:
        return None
    refuse_masked(name, sample_weight)
    weights: np.ndarray = _check_sample_weight(sample_weight, X)
    if not (weights >= 0).all():
        row = int((weights < 0).argmax())
        raise ValueError(f"{name}: expected finite values >= 0, got {weights[row]:g} in row {row}")
    return weights


def one_validation(data: Any, X_val: Any, y_val: Any, sample_weight_val: Any) -> Any:
    """Validation data as one tuple, from either way of giving them, or None."""
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val")
        return data
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val must be given together")
    if data is not None:
        raise ValueError("validation_data and X_val, y_val cannot both be given")
    return X_val, y_val, sample_weight_val


def reported_loss(net: Network, loss: Number, penalty: Number, constant: Any) -> Number:
    """The loss as scikit-learn reports it: squared errors are a mean over the outputs, the Poisson deviance is whole.

    Parameters
    ----------
    net : Network
    loss : float or ndarray
        The objective, a sum over the outputs.
    penalty : float or ndarray
        The part of it that is penalty.
    constant : float or ndarray
        Mean over the rows of what turns ℓ into half the deviance.
    """
    if net.loss_function.least_squares and net.n_outputs > 1:
        mean: Number = (loss - penalty) / net.n_outputs + penalty
        return mean
    whole: Number = loss + constant
    return whole


class CumulativeOrder(RowOrder):
    """Each epoch shuffles the order of the epoch before, as scikit-learn does.

    Reading the state of a Mersenne Twister takes as long as a small epoch, so the orders are kept instead: going back
    hands them out again.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = np.arange(self.n_rows) if self.rows is None else self.rows.copy()
        self._drawn = np.empty((0, self.n_rows), np.int64)  # the last ones that were drawn
        self._next = 0  # of them

    def draw(self, count: int) -> np.ndarray | None:
        """See :class:`RowOrder`."""
        if not self.shuffle:
            return super().draw(count)
        kept = self._drawn[self._next :]
        if len(kept) < count:
            orders = np.empty((count - len(kept), self.n_rows), np.int64)
            self.kernels.shuffle.unchecked(self._last, self.generator.bit_generator, orders)
            self._drawn = orders if not len(kept) else np.concatenate([kept, orders])
            self._next = 0
        self._next += count
        return self._drawn[self._next - count : self._next]

    def position(self) -> tuple[np.ndarray, int]:
        """See :class:`RowOrder`."""
        return self._drawn, self._next

    def go_back(self, position: tuple[np.ndarray, int]) -> None:
        """See :class:`RowOrder`."""
        drawn, start = position
        if drawn is not self._drawn:  # what was left of them is the beginning of those that were drawn since
            start = 0
        self._next = start


class ReportedLoss:
    """The epoch's loss as scikit-learn's MLPs report it: the mean of the batches', each weighted by its number of rows.

    Parameters
    ----------
    data : Dataset
        Of the training; its targets give the part of the Poisson deviance that does not depend on the parameters, which
        the engine's objective leaves out.
    """

    def __init__(self, data: Dataset) -> None:
        self.net, self._weight = data.net, data.weight
        self._constants = self.net.loss_function.deviance_constant(data.y)

    def of_epochs(self, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """See :class:`fastnn.training.passes.EpochLoss`."""
        constant = 0.0 if self._constants is None else float(np.average(self._constants, weights=self._weight))
        return reported_loss(self.net, losses, penalties, constant)

    def of_batches(self, rows: np.ndarray, losses: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """See :class:`fastnn.training.passes.EpochLoss`."""
        constants = np.zeros(len(rows))
        if self._constants is not None and self._weight is not None:
            w = self._weight[rows].astype(np.float64)
            sums = w.sum(axis=1)
            kept = sums > 0.0
            constants[kept] = (w * self._constants[rows])[kept].sum(axis=1) / sums[kept]
        return reported_loss(self.net, losses, penalties, constants)


class StochasticTraining:
    """Training of ``network_`` by epochs, as scikit-learn's MLPs do it."""

    network_: Sequential
    loss_: float
    loss_curve_: list[float]
    best_loss_: Any  # a float, or None with early stopping
    validation_scores_: list[float] | None
    best_validation_score_: Any  # likewise
    n_iter_: int
    t_: int
    _rate: float
    _waited: int
    _splitter: np.random.RandomState  # as it was when the validation rows were drawn
    scoring: str | Callable[..., float] | None = None

    if TYPE_CHECKING:  # parameters, and methods of NetworkEstimator
        solver: str | Optimizer
        optimizer: str | Optimizer | None
        learning_rate: str | Schedule
        learning_rate_init: float
        power_t: float
        momentum: float
        nesterovs_momentum: bool
        beta_1: float
        beta_2: float
        epsilon: float
        alpha: float
        batch_size: Any
        batch_norm: bool
        shuffle: bool
        tol: float
        verbose: bool | int
        max_iter: int
        n_iter_no_change: int
        early_stopping: bool
        validation_fraction: float
        callbacks: Callback | Sequence[Callback]

        def _labels(self, targets: np.ndarray) -> np.ndarray: ...
        def _check_X_y(self, X: Data, y: ArrayLike, *, reset: bool, incremental: bool) -> tuple[Any, Any]: ...
        def _targets(self, y: ArrayLike) -> np.ndarray: ...
        def _standardized(self, targets: np.ndarray) -> np.ndarray: ...
        def _stratum(self, targets: np.ndarray) -> np.ndarray | None: ...
        def _threads(self) -> int | None: ...
        def _rule(self) -> Any: ...

    def _optimizer(self) -> Optimizer | None:
        """The optimizer, or None for a solver that is none."""
        rule = self._rule()
        if isinstance(rule, Optimizer):
            return rule
        rate = self.learning_rate if isinstance(self.learning_rate, Schedule) else self.learning_rate_init
        if rule == "sgd":
            return SGD(rate, self.momentum, nesterov=bool(self.nesterovs_momentum) and self.momentum > 0)
        if rule == "adam":
            return Adam(rate, self.beta_1, self.beta_2, self.epsilon, epsilon_hat=True)
        kind: Any = OPTIMIZERS.get(rule)
        return None if kind is None else kind(rate)

    def _check_solver(self) -> bool:
        if self.optimizer is None and isinstance(self.solver, str) and self.solver in ("lbfgs", "newton"):
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _batch_size(self, n_rows: int) -> int:
        if self.batch_size != "auto" and self.batch_size > n_rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        size = min(200 if self.batch_size == "auto" else int(self.batch_size), n_rows)
        if self.batch_norm and size > 1 and n_rows % size == 1:  # one row cannot be normalised
            smaller = [fewer for fewer in range(2, size) if n_rows % fewer != 1]
            size = smaller[-1] if smaller else next(more for more in range(size, n_rows + 1) if n_rows % more != 1)
        return size

    def _train(
        self,
        X: Any,
        y: np.ndarray,
        weights: np.ndarray | None,
        random_state: np.random.RandomState,
        optimizer: Optimizer,
        validation_data: Any,
        incremental: bool,
    ) -> None:
        """Train by epochs, until scikit-learn's test of convergence, `max_iter`, or a callback ends it."""
        net = self.network_
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if validation_data is not None:
            validation_data = self._check_validation(validation_data)
        elif self.early_stopping:
            X, y, weights, validation_data = self._split(X, y, weights, random_state)
        if not incremental or not hasattr(self, "_rate"):
            self._rate = float(self.learning_rate_init)
        scaled, power = unit_weights(weights)
        callbacks = check_callbacks(self.callbacks)
        options = TrainingOptions(
            optimizer=optimizer,
            # With batch norm, rows of weight 0 are left out before batches are made.
            batch_size=self._batch_size(
                int(np.count_nonzero(weights)) if self.batch_norm and weights is not None else X.shape[0]
            ),
            shuffle=self.shuffle,
            sample_weight=scaled,
            validation_data=validation_data,
            metrics=epoch_metrics(self, net.loss_function, validation_data, self._labels, callbacks),
            l2=float(self.alpha) * power,
            threads=self._threads(),
            deterministic=True,  # `random_state` says all
            seed=np.random.Generator(random_state._bit_generator),
        )
        trainer = Trainer.with_options(net, X, y, options, self._conventions(X.shape[0]))
        if incremental and net.training_state is not None:
            trainer.continue_from(net.training_state)
        begin_callbacks(callbacks, trainer.history.keys())
        try:
            best = self._run(trainer, X.shape[0], validation_data is not None, callbacks, incremental)
        except DivergenceError as error:
            raise ValueError(f"Solver produced non-finite parameter weights. {PREPROCESS} ({error})") from error
        net.history = trainer.history
        end_callbacks(callbacks, net, trainer.state)
        if best is not None:
            net.theta[...], net.state[...] = best

    @property
    def _adapts(self) -> bool:
        """Whether `learning_rate` changes the rate."""
        return bool(self._rule() == "sgd" and self.learning_rate in ("invscaling", "adaptive"))

    def _conventions(self, n_rows: int) -> Conventions:
        """scikit-learn's."""
        return Conventions(
            order=CumulativeOrder,
            rate_ahead=(lambda epochs: self._rate_after(epochs, n_rows)) if self._adapts else None,
            l2_over_weight_sum=True,
            epoch_loss=ReportedLoss,
        )

    def _run(
        self, trainer: Trainer, n_rows: int, validated: bool, callbacks: list[Callback], incremental: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The epochs; with early stopping, parameters and buffers of the best one."""
        net = self.network_
        usual = "val_accuracy" if net.loss_function.classifies else "val_r2"
        scored = None if not validated else usual if self.scoring is None else f"val_{SCORE}"
        if "loss_curve_" not in vars(self):
            self.loss_curve_ = []
            self.validation_scores_ = self.best_validation_score_ = self.best_loss_ = None
        # With warm_start they go on, from a training that may have had another test of convergence.
        if scored is not None and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -np.inf
        if self.best_loss_ is None and not self.early_stopping:
            self.best_loss_ = np.inf
        best = (net.theta.copy(), net.state.copy()) if self.early_stopping else None
        self.n_iter_, limit = 0, 1 if incremental else self.max_iter
        stopping = False
        try:
            while self.n_iter_ < limit and not stopping:
                # As many epochs as must pass before training can stop: they may be trained in one call.
                patience = max(1, self.n_iter_no_change + 1 - self._waited)
                for result in trainer.epochs(int(min(limit - self.n_iter_, patience)), block=not callbacks):
                    improved = self._count(result, n_rows, scored)
                    if best is not None and improved:
                        best = net.theta.copy(), net.state.copy()
                    call_callbacks(callbacks, result)
                    if self._waited > self.n_iter_no_change:
                        stopping = self._converged()
                        self._waited = self._waited if stopping else 0
                    stopping = stopping or result.stopped
                if self.n_iter_ == self.max_iter and not (stopping or incremental):
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except DivergenceError as error:
            if best is None or self.validation_scores_ is None:
                raise
            # The best epoch is there to go back to; the one that diverged has no score.
            self.n_iter_ += 1
            self.t_ += n_rows
            self.loss_ = np.nan
            self.loss_curve_.append(np.nan)
            self.validation_scores_.append(np.nan)
            warnings.warn(f"{error}; early stopping goes back to the best epoch", ConvergenceWarning, stacklevel=5)
        return best

    def _count(self, result: EpochResult, n_rows: int, scored: str | None) -> bool:
        """Keep an epoch's numbers; whether it is the best one so far."""
        self.n_iter_ += 1
        self.t_ += n_rows
        self.loss_ = result.loss
        self.loss_curve_.append(result.loss)
        shown = bool(self.verbose) and (self.n_iter_ == 1 or self.n_iter_ % int(self.verbose) == 0)
        if shown:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        score = None if scored is None else result.validation[scored]
        improved = False
        if score is not None and self.validation_scores_ is not None:
            self.validation_scores_.append(score)
            improved = score > self.best_validation_score_
            if shown:
                print(f"Validation score: {score:f}")
        if self.early_stopping:
            self._waited = self._waited + 1 if score < self.best_validation_score_ + self.tol else 0
        else:
            self._waited = self._waited + 1 if result.loss > self.best_loss_ - self.tol else 0
            self.best_loss_ = min(result.loss, self.best_loss_)
        if improved:
            self.best_validation_score_ = score
        if self.learning_rate == "invscaling":
            self._rate = self._rate_after(0, 0, scaled=True)
        return improved

    def _rate_after(self, epochs: int, n_rows: int, *, scaled: bool = False) -> float:
        """Learning rate of the epoch that is so many ahead, by ``learning_rate="invscaling"`` or ``"adaptive"``."""
        if self.learning_rate == "adaptive" or (epochs == 0 and not scaled):
            return self._rate
        rate: float = float(self.learning_rate_init) / (self.t_ + epochs * n_rows + 1) ** self.power_t
        return rate

    def _converged(self) -> bool:
        """Whether training ends after epochs without an improvement, or goes on at a smaller rate."""
        what = "Validation score" if self.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        ends, note = True, " Stopping."
        if self._adapts and self.learning_rate == "adaptive":
            ends = self._rate <= 1e-6
            note = " Learning rate too small. Stopping."
            if not ends:
                self._rate /= 5.0
                note = f" Setting learning rate to {self._rate:f}"
        if self.verbose:
            print(text + note)
        return ends

    def _split(
        self, X: Any, y: np.ndarray, weights: np.ndarray | None, random_state: np.random.RandomState
    ) -> tuple[Any, np.ndarray, np.ndarray | None, tuple[Any, ...]]:
        """Rows to train on, and the rest to validate on, as scikit-learn draws them."""
        # The same rows at each warm start, of a loaded estimator as well: rows that a fit before has seen would not
        # validate anything.
        if "_splitter" in vars(self):
            random_state = copy.deepcopy(self._splitter)
        else:
            self._splitter = copy.deepcopy(random_state)
        train, held_out = train_test_split(
            np.arange(X.shape[0]),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=self._stratum(y),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        if hasattr(X, "tocsr"):
            X = X.tocsr()
        validation = (X[held_out], y[held_out], *([] if weights is None else [weights[held_out]]))
        return X[train], y[train], None if weights is None else weights[train], validation

    def _check_validation(self, data: Any) -> tuple[Any, ...]:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {type(data).__name__}")
        X, y = self._check_X_y(data[0], data[1], reset=False, incremental=True)
        if len(data) == 2 or data[2] is None:
            return X, self._standardized(self._targets(y))
        return X, self._standardized(self._targets(y)), row_weights(data[2], X, "validation_data: sample_weight")
