#!/usr/bin/env python3
"""Record what the public functions compute, bit for bit, and compare it with what they compute now.

::

    tools/record.py make FILE         hashes of some three hundred short runs, into FILE, beside those of other machines
    tools/record.py compare FILE      the same runs now; names those that differ from FILE, and fails
    tools/record.py against REVISION  builds another revision, and compares it with this installation, on this machine

A change that is not meant to change any number keeps all of them. The runs use public names only, so that they can be
made with earlier and later revisions alike. Bits hold for one instruction set, one NumPy, SciPy and BLAS, and one C
compiler, so FILE has a section for each such `machine`; where it has none, `against` is the command to use.

``--sets avx2`` (or ``active``) makes the runs with these instruction sets only, ``--runs 'loss*' '*float64*'`` those
of these names only. Each instruction set has a process of its own, in which BLAS has one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("record_runs")  # a folder that Python runs
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")

Record = dict[str, dict[str, str]]  # instruction set -> run -> hashes of its results


def ask(python: list[str], environment: dict[str, str], *arguments: str) -> Any:
    """What tools/record_runs prints with these arguments, read as JSON."""
    command = [*python, str(RUNS), *arguments]
    # Not in this folder: a source tree must not be imported instead of an installation.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env={**environment, **ONE_THREAD}, cwd=folder, stdout=subprocess.PIPE, check=True
        )
    return json.loads(done.stdout)


def record(
    sets: str,
    patterns: list[str],
    python: list[str] | None = None,
    environment: dict[str, str] | None = None,
    machine: Any = None,
) -> tuple[str, Record]:
    """The machine, and the hashes of all runs, with each of the instruction sets; `machine` if it was asked before."""
    python = python or [sys.executable]
    environment = dict(os.environ) if environment is None else environment
    machine = machine or ask(python, environment, "machine")
    names = machine["available"] if sets == "all" else [machine["active"]] if sets == "active" else sets.split(",")
    hashes = {name: ask(python, {**environment, "FASTNN_SIMD": name}, "hashes", *patterns) for name in names}
    return machine["machine"], hashes


def digest(parts: str) -> str:
    """One hash for those of all results of a run."""
    return hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()


def report(before: Record, after: Record) -> int:
    """Print the runs that differ, and of hashes by result those results; 1 if there are any."""
    lines, compared = [], 0
    for name in before.keys() & after.keys():
        runs = sorted(before[name].keys() & after[name].keys())
        compared += len(runs)
        for run in runs:
            old, new = before[name][run], after[name][run]
            if old != new:
                parts = sorted({part.split("=")[0] for part in {*old.split()} ^ {*new.split()} if "=" in part})
                lines.append(f"{name}, {run}" + (f": {', '.join(parts)}" if parts else ""))
    print("\n".join([*lines, f"{len(lines)} of {compared} runs differ"]))
    return 1 if lines or not compared else 0


def make(file: Path, sets: str, patterns: list[str]) -> int:
    """Write the hashes into the machine's section of a file."""
    machine, hashes = record(sets, patterns)
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    section = known.setdefault(machine, {})
    for name, runs in hashes.items():
        kept = section.get(name, {}) if patterns != ["*"] else {}
        section[name] = kept | {run: digest(parts) for run, parts in runs.items()}
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{file}: {sum(map(len, hashes.values()))} runs of {machine}")
    return 0


def compare(file: Path, sets: str, patterns: list[str]) -> int:
    """Compare with the machine's section of a file; 2 where it has none."""
    known = json.loads(file.read_text(encoding="utf-8"))
    asked = ask([sys.executable], dict(os.environ), "machine")
    machine = asked["machine"]
    if machine not in known:
        print(f"{file} has no section of this machine, {machine}; use: tools/record.py against REVISION")
        return 2
    now = record(sets, patterns, machine=asked)[1]
    return report(known[machine], {s: {run: digest(parts) for run, parts in now[s].items()} for s in now})


def against(revision: str, sets: str, patterns: list[str]) -> int:
    """Build another revision aside, offline, with the build requirements of this environment, and compare with it."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        source, site = Path(folder) / "source", Path(folder) / "site"
        archive = Path(folder) / "source.tar"
        subprocess.run(["git", "-C", root, "archive", "--format=tar", "-o", archive, revision], check=True)
        with tarfile.open(archive) as tar:
            tar.extractall(source, filter="data")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--target", site, source], check=True)
        # A bare environment with this one's packages as plain folders: no .pth file is read, so that an editable
        # installation of fastnn stays out of it.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", Path(folder) / "venv"], check=True)
        packages = [str(site), *(entry for entry in sys.path[1:] if "site-packages" in entry)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages)}
        python = [str(Path(folder) / "venv" / "bin" / "python")]
        before = record(sets, patterns, python, environment)[1]
    return report(before, record(sets, patterns)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--sets", default="all", help="instruction sets: all, active, or names with commas")
    options.add_argument("--runs", nargs="+", default=["*"], help="patterns of the names of the runs")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("make", "file"), ("compare", "file"), ("against", "revision")):
        commands.add_parser(name, parents=[options]).add_argument(what, type=Path if what == "file" else str)
    given = parser.parse_args()
    if given.command == "against":
        return against(given.revision, given.sets, given.runs)
    return (make if given.command == "make" else compare)(given.file, given.sets, given.runs)


if __name__ == "__main__":
    sys.exit(main())
