"""Sweeps: who is trained, who goes on, what comes back."""

from __future__ import annotations

import pickle
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.sweeps.stopping import Halving, Hyperband

X, Y = fnn.datasets.load_iris()[:2]


def model(width: int = 4, seed: int = 0, **options: Any) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(width, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed, **options)


def regression(seed: int) -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(1)], input_size=4, loss="squared_error", dtype="float64", seed=seed)


def slow(seed: int) -> fnn.Sequential:
    """A network with about a second for each epoch of 3,000 rows."""
    layers = [fnn.Dense(1024, "relu"), fnn.Dense(1024, "relu"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)


SPACE = {"width": [2, 8], "learning_rate": [1e-3, 0.05]}


def test_table_ranks_members_by_their_mean() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=8, batch_size=16)
    columns = result.to_dict()
    assert columns["width"] == [2, 2, 8, 8]
    assert columns["learning_rate"] == [1e-3, 0.05, 1e-3, 0.05]
    scores = np.array([columns[f"accuracy_fold_{fold}"] for fold in range(3)])
    assert np.allclose(columns["mean_accuracy"], scores.mean(axis=0))
    assert np.allclose(columns["std_accuracy"], scores.std(axis=0))
    assert result.best_score == max(columns["mean_accuracy"])
    assert columns["rank"][result.best_index] == 1
    assert result.best_parameters == result.parameters[result.best_index]
    assert set(columns["stopped"]) == {"finished"}
    assert columns["epochs"] == [8.0] * 4
    assert all(seconds > 0 for seconds in columns["seconds"])
    assert result.curves.shape == (4, 3, 8)
    assert np.array_equal(result.curves[:, :, -1], result.scores)
    best = result.curves.argmax(axis=2).mean(axis=1) + 1
    assert np.allclose(columns["best_epoch"], best)
    assert len(result) == 4


def test_table_is_a_dataframe_where_pandas_is_installed() -> None:
    pandas = pytest.importorskip("pandas")
    table = fnn.sweep(model, SPACE, X, Y, validation_split=0.3, epochs=2).table
    assert isinstance(table, pandas.DataFrame)
    assert list(table.index) == [0, 1, 2, 3]
    assert "mean_accuracy" in table


def test_cv_results_have_the_layout_of_scikit_learn() -> None:
    space = [{"width": 2}, {"width": 3, "l2": 0.1}]
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=2, metric="loss")
    results = result.cv_results_
    assert results["params"] == space
    assert np.ma.is_masked(results["param_l2"][0])
    assert results["param_l2"][1] == 0.1
    # scikit-learn's scores are better when larger
    assert np.array_equal(results["split1_test_score"], -result.scores[:, 1])
    assert results["rank_test_score"].dtype == np.int32
    assert {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"} <= results.keys()


def test_shorter_trainings_are_read_off_longer_ones() -> None:
    space = {"epochs": [2, 7, 4], "learning_rate": [0.01, 0.1]}
    result = fnn.sweep(model, space, X, Y, validation_split=0.3)
    assert result.to_dict()["trained_with"] == [2, 3, None, None, 2, 3]
    fold = result.folds[0]
    for index, setting in enumerate(result.parameters):
        net = model(seed=0)
        net.fit(
            X[fold.train],
            Y[fold.train],
            optimizer=fnn.Adam(setting["learning_rate"]),
            epochs=setting["epochs"],
            seed=0,
            threads=1,
        )
        assert np.array_equal(net.theta, result.network(index).theta)
        assert result.outcomes[index][0].epochs == setting["epochs"]


def test_best_network_is_refitted_on_all_rows() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=8, batch_size=16)
    net = model(result.best_parameters["width"])
    net.fit(
        X, Y, optimizer=fnn.Adam(result.best_parameters["learning_rate"]), epochs=8, batch_size=16, threads=1, seed=0
    )
    assert np.array_equal(net.theta, result.best_network.theta)
    unfitted = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=2, refit=False)
    with pytest.raises(ValueError, match="was not refitted"):
        _ = unfitted.best_network
    held_out = fnn.sweep(model, SPACE, X, Y, validation_split=0.3, epochs=2)
    assert np.array_equal(held_out.best_network.theta, held_out.network(held_out.best_index).theta)


