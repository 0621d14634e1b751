"""Methods side by side: the same rows, several seeds, one table and one figure."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._typing import ArrayLike, Data
from .bars import Bar, print_line
from .checks import check_integer, check_number, check_verbose
from .metrics import rises
from .names import listing
from .optimizers import Optimizer, Solver
from .schema import printable
from .sequential import Sequential
from .training.classes import labels_of
from .training.data import stratified_split, take_rows
from .training.history import DivergenceError, EpochResult, History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["Comparison", "ComparisonRun", "check_seeds", "compare", "redrawn"]
__dir__ = listing(__all__)

#: A network, whose layers and loss make a new network for each seed; or a function that returns a network, called with
#: ``seed=`` where it has such an argument.
Model: TypeAlias = "Sequential | Callable[..., Sequential]"
Method: TypeAlias = "tuple[Model, Mapping[str, Any] | Optimizer | Solver]"

#: Epochs where only the time is limited.
UNLIMITED = 1_000_000
#: Arguments of fit that a comparison gives itself.
OWN = ("X", "y", "validation_data", "validation_split", "sample_weight", "seed", "resume")


@dataclass(frozen=True)
class ComparisonRun:
    """One training of a comparison.

    Attributes
    ----------
    method : str
    seed : int
    net : Sequential
        As the training left it.
    history : History
    train, validation : dict of float
        ``net.evaluate`` on either part at the end; `validation` is empty without such rows.
    seconds : float
        Of training, without validation.
    evaluations : int
        How often the objective or a derivative was evaluated on all rows; an epoch of mini-batches is one.
    error : str
        Why it ended before its time; empty where it did not.
    """

    method: str
    seed: int
    net: Sequential = field(repr=False)
    history: History = field(repr=False)
    train: dict[str, float]
    validation: dict[str, float]
    seconds: float
    evaluations: int
    error: str = ""


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    runs : tuple of ComparisonRun
        In the order in which they ran: seed by seed.
    stopped : str
        "interrupted" where Ctrl-C ended it before all had run, else empty.
    """

    runs: tuple[ComparisonRun, ...]
    stopped: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def histories(self) -> dict[str, list[History]]:
        """By method the history of each seed."""
        return {name: [run.history for run in self.runs if run.method == name] for name in self.methods}

    def to_dict(self) -> dict[str, list[Any]]:
        """The table as columns, a row per method: means over the seeds, and deviations under ``…_std``.

        ``epochs`` (or iterations), ``seconds``, ``evaluations``; the scores of ``net.evaluate`` at the end, on
        validation rows with ``val_``; ``best_val_…``, the best of all epochs; ``failed``, the number of seeds that
        diverged, which the means leave out.
        """
        rows = [self._row(name) for name in self.methods]
        names = list(dict.fromkeys(["method", "seeds", "failed", *(key for row in rows for key in row)]))
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    @property
    def table(self) -> DataFrame | dict[str, list[Any]]:
        """:meth:`to_dict` as a DataFrame whose index is the method, where pandas is installed; else the dict."""
        columns = self.to_dict()
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns).set_index("method")

    def _row(self, name: str) -> dict[str, Any]:
        runs = [run for run in self.runs if run.method == name]
        good = [run for run in runs if not run.error]
        row: dict[str, Any] = {"method": name, "seeds": len(runs), "failed": len(runs) - len(good)}
        numbers: dict[str, list[float]] = {}
        for run in good:
            entries = {
                "epochs": float(len(run.history)),
                "seconds": run.seconds,
                "evaluations": float(run.evaluations),
                **run.train,
                **{f"val_{key}": value for key, value in run.validation.items()},
                **_best(run.history),
            }
            for key, value in entries.items():
                numbers.setdefault(key, []).append(value)
        for key, values in numbers.items():
            row[key] = float(np.mean(values))
            row[f"{key}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return row

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        metric: str = "loss",
        x: str = "epoch",
        log: bool | None = None,
        ax: Axes | None = None,
        title: str | None = None,
    ) -> Axes:
        """Draw the curves of all methods in one figure; see :func:`fastnn.plotting.plot_histories`."""
        from .plotting import plot_histories

        return plot_histories(self.histories, path, metric=metric, x=x, log=log, ax=ax, title=title)

    def __repr__(self) -> str:
        columns = self.to_dict()
        scores = [name for name in columns if name in ("loss", "accuracy", "r2", "val_loss", "val_accuracy", "val_r2")]
        best = [name for name in columns if name in ("best_val_loss", "best_val_accuracy", "best_val_r2")]
        heads = ["method", *scores, *best, "epochs", "evaluations", "seconds"]
        rows = [heads]
        for i, name in enumerate(columns["method"]):
            cells = [printable(name)]
            for key in heads[1:]:
                value, spread = (columns[at][i] if at in columns else math.nan for at in (key, f"{key}_std"))
                around = key not in ("epochs", "evaluations") and math.isfinite(spread)
                cells.append(f"{value:.4g}" + (f" ± {spread:.1g}" if around else ""))
            rows.append(cells)
        widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        failed = [f"{run.method}, seed {run.seed}: {run.error}" for run in self.runs if run.error]
        seeds = max(columns["seeds"], default=0)
        about = f"Comparison of {len(columns['method'])} methods over {seeds} seed{'' if seeds == 1 else 's'}"
        about += f"; {self.stopped}" if self.stopped else ""
        return "\n".join([about, "", *(line.rstrip() for line in lines), *map(printable, failed)])


