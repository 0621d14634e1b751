"""Document 000, section 5.4: second-order back-propagation worked by hand on a chain of neurons, done for real.

A 1-1-1-1-1 chain with tanh, L = ½ (ŷ − y)², x = 2, y = 4. Prints every intermediate value of the section, the gradient
and the Hessian from the library, and where the document's figures differ; draws both Hessians.

    python examples/document_000.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import fastnn as fnn

X, Y = 2.0, 4.0
WEIGHTS = (0.460, 0.500, -0.139, 0.496)
# As the document prints them; the weights of its program had more digits than its table.
GRADIENT = (0.11506182, 0.17661406, -0.69265235, 0.19415525)
HESSIAN = np.array(
    [
        [-0.372, 0.172, -0.829, 0.234],
        [0.172, -0.089, -1.272, 2.449],
        [-0.829, -1.272, 0.0007, -1.403],
        [0.234, 2.449, -1.403, 0.0004],
    ]
)


def network() -> fnn.Sequential:
    """The chain: four layers of one neuron, without biases."""
    net = fnn.Sequential(
        [fnn.Dense(1, "tanh", bias=False) for _ in WEIGHTS], input_size=1, loss="squared_error", dtype="float64"
    )
    net.theta[...] = WEIGHTS
    return net


def forward() -> dict[str, np.ndarray]:
    """The table that opens the section: z, σ(z), σ'(z), σ''(z) of the four neurons."""
    rows: dict[str, list[float]] = {"z": [], "σ": [], "σ'": [], "σ''": []}
    value = X
    for weight in WEIGHTS:
        z = np.array([weight * value])
        found = fnn.kernels.activation_derivatives(z, "tanh")
        for name, number in zip(rows, (z, *found), strict=True):
            rows[name].append(float(number[0]))
        value = rows["σ"][-1]
    return {name: np.array(numbers) for name, numbers in rows.items()}


def by_hand() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Section 5.4's four second-order passes: derivatives of δ_l and a_l along each weight, and the Hessian of them.

    Returns
    -------
    hessian : ndarray (4, 4)
    passes : dict
        ``"δ"`` (4,); ``"∂a/∂w"`` and ``"∂δ/∂w"`` (4, 4), a row for each weight and a column for each layer.
    """
    table = forward()
    a, d1, d2 = table["σ"], table["σ'"], table["σ''"]
    n = len(WEIGHTS)
    read = np.array([X, *a[:-1]])  # what each neuron reads
    error = a[-1] - Y
    delta = np.zeros(n)
    delta[-1] = error * d1[-1]
    for k in reversed(range(n - 1)):
        delta[k] = delta[k + 1] * WEIGHTS[k + 1] * d1[k]
    moved_a, moved_delta, H = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):  # the weight that moves
        dz = np.zeros(n)
        for k in range(n):
            dz[k] = (read[k] if k == i else 0.0) + (WEIGHTS[k] * moved_a[i, k - 1] if k else 0.0)
            moved_a[i, k] = d1[k] * dz[k]
        moved_delta[i, -1] = moved_a[i, -1] * d1[-1] + error * d2[-1] * dz[-1]
        for k in reversed(range(n - 1)):
            above = moved_delta[i, k + 1] * WEIGHTS[k + 1] + (delta[k + 1] if k + 1 == i else 0.0)
            moved_delta[i, k] = above * d1[k] + delta[k + 1] * WEIGHTS[k + 1] * d2[k] * dz[k]
        for k in range(n):
            H[i, k] = moved_delta[i, k] * read[k] + delta[k] * (moved_a[i, k - 1] if k else 0.0)
    return H, {"δ": delta, "∂a/∂w": moved_a, "∂δ/∂w": moved_delta}


def slips(H: np.ndarray) -> list[tuple[int, int]]:
    """Entries of the upper triangle, counted from 1, that the document has wrong by more than a quarter.

    It calculates with three digits; that moves the smallest of its entries by an eighth.
    """
    wrong = np.triu(np.abs(HESSIAN - H) > 0.25 * np.abs(H))
    return [(int(i) + 1, int(j) + 1) for i, j in np.argwhere(wrong)]


def show(name: str, values: np.ndarray, digits: int = 8) -> None:
    """Print a row of numbers behind its name."""
    print(f"{name:10}" + "".join(f"{number:14.{digits}f}" for number in values))


def draw(H: np.ndarray, path: Path) -> None:
    """Both Hessians; a frame around the entries that the document has wrong."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    names = [f"w{k + 1}" for k in range(len(WEIGHTS))]
    for axis, matrix, title in zip(axes, (HESSIAN, H), ("the document", "fnn.curvature.hessian"), strict=True):
        axis.imshow(matrix, cmap="RdBu", vmin=-2.5, vmax=2.5)
        for (i, j), value in np.ndenumerate(matrix):
            axis.text(j, i, f"{value:.4f}", ha="center", va="center", color="w" if abs(value) > 1.5 else "k")
        axis.set(title=title, xticks=range(4), yticks=range(4), xticklabels=names, yticklabels=names)
    wrong = slips(H)
    for row, column in {*wrong, *((j, i) for i, j in wrong)}:
        corner = column - 1.48, row - 1.48
        axes[0].add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor="#D55E00", linewidth=2.5))
    figure.savefig(path, dpi=120)


def beside(H: np.ndarray) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figure and ours."""
    return [
        ("section 5.4", f"∂²L/∂w{i + 1}∂w{j + 1}", f"{HESSIAN[i, j]:.4f}", f"{H[i, j]:.4f}")
        for i, j in zip(*np.triu_indices(4), strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> np.ndarray:
    """Print the section's values.

    Returns
    -------
    ndarray (4, 4)
        The Hessian.
    """
    parser = argparse.ArgumentParser(description="Document 000, section 5.4: a chain of neurons.")
    parser.add_argument("--quick", action="store_true", help="changes nothing: it takes no time")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    net = network()
    data = np.array([[X]]), np.array([Y])
    gradient, H = net.gradient(*data), fnn.curvature.hessian(net, *data)
    manual, passes = by_hand()

    print("chain 1-1-1-1-1, tanh, L = ½ (ŷ − y)², x = 2, y = 4\n")
    show("w", np.array(WEIGHTS), 3)
    for name, values in forward().items():
        show(name, values)
    show("δ", passes["δ"])
    print("\ngradient, and the document's")
    show("", gradient)
    show("", np.array(GRADIENT))
    for i in range(len(WEIGHTS)):
        print(f"\nsecond-order pass {i + 1}, along w{i + 1}")
        show("∂a/∂w", passes["∂a/∂w"][i])
        show("∂δ/∂w", passes["∂δ/∂w"][i])
        show("row of H", manual[i])
    print(f"\nHessian by fnn.curvature.hessian; by hand it differs by {np.abs(H - manual).max():.1g} at most")
    for row in H:
        show("", row)
    print("the document's")
    for row in HESSIAN:
        show("", row, 4)
    print("entries that the document has wrong: " + ", ".join(f"({i}, {j})" for i, j in slips(H)))
    print(f"\n{fnn.check_hessian(net, *data)}\n\n{fnn.curvature.convexity_report(net, *data)}")
    path = options.output / "document_000.png"
    draw(H, path)
    print("saved", path)
    return H


if __name__ == "__main__":
    main()
