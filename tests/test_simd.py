"""Every instruction set that this machine can run passes the tests of the kernels and of the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn import kernels

HERE = Path(__file__).parent
MARK = "\npytestmark = pytest.mark.every_simd\n"  # in the files whose tests compiled kernels can fail
FILES = [str(file) for file in sorted(HERE.glob("test_*.py")) if MARK in file.read_text(encoding="utf-8")]
OTHERS = [name for name in kernels.simd()["available"] if name != kernels.simd()["active"]]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.skipif("FASTNN_SIMD" in os.environ, reason="this is such a run")
@pytest.mark.parametrize("name", OTHERS)
def test_the_suite_passes_with(name) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FILES],
        env={**os.environ, "FASTNN_SIMD": name},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout


@pytest.mark.parametrize("name", kernels.simd()["available"])
def test_an_instruction_set_can_be_forced(name) -> None:
    run = python("from fastnn import kernels; print(kernels.simd()['active'])", FASTNN_SIMD=name)
    assert run.stdout.strip() == name, run.stderr


def test_an_unknown_instruction_set_is_refused() -> None:
    run = python("import fastnn.kernels", FASTNN_SIMD="mmx")
    assert run.returncode == 1
    expected = f"ImportError: FASTNN_SIMD: expected one of {', '.join(kernels.simd()['available'])} on this machine"
    assert f"{expected}, got 'mmx'" in run.stderr
