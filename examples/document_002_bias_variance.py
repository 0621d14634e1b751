"""Document 002's first open question: why are training and dev accuracy so close? Is there a bug?

Its network of 300 neurons has 0.836 on training rows of Fashion-MNIST and 0.834 on dev rows. The same setting is
diagnosed here, and then one thing is varied at a time, with training and dev accuracy side by side: the penalty, the
iterations, the rows, the width and the batch size. The gap opens where fitting gets better or rows get fewer, so that a
bug is not needed to explain it.

    python examples/document_002_bias_variance.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn
from fastnn.curves import Curve
from fastnn.diagnosis import Diagnosis

DOCUMENT = (0.8363, 0.8336)  # training and dev accuracy: non-linear CG, one hidden layer
L2 = 0.01  # of examples/document_002_networks.py, with which these accuracies come out
WIDTH = 300
PART = 10_000  # rows of all curves but that of the rows

Part = tuple[np.ndarray, np.ndarray]


def data(rows: int, dev_rows: int) -> tuple[str, Part, Part]:
    """Name, training part, dev part: Fashion-MNIST where its files are, else the digits that come with fastnn."""
    try:
        X, y, X_dev, y_dev = fnn.datasets.load_fashion_mnist(dtype="float32", download=False)
        name = "Fashion-MNIST"
    except FileNotFoundError:
        images, labels = fnn.datasets.load_digits()
        (X, y), (X_dev, y_dev) = fnn.datasets.split(np.float32(images / 16.0), labels, (0.7, 0.3))
        name = "digits"
    return name, (X[:rows], y[:rows]), (X_dev[:dev_rows], y_dev[:dev_rows])


def maker(n_features: int) -> Callable[..., fnn.Sequential]:
    """A function that makes the document's network, of other sizes where asked."""

    def model(width: int = WIDTH, depth: int = 1, seed: int = 0) -> fnn.Sequential:
        layers = [fnn.Dense(width, "relu") for _ in range(depth)]
        return fnn.Sequential([*layers, fnn.Dense(10)], input_size=n_features, loss="cross_entropy", seed=seed)

    return model


def curves(train: Part, dev: Part, seeds: int, threads: int | None, quick: bool) -> dict[str, Curve]:
    """One thing varied at a time, by what is held fixed."""
    model = maker(train[0].shape[1])
    common = {"validation_data": dev, "seeds": seeds, "threads": threads}
    solver = fnn.LBFGS(8 if quick else 100)
    adam = {"optimizer": fnn.Adam(0.001), "epochs": 3 if quick else 20}
    part = train[0][:PART], train[1][:PART]

    def vary(name: str, values: Sequence[Any], **options: Any) -> Curve:
        return fnn.validation_curve(model, name, values[::2] if quick else values, *part, **common, **options)

    fixed = f"{solver.max_iter} iterations of L-BFGS"
    sizes = (0.1, 1.0) if quick else (1 / 120, 1 / 30, 1 / 6, 1.0)
    rows = fnn.learning_curve(model, *train, sizes=sizes, optimizer=solver, l2=L2, **common)
    return {
        f"{fixed}, l2 = {L2}": rows,
        fixed: vary("l2", (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), optimizer=solver),
        "L-BFGS without a penalty": vary("max_iter", (4, 6, 8) if quick else (5, 20, 50, 100), optimizer=solver),
        f"{adam['epochs']} epochs of Adam": vary("width", (3, 10, 30, 100, 300), batch_size=64, **adam),
        f"{adam['epochs']} epochs of Adam, width {WIDTH}": vary("batch_size", (16, 64, 256, 1024, 4096), **adam),
    }


def draw(report: Diagnosis, found: dict[str, Curve], path: Path) -> None:
    """The diagnosis and the curves."""
    figure = Figure(figsize=(15, 8), layout="constrained")
    axes: Any = figure.subplots(2, 3).ravel()
    report.plot(ax=axes[0], title=f"l2 = {L2}: {report.verdict}")
    axes[0].legend(fontsize="small", loc="lower right")
    for axis, (fixed, curve) in zip(axes[1:], found.items(), strict=True):
        curve.plot(ax=axis, title=fixed)
        axis.axhspan(min(DOCUMENT), max(DOCUMENT), color="0.5", lw=1.0)
    figure.supxlabel(f"grey bands: the document's accuracies, {min(DOCUMENT)} to {max(DOCUMENT)}", fontsize="medium")
    figure.savefig(path, dpi=110)


def beside(found: tuple[Diagnosis, dict[str, Curve]]) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figures and ours."""
    accuracies = [1.0 - found[0].errors[part] for part in ("train", "dev")]
    return [
        ("section 5.1", f"one hidden layer, l2 = {L2}: {part} accuracy", f"{theirs:.4f}", f"{ours:.4f}")
        for part, theirs, ours in zip(("training", "dev"), DOCUMENT, accuracies, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> tuple[Diagnosis, dict[str, Curve]]:
    """Diagnose the document's setting, and vary it.

    Returns
    -------
    Diagnosis, dict
        The diagnosis; the curves by what they hold fixed.
    """
    parser = argparse.ArgumentParser(description="Why document 002's training and dev accuracy are so close.")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows (default: all 60000)")
    parser.add_argument("--dev-rows", type=int, default=10_000, help="dev rows (default: 10000)")
    parser.add_argument("--seeds", type=int, default=1, help="starts of each network (default: 1)")
    parser.add_argument("--threads", type=int, default=None, help="networks side by side (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="500 rows, one start, few iterations")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.dev_rows, options.seeds = 500, 500, 1
    if min(options.rows, options.dev_rows, options.seeds) < 1:
        parser.error("--rows, --dev-rows and --seeds must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    name, train, dev = data(options.rows, options.dev_rows)
    net = maker(train[0].shape[1])()
    net.fit(*train, optimizer=fnn.LBFGS(8 if options.quick else 100), l2=L2)
    report = fnn.diagnose(net, train, dev)
    print(
        f"{name}, {len(train[0]):,} rows; the document: {DOCUMENT[0]} / {DOCUMENT[1]}; here, l2 = {L2}:\n\n{report}\n"
    )
    found = curves(train, dev, options.seeds, options.threads, options.quick)
    for fixed, curve in found.items():
        gaps = (curve.scores("train") - curve.scores("validation")).mean(axis=1)
        print(f"{fixed}\n{curve}\ntrain - dev: {', '.join(f'{gap:.3f}' for gap in gaps)}\n", flush=True)
    path = options.output / "document_002_bias_variance.png"
    draw(report, found, path)
    print("saved", path)
    return report, found


if __name__ == "__main__":
    main()
