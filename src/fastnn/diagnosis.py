"""Bias or variance: what the errors on training, development and test rows say, and what to try next."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._typing import ArrayLike, Data
from .checks import check_number, check_threads
from .layers import Dropout
from .names import listing
from .network import Network
from .plotting import COLOURS, finished, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Diagnosis", "diagnose"]
__dir__ = listing(__all__)

#: Rows and targets, and weights where rows have them.
Part: TypeAlias = "tuple[Data, ArrayLike] | tuple[Data, ArrayLike, ArrayLike]"

#: A training whose loss fell by more than this share in its last tenth has not converged.
STILL_FALLING = 0.01
#: Standard errors within which a gap may be chance.
CHANCE = 2.0


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found.

    Attributes
    ----------
    errors : dict of float
        By part ("train", "dev", "test") the mean error of its rows.
    standard_errors : dict of float
        By part the standard error of that mean: how far other rows of the same kind would move it.
    rows : dict of int
        By part the number of rows.
    measure : str
        What the errors are: "error rate", or "1 - R²" in variances of the training targets.
    target_error, max_bias, max_variance : float
        As given.
    advice : tuple of str
        What to try next, in this order.
    remarks : tuple of str
        Why the verdict may be uncertain.
    """

    errors: dict[str, float]
    standard_errors: dict[str, float]
    rows: dict[str, int]
    measure: str
    target_error: float
    max_bias: float
    max_variance: float
    advice: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def bias(self) -> float:
        """Training error above the target error: what better fitting can still gain."""
        return self.errors["train"] - self.target_error

    @property
    def variance(self) -> float:
        """Error on the development rows above that on the training rows: the gap of generalisation."""
        return self.errors["dev"] - self.errors["train"]

    @property
    def high_bias(self) -> bool:
        """Whether the training rows are fitted too badly."""
        return self.bias > self.max_bias

    @property
    def high_variance(self) -> bool:
        """Whether the error on new rows is much larger than on those trained on."""
        return self.variance > self.max_variance

    @property
    def verdict(self) -> str:
        """One of the four: "high bias", "high variance", "high bias and high variance", "low bias, low variance"."""
        found = [name for name, high in (("bias", self.high_bias), ("variance", self.high_variance)) if high]
        return " and ".join(f"high {name}" for name in found) or "low bias, low variance"

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, ax: Axes | None = None, title: str | None = None
    ) -> Axes:
        """Draw the error of each part with its standard error; lines show the target and what counts as high bias.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        ax : Axes, optional
            Where to draw. Without it a new figure is made, by pyplot unless it goes to a file.
        title : str, optional
            None is the verdict.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install "fastnn[cli]"``).
        """
        axis: Any = new_axes(1, path is not None)[0] if ax is None else ax
        bars = range(len(self.errors))
        spread = [CHANCE * error for error in self.standard_errors.values()]
        axis.bar(bars, list(self.errors.values()), width=0.6, yerr=spread, capsize=4, color=COLOURS[: len(bars)])
        axis.axhline(self.target_error, color="0.3", linewidth=1.0, label="target")
        axis.axhline(self.target_error + self.max_bias, color="0.3", linestyle=":", label="training error of high bias")
        limit = self.errors["train"] + self.max_variance
        axis.hlines(limit, 0.6, 1.4, color="0.3", linestyle="--", label="dev error of high variance")
        axis.set_xticks(bars, [f"{part}\n{self.rows[part]:,} rows" for part in self.errors])
        axis.set_ylabel(f"{self.measure} (± {CHANCE:g} standard errors)")
        axis.grid(True, axis="y", alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
        return finished(axis, path, self.verdict if title is None else title)

    def _table(self) -> list[tuple[str, str, str, str]]:
        table = [("", self.measure, "standard error", "rows"), ("target", f"{self.target_error:.4f}", "", "")]
        for part, error in self.errors.items():
            table.append((part, f"{error:.4f}", f"{self.standard_errors[part]:.4f}", f"{self.rows[part]:,}"))
        return table

    def _differences(self) -> str:
        def judged(value: float, most: float, high: bool) -> str:
            return f"{value:.4f} ({'high, above' if high else 'low, at most'} {most:g})"

        return (
            f"bias (train - target) {judged(self.bias, self.max_bias, self.high_bias)}; "
            f"variance (dev - train) {judged(self.variance, self.max_variance, self.high_variance)}"
        )

    def __repr__(self) -> str:
        table = self._table()
        widths = [max(len(row[k]) for row in table) for k in range(4)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]
        lists = [f"- {text}" for text in self.advice]
        remarks = ["", *(f"Note: {text}" for text in self.remarks)] if self.remarks else []
        return "\n".join([f"Diagnosis: {self.verdict}", "", *lines, "", self._differences(), "", *lists, *remarks])

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self._table())
        cells = "".join(f"<tr>{row}</tr>" for row in rows)
        advice = "".join(f"<li>{escape(text)}</li>" for text in self.advice)
        remarks = "".join(f"<p>Note: {escape(text)}</p>" for text in self.remarks)
        return (
            f"<p><b>Diagnosis: {escape(self.verdict)}</b></p><table>{cells}</table>"
            f"<p>{escape(self._differences())}</p><ul>{advice}</ul>{remarks}"
        )


