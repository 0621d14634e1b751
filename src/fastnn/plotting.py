"""Learning curves, spectra and statistics of layers, drawn with matplotlib, which is imported when used.

Figures that are to be looked at are pyplot's: notebooks show them, scripts with ``plt.show()``. One that only goes to a
file, or into axes that are given, never touches pyplot: no global state, no display.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .files import write_aside
from .names import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "finished",
    *(
        "COLOURS",
        "new_axes",
        "new_figure",
        "plot_histories",
        "plot_history",
        "plot_norms",
        "plot_spectrum",
        "plot_statistics",
    ),
    "save_figure",
]
__dir__ = listing(__all__)

#: Prefixes of the series in a history, how they are named in the legend and drawn.
_PARTS = {
    "": ("train", "#1f77b4", "-"),
    "val_": ("validation", "#2ca02c", "--"),
    "test_": ("test", "#d62728", "--"),
}
#: The second panel shows the first of these that the history has.
_SCORES = {"accuracy": "accuracy", "r2": "R²"}
#: Series that have no panel of their own.
_NOT_METRICS = {"epoch", "loss", *_SCORES, "mse", "mae", "deviance", "learning_rate", "seconds"}
#: Kinds of series that each parameter has one of; see :func:`plot_norms`.
_NORMS = {"gradient_norm": "norm of the gradient", "update_ratio": "‖Δθ‖ / ‖θ‖"}
_NOT_METRICS |= {"gradient_norm", "step", "damping", "evaluations"}


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
) -> np.ndarray:
    """Draw loss, score and metrics over the epochs, or over the iterations of a full-batch solver.

    Parameters
    ----------
    history : History or mapping
        What `Sequential.fit` returns, or a mapping with lists of one number per epoch. Series that are drawn: ``loss``,
        the score (``accuracy``, else ``r2``) and metrics, each also with the prefix ``val_`` or ``test_``; ``epoch``
        gives the horizontal axis, else 1, 2, … does. A dotted line marks the epoch of the smallest ``val_loss``.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    ax : Axes or sequence of Axes, optional
        Where to draw: the first gets the loss, the second the score, further ones the metrics, as far as they go.
        Without it a new figure is made, by pyplot unless it goes to a file.
    title : str, optional
        Title above the first panel.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Those drawn into, from top to bottom; ``axes[0].figure`` is the figure.

    Raises
    ------
    ValueError
        If the history has no epochs, or matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    if not _curves(history, "loss"):
        raise ValueError("history has no finished epochs: nothing to plot")
    score = next((name for name in _SCORES if _curves(history, name)), None)
    panels = ["loss", *([score] if score else []), *_metric_names(history)]

    from matplotlib.ticker import PercentFormatter

    if ax is None:
        axes = new_axes(len(panels), path is not None)
    else:
        axes = list(ax) if isinstance(ax, Iterable) else [ax]
        if not axes:
            raise ValueError("ax must hold at least one Axes, got none")
    best = _best_epoch(history)
    for axis, name in zip(axes, panels, strict=False):
        _draw(axis, history, name, best)
        if name == "accuracy":
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[min(len(axes), len(panels)) - 1].set_xlabel(getattr(history, "unit", "epoch"))
    if title is not None:
        axes[0].set_title(title)
    if path is not None:
        save_figure(axes[0].figure, path)
    drawn = np.empty(len(axes), dtype=object)
    drawn[:] = axes
    return drawn


def _curves(history: Series, name: str) -> dict[str, list[float]]:
    """The series of a name that have numbers, by prefix."""
    return {prefix: values for prefix in _PARTS if (values := _series(history, prefix + name))}


def _metric_names(history: Series) -> list[str]:
    """Further series of rows of the data, without their prefixes."""
    keys = history.keys() if hasattr(history, "keys") else ()
    found = {key.removeprefix("val_").removeprefix("test_") for key in keys if isinstance(key, str)} - _NOT_METRICS
    found = {name for name in found if not name.startswith(tuple(f"{kind}/" for kind in _NORMS))}
    return [name for name in sorted(found) if _curves(history, name)]


def _best_epoch(history: Series) -> float | None:
    """Place on the horizontal axis of the smallest validation loss; None where there is none."""
    losses = _series(history, "val_loss")
    if losses is None:
        return None
    at = int(np.nanargmin(losses))
    epochs = _series(history, "epoch")
    return epochs[at] if epochs and len(epochs) == len(losses) else float(at + 1)


