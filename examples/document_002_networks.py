"""Document 002, figures 6 and 7, tables 3 and 4: solvers on networks of one and two hidden layers of 300 neurons.

Gradient descent, non-linear CG and L-BFGS on all rows at once, and what the document leaves as future work: Gauss-
Newton with its preconditioner (equation 14), and K-FAC. Prints accuracies and times beside the document's, draws the
curves. Dev rows are a sixth of the training rows, so that there are two more sets to judge by: these and the test rows.

    python examples/document_002_networks.py
    python examples/document_002_networks.py --data mnist --dev test
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn
from fastnn.comparison import Comparison, ComparisonRun

L2 = 0.01
LITTLE = 1e-5  # L2 / 1000: that of a batch of the document, if it divides by the rows
WIDTH = 300
# Accuracy on training and dev rows after 100 iterations, seconds per iteration; by hidden layers. Fashion-MNIST.
DOCUMENT = {
    ("gradient descent", 1): (0.7232, 0.7195, 8.2),
    ("non-linear CG", 1): (0.8363, 0.8336, 15.0),
    ("L-BFGS", 1): (0.8307, 0.8293, 11.3),
    ("gradient descent", 2): (0.7029, 0.7038, 10.2),
    ("non-linear CG", 2): (0.7627, 0.7650, 24.3),
    ("L-BFGS", 2): (0.7782, 0.7845, 20.2),
}

Part = tuple[np.ndarray, np.ndarray]


def right(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Accuracy, as a metric of training rows and of dev rows."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def methods(hidden: int, inputs: int, iterations: int) -> dict[str, tuple[fnn.Sequential, dict[str, Any]]]:
    """A network and what `fit` is given, by name; Gauss-Newton and K-FAC take fewer iterations, of more work each."""
    layers = [fnn.Dense(WIDTH, "relu") for _ in range(hidden)]
    net = fnn.Sequential([*layers, fnn.Dense(10)], input_size=inputs, loss="cross_entropy")
    few, epochs = max(2, iterations // 4), max(2, iterations // 10)
    kfac = {"optimizer": fnn.KFAC(fnn.CosineDecay(0.05, epochs)), "epochs": epochs, "batch_size": 512}
    arguments: dict[str, dict[str, Any]] = {
        "gradient descent": {"optimizer": fnn.GradientDescent(iterations)},
        "non-linear CG": {"optimizer": fnn.NonlinearCG(iterations)},
        "L-BFGS": {"optimizer": fnn.LBFGS(iterations)},
        "Gauss-Newton CG": {
            "optimizer": fnn.GaussNewtonCG(few, curvature_rows=2000, cg_iterations=min(30, iterations))
        },
        "K-FAC": kfac,
        f"L-BFGS, l2 {LITTLE:g}": {"optimizer": fnn.LBFGS(iterations), "l2": LITTLE},
        f"K-FAC, l2 {LITTLE:g}": {**kfac, "l2": LITTLE},
    }
    common = {"l2": L2, "metrics": {"right": right}, "train_metrics": True}
    return {name: (net, {**common, **given}) for name, given in arguments.items()}


def data(name: str | None, rows: int, dev: str) -> tuple[str, Part, Part, Part]:
    """The name of the images, training, dev and test rows; Fashion-MNIST, if no name is given and it is there."""
    if name != "mnist":
        try:
            X, y, *test = fnn.datasets.load_fashion_mnist(dtype="float32", download=name is not None)
            name = "fashion"
        except FileNotFoundError:
            if name is not None:
                raise
            name = "mnist"
    if name == "mnist":
        X, y, *test = fnn.datasets.load_mnist(dtype="float32")
    X, y = X[:rows], y[:rows]
    if dev == "test":
        return name, (X, y), tuple(test), tuple(test)
    return name, *fnn.datasets.split(X, y, (5 / 6, 1 / 6)), tuple(test)


def draw(found: Comparison, hidden: int, axes: Any) -> None:
    """Loss by iteration and by time, and accuracy by iteration."""
    found.plot(ax=axes[0], log=True)
    found.plot(ax=axes[1], x="seconds", log=True, title=f"{hidden} hidden layer{'s' if hidden > 1 else ''} of {WIDTH}")
    found.plot(ax=axes[2], metric="right")
    axes[1].set_xscale("log")
    axes[2].set(ylim=(0.5, 1.0), ylabel="accuracy (dashed: dev rows)")
    for axis in axes:
        axis.get_legend().remove()
    for axis in axes[:2]:
        axis.set_ylabel("loss, penalty included (dashed: dev rows, without)")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")


def show(run: ComparisonRun, hidden: int, objective: float, test: float) -> None:
    """Print one row of the table."""
    n = len(run.history)
    cells = "".join(
        f"{value:>{w}}" for value, w in zip(DOCUMENT.get((run.method, hidden), ()), (9, 8, 8), strict=False)
    )
    print(
        f"{run.method:18}{hidden:2}{n:7}{objective:11.4f}{run.train['accuracy']:9.4f}{run.validation['accuracy']:8.4f}"
        f"{test:8.4f}{run.seconds / n:10.3f}{run.seconds:8.1f}  {cells}",
        flush=True,
    )


def beside(found: dict[int, Comparison]) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figures and ours."""
    rows = []
    for hidden, comparison in found.items():
        for run in comparison.runs:
            what, theirs = f"{run.method}, {hidden} hidden", DOCUMENT.get((run.method, hidden))
            cells = ("", "", "") if theirs is None else (f"{theirs[0]:.4f}", f"{theirs[1]:.4f}", f"{theirs[2]:.1f}")
            rows.append(("table 3", f"{what}: training accuracy", cells[0], f"{run.train['accuracy']:.4f}"))
            rows.append(("table 3", f"{what}: dev accuracy", cells[1], f"{run.validation['accuracy']:.4f}"))
            each = run.seconds / len(run.history)
            rows.append(("table 4", f"{what}: seconds per iteration", cells[2], f"{each:.3f}"))
    return rows


