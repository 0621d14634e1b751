"""Arrays in files: safetensors and .npz. What a header says is compared with the file before memory is taken."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from .names import listing
from .schema import TEXT, Items, Record, Whole, parse, printable

__all__ = ["MAX_HEADER", "check_expansion", "check_regular", "read_npz", "read_tensors"]
__dir__ = listing(__all__)

#: Bytes of a safetensors header, the limit of that library.
MAX_HEADER = 100_000_000

#: Bytes that a compressed file may expand to, or this times its own size, whichever is more. Zeros compress by 1,000.
MAX_EXPANDED, MAX_RATIO = 1 << 28, 100

DTYPES = {"F32": "<f4", "F64": "<f8"}  # safetensors' names of what networks have

_TENSOR = Record(
    {"dtype": TEXT, "shape": Items(Whole(0, 2**48), maximum=8), "data_offsets": Items(Whole(0, 2**62), 2)},
)
_MAX_TENSORS = 1_000_000


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an OSError for what is there but is no file, such as a device, which might never end."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OSError(f"{os.fspath(path)}: not a regular file")


def check_expansion(path: object, claimed: int, size: int) -> None:
    """Raise a ValueError if a compressed file of this size would take far more memory than it does on disk."""
    if claimed > max(MAX_EXPANDED, MAX_RATIO * size):
        raise ValueError(f"{path}: {size:,} bytes expand to {claimed:,} or more; decompress it first if that is right")


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a safetensors file, which is read as a whole: nothing that happens to it later matters.

    Returns
    -------
    metadata : dict of str
    tensors : dict of ndarray
        float32 and float64, read-only.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not of this format, or has tensors of other types.
    """
    check_regular(path)
    content = path.read_bytes()
    try:
        return _parse_tensors(content)
    except _OtherType as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


class _OtherType(ValueError):
    """A tensor that no network has."""


def _parse_tensors(content: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    if len(content) < 8:
        raise ValueError(f"{len(content)} bytes")
    size = int.from_bytes(content[:8], "little")
    if size > min(MAX_HEADER, len(content) - 8):
        raise ValueError(f"a header of {size} bytes in a file of {len(content)}")
    if content[8:9] != b"{":
        raise ValueError("the header is no object")
    header = parse(content[8 : 8 + size].decode())
    metadata = header.pop("__metadata__", {})
    Record(others=TEXT).check(metadata, "metadata")
    if len(header) > _MAX_TENSORS:
        raise ValueError(f"{len(header)} tensors")
    for name, entry in header.items():
        _TENSOR.check(entry, f"tensor {name!r:.60}")
    tensors, start = {}, 8 + size
    at = start
    if not metadata.keys() & {"fastnn", "fastnn_sweep"}:
        return metadata, {}  # somebody else's, of whatever types
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in DTYPES:
            raise _OtherType(f"tensor {name!r:.60} is of type {entry['dtype']:.20}, expected F32 or F64")
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
        begin, end = (start + offset for offset in entry["data_offsets"])
        if begin != at or end - begin != math.prod(shape) * dtype.itemsize or end > len(content):
            raise ValueError(f"tensor {name!r:.60}: shape {shape} at {entry['data_offsets']}")
        values = np.frombuffer(content, dtype, math.prod(shape), begin)
        tensors[name] = values.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        at = end
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes behind the last tensor")
    return metadata, tensors


# ------------------------------------------------------------------ .npz

#: The header of an array as NumPy writes it, with the fields in any order: nothing in it is evaluated.
_FIELD = r"'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^'\\]{1,16}'|True|False|\((?:\s*\d{1,18}L?\s*,?){0,32}\))"
_HEADER = re.compile(rf"\s*\{{\s*{_FIELD}\s*,\s*{_FIELD}\s*,\s*{_FIELD}\s*,?\s*\}}\s*")


#: What zipfile raises for damaged files, of which some are no ValueErrors.
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, LookupError, OSError),
    *(OverflowError, UnicodeError),
)


def read_npz(path: str, names: Collection[str]) -> dict[str, np.ndarray | None]:
    """Arrays of an .npz by their names in lower case: those of `names`, and None for each other one.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, holds Python objects or records, or expands to far more than its size.
    """
    check_regular(path)
    with open(path, "rb") as raw:
        if raw.read(2) != b"PK":
            raise ValueError(f"{path}: not an .npz file")
        size = os.fstat(raw.fileno()).st_size
        try:
            archive = zipfile.ZipFile(raw)
            members = {entry.filename.removesuffix(".npy").lower(): entry for entry in archive.infolist()}
        except _DAMAGES as error:
            raise ValueError(f"{path}: damaged .npz file: {printable(error)}") from None
        check_expansion(path, sum(members[name].file_size for name in names if name in members), size)
        try:
            return {name: _read_member(archive, entry) if name in names else None for name, entry in members.items()}
        except _DAMAGES as error:
            raise ValueError(f"{path}: damaged .npz file: {printable(error)}") from None
        except ValueError as error:
            raise ValueError(f"{path}: cannot be read as .npz: {error}") from None


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array."""
    name = repr(entry.filename)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(entry) as stream:
        magic = stream.read(8)
        if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
            raise ValueError(f"{name} is no array")
        length_size = 2 if magic[6] == 1 else 4
        length = int.from_bytes(stream.read(length_size), "little")
        if length > 10_000:
            raise ValueError(f"{name} has a header of {length} bytes")
        header = stream.read(length).decode("latin1" if magic[6] < 3 else "utf-8")
        dtype, fortran, shape = _array_header(name, header)
        size = entry.file_size - 8 - length_size - length
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name}: shape {shape} of {dtype} does not fit {size} bytes")
        data = stream.read(size)  # no more than that is decompressed
        if stream.read(1) or len(data) != size:  # the end, where the checksum is compared
            raise ValueError(f"{name} has other than {size} bytes of values")
    values = np.ndarray(shape, dtype, bytearray(data), order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)


def _array_header(name: str, header: str) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """dtype, whether columns come first, and shape."""
    if "'descr': '|O'" in header:
        raise ValueError("holds Python objects")
    if not _HEADER.fullmatch(header):
        raise ValueError(f"{name} has a header that is not understood: {header.strip()!r:.80}")
    kind = re.search(r"'descr'\s*:\s*'([^']*)'", header)
    order = re.search(r"'fortran_order'\s*:\s*(True|False)", header)
    sizes = re.search(r"'shape'\s*:\s*\(([^)]*)\)", header)
    if kind is None or order is None or sizes is None or not re.fullmatch(r"[<>|=]?[biufcSUmMV]\d{1,9}", kind[1]):
        raise ValueError(f"{name} has a header that is not understood: {header.strip()!r:.80}")
    try:
        dtype = np.dtype(kind[1])
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    shape = tuple(int(size.strip().rstrip("L")) for size in sizes[1].split(",") if size.strip())
    return dtype, order[1] == "True", shape
