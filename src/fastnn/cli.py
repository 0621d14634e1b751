"""The command line: ``fastnn train``, ``fastnn predict``, ``fastnn info``.

Exit codes: 0 done, 2 wrong input (one line on stderr), 130 interrupted by Ctrl-C, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io as text_io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from . import tables
from .files import MissingPackageError, need
from .problem import TASKS, Problem, Split, prepare
from .tables import BUILT_IN, listed

if TYPE_CHECKING:
    from .optimizers import Optimizer
    from .sequential import Sequential

__all__ = ["main"]

OPTIMIZERS = ("sgd", "nesterov", "nag", "adagrad", "rmsprop", "adam", "adamw")
#: Those of a regression, whose target is standardised: poisson needs counts as they are.
LOSSES = ("squared_error", "absolute_error", "huber")
#: Without --epochs: as many as make about this many updates, within the limits.
DEFAULT_UPDATES, MIN_EPOCHS, MAX_EPOCHS = 2000, 10, 200
#: Without --l2: this divided by the number of training rows, and no more than the limit.
DEFAULT_PENALTY, MAX_PENALTY = 3.0, 0.01
#: More than any machine can use; beyond them a number is a slip of the keyboard.
MAX_THREADS, MAX_WIDTH = 1024, 2**31 - 1


class Failure(Exception):
    """What the user has to hear; becomes one line on stderr and exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        Exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show "R²" gets an escape, not a UnicodeEncodeError.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        args = _parser().parse_args(argv)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help, --version
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt as stop:
        _say(f"fastnn: {stop.args[0] if stop.args else 'interrupted'}")
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain again when it flushes stdout at exit.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except MissingPackageError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"this installation is incomplete: {error}")
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _fail(named)
    except (Failure, ValueError, TypeError, ArithmeticError) as error:
        return _fail(str(error) or type(error).__name__)


def _fail(message: str) -> int:
    _say("fastnn: error: " + " ".join(message.split()))
    return 2


def _say(line: str) -> None:
    # stderr may be gone, too
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


# ------------------------------------------------------------------ arguments


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


