"""``net.fit`` with a full-batch solver."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.threads import blas_threads
from .._typing import ArrayLike, Data
from ..callbacks import Checkpoint
from ..checks import check_seed
from ..network import Network
from ..objective import Objective
from ..training.callback_protocol import begin_callbacks, call_callbacks, end_callbacks
from ..training.data import Dataset, Scoring, hold_out, training_data
from ..training.history import Callback, DivergenceError, EpochResult, History, StopFlag
from ..training.options import FitOptions
from ..training.progress import Progress
from ..training.trainer import restored_if_refused
from .base import Iteration

if TYPE_CHECKING:
    from .base import FullBatchSolver

__all__ = ["fit_full_batch"]

SERIES = ("epoch", "loss", "gradient_norm", "step", "damping", "evaluations", "seconds")


def fit_full_batch(solver: FullBatchSolver, net: Network, X: Data, y: ArrayLike, options: FitOptions) -> History:
    """Train a network with a solver; see :meth:`fastnn.Sequential.fit`, which comes here."""
    name = type(solver).__name__
    _refuse(name, net, X, y, options)
    seed, callbacks = options.seed, list(options.callbacks)
    generator = net.generator if seed is None else check_seed(seed)
    threads = 1 if options.deterministic else options.threads or blas_threads()
    state_before = net.state.copy()
    try:
        with restored_if_refused(net, generator):
            data = training_data(net, X, y, options)
            assert isinstance(data, Dataset)
            hold_out(data, options, generator)
            data.drop_rows_that_do_not_count()
            scoring = Scoring(net, data, options, data.validation is not None)
            keys = (*SERIES[:-1], *scoring.train, *scoring.validation, SERIES[-1])
            history = History(keys)
            begin_callbacks(callbacks, keys)
            rows, targets, weight = data.training_part()
            net.begin_training(data.parts(), generator)  # learns what Standardize needs
            objective = Objective(
                net,
                rows,
                targets,
                weight,
                options.l2,
                training=net.needs_batches,
                dtype=solver.dtype,
                threads=threads,
            )
            solver._check(objective)
    except BaseException:
        net.state[...] = state_before
        raise
    observer = _Observer(net, objective, scoring, threads, history, callbacks)
    data.name_network()
    net.training_state = None  # nothing that could be resumed
    net.history = history
    every = options.verbose
    with Progress(solver.max_iter, unit="iteration", every=every) if every else nullcontext() as observer.progress:
        try:
            result = solver.minimize(objective, net.theta.copy(), callback=observer)
        except ArithmeticError as error:
            raise DivergenceError(f"{name}: {error}; the network is as it was. Try standardised inputs") from error
    history.result = result
    if result.status == "not_finite":
        raise DivergenceError(
            f"{name}: the objective or its gradient stopped being finite in iteration {result.iterations + 1}; the "
            "network has the parameters of the iteration before. Try a smaller learning_rate, or a line search"
        )
    end_callbacks(callbacks, net)
    return history


def _refuse(name: str, net: Network, X: Any, y: ArrayLike, options: FitOptions) -> None:
    """Reject arguments of `fit` that do not apply to full-batch solvers."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
    if "epochs" in options.passed:
        raise ValueError(f"epochs: the iterations of {name} are its max_iter, got epochs={options.epochs}")
    if y is None:
        raise ValueError(f"y: {name} needs arrays X and y, got batches or no targets")
    size = options.batch_size
    if size is not None and "batch_size" in options.passed and size < len(X):
        raise ValueError(f"batch_size: {name} takes all rows at once, got {size!r}; use None")
    if options.steps_per_epoch is not None:
        raise ValueError(f"steps_per_epoch: {name} takes all rows at once, got {options.steps_per_epoch}; use None")
    if "shuffle" in options.passed:
        raise ValueError(f"shuffle: rows have no order for {name}, which takes them all at once, got {options.shuffle}")
    for argument in ("clip_norm", "clip_value"):
        if (value := getattr(options, argument)) is not None:
            raise ValueError(f"{argument}: {name} controls its steps itself, got {value!r}; use None")
    if options.l1 != 0.0:
        raise ValueError(f"l1: {name} needs a differentiable objective, got l1={options.l1!r}; use l2, or NAG")
    if options.ema is not None:
        raise ValueError(f"ema: {name} has no noise of mini-batches to average, got {options.ema!r}; use None")
    if options.record_norms:
        raise ValueError(f"record_norms: {name} has no mini-batches, got True; its history has gradient_norm and step")
    if options.augment:
        raise ValueError(f"augment: {name} needs a deterministic objective, got {list(options.augment)!r}")
    if options.resume:
        raise ValueError(
            f"resume: a run of {name} cannot be resumed; calling fit again goes on from where the network is"
        )
    for callback in options.callbacks:
        if isinstance(callback, Checkpoint):
            raise ValueError(f"callbacks: Checkpoint saves trainings to be resumed, those of {name} cannot be")
    for index, op in enumerate(net.ops):
        if op.kind == "dropout" and op.dropout_rate > 0.0:
            raise ValueError(f"{name} needs a deterministic objective, got a Dropout at position {index} of the layers")
        if op.l1:
            raise ValueError(f"l1: {name} needs a differentiable objective, got l1={op.l1:g} of layer {index}; use l2")
        if op.lr_multiplier != 1.0:
            raise ValueError(
                f"{name} has no learning rate, got learning_rate_multiplier={op.lr_multiplier:g} of layer {index}"
            )


