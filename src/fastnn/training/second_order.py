"""What mini-batch optimizers with a curvature of their own have in common: K-FAC's factors, L-BFGS's pairs."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np

from .._typing import Rows
from ..network import Network
from ..optimizers import KFAC, Optimizer, StochasticLBFGS
from ..reference.update import LowRank
from .kfac import Factors, Inverses
from .pairs import Pairs

__all__ = ["Curvature", "StepMetric", "curvature_of"]

#: What the engine makes the direction of a step with.
StepMetric: TypeAlias = Inverses | LowRank


class Curvature(Protocol):
    """Estimates the curvature now and then, in one flat array that belongs to the training's state.

    Attributes
    ----------
    size : int
        Elements of the array.
    """

    size: int

    @property
    def update_every(self) -> int:
        """Batches between two estimates; each epoch begins with one."""

    def start(self) -> np.ndarray:
        """The array before the first estimate."""

    def rows(self, batch_size: int) -> int:
        """Rows of an estimate, if the batches up to the next one have as many."""

    def update(
        self, state: np.ndarray, X: Rows, y: np.ndarray, w: np.ndarray | None, generator: np.random.Generator
    ) -> StepMetric | None:
        """Estimate on rows of the data, in place on the array; what steps take, None where it is not finite."""


def curvature_of(net: Network, optimizer: Optimizer, l2: float, threads: int) -> Curvature | None:
    """That of an optimizer, None where it has none."""
    if isinstance(optimizer, KFAC):
        return Factors(net, optimizer, l2, threads)
    return Pairs(net, optimizer, l2, threads) if isinstance(optimizer, StochasticLBFGS) else None