def test_refit_after_patience_takes_the_mean_of_the_best_epochs() -> None:
    result = fnn.sweep(model, {"learning_rate": [0.05]}, X, Y, cv=3, epochs=50, patience=3)
    epochs = round(np.mean([outcome.best_epoch for outcome in result.outcomes[0]]))
    net = model()
    net.fit(X, Y, optimizer=fnn.Adam(0.05), epochs=epochs, threads=1, seed=0)
    assert np.array_equal(net.theta, result.best_network.theta)


def test_out_of_fold_predictions_are_of_networks_that_have_not_seen_the_row() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=5)
    found = result.out_of_fold
    assert found.shape == (150, 3)
    for number, fold in enumerate(result.folds):
        net = result.network(result.best_index, number)
        assert np.allclose(found[fold.validation], net.predict_proba(X[fold.validation]))
    score = np.mean([(found[f.validation].argmax(axis=1) == Y[f.validation]).mean() for f in result.folds])
    assert np.isclose(score, result.best_score)


def test_parameters_go_to_fit_to_the_optimizer_and_to_the_model() -> None:
    seen = []

    def recorder(width: int, seed: int) -> fnn.Sequential:
        seen.append((width, seed))
        return model(width, seed)

    space = [{"width": 3, "momentum": 0.5, "batch_size": 10, "seed": 7}]
    result = fnn.sweep(recorder, space, X, Y, validation_split=0.3, epochs=2, optimizer=fnn.SGD(0.1), l2=0.01)
    assert set(seen) == {(3, 7)}
    fold = result.folds[0]
    net = model(3, 7)
    optimizer = fnn.SGD(0.1, momentum=0.5)
    net.fit(X[fold.train], Y[fold.train], optimizer=optimizer, batch_size=10, seed=7, epochs=2, l2=0.01, threads=1)
    assert np.array_equal(net.theta, result.network(0).theta)


def test_members_are_augmented_as_in_fit(tmp_path: Path) -> None:
    shift, mixup = fnn.augment.Shift(1, shape=(2, 2)), fnn.augment.Mixup(0.4)
    space = [{"augment": [], "seed": 7}, {"augment": [shift], "seed": 7}, {"augment": [shift, mixup], "seed": 7}]
    result = fnn.sweep(model, space, X, Y, validation_split=0.3, epochs=2, width=3, keep=3)
    fold = result.folds[0]
    for member, setting in enumerate(space):
        net = model(3, 7)
        net.fit(X[fold.train], Y[fold.train], epochs=2, threads=1, **setting)
        assert np.array_equal(net.theta, result.network(member).theta)
    result.save(tmp_path / "sweep.safetensors")
    assert fnn.SweepResult.load(tmp_path / "sweep.safetensors").parameters == space


@pytest.mark.parametrize("name", ["learnin_rate", "momentum", "widt", "anything"])
def test_a_parameter_that_nobody_takes_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name!r} is taken by neither fit, Adam nor the model") as caught:
        fnn.sweep(model_of_two, {name: [0.1]}, X, Y, cv=2)
    meant = {"learnin_rate": "learning_rate", "widt": "width"}.get(name)
    assert (f"did you mean {meant!r}?" in str(caught.value)) == (meant is not None)
    with pytest.raises(ValueError, match="sweep: 'widt'"):
        fnn.sweep(model_of_two, {"width": [2]}, X, Y, cv=2, widt=3)
    with pytest.raises(ValueError, match="'verbose' is the same for all members"):
        fnn.sweep(model_of_two, {"verbose": [1]}, X, Y, cv=2)


