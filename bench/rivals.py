"""The same training work, done by fastnn and by its rivals, behind one interface.

A :class:`Task` is the work: data, layer sizes, batch size, dtype. An engine is one library set up for it with given
initial parameters; ``engine.epochs(n)`` then runs ``n`` whole epochs as that library's users would at their best:
shuffling, gathering the rows of each batch, forward, loss, backward and Adam, the short last batch included.
``engine.parameters()`` gives back the trained arrays, so that each engine can be checked against the others.

What is best for each rival was measured, not assumed:

- PyTorch: eager, ``Adam(fused=True)``, tensors prepared beforehand and no DataLoader; ``index_select`` per batch is
  faster than ``X[rows]``, and faster than one gather of the whole epoch.
- JAX: the whole epoch is one jitted ``lax.scan`` with donated state; rows are gathered inside; Adam is written out
  (faster than optax); one-hot labels inside the loss; one flat parameter vector when the network is small, a pytree
  when it is large; 512-bit vectors allowed.
- scikit-learn: ``MLPClassifier`` with ``alpha=0``, stopping tests off, and float32 data kept as float32. Its Adam
  adds epsilon before the bias correction, so its parameters are compared with a looser tolerance.
"""

import importlib.util
import os
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401  (loads SciPy's BLAS, so that configure_process limits it too)
from threadpoolctl import threadpool_limits

# ----------------------------------------------------------------------------------------------------- the process


def configure_process(threads):
    """Give every engine of this process the same ``threads``; call it before torch or JAX is imported.

    With one thread the process is pinned to one core, which no library can get around. JAX fixes its thread count when
    it is imported, so a process has one thread count for its whole life.
    """
    flags = ["--xla_cpu_prefer_vector_width=512"]
    if threads == 1:
        flags += ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])
    threadpool_limits(threads)


# -------------------------------------------------------------------------------------------------------- the work


