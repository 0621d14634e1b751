"""Every public kernel, compiled against the NumPy reference: one group per kernel, arguments and dtype."""

import itertools

import numpy as np
import pytest

import fastnn as fnn

pytestmark = [
    pytest.mark.benchmark(max_time=0.3, min_rounds=5, warmup=True, warmup_iterations=3),
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),  # said again of every test that has failed
]

MODULES = {"fastnn": fnn.kernels, "reference": fnn.reference}
RTOL = {np.float32: 2e-5, np.float64: 1e-12}

# A batch of a small network, that of a larger one, rows of a classifier, the parameters of 784-64-64-10, and a wide
# hidden layer.
BATCH, IN, OUT, CLASSES, PARAMETERS, WIDE = 256, 784, 64, 10, 55_050, 512


class Arrays:
    """Random arrays of one dtype, the same at every run."""

    def __init__(self, dtype):
        self.dtype, self.rng = dtype, np.random.default_rng(0)

    def normal(self, *shape, scale=1.0):
        """Return normally distributed values."""
        return (scale * self.rng.standard_normal(shape)).astype(self.dtype)

    def positive(self, *shape):
        """Return values between 0.1 and 2."""
        return self.rng.uniform(0.1, 2.0, shape).astype(self.dtype)

    def probabilities(self, *shape):
        """Return rows that sum to 1."""
        return fnn.reference.softmax(self.normal(*shape))

    def labels(self, n, classes):
        """Return integer labels."""
        return self.rng.integers(classes, size=n)

    def bits(self, *shape):
        """Return zeros and ones."""
        return self.rng.integers(2, size=shape).astype(self.dtype)


