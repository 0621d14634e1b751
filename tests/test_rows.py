"""Rows before they are trained on: finite or not, and their order, drawn as NumPy draws it; kernels and reference."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import reference

pytestmark = pytest.mark.every_simd

SIZES = [0, 1, 2, 3, 4, 5, 8, 9, 127, 128, 129, 1437, 70_000]
GENERATORS = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.fixture(params=["compiled", "reference"])
def module(request):
    """The compiled kernels, or the reference."""
    if request.param == "reference":
        return reference
    request.getfixturevalue("compiled")
    from fastnn import kernels

    return kernels


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("n", SIZES)
def test_as_numpy_shuffles(kind, n, module) -> None:
    ours, theirs = kind(7), kind(7)
    rows = np.arange(5, 5 + n)
    module.shuffle(rows, ours)
    np.testing.assert_array_equal(rows, 5 + np.random.Generator(theirs).permutation(n))
    assert ours.random_raw() == theirs.random_raw()  # it has drawn as many numbers


def test_as_random_state_shuffles(module) -> None:
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    for _ in range(3):
        rows = np.arange(1437)
        expected = rows.copy()
        module.shuffle(rows, ours._bit_generator)
        theirs.shuffle(expected)
        np.testing.assert_array_equal(rows, expected)
    assert ours.rand() == theirs.rand()


@pytest.mark.parametrize("n", SIZES[:-1])
def test_several_orders_are_one_after_the_other(n, module) -> None:
    ours, theirs = np.random.MT19937(3), np.random.RandomState(np.random.MT19937(3))
    rows, expected = np.arange(n), np.arange(n)
    orders = np.full((3, n), -1)
    for count in (3, 0, 2):
        module.shuffle(rows, ours, orders[:count])
        for order in orders[:count]:
            theirs.shuffle(expected)
            np.testing.assert_array_equal(order, expected)
        np.testing.assert_array_equal(rows, expected)
    assert ours.random_raw() == theirs._bit_generator.random_raw()


@pytest.mark.parametrize(
    ("orders", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "orders: expected a NumPy array of int64, got dtype float64"),
        (
            np.zeros(3, np.int64),
            ValueError,
            r"orders: expected a contiguous, aligned, writable array \(n, 3\), got shape \(3,\)",
        ),
        (np.zeros((2, 4), np.int64), ValueError, r"orders: .* \(n, 3\), got shape \(2, 4\)"),
        (np.zeros((2, 6), np.int64)[:, ::2], ValueError, "orders: .* strides"),
        (np.broadcast_to(np.arange(3), (2, 3)), ValueError, "orders: .* read-only"),
    ],
)
def test_bad_orders(orders, error, message, module) -> None:
    rows, bits = np.arange(3), np.random.PCG64(0)
    with pytest.raises(error, match=message):
        module.shuffle(rows, bits, orders)
    assert rows.tolist() == [0, 1, 2]
    assert bits.random_raw() == np.random.PCG64(0).random_raw()


def test_every_order_comes_as_often(module) -> None:
    bits = np.random.PCG64(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        rows = np.arange(3)
        module.shuffle(rows, bits)
        counts[tuple(rows.tolist())] = counts.get(tuple(rows.tolist()), 0) + 1
    assert len(counts) == 6
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 20.5  # chi square, 5 degrees of freedom, 0.1 %


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([1, 2], TypeError, "rows: expected a NumPy array of int64, got list"),
        (np.arange(3.0), TypeError, "rows: expected a NumPy array of int64, got dtype float64"),
        (
            np.arange(4).reshape(2, 2),
            ValueError,
            r"rows: expected a contiguous, aligned, writable array \(N,\), got shape \(2, 2\)",
        ),
        (np.arange(8)[::2], ValueError, r"rows: .* strides \(16,\)"),
        (np.broadcast_to(np.arange(1), 1), ValueError, "rows: .* read-only"),
    ],
)
def test_bad_rows(rows, error, message, module) -> None:
    with pytest.raises(error, match=message):
        module.shuffle(rows, np.random.PCG64(0))


def test_bad_bit_generator(module) -> None:
    with pytest.raises(TypeError, match=r"bit_generator: expected a numpy\.random\.BitGenerator, got Generator"):
        module.shuffle(np.arange(3), np.random.default_rng(0))


@pytest.mark.parametrize("n", [0, 1, 5, 63, 64, 65, 200])
def test_all_finite(n, dtype, module) -> None:
    x = np.full(n, np.finfo(dtype).max, dtype)  # whose sums and products are not finite
    x[::3] *= -1
    x[1::5] = np.finfo(dtype).smallest_subnormal
    assert module.all_finite(x) is True
    for i in range(n):
        for value in (np.nan, np.inf, -np.inf):
            y = x.copy()
            y[i] = value
            assert module.all_finite(y) is False


def test_all_finite_of_any_shape(dtype, module) -> None:
    x = np.ones((3, 4, 5), dtype)
    assert module.all_finite(x)
    x[1, 2, 3] = np.nan
    assert not module.all_finite(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0], TypeError, "x: expected a NumPy array of float32 or float64, got list"),
        (np.arange(3), TypeError, "x: expected a NumPy array of float32 or float64, got dtype int64"),
        (np.ones((4, 4)).T[:2], ValueError, r"x: expected a contiguous array, got shape \(2, 4\)"),
    ],
)
def test_all_finite_of_others(x, error, message, module) -> None:
    with pytest.raises(error, match=message):
        module.all_finite(x)
