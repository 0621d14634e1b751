"""Networks as torch.nn.Sequential, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..files import need
from ..layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, LeakyReLU
from ..losses import Loss
from ..plan import ACTIVATIONS, NEGATIVE_SLOPE, OpSpec
from ..reference.ops import make_ops, running_statistics
from ..sequential import Sequential
from .pipelines import affine_steps, preprocessing_of, unwrapped
from .steps import Affine, Product, Step, find_network, into_products

__all__ = ["from_torch", "to_torch"]


def to_torch(model: object) -> Any:
    """A network or a fitted estimator as a ``torch.nn.Sequential`` of its own parameters.

    Parameters
    ----------
    model : Sequential, estimator or sklearn.pipeline.Pipeline
        A Pipeline ends in an estimator of fastnn; the steps before are StandardScaler, MinMaxScaler, MaxAbsScaler or
        RobustScaler, without clipping. A search stands for its best estimator.

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
        sign; a ``Standardize`` or ``Scale``, or an `input_scale`, that no ``Dense`` layer follows.

    Notes
    -----
    A ``Dense`` layer becomes a ``Linear`` and its activation. Batch norm keeps its statistics as they count in
    predictions (bias-corrected, variance with 1/N), so that the outputs are the same; in torch's training they move on
    by torch's rule, towards the variance with 1/(N − 1). ``Standardize``, ``Scale``, `input_scale` and a Pipeline's
    scalers are folded into the ``Linear`` behind them, where float32 may not tell large values apart. torch's Softplus
    is linear above 20, which is 2e-9 less. torch's layer norm does not scale rows whose squared deviations overflow
    (from 1e19 on in float32), which the network normalises: do not rely on its outputs there.
    """
    transformers, model = unwrapped(model)
    net, _ = find_network(model)
    before: list[Step] = [*affine_steps(preprocessing_of(transformers, "to_torch"), "torch")]
    torch = need("torch", "to_torch", "torch")
    nn = torch.nn
    kind = getattr(torch, net.dtype.name)
    theta, state = net.theta, net.state
    modules: list[Any] = []
    if net.input_scale is not None:
        n = net.input_size
        before.append(Affine(np.zeros(n), np.full(n, net.input_scale), np.zeros(n)))

    def fill(parameter: Any, values: np.ndarray) -> None:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(values, net.dtype)))

    def activate(op: OpSpec) -> None:
        if op.activation == "linear":
            return
        facts = ACTIVATIONS[op.activation]
        if facts.torch is None:
            raise ValueError(f"torch has no counterpart of the activation {op.activation!r}")
        cls, arguments = facts.torch
        slope = {"negative_slope": op.negative_slope} if facts.leaky else {}
        modules.append(getattr(nn, cls)(**{**arguments, **slope}))

    for operation, layer in zip(make_ops(net.ops), net.layers, strict=True):
        op = operation.spec
        n = op.n_out
        columns = operation.affine(theta.astype(np.float64), state.astype(np.float64))
        if columns is not None and op.kind != "batch_norm":  # torch has no such module: into the next product
            before.append(columns)
            continue
        if before and op.kind not in ("dense", "dropout"):
            raise ValueError(f"torch has no counterpart of a scaled input that goes into {layer!r}")
        if op.kind == "dense":
            b = theta[op.bias : op.bias + n] if op.bias >= 0 else np.zeros(n)
            W = theta[op.weight : op.weight + op.n_in * n].reshape(op.n_in, n)
            if before:
                product = Product(W.astype(np.float64), b.astype(np.float64))
                W, b, _ = into_products([*before, product], "torch")[0]
            has_bias = op.bias >= 0 or bool(before)
            before = []
            linear = nn.Linear(op.n_in, n, bias=has_bias, dtype=kind)
            fill(linear.weight, W.T)
            if has_bias:
                fill(linear.bias, b)
            modules.append(linear)
            activate(op)
        elif op.kind == "activation":
            activate(op)
        elif op.kind == "dropout":
            modules.append(nn.Dropout(op.dropout_rate))
        elif op.kind == "layer_norm":
            norm = nn.LayerNorm(n, eps=op.epsilon, dtype=kind)
            fill(norm.weight, theta[op.weight : op.weight + n])
            fill(norm.bias, theta[op.bias : op.bias + n])
            modules.append(norm)
        elif op.kind == "batch_norm":
            mean, variance = running_statistics(op, state)
            norm = nn.BatchNorm1d(n, eps=op.epsilon, momentum=1.0 - op.momentum, dtype=kind)
            fill(norm.weight, theta[op.weight : op.weight + n])
            fill(norm.bias, theta[op.bias : op.bias + n])
            fill(norm.running_mean, mean)
            fill(norm.running_var, variance)
            norm.num_batches_tracked.fill_(int(state[op.buffer + 2 * n]))
            modules.append(norm)
        else:
            raise ValueError(f"torch has no counterpart of {layer!r}")
    return nn.Sequential(*modules).eval()


def from_torch(module: Any, *, loss: str | Loss | None = None) -> Sequential:
    """A network with the parameters of a ``torch.nn.Sequential``.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, BatchNorm1d, LayerNorm, Dropout, Identity, the activations that fastnn has too, with the same
        arguments (such as LeakyReLU(0.01)), Flatten() of all but the rows, and ``Sequential`` of them; in float32 or
        float64. A last Softmax or LogSoftmax, or Sigmoid, is left out: it is inside the loss.
    loss : str or Loss, optional
        Of the network. None is ``"cross_entropy"`` behind a softmax and ``"binary_cross_entropy"`` behind a last
        sigmoid; otherwise it must be given.

    Returns
    -------
    Sequential
        Its `decision_function` is the module's output in evaluation mode, without that last softmax or sigmoid, for
        rows (N, D): of images that the module flattens, ``X.reshape(len(X), -1)``.

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
    parts = [(index, part) for index, part in enumerate(_parts(nn, module)) if not _is_identity(nn, part)]
    names = {getattr(nn, facts.torch[0]): (name, facts.torch[1]) for name, facts in ACTIVATIONS.items() if facts.torch}
    index, last = parts[-1] if parts else (0, None)
    if isinstance(last, (nn.Softmax, nn.LogSoftmax)):
        if last.dim not in (None, 1, -1):
            raise ValueError(f"module[{index}]: expected a softmax of each row (dim=1), got {last!r}")
        parts.pop()
        loss = "cross_entropy" if loss is None else loss
    elif isinstance(last, nn.Sigmoid) and loss in (None, "binary_cross_entropy"):
        parts.pop()
        loss = "binary_cross_entropy"
    if loss is None:
        raise ValueError("loss: expected the name of a loss, since the module does not end in a softmax or a sigmoid")
    layers: list[Layer] = []
    values: list[dict[str, np.ndarray]] = []
    width: int | None = None
    units = 0  # of the part before, once one has told
    kinds: set[Any] = set()

    def array(tensor: Any) -> np.ndarray:
        kinds.add(tensor.dtype)
        return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]

    for index, part in parts:
        found: dict[str, np.ndarray] = {}
        n_in = _n_in(nn, part)
        if n_in and units and n_in != units:
            raise ValueError(f"module[{index}]: expected {units} features, got {part!r}")
        width = width or n_in
        units = part.out_features if isinstance(part, nn.Linear) else n_in or units
        if isinstance(part, nn.Linear):
            found["weight"] = array(part.weight).T
            if part.bias is not None:
                found["bias"] = array(part.bias)
            layer: Layer = Dense(part.out_features, bias=part.bias is not None)
        elif isinstance(part, nn.BatchNorm1d):
            layer, found = _batch_norm(part, index, array)
        elif isinstance(part, nn.LayerNorm):
            if len(part.normalized_shape) != 1 or part.weight is None or part.bias is None:
                raise ValueError(f"module[{index}]: expected layer norm of one axis with weight and bias, got {part!r}")
            layer = LayerNorm(part.eps)
            found = {"gamma": array(part.weight), "beta": array(part.bias)}
        elif isinstance(part, nn.Dropout):
            layer = Dropout(part.p)
        elif type(part) in names:
            name, arguments = names[type(part)]
            activation: str | LeakyReLU = name
            if ACTIVATIONS[name].leaky and 0.0 < part.negative_slope <= 1.0:
                activation = name if part.negative_slope == NEGATIVE_SLOPE else LeakyReLU(part.negative_slope)
            elif any(getattr(part, key) != value for key, value in arguments.items()) or (
                name == "gelu" and part.approximate != "none"
            ):
                raise ValueError(f"module[{index}]: there is no counterpart of {part!r}")
            last = layers[-1] if layers else None
            if isinstance(last, Dense) and last.activation == "linear":
                layers[-1] = Dense(last.units, activation, bias=last.bias)
                continue
            layer = Activation(activation) if isinstance(activation, str) else activation
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
                net.state[op.buffer : op.buffer + len(given)] = given
            else:
                net.parameters[f"{index}.{name}"] = given
    return net


