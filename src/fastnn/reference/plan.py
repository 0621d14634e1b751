"""A whole network in NumPy: forward, backward and the training loop over a plan.

Reference implementation of the compiled engine's ``Plan``. The equations, for a batch as rows::

    Z_l = X_{l-1} W_l + 1 b_lᵀ       X_l = σ_l(Z_l)
    δ_L = ∂L/∂Z_L                    δ_l = (δ_{l+1} W_{l+1}ᵀ) ⊙ σ'_l(Z_l)
    ∂L/∂W_l = X_{l-1}ᵀ δ_l           ∂L/∂b_l = Σ_rows δ_l

The operations are in :mod:`fastnn.reference.ops`, the steps of the optimizers in :mod:`fastnn.reference.update`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from ..lowering import lower
from ..plan import AugmentSpec, OpSpec, TrainResult, UpdateRule
from .arguments import check_array
from .augment import Mixing, augmented
from .linearize import Linearization, linearize
from .losses import KERNELS
from .ops import Pass, make_ops
from .ops.norm import running_statistics
from .optim import gradient_norm2
from .sparse import SparseRows
from .update import Inverses, LowRank, Penalties, penalty, update

__all__ = ["Plan"]

INPUTS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8))


class _Interruption:
    """Keeps what a signal's handler raises inside it: whatever is not an array that does not fit, or fit in memory."""

    error: BaseException | None = None

    def __enter__(self) -> _Interruption:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, (TypeError, ValueError, MemoryError)):
            return False
        self.error = error
        return error is not None


class _Evaluation(NamedTuple):
    """Data term of the objective on a batch, its gradient (P,), the outputs, and what each forward pass saved."""

    loss: float
    gradient: np.ndarray | None
    outputs: np.ndarray
    saved: list[Any]


