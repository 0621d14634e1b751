"""No module has more than 600 lines, no Python function more than 80 lines of code; a docstring does not count."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES, MAX_CODE = 600, 80
ENDINGS = {".py", ".pyi", ".pyx", ".pxd", ".c", ".h"}
FILES = sorted(path for name in ("src", "csrc", "tests") for path in (ROOT / name).rglob("*") if path.suffix in ENDINGS)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """What can hold a function, nested functions included; expressions cannot."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from statements(child)


def long_functions(text: str) -> list[str]:
    """Functions whose code is too long, with its lines."""
    found = []
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node, clean=False) is not None :]
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            found += [f"{node.name}: {lines}"] if lines > MAX_CODE else []
    return found


def test_no_file_or_function_is_too_long() -> None:
    assert len(FILES) > 100  # they are found at all
    found = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        long = [f"{lines} lines"] if lines > MAX_LINES else []
        if path.suffix == ".py" and lines > MAX_CODE:
            long += long_functions(text)
        if long:
            found[path.relative_to(ROOT).as_posix()] = long
    assert found == {}


def test_long_functions_are_found() -> None:
    def function(lines: int) -> str:
        return 'def f():\n    """Text\n\n    and more."""\n' + "    x = 1\n" * lines

    assert long_functions(function(MAX_CODE)) == []
    assert long_functions(function(MAX_CODE + 1)) == [f"f: {MAX_CODE + 1}"]
    for opening in ("class C:", "try:\n    pass\nexcept OSError:", "match 1:\n  case 1:", "if x:\n    pass\nelse:"):
        inside = textwrap.indent(function(MAX_CODE + 1), "    ")
        assert long_functions(f"{opening}\n{inside}") == [f"f: {MAX_CODE + 1}"], opening
