"""The same training work, done by fastnn and by its rivals, behind one interface.

A :class:`Task` is the work: data, layer sizes, batch size, dtype. An engine is one library set up for it with given
initial parameters; ``engine.epochs(n)`` then runs ``n`` whole epochs as that library's users would at their best:
shuffling, gathering the rows of each batch, forward, loss, backward and Adam, the short last batch included. Where one
batch is all rows, no engine shuffles or gathers.
``engine.parameters()`` gives back the trained arrays, so that each engine can be checked against the others.

What is best for each rival was measured, not assumed:

- PyTorch: eager, ``Adam(fused=True)``, tensors prepared beforehand and no DataLoader; ``index_select`` per batch is
  faster than ``X[rows]``, and faster than one gather of the whole epoch.
- JAX: the whole epoch is one jitted ``lax.scan`` with donated state; rows are gathered inside; Adam is written out
  (faster than optax); one-hot labels inside the loss; one flat parameter vector when the network is small, a pytree
  when it is large; 512-bit vectors allowed. Where one batch is all rows: samples as columns, which takes half the time
  of samples as rows, and one jitted call per step, which is no slower than a loop inside.
- scikit-learn: ``MLPClassifier`` or ``MLPRegressor`` with ``alpha=0``, stopping tests off, and float32 data kept as
  float32. Its Adam adds epsilon before the bias correction, so its parameters are compared with a looser tolerance.
"""

import importlib.util
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.linalg  # loads SciPy's BLAS too, so that configure_process limits it
from threadpoolctl import threadpool_limits

# ----------------------------------------------------------------------------------------------------- the process


ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def configure_process(threads):
    """Give every engine of this process the same ``threads``; call it before torch or JAX is imported.

    With one thread the process is pinned to one core, which no library can get around. JAX fixes its thread count when
    it is imported, so a process has one thread count for its whole life.
    """
    flags = ["--xla_cpu_prefer_vector_width=512"]
    if threads == 1:
        flags += ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
        if ALL_CORES:
            os.sched_setaffinity(0, {max(ALL_CORES)})
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])
    threadpool_limits(threads)


