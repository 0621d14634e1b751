"""Activations: value and derivatives against multiple precision, kinks, limits, and compiled against NumPy."""

import functools
import itertools

import mpmath as mp
import numpy as np
import pytest
from scipy.special import erf, expit

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.reference import ACTIVATIONS, SAVES_OUTPUT

pytestmark = pytest.mark.every_simd

DTYPES = (np.float32, np.float64)
INF, NAN = float("inf"), float("nan")

both_modules = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
all_activations = pytest.mark.parametrize("activation", ACTIVATIONS)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)

# The definitions, written without regard to rounding: with 400 digits it does not matter.
DEFINITIONS = {
    "linear": lambda z: z,
    "relu": lambda z: z if z > 0 else mp.mpf(0),
    "leaky_relu": lambda z: z if z > 0 else z * LEAK,
    "tanh": mp.tanh,
    "hard_tanh": lambda z: min(max(z, mp.mpf(-1)), mp.mpf(1)),
    "leaky_tanh": lambda z: mp.tanh(z) if z > 0 else z * LEAK,
    "sigmoid": lambda z: 1 / (1 + mp.exp(-z)),
    "softplus": lambda z: mp.log(1 + mp.exp(z)),
    "elu": lambda z: z if z > 0 else mp.exp(z) - 1,
    "selu": lambda z: SELU_LAMBDA * (z if z > 0 else SELU_ALPHA * (mp.exp(z) - 1)),
    "gelu": lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2,
    "silu": lambda z: z / (1 + mp.exp(-z)),
    "mish": lambda z: z * mp.tanh(mp.log(1 + mp.exp(z))),
    "sign": mp.sign,
}
LEAK = mp.mpf(1) / 100
SELU_LAMBDA, SELU_ALPHA = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")

# none of them at a kink
POINTS = [-12.5, -9.0, -7.0, -4.25, -3.0, -1.5, -1.2784645, -0.999, -0.7517916, -0.5625, -0.3, -1e-3, -1e-12]
POINTS += [-z for z in POINTS] + [0.5493, 0.6, 2.0, 5.5, 20.0, 88.0]


def eps(dtype):
    return float(np.finfo(dtype).eps)


@functools.cache
def exact(activation, x, steps):
    """The activation at x + steps · 10⁻¹⁰⁰, with 400 digits."""
    with mp.workdps(400):
        return DEFINITIONS[activation](mp.mpf(x) + steps * mp.mpf(10) ** -100)


def truth(activation, z, order):
    """Derivative of the given order at each z, by central differences with 400 digits."""
    with mp.workdps(400):
        values = []
        h = mp.mpf(10) ** -100
        for x in np.asarray(z, np.float64).ravel().tolist():
            if order == 0:
                value = exact(activation, x, 0)
            elif order == 1:
                value = (exact(activation, x, 1) - exact(activation, x, -1)) / (2 * h)
            else:
                value = (exact(activation, x, 1) - 2 * exact(activation, x, 0) + exact(activation, x, -1)) / h**2
            values.append(float(value))
    return np.array(values)


@pytest.fixture(scope="module")
def table():
    """Truth at POINTS rounded to each dtype: (activation, dtype) -> three arrays."""
    return {
        (activation, dtype): [truth(activation, np.array(POINTS, dtype), order) for order in range(3)]
        for activation in ACTIVATIONS
        for dtype in DTYPES
    }


@both_modules
@all_activations
@both_dtypes
def test_value_and_derivatives_against_multiple_precision(module, activation, dtype, table):
    z = np.array(POINTS, dtype)
    results = module.activation_derivatives(z, activation)
    for result, want in zip(results, table[activation, dtype], strict=True):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, want, rtol=10 * eps(dtype), atol=2 * eps(dtype))
    np.testing.assert_allclose(module.activation_forward(z, activation), results[0], rtol=4 * eps(dtype), atol=0)