def compare(
    methods: Mapping[str, Method],
    X: Data,
    y: ArrayLike,
    *,
    validation_data: tuple[Data, ArrayLike] | None = None,
    validation_split: float = 0.0,
    sample_weight: ArrayLike | None = None,
    seeds: int | Iterable[int] = 5,
    epochs: int | None = None,
    time_limit: float | None = None,
    threads: int | None = None,
    verbose: int = 0,
) -> Comparison:
    """Train by several methods, from several seeds each, and compare scores, time and evaluations.

    Methods may be mini-batch optimizers, K-FAC and full-batch solvers. All of them see the same rows; with one seed
    all networks of the same layers start from the same parameters. Methods take turns, seed by seed, so that a machine
    that slows down slows all of them.

    Parameters
    ----------
    methods : dict
        By name a network, or a function that makes one, and what ``net.fit`` is given: a dict of its arguments, or an
        optimizer or solver alone. A network is a pattern: a new one with its layers and loss is made for each seed, and
        it is not trained itself. A function is called with ``seed=`` where it takes it.
    X, y : array_like
        As for ``net.fit``.
    validation_data : tuple (X, y), optional
        Rows on which all methods are evaluated after each epoch.
    validation_split : float, default=0.0
        Instead, the part of the rows that is kept for this; the same for all methods and seeds, stratified by class.
    sample_weight : array_like (N,), optional
    seeds : int or iterable of int, default=5
        Their number (0, 1, …), or the seeds.
    epochs : int, optional
        Epochs, or iterations of a solver, where a method does not say its own; None: the defaults of ``net.fit`` and of
        the solvers.
    time_limit : float, optional
        Seconds of training after which a run ends with its epoch; without `epochs` it is the only limit.
    threads : int, optional
    verbose : {0, 1}, default=0
        1 shows a progress bar (tqdm where installed, else lines on stderr).

    Returns
    -------
    Comparison
        With ``table``, ``histories`` and ``plot``; prints as a summary, which lists the runs that diverged. They do not
        end the comparison. Ctrl-C does: what has run by then is returned, with ``stopped``.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the method is named.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy")
    >>> found = fnn.compare({"Adam": (net, fnn.Adam(0.01)), "L-BFGS": (net, fnn.LBFGS())}, X, y, seeds=2, epochs=20)
    >>> found.methods
    ('Adam', 'L-BFGS')
    """
    if not isinstance(methods, Mapping) or not methods:
        raise TypeError(f"methods: expected a dict of names and methods, got {methods!r:.80}")
    if epochs is not None:
        epochs = check_integer("epochs", epochs)
    if time_limit is not None:
        time_limit = check_number("time_limit", time_limit, above=0.0)
    timed = time_limit is not None
    checked = {str(name): _check_method(str(name), method, epochs, timed) for name, method in methods.items()}
    numbers = check_seeds(seeds)
    rows = _split(X, y, sample_weight, validation_data, validation_split)
    runs: list[ComparisonRun] = []
    total, shown = len(numbers) * len(checked), check_verbose(verbose) > 0
    with Bar(total, "run", wanted=shown) as bar:
        try:
            for seed in numbers:
                for name, (model, arguments) in checked.items():
                    runs.append(_run(name, model, {"threads": threads, **arguments}, rows, seed, time_limit))
                    if shown:
                        _show(bar, runs[-1], len(runs), total)
        except KeyboardInterrupt:
            return Comparison(tuple(runs), "interrupted")
    return Comparison(tuple(runs))


@dataclass(frozen=True)
class _Rows:
    """What every run is given."""

    X: Any
    y: Any
    weight: Any
    validation: tuple[Any, Any] | None


def _show(bar: Bar, run: ComparisonRun, done: int, total: int) -> None:
    """Show a run that has ended."""
    scores = run.validation or run.train
    text = printable(f"{run.method}, seed {run.seed}: loss {scores.get('loss', math.nan):.4g}")
    if bar.drawn:
        bar.update(1, text)
    else:
        print_line(f"run {done}/{total}  {text}")


