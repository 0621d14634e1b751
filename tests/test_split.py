"""fastnn.datasets.split: sizes, classes, order, kinds of data, bad input."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.datasets import split


def test_each_row_is_in_one_part_with_its_target():
    X, y = np.arange(1000.0).reshape(500, 2), np.arange(500.0)
    parts = split(X, y, (0.5, 0.3, 0.2), seed=3)
    assert [len(part[1]) for part in parts] == [250, 150, 100]
    for rows, targets in parts:
        np.testing.assert_array_equal(rows[:, 0], 2 * targets)
        assert (np.diff(targets) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([part[1] for part in parts])), y)


@pytest.mark.parametrize("kind", [int, str, object, bool])
def test_classes_are_stratified(kind):
    y = (np.arange(1000) % 10 == 0).astype(int)
    labels = np.array([f"c{k}" for k in y], dtype=object if kind is object else None) if kind in (str, object) else None
    targets = labels if labels is not None else y.astype(kind)
    train, dev, test = split(y[:, None], targets)
    assert [len(part[1]) for part in (train, dev, test)] == [800, 100, 100]
    assert [int(part[0].sum()) for part in (train, dev, test)] == [80, 10, 10]


def test_the_first_part_has_every_class():
    y = np.array([0] * 50 + [1])
    train, dev, test = split(np.arange(51.0)[:, None], y, (0.4, 0.3, 0.3))
    assert 1 in train[1]
    assert sum(map(len, (train[1], dev[1], test[1]))) == 51


def test_seeds():
    X, y = fnn.datasets.load_iris()
    first, again, other = (split(X, y, seed=seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    generator = np.random.default_rng(1)
    np.testing.assert_array_equal(split(X, y, seed=generator)[0][0], first)


def test_kinds_of_data():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = fnn.datasets.load_iris()
    plain = split(X, y)
    for made in (sparse.csr_array(X), sparse.coo_matrix(X)):
        np.testing.assert_array_equal(split(made, y)[1][0].toarray(), plain[1][0])
    np.testing.assert_array_equal(split(X.tolist(), y.tolist())[1][0], plain[1][0])
    pd = pytest.importorskip("pandas")
    frame, series = split(pd.DataFrame(X), pd.Series(y))[2]
    np.testing.assert_array_equal(frame.to_numpy(), plain[2][0])
    np.testing.assert_array_equal(series.to_numpy(), plain[2][1])


@pytest.mark.parametrize(
    ("fractions", "text"),
    [
        ((1.0,), "fractions: expected at least two positive numbers whose sum is 1"),
        ((0.5, 0.4), "fractions"),
        ((1.2, -0.2), "fractions"),
        ((0.5, float("nan")), "fractions"),
        ((0.999, 0.001), r"fractions: \(0.999, 0.001\) of 150 rows leave a part empty, with sizes \[150, 0\]"),
    ],
)
def test_bad_fractions(fractions, text):
    with pytest.raises(ValueError, match=text):
        split(*fnn.datasets.load_iris(), fractions)


def test_bad_targets():
    with pytest.raises(ValueError, match=r"y: expected one target for each of the 3 rows of X, got shape \(2,\)"):
        split(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="seed"):
        split(np.ones((3, 2)), [0, 1, 1], seed=-1)
