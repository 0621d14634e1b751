"""Writes networks.npz: losses, gradients and short trainings of a few networks, computed by PyTorch in double.

    python tests/golden/make_networks.py        where torch is installed; made with torch 2.13

Everything is automatic differentiation of formulas written here, so it shares nothing with fastnn but the conventions:
J = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁ with W the weights and not the biases, theta in the order weight (in, out), bias.
tests/test_golden.py reads the file; it needs no torch.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

N_ROWS, N_FEATURES = 22, 5
BATCH, EPOCHS, LEARNING_RATE = 6, 5, 0.01  # 6 + 6 + 6 + 4 rows: 20 steps

ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    # functional.softplus is z from z = 20 on, which is off by 2e-9
    "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}

# Layers are (units, activation, bias); targets are "classes", "soft", "bits", "bit", "values" or "value".
CASES = {
    "softmax regression": ("cross_entropy", "classes", [(4, "linear", True)], {"l2": 0.1}),
    "classes, tanh and gelu": (
        "cross_entropy",
        "classes",
        [(8, "tanh", True), (7, "gelu", True), (4, "linear", True)],
        {"l2": 0.03, "weighted": True},
    ),
    "soft labels, silu and elu": (
        "cross_entropy",
        "soft",
        [(6, "silu", True), (6, "elu", True), (3, "linear", True)],
        {"l2": 0.01, "weighted": True},
    ),
    "classes, without biases": (
        "cross_entropy",
        "classes",
        [(6, "sigmoid", False), (4, "linear", False)],
        {"weighted": True},
    ),
    "bits, softplus": (
        "binary_cross_entropy",
        "bits",
        [(9, "softplus", True), (3, "linear", True)],
        {"l2": 0.02, "weighted": True},
    ),
    "one bit, silu and relu": (
        "binary_cross_entropy",
        "bit",
        [(5, "silu", True), (4, "relu", True), (1, "linear", True)],
        {"l1": 0.01, "l2": 0.05},
    ),
    "values, gelu and elu": (
        "squared_error",
        "values",
        [(10, "gelu", True), (6, "elu", True), (2, "linear", True)],
        {"l2": 0.03, "weighted": True},
    ),
    "value through softplus": (
        "squared_error",
        "value",
        [(7, "elu", True), (1, "softplus", True)],
        {"l2": 0.2, "weighted": True, "input_scale": 0.5},
    ),
    "deep": (
        "squared_error",
        "values",
        [(4, name, True) for name in ("softplus", "leaky_relu", "silu", "tanh", "gelu", "sigmoid")]
        + [(2, "linear", True)],
        {"l2": 0.01, "l1": 0.003, "weighted": True},
    ),
}


def make_targets(kind, n_outputs, rng):
    """Targets in the shape and dtype that fastnn takes."""
    if kind == "classes":
        return rng.integers(0, n_outputs, N_ROWS)
    if kind == "soft":
        return rng.dirichlet(np.ones(n_outputs), N_ROWS)
    if kind in ("bits", "bit"):
        y = rng.integers(0, 2, (N_ROWS, n_outputs)).astype(np.float64)
    else:
        y = rng.normal(1.0, 2.0, (N_ROWS, n_outputs))
    return y[:, 0] if kind in ("bit", "value") else y


def split(theta, layers):
    """(weight, bias or None, activation) per layer, cut out of theta."""
    parts, n_in, start = [], N_FEATURES, 0
    for n_out, activation, has_bias in layers:
        weight = theta[start : start + n_in * n_out].reshape(n_in, n_out)
        start += n_in * n_out
        bias = theta[start : start + n_out] if has_bias else None
        start += n_out if has_bias else 0
        parts.append((weight, bias, activation))
        n_in = n_out
    assert start == len(theta)
    return parts


def objective(theta, X, y, w, loss, layers, input_scale, l1, l2):
    """J(θ) of a batch."""
    parts = split(theta, layers)
    A = X * input_scale
    for weight, bias, activation in parts:
        Z = A @ weight
        A = ACTIVATIONS[activation](Z if bias is None else Z + bias)
    if loss == "cross_entropy":
        log_p = torch.log_softmax(A, dim=1)
        losses = -log_p[torch.arange(len(y)), y] if y.ndim == 1 else -(y * log_p).sum(dim=1)
    else:
        y = y.reshape(A.shape)
        if loss == "binary_cross_entropy":
            losses = functional.binary_cross_entropy_with_logits(A, y, reduction="none").sum(dim=1)
        else:
            losses = 0.5 * ((A - y) ** 2).sum(dim=1)
    value = (w * losses).sum() / w.sum()
    for weight, _, _ in parts:
        value = value + 0.5 * l2 * (weight**2).sum() + l1 * weight.abs().sum()
    return value


def soft_threshold(theta, state, layers, l1):
    """The proximal operator of l1 |W| in the metric of Adam's step: docs/theory.md, eq. 8.17."""
    rate = LEARNING_RATE / (torch.sqrt(state["exp_avg_sq"] / (1 - 0.999 ** int(state["step"]))) + 1e-8)
    with torch.no_grad():
        for (weight, _, _), (metric, _, _) in zip(split(theta, layers), split(rate, layers), strict=True):
            weight.copy_(torch.sign(weight) * torch.clamp(torch.abs(weight) - l1 * metric, min=0))


