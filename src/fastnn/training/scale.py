"""Targets of a regression whose scale is far from that of a network's outputs."""

from __future__ import annotations

import numpy as np

from .._typing import Rows
from ..network import Network

__all__ = ["scale_warning"]

#: Root mean squares of targets between which there is no warning.
SCALES = 1e-2, 1e2
#: The least R² of a fit that is not poor.
FAIR = 0.5


def scale_warning(net: Network, X: Rows, y: np.ndarray, w: np.ndarray | None, threads: int | None) -> str | None:
    """A warning where targets far from the scale of 1 are fitted poorly.

    Parameters
    ----------
    net : Network
    X, y, w
        Checked data.
    threads : int, optional

    Returns
    -------
    str or None
        None where √(mean y²) is between 0.01 and 100, R² on these rows is at least 0.5, or the loss is of classes or
        has a link, whose outputs are not of the targets' scale.
    """
    loss = net.loss_function
    if loss.classifies or loss.inverse_link != "identity":
        return None
    scale = float(np.sqrt(np.average(y.astype(np.float64).reshape(len(y), -1) ** 2, axis=0, weights=w).mean()))
    if scale == 0.0 or SCALES[0] <= scale <= SCALES[1]:
        return None
    r2 = net.evaluate_checked(X, y.reshape(len(y), -1), w, threads)["r2"]
    if r2 >= FAIR:
        return None
    return (
        f"poor fit: R² on the training rows is {r2:.2g}, and the targets' scale is {scale:.2g}, far from 1, "
        "the scale of a new network's outputs"
    )