def new_figure(size: tuple[float, float], to_file: bool) -> Any:
    """A new figure of a size in inches; pyplot's unless it only goes to a file."""
    if to_file:
        from matplotlib.figure import Figure

        return Figure(figsize=size, layout="constrained")
    from matplotlib import pyplot

    return pyplot.figure(figsize=size, layout="constrained")


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure to a complete file, in the format that its suffix names, or as PNG."""
    with write_aside(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower() or "png", dpi=150)


def finished(axis: Any, path: str | os.PathLike[str] | None, title: str | None) -> Axes:
    """The axes of a figure of one panel, with its title, saved where that is asked for."""
    if title is not None:
        axis.set_title(title)
    if path is not None:
        save_figure(axis.figure, path)
    axes: Axes = axis
    return axes


def new_axes(n_panels: int, to_file: bool) -> list[Any]:
    """Axes of a new figure, one above the other."""
    figure = new_figure((6.4, 3.6 if n_panels == 1 else 3.2 * n_panels), to_file)
    return list(figure.subplots(n_panels, 1, sharex=True, squeeze=False)[:, 0])


def _draw(axis: Any, history: Series, name: str, best: float | None) -> None:
    """One panel."""
    from matplotlib.ticker import MaxNLocator

    curves, epochs, label = _curves(history, name), _series(history, "epoch"), _SCORES.get(name, name)
    for prefix, values in curves.items():
        part, colour, style = _PARTS[prefix]
        x = epochs if epochs and len(epochs) == len(values) else range(1, len(values) + 1)
        # A single epoch has no line: show the point.
        axis.plot(x, values, style, color=colour, label=part, marker="o" if len(values) == 1 else None)
    if best is not None:
        unit = getattr(history, "unit", "epoch")
        label_of_best = f"smallest validation loss ({unit} {best:g})" if name == "loss" else None
        axis.axvline(best, color="0.4", linestyle=":", linewidth=1.0, label=label_of_best)
    if name == "loss":
        flat = [value for values in curves.values() for value in values if math.isfinite(value)]
        if min(flat) > 0 and max(flat) > 30 * min(flat):
            axis.set_yscale("log")
            label = "loss (log scale)"
    axis.set_ylabel(label)
    axis.grid(True, alpha=0.3)
    axis.legend()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


#: Horizontal axes of :func:`plot_histories`.
AXES = ("epoch", "seconds", "evaluations")
#: Colours that colour-blind readers tell apart (Okabe and Ito 2008), then dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_histories(
    histories: Mapping[str, Any],
    path: str | os.PathLike[str] | None = None,
    *,
    metric: str = "loss",
    x: str = "epoch",
    log: bool | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw one series of several trainings in one figure: training rows as lines, validation rows dashed.

    Parameters
    ----------
    histories : mapping
        By name a history (or a mapping of series), or a list of several of one method, over seeds: then the median is
        drawn, in a band from the lowest to the highest.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    metric : str, default="loss"
        The series; it is drawn with and without ``val_``, as far as the histories have it.
    x : {"epoch", "seconds", "evaluations"}, default="epoch"
        "seconds" is the time since the start, without that of validation; "evaluations" how often the objective or a
        derivative was evaluated on all rows: of mini-batches once an epoch.
    log : bool, optional
        Whether the vertical axis is logarithmic; None: where all values are positive and range over a factor of 30.
    ax : Axes, optional
        Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
        The one drawn into.

    Raises
    ------
    ValueError
        If there is nothing to draw, or an argument is out of range.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    if x not in AXES:
        raise ValueError(f"x must be one of {', '.join(map(repr, AXES))}, got {x!r}")
    curves: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for name, given in histories.items():
        runs: list[Series] = [given] if hasattr(given, "keys") else list(given)
        for prefix in ("", "val_"):
            found = [run for run in runs if _series(run, prefix + metric)]
            if found:
                curves.append((name, prefix, *_aligned(found, prefix + metric, x)))
    if not curves:
        raise ValueError(f"metric: no history has a finished epoch with {metric!r} or 'val_{metric}'")
    axis: Any = new_axes(1, path is not None)[0] if ax is None else ax
    names = list(dict.fromkeys(name for name, *_ in curves))
    for name, prefix, at, values in curves:
        place = names.index(name)
        colour, validation = COLOURS[place % len(COLOURS)], prefix == "val_"
        style = ("--" if validation else "-") if place < len(COLOURS) else (":" if validation else "-.")
        middle = np.nanmedian(values, axis=0)
        lone = any(curve[0] == name and curve[1] != prefix for curve in curves) and validation
        marker = "o" if len(at) == 1 else None
        axis.plot(at, middle, style, color=colour, label=None if lone else name, marker=marker)
        if len(values) > 1:
            axis.fill_between(at, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.15, lw=0)
    flat = np.concatenate([values[np.isfinite(values)] for *_, values in curves])
    if log is None:
        log = metric != "accuracy" and bool(len(flat)) and bool(flat.min() > 0.0 and flat.max() > 30.0 * flat.min())
    if log:
        axis.set_yscale("log")
    both = {prefix for _, prefix, *_ in curves}
    dashes = " (dashed: validation)" if both == {"", "val_"} else " (validation)" if both == {"val_"} else ""
    axis.set_ylabel(metric + dashes)
    axis.set_xlabel("epoch or iteration" if x == "epoch" else x)
    axis.grid(True, alpha=0.3)
    axis.legend()
    return finished(axis, path, title)


def _aligned(runs: Sequence[Series], name: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    """Places on the horizontal axis, and the series of each run there; NaN where a run has none."""
    columns = [np.array(_series(run, name)) for run in runs]
    if x == "seconds":
        places = [np.cumsum(run["seconds"])[: len(column)] for run, column in zip(runs, columns, strict=True)]
    elif x == "evaluations":
        places = [
            np.asarray(run["evaluations"] if "evaluations" in run else range(1, len(column) + 1))[: len(column)]
            for run, column in zip(runs, columns, strict=True)
        ]
    else:
        longest = max(map(len, columns))
        table = np.full((len(runs), longest), np.nan)
        for row, column in zip(table, columns, strict=True):
            row[: len(column)] = column
        return np.arange(1, longest + 1), table
    if len(runs) == 1:
        return np.asarray(places[0], dtype=np.float64), columns[0][None]
    first, last = max(place[0] for place in places), max(place[-1] for place in places)
    grid = np.linspace(first, max(last, first), 400)
    rows = [np.interp(grid, place, column, right=np.nan) for place, column in zip(places, columns, strict=True)]
    return grid, np.array(rows)


def plot_spectrum(
    spectrum: Density,
    path: str | os.PathLike[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the density of eigenvalues, on a logarithmic axis, and the extreme ones.

    Parameters
    ----------
    spectrum : Spectrum
        What :func:`fastnn.curvature.spectrum` returns.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    ax : Axes, optional
        Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes
        Those drawn into.

    Raises
    ------
    ValueError
        If matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    axis: Any = new_axes(1, path is not None)[0] if ax is None else ax
    at, density = spectrum.density()
    axis.plot(at, density, color=_PARTS[""][1], label="density")
    for value, name, colour in (
        (spectrum.smallest, "smallest", _PARTS["val_"][1]),
        (spectrum.largest, "largest", _PARTS["test_"][1]),
    ):
        axis.axvline(value, color=colour, linestyle="--", linewidth=1.0, label=f"{name} {value:.3g}")
    # Most eigenvalues are near 0, and the few large ones are what one looks for.
    axis.set_yscale("log")
    # Both ends are set: between eigenvalues the density is 1e-100 and less, whose margin would be above what is seen.
    peak = density.max()
    axis.set_ylim(max(0.1 / spectrum.n_parameters, 1e-8) * peak, 2.0 * peak)
    axis.set_ylabel("density (log scale)")
    axis.set_xlabel("eigenvalue")
    axis.grid(True, alpha=0.3)
    axis.legend()
    return finished(axis, path, title)


def plot_statistics(
    columns: Mapping[str, Sequence[Any]], path: str | os.PathLike[str] | None = None, *, title: str | None = None
) -> np.ndarray:
    """Draw figures of a network's layers: their outputs, dead and saturated shares, norms.

    Parameters
    ----------
    columns : mapping
        ``net.statistics(X, y).to_dict()``.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    title : str, optional

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Of a new figure, by pyplot unless it goes to a file, one above the other: mean ± deviation of the outputs with
        their extremes, shares in per cent, norms on a logarithmic axis.

    Raises
    ------
    ValueError
        If matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    names = list(columns["layer"])
    at = np.arange(len(names))
    figure: Any = new_figure((max(5.0, 2.0 + 0.7 * len(names)), 8.0), path is not None)
    drawn: np.ndarray = figure.subplots(3, 1, sharex=True)
    outputs, shares, norms = drawn
    values = {name: np.array(column, float) for name, column in columns.items() if name not in ("layer", "activation")}

    outputs.errorbar(at, values["mean"], values["std"], fmt="o", color=COLOURS[0], capsize=4, label="mean ± deviation")
    for name, marker in (("min", "v"), ("max", "^")):
        outputs.plot(at, values[name], marker, color="0.5", markersize=4, label=name)
    outputs.set_ylabel("outputs")

    for name, shift, colour in (("dead", -0.2, COLOURS[1]), ("saturated", 0.2, COLOURS[4])):
        label = "dead units" if name == "dead" else "saturated values"
        shares.bar(at + shift, 100.0 * values[name], 0.4, color=colour, label=label)
    shares.set_ylabel("share in %")
    shares.set_ylim(0.0, max(1.0, 110.0 * np.nan_to_num([values["dead"], values["saturated"]]).max()))

    shown = {"output_norm": "output, by row", "weight_norm": "weight", "delta_norm": "∂ℓ/∂z, by row"}
    shown["gradient_norm"] = "gradient of the parameters"
    for number, (name, label) in enumerate(shown.items()):
        if name in values:
            positive = np.where(values[name] > 0.0, values[name], math.nan)
            kept = np.isfinite(positive)  # a line joins what a layer without parameters would interrupt
            norms.plot(at[kept], positive[kept], "o-", color=COLOURS[number], markersize=4, label=label)
    norms.set(yscale="log", ylabel="norm (log scale)")
    norms.set_xticks(at, names, rotation=30, ha="right")
    for axis in (outputs, shares, norms):
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize="small")
    if title is not None:
        outputs.set_title(title)
    if path is not None:
        save_figure(figure, path)
    return drawn


