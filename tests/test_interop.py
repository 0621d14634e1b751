"""Models to ONNX, torch and scikit-learn, and back: the outputs are the same on the other side."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_diabetes

import fastnn as fnn
from fastnn.plan import ACTIVATIONS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def run_onnx(model, X):
    """Outputs of an ONNX model by name."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"X": X}), strict=True))


def trained(layers, loss, dtype, **options):
    """A network after two epochs, so that batch norm has statistics, with its data."""
    rng = np.random.default_rng(1)
    X = (3.0 * rng.standard_normal((60, 5)) + 1.0).astype(dtype)
    net = fnn.Sequential(layers, input_size=5, loss=loss, dtype=dtype, seed=0, **options)
    y = rng.random((60, net.n_outputs))
    net.fit(X, y / y.sum(axis=1, keepdims=True), epochs=2, batch_size=20, optimizer=fnn.SGD(0.02))
    return net, X


STACK = [
    fnn.Standardize(),
    fnn.Dense(7),
    fnn.BatchNorm(momentum=0.8),
    fnn.Activation("tanh"),
    fnn.Scale(),
    fnn.Dropout(0.3),
    fnn.Dense(6, "relu", bias=False),
    fnn.BatchNorm(1e-3),
    fnn.LayerNorm(),
    fnn.Dense(3),
]


# ------------------------------------------------------------------ ONNX


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_to_onnx(activation, dtype, rng) -> None:
    pytest.importorskip("onnx")
    net = fnn.Sequential(
        [fnn.Dense(8, activation), fnn.Activation(activation), fnn.Dense(2)],
        input_size=8,
        loss="squared_error",
        dtype=dtype,
        seed=0,
    )
    net.parameters["0.weight"] = 3 * np.eye(8, dtype=dtype)
    X = np.r_[rng.standard_normal((40, 8)), np.full((1, 8), 30.0), np.full((1, 8), -30.0), np.zeros((1, 8))]
    out = run_onnx(fnn.to_onnx(net), X.astype(dtype))["variable"]
    assert out.dtype == dtype
    np.testing.assert_allclose(out, net.predict(X.astype(dtype)), rtol=1e-6, atol=1e-5 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_norms_and_inputs_to_onnx(scale, dtype) -> None:
    onnx = pytest.importorskip("onnx")
    net, X = trained(STACK, "cross_entropy", dtype, input_scale=scale)
    model = fnn.to_onnx(net)
    assert {node.op_type for node in model.graph.node} & {"BatchNormalization", "Dropout"} == set()
    out = run_onnx(onnx.load_model_from_string(model.SerializeToString()), X)
    np.testing.assert_allclose(out["probabilities"], net.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(out["label"], net.predict(X))
    assert out["label"].dtype == np.int64


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_layer_norm_in_float64_to_onnx_is_exact_to_rounding(offset, rng) -> None:
    """An epsilon of 1e-5 is 9.9999997e-06 in float32, which shows where the variance is small."""
    pytest.importorskip("onnx")
    net = fnn.Sequential(
        [fnn.LayerNorm(), fnn.Dense(6), fnn.LayerNorm(1e-3), fnn.Dense(4)],
        input_size=8,
        loss="squared_error",
        dtype="float64",
        seed=0,
    )
    net.parameters["0.gamma"] = rng.standard_normal(8)
    net.parameters["2.beta"] = rng.standard_normal(6)
    X = offset + 3e-3 * rng.standard_normal((50, 8))
    out = run_onnx(fnn.to_onnx(net), X)["variable"]
    expected = net.predict(X)
    tolerance = 1e-14 * max(1.0, offset / 3e-3)  # of the rounding of X itself
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "poisson", "huber"])
@pytest.mark.parametrize("units", [1, 3])
def test_heads_to_onnx(loss, units) -> None:
    pytest.importorskip("onnx")
    net, X = trained([fnn.Dense(6, "silu"), fnn.Dense(units)], loss, "float32")
    out = run_onnx(fnn.to_onnx(net), X)
    if loss == "binary_cross_entropy":
        np.testing.assert_allclose(out["probabilities"], net.predict_proba(X), atol=1e-6)
        np.testing.assert_array_equal(out["label"], net.predict(X))
    else:
        np.testing.assert_allclose(out["variable"], net.predict(X).reshape(60, units), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y,
        lambda y: np.array([-4, 8, 30])[y],
        lambda y: np.array([0.0, 1.0, 2.0])[y],
        lambda y: np.array([1.0, 3.0], np.float32)[(y > 0).astype(int)],
        lambda y: np.array([0, 2**63, 2**63 + 2**11], np.uint64)[y],
        lambda y: np.array(["setosa", "versicolor", "virginica"])[y],
        lambda y: np.array(["no", "yes"])[(y > 0).astype(int)],
        lambda y: y == 2,
        lambda y: np.c_[y == 0, y > 0, y == 1].astype(int),
        lambda y: np.full(len(y), "one"),
    ],
    ids=[
        "three",
        "numbers",
        "floats",
        "two floats",
        "large numbers",
        "strings",
        "two strings",
        "bool",
        "several",
        "one",
    ],
)
def test_classifiers_to_onnx(labels, dtype, iris) -> None:
    pytest.importorskip("onnx")
    X, y = iris
    model = fnn.MLPClassifier((9,), max_iter=30, learning_rate_init=0.01, random_state=0, batch_norm=True, dropout=0.1)
    model.fit(X.astype(dtype), labels(y))
    out = run_onnx(fnn.to_onnx(model), X.astype(dtype))
    assert list(out) == ["label", "probabilities"]
    np.testing.assert_allclose(out["probabilities"], model.predict_proba(X.astype(dtype)), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(out["label"], model.predict(X.astype(dtype)))


def test_classes_without_a_counterpart_in_onnx(iris) -> None:
    pytest.importorskip("onnx")
    X, y = iris
    model = fnn.MLPClassifier((5,), max_iter=1).fit(X, y)
    model.classes_ = np.array([b"a", b"b", b"c"])
    with pytest.raises(TypeError, match=r"classes must be numbers, bool or str for ONNX, got \|S1 such as .*b'a'"):
        fnn.to_onnx(model)


def test_names_and_types_are_skl2onnxs(iris) -> None:
    """For scikit-learn's own estimators with the same parameters; where the converter is installed."""
    convert = pytest.importorskip("skl2onnx").to_onnx
    X, y = iris
    X = X.astype(np.float32)
    for labels in (y, y > 0, y.astype(float), np.array(["a", "b", "c"])[y], np.c_[y == 0, y > 0, y == 1].astype(int)):
        theirs = neural_network.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, labels)
        expected = convert(theirs, X[:1], options={id(theirs): {"zipmap": False}})
        found = fnn.to_onnx(fnn.from_sklearn(theirs))
        assert signature(found.graph) == signature(expected.graph)
        for name, values in run_onnx(expected, X).items():
            mine = run_onnx(found, X)[name]
            if name == "label":
                np.testing.assert_array_equal(mine, values)
            else:
                np.testing.assert_allclose(mine, values, atol=1e-6)
    theirs = neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0).fit(X, y)
    assert signature(fnn.to_onnx(fnn.from_sklearn(theirs)).graph) == signature(convert(theirs, X[:1]).graph)


