"""``fastnn predict``: predictions of a saved network, as CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from .._typing import JSON
from ..files import check_writable
from ..schema import printable
from ..sequential import Sequential, load
from . import tables
from .console import Failure, say
from .encoding import Encoding
from .table_files import write_rows, written

__all__ = ["load_model", "run_predict"]


def run_predict(args: argparse.Namespace) -> int:
    """Write one prediction per row; returns the exit code."""
    net, metadata = load_model(args.model)
    encoding = Encoding.from_metadata(args.model, net, metadata)
    if args.proba and encoding.task == "regression":
        raise Failure(f"--proba is for classification, {args.model} is a regression")
    if args.output is not None:
        check_writable(args.output)
        if Path(args.output).resolve() in (Path(args.model).resolve(), Path(args.data).resolve()):
            raise Failure(f"--output {args.output} would overwrite an input")
    target = None if args.no_score else encoding.target
    table = tables.read_features(args.data, encoding.features, target, net.input_size, args.model)
    for note in table.notes:
        say(f"fastnn: {note}")
    inputs, y = encoding.inputs(table.X, net.dtype), table.y

    header, columns, score = ["prediction"], [], None
    if encoding.classes is not None:
        names = np.array(encoding.classes, dtype=object)
        probabilities = net.predict_proba(inputs, threads=args.threads)
        answers = names[probabilities.argmax(axis=1)]
        columns.append(answers)
        if args.proba:
            header += [f"probability_{name}" for name in encoding.classes]
            columns += [_shortest(column) for column in probabilities.T]
        if y is not None:
            score = _accuracy(encoding, table, answers)
    else:
        answers = encoding.answers(net.predict(inputs, threads=args.threads))
        # Without an old file's scaling they are numbers of the network's type.
        columns.append(_shortest(answers if encoding.scaling else answers.astype(net.dtype)))
        if y is not None and y.dtype.kind in "buif":
            r2, rmse = encoding.scores(net, inputs, y.astype(np.float64), args.threads)
            score = f"R² {r2:.4f}, RMSE {rmse:.5g}"
    rows = zip(*columns, strict=True)
    if args.output is None:
        _show_rows(sys.stdout, header, rows)
    else:
        written(args.output, header, rows)
    if score is not None:
        say(f"{encoding.target}: {score}")
    return 0


def _accuracy(encoding: Encoding, table: tables.Table, answers: np.ndarray) -> str:
    """Share of right answers, for the user to read; a Failure if the labels are not those that the model knows."""
    labels, classes = encoding.labels(table), set(encoding.classes or ())
    unknown = sorted(set(labels) - classes)
    strangers = int(sum(label not in classes for label in labels))
    if strangers == len(labels):
        raise Failure(
            f"{table.title}: target {encoding.target!r} has only labels that the model does not know "
            f"({tables.listed(unknown, 3)}), it knows {tables.listed(encoding.classes or (), 3)}; --no-score predicts "
            "without a score"
        )
    right = labels == answers
    score = f"accuracy {100 * right.mean():.2f} % ({int(right.sum()):,} of {len(right):,})"
    if strangers:
        score += f"; {strangers:,} rows have labels that the model does not know ({tables.listed(unknown, 3)})"
    return score


def _shortest(values: np.ndarray) -> list[str]:
    """The fewest digits that give the same number of the same type again."""
    return [str(text) for text in values.astype(str)]


def _show_rows(file: IO[str], header: list[str], rows: Iterable[Sequence[object]]) -> None:
    if file.isatty():  # to be read here and now; files and pipes get the names as they are
        header = [printable(name) for name in header]
        rows = ([printable(value) for value in row] for row in rows)
    write_rows(file, header, rows)
    file.flush()


def load_model(path: str) -> tuple[Sequential, JSON]:
    """A saved network and the metadata of its file."""
    if Path(path).is_dir():
        raise Failure(f"{path}: is a folder, expected a saved network")
    if not Path(path).exists():
        raise Failure(f"{path}: no such file")
    return load(path, return_metadata=True)
