"""Writes backpack.npz: diagonals of the Hessian and the Gauss-Newton matrix, and K-FAC factors, by BackPACK in double.

    python tests/golden/make_backpack.py     where torch and backpack are installed; torch 2.15, backpack 1.7.1

tests/test_curvature_backpack.py reads the file. Parameters are in fastnn's layout: weights (in, out). BackPACK has the
factors of a layer's weight without its bias.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import KFLR, DiagGGNExact, DiagHessian

SIZES = (4, 5, 4, 3)


def main() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, SIZES[0])), rng.integers(0, SIZES[-1], 12)
    arrays: dict[str, np.ndarray] = {"X": X, "y": y}
    linear = [torch.nn.Linear(n, m).double() for n, m in pairwise(SIZES)]
    net = extend(torch.nn.Sequential(linear[0], torch.nn.Tanh(), linear[1], torch.nn.Sigmoid(), linear[2]))
    theta = []
    for layer in linear:
        W, b = rng.standard_normal((layer.in_features, layer.out_features)), rng.standard_normal(layer.out_features)
        layer.weight.data, layer.bias.data = torch.tensor(W.T.copy()), torch.tensor(b)
        theta += [W.ravel(), b]
    arrays["theta"] = np.concatenate(theta)
    loss = extend(torch.nn.CrossEntropyLoss())(net(torch.tensor(X)), torch.tensor(y))
    with backpack(DiagHessian(), DiagGGNExact(), KFLR()):
        loss.backward()
    for name in ("diag_h", "diag_ggn_exact"):
        parts = []
        for layer in linear:
            weight, bias = getattr(layer.weight, name), getattr(layer.bias, name)
            parts += [weight.numpy().T.ravel(), bias.numpy()]
        arrays[name] = np.concatenate(parts)
    for i, layer in enumerate(linear):
        arrays[f"G{i}"], arrays[f"A{i}"] = (factor.numpy() for factor in layer.weight.kflr)
    np.savez(Path(__file__).with_name("backpack.npz"), **arrays)


if __name__ == "__main__":
    main()