def _batch_norm(part: Any, index: int, array: Callable[[Any], np.ndarray]) -> tuple[Layer, dict[str, np.ndarray]]:
    """The layer of a BatchNorm1d, with its parameters and its state."""
    if not (part.affine and part.track_running_stats) or part.momentum is None or part.momentum == 0.0:
        raise ValueError(f"module[{index}]: expected affine batch norm with running statistics, got {part!r}")
    mean, variance = array(part.running_mean), array(part.running_var)
    tracked = int(part.num_batches_tracked)
    fresh = tracked == 0 and not mean.any() and bool((variance == 1.0).all())
    count = 0 if fresh else max(tracked, 1)
    rest = 1.0 - (1.0 - part.momentum) ** count  # what the network divides by, to take out the start at zero
    found = {"gamma": array(part.weight), "beta": array(part.bias)}
    found["state"] = np.concatenate([mean * rest, variance * rest, [count]])
    return BatchNorm(part.eps, 1.0 - part.momentum), found


def _parts(nn: Any, module: Any) -> list[Any]:
    """The modules of a Sequential, those of Sequentials within it too."""
    if not isinstance(module, nn.Sequential):
        return [module]
    return [part for child in module for part in _parts(nn, child)]


def _is_identity(nn: Any, part: Any) -> bool:
    """Whether a module leaves rows (N, D) as they are."""
    flattens = isinstance(part, nn.Flatten) and part.start_dim in (1, -1) and part.end_dim in (1, -1)
    return flattens or isinstance(part, nn.Identity)


def _n_in(nn: Any, part: Any) -> int:
    """Number of features that a module takes, 0 if it takes any."""
    if isinstance(part, nn.LayerNorm):
        return int(part.normalized_shape[-1])
    return int(getattr(part, "in_features", 0) or getattr(part, "num_features", 0))
