"""``net.fit`` with a full-batch solver."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Checkpoint
from ..network import Network
from ..objective import Objective
from ..training import DivergenceError, EpochResult, History, Progress, Trainer, call_callbacks, end_callbacks
from .base import Iteration

if TYPE_CHECKING:
    from .base import FullBatchSolver

__all__ = ["fit_full_batch"]

SERIES = ("epoch", "loss", "gradient_norm", "step", "damping", "seconds")


def fit_full_batch(
    solver: FullBatchSolver,
    net: Network,
    X: Any,
    y: Any,
    *,
    epochs: int,
    callbacks: list[Any],
    verbose: int,
    resume: bool,
    batch_size: int | None = None,
    shuffle: bool = True,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    deterministic: bool = False,
    threads: int | None = None,
    seed: Any = None,
    **options: Any,
) -> History:
    """Train a network with a solver; see :meth:`fastnn.Sequential.fit`, which comes here."""
    name = type(solver).__name__
    _refuse(name, net, X, y, epochs, callbacks, resume, batch_size, l1, clip_norm, clip_value)
    generators = [net.generator, *([seed] if isinstance(seed, np.random.Generator) else [])]
    before = [generator.bit_generator.state for generator in generators]
    state_before = net.state.copy()
    try:
        # One place checks all arguments that a solver shares with the optimizers.
        checks = Trainer(
            net,
            X,
            y,
            optimizer="sgd",
            batch_size=None,
            l2=l2,
            threads=1 if deterministic else threads,
            deterministic=deterministic,
            seed=seed,
            **options,
        )
        keys: tuple[str, ...] = SERIES
        if checks._validation is not None:
            keys = (*SERIES[:-1], *("val_" + key for key in net.score_names()), SERIES[-1])
        history = History(keys)
        for callback in callbacks:
            if hasattr(callback, "begin"):
                callback.begin(keys)
        rows = slice(None) if checks._rows is None else checks._rows
        weight = None if checks._w is None else checks._w[rows]
        X = checks._X[rows]
        net.begin_training(X, checks.state.generator)  # learns what Standardize needs
        observer = _Observer(solver, net, checks, history, callbacks)
        objective = Objective(
            net,
            X,
            checks._y[rows],
            weight,
            l2,
            training=net.needs_batches,
            dtype=solver.dtype,
            threads=checks._threads,
        )
        solver._check(objective)
    except BaseException:
        net.state[...] = state_before
        for generator, saved in zip(generators, before, strict=True):
            generator.bit_generator.state = saved
        raise
    net.training_state = None  # nothing that could be resumed
    net.history = history
    observer.objective = objective
    with Progress(solver.max_iter, unit="iteration") if verbose else nullcontext() as observer.progress:
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
    end_callbacks(callbacks, net, checks.state)
    return history


def _refuse(
    name: str,
    net: Any,
    X: Any,
    y: Any,
    epochs: int,
    callbacks: list[Any],
    resume: Any,
    batch_size: Any,
    l1: Any,
    clip_norm: Any,
    clip_value: Any,
) -> None:
    """Say what has no meaning for a full-batch solver."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
    # The defaults of `fit` cannot be told from values that were given.
    if epochs != 10:
        raise ValueError(f"epochs: the iterations of {name} are its max_iter, got epochs={epochs}")
    if y is None:
        raise ValueError(f"y: {name} needs arrays X and y, got batches or no targets")
    if batch_size not in (None, 64) and not (isinstance(batch_size, int) and batch_size >= len(X)):
        raise ValueError(f"batch_size: {name} takes all rows at once, got {batch_size!r}; use None")
    for argument, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if value is not None:
            raise ValueError(f"{argument}: {name} controls its steps itself, got {value!r}; use None")
    if not isinstance(l1, (int, float)) or l1 != 0.0:
        raise ValueError(f"l1: {name} needs a differentiable objective, got l1={l1!r}; use l2")
    if resume:
        raise ValueError(
            f"resume: a run of {name} cannot be resumed; calling fit again goes on from where the network is"
        )
    for callback in callbacks:
        if isinstance(callback, Checkpoint):
            raise ValueError(f"callbacks: Checkpoint saves trainings to be resumed, those of {name} cannot be")
    for index, op in enumerate(net.ops):
        if op.kind == "dropout" and op.dropout_rate > 0.0:
            raise ValueError(
                f"{name} needs an objective without chance, got a Dropout at position {index} of the layers"
            )
        if op.lr_multiplier != 1.0:
            raise ValueError(
                f"{name} has no learning rate, got learning_rate_multiplier={op.lr_multiplier:g} of layer {index}"
            )


class _Observer:
    """Takes each iteration to the network, its history, the callbacks and the progress bar."""

    def __init__(
        self, solver: FullBatchSolver, net: Network, checks: Trainer, history: History, callbacks: list[Any]
    ) -> None:
        self.solver, self.net, self.checks, self.history, self.callbacks = solver, net, checks, history, callbacks
        self.objective: Objective
        self.progress: Progress | None = None
        self._last = time.perf_counter()

    def __call__(self, iteration: Iteration) -> None:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if iteration.number == 0:
            return
        net, checks = self.net, self.checks
        statistics = _statistics(self.objective, iteration.theta)
        net.theta[...] = iteration.theta
        for place, values in statistics:
            net.state[place] = values
        scores: dict[str, float] = {}
        if checks._validation is not None:
            found = net.evaluate_checked(*checks._validation, checks._threads)
            scores = {f"val_{name}": value for name, value in found.items()}
        result = EpochResult(
            iteration.number,
            iteration.value,
            None,
            math.nan,
            seconds,
            scores,
            iteration.number,
            net,
            self.history,
            checks.state,
            {"gradient_norm": iteration.gradient_norm, "step": iteration.step, "damping": iteration.damping},
        )
        self.history.append(result)
        call_callbacks(self.callbacks, result)
        if self.progress is not None:
            self.progress.show(result)
        if checks.state.stopped:
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
            # After so many updates nothing is left of the start, for which the running values are corrected.
            found.append((slice(at + 2 * n, at + 2 * n + 1), 1e6))
    return found
