"""Sequential: layers over one flat parameter vector, run by a backend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import initializers, losses
from .checks import (
    check_dtype,
    check_integer,
    check_number,
    check_parameters,
    check_rows,
    check_sample_weight,
    check_seed,
    check_threads,
    moments,
)
from .layers import LAYERS, Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, Standardize
from .plan import OpSpec

if TYPE_CHECKING:
    import os

    from .optimizers import Optimizer, Solver
    from .training import History, TrainingState

__all__ = ["Parameters", "Sequential"]

BACKENDS = ("compiled", "reference")


class _Backend(NamedTuple):
    Plan: Any
    kernels: Any


def _backend(name: str) -> _Backend:
    """The plan and the kernels of a backend, imported when first asked for."""
    if name == "compiled":
        from . import kernels
        from ._core.engine import Plan

        return _Backend(Plan, kernels)
    if name == "reference":
        from . import reference
        from .reference.network import Plan as ReferencePlan

        return _Backend(ReferencePlan, reference)
    raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {name!r}")


class Parameters(dict[str, np.ndarray]):
    """A network's parameters by name, each a view into ``net.theta``; assigning to a name writes through."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self)}")
        view = self[name]
        view[...] = check_parameters(name, value, view.shape, view.dtype)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Write several parameters through."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Parameters:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _refuse(self, *args: Any) -> Any:
        raise TypeError("parameters belong to the network and cannot be removed or added")

    __delitem__ = clear = pop = popitem = setdefault = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copy has no network behind it


def _aligned(theta: np.ndarray) -> np.ndarray:
    """Theta, copied to the start of a cache line unless it is mapped: updates and products then read whole lines."""
    line = 64
    if theta.ctypes.data % line == 0 or not theta.flags.writeable or isinstance(theta, np.memmap):
        return theta
    raw = np.empty(theta.nbytes + line, np.uint8)
    copy = raw[-raw.ctypes.data % line :][: theta.nbytes].view(theta.dtype)
    copy[...] = theta
    return copy


