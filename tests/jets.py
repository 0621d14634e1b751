"""An independent oracle of first and second derivatives: numbers that carry their gradient and Hessian with them.

Forward mode throughout, in float64, from the layers of a network and nothing of its engine: every value is a truncated
Taylor series in Q variables (theta, the inputs, or the outputs), and every operation is the rule for such series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf

import fastnn as fnn


class Jet:
    """Array v of shape S with its gradient g, S + (Q,), and Hessian h, S + (Q, Q)."""

    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(self, v: np.ndarray, g: np.ndarray, h: np.ndarray) -> None:
        self.v, self.g, self.h = v, g, h

    @classmethod
    def variables(cls, values: np.ndarray) -> Jet:
        Q = len(values)
        return cls(np.array(values, dtype=np.float64), np.eye(Q), np.zeros((Q, Q, Q)))

    def constant(self, value: Any) -> Jet:
        """`value` as a jet in the same variables."""
        v, Q = np.asarray(value, dtype=np.float64), self.g.shape[-1]
        return Jet(v, np.zeros((*v.shape, Q)), np.zeros((*v.shape, Q, Q)))

    def lift(self, other: Any) -> Jet:
        return other if isinstance(other, Jet) else self.constant(other)

    def __getitem__(self, at: Any) -> Jet:
        return Jet(self.v[at], self.g[at], self.h[at])

    def reshape(self, *shape: int) -> Jet:
        Q = self.g.shape[-1]
        return Jet(self.v.reshape(shape), self.g.reshape(*shape, Q), self.h.reshape(*shape, Q, Q))

    def __add__(self, other: Any) -> Jet:
        other = self.lift(other)
        return Jet(self.v + other.v, *self._aligned(other, lambda a, b: a + b))

    def _aligned(self, other: Jet, f: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        n = max(self.v.ndim, other.v.ndim)

        def pad(jet: Jet) -> tuple[np.ndarray, np.ndarray]:
            extra = (1,) * (n - jet.v.ndim)
            return jet.g.reshape(extra + jet.g.shape), jet.h.reshape(extra + jet.h.shape)

        (g1, h1), (g2, h2) = pad(self), pad(other)
        return f(g1, g2), f(h1, h2)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Jet:
        other = self.lift(other)
        n = max(self.v.ndim, other.v.ndim)
        a, b = (j.reshape(*((1,) * (n - j.v.ndim) + j.v.shape)) for j in (self, other))
        cross = a.g[..., :, None] * b.g[..., None, :]
        return Jet(
            a.v * b.v,
            a.v[..., None] * b.g + b.v[..., None] * a.g,
            a.v[..., None, None] * b.h + b.v[..., None, None] * a.h + cross + np.swapaxes(cross, -1, -2),
        )

    __rmul__ = __mul__

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Any) -> Jet:
        return self + -self.lift(other)

    def __rsub__(self, other: Any) -> Jet:
        return self.lift(other) - self

    def sum(self, axis: int, keepdims: bool = False) -> Jet:
        axis %= self.v.ndim
        return Jet(*(part.sum(axis=axis, keepdims=keepdims) for part in (self.v, self.g, self.h)))

    def mean(self, axis: int, keepdims: bool = False) -> Jet:
        return self.sum(axis, keepdims) * (1.0 / self.v.shape[axis])

    def __matmul__(self, other: Jet) -> Jet:
        g = np.einsum("ni,ioq->noq", self.v, other.g) + np.einsum("niq,io->noq", self.g, other.v)
        h = np.einsum("ni,iopq->nopq", self.v, other.h) + np.einsum("nipq,io->nopq", self.h, other.v)
        cross = np.einsum("nip,ioq->nopq", self.g, other.g, optimize=True)
        return Jet(self.v @ other.v, g, h + cross + np.swapaxes(cross, -1, -2))

    def apply(self, f: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Jet:
        """f(self) from value, first and second derivative of f at self.v."""
        v, d1, d2 = f
        outer = self.g[..., :, None] * self.g[..., None, :]
        return Jet(v, d1[..., None] * self.g, d1[..., None, None] * self.h + d2[..., None, None] * outer)


def exp(x: Jet) -> Jet:
    e = np.exp(x.v)
    return x.apply((e, e, e))


def log(x: Jet) -> Jet:
    return x.apply((np.log(x.v), 1.0 / x.v, -1.0 / x.v**2))


def power(x: Jet, p: float) -> Jet:
    return x.apply((x.v**p, p * x.v ** (p - 1.0), p * (p - 1.0) * x.v ** (p - 2.0)))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


def activate(x: Jet, name: str) -> Jet:
    """An activation, by its definition in the documentation."""
    z = x.v
    zero, one = np.zeros_like(z), np.ones_like(z)
    if name == "linear":
        return x
    if name == "relu":
        return x.apply((np.maximum(z, 0.0), (z > 0) * one, zero))
    if name == "leaky_relu":
        return x.apply((np.where(z > 0, z, 0.01 * z), np.where(z > 0, 1.0, 0.01), zero))
    if name == "hard_tanh":
        return x.apply((np.clip(z, -1.0, 1.0), (np.abs(z) < 1.0) * one, zero))
    if name in ("tanh", "leaky_tanh"):
        t = np.tanh(z)
        f = t, 1.0 - t**2, -2.0 * t * (1.0 - t**2)
        if name == "leaky_tanh":
            f = tuple(np.where(z > 0, a, b) for a, b in zip(f, (0.01 * z, 0.01 * one, zero), strict=True))
        return x.apply(f)
    if name == "elu":
        e = np.exp(np.minimum(z, 0.0))
        return x.apply((np.where(z > 0, z, e - 1.0), np.where(z > 0, 1.0, e), np.where(z > 0, 0.0, e)))
    if name == "selu":
        left, e = 1.0507009873554805 * 1.6732632423543772, np.exp(np.minimum(z, 0.0))
        f = (1.0507009873554805 * z, 1.0507009873554805 * one, zero)
        return x.apply(
            tuple(np.where(z > 0, a, b) for a, b in zip(f, (left * (e - 1), left * e, left * e), strict=True))
        )
    if name == "mish":
        softplus = activate(x, "softplus")
        return x * activate(softplus, "tanh")
    if name == "gelu":
        cdf, pdf = 0.5 * (1.0 + erf(z / np.sqrt(2.0))), np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        return x * x.apply((cdf, pdf, -z * pdf))
    s = sigmoid(z)
    d1 = s * (1.0 - s)
    if name == "sigmoid":
        return x.apply((s, d1, d1 * (1.0 - 2.0 * s)))
    if name == "silu":
        return x * x.apply((s, d1, d1 * (1.0 - 2.0 * s)))
    assert name == "softplus"
    return x.apply((np.log1p(np.exp(z)), s, d1))


def outputs(net: fnn.Sequential, theta: Jet, X: Any, training: bool = False) -> Jet:
    """Outputs z (N, K) of a network at jets of theta, for X (N, D), an array or jets."""
    x = X if isinstance(X, Jet) else theta.constant(X)
    if net.input_scale is not None:
        x = x * net.input_scale
    at = at_state = 0
    for layer in net.layers:
        n = x.v.shape[1]
        if isinstance(layer, fnn.Dense):
            W = theta[at : at + n * layer.units].reshape(n, layer.units)
            at += n * layer.units
            x = x @ W
            if layer.bias:
                x = x + theta[at : at + layer.units].reshape(1, layer.units)
                at += layer.units
            x = activate(x, layer.activation)
        elif isinstance(layer, fnn.Activation):
            x = activate(x, layer.name)
        elif isinstance(layer, fnn.Standardize):
            mean, inverse = net.state[at_state : at_state + n], net.state[at_state + n : at_state + 2 * n]
            at_state += 2 * n
            x = (x - mean) * inverse
        elif isinstance(layer, fnn.Scale):
            x = theta[at : at + n].reshape(1, n) * x
            at += n
        elif isinstance(layer, fnn.Dropout):
            # All dropouts share one element of the state: their seed.
            first = next(a for a in net.layers if isinstance(a, fnn.Dropout))
            at_state += layer is first
        else:
            gamma, beta = (theta[at + k * n : at + (k + 1) * n].reshape(1, n) for k in (0, 1))
            at += 2 * n
            axis = 1
            if isinstance(layer, fnn.BatchNorm):
                axis = 0
                mean, variance, count = np.split(net.state[at_state : at_state + 2 * n + 1], [n, 2 * n])
                at_state += 2 * n + 1
            if isinstance(layer, fnn.BatchNorm) and not training:
                weight = 1.0 - layer.momentum ** count[0]
                mean, variance = (mean / weight, variance / weight) if count[0] else (0.0 * mean, 0.0 * mean + 1.0)
                x = (x - mean) * (variance + layer.epsilon) ** -0.5
            else:
                x = x - x.mean(axis, keepdims=True)
                x = x * power((x * x).mean(axis, keepdims=True) + layer.epsilon, -0.5)
            x = gamma * x + beta
    return x


def losses(net: fnn.Sequential, z: Jet, y: np.ndarray) -> Jet:
    """ℓ_i (N,) from outputs z (N, K)."""
    name, K = net.loss_name, z.v.shape[1]
    if name == "cross_entropy":
        smoothing = net.loss_function.options()["label_smoothing"]
        targets = (1.0 - smoothing) * (np.eye(K)[y] if y.ndim == 1 else y) + smoothing / K
        lse = log(exp(z).sum(1))
        return lse - (z * targets).sum(1)
    y = np.asarray(y, dtype=np.float64).reshape(z.v.shape)
    if name == "binary_cross_entropy":
        smoothing = net.loss_function.options()["label_smoothing"]
        y = (1.0 - smoothing) * y + smoothing / 2.0
        return (activate(z, "softplus") - z * y).sum(1)
    if name == "poisson":
        return (exp(z) - z * y).sum(1)
    d = z - y
    if name == "squared_error":
        return (d * d).sum(1) * 0.5
    assert name == "huber"
    inside, sign = np.abs(d.v) <= 1.0, np.sign(d.v)
    value = np.where(inside, 0.5 * d.v**2, np.abs(d.v) - 0.5)
    return d.apply((value, np.where(inside, d.v, sign), inside * 1.0)).sum(1)


class Oracle:
    """All that the curvature functions give, for one network and data, in float64.

    Attributes
    ----------
    hessian, ggn, fisher : ndarray (P, P)
    gradients : ndarray (N, P)
        Of every row's loss alone.
    hessians : ndarray (N, P, P)
        Of every row's loss alone; with batch statistics of the sum's terms.
    jacobian : ndarray (N, K, P)
    """

    def __init__(
        self, net: fnn.Sequential, X: Any, y: Any, sample_weight: Any = None, l2: float = 0.0, training: bool = False
    ) -> None:
        X = np.asarray(X, dtype=np.float64)
        theta = Jet.variables(net.theta)
        z = outputs(net, theta, X, training)
        ell = losses(net, z, np.asarray(y))
        self.values, self.gradients, self.hessians, self.jacobian = ell.v, ell.g, ell.h, z.g
        w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        w = w / w.sum()
        penalty = np.zeros(net.n_parameters)
        for name, offset, shape in net.layout:
            if name.endswith("weight"):
                penalty[offset : offset + int(np.prod(shape))] = l2
        self.hessian = np.einsum("n,npq->pq", w, ell.h) + np.diag(penalty)
        self.fisher = np.einsum("n,np,nq->pq", w, ell.g, ell.g, optimize=True) + np.diag(penalty)
        self.loss_hessians = np.empty((*z.v.shape, z.v.shape[1]))
        for i, row in enumerate(z.v):
            own = np.asarray(y)[i : i + 1]
            self.loss_hessians[i] = losses(net, Jet.variables(row).reshape(1, -1), own).h[0]
        self.ggn = np.einsum("n,nkp,nkm,nmq->pq", w, z.g, self.loss_hessians, z.g, optimize=True) + np.diag(penalty)


def inputs(net: fnn.Sequential, X: Any) -> Jet:
    """Outputs (N, K) with derivatives with respect to every row's own x: g is (N, K, D), h (N, K, D, D)."""
    X = np.asarray(X, dtype=np.float64)
    shift = Jet.variables(np.zeros(X.shape[1]))
    theta = shift.constant(net.theta)
    return outputs(net, theta, shift.reshape(1, -1) + X)
