"""Stochastic L-BFGS: curvature pairs from products on rows of the data. The step itself is the engine's."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from .._core.threads import blas_held_to_one_thread
from .._typing import Options, Rows
from ..network import Network
from ..optimizers import StochasticLBFGS
from ..plan import parameter_ranges
from ..reference.update import LowRank

__all__ = ["Pairs"]


class Pairs:
    """The last pairs s, y = (B + λ I) s of a training, in one flat array that belongs to the training's state.

    Parameters
    ----------
    net : Network
    optimizer : StochasticLBFGS
    l2 : float
        Part of B, at the weights; a layer's own l2 takes its place.
    threads : int

    Raises
    ------
    ValueError
        If the network has no curvature.
    """

    def __init__(self, net: Network, optimizer: StochasticLBFGS, l2: float, threads: int) -> None:
        if not net.loss_function.has_curvature:
            raise ValueError(
                f"optimizer: StochasticLBFGS needs a loss with curvature, {net.loss_function.name} has none; use huber"
            )
        if any(op.activation == "sign" for op in net.ops):
            raise ValueError("optimizer: StochasticLBFGS needs curvature, which the activation sign does not have")
        self._net, self._optimizer, self._l2, self._threads = net, optimizer, l2, threads
        self._ridges = [
            (slice(part.begin, part.end), part.penalties(0.0, l2)[1])
            for part in parameter_ranges(net.ops, net.n_parameters)
        ]
        #: Pairs so far, and visits; then θ of the last visit, and the rings of S and Y.
        self.size = 2 + net.n_parameters * (1 + 2 * optimizer.memory)

    def start(self) -> np.ndarray:
        """The array before the first pair."""
        return np.zeros(self.size, self._net.dtype)

    def rows(self, batch_size: int) -> int:
        """Rows that a product is taken on."""
        return max(batch_size, self._optimizer.curvature_rows)

    @property
    def update_every(self) -> int:
        """Batches between two pairs."""
        return self._optimizer.update_every

    def update(
        self, state: np.ndarray, X: Rows, y: np.ndarray, w: np.ndarray | None, generator: np.random.Generator
    ) -> LowRank | None:
        """Add a pair of what θ has moved since the last one; returns B, N and γ of H, None where not finite.

        The first s is along the gradient on these rows, so that H has the right scale from the first step on.
        """
        net, memory, P = self._net, self._optimizer.memory, self._net.n_parameters
        before = state[2 : 2 + P]
        S, Y = state[2 + P :].reshape(2, memory, P)
        options: Options = {"buffers": net.state, "threads": self._threads, "training": net.needs_batches}
        # With one thread LAPACK has no more either: its bits then do not depend on the threads of BLAS.
        with blas_held_to_one_thread() if self._threads == 1 else nullcontext():
            if state[1] == 0.0:
                _, gradient = net.plan.loss_and_gradient(net.theta, X, y, sample_weight=w, l2=self._l2, **options)
                s = np.zeros_like(before) if gradient is None else gradient
            else:
                s = net.theta - before
            length = float(np.linalg.norm(s))
            if not np.isfinite(length):
                return None
            if length > 0.0 and (w is None or w.any()):
                s *= s.dtype.type(1.0 / length)
                lin = net.plan.linearize(net.theta, X, y, w, **options)
                product = lin.product(s, self._optimizer.curvature)
                for place, l2 in self._ridges:
                    if l2 != 0.0:
                        product[place] += s.dtype.type(l2) * s[place]
                product += product.dtype.type(self._optimizer.damping) * s
                along = float(np.dot(s, product))
                if not np.isfinite(along):
                    return None
                if along > np.sqrt(np.finfo(s.dtype).eps) * float(np.linalg.norm(product)):
                    at = int(state[0]) % memory
                    S[at], Y[at] = s, product
                    state[0] += 1
            state[1] += 1
            before[...] = net.theta
            return _compact(S, Y, int(state[0]))


def _compact(S: np.ndarray, Y: np.ndarray, count: int) -> LowRank:
    """B (2 m, P), N and γ of L-BFGS's inverse H = γ I + Bᵀ N B of the last pairs (Byrd, Nocedal & Schnabel 1994, 3.1).

    With the pairs in the order of their age, R the upper triangle of S Yᵀ and D its diagonal::

        γ = s·y / y·y of the newest,   B = (S, Y),   N = [[R⁻ᵀ (D + γ Y Yᵀ) R⁻¹, −γ R⁻ᵀ], [−γ R⁻¹, 0]]
    """
    memory = len(S)
    m = min(count, memory)
    if m == 0:
        return np.empty((0, S.shape[1]), S.dtype), np.empty((0, 0)), 1.0
    order = [(count - m + k) % memory for k in range(m)]
    basis = np.concatenate([S[order], Y[order]])
    products = basis.astype(np.float64) @ basis[m:].astype(np.float64).T
    of_s, of_y = products[:m], products[m:]
    gamma = float(of_s[-1, -1] / of_y[-1, -1])
    inverse = np.linalg.inv(np.triu(of_s))
    middle = np.zeros((2 * m, 2 * m))
    middle[:m, :m] = inverse.T @ (np.diag(np.diag(of_s)) + gamma * of_y) @ inverse
    middle[:m, m:] = -gamma * inverse.T
    middle[m:, :m] = -gamma * inverse
    return basis, middle, gamma