def diagnose(
    net: Network,
    train: Part,
    dev: Part,
    test: Part | None = None,
    target_error: float = 0.0,
    *,
    max_bias: float = 0.05,
    max_variance: float = 0.05,
    threads: int | None = None,
) -> Diagnosis:
    """Judge from the errors on training and development rows whether a network has high bias, high variance, or both.

    The error of a classifier is the share of rows that are not right in all outputs, 1 - accuracy. That of a regression
    is Σ w (y - ŷ)² / Σ w, divided by the variance of the training targets, as the mean over the outputs: 1 - R² on the
    training rows, in the same unit on all others. Bias is high if E(train) - `target_error` > `max_bias`, variance if
    E(dev) - E(train) > `max_variance`.

    Parameters
    ----------
    net : Network
        Trained.
    train, dev, test : tuple (X, y) or (X, y, sample_weight)
        Rows of the training, rows by which settings are chosen, and rows by which nothing was chosen.
    target_error : float, default=0.0
        The error that can be reached, at least 0: that of the best known method or of people, or the noise.
    max_bias, max_variance : float, default=0.05
        Differences of errors that still count as low.
    threads : int, optional

    Returns
    -------
    Diagnosis
        Prints as a report; ``verdict``, ``bias``, ``variance``, ``advice`` and ``plot()``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; it is named.

    Notes
    -----
    Bias and variance are differences of errors here, as practitioners use the words, not the terms of the decomposition
    of a squared error. Either verdict may be wrong in two cases, of which the report warns: a training that has not
    converged shows as bias, which another network does not cure; a gap below two standard errors may be chance.

    References
    ----------
    A. Ng, Machine Learning Yearning (2018), chapters 20 to 27.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_digits()
    >>> net = fnn.Sequential([fnn.Dense(10)], input_size=64, loss="cross_entropy", seed=0)
    >>> history = net.fit(X[:200], y[:200], optimizer=fnn.LBFGS())
    >>> fnn.diagnose(net, (X[:200], y[:200]), (X[200:], y[200:])).verdict
    'high variance'
    """
    if not isinstance(net, Network):
        raise TypeError(f"net: expected a Sequential, got {type(net).__name__}")
    target_error = check_number("target_error", target_error, minimum=0.0)
    max_bias = check_number("max_bias", max_bias, minimum=0.0)
    max_variance = check_number("max_variance", max_variance, minimum=0.0)
    threads = check_threads(threads)
    given = {"train": train, "dev": dev} | ({} if test is None else {"test": test})
    checked = {name: _checked(net, name, part) for name, part in given.items()}
    variance = None if net.loss_function.classifies else _variance(*checked["train"][1:])
    errors: dict[str, float] = {}
    standard: dict[str, float] = {}
    for name, (rows, y, w) in checked.items():
        wrong = _row_errors(net, rows, y, variance, threads)
        weight = np.ones(len(wrong)) if w is None else w.astype(np.float64)
        errors[name] = float(np.average(wrong, weights=weight))
        standard[name] = float(np.sqrt((weight**2 * (wrong - errors[name]) ** 2).sum()) / weight.sum())
    measure = "error rate" if variance is None else "1 - R²"
    sizes = {name: len(rows) for name, (rows, _, _) in checked.items()}
    report = Diagnosis(errors, standard, sizes, measure, target_error, max_bias, max_variance, (), ())
    return dataclasses.replace(report, advice=_advice(net, report), remarks=_remarks(report))


