"""Scores of predictions: those of every evaluation, more of them by name, and a user's own functions.

A metric is a function ``f(y_true, y_pred)``, or ``f(y_true, y_pred, sample_weight=...)``, of

- `y_true`: the targets as the network takes them. Labels (N,) of int64, rows (N, K) of soft ones; 0 and 1 of int64, or
  values in between, as (N,) of one output and (N, K) of more; values (N,) or (N, K).
- `y_pred`: predictions in the network's natural form. Probabilities (N, K) of the classes; of one sigmoid those of 1,
  (N,); of several (N, K). Values (N,) or (N, K); for poisson rates.
- `sample_weight`: weights (N,) up to a common factor, where the data have any and the function has that argument.

The known names, with ŷ the likeliest class (or p > ½):

====================  =================================================================================================
name                  value
====================  =================================================================================================
balanced_accuracy     mean over the classes that occur of the share of their rows that are right
precision             Σ w [y = ŷ = k] / Σ w [ŷ = k], 0 where it is 0/0
recall                Σ w [y = ŷ = k] / Σ w [y = k], 0 where it is 0/0
f1                    harmonic mean of the two
roc_auc               chance that a row of a class gets a higher probability of it than a row of the rest, ties as half
average_precision     Σ_n (R_n − R_{n−1}) P_n over the thresholds of a class's probability
log_loss              −Σ w log p_y / Σ w, without smoothing, p of at least the dtype's ε
brier                 Σ w ‖p − e_y‖² / Σ w; for two classes (p₁ − y)²
rmse                  root of mse
mape                  mean of |y − ŷ| / max(|y|, ε) over rows and outputs
max_error             largest |y − ŷ|
====================  =================================================================================================

precision, recall, f1, roc_auc and average_precision are those of class 1 of two; the mean over the classes of more,
each against the rest, and over the outputs of several answers. Definitions are scikit-learn's. A score of which the
rows have nothing to tell (roc_auc of one class) is NaN. What `evaluate` gives anyway (``accuracy``, ``mse`` ...) may be
named too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from . import names
from .losses import Loss

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "KNOWN",
    "Metric",
    "Metrics",
    "area_under_roc",
    "balanced_accuracy",
    "check_metrics",
    "default_names",
    "default_scores",
    "monitored",
    "rises",
]
__dir__ = names.listing(__all__)

#: A metric as users give it, and several of them.
Metrics: TypeAlias = str | Callable[..., float] | Iterable[object] | Mapping[str, object]

#: Targets, predictions and weights, one metric's value.
Function: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]

_RISING = {"accuracy", "r2", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"}
_FALLING = {"loss", "mse", "mae", "deviance", "log_loss", "brier", "rmse", "mape", "max_error"}
_FALLING |= {"gradient_norm", "step", "damping", "evaluations"}  # of a full-batch solver's iterations


def rises(series: str, mode: str = "auto") -> bool:
    """Whether more of a series of a history is better.

    Raises
    ------
    ValueError
        If `mode` is "auto" and the name does not tell.
    """
    if mode != "auto":
        return mode == "max"
    name = series.removeprefix("val_")
    if name not in _RISING | _FALLING:
        raise ValueError(f"mode: expected 'min' or 'max' beside monitor={series!r}, whose name does not tell")
    return name in _RISING


# ------------------------------------------------------------------ those of every evaluation


def default_names(loss: Loss) -> tuple[str, ...]:
    """Names of the scores that a history keeps of every evaluation."""
    return ("loss", "accuracy") if loss.classifies else ("loss", "mse", "mae", "r2")


def default_scores(
    loss: Loss,
    kernels: ModuleType,
    Z: np.ndarray,
    y: np.ndarray,
    w: np.ndarray | None,
    decide: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """What ``net.evaluate`` gives without being asked, of outputs Z (N, K) and checked targets and weights."""
    value = loss.value(kernels, Z, y, w)
    if loss.classifies:
        return {"loss": value, "accuracy": float(np.average(loss.hits(Z, y), weights=w))}
    truth = y.astype(np.float64)
    error = decide(Z).reshape(Z.shape).astype(np.float64) - truth
    total = np.average((truth - np.average(truth, axis=0, weights=w)) ** 2, axis=0, weights=w)
    rest = np.average(error**2, axis=0, weights=w)
    constant = total == 0.0
    r2 = np.where(constant, (rest == 0.0).astype(np.float64), 1.0 - rest / np.where(constant, 1.0, total))
    mae = np.average(np.abs(error), axis=0, weights=w)
    scores = {"loss": value, "mse": float(rest.mean()), "mae": float(mae.mean()), "r2": float(r2.mean())}
    half_deviance = loss.half_deviance(Z, truth, error)
    if half_deviance is not None:
        scores["deviance"] = float((2.0 * np.average(half_deviance, axis=0, weights=w)).mean())
    return scores


# ------------------------------------------------------------------ classifications by name


def _one_by_one(y: np.ndarray, p: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yes/no questions of which a score is the mean: truth, decision and probability (N,) of each."""
    if y.ndim == 2:  # several answers
        return [(y[:, k] == 1, p[:, k] > 0.5, p[:, k]) for k in range(y.shape[1])]
    if p.ndim == 1:
        return [(y == 1, p > 0.5, p)]
    decided = p.argmax(axis=1)
    return [(y == k, decided == k, p[:, k]) for k in ([1] if p.shape[1] == 2 else range(p.shape[1]))]


