"""Other libraries that drive fastnn; each is imported when its function is called."""

from ..names import listing
from ._optuna import optuna

__all__ = ["optuna"]
__dir__ = listing(__all__)