def model_of_two(width: int, seed: int) -> fnn.Sequential:
    return model(width, seed)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cv": None}, ValueError, "expected one of cv, validation_data and validation_split, got none"),
        ({"validation_split": 0.2}, ValueError, "got cv and validation_split"),
        ({"cv": 1}, ValueError, "cv must be an integer >= 2"),
        ({"cv": "five"}, TypeError, "cv must be an integer, a splitter or a list"),
        ({"cv": [([0, 1], [1, 2])]}, ValueError, "fold 0 trains and validates on row 1"),
        ({"cv": [([0, 1], [])]}, TypeError, "expected indices of rows"),
        ({"cv": [([0, 1], [200])]}, ValueError, r"expected rows in \[0, 150\)"),
        ({"cv": [(range(100), range(100, 150))]}, ValueError, "fold 0 has no row of class 2 to train on"),
        ({"space": {}}, ValueError, "space: expected at least one parameter"),
        ({"space": {"width": []}}, ValueError, r"space\['width'\]: expected at least one value"),
        ({"space": {"width": 3}}, TypeError, r"space\['width'\]: expected a list of values or a distribution"),
        ({"space": {"l2": [0.0] * 4000, "l1": [0.0] * 4000}}, ValueError, "its grid has 16,000,000"),
        ({"space": {"l2": fnn.LogUniform(1e-5, 1)}}, ValueError, "n: expected the number of draws"),
        ({"space": 3}, TypeError, "space must be a dict"),
        ({"metric": "f7"}, ValueError, "metrics: unknown name 'f7'"),
        ({"metric": 3}, TypeError, "metric must be a name"),
        ({"model": 3}, TypeError, "model: expected a function"),
        ({"model": model()}, TypeError, "model: expected a function of the parameters .* got a Sequential"),
        ({"model": lambda width: 3}, TypeError, "a function that returns a Sequential, it returned 3"),
        ({"y": Y[:100]}, ValueError, "y: expected 150 rows like X"),
        ({"y": Y + 1}, ValueError, "y: expected labels in"),
        ({"X": X[:, :3]}, ValueError, "X: expected 4 features"),
        ({"epochs": 0}, ValueError, "epochs must be an integer >= 1"),
        ({"patience": 0}, ValueError, "patience must be an integer >= 1"),
        ({"halving": 1.0}, ValueError, "halving must be a finite number > 1"),
        ({"halving": "asha"}, ValueError, "halving must be a factor, 'hyperband'"),
        ({"halving": 3, "space": {"epochs": [1, 2]}}, ValueError, "cannot be a parameter of the space"),
        ({"time_limit": 0.0}, ValueError, "time_limit must be a finite number > 0"),
        ({"threads": 0}, ValueError, "threads must be an integer >= 1"),
        ({"refit": "all"}, ValueError, "refit must be 'best' or False"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"resume": True}, ValueError, "resume=True needs a checkpoint"),
        ({"callbacks": [3]}, TypeError, r"callbacks\[0\] must be something that can be called"),
        ({"space": {"batch_size": [0]}}, ValueError, "batch_size must be an integer >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": model, "space": {"width": [2]}, "X": X, "y": Y, "cv": 3, "epochs": 1, **changes}
    with pytest.raises(error, match=message):
        fnn.sweep(**arguments)


def test_memory_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.sweeps.function.available_memory", lambda: 2_500)
    with pytest.raises(MemoryError, match=r"the weights of all members, 4 on 3 folds, are about [\d,]+ bytes"):
        fnn.sweep(model, SPACE, X, Y, cv=3, epochs=1)
    assert len(fnn.sweep(model, SPACE, X, Y, cv=3, epochs=1, keep=1)) == 4


def test_only_the_weights_of_the_best_are_kept() -> None:
    space = {"learning_rate": [1e-6, 0.1, 1e-5, 0.05]}
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=6, keep=2)
    has = [outcome[0].weights is not None for outcome in result.outcomes]
    assert sorted(result.best(2)) == [i for i, kept in enumerate(has) if kept]
    worst = result.best(4)[-1]
    with pytest.raises(ValueError, match=f"member {worst} has no weights on fold 0"):
        result.network(worst)