class Sequential:
    """A stack of layers with a loss, over one flat parameter vector.

    Parameters
    ----------
    layers : iterable of layers
        At least one. The last one's outputs z are what the loss reads; it is linear for the cross-entropies and for
        poisson, whose softmax, sigmoid or exponential is inside the loss.
    input_size : int
        Number of features D.
    loss : str or Loss
        ``"cross_entropy"`` (K classes, K at least 2 outputs), ``"binary_cross_entropy"`` (K independent yes/no
        outputs), ``"squared_error"``, ``"absolute_error"`` or ``"huber"`` (K values), ``"poisson"`` (K rates of
        counts), or one of :mod:`fastnn.losses` with options, such as ``CrossEntropy(label_smoothing=0.1)``.
    dtype : {"float32", "float64"}
        Of the parameters and of all arithmetic.
    seed : int, numpy.random.Generator or None, default=None
        Source of the initial parameters, then of the shuffling. The draws are made in float64, so float32 and
        float64 networks of one seed start from the same numbers.
    input_scale : float, optional
        Multiplies X wherever the network reads it, whatever its dtype: 1/255 takes uint8 images without a float copy.
    backend : {"compiled", "reference"}
        ``"reference"`` runs the same network in NumPy.

    Attributes
    ----------
    layers : tuple of layers
    input_size, n_outputs, n_parameters : int
    loss_name : str
    dtype : numpy.dtype
    input_scale : float or None
    backend : str
    history : History or None
        Of the last call of :meth:`fit`.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit; the message names it.

    Notes
    -----
    theta holds the layers in list order, each as its weight (inputs, outputs) in C order and then its bias; the
    gradient has the same layout. With weights w the objective of a set of rows is
    J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁, with penalties of the weights only. `l2` is not divided by anything:
    scikit-learn's `alpha` is l2 times the number of rows of a batch.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(2)], input_size=2, loss="cross_entropy", seed=0)
    >>> history = net.fit(X, y, optimizer=fnn.Adam(0.05), epochs=200, batch_size=4)
    >>> net.predict(X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        input_size: int,
        loss: str | losses.Loss,
        dtype: Any = "float32",
        seed: int | np.random.Generator | None = None,
        input_scale: float | None = None,
        backend: str = "compiled",
    ) -> None:
        self.layers = _check_layers(layers)
        self.input_size = check_integer("input_size", input_size)
        self._loss = losses.get(loss)
        self.dtype = check_dtype(dtype)
        self.input_scale = None if input_scale is None else check_number("input_scale", input_scale, above=0.0)
        info = np.finfo(self.dtype)
        if self.input_scale is not None and not float(info.tiny) <= self.input_scale <= float(info.max):
            raise ValueError(f"input_scale must be a normal number in {self.dtype}, got {self.input_scale:g}")
        self._rng = check_seed(seed)
        if not isinstance(backend, str) or backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
        self.backend = backend
        _check_output(self.layers[-1], self._loss)
        self.history: History | None = None
        self._training: TrainingState | None = None
        self._lay_out()
        self._build(self._initial())

    def _lay_out(self) -> None:
        """Places of all parameters in theta, from the layers alone."""
        self._slots: list[tuple[str, int, tuple[int, ...]]] = []
        self._ops: list[OpSpec] = []
        self._n_state, seed = 0, -1  # all dropouts share a seed
        offset, n = 0, self.input_size
        for index, layer in enumerate(self.layers):
            source = index - 1
            rate = getattr(layer, "learning_rate_multiplier", 1.0)
            if isinstance(layer, Dense):
                weight, bias = offset, -1
                self._slots.append((f"{index}.weight", offset, (n, layer.units)))
                offset += n * layer.units
                if layer.bias:
                    bias = offset
                    self._slots.append((f"{index}.bias", offset, (layer.units,)))
                    offset += layer.units
                self._ops.append(OpSpec("dense", source, n, layer.units, weight, bias, layer.activation, rate))
                n = layer.units
            elif isinstance(layer, (BatchNorm, LayerNorm)):
                self._slots += [(f"{index}.gamma", offset, (n,)), (f"{index}.beta", offset + n, (n,))]
                gamma, offset = offset, offset + 2 * n
                op = OpSpec("layer_norm", source, n, n, gamma, gamma + n, "linear", rate, epsilon=layer.epsilon)
                if isinstance(layer, BatchNorm):
                    op = op._replace(kind="batch_norm", state=self._n_state, momentum=layer.momentum)
                    self._n_state += 2 * n + 1
                self._ops.append(op)
            elif isinstance(layer, Dropout):
                if seed < 0:
                    seed, self._n_state = self._n_state, self._n_state + 1
                self._ops.append(OpSpec("dropout", source, n, n, -1, -1, "linear", state=seed, drop=layer.rate))
            elif isinstance(layer, Standardize):
                self._ops.append(OpSpec("standardize", source, n, n, -1, -1, "linear", state=self._n_state))
                self._n_state += 2 * n
            else:
                self._ops.append(OpSpec("activation", source, n, n, -1, -1, layer.name))
        self.n_parameters = offset
        self.n_outputs = n

    def _initial(self) -> np.ndarray:
        theta = np.empty(self.n_parameters, self.dtype)
        for layer, op in zip(self.layers, self._ops, strict=True):
            if isinstance(layer, Dense):
                n_in, n_out = op.n_in, op.n_out
                W = initializers.draw(layer.init, n_in, n_out, (n_in, n_out), self._rng, "init")
                theta[op.weight : op.weight + W.size] = W.ravel()
                if layer.bias:
                    b = initializers.draw(layer.bias_init, n_in, n_out, (n_out,), self._rng, "bias_init")
                    theta[op.bias : op.bias + n_out] = b
            elif op.weight >= 0:
                theta[op.weight : op.weight + op.n_out] = 1.0
                theta[op.bias : op.bias + op.n_out] = 0.0
        return theta

    def _initial_state(self) -> np.ndarray:
        state = np.zeros(self._n_state, self.dtype)
        for op in self._ops:
            if op.kind == "standardize":
                state[op.state + op.n_out : op.state + 2 * op.n_out] = 1.0
        return state

    def _begin(self, X: Any, generator: np.random.Generator) -> None:
        """Before the first step of a training: learn the standardisation of X (None: keep it), seed the dropouts."""
        for op in self._ops:
            if op.kind == "standardize" and X is not None:
                scale = 1.0 if self.input_scale is None else self.input_scale
                mean, deviation = moments(X)
                deviation[deviation == 0.0] = 1.0 / scale
                self._state[op.state : op.state + op.n_out] = mean * scale
                self._state[op.state + op.n_out : op.state + 2 * op.n_out] = 1.0 / (deviation * scale)
        dropouts = [op for op in self._ops if op.kind == "dropout"]
        if dropouts:
            self._state[dropouts[0].state] = generator.integers(2**24)  # float32 holds it exactly

    @property
    def _whole_batches(self) -> bool:
        """Whether training needs batches of at least two rows."""
        return any(op.kind == "batch_norm" for op in self._ops)

    def _build(self, theta: np.ndarray, state: np.ndarray | None = None) -> None:
        """Take `theta` as the parameter vector and make the plan."""
        self._theta = _aligned(theta)
        self._state = self._initial_state() if state is None else state
        self._backend = _backend(self.backend)
        self._plan = self._backend.Plan(
            self._ops,
            self.n_parameters,
            self._loss.name,
            self.dtype.name,
            input_scale=self.input_scale,
            **self._loss.options(),
        )

    # Parameters.

    @property
    def loss_name(self) -> str:
        """Name of the loss, without its options."""
        return self._loss.name

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
        """What is learnt but not optimised, (S,): running statistics, standardisation, the seed of dropout."""
        return self._state

    @property
    def parameters(self) -> Parameters:
        """Views into :attr:`theta` by name: ``"0.weight"`` (in, out), ``"0.bias"`` (out,), ``"1.weight"``, ..."""
        views = Parameters()
        for name, offset, shape in self._slots:
            dict.__setitem__(views, name, self._theta[offset : offset + math.prod(shape)].reshape(shape))
        return views

    # Training.

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        optimizer: Optimizer | Solver | str = "adam",
        epochs: int = 10,
        batch_size: int | None = 64,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        callbacks: Iterable[Any] = (),
        verbose: int = 0,
        threads: int | None = None,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
        resume: bool = False,
    ) -> History:
        """Train from the present parameters; the optimizer starts anew.

        Parameters
        ----------
        X : array_like (N, D), or batches
            float32, float64 or uint8 are used as they are; other real dtypes are converted. Never modified. A sparse
            matrix of SciPy stays sparse (CSR); its rows are made dense batch by batch.
            Without `y`: an iterable of batches (X, y) or (X, y, sample_weight), or a function that returns an iterator
            of them, for data larger than memory. Each item is one batch, `batch_size` and `shuffle` do not apply; an
            iterator, which lasts for one epoch, needs ``epochs=1``.
        y : array_like
            cross_entropy: integer labels (N,) or rows (N, K) that sum to 1; binary_cross_entropy: values in [0, 1],
            (N,) or (N, K); poisson: values of at least 0, (N,) or (N, K); the others: values, (N,) or (N, K).
        optimizer : Optimizer, solver or str, default="adam"
            A full-batch solver of :mod:`fastnn.solvers` takes all rows at once and has one entry in the history per
            iteration, up to its own `max_iter`: leave `epochs`, `batch_size` and `shuffle` as they are. Batch norm then
            uses the statistics of all rows, which also take the place of the running ones; dropout, l1, clipping,
            learning-rate multipliers and `resume` are refused. ``history.result`` says why it stopped.
        epochs : int, default=10
        batch_size : int or None, default=64
            Rows of a batch (the last one of an epoch may be shorter); None, or more than N, is all of them.
        shuffle : bool, default=True
            Draw a new order of the rows for every epoch.
        sample_weight : array_like (N,), optional
            At least 0. A batch's loss is Σ w ℓ / Σ w; a batch whose weights sum to 0 is skipped.
        class_weight : dict or "balanced", optional
            Weight of each class, multiplied with `sample_weight`; classes that a dict leaves out have 1. "balanced" is
            n / (k n_c) for n_c rows of class c among n rows of k classes, as in scikit-learn. Not for validation.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, as by :meth:`evaluate`.
        validation_split : float, default=0.0
            In [0, 1): share of the rows to validate on instead, drawn at random; for classes from each alike.
        l1, l2 : float, default=0.0
            Penalties l1 ‖W‖₁ + ½ l2 ‖W‖² of the weights, not of the biases.
        clip_norm : float, optional
            Longest norm of the gradient, penalties included; a longer one is scaled down to it.
        clip_value : float, optional
            Largest absolute value of a component of the gradient, applied after `clip_norm`.
        callbacks : iterable of callables, default=()
            Each is called with an :class:`fastnn.EpochResult` after each epoch, with the network as of that epoch, and
            stops training by ``result.stop()`` or StopIteration; see :mod:`fastnn.callbacks`.
        verbose : int, default=0
            1 shows a progress bar (tqdm where installed, else a line per epoch on stderr).
        threads : int, optional
            None is the present limit of the BLAS libraries.
        deterministic : bool, default=False
            Make the result independent of `threads`, bit for bit, on one machine. Each batch is then summed in four
            parts, whatever the number of threads: no more than four threads are used, small networks train more slowly,
            and validation data is evaluated by one thread. Otherwise the same number of threads gives the same bits.
        seed : int, numpy.random.Generator or None, default=None
            Of the shuffling and of `validation_split`; None continues the network's own generator.
        resume : bool, default=False
            Go on with the last training of this network (after an interruption from its last finished epoch, or as
            ``fnn.load`` has read it from a file saved with ``training_state=True``), bit for bit as if it had never
            stopped: `epochs` is the total, `seed` is not used, data, callbacks and other arguments are to be given as
            before. A training that a callback has stopped stays stopped. Without an earlier training it begins one.

        Returns
        -------
        History
            One entry per epoch. Its loss is the mean over the batches as training went over them, penalties included;
            results of validation are named ``val_loss``, ``val_accuracy`` and so on.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; nothing has changed then. A batch of an iterator that does not fit is noticed
            when it comes; the network is then as of the step before.
        DivergenceError
            If the loss or the parameters stop being finite; the network has the parameters of the last good epoch.

        Notes
        -----
        An exception, of a callback or by Ctrl-C, leaves the network as of the last finished step, and `resume` goes on
        from the end of the last finished epoch. With a solver, it is as of the last finished iteration.
        """
        from .training import fit  # training stands above the network; this method is a shorthand for it

        return fit(
            self,
            X,
            y,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            l1=l1,
            l2=l2,
            clip_norm=clip_norm,
            clip_value=clip_value,
            callbacks=callbacks,
            verbose=verbose,
            threads=threads,
            deterministic=deterministic,
            seed=seed,
            resume=resume,
        )

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        optimizer: Optimizer | str | None = None,
        batch_size: int | None = 64,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
    ) -> History:
        """Train for one epoch over data that may be new, keeping the optimizer's state, the step and the history.

        Parameters
        ----------
        X, y, batch_size, shuffle, sample_weight, class_weight, l1, l2, clip_norm, clip_value
            As for :meth:`fit`.
        threads, deterministic, seed
            As for :meth:`fit`.
        optimizer : Optimizer or str, optional
            None is that of the training before, of :meth:`fit` too, else Adam. Another one of the same class goes on
            with the state; one of another class starts anew.

        Returns
        -------
        History
            All epochs since training began.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; nothing has changed then.
        DivergenceError
            If the loss or the parameters stop being finite; the network has the parameters from before the call.
        """
        from .training import partial_fit  # as above

        return partial_fit(
            self,
            X,
            y,
            optimizer=optimizer,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            l1=l1,
            l2=l2,
            clip_norm=clip_norm,
            clip_value=clip_value,
            threads=threads,
            deterministic=deterministic,
            seed=seed,
        )

    # Prediction.

    def decision_function(self, X: Any, *, threads: int | None = None) -> np.ndarray:
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
            If an argument does not fit.
        """
        Z = self._outputs(X, threads)
        return Z[:, 0] if self.n_outputs == 1 else Z

    def predict_proba(self, X: Any, *, threads: int | None = None) -> np.ndarray:
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
            If an argument does not fit, or the network is a regression.
        """
        if not self._loss.classifies:
            raise ValueError(f"predict_proba needs a classifier, got loss {self._loss.name!r}; use predict")
        Z = self._outputs(X, threads)
        if self._loss.link == "softmax":
            return self._backend.kernels.softmax(Z)
        if self.n_outputs == 1:  # sigmoid(-z) keeps the digits that 1 - sigmoid(z) loses
            Z = np.concatenate([-Z, Z], axis=1)
        return self._backend.kernels.activation_forward(Z, "sigmoid")

    def predict(self, X: Any, *, threads: int | None = None) -> np.ndarray:
        """Predictions: the class, 0 or 1, or the value.

        Parameters
        ----------
        X : array_like (N, D)
        threads : int, optional

        Returns
        -------
        ndarray
            cross_entropy: int64 (N,), the class of the largest output (the first of equal ones).
            binary_cross_entropy: int64 (N, K), or (N,) when K is 1; 1 where z > 0.
            Regression: the network's dtype (N, K), or (N,) when K is 1: z itself, for poisson the rate e^z.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        return self._decide(self._outputs(X, threads))

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None, *, threads: int | None = None) -> dict[str, float]:
        """Loss and scores on data, without penalties.

        Parameters
        ----------
        X : array_like (N, D)
            At least one row.
        y : array_like
            As for :meth:`fit`.
        sample_weight : array_like (N,), optional
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
        return self._evaluate(*self._check_data(X, y, sample_weight), check_threads(threads))

    def _scores(self) -> tuple[str, ...]:
        """Names of what :meth:`evaluate` gives."""
        return ("loss", "accuracy") if self._loss.classifies else ("loss", "mse", "mae", "r2")

    def _evaluate(self, X: np.ndarray, y: np.ndarray, w: np.ndarray | None, threads: int | None) -> dict[str, float]:
        """:meth:`evaluate` for checked data."""
        Z = self._plan.forward(self._theta, X, threads=threads, statistics=self._state)
        loss, _ = getattr(self._backend.kernels, self._loss.name)(Z, y, w, **self._loss.options())
        if self._loss.classifies:
            hits = self._decide(Z).reshape(len(Z), -1) == _classes(y, self._loss)
            return {"loss": loss, "accuracy": float(np.average(hits.all(axis=1), weights=w))}
        truth = y.astype(np.float64)
        error = self._decide(Z).reshape(Z.shape).astype(np.float64) - truth
        total = np.average((truth - np.average(truth, axis=0, weights=w)) ** 2, axis=0, weights=w)
        rest = np.average(error**2, axis=0, weights=w)
        constant = total == 0.0
        r2 = np.where(constant, (rest == 0.0).astype(np.float64), 1.0 - rest / np.where(constant, 1.0, total))
        mae = np.average(np.abs(error), axis=0, weights=w)
        scores = {"loss": loss, "mse": float(rest.mean()), "mae": float(mae.mean()), "r2": float(r2.mean())}
        if self._loss.link == "log":
            log_y = np.log(np.where(truth == 0.0, 1.0, truth))  # y log y is 0 at 0
            deviance = 2.0 * np.average(truth * (log_y - Z) + error, axis=0, weights=w)
            scores["deviance"] = float(deviance.mean())
        return scores

    # The objective and its derivatives.

    def loss(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> float:
        """Objective J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁ on data; see :meth:`loss_and_gradient`."""
        return self._objective(X, y, sample_weight, l1, l2, training, threads, gradient=False)[0]

    def gradient(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> np.ndarray:
        """Gradient ∂J/∂θ (P,) of the objective on data; see :meth:`loss_and_gradient`."""
        return self._objective(X, y, sample_weight, l1, l2, training, threads, gradient=True)[1]

    def loss_and_gradient(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
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
            Penalties of the weights W, not of the biases.
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
        self, X: Any, y: Any, sample_weight: Any, l1: Any, l2: Any, training: Any, threads: Any, gradient: bool
    ) -> tuple[float, Any]:
        if not isinstance(training, bool):
            raise TypeError(f"training must be True or False, got {training!r}")
        l1, l2 = check_number("l1", l1, minimum=0.0), check_number("l2", l2, minimum=0.0)
        X, y, w = self._check_data(X, y, sample_weight)
        n_threads = check_threads(threads)
        if training and self._whole_batches and len(X) == 1:
            raise ValueError("X: expected at least 2 rows to normalise a batch by its own statistics, got 1")
        return self._plan.loss_and_gradient(
            self._theta,
            X,
            y,
            sample_weight=w,
            l1=l1,
            l2=l2,
            threads=n_threads,
            gradient=gradient,
            statistics=self._state,
            training=training,
        )

    # Saving, copying, showing.

    def save(self, path: str | os.PathLike[str], *, training_state: bool = False) -> None:
        """Write the network to a safetensors file that :func:`fastnn.load` reads.

        Parameters
        ----------
        path : str or path-like
            Written aside and renamed: it appears complete or not at all.
        training_state : bool, default=False
            Whether to save also what ``fit(resume=True)`` and :meth:`partial_fit` need to go on.

        Raises
        ------
        ValueError
            If a parameter is not finite.
        TypeError
            If the state of a callback is not what JSON can express.
        OSError
            If the file cannot be written.
        """
        from .io import save  # io stands above the network; this method is a shorthand for it

        save(self, path, training_state=training_state)

    def copy(self) -> Sequential:
        """Independent copy: parameters, generator and history are copied too."""
        import copy

        return copy.deepcopy(self)

    __copy__ = copy  # a shallow copy would share theta while each believed it was its own

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for derived in ("_plan", "_backend", "_slots", "_ops"):
            del state[derived]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lay_out()
        self._build(self._theta, self._state)

    def summary(self) -> str:
        """Table of the layers: name, activation, shape of the output, number of parameters, and totals."""
        rows = [("layer", "activation", "output", "parameters"), ("input", "", f"(N, {self.input_size})", "0")]
        for index, (layer, op) in enumerate(zip(self.layers, self._ops, strict=True)):
            prefix = f"{index}."
            count = sum(math.prod(shape) for name, _, shape in self._slots if name.startswith(prefix))
            activation = op.activation if isinstance(layer, (Dense, Activation)) else ""
            rows.append((f"{index} {type(layer).__name__}", activation, f"(N, {op.n_out})", f"{count:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        rule = "-" * max(map(len, lines))
        lines.insert(1, rule)
        size = self._theta.nbytes
        total = f"total: {self.n_parameters:,} parameters, {size:,} bytes in {self.dtype}"
        return "\n".join([*lines, rule, total, f"loss: {self._loss.shorthand}; backend: {self.backend}"])

    def __repr__(self) -> str:
        sizes = "-".join(
            str(size) for size in [self.input_size, *(layer.units for layer in self.layers if isinstance(layer, Dense))]
        )
        count = f"{self.n_parameters:,} parameters"
        return f"Sequential({sizes}, loss={self._loss.shorthand!r}, dtype={self.dtype.name!r}, {count})"

    # Shared by the methods above and by training.

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Checked samples, targets and weights; at least one row."""
        X = check_rows(X, self.input_size, self.dtype)
        if len(X) == 0:
            raise ValueError(f"X: expected at least one row, got shape {X.shape}")
        y = self._loss.check_targets(y, len(X), self.n_outputs, self.dtype)
        return X, y, check_sample_weight(sample_weight, len(X), self.dtype)

    def _outputs(self, X: Any, threads: Any) -> np.ndarray:
        X = check_rows(X, self.input_size, self.dtype)
        n_threads = check_threads(threads)
        if len(X) == 0:
            return np.empty((0, self.n_outputs), self.dtype)
        return self._plan.forward(self._theta, X, threads=n_threads, statistics=self._state)

    def _decide(self, Z: np.ndarray) -> np.ndarray:
        if self._loss.link == "softmax":
            return Z.argmax(axis=1).astype(np.int64, copy=False)
        if self._loss.link == "sigmoid":
            Z = (Z > 0).astype(np.int64)
        if self._loss.link == "log":
            Z = self._backend.kernels.exp(Z)
        return Z[:, 0] if self.n_outputs == 1 else Z


