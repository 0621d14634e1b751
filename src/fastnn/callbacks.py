"""Callbacks of training: early stopping, checkpoints, and what any other callback may offer.

A callback is anything that can be called with one :class:`fastnn.EpochResult`, after each epoch, and returns None
(anything else is a TypeError). It stops training by
``result.stop()`` or by raising StopIteration; any other exception leaves `fit`, with the network at the end of that
epoch. An object may also have

- ``begin(series)``: called before training with the names of the history's series; may refuse by raising;
- ``end(net)``: called after training, unless an exception ended it;
- ``get_state()`` and ``set_state(state)``: a dict of what JSON can express and of arrays, saved with the training and
  passed back when it is resumed;
- ``last = True``: to be called after the others.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Protocol, TypeGuard, cast

import numpy as np

from ._typing import JSON
from .checks import check_flag, check_integer, check_number
from .files import check_writable
from .metrics import rises
from .names import explained, listing
from .schedules import check_mode, improves
from .schema import NUMBER, Maybe, Record, Whole
from .training.history import EpochResult, check_monitor

if TYPE_CHECKING:
    from .network import Network

__all__ = ["Checkpoint", "EarlyStopping"]
__dir__ = listing(__all__)

#: What early stopping remembers, beside arrays.
_STOPPING = Record({"best": Maybe(NUMBER), **dict.fromkeys(("best_epoch", "stopped_epoch", "waited"), Whole())})


def _is_vector(values: object) -> TypeGuard[np.ndarray]:
    return isinstance(values, np.ndarray) and values.ndim == 1 and bool(np.isfinite(values).all())


@explained
class EarlyStopping:
    """Stops training when a series of the history no longer improves, and goes back to the best epoch.

    Parameters
    ----------
    monitor : str, optional
        A series of the history. None is ``val_loss``, or ``loss`` without validation data.
    patience : int, default=10
        Epochs without an improvement after which training stops, at least 1.
    min_delta : float, default=0.0
        By how much a value must be better than the best to be an improvement, at least 0.
    restore_best : bool, default=True
        At the end give the network the parameters, and the state, that it had after the best epoch, whether training
        was stopped or not.
    mode : {"auto", "min", "max"}, default="auto"
        Whether the series should fall or rise; "auto" goes by its name, if that is one that fastnn gives.

    Attributes
    ----------
    best : float or None
        Best value so far.
    best_epoch : int
        Its epoch, 0 before the first.
    stopped_epoch : int
        The epoch after which training was stopped, 0 if it was not.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; by `fit`, if the history does not have that series.

    Notes
    -----
    Prechelt 1998. NaN is never an improvement. A known metric of the validation rows, as ``EarlyStopping("val_f1")``,
    is evaluated because it is monitored; for a function of your own, give ``fit(metrics=)`` it and `mode` here. The
    default patience of Keras is 0, which stops at the first epoch that is not better.
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int = 10,
        min_delta: float = 0.0,
        *,
        restore_best: bool = True,
        mode: str = "auto",
    ) -> None:
        self.monitor, self.mode = _check_monitor(monitor), check_mode(mode)
        self.patience = check_integer("patience", patience)
        self.min_delta = check_number("min_delta", min_delta, minimum=0.0)
        self.restore_best = check_flag("restore_best", restore_best)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch = self.stopped_epoch = self._waited = 0
        self._theta: np.ndarray | None = None
        self._state: np.ndarray | None = None

    def begin(self, series: tuple[str, ...]) -> None:
        """Forget earlier trainings."""
        self._series = check_monitor(self.monitor, series)
        self._rising = rises(self._series, self.mode)
        self._reset()

    def __call__(self, result: EpochResult) -> None:
        """Compare an epoch with the best one."""
        value = result[self._series]
        if improves(value, self.best, self.min_delta, self._rising):
            self.best, self.best_epoch, self._waited = value, result.epoch, 0
            if self.restore_best and result.net is not None:
                self._theta, self._state = result.net.theta.copy(), result.net.state.copy()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = result.epoch
            result.stop()

    def end(self, net: Network) -> None:
        """Give the network the best parameters and state."""
        if self.restore_best and self._theta is not None and self._state is not None:
            net.theta[...] = self._theta
            net.state[...] = self._state

    def get_state(self) -> JSON:
        """What a resumed training needs."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "waited": self._waited,
            "theta": self._theta,
            "state": self._state,
        }

    def set_state(self, state: JSON, net: Network | None = None) -> None:
        """Take over what `get_state` gave.

        Parameters
        ----------
        state : dict
        net : Network, optional
            Whose parameters and state the best ones must fit.

        Raises
        ------
        ValueError
            If it is not what `get_state` gives; nothing has changed then.
        """
        _STOPPING.check({key: value for key, value in state.items() if key not in ("theta", "state")}, "EarlyStopping")
        theta, buffers = state.get("theta"), state.get("state")
        if not (theta is None and buffers is None):
            for name, values in (("theta", theta), ("state", buffers)):
                own: np.ndarray | None = None if net is None else getattr(net, name)
                if not _is_vector(values) or (
                    own is not None and (values.shape, values.dtype) != (own.shape, own.dtype)
                ):
                    raise ValueError(f"EarlyStopping: {name} of the best epoch does not fit the network")
        best = state["best"]
        self.best = None if best is None else float(best)
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        self._waited = state["waited"]
        self._theta, self._state = theta, buffers

    def __repr__(self) -> str:
        arguments = f"{self.monitor!r}, patience={self.patience}, min_delta={self.min_delta:g}"
        mode = "" if self.mode == "auto" else f", mode={self.mode!r}"
        return f"EarlyStopping({arguments}, restore_best={self.restore_best}{mode})"


def _check_monitor(monitor: object) -> str | None:
    if monitor is not None and not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a series or None, got {monitor!r}")
    return monitor


class _Savable(Protocol):
    """A network with files, as :class:`fastnn.Sequential` is."""

    def save(self, path: str | os.PathLike[str], *, training_state: bool = False) -> None: ...


@explained
class Checkpoint:
    """Saves the network with its training state every few epochs, and when training ends.

    The file is replaced as a whole or not at all, so that a training that is killed at any moment leaves a complete
    one. ``net = fnn.load(path)`` and ``net.fit(..., resume=True)`` then continue bit for bit as if never stopped.

    Parameters
    ----------
    path : str or path-like
        The file; ``{epoch}`` in it (also ``{epoch:03d}``) becomes the number of the epoch.
    every : int, default=1
        Epochs between two files, at least 1.
    monitor : str, optional
        A series of the history. With it, the file is of the best epoch so far: it is written only after an epoch of
        the multiples of `every` whose value is better than those of all others before.
    mode : {"auto", "min", "max"}, default="auto"
        Whether the series should fall or rise; "auto" goes by its name, if that is one that fastnn gives.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    OSError
        By `fit`: before training if the file cannot be written, or later if it no longer can.
    """

    last = True  # what it saves includes what the other callbacks have made of the epoch

    def __init__(
        self, path: str | os.PathLike[str], every: int = 1, *, monitor: str | None = None, mode: str = "auto"
    ) -> None:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            raise TypeError(f"path must be a str or a path, got {path!r}")
        self.path = os.fspath(path)
        try:
            self.path.format(epoch=1)
        except (LookupError, ValueError) as error:
            raise ValueError(f"path: expected no braces but {{epoch}}, got {self.path!r}") from error
        self.every = check_integer("every", every)
        self.monitor, self.mode = _check_monitor(monitor), check_mode(mode)
        self._epoch = 0

    def begin(self, series: tuple[str, ...]) -> None:
        """Look whether the file can be written."""
        if self.monitor is not None:
            self._rising = rises(check_monitor(self.monitor, series), self.mode)
        check_writable(self.path.format(epoch=1))
        self._epoch = 0

    def __call__(self, result: EpochResult) -> None:
        """Save, if it is time."""
        self._epoch = result.epoch
        if result.epoch % self.every == 0 and result.net is not None and self._is_best(result):
            self._save(result.net)

    def _is_best(self, result: EpochResult) -> bool:
        """Whether this epoch is better than all that could have been saved before; the history is that of all runs."""
        if self.monitor is None or result.history is None:
            return True
        before = result.history[self.monitor][self.every - 1 : result.epoch - 1 : self.every]
        sign = 1.0 if self._rising else -1.0
        best = max((sign * value for value in before if not math.isnan(value)), default=None)
        return improves(sign * result[self.monitor], best, 0.0, True)

    def end(self, net: Network) -> None:
        """Save the end of training, with what the other callbacks have made of the network."""
        if not self._epoch and net.training_state is not None:
            # Resumed with no epoch left: the run before may have been killed after its last epoch, but before this.
            self._epoch = net.training_state.epoch
        if self._epoch and self.monitor is None:
            self._save(net)

    def _save(self, net: Network) -> None:
        cast("_Savable", net).save(self.path.format(epoch=self._epoch), training_state=True)

    def __repr__(self) -> str:
        monitor = "" if self.monitor is None else f", monitor={self.monitor!r}"
        mode = "" if self.mode == "auto" else f", mode={self.mode!r}"
        return f"Checkpoint({self.path!r}, every={self.every}{monitor}{mode})"
