"""Red zones between the parts of a workspace, over random plans; tools/stress_workspaces.py runs many more."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import knobs
import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "stress_workspaces.py"  # an installation has none


@pytest.mark.skipif(not TOOL.exists(), reason="the tools are not here")
@pytest.mark.parametrize("first", [0, 100, 200])
def test_nothing_is_written_behind_a_part_or_read_before_it_is_set(first, compiled) -> None:
    spec = importlib.util.spec_from_file_location("stress_workspaces", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.stress(100, first) is None


def test_constants_are_restored(compiled) -> None:
    from fastnn._core.tuning import values

    before = values()
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0, red_zone=128):
        assert values() == before | {"min_work": 1.0, "shard_rows": 1e-6, "exchange": 0.0, "red_zone": 128}
        knobs.change(chunk_bytes=1.0)
    assert values() == before
    with pytest.raises(TypeError, match="unknown constants"):
        knobs.change(patience=1.0)


@pytest.mark.parametrize("value", ["abc", "-5", "", "1e3", "9" * 30])
def test_red_zones_of_the_environment_are_checked(value, compiled) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import fastnn._core.tuning"],
        env=os.environ | {"FASTNN_RED_ZONE": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    message = f"FASTNN_RED_ZONE must be a whole number of bytes from 0 to 1048576, got {value!r}"
    assert f"ValueError: {message}" in done.stderr