@dataclass(frozen=True, eq=False)
class Task:
    """One piece of training work, the same for every engine."""

    name: str
    sizes: tuple
    activation: str
    batch_size: int
    X: np.ndarray
    y: np.ndarray
    epochs_per_call: int
    learning_rate: float = 1e-3

    @property
    def steps(self):
        """Batches per epoch; the last may be short."""
        return -(-len(self.X) // self.batch_size)

    @property
    def gemm_flops(self):
        """Floating-point operations of one epoch's matrix products: forward, dW, and dX except for the input."""
        products = [n_in * n_out for n_in, n_out in pairwise(self.sizes)]
        return 2 * len(self.X) * (3 * sum(products) - products[0])

    def initial_parameters(self):
        """Glorot-uniform weights and zero biases: [W0, b0, W1, b1, ...], the same at every call."""
        rng = np.random.default_rng(0)
        parameters = []
        for n_in, n_out in pairwise(self.sizes):
            limit = np.sqrt(6 / (n_in + n_out))
            parameters.append(rng.uniform(-limit, limit, (n_in, n_out)).astype(self.X.dtype))
            parameters.append(np.zeros(n_out, self.X.dtype))
        return parameters

    def head(self, rows):
        """Return the same task on its first rows only."""
        return replace(self, X=self.X[:rows], y=self.y[:rows])


def mnist_task(batch_size, dtype="float32"):
    """784-64-64-10 relu on the 60,000 MNIST rows; raises FileNotFoundError where the data is missing."""
    import fastnn as fnn

    os.environ.setdefault("FASTNN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    X, y, _, _ = fnn.datasets.load_mnist(dtype=dtype, download=False)
    return Task(f"784-64-64-10 batch {batch_size}", (784, 64, 64, 10), "relu", batch_size, X, y.astype(np.int64), 2)


def iris_task(dtype="float32"):
    """4-10-10-3 tanh at batch 16 on 1,504 rows: iris, standardised and repeated in random order."""
    import fastnn as fnn

    X, y = fnn.datasets.load_iris()
    rows = np.resize(np.random.default_rng(0).permutation(len(X)), 1504)
    X = ((X - X.mean(axis=0)) / X.std(axis=0))[rows].astype(dtype)
    return Task("4-10-10-3 batch 16", (4, 10, 10, 3), "tanh", 16, X, y[rows].astype(np.int64), 20)


TASKS = {
    "mnist-32": lambda: mnist_task(32),
    "mnist-64": lambda: mnist_task(64),
    "mnist-256": lambda: mnist_task(256),
    "iris-16": iris_task,
}


# ----------------------------------------------------------------------------------------------------- the engines


class Fastnn:
    """fastnn's compiled engine: one ``fit`` call for all epochs."""

    name = "fastnn"
    requires = "fastnn"

    def __init__(self, task, threads, **options):
        import fastnn as fnn

        hidden = [fnn.Dense(units, task.activation) for units in task.sizes[1:-1]]
        self.net = fnn.Sequential(
            [*hidden, fnn.Dense(task.sizes[-1])],
            input_size=task.sizes[0],
            loss="cross_entropy",
            dtype=str(task.X.dtype),
            seed=0,
            **options,
        )
        for view, value in zip(self.net.parameters.values(), task.initial_parameters(), strict=True):
            view[...] = value
        self.task, self.threads, self.optimizer = task, threads, fnn.Adam(task.learning_rate)

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        self.net.fit(
            self.task.X,
            self.task.y,
            optimizer=self.optimizer,
            epochs=n,
            batch_size=self.task.batch_size,
            shuffle=shuffle,
            threads=self.threads,
        )

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]."""
        return [view.copy() for view in self.net.parameters.values()]


class Twin(Fastnn):
    """fastnn's NumPy twin of the same engine."""

    name = "twin"

    def __init__(self, task, threads):
        super().__init__(task, threads, backend="reference")


class ScikitLearn:
    """scikit-learn's MLPClassifier; ``warm_start`` lets it begin at the given parameters."""

    name = "scikit-learn"
    requires = "sklearn"

    def __init__(self, task, _threads):  # its threads are BLAS's: see configure_process
        from sklearn.neural_network import MLPClassifier

        self.task = task
        self.model = MLPClassifier(
            task.sizes[1:-1],
            activation=task.activation,
            alpha=0,
            batch_size=task.batch_size,
            learning_rate_init=task.learning_rate,
            tol=0,
            n_iter_no_change=2**31,
            warm_start=True,
        )
        self.model.partial_fit(task.X[: task.batch_size], task.y[: task.batch_size], classes=np.unique(task.y))
        initial = task.initial_parameters()
        self.model.coefs_, self.model.intercepts_ = initial[0::2], initial[1::2]

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        self.model.set_params(max_iter=n, shuffle=shuffle)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "has not converged yet": it is not meant to
            self.model.fit(self.task.X, self.task.y)

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]."""
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [array.copy() for pair in pairs for array in pair]


class Torch:
    """PyTorch, the eager loop at its best."""

    name = "torch"
    requires = "torch"

    def __init__(self, task, threads):
        import torch

        torch.set_num_threads(threads)
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[task.activation]
        initial = task.initial_parameters()
        layers = []
        for weight, bias in zip(initial[0::2], initial[1::2], strict=True):
            layer = torch.nn.Linear(*weight.shape)
            layer.weight.data = torch.from_numpy(weight.T.copy())
            layer.bias.data = torch.from_numpy(bias)
            layers += [layer, activation()]
        self.net = torch.nn.Sequential(*layers[:-1])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=task.learning_rate, fused=True)
        self.X, self.y, self.batch_size = torch.tensor(task.X), torch.tensor(task.y), task.batch_size

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        import torch

        for _ in range(n):
            order = torch.randperm(len(self.X)) if shuffle else torch.arange(len(self.X))
            total = torch.zeros(())
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                output = self.net(self.X.index_select(0, rows))
                loss = torch.nn.functional.cross_entropy(output, self.y.index_select(0, rows))
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                total += loss.detach()
            total.item()

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]; torch keeps weights as (out, in)."""
        return [p.detach().numpy().T.copy() for p in self.net.parameters()]


