"""net.activations, net.gradients, net.statistics: against NumPy by hand and finite differences; bad input; figures."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from curvature_cases import BACKENDS
from network_cases import data, network

import fastnn as fnn
from fastnn import inspection
from fastnn.curvature.risk import EmpiricalRisk
from fastnn.layers import ACTIVATIONS

TOLERANCE = {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}
PNG = b"\x89PNG\r\n\x1a\n"


def all_layers(backend="compiled", dtype="float64", input_scale=None):
    """A network with every kind of layer, trained for an epoch, so that its buffers are not their start."""
    layers = [
        fnn.Standardize(),
        fnn.Dense(7, "gelu", bias_init="normal"),
        fnn.Dropout(0.3),
        fnn.Dense(5, bias=False),
        fnn.BatchNorm(),
        fnn.Activation("tanh"),
        fnn.LayerNorm(),
        fnn.Scale(),
        fnn.Dense(4, "sigmoid"),
        fnn.Dense(3),
    ]
    net = fnn.Sequential(
        layers, input_size=6, loss="cross_entropy", dtype=dtype, seed=0, backend=backend, input_scale=input_scale
    )
    X, y, w = data("cross_entropy", 40)
    net.fit(X.astype(dtype), y, epochs=2, batch_size=20, seed=1, threads=1)
    return net, X.astype(dtype), y, w


def by_hand(net, X, training):
    """Pre-activations and outputs of every layer in float64."""
    found, A = [], X.astype(np.float64) * (net.input_scale or 1.0)
    theta, state = net.theta.astype(np.float64), net.state.astype(np.float64)
    for op in net.ops:
        n = op.n_out
        weight, bias = (theta[at : at + n] if at >= 0 else None for at in (op.weight, op.bias))
        Z = A
        if op.kind == "dense":
            Z = A @ theta[op.weight : op.weight + op.n_in * n].reshape(op.n_in, n) + (0.0 if bias is None else bias)
        elif op.kind == "standardize":
            Z = (A - state[op.buffer : op.buffer + n]) * state[op.buffer + n : op.buffer + 2 * n]
        elif op.kind == "scale":
            Z = A * weight
        elif op.kind == "layer_norm" or (op.kind == "batch_norm" and training):
            axis = 1 if op.kind == "layer_norm" else 0
            mean, variance = A.mean(axis, keepdims=True), A.var(axis, keepdims=True)
            Z = weight * (A - mean) / np.sqrt(variance + op.epsilon) + bias
        elif op.kind == "batch_norm":
            running, steps = state[op.buffer : op.buffer + 2 * n], state[op.buffer + 2 * n]
            mean, variance = np.split(running / (1.0 - op.momentum**steps), 2)
            Z = weight * (A - mean) / np.sqrt(variance + op.epsilon) + bias
        A = fnn.reference.activation_forward(Z, op.activation) if op.facts.activates else Z
        found.append((Z, A))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [False, True])
def test_activations_by_hand(backend, dtype, training):
    net, X, _, _ = all_layers(backend, dtype)
    before = net.theta.copy(), net.state.copy()
    found = net.activations(X, training=training)
    expected = by_hand(net, X, training)
    assert len(found) == len(net.layers) == len(expected)
    for i, (layer, (Z, A)) in enumerate(zip(found, expected, strict=True)):
        assert layer.index == i
        assert layer.pre_activations.dtype == layer.outputs.dtype == net.dtype
        np.testing.assert_allclose(layer.pre_activations, Z, **TOLERANCE[dtype], err_msg=layer.name)
        np.testing.assert_allclose(layer.outputs, A, **TOLERANCE[dtype], err_msg=layer.name)
    if not training:
        np.testing.assert_allclose(found[-1].outputs, net.decision_function(X), **TOLERANCE[dtype])
    np.testing.assert_array_equal(net.theta, before[0])
    np.testing.assert_array_equal(net.state, before[1])


def test_activations_by_index_and_name():
    net, X, _, _ = all_layers()
    found = net.activations(X)
    kinds = "Standardize Dense Dropout Dense BatchNorm Activation LayerNorm Scale Dense Dense"
    assert found.names == tuple(f"{i} {kind}" for i, kind in enumerate(kinds.split()))
    assert all(name in net.summary() for name in found.names)
    assert found["5 Activation"] is found[5]
    assert found[-1] is found[9]
    assert [layer.name for layer in found[1:3]] == ["1 Dense", "2 Dropout"]
    assert found[4].pre_activations is found[4].outputs  # no activation
    assert repr(found).startswith("Activations('0 Standardize' (40, 6), '1 Dense' (40, 7)")
    with pytest.raises(KeyError, match=r"no layer 'dense'; there are '0 Standardize', "):
        found["dense"]
    with pytest.raises(IndexError):
        found[10]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(backend, activation):
    net = network(backend, hidden=activation)
    X, y, _ = data("cross_entropy")
    found = net.activations(X)
    for layer, (Z, A) in zip(found, by_hand(net, X, False), strict=True):
        np.testing.assert_allclose(layer.pre_activations, Z, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(layer.outputs, A, rtol=1e-10, atol=1e-13)
    report = net.statistics(X, y)
    shares = report.figures["dead"][:2], report.figures["saturated"][:2]
    for values in shares:
        assert np.isnan(values).all() if activation == "linear" else ((values >= 0) & (values <= 1)).all()
    if activation.startswith("leaky_"):
        np.testing.assert_array_equal(shares[1], 0.0)  # 0.01 of the gradient passes
    if activation == "sign":
        np.testing.assert_array_equal(shares[0], 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_and_kinds_of_rows(backend, monkeypatch):
    net, _, y, _ = all_layers(backend, "float32", input_scale=1 / 16)
    X = np.random.default_rng(3).integers(0, 17, (40, 6)).astype(np.uint8)
    X[X < 9] = 0
    whole, report = net.activations(X), net.statistics(X, y)
    sparse = pytest.importorskip("scipy.sparse").csr_array(X.astype(np.float32))

    def in_parts(self, *_):
        step = self.n_rows if self.batch_coupled else 7
        return (slice(start, min(start + step, self.n_rows)) for start in range(0, self.n_rows, step))

    monkeypatch.setattr(EmpiricalRisk, "chunks", in_parts)
    for rows in (X, X.astype(np.float32), np.asfortranarray(X.astype(float)), sparse):
        parts, other = net.activations(rows, threads=1), net.statistics(rows, y)
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(b.pre_activations, a.pre_activations, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(b.outputs, a.outputs, rtol=1e-4, atol=1e-5)
        for name, values in report.figures.items():
            np.testing.assert_allclose(other.figures[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        net.activations(X, training=True)[4].outputs, by_hand(net, X, True)[4][1], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend, dtype):
    net, X, y, w = all_layers(backend, dtype)
    options = {"sample_weight": w, "l1": 0.01, "l2": 0.1, "training": True}
    found, flat = net.gradients(X, y, **options), net.gradient(X, y, **options)
    assert {name: values.shape for name, values in found.items()} == {
        name: values.shape for name, values in net.parameters.items()
    }
    np.testing.assert_array_equal(np.concatenate([values.ravel() for values in found.values()]), flat)
    assert all(values.dtype == net.dtype for values in found.values())
    if dtype == "float64":
        for name, place in (("1.weight", (2, 3)), ("4.gamma", (1,)), ("7.scale", (3,)), ("9.bias", (0,))):
            value, step = float(net.parameters[name][place]), 1e-6
            ends = []
            for sign in (1.0, -1.0):
                net.parameters[name][place] = value + sign * step
                ends.append(net.loss(X, y, **options))
            net.parameters[name][place] = value
            np.testing.assert_allclose(found[name][place], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [False, True])
def test_statistics_are_those_of_the_arrays(backend, dtype, training):
    net, X, y, w = all_layers(backend, dtype)
    options = {"l2": 0.1, "training": training}
    report = net.statistics(X, y, sample_weight=w, **options)
    gradient = net.gradients(X, y, sample_weight=w, **options)
    assert report.n_rows == 40
    tolerance = TOLERANCE[dtype]
    for i, layer in enumerate(net.activations(X, training=training)):
        row = {name: float(values[i]) for name, values in report.figures.items()}
        assert row["units"] == net.ops[i].n_out
        for prefix, values in (("", layer.outputs), ("pre_", layer.pre_activations)):
            wide = values.astype(float)
            for name, value in zip(
                ("mean", "std", "min", "max"), (wide.mean(), wide.std(), wide.min(), wide.max()), strict=True
            ):
                np.testing.assert_allclose(row[prefix + name], value, **tolerance)
        np.testing.assert_allclose(
            row["output_norm"], np.sqrt((layer.outputs.astype(float) ** 2).sum(axis=1).mean()), **tolerance
        )
        own = [values for name, values in gradient.items() if name.startswith(f"{i}.")]
        norm = math.sqrt(sum(float((values.astype(float) ** 2).sum()) for values in own)) if own else math.nan
        np.testing.assert_allclose(row["gradient_norm"], norm, **tolerance)
    for name, values in net.parameters.items():
        np.testing.assert_allclose(report.parameter_norms[name], np.linalg.norm(values.astype(float)), **tolerance)
        np.testing.assert_allclose(report.gradient_norms[name], np.linalg.norm(gradient[name]), **tolerance)
    assert report.figures["weight_norm"][4] == report.parameter_norms["4.gamma"]
    assert report.figures["bias_norm"][4] == report.parameter_norms["4.beta"]
    assert report.figures["weight_norm"][7] == report.parameter_norms["7.scale"]
    assert np.isnan(report.figures["bias_norm"][3])  # a dense layer without bias
    assert np.isnan(report.figures["weight_norm"][5])


@pytest.mark.parametrize("backend", BACKENDS)
def test_delta_norms_are_those_of_single_rows(backend):
    net, X, y, _ = all_layers(backend)
    report = net.statistics(X, y)
    own = fnn.curvature.per_sample_gradients(net, X, y)
    for i in (1, 8, 9):  # of a dense layer ∂ℓ/∂b is ∂ℓ/∂z
        at = net.ops[i].bias
        rows = own[:, at : at + net.ops[i].n_out]
        np.testing.assert_allclose(report.figures["delta_norm"][i], np.sqrt((rows**2).sum(axis=1).mean()), rtol=1e-10)
    assert report.figures["delta_norm"][2] == report.figures["delta_norm"][1]  # a dropout
    first = np.empty_like(X)  # ∂ℓ/∂x through the standardisation, by differences
    for j in range(X.shape[1]):
        steps = [X + sign * 1e-6 * np.eye(6)[j] for sign in (1, -1)]
        losses = [[net.loss(row[None], y[k : k + 1]) for k, row in enumerate(rows)] for rows in steps]
        first[:, j] = (np.array(losses[0]) - np.array(losses[1])) / 2e-6
    first /= net.state[6:12]
    np.testing.assert_allclose(report.figures["delta_norm"][0], np.sqrt((first**2).sum(axis=1).mean()), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_dead_and_saturated_units(backend, dtype):
    layers = [fnn.Dense(4, "relu"), fnn.Dense(4, "tanh"), fnn.Dense(4, "sigmoid"), fnn.Dense(4, "leaky_relu")]
    net = fnn.Sequential([*layers, fnn.Dense(1)], input_size=2, loss="squared_error", dtype=dtype, backend=backend)
    for name in net.parameters:
        net.parameters[name][...] = 0.0
    net.parameters["0.bias"][...] = np.array([1.0, -1.0, 0.0, 2.0])  # two are 0 in all rows
    net.parameters["1.bias"][...] = np.array([3.2, 3.4, -9.0, 0.0])
    net.parameters["2.bias"][...] = np.array([6.6, 6.8, -9.0, 40.0])
    net.parameters["3.bias"][...] = np.array([-5.0, -5.0, -5.0, -5.0])
    X = np.ones((5, 2), dtype)
    report = net.statistics(X)
    np.testing.assert_array_equal(report.figures["dead"], [0.5, 0.5, 0.75, 0.0, math.nan])
    np.testing.assert_array_equal(report.figures["saturated"], [0.5, 0.5, 0.75, 0.0, math.nan])
    assert report.dead_units["0 Dense"].tolist() == [False, True, True, False]
    assert report.dead_units["1 Dense"].tolist() == [False, True, True, False]
    assert report.dead_units["2 Dense"].tolist() == [False, True, True, True]
    assert "4 Dense" not in report.dead_units
    net.parameters["0.weight"][...] = np.array([[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    X[0, 0] = -1.0
    report = net.statistics(X)  # the second unit is 1 in four rows of five: no longer dead, saturated in one
    assert report.figures["dead"][0] == 0.25
    assert report.figures["saturated"][0] == 6 / 20


def test_report_without_targets_prints_and_draws(tmp_path, monkeypatch):
    net, X, y, _ = all_layers()
    report, short = net.statistics(X, y), net.statistics(X)
    assert set(report.figures) - set(short.figures) == {"delta_norm", "gradient_norm"}
    assert short.gradient_norms == {}
    for name, values in short.figures.items():
        np.testing.assert_array_equal(report.figures[name], values)
    lines = repr(report).split("\n")
    assert lines[0] == "Statistics of 10 layers on 40 rows"
    assert lines[2].split()[:3] == ["layer", "activation", "units"]
    assert lines[2].endswith("gradient norm")
    assert not repr(short).split("\n")[2].endswith("gradient norm")
    assert lines[4].split()[:3] == ["1", "Dense", "gelu"]
    assert "nan" not in repr(report)
    pandas = pytest.importorskip("pandas")
    table = report.table
    assert isinstance(table, pandas.DataFrame)
    assert list(table.index) == list(report.layers)
    np.testing.assert_array_equal(table["std"], report.figures["std"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(report.table, dict)
    assert report.table["layer"] == list(report.layers)
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # for a file it is not imported
    for statistics, name, lines_of_norms in ((report, "a.png", 4), (short, "b.png", 2)):
        axes = statistics.plot(tmp_path / name, title="layers")
        assert (tmp_path / name).read_bytes().startswith(PNG)
        outputs, _, norms = axes
        assert outputs.get_title() == "layers"
        assert norms.get_yscale() == "log"
        assert len(norms.lines) == lines_of_norms
        assert [text.get_text() for text in norms.get_xticklabels()] == list(report.layers)


def test_rows_of_weight_0_do_not_count_with_batch_statistics():
    net, X, y, w = all_layers()
    w[:20] = 0.0
    report, rest = (
        net.statistics(*rows, training=True)
        for rows in (
            (
                X,
                y,
            ),
            (X[20:], y[20:]),
        )
    )
    weighted = net.statistics(X, y, sample_weight=w, training=True)
    assert (report.n_rows, rest.n_rows, weighted.n_rows) == (40, 20, 20)
    for name in ("mean", "std", "delta_norm"):
        np.testing.assert_allclose(weighted.figures[name], rest.figures[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_refused(backend, monkeypatch):
    net, X, y, w = all_layers(backend)
    before = net.theta.copy(), net.state.copy()
    calls = {
        "activations": lambda **options: net.activations(**{"X": X, **options}),
        "statistics": lambda **options: net.statistics(**{"X": X, "y": y, **options}),
        "gradients": lambda **options: net.gradients(**{"X": X, "y": y, **options}),
    }
    for name, call in calls.items():
        for match, options in (
            ("X: expected at least one row", {"X": X[:0], "y": y[:0]}),
            ("X: expected 6 features", {"X": X[:, :4]}),
            ("training must be True or False", {"training": 1}),
            ("threads", {"threads": 0}),
            ("at least 2 rows", {"X": X[:1], "y": y[:1], "training": True}),
        ):
            if name == "activations":
                options = {key: value for key, value in options.items() if key != "y"}
            with pytest.raises((ValueError, TypeError), match=match):
                call(**options)
    with pytest.raises(ValueError, match="y: expected"):
        net.statistics(X, y[:-1])
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'sample_weights'.*did you mean 'sample_weight'"):
        net.statistics(X, y, sample_weights=w)
    for name, value in (("sample_weight", w), ("l1", 0.1), ("l2", 0.1)):
        with pytest.raises(ValueError, match=f"{name}: expected none without targets y"):
            net.statistics(X, **{name: value})
    np.testing.assert_array_equal(net.theta, before[0])
    np.testing.assert_array_equal(net.state, before[1])
    monkeypatch.setattr("fastnn.linalg.memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"activations: 40 x \d+ values of float64 are [\d,]+ bytes"):
        net.activations(X)
    net.theta[3] = math.nan
    with pytest.raises(ValueError, match=r"statistics: the parameters are not finite: theta\[3\] is nan"):
        net.statistics(X)


def test_module_names():
    assert dir(inspection) == sorted(inspection.__all__)
