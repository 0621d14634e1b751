"""Second-order work, done by fastnn, by JAX and by PyTorch: what ``report.py --section curvature`` times.

Each function makes {name: call} for one piece of work; every call returns the same array, and :func:`check` compares
them. The rivals are written as their users would at their best: one flat parameter vector (that is what our results
refer to), everything jitted in JAX, ``torch.func`` in PyTorch, data made tensors beforehand.
"""

import importlib.util
import itertools
from functools import partial

import numpy as np

import fastnn as fnn

HESSIANS = {
    "64-32-10": ((64, 32, 10), 1797, "tanh"),
    "64-32-32-10": ((64, 32, 32, 10), 1797, "tanh"),
    "196-10-10-10-10": ((196, 10, 10, 10, 10), 1000, "tanh"),
}
PRODUCTS = {
    "784-256-256-10": ((784, 256, 256, 10), 1024, "tanh"),
    "64-32-10": ((64, 32, 10), 1797, "tanh"),
}


def problem(sizes, rows, activation, dtype="float32"):
    """Return a classifier with random weights, and random data for it."""
    rng = np.random.default_rng(0)
    layers = [fnn.Dense(n, activation) for n in sizes[1:-1]]
    net = fnn.Sequential(
        [*layers, fnn.Dense(sizes[-1])], input_size=sizes[0], loss="cross_entropy", dtype=dtype, seed=0
    )
    return net, rng.standard_normal((rows, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], rows)


def rival_names(names=("jax", "torch")):
    """Return those that are installed."""
    return [name for name in names if importlib.util.find_spec(name)]


def jax_loss(sizes, y):
    """Return the mean cross entropy as a function of (flat parameters, X), tanh inside."""
    import jax
    import jax.numpy as jnp

    labels = jax.nn.one_hot(y, sizes[-1])

    def loss(theta, X, targets=labels):
        at = 0
        for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            W = theta[at : at + n_in * n_out].reshape(n_in, n_out)
            at += n_in * n_out
            X = X @ W + theta[at : at + n_out]
            at += n_out
            if index < len(sizes) - 2:
                X = jnp.tanh(X)
        return -(targets * jax.nn.log_softmax(X)).sum(axis=-1).mean()

    return loss


def torch_loss(sizes):
    """Return the same in PyTorch, as a function of (flat parameters, X, labels)."""
    import torch

    def loss(theta, X, y):
        at = 0
        for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            W = theta[at : at + n_in * n_out].reshape(n_in, n_out)
            at += n_in * n_out
            X = X @ W + theta[at : at + n_out]
            at += n_out
            if index < len(sizes) - 2:
                X = torch.tanh(X)
        return torch.nn.functional.cross_entropy(X, y)

    return loss


def as_numpy(value):
    """Return a rival's array as NumPy's, when it is there."""
    return np.asarray(value)


def hessians(name, threads, rivals):
    """Whole Hessians."""
    sizes, rows, activation = HESSIANS[name]
    net, X, y = problem(sizes, rows, activation)
    calls = {"fastnn": lambda: fnn.curvature.hessian(net, X, y, threads=threads)}
    if "jax" in rivals:
        import jax

        function, theta = jax.jit(jax.hessian(jax_loss(sizes, y))), jax.numpy.asarray(net.theta)
        data = jax.numpy.asarray(X)
        calls["jax"] = lambda: function(theta, data).block_until_ready()
    if "torch" in rivals:
        import torch

        torch_function, parameters = torch_loss(sizes), torch.from_numpy(net.theta.copy())
        inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
        calls["torch"] = lambda: torch.func.hessian(lambda t: torch_function(t, inputs, targets))(parameters)
    return calls


def products(name, threads, rivals):
    """Hessian-vector products, and our gradient."""
    sizes, rows, activation = PRODUCTS[name]
    net, X, y = problem(sizes, rows, activation)
    v = np.random.default_rng(1).standard_normal(net.n_parameters).astype(net.dtype)
    options = {"threads": threads}
    alone = fnn.curvature.hessian_operator(net, X, y, keep=False, **options)
    kept = fnn.curvature.hessian_operator(net, X, y, keep=True, **options)
    calls = {
        "fastnn, alone": lambda: alone.matvec(v),
        "fastnn, primal kept": lambda: kept.matvec(v),
        "fastnn gradient": lambda: net.gradient(X, y, **options),
    }
    if "jax" in rivals:
        import jax

        loss, data = jax_loss(sizes, y), jax.numpy.asarray(X)
        function = jax.jit(lambda t, d: jax.jvp(jax.grad(lambda s: loss(s, data)), (t,), (d,))[1])
        theta, direction = jax.numpy.asarray(net.theta), jax.numpy.asarray(v)
        calls["jax"] = lambda: function(theta, direction).block_until_ready()
    if "torch" in rivals:
        import torch

        torch_function, parameters = torch_loss(sizes), torch.from_numpy(net.theta.copy())
        inputs, targets, tangent = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(v)
        gradient = torch.func.grad(lambda t: torch_function(t, inputs, targets))
        calls["torch"] = lambda: torch.func.jvp(gradient, (parameters,), (tangent,))[1]
    return calls


