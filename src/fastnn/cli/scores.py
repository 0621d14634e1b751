"""What ``fastnn train`` reports: scores of the network, and of models that it should beat."""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..layers import Dense, Standardize
from ..metrics import area_under_roc, balanced_accuracy
from ..sequential import Sequential
from ..solvers import LBFGS
from .encoding import Encoding, Split

__all__ = ["area_under_roc", "balanced_accuracy", "baselines", "score_names", "scores", "uneven"]

#: Iterations of L-BFGS for the linear model: its scores hardly change after that many.
LINEAR_ITERATIONS = 50


def uneven(encoding: Encoding, split: Split) -> bool:
    """Whether a class has 1.5 times the rows of another, so that accuracy alone says little."""
    if encoding.classes is None:
        return False
    counts = np.bincount(split.y, minlength=len(encoding.classes))
    return bool(counts.max() >= 1.5 * counts.min())


def score_names(encoding: Encoding, split: Split) -> list[str]:
    """Heads of the columns of :func:`scores`."""
    if encoding.classes is None:
        return ["loss", "R²", "RMSE"]
    return ["loss", "accuracy", *(["balanced", "AUC"] if uneven(encoding, split) else [])]


def scores(
    net: Sequential, encoding: Encoding, split: Split, X: np.ndarray, y: np.ndarray, threads: int | None
) -> list[str]:
    """Loss and scores on rows, as text.

    Parameters
    ----------
    net : Sequential
        Of a regression, for the target in standard deviations.
    encoding : Encoding
    split : Split
        Whose training rows decide which scores there are.
    X, y : numpy.ndarray
        Rows, as in `split`.
    threads : int, optional

    Returns
    -------
    list of str
        Under :func:`score_names`: of a classification loss, accuracy and, where classes are uneven, the mean of the
        classes' accuracies and the area under the ROC curve (of more than two classes the mean over each against the
        rest); of a regression loss, R² and the root of the mean squared error in the target's units.
    """
    targets = y if encoding.classes else (y - split.target_mean) / split.target_scale
    values = net.evaluate(X, targets, threads=threads)
    loss = f"{values['loss']:.4f}"
    if encoding.classes is None:
        return [loss, f"{values['r2']:.4f}", f"{math.sqrt(values['mse']) * split.target_scale:.5g}"]
    row = [loss, f"{100 * values['accuracy']:.2f} %"]
    if uneven(encoding, split):
        probabilities = net.predict_proba(X, threads=threads)
        area = area_under_roc(y, probabilities)
        balanced = balanced_accuracy(y, probabilities.argmax(axis=1))
        row += [f"{100 * balanced:.2f} %", "-" if math.isnan(area) else f"{area:.4f}"]
    return row


def baselines(net: Sequential, encoding: Encoding, split: Split, l2: float, threads: int) -> dict[str, Sequential]:
    """Models that a network should beat: a linear one on the same inputs, and one that ignores them.

    The second gives every row the training rows' shares of the classes, or their mean target.

    Parameters
    ----------
    net : Sequential
        The network, whose loss, dtype and treatment of the inputs they share.
    encoding : Encoding
    split : Split
    l2 : float
        Penalty of the linear model.
    threads : int

    Returns
    -------
    dict of Sequential
        By name. The linear model is left out where the network is one.
    """
    linear = Sequential(
        [Standardize()] * isinstance(net.layers[0], Standardize) + [Dense(net.n_outputs)],
        input_size=net.input_size,
        loss=net.loss_function,
        dtype=net.dtype,
        seed=0,
        input_scale=net.input_scale,
    )
    targets = split.y if encoding.classes else (split.y - split.target_mean) / split.target_scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged: it is a yardstick
        linear.fit(split.X, targets, optimizer=LBFGS(max_iter=LINEAR_ITERATIONS), l2=l2, threads=threads)
    constant = linear.copy()
    weight, bias = (constant.parameters[f"{len(constant.layers) - 1}.{name}"] for name in ("weight", "bias"))
    weight[...] = 0.0
    if encoding.classes:
        counts = np.bincount(split.y, minlength=len(encoding.classes))
        with np.errstate(divide="ignore"):
            bias[...] = np.maximum(np.log(counts / counts.sum()), -30.0)  # a class may have no rows to train on
    else:
        bias[...] = 0.0
    name = "majority" if encoding.classes else "mean"
    hidden = sum(isinstance(layer, Dense) for layer in net.layers) > 1
    return ({"linear model": linear} if hidden else {}) | {name: constant}
