"""Pictures of data and of decisions: images with predictions, decision boundaries, confusion matrices."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .files import need
from .names import listing
from .plotting import COLOURS, finished, new_axes, new_figure, save_figure
from .scalars import check_flag, check_integer, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["plot_confusion_matrix", "plot_decision_boundary", "plot_images", "resize_images"]
__dir__ = listing(__all__)


class Predicts(Protocol):
    """A network, or an estimator with scikit-learn's interface."""

    def predict(self, X: Any, /) -> Any: ...


def resize_images(X: ArrayLike, shape: tuple[int, ...], to: tuple[int, int]) -> np.ndarray:
    """Make images smaller by averaging: a new pixel is the mean of the area that it covers.

    Parameters
    ----------
    X : array_like (N, H·W·C)
        Images of real numbers, pixel by pixel, row by row.
    shape : tuple (H, W) or (H, W, C)
        Height, width, and channels of an image.
    to : tuple (H', W')
        Height and width of the new ones, at most H and W. Where they divide H and W, whole blocks are averaged; else
        pixels on a border count by the share of their area.

    Returns
    -------
    ndarray (N, H'·W'·C)
        float32 of float32 and uint8, otherwise float64.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> fnn.resize_images([[1.0, 3.0, 5.0, 7.0]], (2, 2), (1, 1))
    array([[4.]])
    """
    height, width, *channels = _check_shape("shape", shape, (2, 3))
    new_height, new_width = _check_shape("to", to, (2,))
    images = _check_images(X, (height, width, *channels))
    if new_height > height or new_width > width:
        raise ValueError(f"to: expected at most the images' ({height}, {width}), got ({new_height}, {new_width})")
    dtype = np.dtype(np.float32 if images.dtype in (np.float32, np.uint8) else np.float64)
    n_channels = channels[0] if channels else 1
    # Two products with small matrices whose rows sum to 1: over the height, then over the width.
    lines = images.reshape(len(images), height, width * n_channels).astype(dtype, copy=False)
    lines = _shares(height, new_height).astype(dtype) @ lines
    pixels = lines.reshape(len(images) * new_height, width, n_channels)
    found: np.ndarray = _shares(width, new_width).astype(dtype) @ pixels
    return found.reshape(len(images), new_height * new_width * n_channels)


def _shares(old: int, new: int) -> np.ndarray:
    """Share (new, old) that each old pixel of a line has in each new one."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(covered, 0.0) * new / old  # type: ignore[no-any-return]


def _check_shape(name: str, shape: object, lengths: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)) or len(shape) not in lengths:
        form = " or ".join(("", "", "(H, W)", "(H, W, C)")[length] for length in lengths)
        raise ValueError(f"{name}: expected a tuple {form}, got {shape!r:.60}")
    return tuple(check_integer(f"{name}[{place}]", size) for place, size in enumerate(shape))


def _check_images(X: Any, shape: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(X.toarray() if hasattr(X, "tocsr") else X)
    if images.dtype.kind not in "buif":
        raise TypeError(f"X: expected real numbers, got dtype {images.dtype}")
    if images.ndim < 2 or math.prod(images.shape[1:]) != math.prod(shape):
        sizes = "×".join(map(str, shape))
        raise ValueError(f"X: expected rows of {math.prod(shape)} pixels ({sizes}), got shape {images.shape}")
    return images.reshape(len(images), math.prod(shape))


def plot_images(
    X: ArrayLike,
    y: ArrayLike | None = None,
    predictions: ArrayLike | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    names: Sequence[str] | None = None,
    n: int = 25,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> np.ndarray:
    """Draw images, each with its label and what was predicted, wrong predictions in red.

    Parameters
    ----------
    X : array_like (N, H·W·C), (N, H, W) or (N, H, W, C)
        Each image is drawn from its smallest to its largest value; of three channels, whole numbers are taken as 0 to
        255, and others as 0 to 1.
    y : array_like (N,), optional
        Labels.
    predictions : array_like (N,), optional
        What ``net.predict(X)`` gives. Without `y` they are shown alone.
    shape : tuple (H, W) or (H, W, C), optional
        With 1 or 3 channels. None is that of X, or a square of one channel or else of three, where there is one.
    names : sequence of str, optional
        Of the classes 0, 1, …, such as ``fnn.datasets.FASHION_MNIST_CLASSES``.
    n : int, default=25
        Number of images to draw, the first ones.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format.
    title : str, optional

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One of each image.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    shape = _check_shape("shape", _shape_of(X) if shape is None else shape, (2, 3))
    if len(shape) == 3 and shape[2] not in (1, 3):
        raise ValueError(f"shape: expected 1 or 3 channels, got {shape[2]}")
    images = _check_images(X, shape)
    truth, found = (_check_labels(name, of, len(images)) for name, of in (("y", y), ("predictions", predictions)))
    count = min(check_integer("n", n), len(images))
    if not count:
        raise ValueError("X: expected at least one image, got none")

    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    figure = new_figure((1.6 * columns, 1.85 * rows), path is not None)
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
    coloured = len(shape) == 3 and shape[2] == 3
    for place, axis in enumerate(axes):
        axis.set_axis_off()
        if place >= count:
            continue
        image = images[place].reshape(shape if coloured else shape[:2])
        axis.imshow(image, cmap=None if coloured else "gray_r")
        label = None if truth is None else _named(truth[place], names)
        guess = None if found is None else _named(found[place], names)
        wrong = truth is not None and found is not None and bool(truth[place] != found[place])
        text = f"{guess}\n(is {label})" if wrong else guess if label is None else label
        axis.set_title(text or "", fontsize="small", color="#d62728" if wrong else "black")
    if title is not None:
        figure.suptitle(title)
    if path is not None:
        save_figure(figure, path)
    return axes[:count]


