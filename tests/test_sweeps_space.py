"""Spaces: grids, draws, ranges on logarithmic scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, loguniform, randint, uniform

import fastnn as fnn
from fastnn.sweeps.space import settings_of


def settings(space: Any, n: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    return settings_of(space, n, np.random.default_rng(seed))


def test_a_grid_has_all_combinations_the_last_name_fastest() -> None:
    assert settings({"a": [1, 2], "b": np.array([0.5, 0.25])}) == [
        {"a": 1, "b": 0.5},
        {"a": 1, "b": 0.25},
        {"a": 2, "b": 0.5},
        {"a": 2, "b": 0.25},
    ]
    assert settings({"seed": range(3)}) == [{"seed": 0}, {"seed": 1}, {"seed": 2}]


def test_draws_from_a_grid_do_not_repeat() -> None:
    space = {"a": range(5), "b": range(4)}
    drawn = settings(space, 20)
    assert drawn == settings(space)
    some = settings(space, 12)
    assert len({tuple(row.values()) for row in some}) == 12
    assert some == settings(space, 12)
    assert some != settings(space, 12, seed=1)
    assert settings(space, 100) == settings(space)


def test_draws_from_a_grid_that_is_too_large_to_be_listed() -> None:
    space = {name: range(1000) for name in "abcdefgh"}  # 10^24
    drawn = settings(space, 200)
    assert len({tuple(row.values()) for row in drawn}) == 200
    assert kstest([row["a"] / 1000 for row in drawn], "uniform").pvalue > 1e-3
    with pytest.raises(ValueError, match=r"its grid has 1,000,000,000,000,000,000,000,000 .* draw n of them"):
        settings(space)


def test_draws_from_distributions() -> None:
    space = {"l2": loguniform(1e-6, 1.0), "width": randint(4, 64), "dropout": uniform(0, 0.5), "act": ["relu", "tanh"]}
    drawn = settings(space, 300)
    assert len(drawn) == 300
    assert all(type(row["width"]) is int and type(row["l2"]) is float for row in drawn)
    assert kstest([math.log10(row["l2"]) / 6 + 1 for row in drawn], "uniform").pvalue > 1e-3
    assert {row["act"] for row in drawn} == {"relu", "tanh"}


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    random = np.random.default_rng(0)
    values = np.array([fnn.LogUniform(1e-4, 1e-1).rvs(random_state=random) for _ in range(500)])
    assert kstest((np.log10(values) + 4) / 3, "uniform").pvalue > 1e-3


def test_log_uniform_of_the_complement_is_that_of_the_memory() -> None:
    random = np.random.default_rng(0)
    values = np.array([fnn.LogUniform(0.9, 0.999, complement=True).rvs(random_state=random) for _ in range(500)])
    assert values.min() >= 0.9
    assert values.max() <= 0.999
    assert kstest((np.log10(1 - values) + 3) / 2, "uniform").pvalue > 1e-3


def test_log_uniform_of_integers_has_both_ends() -> None:
    random = np.random.default_rng(0)
    values = [fnn.LogUniform(1, 4, integer=True).rvs(random_state=random) for _ in range(4000)]
    assert {type(value) for value in values} == {int}
    expected = np.diff(np.log([1, 2, 3, 4, 5])) / np.log(5)
    assert np.allclose(np.bincount(values)[1:] / 4000, expected, atol=0.03)


def test_log_uniform_takes_what_scipys_distributions_take() -> None:
    distribution = fnn.LogUniform(1.0, 2.0)
    assert 1.0 <= distribution.rvs(random_state=np.random.RandomState(0)) < 2.0
    assert distribution.rvs(random_state=3) == distribution.rvs(random_state=3)
    assert 1.0 <= distribution.rvs() < 2.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"low": 0.0, "high": 1.0}, ValueError, "low must be a finite number > 0, got 0.0"),
        ({"low": 2.0, "high": 1.0}, ValueError, "high must be > low, got low=2.0 and high=1.0"),
        ({"low": 0.5, "high": 1.0, "complement": True}, ValueError, "high must be a finite number > 0 and < 1"),
        ({"low": 0.5, "high": 3, "integer": True}, TypeError, "low must be an integer >= 1"),
        ({"low": 1, "high": 3, "integer": True, "complement": True}, ValueError, "cannot both be True"),
        ({"low": 1, "high": 3, "integer": 1}, TypeError, "integer must be True or False"),
        ({"low": "1", "high": 3}, TypeError, "low must be a finite number"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fnn.LogUniform(**arguments)


def test_settings_as_they_stand() -> None:
    rows = [{"a": 1}, {"a": 2, "b": [3, 4]}]
    assert settings(rows) == rows
    assert settings(iter(rows)) == rows
    assert settings(rows, 1)[0] in rows
    pandas = pytest.importorskip("pandas")
    found = settings(pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert found == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert type(found[0]["a"]) is int


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ([], ValueError, "space: expected at least one setting, got an empty list"),
        ([{"a": 1}, 3], TypeError, r"space\[1\]: expected a dict of parameters by name, got 3"),
        ({1: [2]}, TypeError, "space: expected names of parameters, got 1"),
        ({"a": "relu"}, TypeError, r"space\['a'\]: expected a list of values .* got 'relu'"),
        ("abc", TypeError, "space must be a dict"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(space: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        settings(space)