# name of the case -> (kernel, its arguments)
CASES = {
    "exp": ("exp", lambda a: (a.normal(BATCH, OUT, scale=5),)),
    "log": ("log", lambda a: (a.positive(BATCH, OUT),)),
    "tanh": ("tanh", lambda a: (a.normal(BATCH, OUT, scale=2),)),
    "matmul 256x784 784x64": ("matmul", lambda a: (a.normal(BATCH, IN), a.normal(IN, OUT))),
    "matmul 16x10 10x10": ("matmul", lambda a: (a.normal(16, 10), a.normal(10, 10))),
    "matmul transpose_a": ("matmul", lambda a: (a.normal(BATCH, IN), a.normal(BATCH, OUT), True)),
    "matmul transpose_b": ("matmul", lambda a: (a.normal(BATCH, OUT), a.normal(OUT, OUT), False, True)),
    "dense_forward relu": (
        "dense_forward",
        lambda a: (a.normal(BATCH, IN), a.normal(IN, OUT, scale=0.05), a.normal(OUT), "relu"),
    ),
    "dense_forward tanh": (
        "dense_forward",
        lambda a: (a.normal(BATCH, OUT), a.normal(OUT, OUT, scale=0.1), a.normal(OUT), "tanh"),
    ),
    "dense_forward small": (
        "dense_forward",
        lambda a: (a.normal(16, 4), a.normal(4, 10), a.normal(10), "tanh"),
    ),
    "dense_backward relu": (
        "dense_backward",
        lambda a: (a.normal(BATCH, OUT), a.normal(OUT, OUT), a.normal(BATCH, OUT), a.normal(BATCH, OUT), "relu"),
    ),
    "dense_backward tanh": (
        "dense_backward",
        lambda a: (a.normal(BATCH, OUT), a.normal(OUT, OUT), a.normal(BATCH, OUT), a.normal(BATCH, OUT), "tanh"),
    ),
    "dense_backward first layer": (
        "dense_backward",
        lambda a: (a.normal(BATCH, IN), a.normal(IN, OUT), a.normal(BATCH, OUT), a.normal(BATCH, OUT), "relu", False),
    ),
    "dense_backward small": (
        "dense_backward",
        lambda a: (a.normal(16, 10), a.normal(10, 10), a.normal(16, 10), a.normal(16, 10), "tanh"),
    ),
    "softmax": ("softmax", lambda a: (a.normal(BATCH, CLASSES),)),
    "log_softmax": ("log_softmax", lambda a: (a.normal(BATCH, CLASSES),)),
    "softmax_jacobian": ("softmax_jacobian", lambda a: (a.probabilities(BATCH, CLASSES),)),
    "softmax_vjp": ("softmax_vjp", lambda a: (a.probabilities(BATCH, CLASSES), a.normal(BATCH, CLASSES))),
    "cross_entropy labels": ("cross_entropy", lambda a: (a.normal(BATCH, CLASSES), a.labels(BATCH, CLASSES))),
    "cross_entropy soft": ("cross_entropy", lambda a: (a.normal(BATCH, CLASSES), a.probabilities(BATCH, CLASSES))),
    "cross_entropy weighted": (
        "cross_entropy",
        lambda a: (a.normal(BATCH, CLASSES), a.labels(BATCH, CLASSES), a.positive(BATCH)),
    ),
    "binary_cross_entropy": ("binary_cross_entropy", lambda a: (a.normal(BATCH, 1), a.bits(BATCH, 1))),
    "cross_entropy smoothed": (
        "cross_entropy",
        lambda a: (a.normal(BATCH, CLASSES), a.labels(BATCH, CLASSES), None, 0.1),
    ),
    "squared_error": ("squared_error", lambda a: (a.normal(BATCH, CLASSES), a.normal(BATCH, CLASSES))),
    "absolute_error": ("absolute_error", lambda a: (a.normal(BATCH, CLASSES), a.normal(BATCH, CLASSES))),
    "huber": ("huber", lambda a: (a.normal(BATCH, CLASSES), a.normal(BATCH, CLASSES))),
    "poisson": ("poisson", lambda a: (a.normal(BATCH, CLASSES), a.positive(BATCH, CLASSES))),
    "batch_norm_forward": ("batch_norm_forward", lambda a: (a.normal(BATCH, WIDE), a.positive(WIDE), a.normal(WIDE))),
    "batch_norm_backward": (
        "batch_norm_backward",
        lambda a: (a.normal(BATCH, WIDE), a.normal(BATCH, WIDE), *(a.positive(WIDE) for _ in range(3))),
    ),
    "layer_norm_forward": ("layer_norm_forward", lambda a: (a.normal(BATCH, WIDE), a.positive(WIDE), a.normal(WIDE))),
    "layer_norm_backward": (
        "layer_norm_backward",
        lambda a: (a.normal(BATCH, WIDE), a.normal(BATCH, WIDE), a.positive(WIDE), a.positive(BATCH)),
    ),
    "dropout": ("dropout", lambda a: (a.normal(BATCH, WIDE), 0.2, 0)),
    "sgd_update": ("sgd_update", lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), None, 1e-3)),
    "sgd_update momentum": (
        "sgd_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.normal(PARAMETERS), 1e-3, 0.9),
    ),
    "sgd_update nesterov": (
        "sgd_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.normal(PARAMETERS), 1e-3, 0.9, True),
    ),
    "momentum_update": (
        "momentum_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.normal(PARAMETERS), 3, 1e-3),
    ),
    "nag_update": (
        "nag_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.normal(PARAMETERS), 1e-3, 0.9),
    ),
    "adagrad_update": (
        "adagrad_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.positive(PARAMETERS), 1e-3),
    ),
    "rmsprop_update": (
        "rmsprop_update",
        lambda a: (a.normal(PARAMETERS), a.normal(PARAMETERS), a.positive(PARAMETERS), 1e-3),
    ),
    "rmsprop_update centred, momentum": (
        "rmsprop_update",
        lambda a: (
            *(a.normal(PARAMETERS), a.normal(PARAMETERS), 2 + a.positive(PARAMETERS)),
            *(1e-3, 0.99, 1e-2, 0.9, a.normal(PARAMETERS, scale=0.1), a.normal(PARAMETERS)),
        ),
    ),
    "adam_update": (
        "adam_update",
        lambda a: (*(a.normal(PARAMETERS) for _ in range(3)), a.positive(PARAMETERS), 10, 1e-3),
    ),
    "adam_update amsgrad": (
        "adam_update",
        lambda a: (
            *(a.normal(PARAMETERS) for _ in range(3)),
            *(a.positive(PARAMETERS), 10, 1e-3, 0.9, 0.999, 1e-8, 0.0, a.positive(PARAMETERS)),
        ),
    ),
}

for _activation in fnn.reference.ACTIVATIONS:
    if _activation == "linear":  # no work to time
        continue
    for _kernel in ("activation_forward", "activation_derivatives"):
        CASES[f"{_kernel} {_activation}"] = (_kernel, lambda a, name=_activation: (a.normal(BATCH, OUT, scale=2), name))


