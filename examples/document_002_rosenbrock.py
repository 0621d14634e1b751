"""Document 002, figures 1 and 2: first- and second-order methods on Rosenbrock's function.

f(x, y) = (a − x)² + b (y − x²)², a = 1, b = 50. The solvers are those that train networks: fnn.minimize gives them the
value, gradient and Hessian of f. Prints a table, with what becomes of it from starts that differ in the 13th digit,
and draws paths and convergence.

    python examples/document_002_rosenbrock.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn

A, B = 1.0, 50.0
START = (-1.2, 1.0)  # the usual one; the document does not say its own
SMALL = 1e-10  # f at which a method has arrived


def rosenbrock(theta: np.ndarray) -> tuple[float, np.ndarray]:
    """F and ∂f (2,)."""
    x, y = theta
    bend = y - x * x
    return float((A - x) ** 2 + B * bend**2), np.array([-2 * (A - x) - 4 * B * bend * x, 2 * B * bend])


def hessian(theta: np.ndarray) -> np.ndarray:
    """∂²f (2, 2)."""
    x, y = theta
    return np.array([[2 - 4 * B * (y - 3 * x * x), -4 * B * x], [-4 * B * x, 2 * B]])


def product(theta: np.ndarray, v: np.ndarray) -> np.ndarray:
    """∂²f v (2,)."""
    return hessian(theta) @ v


def methods(iterations: int) -> dict[str, Any]:
    """The document's three methods, and those of the rest of it."""
    limits = {"max_iter": iterations, "tol": 1e-8}
    return {
        "gradient descent, fixed step": fnn.GradientDescent(**limits, line_search=None, learning_rate=1e-3),
        "gradient descent, line search": fnn.GradientDescent(**limits),
        "Newton, whole steps": fnn.Newton(**limits, globalization=None),
        "Newton, line search": fnn.Newton(**limits, updates=1),
        "Newton, trust region": fnn.Newton(**limits, globalization="trust_region"),
        "cubic regularisation (ARC)": fnn.ARC(**limits),
        "Newton-CG": fnn.NewtonCG(**limits),
        "non-linear CG": fnn.NonlinearCG(**limits),
        "L-BFGS": fnn.LBFGS(**limits),
    }


def run(
    solver: Any, start: Sequence[float] | np.ndarray = START
) -> tuple[np.ndarray, np.ndarray, fnn.objective.Evaluations]:
    """Path (n + 1, 2) of a method, the values of f along it, and what it has evaluated."""
    path: list[np.ndarray] = []
    second = {"hessp": product} if isinstance(solver, fnn.NewtonCG) else {"hessian": hessian}
    result = fnn.minimize(
        rosenbrock,
        start,
        gradient=True,
        method=solver,
        callback=lambda each: path.append(each.theta.copy()),
        **second,
    )
    return np.array(path), np.array(result.history["value"]), result.evaluations


def arrival(values: np.ndarray) -> int | None:
    """The first iteration with f ≤ 1e-10."""
    reached = np.flatnonzero(values <= SMALL)
    return int(reached[0]) if len(reached) else None


def spread(solver: Any, starts: int) -> tuple[int, int] | None:
    """Least and most iterations to f ≤ 1e-10 from starts that differ by rounding errors, by 1e-13 of the start."""
    rng = np.random.default_rng(0)
    noisy = np.array(START) * (1.0 + 1e-13 * rng.uniform(-1.0, 1.0, (starts, 2)))
    reached = [arrival(run(solver, start)[1]) for start in noisy]
    counts = [count for count in reached if count is not None]
    return (min(counts), max(counts)) if len(counts) == starts else None


def draw(found: dict[str, tuple[np.ndarray, np.ndarray, Any]], path: Path) -> None:
    """The document's figures 1 and 2, side by side."""
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    x, y = np.meshgrid(np.linspace(-1.8, 1.8, 200), np.linspace(-1.2, 2.2, 200))
    axes[0].contour(x, y, np.log10((A - x) ** 2 + B * (y - x * x) ** 2 + 1e-3), 15, colors="0.8", linewidths=0.7)
    for name, (points, values, _) in found.items():
        axes[0].plot(*points.T, ".-", markersize=4, linewidth=0.8, label=name)
        axes[1].plot(np.arange(len(values)), np.maximum(values, 1e-20), label=name)
    axes[0].plot(A, A * A, "k*")
    axes[0].set(xlabel="x", ylabel="y", xlim=(-1.8, 1.8), ylim=(-1.2, 2.2), title=f"Rosenbrock, a = {A:g}, b = {B:g}")
    axes[1].set(xscale="symlog", yscale="log", xlabel="iteration", ylabel="f")
    axes[1].grid(alpha=0.3)
    axes[1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[np.ndarray, np.ndarray, Any]]:
    """Run all methods.

    Returns
    -------
    dict
        By method the path, the values of f along it, and the evaluations.
    """
    parser = argparse.ArgumentParser(description="Document 002's comparison on Rosenbrock's function.")
    parser.add_argument("--iterations", type=int, default=20_000, help="at most (default: 20000)")
    parser.add_argument("--quick", action="store_true", help="at most 500 iterations")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.iterations = 500
    if options.iterations < 1:
        parser.error("--iterations must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    found = {name: run(solver) for name, solver in methods(options.iterations).items()}
    print(f"f = (1 − x)² + 50 (y − x²)² from {START}; at most {options.iterations} iterations\n")
    starts = 3 if options.quick else 20
    print(f"{'':30}{'f ≤ 1e-10':>10}{'of starts':>14}{'f at the end':>14}{'gradients':>11}{'H':>6}{'H v':>6}")
    for name, (_, values, evaluations) in found.items():
        reached = arrival(values)
        ends = None if reached is None else spread(methods(options.iterations)[name], starts)
        around = "-" if ends is None else str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        print(
            f"{name:30}{'-' if reached is None else reached:>10}{around:>14}{values[-1]:14.1e}"
            f"{evaluations.gradient:11}{evaluations.matrix:6}{evaluations.product:6}"
        )
    print(
        f"\nof starts: from {starts} starts that differ by 1e-13. Descent by a line search turns rounding errors into\n"
        "other paths along the ravine, and has other counts on every processor; the other methods have these."
    )
    high, first = found["Newton, whole steps"][1].max(), found["Newton, whole steps"][1][0]
    print(
        "\nthe document's figures have curves and no numbers. Theirs is what is found here: Newton's method\n"
        "converges quadratically, descent has trouble in the ravine, most of all with a fixed step. Whole Newton\n"
        f"steps get there by way of f = {high:.3g}, far above the start's {first:.3g}: without a line search\n"
        "nothing keeps them down."
    )
    path = options.output / "document_002_rosenbrock.png"
    draw(found, path)
    print("saved", path)
    return found


if __name__ == "__main__":
    main()
