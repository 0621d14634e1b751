"""Types of the compiled module lowered."""

from collections.abc import Callable, Sequence

from ..plan import OpSpec, UpdateRule

class Lowered:
    def __init__(
        self, ops: Sequence[OpSpec], n_parameters: int, loss: str, dtype: str, label_smoothing: float
    ) -> None: ...

lowered_once: Callable[[tuple[OpSpec, ...], int, str, str, float], Lowered]

class Rule:
    def __init__(self, optimizer: UpdateRule) -> None: ...

rule_once: Callable[[UpdateRule], Rule]
