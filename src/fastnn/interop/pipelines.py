"""Pipelines of scikit-learn: what their scalers and a ``TableEncoder`` do to columns of numbers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .steps import Affine, is_estimator

if TYPE_CHECKING:
    from ..tables import TableEncoder

__all__ = ["Arithmetic", "TableStep", "affine_steps", "converted", "is_pipeline", "preprocessing_of", "unwrapped"]


class Arithmetic(NamedTuple):
    """x ↦ x ∘ v by columns, rounded to the dtype of x; `operator` is ONNX's name of ∘."""

    operator: str
    values: np.ndarray
    rounded: bool = False  # v is rounded to the dtype of x before


class TableStep(NamedTuple):
    """Columns of numbers as a ``TableEncoder`` encodes them: from float64 to `dtype`.

    z = (x − center) / scale, between −limit and limit, becomes z/√(1 + (z/bound)²); 0 where x is missing or `scale` is
    0.
    """

    columns: np.ndarray  # places in the table
    center: np.ndarray
    scale: np.ndarray
    limit: np.ndarray
    bound: np.ndarray
    indicators: np.ndarray  # places in `columns` of those that have an indicator behind them
    order: np.ndarray  # of the result's columns, in (z, indicators)
    dtype: np.dtype[Any]


Preprocessing = Arithmetic | TableStep


def is_pipeline(model: object) -> bool:
    """Whether it is a Pipeline of scikit-learn, which is not imported for it."""
    sklearn = sys.modules.get("sklearn.pipeline")
    return sklearn is not None and isinstance(model, sklearn.Pipeline)


def unwrapped(model: object) -> tuple[list[tuple[str, Any]], object]:
    """The transformers of a Pipeline (or of a fitted search's best one) by their names, and its last step."""
    model = getattr(model, "best_estimator_", model)
    if not is_pipeline(model):
        return [], model
    *before, (name, last) = model.steps  # type: ignore[attr-defined]
    inner, end = unwrapped(last)
    if not is_estimator(end):
        raise TypeError(f"step {name!r} of the Pipeline: expected an estimator of fastnn, got {type(end).__name__}")
    return _flat(before) + [(f"{name}__{part}", value) for part, value in inner], end