@pytest.mark.parametrize("engine", MODULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_kernel(benchmark, case, dtype, engine):
    """Time one kernel; both engines give the same result, returned or written in place."""
    name, make = CASES[case]
    expected = results(fnn.reference, name, make(Arrays(dtype)))
    for ours, theirs in zip(results(MODULES[engine], name, make(Arrays(dtype))), expected, strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype] * np.abs(theirs).max())
    benchmark.group = f"{case} {np.dtype(dtype)}"
    benchmark.extra_info["engine"] = engine
    benchmark(getattr(MODULES[engine], name), *make(Arrays(dtype)))


def results(module, name, arguments):
    """Call the kernel and return all that it gave back; its arguments count when it works in place."""
    returned = getattr(module, name)(*arguments)
    if returned is None:
        return [value for value in arguments if isinstance(value, np.ndarray)]
    returned = returned if isinstance(returned, tuple) else (returned,)
    return [value for value in returned if value is not None]  # None: an input gradient that was not asked for


@pytest.mark.parametrize("engine", ["fastnn", "fastnn in place", "reference", "np.copyto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_batch_norm_beside_copyto(benchmark, direction, dtype, engine):
    """Time batch norm as a user calls it (checks and new arrays included), the reference, and a copy of one array."""
    a = Arrays(dtype)
    Z, delta, gamma, beta = a.normal(BATCH, WIDE), a.normal(BATCH, WIDE), a.positive(WIDE), a.normal(WIDE)
    benchmark.group = f"batch norm {direction} {BATCH}x{WIDE} beside np.copyto {np.dtype(dtype)}"
    benchmark.extra_info["engine"] = engine
    if engine == "np.copyto":
        copy = np.zeros_like(Z)
        benchmark(np.copyto, copy, Z)
        np.testing.assert_array_equal(copy, Z)
        return
    module = fnn.kernels if engine == "fastnn in place" else MODULES[engine]
    _, mean, variance = module.batch_norm_forward(Z, gamma, beta)
    if direction == "forward":
        benchmark(module.batch_norm_forward, Z, gamma, beta, out=Z if engine == "fastnn in place" else None)
    elif engine == "fastnn in place":  # with this gamma a projection: its result stays what it is when it is repeated
        gamma = np.sqrt(variance + dtype(1e-5))
        benchmark(module.batch_norm_backward, delta, Z, gamma, mean, variance, out=delta)
    else:
        benchmark(module.batch_norm_backward, delta, Z, gamma, mean, variance)


def four_fold_loop(Z, delta, epsilon=1e-5):
    """Reverse differential of the normalisation applied to delta, by a loop over its tensor of derivatives."""
    u, zeta = Z.T, delta.T
    m, n = u.shape
    theta = 1 / np.sqrt(u.var(axis=1, keepdims=True) + epsilon)
    normalised = theta * (u - u.mean(axis=1, keepdims=True))
    tensor = np.zeros((m, n, m, n))
    same_feature, same_row = np.eye(m), np.eye(n)
    for alpha, beta, i, j in itertools.product(range(m), range(n), range(m), range(n)):
        pair = 1 + normalised[alpha, j] * normalised[alpha, beta]
        tensor[alpha, beta, i, j] = same_feature[alpha, i] * theta[alpha, 0] * (same_row[j, beta] - pair / n)
    return np.einsum("ijkl,kl", np.einsum("ijkl->klij", tensor), zeta).T


@pytest.mark.parametrize("engine", ["fastnn", "four-fold loop"])
def test_batch_norm_against_the_four_fold_loop(benchmark, engine):
    """Time forward and backward at a size that the loop can do: its time grows with the square of both lengths."""
    a = Arrays(np.float64)
    Z, delta = a.normal(24, 12), a.normal(24, 12)
    gamma, beta = np.ones(12), np.zeros(12)

    def ours():
        _, mean, variance = fnn.kernels.batch_norm_forward(Z, gamma, beta)
        return fnn.kernels.batch_norm_backward(delta, Z, gamma, mean, variance)[0]

    np.testing.assert_allclose(ours(), four_fold_loop(Z, delta), rtol=0, atol=1e-13)
    benchmark.group = "batch norm forward and backward 24x12 float64"
    benchmark.extra_info["engine"] = engine
    if engine == "fastnn":
        benchmark(ours)
    else:
        benchmark(four_fold_loop, Z, delta)
