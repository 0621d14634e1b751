"""A whole network in NumPy: forward, backward and the training loop over a plan.

Twin of the compiled engine's ``Plan``. The equations, in rows (seed 002, appendix B)::

    Z_l = X_{l-1} W_l + 1 b_lᵀ       X_l = σ_l(Z_l)
    δ_L = ∂L/∂Z_L                    δ_l = (δ_{l+1} W_{l+1}ᵀ) ⊙ σ'_l(Z_l)
    ∂L/∂W_l = X_{l-1}ᵀ δ_l           ∂L/∂b_l = Σ_rows δ_l
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lowering import lower
from ..plan import OpSpec, TrainResult, UpdateRule
from .arguments import check_array
from .kfac import kfac_direction
from .linearize import Linearization, make
from .losses import absolute_error, binary_cross_entropy, cross_entropy, huber, poisson, squared_error
from .ops import Pass, backward, forward, move_statistics
from .optim import (
    adagrad_update,
    adam_update,
    effective_gradient,
    gradient_norm2,
    nag_momentum,
    nag_update,
    rmsprop_update,
    sgd_update,
)
from .sparse import SparseRows

__all__ = ["Plan"]

LOSSES = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "poisson": poisson,
}
INPUTS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.uint8))


class _Interruption:
    """Keeps what a signal's handler raises inside it: whatever is not an array that does not fit, or fit in memory."""

    error: BaseException | None = None

    def __enter__(self) -> _Interruption:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if isinstance(error, (TypeError, ValueError, MemoryError)):
            return False
        self.error = error
        return error is not None


