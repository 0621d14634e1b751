"""Parameters and fitted attributes of estimators in the metadata of a network's file: written, checked, read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._typing import JSON, Options
from ..descriptions import TRAINING_PARTS, build, describe
from ..generators import restore_generator
from ..layers import Dense
from ..names import listing
from ..optimizers import Optimizer
from ..schedules import Schedule
from ..schema import (
    FLAG,
    NUMBER,
    TEXT,
    VALUE,
    Anything,
    Array,
    Choice,
    Items,
    Maybe,
    OneOf,
    Record,
    Schema,
    Whole,
    decode,
    encode,
)
from ..sequential import Sequential

__all__ = ["LINKS", "describe_estimator", "restore_estimator"]
__dir__ = listing(__all__)

#: `out_activation_` by the loss's inverse link.
LINKS = {"softmax": "softmax", "sigmoid": "logistic", "exp": "exp", "identity": "identity"}

_ESTIMATOR = Record({"estimator": TEXT, "params": Record(others=VALUE), "fitted": Record(others=VALUE)})
_WEIGHTS = Record({"pairs": Items(Items(VALUE, 2))})
_LABEL = OneOf((FLAG, NUMBER, TEXT))
_NUMBERS = Items(NUMBER)


def _fitted_schema(net: Sequential) -> Record:
    """What the fitted attributes of an estimator of this network are."""
    n_classes = max(net.n_outputs, 2)
    required: dict[str, Schema] = {
        "n_features_in_": Whole(net.input_size, net.input_size),
        "n_outputs_": Whole(net.n_outputs, net.n_outputs),
    }
    if net.loss_function.classifies:
        counts = (n_classes,) if net.n_outputs > 1 else (2, 1)
        required["classes_"] = OneOf(tuple(Array("biufUO", (count,)) for count in counts))
        required["_kind"] = Choice(("binary", "multiclass", "multilabel"))
        required["_sparse_labels"] = FLAG
    n_dense = sum(isinstance(layer, Dense) for layer in net.layers)
    return Record(
        required,
        {
            "feature_names_in_": Array("O", (net.input_size,)),
            "n_layers_": Whole(n_dense + 1, n_dense + 1),
            "out_activation_": Choice((LINKS[net.loss_function.inverse_link],)),
            **dict.fromkeys(("n_iter_", "t_", "rank_"), Whole()),
            "loss_": NUMBER,
            **dict.fromkeys(("best_loss_", "best_validation_score_"), Maybe(NUMBER)),
            "loss_curve_": _NUMBERS,
            "validation_scores_": Maybe(_NUMBERS),
            "singular_": Array("f", (None,)),
            "target_mean_": Array("f", (net.n_outputs,)),
            "target_scale_": Array("f", (net.n_outputs,)),
            "_splitter": Record({"bit_generator": TEXT}, others=Anything()),
        },
    )


def describe_estimator(name: str, params: Options, fitted: Mapping[str, object]) -> JSON:
    """Class, parameters and fitted attributes as JSON can express them.

    Raises
    ------
    TypeError
        If a value is neither a number nor str, nor made of them.
    """
    return {
        "estimator": name,
        "params": {key: _encode_parameter(key, value) for key, value in params.items()},
        "fitted": {key: _encode(key, value) for key, value in fitted.items()},
    }


def restore_estimator(data: JSON, net: Sequential, saved: tuple[str, ...]) -> tuple[Options, Options]:
    """Parameters and fitted attributes that `describe_estimator` wrote.

    Raises
    ------
    ValueError, TypeError
        If it did not write them, or they do not fit the network or each other.
    """
    data = {**data, "params": _translated(data.get("params")), "fitted": _translated(data.get("fitted"))}
    _ESTIMATOR.check(data, "estimator")
    fitted = data["fitted"]
    if "solver" in data["params"]:
        missing = {"n_iter_", "t_", "n_layers_", "out_activation_"} - fitted.keys()
        if missing:
            raise ValueError(f"{min(missing)} is missing")
    unknown = fitted.keys() - set(saved)
    if unknown:
        raise ValueError(f"unknown attributes {sorted(unknown)!r:.60}")
    _fitted_schema(net).check(fitted, "")
    several, one = fitted.get("_kind") == "multilabel", net.n_outputs == 1
    if "_kind" in fitted and ((fitted["_kind"] == "binary") != one or (several and net.loss_function.couples_outputs)):
        raise ValueError(f"_kind cannot be {fitted['_kind']!r} with {net.n_outputs} outputs")
    curve = {"best_loss_", "validation_scores_", "best_validation_score_"}
    if "loss_curve_" in fitted and not curve <= fitted.keys():
        raise ValueError("loss_curve_ without what belongs to it")
    if (fitted.get("validation_scores_") is None) != (fitted.get("best_validation_score_") is None):
        raise ValueError("validation_scores_ and best_validation_score_ do not fit each other")
    params = {name: _decode_parameter(name, value) for name, value in data["params"].items()}
    values = {name: decode(value) for name, value in fitted.items() if name != "_splitter"}
    if "_splitter" in fitted:
        values["_splitter"] = np.random.RandomState(restore_generator(fitted["_splitter"], "_splitter").bit_generator)
    return params, values


def _encode_parameter(name: str, value: object) -> Any:
    """A parameter as JSON can express it."""
    if isinstance(value, (Optimizer, Schedule)):
        return {"described": describe(value)}
    if isinstance(value, dict):  # class weights: keys of any type
        return {"pairs": [[_encode(name, key), float(weight)] for key, weight in value.items()]}
    return _encode(name, value.tolist() if isinstance(value, np.ndarray) else value)


def _decode_parameter(name: str, value: Any) -> Any:
    """The inverse of `_encode_parameter`."""
    if isinstance(value, dict):
        if value.keys() == {"described"}:
            return build(value["described"], TRAINING_PARTS)
        if value.keys() == {"pairs"}:
            _WEIGHTS.check(value, name)
            for key, weight in value["pairs"]:
                _LABEL.check(key, f"a class of {name}")
                NUMBER.check(weight, f"a weight of {name}")
            return {decode(key): decode(weight) for key, weight in value["pairs"]}
        if not NUMBER.fits(value):
            raise ValueError(f"{name} cannot be {value!r:.60}")
    if isinstance(value, list):
        Items(Whole(1)).check(value, name)
        return tuple(value)
    return decode(value)


def _encode(name: str, value: object) -> Any:
    try:
        return encode(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def _translated(value: object) -> object:
    """A value of an earlier file, whose arrays and numbers had another form, as `encode` writes it now."""
    if isinstance(value, dict):
        if value.keys() == {"dtype", "items"} and isinstance(value["items"], list):
            items = [_translated(item) for item in value["items"]]
            return {"__array__": [value["dtype"], [len(items)], items]}
        if value.keys() == {"number"}:
            return {"__float__": value["number"]}
        if value.keys() == {"infinite"}:
            return {"__float__": "inf"}
        return {key: _translated(item) for key, item in value.items()}
    return [_translated(item) for item in value] if isinstance(value, list) else value
