"""Models to and from ONNX, PyTorch and scikit-learn; each of these packages is loaded when it is asked for.

What is translated, whatever the direction: torch's ``Linear`` holds the transpose of our weight; torch's batch-norm
momentum is 1 − ours, and its running variance counts with N / (N − 1), where ours has 1/N and no trace of its start;
the softmax, sigmoid or exponential that is inside our losses stands as the last operation where the other side has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .files import need
from .layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm
from .reference import ops as reference_ops
from .sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch"]

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8  # that opset's own; runtimes refuse versions that they do not know


def _network(model: Any) -> tuple[Sequential, Any]:
    """The network of a model, and the model if it is an estimator."""
    if isinstance(model, Sequential):
        return model, None
    net = getattr(model, "network_", None)
    if isinstance(net, Sequential):
        return net, model
    if hasattr(model, "get_params") and type(model).__module__.startswith("fastnn."):
        raise ValueError(f"{type(model).__name__} is not fitted")
    raise TypeError(f"expected a Sequential or an estimator of fastnn, got {type(model).__name__}")


class _Affine(NamedTuple):
    """x ↦ (x − mean) · scale + shift, column by column, in float64."""

    mean: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


class _Product(NamedTuple):
    """x ↦ σ(x W + b), in float64."""

    W: np.ndarray
    b: np.ndarray
    activation: str


class _LayerNorm(NamedTuple):
    gamma: np.ndarray
    beta: np.ndarray
    epsilon: float


_Step = _Affine | _Product | _LayerNorm | str  # str: an activation


def _steps(net: Sequential) -> list[_Step]:
    """What the network computes outside of training; a batch norm behind a linear product is folded into it."""
    theta, state = net.theta.astype(np.float64), net.state.astype(np.float64)
    steps: list[_Step] = []
    if net.input_scale is not None:
        n = net.input_size
        steps.append(_Affine(np.zeros(n), np.full(n, net.input_scale), np.zeros(n)))
    for op in net.ops:
        n = op.n_out
        if op.kind == "dense":
            b = theta[op.bias : op.bias + n] if op.bias >= 0 else np.zeros(n)
            W = theta[op.weight : op.weight + op.n_in * n].reshape(op.n_in, n)
            steps.append(_Product(W, b, op.activation))
        elif op.kind == "activation":
            last = steps[-1] if steps else None
            if isinstance(last, _Product) and last.activation == "linear":
                steps[-1] = last._replace(activation=op.activation)
            else:
                steps.append(op.activation)
        elif op.kind == "layer_norm":
            steps.append(_LayerNorm(theta[op.weight : op.weight + n], theta[op.bias : op.bias + n], op.epsilon))
        elif op.kind == "standardize":
            steps.append(_Affine(state[op.state : op.state + n], state[op.state + n : op.state + 2 * n], np.zeros(n)))
        elif op.kind == "batch_norm":
            mean, variance = reference_ops._running(op, state)
            scale = theta[op.weight : op.weight + n] / np.sqrt(variance + op.epsilon)
            norm = _Affine(mean, scale, theta[op.bias : op.bias + n])
            last = steps[-1] if steps else None
            if isinstance(last, _Product) and last.activation == "linear":
                steps[-1] = _Product(last.W * scale, (last.b - mean) * scale + norm.shift, "linear")
            else:
                steps.append(norm)
    return steps


def _into_products(steps: list[_Step], purpose: str) -> list[_Product]:
    """Steps as products alone: what stands before a product is folded into it too."""
    products: list[_Product] = []
    waiting: _Affine | None = None
    for step in steps:
        if isinstance(step, _Affine):
            if waiting is not None:  # ((x − m) s + h − m') s' + h'
                step = _Affine(
                    waiting.mean, waiting.scale * step.scale, (waiting.shift - step.mean) * step.scale + step.shift
                )
            waiting = step
            continue
        if not isinstance(step, _Product):
            what = "LayerNorm" if isinstance(step, _LayerNorm) else f"Activation({step!r}) that follows no Dense layer"
            raise ValueError(f"{purpose} has no counterpart of {what}")
        if waiting is not None:
            W = waiting.scale[:, None] * step.W
            step = _Product(W, step.b - waiting.mean @ W + waiting.shift @ step.W, step.activation)
            waiting = None
        products.append(step)
    if waiting is not None:
        raise ValueError(f"{purpose} has no counterpart of a normalisation after the last Dense layer")
    return products


# ------------------------------------------------------------------ ONNX


def to_onnx(model: Any) -> Any:
    """A network or a fitted estimator as an ONNX model.

    Parameters
    ----------
    model : Sequential or estimator
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
    net, estimator = _network(model)
    onnx = need("onnx", "to_onnx", '"fastnn[onnx]"')
    graph = _Graph(onnx, net.dtype)
    z = "X"
    for step in _steps(net):
        z = graph.step(step, z)
    real = graph.kind
    integer = onnx.TensorProto.INT64
    k, link = net.n_outputs, net.loss_function.link
    classes = None if estimator is None else getattr(estimator, "classes_", None)
    info = onnx.helper.make_tensor_value_info
    if not net.loss_function.classifies:
        graph.add("Exp" if link == "log" else "Identity", z, out="variable")
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
    from ._version import __version__

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

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
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

    def step(self, step: _Step, x: str) -> str:
        """The nodes of a step."""
        if isinstance(step, str):
            return self.activation(step, x)
        if isinstance(step, _Product):
            return self.activation(step.activation, self.add("Gemm", x, self.constant(step.W), self.constant(step.b)))
        if isinstance(step, _LayerNorm):
            weights = self.constant(step.gamma), self.constant(step.beta)
            return self.add("LayerNormalization", x, *weights, axis=-1, epsilon=step.epsilon)
        centred = self.add("Sub", x, self.constant(step.mean))
        return self.add("Add", self.add("Mul", centred, self.constant(step.scale)), self.constant(step.shift))

    def activation(self, name: str, x: str) -> str:
        """An activation, made of operators that ONNX Runtime has in float64 too."""
        simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "sign": "Sign"}
        if name == "linear":
            return x
        if name in simple:
            return self.add(simple[name], x)
        if name == "hard_tanh":
            return self.add("Min", self.add("Max", x, self.number(-1.0)), self.number(1.0))
        if name == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if name == "gelu":
            erf = self.add("Mul", x, self.number(np.sqrt(0.5)))
            if self._dtype == np.float64:  # ONNX Runtime has erf in float32 alone
                single = self.add("Cast", erf, to=self._onnx.TensorProto.FLOAT)
                erf = self.add("Cast", self.add("Erf", single), to=self.kind)
            else:
                erf = self.add("Erf", erf)
            half = self.add("Mul", x, self.number(0.5))
            return self.add("Mul", half, self.add("Add", erf, self.number(1.0)))
        above = self.add("Max", x, self.number(0.0))
        if name == "softplus":
            small = self.add("Exp", self.add("Neg", self.add("Abs", x)))
            return self.add("Add", above, self.add("Log", self.add("Add", small, self.number(1.0))))
        below = self.add("Min", x, self.number(0.0))
        if name == "elu":
            return self.add("Add", above, self.add("Sub", self.add("Exp", below), self.number(1.0)))
        right = self.add("Tanh", above) if name == "leaky_tanh" else above
        return self.add("Add", right, self.add("Mul", below, self.number(0.01)))

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