class Plan:
    """A network as a list of operations, ready to be evaluated at any theta.

    Parameters
    ----------
    ops : sequence of OpSpec
        Each reads X (input -1) or the output of an earlier one; the last one's output goes into the loss.
    n_parameters : int
        Length P of theta.
    loss : str
        Name of a loss kernel: ``"cross_entropy"``, ``"binary_cross_entropy"``, ``"squared_error"``,
        ``"absolute_error"``, ``"huber"`` or ``"poisson"``.
    dtype : str
        ``"float32"`` or ``"float64"``: of theta, of all arithmetic, of the result.
    input_scale : float, optional
        Multiplies X, whatever its dtype.
    label_smoothing : float, default=0.0
        Of cross_entropy; the other losses have none.

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
        self.loss = loss
        self.input_scale = input_scale
        lowered = lower(self.ops, self.n_parameters, loss, dtype, label_smoothing)
        self.dtype = np.dtype(dtype)
        self.n_state = lowered.n_buffers
        self._loss_options = {"label_smoothing": label_smoothing} if lowered.loss.smooths_labels else {}
        self._classifies = lowered.loss.classifies
        # A weight that two operations share is penalised once.
        self._segments = lowered.segments
        self._penalised = [(at.begin, at.end) for at in lowered.segments if at.penalised]

    def forward(
        self, theta: np.ndarray, X: np.ndarray, threads: int | None = 1, statistics: np.ndarray | None = None
    ) -> np.ndarray:
        """Output of the last operation.

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        X : ndarray (N, D) or SparseRows, of float32, float64 or uint8
        threads : int or None, default=1
            None is the limit of BLAS. Taken for the sake of the signature; NumPy's BLAS has its own.
        statistics : ndarray (n_state,) of the plan's dtype, optional
            The network's state; needed where an operation has a part in it.

        Returns
        -------
        ndarray (N, K) of the plan's dtype

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the plan.
        """
        theta = check_array("theta", theta, (self.n_parameters,), self.dtype)
        run = Pass(self._check_statistics(statistics))
        return self._forward(theta, self._rows(self._check_X(X)), run)[1][-1]

    def loss_and_gradient(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        threads: int | None = 1,
        gradient: bool = True,
        deterministic: bool = False,
        statistics: np.ndarray | None = None,
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
        threads : int or None, default=1
        gradient : bool, default=True
            Whether the gradient is wanted.
        deterministic : bool, default=False
            Taken for the sake of the signature: NumPy's order of sums does not depend on `threads`.
        statistics : ndarray (n_state,) of the plan's dtype, optional
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
        run = Pass(self._check_statistics(statistics), training)
        loss, grad, _, _ = self._evaluate(theta, self._rows(X), y, sample_weight, gradient, run)
        loss += self._penalty(theta, l1, l2)
        if grad is not None:
            for start, stop in self._penalised:
                if l2 != 0.0:
                    grad[start:stop] += l2 * theta[start:stop]
                if l1 != 0.0:
                    grad[start:stop] += l1 * np.sign(theta[start:stop])
        return loss, grad

    def linearize(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        *,
        cotangent: np.ndarray | None = None,
        statistics: np.ndarray | None = None,
        training: bool = False,
        threads: int | None = 1,
        into: Linearization | None = None,
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
            In the place of y: the rows' function is cotangent · outputs instead of the loss.
        statistics : ndarray (n_state,) of the plan's dtype, optional
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
        run = Pass(self._check_statistics(statistics), training)
        return make(self, theta, self._rows(X), y, sample_weight, cotangent, self._loss_of, run)

    def train(
        self,
        theta: np.ndarray,
        state: np.ndarray,
        X: np.ndarray,
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
        statistics: np.ndarray | None = None,
        preconditioner: Sequence[tuple[np.ndarray, np.ndarray] | None] | None = None,
        divide_l2: bool = False,
        epochs: int = 1,
    ) -> TrainResult:
        """Train for one or more whole epochs; theta and state change in place.

        Parameters
        ----------
        theta : ndarray (P,) of the plan's dtype
        state : ndarray (optimizer.n_moments, P) of the plan's dtype
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
            Penalties of the weights, not of the biases; so is the weight decay of AdamW.
        clip_norm : float, optional
            Longest norm of the whole gradient, penalties included.
        clip_value : float, optional
            Largest absolute value of a component, after `clip_norm`.
        threads : int or None, default=1
        learning_rates : ndarray of float64, optional
            One for each batch of this call, in place of the optimizer's.
        deterministic : bool, default=False
            As for `loss_and_gradient`.
        statistics : ndarray (n_state,) of the plan's dtype, optional
            As for `forward`; running statistics move with every update.
        preconditioner : sequence of (ndarray (m, m), ndarray (n_out, n_out)) or None, for the rule "kfac"
            Per operation the inverses of its factors A and G, m = n_in, and one more with a bias; None for those
            that have none.
        divide_l2 : bool, default=False
            Take l2 / Σw of the batch (its number of rows without sample weights) in the place of l2, as scikit-learn
            takes its `alpha`.
        epochs : int, default=1
            Where `order` is None.

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
        state = check_array("state", state, (optimizer.n_moments, self.n_parameters), self.dtype, writable=True)
        statistics = self._check_statistics(statistics, writable=True)
        X = self._check_X(X)
        y = np.asarray(y)
        n_rows = X.shape[0]
        if y.shape[:1] != (n_rows,):
            raise ValueError(f"y: expected {n_rows} rows like X, got shape {y.shape}")
        if sample_weight is not None:
            sample_weight = check_array("sample_weight", sample_weight, (n_rows,), self.dtype)
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
            check_array("learning_rates", learning_rates, (n_batches,), np.dtype(np.float64))

        losses: list[float] = []
        correct: list[float] = []
        penalties: list[float] = []
        batch = 0
        passes: Any = (slice(None),) * epochs if order is None else order
        # A run that diverges says so by its status; NumPy's warnings on the way there would only repeat it.
        with np.errstate(all="ignore"), _Interruption() as interruption:
            for rows in passes:
                n = n_rows if order is None else len(rows)
                total = weighted_loss = weighted_hits = weighted_penalty = 0.0
                for start in range(0, n, batch_size):
                    stop = min(start + batch_size, n)
                    take = slice(start, stop) if order is None else rows[start:stop]
                    eta = optimizer.learning_rate if learning_rates is None else float(learning_rates[batch])
                    batch += 1
                    w = None if sample_weight is None else sample_weight[take]
                    weight = float(stop - start) if w is None else float(w.sum(dtype=np.float64))
                    if weight == 0.0:
                        continue
                    run = Pass(statistics, True, step)
                    loss, grad, Z, saved = self._evaluate(theta, self._rows(X[take]), y[take], w, True, run)
                    ridge = l2 / weight if divide_l2 else l2
                    penalty = self._penalty(theta, l1, ridge)
                    loss += penalty
                    if not math.isfinite(loss):
                        return TrainResult(tuple(losses), self._hits(correct), step, "diverged", None, tuple(penalties))
                    if self._classifies:
                        hits = self._correct(Z, y[take])
                        weighted_hits += float(hits.sum() if w is None else w[hits].sum(dtype=np.float64))
                    assert grad is not None
                    # An interruption may come between any two lines; theta changes in one of them.
                    after = theta.copy()
                    limits = clip_norm, clip_value
                    self._update(after, state, grad, optimizer, eta, step + 1, l1, ridge, *limits, preconditioner)
                    theta[...] = after
                    for op, kept in zip(self.ops, saved, strict=True):
                        if op.kind == "batch_norm":
                            assert statistics is not None
                            move_statistics(op, kept, statistics)
                    step += 1
                    weighted_loss += weight * loss
                    weighted_penalty += weight * penalty
                    total += weight
                losses.append(weighted_loss / total if total else 0.0)
                penalties.append(weighted_penalty / total if total else 0.0)
                correct.append(weighted_hits / total if total else 0.0)
        if interruption.error is not None:
            done = len(correct)
            kept = tuple(losses[:done]), self._hits(correct)
            return TrainResult(*kept, step, "interrupted", interruption.error, tuple(penalties[:done]))
        return TrainResult(tuple(losses), self._hits(correct), step, "ok", None, tuple(penalties))

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

    def _check_statistics(self, statistics: np.ndarray | None, *, writable: bool = False) -> np.ndarray | None:
        if self.n_state == 0:
            return None
        if statistics is None:
            raise TypeError("statistics: expected the network's state, got None")
        return check_array("statistics", statistics, (self.n_state,), self.dtype, writable=writable)

    def _forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[list[Any], list[np.ndarray]]:
        """Per operation, what its backward pass needs, and its output."""
        saved: list[Any] = []
        outputs: list[np.ndarray] = []
        for index, op in enumerate(self.ops):
            out, kept = forward(op, index, theta, X if op.input < 0 else outputs[op.input], run)
            saved.append(kept)
            outputs.append(out)
        return saved, outputs

    def _evaluate(
        self, theta: np.ndarray, X: np.ndarray, y: np.ndarray, w: np.ndarray | None, gradient: bool, run: Pass
    ) -> tuple[float, np.ndarray | None, np.ndarray, list[Any]]:
        """Data term of the objective, its gradient, the outputs, and what forward saved."""
        saved, outputs = self._forward(theta, X, run)
        loss, delta = self._loss_of(outputs[-1], y, w)
        if not gradient:
            return loss, None, outputs[-1], saved
        grad = np.zeros(self.n_parameters, self.dtype)
        dA: list[np.ndarray | None] = [None] * len(self.ops)
        dA[-1] = delta
        for index in reversed(range(len(self.ops))):
            op, upstream = self.ops[index], dA[index]
            assert upstream is not None  # every output is read
            source = X if op.input < 0 else outputs[op.input]
            back = backward(op, index, theta, source, saved[index], upstream, grad, run)
            if op.input >= 0:  # two operations may read the same output
                before = dA[op.input]
                dA[op.input] = back if before is None else before + back
        return loss, grad, outputs[-1], saved

    def _loss_of(self, Z: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Loss of outputs, and its derivative."""
        return LOSSES[self.loss](Z, y, w, **self._loss_options)

    def _penalty(self, theta: np.ndarray, l1: float, l2: float) -> float:
        """½ l2 ‖W‖² + l1 ‖W‖₁ in float64."""
        value = 0.0
        if l1 != 0.0 or l2 != 0.0:
            for start, stop in self._penalised:
                W = theta[start:stop].astype(np.float64)
                value += 0.5 * l2 * float(W @ W) + l1 * float(np.abs(W).sum())
        return value

    def _correct(self, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether each row is classified correctly, in all of its outputs."""
        if self.loss == "cross_entropy":
            return Z.argmax(axis=1) == (y if y.ndim == 1 else y.argmax(axis=1))
        return ((Z > 0.0) == (y > 0.5)).all(axis=1)

    def _hits(self, correct: list[float]) -> tuple[float, ...] | None:
        return tuple(correct) if self._classifies else None

    def _update(
        self,
        theta: np.ndarray,
        state: np.ndarray,
        grad: np.ndarray,
        rule: UpdateRule,
        learning_rate: float,
        step: int,
        l1: float,
        l2: float,
        clip_norm: float | None,
        clip_value: float | None,
        preconditioner: Sequence[tuple[np.ndarray, np.ndarray] | None] | None = None,
    ) -> None:
        """One step of the optimizer."""
        # Where, l1, l2, weight decay, learning rate.
        spans = [(slice(0, self.n_parameters), 0.0, 0.0, 0.0, learning_rate)]
        if not l1 == l2 == rule.weight_decay == 0.0 or any(rate != 1.0 for _, _, _, rate in self._segments):
            terms = {True: (l1, l2, rule.weight_decay), False: (0.0, 0.0, 0.0)}
            spans = [
                (slice(start, stop), *terms[penalised], learning_rate * rate)
                for start, stop, penalised, rate in self._segments
            ]
        factor = 1.0
        if clip_norm is not None:
            squares = (gradient_norm2(theta[at], grad[at], l1=a, l2=b) for at, a, b, _, _ in spans)
            norm = math.sqrt(sum(squares))
            factor = clip_norm / norm if norm > clip_norm else 1.0
        limit = math.inf if clip_value is None else clip_value
        if rule.rule == "kfac":
            if preconditioner is None or len(preconditioner) != len(self.ops):
                raise ValueError("preconditioner: expected a pair of inverse factors, or None, for each operation")
            g = np.concatenate(
                [effective_gradient(theta[at], grad[at], 1.0, a, b, factor, limit) for at, a, b, _, _ in spans]
            )
            u = kfac_direction(self.ops, g, preconditioner, learning_rate, rule.kl_clip)
            for at, _, _, _, eta in spans:
                if eta != 0.0:
                    sgd_update(theta[at], u[at], state[0, at], eta, rule.momentum)
            return
        mu = float(nag_momentum(step)[0]) if rule.rule == "nag" else 0.0
        for at, a, b, decay, eta in spans:
            if eta == 0.0:  # frozen, its state too
                continue
            t, g = theta[at], grad[at]
            common = {"l1": a, "l2": b, "factor": factor, "clip_value": limit}
            if rule.rule == "sgd":
                velocity = state[0, at] if rule.n_moments else None
                sgd_update(t, g, velocity, eta, rule.momentum, rule.nesterov, **common)
            elif rule.rule == "nag":
                nag_update(t, g, state[0, at], eta, mu, **common)
            elif rule.rule == "adagrad":
                adagrad_update(t, g, state[0, at], eta, rule.epsilon, **common)
            elif rule.rule == "rmsprop":
                rest = [slot[at] for slot in state[1:]]
                mean = rest.pop(0) if rule.centered else None
                velocity = rest.pop(0) if rule.momentum != 0.0 else None
                numbers = eta, rule.rho, rule.epsilon, rule.momentum
                rmsprop_update(t, g, state[0, at], *numbers, mean, velocity, **common)
            elif rule.rule == "adam":
                m, v, top = state[0, at], state[1, at], state[2, at] if rule.amsgrad else None
                numbers = eta, rule.beta1, rule.beta2, rule.epsilon
                adam_update(t, g, m, v, step, *numbers, decay, top, rule.epsilon_hat, **common)
            else:
                raise ValueError(f"optimizer: unknown rule {rule.rule!r}")
