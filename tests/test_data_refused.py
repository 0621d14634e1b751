"""What is refused rather than taken for something else: masks, softmax as an activation, infinite buffers."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn


def network(*layers: object, dtype: str = "float32") -> fnn.Sequential:
    return fnn.Sequential([*layers, fnn.Dense(2)], input_size=3, loss="cross_entropy", seed=0, dtype=dtype)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.integers(0, 2, 40)


@pytest.mark.parametrize("name", ["softmax", "Softmax", "log_softmax"])
def test_softmax_is_inside_the_loss(name) -> None:
    with pytest.raises(ValueError, match="is inside the loss, loss='cross_entropy'"):
        fnn.Dense(3, name)
    with pytest.raises(ValueError, match="is inside the loss, loss='cross_entropy'"):
        fnn.Activation(name)


@pytest.mark.parametrize("what", ["y", "sample_weight"])
def test_masked_and_missing_values_are_refused(what, data) -> None:
    X, y = data
    values = y if what == "y" else np.ones(40)
    masked = np.ma.masked_array(values, mask=np.arange(40) == 3)
    given = {"y": y, "sample_weight": None} | {what: masked}
    for call in (
        lambda: network().fit(X, given["y"], sample_weight=given["sample_weight"]),
        lambda: network().evaluate(X, given["y"], given["sample_weight"]),
        lambda: network().gradient(X, given["y"], sample_weight=given["sample_weight"]),
        lambda: fnn.curvature.hessian(network(), X, given["y"], sample_weight=given["sample_weight"]),
        lambda: network().fit([(X, given["y"], given["sample_weight"])], epochs=1),
        lambda: network().fit(X, y, validation_data=(X, given["y"], given["sample_weight"])),
    ):
        with pytest.raises(ValueError, match=f"{what}: expected values everywhere, got a masked array"):
            call()
    network().fit(X, np.ma.masked_array(y), epochs=1)  # nothing is masked
    pandas = pytest.importorskip("pandas")
    column = pandas.array(values.tolist(), dtype="Int64" if what == "y" else "Float64")
    given[what] = pandas.Series(column)
    expected = network().evaluate(X, y)
    assert network().evaluate(X, given["y"], given["sample_weight"]) == expected
    column[5] = pandas.NA
    given[what] = pandas.Series(column)
    with pytest.raises(ValueError, match=f"{what}: expected values everywhere, got missing ones"):
        network().fit(X, given["y"], sample_weight=given["sample_weight"])


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8"])
def test_duplicates_are_summed_whatever_the_flag_says(dtype) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.csr_array((np.array([200, 3, 100, 7], dtype), [1, 2, 0, 0], [0, 2, 3, 3, 4]), shape=(4, 3))
    assert X.has_canonical_format
    X.indices[1] = 1  # twice in one row: 203
    X.data[1] = 100
    dense = np.array([[0.0, 300.0, 0.0], [100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [7.0, 0.0, 0.0]])
    before = X.data.copy()
    np.testing.assert_allclose(network().decision_function(X), network().decision_function(dense), rtol=1e-5)
    np.testing.assert_array_equal(X.data, before)
    assert len(X.data) == 4


@pytest.mark.parametrize("value", [True, False, 0, "stop"])
def test_a_callback_returns_none(value, data) -> None:
    with pytest.raises(TypeError, match=r"returned .*, expected None; result.stop\(\) ends the training"):
        network().fit(*data, callbacks=[lambda result: value])
    with pytest.raises(TypeError, match="expected None"):
        network().fit(*data, callbacks=[lambda result: value], optimizer=fnn.LBFGS())


def norm_of_large_inputs() -> tuple[fnn.Sequential, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 3)) * 1e19
    return network(fnn.Dense(8), fnn.BatchNorm()), X, rng.integers(0, 2, 64)


@pytest.mark.parametrize("way", ["fit", "partial_fit", "batches", "solver"])
def test_statistics_that_overflow_are_a_divergence(way) -> None:
    net, X, y = norm_of_large_inputs()
    theta, state = net.theta.copy(), net.state.copy()
    calls = {
        "fit": lambda: net.fit(X, y, epochs=5),
        "partial_fit": lambda: net.partial_fit(X, y),
        "batches": lambda: net.fit([(X, y)], epochs=2),
        "solver": lambda: net.fit(10.0 * X, y, optimizer=fnn.LBFGS(max_iter=3)),
    }
    what = {"batches": "statistics of batch norm", "solver": "not finite at the start"}.get(way, "training diverged")
    with pytest.raises(fnn.DivergenceError, match=what):
        calls[way]()
    np.testing.assert_array_equal(net.theta, theta)
    np.testing.assert_array_equal(net.state, state)


def test_buffers_that_are_not_finite_are_not_saved(data, tmp_path) -> None:
    net = network(fnn.BatchNorm())
    net.fit(*data, epochs=1)
    net.save(tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    net.state[1] = np.inf
    with pytest.raises(ValueError, match="buffers"):
        net.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == content


def test_files_and_copies_of_a_network_that_another_thread_trains(data, tmp_path) -> None:
    X, y = data
    net = network(fnn.Dense(64, "tanh"), fnn.BatchNorm())
    net.fit(X, y, epochs=2)
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            net.fit(X, y, epochs=20, validation_split=0.2, callbacks=[fnn.EarlyStopping()])

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(40):
            net.save(tmp_path / "m", training_state=True)
            fnn.load(tmp_path / "m")
            for other in (net.copy(), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
                other.save(tmp_path / "n", training_state=True)
                fnn.load(tmp_path / "n")
    finally:
        stop.set()
        thread.join()