# ------------------------------------------------------------------ PyTorch

# Names in torch.nn of the activations that it has, with their arguments.
_TORCH_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "tanh": ("Tanh", {}),
    "hard_tanh": ("Hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {"beta": 1.0}),
    "elu": ("ELU", {"alpha": 1.0}),
    "gelu": ("GELU", {}),
    "silu": ("SiLU", {}),
}


def to_torch(model: Any) -> Any:
    """A network or a fitted estimator as a ``torch.nn.Sequential`` of its own parameters.

    Parameters
    ----------
    model : Sequential or estimator

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode; gives what :meth:`Sequential.decision_function` gives, as (N, K): logits, or log rates of
        poisson, for torch's losses have their softmax and sigmoid inside too.

    Raises
    ------
    ImportError
        If torch is not installed.
    ValueError, TypeError
        If the model is none of fastnn's or not fitted, or a layer has no counterpart: the activations leaky_tanh and
        sign; a ``Standardize``, or an `input_scale`, that no ``Dense`` layer follows.

    Notes
    -----
    A ``Dense`` layer becomes a ``Linear`` and its activation. Batch norm keeps its statistics as they count in
    predictions (bias-corrected, variance with 1/N), so that the outputs are the same; in torch's training they move on
    by torch's rule, towards the variance with 1/(N − 1). ``Standardize`` and `input_scale` are folded into the
    ``Linear`` behind them. torch's Softplus is linear above 20, which is 2e-9 less.
    """
    net, _ = _network(model)
    torch = need("torch", "to_torch", "torch")
    nn = torch.nn
    kind = getattr(torch, net.dtype.name)
    theta, state = net.theta, net.state
    modules: list[Any] = []
    before: list[_Step] = []
    if net.input_scale is not None:
        n = net.input_size
        before.append(_Affine(np.zeros(n), np.full(n, net.input_scale), np.zeros(n)))

    def fill(parameter: Any, values: np.ndarray) -> None:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(values, net.dtype)))

    def activate(name: str) -> None:
        if name == "linear":
            return
        if name not in _TORCH_ACTIVATIONS:
            raise ValueError(f"torch has no counterpart of the activation {name!r}")
        cls, arguments = _TORCH_ACTIVATIONS[name]
        modules.append(getattr(nn, cls)(**arguments))

    for op, layer in zip(net.ops, net.layers, strict=True):
        n = op.n_out
        if op.kind == "standardize":
            mean, scale = state[op.state : op.state + 2 * n].reshape(2, n).astype(np.float64)
            before.append(_Affine(mean, scale, np.zeros(n)))
            continue
        if before and op.kind not in ("dense", "dropout"):
            raise ValueError(f"torch has no counterpart of a scaled input that goes into {layer!r}")
        if op.kind == "dense":
            b = theta[op.bias : op.bias + n] if op.bias >= 0 else np.zeros(n)
            W = theta[op.weight : op.weight + op.n_in * n].reshape(op.n_in, n)
            if before:
                product = _Product(W.astype(np.float64), b.astype(np.float64), "linear")
                W, b, _ = _into_products([*before, product], "torch")[0]
            has_bias = op.bias >= 0 or bool(before)
            before = []
            linear = nn.Linear(op.n_in, n, bias=has_bias, dtype=kind)
            fill(linear.weight, W.T)
            if has_bias:
                fill(linear.bias, b)
            modules.append(linear)
            activate(op.activation)
        elif op.kind == "activation":
            activate(op.activation)
        elif op.kind == "dropout":
            modules.append(nn.Dropout(op.drop))
        elif op.kind == "layer_norm":
            norm = nn.LayerNorm(n, eps=op.epsilon, dtype=kind)
            fill(norm.weight, theta[op.weight : op.weight + n])
            fill(norm.bias, theta[op.bias : op.bias + n])
            modules.append(norm)
        else:
            mean, variance = reference_ops._running(op, state)
            norm = nn.BatchNorm1d(n, eps=op.epsilon, momentum=1.0 - op.momentum, dtype=kind)
            fill(norm.weight, theta[op.weight : op.weight + n])
            fill(norm.bias, theta[op.bias : op.bias + n])
            fill(norm.running_mean, mean)
            fill(norm.running_var, variance)
            norm.num_batches_tracked.fill_(int(state[op.state + 2 * n]))
            modules.append(norm)
    return nn.Sequential(*modules).eval()


