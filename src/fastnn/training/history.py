"""What a training reports: the result of an epoch, and the history of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import names
from ..network import Network
from ..schema import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SERIES",
    "Callback",
    "DivergenceError",
    "EpochResult",
    "History",
    "StopFlag",
    "check_monitor",
    "rises",
    "series_names",
]

#: Series of every history; those of validation stand before the last two.
SERIES = ("epoch", "loss", "accuracy", "learning_rate", "seconds")


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
        Of an iteration of a full-batch solver: ``gradient_norm``, ``step`` and ``damping``; its `accuracy` is None and
        its `learning_rate` NaN.
    penalty : float
        The part of `loss` that is penalty, l1 ‖W‖₁ + ½ l2 ‖W‖² averaged over the batches in the same way; NaN for a
        solver that does not report it.
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
        self.__dict__.update({"stop_flag": StopFlag(stopped), **state})
        self.__dict__.pop("_training", None)

    def __getitem__(self, name: str) -> Any:
        for further in (self.validation, self.solver):
            if name in further:
                return further[name]
        if name in SERIES:
            return getattr(self, name)
        raise KeyError(f"no record {name!r}; there are {', '.join((*SERIES, *self.validation, *self.solver))}")


#: Called with each epoch's result; :mod:`fastnn.callbacks` says which methods it may have besides.
Callback: TypeAlias = Callable[[EpochResult], object]


class History:
    """Record of a training run, one entry per epoch.

    ``history["loss"]`` is a list, :meth:`keys` has the names: ``epoch``, ``loss``, ``accuracy`` (classifiers only),
    with validation data ``val_loss`` and the other results of ``net.evaluate``, ``learning_rate``, ``seconds``.
    ``len(history)`` is the number of epochs. A full-batch solver has one entry per iteration, with ``gradient_norm``,
    ``step`` and ``damping`` instead of the accuracy and the learning rate.

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

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Figure:
        """Draw the curves with matplotlib; see :func:`fastnn.plotting.plot_history`.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        **options
            `ax` and `title`, as for ``plot_history``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If there are no epochs.
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting import plot_history

        return plot_history(self, path, **options)

    def __getitem__(self, key: str) -> list[Any]:
        if key not in self._columns:
            raise KeyError(f"no record {key!r}; there are {printable(', '.join(self._columns))}")
        return self._columns[key]

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns["epoch"])

    def __repr__(self) -> str:
        if not len(self):
            return "History(0 epochs)"
        names = [name for name in self._columns if name.endswith(("loss", "accuracy"))]
        last = [f"{key}={self._columns[key][-1]:.6g}" for key in names]
        return f"History({len(self)} epochs, last {', '.join(last)})"


def series_names(classifies: bool, scores: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Series of a training's history; `scores` are those of its validation data."""
    names = [name for name in SERIES if name != "accuracy" or classifies]
    return (*names[:-2], *("val_" + score for score in scores), *names[-2:])


def rises(series: str) -> bool:
    """Whether more of a series is better."""
    return series.removeprefix("val_") in ("accuracy", "r2")


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
