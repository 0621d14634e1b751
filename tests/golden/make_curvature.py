"""Writes curvature.npz: Hessians, Gauss-Newton matrices, gradients and input Hessians by JAX, in double.

    python tests/golden/make_curvature.py        where fastnn and jax are installed; made with jax 0.10.2, ten minutes

The networks and data are those of tests/curvature_cases.py; tests/test_curvature.py reads the file. Symmetric matrices
are kept as their upper triangles.
"""

import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import curvature_cases
import jax.numpy as jnp

import fastnn as fnn

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {
    "linear": lambda z: z,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_tanh": lambda z: jnp.where(z > 0, jnp.tanh(z), 0.01 * z),
}


def outputs(net: fnn.Sequential, theta, X, training: bool):
    """Outputs (N, K)."""
    at = 0
    if net.input_scale is not None:
        X = X * net.input_scale
    for layer, op in zip(net.layers, net.ops, strict=True):
        n = X.shape[1]
        if isinstance(layer, fnn.Dense):
            X = X @ theta[at : at + n * layer.units].reshape(n, layer.units)
            at += n * layer.units
            if layer.bias:
                X = X + theta[at : at + layer.units]
                at += layer.units
            X = ACTIVATIONS[layer.activation](X)
        elif isinstance(layer, fnn.Activation):
            X = ACTIVATIONS[layer.name](X)
        elif isinstance(layer, fnn.Standardize):
            X = (X - net.state[op.buffer : op.buffer + n]) * net.state[op.buffer + n : op.buffer + 2 * n]
        elif isinstance(layer, (fnn.BatchNorm, fnn.LayerNorm)):
            gamma, beta = theta[at : at + n], theta[at + n : at + 2 * n]
            at += 2 * n
            if isinstance(layer, fnn.BatchNorm) and not training:
                weight = 1 - layer.momentum ** net.state[op.buffer + 2 * n]
                mean = net.state[op.buffer : op.buffer + n] / weight
                variance = net.state[op.buffer + n : op.buffer + 2 * n] / weight
            else:
                axis = 0 if isinstance(layer, fnn.BatchNorm) else 1
                mean, variance = X.mean(axis=axis, keepdims=True), X.var(axis=axis, keepdims=True)
            X = gamma * (X - mean) / jnp.sqrt(variance + layer.epsilon) + beta
    return X


def row_losses(net: fnn.Sequential, Z, y):
    """The loss of every row (N,) from outputs (N, K)."""
    if net.loss_name == "cross_entropy":
        smoothing, K = net.loss_function.options()["label_smoothing"], Z.shape[1]
        targets = (1 - smoothing) * jax.nn.one_hot(y, K) + smoothing / K
        return -(targets * jax.nn.log_softmax(Z)).sum(axis=1)
    return {
        "binary_cross_entropy": lambda: jax.nn.softplus(Z) - Z * y,
        "poisson": lambda: jnp.exp(Z) - Z * y,
        "squared_error": lambda: 0.5 * (Z - y) ** 2,
        "huber": lambda: jnp.where(jnp.abs(Z - y) <= 1, 0.5 * (Z - y) ** 2, jnp.abs(Z - y) - 0.5),
    }[net.loss_name]().sum(axis=1)


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    for number in range(curvature_cases.N_CASES):
        case = curvature_cases.case(number)
        net, X, y, training = case.net, jnp.asarray(case.X), case.y, case.options["training"]
        w = case.options["sample_weight"]
        w = np.ones(len(X)) / len(X) if w is None else w / w.sum()
        penalised = np.zeros(net.n_parameters)
        for name, offset, shape in net.layout:
            if name.endswith("weight"):
                penalised[offset : offset + np.prod(shape)] = case.options["l2"]

        def objective(theta, net=net, X=X, y=y, w=w, penalised=penalised, training=training):
            losses = row_losses(net, outputs(net, theta, X, training), y)
            return (w * losses).sum() + 0.5 * (penalised * theta**2).sum()

        theta = jnp.asarray(net.theta)
        upper = np.triu_indices(len(theta))
        arrays[f"{number}.hessian"] = np.asarray(jax.hessian(objective)(theta))[upper]
        J = np.asarray(jax.jacobian(lambda t, net=net, X=X, s=training: outputs(net, t, X, s))(theta))
        Z = outputs(net, theta, X, training)
        H = [
            jax.hessian(lambda z, net=net, t=y[i : i + 1]: row_losses(net, z[None], t)[0])(Z[i]) for i in range(len(X))
        ]
        ggn = np.einsum("n,nkp,nkm,nmq->pq", w, J, np.array(H), J) + np.diag(penalised)
        arrays[f"{number}.ggn"] = ggn[upper]
        if not case.whole:
            rows = jax.jacobian(lambda t, net=net, X=X, y=y: row_losses(net, outputs(net, t, X, False), y))
            arrays[f"{number}.gradients"] = np.asarray(rows(theta))
            one = jax.hessian(lambda x, net=net, t=theta: outputs(net, t, x[None], False)[0])
            arrays[f"{number}.input_hessian"] = np.asarray(jax.vmap(one)(X))
    np.savez_compressed(Path(__file__).with_name("curvature.npz"), **arrays)


if __name__ == "__main__":
    main()