def test_a_member_that_diverges_is_a_row_with_a_reason() -> None:
    space = {"learning_rate": [0.01, 1e30]}
    result = fnn.sweep(regression, space, X, Y.astype(float), cv=2, optimizer=fnn.SGD(0.1), epochs=5)
    columns = result.to_dict()
    assert columns["stopped"][0] == "finished"
    assert columns["stopped"][1].startswith("diverged: training diverged: the ")
    assert np.isnan(columns["mean_r2"][1])
    assert columns["rank"] == [1, 2]
    with pytest.raises(ValueError, match="member 1 has no weights on fold 0: diverged"):
        result.network(1)
    assert result.best_network.n_outputs == 1
    assert "1 without a score" in repr(result)


def test_what_fails_in_a_member_is_a_row_with_a_reason() -> None:
    def picky(width: int, seed: int) -> fnn.Sequential:
        if width > 5:
            raise RuntimeError("too wide")
        return model(width, seed)

    result = fnn.sweep(picky, {"width": [2, 9, -1]}, X, Y, validation_split=0.3, epochs=1)
    stopped = result.to_dict()["stopped"]
    assert stopped[0] == "finished"
    assert stopped[1] == "failed: RuntimeError: too wide"
    assert stopped[2].startswith("failed: ValueError: units")
    with pytest.raises(RuntimeError, match="too wide"):
        fnn.sweep(picky, {"width": [8, 9]}, X, Y, validation_split=0.3, epochs=1)


def test_a_metric_that_fails_is_a_row_with_a_reason() -> None:
    def metric(y: np.ndarray, predictions: np.ndarray) -> float:
        return 1.0 / float((y == predictions.argmax(axis=1)).mean() > 0.7)

    space = {"learning_rate": [1e-9, 0.1]}
    result = fnn.sweep(model, space, X, Y, validation_split=0.3, epochs=9, metric=metric, batch_size=8)
    assert result.metric.name == "metric"
    assert "failed: ZeroDivisionError: float division by zero" in result.to_dict()["stopped"]

    def wrong(y: np.ndarray, predictions: np.ndarray) -> Any:
        return "good"

    stopped = fnn.sweep(model, space, X, Y, validation_split=0.3, epochs=1, metric=wrong).to_dict()["stopped"]
    assert stopped == ["failed: TypeError: metrics['wrong'] must return a number, got 'good'"] * 2


def test_a_metric_may_be_a_function() -> None:
    def errors(y: np.ndarray, predictions: np.ndarray) -> int:
        return int((y != predictions.argmax(axis=1)).sum())

    errors.greater_is_better = False  # type: ignore[attr-defined]
    plain = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=5)
    result = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=5, metric=errors)
    assert np.allclose(result.curves, 50 * (1.0 - plain.curves))
    assert result.best_index == plain.best_index


def test_losses_rank_the_lowest_first() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=3, epochs=5, metric="loss", patience=2)
    assert result.best_score == result.mean_scores.min()
    assert np.array_equal(result.curves[..., : result.series("val_loss").shape[2]], result.series("val_loss"), True)


# ------------------------------------------------------------------ who goes on


@pytest.mark.parametrize(
    ("epochs", "n", "rungs"), [(27, 27, [1, 3, 9]), (27, 3, [9]), (27, 1, []), (10, 9, [2, 4]), (2, 9, [1]), (1, 9, [])]
)
def test_rungs_of_successive_halving(epochs: int, n: int, rungs: list[int]) -> None:
    assert Halving().rungs(epochs, n) == rungs


def test_brackets_of_hyperband() -> None:
    # Li et al. 2018, table 1: R = 81, eta = 3 has 81, 34, 15, 8 and 5 members; here as shares of as many
    assert Hyperband().brackets(81, 143) == [(81, 4), (34, 3), (15, 2), (8, 1), (5, 0)]
    assert sum(count for count, _ in Hyperband().brackets(81, 10)) == 10