def _classes(y: np.ndarray, loss: losses.Loss) -> np.ndarray:
    """Checked targets as classes, (N, 1) or (N, K)."""
    if loss.link == "sigmoid":
        return y > 0.5
    return (y if y.ndim == 1 else y.argmax(axis=1))[:, None]


def _check_layers(layers: Any) -> tuple[Layer, ...]:
    if isinstance(layers, LAYERS) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers, got {layers!r}")
    checked = tuple(layers)
    if not checked:
        raise ValueError("layers: expected at least one layer, got none")
    for index, layer in enumerate(checked):
        if not isinstance(layer, LAYERS):
            names = ", ".join(kind.__name__ for kind in LAYERS)
            raise TypeError(f"layers: expected a layer ({names}) at position {index}, got {layer!r}")
        if isinstance(layer, Standardize) and index > 0:
            raise ValueError(f"layers: Standardize must be the first layer, got it at position {index}")
    if not any(isinstance(layer, Dense) for layer in checked):
        raise ValueError("layers: expected at least one Dense layer, got none")
    return checked


def _check_output(layer: Layer, loss: losses.Loss) -> None:
    if not isinstance(layer, (Dense, Activation)) or (loss.link != "none" and not isinstance(layer, Dense)):
        raise ValueError(f"layers: expected a Dense layer as the last one, got {layer!r}")
    if loss.link == "none":
        return
    assert isinstance(layer, Dense)
    if layer.activation != "linear":
        inside = "exponential" if loss.link == "log" else loss.link
        raise ValueError(
            f"layers: expected a linear last layer for loss {loss.name!r}, whose {inside} is inside the loss, "
            f"got activation {layer.activation!r}"
        )
    if loss.link == "softmax" and layer.units == 1:
        raise ValueError(
            "layers: expected at least 2 units in the last layer for loss 'cross_entropy', got 1; "
            "use loss='binary_cross_entropy' for one output"
        )
