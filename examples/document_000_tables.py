"""Document 000, tables 2 and 3: its optimizers and its two initialisations on MNIST and iris, and Newton's method.

Its Newton's method does not learn (11 % on MNIST): its matrices are no second derivatives, and are inverted as they
are. Here are the exact Hessian whole, by layers and its diagonal, each with a line search. Prints both tables beside
the document's and draws them.

    python examples/document_000_tables.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split

import fastnn as fnn

INITS = {"uniform": "uniform_half", "Xavier": "xavier_half"}
L2 = 1e-3  # of Newton's method: without it, separable data have no minimum to come to
# Seconds and test accuracy, by method, data and initialisation.
DOCUMENT = {
    ("SGD", "MNIST", "uniform"): (115.87, 89.74),
    ("SGD", "MNIST", "Xavier"): (108.37, 96.27),
    ("Nesterov", "MNIST", "Xavier"): (150.63, 96.65),
    ("Adam", "MNIST", "Xavier"): (180.92, 96.85),
    ("Newton, diagonal", "MNIST 28×28", "uniform"): (42.44, 11.01),
    ("Newton, diagonal", "MNIST 28×28", "Xavier"): (40.68, 12.43),
    ("Newton, diagonal", "MNIST 14×14", "uniform"): (44.17, 11.52),
    ("Newton, diagonal", "MNIST 14×14", "Xavier"): (44.64, 9.43),
    ("SGD", "iris, 64", "Xavier"): (0.03, 20.00),
    ("SGD", "iris, 128", "Xavier"): (0.06, 40.00),
    ("SGD", "iris, 64", "uniform"): (0.03, 93.33),
    ("SGD", "iris, 128", "uniform"): (0.02, 6.67),
    ("Nesterov", "iris, 128", "Xavier"): (0.16, 100.0),
    ("Adam", "iris, 128", "Xavier"): (0.06, 100.0),
    ("Newton, diagonal", "iris, 10", "Xavier"): (0.06, 60.00),
    ("Newton, diagonal", "iris, 10", "uniform"): (0.09, 20.00),
}
FIRST_ORDER = {
    "SGD": fnn.SGD(0.1),
    "Nesterov": fnn.SGD(0.02, 0.9, nesterov=True),
    "AdaGrad": fnn.AdaGrad(0.02),
    "RMSProp": fnn.RMSProp(0.001),
    "Adam": fnn.Adam(0.001),
}
#: Iterations of the exact Hessian whole, by layers and its diagonal; each takes up to 20 steps with one matrix.
NEWTON = {"full": 10, "block": 15, "diagonal": 50}


Key = tuple[str, ...]  # method, data, initialisation


class Result(NamedTuple):
    """Seconds, and accuracies in percent."""

    seconds: float
    train: float
    test: float


def network(sizes: Sequence[int], hidden: str, init: str, dtype: str, seed: int) -> fnn.Sequential:
    """The document's layers: weights and biases of one distribution."""
    name = INITS[init]
    layers = [fnn.Dense(n, hidden, init=name, bias_init=name) for n in sizes[1:-1]]
    last = fnn.Dense(sizes[-1], init=name, bias_init=name)
    return fnn.Sequential([*layers, last], input_size=sizes[0], loss="cross_entropy", dtype=dtype, seed=seed)


def train(
    tried: dict[Key, tuple[Callable[..., fnn.Sequential], dict[str, Any]]], splits: Sequence[tuple[np.ndarray, ...]]
) -> dict[Key, Result]:
    """Train on the first two arrays of each split, measure on all four; means, printed and returned."""
    results: dict[Key, list[Result]] = {key: [] for key in tried}
    methods = {" | ".join(key): method for key, method in tried.items()}
    for seed, (X, y, *test) in enumerate(splits):
        compared = fnn.compare(methods, X, y, validation_data=tuple(test), seeds=[seed], threads=1, verbose=1)
        if compared.stopped:
            raise KeyboardInterrupt
        for run in compared.runs:
            shares = 100 * run.train["accuracy"], 100 * run.validation["accuracy"]
            results[tuple(run.method.split(" | "))].append(Result(run.seconds, *shares))
    found = {key: Result(*np.mean(rows, axis=0)) for key, rows in results.items()}
    for key, result in found.items():
        show(key, result)
    return found


def halved(X: np.ndarray) -> np.ndarray:
    """28×28 images averaged to 14×14."""
    return X.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)


def show(key: Key, found: Result) -> None:
    """Print one row."""
    document = DOCUMENT.get(key)
    cells = "" if document is None else f"{document[0]:10.2f}{document[1]:9.2f}"
    print(f"{key[0]:18}{key[1]:13}{key[2]:9}{found.seconds:9.2f}{found.train:9.2f}{found.test:9.2f}{cells}", flush=True)


def head(title: str) -> None:
    """Print a table's head."""
    print(f"\n{title}\n{'':40}{'seconds':>9}{'train %':>9}{'test %':>9}{'document':>10}{'test %':>9}")