@pytest.mark.parametrize("threads", [1, 3])
def test_successive_halving_drops_the_worst_at_each_rung(threads: int) -> None:
    space = {"learning_rate": np.geomspace(1e-5, 0.1, 9)}
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=9, halving=3, threads=threads, metric="loss")
    everyone = fnn.sweep(model, space, X, Y, cv=2, epochs=9, metric="loss")
    alive = list(range(9))
    for rung, keep in ((1, 3), (3, 1)):
        mean = everyone.curves[:, :, rung - 1].mean(axis=1)
        best = sorted(alive, key=lambda i: mean[i])[:keep]
        for dropped in set(alive) - set(best):
            assert {outcome.stopped for outcome in result.outcomes[dropped]} == {"halving"}
            assert {outcome.epochs for outcome in result.outcomes[dropped]} == {rung}
            assert np.array_equal(result.curves[dropped, :, :rung], everyone.curves[dropped, :, :rung])
        alive = best
    assert [outcome.stopped for outcome in result.outcomes[alive[0]]] == ["finished"] * 2
    assert np.array_equal(result.network(alive[0], 1).theta, everyone.network(alive[0], 1).theta)


def test_hyperband_trains_some_members_without_comparing_them_early() -> None:
    space = {"learning_rate": np.geomspace(1e-5, 0.1, 12)}
    result = fnn.sweep(model, space, X, Y, validation_split=0.3, epochs=9, halving="hyperband")
    epochs = [outcomes[0].epochs for outcomes in result.outcomes]
    counts = [count for count, _ in Hyperband().brackets(9, 12)]
    assert set(epochs[: counts[0]]) == {1, 3, 9}
    assert set(epochs[counts[0] : counts[0] + counts[1]]) == {3, 9}
    assert set(epochs[counts[0] + counts[1] :]) == {9}


def test_a_failed_member_does_not_pass_a_rung() -> None:
    space = {"learning_rate": [0.01, 1e30, 0.02]}
    y = Y.astype(float)
    result = fnn.sweep(regression, space, X, y, cv=2, optimizer=fnn.SGD(0.1), epochs=9, halving=3)
    assert sorted(result.to_dict()["stopped"])[1:] == ["finished", "halving"]
    assert result.to_dict()["stopped"][1].startswith("diverged")


def test_callbacks_are_told_of_each_epoch_and_may_end_a_member() -> None:
    events = []

    def callback(event: fnn.SweepEvent) -> None:
        events.append((event.member, event.fold, event.epoch, event.score, dict(event.parameters)))
        if event.member == 1 and event.epoch == 2:
            event.stop()
        if event.member == 2 and event.epoch == 3:
            raise StopIteration

    result = fnn.sweep(model, SPACE, X, Y, cv=2, epochs=4, callbacks=[callback], threads=2)
    epochs = [[outcome.epochs for outcome in row] for row in result.outcomes]
    assert epochs == [[4, 4], [2, 2], [3, 3], [4, 4]]
    assert set(result.to_dict()["stopped"]) == {"finished", "callback"}
    assert len(events) == sum(map(sum, epochs))
    for member, fold, epoch, score, parameters in events:
        assert score == result.curves[member, fold, epoch - 1]
        assert parameters == result.parameters[member]


def test_a_callback_that_raises_ends_the_sweep() -> None:
    def callback(event: fnn.SweepEvent) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fnn.sweep(model, SPACE, X, Y, cv=2, callbacks=[callback])
    with pytest.raises(TypeError, match=r"returned 3, expected None"):
        fnn.sweep(model, SPACE, X, Y, cv=2, callbacks=[lambda event: 3])


def test_a_time_limit_ends_the_sweep_with_what_there_is() -> None:
    rows = np.tile(X, (20, 1))
    labels = np.tile(Y, 20)
    began = time.monotonic()
    result = fnn.sweep(
        slow, {"seed": range(8)}, rows, labels, validation_split=0.1, epochs=1000, time_limit=0.7, threads=2
    )
    assert time.monotonic() - began < 20.0
    stopped = [outcomes[0].stopped for outcomes in result.outcomes]
    assert "not started: time limit" in stopped
    assert result.stopped == "time limit"
    assert "time limit" in repr(result)


