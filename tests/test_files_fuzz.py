"""Damaged and forged files for everything that reads files: see tools/fuzz_files.py, which also runs by hand.

FASTNN_FUZZ=seconds of processor time goes on for longer than the suite does, with other files every time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[1] / "tools" / "fuzz_files.py"
SECONDS = float(os.environ.get("FASTNN_FUZZ", 6))


def test_damaged_and_forged_files_are_refused_or_harmless(tmp_path: Path) -> None:
    """In a process of its own: a crash, or more memory than it may have, must not end the suite."""
    seed = str(int.from_bytes(os.urandom(3)))
    command = [
        sys.executable,
        str(TOOL),
        "--seconds",
        str(SECONDS),
        "--seed",
        seed,
        "--keep",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20 * SECONDS + 600, check=False)
    assert ran.returncode == 0, f"seed {seed}\n{ran.stdout}\n{ran.stderr}"
