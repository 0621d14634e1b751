"""Types of the compiled module courses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..plan import CourseResult
from ..reference.sparse import SparseRows
from .engine import Plan

def run(
    plan: Plan,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
    validation: tuple[np.ndarray | SparseRows, np.ndarray],
    *,
    by: str,
    rises: bool,
    best: float = ...,
    waited: int = 0,
    patience: int | None = None,
    keep: tuple[np.ndarray, np.ndarray] | None = None,
    deterministic: bool = False,
) -> CourseResult: ...
