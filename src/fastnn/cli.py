"""The command line: ``fastnn train``, ``fastnn predict``, ``fastnn info``.

Exit codes: 0 done, 2 wrong input (one line on stderr), 130 interrupted by Ctrl-C, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import difflib
import importlib
import io as text_io
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from .network import Sequential
    from .optimizers import Optimizer

__all__ = ["main"]

BUILT_IN = ("digits", "iris", "mnist", "fashion_mnist")
OPTIMIZERS = ("sgd", "nesterov", "nag", "adagrad", "rmsprop", "adam", "adamw")
#: Those of a regression, whose target is standardised: poisson needs counts as they are.
LOSSES = ("squared_error", "absolute_error", "huber")
#: A whole-number target with more different values than this is a quantity, not a class.
MAX_INTEGER_CLASSES = 20
#: Without --epochs: as many as make about this many updates, within the limits.
DEFAULT_UPDATES, MIN_EPOCHS, MAX_EPOCHS = 2000, 10, 200
#: Without --l2: this divided by the number of training rows, and no more than the limit.
DEFAULT_PENALTY, MAX_PENALTY = 3.0, 0.01


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


def _whole(minimum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
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
    if min(widths) < 1:
        raise argparse.ArgumentTypeError(f"expected widths such as 64,64 or the word none, got {text!r}")
    return widths


def _parser() -> argparse.ArgumentParser:
    from . import __version__
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
        choices=("auto", "classification", "regression"),
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
    group.add_argument("--threads", type=_whole(1), metavar="N", help="worker threads (default: what BLAS may use)")
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
    predict.add_argument("--threads", type=_whole(1), metavar="N", help="worker threads (default: what BLAS may use)")

    info = commands.add_parser(
        "info",
        help="describe this installation, or a saved network",
        description="Without MODEL: version, instruction set, BLAS and threads. With it: what the network is.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    info.add_argument("model", nargs="?", metavar="MODEL", help="a saved network")
    return parser


def _need(module: str, purpose: str) -> Any:
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = {"sklearn.model_selection": "scikit-learn"}.get(module, module.split(".")[0])
        raise Failure(f'{purpose} needs {name}: pip install "fastnn[cli]"') from None


def _listed(names: Iterable[Any], limit: int = 8) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# ------------------------------------------------------------------ data


@dataclass
class Data:
    """A data set as it was read: nothing scaled, nothing split."""

    title: str
    X: np.ndarray  # (N, D), float64, or uint8 for pixels
    y: np.ndarray | None  # (N,) raw values; codes where `classes` is given
    features: list[str] | None  # None: only the number of columns is known
    target: str | None = None
    classes: list[str] | None = None
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def _kind(spec: str) -> str:
    """Which kind of data DATA names: "built-in", "csv" or "npz"; Failure when it is none of them."""
    if spec.replace("-", "_").lower() in BUILT_IN:
        return "built-in"
    path = Path(spec)
    suffix = "".join(path.suffixes[-2:]).lower()
    kind = "csv" if suffix.endswith((".csv", ".csv.gz")) else "npz" if suffix.endswith(".npz") else None
    if path.is_dir():
        raise Failure(f"{spec}: is a folder, expected a .csv, .csv.gz or .npz file")
    if not path.exists():
        hint = "" if kind else f", and not one of the built-in data sets {', '.join(BUILT_IN)}"
        close = difflib.get_close_matches(spec, BUILT_IN, 1)
        raise Failure(f"{spec}: no such file{hint}" + (f"; did you mean {close[0]}?" if close and not kind else ""))
    if kind is None:
        raise Failure(f"{spec}: unknown kind of file {path.suffix!r}, expected .csv, .csv.gz or .npz")
    if path.stat().st_size == 0:
        raise Failure(f"{spec}: the file is empty")
    return kind


def _built_in(spec: str) -> Data:
    from . import datasets

    name = spec.replace("-", "_").lower()
    if name in ("digits", "iris"):
        load = datasets.load_digits if name == "digits" else datasets.load_iris
        X, y, features, classes = load(return_names=True)
        return Data(name, X, y, features, "digit" if name == "digits" else "species", classes)
    load_images = datasets.load_mnist if name == "mnist" else datasets.load_fashion_mnist
    X, y, X_test, y_test = load_images()
    classes = [str(k) for k in range(10)] if name == "mnist" else list(datasets.FASHION_MNIST_CLASSES)
    features = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]
    return Data(name, X, y, features, "label", classes, X_test, y_test)


def _read_csv(spec: str) -> pd.DataFrame:
    """A table with named columns, at least one row."""
    import gzip
    import zlib

    pandas = _need("pandas", "reading a .csv")
    options: dict[str, Any] = {"encoding": "utf-8-sig", "skipinitialspace": True, "index_col": False}
    try:
        with warnings.catch_warnings():
            # A row longer than the header is only a warning, and pandas cuts it.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            header = pandas.read_csv(spec, header=None, nrows=1, dtype=str, keep_default_na=False, **options)
            frame = pandas.read_csv(spec, low_memory=False, **options)
    except pandas.errors.EmptyDataError:
        raise Failure(f"{spec}: the file is empty") from None
    except (pandas.errors.ParserError, pandas.errors.ParserWarning) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "")
        raise Failure(f"{spec}: not a regular table: {reason}") from None
    except UnicodeError as error:
        raise Failure(f"{spec}: not a text file in UTF-8: {error}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Failure(f"{spec}: damaged gzip data: {error}") from None
    names = [str(name).strip() for name in header.iloc[0]]
    if len(names) != frame.shape[1]:
        raise Failure(f"{spec}: not a regular table: {len(names)} names in the header, {frame.shape[1]} columns")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise Failure(f"{spec}: only one column, {names[0]!r:.60}: columns must be separated by commas")
    # pandas names columns 0, 1, 2, … when it has no names; "0,1" alone is rather a row of data.
    counted = len(names) > 2 and names == [str(i) for i in range(len(names))]
    if all(_is_number(name) for name in names) and not counted:
        raise Failure(
            f"{spec}: the first line has only numbers ({_listed(names, 3)}), expected the names of the columns"
        )
    if len(frame) == 0:
        raise Failure(f"{spec}: no rows below the header")
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise Failure(f"{spec}: column {min(twice)!r} appears more than once")
    frame.columns = pandas.Index([name or f"(column {i + 1})" for i, name in enumerate(names)])
    if names[0] == "" and frame.shape[1] > 1 and _is_row_number(frame.iloc[:, 0]):
        frame = frame.iloc[:, 1:]  # an index that pandas wrote; as a feature it would leak the order of the rows
    return frame


def _is_row_number(column: pd.Series) -> bool:
    if column.dtype.kind not in "iu":
        return False
    values = column.to_numpy()
    return bool((values == np.arange(len(values)) + values[0]).all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(spec: str, frame: pd.DataFrame) -> np.ndarray:
    """All columns as float64 (N, D); Failure that names column and row of the first value that is not a number."""
    pandas = _need("pandas", "reading a .csv")
    X = np.empty(frame.shape)
    for index, name in enumerate(frame.columns):
        column = frame.iloc[:, index]
        if column.dtype.kind not in "buif":
            parsed = pandas.to_numeric(column, errors="coerce")
            wrong = (parsed.isna() & column.notna()).to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                what = f"{spec}: column {name!r} has {str(column.iloc[row])!r:.50} in data row {row + 1}"
                if wrong.sum() > len(wrong) / 2:
                    raise Failure(f"{what}: features must be numbers; leave the column out, or encode it as numbers")
                raise Failure(f"{what}, which is not a number")
            column = parsed
        X[:, index] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        bad = ~np.isfinite(X[:, index])
        if bad.any():
            row = int(bad.argmax())
            what = "a missing value" if np.isnan(X[row, index]) else "an infinite value"
            raise Failure(f"{spec}: column {name!r} has {what} in data row {row + 1}")
    return X


def _target_column(spec: str, column: pd.Series) -> np.ndarray:
    missing = column.isna().to_numpy()
    if missing.any():
        raise Failure(f"{spec}: target {column.name!r} has a missing value in data row {int(missing.argmax()) + 1}")
    if column.dtype.kind in "buif":
        return column.to_numpy()
    return np.array([str(value) for value in column])


def _csv_for_training(spec: str, target: str | None) -> Data:
    frame = _read_csv(spec)
    names = list(frame.columns)
    notes = []
    if target is None:
        target = names[-1]
        notes.append(f"target: {target} (the last column; --target names another)")
    elif target not in names:
        close = difflib.get_close_matches(target, names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise Failure(f"{spec}: no column {target!r} for --target; the columns are {_listed(names)}{hint}")
    else:
        notes.append(f"target: {target}")
    if len(names) < 2:
        raise Failure(f"{spec}: only one column ({target!r}), expected features and a target, separated by commas")
    y = _target_column(spec, frame[target])
    features = frame.drop(columns=target)
    return Data(Path(spec).name, _numbers(spec, features), y, list(features.columns), target, notes=notes)


def _read_npz(spec: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz, names in lower case."""
    import zipfile
    import zlib

    try:
        with open(spec, "rb") as raw:
            if raw.read(2) != b"PK":  # np.load would try other formats
                raise Failure(f"{spec}: not an .npz file")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                return {name.lower(): file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Failure(f"{spec}: damaged .npz file: {error}") from None
    except ValueError as error:
        reason = "holds Python objects" if "allow_pickle" in str(error) else str(error)
        raise Failure(f"{spec}: cannot be read as .npz: {reason}") from None


def _npz_features(spec: str, name: str, X: np.ndarray) -> np.ndarray:
    if X.dtype.kind not in "buif":
        raise Failure(f"{spec}: array {name!r} must hold numbers, got dtype {X.dtype}")
    if X.ndim < 2 or X.shape[0] == 0 or X[0].size == 0:
        raise Failure(f"{spec}: array {name!r} must have shape (rows, features), got {X.shape}")
    X = X.reshape(len(X), -1)
    if X.dtype != np.uint8:
        X = X.astype(np.float64)
        bad = ~np.isfinite(X)
        if bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            raise Failure(f"{spec}: array {name!r} has {X[row, column]} in row {row}, column {column}")
    return X


def _npz_target(spec: str, name: str, y: np.ndarray, n_rows: int) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise Failure(f"{spec}: array {name!r} must have shape (rows,), got {y.shape}")
    if len(y) != n_rows:
        raise Failure(f"{spec}: array {name!r} has {len(y)} rows, the features have {n_rows}")
    if y.dtype.kind not in "buifUS":
        raise Failure(f"{spec}: array {name!r} must hold numbers or text, got dtype {y.dtype}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise Failure(f"{spec}: array {name!r} has {y[~np.isfinite(y)][0]} in row {int((~np.isfinite(y)).argmax())}")
    return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y


def _npz_for_training(spec: str) -> Data:
    arrays = _read_npz(spec)
    title = Path(spec).name
    for x_name, y_name in (("x", "y"), ("x_train", "y_train"), ("data", "target")):
        if x_name in arrays and y_name in arrays:
            X = _npz_features(spec, x_name, arrays[x_name])
            data = Data(title, X, _npz_target(spec, y_name, arrays[y_name], len(X)), None, y_name)
            break
    else:
        raise Failure(f"{spec}: expected arrays X and y, or x_train and y_train, got {_listed(arrays) or 'none'}")
    if x_name == "x_train" and "x_test" in arrays and "y_test" in arrays:
        data.X_test = _npz_features(spec, "x_test", arrays["x_test"])
        data.y_test = _npz_target(spec, "y_test", arrays["y_test"], len(data.X_test))
        if data.X_test.shape[1] != X.shape[1] or data.X_test.dtype != X.dtype:
            raise Failure(
                f"{spec}: x_test has {data.X_test.shape[1]} columns of {data.X_test.dtype}, x_train {X.shape[1]} of "
                f"{X.dtype}"
            )
    return data


# ------------------------------------------------------------------ what is learnt from the training rows


@dataclass
class Problem:
    """How raw columns become the network's inputs, and its outputs become answers. Saved with the network."""

    task: str
    target: str | None
    features: list[str] | None
    classes: list[str] | None = None
    mean: np.ndarray | None = None  # (D,); None: the inputs stay as they are (pixels)
    scale: np.ndarray | None = None
    target_mean: float = 0.0
    target_scale: float = 1.0

    def inputs(self, X: np.ndarray, dtype: Any) -> np.ndarray:
        """What the network is given, in its dtype; pixels stay as they are, the network scales them."""
        if self.mean is None or self.scale is None:
            return X
        with np.errstate(over="ignore"):  # the network refuses infinities
            return ((X - self.mean) / self.scale).astype(dtype)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """What the network is to learn: codes of classes, or standardised values."""
        return y if self.classes is not None else (y - self.target_mean) / self.target_scale

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """A regression's outputs in the target's units, float64 (N,)."""
        return outputs.astype(np.float64).reshape(len(outputs)) * self.target_scale + self.target_mean

    def to_metadata(self) -> dict[str, Any]:
        def numbers(values: np.ndarray | None) -> list[float] | None:
            return None if values is None else [float(value) for value in values]

        return {
            "task": self.task,
            "target": self.target,
            "features": self.features,
            "classes": self.classes,
            "feature_mean": numbers(self.mean),
            "feature_scale": numbers(self.scale),
            "target_mean": self.target_mean,
            "target_scale": self.target_scale,
        }

    @classmethod
    def from_metadata(cls, path: str, net: Sequential, metadata: dict[str, Any]) -> Problem:
        """Rebuild from a model's metadata; Failure if they do not fit the network."""
        if "task" not in metadata:
            raise Failure(
                f"{path}: has no description of its data; only networks saved by fastnn train can be used here"
            )

        def wrong(name: str) -> NoReturn:
            raise Failure(f"{path}: damaged description of its data: {name}")

        def names(key: str, count: int | None) -> list[str] | None:
            values = metadata.get(key)
            if values is None:
                return None
            fits = isinstance(values, list) and all(isinstance(value, str) for value in values)
            if not fits or (count is not None and len(values) != count):
                wrong(key)
            return values

        def numbers(key: str) -> np.ndarray | None:
            values = metadata.get(key)
            if values is None:
                return None
            try:
                array = np.array(values, dtype=np.float64)
            except (TypeError, ValueError):
                wrong(key)
            if array.shape != (net.input_size,) or not np.isfinite(array).all():
                wrong(key)
            return array

        def number(key: str) -> float:
            value = metadata.get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                wrong(key)
            return float(value)

        task, target = metadata["task"], metadata.get("target")
        if task not in ("classification", "regression"):
            wrong("task")
        if target is not None and not isinstance(target, str):
            wrong("target")
        n_outputs = net.layers[-1].units
        classes = names("classes", n_outputs if task == "classification" else None)
        if task == "classification" and classes is None:
            wrong("classes")
        mean, scale = numbers("feature_mean"), numbers("feature_scale")
        if (mean is None) != (scale is None) or (scale is not None and not (scale > 0).all()):
            wrong("feature_scale")
        return cls(
            task,
            target,
            names("features", net.input_size),
            classes,
            mean,
            scale,
            number("target_mean"),
            number("target_scale"),
        )


def _mean_and_scale(values: np.ndarray, what: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per column; 1 in place of the deviation of a constant column."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = values.mean(axis=0), values.std(axis=0)
    bad = ~(np.isfinite(mean) & np.isfinite(scale))
    if bad.any():
        raise Failure(f"{what(int(bad.argmax()))} has values too large to standardise")
    # The mean of equal values is off by rounding, which must not become a "deviation".
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def _label(value: Any) -> str:
    """A class as text: 3 and 3.0 are both "3"."""
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)


def _recognise(y: np.ndarray, task: str) -> tuple[str, str]:
    """Task and, when it was not given, why it is that one."""
    if task == "regression" and y.dtype.kind not in "buif":
        raise Failure(f"--task regression needs numbers in the target, got text such as {str(y[0])!r:.50}")
    if task != "auto":
        return task, ""
    if y.dtype.kind not in "iuf":
        return "classification", "the target is text" if y.dtype.kind != "b" else "the target is True/False"
    if y.dtype.kind == "f":
        return "regression", "the target has decimal numbers"
    count = len(np.unique(y))
    if count <= MAX_INTEGER_CLASSES and count <= max(2, len(y) / 3):
        return "classification", f"the target has {count} different whole numbers"
    return "regression", f"the target has {count} different whole numbers"


@dataclass
class Split:
    """Rows to train and to test, raw; y as codes (classification) or float64 (regression)."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def _prepare(data: Data, args: argparse.Namespace) -> tuple[Problem, Split, str]:
    """Recognise the task, encode the target, split, and learn means and scales from the training rows."""
    assert data.y is not None
    y, y_test, classes = data.y, data.y_test, data.classes
    if classes is not None:
        if args.task == "regression":
            raise Failure(f"--task regression does not fit {data.title}, which has classes")
        task, why = "classification", ""
    else:
        task, why = _recognise(y if y_test is None else np.concatenate([y, y_test]), args.task)
        if task == "classification":
            # Classes of a fixed test part count, too; a class without training rows is refused below.
            both = y if y_test is None else np.concatenate([y, y_test])
            values, codes = np.unique(both, return_inverse=True)
            classes, codes = [_label(value) for value in values], codes.astype(np.int64)
            y, y_test = codes[: len(y)], None if y_test is None else codes[len(y) :]
        else:
            y = y.astype(np.float64)
            y_test = None if y_test is None else y_test.astype(np.float64)
    if classes is not None:
        if len(classes) < 2:
            raise Failure(f"{data.title}: target {data.target!r} has only one class, {classes[0]!r}: nothing to learn")
        counts = np.bincount(y, minlength=len(classes))
        needed = 2 if y_test is None else 1
        if counts.min() < needed:
            rare = [classes[k] for k in np.flatnonzero(counts < needed)]
            hint = "; --task regression if it is a quantity" if data.y.dtype.kind in "iuf" else ""
            raise Failure(
                f"{data.title}: target {data.target!r} has {len(classes)} classes, and {len(rare)} of them have fewer "
                f"than {needed} rows to learn from ({_listed(rare, 3)}){hint}"
            )
    if y_test is None or data.X_test is None:
        split = _split(data, y, classes, args)
    else:
        if args.test_fraction is not None:
            raise Failure(f"--test-fraction does not apply: {data.title} has its own test part")
        split = Split(data.X, y, data.X_test, y_test)
    problem = Problem(task, data.target, data.features, classes)
    if data.X.dtype != np.uint8:

        def column(index: int) -> str:
            return f"{data.title}: column {data.features[index] if data.features else index!r}"

        problem.mean, problem.scale = _mean_and_scale(split.X, column)
    if task == "regression":
        mean, scale = _mean_and_scale(split.y[:, None], lambda index: f"{data.title}: target {data.target!r}")
        problem.target_mean, problem.target_scale = float(mean[0]), float(scale[0])
        if split.y.min() == split.y.max():
            raise Failure(f"{data.title}: target {data.target!r} is {split.y[0]:g} in all rows: nothing to learn")
    return problem, split, why


def _split(data: Data, y: np.ndarray, classes: list[str] | None, args: argparse.Namespace) -> Split:
    fraction = 0.2 if args.test_fraction is None else args.test_fraction
    n_test = math.ceil(fraction * len(y))
    needed = 2 if classes is None else len(classes)
    if min(n_test, len(y) - n_test) < needed:
        raise Failure(
            f"{data.title}: too few rows: {len(y)} make {len(y) - n_test} to train and {n_test} to test, and each part "
            f"needs {needed}"
        )
    selection = _need("sklearn.model_selection", "splitting the rows")
    train, test = selection.train_test_split(
        np.arange(len(y)),
        test_size=n_test,
        random_state=args.seed % 2**32,
        stratify=None if classes is None else y,
    )
    return Split(data.X[train], y[train], data.X[test], y[test])


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
    from .io import check_writable

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
        _need("matplotlib", "--plot")


def _train(args: argparse.Namespace) -> int:
    from . import io, plotting
    from .network import check_threads

    optimizer = _optimizer(args)
    kind = _kind(args.data)
    if kind != "csv" and args.target is not None:
        raise Failure(f"--target is for a .csv, {args.data} has one target")
    _check_outputs(args)
    if kind == "built-in":
        data = _built_in(args.data)
    else:
        data = _csv_for_training(args.data, args.target) if kind == "csv" else _npz_for_training(args.data)
    problem, split, why = _prepare(data, args)
    run = _Run(args, problem, split, optimizer, check_threads(args.threads))
    out = _Output(args.quiet)
    _introduce(out, args, data, run, why)
    interrupted = run.train()
    if args.save is not None:
        training = {"data": data.title, "epochs": run.done, "optimizer": args.optimizer, "seed": args.seed}
        io.save(run.net, args.save, metadata={**problem.to_metadata(), "training": training})
    if args.plot is not None and run.done:
        plotting.plot_history(run.curves, args.plot, title=data.title)
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
        from .network import Sequential

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


def _introduce(out: _Output, args: argparse.Namespace, data: Data, run: _Run, why: str) -> None:
    pixels = ", pixels / 255" if run.X.dtype == np.uint8 else ""
    out.line(
        f"{data.title}: {len(run.X):,} rows to train, {len(run.X_test):,} to test, {run.X.shape[1]:,} features{pixels}"
    )
    for note in data.notes:
        out.line(note)
    classes = run.problem.classes
    task = f"classification, {len(classes)} classes ({_listed(classes, 10)})" if classes else "regression"
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
    return "he_uniform" if activation in ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus") else "glorot_uniform"


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
                from tqdm import tqdm  # type: ignore[import-untyped]

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


def _load_for_model(spec: str, path: str, problem: Problem, n_features: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Features in the model's order, and the raw target where DATA has it."""
    kind = _kind(spec)
    if kind == "npz":
        arrays = _read_npz(spec)
        # A file with a training and a test part: the test part is what one wants to see predicted.
        pairs = (("x", "y"), ("x_test", "y_test"), ("data", "target"), ("x_train", "y_train"))
        x_name, y_name = next((pair for pair in pairs if pair[0] in arrays), ("", ""))
        if not x_name:
            raise Failure(f"{spec}: expected an array X or x_test, got {_listed(arrays) or 'none'}")
        X = _npz_features(spec, x_name, arrays[x_name])
        y = _npz_target(spec, y_name, arrays[y_name], len(X)) if y_name in arrays else None
        if X.shape[1] != n_features:
            raise Failure(f"{spec}: array {x_name!r} has {X.shape[1]} features, {path} expects {n_features}")
        return X, y
    if kind == "built-in":
        data = _built_in(spec)
        X, codes = (data.X, data.y) if data.X_test is None else (data.X_test, data.y_test)
        if data.features != problem.features:
            raise Failure(f"{spec} does not have the features that {path} was trained on")
        return X, np.array(data.classes)[codes]
    frame = _read_csv(spec)
    names = list(frame.columns)
    y = None
    if problem.target in names:
        column = frame[problem.target]
        y = None if column.isna().any() else _target_column(spec, column)
        if y is None:
            _say(f"fastnn: target {problem.target!r} has missing values: no score")
    if problem.features is not None:
        missing = [name for name in problem.features if name not in names]
        if missing:
            raise Failure(f"{spec}: {len(missing)} missing column(s) that {path} needs: {_listed(missing)}")
        return _numbers(spec, frame[problem.features]), y
    features = frame.drop(columns=[problem.target] if problem.target in names else [])
    if features.shape[1] != n_features:
        raise Failure(f"{spec}: {features.shape[1]} feature columns, {path} expects {n_features}")
    return _numbers(spec, features), y


def _predict(args: argparse.Namespace) -> int:
    from .io import check_writable, load, write_aside

    net, metadata = _load_model(args.model, load)
    problem = Problem.from_metadata(args.model, net, metadata)
    if args.proba and problem.task == "regression":
        raise Failure(f"--proba is for classification, {args.model} is a regression")
    if args.output is not None:
        check_writable(args.output)
        if Path(args.output).resolve() in (Path(args.model).resolve(), Path(args.data).resolve()):
            raise Failure(f"--output {args.output} would overwrite an input")
    X, y = _load_for_model(args.data, args.model, problem, net.input_size)
    inputs = problem.inputs(X, net.dtype)

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
            right = np.array([_label(value) for value in y], dtype=object) == answers
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

        text = show_config()
        if isinstance(text, str):
            print(text)
        return 0
    from .io import load

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
        facts.append(["classes", f"{len(problem.classes)}: {_listed(problem.classes, 12)}"])
    features = f": {_listed(problem.features)}" if problem.features else ""
    facts.append(["features", f"{net.input_size}{features}"])
    facts.append(["inputs", "standardised" if problem.mean is not None else "as they are"])
    training = metadata.get("training")
    if isinstance(training, dict):
        facts.append(["trained on", ", ".join(f"{key} {value}" for key, value in training.items())])
    for name, value in facts:
        print(f"{name:<16}{value}")
    return 0
