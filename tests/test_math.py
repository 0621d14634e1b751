"""exp, log and tanh: error in ulp against higher precision, special values, shapes and strides, errors."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from other_sets import examples

from fastnn import kernels, reference

pytestmark = pytest.mark.every_simd

FUNCTIONS = ("exp", "log", "tanh")
DTYPES = (np.float32, np.float64)
BITS = {np.float32: np.uint32, np.float64: np.uint64}
MAX_ULP = {np.float32: 2.0, np.float64: 4.0}
INF, NAN = float("inf"), float("nan")

# where each function does more than saturate
INTERVALS = {
    ("exp", np.float32): (-105.0, 89.0),
    ("exp", np.float64): (-747.0, 710.0),
    ("log", np.float32): (0.0, 4.0),
    ("log", np.float64): (0.0, 4.0),
    ("tanh", np.float32): (-10.0, 10.0),
    ("tanh", np.float64): (-21.0, 21.0),
}

needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double on this platform"
)


def exact(name, x, precision=200):
    """The value at one float to `precision` bits, for finite results."""
    with mp.workprec(precision):
        return getattr(mp, name)(mp.mpf(float(x)))


def ulp_error(result, truth):
    """Distance to `truth`, which is of a wider type, in units of the last place of the rounded truth."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = truth.astype(result.dtype)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(result[special], rounded[special])
    result, truth, rounded = result[~special], truth[~special], rounded[~special]
    # below a power of two the unit is half of what np.spacing says above it
    unit = np.minimum(np.spacing(np.abs(rounded)), np.abs(rounded - np.nextafter(rounded, result.dtype.type(0))))
    unit = np.where(rounded == 0, np.finfo(result.dtype).smallest_subnormal, unit)
    return np.abs(result.astype(truth.dtype) - truth) / unit.astype(truth.dtype)


def samples(name, dtype, n, seed=0):
    """Numbers spread evenly over an interval, near 0, near 1, and over all bit patterns."""
    rng = np.random.default_rng(seed)
    low, high = INTERVALS[name, dtype]
    bits = np.frombuffer(rng.bytes(n * np.dtype(dtype).itemsize), dtype=dtype)
    x = np.concatenate(
        [
            rng.uniform(low, high, n),
            rng.uniform(-1, 1, n) * 2.0 ** rng.integers(-30, 1, n),
            1 + rng.uniform(-1, 1, n) * 2.0 ** rng.integers(-24, 0, n),
        ]
    ).astype(dtype)
    x = np.concatenate([x, bits])
    return np.abs(x) if name == "log" else x


def check_ulp(name, x, wide):
    x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        truth = getattr(np, name)(x.astype(wide))
    error = ulp_error(getattr(kernels, name)(x), truth)
    worst = int(np.argmax(error))
    assert error[worst] <= MAX_ULP[x.dtype.type], f"{error[worst]} ulp"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_error_in_ulp(name):
    check_ulp(name, samples(name, np.float32, 200_000), np.float64)


@pytest.mark.parametrize("name", FUNCTIONS)
@needs_longdouble
def test_float64_error_in_ulp(name):
    check_ulp(name, samples(name, np.float64, 100_000), np.longdouble)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_arguments_and_results(name, dtype):
    info = np.finfo(dtype)
    x = np.linspace(0, 4 * float(info.tiny), 1001).astype(dtype)
    x = x[1:] if name == "log" else np.concatenate([x, -x])
    if name == "exp":
        x = np.concatenate([x, np.linspace(np.log(info.smallest_subnormal) - 2, np.log(info.tiny), 1001, dtype=dtype)])
    check_ulp(name, x, np.float64 if dtype == np.float32 else np.longdouble)


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_float_against_multiple_precision(name, dtype, data):
    width = np.dtype(dtype).itemsize * 8
    low, high = (0.0, None) if name == "log" else (None, None)
    value = data.draw(
        st.floats(low, high, width=width, allow_nan=False, allow_infinity=False, exclude_min=name == "log")
        | st.floats(*INTERVALS[name, dtype], width=width, exclude_min=name == "log")
    )
    x = np.array([value], dtype)
    result = float(getattr(kernels, name)(x)[0])
    info = np.finfo(dtype)
    if name == "exp" and value > 1000:
        assert result == INF
        return
    truth = exact(name, max(value, -2000.0) if name == "exp" else value)
    if truth > mp.mpf(float(info.max)) * (1 + mp.mpf(float(info.eps)) / 4):
        assert result == INF
        return
    exponent = max(mp.frexp(truth)[1] - 1 if truth else -5000, info.minexp)
    unit = mp.ldexp(1, exponent - info.nmant)
    assert abs(mp.mpf(result) - truth) <= MAX_ULP[dtype] * unit


SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, INF), (-1e4, 0.0), (-1e30, 0.0)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (-1e-30, NAN), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (1e4, 1.0), (-1e4, -1.0), (30.0, 1.0)],
}


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(module, name, dtype):
    arguments, values = np.array(SPECIAL[name], dtype).T
    for repeat in (1, 40):  # one by one, and in whole vectors
        result = getattr(module, name)(np.repeat(arguments, repeat))
        want = np.repeat(values, repeat)
        np.testing.assert_array_equal(result, want)
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(result[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_arguments(dtype):
    info = np.finfo(dtype)
    largest = np.array([info.max, np.nextafter(info.max, dtype(0))], dtype)
    np.testing.assert_array_equal(kernels.exp(largest), INF)
    np.testing.assert_array_equal(kernels.exp(-largest), 0)
    np.testing.assert_array_equal(kernels.tanh(-largest), -1)
    np.testing.assert_allclose(kernels.log(largest), np.log(largest), rtol=2 * float(info.eps))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_and_bounded(dtype):
    x = samples("tanh", dtype, 10_000)
    x = x[~np.isnan(x)]
    y = kernels.tanh(x)
    np.testing.assert_array_equal(kernels.tanh(-x), -y)
    assert np.all(np.abs(y) <= 1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_result_does_not_depend_on_the_position(name, dtype):
    x = np.random.default_rng(1).uniform(0.01, 3, 70).astype(dtype)
    function = getattr(kernels, name)
    whole = function(x)
    for n in range(71):
        np.testing.assert_array_equal(function(x[:n]), whole[:n])
        np.testing.assert_array_equal(function(x[70 - n :]), whole[70 - n :])


def arrays(dtype):
    """Arrays of awkward shapes, strides and flags, with positive elements."""
    base = np.random.default_rng(2).uniform(0.1, 4, (6, 10, 7)).astype(dtype)
    read_only = base.copy()
    read_only.flags.writeable = False
    return {
        "empty": base[:0],
        "empty columns": base[:, :0],
        "scalar": base[0, 0, 0:1].reshape(()),
        "one": base[:1, :1, :1],
        "3-D": base,
        "Fortran": np.asfortranarray(base[0]),
        "every other": base[::2, ::3, ::-1],
        "transposed": base.T,
        "read-only": read_only,
        "broadcast": np.broadcast_to(base[0, 0], (5, 7)),
        "1000": np.resize(base, 1000),
    }


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", arrays(np.float32))
def test_shapes_and_strides(name, dtype, layout):
    x = arrays(dtype)[layout]
    before = x.copy()
    result = getattr(kernels, name)(x)
    want = getattr(reference, name)(x)
    for y in (result, want):
        assert isinstance(y, np.ndarray)
        assert y.shape == x.shape
        assert y.dtype == dtype
    np.testing.assert_array_equal(x, before)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(result, want, rtol=8 * eps, atol=0)


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128, np.bool_, np.longdouble])
def test_other_dtypes_are_refused(module, name, dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double on this platform")
    with pytest.raises(TypeError, match=r"x.*float32.*float64"):
        getattr(module, name)(np.ones(3, dtype))
