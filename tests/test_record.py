"""What is computed, bit for bit: hashes of short runs, against those in a file, or made twice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_another_result_is_named(
    compiled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs are made once: the second time the tool is given the answers of the first."""
    spec = importlib.util.spec_from_file_location("record", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers: dict[tuple[str, ...], Any] = {}
    ask = module.ask

    def asked(python: list[str], environment: dict[str, str], *arguments: str) -> Any:
        if arguments not in answers:
            answers[arguments] = ask(python, environment, *arguments)
        return answers[arguments]

    def main(name: str) -> int:
        monkeypatch.setattr(sys, "argv", ["record.py", name, str(made), "--sets", "active", "--runs", *patterns])
        return int(module.main())

    monkeypatch.setattr(module, "ask", asked)
    made, patterns = tmp_path / "record.json", ("loss h*", "kernels*")
    assert main("make") == 0
    record = json.loads(made.read_text(encoding="utf-8"))
    ((active, runs),) = record[next(iter(record))].items()
    runs["kernels, float64, 1"] = "0"
    made.write_text(json.dumps(record), encoding="utf-8")
    capsys.readouterr()
    assert main("compare") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{active}, kernels, float64, 1"
    assert lines[-1] == f"1 of {len(runs)} runs differ"
