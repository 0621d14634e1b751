"""Empirical risk: a network at fixed parameters with checked data, from which all curvature functions start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Unpack, cast

import numpy as np

from .._typing import ArrayLike, Data
from ..checks import check_integer, check_number, check_threads, rows_that_count, weight_exponent
from ..linalg.memory import WORKSPACE, check_size
from ..network import Network
from ..plan import OpSpec, parameter_ranges
from ..reference.arguments import shares_memory
from .arguments import DataOptions, with_defaults
from .linearization import Linearization

__all__ = ["DenseLayer", "EmpiricalRisk", "in_double", "require_second_derivatives"]

#: Unit vectors that go through a product at once.
DIRECTIONS = 32

#: Kinds of op of a chain: element-wise ones and dense ones.
CHAIN = ("dense", "activation", "dropout", "standardize")


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
    def elementwise(self) -> tuple[int, ...]:
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
        return self.op.parameters

    def weight(self, theta: np.ndarray) -> np.ndarray:
        """Its weight, (n_in, n_out), a view."""
        op = self.op
        return theta[op.weight : op.weight + op.n_in * op.n_out].reshape(op.n_in, op.n_out)


class EmpiricalRisk:
    """J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² of a network at its present parameters on checked data.

    A layer's own l2 takes the place of `l2`. Its l1 has no second derivative where it has a first one.

    Parameters
    ----------
    net : Sequential
        theta and the buffers are copied.
    X : array_like (N, D)
        At least one row.
    y : array_like
        Targets as the network's loss takes them; not read where `targets` is False.
    what : str
        Name of what is to be computed, for messages.
    second_order : bool, default=True
        Whether second derivatives of the loss and of the activations enter.
    per_sample : bool, default=False
        Whether rows have to be independent of one another.
    targets : bool, default=True
        Whether there are targets and weights. Without, there is no loss, and linearizations need a cotangent.
    penalised : bool, default=True
        Whether penalties are part of it, the layers' own ones as well.
    **data
        Those of `DataOptions`.

    Attributes
    ----------
    net : Sequential
    theta : ndarray (P,)
    buffers : ndarray
        Buffers of the network.
    X : ndarray (N, D) or SparseRows
    y : ndarray or None
    weight : ndarray (N,) or None
        `sample_weight` times a power of two that brings the largest to [0.5, 1).
    total : float
        Σ w of these weights; N without.
    dtype : numpy.dtype
    n_rows, n_parameters, n_outputs : int
        N, P, K.
    batch_coupled : bool
        Whether rows depend on one another by batch statistics, and so cannot be cut into chunks.
    l2 : float
        As given.
    ridges : list of (slice, float)
        Where in theta the weights are whose l2 is above 0, with that.
    row_elements, tangent_elements : int
        Elements that a linearization keeps for a row, about; that a product takes for a row and a direction.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or what is asked for is not defined.
    """

    def __init__(
        self,
        net: Network,
        X: Data,
        y: ArrayLike | None,
        *,
        what: str,
        second_order: bool = True,
        per_sample: bool = False,
        targets: bool = True,
        penalised: bool = True,
        **data: Unpack[DataOptions],
    ) -> None:
        options = with_defaults(what, data)
        sample_weight, training = options["sample_weight"], options["training"]
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
        if not isinstance(training, bool):
            raise TypeError(f"training must be True or False, got {training!r}")
        if second_order:
            require_second_derivatives(net, what, of_loss=targets)
        self.net, self.what = net, what
        self.l2 = check_number("l2", options["l2"], minimum=0.0)
        self.threads = check_threads(options["threads"])
        self.y: np.ndarray | None
        self.weight: np.ndarray | None
        if not targets:
            self.X, self.y, self.weight = net.check_rows(X), None, None
            if len(self.X) == 0:
                raise ValueError(f"X: expected at least one row, got shape {self.X.shape}")
        else:
            self.X, self.y, self.weight = net.check_data(X, cast(ArrayLike, y), sample_weight)
            #: The weights given are `weight` times 2 to this power.
            self.weight_exponent = weight_exponent(sample_weight)
        self.batch_coupled = training and net.needs_batches
        if self.batch_coupled and per_sample:
            raise ValueError(
                f"{what} is not defined with training=True and batch norm: by the statistics of the batch every row's "
                "loss depends on all rows; use training=False"
            )
        if self.batch_coupled and self.weight is not None and self.y is not None:
            self.X, self.y, self.weight = rows_that_count(self.X, self.y, self.weight)
        if self.batch_coupled and len(self.X) == 1:
            raise ValueError("X: expected at least 2 rows to normalise a batch by its own statistics, got 1")
        self.training = training
        self.plan, self.kernels, self.ops = net.plan, net.kernels, net.ops
        self.theta, self.buffers = net.theta.copy(), net.state.copy()
        #: Factors (K,) of the outputs' ∂²ℓ/∂z² in Gauss-Newton matrices; None is ones.
        self.output_precision: np.ndarray | None = None
        self.dtype, self.n_rows, self.n_parameters = net.dtype, len(self.X), net.n_parameters
        self.n_outputs = net.n_outputs
        self.total = float(self.n_rows) if self.weight is None else float(self.weight.sum(dtype=np.float64))
        ranges = parameter_ranges(self.ops, net.n_parameters) if penalised else []
        self.ridges = [
            (slice(part.begin, part.end), l2) for part in ranges if (l2 := part.penalties(0.0, self.l2)[1]) > 0.0
        ]
        self.row_elements = self.plan_inputs + 5 * sum(op.n_out for op in self.ops)
        self.tangent_elements = self.plan_inputs + 8 * sum(op.n_out for op in self.ops)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("plan", "kernels", "ops")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.plan, self.kernels, self.ops = self.net.plan, self.net.kernels, self.net.ops

    @property
    def plan_inputs(self) -> int:
        """Columns of X."""
        return self.ops[0].n_in

    @property
    def softmax(self) -> bool:
        """Whether the loss's Hessian is diag q − q qᵀ rather than diag q."""
        return self.net.loss_function.couples_outputs

    def chain(self) -> list[DenseLayer] | None:
        """The dense layers, when all ops are dense or element-wise, else None."""
        if any(op.kind not in CHAIN for op in self.ops):
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

    def layer(self, layer: int) -> int:
        """Checked index of a layer that has parameters."""
        count = len(self.ops)
        index = check_integer("layer", layer, minimum=-count)
        if index >= count:
            raise ValueError(f"layer: expected an index below {count}, got {index}")
        index %= count
        if self.ops[index].weight < 0:
            having = ", ".join(map(str, self.layers_with_parameters()))
            raise ValueError(f"layer: expected a layer with parameters ({having}), got {index}")
        return index

    def place(self, index: int) -> slice:
        """Where the parameters of a layer are in theta."""
        return self.ops[index].parameters

    def chunks(self, row_elements: float, workspace: int = WORKSPACE) -> Iterator[slice]:
        """Slices of rows, of `workspace` bytes each where a row takes `row_elements`.

        All rows at once if batch statistics couple them.
        """
        rows = max(1, int(workspace / (self.dtype.itemsize * max(row_elements, 1.0))))
        if self.batch_coupled:
            rows = self.n_rows
        for start in range(0, self.n_rows, rows):
            yield slice(start, min(start + rows, self.n_rows))

    def linearize(
        self,
        rows: slice,
        *,
        cotangent: np.ndarray | None = None,
        weighted: bool = True,
        into: Linearization | None = None,
    ) -> Linearization:
        """Linearize the network at some rows.

        Parameters
        ----------
        rows : slice
        cotangent : ndarray (n, K), optional
            ∂/∂(outputs) where the backward pass starts; None is the loss.
        weighted : bool, default=True
            Whether the rows' weights enter.
        into : Linearization, optional
            One that is no longer needed, whose memory is used again.

        Raises
        ------
        ValueError
            If a parameter or the loss is not finite.
        """
        if rows.start == 0 and not np.isfinite(self.theta).all():
            place = int(np.isfinite(self.theta).argmin())
            raise ValueError(f"{self.what}: the parameters are not finite: theta[{place}] is {self.theta[place]}")
        lin: Linearization = self.plan.linearize(
            self.theta,
            self.X[rows],
            self.y[rows] if cotangent is None and self.y is not None else None,
            self.weight[rows] if weighted and self.weight is not None else None,
            cotangent=cotangent,
            buffers=self.buffers,
            training=self.training,
            threads=self.threads,
            into=into,
        )
        if cotangent is None and self.y is not None and lin.weight_sum > 0.0 and not np.isfinite(lin.loss):
            raise ValueError(f"{self.what}: the loss is not finite at these parameters: {lin.loss}")
        if self.output_precision is not None:
            lin.curvature[...] *= self.output_precision
        return lin

    def check_size(self, shape: tuple[int, ...], max_bytes: int | None, instead: str) -> None:
        """Refuse a result that does not fit in memory, with the rows that batch statistics couple."""
        rows = 0
        if self.batch_coupled:
            rows = self.n_rows * (self.row_elements + self.tangent_elements) * self.dtype.itemsize
        check_size(self.what, shape, self.dtype, max_bytes, instead, rows)

    def check_out(self, out: np.ndarray, shape: tuple[int, ...], *, contiguous: bool = False) -> None:
        """Refuse what a result cannot be written to; unless `contiguous`, only the last axis must have no gaps."""
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            raise TypeError(f"out: expected an array of {self.dtype}, got {getattr(out, 'dtype', type(out).__name__)}")
        if out.shape != shape:
            raise ValueError(f"out: expected shape {shape}, got {out.shape}")
        if not out.flags.aligned or any(stride % out.itemsize for stride in out.strides):
            raise ValueError("out: expected an array aligned to its elements")
        if contiguous and not (out.flags.writeable and out.flags.c_contiguous):
            raise ValueError("out: expected a writable array in C order without gaps")
        if not out.flags.writeable or (out.shape[-1] > 1 and out.strides[-1] != out.itemsize):
            raise ValueError("out: expected a writable array without gaps along its last axis")
        given = {"X": self.X, "y": self.y, "the network's parameters": self.net.theta}
        for name, array in given.items():
            if isinstance(array, np.ndarray) and shares_memory(out, array):
                raise ValueError(f"out: expected an array apart from the other arguments, got one that overlaps {name}")

    def share(self, lin: Linearization) -> float:
        """Σ w of a linearization's rows over the Σ w of all: the factor of its products in the whole matrix."""
        return lin.weight_sum / self.total

    def add_penalty(self, diagonal: np.ndarray) -> None:
        """Add l2 at the weights to a diagonal (P,), or to a view of one."""
        for place, l2 in self.ridges:
            diagonal[place] += self.dtype.type(l2)

    def ridge(self, op: OpSpec) -> float:
        """The l2 of an operation's weight."""
        return next((l2 for place, l2 in self.ridges if place.start == op.weight), 0.0)

    def unit_cotangent(self, rows: slice, k: int) -> np.ndarray:
        """The cotangent (n, K) that picks output k in every row."""
        cotangent = np.zeros((rows.stop - rows.start, self.n_outputs), self.dtype)
        cotangent[:, k] = 1.0
        return cotangent

    def layers_with_parameters(self) -> tuple[int, ...]:
        """Indices of the layers that have parameters."""
        return tuple(i for i, op in enumerate(self.ops) if op.weight >= 0)

    def unit_products(self, places: list[slice], kind: str) -> Iterator[tuple[int, np.ndarray]]:
        """Rows of a curvature matrix of the data term, by products with unit vectors.

        Yields the first parameter's index and a block (n, P) of rows, each block once for every chunk of rows of X: the
        sum over what has the same index is the matrix. The block's memory is used again.
        """
        tangent = self.tangent_elements
        directions = DIRECTIONS
        if self.batch_coupled:
            directions = int(WORKSPACE / (self.dtype.itemsize * tangent * self.n_rows))
            directions = min(max(directions, 1), DIRECTIONS)
        V = np.zeros((directions, self.n_parameters), self.dtype)
        products = np.empty_like(V)
        lin: Linearization | None = None
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


def require_second_derivatives(net: Network, what: str, *, of_loss: bool = True) -> None:
    """Refuse losses without curvature, as absolute_error (if the loss counts), and the activation sign.

    Raises
    ------
    ValueError
    """
    if not net.loss_function.has_curvature and of_loss:
        raise ValueError(
            f"{what}: curvature is not defined for loss {net.loss_function.name!r}, whose second derivative is 0 "
            "except at the kink; use 'huber' or 'squared_error'"
        )
    if any(op.activation == "sign" for op in net.ops):
        raise ValueError(
            f"{what}: curvature is not defined for activation 'sign', whose derivatives are 0 except at the jump"
        )


def in_double(net: Network) -> Network:
    """An independent network in float64 with the same parameters and buffers."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
    return net.astype("float64")
