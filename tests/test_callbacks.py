"""Validation, class weights, callbacks, early stopping, batches from iterators, partial fits."""

from __future__ import annotations

import builtins
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training.classes import class_labels, class_weights
from fastnn.training.data import stratified_split


def classifier(backend: str = "compiled", dtype: str = "float64", **options) -> fnn.Sequential:
    layers = [fnn.Dense(8, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0, dtype=dtype, backend=backend, **options)


def regression(backend: str = "compiled") -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(2)], input_size=4, loss="squared_error", seed=0, backend=backend)


def blobs(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n)
    return rng.normal(size=(n, 4)) + 2.0 * np.eye(3, 4)[y], y


# Validation.


@pytest.mark.parametrize("weighted", [False, True])
def test_validation_data(weighted, backend, dtype, rng) -> None:
    X, y = blobs()
    held_out = (*blobs(40, 1), rng.random(40)) if weighted else blobs(40, 1)
    net, plain = classifier(backend, dtype), classifier(backend, dtype)
    seen = []
    history = net.fit(
        X,
        y,
        epochs=4,
        validation_data=held_out,
        threads=1,
        callbacks=[lambda r: seen.append(r.net.evaluate(*held_out))],
    )
    assert history.keys() == ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    assert history["val_loss"] == [result["loss"] for result in seen]
    assert history["val_accuracy"] == [result["accuracy"] for result in seen]
    assert "val_accuracy=" in repr(history)
    plain.fit(X, y, epochs=4, threads=1)  # looking on changes nothing
    np.testing.assert_array_equal(net.theta, plain.theta)


def test_validation_of_a_regression(backend, rng) -> None:
    X, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    history = regression(backend).fit(X, y, epochs=2, validation_split=0.2)
    assert history.keys()[2:6] == ("val_loss", "val_mse", "val_mae", "val_r2")
    assert len(history["val_r2"]) == 2


def test_the_split_is_stratified(rng) -> None:
    y = np.repeat([0, 1, 2], [60, 27, 3])
    training, held_out = split_rows(classifier(), y, 0.2, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, held_out])), np.arange(90))
    np.testing.assert_array_equal(np.bincount(y[held_out]), [12, 5, 1])
    assert (np.diff(training) > 0).all()
    soft = split_rows(classifier(), np.eye(3)[y], 0.2, np.random.default_rng(1))
    hard = split_rows(classifier(), y, 0.2, np.random.default_rng(1))
    np.testing.assert_array_equal(soft[1], hard[1])
    training, _ = split_rows(classifier(), np.array([0, 1, 2] * 2), 0.9, rng)
    assert len(training) == 3  # every class keeps a row
    assert len(split_rows(regression(), np.zeros((10, 2)), 0.25, rng)[1]) == 2


def split_rows(net, y, fraction, rng):
    """As a network's validation_split is drawn."""
    return stratified_split(class_labels(net, y), len(y), fraction, rng)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_split_trains_on_the_rest(shuffle, backend) -> None:
    X, y = blobs()
    generator = np.random.default_rng(3)
    training, held_out = split_rows(classifier(), y, 0.3, generator)
    net, by_hand = classifier(backend), classifier(backend)
    history = net.fit(X, y, epochs=3, validation_split=0.3, seed=3, shuffle=shuffle, threads=1, batch_size=16)
    data = X[held_out], y[held_out]
    other = by_hand.fit(
        X[training],
        y[training],
        epochs=3,
        validation_data=data,
        seed=generator,
        shuffle=shuffle,
        threads=1,
        batch_size=16,
    )
    np.testing.assert_array_equal(net.theta, by_hand.theta)
    assert history["val_loss"] == other["val_loss"]


def test_weights_are_split_too(backend) -> None:
    X, y = blobs()
    w = np.where(y == 0, 0.0, 1.0)
    history = classifier(backend).fit(X, y, sample_weight=w, epochs=1, validation_split=0.3)
    assert np.isfinite(history["val_loss"][0])
    w = np.zeros(90)
    w[5] = 1
    with pytest.raises(ValueError, match="sample_weight: expected a positive sum in both parts of validation_split"):
        classifier(backend).fit(X, y, sample_weight=w, epochs=1, validation_split=0.3)


