"""fit(ema=): averages of the parameters against NumPy's, and what sees them: validation, callbacks, files."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
from engine_cases import RULES, TOLERANCE, chain, problem

import fastnn as fnn
from fastnn.backends import find_backend
from fastnn.reference.ops.norm import running_statistics

pytestmark = pytest.mark.every_simd

DECAY = 0.8


def blobs(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return rng.normal(size=(n, 4)) + 2.0 * np.eye(3, 4)[y], y


def make(backend: str = "compiled", dtype: str = "float64", norm: bool = True, dropout: bool = False) -> fnn.Sequential:
    layers = [fnn.Dense(6), *([fnn.BatchNorm()] if norm else []), fnn.Activation("tanh")]
    layers += [fnn.Dropout(0.2)] if dropout else []
    layers += [fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=0, backend=backend)


def weighted_mean(values: list[np.ndarray], decay: float = DECAY) -> np.ndarray:
    """Σ d^{t−s} a_s / Σ d^{t−s}, summed anew."""
    weights = decay ** np.arange(len(values))[::-1]
    return np.average(values, axis=0, weights=weights)


def statistics(net: fnn.Sequential) -> np.ndarray:
    """Running means and variances, without the weight of their start."""
    return np.concatenate(
        [np.concatenate(running_statistics(op, net.state)) for op in net.ops if op.kind == "batch_norm"]
    )


OPTIMIZERS = [fnn.SGD(0.1, 0.9), fnn.Adam(0.02), fnn.SGD(0.1, 0.5, bias_correction=True), fnn.NAG(0.05)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_averages_are_those_of_the_parameters_after_each_update(optimizer, backend, dtype) -> None:
    X, y = blobs()
    options: dict[str, Any] = {"optimizer": optimizer, "shuffle": False, "threads": 1}
    # One batch after the other, by trainings of one epoch of one batch each.
    one = make(backend, dtype)
    thetas, moved = [], []
    for _ in range(3):
        for start in range(0, 90, 30):
            one.partial_fit(X[start : start + 30], y[start : start + 30], batch_size=None, **options)
            thetas.append(one.theta.copy())
            moved.append(statistics(one))
    net = make(backend, dtype)
    history = net.fit(X, y, ema=DECAY, epochs=3, batch_size=30, **options)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-13}
    np.testing.assert_allclose(net.theta, weighted_mean(thetas), **tolerance)
    np.testing.assert_allclose(statistics(net), weighted_mean(moved), **tolerance)
    plain = make(backend, dtype)
    assert plain.fit(X, y, epochs=3, batch_size=30, **options)["loss"] == history["loss"]  # those of θ itself
    assert net.training_state is not None
    np.testing.assert_array_equal(net.training_state.theta, plain.theta)
    np.testing.assert_array_equal(net.training_state.buffers, plain.state)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule)))
def test_the_engine_is_the_reference(rule, clip_norm, dtype, rng) -> None:
    sizes = [6, 11, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 107, rng)
    order = np.stack([rng.permutation(107) for _ in range(3)])
    results = []
    for name, threads in (("reference", 1), ("compiled", 1), ("compiled", 3)):
        plan = find_backend(name).Plan(ops, n_parameters, "cross_entropy", dtype)
        trained, mean, moments = theta.copy(), np.zeros_like(theta), np.zeros((rule.n_moments, n_parameters), dtype)
        options: dict[str, Any] = {"sample_weight": w, "l2": 0.02, "clip_norm": clip_norm, "threads": threads}
        plan.train(trained, moments, X, y, order, 16, rule, 0, average=(0.9, mean, np.zeros(0, dtype)), **options)
        results.append((trained, mean))
    (expected, expected_mean), *compiled = results
    assert abs(expected_mean - expected).max() > 1e-4
    for trained, mean in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_parameters_have_the_bits_of_a_training_without(threads, deterministic, dtype) -> None:
    X, y = blobs(500)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 64, "threads": threads, "deterministic": deterministic}
    net, plain = make(dtype=dtype, dropout=True), make(dtype=dtype, dropout=True)
    net.fit(X, y, ema=0.95, **options)
    plain.fit(X, y, **options)
    np.testing.assert_array_equal(net.training_state.theta, plain.theta)
    other = make(dtype=dtype, dropout=True)
    other.fit(X, y, ema=0.95, **{**options, "threads": 1 if deterministic else threads})
    np.testing.assert_array_equal(net.theta, other.theta)
    np.testing.assert_array_equal(net.state, other.state)


@pytest.mark.parametrize("optimizer", [fnn.KFAC(update_every=2), fnn.StochasticLBFGS(0.1)], ids=["kfac", "lbfgs"])
def test_optimizers_with_a_curvature_of_their_own(optimizer) -> None:
    X, y = blobs()
    options: dict[str, Any] = {"optimizer": optimizer, "threads": 1, "seed": 0}
    nets = [make(name, norm=False) for name in ("compiled", "reference")]
    for net in nets:
        net.fit(X, y, ema=DECAY, epochs=3, batch_size=30, **options)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=0, atol=1e-9)
    assert not np.array_equal(nets[0].theta, nets[0].training_state.theta)
    layers = [fnn.Dense(6, "tanh", learning_rate_multiplier=0.0), fnn.Dense(3)]
    frozen = fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    before = frozen.parameters["0.weight"].copy()
    frozen.fit(X, y, ema=DECAY, epochs=3, batch_size=30, **options)
    np.testing.assert_allclose(frozen.parameters["0.weight"], before, rtol=1e-14)


def test_batches_of_an_iterator() -> None:
    X, y = blobs()
    batches = [(X[start : start + 30], y[start : start + 30]) for start in range(0, 90, 30)]
    streamed, whole = make(), make()
    streamed.fit(batches, ema=DECAY, epochs=2, threads=1)
    whole.fit(X, y, ema=DECAY, epochs=2, batch_size=30, shuffle=False, threads=1)
    np.testing.assert_array_equal(streamed.theta, whole.theta)
    np.testing.assert_array_equal(streamed.state, whole.state)


def test_validation_callbacks_and_early_stopping_see_the_averages(backend) -> None:
    X, y = blobs()
    seen = []

    def watch(result: fnn.EpochResult) -> None:
        seen.append((net.theta.copy(), net.evaluate(X[:20], y[:20])["loss"], result["val_loss"]))

    net = make(backend)
    stop = fnn.EarlyStopping(patience=100)
    net.fit(
        X[20:], y[20:], validation_data=(X[:20], y[:20]), ema=DECAY, epochs=8, optimizer=fnn.SGD(1.5), batch_size=10,
        callbacks=[watch, stop], threads=1,
    )  # fmt: skip
    assert [found for _, found, _ in seen] == pytest.approx([given for *_, given in seen], rel=1e-12)
    assert net.theta.tobytes() == seen[stop.best_epoch - 1][0].tobytes()
    assert stop.best_epoch == 1 + int(np.argmin([given for *_, given in seen]))


@pytest.mark.parametrize("optimizer", [fnn.Adam(0.02), fnn.KFAC()], ids=["adam", "kfac"])
def test_resumed_trainings_have_the_same_bits(optimizer, backend, tmp_path) -> None:
    X, y = blobs()
    norm = not isinstance(optimizer, fnn.KFAC)
    options: dict[str, Any] = {"optimizer": optimizer, "ema": 0.9, "batch_size": 16, "seed": 3, "threads": 1}
    whole, half, path = make(backend, norm=norm), make(backend, norm=norm), tmp_path / "net.safetensors"
    whole.fit(X, y, epochs=5, **options)
    half.fit(X, y, epochs=2, **options)
    half.save(path, training_state=True)
    for net in (fnn.load(path, backend=backend), half.copy()):
        np.testing.assert_array_equal(net.theta, half.theta)  # the averages
        net.fit(X, y, epochs=5, resume=True, **options)
        np.testing.assert_array_equal(net.theta, whole.theta)
        np.testing.assert_array_equal(net.state, whole.state)
        assert net.history["loss"] == whole.history["loss"]
    checkpoint = fnn.Checkpoint(str(tmp_path / "{epoch}.safetensors"))
    again = make(backend, norm=norm)
    again.fit(X, y, epochs=5, callbacks=[checkpoint], **options)
    np.testing.assert_array_equal(again.theta, whole.theta)
    np.testing.assert_array_equal(fnn.load(tmp_path / "2.safetensors").theta, half.theta)
    with pytest.raises(ValueError, match=r"resume: expected ema=0\.9 as in the training to be resumed, got None"):
        half.fit(X, y, epochs=5, resume=True, **{**options, "ema": None})


def test_blocks_of_epochs_change_nothing() -> None:
    X, y = blobs()
    options: dict[str, Any] = {"ema": DECAY, "batch_size": 30, "threads": 1}
    blocked, single = make(), make()
    blocked.fit(X, y, epochs=12, **options)
    single.fit(X, y, epochs=12, callbacks=[lambda result: None], **options)
    np.testing.assert_array_equal(blocked.theta, single.theta)
    trainer = fnn.Trainer(make(), X, y, **options)
    for _ in range(2):  # a run in two parts
        for _ in trainer.epochs(6):
            pass
    np.testing.assert_array_equal(trainer.net.theta, blocked.theta)


def test_a_divergence_leaves_the_averages_of_the_last_good_epoch(backend) -> None:
    X, y = blobs()
    net, good = make(backend), make(backend)

    def explode(result: fnn.EpochResult) -> None:
        net.training_state.theta[0] = np.inf  # what the next epoch begins with

    with pytest.raises(fnn.DivergenceError):
        net.fit(X, y, ema=DECAY, epochs=5, batch_size=30, threads=1, callbacks=[explode])
    good.fit(X, y, ema=DECAY, epochs=1, batch_size=30, threads=1)
    np.testing.assert_array_equal(net.theta, good.theta)
    np.testing.assert_array_equal(net.state, good.state)


def test_an_exception_of_a_callback_leaves_what_can_be_resumed() -> None:
    X, y = blobs()
    options: dict[str, Any] = {"ema": DECAY, "batch_size": 30, "threads": 1, "seed": 2}

    def fail(result: fnn.EpochResult) -> None:
        if result.epoch == 2 and not whole.history:
            raise RuntimeError("no more")

    whole, net = make(), make()
    with pytest.raises(RuntimeError, match="no more"):
        net.fit(X, y, epochs=4, callbacks=[fail], **options)
    whole.fit(X, y, epochs=4, callbacks=[lambda result: None], **options)
    net.fit(X, y, epochs=4, resume=True, callbacks=[lambda result: None], **options)
    np.testing.assert_array_equal(net.theta, whole.theta)


def test_an_interruption_in_the_data_can_be_resumed() -> None:
    X, y = blobs()
    batches = [(X[start : start + 30], y[start : start + 30]) for start in range(0, 90, 30)]
    armed = [True]

    def source():
        for number, batch in enumerate(batches):
            if number == 2 and armed and net.training_state.epoch == 1:
                armed.clear()
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    net, whole = make(), make()
    with pytest.raises(KeyboardInterrupt):
        net.fit(source, ema=DECAY, epochs=3, threads=1)
    after = net.theta.copy()
    whole.fit(lambda: iter(batches), ema=DECAY, epochs=3, threads=1)
    net.fit(source, ema=DECAY, epochs=3, threads=1, resume=True)
    np.testing.assert_array_equal(net.theta, whole.theta)
    five = make()  # updates, those that were finished
    five.fit([*batches, *batches[:2]], ema=DECAY, epochs=1, threads=1)
    np.testing.assert_allclose(after, five.theta, rtol=0, atol=1e-14)


def test_partial_fit_goes_on_from_the_averages() -> None:
    X, y = blobs()
    net = make(norm=False)
    net.fit(X, y, ema=DECAY, epochs=2, optimizer=fnn.SGD(0.1), threads=1)
    other = make(norm=False)
    other.theta[...] = net.theta
    for one in (net, other):
        one.partial_fit(X, y, optimizer=fnn.SGD(0.1), shuffle=False, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)


def test_a_member_of_a_sweep_has_the_bits_of_the_lone_training() -> None:
    X, y = blobs()
    common: dict[str, Any] = {"epochs": 4, "batch_size": 16, "seed": 1}
    result = fnn.sweep(lambda: make(), {"ema": [None, 0.5, 0.9]}, X, y, validation_split=0.25, refit=False, **common)
    train, held = result.folds[0].train, result.folds[0].validation
    for index, ema in enumerate((None, 0.5, 0.9)):
        net = make()
        net.fit(X[train], y[train], ema=ema, validation_data=(X[held], y[held]), threads=1, **common)
        np.testing.assert_array_equal(result.network(index).theta, net.theta)
        assert result.scores[index, 0] == net.evaluate(X[held], y[held])["accuracy"]


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, np.nan])
def test_decays_that_are_none(value) -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match="ema must be a finite number > 0 and < 1"):
        make().fit(X, y, ema=value)


def test_what_is_refused() -> None:
    X, y = blobs()
    with pytest.raises(TypeError, match="ema must be"):
        make().fit(X, y, ema="0.9")
    with pytest.raises(ValueError, match=r"ema: LBFGS has no noise of mini-batches to average, got 0\.9; use None"):
        make(norm=False).fit(X, y, ema=0.9, optimizer=fnn.LBFGS())
    with pytest.raises(TypeError, match=r"did you mean .*ema"):
        make().fit(X, y, use_ema=0.9)