def _checked(net: Network, name: str, part: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
    if not isinstance(part, tuple) or len(part) not in (2, 3):
        raise TypeError(f"{name}: expected a tuple (X, y) or (X, y, sample_weight), got {type(part).__name__}")
    X, y, *weight = part
    try:
        return net.check_data(X, y, weight[0] if weight else None)
    except (ValueError, TypeError) as wrong:
        raise type(wrong)(f"{name}: {wrong}") from None


def _variance(y: np.ndarray, w: np.ndarray | None) -> np.ndarray:
    """Variance (K,) of the training targets."""
    truth = y.astype(np.float64)
    found: np.ndarray = np.average((truth - np.average(truth, axis=0, weights=w)) ** 2, axis=0, weights=w)
    return found


def _row_errors(net: Network, rows: Any, y: np.ndarray, variance: np.ndarray | None, threads: int | None) -> np.ndarray:
    """Error (N,) of each row: 0 or 1, or the squared error in variances; of an output without any 0 or 1, too."""
    Z = net.outputs(rows, threads)
    if variance is None:
        return 1.0 - net.loss_function.hits(Z, y).astype(np.float64)
    squares = (net.decide(Z).reshape(Z.shape).astype(np.float64) - y.astype(np.float64)) ** 2
    constant = variance == 0.0
    relative = np.where(constant, (squares > 0.0).astype(np.float64), squares / np.where(constant, 1.0, variance))
    found: np.ndarray = relative.mean(axis=1)
    return found


def _advice(net: Network, report: Diagnosis) -> tuple[str, ...]:
    """What to try next; bias before variance, because what cures it changes the variance."""
    advice = []
    drops = any(isinstance(layer, Dropout) for layer in net.layers)
    if report.high_bias:
        if _still_falling(net):
            advice.append("train longer: the training loss was still falling")
        else:
            advice.append("train longer, or with another optimizer or learning rate: the minimum may not be reached")
        advice.append(
            "a bigger network: more units, more layers" + ("" if _is_deep(net) else " (it has no hidden one)")
        )
        advice.append("less regularization: l1, l2" + (", dropout" if drops else ""))
        advice.append("other features or another architecture")
    if report.high_variance:
        then = "then, with the bias low: " if report.high_bias else ""
        advice.append(f"{then}more rows; fnn.learning_curve shows what they bring")
        advice.append("more regularization: l2, dropout, early stopping, augmentation; see fnn.validation_curve")
        advice.append("a smaller network, fewer features, or another architecture")
    if not advice and "test" in report.errors:
        advice.append("nothing: done")
    elif not advice:
        advice.append("nothing: measure the error on test rows, by which nothing was chosen")
    return tuple(advice)


def _is_deep(net: Network) -> bool:
    return sum(op.facts.has_weight for op in net.ops) > 1


def _still_falling(net: Network) -> bool:
    """Whether the loss fell in the last tenth of the last training."""
    history = getattr(net, "history", None)
    losses = [] if history is None else [float(value) for value in history["loss"]]
    if len(losses) < 2:
        return False
    before = losses[-1 - max(1, len(losses) // 10)]
    return losses[-1] < before - STILL_FALLING * abs(before)


def _remarks(report: Diagnosis) -> tuple[str, ...]:
    remarks = []
    errors, standard = report.errors, report.standard_errors
    spread = CHANCE * math.hypot(standard["train"], standard["dev"])
    if abs(report.variance - report.max_variance) < spread:
        remarks.append(
            f"with these rows the gap is uncertain by ± {spread:.2g}; more dev rows would settle whether it is high"
        )
    if report.variance < -spread:
        remarks.append(
            "the dev rows are easier than the training rows: dropout or augmentation in training, or rows of "
            "another distribution"
        )
    if report.bias < 0.0:
        remarks.append(
            "the training error is below the target error: the network fits noise, or the target is too high"
        )
    if "test" in errors:
        spread = CHANCE * math.hypot(standard["dev"], standard["test"])
        if errors["test"] - errors["dev"] > max(spread, 1e-12):
            remarks.append(
                "the test error is above the dev error by more than chance: the choices overfit the dev rows, "
                "or the two come from different distributions"
            )
    return tuple(remarks)
