"""Training runs: trajectories against loops written out by hand, epochs, history, refusals."""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import math

import knobs
import numpy as np
import pytest
from training_cases import blobs, classifier, linear_network

import fastnn as fnn
from fastnn.training import trainer as trainer_module
from fastnn.training.options import TrainingOptions

RTOL = {"float32": 2e-5, "float64": 1e-12}


def by_hand(net, X, Y, rows_of_epochs, batch, step, *, w=None, l1=0.0, l2=0.0, clip_norm=None, clip_value=None):
    """Train a linear layer with squared error in float64; returns theta and the losses of the epochs."""
    D, K = X.shape[1], Y.shape[1]
    theta = net.theta.astype(np.float64)
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    w = np.ones(len(X)) if w is None else w.astype(np.float64)
    is_weight = np.arange(theta.size) < D * K
    update, losses = step(theta, is_weight), []
    for rows in rows_of_epochs:
        total = weight = 0.0
        for start in range(0, len(rows), batch):
            take = rows[start : start + batch]
            if w[take].sum() == 0:
                continue
            W, b = theta[: D * K].reshape(D, K), theta[D * K :]
            error = X[take] @ W + b - Y[take]
            v = w[take] / w[take].sum()
            objective = 0.5 * (v[:, None] * error**2).sum() + 0.5 * l2 * (W**2).sum() + l1 * np.abs(W).sum()
            gW = X[take].T @ (v[:, None] * error) + l2 * W
            g = np.concatenate([gW.ravel(), (v[:, None] * error).sum(axis=0)])
            factor = 1.0 if clip_norm is None else min(1.0, clip_norm / np.linalg.norm(g))
            g = g * factor
            if clip_value is not None:
                g = np.clip(g, -clip_value, clip_value)
            update(g, factor * l1 * is_weight)
            total += w[take].sum() * objective
            weight += w[take].sum()
        losses.append(total / weight)
    return theta, losses


def soft(x, limit):
    return np.sign(x) * np.maximum(np.abs(x) - limit, 0.0)


def plain(lr):
    def make(theta, is_weight):
        def update(g, l1):
            theta[:] = soft(theta - lr * g, lr * l1)

        return update

    return make


def heavy_ball(lr, mu, nesterov=False):
    def make(theta, is_weight):
        x = theta.copy()

        def update(g, l1):
            before = x.copy()
            x[:] = soft(theta - lr * g + (0.0 if nesterov else momentum[:]), lr * l1)
            momentum[:] = mu * (x - before)
            theta[:] = x + momentum if nesterov else x

        momentum = np.zeros_like(theta)

        return update

    return make


def adagrad(lr, eps):
    def make(theta, is_weight):
        s = np.zeros_like(theta)

        def update(g, l1):
            s[:] = s + g**2
            rate = lr / (np.sqrt(s) + eps)
            theta[:] = soft(theta - rate * g, rate * l1)

        return update

    return make


def rmsprop(lr, rho, eps):
    def make(theta, is_weight):
        s = np.zeros_like(theta)

        def update(g, l1):
            s[:] = rho * s + (1 - rho) * g**2
            rate = lr / (np.sqrt(s) + eps)
            theta[:] = soft(theta - rate * g, rate * l1)

        return update

    return make


def adam(lr, b1, b2, eps, decay=0.0):
    def make(theta, is_weight):
        m, v, t = np.zeros_like(theta), np.zeros_like(theta), [0]

        def update(g, l1):
            t[0] += 1
            m[:] = b1 * m + (1 - b1) * g
            v[:] = b2 * v + (1 - b2) * g**2
            theta[is_weight] *= 1 - lr * decay
            rate = lr / (np.sqrt(v / (1 - b2 ** t[0])) + eps)
            theta[:] = soft(theta - rate * (m / (1 - b1 ** t[0])), rate * l1)

        return update

    return make


