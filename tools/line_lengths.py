#!/usr/bin/env python3
"""Fail on lines beyond 120 columns in files that no other linter measures: documents, stubs, declarations, build files.

Rows of tables in documents cannot be wrapped and may be longer.
"""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

LIMIT = 120
PATTERNS = ["*.md", "*.pyi", "*.pxd", "*.pyx", "*.build", "*.toml", "*.yaml", "*.yml", ".ci/run", "tools/sanitize"]


def columns(line: str) -> int:
    """Width of a line; combining characters, as the dot of a tangent, take no room."""
    return sum(not unicodedata.combining(character) for character in line)


def main(names: list[str]) -> int:
    """Print the lines that are too long in the given files, or in all of them, and return how many there are."""
    if not names:
        listed = subprocess.run(["git", "ls-files", *PATTERNS], capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    found = 0
    for name in names:
        for number, line in enumerate(Path(name).read_text(encoding="utf-8").splitlines(), 1):
            if columns(line) > LIMIT and not (name.endswith(".md") and line.startswith("|")):
                print(f"{name}:{number}: {columns(line)} columns, expected at most {LIMIT}")
                found += 1
    return found


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
