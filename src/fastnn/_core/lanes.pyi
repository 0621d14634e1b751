"""Types of the compiled module lanes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..plan import UpdateRule
from ..reference.sparse import SparseRows
from .engine import Plan
from .results import LanesResult

def width(item_size: int) -> int: ...
def run(
    plan: Plan,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    validation: tuple[np.ndarray | SparseRows, np.ndarray],
    rules: Sequence[UpdateRule],
    l2: Sequence[float],
    rates: np.ndarray | None,
    thetas: np.ndarray,
    moments: np.ndarray,
    *,
    by: str,
    rises: bool,
    best: Sequence[float],
    waited: Sequence[int],
    patience: int | None = None,
    keeps: bool = False,
    deterministic: bool = False,
) -> LanesResult | None: ...