CASES = [
    (fnn.SGD(0.05), plain(0.05)),
    (fnn.SGD(0.05, momentum=0.9), heavy_ball(0.05, 0.9)),
    (fnn.SGD(0.05, momentum=0.9, nesterov=True), heavy_ball(0.05, 0.9, True)),
    (fnn.AdaGrad(0.05), adagrad(0.05, 1e-10)),
    (fnn.RMSProp(0.05, rho=0.9), rmsprop(0.05, 0.9, 1e-8)),
    (fnn.Adam(0.05), adam(0.05, 0.9, 0.999, 1e-8)),
    (fnn.AdamW(0.05, weight_decay=0.2), adam(0.05, 0.9, 0.999, 1e-8, 0.2)),
]
OPTIONS = [
    {},
    {"l2": 0.3},
    {"l1": 0.1, "l2": 0.2},
    {"clip_norm": 0.5},
    {"clip_value": 0.2},
    {"clip_norm": 0.5, "clip_value": 0.2, "l1": 0.1, "l2": 0.2, "w": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("optimizer", "step"), CASES, ids=[str(case[0]) for case in CASES])
def test_trajectory(optimizer, step, options, backend, dtype, rng) -> None:
    X, Y = rng.normal(size=(13, 3)).astype(dtype), rng.normal(size=(13, 2)).astype(dtype)
    options = dict(options)
    w = rng.random(13).astype(dtype) if options.pop("w", False) else None
    net = linear_network(backend, dtype)
    order = np.random.default_rng(5)
    rows = [order.permutation(13) for _ in range(4)]
    theta, losses = by_hand(net, X, Y, rows, 5, step, w=w, **options)
    history = net.fit(X, Y, optimizer=optimizer, epochs=4, batch_size=5, sample_weight=w, seed=5, threads=1, **options)
    np.testing.assert_allclose(net.theta, theta, rtol=RTOL[dtype], atol=RTOL[dtype])
    np.testing.assert_allclose(history["loss"], losses, rtol=RTOL[dtype])


def test_rows_in_order_without_shuffling(backend, rng) -> None:
    X, Y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    net = linear_network(backend)
    theta, losses = by_hand(net, X, Y, [np.arange(7)] * 3, 3, plain(0.1))
    history = net.fit(X, Y, optimizer=fnn.SGD(0.1), epochs=3, batch_size=3, shuffle=False)
    np.testing.assert_allclose(net.theta, theta, rtol=1e-12)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 7, 8, 1000])
def test_full_batch(batch_size, backend, rng) -> None:
    X, Y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    net = linear_network(backend)
    theta, _ = by_hand(net, X, Y, [np.arange(7)] * 3, 7, plain(0.1))
    net.fit(X, Y, optimizer=fnn.SGD(0.1), epochs=3, batch_size=batch_size, shuffle=False)
    np.testing.assert_allclose(net.theta, theta, rtol=1e-12)


def test_the_first_step_is_the_gradient(backend) -> None:
    X, y = blobs(20)
    net = classifier(backend, dtype="float64")
    before, gradient = net.theta.copy(), net.gradient(X, y, l1=0.01, l2=0.1)
    net.fit(X, y, optimizer=fnn.SGD(0.5), epochs=1, batch_size=None, l1=0.01, l2=0.1, shuffle=False)
    expected = before - 0.5 * gradient
    across = before * expected < 0.0  # the kink of l1
    assert across.sum() < 8
    np.testing.assert_allclose(net.theta[~across], expected[~across], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(net.theta[across], expected[across], rtol=0, atol=0.0101)


def test_batches_without_weight_are_skipped(backend, rng) -> None:
    X, Y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    w = np.array([1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 1.0])
    net = linear_network(backend)
    theta, losses = by_hand(net, X, Y, [np.arange(9)] * 2, 3, adam(0.1, 0.9, 0.999, 1e-8), w=w, l2=0.1)
    trainer = fnn.Trainer(net, X, Y, optimizer=fnn.Adam(0.1), batch_size=3, shuffle=False, sample_weight=w, l2=0.1)
    results = list(trainer.epochs(2))
    assert trainer.steps == 4
    np.testing.assert_allclose(net.theta, theta, rtol=1e-11)
    np.testing.assert_allclose([result.loss for result in results], losses, rtol=1e-12)


def test_a_weight_is_a_repetition(backend) -> None:
    X, y = blobs(30)
    w = np.arange(30) % 3
    nets = [classifier(backend, dtype="float64"), classifier(backend, dtype="float64")]
    nets[0].fit(X, y, epochs=5, batch_size=None, sample_weight=w, shuffle=False, l2=0.01)
    nets[1].fit(np.repeat(X, w, axis=0), np.repeat(y, w), epochs=5, batch_size=None, shuffle=False, l2=0.01)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-9, atol=1e-12)
    assert nets[0].history["accuracy"] == pytest.approx(nets[1].history["accuracy"], rel=1e-12)


