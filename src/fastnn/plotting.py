"""Learning curves and spectra, drawn with matplotlib (imported when used; no pyplot: no global state, no display)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .files import write_aside
from .names import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_history", "plot_spectrum"]
__dir__ = listing(__all__)

#: Prefixes of the series in a history, how they are named in the legend and drawn.
_PARTS = {
    "": ("train", "#1f77b4", "-"),
    "val_": ("validation", "#2ca02c", "--"),
    "test_": ("test", "#d62728", "--"),
}
#: The lower panel shows the first of these that the history has.
_SCORES = {"accuracy": "accuracy", "r2": "R²"}


class Series(Protocol):
    """Columns of numbers by name: a :class:`fastnn.History`, or a mapping."""

    def __contains__(self, name: object, /) -> bool: ...

    def __getitem__(self, name: str, /) -> Any: ...


class Density(Protocol):
    """A density of eigenvalues: a :class:`fastnn.curvature.Spectrum`."""

    @property
    def smallest(self) -> float: ...

    @property
    def largest(self) -> float: ...

    @property
    def n_parameters(self) -> int: ...

    def density(self) -> tuple[np.ndarray, np.ndarray]:
        """A grid, and the density on it."""
        ...


def _series(history: Series, name: str) -> list[float] | None:
    """The list `name` of a history as floats; None when it is absent or has no number."""
    if name not in history:
        return None
    numbers = [math.nan if value is None else float(value) for value in history[name]]
    return numbers if any(math.isfinite(number) for number in numbers) else None


def plot_history(
    history: Series,
    path: str | os.PathLike[str] | None = None,
    *,
    ax: Axes | Sequence[Axes] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw loss and accuracy over the epochs.

    Parameters
    ----------
    history : History or mapping
        What `Sequential.fit` returns, or a mapping with lists of one number per epoch. Series that are drawn: ``loss``
        and the score (``accuracy``, else ``r2``), each also with the prefix ``val_`` or ``test_``; ``epoch`` gives
        the horizontal axis, else 1, 2, … does.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    ax : Axes or sequence of Axes, optional
        Where to draw: the first gets the loss, the second the score. Without it a new figure is made.
    title : str, optional
        Title above the first panel.

    Returns
    -------
    matplotlib.figure.Figure
        The figure drawn into.

    Raises
    ------
    ValueError
        If the history has no epochs, or matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    losses = {prefix: values for prefix in _PARTS if (values := _series(history, prefix + "loss"))}
    if not losses:
        raise ValueError("history has no finished epochs: nothing to plot")
    score = next((name for name in _SCORES if any(_series(history, prefix + name) for prefix in _PARTS)), None)
    scores = {prefix: values for prefix in _PARTS if score and (values := _series(history, prefix + score))}
    epochs = _series(history, "epoch")

    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 6.4 if scores else 3.6), layout="constrained")
        axes: list[Any] = list(figure.subplots(2 if scores else 1, 1, sharex=True, squeeze=False)[:, 0])
    else:
        axes = list(ax) if isinstance(ax, Iterable) else [ax]
        if not axes:
            raise ValueError("ax must hold at least one Axes, got none")
        figure = axes[0].figure

    def draw(axis: Any, curves: dict[str, list[float]], label: str) -> None:
        for prefix, values in curves.items():
            name, colour, style = _PARTS[prefix]
            x = epochs if epochs and len(epochs) == len(values) else range(1, len(values) + 1)
            # A single epoch has no line: show the point.
            axis.plot(x, values, style, color=colour, label=name, marker="o" if len(values) == 1 else None)
        axis.set_ylabel(label)
        axis.grid(True, alpha=0.3)
        axis.legend()
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))

    draw(axes[0], losses, "loss")
    flat = [value for values in losses.values() for value in values if math.isfinite(value)]
    if min(flat) > 0 and max(flat) > 30 * min(flat):
        axes[0].set_yscale("log")
        axes[0].set_ylabel("loss (log scale)")
    if scores and len(axes) > 1:
        draw(axes[1], scores, _SCORES[score or ""])
        if score == "accuracy":
            axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1 if scores and len(axes) > 1 else 0].set_xlabel("epoch")
    if title is not None:
        axes[0].set_title(title)
    if path is not None:
        with write_aside(path) as temporary:
            figure.savefig(temporary, format=Path(path).suffix[1:].lower() or "png", dpi=150)
    return figure


def plot_spectrum(
    spectrum: Density,
    path: str | os.PathLike[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the density of eigenvalues, on a logarithmic axis, and the extreme ones.

    Parameters
    ----------
    spectrum : Spectrum
        What :func:`fastnn.curvature.spectrum` returns.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    ax : Axes, optional
        Where to draw. Without it a new figure is made.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        The figure drawn into.

    Raises
    ------
    ValueError
        If matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axis: Any = figure.subplots()
    else:
        axis = ax
        figure = axis.figure
    at, density = spectrum.density()
    axis.plot(at, density, color=_PARTS[""][1], label="density")
    for value, name, colour in (
        (spectrum.smallest, "smallest", _PARTS["val_"][1]),
        (spectrum.largest, "largest", _PARTS["test_"][1]),
    ):
        axis.axvline(value, color=colour, linestyle="--", linewidth=1.0, label=f"{name} {value:.3g}")
    # Most eigenvalues are near 0, and the few large ones are what one looks for.
    axis.set_yscale("log")
    axis.set_ylim(bottom=max(0.1 / spectrum.n_parameters * density.max(), 1e-8 * density.max()))
    axis.set_ylabel("density (log scale)")
    axis.set_xlabel("eigenvalue")
    axis.grid(True, alpha=0.3)
    axis.legend()
    if title is not None:
        axis.set_title(title)
    if path is not None:
        with write_aside(path) as temporary:
            figure.savefig(temporary, format=Path(path).suffix[1:].lower() or "png", dpi=150)
    return figure
