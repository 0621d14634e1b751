"""fit(record_norms=True): by hand, both backends, any number of threads; the training itself does not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from curvature_cases import BACKENDS

import fastnn as fnn
from fastnn import plotting

OPTIMIZERS = {
    "sgd": fnn.SGD(0.1),
    "nesterov": fnn.SGD(0.05, 0.9, nesterov=True),
    "adamw": fnn.AdamW(0.01),
    "kfac": fnn.KFAC(0.05),
    "schedule": fnn.RMSProp(fnn.ExponentialDecay(0.01, 0.9)),
}


def network(backend="compiled", dtype="float64", norm=fnn.LayerNorm, width=12):
    layers = [fnn.Dense(width, "tanh"), norm(), fnn.Dense(5, "relu", bias=False), fnn.Dropout(0.1), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=0, backend=backend)


def norms(history):
    return {name: history[name] for name in history.keys() if "/" in name}  # noqa: SIM118


def expected_names(net):
    return [f"{kind}/{name}" for name in net.parameters for kind in ("gradient_norm", "update_ratio")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_by_hand(backend, dtype, clip):
    X, y = fnn.datasets.load_iris()
    X, rate, l2 = X.astype(dtype), 0.1, 0.3
    layers = [fnn.Dense(6, "tanh"), fnn.LayerNorm(), fnn.Dense(3)]
    nets = [
        fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=0, backend=backend)
        for _ in range(2)
    ]
    history = nets[0].fit(
        X, y, optimizer=fnn.SGD(rate), epochs=2, batch_size=40, shuffle=False, l2=l2, clip_norm=clip, record_norms=True
    )
    assert list(norms(history)) == expected_names(nets[0])
    net = nets[1]
    for epoch in range(2):
        squares = {name: np.zeros(3) for name in net.parameters}
        for start in range(0, 150, 40):
            rows = slice(start, start + 40)
            found = net.gradients(X[rows], y[rows], l2=l2)
            whole = np.linalg.norm(net.gradient(X[rows], y[rows], l2=l2).astype(float))
            factor = 1.0 if clip is None else min(1.0, clip / whole)
            for name, values in net.parameters.items():
                before = values.copy()
                values -= net.dtype.type(rate * factor) * found[name]
                for k, array in enumerate((found[name], values.astype(float) - before, before)):
                    squares[name][k] += (array.astype(float) ** 2).sum() / 4
        tolerance = {"rtol": 1e-9 if dtype == "float64" else 1e-3}
        for name, (gradient, step, parameters) in squares.items():
            np.testing.assert_allclose(history[f"gradient_norm/{name}"][epoch], math.sqrt(gradient), **tolerance)
            np.testing.assert_allclose(
                history[f"update_ratio/{name}"][epoch], math.sqrt(step / parameters), **tolerance
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_backends_and_the_same_training(optimizer, dtype):
    X, y = fnn.datasets.load_iris()
    w = np.random.default_rng(0).random(150)
    w[:10] = 0.0
    options = {"epochs": 3, "batch_size": 10, "l2": 0.01, "l1": 0.0 if optimizer == "kfac" else 0.001}
    found = {}
    for backend in BACKENDS:
        for recorded in (False, True):
            net = network(backend, dtype)
            history = net.fit(
                X.astype(dtype),
                y,
                optimizer=OPTIMIZERS[optimizer],
                sample_weight=w,
                shuffle=False,  # the first batch is skipped
                clip_norm=0.5,
                seed=1,
                threads=1,
                record_norms=recorded,
                **options,
            )
            found[backend, recorded] = net.theta.copy(), history
        np.testing.assert_array_equal(found[backend, True][0], found[backend, False][0])
        assert norms(found[backend, False][1]) == {}
    for name, values in norms(found["reference", True][1]).items():
        tolerance = {"rtol": 1e-7} if dtype == "float64" else {"rtol": 5e-3, "atol": 1e-6}
        np.testing.assert_allclose(found["compiled", True][1][name], values, err_msg=name, **tolerance)


@pytest.mark.parametrize("norm", [fnn.LayerNorm, fnn.BatchNorm])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_threads(norm, clip):
    X, y = fnn.datasets.load_digits()
    X, y = X[:1001], y[:1001]
    found = []
    for threads in (1, 2, 3):
        net = fnn.Sequential(
            [fnn.Dense(40), norm(), fnn.Activation("relu"), fnn.Dense(10)], input_size=64, loss="cross_entropy", seed=0
        )
        history = net.fit(
            X, y, epochs=2, batch_size=250 if norm is fnn.LayerNorm else 334, seed=0, threads=threads, clip_norm=clip,
            deterministic=True, record_norms=True,
        )  # fmt: skip
        found.append((net.theta.copy(), norms(history)))
    for theta, recorded in found[1:]:
        np.testing.assert_array_equal(theta, found[0][0])
        assert recorded == found[0][1]


def test_last_batch_of_one_row_in_shards():
    X, y = fnn.datasets.load_digits()
    X, y = X[:101].astype("float64"), y[:101]  # four shards, of which three have no row
    found = {}
    for backend in BACKENDS:
        net = fnn.Sequential(
            [fnn.Dense(20, "tanh"), fnn.Dense(10)], input_size=64, loss="cross_entropy", dtype="float64", seed=0,
            backend=backend,
        )  # fmt: skip
        history = net.fit(
            X, y, optimizer=fnn.SGD(0.01), epochs=2, batch_size=100, seed=0, threads=2, deterministic=True,
            record_norms=True,
        )  # fmt: skip
        found[backend] = norms(history)
    for name, values in found["reference"].items():
        np.testing.assert_allclose(found["compiled"][name], values, rtol=1e-9, err_msg=name)


def test_batches_from_a_function_count_alike():
    X, y = fnn.datasets.load_iris()
    recorded = []
    for streamed in (False, True):
        net = network(norm=fnn.LayerNorm)
        data = (lambda: ((X[at : at + 40], y[at : at + 40]) for at in range(0, 150, 40)),) if streamed else (X, y)
        options = {} if streamed else {"batch_size": 40, "shuffle": False}
        history = net.fit(*data, optimizer=fnn.SGD(0.1), epochs=2, seed=3, threads=1, record_norms=True, **options)
        recorded.append(norms(history))
    for name, values in recorded[0].items():
        np.testing.assert_allclose(recorded[1][name], values, rtol=1e-10)


def test_resumed_and_saved(tmp_path):
    X, y = fnn.datasets.load_iris()
    options = {"optimizer": fnn.Adam(0.01), "threads": 1, "record_norms": True}
    whole, parts = network(), network()
    expected = whole.fit(X, y, epochs=5, **options)
    parts.fit(X, y, epochs=2, **options)
    parts.save(tmp_path / "net.safetensors", training_state=True)
    loaded = fnn.load(tmp_path / "net.safetensors")
    history = loaded.fit(X, y, epochs=5, resume=True, **options)
    assert norms(history) == norms(expected)
    np.testing.assert_array_equal(loaded.theta, whole.theta)
    with pytest.raises(ValueError, match="resume: expected series="):
        loaded.fit(X, y, epochs=6, resume=True, optimizer=fnn.Adam(0.01), threads=1)


def test_frozen_layers_and_zeros():
    X, y = fnn.datasets.load_iris()
    layers = [fnn.Dense(4, "tanh", learning_rate_multiplier=0.0), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0)
    history = net.fit(X, y, optimizer=fnn.SGD(0.1), epochs=2, record_norms=True)
    assert history["update_ratio/0.weight"] == [0.0, 0.0]
    assert history["update_ratio/0.bias"] == [0.0, 0.0]  # 0 of 0
    assert min(history["gradient_norm/0.weight"]) > 0.0
    one = net.copy()
    one.parameters["1.bias"][...] = 0.0
    history = one.fit(X, y, optimizer=fnn.SGD(0.1), epochs=1, batch_size=None, record_norms=True)
    assert history["update_ratio/1.bias"] == [math.inf]  # from 0


def test_seen_in_results_history_and_figure(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = fnn.datasets.load_iris()
    net, seen = network(), []
    history = net.fit(X, y, epochs=3, record_norms=True, callbacks=[lambda r: seen.append(r["gradient_norm/0.bias"])])
    assert seen == history["gradient_norm/0.bias"]
    assert "/" not in repr(history).replace("1/", "")
    assert history.unit == "epoch"
    assert len(history.plot(tmp_path / "a.png")) == 2  # loss and accuracy: norms have a figure of their own
    axes = history.plot_norms(tmp_path / "b.png", title="norms")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    for axis, kind in zip(axes, ("gradient_norm", "update_ratio"), strict=True):
        assert axis.get_yscale() == "log"
        assert len(axis.lines) == len(net.parameters)
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), history[f"{kind}/0.weight"])
    with pytest.raises(ValueError, match="train with record_norms=True"):
        plotting.plot_norms({"loss": [1.0]})


def test_refused():
    X, y = fnn.datasets.load_iris()
    net = network()
    with pytest.raises(TypeError, match="record_norms must be True or False"):
        net.fit(X, y, record_norms=1)
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match="record_norms: LBFGS has no mini-batches"):
        net.fit(X, y, optimizer=fnn.LBFGS(), record_norms=True)
    assert net.history is None