def mnist(epochs: int, rows: int, quick: bool) -> dict[Key, Result]:
    """Table 2."""
    X, y, X_test, y_test = fnn.datasets.load_mnist(dtype="float32")
    head(f"table 2: MNIST, 784-64-64-10, relu, {min(rows, len(X)):,} rows, {epochs} epochs in batches of 64")
    tried = {
        (name, "MNIST", init): (
            partial(network, (784, 64, 64, 10), "relu", init, "float32"),
            {"optimizer": optimizer, "epochs": epochs, "batch_size": 64},
        )
        for name, optimizer in FIRST_ORDER.items()
        for init in INITS
    }
    found = train(tried, [(X[:rows], y[:rows], X_test, y_test)])
    few = 200 if quick else 1000
    head(f"Newton's method: {few} images, three hidden layers of 10, tanh, l2 = {L2}")
    large = [part.astype(np.float64) for part in (X[:few], X_test)]
    for size, images in (("14×14", [halved(part) for part in large]), ("28×28", large)):
        tried = {}
        for matrix, iterations in NEWTON.items():
            if size == "28×28" and matrix != "diagonal":
                continue  # 8,180 parameters: Hessians of half a gigabyte
            solver = fnn.Newton(1 if quick else iterations, matrix=matrix, max_parameters=10_000)
            for init in ["Xavier"] if quick and matrix != "diagonal" else INITS:
                sizes = (images[0].shape[1], 10, 10, 10, 10)
                pattern = partial(network, sizes, "tanh", init, "float64")
                tried[f"Newton, {matrix}", f"MNIST {size}", init] = pattern, {"optimizer": solver, "l2": L2}
        found |= train(tried, [(images[0], y[:few], images[1], y_test)])
    return found


def iris(seeds: int, quick: bool) -> dict[Key, Result]:
    """Table 3: means over splits and starts."""
    X, y = fnn.datasets.load_iris()
    head(
        f"table 3: iris, 4-n-n-3, tanh, 15 rows to test; means of {seeds} splits and starts; 25 epochs in batches of 16"
    )
    splits = []
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=seed)
        mean, scale = X_train.mean(axis=0), X_train.std(axis=0)
        splits.append(((X_train - mean) / scale, y_train, (X_test - mean) / scale, y_test))
    cases: list[tuple[str, int, dict[str, Any]]] = [
        (name, width, {"optimizer": optimizer, "epochs": 25, "batch_size": 16})
        for width in (64, 128)
        for name, optimizer in FIRST_ORDER.items()
    ]
    cases += [
        (f"Newton, {matrix}", 10, {"optimizer": fnn.Newton(2 if quick else iterations, matrix=matrix), "l2": L2})
        for matrix, iterations in NEWTON.items()
    ]
    tried = {
        (name, f"iris, {width}", init): (partial(network, (4, width, width, 3), "tanh", init, "float64"), options)
        for name, width, options in cases
        for init in INITS
    }
    return train(tried, splits)


def draw(found: dict[Key, Result], path: Path) -> None:
    """Test accuracies as bars, the document's as crosses."""
    figure = Figure(figsize=(9, 0.24 * len(found) + 1), layout="constrained")
    axis: Any = figure.subplots()
    names = [f"{method}, {data}, {init}" for method, data, init in found]
    axis.barh(names, [result.test for result in found.values()], color="tab:blue", alpha=0.7, label="fastnn")
    theirs = [(name, DOCUMENT[key][1]) for name, key in zip(names, found, strict=True) if key in DOCUMENT]
    axis.plot([value for _, value in theirs], [name for name, _ in theirs], "kx", label="the document")
    axis.invert_yaxis()
    axis.set(xlabel="test accuracy, %", xlim=(0, 101))
    axis.tick_params(axis="y", labelsize="small")
    axis.margins(y=0.01)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.savefig(path, dpi=120)


def beside(found: dict[Key, Result]) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figures and ours."""
    rows = []
    for key, (seconds, accuracy) in DOCUMENT.items():
        if key in found:
            table, what = "table 3" if "iris" in key[1] else "table 2", ", ".join(key)
            rows.append((table, f"{what}: test accuracy, %", f"{accuracy:.2f}", f"{found[key].test:.2f}"))
            rows.append((table, f"{what}: seconds", f"{seconds:.2f}", f"{found[key].seconds:.2f}"))
    return rows


def main(argv: Sequence[str] | None = None) -> dict[Key, Result]:
    """Run both tables.

    Returns
    -------
    dict
        Results by method, data and initialisation.
    """
    parser = argparse.ArgumentParser(description="Document 000's comparison of optimizers and initialisations.")
    parser.add_argument("--data", choices=("all", "mnist", "iris"), default="all", help="which table (default: all)")
    parser.add_argument("--epochs", type=int, default=10, help="on MNIST (default: 10; the document: 100)")
    parser.add_argument("--seeds", type=int, default=10, help="on iris: splits and starts (default: 10)")
    parser.add_argument("--quick", action="store_true", help="few rows, one epoch, two seeds")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.epochs, options.seeds = 1, 2
    if options.epochs < 1 or options.seeds < 1:
        parser.error("--epochs and --seeds must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    found: dict[Key, Result] = {}
    if options.data != "iris":
        found |= mnist(options.epochs, 2000 if options.quick else 60_000, options.quick)
    if options.data != "mnist":
        found |= iris(options.seeds, options.quick)
    path = options.output / "document_000_tables.png"
    draw(found, path)
    print(
        "\nwhere our figures differ: learning rates are each optimizer's own (the document has 0.0001 for all), and\n"
        "iris is of several splits, not of one with 15 test rows. The document's Adam corrects its bias twice,\n"
        "its Nesterov step has the gradient of the old weights, and its Newton step has no Hessian, damping or\n"
        "line search; its networks there have relu, ours tanh. Newton's method has the 1,000 images that the\n"
        "document's has: its training accuracy tells of the method, its test accuracy of how few they are."
    )
    print("saved", path)
    return found


if __name__ == "__main__":
    main()