class _Batch(NamedTuple):
    """Rows of one update, Σw of them, and the learning rate."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    weight_sum: float
    learning_rate: float


class _Epoch:
    """Sums over the batches of an epoch, each weighted by its Σw."""

    def __init__(self) -> None:
        self.weight = self._loss = self._penalty = self._hits = 0.0

    def add(self, weight: float, loss: float, penalty: float, hits: float) -> None:
        """Count a batch: the means of its objective and penalty, the weights of its rows classified correctly."""
        self._loss += weight * loss
        self._penalty += weight * penalty
        self._hits += hits
        self.weight += weight

    def means(self) -> tuple[float, float, float]:
        """Objective, penalty and fraction of correct rows."""
        if not self.weight:
            return 0.0, 0.0, 0.0
        return self._loss / self.weight, self._penalty / self.weight, self._hits / self.weight


class Plan:
    """A network as a list of operations, ready to be evaluated at any theta.

    Parameters
    ----------
    ops : sequence of OpSpec
        The first one reads X, each of the others the output of the one before; the last one's goes into the loss.
    n_parameters : int
        Length P of theta.
    loss : str
        Name of a loss of :mod:`fastnn.losses`.
    dtype : str
        ``"float32"`` or ``"float64"``: of theta, of all arithmetic, of the result.
    input_scale : float, optional
        Multiplies X, whatever its dtype.
    label_smoothing : float, default=0.0
        Of cross_entropy and binary_cross_entropy; the other losses have none.

    Raises
    ------
    ValueError
        If the plan is not valid; see :func:`fastnn.lowering.lower`.
    """

    def __init__(
        self,
        ops: Sequence[OpSpec],
        n_parameters: int,
        loss: str,
        dtype: str,
        input_scale: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.ops = tuple(ops)
        self.n_parameters = int(n_parameters)
        self.input_scale = input_scale
        lowered = lower(self.ops, self.n_parameters, loss, dtype, label_smoothing)
        self.dtype = np.dtype(dtype)
        self.n_buffers = lowered.n_buffers
        self._ops = make_ops(self.ops)
        self._loss = lowered.loss
        self._loss_options = {"label_smoothing": label_smoothing} if lowered.loss.smooths_labels else {}
        self._segments = lowered.segments

    def forward(
        self, theta: np.ndarray, X: np.ndarray | SparseRows, threads: int | None = 1, buffers: np.ndarray | None = None
    ) -> np.ndarray:
        """Output of the last operation.

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        X : ndarray (N, D) or SparseRows, of float32, float64 or uint8
        threads : int or None, default=1
            None is the limit of BLAS. Taken for the sake of the signature; NumPy's BLAS has its own.
        buffers : ndarray (n_buffers,) of the plan's dtype, optional
            The network's buffers; needed where an operation has some.

        Returns
        -------
        ndarray (N, K) of the plan's dtype

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the plan.
        """
        theta = check_array("theta", theta, (self.n_parameters,), self.dtype)
        run = Pass(self._check_buffers(buffers))
        return self._forward(theta, self._rows(self._check_X(X)), run)[0][-1]

    def loss_and_gradient(
        self,
        theta: np.ndarray,
        X: np.ndarray | SparseRows,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        threads: int | None = 1,
        gradient: bool = True,
        deterministic: bool = False,
        buffers: np.ndarray | None = None,
        training: bool = False,
    ) -> tuple[float, np.ndarray | None]:
        """Objective J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁ and its gradient (sign 0 = 0).

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        X : ndarray (N, D) or SparseRows, of float32, float64 or uint8
        y : ndarray
            int64 (N,) for cross_entropy, else (N, K) of the plan's dtype.
        sample_weight : ndarray (N,) of the plan's dtype, optional
        l1, l2 : float, default=0.0
            Of operations without penalties of their own (:class:`~fastnn.plan.OpSpec`).
        threads : int or None, default=1
        gradient : bool, default=True
            Whether the gradient is wanted.
        deterministic : bool, default=False
            Taken for the sake of the signature: NumPy's order of sums does not depend on `threads`.
        buffers : ndarray (n_buffers,) of the plan's dtype, optional
            As for `forward`.
        training : bool, default=False
            Batch norm uses the statistics of the rows instead of the running ones. Nothing is dropped either way.

        Returns
        -------
        loss : float
        gradient : ndarray (P,) of the plan's dtype, or None

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the plan.
        """
        theta = check_array("theta", theta, (self.n_parameters,), self.dtype)
        X = self._check_X(X)
        run = Pass(self._check_buffers(buffers), training)
        loss, grad, _, _ = self._evaluate(theta, self._rows(X), y, sample_weight, gradient, run)
        loss += penalty(self._segments, theta, l1, l2)
        if grad is not None:
            for segment in self._segments:
                weights, (of_l1, of_l2) = slice(segment.begin, segment.end), segment.penalties(l1, l2)
                if of_l2 != 0.0:
                    grad[weights] += of_l2 * theta[weights]
                if of_l1 != 0.0:
                    grad[weights] += of_l1 * np.sign(theta[weights])
        return loss, grad

    def linearize(
        self,
        theta: np.ndarray,
        X: np.ndarray | SparseRows,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        *,
        cotangent: np.ndarray | None = None,
        buffers: np.ndarray | None = None,
        training: bool = False,
        threads: int | None = 1,
        into: object = None,
    ) -> Linearization:
        """Run forward and backward over all rows and keep, operation by operation, what curvature needs.

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        X : ndarray (N, D) or SparseRows, of float32, float64 or uint8
            At least one row.
        y : ndarray, optional
            int64 (N,) for cross_entropy, else (N, K) of the plan's dtype.
        sample_weight : ndarray (N,) of the plan's dtype, optional
        cotangent : ndarray (N, K) of the plan's dtype, optional
            Instead of y: the rows' function is cotangent · outputs instead of the loss.
        buffers : ndarray (n_buffers,) of the plan's dtype, optional
            As for `forward`.
        training : bool, default=False
            As for `loss_and_gradient`.
        threads : int or None, default=1
        into : Linearization, optional
            An earlier one of this plan, whose memory may be used again and which is not to be used any more.

        Returns
        -------
        Linearization

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the plan, or not exactly one of y and cotangent is given.
        """
        theta = check_array("theta", theta, (self.n_parameters,), self.dtype)
        X = self._check_X(X)
        if X.shape[0] == 0:
            raise ValueError(f"X: expected at least one row, got shape {X.shape}")
        if (y is None) == (cotangent is None):
            raise TypeError("linearize takes either y or cotangent")
        if sample_weight is not None:
            sample_weight = check_array("sample_weight", sample_weight, (X.shape[0],), self.dtype)
        run = Pass(self._check_buffers(buffers), training)
        return linearize(
            self._ops,
            theta,
            self._rows(X),
            y,
            sample_weight,
            cotangent,
            loss=self._loss,
            label_smoothing=self._loss_options.get("label_smoothing", 0.0),
            loss_of=self._loss_of,
            input_scale=self.input_scale,
            run=run,
        )

    def train(
        self,
        theta: np.ndarray,
        moments: np.ndarray,
        X: np.ndarray | SparseRows,
        y: np.ndarray,
        order: np.ndarray | None,
        batch_size: int,
        optimizer: UpdateRule,
        step: int,
        *,
        sample_weight: np.ndarray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = 1,
        learning_rates: np.ndarray | None = None,
        deterministic: bool = False,
        buffers: np.ndarray | None = None,
        preconditioner: Inverses | LowRank | None = None,
        l2_over_weight_sum: bool = False,
        epochs: int = 1,
        subset: np.ndarray | None = None,
        record_norms: bool = False,
        augment: tuple[int, Sequence[AugmentSpec]] | None = None,
        average: tuple[float, np.ndarray, np.ndarray] | None = None,
    ) -> TrainResult:
        """Train for one or more whole epochs; theta and moments change in place.

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        moments : ndarray (optimizer.n_moments, P) of the plan's dtype
            Zeros at the start.
        X : ndarray (N, D) or SparseRows, of float32, float64 or uint8
        y : ndarray
            int64 (N,) for cross_entropy, else (N, K) of the plan's dtype.
        order : ndarray (E, n) of int64, or None
            Row indices of E epochs; None is `epochs` of them in the order of the rows.
        batch_size : int
            Rows of a batch; the last one of an epoch may be shorter.
        optimizer : UpdateRule
        step : int
            Updates done before.
        sample_weight : ndarray (N,) of the plan's dtype, optional
            A batch whose weights sum to 0 is skipped.
        l1, l2 : float, default=0.0
            Penalties of the weights, not of the biases, of operations without penalties of their own. The weight decay
            of AdamW is of all weights, and of them alone.
        clip_norm : float, optional
            Longest norm of the whole gradient, the l2 penalty's included (of "kfac" and "lbfgs" the l1 penalty's, too).
        clip_value : float, optional
            Largest absolute value of a component, after `clip_norm`.
        threads : int or None, default=1
        learning_rates : ndarray of float64, optional
            One for each batch of this call, in place of the optimizer's.
        deterministic : bool, default=False
            As for `loss_and_gradient`.
        buffers : ndarray (n_buffers,) of the plan's dtype, optional
            As for `forward`; running statistics move with every update.
        preconditioner : sequence, for the rules "kfac" and "lbfgs"
            "lbfgs": B (r, P), N (r, r) of float64 and γ; see :func:`fastnn.reference.lbfgs.lbfgs_direction`. "kfac":
            per operation the inverses (m, m) and (n_out, n_out) of its factors A and G, m = n_in, and one more with a
            bias; None for those that have none.
        l2_over_weight_sum : bool, default=False
            Take l2 / Σw of the batch (its number of rows without sample weights) instead of l2, as scikit-learn takes
            its `alpha`. An operation's own l2 is taken as it is.
        epochs : int, default=1
            Where `order` is None.
        subset : ndarray (m,) of int64, optional
            The rows that `order` is made of, in place of all: what the compiled engine decides by a sample of X it then
            decides as if ``X[subset]`` were all rows, so that the result has the same bits.
        record_norms : bool, default=False
            Whether the result has `norms`.
        augment : tuple (int, sequence of AugmentSpec), optional
            Random changes of the rows of every batch, scaled by `input_scale`, one after the other: the seed of their
            draws and what they are; see :func:`fastnn.reference.augment_rows`, whose `step` is the updates before.
        average : tuple (float, ndarray (P,), ndarray (n_buffers,)), optional
            Decay d of exponential moving averages, and the averages of theta and of the buffers, which change in place:
            ā ← ā + (1 − d) / (1 − dᵗ) (θ − ā) after update number t, zeros at the start. Of the buffers running means
            and variances alone, without the weight of their start.

        Returns
        -------
        TrainResult
            Status ``"diverged"`` when the objective of a batch was not finite: its update is not applied.
            Status ``"interrupted"``, with the `error`, when a signal's handler raised, as on Ctrl-C.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the plan, before anything changes.
        """
        theta = check_array("theta", theta, (self.n_parameters,), self.dtype, writable=True)
        moments = check_array("moments", moments, (optimizer.n_moments, self.n_parameters), self.dtype, writable=True)
        buffers = self._check_buffers(buffers, writable=True)
        X = self._check_X(X)
        y = np.asarray(y)
        n_rows = X.shape[0]
        if y.shape[:1] != (n_rows,):
            raise ValueError(f"y: expected {n_rows} rows like X, got shape {y.shape}")
        if sample_weight is not None:
            sample_weight = check_array("sample_weight", sample_weight, (n_rows,), self.dtype)
        if average is not None:
            check_array("average[1]", average[1], (self.n_parameters,), self.dtype, writable=True)
            check_array("average[2]", average[2], (self.n_buffers,), self.dtype, writable=True)
        if batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
        if order is not None:
            if order.dtype != np.int64 or order.ndim != 2:
                raise TypeError(f"order: expected a 2-D int64 array, got {order.dtype} {order.shape}")
            if order.size and (order.min() < 0 or order.max() >= n_rows):
                raise ValueError(f"order: expected row indices in [0, {n_rows}), got others")

        n_batches = -(-(n_rows if order is None else order.shape[1]) // batch_size)
        if learning_rates is not None:
            n_batches *= epochs if order is None else order.shape[0]
            learning_rates = check_array("learning_rates", learning_rates, (n_batches,), np.dtype(np.float64))

        orders: Iterable[np.ndarray | None] = repeat(None, epochs) if order is None else order
        rates = repeat(optimizer.learning_rate) if learning_rates is None else iter(learning_rates.tolist())
        done: list[tuple[float, float, float]] = []
        norms: list[list[list[float]]] = []
        status = "ok"
        # A run that diverges says so by its status; NumPy's warnings on the way there would only repeat it.
        with np.errstate(all="ignore"), _Interruption() as interruption:
            for rows in orders:
                epoch, squares = _Epoch(), []
                for batch in self._batches(X, y, sample_weight, rows, batch_size, rates):
                    ridge = l2 / batch.weight_sum if l2_over_weight_sum else l2
                    run = Pass(buffers, True, step)
                    inputs, mixing = self._rows(batch.X), None
                    if augment is not None:
                        inputs, mixing = augmented(inputs, augment[1], augment[0], step, batch.weights)
                    found = self._evaluate(theta, inputs, batch.y, batch.weights, True, run, mixing)
                    penalised = penalty(self._segments, theta, l1, ridge)
                    if not math.isfinite(found.loss + penalised):
                        status = "diverged"
                        break
                    hits = self._hits(found.outputs, batch, mixing)
                    limits, before = Penalties(l1, ridge, clip_norm, clip_value), theta.copy()
                    self._step(theta, moments, found, optimizer, batch.learning_rate, limits, preconditioner, run)
                    step += 1
                    if average is not None:
                        self._follow(average, theta, buffers, step)
                    if record_norms and found.gradient is not None:
                        squares.append(self._squared_norms(before, theta, found.gradient, ridge))
                    epoch.add(batch.weight_sum, found.loss + penalised, penalised, hits)
                if status == "diverged":
                    break
                done.append(epoch.means())
                if record_norms:
                    arrays = sum((op.weight >= 0) + (op.bias >= 0) for op in self.ops)
                    norms.append((np.mean(squares, axis=0) if squares else np.zeros((arrays, 3))).tolist())
        if interruption.error is not None:
            status = "interrupted"
        losses, penalties, correct = (tuple(means) for means in zip(*done, strict=True)) if done else ((), (), ())
        scores = correct if self._loss.classifies else None
        return TrainResult(losses, scores, step, status, interruption.error, penalties, tuple(norms[: len(done)]))

    def _batches(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        order: np.ndarray | None,
        batch_size: int,
        rates: Iterator[float],
    ) -> Iterator[_Batch]:
        """Batches of one epoch, in the given order of the rows; those whose weights sum to 0 are left out."""
        n = len(y) if order is None else len(order)
        for start in range(0, n, batch_size):
            stop = min(start + batch_size, n)
            take = slice(start, stop) if order is None else order[start:stop]
            rate = next(rates)
            w = None if sample_weight is None else sample_weight[take]
            weight_sum = float(stop - start) if w is None else float(w.sum(dtype=np.float64))
            if weight_sum != 0.0:
                yield _Batch(X[take], y[take], w, weight_sum, rate)

    def _step(
        self,
        theta: np.ndarray,
        moments: np.ndarray,
        found: _Evaluation,
        rule: UpdateRule,
        learning_rate: float,
        limits: Penalties,
        preconditioner: Inverses | LowRank | None,
        run: Pass,
    ) -> None:
        """One update of theta, moments and buffers, in place."""
        assert found.gradient is not None
        after = theta.copy()  # an interruption may come between any two lines: theta changes in one of them
        update(
            after,
            moments,
            found.gradient,
            rule,
            learning_rate,
            run.step + 1,
            self._segments,
            limits,
            self.ops,
            preconditioner,
        )
        theta[...] = after
        for op, saved in zip(self._ops, found.saved, strict=True):
            op.after_step(saved, run)

    def _follow(
        self,
        average: tuple[float, np.ndarray, np.ndarray],
        theta: np.ndarray,
        buffers: np.ndarray | None,
        step: int,
    ) -> None:
        """Let the averages follow theta and the running statistics after update number `step`."""
        decay, mean, statistics = average
        rate = self.dtype.type((1.0 - decay) / (1.0 - decay**step))
        mean += rate * (theta - mean)
        for op in self.ops:
            if op.facts.couples_rows and buffers is not None:
                part = statistics[op.buffer : op.buffer + 2 * op.n_out]
                part += rate * (np.concatenate(running_statistics(op, buffers)) - part)

    def _squared_norms(
        self, before: np.ndarray, theta: np.ndarray, grad: np.ndarray, l2: float
    ) -> list[tuple[float, float, float]]:
        """Of every weight and bias ‖gradient + l2 θ‖², ‖step‖² and ‖θ‖² before the step."""
        squares = []
        for op in self.ops:
            ridge = 0.0 if not op.facts.has_weight else l2 if op.l2 is None else op.l2
            for begin, size, of_l2 in ((op.weight, op.weight_size, ridge), (op.bias, op.n_out, 0.0)):
                if begin >= 0:
                    at = slice(begin, begin + size)
                    gradient = gradient_norm2(before[at], grad[at], l2=of_l2)
                    step = gradient_norm2(before[at], theta[at], l2=-1.0)
                    squares.append((gradient, step, gradient_norm2(before[at], before[at])))
        return squares

    def _hits(self, Z: np.ndarray, batch: _Batch, mixing: Mixing | None) -> float:
        """Weights of the rows that are classified correctly; 0 for regression."""
        if not self._loss.classifies:
            return 0.0
        if mixing is not None:
            parts = mixing.targets(batch.y, batch.weights)
            return sum(float(w[self._loss.hits(Z, y)].sum(dtype=np.float64)) for y, w in parts)
        hits = self._loss.hits(Z, batch.y)
        return float(hits.sum() if batch.weights is None else batch.weights[hits].sum(dtype=np.float64))

    def _check_X(self, X: Any) -> Any:
        if not isinstance(X, SparseRows):
            X = np.asarray(X)
        if X.dtype not in INPUTS:
            raise TypeError(f"X: expected dtype float32, float64 or uint8, got {X.dtype}")
        if X.ndim != 2 or X.shape[1] != self.ops[0].n_in:
            raise ValueError(f"X: expected shape (N, {self.ops[0].n_in}), got {X.shape}")
        return X

    def _rows(self, X: np.ndarray | SparseRows) -> np.ndarray:
        """Rows of X as the first operation reads them."""
        X = X.dense(self.dtype) if isinstance(X, SparseRows) else X.astype(self.dtype, copy=False)
        return X if self.input_scale is None else X * self.dtype.type(self.input_scale)

    def _check_buffers(self, buffers: np.ndarray | None, *, writable: bool = False) -> np.ndarray | None:
        if self.n_buffers == 0:
            return None
        if buffers is None:
            raise TypeError("buffers: expected an array, got None")
        return check_array("buffers", buffers, (self.n_buffers,), self.dtype, writable=writable)

    def _forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[list[np.ndarray], list[Any]]:
        """X and the output of each operation; what their backward passes need."""
        values, saved = [X], []
        for op in self._ops:
            out, kept = op.forward(theta, values[-1], run)
            values.append(out)
            saved.append(kept)
        return values, saved

    def _evaluate(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        w: np.ndarray | None,
        gradient: bool,
        run: Pass,
        mixing: Mixing | None = None,
    ) -> _Evaluation:
        """Forward pass, and the backward pass if the gradient is wanted."""
        values, saved = self._forward(theta, X, run)
        if mixing is None:
            loss, delta = self._loss_of(values[-1], y, w)
        else:
            loss, delta = mixing.loss(self._loss_of, values[-1], y, w)
        if not gradient:
            return _Evaluation(loss, None, values[-1], saved)
        grad = np.zeros(self.n_parameters, self.dtype)
        for op, source, kept in reversed(list(zip(self._ops, values, saved, strict=False))):
            delta = op.backward(theta, source, kept, delta, grad, run)
        return _Evaluation(loss, grad, values[-1], saved)

    def _loss_of(self, Z: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Loss of outputs, and its derivative (N, K)."""
        return KERNELS[self._loss.name].loss(Z, y, w, **self._loss_options)
