"""Whole training epochs: one group per task, every installed engine in it, all doing the same work."""

from dataclasses import replace

import numpy as np
import pytest
import rivals

ROUNDS = 3

pytestmark = pytest.mark.filterwarnings(
    "ignore:Benchmark fixture was not used"
)  # said again of every test that has failed


@pytest.fixture(scope="module", params=rivals.TASKS)
def task(request):
    """Return each task in turn, in the dtype of this run; skip it where its data is missing."""
    try:
        return rivals.TASKS[request.param](dtype=request.config.getoption("--engine-dtype"))
    except OSError as error:
        pytest.skip(str(error))


@pytest.fixture(params=rivals.ENGINES)
def engine_name(request):
    """Return each engine's name in turn; skip those not installed."""
    if request.param not in rivals.available():
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_training_epochs(benchmark, task, engine_name, threads):
    """Time ``epochs_per_call`` epochs; the work is checked first."""
    rivals.check_same_work(task, engine_name, threads)
    engine = rivals.ENGINES[engine_name](task, threads)
    before = rivals.mean_loss(task, engine.parameters())
    benchmark.group = f"train {task.name} {task.X.dtype}, {threads} thread(s), {task.epochs_per_call} epochs"
    benchmark.extra_info.update(engine=engine_name, threads=threads, epochs=task.epochs_per_call)
    benchmark.pedantic(engine.epochs, args=(task.epochs_per_call,), rounds=ROUNDS, warmup_rounds=1)
    assert rivals.mean_loss(task, engine.parameters()) < 0.8 * before


def test_whole_epoch_in_double_agrees(task, engine_name, threads):
    """After a float64 epoch (five, of one batch) in the same order all have the same parameters, to rounding."""
    if engine_name == "fastnn":
        pytest.skip("it is what the others are compared with")
    if engine_name == "scikit-learn":
        pytest.skip("its Adam has its epsilon elsewhere: compared over a few batches only")
    double = replace(task, X=task.X.astype(np.float64))
    theirs = rivals.trained_parameters(double, engine_name, threads)
    ours = rivals.trained_parameters(double, "fastnn", threads)
    assert rivals.difference(double, theirs, ours) < rivals.FLOAT64_TOLERANCE
