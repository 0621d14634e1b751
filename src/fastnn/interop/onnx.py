"""Networks and estimators as ONNX models."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from .._typing import DType
from .._version import __version__
from ..files import need
from ..plan import ACTIVATIONS
from ..sequential import Sequential
from ..sweeps import Ensemble
from .pipelines import Preprocessing, TableStep, preprocessing_of, unwrapped
from .steps import ActivationStep, LayerNormStep, Product, Step, find_network, steps_of

__all__ = ["to_onnx"]

OPSET = 17  # the first with LayerNormalization
OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
IR_VERSION = 8  # that opset's own; runtimes refuse versions that they do not know


def to_onnx(model: object) -> Any:
    """A network or a fitted estimator as an ONNX model.

    Parameters
    ----------
    model : Sequential, Ensemble, estimator or sklearn.pipeline.Pipeline
        As it predicts: dropout is left out, batch norm is folded into the product before it. A Pipeline ends in an
        estimator of fastnn; the steps before are StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, and
        `TableEncoder` of columns of numbers, missing ones (nan) included. A search stands for its best estimator.

    Returns
    -------
    onnx.ModelProto
        One input ``X`` (N, D) of the network's dtype, or float64 where a `TableEncoder` reads it; its columns are in
        the order of the rows learnt from. A classifier has the outputs ``label`` and ``probabilities``, as skl2onnx
        names them without its ZipMap. label is (N,): strings, or int64 for numbers and bool, as skl2onnx does for
        0.0, 1.0, 2.0 too (uint64 for numbers beyond), or (N, K) of 0 and 1 for several labels. probabilities are
        (N, K), with two columns for two classes, of the network's dtype. A regression has
        ``variable`` (N, K).

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError, TypeError
        If the model is none of fastnn's, or not fitted, or has classes that ONNX cannot hold; or a step of a Pipeline
        is another one, which the message names.

    Notes
    -----
    Operators of opset 17, IR version 8, so that runtimes from 2022 on read it. Folding is done in float64. ONNX Runtime
    gives the network's own outputs to rounding, but for gelu in float64: its error function has float32's digits there.
    Layer norm is composed of means in float64: the operator LayerNormalization has an epsilon in float32. Rows whose
    squared deviations overflow (from 1e19 on in float32), which the network normalises, come out wrong, in ONNX Runtime
    as zeros.

    Examples
    --------
    >>> import fastnn as fnn
    >>> net = fnn.Sequential([fnn.Dense(8, "relu"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    >>> [output.name for output in fnn.to_onnx(net).graph.output]
    ['label', 'probabilities']
    """
    transformers, model = unwrapped(model)
    if isinstance(model, Ensemble):
        net, estimator = model.networks[0], None
    else:
        net, estimator = find_network(model)
    parts = preprocessing_of(transformers, "to_onnx")
    onnx = need("onnx", "to_onnx", '"fastnn[onnx]"')
    graph = _Graph(onnx, net.dtype)
    source = np.dtype(np.float64) if any(isinstance(part, TableStep) for part in parts) else net.dtype
    x = graph.preprocessing(parts, "X", source)
    z = graph.ensemble(model) if isinstance(model, Ensemble) else graph.network(net, x)
    real = graph.kind
    integer = onnx.TensorProto.INT64
    k, link = net.n_outputs, net.loss_function.inverse_link
    classes = getattr(net if estimator is None else estimator, "classes_", None)
    info = onnx.helper.make_tensor_value_info
    if not net.loss_function.classifies:
        graph.add("Exp" if link == "exp" else "Identity", z, out="variable")
        outputs = [info("variable", real, ["N", k])]
    elif link == "softmax":
        graph.add("Softmax", z, out="probabilities", axis=1)
        codes = graph.add("ArgMax", z, axis=1, keepdims=0)
        outputs = [graph.labels(codes, classes), info("probabilities", real, ["N", k])]
    else:
        codes = graph.add("Cast", graph.add("Greater", z, graph.number(0.0)), to=integer)
        if k == 1:
            both = graph.add("Concat", graph.add("Neg", z), z, axis=1)
            graph.add("Sigmoid", both, out="probabilities")
            codes = graph.add("Squeeze", codes, graph.constant(np.array([1], np.int64)))
            outputs = [graph.labels(codes, classes), info("probabilities", real, ["N", 2])]
        else:
            graph.add("Sigmoid", z, out="probabilities")
            graph.add("Identity", codes, out="label")
            outputs = [info("label", integer, ["N", k]), info("probabilities", real, ["N", k])]
    n_in = transformers[0][1].n_features_in_ if transformers else net.input_size
    inputs = [info("X", graph.type_of(source), ["N", n_in])]
    result = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "fastnn", inputs, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastnn",
        producer_version=__version__,
    )
    onnx.checker.check_model(result)
    return result


class _Graph:
    """Nodes and constants of an ONNX graph in the making."""

    def __init__(self, onnx: Any, dtype: DType) -> None:
        self._onnx, self._dtype = onnx, dtype
        self.kind = self.type_of(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def type_of(self, dtype: DType) -> int:
        """ONNX's code of a dtype."""
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A node; the name of its output."""
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def constant(self, values: np.ndarray, exact: bool = False) -> str:
        """A constant tensor; float64 becomes the network's dtype, unless it is to stay exact."""
        name = f"c{len(self.constants)}"
        if values.dtype == np.float64 and not exact:
            values = values.astype(self._dtype)
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, value: float) -> str:
        """A constant number of the network's dtype."""
        return self.constant(np.array(value, np.float64))

    def preprocessing(self, parts: list[Preprocessing], x: str, dtype: DType) -> str:
        """What the steps of a Pipeline make of x, which is of that dtype; of the network's dtype."""
        for part in parts:
            if isinstance(part, TableStep):
                x, dtype = self.table(part, self.cast(x, dtype, np.dtype(np.float64))), part.dtype
                continue
            values = part.values.astype(dtype) if part.rounded else part.values
            wide = np.result_type(dtype, values)
            x = self.add(part.operator, self.cast(x, dtype, wide), self.constant(values.astype(wide), exact=True))
            x = self.cast(x, wide, dtype)
        return self.cast(x, dtype, self._dtype)

    def table(self, part: TableStep, x: str) -> str:
        """The columns that a TableEncoder makes of a table of float64."""

        def number(values: np.ndarray | float) -> str:
            return self.constant(np.asarray(values, np.float64), exact=True)

        x = self.add("Gather", x, self.constant(part.columns), axis=1)
        missing = self.add("IsNaN", x)
        z = self.add("Sub", x, number(part.center))
        z = self.add("Div", z, number(np.where(part.scale == 0.0, 1.0, part.scale)))
        z = self.add("Min", self.add("Max", z, number(-part.limit)), number(part.limit))
        ratio = self.add("Div", z, number(part.bound))
        z = self.add("Div", z, self.add("Sqrt", self.add("Add", self.add("Mul", ratio, ratio), number(1.0))))
        empty = self.add("Or", missing, self.constant(part.scale == 0.0))
        z = self.add("Where", empty, number(0.0), z)
        if len(part.indicators):
            flags = self.add("Gather", missing, self.constant(part.indicators), axis=1)
            z = self.add("Concat", z, self.add("Cast", flags, to=self._onnx.TensorProto.DOUBLE), axis=1)
            z = self.add("Gather", z, self.constant(part.order), axis=1)
        return self.cast(z, np.dtype(np.float64), part.dtype)

    def cast(self, x: str, dtype: DType, to: DType) -> str:
        """A tensor of one dtype in another one."""
        return x if dtype == to else self.add("Cast", x, to=self.type_of(to))

    def network(self, net: Sequential, x: str) -> str:
        """The outputs z of a network."""
        for step in steps_of(net):
            x = self.step(step, x)
        return x

    def ensemble(self, ensemble: Ensemble) -> str:
        """What the link makes of the mean of the networks' predictions."""
        link = ensemble.loss_function.inverse_link
        mean = ""
        for weight, net in zip(ensemble.weights, ensemble.networks, strict=True):
            if net.dtype != self._dtype:
                raise ValueError(f"expected networks of one dtype for ONNX, got {self._dtype} and {net.dtype}")
            z = self.network(net, "X")
            if link == "softmax":
                z = self.add("Softmax", z, axis=1)
            elif link != "identity":
                z = self.add(link.capitalize(), z)
            part = self.add("Mul", z, self.number(float(weight)))
            mean = self.add("Add", mean, part) if mean else part
        if link == "identity":
            return mean
        tiny = self.number(float(np.finfo(self._dtype).tiny))
        z = self.add("Log", self.add("Max", mean, tiny))
        if link != "sigmoid":
            return z
        rest = self.add("Max", self.add("Sub", self.number(1.0), mean), tiny)
        return self.add("Sub", z, self.add("Log", rest))

    def step(self, step: Step, x: str) -> str:
        """The nodes of a step."""
        if isinstance(step, ActivationStep):
            return self.activation(step, x)
        if isinstance(step, Product):
            return self.activation(step.activation, self.add("Gemm", x, self.constant(step.W), self.constant(step.b)))
        if isinstance(step, LayerNormStep):
            weights = self.constant(step.gamma), self.constant(step.beta)
            if self._dtype == np.float32:
                return self.add("LayerNormalization", x, *weights, axis=-1, epsilon=step.epsilon)
            centred = self.add("Sub", x, self.add("ReduceMean", x, axes=[1]))
            variance = self.add("ReduceMean", self.add("Mul", centred, centred), axes=[1])
            deviation = self.add("Sqrt", self.add("Add", variance, self.number(step.epsilon)))
            return self.add("Add", self.add("Mul", self.add("Div", centred, deviation), weights[0]), weights[1])
        centred = self.add("Sub", x, self.constant(step.mean))
        return self.add("Add", self.add("Mul", centred, self.constant(step.scale)), self.constant(step.shift))

    def activation(self, step: ActivationStep, x: str) -> str:
        """An activation, made of operators that ONNX Runtime has in float64 too."""
        formula = ACTIVATIONS[step.name].formula.replace("negative_slope", repr(step.negative_slope))
        return self._formula(ast.parse(formula, mode="eval").body, x)

    def _formula(self, part: ast.expr, z: str) -> str:
        """The nodes of a part of an activation's formula."""
        match part:
            case ast.Name("z"):
                return z
            case ast.Constant(float() | int() as value):
                return self.number(value)
            case ast.UnaryOp(ast.USub(), ast.Constant(float() | int() as value)):
                return self.number(-value)
            case ast.UnaryOp(ast.USub(), operand):
                return self.add("Neg", self._formula(operand, z))
            case ast.BinOp(left, operator, right):
                return self.add(OPERATORS[type(operator)], self._formula(left, z), self._formula(right, z))
            case ast.Call(ast.Name("erf"), [argument]) if self._dtype == np.float64:
                # ONNX Runtime has erf in float32 alone
                single = self.add("Cast", self._formula(argument, z), to=self._onnx.TensorProto.FLOAT)
                return self.add("Cast", self.add("Erf", single), to=self.kind)
            case ast.Call(ast.Name(function), arguments):
                return self.add(function.capitalize(), *(self._formula(argument, z) for argument in arguments))
        raise ValueError(f"ONNX has no counterpart of {ast.unparse(part)!r} in the formula of an activation")

    def labels(self, codes: str, classes: np.ndarray | None) -> Any:
        """The output ``label``: codes, or the classes that they stand for."""
        info = self._onnx.helper.make_tensor_value_info
        if classes is None:
            self.add("Identity", codes, out="label")
            return info("label", self._onnx.TensorProto.INT64, ["N"])
        values = _tensor_of(classes)
        kind = self._onnx.TensorProto.STRING if values.dtype == object else self.type_of(values.dtype)
        if len(values) == 1:  # the other one's probability is that of nothing
            values = np.concatenate([values, values])
        self.add("Gather", self.constant(values, exact=True), codes, out="label")
        return info("label", kind, ["N"])


def _tensor_of(classes: np.ndarray) -> np.ndarray:
    """Classes in a dtype of ONNX: numbers as int64, as skl2onnx has them; floats that are classes are whole."""
    if all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    if classes.dtype.kind not in "biuf":
        raise TypeError(f"classes must be numbers, bool or str for ONNX, got {classes.dtype} such as {classes[0]!r}")
    beyond = classes.dtype.kind == "u" and int(classes.max()) > np.iinfo(np.int64).max
    return classes.astype(np.uint64 if beyond else np.int64)
