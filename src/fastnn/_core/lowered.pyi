"""Types of the compiled module lowered."""

from collections.abc import Callable, Sequence

from ..plan import OpSpec

class Lowered:
    def __init__(
        self, ops: Sequence[OpSpec], n_parameters: int, loss: str, dtype: str, label_smoothing: float
    ) -> None: ...

lowered_once: Callable[[tuple[OpSpec, ...], int, str, str, float], Lowered]
