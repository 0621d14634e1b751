"""Training runs that diverge or are interrupted: the network stays usable and the run can go on."""

from __future__ import annotations

import knobs
import numpy as np
import pytest
from interruption import Alarm, alarm, ctrl_c, needs_alarm
from training_cases import blobs, classifier, linear_network

import fastnn as fnn
from fastnn.training import trainer as trainer_module


@pytest.mark.parametrize("block", [1e9, 0.0])
def test_divergence_keeps_the_last_good_epoch(block, backend, dtype, rng, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "BLOCK_SECONDS", block)
    X, Y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    net, other = linear_network(backend, dtype), linear_network(backend, dtype)
    optimizer = fnn.SGD(1e4)
    with pytest.raises(fnn.DivergenceError, match=r"training diverged: .* \(learning_rate=10000\)") as info:
        net.fit(X, Y, optimizer=optimizer, epochs=500, batch_size=4, threads=1)
    assert isinstance(info.value, ArithmeticError)
    assert "Try a smaller learning_rate" in str(info.value)
    good = len(net.history)
    assert 0 < good < 500
    assert f"in epoch {good + 1} " in str(info.value)
    assert np.isfinite(net.theta).all()
    assert np.isfinite(net.history["loss"]).all()
    # Exactly where the last good epoch ended, however the epochs were blocked.
    other.fit(X, Y, optimizer=optimizer, epochs=good, batch_size=4, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)
    assert net.history["loss"] == other.history["loss"]


def test_divergence_in_the_first_epoch_keeps_the_start(backend, rng) -> None:
    net = linear_network(backend, "float32")
    before = net.theta.copy()
    with pytest.raises(fnn.DivergenceError, match="in epoch 1 "):
        net.fit(rng.normal(size=(50, 3)), rng.normal(size=(50, 2)), optimizer=fnn.SGD(1e30), batch_size=1, epochs=3)
    np.testing.assert_array_equal(net.theta, before)
    assert len(net.history) == 0


def test_a_last_step_to_infinity_is_noticed(backend) -> None:
    # One batch, one epoch: the loss before the step is finite, the parameters after it are not.
    net = linear_network(backend, "float32")
    before = net.theta.copy()
    with pytest.raises(fnn.DivergenceError, match="the parameters stopped being finite in epoch 1"):
        net.fit(np.full((4, 3), 1e15), np.ones((4, 2)), optimizer=fnn.SGD(1e30), epochs=1)
    np.testing.assert_array_equal(net.theta, before)


