"""Workers of the engine: the same bits, concurrent calls, forks, the limit of BLAS, and no allocation."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import knobs
import numpy as np
import pytest
import threadpoolctl
from engine_cases import TOLERANCE, chain, problem

import fastnn as fnn
from fastnn._core import threads
from fastnn._core.engine import Plan
from fastnn.linalg import kronecker
from fastnn.plan import UpdateRule
from fastnn.reference.plan import Plan as ReferencePlan

pytestmark = pytest.mark.every_simd


@pytest.mark.usefixtures("many_workers")
def test_the_same_number_of_workers_gives_the_same_bits(rng) -> None:
    sizes = [20, 33, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float32", 1000, rng)
    order = rng.permutation(1000)[None]
    for workers in (1, 2, 3, 4):
        results = []
        for _ in range(3):
            trained, moments = theta.copy(), np.zeros((2, n_parameters), np.float32)
            plan = Plan(ops, n_parameters, "cross_entropy", "float32")
            result = plan.train(
                trained, moments, X, y, order, 32, UpdateRule("adam", 1e-3), 0, clip_norm=0.5, threads=workers
            )
            results.append((trained.tobytes(), moments.tobytes(), result))
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("many_workers")
def test_deterministic_results_do_not_depend_on_the_workers(dtype, rng) -> None:
    sizes = [20, 33, 10]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 1003, rng)
    order = rng.permutation(1003)[None]
    plan, rule = Plan(ops, n_parameters, "cross_entropy", dtype), UpdateRule("adam", 1e-3)
    options = {"clip_norm": 0.5, "l1": 1e-4, "l2": 1e-3, "sample_weight": w}
    results = []
    for workers in (1, 2, 3, 4, 7):
        trained, moments = theta.copy(), np.zeros((2, n_parameters), dtype)
        result = plan.train(trained, moments, X, y, order, 100, rule, 0, threads=workers, deterministic=True, **options)
        loss, gradient = plan.loss_and_gradient(trained, X, y, w, threads=workers, deterministic=True)
        results.append((trained.tobytes(), moments.tobytes(), result, loss, gradient.tobytes()))
    assert all(result == results[0] for result in results)
    expected, moments = theta.copy(), np.zeros((2, n_parameters), dtype)
    ReferencePlan(ops, n_parameters, "cross_entropy", dtype).train(
        expected, moments, X, y, order, 100, rule, 0, **options
    )
    np.testing.assert_allclose(np.frombuffer(results[0][0], dtype), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.usefixtures("many_workers", "own_products")
def test_outputs_of_a_row_do_not_depend_on_its_company(rng) -> None:
    sizes = [19, 70, 3]
    ops, n_parameters = chain(sizes, ["gelu", "linear"])
    theta, X, _, _ = problem(sizes, "squared_error", "float32", 100, rng)
    plan = Plan(ops, n_parameters, "squared_error", "float32")
    together = plan.forward(theta, X)
    np.testing.assert_array_equal(plan.forward(theta, X, 3), together)
    for row in (0, 41, 99):
        np.testing.assert_array_equal(plan.forward(theta, X[row : row + 1])[0], together[row])


@pytest.mark.usefixtures("many_workers")
def test_concurrent_trainings_do_not_disturb_each_other(rng) -> None:
    sizes = [10, 30, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 300, rng)
    plan, rule = Plan(ops, n_parameters, "cross_entropy", "float64"), UpdateRule("adam", 1e-2)
    order = np.stack([rng.permutation(300) for _ in range(20)])
    results = [theta.copy() for _ in range(4)]

    def train(trained):
        plan.train(trained, np.zeros((2, n_parameters)), X, y, order, 16, rule, 0, threads=2)

    runners = [threading.Thread(target=train, args=(trained,)) for trained in results]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    train(alone := theta.copy())
    for trained in results:
        np.testing.assert_array_equal(trained, alone)


def _train_in_child(queue):
    rng = np.random.default_rng(0)
    sizes = [10, 30, 3]
    ops, n_parameters = chain(sizes, ["tanh", "linear"])
    theta, X, y, _ = problem(sizes, "cross_entropy", "float64", 300, rng)
    plan = Plan(ops, n_parameters, "cross_entropy", "float64")
    queue.put(plan.loss_and_gradient(theta, X, y, threads=3)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("many_workers")
def test_workers_come_back_after_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    _train_in_child(queue)
    expected = queue.get()
    child = context.Process(target=_train_in_child, args=(queue,))
    child.start()
    child.join(600)
    assert child.exitcode == 0
    assert queue.get() == expected


@pytest.mark.parametrize("limit", [0, 30, 600])
def test_one_thread_is_one_thread_of_lapack(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Of Newton and K-FAC, at sizes at which SciPy would use all that it has, and whatever `threads` for small ones."""
    monkeypatch.setattr(threads, "SMALL_MATRIX", limit)
    seen: list[int] = []

    def look(*_: object) -> None:
        seen.extend(library.get_num_threads() for library in threads._blas())

    spied = kronecker.damped_inverse
    monkeypatch.setattr("fastnn.training.kfac.damped_inverse", lambda *a: look() or spied(*a))
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        for count, expected in ((1, {1}), (2, {0: {2}, 30: {1, 2}, 600: {1}}[limit])):
            net = fnn.Sequential([fnn.Dense(5, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
            objective = fnn.Objective(net, X, y, threads=count)
            fnn.Newton(max_iter=2).minimize(objective, net.theta, callback=look)
            net.fit(X, y, optimizer=fnn.KFAC(), epochs=1, threads=count)
            assert set(seen) == expected
            seen.clear()


def test_overlapping_holds_restore_the_blas_limit() -> None:
    before = threads.blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with threads.blas_held_to_one_thread():
            inside.set()
            leave.wait(600)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(600)
    with threads.blas_held_to_one_thread():
        assert [library.get_num_threads() for library in threads._blas()] == [1] * len(threads._blas())
        leave.set()
        other.join()
        assert [library.get_num_threads() for library in threads._blas()] == [1] * len(threads._blas())
        assert threads.blas_threads() == before
    assert threads.blas_threads() == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_whether_a_team_pays_changes_no_bit(deterministic: bool) -> None:
    """What workers cost each other is measured, so no result may depend on it."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 64)).astype(np.float32), rng.integers(0, 10, 600)
    found = set()
    for exchange in (0.0, 1e300, 5.0):
        with knobs.changed(exchange=exchange):
            layers = [fnn.Dense(64, "relu"), fnn.Dense(64, "relu"), fnn.Dense(10)]
            net = fnn.Sequential(layers, input_size=64, loss="cross_entropy", seed=0)
            net.fit(X, y, batch_size=250, epochs=3, threads=2, deterministic=deterministic)
            found.add(net.theta.tobytes())
    assert len(found) == 1


COUNTER = """
#include <stddef.h>
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
long fastnn_allocations;
void *malloc(size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { __atomic_add_fetch(&fastnn_allocations, 1, 5); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{ __atomic_add_fetch(&fastnn_allocations, 1, 5); *p = __libc_memalign(a, n); return *p ? 0 : 12; }
"""


COUNTED = """
import ctypes, sys
import numpy as np
from fastnn._core.engine import Plan
from fastnn.plan import OpSpec, UpdateRule

sys.path.insert(0, sys.argv[1])
import knobs

knobs.change(min_work=1.0, shard_rows=1e-6, exchange=0.0)
libc = ctypes.CDLL(None)
count = ctypes.c_long.in_dll(libc, "fastnn_allocations")
before = count.value
libc.free.argtypes, libc.malloc.restype = [ctypes.c_void_p], ctypes.c_void_p
libc.free(libc.malloc(8))
assert count.value > before, "malloc is not counted"
rng = np.random.default_rng(0)
ops = [OpSpec("dense", -1, 8, 16, 0, 128, "gelu"), OpSpec("dense", 0, 16, 3, 144, 192, "linear")]
X, y = rng.standard_normal((400, 8)), rng.integers(0, 3, 400)
plan, rule = Plan(ops, 195, "cross_entropy", "float32"), UpdateRule("adam", 1e-3)
theta, moments = rng.standard_normal(195).astype("f"), np.zeros((2, 195), "f")
for workers in (1, 2):
    counts = []
    for epochs in (1, 1, 1, 40):
        order = np.stack([rng.permutation(400) for _ in range(epochs)])
        before = count.value
        result = plan.train(theta, moments, X, y, order, 8, rule, 0, l2=1e-3, clip_norm=1.0, threads=workers)
        counts.append(count.value - before)
        assert result.steps == 50 * epochs
    print(*counts)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the calls of glibc's malloc")
def test_steps_allocate_nothing(tmp_path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or os.confstr("CS_GNU_LIBC_VERSION") is None:
        pytest.skip("needs a C compiler and glibc")
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", source, "-o", library], check=True)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COUNTED), str(Path(__file__).parent)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [[int(number) for number in line.split()] for line in run.stdout.splitlines()]
    assert len(lines) == 2
    assert lines[0][0] > 0  # of the first call, for the workspace: they are counted
    for _, _, one_epoch, forty_epochs in lines:
        # 1,950 more steps; what differs is the list of the epochs' losses that goes back to Python
        assert forty_epochs - one_epoch < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_while_blas_is_held_leaves_the_child_free() -> None:
    before = threads.blas_threads()
    with threads.blas_held_to_one_thread():
        pid = os.fork()
        if pid == 0:
            limits = {library.get_num_threads() for library in threads._blas()}
            os._exit(0 if threads.blas_threads() == before and max(limits) == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
