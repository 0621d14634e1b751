"""Files and packages: complete files or none, values in JSON, and optional packages imported when needed."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["MissingPackageError", "check_writable", "decode", "encode", "need", "write_aside"]

#: Names to install under, where they differ from the module's.
_PACKAGES = {"sklearn": "scikit-learn"}


class MissingPackageError(ImportError):
    """An optional package is not installed; the message says how to get it."""


def need(module: str, purpose: str, install: str = '"fastnn[cli]"') -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module : str
        Absolute name, such as ``"sklearn.neural_network"``.
    purpose : str
        What needs it, for the message.
    install : str
        What to give to pip.

    Raises
    ------
    MissingPackageError
        If it is not installed: "`purpose` needs `package`: pip install `install`".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        raise MissingPackageError(f"{purpose} needs {_PACKAGES.get(top, top)}: pip install {install}") from error


# ------------------------------------------------------------------ files


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at the end, or remove it after an error."""
    target = Path(os.path.realpath(path))  # through a symbolic link: the link stays
    check_writable(path)
    temporary = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # otherwise a crash can leave the new name with no content
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError that names the path unless a file can be written there. Nothing is left behind."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: not a regular file")  # a device must not be replaced by a file
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    probe = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error


# ------------------------------------------------------------------ values in JSON


def encode(value: object) -> object:
    """A value as JSON can express it; arrays and numbers that are not finite become objects with one reserved key.

    Parameters
    ----------
    value : None, bool, int, float, str, NumPy number, array, list, tuple or mapping of str
        Nested at will. Arrays hold numbers or str; tuples become lists.

    Returns
    -------
    None, bool, int, float, str, list or dict
        An array is ``{"__array__": [dtype, shape, items]}``, a number that is not finite ``{"__float__": "nan"}``.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(value, np.ndarray):
        items = value.ravel().tolist()
        if value.dtype.kind not in "biufUO" or (value.dtype.kind == "O" and not all(type(i) is str for i in items)):
            raise TypeError(f"expected an array of numbers or str, got dtype {value.dtype} with {items[:3]}")
        kind = "O" if value.dtype.kind == "O" else value.dtype.str
        return {"__array__": [kind, list(value.shape), [encode(item) for item in items]]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be str, got {list(value)!r:.60}")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} is neither what JSON can express nor an array")


def decode(value: object) -> Any:
    """The inverse of :func:`encode`; ValueError or TypeError for a reserved key that it cannot have written."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        if value.keys() == {"__array__"}:
            kind, shape, items = value["__array__"]
            dtype = np.dtype(kind)
            if dtype.kind not in "biufUO" or (dtype.kind == "O" and not all(type(item) is str for item in items)):
                raise ValueError(f"expected an array of numbers or str, got {kind!r}")
            return np.array([decode(item) for item in items], dtype=dtype).reshape(shape)
        return {key: decode(item) for key, item in value.items()}
    return [decode(item) for item in value] if isinstance(value, list) else value