def _flat(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Transformers, those of Pipelines within a Pipeline too."""
    found = []
    for name, transformer in steps:
        if is_pipeline(transformer):
            found += [(f"{name}__{part}", value) for part, value in _flat(transformer.steps)]
        elif transformer is not None and transformer != "passthrough":
            found.append((name, transformer))
    return found


def converted(pipeline: Any, convert: Callable[[object], Any]) -> Any:
    """A copy of a Pipeline whose last step is converted."""
    result = copy.copy(pipeline)
    *before, (name, last) = pipeline.steps
    result.steps = [*copy.deepcopy(before), (name, convert(last))]
    return result


def preprocessing_of(transformers: list[tuple[str, Any]], purpose: str) -> list[Preprocessing]:
    """What transformers do to columns of numbers.

    Raises
    ------
    TypeError, ValueError
        If a transformer is of another kind, or not fitted, or encodes columns that are no numbers; with its step's
        name.
    """
    return [part for name, transformer in transformers for part in _parts(name, transformer, purpose)]


def affine_steps(parts: list[Preprocessing], purpose: str) -> list[Affine]:
    """The same as affine maps.

    Raises
    ------
    ValueError
        If one is not affine.
    """
    found = []
    for part in parts:
        if isinstance(part, TableStep):
            raise ValueError(f"{purpose} has no counterpart of TableEncoder")
        v = part.values.astype(np.float64)
        zero, one = np.zeros_like(v), np.ones_like(v)
        match part.operator:
            case "Sub":
                found.append(Affine(v, one, zero))
            case "Add":
                found.append(Affine(zero, one, v))
            case "Mul":
                found.append(Affine(zero, v, zero))
            case "Div":
                found.append(Affine(zero, 1.0 / v, zero))
            case _:
                raise ValueError(f"{purpose} has no counterpart of a scaler with clip=True")
    return found


def _parts(name: str, transformer: Any, purpose: str) -> list[Preprocessing]:
    from sklearn import preprocessing
    from sklearn.utils.validation import check_is_fitted

    from ..tables import TableEncoder

    known = (
        *(preprocessing.StandardScaler, preprocessing.MinMaxScaler, preprocessing.MaxAbsScaler),
        *(preprocessing.RobustScaler, TableEncoder),
    )
    if type(transformer) not in known:
        raise TypeError(
            f"step {name!r} of the Pipeline: {purpose} takes {', '.join(kind.__name__ for kind in known)}, got "
            f"{type(transformer).__name__}"
        )
    check_is_fitted(transformer)
    if isinstance(transformer, TableEncoder):
        return [_table(name, transformer, purpose)]
    parts: list[Preprocessing] = []

    def add(operator: str, values: Any, rounded: bool = False) -> None:
        if values is not None:
            parts.append(Arithmetic(operator, np.asarray(values), rounded))

    low, high = -1.0, 1.0
    if isinstance(transformer, preprocessing.StandardScaler):
        # Some versions round mean and scale to the dtype of X: then 0.1 − 0.1 is 0.
        probe = preprocessing.StandardScaler().fit([[0.1]]).transform(np.array([[0.1]], np.float32))
        rounded = not probe.any()
        add("Sub", transformer.mean_ if transformer.with_mean else None, rounded)
        add("Div", transformer.scale_ if transformer.with_std else None, rounded)
    elif isinstance(transformer, preprocessing.RobustScaler):
        add("Sub", transformer.center_ if transformer.with_centering else None)
        add("Div", transformer.scale_ if transformer.with_scaling else None)
    elif isinstance(transformer, preprocessing.MinMaxScaler):
        add("Mul", transformer.scale_)
        add("Add", transformer.min_)
        low, high = transformer.feature_range
    else:
        add("Div", transformer.scale_)
    if getattr(transformer, "clip", False):
        add("Max", np.full(transformer.n_features_in_, float(low)), rounded=True)
        add("Min", np.full(transformer.n_features_in_, float(high)), rounded=True)
    return parts


def _table(name: str, encoder: TableEncoder, purpose: str) -> TableStep:
    """A TableEncoder of numbers."""
    from ..tables.encodings import Numeric

    names = getattr(encoder, "feature_names_in_", [f"x{i}" for i in range(encoder.n_features_in_)])
    places = {str(column): place for place, column in enumerate(names)}
    numbers: list[Numeric] = []
    for encoding in encoder.encodings_:
        if not isinstance(encoding, Numeric) or encoding.scaling == "quantile":
            what = "scaled by quantiles" if isinstance(encoding, Numeric) else f"encoded as {type(encoding).__name__}"
            raise ValueError(
                f"step {name!r} of the Pipeline: {purpose} takes columns of numbers from a TableEncoder, got "
                f"{encoding.name!r}, {what}"
            )
        numbers.append(encoding)
    plain = np.array([encoding.scaling == "none" for encoding in numbers])
    indicators = np.flatnonzero([encoding.indicator for encoding in numbers])
    order = np.argsort(np.concatenate([np.arange(len(numbers)), indicators]), kind="stable")
    return TableStep(
        columns=np.array([places[encoding.name] for encoding in numbers], np.int64),
        center=np.array([encoding.center for encoding in numbers]),
        scale=np.where(plain, 1.0, [encoding.scale for encoding in numbers]),
        limit=np.where(plain, np.inf, 1e100),
        bound=np.where([encoding.scaling == "robust" for encoding in numbers], 3.0, np.inf),
        indicators=indicators.astype(np.int64),
        order=order.astype(np.int64),
        dtype=np.dtype(encoder.dtype),
    )