def compute(index, loss, kind, layers, options):
    """Arrays of one case."""
    rng = np.random.default_rng([2024, index])
    X = rng.normal(0.0, 1.5, (N_ROWS, N_FEATURES))
    y = make_targets(kind, layers[-1][0], rng)
    w = rng.uniform(0.2, 3.0, N_ROWS) if options.get("weighted") else None
    if w is not None:
        w[3] = 0.0
    widths = [N_FEATURES, *(units for units, _, _ in layers)]
    theta = np.concatenate(
        [
            part
            for n_in, (n_out, _, has_bias) in zip(widths, layers, strict=False)
            for part in (rng.normal(0, n_in**-0.5, n_in * n_out), rng.normal(0, 0.3, n_out if has_bias else 0))
        ]
    )
    tensors = [torch.from_numpy(np.asarray(a)) for a in (X, y, np.ones(N_ROWS) if w is None else w)]
    fixed = (loss, layers, options.get("input_scale", 1.0), options.get("l1", 0.0), options.get("l2", 0.0))

    moving = torch.from_numpy(theta.copy()).requires_grad_()
    value = objective(moving, *tensors, *fixed)
    (gradient,) = torch.autograd.grad(value, moving)

    optimizer = torch.optim.Adam([moving], lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    for _ in range(EPOCHS):
        for start in range(0, N_ROWS, BATCH):
            optimizer.zero_grad()
            smooth = (*fixed[:3], 0.0, fixed[4])
            objective(moving, *(a[start : start + BATCH] for a in tensors), *smooth).backward()
            optimizer.step()
            soft_threshold(moving, optimizer.state[moving], layers, fixed[3])
    arrays = {"X": X, "y": y, "theta": theta, "loss": value.detach().numpy(), "gradient": gradient.numpy()}
    arrays |= {"trained": moving.detach().numpy()}
    return arrays if w is None else {**arrays, "sample_weight": w}


def main():
    """Write the file."""
    torch.set_num_threads(1)
    arrays, cases = {}, []
    for index, (name, (loss, kind, layers, options)) in enumerate(CASES.items()):
        options = {key: value for key, value in options.items() if key != "weighted"}
        cases.append({"name": name, "loss": loss, "layers": layers, **options})
        results = compute(index, loss, kind, layers, CASES[name][3])
        arrays |= {f"{index}.{key}": value for key, value in results.items()}
    training = {"batch_size": BATCH, "epochs": EPOCHS, "learning_rate": LEARNING_RATE}
    description = json.dumps({"training": training, "cases": cases})
    np.savez_compressed(Path(__file__).with_name("networks.npz"), description=np.array(description), **arrays)


if __name__ == "__main__":
    main()
