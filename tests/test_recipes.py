"""What a loss and an update rule take: the files of the recipes in csrc/README.md, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "csrc" / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the C sources are not here")


def code(path: Path) -> str:
    """A file without comments, docstrings and other texts of several lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            node.value = ""
    return ast.unparse(tree)


# Where a loss or a rule may be offered in addition: the command line, and other libraries' names for it.
OFFERED = ("src/fastnn/cli/arguments.py", "src/fastnn/names.py")


def naming(pattern: str) -> set[str]:
    """Files of src and csrc whose code has a match, without OFFERED."""
    files = [*ROOT.glob("src/fastnn/**/*.py*"), *ROOT.glob("csrc/[!t]*/*.[ch]")]
    texts = {path: code(path) for path in files if path.suffix in (".py", ".pyx", ".pxd", ".c", ".h")}
    found = {path.relative_to(ROOT).as_posix() for path, text in texts.items() if re.search(pattern, text)}
    return found - set(OFFERED)


def recipe(subject: str) -> set[str]:
    """The files that a recipe lists."""
    listed = README.read_text(encoding="utf-8").partition(f"### {subject}\n")[2].partition("\n### ")[0]
    return set(re.findall(r"^\d\. `([\w./]+)`", listed, flags=re.M))


def test_a_loss_takes_four_files() -> None:
    files = naming("absolute_error|AbsoluteError")  # which has no conversion to scikit-learn
    assert files == recipe("A loss")
    assert len(files) == 4


def test_an_update_rule_takes_five_files() -> None:
    files = naming("adagrad|AdaGrad") - {"src/fastnn/solvers/preconditioning.py"}  # a matrix of the same name
    assert files == recipe("An update rule")
    assert len(files) == 5
