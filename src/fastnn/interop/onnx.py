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
from .steps import LayerNormStep, Product, Step, find_network, steps_of

__all__ = ["to_onnx"]

OPSET = 17  # the first with LayerNormalization
OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
IR_VERSION = 8  # that opset's own; runtimes refuse versions that they do not know


def to_onnx(model: object) -> Any:
    """A network or a fitted estimator as an ONNX model.

    Parameters
    ----------
    model : Sequential, Ensemble or estimator
        As it predicts: dropout is left out, batch norm is folded into the product before it.

    Returns
    -------
    onnx.ModelProto
        One input ``X`` (N, D) of the network's dtype. A classifier has the outputs ``label`` and ``probabilities``, as
        skl2onnx names them without its ZipMap: label is (N,), int64 or what the estimator's classes are, or (N, K) of 0
        and 1 for several labels; probabilities are (N, K), with two columns for two classes, of the network's dtype. A
        regression has ``variable`` (N, K).

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError, TypeError
        If the model is none of fastnn's, or not fitted, or has classes that ONNX cannot hold.

    Notes
    -----
    Operators of opset 17, IR version 8, so that runtimes from 2022 on read it. Folding is done in float64. ONNX Runtime
    gives the network's own outputs to rounding, but for gelu in float64: its error function has float32's digits there.

    Examples
    --------
    >>> import fastnn as fnn
    >>> net = fnn.Sequential([fnn.Dense(8, "relu"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    >>> [output.name for output in fnn.to_onnx(net).graph.output]
    ['label', 'probabilities']
    """
    if isinstance(model, Ensemble):
        net, estimator = model.networks[0], None
    else:
        net, estimator = find_network(model)
    onnx = need("onnx", "to_onnx", '"fastnn[onnx]"')
    graph = _Graph(onnx, net.dtype)
    z = graph.ensemble(model) if isinstance(model, Ensemble) else graph.network(net, "X")
    real = graph.kind
    integer = onnx.TensorProto.INT64
    k, link = net.n_outputs, net.loss_function.inverse_link
    classes = None if estimator is None else getattr(estimator, "classes_", None)
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
    inputs = [info("X", real, ["N", net.input_size])]
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
        self.kind = onnx.TensorProto.FLOAT if dtype == np.float32 else onnx.TensorProto.DOUBLE
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A node; the name of its output."""
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def constant(self, values: np.ndarray) -> str:
        """A constant tensor; float64 becomes the network's dtype."""
        name = f"c{len(self.constants)}"
        if values.dtype == np.float64:
            values = values.astype(self._dtype)
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, value: float) -> str:
        """A constant number of the network's dtype."""
        return self.constant(np.array(value, np.float64))

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
        if isinstance(step, str):
            return self.activation(step, x)
        if isinstance(step, Product):
            return self.activation(step.activation, self.add("Gemm", x, self.constant(step.W), self.constant(step.b)))
        if isinstance(step, LayerNormStep):
            weights = self.constant(step.gamma), self.constant(step.beta)
            return self.add("LayerNormalization", x, *weights, axis=-1, epsilon=step.epsilon)
        centred = self.add("Sub", x, self.constant(step.mean))
        return self.add("Add", self.add("Mul", centred, self.constant(step.scale)), self.constant(step.shift))

    def activation(self, name: str, x: str) -> str:
        """An activation, made of operators that ONNX Runtime has in float64 too."""
        return self._formula(ast.parse(ACTIVATIONS[name].formula, mode="eval").body, x)

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
        integer, text = self._onnx.TensorProto.INT64, self._onnx.TensorProto.STRING
        if classes is None:
            self.add("Identity", codes, out="label")
            return info("label", integer, ["N"])
        if classes.dtype.kind in "biu":
            values, kind = classes.astype(np.int64), integer
        elif all(isinstance(label, str) for label in classes.tolist()):
            values, kind = classes.astype(object), text
        else:
            raise TypeError(f"classes must be integers or str for ONNX, got {classes.dtype} such as {classes[0]!r}")
        if len(values) == 1:  # the other one's probability is that of nothing
            values = np.concatenate([values, values])
        self.add("Gather", self.constant(values), codes, out="label")
        return info("label", kind, ["N"])
