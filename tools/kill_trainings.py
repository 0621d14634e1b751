#!/usr/bin/env python3
"""Kill trainings that write checkpoints, at random moments, with SIGKILL, and look at what is left.

    tools/kill_trainings.py [--kills 300] [--seed 0]

Each training has a random network, optimizer, generator and checkpoint; it is killed several times, each time resumed
from its last file, and at last left to finish. After every kill all files must load; at the end parameters, moments,
generators and history must have the bits of a training that was never killed, and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy  # noqa: F401 (imported once, before processes fork)

import fastnn as fnn
import fastnn._core.engine

assert fastnn._core.engine

OPTIMIZERS: list[Any] = [
    fnn.SGD(0.05, momentum=0.9, nesterov=True),
    fnn.AdamW(fnn.WarmUp(fnn.CosineDecay(0.01, 20), 6, per="step")),
    fnn.RMSProp(fnn.ReduceOnPlateau(0.02, 0.5, patience=0)),
    fnn.KFAC(),
]


class Setting(NamedTuple):
    """A training, all of it random."""

    optimizer: Any
    generator: str
    dtype: str
    units: int
    norm: bool
    name: str
    every: int
    epochs: int
    stops: bool

    @classmethod
    def draw(cls, rng: random.Random) -> Setting:
        """One of many."""
        optimizer = rng.choice(OPTIMIZERS)
        return cls(
            optimizer,
            rng.choice(["PCG64", "MT19937", "Philox", "SFC64"]),
            rng.choice(["float32", "float64"]),
            rng.choice([4, 60]) if isinstance(optimizer, fnn.KFAC) else rng.choice([4, 60, 400]),
            not isinstance(optimizer, fnn.KFAC) and rng.random() < 0.5,
            rng.choice(["run.safetensors", "at-{epoch:03d}"]),
            rng.choice([1, 1, 3]),
            rng.choice([6, 12, 25]),
            rng.random() < 0.3,
        )

    def new(self) -> fnn.Sequential:
        """The network before its training."""
        layers: list[Any] = [fnn.Dense(self.units, "tanh"), fnn.Dense(3)]
        if self.norm:
            layers = [fnn.Standardize(), fnn.Dense(self.units), fnn.BatchNorm(), fnn.Activation("relu"), *layers]
            layers.insert(4, fnn.Dropout(0.1))
        seed = np.random.Generator(getattr(np.random, self.generator)(3))
        return fnn.Sequential(layers, input_size=8, loss="cross_entropy", dtype=self.dtype, seed=seed)

    def train(self, net: fnn.Sequential, folder: Path | None, resume: bool) -> None:
        """To its last epoch."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(200, 8))
        y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
        callbacks: list[Any] = [fnn.EarlyStopping(patience=3 if self.stops else 100)]
        if folder is not None:
            callbacks.append(fnn.Checkpoint(folder / self.name, every=self.every))
        options: dict[str, Any] = {"batch_size": 32, "validation_split": 0.2, "l2": 1e-3, "threads": 1}
        net.fit(X, y, optimizer=self.optimizer, epochs=self.epochs, callbacks=callbacks, resume=resume, **options)

    def run(self, folder: Path) -> None:
        """Begin, or go on from the last file."""
        files = sorted(folder.glob("[!.]*"))
        net = fnn.load(files[-1]) if files else self.new()
        self.train(net, folder, bool(files))


def in_child(work: Callable[[], object]) -> int:
    """Process id of a child that does the work and ends with 0."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> None:
    """Until a child has ended well."""
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a child ended with status {status}")


def figures(net: fnn.Sequential) -> list[bytes]:
    """All that must have the same bits."""
    state = net.training_state
    assert state is not None
    history = {name: series for name, series in state.history.to_dict().items() if name != "seconds"}
    parts = [net.theta, net.state, state.moments, np.zeros(0) if state.factors is None else state.factors]
    generators = [generator.bit_generator.state for generator in (net.generator, state.generator)]
    return [*(part.tobytes() for part in parts), repr(history).encode(), repr((generators, state.plateau)).encode()]


def compare(setting: Setting, folder: Path) -> None:
    """Whether the training that was killed has come to the same end as one that was not."""
    whole = setting.new()
    setting.train(whole, None, False)
    expected = figures(whole)
    got = figures(fnn.load(sorted(folder.glob("[!.]*"))[-1]))
    if got != expected:
        raise AssertionError(f"{setting}: other bits in {[i for i in range(6) if got[i] != expected[i]]}")
    hidden = [name for name in os.listdir(folder) if name.startswith(".")]
    if hidden:
        raise AssertionError(f"{setting}: temporary files are left: {hidden}")


def load_all(folder: Path) -> None:
    """Every file but the temporary ones must load."""
    for path in folder.glob("[!.]*"):
        fnn.load(path)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    rng = random.Random(given.seed)
    kills = trainings = temporaries = loaded = 0
    while kills < given.kills:
        setting, folder = Setting.draw(rng), Path(tempfile.mkdtemp())
        start = time.monotonic()
        wait(in_child(lambda folder=folder, setting=setting: setting.run(folder)))
        seconds = time.monotonic() - start
        for path in folder.iterdir():
            path.unlink()
        for _ in range(rng.randint(2, 8)):
            child = in_child(lambda folder=folder, setting=setting: setting.run(folder))
            time.sleep(rng.random() * seconds)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += os.WIFSIGNALED(status)
            temporaries += sum(name.startswith(".") for name in os.listdir(folder))
            loaded += sum(not name.startswith(".") for name in os.listdir(folder))
            wait(in_child(lambda folder=folder: load_all(folder)))
        wait(in_child(lambda folder=folder, setting=setting: setting.run(folder)))
        wait(in_child(lambda folder=folder, setting=setting: compare(setting, folder)))
        trainings += 1
        shutil.rmtree(folder)
    print(
        f"{kills} kills of {trainings} trainings: {loaded} files loaded after them, {temporaries} temporary files seen "
        "and cleared, all trainings came to the bits of those that were not killed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