# Class weights.


def test_class_weight(backend, dtype, rng) -> None:
    X, y = blobs()
    w = rng.random(90)
    for class_weight, per_class in (
        ({0: 2.0, 2: 0.0}, np.array([2.0, 1.0, 0.0])),
        ("balanced", w.sum() / (3 * np.bincount(y, w))),
    ):
        net, by_hand = classifier(backend, dtype), classifier(backend, dtype)
        net.fit(X, y, epochs=2, class_weight=class_weight, sample_weight=w, threads=1)
        by_hand.fit(X, y, epochs=2, sample_weight=per_class[y] * w, threads=1)
        np.testing.assert_allclose(net.theta, by_hand.theta, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_class_weights_are_not_for_validation(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    _, held_out = split_rows(net, y, 0.3, np.random.default_rng(3))
    options = {"class_weight": {0: 5.0}, "validation_split": 0.3, "seed": 3}
    history = net.fit(X, y, epochs=1, **options)
    assert history["val_loss"] == [pytest.approx(net.evaluate(X[held_out], y[held_out])["loss"], rel=1e-12)]


def test_balanced_is_scikit_learns(rng) -> None:
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    y = rng.choice([0, 2], size=50, p=[0.2, 0.8])
    np.testing.assert_allclose(class_weights(classifier(), y, "balanced", None), compute("balanced", y), rtol=1e-14)


def test_class_weight_of_yes_and_no(backend, rng) -> None:
    net = fnn.Sequential([fnn.Dense(1)], input_size=4, loss="binary_cross_entropy", seed=0, backend=backend)
    other = net.copy()
    X, y = rng.normal(size=(20, 4)), rng.random(20) > 0.7
    net.fit(X, y, epochs=1, class_weight={1: 3.0})
    other.fit(X, y, epochs=1, sample_weight=np.where(y, 3.0, 1.0))
    np.testing.assert_array_equal(net.theta, other.theta)
    two = fnn.Sequential([fnn.Dense(2)], input_size=4, loss="binary_cross_entropy", seed=0, backend=backend)
    for wrong, targets in ((two, np.zeros((20, 2))), (regression(backend), np.zeros((20, 2)))):
        with pytest.raises(ValueError, match=r"class_weight needs rows with one class each, got loss .* 2 outputs"):
            wrong.fit(X, targets, class_weight="balanced")


# Callbacks.


def test_a_callback_gets_everything(backend) -> None:
    X, y = blobs()
    net, seen = classifier(backend), []
    history = net.fit(
        X, y, epochs=3, batch_size=40, validation_split=0.2, optimizer=fnn.SGD(0.1), callbacks=[seen.append], seed=1
    )
    assert [result.epoch for result in seen] == [1, 2, 3]
    assert [result.steps for result in seen] == [2, 4, 6]
    assert all(result.net is net and result.history is history for result in seen)
    for name in history.keys():  # noqa: SIM118 (not a dict)
        assert [result[name] for result in seen] == history[name]
    assert "val_loss" in repr(seen[0])
    with pytest.raises(KeyError, match=r"no record 'f1'; there are epoch, loss, .*, val_accuracy"):
        seen[0]["f1"]
    assert not seen[-1].stopped


@pytest.mark.parametrize("optimizer", [fnn.SGD(1e-300), fnn.KFAC(1e-300)], ids=["sgd", "kfac"])
@pytest.mark.parametrize("source", ["arrays", "batches"])
def test_an_epoch_tells_its_penalty(optimizer, source, backend) -> None:
    X, y = blobs()
    net, seen = classifier(backend, dtype="float64"), []
    weights = np.concatenate([W.ravel() for name, W in net.parameters.items() if name.endswith("weight")])
    expected = 0.3 * np.abs(weights).sum() + 0.1 * (weights**2).sum()
    data = (X, y) if source == "arrays" else ([(X[:50], y[:50]), (X[50:], y[50:])],)
    net.fit(*data, optimizer=optimizer, batch_size=50, epochs=2, l1=0.3, l2=0.2, callbacks=[seen.append])
    assert [result.penalty for result in seen] == [pytest.approx(expected, rel=1e-12)] * 2
    plain = [fnn.Trainer(classifier(backend), X, y).epochs(1)]
    assert [result.penalty for results in plain for result in results] == [0.0]


@pytest.mark.parametrize("way", ["stop", "StopIteration"])
def test_a_callback_may_stop(way, backend) -> None:
    X, y = blobs()
    later = []

    def stop(result) -> None:
        if result.epoch == 3:
            if way == "StopIteration":
                raise StopIteration
            result.stop()

    net = classifier(backend)
    history = net.fit(X, y, epochs=10, callbacks=(stop, later.append), threads=1)
    assert len(history) == 3
    assert len(later) == 3
    assert later[-1].stopped
    other = classifier(backend)
    other.fit(X, y, epochs=3, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)


def test_an_exception_leaves_the_network_usable(backend) -> None:
    X, y = blobs()
    net, other = classifier(backend), classifier(backend)

    def fail(result) -> None:
        if result.epoch == 2:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        net.fit(X, y, epochs=5, callbacks=[fail], threads=1)
    assert len(net.history) == 2
    net.fit(X, y, epochs=5, resume=True, threads=1)
    other.fit(X, y, epochs=5, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)
    assert net.history["loss"] == other.history["loss"]


def test_begin_and_end(backend) -> None:
    X, y = blobs()
    calls = []

    class Watcher:
        def begin(self, series):
            calls.append(series)

        def __call__(self, result):
            calls.append(result.epoch)

        def end(self, net):
            calls.append(net)

    net = classifier(backend)
    net.fit(X, y, epochs=2, callbacks=[Watcher()])
    assert calls == [net.history.keys(), 1, 2, net]


def test_a_network_with_a_history_can_be_copied(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.fit(X, y, epochs=2, callbacks=[lambda result: None, fnn.EarlyStopping()])
    for copy in (net.copy(), pickle.loads(pickle.dumps(net))):
        copy.fit(X, y, epochs=4, resume=True, callbacks=[fnn.EarlyStopping()], threads=1)
        assert copy.history["epoch"] == [1, 2, 3, 4]
    assert net.history["epoch"] == [1, 2]
    assert net.history is net.training_state.history


# Early stopping.


class Script:
    """A network's validation results as written down, to steer by."""

    def __init__(self, net, monkeypatch, values, name="loss"):
        results = iter(values)
        monkeypatch.setattr(net, "evaluate_checked", lambda *data: {"loss": 0.0, "accuracy": 0.0, name: next(results)})


@pytest.mark.parametrize("restore_best", [True, False])
@pytest.mark.parametrize("monitor", [None, "val_loss", "val_accuracy"])
def test_early_stopping(monitor, restore_best, backend, monkeypatch) -> None:
    X, y = blobs()
    net, thetas = classifier(backend), []
    values = np.array([5.0, 4.0, 3.95, 3.0, 2.95, np.nan, 3.1, 1.0])
    rising = monitor == "val_accuracy"
    Script(net, monkeypatch, -values if rising else values, "accuracy" if rising else "loss")
    stopping = fnn.EarlyStopping(monitor, patience=3, min_delta=0.1, restore_best=restore_best)
    history = net.fit(
        X, y, epochs=50, validation_data=(X, y), callbacks=[lambda r: thetas.append(r.net.theta.copy()), stopping]
    )
    assert len(history) == 7
    assert (stopping.best_epoch, stopping.stopped_epoch) == (4, 7)
    assert abs(stopping.best) == 3.0
    np.testing.assert_array_equal(net.theta, thetas[3 if restore_best else 6])
    assert repr(stopping).startswith("EarlyStopping(")


def test_early_stopping_by_the_training_loss(backend) -> None:
    X, y = blobs()
    history = classifier(backend).fit(
        X,
        y,
        epochs=50,
        optimizer=fnn.SGD(1e-9),
        shuffle=False,
        callbacks=[fnn.EarlyStopping(min_delta=0.01, patience=2)],
    )
    assert len(history) == 3


def test_the_best_is_restored_without_stopping_and_the_run_goes_on_from_the_last(backend, monkeypatch) -> None:
    X, y = blobs()
    net, whole, thetas = classifier(backend), classifier(backend), []
    with monkeypatch.context() as patch:
        Script(net, patch, [1.0, 0.5, 2.0, 3.0, 4.0, 5.0])
        callbacks = [lambda r: thetas.append(r.net.theta.copy()), fnn.EarlyStopping()]
        net.fit(X, y, epochs=4, validation_data=(X, y), callbacks=callbacks, threads=1)
        np.testing.assert_array_equal(net.theta, thetas[1])
        net.fit(X, y, epochs=6, validation_data=(X, y), callbacks=callbacks, threads=1, resume=True)
    whole.fit(X, y, epochs=6, threads=1)
    np.testing.assert_array_equal(thetas[-1], whole.theta)
    np.testing.assert_array_equal(net.theta, thetas[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"monitor": 3}, TypeError, "monitor must be the name of a series or None, got 3"),
        ({"patience": 0}, ValueError, "patience must be an integer >= 1, got 0"),
        ({"min_delta": -1}, ValueError, "min_delta must be a finite number >= 0, got -1"),
        ({"restore_best": "no"}, TypeError, "restore_best must be True or False, got 'no'"),
    ],
)
def test_early_stopping_refuses(options, error, message) -> None:
    with pytest.raises(error, match=message):
        fnn.EarlyStopping(**options)


# Batches from iterators.


def batches(X, y, size, w=None):
    for start in range(0, len(X), size):
        take = slice(start, start + size)
        yield (X[take], y[take]) if w is None else (X[take], y[take], w[take])


@pytest.mark.parametrize("schedule", [0.1, fnn.RootDecay(0.1, per="step"), fnn.ExponentialDecay(0.1, 0.5)], ids=str)
def test_batches_from_a_function(schedule, backend, dtype, rng) -> None:
    X, y = blobs()
    w = rng.random(90)
    w[20:40] = 0.0
    net, by_hand = classifier(backend, dtype), classifier(backend, dtype)
    optimizer = fnn.SGD(schedule, momentum=0.9)
    history = net.fit(
        lambda: batches(X, y, 20, w), epochs=3, optimizer=optimizer, class_weight={0: 0.5}, l2=0.01, clip_norm=1.0
    )
    other = by_hand.fit(
        X, y, epochs=3, optimizer=optimizer, batch_size=20, shuffle=False, sample_weight=w, class_weight={0: 0.5},
        l2=0.01, clip_norm=1.0,
    )  # fmt: skip
    np.testing.assert_allclose(net.theta, by_hand.theta, rtol=1e-4 if dtype == "float32" else 1e-11)
    for name in ("loss", "accuracy", "learning_rate"):
        assert history[name] == pytest.approx(other[name], rel=1e-5)


@pytest.mark.parametrize("make", [list, tuple])
def test_batches_from_a_sequence_have_parts_of_epochs(make, backend) -> None:
    X, y = blobs()
    net, by_hand = classifier(backend), classifier(backend)
    optimizer = fnn.SGD(fnn.WarmUp(fnn.CosineDecay(0.1, 3), 1))
    net.fit(make(batches(X, y, 20)), epochs=3, optimizer=optimizer, validation_data=(X, y))
    by_hand.fit(X, y, epochs=3, optimizer=optimizer, batch_size=20, shuffle=False)
    np.testing.assert_allclose(net.theta, by_hand.theta, rtol=1e-11)
    assert len(net.history["val_loss"]) == 3


def test_an_iterator_lasts_for_one_epoch(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    with pytest.raises(ValueError, match="an iterator lasts for one epoch, 10 were asked for; give a function"):
        net.fit(batches(X, y, 20))
    assert net.history is None
    assert len(net.fit(batches(X, y, 20), epochs=1)) == 1


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (lambda: iter([]), {}, ValueError, "X: expected at least one batch from the iterator, got none"),
        (lambda: 3, {}, TypeError, "expected a function that returns an iterator of batches, it returned 3"),
        (lambda: [3], {}, TypeError, r"expected batches \(X, y\) or \(X, y, sample_weight\), got .*int.* as batch 1"),
        (lambda: [(1, 2, 3, 4)], {}, TypeError, "got tuple of 4 as batch 1"),
        ([(np.ones((2, 3)), [0, 1])], {}, ValueError, "batch 1: X: expected 4 features"),
        ([(np.ones((2, 4)), [0, 5])], {}, ValueError, "batch 1: y: expected labels in"),
        ([(np.ones((0, 4)), [])], {}, ValueError, "batch 1: X: expected at least one row"),
        ([(np.ones((1, 4)), [0], [-1])], {}, ValueError, "batch 1: sample_weight: expected finite values >= 0"),
        ([], {}, TypeError, "y: expected targets, got None"),
        (np.ones((3, 4)), {}, TypeError, "y: expected targets, got None"),
        ([(np.ones((1, 4)), [0])], {"sample_weight": [1]}, ValueError, "sample_weight: with an iterator, give batches"),
        ([(np.ones((1, 4)), [0])], {"validation_split": 0.5}, ValueError, "validation_split needs arrays"),
        ([(np.ones((1, 4)), [0])], {"class_weight": "balanced"}, ValueError, '"balanced" needs all labels at once'),
    ],
)
def test_bad_batches(source, options, error, message, backend) -> None:
    net = classifier(backend)
    before = net.theta.copy()
    with pytest.raises(error, match=message):
        net.fit(source, **options)
    np.testing.assert_array_equal(net.theta, before)


