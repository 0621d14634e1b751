"""Run the other scripts of this folder and write one page: tables, figures, and our numbers beside the documents'.

Each script runs in a process of its own, with the options `--output` and, if asked for, `--quick`. One that fails is
reported on the page and in the exit status, and does not stop the rest. The page is one HTML file with its figures
inside.

    pip install ".[examples]"
    python examples/all.py
    python examples/all.py --quick --only document_002 document_004 --output page
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

import fastnn as fnn

FOLDER = Path(__file__).resolve().parent
# Calls main(argv) of a script, and keeps what its function `beside` makes of the result, if it has one.
CHILD = """
import importlib, json, sys
from pathlib import Path
script, kept, *argv = sys.argv[1:]
sys.path.insert(0, str(Path(script).parent))
module = importlib.import_module(Path(script).stem)
found = module.main(argv)
if hasattr(module, "beside"):
    Path(kept).write_text(json.dumps(module.beside(found)), encoding="utf-8")
"""


@dataclass
class Run:
    """A script and what became of it.

    Attributes
    ----------
    path : Path
    title : str
        The first sentence of its docstring.
    status : int or None
        Its exit status; None before it has run.
    seconds : float
    output : str
        What it has printed, and why it failed.
    rows : list
        (where in the document, what, the document's, ours), each as text.
    figures : dict
        PNG files by name, in base64.
    """

    path: Path
    title: str
    status: int | None = None
    seconds: float = 0.0
    output: str = ""
    rows: list[list[str]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the script, without its suffix."""
        return self.path.stem


def scripts(folder: Path) -> list[Run]:
    """All scripts of a folder whose names begin with ``document_``, by name."""
    found = []
    for path in sorted(folder.glob("document_*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
        found.append(Run(path, " ".join(text.split("\n\n")[0].split())))
    return found


def chosen(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """Those with one of the texts in their names.

    Raises
    ------
    ValueError
        If there is none for a text.
    """
    for text in only:
        if not any(text in run.name for run in runs):
            names = ", ".join(run.name for run in runs)
            raise ValueError(f"--only: expected a part of one of the names {names}; got {text!r}")
    return [run for run in runs if not only or any(text in run.name for text in only)]


def execute(run: Run, output: Path, quick: bool) -> None:
    """Run a script; its files go to a folder of its name."""
    folder = output / run.name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "beside.json"
    for old in (kept, *folder.glob("*.png")):
        old.unlink(missing_ok=True)
    argv = ["--output", str(folder), *(["--quick"] if quick else [])]
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", CHILD, str(run.path), str(kept), *argv],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "MPLBACKEND": "Agg"},
        check=False,
    )
    run.seconds = time.perf_counter() - began
    run.status, run.output = ended.returncode, ended.stdout + (ended.stderr if ended.returncode else "")
    if kept.exists():
        run.rows = json.loads(kept.read_text(encoding="utf-8"))
        kept.unlink()
    for path in sorted(folder.glob("*.png")):
        run.figures[path.name] = base64.b64encode(path.read_bytes()).decode("ascii")


def write_page(runs: Sequence[Run], path: Path, quick: bool) -> None:
    """The page of all scripts that have run."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("all.html.jinja").render(
        runs=[run for run in runs if run.status is not None],
        quick=quick,
        version=fnn.__version__,
        python=platform.python_version(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
    )
    path.write_text(page, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> list[Run]:
    """Run the scripts and write the page.

    Returns
    -------
    list of Run
    """
    parser = argparse.ArgumentParser(description="All scripts of this folder, on one page.")
    parser.add_argument("--quick", action="store_true", help="small versions of all scripts, seconds each")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT", help="scripts with one of these in their names"
    )
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the scripts (default: that of this one)")
    options = parser.parse_args(argv)
    try:
        runs = chosen(scripts(options.folder.resolve()), options.only)
    except ValueError as wrong:
        parser.error(str(wrong))
    options.output.mkdir(parents=True, exist_ok=True)
    page = options.output / "all.html"
    with tqdm(runs, unit="script", disable=None) as bar:
        for run in bar:
            bar.set_postfix_str(run.name)
            execute(run, options.output, options.quick)
            write_page(runs, page, options.quick)  # each time: what has been found is not lost
            if run.status:
                bar.write(f"{run.name} failed: {(run.output.strip().splitlines() or ['no message'])[-1]}", sys.stderr)
    failed = [run.name for run in runs if run.status]
    print(f"{len(runs)} scripts in {sum(run.seconds for run in runs):.0f} s, {len(failed)} failed; saved {page}")
    return runs


if __name__ == "__main__":
    sys.exit(any(run.status for run in main()))
