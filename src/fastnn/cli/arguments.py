"""Arguments of the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from .._version import __version__
from ..plan import ACTIVATIONS
from .console import Failure
from .tables import BUILT_IN

Subparsers: TypeAlias = "argparse._SubParsersAction[_Parser]"
Group: TypeAlias = "argparse._ArgumentGroup"

__all__ = ["LOSSES", "OPTIMIZERS", "TASKS", "default_epochs", "default_l2", "parser"]

TASKS = ("classification", "regression")
OPTIMIZERS = ("sgd", "nesterov", "nag", "adagrad", "rmsprop", "adam", "adamw")
#: Those of a regression, whose target is standardised: poisson needs counts as they are.
LOSSES = ("squared_error", "absolute_error", "huber")
#: Without --epochs: as many as make about this many updates, within the limits.
DEFAULT_UPDATES, MIN_EPOCHS, MAX_EPOCHS = 2000, 10, 200
#: Without --l2: this divided by the number of training rows, and no more than the limit.
DEFAULT_PENALTY, MAX_PENALTY = 3.0, 0.01
#: More than any machine can use; beyond them a number is a slip of the keyboard.
MAX_THREADS, MAX_WIDTH = 1024, 2**31 - 1


def default_epochs(n_rows: int, batch_size: int) -> int:
    """Epochs without --epochs."""
    updates = math.ceil(n_rows / batch_size)
    return min(max(math.ceil(DEFAULT_UPDATES / updates), MIN_EPOCHS), MAX_EPOCHS)


def default_l2(n_rows: int) -> float:
    """Penalty without --l2."""
    return min(DEFAULT_PENALTY / n_rows, MAX_PENALTY)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message} (see {self.prog} --help)")


def _whole(minimum: int, maximum: float = math.inf) -> Callable[[str], int]:
    limits = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum}"

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"expected a whole number {limits}, got {text!r}")
        return value

    return convert


def _real(above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf) -> Callable[[str], float]:
    limits = [f"above {above:g}" if above > -math.inf else "", f"at least {minimum:g}" if minimum > -math.inf else ""]
    limits += [f"below {below:g}" if below < math.inf else ""]

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > above and value >= minimum and value < below):
            raise argparse.ArgumentTypeError(f"expected a number {' and '.join(filter(None, limits))}, got {text!r}")
        return value

    return convert


def _widths(text: str) -> list[int]:
    if text.strip().lower() == "none":
        return []
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = [0]
    if min(widths) < 1 or max(widths) > MAX_WIDTH:
        raise argparse.ArgumentTypeError(f"expected widths such as 64,64 or the word none, got {text!r}")
    return widths


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``command`` of what it returns is the name of the command."""
    top = _Parser(prog="fastnn", description="Train neural networks on the CPU, and use them.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_train(commands)
    _add_tune(commands)
    _add_predict(commands)
    _add_info(commands)
    return top


def _add_train(commands: Subparsers) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a table or on a built-in data set",
        description="Train a multi-layer perceptron, report its accuracy on rows that it has not seen, and save it. "
        "Text, True/False and few different whole numbers in the target make a classification, other numbers a "
        "regression. Features are standardised with mean and deviation of the training rows; pixels (uint8) are "
        "divided by 255.",
        allow_abbrev=False,
    )
    _add_data(train)
    _add_network(train.add_argument_group("network"))
    _add_training(train.add_argument_group("training"))
    _add_output(train.add_argument_group("output"))


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        nargs="?",
        default="digits",
        metavar="DATA",
        help=f"{', '.join(BUILT_IN)}, a .csv or .tsv with a header line (or .csv.gz, .tsv.gz), "
        "or a .npz with X and y (default: digits)",
    )
    command.add_argument(
        "--target", metavar="COLUMN", help="column to learn, of a .csv or .tsv (default: the last one)"
    )
    command.add_argument(
        "--task",
        choices=("auto", *TASKS),
        default="auto",
        help="what to make of the target (default: auto)",
    )


