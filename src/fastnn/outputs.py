"""What the outputs z of a network mean: probabilities, their logarithms, rates or values, and decisions.

Functions of outputs Z (N, K), of the loss that says what turns them into predictions, and of a backend's module of
kernels.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from .losses import Loss
from .names import listing

__all__ = ["both_answers", "decisions", "expectations", "log_probabilities"]
__dir__ = listing(__all__)


def expectations(loss: Loss, kernels: ModuleType, Z: np.ndarray) -> np.ndarray:
    """Predictions (N, K) before any decision: probabilities softmax(z) or sigmoid(z), rates e^z, or z itself."""
    link = loss.inverse_link
    if link == "softmax":
        found: np.ndarray = kernels.softmax.unchecked(Z)
    elif link == "sigmoid":
        found = kernels.activation_forward.unchecked(Z, "sigmoid")
    elif link == "exp":
        found = kernels.exp.unchecked(Z)
    else:
        found = Z
    return found


def decisions(loss: Loss, kernels: ModuleType, Z: np.ndarray) -> np.ndarray:
    """Classes as int64, (N,) of softmax; else 0 and 1, rates or values, (N, K), or (N,) when K is 1."""
    link = loss.inverse_link
    if link == "softmax":
        codes: np.ndarray = Z.argmax(axis=1).astype(np.int64, copy=False)
        return codes
    values = (Z > 0).astype(np.int64) if link == "sigmoid" else expectations(loss, kernels, Z)
    return values[:, 0] if values.shape[1] == 1 else values


def both_answers(Z: np.ndarray) -> np.ndarray:
    """Logits (N, 2) of 0 and of 1 of one sigmoid's (N, 1): sigmoid(−z) keeps the digits that 1 − sigmoid(z) loses."""
    return np.concatenate([-Z, Z], axis=1)


def log_probabilities(loss: Loss, kernels: ModuleType, Z: np.ndarray) -> np.ndarray:
    """Logarithms (N, K) of the probabilities, from the logits: log softmax(z), or log sigmoid(z) = −softplus(−z).

    All have nearly the dtype's relative precision, those of probabilities that round to 0 or to 1, too. Of a softmax
    p > ½ it is log1p(−Σ p_j) over the other classes.
    """
    if loss.inverse_link == "sigmoid":
        negative: np.ndarray = kernels.activation_forward.unchecked(-Z, "softplus")
        return -negative
    found: np.ndarray = kernels.log_softmax.unchecked(Z)
    p = expectations(loss, kernels, Z)
    top = Z.argmax(axis=1)[:, None]
    likely = np.take_along_axis(p, top, axis=1) > 0.5
    np.put_along_axis(p, top, 0.0, axis=1)
    rest = np.minimum(p.sum(axis=1, keepdims=True), 0.5)
    exact = np.where(likely, np.log1p(-rest), np.take_along_axis(found, top, axis=1))
    np.put_along_axis(found, top, exact, axis=1)
    return found
