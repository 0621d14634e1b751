"""Document 004: its whole grid, 4,096 settings of softmax regression on Fashion-MNIST.

Eight numbers of epochs, batch sizes, learning rates and penalties; the cross-entropy on a fifth of the training rows
decides, and the best setting is trained on all of them and tested. The document took about 30 hours. The numbers of
epochs are read off one training each, so that 512 are left, and `fnn.sweep` trains those side by side.

    python examples/document_004_grid.py --threads 2
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn

DOCUMENT = (0.433649, 0.455827, 84.26)  # cross-entropy on the validation and on the test rows, accuracy on the latter
SPACE: dict[str, list[Any]] = {
    "epochs": [1, 2, 5, 10, 15, 20, 28, 35],
    "batch_size": [16, 32, 64, 128, 256, 512, 1024, 2048],
    "learning_rate": [0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
    "l2": [0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1],
}


def network(seed: int) -> fnn.Sequential:
    """Softmax regression from zero, as the document has it."""
    return fnn.Sequential([fnn.Dense(10, init="zeros")], input_size=784, loss="cross_entropy", seed=seed)


def load(name: str | None) -> tuple[str, tuple[np.ndarray, ...]]:
    """The name of the images, and their four arrays; Fashion-MNIST, if no name is given and it is there."""
    if name != "mnist":
        try:
            return "fashion", fnn.datasets.load_fashion_mnist(dtype="float32", download=name is not None)
        except FileNotFoundError:
            if name is not None:
                raise
    return "mnist", fnn.datasets.load_mnist(dtype="float32")


def beside(result: fnn.SweepResult) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figure and ours; the scores of its own data are printed."""
    return [("problem 4", f"time of {len(result):,} settings", "30 hours", f"{result.seconds / 60:.1f} minutes")]


def main(argv: Sequence[str] | None = None) -> fnn.SweepResult:
    """Search the grid, print the best settings and the test of the best one; returns the result."""
    parser = argparse.ArgumentParser(description="Document 004: its grid of 4,096 settings.")
    parser.add_argument(
        "--data", choices=("mnist", "fashion"), help="images (default: fashion where its files are, else mnist)"
    )
    parser.add_argument("--threads", type=int, help="workers (default: the limit of the BLAS libraries)")
    parser.add_argument("--quick", action="store_true", help="1000 rows, two values of each")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.threads is not None and options.threads < 1:
        parser.error("--threads must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)
    name, (X, y, X_test, y_test) = load(options.data)
    space = SPACE
    if options.quick:
        X, y = X[:1000], y[:1000]
        space = {name: values[2:5:2] for name, values in SPACE.items()}

    result = fnn.sweep(
        network,
        space,
        X,
        y,
        validation_split=0.2,
        metric="loss",
        optimizer=fnn.SGD(0.1),
        threads=options.threads,
        verbose=1,
    )
    print(result)
    best = result.best_parameters
    accuracies = result.series("val_accuracy")
    last = [accuracies[i, 0, outcomes[0].epochs - 1] for i, outcomes in enumerate(result.outcomes)]
    print(f"{len(result):,} settings in {result.seconds:.0f} s (the document: about 30 hours)")
    print(f"validation: cross-entropy {result.best_score:.4f} (the document {DOCUMENT[0]:.4f}), accuracy of that one ")
    print(f"  {100 * last[result.best_index]:.2f} %, best accuracy of all {100 * np.nanmax(last):.2f} %")

    began = time.perf_counter()
    net = network(0)
    fit = {name: value for name, value in best.items() if name != "learning_rate"}
    net.fit(X, y, optimizer=fnn.SGD(best["learning_rate"]), seed=0, **fit)
    scores = net.evaluate(X_test, y_test)
    print(f"trained on all {len(X):,} rows in {time.perf_counter() - began:.1f} s, on the test rows:")
    print(f"  cross-entropy {scores['loss']:.4f} (the document {DOCUMENT[1]:.4f}), ", end="")
    print(f"accuracy {100 * scores['accuracy']:.2f} % ({DOCUMENT[2]:.2f} %)")

    table = result.to_dict()
    table["accuracy"] = last
    path = options.output / "document_004_grid.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    picture = options.output / "document_004_grid.png"
    result.plot(picture, title=f"softmax regression, {name}: {len(result):,} settings")
    print("saved", path, "and", picture)
    return result


if __name__ == "__main__":
    main()
