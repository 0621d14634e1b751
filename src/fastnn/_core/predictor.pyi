"""Types of the compiled module predictor."""

from typing import Any, NoReturn

import numpy as np

from .._typing import Data
from ..predictor import PlainPredictor
from .engine import Plan

class Predictor:
    def __init__(
        self, plan: Plan, theta: np.ndarray, buffers: np.ndarray, result: str, plain: PlainPredictor
    ) -> None: ...
    def __call__(self, X: Data, out: np.ndarray | None = None) -> Any: ...
    def __reduce__(self) -> NoReturn: ...
