"""Update rules of the optimizers. All change `theta` and their state arrays in place and leave the gradient alone.

Every rule steps along the effective gradient

    g' = clip( factor · (scale · g + l2 · θ), ±clip_value )

with θ as it was before the step: `scale` turns a sum into a mean, `factor` carries the clipping of the whole
gradient's norm, which the caller knows (:func:`gradient_norm2`). The penalty l1 ‖θ‖₁ has no derivative where a weight
is 0, and steps along one would leave no weight there. The rules take it by its proximal operator, of the step's own
metric: where a rule moves θ by −h g', the new θ then moves towards 0 by h · factor · l1, and no further. With momentum
that is part of the step. So the fixed points are the minima of the whole objective, in which useless weights are 0
(docs/theory.md, eq. 8.17 to 8.19; Duchi, Hazan & Singer 2011, section 5; Beck & Teboulle 2009).

Where a rule divides by √· + ε, an ε below the root of the smallest normal number of the dtype counts as that root.
Where the square of a gradient vanishes, 0 or too small for the dtype, the step is then 0 or small, with ε = 0 too.
"""

from __future__ import annotations

import math

import numpy as np

from .arguments import Call, Changed, Integer, Number, Read, checked, flag

__all__ = [
    "adagrad_update",
    "adam_update",
    "gradient_norm2",
    "momentum_update",
    "nag_momentum",
    "nag_update",
    "rmsprop_update",
    "sgd_update",
]

INF = math.inf

EPSILON = Number(minimum=0.0)
DECAY = Number(minimum=0.0, below=1.0)
TERMS = {"scale": Number(), "l1": Number(), "l2": Number(), "factor": Number(), "clip_value": Number(minimum=0.0)}


def check_velocity(call: Call) -> None:
    """Momentum needs a velocity."""
    if call.values["momentum"] != 0.0 and call.values["velocity"] is None:
        raise ValueError("velocity: expected an array because momentum is not 0, got None")


# Where nag_momentum's last call ended: a step k and its t_k.
_nag = (1, 1.0)


