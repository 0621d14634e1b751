"""Sequential: a network that is trained, saved and loaded; what users make."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import io, training
from ._typing import JSON, ArrayLike, BatchSource, ClassWeight, Data, DTypeLike, Seed
from .augment import Augmentation
from .layers import Layer
from .losses import Loss
from .metrics import Metrics
from .names import explains_arguments, listing
from .network import BACKENDS, Network
from .optimizers import Optimizer, Solver
from .training.history import Callback, History
from .training.options import FitOptions, default
from .training.state import TrainingState

if TYPE_CHECKING:
    from .inspection import Activations, Statistics

__all__ = ["Sequential", "load", "read_metadata"]
__dir__ = listing(__all__)


class Sequential(Network):
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
    feature_names : tuple of str or None
        Columns of the DataFrame that the network was first trained with. A DataFrame given later must have the same in
        the same order; arrays are free. None, which can be assigned, forgets them.
    classes_ : ndarray (K,) of str, or None
        Names of the classes, in the order of the outputs; (2,) of one output. The first training with targets that are
        str learns them, sorted; names or codes are targets then, and :meth:`predict` gives names. They can be assigned,
        which is needed where the first rows do not have them all; None forgets them.
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

    history: History | None
    training_state: TrainingState | None

    @explains_arguments
    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        input_size: int,
        loss: str | Loss,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
        input_scale: float | None = None,
        backend: str = "compiled",
    ) -> None:
        super().__init__(
            layers,
            input_size=input_size,
            loss=loss,
            dtype=dtype,
            seed=seed,
            input_scale=input_scale,
            backend=backend,
        )

    # Training.

    @explains_arguments
    def fit(
        self,
        X: Data | BatchSource,
        y: ArrayLike | None = None,
        *,
        optimizer: Optimizer | Solver | str = "adam",
        epochs: int = default(10),
        batch_size: int | None = default(64),
        steps_per_epoch: int | None = None,
        shuffle: bool = default(True),
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        metrics: Metrics | None = None,
        train_metrics: bool = False,
        augment: Iterable[Augmentation] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
        callbacks: Iterable[Callback] = (),
        verbose: int = 0,
        threads: int | None = None,
        deterministic: bool = False,
        record_norms: bool = False,
        seed: Seed = None,
        resume: bool = False,
    ) -> History:
        """Train from the current parameters, with a fresh state of the optimizer.

        Parameters
        ----------
        X : array_like (N, D), or batches
            float32, float64 or uint8 are used as they are; other real dtypes are converted. Never modified. A sparse
            matrix of SciPy stays sparse (CSR); its rows are made dense batch by batch.
            Without `y`: an iterable of batches (X, y) or (X, y, sample_weight), or a function that returns an iterator
            of them, for data larger than memory. Each item is one batch; `batch_size` and `shuffle` do not apply. An
            iterator lasts for one epoch and needs ``epochs=1``, or `steps_per_epoch`.
        y : array_like
            cross_entropy: labels (N,) or rows (N, K) that sum to 1; binary_cross_entropy: values in [0, 1], (N,) or
            (N, K), or labels of one output; poisson: values of at least 0, (N,) or (N, K); the others: values, (N,) or
            (N, K). Labels are integers in [0, K), or str, which the first training sorts and keeps as ``classes_``.
        optimizer : Optimizer, solver or str, default="adam"
            A full-batch solver of :mod:`fastnn.solvers` uses all rows in every iteration and adds one entry to the
            history per iteration, up to its own `max_iter`. Batch norm then uses the statistics of all rows, which also
            replace the running ones. What does not apply is rejected if it is passed, be it a default: `epochs`,
            `shuffle`, a `batch_size` below N; and l1, clipping, `steps_per_epoch`, `resume`, dropout, learning-rate
            multipliers. ``history.result`` says why it stopped.
        epochs : int, default=10
        batch_size : int or None, default=64
            Rows of a batch (the last one of an epoch may be shorter); None, or more than N, is all of them.
        steps_per_epoch : int, optional
            Batches of an epoch, for batches from an iterator, which may be endless: each epoch takes the next ones.
            Where a function's iterator or an iterable ends, it is started anew; an iterator that ends within an epoch
            is an error. None is all batches of the source, which is started anew for each epoch. A resumed training
            begins at the start of its source.
        shuffle : bool, default=True
            Draw a new order of the rows for every epoch.
        sample_weight : array_like (N,), optional
            At least 0. A batch's loss is Σ w ℓ / Σ w; a batch whose weights sum to 0 is skipped. Rows of weight 0 are
            left out before batches are made where batch norm would take its statistics of them.
        class_weight : dict or "balanced", optional
            Weight of each class, by label, multiplied with `sample_weight`; classes that a dict leaves out have 1.
            "balanced" is Σ w / (k Σ_c w), of all rows and of those of class c, with k classes, as in scikit-learn. Not
            for validation.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, as by :meth:`evaluate`.
        validation_split : float, default=0.0
            In [0, 1): fraction of the rows held out for validation, drawn at random; stratified by class. Later calls
            hold out the same rows, unless `seed` is given.
        metrics : str, callable, or list or dict of those, optional
            More scores of the validation rows after each epoch: names such as ``"f1"`` and ``"roc_auc"``, functions
            ``f(y_true, y_pred)`` of probabilities or values, or a dict of either by name; :mod:`fastnn.metrics` says
            which there are and what functions get. The series are ``val_`` and the name. What a callback or a
            schedule monitors by a known name, as ``EarlyStopping("val_f1")`` does, need not be given.
        train_metrics : bool, default=False
            Whether `metrics` are evaluated on the training rows, too, by their names alone: one more pass over these
            rows, with the parameters at the end of the epoch. Not for batches from an iterator.
        augment : iterable of augmentations, default=()
            Random changes of the training rows, new ones in every step, one after the other, such as
            ``[fnn.augment.Shift(2), fnn.augment.HorizontalFlip()]``; see :mod:`fastnn.augment`. X itself and the rows
            of validation stay as they are. `KFAC` and `StochasticLBFGS` estimate curvature on rows that are not
            changed; full-batch solvers refuse it.
        l1, l2 : float, default=0.0
            Penalties l1 ‖W‖₁ + ½ l2 ‖W‖² of the weights, not of the biases. l1 sets useless weights to 0, by soft
            thresholding in every update (:mod:`fastnn.optimizers`), with `KFAC` and `StochasticLBFGS` by orthant-wise
            steps. A layer's own ``l1`` or ``l2`` (:class:`Dense`) takes their place.
        clip_norm : float, optional
            Longest norm of the gradient, the l2 penalty's included; a longer one is scaled down to it.
        clip_value : float, optional
            Largest absolute value of a component of the gradient, applied after `clip_norm`; not below `l1`.
        ema : float, optional
            Decay d in (0, 1) of an exponential moving average of the parameters after every update,
            Σ d^{t−s} θ_s / Σ d^{t−s}, and of batch norm's running statistics: about the last 1/(1 − d) updates. It is
            what is validated, what callbacks see, save and stop on, and what the network has in the end; the loss and
            the scores of the training rows' batches are those of θ itself. `resume` goes on from θ.
        callbacks : iterable of callables, default=()
            Each is called with an :class:`fastnn.EpochResult` after each epoch, when the network is at its end, and
            stops training by ``result.stop()`` or StopIteration; see :mod:`fastnn.callbacks`.
        verbose : int, default=0
            1 shows a progress bar (tqdm where installed, else a line per epoch on stderr), k > 1 a line every k epochs.
        threads : int, optional
            None uses the current limit of the BLAS libraries.
        deterministic : bool, default=False
            Make the result independent of `threads`, bit for bit, on one machine. Each batch is then summed in
            one, two or four parts, as its size and the network's say, by no more threads than that; with batch norm,
            and for validation data, by one. Otherwise the same number of threads gives the same bits.
        record_norms : bool, default=False
            Record for each parameter, by its name, the series ``gradient_norm/0.weight``, ‖g‖ with l2 and without l1,
            before clipping, and ``update_ratio/0.weight``, ‖Δθ‖ / ‖θ‖ with θ from before the update. Norms are
            √(mean over the epoch's updates of the squared norms). No parameter changes by it; an epoch takes longer,
            by one to three more passes over the parameters for every batch. ``history.plot_norms()`` draws them.
        seed : int, numpy.random.Generator or None, default=None
            Of the shuffling and of `validation_split`; None continues the network's own generator.
        resume : bool, default=False
            Continue the last training of this network from its last finished epoch, bit for bit as if it had never
            stopped; after ``fnn.load``, of a file saved with ``training_state=True``. `epochs` is the total and `seed`
            is not used; give data, callbacks and other arguments as before. A training that a callback stopped stays
            stopped. Without an earlier training, start one.

        Returns
        -------
        History
            One entry per epoch. Its loss is the mean over the batches, each measured before its update, penalties
            included; results of validation are named ``val_loss``, ``val_accuracy`` and so on.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; nothing has changed then. An invalid batch of an iterator raises when it is
            reached; the network keeps the previous step's parameters.
        DivergenceError
            If the loss or the parameters stop being finite; the network has the parameters of the last good epoch.

        Notes
        -----
        After an exception of a callback, or Ctrl-C, the network has the parameters of the last finished step, and
        `resume` continues from the last finished epoch. With a solver it has those of the last finished iteration.
        """
        options = FitOptions(
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            train_metrics=train_metrics,
            augment=augment,
            l1=l1,
            l2=l2,
            clip_norm=clip_norm,
            clip_value=clip_value,
            ema=ema,
            callbacks=callbacks,
            verbose=verbose,
            threads=threads,
            deterministic=deterministic,
            record_norms=record_norms,
            seed=seed,
            resume=resume,
        )
        if isinstance(options.optimizer, Solver):
            from .solvers.fit import fit_full_batch  # SciPy is imported when it is used

            return fit_full_batch(options.optimizer, self, X, y, options)  # type: ignore[arg-type]
        return training.fit(self, X, y, options)

    @explains_arguments
    def partial_fit(
        self,
        X: Data | BatchSource,
        y: ArrayLike | None = None,
        *,
        optimizer: Optimizer | str | None = None,
        batch_size: int | None = 64,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        augment: Iterable[Augmentation] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        deterministic: bool = False,
        seed: Seed = None,
    ) -> History:
        """Train for one epoch over data that may be new, keeping the optimizer's state, the step and the history.

        Parameters
        ----------
        X, y, batch_size, shuffle, sample_weight, class_weight, augment, l1, l2, clip_norm, clip_value
            As for :meth:`fit`.
        threads, deterministic, seed
            As for :meth:`fit`.
        optimizer : Optimizer or str, optional
            None is that of the previous training (:meth:`fit` or :meth:`partial_fit`), or Adam. A new one of the same
            class continues with the state; one of another class, or with other moments, starts with a fresh state.

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
        return training.partial_fit(
            self,
            X,
            y,
            optimizer=optimizer,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            augment=augment,
            l1=l1,
            l2=l2,
            clip_norm=clip_norm,
            clip_value=clip_value,
            threads=threads,
            deterministic=deterministic,
            seed=seed,
        )

    # Looking inside.

    @explains_arguments
    def activations(self, X: Data, *, training: bool = False, threads: int | None = None) -> Activations:
        """What every layer computes: pre-activations and outputs, for norm, dropout and activation layers too.

        Parameters
        ----------
        X : array_like (N, D) or sparse matrix
            At least one row.
        training : bool, default=False
            Whether batch norm uses the statistics of these rows instead of the running ones. Nothing is dropped.
        threads : int, optional

        Returns
        -------
        Activations
            A sequence over the layers. ``found[0]``, ``found[-1]`` or ``found["0 Dense"]`` (the names of
            :meth:`summary`) has ``pre_activations`` (N, units), z = X W + b of a dense layer, and ``outputs``
            (N, units), σ(z), in the network's dtype; a layer without activation has its outputs twice.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or a parameter is not finite.
        MemoryError
            If the arrays of all layers do not fit in memory, before they are allocated.

        Examples
        --------
        >>> import fastnn as fnn
        >>> X, y = fnn.datasets.load_iris()
        >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
        >>> net.activations(X)
        Activations('0 Dense' (150, 8), '1 Dense' (150, 3))
        """
        from . import inspection  # and SciPy, when they are used

        return inspection.activations(self, X, training=training, threads=threads)

    @explains_arguments
    def gradients(
        self,
        X: Data,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Gradient ∂J/∂θ of the objective by parameter; its arguments are those of :meth:`loss_and_gradient`.

        Returns
        -------
        dict of ndarray
            By the names and in the shapes of :attr:`parameters`, views into one array that :meth:`gradient` returns.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        from . import inspection  # and SciPy, when they are used

        return inspection.gradients(
            self, X, y, sample_weight=sample_weight, l1=l1, l2=l2, training=training, threads=threads
        )

    @explains_arguments
    def statistics(
        self,
        X: Data,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        training: bool = False,
        threads: int | None = None,
    ) -> Statistics:
        """Figures of each layer on data: mean, deviation and extremes, dead and saturated units, norms.

        Parameters
        ----------
        X : array_like (N, D) or sparse matrix
            At least one row. Every row counts once; they are taken in chunks.
        y : array_like, optional
            Targets as for :meth:`fit`. With them there are the norms of the gradients, too.
        sample_weight, l1, l2
            Of the gradient of the objective, as for :meth:`loss_and_gradient`; only with `y`.
        training : bool, default=False
            Whether batch norm uses the statistics of these rows, all at once. Nothing is dropped. Rows of weight 0 are
            then left out.
        threads : int, optional

        Returns
        -------
        Statistics
            Prints as a table; ``.table`` and ``.to_dict()`` have all figures, ``.plot()`` draws them, ``.dead_units``
            says which units are dead.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, or a parameter or the loss is not finite.

        Notes
        -----
        A value is saturated where |σ'(z)| < 0.005 max |σ'| (max |σ'| is 1/4 for the sigmoid, taken as 1 for the
        others): |z| > 3.3 for tanh, |z| > 6.7 for the sigmoid, z ≤ 0 for relu. A unit that is saturated in all rows is
        dead: a relu that is 0 everywhere, a sigmoid that is 0 or 1. Dense layers without activation have no such
        shares. Gradients that shrink from layer to layer towards the input (``delta_norm``) are the vanishing ones.

        Examples
        --------
        >>> import fastnn as fnn
        >>> X, y = fnn.datasets.load_iris()
        >>> net = fnn.Sequential([fnn.Dense(8, "relu"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
        >>> net.statistics(X, y).to_dict()["layer"]
        ['0 Dense', '1 Dense']
        """
        from . import inspection  # and SciPy, when they are used

        return inspection.statistics(
            self, X, y, sample_weight=sample_weight, l1=l1, l2=l2, training=training, threads=threads
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, object] | None = None,
        training_state: bool = False,
    ) -> None:
        """Write the network to a safetensors file that :func:`fastnn.load` reads.

        Parameters
        ----------
        path : str or path-like
            Written to a temporary file beside it and renamed: it appears complete or not at all. A symbolic link is
            followed; a file that is replaced hands its mode on. What killed writers have left in its folder is removed.
        metadata : mapping of str, optional
            Anything of your own that JSON can express, such as names of classes, a date or figures of a training.
            :func:`fastnn.read_metadata` gives it back, and ``load(path, return_metadata=True)``; tuples become lists.
        training_state : bool, default=False
            Whether to include what ``fit(resume=True)`` and :meth:`partial_fit` need to continue.

        Raises
        ------
        ValueError
            If a parameter is not finite, or `metadata` has NaN, more than 64 levels, or more than fits the 100 MB of a
            header.
        TypeError
            If `metadata`, or the state of a callback, is not what JSON can express.
        OSError
            If the file cannot be written.
        """
        io.save(self, path, metadata=metadata, training_state=training_state)


@overload
def load(
    path: str | os.PathLike[str], *, return_metadata: Literal[False] = False, backend: str = "compiled"
) -> Sequential: ...
@overload
def load(
    path: str | os.PathLike[str], *, return_metadata: Literal[True], backend: str = "compiled"
) -> tuple[Sequential, JSON]: ...
def load(
    path: str | os.PathLike[str], *, return_metadata: bool = False, backend: str = "compiled"
) -> Sequential | tuple[Sequential, JSON]:
    """Load a network that :meth:`Sequential.save` wrote, with the state of its training if that was saved.

    Parameters
    ----------
    path : str or path-like
        The file.
    return_metadata : bool, default=False
        Whether to return the metadata of the file as well.
    backend : {"compiled", "reference"}, default="compiled"
        What runs the network; any backend can run any file.

    Returns
    -------
    net : Sequential
    metadata : dict
        Only with ``return_metadata=True``.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is damaged, of another kind or of a newer format, or its tensors are not those of the network it
        describes (missing, wrong shape or dtype, not finite), or do not fit its checksum. The message names the file
        and what is wrong.
    """
    if backend not in BACKENDS:  # or it would be reported as a fault of the file
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    saved = io.read(path)
    layers, options = saved.describe_network()
    try:
        net = Sequential(layers, backend=backend, **options)
    except (TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{saved.path}: {error}") from error
    saved.restore(net)
    return (net, saved.metadata) if return_metadata else net


def read_metadata(path: str | os.PathLike[str]) -> JSON:
    """What was given to ``net.save(path, metadata=...)``, without making the network.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    dict
        Empty where nothing was given. That of an estimator's file, or of ``fastnn train --save``, has what they keep.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, of another kind or of a newer format.
    """
    return io.read(path).metadata
