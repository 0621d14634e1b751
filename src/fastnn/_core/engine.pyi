"""Types of the compiled engine. fastnn.reference has the same classes in NumPy, with their documentation."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..plan import AugmentSpec, OpSpec, TrainResult, UpdateRule
from ..reference.sparse import SparseRows

Rows = np.ndarray | SparseRows

class Plan:
    n_buffers: int
    dtype: np.dtype[Any]
    def __init__(
        self,
        ops: Sequence[OpSpec],
        n_parameters: int,
        loss: str,
        dtype: str,
        input_scale: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None: ...
    def forward(
        self, theta: np.ndarray, X: Rows, threads: int | None = 1, buffers: np.ndarray | None = None
    ) -> np.ndarray: ...
    def loss_and_gradient(
        self,
        theta: np.ndarray,
        X: Rows,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        threads: int | None = 1,
        gradient: bool = True,
        deterministic: bool = False,
        buffers: np.ndarray | None = None,
        training: bool = False,
    ) -> tuple[float, np.ndarray | None]: ...
    def train(
        self,
        theta: np.ndarray,
        moments: np.ndarray,
        X: Rows,
        y: np.ndarray,
        order: NDArray[np.int64] | None,
        batch_size: int,
        optimizer: UpdateRule,
        step: int,
        *,
        sample_weight: np.ndarray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = 1,
        learning_rates: NDArray[np.float64] | None = None,
        deterministic: bool = False,
        buffers: np.ndarray | None = None,
        l2_over_weight_sum: bool = False,
        preconditioner: Any = None,
        epochs: int = 1,
        subset: NDArray[np.int64] | None = None,
        record_norms: bool = False,
        augment: tuple[int, Sequence[AugmentSpec]] | None = None,
        average: tuple[float, np.ndarray, np.ndarray] | None = None,
    ) -> TrainResult: ...
    def linearize(
        self,
        theta: np.ndarray,
        X: Rows,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        *,
        cotangent: np.ndarray | None = None,
        buffers: np.ndarray | None = None,
        training: bool = False,
        threads: int | None = 1,
        into: object = None,
    ) -> Linearization: ...

class Linearization:
    weight: np.ndarray | None
    curvature_weight: np.ndarray | None
    loss: float
    weight_sum: float
    @property
    def n_rows(self) -> int: ...
    @property
    def outputs(self) -> np.ndarray: ...
    @property
    def curvature(self) -> np.ndarray: ...
    def inputs(self, i: int) -> np.ndarray: ...
    def slope(self, i: int) -> np.ndarray | None: ...
    def bend(self, i: int) -> np.ndarray | None: ...
    def delta(self, i: int) -> np.ndarray: ...
    def normalised(self, i: int) -> np.ndarray: ...  # of a norm
    def inv_std(self, i: int) -> np.ndarray | None: ...
    def input_gradient(self) -> np.ndarray: ...
    def product(
        self,
        V: np.ndarray,
        kind: Literal["hessian", "gauss_newton", "fisher"] | str = "hessian",
        out: np.ndarray | None = None,
    ) -> np.ndarray: ...
    def input_product(self, direction: np.ndarray) -> np.ndarray: ...
