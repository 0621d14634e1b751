"""Types that many modules share: what the checked entry points accept, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .reference.sparse import SparseRows

__all__ = [
    "JSON",
    "ArrayLike",
    "Batch",
    "BatchSource",
    "ClassWeight",
    "DType",
    "DTypeLike",
    "Data",
    "Options",
    "Rows",
    "Seed",
    "SparseMatrix",
]

DType: TypeAlias = np.dtype

#: A floating dtype as users name it: "float32", "float64", np.float32, np.float64 or a dtype.
DTypeLike: TypeAlias = str | type[np.floating] | DType

#: An object of JSON: what is kept of something in a file or a checkpoint.
JSON: TypeAlias = dict[str, Any]

#: Arguments by name, handed on to a function that checks them.
Options: TypeAlias = dict[str, Any]

#: Source of random numbers; None takes fresh entropy, or continues a generator that exists.
Seed: TypeAlias = int | np.random.Generator | None


#: Weight of each class, by its code or its name, or "balanced".
ClassWeight: TypeAlias = Mapping[int, float] | Mapping[str, float] | str


class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def tocsr(self) -> Any: ...


#: Samples as users give them: an array, a DataFrame of numbers, or a sparse matrix.
Data: TypeAlias = ArrayLike | SparseMatrix | SparseRows

#: Samples after their check: C-contiguous (N, D), or the rows of a sparse matrix.
Rows: TypeAlias = np.ndarray | SparseRows

#: A batch of an iterator: X and y, or X, y and sample_weight.
Batch: TypeAlias = tuple[Data, ArrayLike] | tuple[Data, ArrayLike, ArrayLike]

#: Batches for data larger than memory: something to iterate over, or a function that returns an iterator.
BatchSource: TypeAlias = Iterable[Batch] | Callable[[], Iterable[Batch]]
