"""``fastnn train``: a network for a table, tested on rows that it has not seen."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .. import io, optimizers, plotting
from .._core.threads import blas_threads
from .._typing import Options
from ..checks import check_threads, moments
from ..files import check_writable, need
from ..layers import Dense, Standardize
from ..losses import CrossEntropy
from ..optimizers import Optimizer
from ..plan import ACTIVATIONS
from ..sequential import Sequential
from ..training.history import EpochResult
from ..training.progress import Progress
from . import tables
from .arguments import default_epochs, default_l2
from .console import Failure, Output, duration, say
from .encoding import Encoding, Split, in_target_units, prepare
from .scores import baselines, score_names, scores
from .tables import listed

__all__ = ["run_train"]

#: Standard deviations between a feature's mean and 0 beyond which float32 leaves fewer than three digits of it.
LARGE_MEAN = 1e4


def run_train(args: argparse.Namespace) -> int:
    """Train, test, save and draw; returns the exit code."""
    optimizer = _optimizer(args)
    kind = tables.kind(args.data)
    if kind != "csv" and args.target is not None:
        raise Failure(f"--target is for a .csv or .tsv, {args.data} has one target")
    _check_outputs(args)
    table = tables.read(args.data, args.target)
    encoding, split, why = prepare(table, args.task, test_fraction=args.test_fraction, seed=args.seed)
    run = Run(args, encoding, split, optimizer)
    out = Output(args.quiet)
    for remark in table.notes if not args.quiet else ():
        say(f"fastnn: {remark}")
    _introduce(out, args, table.title, run, why, name_target=kind == "csv")
    note = _lost_digits(split.X, encoding.features, args.dtype)
    if note and not args.quiet:
        say(f"fastnn: {note}")
    interrupted = run.train()
    if args.save is not None:
        training = {"data": table.title, "epochs": run.done, "optimizer": args.optimizer, "seed": args.seed}
        io.save(run.finished(), args.save, metadata={**encoding.to_metadata(), "training": training})
    if args.plot is not None and run.done:
        plotting.plot_history(run.curves, args.plot, title=table.title)
    if interrupted:
        saved = f"; the network so far is in {args.save}" if args.save else ""
        raise KeyboardInterrupt(f"interrupted after {run.done} of {run.epochs} epochs{saved}")
    _report(out, args, run)
    return 0


def _optimizer(args: argparse.Namespace) -> Optimizer:
    options: Options = {}
    if args.learning_rate is not None:
        options["learning_rate"] = args.learning_rate
    if args.optimizer in ("sgd", "nesterov"):
        nesterov = args.optimizer == "nesterov"
        momentum = args.momentum if args.momentum is not None else 0.9 if nesterov else 0.0
        if nesterov and momentum == 0:
            raise Failure("--optimizer nesterov needs a --momentum above 0")
        return optimizers.SGD(momentum=momentum, nesterov=nesterov, **options)
    if args.momentum is not None:
        raise Failure(f"--momentum belongs to sgd and nesterov, not to {args.optimizer}")
    return optimizers.get(args.optimizer).__class__(**options)


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse output paths that cannot be written before any work is done."""
    paths = {"--save": args.save, "--plot": args.plot}
    seen: dict[Path, str] = {}
    if Path(args.data).is_file():
        seen[Path(args.data).resolve()] = "DATA"
    for option, path in paths.items():
        if path is None:
            continue
        check_writable(path)
        real = Path(path).resolve()
        if real in seen:
            raise Failure(f"{option} {path} would overwrite {seen[real]}")
        seen[real] = option
    if args.plot is not None:
        if Path(args.plot).suffix.lower() not in (".png", ".pdf", ".svg"):
            raise Failure(f"--plot {args.plot}: expected a name that ends in .png, .pdf or .svg")
        need("matplotlib", "--plot")


