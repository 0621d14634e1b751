"""Calls of the public kernels with arguments of every kind: each is refused, or agrees with the reference.

A call's arrays lie in one block of memory, of any layout, alignment, byte order and overlap; the reference gets a copy
of the block. Both must return the same, or refuse with the same words, and the compiled kernel must not write a byte
outside the arrays that it changes. FASTNN_FUZZ=seconds goes on for longer than the suite does.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interruption import Alarm, alarm, needs_alarm
from other_sets import examples

import fastnn as fnn
from fastnn import reference
from fastnn.plan import ROW_AUGMENTATIONS
from fastnn.reference import arguments

pytestmark = pytest.mark.every_simd

BLOCK = 1 << 17
NAMES = [name for name in reference.__all__ if name not in ("ACTIVATIONS", "SAVES_OUTPUT")]
POSITIVE = {"sample_weight", "weight", "variance", "s", "v", "v_max", "mean", "P", "inv_std"}
LENGTHS = [0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]
LAYOUTS = ["C", "C", "C", "F", "gaps", "reversed", "packed", "unaligned", "broadcast", "list", "read-only"]
SPOILT = ["None", "dtype", "byte order", "longer", "shorter", "axis", "masked", "overlap", "same", "empty", "scalar"]
NUMBERS = [0.0, 0.5, 0.9, 1e-3, 2.0, 1.0]
ODD_NUMBERS = [
    float("nan"),
    float("inf"),
    -1.0,
    -0.0,
    1e300,
    "1",
    None,
    True,
    10**400,
    1j,
    np.float32(0.25),
    np.ones(1),
    2,
]
ODD_INTEGERS = [
    0,
    -1,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    2**64,
    -(2**63) - 1,
    1.0,
    None,
    "1",
    True,
    np.int8(3),
    np.ones(2),
]


class Memory:
    """Arrays in one block; `copy` has the same arrays in another one."""

    def __init__(self) -> None:
        raw = np.zeros(2 * BLOCK + 64, np.uint8)
        start = -raw.ctypes.data % 64
        self.block = raw[start : start + 2 * BLOCK]
        self.end = 64
        self.views: dict[str, tuple[tuple[int, ...], Any, int, tuple[int, ...], str]] = {}

    def view(self, name: str, block: np.ndarray) -> Any:
        shape, dtype, offset, strides, kind = self.views[name]
        array = np.ndarray(shape, dtype, block.data, offset, strides)
        if kind == "list":
            return array.tolist()
        if kind == "masked":
            return np.ma.masked_array(array, mask=np.zeros(shape, bool))
        if kind in ("read-only", "broadcast"):
            array.flags.writeable = False
        return array

    def place(self, name: str, shape: tuple[int, ...], dtype: Any, layout: str, over: str | None = None) -> None:
        """Lay out an array behind the others, or `over` the beginning of one of them."""
        dtype = np.dtype(dtype)
        item = dtype.itemsize + (3 if layout == "packed" else 0)
        order = range(len(shape)) if layout == "F" else reversed(range(len(shape)))
        strides, step = [0] * len(shape), item * (2 if layout == "gaps" else 1)
        for axis in order:
            strides[axis] = step
            step *= max(shape[axis], 1)
        size = step
        offset = self.end + (1 if layout == "unaligned" else 0)
        if over is not None:
            offset = self.views[over][2]
            if layout == "gaps":
                offset += item
            if size + offset > 2 * BLOCK:
                raise MemoryError
        elif size + offset > BLOCK:
            raise MemoryError
        else:
            self.end = -(-(offset + size) // 64) * 64 + 64
        if layout == "broadcast":
            strides[0] = 0
        if layout == "reversed" and shape and shape[0]:
            offset += (shape[0] - 1) * strides[0]
            strides[0] = -strides[0]
        self.views[name] = (shape, dtype, offset, tuple(strides), layout)


class Caller:
    """Draws the arguments of a kernel by its contract, and spoils some of them."""

    def __init__(self, name: str, pick: Callable[[Sequence[Any]], Any]) -> None:
        self.name, self.pick = name, pick
        self.contract = getattr(reference, name).contract
        self.memory = Memory()
        self.lengths: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self.dtype = self.pick([np.float32, np.float64])
        self.spoil = self.pick([None, None, None, *(name for name, _ in self.contract.checks)])
        self.rng = np.random.default_rng(self.pick(range(99)))

    def length(self, name: int | str) -> int:
        if isinstance(name, int):
            return name
        if name not in self.lengths:
            self.lengths[name] = self.pick(LENGTHS)
        return self.lengths[name]

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = None, layouts: Any = None) -> None:
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        layout, over = self.pick(layouts or LAYOUTS) if self.pick([False, True]) else "C", None
        if self.spoil == name:
            how = self.pick(SPOILT)
            if how in ("None", "scalar"):
                self.values[name] = None if how == "None" else 1.5
                return
            if how == "dtype":
                dtype = np.dtype(self.pick([np.float16, np.int64, np.complex128, np.float32, np.float64, bool]))
            elif how == "byte order":
                dtype = dtype.newbyteorder()
            elif how == "axis":
                shape = (*shape, 1)
            elif how == "masked":
                layout = "masked"
            elif how in ("overlap", "same") and self.memory.views:
                over = self.pick(list(self.memory.views))
                layout = "gaps" if how == "overlap" and self.pick([False, True]) else "C"
            elif shape:
                shape = (*shape[:-1], {"longer": shape[-1] + 1, "shorter": max(shape[-1] - 1, 0)}.get(how, 0))
        self.memory.place(name, shape, dtype, layout if shape else "C", over)
        if dtype.kind == "f" and over is None and layout != "masked":
            array = np.ndarray(shape, dtype, self.memory.block.data, *self.memory.views[name][2:4])
            values = self.rng.uniform(-2, 2, size=shape)
            if name == "A" and shape[1:] == (shape[-1],) * 2:  # Hessians
                values = values + values.swapaxes(1, 2)
            array[...] = np.abs(values) if name in POSITIVE else values

    def argument(self, name: str, check: Any) -> None:
        A = arguments
        if isinstance(check, A.Read | A.Changed | A.Out):
            optional = isinstance(check, A.Out) or check.optional
            if optional and self.pick([False, True]):
                self.values[name] = None
            elif isinstance(check, A.Like):
                self.array(name, self.memory.views[check.other][0] if check.other in self.memory.views else (2,))
            elif isinstance(check, A.Out) and callable(check.shape[0]):
                self.array(name, check.shape[0](self.lengths))
            elif check.shape == (A.ANY,):
                self.array(name, tuple(self.pick(LENGTHS[:9]) for _ in range(self.pick(range(4)))))
            else:
                self.array(name, tuple(self.length(n) for n in check.shape))
        elif isinstance(check, A.Number):
            good = [x for x in NUMBERS if check.above < x < check.below]
            self.values[name] = self.pick(ODD_NUMBERS if self.spoil == name else good)
        elif isinstance(check, A.Integer):
            self.values[name] = (
                self.pick(ODD_INTEGERS) if self.spoil == name else check.minimum % 2**31 + self.pick(range(9))
            )
        elif check is A.flag:
            self.values[name] = self.pick([None, 2, "x", np.True_]) if self.spoil == name else self.pick([False, True])
            self.lengths[name] = int(self.values[name] is True)
        elif check is A.threads:
            self.values[name] = self.pick([0, -1, 1.5, True, 2**70] if self.spoil == name else [None, 1, 2, 3])
        elif check is A.ACTIVATION:
            self.values[name] = (
                self.pick([None, "no", 3]) if self.spoil == name else self.pick(list(reference.ACTIVATIONS))
            )
        else:
            self.special(name, check.__name__)

    def special(self, name: str, check: str) -> None:
        """Arguments with a check of their own."""
        n = self.length
        if check == "check_classes" and self.pick([False, True]):
            self.array(name, (n("N"),), np.int64)
            if name in self.memory.views and self.memory.views[name][1] == np.int64:
                labels = np.ndarray(*self.memory.views[name][:2], self.memory.block.data, *self.memory.views[name][2:4])
                labels[...] = self.rng.integers(0, max(n("K"), 1) + (self.spoil == name), size=labels.shape)
        elif check == "check_classes":
            self.array(name, (n("N"), n("K")))
        elif check == "check_contiguous":
            self.array(name, tuple(self.pick(LENGTHS) for _ in range(self.pick(range(3)))))
        elif check == "check_order":
            self.values[name] = None
            if name == "rows" or self.pick([False, True]):
                del self.values[name]
                self.array(name, (n("N"),) if name == "rows" else (n("orders"), n("N")), np.int64)
        elif check == "_check_kind":
            self.values[name] = self.pick([None, "turn"] if self.spoil == name else list(ROW_AUGMENTATIONS))
        elif check == "check_bit_generator":
            self.values[name] = self.pick([None, 3, "x"]) if self.spoil == name else 7  # a seed; see `call`
        elif check == "check_first_row":
            self.values[name] = self.pick(ODD_INTEGERS) if self.spoil == name else self.pick(range(99))
        elif check == "_check_rows":
            self.array(name, (n("N"), n("n_out")) if self.pick([False, True]) else (n("N"), n("R"), n("n_out")))
        elif check == "_check_block_hessians":
            self.lengths["two"] = self.pick([0, 1])
            self.array(name, (n("N"), n("n_out"), n("n_out2") if n("two") else n("n_out")))
        elif check == "_check_jacobian":
            self.values[name] = None
            self.lengths["jacobian"] = self.pick([0, 1]) & n("two")
            if n("jacobian"):
                del self.values[name]
                diagonal = n("n_in2") == n("n_out") and self.pick([False, True])
                self.array(name, (n("N"), n("n_out")) if diagonal else (n("N"), n("n_out"), n("n_in2")))
        else:
            raise NotImplementedError(check)

    def block(self) -> None:
        """Arguments of hessian_block_acc, whose shapes hang together more than others'."""
        n = self.length
        checks = dict(self.contract.checks)
        for name in ("bias", "bias2"):
            self.argument(name, checks[name])
        self.argument("X", checks["X"])
        self.special("A", "_check_block_hessians")
        height = (n("n_in") + n("bias")) * n("n_out")
        width = (n("n_in2") + n("bias2")) * n("n_out2") if n("two") else 0
        if height + width > 100:
            raise MemoryError
        extra = self.pick([0, 0, 1, 3])
        for name in ("row", "column"):
            self.values[name] = self.pick(range(extra + 1)) if name == "row" else self.values["row"]
            self.values[name] += height if name == "column" and n("two") else 0
        if self.spoil in ("row", "column"):
            self.values[self.spoil] = self.pick(ODD_INTEGERS)
        self.array("H", (height + width + extra,) * 2)
        self.values["X2"] = None
        if n("two"):
            del self.values["X2"]
            self.array("X2", (n("N"), n("n_in2")))
        self.special("jacobian", "_check_jacobian")
        self.values["delta"] = None
        if n("jacobian"):
            del self.values["delta"]
            self.array("delta", (n("N"), n("n_out2")))
        for name in ("scale", "threads"):
            self.argument(name, checks[name])

    def prepare(self) -> None:
        if self.name == "hessian_block_acc":
            self.block()
            return
        for name, check in self.contract.checks:
            self.argument(name, check)
        if self.name == "nag_momentum":  # neither hours nor all memory
            for name, limit in (("step", 2**20), ("count", 2**20)):
                if type(self.values[name]) is int and limit < self.values[name] < 2**62:
                    self.values[name] = 2**62 if name == "count" else 5

    def call(self, module: Any) -> tuple[Any, dict[str, Any], np.ndarray]:
        """Result or exception, arguments, and the block of memory."""
        block = self.memory.block.copy()
        shift = -block.ctypes.data % 64  # as aligned as the first one
        if shift:
            block = np.concatenate([np.zeros(shift, np.uint8), block])[shift:]
        values = {**self.values, **{name: self.memory.view(name, block) for name in self.memory.views}}
        if values.get("bit_generator") == 7:
            values["bit_generator"] = np.random.PCG64(7)
        with np.errstate(all="ignore"):
            try:
                result = getattr(module, self.name)(**values)
            except (TypeError, ValueError, MemoryError) as error:
                result = error
        return result, values, block


