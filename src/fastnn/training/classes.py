"""Classes of rows: their codes, and weights of classes as weights of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from ..checks import check_number
from ..network import Network

__all__ = ["CodeWeights", "balanced_weights", "check_class_weight", "class_labels", "class_weights", "labels_of"]

#: Weight of each class by its code, or "balanced".
CodeWeights: TypeAlias = dict[int, float] | str


def class_labels(net: Network, y: np.ndarray) -> np.ndarray | None:
    """Class of each row of checked targets (soft ones: the likeliest); None where rows have no single class."""
    if not net.loss_function.has_one_class(net.n_outputs):
        return None
    return net.loss_function.labels(y)[:, 0].astype(np.int64, copy=False)


def check_class_weight(net: Network, class_weight: object, classes: np.ndarray | None = None) -> CodeWeights | None:
    """`class_weight` as ``fit`` uses it: by the codes of classes.

    Parameters
    ----------
    net : Network
    class_weight : dict, "balanced" or None
        By code or by name.
    classes : ndarray (K,) of str, optional
        Names of the classes that the network is about to learn; None is its own.

    Raises
    ------
    TypeError
        If it is neither a mapping nor "balanced", or a key or a value is not a number.
    ValueError
        If the rows of the network's loss have no single class, a class does not exist, or a weight is negative.
    """
    if class_weight is None:
        return None
    expected = 'class_weight must be a dict of class to weight, or "balanced"'
    if isinstance(class_weight, str) and class_weight != "balanced":
        raise ValueError(f"{expected}, got {class_weight!r}")
    if not isinstance(class_weight, (str, Mapping)):
        raise TypeError(f"{expected}, got {class_weight!r}")
    if not net.loss_function.has_one_class(net.n_outputs):
        raise ValueError(
            f"class_weight needs rows with one class each, got loss {net.loss_name!r} with {net.n_outputs} outputs; "
            "use sample_weight"
        )
    if isinstance(class_weight, str):
        return class_weight
    known = net.classes_ if classes is None else classes
    names = [] if known is None else known.tolist()
    checked = {}
    for key, value in class_weight.items():
        weight = check_number(f"class_weight[{key!r:.60}]", value, minimum=0.0)
        code = _code_of(key, names, net.n_classes)
        if code in checked:
            raise ValueError(f"class_weight: the class {key!r} has two weights, by its name and by its code")
        checked[code] = weight
    return checked


def _code_of(key: object, names: list[str], n_classes: int) -> int:
    """Code of a class by its code or its name."""
    if isinstance(key, str) and names:
        if key not in names:
            raise ValueError(f"class_weight: expected classes among {names!r:.200}, got {key!r:.60}")
        return names.index(key)
    if isinstance(key, (bool, np.bool_)) or not isinstance(key, (int, np.integer)):
        hint = "; the network knows no names of classes yet: net.classes_ = [...]" if isinstance(key, str) else ""
        raise TypeError(f"class_weight: expected classes as integers, got {key!r:.60}{hint}")
    if not 0 <= key < n_classes:
        raise ValueError(f"class_weight: expected classes in [0, {n_classes}), got {key}")
    return int(key)


def balanced_weights(labels: np.ndarray, n_classes: int, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Weights of classes that make their sums equal: Σ w / (k Σ_c w) for class c, of k classes with a positive Σ_c w.

    Rows of the weight w count as w rows, so that whole weights are repetitions. A class without rows has the weight 1.

    Parameters
    ----------
    labels : ndarray (N,) of int
        In [0, n_classes).
    n_classes : int
    sample_weight : ndarray (N,), optional

    Returns
    -------
    ndarray (n_classes,) of float64
    """
    counts = np.bincount(labels, sample_weight, minlength=n_classes)
    present = counts > 0
    weights = np.ones(len(counts))
    weights[present] = counts.sum() / (np.count_nonzero(present) * counts[present])
    return weights


def class_weights(
    net: Network, y: np.ndarray, class_weight: CodeWeights | None, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Weight of each row: that of its class times that of the row.

    "balanced" gives the weights of :func:`balanced_weights`; a dict gives 1 to the classes that it leaves out.

    Parameters
    ----------
    net : Network
    y : ndarray
        Checked targets.
    class_weight : dict, "balanced" or None
        As `check_class_weight` returns it.
    sample_weight : ndarray (N,) or None

    Returns
    -------
    ndarray (N,) of the network's dtype, or None
    """
    if class_weight is None:
        return sample_weight
    labels = class_labels(net, y)
    assert labels is not None
    per_class = np.ones(net.n_classes)
    if isinstance(class_weight, str):
        per_class = balanced_weights(labels, len(per_class), sample_weight)
    else:
        for label, weight in class_weight.items():
            per_class[label] = weight
    weights: np.ndarray = per_class[labels]
    if sample_weight is not None:
        weights *= sample_weight
    return weights.astype(net.dtype)


def labels_of(y: np.ndarray) -> np.ndarray | None:
    """Targets as they are given, where they can only be labels: (N,) of integers, booleans or texts; else None."""
    return y if y.ndim == 1 and y.dtype.kind in "biuOSU" else None
