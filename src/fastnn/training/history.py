"""What a training reports: the result of an epoch, and the history of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from .. import names
from ..files import need
from ..network import Network
from ..schema import printable

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "SERIES",
    "Callback",
    "DivergenceError",
    "EpochResult",
    "History",
    "StopFlag",
    "check_monitor",
    "norm_figures",
    "norm_series",
    "series_names",
]

#: Series of every history; those of validation stand before the last two.
SERIES = ("epoch", "loss", "accuracy", "learning_rate", "seconds")


#: Beginnings of the series of norms, one of each parameter.
NORMS = ("gradient_norm/", "update_ratio/")


class DivergenceError(ArithmeticError):
    """The loss, the parameters, running statistics of batch norm or the optimizer's moments stopped being finite.

    The network has the parameters of the last good epoch.
    """


class StopFlag:
    """Whether a run is to end after the present epoch; the run and its results share it."""

    __slots__ = ("raised",)

    def __init__(self, raised: bool = False) -> None:
        self.raised = raised


@dataclass(frozen=True)
class EpochResult:
    """One epoch of training. ``result["val_loss"]`` gives any of its numbers by the name of its series.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    loss : float
        Mean over the epoch's batches of the objective, penalties included, each batch weighted by its Σw, measured
        as training went over it (each with the parameters before its update).
    accuracy : float or None
        Weighted fraction of rows classified correctly, measured likewise; None for regression.
    learning_rate : float
        Of the epoch's last batch.
    seconds : float
        Time of the epoch; epochs that were trained in one block share its time equally.
    validation : dict of float
        What ``net.evaluate`` gives on the validation data after the epoch, with ``val_`` before each name; empty
        without such data.
    steps : int
        Updates done since training began.
    net : Network
        The network, as the epoch has left it.
    history : History
        All epochs so far, with this one.
    solver : dict of float
        Of an iteration of a full-batch solver: ``gradient_norm``, ``step``, ``damping`` and ``evaluations``, how often
        the objective or a derivative was evaluated so far; its `accuracy` is None and its `learning_rate` NaN.
    penalty : float
        The part of `loss` that is penalty, l1 ‖W‖₁ + ½ l2 ‖W‖² averaged over the batches in the same way; NaN for a
        solver that does not report it.
    metrics : dict of float
        Metrics of the training rows, with ``fit(train_metrics=True)``, and norms, with ``fit(record_norms=True)``.
    """

    epoch: int
    loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float
    validation: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    net: Network | None = field(default=None, repr=False, compare=False)
    history: History | None = field(default=None, repr=False, compare=False)
    solver: Mapping[str, float] = field(default_factory=dict)
    penalty: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)
    stop_flag: StopFlag = field(default_factory=StopFlag, repr=False, compare=False)

    def stop(self) -> None:
        """Let this epoch be the last one."""
        self.stop_flag.raised = True

    @property
    def stopped(self) -> bool:
        """Whether someone has called :meth:`stop`."""
        return self.stop_flag.raised

    def __setstate__(self, state: dict[str, object]) -> None:
        # Pickled before 0.1.0 was released: the state of the run stood in the place of a flag.
        stopped = bool(getattr(state.get("_training"), "stopped", False))
        self.__dict__.update({"stop_flag": StopFlag(stopped), "metrics": {}, **state})
        self.__dict__.pop("_training", None)

    def __getitem__(self, name: str) -> Any:
        for further in (self.validation, self.metrics, self.solver):
            if name in further:
                return further[name]
        if name in SERIES:
            return getattr(self, name)
        raise KeyError(f"no record {name!r}; there are {', '.join(self._names())}")

    def _names(self) -> tuple[str, ...]:
        return (*SERIES[:-2], *self.metrics, *self.validation, *self.solver, *SERIES[-2:])


#: Called with each epoch's result; :mod:`fastnn.callbacks` says which methods it may have besides.
Callback: TypeAlias = Callable[[EpochResult], object]


class History:
    """Record of a training run, one entry per epoch.

    ``history["loss"]`` is a list, :meth:`keys` has the names: ``epoch``, ``loss``, ``accuracy`` (classifiers only),
    metrics of the training rows, with validation data ``val_loss`` and the other results of ``net.evaluate``,
    ``learning_rate``, ``seconds``. A full-batch solver has one entry per iteration, with ``gradient_norm``, ``step``,
    ``damping`` and ``evaluations`` (so far) instead of the accuracy and the learning rate.

    ``history[-1]`` is the last epoch as a dict, ``history[:3]`` the first three as a list of dicts; ``len(history)`` is
    the number of epochs, iteration goes over them. So ``pandas.DataFrame(history)`` is a table with a row per epoch.

    Attributes
    ----------
    result : SolverResult or None
        Of a full-batch solver: why it stopped, and how often it evaluated what.
    """

    result: Any = None

    def __init__(self, keys: tuple[str, ...] = SERIES) -> None:
        self._columns: dict[str, list[Any]] = {key: [] for key in keys}

    def append(self, *results: EpochResult) -> None:
        """Add epochs; without validation, ``val_`` series get NaN."""
        for key, column in self._columns.items():
            if key in SERIES:
                column += [getattr(result, key) for result in results]
            elif key.startswith("val_"):
                column += [result.validation.get(key, math.nan) for result in results]
            else:
                column += [result[key] for result in results]

    def extend(self, columns: Mapping[str, list[Any]]) -> None:
        """Add epochs as columns, one for each series."""
        for key, column in self._columns.items():
            column += columns[key]

    def truncate(self, n: int) -> None:
        """Keep the first n entries."""
        for column in self._columns.values():
            del column[n:]

    def keys(self) -> tuple[str, ...]:
        """Names of the series."""
        return tuple(self._columns)

    def to_dict(self) -> dict[str, list[Any]]:
        """The record as a dict of new lists, for instance for ``pandas.DataFrame``."""
        columns = {key: list(column) for key, column in self._columns.items()}
        whole = min(map(len, columns.values()))  # another thread may be at an epoch
        return {key: column[:whole] for key, column in columns.items()}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_columns": self.to_dict()}

    def to_frame(self) -> DataFrame:
        """The record as a pandas DataFrame: a row per epoch, whose number is the index.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return need("pandas", "History.to_frame").DataFrame(self.to_dict()).set_index("epoch")

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> np.ndarray:
        """Draw the curves with matplotlib; see :func:`fastnn.plotting.plot_history`.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        **options
            `ax` and `title`, as for ``plot_history``.

        Returns
        -------
        ndarray of matplotlib.axes.Axes
            Without `path` and `ax` of a figure of pyplot: a notebook shows it, a script with ``plt.show()``.

        Raises
        ------
        ValueError
            If there are no epochs.
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting import plot_history

        return plot_history(self, path, **options)

    def plot_norms(self, path: str | os.PathLike[str] | None = None, *, title: str | None = None) -> np.ndarray:
        """Draw what ``fit(record_norms=True)`` recorded; see :func:`fastnn.plotting.plot_norms`."""
        from ..plotting import plot_norms

        return plot_norms(self.to_dict(), path, title=title)

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, key: str | int | slice) -> list[Any] | dict[str, Any]:
        if isinstance(key, str):
            if key not in self._columns:
                hint = names.suggestion(key, self._columns)
                raise KeyError(f"no record {key!r}; there are {printable(', '.join(self._columns))}{hint}")
            return self._columns[key]
        columns = self.to_dict()
        places = range(len(columns["epoch"]))[key]  # as of a list: negative ones count from the end
        if isinstance(places, range):
            return [{name: column[place] for name, column in columns.items()} for place in places]
        return {name: column[places] for name, column in columns.items()}

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self[:])

    def __len__(self) -> int:
        return len(self._columns["epoch"])

    @property
    def unit(self) -> str:
        """What an entry is: "epoch", or of a full-batch solver "iteration"."""
        return "iteration" if "gradient_norm" in self._columns else "epoch"

    def __repr__(self) -> str:
        columns = self.to_dict()
        n = len(columns["epoch"])
        count = f"{n:,} {self.unit}{'' if n == 1 else 's'}"
        if not n:
            return f"History({count})"
        hidden = ("epoch", "step", "damping", "evaluations", "learning_rate", "seconds")
        shown = [name for name in columns if name not in hidden and not name.startswith(NORMS)]
        text = f"{count}, last " + ", ".join(f"{key}={columns[key][-1]:.6g}" for key in shown)
        losses = [value for value in columns.get("val_loss", ()) if math.isfinite(value)]
        if losses:
            at = columns["val_loss"].index(min(losses))
            text += f"; smallest val_loss={min(losses):.6g} in {self.unit} {columns['epoch'][at]}"
        return f"History({printable(text)})"


def series_names(classifies: bool, train: tuple[str, ...] = (), validation: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Series of a training's history, with those of metrics and of validation."""
    usual = [name for name in SERIES if name != "accuracy" or classifies]
    return (*usual[:-2], *train, *validation, *usual[-2:])


