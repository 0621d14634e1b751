"""Optuna studies driven by fastnn.integrations.optuna, with the real Optuna."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

X, Y = fnn.datasets.load_iris()[:2]


def model(width: int, seed: int) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(width, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "width": trial.suggest_int("width", 2, 16),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 0.1, log=True),
    }


def study(direction: str = "maximize", **options: Any) -> Any:
    return optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0), **options)


def test_trials_are_told_the_scores_of_a_sweep() -> None:
    ours = study(pruner=optuna.pruners.NopPruner())
    results = fnn.integrations.optuna(ours, suggest, model, X, Y, n_trials=7, batch=3, cv=2, epochs=4)
    assert [len(result) for result in results] == [3, 3, 1]
    assert [number for result in results for number in result.trials or ()] == list(range(7))
    for result in results:
        for index, number in enumerate(result.trials or ()):
            trial = ours.trials[number]
            assert trial.params == result.parameters[index]
            assert trial.value == result.mean_scores[index]
            # each epoch was reported as the mean of the folds
            assert trial.intermediate_values == dict(enumerate(result.curves[index].mean(axis=0), 1))
    settings = [trial.params for trial in ours.trials]
    alone = fnn.sweep(model, settings, X, Y, cv=2, epochs=4)
    assert np.array_equal(alone.mean_scores, [trial.value for trial in ours.trials])


@pytest.mark.parametrize("threads", [1, 3])
def test_members_are_pruned_at_the_same_epoch(threads: int) -> None:
    ours = study(pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1))
    results = fnn.integrations.optuna(
        ours, suggest, model, X, Y, n_trials=12, batch=6, validation_split=0.3, epochs=8, threads=threads
    )
    states = [trial.state.name for trial in ours.trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    found = [(len(trial.intermediate_values), trial.state.name) for trial in ours.trials]
    again = study(pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1))
    fnn.integrations.optuna(
        again, suggest, model, X, Y, n_trials=12, batch=6, validation_split=0.3, epochs=8, threads=2
    )
    assert found == [(len(trial.intermediate_values), trial.state.name) for trial in again.trials]
    outcomes = [outcomes[0] for result in results for outcomes in result.outcomes]
    assert [outcome.stopped == "pruned" for outcome in outcomes] == [state == "PRUNED" for state in states]


def test_reports_may_be_rarer_or_none() -> None:
    ours = study(pruner=optuna.pruners.NopPruner())
    fnn.integrations.optuna(ours, suggest, model, X, Y, n_trials=2, validation_split=0.3, epochs=7, prune_every=3)
    assert [list(trial.intermediate_values) for trial in ours.trials] == [[3, 6, 7]] * 2
    silent = study()
    fnn.integrations.optuna(silent, suggest, model, X, Y, n_trials=2, validation_split=0.3, epochs=7, prune_every=None)
    assert [trial.intermediate_values for trial in silent.trials] == [{}, {}]
    assert [trial.value for trial in silent.trials] == [trial.value for trial in ours.trials]


def test_a_sampler_learns_from_the_batches_before() -> None:
    ours = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=4))
    fnn.integrations.optuna(
        ours, suggest, model, X, Y, n_trials=12, batch=4, validation_split=0.3, epochs=3, metric="loss"
    )
    assert ours.best_value == min(trial.value for trial in ours.trials if trial.value is not None)


def test_members_that_fail_are_failed_trials() -> None:
    def wild(trial: Any) -> dict[str, Any]:
        return {"width": 2, "learning_rate": [0.01, 1e30][trial.number % 2]}

    def regression(width: int, seed: int) -> fnn.Sequential:
        return fnn.Sequential([fnn.Dense(1)], input_size=4, loss="squared_error", dtype="float64", seed=seed)

    ours = study()
    fnn.integrations.optuna(
        ours, wild, regression, X, Y.astype(float), n_trials=4, cv=2, epochs=4, optimizer=fnn.SGD(0.1)
    )
    assert [trial.state.name for trial in ours.trials] == ["COMPLETE", "FAIL"] * 2


def test_patience_ends_members_without_a_report() -> None:
    ours = study(pruner=optuna.pruners.NopPruner())
    results = fnn.integrations.optuna(
        ours, suggest, model, X, Y, n_trials=4, validation_split=0.3, epochs=40, patience=2, metric="accuracy"
    )
    for index, trial in enumerate(ours.trials):
        assert trial.value == results[0].mean_scores[index]


def test_interruption_fails_what_had_not_ended() -> None:
    def callback(event: fnn.SweepEvent) -> None:
        if event.member == 0 and event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    ours = study()
    with pytest.raises(KeyboardInterrupt):
        fnn.integrations.optuna(
            ours, suggest, model, X, Y, n_trials=3, validation_split=0.3, epochs=400, callbacks=[callback]
        )
    assert {trial.state.name for trial in ours.trials} == {"FAIL"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "loss"}, ValueError, "study: expected direction='minimize' for the metric 'loss'"),
        ({"halving": 3}, ValueError, "halving: the study decides on that"),
        ({"n_trials": 0}, ValueError, "n_trials must be an integer >= 1"),
        ({"batch": 0}, ValueError, "batch must be an integer >= 1"),
        ({"prune_every": 0}, ValueError, "prune_every must be an integer >= 1"),
        ({"suggest": lambda trial: 3}, TypeError, "suggest: expected a function that returns a dict of parameters"),
        ({"suggest": lambda trial: {"depth": 3}}, ValueError, "'depth' is taken by neither"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    ours = study()
    arguments: dict[str, Any] = {"suggest": suggest, "cv": 2, "epochs": 1, "n_trials": 2, **options}
    with pytest.raises(error, match=message):
        fnn.integrations.optuna(ours, arguments.pop("suggest"), model, X, Y, **arguments)
    assert all(trial.state.name == "FAIL" for trial in ours.trials)  # none is left open
