"""Layout and validation of a plan, and that the tables of facts agree with the C enumerations."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn.losses import LOSSES
from fastnn.lowering import LINE, NARROW, lower, padding_waste
from fastnn.plan import ACTIVATIONS, OPS, OpSpec

CSRC = Path(__file__).resolve().parents[1] / "csrc"  # an installation has none

# 5 -> dense 4 gelu -> batch norm -> relu -> dropout -> layer norm -> dense 3
STACK = [
    OpSpec("standardize", -1, 5, 5, -1, -1, "linear", buffer=0),
    OpSpec("dense", 0, 5, 4, 0, 20, "gelu"),
    OpSpec("batch_norm", 1, 4, 4, 24, 28, "linear", buffer=10, momentum=0.9),
    OpSpec("activation", 2, 4, 4, -1, -1, "relu"),
    OpSpec("dropout", 3, 4, 4, -1, -1, "linear", buffer=19),
    OpSpec("layer_norm", 4, 4, 4, 32, 36, "linear"),
    OpSpec("dense", 5, 4, 3, 40, 52, "linear"),
]


def test_layout_of_a_stack() -> None:
    plan = lower(STACK, 55, "cross_entropy", "float32")
    assert (plan.n_in, plan.n_out, plan.n_parameters, plan.n_buffers) == (5, 3, 55, 20)
    assert [op.saves_pre for op in plan.ops] == [False, True, False, False, False, False, False]  # gelu' takes z
    assert plan.broadest == 5
    assert plan.batch_statistics
    assert plan.gathers
    assert not plan.feature_major
    # ops without a weight work in place, in the gradient of their input
    assert [op.delta_side for op in plan.ops] == [0, 1, 1, 1, 1, 1, 0]
    # outputs, a pre-activation, û and 1/σ of layer norm: 37 elements fill three lines of 16
    assert plan.row_elements == 48 + 2 * 16


def test_places_of_a_linearization() -> None:
    plan = lower(STACK, 55, "cross_entropy", "float64")
    dense, batch_norm, relu, dropout, layer_norm = plan.places[1:6]
    assert (dense.slope, dense.bend) == (18, 22)
    assert (relu.slope >= 0, relu.bend) == (True, -1)
    assert (batch_norm.columns, batch_norm.inv_std, plan.saved_columns) == (0, -1, 12)
    assert layer_norm.inv_std >= 0
    assert (dropout.out, dropout.delta, dropout.slope) == (relu.out, relu.delta, -1)
    widths = {"out": 0, "delta": 0, "slope": 0, "bend": 0, "normalised": 0, "inv_std": 0}
    taken: list[int] = []
    for op, place in zip(STACK, plan.places, strict=True):
        if op.kind == "dropout":
            continue
        for name in widths:
            at = getattr(place, name)
            if at >= 0:
                taken += range(at, at + (1 if name == "inv_std" else op.n_out))
    assert sorted(taken) == list(range(plan.saved_curvature))  # without gaps or overlaps
    assert plan.saved_elements == plan.saved_curvature + 3


def test_shared_parameters_and_inputs() -> None:
    ops = [
        OpSpec("dense", -1, 3, 3, 0, 9, "tanh"),
        OpSpec("dense", 0, 3, 3, 0, 12, "tanh"),  # the weight of the first
        OpSpec("dense", 1, 3, 3, 15, 12, "tanh"),  # the bias of the second
    ]
    plan = lower(ops, 24, "squared_error", "float64")
    assert [op.shared_weight for op in plan.ops] == [True, False, False]
    assert [op.shared_bias for op in plan.ops] == [False, True, False]
    assert [(at.begin, at.end, at.penalised) for at in plan.segments] == [(0, 9, True), (9, 15, False), (15, 24, True)]
    assert not plan.feature_major  # the bias is shared, the weight is not


def test_relu_is_applied_by_the_one_that_reads_it() -> None:
    chain = [OpSpec("dense", -1, 2, 2, 0, -1, "relu"), OpSpec("dense", 0, 2, 2, 4, -1, "relu")]
    assert [op.gated for op in lower(chain, 8, "squared_error", "float32").ops] == [True, False]
    smooth = [chain[0]._replace(activation="tanh"), chain[1]]
    assert not any(op.gated for op in lower(smooth, 8, "squared_error", "float32").ops)


def test_learning_rate_multipliers_cut_theta() -> None:
    ops = [OpSpec("dense", -1, 2, 2, 0, 4, "relu", lr_multiplier=0.5), OpSpec("dense", 0, 2, 1, 6, 8, "linear")]
    plan = lower(ops, 9, "squared_error", "float32")
    assert plan.rated
    assert [at.lr_multiplier for at in plan.segments] == [0.5, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {"kind": "conv"}, "does not fit"),
        (1, {"activation": "cubic"}, "does not fit"),
        (0, {"input": 0}, "expected to read the operation before it, input -1, got 0"),
        (1, {"input": 1}, "expected to read the operation before it, input 0, got 1"),
        (3, {"input": 1}, "expected to read the operation before it, input 2, got 1"),
        (1, {"n_in": 4}, "does not fit"),
        (2, {"n_out": 3}, "does not fit"),
        (1, {"weight": -1}, "does not fit"),
        (6, {"bias": 53}, "does not fit"),
        (6, {"bias": -2}, "does not fit"),
        (2, {"buffer": -1}, "a batch_norm needs an offset in the buffers"),
        (6, {"bias": -1}, "without gaps or overlaps"),
        (5, {"weight": 31}, "without gaps or overlaps"),
        (2, {"weight": 32}, "may share its parameters"),
    ],
)
def test_refused_operations(index: int, change: dict[str, object], message: str) -> None:
    ops = list(STACK)
    ops[index] = ops[index]._replace(**change)
    with pytest.raises(ValueError, match=message):
        lower(ops, 55, "cross_entropy", "float32")


def test_refused_options() -> None:
    with pytest.raises(ValueError, match="at least one operation"):
        lower([], 0, "cross_entropy", "float32")
    with pytest.raises(ValueError, match="unknown name 'hinge'"):
        lower(STACK, 55, "hinge", "float32")
    with pytest.raises(ValueError, match="dtype must be"):
        lower(STACK, 55, "cross_entropy", "float16")
    with pytest.raises(ValueError, match="label_smoothing"):
        lower(STACK, 55, "squared_error", "float32", 0.1)


def test_padding_waste() -> None:
    ops = [OpSpec("dense", -1, 4, 10, 0, 40, "relu"), OpSpec("dense", 0, 10, 3, 50, 80, "linear")]
    waste, first = padding_waste(ops, 16)
    # row-major: 4 x 16 twice; then 10 x 16, the smaller of that and 3 x 16, and 3 x 16
    assert waste == (2 * 64 + 160 + 48 + 48) / (2 * 40 + 3 * 30)
    assert first == 128 / 384
    assert padding_waste([ops[0], ops[1]._replace(n_out=NARROW + 1)], 16) == (0.0, 0.0)
    assert padding_waste(STACK, 16) == (0.0, 0.0)


def listed(header: str, macro: str) -> list[str]:
    """Names of a list of macros, of which C makes an enumeration and a table."""
    rows = re.findall(rf"^{macro}\((\w+), (\w+)(?:, \d)*\)$", (CSRC / header).read_text(encoding="utf-8"), re.MULTILINE)
    assert [code.lower() for code, _ in rows] == [name for _, name in rows]
    return [name for _, name in rows]


@pytest.mark.skipif(not CSRC.exists(), reason="the C sources are not here")
def test_codes_are_those_of_c() -> None:
    assert ["linear", *listed("kernels/activation_list.h", "(?:ACTIVATION|LEAKY)")] == list(ACTIVATIONS)
    assert listed("engine/op_list.h", "OP") == list(OPS)
    assert listed("kernels/loss_list.h", "LOSS") == list(LOSSES)


@pytest.mark.skipif(not CSRC.exists(), reason="the C sources are not here")
def test_facts_of_losses_are_those_of_c() -> None:
    text = (CSRC / "kernels/loss_list.h").read_text(encoding="utf-8")
    facts = {
        name: (elementwise, coupled) for name, elementwise, coupled in re.findall(r"\w+, (\w+), (\d), (\d)\)", text)
    }
    for name, loss in LOSSES.items():  # a loss that classifies counts hits by row
        assert facts[name] == (str(int(not loss.classifies)), str(int(loss.couples_outputs)))


@pytest.mark.skipif(not CSRC.exists(), reason="the C sources are not here")
def test_sizes_are_those_of_c() -> None:
    text = "".join((CSRC / name).read_text(encoding="utf-8") for name in ("base/common.h", "engine/plan.h"))
    sizes = {"ALIGN": LINE, "NARROW": NARROW}
    assert {name: int(re.search(rf"#define FNN_{name} (\d+)", text)[1]) for name in sizes} == sizes  # type: ignore[index]


def test_networks_of_one_architecture_share_their_layout_and_nothing_else() -> None:
    layers = [fnn.Dense(4, "tanh"), fnn.Dense(2)]
    nets = [
        fnn.Sequential(layers, input_size=3, loss="squared_error", dtype=dtype, seed=seed, input_scale=scale)
        for dtype, seed, scale in (("float64", 0, None), ("float64", 1, 0.5), ("float32", 0, 2.0), ("float64", 0, 2.0))
    ]
    X = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
    for net in nets:
        W, b, V, c = (values.astype(np.float64) for values in net.parameters.values())
        expected = np.tanh(X * (net.input_scale or 1.0) @ W + b) @ V + c
        np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5 if net.dtype == np.float32 else 1e-12)
    smooth = [fnn.losses.CrossEntropy(label_smoothing=smoothing) for smoothing in (0.0, 0.2)]
    losses = [fnn.Sequential(layers, input_size=3, loss=loss, seed=0).loss(X, [0, 1, 1, 0]) for loss in smooth]
    assert losses[0] != losses[1]
