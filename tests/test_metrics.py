"""Metrics: known ones against scikit-learn, functions of one's own, where they are evaluated and who watches them."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn import metrics


def classifier(k: int = 3, backend: str = "compiled", **options: object) -> fnn.Sequential:
    loss = "cross_entropy" if k > 1 else "binary_cross_entropy"
    return fnn.Sequential(
        [fnn.Dense(8, "tanh"), fnn.Dense(k)],
        **{"input_size": 4, "loss": loss, "seed": 0, "dtype": "float64", "backend": backend, **options},  # type: ignore[arg-type]
    )


def regression(k: int = 1, loss: str = "squared_error") -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(k)], input_size=4, loss=loss, seed=0, dtype="float64")


def rows(n: int = 80, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    return rng.normal(size=(n, 4)) + 0.7 * np.eye(k, 4)[y], y


# The known ones.

CLASSIFICATION = ("balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "log_loss", "brier")


def sklearn_scores(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> dict[str, float]:
    """The same by scikit-learn: of labels and probabilities (N, K), or of several answers."""
    theirs = pytest.importorskip("sklearn.metrics")
    several = y.ndim == 2
    classes = 2 if several else p.shape[1]
    binary = classes == 2 and not several
    hits = (p > 0.5).astype(int) if several else p.argmax(axis=1)
    average = "binary" if binary else "macro"
    options = {"average": average, "sample_weight": w, "zero_division": 0}
    one_hot = y if several else np.eye(classes)[y]
    columns = [1] if binary else range(p.shape[1])
    found = {
        "precision": theirs.precision_score(y, hits, **options),
        "recall": theirs.recall_score(y, hits, **options),
        "f1": theirs.f1_score(y, hits, **options),
        "roc_auc": np.mean([theirs.roc_auc_score(one_hot[:, k], p[:, k], sample_weight=w) for k in columns]),
        "average_precision": np.mean(
            [theirs.average_precision_score(one_hot[:, k], p[:, k], sample_weight=w) for k in columns]
        ),
    }
    if several:
        each = [(y[:, k], p[:, k]) for k in range(y.shape[1])]
        found["balanced_accuracy"] = np.mean(
            [theirs.balanced_accuracy_score(a, b > 0.5, sample_weight=w) for a, b in each]
        )
        found["log_loss"] = sum(theirs.log_loss(a, b, sample_weight=w) for a, b in each)
        found["brier"] = np.mean([theirs.brier_score_loss(a, b, sample_weight=w) for a, b in each])
        return found
    found["balanced_accuracy"] = theirs.balanced_accuracy_score(y, hits, sample_weight=w)
    found["log_loss"] = theirs.log_loss(y, p, sample_weight=w)
    squares = ((p - one_hot) ** 2).sum(axis=1)
    found["brier"] = np.average(squares, weights=w) / (2 if binary else 1)
    if binary:
        assert found["brier"] == pytest.approx(theirs.brier_score_loss(y, p[:, 1], sample_weight=w))
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_known_scores_of_classes_are_those_of_scikit_learn(k: int, weighted: bool, backend: str) -> None:
    X, y = rows(k=min(k, 4))
    y[:k] = np.arange(k)
    w = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) + 0.25 if weighted else None
    net = classifier(k, backend)
    net.fit(X, y, epochs=3, batch_size=10)
    found = net.evaluate(X, y, w, metrics=CLASSIFICATION)
    expected = sklearn_scores(y, net.predict_proba(X), w)
    assert found.keys() == {"loss", "accuracy", *CLASSIFICATION}
    for name in CLASSIFICATION:
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name


def test_one_sigmoid_scores_as_two_classes_do(backend: str) -> None:
    X, y = rows(k=2)
    net = classifier(1, backend)
    net.fit(X, y, epochs=3)
    expected = sklearn_scores(y, net.predict_proba(X), None)
    found = net.evaluate(X, y, metrics=CLASSIFICATION)
    for name in CLASSIFICATION:
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name


def test_several_answers_score_as_their_mean() -> None:
    X, _ = rows()
    y = (X[:, :3] + np.random.default_rng(2).normal(size=(80, 3)) > 0).astype(int)
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="binary_cross_entropy", seed=0, dtype="float64")
    net.fit(X, y, epochs=5)
    w = np.random.default_rng(0).random(80) + 0.1
    expected = sklearn_scores(y, net.predict_proba(X), w)
    found = net.evaluate(X, y, w, metrics=CLASSIFICATION)
    for name in CLASSIFICATION:
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name


@pytest.mark.parametrize("k", [1, 2])
def test_known_scores_of_values_are_those_of_scikit_learn(k: int) -> None:
    theirs = pytest.importorskip("sklearn.metrics")
    X, _ = rows()
    y, w = X[:, :k] * 3 + 1, np.arange(80.0) % 3
    net = regression(k)
    found = net.evaluate(X, y, w, metrics=["rmse", "mape", "max_error", "mse"])
    p = net.predict(X).reshape(y.shape)
    assert found["rmse"] == pytest.approx(np.sqrt(theirs.mean_squared_error(y, p, sample_weight=w)))
    assert found["mape"] == pytest.approx(theirs.mean_absolute_percentage_error(y, p, sample_weight=w))
    assert found["max_error"] == pytest.approx(np.abs(y - p)[w > 0].max())


def test_weights_are_repetitions(backend: str) -> None:
    X, y = rows()
    w = np.random.default_rng(3).integers(0, 3, len(y))
    net = classifier(3, backend)
    repeated = net.evaluate(np.repeat(X, w, axis=0), np.repeat(y, w), metrics=CLASSIFICATION)
    assert net.evaluate(X, y, w, metrics=CLASSIFICATION) == pytest.approx(repeated)


def test_what_rows_cannot_tell_is_nan() -> None:
    X, y = rows(k=2)
    found = classifier(2).evaluate(X, np.zeros_like(y), metrics=["roc_auc", "f1", "average_precision"])
    assert np.isnan(found["roc_auc"])
    assert np.isnan(found["average_precision"])
    assert found["f1"] == 0.0


# Functions of one's own.


def test_functions_get_targets_predictions_and_weights() -> None:
    seen = {}

    def own(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        seen[y_pred.shape] = (y_true, y_pred, sample_weight)
        return 0.5

    X, y = rows()
    w = np.arange(80.0)
    net = classifier(3)
    assert net.evaluate(X, y, w, metrics=own)["own"] == 0.5
    truth, prediction, weight = seen[80, 3]
    np.testing.assert_array_equal(truth, y)
    np.testing.assert_array_equal(prediction, net.predict_proba(X))
    assert weight is not None
    np.testing.assert_allclose(weight / weight[-1], w / w[-1], rtol=1e-15)
    net = classifier(1)
    net.evaluate(X, (y > 0).astype(float), metrics={"other": own})
    truth, prediction, weight = seen[80,]
    assert truth.dtype == np.int64
    assert weight is None
    np.testing.assert_array_equal(prediction, net.predict_proba(X)[:, 1])
    net = regression(loss="poisson")
    net.evaluate(X, y, metrics={"other": own})
    np.testing.assert_array_equal(seen[80,][1], net.predict(X))
    net = regression(2)
    net.evaluate(X, X[:, :2], metrics={"other": own})
    assert seen[80, 2][0].shape == (80, 2)


def test_a_function_of_scikit_learn_is_a_metric() -> None:
    theirs = pytest.importorskip("sklearn.metrics")
    X, _ = rows()
    w = np.random.default_rng(0).random(80)
    found = regression().evaluate(X, X[:, 0], w, metrics=[theirs.mean_absolute_error, "mae"])
    assert found["mean_absolute_error"] == pytest.approx(found["mae"])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "metrics must be names, functions"),
        ([3], TypeError, "metrics must be names, functions"),
        ([lambda y, p: 0.0], ValueError, "give .* a name, as {'name': function}"),
        ({3: "f1"}, TypeError, "names of metrics as str, got 3"),
        ("auc", ValueError, "unknown name 'auc'; known: accuracy, .*; did you mean 'roc_auc'"),
        ("rmse", ValueError, "'rmse' is for regressions, got loss 'cross_entropy'"),
        (["f1", "f1"], ValueError, "the name 'f1' is taken"),
        ({"loss": max}, ValueError, "the name 'loss' is taken"),
        ({"val_f": max}, ValueError, "the name 'val_f' is taken"),
        ({"own": lambda y, p: None}, TypeError, r"metrics\['own'\] must return a number, got None"),
        ({"own": lambda y, p: True}, TypeError, r"metrics\['own'\] must return a number, got True"),
    ],
)
def test_metrics_are_refused(given: object, error: type[Exception], message: str) -> None:
    X, y = rows()
    with pytest.raises(error, match=message):
        classifier().evaluate(X, y, metrics=given)  # type: ignore[arg-type]


def test_an_error_of_a_function_names_it() -> None:
    def own(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        raise RuntimeError("no")

    X, y = rows()
    net = classifier()
    net.fit(X, y, epochs=1)
    before = net.theta.copy()
    with pytest.raises(RuntimeError) as caught:
        net.fit(X, y, epochs=3, validation_split=0.2, metrics=own)
    assert caught.value.__notes__ == ["in metrics['own'], called with y_true (16,) and y_pred (16, 3)"]
    assert len(net.history or []) == 0
    assert np.isfinite(net.theta).all()
    assert not np.array_equal(before, net.theta)  # of the last finished step, as after any exception


# In training.


@pytest.mark.parametrize("optimizer", ["adam", fnn.LBFGS(max_iter=4)], ids=["adam", "lbfgs"])
def test_a_history_has_the_metrics(optimizer: object, backend: str) -> None:
    X, y = rows()
    held_out = rows(40)
    net, seen = classifier(3, backend), []
    given = {"f1": "f1", "own": lambda y, p: float(p[:, 0].mean())}

    def look(result: fnn.EpochResult) -> None:
        assert result.net is not None
        seen.append((result.net.evaluate(*held_out, metrics=given), result.net.evaluate(X, y, metrics=given)))
        assert result["f1"] == result.metrics["f1"]

    epochs = {} if isinstance(optimizer, fnn.LBFGS) else {"epochs": 4}
    history = net.fit(
        X,
        y,
        optimizer=optimizer,  # type: ignore[arg-type]
        validation_data=held_out,
        metrics=given,
        train_metrics=True,
        callbacks=[look],
        threads=1,
        **epochs,  # type: ignore[arg-type]
    )
    keys = history.keys()
    assert keys.index("f1") == keys.index("own") - 1 == keys.index("val_loss") - 2
    assert keys[keys.index("val_loss") :][:4] == ("val_loss", "val_accuracy", "val_f1", "val_own")
    for name in ("f1", "own"):
        assert history["val_" + name] == [validation[name] for validation, _ in seen]
        assert history[name] == [train[name] for _, train in seen]
    assert "val_own=" in repr(history)


def test_metrics_change_nothing_of_the_training() -> None:
    X, y = rows()
    nets = [classifier(), classifier()]
    nets[0].fit(X, y, epochs=4, validation_split=0.25, metrics=["f1"], train_metrics=True, threads=1)
    nets[1].fit(X, y, epochs=4, validation_split=0.25, threads=1)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_training_metrics_are_those_of_the_rows_that_are_left_and_of_their_own_weights() -> None:
    X, y = rows()
    w = np.random.default_rng(0).random(80)
    net, seen = classifier(), []

    def own(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray) -> float:
        seen.append((len(y_true), sample_weight))
        return 0.0

    net.fit(
        X,
        y,
        epochs=1,
        sample_weight=w,
        class_weight={0: 5.0},
        validation_split=0.25,
        metrics={"own": own},
        train_metrics=True,
    )
    assert [n for n, _ in seen] == [60, 20]
    both = np.concatenate([weight for _, weight in seen])  # a common factor, and none of the classes
    np.testing.assert_allclose(np.sort(both), np.sort(w) * (both.max() / w.max()), rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "f1"}, "metrics: needs validation_data, validation_split, or train_metrics=True"),
        ({"train_metrics": True}, "train_metrics=True needs metrics"),
        ({"metrics": "r2", "validation_split": 0.2}, "unknown name 'r2'"),
        ({"metrics": {"step": max}, "validation_split": 0.2}, "the name 'step' is taken"),
        ({"callbacks": [fnn.EarlyStopping("val_f1")]}, "monitor: no series 'val_f1'.*give validation_data"),
        ({"callbacks": [fnn.EarlyStopping("f1")], "validation_split": 0.2}, "monitor: no series 'f1'"),
    ],
)
@pytest.mark.parametrize("optimizer", ["adam", fnn.LBFGS(max_iter=4)], ids=["adam", "lbfgs"])
def test_fit_refuses_metrics(options: dict, message: str, optimizer: object) -> None:
    X, y = rows()
    net = classifier()
    before = net.theta.copy(), net.generator.bit_generator.state
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, optimizer=optimizer, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(net.theta, before[0])
    assert net.generator.bit_generator.state == before[1]


def test_training_metrics_need_arrays() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="train_metrics=True needs arrays"):
        classifier().fit([(X, y)], metrics="f1", train_metrics=True, validation_data=(X, y))
    history = classifier().fit([(X, y)], metrics="f1", validation_data=(X, y), epochs=2)
    assert len(history["val_f1"]) == 2


# Who watches them.


@pytest.mark.parametrize("optimizer", [fnn.SGD(1e-9), fnn.LBFGS(max_iter=20)], ids=["sgd", "lbfgs"])
def test_a_known_metric_is_evaluated_because_it_is_monitored(optimizer: object) -> None:
    X, y = rows()
    stopping = fnn.EarlyStopping("val_f1", patience=2)
    epochs = {} if isinstance(optimizer, fnn.LBFGS) else {"epochs": 20}
    history = classifier().fit(X, y, optimizer=optimizer, validation_split=0.25, callbacks=[stopping], **epochs)  # type: ignore[arg-type]
    assert stopping.best == max(history["val_f1"])
    assert history["val_f1"][stopping.best_epoch - 1] == stopping.best
    assert stopping.stopped_epoch == stopping.best_epoch + 2


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_direction_of_an_own_metric(mode: str) -> None:
    X, y = rows()
    values = iter([3.0, 5.0, 1.0, 4.0, 4.0, 4.0])
    stopping = fnn.EarlyStopping("val_own", patience=10, mode=mode)
    given = {"own": lambda y, p: next(values)}
    classifier().fit(X, y, epochs=6, validation_split=0.25, metrics=given, callbacks=[stopping])
    assert (stopping.best, stopping.best_epoch) == ((1.0, 3) if mode == "min" else (5.0, 2))
    assert f"mode={mode!r}" in repr(stopping)


def test_a_direction_that_no_name_tells_is_asked_for() -> None:
    X, y = rows()
    for watcher in (
        {"callbacks": [fnn.EarlyStopping("val_own")]},
        {"callbacks": [fnn.Checkpoint("unused.safetensors", monitor="val_own")]},
        {"optimizer": fnn.SGD(fnn.ReduceOnPlateau(0.1, monitor="val_own"))},
    ):
        with pytest.raises(ValueError, match="mode: expected 'min' or 'max' beside monitor='val_own'"):
            classifier().fit(X, y, validation_split=0.25, metrics={"own": lambda y, p: 0.0}, **watcher)
    for make in (fnn.EarlyStopping, lambda **o: fnn.ReduceOnPlateau(0.1, **o), lambda **o: fnn.Checkpoint("x", **o)):
        with pytest.raises(ValueError, match="mode must be 'auto', 'min' or 'max', got 'up'"):
            make(mode="up")  # type: ignore[operator]


def test_the_learning_rate_follows_an_own_metric() -> None:
    X, y = rows()
    values = [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    schedule = fnn.ReduceOnPlateau(0.1, factor=0.5, patience=1, monitor="val_own", mode="max")
    source = iter(values)
    history = classifier().fit(
        X,
        y,
        epochs=6,
        optimizer=fnn.SGD(schedule),
        validation_split=0.25,
        metrics={"own": lambda y, p: next(source)},
    )
    assert history["learning_rate"] == [0.1, 0.1, 0.1, 0.1, 0.1, 0.05]


def test_a_checkpoint_of_the_best_epoch(tmp_path) -> None:
    X, y = rows()
    path = tmp_path / "best.safetensors"
    thetas, scripted = [], [1.0, 3.0, 2.0, 4.0, 3.5, 0.0]
    given = {"own": lambda y, p: scripted[len(thetas)]}
    keep = [lambda r: thetas.append(r.net.theta.copy())]
    options = {"validation_split": 0.25, "metrics": given, "batch_size": 20}
    best = fnn.Checkpoint(path, monitor="val_own", mode="max")
    net = classifier()
    net.fit(X, y, epochs=3, callbacks=[*keep, best], **options)
    np.testing.assert_array_equal(fnn.load(path).theta, thetas[1])
    net.fit(X, y, epochs=6, callbacks=[*keep, best], resume=True, **options)
    assert len(thetas) == 6
    np.testing.assert_array_equal(fnn.load(path).theta, thetas[3])
    assert repr(best).endswith("every=1, monitor='val_own', mode='max')")


def test_a_training_with_metrics_is_saved_and_resumed(tmp_path) -> None:
    X, y = rows()
    options = {"validation_split": 0.25, "metrics": {"own": lambda y, p: float(p.max()), "f1": "f1"}, "threads": 1}
    options |= {"train_metrics": True}
    whole = classifier()
    whole.fit(X, y, epochs=6, **options)
    first = classifier()
    first.fit(X, y, epochs=3, callbacks=[fnn.Checkpoint(tmp_path / "x")], **options)
    net = fnn.load(tmp_path / "x")
    with pytest.raises(ValueError, match="resume: expected series"):
        net.fit(X, y, epochs=6, resume=True, validation_split=0.25, threads=1)
    history = net.fit(X, y, epochs=6, resume=True, **options)
    np.testing.assert_array_equal(net.theta, whole.theta)
    assert whole.history is not None
    for name in ("val_own", "val_f1", "own", "f1"):
        assert history[name] == whole.history[name]


def test_the_progress_line_shows_them(capsys, monkeypatch) -> None:
    import builtins

    real = builtins.__import__

    def without_tqdm(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    X, y = rows()
    given = {"own": lambda y, p: 0.25}
    classifier().fit(X, y, epochs=1, validation_split=0.25, metrics=given, train_metrics=True, verbose=1)
    err = capsys.readouterr().err
    assert "own 0.25" in err
    assert "val_own 0.25" in err


def test_directions_of_series() -> None:
    assert metrics.rises("val_accuracy")
    assert metrics.rises("roc_auc")
    assert not metrics.rises("val_loss")
    assert not metrics.rises("gradient_norm")
    assert metrics.rises("anything", "max")
    assert not metrics.rises("accuracy", "min")
    usual = {"epoch", "accuracy", "loss", "mse", "mae", "r2", "deviance"}
    for name in (*metrics.KNOWN, *usual - {"epoch"}):
        metrics.rises(name)  # every name that fastnn gives tells
