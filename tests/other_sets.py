"""The suite's tests of compiled code with other instruction sets, in processes of their own.

They run in the background from the start of the session, one set after the other, while the rest of the suite takes
another core; with pytest-xdist, whose processes take all cores, when tests/test_simd.py asks for them.
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


def one_thread() -> dict[str, str]:
    """Environment of processes that share the cores: BLAS's threads spin, which takes time from the others."""
    return dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


def examples(count: int) -> int:
    """Examples of a property: a third of them in the runs with other sets; FASTNN_EXAMPLES=10 makes ten times as many.

    What is drawn are shapes, layouts and settings, which concern what all sets share more than their arithmetic.
    """
    return max(1, round(count * float(os.environ.get("FASTNN_EXAMPLES", 1))))


class Runs:
    """Runs with each of some instruction sets."""

    def __init__(self, names: list[str], background: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastnn-sets-"))
        self._process: subprocess.Popen[bytes] | None = None
        if background:
            command = [sys.executable, __file__, str(self._folder), *names]
            self._process = subprocess.Popen(command, cwd=HERE.parent, start_new_session=True)

    def result(self, name: str) -> tuple[int, str]:
        """Exit status and output of the run with one set, when it has ended."""
        ended = self._folder / f"{name}.status"
        if self._process is None:
            run(self._folder, name)
        while not ended.exists():
            if self._process is not None and self._process.poll() is not None and not ended.exists():
                return -1, f"the process of the runs has ended with status {self._process.returncode}"
            time.sleep(0.05)
        return int(ended.read_text()), (self._folder / f"{name}.txt").read_text(encoding="utf-8")

    def end(self) -> None:
        """Stop what still runs."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        shutil.rmtree(self._folder)


def run(folder: Path, name: str) -> None:
    """One run: its output goes into the file NAME.txt of a folder, then its exit status into NAME.status."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Not as a process of the session's pytest-xdist.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment = {**one_thread(), "FASTNN_EXAMPLES": "0.33", **environment, "FASTNN_SIMD": name}
    command += ["--compiled-only", *files()]
    with open(folder / f"{name}.txt", "w", encoding="utf-8") as output:
        done = subprocess.run(
            command, cwd=HERE.parent, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    aside = folder / f"{name}.aside"
    aside.write_text(str(done.returncode))
    aside.rename(folder / f"{name}.status")


if __name__ == "__main__":
    for given in sys.argv[2:]:
        run(Path(sys.argv[1]), given)