def norm_series(parameters: Sequence[str]) -> tuple[str, ...]:
    """Series of ``fit(record_norms=True)``, two for each parameter."""
    return tuple(f"{kind}/{name}" for name in parameters for kind in ("gradient_norm", "update_ratio"))


def norm_figures(squares: Sequence[Sequence[float]]) -> list[float]:
    """An epoch's values of these series, of the means of squared norms that :class:`fastnn.plan.TrainResult` has."""
    figures = []
    for gradient, step, parameters in squares:
        figures += [math.sqrt(gradient), math.sqrt(step / parameters) if parameters else math.inf if step else 0.0]
    return figures


def check_monitor(monitor: str | None, series: tuple[str, ...]) -> str:
    """The series to watch; None is the validation loss where there is one.

    Raises
    ------
    ValueError
        If the history does not have it.
    """
    known = [name for name in series if name not in ("epoch", "seconds", "learning_rate")]
    if monitor is None:
        return "val_loss" if "val_loss" in known else "loss"
    if monitor not in known:
        hint = names.suggestion(monitor, known, {name: ours for name, ours in names.SERIES.items() if ours in known})
        if monitor.startswith("val_") and "val_loss" not in known:
            hint = "; give validation_data or validation_split"
        raise ValueError(f"monitor: no series {monitor!r} in this training, there are {', '.join(known)}{hint}")
    return monitor
