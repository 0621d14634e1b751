"""Many networks at once: grids, random draws, folds and seeds, trained side by side and compared."""

from ..names import listing
from .ensemble import Ensemble
from .function import SweepEvent, sweep
from .result import SweepResult
from .space import LogUniform
from .stopping import Halving, Hyperband

__all__ = ["Ensemble", "Halving", "Hyperband", "LogUniform", "SweepEvent", "SweepResult", "sweep"]
__dir__ = listing(__all__)