@contextmanager
def unpinned():
    """Let the process use all its cores for a while, to time fastnn alone on several of them."""
    if not ALL_CORES:
        yield
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALL_CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


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
    loss: str = "cross_entropy"  # of labels y; or "squared_error", half the sum over the columns of y

    @property
    def steps(self):
        """Batches per epoch; the last may be short."""
        return -(-len(self.X) // self.batch_size)

    @property
    def full_batch(self):
        """Whether one batch is all rows, so that there is nothing to shuffle or gather."""
        return self.steps == 1

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


def mnist_task(batch_size, hidden=(64, 64), dtype="float32"):
    """784-hidden-10 relu on the 60,000 MNIST rows; raises FileNotFoundError where the data is missing."""
    import fastnn as fnn

    os.environ.setdefault("FASTNN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    X, y, _, _ = fnn.datasets.load_mnist(dtype=dtype, download=False)
    sizes = (784, *hidden, 10)
    calls = 10 if max(hidden) < 256 else 3
    return Task(task_name(sizes, batch_size), sizes, "relu", batch_size, X, y.astype(np.int64), calls)


def dense_task(batch_size, dtype="float32"):
    """The same on pixels from 0.1 to 1, so that nothing is zero."""
    task = mnist_task(batch_size, dtype=dtype)
    return replace(task, name=f"{task.name}, no zeros", X=(0.1 + 0.9 * task.X).astype(dtype))


def iris_task(dtype="float32"):
    """4-10-10-3 tanh at batch 16 on 1,504 rows: iris, standardised and repeated in random order."""
    import fastnn as fnn

    X, y = fnn.datasets.load_iris()
    rows = np.resize(np.random.default_rng(0).permutation(len(X)), 1504)
    X = ((X - X.mean(axis=0)) / X.std(axis=0))[rows].astype(dtype)
    sizes = (4, 10, 10, 3)
    return Task(task_name(sizes, 16), sizes, "tanh", 16, X, y[rows].astype(np.int64), 20)


def chains_task(dtype="float32"):
    """4-32-16-4 tanh on 10,000 rows as one batch: learn exp(A) of 2x2 matrices A, the benchmark of SimpleChains.jl."""
    A = np.random.default_rng(0).standard_normal((10_000, 2, 2))
    X, Y = (matrices.reshape(-1, 4).astype(dtype) for matrices in (A, scipy.linalg.expm(A)))
    sizes = (4, 32, 16, 4)
    return Task(task_name(sizes, "all"), sizes, "tanh", len(X), X, Y, 100, loss="squared_error")


def task_name(sizes, batch_size):
    """Return the name of a task in the tables."""
    return f"{'-'.join(map(str, sizes))} batch {batch_size}"


TASKS = {
    "mnist-32": partial(mnist_task, 32),
    "mnist-64": partial(mnist_task, 64),
    "mnist-256": partial(mnist_task, 256),
    "mnist-1024": partial(mnist_task, 1024),
    "wide-256": partial(mnist_task, 256, (512, 512)),
    "dense-256": partial(dense_task, 256),
    "iris-16": iris_task,
    "chains-full": chains_task,
}

# Trained with and without batch norm and dropout, by the engines that have both.
NORMALISED_TASKS = {"norm-128": partial(mnist_task, 128, (256, 256))}


# ----------------------------------------------------------------------------------------------------- the engines


class Fastnn:
    """fastnn's compiled engine: one ``fit`` call for all epochs."""

    name = "fastnn"
    requires = "fastnn"

    def __init__(self, task, threads, **options):
        import fastnn as fnn

        hidden = [layer for units in task.sizes[1:-1] for layer in self.hidden_layers(units, task.activation)]
        self.net = fnn.Sequential(
            [*hidden, fnn.Dense(task.sizes[-1])],
            input_size=task.sizes[0],
            loss=task.loss,
            dtype=str(task.X.dtype),
            seed=0,
            **options,
        )
        dense = [view for name, view in self.net.parameters.items() if name.endswith((".weight", ".bias"))]
        for view, value in zip(dense, task.initial_parameters(), strict=True):
            view[...] = value
        self.task, self.threads, self.optimizer = task, threads, fnn.Adam(task.learning_rate)
        self.fit_options = {}

    def hidden_layers(self, units, activation):
        """Return what one hidden layer is made of."""
        import fastnn as fnn

        return [fnn.Dense(units, activation)]

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        self.net.fit(
            self.task.X,
            self.task.y,
            optimizer=self.optimizer,
            epochs=n,
            batch_size=self.task.batch_size,
            shuffle=shuffle and not self.task.full_batch,
            threads=self.threads,
            **self.fit_options,
        )

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]."""
        return [view.copy() for view in self.net.parameters.values()]


class Reference(Fastnn):
    """fastnn's NumPy reference implementation of the same engine."""

    name = "reference"

    def __init__(self, task, threads):
        super().__init__(task, threads, backend="reference")


class NormalisedFastnn(Fastnn):
    """fastnn with batch norm between a hidden layer and its activation, and dropout after that."""

    def __init__(self, task, threads, rate=0.2):
        self.rate = rate
        super().__init__(task, threads)

    def hidden_layers(self, units, activation):
        """Return what one hidden layer is made of."""
        import fastnn as fnn

        return [fnn.Dense(units), fnn.BatchNorm(), fnn.Activation(activation), fnn.Dropout(self.rate)]

    def probabilities(self):
        """Return those of the classes, by the network as it predicts, for every row of the task."""
        return self.net.predict_proba(self.task.X, threads=self.threads)


class ScikitLearn:
    """scikit-learn's MLPClassifier or MLPRegressor; ``warm_start`` lets it begin at the given parameters."""

    name = "scikit-learn"
    requires = "sklearn"

    def __init__(self, task, _threads):  # its threads are BLAS's: see configure_process
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        self.task, classifies = task, task.loss == "cross_entropy"
        self.model = (MLPClassifier if classifies else MLPRegressor)(
            hidden_layer_sizes=task.sizes[1:-1],
            activation=task.activation,
            alpha=0,
            batch_size=task.batch_size,
            learning_rate_init=task.learning_rate,
            tol=0,
            n_iter_no_change=2**31,
            warm_start=True,
        )
        classes = {"classes": np.unique(task.y)} if classifies else {}
        self.model.partial_fit(task.X[: task.batch_size], task.y[: task.batch_size], **classes)
        initial = task.initial_parameters()
        self.model.coefs_, self.model.intercepts_ = initial[0::2], initial[1::2]

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        self.model.set_params(max_iter=n, shuffle=shuffle and not self.task.full_batch)
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
        self.task = task
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[task.activation]
        initial = task.initial_parameters()
        layers = []
        for weight, bias in zip(initial[0::2], initial[1::2], strict=True):
            layer = torch.nn.Linear(*weight.shape)
            layer.weight.data = torch.from_numpy(weight.T.copy())
            layer.bias.data = torch.from_numpy(bias)
            layers += [layer, *self.after_linear(len(bias), activation)]
        self.net = torch.nn.Sequential(*layers[: layers.index(layer) + 1])  # nothing after the last one
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=task.learning_rate, fused=True)
        self.X, self.y = torch.tensor(task.X), torch.tensor(task.y)

    def after_linear(self, units, activation):
        """Return what follows the linear layer in a hidden one."""
        return [activation()]

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        import torch

        for _ in range(n):
            total = torch.zeros((), dtype=self.X.dtype)
            for X, y in self.batches(shuffle):
                loss = self.loss(self.net(X), y)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                total += loss.detach()
            total.item()

    def batches(self, shuffle):
        """Generate the batches of one epoch."""
        import torch

        if self.task.full_batch:
            yield self.X, self.y
            return
        order = torch.randperm(len(self.X)) if shuffle else torch.arange(len(self.X))
        for rows in order.split(self.task.batch_size):
            yield self.X.index_select(0, rows), self.y.index_select(0, rows)

    def loss(self, output, y):
        """Return the mean over the rows."""
        from torch.nn import functional

        if self.task.loss == "cross_entropy":
            return functional.cross_entropy(output, y)
        return functional.mse_loss(output, y) * (y.shape[1] / 2)

    def parameters(self):
        """Return the trained arrays [W0, b0, ...]; torch keeps weights as (out, in)."""
        return [p.detach().numpy().T.copy() for p in self.net.parameters()]


