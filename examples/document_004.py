"""Document 004: Newton's method solves least squares in one step, and softmax regression.

The first part takes one Newton step on the diabetes data from random starts, of any length. The second trains softmax
regression on Fashion-MNIST (MNIST where its files are missing): with the document's setting on raw pixels, which
explains its learning rate, with stochastic gradients from zero otherwise, and as the convex problem that it is; the
penalty is chosen on a fifth of the training rows. Prints accuracies beside the document's, draws the curves.

    python examples/document_004.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

import fastnn as fnn
from fastnn.comparison import Comparison

DOCUMENT = (0.455827, 84.26)  # cross-entropy and accuracy on the test rows of Fashion-MNIST
RATE, ALPHA = 5e-7, 1.0  # of its best setting, with batches of 32 and 35 epochs
GRID = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)  # of l2


def one_step(starts: int) -> np.ndarray:
    """Newton's method on least squares from several starts: (starts, 3) of iterations, distance before and after.

    The distances are ‖θ − θ*‖ / ‖θ*‖, θ* by singular values (`fastnn.linear.least_squares`).
    """
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    exact = fnn.linear.least_squares(X, y)
    minimum = np.concatenate([exact.weight.ravel(), exact.bias])
    rows = []
    for seed in range(starts):
        start = fnn.initializers.Normal(10.0**seed)
        net = fnn.Sequential(
            [fnn.Dense(1, init=start, bias_init=start)], input_size=10, loss="squared_error", dtype="float64", seed=seed
        )
        before = net.theta.copy()
        net.fit(X, y, optimizer=fnn.Newton(1, 0.0, updates=1, damping=1e-8))
        distances = [np.linalg.norm(theta - minimum) / np.linalg.norm(minimum) for theta in (before, net.theta)]
        rows.append((net.history.result.iterations, *distances))
    return np.array(rows)


def network(inputs: int, scale: float = 1 / 255) -> fnn.Sequential:
    """Softmax regression from zero, as the document has it; it reads pixels of 0 to 255, by default as 0 to 1."""
    return fnn.Sequential([fnn.Dense(10, init="zeros")], input_size=inputs, loss="cross_entropy", input_scale=scale)


def methods(epochs: int, rows: int, inputs: int, l2: float) -> dict[str, tuple[fnn.Sequential, dict[str, Any]]]:
    """Networks and what `fit` is given.

    The document's rate of 5e-7 is one for pixels of 0 to 255: their weights are 1/255, and so their gradients 255 times
    those of pixels of 0 to 1, where the same steps have the rate 255² · 5e-7 = 0.0325 and the penalty 1 / 255².
    """
    ours, sgd = network(inputs), {"epochs": epochs, "batch_size": 32}
    kfac = {"optimizer": fnn.KFAC(fnn.CosineDecay(0.05, 5)), "epochs": min(5, epochs), "batch_size": 512}
    adam = {"optimizer": fnn.Adam(fnn.CosineDecay(2e-3, epochs)), "epochs": epochs, "batch_size": 64}
    gauss_newton = fnn.GaussNewtonCG(15, damping=0.01, curvature_rows=min(rows, 5000))
    arguments = {
        "SGD, pixels to 1": {"optimizer": fnn.SGD(255**2 * RATE), **sgd, "l2": ALPHA / 255**2},
        "SGD": {"optimizer": fnn.SGD(0.05), **sgd},
        "Adam": adam,
        "K-FAC": kfac,
        "L-BFGS": {"optimizer": fnn.LBFGS(100)},
        "Newton-CG": {"optimizer": fnn.NewtonCG(15)},
        "Gauss-Newton CG": {"optimizer": gauss_newton},
    }
    theirs = network(inputs, 1.0), {"optimizer": fnn.SGD(RATE), **sgd, "l2": ALPHA}
    return {"SGD, pixels to 255": theirs} | {name: (ours, {"l2": l2, **given}) for name, given in arguments.items()}


def choose(X: np.ndarray, y: np.ndarray) -> tuple[float, dict[float, float]]:
    """The penalty whose minimum has the lowest cross-entropy on the last fifth of the rows, and all of these."""
    cut = len(X) * 4 // 5
    net = network(X.shape[1])
    losses = {}
    for l2 in GRID[::-1]:  # from the smallest weights on, each from the minimum before
        net.fit(X[:cut], y[:cut], optimizer=fnn.LBFGS(60), l2=l2, threads=1)
        losses[l2] = net.evaluate(X[cut:], y[cut:])["loss"]
    return min(losses, key=losses.__getitem__), losses


def draw(found: Comparison, path: Path) -> None:
    """Loss on training rows, penalty included, and on test rows, by epoch and by time."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharey=True)
    for axis, x in zip(axes, ("epoch", "seconds"), strict=True):
        found.plot(ax=axis, x=x, log=True)
        axis.set(xscale="log", ylabel="loss, penalty included (dashed: test rows, without)")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    axes[1].get_legend().remove()
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def beside(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figures and ours; empty for images that are not the document's."""
    if found["data"] != "fashion":
        return []
    runs = {run.method: run.validation for run in found["softmax"].runs}
    best = max(runs, key=lambda name: runs[name]["accuracy"])
    first = next(iter(runs))
    return [
        ("problem 4", f"{first}, its setting: cross-entropy, test", f"{DOCUMENT[0]:.4f}", f"{runs[first]['loss']:.4f}"),
        *(
            ("problem 4", f"{name}: test accuracy, %", f"{DOCUMENT[1]:.2f}", f"{100 * runs[name]['accuracy']:.2f}")
            for name in (first, best)
        ),
    ]


def load(name: str | None) -> tuple[str, tuple[np.ndarray, ...]]:
    """The name of the images, and their four arrays; Fashion-MNIST, if no name is given and it is there."""
    if name != "mnist":
        try:
            return "fashion", fnn.datasets.load_fashion_mnist(download=name is not None)
        except FileNotFoundError:
            if name is not None:
                raise
    return "mnist", fnn.datasets.load_mnist()


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run both parts.

    Returns
    -------
    dict
        ``"least squares"``: what `one_step` gives; ``"softmax"``: the comparison of the methods; ``"data"``: a name.
    """
    parser = argparse.ArgumentParser(description="Document 004: least squares and softmax regression.")
    parser.add_argument(
        "--data", choices=("mnist", "fashion"), help="images (default: fashion where its files are, else mnist)"
    )
    parser.add_argument("--rows", type=int, default=60_000, help="training rows (default: all 60000)")
    parser.add_argument("--epochs", type=int, default=35, help="of SGD and Adam (default: the document's 35)")
    parser.add_argument("--quick", action="store_true", help="1000 rows, 3 epochs")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.epochs = 1000, 3
    if options.rows < 5 or options.epochs < 1:
        parser.error("--rows must be at least 5, --epochs at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    name, (X, y, X_test, y_test) = load(options.data)
    steps = one_step(4)
    print("least squares on diabetes, 442 rows of 10 features: ‖θ − θ*‖ / ‖θ*‖")
    print(f"{'deviation of the start':24}{'iterations':>12}{'before':>10}{'after':>10}")
    for power, (iterations, before, after) in enumerate(steps):
        print(f"{10**power:<24}{iterations:12.0f}{before:10.1e}{after:10.1e}")

    X, y = X[: options.rows], y[: options.rows]
    if options.quick:
        X_test, y_test = X_test[:1000], y_test[:1000]
    began = time.perf_counter()
    l2, losses = choose(X, y)
    print(f"\nsoftmax regression, {name}, {len(X):,} rows; l2 by the cross-entropy of the last fifth:")
    print("  " + ", ".join(f"{value:g}: {loss:.4f}" for value, loss in losses.items()))
    print(f"  takes {l2:g}, in {time.perf_counter() - began:.1f} s (the document: 4,096 settings, about 30 hours)\n")
    tried = methods(options.epochs, len(X), X.shape[1], l2)
    compared = fnn.compare(tried, X, y, validation_data=(X_test, y_test), seeds=1, threads=1, verbose=1)
    if compared.stopped:
        raise KeyboardInterrupt
    print(f"{'':22}{'l2':>9}{'epochs':>7}{'objective':>11}{'test loss':>11}{'test %':>8}{'seconds':>9}")
    for run in compared.runs:
        penalty, scores = tried[run.method][1]["l2"], run.validation
        objective = fnn.Objective(run.net, X, y, l2=penalty, threads=1).value(run.net.theta)
        print(
            f"{run.method:22}{penalty:9.2g}{len(run.history):7}{objective:11.4f}{scores['loss']:11.4f}"
            f"{100 * scores['accuracy']:8.2f}{run.seconds:9.1f}"
        )
    print(f"{'the document':22}{ALPHA:9.2g}{35:7}{'':11}{DOCUMENT[0]:11.4f}{DOCUMENT[1]:8.2f}   Fashion-MNIST")
    path = options.output / "document_004.png"
    draw(compared, path)
    print(
        f"\nthe document's rate of {RATE:g} is one for pixels of 0 to 255. With pixels of 0 to 1 its steps are those\n"
        f"of the rate {255**2 * RATE:.4f} and l2 = {ALPHA / 255**2:.2g} (the first two rows), but for the biases.\n"
        'What it calls "unregularized MSE" is the cross-entropy.'
    )
    print("saved", path)
    return {"data": name, "least squares": steps, "softmax": compared}


if __name__ == "__main__":
    main()
