"""The progress of a training on the screen: of ``fit``, of the solvers, of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from ..bars import Bar, print_line
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
        self._hidden: EpochResult | None = None  # the last one, where it has no line
        wanted = every == 1 and (not terminal_only or sys.stderr.isatty())
        self._bar = Bar(total, unit, wanted=wanted, initial=min(done, total))

    def show(self, result: EpochResult) -> None:
        """Show an epoch's figures."""
        if self._bar.drawn:
            self._bar.update(1, self._figures(result))
        elif self._is_line(result.epoch):
            self._print(result)
        else:
            self._hidden = result

    def _print(self, result: EpochResult) -> None:
        self._hidden = None
        text = "  ".join(f"{name} {value}" for name, value in self._figures(result).items())
        print_line(f"{self._unit} {result.epoch}/{self._total}  {text}  {result.seconds:.3g} s")

    def _is_line(self, epoch: int) -> bool:
        if self._every > 1:
            return epoch % self._every == 0 or epoch == self._total
        if self._lines is None or epoch in (1, self._total):
            return True
        return epoch * self._lines // self._total > (epoch - 1) * self._lines // self._total

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)
        if self._every > 1 and self._hidden is not None:  # stopped early
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
