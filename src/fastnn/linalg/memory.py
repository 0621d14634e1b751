"""What memory there is, and the refusal of what does not fit in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..checks import check_integer

__all__ = ["available_memory", "check_size"]

#: Bytes of working memory that the functions aim at beyond their result; one row is the least.
WORKSPACE = 64 << 20
#: What results and the arrays of their making take, as a multiple of the results.
OVERHEAD = 1.3


def available_memory() -> int | None:
    """Bytes that this process can allocate without swapping or being stopped; None where the system does not tell.

    The least of the system's available memory, what the control groups of Linux leave, and the limit of the process's
    address space.
    """
    found = [_system(), _control_groups(), _address_space()]
    known = [max(limit, 0) for limit in found if limit is not None]
    return min(known) if known else None


def _system() -> int | None:
    """Memory that is available, else all that the machine has."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_groups(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int | None:
    """What the memory limits of the process's control group and of those above it leave."""
    least: int | None = None
    try:
        lines = Path(proc).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path(mount), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path(mount, "memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = Path(path.lstrip("/"))
        for part in (group, *group.parents):
            try:
                limit, used = (int((root / part / name).read_text(encoding="ascii")) for name in names)
                statistics = (root / part / "memory.stat").read_text(encoding="ascii").split()
            except (OSError, ValueError):  # not there, or "max"
                continue
            numbers = dict(zip(statistics[::2], statistics[1::2], strict=False))
            cache = int(numbers.get("file", numbers.get("cache", 0)))  # is given up for what is asked for
            left = limit - max(used - cache, 0)
            least = left if least is None else min(least, left)
    return least


def _address_space() -> int | None:
    """What RLIMIT_AS leaves."""
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return None


def check_size(
    what: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    max_bytes: object,
    instead: str,
    rows: int = 0,
) -> None:
    """Refuse an array that does not fit in memory, before it is allocated.

    Parameters
    ----------
    what, instead : str
        What makes it, and what to use in its place.
    shape, dtype
        Of the array.
    max_bytes : int or None
        Limit of its size; None is the available memory, in which the arrays of its making have to fit as well.
    rows : int, default=0
        Bytes that are kept of the rows of data besides, because they cannot be taken in parts.

    Raises
    ------
    MemoryError
        With its size in bytes and what to use in its place.
    """
    size = int(dtype.itemsize)
    for length in shape:
        size *= int(length)
    lengths = " x ".join(f"{length:,}" for length in shape)
    array = f"{what}: {lengths} values of {dtype} are {size:,} bytes"
    if max_bytes is not None:
        limit = check_integer("max_bytes", max_bytes)
        if size > limit:
            raise MemoryError(f"{array}, more than the {limit:,} of max_bytes; {instead}")
        return
    available = available_memory()
    need = int(OVERHEAD * size) + WORKSPACE + rows
    if available is None or need <= available:
        return
    if size <= available:
        array += f", {need:,} with working memory"
        if rows:
            array += f" and {rows:,} for all rows at once, as training-mode batch statistics need them"
    raise MemoryError(f"{array}, more than the {available:,} of available memory; {instead}")
