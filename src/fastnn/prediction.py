"""Predictions of a network: outputs, probabilities and their logarithms, classes or values."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from . import outputs
from ._typing import ArrayLike, Data
from .backends import find_backend
from .checks import check_threads
from .labels import check_classes
from .losses import Loss
from .names import listing
from .predictor import NamesPredictor, PlainPredictor, Predictor, kind_of_result

if TYPE_CHECKING:  # a backend is imported when a network takes it
    from ._core.engine import Plan as CompiledPlan
    from .reference.plan import Plan as ReferencePlan

__all__ = ["Predictions"]
__dir__ = listing(__all__)


class Predictions:
    """What a network predicts; the base of :class:`fastnn.network.Network`, which has the attributes and the outputs.

    Attributes
    ----------
    loss_function : Loss
    n_outputs : int
        K.
    kernels : module
    backend : str
    plan
    """

    loss_function: Loss
    n_outputs: int
    kernels: ModuleType
    backend: str
    plan: CompiledPlan | ReferencePlan
    _theta: np.ndarray
    _state: np.ndarray
    _classes: np.ndarray | None = None

    @property
    def classes_(self) -> np.ndarray | None:
        """Names of the classes, (K,) of str in the order of the outputs; (2,) of one output. None: codes are all.

        The first training with targets that are str learns them, sorted. Targets may be names or codes then, and
        :meth:`predict` gives names. They can be assigned in any order, where the first rows do not have them all; None
        forgets them.

        Raises
        ------
        ValueError, TypeError
            If what is assigned is not K different str, or a row has no single class.
        """
        return self._classes

    @classes_.setter
    def classes_(self, value: ArrayLike | None) -> None:
        if value is not None and not self.loss_function.has_one_class(self.n_outputs):
            raise ValueError(
                f"classes_: needs rows with one class each, got loss {self.loss_function.name!r} with "
                f"{self.n_outputs} outputs"
            )
        self._classes = None if value is None else check_classes(value, self.n_classes)

    @property
    def n_classes(self) -> int:
        """Number of classes of a row: K, or 2 of one output."""
        return max(self.n_outputs, 2)

    def outputs(self, X: Data, threads: int | None) -> np.ndarray:
        """Outputs z of the last layer as (N, K), also when K is 1; see :meth:`decision_function`."""
        raise NotImplementedError

    def decision_function(self, X: Data, *, threads: int | None = None) -> np.ndarray:
        """Outputs z of the last layer: logits of a classifier, log rates of poisson, predictions of another regression.

        Parameters
        ----------
        X : array_like (N, D)
        threads : int, optional

        Returns
        -------
        ndarray (N, K), or (N,) when K is 1, of the network's dtype

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or features are so large that an output is not finite.
        """
        Z = self.outputs(X, threads)
        return Z[:, 0] if self.n_outputs == 1 else Z

    def predict_proba(self, X: Data, *, threads: int | None = None) -> np.ndarray:
        """Probabilities: softmax(z), or sigmoid(z) for binary_cross_entropy.

        Parameters
        ----------
        X : array_like (N, D)
        threads : int, optional

        Returns
        -------
        ndarray (N, K) of the network's dtype
            For binary_cross_entropy with one output (N, 2), the probabilities of 0 and of 1, as in scikit-learn.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, an output is not finite, or the network is a regression.
        """
        return outputs.expectations(self.loss_function, self.kernels, self._logits(X, threads, "predict_proba"))

    def predict_log_proba(self, X: Data, *, threads: int | None = None) -> np.ndarray:
        """Logarithms of the probabilities, log softmax(z), or log sigmoid(z) for binary_cross_entropy.

        They come from the outputs z: a probability that rounds to 0 or to 1 has an exact logarithm, too.

        Parameters
        ----------
        X : array_like (N, D)
        threads : int, optional

        Returns
        -------
        ndarray
            Of the shape and dtype that :meth:`predict_proba` gives.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, an output is not finite, or the network is a regression.
        """
        Z = self._logits(X, threads, "predict_log_proba")
        return outputs.log_probabilities(self.loss_function, self.kernels, Z)

    def _logits(self, X: Data, threads: int | None, method: str) -> np.ndarray:
        """Outputs z of a classifier, those of 0 and of 1 where there is one output."""
        self.loss_function.require_probabilities(method)
        Z = self.outputs(X, threads)
        return outputs.both_answers(Z) if self.n_outputs == 1 else Z

    def predict(self, X: Data, *, threads: int | None = None) -> np.ndarray:
        """Predictions: the class by its code or its name, 0 or 1, or the value.

        Parameters
        ----------
        X : array_like (N, D)
        threads : int, optional

        Returns
        -------
        ndarray
            cross_entropy: int64 (N,), the class of the largest output (the first of equal ones).
            binary_cross_entropy: int64 (N, K), or (N,) when K is 1; 1 where z > 0.
            Where :attr:`classes_` has names, those of these classes: (N,) of str.
            Regression: the network's dtype (N, K), or (N,) when K is 1: z itself, for poisson the rate e^z.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or features are so large that an output is not finite.
        """
        return self.named(self._codes(X, threads=threads))

    def _codes(self, X: Data, *, threads: int | None) -> np.ndarray:
        """:meth:`predict` without names of classes."""
        return self.decide(self.outputs(X, threads))

    def named(self, decided: np.ndarray) -> np.ndarray:
        """What :meth:`decide` gives, with the names of the classes in the place of their codes, where there are any."""
        return decided if self._classes is None else self._classes[decided]

    def predictor(self, method: str = "predict", *, threads: int | None = None) -> Predictor:
        """Prepare a method for many calls with few rows, which then take about a microsecond each.

        Parameters
        ----------
        method : {"predict", "predict_proba", "decision_function"}
        threads : int, optional
            For calls with many rows.

        Returns
        -------
        callable
            ``predictor(X, out=None)`` gives what the method gives for X (N, D), bit for bit. Of one row (D,) it gives
            the result without the axis of the rows: an int or float where that is one number. `out` is an array for the
            result, of its shape and dtype, C-contiguous, aligned and writable. C-contiguous arrays of few rows, of the
            network's dtype, float32 or uint8, are taken as they are; all else as by the method.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, of this method or of the predictor.

        Notes
        -----
        Each call reads the parameters as they are then: a training changes what follows, one in another thread also
        within an epoch; the names of classes stay those of now. Threads may share a predictor; it computes few rows
        under the interpreter's lock. It cannot be copied or pickled.
        """
        kind = kind_of_result(method, self.loss_function, self.n_outputs)
        threads, named = check_threads(threads), method == "predict" and self._classes is not None
        call = self._codes if named else getattr(self, method)
        plain = PlainPredictor(functools.partial(call, threads=threads))
        prepare = find_backend(self.backend).Predictor
        fast = plain if prepare is None else prepare(self.plan, self._theta, self._state, kind, plain)
        return NamesPredictor(fast, self._classes) if named and self._classes is not None else fast

    def decide(self, Z: np.ndarray) -> np.ndarray:
        """Predictions from outputs z (N, K); see :meth:`predict`."""
        return outputs.decisions(self.loss_function, self.kernels, Z)
