"""Element-wise functions and activations in NumPy, value and derivatives side by side.

Derivatives at z are written with exp(-abs(z)): they never overflow, and keep their relative accuracy in the tails,
where 1 - a**2 and s (1 - s) lose it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..plan import ACTIVATIONS, NEGATIVE_SLOPE
from .arguments import ACTIVATION, ANY, Like, Number, Read, checked

__all__ = [
    "ACTIVATIONS",
    "SAVES_OUTPUT",
    "activation_backward",
    "activation_derivatives",
    "activation_forward",
    "exp",
    "log",
    "tanh",
]

#: The activations whose derivative is a function of their output, which is what their backward pass takes.
SAVES_OUTPUT = frozenset(name for name, facts in ACTIVATIONS.items() if facts.saves_output)

_LEAK = 0.01  # of leaky_tanh
_SLOPE = Number(above=0.0)
_SELU_RIGHT = 1.0507009873554805  # λ and λ α of Klambauer et al. 2017
_SELU_LEFT = 1.7580993408473766
_BOUND = 750.0  # beyond it the sigmoid and the normal cdf are 0 or 1, and z * 0 must not become inf * 0

# P of _normal, highest power first; printed by tools/fit_polynomials.py
_NORMAL_TAIL = (
    -1.2365368468920256e-09,
    -4.275334986031377e-10,
    1.4704834274675189e-08,
    1.6367377482282572e-08,
    -7.724223601350653e-08,
    -1.5702326000588482e-07,
    2.6408156687641206e-07,
    1.022207254768024e-06,
    -6.251259216060743e-07,
    -5.920186397037244e-06,
    7.149144278740056e-07,
    3.5144625429199784e-05,
    -1.907823702236086e-06,
    -0.00023109491496864772,
    0.00013334424462303245,
    0.0016308184546660013,
    -0.0034796923611876795,
    -0.007540188966530889,
    0.06039657489064385,
    -0.1865218579596623,
    0.3871374007422199,
    -0.6078966419718921,
    0.7552851304157515,
)


@checked(x=Read(ANY))
def exp(x: np.ndarray) -> np.ndarray:
    """Exponential, element by element.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape

    Returns
    -------
    ndarray
        exp(x), in the shape and dtype of `x`; inf on overflow, without a warning.

    Raises
    ------
    TypeError
        If `x` is neither float32 nor float64.
    """
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(x))


@checked(x=Read(ANY))
def log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm, element by element.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape

    Returns
    -------
    ndarray
        log(x), in the shape and dtype of `x`; -inf at zero and NaN below it, without a warning.

    Raises
    ------
    TypeError
        If `x` is neither float32 nor float64.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(x))


@checked(x=Read(ANY))
def tanh(x: np.ndarray) -> np.ndarray:
    """Hyperbolic tangent, element by element.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape

    Returns
    -------
    ndarray
        tanh(x), in the shape and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is neither float32 nor float64.
    """
    return np.asarray(np.tanh(x))


# Of each activation: the value at z, (value, first, second derivative) at z, and the first derivative from what the
# forward pass saved, which is the output for those in SAVES_OUTPUT, else z.


def _linear(z: np.ndarray) -> np.ndarray:
    return z.copy()


def _linear_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return z.copy(), np.ones_like(z), np.zeros_like(z)


def _linear_slope(a: np.ndarray) -> np.ndarray:
    return np.ones_like(a)


def _relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def _relu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _relu(z), _relu_slope(z), np.zeros_like(z)


def _relu_slope(a: np.ndarray) -> np.ndarray:
    return (a > 0).astype(a.dtype)


def _leaky_relu(z: np.ndarray, leak: float) -> np.ndarray:
    return np.where(z > 0, z, leak * z)


def _leaky_relu_derivatives(z: np.ndarray, leak: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _leaky_relu(z, leak), _leaky_relu_slope(z, leak), np.zeros_like(z)


def _leaky_relu_slope(a: np.ndarray, leak: float) -> np.ndarray:
    return np.where(a > 0, a.dtype.type(1.0), a.dtype.type(leak))


def _tanh_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = np.tanh(z)
    e = np.exp(-2.0 * np.minimum(np.abs(z), _BOUND))
    d1 = 4.0 * e / (1.0 + e) ** 2  # 1 / cosh(z)^2
    return a, d1, -2.0 * a * d1


def _tanh_slope(a: np.ndarray) -> np.ndarray:
    return (1.0 - a) * (1.0 + a)


def _hard_tanh(z: np.ndarray) -> np.ndarray:
    return np.clip(z, -1.0, 1.0)


def _hard_tanh_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _hard_tanh(z), _hard_tanh_slope(z), np.zeros_like(z)


def _hard_tanh_slope(a: np.ndarray) -> np.ndarray:
    return (np.abs(a) < 1).astype(a.dtype)


def _leaky_tanh(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, np.tanh(z), _LEAK * z)


def _leaky_tanh_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, d1, d2 = _tanh_derivatives(z)
    return np.where(z > 0, a, _LEAK * z), np.where(z > 0, d1, _LEAK), np.where(z > 0, d2, 0.0)


def _leaky_tanh_slope(a: np.ndarray) -> np.ndarray:
    return np.where(a > 0, _tanh_slope(np.maximum(a, 0.0)), _LEAK)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


def _sigmoid_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e = np.exp(-np.abs(z))
    d1 = e / (1.0 + e) ** 2
    return np.where(z < 0, e, 1.0) / (1.0 + e), d1, -d1 * np.tanh(0.5 * z)  # 1 - 2 s = -tanh(z / 2)


def _sigmoid_slope(a: np.ndarray) -> np.ndarray:
    return a * (1.0 - a)


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _softplus_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s, d1, _ = _sigmoid_derivatives(z)
    return _softplus(z), s, d1


def _softplus_slope(a: np.ndarray) -> np.ndarray:
    return -np.expm1(-a)


def _elu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0.0)))


def _elu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e = np.exp(np.minimum(z, 0.0))
    return _elu(z), e, np.where(z > 0, 0.0, e)


def _elu_slope(a: np.ndarray) -> np.ndarray:
    return np.where(a > 0, 1.0, 1.0 + a)


def _selu(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.where(z > 0, _SELU_RIGHT * z, _SELU_LEFT * np.expm1(np.minimum(z, 0.0)))


def _selu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e = _SELU_LEFT * np.exp(np.minimum(z, 0.0))
    return _selu(z), np.where(z > 0, _SELU_RIGHT, e), np.where(z > 0, 0.0, e)


def _selu_slope(a: np.ndarray) -> np.ndarray:
    return np.where(a > 0, _SELU_RIGHT, _SELU_LEFT + a)


def _normal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cdf and the density of the normal distribution at z, in float64.

    The tail beyond a = abs(z) is exp(-a^2/2) P(t) / (a + 4) with t = (a - 4) / (a + 4), the transformation of
    Shepherd and Laframboise (Math. Comp. 36, 1981). A float64 product a * a would lose digits of the exponential: the
    square is taken of a coarser a, and the rest goes into a second factor.
    """
    z = z.astype(np.float64, copy=False)
    a = np.minimum(np.abs(z), 40.0)
    t = (a - 4.0) / (a + 4.0)
    p = np.full_like(t, _NORMAL_TAIL[0])
    for coefficient in _NORMAL_TAIL[1:]:
        p *= t
        p += coefficient
    coarse = np.round(16.0 * a) / 16.0
    e = np.exp(-0.5 * coarse * coarse) * np.exp(-0.5 * (a - coarse) * (a + coarse))
    tail = e * p / (a + 4.0)
    return np.where(z > 0, 1.0 - tail, tail), e / np.sqrt(2.0 * np.pi)


