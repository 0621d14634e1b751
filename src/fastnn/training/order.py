"""The order in which epochs visit the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["RowOrder"]


class RowOrder:
    """Row indices of epoch after epoch: a new permutation for each, or the rows as they stand.

    Parameters
    ----------
    n_rows : int
        Rows of an epoch.
    rows : ndarray of int64 (n_rows,) or None
        Which they are; None for 0, 1, …, n_rows − 1.
    generator : numpy.random.Generator
    kernels : module
        Of the backend; its ``shuffle`` draws as ``Generator.permutation`` does.
    shuffle : bool
    """

    def __init__(
        self, n_rows: int, rows: np.ndarray | None, generator: np.random.Generator, kernels: Any, shuffle: bool
    ) -> None:
        self.n_rows, self.rows, self.generator, self.kernels, self.shuffle = n_rows, rows, generator, kernels, shuffle

    def draw(self, count: int) -> np.ndarray | None:
        """Indices of the next epochs, int64 (count, n_rows); None where they are all rows in their order."""
        if not self.shuffle:
            return None if self.rows is None else np.tile(self.rows, (count, 1))
        order = np.empty((count, self.n_rows), np.int64)
        order[...] = np.arange(self.n_rows) if self.rows is None else self.rows
        for row in order:
            self.kernels.shuffle.unchecked(row, self.generator.bit_generator)
        return order

    def position(self) -> object:
        """Where the drawing stands, for :meth:`go_back`."""
        return self.generator.bit_generator.state

    def go_back(self, position: Any) -> None:
        """Draw the epochs since `position` again."""
        self.generator.bit_generator.state = position