def from_torch(module: Any, *, loss: Any = None) -> Sequential:
    """A network with the parameters of a ``torch.nn.Sequential``.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, BatchNorm1d, LayerNorm, Dropout, Identity, the activations ReLU, LeakyReLU(0.01), Tanh, Hardtanh,
        Sigmoid, Softplus, ELU, GELU, SiLU, and ``Sequential`` of them; in float32 or float64. A last Softmax or
        LogSoftmax, or Sigmoid, is left out: it is inside the loss.
    loss : str or Loss, optional
        Of the network. None is ``"cross_entropy"`` behind a softmax and ``"binary_cross_entropy"`` behind a last
        sigmoid; otherwise it must be given.

    Returns
    -------
    Sequential
        Its `decision_function` is the module's output in evaluation mode, without that last softmax or sigmoid.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError, ValueError
        If the module is of another kind, or has a part or an option that has no counterpart; the message names it.

    Notes
    -----
    Batch norm's running variance is taken as it is, although torch's counts with N / (N − 1): the outputs are the same.
    """
    torch = need("torch", "from_torch", "torch")
    nn = torch.nn
    if not isinstance(module, nn.Sequential):
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}")
    parts = [part for part in _flatten(nn, module) if not isinstance(part, nn.Identity)]
    names = {getattr(nn, cls): (name, arguments) for name, (cls, arguments) in _TORCH_ACTIVATIONS.items()}
    if parts and isinstance(parts[-1], (nn.Softmax, nn.LogSoftmax)):
        parts.pop()
        loss = "cross_entropy" if loss is None else loss
    elif parts and isinstance(parts[-1], nn.Sigmoid) and loss in (None, "binary_cross_entropy"):
        parts.pop()
        loss = "binary_cross_entropy"
    if loss is None:
        raise ValueError("loss: expected the name of a loss, since the module does not end in a softmax or a sigmoid")
    layers: list[Layer] = []
    values: list[dict[str, np.ndarray]] = []
    width: int | None = None
    kinds: set[Any] = set()

    def array(tensor: Any) -> np.ndarray:
        kinds.add(tensor.dtype)
        return tensor.detach().cpu().numpy()

    for index, part in enumerate(parts):
        found: dict[str, np.ndarray] = {}
        if isinstance(part, nn.Linear):
            width = width or part.in_features
            found["weight"] = array(part.weight).T
            if part.bias is not None:
                found["bias"] = array(part.bias)
            layer: Layer = Dense(part.out_features, bias=part.bias is not None)
        elif isinstance(part, nn.BatchNorm1d):
            if not (part.affine and part.track_running_stats) or part.momentum is None or part.momentum == 0.0:
                raise ValueError(f"module[{index}]: expected affine batch norm with running statistics, got {part!r}")
            width = width or part.num_features
            layer = BatchNorm(part.eps, 1.0 - part.momentum)
            found = {"gamma": array(part.weight), "beta": array(part.bias)}
            mean, variance = array(part.running_mean), array(part.running_var)
            tracked = int(part.num_batches_tracked)
            fresh = tracked == 0 and not mean.any() and bool((variance == 1.0).all())
            count = 0 if fresh else max(tracked, 1)
            rest = 1.0 - (1.0 - part.momentum) ** count  # what the network divides by, to take out the start at zero
            found["state"] = np.concatenate([mean * rest, variance * rest, [count]])
        elif isinstance(part, nn.LayerNorm):
            if len(part.normalized_shape) != 1 or part.weight is None or part.bias is None:
                raise ValueError(f"module[{index}]: expected layer norm of one axis with weight and bias, got {part!r}")
            width = width or part.normalized_shape[0]
            layer = LayerNorm(part.eps)
            found = {"gamma": array(part.weight), "beta": array(part.bias)}
        elif isinstance(part, nn.Dropout):
            layer = Dropout(part.p)
        elif type(part) in names:
            name, arguments = names[type(part)]
            if any(getattr(part, key) != value for key, value in arguments.items()) or (
                name == "gelu" and part.approximate != "none"
            ):
                raise ValueError(f"module[{index}]: there is no counterpart of {part!r}")
            last = layers[-1] if layers else None
            if isinstance(last, Dense) and last.activation == "linear":
                layers[-1] = Dense(last.units, name, bias=last.bias)
                continue
            layer = Activation(name)
        else:
            raise ValueError(f"module[{index}]: there is no counterpart of {part!r}")
        layers.append(layer)
        values.append(found)
    if width is None or not kinds <= {torch.float32, torch.float64} or len(kinds) != 1:
        raise ValueError(f"module: expected parameters of float32 or float64, got {sorted(map(str, kinds))}")
    dtype = str(kinds.pop()).removeprefix("torch.")
    net = Sequential(layers, input_size=width, loss=loss, dtype=dtype, seed=0)
    for index, (op, arrays) in enumerate(zip(net.ops, values, strict=True)):
        for name, given in arrays.items():
            if name == "state":
                net.state[op.state : op.state + len(given)] = given
            else:
                net.parameters[f"{index}.{name}"] = given
    return net


