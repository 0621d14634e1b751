"""Text tables as files: .csv with commas, .tsv with tabs, each as it is or compressed by gzip (.csv.gz, .tsv.gz)."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from ..array_files import check_expansion, check_regular
from ..files import write_aside

__all__ = ["SUFFIXES", "check_first_line", "is_text_table", "opened", "separator", "write_rows", "written"]

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

#: Bytes and columns of a first line, far beyond any table: pandas would take a hundred times that memory.
MAX_LINE, MAX_COLUMNS = 1 << 24, 1_000_000


def is_text_table(path: str) -> bool:
    """Whether a name is that of a text table, in any letter case."""
    return path.lower().endswith(SUFFIXES)


def separator(path: str) -> str:
    """What separates columns: a tab in a .tsv, else a comma."""
    return "\t" if path.lower().removesuffix(".gz").endswith(".tsv") else ","


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The bytes of a table, decompressed.

    Reading raises ValueError where a compressed file expands to far more than its size, and gzip's errors where it is
    damaged.
    """
    check_regular(path)
    with open(path, "rb") as raw:
        if not path.lower().endswith(".gz"):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unzipped:
            yield io.BufferedReader(_Bounded(path, unzipped, os.fstat(raw.fileno()).st_size), 1 << 16)


class _Bounded(io.RawIOBase):
    """A stream that checks how much it has expanded to."""

    def __init__(self, path: str, stream: gzip.GzipFile, size: int) -> None:
        self.path, self.stream, self.size = path, stream, size
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self.stream.readinto(buffer)
        self.total += count
        check_expansion(self.path, self.total, self.size)
        return count


def check_first_line(path: str) -> None:
    """Raise a ValueError where the first line is too long, or has too many columns."""
    with opened(path) as file:
        line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE or line.count(separator(path).encode()) >= MAX_COLUMNS:
        raise ValueError(
            f"{path}: the first line has more than {MAX_LINE:,} bytes or {MAX_COLUMNS:,} columns: not a table"
        )


def write_rows(file: IO[str], header: Sequence[object], rows: Iterable[Sequence[object]], between: str = ",") -> None:
    """Write a header and rows, quoted where needed."""
    writer = csv.writer(file, delimiter=between, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def written(path: str, header: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to a file, complete or not at all: with tabs to a .tsv, compressed to a .gz, else with commas."""
    text = io.StringIO(newline="")
    write_rows(text, header, rows, separator(path))
    content = text.getvalue().encode()
    with write_aside(path) as temporary:
        # No time of writing: equal tables are equal files.
        temporary.write_bytes(gzip.compress(content, mtime=0) if Path(path).suffix.lower() == ".gz" else content)
