"""What is derived from the data: Standardize's mean and scale, and weights as repetitions of rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn.checks import Moments, moments

N, D = 200, 3


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) * [1.0, 50.0, 1e-3] + [0.0, 1000.0, 5.0]
    return X, (X[:, 0] > 0).astype(int)


def network(*, seed: int = 0, dtype: str = "float64", backend: str = "compiled", norm: bool = False) -> fnn.Sequential:
    first = fnn.BatchNorm() if norm else fnn.Standardize()
    layers = [fnn.Dense(4), first] if norm else [first, fnn.Dense(4)]
    return fnn.Sequential(
        [*layers, fnn.Activation("tanh"), fnn.Dense(2)], input_size=D, loss="cross_entropy", seed=seed, dtype=dtype,
        backend=backend,
    )  # fmt: skip


def learnt(net: fnn.Sequential) -> tuple[np.ndarray, np.ndarray]:
    return net.state[:D], 1.0 / net.state[D : 2 * D]


def batches(X: np.ndarray, y: np.ndarray, size: int = 50) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)]


TRAININGS = {
    "fit": lambda net, X, y: net.fit(X, y, epochs=1),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "solver": lambda net, X, y: net.fit(X, y, optimizer=fnn.LBFGS(max_iter=2)),
    "trainer": lambda net, X, y: list(fnn.Trainer(net, X, y).epochs(1)),
    "function": lambda net, X, y: net.fit(lambda: iter(batches(X, y)), epochs=2),
    "list": lambda net, X, y: net.fit(batches(X, y), epochs=2),
    "steps": lambda net, X, y: net.fit(lambda: iter(batches(X, y)), epochs=2, steps_per_epoch=4),
}


@pytest.mark.parametrize("first", TRAININGS)
@pytest.mark.parametrize("second", TRAININGS)
def test_the_first_training_learns_from_all_of_its_rows_and_later_ones_do_not(first, second, data) -> None:
    X, y = data
    net = network()
    TRAININGS[first](net, X, y)
    mean, scale = learnt(net)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scale, X.std(axis=0), rtol=1e-9)
    before = net.state.copy()
    TRAININGS[second](net, 3.0 * X[y == 1], y[y == 1])
    np.testing.assert_array_equal(net.state, before)


def test_of_an_iterator_the_first_batch_counts_and_is_trained_on(data) -> None:
    X, y = data
    once, again = network(), network()
    once.fit(iter(batches(X, y)), epochs=1, optimizer=fnn.SGD(0.01))
    np.testing.assert_allclose(learnt(once)[0], X[:50].mean(axis=0), rtol=1e-12, atol=1e-14)
    again.state[...] = once.state
    again.fit(batches(X, y), epochs=1, optimizer=fnn.SGD(0.01))
    np.testing.assert_array_equal(once.theta, again.theta)


def test_an_iterator_that_begins_with_weights_of_zero(data) -> None:
    X, y = data
    net = network()
    parts = [(X[:50] + 1e6, y[:50], np.zeros(50)), (X[50:], y[50:])]
    history = net.fit(iter(parts), epochs=1)
    np.testing.assert_allclose(learnt(net)[0], X[50:].mean(axis=0), rtol=1e-9, atol=1e-12)
    assert net.training_state.steps == 1
    assert len(history) == 1


def test_rows_held_out_are_not_learnt_from(data) -> None:
    X, y = data
    net = network()
    trainer = fnn.Trainer(net, X, y, validation_split=0.25, seed=0)
    list(trainer.epochs(1))
    rows = trainer._data.rows
    assert len(rows) == 150
    np.testing.assert_allclose(learnt(net)[0], X[rows].mean(axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", ["copy", "pickle", "file", "astype"])
def test_copies_and_files_know_that_it_has_been_learnt(way, tmp_path) -> None:
    X = np.array([[-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]] * 8)  # of mean 0 and deviation 1, as if nothing had been learnt
    net = network()
    net.fit(X, np.arange(16) % 2, epochs=1)
    if way == "file":
        net.save(tmp_path / "m")
    other = {
        "copy": net.copy,
        "pickle": lambda: pickle.loads(pickle.dumps(net)),
        "file": lambda: fnn.load(tmp_path / "m"),
        "astype": lambda: net.astype("float32"),
    }[way]()
    other.fit(X + 5.0, np.arange(16) % 2, epochs=1)
    np.testing.assert_array_equal(other.state, [0, 0, 0, 1, 1, 1])


def test_it_learns_anew_once_mean_and_scale_are_put_back(data) -> None:
    X, y = data
    net = network()
    net.fit(X, y, epochs=1)
    net.state[: 2 * D] = np.repeat([0.0, 1.0], D)
    net.fit(X + 7.0, y, epochs=1)
    np.testing.assert_allclose(learnt(net)[0], X.mean(axis=0) + 7.0, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [14.62, 1e-40, 1e30, -3.3, 0.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_constant_column_has_the_scale_1(dtype, value, weighted) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(9000, D))
    X[:, 1] = value
    if value != 1e-40:
        X[::2, 1] = np.nextafter(X[::2, 1].astype(dtype), np.dtype(dtype).type(np.inf))  # rounding is no variation
    net = network(dtype=dtype)
    w = rng.uniform(size=9000) if weighted else None
    net.fit(X, np.arange(9000) % 2, epochs=1, sample_weight=w)
    assert net.state[D + 1] == 1.0
    assert np.isfinite(net.state).all()


def test_a_small_variation_around_a_large_value_is_one() -> None:
    X = np.repeat(1.7e9, 400) + np.arange(400.0)
    mean, deviation = moments(X[:, None])
    np.testing.assert_allclose([mean[0], deviation[0]], [X.mean(), X.std()], rtol=1e-12)


def test_what_has_no_finite_deviation_is_refused_and_changes_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(20, D)) * [1.0, 1e300, 1.0]
    net = network()
    theta, state = net.theta.copy(), net.state.copy()
    with pytest.raises(ValueError, match=r"finite deviation, got values up to .*e\+300 in column 1"):
        net.fit(X, np.arange(20) % 2)
    np.testing.assert_array_equal(net.theta, theta)
    np.testing.assert_array_equal(net.state, state)


@pytest.mark.parametrize("sparse", [False, True])
def test_moments_take_weights_as_repetitions(sparse) -> None:
    rng = np.random.default_rng(1)
    X, w = rng.normal(size=(10000, 4)) * (rng.uniform(size=(10000, 4)) < 0.5), rng.integers(0, 4, 10000)
    rows = np.repeat(np.arange(10000), w)
    found = Moments(4)
    given = X
    if sparse:
        given = fnn.checks.check_rows(pytest.importorskip("scipy.sparse").csr_array(X), 4, np.dtype("f8"))
    found.add(given[:3000], w[:3000])
    found.add(given[3000:], w[3000:])
    np.testing.assert_allclose(found.result(), [X[rows].mean(axis=0), X[rows].std(axis=0)], rtol=1e-10, atol=1e-12)


# Weights are repetitions.


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
def test_whole_weights_are_repetitions(backend, class_weight, data) -> None:
    X, _ = data
    rng = np.random.default_rng(3)
    y, w = (X[:, 0] > 0.7).astype(int), rng.integers(0, 4, N)
    rows = np.repeat(np.arange(N), w)
    nets = []
    for A, b, weight in ((X, y, w), (X[rows], y[rows], None)):
        net = network(backend=backend)
        net.fit(A, b, sample_weight=weight, class_weight=class_weight, batch_size=None, epochs=20, optimizer="sgd")
        nets.append(net)
    np.testing.assert_allclose(nets[0].state, nets[1].state, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-8, atol=1e-10)


def with_outliers(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of weight 0 among the others, far away."""
    at = [0, 7, 7, 100, N]
    w = np.linspace(0.5, 2.0, N)
    return np.insert(X, at, 1e8, axis=0), np.insert(y, at, 0), np.insert(w, at, 0.0)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("way", ["arrays", "trainer", "batches", "solver", "partial_fit"])
