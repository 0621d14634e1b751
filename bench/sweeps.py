"""Many networks at once: members per second of sweeps, of fits in a loop, and of scikit-learn's grid search.

python bench/sweeps.py [SECTION ...] [--settings N] [--epochs N]

Sections: `iris`, settings of 4-10-10-3 on five folds; `digits`, settings of 64-100-10 on five folds, behind
scikit-learn's interface; `busy`, settings of 784-64-64-10 on MNIST with validation rows: how busy the cores are.
Needs scikit-learn; `busy` needs MNIST (FASTNN_DATA). Prints one line for each way, its time, and how many times as long
as the first.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

import fastnn as fnn
from fastnn._core.threads import blas_threads

SECTIONS = ("iris", "digits", "busy")


def timed(name: str, work: Callable[[], object], n: int, first: float | None = None) -> float:
    """Do some work on n members and print its time."""
    cpu, began = time.process_time(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    ratio = "" if first is None else f"{seconds / first:8.2f} times as long"
    print(f"  {name:42}{seconds:9.2f} s{n / seconds:10.1f} members/s{cpu / seconds:7.2f} cores{ratio}", flush=True)
    return seconds


def iris(settings: int, epochs: int) -> None:
    """Settings of 4-10-10-3, five folds."""
    X, y = fnn.datasets.load_iris()
    X = X.astype(np.float32)
    rates = np.geomspace(1e-4, 1e-1, settings).tolist()

    def model(seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(10, "relu"), fnn.Dense(10, "relu"), fnn.Dense(3)]
        return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)

    def sweep() -> fnn.SweepResult:
        return fnn.sweep(model, {"learning_rate": rates}, X, y, cv=5, epochs=epochs, batch_size=32, refit=False)

    folds = fnn.sweep(model, {"seed": [0]}, X, y, cv=5, epochs=1, refit=False).folds

    def loop(validated: bool) -> None:
        for rate in rates:
            for fold in folds:
                rows = {"validation_data": (X[fold.validation], y[fold.validation])} if validated else {}
                options = {"optimizer": fnn.Adam(rate), "epochs": epochs, "batch_size": 32, "seed": 0}
                model(0).fit(X[fold.train], y[fold.train], **options, **rows)

    print(f"iris, {settings} settings of 4-10-10-3, 5 folds, {epochs} epochs")
    n = 5 * settings
    first = timed("fnn.sweep", sweep, n)
    timed("fit in a loop, with validation rows", lambda: loop(True), n, first)
    timed("fit in a loop, without", lambda: loop(False), n, first)
    grid_search("scikit-learn's MLPClassifier", MLPClassifier, (10, 10), rates, epochs, X, y, first)


def digits(settings: int, epochs: int) -> None:
    """Settings of 64-100-10, five folds, behind scikit-learn's interface."""
    X, y = fnn.datasets.load_digits()
    X = X.astype(np.float32) / 16
    rates = np.geomspace(1e-4, 1e-2, settings).tolist()
    ours = fnn.MLPClassifier((100,), max_iter=epochs, batch_size=32, n_iter_no_change=epochs, random_state=0)

    def search() -> object:
        return fnn.SweepSearchCV(ours, {"learning_rate_init": rates}, cv=5, refit=False).fit(X, y)

    print(f"digits, {settings} settings of 64-100-10, 5 folds, {epochs} epochs")
    first = timed("fnn.SweepSearchCV", search, 5 * settings)
    grid_search("fnn.MLPClassifier", fnn.MLPClassifier, (100,), rates, epochs, X, y, first)
    grid_search("scikit-learn's MLPClassifier", MLPClassifier, (100,), rates, epochs, X, y, first)


def grid_search(
    name: str,
    kind: type,
    hidden: tuple[int, ...],
    rates: list[float],
    epochs: int,
    X: np.ndarray,
    y: np.ndarray,
    first: float,
) -> None:
    """GridSearchCV on as many processes as there are threads."""
    estimator = kind(hidden, max_iter=epochs, batch_size=32, n_iter_no_change=epochs, random_state=0)
    search = GridSearchCV(estimator, {"learning_rate_init": rates}, cv=5, refit=False, n_jobs=blas_threads())
    timed(f"GridSearchCV over {name}", lambda: search.fit(X, y), 5 * len(rates), first)


def busy(settings: int, epochs: int) -> None:
    """Settings of 784-64-64-10 on MNIST."""
    X, y, _, _ = fnn.datasets.load_mnist(dtype="float32")

    def model(seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(64, "relu"), fnn.Dense(64, "relu"), fnn.Dense(10)]
        return fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=seed)

    space = {"learning_rate": np.geomspace(1e-4, 1e-2, settings).tolist()}
    print(f"MNIST, {settings} settings of 784-64-64-10, {epochs} epochs, {blas_threads()} threads")
    timed("fnn.sweep", lambda: fnn.sweep(model, space, X, y, validation_split=0.2, epochs=epochs), settings)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Members per second of sweeps.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--settings", type=int, help="number of settings (default: 64, of MNIST 32)")
    parser.add_argument("--epochs", type=int, help="epochs (default: 200, of digits 30, of MNIST 10)")
    options = parser.parse_args(argv)
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    warnings.filterwarnings("ignore", message=".*Maximum iterations")
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the processes of joblib
    for name in options.sections or SECTIONS:
        settings = options.settings or {"busy": 32}.get(name, 64)
        epochs = options.epochs or {"iris": 200, "digits": 30, "busy": 10}[name]
        {"iris": iris, "digits": digits, "busy": busy}[name](settings, epochs)


if __name__ == "__main__":
    main()
