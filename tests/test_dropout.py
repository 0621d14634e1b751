"""Dropout: the generator's known answers, the statistics of the masks, and what they may and may not depend on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastnn import reference
from fastnn.reference.dropout import mask_words, threefry4x32

pytestmark = pytest.mark.every_simd


@pytest.fixture(params=["compiled", "reference"])
def dropout(request):
    """The function of both modules."""
    if request.param == "reference":
        return reference.dropout
    request.getfixturevalue("compiled")
    from fastnn import kernels

    return kernels.dropout


def mask(dropout, shape, rate=0.5, seed=0, dtype="float32", **where) -> np.ndarray:
    """Which elements are kept."""
    return dropout(np.ones(shape, dtype), rate, seed, **where) != 0


# From the file kat_vectors of Random123: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
    ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0 082efa98 ec4e6c89",
        "59cd1dbb b8879579 86b5d00c ac8b6d84",
    ),
]
KNOWN_ANSWERS_13 = [
    ("00000000 " * 4, "00000000 " * 4, "531c7e4f 39491ee5 2c855a92 3d6abf9a"),
    ("ffffffff " * 4, "ffffffff " * 4, "c4189358 1c9cc83a d5881c67 6a0a89e0"),
]


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "result"),
    [(20, *vector) for vector in KNOWN_ANSWERS] + [(13, *vector) for vector in KNOWN_ANSWERS_13],
)
def test_known_answers_of_the_generator(rounds, counter, key, result) -> None:
    words = [[int(word, 16) for word in text.split()] for text in (counter, key, result)]
    got = threefry4x32(tuple(np.array([w], np.uint32) for w in words[0]), tuple(words[1]), rounds)
    assert [int(w[0]) for w in got] == words[2]


def word_of(dropout, element: int, **where) -> int:
    """The word of an element, found by bisection of the rates at which it is dropped."""
    low, high = 0, 2**32
    while high - low > 1:
        middle = (low + high) // 2
        if mask(dropout, (1, 1), middle / 2**32, first_row=element, **where)[0, 0]:
            low = middle
        else:
            high = middle
    return low


def test_known_answer_through_the_masks(dropout) -> None:
    got = [word_of(dropout, 16 * w) for w in range(4)]
    assert got == [int(word, 16) for word in KNOWN_ANSWERS[0][2].split()]


@pytest.mark.parametrize("element", [1, 15, 63, 64, 1000, 2**34 - 1, 2**34, 2**40 + 77, 2**62])
def test_every_bit_of_the_key_and_of_the_element_counts(element, dropout) -> None:
    seed, step, layer = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x7654321
    tile, place = divmod(element, 64)
    block = 16 * tile + place % 16
    counter = (block & 0xFFFFFFFF, block >> 32, layer, 0)
    key = (seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF, step >> 32)
    words = threefry4x32(tuple(np.array([word], np.uint32) for word in counter), key)
    assert word_of(dropout, element, seed=seed, step=step, layer=layer) == int(words[place // 16][0])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (3, 5), (7, 9), (1, 64), (2, 64), (5, 65), (33, 127)])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 2**-53])
def test_compiled_against_the_reference(shape, rate, dtype, rng, compiled) -> None:
    from fastnn import kernels

    X = rng.normal(size=shape).astype(dtype)
    before = X.copy()
    for where in ({}, {"step": 3, "layer": 2, "first_row": 5}):
        ours, theirs = kernels.dropout(X, rate, 12, **where), reference.dropout(X, rate, 12, **where)
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(X, before)


def test_values(dropout, dtype, rng) -> None:
    X = rng.normal(size=(50, 20)).astype(dtype)
    out = dropout(X, 0.25, 1)
    kept = mask(dropout, X.shape, 0.25, 1, dtype)
    np.testing.assert_array_equal(out[~kept], 0)
    np.testing.assert_allclose(out[kept], X[kept] / 0.75, rtol=1e-6 if dtype == "float32" else 1e-15)
    np.testing.assert_array_equal(dropout(X, 0.0, 1), X)
    view = np.asfortranarray(X)[::2, ::-3]
    view.flags.writeable = False
    np.testing.assert_array_equal(dropout(view, 0.25, 1), dropout(view.copy(), 0.25, 1))
    X[~kept] = np.nan
    np.testing.assert_array_equal(dropout(X, 0.25, 1), out)


def test_it_is_its_own_transpose(dropout, rng) -> None:
    X, V = rng.normal(size=(2, 13, 11))
    assert (dropout(X, 0.3, 5, step=9) * V).sum() == pytest.approx((X * dropout(V, 0.3, 5, step=9)).sum(), rel=1e-13)


@pytest.mark.parametrize("cols", [1, 3, 16, 64, 100])
def test_masks_do_not_depend_on_the_split(cols, dropout) -> None:
    whole = mask(dropout, (57, cols), 0.4, 3, step=2, layer=1)
    for cuts in ([0, 20, 57], [0, 1, 2, 3, 57], [0, 16, 32, 48, 57], list(range(58))):
        parts = [
            mask(dropout, (b - a, cols), 0.4, 3, step=2, layer=1, first_row=a) for a, b in itertools.pairwise(cuts)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_masks_do_not_depend_on_the_dtype(dropout) -> None:
    np.testing.assert_array_equal(mask(dropout, (40, 33)), mask(dropout, (40, 33), dtype="float64"))


def test_in_place(dtype, rng, compiled) -> None:
    from fastnn._core import kernels

    X = rng.normal(size=(9, 41)).astype(dtype)
    expected = reference.dropout(X, 0.3, 1, 2, 3, 4)
    kernels.dropout(9, 41, 1, 2, 3, 4, 0.3, X, X)
    np.testing.assert_array_equal(X, expected)


# Statistics: deviations are in units of the standard error; the seeds are fixed, so a pass stays a pass.


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.8, 0.99])
def test_mean_and_variance(rate, dropout) -> None:
    n = 400_000
    out = dropout(np.ones((1000, n // 1000)), rate, 77)
    variance = rate / (1 - rate)
    assert abs(out.mean() - 1) < 4 * np.sqrt(variance / n)
    fourth = ((1 - rate) * (1 / (1 - rate) - 1) ** 4 + rate) - variance**2
    assert abs(out.var() - variance) < 4 * np.sqrt(fourth / n) + 4 * variance / n


def test_words_are_uniform() -> None:
    words = mask_words(0, 1 << 20, 5, 6, 7)
    for shift in (0, 8, 16, 24):
        counts = np.bincount((words >> np.uint32(shift)).astype(np.uint8), minlength=256)
        chi2 = ((counts - 4096.0) ** 2 / 4096).sum()
        assert abs(chi2 - 255) < 5 * np.sqrt(2 * 255)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"seed": 2**32}, {"step": 1}, {"step": 2**32}, {"layer": 1}, {"first_row": 300}]
)
def test_masks_are_independent_of_each_other(other, dropout) -> None:
    a, b = mask(dropout, (300, 300)), mask(dropout, (300, 300), **other)
    assert abs((a == b).mean() - 0.5) < 4 * 0.5 / 300


@pytest.mark.parametrize("lag", [1, 2, 15, 16, 17, 32, 48, 63, 64, 65, 128, 300])
def test_elements_are_independent_of_each_other(lag, dropout) -> None:
    signs = 2.0 * mask(dropout, (300, 300)).ravel() - 1
    assert abs((signs[lag:] * signs[:-lag]).mean()) < 4 / np.sqrt(signs.size - lag)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), 0.5, 0), ValueError, r"X: expected shape \(N, D\), got \(3,\)"),
        ((np.ones((2, 3), int), 0.5, 0), TypeError, "X: expected dtype float32 or float64, got int64"),
        ((np.ones((2, 3)), 1.0, 0), ValueError, r"rate: expected a number in \[0, 1\), got 1.0"),
        ((np.ones((2, 3)), -0.1, 0), ValueError, "rate: .* got -0.1"),
        ((np.ones((2, 3)), np.nan, 0), ValueError, "rate: .* got nan"),
        ((np.ones((2, 3)), "half", 0), TypeError, "rate: expected a number, got 'half'"),
        ((np.ones((2, 3)), 0.5, None), TypeError, "seed: expected an integer, got None"),
        ((np.ones((2, 3)), 0.5, -1), ValueError, r"seed: expected an integer in \[0, 18446744073709551615\], got -1"),
        ((np.ones((2, 3)), 0.5, 2**64), ValueError, "seed: .* got 18446744073709551616"),
        ((np.ones((2, 3)), 0.5, 0, 1.5), TypeError, "step: expected an integer, got 1.5"),
        ((np.ones((2, 3)), 0.5, 0, 0, 2**31), ValueError, "layer: .* got 2147483648"),
        ((np.ones((2, 3)), 0.5, 0, 0, 0, -2), ValueError, "first_row: .* got -2"),
        ((np.ones((2, 3)), 0.5, 0, 0, 0, 2**62), ValueError, "first_row: .* got 4611686018427387904"),
    ],
)
def test_bad_arguments(arguments, error, message, dropout) -> None:
    with pytest.raises(error, match=message):
        dropout(*arguments)