class NormalisedTorch(Torch):
    """PyTorch with the layers of :class:`NormalisedFastnn`; its running statistics count in prediction only."""

    def __init__(self, task, threads, rate=0.2):
        self.rate = rate
        super().__init__(task, threads)

    def after_linear(self, units, activation):
        """Return what follows the linear layer in a hidden one."""
        import torch

        norm = torch.nn.BatchNorm1d(units, dtype=getattr(torch, str(self.task.X.dtype)))
        return [norm, activation(), torch.nn.Dropout(self.rate)]

    def probabilities(self):
        """Return those of the classes, by the network as it predicts, for every row of the task."""
        import torch

        self.net.eval()
        with torch.no_grad():
            result = self.net(self.X).softmax(dim=1).numpy()
        self.net.train()
        return result


class Jax:
    """JAX: one jitted scan per epoch; where one batch is all rows, one jitted step with samples as columns."""

    name = "jax"
    requires = "jax"

    def __init__(self, task, _threads):  # its threads are fixed at import: see configure_process
        import jax
        import jax.numpy as jnp
        from jax.flatten_util import ravel_pytree

        jax.config.update("jax_enable_x64", task.X.dtype == np.float64)
        initial = [jnp.array(p) for p in task.initial_parameters()]
        flat, unravel = ravel_pytree(initial)
        start, self.unravel = (flat, unravel) if flat.size < 10_000 else (initial, lambda tree: tree)
        y = task.y.astype(np.int32) if task.loss == "cross_entropy" else task.y
        self.X, self.y = (jnp.array(array.T if task.full_batch else array) for array in (task.X, y))
        self.task, self.rng = task, np.random.default_rng(0)
        self.state = (start, zeros_like_tree(start), zeros_like_tree(start), jnp.zeros((), task.X.dtype))
        self.epoch = jax.jit(self._epoch_function(), donate_argnums=0)

    def _epoch_function(self):
        import jax
        import jax.numpy as jnp

        task = self.task
        activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[task.activation]
        rate, beta1, beta2, epsilon = task.learning_rate, 0.9, 0.999, 1e-8

        unit_axis = 0 if task.full_batch else -1

        def dense(x, weight, bias):
            return weight.T @ x + bias[:, None] if task.full_batch else x @ weight + bias

        def loss_of(theta, x, y):
            *hidden, last = pairs(self.unravel(theta))
            for weight, bias in hidden:
                x = activation(dense(x, weight, bias))
            z = dense(x, *last)
            if task.loss == "squared_error":
                return 0.5 * ((z - y) ** 2).sum(axis=unit_axis).mean()
            log_p = jax.nn.log_softmax(z, axis=unit_axis)
            labels = jax.nn.one_hot(y, task.sizes[-1], dtype=z.dtype, axis=unit_axis)
            return -(log_p * labels).sum(axis=unit_axis).mean()

        def step(state, X, y):
            theta, m, v, t = state
            loss, gradient = jax.value_and_grad(loss_of)(theta, X, y)
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
            state, losses = jax.lax.scan(lambda s, rows: step(s, X[rows], y[rows]), state, batches)
            total = losses.sum()
            if full < len(order):
                rows = order[full:]
                state, loss = step(state, X[rows], y[rows])
                total += loss
            return state, total

        return step if task.full_batch else epoch

    def epochs(self, n, *, shuffle=True):
        """Train for n epochs, in the order of the data when shuffle is False."""
        for _ in range(n):
            order = ()
            if not self.task.full_batch:
                order = self.rng.permutation(len(self.X)) if shuffle else np.arange(len(self.X))
                order = (order.astype(np.int32),)
            self.state, total = self.epoch(self.state, self.X, self.y, *order)
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


