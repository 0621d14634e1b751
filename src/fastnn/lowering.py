"""Lowering of a plan: validation, and where everything lies that its operations read and write.

Both backends take their view of a network from :func:`lower`. It checks the operations once, and gives the sizes and
offsets of parameters, buffers, saved tensors and gradients as plain tuples of numbers; the compiled engine copies them
into the C structs of csrc/engine/plan.h, whose fields have the same names.

Offsets of a :class:`Place` are in elements per row: a linearization of N rows saves that matrix at offset times N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from .losses import LOSSES, Loss
from .names import listing
from .plan import ACTIVATIONS, OPS, OpSpec, Segment, parameter_ranges

__all__ = ["LoweredOp", "LoweredPlan", "Place", "lower", "padding_waste"]
__dir__ = listing(__all__)

ITEM_SIZES = {"float32": 4, "float64": 8}
LINE = 64  # bytes: a cache line, and the widest vector; FNN_ALIGN
OP_CODES = {kind: code for code, kind in enumerate(OPS)}
ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
NARROW = 128  # most inputs or outputs of an operation that runs feature-major; FNN_NARROW


class LoweredOp(NamedTuple):
    """One operation as the engine takes it; the fields of fnn_op.

    Attributes
    ----------
    kind, activation : int
        Codes: positions in OPS and ACTIVATIONS.
    input, n_in, n_out, weight, bias, epsilon, momentum, lr_multiplier, dropout_rate, negative_slope, buffer, l1, l2
        Those of the :class:`~fastnn.plan.OpSpec`.
    shared_weight, shared_bias : bool
        A later operation has the same parameters, and has written their gradient already.
    gated : bool
        A dense operation with relu before another dense one, whose backward product applies relu' in its epilogue and
        yields this operation's ∂ℓ/∂z and bias gradient.
    saves_pre : bool
        Forward saves the pre-activation, because the backward pass cannot take the output.
    delta_side : int
        Which of two buffers holds ∂ℓ/∂output. They alternate from one operation with a weight to the next; one without
        works in place, in that of its input.
    """

    kind: int
    input: int
    activation: int
    shared_weight: bool
    shared_bias: bool
    gated: bool
    saves_pre: bool
    delta_side: int
    lr_multiplier: float
    epsilon: float
    momentum: float
    dropout_rate: float
    negative_slope: float
    buffer: int
    n_in: int
    n_out: int
    weight: int
    bias: int
    l1: float | None
    l2: float | None


class Place(NamedTuple):
    """Where a linearization keeps what belongs to an operation, in elements per row; -1: nothing. fnn_place.

    Attributes
    ----------
    out, delta : int
        Output, and w ∂ℓ/∂z of an operation with an activation, w ∂ℓ/∂output of the others.
    slope, bend : int
        σ'(z) where σ is not linear; σ''(z) ⊙ w ∂ℓ/∂a where σ'' is not 0 everywhere.
    normalised, inv_std : int
        û of a norm; 1/σ of a layer norm, one element per row.
    columns : int
        Of batch norm, in elements behind all rows: 1/σ, mean δ, mean û δ.
    """

    out: int
    delta: int
    slope: int = -1
    bend: int = -1
    normalised: int = -1
    inv_std: int = -1
    columns: int = -1


@dataclass(frozen=True)
class LoweredPlan:
    """A checked plan with all sizes and offsets; the fields of fnn_plan.

    Attributes
    ----------
    ops, places, segments : tuple
        One operation and place per OpSpec; the segments cover theta.
    loss : type of Loss
        The class that describes the loss.
    loss_code : int
        Position in :data:`fastnn.losses.LOSSES`.
    n_parameters, n_in, n_out, n_buffers : int
        Length of theta, columns of X and of the output, length of the network's buffers.
    rated : bool
        Some learning-rate multiplier is not 1.
    penalised : bool
        Some weight has a penalty of its own above 0.
    batch_statistics : bool
        Some operation couples the rows of a batch in training.
    gathers : bool
        An operation that is no product reads X: a chunk's rows must follow each other in memory.
    feature_major : bool
        May run with one feature after the other, each a vector over the rows.
    waste, first_share : float
        See :func:`padding_waste`.
    broadest : int
        Most inputs or outputs of an operation.
    row_elements : int
        Of a worker's workspace, per row of a chunk.
    saved_curvature, saved_elements, saved_columns, tangent_elements : int
        Of a linearization: offset of the loss's curvature, elements per row, elements behind all rows, and tangents per
        row of a chunk.
    """

    ops: tuple[LoweredOp, ...]
    places: tuple[Place, ...]
    segments: tuple[Segment, ...]
    loss: type[Loss]
    loss_code: int
    n_parameters: int
    n_in: int
    n_out: int
    n_buffers: int
    rated: bool
    penalised: bool
    batch_statistics: bool
    gathers: bool
    feature_major: bool
    waste: float
    first_share: float
    broadest: int
    row_elements: int
    saved_curvature: int
    saved_elements: int
    saved_columns: int
    tangent_elements: int


def lower(
    ops: Sequence[OpSpec],
    n_parameters: int,
    loss: str,
    dtype: str,
    label_smoothing: float = 0.0,
    vector_bytes: int = LINE,
) -> LoweredPlan:
    """Check a plan and lay out what its operations need.

    Parameters
    ----------
    ops : sequence of OpSpec
        A chain: each reads the one before it, the first one reads X, the last one's output goes into the loss.
    n_parameters : int
        Length of theta.
    loss : str
        Name of a loss.
    dtype : {"float32", "float64"}
    label_smoothing : float, default=0.0
        Checked only.
    vector_bytes : int, default=64
        Of the vectors that the kernels in use work with; decides on feature-major runs.

    Returns
    -------
    LoweredPlan

    Raises
    ------
    ValueError
        If the loss, the dtype or an operation is unknown, the smoothing is out of range, an operation does not read the
        one before it, an offset does not fit, theta is not covered without gaps and overlaps, operations other than
        dense ones share parameters, or those that share a weight have different penalties.
    """
    ops = tuple(ops)
    _check_options(ops, loss, dtype, label_smoothing)
    for i in range(len(ops)):
        _check_op(ops, i, n_parameters)
    shared = _shared_later(ops)
    _check_sharing(ops, shared)
    _check_cover(ops, n_parameters)
    item_size = ITEM_SIZES[dtype]
    waste, first_share = padding_waste(ops, vector_bytes // item_size)
    places, kept, columns, tangent = _place_linearization(ops)
    n_out = ops[-1].n_out
    segments = tuple(parameter_ranges(ops, n_parameters))
    return LoweredPlan(
        ops=_lower_ops(ops, shared),
        places=places,
        segments=segments,
        loss=LOSSES[loss],
        loss_code=LOSS_CODES[loss],
        n_parameters=n_parameters,
        n_in=ops[0].n_in,
        n_out=n_out,
        n_buffers=max(0, *(op.buffer + op.buffer_size for op in ops)),
        rated=any(segment.lr_multiplier != 1.0 for segment in segments),
        penalised=any(segment.l1 or segment.l2 for segment in segments),
        batch_statistics=any(op.facts.couples_rows for op in ops),
        gathers=any(op.input < 0 and not op.facts.has_weight for op in ops),
        feature_major=waste > 0.0,
        waste=waste,
        first_share=first_share,
        broadest=max(max(op.n_in, op.n_out) for op in ops),
        row_elements=_row_elements(ops, waste > 0.0, LINE // item_size),
        saved_curvature=kept,
        saved_elements=kept + n_out,
        saved_columns=columns,
        tangent_elements=max(tangent, 2 * max(op.n_out for op in ops)),
    )


def _check_options(ops: tuple[OpSpec, ...], loss: str, dtype: str, label_smoothing: float) -> None:
    if not ops:
        raise ValueError("ops: expected at least one operation, got none")
    if loss not in LOSSES:
        raise ValueError(f"loss: unknown name {loss!r}; known: {', '.join(LOSSES)}")
    if not 0.0 <= label_smoothing < 1.0 or (label_smoothing != 0.0 and not LOSSES[loss].smooths_labels):
        raise ValueError(f"label_smoothing: expected a number in [0, 1), or 0 for {loss}, got {label_smoothing!r}")
    if dtype not in ITEM_SIZES:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")


def _check_op(ops: tuple[OpSpec, ...], i: int, n_parameters: int) -> None:
    """Operation i by itself: it reads the one before it, and fits theta and the buffers."""
    op = ops[i]
    if op.input != i - 1:
        raise ValueError(f"ops[{i}]: expected to read the operation before it, input {i - 1}, got {op.input}")
    width = ops[i - 1].n_out if i else op.n_in
    fits = op.kind in OPS and op.activation in ACTIVATIONS and op.n_in == width and op.n_in > 0 and op.n_out > 0
    if fits:
        product = op.facts.has_weight
        fits = (
            (product or op.n_in == op.n_out)
            and (op.weight >= 0) == (product or op.facts.vectors > 0)
            and (product or (op.bias >= 0) == (op.facts.vectors > 1))
            and all(value is None or (product and 0.0 <= value < math.inf) for value in (op.l1, op.l2))
            and op.weight >= -1
            and op.weight + op.weight_size <= n_parameters
            and -1 <= op.bias <= n_parameters - op.n_out
        )
    if not fits:
        raise ValueError(f"ops[{i}]: {op} does not fit its input or theta of length {n_parameters}")
    if not op.negative_slope > 0.0:
        raise ValueError(f"ops[{i}]: expected a negative_slope above 0, got {op.negative_slope}")
    if op.buffer_size and op.buffer < 0:
        raise ValueError(f"ops[{i}]: a {op.kind} needs an offset in the buffers")


def _shared_later(ops: tuple[OpSpec, ...]) -> list[tuple[bool, bool]]:
    """For each operation, whether a later one has the same weight, and whether one has the same bias."""
    weights, biases = {-1: False}, {-1: False}
    shared: list[tuple[bool, bool]] = []
    for op in reversed(ops):
        shared.append((weights.get(op.weight, False), biases.get(op.bias, False)))
        weights.setdefault(op.weight, True)
        biases.setdefault(op.bias, True)
    return shared[::-1]


def _check_sharing(ops: tuple[OpSpec, ...], shared: list[tuple[bool, bool]]) -> None:
    for i, (op, (weight, _)) in enumerate(zip(ops, shared, strict=True)):
        if weight and not op.facts.has_weight:
            raise ValueError(f"ops[{i}]: only a dense operation may share its parameters")
        if any(op.weight == other.weight >= 0 and (op.l1, op.l2) != (other.l1, other.l2) for other in ops):
            raise ValueError(f"ops[{i}]: shares its weight with an operation that has other penalties")


def _check_cover(ops: tuple[OpSpec, ...], n_parameters: int) -> None:
    ranges = {(op.weight, op.weight + op.weight_size) for op in ops if op.weight >= 0}
    ranges |= {(op.bias, op.bias + op.n_out) for op in ops if op.bias >= 0}
    borders = [(0, 0), *sorted(ranges), (n_parameters, n_parameters)]
    if any(left[1] != right[0] for left, right in pairwise(borders)):
        raise ValueError(f"ops: their parameters must cover theta of length {n_parameters} without gaps or overlaps")


def _lower_ops(ops: tuple[OpSpec, ...], shared: list[tuple[bool, bool]]) -> tuple[LoweredOp, ...]:
    lowered: list[LoweredOp] = []
    products = 0  # operations with a weight so far
    following = (*(op.kind for op in ops[1:]), "")
    for op, (shared_weight, shared_bias), next_kind in zip(ops, shared, following, strict=True):
        products += op.facts.has_weight
        lowered.append(
            LoweredOp(
                kind=OP_CODES[op.kind],
                input=op.input,
                activation=ACTIVATION_CODES[op.activation],
                shared_weight=shared_weight,
                shared_bias=shared_bias,
                gated=op.kind == "dense" and op.activation == "relu" and next_kind == "dense",
                saves_pre=_saves_pre(op),
                delta_side=products % 2,
                lr_multiplier=op.lr_multiplier,
                epsilon=op.epsilon,
                momentum=op.momentum,
                dropout_rate=op.dropout_rate,
                negative_slope=op.negative_slope,
                buffer=op.buffer,
                n_in=op.n_in,
                n_out=op.n_out,
                weight=op.weight,
                bias=op.bias,
                l1=op.l1,
                l2=op.l2,
            )
        )
    return tuple(lowered)


def _saves_pre(op: OpSpec) -> bool:
    return op.facts.activates and not ACTIVATIONS[op.activation].saves_output


def _row_elements(ops: tuple[OpSpec, ...], ones: bool, line: int) -> int:
    """Elements per row of outputs (`ones`: and a row of ones behind each), what else is saved, and both deltas.

    `line`: elements of a cache line.
    """
    saved = 0
    for op in ops:
        per_feature, besides = op.facts.saved
        saved += op.n_out * (1 + _saves_pre(op) + per_feature) + besides + ones
    return _round_up(saved, line) + 2 * _round_up(max(op.n_out for op in ops), line)


class _Layout:
    """A running offset."""

    def __init__(self) -> None:
        self.end = 0

    def take(self, size: int) -> int:
        """Offset of the next `size` elements."""
        start, self.end = self.end, self.end + size
        return start


def _place_linearization(ops: tuple[OpSpec, ...]) -> tuple[tuple[Place, ...], int, int, int]:
    """Places of a linearization, and the elements kept per row, behind all rows, and of tangents per row.

    A dropout is the identity there, and has its input's places.
    """
    places: list[Place] = []
    rows, columns = _Layout(), _Layout()
    tangents = 0
    for op in ops:
        n = op.n_out
        if op.facts.drops and op.input >= 0:
            places.append(places[op.input]._replace(slope=-1, bend=-1, normalised=-1))
            continue
        out, delta = rows.take(n), rows.take(n)
        slope = bend = normalised = inv_std = first_column = -1
        tangents += 2 * n
        if op.facts.activates and op.activation != "linear":
            slope = rows.take(n)
            tangents += n
            if not ACTIVATIONS[op.activation].piecewise_linear:
                bend = rows.take(n)
        elif op.facts.normalises:
            normalised = rows.take(n)
            tangents += n
            if op.facts.couples_rows:
                first_column = columns.take(3 * n)
            else:
                inv_std = rows.take(1)
                tangents += 1
        places.append(Place(out, delta, slope, bend, normalised, inv_std, first_column))
    return tuple(places), rows.end, columns.end, tangents


def padding_waste(ops: Sequence[OpSpec], lanes: int) -> tuple[float, float]:
    """By how much row-major products with padded vectors exceed the multiplications needed, and the first layer's part.

    Parameters
    ----------
    ops : sequence of OpSpec
    lanes : int
        Elements of a vector.

    Returns
    -------
    waste : float
        Multiplications of the row-major products over those needed. 0 for networks that cannot run feature-major:
        every operation must be narrow and have such a form, and those that share parameters must share both or none,
        for both are accumulated together.
    first_share : float
        Share of the former in products with the data.
    """
    if not all(op.facts.feature_major and max(op.n_in, op.n_out) <= NARROW for op in ops):
        return 0.0, 0.0
    if not all((a.weight == b.weight) == (a.bias == b.bias) for a in ops for b in ops if _share_any(a, b)):
        return 0.0, 0.0
    work = needed = first = 0.0
    for op in ops:
        if not op.facts.has_weight:
            continue
        forward, transposed = op.n_in * _round_up(op.n_out, lanes), op.n_out * _round_up(op.n_in, lanes)
        if op.input < 0:  # the product and the gradient of W
            work += 2 * forward
            first += 2 * forward
            needed += 2 * op.n_in * op.n_out
        else:  # the gradient of W may be computed transposed
            work += forward + min(forward, transposed) + transposed
            needed += 3 * op.n_in * op.n_out
    return (work / needed, first / work) if needed > 0 else (0.0, 0.0)


def _share_any(a: OpSpec, b: OpSpec) -> bool:
    return a.weight == b.weight or a.bias == b.bias >= 0


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
