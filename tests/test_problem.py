"""Tables and problems as a library: what the command line does, without it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastnn as fnn
from fastnn import tables
from fastnn.problem import Problem, prepare
from fastnn.tables import Table

pytest.importorskip("sklearn")


def table(y: np.ndarray, **options) -> Table:
    X = np.random.default_rng(0).normal(3.0, 2.0, (len(y), 3))
    return Table("t", X, np.asarray(y), ["a", "b", "c"], "y", **options)


def net_for(found: Problem) -> fnn.Sequential:
    n_outputs = len(found.classes) if found.classes else 1
    loss = "cross_entropy" if found.classes else "squared_error"
    return fnn.Sequential([fnn.Dense(n_outputs)], input_size=3, loss=loss, backend="reference")


@pytest.mark.parametrize("y", [["no", "yes", "perhaps"] * 10, np.linspace(-3, 7, 30)], ids=["classes", "quantity"])
def test_a_problem_survives_its_metadata(y) -> None:
    found, _, _ = prepare(table(y))
    metadata = json.loads(json.dumps(found.to_metadata()))
    again = Problem.from_metadata("file", net_for(found), metadata)
    assert again.to_metadata() == found.to_metadata()
    X = np.ones((2, 3))
    np.testing.assert_array_equal(again.inputs(X, "float64"), found.inputs(X, "float64"))


def test_inputs_and_outputs_are_standardised_on_the_training_rows() -> None:
    data = table(np.linspace(-3, 7, 40))
    found, split, why = prepare(data, test_fraction=0.25, seed=3)
    assert (found.task, why) == ("regression", "the target has decimal numbers")
    assert (len(split.X), len(split.X_test)) == (30, 10)
    Z = found.inputs(split.X, np.float64)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(Z.std(axis=0), 1)
    outputs = found.outputs(split.y)
    np.testing.assert_allclose([outputs.mean(), outputs.std()], [0, 1], atol=1e-13)
    np.testing.assert_allclose(found.answers(outputs[:, None]), split.y)


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
    assert list(found.labels(np.array([2.0, 1.0, 1.5]))) == ["2", "1", "1.5"]


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
        Problem.from_metadata("file", net_for(Problem("regression", None, None)), {})
