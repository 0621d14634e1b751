"""The documents: links lead somewhere, quoted code is that of the files, versions agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import fastnn as fnn

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not {"build", ".git", ".github"} & set(path.parts))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUOTED = re.compile(r"From \[[^\]]*\]\(([^)]+)\)[^`]*?:\n\n```\w+\n(.*?)```", re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def lines(text: str) -> list[str]:
    """Lines without indentation."""
    return [line.strip() for line in text.strip().splitlines()]


def quotations() -> list[tuple[str, str]]:
    found = QUOTED.findall((ROOT / "docs" / "adding_an_op.md").read_text(encoding="utf-8"))
    assert len(found) >= 11
    return [(name, part) for name, code in found for part in code.split("\n...\n")]


@pytest.mark.parametrize(("name", "code"), quotations())
def test_quoted_code_is_that_of_the_file(name: str, code: str) -> None:
    quoted, file = lines(code), lines((ROOT / "docs" / name).resolve().read_text(encoding="utf-8"))
    assert any(file[i : i + len(quoted)] == quoted for i in range(len(file))), f"{name} has no longer:\n{code}"


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == fnn.__version__  # type: ignore[index]


def test_lines_of_documents_and_stubs_are_no_longer_than_those_of_code() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md", "*.pyi", "*.pxd"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("no repository")
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    done = subprocess.run([ROOT / "tools" / "line_lengths.py", *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_docstrings_cite_what_readers_can_get() -> None:
    for path in (ROOT / "src").rglob("*.py*"):
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}:
            assert not re.search(r"\b[Ss]eed 00\d|\b[Dd]ocument 00\d", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md", "docs/adding_an_op.md", "docs/theory.md"])
def test_files_that_a_document_names_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:bench|csrc|docs|examples|src|tests|tools)/[\w./]*)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
