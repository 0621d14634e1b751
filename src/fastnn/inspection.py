"""Looking inside a network: what its layers compute on data, the gradient by parameter, and figures of each layer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np

from ._typing import ArrayLike, Data
from .curvature.linearization import Linearization
from .curvature.risk import EmpiricalRisk
from .linalg.memory import check_size
from .names import listing
from .network import Network
from .plan import OpSpec

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["SATURATION", "Activations", "LayerActivations", "Statistics", "activations", "gradients", "statistics"]
__dir__ = listing(__all__)

#: A value is saturated where |σ'(z)| is below this share of the largest |σ'| of its activation.
SATURATION = 0.005
#: Largest |σ'| of the activations for which it is far from 1.
_STEEPEST = {"sigmoid": 0.25}


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """What one layer computes on N rows.

    Attributes
    ----------
    index : int
        Of the layer in ``net.layers``.
    name : str
        As in ``net.summary()``, ``"0 Dense"``.
    pre_activations : ndarray (N, units)
        z, to which the layer applies its activation: X W + b of a dense layer, the input of an ``Activation``. Of a
        layer without activation its outputs, the same array.
    outputs : ndarray (N, units)
        What the next layer reads; of the last one what the loss reads.
    """

    index: int
    name: str
    pre_activations: np.ndarray
    outputs: np.ndarray


class Activations(Sequence[LayerActivations]):
    """What all layers compute on the same rows: a sequence in the order of the layers, also indexed by their names.

    Parameters
    ----------
    layers : iterable of LayerActivations
    """

    def __init__(self, layers: Sequence[LayerActivations]) -> None:
        self._layers = tuple(layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer.name for layer in self._layers)

    @overload
    def __getitem__(self, layer: int | str) -> LayerActivations: ...
    @overload
    def __getitem__(self, layer: slice) -> tuple[LayerActivations, ...]: ...
    def __getitem__(self, layer: int | str | slice) -> LayerActivations | tuple[LayerActivations, ...]:
        if isinstance(layer, str):
            if layer not in self.names:
                raise KeyError(f"no layer {layer!r}; there are {', '.join(map(repr, self.names))}")
            layer = self.names.index(layer)
        return self._layers[layer]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[LayerActivations]:
        return iter(self._layers)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{layer.name!r} {layer.outputs.shape}" for layer in self._layers)
        return f"Activations({sizes})"


def layer_names(net: Network) -> tuple[str, ...]:
    """Names of the layers as the summary prints them, ``"0 Dense"``."""
    return tuple(f"{index} {type(layer).__name__}" for index, layer in enumerate(net.layers))


def activations(net: Network, X: Data, *, training: bool = False, threads: int | None = None) -> Activations:
    """Pre-activations and outputs of all layers; see :meth:`fastnn.Sequential.activations`, which calls this."""
    risk = EmpiricalRisk(
        net, X, None, what="activations", second_order=False, targets=False, training=training, threads=threads
    )
    kept = [_has_pre_activations(op) for op in risk.ops]
    width = sum(op.n_out * (2 if own else 1) for op, own in zip(risk.ops, kept, strict=True))
    check_size("activations", (risk.n_rows, width), risk.dtype, None, "give it fewer rows")
    outputs = [np.empty((risk.n_rows, op.n_out), risk.dtype) for op in risk.ops]
    before = [np.empty_like(A) if own else A for A, own in zip(outputs, kept, strict=True)]
    lin: Linearization | None = None
    for rows in risk.chunks(risk.row_elements):
        lin = _linearized(risk, rows, lin)
        for i in range(len(risk.ops)):
            outputs[i][rows] = _outputs(lin, i, risk.ops)
            if kept[i]:
                before[i][rows] = _pre_activations(risk, lin, i)
    names = layer_names(net)
    return Activations(
        [LayerActivations(i, *parts) for i, parts in enumerate(zip(names, before, outputs, strict=True))]
    )


def gradients(
    net: Network,
    X: Data,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """The gradient by parameter; see :meth:`fastnn.Sequential.gradients`, which calls this."""
    flat = net.gradient(X, y, sample_weight=sample_weight, l1=l1, l2=l2, training=training, threads=threads)
    return {name: flat[at : at + math.prod(shape)].reshape(shape) for name, at, shape in net.layout}


@dataclass(frozen=True)
class Statistics:
    """What :meth:`fastnn.Sequential.statistics` found: a row of figures for each layer.

    Attributes
    ----------
    n_rows : int
        Rows that were looked at.
    layers : tuple of str
        Names of the layers, ``"0 Dense"``.
    activations : tuple of str
        Names of their activations; empty where a layer has none.
    figures : dict of ndarray (layers,)
        The columns of the table, by the names that :meth:`to_dict` lists, in float64; NaN where there is none.
    dead_units : dict of ndarray (units,) of bool
        By layer which units are dead; of the layers with an activation that is not linear.
    parameter_norms : dict of float
        By parameter ‖θ‖.
    gradient_norms : dict of float
        By parameter ‖∂J/∂θ‖; empty without targets.
    """

    n_rows: int
    layers: tuple[str, ...]
    activations: tuple[str, ...]
    figures: dict[str, np.ndarray] = field(repr=False)
    dead_units: dict[str, np.ndarray] = field(repr=False)
    parameter_norms: dict[str, float]
    gradient_norms: dict[str, float]

    def to_dict(self) -> dict[str, list[object]]:
        """The table as columns, a row per layer.

        ``layer``, ``activation``, ``units``; of all outputs of the layer ``mean``, ``std`` (with 1/n), ``min`` and
        ``max``, and of its pre-activations those with ``pre_``; ``dead``, the share of units, and ``saturated``, the
        share of values, at which the activation passes almost no gradient; the norms ``output_norm``, √(mean over
        the rows of ‖a‖²), ``weight_norm``, ‖W‖ (of a norm layer ‖γ‖), and ``bias_norm``, ‖b‖ (‖β‖). With targets also
        ``delta_norm``, √(mean over the rows of ‖∂ℓ/∂z‖²) with z the layer's pre-activations (a dropout, the identity
        here, has that of the layer before it), and ``gradient_norm``, ‖∂J/∂θ‖ of the layer's parameters.
        """
        names = {"layer": list(self.layers), "activation": list(self.activations)}
        return {**names, **{name: values.tolist() for name, values in self.figures.items()}}

    @property
    def table(self) -> DataFrame | dict[str, list[object]]:
        """:meth:`to_dict` as a DataFrame whose index is the layer, where pandas is installed; else the dict."""
        columns = self.to_dict()
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns).set_index("layer")

    def plot(self, path: str | os.PathLike[str] | None = None, *, title: str | None = None) -> np.ndarray:
        """Draw outputs, dead and saturated shares, and norms by layer; see :func:`fastnn.plotting.plot_statistics`."""
        from .plotting import plot_statistics

        return plot_statistics(self.to_dict(), path, title=title)

    def __repr__(self) -> str:
        shown = ["mean", "std", "min", "max", "dead", "saturated", "output_norm", "weight_norm"]
        shown += [name for name in ("delta_norm", "gradient_norm") if name in self.figures]
        rows = [["layer", "activation", "units", *(name.replace("_norm", " norm") for name in shown)]]
        for i, (layer, activation) in enumerate(zip(self.layers, self.activations, strict=True)):
            cells = [_cell(name, float(self.figures[name][i])) for name in shown]
            rows.append([layer, activation, f"{self.figures['units'][i]:.0f}", *cells])
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join([f"{row[0]:<{widths[0]}}", f"{row[1]:<{widths[1]}}", *map(str.rjust, row[2:], widths[2:])])
            for row in rows
        ]
        about = f"Statistics of {len(self.layers)} layers on {self.n_rows:,} row{'s' if self.n_rows > 1 else ''}"
        return "\n".join([about, "", *(line.rstrip() for line in lines)])


def _cell(name: str, value: float) -> str:
    if math.isnan(value) and name in ("dead", "saturated", "weight_norm", "gradient_norm"):
        return ""
    return f"{100 * value:.1f} %" if name in ("dead", "saturated") else f"{value:.3g}"


def statistics(
    net: Network,
    X: Data,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    training: bool = False,
    threads: int | None = None,
) -> Statistics:
    """Figures of each layer; see :meth:`fastnn.Sequential.statistics`, which calls this."""
    if y is None:
        for name, given in (("sample_weight", sample_weight is not None), ("l1", l1 != 0.0), ("l2", l2 != 0.0)):
            if given:
                raise ValueError(f"{name}: expected none without targets y, of whose gradient it is a part")
    found: dict[str, np.ndarray] = {}
    if y is not None:
        found = gradients(net, X, y, sample_weight=sample_weight, l1=l1, l2=l2, training=training, threads=threads)
    risk = EmpiricalRisk(
        net,
        X,
        y,
        what="statistics",
        second_order=False,
        targets=y is not None,
        sample_weight=sample_weight,
        training=training,
        threads=threads,
    )
    sums = [_LayerSums(op) for op in risk.ops]
    lin: Linearization | None = None
    for rows in risk.chunks(2 * risk.row_elements):
        lin = _linearized(risk, rows, lin)
        for i, layer in enumerate(sums):
            layer.add(_pre_activations(risk, lin, i), _outputs(lin, i, risk.ops), lin.slope(i))
            if y is not None:
                layer.delta += _square(lin.delta(_not_dropout(risk.ops, i)))
    return _report(net, sums, found, risk.n_rows)


def _report(net: Network, sums: list[_LayerSums], gradient: dict[str, np.ndarray], n_rows: int) -> Statistics:
    """The sums over all rows as a report."""
    parameters = {name: _norm(values) for name, values in net.parameters.items()}
    gradient_norms = {name: _norm(values) for name, values in gradient.items()}
    rows: list[dict[str, float]] = []
    for i, layer in enumerate(sums):
        own = [name for name in parameters if name.startswith(f"{i}.")]
        row = {"units": float(net.ops[i].n_out), **layer.figures(n_rows)}
        row |= dict.fromkeys(("weight_norm", "bias_norm"), math.nan)
        for name in own:
            row["bias_norm" if name.endswith((".bias", ".beta")) else "weight_norm"] = parameters[name]
        if gradient:
            row["delta_norm"] = math.sqrt(layer.delta / n_rows)
            row["gradient_norm"] = math.hypot(*(gradient_norms[name] for name in own)) if own else math.nan
        rows.append(row)
    names = layer_names(net)
    dead = {name: layer.dead for name, layer in zip(names, sums, strict=True) if layer.dead is not None}
    figures = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    shown = tuple(op.sigma if op.facts.activates else "" for op in net.ops)
    return Statistics(n_rows, names, shown, figures, dead, parameters, gradient_norms)


class _Moments:
    """Mean, variance and extremes of values that come in parts (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0
        self.least, self.most = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        mean = float(values.mean(dtype=np.float64))
        step = mean - self.mean
        n = self.n + values.size
        with np.errstate(invalid="ignore", over="ignore"):  # of values that are not finite the figures are not either
            self.squares += _square(values.astype(np.float64) - mean) + step * step * self.n * values.size / n
        self.mean += step * values.size / n
        self.n = n
        # np.minimum keeps a NaN, where min() does not
        self.least = float(np.minimum(self.least, values.min()))
        self.most = float(np.maximum(self.most, values.max()))

    def figures(self, prefix: str) -> dict[str, float]:
        deviation = math.sqrt(self.squares / self.n)
        figures = {"mean": self.mean, "std": deviation, "min": self.least, "max": self.most}
        return {prefix + name: value for name, value in figures.items()}


class _LayerSums:
    """What the chunks of rows add up to for one layer."""

    def __init__(self, op: OpSpec) -> None:
        self.outputs, self.before = _Moments(), _Moments()
        self.norm2 = self.delta = 0.0
        self.saturated = 0
        self.dead: np.ndarray | None = None
        self._least = SATURATION * _STEEPEST.get(op.activation, 1.0)

    def add(self, before: np.ndarray, outputs: np.ndarray, slope: np.ndarray | None) -> None:
        self.outputs.add(outputs)
        self.before.add(before)
        self.norm2 += _square(outputs)
        if slope is not None:
            flat = np.abs(slope) < self._least
            self.saturated += int(np.count_nonzero(flat))
            unit = flat.all(axis=0)
            self.dead = unit if self.dead is None else self.dead & unit

    def figures(self, n_rows: int) -> dict[str, float]:
        activates = self.dead is not None
        return {
            **self.outputs.figures(""),
            **self.before.figures("pre_"),
            "dead": float(self.dead.mean()) if self.dead is not None else math.nan,
            "saturated": self.saturated / self.outputs.n if activates else math.nan,
            "output_norm": math.sqrt(self.norm2 / n_rows),
        }


def _square(values: np.ndarray) -> float:
    """Σ v² in float64."""
    flat = values.astype(np.float64).ravel()
    return float(flat @ flat)


def _norm(values: np.ndarray) -> float:
    return math.sqrt(_square(values))


def _linearized(risk: EmpiricalRisk, rows: slice, into: Linearization | None) -> Linearization:
    """The network at some rows, each of weight 1: with targets by the loss, without by a cotangent of zeros."""
    if risk.y is not None:
        return risk.linearize(rows, weighted=False, into=into)
    cotangent = np.zeros((rows.stop - rows.start, risk.n_outputs), risk.dtype)
    return risk.linearize(rows, cotangent=cotangent, into=into)


def _outputs(lin: Linearization, i: int, ops: Sequence[OpSpec]) -> np.ndarray:
    return lin.inputs(i + 1) if i + 1 < len(ops) else lin.outputs


def _not_dropout(ops: Sequence[OpSpec], i: int) -> int:
    """The op itself, or the one before a dropout, which is the identity here and may share what is kept of it."""
    while i > 0 and ops[i].facts.drops:
        i -= 1
    return i


def _has_pre_activations(op: OpSpec) -> bool:
    """Whether an op's pre-activations are others than its outputs."""
    return op.facts.activates and op.activation != "linear"


def _pre_activations(risk: EmpiricalRisk, lin: Linearization, i: int) -> np.ndarray:
    """What op i applies its activation to: a linearization keeps inputs and outputs, and not this."""
    op = risk.ops[i]
    if not _has_pre_activations(op):
        return _outputs(lin, i, risk.ops)
    if not op.facts.has_weight:
        return lin.inputs(i)
    W = risk.theta[op.weight : op.weight + op.weight_size].reshape(op.n_in, op.n_out)
    b = risk.theta[op.bias : op.bias + op.n_out] if op.bias >= 0 else None
    Z: np.ndarray = risk.kernels.dense_forward.unchecked(np.ascontiguousarray(lin.inputs(i)), W, b, "linear")[1]
    return Z
