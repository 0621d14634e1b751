"""Tables and their encoding as a library: what the command line does, without it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastnn as fnn
from fastnn.cli import tables
from fastnn.cli.encoding import Encoding, prepare
from fastnn.cli.tables import Table


def table(y: np.ndarray, **options) -> Table:
    X = np.random.default_rng(0).normal(3.0, 2.0, (len(y), 3))
    return Table("t", X, np.asarray(y), ["a", "b", "c"], "y", **options)


def net_for(found: Encoding) -> fnn.Sequential:
    n_outputs = len(found.classes) if found.classes else 1
    loss = "cross_entropy" if found.classes else "squared_error"
    return fnn.Sequential([fnn.Dense(n_outputs)], input_size=3, loss=loss, backend="reference")


@pytest.mark.parametrize("y", [["no", "yes", "perhaps"] * 10, np.linspace(-3, 7, 30)], ids=["classes", "quantity"])
def test_an_encoding_survives_its_metadata(y) -> None:
    found, _, _ = prepare(table(y))
    metadata = json.loads(json.dumps(found.to_metadata()))
    again = Encoding.from_metadata("file", net_for(found), metadata)
    assert again.to_metadata() == found.to_metadata()
    assert again == found


def test_a_quantity_is_split_and_measured_on_the_training_rows() -> None:
    data = table(np.linspace(-3, 7, 40))
    found, split, why = prepare(data, test_fraction=0.25, seed=3)
    assert (found.task, why) == ("regression", "the target has decimal numbers")
    assert (len(split.X), len(split.X_test)) == (30, 10)
    np.testing.assert_array_equal(np.sort(np.concatenate([split.y, split.y_test])), data.y)
    assert (split.target_mean, split.target_scale) == pytest.approx((split.y.mean(), split.y.std()))


def test_classes_are_split_alike() -> None:
    y = np.repeat(["a", "b", "c"], [50, 30, 20])
    _, split, _ = prepare(table(y), seed=1)
    np.testing.assert_array_equal(np.bincount(split.y_test), [10, 6, 4])
    others = [prepare(table(y), seed=seed)[1] for seed in (1, 2)]
    np.testing.assert_array_equal(others[0].X, split.X)
    assert not np.array_equal(others[1].X, split.X)


def test_scaling_of_earlier_files_is_around_the_network() -> None:
    scaling = {
        "feature_mean": [1.0, 2.0, 3.0],
        "feature_scale": [2.0, 2.0, 2.0],
        "target_mean": 5.0,
        "target_scale": 3.0,
    }
    metadata = {"task": "regression", "target": "y", "features": None, "classes": None, **scaling}
    net = net_for(Encoding("regression", None, None))
    found = Encoding.from_metadata("file", net, metadata)
    np.testing.assert_array_equal(found.inputs(np.array([[3.0, 2.0, 1.0]]), "float64"), [[1.0, 0.0, -1.0]])
    np.testing.assert_array_equal(found.answers(np.array([[2.0]])), [11.0])
    net.theta[...] = 0.0
    r2, rmse = found.scores(net, np.zeros((2, 3)), np.array([2.0, 8.0]), None)
    assert (r2, rmse) == pytest.approx((0.0, 3.0))


def test_a_test_part_is_left_as_it_is() -> None:
    X_test, y_test = np.zeros((4, 3)), np.array(["b", "a", "b", "b"])
    data = table(["a", "b"] * 10, X_test=X_test, y_test=y_test)
    found, split, _ = prepare(data)
    assert found.classes == ["a", "b"]
    assert split.X_test is X_test
    np.testing.assert_array_equal(split.y_test, [1, 0, 1, 1])
    with pytest.raises(ValueError, match="t has its own test part"):
        prepare(data, test_fraction=0.5)


def test_labels_are_text() -> None:
    found, _, _ = prepare(table([1, 2] * 10))
    assert found.classes == ["1", "2"]
    assert list(found.labels(table([2.0, 1.0, 1.5]))) == ["2", "1", "1.5"]


@pytest.mark.parametrize(
    ("values", "task", "why"),
    [
        ([0.0, 1.0], "classification", "the target has 2 different whole numbers"),
        ([-1.0, 0.0, 3.0], "classification", "the target has 3 different whole numbers"),
        ([0, 1], "classification", "the target has 2 different whole numbers"),
        (np.arange(40.0), "regression", "the target has 40 different whole numbers"),
        ([0.0, 1.0, 1.5], "regression", "the target has decimal numbers"),
        ([1e300, 2e300], "classification", "the target has 2 different whole numbers"),
        ([False, True], "classification", "the target is True/False"),
        (["a", "b"], "classification", "the target is text"),
    ],
)
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_task(values, task, why, dtype) -> None:
    y = np.resize(np.asarray(values), 120)
    if dtype is not None and y.dtype == np.float64 and np.abs(y).max() < 1e6:
        y = y.astype(dtype)
    found, _, reason = prepare(table(y))
    assert (found.task, reason) == (task, why)
    if task == "classification" and y.dtype.kind in "iuf":
        assert found.classes == [str(int(value)) for value in sorted(values)]


def test_errors_are_those_of_a_library(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        tables.read(str(tmp_path / "absent.csv"))
    with pytest.raises(IsADirectoryError, match="is a folder"):
        tables.kind(str(tmp_path))
    with pytest.raises(ValueError, match="t: no target"):
        prepare(Table("t", np.ones((3, 2)), None, None))
    with pytest.raises(ValueError, match="only networks saved by fastnn train"):
        Encoding.from_metadata("file", net_for(Encoding("regression", None, None)), {})
