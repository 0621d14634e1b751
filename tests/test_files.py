"""Files and packages: values in JSON and back, optional packages. Atomic files are tested where they are written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastnn.files import MissingPackageError, need
from fastnn.schema import decode, encode


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -2.5,
        "größe",
        [1, [2.0, None]],
        {"a": {"b": [1]}},
        math.inf,
        -math.inf,
        np.array([[1, 2], [3, 4]]),
        np.array([0.1, math.inf, -math.inf]),
        np.array([], np.float32),
        np.zeros((2, 0), np.uint8),
        np.array([True, False]),
        np.array(["a", "bc"]),
        np.array(["a", "bc"], dtype=object),
        np.array(7.0),
    ],
    ids=repr,
)
def test_a_value_comes_back_through_json(value) -> None:
    text = json.dumps(encode(value), allow_nan=False)
    back = decode(json.loads(text))
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        assert np.array_equal(back, value)
    else:
        assert back == value


def test_nan_tuples_and_numpy_numbers() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode((1, (2,)))) == [1, [2]]
    back = decode(encode({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}))
    assert back == {"a": 0.5, "b": 3, "c": True}
    assert [type(item) for item in back.values()] == [float, int, bool]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "object is neither what JSON can express nor an array"),
        ({1: 2}, r"keys must be str, got \[1\]"),
        (np.array([1j]), "expected an array of numbers or str, got dtype complex128"),
        (np.array([None, "a"], dtype=object), "expected an array of numbers or str, got dtype object"),
    ],
    ids=["object", "keys", "complex", "objects"],
)
def test_what_json_cannot_express_is_refused(value, message) -> None:
    with pytest.raises(TypeError, match=message):
        encode([value])


@pytest.mark.parametrize("kind", ["O", "V8", "c16", "M8[s]"])
def test_only_arrays_of_numbers_or_text_are_read(kind) -> None:
    with pytest.raises(ValueError, match="expected an array of numbers or str"):
        decode({"__array__": [kind, [1], [1]]})


def test_a_missing_package_is_named_with_what_needs_it() -> None:
    with pytest.raises(MissingPackageError, match=r'counting needs absent: pip install "fastnn\[cli\]"'):
        need("absent.package", "counting")
    with pytest.raises(ImportError, match="fitting needs scikit-learn: pip install scikit-learn"):
        need("sklearn.nothing", "fitting", "scikit-learn")
    assert need("math", "counting") is math