def test_an_iterator_that_fails(backend) -> None:
    X, y = blobs()
    net, other = classifier(backend), classifier(backend)
    fails = [True]

    def source():
        for number, batch in enumerate(batches(X, y, 20)):
            if number == 2 and len(net.history) == 1 and fails:
                fails.clear()
                raise OSError("disk")
            yield batch

    with pytest.raises(OSError, match="disk"):
        net.fit(source, epochs=3, threads=1)
    assert np.isfinite(net.evaluate(X, y)["loss"])
    net.fit(source, epochs=3, threads=1, resume=True)  # from the end of the first epoch
    other.fit(lambda: batches(X, y, 20), epochs=3, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)


def test_an_iterator_that_diverges(backend) -> None:
    net = regression(backend)
    before = net.theta.copy()
    data = [(np.full((4, 4), 1e15), np.ones((4, 2)))] * 5
    with pytest.raises(fnn.DivergenceError, match="in epoch 1 "):
        net.fit(data, optimizer=fnn.SGD(1e30), epochs=1)
    np.testing.assert_array_equal(net.theta, before)


# Partial fits.


def test_partial_fit_keeps_the_optimizer(backend, dtype) -> None:
    X, y = blobs()
    optimizer = fnn.Adam(fnn.RationalDecay(0.01))
    parts, whole = classifier(backend, dtype), classifier(backend, dtype)
    for start in range(0, 90, 30):
        history = parts.partial_fit(X[start : start + 30], y[start : start + 30], optimizer=optimizer, threads=1)
    assert history is parts.history
    assert history["epoch"] == [1, 2, 3]
    assert parts.training_state.steps == 3
    once = fnn.Adam(0.01)
    parts, whole = classifier(backend, dtype), classifier(backend, dtype)
    for _ in range(3):
        parts.partial_fit(X, y, optimizer=once, batch_size=32, threads=1)
    whole.fit(X, y, optimizer=once, epochs=3, batch_size=32, threads=1)
    np.testing.assert_array_equal(parts.theta, whole.theta)


