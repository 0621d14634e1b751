"""Writes norms.npz: loss and gradient of networks with batch norm and layer norm, computed by PyTorch in double.

    python tests/golden/make_norms.py        where torch is installed; made with torch 2.13

Batch norm is in training mode, with the statistics of the rows. tests/test_norm_layers.py reads the file.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

N, D, H, K, L2 = 23, 5, 6, 3, 0.02
EPSILON = 1e-5


def main() -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"X": 1 + 2 * rng.standard_normal((N, D)), "w": rng.uniform(0.2, 1.0, N)}
    arrays["y"] = rng.integers(0, K, N)
    X, w, y = (torch.tensor(arrays[name]) for name in ("X", "w", "y"))
    for kind in ("batch", "layer"):
        sizes = [D * H, H, H, H, H * H, H, H, H, H * K, K]
        arrays[f"{kind}.theta"] = 0.6 * rng.standard_normal(sum(sizes))
        theta = torch.tensor(arrays[f"{kind}.theta"], requires_grad=True)
        W1, b1, g1, s1, W2, b2, g2, s2, W3, b3 = torch.split(theta, sizes)
        W1, W2, W3 = W1.view(D, H), W2.view(H, H), W3.view(H, K)

        def norm(Z, gamma, beta, kind=kind):
            if kind == "layer":
                return functional.layer_norm(Z, (H,), gamma, beta, EPSILON)
            return functional.batch_norm(Z, None, None, gamma, beta, training=True, eps=EPSILON)

        A = functional.gelu(norm(X @ W1 + b1, g1, s1))
        A = torch.tanh(norm(A @ W2 + b2, g2, s2))
        losses = functional.cross_entropy(A @ W3 + b3, y, reduction="none")
        penalty = 0.5 * L2 * sum((W**2).sum() for W in (W1, W2, W3))
        loss = (w * losses).sum() / w.sum() + penalty
        loss.backward()
        arrays[f"{kind}.loss"], arrays[f"{kind}.gradient"] = np.array(loss.item()), theta.grad.numpy()
    np.savez(Path(__file__).with_name("norms.npz"), **arrays)


if __name__ == "__main__":
    main()
