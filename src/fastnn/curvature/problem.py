"""What all curvature functions start from: a network and data, checked and fixed, linearized chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_integer, check_number, check_rows, check_threads, weight_exponent
from ..network import Network
from ..plan import OpSpec, parameter_ranges
from .memory import WORKSPACE, check_size

__all__ = ["DenseLayer", "Problem", "in_double"]

DIRECTIONS = 32  # unit vectors that go through a product at once

ELEMENTWISE = ("dense", "activation", "dropout", "standardize")


@dataclass(frozen=True)
class DenseLayer:
    """A dense op of a chain with the element-wise ops behind it.

    Attributes
    ----------
    index : int
        Of the op, and of the layer in ``net.layers``.
    op : OpSpec
    after : tuple of int
        The activation ops between it and the next dense op.
    """

    index: int
    op: OpSpec
    after: tuple[int, ...]

    @property
    def bends(self) -> tuple[int, ...]:
        """The ops that make up f, from its pre-activations to what the next dense op reads."""
        return (self.index, *self.after)

    @property
    def bias(self) -> bool:
        """Whether it has a bias."""
        return self.op.bias >= 0

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        return (self.op.n_in + self.bias) * self.op.n_out

    @property
    def place(self) -> slice:
        """Where its parameters are in theta."""
        return slice(self.op.weight, self.op.weight + self.n_parameters)

    def weight(self, theta: np.ndarray) -> np.ndarray:
        """Its weight, (n_in, n_out), a view."""
        op = self.op
        return theta[op.weight : op.weight + op.n_in * op.n_out].reshape(op.n_in, op.n_out)


class Problem:
    """A network at its present parameters, with data and an objective.

    Parameters
    ----------
    net : Sequential
        theta and state are copied.
    X, y, sample_weight, l2, training, threads
        As for ``net.loss_and_gradient``.
    what : str
        Name of what is to be computed, for messages.
    second_order : bool, default=True
        Whether second derivatives of the loss and of the activations enter.
    separate : bool, default=False
        Whether rows have to be independent of one another.
    targets : bool, default=True
        Whether there are targets and weights. Without, y is not looked at; there is no loss, and linearizations need a
        cotangent.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or what is asked for is not defined.
    """

    def __init__(
        self,
        net: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        l2: Any = 0.0,
        training: Any = False,
        threads: Any = None,
        *,
        what: str,
        second_order: bool = True,
        separate: bool = False,
        targets: bool = True,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        if not isinstance(training, bool):
            raise TypeError(f"training must be True or False, got {training!r}")
        if second_order:
            if net.loss_name == "absolute_error" and targets:
                raise ValueError(
                    f"{what}: curvature is not defined for loss 'absolute_error', whose second derivative is 0 but at "
                    "the kink; use 'huber' or 'squared_error'"
                )
            if any(op.activation == "sign" for op in net.ops):
                raise ValueError(
                    f"{what}: curvature is not defined for activation 'sign', whose derivatives are 0 but at the jump"
                )
        self.net, self.what = net, what
        self.l2 = check_number("l2", l2, minimum=0.0)
        self.threads = check_threads(threads)
        self.y: np.ndarray | None
        self.weight: np.ndarray | None
        if not targets:
            self.X, self.y, self.weight = check_rows(X, net.input_size, net.dtype), None, None
            if len(self.X) == 0:
                raise ValueError(f"X: expected at least one row, got shape {self.X.shape}")
        else:
            self.X, self.y, self.weight = net.check_data(X, y, sample_weight)
            #: The weights given are `weight` times 2 to this power.
            self.weight_exponent = weight_exponent(sample_weight)
        #: Whether the rows depend on one another, and so cannot be cut into chunks.
        self.whole = training and net.needs_batches
        if self.whole and separate:
            raise ValueError(
                f"{what} is not defined with training=True and batch norm: by the statistics of the batch every row's "
                "loss depends on all rows; use training=False"
            )
        if self.whole and len(self.X) == 1:
            raise ValueError("X: expected at least 2 rows to normalise a batch by its own statistics, got 1")
        self.training = training
        self.plan, self.kernels, self.ops = net.plan, net.kernels, net.ops
        self.theta, self.state = net.theta.copy(), net.state.copy()
        self.dtype, self.n_rows, self.n_parameters = net.dtype, len(self.X), net.n_parameters
        self.n_outputs = net.n_outputs
        self.total = float(self.n_rows) if self.weight is None else float(self.weight.sum(dtype=np.float64))
        self.penalised = [
            slice(start, stop)
            for start, stop, is_weight, _ in parameter_ranges(self.ops, net.n_parameters)
            if is_weight
        ]
        #: Elements that a linearization keeps for one row, about.
        self.row_elements = self.plan_inputs + 5 * sum(op.n_out for op in self.ops)
        #: Elements that a product takes for one row and one direction: tangents of values and derivatives, and between.
        self.tangent_elements = self.plan_inputs + 8 * sum(op.n_out for op in self.ops)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("plan", "kernels", "ops")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.plan, self.kernels, self.ops = self.net.plan, self.net.kernels, self.net.ops

    @property
    def plan_inputs(self) -> int:
        """Columns of X."""
        return self.ops[0].n_in

    @property
    def softmax(self) -> bool:
        """Whether the loss's Hessian is diag q − q qᵀ rather than diag q."""
        return self.net.loss_name == "cross_entropy"

    def chain(self) -> list[DenseLayer] | None:
        """The dense layers, when all ops are dense or element-wise, else None."""
        if any(op.kind not in ELEMENTWISE for op in self.ops):
            return None
        return self.dense_layers()

    def dense_layers(self) -> list[DenseLayer]:
        """The dense layers, each with the activation ops behind it."""
        at = [i for i, op in enumerate(self.ops) if op.kind == "dense"]
        layers = []
        for i, end in zip(at, [*at[1:], len(self.ops)], strict=True):
            after = tuple(j for j in range(i + 1, end) if self.ops[j].kind == "activation")
            layers.append(DenseLayer(i, self.ops[i], after))
        return layers

    def layer(self, layer: Any) -> int:
        """Checked index of a layer that has parameters."""
        count = len(self.ops)
        index = check_integer("layer", layer, minimum=-count)
        if index >= count:
            raise ValueError(f"layer: expected an index below {count}, got {index}")
        index %= count
        if self.ops[index].weight < 0:
            having = ", ".join(str(i) for i, op in enumerate(self.ops) if op.weight >= 0)
            raise ValueError(f"layer: expected a layer with parameters ({having}), got {index}")
        return index

    def place(self, index: int) -> slice:
        """Where the parameters of a layer are in theta."""
        op = self.ops[index]
        if op.kind == "dense":
            return DenseLayer(index, op, ()).place
        return slice(op.weight, op.weight + 2 * op.n_out)

    def chunks(self, row_elements: float, workspace: int = WORKSPACE) -> Iterator[slice]:
        """Slices of rows, so that `row_elements` for each take `workspace` bytes; all rows where they hang together."""
        rows = max(1, int(workspace / (self.dtype.itemsize * max(row_elements, 1.0))))
        if self.whole:
            rows = self.n_rows
        for start in range(0, self.n_rows, rows):
            yield slice(start, min(start + rows, self.n_rows))

    def linearize(
        self, rows: slice, *, cotangent: np.ndarray | None = None, weighted: bool = True, into: Any = None
    ) -> Any:
        """Linearization at some rows; `into` is one that is not needed any more.

        Raises
        ------
        ValueError
            If a parameter or the loss is not finite.
        """
        if rows.start == 0 and not np.isfinite(self.theta).all():
            place = int(np.isfinite(self.theta).argmin())
            raise ValueError(f"{self.what}: the parameters are not finite: theta[{place}] is {self.theta[place]}")
        lin = self.plan.linearize(
            self.theta,
            self.X[rows],
            self.y[rows] if cotangent is None and self.y is not None else None,
            self.weight[rows] if weighted and self.weight is not None else None,
            cotangent=cotangent,
            statistics=self.state,
            training=self.training,
            threads=self.threads,
            into=into,
        )
        if cotangent is None and self.y is not None and lin.weight_sum > 0.0 and not np.isfinite(lin.loss):
            raise ValueError(f"{self.what}: the loss is not finite at these parameters: {lin.loss}")
        return lin

    def check_size(self, shape: tuple[int, ...], max_bytes: Any, instead: str) -> None:
        """Refuse a result that does not fit in memory, with what goes through products at once."""
        rows = 0
        if self.whole:
            rows = self.n_rows * (self.row_elements + self.tangent_elements) * self.dtype.itemsize
        check_size(self.what, shape, self.dtype, max_bytes, instead, rows)

    def share(self, lin: Any) -> float:
        """What a product of a linearization of some rows is to be multiplied with: Σ w of them over the whole Σ w."""
        return lin.weight_sum / self.total

    def add_penalty(self, diagonal: np.ndarray) -> None:
        """Add l2 to the weights' places of a vector, or of a view of a diagonal."""
        if self.l2 != 0.0:
            for place in self.penalised:
                diagonal[place] += self.dtype.type(self.l2)

    def unit_products(self, places: list[slice], kind: str) -> Iterator[tuple[int, np.ndarray]]:
        """Rows of a curvature matrix of the data term, by products with unit vectors.

        Yields the first parameter's index and a block (n, P) of rows, each block once for every chunk of rows of X: the
        sum over what has the same index is the matrix. The block's memory is used again.
        """
        tangent = self.tangent_elements
        directions = DIRECTIONS
        if self.whole:
            directions = int(WORKSPACE / (self.dtype.itemsize * tangent * self.n_rows))
            directions = min(max(directions, 1), DIRECTIONS)
        V = np.zeros((directions, self.n_parameters), self.dtype)
        products = np.empty_like(V)
        lin = None
        for rows in self.chunks(self.row_elements + tangent * directions):
            lin = self.linearize(rows, into=lin)
            share = self.dtype.type(self.share(lin))
            for place in places:
                for start in range(place.start, place.stop, directions):
                    n = min(directions, place.stop - start)
                    V[...] = 0.0
                    V[np.arange(n), start + np.arange(n)] = 1.0
                    block = lin.product(V[:n], kind, out=products[:n])
                    block *= share
                    yield start, block


def in_double(net: Any) -> Network:
    """An independent network in float64 with the same parameters and state."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
    return net.astype("float64")


def local(lin: Any, ops: Iterable[int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """f' and w f'' ⊙ ∂ℓ/∂f of element-wise ops in a row, a dense op counting for its activation.

    For f = σ₂∘σ₁: f' = σ₂' σ₁', and f'' times the derivative is that of σ₁ plus that of σ₂ times σ₁'². None where the
    first is 1, or the second 0.
    """
    slope: np.ndarray | None = None
    bend: np.ndarray | None = None
    for i in ops:
        own = lin.bend(i)
        if own is not None:
            term = own if slope is None else own * slope**2
            bend = term if bend is None else bend + term
        own = lin.slope(i)
        if own is not None:
            slope = own if slope is None else slope * own
    return slope, bend
