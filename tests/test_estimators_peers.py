"""scikit-learn's own tests of its MLPs, with fastnn's classes in the place of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

#: Tests of attributes that are private in scikit-learn.
PRIVATE = ("gradient", "learning_rate_warmstart", "adaptive_learning_rate", "n_iter_no_change", "n_iter_no_change_inf")

FIXTURE = """
import pytest


@pytest.fixture
def global_random_seed():
    return 42
"""


def test_scikit_learns_own_tests(tmp_path) -> None:
    import sklearn
    import sklearn.neural_network.tests as tests

    if tuple(map(int, sklearn.__version__.split(".")[:2])) != (1, 9):
        pytest.skip("the tests of scikit-learn 1.9")
    source = Path(tests.__file__).with_name("test_mlp.py").read_text()
    theirs = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
    assert theirs in source
    (tmp_path / "test_mlp.py").write_text(source.replace(theirs, "from fastnn import MLPClassifier, MLPRegressor"))
    (tmp_path / "conftest.py").write_text(FIXTURE)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    command += [f"--deselect=test_mlp.py::test_{name}" for name in PRIVATE]
    done = subprocess.run([*command, "test_mlp.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "5 deselected" in done.stdout
