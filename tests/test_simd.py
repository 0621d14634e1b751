"""Every instruction set that this machine can run passes the tests of the kernels and of the engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastnn import kernels

OTHERS = [name for name in kernels.simd()["available"] if name != kernels.simd()["active"]]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.skipif("FASTNN_SIMD" in os.environ, reason="this is such a run")
@pytest.mark.parametrize("name", OTHERS)
def test_the_suite_passes_with(name, runs_with_other_sets) -> None:
    status, output = runs_with_other_sets.result(name)
    assert status == 0, output[-4000:]
    assert " passed" in output


@pytest.mark.parametrize("name", kernels.simd()["available"])
def test_an_instruction_set_can_be_forced(name) -> None:
    run = python("from fastnn import kernels; print(kernels.simd()['active'])", FASTNN_SIMD=name)
    assert run.stdout.strip() == name, run.stderr


def test_an_unknown_instruction_set_is_refused() -> None:
    run = python("import fastnn.kernels", FASTNN_SIMD="mmx")
    assert run.returncode == 1
    expected = f"ImportError: FASTNN_SIMD: expected one of {', '.join(kernels.simd()['available'])} on this machine"
    assert f"{expected}, got 'mmx'" in run.stderr
