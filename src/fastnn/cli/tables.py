"""Reading data: built-in sets by name, .csv, .tsv and .npz files by path.

Nothing is scaled or split here; :mod:`fastnn.cli.encoding` does that. Complaints are ValueErrors (OSErrors for a path)
that begin with the path and say where in the file the fault is.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Options
from ..array_files import read_npz
from ..files import need
from ..schema import printable
from .table_files import check_first_line, is_text_table, opened, separator

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUILT_IN", "Table", "kind", "listed", "read", "read_features"]

BUILT_IN = ("digits", "iris", "mnist", "fashion_mnist")

#: For messages.
KINDS = ".csv, .tsv, .csv.gz, .tsv.gz or .npz"

#: What stands for a missing value in a column of numbers. In a target of text they are names of classes.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
#: Names that pandas, R and spreadsheets give a column of row names.
INDEX_NAMES = ("", "Unnamed: 0")
#: Arrays of an .npz that are looked for.
NPZ_NAMES = ("x", "y", "x_train", "y_train", "x_test", "y_test", "data", "target")


def listed(names: Iterable[Any], limit: int = 8) -> str:
    """Names for a message, cut after `limit`: "a, b and 3 more"."""
    names = [str(name) for name in names]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


@dataclass
class Table:
    """A data set as it was read: nothing scaled, nothing split; a test part only where the source has one."""

    title: str
    X: np.ndarray  # (N, D), float64, or uint8 for pixels
    y: np.ndarray | None  # (N,) numbers, True/False or text; codes where `classes` is given; None: no target
    features: list[str] | None  # None: only the number of columns is known
    target: str | None = None
    classes: list[str] | None = None
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    text: np.ndarray | None = None  # (N,) the target as a .csv writes it, without spaces around it
    notes: list[str] = field(default_factory=list)


def kind(spec: str) -> str:
    """What a name or path means: "built-in", "csv" (.tsv, too) or "npz"; an error when it is none of them."""
    if spec.replace("-", "_").lower() in BUILT_IN:
        return "built-in"
    path = Path(spec)
    known = "csv" if is_text_table(spec) else "npz" if spec.lower().endswith(".npz") else None
    if path.is_dir():
        raise IsADirectoryError(f"{spec}: is a folder, expected a file {KINDS}")
    if not path.exists() and known:
        raise FileNotFoundError(f"{spec}: no such file")
    if not path.exists():
        close = difflib.get_close_matches(spec, BUILT_IN, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise FileNotFoundError(
            f"{spec}: no such file, and not one of the built-in data sets {', '.join(BUILT_IN)}{hint}"
        )
    if known is None:
        raise ValueError(f"{spec}: unknown kind of file {path.suffix!r}, expected {KINDS}")
    if path.stat().st_size == 0:
        raise ValueError(f"{spec}: the file is empty")
    return known


def read(spec: str, target: str | None = None) -> Table:
    """Features and target of a source to learn from.

    Parameters
    ----------
    spec : str
        One of `BUILT_IN`, or the path of a .csv, .tsv, .csv.gz, .tsv.gz or .npz. An .npz has arrays X and y, or data
        and target, or x_train and y_train with or without x_test and y_test, in any letter case.
    target : str, optional
        Column of a .csv or .tsv to learn; the last one by default. Other sources have one target, and ignore it.

    Raises
    ------
    ValueError
        If the file is damaged, or features are not finite numbers, or there is no such target.
    OSError
        If it cannot be read.
    MissingPackageError
        If pandas is needed and not installed.
    """
    what = kind(spec)
    if what == "built-in":
        return _built_in(spec)
    return _csv_with_target(spec, target) if what == "csv" else _npz_with_target(spec)


def read_features(spec: str, features: list[str] | None, target: str | None, n_features: int, model: str) -> Table:
    """The features that a model needs, in its order; y holds labels or values where the source has a good target.

    Parameters
    ----------
    spec : str
        As for `read`. Of a set with a test part this part is read.
    features : list of str or None
        Columns, matched by name; None: all but the target's, in the order of the file.
    target : str or None
        Column of the target.
    n_features : int
        Number of features.
    model : str
        What messages call the model that needs the features.

    Raises
    ------
    ValueError, OSError, MissingPackageError
        As for `read`, and if the features do not fit.
    """
    what = kind(spec)
    title = Path(spec).name
    if what == "npz":
        arrays = _read_npz(spec)
        # A file with a training and a test part: the test part is what one wants to see predicted.
        pairs = (("x", "y"), ("x_test", "y_test"), ("data", "target"), ("x_train", "y_train"))
        x_name, y_name = next((pair for pair in pairs if pair[0] in arrays), ("", ""))
        if not x_name:
            raise ValueError(f"{spec}: expected an array X or x_test, got {listed(arrays) or 'none'}")
        X = _npz_features(spec, x_name, arrays[x_name])
        y = _npz_target(spec, y_name, arrays[y_name], len(X)) if y_name in arrays else None
        if X.shape[1] != n_features:
            raise ValueError(f"{spec}: array {x_name!r} has {X.shape[1]} features, {model} expects {n_features}")
        return Table(title, X, y, features, target)
    if what == "built-in":
        table = _built_in(spec)
        X, codes = (table.X, table.y) if table.X_test is None else (table.X_test, table.y_test)
        if table.features != features:
            raise ValueError(f"{spec} does not have the features that {model} was trained on")
        return Table(title, X, np.array(table.classes)[codes], features, target)
    frame, notes = _read_csv(spec, target, learn=False)
    names = list(frame.columns)
    y = text = None
    if target in names:
        y, text, fault = _parse_target(frame[target])
        if fault:
            notes.append(f"target {target!r} has {fault}: no score")
            y = text = None
    if features is None:
        columns = frame.drop(columns=[target] if target in names else [])
        if columns.shape[1] != n_features:
            raise ValueError(f"{spec}: {columns.shape[1]} feature columns, {model} expects {n_features}")
    else:
        missing = [name for name in features if name not in names]
        if missing:
            raise ValueError(f"{spec}: {len(missing)} missing column(s) that {model} needs: {listed(missing)}")
        columns = frame[features]
    return Table(title, _numbers(spec, columns), y, features, target, text=text, notes=notes)


def _built_in(spec: str) -> Table:
    from .. import datasets

    name = spec.replace("-", "_").lower()
    if name in ("digits", "iris"):
        load = datasets.load_digits if name == "digits" else datasets.load_iris
        X, y, features, classes = load(return_names=True)
        return Table(name, X, y, features, "digit" if name == "digits" else "species", classes)
    load_images = datasets.load_mnist if name == "mnist" else datasets.load_fashion_mnist
    X, y, X_test, y_test = load_images()
    classes = [str(k) for k in range(10)] if name == "mnist" else list(datasets.FASHION_MNIST_CLASSES)
    features = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]
    return Table(name, X, y, features, "label", classes, X_test, y_test)


def _csv_with_target(spec: str, target: str | None) -> Table:
    frame, notes = _read_csv(spec, target, learn=True)
    if target is None:
        target = frame.columns[-1]
    if frame.shape[1] < 2:
        raise ValueError(
            f"{spec}: only one column ({target!r}), expected features and a target, separated by {_between(spec)}"
        )
    y, text, fault = _parse_target(frame[target])
    if fault:
        raise ValueError(f"{spec}: target {target!r} has {fault}")
    features = frame.drop(columns=target)
    X = _numbers(spec, features)
    return Table(Path(spec).name, X, y, list(features.columns), target, text=text, notes=notes)


def _npz_with_target(spec: str) -> Table:
    arrays = _read_npz(spec)
    title = Path(spec).name
    for x_name, y_name in (("x", "y"), ("x_train", "y_train"), ("data", "target")):
        if x_name in arrays and y_name in arrays:
            X = _npz_features(spec, x_name, arrays[x_name])
            table = Table(title, X, _npz_target(spec, y_name, arrays[y_name], len(X)), None, y_name)
            break
    else:
        raise ValueError(f"{spec}: expected arrays X and y, or x_train and y_train, got {listed(arrays) or 'none'}")
    if x_name == "x_train" and "x_test" in arrays and "y_test" in arrays:
        table.X_test = _npz_features(spec, "x_test", arrays["x_test"])
        table.y_test = _npz_target(spec, "y_test", arrays["y_test"], len(table.X_test))
        if table.X_test.shape[1] != X.shape[1] or table.X_test.dtype != X.dtype:
            raise ValueError(
                f"{spec}: x_test has {table.X_test.shape[1]} columns of {table.X_test.dtype}, x_train {X.shape[1]} of "
                f"{X.dtype}"
            )
    return table


def _read_csv(spec: str, target: str | None, learn: bool) -> tuple[pd.DataFrame, list[str]]:
    """A table with named columns and at least one row, its target as text, and notes on what was left out.

    Parameters
    ----------
    spec : str
        Path.
    target : str or None
        Name of the target.
    learn : bool
        Whether it is read to learn from it: without a name the target is the last column, and it must be there.
    """
    import gzip
    import zlib

    pandas = need("pandas", "reading a .csv")
    options: Options = {
        "encoding": "utf-8-sig",
        "sep": separator(spec),
        "skipinitialspace": True,
        "index_col": False,
        "keep_default_na": False,
    }

    def read(**more: Any) -> pd.DataFrame:
        with opened(spec) as file:
            return pandas.read_csv(file, **more, **options)

    try:
        check_first_line(spec)
        with warnings.catch_warnings():
            # A row longer than the header is only a warning, and pandas cuts it.
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            header = read(header=None, nrows=1, dtype=str)
            names = [str(name).strip() for name in header.iloc[0]]
            _check_names(spec, names)
            last = len(names) - 1 if learn and target is None else None
            column = names.index(target) if target in names else last
            if learn and column is None:
                close = difflib.get_close_matches(str(target), names, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{spec}: no column {target!r} for the target; the columns are {listed(names)}{hint}")
            places = range(len(names))
            frame = read(
                header=0,
                names=list(places),
                dtype={} if column is None else {column: str},
                na_values={place: list(MISSING) for place in places if place != column},
                low_memory=False,
            )
    except pandas.errors.EmptyDataError:
        raise ValueError(f"{spec}: the file is empty") from None
    except pandas.errors.ParserWarning:
        first = read(header=None, skiprows=1, nrows=1, dtype=str)
        raise ValueError(
            f"{spec}: not a regular table: {len(names)} names in the header, {first.shape[1]} values in the first row "
            "below it"
        ) from None
    except pandas.errors.ParserError as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "")
        raise ValueError(f"{spec}: not a regular table: {reason}") from None
    except UnicodeError as error:
        raise ValueError(f"{spec}: not a text file in UTF-8: {error}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{spec}: damaged gzip data: {error}") from None
    if len(frame) == 0:
        raise ValueError(f"{spec}: no rows below the header")
    _check_header(spec, names, frame)
    index = names[0] in INDEX_NAMES and column != 0 and len(names) > 1 and _is_index(frame.iloc[:, 0])
    frame.columns = pandas.Index([name or f"(column {i + 1})" for i, name in enumerate(names)])
    if not index:
        return frame, []
    # As a feature it would leak the order of the rows.
    return frame.iloc[:, 1:], [f"the first column, {names[0]!r}, numbers or names the rows: it is left out"]


def _between(spec: str) -> str:
    """What separates columns, for messages."""
    return "commas, or by tabs in a .tsv" if separator(spec) == "," else "tabs in a .tsv"


def _check_names(spec: str, names: list[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in set(",;\t|") - {separator(spec)}):
        raise ValueError(f"{spec}: only one column, {names[0]!r:.60}: columns must be separated by {_between(spec)}")
    # pandas names columns 0, 1, 2, … when it has no names; "0,1" alone is rather a row of data.
    counted = len(names) > 2 and names == [str(i) for i in range(len(names))]
    if all(_is_number(name) for name in names) and not counted:
        raise ValueError(
            f"{spec}: the first line has only numbers ({listed(names, 3)}), expected the names of the columns"
        )
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise ValueError(f"{spec}: column {min(twice)!r} appears more than once")


def _check_header(spec: str, names: list[str], frame: pd.DataFrame) -> None:
    """Refuse a first line that is a row of data: numbers above numbers, and a text that is also one below it."""
    numeric = [_is_column_of_numbers(frame.iloc[:, i]) for i in range(len(names))]
    above = [name for name, number in zip(names, numeric, strict=True) if number]
    repeated = [
        name
        for i, (name, number) in enumerate(zip(names, numeric, strict=True))
        if not number and name and frame.iloc[:, i].astype(str).str.strip().eq(name).any()
    ]
    if above and repeated and all(_is_number(name) for name in above):
        raise ValueError(
            f"{spec}: the first line ({listed(names, 3)}) looks like a row of data, expected the names of the columns"
        )


def _is_column_of_numbers(column: pd.Series) -> bool:
    if column.dtype.kind in "buif":
        return True
    return bool(need("pandas", "reading a .csv").to_numeric(column, errors="coerce").notna().any())


def _is_index(column: pd.Series) -> bool:
    """Whether a column without a name numbers the rows, in whatever order, or names each of them."""
    return column.dtype.kind in "iu" or (column.dtype.kind not in "bf" and bool(column.is_unique))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(spec: str, frame: pd.DataFrame) -> np.ndarray:
    """All columns as float64 (N, D); an error that names column and row of the first value that is not a number."""
    pandas = need("pandas", "reading a .csv")
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
                    raise ValueError(f"{what}: features must be numbers; leave the column out, or encode it as numbers")
                raise ValueError(f"{what}, which is not a number")
            column = parsed
        X[:, index] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        bad = ~np.isfinite(X[:, index])
        if bad.any():
            row = int(bad.argmax())
            what = "a missing value" if np.isnan(X[row, index]) else "an infinite value"
            raise ValueError(f"{spec}: column {name!r} has {what} in data row {row + 1}")
    return X


def _parse_target(column: pd.Series) -> tuple[np.ndarray, np.ndarray, str]:
    """A target that was read as text.

    Returns
    -------
    y : numpy.ndarray, shape (N,)
        Numbers where all that is there are numbers, booleans where all are True or False, else text.
    text : numpy.ndarray, shape (N,)
        The text itself, without spaces around it.
    fault : str
        The first value that is missing or infinite, and its row; empty where all is well. An empty cell is missing; so
        is a word such as NA, unless the target is text.
    """
    pandas = need("pandas", "reading a .csv")
    stripped = column.fillna("").str.strip()
    text = stripped.to_numpy(dtype=object)
    numbers = pandas.to_numeric(stripped, errors="coerce")
    if numbers.notna().any() and (numbers.notna() | stripped.isin(MISSING)).all():
        y, bad = numbers.to_numpy(), numbers.isna().to_numpy()
        if y.dtype.kind == "f" and not bad.any():
            y = text.astype(np.float64)  # to_numeric may be off by an ulp
            bad = ~np.isfinite(y)
    else:
        bad, truth = stripped.eq("").to_numpy(), stripped.str.lower()
        y = truth.eq("true").to_numpy(dtype=bool) if truth.isin(["true", "false"]).all() else text.astype(str)
    if not bad.any():
        return y, text, ""
    row = int(bad.argmax())
    infinite = y.dtype.kind == "f" and np.isinf(y[row])
    return y, text, f"{'an infinite' if infinite else 'a missing'} value in data row {row + 1}"


def _read_npz(spec: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz that are looked for here, names in lower case."""
    found = read_npz(spec, NPZ_NAMES)
    arrays = {name: array for name, array in found.items() if array is not None}
    if not arrays:
        names = listed([printable(name) for name in found]) if found else "none"
        raise ValueError(f"{spec}: expected arrays X and y, or x_train and y_train, got {names}")
    return arrays