def _sum(mask: np.ndarray, w: np.ndarray | None) -> float:
    return float(np.count_nonzero(mask) if w is None else w[mask].sum(dtype=np.float64))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def balanced_accuracy(y: np.ndarray, predicted: np.ndarray, w: np.ndarray | None = None) -> float:
    """Mean over the classes in `y` of the share of their rows that are right."""
    sums = [(_sum((y == k) & (predicted == k), w), _sum(y == k, w)) for k in np.unique(y)]
    return _mean([right / all_rows for right, all_rows in sums if all_rows > 0.0])


def _balanced_accuracy(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    if y.ndim == 2 or p.ndim == 1:
        return _mean([balanced_accuracy(truth, decided, w) for truth, decided, _ in _one_by_one(y, p)])
    return balanced_accuracy(y, p.argmax(axis=1), w)


def _counts(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> list[tuple[float, float, float]]:
    """Of each class that occurs or is predicted: Σ w of hits, of those predicted, of those that occur."""
    found = [(_sum(truth & decided, w), _sum(decided, w), _sum(truth, w)) for truth, decided, _ in _one_by_one(y, p)]
    several = len(found) > 1 and y.ndim == 1
    return [counts for counts in found if not several or counts[1] + counts[2] > 0.0]


def _precision(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return _mean([hits / predicted if predicted else 0.0 for hits, predicted, _ in _counts(y, p, w)])


def _recall(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return _mean([hits / there if there else 0.0 for hits, _, there in _counts(y, p, w)])


def _f1(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return _mean(
        [2.0 * hits / (predicted + there) if predicted + there else 0.0 for hits, predicted, there in _counts(y, p, w)]
    )


def _thresholds(truth: np.ndarray, score: np.ndarray, w: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Σ w of the true and of the false rows at each distinct score, from the highest on."""
    weight = np.ones(len(score)) if w is None else w.astype(np.float64)
    _, place = np.unique(-score, return_inverse=True)
    positive = np.bincount(place, np.where(truth, weight, 0.0))
    return positive, np.bincount(place, weight) - positive


def _area(truth: np.ndarray, score: np.ndarray, w: np.ndarray | None) -> float:
    positive, negative = _thresholds(truth, score, w)
    above = np.cumsum(positive) - 0.5 * positive  # a tie counts half
    return float((negative * above).sum() / (positive.sum() * negative.sum()))


def _average_precision(truth: np.ndarray, score: np.ndarray, w: np.ndarray | None) -> float:
    positive, negative = _thresholds(truth, score, w)
    precision = np.cumsum(positive) / np.maximum(np.cumsum(positive + negative), np.finfo(np.float64).tiny)
    return float((positive * precision).sum() / positive.sum())


def _ranked(score: Callable[..., float], needs_rest: bool) -> Function:
    """Mean of a score of each class's probabilities, over the classes of which there are rows, and a rest."""

    def value(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
        return _mean(
            [
                score(truth, probability, w)
                for truth, _, probability in _one_by_one(y, p)
                if _sum(truth, w) > 0.0 and not (needs_rest and _sum(~truth, w) == 0.0)
            ]
        )

    return value


_roc_auc = _ranked(_area, True)


def area_under_roc(y: np.ndarray, probabilities: np.ndarray, w: np.ndarray | None = None) -> float:
    """Chance that a row of a class gets a higher probability of it than a row of the rest, ties as half.

    Of two classes that of the second; of more the mean over the classes. NaN where no class has rows and a rest.
    """
    return _roc_auc(y, probabilities, w)


def _of_each_class(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and probabilities (N, K) of 0 and 1; those of one answer are the probabilities of 0 and of 1."""
    if p.ndim == 1:
        return np.stack([1 - y, y], axis=1), np.stack([1.0 - p, p], axis=1)
    return (y, p) if y.ndim == 2 else ((y[:, None] == np.arange(p.shape[1])).astype(np.int64), p)


def _log_loss(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    truth, probability = _of_each_class(y, p)
    epsilon = float(np.finfo(p.dtype).eps)
    clipped = np.clip(probability.astype(np.float64), epsilon, 1.0 - epsilon)
    terms = truth * np.log(clipped)
    if y.ndim == 2:
        terms = terms + (1 - truth) * np.log1p(-clipped)
    return -float(np.average(terms.sum(axis=1), weights=w))


def _brier(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    truth, probability = _of_each_class(y, p)
    squares = ((probability.astype(np.float64) - truth) ** 2).sum(axis=1)
    scale = 1.0 / truth.shape[1] if y.ndim == 2 else 0.5 if truth.shape[1] == 2 else 1.0
    return scale * float(np.average(squares, weights=w))


# ------------------------------------------------------------------ regressions by name


def _errors(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    error: np.ndarray = np.abs(p.astype(np.float64) - y)
    return error if error.ndim == 2 else error[:, None]


def _rmse(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return math.sqrt(float(np.average(_errors(y, p) ** 2, axis=0, weights=w).mean()))


def _mape(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    size = np.maximum(np.abs(y.astype(np.float64)), np.finfo(np.float64).eps).reshape(len(y), -1)
    return float(np.average(_errors(y, p) / size, axis=0, weights=w).mean())


def _max_error(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return float(_errors(y, p)[slice(None) if w is None else w > 0.0].max())


_CLASSIFICATION: dict[str, Function] = {
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "roc_auc": _roc_auc,
    "average_precision": _ranked(_average_precision, False),
    "log_loss": _log_loss,
    "brier": _brier,
}
_REGRESSION: dict[str, Function] = {"rmse": _rmse, "mape": _mape, "max_error": _max_error}

#: Names that `metrics` may have beside those of every evaluation.
KNOWN = (*_CLASSIFICATION, *_REGRESSION)

_OTHERS = {
    "auc": "roc_auc",
    "rocaucscore": "roc_auc",
    "aucroc": "roc_auc",
    "f1score": "f1",
    "f1macro": "f1",
    "fscore": "f1",
    "acc": "accuracy",
    "logloss": "log_loss",
    "crossentropy": "log_loss",
    "brierscore": "brier",
    "meansquarederror": "mse",
    "meanabsoluteerror": "mae",
    "rootmeansquarederror": "rmse",
    "meanabsolutepercentageerror": "mape",
    "ap": "average_precision",
}


# ------------------------------------------------------------------ what users give


@dataclass(frozen=True)
class Metric:
    """One metric: its name, its function, and how that is called.

    Attributes
    ----------
    name : str
    function : callable
    own : bool
        Whether it is a user's function.
    takes_weight : bool
        Whether that has an argument `sample_weight`.
    """

    name: str
    function: Callable[..., object]
    own: bool = False
    takes_weight: bool = True

    def __call__(self, loss: Loss, y: np.ndarray, predictions: np.ndarray, w: np.ndarray | None) -> float:
        """Its value of checked targets, predictions in their natural form, and weights.

        Raises
        ------
        TypeError
            If a user's function returns no number. What it raises itself gets a note of its name.
        """
        if not self.own:
            if loss.classifies:
                y = loss.labels(y).astype(np.int64)
                y = y[:, 0] if y.shape[1] == 1 else y
            else:
                y = y.reshape(predictions.shape)
            return float(self.function(y, predictions, w))  # type: ignore[arg-type]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if loss.classifies and y.dtype.kind == "f" and loss.inverse_link == "sigmoid" and np.isin(y, (0, 1)).all():
            y = y.astype(np.int64)
        options = {"sample_weight": w} if self.takes_weight and w is not None else {}
        try:
            value = self.function(y, predictions, **options)
        except Exception as error:
            error.add_note(f"in metrics[{self.name!r}], called with y_true {y.shape} and y_pred {predictions.shape}")
            raise
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"metrics[{self.name!r}] must return a number, got {value!r:.60}")
        return float(value)


def check_metrics(metrics: Metrics | None, loss: Loss, reserved: Iterable[str] = ()) -> tuple[Metric, ...]:
    """Metrics by name, as :meth:`fastnn.Sequential.fit` takes them.

    Parameters
    ----------
    metrics : str, callable, iterable of those, mapping of name to one of those, or None
    loss : Loss
        Of the network, which says which names there are. Those of every evaluation are left out: they come anyway.
    reserved : iterable of str
        Names that functions cannot have.

    Raises
    ------
    TypeError
        If one of them is neither a name nor a function.
    ValueError
        If a name is unknown or does not suit the loss, is given twice, or a function has none.
    """
    if metrics is None:
        return ()
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    expected = "metrics must be names, functions f(y_true, y_pred), or a dict of them by name"
    if not isinstance(metrics, Iterable):
        raise TypeError(f"{expected}, got {metrics!r}")
    items: list[tuple[object, object]] = (
        list(metrics.items()) if isinstance(metrics, Mapping) else [(None, metric) for metric in metrics]
    )
    usual = default_names(loss)
    found: dict[str, Metric] = {}
    for given, metric in items:
        if not isinstance(metric, str) and (not callable(metric) or isinstance(metric, type)):
            raise TypeError(f"{expected}, got {metric!r}")
        name = _name(given, metric)
        if isinstance(metric, str):
            if metric in usual and name == metric:
                continue
            made = Metric(name, _known(metric, loss))
        else:
            made = Metric(name, metric, own=True, takes_weight=_takes_weight(metric))
        if name in found or name in (*usual, *reserved) or name.startswith("val_"):
            raise ValueError(f"metrics: the name {name!r} is taken{' by the validation rows' if '_' in name else ''}")
        found[name] = made
    return tuple(found.values())


def monitored(monitors: Iterable[object], loss: Loss, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """The metrics, with those that a callback or a schedule watches by a known name on the validation rows."""
    table = _CLASSIFICATION if loss.classifies else _REGRESSION
    for monitor in monitors:
        name = monitor.removeprefix("val_") if isinstance(monitor, str) else ""
        if name != monitor and name in table and name not in (metric.name for metric in metrics):
            metrics = (*metrics, Metric(name, table[name]))
    return metrics


def _name(given: object, metric: object) -> str:
    if given is not None:
        if not isinstance(given, str) or not given.isprintable() or not given:
            raise TypeError(f"metrics: expected names of metrics as str, got {given!r}")
        return given
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"metrics: give {metric!r} a name, as {{'name': function}}")
    return name


def _known(name: str, loss: Loss) -> Function:
    table = _CLASSIFICATION if loss.classifies else _REGRESSION
    if name in table:
        return table[name]
    known = ", ".join((*default_names(loss)[1:], *table))
    if name in KNOWN:
        kind = "regressions" if loss.classifies else "classifiers"
        raise ValueError(f"metrics: {name!r} is for {kind}, got loss {loss.name!r}; there are {known}")
    hint = names.suggestion(name, (*default_names(loss), *table), _OTHERS)
    raise ValueError(f"metrics: unknown name {name!r}; known: {known}{hint}")


def _takes_weight(function: Callable[..., object]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # builtins may have no signature
        return False
