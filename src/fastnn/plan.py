"""What a network compiles into: a list of operations over one flat parameter vector.

The descriptions (layers, optimizers) and both backends meet here. Everything is a plain tuple of numbers and
names, so that the compiled engine can copy it into C structs once and the reference implementation can read it as it
is. Facts of an activation, of a kind of operation and of an update rule stand here in one table each; those of a loss
are attributes of its class in :mod:`fastnn.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = [
    "ACTIVATIONS",
    "AUGMENTATIONS",
    "NEGATIVE_SLOPE",
    "OPS",
    "ROW_AUGMENTATIONS",
    "RULES",
    "ActivationFacts",
    "AugmentSpec",
    "CourseResult",
    "OpFacts",
    "OpSpec",
    "RuleFacts",
    "Segment",
    "TrainResult",
    "UpdateRule",
    "parameter_ranges",
]


def __dir__() -> list[str]:
    return sorted(__all__)


#: σ' of leaky_relu below 0, where nothing else is said.
NEGATIVE_SLOPE = 0.01


class ActivationFacts(NamedTuple):
    """What is true of an activation σ.

    Attributes
    ----------
    saves_output : bool
        σ'(z) is a function of σ(z): the backward pass takes the output, not z.
    piecewise_linear : bool
        σ'' = 0 wherever σ' exists.
    init : str
        Name of the initializer that suits a layer with this activation: He's where σ keeps about half of the variance
        of a centred z, LeCun's where it keeps all of it, else Glorot's.
    formula : str
        σ(z), from which other formats are made: sums, differences and products of z, numbers and the functions abs,
        erf, exp, log, max, min, sigmoid, sign and tanh, none of which overflows; of a leaky one, negative_slope, too.
    torch : tuple (str, dict) or None
        Name and arguments of its class in ``torch.nn``; None where there is none.
    leaky : bool
        σ depends on the negative_slope of the operation.
    """

    formula: str
    saves_output: bool = True
    piecewise_linear: bool = False
    init: str = "glorot_uniform"
    torch: tuple[str, dict[str, float]] | None = None
    leaky: bool = False


#: Facts of the activations by name; the position of a name is its code, as in csrc/kernels/activation_list.h.
ACTIVATIONS: dict[str, ActivationFacts] = {
    "linear": ActivationFacts("z", piecewise_linear=True),
    "relu": ActivationFacts("max(z, 0)", piecewise_linear=True, init="he_uniform", torch=("ReLU", {})),
    "leaky_relu": ActivationFacts(
        "max(z, 0) + min(z, 0) * negative_slope",
        piecewise_linear=True,
        init="he_uniform",
        torch=("LeakyReLU", {"negative_slope": NEGATIVE_SLOPE}),
        leaky=True,
    ),
    "tanh": ActivationFacts("tanh(z)", torch=("Tanh", {})),
    "hard_tanh": ActivationFacts(
        "min(max(z, -1), 1)", piecewise_linear=True, torch=("Hardtanh", {"min_val": -1.0, "max_val": 1.0})
    ),
    "leaky_tanh": ActivationFacts("tanh(max(z, 0)) + min(z, 0) * 0.01"),
    "sigmoid": ActivationFacts("sigmoid(z)", torch=("Sigmoid", {})),
    "softplus": ActivationFacts(
        "max(z, 0) + log(exp(-abs(z)) + 1)", init="he_uniform", torch=("Softplus", {"beta": 1.0})
    ),
    "elu": ActivationFacts("max(z, 0) + (exp(min(z, 0)) - 1)", init="he_uniform", torch=("ELU", {"alpha": 1.0})),
    "selu": ActivationFacts(
        "1.0507009873554805 * max(z, 0) + 1.7580993408473766 * (exp(min(z, 0)) - 1)",
        init="lecun_normal",
        torch=("SELU", {}),
    ),
    "gelu": ActivationFacts(
        "z * 0.5 * (erf(z * 0.7071067811865476) + 1)", saves_output=False, init="he_uniform", torch=("GELU", {})
    ),
    "silu": ActivationFacts("z * sigmoid(z)", saves_output=False, init="he_uniform", torch=("SiLU", {})),
    "mish": ActivationFacts(
        "z * tanh(max(z, 0) + log(exp(-abs(z)) + 1))", saves_output=False, init="he_uniform", torch=("Mish", {})
    ),
    "sign": ActivationFacts("sign(z)", piecewise_linear=True),
}


class OpFacts(NamedTuple):
    """What is true of a kind of operation. Pairs (a, b) are sizes, a n_out + b elements.

    Attributes
    ----------
    has_weight : bool
        Multiplies by a weight matrix (n_in, n_out), to which penalties apply. The other kinds have n_out = n_in.
    vectors : int
        Of a kind without a weight matrix: parameters per feature, one vector stored as the weight (a norm's γ) and then
        one stored as the bias (its β).
    activates : bool
        Ends in an activation σ.
    normalises : bool
        û = (x − μ)/σ, then γ û + β.
    couples_rows : bool
        In training an output depends on all rows of the batch.
    drops : bool
        Random in training; the identity elsewhere, linearizations included.
    feature_major : bool
        The compiled engine has a feature-major form of it.
    buffers : tuple (int, int)
        Its part of the network's buffers, what is learnt but not optimised.
    saved : tuple (int, int)
        What its forward pass saves per row besides output and pre-activation.
    """

    has_weight: bool = False
    vectors: int = 0
    activates: bool = False
    normalises: bool = False
    couples_rows: bool = False
    drops: bool = False
    feature_major: bool = False
    buffers: tuple[int, int] = (0, 0)
    saved: tuple[int, int] = (0, 0)


#: Facts of the kinds of operations; the position of a name is its code, as in csrc/engine/op_list.h.
OPS: dict[str, OpFacts] = {
    "dense": OpFacts(has_weight=True, activates=True, feature_major=True),
    "activation": OpFacts(activates=True, feature_major=True),
    # running mean, running variance, their count
    "batch_norm": OpFacts(vectors=2, normalises=True, couples_rows=True, buffers=(2, 1)),
    "layer_norm": OpFacts(vectors=2, normalises=True, saved=(1, 1)),  # û, 1/σ
    "dropout": OpFacts(drops=True, buffers=(0, 1)),  # the seed
    "standardize": OpFacts(buffers=(2, 0)),  # mean, 1/scale
    "scale": OpFacts(vectors=1),
}


class OpSpec(NamedTuple):
    """One operation of a plan.

    Attributes
    ----------
    kind : str
        One of :data:`OPS`: ``"dense"``, A = σ(X W + b); ``"activation"``, ``"batch_norm"``, ``"layer_norm"``,
        ``"dropout"``, ``"standardize"`` or ``"scale"``, which have as many outputs as inputs.
    input : int
        Index of the operation whose output this one reads; -1 reads X.
    n_in, n_out : int
        Columns of the input and of the output.
    weight : int
        Offset in theta of the C-ordered (n_in, n_out) weight, of a norm's γ or of a scale's factors; -1 when there
        is none.
    bias : int
        Offset in theta of the (n_out,) bias, or of a norm's β; -1 when there is none.
    activation : str
        Name of σ.
    lr_multiplier : float
        Multiplies the learning rate of the parameters.
    buffer : int
        Offset in the network's buffers of a batch norm's running mean, running variance and their count, of a
        standardisation's mean and inverse scale, or of the dropouts' seed; -1 for the others.
    epsilon, momentum, dropout_rate : float
        ε of a norm, momentum of its running statistics, probability of a dropout.
    l1, l2 : float or None
        Penalties l1 ‖W‖₁ + ½ l2 ‖W‖² of its weight matrix, in place of the objective's; None: those of the objective.
    negative_slope : float
        σ' below 0 of leaky_relu, above 0.
    """

    kind: str
    input: int
    n_in: int
    n_out: int
    weight: int
    bias: int
    activation: str
    lr_multiplier: float = 1.0
    buffer: int = -1
    epsilon: float = 0.0
    momentum: float = 0.0
    dropout_rate: float = 0.0
    l1: float | None = None
    l2: float | None = None
    negative_slope: float = NEGATIVE_SLOPE

    @property
    def facts(self) -> OpFacts:
        """What is true of its kind."""
        return OPS[self.kind]

    @property
    def sigma(self) -> str:
        """Its activation as text, with a slope that is not the usual one: ``"relu"``, ``"leaky_relu(0.2)"``."""
        usual = not ACTIVATIONS[self.activation].leaky or self.negative_slope == NEGATIVE_SLOPE
        return self.activation if usual else f"{self.activation}({self.negative_slope:g})"

    @property
    def weight_size(self) -> int:
        """Number of elements of its weight, γ or factors; 0 when there is none."""
        return 0 if self.weight < 0 else self.n_in * self.n_out if self.facts.has_weight else self.n_out

    @property
    def parameters(self) -> slice:
        """Its weight and bias within theta, where the bias stands behind the weight."""
        return slice(self.weight, self.weight + self.weight_size + (self.n_out if self.bias >= 0 else 0))

    @property
    def buffer_size(self) -> int:
        """Number of elements of its part of the network's buffers."""
        per_feature, besides = self.facts.buffers
        return per_feature * self.n_out + besides


class UpdateRule(NamedTuple):
    """An optimizer as flat numbers; a rule ignores the numbers that it does not have.

    Attributes
    ----------
    rule : str
        A name of :data:`RULES`.
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
    def facts(self) -> RuleFacts:
        """What is true of its rule."""
        return RULES[self.rule]

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of the vectors, each as long as theta, that it keeps between steps."""
        return tuple([name for name, option in self.facts.moments.items() if not option or getattr(self, option)])

    @property
    def n_moments(self) -> int:
        """Number of its moments."""
        return len(self.moments)


class RuleFacts(NamedTuple):
    """What is true of an update rule.

    Attributes
    ----------
    moments : dict
        The vectors, each as long as theta, that the rule may keep between steps, in the order in which its kernel takes
        them: their names, which are those of arguments of ``<rule>_update`` (:mod:`fastnn.reference.optim`), and the
        option of :class:`UpdateRule` without which a rule does without them, or None.
    corrects_bias : bool
        Reads 1 − β₁ᵗ and 1 − β₂ᵗ, t the number of the update.
    accelerates : bool
        Its momentum is that of :func:`fastnn.reference.nag_momentum` for the update.
    preconditioned : bool
        Takes the direction that K-FAC's factors or L-BFGS's pairs make of the whole gradient, for a step of
        ``sgd_update``.
    low_rank : bool
        They are L-BFGS's pairs, as a multiple of I and a matrix of low rank.
    """

    moments: Mapping[str, str | None]
    corrects_bias: bool = False
    accelerates: bool = False
    preconditioned: bool = False
    low_rank: bool = False


#: Facts of the update rules by the name that the table of csrc/kernels/optim_body.h has for them.
RULES: dict[str, RuleFacts] = {
    "sgd": RuleFacts({"velocity": "momentum"}),
    "momentum": RuleFacts({"m": None}, corrects_bias=True),
    "nag": RuleFacts({"ahead": None}, accelerates=True),
    "adagrad": RuleFacts({"s": None}),
    "rmsprop": RuleFacts({"s": None, "mean": "centered", "velocity": "momentum"}),
    "adam": RuleFacts({"m": None, "v": None, "v_max": "amsgrad"}, corrects_bias=True),
    "kfac": RuleFacts({"velocity": None}, preconditioned=True),
    "lbfgs": RuleFacts({"velocity": None}, preconditioned=True, low_rank=True),
}


#: Kinds of augmentations that change a row by itself; the position of a name is its code, as in csrc/kernels/augment.h.
ROW_AUGMENTATIONS = ("noise", "shift", "flip", "rotate", "erase", "crop")

#: All kinds; mixup takes a second row of the batch.
AUGMENTATIONS = (*ROW_AUGMENTATIONS, "mixup")


class AugmentSpec(NamedTuple):
    """One augmentation as flat numbers, those of :func:`fastnn.reference.augment_rows`; rows are scaled when it comes.

    Attributes
    ----------
    kind : str
        One of :data:`AUGMENTATIONS`.
    height, width, channels : int
        Of an image; their product is the number of columns.
    amount, probability, fill : float
    """

    kind: str
    height: int
    width: int
    channels: int
    amount: float
    probability: float = 1.0
    fill: float = 0.0


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
    norms : tuple
        Where they were asked for, per completed epoch and parameter array (every op's weight, then its bias) the means
        over the updates of three squared norms: of the gradient, l2 included, without l1 and before it is clipped; of
        the step; of the parameters before it.
    """

    losses: tuple[float, ...]
    correct: tuple[float, ...] | None
    steps: int
    status: str
    error: BaseException | None = None
    penalties: tuple[float, ...] = ()
    norms: Sequence[Sequence[Sequence[float]]] = ()


class CourseResult(NamedTuple):
    """What epochs of training with validation after each have given.

    Attributes
    ----------
    losses, correct, penalties : list of float
        Per finished epoch, as in :class:`TrainResult`.
    val_losses, val_accuracies : list of float
        On the validation rows.
    steps : list of int
        Updates done by the end of each epoch.
    best : int
        Which of these epochs, from 0, has the best score so far; -1: none is better than those before.
    status : str
        ``"ok"``, ``"diverged"`` (something was not finite) or ``"interrupted"``; the network is within an epoch then.
    error : BaseException or None
        Of an interrupted call.
    """

    losses: list[float]
    correct: list[float]
    penalties: list[float]
    val_losses: list[float]
    val_accuracies: list[float]
    steps: list[int]
    best: int
    status: str
    error: BaseException | None = None


class Segment(NamedTuple):
    """A range of theta that an update treats alike; fnn_segment.

    Attributes
    ----------
    begin, end : int
    penalised : bool
        Whether penalties apply, which they do to weights alone.
    lr_multiplier : float
        Of the learning rate.
    l1, l2 : float or None
        Penalties of its own, as of an :class:`OpSpec`.
    """

    begin: int
    end: int
    penalised: bool
    lr_multiplier: float
    l1: float | None = None
    l2: float | None = None

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """Its l1 and l2, where the objective's are these."""
        if not self.penalised:
            return 0.0, 0.0
        return l1 if self.l1 is None else self.l1, l2 if self.l2 is None else self.l2


def parameter_ranges(ops: Sequence[OpSpec], n_parameters: int) -> list[Segment]:
    """Theta as ranges that an update treats alike.

    Operations that share parameters share a range; the first one's rate holds.
    """
    found: dict[tuple[int, int], Segment] = {}
    for op in ops:
        if op.weight >= 0:
            place = op.weight, op.weight + op.weight_size
            found.setdefault(place, Segment(*place, op.facts.has_weight, float(op.lr_multiplier), op.l1, op.l2))
    for op in ops:
        if op.bias >= 0:
            place = op.bias, op.bias + op.n_out
            found.setdefault(place, Segment(*place, False, float(op.lr_multiplier)))
    ranges: list[Segment] = []
    end = 0
    for _, segment in [*sorted(found.items()), (None, Segment(n_parameters, n_parameters, False, 1.0))]:
        begin, stop = segment.begin, segment.end
        for piece in (Segment(end, begin, False, 1.0), segment._replace(begin=max(begin, end))):
            if piece.begin >= piece.end:
                continue
            if ranges and not piece.penalised and not ranges[-1].penalised and ranges[-1][3:] == piece[3:]:
                ranges[-1] = piece._replace(begin=ranges[-1].begin)  # biases next to each other
            else:
                ranges.append(piece)
        end = max(end, stop)
    return ranges
