#!/usr/bin/env python3
"""Print the version, which is written down once, in src/fastnn/_version.py."""

import re
from pathlib import Path

source = Path(__file__).resolve().parent.parent / "src" / "fastnn" / "_version.py"
match = re.search(r'^__version__ = "([^"]+)"$', source.read_text(encoding="utf-8"), re.MULTILINE)
if match is None:
    raise SystemExit(f'{source}: no line __version__ = "..."')
print(match.group(1))
