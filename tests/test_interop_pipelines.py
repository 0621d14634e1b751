"""Pipelines of scikit-learn to ONNX, torch and scikit-learn: the outputs are those of the Pipeline itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import neural_network, preprocessing
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

import fastnn as fnn

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X has feature names"),
]

SCALERS = [
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.StandardScaler(with_std=False),
    preprocessing.MinMaxScaler((-1, 2), clip=True),
    preprocessing.MinMaxScaler(),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    preprocessing.RobustScaler(with_centering=False),
    preprocessing.RobustScaler(with_scaling=False),
]


def run_onnx(model, X):
    """Outputs of an ONNX model by name."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"X": X}), strict=True))


def assert_same(pipeline, X, tolerance) -> None:
    """ONNX Runtime's labels and probabilities are the Pipeline's."""
    out = run_onnx(fnn.to_onnx(pipeline), np.asarray(X))
    assert list(out) == ["label", "probabilities"]
    np.testing.assert_allclose(out["probabilities"], pipeline.predict_proba(X), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(out["label"], pipeline.predict(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_scalers_to_onnx(scaler, dtype, iris) -> None:
    pytest.importorskip("onnx")
    X, y = iris
    X = (X + np.array([0, 10, 50, 0])).astype(dtype)
    model = fnn.MLPClassifier((9,), max_iter=20, learning_rate_init=0.01, random_state=0)
    pipeline = make_pipeline(scaler, model).fit(X[::2], np.array([0.0, 1.0, 2.0])[y[::2]])
    assert model.network_.dtype == dtype
    beyond = np.r_[X, 2 * X[:10]]  # where clipping counts
    assert_same(pipeline, beyond.astype(dtype), 5e-6 if dtype == np.float32 else 1e-12)


def test_scalers_of_large_values_in_float32_to_onnx(iris) -> None:
    """The graph rounds as the scaler does: statistics are not rounded where the scaler's are not."""
    pytest.importorskip("onnx")
    X, y = iris
    large = (X + 1e5).astype(np.float32)
    for scaler in (preprocessing.StandardScaler(), preprocessing.RobustScaler(), preprocessing.MinMaxScaler()):
        pipeline = make_pipeline(scaler, fnn.SoftmaxRegression()).fit(large, y)
        assert_same(pipeline, large, 1e-5)


@pytest.mark.parametrize("labels", ["floats", "bool", "strings"])
def test_pipelines_of_frames_to_onnx(labels, iris) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("onnx")
    X, y = iris
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    targets = {"floats": y.astype(float), "bool": y > 0, "strings": np.array(["x", "y", "z"])[y]}[labels]
    inner = Pipeline([("robust", preprocessing.RobustScaler()), ("nothing", "passthrough")])
    pipeline = make_pipeline(inner, None, preprocessing.MaxAbsScaler(), fnn.MLPClassifier((5,), max_iter=5))
    pipeline.set_output(transform="pandas").fit(frame, targets)
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert_same(pipeline, frame, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("numeric", ["robust", "standard", "none"])
def test_table_encoders_of_numbers_to_onnx(numeric, dtype, iris) -> None:
    """With a constant column, missing values, and a column that is missing altogether in a half."""
    pytest.importorskip("onnx")
    X, y = iris
    rng = np.random.default_rng(0)
    X = np.c_[X[:, :2], np.full(len(X), 7.0), 1e6 + X[:, 2:]]
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 2] = 7.0
    encoder = fnn.TableEncoder(numeric=numeric, dtype=dtype)
    model = fnn.MLPClassifier((9,), max_iter=20, learning_rate_init=0.01, random_state=0)
    pipeline = make_pipeline(encoder, model).fit(X, y)
    assert len(encoder.get_feature_names_out()) == 8
    graph = fnn.to_onnx(pipeline).graph
    assert graph.input[0].type.tensor_type.elem_type == 11  # float64: what the encoder computes in
    assert_same(pipeline, X, 1e-6 if dtype == "float32" else 1e-12)
    assert_same(make_pipeline(preprocessing.MinMaxScaler(), fnn.TableEncoder(dtype=dtype), model).fit(X, y), X, 1e-6)


def test_regressions_and_searches_to_onnx() -> None:
    pytest.importorskip("onnx")
    X, y = load_diabetes(return_X_y=True)
    model = fnn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=10, random_state=0, standardize_target=True)
    pipeline = make_pipeline(preprocessing.StandardScaler(), model)
    search = GridSearchCV(pipeline, {"mlpregressor__alpha": [0.1, 1.0]}, cv=2).fit(X, y)
    for fitted in (pipeline.fit(X, y), search, make_pipeline(preprocessing.MaxAbsScaler(), search).fit(X, y)):
        out = run_onnx(fnn.to_onnx(fitted), X)["variable"]
        np.testing.assert_allclose(out[:, 0], fitted.predict(X), rtol=1e-12)


def test_steps_that_do_not_go(iris) -> None:
    pytest.importorskip("onnx")
    X, y = iris
    model = fnn.MLPClassifier((5,), max_iter=2)
    text = np.c_[X.astype(object), np.array(["a", "b", "c"])[y]]
    known = "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, TableEncoder"
    normal = make_pipeline(preprocessing.Normalizer(), model).fit(X, y)
    with pytest.raises(TypeError, match=rf"step 'normalizer' of the Pipeline: to_onnx takes {known}, got Normalizer"):
        fnn.to_onnx(normal)
    theirs = make_pipeline(preprocessing.StandardScaler(), neural_network.MLPClassifier((5,), max_iter=2)).fit(X, y)
    with pytest.raises(TypeError, match=r"step 'mlpclassifier' .* expected an estimator of fastnn, got MLPClassifier"):
        fnn.to_onnx(theirs)
    table = make_pipeline(fnn.TableEncoder(), model).fit(text, y)
    with pytest.raises(ValueError, match=r"step 'tableencoder' .* columns of numbers .* got 'x4', encoded as OneHot"):
        fnn.to_onnx(table)
    quantile = make_pipeline(fnn.TableEncoder(numeric="quantile"), model).fit(X, y)
    with pytest.raises(ValueError, match="got 'x0', scaled by quantiles"):
        fnn.to_onnx(quantile)
    with pytest.raises(ValueError, match="not fitted"):
        fnn.to_onnx(make_pipeline(preprocessing.StandardScaler(), fnn.MLPClassifier()))


def test_pipelines_from_and_to_sklearn(iris) -> None:
    X, y = iris
    labels = np.array([0.0, 1.0, 2.0])[y]
    ours = make_pipeline(fnn.TableEncoder(dtype="float64"), fnn.MLPClassifier((5,), max_iter=5)).fit(X, labels)
    theirs = fnn.to_sklearn(ours)
    assert type(theirs[-1]) is neural_network.MLPClassifier
    assert theirs[0] is not ours[0]
    for model in (theirs, fnn.from_sklearn(theirs)):
        predicted = model.predict(X)
        assert predicted.dtype == np.float64
        np.testing.assert_array_equal(predicted, ours.predict(X))
        np.testing.assert_allclose(model.predict_proba(X), ours.predict_proba(X), atol=1e-12)
    assert type(ours[-1]) is fnn.MLPClassifier
    X, y = load_diabetes(return_X_y=True)
    regressor = fnn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=10, random_state=0, standardize_target=True)
    regressor.fit(X, 1e5 + y)
    np.testing.assert_allclose(fnn.to_sklearn(regressor).predict(X), regressor.predict(X), rtol=1e-12)


@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_pipelines_to_torch(scaler, iris) -> None:
    torch = pytest.importorskip("torch")
    X, y = iris
    pipeline = make_pipeline(scaler, fnn.SoftmaxRegression()).fit(X, y)
    if getattr(scaler, "clip", False):
        with pytest.raises(ValueError, match="torch has no counterpart of a scaler with clip=True"):
            fnn.to_torch(pipeline)
        return
    with torch.no_grad():
        Z = fnn.to_torch(pipeline)(torch.from_numpy(X))
    np.testing.assert_allclose(torch.softmax(Z, 1).numpy(), pipeline.predict_proba(X), atol=1e-12)
    table = make_pipeline(fnn.TableEncoder(), fnn.SoftmaxRegression()).fit(X, y)
    with pytest.raises(ValueError, match="torch has no counterpart of TableEncoder"):
        fnn.to_torch(table)
