"""Optuna studies whose trials are trained side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._core.threads import blas_threads
from .._typing import ArrayLike, Data, Options
from ..checks import check_integer
from ..files import need
from ..names import listing
from ..sweeps import SweepResult, sweep
from ..sweeps.criterion import Criterion
from ..sweeps.runs import Run, Task

__all__ = ["optuna"]
__dir__ = listing(__all__)


def optuna(
    study: Any,
    suggest: Callable[[Any], Mapping[str, Any]],
    model: Any,
    X: Data,
    y: ArrayLike,
    *,
    n_trials: int = 100,
    batch: int | None = None,
    prune_every: int | None = 1,
    **options: Any,
) -> list[SweepResult]:
    """Optimise an Optuna study with :func:`fastnn.sweep`: ask for a batch of trials, train them together, tell.

    Members of a batch are compared at the same epoch: every `prune_every` epochs all wait for each other, each trial is
    reported the mean score of its folds, and the study's pruner says which of them end, in the order of the trials. So
    a study of one seed gives the same trials on any number of threads.

    Parameters
    ----------
    study : optuna.Study
        Of one objective; "maximize" where more of the metric is better, else "minimize".
    suggest : callable
        Given a trial, returns its setting: a dict of parameters by name, as in :func:`fastnn.sweep`.
    model, X, y
        As for :func:`fastnn.sweep`.
    n_trials : int, default=100
    batch : int, optional
        Trials that are asked for at once; None is four for each thread. A sampler knows the results of the batches
        before: the smaller a batch, the better it can draw.
    prune_every : int or None, default=1
        Epochs between two reports; None reports and prunes nothing.
    **options
        Of :func:`fastnn.sweep`: `cv` or others to compare by, `metric`, `epochs`, `patience`, `threads` and so on.

    Returns
    -------
    list of SweepResult
        One for each batch; member i of it is the trial whose number is in its ``trials``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or the study's direction is not the metric's.
    MissingPackageError
        If Optuna is not installed.
    KeyboardInterrupt
        After Ctrl-C; the trials that had not ended are told as failed.

    Notes
    -----
    Akiba, Sano, Yanase, Ohta and Koyama 2019. A trial that fails or diverges is told as failed, one that is pruned as
    pruned.
    """
    states = need("optuna.trial", "fnn.integrations.optuna", '"fastnn[tune]"').TrialState
    n_trials = check_integer("n_trials", n_trials)
    threads = options.get("threads") or blas_threads()
    size = 4 * int(threads) if batch is None else check_integer("batch", batch)
    for name in ("halving", "n", "refit", "resume", "checkpoint"):
        if name in options:
            raise ValueError(f"{name}: the study decides on that, it cannot be given")
    pruning = _Pruning(study, None if prune_every is None else check_integer("prune_every", prune_every))
    results: list[SweepResult] = []
    while sum(map(len, results)) < n_trials:
        trials = [study.ask() for _ in range(min(size, n_trials - sum(map(len, results))))]
        pruning.trials = trials
        try:
            settings = [_setting(suggest(trial)) for trial in trials]
            result = sweep(model, settings, X, y, refit=False, halving=pruning, **options)
        except BaseException:
            for trial in trials:
                study.tell(trial, state=states.FAIL)
            raise
        result.trials = [trial.number for trial in trials]
        results.append(result)
        for index, trial in enumerate(trials):
            score, outcomes = float(result.mean_scores[index]), result.outcomes[index]
            if any(outcome.stopped == "pruned" for outcome in outcomes):
                study.tell(trial, state=states.PRUNED)
            elif math.isnan(score) or any(outcome.stopped == "interrupted" for outcome in outcomes):
                study.tell(trial, state=states.FAIL)
            else:
                study.tell(trial, score)
        if result.stopped == "interrupted":
            raise KeyboardInterrupt
    return results


def _setting(suggested: object) -> Options:
    if not isinstance(suggested, Mapping):
        raise TypeError(
            f"suggest: expected a function that returns a dict of parameters, it returned {suggested!r:.60}"
        )
    return dict(suggested)


class _Pruning:
    """The study's pruner in the place of successive halving."""

    def __init__(self, study: Any, every: int | None) -> None:
        self.study, self.every = study, every
        self.trials: list[Any] = []

    def __repr__(self) -> str:
        return f"Optuna's pruner every {self.every} epochs"

    def plan(self, members: Sequence[list[Run]], metric: Criterion) -> _PruningPlan:
        """See :func:`fastnn.sweeps.stopping.plan_of`."""
        if (self.study.direction.name == "MAXIMIZE") != metric.rises:
            wanted = "maximize" if metric.rises else "minimize"
            raise ValueError(f"study: expected direction={wanted!r} for the metric {metric.name!r}")
        return _PruningPlan(members, self.trials, self.every)


class _PruningPlan:
    """All members to the next report, then the pruner's word, and on."""

    def __init__(self, members: Sequence[list[Run]], trials: Sequence[Any], every: int | None) -> None:
        self._members = [(runs, trial) for runs, trial in zip(members, trials, strict=True) if runs]
        self._every = every
        self._epoch = 0
        self._waiting: set[int] = set()

    def first(self) -> list[Task]:
        """See :class:`fastnn.sweeps.stopping.Plan`."""
        return self._tasks()

    def done(self, run: Run) -> list[Task]:
        """See :class:`fastnn.sweeps.stopping.Plan`."""
        self._waiting.discard(run.number)
        if self._waiting:
            return []
        self._report()
        return self._tasks()

    def _tasks(self) -> list[Task]:
        alive = {run.number: run for runs, _ in self._members for run in runs if not run.stopped}
        longest = max((run.limit for run in alive.values()), default=0)
        self._epoch = longest if self._every is None else min(self._epoch + self._every, longest)
        self._waiting = set(alive)
        return [(run, min(self._epoch, run.limit)) for run in alive.values()]

    def _report(self) -> None:
        if self._every is None:
            return
        for runs, trial in self._members:
            if any(run.epoch < self._epoch for run in runs):
                continue  # it has ended before
            trial.report(sum(run.scores[self._epoch - 1] for run in runs) / len(runs), self._epoch)
            if trial.should_prune():
                for run in runs:
                    run.end("pruned")