class Jax:
    """JAX: one jitted scan per epoch."""

    name = "jax"
    requires = "jax"

    def __init__(self, task, _threads):  # its threads are fixed at import: see configure_process
        import jax
        import jax.numpy as jnp
        from jax.flatten_util import ravel_pytree

        if task.X.dtype == np.float64:
            jax.config.update("jax_enable_x64", True)
        initial = [jnp.array(p) for p in task.initial_parameters()]
        flat, unravel = ravel_pytree(initial)
        start, self.unravel = (flat, unravel) if flat.size < 10_000 else (initial, lambda tree: tree)
        self.X, self.y, self.rng = jnp.array(task.X), jnp.array(task.y, jnp.int32), np.random.default_rng(0)
        self.state = (start, zeros_like_tree(start), zeros_like_tree(start), jnp.zeros((), task.X.dtype))
        self.epoch = jax.jit(self._epoch_function(task), donate_argnums=0)

    def _epoch_function(self, task):
        import jax
        import jax.numpy as jnp

        activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[task.activation]
        rate, beta1, beta2, epsilon = task.learning_rate, 0.9, 0.999, 1e-8

        def loss_of(theta, x, labels):
            *hidden, last = pairs(self.unravel(theta))
            for weight, bias in hidden:
                x = activation(x @ weight + bias)
            log_p = jax.nn.log_softmax(x @ last[0] + last[1])
            return -(log_p * jax.nn.one_hot(labels, task.sizes[-1], dtype=log_p.dtype)).sum(axis=-1).mean()

        def step(state, rows, X, y):
            theta, m, v, t = state
            loss, gradient = jax.value_and_grad(loss_of)(theta, X[rows], y[rows])
            t = t + 1
            m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradient)
            v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradient)
            scale_m, scale_v = 1 / (1 - beta1**t), 1 / (1 - beta2**t)
            theta = jax.tree.map(
                lambda p, m, v: p - rate * (m * scale_m) / (jnp.sqrt(v * scale_v) + epsilon), theta, m, v
            )
            return (theta, m, v, t), loss

        def epoch(state, X, y, order):
            full = len(order) // task.batch_size * task.batch_size
            batches = order[:full].reshape(-1, task.batch_size)
            state, losses = jax.lax.scan(lambda s, rows: step(s, rows, X, y), state, batches)
            total = losses.sum()
            if full < len(order):
                state, loss = step(state, order[full:], X, y)
                total += loss
            return state, total

        return epoch

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        for _ in range(n):
            order = self.rng.permutation(len(self.X)) if shuffle else np.arange(len(self.X))
            self.state, total = self.epoch(self.state, self.X, self.y, order.astype(np.int32))
        total.block_until_ready()

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]."""
        return [np.array(p) for p in self.unravel(self.state[0])]


def pairs(parameters):
    """Group [W0, b0, W1, b1, ...] as [(W0, b0), (W1, b1), ...]."""
    return list(zip(parameters[0::2], parameters[1::2], strict=True))


def zeros_like_tree(tree):
    """Return JAX zeros of the same structure."""
    import jax

    return jax.tree.map(jax.numpy.zeros_like, tree)


ENGINES = {engine.name: engine for engine in (Fastnn, Twin, ScikitLearn, Torch, Jax)}


def available():
    """Return the names of the engines whose library is installed."""
    return [name for name, engine in ENGINES.items() if importlib.util.find_spec(engine.requires)]


# ------------------------------------------------------------------------------------------------- is it the same?

# Largest allowed difference(...) from fastnn. In float64 a whole epoch agrees to rounding. In float32 only the first
# few batches can: after some hundred steps a relu that rounding puts on the other side of zero has changed everything.
# scikit-learn's epsilon stands elsewhere in Adam's formula, which shows where gradients are tiny.
CHECKED_BATCHES = 5
FLOAT32_TOLERANCE = {"fastnn": 1e-3, "twin": 1e-3, "torch": 1e-3, "jax": 1e-3, "scikit-learn": 5e-2}
FLOAT64_TOLERANCE = 1e-8


def trained_parameters(task, name, threads):
    """Return the parameters after one epoch in the data's own order, which every engine can follow."""
    engine = ENGINES[name](task, threads)
    engine.epochs(1, shuffle=False)
    return engine.parameters()


def difference(task, first, second):
    """Return ||first - second|| / ||second - initial|| over all parameters together."""

    def distance(a, b):
        return np.sqrt(sum(np.sum((x.astype(np.float64) - y) ** 2) for x, y in zip(a, b, strict=True)))

    return float(distance(first, second) / distance(second, task.initial_parameters()))


def check_same_work(task, name, threads):
    """Assert that the engine ends where fastnn does, after a few batches and a short one from the same start."""
    short = task.head(CHECKED_BATCHES * task.batch_size + task.batch_size // 2)
    apart = difference(short, trained_parameters(short, name, threads), trained_parameters(short, "fastnn", threads))
    assert apart <= FLOAT32_TOLERANCE[name], f"{name} and fastnn end {apart:.1e} apart on {task.name}"


def mean_loss(task, parameters):
    """Return the mean cross-entropy of the network on the task's data, computed here in float64."""
    activation = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[task.activation]
    *hidden, (last_weight, last_bias) = pairs([p.astype(np.float64) for p in parameters])
    x = task.X.astype(np.float64)
    for weight, bias in hidden:
        x = activation(x @ weight + bias)
    z = x @ last_weight + last_bias
    z -= z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), task.y]))
