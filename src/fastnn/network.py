"""Network: layers over one flat parameter vector, run by a backend. What it computes; :mod:`fastnn.sequential` trains.

Layers become operations with places in one parameter vector (:mod:`fastnn.layout`); the plan of a backend does all
arithmetic on them.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from . import losses
from ._typing import ArrayLike, Data, DType, DTypeLike, Rows, Seed
from .backends import BACKENDS, find_backend
from .checks import (
    FeatureNames,
    check_dtype,
    check_flag,
    check_integer,
    check_names,
    check_number,
    check_parameters,
    check_rows,
    check_sample_weight,
    check_seed,
    check_threads,
    overflow_message,
    plain_values,
    rows_that_count,
)
from .labels import codes_of, learn_classes, names_in
from .layers import Layer, check_layers, lay_out
from .layout import Layout, Parameters, Parts, aligned, check_output, initial_parameters, initial_state
from .metrics import Metric, Metrics, check_metrics, default_scores
from .names import listing
from .outputs import expectations
from .prediction import Predictions

__all__ = ["BACKENDS", "Network", "Parameters"]
__dir__ = listing(__all__)

#: What `dtype.name` gives, but that works it out anew each time.
_DTYPE_NAMES = {np.dtype(name): name for name in ("float32", "float64")}

#: Attributes of pickled networks that had other names before 0.1.0 was released.
_RENAMED = {"_loss": "loss_function", "_rng": "generator", "_training": "training_state"}


def __getattr__(name: str) -> Any:
    if name == "Sequential":  # pickles of earlier versions look for it here
        return getattr(importlib.import_module("fastnn.sequential"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_input_scale(input_scale: object, dtype: DType) -> float:
    scale, info = check_number("input_scale", input_scale, above=0.0), np.finfo(dtype)
    if not float(info.tiny) <= scale <= float(info.max):
        raise ValueError(f"input_scale must be a normal number in {dtype}, got {scale:g}")
    return scale


class Network(Predictions):
    """What a network computes: outputs, predictions, the objective and its gradient. Base of :class:`Sequential`.

    The arguments are those of :class:`fastnn.Sequential`, which adds training and files.

    Attributes
    ----------
    layers : tuple of layers
    input_size, n_outputs, n_parameters : int
        D, K and P.
    loss_function : Loss
    loss_name : str
        Its name, without its options.
    dtype : numpy.dtype
    input_scale : float or None
    feature_names : tuple of str or None
        Columns of the DataFrame that the network was first trained with. A DataFrame given later must have the same in
        the same order; arrays are free. It can be assigned: None forgets them.
    backend : str
    ops : tuple of OpSpec
        One operation for each layer.
    layout : list of (name, offset, shape)
        Places of the parameters in theta.
    needs_batches : bool
        Whether training needs batches of at least two rows, as batch norm does.
    plan
        The backend's plan: ``forward``, ``loss_and_gradient``, ``train`` and ``linearize`` on checked arrays.
    kernels : module
        The backend's kernels: :mod:`fastnn.kernels` or :mod:`fastnn.reference`.
    generator : numpy.random.Generator
        Of the initial parameters, then of training.
    history : History or None
        Of the last training.
    training_state : TrainingState or None
        What the last training needs to continue.
    split_start : dict or None
        State of the generator that drew the validation rows, for the trainings that follow.

    Notes
    -----
    Names without underscore that :class:`fastnn.Sequential` does not document serve the package's own modules: they are
    stable between them, and may change between versions.
    """

    split_start: Any = None
    feature_names = FeatureNames()

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        input_size: int,
        loss: str | losses.Loss,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
        input_scale: float | None = None,
        backend: str = "compiled",
    ) -> None:
        self.layers = check_layers(layers)
        self.input_size = check_integer("input_size", input_size)
        self.loss_function = losses.get(loss)
        self.dtype = check_dtype(dtype)
        self.input_scale = None if input_scale is None else _check_input_scale(input_scale, self.dtype)
        self.generator = check_seed(seed)
        if not isinstance(backend, str) or backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
        self.backend = backend
        layout = lay_out(self.layers, self.input_size)
        check_output(self.layers[-1], layout.ops[-1], self.loss_function)
        self.history: Any = None  # modules above define the types of these two
        self.training_state: Any = None
        theta = initial_parameters(layout, self.dtype, self.generator)
        self._build(layout, theta, initial_state(layout, self.dtype))

    def _build(self, layout: Layout, theta: np.ndarray, state: np.ndarray) -> None:
        """Take these arrays as parameters and buffers, and make the plan."""
        self.ops, self.n_parameters = layout.ops, layout.n_parameters
        self.layout = [(name, offset, shape) for name, offset, shape, _ in layout.parameters]
        self._buffers = layout.buffers
        self.needs_batches = any(op.facts.couples_rows for op in self.ops)
        self.n_outputs = layout.ops[-1].n_out
        self._theta, self._state = aligned(theta), state
        backend = find_backend(self.backend)
        self.kernels = backend.kernels
        self.plan = backend.Plan(
            self.ops,
            self.n_parameters,
            self.loss_function.name,
            _DTYPE_NAMES[self.dtype],
            input_scale=self.input_scale,
            **self.loss_function.options(),
        )

    def begin_training(self, parts: Parts, generator: np.random.Generator) -> None:
        """Prepare the buffers for the first step of a training.

        Parameters
        ----------
        parts : iterable of (rows, weight or None)
            Checked rows that ``Standardize`` learns from, unless it has learnt already; not read where nothing does.
        generator : numpy.random.Generator
            Draws the seed of dropout.
        """
        scale = 1.0 if self.input_scale is None else self.input_scale
        for buffer in self._buffers:
            if buffer.begin is not None:
                own = self._state[buffer.offset : buffer.offset + buffer.size]
                values = buffer.begin(own, parts, scale, generator)
                if values is not None:
                    own[...] = values

    # Parameters.

    @property
    def loss_name(self) -> str:
        """Name of the loss, without its options."""
        return self.loss_function.name

    @property
    def theta(self) -> np.ndarray:
        """All parameters, (P,), the network's own array: writing into it changes the network.

        Assigning copies the values in, after checking shape, dtype and that they are finite; views stay valid.
        """
        return self._theta

    @theta.setter
    def theta(self, value: np.ndarray) -> None:
        self._theta[...] = check_parameters("theta", value, self._theta.shape, self.dtype)

    @property
    def state(self) -> np.ndarray:
        """Buffers, (S,), learnt but not optimised: running statistics, standardisation, the seed of dropout."""
        return self._state

    @property
    def parameters(self) -> Parameters:
        """Views into :attr:`theta` by name: ``"0.weight"`` (in, out), ``"0.bias"`` (out,), ``"1.weight"``, ..."""
        views = Parameters()
        for name, offset, shape in self.layout:
            dict.__setitem__(views, name, self._theta[offset : offset + math.prod(shape)].reshape(shape))
        return views

    # Scores.

    def evaluate(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics | None = None,
        threads: int | None = None,
    ) -> dict[str, float]:
        """Loss and scores on data, without penalties.

        Parameters
        ----------
        X : array_like (N, D)
            At least one row.
        y : array_like
            As for :meth:`fit`.
        sample_weight : array_like (N,), optional
        metrics : str, callable, or list or dict of those, optional
            More scores, by name or as functions; see :mod:`fastnn.metrics`.
        threads : int, optional

        Returns
        -------
        dict of float
            Classifiers: ``loss``, ``accuracy`` (the weighted fraction of rows that are right in all outputs; soft
            targets count as their largest class, or as > 0.5).
            Regression: ``loss``, and of the predictions ``mse`` and ``mae`` (means over rows and outputs), ``r2``
            (1 − Σ w (y − ŷ)² / Σ w (y − ȳ)² per output, averaged over outputs; an output that is constant counts 1
            when it is met exactly, else 0, as in scikit-learn). For poisson also ``deviance``, the mean over rows and
            outputs of 2 (y log(y / ŷ) − y + ŷ).

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        more = check_metrics(metrics, self.loss_function)
        return self.evaluate_checked(*self.check_data(X, y, sample_weight), check_threads(threads), more)

    def evaluate_checked(
        self,
        X: Rows,
        y: np.ndarray,
        w: np.ndarray | None,
        threads: int | None,
        metrics: tuple[Metric, ...] = (),
    ) -> dict[str, float]:
        """:meth:`evaluate` for what :meth:`check_data` returned."""
        Z = self.plan.forward(self._theta, X, threads=threads, buffers=self._state)
        loss = self.loss_function
        scores = default_scores(loss, self.kernels, Z, y, w, self.decide)
        predictions = expectations(loss, self.kernels, Z) if metrics else Z
        predictions = predictions[:, 0] if self.n_outputs == 1 else predictions
        return scores | {metric.name: metric(loss, y, predictions, w) for metric in metrics}

    # The objective and its derivatives.

    def loss(
        self,
        X: Data,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> float:
        """Objective J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁ on data; see :meth:`loss_and_gradient`."""
        return self._objective(X, y, sample_weight, l1, l2, training, threads, gradient=False)[0]

    def gradient(
        self,
        X: Data,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> np.ndarray:
        """Gradient ∂J/∂θ (P,) of the objective on data; see :meth:`loss_and_gradient`."""
        result: np.ndarray = self._objective(X, y, sample_weight, l1, l2, training, threads, gradient=True)[1]
        return result

    def loss_and_gradient(
        self,
        X: Data,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> tuple[float, np.ndarray]:
        """Objective J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁ and its gradient, on all rows at once.

        Parameters
        ----------
        X : array_like (N, D)
            At least one row.
        y : array_like
            As for :meth:`fit`.
        sample_weight : array_like (N,), optional
        l1, l2 : float, default=0.0
            Penalties of the weights W, not of the biases, of layers without penalties of their own.
        training : bool, default=False
            Whether batch norm uses the statistics of these rows instead of the running ones. Nothing is dropped.
        threads : int, optional

        Returns
        -------
        loss : float
        gradient : ndarray (P,) of the network's dtype
            A new array in the layout of :attr:`theta`; the subgradient of |w| at 0 is 0.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        return self._objective(X, y, sample_weight, l1, l2, training, threads, gradient=True)

    def _objective(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        l1: float,
        l2: float,
        training: bool,
        threads: int | None,
        gradient: bool,
    ) -> tuple[float, Any]:
        training = check_flag("training", training)
        l1, l2 = check_number("l1", l1, minimum=0.0), check_number("l2", l2, minimum=0.0)
        rows, targets, w = self.check_data(X, y, sample_weight)
        n_threads = check_threads(threads)
        if training and self.needs_batches and w is not None:
            rows, targets, w = rows_that_count(rows, targets, w)
        if training and self.needs_batches and len(rows) == 1:
            raise ValueError("X: expected at least 2 rows to normalise a batch by its own statistics, got 1")
        return self.plan.loss_and_gradient(
            self._theta,
            rows,
            targets,
            sample_weight=w,
            l1=l1,
            l2=l2,
            threads=n_threads,
            gradient=gradient,
            buffers=self._state,
            training=training,
        )

    # Copying, showing.

    def copy(self) -> Self:
        """Independent copy: parameters, generator and history are copied too."""
        return copy.deepcopy(self)

    __copy__ = copy  # a shallow copy would share theta while each believed it was its own

    def astype(self, dtype: DTypeLike) -> Self:
        """Copy of the network that computes in another dtype, with the same parameters and buffers.

        Parameters
        ----------
        dtype : {"float32", "float64"}

        Returns
        -------
        network
            Of the same class, without history and training state. To float64 all values are exact.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__getstate__(), dtype=check_dtype(dtype), history=None, training_state=None)
        other.generator = copy.deepcopy(self.generator)
        theta, state = self._theta.astype(other.dtype), self._state.astype(other.dtype)
        other._build(lay_out(self.layers, self.input_size), theta, state)
        return other

    def __getstate__(self) -> dict[str, object]:
        derived = ("plan", "kernels", "layout", "ops", "n_parameters", "n_outputs", "needs_batches", "_buffers")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            self.__dict__[_RENAMED.get(name, name)] = value
        self.__dict__.pop("_n_state", None)
        self._build(lay_out(self.layers, self.input_size), self._theta, self._state)

    def summary(self) -> str:
        """Table of the layers: name, activation, shape of the output, number of parameters, and totals."""
        rows = [("layer", "activation", "output", "parameters"), ("input", "", f"(N, {self.input_size})", "0")]
        counts = [0] * len(self.layers)
        for name, _, shape in self.layout:
            counts[int(name.split(".")[0])] += math.prod(shape)
        for index, (layer, op) in enumerate(zip(self.layers, self.ops, strict=True)):
            activation = op.sigma if op.facts.activates else ""
            rows.append((f"{index} {type(layer).__name__}", activation, f"(N, {op.n_out})", f"{counts[index]:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        rule = "-" * max(map(len, lines))
        lines.insert(1, rule)
        size = self._theta.nbytes
        total = f"total: {self.n_parameters:,} parameters, {size:,} bytes in {self.dtype}"
        own = [
            f"{index} {type(layer).__name__} {name}={value:g}"
            for index, (layer, op) in enumerate(zip(self.layers, self.ops, strict=True))
            for name, value in (("l1", op.l1), ("l2", op.l2))
            if value is not None
        ]
        penalties = [f"penalties of their own: {', '.join(own)}"] if own else []
        return "\n".join(
            [*lines, rule, total, *penalties, f"loss: {self.loss_function.shorthand}; backend: {self.backend}"]
        )

    def __repr__(self) -> str:
        sizes = "-".join(str(size) for size in [self.input_size, *(op.n_out for op in self.ops if op.facts.has_weight)])
        count = f"{self.n_parameters:,} parameters"
        return (
            f"{type(self).__name__}({sizes}, loss={self.loss_function.shorthand!r}, dtype={self.dtype.name!r}, {count})"
        )

    # Shared by the methods above and by the modules above.

    def check_data(
        self, X: Data, y: ArrayLike, sample_weight: ArrayLike | None, classes: np.ndarray | None = None
    ) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        """Samples, targets and weights as the plan takes them; at least one row.

        `classes` are those of :meth:`check_targets`.

        Raises
        ------
        ValueError, TypeError
            If one of them does not fit; see :meth:`check_rows`, :meth:`check_targets` and
            :func:`fastnn.checks.check_sample_weight`.
        """
        rows = self.check_rows(X)
        if len(rows) == 0:
            raise ValueError(f"X: expected at least one row, got shape {rows.shape}")
        targets = self.check_targets(y, len(rows), classes)
        return rows, targets, check_sample_weight(sample_weight, len(rows), self.dtype)

    def check_targets(self, y: ArrayLike, n_rows: int, classes: np.ndarray | None = None) -> np.ndarray:
        """Targets of so many rows as the plan takes them, with names of classes as their codes.

        Parameters
        ----------
        y : array_like
            As for :meth:`fit`.
        n_rows : int
        classes : ndarray (K,) of str, optional
            Names of the classes that a network is about to learn; None is :attr:`classes_`.

        Raises
        ------
        ValueError, TypeError
            If they do not fit; see :mod:`fastnn.labels` and the loss's ``check_targets``.
        """
        values, classes = plain_values("y", y), self.classes_ if classes is None else classes
        names = self.names_in(values)
        if names is not None:
            if classes is None:
                raise ValueError(
                    f"y: expected codes of classes, as the network knows no names, got {str(names[0])!r:.60}; train it "
                    "with names, or give them with net.classes_ = [...]"
                )
            values = codes_of(names, classes)
        return self.loss_function.check_targets(values, n_rows, self.n_outputs, self.dtype)

    def names_in(self, y: ArrayLike | None) -> np.ndarray | None:
        """Targets that are names of classes, (N,) of str; None for others, and where a row has not just one class."""
        if y is None or (isinstance(y, np.ndarray) and y.dtype.kind not in "OUT") or hasattr(y, "tocsr"):
            return None
        return names_in(np.asarray(y)) if self.loss_function.has_one_class(self.n_outputs) else None

    def new_classes(self, y: ArrayLike | None) -> np.ndarray | None:
        """The classes that a network learns from targets: None where they have no names, or it knows its classes.

        Raises
        ------
        ValueError, TypeError
            If the names are not those of as many classes as the network has outputs for.
        """
        names = self.names_in(y) if self.classes_ is None else None
        return None if names is None else learn_classes(names, self.n_classes)

    def check_rows(self, X: Data) -> Rows:
        """Samples as the plan takes them; a DataFrame must have the columns that the network was trained with.

        Raises
        ------
        ValueError, TypeError
            If they do not fit; see :func:`fastnn.checks.check_rows`.
        """
        check_names(X, self.feature_names)
        return check_rows(X, self.input_size, self.dtype)

    def outputs(self, X: Data, threads: int | None) -> np.ndarray:
        """Outputs z of the last layer as (N, K), also when K is 1; see :meth:`decision_function`."""
        rows = self.check_rows(X)
        n_threads = check_threads(threads)
        if len(rows) == 0:
            return np.empty((0, self.n_outputs), self.dtype)
        Z: np.ndarray = self.plan.forward(self._theta, rows, threads=n_threads, buffers=self._state)
        if not self.kernels.all_finite.unchecked(Z):
            raise ValueError(overflow_message(Z, self._theta))
        return Z