ENGINES = {engine.name: engine for engine in (Fastnn, Reference, ScikitLearn, Torch, Jax)}


def available():
    """Return the names of the engines whose library is installed."""
    return [name for name, engine in ENGINES.items() if importlib.util.find_spec(engine.requires)]


# ------------------------------------------------------------------------------------------------- is it the same?

# Largest allowed difference(...) from fastnn. In float64 a whole epoch agrees to rounding. In float32 only the first
# few batches can: after some hundred steps a relu that rounding puts on the other side of zero has changed everything,
# and Adam's first steps have the size of the rate however small the gradient is, so that its rounding shows (JAX ends
# 2.5e-3 from fastnn on 784-512-512-10 in float32, but under 1e-8 in float64). Where gradients are tiny it shows, too,
# that scikit-learn's epsilon stands elsewhere in Adam's formula.
CHECKED_BATCHES = 5
FLOAT32_TOLERANCE = {"fastnn": 1e-3, "reference": 1e-3, "torch": 1e-3, "jax": 5e-3, "scikit-learn": 5e-2}
FLOAT64_TOLERANCE = 1e-8


def trained_parameters(task, name, threads):
    """Return the parameters after one epoch, or five of one batch, in the data's own order, which all can follow."""
    engine = ENGINES[name](task, threads)
    engine.epochs(CHECKED_BATCHES if task.full_batch else 1, shuffle=False)
    return engine.parameters()


def difference(task, first, second):
    """Return ||first - second|| / ||second - initial|| over all parameters together."""

    def distance(a, b):
        return np.sqrt(sum(np.sum((x.astype(np.float64) - y) ** 2) for x, y in zip(a, b, strict=True)))

    return float(distance(first, second) / distance(second, task.initial_parameters()))


def check_same_work(task, name, threads):
    """Assert that the engine ends where fastnn does, after a few batches and a short one from the same start."""
    short = task if task.full_batch else task.head(CHECKED_BATCHES * task.batch_size + task.batch_size // 2)
    apart = difference(short, trained_parameters(short, name, threads), trained_parameters(short, "fastnn", threads))
    strict = task.X.dtype == np.float64 and name != "scikit-learn"
    allowed = FLOAT64_TOLERANCE if strict else FLOAT32_TOLERANCE[name]
    assert apart <= allowed, f"{name} and fastnn end {apart:.1e} apart on {task.name} in {task.X.dtype}"


def check_same_normalised_work(task, threads):
    """Assert that both normalised networks end at the same weights without dropout, in float64, after a few batches.

    Only the weights are compared: a bias before batch norm has gradient 0, of which Adam sees the rounding alone.
    """
    short = task.head(CHECKED_BATCHES * task.batch_size + task.batch_size // 2)
    short = replace(short, X=short.X.astype(np.float64))
    ends = []
    for engine_class in (NormalisedFastnn, NormalisedTorch):
        engine = engine_class(short, threads, rate=0.0)
        engine.epochs(1, shuffle=False)
        ends.append([p for p in engine.parameters() if p.ndim == 2])
    for ours, theirs, initial in zip(*ends, short.initial_parameters()[0::2], strict=True):
        apart = np.linalg.norm(ours - theirs) / np.linalg.norm(ours - initial)
        assert apart <= FLOAT64_TOLERANCE, f"the normalised networks end {apart:.1e} apart on {task.name}"


def loss_of_probabilities(task, probabilities):
    """Return the mean cross-entropy of the task's labels."""
    likelihood = probabilities[np.arange(len(task.y)), task.y].astype(np.float64)
    return float(-np.mean(np.log(np.maximum(likelihood, 1e-30))))


def mean_loss(task, parameters):
    """Return the mean loss of the network on the task's data, computed here in float64."""
    activation = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[task.activation]
    *hidden, (last_weight, last_bias) = pairs([p.astype(np.float64) for p in parameters])
    x = task.X.astype(np.float64)
    for weight, bias in hidden:
        x = activation(x @ weight + bias)
    z = x @ last_weight + last_bias
    if task.loss == "squared_error":
        return float(0.5 * np.mean(np.sum((z - task.y) ** 2, axis=1)))
    z -= z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), task.y]))
