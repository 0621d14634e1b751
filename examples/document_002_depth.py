"""Document 002's future work: deeper and deeper networks, until first-order methods stall. Does second order go on?

Sigmoid networks of 1 to 8 hidden layers of ten neurons on 1,000 MNIST images of 14×14 pixels, few enough for no method
to need samples, as the document asks. Each layer of sigmoids leaves at most a quarter of the gradient (its "vanishing
gradients"), so that the deep ones start on a plateau, a saddle. Prints the training losses by depth and draws them.

    python examples/document_002_depth.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn

WIDTH = 10


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


def network(depth: int, seed: int) -> fnn.Sequential:
    """So many hidden layers, by Glorot's initialisation."""
    layers = [fnn.Dense(WIDTH, "sigmoid") for _ in range(depth)]
    return fnn.Sequential([*layers, fnn.Dense(10)], input_size=196, loss="cross_entropy", dtype="float64", seed=seed)


def draw(found: dict[str, np.ndarray], depths: Sequence[int], path: Path) -> None:
    """Loss and accuracy by depth."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
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
    axes[1].legend(fontsize="small", loc="lower left")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Run the study.

    Returns
    -------
    dict
        By method (depths, starts, 3): training loss, training accuracy, seconds.
    """
    parser = argparse.ArgumentParser(description="Where first order stalls by depth, and second order goes on.")
    parser.add_argument("--depth", type=int, default=8, help="most hidden layers (default: 8)")
    parser.add_argument("--seeds", type=int, default=3, help="starts of each network (default: 3)")
    parser.add_argument("--rows", type=int, default=1000, help="images (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="depths 1 and 2, one start, 200 images, few iterations")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.depth, options.seeds, options.rows = 2, 1, 200
    if options.depth < 1 or options.seeds < 1 or options.rows < 1:
        parser.error("--depth, --seeds and --rows must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    X, y = data(options.rows)
    depths = range(1, options.depth + 1)
    print(f"{len(X):,} MNIST images of 14×14, sigmoid layers of {WIDTH}; medians of {options.seeds} starts")
    print(f"training loss by hidden layers; {np.log(10):.3f} is that of a guess\n")
    print(f"{'':20}" + "".join(f"{depth:9}" for depth in depths) + f"{'s, all':>9}")
    found: dict[str, np.ndarray] = {}
    for name, (optimizer, further) in methods(0.04 if options.quick else 1.0).items():
        values = np.empty((len(depths), options.seeds, 3))
        for i, depth in enumerate(depths):
            for seed in range(options.seeds):
                net = network(depth, seed)
                began = time.perf_counter()
                net.fit(X, y, optimizer=optimizer, threads=1, **further)
                seconds = time.perf_counter() - began
                scores = net.evaluate(X, y)
                values[i, seed] = scores["loss"], scores["accuracy"], seconds
        found[name] = values
        cells = "".join(
            f"{loss:9.1e}" if loss < 1e-3 else f"{loss:9.4f}" for loss in np.median(values[:, :, 0], axis=1)
        )
        print(f"{name:20}{cells}{values[:, :, 2].sum():9.1f}", flush=True)
    print(f"\ntraining accuracy\n{'':20}" + "".join(f"{depth:9}" for depth in depths))
    for name, values in found.items():
        print(f"{name:20}" + "".join(f"{share:9.3f}" for share in np.median(values[:, :, 1], axis=1)))
    path = options.output / "document_002_depth.png"
    draw(found, depths, path)
    print("saved", path)
    return found


if __name__ == "__main__":
    main()
