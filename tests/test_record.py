"""What is computed, bit for bit: hashes of short runs, against those in a file, or made twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "record.py"
FILE = Path(__file__).with_name("golden") / "record.json"
SOME = ("*float32, 2", "*float64, 1")  # the tool by itself makes them all


def tool(name: str, file: Path, *runs: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), name, str(file), "--sets", "active", "--runs", *runs]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_results_are_those_of_the_record(compiled: None, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    compared = tool("compare", FILE, *SOME)
    if compared.returncode == 2:  # no record was made on such a machine
        made = tmp_path / "record.json"
        assert tool("make", made, *SOME).returncode == 0
        compared = tool("compare", made, *SOME)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert compared.stdout.startswith("0 of "), compared.stdout


def test_another_result_is_named(compiled: None, tmp_path: Path) -> None:
    made = tmp_path / "record.json"
    assert tool("make", made, "loss h*", "kernels*").returncode == 0
    record = json.loads(made.read_text(encoding="utf-8"))
    ((active, runs),) = record[next(iter(record))].items()
    runs["kernels, float64, 1"] = "0"
    made.write_text(json.dumps(record), encoding="utf-8")
    compared = tool("compare", made, "loss h*", "kernels*")
    assert compared.returncode == 1
    assert compared.stdout.splitlines()[0] == f"{active}, kernels, float64, 1"
    assert compared.stdout.splitlines()[-1].startswith("1 of ")
