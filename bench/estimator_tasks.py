"""fastnn's scikit-learn estimators beside scikit-learn's own: same class, parameters, data and seed, a whole ``fit``.

Both draw the same initial weights and the same order of the rows from one ``random_state``, so that in float64 they end
at the same weights to rounding; ``check_same_fit`` asserts that before anything is timed.
"""

import importlib
import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

MODULES = {"fastnn": "fastnn", "scikit-learn": "sklearn.neural_network"}
SEEDS = range(5)


@dataclass(frozen=True, eq=False)
class EstimatorTask:
    """Data, with rows held out for the score, and an estimator with its parameters; the rest are its defaults."""

    name: str
    estimator: str
    options: dict
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    def make(self, engine, seed=0, **options):
        """Return the estimator of that name of one of the engines, not fitted."""
        estimator = getattr(importlib.import_module(MODULES[engine]), self.estimator)
        return estimator(random_state=seed, **{**self.options, **options})

    def fit(self, engine, seed=0, **options):
        """Return it fitted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that max_iter ended it
            return self.make(engine, seed, **options).fit(self.X, self.y)

    def scores(self, engine):
        """Return the scores on the held-out rows, one for each seed: accuracies, or R^2."""
        return [self.fit(engine, seed).score(self.X_test, self.y_test) for seed in SEEDS]


def digits_task(dtype="float32"):
    """64-100-10 at scikit-learn's defaults, on four fifths of the digits, scaled to [0, 1]."""
    import fastnn as fnn

    X, y = fnn.datasets.load_digits()
    return split_task("digits 64-100-10", "MLPClassifier", {}, (X / 16).astype(dtype), y)


def diabetes_task(dtype="float32"):
    """10-100-1 at scikit-learn's defaults, on four fifths of diabetes, target standardised."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
    return split_task("diabetes 10-100-1", "MLPRegressor", {}, X.astype(dtype), y.astype(dtype))


def mnist_task(dtype="float32"):
    """784-100-10, batch 200, scikit-learn's defaults but for five epochs, on MNIST; FileNotFoundError without data."""
    import fastnn as fnn

    os.environ.setdefault("FASTNN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = fnn.datasets.load_mnist(dtype=dtype, download=False)
    return EstimatorTask("MNIST 784-100-10, 5 epochs", "MLPClassifier", {"max_iter": 5}, *data)


def split_task(name, estimator, options, X, y):
    """Return a task that trains on four fifths of the rows, drawn at random."""
    rows = np.random.default_rng(0).permutation(len(X))
    train, test = rows[len(X) // 5 :], rows[: len(X) // 5]
    return EstimatorTask(name, estimator, options, X[train], y[train], X[test], y[test])


TASKS = {
    "digits": digits_task,
    "diabetes": diabetes_task,
    "mnist": mnist_task,
}


def each(only, dtypes):
    """Generate (key, a function that makes the task) for the keys that begin as `only` says."""
    for key, make in TASKS.items():
        if only and not key.startswith(tuple(only)):
            continue
        for dtype in dtypes:
            yield key, partial(make, dtype)


def check_same_fit(task, epochs=3):
    """Assert that both engines end at the same weights after a few epochs: to rounding in float64, else nearly."""
    ours, theirs = (task.fit(engine, max_iter=epochs) for engine in MODULES)
    for name in ("coefs_", "intercepts_"):
        for mine, expected in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            apart = float(np.abs(mine - expected).max())
            allowed = 1e-10 if task.X.dtype == np.float64 else 1e-2  # Adam's first steps have the size of the rate
            assert apart <= allowed, f"the two end {apart:.1e} apart on {task.name} in {task.X.dtype}"


def check_same_scores(task, ours, theirs):
    """Assert that the mean scores over the seeds differ by less than the noise: two standard errors of a difference."""
    noise = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / len(ours))
    apart = abs(np.mean(ours) - np.mean(theirs))
    assert apart <= 2 * noise + 1e-3, f"mean scores {np.mean(ours):.4f} and {np.mean(theirs):.4f} on {task.name}"