def test_accuracy_is_measured_on_the_way(backend) -> None:
    X, y = blobs(40)
    net = classifier(backend)
    expected = float((net.predict(X) == y).mean())
    history = net.fit(X, y, epochs=2, batch_size=None, shuffle=False)
    assert history["accuracy"][0] == pytest.approx(expected, rel=1e-12)
    net = classifier(backend)
    w = np.linspace(0, 1, 40)
    history = net.fit(X, np.eye(3)[y], epochs=1, batch_size=None, sample_weight=w)
    expected = float(w[classifier(backend).predict(X) == y].sum() / w.sum())
    assert history["accuracy"][0] == pytest.approx(expected, rel=1e-5)


def test_accuracy_of_binary_outputs(backend, rng) -> None:
    X, Y = rng.normal(size=(30, 4)), rng.integers(0, 2, size=(30, 2))
    net = fnn.Sequential([fnn.Dense(2)], input_size=4, loss="binary_cross_entropy", seed=0, backend=backend)
    expected = float((net.predict(X) == Y).all(axis=1).mean())
    history = net.fit(X, Y, epochs=1, batch_size=None)
    assert history["accuracy"] == [pytest.approx(expected, rel=1e-12)]


def test_it_learns(backend, dtype) -> None:
    X, y = blobs(300)
    net = classifier(backend, dtype=dtype)
    history = net.fit(X, y, optimizer=fnn.Adam(0.01), epochs=30, batch_size=16)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert net.evaluate(X, y)["accuracy"] > 0.85


# Seeds and blocks.


def test_one_seed_one_result(backend) -> None:
    X, y = blobs()
    nets = [classifier(backend) for _ in range(3)]
    for net, seed in zip(nets, (None, None, 3), strict=True):
        net.fit(X, y, epochs=3, batch_size=8, seed=seed, threads=1)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert (nets[0].theta != nets[2].theta).any()


def test_the_generator_of_the_network_goes_on(backend) -> None:
    X, y = blobs()
    nets = [classifier(backend) for _ in range(2)]
    # The optimizer starts anew at every fit: plain SGD has no state, so two fits are one.
    for _ in range(2):
        nets[0].fit(X, y, optimizer=fnn.SGD(0.1), epochs=2, batch_size=8)
    nets[1].fit(X, y, optimizer=fnn.SGD(0.1), epochs=4, batch_size=8)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


@pytest.mark.parametrize("shuffle", [True, False])
def test_blocks_change_nothing(shuffle, backend, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "BLOCK_SECONDS", 1e9)
    X, y = blobs()
    nets = [classifier(backend) for _ in range(2)]
    results = []
    for net, block in zip(nets, (False, True), strict=True):
        trainer = fnn.Trainer(net, X, y, batch_size=8, shuffle=shuffle, threads=1)
        results.append([(r.epoch, r.loss, r.accuracy) for r in trainer.epochs(9, block=block)])
        results[-1] += [(r.epoch, r.loss, r.accuracy) for r in trainer.epochs(2, block=block)]
    assert results[0] == results[1]
    assert [epoch for epoch, _, _ in results[0]] == list(range(1, 12))
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_blocks_are_bounded(backend, monkeypatch) -> None:
    X, y = blobs()
    trainer = fnn.Trainer(classifier(backend), X, y)
    sizes, order = [], trainer._order.draw

    def spy(count):
        sizes.append(count)
        return order(count)

    monkeypatch.setattr(trainer._order, "draw", spy)
    monkeypatch.setattr(trainer_module, "BLOCK_SECONDS", 1e9)
    monkeypatch.setattr(trainer_module, "BLOCK_BYTES", 4 * 8 * 90)
    assert len(list(trainer.epochs(11, block=True))) == 11
    assert sizes == [1, 4, 4, 2]