@both_modules
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "elu", "selu", "gelu", "silu", "mish"])
@both_dtypes
def test_tails_keep_relative_accuracy(module, activation, dtype):
    z = -np.linspace(2, 11, 19).astype(dtype)
    if dtype == np.float64:
        z = np.concatenate([z, -np.linspace(11, 36, 19)])
    results = module.activation_derivatives(z, activation)
    for order, result in enumerate(results):
        want = truth(activation, z, order)
        np.testing.assert_allclose(result, want, rtol=16 * eps(dtype), atol=0)


@both_modules
@all_activations
@both_dtypes
def test_small_arguments_keep_relative_accuracy(module, activation, dtype):
    z = np.array([1e-3, 1e-5, 1e-10, 1e-20, 1e-30], dtype)
    for sign in (1, -1):
        result = module.activation_forward(sign * z, activation)
        np.testing.assert_allclose(result, truth(activation, sign * z, 0), rtol=8 * eps(dtype), atol=0)


# activation: (z, a, σ', σ'')
KINKS = {
    "relu": [(0.0, 0.0, 0.0, 0.0)],
    "leaky_relu": [(0.0, 0.0, 0.01, 0.0)],
    "hard_tanh": [(1.0, 1.0, 0.0, 0.0), (-1.0, -1.0, 0.0, 0.0)],
    "leaky_tanh": [(0.0, 0.0, 0.01, 0.0)],
    "elu": [(0.0, 0.0, 1.0, 1.0)],
    "selu": [(0.0, 0.0, 1.7580993408473766, 1.7580993408473766)],
    "sign": [(0.0, 0.0, 0.0, 0.0)],
}


@both_modules
@pytest.mark.parametrize("activation", KINKS)
@both_dtypes
def test_kinks(module, activation, dtype):
    for z, *want in KINKS[activation]:
        for n in (1, 33):
            for signed in (z, -z) if z == 0 else (z,):
                Z = np.full(n, signed, dtype)
                results = module.activation_derivatives(Z, activation)
                for result, value in zip(results, want, strict=True):
                    np.testing.assert_array_equal(result, dtype(value))
                back = module.activation_backward(module.activation_forward(Z, activation), np.ones_like(Z), activation)
                np.testing.assert_array_equal(back, dtype(want[1]))


@both_modules
@both_dtypes
@pytest.mark.parametrize("slope", [1e-3, 0.2, 1.0])
@pytest.mark.parametrize("n", [1, 7, 64, 133])
def test_slope_of_leaky_relu(module, dtype, slope, n):
    Z = np.random.default_rng(n).standard_normal(n).astype(dtype)
    Z[0] = -0.0
    s = dtype(slope)
    A, D1, D2 = module.activation_derivatives(Z, "leaky_relu", slope)
    want = np.where(Z > 0, dtype(1), s)
    np.testing.assert_array_equal(A, want * Z)
    np.testing.assert_array_equal(D1, want)
    np.testing.assert_array_equal(D2, 0)
    np.testing.assert_array_equal(module.activation_forward(Z, "leaky_relu", negative_slope=slope), A)
    delta = np.linspace(-2, 3, n, dtype=dtype)
    np.testing.assert_array_equal(module.activation_backward(A, delta, "leaky_relu", slope), want * delta)
    np.testing.assert_array_equal(module.activation_forward(Z, "tanh", slope), module.activation_forward(Z, "tanh"))
    assert {array.dtype for array in (A, D1, D2)} == {np.dtype(dtype)}


@both_modules
def test_a_slope_is_above_0(module):
    Z = np.ones(3)
    for call in (
        lambda slope: module.activation_forward(Z, "leaky_relu", slope),
        lambda slope: module.activation_derivatives(Z, "leaky_relu", slope),
        lambda slope: module.activation_backward(Z, Z, "leaky_relu", slope),
    ):
        for slope in (0.0, -0.1, NAN):
            with pytest.raises(ValueError, match="negative_slope: expected a number > 0, got"):
                call(slope)
        with pytest.raises(TypeError, match="negative_slope: expected a number, got '1'"):
            call("1")


