"""Types of the compiled kernels. The functions made of kernel_list.h take its arguments in its order: None for NULL, an
array for each pointer; fastnn.kernels checks what it gives them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]

ACTIVATION_CODES: dict[str, int]
LOSS_CODES: dict[str, int]
RULE_CODES: dict[str, int]

def available() -> tuple[str, ...]: ...
def simd() -> dict[str, Any]: ...
def gemm_pack_bytes() -> int: ...
def update(
    rule: int, terms: tuple[float, ...], values: dict[str, Any], moments: Sequence[np.ndarray | None]
) -> None: ...
def nag_momentum(step: int, momenta: NDArray[np.float64]) -> None: ...
def shuffle(
    rows: NDArray[np.int64], bit_generator: np.random.BitGenerator, orders: NDArray[np.int64] | None = None
) -> None: ...
def try_batch_norm_forward(
    Z: object, gamma: object, beta: object, epsilon: object, into: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None: ...
def try_batch_norm_backward(
    delta: object, Z: object, gamma: object, mean: object, variance: object, epsilon: object, into: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None: ...
def __getattr__(name: str) -> Callable[..., Any]: ...
