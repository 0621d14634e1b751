"""Training runs that diverge or are interrupted: the network stays usable and the run can go on."""

from __future__ import annotations

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
