"""What the losses accept as targets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from fastnn import losses

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def check(loss: str, y: object, n: int, k: int, dtype: np.dtype = F64) -> np.ndarray:
    return losses.get(loss).check_targets(y, n, k, dtype)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_integer_type(kind) -> None:
    y = check("cross_entropy", np.array([2, 0, 1], kind), 3, 3)
    assert y.dtype == np.int64
    assert y.tolist() == [2, 0, 1]


def test_labels_of_other_containers() -> None:
    assert check("cross_entropy", [0, 1], 2, 2).tolist() == [0, 1]
    assert check("cross_entropy", pd.Series([1, 0], index=[5, 9]), 2, 2).tolist() == [1, 0]
    assert check("cross_entropy", np.array([True, False]), 2, 2).tolist() == [1, 0]


def test_label_arrays_are_taken_as_they_are() -> None:
    y = np.array([0, 1, 1])
    assert check("cross_entropy", y, 3, 2) is y
    Y = np.eye(3, dtype=np.float32)
    assert check("cross_entropy", Y, 3, 3, F32) is Y


def test_one_hot_rows_of_any_type() -> None:
    for kind in ("bool", "int64", "float32", "float64"):
        Y = check("cross_entropy", np.eye(3).astype(kind), 3, 3, F32)
        assert Y.dtype == np.float32
        np.testing.assert_array_equal(Y, np.eye(3))


def test_soft_rows_of_single_precision() -> None:
    rng = np.random.default_rng(0)
    soft = rng.dirichlet(np.ones(50), size=20).astype(np.float32)
    np.testing.assert_array_equal(check("cross_entropy", soft, 20, 50, F64), soft)


@pytest.mark.parametrize("y", [np.array([0, 1, 1]), np.array([[0], [1], [1]]), np.array([False, True, True])])
def test_binary_targets(y) -> None:
    Y = check("binary_cross_entropy", y, 3, 1, F32)
    assert Y.dtype == np.float32
    assert Y.tolist() == [[0.0], [1.0], [1.0]]


@pytest.mark.parametrize("y", [[1.5, 2.0], [[1.5], [2.0]], pd.DataFrame({"a": [1.5, 2.0]}), np.array([1.5, 2.0], "f2")])
def test_regression_targets(y) -> None:
    assert check("squared_error", y, 2, 1).tolist() == [[1.5], [2.0]]


@pytest.mark.parametrize(
    ("loss", "y", "n", "k", "error", "message"),
    [
        ("cross_entropy", [0, 3], 2, 3, ValueError, r"y: expected labels in \[0, 3\), got 3 in row 1"),
        ("cross_entropy", [0, -1], 2, 3, ValueError, "got -1 in row 1"),
        ("cross_entropy", np.array([2**63], "u8"), 1, 3, ValueError, "got 9223372036854775808 in row 0"),
        ("cross_entropy", [0.0, 1.0], 2, 3, TypeError, r"y: expected integer labels, .*float64; use y.astype\(int\)"),
        ("cross_entropy", ["a", "b"], 2, 3, TypeError, "y: expected numbers, got dtype <U1; encode class names first"),
        ("cross_entropy", np.array(["a", 1], object), 2, 3, TypeError, "y: expected numbers, got dtype object"),
        ("cross_entropy", [1j, 0], 2, 3, TypeError, "y: expected numbers, got dtype complex128"),
        ("cross_entropy", [[0], [1]], 2, 3, ValueError, r"y: expected labels of shape \(2,\), .* use y.ravel\(\)"),
        ("cross_entropy", np.eye(2), 2, 3, ValueError, r"y: expected shape \(2,\) or \(2, 3\), got \(2, 2\)"),
        ("cross_entropy", [0, 1], 3, 3, ValueError, r"y: expected 3 rows like X, got shape \(2,\)"),
        ("cross_entropy", 1, 3, 3, ValueError, r"y: expected 3 rows like X, got shape \(\)"),
        ("cross_entropy", [[1.0, 0.0], [0.5, 0.4]], 2, 2, ValueError, r"sum to 1, got \[0.5, 0.4\] in row 1"),
        ("cross_entropy", [[1.5, -0.5]], 1, 2, ValueError, ">= 0 and sum to 1"),
        ("cross_entropy", scipy.sparse.eye_array(2), 2, 2, TypeError, r"got a sparse .*; use y.toarray\(\)"),
        ("binary_cross_entropy", [0, 2], 2, 1, ValueError, r"y: expected values in \[0, 1\], got 2 in row 1, column 0"),
        ("binary_cross_entropy", [0, 1], 2, 3, ValueError, r"y: expected shape \(2, 3\), got \(2,\)"),
        (
            "binary_cross_entropy",
            [np.nan, 1],
            2,
            1,
            ValueError,
            "y: expected finite values of float64, got nan in row 0",
        ),
        ("squared_error", [[1, 2]], 1, 1, ValueError, r"y: expected shape \(1, 1\) or \(1,\), got \(1, 2\)"),
        ("squared_error", [1, np.inf], 2, 1, ValueError, "got inf in row 1, column 0"),
    ],
)
def test_bad_targets(loss, y, n, k, error, message) -> None:
    with pytest.raises(error, match=message):
        check(loss, y, n, k)


def test_target_too_large_for_single_precision() -> None:
    with pytest.raises(ValueError, match=r"y: expected finite values of float32, got 1e\+300 in row 1, column 0"):
        check("squared_error", [1.0, 1e300], 2, 1, F32)


def test_unknown_loss() -> None:
    with pytest.raises(ValueError, match="loss: unknown name 'mse'; known: cross_entropy"):
        losses.get("mse")
    with pytest.raises(TypeError, match=r"loss must be a name \(str\), got 3"):
        losses.get(3)
