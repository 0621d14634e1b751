"""Document 002's future work: deeper and deeper networks, until first-order methods stall. Does second order go on?

Sigmoid networks of 1 to 8 hidden layers of ten neurons on 1,000 MNIST images of 14×14 pixels, few enough for no method
to need samples, as the document asks. Each layer of sigmoids leaves at most a quarter of the gradient (its "vanishing
gradients"), so that the deep ones start on a plateau, a saddle. Prints the training losses by depth and draws them.

Then why: plain SGD and Gauss-Newton on images of 784 pixels (Fashion-MNIST; digits of 64 where its files are missing),
and a look inside the networks on the plateau: how the rows become alike from layer to layer, gradients by layer, and
the smallest eigenvalue of the Hessian, which says how many steps of SGD it takes to leave.

    python examples/document_002_depth.py
    python examples/document_002_depth.py --part why
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn

WIDTH = 10
RATE = 0.1  # of plain SGD


def methods(scale: float) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Optimizers and what else `fit` gets, with iterations for a second or so each; Newton's method takes ten."""

    def full(solver: Any, iterations: int, **options: Any) -> tuple[Any, dict[str, Any]]:
        # a plateau's gradient can be 1e-6 long: the usual tol would take it for a minimum
        return solver(max(1, round(scale * iterations)), 1e-9, **options), {}

    epochs = max(2, round(scale * 500))
    return {
        "gradient descent": full(fnn.GradientDescent, 2000),
        "SGD, momentum": (fnn.SGD(0.1, 0.9), {"epochs": epochs, "batch_size": 50}),
        "Adam": (fnn.Adam(0.01), {"epochs": epochs, "batch_size": 50}),
        "non-linear CG": full(fnn.NonlinearCG, 1000),
        "L-BFGS": full(fnn.LBFGS, 1000),
        "K-FAC": (fnn.KFAC(0.1, damping=0.01), {"epochs": max(2, round(scale * 100)), "batch_size": 250}),
        "Gauss-Newton CG": full(fnn.GaussNewtonCG, 100, damping=0.01),
        "Newton trust region": full(fnn.TrustRegion, 100),
        "Newton, Hessian": full(fnn.Newton, 12),
    }


FIRST_ORDER = 3  # so many of them


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images, averaged to 14×14, and their labels."""
    X, y, _, _ = fnn.datasets.load_mnist(dtype="float64")
    return X[:rows].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196), y[:rows]


def whole_images(rows: int) -> tuple[np.ndarray, np.ndarray, str]:
    """The first images of Fashion-MNIST as they are, their labels, and a name; digits where there are no files."""
    try:
        X, y, _, _ = fnn.datasets.load_fashion_mnist(dtype="float64", download=False)
    except FileNotFoundError:
        X, y = fnn.datasets.load_digits()
        return X[:rows] / 16.0, y[:rows], "digits of 8×8"
    return X[:rows], y[:rows], "Fashion-MNIST images of 28×28"


def network(depth: int, seed: int, pixels: int = 196) -> fnn.Sequential:
    """So many hidden layers, by Glorot's initialisation."""
    layers = [fnn.Dense(WIDTH, "sigmoid") for _ in range(depth)]
    return fnn.Sequential([*layers, fnn.Dense(10)], input_size=pixels, loss="cross_entropy", dtype="float64", seed=seed)


def draw(found: dict[str, np.ndarray], depths: Sequence[int], path: Path) -> None:
    """Loss and accuracy by depth."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    for number, (name, values) in enumerate(found.items()):
        style = ":o" if number < FIRST_ORDER else "-o"
        for axis, k in zip(axes, (0, 1), strict=True):
            axis.plot(depths, np.median(values[:, :, k], axis=1), style, markersize=4, label=name)
    axes[0].set(xlabel="hidden layers", ylabel="training loss", yscale="log", ylim=(1e-5, 5))
    axes[1].set(xlabel="hidden layers", ylabel="training accuracy")
    axes[0].axhline(np.log(10), color="0.7", linewidth=0.8)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_xticks(list(depths))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    figure.savefig(path, dpi=120)


@dataclass(frozen=True)
class Stall:
    """What plain SGD does at one depth, and the plateau that it comes to first.

    Attributes
    ----------
    losses : ndarray (epochs,)
        Training loss of SGD.
    seconds : float
        Of SGD.
    plateau_loss : float
        After the first steps, in which little more than the biases of the output layer has moved.
    spread : ndarray (layers,)
        There: deviation over the rows of a layer's outputs, mean over its units. 0: all rows look the same to it.
    gradients : ndarray (layers,)
        Norm of the gradient of each layer's parameters.
    smallest, largest : float
        Extreme eigenvalues of the Hessian, by Lanczos.
    """

    losses: np.ndarray
    seconds: float
    plateau_loss: float
    spread: np.ndarray
    gradients: np.ndarray
    smallest: float
    largest: float

    @property
    def steps(self) -> float:
        """Steps in which SGD's distance from the saddle grows e-fold: 1 / (rate · |smallest eigenvalue|)."""
        return 1.0 / (RATE * max(-self.smallest, 1e-300))