# activation: σ and σ' at -inf and +inf, or of σ the multiple of z that it grows like (kind z); σ'' vanishes at both
LIMITS = {
    "linear": ((1.0, 1.0), (1.0, 1.0), "zz"),
    "relu": ((0.0, 0.0), (1.0, 1.0), "az"),
    "leaky_relu": ((0.01, 0.01), (1.0, 1.0), "zz"),
    "tanh": ((-1.0, 0.0), (1.0, 0.0), "aa"),
    "hard_tanh": ((-1.0, 0.0), (1.0, 0.0), "aa"),
    "leaky_tanh": ((0.01, 0.01), (1.0, 0.0), "za"),
    "sigmoid": ((0.0, 0.0), (1.0, 0.0), "aa"),
    "softplus": ((0.0, 0.0), (1.0, 1.0), "az"),
    "elu": ((-1.0, 0.0), (1.0, 1.0), "az"),
    "selu": ((-1.7580993408473766, 0.0), (1.0507009873554805, 1.0507009873554805), "az"),
    "gelu": ((0.0, 0.0), (1.0, 1.0), "az"),
    "silu": ((0.0, 0.0), (1.0, 1.0), "az"),
    "mish": ((0.0, 0.0), (1.0, 1.0), "az"),
    "sign": ((-1.0, 0.0), (1.0, 0.0), "aa"),
}


@both_modules
@all_activations
@both_dtypes
def test_limits(module, activation, dtype):
    left, right, kinds = LIMITS[activation]
    sides = ((-1, left, kinds[0]), (1, right, kinds[1]))
    sizes = (dtype(1e4), dtype(1e30), np.finfo(dtype).max, dtype(INF))
    for size, (sign, (value, slope), kind) in itertools.product(sizes, sides):
        Z = np.full(19, sign * size, dtype)
        A, D1, D2 = module.activation_derivatives(Z, activation)
        with np.errstate(over="ignore"):  # selu's
            want = dtype(value) * Z if kind == "z" else np.full_like(Z, value)
        np.testing.assert_array_equal(A, want)
        np.testing.assert_array_equal(module.activation_forward(Z, activation), want)
        np.testing.assert_array_equal(D1, dtype(slope))
        np.testing.assert_array_equal(D2, 0)
        saved = A if activation in SAVES_OUTPUT else Z
        np.testing.assert_array_equal(module.activation_backward(saved, np.ones_like(Z), activation), dtype(slope))


@both_modules
@all_activations
@both_dtypes
def test_everything_is_finite_on_a_wide_grid(module, activation, dtype):
    positive = np.geomspace(float(np.finfo(dtype).smallest_subnormal), 1e4, 3001).astype(dtype)
    Z = np.concatenate([-positive, [dtype(0), dtype(-0.0)], positive])
    A, D1, D2 = module.activation_derivatives(Z, activation)
    for result in (A, D1, D2, module.activation_forward(Z, activation)):
        assert np.all(np.isfinite(result))
    saved = A if activation in SAVES_OUTPUT else Z
    assert np.all(np.isfinite(module.activation_backward(saved, np.ones_like(Z), activation)))


@both_modules
@all_activations
@both_dtypes
def test_nan_is_not_hidden(module, activation, dtype):
    Z = np.full(21, NAN, dtype)
    assert np.all(np.isnan(module.activation_forward(Z, activation)))
    assert np.all(np.isnan(module.activation_derivatives(Z, activation)[0]))
    assert np.all(np.isnan(module.activation_backward(np.ones_like(Z), Z, activation)))


