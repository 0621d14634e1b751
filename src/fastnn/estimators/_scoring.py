"""Scores of the validation rows after each epoch: by scikit-learn's scorers, and those that callbacks watch by name."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring

from ..losses import Loss
from ..metrics import monitored

__all__ = ["SCORE", "epoch_metrics"]

#: The name of the score in a history, where it has the prefix ``val_``.
SCORE = "score"


def epoch_metrics(
    estimator: Any,
    loss: Loss,
    validation: tuple[Any, ...] | None,
    labels: Callable[[np.ndarray], np.ndarray],
    callbacks: Iterable[object],
) -> dict[str, object] | None:
    """What :class:`fastnn.training.options.TrainingOptions` takes as `metrics`, or None.

    Parameters
    ----------
    estimator : NetworkEstimator
        Its parameter `scoring` is a name of scikit-learn's scorers, a scorer, or a function f(estimator, X, y).
    loss : Loss
        Of its network.
    validation : tuple (X, targets) or (X, targets, weights), or None
    labels : callable
        Makes of targets of the network what `y` of the estimator is.
    callbacks : iterable
        Those with a `monitor`, such as "val_f1".

    Raises
    ------
    ValueError
        If there is no scorer of that name. When called, if the score is not finite.
    """
    if validation is None:
        if estimator.scoring is not None:
            warnings.warn(
                f"scoring={estimator.scoring!r} has no effect without early_stopping=True or validation_data",
                stacklevel=5,
            )
        return None
    names = [getattr(callback, "monitor", None) for callback in callbacks]
    metrics: dict[str, object] = {metric.name: metric.name for metric in monitored(names, loss, ())}
    if estimator.scoring is not None:
        metrics[SCORE] = _score(estimator, labels, *validation)
    return metrics or None


def _score(
    estimator: Any, labels: Callable[[np.ndarray], np.ndarray], X: Any, targets: np.ndarray, weights: Any = None
) -> Callable[[np.ndarray, np.ndarray], float]:
    """A metric that gives what the scorer makes of the estimator as it is at that time."""
    scorer = check_scoring(estimator, scoring=estimator.scoring)
    y = labels(targets)
    as_it_is = copy.copy(estimator)  # the same network
    vars(as_it_is).pop("feature_names_in_", None)  # X is an array by now
    options = {} if weights is None or not _takes_weight(scorer) else {"sample_weight": weights}

    def score(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        value = float(scorer(as_it_is, X, y, **options))
        if not np.isfinite(value):
            raise ValueError(f"scoring={estimator.scoring!r}: expected a finite score, got {value}")
        return value

    return score


def _takes_weight(scorer: Any) -> bool:
    accepts = getattr(scorer, "_accept_sample_weight", None)  # of scikit-learn's, whose signatures all have it
    return bool(accepts()) if accepts is not None else "sample_weight" in inspect.signature(scorer).parameters
