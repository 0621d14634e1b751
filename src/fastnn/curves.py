"""Learning curves and validation curves: training and validation scores by rows, or by a parameter."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._typing import ArrayLike, Data
from .checks import check_integer, check_number
from .comparison import check_seeds, redrawn
from .metrics import rises
from .names import listing
from .plotting import COLOURS, finished, new_axes
from .schema import printable
from .sequential import Sequential
from .sweeps import SweepResult, sweep
from .training.classes import labels_of
from .training.data import stratified_split, take_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["Curve", "CurveRun", "learning_curve", "validation_curve"]
__dir__ = listing(__all__)

#: Scores by which curves are judged and drawn, the first that a network has.
SCORES = ("accuracy", "r2")
#: A horizontal axis is logarithmic where positive values range over more than this factor.
WIDE = 20.0


@dataclass(frozen=True)
class CurveRun:
    """One training of a curve.

    Attributes
    ----------
    index : int
        Which of the curve's values it has.
    seed : int
    train, validation : dict of float
        ``net.evaluate`` on the rows that it was trained on, and on the validation rows; empty where it failed.
    stopped : str
        Why it ended, such as "epochs" or the error of a training that failed.
    seconds : float
    """

    index: int
    seed: int
    train: dict[str, float]
    validation: dict[str, float]
    stopped: str
    seconds: float


@dataclass(frozen=True)
class Curve:
    """Scores by a parameter or by rows; what :func:`learning_curve` and :func:`validation_curve` return.

    Attributes
    ----------
    name : str
        The parameter, or "rows".
    values : tuple
    runs : tuple of CurveRun
        By value, then by seed.
    """

    name: str
    values: tuple[Any, ...]
    runs: tuple[CurveRun, ...]

    @property
    def metric(self) -> str:
        """The score that curves are judged by: "accuracy", or "r2" of a regression."""
        return next(name for run in self.runs for name in SCORES if name in run.train)

    def scores(self, part: str = "validation", metric: str | None = None) -> np.ndarray:
        """Scores (values, seeds) on one part; NaN where a training failed.

        Parameters
        ----------
        part : {"validation", "train"}
        metric : str, optional
            A score of ``net.evaluate``; None is :attr:`metric`.

        Raises
        ------
        ValueError
            If an argument is unknown.
        """
        if part not in ("train", "validation"):
            raise ValueError(f"part must be 'train' or 'validation', got {part!r}")
        known = list(dict.fromkeys(name for run in self.runs for name in run.train))
        metric = self.metric if metric is None else metric
        if metric not in known:
            raise ValueError(f"metric must be one of {', '.join(map(repr, known))}, got {metric!r}")
        found = [(run.train if part == "train" else run.validation).get(metric, math.nan) for run in self.runs]
        return np.array(found).reshape(len(self.values), -1)

    @property
    def best(self) -> Any:
        """The value with the best mean validation score, the first of equal ones; seeds that failed do not count."""
        means = _mean(self.scores())
        return self.values[int(np.nanargmax(means if rises(self.metric) else -means))]

    def to_dict(self) -> dict[str, list[Any]]:
        """The table as columns, a row per value: means over the seeds, and deviations under ``…_std``.

        Scores of ``net.evaluate`` on the training rows, and with ``val_`` on the validation rows; ``seconds``;
        ``failed``, the number of seeds that failed, which the means leave out.
        """
        columns: dict[str, list[Any]] = {self.name: list(self.values)}
        for metric in dict.fromkeys(name for run in self.runs for name in run.train):
            for part, prefix in (("train", ""), ("validation", "val_")):
                scores = self.scores(part, metric)
                columns[prefix + metric] = _mean(scores).tolist()
                columns[f"{prefix}{metric}_std"] = [_deviation(row[np.isfinite(row)]) for row in scores]
        by_value = [[run for run in self.runs if run.index == index] for index in range(len(self.values))]
        columns["seconds"] = [float(np.mean([run.seconds for run in runs])) for runs in by_value]
        columns["failed"] = [sum(not run.train for run in runs) for runs in by_value]
        return columns

    @property
    def table(self) -> DataFrame | dict[str, list[Any]]:
        """:meth:`to_dict` as a DataFrame whose index is the value, where pandas is installed; else as they are."""
        columns = self.to_dict()
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns).set_index(self.name)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        metric: str | None = None,
        log: bool | None = None,
        ax: Axes | None = None,
        title: str | None = None,
    ) -> Axes:
        """Draw the means over the seeds on training and validation rows, in bands from the lowest to the highest.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        metric : str, optional
            A score of ``net.evaluate``; None is accuracy, or r2.
        log : bool, optional
            Whether the horizontal axis is logarithmic (a 0 stands at its left end); None: where the values are not
            negative and range over a factor of 20.
        ax : Axes, optional
            Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
        title : str, optional

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If `metric` is unknown.
        ImportError
            If matplotlib is not installed (``pip install "fastnn[cli]"``).
        """
        shown = self.metric if metric is None else metric
        series = {part: self.scores(part, shown) for part in ("train", "validation")}
        axis: Any = new_axes(1, path is not None)[0] if ax is None else ax
        numbers = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in self.values)
        at = np.array(self.values if numbers else range(len(self.values)), dtype=np.float64)
        order = np.argsort(at, kind="stable")
        for (part, scores), colour, style in zip(series.items(), COLOURS, ("o-", "s--"), strict=False):
            ordered = scores[order]
            axis.plot(at[order], _mean(ordered), style, color=colour, markersize=4, label=part)
            if scores.shape[1] > 1:
                low, high = np.fmin.reduce(ordered, axis=1), np.fmax.reduce(ordered, axis=1)
                axis.fill_between(at[order], low, high, color=colour, alpha=0.15, lw=0)
        positive = at[at > 0.0]
        if log is None:
            log = numbers and bool(len(positive)) and at.min() >= 0.0 and positive.max() > WIDE * positive.min()
        if not numbers:
            axis.set_xticks(at, [_short(value) for value in self.values])
        elif log and len(positive):
            axis.set_xscale(*(("log",) if len(positive) == len(at) else ("symlog",)), **_linear(at))
        axis.set_xlabel("training rows" if self.name == "rows" else self.name)
        axis.set_ylabel(shown)
        axis.grid(True, alpha=0.3)
        axis.legend()
        return finished(axis, path, title)

    def __repr__(self) -> str:
        columns = self.to_dict()
        heads = [self.name, *(name for name in (self.metric, f"val_{self.metric}", "loss", "val_loss")), "seconds"]
        rows = [heads]
        for i, value in enumerate(self.values):
            cells = [_short(value)]
            for name in heads[1:]:
                spread = columns.get(f"{name}_std", [math.nan] * len(self.values))[i]
                cells.append(f"{columns[name][i]:.4g}" + (f" ± {spread:.1g}" if math.isfinite(spread) else ""))
            rows.append(cells)
        widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        failed = [
            f"{self.name} {_short(self.values[run.index])}, seed {run.seed}: {printable(run.stopped)}"
            for run in self.runs
            if not run.train
        ]
        seeds = len(self.runs) // len(self.values)
        about = f"Curve of {len(self.values)} values of {self.name} over {seeds} seed{'s' if seeds > 1 else ''}"
        return "\n".join([about, "", *lines, *failed])


def _mean(scores: np.ndarray) -> np.ndarray:
    """Means (values,) over the seeds that have a score; NaN where none has."""
    there = np.isfinite(scores)
    sums = np.where(there, scores, 0.0).sum(axis=1)
    found: np.ndarray = np.where(there.any(axis=1), sums / np.maximum(there.sum(axis=1), 1), np.nan)
    return found


def _deviation(scores: np.ndarray) -> float:
    """Standard deviation of scores over the seeds; NaN of less than two."""
    with np.errstate(over="ignore"):
        return float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan


def _linear(at: np.ndarray) -> dict[str, float]:
    """Where a logarithmic axis that has a 0 goes over into a linear one."""
    return {"linthresh": float(at[at > 0.0].min()), "linscale": 0.5} if (at <= 0.0).any() else {}


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else printable(getattr(value, "__name__", value))
    return text if len(text) <= 32 else text[:29] + "..."


def learning_curve(
    model: Sequential | Callable[..., Sequential],
    X: Data,
    y: ArrayLike,
    *,
    sizes: Sequence[float] = (0.1, 0.2, 0.4, 0.7, 1.0),
    validation_data: tuple[Data, ArrayLike] | None = None,
    validation_split: float = 0.2,
    seeds: int | Iterable[int] = 3,
    epochs: int | None = None,
    patience: int | None = None,
    threads: int | None = None,
    verbose: int = 0,
    **parameters: Any,
) -> Curve:
    """Train on more and more rows: do training and validation scores meet (bias), or does a gap close (variance)?

    The trainings are members of :func:`fastnn.sweep`. Of one seed each part holds the smaller ones, and each class in
    its share.

    Parameters
    ----------
    model : Sequential or callable
        A network is a pattern: its layers and loss are drawn anew for each seed, and it is not trained itself. A
        function of parameters returns a new one.
    X, y
        As for :meth:`fastnn.Sequential.fit`.
    sizes : sequence, default=(0.1, 0.2, 0.4, 0.7, 1.0)
        Rows to train on: integers their number, floats in (0, 1] shares of all that can be trained on.
    validation_data : tuple (X, y), optional
        Rows on which all are evaluated.
    validation_split : float, default=0.2
        Without `validation_data`, the share of the rows that is kept for this; the same for all, each class alike.
    seeds : int or iterable of int, default=3
        Their number (0, 1, …), or the seeds: of the rows that are drawn, of the parameters and of the shuffling.
    epochs, patience, threads, verbose
        As for :func:`fastnn.sweep`. The same number of epochs is fewer steps on fewer rows: enough epochs with
        `patience`, or a full-batch solver as `optimizer`, compare trainings that have arrived.
    **parameters
        Other arguments of ``fit``, of the optimizer and of the model: ``optimizer=fnn.Adam(0.01)``, ``batch_size=32``.

    Returns
    -------
    Curve
        With ``table``, ``plot()`` and, by printing it, a summary.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or no training has a score.

    Notes
    -----
    For scikit-learn's estimators there is ``sklearn.model_selection.LearningCurveDisplay``.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential([fnn.Standardize(), fnn.Dense(3)], input_size=4, loss="cross_entropy")
    >>> curve = fnn.learning_curve(net, X, y, sizes=[6, 30, 120], seeds=2, optimizer=fnn.LBFGS())
    >>> curve.values
    (6, 30, 120)
    """
    X, y, kept, held_out = _parts(X, y, validation_data, validation_split)
    labels = labels_of(np.asarray(y))
    labels = None if labels is None else labels[kept]
    numbers = _sizes(sizes, len(kept), 1 if labels is None else len(np.unique(labels)))
    options = {"epochs": epochs, "patience": patience, "threads": threads, "verbose": verbose, **parameters}
    runs: list[CurveRun] = []
    checked = check_seeds(seeds)
    for seed in checked:
        order = kept[_nested_order(labels, len(kept), np.random.default_rng(seed))]
        folds = [(np.sort(order[:number]), held_out) for number in numbers]
        found = sweep(_function(model), [{"seed": seed}], X, y, cv=folds, refit=False, **options)
        runs += _runs(found, X, y, [(index, seed, 0, index) for index in range(len(numbers))])
    runs.sort(key=lambda run: run.index)
    return Curve("rows", tuple(numbers), _with_scores(runs))


def validation_curve(
    model: Sequential | Callable[..., Sequential],
    name: str,
    values: Iterable[Any],
    X: Data,
    y: ArrayLike,
    *,
    validation_data: tuple[Data, ArrayLike] | None = None,
    validation_split: float = 0.2,
    seeds: int | Iterable[int] = 3,
    epochs: int | None = None,
    patience: int | None = None,
    threads: int | None = None,
    verbose: int = 0,
    **parameters: Any,
) -> Curve:
    """Train with several values of one parameter: from which on is the bias high, from which on the variance?

    The trainings are members of one :func:`fastnn.sweep`, all on the same rows.

    Parameters
    ----------
    model, X, y, validation_data, validation_split, epochs, patience, threads, verbose
        As for :func:`learning_curve`.
    name : str
        An argument of ``fit`` ("l2", "batch_size", "epochs", …), a field of the optimizer ("learning_rate", …), or a
        parameter of the function `model` ("width", "depth", …).
    values : iterable
        Its values.
    seeds : int or iterable of int, default=3
        Their number (0, 1, …), or the seeds: of the parameters and of the shuffling.
    **parameters
        Other arguments of ``fit``, of the optimizer and of the model.

    Returns
    -------
    Curve
        With ``best``, ``table``, ``plot()`` and, by printing it, a summary.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or no training has a score.

    Notes
    -----
    For scikit-learn's estimators there is ``sklearn.model_selection.ValidationCurveDisplay``.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> def model(width, seed=0):
    ...     layers = [fnn.Dense(width, "tanh"), fnn.Dense(3)]
    ...     return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)
    >>> fnn.validation_curve(model, "width", [1, 4, 16], X, y, seeds=2, epochs=5).values
    (1, 4, 16)
    """
    if not isinstance(name, str) or name == "seed":
        raise ValueError(
            f"name: expected the name of a parameter other than 'seed', which seeds= has, got {name!r:.60}"
        )
    if name in parameters or (name == "epochs" and epochs is not None):
        raise ValueError(f"{name}: given twice, as the parameter of the curve and for all of its trainings")
    given = tuple(values)
    if not given:
        raise ValueError("values: expected at least one, got none")
    X, y, kept, held_out = _parts(X, y, validation_data, validation_split)
    numbers = check_seeds(seeds)
    settings = [{name: value, "seed": seed} for value in given for seed in numbers]
    options = {"epochs": epochs, "patience": patience, "threads": threads, "verbose": verbose, **parameters}
    found = sweep(_function(model), settings, X, y, cv=[(kept, held_out)], refit=False, **options)
    places = [(place // len(numbers), numbers[place % len(numbers)], place, 0) for place in range(len(settings))]
    return Curve(name, given, _with_scores(_runs(found, X, y, places)))


def _function(model: Any) -> Callable[..., Sequential]:
    """A function that makes networks."""
    if isinstance(model, Sequential):
        pattern = model
        return lambda seed: redrawn(pattern, seed)
    if not callable(model) or isinstance(model, type):
        raise TypeError(f"model: expected a Sequential or a function that makes one, got {type(model).__name__}")
    made: Callable[..., Sequential] = model
    return made


def _parts(
    X: Any, y: Any, validation_data: tuple[Any, Any] | None, fraction: float
) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """All rows and targets, with the indices of those to train on and of those to validate on."""
    n_rows = len(np.asarray(y))
    if validation_data is None:
        fraction = check_number("validation_split", fraction, above=0.0, below=1.0)
        kept, held_out = stratified_split(labels_of(np.asarray(y)), n_rows, fraction, np.random.default_rng(0))
        if not len(held_out):
            raise ValueError(f"validation_split: {fraction:g} of {n_rows} rows leaves none to validate on")
        return X, y, kept, held_out
    if not isinstance(validation_data, tuple) or len(validation_data) != 2:
        raise TypeError(f"validation_data: expected a tuple (X, y), got {type(validation_data).__name__}")
    X_val, y_val = validation_data
    n_all = n_rows + len(np.asarray(y_val))
    whole = _joined(X, X_val), np.concatenate([np.asarray(y), np.asarray(y_val)])
    return *whole, np.arange(n_rows), np.arange(n_rows, n_all)


def _joined(X: Any, more: Any) -> Any:
    """Rows below each other."""
    if hasattr(X, "iloc"):
        import pandas

        return pandas.concat([X, more])
    if hasattr(X, "tocsr"):
        from scipy import sparse

        return sparse.vstack([X, more], format="csr")
    return np.concatenate([np.asarray(X), np.asarray(more)])


def _sizes(sizes: Any, n_rows: int, n_classes: int) -> list[int]:
    numbers = []
    for size in sizes:
        share = isinstance(size, (float, np.floating))
        number = round(check_number("sizes", size, above=0.0) * n_rows) if share else check_integer("sizes", size)
        if not n_classes <= number <= n_rows:
            each = " (one of each class)" if n_classes > 1 else ""
            raise ValueError(f"sizes: expected {n_classes}{each} to {n_rows} rows, got {number} by {size!r}")
        numbers.append(number)
    if not numbers or sorted(set(numbers)) != numbers:
        raise ValueError(f"sizes: expected rising numbers of rows, got {numbers}")
    return numbers


def _nested_order(labels: np.ndarray | None, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """A random order (N,) of rows of which every beginning has its share of each class, and a row of it at least."""
    order = rng.permutation(n_rows)
    if labels is None:
        return order
    _, codes = np.unique(labels[order], return_inverse=True)
    place = np.empty(n_rows)
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        place[rows] = np.arange(len(rows)) / len(rows)
    return order[np.argsort(place, kind="stable")]


def _runs(found: SweepResult, X: Any, y: Any, places: list[tuple[int, int, int, int]]) -> list[CurveRun]:
    """Runs of a sweep, of (index of the value, seed, member, fold), with their scores."""
    if found.stopped == "interrupted":
        raise KeyboardInterrupt
    runs = []
    for index, seed, member, fold in places:
        outcome = found.outcomes[member][fold]
        scores: list[dict[str, float]] = [{}, {}]
        of = found.folds[fold]
        if np.isfinite(outcome.score) and of.train is not None and of.validation is not None:
            net = found.network(member, fold)
            scores = [net.evaluate(take_rows(X, rows), take_rows(y, rows)) for rows in (of.train, of.validation)]
        runs.append(CurveRun(index, seed, scores[0], scores[1], outcome.stopped, outcome.seconds))
    return runs


def _with_scores(runs: list[CurveRun]) -> tuple[CurveRun, ...]:
    if not any(run.train for run in runs):
        raise ValueError(f"no training has a score: {runs[0].stopped}")
    return tuple(runs)