def _shape_of(X: ArrayLike) -> tuple[int, ...]:
    """Height, width and channels of images that come without them."""
    given = np.shape(X)[1:]
    if len(given) in (2, 3):
        return given
    pixels = math.prod(given)
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side and side * side * channels == pixels:
            return (side, side) if channels == 1 else (side, side, channels)
    raise ValueError(f"shape: needed for images of {pixels} pixels, which are no square")


def _check_labels(name: str, labels: ArrayLike | None, n_rows: int) -> np.ndarray | None:
    if labels is None:
        return None
    values = np.asarray(labels)
    if values.shape != (n_rows,):
        raise ValueError(f"{name}: expected shape ({n_rows},), got {values.shape}")
    return values


def _named(label: Any, names: Sequence[str] | None) -> str:
    if names is None or not isinstance(label, (int, np.integer)):
        return str(label)
    if not 0 <= label < len(names):
        raise ValueError(f"names: expected one for the class {label}, got {len(names)}")
    return names[int(label)]


def plot_decision_boundary(
    net: Predicts,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    resolution: int = 200,
    margin: float = 0.1,
    path: str | os.PathLike[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw what a network predicts over the plane of two features, and the rows on it.

    Parameters
    ----------
    net : Network or estimator
        With ``predict``: of classes, which become areas, or of one value, which becomes levels.
    X : array_like (N, 2)
        Rows, which give the extent, too.
    y : array_like (N,), optional
        Their classes or values, for the colours of the points.
    resolution : int, default=200
        Points of the grid on each axis.
    margin : float, default=0.1
        What is added to the extent on each side, as a share of it.
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format.
    ax : Axes, optional
        Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    ImportError
        If matplotlib is not installed (``pip install "fastnn[cli]"``).
    """
    points = np.asarray(X)
    if points.dtype.kind not in "buif":
        raise TypeError(f"X: expected real numbers, got dtype {points.dtype}")
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"X: expected at least one row of two features, got shape {points.shape}")
    labels = _check_labels("y", y, len(points))
    resolution = check_integer("resolution", resolution, minimum=2)
    margin = check_number("margin", margin, minimum=0.0)
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    room = np.where(high > low, margin * (high - low), 1.0)
    across, up = (np.linspace(low[k] - room[k], high[k] + room[k], resolution) for k in (0, 1))
    grid = np.stack([axis.ravel() for axis in np.meshgrid(across, up)], axis=1)
    predicted = np.asarray(net.predict(grid))
    if predicted.shape != (len(grid),):
        raise ValueError(f"net: expected one prediction a row, got shape {predicted.shape}")
    continuous = predicted.dtype.kind == "f" and getattr(net, "classes_", None) is None
    if labels is not None and (labels.dtype.kind in "OSU") != (predicted.dtype.kind in "OSU"):
        raise ValueError(f"y: expected what net predicts, such as {predicted[0]!r}, got {labels[0]!r}")

    axis: Any = new_axes(1, path is not None)[0] if ax is None else ax
    table = predicted.reshape(resolution, resolution)
    if continuous:
        levels = axis.contourf(across, up, table, levels=12, cmap="viridis")
        axis.figure.colorbar(levels, ax=axis, label="prediction")
        if labels is not None:
            axis.scatter(*points.T, c=labels, cmap="viridis", norm=levels.norm, edgecolors="white", s=20)
    else:
        _draw_areas(axis, (across, up, table), points, labels)
    names = getattr(X, "columns", ("x₀", "x₁"))
    axis.set_xlabel(str(names[0]))
    axis.set_ylabel(str(names[1]))
    return finished(axis, path, title)


def _draw_areas(
    axis: Any, field: tuple[np.ndarray, np.ndarray, np.ndarray], points: np.ndarray, labels: np.ndarray | None
) -> None:
    """The area of each class, and the points of each."""
    from matplotlib.colors import ListedColormap

    across, up, table = field
    classes = np.unique(table if labels is None else np.concatenate([table.ravel(), labels]))
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(classes))]
    codes = np.searchsorted(classes, table)
    extent = (0, max(1, len(classes) - 1))
    axis.pcolormesh(across, up, codes, cmap=ListedColormap(colours), vmin=extent[0], vmax=extent[1], alpha=0.3)
    for value, colour in zip(classes, colours, strict=True):
        if labels is None:
            axis.plot([], [], "s", color=colour, alpha=0.5, label=str(value))
        elif (labels == value).any():
            axis.scatter(*points[labels == value].T, color=colour, edgecolors="white", s=20, label=str(value))
    if labels is None:
        axis.plot(*points.T, ".", color="0.2", markersize=3)
    axis.legend()


def plot_confusion_matrix(
    y: ArrayLike,
    predictions: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    normalize: bool = False,
    sample_weight: ArrayLike | None = None,
    path: str | os.PathLike[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw how many rows of each class were taken for which, by scikit-learn's ``ConfusionMatrixDisplay``.

    Parameters
    ----------
    y, predictions : array_like (N,)
        Classes, and what ``net.predict(X)`` gives.
    names : sequence of str, optional
        Of the classes 0, 1, …, all of which are shown then; None shows those that occur.
    normalize : bool, default=False
        Whether to show shares of the rows of a class instead of numbers.
    sample_weight : array_like (N,), optional
    path : str or path-like, optional
        Where to save the figure; the suffix chooses the format.
    ax : Axes, optional
        Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit.
    ImportError
        If matplotlib or scikit-learn is not installed (``pip install "fastnn[sklearn]"``).
    """
    normalize = check_flag("normalize", normalize)
    display = need("sklearn.metrics", "a confusion matrix", '"fastnn[sklearn]"').ConfusionMatrixDisplay
    truth = np.asarray(y)
    found = _check_labels("predictions", predictions, len(truth)) if truth.ndim == 1 else None
    if found is None:
        raise ValueError(f"y: expected labels of shape (N,), got {truth.shape}")
    classes = np.unique(np.concatenate([truth, found])) if names is None else np.arange(len(names))
    figure_size = max(4.0, 0.55 * len(classes) + 1.5)
    axis: Any = new_figure((figure_size, figure_size), path is not None).subplots() if ax is None else ax
    display.from_predictions(
        truth,
        found,
        labels=classes,
        display_labels=names,
        normalize="true" if normalize else None,
        sample_weight=sample_weight,
        values_format=".2f" if normalize else None,
        xticks_rotation="horizontal" if names is None else 45,
        cmap="Blues",
        colorbar=False,
        ax=axis,
    )
    return finished(axis, path, title)
