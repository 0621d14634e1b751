"""Whole fits of fastnn's estimators and of scikit-learn's own: one group per task, both in it."""

import estimator_tasks
import pytest

ROUNDS = 3

pytestmark = pytest.mark.filterwarnings(
    "ignore:Benchmark fixture was not used"
)  # said again of every test that has failed


@pytest.fixture(scope="module", params=estimator_tasks.TASKS)
def task(request):
    """Return each task in turn, in the dtype of this run; skip it where its data is missing."""
    try:
        return estimator_tasks.TASKS[request.param](request.config.getoption("--engine-dtype"))
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("engine_name", estimator_tasks.MODULES)
def test_fit(benchmark, task, engine_name, threads):
    """Time a whole ``fit``; that both end at the same weights is checked first."""
    estimator_tasks.check_same_fit(task)
    benchmark.group = f"fit {task.name} {task.X.dtype}, {threads} thread(s)"
    benchmark.extra_info.update(engine=engine_name, threads=threads)
    options = {"n_threads": threads} if engine_name == "fastnn" else {}
    benchmark.pedantic(task.fit, args=(engine_name,), kwargs=options, rounds=ROUNDS, warmup_rounds=1)


def test_scores_over_five_seeds_are_the_same(task):
    """Within the noise of the seeds."""
    estimator_tasks.check_same_scores(task, *(task.scores(engine) for engine in estimator_tasks.MODULES))