def compare(ours: Any, theirs: Any, tolerance: float) -> None:
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            compare(x, y, tolerance)
    elif theirs is None or isinstance(theirs, bool):
        assert ours is theirs
    else:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = max(1.0, float(finite.max())) if finite.size else 1.0
        if scale > 1e30:  # inputs laid over each other have any bits; where they overflow depends on the order
            return
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)


def check_call(name: str, pick: Callable[[Sequence[Any]], Any]) -> None:
    caller = Caller(name, pick)
    try:
        caller.prepare()
    except MemoryError:  # too large a call for the block
        return
    theirs, _, _ = caller.call(reference)
    ours, values, block = caller.call(fnn.kernels)
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        assert repr(ours) == repr(theirs)
        np.testing.assert_array_equal(block, caller.memory.block)  # nothing was changed
        return
    again, expected, _ = caller.call(reference)
    numbers = [abs(x) for x in caller.values.values() if isinstance(x, float)]
    if any(not 1e-30 < x < 1e30 for x in numbers if x):  # infinity less infinity depends on what is computed first
        return
    tolerance = 2e-3 if caller.dtype == np.float32 else 1e-8
    compare(ours, again, tolerance)
    written = np.zeros(len(block), bool)
    for argument, check in caller.contract.checks:
        changes = isinstance(check, arguments.Changed | arguments.Out) or argument in ("rows", "orders")
        if changes and values[argument] is not None:
            compare(values[argument], expected[argument], tolerance)
            _, _, offset, strides, _ = caller.memory.views[argument]
            shape, item = values[argument].shape, values[argument].itemsize
            np.ndarray((*shape, item), bool, written.data, offset, (*strides, 1))[...] = True
    np.testing.assert_array_equal(block[~written], caller.memory.block[~written])


