"""Parameters of the estimators: nested ones of optimizers and schedules, and those that a solver does not use."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import validate_data

from .. import names
from .._typing import Data, Options
from ..checks import refuse_masked
from ..losses import LOSSES
from ..optimizers import OPTIMIZERS, Optimizer
from ..plan import ACTIVATIONS
from ..schedules import Schedule

__all__ = ["Parameters", "validated"]

#: Parameters that may be descriptions with parameters of their own.
NESTED = ("solver", "optimizer", "learning_rate")

RATES = {"learning_rate", "learning_rate_init"}
STOCHASTIC = {"batch_size", "shuffle", "early_stopping", "validation_fraction", "n_iter_no_change", "callbacks"}
STOCHASTIC |= {"scoring"}
#: What some solvers use and others do not.
USED = {
    "lbfgs": {"max_fun"},
    "newton": set(),
    "sgd": STOCHASTIC | RATES | {"power_t", "momentum", "nesterovs_momentum"},
    "adam": STOCHASTIC | RATES | {"beta_1", "beta_2", "epsilon"},
}
LIMITED = set().union(*USED.values())

#: Parameters that are names: those there are, and what other libraries call them.
_NAMES = {
    "activation": ((*ACTIVATIONS, "identity", "logistic"), names.ACTIVATIONS),
    "solver": ((*OPTIMIZERS, "lbfgs"), {"bfgs": "lbfgs", "momentum": "sgd", "nesterov": "nag"}),
    "optimizer": (OPTIMIZERS, {"momentum": "sgd", "nesterov": "nag"}),
    "loss": (LOSSES, names.LOSSES),
    "learning_rate": (("constant", "invscaling", "adaptive"), {}),
}


def validated(estimator: BaseEstimator, X: Data, y: Any = "no_validation", **options: Any) -> Any:
    """What scikit-learn's ``validate_data`` returns; masked values, which it would take as they lie, are refused."""
    refuse_masked("X", X)
    refuse_masked("y", y)
    forms = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32), "order": "C"}
    return validate_data(estimator, X, y, **{**forms, **options})


def nested(prefix: str, value: Any) -> Options:
    """Parameters of a description, and of the descriptions in it, as ``prefix__name``."""
    if not isinstance(value, (Optimizer, Schedule)) or not dataclasses.is_dataclass(value):
        return {}
    found = {}
    for field in dataclasses.fields(value):
        name, inner = f"{prefix}__{field.name}", getattr(value, field.name)
        found[name] = inner
        found.update(nested(name, inner))
    return found


def replaced(name: str, value: Any, path: list[str], new: Any) -> Any:
    """The description with one of its parameters changed."""
    if not path:
        return new
    if not isinstance(value, (Optimizer, Schedule)) or not dataclasses.is_dataclass(value):
        raise ValueError(f"{name}__{'__'.join(path)}: {name} is {value!r}, which has no parameters; give an instance")
    names = [field.name for field in dataclasses.fields(value)]
    if path[0] not in names:
        raise ValueError(f"Invalid parameter {path[0]!r} for {name}={value!r}. Valid parameters are: {names!r}.")
    inner = replaced(f"{name}__{path[0]}", getattr(value, path[0]), path[1:], new)
    return dataclasses.replace(value, **{path[0]: inner})


@functools.cache
def limited_defaults(init: Callable[..., None]) -> Options:
    """Defaults of the limited parameters that an estimator's __init__ has, and of the solver."""
    parameters = inspect.signature(init).parameters.items()
    return {name: parameter.default for name, parameter in parameters if name in LIMITED or name == "solver"}


class Parameters(BaseEstimator):
    """get_params and set_params with nested names, and the check that no parameter is ignored."""

    def get_params(self, deep: bool = True) -> Options:
        """Parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether those of optimizers and schedules are among them, as ``optimizer__learning_rate``.

        Returns
        -------
        dict
        """
        params: Options = super().get_params(deep)
        if deep:
            for name in NESTED:
                params.update(nested(name, params.get(name)))
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those of optimizers and schedules, as ``optimizer__learning_rate``.

        Parameters
        ----------
        **params
            An optimizer or schedule is replaced by a copy with the new value.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter, or its value is out of range.
        """
        inner = {key: value for key, value in params.items() if "__" in key and key.split("__")[0] in NESTED}
        super().set_params(**{key: value for key, value in params.items() if key not in inner})
        for key, value in sorted(inner.items(), key=lambda item: item[0].count("__")):
            name, *path = key.split("__")
            if name not in self.get_params(deep=False):
                super().set_params(**{key: value})  # says that there is no such parameter
            setattr(self, name, replaced(name, getattr(self, name), path, value))
        return self

    def _validate_params(self) -> None:
        """scikit-learn's check of the parameters, which also says which name is likely meant."""
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            for name, (known, others) in _NAMES.items():
                value = vars(self).get(name)
                if isinstance(value, str) and f"{name!r} parameter" in str(error):
                    text = str(error).removesuffix(".")
                    raise InvalidParameterError(f"{text}{names.suggestion(value, known, others)}") from None
            raise

    def _rule(self) -> Any:
        """What trains: an Optimizer, or the name of an optimizer or of a solver."""
        values = vars(self)
        return values["optimizer"] if values.get("optimizer") is not None else values["solver"]

    def _check_used(self) -> None:
        """Refuse parameters that have no effect beside an optimizer or a schedule; warn of other ones.

        Those that scikit-learn ignores too are a warning, so that one search may go over several solvers.
        """
        rule = self._rule()
        described = isinstance(rule, Optimizer)
        used = STOCHASTIC if described else USED.get(rule, STOCHASTIC | RATES)
        scheduled = isinstance(getattr(self, "learning_rate", None), Schedule)
        if scheduled:
            used = used - {"learning_rate_init", "power_t"}
        changed = self._changed()
        if "solver" in changed and vars(self)["optimizer"] is not None:
            raise ValueError(f"solver={changed['solver']!r} has no effect beside optimizer={rule!r}: give one of them")
        beside = f"optimizer={rule!r}: set the optimizer's own" if described else f"solver={rule!r}"
        for name, value in changed.items():
            if name in used or name not in LIMITED:
                adaptive = name == "learning_rate" and isinstance(value, str)
                if not adaptive or rule == "sgd":
                    continue
            if described or name == "callbacks" or (scheduled and name in ("learning_rate", "learning_rate_init")):
                where = beside
                if scheduled and name == "learning_rate_init" and not described:
                    where = f"learning_rate={self.learning_rate!r}, which has its own"
                raise ValueError(f"{name}={value!r} has no effect beside {where}")
            warnings.warn(f"{name}={value!r} has no effect with {beside}", stacklevel=4)

    def _changed(self) -> Options:
        """Those of the limited parameters, and the solver, that are not their defaults."""
        found = {}
        for name, default in limited_defaults(type(self).__init__).items():
            value = vars(self)[name]
            if isinstance(value, (list, tuple)) and not len(value):
                value = ()
            if value is not default and (type(value), value) != (type(default), default) and value != default:
                found[name] = value
        return found
