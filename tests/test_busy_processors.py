"""Training with two workers while other programs use the processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

TRAINING = """
import hashlib, os, pathlib, sys, time
import numpy as np
import fastnn as fnn
from fastnn._core import tuning

os.sched_setaffinity(0, map(int, sys.argv[1:]))
tuning.change(exchange=0.0)  # a team, whatever the two cost each other
rng = np.random.default_rng(0)
X, y = rng.normal(size=(4000, 64)), rng.integers(0, 10, 4000)
net = fnn.Sequential([fnn.Dense(100, "relu"), fnn.Dense(10)], input_size=64, loss="cross_entropy", seed=0)
start = time.thread_time()
net.fit(X, y, batch_size=64, epochs=30, threads=2, seed=0)
first = time.thread_time() - start
tasks = [task for task in pathlib.Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
workers = [task for task in tasks if (task / "comm").read_text().strip() == "fastnn"]
times = [int((task / "schedstat").read_text().split()[0]) for task in workers]
print(hashlib.sha256(net.theta.tobytes()).hexdigest(), len(times), max(times) * 1e-9 / first)
"""

NEIGHBOUR = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextmanager
def neighbours(processors: list[str]) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR, processor]) for processor in processors]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors of a process can be set on Linux only")
def test_a_team_that_is_held_up_is_given_up_and_no_bit_changes() -> None:
    processors = [str(processor) for processor in sorted(os.sched_getaffinity(0))[:2]]
    if len(processors) < 2:
        pytest.skip("needs two processors")

    def train() -> tuple[str, float]:
        call = [sys.executable, "-c", TRAINING, *processors]
        bits, workers, share = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
        assert workers == "1"
        return bits, float(share)

    together, _ = train()
    with neighbours(processors):
        alone, share = train()
    assert alone == together
    assert share < 0.5  # of the second worker, in the time of the first, which soon takes all shards


SMALL = """
import os, pathlib
import numpy as np
import fastnn as fnn

rng = np.random.default_rng(0)
X, y = rng.normal(size=(150, 4)), rng.integers(0, 3, 150)
for batch_size in (16, 32, 150):
    for deterministic in (False, True):
        bits = set()
        for threads in (1, 2, 4):
            layers = [fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(3)]
            net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0)
            options = {"threads": threads, "deterministic": deterministic, "validation_split": 0.2}
            net.fit(X, y, batch_size=batch_size, epochs=3, **options)
            net.evaluate(X, y, threads=threads)
            net.loss_and_gradient(X, y, threads=threads)
            bits.add(net.theta.tobytes())
        assert len(bits) == 1
tasks = pathlib.Path("/proc/self/task").iterdir()
print(sum((task / "comm").read_text().strip() == "fastnn" for task in tasks if task.name != str(os.getpid())))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are listed on Linux only")
def test_small_networks_take_one_worker() -> None:
    call = [sys.executable, "-c", SMALL]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout.split() == ["0"]
