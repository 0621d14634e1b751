"""Models to and from ONNX, PyTorch and scikit-learn; each of these packages is imported on first use.

What is translated in every direction: torch's ``Linear`` holds the transpose of our weight; torch's batch-norm momentum
is 1 − ours, and its running variance is the unbiased one (1/(N − 1)), where ours has 1/N and is corrected for its start
at zero; the softmax, sigmoid or exponential inside our losses is the last operation of the other side where it has one.
"""

from ..names import listing
from .onnx import to_onnx
from .sklearn import from_sklearn, to_sklearn
from .torch import from_torch, to_torch

__all__ = ["from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch"]
__dir__ = listing(__all__)
