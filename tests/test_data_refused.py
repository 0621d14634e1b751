"""What is refused rather than taken for something else: masks, softmax as an activation, infinite buffers."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings

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


# One table for all entrances: what is taken or refused does not depend on the door.

ENTRANCES = {
    "fit": lambda net, X, y, w: net.fit(X, y, sample_weight=w, epochs=1, batch_size=20),
    "solver": lambda net, X, y, w: net.fit(X, y, sample_weight=w, optimizer=fnn.LBFGS(max_iter=1)),
    "batches": lambda net, X, y, w: net.fit([(X, y, w)], epochs=1),
    "partial_fit": lambda net, X, y, w: net.partial_fit(X, y, sample_weight=w),
    "Trainer": lambda net, X, y, w: next(fnn.Trainer(net, X, y, sample_weight=w).epochs(1)),
    "validation": lambda net, X, y, w: net.fit(X_OF, Y_OF, epochs=1, validation_data=(X, y, w)),
    "evaluate": lambda net, X, y, w: net.evaluate(X, y, w),
    "loss": lambda net, X, y, w: net.loss(X, y, sample_weight=w),
    "gradient": lambda net, X, y, w: net.gradient(X, y, sample_weight=w),
    "hessian": lambda net, X, y, w: fnn.curvature.hessian(net, X, y, sample_weight=w),
    "Objective": lambda net, X, y, w: fnn.Objective(net, X, y, w),
    "predict": lambda net, X, y, w: net.predict(X),
    "check_gradient": lambda net, X, y, w: fnn.check_gradient(net, X, y, sample_weight=w),
}
X_OF, Y_OF = np.random.default_rng(5).normal(size=(20, 3)), np.arange(20) % 2
W_OF = np.arange(20) % 3 + 1.0
MASK = np.arange(20) == 3


def _x(**changed: object) -> dict[str, object]:
    return {"X": X_OF, "y": Y_OF, "w": W_OF, **changed}


REFUSED = {
    "X masked": (_x(X=np.ma.masked_array(X_OF, np.repeat(MASK[:, None], 3, 1))), ValueError, "X: .*masked"),
    "y masked": (_x(y=np.ma.masked_array(Y_OF, MASK)), ValueError, "y: .*masked"),
    "w masked": (_x(w=np.ma.masked_array(W_OF, MASK)), ValueError, "sample_weight: .*masked"),
    "X complex": (_x(X=X_OF + 0j), TypeError, "X: .*complex"),
    "y complex": (_x(y=Y_OF + 0j), TypeError, "y: .*complex"),
    "w complex": (_x(w=W_OF + 0j), TypeError, "sample_weight: .*complex"),
    "X objects": (_x(X=X_OF.astype(object)), TypeError, "X: .*object"),
    "y objects": (_x(y=Y_OF.astype(object)), TypeError, "y: .*object"),
    "w objects": (_x(w=W_OF.astype(object)), TypeError, "sample_weight: .*object"),
    "X text": (_x(X=X_OF.astype(str)), TypeError, "X: .*<U"),
    "y text": (_x(y=np.where(MASK, "?", Y_OF.astype(str))), ValueError, "y: expected (labels of 2|codes of) classes"),
    "y text and numbers": (_x(y=np.where(MASK, "?", Y_OF.astype(object))), TypeError, "y: .*all str, got 0 in row 0"),
    "w text": (_x(w=W_OF.astype(str)), TypeError, "sample_weight: .*<U"),
    "X nan": (_x(X=np.where(MASK[:, None], np.nan, X_OF)), ValueError, "X: .*nan in row 3, column 0"),
    "w nan": (_x(w=np.where(MASK, np.nan, W_OF)), ValueError, "sample_weight: .*nan in row 3"),
    "w negative": (_x(w=-W_OF), ValueError, "sample_weight: .*row 0"),
    "X short": (_x(X=X_OF[:19]), ValueError, "y: expected 19 rows"),
    "w short": (_x(w=W_OF[:19]), ValueError, r"sample_weight: expected shape \(20,\)"),
    "X of other columns": (_x(X=X_OF[:, :2]), ValueError, r"X: expected 3 features"),
    "X flat": (_x(X=X_OF[:, 0]), ValueError, "X: expected shape"),
    "X none": (_x(X=X_OF[:0], y=Y_OF[:0], w=W_OF[:0]), ValueError, "X: expected at least one row"),
}


#: `predict` takes X alone, of any number of rows.
OF_ROWS = [case for case in REFUSED if case.startswith("X") and case not in ("X short", "X none")]


@pytest.mark.parametrize(
    ("entrance", "case"),
    [(entrance, case) for entrance in ENTRANCES for case in (REFUSED if entrance != "predict" else OF_ROWS)],
)
def test_every_entrance_refuses_the_same(case, entrance) -> None:
    given, error, message = REFUSED[case]
    net = network(dtype="float64")
    before = net.theta.copy(), net.generator.bit_generator.state
    with pytest.raises(error, match=message):
        ENTRANCES[entrance](net, given["X"], given["y"], given["w"])
    np.testing.assert_array_equal(net.theta, before[0])
    assert net.generator.bit_generator.state == before[1]


def _stale(values: np.ndarray) -> object:
    """A CSR matrix with every value in two halves, whose flag says that there are no duplicates."""
    sparse = pytest.importorskip("scipy.sparse")
    n, d = values.shape
    X = sparse.csr_array(
        (np.repeat(values.ravel() / 2.0, 2), np.tile(np.repeat(np.arange(d), 2), n), np.arange(n + 1) * 2 * d),
        shape=(n, d),
    )
    X.has_canonical_format = True
    return X


TAKEN = {
    "Fortran order": lambda: _x(X=np.asfortranarray(X_OF)),
    "other byte order": lambda: _x(X=X_OF.astype(">f8"), w=W_OF.astype(">f8")),
    "lists": lambda: _x(X=X_OF.tolist(), y=Y_OF.tolist(), w=W_OF.tolist()),
    "nothing masked": lambda: _x(X=np.ma.masked_array(X_OF), y=np.ma.masked_array(Y_OF), w=np.ma.masked_array(W_OF)),
    "strides": lambda: _x(X=np.repeat(X_OF, 2, axis=0)[::2], y=np.repeat(Y_OF, 2)[::2], w=np.repeat(W_OF, 2)[::2]),
    "sparse with a stale flag": lambda: _x(X=_stale(X_OF)),
    "small integers": lambda: _x(y=Y_OF.astype(np.int8)),
}


@pytest.mark.parametrize("entrance", [name for name in ENTRANCES if name != "check_gradient"])
@pytest.mark.parametrize("case", TAKEN)
def test_every_entrance_takes_the_same(case, entrance) -> None:
    def result(given: dict) -> np.ndarray:
        net = network(dtype="float64")
        found = ENTRANCES[entrance](net, given["X"], given["y"], given["w"])
        if entrance in ("evaluate", "loss", "gradient", "hessian", "predict"):
            return np.array(list(found.values()) if isinstance(found, dict) else found)
        if entrance == "validation":
            return np.array(net.history["val_loss"])
        return net.theta.copy() if entrance != "Objective" else np.array(found.value(net.theta))

    np.testing.assert_allclose(result(TAKEN[case]()), result(_x()), rtol=1e-12, atol=1e-14)


# Numbers near the largest.


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error"])
@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the reference
def test_outputs_that_overflow_are_an_error(depth, loss, dtype, backend) -> None:
    layers = [*[fnn.Dense(8, "relu")] * depth, fnn.Dense(2)]
    net = fnn.Sequential(layers, input_size=3, loss=loss, seed=0, dtype=dtype, backend=backend)
    rng = np.random.default_rng(0)
    signs = np.where(rng.random((40, 3)) < 0.5, -1.0, 1.0)
    signs[:5] *= 1e-6
    X = (float(np.finfo(dtype).max) * signs).astype(dtype)
    net.theta = 10.0 * net.theta
    methods = ("predict", "decision_function", *(("predict_proba",) if loss != "squared_error" else ()))
    text = "X: the network's outputs for row [0-9]+ are not finite: .* too large for " + dtype
    for method in methods:
        with pytest.raises(ValueError, match=text):
            getattr(net, method)(X)
        with pytest.raises(ValueError, match=text):
            net.predictor(method)(X)
        one = net.predictor(method)
        assert np.isfinite(one(X[0])).all()
        row = X[np.flatnonzero(~np.isfinite(net.plan.forward(net.theta, X)).all(axis=1))[0]]
        with pytest.raises(ValueError, match=text):
            one(row)
    net.parameters["0.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="theta: the network's parameters are not finite"):
        net.predict(np.ones((2, 3)))


@pytest.mark.parametrize("y", [np.arange(60) % 2, np.arange(60) % 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (5,), (20, 20, 20)])
def test_probabilities_of_classifiers_are_finite_or_an_error(hidden, dtype, y) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    huge = (np.sign(rng.normal(size=(10, 4))) * 0.9 * np.finfo(dtype).max).astype(dtype)
    for activation in ("relu", "tanh"):
        model = fnn.MLPClassifier(hidden, activation=activation, max_iter=3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        for method in (model.predict, model.predict_proba):
            net = model.network_
            if np.isfinite(net.plan.forward(net.theta, huge)).all():
                assert np.isfinite(method(huge)).all()
            else:
                assert activation == "relu" or not hidden
                with pytest.raises(ValueError, match=r"outputs for row [0-9]+ are not finite"):
                    method(huge)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [fnn.Adam, fnn.SGD, fnn.RMSProp])
@pytest.mark.parametrize("way", ["fit", "callbacks", "Trainer", "partial_fit", "batches"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_whose_outputs_overflow_are_a_divergence(way, optimizer, dtype, backend) -> None:
    layers = [*[fnn.Dense(8, "relu")] * 4, fnn.Dense(2)]
    rate = optimizer(1e10 if dtype == "float32" else 1e80)
    net = fnn.Sequential(layers, input_size=3, loss="squared_error", seed=0, dtype=dtype, backend=backend)
    X, y, theta = np.ones((64, 3)), np.ones((64, 2)), net.theta.copy()
    calls = {
        "fit": lambda: net.fit(X, y, epochs=1, optimizer=rate),
        "callbacks": lambda: net.fit(X, y, epochs=1, optimizer=rate, callbacks=[lambda result: None]),
        "Trainer": lambda: list(fnn.Trainer(net, X, y, optimizer=rate).epochs(1)),
        "partial_fit": lambda: net.partial_fit(X, y, optimizer=rate),
        "batches": lambda: net.fit([(X, y)], epochs=1, optimizer=rate),
    }
    with pytest.raises(fnn.DivergenceError, match="the outputs stopped being finite in epoch 1"):
        calls[way]()
    np.testing.assert_array_equal(net.theta, theta)
    assert np.isfinite(net.predict(X)).all()


def test_no_outputs_are_computed_where_they_cannot_overflow(data, monkeypatch) -> None:
    net = network(fnn.Dense(64, "relu"), fnn.LayerNorm(), fnn.Dense(64, "relu"), fnn.Dense(64, "relu"))
    monkeypatch.setattr(fnn.training.overflow.Dataset, "some_rows", None)
    net.fit(*data, epochs=2)


def test_estimators_take_objects_that_are_numbers_as_scikit_learn_does() -> None:
    pytest.importorskip("sklearn")
    model = fnn.MLPClassifier((5,), max_iter=3, random_state=0)
    other = fnn.MLPClassifier((5,), max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X_OF.astype(object), Y_OF)
        other.fit(X_OF, Y_OF)
    np.testing.assert_array_equal(model.predict_proba(X_OF.astype(object)), other.predict_proba(X_OF))
    with pytest.raises(ValueError, match="could not convert string to float"):
        model.predict(np.array([["a", 1.0, 2.0]], dtype=object))
