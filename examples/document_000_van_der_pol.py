"""Document 000, section 1: the one-step map of the Van der Pol oscillator, learnt by a network.

x' = v, v' = μ (1 − x²) v − x with μ = 1. A 2-24-24-2 network learns where a state is after a step of time, from random
states; repeated, it is a model of the system, and shows which states can be reached from a box of them. The document
names the task from the work before it and gives no figures. Prints errors of several methods, draws orbits and sets.

    python examples/document_000_van_der_pol.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fastnn as fnn
from fastnn.comparison import Comparison

MU, STEP = 1.0, 0.1
BOX = 3.0  # states are drawn from [-BOX, BOX]²


def after(states: np.ndarray, steps: int = 1) -> np.ndarray:
    """States (n, 2) some steps of time later, by Runge and Kutta's method; its error here is below 1e-8 a step."""

    def slope(s: np.ndarray) -> np.ndarray:
        x, v = s.T
        return np.column_stack([v, MU * (1 - x * x) * v - x])

    h = STEP / 10
    for _ in range(10 * steps):
        k1 = slope(states)
        k2 = slope(states + h / 2 * k1)
        k3 = slope(states + h / 2 * k2)
        k4 = slope(states + h * k3)
        states = states + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return states


def network(seed: int) -> fnn.Sequential:
    """Reads a state and gives its change in units of the step, so that a small step is not learnt as the identity."""
    return fnn.Sequential(
        [fnn.Dense(24, "tanh"), fnn.Dense(24, "tanh"), fnn.Dense(2)],
        input_size=2,
        loss="squared_error",
        dtype="float64",
        seed=seed,
    )


def methods(epochs: int) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Optimizers of the document, and those that take all rows at once."""
    batches = {"epochs": epochs, "batch_size": 64}
    full = max(2, epochs // 2)
    optimizers = {
        "SGD": fnn.SGD(fnn.CosineDecay(0.05, epochs)),
        "Nesterov": fnn.SGD(fnn.CosineDecay(0.02, epochs), 0.9, nesterov=True),
        "Adam": fnn.Adam(fnn.CosineDecay(0.005, epochs)),
    }
    solvers = {"L-BFGS": fnn.LBFGS(4 * full), "Levenberg-Marquardt": fnn.LevenbergMarquardt(max(4, full // 4))}
    return {
        **{name: (network, {"optimizer": one, **batches}) for name, one in optimizers.items()},
        **{name: (network, {"optimizer": one}) for name, one in solvers.items()},
    }


def follow(net: fnn.Sequential, states: np.ndarray, steps: int) -> np.ndarray:
    """States (steps + 1, n, 2) by the network, one step after the other."""
    path = [states]
    for _ in range(steps):
        path.append(path[-1] + STEP * net.predict(path[-1]))
    return np.array(path)


def draw(found: Comparison, net: fnn.Sequential, path: Path) -> None:
    """Loss by time; two orbits; a box of states and where they are later."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    found.plot(ax=axes[0], x="seconds", log=True, title="error of the change per step")
    axes[0].set(xscale="log", ylabel="loss (dashed: test states)")
    for start, colour in (((0.1, 0.0), "#0072B2"), ((-2.5, 2.5), "#D55E00")):
        states = np.array([start])
        true = np.array([states, *(states := after(states) for _ in range(150))])[:, 0]
        axes[1].plot(*true.T, color=colour, linewidth=1.0)
        axes[1].plot(*follow(net, np.array([start]), 150)[:, 0].T, ".", color=colour, markersize=4)
    axes[1].set(title="orbits of 150 steps: true (lines), network (dots)", xlabel="x", ylabel="v")
    box = np.random.default_rng(1).uniform((1.2, 1.2), (1.8, 1.8), (300, 2))
    later = follow(net, box, 45)
    for number, count in enumerate((0, 10, 20, 45)):
        axes[2].plot(*after(box, count).T, "o", color=f"C{number}", markersize=5, alpha=0.25, markeredgewidth=0)
        axes[2].plot(*later[count].T, ".", color=f"C{number}", markersize=2, label=f"{count} steps")
    axes[2].set(title="reachable from a box: true (discs), network (dots)", xlabel="x", ylabel="v")
    for axis in axes[1:]:
        axis.grid(alpha=0.3)
    axes[2].legend(fontsize="small", markerscale=4)
    figure.savefig(path, dpi=110)


def beside(found: Comparison) -> list[tuple[str, str, str, str]]:
    """Where, what, the document's figure, which is missing, and ours."""
    columns = found.to_dict()
    return [
        ("section 1", f"Van der Pol, {name}: R² of the change per step, test states", "not given", f"{score:.6f}")
        for name, score in zip(found.methods, columns["val_r2"], strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> Comparison:
    """Train by all methods, follow the best network.

    Returns
    -------
    Comparison
    """
    parser = argparse.ArgumentParser(description="The one-step map of the Van der Pol oscillator.")
    parser.add_argument("--states", type=int, default=1000, help="to train with (default: 1000)")
    parser.add_argument("--epochs", type=int, default=400, help="of the optimizers (default: 400)")
    parser.add_argument("--seeds", type=int, default=3, help="starts of each network (default: 3)")
    parser.add_argument("--quick", action="store_true", help="200 states, 20 epochs, one start")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.states, options.epochs, options.seeds = 200, 20, 1
    if min(options.states, options.epochs, options.seeds) < 1:
        parser.error("--states, --epochs and --seeds must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    parts = []
    for count in (options.states, 1000):
        states = rng.uniform(-BOX, BOX, (count, 2))
        parts.append((states, (after(states) - states) / STEP))
    train, test = parts
    found = fnn.compare(methods(options.epochs), *train, validation_data=test, seeds=options.seeds, threads=1)
    if found.stopped:
        raise KeyboardInterrupt
    print(f"Van der Pol, μ = {MU:g}, steps of {STEP:g}; {options.states:,} states to train, 1,000 to test\n\n{found}\n")
    best = min(found.runs, key=lambda run: run.validation["loss"])
    starts = rng.uniform(-BOX, BOX, (200, 2))
    path, states = follow(best.net, starts, 100), starts
    print(f"{best.method}, seed {best.seed}, repeated from 200 states: median and largest distance from the true state")
    for count in range(1, 101):
        states = after(states)
        if count in (1, 10, 100):
            distances = np.linalg.norm(path[count] - states, axis=1)
            print(f"  after {count:3} steps {np.median(distances):10.1e}{distances.max():10.1e}")
    picture = options.output / "document_000_van_der_pol.png"
    draw(found, best.net, picture)
    print("saved", picture)
    return found


if __name__ == "__main__":
    main()