def test_interruption_leaves_a_usable_network(backend, monkeypatch) -> None:
    X, y = blobs()
    net = classifier(backend)
    original, calls = net.plan.train, []

    class Interrupted:
        def __getattr__(self, name):
            return getattr(plan, name)

        def train(self, *args, **kwargs):
            calls.append(None)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

    plan = net.plan
    net.plan = Interrupted()
    monkeypatch.setattr(trainer_module, "BLOCK_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=10)
    assert net.history["epoch"] == [1, 2]
    net.plan = plan
    assert np.isfinite(net.evaluate(X, y)["loss"])
    assert len(net.fit(X, y, epochs=1)) == 1


def test_ctrl_c_in_the_middle_of_an_epoch(backend) -> None:
    # One epoch of a tiny batch over many rows takes seconds; the interruption comes long before its end.
    X, y = blobs(400_000)
    net = classifier(backend)
    before = net.theta.copy()
    with pytest.raises(KeyboardInterrupt), ctrl_c(0.3):
        net.fit(X, y, epochs=1000, batch_size=1, threads=1)
    assert np.isfinite(net.theta).all()
    assert (net.theta != before).any()
    assert np.isfinite(net.fit(X[:90], y[:90], epochs=1)["loss"][0])


@needs_alarm
@pytest.mark.parametrize("optimizer", [fnn.Adam(1e-3), fnn.NAG(1e-4)], ids=["adam", "nag"])
def test_an_interrupted_trainer_goes_on_from_its_last_finished_epoch(optimizer, backend, monkeypatch) -> None:
    X, y = blobs(300)
    options = {"optimizer": optimizer, "batch_size": 1, "threads": 1}
    monkeypatch.setattr(trainer_module, "BLOCK_SECONDS", 1e9)  # many epochs in one call of the engine
    monkeypatch.setattr(trainer_module, "BLOCK_BYTES", 1e9)

    net, whole = classifier(backend), classifier(backend)
    trainer, results = fnn.Trainer(net, X, y, **options), []
    with alarm(0.25), pytest.raises(Alarm):
        results.extend(trainer.epochs(5000))
    done = len(trainer.history)
    assert 1 <= done < 5000
    assert (trainer.state.epoch, trainer.state.steps) == (done, done * len(X))
    assert trainer.history["epoch"] == list(range(1, done + 1))
    results.extend(trainer.epochs(2))
    assert results[-1].steps == (done + 2) * len(X)
    for _ in fnn.Trainer(whole, X, y, **options).epochs(done + 2):
        pass
    assert net.theta.tobytes() == whole.theta.tobytes()
    assert net.training_state.moments.tobytes() == whole.training_state.moments.tobytes()
    assert net.training_state.history["loss"] == whole.training_state.history["loss"]


@pytest.mark.parametrize("at", [1, 2, 7])
def test_an_exception_while_an_epoch_is_recorded_leaves_none_of_its_call(at, backend, monkeypatch) -> None:
    """As a signal's handler may raise between any two lines."""
    X, y = blobs(60)
    options = {"batch_size": 10, "threads": 1}
    net, whole = classifier(backend), classifier(backend)
    trainer = fnn.Trainer(net, X, y, **options)
    append, calls = fnn.History.append, []

    def interrupted(self, result) -> None:
        calls.append(result.epoch)
        if len(calls) == at:
            raise KeyboardInterrupt
        append(self, result)

    monkeypatch.setattr(fnn.History, "append", interrupted)
    results = []
    with pytest.raises(KeyboardInterrupt):
        results.extend(trainer.epochs(12))
    monkeypatch.undo()
    done = len(trainer.history)
    assert done < 12
    assert (trainer.state.epoch, trainer.state.steps) == (done, done * 6)
    for _ in trainer.epochs(12 - done):
        pass
    for _ in fnn.Trainer(whole, X, y, **options).epochs(12):
        pass
    assert net.theta.tobytes() == whole.theta.tobytes()
    assert trainer.history["loss"] == whole.training_state.history["loss"]
    assert trainer.history["epoch"] == list(range(1, 13))


def test_a_consumer_that_stops_within_a_block_leaves_a_run_to_go_on_with(backend) -> None:
    X, y = blobs(60)
    options = {"batch_size": 10, "threads": 1}
    net, whole = classifier(backend), classifier(backend)
    trainer = fnn.Trainer(net, X, y, **options)
    for result in trainer.epochs(30, block=True):
        if result.epoch == 5:
            break
    done = len(trainer.history)
    assert (trainer.state.epoch, trainer.state.steps) == (done, done * 6)
    for _ in trainer.epochs(40 - done, block=True):
        pass
    for _ in fnn.Trainer(whole, X, y, **options).epochs(40):
        pass
    assert net.theta.tobytes() == whole.theta.tobytes()
    assert trainer.history["loss"] == whole.training_state.history["loss"]


def test_an_interrupted_status_is_an_interruption(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    trainer = fnn.Trainer(net, X, y)
    result = fnn.plan.TrainResult((), (), 0, "interrupted")
    net.plan = type("Plan", (), {"train": lambda *args, **kwargs: result})()
    with pytest.raises(KeyboardInterrupt):
        next(trainer.epochs(1))


SQUARING = [
    fnn.Adam(1e-3),
    fnn.Adam(1e-3, amsgrad=True),
    fnn.AdamW(1e-3),
    fnn.AdaGrad(1e-2),
    fnn.RMSProp(1e-3),
    fnn.RMSProp(1e-3, centered=True),
    fnn.RMSProp(1e-3, momentum=0.9),
]


@pytest.mark.parametrize("optimizer", SQUARING, ids=str)
@pytest.mark.parametrize("way", ["fit", "partial_fit", "batches"])
def test_squares_of_gradients_that_overflow_are_a_divergence(way, optimizer, backend, rng) -> None:
    # A time stamp in milliseconds among the features: gradients of 1e24 are finite, their squares are not.
    X = np.c_[1.7e12 + rng.uniform(0, 1e9, 64), rng.normal(size=(64, 2))]
    net = linear_network(backend, "float32")
    before, Y = net.theta.copy(), rng.normal(size=(64, 2))
    calls = {
        "fit": lambda: net.fit(X, Y, optimizer=optimizer, epochs=3, batch_size=16),
        "partial_fit": lambda: net.partial_fit(X, Y, optimizer=optimizer, batch_size=16),
        "batches": lambda: net.fit([(X, Y)], optimizer=optimizer, epochs=3),
    }
    centered = optimizer.update_rule().centered  # ∞ − ∞ under its root
    what = "loss" if centered and way != "batches" else f"(moments of {type(optimizer).__name__}|parameters)"
    with pytest.raises(fnn.DivergenceError, match=f"the {what} stopped being finite in epoch 1 "):
        calls[way]()
    np.testing.assert_array_equal(net.theta, before)
    # Clipped to a length whose square is finite, the same data train.
    net.fit(X, Y, optimizer=optimizer, epochs=3, batch_size=16, clip_norm=1e6)
    assert (net.theta[:2] != before[:2]).all()


def test_a_penalty_that_overflows_is_a_divergence(backend) -> None:
    net = linear_network(backend, "float64")
    net.theta[:6] = 1e160
    with pytest.raises(fnn.DivergenceError, match="the loss stopped being finite in epoch 1 "):
        net.fit(np.zeros((4, 3)), np.zeros((4, 2)), optimizer=fnn.SGD(1e-3), l2=1.0, epochs=1)


@pytest.mark.filterwarnings("ignore:poor fit")
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_clipped_whose_squared_norm_has_no_float(threads, backend, rng) -> None:
    # The step is that of the same problem in units of 1e60, where the squares are finite.
    X, Y, steps = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), []
    for unit in (1e60, 1e120):
        net = linear_network(backend, "float64")
        before = net.theta.copy()
        with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0):
            net.fit(X * unit, Y * unit, optimizer=fnn.SGD(0.5), clip_norm=0.1, epochs=1, threads=threads, seed=0)
        steps.append(net.theta - before)
    assert np.linalg.norm(steps[1]) == pytest.approx(0.05, rel=1e-12)
    np.testing.assert_allclose(steps[1][:6], steps[0][:6], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_too_long_to_be_clipped_are_a_divergence(dtype, backend) -> None:
    large = {"float32": 1e18, "float64": 1e153}[dtype]
    net = linear_network(backend, dtype)
    X = np.full((4, 3), large)
    with pytest.raises(fnn.DivergenceError):
        net.fit(X, np.ones((4, 2)), optimizer=fnn.SGD(0.1), epochs=2, clip_norm=np.finfo(dtype).tiny * 1e9)