def test_without_blocks_the_network_is_at_the_epoch(backend) -> None:
    X, y = blobs()
    net, other = classifier(backend), classifier(backend)
    for count, result in enumerate(fnn.Trainer(net, X, y, threads=1).epochs(3), start=1):
        assert result.epoch == count
        fresh = other.copy()
        fresh.fit(X, y, epochs=count, threads=1)
        np.testing.assert_array_equal(net.theta, fresh.theta)


def test_stopping_the_generator_early(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    trainer = fnn.Trainer(net, X, y, batch_size=9)
    for result in trainer.epochs(100):
        if result.epoch == 2:
            break
    assert trainer.steps == 20


# History.


def test_history(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    assert net.history is None
    history = net.fit(X, y, optimizer=fnn.Adam(0.02), epochs=3)
    assert net.history is history
    assert history.keys() == ("epoch", "loss", "accuracy", "learning_rate", "seconds")
    assert len(history) == 3
    assert history["epoch"] == [1, 2, 3]
    assert history["learning_rate"] == [0.02] * 3
    assert all(seconds > 0 for seconds in history["seconds"])
    assert all(type(value) is float for key in ("loss", "accuracy", "seconds") for value in history[key])
    assert "accuracy" in history
    assert dict(history) == history.to_dict()
    assert list(history) == history[:] == [history[0], history[1], history[2]]
    assert history[-1] == {name: history[name][-1] for name in history.keys()}  # noqa: SIM118 (not a dict)
    assert [entry["epoch"] for entry in history[1:]] == [2, 3]
    with pytest.raises(IndexError):
        history[3]
    assert repr(history).startswith("History(3 epochs, last loss=")
    table = history.to_dict()
    table["loss"].clear()
    assert len(history["loss"]) == 3
    with pytest.raises(KeyError, match="no record 'val_loss'; there are epoch, loss, accuracy"):
        history["val_loss"]


def test_a_history_as_a_table(backend) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = blobs()
    history = classifier(backend).fit(X, y, epochs=3, validation_split=0.2)
    table = pandas.DataFrame(history)
    assert list(table.columns) == list(history.keys())
    assert list(table["val_loss"]) == history["val_loss"]
    table = history.to_frame()
    assert list(table.index) == [1, 2, 3]
    assert table.index.name == "epoch"
    assert list(table["loss"]) == history["loss"]


def test_what_a_history_says_of_itself(backend) -> None:
    X, y = blobs()
    history = classifier(backend).fit(X, y, epochs=3, validation_split=0.2)
    best = int(np.argmin(history["val_loss"]))
    assert repr(history).endswith(f"; smallest val_loss={history['val_loss'][best]:.6g} in epoch {best + 1})")
    history = classifier(backend).fit(X, y, optimizer=fnn.LBFGS(max_iter=2))
    assert repr(history).startswith("History(2 iterations, last loss=")
    assert "gradient_norm=" in repr(history)
    assert history.unit == "iteration"
    assert repr(history.result).startswith("SolverResult(max_iter: max_iter iterations are done; 2 iterations, value=")


def test_history_of_a_regression(backend, rng) -> None:
    net = linear_network(backend)
    history = net.fit(rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), epochs=2)
    assert history.keys() == ("epoch", "loss", "learning_rate", "seconds")
    assert "accuracy" not in repr(history)
    assert repr(fnn.History()) == "History(0 epochs)"


# Progress.


def test_progress_without_tqdm(backend, monkeypatch, capsys) -> None:
    original = builtins.__import__

    def without_tqdm(name, *args, **kwargs):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    X, y = blobs()
    classifier(backend).fit(X, y, epochs=2, verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "loss " in lines[0]
    assert "accuracy " in lines[0]


def test_progress_with_tqdm(backend, capsys) -> None:
    pytest.importorskip("tqdm")
    X, y = blobs()
    net, other = classifier(backend), classifier(backend)
    net.fit(X, y, epochs=2, verbose=1, threads=1)
    assert "2/2" in capsys.readouterr().err
    other.fit(X, y, epochs=2, threads=1)
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(net.theta, other.theta)


def test_a_line_every_k_epochs(backend, capsys) -> None:
    X, y = blobs()
    classifier(backend).fit(X, y, epochs=7, verbose=3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 3/7", "epoch 6/7", "epoch 7/7"]

    def stop(result: fnn.EpochResult) -> None:
        if result.epoch == 5:
            result.stop()

    classifier(backend).fit(X, y, epochs=7, verbose=3, callbacks=[stop])
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == ["epoch 3/7", "epoch 5/7"]
    classifier(backend).fit(X, y, optimizer=fnn.LBFGS(max_iter=5), verbose=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["iteration 2/5", "iteration 4/5", "iteration 5/5"]


# Determinism.


@pytest.mark.parametrize("products", [{}, {"blas_work": 0.0}], ids=["own products", "products by BLAS"])
def test_deterministic_training_does_not_depend_on_threads(products, dtype, compiled) -> None:
    X, y = blobs()
    options = {"batch_size": 32, "validation_split": 0.2, "l2": 1e-3, "clip_norm": 0.5}
    nets = []
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0, **products):
        for threads in (1, 2, 4):
            layers = [fnn.Dense(20, "gelu"), fnn.Dense(3)]
            net = fnn.Sequential(layers, input_size=X.shape[1], loss="cross_entropy", dtype=dtype, seed=0)
            net.fit(X, y, epochs=3, threads=threads, deterministic=True, seed=1, **options)
            net.fit(X, y, epochs=5, threads=5 - threads, deterministic=True, resume=True, **options)
            net.partial_fit(X, y, batch_size=40, threads=threads, deterministic=True, seed=2)
            nets.append(net)
    for net in nets[1:]:
        assert net.theta.tobytes() == nets[0].theta.tobytes()
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_array_equal(net.history[name], nets[0].history[name])


def test_deterministic_is_kept_by_a_resumed_run(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.fit(X, y, epochs=1, deterministic=True)
    with pytest.raises(ValueError, match="resume: expected deterministic=True as in the training to be resumed"):
        net.fit(X, y, epochs=2, resume=True)
    with pytest.raises(TypeError, match="deterministic must be True or False, got 1"):
        net.fit(X, y, deterministic=1)


# Bad arguments.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": "admm"}, ValueError, "optimizer: unknown name 'admm'"),
        ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer >= 1, got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
        ({"batch_size": 8.0}, TypeError, "batch_size must be an integer >= 1, got 8.0"),
        ({"shuffle": "no"}, TypeError, "shuffle must be True or False, got 'no'"),
        ({"l1": -1}, ValueError, "l1 must be a finite number >= 0, got -1"),
        ({"l2": math.nan}, ValueError, "l2 must be a finite number >= 0, got nan"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be a finite number > 0, got 0"),
        ({"clip_value": math.inf}, ValueError, "clip_value must be a finite number > 0, got inf"),
        ({"threads": 0}, ValueError, "threads must be an integer >= 1, got 0"),
        ({"threads": 1.0}, TypeError, "threads must be an integer >= 1, got 1.0"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer >= 0, got 0.5"),
        ({"verbose": "yes"}, TypeError, "verbose must be an integer >= 0, got 'yes'"),
        ({"class_weight": "even"}, ValueError, 'class_weight must be a dict of class to weight, or "balanced", got'),
        ({"class_weight": [1, 2, 3]}, TypeError, "class_weight must be a dict of class to weight"),
        ({"class_weight": {3: 1.0}}, ValueError, r"class_weight: expected classes in \[0, 3\), got 3"),
        ({"class_weight": {"a": 1.0}}, TypeError, "class_weight: expected classes as integers, got 'a'"),
        ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] must be a finite number >= 0, got -1"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight: expected a positive sum over the rows"),
        ({"validation_data": 3}, TypeError, r"validation_data must be \(X, y\) or \(X, y, sample_weight\), got int"),
        ({"validation_data": (1,)}, TypeError, "validation_data must be .* got tuple of 1"),
        ({"validation_data": (np.ones((2, 3)), [0, 1])}, ValueError, "validation_data: X: expected 4 features"),
        ({"validation_data": (np.ones((2, 4)), [0, 3])}, ValueError, "validation_data: y: expected labels in"),
        ({"validation_split": 1.0}, ValueError, "validation_split must be a finite number >= 0 and < 1, got 1.0"),
        ({"validation_split": 0.001}, ValueError, "validation_split: 0.001 of 90 rows leaves none to validate on"),
        ({"validation_split": 0.1, "validation_data": blobs(5)}, ValueError, "cannot both be given"),
        ({"callbacks": print}, TypeError, "callbacks must be a list of functions or objects"),
        ({"callbacks": [3]}, TypeError, r"callbacks\[0\] must be something that can be called, got 3"),
        ({"callbacks": [fnn.EarlyStopping]}, TypeError, r"did you mean EarlyStopping\(\)\?"),
        ({"callbacks": [fnn.EarlyStopping("val_loss")], "validation_split": 0.0}, ValueError, "give validation_data"),
        ({"callbacks": [fnn.EarlyStopping("f1")], "validation_split": 0.2}, ValueError, "monitor: no series 'f1' in"),
        ({"callbacks": [fnn.Checkpoint("absent/x")], "validation_split": 0.2}, OSError, "absent does not exist"),
        ({"optimizer": fnn.SGD(fnn.ReduceOnPlateau(0.1, monitor="val_r2"))}, ValueError, "monitor: no series 'val_r2'"),
        ({"resume": 1}, TypeError, "resume must be True or False, got 1"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight: expected shape \(90,\), got \(3,\)"),
        ({"sample_weight": np.zeros(90)}, ValueError, "sample_weight: expected a positive sum, got zeros only"),
        ({"sample_weight": -np.ones(90)}, ValueError, "sample_weight: expected finite values >= 0, got -1.0 in row 0"),
        ({"sample_weight": np.full(90, np.nan)}, ValueError, "sample_weight: .* got nan in row 0"),
        ({"sample_weight": ["a"] * 90}, TypeError, "sample_weight: expected real numbers, got dtype <U1"),
    ],
)
def test_fit_refuses(options, error, message, backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    before, generator = net.theta.copy(), net.generator.bit_generator.state
    with pytest.raises(error, match=message):
        net.fit(X, y, **options)
    np.testing.assert_array_equal(net.theta, before)
    assert net.generator.bit_generator.state == generator
    assert net.history is None


def test_fit_refuses_no_rows(backend) -> None:
    with pytest.raises(ValueError, match=r"X: expected at least one row, got shape \(0, 4\)"):
        classifier(backend).fit(np.empty((0, 4)), np.empty(0, int))


def test_trainer_refuses(backend) -> None:
    X, y = blobs()
    with pytest.raises(TypeError, match="net must be a Sequential, got str"):
        fnn.Trainer("net", X, y)
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        fnn.Trainer(classifier(backend), X, y).epochs(0)
    for name in ("epoch", "options", "conventions"):
        with pytest.raises(TypeError, match=rf"Trainer.__init__\(\) got an unexpected keyword argument '{name}'"):
            fnn.Trainer(classifier(backend), X, y, **{name: 3})


def test_the_trainer_takes_the_options_that_are_checked() -> None:
    parameters = inspect.signature(fnn.Trainer).parameters
    assert list(parameters)[:3] == ["net", "X", "y"]
    keywords = {name: entry.default for name, entry in parameters.items() if entry.kind is entry.KEYWORD_ONLY}
    assert keywords == {field.name: field.default for field in dataclasses.fields(TrainingOptions)}


@pytest.mark.parametrize("own", [True, False], ids=["generator", "network's"])
@pytest.mark.parametrize("way", [fnn.Trainer, fnn.Sequential.fit])
def test_what_is_refused_has_moved_no_generator(way, own, backend) -> None:
    X, y = blobs(11)
    layers = [fnn.Dense(8), fnn.BatchNorm(), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0, backend=backend)
    seed = np.random.default_rng(1) if own else None
    generators = [net.generator, *([seed] if seed is not None else [])]
    before = [generator.bit_generator.state for generator in generators]
    with pytest.raises(ValueError, match="batches of at least 2 rows for batch norm"):
        way(net, X, y, seed=seed, validation_split=0.1, batch_size=9)
    assert [generator.bit_generator.state for generator in generators] == before
    assert net.split_start is None


def test_default_arguments_of_later_versions_are_accepted(backend) -> None:
    X, y = blobs()
    net = classifier(backend)
    net.fit(X, y, epochs=1, class_weight=None, validation_data=None, validation_split=0.0, callbacks=[], verbose=False)
    assert len(net.history) == 1
