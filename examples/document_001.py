"""Document 001: steepest descent against Nesterov's accelerated gradient on iris.

A 4-16-3 network, softplus and softmax, is trained from the same starts and on the same rows with both methods, with one
step size and the whole training set as the batch. Prints a table, draws loss and accuracy, saves both networks.

    python examples/document_001.py --seeds 10 --output figures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split

import fastnn as fnn
from fastnn.comparison import Comparison, ComparisonRun

STEP = 0.01
METHODS: dict[str, fnn.optimizers.Optimizer] = {"descent": fnn.SGD(STEP), "NAG": fnn.NAG(STEP)}
TITLES = {"descent": "steepest descent", "NAG": "Nesterov (NAG)"}
DOCUMENT = {"descent": (0.807, 0.825), "NAG": (0.993, 1.0)}  # accuracy on training and test rows, one start


def split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """110 training and 40 test rows of iris, the features standardised by the training rows: X, y, X_test, y_test."""
    X, y = fnn.datasets.load_iris()
    X, X_test, y, y_test = train_test_split(X, y, test_size=40, stratify=y, random_state=seed)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    return (X - mean) / scale, y, (X_test - mean) / scale, y_test


def network(seed: int, deviation: float) -> fnn.Sequential:
    """The document's network, all parameters drawn from N(0, deviation²)."""
    normal = fnn.initializers.Normal(deviation)
    return fnn.Sequential(
        [fnn.Dense(16, "softplus", init=normal, bias_init=normal), fnn.Dense(3, init=normal, bias_init=normal)],
        input_size=4,
        loss="cross_entropy",
        dtype="float64",
        seed=seed,
    )


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Of the parameters after an update; the loss in a history is the one before it."""
    return float(-np.mean(np.log(probabilities[np.arange(len(labels)), labels])))


def right(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Accuracy after an update."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def compare(seeds: int, epochs: int, deviation: float) -> Comparison:
    """Train by both methods, from a start and on a split of each seed."""
    runs: list[ComparisonRun] = []
    for seed in range(seeds):
        X, y, *test = split(seed)
        options = {"batch_size": None, "metrics": [cross_entropy, right], "train_metrics": True}
        tried = {name: (network(seed, deviation), {"optimizer": one, **options}) for name, one in METHODS.items()}
        found = fnn.compare(tried, X, y, validation_data=tuple(test), seeds=[seed], epochs=epochs, threads=1)
        if found.stopped:
            raise KeyboardInterrupt
        runs += found.runs
    return Comparison(tuple(runs))


def draw(found: Comparison, path: Path) -> None:
    """Median over the starts (a line) and their range (a band): loss above, accuracy below."""
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes: Any = figure.subplots(2, 1, sharex=True)
    found.plot(ax=axes[0], metric="cross_entropy", log=False, title="Iris, 4-16-3, step 0.01: median and range")
    found.plot(ax=axes[1], metric="right", log=False)
    axes[0].set(ylabel="cross-entropy (dashed: test rows)", xlabel="")
    axes[1].set(ylabel="accuracy (dashed: test rows)", xlabel="epoch")
    figure.savefig(path, dpi=120)


def show(final: dict[str, np.ndarray]) -> None:
    """Print the table; `final` has (starts, 3) values after the last epoch for each method."""
    print(f"{'':18}  {'train accuracy':22}  {'test accuracy':22}  {'train loss':22}  document")
    print(f"{'':18}" + f"  {'median':8}{'least':>6}{'most':>7} " * 3 + "  train / test")
    for method, values in final.items():
        cells = "".join(
            f"  {np.median(values[:, k]):<8.3f}{values[:, k].min():6.3f}{values[:, k].max():7.3f} " for k in (1, 2, 0)
        )
        print(f"{TITLES[method]:18}{cells}  {DOCUMENT[method][0]:.3f} / {DOCUMENT[method][1]:.3f}")


def beside(curves: dict[str, np.ndarray]) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figures and the medians of ours."""
    return [
        ("section 2.10", f"{TITLES[method]}: {rows} accuracy", f"{DOCUMENT[method][k]:.3f}", f"{np.median(values):.3f}")
        for method in DOCUMENT
        for k, (rows, values) in enumerate(zip(("training", "test"), curves[method][:, 1:, -1].T, strict=True))
    ]


def main(argv: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Run the comparison.

    Returns
    -------
    dict
        For each method the curves (starts, 3, epochs): training loss, training accuracy, test accuracy.
    """
    parser = argparse.ArgumentParser(description="Document 001 on iris: steepest descent against NAG.")
    parser.add_argument("--seeds", type=int, default=10, help="number of starts and splits (default: 10)")
    parser.add_argument("--epochs", type=int, default=350, help="updates of the whole batch (default: 350)")
    parser.add_argument("--deviation", type=float, default=0.05, help="of the initial parameters (default: 0.05)")
    parser.add_argument("--quick", action="store_true", help="2 starts, 60 epochs")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.seeds, options.epochs = 2, 60
    if options.seeds < 1 or options.epochs < 1:
        parser.error("--seeds and --epochs must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    X, y, _, _ = split(0)
    print(
        f"iris: {len(y)} rows to train, {150 - len(y)} to test; 4-16-3, softplus, step {STEP}, {options.epochs} epochs"
    )
    report = fnn.check_gradient(network(0, options.deviation), X, y)
    print(report)
    if not report:
        raise SystemExit("the gradient is wrong")

    found = compare(options.seeds, options.epochs, options.deviation)
    series = ("cross_entropy", "right", "val_right")
    curves = {
        method: np.array([[history[name] for name in series] for history in histories])
        for method, histories in found.histories.items()
    }
    paths = []
    for run in found.runs[: len(METHODS)]:
        paths.append(options.output / f"document_001_{run.method.lower()}.safetensors")
        run.net.save(paths[-1])

    print(f"\n{options.seeds} starts and splits, after the last epoch:")
    show({method: values[:, :, -1] for method, values in curves.items()})
    paths.append(options.output / "document_001.png")
    draw(found, paths[-1])
    print(f"\n{len(found.runs)} trainings took {sum(run.seconds for run in found.runs):.1f} s")
    print("saved", *paths)
    return curves


if __name__ == "__main__":
    main()