def _gelu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, -_BOUND) * _normal(z)[0]


def _gelu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cdf, pdf = _normal(z)
    bounded = np.clip(z, -_BOUND, _BOUND).astype(np.float64, copy=False)
    return np.maximum(z, -_BOUND) * cdf, cdf + bounded * pdf, (2.0 - bounded * bounded) * pdf


def _gelu_slope(z: np.ndarray) -> np.ndarray:
    return _gelu_derivatives(z)[1]


def _silu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, -_BOUND) * _sigmoid(z)


def _silu_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s, s1, _ = _sigmoid_derivatives(z)
    bounded = np.clip(z, -_BOUND, _BOUND)
    return np.maximum(z, -_BOUND) * s, s + bounded * s1, s1 * (2.0 - bounded * np.tanh(0.5 * bounded))


def _silu_slope(z: np.ndarray) -> np.ndarray:
    return _silu_derivatives(z)[1]


def _mish_terms(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t = tanh(log(1 + e^z)) and its derivatives, as quotients of polynomials in e = e^-|z|.

    t = n / d with n = (1 + e^z)² − 1 and d = (1 + e^z)² + 1, both divided by e^2z where z > 0. There is no difference
    that cancels in the tails: the polynomial in t'' vanishes between −2 and 2 alone.
    """
    e, right = np.exp(-np.abs(z)), z > 0
    n = np.where(right, 1.0 + 2.0 * e, e * (2.0 + e))
    d = n + 2.0 * np.where(right, e * e, 1.0)
    p = 4.0 * np.where(right, e * e, e) / (d * d)
    above = -2.0 + e * (-3.0 + e * (2.0 + 2.0 * e))
    below = 2.0 + e * (2.0 - e * (3.0 + 2.0 * e))
    return n / d, p * (1.0 + e), p * np.where(right, above, below) / d


def _mish(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, -_BOUND) * _mish_terms(z)[0]


def _mish_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t, t1, t2 = _mish_terms(z)
    bounded = np.clip(z, -_BOUND, _BOUND)
    return np.maximum(z, -_BOUND) * t, t + bounded * t1, 2.0 * t1 + bounded * t2


def _mish_slope(z: np.ndarray) -> np.ndarray:
    return _mish_derivatives(z)[1]


def _sign_derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.sign(z), np.zeros_like(z), np.zeros_like(z)


_FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "linear": (_linear, _linear_derivatives, _linear_slope),
    "relu": (_relu, _relu_derivatives, _relu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_derivatives, _leaky_relu_slope),
    "tanh": (np.tanh, _tanh_derivatives, _tanh_slope),
    "hard_tanh": (_hard_tanh, _hard_tanh_derivatives, _hard_tanh_slope),
    "leaky_tanh": (_leaky_tanh, _leaky_tanh_derivatives, _leaky_tanh_slope),
    "sigmoid": (_sigmoid, _sigmoid_derivatives, _sigmoid_slope),
    "softplus": (_softplus, _softplus_derivatives, _softplus_slope),
    "elu": (_elu, _elu_derivatives, _elu_slope),
    "selu": (_selu, _selu_derivatives, _selu_slope),
    "gelu": (_gelu, _gelu_derivatives, _gelu_slope),
    "silu": (_silu, _silu_derivatives, _silu_slope),
    "mish": (_mish, _mish_derivatives, _mish_slope),
    "sign": (np.sign, _sign_derivatives, np.zeros_like),
}


@checked(Z=Read(ANY), activation=ACTIVATION, negative_slope=_SLOPE)
def activation_forward(Z: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE) -> np.ndarray:
    """Value of an activation, element by element: A = σ(Z).

    ==========  ======================================  ============================  ===========================
    activation  σ(z) = a                                σ'                            σ''
    ==========  ======================================  ============================  ===========================
    linear      z                                       1                             0
    relu        max(z, 0)                               1 if z > 0 else 0             0
    leaky_relu  z if z > 0 else s z                     1 if z > 0 else s             0
    tanh        tanh(z)                                 1 - a^2                       -2 a (1 - a^2)
    hard_tanh   min(max(z, -1), 1)                      1 if abs(z) < 1 else 0        0
    leaky_tanh  tanh(z) if z > 0 else 0.01 z            1 - a^2 if z > 0 else 0.01    -2 a (1 - a^2) if z > 0 else 0
    sigmoid     s = 1 / (1 + exp(-z))                   s (1 - s)                     s (1 - s) (1 - 2 s)
    softplus    log(1 + exp(z))                         s                             s (1 - s)
    elu         z if z > 0 else exp(z) - 1              1 if z > 0 else exp(z)        0 if z > 0 else exp(z)
    selu        λ z if z > 0 else λ α (exp(z) - 1)      λ if z > 0 else λ α exp(z)    0 if z > 0 else λ α exp(z)
    gelu        z Phi(z), Phi the normal cdf            Phi(z) + z phi(z)             (2 - z^2) phi(z)
    silu        z s                                     s + z s (1 - s)               s (1 - s) (2 + z (1 - 2 s))
    mish        z t, t = tanh(softplus(z))              t + z t', t' = (1 - t^2) s    t' (2 + z (1 - s - 2 t s))
    sign        -1, 0 or 1                              0                             0
    ==========  ======================================  ============================  ===========================

    Parameters
    ----------
    Z : ndarray of float32 or float64, any shape
        Pre-activations. Infinite ones give the limit, NaN gives NaN.
    activation : str
        One of `ACTIVATIONS`.
    negative_slope : float, default=0.01
        s of leaky_relu, above 0; the others do not have it.

    Returns
    -------
    A : ndarray
        In the shape and dtype of `Z`.

    Raises
    ------
    ValueError
        If `activation` is not known, or `negative_slope` is not above 0.
    TypeError
        If `Z` is neither float32 nor float64.

    Notes
    -----
    gelu is the exact one (Hendrycks and Gimpel, 2016), not its tanh approximation. elu has alpha = 1.
    selu has λ = 1.0507009873554805 and α = 1.6732632423543772 (Klambauer et al., 2017); mish is Misra's of 2019.
    """
    forward, _, _ = _functions(activation, negative_slope)
    return np.asarray(forward(Z), dtype=Z.dtype)


def _functions(activation: str, negative_slope: float) -> tuple[Callable[..., Any], ...]:
    """The three functions of an activation, of a leaky one with its slope."""
    functions = _FUNCTIONS[activation]
    if not ACTIVATIONS[activation].leaky:
        return functions
    return tuple(functools.partial(function, leak=negative_slope) for function in functions)


@checked(Z=Read(ANY), activation=ACTIVATION, negative_slope=_SLOPE)
def activation_derivatives(
    Z: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, first and second derivative of an activation at Z; formulas at `activation_forward`.

    Parameters
    ----------
    Z : ndarray of float32 or float64, any shape
        Pre-activations.
    activation : str
        One of `ACTIVATIONS`.
    negative_slope : float, default=0.01
        Of leaky_relu, above 0.

    Returns
    -------
    A, D1, D2 : ndarray
        σ(Z), σ'(Z) and σ''(Z), each in the shape and dtype of `Z`. At a kink: relu' = 0, leaky_relu'
        the slope, leaky_tanh' 0.01, hard_tanh' = 0, sign' = 0, elu'' = 1, selu' = selu'' = λ α, the derivatives of the
        left side.

    Raises
    ------
    ValueError
        If `activation` is not known, or `negative_slope` is not above 0.
    TypeError
        If `Z` is neither float32 nor float64.
    """
    _, derivatives, _ = _functions(activation, negative_slope)
    A, D1, D2 = derivatives(Z)
    return np.asarray(A, dtype=Z.dtype), np.asarray(D1, dtype=Z.dtype), np.asarray(D2, dtype=Z.dtype)


@checked(saved=Read(ANY), delta=Like("saved"), activation=ACTIVATION, negative_slope=_SLOPE)
def activation_backward(
    saved: np.ndarray, delta: np.ndarray, activation: str, negative_slope: float = NEGATIVE_SLOPE
) -> np.ndarray:
    """Backward pass of an activation: δ ⊙ σ'(Z).

    Parameters
    ----------
    saved : ndarray of float32 or float64, any shape
        What the forward pass saved: the output σ(Z) for the activations in `SAVES_OUTPUT`, Z itself for the others.
    delta : ndarray, shape and dtype of `saved`
        Derivative of the loss with respect to the output.
    activation : str
        One of `ACTIVATIONS`.
    negative_slope : float, default=0.01
        Of leaky_relu, above 0.

    Returns
    -------
    ndarray
        Derivative of the loss with respect to Z, a new array in the shape and dtype of `delta`.

    Raises
    ------
    ValueError
        If `activation` is not known, `negative_slope` is not above 0, or the shapes differ.
    TypeError
        If `saved` is neither float32 nor float64, or the dtypes differ.
    """
    _, _, slope = _functions(activation, negative_slope)
    return np.asarray(delta * slope(saved), dtype=delta.dtype)