def signature(graph):
    """Names and element types of inputs and outputs."""
    return [(value.name, value.type.tensor_type.elem_type) for value in [*graph.input, *graph.output]]


def test_regressors_to_onnx() -> None:
    pytest.importorskip("onnx")
    X, y = load_diabetes(return_X_y=True)
    X, y = X / X.std(axis=0), y / 50
    for model in (
        fnn.MLPRegressor("poisson", max_iter=20, random_state=0).fit(X, y),
        fnn.MLPRegressor(max_iter=20, random_state=0).fit(X.astype(np.float32), np.c_[y, -y]),
        fnn.MLPRegressor(max_iter=20, random_state=0, standardize_target=True).fit(X, 1e5 + 50 * y),
        fnn.LinearRegression().fit(X, y),
    ):
        inputs = X.astype(model.network_.dtype)
        out = run_onnx(fnn.to_onnx(model), inputs)["variable"]
        expected = model.predict(inputs).reshape(out.shape)
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=2e-6)


def test_what_cannot_go_to_onnx() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match="expected a Sequential or an estimator of fastnn, got str"):
        fnn.to_onnx("net")
    with pytest.raises(ValueError, match="MLPClassifier is not fitted"):
        fnn.to_onnx(fnn.MLPClassifier())


def test_a_missing_package_is_named() -> None:
    program = """
    import sys
    sys.modules.update(dict.fromkeys(("onnx", "torch", "sklearn")))
    import fastnn as fnn
    net = fnn.Sequential([fnn.Dense(2)], input_size=3, loss="cross_entropy")
    for convert in (fnn.to_onnx, fnn.to_torch, fnn.to_sklearn):
        try:
            convert(net)
        except ImportError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    for line, (package, name) in zip(
        lines, {"onnx": "onnx", "torch": "torch", "sklearn": "scikit-learn"}.items(), strict=True
    ):
        assert line.startswith(f"to_{package} needs {name}: pip install ")


# ------------------------------------------------------------------ torch

needs_torch = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("torch") is None, reason="torch is not installed"
)


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_to_torch_and_back(scale, dtype) -> None:
    import torch

    net, X = trained(STACK, "cross_entropy", dtype, input_scale=scale)
    module = fnn.to_torch(net)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    with torch.no_grad():
        Z = module(torch.from_numpy(X)).numpy()
    assert Z.dtype == dtype
    np.testing.assert_allclose(Z, net.decision_function(X), rtol=tolerance, atol=tolerance)
    again = fnn.from_torch(module, loss="cross_entropy")
    np.testing.assert_allclose(again.decision_function(X), Z, rtol=tolerance, atol=tolerance)
    assert again.dtype == net.dtype
    norms = [layer for layer in again.layers if isinstance(layer, fnn.BatchNorm)]
    assert [round(norm.momentum, 12) for norm in norms] == [0.8, 0.9]
    assert norms[1].epsilon == 1e-3


@needs_torch
@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a not in ("leaky_tanh", "sign")])
def test_activations_to_torch_and_back(activation, rng) -> None:
    import torch

    net = fnn.Sequential(
        [fnn.Dense(8, activation), fnn.Dense(2)], input_size=8, loss="squared_error", dtype="float64", seed=0
    )
    X = 5 * rng.standard_normal((50, 8))
    module = fnn.to_torch(net)
    with torch.no_grad():
        Z = module(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(Z, net.decision_function(X), rtol=0, atol=1e-8)
    again = fnn.from_torch(module, loss="squared_error")
    np.testing.assert_array_equal(again.theta, net.theta)
    assert [(layer.units, layer.activation) for layer in again.layers] == [(8, activation), (2, "linear")]


@needs_torch
def test_gradients_are_torchs_on_the_other_side(rng) -> None:
    import torch

    net = fnn.Sequential([fnn.Dense(6, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64")
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    module = fnn.to_torch(net)
    torch.nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y)).backward()
    theirs = np.concatenate([p.grad.numpy().T.ravel() for p in module.parameters()])
    np.testing.assert_allclose(net.gradient(X, y), theirs, atol=1e-14)


@needs_torch
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_torchs_batch_norm_becomes_ours(steps, rng) -> None:
    """Statistics that torch has moved: from (0, 1), with the variance by N - 1."""
    import torch

    nn = torch.nn
    module = nn.Sequential(
        nn.Linear(4, 6, dtype=torch.float64),
        nn.Sequential(nn.BatchNorm1d(6, momentum=0.3, dtype=torch.float64), nn.Identity(), nn.ReLU()),
        nn.Dropout(0.4),
        nn.Linear(6, 3, bias=False, dtype=torch.float64),
        nn.Softmax(dim=1),
    )
    X = torch.from_numpy(rng.standard_normal((30, 4)) + 2)
    for _ in range(steps):
        module(X)
    module.eval()
    net = fnn.from_torch(module)
    with torch.no_grad():
        np.testing.assert_allclose(net.predict_proba(X.numpy()), module(X).numpy(), atol=1e-13)
    assert net.loss_name == "cross_entropy"
    assert net.state[12] == steps
    # and there and back again, to the same statistics
    back = fnn.to_torch(net)
    np.testing.assert_allclose(back[1].running_var.numpy(), module[1][0].running_var.numpy(), rtol=1e-13)
    assert back[1].momentum == pytest.approx(0.3)
    assert int(back[1].num_batches_tracked) == steps


@needs_torch
def test_estimators_to_torch(iris) -> None:
    import torch

    X, y = iris
    model = fnn.MLPClassifier((8,), "elu", max_iter=5, random_state=0).fit(X, y == 1)
    with torch.no_grad():
        Z = fnn.to_torch(model)(torch.from_numpy(X))
    np.testing.assert_allclose(torch.sigmoid(Z)[:, 0].numpy(), model.predict_proba(X)[:, 1], atol=1e-12)


@needs_torch
def test_what_torch_has_not() -> None:
    import torch

    nn = torch.nn

    def net(*layers, **options):
        return fnn.Sequential([*layers, fnn.Dense(2)], input_size=3, loss="squared_error", **options)

    for wrong, message in (
        (net(fnn.Dense(3, "leaky_tanh")), "no counterpart of the activation 'leaky_tanh'"),
        (net(fnn.Standardize(), fnn.LayerNorm()), "scaled input that goes into LayerNorm"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.to_torch(wrong)
    for module, message in (
        (nn.Sequential(nn.Linear(3, 2), nn.Conv1d(1, 1, 1)), r"module\[1\]: there is no counterpart of Conv1d"),
        (nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(2.0)), r"module\[1\]: there is no counterpart of LeakyReLU"),
        (nn.Sequential(nn.Linear(3, 2), nn.GELU("tanh")), "no counterpart of GELU"),
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False)), "expected affine batch norm"),
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None)), "expected affine batch norm"),
        (nn.Sequential(nn.LayerNorm((3, 3))), "expected layer norm of one axis"),
        (nn.Sequential(nn.ReLU()), "expected parameters of float32 or float64"),
        (nn.Sequential(nn.Linear(3, 2).half()), "expected parameters of float32 or float64"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.from_torch(module, loss="squared_error")
    with pytest.raises(ValueError, match="loss: expected the name of a loss"):
        fnn.from_torch(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(TypeError, match=r"must be a torch.nn.Sequential, got Linear"):
        fnn.from_torch(nn.Linear(3, 2))
    assert fnn.from_torch(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())).loss_name == "binary_cross_entropy"
    for module, message in (
        (nn.Sequential(nn.Flatten(0), nn.Linear(3, 2)), r"module\[0\]: there is no counterpart of Flatten"),
        (nn.Sequential(nn.Flatten(1, 2), nn.Linear(3, 2)), r"module\[0\]: there is no counterpart of Flatten"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.Flatten(), nn.Linear(8, 2)),
            r"module\[2\]: expected 4 features, got Linear",
        ),
        (
            nn.Sequential(nn.LayerNorm(4), nn.Flatten(), nn.Linear(8, 2)),
            r"module\[2\]: expected 4 features, got Linear",
        ),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=0)), r"module\[1\]: expected a softmax of each row"),
        (
            nn.Sequential(nn.Identity(), nn.Linear(3, 2), nn.GELU("tanh")),
            r"module\[2\]: there is no counterpart of GELU",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.from_torch(module, loss="cross_entropy")


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_that_torch_flattens(dtype, rng) -> None:
    import torch

    nn = torch.nn
    for first in (
        [nn.Flatten()],
        [nn.Sequential(nn.Flatten(1), nn.Identity())],
        [nn.ReLU(), nn.Dropout(0.1), nn.Flatten(1, -1)],
    ):
        module = nn.Sequential(*first, nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).to(getattr(torch, dtype)).eval()
        images = rng.standard_normal((7, 1, 3, 4)).astype(dtype)
        net = fnn.from_torch(module, loss="cross_entropy")
        assert net.input_size == 12
        with torch.no_grad():
            expected = module(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(net.decision_function(images.reshape(7, 12)), expected, atol=1e-6)


@needs_torch
def test_norms_to_torch_in_float64_are_exact_to_rounding(rng) -> None:
    import torch

    net = fnn.Sequential(
        [fnn.LayerNorm(), fnn.BatchNorm(1e-3), fnn.Dense(4)],
        input_size=8,
        loss="squared_error",
        dtype="float64",
        seed=0,
    )
    X = 3e-3 * rng.standard_normal((50, 8))
    net.fit(X, rng.standard_normal((50, 4)), epochs=2)
    module = fnn.to_torch(net)
    with torch.no_grad():
        Z = module(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(Z, net.decision_function(X), rtol=0, atol=1e-14)
    np.testing.assert_allclose(fnn.from_torch(module, loss="squared_error").decision_function(X), Z, rtol=0, atol=1e-14)


# ------------------------------------------------------------------ scikit-learn


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["three", "two", "several", "values", "counts"])
def test_from_sklearn_and_back(kind, dtype, iris) -> None:
    X, y = iris
    X = X.astype(dtype)
    targets = {
        "three": np.array(["a", "b", "c"])[y],
        "two": y > 0,
        "several": np.c_[y > 0, y == 1].astype(int),
        "values": np.c_[y, -y] * 1.0,
        "counts": y,
    }[kind]
    options = {"hidden_layer_sizes": (7, 5), "activation": "tanh", "max_iter": 5, "random_state": 0}
    if kind in ("values", "counts"):
        loss = "poisson" if kind == "counts" else "squared_error"
        theirs = neural_network.MLPRegressor(loss, **options).fit(X, targets)
    else:
        # scikit-learn 1.7 cannot stop early with labels that are strings
        early = kind == "three" and not sklearn.__version__.startswith("1.7.")
        theirs = neural_network.MLPClassifier(**options, early_stopping=early).fit(X, targets)
    ours = fnn.from_sklearn(theirs)
    back = fnn.to_sklearn(ours)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert type(back) is type(theirs)
    assert back.get_params() == theirs.get_params()
    for model in (ours, back, pickle.loads(pickle.dumps(back))):
        if kind in ("values", "counts"):
            np.testing.assert_allclose(model.predict(X), theirs.predict(X), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(model.predict(X), theirs.predict(X))
            np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=tolerance)
        for name in ("loss_curve_", "n_iter_", "t_", "best_loss_", "validation_scores_", "out_activation_"):
            assert getattr(model, name) == getattr(theirs, name), name
        assert model.coefs_[0].dtype == dtype
    # They go on, and scikit-learn's goes on as before.
    for model in (ours, back, theirs):
        model.set_params(early_stopping=False, warm_start=True, max_iter=2, random_state=1)
        if hasattr(model, "best_loss_") and model.best_loss_ is None:
            model.best_loss_ = np.inf
        model.fit(X, targets)
    for mine, his, expected in zip(ours.coefs_, back.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(his, expected, atol=tolerance)
        np.testing.assert_allclose(mine, expected, atol=1e-3 if dtype == np.float32 else 1e-12)


def test_unfitted_and_other_estimators() -> None:
    ours = fnn.from_sklearn(neural_network.MLPRegressor(alpha=3.0))
    assert isinstance(ours, fnn.MLPRegressor)
    assert ours.alpha == 3.0
    assert not hasattr(ours, "network_")
    with pytest.raises(TypeError, match="expected scikit-learn's MLPClassifier or MLPRegressor, got BernoulliRBM"):
        fnn.from_sklearn(neural_network.BernoulliRBM())
    with pytest.raises(ValueError, match="MLPClassifier is not fitted"):
        fnn.to_sklearn(fnn.MLPClassifier())


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error", "poisson"])
@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_to_sklearn(loss, units, dtype) -> None:
    if loss == "cross_entropy" and units == 1:
        pytest.skip("a softmax has two outputs or more")
    layers = [
        *(fnn.Standardize(), fnn.Dense(7), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.2)),
        *(fnn.BatchNorm(), fnn.Dense(6, "relu", bias=False), fnn.Dense(units)),
    ]
    net, X = trained(layers, loss, dtype, input_scale=2.0)
    model = fnn.to_sklearn(net)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert model.hidden_layer_sizes == (7, 6)
    if loss in ("squared_error", "poisson"):
        np.testing.assert_allclose(model.predict(X), net.predict(X), rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(model.predict(X), net.predict(X))
        np.testing.assert_allclose(model.predict_proba(X), net.predict_proba(X), atol=tolerance)


def test_what_scikit_learn_has_not(iris) -> None:
    def net(*layers, loss="squared_error"):
        return fnn.Sequential([*layers, fnn.Dense(2)], input_size=4, loss=loss)

    for wrong, message in (
        (net(fnn.Dense(3, "gelu")), "one activation .* got gelu, linear"),
        (net(fnn.Dense(3, "relu"), fnn.Dense(3, "tanh")), "one activation .* got relu, tanh, linear"),
        (net(fnn.Dense(3, "relu"), fnn.LayerNorm()), "no counterpart of LayerNorm"),
        (net(fnn.Activation("relu")), "no counterpart of Activation"),
        (net(loss="huber"), "no counterpart of the loss 'huber'"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.to_sklearn(wrong)
    X, y = iris
    for options in ({"solver": fnn.Adam(0.01)}, {"learning_rate": fnn.CosineDecay(0.1, 5)}):
        model = fnn.MLPClassifier((5,), max_iter=5, **options).fit(X, y)
        theirs = fnn.to_sklearn(model)
        assert (theirs.solver, theirs.learning_rate, theirs.max_iter) == ("adam", "constant", 5)
        np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    linear = fnn.to_sklearn(fnn.SoftmaxRegression().fit(X, y))
    assert linear.score(X, y) > 0.9
