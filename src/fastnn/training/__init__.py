"""Training over epochs: the trainer, what it is given, what it yields, and what it keeps."""

from __future__ import annotations

from ..names import listing
from .fit import fit, partial_fit
from .history import DivergenceError, EpochResult, History
from .state import TrainingState
from .trainer import Trainer

__all__ = ["DivergenceError", "EpochResult", "History", "Trainer", "TrainingState", "fit", "partial_fit"]
__dir__ = listing(__all__)