def test_partial_fit_after_fit(backend) -> None:
    X, y = blobs()
    parts, whole = classifier(backend), classifier(backend)
    parts.fit(X, y, optimizer=fnn.RMSProp(), epochs=2, threads=1)
    parts.partial_fit(X, y, threads=1)
    whole.fit(X, y, optimizer=fnn.RMSProp(), epochs=3, threads=1)
    np.testing.assert_array_equal(parts.theta, whole.theta)
    parts.partial_fit(X, y, optimizer=fnn.RMSProp(0.01), threads=1)  # goes on with its state
    assert parts.training_state.steps == 8
    parts.partial_fit(X, y, optimizer=fnn.SGD(), threads=1)  # starts anew
    assert parts.training_state.steps == 2
    assert parts.history["epoch"] == [1, 2, 3, 4, 5]
    parts.partial_fit(batches(X, y, 45), threads=1)
    assert parts.training_state.steps == 4


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (fnn.SGD(0.1, 0.9), fnn.SGD(0.1, 0.9, bias_correction=True)),
        (fnn.RMSProp(0.01, momentum=0.5), fnn.RMSProp(0.01, centered=True)),
    ],
    ids=["sgd", "rmsprop"],
)
def test_partial_fit_starts_anew_with_moments_of_another_meaning(before, after, backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.partial_fit(X, y, optimizer=before, threads=1)
    other = net.copy()
    other.training_state = None
    for one in (net, other):
        one.partial_fit(X, y, optimizer=after, threads=1, seed=3)
    np.testing.assert_array_equal(net.theta, other.theta)


def test_partial_fit_keeps_the_history(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.fit(X, y, epochs=2, validation_split=0.2)
    history = net.partial_fit(X, y)
    assert history["epoch"] == [1, 2, 3]
    assert np.isnan(history["val_loss"]).tolist() == [False, False, True]
    assert np.isfinite(history["loss"]).all()


def test_a_trainer_that_was_stopped_can_go_on(backend) -> None:
    X, y = blobs()
    trainer = fnn.Trainer(classifier(backend), X, y)
    for result in trainer.epochs(10):
        if result.epoch == 2:
            result.stop()
    assert len(trainer.history) == 2
    assert [result.epoch for result in trainer.epochs(2)] == [3, 4]


def test_partial_fit_refuses(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.fit(X, y, epochs=1)
    before = net.theta.copy()
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        net.partial_fit(X, y, batch_size=0)
    with pytest.raises(ValueError, match="y: expected labels"):
        net.partial_fit(X, y + 7)
    np.testing.assert_array_equal(net.theta, before)
    assert len(net.history) == 1


# What is shown.


def test_plot(backend, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    X, y = blobs()
    history = classifier(backend).fit(X, y, epochs=2, validation_split=0.2)
    axes = history.plot(tmp_path / "curves.png", title="blobs")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert [len(axis.lines) for axis in axes] == [3, 3]  # the best epoch is marked
    with pytest.raises(ValueError, match="nothing to plot"):
        fnn.History().plot()


def test_progress_has_the_validation(backend, monkeypatch, capsys) -> None:
    original = builtins.__import__

    def without_tqdm(name, *args, **kwargs):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    X, y = blobs()
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without_tqdm)
        classifier(backend).fit(X, y, epochs=1, verbose=1, validation_split=0.2)
    line = capsys.readouterr().err
    assert "val_loss " in line
    assert "val_accuracy " in line
    pytest.importorskip("tqdm")
    net = classifier(backend)
    net.fit(X, y, epochs=2, verbose=1, validation_split=0.2)
    net.fit(X, y, epochs=3, verbose=1, validation_split=0.2, resume=True)
    shown = capsys.readouterr().err
    assert "val_loss" in shown
    assert "3/3" in shown
