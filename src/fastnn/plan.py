"""What a network compiles into: a list of operations over one flat parameter vector.

The descriptions (layers, optimizers) and both backends meet here. Everything is a plain tuple of numbers and
names, so that the compiled engine can copy it into C structs once and the NumPy twin can read it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["ACTIVATIONS", "OpSpec", "TrainResult", "UpdateRule", "parameter_ranges"]

#: Names of the activations; a name's place is its code in csrc/common.h.
ACTIVATIONS = (
    "linear",
    "relu",
    "leaky_relu",
    "tanh",
    "hard_tanh",
    "leaky_tanh",
    "sigmoid",
    "softplus",
    "elu",
    "gelu",
    "silu",
    "sign",
)


class OpSpec(NamedTuple):
    """One operation of a plan.

    Attributes
    ----------
    kind : str
        ``"dense"``, A = σ(X W + b); ``"activation"``, ``"batch_norm"``, ``"layer_norm"``, ``"dropout"`` or
        ``"standardize"``, which have as many outputs as inputs.
    input : int
        Index of the operation whose output this one reads; -1 reads X.
    n_in, n_out : int
        Columns of the input and of the output.
    weight : int
        Offset in theta of the C-ordered (n_in, n_out) weight, or of a norm's γ; -1 when there is none.
    bias : int
        Offset in theta of the (n_out,) bias, or of a norm's β; -1 when there is none.
    activation : str
        Name of σ.
    rate : float
        Multiplies the learning rate of the parameters.
    state : int
        Offset in the network's state of a batch norm's running mean, running variance and their count, of a
        standardisation's mean and inverse scale, or of the dropouts' seed; -1 for the others.
    epsilon, momentum, drop : float
        ε of a norm, momentum of its running statistics, probability of a dropout.
    """

    kind: str
    input: int
    n_in: int
    n_out: int
    weight: int
    bias: int
    activation: str
    rate: float = 1.0
    state: int = -1
    epsilon: float = 0.0
    momentum: float = 0.0
    drop: float = 0.0


class UpdateRule(NamedTuple):
    """An optimizer as flat numbers; a rule ignores the numbers that it does not have.

    Attributes
    ----------
    rule : str
        ``"sgd"``, ``"nag"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"`` or ``"kfac"``.
    learning_rate, momentum, beta1, beta2, rho, epsilon, weight_decay, kl_clip : float
        See the optimizer of that name in :mod:`fastnn.optimizers`.
    nesterov : bool
        Whether SGD's momentum looks ahead.
    centered, amsgrad, epsilon_hat : bool
        Options of RMSProp and, the last two, of Adam.
    """

    rule: str
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    rho: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    centered: bool = False
    amsgrad: bool = False
    epsilon_hat: bool = False
    kl_clip: float = 0.0

    @property
    def n_slots(self) -> int:
        """Number of state vectors, each as long as theta, that the rule keeps between steps."""
        heavy = int(self.momentum != 0.0)
        return {"sgd": heavy, "rmsprop": 1 + self.centered + heavy, "adam": 2 + self.amsgrad}.get(self.rule, 1)


class TrainResult(NamedTuple):
    """What one call of ``Plan.train`` did.

    Attributes
    ----------
    losses : tuple of float
        Per completed epoch, the mean over its batches of the objective (penalties included), each batch weighted
        by its Σw (its number of rows without sample weights).
    correct : tuple of float or None
        Per completed epoch, the (weighted) fraction of rows that were classified correctly as training went over
        them; None for regression.
    steps : int
        Updates done by this and all earlier calls.
    status : str
        ``"ok"``, ``"diverged"`` (a batch's loss was not finite; its update was not applied) or ``"interrupted"``.
    error : BaseException or None
        Of an interrupted call, what a signal's handler has raised, for the caller to raise again. theta and `steps` are
        those of the last finished step, the optimizer's state too where the engine is the compiled one.
    penalties : tuple of float
        Per completed epoch, the part of its loss that is penalty.
    """

    losses: tuple[float, ...]
    correct: tuple[float, ...] | None
    steps: int
    status: str
    error: BaseException | None = None
    penalties: tuple[float, ...] = ()


def parameter_ranges(ops: Sequence[OpSpec], n_parameters: int) -> list[tuple[int, int, bool, float]]:
    """Theta as ranges that an update treats alike: begin, end, whether penalties apply, learning-rate multiplier.

    Penalties are of weights alone. Operations that share parameters share a range; the first one's rate holds.
    """
    found: dict[tuple[int, int], tuple[bool, float]] = {}
    for op in ops:
        if op.kind == "dense":
            found.setdefault((op.weight, op.weight + op.n_in * op.n_out), (True, float(op.rate)))
        elif op.weight >= 0:
            found.setdefault((op.weight, op.weight + op.n_out), (False, float(op.rate)))
    for op in ops:
        if op.bias >= 0:
            found.setdefault((op.bias, op.bias + op.n_out), (False, float(op.rate)))
    ranges: list[tuple[int, int, bool, float]] = []
    end = 0
    for (begin, stop), (penalised, rate) in [*sorted(found.items()), ((n_parameters, n_parameters), (False, 1.0))]:
        pieces = [(end, begin, False, 1.0), (max(begin, end), stop, penalised, rate)]
        for piece in pieces:
            if piece[0] >= piece[1]:
                continue
            if ranges and not piece[2] and not ranges[-1][2] and ranges[-1][3] == piece[3]:
                ranges[-1] = (ranges[-1][0], *piece[1:])  # biases next to each other
            else:
                ranges.append(piece)
        end = max(end, stop)
    return ranges
