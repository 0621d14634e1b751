"""The NumPy reference implementation of every compiled kernel: same names, signatures, defaults and results.

It is the mathematics of the library in readable form, the check of the compiled code, and a backend of its own
(``Sequential(..., backend="reference")``). It needs NumPy and nothing else.
"""

from __future__ import annotations

from ..names import listing
from . import activations, curvature, dense, losses, norm, optim, sampling
from .activations import *
from .augment import augment_rows
from .curvature import *
from .dense import *
from .dropout import dropout
from .losses import *
from .norm import *
from .optim import *
from .sampling import *
from .softmax import log_softmax, softmax, softmax_jacobian, softmax_vjp

__all__ = ["augment_rows", "dropout", "log_softmax", "softmax", "softmax_jacobian", "softmax_vjp"]
__all__ += activations.__all__
__all__ += curvature.__all__
__all__ += dense.__all__
__all__ += losses.__all__
__all__ += norm.__all__
__all__ += optim.__all__
__all__ += sampling.__all__
__dir__ = listing(__all__)
