"""Names of classes: targets that are str, and the codes of the outputs that they stand for.

Names are learnt sorted, as scikit-learn does; integers among targets are codes, whether there are names or not.
"""

from __future__ import annotations

import numpy as np

from .names import listing

__all__ = ["check_classes", "codes_of", "learn_classes", "names_in"]
__dir__ = listing(__all__)


def names_in(y: np.ndarray) -> np.ndarray | None:
    """Targets that are names of classes, (N,) of str; None for all others, which a loss judges.

    Raises
    ------
    TypeError
        If only some of them are str, as where labels are missing.
    """
    if y.ndim != 1 or y.dtype.kind not in "OUT":
        return None
    if y.dtype.kind == "O":
        named = [isinstance(label, str) for label in y]
        if not any(named):
            return None
        if not all(named):
            row = named.index(False)
            raise TypeError(f"y: expected labels that are all str, got {y[row]!r:.60} in row {row}")
    return y


def learn_classes(names: np.ndarray, n_classes: int) -> np.ndarray:
    """Classes (K,) of labels (N,), sorted.

    Raises
    ------
    ValueError
        If there are not `n_classes` of them.
    """
    found = sorted(set(names.tolist()))
    if len(found) != n_classes:
        hint = "" if len(found) > n_classes else "; name them all with net.classes_ = [...]"
        raise ValueError(
            f"y: expected labels of {n_classes} classes, as the network has outputs for, got {len(found)}: "
            f"{_listed(found)}{hint}"
        )
    return _array(found)


def codes_of(names: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Position in `classes` of each label, int64 (N,).

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """
    places = {name: code for code, name in enumerate(classes.tolist())}
    codes = np.array([places.get(name, -1) for name in names.tolist()], np.int64)
    if (codes < 0).any():
        row = int(codes.argmin())
        known = _listed(classes.tolist())
        raise ValueError(f"y: expected labels among {known}, got {str(names[row])!r:.60} in row {row}")
    return codes


def check_classes(classes: object, n_classes: int) -> np.ndarray:
    """Names of classes in the order of the outputs, as a user gives them.

    Raises
    ------
    TypeError
        If they are not str.
    ValueError
        If there are not `n_classes` of them, or two are equal.
    """
    array = np.asarray(classes, object)  # of dtype str it would lose NULs at an end
    found = array.tolist()
    if array.ndim != 1 or not all(isinstance(name, str) for name in found):
        raise TypeError(f"classes_ must be str, one for each class, got {classes!r:.60}")
    if len(set(found)) != len(found) or len(found) != n_classes:
        raise ValueError(f"classes_: expected {n_classes} different names, got {len(found)}: {_listed(found)}")
    return _array(found)


def _array(found: list[str]) -> np.ndarray:
    """Names as an array that nobody changes; NumPy's fixed width would drop NULs at an end."""
    classes = np.array(found, object if any(name.endswith("\0") for name in found) else np.str_)
    classes.flags.writeable = False
    return classes


def _listed(names: list[str]) -> str:
    """Names in a message, ten at most."""
    more = f", … ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(repr(name)[:60] for name in names[:10]) + more