def _add_tune(commands: Subparsers) -> None:
    tune = commands.add_parser(
        "tune",
        help="search for the best network of a table",
        description="Draw settings of a multi-layer perceptron at random (width, depth, activation, dropout, learning "
        "rate, penalty, batch size), train them side by side on the folds of a cross-validation, train the best one on "
        "all rows, and test it on rows that it has not seen. What fastnn train does with a table is done here, too.",
        allow_abbrev=False,
    )
    _add_data(tune)
    search = tune.add_argument_group("search")
    search.add_argument("--n", type=_whole(1, 10_000_000), default=32, metavar="N", help="settings (default: 32)")
    search.add_argument("--cv", type=_whole(2), default=5, metavar="K", help="folds (default: 5)")
    search.add_argument("--time-limit", type=_real(above=0), metavar="SECONDS", help="of the search (default: none)")
    search.add_argument(
        "--epochs",
        type=_whole(1),
        metavar="N",
        help=f"most epochs of a setting (default: about {DEFAULT_UPDATES} updates, {MIN_EPOCHS} to {MAX_EPOCHS})",
    )
    search.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of all that is drawn (default: 0)")
    search.add_argument(
        "--threads", type=_whole(1, MAX_THREADS), metavar="N", help="networks side by side (default: what BLAS may use)"
    )
    search.add_argument(
        "--test-fraction", type=_real(above=0, below=1), metavar="X", help="part of the rows kept back for the test"
    )
    output = tune.add_argument_group("output")
    output.add_argument("--save", metavar="PATH", help="where to save the best network, e.g. best.safetensors")
    output.add_argument("--table", metavar="PATH", help="where to write all settings and scores, e.g. results.csv")
    output.add_argument("--plot", metavar="PATH", help="where to draw curves and scores, e.g. tune.png")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_network(group: Group) -> None:
    group.add_argument(
        "--hidden",
        type=_widths,
        default=[64, 64],
        metavar="N,N,…",
        help="widths of the hidden layers; none for a linear model (default: 64,64)",
    )
    group.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default="relu",
        metavar="NAME",
        help=f"of the hidden layers: {', '.join(ACTIVATIONS)} (default: relu)",
    )
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")


def _add_training(group: Group) -> None:
    group.add_argument(
        "--loss",
        choices=LOSSES,
        help="of a regression, of the target in standard deviations: squared_error (default), or absolute_error or "
        "huber, which are less drawn by outliers; a classification has cross-entropy",
    )
    group.add_argument(
        "--label-smoothing",
        type=_real(minimum=0, below=1),
        metavar="X",
        help="of a classification: the part of a target that is spread over all classes (default: 0)",
    )
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: adam")
    group.add_argument(
        "--learning-rate", type=_real(above=0), metavar="ETA", help="step size (default: that of the optimizer)"
    )
    group.add_argument(
        "--momentum",
        type=_real(minimum=0, below=1),
        metavar="MU",
        help="of sgd (default: 0) and nesterov (default: 0.9)",
    )
    group.add_argument(
        "--epochs",
        type=_whole(1),
        metavar="N",
        help=f"passes over the training rows (default: about {DEFAULT_UPDATES} updates, {MIN_EPOCHS} to {MAX_EPOCHS})",
    )
    group.add_argument(
        "--batch-size", type=_whole(1), metavar="N", help="rows per update (default: 32, or 64 from 10,000 rows)"
    )
    group.add_argument(
        "--l2",
        type=_real(minimum=0),
        metavar="X",
        help=f"penalty on weights (default: {DEFAULT_PENALTY:g} / training rows, at most {MAX_PENALTY:g})",
    )
    group.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of split, start and order (default: 0)")
    group.add_argument(
        "--threads", type=_whole(1, MAX_THREADS), metavar="N", help="worker threads (default: what BLAS may use)"
    )
    group.add_argument(
        "--test-fraction",
        type=_real(above=0, below=1),
        metavar="X",
        help="part of the rows kept back for the test (default: 0.2; mnist and fashion_mnist have their own)",
    )


def _add_output(group: Group) -> None:
    group.add_argument("--save", metavar="PATH", help="where to save the network, e.g. model.safetensors")
    group.add_argument(
        "--plot", metavar="PATH", help="where to draw loss and accuracy over the epochs, e.g. curves.png"
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_predict(commands: Subparsers) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict with a saved network",
        description="Write one prediction per row as CSV. Columns are matched by name; if the target is among them, "
        "it is left out, and the score is printed on stderr.",
        allow_abbrev=False,
    )
    predict.add_argument("model", metavar="MODEL", help="a file that fastnn train --save has written")
    predict.add_argument(
        "data", metavar="DATA", help="a .csv, .tsv or .npz, or a built-in data set, as for fastnn train"
    )
    predict.add_argument("--proba", action="store_true", help="also the probability of each class")
    predict.add_argument("--no-score", action="store_true", help="do not compare with the target, if DATA has it")
    predict.add_argument(
        "--output", metavar="FILE", help="write to this file, by its name with tabs (.tsv) or compressed (.gz)"
    )
    predict.add_argument(
        "--threads", type=_whole(1, MAX_THREADS), metavar="N", help="worker threads (default: what BLAS may use)"
    )


def _add_info(commands: Subparsers) -> None:
    info = commands.add_parser(
        "info",
        help="describe this installation, or a saved network",
        description="Without MODEL: version, instruction set, BLAS and threads. With it: what the network is.",
        allow_abbrev=False,
    )
    info.add_argument("model", nargs="?", metavar="MODEL", help="a saved network")
