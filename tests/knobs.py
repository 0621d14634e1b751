"""The constants by which compiled code decides, set for a test. No other place of the tests knows where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def values() -> dict[str, Any]:
    """All of them.

    ``worth_a_worker``: work from which a further worker is taken; ``blas_from``: products that go to BLAS;
    ``chunk_bytes``: of the rows of a chunk; ``by_feature_from``, ``by_feature_chunk``, ``by_feature_margin``: when
    narrow networks run by feature; ``zeros_sample``: rows that are looked at, 0 to skip nothing; ``zeros_tiles``:
    heights forward and backward, and how far apart features are, (0, 0, 0) as the sample says; ``stream_from``:
    results that are written past the caches.
    """
    from fastnn._core import curvature, engine

    rows, chunk, margin = engine.by_feature()
    sample, tiles = engine.zeros()
    return {
        "worth_a_worker": engine.worth_a_worker(),
        "blas_from": engine.blas_from(),
        "chunk_bytes": engine.chunk_bytes(),
        "by_feature_from": rows,
        "by_feature_chunk": chunk,
        "by_feature_margin": margin,
        "zeros_sample": sample,
        "zeros_tiles": tiles,
        "stream_from": curvature.stream_from(),
    }


def change(**changes: Any) -> None:
    """Set some of them, inside of :func:`changed`."""
    from fastnn._core import curvature, engine

    new = values() | changes
    if len(new) > len(values()):
        raise TypeError(f"no such constant among {', '.join(changes)}")
    engine.worth_a_worker(new["worth_a_worker"])
    engine.blas_from(new["blas_from"])
    engine.chunk_bytes(new["chunk_bytes"])
    engine.by_feature(new["by_feature_from"], new["by_feature_chunk"], new["by_feature_margin"])
    engine.zeros(new["zeros_sample"], new["zeros_tiles"])
    curvature.stream_from(new["stream_from"])


@contextmanager
def changed(**changes: Any) -> Iterator[None]:
    """Set some of them; all are as before at the end."""
    before = values()
    change(**changes)
    try:
        yield
    finally:
        change(**before)
