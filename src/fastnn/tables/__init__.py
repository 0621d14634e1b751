"""Tables as they come: from frames and arrays of any columns to the numbers that a network takes."""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError('fastnn\'s tables need scikit-learn: pip install "fastnn[sklearn]"') from error

from ..names import listing
from .encoder import TableEncoder

__all__ = ["TableEncoder"]
__dir__ = listing(__all__)
