"""Members of a sweep: where each parameter of a setting goes, and how a member is made and trained."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import optimizers
from .._typing import Options
from ..names import listing, suggestion
from ..network import Network
from ..optimizers import Optimizer, Solver
from ..training.options import FitOptions

__all__ = ["EstimatorModel", "FunctionModel", "Model", "Recipe", "UnknownParameterError", "model_of"]
__dir__ = listing(__all__)

#: Arguments of ``fit`` that a setting may have.
OF_FIT = (
    *("optimizer", "epochs", "batch_size", "shuffle", "class_weight", "l1", "l2", "clip_norm", "clip_value"),
    *("ema", "deterministic", "seed", "augment"),
)

#: Other arguments of ``fit``: they are the same for all members, or the sweep's own.
NOT_OF_MEMBERS = (
    *("sample_weight", "validation_data", "validation_split", "callbacks", "verbose", "threads", "resume"),
    *("steps_per_epoch", "metrics", "train_metrics", "record_norms"),
)


class UnknownParameterError(ValueError):
    """A parameter that nobody takes: a mistake in the space, not in one of its values."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a member is made and trained: what ``model`` and ``fit`` are given.

    Attributes
    ----------
    parameters : dict
        The setting.
    model : dict
        Arguments of the model.
    fit : dict
        Arguments of ``fit``; empty for an estimator.
    """

    parameters: Options
    model: Options
    fit: Options
    _options: dict[tuple[bool, bool], FitOptions] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @property
    def epochs(self) -> int:
        """Epochs to train; 0 for an estimator and a full-batch solver."""
        return 0 if self.is_whole else int(self.fit["epochs"])

    @property
    def is_whole(self) -> bool:
        """Whether the training is one piece: there are no epochs to count, to stop at or to compare by."""
        return not self.fit or isinstance(self.fit["optimizer"], Solver)

    def options(self, *, resume: bool = False, **metrics: Any) -> FitOptions:
        """Checked arguments of ``fit``, on one thread; made once for all folds."""
        key = resume, bool(metrics)
        if key not in self._options:
            given = {name: value for name, value in self.fit.items() if name != "epochs" or not self.is_whole}
            self._options[key] = FitOptions(threads=1, resume=resume, **given, **metrics)
        return self._options[key]


class FunctionModel:
    """A function that returns a network.

    Parameters
    ----------
    function : callable
        Its parameters are names of the space.
    fixed : dict
        What all members share.
    """

    is_estimator = False

    def __init__(self, function: Callable[..., Any], fixed: Options) -> None:
        self.function, self.fixed = function, fixed
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # of a builtin
            parameters = ()  # type: ignore[assignment]
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.names = tuple(parameter.name for parameter in parameters if parameter.kind in kinds)
        self._takes_all = any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters)

    def recipe(self, setting: Options, place: str) -> Recipe:
        """Where the parameters of a setting go.

        Raises
        ------
        UnknownParameterError
            If there is one that neither ``fit`` nor the optimizer nor the model takes, or that members cannot have.
        """
        parameters = {**self.fixed, **setting}
        fit: Options = {name: value for name, value in parameters.items() if name in OF_FIT}
        optimizer = fit["optimizer"]
        if not isinstance(optimizer, Solver):
            optimizer = optimizers.get(optimizer)
        fields = _fields(optimizer)
        model: Options = {}
        replaced: Options = {}
        for name, value in parameters.items():
            taken = name in self.names
            if name in NOT_OF_MEMBERS and not taken:
                raise UnknownParameterError(f"{place}: {name!r} is the same for all members, and cannot be a parameter")
            if name in OF_FIT:
                if taken:  # its seed, for instance, is the network's and the order's
                    model[name] = value
            elif name in fields:
                replaced[name] = value
            elif taken or self._takes_all:
                model[name] = value
            else:
                known = [*OF_FIT, *fields, *self.names]
                where = place if name in setting else "sweep"
                takers = f"fit, {type(optimizer).__name__} nor the model ({', '.join(self.names) or 'no parameters'})"
                raise UnknownParameterError(f"{where}: {name!r} is taken by neither {takers}{suggestion(name, known)}")
        fit["optimizer"] = dataclasses.replace(optimizer, **replaced) if replaced else optimizer
        return Recipe(setting, model, fit)

    def build(self, recipe: Recipe) -> Network:
        """A new network.

        Raises
        ------
        TypeError
            If the function returns something else.
        """
        net = self.function(**recipe.model)
        if not isinstance(net, Network):
            raise TypeError(f"model: expected a function that returns a Sequential, it returned {net!r:.60}")
        return net


class EstimatorModel:
    """An estimator with scikit-learn's interface; its parameters are names of the space.

    Parameters
    ----------
    estimator : object
        With ``get_params``, ``set_params``, ``fit`` and ``score``.
    fixed : dict
        What all members share.
    """

    is_estimator = True

    def __init__(self, estimator: Any, fixed: Options) -> None:
        self.estimator, self.fixed = estimator, fixed
        self.names = tuple(estimator.get_params(deep=True))

    def recipe(self, setting: Options, place: str) -> Recipe:
        """The parameters of a setting.

        Raises
        ------
        UnknownParameterError
            If there is one that the estimator does not have.
        """
        parameters = {**self.fixed, **setting}
        for name in parameters:
            if name not in self.names:
                where, kind = place if name in setting else "sweep", type(self.estimator).__name__
                raise UnknownParameterError(f"{where}: {kind} has no parameter {name!r}{suggestion(name, self.names)}")
        return Recipe(setting, parameters, {})

    def build(self, recipe: Recipe) -> Any:
        """A new estimator, not fitted."""
        from ..files import need

        clone = need("sklearn.base", "a sweep over an estimator", '"fastnn[sklearn]"').clone
        values = {name: clone(value, safe=False) for name, value in recipe.model.items()}
        return clone(self.estimator).set_params(**values)


Model = FunctionModel | EstimatorModel


def model_of(model: object, fixed: Mapping[str, Any], of_fit: Mapping[str, Any]) -> Model:
    """The model that `sweep` was given; `of_fit` are defaults of what ``fit`` takes, which an estimator has none of.

    Raises
    ------
    TypeError
        If it is neither a function nor an estimator.
    """
    if isinstance(model, Network):
        raise TypeError("model: expected a function of the parameters that returns a Sequential, got a Sequential")
    if hasattr(model, "get_params") and hasattr(model, "fit") and not isinstance(model, type):
        return EstimatorModel(model, dict(fixed))
    if callable(model):
        return FunctionModel(model, {**of_fit, **fixed})
    raise TypeError(f"model: expected a function that returns a Sequential, or an estimator, got {model!r:.60}")


def _fields(optimizer: Optimizer | Solver) -> tuple[str, ...]:
    """Names of the fields that a setting may replace."""
    return tuple(field.name for field in dataclasses.fields(optimizer) if field.init)  # type: ignore[arg-type]
