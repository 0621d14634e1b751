"""What members are compared by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..metrics import Metrics, check_metrics, default_names, rises
from ..names import listing
from ..network import Network
from ..training.data import RESERVED

__all__ = ["Criterion"]
__dir__ = listing(__all__)


class Criterion:
    """A score on the validation rows.

    Parameters
    ----------
    given : str, callable or None
        A metric as for ``fit(metrics=)``: a name, or a function ``f(y_true, y_pred)``, which is better when larger
        unless it has an attribute ``greater_is_better = False``. None: accuracy of classifiers, r2 of regressions. For
        estimators a scorer ``f(estimator, X, y)``, or None, their own ``score``.
    net : Network or None
        One of the members; None: members are estimators.

    Attributes
    ----------
    name : str
    rises : bool
        Whether more is better.
    scorer : callable or None
        Of estimators.

    Raises
    ------
    ValueError
        If the name is unknown, or does not suit the loss.
    TypeError
        If it is neither a name nor a function.
    """

    def __init__(self, given: str | Callable[..., Any] | None, net: Network | None) -> None:
        self.scorer: Callable[..., Any] | None = None
        self._metrics: Metrics | None = None
        self.rises = True
        if net is None:
            if given is not None and not callable(given):
                raise TypeError(
                    f"metric: expected a scorer (estimator, X, y) or None for an estimator, got {given!r:.60}"
                )
            self.scorer = given
            self.name = "score" if given is None else _name(given)
            return
        if given is None:
            given = "accuracy" if net.loss_function.classifies else "r2"
        if isinstance(given, str):
            self.name = given
            if given not in self._usual(net):
                check_metrics(given, net.loss_function, RESERVED)
                self._metrics = given
            self.rises = rises(given)
        elif callable(given) and not isinstance(given, type):
            self.name = _name(given)
            self._metrics = {self.name: given}
            check_metrics(self._metrics, net.loss_function, RESERVED)
            self.rises = bool(getattr(given, "greater_is_better", True))
        else:
            raise TypeError(f"metric must be a name, a function f(y_true, y_pred) or None, got {given!r:.60}")

    @classmethod
    def named(cls, name: str, rises: bool) -> Criterion:
        """One that is known by its name alone: that of a loaded result."""
        self = cls.__new__(cls)
        self.name, self.rises, self.scorer, self._metrics = name, rises, None, None
        return self

    @staticmethod
    def _usual(net: Network) -> tuple[str, ...]:
        """Names of what every evaluation gives."""
        return (*default_names(net.loss_function), *(["deviance"] if net.loss_name == "poisson" else []))

    @property
    def for_fit(self) -> dict[str, Any]:
        """What ``fit`` is given for its history to have the score."""
        return {} if self._metrics is None else {"metrics": self._metrics}

    def of_epoch(self, validation: Mapping[str, float]) -> float:
        """The score among those of the validation rows."""
        return float(validation["val_" + self.name])

    def of_estimator(self, estimator: Any, X: Any, y: Any, weight: Any) -> float:
        """The score of a fitted estimator."""
        options = {} if weight is None else {"sample_weight": weight}
        if self.scorer is None:
            return float(estimator.score(X, y, **options))
        value = self.scorer(estimator, X, y, **options)
        if isinstance(value, bool | str) or np.ndim(value) != 0:
            raise TypeError(f"metric: expected a number from {self.name}, got {value!r:.60}")
        return float(value)

    def key(self, score: float) -> float:
        """A number that is larger for the better score, -∞ for none."""
        if math.isnan(score):
            return -math.inf
        return score if self.rises else -score

    def better(self, score: float, best: float) -> bool:
        """Whether a score is better than the best so far, NaN if there is none."""
        return self.key(score) > self.key(best)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
