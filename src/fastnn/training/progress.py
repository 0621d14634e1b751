"""The progress of a training on the screen: of ``fit``, of the solvers, of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from .history import EpochResult

__all__ = ["Progress"]


class Progress(AbstractContextManager["Progress"]):
    """A tqdm bar where tqdm is installed, else lines on stderr; lines alone where they are not for every epoch.

    Parameters
    ----------
    total : int
        Epochs of the training.
    done : int
        Those that are finished.
    unit : str
        What an epoch is called.
    every : int
        Epochs from one line to the next; 1 may be a bar. The last epoch has a line, too.
    lines : int, optional
        Most lines to print where there is no bar; None prints one for each epoch.
    terminal_only : bool
        Whether to show no bar where stderr is not a terminal.
    figures : callable
        What to show of an epoch, as text by name.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        unit: str = "epoch",
        *,
        every: int = 1,
        lines: int | None = None,
        terminal_only: bool = False,
        figures: Callable[[EpochResult], dict[str, str]] | None = None,
    ) -> None:
        self._total, self._unit, self._every, self._lines = total, unit, every, lines
        self._figures = _default_figures if figures is None else figures
        self._bar: Any = None
        self._hidden: EpochResult | None = None  # the last one, where it has no line
        if every > 1:
            return
        if terminal_only and not sys.stderr.isatty():
            return
        with suppress(ImportError):
            from tqdm import auto

            self._bar = auto.tqdm(total=total, initial=min(done, total), unit=unit)

    def show(self, result: EpochResult) -> None:
        """Show an epoch's figures."""
        if self._bar is not None:
            self._bar.set_postfix(self._figures(result), refresh=False)
            self._bar.update()
        elif self._is_line(result.epoch):
            self._print(result)
        else:
            self._hidden = result

    def _print(self, result: EpochResult) -> None:
        self._hidden = None
        text = "  ".join(f"{name} {value}" for name, value in self._figures(result).items())
        # A reader of stderr may have gone; the training goes on.
        with suppress(OSError, ValueError):
            line = f"{self._unit} {result.epoch}/{self._total}  {text}  {result.seconds:.3g} s"
            print(line, file=sys.stderr, flush=True)

    def _is_line(self, epoch: int) -> bool:
        if self._every > 1:
            return epoch % self._every == 0 or epoch == self._total
        if self._lines is None or epoch in (1, self._total):
            return True
        return epoch * self._lines // self._total > (epoch - 1) * self._lines // self._total

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._every > 1 and self._hidden is not None:  # stopped early
            self._print(self._hidden)


def _default_figures(result: EpochResult) -> dict[str, str]:
    values = {"loss": f"{result.loss:.4g}"}
    if result.accuracy is not None:
        values["accuracy"] = f"{result.accuracy:.4f}"
    if "gradient_norm" in result.solver:
        values["gradient"] = f"{result['gradient_norm']:.3g}"
    for name in ("val_loss", "val_accuracy", "val_r2"):
        if name in result.validation:
            values[name] = f"{result[name]:.4f}" if name != "val_loss" else f"{result[name]:.4g}"
    usual = ("val_loss", "val_accuracy", "val_r2", "val_mse", "val_mae", "val_deviance")
    for more in (result.metrics, result.validation):
        values |= {name: f"{value:.4g}" for name, value in more.items() if name not in usual}
    return values