class Run:
    """A network, what it is given, and the record of its training.

    A regression learns its target in standard deviations; :meth:`finished` gives the network for the target itself.
    """

    def __init__(self, args: argparse.Namespace, encoding: Encoding, split: Split, optimizer: Optimizer) -> None:
        classes = encoding.classes
        if classes and args.loss:
            raise Failure(f"--loss {args.loss} is for regression, this is a classification")
        if not classes and args.label_smoothing is not None:
            raise Failure("--label-smoothing is for classification, this is a regression")
        self.encoding, self.split, self.optimizer, self.quiet = encoding, split, optimizer, bool(args.quiet)
        self.threads = check_threads(args.threads) or blas_threads()
        n_rows, n_features = split.X.shape
        self.batch_size = min(args.batch_size or (64 if n_rows >= 10_000 else 32), n_rows)
        self.epochs = args.epochs or default_epochs(n_rows, self.batch_size)
        self.l2 = default_l2(n_rows) if args.l2 is None else args.l2
        pixels = split.X.dtype == np.uint8
        init = ACTIVATIONS[args.activation].init
        self.net = Sequential(
            [
                *([] if pixels else [Standardize()]),
                *(Dense(width, args.activation, init=init) for width in args.hidden),
                Dense(len(classes) if classes else 1),
            ],
            input_size=n_features,
            loss=CrossEntropy(args.label_smoothing or 0.0) if classes else args.loss or "squared_error",
            dtype=args.dtype,
            seed=args.seed,
            input_scale=1 / 255 if pixels else None,
        )
        self.score = "accuracy" if classes else "r2"
        names = ["epoch", "loss", *(["accuracy"] if classes else []), "test_loss", f"test_{self.score}"]
        self.curves: dict[str, list[float]] = {name: [] for name in names}
        self.seconds: list[float] = []
        self.elapsed = 0.0

    @property
    def done(self) -> int:
        """Epochs finished."""
        return len(self.seconds)

    def targets(self, y: np.ndarray) -> np.ndarray:
        """What the network learns: codes of classes, or values in standard deviations."""
        return y if self.encoding.classes else (y - self.split.target_mean) / self.split.target_scale

    def train(self) -> bool:
        """Train all epochs, with a test after each; True if Ctrl-C ended it."""
        split, start = self.split, time.perf_counter()
        shown = Progress(self.epochs, lines=10, terminal_only=True, figures=self._figures)
        try:
            with nullcontext() if self.quiet else shown:
                self.net.fit(
                    split.X,
                    self.targets(split.y),
                    optimizer=self.optimizer,
                    epochs=self.epochs,
                    batch_size=self.batch_size,
                    l2=self.l2,
                    threads=self.threads,
                    validation_data=(split.X_test, self.targets(split.y_test)),
                    callbacks=[self._record, *([] if self.quiet else [shown.show])],
                )
        except KeyboardInterrupt:
            return True
        finally:
            self.elapsed = time.perf_counter() - start
        return False

    def _record(self, result: EpochResult) -> None:
        # The loss of the test has no penalty.
        row: dict[str, Any] = {"epoch": result.epoch, "accuracy": result.accuracy}
        row["loss"] = max(0.0, result.loss - result.penalty)
        row |= {name.replace("val_", "test_"): value for name, value in result.validation.items()}
        for name, values in self.curves.items():
            values.append(row[name])
        self.seconds.append(result.seconds)

    def _figures(self, result: EpochResult) -> dict[str, str]:
        values = {"loss": f"{self.curves['loss'][-1]:.4f}"}
        if result.accuracy is None:
            return {**values, "test R²": f"{result['val_r2']:.4f}"}
        return {**values, "accuracy": f"{100 * result.accuracy:.2f}%", "test": f"{100 * result['val_accuracy']:.2f}%"}

    def finished(self) -> Sequential:
        """The network whose outputs are in the target's units."""
        return in_target_units(self.net, self.encoding, self.split)


def _introduce(out: Output, args: argparse.Namespace, title: str, run: Run, why: str, name_target: bool) -> None:
    pixels = ", pixels / 255" if run.split.X.dtype == np.uint8 else ""
    n_rows, n_features = run.split.X.shape
    out.line(f"{title}: {n_rows:,} rows to train, {len(run.split.X_test):,} to test, {n_features:,} features{pixels}")
    if name_target:
        hint = "" if args.target else " (the last column; --target names another)"
        out.line(f"target: {run.encoding.target}{hint}")
    classes = run.encoding.classes
    task = f"classification, {len(classes)} classes ({listed(classes, 10)})" if classes else "regression"
    out.line(f"task: {task}" + (f"; {why}" if why else ""))
    widths = "-".join(map(str, [run.split.X.shape[1], *args.hidden, run.net.n_outputs]))
    out.line(f"network: {widths}, {args.activation if args.hidden else 'linear'}, {args.dtype}")
    out.line(
        f"training: {args.optimizer}, learning rate {run.optimizer.learning_rate:g}, l2 {run.l2:.2g}, "
        f"{run.epochs} epochs in batches of {run.batch_size}, seed {args.seed}"
    )
    out.line()


def _lost_digits(X: np.ndarray, names: list[str] | None, dtype: str) -> str:
    """A note on features that vary little around a large value, of which float32 keeps few digits; else empty."""
    if dtype != "float32" or X.dtype == np.uint8:
        return ""
    mean, deviation = moments(X)
    worst = np.divide(np.abs(mean), deviation, out=np.zeros_like(mean), where=deviation > 0.0)
    if worst.max(initial=0.0) < LARGE_MEAN:
        return ""
    column = int(worst.argmax())
    return (
        f"column {names[column] if names else column!r} varies by {deviation[column]:.2g} around {mean[column]:.2g}: "
        "float32 keeps few of its digits, --dtype float64 keeps all"
    )


def _report(out: Output, args: argparse.Namespace, run: Run) -> None:
    encoding, split, threads = run.encoding, run.split, run.threads
    rows = [["", *score_names(encoding, split)]]
    rows.append(["train", *scores(run.net, encoding, split, split.X, split.y, threads)])
    rows.append(["test", *scores(run.net, encoding, split, split.X_test, split.y_test, threads)])
    for name, net in ({} if args.quiet else baselines(run.net, encoding, split, run.l2, threads)).items():
        rows.append([f"- {name}", *scores(net, encoding, split, split.X_test, split.y_test, threads)])
    out.table(rows)
    out.line()
    facts = [
        ["time per epoch", duration(float(np.median(run.seconds)))],
        ["training time", duration(sum(run.seconds))],
        ["total time", duration(run.elapsed)],
        ["parameters", f"{run.net.n_parameters:,}"],
        ["threads", str(run.threads)],
    ]
    if args.save is not None:
        facts.append(["saved to", args.save])
    if args.plot is not None:
        facts.append(["curves in", args.plot])
    for name, value in facts:
        out.line(f"{name:<16}{value}")
