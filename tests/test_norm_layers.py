"""BatchNorm, LayerNorm, Dropout, Standardize, Scale and Activation as layers of whole networks, on both backends."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import knobs
import numpy as np
import pytest
import scipy.sparse
from interruption import Alarm, alarm, needs_alarm

import fastnn as fnn
from fastnn.plan import UpdateRule

pytestmark = pytest.mark.every_simd

STACKS = {
    "batch norm": [fnn.Dense(9), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dense(5, "tanh"), fnn.Dense(3)],
    "layer norm": [fnn.Dense(9), fnn.LayerNorm(), fnn.Activation("silu"), fnn.Dense(3)],
    "all": [
        fnn.Standardize(),
        fnn.Dense(8),
        fnn.BatchNorm(momentum=0.8),
        fnn.Activation("gelu"),
        fnn.Dropout(0.3),
        fnn.Dense(6, "tanh"),
        fnn.LayerNorm(),
        fnn.Dropout(0.2),
        fnn.Dense(3),
    ],
    "scale": [
        fnn.Scale(learning_rate_multiplier=0.5),
        fnn.Dense(9, "relu"),
        fnn.Scale(),
        fnn.Dropout(0.2),
        fnn.Dense(6, "selu"),
        fnn.Activation("mish"),
        fnn.Scale(learning_rate_multiplier=0.0),
        fnn.Dense(3),
    ],
    "norm first": [fnn.BatchNorm(), fnn.Dense(9, "tanh"), fnn.Dropout(0.5), fnn.Dense(3)],
}


def network(stack: str, backend: str = "compiled", dtype: str = "float64", loss: str = "cross_entropy"):
    net = fnn.Sequential(STACKS[stack], input_size=7, loss=loss, dtype=dtype, backend=backend, seed=0)
    rng = np.random.default_rng(1)
    net.theta = net.theta + 0.3 * rng.standard_normal(net.n_parameters).astype(dtype)
    return net


def data(rows: int = 61, seed: int = 2):
    rng = np.random.default_rng(seed)
    return 3 + 2 * rng.standard_normal((rows, 7)), rng.integers(0, 3, rows), rng.random(rows)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_is_that_of_the_loss(stack, training, backend, numerical_gradient) -> None:
    net = network(stack, backend)
    X, y, w = data(13)
    net.fit(X, y, epochs=2, batch_size=5, optimizer=fnn.SGD(0.01), seed=0)  # running statistics that are not the start
    options = {"sample_weight": w, "l2": 0.1, "training": training}

    moved = net.copy()

    def loss(theta):
        moved.theta = theta
        return moved.loss(X, y, **options)

    expected = numerical_gradient(loss, net.theta.copy())
    np.testing.assert_allclose(net.gradient(X, y, **options), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.usefixtures("many_workers")
def test_training_is_that_of_the_reference_for_any_number_of_threads(stack, threads) -> None:
    X, y, w = data(83)  # the last batch has 3 rows
    results = []
    for backend in ("compiled", "reference"):
        net = network(stack, backend)
        history = net.fit(
            X, y, optimizer=fnn.SGD(0.05, momentum=0.9), epochs=4, batch_size=16, sample_weight=w, l2=1e-3, seed=5,
            clip_norm=1.0, threads=threads,
        )  # fmt: skip
        results.append((net.theta, net.state, history["loss"], net.decision_function(X, threads=threads)))
    for compiled, expected in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("many_workers")
def test_dropout_masks_do_not_depend_on_threads_or_dtype() -> None:
    X, y, _ = data(64)
    thetas = []
    for dtype, threads in itertools.product(("float32", "float64"), (1, 2, 3)):
        net = network("norm first", dtype=dtype)
        net.fit(X, y, optimizer=fnn.SGD(0.05), epochs=2, batch_size=16, seed=3, threads=threads)
        thetas.append(net.theta.astype(float))
    for theta in thetas[1:]:
        np.testing.assert_allclose(theta, thetas[0], rtol=0, atol=1e-5)


def test_dropout_is_for_training_alone(backend) -> None:
    X, y, _ = data()
    net = fnn.Sequential([fnn.Dense(20, "relu"), fnn.Dropout(0.9), fnn.Dense(3)], input_size=7, loss="cross_entropy",
                         backend=backend, seed=0)  # fmt: skip
    plain = fnn.Sequential([fnn.Dense(20, "relu"), fnn.Dense(3)], input_size=7, loss="cross_entropy", seed=0)
    plain.theta = net.theta
    np.testing.assert_allclose(net.decision_function(X), plain.decision_function(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(net.gradient(X, y, training=True), plain.gradient(X, y), rtol=0, atol=1e-5)
    before = net.theta.copy()
    net.fit(X, y, epochs=1, optimizer=fnn.SGD(0.1), seed=1)
    first = net.theta.copy()
    net.theta = before
    net.fit(X, y, epochs=1, optimizer=fnn.SGD(0.1), seed=2)
    assert not np.array_equal(first, net.theta)


def test_running_statistics_are_those_of_the_data(backend, dtype) -> None:
    rng = np.random.default_rng(0)
    X = np.array([5.0, -3.0, 0.0]) + np.array([2.0, 0.5, 1.0]) * rng.standard_normal((4000, 3))
    layers = [fnn.BatchNorm(momentum=0.99), fnn.Dense(2)]
    net = fnn.Sequential(layers, input_size=3, loss="cross_entropy", backend=backend, dtype=dtype, seed=0)
    net.fit(X, np.arange(4000) % 2, epochs=1, batch_size=50, optimizer=fnn.SGD(1e-9), shuffle=False)
    mean, variance, count = np.split(net.state, [3, 6])
    assert count == 80
    correction = 1 / (1 - 0.99**80)
    np.testing.assert_allclose(mean * correction, X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(variance * correction, X.var(axis=0), rtol=0.05)
    # One step is enough for inference to use what the batch had.
    net = fnn.Sequential(layers, input_size=3, loss="cross_entropy", backend=backend, dtype=dtype, seed=0)
    net.fit(X, np.arange(4000) % 2, epochs=1, batch_size=None, optimizer=fnn.SGD(1e-30), shuffle=False)
    expected = ((X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-5)) @ net.parameters["1.weight"]
    np.testing.assert_allclose(net.decision_function(X), expected, rtol=0, atol=2e-3 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("source", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("input_scale", [None, 0.01])
def test_standardize_learns_from_the_training_data(source, input_scale, backend) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (5000, 4)).astype(source)
    X[:, 2] = 7
    layers = [fnn.Standardize(), fnn.Dense(2)]
    net = fnn.Sequential(layers, input_size=4, loss="squared_error", dtype="float64", backend=backend, seed=0,
                         input_scale=input_scale)  # fmt: skip
    y = rng.standard_normal((5000, 2))
    net.fit(X, y, epochs=1, optimizer=fnn.SGD(1e-9))
    deviation = X.std(axis=0, dtype=float)
    deviation[2] = 1
    expected = (X - X.mean(axis=0, dtype=float)) / deviation @ net.parameters["1.weight"]
    np.testing.assert_allclose(net.predict(X), expected, rtol=0, atol=1e-6)
    learnt = net.state.copy()
    net.fit(X[:100], y[:100], epochs=1, validation_split=0.5, optimizer=fnn.SGD(1e-9), seed=0)
    np.testing.assert_array_equal(learnt, net.state)  # once and for all


@pytest.mark.parametrize("stack", STACKS)
def test_copies_pickles_and_files_keep_the_state(stack, backend, tmp_path) -> None:
    X, y, _ = data()
    net = network(stack, backend, "float32")
    net.fit(X, y, epochs=2, batch_size=21, seed=0)
    expected = net.decision_function(X)
    net.save(tmp_path / "m.safetensors")
    loaded = fnn.load(tmp_path / "m.safetensors", backend=backend)
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), loaded):
        assert other.layers == net.layers
        np.testing.assert_array_equal(other.state, net.state)
        np.testing.assert_allclose(other.decision_function(X), expected, rtol=1e-6, atol=1e-6)


def test_resuming_goes_on_bit_for_bit(backend, dtype, tmp_path) -> None:
    X, y, _ = data(90)
    options = {"optimizer": fnn.Adam(fnn.CosineDecay(0.02, 6)), "batch_size": 16, "validation_split": 0.2, "seed": 9}
    whole = network("all", backend, dtype)
    stop = fnn.EarlyStopping(patience=4)
    whole.fit(X, y, epochs=6, callbacks=[stop], **options)
    part = network("all", backend, dtype)
    part.fit(X, y, epochs=3, callbacks=[fnn.EarlyStopping(patience=4)], **options)
    part.save(tmp_path / "c.safetensors", training_state=True)
    loaded = fnn.load(tmp_path / "c.safetensors", backend=backend) if backend == "reference" else fnn.load(
        tmp_path / "c.safetensors"
    )  # fmt: skip
    loaded.fit(X, y, epochs=6, callbacks=[fnn.EarlyStopping(patience=4)], resume=True, **options)
    np.testing.assert_array_equal(loaded.theta, whole.theta)
    np.testing.assert_array_equal(loaded.state, whole.state)
    assert loaded.history["loss"] == whole.history["loss"]


@pytest.mark.parametrize("source", ["float64", "float32", "uint8", "csr"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("many_workers")
def test_scale_of_any_input(source, threads, dtype) -> None:
    X, y, w = data(83)
    X = np.where(X > 3, X, 0.0).round()
    y = y.astype(np.int64)
    given = scipy.sparse.csr_array(X) if source == "csr" else X.clip(0).astype(source)
    results = []
    for backend in ("compiled", "reference"):
        net = network("scale", backend, dtype)
        before = net.parameters["6.scale"].copy()
        net.fit(given, y, sample_weight=w, epochs=3, batch_size=16, optimizer=fnn.AdamW(0.01), l1=1e-3, l2=1e-2, seed=3,
                threads=threads, deterministic=True)  # fmt: skip
        np.testing.assert_array_equal(net.parameters["6.scale"], before)  # frozen
        results.append((net.theta, net.decision_function(given), net.gradient(given, y, l2=0.1, threads=threads)))
    for compiled, expected in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=0, atol=1e-9 if dtype == "float64" else 1e-3)


def test_penalties_and_decay_leave_scale_alone(backend) -> None:
    X, y, _ = data()
    net = network("scale", backend)
    shrunk = net.gradient(X, y, l1=0.2, l2=0.3) - net.gradient(X, y)
    for name, offset, shape in net.layout:
        part = shrunk[offset : offset + int(np.prod(shape))]
        assert bool(np.any(np.abs(part) > 1e-9)) == name.endswith("weight")
    weights = [fnn.AdamW(0.01, weight_decay=decay) for decay in (0.0, 0.5)]
    scales = []
    for rule in weights:
        moved = net.copy()
        moved.fit(X, y, epochs=1, batch_size=None, optimizer=rule, seed=0)
        scales.append((moved.parameters["2.scale"].copy(), moved.parameters["1.weight"].copy()))
    np.testing.assert_array_equal(scales[0][0], scales[1][0])
    assert not np.array_equal(scales[0][1], scales[1][1])


def test_scale_in_the_checks_and_in_k_fac(backend) -> None:
    X, y, _ = data(40)
    net = network("scale", backend)
    assert fnn.check_gradient(net, X, y, l2=0.1).ok
    assert fnn.check_hessian(net, X, y).ok
    net.fit(X, y, epochs=3, batch_size=20, optimizer=fnn.KFAC(0.01), seed=0)
    other = network("scale", "reference" if backend == "compiled" else "compiled")
    other.fit(X, y, epochs=3, batch_size=20, optimizer=fnn.KFAC(0.01), seed=0)
    np.testing.assert_allclose(net.theta, other.theta, rtol=0, atol=1e-9)


def test_a_batch_of_one_row_is_refused(backend) -> None:
    X, y, _ = data(61)
    net = network("batch norm", backend)
    before = net.theta.copy(), net.state.copy()
    for size in (1, 20, 60):
        with pytest.raises(ValueError, match="batch_size: expected batches of at least 2 rows for batch norm, but 61"):
            net.fit(X, y, batch_size=size)
    with pytest.raises(ValueError, match="X: expected at least 2 rows to normalise a batch"):
        net.loss(X[:1], y[:1], training=True)
    with pytest.raises(ValueError, match="X: expected batches of at least 2 rows for batch norm"):
        net.fit(iter([(X[:1], y[:1])]), epochs=1)
    np.testing.assert_array_equal(net.theta, before[0])
    np.testing.assert_array_equal(net.state, before[1])
    assert np.isfinite(net.predict_proba(X[:1])).all()


def test_names_and_penalties(backend) -> None:
    net = network("batch norm", backend)
    assert list(net.parameters) == [
        "0.weight",
        "0.bias",
        "1.gamma",
        "1.beta",
        "3.weight",
        "3.bias",
        "4.weight",
        "4.bias",
    ]
    assert "1 BatchNorm" in net.summary()
    X, y, _ = data()
    weights = sum(float((net.parameters[name] ** 2).sum()) for name in ("0.weight", "3.weight", "4.weight"))
    assert net.loss(X, y, l2=0.3) - net.loss(X, y) == pytest.approx(0.15 * weights)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([fnn.Dense(3), fnn.Dropout(0.5)], "expected a Dense layer as the last one"),
        ([fnn.Dense(3), fnn.Scale()], "expected a Dense layer as the last one"),
        ([fnn.Dense(3), fnn.BatchNorm()], "expected a Dense layer as the last one"),
        ([fnn.Dense(3), fnn.Activation("relu")], "expected a Dense layer as the last one"),
        ([fnn.Dense(3), fnn.Standardize(), fnn.Dense(3)], "Standardize must be the first layer, got it at position 1"),
        ([fnn.Activation("relu")], "expected at least one Dense layer"),
    ],
)
def test_stacks_that_are_refused(layers, message) -> None:
    with pytest.raises(ValueError, match=message):
        fnn.Sequential(layers, input_size=3, loss="cross_entropy")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.Dropout(1.0), "rate must be a finite number >= 0 and < 1"),
        (lambda: fnn.Dropout(-0.1), "rate must be a finite number >= 0 and < 1"),
        (lambda: fnn.BatchNorm(epsilon=0.0), "epsilon must be a finite number > 0"),
        (lambda: fnn.BatchNorm(momentum=1.0), "momentum must be a finite number >= 0 and < 1"),
        (lambda: fnn.LayerNorm(epsilon=-1.0), "epsilon must be a finite number > 0"),
        (lambda: fnn.Scale(learning_rate_multiplier=-1.0), "learning_rate_multiplier must be a finite number >= 0"),
        (lambda: fnn.Activation("rleu"), "name: unknown activation 'rleu'"),
    ],
)
def test_layers_refuse_bad_numbers(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("many_workers")
def test_training_gradients_are_torchs(kind, threads, backend) -> None:
    with np.load(Path(__file__).with_name("golden") / "norms.npz") as file:  # made by make_norms.py beside it
        arrays = dict(file)
    norm = fnn.BatchNorm if kind == "batch" else fnn.LayerNorm
    layers = [fnn.Dense(6), norm(), fnn.Activation("gelu"), fnn.Dense(6), norm(), fnn.Activation("tanh"), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=5, loss="cross_entropy", dtype="float64", backend=backend)
    net.theta = arrays[f"{kind}.theta"]
    options = {"sample_weight": arrays["w"], "l2": 0.02, "training": True, "threads": threads}
    loss, gradient = net.loss_and_gradient(arrays["X"], arrays["y"], **options)
    assert loss == pytest.approx(float(arrays[f"{kind}.loss"]), rel=1e-12)
    np.testing.assert_allclose(gradient, arrays[f"{kind}.gradient"], rtol=0, atol=1e-12)


# Large batches: they are one chunk, which a worker takes in blocks of rows.


@pytest.mark.parametrize("case", ["wide layers", "many inputs"])
def test_blocks_of_rows_are_the_whole(case, rng) -> None:
    if case == "wide layers":  # 96 rows in a block of the product, so three of 250
        X = rng.normal(size=(250, 1500))
        layers = [fnn.Dense(1500), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dense(3)]
    else:  # 261 rows in a block of those that are converted
        X = rng.integers(256, size=(300, 12_000)).astype(np.uint8)
        layers = [fnn.Dense(2), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dense(3)]
    y = rng.integers(3, size=len(X))
    nets = [
        fnn.Sequential(layers, input_size=X.shape[1], loss="cross_entropy", dtype="float64", seed=0, backend=backend)
        for backend in ("compiled", "reference")
    ]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=len(X), optimizer=fnn.SGD(0.1), seed=0, threads=1)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=0, atol=1e-11)
    np.testing.assert_allclose(nets[0].history["loss"], nets[1].history["loss"], rtol=1e-11)
    ours, theirs = (net.loss_and_gradient(X, y, training=True, threads=1) for net in nets)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-11)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-11)


@needs_alarm
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_in_the_middle_of_a_large_batch(workers, rng) -> None:
    # A step takes some tenths of a second, and is abandoned long before its update.
    X, y = rng.normal(size=(4000, 1024)).astype(np.float32), rng.integers(10, size=4000)
    norm = [fnn.BatchNorm(), fnn.Activation("relu")]
    layers = [fnn.Dense(1024), *norm, fnn.Dense(1024), *norm, fnn.Dense(10)]
    net = fnn.Sequential(layers, input_size=1024, loss="cross_entropy", seed=0)
    theta, statistics = net.theta.copy(), net.state.copy()
    slots, rule = np.zeros((0, len(theta)), np.float32), UpdateRule("sgd", 1e-2)

    # without red zones, whose filling takes as long as the alarm waits: it would ring before the step begins
    with knobs.changed(red_zone=0), alarm(0.05):
        result = net.plan.train(theta, slots, X, y, None, 4000, rule, 0, threads=workers, buffers=statistics)
    assert (result.status, result.steps, result.losses) == ("interrupted", 0, ())
    assert isinstance(result.error, Alarm)
    np.testing.assert_array_equal(theta, net.theta)
    np.testing.assert_array_equal(statistics, net.state)