def _npz_features(spec: str, name: str, X: np.ndarray) -> np.ndarray:
    if X.dtype.kind not in "buif":
        raise ValueError(f"{spec}: array {name!r} must hold numbers, got dtype {X.dtype}")
    if X.ndim < 2 or X.shape[0] == 0 or X[0].size == 0:
        raise ValueError(f"{spec}: array {name!r} must have shape (rows, features), got {X.shape}")
    X = X.reshape(len(X), -1)
    if X.dtype != np.uint8:
        X = X.astype(np.float64)
        bad = ~np.isfinite(X)
        if bad.any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            raise ValueError(f"{spec}: array {name!r} has {X[row, column]} in row {row}, column {column}")
    return X


def _npz_target(spec: str, name: str, y: np.ndarray, n_rows: int) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"{spec}: array {name!r} must have shape (rows,), got {y.shape}")
    if len(y) != n_rows:
        raise ValueError(f"{spec}: array {name!r} has {len(y)} rows, the features have {n_rows}")
    if y.dtype.kind not in "buifUS":
        raise ValueError(f"{spec}: array {name!r} must hold numbers or text, got dtype {y.dtype}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{spec}: array {name!r} has {y[~np.isfinite(y)][0]} in row {int((~np.isfinite(y)).argmax())}")
    return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
