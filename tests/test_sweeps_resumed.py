"""Sweeps in files: saved, loaded, resumed after an interruption and after kill -9, bit for bit."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("safetensors")

X, Y = fnn.datasets.load_iris()[:2]

SPACE = {"width": [2, 9], "learning_rate": [1e-3, 0.05], "epochs": [3, 9]}
RATES = {"learning_rate": np.geomspace(1e-4, 0.1, 9), "width": [4]}


def model(width: int, seed: int) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(width), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dropout(0.2)]
    return fnn.Sequential([*layers, fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=seed)


def assert_same(a: fnn.SweepResult, b: fnn.SweepResult) -> None:
    """All but times is equal in every bit."""
    assert a.to_dict().keys() == b.to_dict().keys()
    for name, column in a.to_dict().items():
        if name != "seconds":
            assert column == b.to_dict()[name], name
    for i, row in enumerate(a.outcomes):
        for k, outcome in enumerate(row):
            other = b.outcomes[i][k]
            assert outcome.series.keys() == other.series.keys()
            for name, values in outcome.series.items():
                assert np.array_equal(values, other.series[name], equal_nan=True), name
            assert (outcome.weights is None) == (other.weights is None)
            if outcome.weights is not None and other.weights is not None:
                assert outcome.weights.theta.tobytes() == other.weights.theta.tobytes()
                assert outcome.weights.state.tobytes() == other.weights.state.tobytes()
    if len(a.folds) > 1:
        assert a.best_network.theta.tobytes() == b.best_network.theta.tobytes()


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    space: list[dict[str, Any]] = [
        {"width": 3, "optimizer": fnn.Adam(fnn.CosineDecay(0.1, 3)), "class_weight": {0: 2.0}},
        {"width": 4, "optimizer": "sgd", "l2": float("1e-3"), "clip_norm": None},
    ]
    result = fnn.sweep(model, space, X, Y, cv=2, epochs=3, patience=2)
    result.save(tmp_path / "s.safetensors")
    loaded = fnn.SweepResult.load(tmp_path / "s.safetensors")
    assert_same(result, loaded)
    assert repr(loaded) == repr(result)
    assert loaded.parameters == space
    assert np.array_equal(loaded.predict_out_of_fold(0, X), result.predict_out_of_fold(0), equal_nan=True)
    with pytest.raises(ValueError, match="X: expected the sweep's rows, which a file does not hold"):
        _ = loaded.out_of_fold
    loaded.save(tmp_path / "t.safetensors")
    assert_same(fnn.SweepResult.load(tmp_path / "t.safetensors"), result)


def test_functions_come_back_as_text(tmp_path: Path) -> None:
    def wide(kind: Any, seed: int) -> fnn.Sequential:
        return model(kind(), seed)

    def three() -> int:
        return 3

    result = fnn.sweep(wide, {"kind": [three]}, X, Y, validation_split=0.3, epochs=1)
    result.save(tmp_path / "s.safetensors")
    assert "three" in fnn.SweepResult.load(tmp_path / "s.safetensors").parameters[0]["kind"]


@pytest.mark.parametrize("damage", ["cut", "flip", "other", "text", "newer"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.safetensors"
    fnn.sweep(model, {"width": [2]}, X, Y, validation_split=0.3, epochs=1).save(path)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-5])
    elif damage == "flip":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "other":
        model(2, 0).save(path)
    elif damage == "text":
        path.write_text("hello")
    else:
        path.write_bytes(data.replace(rb"{\"format\": 1", rb"{\"format\": 9"))
    with pytest.raises(ValueError, match=r"s\.safetensors: "):
        fnn.SweepResult.load(path)


def interrupted_after(n_events: int, **options: Any) -> fnn.SweepResult:
    """A sweep that Ctrl-C ends after some epochs."""
    count = 0

    def callback(event: fnn.SweepEvent) -> None:
        nonlocal count
        count += 1
        if count == n_events:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    return fnn.sweep(model, X=X, y=Y, batch_size=16, callbacks=[callback], **options)


SWEEPS: dict[str, dict[str, Any]] = {
    "grid": {"space": SPACE, "cv": 2},
    "patience": {"space": SPACE, "cv": 2, "patience": 2, "metric": "loss"},
    "halving": {"space": RATES, "cv": 2, "epochs": 9, "halving": 3},
    "hyperband": {"space": RATES, "cv": 2, "epochs": 9, "halving": "hyperband"},
    "optimizers": {
        "space": {"optimizer": [fnn.SGD(fnn.ReduceOnPlateau(0.1, patience=1)), fnn.AdamW()], "width": [3]},
        "cv": 3,
    },
}


@functools.cache
def without_interruption(name: str) -> fnn.SweepResult:
    return fnn.sweep(model, X=X, y=Y, batch_size=16, **SWEEPS[name])


@pytest.mark.parametrize("n_events", [1, 5, 17, 40, 60])
@pytest.mark.parametrize("name", SWEEPS)
def test_a_resumed_sweep_has_the_bits_of_one_without_interruption(tmp_path: Path, n_events: int, name: str) -> None:
    options, whole = SWEEPS[name], without_interruption(name)
    part = interrupted_after(n_events, threads=2, **options)
    if part.stopped:  # else it had ended before the signal came
        assert part.stopped == "interrupted"
        part.save(tmp_path / "s.safetensors")
        loaded = fnn.SweepResult.load(tmp_path / "s.safetensors")
        assert repr(loaded) == repr(part)
    for threads, resume in ((1, part), (2, tmp_path / "s.safetensors")):
        if isinstance(resume, fnn.SweepResult) or part.stopped:
            assert_same(fnn.sweep(model, X=X, y=Y, batch_size=16, threads=threads, resume=resume, **options), whole)


def test_a_sweep_may_be_interrupted_again_and_again() -> None:
    options = SWEEPS["grid"]
    part = interrupted_after(3, **options)
    for _ in range(6):
        part = interrupted_after(7, resume=part, **options)
    resumed = fnn.sweep(model, X=X, y=Y, batch_size=16, resume=part, **options)
    assert_same(resumed, without_interruption("grid"))


def test_another_sweep_is_not_resumed() -> None:
    options: dict[str, Any] = {"space": {"width": [2, 3]}, "cv": 2, "epochs": 2}
    part = fnn.sweep(model, X=X, y=Y, **options)
    for changes, name in [
        ({"space": {"width": [2, 4]}}, "settings"),
        ({"X": X + 1.0}, "data and folds"),
        ({"cv": 3}, "data and folds"),
        ({"batch_size": 3}, "parameters"),
        ({"epochs": 3}, "epochs"),
        ({"seed": 1}, "data and folds"),
        ({"metric": "loss"}, "metric"),
        ({"patience": 3}, "patience"),
    ]:
        with pytest.raises(ValueError, match=f"resume: expected {name} as in the sweep to be resumed"):
            fnn.sweep(model, **{"X": X, "y": Y, **options, **changes}, resume=part)
    broken = interrupted_after(3, space={"width": [2]}, cv=2)
    with pytest.raises(ValueError, match="resume: run 0: the model makes another network than before"):
        fnn.sweep(lambda width, seed: model(width + 1, seed), {"width": [2]}, X, Y, cv=2, batch_size=16, resume=broken)
    with pytest.raises(TypeError, match="resume must be a path, a SweepResult"):
        fnn.sweep(model, X=X, y=Y, **options, resume=3.0)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        fnn.sweep(model, X=X, y=Y, **options, resume="nowhere.safetensors")


def test_a_checkpoint_is_written_at_the_end_and_need_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    options: dict[str, Any] = {"space": {"width": [2, 3]}, "X": X, "y": Y, "cv": 2, "epochs": 2, "checkpoint": path}
    result = fnn.sweep(model, **options, resume=True)
    assert_same(fnn.SweepResult.load(path), result)
    before = path.stat().st_mtime_ns
    again = fnn.sweep(model, **options, resume=True)
    assert_same(again, result)
    assert path.stat().st_mtime_ns >= before
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        fnn.sweep(model, **{**options, "checkpoint": tmp_path / "no" / "s"})


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
import fastnn as fnn
from test_sweeps_resumed import X, Y, killed_model, KILLED_OPTIONS
often = {"checkpoint": sys.argv[1], "checkpoint_seconds": 0.01}
fnn.sweep(killed_model, X=X, y=Y, resume=True, threads=2, **often, **KILLED_OPTIONS)
print("done", flush=True)
"""

