"""The suite's tests of compiled code with other instruction sets: in the background, from the start of the session.

They take another core while the rest of the suite runs, one set after the other; tests/test_simd.py asks for them last.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "\npytestmark = pytest.mark.every_simd\n"  # in the files whose tests compiled code can fail


def files() -> list[str]:
    """The files that are run."""
    return [str(file) for file in sorted(HERE.rglob("test_*.py")) if MARK in file.read_text(encoding="utf-8")]


class Runs:
    """Runs with each of some instruction sets, in a process of their own."""

    def __init__(self, names: list[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastnn-sets-"))
        command = [sys.executable, __file__, str(self._folder), *names]
        self._process = subprocess.Popen(command, cwd=HERE.parent, start_new_session=True)

    def result(self, name: str) -> tuple[int, str]:
        """Exit status and output of the run with one set, when it has ended."""
        ended = self._folder / f"{name}.status"
        while not ended.exists():
            if self._process.poll() is not None and not ended.exists():
                return -1, f"the process of the runs has ended with status {self._process.returncode}"
            time.sleep(0.05)
        return int(ended.read_text()), (self._folder / f"{name}.txt").read_text(encoding="utf-8")

    def end(self) -> None:
        """Stop what still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._folder)


def main(folder: str, *names: str) -> None:
    for name in names:
        with open(Path(folder) / f"{name}.txt", "w", encoding="utf-8") as output:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files()]
            environment = {**os.environ, "FASTNN_SIMD": name}
            done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        aside = Path(folder) / f"{name}.aside"
        aside.write_text(str(done.returncode))
        aside.rename(Path(folder) / f"{name}.status")


if __name__ == "__main__":
    main(*sys.argv[1:])
