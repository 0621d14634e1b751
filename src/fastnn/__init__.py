"""fastnn: compiled CPU neural networks with exact curvature.

>>> import fastnn as fnn
>>> net = fnn.Sequential([fnn.Dense(64, "relu"), fnn.Dense(10)], input_size=64, loss="cross_entropy", seed=0)
>>> net
Sequential(64-64-10, loss='cross_entropy', dtype='float32', 4,810 parameters)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import callbacks, initializers, losses, optimizers, schedules
from .callbacks import Checkpoint, EarlyStopping
from .layers import Dense
from .network import Sequential
from .optimizers import SGD, AdaGrad, Adam, AdamW, RMSProp
from .schedules import CosineDecay, ExponentialDecay, RationalDecay, ReduceOnPlateau, RootDecay, StepDecay, WarmUp
from .training import DivergenceError, EpochResult, History, Trainer

if TYPE_CHECKING:
    from . import datasets, kernels, reference
    from .config import show_config
    from .gradcheck import GradientReport, check_gradient
    from .io import load

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Checkpoint",
    "CosineDecay",
    "Dense",
    "DivergenceError",
    "EarlyStopping",
    "EpochResult",
    "ExponentialDecay",
    "GradientReport",
    "History",
    "RMSProp",
    "RationalDecay",
    "ReduceOnPlateau",
    "RootDecay",
    "Sequential",
    "StepDecay",
    "Trainer",
    "WarmUp",
    "__version__",
    "callbacks",
    "check_gradient",
    "datasets",
    "initializers",
    "kernels",
    "load",
    "losses",
    "optimizers",
    "reference",
    "schedules",
    "show_config",
]

# Loaded when first asked for, to keep `import fastnn` short: submodules, and functions of submodules.
_LAZY_MODULES = ("datasets", "kernels", "reference")
_LAZY_NAMES = {"GradientReport": "gradcheck", "check_gradient": "gradcheck", "load": "io", "show_config": "config"}


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f".{name}", __name__)
    if name in _LAZY_NAMES:
        value = getattr(import_module(f".{_LAZY_NAMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