class _Observer:
    """Takes each iteration to the network, its history, the callbacks and the progress bar."""

    def __init__(
        self,
        net: Network,
        objective: Objective,
        scoring: Scoring,
        threads: int,
        history: History,
        callbacks: list[Callback],
    ) -> None:
        self.net, self.objective, self.scoring, self.threads = net, objective, scoring, threads
        self.history, self.callbacks = history, callbacks
        self.progress: Progress | None = None
        self._stop = StopFlag()
        self._last = time.perf_counter()

    def __call__(self, iteration: Iteration) -> None:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if iteration.number == 0:
            return
        net = self.net
        statistics = _statistics(self.objective, iteration.theta)
        largest = float(np.finfo(net.dtype).max)
        if not all((np.abs(values) <= largest).all() for _, values in statistics):
            raise DivergenceError(
                "the statistics of batch norm stopped being finite; the network has the parameters of the iteration "
                "before. Try standardised inputs"
            )
        net.theta[...] = iteration.theta
        for place, values in statistics:
            net.state[place] = values
        metrics, validation = self.scoring.scores(self.threads)
        result = EpochResult(
            iteration.number,
            iteration.value,
            None,
            math.nan,
            seconds,
            validation,
            iteration.number,
            net,
            self.history,
            {
                "gradient_norm": iteration.gradient_norm,
                "step": iteration.step,
                "damping": iteration.damping,
                "evaluations": self.objective.evaluations.total,
            },
            metrics=metrics,
            stop_flag=self._stop,
        )
        self.history.append(result)
        call_callbacks(self.callbacks, result)
        if self.progress is not None:
            self.progress.show(result)
        if result.stopped:
            raise StopIteration


def _statistics(objective: Objective, theta: np.ndarray) -> list[tuple[slice, np.ndarray | float]]:
    """Mean and variance of all rows that each batch norm is to run with: they take the place of running ones."""
    risk = objective.risk
    if not risk.batch_coupled:
        return []
    lin = objective.risk_at(theta).linearize(slice(0, risk.n_rows))
    found: list[tuple[slice, np.ndarray | float]] = []
    for i, op in enumerate(risk.ops):
        if op.kind == "batch_norm":
            n, at, inputs = op.n_out, op.buffer, lin.inputs(i)
            found.append((slice(at, at + n), inputs.mean(axis=0, dtype=np.float64)))
            found.append((slice(at + n, at + 2 * n), inputs.var(axis=0, dtype=np.float64)))
            # After this many updates nothing is left of the start, for which the running values are corrected.
            found.append((slice(at + 2 * n, at + 2 * n + 1), 1e6))
    return found