@both_modules
@all_activations
@both_dtypes
def test_backward_is_delta_times_the_derivative(module, activation, dtype):
    rng = np.random.default_rng(3)
    Z = np.concatenate([rng.normal(0, 2, 500), rng.uniform(-8, 8, 500)]).astype(dtype)
    delta = rng.normal(size=Z.size).astype(dtype)
    A, D1, _ = module.activation_derivatives(Z, activation)
    saved, kept = (A if activation in SAVES_OUTPUT else Z), delta.copy()
    result = module.activation_backward(saved, delta, activation)
    assert result.dtype == dtype
    np.testing.assert_array_equal(delta, kept)
    error = np.abs(result - delta * D1)
    assert np.all(error <= 8 * eps(dtype) * np.abs(delta))


@both_modules
@both_dtypes
def test_softplus_backward_is_accurate_at_small_outputs(module, dtype):
    a = np.geomspace(1e-30, 1, 61).astype(dtype)
    result = module.activation_backward(a, np.ones_like(a), "softplus")
    np.testing.assert_allclose(result, -np.expm1(-a.astype(np.float64)), rtol=4 * eps(dtype))


def layouts(dtype):
    """Arrays of awkward shapes, strides and flags."""
    base = np.random.default_rng(4).normal(0, 3, (6, 10, 7)).astype(dtype)
    read_only = base.copy()
    read_only.flags.writeable = False
    return {
        "empty": base[:0],
        "scalar": base[0, 0, 0:1].reshape(()),
        "one row": base[0, :1],
        "one column": base[0, :, :1],
        "3-D": base,
        "Fortran": np.asfortranarray(base[0]),
        "every other": base[::2, ::3, ::-1],
        "transposed": base.T,
        "read-only": read_only,
        "broadcast": np.broadcast_to(base[0, 0], (5, 7)),
    }


def check_against_the_reference(Z, activation):
    dtype = Z.dtype.type
    tolerance = {"rtol": 16 * eps(dtype), "atol": 4 * eps(dtype)}
    before = Z.copy()
    result, want = kernels.activation_forward(Z, activation), reference.activation_forward(Z, activation)
    assert result.shape == want.shape == Z.shape
    assert result.dtype == want.dtype == dtype
    np.testing.assert_allclose(result, want, **tolerance)
    results = kernels.activation_derivatives(Z, activation)
    wants = reference.activation_derivatives(Z, activation)
    for result, want in zip(results, wants, strict=True):
        assert result.shape == want.shape == Z.shape
        assert result.dtype == want.dtype == dtype
        np.testing.assert_allclose(result, want, **tolerance)
    saved = wants[0] if activation in SAVES_OUTPUT else Z
    result, want = (module.activation_backward(saved, Z, activation) for module in (kernels, reference))
    assert result.shape == want.shape == Z.shape
    assert result.dtype == want.dtype == dtype
    assert np.all(np.abs(result - want) <= 16 * eps(dtype) * np.abs(Z))
    np.testing.assert_array_equal(Z, before)


@all_activations
@both_dtypes
def test_compiled_against_the_reference_shapes_and_strides(activation, dtype):
    for name, Z in layouts(dtype).items():
        try:
            check_against_the_reference(Z, activation)
        except Exception as error:
            error.add_note(name)
            raise


@all_activations
@both_dtypes
def test_compiled_against_the_reference_sizes_around_vector_widths(activation, dtype):
    Z = np.random.default_rng(5).normal(0, 3, 1000).astype(dtype)
    for n in (*range(71), 1000):
        check_against_the_reference(Z[:n], activation)


@all_activations
@both_dtypes
def test_result_does_not_depend_on_the_position(activation, dtype):
    Z = np.random.default_rng(6).normal(0, 3, 70).astype(dtype)
    whole = kernels.activation_derivatives(Z, activation)
    for n in range(71):
        np.testing.assert_array_equal(kernels.activation_forward(Z[:n], activation), whole[0][:n])
        for part, all_of_it in zip(kernels.activation_derivatives(Z[:n], activation), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[:n])


