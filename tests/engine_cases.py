"""Plans, data and rules for the tests of the compiled engine."""

from __future__ import annotations

import itertools

import numpy as np

from fastnn.plan import OpSpec, UpdateRule

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "poisson")


RULES = (
    UpdateRule("sgd", 0.05),
    UpdateRule("sgd", 0.02, momentum=0.9),
    UpdateRule("sgd", 0.02, momentum=0.9, nesterov=True),
    UpdateRule("momentum", 0.02, beta1=0.8),
    UpdateRule("nag", 0.02),
    UpdateRule("adagrad", 0.02, epsilon=1e-10),
    UpdateRule("rmsprop", 0.003),
    UpdateRule("rmsprop", 0.001, momentum=0.9),
    UpdateRule("rmsprop", 0.003, centered=True, epsilon=1e-3),
    UpdateRule("rmsprop", 0.001, centered=True, epsilon=1e-3, momentum=0.5),
    UpdateRule("adam", 0.003),
    UpdateRule("adam", 0.003, beta2=0.9, amsgrad=True),
    UpdateRule("adam", 0.003, epsilon=1e-3, epsilon_hat=True),
    UpdateRule("adam", 0.003, weight_decay=0.1),
)


TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


def chain(sizes, activations, *, bias=True):
    ops, offset = [], 0
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        weight, offset = offset, offset + n_in * n_out
        ops.append(OpSpec("dense", index - 1, n_in, n_out, weight, offset if bias else -1, activations[index]))
        offset += n_out if bias else 0
    return ops, offset


def problem(sizes, loss, dtype, rows, rng, *, soft=False):
    """theta, X, y and weights for a chain of these sizes."""
    n_parameters = sum(a * b + b for a, b in itertools.pairwise(sizes))
    theta = (0.5 * rng.standard_normal(n_parameters)).astype(dtype)
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy" and not soft:
        y = rng.integers(0, sizes[-1], rows)
    elif loss == "poisson":
        theta *= 0.2  # rates that stay within the type
        y = rng.poisson(2.0, (rows, sizes[-1])).astype(dtype)
    elif loss in ("squared_error", "absolute_error", "huber"):
        y = rng.standard_normal((rows, sizes[-1])).astype(dtype)
    else:
        y = rng.random((rows, sizes[-1])).astype(dtype)
        y = np.ascontiguousarray(y / y.sum(axis=1, keepdims=True)) if soft else (y > 0.5).astype(dtype)
    return theta, X, y, rng.random(rows).astype(dtype)


def mostly_zero(shape, rng, dtype):
    """Rows in which about a quarter is not zero, in runs, and some columns are zero everywhere."""
    X = rng.normal(size=shape)
    X[np.repeat(rng.random((shape[0], -(-shape[1] // 5))) < 0.75, 5, axis=1)[:, : shape[1]]] = 0
    X[:, rng.random(shape[1]) < 0.1] = 0
    return X.astype(dtype)
