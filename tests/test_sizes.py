"""No module has more than 600 lines, no Python function more than 80 lines of code; a docstring does not count."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES, MAX_CODE = 600, 80
ENDINGS = {".py", ".pyi", ".pyx", ".pxd", ".c", ".h"}
FILES = sorted(path for name in ("src", "csrc", "tests") for path in (ROOT / name).rglob("*") if path.suffix in ENDINGS)


def long_functions(text: str) -> list[str]:
    """Functions whose code is too long, with its lines."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node, clean=False) is not None :]
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            found += [f"{node.name}: {lines}"] if lines > MAX_CODE else []
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_or_function_is_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    if path.suffix == ".py":
        assert long_functions(text) == []


def test_long_functions_are_found() -> None:
    def function(lines: int) -> str:
        return 'def f():\n    """Text\n\n    and more."""\n' + "    x = 1\n" * lines

    assert long_functions(function(MAX_CODE)) == []
    assert long_functions(function(MAX_CODE + 1)) == [f"f: {MAX_CODE + 1}"]
