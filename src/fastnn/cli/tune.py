"""``fastnn tune``: a search for the network of a table, by cross-validation."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import io
from .._core.threads import blas_threads
from ..checks import check_threads
from ..files import check_writable, need
from ..layers import Dense, Dropout, Standardize
from ..plan import ACTIVATIONS
from ..sequential import Sequential
from ..sweeps import LogUniform, SweepResult, sweep
from . import tables
from .arguments import default_epochs
from .console import Failure, Output, duration
from .encoding import Encoding, Split, in_target_units, prepare
from .scores import score_names, scores
from .table_files import written
from .tables import listed

__all__ = ["run_tune"]

#: What is drawn from; learning rates are Adam's, batch sizes no larger than an eighth of the rows.
ACTIVATION_NAMES = ("relu", "tanh", "gelu")
DROPOUT = (0.0, 0.1, 0.3)
DEPTHS = (1, 2, 3)
BATCH_SIZES = (16, 32, 64, 128, 256)
WIDTHS = (8, 128)
LEARNING_RATES, PENALTIES = (2e-4, 3e-2), (1e-6, 1e-1)

#: Epochs without an improvement after which a member stops, as a part of all.
PATIENCE = 0.2


def run_tune(args: argparse.Namespace) -> int:
    """Search, refit the best, test and save it; returns the exit code."""
    kind = tables.kind(args.data)
    if kind != "csv" and args.target is not None:
        raise Failure(f"--target is for a .csv or .tsv, {args.data} has one target")
    _check_outputs(args)
    table = tables.read(args.data, args.target)
    encoding, split, _ = prepare(table, args.task, test_fraction=args.test_fraction, seed=args.seed)
    out, threads = Output(args.quiet), check_threads(args.threads) or blas_threads()
    n_rows, n_features = split.X.shape
    out.line(f"{table.title}: {n_rows:,} rows to train, {len(split.X_test):,} to test, {n_features:,} features")
    classes = encoding.classes
    out.line(f"task: {f'classification, {len(classes)} classes ({listed(classes, 10)})' if classes else 'regression'}")
    epochs = args.epochs or default_epochs(n_rows, 32)
    out.line(f"search: {args.n} settings, {args.cv} folds, up to {epochs} epochs, {threads} threads, seed {args.seed}")
    result = _search(args, encoding, split, epochs, threads)
    out.line()
    out.line(str(result))
    _write(args, result)
    if result.stopped == "interrupted":
        raise KeyboardInterrupt("interrupted; nothing was saved" if args.save else "interrupted")
    if not result.has_scores:
        raise Failure("no setting was trained on all folds; give a longer --time-limit, or fewer --cv")
    _report(args, out, encoding, split, result, table.title, threads)
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse output paths that cannot be written before any work is done."""
    seen: dict[Path, str] = {}
    if Path(args.data).is_file():
        seen[Path(args.data).resolve()] = "DATA"
    for option, path in (("--save", args.save), ("--table", args.table), ("--plot", args.plot)):
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


def _search(args: argparse.Namespace, encoding: Encoding, split: Split, epochs: int, threads: int) -> SweepResult:
    pixels = split.X.dtype == np.uint8
    n_outputs = len(encoding.classes) if encoding.classes else 1

    def network(width: int, depth: int, activation: str, dropout: float, seed: int) -> Sequential:
        hidden: list[Any] = []
        for _ in range(depth):
            hidden.append(Dense(width, activation, init=ACTIVATIONS[activation].init))
            hidden += [Dropout(dropout)] if dropout else []
        return Sequential(
            [*([] if pixels else [Standardize()]), *hidden, Dense(n_outputs)],
            input_size=split.X.shape[1],
            loss="cross_entropy" if encoding.classes else "squared_error",
            seed=seed,
            input_scale=1 / 255 if pixels else None,
        )

    space = {
        "width": LogUniform(*WIDTHS, integer=True),
        "depth": DEPTHS,
        "activation": ACTIVATION_NAMES,
        "dropout": DROPOUT,
        "learning_rate": LogUniform(*LEARNING_RATES),
        "l2": LogUniform(*PENALTIES),
        "batch_size": [size for size in BATCH_SIZES if size <= max(16, len(split.X) // 8)],
    }
    return sweep(
        network,
        space,
        split.X,
        targets(encoding, split),
        n=args.n,
        cv=args.cv,
        epochs=epochs,
        patience=max(2, math.ceil(PATIENCE * epochs)),
        time_limit=args.time_limit,
        threads=threads,
        seed=args.seed,
        verbose=0 if args.quiet or not sys.stderr.isatty() else 1,
    )


def targets(encoding: Encoding, split: Split) -> np.ndarray:
    """What networks learn: codes of classes, or values in standard deviations."""
    return split.y if encoding.classes else (split.y - split.target_mean) / split.target_scale


def _write(args: argparse.Namespace, result: SweepResult) -> None:
    """Table and plot."""
    if args.table is not None:
        columns = result.to_dict()
        written(args.table, ["member", *columns], enumerate_rows(columns))
    if args.plot is not None and result.has_scores:
        result.plot(args.plot)


def enumerate_rows(columns: dict[str, list[Any]]) -> list[list[Any]]:
    """Rows of a table, each with its number; an empty cell for None and NaN."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return [[i, *("" if cell is None or cell != cell else cell for cell in row)] for i, row in enumerate(rows)]


def _report(
    args: argparse.Namespace,
    out: Output,
    encoding: Encoding,
    split: Split,
    result: SweepResult,
    title: str,
    threads: int,
) -> None:
    best = result.best_network
    out.line()
    rows = [["", *score_names(encoding, split)]]
    rows.append(["train", *scores(best, encoding, split, split.X, split.y, threads)])
    rows.append(["test", *scores(best, encoding, split, split.X_test, split.y_test, threads)])
    out.table(rows)
    out.line()
    facts = [["best setting", ", ".join(f"{name} {_shown(value)}" for name, value in result.best_parameters.items())]]
    facts.append(["time", duration(result.seconds)])
    if args.save is not None:
        training = {"data": title, "setting": dict(result.best_parameters), "seed": args.seed}
        io.save(
            in_target_units(best, encoding, split),
            args.save,
            metadata={**encoding.to_metadata(), "training": training},
        )
        facts.append(["saved to", args.save])
    facts += [[name, path] for name, path in (("table in", args.table), ("plot in", args.plot)) if path is not None]
    for name, value in facts:
        out.line(f"{name:<16}{value}")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