def main(argv: Sequence[str] | None = None) -> dict[int, Comparison]:
    """Run all methods on both networks.

    Returns
    -------
    dict
        Comparisons by number of hidden layers.
    """
    parser = argparse.ArgumentParser(description="Document 002's solvers on networks of 300 neurons a layer.")
    parser.add_argument(
        "--data", choices=("mnist", "fashion"), help="images (default: fashion where its files are, else mnist)"
    )
    parser.add_argument("--rows", type=int, default=60_000, help="training and dev rows (default: all 60000)")
    parser.add_argument(
        "--dev", choices=("split", "test"), default="split", help="a sixth of these, or the test rows (default: split)"
    )
    parser.add_argument("--iterations", type=int, default=100, help="of the full-batch solvers (default: 100)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--quick", action="store_true", help="600 rows, 8 iterations")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.iterations = 600, 8
    if options.rows < 1 or options.iterations < 1:
        parser.error("--rows and --iterations must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    name, train, dev, test = data(options.data, options.rows, options.dev)
    if options.quick:
        test = test[0][:1000], test[1][:1000]
    print(
        f"{name}: {len(train[1]):,} rows to train, {len(dev[1]):,} dev rows ({options.dev}), {len(test[1]):,} to test; "
        f"relu, l2 = {L2} unless said, all rows at once"
    )
    print("of the document: Fashion-MNIST, 60,000 rows; activation and dev rows are not said\n")
    print(f"{'':38}{'accuracy':>17}{'':8}{'seconds':>18}{'document':>27}")
    print(
        f"{'':16}{'hid.':>4}{'iter.':>7}{'objective':>11}{'train':>9}{'dev':>8}{'test':>8}{'per iter.':>10}{'all':>8}"
        f"  {'train':>9}{'dev':>8}{'s/iter.':>8}"
    )
    figure = Figure(figsize=(15, 9), layout="constrained")
    axes: Any = figure.subplots(2, 3)
    found: dict[int, Comparison] = {}
    for hidden in (1, 2):
        tried = methods(hidden, train[0].shape[1], options.iterations)
        found[hidden] = fnn.compare(tried, *train, validation_data=dev, seeds=1, threads=options.threads, verbose=1)
        if found[hidden].stopped:
            raise KeyboardInterrupt
        for run in found[hidden].runs:
            objective = fnn.Objective(run.net, *train, l2=tried[run.method][1]["l2"], threads=options.threads)
            show(run, hidden, objective.value(run.net.theta), run.net.evaluate(*test)["accuracy"])
        draw(found[hidden], hidden, axes[hidden - 1])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    path = options.output / "document_002_networks.png"
    figure.savefig(path, dpi=110)
    print(
        "\nwhere our figures differ: the document's batches of 1,000 are all summed before each step (equation 28),\n"
        "so that they are one batch here; its times are of other code and another machine, and of 50 iterations.\n"
        f"How it weighs its penalty of {L2} is not said: {LITTLE:g} is what it is if divided by the rows of a batch.\n"
        f"Training and dev accuracy nearly agree, as in its table 3, where l2 = {L2} leaves little room to overfit\n"
        "and dev rows are drawn from the training rows; the test rows of Fashion-MNIST are harder."
    )
    print("saved", path)
    return found


if __name__ == "__main__":
    main()
