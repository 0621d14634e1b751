"""Makes optimizers.json: parameters of a small network along trainings by torch.optim, in float64.

    python tests/golden/make_optimizers.py

needs torch (2.13 made the file that is there). The tests train the same network with fastnn's optimizers and compare;
where torch is installed they also make the trajectories anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SIZES = (3, 5, 2)
ROWS, BATCH, STEPS = 20, 4, 100
KEPT = (5, 50, 100)

# fastnn's optimizer, torch's class and options, l2 (torch's weight_decay of SGD and Adam, for weights)
CASES = (
    ("fnn.SGD(0.05)", "SGD", {"lr": 0.05}, 0.0),
    ("fnn.SGD(0.05)", "SGD", {"lr": 0.05}, 0.1),
    ("fnn.SGD(0.02, momentum=0.9)", "SGD", {"lr": 0.02, "momentum": 0.9}, 0.0),
    ("fnn.SGD(0.02, momentum=0.9, nesterov=True)", "SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}, 0.0),
    ("fnn.AdaGrad(0.05)", "Adagrad", {"lr": 0.05}, 0.0),
    ("fnn.RMSProp(0.005)", "RMSprop", {"lr": 0.005}, 0.0),
    ("fnn.RMSProp(0.005, 0.9, 1e-4)", "RMSprop", {"lr": 0.005, "alpha": 0.9, "eps": 1e-4}, 0.0),
    ("fnn.RMSProp(0.001, momentum=0.9)", "RMSprop", {"lr": 0.001, "momentum": 0.9}, 0.0),
    ("fnn.RMSProp(0.005, epsilon=1e-2, centered=True)", "RMSprop", {"lr": 0.005, "eps": 1e-2, "centered": True}, 0.0),
    (
        "fnn.RMSProp(0.001, epsilon=1e-2, momentum=0.9, centered=True)",
        "RMSprop",
        {"lr": 0.001, "eps": 1e-2, "momentum": 0.9, "centered": True},
        0.0,
    ),
    ("fnn.Adam(0.01)", "Adam", {"lr": 0.01}, 0.0),
    ("fnn.Adam(0.01)", "Adam", {"lr": 0.01}, 0.1),
    ("fnn.Adam(0.01, 0.8, 0.95, 1e-3)", "Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}, 0.0),
    (
        "fnn.Adam(0.02, beta2=0.9, amsgrad=True)",
        "Adam",
        {"lr": 0.02, "betas": (0.9, 0.9), "amsgrad": True},
        0.0,
    ),
    ("fnn.AdamW(0.01, weight_decay=0.3)", "AdamW", {"lr": 0.01, "weight_decay": 0.3}, 0.0),
    (
        "fnn.AdamW(0.01, weight_decay=0.3, amsgrad=True)",
        "AdamW",
        {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True},
        0.0,
    ),
)


def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and initial parameters: weight (in, out) and bias of one layer after the other.

    Without a generator, so that they are the same for all versions of NumPy.
    """
    n_in, hidden, n_out = SIZES
    X = np.cos(1.7 * np.arange(ROWS * n_in)).reshape(ROWS, n_in)
    Y = np.stack([np.sin(2 * X[:, 0]) - X[:, 1], X[:, 2] * X[:, 0]], axis=1)
    return X, Y, 0.6 * np.sin(1.0 + 2.3 * np.arange(n_in * hidden + hidden + hidden * n_out + n_out))


def trajectory(kind: str, options: dict[str, object], l2: float) -> dict[str, list[float]]:
    """Parameters after the steps that are kept."""
    import torch

    X, Y, start = (torch.tensor(array) for array in problem())
    n_in, hidden, n_out = SIZES
    cuts = np.cumsum([n_in * hidden, hidden, hidden * n_out])
    shapes = ((n_in, hidden), (hidden,), (hidden, n_out), (n_out,))
    pieces = torch.tensor_split(start, cuts.tolist())
    W1, b1, W2, b2 = parameters = [
        torch.nn.Parameter(piece.clone().reshape(shape)) for piece, shape in zip(pieces, shapes, strict=True)
    ]
    # Penalties and decay are fastnn's: of weights and not of biases.
    weights, biases = {"params": [W1, W2]}, {"params": [b1, b2], "weight_decay": 0.0}
    if l2:
        weights["weight_decay"] = l2
    optimizer = getattr(torch.optim, kind)([weights, biases], **options)
    kept = {}
    for step in range(1, STEPS + 1):
        first = (step - 1) * BATCH % ROWS
        x, y = X[first : first + BATCH], Y[first : first + BATCH]
        optimizer.zero_grad()
        (0.5 * ((torch.tanh(x @ W1 + b1) @ W2 + b2 - y) ** 2).sum(dim=1).mean()).backward()
        optimizer.step()
        if step in KEPT:
            kept[str(step)] = torch.cat([p.detach().ravel() for p in parameters]).tolist()
    return kept


def trajectories() -> list[dict[str, object]]:
    """All cases, as the file holds them."""
    return [{"optimizer": ours, "l2": l2, "theta": trajectory(kind, options, l2)} for ours, kind, options, l2 in CASES]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case) for case in trajectories())
    Path(__file__).with_name("optimizers.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
