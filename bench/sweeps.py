"""Many networks at once: members per second of sweeps, of fits in a loop, and of scikit-learn's grid search.

python bench/sweeps.py [SECTION ...] [--settings N] [--epochs N]

Sections: `iris`, settings of 4-10-10-3 on five folds; `digits`, settings of 64-100-10 on five folds, behind
scikit-learn's interface; `busy`, settings of 784-64-64-10 on MNIST with validation rows: how busy the cores are.
Needs scikit-learn; `busy` needs MNIST (FASTNN_DATA). Prints one line for each way, its time for a member, and how many
times as long as the first.
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

#: Number of members that a way trains, and the way.
Way = tuple[int, Callable[[], object]]


def iris(settings: int, epochs: int, share: int = 1) -> dict[str, Way]:
    """Settings of 4-10-10-3, five folds, in several ways; of the slow ones every `share`-th setting."""
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
        for rate in rates[::share]:
            for fold in folds:
                rows = {"validation_data": (X[fold.validation], y[fold.validation])} if validated else {}
                options = {"optimizer": fnn.Adam(rate), "epochs": epochs, "batch_size": 32, "seed": 0}
                model(0).fit(X[fold.train], y[fold.train], **options, **rows)

    some = 5 * len(rates[::share])
    return {
        "fnn.sweep": (5 * settings, sweep),
        "fit in a loop, with validation rows": (some, lambda: loop(True)),
        "fit in a loop, without": (some, lambda: loop(False)),
        **grid_search("scikit-learn's MLPClassifier", MLPClassifier, (10, 10), rates[::share], epochs, X, y),
    }


def digits(settings: int, epochs: int, share: int = 1) -> dict[str, Way]:
    """Settings of 64-100-10, five folds, behind scikit-learn's interface."""
    X, y = fnn.datasets.load_digits()
    X = X.astype(np.float32) / 16
    rates = np.geomspace(1e-4, 1e-2, settings).tolist()
    ours = fnn.MLPClassifier((100,), max_iter=epochs, batch_size=32, n_iter_no_change=epochs, random_state=0)

    def search() -> object:
        return fnn.SweepSearchCV(ours, {"learning_rate_init": rates}, cv=5, refit=False).fit(X, y)

    return {
        "fnn.SweepSearchCV": (5 * settings, search),
        **grid_search("fnn.MLPClassifier", fnn.MLPClassifier, (100,), rates[::share], epochs, X, y),
        **grid_search("scikit-learn's MLPClassifier", MLPClassifier, (100,), rates[::share], epochs, X, y),
    }


def grid_search(
    name: str, kind: type, hidden: tuple[int, ...], rates: list[float], epochs: int, X: np.ndarray, y: np.ndarray
) -> dict[str, Way]:
    """GridSearchCV on as many processes as there are threads."""
    estimator = kind(hidden, max_iter=epochs, batch_size=32, n_iter_no_change=epochs, random_state=0)
    search = GridSearchCV(estimator, {"learning_rate_init": rates}, cv=5, refit=False, n_jobs=blas_threads())
    return {f"GridSearchCV over {name}": (5 * len(rates), lambda: search.fit(X, y))}


def busy(settings: int, epochs: int, share: int = 1) -> dict[str, Way]:
    """Settings of 784-64-64-10 on MNIST."""
    X, y, _, _ = fnn.datasets.load_mnist(dtype="float32")

    def model(seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(64, "relu"), fnn.Dense(64, "relu"), fnn.Dense(10)]
        return fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=seed)

    space = {"learning_rate": np.geomspace(1e-4, 1e-2, settings).tolist()}
    return {"fnn.sweep": (settings, lambda: fnn.sweep(model, space, X, y, validation_split=0.2, epochs=epochs))}


#: What each section trains, with default numbers of settings and of epochs.
TASKS: dict[str, tuple[Callable[..., dict[str, Way]], str, int, int]] = {
    "iris": (iris, "4-10-10-3 on iris, 5 folds", 64, 200),
    "digits": (digits, "64-100-10 on digits, 5 folds", 64, 30),
    "busy": (busy, "784-64-64-10 on MNIST", 32, 10),
}


def show(ways: dict[str, Way]) -> None:
    """Time each way once, and print it."""
    first = None
    for name, (n, work) in ways.items():
        cpu, began = time.process_time(), time.perf_counter()
        work()
        seconds, cpu = (time.perf_counter() - began) / n, (time.process_time() - cpu) / n
        ratio = "" if first is None else f"{seconds / first:8.2f} times as long"
        first = first or seconds
        print(f"  {name:42}{1e3 * seconds:9.2f} ms/member{cpu / seconds:7.2f} cores{ratio}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Members per second of sweeps.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--settings", type=int, help="number of settings (default: 64, of MNIST 32)")
    parser.add_argument("--epochs", type=int, help="epochs (default: 200, of digits 30, of MNIST 10)")
    options = parser.parse_args(argv)
    unknown = set(options.sections) - set(TASKS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    warnings.filterwarnings("ignore", message=".*Maximum iterations")
    os.environ["PYTHONWARNINGS"] = "ignore"  # of the processes of joblib
    for name in options.sections or TASKS:
        make, title, settings, epochs = TASKS[name]
        settings, epochs = options.settings or settings, options.epochs or epochs
        print(f"{title}: {settings} settings, {epochs} epochs, {blas_threads()} threads")
        show(make(settings, epochs))


if __name__ == "__main__":
    main()
