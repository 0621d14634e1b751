"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import knobs
import numpy as np
import pytest
from other_sets import Runs, one_thread

import fastnn as fnn

# Bytes between the parts of the engine's workspaces, checked after each call; read when the engine is first
# imported.
os.environ.setdefault("FASTNN_RED_ZONE", "64")

hypothesis.settings.register_profile("no deadline", deadline=None)  # other processes take their time
hypothesis.settings.load_profile("no deadline")

BACKENDS = ["compiled", "reference"]
OTHER_SETS = pytest.StashKey[Runs]()


def pytest_configure(config: pytest.Config) -> None:
    """Processes of ``-n`` take one thread for BLAS; Ctrl-C interrupts; what is compiled is kept.

    A shell starts what runs in its background with Ctrl-C ignored, and the tests that send it would wait forever. With
    PYTHONDONTWRITEBYTECODE, each of some hundred processes would compile the package, and pytest all tests.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if getattr(config.option, "numprocesses", None):
        os.environ.update({**one_thread(), **os.environ})
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--compiled-only``, for the runs with other instruction sets."""
    parser.addoption("--compiled-only", action="store_true", help="leave out the tests of NumPy's reference on its own")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two runs with other instruction sets take as long as thousands of tests: workers of ``-n`` share what is left."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The runs with other instruction sets come first with ``-n``; else last, as they run in the background."""
    if config.option.compiled_only:
        items[:] = [item for item in items if not _is_of_the_reference(item)]
    items.sort(key=lambda item: _runs_other_sets(item) != _is_distributed(config))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the runs with other instruction sets that are going to be asked for."""
    names = [item.callspec.params["name"] for item in session.items if _runs_other_sets(item)]
    if names and not session.config.option.collectonly and "FASTNN_SIMD" not in os.environ:
        session.stash[OTHER_SETS] = Runs(names, background=not _is_distributed(session.config))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop them, where nobody waited."""
    if OTHER_SETS in session.stash:
        session.stash[OTHER_SETS].end()


def _is_distributed(config: pytest.Config) -> bool:
    """Whether this is one of the processes of pytest-xdist."""
    return hasattr(config, "workerinput")


def _runs_other_sets(item: pytest.Item) -> bool:
    return "runs_with_other_sets" in getattr(item, "fixturenames", ())


def _is_of_the_reference(item: pytest.Item) -> bool:
    """Whether the test has a backend or a module as a parameter, and it is the reference."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(value is fnn.reference or (isinstance(value, str) and value == "reference") for value in values)


@pytest.fixture
def runs_with_other_sets(request: pytest.FixtureRequest) -> Runs:
    """The runs with other instruction sets."""
    return request.session.stash[OTHER_SETS]


def _has_compiled() -> bool:
    """Whether the compiled engine is part of this installation."""
    return importlib.util.find_spec("fastnn._core.engine") is not None


@pytest.fixture
def compiled() -> None:
    """Skips the test where the compiled engine is not built."""
    if not _has_compiled():
        pytest.skip("the compiled engine is not built")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend; the test runs once with each that is installed."""
    if request.param == "compiled" and not _has_compiled():
        pytest.skip("the compiled engine is not built")
    return request.param


@pytest.fixture
def many_workers(compiled: None) -> Iterator[None]:
    """Any work, however small, is worth a worker."""
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0):
        yield


@pytest.fixture
def own_products(compiled: None) -> Iterator[None]:
    """No product goes to BLAS, which may sum in an order that depends on the number of rows."""
    with knobs.changed(blas_work=np.inf):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Name of a floating type."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20240229)


@pytest.fixture
def iris() -> tuple[np.ndarray, np.ndarray]:
    """The iris data, standardised."""
    X, y = fnn.datasets.load_iris()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@pytest.fixture
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's diabetes data, all of it standardised but the means of X."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_diabetes(return_X_y=True)
    return X / X.std(axis=0), (y - y.mean()) / y.std()


@pytest.fixture
def mnist_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with MNIST's files (or with a sub-folder ``mnist`` of them), also put into FASTNN_DATA; else a skip."""
    given = os.environ.get("FASTNN_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    for place in (folder, folder / "mnist"):
        if any(place.glob("train-images-idx3-ubyte*")):
            monkeypatch.setenv("FASTNN_DATA", str(folder))
            return folder
    pytest.skip(f"no MNIST files in {folder}; set FASTNN_DATA to a folder that has them")


def _numerical_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """Gradient of f at x (1-D float64) by central differences of the fourth order; the error is O(h⁴) + ε/h."""
    gradient = np.empty_like(x)
    for i in range(x.size):
        values = []
        for k in (-2, -1, 1, 2):
            shifted = x.copy()
            shifted[i] += k * h
            values.append(f(shifted))
        gradient[i] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    return gradient


def _complex_step_gradient(f: Callable[[np.ndarray], complex], x: np.ndarray, h: float = 1e-30) -> np.ndarray:
    """Gradient of a real-analytic f at x (1-D float64), Im f(x + i h e) / h: exact to rounding."""
    gradient = np.empty_like(x)
    for i in range(x.size):
        shifted = x.astype(complex)
        shifted[i] += 1j * h
        gradient[i] = f(shifted).imag / h
    return gradient


@pytest.fixture(scope="session")
def numerical_gradient() -> Callable[..., np.ndarray]:
    """Function (f, x) -> gradient of f at x by central differences."""
    return _numerical_gradient


@pytest.fixture(scope="session")
def complex_step_gradient() -> Callable[..., np.ndarray]:
    """Function (f, x) -> gradient of a real-analytic f at x by complex steps."""
    return _complex_step_gradient
