"""Options and fixtures of the benchmarks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it out
import rivals


def pytest_addoption(parser):
    """Add the thread count and the dtype of the whole run."""
    parser.addoption(
        "--engine-threads", type=int, default=1, help="threads of every engine (1, the default, pins to one core)"
    )
    parser.addoption("--engine-dtype", choices=("float32", "float64"), default="float32", help="dtype of training")


def pytest_configure(config):
    """Set the process up before any rival is imported."""
    rivals.configure_process(config.getoption("--engine-threads"))


@pytest.fixture(scope="session")
def threads(request):
    """Return the thread count of this run."""
    return request.config.getoption("--engine-threads")
