"""Classifiers and regressors: labels to targets, outputs to predictions."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)

from .. import kernels, outputs
from .._typing import ArrayLike, Data
from ..checks import refuse_masked
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..schema import printable
from ..training.classes import balanced_weights
from ._network import NetworkEstimator
from ._parameters import validated

__all__ = ["Classifier", "Regressor"]


def _plain_labels(y: ArrayLike) -> Any:
    """Labels of one type: whole numbers of dtype object become numbers.

    Raises
    ------
    ValueError
        If labels are of several types, which have no order.
    """
    array = y if isinstance(y, np.ndarray) else None
    if array is None or array.dtype != object or array.ndim != 1:
        return y
    kinds = {type(label).__name__: isinstance(label, (Integral, np.bool_)) for label in array}
    if all(kinds.values()):
        return np.array(array.tolist())
    if len(kinds) > 1 and not all(isinstance(label, str) for label in array):
        raise ValueError(f"y: expected labels of one type, got {' and '.join(sorted(kinds))}; use y.astype(str)")
    return y


def _some(labels: np.ndarray) -> str:
    """Labels in a message, ten at most."""
    return (
        str(labels)
        if len(labels) <= 10
        else f"{len(labels)} classes, {printable(', '.join(map(str, labels[:10])))}, ..."
    )


def _balanced(y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Weight of each row by the weights of its classes that make their sums equal."""
    product = np.ones(len(y))
    for column in y.reshape(len(y), -1).T:
        codes = np.unique(column, return_inverse=True)[1]
        product *= balanced_weights(codes, int(codes.max()) + 1, weights)[codes]
    return product


