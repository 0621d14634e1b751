"""fastnn: compiled CPU neural networks with exact curvature.

>>> import fastnn as fnn
>>> net = fnn.Sequential([fnn.Dense(64, "relu"), fnn.Dense(10)], input_size=64, loss="cross_entropy", seed=0)
>>> net
Sequential(64-64-10, loss='cross_entropy', dtype='float32', 4,810 parameters)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import curvature, datasets, estimators, initializers, kernels, linear, losses, optimizers, reference, solvers
    from .build_info import show_config
    from .estimators import LinearRegression, MLPClassifier, MLPRegressor, SoftmaxRegression
    from .gradcheck import GradientReport, check_gradient, check_hessian
    from .interop import from_sklearn, from_torch, to_onnx, to_sklearn, to_torch
    from .layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Standardize
    from .objective import Objective
    from .optimizers import KFAC, NAG, SGD, AdaGrad, Adam, AdamW, RMSProp
    from .sequential import Sequential, load
    from .solvers import (
        ARC,
        LBFGS,
        GaussNewtonCG,
        GradientDescent,
        LevenbergMarquardt,
        Newton,
        NewtonCG,
        NonlinearCG,
        TrustRegion,
    )
    from .training import DivergenceError, EpochResult, History, Trainer

__all__ = [
    "ARC",
    "KFAC",
    "LBFGS",
    "NAG",
    "SGD",
    "Activation",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "Checkpoint",
    "CosineDecay",
    "Dense",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "EpochResult",
    "ExponentialDecay",
    "GaussNewtonCG",
    "GradientDescent",
    "GradientReport",
    "History",
    "LayerNorm",
    "LevenbergMarquardt",
    "LinearRegression",
    "MLPClassifier",
    "MLPRegressor",
    "Newton",
    "NewtonCG",
    "NonlinearCG",
    "Objective",
    "RMSProp",
    "RationalDecay",
    "ReduceOnPlateau",
    "RootDecay",
    "Sequential",
    "SoftmaxRegression",
    "Standardize",
    "StepDecay",
    "Trainer",
    "TrustRegion",
    "WarmUp",
    "__version__",
    "callbacks",
    "check_gradient",
    "check_hessian",
    "curvature",
    "datasets",
    "estimators",
    "from_sklearn",
    "from_torch",
    "initializers",
    "kernels",
    "linear",
    "load",
    "losses",
    "optimizers",
    "reference",
    "schedules",
    "show_config",
    "solvers",
    "to_onnx",
    "to_sklearn",
    "to_torch",
]

# Everything is loaded when first asked for: `import fastnn` costs nothing, and `python -m fastnn` can answer Ctrl-C
# while NumPy is being imported.
_MODULES = (
    *("callbacks", "curvature", "datasets", "estimators", "initializers", "kernels", "layers", "linear", "losses"),
    *("network", "optimizers", "plan", "reference", "schedules", "solvers", "training"),
)
_SCHEDULES = (
    *("CosineDecay", "ExponentialDecay", "RationalDecay", "ReduceOnPlateau"),
    *("RootDecay", "StepDecay", "WarmUp"),
)
_SOLVERS = (
    *("ARC", "GaussNewtonCG", "GradientDescent", "LBFGS", "LevenbergMarquardt"),
    *("Newton", "NewtonCG", "NonlinearCG", "TrustRegion"),
)
_NAMES = {
    **dict.fromkeys(("KFAC", "NAG", "SGD", "AdaGrad", "Adam", "AdamW", "RMSProp"), "optimizers"),
    **dict.fromkeys(_SCHEDULES, "schedules"),
    **dict.fromkeys(_SOLVERS, "solvers"),
    **dict.fromkeys(("Checkpoint", "EarlyStopping"), "callbacks"),
    **dict.fromkeys(("DivergenceError", "EpochResult", "History", "Trainer"), "training"),
    **dict.fromkeys(("GradientReport", "check_gradient", "check_hessian"), "gradcheck"),
    **dict.fromkeys(("Activation", "BatchNorm", "Dense", "Dropout", "LayerNorm", "Standardize"), "layers"),
    **dict.fromkeys(("LinearRegression", "MLPClassifier", "MLPRegressor", "SoftmaxRegression"), "estimators"),
    **dict.fromkeys(("from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch"), "interop"),
    "Objective": "objective",
    "Sequential": "sequential",
    "load": "sequential",
    "show_config": "build_info",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _NAMES:
        value = getattr(import_module(f".{_NAMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