def plot_norms(
    history: Mapping[str, Sequence[Any]], path: str | os.PathLike[str] | None = None, *, title: str | None = None
) -> np.ndarray:
    """Draw the norms of gradients and the relative updates of all parameters over the epochs.

    Parameters
    ----------
    history : History or mapping
        Of ``net.fit(..., record_norms=True)``.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format (``.png``, ``.pdf``, ``.svg`` …).
    title : str, optional

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        The two panels of a new figure, by pyplot unless it goes to a file, on logarithmic axes: weights are drawn as
        lines, biases dashed, in colours from the first layer to the last.

    Raises
    ------
    ValueError
        If the history has no such series or no epochs, or matplotlib cannot write the format that the suffix names.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    names = [key.split("/", 1)[1] for key in history.keys() if key.startswith("gradient_norm/")]  # noqa: SIM118
    if not names or not len(history[f"gradient_norm/{names[0]}"]):
        raise ValueError("history has no norms: train with record_norms=True")
    layers = list(dict.fromkeys(name.split(".")[0] for name in names))
    figure: Any = new_figure((7.0, 7.0), path is not None)
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    panels: np.ndarray = figure.subplots(2, 1, sharex=True)
    for axis, (kind, label) in zip(panels, _NORMS.items(), strict=True):
        for name in names:
            values = np.array(history[f"{kind}/{name}"], float)
            x = history["epoch"] if "epoch" in history else range(1, len(values) + 1)
            colour = colormaps["viridis"](0.9 * layers.index(name.split(".")[0]) / max(1, len(layers) - 1))
            style = "--" if name.endswith((".bias", ".beta")) else "-"
            shown = np.where((values > 0.0) & np.isfinite(values), values, math.nan)
            axis.plot(x, shown, style, color=colour, label=name, marker="o" if len(values) == 1 else None)
        axis.set(yscale="log", ylabel=f"{label} (log scale)")
        axis.grid(True, alpha=0.3)
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    if title is not None:
        panels[0].set_title(title)
    if path is not None:
        save_figure(figure, path)
    return panels
