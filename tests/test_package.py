"""What is installed: every module, stub and data file of the tree, and no source of an extension module."""

from __future__ import annotations

import importlib.resources
import subprocess
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

import pytest

import fastnn

TREE = Path(__file__).resolve().parents[1] / "src" / "fastnn"
SOURCES = {".pyx", ".pxd", ".pxi", ".in", ".c", ".h", ".build"}  # of extension modules: they stay at home


def tree() -> set[str]:
    """Files of the package under version control, or those of an unpacked source distribution."""
    git = subprocess.run(["git", "ls-files", "."], cwd=TREE, capture_output=True, text=True)
    names = git.stdout.splitlines() if git.returncode == 0 else []
    if not names:
        names = [str(path.relative_to(TREE)) for path in TREE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {name.replace("\\", "/") for name in names if (TREE / name).is_file()}


def installed(folder: Traversable, inside: str = "") -> Iterator[str]:
    """Files of the installed package, whether it is copied or editable."""
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from installed(entry, f"{inside}{entry.name}/")
        else:
            yield inside + entry.name


@pytest.fixture(scope="module")
def package() -> set[str]:
    return set(installed(importlib.resources.files("fastnn")))


def test_every_file_of_the_tree_is_installed(package: set[str]) -> None:
    wanted = {name for name in tree() if Path(name).suffix not in SOURCES}
    assert {"__init__.py", "py.typed", "_core/__init__.py", "data/iris.csv"} <= wanted
    assert not wanted - package


@pytest.mark.skipif(Path(fastnn.__file__).parent == TREE, reason="an editable installation reads the tree")
def test_no_source_of_an_extension_module_is_installed(package: set[str]) -> None:
    assert not {name for name in package if Path(name).suffix in SOURCES | {".pyc"}}


def test_every_extension_module_is_installed(package: set[str]) -> None:
    for source in TREE.rglob("*.pyx"):
        assert any(name.startswith(f"_core/{source.stem}.") and name.endswith((".so", ".pyd")) for name in package)