class _Limit:
    """Ends a training with the epoch in which its time is over; validation does not count."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def __call__(self, result: EpochResult) -> None:
        self.left -= result.seconds
        if self.left <= 0.0:
            result.stop()


def _check_method(name: str, method: Any, epochs: int | None, timed: bool) -> tuple[Any, dict[str, Any]]:
    """The model, and the arguments of fit with the number of epochs that applies."""
    if not isinstance(method, tuple) or len(method) != 2:
        raise TypeError(f"methods[{name!r}]: expected (network, arguments of fit), got {type(method).__name__}")
    model, given = method
    if not isinstance(model, Sequential) and not callable(model):
        raise TypeError(f"methods[{name!r}]: expected a Sequential or a function, got {type(model).__name__}")
    arguments = {"optimizer": given} if isinstance(given, (Optimizer, Solver)) else given
    if not isinstance(arguments, Mapping):
        raise TypeError(f"methods[{name!r}]: expected a dict of arguments of fit, got {type(given).__name__}")
    arguments = dict(arguments)
    for own in OWN:
        if own in arguments:
            raise ValueError(f"methods[{name!r}]: {own} is given to compare, for all methods")
    optimizer = arguments.get("optimizer")
    if isinstance(optimizer, Solver):
        most = epochs or (UNLIMITED if timed else None)
        if most is not None and dataclasses.is_dataclass(optimizer) and "epochs" not in arguments:
            arguments["optimizer"] = dataclasses.replace(optimizer, max_iter=most)
    elif "epochs" not in arguments and (epochs or timed):
        arguments["epochs"] = epochs or UNLIMITED
    return model, arguments


def check_seeds(seeds: int | Iterable[int]) -> list[int]:
    """The seeds, of their number or as they are.

    Raises
    ------
    ValueError, TypeError
        If one is no integer of at least 0, or there is none.
    """
    if isinstance(seeds, (int, np.integer)):
        return list(range(check_integer("seeds", seeds)))
    numbers = [check_integer("seeds", seed, minimum=0) for seed in seeds]
    if not numbers:
        raise ValueError("seeds: expected at least one, got none")
    return numbers


def redrawn(pattern: Sequential, seed: int) -> Sequential:
    """A new network with the layers, the loss and the names of classes of another."""
    net = Sequential(
        pattern.layers,
        input_size=pattern.input_size,
        loss=pattern.loss_function,
        dtype=pattern.dtype,
        seed=seed,
        input_scale=pattern.input_scale,
        backend=pattern.backend,
    )
    net.classes_ = pattern.classes_
    return net


def _split(X: Any, y: Any, weight: Any, validation: tuple[Any, Any] | None, fraction: float) -> _Rows:
    fraction = check_number("validation_split", fraction, minimum=0.0, below=1.0)
    if validation is not None:
        if fraction:
            raise ValueError("validation_split: give either validation_data or validation_split, got both")
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise TypeError(f"validation_data: expected a tuple (X, y), got {type(validation).__name__}")
    if not fraction:
        return _Rows(X, y, weight, validation)
    targets = np.asarray(y)
    kept, held_out = stratified_split(labels_of(targets), len(targets), fraction, np.random.default_rng(0))
    if not len(held_out):
        raise ValueError(f"validation_split: {fraction:g} of {len(targets)} rows leaves none to validate")
    part = None if weight is None else np.asarray(weight)[kept]
    return _Rows(take_rows(X, kept), take_rows(y, kept), part, (take_rows(X, held_out), take_rows(y, held_out)))


def _make(name: str, model: Any, seed: int) -> Sequential:
    """A network of a seed."""
    if isinstance(model, Sequential):
        return redrawn(model, seed)
    takes_seed = "seed" in inspect.signature(model).parameters
    net = model(seed=seed) if takes_seed else model()
    if not isinstance(net, Sequential):
        raise TypeError(f"methods[{name!r}]: expected a function that makes a Sequential, got {type(net).__name__}")
    return net


def _run(
    name: str, model: Any, arguments: dict[str, Any], rows: _Rows, seed: int, time_limit: float | None
) -> ComparisonRun:
    net, error = _make(name, model, seed), ""
    callbacks = list(arguments.get("callbacks", ()))
    if time_limit is not None:
        callbacks.append(_Limit(time_limit))
    try:
        net.fit(
            rows.X,
            rows.y,
            **{
                **arguments,
                "sample_weight": rows.weight,
                "validation_data": rows.validation,
                "seed": seed,
                "callbacks": callbacks,
            },
        )
    except DivergenceError as diverged:
        error = str(diverged)
    except (ValueError, TypeError) as wrong:
        raise type(wrong)(f"methods[{name!r}]: {wrong}") from wrong
    history = net.history if net.history is not None else History()
    evaluations = int(history["evaluations"][-1]) if "evaluations" in history and len(history) else len(history)
    threads = arguments.get("threads")
    train = net.evaluate(rows.X, rows.y, rows.weight, threads=threads)
    validation = {} if rows.validation is None else net.evaluate(*rows.validation, threads=threads)
    seconds = float(np.sum(history["seconds"]))
    return ComparisonRun(name, seed, net, history, train, validation, seconds, evaluations, error)


def _best(history: History) -> dict[str, float]:
    """The best of each validation series whose name tells whether more is better."""
    found = {}
    series = history.keys()
    for key in series:
        values = [value for value in history[key] if value is not None and math.isfinite(value)]
        if key.startswith("val_") and values:
            with suppress(ValueError):
                found[f"best_{key}"] = max(values) if rises(key) else min(values)
    return found