@checked(
    check_velocity,
    theta=Changed("P"),
    grad=Read("P"),
    velocity=Changed("P", optional=True),
    learning_rate=Number(),
    momentum=Number(),
    nesterov=flag,
    **TERMS,
)
def sgd_update(
    theta: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """Stochastic gradient descent: v ← μ v − η g', θ ← θ + v, or θ ← θ + μ v − η g' with `nesterov`.

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        Changed in place.
    grad : ndarray (P,), same dtype
    velocity : ndarray (P,), same dtype, or None
        v, changed in place; may be None when `momentum` is 0, where θ ← θ − η g'.
    learning_rate, momentum : float
        η and μ.
    nesterov : bool, default=False
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit, an array to change is read-only, or momentum comes without a velocity.

    Notes
    -----
    Sutskever et al. 2013, equations 1-4. With momentum 0 a given velocity is left as it is.
    """
    step = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    step *= -learning_rate
    limit = learning_rate * factor * l1
    if velocity is None or momentum == 0.0:
        theta += step
        _shrink(theta, limit)
        return
    velocity *= momentum
    if nesterov and l1 != 0.0:
        x = theta + step
        _shrink(x, limit)
        velocity += x - theta
        theta[...] = x + momentum * velocity
    elif nesterov:
        velocity += step
        step += momentum * velocity
        theta += step
    else:
        velocity += step
        theta += velocity
        velocity -= _shrink(theta, limit)


@checked(
    theta=Changed("P"),
    grad=Read("P"),
    m=Changed("P"),
    step=Integer(1),
    learning_rate=Number(),
    beta1=DECAY,
    **TERMS,
)
def momentum_update(
    theta: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """Momentum as a bias-corrected mean of gradients: m ← β₁ m + (1 − β₁) g', θ ← θ − η m / (1 − β₁ᵗ), t = `step`.

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        Changed in place.
    grad : ndarray (P,), same dtype
    m : ndarray (P,), same dtype
        Moving average, changed in place.
    step : int
        t, 1 for the first update.
    learning_rate, beta1 : float
        η and β₁.
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit, an array to change is read-only, or `step` is below 1.

    Notes
    -----
    Kingma and Ba 2015, section 3, of the first moment alone. m / (1 − β₁ᵗ) = Σ β₁^{t−s} g'_s / Σ β₁^{t−s}, the weighted
    mean of all gradients so far. The threshold of `l1` is η l1 factor, as for a step without momentum.
    """
    g = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    m *= beta1
    m += (1.0 - beta1) * g
    theta -= (learning_rate / (1.0 - beta1**step)) * m
    _shrink(theta, learning_rate * factor * l1)


@checked(step=Integer(1), count=Integer(0))
def nag_momentum(step: int, count: int = 1) -> np.ndarray:
    """Momenta of Nesterov's accelerated gradient, μ_k = (t_k − 1) / t_{k+1}, for `count` steps from k = `step` on.

    t_1 = 1 and t_{k+1} = (1 + √(1 + 4 t_k²)) / 2, so that μ_1 = 0, and μ_k is about 1 − 3 / (k + 2).

    Parameters
    ----------
    step : int
        k, 1 for the first update.
    count : int, default=1

    Returns
    -------
    ndarray (count,) of float64

    Raises
    ------
    ValueError
        If `step` is below 1 or `count` below 0.

    Notes
    -----
    Nesterov 1983. The sequence is a recursion: a call that goes on where the last one ended is short, another one
    starts again from t_1.
    """
    global _nag
    k, t = _nag if _nag[0] <= step else (1, 1.0)
    while k < step:
        t = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
        k += 1
    momenta = np.empty(count)
    for i in range(count):
        after = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
        momenta[i] = (t - 1.0) / after
        t = after
    _nag = step + count, t
    return momenta


@checked(
    theta=Changed("P"),
    grad=Read("P"),
    ahead=Changed("P"),
    learning_rate=Number(),
    momentum=Number(),
    **TERMS,
)
def nag_update(
    theta: np.ndarray,
    grad: np.ndarray,
    ahead: np.ndarray,
    learning_rate: float,
    momentum: float,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """Nesterov's accelerated gradient of 1983, at the extrapolated point.

    With the iterate x behind θ, and μ = `momentum` of this step (:func:`nag_momentum`)::

        x' = θ − η g'            the new iterate: g' is the gradient at θ
        θ ← x' + μ (x' − x)      the new extrapolated point

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        The extrapolated point, changed in place.
    grad : ndarray (P,), same dtype
    ahead : ndarray (P,), same dtype
        θ − x, changed in place; zeros before the first step, where θ and x are one.
    learning_rate, momentum : float
        η and μ.
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit or an array to change is read-only.

    Notes
    -----
    Nesterov 1983. The state is θ − x, and not x, because it is small and does not change when θ and x move together:
    x' − x = (θ − x) − η g'.
    """
    step = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    step *= learning_rate
    if l1 != 0.0:
        x = theta - step
        _shrink(x, learning_rate * factor * l1)
        ahead += x - theta
        ahead *= momentum
        theta[...] = x + ahead
        return
    ahead -= step
    ahead *= momentum
    theta += ahead - step


@checked(
    theta=Changed("P"),
    grad=Read("P"),
    s=Changed("P"),
    learning_rate=Number(),
    epsilon=EPSILON,
    **TERMS,
)
def adagrad_update(
    theta: np.ndarray,
    grad: np.ndarray,
    s: np.ndarray,
    learning_rate: float,
    epsilon: float = 1e-10,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """AdaGrad: s ← s + g'², θ ← θ − η g' / (√s + ε); Duchi, Hazan and Singer 2011.

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        Changed in place.
    grad : ndarray (P,), same dtype
    s : ndarray (P,), same dtype
        Sum of squares, changed in place.
    learning_rate, epsilon : float
        η and ε.
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit or an array to change is read-only.
    """
    g = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    s += g * g
    divisor = np.sqrt(s) + _epsilon(epsilon, theta)
    g *= learning_rate
    g /= divisor
    theta -= g
    _shrink(theta, learning_rate * factor * l1 / divisor)


@checked(
    check_velocity,
    theta=Changed("P"),
    grad=Read("P"),
    s=Changed("P"),
    learning_rate=Number(),
    rho=Number(),
    epsilon=EPSILON,
    momentum=Number(),
    mean=Changed("P", optional=True),
    velocity=Changed("P", optional=True),
    **TERMS,
)
def rmsprop_update(
    theta: np.ndarray,
    grad: np.ndarray,
    s: np.ndarray,
    learning_rate: float,
    rho: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    mean: np.ndarray | None = None,
    velocity: np.ndarray | None = None,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """RMSProp, with a `mean` the centred one, and with momentum.

    ::

        s ← ρ s + (1 − ρ) g'²
        m ← ρ m + (1 − ρ) g',  s' = max(s − m², 0)        with `mean`; else s' = s
        u = g' / (√s' + ε)
        v ← μ v + u,  u = v                               with `momentum`
        θ ← θ − η u

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        Changed in place.
    grad : ndarray (P,), same dtype
    s : ndarray (P,), same dtype
        Moving average of squares, changed in place.
    learning_rate, rho, epsilon, momentum : float
        η, ρ, ε and μ.
    mean, velocity : ndarray (P,), same dtype, or None
        m and v, changed in place; `velocity` may be None when `momentum` is 0.
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit, an array to change is read-only, or momentum comes without a velocity.

    Notes
    -----
    Tieleman and Hinton 2012; centred: Graves 2013. As in torch, ε is outside the root, and η outside the velocity.
    Rounding can take s − m² below 0, where torch's step is NaN.
    """
    g = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    s *= rho
    s += (1.0 - rho) * (g * g)
    variance = s
    if mean is not None:
        mean *= rho
        mean += (1.0 - rho) * g
        variance = np.maximum(s - mean * mean, 0.0)
    divisor = np.sqrt(variance) + _epsilon(epsilon, theta)
    g /= divisor
    if velocity is not None and momentum != 0.0:
        velocity *= momentum
        velocity += g
        g = velocity
    theta -= learning_rate * g
    less = _shrink(theta, learning_rate * factor * l1 / divisor)
    if g is velocity and l1 != 0.0 and learning_rate != 0.0:
        velocity += less / learning_rate


@checked(
    theta=Changed("P"),
    grad=Read("P"),
    m=Changed("P"),
    v=Changed("P"),
    step=Integer(1),
    learning_rate=Number(),
    beta1=DECAY,
    beta2=DECAY,
    epsilon=EPSILON,
    weight_decay=Number(),
    v_max=Changed("P", optional=True),
    epsilon_hat=flag,
    **TERMS,
)
def adam_update(
    theta: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    v_max: np.ndarray | None = None,
    epsilon_hat: bool = False,
    *,
    scale: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    factor: float = 1.0,
    clip_value: float = INF,
) -> None:
    """Adam, with `weight_decay` AdamW, and with `v_max` AMSGrad.

    With t = `step`, g' taken at θ as it came, and θ ← (1 − η λ) θ before the rest::

        m ← β₁ m + (1 − β₁) g'
        v ← β₂ v + (1 − β₂) g'²
        v̄ = v,  or  v_max ← max(v_max, v),  v̄ = v_max
        θ ← θ − η m / (1 − β₁ᵗ) / (√(v̄ / (1 − β₂ᵗ)) + ε)

    With `epsilon_hat` the last line is θ ← θ − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) m / (√v̄ + ε).

    Parameters
    ----------
    theta : ndarray (P,) of float32 or float64
        Changed in place.
    grad : ndarray (P,), same dtype
    m, v : ndarray (P,), same dtype
        Moving averages, changed in place.
    step : int
        t, 1 for the first update.
    learning_rate, beta1, beta2, epsilon, weight_decay : float
        η, β₁, β₂, ε and λ.
    v_max : ndarray (P,), same dtype, or None
        Largest v so far, changed in place.
    epsilon_hat : bool, default=False
        Whether ε joins √v before the correction of the bias.
    scale, l1, l2, factor, clip_value : float
        Effective gradient g' = clip(factor (scale g + l2 θ), ±clip_value); `l1` by its proximal operator.

    Raises
    ------
    TypeError
        If a dtype does not fit or an array to change is not an array.
    ValueError
        If a shape does not fit, an array to change is read-only, or `step` is below 1.

    Notes
    -----
    Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2; Reddi, Kale and Kumar 2018 as torch has
    it, with the correction of the bias. ε is outside the root and outside the correction, as in torch; with
    `epsilon_hat` it is the ε̂ of the end of Kingma and Ba's section 2, as in scikit-learn.
    """
    g = effective_gradient(theta, grad, scale, 0.0, l2, factor, clip_value)
    m *= beta1
    m += (1.0 - beta1) * g
    v *= beta2
    v += (1.0 - beta2) * (g * g)
    if weight_decay != 0.0:
        theta *= 1.0 - learning_rate * weight_decay
    if v_max is not None:
        np.maximum(v_max, v, out=v_max)
    correction = 1.0 / math.sqrt(1.0 - beta2**step)
    root = np.sqrt(v if v_max is None else v_max)
    root *= correction
    root += _epsilon(epsilon * correction if epsilon_hat else epsilon, theta)
    theta -= (learning_rate / (1.0 - beta1**step)) * m / root
    _shrink(theta, learning_rate * factor * l1 / root)


@checked(theta=Read("P"), grad=Read("P"), scale=Number(), l1=Number(), l2=Number())
def gradient_norm2(
    theta: np.ndarray, grad: np.ndarray, *, scale: float = 1.0, l1: float = 0.0, l2: float = 0.0
) -> float:
    """Squared norm of the gradient before clipping, Σ (scale g + l2 θ + l1 sign θ)², summed in float64.

    With `l1` as a subgradient, sign 0 = 0; 0 for the norm of the effective gradient of a rule that takes it otherwise.

    Parameters
    ----------
    theta, grad : ndarray (P,) of float32 or float64, one dtype
    scale, l1, l2 : float

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape does not fit.
    """
    g = effective_gradient(theta, grad, scale, l1, l2, 1.0, INF)
    return float(np.square(g, dtype=np.float64).sum())


def _epsilon(epsilon: float, theta: np.ndarray) -> float:
    """ε, no smaller than √tiny: where g² vanishes, 0 / (√0 + ε) is 0 and |g| / (√0 + ε) at most about 1."""
    return max(float(epsilon), math.sqrt(float(np.finfo(theta.dtype).tiny)))


def _shrink(x: np.ndarray, limit: float | np.ndarray) -> np.ndarray | float:
    """The proximal operator of limit · |x|, in place: x ← sign x · max(|x| − limit, 0). Returns what it takes."""
    if np.ndim(limit) == 0 and limit == 0.0:
        return 0.0
    limit = np.asarray(limit, x.dtype)
    less = np.clip(x, -limit, limit)
    x -= less
    return less


def effective_gradient(
    theta: np.ndarray, grad: np.ndarray, scale: float, l1: float, l2: float, factor: float, clip_value: float
) -> np.ndarray:
    """The effective gradient, always a new array; with `l1` as a subgradient, sign 0 = 0."""
    g = grad * scale
    if l2 != 0.0:
        g += l2 * theta
    if l1 != 0.0:
        g += l1 * np.sign(theta)
    if factor != 1.0:
        g *= factor
    if clip_value != INF:
        np.clip(g, -clip_value, clip_value, out=g)
    return g