def test_interruption_returns_what_there_is() -> None:
    rows, labels = np.tile(X, (20, 1)), np.tile(Y, 20)
    timer = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
    timer.start()
    result = fnn.sweep(slow, {"seed": range(8)}, rows, labels, validation_split=0.1, epochs=1000, threads=2)
    assert result.stopped == "interrupted"
    assert "not started: interrupted" in result.to_dict()["stopped"]


# ------------------------------------------------------------------ models of other kinds


def test_full_batch_solvers_may_be_members() -> None:
    space = [{"optimizer": fnn.LBFGS(20)}, {"optimizer": fnn.LBFGS(20), "max_iter": 3}, {"optimizer": fnn.Adam(0.01)}]
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=3)
    fold = result.folds[1]
    net = model(dtype="float32")
    net.fit(X[fold.train], Y[fold.train], optimizer=fnn.LBFGS(3), threads=1)
    assert np.array_equal(result.network(1, 1).theta, net.theta)
    assert result.outcomes[1][1].epochs == 3
    assert result.scores[1, 1] == net.evaluate(X[fold.validation], Y[fold.validation])["accuracy"]
    with pytest.raises(ValueError, match="halving needs members with epochs"):
        fnn.sweep(model, space, X, Y, cv=2, halving=3)


def test_estimators_may_be_the_model() -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    estimator = pipeline.make_pipeline(StandardScaler(), fnn.MLPClassifier((5,), random_state=0, max_iter=5))
    space = {"mlpclassifier__alpha": [0.1, 1e-4], "mlpclassifier__hidden_layer_sizes": [(3,), (8,)]}
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    names = np.array(["a", "b", "c"])[Y]
    with pytest.warns(UserWarning, match="Maximum iterations"):
        result = fnn.sweep(estimator, space, X, names, cv=cv, threads=2)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        search = GridSearchCV(estimator, space, cv=cv).fit(X, names)
    assert result.parameters == search.cv_results_["params"]
    assert np.array_equal(result.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    assert np.array_equal(result.cv_results_["rank_test_score"], search.cv_results_["rank_test_score"])
    assert np.array_equal(result.best_network.predict(X), search.predict(X))
    assert result.out_of_fold.shape == (150, 3)
    with pytest.raises(ValueError, match="Pipeline has no parameter 'alpha'"):
        fnn.sweep(estimator, {"alpha": [1.0]}, X, names, cv=cv)
    with pytest.raises(ValueError, match="epochs: the model is an estimator"):
        fnn.sweep(estimator, space, X, names, cv=cv, epochs=3)
    with pytest.raises(ValueError, match="members are estimators"):
        result.save("nowhere")


def test_splitters_and_groups() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    groups = np.arange(150) % 5
    result = fnn.sweep(model, {"width": [2]}, X, Y, cv=selection.LeaveOneGroupOut(), groups=groups, epochs=1)
    assert len(result.folds) == 5
    assert all(len(set(groups[fold.validation])) == 1 for fold in result.folds)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_folds_part_each_class_alike(k: int) -> None:
    y = np.repeat([0, 1, 2], [10, 23, 40])
    rows = np.random.default_rng(0).normal(size=(73, 4))
    result = fnn.sweep(model, {"width": [2]}, rows, y, cv=k, epochs=1, refit=False)
    assert np.array_equal(np.sort(np.concatenate([fold.validation for fold in result.folds])), np.arange(73))
    sizes = [len(fold.validation) for fold in result.folds]
    assert max(sizes) - min(sizes) <= 1
    for label in range(3):
        counts = [int((y[fold.validation] == label).sum()) for fold in result.folds]
        assert max(counts) - min(counts) <= 1
    other = fnn.sweep(model, {"width": [2]}, rows, y, cv=k, epochs=1, refit=False, seed=1)
    assert any(not np.array_equal(a.validation, b.validation) for a, b in zip(result.folds, other.folds, strict=True))


def test_validation_data_and_weights_are_those_of_fit() -> None:
    random = np.random.default_rng(0)
    w, v = random.random(150), random.random(30)
    validation = X[:30] + 0.1, Y[:30], v
    result = fnn.sweep(
        model, {"width": [3], "class_weight": ["balanced"]}, X, Y, sample_weight=w, validation_data=validation, epochs=3
    )
    net = model(3)
    history = net.fit(
        X, Y, sample_weight=w, class_weight="balanced", validation_data=validation, epochs=3, threads=1, seed=0
    )
    assert np.array_equal(net.theta, result.best_network.theta)
    assert result.curves[0, 0].tolist() == history["val_accuracy"]
    with pytest.raises(ValueError, match="validation data was given apart"):
        _ = result.out_of_fold


def test_a_dataframe_keeps_its_column_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    result = fnn.sweep(model, {"width": [3]}, frame, pandas.Series(Y), cv=2, epochs=2)
    assert result.best_network.feature_names == ("a", "b", "c", "d")
    plain = fnn.sweep(model, {"width": [3]}, X, Y, cv=2, epochs=2)
    assert np.array_equal(result.best_network.theta, plain.best_network.theta)


# ------------------------------------------------------------------ what is shown


def test_repr_and_html() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=2, epochs=2)
    text = repr(result)
    assert text.startswith("SweepResult: 4 members on 2 folds, ")
    assert text.splitlines()[1].split()[:4] == ["rank", "member", "width", "learning_rate"]
    assert result._repr_html_().count("<tr>") == 5