def stall(depth: int, X: np.ndarray, y: np.ndarray, epochs: int, lanczos: int) -> Stall:
    """Train by plain SGD, and look at the plateau of the same start."""
    net = network(depth, 0, X.shape[1])
    history = net.fit(X, y, optimizer=fnn.SGD(RATE), epochs=epochs, batch_size=50, threads=1, seed=0)
    net = network(depth, 0, X.shape[1])
    net.fit(X, y, optimizer=fnn.SGD(RATE, 0.9), epochs=200, batch_size=None, threads=1, seed=0)
    found = net.statistics(X, y, threads=1)
    spread = [layer.outputs.std(axis=0).mean() for layer in net.activations(X, threads=1)]
    spectrum = fnn.curvature.spectrum(net, X, y, n_steps=lanczos, n_vectors=1, threads=1)
    return Stall(
        np.array(history["loss"]),
        float(np.sum(history["seconds"])),
        net.loss(X, y),
        np.array(spread),
        found.figures["gradient_norm"],
        spectrum.smallest,
        spectrum.largest,
    )


def explain(
    depths: Sequence[int], rows: int, epochs: int, iterations: int, lanczos: int, path: Path
) -> tuple[dict[int, Stall], np.ndarray]:
    """Why SGD stalls, printed and drawn.

    Returns
    -------
    found : dict
        By depth.
    losses : ndarray (iterations,)
        Of Gauss-Newton with the most layers.
    """
    X, y, name = whole_images(rows)
    steps = epochs * -(-len(X) // 50)
    print(f"\nwhy: {len(X):,} {name} pixels, SGD with rate {RATE} and {steps:,} steps of 50 rows, without momentum")
    print(f"{'hidden layers':24}" + "".join(f"{depth:10}" for depth in depths))
    found = {depth: stall(depth, X, y, epochs, lanczos) for depth in depths}
    lines = {
        "loss of SGD": [one.losses[-1] for one in found.values()],
        "loss on the plateau": [one.plateau_loss for one in found.values()],
        "deviation over rows: in": [one.spread[0] for one in found.values()],
        "                    out": [one.spread[-1] for one in found.values()],
        "gradient, first layer": [one.gradients[0] for one in found.values()],
        "          last layer": [one.gradients[-1] for one in found.values()],
        "smallest eigenvalue": [one.smallest for one in found.values()],
        "largest eigenvalue": [one.largest for one in found.values()],
        "steps to e-fold": [one.steps for one in found.values()],
    }
    for line, values in lines.items():
        print(f"{line:24}" + "".join(f"{value:10.4f}" if "loss" in line else f"{value:10.1e}" for value in values))
    deepest = max(depths)
    net = network(deepest, 0, X.shape[1])
    began = time.perf_counter()
    history = net.fit(X, y, optimizer=fnn.GaussNewtonCG(iterations, 1e-9, damping=0.01), threads=1)
    scores = net.evaluate(X, y)
    print(
        f"Gauss-Newton CG, {deepest} hidden layers, {len(history)} iterations, {time.perf_counter() - began:.0f} s: "
        f"loss {scores['loss']:.4f}, accuracy {scores['accuracy']:.3f} (SGD {found[deepest].seconds:.0f} s, "
        f"loss {found[deepest].losses[-1]:.4f})"
    )
    draw_stall(found, np.array(history["loss"]), steps, path)
    print("saved", path)
    return found, np.array(history["loss"])


def draw_stall(found: dict[int, Stall], gauss_newton: np.ndarray, steps: int, path: Path) -> None:
    """SGD's curves; spread and gradients by layer on the plateau; steps to leave it."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    curves, leave, spread, gradients = figure.subplots(2, 2).ravel().tolist()
    colours = iter(np.linspace(0.0, 0.9, len(found)))
    from matplotlib import colormaps

    for depth, one in found.items():
        style = {"color": colormaps["viridis"](next(colours)), "label": f"{depth} hidden"}
        curves.plot(np.arange(1, len(one.losses) + 1), one.losses, **style)
        spread.plot(np.arange(1, depth + 2), one.spread, "o-", markersize=3, **style)
        gradients.plot(np.arange(1, depth + 2), one.gradients, "o-", markersize=3, **style)
    label = f"{max(found)} hidden, Gauss-Newton CG"
    curves.plot(np.arange(1, len(gauss_newton) + 1), gauss_newton, "--", color="#D55E00", label=label)
    curves.axhline(np.log(10), color="0.7", linewidth=0.8)
    curves.set(xlabel="epochs of SGD, iterations of Gauss-Newton", ylabel="training loss", xscale="log", yscale="log")
    curves.legend(fontsize="small")
    depths = list(found)
    leave.plot(
        depths,
        [one.steps for one in found.values()],
        "o-",
        color="#0072B2",
        label="steps for a factor e of the distance",
    )
    leave.axhline(steps, color="0.5", linestyle="--", label="steps that SGD took")
    leave.set(xlabel="hidden layers", ylabel="1 / (rate · |smallest eigenvalue|)", yscale="log")
    leave.legend(fontsize="small")
    spread.set(xlabel="layer", ylabel="deviation of outputs over the rows, on the plateau", yscale="log")
    gradients.set(xlabel="layer", ylabel="norm of its gradient, on the plateau", yscale="log")
    for axis in (curves, leave, spread, gradients):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def table(most: int, seeds: int, rows: int, quick: bool, output: Path) -> dict[str, np.ndarray]:
    """Losses and accuracies of all methods by depth; see :func:`main`."""
    X, y = data(rows)
    depths = range(1, most + 1)
    print(f"{len(X):,} MNIST images of 14×14, sigmoid layers of {WIDTH}; medians of {seeds} starts")
    print(f"training loss by hidden layers; {np.log(10):.3f} is that of a guess\n")
    print(f"{'':20}" + "".join(f"{depth:9}" for depth in depths) + f"{'s, all':>9}")
    tried = methods(0.04 if quick else 1.0)
    found = {name: np.empty((len(depths), seeds, 3)) for name in tried}
    for i, depth in enumerate(depths):
        entries = {name: (partial(network, depth), {"optimizer": one, **more}) for name, (one, more) in tried.items()}
        compared = fnn.compare(entries, X, y, seeds=seeds, threads=1, verbose=1)
        if compared.stopped:
            raise KeyboardInterrupt
        for run in compared.runs:
            found[run.method][i, run.seed] = run.train["loss"], run.train["accuracy"], run.seconds
    for name, values in found.items():
        cells = "".join(
            f"{loss:9.1e}" if loss < 1e-3 else f"{loss:9.4f}" for loss in np.median(values[:, :, 0], axis=1)
        )
        print(f"{name:20}{cells}{values[:, :, 2].sum():9.1f}")
    print(f"\ntraining accuracy\n{'':20}" + "".join(f"{depth:9}" for depth in depths))
    for name, values in found.items():
        print(f"{name:20}" + "".join(f"{share:9.3f}" for share in np.median(values[:, :, 1], axis=1)))
    path = output / "document_002_depth.png"
    draw(found, depths, path)
    print("saved", path)
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Run the study.

    Returns
    -------
    dict
        By method (depths, starts, 3): training loss, training accuracy, seconds. Empty with ``--part why``.
    """
    parser = argparse.ArgumentParser(description="Where first order stalls by depth, and second order goes on.")
    parser.add_argument("--depth", type=int, default=8, help="most hidden layers (default: 8)")
    parser.add_argument("--seeds", type=int, default=3, help="starts of each network (default: 3)")
    parser.add_argument("--rows", type=int, default=1000, help="images (default: 1000)")
    parser.add_argument("--part", choices=("all", "table", "why"), default="all", help="what to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="few depths, one start, 200 images, few iterations")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.depth, options.seeds, options.rows = 2, 1, 200
    if options.depth < 1 or options.seeds < 1 or options.rows < 1:
        parser.error("--depth, --seeds and --rows must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    found: dict[str, np.ndarray] = {}
    if options.part != "why":
        found = table(options.depth, options.seeds, options.rows, options.quick, options.output)
    if options.part != "table":
        sizes = (
            ([1, 8], 200, 100, 25, 30) if options.quick else (range(1, options.depth + 1), options.rows, 500, 100, 100)
        )
        explain(*sizes, options.output / "document_002_depth_why.png")
    return found


if __name__ == "__main__":
    main()
