"""The functions that tools/kernel_bindings.py makes of kernel_list.h."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fastnn.plan import RULES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def core(compiled):
    from fastnn._core import kernels

    return kernels


def tool():
    """tools/kernel_bindings.py as a module."""
    spec = importlib.util.spec_from_file_location("kernel_bindings", ROOT / "tools" / "kernel_bindings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed():
    """The kernels of the list."""
    return tool().parse((ROOT / "csrc" / "kernels" / "kernel_list.h").read_text(encoding="utf-8"))


def test_every_kernel_has_a_function(core) -> None:
    kernels = listed()
    assert len(kernels) > 50
    without = {kernel.name for kernel in kernels if not hasattr(core, kernel.name)}
    # What the lanes of sweeps compute is compared with lone fits, bit for bit.
    assert without == {"hessian_pairs", "hessian_products", "lane_update", "rule_code"}


def test_every_update_rule_has_a_code(core) -> None:
    assert list(core.RULE_CODES) == list(RULES)
    assert sorted(core.RULE_CODES.values()) == list(range(len(RULES)))


def test_kinds_of_arguments() -> None:
    gemm = next(kernel for kernel in listed() if kernel.name == "gemm")
    a, c = (next(argument for argument in gemm.arguments if argument.name == name) for name in ("a", "c"))
    assert a == ("a", "REAL", 2, True)
    assert c == ("c", "REAL", 1, False)


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("size_t x", "size_t"),
        ("float x", "float"),
        ("REAL x", "REAL"),
        ("const size_t *x", "const size_t *"),
        ("const fnn_block *x", "const fnn_block *"),
        ("REAL *const *x", "REAL **"),
        ("const double *const *x", "const double **"),
    ],
)
def test_unknown_types_are_refused(argument, written) -> None:
    with pytest.raises(SystemExit) as refused:
        tool().parse(f"KERNEL(void, sum, (ptrdiff_t n, {argument}))")
    assert str(refused.value) == f"kernel_bindings: kernel sum: argument x has unknown type {written}"


def test_comments_are_no_kernels() -> None:
    text = "// KERNEL(void, a, (REAL *x))\nKERNEL(void, b, (REAL *x, // of n, in C order\n    int n)) /* KERNEL( */\n"
    (kernel,) = tool().parse(text)
    assert (kernel.name, [argument.name for argument in kernel.arguments]) == ("b", ["x", "n"])


def test_a_table_of_rows_is_a_matrix(core, dtype, rng) -> None:
    x = rng.normal(size=(5, 7)).astype(dtype)
    out = np.empty((7, 5), dtype)
    core.transpose(5, 7, x, out)
    np.testing.assert_array_equal(out, x.T)


def test_arrays_that_are_refused(core) -> None:
    x, y = np.ones(4), np.ones(4)
    y.flags.writeable = False
    unaligned = np.zeros(33, np.uint8)[1:].view(np.float64)
    cases = [
        ((x, np.ones(4, np.float32)), TypeError, "y: expected aligned elements of the call's one dtype"),
        ((x, unaligned), TypeError, "y: expected aligned elements"),
        ((x.astype(">f8"), x), TypeError, "x: expected aligned elements"),
        ((x.astype(int), x), TypeError, "x: expected aligned elements"),
        ((np.ones(8)[::2], x), ValueError, "not C-contiguous"),
        ((x, y), ValueError, "read-only"),
    ]
    for arrays, error, message in cases:
        with pytest.raises(error, match=message):
            core.exp(4, *arrays)