@pytest.mark.parametrize("name", NAMES)
def test_any_call(name, compiled) -> None:
    @settings(
        max_examples=examples(30),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def calls(data) -> None:
        check_call(name, lambda choices: data.draw(st.sampled_from(choices)))

    calls()


@pytest.mark.skipif("FASTNN_FUZZ" not in os.environ, reason="FASTNN_FUZZ=seconds is not set")
def test_any_call_for_longer(compiled) -> None:
    """Without shrinking, which takes time: a failure names the seed."""
    seed = time.time_ns() % 10**9
    end = time.monotonic() + float(os.environ["FASTNN_FUZZ"])
    while time.monotonic() < end:
        seed += 1
        for name in NAMES:
            try:
                check_call(name, random.Random(seed).choice)
            except BaseException as error:
                error.add_note(f"{name}, seed {seed}")
                raise


def test_every_kernel_has_a_contract_and_a_reference() -> None:
    assert sorted(NAMES) == sorted(set(fnn.kernels.__all__) - {"simd"})
    for name in NAMES:
        assert [argument for argument, _ in getattr(reference, name).contract.checks]


HUGE = 2**31 + 5


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("exp", [(HUGE, 0)]),
        ("matmul", [(0, HUGE), (HUGE, 0)]),
        ("matmul", [(HUGE, 0), (0, HUGE)]),
        ("softmax", [(0, HUGE)]),
        ("softmax_jacobian", [(0, HUGE)]),
        ("per_sample_outer", [(0, HUGE), (0, HUGE)]),
        ("per_sample_outer", [(0, HUGE), (0, 3)]),
        ("curvature_backward", [(0, 0, 0), (HUGE, 0)]),
        ("cross_backward", [(0, HUGE, 0), (HUGE, 0)]),
        ("layer_norm_forward", [(0, HUGE), (HUGE,), (HUGE,)]),
        ("squared_error", [(0, HUGE), (0, HUGE)]),
    ],
)
def test_lengths_beyond_31_bits(name, shapes, compiled) -> None:
    """Of arrays without elements: no length is cut off to 32 bits, no product of lengths overflows unseen."""
    arrays = [np.broadcast_to(np.float64(1.0), shape) for shape in shapes]
    results = []
    for module in (reference, fnn.kernels):
        try:
            result = getattr(module, name)(*arrays)
            results.append([np.shape(x) for x in (result if isinstance(result, tuple) else (result,))])
        except (ValueError, MemoryError) as error:
            results.append(type(error))
    assert results[0] == results[1]


@needs_alarm
def test_counts_can_be_interrupted(compiled) -> None:
    with alarm(0.2), pytest.raises(Alarm):
        fnn.kernels.nag_momentum(10**12)