KILLED_OPTIONS: dict[str, Any] = {
    "space": {"width": [16, 32], "learning_rate": [1e-3, 1e-2, 0.1]},
    "cv": 3,
    "epochs": 81,
    "batch_size": 1,
    "halving": 3,
}


def killed_model(width: int, seed: int) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(width), fnn.LayerNorm(), fnn.Activation("tanh"), fnn.Dropout(0.2)]
    return fnn.Sequential([*layers, fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=seed)


def killed_after(path: Path, seconds: float) -> bool:
    """Start the sweep in a process, and kill it some time after a checkpoint; whether it had ended by itself."""
    arguments = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)]
    before = path.stat().st_mtime_ns if path.exists() else None
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.005)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        return "done" in process.stdout.read()


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_a_killed_sweep_is_resumed_from_its_checkpoint(tmp_path: Path) -> None:
    whole = fnn.sweep(killed_model, X=X, y=Y, **KILLED_OPTIONS)
    random = np.random.default_rng(int(os.environ.get("FASTNN_KILL_SEED", "0")))
    in_the_middle, rounds = 0, int(os.environ.get("FASTNN_KILLS", "2"))
    for number in range(10 * rounds):
        if in_the_middle and number >= rounds:
            break
        path = tmp_path / f"{number}.safetensors"
        for _ in range(2):
            if killed_after(path, random.uniform(0.0, 0.5)):
                break
            stopped = fnn.SweepResult.load(path).to_dict()["stopped"]
            in_the_middle += any("not finished" in why for why in stopped)
        resumed = fnn.sweep(killed_model, X=X, y=Y, checkpoint=path, resume=True, **KILLED_OPTIONS)
        assert_same(resumed, whole)
    if not in_the_middle:
        pytest.skip("no checkpoint was written before the sweep had ended: the machine is too busy")
