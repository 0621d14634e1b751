"""Pictures of a sweep; matplotlib is imported when they are drawn."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .._typing import Options
from ..checks import check_integer
from ..names import listing
from ..plotting import new_figure, save_figure

if TYPE_CHECKING:
    from .criterion import Criterion

__all__ = ["Sweep", "plot_sweep"]
__dir__ = listing(__all__)


class Sweep(Protocol):
    """What is drawn: a :class:`fastnn.SweepResult`."""

    parameters: list[Options]
    metric: Criterion

    def __len__(self) -> int: ...

    def best(self, n: int) -> list[int]:
        """Numbers of the best members."""
        ...

    @property
    def mean_scores(self) -> np.ndarray: ...

    @property
    def curves(self) -> np.ndarray: ...


def plot_sweep(
    result: Sweep, path: str | os.PathLike[str] | None = None, *, title: str | None = None, n_curves: int = 50
) -> np.ndarray:
    """Draw the curves of a sweep, the score against each parameter, and parallel coordinates.

    Parameters
    ----------
    result : SweepResult
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format.
    title : str, optional
    n_curves : int, default=50
        Number of curves to draw, the best ones first.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no member has a score.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    n_curves = check_integer("n_curves", n_curves)
    best = result.best(len(result) or 1)
    if not best:
        raise ValueError("no member has a score: nothing to plot")

    names = [name for name in dict.fromkeys(name for row in result.parameters for name in row) if _varies(result, name)]
    columns = min(3, max(1, len(names)))
    rows = math.ceil(len(names) / columns)
    heights = [3.2, *[2.6] * rows, *([3.0] if len(names) > 1 else [])]
    figure = new_figure((max(6.4, 3.4 * columns), sum(heights)), path is not None)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    _draw_curves(figure.add_subplot(grid[0, :]), result, best[:n_curves])
    for index, name in enumerate(names):
        _draw_parameter(figure.add_subplot(grid[1 + index // columns, index % columns]), result, best, name)
    if len(names) > 1:
        _draw_coordinates(figure.add_subplot(grid[-1, :]), result, best, names)
    if title is not None:
        figure.suptitle(title)
    if path is not None:
        save_figure(figure, path)
    return np.array(figure.axes)


def _varies(result: Sweep, name: str) -> bool:
    return len({repr(row.get(name)) for row in result.parameters}) > 1


def _places(result: Sweep, name: str) -> tuple[np.ndarray, bool, list[str]]:
    """A parameter of each member on an axis, whether that is a logarithmic one, and names of the places 0, 1, … of
    values that are no numbers."""
    values = [row.get(name) for row in result.parameters]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, np.float64)
        if np.isfinite(numbers).all():
            logarithmic = bool(numbers.min() > 0.0 and numbers.max() > 20.0 * numbers.min())
            return numbers, logarithmic, []
    texts = [str(getattr(value, "__name__", value))[:24] for value in values]
    known = list(dict.fromkeys(texts))
    return np.array([known.index(text) for text in texts], np.float64), False, known


def _draw_curves(axis: Any, result: Sweep, members: list[int]) -> None:
    name = result.metric.name
    try:
        curves = result.curves
    except KeyError:  # estimators have none
        curves = np.empty((len(result), 1, 0))
    if curves.shape[2]:
        epochs = np.arange(1, curves.shape[2] + 1)
        for member in members[::-1]:
            first = member == members[0]
            style = {"color": "#d62728", "linewidth": 2.0, "label": "best"} if first else {"color": "#1f77b4"}
            for fold in range(curves.shape[1]):
                axis.plot(epochs, curves[member, fold], alpha=0.9 if first else 0.25, **style)
                style.pop("label", None)
        axis.set_xlabel("epoch")
        axis.legend()
    else:
        axis.plot(np.arange(1, len(members) + 1), result.mean_scores[members], "o-", color="#1f77b4")
        axis.set_xlabel("rank")
    axis.set_ylabel(name)
    axis.grid(True, alpha=0.3)


def _draw_parameter(axis: Any, result: Sweep, members: list[int], name: str) -> None:
    places, logarithmic, known = _places(result, name)
    axis.plot(places[members], result.mean_scores[members], "o", color="#1f77b4", alpha=0.5, markersize=4)
    axis.plot(places[members[0]], result.mean_scores[members[0]], "o", color="#d62728")
    if logarithmic:
        axis.set_xscale("log")
    if known:
        axis.set_xticks(range(len(known)), known, rotation=30, ha="right")
    axis.set_xlabel(name)
    axis.set_ylabel(result.metric.name)
    axis.grid(True, alpha=0.3)


def _draw_coordinates(axis: Any, result: Sweep, members: list[int], names: list[str]) -> None:
    """A line for each member through its parameters, each scaled to [0, 1], and its score."""
    scaled = []
    for name in names:
        places, logarithmic, _ = _places(result, name)
        scaled.append(_to_unit(np.log(places) if logarithmic else places))
    scores = result.mean_scores
    heights = np.full(len(scores), np.nan)
    heights[members] = _to_unit(scores[members])
    lines = np.stack([*scaled, heights], axis=1)
    strength = heights if result.metric.rises else 1.0 - heights
    for member in members[::-1]:
        first = member == members[0]
        colour = "#d62728" if first else (0.12, 0.47, 0.71, 0.08 + 0.6 * float(strength[member]) ** 3)
        axis.plot(range(len(names) + 1), lines[member], color=colour, linewidth=2.0 if first else 1.0)
    axis.set_xticks(range(len(names) + 1), [*names, result.metric.name])
    axis.set_yticks([0.0, 1.0], ["lowest", "highest"])
    axis.grid(True, axis="x", alpha=0.5)


def _to_unit(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.full(len(values), 0.5) if high == low else (values - low) / (high - low)