def test_rows_of_weight_zero_do_not_enter_batch_norm(way, backend, data) -> None:
    X, y = data
    X = X - X.mean(axis=0)
    nets = []
    for A, b, w in ((X, y, np.linspace(0.5, 2.0, N)), with_outliers(X, y)):
        net = network(backend=backend, norm=True)
        if way == "arrays":
            net.fit(A, b, sample_weight=w, batch_size=40, epochs=3, seed=5)
        elif way == "trainer":
            list(fnn.Trainer(net, A, b, sample_weight=w, batch_size=40, shuffle=False).epochs(3))
        elif way == "batches":
            net.fit([(A, b, w)], epochs=3)
        elif way == "partial_fit":
            net.partial_fit(A, b, sample_weight=w, batch_size=None, seed=1)
        else:
            net.fit(A, b, sample_weight=w, optimizer=fnn.LBFGS(max_iter=4))
        nets.append(net)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(nets[0].state, nets[1].state, rtol=1e-7, atol=1e-9)


def test_rows_of_weight_zero_do_not_enter_derivatives_with_batch_statistics(data) -> None:
    X, y = data
    X = X - X.mean(axis=0)
    net, w = network(norm=True), np.linspace(0.5, 2.0, N)
    ones = np.ones(net.n_parameters)
    A, b, v = with_outliers(X, y)
    curvature = fnn.curvature
    for function in (
        lambda X, y, w: net.gradient(X, y, sample_weight=w, training=True),
        lambda X, y, w: net.loss(X, y, sample_weight=w, training=True),
        lambda X, y, w: curvature.hessian(net, X, y, sample_weight=w, training=True),
        lambda X, y, w: curvature.hessian_operator(net, X, y, sample_weight=w, training=True) @ ones,
        lambda X, y, w: fnn.Objective(net, X, y, w, training=True).gradient(net.theta),
    ):
        np.testing.assert_allclose(function(X, y, w), function(A, b, v), rtol=1e-8, atol=1e-12)
    one = np.zeros(N)
    one[3] = 1.0
    with pytest.raises(ValueError, match="at least 2 rows"):
        net.gradient(X, y, sample_weight=one, training=True)


# Epochs of a number of batches.


def test_steps_per_epoch_goes_on_where_the_last_epoch_ended(data) -> None:
    X, y = data
    seen: list[int] = []
    parts = batches(X, y, 40)

    def source():
        for index, part in enumerate(parts):
            seen.append(index)
            yield part

    net = network(norm=True)
    history = net.fit(source, epochs=4, steps_per_epoch=3)
    assert len(history) == 4
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert net.training_state.steps == 12


def test_steps_per_epoch_of_iterators(data) -> None:
    X, y = data
    part = batches(X, y)[0]

    def endless():
        while True:
            yield part

    net = network()
    assert len(net.fit(endless(), epochs=5, steps_per_epoch=2)) == 5
    assert len(net.fit(endless, epochs=3, steps_per_epoch=2)) == 3
    with pytest.raises(ValueError, match="the iterator ended within an epoch of steps_per_epoch=3"):
        net.fit(iter(batches(X, y)), epochs=2, steps_per_epoch=3)
    with pytest.raises(ValueError, match="at least one batch"):
        net.fit(lambda: iter(()), steps_per_epoch=2)
    with pytest.raises(ValueError, match="steps_per_epoch is for batches from an iterator"):
        net.fit(X, y, steps_per_epoch=2)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        net.fit(endless, steps_per_epoch=0)
