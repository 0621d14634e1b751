"""What runs networks: the compiled engine, or the reference in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from .names import listing
from .predictor import Predictor

if TYPE_CHECKING:  # a backend is imported when a network takes it
    from ._core.engine import Plan as CompiledPlan
    from .reference.plan import Plan as ReferencePlan

__all__ = ["BACKENDS", "Backend", "find_backend"]
__dir__ = listing(__all__)

BACKENDS = ("compiled", "reference")


class Backend(NamedTuple):
    """What runs networks.

    Attributes
    ----------
    Plan : type
        Of the plans.
    kernels : module
    Predictor : type or None
        Of predictors that are faster than calls of the plan.
    """

    Plan: type[CompiledPlan] | type[ReferencePlan]
    kernels: ModuleType
    Predictor: Callable[..., Predictor] | None = None


@functools.cache
def find_backend(name: str) -> Backend:
    """The backend of a name, imported on first use."""
    if name == "compiled":
        from . import kernels
        from ._core.engine import Plan as CompiledPlan
        from ._core.predictor import Predictor as CompiledPredictor

        return Backend(CompiledPlan, kernels, CompiledPredictor)
    if name == "reference":
        from . import reference
        from .reference.plan import Plan as ReferencePlan

        return Backend(ReferencePlan, reference)
    raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {name!r}")