class Classifier(ClassifierMixin, NetworkEstimator):
    """One of several classes (softmax), one of two (a sigmoid), or any of several labels (sigmoids)."""

    label_smoothing = 0.0
    _saved = (*NetworkEstimator._saved, "classes_", "_kind", "_sparse_labels")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags

    def _loss(self) -> str | Loss:
        if self._kind == "multiclass":
            return CrossEntropy(label_smoothing=self.label_smoothing)
        return BinaryCrossEntropy()  # of smoothed targets

    def _learn_classes(self, y: ArrayLike, labels: ArrayLike | None = None) -> None:
        """Set `classes_` and the kind of problem from the targets, or from all labels that there are."""
        own = labels is None or type_of_target(y).startswith("multilabel")
        found: Any = _plain_labels(y) if own else labels
        kind = type_of_target(found, input_name="y")
        if own and kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(found)
        if "multioutput" in kind:
            raise ValueError("Multioutput target data is not supported with label binarization")
        if not found.shape[0]:
            raise ValueError("y: expected at least one label, got none")
        self.classes_ = unique_labels(found)
        if own and kind == "multiclass" and 2 * len(self.classes_) >= found.shape[0]:
            check_classification_targets(found)  # warns of targets that may be values
        self._kind = "multilabel" if kind.startswith("multilabel") else kind
        self._sparse_labels = bool(scipy.sparse.issparse(found))
        self.n_outputs_ = 1 if self._kind == "binary" else len(self.classes_)

    def _begin_partial_fit(self, y: ArrayLike, classes: Any) -> None:
        """Learn the classes in the first call."""
        refuse_masked("y", y)
        if classes is not None:
            classes = _plain_labels(np.asarray(classes))
            if classes.dtype.kind == "f" and (classes != np.floor(classes)).any():
                raise ValueError("Unknown label type: continuous. classes: expected whole numbers or names")
        if _check_partial_fit_first_call(self, classes):
            self._learn_classes(y, classes)

    def _check_X_y(self, X: Data, y: Any, *, reset: bool, incremental: bool) -> tuple[Any, Any]:
        X, y = validated(self, X, y, multi_output=True, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = _plain_labels(y)
        if "classes_" not in vars(self) or (reset and not incremental):
            self._learn_classes(y)
            if self._kind == "multilabel" and not incremental and (np.asarray((y != 0).sum(axis=1)) == 1).all():
                warnings.warn(
                    "each row of y has exactly one label, but its columns are trained as labels that do not exclude "
                    "one another; for one class per row give y.argmax(axis=1)",
                    stacklevel=4,
                )
            return X, y
        check_classification_targets(y)
        labels = unique_labels(y)
        if self.warm_start and not incremental:
            if set(labels) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {_some(self.classes_)}, `y` has {_some(labels)}"
                )
        elif len(np.setdiff1d(labels, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {_some(self.classes_)}. "
                f"'y' has {_some(labels)}."
            )
        return X, y

    def _targets(self, y: Any) -> np.ndarray:
        if self._kind == "multiclass":
            codes: np.ndarray = np.searchsorted(self.classes_, y)
            return codes.astype(np.int64, copy=False)
        if self._kind == "multilabel":
            targets: np.ndarray = (y.toarray() if scipy.sparse.issparse(y) else np.asarray(y)) != 0
        else:
            targets = np.searchsorted(self.classes_, y).reshape(-1, 1) != 0
        if not self.label_smoothing:
            return targets
        # As the softmax of two classes would smooth them.
        smoothed: np.ndarray = (1.0 - self.label_smoothing) * targets + 0.5 * self.label_smoothing
        return smoothed

    def _labels(self, targets: np.ndarray) -> np.ndarray:
        if self._kind == "multiclass":
            codes = targets
        elif self._kind == "multilabel":
            return (targets > 0.5).astype(np.int64)
        else:
            codes = (targets[:, 0] > 0.5).astype(np.int64)
        labels: np.ndarray = self.classes_.take(codes, mode="clip")
        return labels

    def _row_weights(self, X: Any, y: Any, sample_weight: ArrayLike | None, incremental: bool) -> np.ndarray | None:
        weights = super()._row_weights(X, y, sample_weight, incremental)
        if self.class_weight is None:
            return weights
        if isinstance(self.class_weight, str):
            if incremental:
                raise ValueError('class_weight="balanced" needs all labels at once, not partial_fit; give a dict')
            per_class = _balanced(y.toarray() if scipy.sparse.issparse(y) else np.asarray(y), weights)
        else:
            for column in [self.class_weight] if isinstance(self.class_weight, dict) else self.class_weight:
                for label, weight in column.items():
                    if not 0.0 <= weight < np.inf:
                        raise ValueError(f"class_weight: expected finite values >= 0, got {weight} for class {label!r}")
            per_class = compute_sample_weight(self.class_weight, y)
        per_class = per_class.astype(X.dtype)
        total = per_class if weights is None else weights * per_class
        if not total.any() and (weights is None or weights.any()):
            raise ValueError("class_weight: expected a positive sum over the rows, got zeros only")
        return total

    def _stratum(self, targets: np.ndarray) -> np.ndarray | None:
        if self._kind == "binary":
            return targets > 0.5
        if self._kind == "multilabel":
            return None
        counts = np.bincount(targets)
        counts = counts[counts > 0]
        held_out = int(np.ceil(self.validation_fraction * len(targets)))
        # Where a class is too rare to be in both parts, rows are drawn without regard to classes.
        divisible = counts.min() >= 2 and len(counts) <= min(held_out, len(targets) - held_out)
        return targets if divisible else None

    def predict(self, X: Data) -> np.ndarray:
        """Classes of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, n_classes) of 0 and 1 for several labels
        """
        Z = self._decision(X)
        if self._kind == "multilabel":
            labels = (Z > 0).astype(np.int64)
            return scipy.sparse.csr_matrix(labels) if self._sparse_labels else labels
        codes = Z.argmax(axis=1) if self._kind == "multiclass" else (Z[:, 0] > 0).astype(np.int64)
        predicted: np.ndarray = self.classes_.take(codes, mode="clip")  # also with a single class
        return predicted

    def predict_proba(self, X: Data, posterior: str | None = None) -> np.ndarray:
        """Probabilities, in the order of `classes_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        posterior : "laplace", optional
            Probabilities under the posterior of the parameters instead of at the fitted ones: nearer to
            even, the more so the less the data say of a sample. :meth:`fit_posterior` comes first; the formulas are
            those of :meth:`fastnn.curvature.Laplace.predictive`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1, but for several labels, where each column is a label's own.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator, or the posterior that is asked for, is not fitted.
        ValueError
            If X or `posterior` do not fit, or the parameters have changed since the posterior was fitted.
        """
        if posterior is not None:
            if not isinstance(posterior, str) or posterior != "laplace":
                raise ValueError(f"posterior must be 'laplace' or None, got {posterior!r}")
            p = self._predictive(X).mean.astype(self.network_.dtype)
            return np.concatenate([1 - p, p], axis=1) if self._kind == "binary" else p
        return self._probabilities(self._decision(X))

    def _probabilities(self, Z: np.ndarray) -> np.ndarray:
        return outputs.expectations(self.network_.loss_function, kernels, self._both(Z))

    def predict_log_proba(self, X: Data) -> np.ndarray:
        """Logarithms of the probabilities; small ones are taken from the logits, so that they keep their digits.

        Of a probability above ½ it is the logarithm of what :meth:`predict_proba` gives, 0 where that rounds to 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        Z = self._decision(X)
        logarithms = outputs.log_probabilities(self.network_.loss_function, kernels, self._both(Z))
        p = self._probabilities(Z)
        np.log(p, out=logarithms, where=p > 0.5)
        return logarithms

    def _both(self, Z: np.ndarray) -> np.ndarray:
        """Logits of both classes, where there are two."""
        return np.concatenate([-Z, Z], axis=1) if self._kind == "binary" else Z


class Regressor(RegressorMixin, NetworkEstimator):
    """One or several values."""

    _saved = (*NetworkEstimator._saved, "target_mean_", "target_scale_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

    def _check_X_y(self, X: Data, y: Any, *, reset: bool, incremental: bool) -> tuple[Any, Any]:
        X, y = validated(self, X, y, multi_output=True, y_numeric=True, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        return X, y

    def _targets(self, y: Any) -> np.ndarray:
        targets: np.ndarray = y.reshape(-1, 1) if y.ndim == 1 else y
        return targets

    def predict(self, X: Data, return_std: bool = False) -> Any:
        """Values of samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to give the standard deviation of the targets too, that of the noise and of the parameters together;
            :meth:`fit_posterior` comes first, or the parameter `posterior`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs), or with `return_std` a pair of them
            The values are the same either way, those of the fitted network.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator, or the posterior that is asked for, is not fitted.
        ValueError
            If X does not fit, or the parameters have changed since the posterior was fitted.
        """
        Z = self._decision(X)
        values = self.network_.decide(Z)
        if not return_std:
            return values
        std = self._predictive(X).std.astype(self.network_.dtype)
        return values, std[:, 0] if self.n_outputs_ == 1 else std
