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
    from . import (
        augment,
        callbacks,
        curvature,
        datasets,
        estimators,
        initializers,
        integrations,
        kernels,
        linear,
        losses,
        metrics,
        optimizers,
        reference,
        schedules,
        solvers,
    )
    from .build_info import show_config
    from .callbacks import Checkpoint, EarlyStopping
    from .comparison import Comparison, compare
    from .curvature import input_hessian
    from .curves import learning_curve, validation_curve
    from .diagnosis import Diagnosis, diagnose
    from .estimators import LinearRegression, MLPClassifier, MLPRegressor, SoftmaxRegression
    from .gradcheck import GradientReport, check_gradient, check_hessian
    from .interop import from_sklearn, from_torch, to_onnx, to_sklearn, to_torch
    from .layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, LeakyReLU, Scale, Standardize
    from .objective import Objective
    from .optimizers import KFAC, NAG, SGD, AdaGrad, Adam, AdamW, RMSProp, StochasticLBFGS
    from .pictures import plot_confusion_matrix, plot_decision_boundary, plot_images, resize_images
    from .plotting import plot_histories
    from .schedules import (
        CosineDecay,
        ExponentialDecay,
        RationalDecay,
        ReduceOnPlateau,
        RootDecay,
        StepDecay,
        WarmUp,
    )
    from .sequential import Sequential, load, read_metadata
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
        minimize,
    )
    from .sweeps import Ensemble, Halving, Hyperband, LogUniform, SweepEvent, SweepResult, sweep
    from .sweeps.search_cv import SweepSearchCV
    from .tables import TableEncoder
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
    "Comparison",
    "CosineDecay",
    "Dense",
    "Diagnosis",
    "DivergenceError",
    "Dropout",
    "EarlyStopping",
    "Ensemble",
    "EpochResult",
    "ExponentialDecay",
    "GaussNewtonCG",
    "GradientDescent",
    "GradientReport",
    "Halving",
    "History",
    "Hyperband",
    "LayerNorm",
    "LeakyReLU",
    "LevenbergMarquardt",
    "LinearRegression",
    "LogUniform",
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
    "Scale",
    "Sequential",
    "SoftmaxRegression",
    "Standardize",
    "StepDecay",
    "StochasticLBFGS",
    "SweepEvent",
    "SweepResult",
    "SweepSearchCV",
    "TableEncoder",
    "Trainer",
    "TrustRegion",
    "WarmUp",
    "__version__",
    "augment",
    "callbacks",
    "check_gradient",
    "check_hessian",
    "compare",
    "curvature",
    "datasets",
    "diagnose",
    "estimators",
    "from_sklearn",
    "from_torch",
    "initializers",
    "input_hessian",
    "integrations",
    "kernels",
    "learning_curve",
    "linear",
    "load",
    "losses",
    "metrics",
    "minimize",
    "optimizers",
    "plot_confusion_matrix",
    "plot_decision_boundary",
    "plot_histories",
    "plot_images",
    "read_metadata",
    "reference",
    "resize_images",
    "schedules",
    "show_config",
    "solvers",
    "sweep",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "validation_curve",
]

# Everything is imported on first use: `import fastnn` costs nothing, and `python -m fastnn` can answer Ctrl-C
# while NumPy is being imported.
_MODULES = (
    *(
        "augment",
        "callbacks",
        "curvature",
        "datasets",
        "estimators",
        "initializers",
        "integrations",
        "kernels",
        "layers",
        "linear",
        "losses",
    ),
    *("metrics", "network", "optimizers", "plan", "reference", "schedules", "solvers", "training"),
)
_CONTENTS: dict[str, tuple[str, ...]] = {
    "build_info": ("show_config",),
    "callbacks": ("Checkpoint", "EarlyStopping"),
    "comparison": ("Comparison", "compare"),
    "curvature": ("input_hessian",),
    "curves": ("learning_curve", "validation_curve"),
    "diagnosis": ("Diagnosis", "diagnose"),
    "estimators": ("LinearRegression", "MLPClassifier", "MLPRegressor", "SoftmaxRegression"),
    "gradcheck": ("GradientReport", "check_gradient", "check_hessian"),
    "interop": ("from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch"),
    "layers": ("Activation", "BatchNorm", "Dense", "Dropout", "LayerNorm", "LeakyReLU", "Scale", "Standardize"),
    "objective": ("Objective",),
    "optimizers": ("KFAC", "NAG", "SGD", "AdaGrad", "Adam", "AdamW", "RMSProp", "StochasticLBFGS"),
    "pictures": ("plot_confusion_matrix", "plot_decision_boundary", "plot_images", "resize_images"),
    "plotting": ("plot_histories",),
    "schedules": (
        *("CosineDecay", "ExponentialDecay", "RationalDecay", "ReduceOnPlateau"),
        *("RootDecay", "StepDecay", "WarmUp"),
    ),
    "sequential": ("Sequential", "load", "read_metadata"),
    "solvers": (
        *("ARC", "GaussNewtonCG", "GradientDescent", "LBFGS", "LevenbergMarquardt"),
        *("Newton", "NewtonCG", "NonlinearCG", "TrustRegion", "minimize"),
    ),
    "sweeps": ("Ensemble", "Halving", "Hyperband", "LogUniform", "SweepEvent", "SweepResult", "sweep"),
    "sweeps.search_cv": ("SweepSearchCV",),
    "tables": ("TableEncoder",),
    "training": ("DivergenceError", "EpochResult", "History", "Trainer"),
}
#: What other libraries call things, without case and marks.
_OTHERS = {
    "linear": "Dense",
    "relu": 'Activation("relu")',
    "tanh": 'Activation("tanh")',
    "sigmoid": 'Activation("sigmoid")',
    "batchnorm1d": "BatchNorm",
    "batchnormalization": "BatchNorm",
    "layernormalization": "LayerNorm",
    "model": "Sequential",
    "mlp": "Sequential",
    "modelcheckpoint": "Checkpoint",
    "reducelronplateau": "ReduceOnPlateau",
    "loadmodel": "load",
}
_HOMES = {name: module for module, names in _CONTENTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    # Without an `obj`, an interpreter adds no suggestion of its own.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_suggestion(name)}", name=name, obj=None)


def _suggestion(name: str) -> str:
    """The end of an error message: the public name that is likely meant, if any is."""
    if name.startswith("_"):
        return ""
    from .names import suggestion

    return suggestion(name, (*_MODULES, *__all__), _OTHERS)  # a class hides a module of its name


def __dir__() -> list[str]:
    return sorted(__all__)