def test_network_has_its_history() -> None:
    result = fnn.sweep(model, SPACE, X, Y, cv=2, epochs=3)
    history = result.network(1, 1).history
    assert history is not None
    assert history["val_accuracy"] == result.curves[1, 1].tolist()
    assert len(history) == 3
    with pytest.raises(IndexError, match="expected a member below 4, got 4"):
        result.network(4)
    with pytest.raises(IndexError, match="expected a fold below 2, got 2"):
        result.network(0, 2)
    with pytest.raises(KeyError, match="no series 'r2'; there are loss"):
        result.series("r2")


def test_plot_draws_curves_and_parameters(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    space = {"width": [2, 8], "learning_rate": [1e-4, 0.1], "optimizer": [fnn.SGD(), "adam"]}
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=3)
    axes = result.plot(tmp_path / "sweep.png", title="iris")
    labels = [axis.get_xlabel() for axis in axes]
    assert labels[:4] == ["epoch", "width", "learning_rate", "optimizer"]
    assert axes[2].get_xscale() == "log"
    assert len(axes) == 5
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_progress_shows_members_and_the_best_score(capsys: pytest.CaptureFixture[str]) -> None:
    fnn.sweep(model, SPACE, X, Y, cv=2, epochs=3, verbose=1)
    shown = capsys.readouterr().err
    assert "alive=0/4" in shown or "alive 0/4" in shown
    assert "best accuracy" in shown


def test_progress_without_tqdm_prints_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    fnn.sweep(model, SPACE, X, Y, cv=2, epochs=3, verbose=1)
    assert "24 epochs" in capsys.readouterr().err


def test_results_can_be_pickled() -> None:
    result = fnn.sweep(lambda width, seed: model(width, seed), {"width": [2, 3]}, X, Y, cv=2, epochs=2)
    copy = pickle.loads(pickle.dumps(result))
    assert np.array_equal(copy.best_network.theta, result.best_network.theta)
    assert repr(copy) == repr(result)


def test_members_of_a_sweep_within_a_sweep_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn._core.threads import blas_threads

    seen: list[int] = []

    def observer(seed: int) -> fnn.Sequential:
        if threading.current_thread() is not threading.main_thread():
            seen.append(blas_threads())
        return model(seed=seed)

    fnn.sweep(observer, {"seed": [0, 1]}, X, Y, cv=2, epochs=1, refit=False)
    assert seen == [1] * 4


def test_the_python_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    pytest.importorskip("sklearn")
    pytest.importorskip("optuna")
    for block in blocks:
        exec(compile(block, "sweeps.md", "exec"), names)
    assert names["result"].best_score > 0.9
    assert "SweepResult: 16 members on 3 folds" in capsys.readouterr().out
