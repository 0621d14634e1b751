"""scikit-learn's own tests of its estimators, with fastnn's classes in the place of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from other_sets import one_thread

pytest.importorskip("sklearn")

#: Tests of attributes that are private in scikit-learn.
PRIVATE = ("gradient", "learning_rate_warmstart", "adaptive_learning_rate", "n_iter_no_change", "n_iter_no_change_inf")

FIXTURE = """
import pytest


@pytest.fixture
def global_random_seed():
    return 42
"""

#: LinearRegression(alpha) with the signature of scikit-learn's Ridge.
RIDGE = """
from fastnn import LinearRegression

OTHERS = ("copy_X", "max_iter", "tol", "solver", "positive", "random_state")


class Ridge(LinearRegression):
    _parameter_constraints = LinearRegression._parameter_constraints | dict.fromkeys(OTHERS, "no_validation")

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        copy_X=True,
        max_iter=None,
        tol=1e-4,
        solver="auto",
        positive=False,
        random_state=None,
    ):
        super().__init__(alpha, fit_intercept=fit_intercept)
        self.copy_X, self.max_iter, self.tol = copy_X, max_iter, tol
        self.solver, self.positive, self.random_state = solver, positive, random_state

    def fit(self, X, y, sample_weight=None):
        self.solver_ = self.solver
        return super().fit(X, y, sample_weight)
"""

#: Tests of what Ridge computes with a single alpha, whatever its solver.
NUMERICAL = (
    "ridge_regression",
    "ridge_regression_hstacked_X",
    "ridge_regression_vstacked_X",
    "ridge_regression_unpenalized",
    "ridge_regression_unpenalized_hstacked_X",
    "ridge_regression_unpenalized_vstacked_X",
    "ridge_regression_sample_weights",
    "ridge_intercept",
    "ridge_vs_lstsq",
    "ridge_fit_intercept_sparse",
    "ridge_sample_weight_consistency",
    "regularization_limits_ridge",
    "sparse_design_with_sample_weights",
)


def source_of(package: str, name: str) -> str:
    """A file of scikit-learn's tests."""
    import sklearn

    if tuple(map(int, sklearn.__version__.split(".")[:2])) != (1, 9):
        pytest.skip("the tests of scikit-learn 1.9")
    return Path(sklearn.__file__).parent.joinpath(package, "tests", name).read_text(encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    """pytest's output in a folder, by one process, whose start takes seconds; all tests must pass."""
    (folder / "conftest.py").write_text(FIXTURE)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**one_thread(), **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def write_tests_of_networks(folder: Path) -> None:
    """Those of MLPClassifier and MLPRegressor."""
    source = source_of("neural_network", "test_mlp.py")
    theirs = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
    assert theirs in source
    (folder / "test_mlp.py").write_text(source.replace(theirs, "from fastnn import MLPClassifier, MLPRegressor"))


def write_tests_of_ridge(folder: Path) -> None:
    """Those of Ridge."""
    source = source_of("linear_model", "test_ridge.py")
    ours = "from as_ridge import Ridge\nfrom sklearn.linear_model._ridge import"
    solvers = 'SOLVERS = ["svd", "sparse_cg", "cholesky", "lsqr", "sag", "saga"]'  # of which ours is none
    for theirs, other in (
        ("    Ridge,\n    RidgeClassifier,", "    RidgeClassifier,"),
        ("from sklearn.linear_model._ridge import", ours),
        (solvers, 'SOLVERS = ["svd"]'),
    ):
        assert source.count(theirs) == 1, theirs
        source = source.replace(theirs, other)
    (folder / "test_ridge.py").write_text(source)
    (folder / "as_ridge.py").write_text(RIDGE)


def test_scikit_learns_own_tests(tmp_path) -> None:
    write_tests_of_networks(tmp_path)
    write_tests_of_ridge(tmp_path)
    deselected = (f"--deselect=test_mlp.py::test_{name}" for name in PRIVATE)
    # pytest ends with an error where one of these is not found
    output = run(tmp_path, *deselected, "test_mlp.py", *(f"test_ridge.py::test_{name}" for name in NUMERICAL))
    assert " passed" in output
    assert "5 deselected" in output