def _flatten(nn: Any, module: Any) -> list[Any]:
    if not isinstance(module, nn.Sequential):
        return [module]
    return [part for child in module for part in _flatten(nn, child)]


# ------------------------------------------------------------------ scikit-learn

_SKLEARN_ACTIVATIONS = {"linear": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
_FITTED = (
    *("n_features_in_", "feature_names_in_", "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "classes_"),
    *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"),
)


def from_sklearn(estimator: Any) -> Any:
    """scikit-learn's ``MLPClassifier`` or ``MLPRegressor`` as fastnn's, with its parameters, fitted if it is.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor

    Returns
    -------
    fastnn.MLPClassifier or fastnn.MLPRegressor
        It predicts the same; `partial_fit` and ``warm_start`` go on with a new state of the optimizer.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        If it is another estimator.
    """
    sklearn = need("sklearn.neural_network", "from_sklearn", '"fastnn[sklearn]"')
    from . import estimators

    if isinstance(estimator, sklearn.MLPClassifier):
        cls: Any = estimators.MLPClassifier
    elif isinstance(estimator, sklearn.MLPRegressor):
        cls = estimators.MLPRegressor
    else:
        raise TypeError(f"expected scikit-learn's MLPClassifier or MLPRegressor, got {type(estimator).__name__}")
    ours = cls(**estimator.get_params(deep=False))
    if not hasattr(estimator, "coefs_"):
        return ours
    fitted = {name: value for name, value in vars(estimator).items() if name in _FITTED}
    if "classes_" in fitted:
        several = fitted["out_activation_"] == "logistic" and fitted["n_outputs_"] > 1
        ours._kind = "multilabel" if several else "multiclass" if fitted["n_outputs_"] > 1 else "binary"
        ours._sparse_labels = bool(estimator._label_binarizer.sparse_input_)
    ours.__dict__.update(fitted, _waited=0)
    ours.network_ = Sequential(
        ours._layers(fitted["n_features_in_"], fitted["n_outputs_"]),
        input_size=fitted["n_features_in_"],
        loss=ours._loss(),
        dtype=estimator.coefs_[0].dtype,
        seed=0,
    )
    ours.coefs_, ours.intercepts_ = estimator.coefs_, estimator.intercepts_
    return ours


def to_sklearn(model: Any) -> Any:
    """A network or a fitted estimator as scikit-learn's ``MLPClassifier`` or ``MLPRegressor``.

    Parameters
    ----------
    model : Sequential or estimator
        With one activation of linear, sigmoid, tanh and relu in all hidden layers; batch norm, ``Standardize`` and
        `input_scale` are folded into the weights, dropout is left out. The loss is a cross-entropy, squared_error or
        poisson.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted: it predicts the same. The classes of a Sequential are 0 to K − 1.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError, TypeError
        If the model is none of fastnn's or not fitted, or has something without a counterpart.
    """
    net, estimator = _network(model)
    sklearn = need("sklearn.neural_network", "to_sklearn", '"fastnn[sklearn]"')
    from sklearn.preprocessing import LabelBinarizer

    if net.loss_name not in ("cross_entropy", "binary_cross_entropy", "squared_error", "poisson"):
        raise ValueError(f"scikit-learn has no counterpart of the loss {net.loss_name!r}")
    steps = _steps(net)
    *hidden, last = products = _into_products(steps, "scikit-learn")
    activations = {product.activation for product in hidden} or {"relu"}
    if len(activations) != 1 or last.activation != "linear" or not activations <= _SKLEARN_ACTIVATIONS.keys():
        found = ", ".join(product.activation for product in products)
        raise ValueError(
            "scikit-learn has one activation (identity, logistic, tanh or relu) in all hidden layers and none in the "
            f"last, got {found}"
        )
    W, b = [product.W for product in products], [product.b for product in products]
    classes = None if estimator is None else getattr(estimator, "classes_", None)
    k = net.n_outputs
    if net.loss_name == "cross_entropy" and k == 2:  # one logit: the difference of the two
        W[-1], b[-1], k = W[-1][:, 1:] - W[-1][:, :1], b[-1][1:] - b[-1][:1], 1
    shared: dict[str, Any] = {"hidden_layer_sizes": tuple(w.shape[1] for w in W[:-1]), "activation": None}
    shared["activation"] = _SKLEARN_ACTIVATIONS[activations.pop()]
    cls: Callable[..., Any] = sklearn.MLPRegressor
    if net.loss_function.classifies:
        cls = sklearn.MLPClassifier
    else:
        shared["loss"] = net.loss_name
    result = cls(**shared)
    if estimator is not None:
        mine = {name: value for name, value in estimator.get_params(deep=False).items() if name not in shared}
        theirs = {name: mine[name] for name in result.get_params() if name in mine}
        known = {"solver": ("lbfgs", "sgd", "adam"), "learning_rate": ("constant", "invscaling", "adaptive")}
        for name, values in known.items():  # what only fastnn has stays at scikit-learn's default
            if not (isinstance(theirs.get(name), str) and theirs[name] in values):
                theirs.pop(name, None)
        result.set_params(**theirs)
        for name in _FITTED:
            if name in vars(estimator):
                setattr(result, name, vars(estimator)[name])
    # Where a scaled input was folded in, float32 may not tell its large values apart.
    dtype = np.float64 if isinstance(steps[0], _Affine) else net.dtype
    result.coefs_, result.intercepts_ = [w.astype(dtype) for w in W], [v.astype(dtype) for v in b]
    result.n_layers_, result.n_outputs_, result.n_features_in_ = len(W) + 1, k, net.input_size
    result.out_activation_ = {"log": "exp", "none": "identity"}.get(
        net.loss_function.link, "softmax" if net.loss_function.link == "softmax" and k > 1 else "logistic"
    )
    if net.loss_function.classifies:
        several = net.loss_function.link == "sigmoid" and k > 1
        if classes is None:
            classes = np.arange(max(k, 2) if not several else k)
        binarizer = LabelBinarizer().fit(np.eye(k, dtype=np.int64) if several else classes)
        result._label_binarizer, result.classes_ = binarizer, classes
    for name, value in (
        *(("n_iter_", 0), ("t_", 0), ("loss_curve_", []), ("best_loss_", np.inf), ("validation_scores_", None)),
        *(("best_validation_score_", None), ("_no_improvement_count", 0)),
    ):
        if not hasattr(result, name):
            setattr(result, name, value)
    return result