def per_sample_gradients(threads, rivals):
    """Gradients of 1,024 rows of 784-64-64-10, and filling an array of that size."""
    sizes = (784, 64, 64, 10)
    net, X, y = problem(sizes, 1024, "tanh")
    out = np.zeros((len(X), net.n_parameters), net.dtype)
    given = np.zeros_like(out)
    calls = {
        "fastnn": lambda: fnn.curvature.per_sample_gradients(net, X, y, threads=threads),
        "fastnn, out=": lambda: fnn.curvature.per_sample_gradients(net, X, y, threads=threads, out=out),
        "fill": lambda: given.fill(1),
    }
    if "jax" in rivals:
        import jax

        loss = jax_loss(sizes, y)
        function = jax.jit(jax.vmap(jax.grad(lambda t, x, target: loss(t, x[None], target[None])), (None, 0, 0)))
        theta, data = jax.numpy.asarray(net.theta), jax.numpy.asarray(X)
        labels = jax.nn.one_hot(y, sizes[-1])
        calls["jax"] = lambda: function(theta, data, labels).block_until_ready()
    if "torch" in rivals:
        import torch

        torch_function, parameters = torch_loss(sizes), torch.from_numpy(net.theta.copy())
        inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
        mapped = torch.func.vmap(torch.func.grad(lambda t, x, k: torch_function(t, x[None], k[None])), (None, 0, 0))
        calls["torch"] = lambda: mapped(parameters, inputs, targets)
    return calls


def per_sample_blocks(threads):
    """Hessian blocks of the first layer of 64-32-10 for 256 rows (4.4 GB), and filling such an array."""
    net, X, y = problem((64, 32, 10), 256, "tanh")
    A, inputs = fnn.curvature.per_sample_hessian_blocks(net, X, y, layer=0, kronecker=True, threads=threads)
    bias = inputs.shape[1] == X.shape[1]
    width = A.shape[1] * (X.shape[1] + 1)
    out = np.zeros((len(X), width, width), net.dtype)
    return {
        "fastnn, out=": lambda: fnn.kernels.per_sample_hessian_blocks(A, inputs, bias=bias, out=out, threads=threads),
        "fill": lambda: out.fill(1),
    }


def softmax_jacobians(threads):
    """Of 4,096 rows and 64 classes, and filling such an array."""
    P = fnn.kernels.softmax(np.random.default_rng(0).standard_normal((4096, 64)).astype("float32"))
    out = np.zeros((4096, 64, 64), "float32")
    return {
        "fastnn, out=": lambda: fnn.kernels.softmax_jacobian(P, out=out),
        "fill": lambda: out.fill(1),
    }


def works(threads, rivals):
    """Generate (title, the call that the others are divided by, {name: call}) of every piece of work."""
    for name in HESSIANS:
        yield f"Hessian {name}, {HESSIANS[name][1]:,} rows", "fastnn", partial(hessians, name, threads, rivals)
    for name in PRODUCTS:
        title = f"H v {name}, {PRODUCTS[name][1]:,} rows"
        yield title, "fastnn, primal kept", partial(products, name, threads, rivals)
    title = "per-sample gradients 784-64-64-10, 1,024 rows"
    yield title, "fastnn, out=", partial(per_sample_gradients, threads, rivals)
    yield "per-sample Hessian blocks 64-32, 256 rows", "fastnn, out=", partial(per_sample_blocks, threads)
    yield "softmax Jacobians (4096, 64)", "fastnn, out=", partial(softmax_jacobians, threads)


def check(calls):
    """Compare the rivals' results with ours; the names with a comma are variants of ours."""
    (ours, call), *others = calls.items()
    expected = as_numpy(call())
    for name, other in others:
        if name in ("fill", "fastnn gradient"):
            continue
        got = as_numpy(other())
        scale = np.abs(expected).max()
        worst = np.abs(got - expected).max() / scale
        if not worst < 1e-3:
            raise AssertionError(f"{name} differs from {ours} by {worst:.1e} of the largest element")