@both_modules
@all_activations
def test_results_are_new_arrays(module, activation):
    Z = np.linspace(-2, 2, 9)
    A = module.activation_forward(Z, activation)
    others = [*module.activation_derivatives(Z, activation), module.activation_backward(Z, Z, activation)]
    for result in (A, *others):
        assert not np.shares_memory(result, Z)


def test_names():
    assert next(iter(ACTIVATIONS)) == "linear"
    assert set(ACTIVATIONS) == set(DEFINITIONS)
    assert set(ACTIVATIONS) - SAVES_OUTPUT == {"gelu", "silu", "mish"}
    assert set(ACTIVATIONS) >= SAVES_OUTPUT


@both_modules
@pytest.mark.parametrize("activation", ["rectifier", "RELU", "", None, 3, ["relu"]])
def test_unknown_activation(module, activation):
    Z = np.ones(3)
    for call in (
        lambda: module.activation_forward(Z, activation),
        lambda: module.activation_derivatives(Z, activation),
        lambda: module.activation_backward(Z, Z, activation),
    ):
        with pytest.raises(ValueError, match="activation"):
            call()


@both_modules
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128, np.bool_])
def test_other_dtypes_are_refused(module, dtype):
    Z = np.ones(3, dtype)
    for name, call in (
        ("Z", lambda: module.activation_forward(Z, "relu")),
        ("Z", lambda: module.activation_derivatives(Z, "relu")),
        ("saved", lambda: module.activation_backward(Z, np.ones(3), "relu")),
        ("delta", lambda: module.activation_backward(np.ones(3), Z, "relu")),
    ):
        with pytest.raises(TypeError, match=name):
            call()


@both_modules
def test_delta_must_match_saved(module):
    saved = np.ones((2, 3))
    with pytest.raises(ValueError, match="delta"):
        module.activation_backward(saved, np.ones((3, 2)), "relu")
    with pytest.raises(ValueError, match="delta"):
        module.activation_backward(saved, np.ones(6), "relu")
    with pytest.raises(TypeError, match="delta"):
        module.activation_backward(saved, np.ones((2, 3), np.float32), "relu")


@all_activations
def test_facts(activation: str) -> None:
    z = np.linspace(-3.0, 3.0, 601) + 0.0025  # beside the kinks
    A, slope, bend = reference.activation_derivatives(z, activation)
    facts = ACTIVATIONS[activation]
    functions = {"abs": np.abs, "erf": erf, "exp": np.exp, "log": np.log, "max": np.maximum, "min": np.minimum}
    functions |= {"sigmoid": expit, "sign": np.sign, "tanh": np.tanh, "z": z, "negative_slope": 0.01}
    np.testing.assert_allclose(eval(facts.formula, {"__builtins__": {}}, functions), A, rtol=1e-14, atol=1e-15)
    assert facts.piecewise_linear == (not np.asarray(bend).any())
    # the derivative is a function of the output unless two points have one output and two slopes
    order = np.argsort(A)
    close = np.diff(A[order]) < 1e-3
    assert facts.saves_output == bool((np.abs(np.diff(np.asarray(slope)[order])[close]) < 0.05).all())


@all_activations
def test_the_initializer_keeps_the_variance(activation: str) -> None:
    """Through ten layers of 300 units, the one that is named better than the other two."""
    X = np.random.default_rng(0).standard_normal((200, 300))
    kept = {}
    for init in ("glorot_uniform", "he_uniform", "lecun_normal"):
        layers = [fnn.Dense(300, activation, init=init) for _ in range(10)]
        net = fnn.Sequential(layers, input_size=300, loss="squared_error", seed=1)
        kept[init] = abs(np.log(net.predict(X).var()))
    if activation == "selu":
        assert kept["lecun_normal"] < 0.2
    elif ACTIVATIONS[activation].init == "he_uniform":
        assert kept["he_uniform"] < kept["glorot_uniform"]
