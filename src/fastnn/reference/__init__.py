"""The NumPy reference implementation of every compiled kernel: same names, signatures, defaults and results.

It is the mathematics of the library in readable form, the check of the compiled code, and a backend of its own
(``Sequential(..., backend="reference")``). It needs NumPy and nothing else.
"""

from __future__ import annotations

from ..names import listing
from .activations import (
    ACTIVATIONS,
    SAVES_OUTPUT,
    activation_backward,
    activation_derivatives,
    activation_forward,
    exp,
    log,
    tanh,
)
from .curvature import (
    cross_backward,
    curvature_backward,
    hessian_block_acc,
    loss_hessian,
    per_sample_hessian_blocks,
    per_sample_outer,
    symmetrize,
)
from .dense import dense_backward, dense_forward, matmul
from .dropout import dropout
from .losses import absolute_error, binary_cross_entropy, cross_entropy, huber, poisson, squared_error
from .norm import batch_norm_backward, batch_norm_forward, layer_norm_backward, layer_norm_forward
from .optim import (
    adagrad_update,
    adam_update,
    gradient_norm2,
    nag_momentum,
    nag_update,
    rmsprop_update,
    sgd_update,
)
from .sampling import all_finite, shuffle
from .softmax import log_softmax, softmax, softmax_jacobian, softmax_vjp

__all__ = [
    "ACTIVATIONS",
    "SAVES_OUTPUT",
    "absolute_error",
    "activation_backward",
    "activation_derivatives",
    "activation_forward",
    "adagrad_update",
    "adam_update",
    "all_finite",
    "batch_norm_backward",
    "batch_norm_forward",
    "binary_cross_entropy",
    "cross_backward",
    "cross_entropy",
    "curvature_backward",
    "dense_backward",
    "dense_forward",
    "dropout",
    "exp",
    "gradient_norm2",
    "hessian_block_acc",
    "huber",
    "layer_norm_backward",
    "layer_norm_forward",
    "log",
    "log_softmax",
    "loss_hessian",
    "matmul",
    "nag_momentum",
    "nag_update",
    "per_sample_hessian_blocks",
    "per_sample_outer",
    "poisson",
    "rmsprop_update",
    "sgd_update",
    "shuffle",
    "softmax",
    "softmax_jacobian",
    "softmax_vjp",
    "squared_error",
    "symmetrize",
    "tanh",
]
__dir__ = listing(__all__)
