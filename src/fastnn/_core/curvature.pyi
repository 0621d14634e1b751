"""Types of the compiled second-order kernels; shapes are those of fastnn.kernels, which checks them."""

import numpy as np

def per_sample_outer(X: np.ndarray, D: np.ndarray, bias: bool, out: np.ndarray, threads: int | None) -> None: ...
def per_sample_hessian_blocks(
    A: np.ndarray, X: np.ndarray, bias: bool, out: np.ndarray, threads: int | None
) -> None: ...
def loss_hessian(q: np.ndarray, softmax: bool, weight: np.ndarray, out: np.ndarray, threads: int | None) -> None: ...
def curvature_backward(
    A: np.ndarray, W: np.ndarray, slope: np.ndarray, bend: np.ndarray, out: np.ndarray, threads: int | None
) -> None: ...
def cross_backward(
    M: np.ndarray, diagonal: bool, W: np.ndarray, slope: np.ndarray, out: np.ndarray, threads: int | None
) -> None: ...
def hessian_block_acc(
    X: np.ndarray,
    A: np.ndarray,
    H: np.ndarray,
    row: int,
    column: int,
    X2: np.ndarray | None,
    jacobian: np.ndarray | None,
    diagonal: bool,
    delta: np.ndarray | None,
    bias: bool,
    bias2: bool,
    scale: float,
    threads: int | None,
) -> None: ...
def symmetrize(H: np.ndarray, threads: int | None) -> None: ...
