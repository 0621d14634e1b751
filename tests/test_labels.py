"""Names of classes as targets of networks: learnt by the first training, then taken and given everywhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fastnn as fnn
from fastnn import curvature

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
CODES = RNG.permutation(np.arange(90) % 3)
NAMES = np.array(["cat", "dog", "eel"])
Y = NAMES[CODES]
X += 2.0 * np.eye(3)[CODES]


def network(seed: int = 0, units: int = 3, loss: str = "cross_entropy", **options: Any) -> fnn.Sequential:
    layers = [fnn.Dense(5, "tanh"), fnn.Dense(units)]
    return fnn.Sequential(layers, input_size=3, loss=loss, dtype="float64", seed=seed, **options)


def named(seed: int = 0) -> fnn.Sequential:
    """A network that knows the names, and the same without them beside it."""
    net = network(seed)
    net.classes_ = NAMES
    return net


@pytest.mark.parametrize(
    "y",
    [
        Y,
        Y.tolist(),
        Y.astype(object),
        Y.astype(np.dtypes.StringDType()),
        pd.Series(Y),
        pd.Series(Y, dtype="string"),
        pd.Series(Y, dtype="category"),
        pd.Categorical(Y, categories=["eel", "dog", "cat"]),
    ],
    ids=["str", "list", "object", "StringDType", "Series", "string", "category", "categories"],
)
def test_a_network_trained_with_names_is_the_one_trained_with_codes(y) -> None:
    by_name, by_code = network(), network()
    history = by_name.fit(X, y, epochs=3, validation_split=0.2, class_weight={"dog": 2.0}, seed=1)
    expected = by_code.fit(X, CODES, epochs=3, validation_split=0.2, class_weight={1: 2.0}, seed=1)
    np.testing.assert_array_equal(by_name.theta, by_code.theta)
    assert list(history["val_loss"]) == list(expected["val_loss"])
    assert by_name.classes_.tolist() == NAMES.tolist()
    assert by_code.classes_ is None
    np.testing.assert_array_equal(by_name.predict(X), NAMES[by_code.predict(X)])
    assert by_name.evaluate(X, y, metrics="f1") == by_code.evaluate(X, CODES, metrics="f1")
    assert by_name.evaluate(X, CODES) == by_code.evaluate(X, CODES)
    assert by_name.evaluate(X, np.eye(3)[CODES]) == by_code.evaluate(X, np.eye(3)[CODES])


def test_one_output_has_two_classes() -> None:
    y = np.where(CODES > 0, "yes", "no")
    by_name, by_code = network(units=1, loss="binary_cross_entropy"), network(units=1, loss="binary_cross_entropy")
    by_name.fit(X, y, epochs=3, class_weight={"yes": 0.5})
    by_code.fit(X, CODES > 0, epochs=3, class_weight={1: 0.5})
    np.testing.assert_array_equal(by_name.theta, by_code.theta)
    assert by_name.classes_.tolist() == ["no", "yes"]
    np.testing.assert_array_equal(by_name.predict(X), np.array(["no", "yes"])[by_code.predict(X)])
    assert by_name.loss(X, y) == by_code.loss(X, CODES > 0)
    assert by_code.predict(X).dtype == np.int64


def test_booleans_and_integers_stay_codes() -> None:
    net = network(units=2)
    net.fit(X, CODES > 0, epochs=1)
    assert net.classes_ is None
    assert net.predict(X).dtype == np.int64
    net = network()
    net.fit(X, pd.Categorical(CODES), epochs=1)
    assert net.classes_ is None


@pytest.mark.parametrize("optimizer", [fnn.LBFGS(max_iter=3), fnn.Newton(max_iter=2), fnn.KFAC(0.1)])
def test_with_solvers(optimizer) -> None:
    by_name, by_code = network(), network()
    for net, y in ((by_name, Y), (by_code, CODES)):
        more = {"epochs": 2} if isinstance(optimizer, fnn.KFAC) else {}
        for _ in range(2):
            net.fit(X, y, optimizer=optimizer, validation_data=(X, y), seed=0, **more)
    np.testing.assert_array_equal(by_name.theta, by_code.theta)
    assert by_name.predict(X)[0] in NAMES


CALLS: dict[str, Callable[[fnn.Sequential, Any], Any]] = {
    "evaluate": lambda net, y: net.evaluate(X, y)["loss"],
    "loss": lambda net, y: net.loss(X, y),
    "gradient": lambda net, y: net.gradient(X, y),
    "gradients": lambda net, y: net.gradients(X, y)["0.weight"],
    "statistics": lambda net, y: net.statistics(X, y).to_dict()["delta_norm"],
    "hessian": lambda net, y: curvature.hessian(net, X, y),
    "ggn": lambda net, y: curvature.ggn(net, X, y),
    "fisher": lambda net, y: curvature.empirical_fisher(net, X, y),
    "gradients of samples": lambda net, y: curvature.per_sample_gradients(net, X, y),
    "trace": lambda net, y: curvature.trace(net, X, y, seed=0),
    "objective": lambda net, y: fnn.Objective(net, X, y, batches=[np.arange(40)]).hessian(net.theta),
    "check": lambda net, y: fnn.check_gradient(net, X[:5], y[:5], n=4, seed=0).error,
    "diagnose": lambda net, y: fnn.diagnose(net, (X, y), (X[:30], y[:30])).errors["dev"],
    "ensemble": lambda net, y: fnn.Ensemble([net, net]).evaluate(X, y)["loss"],
    "laplace": lambda net, y: curvature.Laplace(net, X, y, prior_precision=1.0).log_marginal_likelihood(),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_with_targets_takes_names(call) -> None:
    net = named()
    np.testing.assert_array_equal(CALLS[call](net, Y), CALLS[call](net, CODES))
    with pytest.raises(
        ValueError, match=r"y: expected codes of classes, as the network knows no names, got '(cat|dog|eel)'"
    ):
        CALLS[call](network(), Y)


def test_batches() -> None:
    whole = [(X[:45], Y[:45]), (X[45:], Y[45:])]
    by_name, by_code = network(), network()
    by_name.fit(whole, epochs=2)
    by_code.fit([(X[:45], CODES[:45]), (X[45:], CODES[45:])], epochs=2)
    np.testing.assert_array_equal(by_name.theta, by_code.theta)
    assert by_name.classes_.tolist() == NAMES.tolist()
    # Sorted rows: the first batch has not all classes.
    order = np.argsort(CODES, kind="stable")
    batches = [(X[rows], Y[rows]) for rows in np.split(order, 3)]
    net = network()
    message = r"batch 1: y: expected labels of 3 classes, .*, got 1: 'cat'; name them all with net.classes_ = \[...\]"
    with pytest.raises(ValueError, match=message):
        net.fit(batches, epochs=1)
    assert net.classes_ is None
    net.fit(batches, epochs=1, validation_data=(X, Y), class_weight={"eel": 2.0})  # these rows have them all
    assert net.classes_.tolist() == NAMES.tolist()
    net = named()
    net.fit(batches, epochs=1)
    net = network()
    net.partial_fit(X, Y)
    net.partial_fit(*batches[0])
    assert net.predict(X[:1])[0] in NAMES


def test_resumed() -> None:
    straight, broken = network(), network()
    straight.fit(X, Y, epochs=4, seed=0)
    broken.fit(X, Y, epochs=2, seed=0)
    broken.fit(X, Y, epochs=4, resume=True)
    np.testing.assert_array_equal(straight.theta, broken.theta)


def test_files_copies_and_pickles(tmp_path) -> None:
    net = network()
    net.fit(X, Y, epochs=2)
    net.save(tmp_path / "net.safetensors", training_state=True)
    others = [
        net.copy(),
        pickle.loads(pickle.dumps(net)),
        net.astype("float32"),
        fnn.load(tmp_path / "net.safetensors"),
    ]
    for other in others:
        np.testing.assert_array_equal(other.classes_, NAMES)
        np.testing.assert_array_equal(other.predict(X), net.predict(X))
    others[-1].fit(X, Y, epochs=4, resume=True)
    assert len(others[-1].history) == 4
    ensemble = fnn.Ensemble([net, net])
    ensemble.save(tmp_path / "ensemble.safetensors")
    np.testing.assert_array_equal(fnn.Ensemble.load(tmp_path / "ensemble.safetensors").predict(X), net.predict(X))
    with pytest.raises(ValueError, match="classes of the first"):
        fnn.Ensemble([net, network()])


def test_a_file_with_other_numbers_of_classes_is_refused(tmp_path) -> None:
    net = network()
    net._classes = np.array(["a", "b"])
    net.save(tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match=r"net.safetensors: damaged description: classes_: expected 3 different names, got 2"
    ):
        fnn.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize(("loss", "units"), [("cross_entropy", 3), ("binary_cross_entropy", 1)])
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_predictor(loss, units, backend) -> None:
    net = network(units=units, loss=loss, backend=backend)
    net.classes_ = NAMES[: max(2, units)]
    predictor = net.predictor()
    np.testing.assert_array_equal(predictor(X), net.predict(X))
    one = predictor(X[0])
    assert type(one) is str
    assert one == net.predict(X[:1])[0]
    out = np.empty(90, net.classes_.dtype)
    assert predictor(X, out=out) is out
    np.testing.assert_array_equal(out, net.predict(X))
    with pytest.raises(TypeError, match="out: expected dtype <U3, got int64"):
        predictor(X, out=np.empty(90, np.int64))
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(predictor)
    np.testing.assert_array_equal(net.predictor("decision_function")(X), net.decision_function(X))


def test_sweeps_and_curves() -> None:
    space = {"l2": [0.0, 0.1]}
    by_name = fnn.sweep(network, space, X, Y, cv=3, epochs=3, class_weight={"dog": 2.0}, seed=0)
    by_code = fnn.sweep(network, space, X, CODES, cv=3, epochs=3, class_weight={1: 2.0}, seed=0)
    np.testing.assert_array_equal(by_name.scores, by_code.scores)
    np.testing.assert_array_equal(by_name.best_network.predict(X), NAMES[by_code.best_network.predict(X)])
    assert by_name.select_ensemble(3).predict(X)[0] in NAMES
    result = fnn.sweep(network, {"optimizer": [fnn.LBFGS(max_iter=3)]}, X, Y, validation_data=(X[:20], Y[:20]), seed=0)
    assert result.network(0).classes_.tolist() == NAMES.tolist()
    curves = [fnn.learning_curve(network, X, y, sizes=[0.5, 1.0], epochs=2, seeds=1) for y in (Y, CODES)]
    np.testing.assert_array_equal(curves[0].scores(), curves[1].scores())
    data = (X[:30], pd.Series(Y[:30]))
    found = fnn.validation_curve(network(), "l2", [0.0, 0.1], X, Y, validation_data=data, epochs=2, seeds=1)
    assert np.isfinite(found.scores()).all()
    methods = {"adam": (network, {}), "lbfgs": (network(), {"optimizer": fnn.LBFGS(max_iter=2)})}
    compared = [fnn.compare(methods, X, y, validation_split=0.2, epochs=2, seeds=1) for y in (Y, CODES)]
    assert compared[0].runs[0].validation == compared[1].runs[0].validation


def test_names_that_do_not_fit() -> None:
    net = network()
    before = net.theta.copy()
    with pytest.raises(
        ValueError, match=r"y: expected labels of 3 classes, as the network has outputs for, got 4: 'a', 'b'"
    ):
        net.fit(X[:4], ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"got 2: 'a', 'b'; name them all with net.classes_ = \[...\]"):
        net.fit(X[:4], ["a", "b", "a", "b"])
    with pytest.raises(TypeError, match="y: expected labels that are all str, got nan in row 2"):
        net.fit(X[:3], np.array(["a", "b", np.nan], object))
    with pytest.raises(TypeError, match="y: expected labels that are all str, got <NA> in row 1"):
        net.fit(X[:3], pd.Series(["a", None, "b"], dtype="string"))
    with pytest.raises(
        ValueError, match="validation_data: y: expected labels among 'cat', 'dog', 'eel', got 'fox' in row 1"
    ):
        net.fit(X, Y, validation_data=(X[:2], ["cat", "fox"]))
    with pytest.raises(ValueError, match=r"class_weight: expected classes among .*, got 'fox'"):
        net.fit(X, Y, class_weight={"fox": 1.0})
    with pytest.raises(ValueError, match="class_weight: the class 1 has two weights"):
        net.fit(X, Y, class_weight={"dog": 1.0, 1: 2.0})
    with pytest.raises(
        TypeError, match="class_weight: expected classes as integers, got 'dog'; the network knows no names"
    ):
        net.fit(X, CODES, class_weight={"dog": 1.0})
    assert net.classes_ is None
    np.testing.assert_array_equal(net.theta, before)
    net.fit(X, Y, epochs=1)
    with pytest.raises(ValueError, match="y: expected labels among 'cat', 'dog', 'eel', got 'fox' in row 1"):
        net.evaluate(X[:2], ["cat", "fox"])
    with pytest.raises(TypeError, match="expected numbers"):
        network(loss="squared_error").fit(X, Y)
    with pytest.raises(TypeError, match="expected numbers"):
        network(loss="binary_cross_entropy").fit(X, Y)


def test_classes_are_assigned() -> None:
    net = network()
    net.classes_ = ["eel", "cat", "dog"]  # the order of the outputs
    assert net.evaluate(X, Y) == net.evaluate(X, np.array([1, 2, 0])[CODES])
    net.fit(X, Y, epochs=1)
    assert net.classes_.tolist() == ["eel", "cat", "dog"]
    with pytest.raises(ValueError, match="read-only"):
        net.classes_[0] = "ox"
    with pytest.raises(ValueError, match="classes_: expected 3 different names, got 2: 'a', 'b'"):
        net.classes_ = ["a", "b"]
    with pytest.raises(ValueError, match="classes_: expected 3 different names, got 3"):
        net.classes_ = ["a", "b", "a"]
    for wrong in ([1, 2, 3], "abc", [["a", "b", "c"]]):
        with pytest.raises(TypeError, match="classes_ must be str, one for each class"):
            net.classes_ = wrong
    assert net.classes_.tolist() == ["eel", "cat", "dog"]
    net.classes_ = None
    assert net.predict(X).dtype == np.int64
    with pytest.raises(ValueError, match="classes_: needs rows with one class each, got loss 'squared_error'"):
        network(loss="squared_error").classes_ = NAMES
    with pytest.raises(ValueError, match="got loss 'binary_cross_entropy' with 3 outputs"):
        network(loss="binary_cross_entropy").classes_ = NAMES
    net.classes_ = ["a", "a\0", "b"]  # NumPy's own dtype of str drops a NUL at the end
    assert len(set(net.predict(X).tolist()) | set(net.classes_)) == 3


def test_exports() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    net = network()
    net.fit(X, Y, epochs=3)
    label, _ = ReferenceEvaluator(fnn.to_onnx(net)).run(None, {"X": X})
    np.testing.assert_array_equal(label.astype(str), net.predict(X))
    assert fnn.to_onnx(net).graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.STRING
    np.testing.assert_array_equal(fnn.to_sklearn(net).predict(X), net.predict(X))


def test_pictures() -> None:
    pytest.importorskip("matplotlib")
    net = fnn.Sequential([fnn.Dense(3)], input_size=2, loss="cross_entropy", seed=0)
    net.fit(X[:, :2], Y, epochs=1)
    axes = fnn.plot_decision_boundary(net, X[:, :2], Y, resolution=5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == NAMES.tolist()
    values = fnn.Sequential([fnn.Dense(1)], input_size=2, loss="squared_error", seed=0)
    assert fnn.plot_decision_boundary(values, X[:, :2], resolution=5).get_legend() is None
