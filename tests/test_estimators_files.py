"""Pickles and safe files of estimators."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from estimator_cases import ESTIMATORS, quick

import fastnn as fnn

# ------------------------------------------------------------------ files


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pickle_and_joblib(estimator, iris) -> None:
    X, y = iris
    options = {"random_state": 0, "max_iter": 1000} if "random_state" in estimator().get_params() else {}
    model = estimator(**options).fit(X, y)
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(buffer)):
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert np.shares_memory(again.coefs_[0], again.network_.theta)


def test_a_memory_mapped_estimator_predicts(iris, tmp_path) -> None:
    X, y = iris
    model = quick(batch_norm=True, batch_size=50).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not mapped.network_.theta.flags.writeable
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (
            lambda y: np.array(["a", "b", "c"], dtype=object)[y],
            {"optimizer": fnn.AdamW(fnn.CosineDecay(0.05, 40)), "learning_rate_init": 0.001},
        ),
        (lambda y: np.array(["a", "b", "c"])[y], {"class_weight": {"a": 2.0, "b": 1, "c": 1}, "callbacks": [print]}),
        (lambda y: y == 1, {"early_stopping": True, "n_iter_no_change": np.inf, "max_iter": 3}),
        (lambda y: np.c_[y == 1, y > 0].astype(int), {"batch_norm": True, "hidden_layer_sizes": np.array([8])}),
    ],
    ids=["objects", "strings", "bool", "several"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_safe_file(labels, options, iris, tmp_path, capsys) -> None:
    X, y = iris
    model = quick().set_params(**options).fit(X, labels(y))
    model.save(tmp_path / "model.safetensors")
    again = fnn.MLPClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.predict_log_proba(X), model.predict_log_proba(X))
    assert again.classes_.dtype == model.classes_.dtype
    for name in ("loss_curve_", "n_iter_", "t_", "best_loss_", "validation_scores_", "out_activation_", "n_layers_"):
        assert getattr(again, name) == getattr(model, name), name
    kept = again.get_params()
    for name, value in model.get_params().items():
        if name == "hidden_layer_sizes":
            assert tuple(kept[name]) == tuple(value)
        elif name != "callbacks":
            assert kept[name] == value, name
    assert kept["callbacks"] == ()
    again.set_params(warm_start=True, max_iter=2).fit(X, labels(y))
    assert isinstance(fnn.load(tmp_path / "model.safetensors"), fnn.Sequential)
    with pytest.raises(ValueError, match="expected MLPRegressor, got 'MLPClassifier'"):
        fnn.MLPRegressor.load(tmp_path / "model.safetensors")


def test_the_safe_file_of_regressions(diabetes, tmp_path) -> None:
    X, y = diabetes
    for model in (quick(fnn.MLPRegressor, alpha=1.0, loss="huber"), fnn.LinearRegression()):
        model.fit(X, y).save(tmp_path / "model.safetensors")
        again = type(model).load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.singular_, model.singular_)
    assert again.rank_ == 10


def test_a_file_that_was_edited_is_refused(iris, tmp_path) -> None:
    X, y = iris
    model = quick().fit(X, y)
    model.save(tmp_path / "whole")
    whole = fnn.read_metadata(tmp_path / "whole")
    fnn.io.save(model.network_, tmp_path / "a", metadata={**whole, "params": {"alpha": -1}})
    fnn.io.save(
        model.network_,
        tmp_path / "b",
        metadata={"estimator": "MLPClassifier", "params": {}, "fitted": {"n_features_in_": 9, "n_outputs_": 3}},
    )
    fnn.io.save(
        model.network_,
        tmp_path / "c",
        metadata={
            "estimator": "MLPClassifier",
            "params": {},
            "fitted": {"n_features_in_": 4, "n_outputs_": 3, "fit": 1},
        },
    )
    model.network_.save(tmp_path / "d")
    classes = {"__array__": ["<i8", [1], [0]]}
    fitted = {"n_features_in_": 4, "n_outputs_": 3, "_kind": "multiclass", "classes_": classes}
    fnn.io.save(model.network_, tmp_path / "f", metadata={"estimator": "MLPClassifier", "params": {}, "fitted": fitted})
    for name, message in (
        ("a", "alpha"),
        ("b", "n_features_in_ cannot be 9: expected an integer from 4 to 4"),
        ("c", "fit"),
        ("d", "expected MLPClassifier, got None"),
        ("f", "classes"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.MLPClassifier.load(tmp_path / name)
    model.classes_ = np.array([1, "two", None], dtype=object)
    with pytest.raises(TypeError, match="expected an array of numbers or str"):
        model.save(tmp_path / "e")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes_", {"a": 0, "b": 1, "c": 2}),
        ("classes_", ["a", "b", "c"]),
        ("classes_", {"__array__": ["<i8", [3, 1], [0, 1, 2]]}),
        ("feature_names_in_", {"__array__": ["O", [1], ["a"]]}),
        ("n_iter_", "3"),
        ("t_", None),
        ("loss_", [0.5]),
        ("loss_curve_", 0.5),
        ("loss_curve_", ["0.5"]),
        ("best_loss_", "0.5"),
        ("validation_scores_", {"__float__": "nan"}),
        ("out_activation_", "tanh"),
        ("_kind", "continuous"),
        ("_kind", ["multiclass"]),
        ("_sparse_labels", 1),
    ],
)
def test_attributes_of_other_types_are_refused(name, value, iris, tmp_path) -> None:
    model = quick().fit(*iris)
    model.save(tmp_path / "whole")
    metadata = fnn.load(tmp_path / "whole", return_metadata=True)[1]
    metadata["fitted"][name] = value
    fnn.io.save(model.network_, tmp_path / "edited", metadata=metadata)
    with pytest.raises(ValueError, match=rf"damaged description of the estimator: {name}(\[0\])? cannot be"):
        fnn.MLPClassifier.load(tmp_path / "edited")


# ------------------------------------------------------------------ earlier files, with other forms of arrays

GOLDEN = Path(__file__).with_name("golden")
EARLIER = json.loads((GOLDEN / "estimators_0.1.json").read_text(encoding="utf-8"))  # make_estimators.py beside it


@pytest.mark.parametrize("name", EARLIER["models"])
def test_earlier_files_load(name, tmp_path) -> None:
    expected = EARLIER["models"][name]
    estimator = getattr(fnn, expected["class"])
    model = estimator.load(GOLDEN / f"estimator_{name}_0.1.safetensors")
    predicted = model.predict(np.array(EARLIER["X"]))
    if "classes" in expected:
        assert predicted.tolist() == expected["predicted"]
        assert model.classes_.tolist() == expected["classes"]
        assert model.classes_.dtype.str == expected["dtype"]
    else:
        np.testing.assert_allclose(predicted, expected["predicted"], rtol=1e-12)
    if "n_iter_no_change" in model.get_params() and name != "softmax":
        assert model.n_iter_no_change == np.inf
    if name == "names":
        assert model.optimizer == fnn.AdamW(fnn.CosineDecay(0.05, 40))
        assert model.class_weight == {"a": 2.0, "b": 1.0}
    if name == "linear":
        assert model.singular_.shape == (3,)
    model.save(tmp_path / "again")
    np.testing.assert_array_equal(estimator.load(tmp_path / "again").predict(np.array(EARLIER["X"])), predicted)


def test_earlier_numbers_and_names_load(iris, tmp_path) -> None:
    X, y = iris
    model = quick().fit(X, y)
    model.save(tmp_path / "whole")
    metadata = fnn.load(tmp_path / "whole", return_metadata=True)[1]
    metadata["fitted"] |= {
        "loss_": {"number": "nan"},
        "loss_curve_": [0.5, {"number": "nan"}],
        "best_loss_": {"number": "inf"},
        "feature_names_in_": {"dtype": "O", "items": list("abcd")},
    }
    fnn.io.save(model.network_, tmp_path / "earlier", metadata=metadata)
    again = fnn.MLPClassifier.load(tmp_path / "earlier")
    np.testing.assert_array_equal([again.loss_, *again.loss_curve_, again.best_loss_], [np.nan, 0.5, np.nan, np.inf])
    assert again.feature_names_in_.tolist() == list("abcd")
    assert again.feature_names_in_.dtype == object
