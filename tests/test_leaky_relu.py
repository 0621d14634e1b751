"""leaky_relu with a slope of one's choice, from the description to the kernels, files and other formats."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import curvature
from fastnn.plan import OpSpec

pytestmark = pytest.mark.every_simd

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(300, 5)), RNG.integers(0, 3, 300)
SLOPE = 0.3


def network(backend: str = "compiled", dtype: str = "float64", widths: tuple[int, int] = (7, 6)) -> fnn.Sequential:
    first, second = widths
    layers = [fnn.Dense(first, fnn.LeakyReLU(SLOPE)), fnn.Dense(second), fnn.LeakyReLU(0.05), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=5, loss="cross_entropy", dtype=dtype, seed=0, backend=backend)


def by_hand(net: fnn.Sequential, X: np.ndarray) -> np.ndarray:
    p = net.parameters
    Z = X @ p["0.weight"] + p["0.bias"]
    Z = np.where(Z > 0, Z, SLOPE * Z) @ p["1.weight"] + p["1.bias"]
    return np.where(Z > 0, Z, 0.05 * Z) @ p["3.weight"] + p["3.bias"]


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("n", [1, 300])
def test_outputs(backend, n) -> None:
    net = network(backend)
    np.testing.assert_allclose(net.decision_function(X[:n]), by_hand(net, X[:n]), rtol=1e-12)
    np.testing.assert_array_equal(net.predictor("decision_function")(X[0]), net.decision_function(X[:1])[0])


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_derivatives(backend) -> None:
    net = network(backend)
    assert fnn.check_gradient(net, X[:20], Y[:20]).ok
    assert fnn.check_hessian(net, X[:20], Y[:20]).ok


@pytest.mark.parametrize(("rows", "widths"), [(300, (7, 6)), (300, (40, 33)), (20, (7, 6))])  # by feature and by row
def test_compiled_and_reference_agree(rows, widths) -> None:
    compiled, reference = network(widths=widths), network("reference", widths=widths)
    data = X[:rows], Y[:rows]
    np.testing.assert_allclose(compiled.gradient(*data), reference.gradient(*data), rtol=1e-10, atol=1e-14)
    for matrix in (curvature.hessian, curvature.ggn, curvature.empirical_fisher):
        np.testing.assert_allclose(matrix(compiled, *data), matrix(reference, *data), rtol=1e-8, atol=1e-12)
    for net in (compiled, reference):
        net.fit(*data, epochs=3, batch_size=rows, seed=0)
    np.testing.assert_allclose(compiled.theta, reference.theta, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_usual_slope_is_leaky_relu(backend, dtype) -> None:
    nets = []
    for activation in ("leaky_relu", fnn.LeakyReLU()):
        layers = [fnn.Dense(6, activation), fnn.Dense(3)]
        options = {"loss": "cross_entropy", "dtype": dtype, "seed": 0, "backend": backend}
        nets.append(fnn.Sequential(layers, input_size=5, **options))
        nets[-1].fit(X, Y, epochs=2)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_files_copies_and_text(tmp_path) -> None:
    net = network()
    net.save(tmp_path / "net.safetensors")
    for other in (fnn.load(tmp_path / "net.safetensors"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert other.layers == net.layers
        np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    np.testing.assert_allclose(net.astype("float32").decision_function(X), by_hand(net, X), rtol=1e-4, atol=1e-5)
    lines = net.summary().splitlines()
    assert "0 Dense" in lines[3]
    assert "leaky_relu(0.3)" in lines[3]
    assert "2 LeakyReLU" in lines[5]
    assert "leaky_relu(0.05)" in lines[5]
    assert "leaky_relu(0.3)" in str(net.statistics(X))
    assert net.ops[0].negative_slope == SLOPE
    assert repr(net.layers[0]).startswith("Dense(units=7, activation=LeakyReLU(negative_slope=0.3)")


def test_refused() -> None:
    for slope in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="negative_slope must be a finite number > 0 and <= 1, got"):
            fnn.LeakyReLU(slope)
    with pytest.raises(TypeError, match="negative_slope must be"):
        fnn.LeakyReLU("0.1")
    with pytest.raises(TypeError, match=r"activation must be a name \(str\) or LeakyReLU\(negative_slope\), got 0.2"):
        fnn.Dense(3, 0.2)
    op = OpSpec("dense", -1, 2, 2, 0, 4, "leaky_relu", negative_slope=0.0)
    from fastnn.reference.plan import Plan

    with pytest.raises(ValueError, match=r"ops\[0\]: expected a negative_slope above 0, got 0.0"):
        Plan((op,), 6, "squared_error", "float64")


def test_onnx() -> None:
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    net = network()
    _, probabilities = ReferenceEvaluator(fnn.to_onnx(net)).run(None, {"X": X})
    np.testing.assert_allclose(probabilities, net.predict_proba(X), rtol=1e-10)


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    net = network()
    module = fnn.to_torch(net)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(X)).numpy(), by_hand(net, X), rtol=1e-12)
    back = fnn.from_torch(module, loss="cross_entropy")
    assert back.layers[0].activation == fnn.LeakyReLU(SLOPE)
    np.testing.assert_array_equal(back.decision_function(X), net.decision_function(X))


def test_sweeps_take_slopes(tmp_path) -> None:
    def model(activation: object, seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(4, activation), fnn.Dense(3)]
        return fnn.Sequential(layers, input_size=5, loss="cross_entropy", seed=seed)

    space = {"activation": ["relu", fnn.LeakyReLU(0.1), fnn.LeakyReLU(0.5)]}
    result = fnn.sweep(model, space, X, Y, validation_split=0.3, epochs=2, seed=0)
    result.save(tmp_path / "sweep.safetensors")
    loaded = fnn.SweepResult.load(tmp_path / "sweep.safetensors")
    assert loaded.network(1).layers[0].activation == fnn.LeakyReLU(0.1)
    np.testing.assert_array_equal(loaded.network(2).predict(X), result.network(2).predict(X))
