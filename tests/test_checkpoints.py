"""Trainings that are saved, killed, resumed: bit for bit as if never stopped; and files that are wrong."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from interruption import ctrl_c
from safetensors import safe_open
from safetensors.numpy import save_file

import fastnn as fnn
from fastnn import io

OPTIMIZERS = [
    fnn.SGD(0.05, momentum=0.9, nesterov=True),
    fnn.AdamW(fnn.WarmUp(fnn.CosineDecay(0.01, 8), 6, per="step")),
    fnn.RMSProp(fnn.ReduceOnPlateau(0.02, 0.5, patience=0)),
]


def blobs(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n)
    return rng.normal(size=(n, 4)) + 1.0 * np.eye(3, 4)[y], y


def classifier(backend: str = "compiled", dtype: str = "float64") -> fnn.Sequential:
    layers = [fnn.Dense(8, "tanh", learning_rate_multiplier=0.5), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0, dtype=dtype, backend=backend)


def train(
    net: fnn.Sequential, epochs: int, optimizer=OPTIMIZERS[1], callbacks=(), patience=4, **options
) -> fnn.History:
    X, y = blobs()
    options = {"batch_size": 16, "validation_split": 0.2, "l2": 1e-3, "threads": 1, **options}
    callbacks = [fnn.EarlyStopping(patience=patience), *callbacks]
    return net.fit(X, y, epochs=epochs, optimizer=optimizer, callbacks=callbacks, **options)


def record(history: fnn.History) -> dict[str, list[float]]:
    return {name: values for name, values in history.to_dict().items() if name != "seconds"}


def assert_same(one: fnn.Sequential, other: fnn.Sequential) -> None:
    np.testing.assert_array_equal(one.theta, other.theta)
    np.testing.assert_array_equal(one.training_state.moments, other.training_state.moments)
    assert record(one.history) == record(other.history)
    assert one.generator.bit_generator.state == other.generator.bit_generator.state
    mine, theirs = (repr(net.training_state.generator.bit_generator.state) for net in (one, other))
    assert mine == theirs
    assert one.training_state.plateau == other.training_state.plateau


# Bit for bit.


@pytest.mark.parametrize("seed", [None, 7, "MT19937"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw warm-up cosine", "rmsprop plateau"])
def test_saved_and_resumed(optimizer, seed, backend, dtype, tmp_path) -> None:
    def seeded():
        return np.random.Generator(np.random.MT19937(3)) if seed == "MT19937" else seed

    whole, first = classifier(backend, dtype), classifier(backend, dtype)
    train(whole, 9, optimizer, seed=seeded())
    train(first, 4, optimizer, seed=seeded())
    first.save(tmp_path / "x", training_state=True)
    second = fnn.load(tmp_path / "x", backend=backend)
    np.testing.assert_array_equal(second.theta, first.theta)
    assert record(second.history) == record(first.history)
    train(second, 7, optimizer, seed=seeded(), resume=True)
    second.save(tmp_path / "x", training_state=True)
    third = fnn.load(tmp_path / "x", backend=backend)
    history = train(third, 9, optimizer, seed=seeded(), resume=True)
    assert history is third.history
    assert_same(third, whole)
    train(whole, 2, optimizer)  # and the network's own generator goes on alike
    train(third, 2, optimizer)
    assert_same(third, whole)


def test_resumed_without_a_file(backend) -> None:
    whole, parts = classifier(backend), classifier(backend)
    train(whole, 8)
    for epochs in (2, 3, 8):
        train(parts, epochs, resume=True)
    assert_same(parts, whole)
    before = parts.theta.copy()
    train(parts, 8, resume=True)  # there is nothing left to do
    np.testing.assert_array_equal(parts.theta, before)
    assert len(parts.history) == 8


def test_a_stopped_training_stays_stopped(backend, tmp_path) -> None:
    stop = fnn.SGD(1e-12)
    whole = classifier(backend)
    history = train(
        whole, 50, stop, shuffle=False, callbacks=[fnn.EarlyStopping("accuracy", patience=2, min_delta=0.5)]
    )
    assert len(history) == 3
    whole.save(tmp_path / "x", training_state=True)
    again = fnn.load(tmp_path / "x", backend=backend)
    callbacks = [fnn.EarlyStopping("accuracy", patience=2, min_delta=0.5)]
    assert len(train(again, 50, stop, shuffle=False, callbacks=callbacks, resume=True)) == 3
    assert callbacks[0].stopped_epoch == 3
    np.testing.assert_array_equal(again.theta, whole.theta)


def test_interrupted_in_the_middle_of_an_epoch(backend, monkeypatch, tmp_path) -> None:
    whole, net = classifier(backend), classifier(backend)
    train(whole, 6)
    plan, calls = net.plan, []

    class Interrupted:
        def __getattr__(self, name):
            return getattr(plan, name)

        def train(self, theta, slots, X, y, order, *arguments, **options):
            calls.append(None)
            if len(calls) == 4:  # half an epoch, then Ctrl-C
                plan.train(theta, slots, X, y, order[:, :32].copy(), *arguments,
                           **{**options, "learning_rates": options["learning_rates"][:2].copy()})  # fmt: skip
                raise KeyboardInterrupt
            return plan.train(theta, slots, X, y, order, *arguments, **options)

    net.plan = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train(net, 6)
    net.plan = plan
    assert len(net.history) == 3
    here = net.theta.copy()
    assert (here != net.training_state.theta).any()
    net.save(tmp_path / "x", training_state=True)
    loaded = fnn.load(tmp_path / "x", backend=backend)
    np.testing.assert_array_equal(loaded.theta, here)
    for resumed in (net, loaded):
        train(resumed, 6, resume=True)
        assert_same(resumed, whole)


@pytest.mark.parametrize("validated", [False, True])
def test_a_real_interruption(validated, compiled) -> None:
    X, y = blobs(5_000)
    options = {"optimizer": "adam", "batch_size": 1, "threads": 1, "validation_split": 0.1 if validated else 0.0}
    net, whole = classifier(), classifier()
    with pytest.raises(KeyboardInterrupt), ctrl_c(0.15):
        net.fit(X, y, epochs=10**6, **options)
    done = len(net.history)
    net.fit(X, y, epochs=done + 2, resume=True, **options)
    whole.fit(X, y, epochs=done + 2, **options)
    assert_same(net, whole)


def test_a_file_of_an_earlier_version_goes_on(compiled) -> None:
    """Written when moments were called slots: after three epochs of Adam with a plateau, a split and early stopping."""
    X, y = np.sin(np.arange(120.0)).reshape(30, 4), np.arange(30) % 3
    net = fnn.load(Path(__file__).with_name("golden") / "checkpoint_0.1.safetensors")
    assert net.training_state.moments.shape == (2, 27)
    assert not net.training_state.stopped
    history = net.fit(
        X,
        y,
        epochs=6,
        optimizer=fnn.Adam(fnn.ReduceOnPlateau(0.01, 0.5, patience=1)),
        callbacks=[fnn.EarlyStopping(patience=9)],
        batch_size=8,
        validation_split=0.2,
        l2=1e-3,
        threads=1,
        seed=3,
        resume=True,
    )
    expected = [1.3084476368, 1.2772606426, 1.2549632044, 1.2280022660, 1.2184186745, 1.2087705643]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-9)


def test_a_state_pickled_by_an_earlier_version(compiled) -> None:
    net = classifier()
    train(net, 2)
    old = net.training_state.__getstate__()
    old["slots"], old["stopped"], old["state"] = old.pop("moments"), True, net.state
    del old["stop_flag"], old["buffers"]
    state = fnn.training.TrainingState.__new__(fnn.training.TrainingState)
    state.__setstate__(old)
    np.testing.assert_array_equal(state.moments, net.training_state.moments)
    np.testing.assert_array_equal(state.buffers, net.state)
    assert state.stopped
    assert vars(state).keys() == vars(net.training_state).keys()


@pytest.mark.parametrize("stopped", [True, False])
def test_results_pickled_by_an_earlier_version(stopped, compiled) -> None:
    net, results = classifier(), []
    train(net, 2, callbacks=[results.append])
    net.training_state.stop_flag.raised = stopped
    first, last = results
    old = {**vars(first), "_training": net.training_state}
    del old["stop_flag"], old["penalty"]
    again = fnn.EpochResult.__new__(fnn.EpochResult)
    again.__setstate__(old)
    assert again.stopped is stopped
    assert again["loss"] == first.loss
    assert np.isnan(again.penalty)
    again.stop()
    assert again.stopped
    assert copy.copy(last).stop_flag is last.stop_flag
    assert pickle.loads(pickle.dumps(last)) == last


def test_partial_fits_go_on_after_loading(backend, tmp_path) -> None:
    X, y = blobs()
    nets = [classifier(backend), classifier(backend)]
    for net in nets:
        for _ in range(2):
            net.partial_fit(X, y, optimizer="adam", threads=1)
    nets[1].save(tmp_path / "x", training_state=True)
    nets[1] = fnn.load(tmp_path / "x", backend=backend)
    for net in nets:
        net.partial_fit(X, y, threads=1)
    assert_same(*nets)
    assert nets[1].training_state.steps == 6


def test_without_training_state(tmp_path) -> None:
    net = classifier()
    net.save(tmp_path / "x", training_state=True)  # never trained: its generator alone
    again = fnn.load(tmp_path / "x")
    assert again.history is None
    train(net, 3)
    train(again, 3, resume=True)
    assert_same(net, again)
    net.save(tmp_path / "x")
    assert fnn.load(tmp_path / "x").history is None


def test_states_of_ones_own_callbacks(backend, tmp_path) -> None:
    class Mean:
        def __init__(self):
            self.state = {"mean": None, "losses": [], "worst": -np.inf, "counts": np.zeros(2, np.int64)}

        def __call__(self, result):
            self.state["losses"].append(result.loss)
            self.state["mean"] = result.net.theta / 2
            self.state["counts"][0] += 1

        def get_state(self):
            return self.state

        def set_state(self, state):
            self.state = state

    net, callback = classifier(backend), Mean()
    train(net, 2, callbacks=[callback])
    net.save(tmp_path / "x", training_state=True)
    net, again = fnn.load(tmp_path / "x", backend=backend), Mean()
    train(net, 3, callbacks=[again], resume=True)
    assert again.state["losses"] == net.history["loss"]
    assert again.state["losses"][:2] == callback.state["losses"]
    assert again.state["worst"] == -np.inf
    assert again.state["counts"].tolist() == [3, 0]
    np.testing.assert_array_equal(again.state["mean"], net.training_state.callbacks[1].state["mean"])
    again.state["worst"] = object()
    with pytest.raises(TypeError, match="object is neither what JSON can express nor an array"):
        net.save(tmp_path / "y", training_state=True)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": fnn.SGD(0.1)}, r"resume: expected optimizer=AdamW\(.*, got SGD\("),
        ({"batch_size": 32}, "resume: expected batch_size=16 as in the training to be resumed, got 32"),
        ({"shuffle": False}, "resume: expected shuffle=True"),
        ({"validation_split": 0.0}, r"resume: expected series=\['epoch'.*"),
        ({"callbacks": [fnn.EarlyStopping()]}, "resume: expected the callbacks EarlyStopping as in the training"),
    ],
)
def test_other_arguments_are_refused(options, message, tmp_path) -> None:
    net = classifier()
    train(net, 2)
    net.save(tmp_path / "x", training_state=True)
    net = fnn.load(tmp_path / "x")
    before = net.theta.copy(), net.generator.bit_generator.state
    with pytest.raises(ValueError, match=message):
        train(net, 3, resume=True, **options)
    np.testing.assert_array_equal(net.theta, before[0])
    assert net.generator.bit_generator.state == before[1]
    X, y = blobs(50)
    with pytest.raises(ValueError, match="resume: expected n_rows=90 as in the training to be resumed, got 50"):
        net.fit(X, y, optimizer=OPTIMIZERS[1], batch_size=16, validation_split=0.2, l2=1e-3, resume=True)


# The checkpoint callback.


def test_checkpoints(backend, tmp_path) -> None:
    whole, parts = classifier(backend), classifier(backend)
    train(whole, 7)
    train(parts, 5, callbacks=[fnn.Checkpoint(tmp_path / "at-{epoch:02d}", every=2)])
    assert sorted(os.listdir(tmp_path)) == ["at-02", "at-04", "at-05"]
    for name in os.listdir(tmp_path):
        net = fnn.load(tmp_path / name, backend=backend)
        assert len(net.history) == int(name[-2:])
        train(net, 7, resume=True)
        assert_same(net, whole)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "path must be a str or a path, got 3"),
        (("x-{number}",), ValueError, "path: expected no braces but {epoch}, got 'x-{number}'"),
        (("x", 0), ValueError, "every must be an integer >= 1, got 0"),
    ],
)
def test_checkpoint_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        fnn.Checkpoint(*arguments)


KILLED = """
import sys
sys.path.insert(0, {folder!r})
import test_checkpoints as t
import fastnn as fnn
net = t.classifier()
print("ready", flush=True)
t.train(net, 10**6, t.PATIENT, patience=10**6, callbacks=[fnn.Checkpoint({path!r})])
"""
PATIENT = fnn.AdamW(fnn.CosineDecay(1e-3, 10**5))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_any_moment(tmp_path, rng) -> None:
    path = tmp_path / "run.safetensors"
    code = KILLED.format(folder=str(Path(__file__).parent), path=str(path))
    # One process, imported once, forks what is killed: 20 moments for the price of one import.
    server = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_checkpoints
import fastnn._core.engine, safetensors.numpy
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        exec({code!r}, {{"__name__": "killed"}})
        os._exit(1)
    print(child, flush=True)
    os.waitpid(child, 0)
"""
    process = subprocess.Popen([sys.executable, "-c", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    whole = classifier()
    try:
        for _ in range(20):
            path.unlink(missing_ok=True)
            process.stdin.write("\n")
            process.stdin.flush()
            lines = {process.stdout.readline().strip() for _ in range(2)}
            child = int((lines - {"ready"}).pop())
            deadline = time.monotonic() + 300
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            os.kill(child, signal.SIGKILL)
            net = fnn.load(path)
            done = len(net.history)
            assert done >= 1
            train(net, done + 2, PATIENT, patience=10**6, resume=True)
            assert len(net.history) == done + 2
            if done + 2 > len(whole.history or ()):
                train(whole, done + 2, PATIENT, patience=10**6, resume=True)
            at = len(net.history)
            assert record(net.history) == {name: values[:at] for name, values in record(whole.history).items()}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(300)


def test_killed_between_the_last_epoch_and_the_end_of_training(tmp_path, monkeypatch) -> None:
    """The last epoch is not the best one, which early stopping goes back to at the end."""
    path, whole, killed = tmp_path / "run", classifier(), classifier()
    options = {"optimizer": fnn.SGD(2.0), "epochs": 6}
    train(whole, patience=100, callbacks=[fnn.Checkpoint(tmp_path / "whole")], **options)
    with monkeypatch.context() as patch:
        patch.setattr(fnn.Checkpoint, "end", lambda self, net: None)
        train(killed, patience=100, callbacks=[fnn.Checkpoint(path)], **options)
    assert (fnn.load(path).theta != fnn.load(tmp_path / "whole").theta).any()
    again = fnn.load(path)
    train(again, patience=100, callbacks=[fnn.Checkpoint(path)], resume=True, **options)
    assert_same(fnn.load(path), fnn.load(tmp_path / "whole"))
    assert_same(again, whole)


# Files that are wrong.


def parts(path):
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["fastnn"])  # noqa: SIM118


def rewrite(path, tensors, description, *, sign=True):
    if sign:  # as one who knows the format would
        description["sha256"] = io.checksum(description, tensors)
    save_file(tensors, path, {"fastnn": json.dumps(description)})


@pytest.fixture
def saved(tmp_path):
    net, path = classifier(), tmp_path / "run.safetensors"
    train(net, 3, fnn.Adam(fnn.ReduceOnPlateau(0.01)), seed=1)
    net.save(path, training_state=True)
    return path


def test_rewriting_alone_does_no_harm(saved) -> None:
    rewrite(saved, *parts(saved), sign=False)
    assert len(fnn.load(saved).history) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda t, d: t["0.bias"].__setitem__(2, 0.25),
        lambda t, d: t["training.slots"].__setitem__((0, 2), 0.25),
        lambda t, d: t.update({"0.weight": t["0.weight"][::-1].copy()}),
        lambda t, d: d["network"]["layers"][0].update(activation="sigmoid"),
        lambda t, d: d["network"].update(input_scale=0.5),
        lambda t, d: d["training"].update(steps=5),
        lambda t, d: d["metadata"].update(classes=["b", "a"]),
        lambda t, d: d.update(sha256="0" * 64),
        lambda t, d: d.pop("sha256"),
    ],
)
def test_an_edited_file_is_noticed(saved, change) -> None:
    tensors, description = parts(saved)
    tensors = {name: values.copy() for name, values in tensors.items()}
    change(tensors, description)
    rewrite(saved, tensors, description, sign=False)
    with pytest.raises(ValueError, match="damaged or edited: its checksum does not fit what is in it"):
        fnn.load(saved)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t, d: t.pop("training.slots"), "missing tensor 'training.slots'"),
        (lambda t, d: t.update({"training.slots": t["training.slots"][:1]}), "tensor 'training.slots' is float64"),
        (lambda t, d: t.update({"training.x": t["training.slots"]}), "tensors 'training.x' belong to nothing"),
        (lambda t, d: d.pop("training"), "without a description of it"),
        (lambda t, d: d.update(training=[1]), "expected an object and a generator"),
        (lambda t, d: d.pop("generator"), "expected an object and a generator"),
        (lambda t, d: d["generator"].update(bit_generator="os"), "generator.bit_generator cannot be 'os'"),
        (lambda t, d: d["generator"].pop("state"), "state"),
        (lambda t, d: d["generator"].update(state={"state": -1, "inc": 3}), "damaged state of the training"),
        (lambda t, d: d["training"]["optimizer"].update(type="Dense"), "unknown type 'Dense'"),
        (lambda t, d: d["training"]["optimizer"].update(type="CosineDecay"), "CosineDecay has no option"),
        (lambda t, d: d["training"]["optimizer"].update(beta1=2.0), "beta1 must be"),
        (lambda t, d: d["training"].update(epoch=-1), "training.epoch cannot be -1"),
        (lambda t, d: d["training"].update(steps="many"), "training.steps cannot be 'many'"),
        (lambda t, d: d["training"].update(stopped=0), "training.stopped cannot be 0"),
        (lambda t, d: d["training"].update(elsewhere=True, callbacks=[]), "damaged state of the training"),
        (lambda t, d: d["training"].update(plateau=None), "the memory of .* cannot be None"),
        (lambda t, d: d["training"]["history"]["loss"].pop(), "the history does not fit 3 epochs, or its series"),
        (lambda t, d: d["training"]["history"]["loss"].__setitem__(0, "low"), r"history.loss\[0\] cannot be 'low'"),
        (lambda t, d: d["training"].update(history={}), "training.history.epoch is missing"),
        (lambda t, d: d["training"]["callbacks"][0]["tensors"].append("best"), "training.callbacks.0.best"),
        (lambda t, d: d["training"].update(callbacks=3), "damaged state of the training"),
        (lambda t, d: d["training"].pop("options"), "options"),
        (lambda t, d: d["training"].update(start=[1]), r"training.start cannot be \[1\]"),
    ],
)
def test_a_signed_but_senseless_file(saved, change, what) -> None:
    tensors, description = parts(saved)
    change(tensors, description)
    rewrite(saved, tensors, description)
    with pytest.raises(ValueError, match=what) as caught:
        fnn.load(saved)
    assert str(caught.value).startswith(f"{saved}: ")


def test_random_damage_is_noticed(saved) -> None:
    content, rng = saved.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        position = int(rng.integers(0, len(content)))
        damaged[position] ^= int(rng.integers(1, 256))
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=saved.name):
            fnn.load(saved)
    for size in rng.integers(0, len(content), 20):
        saved.write_bytes(content[:size])
        with pytest.raises(ValueError, match=saved.name):
            fnn.load(saved)


def test_training_state_must_be_a_bool(tmp_path) -> None:
    with pytest.raises(TypeError, match="training_state must be True or False, got 1"):
        classifier().save(tmp_path / "x", training_state=1)


def test_a_generator_of_ones_own_is_refused(tmp_path) -> None:
    class Bits(np.random.PCG64):
        pass

    net = fnn.Sequential([fnn.Dense(1)], input_size=1, loss="squared_error", seed=np.random.Generator(Bits(1)))
    with pytest.raises(TypeError, match="a generator of NumPy's own"):
        net.save(tmp_path / "x", training_state=True)