def _parser() -> argparse.ArgumentParser:
    from ._version import __version__
    from .layers import ACTIVATIONS

    parser = _Parser(prog="fastnn", description="Train neural networks on the CPU, and use them.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    train = commands.add_parser(
        "train",
        help="train a network on a table or on a built-in data set",
        description="Train a multi-layer perceptron, report its accuracy on rows that it has not seen, and save it. "
        "Text, True/False and few different whole numbers in the target make a classification, other numbers a "
        "regression. Features are standardised with mean and deviation of the training rows; pixels (uint8) are "
        "divided by 255.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)
    train.add_argument(
        "data",
        nargs="?",
        default="digits",
        metavar="DATA",
        help=f"{', '.join(BUILT_IN)}, a .csv or .csv.gz with a header line, or a .npz with X and y (default: digits)",
    )
    train.add_argument("--target", metavar="COLUMN", help="column to learn, of a .csv (default: the last one)")
    train.add_argument(
        "--task",
        choices=("auto", *TASKS),
        default="auto",
        help="what to make of the target (default: auto)",
    )
    group = train.add_argument_group("network")
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
    group = train.add_argument_group("training")
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
    group = train.add_argument_group("output")
    group.add_argument("--save", metavar="PATH", help="where to save the network, e.g. model.safetensors")
    group.add_argument(
        "--plot", metavar="PATH", help="where to draw loss and accuracy over the epochs, e.g. curves.png"
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")

    predict = commands.add_parser(
        "predict",
        help="predict with a saved network",
        description="Write one prediction per row as CSV. Columns are matched by name; if the target is among them, "
        "it is left out, and the score is printed on stderr.",
        allow_abbrev=False,
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a file that fastnn train --save has written")
    predict.add_argument("data", metavar="DATA", help="a .csv, .csv.gz or .npz, or the name of a built-in data set")
    predict.add_argument("--proba", action="store_true", help="also the probability of each class")
    predict.add_argument("--output", metavar="FILE", help="write to this file instead of stdout")
    predict.add_argument(
        "--threads", type=_whole(1, MAX_THREADS), metavar="N", help="worker threads (default: what BLAS may use)"
    )

    info = commands.add_parser(
        "info",
        help="describe this installation, or a saved network",
        description="Without MODEL: version, instruction set, BLAS and threads. With it: what the network is.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    info.add_argument("model", nargs="?", metavar="MODEL", help="a saved network")
    return parser


# ------------------------------------------------------------------ train


def _optimizer(args: argparse.Namespace) -> Optimizer:
    from . import optimizers

    options: dict[str, Any] = {}
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
    from .files import check_writable

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


def _train(args: argparse.Namespace) -> int:
    from . import io, plotting
    from ._core.threads import blas_threads
    from .checks import check_threads

    optimizer = _optimizer(args)
    kind = tables.kind(args.data)
    if kind != "csv" and args.target is not None:
        raise Failure(f"--target is for a .csv, {args.data} has one target")
    _check_outputs(args)
    table = tables.read(args.data, args.target)
    problem, split, why = prepare(table, args.task, test_fraction=args.test_fraction, seed=args.seed)
    run = _Run(args, problem, split, optimizer, check_threads(args.threads) or blas_threads())
    out = _Output(args.quiet)
    _introduce(out, args, table.title, run, why, name_target=kind == "csv")
    interrupted = run.train()
    if args.save is not None:
        training = {"data": table.title, "epochs": run.done, "optimizer": args.optimizer, "seed": args.seed}
        io.save(run.net, args.save, metadata={**problem.to_metadata(), "training": training})
    if args.plot is not None and run.done:
        plotting.plot_history(run.curves, args.plot, title=table.title)
    if interrupted:
        saved = f"; the network so far is in {args.save}" if args.save else ""
        raise KeyboardInterrupt(f"interrupted after {run.done} of {run.epochs} epochs{saved}")
    _report(out, args, run)
    return 0


class _Run:
    """A network, what it is given, and the record of its training."""

    def __init__(
        self, args: argparse.Namespace, problem: Problem, split: Split, optimizer: Optimizer, threads: int
    ) -> None:
        from .layers import Dense
        from .losses import CrossEntropy
        from .sequential import Sequential

        if problem.classes and args.loss:
            raise Failure(f"--loss {args.loss} is for regression, this is a classification")
        if not problem.classes and args.label_smoothing is not None:
            raise Failure("--label-smoothing is for classification, this is a regression")
        self.problem, self.split, self.optimizer, self.threads = problem, split, optimizer, threads
        self.X, self.X_test = (problem.inputs(X, args.dtype) for X in (split.X, split.X_test))
        self.y, self.y_test = (problem.outputs(y) for y in (split.y, split.y_test))
        n_rows, n_features = self.X.shape
        self.batch_size = min(args.batch_size or (64 if n_rows >= 10_000 else 32), n_rows)
        updates = math.ceil(n_rows / self.batch_size)
        self.epochs = args.epochs or min(max(math.ceil(DEFAULT_UPDATES / updates), MIN_EPOCHS), MAX_EPOCHS)
        self.l2 = min(DEFAULT_PENALTY / n_rows, MAX_PENALTY) if args.l2 is None else args.l2
        hidden = [Dense(width, args.activation, init=_init(args.activation)) for width in args.hidden]
        self.net = Sequential(
            [*hidden, Dense(len(problem.classes) if problem.classes else 1)],
            input_size=n_features,
            loss=CrossEntropy(args.label_smoothing or 0.0) if problem.classes else args.loss or "squared_error",
            dtype=args.dtype,
            seed=args.seed,
            input_scale=1 / 255 if self.X.dtype == np.uint8 else None,
        )
        self.score = "accuracy" if problem.classes else "r2"
        self.curves: dict[str, list[float]] = {"epoch": [], "loss": [], "test_loss": [], f"test_{self.score}": []}
        if problem.classes:
            self.curves["accuracy"] = []
        self.seconds: list[float] = []
        self.elapsed = 0.0
        self.quiet: bool = args.quiet

    @property
    def done(self) -> int:
        """Epochs finished."""
        return len(self.curves["epoch"])

    def penalty(self) -> float:
        """½ l2 ‖W‖², as the trainer adds it to the loss."""
        weights = (values for name, values in self.net.parameters.items() if name.endswith(".weight"))
        return 0.5 * self.l2 * sum(float(np.vdot(values, values)) for values in weights)

    def train(self) -> bool:
        """Train all epochs, with a test after each; True if Ctrl-C ended it."""
        from .training import Trainer

        start = time.perf_counter()
        try:
            trainer = Trainer(
                self.net,
                self.X,
                self.y,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                l2=self.l2,
                threads=self.threads,
            )
            with _Progress(self.epochs, self.quiet) as progress:
                before = self.penalty()
                for result in trainer.epochs(self.epochs):
                    # The trainer's loss includes the penalty, and that of the test has none: to compare the two, take
                    # off its mean over the epoch.
                    after = self.penalty()
                    loss = max(0.0, result.loss - (before + after) / 2)
                    before = after
                    test = self.net.evaluate(self.X_test, self.y_test, threads=self.threads)
                    row: dict[str, Any] = {"epoch": result.epoch, "loss": loss, "accuracy": result.accuracy}
                    row |= {"test_loss": test["loss"], f"test_{self.score}": test[self.score]}
                    for name, values in self.curves.items():
                        values.append(row[name])
                    self.seconds.append(result.seconds)
                    progress.show(loss, result.accuracy, self.score, test[self.score])
        except KeyboardInterrupt:
            return True
        finally:
            self.elapsed = time.perf_counter() - start
        return False


def _introduce(out: _Output, args: argparse.Namespace, title: str, run: _Run, why: str, name_target: bool) -> None:
    pixels = ", pixels / 255" if run.X.dtype == np.uint8 else ""
    out.line(f"{title}: {len(run.X):,} rows to train, {len(run.X_test):,} to test, {run.X.shape[1]:,} features{pixels}")
    if name_target:
        hint = "" if args.target else " (the last column; --target names another)"
        out.line(f"target: {run.problem.target}{hint}")
    classes = run.problem.classes
    task = f"classification, {len(classes)} classes ({listed(classes, 10)})" if classes else "regression"
    out.line(f"task: {task}" + (f"; {why}" if why else ""))
    widths = "-".join(map(str, [run.X.shape[1], *args.hidden, run.net.n_outputs]))
    out.line(f"network: {widths}, {args.activation if args.hidden else 'linear'}, {args.dtype}")
    out.line(
        f"training: {args.optimizer}, learning rate {run.optimizer.learning_rate:g}, l2 {run.l2:.2g}, "
        f"{run.epochs} epochs in batches of {run.batch_size}, seed {args.seed}"
    )
    out.line()


def _report(out: _Output, args: argparse.Namespace, run: _Run) -> None:
    classes = run.problem.classes
    rows = [["", "loss", *(["accuracy"] if classes else ["R²", "RMSE"])]]
    for name, inputs, targets, true in (
        ("train", run.X, run.y, run.split.y),
        ("test", run.X_test, run.y_test, run.split.y_test),
    ):
        values = run.net.evaluate(inputs, targets, threads=run.threads)
        if classes:
            rows.append([name, f"{values['loss']:.4f}", f"{100 * values['accuracy']:.2f} %"])
        else:
            r2, rmse = _regression_scores(run.problem.answers(run.net.predict(inputs, threads=run.threads)), true)
            rows.append([name, f"{values['loss']:.4f}", f"{r2:.4f}", f"{rmse:.5g}"])
    out.table(rows)
    out.line()
    facts = [
        ["time per epoch", _duration(float(np.median(run.seconds)))],
        ["training time", _duration(sum(run.seconds))],
        ["total time", _duration(run.elapsed)],
        ["parameters", f"{run.net.n_parameters:,}"],
        ["threads", str(run.threads)],
    ]
    if args.save is not None:
        facts.append(["saved to", args.save])
    if args.plot is not None:
        facts.append(["curves in", args.plot])
    for name, value in facts:
        out.line(f"{name:<16}{value}")


def _init(activation: str) -> str:
    """He's variance for the activations that halve it, Glorot's for the rest."""
    from .plan import ACTIVATIONS

    return "he_uniform" if ACTIVATIONS[activation].halves_variance else "glorot_uniform"


def _regression_scores(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """R² = 1 − Σ (y − ŷ)² / Σ (y − mean)², nan for a constant y, and the root of the mean squared error."""
    error = float(((true - predicted) ** 2).sum())
    total = float(((true - true.mean()) ** 2).sum())
    return (1 - error / total if total > 0 else math.nan), math.sqrt(error / len(true))


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


class _Output:
    """What goes to stdout, unless it is to be quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str = "") -> None:
        if not self.quiet:
            print(text, flush=True)

    def table(self, rows: list[list[str]]) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                row[0].ljust(16),
                *(cell.rjust(width + 3) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self.line("".join(cells).rstrip())


class _Progress:
    """A tqdm bar on a terminal; elsewhere (or without tqdm) about ten lines on stderr."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.done = total, quiet, 0
        self.bar: Any = None
        if not quiet and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self.bar = tqdm(total=total, unit="epoch", dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, loss: float, accuracy: float | None, score: str, test_score: float) -> None:
        self.done += 1
        if self.quiet:
            return
        values = {"loss": f"{loss:.4f}"}
        if accuracy is not None:
            values["accuracy"] = f"{100 * accuracy:.2f}%"
        if score == "accuracy":
            values["test"] = f"{100 * test_score:.2f}%"
        else:
            values["test R²"] = f"{test_score:.4f}"
        if self.bar is not None:
            self.bar.set_postfix(values, refresh=False)
            self.bar.update()
        elif self.done in (1, self.total) or self.done * 10 // self.total > (self.done - 1) * 10 // self.total:
            _say(f"epoch {self.done}/{self.total}  " + "  ".join(f"{name} {value}" for name, value in values.items()))


# ------------------------------------------------------------------ predict


def _predict(args: argparse.Namespace) -> int:
    from .files import check_writable, write_aside
    from .sequential import load

    net, metadata = _load_model(args.model, load)
    problem = Problem.from_metadata(args.model, net, metadata)
    if args.proba and problem.task == "regression":
        raise Failure(f"--proba is for classification, {args.model} is a regression")
    if args.output is not None:
        check_writable(args.output)
        if Path(args.output).resolve() in (Path(args.model).resolve(), Path(args.data).resolve()):
            raise Failure(f"--output {args.output} would overwrite an input")
    table = tables.read_features(args.data, problem.features, problem.target, net.input_size, args.model)
    for note in table.notes:
        _say(f"fastnn: {note}")
    inputs, y = problem.inputs(table.X, net.dtype), table.y

    header, columns, score = ["prediction"], [], None
    if problem.classes is not None:
        names = np.array(problem.classes, dtype=object)
        probabilities = net.predict_proba(inputs, threads=args.threads)
        answers = names[probabilities.argmax(axis=1)]
        columns.append(answers)
        if args.proba:
            header += [f"probability_{name}" for name in problem.classes]
            columns += [[f"{value:.6g}" for value in column] for column in probabilities.T]
        if y is not None:
            right = problem.labels(y) == answers
            score = f"accuracy {100 * right.mean():.2f} % ({int(right.sum()):,} of {len(right):,})"
    else:
        answers = problem.answers(net.predict(inputs, threads=args.threads))
        columns.append([f"{value:.9g}" for value in answers])
        if y is not None and y.dtype.kind in "buif":
            r2, rmse = _regression_scores(answers, y.astype(np.float64))
            score = f"R² {r2:.4f}, RMSE {rmse:.5g}"
    rows = zip(*columns, strict=True)
    if args.output is None:
        _write_rows(sys.stdout, header, rows)
        sys.stdout.flush()
    else:
        buffer = text_io.StringIO(newline="")
        _write_rows(buffer, header, rows)
        with write_aside(args.output) as temporary:
            temporary.write_bytes(buffer.getvalue().encode())
    if score is not None:
        _say(f"{problem.target}: {score}")
    return 0


def _write_rows(file: IO[str], header: list[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _load_model(path: str, load: Callable[..., Any]) -> tuple[Sequential, dict[str, Any]]:
    if Path(path).is_dir():
        raise Failure(f"{path}: is a folder, expected a saved network")
    if not Path(path).exists():
        raise Failure(f"{path}: no such file")
    return load(path, return_metadata=True)


# ------------------------------------------------------------------ info


def _info(args: argparse.Namespace) -> int:
    if args.model is None:
        from . import show_config

        show_config()
        return 0
    from .sequential import load

    net, metadata = _load_model(args.model, load)
    print(net.summary())
    if "task" not in metadata:
        for name, value in metadata.items():
            print(f"{name:<16}{value!s:.100}")
        return 0
    problem = Problem.from_metadata(args.model, net, metadata)
    print()
    facts = [["task", problem.task], ["target", problem.target or "-"]]
    if problem.classes is not None:
        facts.append(["classes", f"{len(problem.classes)}: {listed(problem.classes, 12)}"])
    features = f": {listed(problem.features)}" if problem.features else ""
    facts.append(["features", f"{net.input_size}{features}"])
    facts.append(["inputs", "standardised" if problem.mean is not None else "as they are"])
    training = metadata.get("training")
    if isinstance(training, dict):
        facts.append(["trained on", ", ".join(f"{key} {value}" for key, value in training.items())])
    for name, value in facts:
        print(f"{name:<16}{value}")
    return 0
